//! `make sim`
#[path = "../tests/sim/mod.rs"]
mod sim;

use sim::{chance::Chance, lambda::History, plan::Plan, world::Settings};

fn main() {
    let jobs = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(1000);
    let seed = std::env::args().nth(2).and_then(|a| a.parse().ok()).unwrap_or(1);
    let plan = Plan::Seeded {
        seed,
        jobs,
        per_hour: std::env::args().nth(3).and_then(|a| a.parse().ok()).unwrap_or(3600),
        from: 1,
    };
    let settings = Settings { stop_at_violation: false, telling: jobs <= 5000, ..Settings::default() };
    let mut history = History::new(plan, Chance::seeded(seed), settings, seed);
    history.run(|_| {});
    let world = history.world.borrow();
    print!("{}", world.table());
    for v in world.checks.violations.iter().take(3) {
        println!("{} job {} at {}: {}", v.kind, v.job, v.at, v.text);
        for (at, job, line) in &world.lines {
            if *job == v.job {
                println!("   {:>10.1} {line}", *at as f64 / 1000.0);
            }
        }
    }
    println!("{}", world.verdict());
    println!("digest={:016x}", world.digest.0);
}
