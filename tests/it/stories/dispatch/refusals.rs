//! What GitHub refuses, and when the job comes again.

use time::Duration;

use super::{LABELS, dispatch, dispatch_again, live_tasks, registrations};
use crate::{
    fleet::Fleet,
    http::{FaultBuilder, Handle, Op, World},
};

/// The delay that the message got, in seconds.
fn delay(world: &World) -> i64 {
    let calls = world.calls();
    let call = calls.of(Op::ChangeMessageVisibility).last().expect("a deferral").what.clone();
    let seconds =
        call.rsplit_once(' ').and_then(|(rest, _)| rest.rsplit_once(' ')).map(|(_, seconds)| seconds);
    seconds.and_then(|seconds| seconds.parse().ok()).unwrap_or_else(|| panic!("no delay in {call:?}"))
}

#[tokio::test]
async fn each_refusal_has_its_class_its_delay_and_its_fix() {
    type Fault = fn(FaultBuilder, &World) -> Handle;
    let slowly = 120..=900;
    let soon = 5..=10;
    let table: [(&str, Fault, std::ops::RangeInclusive<i64>, &str); 10] = [
        ("401", |fault, _| fault.times(2).bad_credentials(), slowly.clone(), "GITHUB_SECRET_ARN"),
        (
            "403, permission",
            |fault, _| fault.permission_missing("organization_self_hosted_runners=write"),
            slowly.clone(),
            "Self-hosted runners: read and write",
        ),
        ("403, secondary limit", |fault, _| fault.secondary_rate_limit(), 60..=65, "rate limit"),
        (
            "403, primary limit",
            |fault, world| fault.primary_rate_limit(world.now() + Duration::minutes(7)),
            419..=426,
            "rate limit",
        ),
        ("404", |fault, _| fault.status(404), slowly.clone(), "RUNNER_GROUP_ID"),
        ("422", |fault, _| fault.status(422), slowly, "RUNNER_GROUP_ID"),
        ("429", |fault, _| fault.retry_after(429, 30), 30..=35, "rate limit"),
        ("500", |fault, _| fault.status(500), soon.clone(), "githubstatus"),
        ("502", |fault, _| fault.status(502), soon.clone(), "githubstatus"),
        ("broken", |fault, _| fault.times(3).drop_connection(), soon, "broke"),
    ];
    for (what, set, seconds, fix) in table {
        let world = World::start();
        // The first version of a fault that strikes once more is the answer to a repetition.
        let fleet = Fleet::new(&world).await;
        let handle = set(world.fail(Op::Mint).before(), &world);
        let job = world.queue_job(&LABELS);
        let error = {
            let queued = world.payload(job, "queued");
            fleet.invoke(&queued).await.0.expect_err("not done").to_string()
        };
        assert!(error.contains(fix), "{what}: {error}");
        assert!(handle.count() > 0, "{what}");
        world.heal();

        let _handle = set(world.fail(Op::Mint).before(), &world);
        assert_eq!(dispatch(&world, &fleet, &[world.queued(job)]).await, 1, "{what}");
        let delay = delay(&world);
        assert!(seconds.contains(&delay), "{what}: {delay} s");
        assert_eq!((live_tasks(&world), registrations(&world)), (0, 0), "{what}");
        world.heal();

        // The operator has repaired it, or it has passed.
        world.advance(Duration::minutes(20));
        assert_eq!(dispatch_again(&world, &fleet).await, 0, "{what}");
        assert_eq!(live_tasks(&world), 1, "{what}");
        assert_eq!(world.imbalances(), [""; 0], "{what}");
        world.finish();
    }
}

#[tokio::test]
async fn a_mint_without_an_answer_is_given_up_in_time() {
    let world = World::start();
    let fleet = Fleet::new(&world).await;
    let silent = world.fail(Op::Mint).once().after().hold();
    let batch = world.deliver(&[world.queued(world.queue_job(&LABELS))]);
    let (answer, ()) = tokio::join!(fleet.dispatch(&batch), async {
        silent.struck().await;
        // From here on, time passes as soon as nobody has anything to do.
        tokio::time::pause();
    });
    tokio::time::resume();
    assert_eq!(world.acknowledge(crate::http::JOB_QUEUE, &batch, &answer), 1);
    assert_eq!(registrations(&world), 1, "GitHub has made it, and nobody heard");

    world.heal();
    for again in [1, 0, 0, 0] {
        world.advance(Duration::minutes(3));
        assert_eq!(dispatch_again(&world, &fleet).await, again, "handed back, announced, started");
    }
    assert_eq!((live_tasks(&world), registrations(&world)), (1, 1));
    assert_eq!(world.imbalances(), [""; 0]);
    world.finish();
}

#[tokio::test]
async fn a_rate_limit_stops_all_minting_of_the_batch() {
    let world = World::start();
    let fleet = Fleet::new(&world).await;
    dispatch(&world, &fleet, &[world.queued(world.queue_job(&LABELS))]).await;
    world.take_calls();
    world.fail(Op::Mint).always().before().retry_after(429, 60);
    // More records than run at once: those that have not begun are spared.
    let bodies: Vec<String> = (0..30).map(|_| world.queued(world.queue_job(&LABELS))).collect();
    assert_eq!(dispatch(&world, &fleet, &bodies).await, 30);
    let mints = world.calls().count(Op::Mint);
    assert!(mints <= 10, "{mints} mints");
    world.heal();
    world.finish();
}

#[tokio::test]
async fn a_registration_that_cannot_be_deleted_does_not_hold_up_the_job_for_long() {
    let world = World::start();
    let fleet = Fleet::new(&world).await;
    let job = world.queue_job(&LABELS);
    world.fail(Op::RunTask).once().before().aws("AccessDeniedException");
    world.fail(Op::DeleteRunner).once().before().status(500);
    assert_eq!(dispatch(&world, &fleet, &[world.queued(job)]).await, 1);
    assert_eq!(registrations(&world), 1);
    world.advance(Duration::minutes(20));
    // It is handed back, announced, and started anew.
    for _ in 0..4 {
        dispatch_again(&world, &fleet).await;
        world.advance(Duration::minutes(3));
    }
    assert_eq!((live_tasks(&world), registrations(&world)), (1, 1));
    assert_eq!(world.imbalances(), [""; 0]);
    world.finish();
}

/// Ten that ask at once whether their jobs still wait have used up what one of them could be registered with.
#[tokio::test]
async fn near_the_rate_limit_one_job_asks_at_a_time() {
    let world = World::start();
    let fleet = Fleet::new(&world).await;
    world.fail(Op::Mint).always().before().retry_after(429, 60);
    let bodies: Vec<String> = (0..10).map(|_| world.queued(world.queue_job(&LABELS))).collect();
    assert_eq!(dispatch(&world, &fleet, &bodies).await, 10);
    world.take_calls();
    world.advance(Duration::minutes(3));
    assert_eq!(dispatch_again(&world, &fleet).await, 10);
    let calls = world.take_calls();
    assert_eq!((calls.count(Op::GetJob), calls.count(Op::Mint)), (1, 1));
    world.heal();
    world.advance(Duration::minutes(3));
    assert_eq!(dispatch_again(&world, &fleet).await, 0);
    assert_eq!((live_tasks(&world), registrations(&world)), (10, 10));
    assert_eq!(world.imbalances(), [""; 0]);
    world.finish();
}
