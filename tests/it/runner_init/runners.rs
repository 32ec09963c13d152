//! Signals, orphans and idleness.

use std::path::Path;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::container::Container;

/// What GitHub's `run.sh` makes of signals: the runner is in a process group of its own and gets SIGINT for the
/// first one; then the trap is gone, and a second one kills the script alone.
const RUN_SH: &str = r#"
set -m
forward() { kill -INT -- "-$listener"; trap - INT TERM; }
trap forward INT TERM
"$DIR/Runner.Listener" & listener=$!
wait "$listener"; code=$?
wait "$listener"
echo "the script ends"
exit "$code"
"#;

/// A listener whose job is cancelled, and who takes its time to tell GitHub.
const LISTENER: &str = r#"
wind_up() { echo "winding up"; wait_for gate; kill "$worker"; echo "GitHub has been told"; exit 0; }
trap wind_up INT
"$DIR/Runner.Worker" spawnclient 1 2 & worker=$!
echo ready
wait
"#;

/// The signal that ECS sends may come twice, and ECS's after one of our own.
#[tokio::test]
async fn the_runner_reports_its_job_however_often_it_is_asked_to_stop() {
    let mut container = Container::new(RUN_SH).await;
    container.script("Runner.Listener", LISTENER).script("Runner.Worker", "wait_for never");
    let gate = container.gate("gate");
    let _never = container.gate("never");
    let mut running = container.start();
    running.logs("a job has come").await;
    assert_eq!(running.line().await, "ready");
    running.signal(Signal::SIGTERM);
    assert_eq!(running.line().await, "winding up");
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGTERM] {
        running.signal(signal);
        running.logs("is being stopped already").await;
    }
    gate.open();
    let ended = running.ended().await;
    let said = ["ready", "winding up", "GitHub has been told", "the script ends"];
    assert_eq!(ended.said, said, "{}", ended.log);
    assert_eq!(ended.code, Some(86), "{}", ended.log);
    assert!(!ended.log.contains("killed"), "{}", ended.log);
}

/// The script is killed, by the kernel for want of memory, say, while the runner winds up in its own group.
#[tokio::test]
async fn the_runner_may_wind_up_without_its_script() {
    let mut container = Container::new(&format!("echo $$; {RUN_SH}")).await;
    container.script("Runner.Listener", LISTENER).script("Runner.Worker", "wait_for never");
    let gate = container.gate("gate");
    let _never = container.gate("never");
    container.env("RUST_LOG", "debug");
    let mut running = container.start();
    running.logs("a job has come").await;
    let script = running.line().await.parse().expect("a process id");
    assert_eq!(running.line().await, "ready");
    running.signal(Signal::SIGTERM);
    assert_eq!(running.line().await, "winding up");
    kill(Pid::from_raw(script), Signal::SIGKILL).expect("it runs");
    running.logs("the script has gone").await;
    // Answered by a process 1 that has seen to the script's end, and waits.
    running.signal(Signal::SIGTERM);
    running.logs("is being stopped already").await;
    gate.open();
    let ended = running.ended().await;
    assert_eq!(ended.said[1..], ["ready", "winding up", "GitHub has been told"], "{}", ended.log);
    assert_eq!(ended.code, Some(86), "{}", ended.log);
}

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
        assert_eq!(ended.code, Some(87), "{}", ended.log);
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
    assert_eq!(ended.code, Some(87), "{}", ended.log);
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
    assert_eq!(ended.code, Some(87), "{}", ended.log);
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
    assert_eq!(running.ended().await.code, Some(87));
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
    assert_eq!(running.ended().await.code, Some(87));
}
