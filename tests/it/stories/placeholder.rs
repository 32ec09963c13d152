//! A stack whose secret holds no App yet: jobs wait, the log says for what, and the App needs no restart.

use gha_fargate_runners::lambda::outcome::{Outcome, Reason};
use serde_json::json;
use time::Duration;

use crate::fleet::Fleet;
use crate::http::{APP_SECRET, JOB_QUEUE, Op, World, own_app};

const LABELS: [&str; 2] = ["self-hosted", "fargate"];
const MISSING: &str = "the secret holds no App yet: run make setup";

async fn not_set_up() -> (World, Fleet) {
    let world = World::start();
    world.secrets().set(APP_SECRET, "{}");
    let fleet = Fleet::new(&world).await;
    (world, fleet)
}

fn set_up(world: &World) {
    let app = own_app().credentials.expect("an App");
    world.secrets().set(APP_SECRET, &app.to_string());
}

#[tokio::test]
async fn jobs_wait_for_the_app_and_start_once_it_is_there() {
    let (world, fleet) = not_set_up().await;
    let bodies: Vec<String> = (0..3).map(|_| world.queued(world.queue_job(&LABELS))).collect();
    let batch = world.deliver(&bodies);
    let answer = fleet.dispatch(&batch).await;
    assert_eq!(world.acknowledge(JOB_QUEUE, &batch, &answer), 3, "every job comes again");
    assert_eq!(world.calls().count(Op::GetSecretValue), 1, "one reader for the batch");

    // Warm functions, as they are while somebody makes the App.
    set_up(&world);
    let at_once = fleet.invoke(&world.payload(world.queue_job(&LABELS), "queued")).await.0;
    assert!(at_once.expect_err("known for 30 s").to_string().contains(MISSING));
    world.advance(Duration::minutes(20));
    let batch = world.receive(JOB_QUEUE, 10);
    let answer = fleet.dispatch(&batch).await;
    assert_eq!(world.acknowledge(JOB_QUEUE, &batch, &answer), 0);
    assert_eq!(world.ecs().live_count(), 3);
    world.finish();
}

#[tokio::test]
async fn the_secret_is_read_again_after_half_a_minute() {
    let (world, fleet) = not_set_up().await;
    let queued = world.payload(world.queue_job(&LABELS), "queued");
    for (seconds, reads) in [(0, 1), (29, 1), (2, 2), (30, 2), (1, 3)] {
        world.advance(Duration::seconds(seconds));
        fleet.invoke(&queued).await.0.expect_err("no App");
        assert_eq!(world.calls().count(Op::GetSecretValue), reads, "{seconds} s later");
    }
    world.finish();
}

#[tokio::test]
async fn reconcile_waits_too_and_says_for_what() {
    let (world, fleet) = not_set_up().await;
    let job = world.queue_job(&LABELS);
    let now = world.now();
    assert!(world.github().cancel(job, now));
    let cancelled = world.payload(job, "completed").to_string();
    let deadline = now + Duration::minutes(2);
    match fleet.reconciler.handle(cancelled.clone(), None, deadline).await.outcome {
        Outcome::Deferred(deferral) => {
            assert_eq!(deferral.reason, Reason::NeedsOperator);
            assert!(deferral.detail.contains(MISSING), "{}", deferral.detail);
        }
        outcome => panic!("{outcome:?}"),
    }
    set_up(&world);
    world.advance(Duration::seconds(31));
    let outcome = fleet.reconciler.handle(cancelled, None, deadline + Duration::seconds(31)).await.outcome;
    assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    world.finish();
}

#[tokio::test]
async fn another_secret_that_cannot_be_used_is_told_by_its_form() {
    let (world, fleet) = not_set_up().await;
    world.secrets().set(APP_SECRET, &json!({"app_id": 1}).to_string());
    let queued = world.payload(world.queue_job(&LABELS), "queued");
    let error = fleet.invoke(&queued).await.0.expect_err("no key").to_string();
    assert!(error.contains("it is JSON without a usable private_key; it should hold"), "{error}");
    world.finish();
}
