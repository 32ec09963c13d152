//! Registrations without a task, which the sweep hands back to the job queue.

use super::{LABELS, Metric, Op, Story};
use crate::{
    fleet::Fleet,
    http::{JOB_QUEUE, LIFECYCLE_QUEUE, OWNER},
    model::github::Scope,
};
use serde_json::{Value, json};
use time::Duration;

#[tokio::test]
async fn what_is_registered_no_more_is_left_to_whoever_spent_it() {
    let story = Story::begin().await;
    let job = story.world.queue_job(&LABELS);
    let body = json!({ "replacement": {
        "job_id": job, "attempt": 1, "labels": LABELS, "owner": OWNER, "registered": true,
    } });
    story.dispatch(&[body.to_string()]).await;
    story.dispatch_announced().await;
    story.dispatch_announced().await;
    assert_eq!(story.world.letters(JOB_QUEUE), [], "nothing comes of it");
    assert_eq!((story.live(), story.count(Op::Mint)), (0, 0));
    // Its own message comes again, as after any crash.
    story.dispatch(&[story.world.queued(job)]).await;
    story.world.boot();
    story.world.assign();
    story.world.finish_job(job);
    story.end();
}

#[tokio::test]
async fn what_the_sweep_hands_back_is_spent_when_a_later_runner_is_there() {
    let story = Story::begin().await;
    let job = story.start_job().await;
    // Its runner died, the next one was announced, and nobody got to delete the first registration.
    story.world.kill_task(story.task(), "SpotInterruption", "Your Spot Task was interrupted.", None);
    let attempt = |attempt: u64, registered: bool| {
        json!({ "replacement": {
            "job_id": job, "attempt": attempt, "labels": LABELS, "owner": OWNER, "registered": registered,
        } })
        .to_string()
    };
    story.dispatch(&[attempt(2, false)]).await;
    assert_eq!(story.names().len(), 2);
    story.dispatch(&[attempt(1, true)]).await;
    assert_eq!(story.names().len(), 2, "too early: a delivery may be at work");
    story.dispatch_announced().await;
    story.dispatch_announced().await;
    assert_eq!(story.names(), [format!("fargate-{job}-2")]);
    assert_eq!(story.live(), 1);
    story.world.boot();
    story.world.assign();
    story.world.finish_job(job);
    story.end();
}

/// Each sweep hands it back: of messages that wait on a long queue, one is enough, and the newest knows best.
#[tokio::test]
async fn what_was_handed_back_long_ago_is_left_to_the_sweeps_since() {
    let story = Story::begin().await;
    let job = story.world.queue_job(&LABELS);
    let body = json!({ "replacement": {
        "job_id": job, "attempt": 1, "labels": LABELS, "owner": OWNER, "registered": true,
    } });
    story.world.send(JOB_QUEUE, &[body.to_string()]);
    let _never_handled = story.world.receive(JOB_QUEUE, 10);
    story.world.advance(Duration::minutes(16));
    story.dispatch_announced().await;
    assert_eq!((story.live(), story.count(Op::Mint), story.count(Op::GetJob)), (0, 0, 0));
    // Its own message comes again, as after any crash.
    story.dispatch(&[story.world.queued(job)]).await;
    story.runs_in_the_end(job).await;
    story.world.finish_job(job);
    story.end();
}

/// A task that never came up, and that nobody told of, has left its registration. There is no capacity then, for longer than a
/// message of the sweep's counts.
#[tokio::test]
async fn what_was_handed_back_is_owed_for_as_long_as_there_is_no_capacity() {
    let story = Story::begin().await;
    let job = story.start_job().await;
    let gone = story.task();
    story.world.kill_task(
        gone,
        "TaskFailedToStart",
        "Timeout waiting for network interface provisioning.",
        None,
    );
    story.world.advance(Duration::minutes(70));
    assert_eq!(story.sweep().await.get(Metric::Settled), 1);
    let dry = story.world.fail(Op::RunTask).times(999);
    dry.failures("Capacity is unavailable at this time.");
    for _ in 0..20 {
        story.dispatch_announced().await;
    }
    assert!(story.names().is_empty(), "{:?} wait for capacity without a task", story.names());
    story.world.heal();
    for _ in 0..3 {
        story.dispatch_announced().await;
    }
    story.runs_in_the_end(job).await;
    story.world.finish_job(job);
    story.end();
}

impl Story {
    /// Dispatch dies between mint and RunTask; a sweep sees the registration before the job's message comes again.
    async fn start_after_a_crash(self) -> (Story, u64) {
        let job = self.world.queue_job(&LABELS);
        let batch = self.world.deliver(&[self.world.queued(job)]);
        let dead = self.world.fail(Op::RunTask).once().before().hold();
        tokio::select! { _ = self.fleet.dispatch(&batch) => {}, () = dead.struck() => {} }
        self.world.heal();
        // Another process goes on, which has heard of nothing.
        let world = self.world;
        let story = Story { fleet: Fleet::new(&world).await, world };
        story.world.advance(Duration::seconds(30));
        // SQS takes the message, and its answer is lost: it is there twice.
        story.world.fail(Op::SendMessage).once().after().drop_connection();
        story.sweep().await;
        while story.live() == 0 {
            story.world.advance(Duration::seconds(30));
            story.settle(&story.world.receive(JOB_QUEUE, 10)).await;
        }
        (story, job)
    }
}

/// The job's own message knows the repository.
#[tokio::test]
async fn what_a_crash_has_left_is_started_with_its_repository() {
    let (story, job) = Story::begin().await.start_after_a_crash().await;
    assert_eq!(story.tag(story.task(), "gha:repository").as_deref(), Some("octo-org/example-workflow"));
    story.runs_in_the_end(job).await;
    story.end();
}

#[tokio::test]
async fn what_one_crash_held_up_is_not_taken_for_a_backlog() {
    let story = Story::begin().await;
    let unheard = story.world.queue_job(&LABELS);
    story.world.advance(Duration::minutes(1));
    let (story, job) = story.start_after_a_crash().await;
    story.world.boot();
    story.assign(unheard, story.runner_of(story.task()));
    story.tell_taken(unheard, "in_progress").await;
    story.runs_in_the_end(job).await;
    story.world.finish_job(unheard);
    story.end();
}

/// Nothing tells of its repository. Then a job that nobody has heard of takes its runner.
#[tokio::test]
async fn a_job_of_which_no_repository_is_known_gets_another_when_its_runner_was_taken() {
    let story = Story::begin().await;
    let (unheard, job) = (story.world.queue_job(&LABELS), story.world.queue_job(&LABELS));
    let (name, now) = (format!("fargate-{job}-1"), story.fleet.now());
    story.world.github().mint(&Scope::organization(OWNER), &name, 1, &LABELS, now).expect("a registration");
    story.sweep().await;
    for _ in 0..3 {
        story.dispatch_announced().await;
    }
    assert_eq!(story.tag(story.task(), "gha:repository").as_deref(), Some(OWNER));
    story.world.boot();
    story.assign(unheard, story.runner_of(story.task()));
    story.tell_taken(unheard, "in_progress").await;
    assert_eq!(story.world.letters(LIFECYCLE_QUEUE), []);
    story.runs_in_the_end(job).await;
    story.world.finish_job(unheard);
    story.end();
}

/// Others were refused capacity a moment ago: to spend a registration takes none.
#[tokio::test]
async fn in_a_drought_a_registration_without_a_task_is_cleared() {
    let story = Story::begin().await;
    let left = story.world.queue_job(&LABELS);
    let (name, now) = (format!("fargate-{left}-1"), story.fleet.now());
    story.world.github().mint(&Scope::organization(OWNER), &name, 1, &LABELS, now).expect("a registration");
    story.world.fail(Op::RunTask).times(999).failures("Capacity is unavailable at this time.");
    story.sweep().await;
    story.world.advance(Duration::seconds(340));
    // Another one's turn, so that it is this one's only in a minute.
    let another = story.world.queue_job(&LABELS);
    story.settle(&story.world.deliver(&[story.world.queued(another)])).await;
    story.world.advance(Duration::seconds(25));
    story.settle(&story.world.receive(JOB_QUEUE, 10)).await;
    assert!(story.names().is_empty(), "{:?}", story.names());
    story.world.heal();
    for _ in 0..4 {
        story.dispatch_announced().await;
    }
    story.runs_in_the_end(left).await;
}

/// An announcement that names no repository, read by a process that remembers nothing: the job's tasks do.
#[tokio::test]
async fn what_names_no_repository_is_asked_about_where_a_task_of_the_job_s_names_it() {
    let story = Story::begin().await;
    let job = story.start_job().await;
    story.world.kill_task(story.task(), "TaskFailedToStart", "x", None);
    story.cancel(job);
    let world = story.world;
    let story = Story { fleet: Fleet::new(&world).await, world };
    let body = json!({ "replacement": { "job_id": job, "attempt": 2, "labels": LABELS, "owner": OWNER } });
    story.dispatch(&[body.to_string()]).await;
    story.dispatch_announced().await;
    assert_eq!((story.live(), story.count(Op::Mint)), (0, 1), "a runner for a job that is over");
}

/// Dispatch dies between the announcement and the DELETE. The message comes again while the announced runner is between its
/// own two calls, or when that is up.
#[tokio::test]
async fn what_was_announced_and_not_spent_brings_one_runner_all_the_same() {
    for is_slow in [false, true] {
        let story = Story::begin().await;
        let job = story.world.queue_job(&LABELS);
        let (name, now) = (format!("fargate-{job}-1"), story.fleet.now());
        story
            .world
            .github()
            .mint(&Scope::organization(OWNER), &name, 1, &LABELS, now)
            .expect("a registration");
        story.sweep().await;
        story.world.advance(Duration::minutes(7));
        let dies = story.world.fail(Op::DeleteRunner).before().hold();
        let batch = story.world.receive(JOB_QUEUE, 10);
        tokio::select! {
            _ = story.fleet.dispatch(&batch) => panic!("it was held"),
            () = dies.struck() => {}
        }
        story.world.heal();
        let world = story.world;
        let story = Story { fleet: Fleet::new(&world).await, world };
        // The announcement waits for whoever may be at work.
        story.settle(&story.world.receive(JOB_QUEUE, 10)).await;
        assert_eq!(story.live(), 0);
        story.world.advance(Duration::minutes(7));
        let all = story.world.receive(JOB_QUEUE, 10)["Records"].as_array().cloned().expect("records");
        let is_back =
            |record: &Value| record["body"].as_str().is_some_and(|body| body.contains("registered"));
        let (back, announced): (Vec<Value>, Vec<Value>) = all.into_iter().partition(is_back);
        assert_eq!((back.len(), announced.len()), (1, 1));
        let [back, announced] = [back, announced].map(|records| json!({ "Records": records }));
        story.settle(&back).await;
        let anew = story.world.receive(JOB_QUEUE, 10);
        let others = async {
            story.fleet.dispatch(&back).await;
            story.settle(&announced).await;
        };
        if is_slow {
            let slow = story.world.fail(Op::RunTask).before().hold();
            let between = async {
                slow.struck().await;
                others.await;
                slow.release();
            };
            tokio::join!(story.settle(&anew), between);
        } else {
            story.settle(&anew).await;
            others.await;
        }
        for _ in 0..3 {
            story.dispatch_announced().await;
        }
        assert_eq!(
            (story.live(), story.names()),
            (1, vec![name]),
            "slow: {is_slow}\n{}",
            story.world.calls()
        );
        story.runs_in_the_end(job).await;
        story.end();
    }
}
