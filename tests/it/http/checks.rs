//! Check runs over HTTP, and commit statuses.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    calls::Op,
    github::{bearer, message},
    lock,
    server::{Asked, Reply, Shared},
};
use crate::model::{
    app::Identity,
    checks::{CheckRun, Status},
};

pub struct Route {
    pub owner: String,
    repository: String,
    what: What,
}

enum What {
    Find(String),
    Create,
    Update(u64),
    Status(String),
}

pub fn route(method: &str, owner: &str, repository: &str, rest: &[&str]) -> Option<Route> {
    let what = match (method, rest) {
        ("GET", ["commits", sha, "check-runs"]) => What::Find((*sha).to_owned()),
        ("POST", ["check-runs"]) => What::Create,
        ("PATCH", ["check-runs", id]) => What::Update(id.parse().ok()?),
        ("POST", ["statuses", sha]) => What::Status((*sha).to_owned()),
        _ => return None,
    };
    Some(Route { owner: owner.to_owned(), repository: repository.to_owned(), what })
}

pub fn identify(route: &Route, asked: &Asked) -> (Op, String) {
    let body = asked.json();
    let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
    match &route.what {
        What::Find(_) => (Op::FindCheck, asked.parameter("check_name").unwrap_or_default().to_owned()),
        What::Create => (Op::CreateCheck, text("name")),
        What::Update(id) => (Op::UpdateCheck, id.to_string()),
        What::Status(_) => (Op::CreateStatus, text("context")),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    name: Option<String>,
    head_sha: Option<String>,
    status: Option<String>,
    conclusion: Option<String>,
    details_url: Option<String>,
    output: Output,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Output {
    title: String,
    summary: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StatusBody {
    state: String,
    context: String,
    description: String,
    #[serde(rename = "target_url")]
    _target_url: Option<String>,
}

pub fn perform(shared: &Shared, route: &Route, asked: &Asked) -> Reply {
    let (app, may) = {
        let app = lock(&shared.app);
        let is_app = matches!(app.identity(bearer(asked), shared.now()), Some(Identity::Installation(..)));
        let granted = app.granted.as_ref().is_none_or(|granted| granted.contains("checks"));
        (is_app.then(|| app.profile.slug()), granted && !app.may_only_read.contains("checks"))
    };
    let wrong = |what: &str| {
        shared.violation(format!("{} {}: {what}", asked.method, asked.path));
        message(422, what)
    };
    let place = (route.owner.as_str(), route.repository.as_str());
    match &route.what {
        What::Find(sha) => {
            let github = lock(&shared.github);
            let name = asked.parameter("check_name").unwrap_or_default();
            let found: Vec<Value> =
                github.newest_check(place, sha, name).map(json_check).into_iter().collect();
            Reply::json(
                200,
                &json!({"total_count": found.len(), "check_runs": found}),
                found.len().to_string(),
            )
        }
        What::Status(sha) => match serde_json::from_slice::<StatusBody>(&asked.body) {
            Ok(body) if body.description.chars().count() > 140 => wrong("description is too long"),
            Ok(StatusBody { state, context, description, .. }) => {
                lock(&shared.github).statuses.push(Status { sha: sha.clone(), context, state, description });
                Reply::json(201, &json!({}), "201")
            }
            Err(error) => wrong(&error.to_string()),
        },
        What::Create | What::Update(_) => match (app, serde_json::from_slice::<Body>(&asked.body)) {
            (None, _) => message(403, "You must authenticate via a GitHub App."),
            _ if !may => message(403, "Resource not accessible by integration"),
            (_, Err(error)) => wrong(&error.to_string()),
            (Some(app), Ok(body)) => write(shared, route, &app, body, wrong),
        },
    }
}

fn write(shared: &Shared, route: &Route, app: &str, body: Body, wrong: impl Fn(&str) -> Reply) -> Reply {
    if (body.status.as_deref() == Some("completed")) != body.conclusion.is_some() {
        return wrong("conclusion is required with status completed, and only then");
    }
    let mut github = lock(&shared.github);
    let next = github.checks.len() as u64 + 1;
    let check = match route.what {
        What::Update(id) => match github.checks.iter_mut().find(|check| check.id == id) {
            Some(check) if check.app != app => return message(403, "Invalid app_id"),
            Some(check) => check,
            None => return message(404, "Not Found"),
        },
        _ => {
            let (Some(name), Some(sha)) = (body.name, body.head_sha) else {
                return wrong("name and head_sha are required");
            };
            let place = (route.owner.clone(), route.repository.clone());
            let app = app.to_owned();
            github.checks.push(CheckRun { id: next, place, sha, name, app, ..CheckRun::default() });
            github.checks.last_mut().expect("a check")
        }
    };
    check.status = body.status.unwrap_or_else(|| "queued".to_owned());
    check.conclusion = body.conclusion;
    check.link = body.details_url;
    (check.title, check.summary) = (body.output.title, body.output.summary);
    let status = if matches!(route.what, What::Update(_)) { 200 } else { 201 };
    Reply::json(status, &json_check(check), check.status.clone())
}

pub fn json_check(check: &CheckRun) -> Value {
    json!({
        "id": check.id,
        "name": check.name,
        "head_sha": check.sha,
        "status": check.status,
        "conclusion": check.conclusion,
        "details_url": check.link,
        "output": {"title": check.title, "summary": check.summary},
        "app": {"id": 1, "slug": check.app},
    })
}
