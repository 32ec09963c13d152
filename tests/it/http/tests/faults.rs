//! Faults: where they strike, and that none goes unnoticed.

use std::time::{Duration, Instant};

use expect_test::expect;
use time::OffsetDateTime;

use super::{MINT, ask, ecs, mint, run_task};
use crate::http::{Op, PAT, World};

#[tokio::test]
async fn faults_strike_before_or_after_the_effect() {
    let world = World::start();
    let ecs = ecs(&world);
    let lost = world.fail(Op::RunTask).once().before().drop_connection();
    assert!(run_task(&ecs, "1-1").send().await.is_err());
    assert_eq!((lost.count(), world.ecs().live_count()), (1, 0));
    world.fail(Op::RunTask).once().after().drop_connection();
    assert!(run_task(&ecs, "1-1").send().await.is_err());
    assert_eq!(world.ecs().live_count(), 1);
    world.fail(Op::RunTask).nth(2).aws("ThrottlingException");
    assert!(run_task(&ecs, "2-1").send().await.is_ok());
    let throttled = run_task(&ecs, "3-1").send().await.unwrap_err();
    assert_eq!(aws_sdk_ecs::error::ProvideErrorMetadata::code(&throttled), Some("ThrottlingException"));
    world.fail(Op::RunTask).failures("RESOURCE:ENI");
    assert_eq!(run_task(&ecs, "4-1").send().await.unwrap().failures()[0].reason(), Some("RESOURCE:ENI"));
    world.fail_any().nth(2).status(500);
    assert!(run_task(&ecs, "5-1").send().await.is_ok());
    assert!(run_task(&ecs, "6-1").send().await.is_err());
    expect![[r#"
        RunTask 1-1 FARGATE → answer lost (no effect)
        RunTask 1-1 FARGATE → task 1 (answer lost)
        RunTask 2-1 FARGATE → task 2
        RunTask 3-1 FARGATE → ThrottlingException (no effect)
        RunTask 4-1 FARGATE → failures[] (no effect)
        RunTask 5-1 FARGATE → task 3
        RunTask 6-1 FARGATE → 500 (no effect)
    "#]]
    .assert_eq(&world.calls().to_string());
    world.finish();
}

#[tokio::test]
async fn a_held_answer_lets_a_story_kill_the_process_right_there() {
    let world = World::start();
    let ecs = ecs(&world);
    let cut = world.fail_any().nth(1).after().hold();
    tokio::select! {
        _ = run_task(&ecs, "1-1").send() => panic!("the answer is held"),
        () = cut.struck() => {}
    }
    assert_eq!(world.ecs().live_count(), 1, "it happened, and nobody heard");
    let held = world.fail(Op::RunTask).hold();
    let (answer, ()) = tokio::join!(run_task(&ecs, "1-1").send(), async {
        held.struck().await;
        held.release();
    });
    assert!(answer.is_ok());
    world.finish();
}

#[test]
fn github_s_refusals_come_with_their_headers() {
    let world = World::start();
    let set = |n: usize| {
        let fault = world.fail(Op::Mint);
        match n {
            0 => fault.retry_after(429, 17),
            1 => fault.retry_after(403, 60),
            2 => fault.secondary_rate_limit(),
            3 => fault.primary_rate_limit(OffsetDateTime::UNIX_EPOCH),
            4 => fault.permission_missing("organization_self_hosted_runners=write"),
            5 => fault.bad_credentials(),
            _ => fault.status(502),
        }
    };
    let want = [
        (429, "retry-after: 17"),
        (403, "retry-after: 60"),
        (403, "x-ratelimit-remaining: 4321"),
        (403, "x-ratelimit-remaining: 0"),
        (403, "x-accepted-github-permissions: organization_self_hosted_runners=write"),
        (401, "content-type: application/json"),
        (502, "content-type: text/html"),
    ];
    for (n, (status, header)) in want.into_iter().enumerate() {
        set(n);
        let (got, head, _) = ask(&world, "POST", MINT, PAT, "{}").unwrap();
        assert_eq!(got, status);
        assert!(head.contains(header), "{header}: {head}");
    }
    world.fail(Op::Mint).drop_connection();
    assert_eq!(ask(&world, "POST", MINT, PAT, "{}"), None);
    let started = Instant::now();
    world.fail(Op::Mint).delay(Duration::from_millis(30));
    assert_eq!(mint(&world, "fargate-1-1"), 201);
    assert!(started.elapsed() >= Duration::from_millis(30));
    world.finish();
}

#[test]
#[should_panic = "the fault at RunTask never struck"]
fn a_fault_that_never_struck_fails_the_story() {
    let world = World::start();
    world.fail(Op::RunTask).drop_connection();
    world.finish();
}

#[test]
#[should_panic = "the world takes exception"]
fn a_forgotten_violation_fails_the_story() {
    let world = World::start();
    ask(&world, "GET", "/nowhere", PAT, "");
}
