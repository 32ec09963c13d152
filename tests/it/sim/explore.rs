//! All histories near a plan: everything that can go wrong once, and every two things that can.

use std::{collections::VecDeque, sync::Mutex, thread};

use super::{
    chance::{Chance, Script},
    check::Violation,
    lambda::History,
    plan::{Job, Plan},
    shrink::Failing,
    world::Settings,
};

/// A small history, told as it should go, and how much may go wrong in it.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub name: &'static str,
    pub jobs: Vec<Job>,
    /// What goes wrong in any case.
    pub given: Script,
    /// How many things more may go wrong at a time.
    pub depth: usize,
    pub settings: Settings,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    pub histories: u64,
    /// The shortest script with each violation, at most a few.
    pub failures: Vec<(Script, Violation)>,
}

/// One history by script.
pub fn run(jobs: &[Job], script: &Script, settings: &Settings, watch: bool) -> History {
    let mut chance = Chance::scripted(script.clone(), None);
    if watch {
        chance.watch();
    }
    let mut history = History::new(Plan::These(jobs.to_vec()), chance, settings.clone(), 0);
    history.run(|_| {});
    history
}

/// Runs them all, on two threads. Stops at the first few failures.
pub fn explore(scenario: &Scenario) -> Found {
    let queue = Mutex::new((VecDeque::from([(scenario.given.clone(), None::<usize>, 0_usize)]), 0_usize));
    let found = Mutex::new(Found::default());
    let worker = || {
        loop {
            let next = {
                let mut queue = queue.lock().expect("no panic");
                let next = queue.0.pop_front();
                if next.is_some() {
                    queue.1 += 1;
                }
                (next, queue.1)
            };
            let (script, last, depth) = match next {
                (Some(next), _) => next,
                (None, 0) => break,
                (None, _) => {
                    thread::yield_now();
                    continue;
                }
            };
            let more = depth < scenario.depth;
            let history = run(&scenario.jobs, &script, &scenario.settings, more);
            let mut world = history.world.borrow_mut();
            let seen = world.chance.seen();
            let violation = world.checks.violations.first().cloned();
            let stop = {
                let mut found = found.lock().expect("no panic");
                found.histories += 1;
                let is_bad = violation.is_some();
                if let Some(violation) = violation {
                    found.failures.push((script.clone(), violation));
                }
                is_bad || found.failures.len() >= 3
            };
            let mut queue = queue.lock().expect("no panic");
            if stop {
                // What follows from a failure is a failure as well.
                if found.lock().expect("no panic").failures.len() >= 3 {
                    queue.0.clear();
                }
            } else if more {
                // Only what comes after the last deviation: the order of two does not make another history.
                for (index, (key, choices)) in seen.iter().enumerate() {
                    if last.is_some_and(|last| index <= last) || script.contains_key(key) {
                        continue;
                    }
                    for &choice in choices {
                        let mut next = script.clone();
                        next.insert(*key, choice);
                        queue.0.push_back((next, Some(index), depth + 1));
                    }
                }
            }
            queue.1 -= 1;
        }
    };
    thread::scope(|scope| {
        scope.spawn(worker);
        worker();
    });
    let mut found = found.into_inner().expect("no panic");
    found.failures.sort_by_key(|(script, _)| script.len());
    found
}

/// The shortest failing history near a scenario, if there is one; and how many histories were tried.
pub fn shortest(scenario: &Scenario) -> (u64, Option<Failing>) {
    let found = explore(scenario);
    let failing = found.failures.first().map(|(script, violation)| Failing {
        jobs: scenario.jobs.clone(),
        script: script.clone(),
        latencies: None,
        settings: scenario.settings.clone(),
        kind: violation.kind,
    });
    (found.histories, failing.map(Failing::shrink))
}
