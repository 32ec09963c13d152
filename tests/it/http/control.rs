//! `/_world/…`: how a program of another process changes GitHub's state and looks at it.
//!
//! | request | |
//! | --- | --- |
//! | `GET /_world/runners` | all registrations: `[{"id", "name", "status", "busy", "labels", "job"}]` |
//! | `POST /_world/runners/{id}` | `{"online": true, "busy": true, "job": 42}`, each optional: connects or disconnects the runner; `job` gives it that job, `busy: true` the first that fits (or none), `busy: false` ends its job |
//! | `GET /_world/jobs` | all jobs |
//! | `POST /_world/jobs` | `{"id", "owner", "repository", "labels", "status", "conclusion", "runner_id"}`, each optional: adds or changes a job; `status` is `queued`, `waiting`, `in_progress` (on `runner_id`, or on the first that fits) or `completed`. Or a whole `workflow_job` payload: the job as it is in there |
//! | `GET /_world/checks` | all check runs: `[{"name", "status", "conclusion", "output", …}]` |
//! | `GET /_world/app` | `{"app_id", "private_key"}` of an App that this GitHub knows, when it has one of its own |
//! | `POST /_world/signup` | `{"is_owner", "needs_approval", "selected", "taken", "advance_seconds", "install", "on_person"}`, each optional: the person at github.com's pages about Apps, names that are taken, time that passes, an account that the App is installed in |
//! | `POST /_world/events` | a `workflow_job` payload, which is signed and sent to the App's webhook: `{"status"}` |
//! | `GET /_world/calls` | the calls so far: `[{"operation", "what", "outcome"}]` |
//! | `GET /_world/violations` | what GitHub would not have taken |

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    checks::json_check,
    github::{json_job, json_runner},
    lock,
    server::{Asked, Reply, Shared},
    web,
};
use crate::model::github::{Github, Runner};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RunnerChange {
    online: Option<bool>,
    busy: Option<bool>,
    job: Option<u64>,
}

/// A webhook payload, as far as it says what the job is.
#[derive(Deserialize)]
struct Payload {
    workflow_job: PayloadJob,
    repository: PayloadRepository,
}

#[derive(Deserialize)]
struct PayloadJob {
    id: u64,
    labels: Vec<String>,
    status: String,
    conclusion: Option<String>,
    runner_id: Option<u64>,
}

#[derive(Deserialize)]
struct PayloadRepository {
    full_name: String,
}

impl From<Payload> for JobChange {
    fn from(Payload { workflow_job: job, repository }: Payload) -> Self {
        let (owner, repository) = repository.full_name.split_once('/').unwrap_or_default();
        JobChange {
            id: job.id,
            owner: Some(owner.to_owned()),
            repository: Some(repository.to_owned()),
            labels: Some(job.labels),
            status: Some(job.status),
            conclusion: job.conclusion,
            runner_id: job.runner_id,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JobChange {
    #[serde(default)]
    id: u64,
    owner: Option<String>,
    repository: Option<String>,
    labels: Option<Vec<String>>,
    status: Option<String>,
    conclusion: Option<String>,
    runner_id: Option<u64>,
}

pub fn answer(shared: &Shared, asked: &Asked) -> Reply {
    let parts: Vec<&str> = asked.path.split('/').skip(2).collect();
    let body = match (asked.method.as_str(), &parts[..]) {
        ("GET", ["runners"]) => Ok(lock(&shared.github).runners().map(line).collect()),
        ("GET", ["jobs"]) => Ok(lock(&shared.github).jobs().map(json_job).collect()),
        ("GET", ["checks"]) => Ok(lock(&shared.github).checks.iter().map(json_check).collect()),
        ("GET", ["app"]) => lock(&shared.app).credentials.clone().ok_or("no App of its own".to_owned()),
        ("GET", ["violations"]) => Ok(json!(lock(&shared.log).violations)),
        ("GET", ["calls"]) => {
            let log = lock(&shared.log);
            let line = |call: &super::calls::Call| json!({"operation": call.op.to_string(), "what": call.what, "outcome": call.outcome});
            Ok(log.calls.iter().map(line).collect())
        }
        ("POST", ["runners", id]) => change_runner(shared, id, asked),
        ("POST", ["jobs"]) => change_job(shared, asked),
        ("POST", ["signup"]) => web::change(shared, asked),
        _ => Err("no such control".to_owned()),
    };
    match body {
        Ok(body) => Reply::json(200, &body, ""),
        Err(why) => Reply::json(400, &json!({"message": why}), ""),
    }
}

fn line(runner: &Runner) -> Value {
    let mut line = json_runner(runner);
    line["labels"] = json!(runner.labels.stored().collect::<Vec<_>>());
    line["job"] = json!(runner.job);
    line
}

fn change_runner(shared: &Shared, id: &str, asked: &Asked) -> Result<Value, String> {
    let id: u64 = id.parse().map_err(|_| "a runner's id is a number")?;
    let change: RunnerChange = serde_json::from_slice(&asked.body).map_err(|error| error.to_string())?;
    let now = shared.now();
    let mut github = lock(&shared.github);
    if github.runner(id).is_none() {
        return Err(format!("there is no runner {id}"));
    }
    match change.online {
        Some(true) => github.connect(id, now),
        Some(false) => github.disconnect(id, now),
        None => true,
    };
    match (change.job, change.busy) {
        (Some(job), _) => {
            if !github.assign(job, id, now) {
                return Err(format!("job {job} and runner {id} do not fit, or are not free"));
            }
        }
        (None, Some(true)) => {
            let job = github.jobs_for(id, usize::MAX).min();
            if !job.is_some_and(|job| github.assign(job, id, now)) {
                github.set_busy(id, true, now);
            }
        }
        (None, Some(false)) => match github.runner(id).and_then(|runner| runner.job) {
            Some(job) => {
                github.complete(job, "success", now);
            }
            None => {
                github.set_busy(id, false, now);
            }
        },
        (None, None) => {}
    }
    // Gone, when it has just ended its job.
    Ok(github.runner(id).map_or(Value::Null, line))
}

fn change_job(shared: &Shared, asked: &Asked) -> Result<Value, String> {
    let change = if asked.json()["workflow_job"].is_object() {
        serde_json::from_slice::<Payload>(&asked.body).map(JobChange::from)
    } else {
        serde_json::from_slice(&asked.body)
    };
    let change = change.map_err(|error| error.to_string())?;
    let now = shared.now();
    let mut github = lock(&shared.github);
    let id = match github.job(change.id) {
        Some(job) => job.id,
        None => {
            let labels = change.labels.unwrap_or_else(|| vec!["self-hosted".to_owned()]);
            let owner = change.owner.as_deref().unwrap_or("octo-org");
            let repository = change.repository.as_deref().unwrap_or("example-workflow");
            github.queue_job(change.id, owner, repository, &labels, now)
        }
    };
    match change.status.as_deref() {
        None => {}
        Some("queued") => github.approve(id, now),
        Some("waiting") => github.hold_back(id, now),
        Some("completed") => {
            github.complete(id, change.conclusion.as_deref().unwrap_or("success"), now);
        }
        Some("in_progress") => start(&mut github, id, change.runner_id, now)?,
        Some(other) => return Err(format!("no status {other}")),
    }
    github.job(id).map(json_job).ok_or_else(|| format!("there is no job {id}"))
}

fn start(
    github: &mut Github,
    job: u64,
    runner: Option<u64>,
    now: time::OffsetDateTime,
) -> Result<(), String> {
    let runner = runner.or_else(|| github.runners_for(job).next()).ok_or("no runner fits")?;
    if github.assign(job, runner, now) { Ok(()) } else { Err("they do not fit, or are not free".to_owned()) }
}
