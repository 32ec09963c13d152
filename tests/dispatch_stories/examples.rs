//! GitHub's published `workflow_job` examples: the class that each gets.

use std::fmt::Write;

use expect_test::expect;
use gha_fargate_runners::{
    job,
    labels::Offered,
    policy::{Policy, RepositoryGlob, Verdict},
};
use serde_json::Value;

#[test]
fn the_published_examples_get_their_class() {
    let examples: Vec<Value> =
        serde_json::from_str(include_str!("../fixtures/github/workflow_job.json")).expect("the examples");
    let policy = Policy {
        offered: Offered::new(["*"]),
        organization: None,
        repositories: vec![RepositoryGlob::new("*")],
        allow_public: true,
        arm64: true,
    };
    let mut classes = String::new();
    for example in examples {
        let class = match job::read(&example.to_string()) {
            Ok(job::Message::WorkflowJob(event)) => match policy.judge(&event) {
                Verdict::Run(_) => "run".to_owned(),
                Verdict::Skip(skip) => format!("skip: {}", skip.detail),
                Verdict::Reject(reason) => format!("reject: {reason}"),
            },
            other => format!("{other:?}"),
        };
        let (action, status) = (&example["action"], &example["workflow_job"]["status"]);
        let _ = writeln!(classes, "{action} {status} {} → {class}", example["workflow_job"]["labels"]);
    }
    expect![[r#"
        "in_progress" "in_progress" ["gpu","db-app","dc-03"] → skip: the event says of no job that it was queued
        "completed" "completed" ["ubuntu-latest"] → skip: the event says of no job that it was queued
        "completed" "completed" ["ubuntu-latest"] → skip: the event says of no job that it was queued
        "in_progress" "in_progress" ["ubuntu-latest"] → skip: the event says of no job that it was queued
        "in_progress" "in_progress" ["ubuntu-latest"] → skip: the event says of no job that it was queued
        "queued" "queued" ["ubuntu-latest"] → skip: label "self-hosted" is missing
        "queued" "waiting" ["self-hosted","k8s"] → skip: the job is not queued yet, or not any more
        "waiting" "waiting" ["self-hosted","k8s"] → skip: the event says of no job that it was queued
    "#]].assert_eq(&classes);
}
