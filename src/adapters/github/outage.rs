//! When there is no answer: what it means, and when it is no longer a matter of time.

use std::{cell::Cell, time::Duration};

use time::OffsetDateTime;

use super::{super::http::NoReply, answer::Call};
use crate::error::{CallError, Class};

/// Names that do not resolve, proxies that give no way, and certificates that nobody vouches for, pass by themselves within this, or not at all.
const PASSES: Duration = Duration::from_secs(120);

/// Since when no call has found the right host.
#[derive(Debug, Default)]
pub(super) struct Outage(Cell<Option<OffsetDateTime>>);

impl Outage {
    /// Notes how a call went; the answer is how long it has gone so.
    pub(super) fn note(&self, no_reply: Option<&NoReply>, now: OffsetDateTime) -> Duration {
        if !matches!(no_reply, Some(NoReply::Unresolved | NoReply::Proxy(_) | NoReply::Tls(_))) {
            self.0.set(None);
            return Duration::ZERO;
        }
        let since = self.0.get().unwrap_or(now);
        self.0.set(Some(since));
        Duration::try_from(now - since).unwrap_or_default()
    }
}

/// The error for it. `lasts` is how long the host was not found for.
pub(super) fn no_answer(call: &Call, no_reply: &NoReply, lasts: Duration) -> CallError {
    let fix = match no_reply {
        NoReply::Malformed => Some("check GITHUB_API_URL"),
        NoReply::Unresolved if lasts >= PASSES => {
            Some("check GITHUB_API_URL, and the DNS of the functions' network")
        }
        NoReply::Proxy(_) if lasts >= PASSES => {
            Some("check HTTPS_PROXY and NO_PROXY, and what the proxy lets through")
        }
        NoReply::Tls(_) if lasts >= PASSES => {
            Some("check GITHUB_API_URL; a certificate authority of your own belongs into CA_CERTIFICATES")
        }
        _ => None,
    };
    let class = match fix {
        Some(_) => Class::NeedsOperator,
        None if no_reply.is_unsent() => Class::Transient,
        None => call.lost(),
    };
    let fix = fix.map(|fix| format!(": {fix}")).unwrap_or_default();
    CallError::new(class, format!("GitHub: {call}: {no_reply}{fix}"))
}
