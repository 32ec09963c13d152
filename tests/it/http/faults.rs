//! What goes wrong, and when: `world.fail(Op::RunTask).nth(2).after().drop_connection()`.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    calls::{Op, Service},
    lock,
};
use crate::model::aws::AwsError;

/// What a fault does to a call.
#[derive(Clone)]
pub enum Effect {
    /// The connection is closed without an answer.
    Drop,
    /// Another answer than the world's own.
    Answer { status: u16, headers: Vec<(String, String)>, body: Value },
    /// An AWS error, in the shape of the service that is called.
    Aws(AwsError),
    /// A slow answer.
    Delay(Duration),
    /// The answer of a copy that lags behind.
    Stale(time::Duration),
    /// An answer that waits for [`Handle::release`].
    Hold(watch::Receiver<bool>),
}

struct Fault {
    op: Option<Op>,
    first: u32,
    times: u32,
    after: bool,
    optional: bool,
    effect: Effect,
    seen: u32,
    struck: watch::Sender<u32>,
}

/// A fault that meets a call.
pub struct Strike {
    pub effect: Effect,
    pub struck: watch::Sender<u32>,
}

/// The faults of one world.
#[derive(Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// What strikes this call, before and after the world has acted. Counts the call.
    pub fn strike(&mut self, op: Op) -> (Vec<Strike>, Vec<Strike>) {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for fault in self.0.iter_mut().filter(|fault| fault.op.is_none_or(|wanted| wanted == op)) {
            fault.seen += 1;
            if fault.seen >= fault.first && fault.seen - fault.first < fault.times {
                let side = if fault.after { &mut after } else { &mut before };
                side.push(Strike { effect: fault.effect.clone(), struck: fault.struck.clone() });
            }
        }
        (before, after)
    }

    /// The faults that were set and never struck: a story that does not tell what it says.
    pub fn unstruck(&self) -> Vec<String> {
        let never = |fault: &&Fault| !fault.optional && *fault.struck.borrow() == 0;
        let name = |fault: &Fault| fault.op.map_or("any call".to_owned(), |op| op.to_string());
        self.0
            .iter()
            .filter(never)
            .map(|fault| format!("the fault at {} never struck", name(fault)))
            .collect()
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// A fault being described. Unless told otherwise it strikes once, at the next call, before the effect.
#[must_use]
pub struct FaultBuilder {
    faults: Arc<Mutex<Faults>>,
    op: Option<Op>,
    first: u32,
    times: u32,
    after: bool,
    optional: bool,
}

/// A fault that is set.
pub struct Handle {
    struck: watch::Receiver<u32>,
    release: watch::Sender<bool>,
}

impl Handle {
    /// How often it has struck.
    pub fn count(&self) -> u32 {
        *self.struck.borrow()
    }

    /// Waits until it has struck: of a fault set `after()`, until the effect has happened. Together with
    /// [`FaultBuilder::hold`] and `select!` that is a process killed right there.
    pub async fn struck(&self) {
        let _ = self.struck.clone().wait_for(|count| *count > 0).await;
    }

    /// Lets the held answers go.
    pub fn release(&self) {
        self.release.send_replace(true);
    }
}

impl FaultBuilder {
    pub(super) fn new(faults: Arc<Mutex<Faults>>, op: Option<Op>) -> Self {
        FaultBuilder { faults, op, first: 1, times: 1, after: false, optional: false }
    }

    /// Strikes once, at the next call.
    pub fn once(self) -> Self {
        self.times(1)
    }

    /// Strikes at the `n`th call from now (1: the next).
    pub fn nth(mut self, n: u32) -> Self {
        self.first = n;
        self
    }

    /// Strikes at so many calls in a row.
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Strikes at every call.
    pub fn always(self) -> Self {
        self.times(u32::MAX)
    }

    /// Strikes before the call has its effect.
    pub fn before(mut self) -> Self {
        self.after = false;
        self
    }

    /// Strikes after the call has had its effect: only the answer is lost, or another.
    pub fn after(mut self) -> Self {
        self.after = true;
        self
    }

    /// It is no mistake in the story if this never strikes.
    pub fn maybe(mut self) -> Self {
        self.optional = true;
        self
    }

    fn set(self, effect: impl FnOnce(watch::Receiver<bool>) -> Effect) -> Handle {
        let (struck, watch_struck) = watch::channel(0);
        let (release, released) = watch::channel(false);
        let fault = Fault {
            op: self.op,
            first: self.first,
            times: self.times,
            after: self.after,
            optional: self.optional,
            effect: effect(released),
            seen: 0,
            struck,
        };
        lock(&self.faults).0.push(fault);
        Handle { struck: watch_struck, release }
    }

    /// The connection is closed without an answer.
    pub fn drop_connection(self) -> Handle {
        self.set(|_| Effect::Drop)
    }

    /// The answer waits until [`Handle::release`]; for ever, if that never comes.
    pub fn hold(self) -> Handle {
        self.set(Effect::Hold)
    }

    /// The answer is late.
    pub fn delay(self, by: Duration) -> Handle {
        self.set(|_| Effect::Delay(by))
    }

    /// A copy that lags so far behind answers a GET of GitHub's.
    pub fn stale(self, by: time::Duration) -> Handle {
        self.set(|_| Effect::Stale(by))
    }

    /// An HTTP answer of the story's own.
    pub fn answer(self, status: u16, headers: &[(&str, &str)], body: Value) -> Handle {
        let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        self.set(|_| Effect::Answer { status, headers, body })
    }

    /// A bare HTTP status, with the body that GitHub gives it or the code that AWS does.
    pub fn status(self, status: u16) -> Handle {
        match self.op.map(Op::service) {
            Some(Service::Github) | None => {
                let message = match status {
                    401 => "Bad credentials",
                    403 => "Resource not accessible by integration",
                    404 => "Not Found",
                    409 => "Already exists",
                    422 => "Validation Failed",
                    502 => {
                        return self.answer(
                            502,
                            &[("content-type", "text/html")],
                            json!("<html>Bad Gateway</html>"),
                        );
                    }
                    _ => "Server Error",
                };
                let body = json!({
                    "message": message,
                    "documentation_url": "https://docs.github.com/rest",
                    "status": status.to_string(),
                });
                self.answer(status, &[], body)
            }
            Some(_) => {
                self.answer(status, &[], json!({"__type": "InternalFailure", "message": "An internal error"}))
            }
        }
    }

    /// GitHub: 401.
    pub fn bad_credentials(self) -> Handle {
        self.status(401)
    }

    /// GitHub: 403 for want of a permission, with the header that names it.
    pub fn permission_missing(self, permission: &str) -> Handle {
        let body = json!({
            "message": "Resource not accessible by integration",
            "documentation_url": "https://docs.github.com/rest",
            "status": "403",
        });
        self.answer(403, &[("x-accepted-github-permissions", permission)], body)
    }

    /// GitHub: a secondary rate limit, 403 with neither `Retry-After` nor an exhausted budget.
    pub fn secondary_rate_limit(self) -> Handle {
        self.answer(403, &[("x-ratelimit-remaining", "4321")], secondary_limit())
    }

    /// GitHub: 429 or 403 with `Retry-After`.
    pub fn retry_after(self, status: u16, seconds: u32) -> Handle {
        self.answer(status, &[("retry-after", &seconds.to_string())], secondary_limit())
    }

    /// GitHub: the primary rate limit, 403 with `X-RateLimit-Remaining: 0` until `reset`.
    pub fn primary_rate_limit(self, reset: time::OffsetDateTime) -> Handle {
        let reset = reset.unix_timestamp().to_string();
        let headers = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", reset.as_str())];
        let body = json!({
            "message": "API rate limit exceeded for installation ID 23154469.",
            "documentation_url": "https://docs.github.com/rest/overview/rate-limits-for-the-rest-api",
        });
        self.answer(403, &headers, body)
    }

    /// An AWS error by its code.
    pub fn aws(self, code: &str) -> Handle {
        let message = match code {
            "ThrottlingException" => "Rate exceeded",
            "AccessDeniedException" => {
                "User: arn:aws:sts::123456789012:assumed-role/dispatch/dispatch is not authorized to perform this \
                 action because no identity-based policy allows it"
            }
            "ClusterNotFoundException" => "Cluster not found.",
            "ClientException" => "TaskDefinition not found.",
            "ServerException" => "Service Unavailable. Please try again later.",
            _ => "The story says so.",
        };
        let error = AwsError::new(code, message);
        self.set(|_| Effect::Aws(error))
    }

    /// RunTask: HTTP 200 with no task and one failure of this reason.
    pub fn failures(self, reason: &str) -> Handle {
        let body = json!({"tasks": [], "failures": [{"reason": reason}]});
        self.answer(200, &[], body)
    }

    /// PutEvents: HTTP 200 with its one entry failed.
    pub fn failed_entry(self, code: &str) -> Handle {
        let entry = json!({"ErrorCode": code, "ErrorMessage": "The story says so."});
        self.answer(200, &[], json!({"FailedEntryCount": 1, "Entries": [entry]}))
    }
}

fn secondary_limit() -> Value {
    json!({
        "message": "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
        "documentation_url": "https://docs.github.com/rest/overview/rate-limits-for-the-rest-api#about-secondary-rate-limits",
    })
}
