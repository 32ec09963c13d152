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

fn explored(name: &'static str, depth: usize, jobs: Vec<Job>, given: &[(sim::chance::Key, u8)]) {
    let began = std::time::Instant::now();
    let histories = holds(&scenario(name, depth, jobs, given));
    println!("{name}: {histories} histories in {:?}", began.elapsed());
}

#[test]
fn one_job() {
    explored("one job", 2, vec![job(1, 0)], &[]);
}

#[test]
fn one_job_whose_event_comes_twice() {
    for copies in [1, 3] {
        explored("twice", 2, vec![job(1, 0)], &[decision(1, Point::Bus, 0, copies)]);
    }
}

#[test]
fn one_job_whose_event_never_comes() {
    explored("never", 2, vec![job(1, 0)], &[decision(1, Point::Webhook, 0, 2)]);
}

#[test]
fn one_job_that_is_cancelled() {
    for seconds in [2, 30, 60] {
        let cancelled = Job { cancelled_after: Some(seconds * SECOND), ..job(1, 0) };
        explored("cancelled", 2, vec![cancelled], &[]);
    }
}

#[test]
fn one_job_whose_runner_dies() {
    for boot in 1..=7 {
        explored("dies", 2, vec![job(1, 0)], &[decision(1, Point::Boot, 0, boot)]);
    }
}

#[test]
fn two_jobs_that_take_each_others_runners() {
    explored("two", 1, vec![job(1, 0), job(2, 0)], &[]);
    explored("swapped", 2, vec![job(1, 0), job(2, 0)], &[decision(1, Point::Assign, 0, 1)]);
}

#[test]
fn a_job_with_fewer_labels_takes_the_runner_of_another() {
    let unique = Job { unique: true, ..job(1, 0) };
    explored("taken", 2, vec![unique, job(2, 1)], &[decision(1, Point::Assign, 0, 1)]);
}

#[test]
fn a_job_is_cancelled_whose_runner_has_another() {
    let cancelled = Job { cancelled_after: Some(50 * SECOND), ..job(2, 0) };
    explored("cancelled, taken", 2, vec![job(1, 0), cancelled], &[decision(1, Point::Assign, 0, 1)]);
}

#[test]
fn three_jobs() {
    let cancelled = Job { cancelled_after: Some(40 * SECOND), ..job(3, 1) };
    explored("three", 1, vec![job(1, 0), job(2, 1), cancelled], &[]);
}
