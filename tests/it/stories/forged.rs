//! Messages that somebody forged, where the policies of bus and queues let them through: nothing is deleted, started
//! or lost for their sake.

use serde_json::{Value, json};
use time::Duration;

use crate::{
    fleet::Fleet,
    http::{DEAD_LETTERS, JOB_QUEUE, LIFECYCLE_QUEUE, OWNER, Op, World},
    model::github::Scope,
};

const LABELS: [&str; 2] = ["self-hosted", "fargate"];

/// A world with a job that waits, whose runner was started and is up.
async fn waiting(changes: &[(&str, &str)]) -> (World, Fleet, u64) {
    let world = World::start();
    let fleet = Fleet::with(&world, changes).await;
    let job = world.queue_job(&LABELS);
    dispatch(&world, &fleet, &world.queued(job)).await;
    world.boot();
    world.take_calls();
    (world, fleet, job)
}

/// How many come again.
async fn dispatch(world: &World, fleet: &Fleet, body: &str) -> usize {
    let batch = world.deliver(&[body.to_owned()]);
    world.acknowledge(JOB_QUEUE, &batch, &fleet.dispatch(&batch).await)
}

/// How many come again.
async fn tell(world: &World, fleet: &Fleet, event: &Value) -> usize {
    let batch = world.deliver_to(LIFECYCLE_QUEUE, &[event.to_string()]);
    world.acknowledge(LIFECYCLE_QUEUE, &batch, &fleet.reconcile(&batch).await)
}

/// How many of those that were left come again.
async fn tell_again(world: &World, fleet: &Fleet) -> usize {
    world.advance(Duration::minutes(3));
    let batch = world.receive(LIFECYCLE_QUEUE, 10);
    world.acknowledge(LIFECYCLE_QUEUE, &batch, &fleet.reconcile(&batch).await)
}

fn nothing_happened(world: &World, what: &str) {
    for op in [Op::Mint, Op::DeleteRunner, Op::RunTask, Op::StopTask, Op::TagResource] {
        assert_eq!(world.calls().count(op), 0, "{what}: {op:?}\n{}", world.calls());
    }
    let announced = world.letters(JOB_QUEUE);
    assert!(announced.is_empty(), "{what}: {announced:?}");
}

/// GitHub's payload of a queued job.
fn example() -> Value {
    serde_json::from_str(include_str!("../../../events/queued.json")).expect("JSON")
}

fn replacement(job: u64, changes: &Value) -> Value {
    let mut own = json!({ "job_id": job, "attempt": 2, "labels": LABELS, "owner": OWNER,
        "repository": "example-workflow" });
    for (key, value) in changes.as_object().into_iter().flatten() {
        own[key] = value.clone();
    }
    json!({ "replacement": own })
}

#[tokio::test]
async fn on_the_job_queue_each_is_refused_with_its_reason() {
    let own = replacement(999, &json!({}))["replacement"].clone();
    let mut in_payload = example();
    in_payload["replacement"] = own.clone();
    in_payload["action"] = json!("completed");
    let dots = |field: &str| {
        let mut payload = example();
        *payload.pointer_mut(field).expect("a field") = json!("..");
        payload.to_string()
    };
    let table = [
        (replacement(999, &json!({ "attempt": 0 })).to_string(), "replacement.attempt should be 1 to 1000"),
        (
            replacement(999, &json!({ "attempt": 1001 })).to_string(),
            "replacement.attempt should be 1 to 1000",
        ),
        (replacement(999, &json!({ "attempt": -1 })).to_string(), "replacement.attempt is of the wrong type"),
        (replacement(999, &json!({ "owner": "../octo-org" })).to_string(), "replacement.owner has other"),
        (replacement(999, &json!({ "repository": ".." })).to_string(), "replacement.repository is no name"),
        (
            replacement(999, &json!({ "repository": "a\u{0}b" })).to_string(),
            "replacement.repository has other",
        ),
        (json!({ "replacement": own, "action": "queued" }).to_string(), "the message has a field"),
        (
            json!({ "detail-type": "workflow_job", "detail": { "replacement": own } }).to_string(),
            "is missing",
        ),
        (dots("/repository/name"), "repository.name is no name"),
        (dots("/repository/owner/login"), "repository.owner.login is no name"),
    ];
    for (body, reason) in table {
        let (world, fleet, _) = waiting(&[]).await;
        assert_eq!(dispatch(&world, &fleet, &body).await, 0, "{reason}");
        let letters = world.letters(DEAD_LETTERS);
        let told = letters.first().and_then(|letter| letter.1.clone()).unwrap_or_default();
        assert!(told.contains(reason), "{told:?} should contain {reason:?}");
        nothing_happened(&world, reason);
        assert_eq!(world.imbalances(), [""; 0], "{reason}");
    }
    // It stays a payload, of a job that is over.
    let (world, fleet, _) = waiting(&[]).await;
    assert_eq!(dispatch(&world, &fleet, &in_payload.to_string()).await, 0);
    nothing_happened(&world, "a replacement in a payload");
    assert_eq!(world.letters(DEAD_LETTERS).len(), 0);
}

#[tokio::test]
async fn where_the_policy_depends_on_it_a_repository_is_required() {
    for (changes, minted) in [(&[][..], true), (&[("GITHUB_SECRET_ARN", "")], false)] {
        let allowed = [("ALLOWED_REPOSITORIES", "octo-org/example-*")];
        let (world, fleet, job) = waiting(&[changes, &allowed].concat()).await;
        for attempt in [1, 2] {
            for registered in [true, false] {
                let changes = json!({ "repository": null, "attempt": attempt, "registered": registered });
                let body = replacement(999, &changes).to_string();
                // Its runners may only not be shown yet: it is looked at twice, six minutes apart. What is handed back
                // without being there has been seen to; where the container mints, nobody can tell.
                assert_eq!(dispatch(&world, &fleet, &body).await, 1);
            }
        }
        world.advance(Duration::minutes(7));
        let batch = world.receive(JOB_QUEUE, 10);
        assert_eq!(world.acknowledge(JOB_QUEUE, &batch, &fleet.dispatch(&batch).await), 0);
        let letters = world.letters(DEAD_LETTERS);
        assert_eq!(letters.len(), if minted { 2 } else { 4 });
        assert!(
            letters
                .iter()
                .all(|(_, why)| why.as_ref().is_some_and(|why| why.contains("ALLOWED_REPOSITORIES")))
        );
        nothing_happened(&world, "without a repository");
        let elsewhere = replacement(999, &json!({ "repository": "another" })).to_string();
        assert_eq!(dispatch(&world, &fleet, &elsewhere).await, 0);
        nothing_happened(&world, "of another repository");

        // This system's own, of a job whose runner it has started: its task has ended. (Nobody has minted for the
        // container, so it has ended by itself.)
        if minted {
            let task = world.ecs().live().next().map(|task| task.number).expect("a task");
            world.kill_task(task, "SpotInterruption", "Your Spot Task was interrupted.", None);
            assert_eq!(tell(&world, &fleet, &world.state_change(task)).await, 0);
            world.advance(Duration::minutes(1));
            world.receive(JOB_QUEUE, 10);
        }
        let own = replacement(job, &json!({ "repository": null })).to_string();
        assert_eq!(dispatch(&world, &fleet, &own).await, 0);
        assert_eq!(world.ecs().live_count(), 1, "it is served");
    }
}

#[tokio::test]
async fn a_handed_back_registration_is_served_without_its_repository() {
    let world = World::start();
    let fleet = Fleet::with(&world, &[("ALLOWED_REPOSITORIES", "octo-org/example-workflow")]).await;
    let job = world.queue_job(&LABELS);
    let (name, now) = (format!("fargate-{job}-1"), world.now());
    world.github().mint(&Scope::organization(OWNER), &name, 1, &LABELS, now).expect("a registration");
    // Nothing is left of it in the end, and there is no capacity for a while.
    world.fail(Op::RunTask).times(3).failures("Capacity is unavailable at this time.");
    let back = replacement(job, &json!({ "repository": null, "attempt": 1, "registered": true })).to_string();
    assert_eq!(dispatch(&world, &fleet, &back).await, 1, "another may be at work");
    for _ in 0..8 {
        world.advance(Duration::minutes(4));
        let batch = world.receive(JOB_QUEUE, 10);
        world.acknowledge(JOB_QUEUE, &batch, &fleet.dispatch(&batch).await);
    }
    assert_eq!((world.ecs().live_count(), world.letters(DEAD_LETTERS).len()), (1, 0), "{}", world.calls());
    assert_eq!(world.imbalances(), [""; 0]);
}

#[tokio::test]
async fn a_task_that_lives_is_not_taken_for_stopped() {
    for changes in [&[][..], &[("GITHUB_SECRET_ARN", "")]] {
        let world = World::start();
        let fleet = Fleet::with(&world, changes).await;
        let job = world.queue_job(&LABELS);
        dispatch(&world, &fleet, &world.queued(job)).await;
        let task = world.ecs().live().next().map(|task| task.number).expect("a task");
        world.take_calls();
        let mut event = world.state_change(task);
        event["detail"]["lastStatus"] = json!("STOPPED");
        event["detail"]["stopCode"] = json!("TaskFailedToStart");
        assert_eq!(tell(&world, &fleet, &event).await, 1, "nothing is done until ECS says so too");
        nothing_happened(&world, "the task lives");
        assert_eq!(tell_again(&world, &fleet).await, 1);
        nothing_happened(&world, "the task still lives");

        // When it has, the message is as good as ECS's own.
        world.kill_task(task, "TaskFailedToStart", "CannotPullContainerError", None);
        world.advance(Duration::minutes(15));
        assert_eq!(tell_again(&world, &fleet).await, 0);
        assert_eq!(world.letters(JOB_QUEUE).len(), 1, "the job gets another");
    }
}

#[tokio::test]
async fn tasks_that_are_not_there_or_not_ours_are_left_alone() {
    let (world, fleet, _) = waiting(&[]).await;
    let task = world.ecs().live().next().map(|task| task.number).expect("a task");
    let table: [(&str, Value); 5] = [
        ("/detail/taskArn", json!("arn:aws:ecs:eu-central-1:123456789012:task/gha-fargate-runners/0")),
        ("/detail/taskArn", json!("../../x")),
        ("/detail/taskArn", json!("arn:aws:ecs:eu-central-1:123456789012:task/x\n")),
        ("/detail/clusterArn", json!("arn:aws:ecs:eu-central-1:123456789012:cluster/another")),
        ("/detail/startedBy", json!("somebody")),
    ];
    let first = table[0].1.clone();
    for (field, value) in table {
        let mut event = world.state_change(task);
        event["detail"]["lastStatus"] = json!("STOPPED");
        *event.pointer_mut(field).expect("a field") = value.clone();
        // Of the one that could be a task of this fleet: for ten minutes, ECS may only not show it yet.
        let may_come = usize::from(value == first);
        assert_eq!(tell(&world, &fleet, &event).await, may_come, "{value}");
        world.advance(Duration::minutes(8));
        assert_eq!(tell_again(&world, &fleet).await, 0, "{value}");
        nothing_happened(&world, &value.to_string());
    }
    assert_eq!(world.imbalances(), [""; 0]);
}

#[tokio::test]
async fn that_a_job_ended_without_a_runner_is_githubs_to_say() {
    // It waits.
    let (world, fleet, job) = waiting(&[]).await;
    let mut event = world.payload(job, "completed");
    event["workflow_job"]["status"] = json!("completed");
    assert_eq!(tell(&world, &fleet, &event).await, 1, "nothing is done until GitHub says so too");
    nothing_happened(&world, "it waits");
    assert_eq!(world.imbalances(), [""; 0]);

    // It runs.
    world.assign();
    assert_eq!(tell_again(&world, &fleet).await, 0);
    nothing_happened(&world, "it runs");

    // It is none of GitHub's.
    event["workflow_job"]["id"] = json!(999);
    assert_eq!(tell(&world, &fleet, &event).await, 0);
    nothing_happened(&world, "there is no such job");

    // It ended so: the runner goes, once it is sure that it has no other job.
    let (world, fleet, job) = waiting(&[]).await;
    world.advance(Duration::minutes(2));
    let now = fleet.now();
    assert!(world.github().cancel(job, now));
    assert_eq!(tell(&world, &fleet, &world.payload(job, "completed")).await, 0);
    assert_eq!(world.ecs().live_count(), 0);
}

#[tokio::test]
async fn a_replacement_on_the_lifecycle_queue_is_nothing() {
    let (world, fleet, job) = waiting(&[]).await;
    assert_eq!(tell(&world, &fleet, &replacement(job, &json!({}))).await, 0);
    nothing_happened(&world, "the wrong queue");
}

#[tokio::test]
async fn a_message_of_another_day_starts_nothing() {
    for changes in [&[][..], &[("GITHUB_SECRET_ARN", "")]] {
        let world = World::start();
        let fleet = Fleet::with(&world, changes).await;
        let job = world.queue_job(&LABELS);
        let envelope = world.envelope(&world.payload(job, "queued")).to_string();
        world.advance(Duration::hours(25));
        assert_eq!(dispatch(&world, &fleet, &envelope).await, 0);
        nothing_happened(&world, "a day later");
        assert_eq!(world.letters(DEAD_LETTERS).len(), 0);
    }
}
