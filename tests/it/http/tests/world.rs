//! A story's own tools: queues, the bus, and the controls for another process.

use expect_test::expect;
use serde_json::{Value, json};

use super::{MINT, RUNNERS, ask, ask_with, mint};
use crate::http::{APP_ID, BUS, CLUSTER, JOB_QUEUE, PAT, TASK_DEFINITION, World};

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
fn another_process_changes_the_world_through_its_controls() {
    let world = World::serve(false, 0).unwrap();
    *world.app() = crate::http::own_app();
    world.app().pats.insert(PAT.to_owned());
    let control =
        |method: &str, path: &str, body: &str| ask_with(&world, method, path, "x: y", body).unwrap();
    let payload = include_str!("../../../../events/queued.json");
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
