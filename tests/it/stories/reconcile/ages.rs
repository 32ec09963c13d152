//! How long a job has waited: since it was made, since it was approved, and for longer than GitHub keeps it.

use super::{LABELS, Metric, Op, Story};
use crate::http::{DEAD_LETTERS, JOB_QUEUE};
use serde_json::json;
use time::Duration;

/// tuist#12673.
#[tokio::test]
async fn a_job_that_is_queued_for_longer_than_a_day_gets_no_more_runners() {
    let story = Story::begin().await;
    let job = story.start_job().await;
    story.world.boot();
    story.world.advance(Duration::hours(25));
    let swept = story.sweep().await;
    assert_eq!((swept.get(Metric::Retired), swept.get(Metric::Replaced)), (1, 0));
    story.cancel(job);
    story.end();
}

/// A release that is approved after a weekend: GitHub has just queued it, whatever its `created_at` says.
#[tokio::test]
async fn a_job_that_was_approved_after_days_gets_its_runners() {
    let story = Story::begin().await;
    let job = story.world.queue_job(&LABELS);
    story.world.github().hold_back(job, story.fleet.now());
    story.world.advance(Duration::hours(60));
    story.world.github().approve(job, story.fleet.now());
    story.dispatch(&[story.world.queued(job)]).await;
    assert_eq!(story.live(), 1);
    // Each that dies is followed by another.
    for _ in 0..2 {
        let task = story.task();
        story.world.kill_task(
            task,
            "EssentialContainerExited",
            "Essential container in task exited",
            Some(1),
        );
        story.tell_stopped(task).await;
        story.dispatch_announced().await;
        assert_eq!(story.live(), 1, "{}\n{}", story.world.books(), story.world.calls());
    }
    story.runs_in_the_end(job).await;
    story.end();
}

/// GitHub's own event says that it was approved; GET may be minutes behind.
#[tokio::test]
async fn a_job_that_was_approved_is_not_dropped_because_github_shows_it_as_held_back() {
    let story = Story::begin().await;
    let job = story.world.queue_job(&LABELS);
    story.world.advance(Duration::hours(2));
    let queued = story.world.queued(job);
    story.world.github().hold_back(job, story.fleet.now());
    story.dispatch(&[queued]).await;
    assert_eq!(story.live(), 0, "asked again");
    for _ in 0..3 {
        story.dispatch_announced().await;
    }
    assert_eq!(story.live(), 1, "when in doubt, it is started");
    story.world.github().approve(job, story.fleet.now());
    story.runs_in_the_end(job).await;
    story.end();
}

/// The same while webhooks are out, and jobs that nobody tells of take its runners: those count against nothing.
#[tokio::test]
async fn a_job_that_was_approved_after_days_gets_another_for_each_that_is_taken() {
    let story = Story::with(&[("MAX_ATTEMPTS", "1")]).await;
    let job = story.world.queue_job(&LABELS);
    story.world.github().hold_back(job, story.fleet.now());
    story.world.advance(Duration::hours(60));
    story.world.github().approve(job, story.fleet.now());
    story.dispatch(&[story.world.queued(job)]).await;
    for theft in 0..3 {
        story.world.boot();
        let unheard = story.world.queue_job(&LABELS);
        story.assign(unheard, story.runner_of(story.task()));
        story.world.advance(Duration::minutes(3));
        assert_eq!(story.sweep().await.get(Metric::Replaced), 1, "{theft}");
        story.world.finish_job(unheard);
        story.dispatch_announced().await;
        assert_eq!(story.live(), 1, "{theft}: {}", story.world.books());
    }
    story.runs_in_the_end(job).await;
    story.end();
}

/// Its runners were taken by jobs that nobody told of, and the last announcement got lost; its `queued` event comes again when
/// ECS has forgotten them all.
#[tokio::test]
async fn a_job_whose_runners_are_forgotten_is_not_given_up() {
    let story = Story::with(&[("MAX_ATTEMPTS", "1")]).await;
    let job = story.start_job().await;
    for _ in 0..2 {
        story.world.boot();
        let task = story.task();
        let unheard = story.world.queue_job(&LABELS);
        story.assign(unheard, story.runner_of(task));
        story.world.finish_job(unheard);
        story.tell_stopped(task).await;
        if story.count(Op::RunTask) < 2 {
            story.dispatch_announced().await;
        }
    }
    story.world.advance(Duration::minutes(4));
    let lost = story.world.receive(JOB_QUEUE, 10);
    story.world.acknowledge(JOB_QUEUE, &lost, &json!({ "batchItemFailures": [] }));
    story.world.advance(Duration::hours(2));
    story.dispatch(&[story.world.queued(job)]).await;
    // What goes on is sent, and nobody hears so: it is sent twice.
    story.world.fail(Op::SendMessage).once().after().drop_connection();
    // Each time, ECS may only not show a task yet.
    for _ in 0..8 {
        story.dispatch_announced().await;
    }
    assert_eq!(story.world.letters(DEAD_LETTERS), [], "{}", story.world.books());
    assert_eq!(story.live(), 1, "{}\n{}", story.world.books(), story.world.calls());
    story.runs_in_the_end(job).await;
    story.end();
}
