//! From a queued job to a task, told over real HTTP. (What happens when a function dies between two calls, or an
//! answer is lost, is in `cut_points.rs`.)

mod batches;
mod capacity;
mod duplicates;
mod examples;
mod limit;
mod refusals;

use crate::fleet::Fleet;
use crate::http::{JOB_QUEUE, World};
use serde_json::Value;

const LABELS: [&str; 2] = ["self-hosted", "fargate"];
/// Unset: the containers mint their configurations themselves.
const CONTAINER_MINTED: (&str, &str) = ("GITHUB_SECRET_ARN", "");
/// Settings by which dispatch mints them, and by which the containers do.
const BOTH_MODES: [&[(&str, &str)]; 2] = [&[], &[CONTAINER_MINTED]];

/// The bodies as one batch, dispatched and acknowledged: how many come again.
async fn dispatch(world: &World, fleet: &Fleet, bodies: &[String]) -> usize {
    let batch = world.deliver(bodies);
    settle(world, fleet, &batch).await
}

/// What is visible in the job queue, dispatched and acknowledged: how many come again.
async fn dispatch_again(world: &World, fleet: &Fleet) -> usize {
    let batch = world.receive(JOB_QUEUE, 10);
    settle(world, fleet, &batch).await
}

async fn settle(world: &World, fleet: &Fleet, batch: &Value) -> usize {
    let answer = fleet.dispatch(batch).await;
    world.acknowledge(JOB_QUEUE, batch, &answer)
}

fn live_tasks(world: &World) -> usize {
    world.ecs().live_count()
}

fn registrations(world: &World) -> usize {
    world.github().runners().count()
}
