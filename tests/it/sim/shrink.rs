//! The shortest history that still fails, and its story.

use std::fmt::Write as _;

use super::{
    MINUTE, Ms, SECOND,
    chance::{Chance, Key, Point, Script},
    check::{Kind, Violation},
    lambda::History,
    plan::{self, Job, Plan},
    requests::fate,
    world::Settings,
};

/// A history that fails.
#[derive(Debug, Clone)]
pub struct Failing {
    pub jobs: Vec<Job>,
    pub script: Script,
    /// Of the latencies; `None` when all are the same.
    pub latencies: Option<u64>,
    pub settings: Settings,
    pub kind: Kind,
}

/// One way to make a history simpler.
type Simplification = Box<dyn Fn(&mut Failing)>;

impl Failing {
    fn run(&self, telling: bool) -> History {
        let chance = Chance::scripted(self.script.clone(), self.latencies);
        let settings = Settings { telling, stop_at_violation: true, ..self.settings.clone() };
        let seed = self.latencies.unwrap_or_default();
        let mut history = History::new(Plan::These(self.jobs.clone()), chance, settings, seed);
        history.run(|_| {});
        history
    }

    /// Whether it fails in the same way.
    pub fn fails(&self) -> bool {
        let history = self.run(false);
        let world = history.world.borrow();
        world.checks.violations.first().is_some_and(|violation| violation.kind == self.kind)
    }

    /// Leaves out jobs and decisions as long as it still fails.
    pub fn shrink(mut self) -> Self {
        let mut budget = 3_000;
        loop {
            let before = (self.jobs.len(), self.script.len());
            self.leave_out(&mut budget, |it| it.jobs.len(), |it, from, to| drop(it.jobs.drain(from..to)));
            self.leave_out(
                &mut budget,
                |it| it.script.len(),
                |it, from, to| {
                    let keys: Vec<Key> = it.script.keys().copied().skip(from).take(to - from).collect();
                    for key in keys {
                        it.script.remove(&key);
                    }
                },
            );
            if (self.jobs.len(), self.script.len()) == before || budget == 0 {
                break;
            }
        }
        self.simplify();
        self
    }

    /// Leaves out runs of `length` things, ever shorter ones.
    fn leave_out(
        &mut self,
        budget: &mut u32,
        length: impl Fn(&Self) -> usize,
        remove: impl Fn(&mut Self, usize, usize),
    ) {
        let mut chunk = length(self).div_ceil(2).max(1);
        loop {
            let mut from = 0;
            while from < length(self) && *budget > 0 {
                let to = (from + chunk).min(length(self));
                let mut shorter = self.clone();
                remove(&mut shorter, from, to);
                *budget -= 1;
                if !shorter.jobs.is_empty() && shorter.fails() {
                    *self = shorter;
                } else {
                    from = to;
                }
            }
            if chunk == 1 || *budget == 0 {
                break;
            }
            chunk = chunk.div_ceil(2);
        }
    }

    /// Plain latencies, plain jobs, numbers from 1, and a beginning at noon.
    fn simplify(&mut self) {
        let mut attempts: Vec<Simplification> = vec![
            Box::new(|it| it.latencies = None),
            Box::new(|it| it.jobs.iter_mut().for_each(|job| job.unique = false)),
            Box::new(|it| {
                let first = it.jobs[0].at;
                it.jobs.iter_mut().for_each(|job| job.at -= first);
            }),
            Box::new(|it| it.jobs.iter_mut().for_each(|job| job.at = job.at / SECOND * SECOND)),
            Box::new(|it| {
                for (at, job) in (0..).zip(&mut it.jobs) {
                    job.at = at * 10 * SECOND;
                }
            }),
        ];
        for index in 0..self.jobs.len() {
            attempts.push(Box::new(move |it| it.jobs[index].cancelled_after = None));
            attempts.push(Box::new(move |it| it.jobs[index].labels = 0));
            attempts.push(Box::new(move |it| it.jobs[index].takes = MINUTE));
        }
        for attempt in attempts {
            let mut simpler = self.clone();
            attempt(&mut simpler);
            if simpler.fails() {
                *self = simpler;
            }
        }
        let mut renumbered = self.clone();
        let numbers: Vec<u64> = renumbered.jobs.iter().map(|job| job.number).collect();
        let served = |number: u64| numbers.iter().position(|it| *it == number).map_or(0, |i| i as u64 + 1);
        let new = |number: u64| number - plan::origin(number) + served(plan::origin(number));
        renumbered.jobs.iter_mut().for_each(|job| job.number = new(job.number));
        renumbered.script =
            self.script.iter().map(|(key, choice)| (Key { job: new(key.job), ..*key }, *choice)).collect();
        if renumbered.fails() {
            *self = renumbered;
        }
    }

    /// What happens in it, line by line, and how to run it again.
    pub fn story(&self) -> String {
        let history = self.run(true);
        let world = history.world.borrow();
        let mut story = String::new();
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        let _ = writeln!(
            story,
            "{} job{}, {} thing{} that went wrong:",
            self.jobs.len(),
            plural(self.jobs.len()),
            self.script.len(),
            plural(self.script.len())
        );
        for (key, choice) in &self.script {
            let _ = writeln!(story, "    given {}", describe(key, *choice));
        }
        for (at, _, line) in &world.lines {
            let _ = writeln!(story, "    {} {line}", clock(*at));
        }
        story
    }
}

/// Minutes, seconds and tenths.
fn clock(at: Ms) -> String {
    format!("{:>4}:{:02}.{}", at / MINUTE, at / SECOND % 60, at / 100 % 10)
}

/// One decision in words.
pub fn describe(key: &Key, choice: u8) -> String {
    let nth = key.nth + 1;
    let whose = if key.job == 0 { String::new() } else { format!(" of job {}", key.job) };
    let what = match key.point {
        Point::Webhook => ["", "comes twice", "never comes", "is late", "is not answered", "is very late"]
            .get(usize::from(choice))
            .copied()
            .unwrap_or("goes wrong"),
        Point::Bus => "is delivered twice, or late",
        Point::Receive => "comes again although it was deleted",
        Point::Boot => [
            "",
            "fails to start",
            "exits 0 without having run",
            "is interrupted early",
            "hangs",
            "is slow to connect",
            "is interrupted when it connects",
            "is interrupted later",
            "cannot pull its image",
            "finds no address",
            "is refused",
            "is broken",
            "finds no token",
            "is killed",
        ]
        .get(usize::from(choice))
        .copied()
        .unwrap_or("goes wrong"),
        Point::ListLag => "is not listed for 40 s",
        Point::Supply => "is dry",
        Point::Assign => "goes to another",
        Point::Acquire if choice == 2 => "is lost by the runner, and its registration with it",
        Point::Acquire => "is lost by the runner",
        Point::Matrix => {
            ["", "is a matrix with fail-fast", "is a matrix"].get(usize::from(choice)).copied().unwrap_or("?")
        }
        Point::Failure => "fails by itself",
        Point::TakenBack => super::runs::TAKEN_BACK.get(usize::from(choice)).copied().unwrap_or("?"),
        Point::Person => "is run again by a person",
        Point::Taker => "is there: a job that is not served takes its runner",
        Point::Silence => "is there: GitHub does not say what it knows",
        Point::Status => "is one that nobody knows",
        Point::Seems if choice == 2 => "is offline for a minute",
        Point::Seems => "is idle for a while, although it works",
        Point::Unlisted => "is there: lists do not show its runner for a minute",
        Point::HeldBack => "is there: it is held back until somebody approves",
        Point::Unheard => "is there: its webhook is never sent",
        Point::Exit => "does not happen",
        Point::StoppedEvent => {
            ["", "comes twice", "never comes", "is late", "comes after ECS forgot the task"]
                .get(usize::from(choice))
                .copied()
                .unwrap_or("goes wrong")
        }
        Point::Schedule => ["", "is left out", "runs twice"].get(usize::from(choice)).copied().unwrap_or("?"),
        _ => fate::describe(choice),
    };
    format!("{:?} no. {nth}{whose} {what}", key.point)
}

/// Looks for a short history that fails like the long one of that seed did.
pub fn from_seed(seed: u64, per_hour: u64, settings: &Settings, violation: &Violation) -> Option<Failing> {
    let all = Plan::Seeded { seed, jobs: plan::origin(violation.job).max(1) + 3_000, per_hour, from: 1 };
    let mut jobs = Vec::new();
    let mut last = None;
    while let Some(job) = all.next(last.as_ref()) {
        jobs.push(job);
        last = Some(job);
    }
    let index = usize::try_from(plan::origin(violation.job).saturating_sub(1)).unwrap_or(0);
    for (before, after) in [(100, 20), (400, 100), (3_000, 1_000), (20_000, 3_000)] {
        let window: Vec<Job> =
            jobs.iter().skip(index.saturating_sub(before)).take(before + after).copied().collect();
        let mut chance = Chance::seeded(seed);
        chance.write_down();
        let once = Settings { telling: false, stop_at_violation: true, ..settings.clone() };
        let mut history = History::new(Plan::These(window.clone()), chance, once, seed);
        history.run(|_| {});
        let world = history.world.borrow();
        let again = world.checks.violations.first().filter(|again| again.kind == violation.kind);
        let Some(again) = again else { continue };
        let failing = Failing {
            jobs: window.into_iter().filter(|job| job.at <= again.at).collect(),
            script: world.chance.taken().cloned().unwrap_or_default(),
            latencies: Some(seed),
            settings: settings.clone(),
            kind: again.kind,
        };
        if failing.fails() {
            return Some(failing);
        }
    }
    None
}
