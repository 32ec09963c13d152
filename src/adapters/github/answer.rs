//! What GitHub's refusals mean: when to come back, and what the operator can do.

use std::{fmt, time::Duration};

use super::{super::http::Reply, words};
use crate::error::{CallError, Class};

/// How long a call waits that GitHub takes for spam: "at least one minute", as for a secondary rate limit.
const UNTIL_NO_SPAM: Duration = Duration::from_secs(60);

/// A call, for its errors.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: &'static str,
    pub(super) path: String,
    need: Need,
    /// The runner that it is about, where the path does not say.
    runner: Option<String>,
    /// The runner group that the runner is to join.
    pub(super) group: Option<u64>,
}

/// What a call needs to be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    OrganizationRunners,
    RepositoryAdministration,
    EnterpriseRunners,
    ActionsRead,
    ActionsWrite,
    ChecksWrite,
    StatusesWrite,
    Installed,
    App,
}

impl Call {
    pub(super) fn new(method: &'static str, path: impl Into<String>, need: Need) -> Self {
        Call { method, path: path.into(), need, runner: None, group: None }
    }

    /// It is about that runner.
    pub(super) fn about(self, runner: &str) -> Self {
        Call { runner: Some(runner.to_owned()), ..self }
    }

    /// It lets the runner join that group.
    pub(super) fn into_group(self, group: u64) -> Self {
        Call { group: Some(group), ..self }
    }

    /// What decides which of several Apps makes it: the job and attempt of a mint, the page of a list, …
    pub(super) fn key(&self) -> &str {
        self.runner.as_deref().unwrap_or(&self.path)
    }

    fn is_mint(&self) -> bool {
        self.path.ends_with("/generate-jitconfig")
    }

    /// The class of an answer that never came: a POST may leave something behind that is not known of.
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
const PHRASES: [(&str, &str); 17] = [
    ("integration not found", "GitHub knows no App of the client_id or app_id in GITHUB_SECRET_ARN"),
    ("claim ('iat')", "GitHub's clock and the function's differ: it passes, or the host's clock is wrong"),
    ("claim ('exp')", "GitHub's clock and the function's differ: it passes, or the host's clock is wrong"),
    (
        "reached max limit",
        "the runner group is full: remove its offline runners, or set RUNNER_GROUP_ID to another group",
    ),
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
    ("actions has been disabled", "turn GitHub Actions on for the repository"),
    ("actions is disabled", "turn GitHub Actions on for the repository"),
    ("not a supported version", "this server does not know the API's version: upgrade one of the two"),
    ("deprecated", "GitHub has given this call up: upgrade this program"),
    ("no longer supported", "GitHub has given this call up: upgrade this program"),
];

/// An answer that is an error. `limited` is how long a rate limit lasts that it is refused for. `mints_well` says that
/// runners have been registered there, in that group, before: then a 422 to a mint is about this job.
pub(super) fn classify(call: &Call, reply: &Reply, limited: Option<Duration>, mints_well: bool) -> CallError {
    let status = reply.status;
    let message = if (400..500).contains(&status) { words::message(reply) } else { String::new() };
    let lower = message.to_lowercase();
    let class = match (limited, status) {
        (Some(after), _) => Class::RateLimited { after },
        (None, 422) if is_spam(&lower) => Class::RateLimited { after: UNTIL_NO_SPAM },
        (None, 422) if call.is_mint() && is_about_the_job(&lower, mints_well) => Class::Invalid,
        // No final answer, a success that is not the one expected, or a server that gave up waiting: it may have
        // happened.
        (None, ..=299 | 408 | 500..) => call.lost(),
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
    let is_json = || serde_json::from_slice::<serde::de::IgnoredAny>(&reply.body).is_ok();
    phrase.or_else(|| match reply.status {
        407 => Some("the proxy wants credentials: check HTTPS_PROXY"),
        400..=499 if !reply.body.is_empty() && !is_json() => Some(
            "it is not GitHub's API that answers: check GITHUB_API_URL (GitHub Enterprise Server: \
             https://HOST/api/v3), and proxies on the way",
        ),
        403 if reply.headers.get("x-github-sso").is_some() => {
            Some("authorise the token for the organisation's single sign-on")
        }
        410 => Some("GitHub has given this call up: upgrade this program"),
        451 => Some("GitHub has blocked the repository"),
        _ => None,
    })
}

/// A refusal that somebody can mend, and that is not about what was asked for.
pub(super) fn needs_operator(reply: &Reply) -> bool {
    known(reply, &words::message(reply).to_lowercase()).is_some()
}

/// A wrong RUNNER_GROUP_ID is refused with the same status, and no job is to be rejected for that.
fn is_about_the_job(message: &str, mints_well: bool) -> bool {
    !message.is_empty() && !message.contains("group") && (mints_well || message.contains("label"))
}

/// 422 is "Validation failed, or the endpoint has been spammed." Only this call waits: the words may be those of the
/// request, and a label of the job's stops nobody else.
fn is_spam(message: &str) -> bool {
    let phrases = ["spammed", "submitted too quickly", "abuse"];
    !message.contains("label") && phrases.iter().any(|phrase| message.contains(phrase))
}

fn is_request_id(id: &str) -> bool {
    id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':')
}

/// GET job: GitHub does not say. Not there, or not any more, or moved to where it cannot be followed, or not ours
/// to see; who asks must be able to do without.
pub(super) fn says_nothing(reply: &Reply) -> bool {
    let says = |words: &str| words::message(reply).to_lowercase().contains(words);
    match reply.status {
        301 | 302 | 307 | 308 | 404 | 451 => true,
        403 => says("not accessible by"),
        // Unless it is the API's version that is gone.
        410 => !says("version"),
        _ => false,
    }
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
        Need::ActionsWrite => "the App needs the repository permission \"Actions: read and write\"",
        Need::ChecksWrite => "the App needs the repository permission \"Checks: read and write\"",
        // Apps write checks.
        Need::StatusesWrite => {
            "the token needs the repository permission \"Commit statuses: read and write\" (a classic token: the \
             scope repo:status)"
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
        400 | 405 | 406 | 409 | 411 | 413..=415 | 422 => {
            "GitHub does not take the request: a proxy on the way may have changed it; if not, report it as a bug"
                .to_owned()
        }
        404 if call.is_mint() => {
            format!("{permission}; or RUNNER_GROUP_ID names no runner group that it may use")
        }
        _ => permission.to_owned(),
    }
}

/// `Deprecation` (RFC 9745) and `Sunset` (RFC 8594): GitHub announces the end of a call or of the API's version.
pub(super) fn announced_end(reply: &Reply) -> Option<String> {
    let said = ["deprecation", "sunset"].map(|name| Some((name, reply.headers.get(name)?)));
    let is_plain =
        |text: &str| (1..=64).contains(&text.len()) && text.bytes().all(|b| (b' '..=b'~').contains(&b));
    let said = said.into_iter().flatten().filter(|(_, value)| is_plain(value));
    let said: Vec<String> = said.map(|(name, value)| format!("{name}: {value}")).collect();
    (!said.is_empty()).then(|| said.join(", "))
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
pub(super) mod tests {
    use aws_smithy_runtime_api::http::Headers;

    use super::*;

    pub(in super::super) fn reply(
        status: u16,
        headers: &[(&'static str, &'static str)],
        body: &str,
    ) -> Reply {
        let mut all = Headers::new();
        for (name, value) in headers {
            all.insert(*name, *value);
        }
        Reply { status, headers: all, body: body.as_bytes().to_vec() }
    }

    #[test]
    fn classes() {
        let mint =
            Call::new("POST", "/orgs/acme/actions/runners/generate-jitconfig", Need::OrganizationRunners);
        for (status, want) in [
            (400, Class::NeedsOperator),
            (401, Class::NeedsOperator),
            (403, Class::NeedsOperator),
            (404, Class::NeedsOperator),
            (422, Class::NeedsOperator),
            (200, Class::Unknown),
            (408, Class::Unknown),
            (500, Class::Unknown),
            (502, Class::Unknown),
        ] {
            let error = classify(&mint, &reply(status, &[], ""), None, false);
            assert_eq!(error.class, want, "{error}");
            assert!(error.message.contains("POST /orgs/acme/actions/runners/generate-jitconfig"), "{error}");
        }
        let after = Duration::from_secs(90);
        let error = classify(&mint, &reply(403, &[], ""), Some(after), true);
        assert_eq!(error.class, Class::RateLimited { after });
        assert!(error.message.contains("403: rate limit, for 90 s"), "{error}");
        let get = Call::new("GET", "/orgs/acme/actions/runners/1", Need::OrganizationRunners);
        assert_eq!(classify(&get, &reply(503, &[], ""), None, false).class, Class::Transient);
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
            let error = classify(&get, &reply(status, &headers, &body), None, true);
            assert_eq!(error.class, Class::NeedsOperator, "{error}");
            assert!(error.message.contains(fix), "{fix}: {error}");
            assert!(error.message.contains("it takes organization_self_hosted_runners=write"), "{error}");
            assert_eq!(error.message.contains("GitHub says"), status >= 400, "{error}");
            assert!(!error.message.contains(TOKEN), "{error}");
        }
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
            let error = classify(&mint, &reply(422, &[], body), None, mints_well);
            assert_eq!(error.class, want, "{error}");
        }
        let error = classify(&mint, &reply(422, &[], labels), None, false);
        assert!(error.message.contains("GitHub says \"Validation Failed: labels invalid\""), "{error}");
    }

    #[test]
    fn who_may_not_see_a_job_is_told_nothing() {
        let says = |status, body| says_nothing(&reply(status, &[], body));
        for status in [301, 302, 307, 308, 404, 410, 451] {
            assert!(says(status, ""), "{status}");
        }
        assert!(says(403, r#"{"message":"Resource not accessible by integration"}"#));
        assert!(!says(410, r#"{"message":"API version 2022-11-28 is no longer supported."}"#));
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
                None,
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
