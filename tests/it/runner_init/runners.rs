//! Signals, orphans and idleness.

use std::path::Path;

use nix::sys::signal::Signal;

use super::container::Container;

#[tokio::test]
async fn signals_reach_the_runner() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let script = "trap 'echo TERM; exit 0' TERM; trap 'echo INT; exit 0' INT; echo ready; wait_for gate";
        let mut container = Container::new(script).await;
        let _gate = container.gate("gate");
        let mut running = container.start();
        assert_eq!(running.line().await, "ready");
        running.signal(signal);
        assert_eq!(running.line().await, signal.as_str().trim_start_matches("SIG"));
        let ended = running.ended().await;
        assert_eq!(ended.code, Some(86), "{}", ended.log);
    }
}

/// The script dies at once, and what it has started takes its time to tell GitHub.
#[tokio::test]
async fn the_runner_may_wind_up_after_its_script_has_gone() {
    let winding_up =
        "trap 'echo winding up; wait_for gate; echo wound up; exit 0' TERM; echo ready; wait_for never";
    let mut container = Container::new(&format!("({winding_up}); exit 0")).await;
    let gate = container.gate("gate");
    let _never = container.gate("never");
    container.env("RUST_LOG", "debug");
    let mut running = container.start();
    assert_eq!(running.line().await, "ready");
    running.signal(Signal::SIGTERM);
    assert_eq!(running.line().await, "winding up");
    gate.open();
    let ended = running.ended().await;
    assert_eq!(ended.said, ["ready", "winding up", "wound up"]);
    assert_eq!(ended.code, Some(86), "{}", ended.log);
}

#[tokio::test]
async fn a_runner_that_does_not_stop_is_killed_with_all_it_has_started() {
    // `setsid`: a job's process need not be in the runner's process group.
    let script = "trap '' TERM INT; setsid bash -c 'echo $$; wait_for never' & wait; wait";
    let mut container = Container::new(script).await;
    let _never = container.gate("never");
    container.env("STOP_TIMEOUT_SECONDS", "1");
    let mut running = container.start();
    let stubborn = running.line().await;
    assert!(Path::new("/proc").join(&stubborn).exists());
    running.signal(Signal::SIGTERM);
    // This waits for the end of everything that could still write.
    let ended = running.ended().await;
    assert_eq!(ended.code, Some(86), "{}", ended.log);
    assert!(ended.log.contains("had to be killed"), "{}", ended.log);
}

#[tokio::test]
async fn orphans_are_adopted_and_reaped() {
    let script = "(bash -c 'echo $$; wait_for gate' &); wait_for never";
    let mut container = Container::new(script).await;
    let gate = container.gate("gate");
    let _never = container.gate("never");
    container.env("RUST_LOG", "debug");
    let mut running = container.start();
    let orphan = running.line().await;
    gate.open();
    running.logs(&format!("\"pid\":{orphan}")).await;
    assert!(!Path::new("/proc").join(&orphan).exists(), "a zombie is left");
    running.signal(Signal::SIGTERM);
    assert_eq!(running.ended().await.code, Some(86));
}

#[tokio::test]
async fn a_runner_without_a_job_is_stopped() {
    let script = "trap 'echo TERM; exit 0' TERM; wait_for never";
    let mut container = Container::new(script).await;
    let _never = container.gate("never");
    container.env("IDLE_TIMEOUT_SECONDS", "1");
    let ended = container.run().await;
    assert_eq!((ended.code, ended.said), (Some(84), vec!["TERM".to_owned()]), "{}", ended.log);
}

/// The job takes longer than a runner may be idle. One that is not below this runner is none of its own.
#[tokio::test]
async fn a_runner_with_a_job_is_left_alone() {
    let mut busy =
        Container::new("trap 'echo TERM; exit 0' TERM; $DIR/Runner.Worker spawnclient 1 2; echo ran").await;
    busy.script("Runner.Worker", "wait_for never 3; exit 0");
    let _never = busy.gate("never");
    busy.env("IDLE_TIMEOUT_SECONDS", "2");
    let mut idle = Container::new("trap 'exit 0' TERM; wait_for never").await;
    let _never = idle.gate("never");
    idle.env("IDLE_TIMEOUT_SECONDS", "1");
    let mut running = busy.start();
    running.logs("a job has come").await;
    // A second runner, while the first one's job is there to be seen.
    let ended = idle.run().await;
    assert_eq!(ended.code, Some(84), "{}", ended.log);
    let ended = running.ended().await;
    assert_eq!((ended.code, ended.said), (Some(0), vec!["ran".to_owned()]), "{}", ended.log);
}

#[tokio::test]
async fn nothing_outlives_the_runner() {
    let script = "setsid bash -c 'echo $$; wait_for never' & wait_for gate; exit 0";
    let mut container = Container::new(script).await;
    let gate = container.gate("gate");
    let _never = container.gate("never");
    let mut running = container.start();
    let left = running.line().await;
    assert!(Path::new("/proc").join(&left).exists());
    gate.open();
    // Returns when nobody holds the script's output any more, the one that was left included.
    assert_eq!(running.ended().await.code, Some(0));
}
