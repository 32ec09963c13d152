//! The front door, told over real HTTP to the event bus and the secret.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs,
};

use crate::http::{Op, WEBHOOK_SECRET, WEBHOOK_SECRET_NAME, World, WorldClock};
use aws_config::SdkConfig;
use base64::{Engine, engine::general_purpose::STANDARD};
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
use proptest::{prelude::*, sample::Index, strategy::ValueTree, test_runner::TestRunner};
use ring::hmac;
use serde_json::{Value, json, value::to_raw_value};
use time::Duration;

const QUEUED: &str = include_str!("../../../events/queued.json");
/// `openssl dgst -sha256 -hmac "It's a Secret to Everybody" events/queued.json`
const SIGNED: &str = "sha256=747b5bb93a07421f86a0682171391d68902bcae5b052fa1ae4613244831ff3d9";
/// `openssl dgst -sha256 -hmac rotated events/queued.json`
const SIGNED_ROTATED: &str = "sha256=7e4cc489399167b0678d3e4e609d25b36ae617eba2f760a5dae86f9750385e99";
/// GitHub's published payloads, signed by OpenSSL: see `tests/fixtures/signatures`.
const SIGNATURES: &str = include_str!("../../fixtures/signatures/github.txt");
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
async fn what_openssl_signed_is_accepted_and_passed_on_to_the_byte() {
    let world = World::start();
    let door = front_door(&world);
    assert_eq!(status(&door, &post("workflow_job", SIGNED, QUEUED)).await, 202);
    {
        let bus = world.bus();
        let event = bus.events.last().expect("an event");
        assert_eq!((event.source.as_str(), event.detail_type.as_str()), ("github.com", "workflow_job"));
        assert_eq!(event.detail, QUEUED);
    }
    let mut encoded = post("workflow_job", SIGNED, &STANDARD.encode(QUEUED));
    encoded.is_base64 = true;
    assert_eq!(status(&door, &encoded).await, 202);
    let shouted = json!({ "X-GITHUB-EVENT": "workflow_job", "X-Hub-Signature-256": SIGNED });
    assert_eq!(status(&door, &request("POST", shouted, QUEUED)).await, 202);
    assert_eq!(details(&world), [QUEUED; 3]);
    world.finish();
}

/// The stack's other front door. The event is the one in "Working with AWS Lambda proxy integrations for HTTP APIs",
/// payload format 2.0, without what a route with an authorizer or a cookie would add.
#[tokio::test]
async fn an_http_api_sends_the_same_event() {
    let world = World::start();
    let door = front_door(&world);
    let event = |body: &str, is_base64_encoded: bool| -> Request {
        let event = json!({
            "version": "2.0", "routeKey": "POST /", "rawPath": "/", "rawQueryString": "",
            "headers": {
                "accept": "*/*", "content-length": "7110", "content-type": "application/json",
                "host": "id.execute-api.us-east-1.amazonaws.com", "user-agent": "GitHub-Hookshot/044aadd",
                "x-amzn-trace-id": "Root=1-5e6722a7-cc56xmpl46db7ae02d4da47e", "x-forwarded-for": "192.0.2.1",
                "x-forwarded-port": "443", "x-forwarded-proto": "https", "x-github-event": "workflow_job",
                "x-hub-signature-256": SIGNED,
            },
            "requestContext": {
                "accountId": "123456789012", "apiId": "id", "domainName": "id.execute-api.us-east-1.amazonaws.com",
                "domainPrefix": "id",
                "http": {
                    "method": "POST", "path": "/", "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1",
                    "userAgent": "GitHub-Hookshot/044aadd",
                },
                "requestId": "JKJaXmPLvHcESHA=", "routeKey": "POST /", "stage": "$default",
                "time": "12/Mar/2020:19:03:58 +0000", "timeEpoch": 1_583_348_638_390_i64,
            },
            "body": body, "isBase64Encoded": is_base64_encoded,
        });
        Request::read(&to_raw_value(&event).expect("JSON")).expect("a request")
    };
    assert_eq!(status(&door, &event(QUEUED, false)).await, 202);
    assert_eq!(status(&door, &event(&STANDARD.encode(QUEUED), true)).await, 202);
    assert_eq!(details(&world), [QUEUED; 2]);
    world.finish();
}

#[tokio::test]
async fn one_bit_or_anything_else_wrong_with_the_signature_is_401() {
    let world = World::start();
    let door = front_door(&world);
    let digits = &SIGNED["sha256=".len()..];
    let wrong = [
        String::new(),
        "sha256=".to_owned(),
        SIGNED[..SIGNED.len() - 1].to_owned(),
        format!("{SIGNED}0"),
        format!("sha1={digits}"),
        digits.to_owned(),
        SIGNED.replace('7', "g"),
        SIGNED.replacen('7', "6", 1),
        SIGNED_ROTATED.to_owned(),
    ];
    for signature in wrong {
        let answer = door.answer(&post("workflow_job", &signature, QUEUED)).await;
        assert_eq!(answer.status, 401, "{signature}");
    }
    let changed = QUEUED.replacen("queued", "queuee", 1);
    assert_eq!(status(&door, &post("workflow_job", SIGNED, &changed)).await, 401);
    let unsigned = request("POST", json!({ "x-github-event": "workflow_job" }), QUEUED);
    assert_eq!(status(&door, &unsigned).await, 401);
    assert_eq!(details(&world), [""; 0]);
    world.finish();
}

#[tokio::test]
async fn every_bit_of_the_signature_counts_and_every_byte_of_the_body() {
    let world = World::start();
    let door = front_door(&world);
    let digits = &SIGNED.as_bytes()["sha256=".len()..];
    for bit in 0..256 {
        let mut changed = digits.to_vec();
        let digit = char::from(changed[bit / 4]).to_digit(16).expect("a digit") ^ (1 << (bit % 4));
        changed[bit / 4] = b"0123456789abcdef"[digit as usize];
        let signature = format!("sha256={}", String::from_utf8(changed).expect("digits"));
        assert_eq!(status(&door, &post("workflow_job", &signature, QUEUED)).await, 401, "bit {bit}");
    }
    for byte in (0..QUEUED.len()).step_by(31) {
        let mut changed = QUEUED.as_bytes().to_vec();
        changed[byte] ^= 1 << (byte % 8);
        let mut request = post("workflow_job", SIGNED, &STANDARD.encode(changed));
        request.is_base64 = true;
        assert_eq!(status(&door, &request).await, 401, "byte {byte}");
    }
    assert_eq!(details(&world), [""; 0]);
    world.finish();
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
async fn a_secret_that_was_taken_out_ends_within_minutes() {
    let world = World::start();
    let door = front_door(&world);
    let (old, new) = (post("workflow_job", SIGNED, QUEUED), post("workflow_job", SIGNED_ROTATED, QUEUED));
    let both = json!({ "current": "rotated", "previous": WEBHOOK_SECRET }).to_string();
    world.secrets().set(WEBHOOK_SECRET_NAME, &both);
    assert_eq!(status(&door, &old).await, 202);
    world.secrets().set(WEBHOOK_SECRET_NAME, "rotated");
    world.advance(Duration::seconds(299));
    assert_eq!(status(&door, &old).await, 202);
    // While Secrets Manager is away, what is known counts; not for longer.
    world.advance(Duration::seconds(2));
    world.fail(Op::GetSecretValue).once().before().status(500);
    assert_eq!(status(&door, &old).await, 202);
    world.advance(Duration::seconds(6));
    let reads = world.calls().count(Op::GetSecretValue);
    assert_eq!(status(&door, &old).await, 401);
    assert_eq!(world.calls().count(Op::GetSecretValue), reads + 1, "read once, not twice");
    assert_eq!(status(&door, &new).await, 202);
    assert_eq!(status(&door, &old).await, 401);
    world.finish();
}

#[tokio::test]
async fn a_rotation_needs_no_restart() {
    let world = World::start();
    let door = front_door(&world);
    let (old, new) = (post("workflow_job", SIGNED, QUEUED), post("workflow_job", SIGNED_ROTATED, QUEUED));
    assert_eq!((status(&door, &old).await, status(&door, &new).await), (202, 401));

    let both = json!({ "current": "rotated", "previous": WEBHOOK_SECRET }).to_string();
    world.secrets().set(WEBHOOK_SECRET_NAME, &both);
    world.advance(Duration::seconds(61));
    assert_eq!((status(&door, &new).await, status(&door, &old).await), (202, 202));

    world.secrets().set(WEBHOOK_SECRET_NAME, "rotated");
    world.advance(Duration::seconds(61));
    // Only a signature that fits nothing has the secret read again.
    assert_eq!(status(&door, &signed("ping", "{}")).await, 200, "the removed secret is still known");
    assert_eq!(status(&door, &post("ping", "sha256=", "{}")).await, 401);
    assert_eq!((status(&door, &old).await, status(&door, &new).await), (401, 202));
    world.finish();
}

#[tokio::test]
async fn nobody_can_make_it_hammer_secrets_manager() {
    let world = World::start();
    let door = front_door(&world);
    for _ in 0..50 {
        assert_eq!(status(&door, &post("workflow_job", SIGNED_ROTATED, QUEUED)).await, 401);
        world.advance(Duration::seconds(1));
    }
    assert_eq!(world.calls().count(Op::GetSecretValue), 1);

    let world = World::start();
    let door = front_door(&world);
    world.secrets().set(WEBHOOK_SECRET_NAME, "{}");
    for _ in 0..20 {
        assert_eq!(status(&door, &post("workflow_job", SIGNED, QUEUED)).await, 503);
    }
    assert_eq!(world.calls().count(Op::GetSecretValue), 1, "not even while there is no secret");
    world.secrets().set(WEBHOOK_SECRET_NAME, WEBHOOK_SECRET);
    world.advance(Duration::seconds(6));
    assert_eq!(status(&door, &post("workflow_job", SIGNED, QUEUED)).await, 202);
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

/// A POST as each kind of front door hands it over.
fn shapes(headers: &Value, body: &str) -> [(&'static str, Value); 5] {
    let lists: BTreeMap<_, _> =
        headers.as_object().into_iter().flatten().map(|(name, value)| (name, json!([value]))).collect();
    let context = json!({ "timeEpoch": 0, "http": { "method": "POST", "path": "/" } });
    [
        (
            "a function URL, an HTTP API",
            json!({ "version": "2.0", "headers": headers, "body": body, "requestContext": context }),
        ),
        (
            "a REST API",
            json!({
                "version": "1.0", "httpMethod": "POST", "headers": headers, "multiValueHeaders": lists, "body": body,
                "isBase64Encoded": false, "requestContext": { "httpMethod": "POST", "identity": {} },
            }),
        ),
        (
            "a load balancer",
            json!({
                "httpMethod": "POST", "path": "/", "queryStringParameters": {}, "headers": headers, "body": body,
                "requestContext": { "elb": { "targetGroupArn": "arn" } }, "isBase64Encoded": false,
            }),
        ),
        (
            "a load balancer with multi-value headers",
            json!({
                "httpMethod": "POST", "multiValueHeaders": lists, "body": body, "requestContext": { "elb": {} },
                "isBase64Encoded": false,
            }),
        ),
        (
            "a load balancer that encodes bodies",
            json!({
                "httpMethod": "POST", "headers": headers, "body": STANDARD.encode(body), "isBase64Encoded": true,
            }),
        ),
    ]
}

async fn invoke(door: &FrontDoor, event: &Value) -> Value {
    door.invoke(&to_raw_value(event).expect("JSON")).await.0
}

#[tokio::test]
async fn every_front_door_is_answered_in_its_own_way() {
    let world = World::start();
    let door = front_door(&world);
    // The names as GitHub writes them, and a header that no client of HTTP takes.
    let headers = json!({
        "X-GitHub-Event": "workflow_job", "X-Hub-Signature-256": SIGNED, "x-odd": "\u{7f}\u{0}", "": null,
    });
    for (what, event) in shapes(&headers, QUEUED) {
        let response = invoke(&door, &event).await;
        assert_eq!(
            (&response["statusCode"], &response["isBase64Encoded"]),
            (&json!(202), &json!(false)),
            "{what}"
        );
        assert_eq!(response["body"], json!(r#"{"message":"accepted"}"#), "{what}");
        let (headers, content_type) = match what {
            "a load balancer with multi-value headers" => ("multiValueHeaders", json!(["application/json"])),
            _ => ("headers", json!("application/json")),
        };
        assert_eq!(response[headers]["content-type"], content_type, "{what}");
    }
    assert_eq!(details(&world), [QUEUED; 5]);
    for event in [json!({}), json!([]), json!(null), json!({ "Records": [{ "body": QUEUED }] })] {
        let response = invoke(&door, &event).await;
        assert_eq!(response["statusCode"], 400);
        assert!(response["body"].as_str().is_some_and(|body| body.contains("no HTTP request")), "{response}");
    }
    world.finish();
}

/// What may stand where something else is expected.
fn odd() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|value| json!(value)),
        any::<i64>().prop_map(|value| json!(value)),
        "[\u{0}-\u{ff}]{0,80}|\\PC{0,40}".prop_map(|value| json!(value)),
        proptest::collection::vec("[ -~]{0,40}", 0..3).prop_map(|value| json!(value)),
        proptest::collection::btree_map("[a-zA-Z-]{0,20}|http|method", "[ -~]{0,40}", 0..3)
            .prop_map(|value| json!(value)),
    ]
}

/// The places in a value, as JSON pointers.
fn places(value: &Value, here: &str, found: &mut Vec<String>) {
    found.push(here.to_owned());
    for (name, inner) in value.as_object().into_iter().flatten() {
        places(inner, &format!("{here}/{name}"), found);
    }
}

#[tokio::test]
async fn whatever_anybody_sends_there_is_no_5xx_and_no_panic() {
    let world = World::start();
    // However long this takes.
    world.set_now(world.now());
    let door = front_door(&world);
    door.warm().await.expect("the secret");
    let names = "[a-zA-Z-]{1,20}|x-hub-signature-256|x-github-event";
    let headers = proptest::collection::btree_map(names, odd(), 0..5);
    let twists = proptest::collection::vec((any::<Index>(), proptest::option::weighted(0.8, odd())), 0..3);
    let anything = (headers, "[\u{0}-\u{ff}]{0,200}", any::<Index>(), twists);
    let mut runner = TestRunner::deterministic();
    for _ in 0..5_000 {
        let (headers, body, shape, twists) = anything.new_tree(&mut runner).expect("an event").current();
        let (_, mut event) = shape.get(&shapes(&json!(headers), &body)).clone();
        for (place, odd) in twists {
            let mut all = Vec::new();
            places(&event, "", &mut all);
            let place = place.get(&all);
            match (odd, place.rsplit_once('/')) {
                (None, Some((outer, name))) => {
                    let outer = event.pointer_mut(outer).and_then(Value::as_object_mut);
                    outer.and_then(|outer| outer.remove(name));
                }
                (odd, _) => *event.pointer_mut(place).expect("a place") = odd.unwrap_or_default(),
            }
        }
        let response = invoke(&door, &event).await;
        let status = response["statusCode"].as_u64();
        assert!(matches!(status, Some(400 | 401 | 405)), "{event}: {response}");
    }
    assert_eq!(world.calls().count(Op::GetSecretValue), 1);
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
