//! Jobs that take the runners of others, heard of, unheard of or not served: at the end of each chain, nobody is left
//! without.

use super::{LABELS, Metric, Op, Story, others::MORE_LABELS};
use crate::http::{DEAD_LETTERS, JOB_QUEUE, OWNER, REPOSITORY};
use serde_json::json;
use time::Duration;

/// cdk-github-runners PR 974: which jobs this fleet serves is one thing, who takes its runners another.
#[tokio::test]
async fn a_job_that_is_not_served_takes_a_runner_and_its_owner_gets_another_at_once() {
    for labels in [&LABELS[..], &MORE_LABELS, &["self-hosted", "fargate", "job=unit tests"]] {
        let story = Story::with(&[("ALLOWED_REPOSITORIES", &format!("{OWNER}/{REPOSITORY}"))]).await;
        let job = story.start_job_with(labels).await;
        story.world.boot();
        let thief = story.world.queue_job_in(OWNER, "legacy", &LABELS);
        story.assign(thief, story.runner_of(story.task()));
        story.tell_job(thief, "in_progress").await;
        story.runs_in_the_end(job).await;
        story.world.finish_job(thief);
        story.end();
    }
}

/// A tag cannot hold every label, and the registration, which can, is spent when the taker is heard of.
#[tokio::test]
async fn a_job_whose_labels_no_tag_holds_gets_another_runner_after_a_short_job_had_its_own() {
    for is_hidden in [false, true] {
        let story = Story::with(&[("RUNNER_LABELS", "self-hosted,fargate,c~1")]).await;
        let job = story.start_job_with(&["self-hosted", "fargate", "c~1"]).await;
        let task = story.task();
        story.world.boot();
        let short = story.world.queue_job(&LABELS);
        story.assign(short, story.runner_of(task));
        let begins = story.world.payload(short, "in_progress");
        story.world.finish_job(short);
        story.tell(&begins).await;
        if is_hidden {
            // By its repository's id, and by its name.
            story.world.fail(Op::GetJob).times(2).before().status(404);
            story.dispatch_announced().await;
            assert_eq!(story.world.letters(JOB_QUEUE).len(), 1, "it is looked at again");
        }
        story.runs_in_the_end(job).await;
    }
}

/// Each of three has the next one's runner. That of the first dies, the only one that it may have: it is the fourth that waits.
#[tokio::test]
async fn a_job_that_runs_at_the_beginning_of_a_long_chain_is_not_given_up() {
    let story = Story::with(&[("MAX_ATTEMPTS", "1")]).await;
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.push(story.start_job().await);
    }
    story.world.boot();
    let tasks: Vec<u64> = story.world.ecs().live().map(|task| task.number).collect();
    for (job, task) in jobs.iter().zip(&tasks[1..]) {
        story.assign(*job, story.runner_of(*task));
    }
    let exited = "Essential container in task exited";
    story.world.kill_task(tasks[0], "EssentialContainerExited", exited, Some(139));
    story.tell_stopped(tasks[0]).await;
    assert_eq!(story.world.letters(DEAD_LETTERS), [], "{}", story.world.books());
    story.runs_in_the_end(jobs[3]).await;
    jobs[..3].iter().for_each(|job| story.world.finish_job(*job));
    story.end();
}

/// Whoever may use the runner group can take every runner that is started for somebody else.
#[tokio::test]
async fn thefts_in_a_row_are_counted_slowed_down_and_cost_the_victim_no_attempt() {
    let allowed = format!("{OWNER}/{REPOSITORY}");
    let story = Story::with(&[("ALLOWED_REPOSITORIES", &allowed), ("MAX_ATTEMPTS", "2")]).await;
    let job = story.start_job().await;
    let mut waits = Vec::new();
    for theft in 0..8 {
        let task = story.task();
        story.world.boot();
        let thief = story.world.queue_job_in(OWNER, "legacy", &LABELS);
        story.assign(thief, story.runner_of(task));
        let told =
            story.tell_within(&[story.world.payload(thief, "in_progress")], Duration::minutes(1)).await;
        assert_eq!((told.get(Metric::TakenByForeign), told.get(Metric::Deferred)), (1, 0), "{theft}");
        assert_eq!(story.tag(task, "gha:ran-repository").as_deref(), Some("octo-org/legacy"));
        // It comes again, and its end is told too: that is no other theft.
        for action in ["in_progress", "completed"] {
            let told = story.tell_within(&[story.world.payload(thief, action)], Duration::minutes(1)).await;
            assert_eq!(told.get(Metric::TakenByForeign), 0, "{theft} {action}");
        }
        story.world.finish_job(thief);
        assert_eq!(story.live(), 0);
        let mut waited = Duration::ZERO;
        while story.live() == 0 {
            let batch = story.world.receive(JOB_QUEUE, 10);
            let answer = story.fleet.dispatch(&batch).await;
            story.world.acknowledge(JOB_QUEUE, &batch, &answer);
            if story.live() == 0 {
                waited += Duration::seconds(30);
                story.world.advance(Duration::seconds(30));
            }
        }
        waits.push(waited.whole_seconds());
    }
    assert_eq!(waits, [0, 30, 60, 120, 240, 480, 900, 900]);
    assert_eq!(story.count(Op::RunTask), 9, "one for the job, and one for each theft");

    // Its ninth is the first that dies.
    let task = story.task();
    let exited = "Essential container in task exited";
    story.world.boot();
    story.world.kill_task(task, "EssentialContainerExited", exited, Some(139));
    story.tell_stopped(task).await;
    assert_eq!(story.world.letters(DEAD_LETTERS), [], "{}", story.world.books());
    story.world.advance(Duration::minutes(15));
    story.runs_in_the_end(job).await;
    story.end();
}

#[tokio::test]
async fn a_theft_that_is_heard_of_late_is_counted_once() {
    let story = Story::with(&[("ALLOWED_REPOSITORIES", &format!("{OWNER}/{REPOSITORY}"))]).await;
    let job = story.start_job().await;
    story.world.boot();
    let thief = story.world.queue_job_in(OWNER, "legacy", &LABELS);
    story.assign(thief, story.runner_of(story.task()));
    let events = ["in_progress", "completed"].map(|action| story.world.payload(thief, action));
    story.world.finish_job(thief);
    story.world.advance(Duration::minutes(5));
    let mut counted = 0;
    for event in events {
        counted += story.tell_within(&[event], Duration::minutes(1)).await.get(Metric::TakenByForeign);
    }
    assert_eq!(counted, 1);
    story.runs_in_the_end(job).await;
    story.end();
}

#[tokio::test]
async fn a_job_that_nobody_tells_of_takes_a_runner_and_its_owner_gets_another_by_the_sweep() {
    let story = Story::begin().await;
    let job = story.start_job().await;
    story.world.boot();
    let runner = story.runner_of(story.task());
    let thief = story.world.queue_job_in(OWNER, "elsewhere", &LABELS);
    story.assign(thief, runner);
    story.world.advance(Duration::minutes(3));
    assert_eq!(story.sweep().await.get(Metric::Replaced), 1);
    story.world.advance(Duration::minutes(5));
    assert_eq!(story.sweep().await.get(Metric::Replaced), 0, "once");
    story.runs_in_the_end(job).await;
    assert_eq!(story.count(Op::RunTask), 2);
    story.world.finish_job(thief);
    story.end();
}

#[tokio::test]
async fn the_last_of_a_long_chain_gets_a_runner_though_nobody_told_who_took_the_first() {
    let story = Story::begin().await;
    let (a, b, c) = (story.start_job().await, story.start_job().await, story.start_job().await);
    story.world.boot();
    let tasks: Vec<u64> = story.world.ecs().live().map(|task| task.number).collect();
    let thief = story.world.queue_job_in(OWNER, "elsewhere", &LABELS);
    for (job, task) in [(thief, 0), (a, 1), (b, 2)] {
        story.assign(job, story.runner_of(tasks[task]));
    }
    story.world.finish_job(thief);
    story.world.advance(Duration::minutes(1));
    assert!(story.tell(&story.world.state_change(tasks[0])).await);
    story.runs_in_the_end(c).await;
    for job in [a, b] {
        story.world.finish_job(job);
    }
    story.end();
}

#[tokio::test]
async fn a_job_that_was_never_heard_of_brings_no_later_one_to_wait() {
    let story = Story::begin().await;
    let (unheard, job) = story.an_unheard_job_took_a_runner().await;
    story.tell_taken(unheard, "in_progress").await;
    story.runs_in_the_end(job).await;
    story.world.finish_job(unheard);
    assert_eq!(story.count(Op::RunTask), 2);
    story.end();
}

#[tokio::test]
async fn jobs_that_swap_runners_bring_nothing_however_late_their_events() {
    let story = Story::begin().await;
    let jobs = [story.start_job().await, story.start_job().await, story.start_job().await];
    story.world.boot();
    let tasks: Vec<u64> = story.world.ecs().live().map(|task| task.number).collect();
    for (job, task) in jobs.iter().zip(tasks.iter().cycle().skip(1)) {
        story.assign(*job, story.runner_of(*task));
    }
    let begun: Vec<_> = jobs.iter().map(|job| story.world.payload(*job, "in_progress")).collect();
    for job in jobs {
        story.world.finish_job(job);
    }
    story.world.advance(Duration::minutes(10));
    for task in tasks {
        story.tell_stopped(task).await;
    }
    for (job, event) in jobs.iter().zip(begun) {
        assert!(story.tell(&event).await);
        story.tell_job(*job, "completed").await;
    }
    story.dispatch_announced().await;
    assert_eq!((story.count(Op::RunTask), story.count(Op::SendMessage)), (3, 0));
    story.end();
}

#[tokio::test]
async fn runners_that_died_unheard_of_cancelled_jobs_bring_nothing() {
    let story = Story::begin().await;
    let jobs = [story.start_job().await, story.start_job().await, story.start_job().await];
    let tasks: Vec<u64> = story.world.ecs().live().map(|task| task.number).collect();
    for task in tasks {
        story.world.kill_task(task, "SpotInterruption", "Your Spot Task was interrupted.", None);
    }
    jobs.iter().for_each(|job| story.cancel(*job));
    story.sweep().await;
    let letters = story.world.letters(JOB_QUEUE);
    assert!(letters.iter().all(|(body, _)| body.contains(REPOSITORY)), "{letters:?}");
    for _ in 0..2 {
        story.dispatch_announced().await;
    }
    assert_eq!(story.count(Op::RunTask), 3, "{}", story.world.books());
    story.end();
}

#[tokio::test]
async fn a_job_that_is_cancelled_before_its_replacement_starts_gets_none() {
    let story = Story::begin().await;
    let job = story.start_job().await;
    let task = story.task();
    story.world.kill_task(task, "SpotInterruption", "Your Spot Task was interrupted.", None);
    story.tell_stopped(task).await;
    story.cancel(job);
    story.dispatch_announced().await;
    story.dispatch_announced().await;
    assert_eq!(story.count(Op::RunTask), 1);
    story.end();
}

#[tokio::test]
async fn a_job_that_ran_on_anothers_runner_is_redelivered_hours_later_and_gets_none() {
    let story = Story::begin().await;
    let (a, b) = (story.start_job().await, story.start_job().await);
    story.world.boot();
    let late = story.world.queued(a);
    let tasks: Vec<u64> = story.world.ecs().live().map(|task| task.number).collect();
    story.assign(a, story.runner_of(tasks[1]));
    story.assign(b, story.runner_of(tasks[0]));
    for job in [a, b] {
        story.world.finish_job(job);
    }
    story.world.advance(Duration::hours(3));
    story.dispatch(&[late]).await;
    assert_eq!(story.count(Op::RunTask), 2);
    story.end();
}

#[tokio::test]
async fn a_runner_that_boots_slowly_is_not_given_up_for_its_short_idle_time() {
    let story = Story::with(&[("IDLE_TIMEOUT_SECONDS", "60")]).await;
    let job = story.start_job().await;
    story.world.advance(Duration::seconds(345));
    story.sweep().await;
    assert_eq!(story.live(), 1);
    story.world.boot();
    story.world.advance(Duration::seconds(70));
    story.sweep().await;
    assert_eq!(story.live(), 1, "its job waits, and may still be given to it");
    story.world.assign();
    story.world.finish_job(job);
    story.end();
}

#[tokio::test]
async fn a_job_that_waits_for_capacity_and_takes_a_bigger_runner_gives_its_turn_to_that_ones_job() {
    let story = Story::begin().await;
    let small = story.world.queue_job(&LABELS);
    let dry = story.world.fail(Op::RunTask);
    dry.failures("Capacity is unavailable at this time.");
    let batch = story.world.deliver(&[story.world.queued(small)]);
    let answer = story.fleet.dispatch(&batch).await;
    assert_eq!(story.world.acknowledge(JOB_QUEUE, &batch, &answer), 1, "{answer}");
    story.world.advance(Duration::minutes(2));
    let big = story.world.queue_job(&MORE_LABELS);
    story.world.send(JOB_QUEUE, &[story.world.queued(big)]);
    // The bigger one comes first.
    let batch = json!({ "Records": [story.world.receive(JOB_QUEUE, 10)["Records"][1]] });
    let answer = story.fleet.dispatch(&batch).await;
    story.world.acknowledge(JOB_QUEUE, &batch, &answer);
    story.world.boot();
    story.assign(small, story.runner_of(story.task()));
    // Its message comes again, and its runner would be of no use.
    story.dispatch_announced().await;
    story.runs_in_the_end(big).await;
    story.world.finish_job(small);
    assert!(story.names().is_empty(), "{:?}", story.names());
    story.end();
}

/// The first message of that fails before anything is done, and by the second the job's own runner has gone to another: then
/// that message is done without a look at the runner that the job got. The sweep, or that one's end, tells.
#[tokio::test]
async fn a_bigger_runner_that_was_taken_is_owed_also_where_the_first_look_failed() {
    for ends in [false, true] {
        let story = Story::begin().await;
        let big = story.start_job_with(&MORE_LABELS).await;
        let (small, other) = (story.start_job().await, story.start_job().await);
        story.world.boot();
        let tasks: Vec<u64> = story.world.ecs().live().map(|task| task.number).collect();
        story.assign(small, story.runner_of(tasks[0]));
        story.assign(other, story.runner_of(tasks[1]));
        story.world.fail(Op::ListTasks).once().aws("AccessDeniedException");
        assert!(!story.tell(&story.world.payload(small, "in_progress")).await);
        story.tell_job(other, "in_progress").await;
        story.look_again().await;
        assert_eq!(story.world.letters(JOB_QUEUE).len(), 0, "nobody has seen it yet");
        if ends {
            story.world.finish_job(small);
            story.tell_stopped(tasks[0]).await;
        } else {
            story.sweep().await;
        }
        story.runs_in_the_end(big).await;
    }
}

#[tokio::test]
async fn a_job_that_takes_a_runner_of_the_pool_leaves_its_own_to_nobody() {
    let story = Story::with(&[("WARM_POOL_SIZE", "1")]).await;
    story.sweep().await;
    story.world.boot();
    let job = story.start_job_that_the_pool_leaves().await;
    let own = story.task();
    story.world.boot();
    let pool = story.world.github().runners().find(|it| it.name.contains("pool")).map(|it| it.id);
    story.assign(job, pool.expect("a runner of the pool"));
    story.tell_taken(job, "in_progress").await;
    assert!(story.world.ecs().live().all(|task| task.number != own), "{}", story.world.books());
    story.world.finish_job(job);
    story.end();
}

/// Every event twice, the second looks too.
#[tokio::test]
async fn a_job_that_was_never_heard_of_is_made_good_once() {
    let story = Story::begin().await;
    let (unheard, job) = story.an_unheard_job_took_a_runner().await;
    let event = story.world.payload(unheard, "in_progress");
    assert_eq!(
        story.tell_within(&[event.clone(), event], Duration::minutes(1)).await.get(Metric::Deferred),
        2
    );
    story.look_again().await;
    for _ in 0..2 {
        story.dispatch_announced().await;
    }
    assert_eq!((story.live(), story.count(Op::RunTask)), (2, 2), "{}", story.world.books());
    story.runs_in_the_end(job).await;
    story.world.finish_job(unheard);
    story.end();
}
