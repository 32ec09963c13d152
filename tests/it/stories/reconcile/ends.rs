//! What a task's end says, and to whom.

use super::{LABELS, Metric, Op, Story};
use crate::http::DEAD_LETTERS;
use time::Duration;

const EXITED: (&str, &str) = ("EssentialContainerExited", "Essential container in task exited");
const SPOT: (&str, &str) = ("SpotInterruption", "Your Spot Task was interrupted.");

/// The containers beside it end with 0, whatever becomes of the runner's.
#[tokio::test]
async fn a_job_is_lost_with_the_runner_s_own_container() {
    for (exit, lost) in [(0, 0), (137, 1)] {
        let story = Story::begin().await;
        let job = story.start_job().await;
        let task = story.task();
        story.world.boot();
        story.world.assign();
        story.tell_job(job, "in_progress").await;
        let now = story.fleet.now();
        story.world.ecs().stopped(task, EXITED.0, EXITED.1, Some(exit), now);
        let told = story.tell_within(&[story.world.state_change(task)], Duration::minutes(1)).await;
        assert_eq!(told.get(Metric::Lost), lost, "exit code {exit}");
        story.world.github().complete(job, "failure", now);
        story.end();
    }
}

/// The rule leaves the overrides out of the event: only DescribeTasks says which of the containers is the runner's.
#[tokio::test]
async fn of_an_end_that_ecs_does_not_show_yet_nothing_is_made() {
    let story = Story::begin().await;
    let job = story.start_job().await;
    let task = story.task();
    story.world.boot();
    story.world.assign();
    story.tell_job(job, "in_progress").await;
    let now = story.fleet.now();
    story.world.ecs().take_back(task, SPOT.1, now);
    let mut early = story.world.state_change(task);
    early["detail"]["lastStatus"] = "STOPPED".into();
    assert!(!story.tell(&early).await, "it comes again");
    story.world.kill_task(task, SPOT.0, SPOT.1, Some(137));
    story.world.github().complete(job, "failure", now);
    assert_eq!(story.look_again().await.get(Metric::Interrupted), 1);
    story.end();
}

/// The job had no part in it.
#[tokio::test]
async fn a_runner_that_spot_takes_back_before_its_job_costs_no_attempt() {
    let story = Story::with(&[("MAX_ATTEMPTS", "2")]).await;
    let job = story.start_job().await;
    for _ in 0..4 {
        story.world.boot();
        let task = story.task();
        story.world.kill_task(task, SPOT.0, SPOT.1, Some(143));
        story.tell_stopped(task).await;
        story.world.advance(Duration::minutes(15));
        story.dispatch_announced().await;
        assert_eq!(story.live(), 1, "{:?}", story.world.letters(DEAD_LETTERS));
    }
    story.runs_in_the_end(job).await;
    story.end();
}

/// GitHub's webhooks are out: nobody tells which jobs take its runners.
#[tokio::test]
async fn a_runner_that_ran_somebody_s_job_to_its_end_costs_no_attempt() {
    let story = Story::begin().await;
    let job = story.start_job().await;
    for theft in 0..4 {
        story.world.boot();
        let task = story.task();
        let unheard = story.world.queue_job(&LABELS);
        story.assign(unheard, story.runner_of(task));
        story.world.finish_job(unheard);
        story.tell_stopped(task).await;
        story.world.advance(Duration::minutes(15));
        story.dispatch_announced().await;
        assert_eq!(story.tag(story.task(), "gha:failures").as_deref(), Some("0"), "{theft}");
    }
    story.runs_in_the_end(job).await;
    story.end();
}

/// Neither GitHub's event that a job took the runner nor ECS's of its end ever came.
#[tokio::test]
async fn an_end_that_nobody_told_of_is_found_by_a_later_sweep() {
    let story = Story::begin().await;
    let job = story.start_job().await;
    story.world.boot();
    let unheard = story.world.queue_job(&LABELS);
    story.assign(unheard, story.runner_of(story.task()));
    story.world.finish_job(unheard);
    // For ten minutes no sweep may look, so that one of the two that would find it does not.
    let mut replaced = Vec::new();
    for minute in (0..60).step_by(5) {
        if (25..35).contains(&minute) {
            story
                .world
                .fail(Op::ListRunners)
                .once()
                .before()
                .primary_rate_limit(story.fleet.now() + Duration::minutes(4));
        }
        replaced.push(story.sweep().await.get(Metric::Replaced));
        story.dispatch_announced().await;
        story.world.advance(Duration::minutes(1));
        if story.live() > 0 {
            break;
        }
    }
    assert_eq!(replaced.iter().sum::<u64>(), 1, "{replaced:?}");
    story.runs_in_the_end(job).await;
    story.end();
}

/// The same of a job that ran on its own runner, and of one whose runner died and was followed by another.
#[tokio::test]
async fn where_nobody_is_owed_a_later_sweep_starts_nothing() {
    let story = Story::begin().await;
    let job = story.start_job().await;
    story.world.boot();
    story.world.assign();
    story.world.finish_job(job);
    let followed = story.start_job().await;
    let died = story.task();
    story.world.kill_task(died, SPOT.0, SPOT.1, Some(143));
    story.tell_stopped(died).await;
    story.dispatch_announced().await;
    story.world.boot();
    story.world.assign();
    story.world.take_calls();
    for _ in 0..9 {
        assert_eq!(story.sweep().await.get(Metric::Replaced), 0);
        story.world.advance(Duration::minutes(5));
    }
    assert_eq!(story.count(Op::RunTask), 0);
    story.world.finish_job(followed);
    story.end();
}
