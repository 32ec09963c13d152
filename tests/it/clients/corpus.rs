//! What GitHub, and what stands before it, have been seen to answer, and what each answer means: a table to look up.
//! Every answer goes through every call.

use std::{future::ready, time::Duration};

use axum::{body::Body, response::Response};
use gha_fargate_runners::{
    adapters::http::Http,
    error::{CallError, Class},
    ids::{JobId, RunnerId},
    ports::{Deliveries, Github, Minted, Scope, Target},
};
use serde_json::json;

use super::server::{Client, START, Server, answer, app, minted, shorten};

/// What an answer means, where it is no news to the call (see [`is_news`]).
#[derive(Debug, Clone, Copy)]
enum Means {
    /// Nobody knows what became of the call: it is made again.
    Lost,
    /// A rate limit, for so many seconds.
    Limited(u64),
    /// The operator's matter, with these words of the fix.
    Fix(&'static str),
    /// The operator's matter: a permission of the call's own is missing.
    Permission,
}
use Means::{Fix, Limited, Lost, Permission};

type Headers = &'static [(&'static str, &'static str)];
type Row = (u16, Headers, &'static str, Means);

const NONE: Headers = &[];
const HTML: Headers = &[("content-type", "text/html")];
/// Ten minutes after [`START`], which the test's clock shows.
const USED_UP: Headers = &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1767269400")];
const USED_UP_BEFORE: Headers = &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1767268700")];
const SSO: Headers =
    &[("x-github-sso", "required; url=https://github.com/orgs/octo-org/sso?authorization_request=A1")];

const CLOCK: &str = "clock";
const CREDENTIALS: &str = "does not accept the credentials";
const NOT_GITHUB: &str = "not GitHub's API that answers";
const REQUEST: &str = "does not take the request";
const UPGRADE: &str = "upgrade";

#[rustfmt::skip]
const CORPUS: [Row; 76] = [
    // Who asks
    (401, NONE, "Bad credentials", Fix(CREDENTIALS)),
    (401, NONE, "Requires authentication", Fix(CREDENTIALS)),
    (401, NONE, "This endpoint requires you to be authenticated.", Fix(CREDENTIALS)),
    (401, NONE, "A JSON web token could not be decoded", Fix(CREDENTIALS)),
    (401, NONE, "'Issuer' claim ('iss') must be an Integer", Fix(CREDENTIALS)),
    (401, NONE, "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued", Fix(CLOCK)),
    (401, NONE, "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires", Fix(CLOCK)),
    (401, NONE, "'Expiration time' claim ('exp') is too far in the future", Fix(CLOCK)),
    (401, NONE, "", Fix(CREDENTIALS)),
    (403, NONE, "Integration not found", Fix("knows no App")),

    // May not, for a reason that GitHub names
    (403, NONE, "This installation has been suspended", Fix("unsuspend it")),
    (403, NONE, "Sorry. Your account was suspended.", Fix("GitHub Support")),
    (403, NONE, "Although you appear to have the correct authorization credentials, the `octo-org` organization has an IP allow list enabled, and your IP address is not permitted to access this resource.", Fix("IP allow list lacks")),
    (403, SSO, "Resource protected by organization SAML enforcement. You must grant your Personal Access token access to this organization.", Fix("single sign-on")),
    (403, SSO, "Forbidden", Fix("single sign-on")),
    (403, NONE, "`octo-org` forbids access via a personal access token (classic). Please use a GitHub App, OAuth App, or a personal access token with fine-grained permissions.", Fix("should hold a GitHub App")),
    (403, NONE, "The 'octo-org' organization forbids access via a fine-grained personal access tokens if the token's lifetime is greater than 366 days.", Fix("should hold a GitHub App")),
    (403, NONE, "Repository level self-hosted runners are disabled on this repository.", Fix("RUNNER_SCOPE to org")),
    (403, NONE, "Repository was archived so is read-only.", Fix("unarchive it")),
    (403, NONE, "Repository access blocked", Fix("has blocked")),
    (451, NONE, "Repository access blocked", Fix("has blocked")),
    (451, NONE, "", Fix("has blocked")),
    (403, NONE, "GitHub Actions is disabled for this repository.", Fix("turn GitHub Actions on")),
    (403, NONE, "GitHub Actions has been disabled by your organization.", Fix("turn GitHub Actions on")),

    // May not, for want of a permission
    (403, &[("x-accepted-github-permissions", "organization_self_hosted_runners=write")], "Resource not accessible by integration", Permission),
    (403, NONE, "Resource not accessible by personal access token", Permission),
    (403, NONE, "Must have admin rights to Repository.", Permission),
    (403, NONE, "You must be an org owner or have the fine-grained permission to manage self-hosted runners.", Permission),
    (403, NONE, "Something that GitHub has never said before", Permission),
    (403, NONE, "", Permission),
    (404, NONE, "Not Found", Permission),

    // Rate limits
    (403, USED_UP, "API rate limit exceeded for installation ID 23154469.", Limited(600)),
    (429, USED_UP, "API rate limit exceeded for installation ID 23154469.", Limited(600)),
    (403, USED_UP_BEFORE, "API rate limit exceeded for installation ID 23154469.", Limited(1)),
    (403, NONE, "API rate limit exceeded for installation ID 23154469.", Limited(60)),
    (403, NONE, "API rate limit exceeded for user ID 1.", Limited(60)),
    (403, &[("retry-after", "120")], "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.", Limited(120)),
    (429, &[("retry-after", "30")], "You have exceeded a secondary rate limit.", Limited(30)),
    (403, NONE, "You have exceeded a secondary rate limit and have been temporarily blocked from content creation.", Limited(60)),
    (403, &[("x-ratelimit-remaining", "4321"), ("x-ratelimit-reset", "1767269400")], "You have exceeded a secondary rate limit.", Limited(60)),
    (403, NONE, "You have triggered an abuse detection mechanism.", Limited(60)),
    (429, NONE, "", Limited(60)),
    (429, HTML, "<html>Too Many Requests</html>", Limited(60)),
    (429, &[("retry-after", "0")], "Too many requests", Limited(1)),
    (429, &[("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT")], "Too many requests", Limited(60)),
    (429, &[("retry-after", "-5")], "Too many requests", Limited(1)),
    (429, &[("retry-after", "99999999")], "Too many requests", Limited(43_200)),

    // Somewhere else, something else, another time
    (301, &[("location", "https://elsewhere.test/")], "Moved Permanently", Fix("check GITHUB_API_URL")),
    (302, &[("location", "https://ghes.acme.test/login")], "", Fix("check GITHUB_API_URL")),
    (307, NONE, "Temporary Redirect", Fix("check GITHUB_API_URL")),
    (308, &[("location", "//elsewhere.test/")], "", Fix("check GITHUB_API_URL")),
    (404, HTML, "<html>Page not found</html>", Fix(NOT_GITHUB)),
    (403, HTML, "<html>Access denied by Squid</html>", Fix(NOT_GITHUB)),
    (401, HTML, "<html>Sign in</html>", Fix(NOT_GITHUB)),
    (407, HTML, "<html>Proxy Authentication Required</html>", Fix("HTTPS_PROXY")),
    (407, NONE, "", Fix("HTTPS_PROXY")),
    (400, NONE, "\"2022-11-28\" is not a supported version.", Fix(UPGRADE)),
    (410, NONE, "API version 2022-11-28 is no longer supported.", Fix(UPGRADE)),
    (403, NONE, "This endpoint is deprecated.", Fix(UPGRADE)),

    // Not as it should be
    (400, NONE, "Problems parsing JSON", Fix(REQUEST)),
    (400, HTML, "<html>Request Header Or Cookie Too Large</html>", Fix(NOT_GITHUB)),
    (405, NONE, "Method Not Allowed", Fix(REQUEST)),
    (413, NONE, "Payload too large", Fix(REQUEST)),
    (415, NONE, "Unsupported 'Accept' header", Fix(REQUEST)),

    // In trouble
    (408, NONE, "", Lost),
    (500, NONE, "Server Error", Lost),
    (502, HTML, "<html>Unicorn!</html>", Lost),
    (502, NONE, "Server Error", Lost),
    (503, &[("retry-after", "30")], "Service unavailable", Lost),
    (503, HTML, "<html>GitHub Enterprise is currently down for maintenance</html>", Lost),
    (504, NONE, "We couldn't respond to your request in time.", Lost),
    (511, HTML, "<html>Network Authentication Required</html>", Lost),
    (200, HTML, "<html>Welcome to the hotel's network</html>", Lost),
    (201, HTML, "<html>What?</html>", Lost),
    (203, NONE, "", Lost),
    (206, NONE, "half", Lost),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Mint,
    FindRunner,
    Runner,
    Runners,
    Delete,
    Job,
    Installation,
    Token,
    Deliveries,
    Redeliver,
}

const CALLS: [Call; 10] = [
    Call::Mint,
    Call::FindRunner,
    Call::Runner,
    Call::Runners,
    Call::Delete,
    Call::Job,
    Call::Installation,
    Call::Token,
    Call::Deliveries,
    Call::Redeliver,
];

impl Call {
    /// What its refusal for want of a permission names.
    fn permission(self) -> &'static str {
        match self {
            Call::Job => "Actions: read",
            Call::Installation | Call::Token | Call::Deliveries | Call::Redeliver => "app_id and private_key",
            _ => "Self-hosted runners: read and write",
        }
    }

    /// A lost answer leaves something behind.
    fn leaves_something(self) -> bool {
        matches!(self, Call::Mint | Call::Token | Call::Redeliver)
    }

    /// Whether a request is this call.
    fn is(self, what: &str) -> bool {
        match self {
            Call::Mint => what == "mint",
            Call::Installation => what.ends_with("/installation"),
            Call::Token => what.starts_with("token "),
            _ => true,
        }
    }
}

/// Where an answer tells the call what it wants to know, and is no error.
fn is_news(call: Call, status: u16, text: &str) -> bool {
    match call {
        Call::Mint => status == 409,
        Call::Runner => status == 404,
        Call::Delete => matches!(status, 404 | 422),
        Call::Job => {
            matches!(status, 301 | 302 | 307 | 308 | 404 | 451) || text.contains("not accessible by")
        }
        Call::Deliveries => status == 404,
        Call::Redeliver => matches!(status, 400 | 404 | 422),
        _ => false,
    }
}

/// As GitHub writes it, or as it is when it is no JSON.
fn body(headers: Headers, text: &str) -> String {
    match headers.iter().any(|(_, value)| *value == "text/html") {
        true => text.to_owned(),
        false => json!({"message": text, "documentation_url": "https://docs.github.com/rest"}).to_string(),
    }
}

async fn asked(call: Call, status: u16, headers: Headers, body: String) -> Result<(), CallError> {
    let server = Server::start(move |asked| {
        let what = shorten(&asked.what);
        let response = match what.as_str() {
            _ if call.is(&what) => {
                let mut response = Response::builder().status(status);
                for (name, value) in headers {
                    response = response.header(*name, *value);
                }
                response.body(Body::from(body.clone())).expect("an answer")
            }
            _ if what.starts_with("token ") => {
                answer(201, &json!({"token": "ghs_1", "expires_at": "2026-01-01T13:00:00Z"}))
            }
            _ => minted(),
        };
        Box::pin(ready(response))
    })
    .await;
    let secret = match call {
        Call::Installation => app(None),
        Call::Token | Call::Deliveries | Call::Redeliver => app(Some(2)),
        _ => "ghp_x".to_owned(),
    };
    let http = Http::new().with_call_timeout(Duration::from_secs(60));
    let client = Client::with(server.url.clone(), &secret, Scope::Org, http);
    let (github, id) = (&client.github, RunnerId(1));
    let target = Target {
        owner: "octo-org".to_owned(),
        repository: Some("octo-repo".to_owned()),
        ..Target::default()
    };
    match call {
        Call::Mint | Call::Token | Call::Installation => client.mint(None).await.map(drop),
        Call::FindRunner => github.find_runner(&target, "fargate-1-1").await.map(drop),
        Call::Runner => github.runner(&target, id).await.map(drop),
        Call::Runners => github.runners(&target, 1).await.map(drop),
        Call::Delete => github.delete_runner(&target, id).await.map(drop),
        Call::Job => github.job(&target, JobId(1)).await.map(drop),
        Call::Deliveries => github.deliveries("the App", None).await.map(drop),
        Call::Redeliver => github.redeliver("the App", 1).await.map(drop),
    }
}

/// Words of one fix, each of them wrong for all others.
const FIXES: [&str; 13] = [
    CLOCK,
    CREDENTIALS,
    NOT_GITHUB,
    REQUEST,
    "upgrade",
    "knows no App",
    "unsuspend it",
    "IP allow list lacks",
    "single sign-on",
    "unarchive it",
    "has blocked",
    "turn GitHub Actions on",
    "HTTPS_PROXY",
];

#[tokio::test]
async fn every_answer_through_every_call() {
    assert_eq!(START.unix_timestamp(), 1_767_268_800, "what the times in the table are reckoned from");
    for (status, headers, text, means) in CORPUS {
        for call in CALLS {
            let row = format!("{call:?}: {status} {text:?}");
            let result = asked(call, status, headers, body(headers, text)).await;
            if is_news(call, status, text) {
                assert!(result.is_ok(), "{row}: {result:?}");
                continue;
            }
            let error = result.expect_err(&row);
            // The installation may be another one by now: it is looked for, and what is told then is what is wrong.
            let token_404 = (call, status) == (Call::Token, 404);
            let (class, words) = match means {
                _ if token_404 => continue,
                Lost if call.leaves_something() => (Class::Unknown, ""),
                Lost => (Class::Transient, ""),
                Limited(seconds) => {
                    (Class::RateLimited { after: Duration::from_secs(seconds) }, "rate limit")
                }
                Fix(words) => (Class::NeedsOperator, words),
                Permission if (call, status) == (Call::Installation, 404) => {
                    (Class::NeedsOperator, "the App is not installed there")
                }
                Permission => (Class::NeedsOperator, call.permission()),
            };
            assert_eq!(error.class, class, "{row}: {error}");
            assert!(error.message.contains(words), "{row}: {words:?} is not in {error}");
            let said = error.message.split("; GitHub says").next().unwrap_or_default();
            let others = FIXES.iter().filter(|fix| !words.contains(**fix) && !fix.contains(words));
            for other in others.filter(|_| !words.is_empty()) {
                assert!(!said.contains(other), "{row}: {other:?} leads the wrong way: {error}");
            }
            if class == Class::NeedsOperator && status >= 400 && headers != HTML && !text.is_empty() {
                assert!(error.message.contains("GitHub says"), "{row}: the cause is in the log: {error}");
            }
        }
    }
}

/// What a mint alone is told, first and after others went well.
#[rustfmt::skip]
const MINTS: [(u16, &str, Means, Option<&str>); 12] = [
    (422, r#"{"message":"Validation Failed","errors":[{"resource":"Runner","field":"labels","code":"invalid"}]}"#, Fix("labels"), Some("check its labels")),
    (422, r#"{"message":"Invalid Argument - Label 'x' is reserved"}"#, Fix("labels"), Some("check its labels")),
    (422, r#"{"message":"Invalid Argument - Runner group 1 has reached max limit of 10000 runners."}"#, Fix("the runner group is full"), None),
    (422, r#"{"message":"Invalid runner group"}"#, Fix("RUNNER_GROUP_ID"), None),
    (422, r#"{"message":"Validation Failed"}"#, Fix("RUNNER_GROUP_ID"), Some("check its labels")),
    (422, "{}", Fix("RUNNER_GROUP_ID"), None),
    (422, r#"{"message":"Validation failed, or the endpoint has been spammed."}"#, Limited(60), None),
    (422, r#"{"message":"Validation Failed","errors":["was submitted too quickly"]}"#, Limited(60), None),
    (422, r#"{"message":"Validation Failed","errors":[{"resource":"Runner","code":"abuse"}]}"#, Limited(60), None),
    (422, r#"{"message":"Invalid Argument - Label 'abuse' is reserved"}"#, Fix("labels"), Some("check its labels")),
    (404, r#"{"message":"Not Found"}"#, Fix("RUNNER_GROUP_ID names no runner group"), None),
    (403, r#"{"message":"Resource not accessible by integration"}"#, Permission, None),
];

#[tokio::test]
async fn what_a_mint_alone_is_told() {
    for (status, body, means, later) in MINTS {
        for mints_well in [false, true] {
            let count = std::sync::atomic::AtomicUsize::new(usize::from(!mints_well));
            let server = Server::start(move |_| {
                let first = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
                let refusal =
                    || Response::builder().status(status).body(Body::from(body)).expect("an answer");
                Box::pin(ready(if first { minted() } else { refusal() }))
            })
            .await;
            let client = Client::new(&server, "ghp_x");
            if mints_well {
                assert!(matches!(client.mint(None).await, Ok(Minted::Created(_))));
            }
            let error = client.mint(None).await.expect_err("a refusal");
            let job_is_at_fault = (mints_well && later.is_some()) || body.to_lowercase().contains("label");
            let (class, words) = match (job_is_at_fault, later, means) {
                (true, Some(words), _) => (Class::Invalid, words),
                (_, _, Limited(seconds)) => {
                    (Class::RateLimited { after: Duration::from_secs(seconds) }, "rate limit")
                }
                (_, _, Fix(words)) => (Class::NeedsOperator, words),
                _ => (Class::NeedsOperator, Call::Mint.permission()),
            };
            assert_eq!(error.class, class, "{body}, {mints_well}: {error}");
            assert!(error.message.contains(words), "{body}: {error}");
        }
    }
}

/// What has no place in a log: an installation's token in both of its forms, a personal one in both, a JIT configuration,
/// a line of a key.
const SECRETS: [&str; 6] = [
    "ghs_16C7e42F292c6912E7710c838347Ae178B4a",
    "ghs_APPID_eyJhbGciOiJSUzI1NiJ9.eyJpYXQiOjE3NjcyNjg3NDB9.c2lnbmF0dXJl",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "github_pat_11ABCDEFG0abcdefghijkl_mnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "eyJydW5uZXIiOiJleUpCWjJWdWRFbGtJam9pTVRJek5EVTJOemc1SW4wPSJ9",
    "MIIEpAIBAAKCAQEA0Z3VS5JJcds3xfn/ygWyF8PbnGy0AHB7MhgHcTz6sE2I2yPB",
];

#[tokio::test]
async fn nothing_secret_in_any_answer_reaches_an_error() {
    for (at, (status, headers, text, _)) in CORPUS.into_iter().enumerate() {
        let secret = SECRETS[at % SECRETS.len()];
        let call = CALLS[at % CALLS.len()];
        let told = format!("{text} {secret}: '{secret}' ({secret}) token={secret}");
        let echoed = match headers == HTML {
            true => told,
            false => json!({"message": told, "token": secret, "errors": [secret, {"message": secret, "field": secret}]})
                .to_string(),
        };
        if let Err(error) = asked(call, status, headers, echoed).await {
            let printed = format!("{error} {error:?}");
            // Not even the greater part of one.
            for part in [&secret[..secret.len() - 12], &secret[12..]] {
                assert!(!printed.contains(part), "{call:?}: {status}: {printed}");
            }
        }
    }
}
