//! AWS, as the SDK sees it.

use aws_credential_types::Credentials;
use aws_sdk_ecs::{
    config::{BehaviorVersion, Region},
    types::{LaunchType, Tag},
};
use expect_test::expect;

use super::{ecs, http, run_task};
use crate::http::{BUS, CLUSTER, DEAD_LETTERS, JOB_QUEUE, Op, PAT, PAT_SECRET, World};

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
