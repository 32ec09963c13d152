//! What comes from outside, changed at random: it is read or refused, and nothing panics. Inputs that once failed
//! are kept in `tests/it/intake.proptest-regressions`.

use crate::changes::{apply, changes};
use gha_fargate_runners::{
    ids::RunnerNames,
    intake::{
        labels::{self, Offered},
        lifecycle, payload,
        signature::WebhookSecrets,
    },
};
use proptest::{prelude::*, test_runner::FileFailurePersistence};

const EXAMPLES: &str = include_str!("../fixtures/github/workflow_job.json");

/// GitHub's published examples, one a line.
fn examples() -> Vec<String> {
    let examples: Vec<serde_json::Value> = serde_json::from_str(EXAMPLES).expect("the examples are JSON");
    examples.iter().map(ToString::to_string).collect()
}

fn config() -> ProptestConfig {
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/intake.proptest-regressions");
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(kept))),
        ..ProptestConfig::with_cases(4_000)
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn payloads_and_envelopes(example in any::<prop::sample::Index>(), changes in changes(), wrapped: bool) {
        let examples = examples();
        let example = &examples[example.index(examples.len())];
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
}
