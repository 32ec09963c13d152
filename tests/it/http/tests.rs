//! The world over HTTP: what its clients see, the SDK among them.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::http::{
    APP_ID, APP_KEY, BUS, CLUSTER, DEAD_LETTERS, INSTALLATION, JOB_QUEUE, Op, PAT, PAT_SECRET,
    TASK_DEFINITION, World,
};
use crate::model::github::{Silence, Untrue};
use aws_credential_types::Credentials;
use aws_sdk_ecs::{
    config::{BehaviorVersion, Region, retry::RetryConfig},
    types::{AssignPublicIp, AwsVpcConfiguration, LaunchType, NetworkConfiguration, PropagateTags, Tag},
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use expect_test::expect;
use gha_fargate_runners::adapters::http::Http;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use time::OffsetDateTime;

const RUNNERS: &str = "/orgs/octo-org/actions/runners";
const MINT: &str = "/orgs/octo-org/actions/runners/generate-jitconfig";

/// One request on a connection of its own; `None`: closed without an answer.
fn ask(world: &World, method: &str, path: &str, bearer: &str, body: &str) -> Option<(u16, String, Value)> {
    let headers =
        "accept: application/vnd.github+json\r\nuser-agent: test\r\nx-github-api-version: 2022-11-28";
    ask_with(world, method, path, &format!("{headers}\r\nauthorization: Bearer {bearer}"), body)
}

fn ask_with(
    world: &World,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Option<(u16, String, Value)> {
    let mut stream = TcpStream::connect(world.url().trim_start_matches("http://")).unwrap();
    let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: world\r\nconnection: close\r\n{headers}\r\n").unwrap();
    write!(stream, "{kind}content-length: {length}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, head.to_lowercase(), serde_json::from_str(body).unwrap_or(Value::Null)))
}

fn mint(world: &World, name: &str) -> u16 {
    let body = json!({"name": name, "runner_group_id": 1, "labels": ["self-hosted", "Fargate"]});
    ask(world, "POST", MINT, PAT, &body.to_string()).unwrap().0
}

fn jwt(now: OffsetDateTime, lifetime: i64, issuer: Value, algorithm: Algorithm) -> String {
    let claims =
        json!({"iat": now.unix_timestamp() - 60, "exp": now.unix_timestamp() + lifetime, "iss": issuer});
    let key = EncodingKey::from_rsa_pem(APP_KEY.as_bytes()).unwrap();
    jsonwebtoken::encode(&Header::new(algorithm), &claims, &key).unwrap()
}

fn http() -> SharedHttpClient {
    Http::new().for_aws()
}

fn ecs(world: &World) -> aws_sdk_ecs::Client {
    let config = aws_sdk_ecs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::for_tests())
        .retry_config(RetryConfig::disabled())
        .endpoint_url(world.url())
        .http_client(http())
        .build();
    aws_sdk_ecs::Client::from_conf(config)
}

fn run_task(
    ecs: &aws_sdk_ecs::Client,
    token: &str,
) -> aws_sdk_ecs::operation::run_task::builders::RunTaskFluentBuilder {
    let network =
        AwsVpcConfiguration::builder().subnets("subnet-1").assign_public_ip(AssignPublicIp::Enabled);
    ecs.run_task()
        .cluster(CLUSTER)
        .task_definition(TASK_DEFINITION)
        .launch_type(LaunchType::Fargate)
        .network_configuration(
            NetworkConfiguration::builder().awsvpc_configuration(network.build().unwrap()).build(),
        )
        .tags(Tag::builder().key("gha:job-id").value("1").build())
        .propagate_tags(PropagateTags::TaskDefinition)
        .client_token(token)
        .started_by("gha-1")
}

#[test]
fn a_registration_s_life_over_http() {
    let world = World::start();
    assert_eq!([mint(&world, "fargate-1-1"), mint(&world, "fargate-1-1")], [201, 409]);
    let (status, head, found) = ask(&world, "GET", &format!("{RUNNERS}?name=fargate-1-1"), PAT, "").unwrap();
    assert_eq!((status, found["total_count"].as_u64()), (200, Some(1)));
    assert!(head.contains("x-ratelimit-remaining: ") && head.contains("x-ratelimit-reset: "));
    assert_eq!(found["runners"][0]["labels"][0]["name"], "fargate");
    let job = world.queue_job(&["self-hosted"]);
    let now = world.now();
    world.github().connect(1, now);
    assert_eq!(world.assign(), [(job, 1)]);
    let delete = || ask(&world, "DELETE", &format!("{RUNNERS}/1"), PAT, "").unwrap().0;
    assert_eq!(delete(), 422);
    world.finish_job(job);
    assert_eq!(delete(), 404);
    assert_eq!(mint(&world, "fargate-2-1"), 201);
    let runner = format!("{RUNNERS}/2");
    assert_eq!(ask(&world, "GET", &runner, PAT, "").unwrap().2["status"], "offline");
    assert_eq!(ask(&world, "DELETE", &runner, PAT, "").unwrap().0, 204);
    let job = format!("/repos/octo-org/example-workflow/actions/jobs/{job}");
    assert_eq!(ask(&world, "GET", &job, PAT, "").unwrap().2["conclusion"], "success");
    expect![[r#"
        generate-jitconfig fargate-1-1 [self-hosted,Fargate] → 201 runner 1
        generate-jitconfig fargate-1-1 [self-hosted,Fargate] → 409
        find runner fargate-1-1 → runner 1 offline, idle
        delete runner 1 → 422
        delete runner 1 → 404
        generate-jitconfig fargate-2-1 [self-hosted,Fargate] → 201 runner 2
        get runner 2 → runner 2 offline, idle
        delete runner 2 → 204
        get job octo-org/example-workflow 1 → completed
    "#]]
    .assert_eq(&world.calls().to_string());
    world.finish();
}

#[test]
fn the_app_s_jwt_buys_a_token_of_its_own_account() {
    let world = World::start();
    let now = world.now();
    let tokens = format!("/app/installations/{INSTALLATION}/access_tokens");
    let good = jwt(now, 500, json!(APP_ID.to_string()), Algorithm::RS256);
    let (status, _, body) = ask(&world, "POST", &tokens, &good, "").unwrap();
    let token = body["token"].as_str().unwrap();
    assert_eq!(status, 201);
    assert_eq!(ask(&world, "GET", RUNNERS, token, "").unwrap().0, 200);
    assert_eq!(ask(&world, "GET", "/orgs/other/actions/runners", token, "").unwrap().0, 404);
    let (_, _, installation) = ask(&world, "GET", "/orgs/Octo-Org/installation", &good, "").unwrap();
    assert_eq!(installation["id"], INSTALLATION);
    assert_eq!(ask(&world, "GET", "/orgs/other/installation", &good, "").unwrap().0, 404);
    assert_eq!(ask(&world, "POST", "/app/installations/1/access_tokens", &good, "").unwrap().0, 404);
    world.app().revoke_tokens();
    assert_eq!(ask(&world, "GET", RUNNERS, token, "").unwrap().0, 401);
    assert_eq!(world.violations(), [""; 0]);
    let bad = [
        jwt(now, 700, json!(APP_ID.to_string()), Algorithm::RS256),
        jwt(now, -1, json!(APP_ID.to_string()), Algorithm::RS256),
        jwt(now, 500, json!("1"), Algorithm::RS256),
        jwt(now, 500, json!(APP_ID), Algorithm::RS384),
        format!("{}x", jwt(now, 500, json!(APP_ID), Algorithm::RS256)),
        PAT.to_owned(),
    ];
    for jwt in &bad {
        assert_eq!(ask(&world, "POST", &tokens, jwt, "").unwrap().0, 401, "{jwt}");
    }
    assert_eq!(world.take_violations().len(), bad.len());
}

#[test]
fn a_copy_that_lags_behind_does_not_know_the_latest() {
    let world = World::start();
    world.set_now(world.now());
    assert_eq!(mint(&world, "a"), 201);
    world.advance(time::Duration::seconds(30));
    world.fail(Op::ListRunners).stale(time::Duration::minutes(1));
    let path = format!("{RUNNERS}?per_page=100");
    let count = || ask(&world, "GET", &path, PAT, "").unwrap().2["total_count"].clone();
    assert_eq!((count(), count()), (json!(0), json!(1)));
    world.finish();
}

#[test]
fn github_may_say_nothing_or_what_is_not_so() {
    let world = World::start();
    let (now, job) = (world.now(), world.queue_job(&["self-hosted"]));
    assert_eq!(mint(&world, "a"), 201);
    world.github().connect(1, now);
    assert_eq!(world.assign(), [(job, 1)]);
    let untrue = Untrue { idle: true, offline: true, unlisted: true };
    world.github().say_of_runner(1, untrue, now);
    let (_, _, runner) = ask(&world, "GET", &format!("{RUNNERS}/1"), PAT, "").unwrap();
    assert_eq!((&runner["status"], &runner["busy"]), (&json!("offline"), &json!(false)));
    assert_eq!(ask(&world, "GET", RUNNERS, PAT, "").unwrap().2["total_count"], 0);
    assert_eq!(ask(&world, "DELETE", &format!("{RUNNERS}/1"), PAT, "").unwrap().0, 204);
    let path = format!("/repos/octo-org/example-workflow/actions/jobs/{job}");
    world.github().say_status(job, Some("assigned"), now);
    assert_eq!(ask(&world, "GET", &path, PAT, "").unwrap().2["status"], "assigned");
    let ways =
        [(Silence::Moved, 301), (Silence::Forbidden, 403), (Silence::Gone, 410), (Silence::Legal, 451)];
    for (silence, want) in ways {
        world.github().be_silent(job, silence, now);
        assert_eq!(ask(&world, "GET", &path, PAT, "").unwrap().0, want);
    }
    world.finish();
}

#[test]
fn deliveries_are_paged_by_cursor() {
    let world = World::start();
    let now = world.now();
    for n in 0..150 {
        let guid = format!("guid-{n}");
        world.app().deliveries.sent(&guid, "workflow_job", Some("queued"), "{}".to_owned(), 502, now);
    }
    let jwt = jwt(now, 500, json!(APP_ID), Algorithm::RS256);
    let (_, head, page) = ask(&world, "GET", "/app/hook/deliveries?per_page=100", &jwt, "").unwrap();
    assert_eq!(page.as_array().unwrap().len(), 100);
    let cursor = head.split("cursor=").nth(1).and_then(|rest| rest.split(['>', '&']).next()).unwrap();
    let path = format!("/app/hook/deliveries?per_page=100&cursor={cursor}");
    let (_, head, page) = ask(&world, "GET", &path, &jwt, "").unwrap();
    assert_eq!((page.as_array().unwrap().len(), head.contains("link:")), (50, false));
    let (status, ..) = ask(&world, "POST", "/app/hook/deliveries/7/attempts", &jwt, "").unwrap();
    assert_eq!((status, world.app().deliveries.take_redeliveries().len()), (202, 1));
    world.finish();
}

#[test]
fn requests_that_github_would_refuse_are_violations() {
    let full = "accept: application/vnd.github+json\r\nuser-agent: t\r\nx-github-api-version: 2022-11-28\r\nauthorization: Bearer ";
    let full = format!("{full}{PAT}");
    let without = |name: &str| {
        full.split("\r\n").filter(|line| !line.starts_with(name)).collect::<Vec<_>>().join("\r\n")
    };
    let body = |more: Value| {
        let mut body = json!({"name": "a", "runner_group_id": 1, "labels": ["x"]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body.to_string()
    };
    let table = [
        ("GET", RUNNERS.to_owned(), without("accept"), String::new(), 415),
        ("GET", RUNNERS.to_owned(), without("user-agent"), String::new(), 403),
        ("GET", RUNNERS.to_owned(), without("x-github"), String::new(), 400),
        ("GET", RUNNERS.to_owned(), without("authorization"), String::new(), 401),
        ("GET", format!("{RUNNERS}?per_page=101"), full.clone(), String::new(), 422),
        ("GET", format!("{RUNNERS}?page=0"), full.clone(), String::new(), 422),
        ("GET", "/orgs/octo-org/actions/permissions".to_owned(), full.clone(), String::new(), 404),
        ("POST", MINT.to_owned(), full.clone(), body(json!({"labels": []})), 422),
        ("POST", MINT.to_owned(), full.clone(), body(json!({"name": ""})), 422),
        ("POST", MINT.to_owned(), full.clone(), body(json!({"ephemeral": true})), 422),
        ("POST", MINT.to_owned(), full.clone(), json!({"name": "a", "labels": ["x"]}).to_string(), 422),
    ];
    let world = World::start();
    for (method, path, headers, body, want) in table {
        assert_eq!(
            ask_with(&world, method, &path, &headers, &body).unwrap().0,
            want,
            "{method} {path} {body}"
        );
        assert_eq!(world.take_violations().len(), 1, "{method} {path} {body}");
    }
}

#[tokio::test]
async fn the_sdk_starts_a_task_once() {
    let world = World::start();
    let ecs = ecs(&world);
    let answer = run_task(&ecs, "1-1").send().await.unwrap();
    let arn = answer.tasks()[0].task_arn().unwrap().to_owned();
    assert_eq!(run_task(&ecs, "1-1").send().await.unwrap().tasks()[0].task_arn(), Some(arn.as_str()));
    let conflict = run_task(&ecs, "1-1").started_by("gha-2").send().await.unwrap_err().into_service_error();
    match conflict {
        aws_sdk_ecs::operation::run_task::RunTaskError::ConflictException(conflict) => {
            assert_eq!(conflict.resource_ids(), [arn.as_str()]);
        }
        other => panic!("{other}"),
    }
    world.ecs().supply.insert("FARGATE".to_owned(), crate::model::ecs::Supply::Dry);
    let dry = run_task(&ecs, "2-1").send().await.unwrap();
    assert!(
        dry.tasks().is_empty() && dry.failures()[0].reason().unwrap().starts_with("Capacity is unavailable")
    );
    let listed = ecs.list_tasks().cluster(CLUSTER).started_by("gha-1").send().await.unwrap();
    assert_eq!(listed.task_arns(), [arn.as_str()]);
    let missing = arn.replace("0001", "0009");
    let described = ecs.describe_tasks().cluster(CLUSTER).tasks(&arn).tasks(&missing);
    let described = described.include(aws_sdk_ecs::types::TaskField::Tags).send().await.unwrap();
    assert_eq!(described.tasks()[0].tags()[0].key(), Some("gha:job-id"));
    assert_eq!(described.failures()[0].reason(), Some("MISSING"));
    ecs.stop_task().cluster(CLUSTER).task(&arn).reason("retired").send().await.unwrap();
    let clusters = ecs.describe_clusters().clusters(CLUSTER).send().await.unwrap();
    assert_eq!(
        clusters.clusters()[0].running_tasks_count() + clusters.clusters()[0].pending_tasks_count(),
        0
    );
    expect![[r#"
        RunTask 1-1 FARGATE → task 1
        RunTask 1-1 FARGATE → task 1
        RunTask 1-1 FARGATE → ConflictException
        RunTask 2-1 FARGATE → failures[]
        ListTasks gha-1 → 1 task
        DescribeTasks 2 tasks → MISSING, PENDING
        StopTask task 1 because retired → stopped
        DescribeClusters gha-fargate-runners → 0 running, 0 pending
    "#]]
    .assert_eq(&world.calls().to_string());
    world.finish();
}

#[tokio::test]
async fn the_sdk_talks_to_queues_bus_and_secrets() {
    let world = World::start();
    let sqs = aws_sdk_sqs::Client::from_conf(
        aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::for_tests())
            .endpoint_url(world.url())
            .http_client(http())
            .build(),
    );
    let batch = world.deliver(&["body".to_owned()]);
    let handle = batch["Records"][0]["receiptHandle"].as_str().unwrap();
    let queue = world.queue_url(JOB_QUEUE);
    sqs.change_message_visibility()
        .queue_url(&queue)
        .receipt_handle(handle)
        .visibility_timeout(60)
        .send()
        .await
        .unwrap();
    let error =
        sqs.change_message_visibility().queue_url(&queue).receipt_handle("AQEB").visibility_timeout(60);
    let error = error.send().await.unwrap_err().into_service_error();
    assert!(error.is_receipt_handle_is_invalid(), "{error}");
    let reason =
        aws_sdk_sqs::types::MessageAttributeValue::builder().data_type("String").string_value("no JSON");
    let dead = sqs.send_message().queue_url(world.queue_url(DEAD_LETTERS)).message_body("body");
    dead.message_attributes("reason", reason.build().unwrap()).send().await.unwrap();
    assert_eq!(world.letters(DEAD_LETTERS), [("body".to_owned(), Some("no JSON".to_owned()))]);
    assert!(sqs.send_message().queue_url(&queue).message_body("").send().await.is_err());
    assert!(sqs.send_message().queue_url(&queue).message_body("b").delay_seconds(901).send().await.is_err());
    assert_eq!(world.take_violations().len(), 2);

    let secrets = aws_sdk_secretsmanager::Client::from_conf(
        aws_sdk_secretsmanager::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::for_tests())
            .endpoint_url(world.url())
            .http_client(http())
            .build(),
    );
    let get = |id: String| secrets.get_secret_value().secret_id(id).send();
    assert_eq!(get(crate::model::bus::Secrets::arn(PAT_SECRET)).await.unwrap().secret_string(), Some(PAT));
    let missing = get("other".to_owned()).await.unwrap_err().into_service_error();
    assert!(missing.is_resource_not_found_exception());

    let bus = aws_sdk_eventbridge::Client::from_conf(
        aws_sdk_eventbridge::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::for_tests())
            .endpoint_url(world.url())
            .http_client(http())
            .build(),
    );
    let entry = |name: &str, detail: &str| {
        let entry = aws_sdk_eventbridge::types::PutEventsRequestEntry::builder().source("github.com");
        entry.detail_type("workflow_job").event_bus_name(name).detail(detail).build()
    };
    let put = bus
        .put_events()
        .entries(entry(BUS, r#"{"a": 1}"#))
        .entries(entry("other", "{}"))
        .entries(entry(BUS, "1"));
    let put = put.send().await.unwrap();
    assert_eq!(put.failed_entry_count(), 2);
    assert_eq!(put.entries()[2].error_code(), Some("MalformedDetail"));
    assert_eq!(world.bus().events[0].detail, r#"{"a": 1}"#, "to the byte");
    let large = format!("\"{}\"", "x".repeat(1024 * 1024));
    assert!(bus.put_events().entries(entry(BUS, &large)).send().await.is_err());
    assert_eq!(world.take_violations().len(), 1);
    world.fail(Op::PutEvents).failed_entry("ThrottlingException");
    let failed = bus.put_events().entries(entry(BUS, "{}")).send().await.unwrap();
    assert_eq!((failed.failed_entry_count(), world.bus().events.len()), (1, 1));
    world.finish();
}

#[tokio::test]
async fn requests_that_ecs_would_refuse_are_violations() {
    let world = World::start();
    let ecs = ecs(&world);
    let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
    let run = || run_task(&ecs, "t");
    let table = [
        run().count(2),
        run().client_token("x".repeat(65)),
        run().client_token("a b"),
        run().started_by("gha:1"),
        run().tags(tag("gha:job", "a,b")),
        run().tags(tag("aws:x", "1")),
        run().tags(tag("gha:job-id", "2")),
        run().tags(tag("k", &"v".repeat(257))),
        run().launch_type(LaunchType::Ec2),
        run().capacity_provider_strategy(
            aws_sdk_ecs::types::CapacityProviderStrategyItem::builder()
                .capacity_provider("FARGATE")
                .weight(1)
                .build()
                .unwrap(),
        ),
        run().group("family:x"),
        run().overrides(
            aws_sdk_ecs::types::TaskOverride::builder()
                .container_overrides(
                    aws_sdk_ecs::types::ContainerOverride::builder()
                        .name("runner")
                        .environment(
                            aws_sdk_ecs::types::KeyValuePair::builder()
                                .name("X")
                                .value("x".repeat(8192))
                                .build(),
                        )
                        .build(),
                )
                .build(),
        ),
        run().overrides(aws_sdk_ecs::types::TaskOverride::builder().cpu("1024").memory("1024").build()),
    ];
    for (n, request) in table.into_iter().enumerate() {
        assert!(request.send().await.is_err(), "{n}");
        assert_eq!(world.take_violations().len(), 1, "{n}");
    }
    assert_eq!(world.ecs().live_count(), 0);
}

#[tokio::test]
async fn faults_strike_before_or_after_the_effect() {
    let world = World::start();
    let ecs = ecs(&world);
    let lost = world.fail(Op::RunTask).once().before().drop_connection();
    assert!(run_task(&ecs, "1-1").send().await.is_err());
    assert_eq!((lost.count(), world.ecs().live_count()), (1, 0));
    world.fail(Op::RunTask).once().after().drop_connection();
    assert!(run_task(&ecs, "1-1").send().await.is_err());
    assert_eq!(world.ecs().live_count(), 1);
    world.fail(Op::RunTask).nth(2).aws("ThrottlingException");
    assert!(run_task(&ecs, "2-1").send().await.is_ok());
    let throttled = run_task(&ecs, "3-1").send().await.unwrap_err();
    assert_eq!(aws_sdk_ecs::error::ProvideErrorMetadata::code(&throttled), Some("ThrottlingException"));
    world.fail(Op::RunTask).failures("RESOURCE:ENI");
    assert_eq!(run_task(&ecs, "4-1").send().await.unwrap().failures()[0].reason(), Some("RESOURCE:ENI"));
    world.fail_any().nth(2).status(500);
    assert!(run_task(&ecs, "5-1").send().await.is_ok());
    assert!(run_task(&ecs, "6-1").send().await.is_err());
    expect![[r#"
        RunTask 1-1 FARGATE → answer lost (no effect)
        RunTask 1-1 FARGATE → task 1 (answer lost)
        RunTask 2-1 FARGATE → task 2
        RunTask 3-1 FARGATE → ThrottlingException (no effect)
        RunTask 4-1 FARGATE → failures[] (no effect)
        RunTask 5-1 FARGATE → task 3
        RunTask 6-1 FARGATE → 500 (no effect)
    "#]]
    .assert_eq(&world.calls().to_string());
    world.finish();
}

#[tokio::test]
async fn a_held_answer_lets_a_story_kill_the_process_right_there() {
    let world = World::start();
    let ecs = ecs(&world);
    let cut = world.fail_any().nth(1).after().hold();
    tokio::select! {
        _ = run_task(&ecs, "1-1").send() => panic!("the answer is held"),
        () = cut.struck() => {}
    }
    assert_eq!(world.ecs().live_count(), 1, "it happened, and nobody heard");
    let held = world.fail(Op::RunTask).hold();
    let (answer, ()) = tokio::join!(run_task(&ecs, "1-1").send(), async {
        held.struck().await;
        held.release();
    });
    assert!(answer.is_ok());
    world.finish();
}

#[test]
fn github_s_refusals_come_with_their_headers() {
    let world = World::start();
    let set = |n: usize| {
        let fault = world.fail(Op::Mint);
        match n {
            0 => fault.retry_after(429, 17),
            1 => fault.retry_after(403, 60),
            2 => fault.secondary_rate_limit(),
            3 => fault.primary_rate_limit(OffsetDateTime::UNIX_EPOCH),
            4 => fault.permission_missing("organization_self_hosted_runners=write"),
            5 => fault.bad_credentials(),
            _ => fault.status(502),
        }
    };
    let want = [
        (429, "retry-after: 17"),
        (403, "retry-after: 60"),
        (403, "x-ratelimit-remaining: 4321"),
        (403, "x-ratelimit-remaining: 0"),
        (403, "x-accepted-github-permissions: organization_self_hosted_runners=write"),
        (401, "content-type: application/json"),
        (502, "content-type: text/html"),
    ];
    for (n, (status, header)) in want.into_iter().enumerate() {
        set(n);
        let (got, head, _) = ask(&world, "POST", MINT, PAT, "{}").unwrap();
        assert_eq!(got, status);
        assert!(head.contains(header), "{header}: {head}");
    }
    world.fail(Op::Mint).drop_connection();
    assert_eq!(ask(&world, "POST", MINT, PAT, "{}"), None);
    let started = Instant::now();
    world.fail(Op::Mint).delay(Duration::from_millis(30));
    assert_eq!(mint(&world, "fargate-1-1"), 201);
    assert!(started.elapsed() >= Duration::from_millis(30));
    world.finish();
}

#[test]
fn a_batch_comes_with_real_receipt_handles() {
    let world = World::start();
    let job = world.queue_job(&["self-hosted", "fargate"]);
    let batch = world.deliver(&[world.queued(job), "poison".to_owned()]);
    let body: Value = serde_json::from_str(batch["Records"][0]["body"].as_str().unwrap()).unwrap();
    assert_eq!(body["workflow_job"]["labels"], json!(["self-hosted", "fargate"]));
    let failures = json!({"batchItemFailures": [{"itemIdentifier": batch["Records"][1]["messageId"]}]});
    assert_eq!(world.acknowledge(JOB_QUEUE, &batch, &failures), 1);
    assert_eq!(world.letters(JOB_QUEUE), [("poison".to_owned(), None)]);
    world.advance(time::Duration::seconds(180));
    assert_eq!(world.receive(JOB_QUEUE, 10)["Records"][0]["attributes"]["ApproximateReceiveCount"], "2");
    assert_eq!(world.imbalances(), ["[fargate,self-hosted]: 1 jobs wait, 0 runners are owed"]);
    world.finish();
}

#[test]
fn a_story_from_the_queue_to_the_end_of_the_job() {
    let world = World::start();
    let now = world.now();
    let job = world.queue_job(&["self-hosted", "fargate"]);
    let event = |action: &str| crate::model::bus::Event {
        bus: BUS.to_owned(),
        source: "github.com".to_owned(),
        detail_type: "workflow_job".to_owned(),
        detail: world.payload(job, action).to_string(),
        at: now,
    };
    assert!(world.bus().put(vec![event("queued")])[0].is_ok());
    assert_eq!(world.pass_on(), (1, 0));
    let batch = world.receive(JOB_QUEUE, 10);
    let body: Value = serde_json::from_str(batch["Records"][0]["body"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&body["detail-type"], &body["detail"]["workflow_job"]["id"]),
        (&json!("workflow_job"), &json!(job))
    );

    assert_eq!(mint(&world, "fargate-1-1"), 201);
    let request = crate::model::ecs::RunTask {
        cluster: CLUSTER.to_owned(),
        task_definition: TASK_DEFINITION.to_owned(),
        client_token: Some("1-1".to_owned()),
        started_by: "gha-1".to_owned(),
        launch: crate::model::ecs::Launch::Provider("FARGATE_SPOT".to_owned()),
        container: Some("runner".to_owned()),
        environment: vec![(
            "ACTIONS_RUNNER_INPUT_JITCONFIG".to_owned(),
            crate::model::jit::encode(1, "fargate-1-1"),
        )],
        cpu: None,
        memory: None,
        disk: None,
        tags: vec![],
        subnets: vec!["subnet-1".to_owned()],
        security_groups: vec![],
        public_ip: true,
    };
    assert_eq!(world.ecs().run_task(&request, now), Ok(crate::model::ecs::Answer::Started(1)));
    assert_eq!(world.imbalances(), [""; 0]);
    assert_eq!(world.boot(), 1);
    assert_eq!(world.assign(), [(job, 1)]);
    expect![[r#"
        job 1: in_progress on fargate-1-1
        registration 1: fargate-1-1 online, busy
        task 1: RUNNING FARGATE_SPOT for gha-1, registration 1
    "#]]
    .assert_eq(&world.books());
    assert!(world.bus().put(vec![event("in_progress")])[0].is_ok());
    world.finish_job(job);
    assert_eq!(world.pass_on(), (0, 2), "the job in progress, and the task stopped");
    assert_eq!(world.books(), "job 1: completed, success on fargate-1-1\n");

    // A task that dies before its job leaves a registration that is owed a task; one whose registration is
    // gone exits by itself.
    assert_eq!(mint(&world, "fargate-2-1"), 201);
    let second = |token: &str| crate::model::ecs::RunTask {
        client_token: Some(token.to_owned()),
        environment: vec![(
            "ACTIONS_RUNNER_INPUT_JITCONFIG".to_owned(),
            crate::model::jit::encode(2, "fargate-2-1"),
        )],
        ..request.clone()
    };
    world.ecs().run_task(&second("2-1"), now).unwrap();
    world.kill_task(2, "TaskFailedToStart", "CannotPullContainerError", None);
    let event = world.state_change(2);
    assert_eq!(
        (&event["detail"]["stopCode"], &event["detail"]["lastStatus"]),
        (&json!("TaskFailedToStart"), &json!("STOPPED"))
    );
    assert_eq!(world.imbalances()[0], "registration 2 (fargate-2-1) has no task");
    assert_eq!(ask(&world, "DELETE", &format!("{RUNNERS}/2"), PAT, "").unwrap().0, 204);
    world.ecs().run_task(&second("2-2"), now).unwrap();
    assert_eq!(world.imbalances(), ["task 3 has no registration"]);
    assert_eq!(world.boot(), 0);
    assert_eq!(world.imbalances(), [""; 0]);
    world.finish();
}

#[test]
#[should_panic = "the fault at RunTask never struck"]
fn a_fault_that_never_struck_fails_the_story() {
    let world = World::start();
    world.fail(Op::RunTask).drop_connection();
    world.finish();
}

#[test]
#[should_panic = "the world takes exception"]
fn a_forgotten_violation_fails_the_story() {
    let world = World::start();
    ask(&world, "GET", "/nowhere", PAT, "");
}

#[test]
fn another_process_changes_the_world_through_its_controls() {
    let world = World::serve(false, 0).unwrap();
    *world.app() = super::own_app();
    world.app().pats.insert(PAT.to_owned());
    let control =
        |method: &str, path: &str, body: &str| ask_with(&world, method, path, "x: y", body).unwrap();
    let payload = include_str!("../../../events/queued.json");
    let (status, _, job) = control("POST", "/_world/jobs", payload);
    assert_eq!((status, &job["status"], &job["labels"][3]), (200, &json!("queued"), &json!("fargate")));
    let body = json!({"name": "fargate-1-1", "runner_group_id": 1, "labels": job["labels"]});
    assert_eq!(ask(&world, "POST", MINT, PAT, &body.to_string()).unwrap().0, 201);
    let (_, _, runner) = control("POST", "/_world/runners/1", r#"{"online": true, "busy": true}"#);
    assert_eq!((&runner["status"], &runner["job"]), (&json!("online"), &job["id"]));
    let (_, _, jobs) = control("GET", "/_world/jobs", "");
    assert_eq!(jobs[0]["runner_name"], "fargate-1-1");
    let (status, _, gone) = control("POST", "/_world/runners/1", r#"{"busy": false}"#);
    assert_eq!((status, gone), (200, Value::Null));
    assert_eq!(control("GET", "/_world/runners", "").2, json!([]));
    let (_, _, job) =
        control("POST", "/_world/jobs", r#"{"id": 9, "status": "completed", "conclusion": "cancelled"}"#);
    assert_eq!(job["conclusion"], "cancelled");
    assert_eq!(control("GET", "/_world/calls", "").2[0]["outcome"], "201 runner 1");
    assert_eq!(control("GET", "/_world/app", "").2["app_id"], APP_ID);
    assert_eq!(control("GET", "/_world/violations", "").2, json!([]));
    for (path, body) in [("/_world/runners/7", "{}"), ("/_world/jobs", r#"{"id": 9, "state": "queued"}"#)] {
        assert_eq!(control("POST", path, body).0, 400);
    }
    world.finish();
}
