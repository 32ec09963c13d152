//! The warm pool. Its runners are owed to no job, so the conservation check leaves them out.

use super::{LABELS, Metric, Op, Story, json};
use crate::http::Service;
use crate::model::github::Untrue;
use time::{Duration, format_description::well_known::Rfc3339};

async fn with_a_pool_of(size: &str) -> Story {
    Story::with(&[("WARM_POOL_SIZE", size), ("RUNNER_LABELS", &LABELS.join(","))]).await
}

#[tokio::test]
async fn a_runner_that_is_left_over_joins_the_pool() {
    let story = with_a_pool_of("1").await;
    let cancelled = story.start_job_that_the_pool_leaves().await;
    story.world.boot();
    story.cancel(cancelled);
    story.world.take_calls();
    let swept = story.sweep_after_the_timeout().await;
    assert_eq!((swept.get(Metric::PoolSize), swept.get(Metric::Retired)), (1, 0));
    assert_eq!(story.count(Op::Mint), 0, "one is there already");

    let next = story.world.queue_job(&LABELS);
    assert_eq!(story.world.assign().len(), 1);
    story.tell_taken(next, "in_progress").await;
    story.end();
}

#[tokio::test]
async fn a_runner_with_other_labels_does_not_join_the_pool() {
    let story = with_a_pool_of("1").await;
    let job = story.world.queue_job(&["self-hosted", "fargate", "cpu=2"]);
    story.dispatch(&[story.world.queued(job)]).await;
    story.world.boot();
    story.cancel(job);
    let swept = story.sweep_after_the_timeout().await;
    assert_eq!((swept.get(Metric::PoolSize), swept.get(Metric::Retired)), (1, 1));
    assert!(story.names().iter().all(|name| name.starts_with("fargate-pool-")), "{:?}", story.names());
    story.end();
}

#[tokio::test]
async fn what_two_sweeps_of_different_times_fill_too_much_goes_when_idle() {
    let story = with_a_pool_of("2").await;
    let earlier = story.schedule();
    let due = (story.fleet.now() + Duration::seconds(1)).format(&Rfc3339).expect("a time");
    let later = json!({ "detail-type": "Scheduled Event", "time": due, "detail": {} });
    tokio::join!(story.tell(&earlier), story.tell(&later));
    story.world.boot();
    story.sweep_after_the_timeout().await;
    assert_eq!(story.live(), 2, "{}", story.world.books());
    story.end();
}

#[tokio::test]
async fn a_pool_without_capacity_leaves_no_registration_and_is_filled_later() {
    let story = with_a_pool_of("1").await;
    story.world.fail(Op::RunTask).failures("Capacity is unavailable at this time.");
    let swept = story.sweep().await;
    assert_eq!((swept.get(Metric::PoolSize), swept.get(Metric::LeftToNextSweep)), (0, 1));
    assert!(story.names().is_empty());
    story.world.advance(Duration::minutes(5));
    assert_eq!(story.sweep().await.get(Metric::PoolSize), 1);
    assert_eq!(story.world.calls().to(Service::Ecs).count(Op::RunTask), 2);
    story.end();
}

#[tokio::test]
async fn a_pool_whose_runners_all_die_is_not_filled_up_again_and_again() {
    let story = with_a_pool_of("3").await;
    let mut started = Vec::new();
    for _ in 0..4 {
        let swept = story.sweep().await;
        started.push((story.live(), swept.get(Metric::NeedsOperator)));
        story.world.boot();
        let tasks: Vec<u64> = story.world.ecs().live().map(|task| task.number).collect();
        for task in tasks {
            let (code, reason) = ("EssentialContainerExited", "Essential container in task exited");
            story.world.kill_task(task, code, reason, Some(1));
            story.tell_stopped(task).await;
        }
        story.world.advance(Duration::minutes(5));
    }
    assert_eq!(started, [(3, 0), (1, 1), (1, 1), (1, 1)]);
    story.end();
}

#[tokio::test]
async fn the_pool_leaves_a_place_under_max_runners_and_gives_one_back() {
    let settings = [("WARM_POOL_SIZE", "3"), ("MAX_RUNNERS", "3"), ("RUNNER_LABELS", &LABELS.join(","))];
    let story = Story::with(&settings).await;
    assert_eq!(story.sweep().await.get(Metric::PoolSize), 2);
    story.world.boot();
    let of_other_labels = async || {
        let job = story.world.queue_job(&["self-hosted", "fargate", "cpu=2"]);
        story.dispatch(&[story.world.queued(job)]).await;
        story.world.boot();
        assert_eq!(story.world.assign().len(), 1, "it runs: {}", story.world.books());
        story.tell_job(job, "in_progress").await;
    };
    of_other_labels().await;
    assert_eq!(story.live(), 3);
    let swept = story.sweep_after_the_timeout().await;
    assert_eq!((swept.get(Metric::PoolSize), swept.get(Metric::Retired)), (1, 1));
    of_other_labels().await;
    assert_eq!(story.live(), 3, "{}", story.world.books());
    // With the next place, too; and when all are at work, there is none.
    assert_eq!(story.sweep_after_the_timeout().await.get(Metric::PoolSize), 0);
    of_other_labels().await;
    assert_eq!((story.sweep().await.get(Metric::PoolSize), story.live()), (0, 3));
    story.end();
}

/// Its event is lost. Shown as idle, it is one more than the pool is to have.
#[tokio::test]
async fn a_pool_runner_at_work_is_written_down_though_nobody_tells_of_its_job() {
    let story = with_a_pool_of("1").await;
    story.sweep().await;
    story.world.boot();
    let (task, runner) = (story.task(), story.runner_of(story.task()));
    let job = story.world.queue_job(&LABELS);
    assert_eq!(story.world.assign().len(), 1);
    story.world.advance(Duration::minutes(3));
    story.sweep().await;
    assert_eq!(story.tag(task, "gha:ran-untold").as_deref(), Some("true"));
    story.world.boot();
    let now = story.fleet.now();
    story.world.github().say_of_runner(runner, Untrue { idle: true, ..Untrue::default() }, now);
    story.sweep_after_the_timeout().await;
    assert_eq!((story.count(Op::DeleteRunner), story.count(Op::StopTask)), (0, 0), "{}", story.world.calls());
    story.world.github().say_of_runner(runner, Untrue::default(), now);
    story.world.finish_job(job);
    story.end();
}

/// GitHub does not show its job: once may be an old answer.
#[tokio::test]
async fn a_pool_runner_that_was_given_a_job_goes_when_it_is_seen_idle_twice() {
    let story = with_a_pool_of("1").await;
    story.sweep().await;
    story.world.boot();
    let runner = story.runner_of(story.task());
    let job = story.world.queue_job(&LABELS);
    assert_eq!(story.world.assign().len(), 1);
    story.tell_taken(job, "in_progress").await;
    story.sweep().await;
    story.world.boot();
    let now = story.fleet.now();
    story.world.github().say_of_runner(runner, Untrue { idle: true, ..Untrue::default() }, now);
    story.world.fail(Op::GetJob).times(4).before().status(404);
    let mut deleted = Vec::new();
    for _ in 0..2 {
        story.sweep_after_the_timeout().await;
        deleted.push(story.count(Op::DeleteRunner));
    }
    assert_eq!(deleted, [0, 1], "{}", story.world.calls());
}

#[tokio::test]
async fn one_too_many_is_one_too_many_after_the_rate_limit_as_well() {
    let story = with_a_pool_of("1").await;
    let earlier = story.schedule();
    let due = (story.fleet.now() + Duration::seconds(1)).format(&Rfc3339).expect("a time");
    let later = json!({ "detail-type": "Scheduled Event", "time": due, "detail": {} });
    tokio::join!(story.tell(&earlier), story.tell(&later));
    story.world.boot();
    assert_eq!(story.live(), 2);
    story.world.fail(Op::DeleteRunner).once().before().retry_after(429, 10);
    let swept = story.sweep_after_the_timeout().await;
    assert_eq!((story.live(), swept.get(Metric::PoolSize)), (1, 1), "{}", story.world.books());
    story.end();
}
