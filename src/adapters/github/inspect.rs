//! What a doctor looks at, asked of GitHub.

use serde::Deserialize;
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

use super::{
    GitHub,
    answer::{Call, Need},
    is_ok, read,
    secret::Credentials,
    segment,
};
use crate::{
    adapters::http::Reply,
    error::CallError,
    ports::{
        AppAnswer, Clock, Held, Hour, Inspect, NotHeld, Permissions, SecretSource, SeenApp, SeenHook,
        SeenInstallation, SentEvent, Target,
    },
};

#[derive(Deserialize)]
struct WireApp {
    html_url: String,
    #[serde(default)]
    permissions: Permissions,
    #[serde(default)]
    events: Vec<String>,
}

#[derive(Deserialize)]
struct WireAppInstallation {
    html_url: String,
    account: WireAccount,
    suspended_at: Option<String>,
    repository_selection: String,
    #[serde(default)]
    permissions: Permissions,
}

#[derive(Deserialize)]
struct WireAccount {
    login: String,
}

#[derive(Deserialize)]
struct Hook {
    #[serde(default)]
    url: String,
    content_type: Option<String>,
    insecure_ssl: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Sent {
    event: String,
    status_code: u16,
    #[serde(with = "time::serde::rfc3339")]
    delivered_at: OffsetDateTime,
}

#[derive(Deserialize)]
struct WireLimits {
    resources: Resources,
}

#[derive(Deserialize)]
struct Resources {
    core: Core,
}

#[derive(Deserialize)]
struct Core {
    limit: u64,
    remaining: u64,
}

fn or_none(status: u16) -> impl Fn(&Reply) -> bool {
    move |reply| is_ok(reply) || reply.status == status
}

impl<S: SecretSource, C: Clock> Inspect for GitHub<S, C> {
    async fn held(&self) -> Result<Vec<Held>, NotHeld> {
        let held = |credentials: Credentials| match credentials {
            Credentials::App(_) => Held::App,
            Credentials::Token(..) => Held::Token,
        };
        Ok(self.keyring.inspect().await?.into_iter().map(held).collect())
    }

    async fn app(&self, of: usize) -> Result<AppAnswer, CallError> {
        let call = Call::new("GET", "/app".to_owned(), Need::App);
        let reply = self.ask_as_app(self.nth(of).await?.id(), &call, None, or_none(401)).await?;
        let date = reply.headers.get("date");
        let server_time = date.and_then(|date| OffsetDateTime::parse(date, &Rfc2822).ok());
        if reply.status == 401 {
            return Ok(AppAnswer { app: None, server_time });
        }
        let WireApp { html_url, permissions, events } = read(&call, &reply)?;
        Ok(AppAnswer { app: Some(SeenApp { html_url, permissions, events }), server_time })
    }

    async fn installation(&self, of: usize, owner: &str) -> Result<Option<SeenInstallation>, CallError> {
        let call = Call::new("GET", format!("/orgs/{}/installation", segment(owner)), Need::Installed);
        let reply = self.ask_as_app(self.nth(of).await?.id(), &call, None, or_none(404)).await?;
        if reply.status == 404 {
            return Ok(None);
        }
        let found: WireAppInstallation = read(&call, &reply)?;
        Ok(Some(SeenInstallation {
            html_url: found.html_url,
            account: found.account.login,
            suspended: found.suspended_at.is_some(),
            selected: found.repository_selection == "selected",
            permissions: found.permissions,
        }))
    }

    async fn hook(&self) -> Result<SeenHook, CallError> {
        let call = Call::new("GET", "/app/hook/config".to_owned(), Need::App);
        let hook: Hook = read(&call, &self.ask_as_app(self.nth(0).await?.id(), &call, None, is_ok).await?)?;
        // "String or number".
        let insecure = hook.insecure_ssl.is_some_and(|it| it.to_string().trim_matches('"') == "1");
        Ok(SeenHook {
            url: hook.url,
            content_type: hook.content_type.unwrap_or_else(|| "form".to_owned()),
            verifies_tls: !insecure,
        })
    }

    async fn sent(&self) -> Result<Vec<SentEvent>, CallError> {
        let path = format!("/app/hook/deliveries?per_page={}", super::PER_PAGE);
        let call = Call::new("GET", path, Need::App);
        let sent: Vec<Sent> =
            read(&call, &self.ask_as_app(self.nth(0).await?.id(), &call, None, is_ok).await?)?;
        let line =
            |sent: Sent| SentEvent { event: sent.event, status: sent.status_code, at: sent.delivered_at };
        Ok(sent.into_iter().map(line).collect())
    }

    async fn hour(&self, of: usize, target: &Target) -> Result<Hour, CallError> {
        let call = Call::new("GET", "/rate_limit".to_owned(), Need::OrganizationRunners);
        let held = self.nth(of).await?;
        let pass = async || self.pass(held.id(), target).await;
        let reply = self.ask_with(pass, &call, None, is_ok).await.map_err(|failure| failure.error)?;
        let limits: WireLimits = read(&call, &reply)?;
        Ok(Hour { limit: limits.resources.core.limit, remaining: limits.resources.core.remaining })
    }
}
