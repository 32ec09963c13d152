//! What an App is, where it is installed, where its events go, and what else a doctor looks at at GitHub.

use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    APP_KEY,
    calls::Op,
    github::message,
    lock,
    server::{Asked, Reply, Shared},
};
use crate::model::manifest::Profile;

pub enum Route {
    Convert(String),
    App,
    Installations,
    Hook,
    SetHook,
    Organization(String),
    User(String),
    Groups(String),
    Group(String, u64),
    GroupRepositories(String, u64),
    Allowance,
}

/// Whose credentials a call wants.
#[derive(PartialEq, Eq)]
pub enum Access {
    Anybody,
    App,
    Token,
}

impl Route {
    pub fn access(&self) -> Access {
        match self {
            Route::Convert(_) | Route::Organization(_) | Route::User(_) => Access::Anybody,
            Route::App | Route::Installations | Route::Hook | Route::SetHook => Access::App,
            Route::Groups(_) | Route::Group(..) | Route::GroupRepositories(..) | Route::Allowance => {
                Access::Token
            }
        }
    }

    pub fn account(&self) -> Option<&str> {
        match self {
            Route::Groups(account) | Route::Group(account, _) | Route::GroupRepositories(account, _) => {
                Some(account)
            }
            _ => None,
        }
    }
}

pub fn route(method: &str, parts: &[&str]) -> Option<Route> {
    Some(match (method, parts) {
        ("POST", ["app-manifests", code, "conversions"]) => Route::Convert((*code).to_owned()),
        ("GET", ["app"]) => Route::App,
        ("GET", ["app", "installations"]) => Route::Installations,
        ("GET", ["app", "hook", "config"]) => Route::Hook,
        ("PATCH", ["app", "hook", "config"]) => Route::SetHook,
        ("GET", ["orgs", login]) => Route::Organization((*login).to_owned()),
        ("GET", ["users", login]) => Route::User((*login).to_owned()),
        ("GET", ["orgs", login, "actions", "runner-groups"]) => Route::Groups(login.to_lowercase()),
        ("GET", ["orgs", login, "actions", "runner-groups", id]) => {
            Route::Group(login.to_lowercase(), id.parse().ok()?)
        }
        ("GET", ["orgs", login, "actions", "runner-groups", id, "repositories"]) => {
            Route::GroupRepositories(login.to_lowercase(), id.parse().ok()?)
        }
        ("GET", ["rate_limit"]) => Route::Allowance,
        _ => return None,
    })
}

/// A code is a secret, so the log has none.
pub fn identify(route: &Route) -> (Op, String) {
    match route {
        Route::Convert(_) => (Op::Convert, String::new()),
        Route::App => (Op::GetApp, String::new()),
        Route::Installations => (Op::ListInstallations, String::new()),
        Route::Hook => (Op::GetHook, String::new()),
        Route::SetHook => (Op::SetHook, String::new()),
        Route::Organization(login) | Route::User(login) => (Op::GetAccount, login.clone()),
        Route::Groups(_) => (Op::ListGroups, String::new()),
        Route::Group(_, id) => (Op::GetGroup, id.to_string()),
        Route::GroupRepositories(_, id) => (Op::ListGroup, id.to_string()),
        Route::Allowance => (Op::GetAllowance, String::new()),
    }
}

/// "Update a webhook configuration for an app".
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HookChange {
    url: Option<String>,
    secret: Option<String>,
    content_type: Option<String>,
    insecure_ssl: Option<String>,
}

pub fn perform(shared: &Shared, route: Route, asked: &Asked, now: OffsetDateTime) -> Reply {
    match route {
        Route::Convert(code) => {
            let converted = lock(&shared.signup).convert(&code, now);
            converted.map_or_else(|| message(404, "Not Found"), |profile| convert(shared, profile))
        }
        Route::App => Reply::json(200, &json_app(shared), "200"),
        Route::Installations => {
            let found: Vec<(String, u64)> = lock(&shared.app).installations.clone().into_iter().collect();
            let found: Vec<Value> =
                found.iter().map(|(account, id)| json_installation(shared, *id, account)).collect();
            Reply::json(200, &json!(found), "200")
        }
        Route::Hook => Reply::json(200, &json_hook(shared), "200"),
        Route::SetHook => match serde_json::from_slice::<HookChange>(&asked.body) {
            Ok(change) => {
                set_hook(shared, change);
                Reply::json(200, &json_hook(shared), "200")
            }
            Err(error) => {
                shared.violation(format!("PATCH /app/hook/config: {error}"));
                message(422, "Invalid request")
            }
        },
        Route::Organization(login) => account(shared, &login, true),
        Route::User(login) => account(shared, &login, false),
        Route::Groups(_) => groups(shared, asked),
        Route::Group(_, id) => group(shared, id),
        Route::GroupRepositories(_, id) => group_repositories(shared, id, asked),
        Route::Allowance => {
            let remaining = lock(&shared.app).remaining.unwrap_or(14_000);
            let core = json!({"limit": 15_000, "remaining": remaining, "used": 0, "reset": now.unix_timestamp() + 1800});
            Reply::json(200, &json!({"resources": {"core": core}, "rate": core}), "200")
        }
    }
}

/// The App is there from now on, and has this key, which nobody is shown again.
fn convert(shared: &Shared, profile: Profile) -> Reply {
    let mut app = lock(&shared.app);
    let former = app.id.unwrap_or(super::APP_ID);
    app.former.insert(former);
    app.id = Some(former + 1);
    app.credentials = None;
    app.installations.clear();
    app.any_installation = false;
    app.trust_private_key(APP_KEY).expect("the world's own key");
    app.profile = profile;
    let (id, secret) = (app.id, app.profile.hook.secret.clone());
    drop(app);
    let mut body = json_app(shared);
    body["id"] = json!(id);
    body["pem"] = json!(APP_KEY);
    body["webhook_secret"] = json!(secret);
    body["client_id"] = json!("Iv1.8a61f9b3a7aba766");
    body["client_secret"] = json!("1726be1638095a19edd134c77bde3aa2ece1e5d8");
    Reply::json(201, &body, "201")
}

fn set_hook(shared: &Shared, change: HookChange) {
    let hook = &mut lock(&shared.app).profile.hook;
    let set = |old: &mut String, new: Option<String>| {
        if let Some(new) = new {
            *old = new;
        }
    };
    set(&mut hook.url, change.url);
    set(&mut hook.secret, change.secret);
    set(&mut hook.content_type, change.content_type);
    set(&mut hook.insecure_ssl, change.insecure_ssl);
}

fn json_hook(shared: &Shared) -> Value {
    let hook = &lock(&shared.app).profile.hook;
    json!({
        "url": hook.url,
        "secret": "********",
        "content_type": hook.content_type,
        "insecure_ssl": hook.insecure_ssl,
    })
}

fn json_app(shared: &Shared) -> Value {
    let host = lock(&shared.host).clone();
    let app = lock(&shared.app);
    let (profile, slug) = (&app.profile, app.profile.slug());
    json!({
        "id": app.id.unwrap_or(super::APP_ID),
        "slug": slug,
        "name": profile.name,
        "owner": {"login": profile.owner, "type": "Organization"},
        "html_url": format!("{host}/apps/{slug}"),
        "permissions": profile.permissions,
        "events": profile.events,
        "installations_count": app.installations.len(),
    })
}

pub fn json_installation(shared: &Shared, id: u64, account: &str) -> Value {
    let host = lock(&shared.host).clone();
    let app = lock(&shared.app);
    let installed = app.installed.get(&id).cloned().unwrap_or_default();
    json!({
        "id": id,
        "account": {"login": account, "type": if installed.on_person { "User" } else { "Organization" }},
        "repository_selection": if installed.selected { "selected" } else { "all" },
        "html_url": format!("{host}/organizations/{account}/settings/installations/{id}"),
        "app_slug": app.profile.slug(),
        "permissions": installed.permissions.as_ref().unwrap_or(&app.profile.permissions),
        "events": app.profile.events,
        "suspended_at": installed.suspended.then_some("2026-01-01T00:00:00Z"),
    })
}

pub fn is_suspended(shared: &Shared, installation: u64) -> bool {
    lock(&shared.app).installed.get(&installation).is_some_and(|installed| installed.suspended)
}

/// Every account is an organisation, but `a-person`, and but those that begin with `no-`, which are not there.
fn account(shared: &Shared, login: &str, organization: bool) -> Reply {
    let is_person = login.eq_ignore_ascii_case("a-person");
    if login.to_lowercase().starts_with("no-") || (organization && is_person) {
        return message(404, "Not Found");
    }
    let owner = lock(&shared.app).profile.owner.clone();
    let spelled = if owner.eq_ignore_ascii_case(login) { owner.as_str() } else { login };
    let body = json!({"login": spelled, "id": 1, "type": if is_person { "User" } else { "Organization" }});
    Reply::json(200, &body, "200")
}

fn group_name(id: u64) -> String {
    if id == 1 { "Default".to_owned() } else { format!("Fargate {id}") }
}

/// "List self-hosted runner groups for an organization".
fn groups(shared: &Shared, asked: &Asked) -> Reply {
    let number = |name: &str| asked.parameter(name).and_then(|text| text.parse::<usize>().ok());
    let (page, size) = (number("page").unwrap_or(1).max(1), number("per_page").unwrap_or(30).min(100));
    let ids = lock(&shared.github).groups.clone();
    let shown = ids.iter().skip((page - 1) * size).take(size);
    let shown: Vec<Value> = shown.map(|id| json!({"id": id, "name": group_name(*id)})).collect();
    Reply::json(200, &json!({"total_count": ids.len(), "runner_groups": shown}), "200")
}

fn group(shared: &Shared, id: u64) -> Reply {
    let github = lock(&shared.github);
    if !github.groups.contains(&id) {
        return message(404, "Not Found");
    }
    let of = |groups: &std::collections::BTreeSet<u64>| groups.contains(&id);
    let app = lock(&shared.app);
    let body = json!({
        "id": id,
        "name": group_name(id),
        "visibility": if app.groups_of_selected.contains_key(&id) { "selected" } else { "all" },
        "default": id == 1,
        "allows_public_repositories": of(&app.groups_of_public),
        "restricted_to_workflows": of(&app.groups_of_workflows),
        "selected_workflows": [],
    });
    Reply::json(200, &body, "200")
}

/// "List repository access to a self-hosted runner group in an organization"; of a group for all there is no list.
fn group_repositories(shared: &Shared, id: u64, asked: &Asked) -> Reply {
    let app = lock(&shared.app);
    let Some(names) = app.groups_of_selected.get(&id) else { return message(404, "Not Found") };
    let number = |name: &str| asked.parameter(name).and_then(|text| text.parse::<usize>().ok());
    let (page, size) = (number("page").unwrap_or(1).max(1), number("per_page").unwrap_or(30).min(100));
    let shown = names.iter().skip((page - 1) * size).take(size);
    let repositories: Vec<Value> = shown
        .map(|full_name| {
            let name = full_name.split('/').next_back();
            json!({"id": 1, "name": name, "full_name": full_name, "private": true})
        })
        .collect();
    Reply::json(200, &json!({"total_count": names.len(), "repositories": repositories}), "200")
}
