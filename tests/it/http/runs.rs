//! Runs over HTTP, and running their jobs again.

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    aws::rfc3339,
    calls::Op,
    github::{bearer, json_job, message},
    lock,
    server::{Asked, Reply, Shared},
};
use crate::model::{app::Identity, past::Sight};

/// Where a call goes, in whose repository.
pub struct Route {
    pub owner: String,
    repository: String,
    what: What,
}

enum What {
    Run(u64),
    Jobs(u64, u32),
    RerunFailed(u64),
    RerunJob(u64),
}

pub fn route(method: &str, owner: &str, repository: &str, rest: &[&str]) -> Option<Route> {
    let what = match (method, rest) {
        ("GET", ["runs", run]) => What::Run(run.parse().ok()?),
        ("GET", ["runs", run, "attempts", attempt, "jobs"]) => {
            What::Jobs(run.parse().ok()?, attempt.parse().ok()?)
        }
        ("POST", ["runs", run, "rerun-failed-jobs"]) => What::RerunFailed(run.parse().ok()?),
        ("POST", ["jobs", job, "rerun"]) => What::RerunJob(job.parse().ok()?),
        _ => return None,
    };
    Some(Route { owner: owner.to_owned(), repository: repository.to_owned(), what })
}

pub fn identify(route: &Route) -> (Op, String) {
    match route.what {
        What::Run(run) => (Op::GetRun, run.to_string()),
        What::Jobs(run, attempt) => (Op::ListJobs, format!("{run} attempt {attempt}")),
        What::RerunFailed(run) => (Op::RerunFailed, run.to_string()),
        What::RerunJob(job) => (Op::RerunJob, job.to_string()),
    }
}

pub fn perform(shared: &Shared, route: &Route, asked: &Asked, now: OffsetDateTime) -> Reply {
    let github = lock(&shared.github);
    let of = |job: u64| {
        let job = github.job(job)?;
        let place = &job.place;
        let is_there = place.owner.eq_ignore_ascii_case(&route.owner)
            && place.repository.eq_ignore_ascii_case(&route.repository);
        is_there.then_some(job.run)
    };
    match route.what {
        What::Run(run) | What::Jobs(run, _) if of(run).is_none() => message(404, "Not Found"),
        What::Run(run) => Reply::json(200, &json_run(&github, run), "200"),
        What::Jobs(run, attempt) => {
            let number = |name: &str| asked.parameter(name).and_then(|it| it.parse::<usize>().ok());
            let (page, per_page) = (number("page").unwrap_or(1), number("per_page").unwrap_or(30));
            let jobs: Vec<Value> = github.jobs_of(run, attempt).into_iter().map(json_job).collect();
            let shown: Vec<&Value> = jobs.iter().skip((page - 1) * per_page).take(per_page).collect();
            Reply::json(200, &json!({"total_count": jobs.len(), "jobs": shown}), jobs.len().to_string())
        }
        What::RerunFailed(_) | What::RerunJob(_) => {
            drop(github);
            rerun(shared, route, asked, now)
        }
    }
}

/// "You must have write access", which an App has with `actions: write`.
fn rerun(shared: &Shared, route: &Route, asked: &Asked, now: OffsetDateTime) -> Reply {
    let (may, by) = {
        let app = lock(&shared.app);
        let may = app.granted.as_ref().is_none_or(|granted| granted.contains("actions"));
        let by = match app.identity(bearer(asked), now) {
            Some(Identity::Installation(..)) => format!("{}[bot]", app.profile.slug()),
            _ => "octocat".to_owned(),
        };
        (may && !app.may_only_read.contains("actions"), by)
    };
    if !may {
        return message(403, "Resource not accessible by integration");
    }
    let mut github = lock(&shared.github);
    let done = match route.what {
        What::RerunJob(job) => github.rerun_job(job, &by, now).map(|_| ()),
        What::RerunFailed(run) | What::Run(run) | What::Jobs(run, _) => {
            github.rerun_failed(run, &by, now).map(|_| ())
        }
    };
    match done {
        Ok(()) => Reply::json(201, &json!({}), "201"),
        Err(why) => {
            let (status, text) = why.message();
            message(status, text)
        }
    }
}

fn json_run(github: &crate::model::github::Github, id: u64) -> Value {
    let Some(run) = github.show_run(id, Sight::newest()) else { return Value::Null };
    json!({
        "id": id,
        "name": "CI",
        "run_attempt": run.attempt,
        "status": if run.over { "completed" } else { "in_progress" },
        "conclusion": run.conclusion,
        "head_sha": "e3103f8eb03e1ad7f2331c5446b23c070fc54055",
        "created_at": rfc3339(run.created_at),
        "updated_at": rfc3339(run.ended_at.unwrap_or(run.created_at)),
        "triggering_actor": {"login": run.asked_by},
    })
}
