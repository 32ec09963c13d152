//! Every way to end has its code.

use super::{container::Container, github::Fault};

/// A runner that took a job has nothing to answer for: its code is passed on.
#[tokio::test]
async fn after_a_job_the_runners_own_code_is_passed_on() {
    for (script, code) in [("exit 0", 0), ("exit 3", 3), ("exit 84", 1), ("kill -KILL $$", 137)] {
        let mut container = Container::new(&format!("$DIR/Runner.Worker spawnclient 1 2; {script}")).await;
        container.script("Runner.Worker", "wait_for gate; exit 0");
        let gate = container.gate("gate");
        let mut running = container.start();
        running.logs("a job has come").await;
        gate.open();
        let ended = running.ended().await;
        assert_eq!(ended.code, Some(code), "{script}: {}", ended.log);
    }
}

/// The listener's codes all become 0 in GitHub's scripts, so it is no job that counts. 7 is the one that says why.
#[tokio::test]
async fn a_runner_that_ends_without_a_job_has_codes_of_its_own() {
    for (script, code) in [
        ("exit 0", 87),
        ("exit 3", 87),
        ("exit 84", 87),
        ("kill -KILL $$", 87),
        ("exit 7", 7),
        ("$DIR/run-helper.sh; exit $?", 85),
    ] {
        let ended = Container::new(script).await.run().await;
        assert_eq!(ended.code, Some(code), "{script}: {}", ended.log);
    }
}

#[tokio::test]
async fn a_script_that_cannot_start() {
    let mut container = Container::new("exit 0").await;
    container.env("RUNNER_SCRIPT", "/home/runner/nowhere/run.sh");
    let ended = container.run().await;
    assert_eq!(ended.code, Some(85));
    assert!(ended.log.contains("/home/runner/nowhere/run.sh: No such file"), "{}", ended.log);
}

#[tokio::test]
async fn mistakes_in_the_environment() {
    let mut container = Container::new("exit 0").await;
    container.env_remove("ORGANIZATION").env("RUNNER_LABELS_JSON", " ").env("IDLE_TIMEOUT_SECONDS", "soon");
    let ended = container.run().await;
    assert_eq!(ended.code, Some(80));
    for name in ["ORGANIZATION", "RUNNER_LABELS_JSON", "IDLE_TIMEOUT_SECONDS"] {
        assert!(ended.log.contains(&format!("{name} should be")), "{}", ended.log);
    }
    container.env_remove("ACCESS_TOKEN");
    let ended = container.run().await;
    assert_eq!(ended.code, Some(80));
    for name in ["ORGANIZATION", "ACCESS_TOKEN"] {
        assert!(ended.log.contains(&format!("{name} should be")), "{}", ended.log);
    }
    assert_eq!(container.github.world().requests.len(), 0);
}

#[tokio::test]
async fn arguments_are_a_mistake() {
    let mut container = Container::new("exit 0").await;
    container.arg("/home/runner/run.sh");
    let ended = container.run().await;
    assert_eq!(ended.code, Some(80));
    assert!(ended.log.contains("takes no arguments"), "{}", ended.log);
}

#[tokio::test]
async fn refusals_are_final() {
    for status in [401, 403, 404, 422] {
        let mut container = Container::new("echo started").await;
        container.github.world().faults.push_back(Fault::Answer(status, &[]));
        let ended = container.run().await;
        assert_eq!((ended.code, ended.said.len()), (Some(81), 0), "{status}: {}", ended.log);
        assert_eq!(container.github.world().requests.len(), 1, "{status} is not asked again");
        assert!(ended.log.contains(&status.to_string()), "{}", ended.log);
    }
}

#[tokio::test]
async fn a_name_that_is_taken_is_a_duplicate_start() {
    let mut container = Container::new("echo started").await;
    {
        let mut world = container.github.world();
        world.runners.insert("fargate-1-1".into(), 77);
        world.online = true;
    }
    let ended = container.run().await;
    assert_eq!((ended.code, ended.said.len()), (Some(83), 0), "{}", ended.log);
    assert!(ended.log.contains("\"INFO\""), "it is no error: {}", ended.log);
    let world = container.github.world();
    assert_eq!(world.requests.len(), 2, "{:?}", world.requests);
    assert_eq!(world.runners.get("fargate-1-1"), Some(&77), "the other one is left alone");
}

#[tokio::test]
async fn a_server_error_and_a_rate_limit_pass() {
    let mut container = Container::new("echo started").await;
    container.github.world().faults.extend([
        Fault::Answer(503, &[]),
        Fault::Answer(429, &[("retry-after", "1")]),
        Fault::Answer(403, &[("retry-after", "0")]),
    ]);
    let ended = container.run().await;
    assert_eq!((ended.code, ended.said), (Some(87), vec!["started".to_owned()]), "{}", ended.log);
    assert!(ended.log.contains("GitHub is asked again"), "{}", ended.log);
}

#[tokio::test]
async fn a_limit_that_is_too_long_is_given_up() {
    let mut container = Container::new("echo started").await;
    container.github.world().faults.push_back(Fault::Answer(429, &[("retry-after", "3600")]));
    let ended = container.run().await;
    assert_eq!((ended.code, ended.said.len()), (Some(82), 0), "{}", ended.log);
    assert_eq!(container.github.world().requests.len(), 1);
}

/// GitHub has registered the runner, and nobody has heard of it. Its configuration is told once only.
#[tokio::test]
async fn a_lost_answer_ends_in_one_registration() {
    for fault in [Fault::AnswerLost, Fault::Broken, Fault::NoConfiguration] {
        let mut container = Container::new("echo started").await;
        container.github.world().faults.push_back(fault);
        let ended = container.run().await;
        assert_eq!((ended.code, ended.said), (Some(87), vec!["started".to_owned()]), "{}", ended.log);
        let world = container.github.world();
        assert_eq!(world.runners.get("fargate-1-1"), Some(&2), "the second one: {:?}", world.requests);
        assert_eq!(world.runners.len(), 1);
    }
}
