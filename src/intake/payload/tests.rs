use serde_json::{Value, json};

use super::*;
use crate::{
    ids::{Attempt, InstallationId, JobId, RepositoryId, RunnerId},
    ports::JobStatus,
};

fn payload() -> Value {
    json!({
        "action": "queued",
        "workflow_job": {
            "id": 1, "run_id": 2, "status": "queued", "labels": ["self-hosted"],
            "created_at": "2026-11-24T08:00:00Z", "runner_name": null
        },
        "repository": { "id": 5, "name": "app", "private": true, "owner": { "login": "acme" } },
        "installation": { "id": 7 }
    })
}

fn workflow_job(body: &Value) -> WorkflowJob {
    match read(&body.to_string()) {
        Ok(Message::WorkflowJob(event)) => *event,
        other => panic!("{other:?}"),
    }
}

#[test]
fn bare_and_enveloped_payloads_read_alike() {
    let bare = workflow_job(&payload());
    let mut envelope = json!({ "source": "github.com", "detail-type": "workflow_job", "detail": payload() });
    assert_eq!(bare, workflow_job(&envelope));
    envelope["time"] = json!("2026-11-24T08:00:01Z");
    assert_eq!(workflow_job(&envelope).arrived_at, rfc3339("2026-11-24T08:00:01Z"));
    envelope["time"] = json!("noon");
    assert!(read(&envelope.to_string()).is_err());
    assert_eq!(bare.job.target.name(), "acme/app");
    assert_eq!(bare.job.target.installation, Some(InstallationId(7)));
    assert_eq!(bare.job.target.repository_id, Some(RepositoryId(5)));
    assert!(!bare.public);
}

#[test]
fn a_trimmed_payload_reads_the_same() {
    let mut large = payload();
    large["workflow_job"]["steps"] = json!(["x".repeat(1_000_000)]);
    large["sender"] = json!({ "login": "octocat", "bio": "long" });
    let small = trimmed(&large.to_string()).expect("an object");
    assert!(small.len() < 1_000, "{small}");
    assert_eq!(read(&small), read(&large.to_string()));
}

#[test]
fn a_new_status_or_action_is_no_error() {
    let mut body = payload();
    body["workflow_job"]["status"] = json!("assigned");
    body["action"] = json!("assigned");
    let event = workflow_job(&body);
    assert_eq!((event.action, event.status), (Action::Other, JobStatus::Unknown));
}

#[test]
fn a_replacement_reads_back() {
    let replacement = Replacement {
        job_id: JobId(1),
        attempt: Attempt(2),
        labels: vec!["self-hosted".into()],
        owner: "acme".into(),
        repository: None,
        repository_id: Some(RepositoryId(5)),
        run_id: None,
        run_attempt: None,
        installation_id: Some(InstallationId(7)),
        failures: Some(3),
        registered: true,
        runner_id: Some(RunnerId(9)),
        let_in: true,
        last: true,
    };
    assert_eq!(read(&replacement.to_body()), Ok(Message::Replacement(replacement)));
}

#[test]
fn a_replacement_is_obeyed_only_as_a_message_of_its_own() {
    let own = json!({ "job_id": 1, "attempt": 2, "labels": ["self-hosted"], "owner": "acme" });
    let mut with_payload = payload();
    with_payload["replacement"] = own.clone();
    // What a later release adds is passed over.
    let mut later = own.clone();
    later["added_since"] = json!(true);
    let read_own = |own: &Value| read(&json!({ "replacement": own }).to_string());
    assert_eq!(read_own(&later), read_own(&own));
    assert!(read_own(&own).is_ok());
    // GitHub's payload stays what it is, bare and in an envelope.
    assert_eq!(workflow_job(&with_payload), workflow_job(&payload()));
    let envelope = |detail: &Value| json!({ "detail-type": "workflow_job", "detail": detail });
    assert_eq!(workflow_job(&envelope(&with_payload)), workflow_job(&payload()));
    let beside = json!({ "detail-type": "workflow_job", "detail": payload(), "replacement": own });
    assert_eq!(workflow_job(&beside), workflow_job(&payload()));
    for (forged, want) in [
        (envelope(&json!({ "replacement": own })), "detail.workflow_job is missing"),
        (json!({ "replacement": own, "s3cret": 1 }), "the message has a field that does not belong"),
        (
            json!({ "replacement": own, "detail-type": "workflow_job" }),
            "the message has a field that does not belong",
        ),
        (json!({ "replacement": { "s3cret": 1 } }), "replacement.job_id is missing"),
        (json!({ "replacement": [1, 2, ["self-hosted"], "acme"] }), "replacement is of the wrong type"),
    ] {
        let error = read(&forged.to_string()).expect_err(want).to_string();
        assert!(error.contains(want) && !error.contains("s3cret"), "{error} should contain {want}");
    }
}

#[test]
fn what_a_replacement_says_is_checked() {
    let long = "x".repeat(101);
    let table = [
        ("attempt", json!(0), "replacement.attempt should be 1 to 1000"),
        ("attempt", json!(1001), "replacement.attempt should be 1 to 1000"),
        ("attempt", json!(4_294_967_296_u64), "replacement.attempt is of the wrong type"),
        ("owner", json!(""), "replacement.owner is empty"),
        ("owner", json!("a/b"), "replacement.owner has other characters"),
        ("repository", json!(".."), "replacement.repository is no name"),
        ("repository", json!(long), "replacement.repository is longer"),
        ("registered", json!(1), "replacement.registered is of the wrong type"),
    ];
    for (field, value, want) in table {
        let mut body = json!({ "job_id": 1, "attempt": 2, "labels": ["self-hosted"], "owner": "acme" });
        body[field] = value;
        let error = read(&json!({ "replacement": body }).to_string()).expect_err(want).to_string();
        assert!(error.starts_with(want), "{error} should start with {want}");
    }
}

#[test]
fn names_are_names() {
    for name in [".github", "a.b-c_d", "X", &"x".repeat(100), "..a", "octo-org_emu"] {
        assert_eq!(check_name(name), Ok(()), "{name}");
    }
    for name in ["", ".", "..", "a b", "a/b", "../x", "a\nb", "\u{0}", "ä", "a%2f", &"x".repeat(101)] {
        assert!(check_name(name).is_err(), "{name:?}");
        let mut body = payload();
        body["repository"]["name"] = json!(name);
        let error = read(&body.to_string()).expect_err("refused").to_string();
        assert!(error.starts_with("repository.name "), "{error}");
        body["repository"]["name"] = json!("app");
        body["repository"]["owner"]["login"] = json!(name);
        let error = read(&body.to_string()).expect_err("refused").to_string();
        assert!(error.starts_with("repository.owner.login "), "{error}");
    }
}

#[test]
fn other_events_are_told_apart() {
    let body = json!({ "detail-type": "push", "detail": {} }).to_string();
    assert_eq!(read(&body), Ok(Message::OtherEvent("event \"push\"".into())));
}

#[test]
fn errors_name_the_place_and_never_the_value() {
    fn with(path: &str, value: Value) -> String {
        let mut body = payload();
        *body.pointer_mut(path).expect("a place") = value;
        body.to_string()
    }
    let without = |parent: &str, key: &str| {
        let mut body = payload();
        body.pointer_mut(parent).expect("a parent").as_object_mut().expect("an object").remove(key);
        body.to_string()
    };
    let table = [
        (with("/workflow_job/id", json!("s3cret")), "workflow_job.id is of the wrong type, expected u64"),
        (with("/workflow_job/labels", json!("s3cret")), "workflow_job.labels is of the wrong type"),
        (with("/workflow_job/labels", json!([1])), "workflow_job.labels[0] is of the wrong type"),
        (with("/workflow_job/status", json!(1)), "workflow_job.status is of the wrong type"),
        (with("/workflow_job/created_at", json!("s3cret")), "workflow_job.created_at is no time"),
        (with("/repository", json!(null)), "repository is of the wrong type"),
        (with("/repository/name", json!("")), "repository.name"),
        (with("/workflow_job", json!("s3cret")), "workflow_job is of the wrong type, expected an object"),
        (without("", "workflow_job"), "workflow_job is missing"),
        (without("/workflow_job", "id"), "workflow_job.id is missing"),
        (without("", "action"), "action is missing"),
        (without("/repository", "owner"), "repository.owner is missing"),
        (
            json!({ "detail-type": "workflow_job", "detail": {} }).to_string(),
            "detail.workflow_job is missing",
        ),
        (json!([1]).to_string(), "the message is of the wrong type"),
        ("{\"s3cret".to_owned(), "not JSON (line 1, column 8)"),
        (String::new(), "not JSON"),
        (payload().to_string() + "x", "not JSON"),
    ];
    for (body, want) in table {
        let error = read(&body).expect_err(want).to_string();
        assert!(error.contains(want), "{error} should contain {want}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}
