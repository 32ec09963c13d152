//! What becomes of runners and jobs where each event comes once, twice, late or not at all.

use super::{LABELS, Metric, Op, Story};
use crate::http::DEAD_LETTERS;
use serde_json::json;
use time::{Duration, format_description::well_known::Rfc3339};

#[tokio::test]
async fn a_job_in_progress_is_written_on_its_task_and_its_end_needs_no_call() {
    let story = Story::begin().await;
    let job = story.start_job().await;
    let task = story.task();
    story.world.boot();
    story.world.assign();
    story.tell_job(job, "in_progress").await;
    assert_eq!(story.tag(task, "gha:ran-job"), Some(job.to_string()));
    assert_eq!(story.tag(task, "gha:ran-repository").as_deref(), Some("octo-org/example-workflow"));

    story.world.finish_job(job);
    story.world.take_calls();
    story.tell_job(job, "completed").await;
    story.tell_stopped(task).await;
    assert_eq!(story.world.calls().to(crate::http::Service::Github).len(), 0);
    story.end();
}

#[tokio::test]
async fn events_out_of_order_end_the_same() {
    // Completed before in_progress, and the task's end before both.
    let story = Story::begin().await;
    let job = story.start_job().await;
    let task = story.task();
    story.world.boot();
    story.world.assign();
    let in_progress = story.world.payload(job, "in_progress");
    story.world.finish_job(job);
    story.tell_stopped(task).await;
    story.tell_job(job, "completed").await;
    assert!(story.tell(&in_progress).await);
    story.dispatch_announced().await;
    assert_eq!(story.live(), 0, "nothing is started for a job that ran");
    story.end();
}

#[tokio::test]
async fn a_job_cancelled_while_queued_retires_its_runner_delete_first() {
    let story = Story::begin().await;
    let job = story.start_job().await;
    story.world.boot();
    story.cancel(job);
    story.world.take_calls();
    story.tell_job(job, "completed").await;
    let order: Vec<Op> = story
        .world
        .calls()
        .to(crate::http::Service::Github)
        .of(Op::DeleteRunner)
        .map(|call| call.op)
        .collect();
    assert_eq!(order, [Op::DeleteRunner]);
    let calls = story.world.calls().to_string();
    let place = |what: &str| calls.find(what).unwrap_or_else(|| panic!("no {what} in\n{calls}"));
    assert!(place("delete runner") < place("StopTask"));
    assert_eq!(story.live(), 0);
    story.tell_job(job, "completed").await;
    story.end();
}

#[tokio::test]
async fn a_cancelled_jobs_runner_that_has_found_other_work_is_left_alone() {
    let story = Story::begin().await;
    let (a, b) = (story.start_job().await, story.world.queue_job(&LABELS));
    let task = story.task();
    story.world.boot();
    story.assign(b, story.runner_of(task));
    story.cancel(a);
    story.tell_job(a, "completed").await;
    assert_eq!(story.live(), 1, "422: it runs a job");
    assert_eq!(story.count(Op::StopTask), 0);
    story.world.finish_job(b);
    assert_eq!(story.world.github().queued_count(), 0);
    story.end();
}

#[tokio::test]
async fn two_reconcilers_at_once_replace_one_runner_once() {
    let story = Story::begin().await;
    story.start_job().await;
    let task = story.task();
    story.world.kill_task(task, "SpotInterruption", "Your Spot Task was interrupted.", None);
    let event = story.world.state_change(task);
    tokio::join!(story.tell(&event), story.tell(&event));
    story.dispatch_announced().await;
    story.dispatch_announced().await;
    assert_eq!(story.live(), 1);
    story.end();
}

#[tokio::test]
async fn a_runner_that_died_before_its_job_is_replaced_whatever_its_exit_code() {
    let ends = [
        ("SpotInterruption", "Your Spot Task was interrupted.", None),
        ("TaskFailedToStart", "CannotPullContainerError", None),
        ("EssentialContainerExited", "Essential container in task exited", Some(0)),
        ("EssentialContainerExited", "OutOfMemoryError", Some(137)),
    ];
    for (code, reason, exit) in ends {
        let story = Story::begin().await;
        story.start_job().await;
        let task = story.task();
        story.world.kill_task(task, code, reason, exit);
        story.tell_stopped(task).await;
        let names: Vec<String> =
            story.world.github().runners().map(|runner| runner.name.to_string()).collect();
        assert_eq!(names, [""; 0], "announced, and then deleted");
        story.dispatch_announced().await;
        assert_eq!(story.live(), 1, "{reason}");
        assert!(story.world.github().runners().all(|runner| runner.name.ends_with("-2")));
        story.end();
    }
}

/// The answer is of before the task was started.
#[tokio::test]
async fn a_death_that_ecs_does_not_show_yet_is_looked_at_again() {
    let story = Story::begin().await;
    story.start_job().await;
    let task = story.task();
    story.world.kill_task(task, "EssentialContainerExited", "Essential container in task exited", Some(1));
    let nothing = json!({ "tasks": [], "failures": [{ "arn": "x", "reason": "MISSING" }] });
    story.world.fail(Op::DescribeTasks).answer(200, &[], nothing);
    assert!(!story.tell(&story.world.state_change(task)).await, "it comes again");
    assert_eq!(story.look_again().await.get(Metric::Replaced), 1);
    story.dispatch_announced().await;
    assert_eq!(story.live(), 1);
    story.end();
}

#[tokio::test]
async fn what_only_the_operator_can_mend_gives_no_job_up() {
    let exited = ("EssentialContainerExited", "Essential container in task exited");
    let ends = [7, 80, 81, 85, 126, 127].map(|code| (exited.0, exited.1, Some(code)));
    let unpulled = ("TaskFailedToStart", "CannotPullContainerError: pull access denied", None);
    for (code, reason, exit) in ends.into_iter().chain([unpulled]) {
        let story = Story::with(&[("MAX_ATTEMPTS", "2")]).await;
        story.start_job().await;
        for _ in 0..4 {
            let task = story.task();
            story.world.kill_task(task, code, reason, exit);
            let metrics = story.tell_within(&[story.world.state_change(task)], Duration::minutes(1)).await;
            assert_eq!(
                (metrics.get(Metric::NeedsOperator), metrics.get(Metric::Replaced)),
                (1, 1),
                "{exit:?}"
            );
            assert_eq!(story.live(), 0);
            // Once it is mended, the job starts by itself.
            story.dispatch_announced().await;
            assert_eq!(story.live(), 1, "{exit:?}");
        }
        assert_eq!(story.world.letters(DEAD_LETTERS).len(), 0, "{exit:?}");
        story.end();
    }
}

#[tokio::test]
async fn a_runner_that_dies_with_a_job_is_lost_and_not_replaced() {
    let story = Story::begin().await;
    let job = story.start_job().await;
    let task = story.task();
    story.world.boot();
    story.world.assign();
    let now = story.fleet.now();
    story.world.ecs().stopped(task, "SpotInterruption", "Your Spot Task was interrupted.", None, now);
    story.tell_stopped(task).await;
    story.dispatch_announced().await;
    assert_eq!(story.live(), 0);
    story.world.github().complete(job, "failure", now);
    story.end();
}

#[tokio::test]
async fn after_so_many_attempts_the_job_is_rejected_with_the_reason() {
    let story = Story::with(&[("MAX_ATTEMPTS", "3")]).await;
    story.start_job().await;
    for _ in 0..3 {
        story.world.boot();
        let task = story.task();
        story.world.kill_task(
            task,
            "EssentialContainerExited",
            "Essential container in task exited",
            Some(139),
        );
        story.tell_stopped(task).await;
        story.dispatch_announced().await;
    }
    assert_eq!(story.live(), 0);
    let letters = story.world.letters(DEAD_LETTERS);
    let reason = letters[0].1.clone().unwrap_or_default();
    assert!(reason.contains("MAX_ATTEMPTS: 3") && reason.contains("exit code 139"), "{reason}");

    // The operator mends it and redrives the letter.
    story.dispatch(&[letters[0].0.clone()]).await;
    assert_eq!(story.live(), 1);
    story.end();
}

#[tokio::test]
async fn an_idle_runner_goes_only_after_the_timeout_and_not_while_its_job_waits() {
    let story = Story::begin().await;
    let (a, b) = (story.start_job().await, story.start_job().await);
    story.world.boot();
    // Both jobs end on other fleets' runners, as it were: b is cancelled, and nobody says so.
    let runners: Vec<u64> = story.world.ecs().live().map(|task| task.number).collect();
    story.assign(a, story.runner_of(runners[0]));
    story.tell_job(a, "in_progress").await;
    story.cancel(b);
    story.world.advance(Duration::minutes(7));
    story.sweep().await;
    assert_eq!(story.live(), 2);
    story.world.advance(Duration::minutes(2));
    story.sweep().await;
    assert_eq!(story.live(), 1, "b's runner was idle for too long, a's is busy");
    story.world.finish_job(a);
    story.end();
}

#[tokio::test]
async fn a_job_that_is_given_to_no_runner_gets_others_ever_more_rarely() {
    let story = Story::with(&[("MAX_ATTEMPTS", "3")]).await;
    let job = story.start_job().await;
    for patience in [10, 10, 20, 40, 80].map(Duration::minutes) {
        story.world.boot();
        let (task, since) = (story.task(), story.fleet.now());
        while story.task() == task {
            let idle = story.fleet.now() - since;
            assert!(idle < patience + Duration::minutes(15), "idle for {idle}, and {patience} is the most");
            story.world.advance(Duration::minutes(1));
            story.sweep().await;
            story.dispatch_announced().await;
            assert_eq!(story.live(), 1);
        }
        let idle = story.fleet.now() - since;
        assert!(idle > patience, "replaced after {idle}, and {patience} is the least");
    }
    assert_eq!(story.world.letters(DEAD_LETTERS), []);
    story.world.boot();
    story.world.assign();
    story.world.finish_job(job);
    story.end();
}

#[tokio::test]
async fn two_idle_runners_that_lead_to_one_job_bring_it_one_runner() {
    let story = Story::begin().await;
    let more = story.world.queue_job(&["self-hosted", "fargate", "cpu=2"]);
    story.dispatch(&[story.world.queued(more)]).await;
    let fewer = [story.start_job().await, story.start_job().await];
    let tasks: Vec<u64> = story.world.ecs().live().map(|task| task.number).collect();
    story.world.boot();
    story.assign(fewer[0], story.runner_of(tasks[0]));
    assert!(!story.tell(&story.world.payload(fewer[0], "in_progress")).await, "looked at twice");
    story.dispatch_announced().await;
    let second = story.task();
    story.world.boot();
    // The second time nobody says so.
    story.assign(fewer[1], story.runner_of(second));
    for _ in 0..2 {
        story.sweep_after_the_timeout().await;
        story.dispatch_announced().await;
    }
    let of_more = story.names().iter().filter(|name| name.starts_with(&format!("fargate-{more}-"))).count();
    assert_eq!(of_more, 3, "two that run the others, and one: {:?}", story.names());
    story.world.boot();
    story.world.assign();
    for job in fewer.into_iter().chain([more]) {
        story.world.finish_job(job);
    }
    story.sweep_after_the_timeout().await;
    story.end();
}

#[tokio::test]
async fn a_runner_that_lives_on_without_its_registration_is_stopped() {
    let story = Story::begin().await;
    let job = story.start_job().await;
    let runner = story.runner_of(story.task());
    story.cancel(job);
    let now = story.fleet.now();
    story.world.github().delete(&crate::model::github::Scope::organization(crate::http::OWNER), runner, now);
    story.world.advance(Duration::minutes(11));
    story.sweep().await;
    assert_eq!(story.live(), 0);
    story.end();
}

#[tokio::test]
async fn chains_of_taken_runners_never_lose_the_last_job() {
    let story = Story::begin().await;
    let jobs: Vec<u64> = (0..4).map(|_| story.world.queue_job(&LABELS)).collect();
    let late = story.world.queued(jobs[0]);
    for job in &jobs[1..] {
        story.dispatch(&[story.world.queued(*job)]).await;
    }
    story.world.boot();
    // Each job takes the next one's runner; the last is left without.
    let tasks: Vec<u64> = story.world.ecs().live().map(|task| task.number).collect();
    for (job, task) in jobs.iter().zip(tasks) {
        story.assign(*job, story.runner_of(task));
        let is_done = story.tell(&story.world.payload(*job, "in_progress")).await;
        assert_eq!(is_done, *job != jobs[0], "looked at again if nobody has seen its own runner");
    }
    assert_eq!(story.world.github().queued_count(), 1);
    story.world.advance(Duration::minutes(3));
    story.dispatch(&[late]).await;
    story.world.boot();
    story.world.assign();
    assert_eq!(story.world.github().queued_count(), 0, "{}", story.world.books());
    assert_eq!(story.look_again().await.get(Metric::Replaced), 0, "the late one has brought its own");
    story.end();
}

#[tokio::test]
async fn the_warm_pool_is_filled_once_and_refilled() {
    let story = Story::with(&[("WARM_POOL_SIZE", "2"), ("RUNNER_LABELS", "self-hosted,fargate")]).await;
    let time = story.fleet.now().format(&Rfc3339).expect("a time");
    let sweep = json!({ "detail-type": "Scheduled Event", "time": time, "detail": {} });
    tokio::join!(story.tell(&sweep), story.tell(&sweep));
    assert_eq!(story.live(), 2, "two sweeps of the same time fill it once");
    story.world.boot();

    let job = story.world.queue_job(&LABELS);
    assert_eq!(story.world.assign().len(), 1, "no wait at all");
    story.tell_taken(job, "in_progress").await;
    story.world.advance(Duration::minutes(1));
    story.sweep().await;
    assert_eq!(story.live(), 3, "one at work, two ready");
    story.world.finish_job(job);
    story.world.boot();
    story.world.advance(Duration::minutes(11));
    story.sweep().await;
    assert_eq!(story.live(), 2, "the pool does not go for being idle");
    story.end();
}

#[tokio::test]
async fn failed_deliveries_come_again_with_growing_pauses_until_made_good() {
    let story = Story::begin().await;
    let job = story.world.queue_job(&LABELS);
    let body = story.world.payload(job, "queued");
    let now = story.fleet.now();
    story.world.app().deliveries.sent("guid-1", "workflow_job", Some("queued"), body.to_string(), 503, now);
    let mut redelivered = 0;
    for seconds in [20, 40, 40, 40, 120, 240] {
        story.world.advance(Duration::seconds(seconds));
        story.redeliver().await;
        let again = story.world.app().deliveries.take_redeliveries();
        for delivery in again {
            redelivered += 1;
            let status = if redelivered < 3 { 503 } else { 202 };
            let now = story.fleet.now();
            story.world.app().deliveries.sent_again(&delivery, status, now);
            if status == 202 {
                story.dispatch(&[delivery.payload]).await;
                // It runs: whatever the later sweeps find, they leave it alone.
                story.world.boot();
                story.world.assign();
            }
        }
    }
    assert_eq!(redelivered, 3, "twice in vain, then made good");
    story.end();
}

#[tokio::test]
async fn one_runner_that_cannot_be_seen_to_does_not_stop_the_rest() {
    let story = Story::begin().await;
    let jobs = [story.start_job().await, story.start_job().await, story.start_job().await];
    story.world.boot();
    for job in jobs {
        story.cancel(job);
    }
    story.world.advance(Duration::minutes(11));
    story.world.fail(Op::DeleteRunner).once().before().status(500);
    story.sweep().await;
    assert_eq!(story.live(), 1);
    story.world.advance(Duration::minutes(5));
    story.sweep().await;
    assert_eq!(story.live(), 0);
    story.end();
}
