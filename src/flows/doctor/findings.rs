//! The checks of a doctor, and what each has found.

use serde::Serialize;
use serde_json::{Value, json};

use crate::error::CallError;

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Check {
    /// For programs.
    id: &'static str,
    /// What should be so.
    what: &'static str,
}

impl Check {
    pub(super) const MODE: Check = Check::new("mode", "the containers mint");
    pub(super) const SECRET: Check = Check::new("secret", "the secret can be read");
    pub(super) const CREDENTIALS: Check = Check::new("credentials", "the secret holds credentials");
    pub(super) const APP: Check = Check::new("app", "GitHub accepts the App's credentials");
    pub(super) const CLOCK: Check = Check::new("clock", "the clock is GitHub's");
    pub(super) const EVENTS: Check = Check::new("events", "the App is sent workflow_job events");
    pub(super) const HOOK: Check = Check::new("hook", "the App's webhook leads to the stack");
    pub(super) const DELIVERIES: Check = Check::new("deliveries", "GitHub's deliveries are answered well");
    pub(super) const INSTALLATION: Check =
        Check::new("installation", "the App is installed in the organisation");
    pub(super) const PERMISSIONS: Check =
        Check::new("permissions", "the App has the permissions that it needs");
    pub(super) const WANTED: Check =
        Check::new("wanted", "interrupted jobs can run again, and authors be told");
    pub(super) const REPOSITORIES: Check = Check::new("repositories", "jobs of all repositories get runners");
    pub(super) const ALLOWANCE: Check = Check::new("allowance", "GitHub's allowance is enough");
    pub(super) const GROUP: Check = Check::new("group", "the runner group is as open as the settings say");
    pub(super) const REGISTRATIONS: Check = Check::new("registrations", "each registration has its task");
    pub(super) const RELEASE: Check = Check::new("release", "runners are of GitHub's newest release");

    const fn new(id: &'static str, what: &'static str) -> Check {
        Check { id, what }
    }
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    /// All is well.
    Ok,
    /// It works, and could be better.
    Warn,
    /// Jobs get no runner, or will not.
    Fail,
    /// It could not be looked at.
    Unknown,
}

#[derive(Debug)]
struct Finding {
    check: Check,
    status: Status,
    found: String,
    fix: String,
}

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn ok(&mut self, check: Check, found: impl Into<String>) {
        self.add(check, Status::Ok, found, "");
    }

    pub(super) fn warn(&mut self, check: Check, found: impl Into<String>, fix: impl Into<String>) {
        self.add(check, Status::Warn, found, fix);
    }

    pub(super) fn fail(&mut self, check: Check, found: impl Into<String>, fix: impl Into<String>) {
        self.add(check, Status::Fail, found, fix);
    }

    /// The answer to a look; when there is none, the check is unknown.
    pub(super) fn seen<T>(&mut self, check: Check, answer: Result<T, CallError>) -> Option<T> {
        answer.map_err(|error| self.add(check, Status::Unknown, error.message, "")).ok()
    }

    /// Adds those of one of several credentials; `once`: checks of which the first one's are enough.
    pub(super) fn extend(&mut self, others: Findings, credentials: usize, once: &[Check]) {
        let others = others.0.into_iter().filter(|it| !once.contains(&it.check));
        let name = |it: Finding| Finding { found: format!("credentials {credentials}: {}", it.found), ..it };
        self.0.extend(others.map(name));
    }

    /// `[{"id", "status", "what", "found", "fix"}]`.
    pub(super) fn into_json(self) -> Value {
        let json = |it: Finding| {
            let Check { id, what } = it.check;
            json!({ "id": id, "status": it.status, "what": what, "found": it.found, "fix": it.fix })
        };
        self.0.into_iter().map(json).collect()
    }

    fn add(&mut self, check: Check, status: Status, found: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Finding { check, status, found: found.into(), fix: fix.into() });
    }
}
