//! The promise, tried: every history near a few small plans, with everything that can go wrong in it.
#![forbid(unsafe_code)]

mod sim;

use sim::{
    MINUTE, SECOND,
    chance::{Chance, Point, Script},
    explore::{Scenario, decision, explore},
    lambda::History,
    plan::{Job, Plan},
    planted,
    shrink::Failing,
    world::Settings,
};

fn job(number: u64, labels: u8) -> Job {
    Job { number, at: number * 10 * SECOND, labels, unique: false, takes: 2 * MINUTE, cancelled_after: None }
}

/// Explores, and tells the shortest failing history.
fn holds(scenario: &Scenario) -> u64 {
    let found = explore(scenario);
    if let Some((script, violation)) = found.failures.first() {
        let failing = Failing {
            jobs: scenario.jobs.clone(),
            script: script.clone(),
            latencies: None,
            settings: scenario.settings.clone(),
            kind: violation.kind,
        };
        panic!("{}: {}\n{}", scenario.name, violation.text, failing.shrink().story());
    }
    found.histories
}

fn scenario(name: &'static str, depth: usize, jobs: Vec<Job>, given: &[(sim::chance::Key, u8)]) -> Scenario {
    Scenario { name, jobs, given: given.iter().copied().collect(), depth, settings: Settings::default() }
}

#[test]
fn timing() {
    for depth in [0, 1, 2] {
        let began = std::time::Instant::now();
        let histories = holds(&scenario("one job", depth, vec![job(1, 0)], &[]));
        eprintln!("depth {depth}: {histories} in {:?}", began.elapsed());
    }
    let _ = (decision as fn(_, _, _, _) -> _, Point::Mint, Script::new(), planted::ALL);
    let _ = (Plan::These(vec![]), Chance::seeded(1), std::any::type_name::<History>());
}
