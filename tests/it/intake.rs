//! What comes from outside, changed at random: it is read or refused, and nothing panics. Inputs that once failed
//! are kept in `tests/it/intake.proptest-regressions`.

use std::sync::LazyLock;

use crate::changes::{apply, cases, changes};
use gha_fargate_runners::{
    flows::doctor,
    ids::{RunnerNames, RunnerVersion},
    intake::{
        labels::{self, Offered},
        lifecycle::{self, Lifecycle},
        payload::{self, Message},
        request::Request,
        signature::WebhookSecrets,
    },
};
use proptest::{prelude::*, test_runner::FileFailurePersistence};

const EXAMPLES: &str = include_str!("../fixtures/github/workflow_job.json");

/// GitHub's published examples, one a line.
static PUBLISHED: LazyLock<Vec<String>> = LazyLock::new(|| {
    let examples: Vec<serde_json::Value> = serde_json::from_str(EXAMPLES).expect("the examples are JSON");
    examples.iter().map(ToString::to_string).collect()
});

/// What each front door hands over, as its own documentation has it.
const REQUESTS: [&str; 3] = [
    r#"{"version":"2.0","headers":{"x-github-event":"workflow_job","x-hub-signature-256":"sha256=00"},"body":"e30=",
        "isBase64Encoded":true,"requestContext":{"http":{"method":"POST","sourceIp":"192.0.2.1"}}}"#,
    r#"{"version":"1.0","httpMethod":"POST","headers":{"X-GitHub-Event":"ping"},"body":"{}","isBase64Encoded":false,
        "multiValueHeaders":{"X-GitHub-Event":["ping"]},"requestContext":{"identity":{"sourceIp":"192.0.2.1"}}}"#,
    r#"{"requestContext":{"elb":{"targetGroupArn":"arn"}},"httpMethod":"POST","body":"{}","isBase64Encoded":false,
        "multiValueHeaders":{"x-github-event":["push","ping"],"x-forwarded-for":["192.0.2.1"]}}"#,
];

const STOPPED: &str = include_str!("../fixtures/ecs/task-stopped.json");
const OWN: &str = r#"{"replacement":{"job_id":7,"attempt":2,"labels":["self-hosted","cpu=2"],"owner":"octo-org",
    "repository":"example-workflow","run_id":3,"installation_id":5,"registered":true}}"#;
const SECRETS: &str = r#"{"current":"a secret","previous":"another"}"#;

fn config() -> ProptestConfig {
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/intake.proptest-regressions");
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(kept))),
        ..ProptestConfig::with_cases(cases(4_000))
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn payloads_and_envelopes(example in any::<prop::sample::Index>(), changes in changes(), wrapped: bool) {
        let example = example.get(&PUBLISHED);
        let whole = match wrapped {
            true => format!("{{\"detail-type\":\"workflow_job\",\"detail\":{example}}}"),
            false => example.clone(),
        };
        prop_assert!(payload::read(&whole).is_ok(), "as published, it is read");
        let changed = apply(&whole, &changes);
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&changed).is_ok();
        let read = payload::read(&changed);
        prop_assert!(is_json || read.is_err(), "what is no JSON is refused");
        if let Err(refused) = read {
            prop_assert!(refused.to_string().len() < 300, "a reason fit for a log line");
        }
        let _ = lifecycle::read(&changed);
        let _ = payload::trimmed(&changed);
    }

    #[test]
    fn labels_of_any_kind(labels in prop::collection::vec("[a-z0-9=/_.-]{0,20}|.{0,8}|(cpu|ram|disk)=[0-9]{0,12}", 0..6)) {
        for offered in [Offered::new(["self-hosted", "fargate"]), Offered::Any] {
            if let Ok(sizing) = labels::read(&labels, &offered) {
                prop_assert!(sizing.disk_gib.is_none_or(|gib| (21..=200).contains(&gib)));
            }
        }
    }

    #[test]
    fn names_of_runners(name in "(fargate-)?(pool-)?[0-9+-]{0,24}(-[0-9]{0,12})?|.{0,20}") {
        if let Some(purpose) = RunnerNames::default().read(&name) {
            prop_assert_eq!(RunnerNames::default().of(&purpose), name);
        }
    }

    #[test]
    fn signatures(header in "sha256=[0-9a-fA-F]{0,70}|.{0,90}", body: Vec<u8>) {
        let secrets = WebhookSecrets::parse(&"a secret".into()).expect("a secret");
        prop_assert!(!secrets.verify(&header, &body));
    }
    #[test]
    fn requests_at_the_front_door(which in 0..REQUESTS.len(), changes in changes()) {
        let changed = apply(REQUESTS[which], &changes);
        prop_assert!(doctor::asked(&changed).is_none(), "nobody asks the doctor from outside");
        let Ok(event) = serde_json::from_str(&changed) else { return Ok(()) };
        if let Some(request) = Request::read(event) {
            let _ = request.header("x-hub-signature-256");
        }
    }

    #[test]
    fn messages_of_this_system_s_own(changes in changes()) {
        let changed = apply(OWN, &changes);
        match payload::read(&changed) {
            Ok(Message::Replacement(own)) => {
                prop_assert!((1..=1000).contains(&own.attempt.0));
                for name in std::iter::once(&own.owner).chain(&own.repository) {
                    prop_assert!(!name.is_empty() && name.len() <= 100, "{}", name);
                    prop_assert!(!matches!(name.as_str(), "." | "..") && !name.contains('/'), "{}", name);
                }
                prop_assert_eq!(payload::read(&own.to_body()), Ok(Message::Replacement(own)));
            }
            Ok(_) => {}
            Err(refused) => prop_assert!(refused.to_string().len() < 300, "{}", refused),
        }
    }

    #[test]
    fn tasks_that_stopped(changes in changes()) {
        match lifecycle::read(&apply(STOPPED, &changes)) {
            Ok(Lifecycle::TaskStopped(task)) => {
                let _ = (task.stop.why(), task.stop.fix(), task.stop.ended_in_order(), task.stop.lost());
            }
            Ok(_) => {}
            Err(refused) => prop_assert!(refused.to_string().len() < 300, "{}", refused),
        }
    }

    #[test]
    fn secrets_of_the_webhook(changes in changes(), header in "sha256=[0-9a-f]{64}", body: Vec<u8>) {
        if let Some(secrets) = WebhookSecrets::parse(&apply(SECRETS, &changes).into()) {
            prop_assert!(!secrets.verify(&header, &body));
        }
    }

    #[test]
    fn versions_of_runners(text in "(actions-runner-(linux|osx)-x64-)?[0-9.]{0,30}(.tar.gz)?|.{0,20}") {
        for version in [RunnerVersion::read(&text), RunnerVersion::of_file(&text)].into_iter().flatten() {
            let _ = version.behind(RunnerVersion::read("2.337.0").expect("a version"));
        }
    }
}
