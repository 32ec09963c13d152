//! Which of GitHub's calls a request is.

use serde_json::Value;

use super::{
    app,
    calls::Op,
    checks,
    github::message,
    lock, runs,
    server::{Asked, Reply, Shared, decode},
};
use crate::model::github::Scope;

/// Where a call goes.
pub enum Route {
    Mint(Scope),
    List(Scope),
    Downloads(Scope),
    Get(Scope, u64),
    Delete(Scope, u64),
    Job(String, String, u64),
    AccessToken(u64),
    /// The account whose installation is looked for.
    Installation(String),
    Deliveries,
    Redeliver(u64),
    /// What an App is, and where.
    App(app::Route),
    /// Runs, and running jobs again.
    Run(runs::Route),
    /// Check runs.
    Check(checks::Route),
}

/// Where a repository is by now: `/repositories/{id}` is the one of that id, whatever its name, and so is what GitHub
/// answers to a name that it had before ("Best practices for using the REST API", "Follow redirects").
pub fn resolve(shared: &Shared, asked: &Asked) -> Result<String, Reply> {
    let (prefix, path) = match asked.path.strip_prefix("/api/v3") {
        Some(path) => ("/api/v3", path),
        None => ("", asked.path.as_str()),
    };
    let parts: Vec<&str> = path.splitn(4, '/').collect();
    let github = lock(&shared.github);
    if let ["", "repositories", id, rest] = parts[..]
        && let Some(place) = id.parse().ok().and_then(|id| github.place_of_id(id))
    {
        return Ok(format!("/repos/{}/{}/{rest}", place.owner, place.repository));
    }
    let parts: Vec<&str> = path.splitn(5, '/').collect();
    if let ["", "repos", owner, repository, rest] = parts[..]
        && let Some(id) = github.moved(&decode(owner), &decode(repository))
    {
        let status = if asked.method == "GET" { 301 } else { 307 };
        let to = format!("http://{}{prefix}/repositories/{id}/{rest}", asked.header("host"));
        return Err(message(status, "Moved Permanently").header("location", to));
    }
    Ok(path.to_owned())
}

/// GHES has the same API below `/api/v3`.
fn route(asked: &Asked) -> Option<Route> {
    let path = asked.path.strip_prefix("/api/v3").unwrap_or(&asked.path);
    route_to(&asked.method, path)
}

pub fn route_to(method: &str, path: &str) -> Option<Route> {
    let decoded: Vec<String> = path.trim_start_matches('/').split('/').map(decode).collect();
    let parts: Vec<&str> = decoded.iter().map(String::as_str).collect();
    let id = |text: &str| text.parse().ok();
    let (scope, rest) = match &parts[..] {
        ["orgs", org, rest @ ..] => (Some(Scope::organization(org)), rest),
        ["repos", owner, repo, rest @ ..] => (Some(Scope::repository(owner, repo)), rest),
        // For the log; nobody is called so.
        ["repositories", id, rest @ ..] => (Some(Scope::repository("repositories", id)), rest),
        ["enterprises", slug, rest @ ..] => (Some(Scope::enterprise(slug)), rest),
        rest => (None, rest),
    };
    Some(match (method, scope, rest) {
        ("POST", Some(scope), ["actions", "runners", "generate-jitconfig"]) => Route::Mint(scope),
        ("GET", Some(scope), ["actions", "runners"]) => Route::List(scope),
        ("GET", Some(scope), ["actions", "runners", "downloads"]) => Route::Downloads(scope),
        ("GET", Some(scope), ["actions", "runners", runner]) => Route::Get(scope, id(runner)?),
        ("DELETE", Some(scope), ["actions", "runners", runner]) => Route::Delete(scope, id(runner)?),
        ("GET", Some(Scope::Repository(owner, repo)), ["actions", "jobs", job]) => {
            Route::Job(owner, repo, id(job)?)
        }
        (method, Some(Scope::Repository(owner, repo)), ["actions", rest @ ..])
            if runs::route(method, &owner, &repo, rest).is_some() =>
        {
            Route::Run(runs::route(method, &owner, &repo, rest)?)
        }
        (method, Some(Scope::Repository(owner, repo)), rest)
            if checks::route(method, &owner, &repo, rest).is_some() =>
        {
            Route::Check(checks::route(method, &owner, &repo, rest)?)
        }
        ("GET", Some(scope), ["installation"]) => Route::Installation(scope.account()?.to_owned()),
        ("POST", None, ["app", "installations", installation, "access_tokens"]) => {
            Route::AccessToken(id(installation)?)
        }
        ("GET", None, ["app", "hook", "deliveries"]) => Route::Deliveries,
        ("POST", None, ["app", "hook", "deliveries", delivery, "attempts"]) => {
            Route::Redeliver(id(delivery)?)
        }
        _ => Route::App(app::route(method, &parts)?),
    })
}

pub fn identify(asked: &Asked) -> Option<(Op, String)> {
    Some(match route(asked)? {
        Route::Mint(_) => {
            let body = asked.json();
            let labels = body["labels"].as_array().map(Vec::as_slice).unwrap_or_default();
            let labels: Vec<&str> = labels.iter().filter_map(Value::as_str).collect();
            (Op::Mint, format!("{} [{}]", body["name"].as_str().unwrap_or_default(), labels.join(",")))
        }
        Route::List(_) => match asked.parameter("name") {
            Some(name) => (Op::FindRunner, name.to_owned()),
            None => (Op::ListRunners, format!("page {}", asked.parameter("page").unwrap_or("1"))),
        },
        Route::Downloads(_) => (Op::ListDownloads, String::new()),
        Route::Get(_, id) => (Op::GetRunner, id.to_string()),
        Route::Delete(_, id) => (Op::DeleteRunner, id.to_string()),
        Route::Job(owner, repository, id) => (Op::GetJob, format!("{owner}/{repository} {id}")),
        Route::AccessToken(id) => (Op::AccessToken, format!("installation {id}")),
        Route::Installation(account) => (Op::FindInstallation, account),
        Route::Deliveries => (Op::ListDeliveries, asked.parameter("cursor").unwrap_or("newest").to_owned()),
        Route::Redeliver(id) => (Op::Redeliver, id.to_string()),
        Route::App(route) => app::identify(&route),
        Route::Run(route) => runs::identify(&route),
        Route::Check(route) => checks::identify(&route, asked),
    })
}
