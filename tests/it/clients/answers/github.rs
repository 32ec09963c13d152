//! GitHub.

use gha_fargate_runners::{
    adapters::{github::GitHub, http::Http},
    error::{CallError, Class},
    ids::{JobId, RunnerId},
    ports::{Clock, Deleted, Deliveries, Github, Minted, Scope, SecretSource, Target},
};
use proptest::{prelude::*, sample::Index, test_runner::TestCaseError};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    CANARY, MOST_REQUESTS, NOW, Stage, cases, check_error,
    twists::{Answer, Recorded, recorded, wrong},
};

const KEY: &str = include_str!("../../../fixtures/app-key.pem");

struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> OffsetDateTime {
        NOW
    }
}

/// The App.
struct Vault;

impl SecretSource for Vault {
    async fn read(&self) -> Result<SecretString, CallError> {
        Ok(json!({"app_id": 7, "private_key": KEY}).to_string().into())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Mint,
    FindRunner,
    Runner,
    Runners,
    DeleteRunner,
    Job,
    Deliveries,
    Redeliver,
    Token,
    Installation,
}

const CALLS: [Call; 10] = [
    Call::Mint,
    Call::FindRunner,
    Call::Runner,
    Call::Runners,
    Call::DeleteRunner,
    Call::Job,
    Call::Deliveries,
    Call::Redeliver,
    Call::Token,
    Call::Installation,
];

impl Call {
    /// Which call a request belongs to.
    fn of(what: &str) -> Call {
        let path = what.split('?').next().unwrap_or_default();
        match what.split_once(' ').map(|(method, _)| method) {
            Some("DELETE") => Call::DeleteRunner,
            Some("POST") if path.ends_with("/generate-jitconfig") => Call::Mint,
            Some("POST") if path.ends_with("/access_tokens") => Call::Token,
            Some("POST") if path.ends_with("/attempts") => Call::Redeliver,
            _ if path.ends_with("/installation") => Call::Installation,
            _ if path.ends_with("/deliveries") => Call::Deliveries,
            _ if path.contains("/actions/jobs/") => Call::Job,
            _ if what.contains("?name=") => Call::FindRunner,
            _ if what.contains("?per_page=") => Call::Runners,
            _ => Call::Runner,
        }
    }

    /// What GitHub answers when all is well.
    fn well(self) -> Recorded {
        let runner = json!({
            "id": 23, "name": "fargate-1-1", "os": "Linux", "status": "online", "busy": false, "ephemeral": true,
            "labels": [{"id": 5, "name": "self-hosted", "type": "read-only"}, {"name": CANARY}],
        });
        let delivery = json!({
            "id": 12345678, "guid": "0b989ba4-242f-11e5-81e1-c7b6966d2516", "status": CANARY, "status_code": 502,
            "delivered_at": "2026-01-01T11:45:00Z", "redelivery": false, "duration": 0.27, "action": "queued",
            "event": "workflow_job", "installation_id": 123, "repository_id": 456,
        });
        match self {
            Call::Mint => recorded(201, json!({"runner": runner, "encoded_jit_config": CANARY.repeat(40)})),
            Call::FindRunner => recorded(200, json!({"total_count": 1, "runners": [runner]})),
            Call::Runner => recorded(200, runner),
            Call::Runners => recorded(200, json!({"total_count": 101, "runners": [runner, runner]})),
            Call::DeleteRunner => recorded(204, Value::Null),
            Call::Job => recorded(
                200,
                json!({
                    "id": 1, "run_id": 2, "status": "in_progress", "conclusion": null, "name": CANARY,
                    "created_at": "2026-01-01T11:45:00Z", "labels": ["self-hosted", CANARY], "runner_id": 23,
                    "runner_name": "fargate-1-1", "steps": [{"name": CANARY, "number": 1}],
                }),
            ),
            Call::Deliveries => recorded(200, json!([delivery, delivery])),
            Call::Redeliver => recorded(202, json!({"canary": CANARY})),
            Call::Token => recorded(
                201,
                json!({
                    "token": format!("ghs_{CANARY}"), "expires_at": "2026-01-01T13:00:00Z",
                    "permissions": {"organization_self_hosted_runners": "write"},
                }),
            ),
            Call::Installation => recorded(200, json!({"id": 2, "account": {"login": CANARY}})),
        }
    }

    /// And when it is not.
    fn refusals() -> Vec<Recorded> {
        let message =
            |text: &str| json!({"message": format!("{text} {CANARY}"), "documentation_url": CANARY});
        vec![
            recorded(401, message("Bad credentials")),
            recorded(403, message("Resource not accessible by integration")),
            recorded(403, message("You have exceeded a secondary rate limit.")),
            recorded(404, message("Not Found")),
            recorded(409, message("Already exists - A runner with the name")),
            recorded(422, message("Validation Failed")),
            recorded(429, message("API rate limit exceeded")),
            recorded(502, message("Server Error")),
        ]
    }

    /// The answers that are no errors.
    fn expects(self, status: u16) -> bool {
        match self {
            Call::Mint => matches!(status, 201 | 409),
            Call::Runner => matches!(status, 200 | 404),
            // 403 only where GitHub says that we may not see it.
            Call::Job => matches!(status, 200 | 301 | 302 | 307 | 308 | 403 | 404 | 410 | 451),
            Call::DeleteRunner => matches!(status, 204 | 404 | 422),
            Call::Redeliver => matches!(status, 202 | 400 | 404 | 422),
            // An App without a webhook.
            Call::Deliveries => matches!(status, 200 | 404),
            Call::Token => status == 201,
            _ => status == 200,
        }
    }

    /// A lost answer leaves something behind that nobody knows of.
    fn leaves_something(self) -> bool {
        matches!(self, Call::Mint | Call::Redeliver | Call::Token)
    }
}

fn target() -> Target {
    Target { owner: "octo-org".to_owned(), repository: Some("octo-repo".to_owned()), ..Target::default() }
}

/// Makes the call, and judges what it makes of the answer.
async fn ask(
    github: &GitHub<Vault, Stopped>,
    call: Call,
    answer: &Answer,
) -> Result<Result<(), CallError>, TestCaseError> {
    let (target, id, name) = (target(), RunnerId(23), "fargate-1-1");
    Ok(match call {
        Call::Mint | Call::Token | Call::Installation => {
            let minted = github.mint(&target, name, &["self-hosted".to_owned()], None).await;
            match &minted {
                Ok(Minted::Created(registration)) if call == Call::Mint => {
                    let (id, config) = (registration.id.0, registration.encoded.expose_secret());
                    prop_assert_eq!(answer.status, 201);
                    match answer.json() {
                        Some(json) => {
                            prop_assert_eq!(json["runner"]["id"].as_u64(), Some(id));
                            prop_assert_eq!(json["encoded_jit_config"].as_str(), Some(config));
                        }
                        // A number that only a reader of all the rest stumbles over.
                        None => prop_assert!(answer.body.contains(&id.to_string())),
                    }
                }
                Ok(Minted::NameTaken) => prop_assert_eq!((call, answer.status), (Call::Mint, 409)),
                Ok(Minted::Created(_)) | Err(_) => {}
            }
            if minted.is_ok() {
                let printed = format!("{minted:?}");
                prop_assert!(!printed.contains("c-a-n"), "{}", printed);
            }
            minted.map(drop)
        }
        Call::FindRunner => {
            let found = github.find_runner(&target, name).await;
            if let Ok(Some(runner)) = &found {
                prop_assert_eq!(&runner.name, name);
            }
            found.map(drop)
        }
        Call::Runner => {
            let found = github.runner(&target, id).await;
            prop_assert!(!matches!(found, Ok(None)) || answer.status == 404);
            found.map(drop)
        }
        Call::Runners => {
            let listed = github.runners(&target, 1).await;
            if let Ok(Some((runners, more))) = &listed {
                prop_assert!(!more || !runners.is_empty());
            }
            listed.map(drop)
        }
        Call::DeleteRunner => {
            let deleted = github.delete_runner(&target, id).await;
            if let Ok(deleted) = &deleted {
                let status = match deleted {
                    Deleted::Spent => 204,
                    Deleted::Gone => 404,
                    Deleted::Busy => 422,
                };
                prop_assert_eq!(answer.status, status);
            }
            deleted.map(drop)
        }
        Call::Job => {
            let job = github.job(&target, JobId(1)).await;
            prop_assert!(!matches!(job, Ok(None)) || (answer.status != 200 && call.expects(answer.status)));
            job.map(drop)
        }
        Call::Deliveries => match github.deliveries("the App", None).await {
            Ok((_, Some(cursor))) => github.deliveries("the App", Some(&cursor)).await.map(drop),
            page => page.map(drop),
        },
        Call::Redeliver => {
            let sent = github.redeliver("the App", 1).await;
            prop_assert!(!matches!(sent, Ok(true)) || answer.status == 202);
            sent.map(drop)
        }
    })
}

/// `message` of a refusal is quoted, and nothing else of an answer: `errors` and all headers are clean.
fn without_github_s_words(error: CallError) -> CallError {
    let Some((before, after)) = error.message.split_once("GitHub says \"") else { return error };
    let (quote, rest) = after.split_once('"').expect("an end");
    assert!(quote.chars().count() <= 240 && !quote.contains(char::is_control), "{quote}");
    CallError::new(error.class, format!("{before}{rest}"))
}

#[test]
fn github_s_answers() {
    let stage = Stage::new();
    let http = Http::new();
    let answers =
        (proptest::sample::select(CALLS.to_vec()), proptest::option::weighted(0.3, any::<Index>()), wrong());
    proptest!(cases(2_000), |((call, refusal, wrong) in answers)| {
        let refusals = Call::refusals();
        let recorded = refusal.map_or_else(|| call.well(), |index| index.get(&refusals).clone());
        let answer = wrong.applied_to(&recorded);
        let served = answer.clone();
        stage.server.will_answer(move |asked| match Call::of(&asked.what) {
            asked if asked == call => served.sent(),
            other => Answer::from(&other.well()).sent(),
        });
        let github =
            GitHub::with_clock(http.clone(), stage.server.url.clone(), Scope::Org, 1, Vault, Stopped);
        let asked = stage.runtime.block_on(ask(&github, call, &answer))?;
        prop_assert!(stage.server.count() <= MOST_REQUESTS, "{} requests", stage.server.count());
        let Err(error) = asked else {
            // A redirection is followed, and what is there may answer well.
            let leads_on = matches!(answer.status, 301 | 302 | 307 | 308)
                && answer.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("location"));
            prop_assert!(leads_on || call.expects(answer.status), "{} is a success", answer.status);
            return Ok(());
        };
        check_error(&without_github_s_words(error.clone()))?;
        let lost = if call.leaves_something() { Class::Unknown } else { Class::Transient };
        let refused = (300..500).contains(&answer.status) && answer.status != 408;
        match error.class {
            class if class == lost => {}
            // What it left was deleted at once.
            Class::Transient if error.message.contains("without a configuration") => {}
            // Of what was a success, the next call is not asked.
            Class::RateLimited { .. } if error.message.contains("not asked") => {
                let is_last = format!("{:?}", answer.headers).contains("x-ratelimit-remaining");
                prop_assert!(answer.status != 403 && is_last, "{:?}", error);
            }
            Class::RateLimited { .. } => prop_assert!(matches!(answer.status, 403 | 429), "{:?}", error),
            Class::NeedsOperator => {
                let expected = call.expects(answer.status) && answer.status != 403;
                prop_assert!(refused && !expected, "{:?}", error);
            }
            _ => prop_assert!(false, "{:?}", error),
        }
    });
}

#[test]
fn a_list_of_runners_that_has_no_end() {
    let stage = Stage::new();
    stage.server.will_answer(|asked| {
        let mut recorded = Call::of(&asked.what).well();
        if Call::of(&asked.what) == Call::Runners {
            recorded.body["total_count"] = u64::MAX.into();
        }
        Answer::from(&recorded).sent()
    });
    let github = GitHub::with_clock(Http::new(), stage.server.url.clone(), Scope::Org, 1, Vault, Stopped);
    let error = stage.runtime.block_on(async {
        for page in 1..1_000 {
            match github.runners(&target(), page).await {
                Ok(listed) => assert!(listed.is_some_and(|(_, more)| more)),
                Err(error) => return error,
            }
        }
        panic!("it has no end");
    });
    assert_eq!(error.class, Class::Transient, "{error}");
}
