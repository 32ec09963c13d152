//! The front door, told over real HTTP to the event bus and the secret.

mod doors;
mod signatures;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs,
};

use crate::http::{Op, WEBHOOK_SECRET, World, WorldClock};
use aws_config::SdkConfig;
use expect_test::expect;
use gha_fargate_runners::{
    adapters::{
        self,
        aws::{self, Patience},
        bus::EventBus,
        http::Http,
        secrets::Secret,
    },
    config::WebhookConfig,
    flows::webhook::{Answer, Webhook},
    intake::request::Request,
    lambda::metric::Metric,
};
use ring::hmac;
use serde_json::{Value, json, value::to_raw_value};
use time::Duration;

const QUEUED: &str = include_str!("../../../../events/queued.json");
/// `openssl dgst -sha256 -hmac "It's a Secret to Everybody" events/queued.json`
const SIGNED: &str = "sha256=747b5bb93a07421f86a0682171391d68902bcae5b052fa1ae4613244831ff3d9";
/// GitHub's published payloads, signed by OpenSSL: see `tests/fixtures/signatures`.
const SIGNATURES: &str = include_str!("../../../fixtures/signatures/github.txt");
/// How long GitHub waits for an answer ("Handling webhook deliveries": respond within 10 seconds).
const GITHUB_WAITS: std::time::Duration = std::time::Duration::from_secs(10);

pub type FrontDoor = Webhook<EventBus, Secret, WorldClock>;

pub fn front_door(world: &World) -> FrontDoor {
    front_door_with(world, &[])
}

fn front_door_with(world: &World, changes: &[(&str, &str)]) -> FrontDoor {
    front_door_over(world, &crate::fleet::sdk_config(world, &Http::new()), changes)
}

fn front_door_over(world: &World, aws: &SdkConfig, changes: &[(&str, &str)]) -> FrontDoor {
    let environment = world.environment();
    let get = |name: &str| {
        let change = changes.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        change.or_else(|| environment.get(name).cloned())
    };
    let config = WebhookConfig::read(get).expect("the webhook's settings");
    Webhook {
        bus: EventBus::new(aws, config.event_bus),
        secret: Secret::new(aws, config.secret_arn),
        clock: world.clock(),
        check_runs: config.check_runs,
        policy: config.policy,
        document: adapters::document(config.classes, &Http::new(), aws),
        known: RefCell::default(),
    }
}

fn request(method: &str, headers: Value, body: &str) -> Request {
    let request = json!({
        "headers": headers, "body": body, "isBase64Encoded": false,
        "requestContext": { "timeEpoch": 0, "http": { "method": method } },
    });
    read(&request).expect("a request")
}

fn read(event: &Value) -> Option<Request> {
    Request::read(&to_raw_value(event).expect("JSON"))
}

fn post(event: &str, signature: &str, body: &str) -> Request {
    request("POST", json!({ "x-github-event": event, "x-hub-signature-256": signature }), body)
}

/// Signed here, where the body is made here.
pub fn signed(event: &str, body: &str) -> Request {
    let key = hmac::Key::new(hmac::HMAC_SHA256, WEBHOOK_SECRET.as_bytes());
    let signature = hmac::sign(&key, body.as_bytes());
    let digits: String = signature.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    post(event, &format!("sha256={digits}"), body)
}

fn payload(change: impl FnOnce(&mut Value)) -> String {
    let mut payload: Value = serde_json::from_str(QUEUED).expect("a payload");
    change(&mut payload);
    payload.to_string()
}

async fn status(door: &FrontDoor, request: &Request) -> u16 {
    door.answer(request).await.status
}

fn details(world: &World) -> Vec<String> {
    world.bus().events.iter().map(|event| event.detail.clone()).collect()
}

#[tokio::test]
async fn what_is_no_delivery_gets_its_status() {
    let world = World::start();
    let door = front_door(&world);
    let mut no_base64 = post("workflow_job", SIGNED, "%");
    no_base64.is_base64 = true;
    let no_event = {
        let mut request = signed("ping", "{}");
        request.headers.retain(|(name, _)| name != "x-github-event");
        request
    };
    let table = [
        (request("GET", json!({}), ""), 405),
        (request("PUT", json!({ "x-hub-signature-256": SIGNED }), QUEUED), 405),
        (no_base64, 400),
        (signed("workflow_job", "payload=%7B%7D"), 400),
        (signed("workflow_job", ""), 400),
        (signed("workflow_job", "{\"action\":\"queued\"}"), 400),
        (no_event, 400),
        (signed("workflow_job", &"x".repeat(6 * 1024 * 1024)), 413),
        (signed("ping", "{\"zen\":\"Design for failure.\"}"), 200),
        (signed("push", "{}"), 202),
    ];
    for (request, want) in table {
        let answer = door.answer(&request).await;
        assert_eq!(answer.status, want, "{}", answer.text);
    }
    assert_eq!(details(&world), [""; 0]);
    world.finish();
}

/// Its author can be told by dispatch alone.
#[tokio::test]
async fn a_slip_of_the_pen_is_passed_on_where_authors_are_told() {
    let world = World::start();
    let (quiet, telling) = (front_door(&world), front_door_with(&world, &[("CHECK_RUNS", "true")]));
    let slip =
        payload(|payload| payload["workflow_job"]["labels"] = json!(["self-hosted", "fargate", "cpus=2"]));
    let others =
        payload(|payload| payload["workflow_job"]["labels"] = json!(["self-hosted", "fargate", "gpu"]));
    for (door, body, want) in [(&quiet, &slip, 0), (&telling, &others, 0), (&telling, &slip, 1)] {
        assert_eq!(door.answer(&signed("workflow_job", body)).await.status, 202);
        assert_eq!(details(&world).len(), want);
    }
    world.finish();
}

#[tokio::test]
async fn a_skipped_job_is_told_why() {
    let world = World::start();
    let door = front_door_with(&world, &[("ALLOWED_REPOSITORIES", "octo-org/example-*")]);
    type Change = fn(&mut Value);
    let changes: [Change; 7] = [
        |payload| payload["workflow_job"]["labels"] = json!(["self-hosted", "gpu"]),
        |payload| payload["workflow_job"]["labels"] = json!([]),
        |payload| payload["repository"]["owner"]["login"] = json!("somebody"),
        |payload| payload["repository"]["name"] = json!("other"),
        |payload| payload["repository"]["private"] = json!(false),
        |payload| payload["action"] = json!("waiting"),
        |payload| payload["workflow_job"]["status"] = json!("waiting"),
    ];
    let mut said = String::new();
    for change in changes {
        let Answer { status, text, .. } = door.answer(&signed("workflow_job", &payload(change))).await;
        said.push_str(&format!("{status} {text}\n"));
    }
    expect![[r#"
        202 skipped: label "gpu" is not offered
        202 skipped: none of the labels is offered
        202 skipped: the owner is not octo-org
        202 skipped: the repository is not among ALLOWED_REPOSITORIES
        202 skipped: the repository is public, and ALLOW_PUBLIC_REPOSITORIES is not true
        202 skipped: the job is not queued yet
        202 skipped: the job is not queued yet
    "#]]
    .assert_eq(&said);
    assert_eq!(details(&world), [""; 0]);
    world.finish();
}

/// Which of GitHub's published `workflow_job` examples is for this fleet is a matter of labels, so all are offered.
const EVERYBODY: [(&str, &str); 3] = [
    ("RUNNER_LABELS", "self-hosted,ubuntu-latest,k8s,gpu,db-app,dc-03"),
    ("ORGANIZATION", ""),
    ("ALLOW_PUBLIC_REPOSITORIES", "true"),
];

#[tokio::test]
async fn of_all_of_githubs_events_only_workflow_job_reaches_the_bus() {
    let world = World::start();
    let door = front_door_with(&world, &EVERYBODY);
    let mut passed_on = Vec::new();
    let mut said = BTreeMap::<String, u32>::new();
    for line in SIGNATURES.lines() {
        let [event, number, signature] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let examples = fs::read_to_string(format!("tests/fixtures/github/{event}.json")).expect("examples");
        let number: usize = number.parse().expect("a number");
        // The first line opens the list.
        let body = examples.lines().nth(number + 1).expect("an example").trim_end_matches(',');
        let answer = door.answer(&post(event, &format!("sha256={signature}"), body)).await;
        let kind = if matches!(event, "workflow_job" | "ping") { event } else { "any other" };
        *said.entry(format!("{kind}: {} {}", answer.status, answer.text)).or_default() += 1;
        if answer.metric == Metric::Forwarded {
            passed_on.push(body.to_owned());
        }
    }
    let said: String = said.iter().map(|(what, count)| format!("{count} × {what}\n")).collect();
    expect![[r#"
        317 × any other: 202 skipped: only workflow_job events matter here
        4 × ping: 200 pong
        6 × workflow_job: 202 accepted
        2 × workflow_job: 202 skipped: the job is not queued yet
    "#]]
    .assert_eq(&said);
    assert_eq!(details(&world), passed_on, "to the byte");
    world.finish();
}

#[test]
fn no_published_event_is_left_out() {
    let files = fs::read_dir("tests/fixtures/github").expect("the examples").flatten();
    let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    let events: BTreeSet<String> =
        names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect();
    let signed = SIGNATURES.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    assert_eq!(events, signed);
}

#[tokio::test]
async fn queued_in_progress_and_completed_alike_are_passed_on() {
    let world = World::start();
    let door = front_door(&world);
    let bodies = [("queued", "queued"), ("in_progress", "in_progress"), ("completed", "completed")].map(
        |(action, status)| {
            payload(|payload| {
                payload["action"] = json!(action);
                payload["workflow_job"]["status"] = json!(status);
            })
        },
    );
    for body in &bodies {
        assert_eq!(status(&door, &signed("workflow_job", body)).await, 202);
    }
    assert_eq!(details(&world), bodies);
    world.finish();
}

#[tokio::test]
async fn what_is_too_large_for_an_event_is_trimmed_and_not_dropped() {
    let world = World::start();
    let door = front_door(&world);
    let large = payload(|payload| payload["workflow_job"]["steps"] = json!(["x".repeat(400_000)]));
    assert_eq!(status(&door, &signed("workflow_job", &large)).await, 202);
    let detail: Value = serde_json::from_str(&details(&world)[0]).expect("JSON");
    let original: Value = serde_json::from_str(QUEUED).expect("JSON");
    for path in
        ["/action", "/workflow_job/id", "/workflow_job/labels", "/repository/owner/login", "/installation/id"]
    {
        assert_eq!(detail.pointer(path), original.pointer(path), "{path}");
    }
    world.finish();
}

#[tokio::test]
async fn a_bus_that_fails_is_a_failed_delivery() {
    let world = World::start();
    let door = front_door(&world);
    let queued = post("workflow_job", SIGNED, QUEUED);
    world.fail(Op::PutEvents).once().before().aws("ThrottlingException");
    assert_eq!(status(&door, &queued).await, 503);
    world.fail(Op::PutEvents).once().before().failed_entry("InternalFailure");
    assert_eq!(status(&door, &queued).await, 503);
    world.fail(Op::PutEvents).once().before().drop_connection();
    assert_eq!(status(&door, &queued).await, 503);
    assert_eq!(details(&world), [""; 0]);
    assert_eq!(status(&door, &queued).await, 202);
    world.finish();
}

#[tokio::test]
async fn what_does_not_answer_is_given_up_before_github_gives_up() {
    for (silent, cold) in [(Op::PutEvents, false), (Op::PutEvents, true), (Op::GetSecretValue, true)] {
        let world = World::start();
        // The function's own patience, and its own repetitions.
        let http = Http::new();
        let deployed = aws::sdk_config(|_| None, http.for_aws(), Patience::Webhook);
        let aws = crate::fleet::sdk_config(&world, &http)
            .into_builder()
            .timeout_config(deployed.timeout_config().expect("time-outs").clone())
            .retry_config(deployed.retry_config().expect("repetitions").clone())
            .build();
        let door = front_door_over(&world, &aws, &[]);
        if !cold {
            door.warm().await.expect("the secret");
        }
        let held = world.fail(silent).always().before().hold();
        let began = tokio::time::Instant::now();
        let queued = post("workflow_job", SIGNED, QUEUED);
        let (status, ()) = tokio::join!(status(&door, &queued), async {
            held.struck().await;
            // From here on, time passes as soon as nobody has anything to do.
            tokio::time::pause();
        });
        assert_eq!(status, 503, "{silent}");
        assert!(began.elapsed() < GITHUB_WAITS, "{silent}: {:?}", began.elapsed());
        tokio::time::resume();
        assert_eq!(details(&world), [""; 0]);
        world.heal();
        world.finish();
    }
}

#[tokio::test]
async fn the_first_delivery_finds_its_connections_open() {
    let world = World::start();
    let http = Http::new();
    let door = front_door_over(&world, &crate::fleet::sdk_config(&world, &http), &[]);
    let (secret, ()) = tokio::join!(door.warm(), door.bus.warm(&http));
    secret.expect("the secret");
    assert_eq!(world.take_calls().tally(), "1 GetSecretValue", "EventBridge is asked nothing");
    assert_eq!(world.connections(), 2);
    assert_eq!(status(&door, &post("workflow_job", SIGNED, QUEUED)).await, 202);
    assert_eq!(world.connections(), 2);
    world.finish();
}

/// Anybody can send many.
#[tokio::test]
async fn of_refused_requests_some_are_logged_with_their_source() {
    let log = crate::log::Log::keep();
    let world = World::start();
    let door = front_door(&world);
    let from = |signature: &str| {
        let mut request = post("workflow_job", signature, QUEUED);
        request.source = Some([192, 0, 2, 1].into());
        request
    };
    for _ in 0..30 {
        assert_eq!(status(&door, &from("sha256=00")).await, 401);
        assert_eq!(status(&door, &from(SIGNED)).await, 202);
        world.advance(Duration::seconds(1));
    }
    let lines = log.lines("source", "192.0.2.1");
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines.iter().all(|line| line["status"] == 401), "{lines:?}");
    assert_eq!(log.text().matches("192.0.2.1").count(), 3);
    world.finish();
}
