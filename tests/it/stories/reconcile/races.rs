//! What happens in the same moment: the one DELETE that gets 204 decides.

use super::{LABELS, Metric, Op, Story};
use crate::http::{JOB_QUEUE, OWNER, REPOSITORY};
use serde_json::json;
use time::Duration;

/// Two jobs with a runner each, both online: a, a's runner, b.
async fn two_jobs(story: &Story) -> (u64, u64, u64) {
    let a = story.start_job().await;
    let runner = story.runner_of(story.task());
    let b = story.start_job().await;
    story.world.boot();
    (a, runner, b)
}

/// B is at work on A's runner. B's own is owed to nobody any more, and goes when it has been idle.
async fn only_b_is_left(story: Story, b: u64) {
    assert_eq!(story.status(b), "in_progress");
    assert_eq!(story.count(Op::StopTask), 0, "nobody stopped the runner under its job");
    let swept = story.sweep_after_the_timeout().await;
    assert_eq!(swept.get(Metric::Retired), 1);
    assert_eq!(story.live(), 1);
    story.world.finish_job(b);
    story.end();
}

#[tokio::test]
async fn a_runner_that_gets_a_job_while_its_own_is_cancelled_keeps_it() {
    let story = Story::begin().await;
    let (a, runner, b) = two_jobs(&story).await;
    story.cancel(a);
    let delete = story.world.fail(Op::DeleteRunner).before().hold();
    tokio::join!(story.tell_job(a, "completed"), async {
        delete.struck().await;
        story.assign(b, runner);
        delete.release();
    });
    only_b_is_left(story, b).await;
}

#[tokio::test]
async fn a_runner_that_gets_a_job_while_a_sweep_retires_it_keeps_it() {
    let story = Story::begin().await;
    let a = story.start_job().await;
    let runner = story.runner_of(story.task());
    story.world.boot();
    story.cancel(a);
    story.world.advance(Duration::minutes(11));
    let b = story.start_job().await;
    let delete = story.world.fail(Op::DeleteRunner).before().hold();
    let (swept, ()) = tokio::join!(story.sweep(), async {
        delete.struck().await;
        story.assign(b, runner);
        delete.release();
    });
    assert_eq!(swept.get(Metric::Retired), 0);
    story.world.boot();
    only_b_is_left(story, b).await;
}

#[tokio::test]
async fn a_job_that_runs_on_the_runner_of_a_cancelled_one_goes_on() {
    let story = Story::begin().await;
    let (a, runner, b) = two_jobs(&story).await;
    story.assign(b, runner);
    story.tell_job(b, "in_progress").await;
    story.cancel(a);
    story.tell_job(a, "completed").await;
    only_b_is_left(story, b).await;
}

#[tokio::test]
async fn two_reconcilers_retire_one_runner_and_one_of_them_stops_its_task() {
    let story = Story::begin().await;
    let job = story.start_job().await;
    story.world.boot();
    story.cancel(job);
    story.world.advance(Duration::minutes(11));
    let slower = story.world.fail(Op::DeleteRunner).before().hold();
    tokio::join!(story.sweep(), async {
        slower.struck().await;
        story.tell_job(job, "completed").await;
        slower.release();
    });
    let calls = story.world.calls();
    let answers: Vec<&str> = calls.of(Op::DeleteRunner).map(|call| call.outcome.as_str()).collect();
    assert_eq!(answers, ["404", "204"], "in the order in which they were asked");
    assert_eq!(story.count(Op::StopTask), 1);
    assert_eq!(story.live(), 0);
    story.end();
}

#[tokio::test]
async fn a_job_lost_with_its_task_is_counted_and_the_other_one_is_not_left_waiting() {
    let story = Story::begin().await;
    let (a, runner, b) = two_jobs(&story).await;
    story.assign(b, runner);
    let task = story.world.ecs().live().next().map(|task| task.number).expect("a's task");
    let now = story.fleet.now();
    story.world.ecs().stopped(task, "SpotInterruption", "Your Spot Task was interrupted.", None, now);
    let told = story.tell_within(&[story.world.state_change(task)], Duration::minutes(2)).await;
    assert_eq!((told.get(Metric::Interrupted), told.get(Metric::Lost)), (1, 0));
    story.world.github().complete(b, "failure", now);

    // A waits still: b's runner takes it, or the one that came in doubt, which then goes when idle.
    story.dispatch_announced().await;
    story.world.boot();
    story.world.assign();
    assert_eq!(story.status(a), "in_progress");
    story.tell(&story.world.payload(a, "in_progress")).await;
    story.sweep_after_the_timeout().await;
    assert_eq!(story.live(), 1, "{}", story.world.books());
    story.end();
}

#[tokio::test]
async fn a_job_that_was_taken_is_done_when_its_events_come_twice() {
    let story = Story::begin().await;
    let job = story.start_job().await;
    let task = story.task();
    story.world.boot();
    assert_eq!(story.world.assign().len(), 1, "the job asks for {LABELS:?}");
    let in_progress = story.world.payload(job, "in_progress");
    story.world.finish_job(job);
    let events = [in_progress.clone(), story.world.payload(job, "completed"), story.world.state_change(task)];
    for _ in 0..2 {
        let told = story.tell_within(&events, Duration::minutes(2)).await;
        assert_eq!(
            (told.get(Metric::Received), told.get(Metric::Deferred), told.get(Metric::Replaced)),
            (3, 0, 0)
        );
    }
    story.end();
}

#[tokio::test]
async fn that_a_runner_was_taken_is_heard_when_its_task_is_gone_already() {
    for action in ["in_progress", "completed"] {
        let story = Story::begin().await;
        let a = story.world.queue_job(&[LABELS[0], LABELS[1], "cpu=2"]);
        story.dispatch(&[story.world.queued(a)]).await;
        let (task, runner) = (story.task(), story.runner_of(story.task()));
        let b = story.start_job().await;
        story.world.boot();
        story.assign(b, runner);
        let event = story.world.payload(b, action);
        story.world.finish_job(b);
        assert!(story.world.ecs().live().all(|it| it.number != task), "it is gone with its job");
        story.world.take_calls();
        assert!(!story.tell(&event).await, "looked at twice");
        assert_eq!(story.count(Op::SendMessage), 1, "{action}: another runner is announced for a");
        story.dispatch_announced().await;
        story.world.boot();
        story.world.assign();
        assert_eq!(story.status(a), "in_progress", "{action}");
        story.tell_job(a, "in_progress").await;
        story.look_again().await;
        assert_eq!(story.live(), 1, "b's own runner goes, {action}: {}", story.world.books());
        story.end();
    }
}

/// Both are past their time, and each is another runner of the job that waits.
#[tokio::test]
async fn of_two_idle_runners_of_one_job_the_later_one_is_replaced() {
    let story = Story::begin().await;
    let job = story.start_job().await;
    let announced = json!({ "replacement": { "job_id": job, "attempt": 2, "labels": LABELS, "owner": OWNER,
        "repository": REPOSITORY } });
    story.world.send(JOB_QUEUE, &[announced.to_string()]);
    story.dispatch_announced().await;
    story.world.boot();
    assert_eq!(story.live(), 2, "{}", story.world.books());
    for _ in 0..2 {
        story.sweep_after_the_timeout().await;
        story.dispatch_announced().await;
        story.world.boot();
    }
    assert_eq!(story.live(), 1, "{}", story.world.books());
    story.runs_in_the_end(job).await;
    story.end();
}

/// The sweep has seen some job on the runner of the first attempt, and GitHub's event of which came only now: another chain
/// leads to that attempt. Whether its own job still waits, GitHub shows a while later.
#[tokio::test]
async fn an_attempt_that_ran_some_job_is_followed_by_another_while_its_own_job_waits() {
    let story = Story::begin().await;
    let job = story.start_job().await;
    let task = story.task();
    story.world.boot();
    let unheard = story.world.queue_job(&LABELS);
    story.assign(unheard, story.runner_of(task));
    let arn = story.world.ecs().arn(task).expect("a task").to_owned();
    let (ran, now) = (("gha:ran-untold".to_owned(), "true".to_owned()), story.fleet.now());
    story.world.ecs().tag(&arn, &[ran], now).expect("a tag");
    story.world.finish_job(unheard);
    let own = json!({"replacement": {"job_id": job, "attempt": 1, "labels": LABELS, "owner": OWNER,
        "repository": REPOSITORY}});
    story.dispatch(&[own.to_string()]).await;
    assert_eq!(story.live(), 0, "the answer that it waits may be old");
    for _ in 0..3 {
        story.dispatch_announced().await;
    }
    assert_eq!(story.live(), 1, "{}", story.world.books());
    story.runs_in_the_end(job).await;
    story.end();
}

/// Two chains have led to one job; the later attempt's message is older than the task of the earlier one.
#[tokio::test]
async fn an_attempt_that_was_asked_for_before_the_one_that_waits_starts_no_other() {
    let story = Story::begin().await;
    let job = story.world.queue_job(&LABELS);
    let of = |attempt: u32| {
        let own = json!({"replacement": {"job_id": job, "attempt": attempt, "labels": LABELS, "owner": OWNER,
            "repository": REPOSITORY}});
        own.to_string()
    };
    let third = story.world.deliver(&[of(3)]);
    story.world.advance(Duration::minutes(1));
    story.dispatch(&[of(2)]).await;
    for is_up in [false, true] {
        if is_up {
            story.world.boot();
        }
        story.settle(&third).await;
        assert_eq!(story.live(), 1, "{}", story.world.books());
    }
    story.runs_in_the_end(job).await;
    story.end();
}
