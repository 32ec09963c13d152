//! What GitHub's refusals mean: when to come back, and what the operator can do.

use std::{fmt, time::Duration};

use time::OffsetDateTime;

use super::{super::http::Reply, words};
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

    fn is_mint(&self) -> bool {
        self.path.ends_with("/generate-jitconfig")
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

/// What GitHub's words mean, where the status alone would send the operator the wrong way. In lower case.
const PHRASES: [(&str, &str); 12] = [
    ("account was suspended", "GitHub has suspended the account: ask GitHub Support"),
    ("suspended", "the App's installation is suspended: unsuspend it in the settings of the organisation"),
    ("ip allow list", "the organisation's IP allow list lacks the functions' addresses"),
    ("saml", "authorise the token for the organisation's single sign-on"),
    (
        "forbids access via",
        "the organisation forbids this kind of token: GITHUB_SECRET_ARN should hold a GitHub App",
    ),
    (
        "repository level self-hosted runners are disabled",
        "allow repository-level runners in the organisation's settings, or set RUNNER_SCOPE to org",
    ),
    ("archived", "the repository is archived: unarchive it, or let it queue no jobs"),
    ("access blocked", "GitHub has blocked the repository"),
    ("actions is disabled", "turn GitHub Actions on for the repository"),
    ("not a supported version", "this server does not know the API's version: upgrade one of the two"),
    ("deprecated", "GitHub has given this call up: upgrade this program"),
    ("no longer supported", "GitHub has given this call up: upgrade this program"),
];

/// An answer that is an error. `mints_well` says that runners have been registered with these settings before: then
/// a 422 to a mint is about this job.
pub(super) fn classify(call: &Call, reply: &Reply, now: OffsetDateTime, mints_well: bool) -> CallError {
    let status = reply.status;
    let message = if (400..500).contains(&status) { words::message(reply) } else { String::new() };
    let lower = message.to_lowercase();
    let class = match status {
        403 | 429 => match rate_limit(reply, now) {
            Some(after) => Class::RateLimited { after },
            None => Class::NeedsOperator,
        },
        422 if call.is_mint() && is_about_the_job(&lower, mints_well) => Class::Invalid,
        // No final answer, a success that is not the one expected, or a server that gave up waiting: it may have
        // happened.
        ..=299 | 408 | 500.. => call.lost(),
        _ => Class::NeedsOperator,
    };
    let request_id =
        reply.headers.get("x-github-request-id").filter(|id| is_request_id(id)).unwrap_or("none");
    let what = match class {
        Class::RateLimited { after } => format!("rate limit, for {} s", after.as_secs()),
        Class::NeedsOperator => known(reply, &lower).map_or_else(|| fix(call, status), str::to_owned),
        Class::Invalid => "GitHub refuses this job's runner: check its labels".to_owned(),
        _ => "GitHub is in trouble; see https://www.githubstatus.com".to_owned(),
    };
    let mut text = format!("GitHub: {call}: {status}: {what}");
    if !message.is_empty() {
        text += &format!("; GitHub says \"{message}\"");
    }
    if let Some(permissions) = words::accepted_permissions(reply).filter(|_| class == Class::NeedsOperator) {
        text += &format!("; it takes {permissions}");
    }
    CallError::new(class, format!("{text} (request id {request_id})"))
}

fn known(reply: &Reply, message: &str) -> Option<&'static str> {
    let phrase = PHRASES.iter().find(|(phrase, _)| message.contains(phrase)).map(|(_, fix)| *fix);
    phrase.or_else(|| match reply.status {
        403 if reply.headers.get("x-github-sso").is_some() => {
            Some("authorise the token for the organisation's single sign-on")
        }
        410 => Some("GitHub has given this call up: upgrade this program"),
        451 => Some("GitHub has blocked the repository"),
        _ => None,
    })
}

/// A wrong RUNNER_GROUP_ID is refused with the same status, and no job is to be rejected for that.
fn is_about_the_job(message: &str, mints_well: bool) -> bool {
    !message.is_empty() && !message.contains("group") && (mints_well || message.contains("label"))
}

fn is_request_id(id: &str) -> bool {
    id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':')
}

/// GET job: GitHub does not say. Not there, or not any more, or moved to where it cannot be followed, or not ours
/// to see; who asks must be able to do without.
pub(super) fn says_nothing(reply: &Reply) -> bool {
    let may_not = || words::message(reply).to_lowercase().contains("not accessible by");
    matches!(reply.status, 301 | 302 | 307 | 308 | 404 | 410 | 451) || (reply.status == 403 && may_not())
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
    let phrases = ["secondary rate limit", "api rate limit exceeded", "abuse detection"];
    (reply.status == 429 || phrases.iter().any(|phrase| body.contains(phrase))).then_some(SECONDARY_LIMIT)
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
        300..=399 => "it leads elsewhere: check GITHUB_API_URL".to_owned(),
        422 if call.is_mint() => {
            "GitHub refuses the runner: check RUNNER_GROUP_ID (is there a runner group of that id?) and the labels"
                .to_owned()
        }
        404 if call.is_mint() => {
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
            let error = classify(&mint, &reply, now, false);
            assert_eq!(error.class, want, "{error}");
            assert!(error.message.contains("POST /orgs/acme/actions/runners/generate-jitconfig"), "{error}");
        }
        let get = Call::new("GET", "/orgs/acme/actions/runners/1", Need::OrganizationRunners);
        assert_eq!(classify(&get, &reply(503, &[], ""), now, false).class, Class::Transient);
    }

    #[test]
    fn what_github_says_goes_before_what_the_status_says() {
        const TOKEN: &str = "ghs_16C7e42F292c6912E7710c838347Ae178B4a";
        let rows = [
            (403, "This installation has been suspended", "unsuspend it"),
            (403, "Sorry. Your account was suspended.", "GitHub Support"),
            (
                403,
                "`octo-org` has an IP allow list enabled, and your IP address is not permitted",
                "allow list lacks",
            ),
            (403, "Resource protected by organization SAML enforcement.", "single sign-on"),
            (
                403,
                "`octo-org` forbids access via a personal access token (classic).",
                "should hold a GitHub App",
            ),
            (
                403,
                "Repository level self-hosted runners are disabled on this repository.",
                "RUNNER_SCOPE to org",
            ),
            (403, "Repository was archived so is read-only.", "unarchive it"),
            (403, "Repository access blocked", "has blocked"),
            (451, "Unavailable", "has blocked"),
            (403, "GitHub Actions is disabled for this repository.", "turn GitHub Actions on"),
            (400, "\\\"2022-11-28\\\" is not a supported version.", "upgrade"),
            (410, "Gone", "upgrade"),
            (301, "Moved Permanently", "GITHUB_API_URL"),
            (403, "Something new", "Self-hosted runners: read and write"),
        ];
        let get = Call::new("GET", "/orgs/octo-org/actions/runners/1", Need::OrganizationRunners);
        for (status, says, fix) in rows {
            let body = format!("{{\"message\":\"{says} {TOKEN}\",\"token\":\"{TOKEN}\"}}");
            let headers = [("x-accepted-github-permissions", "organization_self_hosted_runners=write")];
            let error = classify(&get, &reply(status, &headers, &body), OffsetDateTime::UNIX_EPOCH, true);
            assert_eq!(error.class, Class::NeedsOperator, "{error}");
            assert!(error.message.contains(fix), "{fix}: {error}");
            assert!(error.message.contains("it takes organization_self_hosted_runners=write"), "{error}");
            assert_eq!(error.message.contains("GitHub says"), status >= 400, "{error}");
            assert!(!error.message.contains(TOKEN), "{error}");
        }
    }

    #[test]
    fn limits_without_headers() {
        let get = Call::new("GET", "/orgs/octo-org/actions/runners/1", Need::OrganizationRunners);
        let body = "{\"message\":\"API rate limit exceeded for installation ID 23154469.\"}";
        let error = classify(&get, &reply(403, &[], body), OffsetDateTime::UNIX_EPOCH, true);
        assert_eq!(error.class, Class::RateLimited { after: SECONDARY_LIMIT }, "{error}");
    }

    #[test]
    fn a_runner_that_is_refused_for_what_its_job_wants() {
        let mint =
            Call::new("POST", "/orgs/octo-org/actions/runners/generate-jitconfig", Need::OrganizationRunners);
        let labels = r#"{"message":"Validation Failed","errors":[{"field":"labels","code":"invalid"}]}"#;
        let table = [
            (labels, false, Class::Invalid),
            (r#"{"message":"Validation Failed"}"#, true, Class::Invalid),
            // The settings may be wrong: no job is rejected for that.
            (r#"{"message":"Validation Failed"}"#, false, Class::NeedsOperator),
            (r#"{"message":"Invalid runner group"}"#, true, Class::NeedsOperator),
            ("<html>", true, Class::NeedsOperator),
        ];
        for (body, mints_well, want) in table {
            let error = classify(&mint, &reply(422, &[], body), OffsetDateTime::UNIX_EPOCH, mints_well);
            assert_eq!(error.class, want, "{error}");
        }
        let error = classify(&mint, &reply(422, &[], labels), OffsetDateTime::UNIX_EPOCH, false);
        assert!(error.message.contains("GitHub says \"Validation Failed: labels invalid\""), "{error}");
    }

    #[test]
    fn who_may_not_see_a_job_is_told_nothing() {
        let says = |status, body| says_nothing(&reply(status, &[], body));
        for status in [301, 302, 307, 308, 404, 410, 451] {
            assert!(says(status, ""), "{status}");
        }
        assert!(says(403, r#"{"message":"Resource not accessible by integration"}"#));
        assert!(!says(403, r#"{"message":"API rate limit exceeded for installation ID 1."}"#));
        for status in [200, 304, 401, 403, 422, 429, 500] {
            assert!(!says(status, ""), "{status}");
        }
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
                false,
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
