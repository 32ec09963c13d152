//! Container-minted: no credentials for GitHub in here, so ECS alone tells, and what GitHub sends.

use super::{LABELS, Metric, Op, Story};
use crate::http::{DEAD_LETTERS, JOB_QUEUE, OWNER, REPOSITORY, Service};
use crate::model::github::Scope;
use gha_fargate_runners::lambda::metrics::Metrics;
use serde_json::json;
use time::Duration;

async fn without_credentials() -> Story {
    Story::with(&[("GITHUB_SECRET_ARN", "")]).await
}

const EXITED: (&str, &str) = ("EssentialContainerExited", "Essential container in task exited");
const SPOT: (&str, &str) = ("SpotInterruption", "Your Spot Task was interrupted.");
const CANNOT_PULL: (&str, &str) = (
    "TaskFailedToStart",
    "CannotPullContainerError: failed to resolve ref registry.test/runner:1: not found",
);

impl Story {
    /// The one task that lives ends, if its containers have started at all, with that exit code.
    fn ends(&self, (code, reason): (&str, &str), exit: Option<i32>) -> u64 {
        let (task, now) = (self.task(), self.fleet.now());
        if code != CANNOT_PULL.0 {
            self.world.ecs().start(task, now);
        }
        self.world.kill_task(task, code, reason, exit);
        task
    }

    /// The same, and reconcile hears of it.
    async fn ends_and_is_told(&self, why: (&str, &str), exit: Option<i32>) -> Metrics {
        let task = self.ends(why, exit);
        self.tell_within(&[self.world.state_change(task)], Duration::minutes(1)).await
    }

    /// A runner takes the job: its container has registered it.
    async fn takes(&self, task: u64, job: u64) {
        register(self, task);
        assert!(self.world.boot_task(task));
        self.assign(job, self.runner_of(task));
    }

    /// GitHub's event that the job ended without ever running.
    async fn is_cancelled(&self, job: u64) {
        let now = self.fleet.now();
        assert!(self.world.github().cancel(job, now));
        let event = self.world.envelope(&self.world.payload(job, "completed"));
        assert!(self.tell(&event).await);
    }

    fn letters(&self) -> Vec<String> {
        self.world.letters(DEAD_LETTERS).into_iter().filter_map(|(_, reason)| reason).collect()
    }
}

fn register(story: &Story, task: u64) {
    let now = story.fleet.now();
    let name = story.world.ecs().task(task).and_then(|task| task.environment.get("RUNNER_NAME").cloned());
    let (organization, name) = (Scope::organization(OWNER), name.expect("a name for the runner"));
    story.world.github().mint(&organization, &name, 1, &LABELS, now).expect("a registration");
}

/// The task starts, its container registers its runner itself, and that runs the job to its end.
fn run_in(story: &Story, task: u64, job: u64) {
    register(story, task);
    assert!(story.world.boot_task(task));
    story.assign(job, story.runner_of(task));
    story.world.finish_job(job);
}

#[tokio::test]
async fn without_credentials_a_task_that_does_not_start_is_announced_and_then_stopped() {
    let story = without_credentials().await;
    let job = story.start_job().await;
    let stuck = story.task();
    story.world.take_calls();
    let swept = story.sweep_after_the_timeout().await;
    assert_eq!(swept.get(Metric::Replaced), 1);
    assert_eq!(story.order(&[Op::SendMessage, Op::StopTask]), [Op::SendMessage, Op::StopTask]);
    story.tell_stopped(stuck).await;
    story.dispatch_announced().await;
    assert_eq!(story.live(), 1);
    assert_eq!(story.world.calls().to(Service::Github).len(), 0);
    run_in(&story, story.task(), job);
    story.end();
}

#[tokio::test]
async fn without_credentials_a_container_that_ran_has_closed_its_books_itself() {
    let story = without_credentials().await;
    let job = story.start_job().await;
    let task = story.task();
    run_in(&story, task, job);
    story.tell_stopped(task).await;
    story.dispatch_announced().await;
    assert_eq!(story.live(), 0);
    assert_eq!(story.count(Op::SendMessage), 0);
    story.end();
}

#[tokio::test]
async fn without_credentials_a_task_that_fails_to_start_is_replaced() {
    let story = without_credentials().await;
    let job = story.start_job().await;
    let failed = story.task();
    story.world.kill_task(failed, "TaskFailedToStart", "CannotPullContainerError", None);
    story.tell_stopped(failed).await;
    story.dispatch_announced().await;
    run_in(&story, story.task(), job);
    story.end();
}

/// The secret holds JSON for ten minutes (80), GitHub refuses the token (81), the image has no run.sh (85) or is not there.
#[tokio::test]
async fn what_an_operator_has_to_mend_costs_no_attempt() {
    for (why, exit) in [(EXITED, Some(80)), (EXITED, Some(81)), (EXITED, Some(85)), (CANNOT_PULL, None)] {
        let story = Story::with(&[("GITHUB_SECRET_ARN", ""), ("MAX_ATTEMPTS", "3")]).await;
        let job = story.start_job().await;
        for _ in 0..5 {
            let told = story.ends_and_is_told(why, exit).await;
            assert_eq!(
                (told.get(Metric::NeedsOperator), told.get(Metric::Rejected)),
                (1, 0),
                "{why:?} {exit:?}"
            );
            story.dispatch_announced().await;
            assert_eq!(story.live(), 1, "{why:?} {exit:?}");
        }
        run_in(&story, story.task(), job);
        assert_eq!(story.letters(), [""; 0]);
        story.end();
    }
}

/// GitHub was not available for as long as the container had patience.
#[tokio::test]
async fn an_outage_of_githubs_costs_no_attempt() {
    let story = Story::with(&[("GITHUB_SECRET_ARN", ""), ("MAX_ATTEMPTS", "2")]).await;
    let job = story.start_job().await;
    for _ in 0..4 {
        assert_eq!(story.ends_and_is_told(EXITED, Some(82)).await.get(Metric::Replaced), 1);
        story.dispatch_announced().await;
    }
    run_in(&story, story.task(), job);
    assert_eq!(story.letters(), [""; 0]);
    story.end();
}

/// GitHub assigns nothing for a quarter of an hour (84), Spot takes the task back a second after its start, before its
/// runner was registered (88) or up (87), or so that nobody could say anything (137, or no code at all).
#[tokio::test]
async fn a_runner_that_had_no_job_is_followed_by_another() {
    for (why, exit) in [
        (EXITED, Some(84)),
        (EXITED, Some(87)),
        (EXITED, None),
        (SPOT, Some(88)),
        (SPOT, Some(87)),
        (SPOT, Some(137)),
        (SPOT, None),
    ] {
        let story = without_credentials().await;
        let job = story.start_job().await;
        let told = story.ends_and_is_told(why, exit).await;
        assert_eq!(told.get(Metric::Replaced), 1, "{why:?} {exit:?}");
        story.dispatch_announced().await;
        run_in(&story, story.task(), job);
        assert_eq!(story.world.calls().to(Service::Github).len(), 0);
        story.end();
    }
}

#[tokio::test]
async fn a_runner_whose_end_nobody_told_of_is_found_by_the_sweep() {
    for (why, exit) in [(CANNOT_PULL, None), (EXITED, Some(80)), (EXITED, Some(84)), (SPOT, None)] {
        let story = without_credentials().await;
        let job = story.start_job().await;
        let gone = story.ends(why, exit);
        assert_eq!(story.sweep().await.get(Metric::Replaced), 0, "its event may be on its way: {why:?}");
        story.world.advance(Duration::minutes(5));
        assert_eq!(story.sweep().await.get(Metric::Replaced), 1, "{why:?} {exit:?}");
        assert_eq!(story.sweep().await.get(Metric::Replaced), 0, "once is enough: {why:?}");
        // It comes after all.
        story.tell_stopped(gone).await;
        story.dispatch_announced().await;
        assert_eq!(story.live(), 1, "one runner: {why:?} {exit:?}");
        run_in(&story, story.task(), job);
        story.end();
    }
}

#[tokio::test]
async fn a_job_whose_runners_end_without_it_again_and_again_is_given_up_with_the_reason() {
    for exit in [84, 87] {
        let story = Story::with(&[("GITHUB_SECRET_ARN", ""), ("MAX_ATTEMPTS", "3")]).await;
        let job = story.start_job().await;
        for attempt in 1..=3 {
            assert_eq!(story.letters(), [""; 0], "{exit}: attempt {attempt}");
            story.ends_and_is_told(EXITED, Some(exit)).await;
            story.dispatch_announced().await;
        }
        assert_eq!(story.letters(), [""; 0], "{exit}: that the job is over may be on its way");
        story.world.advance(Duration::minutes(20));
        for _ in 0..6 {
            story.dispatch_announced().await;
        }
        let letters = story.letters();
        assert!(
            matches!(letters.as_slice(), [why] if why.contains(&format!("exit code {exit}"))),
            "{letters:?}"
        );
        assert_eq!(story.live(), 0);
        // Nor does the sweep begin again, nor write another.
        assert_eq!(story.sweep_after_the_timeout().await.get(Metric::Replaced), 0);
        assert_eq!(story.letters().len(), 1);
        // Whoever sends it to the job queue gets another runner.
        let letter = story.world.letters(DEAD_LETTERS).remove(0).0;
        story.world.send(JOB_QUEUE, &[letter]);
        story.dispatch_announced().await;
        assert_eq!(story.live(), 1);
        assert_eq!(story.tag(story.task(), "gha:attempt").as_deref(), Some("4"));
        story.ends(EXITED, Some(0));
        story.cancel(job);
        story.end();
    }
}

/// The function ends between RunTask and the message that it leaves about the last runner.
#[tokio::test]
async fn a_job_is_given_up_also_where_the_function_died_after_its_last_runner_was_started() {
    for fault in [Op::RunTask, Op::SendMessage] {
        let story = Story::with(&[("GITHUB_SECRET_ARN", ""), ("MAX_ATTEMPTS", "1")]).await;
        let job = story.world.queue_job(&LABELS);
        story.world.fail(fault).once().after().drop_connection();
        story.world.send(JOB_QUEUE, &[story.world.queued(job)]);
        for _ in 0..2 {
            story.dispatch_announced().await;
        }
        assert_eq!(story.live(), 1, "{fault:?}");
        story.ends_and_is_told(EXITED, Some(84)).await;
        for _ in 0..12 {
            story.dispatch_announced().await;
        }
        assert!(!story.letters().is_empty(), "{fault:?}: nobody knows of the job any more");
        assert_eq!((story.live(), story.count(Op::RunTask)), (0, 1), "{fault:?}");
        story.cancel(job);
        story.end();
    }
}

/// What an hour's tasks tell is read once, however many ask at once.
#[tokio::test]
async fn ten_announcements_read_the_fleet_once() {
    let story = without_credentials().await;
    let announced = |job: u64| {
        json!({"replacement": {"job_id": job, "attempt": 2, "labels": LABELS, "owner": OWNER, "repository": REPOSITORY}})
            .to_string()
    };
    let bodies: Vec<String> = (0..10).map(|_| announced(story.world.queue_job(&LABELS))).collect();
    story.world.send(JOB_QUEUE, &bodies);
    story.dispatch_announced().await;
    assert_eq!(story.live(), 10);
    // Each asks for its own tasks, live and ended; all together for all of them, and whether the fleet is well.
    assert_eq!(story.count(Op::ListTasks), 10 + 10 + 2 + 1);
    for task in 1..=10 {
        run_in(&story, task, task);
    }
    story.end();
}

/// A job that had its runner, or was cancelled, is owed no other: as long as somebody tells.
#[tokio::test]
async fn a_runner_is_not_followed_when_its_job_is_over() {
    let story = without_credentials().await;
    let job = story.start_job().await;
    story.is_cancelled(job).await;
    assert_eq!(story.ends_and_is_told(EXITED, Some(84)).await.get(Metric::Replaced), 0);
    assert_eq!(story.sweep_after_the_timeout().await.get(Metric::Replaced), 0);
    story.dispatch_announced().await;
    assert_eq!(story.live(), 0);
    story.end();
}

/// Its only runner is idle, and GitHub's event that the job is over came while it lived.
#[tokio::test]
async fn a_job_that_is_over_is_not_given_up() {
    let story = Story::with(&[("GITHUB_SECRET_ARN", ""), ("MAX_ATTEMPTS", "1")]).await;
    let job = story.start_job().await;
    story.is_cancelled(job).await;
    story.ends_and_is_told(EXITED, Some(84)).await;
    for _ in 0..12 {
        story.dispatch_announced().await;
    }
    assert_eq!(story.letters(), [""; 0]);
    assert_eq!((story.live(), story.count(Op::RunTask)), (0, 1));
    story.end();
}

/// Whoever announced it knew less.
#[tokio::test]
async fn a_runner_that_is_announced_for_a_job_that_is_over_is_not_started() {
    for is_over in [true, false] {
        let story = without_credentials().await;
        let job = story.start_job().await;
        if is_over {
            story.is_cancelled(job).await;
        }
        let announced = json!({"replacement": {"job_id": job, "attempt": 2, "labels": LABELS, "owner": OWNER,
            "repository": REPOSITORY}});
        story.world.send(JOB_QUEUE, &[announced.to_string()]);
        story.dispatch_announced().await;
        assert_eq!(story.live(), if is_over { 1 } else { 2 });
        if !is_over {
            story.cancel(job);
        }
        let tasks: Vec<u64> = story.world.ecs().live().map(|task| task.number).collect();
        for task in tasks {
            story.world.kill_task(task, EXITED.0, EXITED.1, Some(84));
        }
        story.end();
    }
}

/// That a job was cancelled is heard before its task is shown.
#[tokio::test]
async fn a_job_that_is_over_before_its_task_is_seen_is_looked_for_again() {
    let story = without_credentials().await;
    let job = story.world.queue_job(&LABELS);
    let now = story.fleet.now();
    let queued = story.world.queued(job);
    assert!(story.world.github().cancel(job, now));
    let event = story.world.envelope(&story.world.payload(job, "completed"));
    assert!(!story.tell(&event).await, "it comes again");
    story.dispatch(&[queued]).await;
    assert_eq!(story.look_again().await.get(Metric::Deferred), 0);
    assert_eq!(story.ends_and_is_told(EXITED, Some(84)).await.get(Metric::Replaced), 0);
    story.end();
}

/// Two jobs of equal labels; the first takes the runner of the second, which is cancelled.
#[tokio::test]
async fn the_runner_of_a_job_that_has_anothers_is_owed_to_that_one() {
    for is_cancelled in [true, false] {
        let story = without_credentials().await;
        let first = story.start_job().await;
        let own = story.task();
        let second = story.start_job().await;
        let taken = story.task();
        story.takes(taken, first).await;
        assert!(!story.tell(&story.world.payload(first, "in_progress")).await, "looked at twice");
        if is_cancelled {
            story.is_cancelled(second).await;
        }
        let now = story.fleet.now();
        story.world.ecs().start(own, now);
        story.world.kill_task(own, EXITED.0, EXITED.1, Some(84));
        let told = story.tell_within(&[story.world.state_change(own)], Duration::minutes(1)).await;
        assert_eq!(told.get(Metric::Replaced), u64::from(!is_cancelled));
        story.world.finish_job(first);
        story.dispatch_announced().await;
        if !is_cancelled {
            let names: Vec<Option<String>> = vec![story.tag(story.task(), "gha:runner-name")];
            assert_eq!(names, [Some(format!("fargate-{second}-2"))]);
            run_in(&story, story.task(), second);
        }
        story.look_again().await;
        story.end();
    }
}

/// The first of three jobs runs on the second's runner, and that is heard of when nothing can be written on that one's task any
/// more. The second has the third's, so the third is owed the first's.
#[tokio::test]
async fn a_chain_holds_where_a_runner_was_gone_before_it_was_heard_who_had_it() {
    let story = without_credentials().await;
    let [first, second, third] = [story.start_job().await, story.start_job().await, story.start_job().await];
    let tasks: Vec<u64> = story.world.ecs().live().map(|task| task.number).collect();
    story.takes(tasks[1], first).await;
    story.world.finish_job(first);
    story.tell(&story.world.envelope(&story.world.payload(first, "completed"))).await;
    story.takes(tasks[2], second).await;
    story.tell(&story.world.payload(second, "in_progress")).await;
    let now = story.fleet.now();
    story.world.ecs().start(tasks[0], now);
    story.world.kill_task(tasks[0], EXITED.0, EXITED.1, Some(87));
    story.tell_within(&[story.world.state_change(tasks[0])], Duration::minutes(1)).await;
    story.dispatch_announced().await;
    let names: Vec<Option<String>> =
        story.world.ecs().live().map(|task| task.tags.get("gha:runner-name").cloned()).collect();
    assert!(names.contains(&Some(format!("fargate-{third}-2"))), "{names:?}");
}

/// ECS's answers are old for minutes: it shows no task of the runner that another's job took. That one's labels are more.
#[tokio::test]
async fn a_runner_that_is_not_shown_for_minutes_is_known_for_taken_in_the_end() {
    let story = without_credentials().await;
    let owner = story.start_job().await;
    let thief = story.world.queue_job(&LABELS[..1]);
    story.takes(story.task(), thief).await;
    story.world.fail(Op::ListTasks).always().answer(200, &[], json!({ "taskArns": [] }));
    assert!(!story.tell(&story.world.payload(thief, "in_progress")).await, "it comes again");
    assert_eq!(story.look_again().await.get(Metric::Deferred), 1);
    story.world.heal();
    story.look_again().await;
    story.world.finish_job(thief);
    story.dispatch_announced().await;
    run_in(&story, story.task(), owner);
}

/// Nobody heard that a job was queued; it takes the runner of another.
#[tokio::test]
async fn who_lost_a_runner_to_a_job_that_nobody_heard_of_gets_another() {
    let story = without_credentials().await;
    let heard = story.start_job().await;
    let unheard = story.world.queue_job(&LABELS);
    let task = story.task();
    story.takes(task, unheard).await;
    assert!(!story.tell(&story.world.payload(unheard, "in_progress")).await, "looked at twice");
    let mut replaced = 0;
    for _ in 0..2 {
        replaced += story.look_again().await.get(Metric::Replaced);
    }
    assert_eq!(replaced, 1);
    story.world.finish_job(unheard);
    story.dispatch_announced().await;
    run_in(&story, story.task(), heard);
    story.end();
}

/// The same message again, when the attempt is over: ECS would answer with the task that has ended.
#[tokio::test]
async fn a_message_that_comes_again_after_its_runner_is_not_taken_for_done() {
    let story = without_credentials().await;
    let job = story.start_job().await;
    story.ends_and_is_told(EXITED, Some(87)).await;
    story.world.send(JOB_QUEUE, &[story.world.queued(job)]);
    story.dispatch_announced().await;
    assert_eq!(story.live(), 1, "the next attempt, which was announced");
    run_in(&story, story.task(), job);
    story.end();
}
