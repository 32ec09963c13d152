//! What runner classes promise, tried in long histories: a scene is a document, jobs, and what it must show.

use std::{fmt, sync::Arc};

use serde_json::{Value, json};

use super::{
    HOUR, MINUTE, Ms, SECOND,
    chance::{Chance, hash},
    classes::Setup,
    lambda::History,
    plan::{self, BIG, BIG_URGENT, DOCKER, Job, Plan, SEASON, SMALL},
    rates::Spells,
    world::{Settings, World},
};

/// SQS hands over as many messages at once: by so many a quota may be exceeded.
const BATCH: f64 = 10.0;

/// A scene.
pub struct Scene {
    pub name: &'static str,
    size: Size,
    setup: Setup,
    jobs: Vec<Job>,
    judge: fn(&World) -> Vec<Finding>,
}

/// What a scene shows: a number that must not be larger than another.
#[derive(Debug, Clone)]
pub struct Finding {
    what: &'static str,
    found: f64,
    most: f64,
    detail: String,
}

impl Finding {
    fn new(what: &'static str, found: f64, most: f64) -> Self {
        Finding { what, found, most, detail: String::new() }
    }

    fn with(self, detail: impl Into<String>) -> Self {
        Finding { detail: detail.into(), ..self }
    }

    pub fn holds(&self) -> bool {
        self.found <= self.most
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.holds() { "" } else { "  FAILS" };
        write!(f, "  {:<62} {:>9.2} (at most {}){verdict} {}", self.what, self.found, self.most, self.detail)
    }
}

/// How large a scene is: the small ones take seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    Small,
    Full,
}

impl Size {
    fn or<T>(self, small: T, full: T) -> T {
        if self == Size::Small { small } else { full }
    }
}

/// All of them.
pub fn all(size: Size) -> Vec<Scene> {
    vec![fair(size), priority(size), changing(size), docker(size), pool(size)]
}

impl Scene {
    /// Plays it: the history, and what it shows.
    pub fn play(self, seed: u64, settings: Settings) -> (History, Vec<Finding>) {
        let settings = Settings { classes: Some(Arc::new(self.setup)), ..settings };
        let mut history = History::new(Plan::These(self.jobs), Chance::seeded(seed), settings, seed);
        history.run(|_| {});
        let mut findings = (self.judge)(&history.world.borrow());
        findings.extend(always(&history.world.borrow(), self.size));
        (history, findings)
    }
}

/// What every scene must show.
fn always(world: &World, size: Size) -> Vec<Finding> {
    let (over, what) = world.seen.over.clone();
    let (stalled, class) = world.seen.stalled.clone();
    // Of few tasks, one that is told to be another's weighs more.
    let (wrong, repository) = world.seen.wrong_costs(world.now);
    vec![
        Finding::new("runners beyond a quota", f64::from(over), BATCH)
            .with(format!("{} times; {what}", world.seen.times_over)),
        Finding::new("minutes a class with room and jobs started none", minutes(stalled), 30.0).with(class),
        Finding::new("costs told by repository, beside the bill by, in %", wrong, size.or(5.0, 1.0))
            .with(repository),
    ]
}

fn minutes(time: Ms) -> f64 {
    time as f64 / MINUTE as f64
}

fn document(version: usize, classes: &Value) -> String {
    json!({ "version": version, "classes": classes }).to_string()
}

/// A job; it gets its number when all are there.
fn job(at: Ms, labels: u8, repository: u8, takes: Ms) -> Job {
    Job { number: 0, at, labels, repository, unique: false, takes, cancelled_after: None }
}

/// In order of time.
fn numbered(mut jobs: Vec<Job>) -> Vec<Job> {
    jobs.sort_by_key(|job| job.at);
    jobs.iter_mut().zip(1..).for_each(|(job, number)| job.number = number);
    jobs
}

/// The seconds from queued to RunTask of some jobs, in order.
fn waits(world: &World, jobs: impl Fn(&Job) -> bool) -> Vec<f64> {
    let its = |(job, at): (&u64, &Ms)| {
        let job = world.books.job(*job).filter(|it| jobs(&it.plan))?;
        Some((at - job.queued_at) as f64 / SECOND as f64)
    };
    let mut waits: Vec<f64> = world.seen.started.iter().filter_map(its).collect();
    waits.sort_by(f64::total_cmp);
    waits
}

/// Those that no runner ever had.
fn without_a_runner(world: &World) -> Finding {
    let without = (1..=world.stats.jobs).filter(|number| !world.seen.ran_on.contains_key(number));
    Finding::new("jobs without a runner", without.count() as f64, 0.0)
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or_default()
}

/// One repository queues thousands of jobs at once, another one a minute.
fn fair(size: Size) -> Scene {
    let (noisy, share, minutes) = size.or((200, 20, 40), (5_000, 150, 300));
    let classes = json!([{"name": "usual", "labels": ["fargate"], "max_runners_per_repository": share}]);
    let takes = |n: u64| MINUTE + hash(&[n, 1]) % (4 * MINUTE);
    let mut jobs: Vec<Job> = (0..noisy).map(|n| job(MINUTE + n * 10, 0, 0, takes(n))).collect();
    jobs.extend((0..minutes).map(|n| job(MINUTE + n * MINUTE + hash(&[n, 2]) % MINUTE, 0, 1, takes(n))));
    let judge = |world: &World| {
        let waits = waits(world, |job| job.repository == 1);
        let detail = format!(
            "of {}; half {:.1}, the longest {:.1}",
            waits.len(),
            percentile(&waits, 50),
            percentile(&waits, 100)
        );
        vec![
            Finding::new(
                "seconds to RunTask for one a minute, beside thousands, p99",
                percentile(&waits, 99),
                30.0,
            )
            .with(detail),
        ]
    };
    Scene {
        name: "fair",
        size,
        setup: Setup::new(vec![(0, document(1, &classes))]),
        jobs: numbered(jobs),
        judge,
    }
}

/// A hundred and more wait for a class that is full, and every twenty minutes a few come that may overtake.
fn priority(size: Size) -> Scene {
    let (most, rounds) = size.or((20, 4), (50, 6));
    let classes = json!([{"name": "big", "labels": ["big"], "max_runners": most, "high_priority_repositories": ["acme/app-9"],
        "high_priority_runner_group": 9}]);
    let takes = |n: u64| 4 * MINUTE + hash(&[n, 3]) % (4 * MINUTE);
    let length = rounds * 20 * MINUTE;
    // More than can be run, so that the line grows.
    let others = (length / (6 * MINUTE)) * most + 100;
    let mut jobs: Vec<Job> = (0..others).map(|n| job(n * length / others / 2, BIG, 0, takes(n))).collect();
    for round in 0..rounds {
        let at = 15 * MINUTE + round * 20 * MINUTE;
        jobs.extend(
            (0..most / 5)
                .map(|n| job(at + n * SECOND, if n % 2 == 0 { BIG_URGENT } else { BIG }, 9, takes(n))),
        );
    }
    let judge = |world: &World| {
        let never = Ms::MAX;
        let start = |number: u64| world.seen.started.get(&number).copied().unwrap_or(never);
        let of = |urgent: bool| {
            let jobs = (1..=world.stats.jobs).filter_map(|number| world.books.job(number));
            jobs.map(|it| it.plan).filter(move |job| (job.repository == 9) == urgent)
        };
        let is_other = |number: u64| world.books.job(number).is_some_and(|it| it.plan.repository != 9);
        let (mut waiting, mut first) = (0, 0);
        for urgent in of(true) {
            let begins = world.seen.ran_on.get(&urgent.number).copied().unwrap_or(never);
            waiting += of(false).filter(|it| it.at <= urgent.at && start(it.number) > urgent.at).count();
            let meanwhile = world.seen.launches.iter().filter(|(at, _)| (urgent.at..begins).contains(at));
            first += meanwhile.filter(|(_, job)| is_other(*job)).count();
        }
        let (count, waiting) = (of(true).count() as f64, waiting as f64);
        let waits = waits(world, |job| job.repository == 9);
        let detail = format!("of {waiting:.0}; an urgent one waits {:.0} s, p99", percentile(&waits, 99));
        let share = first as f64 * 100.0 / waiting;
        vec![
            Finding::new("of those that waited before a high priority, first, in %", share, 1.0).with(detail),
            Finding::new("fewer than a hundred waiting, on average", 100.0 - waiting / count, 0.0),
        ]
    };
    let mut setup = Setup::new(vec![(0, document(1, &classes))]);
    setup.groups = [(9, ["acme/app-9".to_owned()].into())].into();
    Scene { name: "priority", size, setup, jobs: numbered(jobs), judge }
}

/// Every hour another document, and bad ones in between, while jobs of five kinds come.
fn changing(size: Size) -> Scene {
    let (hours, per_hour) = size.or((4, 120), (24, 1_200));
    let classes = |hour: u64| {
        let more = hash(&[hour, 4]) % 3;
        let mut classes = json!([
            {"name": "usual", "labels": ["fargate"], "max_runners": per_hour / 8 + 40 * more, "max_runners_per_repository": per_hour / 12},
            {"name": "big", "labels": ["big"], "default_size": {"cpu": 4096, "memory": 16384}, "task_definition": "big-runner",
             "capacity": ["FARGATE_SPOT", "FARGATE"], "idle_timeout_seconds": 600 + 300 * more,
             "max_runners": per_hour / 16, "high_priority_repositories": ["acme/app-2"]},
            {"name": "small", "labels": ["small"], "capacity": ["FARGATE"], "largest_size": {"cpu": 1024 << more}},
        ]);
        // One comes and goes, and one changes its place and its name.
        if hour % 2 == 1 {
            classes.as_array_mut().expect("a list").push(json!({"name": "season", "labels": ["season"]}));
        }
        if hour % 3 == 2 {
            classes.as_array_mut().expect("a list").rotate_left(1);
        }
        classes
    };
    let mut documents = Vec::new();
    for hour in 0..hours {
        documents.push((hour * HOUR, document(hour as usize + 1, &classes(hour))));
        let bad = [
            "{".to_owned(),
            document(0, &json!([{"name": "big", "labels": ["cpu=4"]}])),
            document(0, &json!([{"name": "a", "labels": ["big"]}, {"name": "b", "labels": ["big"]}])),
        ];
        documents.push((hour * HOUR + 20 * MINUTE, bad[(hour % 3) as usize].clone()));
        documents.push((hour * HOUR + 45 * MINUTE, document(hour as usize + 1, &classes(hour))));
    }
    let jobs = (0..hours * per_hour).map(|n| {
        let at = n * HOUR / per_hour;
        let draw = |what: u64| hash(&[n, what, 5]);
        // Nobody asks for what is about to go.
        let is_season = (at / HOUR) % 2 == 1 && (5..30).contains(&(at / MINUTE % 60));
        let labels = match draw(1) % 100 {
            0..10 if is_season => SEASON,
            0..50 => 0,
            50..60 => plan::SPOT,
            60..80 => BIG,
            _ => SMALL,
        };
        job(at, labels, (draw(2) % 4) as u8, 15 * SECOND + draw(3) % (12 * MINUTE))
    });
    let judge = |world: &World| {
        let waits = waits(world, |_| true);
        vec![without_a_runner(world).with(format!(
            "wait for RunTask: half {:.1} s, p99 {:.0} s",
            percentile(&waits, 50),
            percentile(&waits, 99)
        ))]
    };
    let mut setup = Setup::new(documents);
    setup.definitions = vec!["big-runner"];
    Scene { name: "changing", size, setup, jobs: numbered(jobs.collect()), judge }
}

/// Instances have no room for half an hour, and then minutes pass until one has started.
fn docker(size: Size) -> Scene {
    let classes = json!([
        {"name": "usual", "labels": ["fargate"]},
        {"name": "docker", "labels": ["docker"], "capacity": ["managed-instances"], "task_definition": "docker-runner"},
    ]);
    let count = size.or(12, 400);
    let jobs = (0..count).map(|n| job(n * 20 * SECOND, if n % 3 == 0 { DOCKER } else { 0 }, 0, 3 * MINUTE));
    let judge = |world: &World| {
        let attempts = |number: u64| world.books.job(number).map_or(0, |it| it.started);
        let several = (1..=world.stats.jobs).filter(|number| attempts(*number) > 1).count();
        let waits = waits(world, |job| job.labels == DOCKER);
        vec![
            without_a_runner(world)
                .with(format!("the longest wait for RunTask: {:.0} s", percentile(&waits, 100))),
            Finding::new(
                "jobs with several runners, in %",
                several as f64 * 100.0 / world.stats.jobs as f64,
                3.0,
            ),
        ]
    };
    let mut setup = Setup::new(vec![(0, document(1, &classes))]);
    setup.definitions = vec!["docker-runner"];
    setup.no_instance = Spells::During { from: 0, until: 30 * MINUTE };
    setup.provisioning = (11 * MINUTE, 17 * MINUTE);
    Scene { name: "docker", size, setup, jobs: numbered(jobs.collect()), judge }
}

/// A working day of some hundred developers that suits a pool of ten: while a runner that was taken is replaced, which takes
/// about a minute, six or seven jobs come; and they run for long enough that what waits for them is little beside.
fn pool(size: Size) -> Scene {
    let classes = json!([{"name": "big", "labels": ["big"], "pool": {"size": 0, "schedule": [
        {"from": "08:00", "to": "17:00", "size": 10}, {"from": "07:00", "to": "18:00", "size": 4}]}}]);
    // Jobs in each hour of the day, in percent of the busiest.
    let day: [u64; 24] =
        [1, 1, 1, 1, 1, 2, 5, 30, 70, 95, 100, 90, 60, 85, 95, 100, 80, 50, 8, 4, 3, 2, 1, 1];
    let (busiest, hours) = (450, size.or(8..11, 0..24));
    let mut jobs = Vec::new();
    for hour in hours {
        let count = day[hour as usize] * busiest / 100;
        jobs.extend((0..count).map(|n| {
            let draw = |what: u64| hash(&[hour, n, what, 6]);
            // From two minutes to half an hour.
            job(hour * HOUR + draw(1) % HOUR, BIG, (draw(2) % 3) as u8, 2 * MINUTE + draw(3) % (28 * MINUTE))
        }));
    }
    let judge = |world: &World| {
        let seen = &world.seen;
        let [hits, misses] = seen.hits;
        vec![
            Finding::new(
                "jobs that found no runner ready, in %",
                misses as f64 * 100.0 / (hits + misses) as f64,
                20.0,
            ),
            Finding::new("of the spend idle, in %", seen.idle as f64 * 100.0 / seen.spent as f64, 5.0)
                .with(format!("{:.0} runner-hours in all", seen.spent as f64 / HOUR as f64)),
        ]
    };
    Scene {
        name: "pool",
        size,
        setup: Setup::new(vec![(0, document(1, &classes))]),
        jobs: numbered(jobs),
        judge,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{check::Kind, planted::Planted};

    /// The small version of a scene, as calm as can be, or with all that goes wrong.
    fn shows(name: &str, faults: u32) {
        shows_at(Size::Small, name, faults);
    }

    fn shows_at(size: Size, name: &str, faults: u32) {
        let scene = all(size).into_iter().find(|scene| scene.name == name).expect("a scene");
        let settings = Settings { faults, stop_at_violation: false, ..Settings::default() };
        let (history, findings) = scene.play(1, settings);
        findings.iter().for_each(|finding| println!("{finding}"));
        let world = history.world.borrow();
        assert!(world.checks.violations.is_empty(), "{:?}", world.checks.violations);
        let failing: Vec<&str> =
            findings.iter().filter(|it| !it.holds()).map(|finding| finding.what).collect();
        assert_eq!(failing, [""; 0]);
    }

    #[test]
    fn hundreds_of_one_repository_do_not_hold_up_another_s_one() {
        shows("fair", 0);
    }

    #[test]
    fn high_priority_overtakes_those_that_wait() {
        shows("priority", 100);
    }

    #[test]
    fn documents_that_change_and_bad_ones_harm_nobody() {
        shows("changing", 100);
    }

    #[test]
    fn a_pool_that_suits_the_day_is_ready_and_seldom_idle() {
        shows("pool", 0);
        shows("pool", 100);
    }

    #[test]
    fn instances_that_have_no_room_and_start_slowly_are_waited_for() {
        shows("docker", 100);
        // In this one a task waits for its instance for 18 minutes, long after its job is over, and then another has its runner.
        shows_at(Size::Full, "docker", 100);
    }

    /// Such a task is left in peace for half an hour, and not longer.
    #[test]
    fn a_task_that_waits_for_an_instance_for_ever_is_found() {
        for (planted, is_found) in [(Planted::Nothing, false), (Planted::NoStop, true)] {
            let mut scene = docker(Size::Small);
            (scene.setup.no_instance, scene.setup.provisioning) = (Spells::Never, (3 * HOUR, 4 * HOUR));
            scene.jobs = numbered(vec![job(0, DOCKER, 0, MINUTE)]);
            scene.jobs[0].cancelled_after = Some(MINUTE);
            let settings = Settings { faults: 0, planted, ..Settings::default() };
            let (history, _) = scene.play(1, settings);
            let world = history.world.borrow();
            let found: Vec<(Kind, bool)> = world
                .checks
                .violations
                .iter()
                .map(|it| (it.kind, (30 * MINUTE..50 * MINUTE).contains(&it.at)))
                .collect();
            let want = if is_found { vec![(Kind::Leaked, true)] } else { vec![] };
            assert_eq!(found, want, "{:?}", world.checks.violations);
        }
    }
}
