//! GitHub's rate limits, remembered for the life of the process: "Continuing to make requests while you are rate limited
//! may result in the banning of your integration" (GitHub, "Best practices for using the REST API").

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use time::OffsetDateTime;

use super::{super::http::Reply, answer::Call};
use crate::error::{CallError, Class};

/// "Wait for at least one minute before retrying … If your request continues to fail due to a secondary rate limit, wait
/// for an exponentially increasing amount of time between retries" (the same page).
const SECONDARY_LIMIT: Duration = Duration::from_secs(60);
/// A minute, doubled so often that a quarter of an hour is reached, which is what messages wait at most.
const LONGEST_SECONDARY_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Primary limits are renewed "every hour".
const PRIMARY_WINDOW: Duration = Duration::from_secs(60 * 60);
/// SQS holds no message back for longer ("12 hours" from the receive), and GitHub's primary limit is renewed every
/// hour. A wait beyond that is no honest answer, and a very long one is more than can be added to a clock.
const LONGEST_LIMIT: Duration = Duration::from_secs(12 * 60 * 60);

/// Whose allowance a call takes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Allowance {
    /// A personal token's owner.
    Token(String),
    /// The App itself, which asks for tokens and deliveries.
    App(String),
    /// That App's installation in this account.
    Installation(String, String),
}

/// A limit that was met.
#[derive(Debug, Clone, Copy)]
struct Met {
    until: OffsetDateTime,
    /// How long it was.
    length: Duration,
}

/// The limits that were met.
#[derive(Debug, Default)]
pub(super) struct Limits(RefCell<BTreeMap<Allowance, Met>>);

impl Limits {
    /// Refuses a call that GitHub would refuse.
    pub(super) fn check(
        &self,
        allowance: &Allowance,
        call: &Call,
        now: OffsetDateTime,
    ) -> Result<(), CallError> {
        let left = self.0.borrow().get(allowance).map(|met| met.until - now).unwrap_or_default();
        match Duration::try_from(left) {
            Ok(after) if !after.is_zero() => Err(CallError::new(
                Class::RateLimited { after },
                format!(
                    "GitHub: {call}: not asked: the rate limit that was met lasts {} s more",
                    after.as_secs()
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Notes what an answer says of limits. If it is a refusal for one: how long that lasts.
    pub(super) fn note(
        &self,
        allowance: &Allowance,
        reply: &Reply,
        asked_at: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Option<Duration> {
        let refusal = refusal(reply, now);
        let length = match refusal {
            Some(Refusal::For(length)) => length,
            Some(Refusal::Unsaid) => self.secondary(allowance, asked_at),
            None => used_up(reply, now)?,
        };
        let mut limits = self.0.borrow_mut();
        let met = limits.entry(allowance.clone()).or_insert(Met { until: now, length });
        if met.until <= now + length {
            *met = Met { until: now + length, length };
        }
        refusal.map(|_| Duration::try_from(met.until - now).unwrap_or(length))
    }

    /// A secondary limit that comes back soon after the last one is longer. Calls that were under way already when that
    /// one was met are told of the same.
    fn secondary(&self, allowance: &Allowance, asked_at: OffsetDateTime) -> Duration {
        match self.0.borrow().get(allowance) {
            Some(met) if asked_at >= met.until && asked_at < met.until + met.length => {
                (met.length * 2).clamp(SECONDARY_LIMIT, LONGEST_SECONDARY_LIMIT)
            }
            _ => SECONDARY_LIMIT,
        }
    }
}

/// A refusal for a rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    For(Duration),
    /// GitHub does not say for how long: a secondary limit, most often.
    Unsaid,
}

/// Primary and secondary limits come as 403 or 429, the latter often without any header.
fn refusal(reply: &Reply, now: OffsetDateTime) -> Option<Refusal> {
    if !matches!(reply.status, 403 | 429) {
        return None;
    }
    if let Some(seconds) = number(reply, "retry-after") {
        return Some(Refusal::For(wait(seconds)));
    }
    if number(reply, "x-ratelimit-remaining") == Some(0)
        && let Some(reset) = number(reply, "x-ratelimit-reset")
    {
        return Some(Refusal::For(wait(reset.saturating_sub(now.unix_timestamp()))));
    }
    let body = String::from_utf8_lossy(&reply.body).to_lowercase();
    let phrases = ["secondary rate limit", "api rate limit exceeded", "abuse detection"];
    let is_limit = reply.status == 429 || phrases.iter().any(|phrase| body.contains(phrase));
    is_limit.then_some(Refusal::Unsaid)
}

/// An answer of any kind may say that it was the last one: how long there will be no more.
fn used_up(reply: &Reply, now: OffsetDateTime) -> Option<Duration> {
    let reset = number(reply, "x-ratelimit-reset")?;
    let is_last = number(reply, "x-ratelimit-remaining") == Some(0);
    let length = wait(reset.saturating_sub(now.unix_timestamp())).min(PRIMARY_WINDOW);
    (is_last && reset > now.unix_timestamp()).then_some(length)
}

fn number(reply: &Reply, name: &str) -> Option<i64> {
    reply.headers.get(name)?.trim().parse().ok()
}

fn wait(seconds: i64) -> Duration {
    Duration::from_secs(seconds.max(1).unsigned_abs()).min(LONGEST_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::super::answer::tests::reply;
    use super::*;

    #[test]
    fn what_is_a_limit_and_for_how_long() {
        let now = OffsetDateTime::from_unix_timestamp(1_000).expect("a time");
        let said = |seconds| Some(Refusal::For(Duration::from_secs(seconds)));
        let secondary = r#"{"message":"You have exceeded a secondary rate limit."}"#;
        let of_installation = r#"{"message":"API rate limit exceeded for installation ID 23154469."}"#;
        let exhausted = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1090")];
        let past = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "900")];
        let some_left = [("x-ratelimit-remaining", "4000"), ("x-ratelimit-reset", "1090")];
        let table = [
            (reply(429, &[("retry-after", "30")], ""), said(30)),
            (reply(403, &[("retry-after", "30")], ""), said(30)),
            (reply(429, &[("retry-after", "0")], ""), said(1)),
            (reply(429, &[("retry-after", "99999999999999")], ""), said(12 * 60 * 60)),
            (reply(403, &exhausted, ""), said(90)),
            (reply(429, &exhausted, ""), said(90)),
            (reply(403, &past, ""), said(1)),
            (reply(429, &[("retry-after", "soon")], ""), Some(Refusal::Unsaid)),
            (reply(429, &[], ""), Some(Refusal::Unsaid)),
            (reply(403, &[], secondary), Some(Refusal::Unsaid)),
            (reply(403, &some_left, secondary), Some(Refusal::Unsaid)),
            (reply(403, &[], of_installation), Some(Refusal::Unsaid)),
            (reply(403, &some_left, r#"{"message":"Resource not accessible"}"#), None),
            (reply(403, &[], ""), None),
            (reply(200, &exhausted, ""), None),
            (reply(503, &[("retry-after", "30")], ""), None),
        ];
        for (reply, want) in table {
            assert_eq!(refusal(&reply, now), want, "{}", reply.status);
        }
        assert_eq!(used_up(&reply(200, &exhausted, ""), now), Some(Duration::from_secs(90)));
        let far = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "99999999999999")];
        assert_eq!(used_up(&reply(200, &far, ""), now), Some(PRIMARY_WINDOW));
        assert_eq!(used_up(&reply(200, &past, ""), now), None);
        assert_eq!(used_up(&reply(200, &some_left, ""), now), None);
    }
}
