//! What runs again, what does not, and who says so.

use expect_test::expect;
use serde_json::{Value, json};
use time::{Duration, format_description::well_known::Rfc3339};

use super::*;
use crate::http::{APP_SECRET, PAT};
use crate::log::Log;
use crate::model::ecs::Launch;

/// The capacity that the newest task was started on.
fn capacity(world: &World) -> String {
    let ecs = world.ecs();
    let task = ecs.live().max_by_key(|task| task.number).expect("a task");
    match &task.launch {
        Launch::Type(name) | Launch::Provider(name) => name.to_string(),
    }
}

impl Story {
    /// The newest task dies before its runner has a job, and another follows.
    async fn follow_dead_runner(&self) {
        self.world.boot();
        let task = self.world.ecs().live().map(|task| task.number).max().expect("a task");
        self.world.kill_task(task, "EssentialContainerExited", "x", Some(139));
        self.tell_stopped(task).await;
        self.world.advance(Duration::minutes(1));
        assert_eq!(self.dispatch_again().await, 0);
    }
}

#[tokio::test]
async fn an_interrupted_job_runs_again_on_demand() {
    let story = Story::begin().await;
    let job = story.run(&["test"]).await[0];
    assert_eq!(capacity(&story.world), "FARGATE_SPOT");
    story.interrupt(job, "failure").await;
    story.world.take_calls();
    let (again, metrics) = story.look().await;
    assert_eq!((again, metrics.get(Metric::Reran)), (0, 1));
    expect![[r#"
        GetSecretValue github-app → version 1
        get App  → 200
        access token installation 23154469 → 201
        get job repositories/1 1 → completed
        get run 1 → 200
        list jobs 1 attempt 1 → 1
        re-run failed jobs 1 → 201
    "#]]
    .assert_eq(&story.world.take_calls().to_string());
    let new = story.again(job);
    assert_eq!((story.attempts(job), new.len()), (2, 1));
    story.start(&new).await;
    assert_eq!(capacity(&story.world), "FARGATE", "never Spot twice");
}

/// A runner that dies before it has its job is followed by another: that one may be on Spot again, and nobody is asked
/// whether the job's attempt at its run, the first, is one that this system asked for. The second is asked about.
#[tokio::test]
async fn what_follows_a_dead_runner_knows_its_attempt_at_the_run() {
    let story = Story::begin().await;
    let first = story.world.queue_job(&LABELS);
    story.dispatch(&[story.world.payload(first, "queued")]).await;
    story.world.take_calls();
    story.follow_dead_runner().await;
    assert_eq!(story.world.take_calls().count(Op::GetRun), 0);
    assert_eq!(capacity(&story.world), "FARGATE_SPOT");
    story.world.boot();
    assert_eq!(story.world.assign().len(), 1);

    let job = story.run(&["test"]).await[0];
    story.interrupt(job, "failure").await;
    story.rest().await;
    let again = story.again(job);
    story.dispatch(&[story.world.payload(again[0], "queued")]).await;
    story.world.take_calls();
    story.follow_dead_runner().await;
    assert_eq!(story.world.take_calls().count(Op::GetRun), 1);
    assert_eq!(capacity(&story.world), "FARGATE");
}

/// GitHub has not noticed that the runner is gone, and then the rest of the run goes on.
#[tokio::test]
async fn it_waits_until_the_run_is_over() {
    let story = Story::begin().await;
    let [job, other] = story.run(&["test", "lint"]).await[..] else { panic!("two jobs") };
    let task = story.take_back(job);
    story.tell_stopped(task).await;
    assert_eq!(story.look().await.0, 1, "GitHub says that it is at work");
    story.world.advance(Duration::minutes(10));
    story.end(job, "failure");
    assert_eq!(story.look().await.0, 1, "the other one is");
    assert_eq!(story.asked(), 0);
    story.world.advance(Duration::minutes(15));
    story.end(other, "success");
    story.rest().await;
    assert_eq!((story.attempts(job), story.again(job).len(), story.asked()), (2, 1, 1));
}

/// Several interruptions in one run: all of them run again, at once, with one request. The first one was longer ago
/// than ECS shows its task.
#[tokio::test]
async fn several_interrupted_jobs_run_again_together() {
    let story = Story::begin().await;
    let jobs = story.run(&["a", "b", "c", "d"]).await;
    story.interrupt(jobs[0], "failure").await;
    story.look().await;
    story.world.advance(Duration::minutes(7));
    story.interrupt(jobs[1], "failure").await;
    for _ in 0..14 {
        story.look().await;
        story.world.advance(Duration::minutes(15));
    }
    story.interrupt(jobs[2], "cancelled").await;
    story.end(jobs[3], "success");
    story.rest().await;
    assert_eq!((story.attempts(jobs[0]), story.asked()), (2, 1));
    assert_eq!(story.again(jobs[0]).len(), 3, "a, b and c, and not d");
}

/// The newest message knows the least: it does not run its own job again alone, which would lose the others.
#[tokio::test]
async fn who_knows_less_waits_for_who_knows_more() {
    let story = Story::begin().await;
    let jobs = story.run(&["a", "b"]).await;
    story.interrupt(jobs[1], "failure").await;
    story.look().await;
    story.world.advance(Duration::hours(3));
    story.look().await;
    story.interrupt(jobs[0], "failure").await;
    assert_eq!(story.look().await.0, 1, "b's task is forgotten: did it fail by itself?");
    assert_eq!(story.asked(), 0);
    story.rest().await;
    assert_eq!((story.attempts(jobs[0]), story.again(jobs[0]).len(), story.asked()), (2, 2, 1));
}

/// A matrix with fail-fast: what was cancelled because one was interrupted runs again with it.
#[tokio::test]
async fn the_rest_of_a_matrix_runs_again_too() {
    let story = Story::begin().await;
    let jobs = story.run(&["test (1)", "test (2)", "test (3)"]).await;
    story.end(jobs[2], "success");
    story.interrupt(jobs[0], "failure").await;
    story.world.advance(Duration::seconds(20));
    story.end(jobs[1], "cancelled");
    story.rest().await;
    assert_eq!((story.attempts(jobs[0]), story.again(jobs[0]).len()), (2, 2));
    assert_eq!(story.world.calls().count(Op::RerunFailed), 1);
}

/// What runs again is interrupted again, since GitHub gave it a runner on Spot that was started for another job.
#[tokio::test]
async fn nothing_runs_again_for_ever() {
    let story = Story::begin().await;
    let job = story.run(&["test"]).await[0];
    story.interrupt(job, "failure").await;
    story.rest().await;
    let second = story.again(job)[0];
    story.start(&[second]).await;
    story.interrupt(second, "failure").await;
    story.rest().await;
    assert_eq!((story.attempts(job), story.asked()), (2, 1));
}

#[tokio::test]
async fn a_person_s_own_re_run_is_on_spot_and_runs_again_as_well() {
    let story = Story::begin().await;
    let job = story.run(&["test"]).await[0];
    story.end(job, "failure");
    let (run, now) = (story.world.github().job(job).expect("a job").run, story.world.now());
    let new = story.world.github().rerun_failed(run, PERSON, now).expect("granted");
    story.start(&new).await;
    assert_eq!(capacity(&story.world), "FARGATE_SPOT", "nobody forces it");
    story.interrupt(new[0], "failure").await;
    story.rest().await;
    assert_eq!((story.attempts(job), story.asked()), (3, 1));
}

#[tokio::test]
async fn a_user_s_failure_never_runs_again() {
    // Its own runner is taken back while it ends.
    let story = Story::begin().await;
    let job = story.run(&["test"]).await[0];
    let task = story.task_of(job);
    story.end(job, "failure");
    story.world.advance(Duration::minutes(3));
    story.world.kill_task(task, "SpotInterruption", "Your Spot Task was interrupted.", None);
    story.tell_stopped(task).await;
    story.rest().await;
    assert_eq!((story.attempts(job), story.asked()), (1, 0));
    // Another one failed by itself: the interrupted one runs again, alone.
    let story = Story::begin().await;
    let jobs = story.run(&["test", "lint"]).await;
    story.fail(jobs[1]);
    story.interrupt(jobs[0], "failure").await;
    assert_eq!(story.look().await.0, 0);
    assert_eq!((story.attempts(jobs[0]), story.again(jobs[0]).len()), (2, 1));
    assert_eq!(story.world.take_calls().count(Op::RerunJob), 1);
    // The same, found out late: its task is forgotten, and nobody comes who knows better.
    let story = Story::begin().await;
    let jobs = story.run(&["test", "lint"]).await;
    story.fail(jobs[1]);
    story.world.advance(Duration::hours(2));
    story.interrupt(jobs[0], "failure").await;
    assert_eq!(story.look().await.0, 1);
    story.rest().await;
    assert_eq!((story.attempts(jobs[0]), story.again(jobs[0]).len()), (2, 1));
    // Two were interrupted, a third failed by itself: there is no request for that.
    let story = Story::begin().await;
    let jobs = story.run(&["a", "b", "lint"]).await;
    story.fail(jobs[2]);
    story.interrupt(jobs[0], "failure").await;
    story.interrupt(jobs[1], "failure").await;
    story.rest().await;
    assert_eq!((story.attempts(jobs[0]), story.asked()), (1, 0));
}

#[tokio::test]
async fn what_a_person_cancels_stays_cancelled() {
    // While it hung.
    let story = Story::begin().await;
    let job = story.run(&["test"]).await[0];
    let task = story.take_back(job);
    story.tell_stopped(task).await;
    story.world.advance(Duration::minutes(5));
    let now = story.world.now();
    story.world.github().cancel_run(job, now);
    story.rest().await;
    assert_eq!((story.attempts(job), story.asked()), (1, 0));
    // The rest of a run, after one job of it was interrupted.
    let jobs = story.run(&["test", "lint"]).await;
    story.interrupt(jobs[0], "failure").await;
    story.world.advance(Duration::minutes(1));
    let now = story.world.now();
    story.world.github().cancel_run(jobs[0], now);
    story.rest().await;
    assert_eq!((story.attempts(jobs[0]), story.asked()), (1, 0));
    // The rest of a matrix, as fail-fast would have.
    let jobs = story.run(&["test (1)", "test (2)"]).await;
    story.interrupt(jobs[0], "failure").await;
    let now = story.world.now();
    story.world.github().cancel_run(jobs[0], now);
    story.rest().await;
    assert_eq!((story.attempts(jobs[0]), story.asked()), (1, 0));
}

#[tokio::test]
async fn who_has_run_it_again_already_has_done_so() {
    let story = Story::begin().await;
    let job = story.run(&["test"]).await[0];
    story.interrupt(job, "failure").await;
    let now = story.world.now();
    story.world.github().rerun_failed(job, PERSON, now).expect("granted");
    story.rest().await;
    assert_eq!((story.attempts(job), story.asked()), (2, 0));
}

/// GET still shows the attempt before: GitHub's "already running" says that it is not so.
#[tokio::test]
async fn an_answer_that_is_old_runs_nothing_twice() {
    let story = Story::begin().await;
    let job = story.run(&["test"]).await[0];
    story.interrupt(job, "failure").await;
    let busy = json!({"message": "This workflow is already running"});
    story.world.fail(Op::RerunFailed).once().answer(403, &[], busy);
    assert_eq!(story.look().await.0, 1, "later");
    story.rest().await;
    assert_eq!((story.attempts(job), story.asked()), (2, 2));
}

#[tokio::test]
async fn github_s_limits_end_it() {
    let story = Story::begin().await;
    let job = story.run(&["test"]).await[0];
    let old = story.world.now() - Duration::days(31);
    if let Some(run) = story.world.github().runs_mut().get_mut(&job) {
        run.created_at = old;
    }
    story.interrupt(job, "failure").await;
    let (again, metrics) = story.look().await;
    assert_eq!((again, metrics.get(Metric::LeftToAuthor), story.asked()), (0, 1, 0));
    let job = story.run(&["test"]).await[0];
    story.interrupt(job, "failure").await;
    let why = "Unable to retry this workflow run because its logs are over a month old";
    story.world.fail(Op::RerunFailed).once().answer(403, &[], json!({"message": why}));
    let (again, metrics) = story.look().await;
    assert_eq!((again, metrics.get(Metric::LeftToAuthor)), (0, 1), "GitHub's word is the last");
}

/// One line a day, and nothing else: no message comes again, no operator is called.
#[tokio::test]
async fn a_missing_permission_is_said_once() {
    let log = Log::keep();
    let story = Story::begin().await;
    story.world.app().may_only_read.insert("actions".to_owned());
    for _ in 0..3 {
        let job = story.run(&["test"]).await[0];
        story.interrupt(job, "failure").await;
        let (again, metrics) = story.look().await;
        assert_eq!((again, metrics.get(Metric::NeedsOperator), story.attempts(job)), (0, 0, 1));
    }
    let said = || log.text().matches("the App needs \\\"Actions: read and write\\\"").count();
    assert_eq!(said(), 1);
    story.world.advance(Duration::hours(25));
    let job = story.run(&["test"]).await[0];
    story.interrupt(job, "failure").await;
    story.look().await;
    assert_eq!(said(), 2);
}

#[tokio::test]
async fn a_token_runs_nothing_again() {
    let story = Story::begin().await;
    story.world.secrets().set(APP_SECRET, PAT);
    let story = Story { fleet: Story::fleet(&story.world, &[]).await, world: story.world };
    let job = story.run(&["test"]).await[0];
    story.interrupt(job, "failure").await;
    assert_eq!(story.look().await.0, 0);
    assert_eq!(story.asked(), 0);
}

#[tokio::test]
async fn without_an_author_nothing_is_different() {
    let story = Story::with(&[("AUTHOR_QUEUE_URL", "")]).await;
    let job = story.run(&["test"]).await[0];
    story.world.take_calls();
    story.interrupt(job, "failure").await;
    expect![[r#"
        DescribeTasks task 1 → STOPPED
        GetSecretValue github-app → version 1
        access token installation 23154469 → 201
        get job repositories/1 1 → completed
    "#]]
    .assert_eq(&story.world.take_calls().to_string());
    assert!(story.world.letters(AUTHOR_QUEUE).is_empty());
}

impl Story {
    /// Two jobs of one run: the second is on the first one's runner, and nobody has told. That one's task.
    async fn run_on_a_taken_runner(&self) -> (u64, u64) {
        let now = self.world.now();
        let jobs = self.world.github().queue_run((OWNER, REPOSITORY), &["a", "b"], &LABELS, PERSON, now);
        let batch = self.world.deliver(&[self.world.queued(jobs[0])]);
        self.world.acknowledge(JOB_QUEUE, &batch, &self.fleet.dispatch(&batch).await);
        self.world.boot();
        let runner = self.world.github().runners().next().expect("a runner").id;
        self.world.github().cancel(jobs[0], now);
        assert!(self.world.github().assign(jobs[1], runner, now));
        (jobs[1], self.task_of(jobs[1]))
    }

    fn is_over(&self, job: u64) -> Value {
        self.world.deliver_to(LIFECYCLE_QUEUE, &[self.world.payload(job, "completed").to_string()])
    }
}

/// Nobody had told which job the runner had, when it was taken back.
#[tokio::test]
async fn a_job_on_another_s_runner_is_told_of_when_it_ends() {
    let story = Story::begin().await;
    let (job, task) = story.run_on_a_taken_runner().await;
    story.world.kill_task(task, "SpotInterruption", "Your Spot Task was interrupted.", Some(143));
    story.end(job, "failure");
    story.tell_stopped(task).await;
    assert!(story.world.letters(AUTHOR_QUEUE).is_empty());
    let batch = story.is_over(job);
    story.world.acknowledge(LIFECYCLE_QUEUE, &batch, &story.fleet.reconcile(&batch).await);
    assert_eq!(story.world.letters(AUTHOR_QUEUE).len(), 1);
}

/// The job's end is heard of while its runner's task stops, or in the very second in which it does: that can no longer be
/// written on it, and ECS does not say yet of what it stopped.
#[tokio::test]
async fn a_job_whose_end_is_heard_of_as_its_task_stops_is_told_of() {
    for has_begun in [true, false] {
        let story = Story::begin().await;
        let (job, task) = story.run_on_a_taken_runner().await;
        let why = "Your Spot Task was interrupted.";
        if has_begun {
            let now = story.world.now();
            story.world.ecs().take_back(task, why, now);
        }
        story.end(job, "failure");
        let batch = story.is_over(job);
        let stop = || story.world.kill_task(task, "SpotInterruption", why, Some(143));
        let answer = match has_begun {
            true => story.fleet.reconcile(&batch).await,
            false => {
                let tag = story.world.fail(Op::TagResource).before().hold();
                let stops = async {
                    tag.struck().await;
                    stop();
                    tag.release();
                };
                tokio::join!(story.fleet.reconcile(&batch), stops).0
            }
        };
        story.world.acknowledge(LIFECYCLE_QUEUE, &batch, &answer);
        if has_begun {
            stop();
        }
        story.tell_stopped(task).await;
        story.world.advance(Duration::minutes(2));
        let batch = story.world.receive(LIFECYCLE_QUEUE, 10);
        story.world.acknowledge(LIFECYCLE_QUEUE, &batch, &story.fleet.reconcile(&batch).await);
        assert_eq!(story.world.letters(AUTHOR_QUEUE).len(), 1, "has begun: {has_begun}");
    }
}

/// The same, and the list of stopped tasks is from before.
#[tokio::test]
async fn a_task_that_is_in_no_list_for_a_moment_is_looked_for_again() {
    let story = Story::begin().await;
    let (job, task) = story.run_on_a_taken_runner().await;
    story.world.advance(Duration::minutes(2));
    let why = "Your Spot Task was interrupted.";
    let now = story.world.now();
    story.world.ecs().take_back(task, why, now);
    story.end(job, "failure");
    let batch = story.is_over(job);
    story.world.fail(Op::ListTasks).nth(2).stale(Duration::minutes(1));
    story.world.acknowledge(LIFECYCLE_QUEUE, &batch, &story.fleet.reconcile(&batch).await);
    story.world.kill_task(task, "SpotInterruption", why, Some(143));
    story.tell_stopped(task).await;
    story.world.advance(Duration::minutes(2));
    let batch = story.world.receive(LIFECYCLE_QUEUE, 10);
    story.world.acknowledge(LIFECYCLE_QUEUE, &batch, &story.fleet.reconcile(&batch).await);
    assert_eq!(story.world.letters(AUTHOR_QUEUE).len(), 1, "{}", story.world.calls());
}

/// A sweep that saw the runner at work, and nothing of with which job, is slower than the event that tells.
#[tokio::test]
async fn a_sweep_that_knows_less_takes_nothing_back() {
    let story = Story::begin().await;
    let (job, task) = story.run_on_a_taken_runner().await;
    story.world.advance(Duration::minutes(3));
    let told = story.world.payload(job, "in_progress").to_string();
    let told = story.world.deliver_to(LIFECYCLE_QUEUE, &[told]);
    let time = story.world.now().format(&Rfc3339).expect("a time");
    let sweep = json!({ "detail-type": "Scheduled Event", "time": time, "detail": {} }).to_string();
    let sweep = story.world.deliver_to(LIFECYCLE_QUEUE, &[sweep]);
    let tag = story.world.fail(Op::TagResource).before().hold();
    tokio::join!(story.fleet.reconcile(&sweep), async {
        tag.struck().await;
        story.fleet.reconcile(&told).await;
        tag.release();
    });
    story.world.kill_task(task, "SpotInterruption", "Your Spot Task was interrupted.", Some(143));
    story.end(job, "failure");
    story.tell_stopped(task).await;
    assert_eq!(story.world.letters(AUTHOR_QUEUE).len(), 1);
}

/// A repository that was renamed meanwhile is where GitHub leads to.
#[tokio::test]
async fn a_renamed_repository_is_found() {
    let story = Story::begin().await;
    let job = story.run(&["test"]).await[0];
    story.interrupt(job, "failure").await;
    story.world.github().rename((OWNER, REPOSITORY), (OWNER, "renamed"));
    story.rest().await;
    assert_eq!(story.attempts(job), 2);
}

/// GitHub's runner group let a job in that this fleet does not serve: whether that runs again is not for us to say.
#[tokio::test]
async fn a_job_that_is_not_served_is_left_alone() {
    let allowed = format!("{OWNER}/{REPOSITORY}");
    let story = Story::with(&[("ALLOWED_REPOSITORIES", &allowed)]).await;
    let now = story.world.now();
    let own = story.world.github().queue_run((OWNER, REPOSITORY), &["own"], &LABELS, PERSON, now)[0];
    let batch = story.world.deliver(&[story.world.queued(own)]);
    story.world.acknowledge(JOB_QUEUE, &batch, &story.fleet.dispatch(&batch).await);
    story.world.boot();
    let runner = story.world.github().runners().next().expect("a runner").id;
    story.world.github().cancel(own, now);
    let other = story.world.github().queue_run((OWNER, "legacy"), &["other"], &LABELS, PERSON, now)[0];
    assert!(story.world.github().assign(other, runner, now));
    let event = story.world.payload(other, "in_progress").to_string();
    let batch = story.world.deliver_to(LIFECYCLE_QUEUE, &[event]);
    story.world.acknowledge(LIFECYCLE_QUEUE, &batch, &story.fleet.reconcile(&batch).await);
    story.interrupt(other, "failure").await;
    assert!(story.world.letters(AUTHOR_QUEUE).is_empty(), "{:?}", story.world.letters(AUTHOR_QUEUE));
    assert_eq!(story.attempts(other), 1);
}

/// Nobody had told that the job began, and its runner had told GitHub how it ended.
#[tokio::test]
async fn a_job_whose_beginning_was_missed_runs_again_as_well() {
    let story = Story::begin().await;
    let now = story.world.now();
    let job = story.world.github().queue_run((OWNER, REPOSITORY), &["test"], &LABELS, PERSON, now)[0];
    let batch = story.world.deliver(&[story.world.queued(job)]);
    story.world.acknowledge(JOB_QUEUE, &batch, &story.fleet.dispatch(&batch).await);
    story.world.boot();
    story.world.assign();
    story.interrupt(job, "failure").await;
    story.rest().await;
    assert_eq!((story.attempts(job), story.asked()), (2, 1));
}

/// The same, and GitHub still shows the runner as it was before it came up.
#[tokio::test]
async fn a_job_whose_runner_is_shown_as_it_was_runs_again_as_well() {
    let story = Story::begin().await;
    let now = story.world.now();
    let job = story.world.github().queue_run((OWNER, REPOSITORY), &["test"], &LABELS, PERSON, now)[0];
    let batch = story.world.deliver(&[story.world.queued(job)]);
    story.world.acknowledge(JOB_QUEUE, &batch, &story.fleet.dispatch(&batch).await);
    story.world.advance(Duration::minutes(1));
    story.world.boot();
    story.world.assign();
    story.world.advance(Duration::seconds(20));
    story.world.fail(Op::GetRunner).stale(Duration::minutes(1));
    story.interrupt(job, "failure").await;
    story.rest().await;
    assert_eq!((story.attempts(job), story.asked()), (2, 1));
}
