//! What GitHub and AWS answer, changed at random and served over HTTP: the adapters read it or refuse it. Nothing
//! panics, every call ends, no wait is absurd, and no error quotes the answer. What leaves something behind is
//! never taken for done, and never for refused, when the answer cannot be read.
//!
//! Answers that once failed are kept in `answers.proptest-regressions`.

mod aws;
mod github;
mod server;
mod twists;

use std::time::Duration;

use self::server::Server;
use gha_fargate_runners::{
    error::{CallError, Class},
    lambda::outcome::Outcome,
};
use proptest::{
    prelude::*,
    test_runner::{FileFailurePersistence, TestCaseError},
};
use time::{OffsetDateTime, macros::datetime};

/// The time, for all that is asked here.
const NOW: OffsetDateTime = datetime!(2026-01-01 12:00 UTC);
/// It is in every answer, and every piece of it has a hyphen where no word of ours has one.
const CANARY: &str = "c-a-n-a-r-y";
/// One call, with the tokens, second tries and second pages that go with it.
const MOST_REQUESTS: usize = 12;

/// A server, and the runtime that it and its clients run in.
struct Stage {
    runtime: tokio::runtime::Runtime,
    server: Server,
}

impl Stage {
    fn new() -> Stage {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let server = runtime.block_on(Server::start());
        Stage { runtime, server }
    }
}

fn cases(usual: u32) -> ProptestConfig {
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/clients/answers/answers.proptest-regressions");
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(kept))),
        ..ProptestConfig::with_cases(crate::changes::cases(usual))
    }
}

/// What holds of every error.
fn check_error(error: &CallError) -> Result<(), TestCaseError> {
    let text = format!("{error} {error:?}");
    for piece in ["c-a-n", "n-a-r", "a-r-y"] {
        prop_assert!(!text.contains(piece), "the answer is quoted: {}", text);
    }
    prop_assert!(text.len() < 1_500, "fit for a log line: {}", text);
    if let Class::RateLimited { after } = error.class {
        prop_assert!(after >= Duration::from_secs(1), "{}", text);
        prop_assert!(NOW.checked_add(after.try_into().unwrap_or(time::Duration::MAX)).is_some(), "{}", text);
        prop_assert!(after <= Duration::from_secs(12 * 60 * 60), "{}", text);
    }
    match Outcome::from(error.clone()) {
        Outcome::Deferred(deferral) => {
            // "The maximum is 43200 seconds", from the receive (SQS, ChangeMessageVisibility).
            let delay = deferral.wait.delay(1, "id");
            prop_assert!((1..43_200).contains(&delay.as_secs()), "{:?}: {}", delay, text);
        }
        outcome => prop_assert!(false, "the job would be lost: {:?}", outcome),
    }
    Ok(())
}
