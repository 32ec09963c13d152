//! Capacity, sizes, and what ECS refuses.

use gha_fargate_runners::lambda::metric::Metric;
use serde_json::json;

use super::{BOTH_MODES, CONTAINER_MINTED, LABELS, dispatch, dispatch_again, live_tasks, registrations};
use crate::{
    fleet::Fleet,
    http::{Op, World},
    model::ecs::Supply,
};

const SPOT_FIRST: (&str, &str) = ("CAPACITY", "FARGATE_SPOT,FARGATE");

fn providers(world: &World) -> Vec<String> {
    world.ecs().live().map(|task| task.launch.provider().to_owned()).collect()
}

#[tokio::test]
async fn spot_is_dry_so_the_job_starts_on_demand() {
    for dry in [Supply::Dry, Supply::DryByException] {
        for mode in BOTH_MODES {
            let world = World::start();
            let fleet = Fleet::with(&world, &[&[SPOT_FIRST], mode].concat()).await;
            world.ecs().supply.insert("FARGATE_SPOT".to_owned(), dry);
            let job = world.queue_job(&LABELS);
            assert_eq!(dispatch(&world, &fleet, &[world.queued(job)]).await, 0);
            assert_eq!(providers(&world), ["FARGATE"]);
            world.finish();
        }
    }
}

#[tokio::test]
async fn all_are_dry_so_the_job_waits_and_leaves_no_registration() {
    let world = World::start();
    let fleet = Fleet::with(&world, &[SPOT_FIRST]).await;
    for provider in ["FARGATE_SPOT", "FARGATE"] {
        world.ecs().supply.insert(provider.to_owned(), Supply::Dry);
    }
    let job = world.queue_job(&LABELS);
    assert_eq!(dispatch(&world, &fleet, &[world.queued(job)]).await, 1);
    assert_eq!((live_tasks(&world), registrations(&world)), (0, 0));

    world.ecs().supply.values_mut().for_each(|supply| *supply = Supply::Plenty);
    world.advance(time::Duration::minutes(1));
    assert_eq!(dispatch_again(&world, &fleet).await, 0);
    assert_eq!(providers(&world), ["FARGATE_SPOT"]);
    assert_eq!(world.imbalances(), [""; 0]);
    world.finish();
}

/// Capacity is of a size, and each refusal costs GitHub's limit a mint and a DELETE.
#[tokio::test]
async fn where_runtask_was_refused_a_moment_ago_no_other_job_is_minted_for() {
    for code in ["RESOURCE:CPU", "AccessDeniedException"] {
        let world = World::start();
        let fleet = Fleet::new(&world).await;
        let fail = world.fail(Op::RunTask).times(2);
        if code.contains(':') {
            fail.failures(code)
        } else {
            fail.before().aws(code)
        };
        let big = ["self-hosted", "fargate", "cpu=16", "ram=64"];
        let queue = |labels: &[&str]| world.queued(world.queue_job(labels));
        assert_eq!(dispatch(&world, &fleet, &[queue(&big)]).await, 1);
        world.take_calls();
        // All ten wait, and nobody is asked; another size has a market of its own.
        let bodies: Vec<String> = (0..9).map(|_| queue(&big)).collect();
        assert_eq!(dispatch(&world, &fleet, &bodies).await, 9);
        assert_eq!(world.take_calls().tally(), "9 ChangeMessageVisibility", "{code}");
        // A minute later one of them finds out that it is so still.
        world.advance(time::Duration::minutes(5));
        assert_eq!(dispatch_again(&world, &fleet).await, 10);
        assert_eq!(world.take_calls().count(Op::RunTask), 1, "{code}");
        assert_eq!(dispatch(&world, &fleet, &[queue(&LABELS)]).await, 0, "{code}");
        assert_eq!(live_tasks(&world), 1);
        // And then that it is over.
        world.advance(time::Duration::minutes(5));
        dispatch_again(&world, &fleet).await;
        world.advance(time::Duration::minutes(5));
        dispatch_again(&world, &fleet).await;
        assert_eq!((live_tasks(&world), registrations(&world)), (11, 11), "{code}");
        world.finish();
    }
}

#[tokio::test]
async fn no_instance_has_room_for_minutes_so_the_job_waits_and_is_started_then() {
    let world = World::start();
    let fleet = Fleet::with(&world, &[]).await;
    world.fail(Op::RunTask).times(5).failures("RESOURCE:MEMORY");
    let job = world.queue_job(&LABELS);
    assert_eq!(dispatch(&world, &fleet, &[world.queued(job)]).await, 1);
    for _ in 0..4 {
        world.advance(time::Duration::minutes(2));
        assert_eq!(dispatch_again(&world, &fleet).await, 1);
        assert_eq!((live_tasks(&world), registrations(&world)), (0, 0));
    }
    world.advance(time::Duration::minutes(3));
    assert_eq!(dispatch_again(&world, &fleet).await, 0);
    assert_eq!(live_tasks(&world), 1);
    assert_eq!(world.imbalances(), [""; 0]);
    world.finish();
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_told_and_the_next_capacity_tried() {
    let world = World::start();
    let fleet = Fleet::with(&world, &[SPOT_FIRST]).await;
    world.ecs().supply.insert("FARGATE_SPOT".to_owned(), Supply::OverQuota);
    let job = world.queue_job(&LABELS);
    assert_eq!(dispatch(&world, &fleet, &[world.queued(job)]).await, 0);
    assert_eq!(providers(&world), ["FARGATE"]);

    world.ecs().supply.insert("FARGATE".to_owned(), Supply::OverQuota);
    let queued = world.payload(world.queue_job(&LABELS), "queued");
    let (error, metrics) = fleet.invoke(&queued).await;
    let error = error.expect_err("not done").to_string();
    assert!(error.contains("Service Quotas"), "{error}");
    assert_eq!(
        (metrics.get(Metric::NeedsOperator), registrations(&world)),
        (1, 1),
        "and no registration is left"
    );
    world.finish();
}

#[tokio::test]
async fn a_label_names_the_capacity_for_its_job() {
    let world = World::start();
    let fleet = Fleet::with(&world, &[SPOT_FIRST]).await;
    let on_demand = world.queue_job(&["self-hosted", "fargate", "on-demand"]);
    let spot = world.queue_job(&["fargate/spot/cpu=2/ram=8/disk=50", "self-hosted"]);
    dispatch(&world, &fleet, &[world.queued(on_demand)]).await;
    dispatch(&world, &fleet, &[world.queued(spot)]).await;
    assert_eq!(providers(&world), ["FARGATE", "FARGATE_SPOT"]);
    let sizes: Vec<_> = world.ecs().live().map(|task| (task.cpu, task.memory, task.disk)).collect();
    assert_eq!(sizes, [(None, None, None), (Some(2048), Some(8192), Some(50))]);
    world.finish();
}

#[tokio::test]
async fn what_ecs_refuses_waits_and_leaves_no_registration() {
    let table = [
        ("ThrottlingException", Metric::DeferredUnavailable),
        ("AccessDeniedException", Metric::NeedsOperator),
        ("ClusterNotFoundException", Metric::NeedsOperator),
        ("ClientException", Metric::NeedsOperator),
        ("InvalidParameterException", Metric::NeedsOperator),
    ];
    for (code, metric) in table {
        let world = World::start();
        let fleet = Fleet::new(&world).await;
        world.fail(Op::RunTask).once().before().aws(code);
        let queued = world.payload(world.queue_job(&LABELS), "queued");
        let (error, metrics) = fleet.invoke(&queued).await;
        let error = error.expect_err("not done").to_string();
        assert!(error.contains("ecs:RunTask") && error.contains(code), "{error}");
        assert_eq!(metrics.get(metric), 1, "{code}");
        assert_eq!(registrations(&world), 0, "{code}");
        world.finish();
    }
}

#[tokio::test]
async fn denied_and_unknown_are_told_with_the_fix() {
    for (code, fix) in [
        ("AccessDeniedException", "role must allow ecs:RunTask"),
        ("ClusterNotFoundException", "ECS_CLUSTER"),
    ] {
        let world = World::start();
        let fleet = Fleet::with(&world, &[CONTAINER_MINTED]).await;
        world.fail(Op::RunTask).once().before().aws(code);
        let error =
            fleet.invoke(&world.payload(world.queue_job(&LABELS), "queued")).await.0.expect_err("denied");
        assert!(error.to_string().contains(fix), "{error}");
        world.finish();
    }
}

#[tokio::test]
async fn too_many_labels_are_rejected_before_ecs_is_asked() {
    let world = World::start();
    let fleet = Fleet::with(&world, &[CONTAINER_MINTED, ("RUNNER_LABELS", "*")]).await;
    let labels: Vec<String> = (0..90).map(|label| format!("{label:0100}")).collect();
    let mut all: Vec<&str> = labels.iter().map(String::as_str).collect();
    all.push("self-hosted");
    let job = world.queue_job(&all);
    assert_eq!(dispatch(&world, &fleet, &[world.queued(job)]).await, 0);
    let letters = world.letters(crate::http::DEAD_LETTERS);
    assert!(letters[0].1.as_deref().unwrap_or_default().contains("ECS takes 8192"), "{letters:?}");
    assert_eq!(world.calls().count(Op::RunTask), 0);
    world.finish();
}

/// GitHub's configuration is as long as it is: no label of the job's is in the overrides.
#[tokio::test]
async fn a_configuration_that_is_too_long_is_not_the_job_s_fault() {
    let world = World::start();
    let fleet = Fleet::new(&world).await;
    let long = json!({"runner": {"id": 1}, "encoded_jit_config": "x".repeat(9000)});
    world.fail(Op::Mint).once().before().answer(201, &[], long);
    let (error, metrics) = fleet.invoke(&world.payload(world.queue_job(&LABELS), "queued")).await;
    let error = error.expect_err("not done").to_string();
    assert!(error.contains("ECS takes 8192") && !error.contains("labels"), "{error}");
    assert_eq!(metrics.get(Metric::NeedsOperator), 1);
    assert_eq!(world.calls().count(Op::RunTask), 0);
    world.finish();
}
