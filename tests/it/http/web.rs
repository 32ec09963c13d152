//! github.com's pages on which a person makes an App from a manifest and installs it, as far as a browser needs
//! them; and GitHub's sending of the App's events.

use axum::body::Bytes;
use gha_fargate_runners::adapters::http::{ApiRequest, Http};
use ring::hmac;
use serde_json::{Value, json};

use super::{
    lock,
    server::{Asked, Reply, Shared, query},
};
use crate::model::{
    deliveries::Delivery,
    manifest::{Hook, Installed, Manifest},
};

/// The answer, if a page was asked for.
pub async fn answer(shared: &Shared, asked: &Asked) -> Option<Reply> {
    let parts: Vec<&str> = asked.path.trim_start_matches('/').split('/').collect();
    match (asked.method.as_str(), &parts[..]) {
        ("POST", ["organizations", owner, "settings", "apps", "new"]) => Some(offer(shared, asked, owner)),
        ("POST", ["organizations", owner, "settings", "apps"]) => Some(create(shared, asked, owner)),
        ("GET", ["apps", slug, "installations", "new"]) => Some(install_page(shared, slug)),
        ("POST", ["apps", slug, "installations"]) => Some(install(shared, slug).await),
        ("GET", ["favicon.ico"]) => Some(Reply::empty(404)),
        ("POST", ["_world", "events"]) => Some(event(shared, asked).await),
        _ => None,
    }
}

fn page(status: u16, body: &str) -> Reply {
    let text = format!("<!doctype html><meta charset=utf-8><title>GitHub</title><body>{body}</body>");
    let reply = Reply { status, body: text, ..Reply::default() };
    reply.header("content-type", "text/html; charset=utf-8")
}

fn redirect(to: &str) -> Reply {
    Reply::empty(302).header("location", to)
}

fn form(body: &Bytes) -> Vec<(String, String)> {
    query(&String::from_utf8_lossy(body))
}

fn field<'a>(form: &'a [(String, String)], name: &str) -> &'a str {
    form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).unwrap_or_default()
}

/// The form that begins with a manifest. GitHub does not show it to who is no owner.
fn offer(shared: &Shared, asked: &Asked, owner: &str) -> Reply {
    if !lock(&shared.signup).is_owner {
        return page(404, "<h1>404</h1><p>This is not the web page you are looking for.</p>");
    }
    let state = asked.parameter("state").unwrap_or_default();
    if state.len() < 32 {
        shared.violation(format!("{}: a state of {} characters can be guessed", asked.path, state.len()));
    }
    match Manifest::read(field(&form(&asked.body), "manifest")) {
        Ok(manifest) => {
            let name = manifest.name.clone();
            let number = lock(&shared.signup).offer(manifest, state);
            name_page(owner, number, &name, "")
        }
        Err(why) => {
            shared.violation(format!("{}: {why}", asked.path));
            page(422, &format!("<h1>Invalid GitHub App configuration</h1><p id=error>{why}</p>"))
        }
    }
}

fn name_page(owner: &str, number: u64, name: &str, error: &str) -> Reply {
    page(
        200,
        &format!(
            "<h1>Create GitHub App for {owner}</h1><p id=error>{error}</p>\
             <form method=post action=/organizations/{owner}/settings/apps>\
             <input type=hidden name=form value={number}><input name=name id=name value=\"{name}\">\
             <button id=create>Create GitHub App for {owner}</button></form>"
        ),
    )
}

fn create(shared: &Shared, asked: &Asked, owner: &str) -> Reply {
    let form = form(&asked.body);
    let number: u64 = field(&form, "form").parse().unwrap_or_default();
    let name = field(&form, "name");
    let created = lock(&shared.signup).create(number, name, owner, shared.now());
    match created {
        Ok(to) => redirect(&to),
        Err(why) => name_page(owner, number, name, &why),
    }
}

fn install_page(shared: &Shared, slug: &str) -> Reply {
    if lock(&shared.app).profile.slug() != slug {
        return page(404, "<h1>404</h1>");
    }
    let button = if lock(&shared.signup).needs_approval { "Request" } else { "Install" };
    page(
        200,
        &format!(
            "<h1>Install</h1><form method=post action=/apps/{slug}/installations>\
             <button id=install>{button}</button></form>"
        ),
    )
}

/// The event `installation` goes out before the browser comes back.
async fn install(shared: &Shared, slug: &str) -> Reply {
    let (asks_owner, selected) = {
        let signup = lock(&shared.signup);
        (signup.needs_approval, signup.selected)
    };
    let (setup_url, owner) = {
        let app = lock(&shared.app);
        (app.profile.setup_url.clone().unwrap_or(format!("/apps/{slug}")), app.profile.owner.clone())
    };
    if asks_owner {
        return redirect(&format!("{setup_url}?setup_action=request"));
    }
    let id = {
        let mut app = lock(&shared.app);
        let id = 1001 + app.installations.len() as u64;
        app.install(&owner, id);
        app.installed.insert(id, Installed { selected, ..Installed::default() });
        id
    };
    let payload = json!({"action": "created", "installation": {"id": id, "account": {"login": owner}}});
    send(shared, "installation", Some("created"), &payload.to_string()).await;
    redirect(&format!("{setup_url}?installation_id={id}&setup_action=install"))
}

/// `POST /_world/events`: a webhook payload of `workflow_job` happens at GitHub, and is sent.
async fn event(shared: &Shared, asked: &Asked) -> Reply {
    let status = send(shared, "workflow_job", Some("queued"), &String::from_utf8_lossy(&asked.body)).await;
    Reply::json(200, &json!({"status": status}), "")
}

/// What GitHub was asked to send again.
pub async fn redeliver(shared: &Shared) {
    if lock(&shared.through).is_none() {
        return;
    }
    let again = lock(&shared.app).deliveries.take_redeliveries();
    for delivery in again {
        let status = post(shared, &delivery).await;
        lock(&shared.app).deliveries.sent_again(&delivery, status, shared.now());
    }
}

async fn send(shared: &Shared, event: &'static str, action: Option<&'static str>, payload: &str) -> u16 {
    let now = shared.now();
    let delivery = {
        let mut app = lock(&shared.app);
        let count = app.deliveries.list(None, 100, crate::model::past::Sight::at(now), None).0.len();
        let guid = format!("0b989ba4-242f-11e5-81e1-{count:012}");
        let id = app.deliveries.sent(&guid, event, action, payload.to_owned(), 0, now);
        app.deliveries.get(id).cloned()
    };
    let Some(delivery) = delivery else { return 0 };
    let status = post(shared, &delivery).await;
    lock(&shared.app).deliveries.answered(delivery.id, status);
    status
}

/// One delivery, signed; 0 stands for no answer at all.
async fn post(shared: &Shared, delivery: &Delivery<String>) -> u16 {
    let Hook { url, secret, content_type, .. } = lock(&shared.app).profile.hook.clone();
    let through = lock(&shared.through).clone();
    let host = url.split('/').nth(2).unwrap_or_default().to_owned();
    let body = if content_type == "json" { delivery.payload.clone() } else { "payload=".to_owned() };
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag: String =
        hmac::sign(&key, body.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let signature = format!("sha256={tag}");
    let headers = vec![
        ("host", host.as_str()),
        ("content-type", "application/json"),
        ("user-agent", "GitHub-Hookshot/0123456"),
        ("x-github-event", delivery.event),
        ("x-github-delivery", delivery.guid.as_str()),
        ("x-hub-signature-256", signature.as_str()),
    ];
    let url = through.unwrap_or(url.clone());
    let request = ApiRequest { method: "POST", url, headers, body: Some(body), repeatable: false };
    Http::new().send(&request).await.map_or(0, |reply| reply.status)
}

/// `POST /_world/signup`: what the person at the browser may and does.
pub fn change(shared: &Shared, asked: &Asked) -> Result<Value, String> {
    let change = asked.json();
    let mut signup = lock(&shared.signup);
    let set = |name: &str, value: &mut bool| {
        if let Some(new) = change[name].as_bool() {
            *value = new;
        }
    };
    set("is_owner", &mut signup.is_owner);
    set("needs_approval", &mut signup.needs_approval);
    set("selected", &mut signup.selected);
    if let Some(name) = change["taken"].as_str() {
        signup.taken.insert(name.to_lowercase());
    }
    drop(signup);
    if let Some(seconds) = change["advance_seconds"].as_i64() {
        shared.clock.set(shared.now() + time::Duration::seconds(seconds));
    }
    if let Some(account) = change["install"].as_str() {
        let mut app = lock(&shared.app);
        let id = 1001 + app.installations.len() as u64;
        app.install(account, id);
        let on_person = change["on_person"].as_bool().unwrap_or_default();
        app.installed.insert(id, Installed { on_person, ..Installed::default() });
    }
    Ok(Value::Null)
}
