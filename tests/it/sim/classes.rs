//! Runner classes in the world: their document, which somebody changes; the instances of their capacity; and what is
//! measured of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gha_fargate_runners::{
    intake::classes::{self, Classes, RunnerClass},
    lambda::metrics::Metrics,
    ports::Fetched,
};
use serde_json::Value;

use super::{
    MINUTE, Ms,
    plan::LABELS,
    rates::Spells,
    text::{ORGANIZATION, moment, repository},
    world::World,
};
use crate::model::{ecs::Task, github::Runner};

/// `RUNNER_LABELS`.
pub const COMMON: [&str; 4] = ["self-hosted", "linux", "x64", "fargate"];
/// "Taken up within a minute", and the time that a batch takes.
const TAKEN_UP: Ms = 2 * MINUTE;

/// What an operator has set up.
#[derive(Debug)]
pub struct Setup {
    /// From when on the document is that one, in order; and its classes, if it is a good one.
    documents: Vec<(Ms, String, Option<Arc<Classes>>)>,
    /// Runner groups, and the repositories that they are for.
    pub groups: BTreeMap<u64, BTreeSet<String>>,
    /// Task definitions, besides the stack's own.
    pub definitions: Vec<&'static str>,
    /// When no instance of a capacity provider of the cluster's has room: `RESOURCE:MEMORY`.
    pub no_instance: Spells,
    /// How long a task of such a provider waits for its instance, in PROVISIONING: at least and at most.
    pub provisioning: (Ms, Ms),
}

impl Setup {
    pub fn new(documents: Vec<(Ms, String)>) -> Self {
        let common: BTreeSet<String> = COMMON.map(str::to_owned).into();
        let read = |(from, text): (Ms, String)| {
            let classes = classes::read(&text, &common).ok().map(Arc::new);
            (from, text, classes)
        };
        let documents = documents.into_iter().map(read).collect();
        Setup {
            documents,
            definitions: Vec::new(),
            groups: BTreeMap::new(),
            no_instance: Spells::Never,
            provisioning: (0, 0),
        }
    }

    /// The newest good one of that moment.
    fn classes(&self, at: Ms) -> Option<&Arc<Classes>> {
        self.documents.iter().rev().filter(|it| it.0 <= at).find_map(|it| it.2.as_ref())
    }

    /// The good ones that functions may go by.
    fn current(&self, now: Ms) -> impl Iterator<Item = &Arc<Classes>> {
        let since = now.saturating_sub(TAKEN_UP);
        let newer = self.documents.iter().filter(move |it| it.0 > since && it.0 <= now);
        self.classes(since).into_iter().chain(newer.filter_map(|it| it.2.as_ref()))
    }
}

/// What is measured.
#[derive(Debug, Default)]
pub struct Seen {
    /// Of each job, when a task was started for it first.
    pub started: BTreeMap<u64, Ms>,
    /// By how many runners a quota was exceeded at most, and which.
    pub over: (u32, String),
    /// How often one was.
    pub times_over: u64,
    /// For how long at most no runner of a class was started although jobs waited and there was room; and which class.
    pub stalled: (Ms, String),
    /// Since when a class is like that.
    stalls: BTreeMap<String, Ms>,
    /// Tasks that were started for jobs: when, and which job's.
    pub launches: Vec<(Ms, u64)>,
    /// Of each job, when the runner was registered that it ran on.
    pub ran_on: BTreeMap<u64, Ms>,
    /// The job that a registration ran.
    ran: BTreeMap<u64, u64>,
    /// Of each task that has ended: when, the repository of the job that it ran, or was started for, and vCPU-seconds.
    bill: BTreeMap<String, (Ms, String, f64)>,
    /// What the program's lines say of them, by task and repository.
    told: BTreeMap<(String, String), f64>,
    /// Runners that were ready when their jobs came, and those that were not.
    pub hits: [u64; 2],
    /// Milliseconds that runners waited for their jobs, with all of those that had none; and of all tasks.
    pub idle: Ms,
    pub spent: Ms,
}

impl Seen {
    /// By how much what is told of all repositories is wrong, in percent of the bill; and of which most. What has just ended
    /// is left out: it is told of in a moment.
    pub fn wrong_costs(&self, now: Ms) -> (f64, String) {
        let mut sums: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
        let over = |arn: &String| self.bill.get(arn).filter(|(ended, ..)| ended + 2 * MINUTE < now);
        for (_, repository, seconds) in self.bill.keys().filter_map(over) {
            sums.entry(repository).or_default().0 += seconds;
        }
        for ((_, repository), seconds) in self.told.iter().filter(|((task, _), _)| over(task).is_some()) {
            sums.entry(repository).or_default().1 += seconds;
        }
        let wrong = |(billed, told): (f64, f64)| (told - billed).abs();
        let (all, off) = sums.values().fold((0.0, 0.0), |(all, off), it| (all + it.0, off + wrong(*it)));
        let most = sums.iter().max_by(|a, b| wrong(*a.1).total_cmp(&wrong(*b.1)));
        let most = most.map(|(repository, (billed, told))| format!("{repository}: {told:.0} of {billed:.0}"));
        (off / all * 100.0, most.unwrap_or_default())
    }
}

impl World {
    pub(super) fn document(&self, known: Option<&str>) -> Fetched {
        let documents = self.settings.classes.as_ref().map_or(&[][..], |setup| &setup.documents);
        let nth = documents.iter().rposition(|it| it.0 <= self.now).expect("a document from the beginning");
        let mark = nth.to_string();
        if known == Some(&mark) {
            return Fetched::Same;
        }
        Fetched::New { text: documents[nth].1.clone(), mark: Some(mark) }
    }

    /// Whether a task must wait until its provider has another instance.
    pub(super) fn has_no_instance(&self, provider: &str) -> bool {
        let setup = self.settings.classes.as_ref();
        !provider.starts_with("FARGATE") && setup.is_some_and(|setup| self.is_out(setup.no_instance, 19))
    }

    /// How long a task is in PROVISIONING.
    pub(super) fn provisioning(&self, task: u64) -> Ms {
        let Some(setup) = &self.settings.classes else { return 0 };
        let on_instance = |task: &Task| !task.launch.provider().starts_with("FARGATE");
        match self.ecs.task(task).is_some_and(on_instance) {
            true => self.takes(setup.provisioning.0, setup.provisioning.1, 27, task),
            false => 0,
        }
    }

    /// How many idle runners are to be kept ready now.
    pub(super) fn pool(&self) -> usize {
        let own = self.settings.pool as usize;
        let classes = self.settings.classes.as_ref().and_then(|setup| setup.classes(self.now));
        let plans = classes.into_iter().flat_map(|it| &it.classes).filter_map(|class| class.pool.as_ref());
        own + plans.map(|plan| plan.size_at(self.time()) as usize).sum::<usize>()
    }

    /// Whether a pool that there is now may count the runner as one of it.
    pub(super) fn is_of_a_class_s_pool(&self, runner: &Runner) -> bool {
        let classes = self.settings.classes.as_ref().and_then(|setup| setup.classes(self.now));
        let is_its = |class: &RunnerClass| {
            let all: BTreeSet<&str> = class.labels.iter().map(String::as_str).chain(COMMON).collect();
            class.pool.is_some() && runner.labels.stored().eq(all)
        };
        classes.is_some_and(|it| it.classes.iter().any(|class| is_its(class)))
    }

    /// A task was started: are there more now than there may be?
    pub(super) fn note_launch(&mut self, number: u64) {
        let (Some(setup), Some(its)) = (self.settings.classes.clone(), self.books.task(number)) else {
            return;
        };
        let (job, Some(task)) = (its.job, self.ecs.task(number)) else { return };
        if job == 0 {
            return;
        }
        let now = self.now;
        self.seen.started.entry(job).or_insert(now);
        self.seen.launches.push((now, job));
        let tag = |task: &Task, name: &str| task.tags.get(name).cloned().unwrap_or_default();
        let (class, repository) = (tag(task, "gha:class"), tag(task, "gha:repository"));
        self.seen.stalls.remove(&class);
        let (mut of_class, mut of_both) = (0, 0);
        for other in self.ecs.live().filter(|other| other.tags.get("gha:class") == Some(&class)) {
            of_class += 1;
            of_both += u32::from(other.tags.get("gha:repository") == Some(&repository));
        }
        let most = |limit: fn(&RunnerClass) -> Option<u32>| {
            let limits = setup.current(now).filter_map(|it| it.classes.iter().find(|it| it.name == class));
            limits.map(|class| limit(class).unwrap_or(u32::MAX)).max().unwrap_or(u32::MAX)
        };
        for (there, most, what) in [
            (of_class, most(|class| class.max_runners), class.clone()),
            (of_both, most(|class| class.max_runners_per_repository), format!("{class}, {repository}")),
        ] {
            if there > most {
                self.seen.times_over += 1;
                self.seen.over =
                    self.seen.over.clone().max((there - most, format!("{what}: {there} of {most}")));
            }
        }
    }

    /// A runner has its job.
    pub(super) fn note_acquired(&mut self, job: u64, registration: u64) {
        if self.settings.classes.is_none() {
            return;
        }
        let (Some(it), Some(runner)) = (self.books.job(job), self.books.registration(registration)) else {
            return;
        };
        let waited_for_boot = runner.online_at > it.queued_at + 15 * super::SECOND;
        self.seen.hits[usize::from(waited_for_boot)] += 1;
        self.seen.idle += self.now - runner.online_at;
        self.seen.ran.insert(registration, job);
        self.seen.ran_on.insert(job, runner.minted_at);
    }

    /// A task has ended: what it is billed for, and whose bill that is.
    pub(super) fn note_end(&mut self, number: u64) {
        if self.settings.classes.is_none() {
            return;
        }
        let (Some(task), Some(its)) = (self.ecs.task(number), self.books.task(number)) else { return };
        let Some((from, until)) = task.usage() else { return };
        let (began, ended) = (moment(from), moment(until));
        let ran = self.seen.ran.remove(&its.registration);
        let job = self.books.job(ran.unwrap_or(its.job));
        let whose =
            job.map_or(ORGANIZATION.to_owned(), |it| format!("{ORGANIZATION}/{}", repository(&it.plan)));
        let seconds = (ended - began).max(MINUTE).div_ceil(super::SECOND) as f64;
        let vcpus = f64::from(task.cpu.unwrap_or(1024)) / 1024.0;
        self.seen.bill.insert(task.arn.clone(), (ended, whose, seconds * vcpus));
        self.seen.spent += ended - began;
        if ran.is_none() {
            self.seen.idle += ended - began;
        }
    }

    /// What the program tells of the costs.
    pub(super) fn note_used(&mut self, metrics: &Metrics) {
        if self.settings.classes.is_none() {
            return;
        }
        for line in metrics.used("reconcile", self.time()) {
            let line: Value = serde_json::from_str(&line).expect("JSON");
            let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
            let seconds = line["VcpuSeconds"].as_f64().unwrap_or_default();
            self.seen.told.insert((text("task"), text("repository")), seconds);
        }
    }

    /// Is a class stuck? It is when jobs wait for a runner of it, a tenth of its places is free, and none is started.
    pub(super) fn note_minute(&mut self) {
        let Some(setup) = self.settings.classes.clone() else { return };
        let Some(classes) = setup.classes(self.now) else { return };
        let mut chosen: BTreeMap<u8, Option<String>> = BTreeMap::new();
        let mut waiting: BTreeSet<String> = BTreeSet::new();
        for job in self.github.queued() {
            let Some(it) = self.books.job(job).filter(|_| !self.seen.started.contains_key(&job)) else {
                continue;
            };
            let class = chosen.entry(it.plan.labels).or_insert_with(|| {
                let labels = LABELS[usize::from(it.plan.labels)];
                classes.route(labels).ok().map(|(class, _)| class.name.clone())
            });
            waiting.extend(class.clone());
        }
        let mut live: BTreeMap<&str, u32> = BTreeMap::new();
        for task in self.ecs.live() {
            *live.entry(task.tags.get("gha:class").map_or("", |class| class)).or_default() += 1;
        }
        for class in &classes.classes {
            let there = live.get(class.name.as_str()).copied().unwrap_or_default();
            let is_dry = self
                .has_no_instance(class.capacity.first().and_then(|it| it.provider()).unwrap_or("FARGATE"));
            let has_room = !is_dry && class.max_runners.is_none_or(|most| there + most.div_ceil(10) <= most);
            if !has_room || !waiting.contains(&class.name) {
                self.seen.stalls.remove(&class.name);
                continue;
            }
            let since = *self.seen.stalls.entry(class.name.clone()).or_insert(self.now);
            self.seen.stalled = self.seen.stalled.clone().max((self.now - since, class.name.clone()));
        }
    }
}
