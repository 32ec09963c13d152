//! GitHub allows no more calls: what waits for that comes again and again, and each time may cost one.

use time::Duration;

use super::{LABELS, dispatch, dispatch_again, live_tasks};
use crate::{
    fleet::Fleet,
    http::{INSTALLATION, LIFECYCLE_QUEUE, OWNER, Op, World},
};

const BIGGER: [&str; 3] = [LABELS[0], LABELS[1], "cpu=2"];

/// A runner of those labels is started for a job, and another job of the first labels, which waits, is given it. Of that
/// one the message is put off by the limit, and comes again when that is over; whether or not reconcile has heard.
async fn put_off(world: &World, fleet: &Fleet, of_the_runner: &[&str], heard: bool) -> u64 {
    let (job, other) = (world.queue_job(&LABELS), world.queue_job(of_the_runner));
    let queued = world.queued(job);
    dispatch(world, fleet, &[world.queued(other)]).await;
    world.advance(Duration::minutes(3));
    world.fail(Op::GetJob).once().before().retry_after(429, 60);
    assert_eq!(dispatch(world, fleet, &[queued]).await, 1, "the limit");
    world.boot();
    let runner = world.github().runners().next().expect("the other job's").id;
    world.github().assign(job, runner, fleet.now());
    if heard {
        let event = [world.payload(job, "in_progress").to_string()];
        fleet.reconcile(&world.deliver_to(LIFECYCLE_QUEUE, &event)).await;
    }
    world.advance(Duration::minutes(2));
    world.take_calls();
    assert_eq!(dispatch_again(world, fleet).await, 0);
    job
}

/// As many runners as jobs: one question, and not whose runner that was, whose runner that one had, …
#[tokio::test]
async fn a_job_on_anothers_runner_is_asked_about_once_and_brings_its_own() {
    let world = World::start();
    let fleet = Fleet::new(&world).await;
    put_off(&world, &fleet, &LABELS, false).await;
    assert_eq!((world.calls().count(Op::GetJob), world.calls().count(Op::Mint)), (1, 1));
    world.boot();
    world.assign();
    assert_eq!(world.github().queued_count(), 0, "nobody waits\n{}", world.books());
    assert_eq!(world.imbalances(), [""; 0]);
    world.finish();
}

/// Its own could not stand in for the one that it got, which is announced when that is heard of.
#[tokio::test]
async fn a_job_on_a_bigger_runner_brings_none() {
    let world = World::start();
    let fleet = Fleet::new(&world).await;
    let job = put_off(&world, &fleet, &BIGGER, true).await;
    let own = format!("fargate-{job}-");
    assert!(!world.calls().to_string().contains(&own), "{}", world.calls());
    assert_eq!(live_tasks(&world), 2, "the one that it got, and another for who lost that");
    world.heal();
    world.finish();
}

/// GitHub's events of it are lost, and so may be ECS's.
#[tokio::test]
async fn a_job_on_a_bigger_runner_that_nobody_has_told_of_brings_one_to_whoever_lost_it() {
    let world = World::start();
    let fleet = Fleet::new(&world).await;
    put_off(&world, &fleet, &BIGGER, false).await;
    assert_eq!(world.calls().count(Op::Mint), 0);
    assert_eq!(dispatch_again(&world, &fleet).await, 0, "the other job's announcement");
    world.boot();
    world.assign();
    assert_eq!(world.github().queued_count(), 0, "nobody waits\n{}", world.books());
    world.heal();
    world.finish();
}

/// Each installation has a limit of its own.
#[tokio::test]
async fn the_limit_of_one_owner_holds_up_no_other() {
    let world = World::start();
    world.app().install("octo-labs", 2);
    let fleet = Fleet::with(&world, &[("ORGANIZATION", "")]).await;
    let of = |owner| world.queued(world.queue_job_in(owner, "app", &LABELS));
    let other = of("octo-labs").replace(&INSTALLATION.to_string(), "2");
    let jobs = [of(OWNER), of(OWNER), other];
    world.fail(Op::Mint).once().before().retry_after(403, 1800);
    assert_eq!(dispatch(&world, &fleet, &jobs[..1]).await, 1);
    world.take_calls();
    assert_eq!(dispatch(&world, &fleet, &jobs[1..]).await, 1, "the other of the same\n{}", world.calls());
    assert_eq!(live_tasks(&world), 1);
    world.advance(Duration::minutes(31));
    assert_eq!(dispatch_again(&world, &fleet).await, 0);
    assert_eq!(live_tasks(&world), 3);
    world.finish();
}
