//! Who started what, and who used it: by the log alone.

use gha_fargate_runners::lambda::metric::Metric;
use serde_json::{Value, json};
use time::{Duration, format_description::well_known::Rfc3339};

use crate::{
    fleet::Fleet,
    http::{JOB_QUEUE, LIFECYCLE_QUEUE, OWNER, REPOSITORY, World},
    log::Log,
};

#[tokio::test]
async fn each_runner_has_a_line_of_who_started_it_and_one_of_who_used_it() {
    let log = Log::keep();
    let world = World::start();
    let fleet = Fleet::with(&world, &[("ALLOWED_REPOSITORIES", &format!("{OWNER}/{REPOSITORY}"))]).await;
    let job = world.queue_job(&["self-hosted", "fargate", "cpu=2"]);
    let mut payload = world.payload(job, "queued");
    payload["sender"]["login"] = json!("octo-app[bot]");
    let batch = world.deliver(&[payload.to_string()]);
    world.acknowledge(JOB_QUEUE, &batch, &fleet.dispatch(&batch).await);

    let lines = log.lines("reason", "Started");
    let [started] = lines.as_slice() else { panic!("{lines:?}") };
    let run = &payload["workflow_job"]["run_id"];
    let task = world.ecs().live().next().map(|task| (task.number, task.arn.clone())).expect("a task");
    for (field, value) in [
        ("job", json!(job)),
        ("run", run.clone()),
        ("repository", json!("octo-org/example-workflow")),
        ("sender", json!("octo-app[bot]")),
        ("labels", json!("self-hosted fargate cpu=2")),
        ("task", json!(task.1)),
        ("image", json!("ghcr.io/actions/actions-runner:latest")),
        ("cpu", json!(2048)),
        ("memory", json!(4096)),
    ] {
        assert_eq!(started[field], value, "{field}: {started}");
    }
    assert!(started["definition"].as_str().is_some_and(|arn| arn.contains(":task-definition/")), "{started}");

    // Another's job gets it.
    world.boot();
    let thief = world.queue_job_in(OWNER, "legacy", &["self-hosted", "fargate"]);
    let (now, runner) = (fleet.now(), world.runner_of(task.0).expect("a runner"));
    assert!(world.github().assign(thief, runner, now));
    let mut payload = world.payload(thief, "in_progress");
    // What is no login is not written down.
    payload["sender"]["login"] = json!("x\",\"level\":\"ERROR");
    let batch = world.deliver_to(LIFECYCLE_QUEUE, &[payload.to_string()]);
    world.acknowledge(LIFECYCLE_QUEUE, &batch, &fleet.reconcile(&batch).await);
    for reason in ["Used", "TakenByForeign"] {
        let lines = log.lines("reason", reason);
        let [used] = lines.as_slice() else { panic!("{reason}: {lines:?}") };
        for (field, value) in [
            ("job", json!(thief)),
            ("repository", json!("octo-org/legacy")),
            ("task", json!(task.1)),
            ("sender", json!(null)),
        ] {
            assert_eq!(used[field], value, "{reason} {field}: {used}");
        }
    }
    world.finish_job(thief);
}

#[tokio::test]
async fn runners_of_the_warm_pool_have_theirs_and_are_counted() {
    let log = Log::keep();
    let world = World::start();
    let fleet = Fleet::with(&world, &[("WARM_POOL_SIZE", "2")]).await;
    let time = fleet.now().format(&Rfc3339).expect("a time");
    let sweep = json!({ "detail-type": "Scheduled Event", "time": time, "detail": {} }).to_string();
    let batch = world.deliver_to(LIFECYCLE_QUEUE, &[sweep]);
    let (_, metrics) = fleet.reconcile_until(&batch, fleet.now() + Duration::minutes(2)).await;
    let lines = log.lines("reason", "Started");
    let arns: Vec<String> = world.ecs().live().map(|task| task.arn.clone()).collect();
    assert_eq!(lines.iter().map(|line| line["task"].clone()).collect::<Vec<_>>(), arns);
    assert!(lines.iter().all(|line| line["cpu"] == 1024), "{lines:?}");
    assert_eq!(metrics.get(Metric::StartedCpuUnits), 2048);
}

#[tokio::test]
async fn a_task_that_has_ended_has_a_line_of_what_it_used_and_whose_cost_that_is() {
    let log = Log::keep();
    let world = World::start();
    let fleet = Fleet::with(&world, &[]).await;
    let mut used = Vec::new();
    // The second one's runner is taken by a job of another repository; the third dies before any job.
    for (size, taken, lives) in [("cpu=2", false, true), ("cpu=0.5", true, true), ("cpu=1", false, false)] {
        let job = world.queue_job(&["self-hosted", "fargate", size]);
        let batch = world.deliver(&[world.queued(job)]);
        world.acknowledge(JOB_QUEUE, &batch, &fleet.dispatch(&batch).await);
        let task = world.ecs().live().next().map(|task| task.number).expect("a task");
        world.advance(Duration::seconds(30));
        if lives {
            world.boot();
            let ran = match taken {
                true => world.queue_job_in(OWNER, "legacy", &["self-hosted", "fargate"]),
                false => job,
            };
            let (now, runner) = (fleet.now(), world.runner_of(task).expect("a runner"));
            assert!(world.github().assign(ran, runner, now));
            let batch = world.deliver_to(LIFECYCLE_QUEUE, &[world.payload(ran, "in_progress").to_string()]);
            world.acknowledge(LIFECYCLE_QUEUE, &batch, &fleet.reconcile(&batch).await);
            world.advance(Duration::seconds(70));
            world.finish_job(ran);
        } else {
            world.kill_task(task, "TaskFailedToStart", "CannotPullContainerError", None);
        }
        let batch = world.deliver_to(LIFECYCLE_QUEUE, &[world.state_change(task).to_string()]);
        let (_, metrics) = fleet.reconcile_until(&batch, fleet.now() + Duration::minutes(2)).await;
        used.extend(metrics.used("reconcile", fleet.now()).map(|line| (job, line)));
    }
    let [(job, own), (_, thiefs)] = used.as_slice() else {
        panic!("one that never ran costs nothing: {used:?}")
    };
    // The line of what became of it says so too.
    let settled = log.lines("reason", "Settled");
    let settled: Vec<(&Value, &Value)> =
        settled.iter().map(|line| (&line["job"], &line["repository"])).collect();
    assert!(settled.contains(&(&json!(job), &json!("octo-org/example-workflow"))), "{settled:?}");
    let read = |line: &str| serde_json::from_str::<Value>(line).expect("JSON");
    let (own, thiefs) = (read(own), read(thiefs));
    for (field, value) in [
        ("VcpuSeconds", json!(200.0)),
        ("GibSeconds", json!(400.0)),
        ("seconds", json!(100)),
        ("cpu", json!(2048)),
        ("memory", json!(4096)),
        ("capacity", json!("FARGATE")),
        ("job", json!(job)),
        ("repository", json!("octo-org/example-workflow")),
    ] {
        assert_eq!(own[field], value, "{field}: {own}");
    }
    assert_eq!(own["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([["FunctionName"]]));
    assert_eq!((&thiefs["repository"], &thiefs["VcpuSeconds"]), (&json!("octo-org/legacy"), &json!(50.0)));
}
