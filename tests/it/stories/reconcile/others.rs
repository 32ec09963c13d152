//! What has happened to other people's fleets.

use super::{LABELS, Metric, Op, Story};
use crate::{
    http::{DEAD_LETTERS, JOB_QUEUE, OWNER, REPOSITORY},
    model::github::{Scope, Untrue},
};
use serde_json::json;
use time::Duration;

pub(super) const MORE_LABELS: [&str; 3] = [LABELS[0], LABELS[1], "cpu=2"];

impl Story {
    /// GitHub has spent the registration on a job that its runner then lost: the runner polls on, for ever.
    pub(super) fn consume(&self, runner: u64) {
        let now = self.fleet.now();
        self.world.github().delete(&Scope::organization(OWNER), runner, now);
    }

    pub(super) async fn start_job_with(&self, labels: &[&str]) -> u64 {
        let job = self.world.queue_job(labels);
        self.dispatch(&[self.world.queued(job)]).await;
        job
    }

    /// Of a job that nobody here has heard of; and the job whose runner it was.
    pub(super) async fn an_unheard_job_took_a_runner(&self) -> (u64, u64) {
        let unheard = self.world.queue_job(&LABELS);
        self.world.advance(Duration::minutes(10));
        let job = self.start_job().await;
        self.world.boot();
        self.assign(unheard, self.runner_of(self.task()));
        (unheard, job)
    }

    pub(super) async fn runs_in_the_end(&self, job: u64) {
        self.dispatch_announced().await;
        self.world.boot();
        self.world.assign();
        assert_eq!(self.status(job), "in_progress", "{}", self.world.books());
        self.world.finish_job(job);
    }
}

/// actions/runner#4617.
#[tokio::test]
async fn a_runner_whose_registration_went_with_a_lost_job_is_replaced_and_then_stopped() {
    let story = Story::begin().await;
    let job = story.start_job().await;
    story.world.boot();
    story.consume(story.runner_of(story.task()));
    story.world.advance(Duration::minutes(20));
    story.world.take_calls();
    story.sweep().await;
    assert_eq!(story.order(&[Op::SendMessage, Op::StopTask]), [Op::SendMessage, Op::StopTask]);
    story.runs_in_the_end(job).await;
    story.end();
}

#[tokio::test]
async fn the_same_where_another_job_has_taken_the_runner_of_the_one_that_waits() {
    let story = Story::begin().await;
    let (a, b) = (story.start_job().await, story.start_job().await);
    story.world.boot();
    let tasks: Vec<u64> = story.world.ecs().live().map(|task| task.number).collect();
    story.assign(a, story.runner_of(tasks[1]));
    story.tell(&story.world.payload(a, "in_progress")).await;
    story.consume(story.runner_of(tasks[0]));
    story.world.advance(Duration::minutes(20));
    story.sweep().await;
    story.runs_in_the_end(b).await;
    story.world.finish_job(a);
    story.end();
}

/// terraform-aws-github-runner#3910.
#[tokio::test]
async fn one_place_that_cannot_be_listed_leaves_the_others_swept() {
    let places = format!("{OWNER}/{REPOSITORY},{OWNER}/gone");
    let story = Story::with(&[("RUNNER_SCOPE", "repo"), ("ALLOWED_REPOSITORIES", &places)]).await;
    let job = story.start_job().await;
    story.world.boot();
    story.cancel(job);
    story.world.fail(Op::ListRunners).nth(2).status(403);
    let swept = story.sweep_after_the_timeout().await;
    assert_eq!((swept.get(Metric::Retired), swept.get(Metric::LeftToNextSweep)), (1, 1));
    story.end();
}

/// What only a person can repair is counted, whatever else went wrong before.
#[tokio::test]
async fn what_needs_the_operator_is_counted_after_another_error() {
    let places = format!("{OWNER}/{REPOSITORY},{OWNER}/another");
    let story = Story::with(&[("RUNNER_SCOPE", "repo"), ("ALLOWED_REPOSITORIES", &places)]).await;
    story.world.fail(Op::ListRunners).times(9).before().status(502);
    assert_eq!(story.sweep().await.get(Metric::NeedsOperator), 0);
    story.world.heal();
    story.world.fail(Op::ListRunners).times(story.count(Op::ListRunners) as u32 / 2).before().status(502);
    story.world.fail(Op::ListRunners).times(9).before().status(401);
    assert_eq!(story.sweep().await.get(Metric::NeedsOperator), 1);
}

/// Where GitHub does not list the only place that there is, ECS alone tells that a task is older than any job.
#[tokio::test]
async fn a_task_that_is_older_than_any_job_goes_also_while_github_lists_nothing() {
    let story = Story::begin().await;
    story.start_job().await;
    story.world.boot();
    story.world.fail(Op::ListRunners).always().before().status(401);
    for (days, live) in [(4, 1), (3, 0)] {
        story.world.advance(Duration::days(days));
        story.sweep().await;
        assert_eq!(story.live(), live);
    }
}

/// The only place that there is: its runner hangs, and keeps it in the list.
#[tokio::test]
async fn a_repository_that_is_gone_keeps_no_runner() {
    let story = Story::with(&[("RUNNER_SCOPE", "repo")]).await;
    let at_work = [story.start_job().await, story.start_job().await][1];
    story.world.boot();
    let tasks: Vec<u64> = story.world.ecs().live().map(|task| task.number).collect();
    story.assign(at_work, story.runner_of(tasks[1]));
    story.tell_job(at_work, "in_progress").await;
    story.world.fail(Op::ListRunners).always().status(404);
    story.sweep_after_the_timeout().await;
    assert_eq!(story.world.ecs().live_count(), 2, "by itself, that proves nothing");
    story.world.advance(Duration::hours(1));
    story.sweep().await;
    assert_eq!(story.world.ecs().live_count(), 2, "one answer may be wrong");
    let swept = story.sweep_after_the_timeout().await;
    let live: Vec<u64> = story.world.ecs().live().map(|task| task.number).collect();
    assert_eq!((live, swept.get(Metric::LeftToNextSweep)), (vec![tasks[1]], 0));
}

/// GitHub takes a job back from a runner, after it has said that it runs there. Whose the runner was has another by then.
#[tokio::test]
async fn a_job_that_lost_anothers_runner_after_it_began_is_announced_itself() {
    for consumed in [false, true] {
        let story = Story::begin().await;
        let (owner, job) = (story.start_job().await, story.start_job().await);
        story.world.boot();
        let tasks: Vec<u64> = story.world.ecs().live().map(|task| task.number).collect();
        story.assign(job, story.runner_of(tasks[0]));
        story.assign(owner, story.runner_of(tasks[1]));
        for taken in [job, owner] {
            story.tell(&story.world.payload(taken, "in_progress")).await;
        }
        story.look_again().await;
        story.world.github().lose_job(job, consumed, story.fleet.now());
        for _ in 0..3 {
            story.sweep_after_the_timeout().await;
        }
        story.dispatch_announced().await;
        story.world.boot();
        story.world.assign();
        assert_eq!(story.status(job), "in_progress", "{}", story.world.books());
        story.world.finish_job(owner);
        story.world.finish_job(job);
        story.end();
    }
}

#[tokio::test]
async fn a_job_that_dies_with_its_task_is_counted_also_when_it_was_seen_to_begin() {
    let ends = [
        ("SpotInterruption", "Your Spot Task was interrupted.", None, Metric::Interrupted),
        ("EssentialContainerExited", "OutOfMemoryError: Container killed", Some(137), Metric::OutOfMemory),
        ("EssentialContainerExited", "Essential container in task exited", Some(143), Metric::Lost),
    ];
    for (code, reason, exit, metric) in ends {
        let story = Story::begin().await;
        let job = story.start_job().await;
        let task = story.task();
        story.world.boot();
        story.world.assign();
        story.tell_job(job, "in_progress").await;
        story.world.kill_task(task, code, reason, exit);
        let told = story.tell_within(&[story.world.state_change(task)], Duration::minutes(1)).await;
        assert_eq!(told.get(metric), 1, "{reason}");
        let now = story.fleet.now();
        story.world.github().complete(job, "failure", now);
        story.end();
    }
}

#[tokio::test]
async fn what_is_announced_says_where_its_job_lives() {
    let story = Story::begin().await;
    let job = story.start_job().await;
    let task = story.task();
    story.world.kill_task(task, "SpotInterruption", "Your Spot Task was interrupted.", None);
    story.tell_stopped(task).await;
    let (body, _) = story.world.letters(JOB_QUEUE).pop().expect("announced");
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let replacement = &body["replacement"];
    assert_eq!((&replacement["owner"], &replacement["repository"]), (&json!(OWNER), &json!(REPOSITORY)));
    story.runs_in_the_end(job).await;
    story.end();
}

/// nabu#1259: no addresses are left in the subnet.
#[tokio::test]
async fn a_job_whose_tasks_never_start_is_not_given_up() {
    let story = Story::with(&[("MAX_ATTEMPTS", "2")]).await;
    let job = story.start_job().await;
    for _ in 0..4 {
        let reason = "Timeout waiting for network interface provisioning to complete.";
        story.world.kill_task(story.task(), "TaskFailedToStart", reason, None);
        let task = story.world.ecs().tasks().last().map(|task| task.number).expect("a task");
        story.tell_stopped(task).await;
        story.world.advance(Duration::minutes(15));
        story.dispatch_announced().await;
        assert_eq!(story.live(), 1);
    }
    assert_eq!(story.world.letters(DEAD_LETTERS), []);
    story.runs_in_the_end(job).await;
    story.end();
}

/// terraform-aws-github-runner#1370: two stacks in one organisation.
#[tokio::test]
async fn a_fleet_of_another_name_is_foreign() {
    let story = Story::with(&[("RUNNER_NAME_PREFIX", "fargate-b")]).await;
    let (organization, now) = (Scope::organization(OWNER), story.fleet.now());
    let others = ["fargate-7-1", "fargate-pool-7-1"]
        .map(|name| story.world.github().mint(&organization, name, 1, &LABELS, now).expect("a registration"));
    let job = story.start_job().await;
    assert!(story.names().contains(&format!("fargate-b-{job}-1")), "{:?}", story.names());
    story.world.advance(Duration::minutes(1));
    story.sweep().await;
    assert_eq!(story.names().len(), 3, "theirs boot still");
    for id in others {
        story.world.github().delete(&organization, id, now);
    }
    story.world.boot();
    story.world.assign();
    story.tell_job(job, "in_progress").await;
    story.world.finish_job(job);
    story.end();
}

/// actions/runner#4422: GitHub takes a runner for idle, and lets it be deleted, in the middle of its job.
#[tokio::test]
async fn a_runner_that_seems_idle_while_it_works_is_left_alone() {
    for heard in [false, true] {
        let story = Story::begin().await;
        let job = story.start_job().await;
        let runner = story.runner_of(story.task());
        story.world.boot();
        story.world.assign();
        if heard {
            story.tell_job(job, "in_progress").await;
        }
        let now = story.fleet.now();
        for untrue in [
            Untrue { idle: true, ..Untrue::default() },
            Untrue { idle: true, offline: true, ..Untrue::default() },
            Untrue { unlisted: true, ..Untrue::default() },
        ] {
            story.world.github().say_of_runner(runner, untrue, now);
            story.sweep_after_the_timeout().await;
        }
        assert_eq!((story.count(Op::DeleteRunner), story.count(Op::StopTask)), (0, 0), "heard: {heard}");
        story.world.finish_job(job);
        story.end();
    }
}

/// A crash between the announcement and StopTask: the ghost is met again.
#[tokio::test]
async fn a_ghost_that_could_not_be_stopped_brings_its_job_one_runner() {
    let story = Story::begin().await;
    let job = story.start_job().await;
    story.world.boot();
    story.consume(story.runner_of(story.task()));
    story.world.advance(Duration::minutes(20));
    story.world.fail(Op::StopTask).once().before().status(500);
    story.sweep().await;
    story.world.advance(Duration::minutes(5));
    story.sweep().await;
    for _ in 0..2 {
        story.dispatch_announced().await;
    }
    assert_eq!((story.live(), story.count(Op::RunTask)), (1, 2), "{}", story.world.books());
    story.runs_in_the_end(job).await;
    story.end();
}
