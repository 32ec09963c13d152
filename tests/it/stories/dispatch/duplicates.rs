//! The same job again.

use serde_json::json;
use time::Duration;

use super::{BOTH_MODES, LABELS, dispatch, dispatch_again, live_tasks, registrations};
use crate::{
    fleet::Fleet,
    http::{JOB_QUEUE, Op, World},
};

#[tokio::test]
async fn the_same_batch_twice_starts_each_job_once() {
    for mode in BOTH_MODES {
        let world = World::start();
        let fleet = Fleet::with(&world, mode).await;
        let bodies: Vec<String> = (0..10).map(|_| world.queued(world.queue_job(&LABELS))).collect();
        assert_eq!(dispatch(&world, &fleet, &bodies).await, 0);
        assert_eq!(dispatch(&world, &fleet, &bodies).await, 0);
        assert_eq!(live_tasks(&world), 10);
        world.finish();
    }
}

/// The registration of a task that was started a moment ago is gone, or ours could not have its name.
#[tokio::test]
async fn a_young_task_without_its_registration_is_not_taken_for_the_job_s_runner() {
    for is_shown in [true, false] {
        let world = World::start();
        let fleet = Fleet::new(&world).await;
        let job = world.queue_job(&LABELS);
        assert_eq!(dispatch(&world, &fleet, &[world.queued(job)]).await, 0);
        let (scope, now) = (crate::model::github::Scope::organization(crate::http::OWNER), world.now());
        let registration = world.github().runners().next().map(|runner| runner.id).expect("one");
        world.github().delete(&scope, registration, now);
        if !is_shown {
            let missing = json!({ "tasks": [], "failures": [{ "arn": "x", "reason": "MISSING" }] });
            world.fail(Op::DescribeTasks).once().answer(200, &[], missing);
        }
        let queued = [world.queued(job)];
        assert_eq!(dispatch(&world, &fleet, &queued).await, 1, "its message is no more than that");
        assert_eq!(live_tasks(&world), 1, "{}", world.books());
        // Its own registration gone, the runner ends; the next attempt follows.
        world.kill_task(1, "EssentialContainerExited", "Essential container in task exited", Some(1));
        for _ in 0..3 {
            world.advance(time::Duration::minutes(2));
            dispatch_again(&world, &fleet).await;
        }
        assert_eq!((live_tasks(&world), registrations(&world)), (1, 1), "{}", world.books());
        world.boot();
        world.assign();
        world.finish_job(job);
        world.finish();
    }
}

#[tokio::test]
async fn two_deliveries_at_once_start_one_runner() {
    let world = World::start();
    let fleet = Fleet::new(&world).await;
    world.ecs().list_lag = Duration::seconds(10);
    let queued = world.queued(world.queue_job(&LABELS));
    let (one, two) = (world.deliver(std::slice::from_ref(&queued)), world.deliver(&[queued]));
    let (first, second) = tokio::join!(fleet.dispatch(&one), fleet.dispatch(&two));
    let again = world.acknowledge(JOB_QUEUE, &one, &first) + world.acknowledge(JOB_QUEUE, &two, &second);
    assert_eq!(again, 1, "the second waits for the first instead of taking its registration away");
    world.advance(Duration::minutes(1));
    assert_eq!(dispatch_again(&world, &fleet).await, 0);
    assert_eq!(live_tasks(&world), 1);
    assert_eq!(world.imbalances(), [""; 0]);
    world.finish();
}

/// Both were put off before, for whatever reason: that says nothing of how old the registration is that one of them meets.
#[tokio::test]
async fn two_deliveries_at_once_start_one_runner_also_where_both_come_again() {
    for lag in [0, 60] {
        let world = World::start();
        let fleet = Fleet::new(&world).await;
        world.ecs().list_lag = Duration::seconds(lag);
        let job = world.queue_job(&LABELS);
        world.fail(Op::Mint).times(9).before().status(502);
        for _ in 0..2 {
            assert_eq!(dispatch(&world, &fleet, &[world.queued(job)]).await, 1);
        }
        world.heal();
        world.advance(Duration::minutes(2));
        let (one, two) = (world.receive(JOB_QUEUE, 1), world.receive(JOB_QUEUE, 1));
        let slow = world.fail(Op::RunTask).once().before().hold();
        let (first, second) = tokio::join!(fleet.dispatch(&one), async {
            slow.struck().await;
            let answer = fleet.dispatch(&two).await;
            slow.release();
            answer
        });
        assert_eq!(world.acknowledge(JOB_QUEUE, &one, &first), 0);
        assert_eq!(world.acknowledge(JOB_QUEUE, &two, &second), 1, "it waits for the first");
        world.boot();
        for _ in 0..3 {
            world.advance(Duration::minutes(4));
            assert_eq!(dispatch_again(&world, &fleet).await, 0);
        }
        assert_eq!(world.calls().count(Op::RunTask), 1, "after {lag} s ECS shows it");
        world.assign();
        world.finish_job(job);
        assert_eq!(world.imbalances(), [""; 0]);
        world.finish();
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_after_the_task_started_starts_no_second_one() {
    for mode in BOTH_MODES {
        let world = World::start();
        let fleet = Fleet::with(&world, mode).await;
        world.fail(Op::RunTask).once().after().drop_connection();
        let job = world.queue_job(&LABELS);
        assert_eq!(dispatch(&world, &fleet, &[world.queued(job)]).await, 1);
        world.advance(Duration::minutes(1));
        assert_eq!(dispatch_again(&world, &fleet).await, 0);
        assert_eq!(live_tasks(&world), 1);
        world.finish();
    }
}

#[tokio::test]
async fn a_job_that_is_old_is_looked_at_first() {
    let world = World::start();
    let fleet = Fleet::new(&world).await;
    let job = world.queue_job(&LABELS);
    let queued = world.queued(job);
    world.advance(Duration::minutes(3));
    world.github().cancel(job, fleet.now());
    assert_eq!(dispatch(&world, &fleet, &[queued]).await, 0);
    assert_eq!((world.calls().count(Op::GetJob), world.calls().count(Op::Mint)), (1, 0));
    assert_eq!(live_tasks(&world), 0);
    world.finish();
}

#[tokio::test]
async fn a_job_on_anothers_runner_still_owes_one() {
    // Two jobs of the same labels, and only the second one's runner could be started so far.
    let world = World::start();
    let fleet = Fleet::new(&world).await;
    let (late, early) = (world.queue_job(&LABELS), world.queue_job(&LABELS));
    let queued = world.queued(late);
    dispatch(&world, &fleet, &[world.queued(early)]).await;
    world.boot();
    assert_eq!(world.assign().len(), 1);

    // Whichever of the two took it: when the other's message comes at last, a runner is owed.
    world.advance(Duration::minutes(3));
    assert_eq!(dispatch(&world, &fleet, &[queued]).await, 0);
    world.boot();
    world.assign();
    assert_eq!(world.github().queued_count(), 0, "nobody waits\n{}", world.books());
    assert_eq!(world.imbalances(), [""; 0]);
    world.finish();
}

#[tokio::test]
async fn what_a_crash_between_mint_and_task_has_left_is_spent_when_nobody_can_be_at_work_on_it() {
    let world = World::start();
    let fleet = Fleet::new(&world).await;
    let job = world.queue_job(&LABELS);
    // The function died between its two calls.
    let batch = world.deliver(&[world.queued(job)]);
    let dead = world.fail(Op::RunTask).once().before().hold();
    tokio::select! { _ = fleet.dispatch(&batch) => {}, () = dead.struck() => {} }
    world.heal();

    world.advance(Duration::minutes(3));
    assert_eq!(dispatch_again(&world, &fleet).await, 1, "another delivery may have minted it just now");
    assert_eq!(live_tasks(&world), 0);
    world.advance(Duration::minutes(2));
    assert_eq!(dispatch_again(&world, &fleet).await, 0, "handed back, and announced");
    for _ in 0..2 {
        assert_eq!(dispatch_again(&world, &fleet).await, 0);
        world.advance(Duration::minutes(2));
    }
    assert_eq!(live_tasks(&world), 1);
    assert_eq!(world.imbalances(), [""; 0]);
    world.finish();
}

/// SQS takes the message, and its answer is lost: it is sent twice.
#[tokio::test]
async fn what_is_handed_back_twice_is_spent_once() {
    let world = World::start();
    let fleet = Fleet::new(&world).await;
    let job = world.queue_job(&LABELS);
    let batch = world.deliver(&[world.queued(job)]);
    let dead = world.fail(Op::RunTask).once().before().hold();
    tokio::select! { _ = fleet.dispatch(&batch) => {}, () = dead.struck() => {} }
    world.heal();
    world.fail(Op::SendMessage).once().after().drop_connection();
    for _ in 0..6 {
        world.advance(Duration::minutes(3));
        dispatch_again(&world, &fleet).await;
    }
    assert_eq!((live_tasks(&world), registrations(&world)), (1, 1), "{}", world.calls());
    assert_eq!(world.calls().count(Op::DeleteRunner), 1, "{}", world.calls());
    world.boot();
    world.assign();
    world.finish_job(job);
    assert_eq!(world.imbalances(), [""; 0]);
    world.finish();
}
