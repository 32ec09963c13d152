//! GitHub's own description of its API (`tests/openapi/github.json`, see `extract.py` there) against every request that
//! the client makes, every answer that the stand-in gives, and every recorded event.

use std::{
    collections::BTreeSet,
    future::ready,
    sync::{Arc, Mutex},
};

use axum::response::Response;
use gha_fargate_runners::{
    adapters::http::Http,
    ids::{JobId, RepositoryId, RunId, RunnerId},
    ports::{Checks, Deliveries, Github, Inspect, Page, Runs, Scope, State, Target},
};
use serde_json::{Value, json};

use super::server::{Asked, Client, Server, answer, app, minted, shorten};

fn described() -> Value {
    serde_json::from_str(include_str!("../../openapi/github.json")).expect("JSON")
}

/// What is wrong with a value, by a schema of OpenAPI 3.1, as far as `extract.py` keeps it.
fn mistakes(value: &Value, schema: &Value, at: &str, found: &mut Vec<String>) {
    let is = |name: &str| match name {
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        name => panic!("{at}: type {name}"),
    };
    let types: Vec<&str> = match &schema["type"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    };
    if !types.is_empty() && !types.iter().any(|name| is(name)) {
        found.push(format!("{at} is not of {types:?}"));
    }
    if schema["enum"].as_array().is_some_and(|allowed| !allowed.contains(value)) {
        found.push(format!("{at} is {value}"));
    }
    for field in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.is_object() && value.get(field).is_none() {
            found.push(format!("{at}.{field} is missing"));
        }
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(name) {
            mistakes(value, inner, &format!("{at}.{name}"), found);
        }
    }
    if let Some(items) = value.as_array() {
        let length = items.len() as u64;
        let (least, most) = (schema["minItems"].as_u64(), schema["maxItems"].as_u64());
        if least.is_some_and(|least| length < least) || most.is_some_and(|most| length > most) {
            found.push(format!("{at} has {length} items"));
        }
        for item in items {
            mistakes(item, &schema["items"], &format!("{at}[]"), found);
        }
    }
    for inner in schema["allOf"].as_array().into_iter().flatten() {
        mistakes(value, inner, at, found);
    }
    for any in [&schema["oneOf"], &schema["anyOf"]].into_iter().filter_map(Value::as_array) {
        let fits = |inner: &&Value| {
            let mut wrong = Vec::new();
            mistakes(value, inner, at, &mut wrong);
            wrong.is_empty()
        };
        if !any.iter().any(|inner| fits(&inner)) {
            found.push(format!("{at} is none of {}", any.len()));
        }
    }
}

/// An operation's name, what is described of it, and the parameters in the path.
type Operation<'a> = (&'a str, &'a Value, Vec<(String, String)>);

/// `/repositories/{id}` is what GitHub itself leads to when a repository has another name by now, and is the same as
/// `/repos/{owner}/{repo}` of the repository of that id; its description has only the latter. So what is asked for there
/// is held against that one.
fn by_name(asked: &str) -> String {
    let parts: Vec<&str> = asked.splitn(4, '/').collect();
    match parts[..] {
        [method, "repositories", id, rest] if id.parse::<u64>().is_ok() => {
            format!("{method}/repos/octo-org/octo-repo/{rest}")
        }
        _ => asked.to_owned(),
    }
}

/// The operation that a request is.
fn operation<'a>(described: &'a Value, asked: &str) -> Option<Operation<'a>> {
    let calls = described["calls"].as_object().expect("calls");
    let asked = by_name(asked);
    calls.iter().find_map(|(name, operation)| {
        let (method, path) = asked.split_once(' ')?;
        let (of, template) = name.split_once(' ')?;
        let (parts, wanted): (Vec<_>, Vec<_>) = (path.split('/').collect(), template.split('/').collect());
        if method != of || parts.len() != wanted.len() {
            return None;
        }
        let mut parameters = Vec::new();
        for (part, wanted) in parts.into_iter().zip(wanted) {
            match wanted.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                Some(name) => parameters.push((name.to_owned(), part.to_owned())),
                None if part == wanted => {}
                None => return None,
            }
        }
        Some((name.as_str(), operation, parameters))
    })
}

/// A parameter is text on the wire.
fn parameter(text: &str, schema: &Value) -> Value {
    match schema["type"].as_str() {
        Some("integer") => text.parse::<u64>().map_or(json!(text), |number| json!(number)),
        _ => json!(text),
    }
}

/// The name of the operation, and what is wrong with the request.
fn judge(described: &Value, asked: &Asked, with_app: bool) -> (String, Vec<String>) {
    let mut wrong = Vec::new();
    let Some((name, operation, parameters)) = operation(described, &asked.what) else {
        return (asked.what.clone(), vec![format!("{}: nobody describes it", asked.what)]);
    };
    // (The App's own calls are made with its JWT, which is not what the flag is about.)
    let is_the_app_s_own = name.contains(" /app/") || name.ends_with("/installation");
    if with_app && operation["apps"] == false && !is_the_app_s_own {
        wrong.push(format!("{name}: not for Apps"));
    }
    for (key, text) in parameters {
        let schema = &operation["path"][&key];
        mistakes(&parameter(&text, schema), schema, &format!("{name}: {key}"), &mut wrong);
    }
    for pair in asked.query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, text) = pair.split_once('=').unwrap_or((pair, ""));
        match operation["query"].get(key) {
            Some(schema) => mistakes(&parameter(text, schema), schema, &format!("{name}: {key}"), &mut wrong),
            None => wrong.push(format!("{name}: no parameter {key}")),
        }
    }
    match (&operation["body"], asked.body.as_str()) {
        (_, "") => {}
        (Value::Null, _) => wrong.push(format!("{name}: it takes no body")),
        (schema, body) => {
            let body: Value = serde_json::from_str(body).expect("JSON");
            mistakes(&body, schema, name, &mut wrong);
            for pointer in ["", "/permissions"] {
                let known =
                    &schema.pointer(&pointer.replace('/', "/properties/")).unwrap_or(schema)["properties"];
                let fields = body.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
                let unknown = fields.filter(|(field, _)| known.get(field).is_none());
                wrong.extend(unknown.map(|(field, _)| format!("{name}: no field {field}")));
            }
        }
    }
    (name.to_owned(), wrong)
}

fn job() -> Value {
    json!({"id": 1, "run_id": 1, "run_attempt": 1, "name": "test", "status": "queued", "labels": []})
}

fn run() -> Value {
    json!({"run_attempt": 1, "status": "completed", "triggering_actor": {"login": "octocat"}})
}

fn well(asked: &Asked) -> Response {
    let runner = json!({"id": 1, "name": "x", "status": "online", "busy": false, "labels": []});
    let what = shorten(&asked.what);
    match what.as_str() {
        "mint" => minted(),
        _ if what.starts_with("token ") => {
            answer(201, &json!({"token": "ghs_1", "expires_at": "2026-01-01T13:00:00Z"}))
        }
        _ if what.starts_with("DELETE") => answer(204, &json!({})),
        _ if what.ends_with("/installation") => answer(
            200,
            &json!({
                "id": 2, "html_url": "https://github.test/", "account": {"login": "octo-org"},
                "repository_selection": "all",
            }),
        ),
        "GET /app" => answer(200, &json!({"html_url": "https://github.test/", "slug": "octo-runners"})),
        _ if what.ends_with("/rerun") || what.ends_with("/rerun-failed-jobs") => answer(201, &json!({})),
        _ if what.ends_with("/attempts/1/jobs") => answer(200, &json!({"total_count": 1, "jobs": [job()]})),
        _ if what.contains("/actions/runs/") => answer(200, &run()),
        _ if what.starts_with("GET") && what.ends_with("/check-runs") => {
            answer(200, &json!({"check_runs": []}))
        }
        _ if what.contains("/check-runs") || what.contains("/statuses/") => answer(201, &json!({})),
        "GET /app/hook/config" => answer(200, &json!({"url": "https://webhook.test/"})),
        "GET /rate_limit" => answer(200, &json!({"resources": {"core": {"limit": 5000, "remaining": 4999}}})),
        _ if what.ends_with("/repositories") => answer(200, &json!({"total_count": 0, "repositories": []})),
        _ if what.contains("/runner-groups/") => answer(
            200,
            &json!({"name": "Default", "visibility": "selected", "allows_public_repositories": false}),
        ),
        _ if what.ends_with("/actions/runners") => {
            answer(200, &json!({"total_count": 1, "runners": [runner]}))
        }
        _ if what.contains("/actions/jobs/") => answer(200, &job()),
        _ if what.ends_with("/attempts") => answer(202, &json!({})),
        _ if what.ends_with("/deliveries") => answer(200, &json!([])),
        _ => answer(200, &runner),
    }
}

#[tokio::test]
async fn every_request_is_one_that_github_describes() {
    let described = described();
    let mut made = BTreeSet::new();
    let scopes = [Scope::Org, Scope::Repo, Scope::Enterprise("octo-corp".to_owned())];
    for (scope, with_app) in [(0, true), (1, true), (0, false), (1, false), (2, false)] {
        let seen: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let noted = Arc::clone(&seen);
        let server = Server::start(move |asked| {
            let response = well(&asked);
            noted.lock().expect("a lock").push(asked);
            Box::pin(ready(response))
        })
        .await;
        let secret = if with_app { app(None) } else { "ghp_x".to_owned() };
        let client = Client::with(server.url.clone(), &secret, scopes[scope].clone(), Http::new());
        let (github, id) = (&client.github, RunnerId(1));
        let target = Target {
            owner: "octo-org".to_owned(),
            repository: Some("octo-repo".to_owned()),
            ..Target::default()
        };
        let organization = Target { repository: None, ..target.clone() };
        let labels: Vec<String> = (0..100).map(|label| format!("label-{label}")).collect();
        github.mint(&target, "fargate-1-1", &labels, None).await.expect("minted");
        github.find_runner(&target, "fargate-1-1").await.expect("found");
        github.runner(&target, id).await.expect("found");
        github.runners(&target, 1).await.expect("listed");
        github.delete_runner(&target, id).await.expect("deleted");
        github.job(&target, JobId(1)).await.expect("a job");
        let by_id = Target { repository_id: Some(RepositoryId(5)), ..target.clone() };
        github.job(&by_id, JobId(1)).await.expect("a job");
        github.run_job(&by_id, JobId(1)).await.expect("a job");
        github.run(&target, RunId(1)).await.expect("a run");
        github.jobs_of(&by_id, RunId(1), 1).await.expect("its jobs");
        github.rerun_failed(&target, RunId(1)).await.expect("granted");
        github.rerun_job(&target, JobId(1)).await.expect("granted");
        let sha = "0".repeat(40);
        for state in [State::Waits, State::Failed, State::Neutral, State::Well] {
            let link = Some("https://github.test/".to_owned());
            let page = Page { state, title: "t".to_owned(), summary: "s".to_owned(), link };
            github.write_status(&target, &sha, "Runner for x", &page).await.expect("written");
            if with_app {
                github.write_check(&target, &sha, "Runner for x", None, &page).await.expect("written");
                github.write_check(&target, &sha, "Runner for x", Some(1), &page).await.expect("written");
                github.find_check(&target, &sha, "Runner for x").await.expect("found");
            }
        }
        if with_app {
            let apps = github.apps().await.expect("an App");
            github.deliveries(&apps[0], Some("v1_1")).await.expect("a page");
            github.failed_deliveries(&apps[0], None).await.expect("a page");
            github.redeliver(&apps[0], 1).await.expect("accepted");
            github.app(0).await.expect("the App");
            assert_eq!(github.own_logins().await.expect("its name"), ["octo-runners[bot]"]);
            github.hook().await.expect("its webhook");
            github.sent().await.expect("deliveries");
            github.group(&organization, None).await.expect("a group");
            github.hour(0, &organization).await.expect("an hour");
            github.installation(0, "octo-org").await.expect("an installation");
        }
        for asked in seen.lock().expect("a lock").iter() {
            let (name, wrong) = judge(&described, asked, with_app);
            assert_eq!(wrong, [""; 0], "{asked:?}");
            made.insert(name);
        }
    }
    let all: BTreeSet<String> =
        described["calls"].as_object().expect("calls").keys().map(ToOwned::to_owned).collect();
    assert_eq!(made, all, "what is described and never asked for need not be kept");
}

#[test]
fn a_request_that_github_does_not_describe_is_noticed() {
    let described = described();
    let asked = |what: &str, query: &str, body: &str| {
        let asked = Asked {
            what: what.to_owned(),
            query: query.to_owned(),
            body: body.to_owned(),
            ..Asked::default()
        };
        judge(&described, &asked, true).1.join("; ")
    };
    let mint = "POST /orgs/o/actions/runners/generate-jitconfig";
    for (what, query, body, wrong) in [
        ("GET /orgs/o/runners", "", "", "nobody describes it"),
        ("GET /orgs/o/actions/runners/x", "", "", "runner_id is not of"),
        ("GET /app/hook/deliveries", "status=failed", "", "status is \"failed\""),
        ("GET /app/hook/deliveries", "page=1", "", "no parameter page"),
        (mint, "", r#"{"name":"x","labels":["x"]}"#, "runner_group_id is missing"),
        (mint, "", r#"{"name":"x","labels":[],"runner_group_id":1}"#, "labels has 0 items"),
        (mint, "", r#"{"name":"x","labels":["x"],"runner_group_id":1,"group":1}"#, "no field group"),
        ("GET /enterprises/e/actions/runners", "", "", "not for Apps"),
        (
            "POST /app/installations/1/access_tokens",
            "",
            r#"{"permissions":{"runners":"write","actions":"admin"}}"#,
            "actions is \"admin\"; POST /app/installations/{installation_id}/access_tokens: no field runners",
        ),
    ] {
        let said = asked(what, query, body);
        assert!(said.contains(wrong), "{what}: {said}");
    }
}

#[test]
fn the_stand_in_answers_as_github_describes() {
    use crate::model::github::{Github, Scope};
    let described = described();
    let mut github = Github::new();
    let now = time::macros::datetime!(2026-01-01 12:00 UTC);
    let id = github.mint(&Scope::organization("octo-org"), "fargate-1-1", 1, &["x"], now).expect("minted");
    let runner = crate::http::json_runner(github.runner(id).expect("a runner"));
    let mut wrong = Vec::new();
    for (name, value) in [
        ("GET /orgs/{org}/actions/runners/{runner_id}", runner.clone()),
        ("GET /orgs/{org}/actions/runners", json!({"total_count": 1, "runners": [runner]})),
        (
            "POST /orgs/{org}/actions/runners/generate-jitconfig",
            json!({"runner": runner, "encoded_jit_config": "x"}),
        ),
    ] {
        let schema = &described["calls"][name]["answer"];
        assert!(schema.is_object(), "{name}");
        mistakes(&value, schema, name, &mut wrong);
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn every_recorded_event_is_one_that_github_describes() {
    let described = described();
    let mut held = 0;
    let files = std::fs::read_dir("events").expect("the events").flatten().map(|file| file.path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    for path in files.chain(["tests/fixtures/github/workflow_job.json".into()]) {
        let text = std::fs::read_to_string(&path).expect("an event");
        let recorded: Value = serde_json::from_str(&text).expect("JSON");
        let all = recorded.as_array().cloned().unwrap_or_else(|| vec![recorded]);
        for event in all {
            let event = if event["detail"]["workflow_job"].is_object() { &event["detail"] } else { &event };
            // What is to be refused is no event of GitHub's.
            if !event["workflow_job"].is_object() || path.to_string_lossy().contains("poison") {
                continue;
            }
            let schema = &described["workflow_job"][event["action"].as_str().expect("an action")];
            assert!(schema.is_object(), "{}", event["action"]);
            let mut wrong = Vec::new();
            mistakes(event, schema, "", &mut wrong);
            // GitHub's published examples are older than some fields, as are old servers.
            if path.starts_with("tests") {
                wrong.retain(|mistake| !mistake.ends_with(" is missing"));
            }
            assert_eq!(wrong, [""; 0], "{}", path.display());
            held += 1;
        }
    }
    assert!(held >= 15, "only {held}");
}
