//! Batches: every record by itself.

use std::future::{pending, ready};

use expect_test::expect;
use gha_fargate_runners::{
    intake::skip::SkipReason,
    lambda::{
        batch,
        metric::Metric,
        outcome::{Handled, Outcome},
    },
};
use serde_json::{Value, json, value::RawValue};

use super::{BOTH_MODES, LABELS, dispatch, dispatch_again, live_tasks};
use crate::{
    fleet::Fleet,
    http::{DEAD_LETTERS, JOB_QUEUE, OWNER, Op, REPOSITORY, World},
    model::ecs::Supply,
};

#[tokio::test]
async fn a_job_costs_two_calls() {
    let world = World::start();
    let fleet = Fleet::new(&world).await;
    let first = world.queue_job(&LABELS);
    dispatch(&world, &fleet, &[world.queued(first)]).await;
    world.take_calls();

    let jobs: Vec<u64> = (0..10).map(|_| world.queue_job(&LABELS)).collect();
    let bodies: Vec<String> = jobs.iter().map(|job| world.queued(*job)).collect();
    assert_eq!(dispatch(&world, &fleet, &bodies).await, 0);
    expect!["10 generate-jitconfig, 10 RunTask"].assert_eq(&world.take_calls().tally());
    assert_eq!(world.imbalances(), [""; 0]);
    world.finish();
}

#[tokio::test]
async fn a_batch_of_ten_asks_for_one_token() {
    let world = World::start();
    let fleet = Fleet::new(&world).await;
    let bodies: Vec<String> = (0..10).map(|_| world.queued(world.queue_job(&LABELS))).collect();
    assert_eq!(dispatch(&world, &fleet, &bodies).await, 0);
    assert_eq!((world.calls().count(Op::AccessToken), world.calls().count(Op::GetSecretValue)), (1, 1));
    assert_eq!(live_tasks(&world), 10);
    world.finish();
}

#[tokio::test]
async fn of_ten_records_one_is_poison_and_one_is_throttled() {
    let world = World::start();
    let fleet = Fleet::new(&world).await;
    let poison = "{\"action\":\"queued\",\"workflow_job\":7}".to_owned();
    let mut bodies: Vec<String> = (0..9).map(|_| world.queued(world.queue_job(&LABELS))).collect();
    bodies.insert(4, poison.clone());
    world.fail(Op::RunTask).nth(3).before().aws("ThrottlingException");

    assert_eq!(dispatch(&world, &fleet, &bodies).await, 1, "exactly one comes again");
    assert_eq!(live_tasks(&world), 8);
    let letters = world.letters(DEAD_LETTERS);
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].0, poison, "the original body");
    expect![[r#"workflow_job is of the wrong type, expected an object"#]]
        .assert_eq(letters[0].1.as_deref().unwrap_or_default());
    let deferred = world.calls();
    assert_eq!(deferred.count(Op::ChangeMessageVisibility), 1);
    assert_eq!(deferred.count(Op::DeleteRunner), 1, "no registration is left without a task");

    world.advance(time::Duration::minutes(1));
    assert_eq!(dispatch_again(&world, &fleet).await, 0);
    assert_eq!(live_tasks(&world), 9);
    assert_eq!(world.imbalances(), [""; 0]);
    world.finish();
}

/// Nothing can be started for either: one waits, one is over, and nobody needs a letter about that one.
#[tokio::test]
async fn a_job_that_is_over_has_no_dead_letter() {
    let world = World::start();
    let fleet = Fleet::new(&world).await;
    let too_large = [LABELS[0], LABELS[1], "cpu=64"];
    let (waits, over) = (world.queue_job(&too_large), world.queue_job(&too_large));
    let bodies = [waits, over].map(|job| world.queued(job));
    assert!(world.github().cancel(over, fleet.now()));
    assert_eq!(dispatch(&world, &fleet, &bodies).await, 0);
    let letters: Vec<String> = world.letters(DEAD_LETTERS).into_iter().map(|(body, _)| body).collect();
    assert_eq!(letters, bodies[..1]);
    world.finish();
}

#[tokio::test]
async fn a_dead_letter_queue_that_takes_nothing_loses_nothing() {
    let world = World::start();
    let fleet = Fleet::new(&world).await;
    world.fail(Op::SendMessage).once().before().aws("AccessDeniedException");
    assert_eq!(dispatch(&world, &fleet, &["poison".to_owned()]).await, 1);
    assert_eq!(world.letters(DEAD_LETTERS), []);
    world.advance(time::Duration::minutes(5));
    assert_eq!(dispatch_again(&world, &fleet).await, 0);
    assert_eq!(world.letters(DEAD_LETTERS).len(), 1);
    world.finish();
}

#[tokio::test]
async fn without_a_dead_letter_queue_the_queues_own_redrive_takes_it() {
    let world = World::start();
    let fleet = Fleet::with(&world, &[("DEAD_LETTER_QUEUE_URL", "")]).await;
    assert_eq!(dispatch(&world, &fleet, &["poison".to_owned()]).await, 1);
    assert_eq!(world.calls().len(), 0);
    world.finish();
}

/// Its letter asks for another runner, and not for the one that is over.
#[tokio::test]
async fn the_letter_of_a_job_that_is_given_up_starts_another_runner() {
    let world = World::start();
    let fleet = Fleet::with(&world, &[("MAX_ATTEMPTS", "1")]).await;
    let job = world.queue_job(&LABELS);
    assert_eq!(dispatch(&world, &fleet, &[world.queued(job)]).await, 0);
    world.boot();
    world.kill_task(1, "EssentialContainerExited", "Essential container in task exited", Some(139));
    let again = json!({"replacement": {"job_id": job, "attempt": 1, "labels": LABELS, "owner": OWNER,
        "repository": REPOSITORY}});
    assert_eq!(dispatch(&world, &fleet, &[again.to_string()]).await, 0);
    let (letter, reason) = world.letters(DEAD_LETTERS).remove(0);
    assert!(reason.is_some_and(|reason| reason.contains("MAX_ATTEMPTS: 1")));
    assert_eq!(dispatch(&world, &fleet, &[letter]).await, 0);
    assert_eq!(live_tasks(&world), 1, "{}", world.books());
    world.boot();
    world.assign();
    world.finish_job(job);
    world.finish();
}

/// The function's time is over while ECS has not answered for one of three jobs, before or after it has started the task.
#[tokio::test]
async fn what_is_cut_off_when_the_time_is_up_is_found_by_the_next_delivery() {
    for is_started in [false, true] {
        let world = World::start();
        let fleet = Fleet::new(&world).await;
        let bodies: Vec<String> = (0..3).map(|_| world.queued(world.queue_job(&LABELS))).collect();
        let batch = world.deliver(&bodies);
        let event = RawValue::from_string(batch.to_string()).expect("JSON");
        let fault = world.fail(Op::RunTask).once();
        let slow = if is_started { fault.after().hold() } else { fault.before().hold() };
        let (dispatcher, budget) = (&fleet.dispatcher, fleet.dispatcher.budget().await);
        let handle = |body, received| dispatcher.handle(body, received, &budget);
        let (answer, _) =
            batch::invoke(&event, &dispatcher.queue, &world.clock(), slow.struck(), handle).await;
        assert!(world.acknowledge(JOB_QUEUE, &batch, &answer.expect("an answer")) >= 1);
        world.heal();
        for _ in 0..2 {
            world.advance(time::Duration::minutes(4));
            dispatch_again(&world, &fleet).await;
        }
        assert_eq!((live_tasks(&world), world.github().runners().count()), (3, 3), "{}", world.books());
        world.boot();
        world.assign();
        assert_eq!(world.github().queued_count(), 0, "{}", world.books());
        world.finish();
    }
}

/// Nine jobs have their runners; the tenth comes again, and not all ten.
#[tokio::test]
async fn a_slow_service_is_one_records_failure() {
    let world = World::start();
    let fleet = Fleet::new(&world).await;
    let bodies = ["good", "slow", "good"].map(str::to_owned);
    let batch = world.deliver(&bodies);
    let event = RawValue::from_string(batch.to_string()).expect("JSON");
    let handle = async |body: String, _| {
        if body == "slow" {
            pending::<()>().await;
        }
        Handled::new(Outcome::skipped(SkipReason::Event, "nothing to do"))
    };
    let queue = &fleet.dispatcher.queue;
    let (answer, metrics) = batch::invoke(&event, queue, &world.clock(), ready(()), handle).await;
    let want = json!([{"itemIdentifier": batch["Records"][1]["messageId"]}]);
    assert_eq!(answer.expect("an answer")["batchItemFailures"], want);
    assert_eq!((metrics.get(Metric::Skipped), metrics.get(Metric::DeferredUnavailable)), (2, 1));
    world.finish();
}

#[tokio::test]
async fn a_panic_is_one_records_failure() {
    let world = World::start();
    let fleet = Fleet::new(&world).await;
    let bodies = ["good", "bad", "good"].map(str::to_owned);
    let batch = RawValue::from_string(world.deliver(&bodies).to_string()).expect("JSON");
    let handle = async |body: String, _| {
        assert_eq!(body, "good", "a bug");
        Handled::new(Outcome::skipped(SkipReason::Event, "nothing to do"))
    };
    let (answer, metrics) =
        batch::invoke(&batch, &fleet.dispatcher.queue, &world.clock(), pending(), handle).await;
    let failures = answer.expect("an answer")["batchItemFailures"].as_array().map(Vec::len);
    assert_eq!(failures, Some(1));
    assert_eq!((metrics.get(Metric::Skipped), metrics.get(Metric::DeferredPanic)), (2, 1));
    assert_eq!(metrics.get(Metric::NeedsOperator), 1, "somebody has to know of a bug");
    world.finish();
}

/// SQS says the age of the oldest message only while it was received three times at most.
#[tokio::test]
async fn the_age_of_the_oldest_job_that_waits_is_told() {
    let told = async |deferred: Metric| {
        let world = World::start();
        let is_full = deferred == Metric::DeferredMaxRunners;
        let fleet = Fleet::with(&world, &[("MAX_RUNNERS", if is_full { "1" } else { "0" })]).await;
        if is_full {
            dispatch(&world, &fleet, &[world.queued(world.queue_job(&LABELS))]).await;
        } else {
            world.ecs().supply.insert("FARGATE".to_owned(), Supply::Dry);
        }
        dispatch(&world, &fleet, &[world.queued(world.queue_job(&LABELS))]).await;
        let mut ages = Vec::new();
        for _ in 0..6 {
            world.advance(time::Duration::minutes(16));
            let batch = world.receive(JOB_QUEUE, 10);
            let (answer, metrics) = fleet.invoke(&batch).await;
            world.acknowledge(JOB_QUEUE, &batch, &answer.expect("a batch never fails"));
            assert_eq!(metrics.get(deferred), 1);
            ages.push(metrics.get(Metric::OldestDeferred));
        }
        world.finish();
        ages
    };
    assert_eq!(told(Metric::DeferredNoCapacity).await, [960, 1920, 2880, 3840, 4800, 5760]);
    assert_eq!(told(Metric::DeferredMaxRunners).await, [0; 6], "as it was set");
}

#[tokio::test]
async fn jobs_over_the_limit_wait_and_are_not_dropped() {
    let world = World::start();
    let fleet = Fleet::with(&world, &[("MAX_RUNNERS", "2")]).await;
    let jobs: Vec<u64> = (0..3).map(|_| world.queue_job(&LABELS)).collect();
    let bodies: Vec<String> = jobs.iter().map(|job| world.queued(*job)).collect();
    assert_eq!(dispatch(&world, &fleet, &bodies).await, 1);
    assert_eq!(world.calls().count(Op::DescribeClusters), 1, "one for the batch");
    assert_eq!(live_tasks(&world), 2);

    world.boot();
    for (job, _) in world.assign() {
        world.finish_job(job);
    }
    world.advance(time::Duration::minutes(1));
    assert_eq!(dispatch_again(&world, &fleet).await, 0);
    assert_eq!(live_tasks(&world), 1);
    assert_eq!(world.imbalances(), [""; 0]);
    world.finish();
}

#[tokio::test]
async fn every_shape_of_event_starts_its_job() {
    for mode in BOTH_MODES {
        let world = World::start();
        let fleet = Fleet::with(&world, mode).await;
        let payload = || world.payload(world.queue_job(&LABELS), "queued");
        let (bare, envelope) = (payload(), world.envelope(&payload()));
        let mixed = world.deliver(&[payload().to_string(), world.envelope(&payload()).to_string()]);
        for event in [&bare, &envelope] {
            let (answer, metrics) = fleet.invoke(event).await;
            assert_eq!(answer.expect("an answer")["outcome"], "done");
            assert_eq!(metrics.get(Metric::Started), 1);
        }
        assert_eq!(fleet.dispatch(&mixed).await, json!({ "batchItemFailures": [] }));
        assert_eq!(live_tasks(&world), 4);
        world.finish();
    }
}

#[tokio::test]
async fn a_single_event_that_is_not_done_is_an_error() {
    let world = World::start();
    let fleet = Fleet::new(&world).await;
    world.fail(Op::RunTask).once().before().aws("ThrottlingException");
    let queued = world.payload(world.queue_job(&LABELS), "queued");
    let error = fleet.invoke(&queued).await.0.expect_err("deferred").to_string();
    assert!(error.contains("ThrottlingException"), "{error}");

    // What can never be done goes to the dead-letter queue, and is answered.
    let answer: Value = fleet.invoke(&json!({ "action": "queued" })).await.0.expect("an answer");
    assert_eq!(answer["outcome"], "rejected");
    assert_eq!(world.letters(DEAD_LETTERS).len(), 1);
    world.finish();
}
