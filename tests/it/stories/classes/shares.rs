//! Shares are kept: a class's, an owner's, a repository's.

use gha_fargate_runners::lambda::metric::Metric;
use serde_json::json;
use time::Duration;

use crate::{
    fleet::Fleet,
    http::{JOB_QUEUE, OWNER, Op, PAT_SECRET, REPOSITORY, Service, World},
    model::bus::Secrets,
};

use super::{again, dispatch, document, queue_in, settle, started_for, world};

#[tokio::test]
async fn a_class_and_a_repository_have_their_shares() {
    let rows = json!([{"name": "big", "labels": ["big"], "max_runners": 4, "max_runners_per_repository": 3},
        {"name": "usual", "labels": ["fargate"]}]);
    let world = world();
    let fleet = Fleet::with(&world, &[("RUNNER_CLASSES", &document(1, &rows))]).await;
    // A process looks whether its runners live when it begins.
    dispatch(&world, &fleet, &[world.queued(world.queue_job(&["fargate"]))]).await;
    world.take_calls();
    let mut bodies: Vec<String> = (0..6).map(|_| world.queued(world.queue_job(&["big"]))).collect();
    bodies.push(queue_in(&world, "other", &["big"]).1);
    bodies.push(queue_in(&world, "other", &["big"]).1);
    bodies.push(world.queued(world.queue_job(&["fargate"])));
    world.send(JOB_QUEUE, &bodies);
    let batch = world.receive(JOB_QUEUE, 10);
    let (answer, metrics) = fleet.invoke(&batch).await;
    assert_eq!(world.acknowledge(JOB_QUEUE, &batch, &answer.expect("a batch never fails")), 7);
    assert_eq!((metrics.get(Metric::Started), metrics.get(Metric::DeferredQuota)), (2, 7));
    assert_eq!(metrics.get(Metric::OldestDeferred), 0, "as it was set");
    // Over quota is deferred before anything is minted, and counted once.
    let calls = world.take_calls();
    let counted = (calls.count(Op::ListTasks), calls.count(Op::DescribeTasks));
    assert_eq!((counted, calls.count(Op::Mint), calls.count(Op::RunTask)), ((1, 1), 2, 2));
    settle(&world, &fleet).await;
    let of = |name: &str| {
        let full = format!("{OWNER}/{name}");
        world
            .ecs()
            .live()
            .filter(|task| task.tags["gha:class"] == "big" && task.tags["gha:repository"] == full)
            .count()
    };
    assert!((2..=3).contains(&of(REPOSITORY)) && of(REPOSITORY) + of("other") == 4);
    let calls = world.take_calls();
    assert_eq!((calls.count(Op::Mint), calls.count(Op::RunTask)), (3, 3));

    // Nothing has ended: for a while nobody is asked, and then ECS once for each batch.
    world.advance(Duration::seconds(9));
    again(&world, &fleet).await;
    assert_eq!(world.take_calls().to(Service::Ecs).tally(), "");
    world.advance(Duration::minutes(3));
    assert_eq!(again(&world, &fleet).await, 4);
    assert_eq!(world.take_calls().to(Service::Ecs).tally(), "1 ListTasks, 1 DescribeTasks");

    // Two end, and two of those that wait get their places; each has had one attempt.
    world.boot();
    let big = world
        .assign()
        .into_iter()
        .filter(|(job, _)| started_for(&world, *job).is_some_and(|it| it.tags["gha:class"] == "big"));
    for (job, _) in big.take(2).collect::<Vec<_>>() {
        world.finish_job(job);
    }
    world.advance(Duration::minutes(3));
    again(&world, &fleet).await;
    settle(&world, &fleet).await;
    assert_eq!(world.ecs().live().filter(|task| task.tags["gha:class"] == "big").count(), 4);
    assert!(world.ecs().live().all(|task| task.tags["gha:attempt"] == "1"));
    world.finish();
}

/// In an enterprise, one organisation does not use up what is for all.
#[tokio::test]
async fn an_owner_has_its_share() {
    let rows = json!([{"name": "usual", "labels": ["fargate"], "max_runners_per_owner": 2}]);
    let world = world();
    let settings = [
        ("RUNNER_CLASSES", document(1, &rows)),
        ("RUNNER_SCOPE", "enterprise/octo-corp".to_owned()),
        ("ORGANIZATION", String::new()),
        ("GITHUB_SECRET_ARN", Secrets::arn(PAT_SECRET)),
    ];
    let fleet = Fleet::with(&world, &settings.each_ref().map(|(name, value)| (*name, value.as_str()))).await;
    let queue = |owner: &str, name: &str| {
        let job = world.queue_job_in(owner, name, &["self-hosted", "fargate"]);
        (job, world.queued(job))
    };
    let noisy: Vec<String> = (0..6).map(|n| queue(OWNER, ["app", "web"][n % 2]).1).collect();
    dispatch(&world, &fleet, &noisy).await;
    settle(&world, &fleet).await;
    assert_eq!(world.ecs().live_count(), 2);
    let (job, body) = queue("octo-labs", "app");
    dispatch(&world, &fleet, &[body]).await;
    settle(&world, &fleet).await;
    assert!(started_for(&world, job).is_some(), "{}", world.books());
    assert_eq!(world.ecs().live_count(), 3);
    world.finish();
}

/// What is over its share costs neither GitHub nor ECS anything, and takes nobody's time.
#[tokio::test]
async fn hundreds_of_one_repository_do_not_hold_up_another_s_one() {
    let rows = json!([{"name": "usual", "labels": ["fargate"], "max_runners_per_repository": 10}]);
    let world = world();
    let fleet = Fleet::with(&world, &[("RUNNER_CLASSES", &document(1, &rows))]).await;
    let bodies: Vec<String> = (0..200).map(|_| queue_in(&world, "noisy", &["fargate"]).1).collect();
    dispatch(&world, &fleet, &bodies).await;
    settle(&world, &fleet).await;
    assert_eq!(world.ecs().live_count(), 10);
    for minute in 0..8 {
        world.advance(Duration::minutes(1));
        world.take_calls();
        let (job, body) = queue_in(&world, "quiet", &["fargate"]);
        dispatch(&world, &fleet, &[body]).await;
        assert!(started_for(&world, job).is_some(), "at its first receive, in minute {minute}");
        let noisy = format!("{OWNER}/noisy");
        assert_eq!(world.ecs().live().filter(|task| task.tags["gha:repository"] == noisy).count(), 10);
        let calls = world.calls();
        assert_eq!((calls.count(Op::Mint), calls.count(Op::RunTask)), (1, 1));
        // Once for the noisy one, and once for the batch that the quiet one is in.
        assert!(calls.count(Op::ListTasks) <= 2, "{}", calls.tally());
    }
    world.boot();
    world.assign();
    let at_work: Vec<u64> =
        world.github().jobs().filter(|job| job.runner.is_some()).map(|job| job.id).collect();
    at_work.into_iter().for_each(|job| world.finish_job(job));
    // Those that wait come again within two minutes.
    world.advance(Duration::minutes(2));
    again(&world, &fleet).await;
    assert_eq!(world.ecs().live_count(), 10, "those that wait get their places");
    world.finish();
}

/// ECS does not list at once what was started: what this process started counts all the same.
#[tokio::test]
async fn a_share_is_kept_while_ecs_lists_nothing_yet() {
    let rows = json!([{"name": "big", "labels": ["big"], "max_runners": 12}]);
    let world = world();
    world.ecs().list_lag = Duration::seconds(40);
    let fleet = Fleet::with(&world, &[("RUNNER_CLASSES", &document(1, &rows))]).await;
    let bodies: Vec<String> = (0..40).map(|_| world.queued(world.queue_job(&["big"]))).collect();
    dispatch(&world, &fleet, &bodies).await;
    for _ in 0..12 {
        assert!(world.ecs().live_count() <= 12, "{}", world.ecs().live_count());
        world.advance(Duration::minutes(3));
        again(&world, &fleet).await;
    }
    assert_eq!(world.ecs().live_count(), 12);
    world.finish();
}

#[tokio::test]
async fn high_priority_overtakes() {
    let rows = json!([{"name": "big", "labels": ["big"], "max_runners": 10,
        "high_priority_repositories": ["octo-org/release"]}]);
    let world = world();
    let fleet = Fleet::with(&world, &[("RUNNER_CLASSES", &document(1, &rows))]).await;
    let bodies: Vec<String> = (0..30).map(|_| world.queued(world.queue_job(&["big"]))).collect();
    dispatch(&world, &fleet, &bodies).await;
    settle(&world, &fleet).await;
    assert_eq!(world.ecs().live_count(), 9, "a tenth is kept");
    let (urgent, body) = queue_in(&world, "release", &["big", "priority=high"]);
    let (back, body_of_back) = queue_in(&world, "release", &["big", "priority=normal"]);
    dispatch(&world, &fleet, &[body, body_of_back]).await;
    assert!(started_for(&world, urgent).is_some() && started_for(&world, back).is_none());
    world.finish();
}

#[tokio::test]
async fn a_repository_has_its_share_without_a_document() {
    let world = World::start();
    let fleet = Fleet::with(&world, &[("MAX_RUNNERS_PER_REPOSITORY", "2")]).await;
    let mut bodies: Vec<String> = (0..4).map(|_| world.queued(world.queue_job(&["fargate"]))).collect();
    bodies.push(queue_in(&world, "other", &["fargate"]).1);
    dispatch(&world, &fleet, &bodies).await;
    settle(&world, &fleet).await;
    assert_eq!(world.ecs().live_count(), 3);
    assert_eq!(world.imbalances().len(), 1, "two jobs wait: {:?}", world.imbalances());
    // Where ECS does not say, nobody is started beyond the share.
    world.advance(Duration::minutes(3));
    world.fail(Op::ListTasks).once().before().aws("AccessDeniedException");
    assert_eq!(again(&world, &fleet).await, 2);
    assert_eq!(world.ecs().live_count(), 3);
    world.finish();
}
