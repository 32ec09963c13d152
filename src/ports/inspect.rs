//! What a doctor looks at: the credentials, the App, its installation, its webhook, and what runners may join.

use std::{collections::BTreeMap, future::Future};

use time::OffsetDateTime;

use super::Target;
use crate::error::CallError;

/// What the secret holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// A GitHub App's credentials.
    App,
    /// A token.
    Token,
}

/// Why the secret holds nothing of use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotHeld {
    /// It cannot be read.
    Unreadable(CallError),
    /// It can, and something in it is wrong.
    Unusable(CallError),
}

/// Permissions by name: `read` or `write`.
pub type Permissions = BTreeMap<String, String>;

/// `GET /app`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenApp {
    /// Its page.
    pub html_url: String,
    /// What it asks for.
    pub permissions: Permissions,
    /// The events that it is sent.
    pub events: Vec<String>,
}

/// The answer to `GET /app`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppAnswer {
    /// `None`: GitHub does not accept the credentials (401).
    pub app: Option<SeenApp>,
    /// GitHub's clock, to the second.
    pub server_time: Option<OffsetDateTime>,
}

/// `GET /orgs/{org}/installation`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenInstallation {
    /// Its page in the organisation's settings.
    pub html_url: String,
    /// The organisation, as GitHub spells it.
    pub account: String,
    /// Whether it is suspended.
    pub suspended: bool,
    /// Whether it is for selected repositories only.
    pub selected: bool,
    /// What it was granted.
    pub permissions: Permissions,
}

/// `GET /app/hook/config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenHook {
    /// Where events go; empty: nowhere.
    pub url: String,
    /// `json` or `form`.
    pub content_type: String,
    /// Whether GitHub checks the certificate.
    pub verifies_tls: bool,
}

/// A line of `GET /app/hook/deliveries`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentEvent {
    /// E.g. `workflow_job`.
    pub event: String,
    /// The webhook's answer; 0: none.
    pub status: u16,
    /// When it was sent.
    pub at: OffsetDateTime,
}

/// `GET /rate_limit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hour {
    /// Requests that an hour has.
    pub limit: u64,
    /// Requests that are left of this one.
    pub remaining: u64,
}

/// GitHub, as a doctor sees it. Nothing is changed.
pub trait Inspect {
    /// Reads the secret anew: what it holds, at least one.
    fn held(&self) -> impl Future<Output = Result<Vec<Held>, NotHeld>>;

    /// `GET /app`, as the App at this place of the secret's list.
    fn app(&self, of: usize) -> impl Future<Output = Result<AppAnswer, CallError>>;

    /// `GET /orgs/{org}/installation`; `None`: that App is not installed there.
    fn installation(
        &self,
        of: usize,
        owner: &str,
    ) -> impl Future<Output = Result<Option<SeenInstallation>, CallError>>;

    /// `GET /app/hook/config` of the first App.
    fn hook(&self) -> impl Future<Output = Result<SeenHook, CallError>>;

    /// Of the first App, the newest hundred of `GET /app/hook/deliveries`, newest first.
    fn sent(&self) -> impl Future<Output = Result<Vec<SentEvent>, CallError>>;

    /// `GET /rate_limit`, as one of those as whom runners are registered.
    fn hour(&self, of: usize, target: &Target) -> impl Future<Output = Result<Hour, CallError>>;
}
