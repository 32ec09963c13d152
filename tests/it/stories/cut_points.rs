//! Every cut point: whatever call a function dies after, whatever answer is lost, redelivery and the sweep bring
//! the same end: one runner for one job, no registration without a task, no task without a registration.

use std::future::Future;

use crate::fleet::Fleet;
use crate::http::{JOB_QUEUE, LIFECYCLE_QUEUE, World};
use serde_json::json;
use time::{Duration, format_description::well_known::Rfc3339};

const LABELS: [&str; 2] = ["self-hosted", "fargate"];
/// Longer than any story needs to come to rest: attempts, their delays, the time-out of idle runners.
const ROUNDS: usize = 24;

/// Time passes, and everything that waits is worked off.
impl Fleet {
    /// What is visible on both queues goes through both functions once.
    async fn work(&self, world: &World) {
        world.pass_on();
        let jobs = world.receive(JOB_QUEUE, 10);
        world.acknowledge(JOB_QUEUE, &jobs, &self.dispatch(&jobs).await);
        let events = world.receive(LIFECYCLE_QUEUE, 10);
        world.acknowledge(LIFECYCLE_QUEUE, &events, &self.reconcile(&events).await);
    }

    /// Time passes, messages come again, sweeps are due, tasks start: until everything is at rest.
    async fn rest(&self, world: &World) {
        for _ in 0..ROUNDS {
            world.advance(Duration::minutes(5));
            let scheduled = json!({
                "detail-type": "Scheduled Event", "source": "aws.events",
                "time": self.now().format(&Rfc3339).expect("a time"),
                "detail": {},
            });
            let sweep = world.deliver_to(LIFECYCLE_QUEUE, &[scheduled.to_string()]);
            world.acknowledge(LIFECYCLE_QUEUE, &sweep, &self.reconcile(&sweep).await);
            self.work(world).await;
            world.boot();
            world.assign();
        }
    }
}

/// How a function is cut short at one of its calls.
#[derive(Debug, Clone, Copy)]
pub enum Cut {
    /// The call never happened, and the process is dead.
    DeadBefore,
    /// The call happened, and the process is dead.
    DeadAfter,
    /// The call did not happen, and the connection broke.
    BrokenBefore,
    /// The call happened, and its answer is lost.
    AnswerLost,
    /// The service is in trouble.
    ServerError,
}

pub const CUTS: [Cut; 5] =
    [Cut::DeadBefore, Cut::DeadAfter, Cut::BrokenBefore, Cut::AnswerLost, Cut::ServerError];

/// Runs `flow` with the `k`-th call cut; the answer is whether there was a `k`-th call.
pub async fn cut(world: &World, cut: Cut, k: u32, flow: impl Future<Output = ()>) -> bool {
    let fault = world.fail_any().nth(k).maybe();
    let handle = match cut {
        Cut::DeadBefore => fault.before().hold(),
        Cut::DeadAfter => fault.after().hold(),
        Cut::BrokenBefore => fault.before().drop_connection(),
        Cut::AnswerLost => fault.after().drop_connection(),
        Cut::ServerError => fault.before().status(500),
    };
    match cut {
        Cut::DeadBefore | Cut::DeadAfter => {
            tokio::select! { () = flow => {}, () = handle.struck() => {} }
        }
        _ => flow.await,
    }
    let struck = handle.count() > 0;
    world.heal();
    struck
}

/// Plays a story once for every way to cut it at every call: `before` sets the scene, `flow` is cut, and `end`
/// says how the world must be when it has come to rest.
async fn at_every_cut_point(
    story: &str,
    before: impl AsyncFn(&World, &Fleet) -> u64,
    flow: impl AsyncFn(&World, &Fleet, u64),
    end: impl Fn(&World, u64) -> Vec<String>,
) {
    for way in CUTS {
        for k in 1.. {
            let world = World::start();
            let fleet = Fleet::new(&world).await;
            let job = before(&world, &fleet).await;
            let struck = cut(&world, way, k, flow(&world, &fleet, job)).await;
            // A process that died is another process.
            let fleet = Fleet::new(&world).await;
            fleet.rest(&world).await;
            let mut wrong = world.imbalances();
            wrong.extend(end(&world, job));
            assert_eq!(
                wrong,
                [""; 0],
                "{story}: {way:?} at call {k}\n{:?}\n{}{}",
                world.violations(),
                world.books(),
                world.calls()
            );
            world.finish();
            if !struck {
                assert!(k > 1, "{story}: no call was cut");
                break;
            }
        }
    }
}

fn status(world: &World, job: u64) -> String {
    world.github().job(job).map(|job| job.status.as_str().to_owned()).unwrap_or_default()
}

fn runs(world: &World, job: u64) -> Vec<String> {
    let status = status(world, job);
    if status == "in_progress" { vec![] } else { vec![format!("job {job} is {status}")] }
}

fn no_runner(world: &World, _job: u64) -> Vec<String> {
    let left = world.github().runners().count();
    if left == 0 { vec![] } else { vec![format!("{left} registrations are left")] }
}

async fn queued(world: &World, _fleet: &Fleet) -> u64 {
    world.queue_job(&LABELS)
}

/// A job whose runner was started.
async fn started(world: &World, fleet: &Fleet) -> u64 {
    let job = world.queue_job(&LABELS);
    let batch = world.deliver(&[world.queued(job)]);
    world.acknowledge(JOB_QUEUE, &batch, &fleet.dispatch(&batch).await);
    job
}

async fn first_task(world: &World) -> u64 {
    world.ecs().live().next().map(|task| task.number).expect("a task")
}

#[tokio::test]
async fn a_queued_job_gets_one_runner() {
    let flow = async |world: &World, fleet: &Fleet, job: u64| {
        let batch = world.deliver(&[world.queued(job)]);
        world.acknowledge(JOB_QUEUE, &batch, &fleet.dispatch(&batch).await);
    };
    at_every_cut_point("queued", queued, flow, runs).await;
}

#[tokio::test]
async fn a_job_delivered_twice_gets_one_runner() {
    let flow = async |world: &World, fleet: &Fleet, job: u64| {
        let batch = world.deliver(&[world.queued(job), world.queued(job)]);
        world.acknowledge(JOB_QUEUE, &batch, &fleet.dispatch(&batch).await);
    };
    at_every_cut_point("queued twice", queued, flow, runs).await;
}

#[tokio::test]
async fn a_cancelled_job_leaves_no_runner() {
    let flow = async |world: &World, fleet: &Fleet, job: u64| {
        let now = fleet.now();
        world.github().cancel(job, now);
        let batch = world.deliver_to(LIFECYCLE_QUEUE, &[world.payload(job, "completed").to_string()]);
        world.acknowledge(LIFECYCLE_QUEUE, &batch, &fleet.reconcile(&batch).await);
    };
    at_every_cut_point("cancelled", started, flow, no_runner).await;
}

#[tokio::test]
async fn a_runner_that_died_is_replaced() {
    let flow = async |world: &World, fleet: &Fleet, _job: u64| {
        let task = first_task(world).await;
        world.kill_task(task, "SpotInterruption", "Your Spot Task was interrupted.", None);
        let batch = world.deliver_to(LIFECYCLE_QUEUE, &[world.state_change(task).to_string()]);
        world.acknowledge(LIFECYCLE_QUEUE, &batch, &fleet.reconcile(&batch).await);
    };
    at_every_cut_point("died", started, flow, runs).await;
}

#[tokio::test]
async fn a_death_that_nobody_told_is_found_by_the_sweep() {
    let flow = async |world: &World, fleet: &Fleet, _job: u64| {
        let task = first_task(world).await;
        world.kill_task(task, "TaskFailedToStart", "CannotPullContainerError", None);
        world.ecs().take_changes();
        let scheduled = json!({
            "detail-type": "Scheduled Event", "detail": {},
            "time": fleet.now().format(&Rfc3339).expect("a time"),
        });
        let batch = world.deliver_to(LIFECYCLE_QUEUE, &[scheduled.to_string()]);
        world.acknowledge(LIFECYCLE_QUEUE, &batch, &fleet.reconcile(&batch).await);
    };
    at_every_cut_point("died in silence", started, flow, runs).await;
}
