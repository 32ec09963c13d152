//! GitHub's published `workflow_job` examples: the class that each gets.

use std::fmt::Write;

use expect_test::expect;
use gha_fargate_runners::intake::{
    glob::RepositoryGlob,
    labels::{Most, Offered},
    payload,
    policy::{Policy, Verdict},
};
use serde_json::{Value, json};
use time::OffsetDateTime;

#[test]
fn the_published_examples_get_their_class() {
    let examples: Vec<Value> =
        serde_json::from_str(include_str!("../../../fixtures/github/workflow_job.json"))
            .expect("the examples");
    let policy = Policy {
        names: Default::default(),
        offered: Offered::new(["*"]),
        organization: None,
        repositories: vec![RepositoryGlob::new("*")],
        allow_public: true,
        arm64: true,
        most: Most::default(),
    };
    let mut classes = String::new();
    for example in examples {
        let class = match payload::read(&example.to_string()) {
            Ok(payload::Message::WorkflowJob(event)) => {
                match policy.judge(&event, OffsetDateTime::UNIX_EPOCH, None) {
                    Verdict::Run(_) => "run".to_owned(),
                    Verdict::Skip(skip) => format!("skip: {}", skip.detail),
                    Verdict::Reject(reason) => format!("reject: {reason}"),
                }
            }
            other => format!("{other:?}"),
        };
        let (action, status) = (&example["action"], &example["workflow_job"]["status"]);
        let _ = writeln!(classes, "{action} {status} {} → {class}", example["workflow_job"]["labels"]);
    }
    expect![[r#"
        "in_progress" "in_progress" ["gpu","db-app","dc-03"] → skip: the action is not "queued"
        "completed" "completed" ["ubuntu-latest"] → skip: the action is not "queued"
        "completed" "completed" ["ubuntu-latest"] → skip: the action is not "queued"
        "in_progress" "in_progress" ["ubuntu-latest"] → skip: the action is not "queued"
        "in_progress" "in_progress" ["ubuntu-latest"] → skip: the action is not "queued"
        "queued" "queued" ["ubuntu-latest"] → skip: label "self-hosted" is missing
        "queued" "waiting" ["self-hosted","k8s"] → skip: the job is not queued yet, or not any more
        "waiting" "waiting" ["self-hosted","k8s"] → skip: the action is not "queued"
    "#]]
    .assert_eq(&classes);
}

/// The fields that are read: where they are, and which kinds of value they may have.
const READ: [(&str, &[&str]); 17] = [
    ("/action", &["text"]),
    ("/workflow_job", &[]),
    ("/workflow_job/id", &[]),
    ("/workflow_job/run_id", &[]),
    ("/workflow_job/status", &["text"]),
    ("/workflow_job/labels", &["list"]),
    ("/workflow_job/name", &["text", "null", "missing"]),
    ("/workflow_job/workflow_name", &["text", "null", "missing"]),
    ("/workflow_job/created_at", &["null", "missing"]),
    ("/workflow_job/runner_name", &["text", "null", "missing"]),
    ("/repository", &[]),
    ("/repository/name", &["text"]),
    ("/repository/owner", &[]),
    ("/repository/owner/login", &["text"]),
    ("/repository/private", &["flag"]),
    ("/installation", &["null", "missing"]),
    ("/installation/id", &[]),
];

/// All places in a payload, and what is put there instead.
fn mutations(payload: &Value) -> Vec<(String, &'static str, Option<Value>)> {
    fn paths(value: &Value, path: &str, all: &mut Vec<String>) {
        let children: Vec<(String, &Value)> = match value {
            Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), value)).collect(),
            Value::Array(items) => {
                items.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect()
            }
            _ => Vec::new(),
        };
        for (key, value) in children {
            let path = format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
            paths(value, &path, all);
            all.push(path);
        }
    }
    let mut all = Vec::new();
    paths(payload, "", &mut all);
    let instead = [
        ("null", Some(json!(null))),
        ("flag", Some(json!(true))),
        ("number", Some(json!(-1.5))),
        ("text", Some(json!("s3cret"))),
        ("list", Some(json!([]))),
        ("object", Some(json!({ "s3cret": 1 }))),
        ("missing", None),
    ];
    all.into_iter()
        .flat_map(|path| instead.clone().map(|(kind, value)| (path.clone(), kind, value)))
        .collect()
}

fn mutated(payload: &Value, path: &str, value: Option<Value>) -> Value {
    let mut payload = payload.clone();
    let (parent, key) = path.rsplit_once('/').expect("a path");
    match (value, payload.pointer_mut(parent).expect("a parent")) {
        (None, Value::Object(fields)) => drop(fields.remove(&key.replace("~1", "/").replace("~0", "~"))),
        (None, Value::Array(items)) => drop(items.remove(key.parse().expect("an index"))),
        (Some(value), _) => *payload.pointer_mut(path).expect("a place") = value,
        (None, _) => unreachable!("only objects and arrays have children"),
    }
    payload
}

#[test]
fn ten_thousand_mutated_examples_get_the_class_that_their_change_deserves() {
    let queued: Value =
        serde_json::from_str(include_str!("../../../../events/queued.json")).expect("a payload");
    let mut tried = 0;
    // The first change decides; a second one anywhere else makes it ten thousand different payloads.
    let changes = mutations(&queued);
    for (round, (path, kind, value)) in changes.iter().cycle().take(10_000).enumerate() {
        let mut payload = mutated(&queued, path, value.clone());
        payload[format!("unknown-{round}")] = json!(round);
        let read = payload::read(&payload.to_string());
        let allowed = READ.iter().find(|(read, _)| read == path).map(|(_, kinds)| kinds);
        // A label of another type; a label that is taken away, or renamed, is a label all the same.
        let is_label = path.starts_with("/workflow_job/labels/");
        let readable = match allowed {
            Some(kinds) => kinds.contains(kind),
            None => !is_label || matches!(*kind, "text" | "missing"),
        };
        match read {
            Ok(payload::Message::WorkflowJob(_)) => assert!(readable, "{path} {kind} was read"),
            Ok(other) => panic!("{path} {kind}: {other:?}"),
            Err(error) => {
                assert!(!readable, "{path} {kind}: {error}");
                assert!(!error.to_string().contains("s3cret"), "{error}");
            }
        }
        tried += 1;
    }
    assert_eq!(tried, 10_000);
}
