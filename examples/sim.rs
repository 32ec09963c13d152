//! `make sim`: a long history in which everything goes wrong, and whether the promise held.
#![forbid(unsafe_code)]

use std::{collections::BTreeSet, process::ExitCode, time::Instant};

#[allow(dead_code, unused_imports, reason = "the tests use all of it")]
#[path = "../tests/it/model/mod.rs"]
mod model;
#[allow(dead_code, reason = "the tests use one half of it, this the other")]
#[path = "../tests/it/sim/mod.rs"]
mod sim;

use gha_fargate_runners::lambda::metric::Metric;
use sim::{
    chance::Chance,
    explore,
    lambda::History,
    older::Older,
    plan::Plan,
    planted,
    rates::Rates,
    scenarios,
    scenes::{self, Size},
    shrink,
    world::{Settings, World},
    wrong_reruns,
};

/// A history is mostly facts that are copied and dropped: it takes two thirds of the time with this one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "\
Simulates a fleet, and checks that no job is lost, doubled or left behind.

  --jobs N       how many jobs come (100000)
  --seed N       the same seed gives the same history, to the byte (1)
  --per-hour N   jobs an hour, on average (2000)
  --mode NAME    dispatcher-minted or container-minted (dispatcher-minted)
  --pool N       WARM_POOL_SIZE (0)
  --apps N       how many Apps there are to ask GitHub as (1)
  --author       the function author is there: jobs that went with their runner run again (see --rate spot=N)
  --faults N     how much goes wrong, in percent of the usual (100)
  --harder       what other fleets have met happens too, and oftener than they tell of
  --rate NAME=N  how often one thing goes wrong (tests/it/sim/rates.rs has the names); may be given several times
  --older NAME   that function is of the release before: webhook, dispatch, reconcile; or turns: of each every other
                 process; may be given several times
  --scene NAME   a history with runner classes, and what it must show (all, or one of tests/it/sim/scenes.rs)
  --small        the scene as the tests have it, in seconds
  --tell N       what happens to job N, too; may be given several times
  --plot FILE    jobs waiting and runners live over time, as SVG (sim.svg)
  --exhaustive   every two things that can go wrong in small histories, instead of a long one
  --planted      what the checks say when a rule of the protocol is broken, for each rule
  --costs        calls a job at 1,000, 10,000 and 100,000 jobs an hour, and which limit is reached first; at --per-hour
                 alone, if that is given; with --mode container-minted, --harder or --rate those of the history
";

struct Arguments {
    jobs: u64,
    seed: u64,
    per_hour: Option<u64>,
    container_minted: bool,
    pool: u32,
    apps: usize,
    author: bool,
    faults: u32,
    harder: bool,
    rates: Vec<String>,
    older: Older,
    scene: Option<String>,
    small: bool,
    tell: BTreeSet<u64>,
    plot: Option<String>,
    planted: bool,
    exhaustive: bool,
    costs: bool,
}

impl Arguments {
    fn per_hour(&self) -> u64 {
        self.per_hour.unwrap_or(2_000)
    }

    /// Those, with what was given.
    fn rates(&self, mut rates: Rates) -> Rates {
        for setting in &self.rates {
            rates.set(setting);
        }
        rates
    }
}

fn arguments() -> Result<Arguments, String> {
    let mut arguments = Arguments {
        jobs: 100_000,
        seed: 1,
        per_hour: None,
        container_minted: false,
        pool: 0,
        apps: 1,
        author: false,
        faults: 100,
        harder: false,
        rates: Vec::new(),
        older: Older::None,
        scene: None,
        small: false,
        tell: BTreeSet::new(),
        plot: Some("sim.svg".to_owned()),
        planted: false,
        exhaustive: false,
        costs: false,
    };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let mut value = || given.next().ok_or(format!("{name} needs a value\n\n{USAGE}"));
        let number = |text: String| text.parse().map_err(|_| format!("{text:?} is no number\n\n{USAGE}"));
        match name.as_str() {
            "--jobs" => arguments.jobs = number(value()?)?,
            "--seed" => arguments.seed = number(value()?)?,
            "--per-hour" => arguments.per_hour = Some(number(value()?)?),
            "--mode" => {
                arguments.container_minted = match value()?.as_str() {
                    "dispatcher-minted" => false,
                    "container-minted" => true,
                    name => return Err(format!("no mode: {name}\n\n{USAGE}")),
                }
            }
            "--pool" => arguments.pool = number(value()?)? as u32,
            "--apps" => arguments.apps = number(value()?)? as usize,
            "--author" => arguments.author = true,
            "--faults" => arguments.faults = number(value()?)? as u32,
            "--harder" => arguments.harder = true,
            "--rate" => {
                let setting = value()?;
                Rates::default().set(&setting).ok_or(format!("no rate: {setting}\n\n{USAGE}"))?;
                arguments.rates.push(setting);
            }
            "--older" => {
                let name = value()?;
                arguments.older.add(&name).ok_or(format!("no function: {name}\n\n{USAGE}"))?;
            }
            "--scene" => arguments.scene = Some(value()?),
            "--small" => arguments.small = true,
            "--tell" => drop(arguments.tell.insert(number(value()?)?)),
            "--plot" => arguments.plot = Some(value()?),
            "--exhaustive" => arguments.exhaustive = true,
            "--planted" => arguments.planted = true,
            "--costs" => arguments.costs = true,
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(arguments)
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(usage) => {
            eprint!("{usage}");
            return ExitCode::from(2);
        }
    };
    if arguments.planted {
        return plant();
    }
    if arguments.exhaustive {
        return exhaust();
    }
    if let Some(name) = &arguments.scene {
        return play(name, &arguments);
    }
    // Where the containers mint, or things go wrong, those of one history.
    let has_faults = arguments.harder || !arguments.rates.is_empty();
    if arguments.costs && !arguments.container_minted && !has_faults {
        let loads: &[(u64, u64)] = match arguments.per_hour {
            None => &[(1_000, 2_000), (10_000, 10_000), (100_000, 50_000)],
            Some(per_hour) => &[(per_hour, arguments.jobs)],
        };
        print!("{}", sim::report::costs(loads, arguments.apps));
        return ExitCode::SUCCESS;
    }
    simulate(&arguments)
}

fn simulate(arguments: &Arguments) -> ExitCode {
    let Arguments { jobs, seed, .. } = *arguments;
    let per_hour = arguments.per_hour();
    let settings = Settings {
        stop_at_violation: false,
        container_minted: arguments.container_minted,
        pool: arguments.pool,
        apps: arguments.apps,
        author: arguments.author,
        faults: arguments.faults,
        rates: arguments.rates(if arguments.harder { Rates::harder() } else { Rates::default() }),
        older: arguments.older,
        telling: !arguments.tell.is_empty(),
        tell_only: arguments.tell.clone(),
        ..Settings::default()
    };
    let plan = Plan::Seeded { seed, jobs, per_hour, from: 1 };
    let mut history = History::new(plan, Chance::seeded(seed), settings.clone(), seed);
    let began = Instant::now();
    let mut shown = Instant::now();
    history.run(|world| {
        if shown.elapsed().as_secs() >= 5 {
            shown = Instant::now();
            eprintln!(
                "{} of {jobs} jobs, {} waiting, {} runners, {} s",
                world.stats.jobs,
                world.github.queued_count(),
                world.ecs.unstopped().len(),
                began.elapsed().as_secs(),
            );
        }
    });
    let world = history.world.borrow();
    if let Some(path) = &arguments.plot {
        match std::fs::write(path, world.stats.plot()) {
            Ok(()) => println!("jobs waiting and runners live over time: {path}"),
            Err(error) => eprintln!("{path}: {error}"),
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    print!("{}", world.table());
    if arguments.costs {
        println!("\n{}", world.stats.kinds());
    }
    println!("  {:<34} {seconds:>14.1}", "seconds");
    println!("  {:<34} {:>14.0}", "jobs simulated a second", jobs as f64 / seconds.max(0.001));
    println!();
    for violation in &world.checks.violations {
        println!("{}, job {}: {}", violation.kind, violation.job, violation.text);
    }
    if let Some(violation) = world.checks.violations.first().filter(|_| arguments.tell.is_empty()) {
        match shrink::from_seed(seed, per_hour, &settings, violation) {
            Some(failing) => {
                println!("The shortest history found that does the same:\n{}", failing.shrink().story())
            }
            None => println!("No shorter history was found: --tell {} tells this one.", violation.job),
        }
    }
    print_story(&world);
    println!("{}", world.verdict());
    println!("digest={:016x}", world.digest.0);
    if world.checks.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What happened to the jobs that were asked for.
fn print_story(world: &World) {
    for (at, _, line) in &world.lines {
        println!("  {:>10.1} {line}", *at as f64 / 1_000.0);
    }
}

fn play(name: &str, arguments: &Arguments) -> ExitCode {
    let mut failures = 0;
    let size = if arguments.small { Size::Small } else { Size::Full };
    for scene in scenes::all(size).into_iter().filter(|scene| name == "all" || name == scene.name) {
        let (name, began) = (scene.name, Instant::now());
        let settings = Settings {
            stop_at_violation: false,
            apps: arguments.apps,
            faults: arguments.faults,
            rates: arguments.rates(Rates::default()),
            telling: !arguments.tell.is_empty(),
            tell_only: arguments.tell.clone(),
            ..Settings::default()
        };
        let (history, findings) = scene.play(arguments.seed, settings);
        let world = history.world.borrow();
        print_story(&world);
        let hours = world.now / sim::HOUR;
        println!(
            "{name}: {} jobs in {hours} hours, {:.1} s",
            world.stats.jobs,
            began.elapsed().as_secs_f64()
        );
        let counts = [Metric::Started, Metric::Replaced, Metric::Retired]
            .map(|metric| world.stats.metrics.get(&metric).copied().unwrap_or_default());
        println!("  runners started {}, replaced {}, retired {}", counts[0], counts[1], counts[2]);
        for finding in &findings {
            println!("{finding}");
        }
        for violation in &world.checks.violations {
            println!("  {}, job {}: {}", violation.kind, violation.job, violation.text);
        }
        println!("  {} digest={:016x}", world.verdict(), world.digest.0);
        failures +=
            findings.iter().filter(|finding| !finding.holds()).count() + world.checks.violations.len();
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn exhaust() -> ExitCode {
    let mut failures = 0;
    for scenario in scenarios::all(true).into_iter().chain(wrong_reruns::scenarios(true)) {
        let began = Instant::now();
        let (histories, failing) = explore::shortest(&scenario);
        println!("{histories:>8} histories, {:>5.1} s: {}", began.elapsed().as_secs_f64(), scenario.name);
        if let Some(failing) = failing {
            failures += 1;
            println!("{}", failing.story());
        }
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn plant() -> ExitCode {
    let mut missed = 0;
    for (fault, name) in planted::ALL.into_iter().chain(planted::CONTAINER_MINTED) {
        println!("{name}:");
        match planted::catch(fault) {
            Some(failing) => println!("{}", failing.story()),
            None => {
                missed += 1;
                println!("    NOT CAUGHT");
            }
        }
    }
    for (wrong, name) in wrong_reruns::ALL {
        println!("{name}:");
        match wrong_reruns::catch(wrong) {
            Some(failing) => println!("{}", failing.story()),
            None => {
                missed += 1;
                println!("    NOT CAUGHT");
            }
        }
    }
    let planted = planted::ALL.len() + planted::CONTAINER_MINTED.len() + wrong_reruns::ALL.len();
    println!("{planted} planted, {} caught", planted - missed);
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
