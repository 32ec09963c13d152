//! What the author of a job reads, and that nothing is in its way.

use serde_json::{Value, json};
use time::Duration;

use super::*;
use crate::http::{APP_SECRET, DEAD_LETTERS, PAT};
use crate::log::Log;
use crate::model::{checks::CheckRun, ecs::Supply};

const TOLD: (&str, &str) = ("CHECK_RUNS", "true");

/// Jobs of these names and labels are queued: the payloads.
fn queue(world: &World, names: &[&str], labels: &[&str]) -> (Vec<u64>, Vec<Value>) {
    let now = world.now();
    let jobs = world.github().queue_run((OWNER, REPOSITORY), names, labels, PERSON, now);
    let payloads = jobs.iter().map(|job| world.payload(*job, "queued")).collect();
    (jobs, payloads)
}

impl Story {
    /// How many messages come again.
    pub(super) async fn dispatch(&self, payloads: &[Value]) -> usize {
        let mut again = 0;
        for ten in payloads.chunks(10) {
            let bodies: Vec<String> = ten.iter().map(Value::to_string).collect();
            let batch = self.world.deliver(&bodies);
            again += self.world.acknowledge(JOB_QUEUE, &batch, &self.fleet.dispatch(&batch).await);
        }
        again
    }

    pub(super) async fn dispatch_again(&self) -> usize {
        let batch = self.world.receive(JOB_QUEUE, 10);
        self.world.acknowledge(JOB_QUEUE, &batch, &self.fleet.dispatch(&batch).await)
    }

    fn checks(&self) -> Vec<CheckRun> {
        self.world.github().checks.clone()
    }

    fn writes(&self) -> usize {
        let calls = self.world.calls();
        [Op::CreateCheck, Op::UpdateCheck, Op::CreateStatus].into_iter().map(|op| calls.count(op)).sum()
    }

    fn words(&self) -> usize {
        self.world.letters(AUTHOR_QUEUE).len()
    }
}

#[tokio::test]
async fn a_matrix_that_is_rejected_is_one_check_with_all_of_it() {
    let story = Story::with(&[TOLD]).await;
    let names: Vec<String> = (1..=50).map(|number| format!("test ({number})")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (_, payloads) = queue(&story.world, &names, &["self-hosted", "fargate", "cpu=64"]);
    assert_eq!(story.dispatch(&payloads).await, 0);
    assert_eq!(story.world.letters(DEAD_LETTERS).len(), 50);
    story.rest().await;
    let checks = story.checks();
    let [check] = &checks[..] else { panic!("{} checks", checks.len()) };
    assert_eq!((check.status.as_str(), check.conclusion.as_deref()), ("completed", Some("failure")));
    assert_eq!(check.name, "Runner for test (self-hosted, fargate, cpu=64)");
    assert!(
        check.summary.contains("**Jobs:** 50") && check.summary.contains("the nearest valid sizes are"),
        "{}",
        check.summary
    );
    assert!(check.link.as_deref().is_some_and(|link| link.starts_with("https://github.com/")));
    assert_eq!(story.writes(), 1);
}

#[tokio::test]
async fn a_job_that_waits_says_so_until_its_runner_comes() {
    let story = Story::with(&[TOLD, ("MAX_RUNNERS", "1")]).await;
    let first = story.run(&["first"]).await[0];
    let (jobs, payloads) = queue(&story.world, &["second"], &LABELS);
    assert_eq!(story.dispatch(&payloads).await, 1);
    assert_eq!(story.words(), 0, "ten minutes are nobody's business");
    story.world.advance(Duration::minutes(16));
    assert_eq!(story.dispatch_again().await, 1);
    story.rest().await;
    let check = &story.checks()[0];
    assert_eq!(check.status, "in_progress");
    assert!(check.summary.contains("as many runners as are allowed are at work"), "{}", check.summary);
    story.world.advance(Duration::minutes(16));
    story.dispatch_again().await;
    story.rest().await;
    assert_eq!(story.writes(), 1, "it stands there already");
    story.world.finish_job(first);
    story.world.advance(Duration::minutes(16));
    assert_eq!(story.dispatch_again().await, 0);
    story.world.boot();
    story.world.assign();
    assert_eq!(story.status(jobs[0]), JobStatus::InProgress);
    story.rest().await;
    let checks = story.checks();
    assert_eq!((checks.len(), checks[0].conclusion.as_deref()), (1, Some("success")));
}

#[tokio::test]
async fn a_job_that_is_cancelled_while_it_waits_waits_no_more() {
    let story = Story::with(&[TOLD, ("MAX_RUNNERS", "1")]).await;
    story.run(&["first"]).await;
    let (jobs, payloads) = queue(&story.world, &["second"], &LABELS);
    story.dispatch(&payloads).await;
    story.world.advance(Duration::minutes(16));
    story.dispatch_again().await;
    story.rest().await;
    story.end(jobs[0], "cancelled");
    let task = story.world.ecs().live().next().map(|task| task.number).expect("a task");
    story.world.kill_task(task, "EssentialContainerExited", "x", Some(0));
    story.world.advance(Duration::minutes(16));
    assert_eq!(story.dispatch_again().await, 0);
    story.rest().await;
    assert_eq!(story.checks()[0].conclusion.as_deref(), Some("success"));
}

#[tokio::test]
async fn a_slip_of_the_pen_is_pointed_at_and_nothing_else() {
    let story = Story::with(&[TOLD]).await;
    let (_, payloads) = queue(&story.world, &["test"], &["self-hosted", "fargate", "cpus=2"]);
    let (_, others) = queue(&story.world, &["gpu"], &["self-hosted", "fargate", "gpu"]);
    let (_, mut public) = queue(&story.world, &["public"], &["self-hosted", "fargate", "cpus=2"]);
    public[0]["repository"]["private"] = json!(false);
    story.dispatch(&[payloads, others, public].concat()).await;
    assert_eq!(story.words(), 1);
    story.rest().await;
    let check = &story.checks()[0];
    assert_eq!(check.conclusion.as_deref(), Some("neutral"), "it accuses nobody");
    assert!(check.summary.contains("cpus&#61;2"), "{}", check.summary);
}

/// Whatever a job is called, it is no markup.
#[tokio::test]
async fn names_are_shown_as_they_are() {
    let story = Story::with(&[TOLD]).await;
    let name = "<img src=x onerror=alert(1)> @octocat [x](https://evil.test) `</code>`\u{202e}";
    let (_, payloads) =
        queue(&story.world, &[name], &["self-hosted", "fargate", "cpu=64", "run=<b>@octocat"]);
    story.dispatch(&payloads).await;
    story.rest().await;
    let check = &story.checks()[0];
    for bad in ["<img", "@octocat", "](", "<b>", "\u{202e}"] {
        assert!(!check.summary.contains(bad), "{bad}: {}", check.summary);
    }
}

/// That nobody can be told is counted, and that is all.
#[tokio::test]
async fn a_word_that_is_lost_is_in_nobody_s_way() {
    let story = Story::with(&[TOLD]).await;
    let (_, payloads) = queue(&story.world, &["test"], &["self-hosted", "fargate", "cpu=64"]);
    let batch = story.world.deliver(&[payloads[0].to_string()]);
    // The first message goes to the dead-letter queue, the second to the author's.
    story.world.fail(Op::SendMessage).nth(2).status(500);
    let (answer, metrics) = story.fleet.invoke(&batch).await;
    assert_eq!(story.world.acknowledge(JOB_QUEUE, &batch, &answer.expect("an answer")), 0);
    assert_eq!((metrics.get(Metric::Rejected), metrics.get(Metric::AuthorUntold), story.words()), (1, 1, 0));
}

#[tokio::test]
async fn nobody_is_told_without_being_asked_to() {
    let story = Story::begin().await;
    let (_, payloads) = queue(&story.world, &["test"], &["self-hosted", "fargate", "cpu=64"]);
    story.dispatch(&payloads).await;
    assert_eq!(story.words(), 0);
}

#[tokio::test]
async fn a_missing_permission_is_said_once_a_day() {
    let log = Log::keep();
    let story = Story::with(&[TOLD]).await;
    story.world.app().may_only_read.insert("checks".to_owned());
    for name in ["a", "b", "c"] {
        let (_, payloads) = queue(&story.world, &[name], &["self-hosted", "fargate", "cpu=64"]);
        story.dispatch(&payloads).await;
        let (again, metrics) = story.look().await;
        assert_eq!((again, metrics.get(Metric::NeedsOperator)), (0, 0));
    }
    assert_eq!(log.text().matches("the App needs \\\"Checks: read and write\\\"").count(), 1);
    assert!(story.checks().is_empty());
    // What it may is not less for that.
    let job = story.run(&["test"]).await[0];
    story.interrupt(job, "failure").await;
    story.rest().await;
    assert_eq!(story.attempts(job), 2);
}

#[tokio::test]
async fn a_token_leaves_a_commit_status() {
    let story = Story::with(&[TOLD]).await;
    story.world.secrets().set(APP_SECRET, PAT);
    let story = Story { fleet: Story::fleet(&story.world, &[TOLD]).await, world: story.world };
    let (_, payloads) = queue(&story.world, &["test"], &["self-hosted", "fargate", "cpu=64"]);
    story.dispatch(&payloads).await;
    story.rest().await;
    let statuses = story.world.github().statuses.clone();
    assert_eq!((statuses.len(), statuses[0].state.as_str()), (1, "failure"));
    assert!(story.checks().is_empty());
    // What it may not is said by the name that tokens have for it.
    let log = Log::keep();
    let message = json!({"message": "Resource not accessible by personal access token"});
    story.world.fail(Op::CreateStatus).once().before().answer(403, &[], message);
    let (_, payloads) = queue(&story.world, &["other"], &["self-hosted", "fargate", "cpu=64"]);
    story.dispatch(&payloads).await;
    story.rest().await;
    let said = |who: &str| log.text().contains(&format!("authors are not told: {who} needs"));
    assert!(said("the token") && !said("the App"));
}

#[tokio::test]
async fn more_than_a_process_may_write_is_dropped_and_counted() {
    let story = Story::with(&[TOLD]).await;
    let mut payloads = Vec::new();
    for number in 0..12 {
        let name = format!("job-{number}");
        payloads.extend(queue(&story.world, &[&name], &["self-hosted", "fargate", "cpu=64"]).1);
    }
    story.dispatch(&payloads).await;
    let (mut told, mut dropped) = (0, 0);
    for _ in 0..2 {
        let (again, metrics) = story.look().await;
        assert_eq!(again, 0);
        told += metrics.get(Metric::Told);
        dropped += metrics.get(Metric::AuthorDropped);
    }
    assert_eq!((told, dropped, story.writes()), (10, 2, 10));
}

#[tokio::test]
async fn an_interruption_is_read_where_it_was() {
    let story = Story::with(&[TOLD]).await;
    let job = story.run(&["test"]).await[0];
    story.interrupt(job, "failure").await;
    story.rest().await;
    assert_eq!(story.attempts(job), 2);
    let check = &story.checks()[0];
    assert_eq!(
        (check.name.as_str(), check.conclusion.as_deref()),
        ("Runner for test (self-hosted, fargate)", Some("neutral"))
    );
    assert!(check.summary.contains("it runs again&#44; on demand"), "{}", check.summary);
}

/// One runner after the other died: reconcile, which gives the job up, knows neither its name nor its commit.
#[tokio::test]
async fn a_job_that_is_given_up_says_so_at_once() {
    let story = Story::with(&[TOLD, ("MAX_ATTEMPTS", "2")]).await;
    let (_, payloads) = queue(&story.world, &["test"], &LABELS);
    story.dispatch(&payloads).await;
    for _ in 0..2 {
        story.world.boot();
        let task = story.world.ecs().live().next().map(|task| task.number).expect("a task");
        story.world.kill_task(task, "EssentialContainerExited", "a reason for operators", Some(139));
        story.tell_stopped(task).await;
        story.world.advance(Duration::minutes(1));
        story.dispatch_again().await;
    }
    assert_eq!((story.world.letters(DEAD_LETTERS).len(), story.words()), (1, 1));
    story.rest().await;
    let check = &story.checks()[0];
    assert_eq!(
        (check.name.as_str(), check.conclusion.as_deref(), check.title.as_str()),
        ("Runner for test (self-hosted, fargate)", Some("failure"), "No runner came up for it")
    );
    assert!(check.summary.contains("2 runners were started for it"), "{}", check.summary);
    assert!(!check.summary.contains("operators") && !check.summary.contains("139"), "{}", check.summary);
}

/// What was redriven and waits again: its message is this system's own, too.
#[tokio::test]
async fn a_replacement_that_waits_says_so() {
    let story = Story::with(&[TOLD]).await;
    let (_, payloads) = queue(&story.world, &["test"], &LABELS);
    story.dispatch(&payloads).await;
    story.world.boot();
    let task = story.world.ecs().live().next().map(|task| task.number).expect("a task");
    story.world.kill_task(task, "EssentialContainerExited", "x", Some(139));
    story.tell_stopped(task).await;
    for capacity in ["FARGATE_SPOT", "FARGATE"] {
        story.world.ecs().supply.insert(capacity.to_owned(), Supply::Dry);
    }
    story.dispatch_again().await;
    story.world.advance(Duration::minutes(16));
    assert_eq!(story.dispatch_again().await, 1);
    story.rest().await;
    let check = &story.checks()[0];
    assert_eq!(check.status, "in_progress");
    assert!(check.summary.contains("Fargate has no capacity"), "{}", check.summary);
}
