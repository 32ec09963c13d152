//! What GitHub's refusals mean: when to come back, and what the operator can do.

use std::{fmt, time::Duration};

use time::OffsetDateTime;

use super::super::http::Reply;
use crate::error::{CallError, Class};

/// "If neither header is there, wait for at least one minute" (GitHub, "Best practices for using the REST
/// API", secondary rate limits).
const SECONDARY_LIMIT: Duration = Duration::from_secs(60);
/// SQS holds no message back for longer ("12 hours" from the receive), and GitHub's primary limit is renewed every
/// hour. A wait beyond that is no honest answer, and a very long one is more than can be added to a clock.
const LONGEST_LIMIT: Duration = Duration::from_secs(12 * 60 * 60);

/// A call, for its errors.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: &'static str,
    pub(super) path: String,
    need: Need,
}

/// What a call needs to be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    OrganizationRunners,
    RepositoryAdministration,
    EnterpriseRunners,
    ActionsRead,
    Installed,
    App,
}

impl Call {
    pub(super) fn new(method: &'static str, path: impl Into<String>, need: Need) -> Self {
        Call { method, path: path.into(), need }
    }

    /// The class of an answer that never came: only a mint leaves something behind that is not known of.
    pub(super) fn lost(&self) -> Class {
        if self.method == "POST" { Class::Unknown } else { Class::Transient }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// An answer that is an error. Of its body, only GitHub's own words for the secondary rate limit are looked for.
pub(super) fn classify(call: &Call, reply: &Reply, now: OffsetDateTime) -> CallError {
    let status = reply.status;
    let class = match status {
        403 | 429 => match rate_limit(reply, now) {
            Some(after) => Class::RateLimited { after },
            None => Class::NeedsOperator,
        },
        // No final answer, a success that is not the one expected, or a server that gave up waiting: it may have
        // happened.
        ..=299 | 408 | 500.. => call.lost(),
        _ => Class::NeedsOperator,
    };
    let request_id = reply.headers.get("x-github-request-id").unwrap_or("none");
    let what = match class {
        Class::RateLimited { after } => format!("rate limit, for {} s", after.as_secs()),
        Class::NeedsOperator => fix(call, status),
        _ => "GitHub is in trouble; see https://www.githubstatus.com".to_owned(),
    };
    CallError::new(class, format!("GitHub: {call}: {status}: {what} (request id {request_id})"))
}

/// How long to wait, if the answer is a rate limit. Secondary limits come as 403 or 429, often with neither
/// header.
fn rate_limit(reply: &Reply, now: OffsetDateTime) -> Option<Duration> {
    let number = |name| reply.headers.get(name).and_then(|value: &str| value.trim().parse::<i64>().ok());
    let wait = |seconds: i64| Some(Duration::from_secs(seconds.max(1).unsigned_abs()).min(LONGEST_LIMIT));
    if let Some(seconds) = number("retry-after") {
        return wait(seconds);
    }
    if number("x-ratelimit-remaining") == Some(0)
        && let Some(reset) = number("x-ratelimit-reset")
    {
        return wait(reset.saturating_sub(now.unix_timestamp()));
    }
    let body = String::from_utf8_lossy(&reply.body).to_lowercase();
    let secondary = body.contains("secondary rate limit") || body.contains("abuse detection");
    (reply.status == 429 || secondary).then_some(SECONDARY_LIMIT)
}

fn fix(call: &Call, status: u16) -> String {
    let permission = match call.need {
        Need::OrganizationRunners => {
            "the App needs the organisation permission \"Self-hosted runners: read and write\" (a classic token: \
             the scope admin:org), and must be installed in the organisation (RUNNER_SCOPE is org)"
        }
        Need::RepositoryAdministration => {
            "the App needs the repository permission \"Administration: read and write\" (a classic token: the \
             scope repo), and must be installed for the repository (RUNNER_SCOPE is repo)"
        }
        Need::EnterpriseRunners => {
            "the credentials need the enterprise's runner administration (a classic token: the scope \
             manage_runners:enterprise), and RUNNER_SCOPE the enterprise's slug"
        }
        Need::ActionsRead => {
            "the App needs the repository permission \"Actions: read\" (a classic token: repo)"
        }
        Need::Installed if status == 404 => {
            "the App is not installed there: install it, or correct ORGANIZATION or RUNNER_SCOPE"
        }
        Need::Installed | Need::App => {
            "app_id and private_key in GITHUB_SECRET_ARN must be those of one GitHub App"
        }
    };
    match status {
        401 => "GitHub does not accept the credentials in GITHUB_SECRET_ARN: expired, revoked, or app_id and \
                private_key of different Apps"
            .to_owned(),
        422 if call.path.ends_with("/generate-jitconfig") => {
            "GitHub refuses the runner: check RUNNER_GROUP_ID (is there a runner group of that id?) and the labels"
                .to_owned()
        }
        404 if call.path.ends_with("/generate-jitconfig") => {
            format!("{permission}; or RUNNER_GROUP_ID names no runner group that it may use")
        }
        _ => permission.to_owned(),
    }
}

/// The cursor of the page that a `Link` header calls `next`.
pub(super) fn next_cursor(link: &str) -> Option<String> {
    let next = link.split(',').find(|part| part.contains("rel=\"next\""))?;
    let url = next.split(['<', '>']).nth(1)?;
    let (_, query) = url.split_once('?')?;
    let cursor = query.split('&').find_map(|pair| pair.strip_prefix("cursor="))?;
    Some(percent_encoding::percent_decode_str(cursor).decode_utf8().ok()?.into_owned())
}

#[cfg(test)]
mod tests {
    use aws_smithy_runtime_api::http::Headers;

    use super::*;

    fn reply(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Reply {
        let mut all = Headers::new();
        for (name, value) in headers {
            all.insert(*name, *value);
        }
        Reply { status, headers: all, body: body.as_bytes().to_vec() }
    }

    #[test]
    fn classes() {
        let now = OffsetDateTime::from_unix_timestamp(1_000).expect("a time");
        let limited = |seconds| Class::RateLimited { after: Duration::from_secs(seconds) };
        let secondary = "{\"message\":\"You have exceeded a secondary rate limit.\"}";
        let exhausted = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1090")];
        let past = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "900")];
        let some_left = [("x-ratelimit-remaining", "4000"), ("x-ratelimit-reset", "1090")];
        let table = [
            (reply(429, &[("retry-after", "30")], ""), limited(30)),
            (reply(403, &[("retry-after", "30")], ""), limited(30)),
            (reply(403, &exhausted, ""), limited(90)),
            (reply(429, &exhausted, ""), limited(90)),
            (reply(403, &past, ""), limited(1)),
            (reply(429, &[("retry-after", "99999999999999")], ""), limited(12 * 60 * 60)),
            (reply(429, &[], ""), limited(60)),
            (reply(403, &[], secondary), limited(60)),
            (reply(403, &some_left, secondary), limited(60)),
            (reply(403, &some_left, "{\"message\":\"Resource not accessible\"}"), Class::NeedsOperator),
            (reply(403, &[], ""), Class::NeedsOperator),
            (reply(401, &[], ""), Class::NeedsOperator),
            (reply(404, &[], ""), Class::NeedsOperator),
            (reply(422, &[], ""), Class::NeedsOperator),
            (reply(200, &[], ""), Class::Unknown),
            (reply(408, &[], ""), Class::Unknown),
            (reply(500, &[], ""), Class::Unknown),
            (reply(502, &[], ""), Class::Unknown),
        ];
        let mint =
            Call::new("POST", "/orgs/acme/actions/runners/generate-jitconfig", Need::OrganizationRunners);
        for (reply, want) in table {
            let error = classify(&mint, &reply, now);
            assert_eq!(error.class, want, "{error}");
            assert!(error.message.contains("POST /orgs/acme/actions/runners/generate-jitconfig"), "{error}");
            assert!(
                !error.message.contains("secondary") && !error.message.contains("not accessible"),
                "{error}"
            );
        }
        let get = Call::new("GET", "/orgs/acme/actions/runners/1", Need::OrganizationRunners);
        assert_eq!(classify(&get, &reply(503, &[], ""), now).class, Class::Transient);
    }

    #[test]
    fn errors_name_the_fix() {
        let table = [
            (Need::OrganizationRunners, 403, "Self-hosted runners: read and write"),
            (Need::OrganizationRunners, 404, "RUNNER_GROUP_ID"),
            (Need::OrganizationRunners, 422, "RUNNER_GROUP_ID"),
            (Need::OrganizationRunners, 401, "GITHUB_SECRET_ARN"),
            (Need::RepositoryAdministration, 403, "Administration: read and write"),
            (Need::EnterpriseRunners, 404, "manage_runners:enterprise"),
            (Need::ActionsRead, 403, "Actions: read"),
        ];
        for (need, status, want) in table {
            let error = classify(
                &Call::new("POST", "/x/generate-jitconfig", need),
                &reply(status, &[], ""),
                OffsetDateTime::UNIX_EPOCH,
            );
            assert!(error.message.contains(want), "{status}: {error}");
        }
    }

    #[test]
    fn cursors() {
        let link = "<https://api.github.com/app/hook/deliveries?per_page=100&cursor=v1_1%3D>; rel=\"next\"";
        assert_eq!(next_cursor(link).as_deref(), Some("v1_1="));
        for link in ["", "<https://api.github.com/x>; rel=\"next\"", "<https://x?cursor=1>; rel=\"prev\""] {
            assert_eq!(next_cursor(link), None, "{link}");
        }
    }
}
