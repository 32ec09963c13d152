//! What settings lead to, and which are refused.

use proptest::prelude::*;

use super::*;
use crate::ids::{Attempt, JobId, Purpose};

fn get<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
    move |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
}

const LEAST: [(&str, &str); 3] =
    [("ECS_CLUSTER", "runners"), ("SUBNET_IDS", "subnet-1, subnet-2"), ("SECURITY_GROUP_IDS", "sg-1")];

#[test]
fn defaults() {
    let config = DispatchConfig::read(get(&LEAST)).expect("a configuration");
    assert_eq!(config.fleet.task_definition, "gha-jit-self-hosted-fargate-runner");
    assert_eq!(config.fleet.container, "runner");
    assert_eq!(config.fleet.capacities, [Capacity::LaunchType]);
    assert_eq!(config.network.subnets, ["subnet-1", "subnet-2"]);
    assert!(config.network.public_ip);
    assert_eq!((config.max_runners, config.max_attempts), (0, 5));
    assert_eq!(config.github, None);
    assert!(!config.policy.allow_public && !config.policy.arm64);
}

#[test]
fn all_mistakes_are_reported_together() {
    let mistakes = DispatchConfig::read(get(&[
        ("SUBNET_IDS", "subnet-1,vpc-2"),
        ("CAPACITY", "FARGATE,SPOT"),
        ("ASSIGN_PUBLIC_IP", "yes"),
        ("MAX_RUNNERS", "-1"),
        ("MAX_CPU", "17"),
        ("MAX_MEMORY", "8GB"),
        ("MAX_DISK", "0"),
        ("MAX_ATTEMPTS", "0"),
        ("ALLOWED_REPOSITORIES", "acme"),
        ("ALLOW_PUBLIC_REPOSITORIES", "perhaps"),
        ("RUNNER_SCOPE", "enterprise/"),
        ("GITHUB_API_URL", "http://ghes.acme.test"),
        ("DEAD_LETTER_QUEUE_URL", "queue"),
    ]))
    .expect_err("mistakes");
    expect_test::expect![[r#"environment: RUNNER_SCOPE should be org, repo or enterprise/<slug>, but it is "enterprise/"; GITHUB_API_URL should be a URL such as https://HOST/api/v3, but it is "http://ghes.acme.test"; ECS_CLUSTER should be the name or ARN of an ECS cluster, but it is not set; CAPACITY should be FARGATE, FARGATE_SPOT or both in order of preference, separated by a comma, but it is "FARGATE,SPOT"; SUBNET_IDS should be a list such as subnet-0123456789abcdef0, separated by commas, but it is "subnet-1,vpc-2"; SECURITY_GROUP_IDS should be a list such as sg-0123456789abcdef0, separated by commas, but it is not set; ASSIGN_PUBLIC_IP should be ENABLED or DISABLED, but it is "yes"; MAX_CPU should be a whole number from 1 to 16, but it is "17"; MAX_MEMORY should be a whole number from 1 to 120, but it is "8GB"; MAX_DISK should be a whole number from 1 to 200, but it is "0"; ALLOWED_REPOSITORIES should be a list of owner/repo patterns such as acme/*, but it is "acme"; ALLOW_PUBLIC_REPOSITORIES should be true or false, but it is "perhaps"; MAX_RUNNERS should be a whole number of 0 or more, but it is "-1"; MAX_ATTEMPTS should be a whole number of 1 or more, but it is "0"; DEAD_LETTER_QUEUE_URL should be the URL of an SQS queue, but it is "queue""#]]
    .assert_eq(&mistakes.to_string());
}

#[test]
fn reconcile_needs_a_network_and_credentials_only_for_the_pool() {
    assert!(ReconcileConfig::read(get(&[("ECS_CLUSTER", "runners")])).is_ok());
    let pool = [("ECS_CLUSTER", "runners"), ("WARM_POOL_SIZE", "2")];
    let error = ReconcileConfig::read(get(&pool)).expect_err("a mistake").to_string();
    for name in ["SUBNET_IDS", "SECURITY_GROUP_IDS", "GITHUB_SECRET_ARN"] {
        assert!(error.contains(name), "{name}: {error}");
    }
    let secret = ("GITHUB_SECRET_ARN", "arn:aws:secretsmanager:x");
    let pool = [LEAST.as_slice(), &[("WARM_POOL_SIZE", "2"), secret, ("ORGANIZATION", "acme")]].concat();
    let config = ReconcileConfig::read(get(&pool)).expect("a configuration");
    assert_eq!(config.pool.map(|pool| pool.size), Some(2));
}

#[test]
fn a_pool_has_labels_that_its_runners_can_have() {
    let secret = ("GITHUB_SECRET_ARN", "arn:aws:secretsmanager:x");
    let read = |labels: &str| {
        let more = [("WARM_POOL_SIZE", "1"), secret, ("ORGANIZATION", "acme"), ("RUNNER_LABELS", labels)];
        ReconcileConfig::read(get(&[LEAST.as_slice(), &more].concat())).map(|config| config.pool)
    };
    let pool = read("self-hosted,x64,ARM64,fargate").expect("a configuration").expect("a pool");
    assert_eq!(pool.labels, ["self-hosted", "x64", "fargate"], "it has no arm64");
    let (many, long) = (vec!["x"; 101].join(","), "x".repeat(257));
    for labels in ["*", "self-hosted,*", "arm64", "self-hosted,a\u{7}b", &many, &long] {
        let error = read(labels).expect_err(labels).to_string();
        assert!(error.contains("RUNNER_LABELS should be 1 to 100 labels that a runner can have"), "{error}");
    }
    let without = [LEAST.as_slice(), &[("RUNNER_LABELS", "*")]].concat();
    assert!(ReconcileConfig::read(get(&without)).is_ok(), "without a pool, all may be offered");
}

#[test]
fn a_definition_of_nothing_but_spaces_is_none() {
    for (value, want) in [("", false), ("  ", false), (" runner-arm64 ", true)] {
        let all =
            [LEAST.as_slice(), &[("WEBHOOK_SECRET_ARN", "x"), ("TASK_DEFINITION_ARM64", value)]].concat();
        let dispatch = DispatchConfig::read(get(&all)).expect("a configuration");
        let webhook = WebhookConfig::read(get(&all)).expect("a configuration");
        let arm64 =
            [dispatch.fleet.task_definition_arm64.is_some(), dispatch.policy.arm64, webhook.policy.arm64];
        assert_eq!(arm64, [want; 3], "{value:?}");
    }
}

#[test]
fn no_label_is_offered_that_no_job_can_name() {
    for labels in ["self-hosted,acme/fargate", "/", "*,a/b"] {
        let more = [("WEBHOOK_SECRET_ARN", "x"), ("RUNNER_LABELS", labels)];
        let all = [LEAST.as_slice(), &more].concat();
        let errors = [
            DispatchConfig::read(get(&all)).err(),
            ReconcileConfig::read(get(&all)).err(),
            WebhookConfig::read(get(&all)).err(),
        ];
        for error in errors {
            let error = error.expect(labels).to_string();
            assert_eq!(error.matches("a / in it, which parts labels").count(), 1, "{error}");
        }
    }
}

fn names(prefix: &str) -> Option<RunnerNames> {
    let all = [("ECS_CLUSTER", "runners"), ("RUNNER_NAME_PREFIX", prefix)];
    ReconcileConfig::read(get(&all)).ok().map(|config| config.policy.names)
}

#[test]
fn a_prefix_that_would_make_another_fleet_s_pool_is_refused() {
    assert_eq!(names("acme-pool"), None);
    for prefix in ["pool", "acme-pools", "acme_pool", "acme-pool-1"] {
        assert_eq!(names(prefix), Some(RunnerNames(prefix.to_owned())));
    }
}

proptest! {
    /// Several stacks in an organisation: each takes its own runners for its own, and no other's.
    #[test]
    fn no_fleet_reads_another_s_names(
        one in "[ap]((-|pool|[0-9]|a){0,5})", more in "((-|pool|[0-9]|a){1,5})", job in 0..3u64, slot in 0..3u32,
    ) {
        for (one, other) in [(one.clone(), format!("{one}{more}")), (one.clone(), format!("{one}-{more}"))] {
            let (Some(one), Some(other)) = (names(&one), names(&other)) else { continue };
            for purpose in [Purpose::Job(JobId(job), Attempt(slot)), Purpose::Pool { window: job, slot }] {
                prop_assert_eq!(one.read(&other.of(&purpose)), None, "{}", other.of(&purpose));
                prop_assert_eq!(other.read(&one.of(&purpose)), None, "{}", one.of(&purpose));
            }
        }
    }
}

#[test]
fn scopes() {
    assert_eq!(scope("org"), Some(Scope::Org));
    assert_eq!(scope("repo"), Some(Scope::Repo));
    assert_eq!(scope("enterprise/acme"), Some(Scope::Enterprise("acme".into())));
    for text in ["", "organisation", "enterprise", "enterprise/", "enterprise/a/b"] {
        assert_eq!(scope(text), None, "{text}");
    }
}
