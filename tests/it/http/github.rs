//! GitHub's REST API over HTTP, with the headers, bodies and statuses of its documentation. A request without
//! the headers that GitHub asks for, or with a field that it does not document, is a violation.

use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    app,
    aws::rfc3339,
    calls::Op,
    checks, lock,
    routes::{Route, resolve, route_to},
    runs,
    server::{Asked, Reply, Shared},
};
use crate::model::{
    app::Identity,
    github::{Deleted, Job, MintError, PAGE, Runner, Scope, Silence},
    jit,
    limits::Limited,
};

/// "API versions", GitHub Docs.
const VERSIONS: [&str; 2] = ["2022-11-28", "2026-03-10"];

pub fn act(shared: &Shared, _: Op, asked: &Asked) -> Reply {
    let path = match resolve(shared, asked) {
        Ok(path) => path,
        Err(moved) => return moved,
    };
    let Some(route) = route_to(&asked.method, &path) else { return message(404, "Not Found") };
    let now = shared.now();
    let reply = headers(shared, asked)
        .and_then(|()| allowed(shared, &route, asked, now))
        .and_then(|()| within_limits(shared, &route, asked, now))
        .map_or_else(|refused| refused, |()| perform(shared, route, asked, now));
    // "Rate limits for the REST API": five thousand an hour at least, and the hour's end.
    let reset = now.unix_timestamp() - now.unix_timestamp().rem_euclid(3600) + 3600;
    let used = lock(&shared.log).github_calls;
    reply
        .or_header("x-ratelimit-limit", 15_000)
        .or_header("x-ratelimit-remaining", 15_000_usize.saturating_sub(used))
        .or_header("x-ratelimit-used", used)
        .or_header("x-ratelimit-reset", reset)
        .or_header("x-ratelimit-resource", "core")
        .or_header("x-github-request-id", "0000:000000:0000000:0000000:00000000")
}

/// One installation is one who, as is one person, and the Apps by themselves.
fn within_limits(shared: &Shared, route: &Route, asked: &Asked, now: OffsetDateTime) -> Result<(), Reply> {
    let points = if asked.method == "GET" { 1 } else { 5 };
    let scope = match route {
        Route::Mint(scope) => Some(format!("{scope:?}")),
        _ => None,
    };
    let who = match lock(&shared.app).identity(bearer(asked), now) {
        Some(Identity::Installation(id, _)) => id.to_string(),
        Some(Identity::Pat) => "person".to_owned(),
        None => "app".to_owned(),
    };
    match lock(&shared.limits).charge(&who, points, scope.as_deref(), now) {
        Ok(()) => Ok(()),
        Err(Limited::Primary { reset }) => {
            Err(message(403, "API rate limit exceeded for installation ID 23154469.")
                .header("x-ratelimit-remaining", 0)
                .header("x-ratelimit-reset", reset.unix_timestamp()))
        }
        Err(Limited::Secondary { retry_after }) => {
            let text =
                "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.";
            Err(message(403, text).header("retry-after", retry_after.whole_seconds() + 1))
        }
    }
}

pub fn message(status: u16, text: &str) -> Reply {
    let body = json!({
        "message": text,
        "documentation_url": "https://docs.github.com/rest",
        "status": status.to_string(),
    });
    Reply::json(status, &body, status.to_string())
}

/// The headers that "Getting started with the REST API" asks for.
fn headers(shared: &Shared, asked: &Asked) -> Result<(), Reply> {
    let wrong = |what: &str, status, text| {
        shared.violation(format!("{} {}: {what}", asked.method, asked.path));
        Err(message(status, text))
    };
    if asked.header("user-agent").is_empty() {
        return wrong("no User-Agent", 403, "Request forbidden by administrative rules.");
    }
    if asked.header("accept") != "application/vnd.github+json" {
        return wrong("Accept is not application/vnd.github+json", 415, "Unsupported 'Accept' header");
    }
    if !VERSIONS.contains(&asked.header("x-github-api-version")) {
        return wrong("X-GitHub-Api-Version is not one that GitHub supports", 400, "Unsupported API version");
    }
    if !asked.body.is_empty() && asked.header("content-type") != "application/json" {
        return wrong("a body that is not application/json", 415, "Unsupported Media Type");
    }
    Ok(())
}

pub fn bearer(asked: &Asked) -> &str {
    asked.header("authorization").strip_prefix("Bearer ").unwrap_or_default()
}

/// Who asks, and may they: the App's own routes want its JWT, all others a token of the account.
fn allowed(shared: &Shared, route: &Route, asked: &Asked, now: OffsetDateTime) -> Result<(), Reply> {
    let needs_jwt = match route {
        Route::App(route) => match route.access() {
            app::Access::Anybody => return Ok(()),
            access => access == app::Access::App,
        },
        Route::AccessToken(_) | Route::Installation(_) | Route::Deliveries | Route::Redeliver(_) => true,
        _ => false,
    };
    let token = bearer(asked);
    if token.is_empty() {
        shared.violation(format!("{} {}: no Authorization: Bearer", asked.method, asked.path));
        return Err(message(401, "Requires authentication"));
    }
    let mut app = lock(&shared.app);
    let account = match route {
        _ if needs_jwt => {
            let former = app.was_issued_by_a_former(token);
            return app.check_jwt(token, now).map_err(|why| {
                drop(app);
                // A token that is no JWT at all is a flow that mistook its credentials. One of an App that was made
                // before may be a warm function's, which will read its secret again.
                if !former {
                    shared.violation(format!("{} {}: not the App's JWT: {why}", asked.method, asked.path));
                }
                message(401, "A JSON web token could not be decoded")
            });
        }
        Route::Mint(scope)
        | Route::List(scope)
        | Route::Downloads(scope)
        | Route::Get(scope, _)
        | Route::Delete(scope, _) => scope.account(),
        Route::Job(owner, ..) => Some(owner.as_str()),
        Route::App(route) => route.account(),
        Route::Run(route) => Some(route.owner.as_str()),
        Route::Check(route) => Some(route.owner.as_str()),
        _ => None,
    };
    let identity = app.identity(token, now);
    if let Some(Identity::Installation(id, _)) = identity {
        if app.installed.get(&id).is_some_and(|installed| installed.suspended) {
            return Err(message(403, "This installation has been suspended"));
        }
        let (calls, mints) = app.calls.entry(id).or_default();
        (*calls, *mints) = (*calls + 1, *mints + usize::from(matches!(route, Route::Mint(_))));
    }
    match identity {
        Some(Identity::Pat | Identity::Installation(_, None)) => Ok(()),
        // Its own allowance is asked for wherever it is.
        Some(_) if matches!(route, Route::App(route) if route.account().is_none()) => Ok(()),
        Some(Identity::Installation(_, Some(its))) if Some(its.as_str()) == account => Ok(()),
        Some(Identity::Installation(..)) => Err(message(404, "Not Found")),
        None => Err(message(401, "Bad credentials")),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mint {
    name: String,
    runner_group_id: u64,
    labels: Vec<String>,
    #[serde(default)]
    work_folder: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccessToken {
    #[serde(default)]
    repositories: Vec<String>,
    #[serde(default)]
    permissions: std::collections::BTreeMap<String, String>,
}

fn perform(shared: &Shared, route: Route, asked: &Asked, now: OffsetDateTime) -> Reply {
    let violation = |what: &str| shared.violation(format!("{} {}: {what}", asked.method, asked.path));
    match route {
        Route::Mint(scope) => match serde_json::from_slice::<Mint>(&asked.body) {
            Ok(body) if body.work_folder.as_deref() != Some("") => mint(shared, &scope, &body, now),
            Ok(_) => message(422, "Invalid input: work_folder"),
            Err(error) => {
                violation(&error.to_string());
                message(422, &format!("Invalid input: {error}"))
            }
        },
        Route::List(scope) => list(shared, &scope, asked),
        Route::Downloads(_) => {
            let newest = lock(&shared.github).newest;
            let file = |os: &str, architecture: &str| {
                json!({
                    "os": os,
                    "architecture": architecture,
                    "filename": format!("actions-runner-{os}-{architecture}-{newest}.tar.gz"),
                })
            };
            Reply::json(
                200,
                &json!([file("osx", "x64"), file("linux", "x64"), file("linux", "arm64")]),
                newest.to_owned(),
            )
        }
        Route::Get(scope, id) => match lock(&shared.github).show_runner(&scope, id, asked.sight) {
            Some(runner) => Reply::json(200, &json_runner(runner), state(runner)),
            None => message(404, "Not Found"),
        },
        Route::Delete(scope, id) => match lock(&shared.github).delete(&scope, id, now) {
            Deleted::Spent => Reply::empty(204),
            Deleted::Gone => message(404, "Not Found"),
            Deleted::Busy => message(422, &format!("Bad request - Runner \"{id}\" is still running a job\"")),
        },
        Route::Job(owner, repository, id) => {
            let github = lock(&shared.github);
            match github.show_job(&owner, &repository, id, asked.sight) {
                Some(job) => match job.silence {
                    Some(silence) => silent(silence),
                    None => Reply::json(200, &json_job(job), job.said_status()),
                },
                None => message(404, "Not Found"),
            }
        }
        Route::AccessToken(installation) => {
            let body = if asked.body.is_empty() {
                Ok(AccessToken::default())
            } else {
                serde_json::from_slice(&asked.body)
            };
            let body = match body {
                Ok(body) => body,
                Err(error) => {
                    violation(&error.to_string());
                    return message(422, "Invalid input");
                }
            };
            if app::is_suspended(shared, installation) {
                return message(403, "This installation has been suspended");
            }
            let mut app = lock(&shared.app);
            if !app.owns(bearer(asked), installation) {
                return message(404, "Not Found");
            }
            let is_granted =
                |name: &String| app.granted.as_ref().is_none_or(|granted| granted.contains(name));
            let may =
                |(name, level): (&String, &String)| level != "write" || !app.may_only_read.contains(name);
            if !body.permissions.keys().all(is_granted) || !body.permissions.iter().all(may) {
                return message(422, "The permissions requested are not granted to this installation.");
            }
            match app.access_token(installation, now) {
                Some((token, expires_at)) => {
                    let selection = if body.repositories.is_empty() { "all" } else { "selected" };
                    let answer = json!({
                        "token": token,
                        "expires_at": rfc3339(expires_at),
                        "permissions": body.permissions,
                        "repository_selection": selection,
                    });
                    Reply::json(201, &answer, "201")
                }
                None => message(404, "Not Found"),
            }
        }
        Route::Installation(account) => {
            let found = lock(&shared.app).installation_of(bearer(asked), &account);
            match found {
                Some(id) => Reply::json(
                    200,
                    &app::json_installation(shared, id, &account),
                    format!("installation {id}"),
                ),
                None => message(404, "Not Found"),
            }
        }
        Route::App(route) => app::perform(shared, route, asked, now),
        Route::Run(route) => runs::perform(shared, &route, asked, now),
        Route::Check(route) => checks::perform(shared, &route, asked),
        Route::Deliveries => deliveries(shared, asked),
        Route::Redeliver(id) => {
            let mut app = lock(&shared.app);
            if app.deliveries_of(bearer(asked)).is_some_and(|deliveries| deliveries.redeliver(id)) {
                Reply::json(202, &json!({}), "202")
            } else {
                message(404, "Not Found")
            }
        }
    }
}

/// Of a job that GitHub does not say anything of.
fn silent(silence: Silence) -> Reply {
    match silence {
        Silence::Moved => {
            message(301, "Moved Permanently").header("location", "https://github.example/moved")
        }
        Silence::Forbidden => message(403, "Resource not accessible by integration"),
        Silence::Gone => message(410, "Gone"),
        Silence::Legal => message(451, "Repository access blocked"),
    }
}

fn mint(shared: &Shared, scope: &Scope, body: &Mint, now: OffsetDateTime) -> Reply {
    let minted = {
        let mut github = lock(&shared.github);
        let minted = github.mint(scope, &body.name, body.runner_group_id, &body.labels, now);
        minted.map(|id| (id, github.runner(id).map(json_runner)))
    };
    let wrong = |what: &str| {
        shared.violation(format!("generate-jitconfig {}: {what}", body.name));
        message(422, &format!("Invalid input: {what}"))
    };
    match minted {
        Ok((id, runner)) => {
            let body = json!({"runner": runner, "encoded_jit_config": jit::encode(id, &body.name)});
            Reply::json(201, &body, format!("201 runner {id}"))
        }
        Err(MintError::NameTaken) => {
            message(409, "Already exists - A runner with the name *** already exists.")
        }
        Err(MintError::Labels) => wrong("labels has 1 to 100 items"),
        Err(MintError::Name) => wrong("name has 1 to 64 characters"),
        Err(MintError::UnknownGroup) => message(404, "Not Found"),
        Err(MintError::GroupNotYours) => message(403, "Resource not accessible by integration"),
    }
}

fn list(shared: &Shared, scope: &Scope, asked: &Asked) -> Reply {
    for (name, _) in &asked.query {
        if !["name", "page", "per_page"].contains(&name.as_str()) {
            shared.violation(format!("GET {}: no parameter {name}", asked.path));
        }
    }
    let number = |name: &str, default: usize| asked.parameter(name).map_or(Ok(default), str::parse);
    let (Ok(page @ 1..), Ok(per_page @ 1..=PAGE)) = (number("page", 1), number("per_page", 30)) else {
        shared.violation(format!("GET {}: page counts from 1, per_page is 1 to 100", asked.path));
        return message(422, "Invalid input: page or per_page");
    };
    let mut github = lock(&shared.github);
    github.expire(shared.clock.now());
    let (runners, total) = match asked.parameter("name") {
        Some(name) => {
            let found: Vec<&Runner> = github.show_named(scope, name, asked.sight).into_iter().collect();
            let total = found.len();
            (found, total)
        }
        None => github.list(scope, page, per_page, asked.sight),
    };
    let outcome = match &runners[..] {
        [runner] if asked.parameter("name").is_some() => state(runner),
        runners => format!("{} of {total}", runners.len()),
    };
    let body = json!({
        "total_count": total,
        "runners": runners.into_iter().map(json_runner).collect::<Vec<_>>(),
    });
    let reply = Reply::json(200, &body, outcome);
    if page * per_page < total && asked.parameter("name").is_none() {
        let next =
            format!("http://{}{}?per_page={per_page}&page={}", asked.header("host"), asked.path, page + 1);
        return reply.header("link", format!("<{next}>; rel=\"next\""));
    }
    reply
}

fn deliveries(shared: &Shared, asked: &Asked) -> Reply {
    for (name, _) in &asked.query {
        if !["per_page", "cursor", "status"].contains(&name.as_str()) {
            shared.violation(format!("GET {}: no parameter {name}", asked.path));
        }
    }
    let per_page: usize = asked.parameter("per_page").and_then(|text| text.parse().ok()).unwrap_or(30);
    let before = match asked.parameter("cursor").map(|cursor| cursor.strip_prefix("v1_").map(str::parse)) {
        None => None,
        Some(Some(Ok(before))) => Some(before),
        Some(_) => {
            shared.violation(format!("GET {}: the cursor is not one of GitHub's", asked.path));
            return message(422, "Invalid cursor");
        }
    };
    let mut app = lock(&shared.app);
    let status = asked.parameter("status").filter(|_| !app.ignores_delivery_status);
    let Some(deliveries) = app.deliveries_of(bearer(asked)) else { return message(404, "Not Found") };
    let failed = status.map(|want| want != "success");
    let (page, more) = deliveries.list(before, per_page.clamp(1, PAGE), asked.sight, failed);
    let body: Vec<Value> = page
        .iter()
        .map(|delivery| {
            json!({
                "id": delivery.id,
                "guid": delivery.guid,
                "delivered_at": rfc3339(delivery.delivered_at),
                "redelivery": delivery.redelivery,
                "duration": 0.27,
                "status": if delivery.status_code < 400 { "OK" } else { "Internal Server Error" },
                "status_code": delivery.status_code,
                "event": delivery.event,
                "action": delivery.action,
                "installation_id": 23_154_469,
                "repository_id": 376_034_443,
                "throttled_at": null,
            })
        })
        .collect();
    let reply = Reply::json(200, &json!(body), format!("{} deliveries", body.len()));
    match page.last().filter(|_| more) {
        Some(last) => {
            let host = asked.header("host");
            let next = format!("http://{host}{}?per_page={per_page}&cursor=v1_{}", asked.path, last.id);
            reply.header("link", format!("<{next}>; rel=\"next\""))
        }
        None => reply,
    }
}

/// For the log: `3 online, idle`.
fn state(runner: &Runner) -> String {
    let online = if runner.seems_online() { "online" } else { "offline" };
    let busy = if runner.seems_busy() { "busy" } else { "idle" };
    format!("runner {} {online}, {busy}", runner.id)
}

pub fn json_runner(runner: &Runner) -> Value {
    let labels: Vec<Value> = runner
        .labels
        .stored()
        .enumerate()
        .map(|(id, name)| json!({"id": id, "name": name, "type": "custom"}))
        .collect();
    json!({
        "id": runner.id,
        "name": &*runner.name,
        "os": if runner.online { "Linux" } else { "unknown" },
        "status": if runner.seems_online() { "online" } else { "offline" },
        "busy": runner.seems_busy(),
        "ephemeral": true,
        "runner_group_id": runner.group,
        "labels": labels,
        "version": runner.version.as_deref(),
    })
}

pub fn json_job(job: &Job) -> Value {
    let repository = format!("{}/{}", job.place.owner, job.place.repository);
    let runner = job.runner.as_ref();
    json!({
        "id": job.id,
        "run_id": job.run,
        "run_attempt": job.run_attempt,
        "url": format!("https://api.github.com/repos/{repository}/actions/jobs/{}", job.id),
        "html_url": format!("https://github.com/{repository}/actions/runs/{}/job/{}", job.run, job.id),
        "head_sha": "e3103f8eb03e1ad7f2331c5446b23c070fc54055",
        "head_branch": "main",
        "workflow_name": "CI",
        "name": &*job.name,
        "status": job.said_status(),
        "conclusion": job.conclusion,
        "created_at": rfc3339(job.created_at),
        "started_at": rfc3339(job.started_at.unwrap_or(job.created_at)),
        "completed_at": job.completed_at.map(rfc3339),
        "labels": job.labels.written(),
        "steps": [],
        "runner_id": runner.map(|(id, _)| id),
        "runner_name": runner.map(|(_, name)| &**name),
        "runner_group_id": runner.map(|_| 1),
        "runner_group_name": runner.map(|_| "Default"),
    })
}
