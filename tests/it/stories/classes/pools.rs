//! Each class has a pool of its own.

use gha_fargate_runners::lambda::metric::Metric;
use serde_json::json;
use time::Duration;

use crate::{
    fleet::Fleet,
    http::{JOB_QUEUE, Op, Service, World},
    model::ecs::Task,
};

use super::{IN_S3, PLACE, again, dispatch, document, started_for, sweep, tell, three, world};

/// An idle runner of a class's pool, by the labels of a job that it is for.
fn idle(world: &World, class: &str) -> Vec<Task> {
    let of_pool = |task: &&Task| {
        task.started_by == "gha-pool" && task.tags.get("gha:class").map(String::as_str) == Some(class)
    };
    let pool: Vec<Task> = world.ecs().live().filter(of_pool).cloned().collect();
    let is_idle = |task: &Task| {
        let runner = world.runner_of(task.number);
        runner.and_then(|id| world.github().runner(id).map(|it| !it.busy)).unwrap_or_default()
    };
    pool.into_iter().filter(is_idle).collect()
}

#[tokio::test]
async fn each_class_has_its_pool() {
    let mut rows = three();
    rows[0]["pool"] = json!({"size": 1});
    rows[1]["pool"] = json!({"size": 2});
    let world = world();
    world.put_object(PLACE, &document(1, &rows));
    let fleet = Fleet::with(&world, &[IN_S3]).await;
    assert_eq!(sweep(&world, &fleet).await.get(Metric::PoolSize), 3);
    world.boot();
    assert_eq!((idle(&world, "usual").len(), idle(&world, "big").len()), (1, 2));
    let big = idle(&world, "big")[0].clone();
    assert_eq!((big.definition.as_str(), big.cpu), ("big-runner:1", Some(4096)));
    assert_eq!((big.subnets.join(","), big.public_ip), ("subnet-0c,subnet-0d".to_owned(), false));
    assert_eq!(big.launch.provider(), "FARGATE_SPOT");

    // A job takes one, whose place is filled as soon as that is heard; however often.
    let job = world.queue_job(&["self-hosted", "big"]);
    assert_eq!(world.assign().len(), 1);
    let event = world.payload(job, "in_progress").to_string();
    for _ in 0..2 {
        tell(&world, &fleet, &event).await;
    }
    // A runner runs one job: whoever tells that it runs others too brings no more of them.
    for other in 1..4 {
        let mut event = world.payload(job, "in_progress");
        event["workflow_job"]["id"] = json!(job + 1000 + other);
        tell(&world, &fleet, &event.to_string()).await;
    }
    world.boot();
    assert_eq!((idle(&world, "usual").len(), idle(&world, "big").len()), (1, 2));
    assert_eq!(sweep(&world, &fleet).await.get(Metric::PoolSize), 3, "nothing is left for the sweep");

    // No good document is seen by a new function: it retires none of them.
    world.put_object(PLACE, "{");
    let another = Fleet::with(&world, &[IN_S3]).await;
    world.advance(Duration::minutes(20));
    sweep(&world, &another).await;
    assert_eq!((idle(&world, "usual").len(), idle(&world, "big").len()), (1, 2));

    // The pool is made smaller, and a class is taken out.
    let without = json!([three()[0], {"name": "big", "labels": ["big"], "pool": {"size": 1}}]);
    world.put_object(PLACE, &document(2, &without));
    world.advance(Duration::minutes(1));
    sweep(&world, &fleet).await;
    assert_eq!(
        (idle(&world, "usual").len(), idle(&world, "big").len()),
        (0, 2),
        "as long as it was told to wait"
    );
    world.advance(Duration::minutes(50));
    let swept = sweep(&world, &fleet).await;
    assert_eq!((idle(&world, "usual").len(), idle(&world, "big").len()), (0, 1));
    assert!(swept.get(Metric::PoolIdleSeconds) >= 3600, "the one that went was up for longer than an hour");
    world.finish();
}

/// A job that asks for nothing is left to its pool for a moment. One that is taken then has no runner of its own.
#[tokio::test]
async fn a_job_that_a_pool_s_runner_takes_costs_no_other() {
    let mut rows = three();
    rows[1]["pool"] = json!({"size": 1});
    let world = world();
    let fleet = Fleet::with(&world, &[("RUNNER_CLASSES", &document(1, &rows))]).await;
    sweep(&world, &fleet).await;
    world.boot();
    world.advance(Duration::minutes(3));
    world.take_calls();
    let [taken, with_size, of_another] =
        [&["self-hosted", "big"][..], &["big", "cpu=1"], &["fargate"]].map(|labels| world.queue_job(labels));
    world.send(JOB_QUEUE, &[taken, with_size, of_another].map(|job| world.queued(job)));
    let batch = world.receive(JOB_QUEUE, 10);
    let (answer, metrics) = fleet.invoke(&batch).await;
    assert_eq!(world.acknowledge(JOB_QUEUE, &batch, &answer.expect("a batch never fails")), 1);
    assert_eq!((metrics.get(Metric::Started), metrics.get(Metric::DeferredPool)), (2, 1));
    let calls = world.take_calls();
    assert_eq!((calls.count(Op::Mint), calls.count(Op::RunTask), calls.count(Op::GetJob)), (2, 2, 0));
    assert_eq!(world.assign().len(), 1);
    world.advance(Duration::seconds(15));
    assert_eq!(again(&world, &fleet).await, 0);
    assert_eq!(world.take_calls().to(Service::Github).tally(), "1 get job");
    assert!(started_for(&world, taken).is_none());
    // Which metrics say so, once.
    let event = world.payload(taken, "in_progress").to_string();
    let told = tell(&world, &fleet, &event).await;
    assert_eq!((told.get(Metric::PoolTaken), told.get(Metric::PoolIdleSeconds)), (1, 180));
    assert_eq!(tell(&world, &fleet, &event).await.get(Metric::PoolTaken), 0);

    // The next finds none that is idle: it waits once, and no longer.
    let missed = world.queue_job(&["self-hosted", "big"]);
    assert_eq!(dispatch(&world, &fleet, &[world.queued(missed)]).await, 1);
    world.advance(Duration::seconds(15));
    assert_eq!(again(&world, &fleet).await, 0);
    assert!(started_for(&world, missed).is_some());
    world.boot();
    world.assign();
    world.finish();
}

/// Its message was received before, but nobody has done anything: what is minted at that moment is not of a crash.
#[tokio::test]
async fn two_messages_that_come_back_from_a_pool_together_start_one_runner() {
    let rows = json!([{"name": "big", "labels": ["big"], "pool": {"size": 1}}]);
    let world = world();
    let fleet = Fleet::with(&world, &[("RUNNER_CLASSES", &document(1, &rows))]).await;
    let job = world.queue_job(&["big"]);
    assert_eq!(dispatch(&world, &fleet, &[world.queued(job), world.queued(job)]).await, 2);
    world.advance(Duration::seconds(15));
    again(&world, &fleet).await;
    let calls = world.calls();
    assert_eq!((calls.count(Op::RunTask), calls.count(Op::DeleteRunner)), (1, 0), "{}", calls.tally());
    world.advance(Duration::minutes(1));
    assert_eq!(again(&world, &fleet).await, 0);
    assert_eq!(world.ecs().live_count(), 1);
    world.finish();
}

#[tokio::test]
async fn a_pool_goes_by_the_clock() {
    let rows = json!([{"name": "big", "labels": ["big"],
        "pool": {"size": 0, "schedule": [{"from": "07:00", "to": "18:00", "size": 2}]}}]);
    let world = world();
    let fleet = Fleet::with(&world, &[("RUNNER_CLASSES", &document(1, &rows))]).await;
    let midnight = world.now().replace_time(time::Time::MIDNIGHT) + Duration::days(1);
    for (hour, want) in [(6, 0), (7, 2), (17, 2), (18, 0)] {
        world.set_now(midnight + Duration::hours(hour));
        world.advance(Duration::ZERO);
        sweep(&world, &fleet).await;
        world.boot();
        assert_eq!(idle(&world, "big").len(), want, "at {hour}");
        // With none there, nobody waits for one.
        let job = world.queue_job(&["big"]);
        assert_eq!(dispatch(&world, &fleet, &[world.queued(job)]).await, usize::from(want > 0), "at {hour}");
        let now = world.now();
        world.github().complete(job, "cancelled", now);
    }
    world.finish();
}

/// What `make drain` sets ends with no runner at all: whatever a class keeps ready, and however long it lets its runners idle.
#[tokio::test]
async fn drained_no_class_keeps_runners() {
    let rows =
        json!([{"name": "big", "labels": ["big"], "pool": {"size": 2}, "idle_timeout_seconds": 86_400}]);
    let world = world();
    let classes = ("RUNNER_CLASSES", document(1, &rows));
    let fleet = Fleet::with(&world, &[(classes.0, &classes.1), ("WARM_POOL_SIZE", "1")]).await;
    sweep(&world, &fleet).await;
    world.boot();
    let job = world.queue_job(&["big"]);
    assert_eq!(world.assign().len(), 1);

    let drain = [
        (classes.0, &*classes.1),
        ("WARM_POOL_SIZE", "1"),
        ("DRAINED", "true"),
        ("IDLE_TIMEOUT_SECONDS", "60"),
    ];
    let drained = Fleet::with(&world, &drain).await;
    tell(&world, &drained, &world.payload(job, "in_progress").to_string()).await;
    world.advance(Duration::minutes(5));
    sweep(&world, &drained).await;
    assert_eq!(world.ecs().live_count(), 1, "the one that runs a job");
    let now = world.now();
    world.github().complete(job, "success", now);
    world.advance(Duration::minutes(5));
    sweep(&world, &drained).await;
    assert_eq!(world.ecs().live_count(), 0);

    // A function that cannot read the document empties them too.
    sweep(&world, &fleet).await;
    world.boot();
    assert_eq!(world.ecs().live_count(), 3);
    let blind = [IN_S3, ("DRAINED", "true"), ("IDLE_TIMEOUT_SECONDS", "60")];
    let blind = Fleet::with(&world, &blind).await;
    world.advance(Duration::minutes(5));
    sweep(&world, &blind).await;
    assert_eq!(world.ecs().live_count(), 0);
    world.finish();
}
