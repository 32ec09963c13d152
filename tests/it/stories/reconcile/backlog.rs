//! Jobs wait for hours, and so do their messages.

use super::{LABELS, Metric, Op, Story};
use crate::{
    fleet::Fleet,
    http::{JOB_QUEUE, OWNER, REPOSITORY},
};
use serde_json::json;
use time::Duration;

/// B's message waited for two hours: meanwhile B ran on A's runner, and ECS has forgotten whose that was and where A lives.
/// Or B took it while the event was still on its way.
#[tokio::test]
async fn a_message_that_waited_while_its_job_took_a_runner_settles_the_debt_however_late() {
    for on_its_way in [false, true] {
        let story = Story::begin().await;
        let a = story.start_job().await;
        story.world.boot();
        let b = story.world.queue_job(&LABELS);
        let event = story.world.queued(b);
        story.world.advance(Duration::minutes(1));
        if on_its_way {
            story.assign(b, story.runner_of(story.task()));
            story.world.advance(Duration::minutes(1));
        }
        story.world.send(JOB_QUEUE, &[event]);
        let _never_handled = story.world.receive(JOB_QUEUE, 10);
        story.world.advance(Duration::minutes(1));
        if !on_its_way {
            story.assign(b, story.runner_of(story.task()));
        }
        story.world.advance(Duration::minutes(10));
        story.world.finish_job(b);
        story.world.advance(Duration::minutes(120));
        for _ in 0..3 {
            story.dispatch_announced().await;
        }
        story.runs_in_the_end(a).await;
        story.end();
    }
}

/// B took A's runner, and nobody heard of it; another runner of B's was announced, and that waited for two hours on its queue.
#[tokio::test]
async fn an_announcement_that_waited_for_hours_still_finds_whose_runner_its_job_took() {
    let story = Story::begin().await;
    let a = story.start_job().await;
    story.world.boot();
    let b = story.world.queue_job(&LABELS);
    story.assign(b, story.runner_of(story.task()));
    story.world.advance(Duration::minutes(1));
    let announced = json!({ "replacement": {
        "job_id": b, "attempt": 2, "labels": LABELS, "owner": OWNER, "repository": REPOSITORY,
    } });
    story.world.send(JOB_QUEUE, &[announced.to_string()]);
    let _never_handled = story.world.receive(JOB_QUEUE, 10);
    story.world.advance(Duration::minutes(10));
    story.world.finish_job(b);
    story.world.advance(Duration::minutes(120));
    // By another process, which remembers no place.
    let world = story.world;
    let story = Story { fleet: Fleet::new(&world).await, world };
    for _ in 0..2 {
        story.dispatch_announced().await;
    }
    story.runs_in_the_end(a).await;
    story.end();
}

/// All wait for half an hour. One that was queued as long ago has taken a runner: its own message comes late, too, and brings one.
#[tokio::test]
async fn in_a_backlog_a_job_without_a_runner_of_its_own_is_not_taken_for_unheard() {
    let story = Story::begin().await;
    let [a, b] = [story.world.queue_job(&LABELS), story.world.queue_job(&LABELS)];
    let late = story.world.queued(b);
    story.world.advance(Duration::minutes(30));
    story.dispatch(&[story.world.queued(a)]).await;
    story.world.boot();
    story.assign(b, story.runner_of(story.task()));
    let event = story.world.payload(b, "in_progress");
    assert_eq!(story.tell_within(&[event], Duration::minutes(1)).await.get(Metric::Deferred), 1);
    for _ in 0..2 {
        let counted = story.look_again().await;
        assert_eq!((counted.get(Metric::Deferred), counted.get(Metric::Replaced)), (1, 0));
        story.world.advance(Duration::minutes(12));
    }
    story.dispatch(&[late]).await;
    story.dispatch_announced().await;
    story.runs_in_the_end(a).await;
    story.world.finish_job(b);
    story.world.advance(Duration::minutes(40));
    story.look_again().await;
    story.end();
}

/// GitHub allows no more calls. The job that took a runner seems to be unheard of, and its own message waits for the limit.
#[tokio::test]
async fn near_the_rate_limit_no_job_is_taken_for_unheard() {
    let story = Story::begin().await;
    let [a, b] = [story.world.queue_job(&LABELS), story.world.queue_job(&LABELS)];
    let late = story.world.queued(b);
    story.dispatch(&[story.world.queued(a)]).await;
    story.world.boot();
    story.assign(b, story.runner_of(story.task()));
    let event = story.world.payload(b, "in_progress");
    assert_eq!(story.tell_within(&[event], Duration::minutes(1)).await.get(Metric::Deferred), 1);
    story.world.advance(Duration::minutes(10));
    story.world.fail(Op::FindRunner).once().before().retry_after(429, 60);
    assert_eq!(story.look_again().await.get(Metric::Deferred), 1, "the limit");
    story.world.advance(Duration::minutes(2));
    let counted = story.look_again().await;
    assert_eq!((counted.get(Metric::Deferred), counted.get(Metric::Replaced)), (1, 0));
    story.dispatch(&[late]).await;
    story.dispatch_announced().await;
    story.runs_in_the_end(a).await;
    story.world.finish_job(b);
    story.world.advance(Duration::minutes(20));
    story.look_again().await;
    story.end();
}

/// A small job has a bigger one's runner, so its message brings none. Then its runner could not acquire it, and it waits again.
#[tokio::test]
async fn a_job_that_brought_no_runner_and_lost_the_one_that_it_got_is_seen_to() {
    let story = Story::begin().await;
    let small = story.world.queue_job(&LABELS);
    let late = story.world.queued(small);
    let big = story.world.queue_job(&[LABELS[0], LABELS[1], "cpu=2"]);
    story.dispatch(&[story.world.queued(big)]).await;
    story.world.boot();
    story.world.advance(Duration::minutes(3));
    story.assign(small, story.runner_of(story.task()));
    story.tell(&story.world.payload(small, "in_progress")).await;
    story.dispatch(&[late]).await;
    let its_own = format!("fargate-{small}-1");
    assert!(!story.names().contains(&its_own), "{:?}", story.names());
    let now = story.fleet.now();
    story.world.github().lose_job(small, true, now);
    for _ in 0..6 {
        story.world.advance(Duration::minutes(6));
        story.dispatch_announced().await;
        story.look_again().await;
        story.sweep().await;
        story.world.boot();
        story.world.assign();
    }
    for job in [big, small] {
        assert_eq!(story.status(job), "in_progress", "{}", story.world.books());
    }
}

/// It was a sweep that met the limit.
#[tokio::test]
async fn a_limit_that_a_sweep_met_is_one() {
    let story = Story::begin().await;
    let [a, b] = [story.world.queue_job(&LABELS), story.world.queue_job(&LABELS)];
    let late = story.world.queued(b);
    story.dispatch(&[story.world.queued(a)]).await;
    story.world.boot();
    story.assign(b, story.runner_of(story.task()));
    let event = story.world.payload(b, "in_progress");
    assert_eq!(story.tell_within(&[event], Duration::minutes(1)).await.get(Metric::Deferred), 1);
    let reset = story.fleet.now() + Duration::minutes(3);
    story.world.fail(Op::ListRunners).once().before().primary_rate_limit(reset);
    assert_eq!(story.sweep().await.get(Metric::Swept), 0);
    story.world.advance(Duration::minutes(4));
    let counted = story.look_again().await;
    assert_eq!((counted.get(Metric::Deferred), counted.get(Metric::Replaced)), (1, 0));
    story.dispatch(&[late]).await;
    story.dispatch_announced().await;
    story.runs_in_the_end(a).await;
    story.world.finish_job(b);
    story.world.advance(Duration::minutes(20));
    story.look_again().await;
    story.end();
}
