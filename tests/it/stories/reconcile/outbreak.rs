//! All runners die, whatever the job.

use super::LABELS;
use super::{Metric, Op, Story};
use crate::http::{DEAD_LETTERS, JOB_QUEUE};
use serde_json::json;
use time::Duration;

const EXITED: &str = "Essential container in task exited";

impl Story {
    /// Every runner that is up dies, and reconcile hears of it: how often the operator was called.
    async fn all_die(&self, exit: Option<i32>) -> u64 {
        if exit.is_some() {
            self.world.boot();
        }
        let tasks: Vec<u64> = self.world.ecs().live().map(|task| task.number).collect();
        let mut called = 0;
        for task in tasks {
            match exit {
                Some(_) => self.world.kill_task(task, "EssentialContainerExited", EXITED, exit),
                None => self.world.kill_task(task, "TaskFailedToStart", "ResourceInitializationError", None),
            }
            let told = self.tell_within(&[self.world.state_change(task)], Duration::minutes(1)).await;
            called += told.get(Metric::NeedsOperator);
        }
        called
    }

    fn live_names(&self) -> Vec<String> {
        let of = |task: &crate::model::ecs::Task| task.tags.get("gha:runner-name").cloned();
        self.world.ecs().live().filter_map(of).collect()
    }
}

/// actions/runner#4613: for ten hours GitHub gave the newest version no jobs.
#[tokio::test]
async fn jobs_wait_while_all_runners_die_and_one_at_a_time_finds_out_when_that_is_over() {
    for exit in [Some(1), Some(0), Some(139), None] {
        let story = Story::with(&[("MAX_ATTEMPTS", "2")]).await;
        let mut jobs = vec![story.start_job().await, story.start_job().await, story.start_job().await];
        assert_eq!(story.all_die(exit).await, 1, "{exit:?}: with the third");
        story.world.advance(Duration::minutes(2));
        for _ in 0..2 {
            jobs.push(story.start_job().await);
        }
        for _ in 0..4 {
            let names = story.live_names();
            assert!(matches!(names.as_slice(), [name] if name.contains("-pool-")), "{exit:?}: {names:?}");
            assert_eq!(story.all_die(exit).await, 0, "a probe is no job's");
            // Every message comes back, and one of them starts the next.
            story.world.advance(Duration::minutes(4));
            story.dispatch_announced().await;
        }
        assert_eq!(story.world.letters(DEAD_LETTERS).len(), 0, "{exit:?}");

        // It is mended: the next one takes a job, whichever, and then all get theirs.
        story.world.boot();
        for (job, _) in story.world.assign() {
            assert!(!story.tell(&story.world.payload(job, "in_progress")).await, "looked at twice");
        }
        story.world.advance(Duration::minutes(4));
        story.dispatch_announced().await;
        story.world.boot();
        story.world.assign();
        for job in &jobs {
            assert_eq!(story.status(*job), "in_progress", "{exit:?}: {}", story.world.books());
            story.world.finish_job(*job);
        }
        story.end();
    }
}

/// The probe's crash between its two calls leaves a registration, which the sweep spends; and that the next one has taken
/// a job nobody tells.
#[tokio::test]
async fn a_probe_that_crashes_is_followed_by_another_and_one_that_works_is_seen_to() {
    let story = Story::begin().await;
    let jobs = [story.start_job().await, story.start_job().await, story.start_job().await];
    story.all_die(Some(0)).await;
    story.world.advance(Duration::minutes(2));
    story.world.fail(Op::RunTask).once().before().status(500);
    story.world.fail(Op::DeleteRunner).once().before().status(500);
    story.start_job().await;
    assert_eq!(story.live(), 0);
    story.world.advance(Duration::minutes(11));
    story.sweep().await;
    story.dispatch_announced().await;
    assert!(
        matches!(story.live_names().as_slice(), [name] if name.contains("-pool-")),
        "{}",
        story.world.books()
    );
    story.world.boot();
    let taken: Vec<u64> = story.world.assign().into_iter().map(|(job, _)| job).collect();
    assert_eq!(taken.len(), 1);
    story.world.advance(Duration::minutes(4));
    story.dispatch_announced().await;
    assert_eq!(story.live(), jobs.len() + 1, "{}", story.world.books());
    story.world.boot();
    story.world.assign();
    for job in 1..=4 {
        story.world.finish_job(job);
    }
    story.end();
}

/// What waits for nothing takes no turn of those that wait.
#[tokio::test]
async fn jobs_that_were_cancelled_while_all_runners_died_start_no_probe() {
    let story = Story::begin().await;
    let jobs = [story.start_job().await, story.start_job().await, story.start_job().await];
    story.all_die(Some(1)).await;
    for job in jobs {
        story.cancel(job);
    }
    story.dispatch_announced().await;
    assert_eq!((story.live(), story.count(Op::RunTask)), (0, 3), "{}", story.world.books());
    assert_eq!(story.world.letters(JOB_QUEUE).len(), 0);
    story.start_job().await;
    assert!(matches!(story.live_names().as_slice(), [name] if name.contains("-pool-")));
    story.world.boot();
    let taken = story.world.assign();
    story.world.finish_job(taken[0].0);
    story.dispatch_announced().await;
    story.end();
}

/// Each definition's runners die of something else, and what has mended one is found out without the other.
#[tokio::test]
async fn each_task_definition_has_a_probe_of_its_own() {
    let classes = json!({"version": 1, "classes": [{"name": "usual", "labels": ["fargate"]},
        {"name": "big", "labels": ["big"], "task_definition": "big-runner"}]});
    let story = Story::with(&[("RUNNER_CLASSES", &classes.to_string())]).await;
    story.world.ecs().definitions.insert("big-runner".to_owned(), (1, vec!["runner".to_owned()]));
    for labels in [&LABELS[..], &["self-hosted", "big"]] {
        let jobs: Vec<String> = (0..3).map(|_| story.world.queued(story.world.queue_job(labels))).collect();
        story.world.send(JOB_QUEUE, &jobs);
        story.dispatch_announced().await;
    }
    story.all_die(Some(139)).await;
    story.world.advance(Duration::minutes(4));
    story.dispatch_announced().await;
    let names = story.live_names();
    assert_eq!(names.len(), 2, "{names:?}");
    for name in &names {
        assert!(name.contains("-pool-"), "{names:?}");
    }
    for job in 1..=6 {
        story.cancel(job);
    }
    story.world.finish();
}

/// Whose fault it is that the job's last runner died is not known while ECS does not show how the others fare.
#[tokio::test]
async fn no_job_is_given_up_while_nobody_can_see_whether_all_die() {
    let story = Story::with(&[("MAX_ATTEMPTS", "1")]).await;
    let job = story.start_job().await;
    let task = story.task();
    story.world.boot();
    story.world.kill_task(task, "EssentialContainerExited", EXITED, Some(139));
    // The task itself, its registration; and then whether all die.
    story.world.fail(Op::ListTasks).once().before().aws("ServerException");
    let event = [story.world.state_change(task)];
    let told = story.tell_within(&event, Duration::minutes(1)).await;
    assert_eq!((told.get(Metric::Rejected), told.get(Metric::DeferredUnavailable)), (0, 1));
    assert_eq!(story.world.letters(DEAD_LETTERS), []);
    story.cancel(job);
    story.world.finish();
}

/// One job's runners die again and again; those of the others live.
#[tokio::test]
async fn a_job_whose_runners_alone_die_is_given_up_all_the_same() {
    let story = Story::with(&[("MAX_ATTEMPTS", "3")]).await;
    let poisoned = story.start_job().await;
    for _ in 0..3 {
        assert_eq!(story.all_die(Some(139)).await, 0);
        let healthy = story.start_job().await;
        story.world.boot();
        story.assign(healthy, story.runner_of(story.task()));
        story.tell(&story.world.payload(healthy, "in_progress")).await;
        story.world.finish_job(healthy);
        story.dispatch_announced().await;
    }
    let letters = story.world.letters(DEAD_LETTERS);
    assert!(letters[0].1.as_ref().is_some_and(|reason| reason.contains("MAX_ATTEMPTS: 3")), "{letters:?}");
    story.cancel(poisoned);
    story.end();
}
