//! The clock, the events to come, and what each of them does to the world.

use std::{
    cell::RefCell,
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    rc::Rc,
    sync::Arc,
};

use gha_fargate_runners::ports::Scope;
use time::OffsetDateTime;

use super::{
    HOUR, MINUTE, Ms, SECOND,
    books::Books,
    chance::{Chance, Digest, Odds, Point, hash},
    check::{Checks, Kind},
    classes::{Seen, Setup},
    containers::Container,
    messages::{Event, Letter, Message, Which},
    older::Older,
    plan::{self, Plan},
    planted::Planted,
    rates::{Rates, Spells},
    report::Stats,
    requests::Call,
    runs::{self, RunEv},
    tasks::Ending,
    text,
};
use crate::model::{
    deliveries::Deliveries,
    ecs::Ecs,
    github::{Github, JobStatus, Runner, Untrue},
    limits::{ENTERPRISE_REQUESTS_AN_HOUR, Limits},
    sqs::Sqs,
};

/// The world, shared by the ports of all flows.
pub type Shared = Rc<RefCell<World>>;

/// What the system is set to.
#[derive(Debug, Clone)]
pub struct Settings {
    pub capacity: &'static str,
    /// The containers mint for themselves: the functions have no credentials for GitHub.
    pub container_minted: bool,
    /// Where the runners are registered.
    pub scope: Scope,
    pub max_runners: u32,
    pub pool: u32,
    /// How many Apps there are to ask GitHub as. The first one's webhook leads here.
    pub apps: usize,
    /// How much goes wrong: 100 is the usual.
    pub faults: u32,
    /// And how often, where it is not the usual.
    pub rates: Rates,
    /// Which functions are of the release before.
    pub older: Older,
    /// The runner classes, if there is a document.
    pub classes: Option<Arc<Setup>>,
    /// Whether somebody looks after the authors of jobs.
    pub author: bool,
    /// A rule of the protocol that the flows break.
    pub planted: Planted,
    /// Whether the history is told, and not only counted.
    pub telling: bool,
    /// Only what names one of these jobs; all of it when there are none.
    pub tell_only: BTreeSet<u64>,
    /// No rate limit, to see what would be called without.
    pub unlimited: bool,
    /// Stop at the first violation.
    pub stop_at_violation: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            capacity: "FARGATE_SPOT,FARGATE",
            container_minted: false,
            scope: Scope::Org,
            max_runners: 0,
            pool: 0,
            apps: 1,
            faults: 100,
            rates: Rates::default(),
            older: Older::None,
            classes: None,
            author: false,
            planted: Planted::Nothing,
            telling: false,
            tell_only: BTreeSet::new(),
            unlimited: false,
            stop_at_violation: true,
        }
    }
}

/// `IDLE_TIMEOUT_SECONDS`.
pub const IDLE_TIMEOUT: Ms = 10 * MINUTE;
/// `MAX_ATTEMPTS`.
pub const MAX_ATTEMPTS: u32 = 5;
const DEAD_LETTERS: &str = "dead-letters";
/// `rate(5 minutes)`.
pub const SWEEP_EVERY: Ms = 5 * MINUTE;

/// The id of the nth App, from 0.
pub fn app_id(app: usize) -> String {
    (123_456 + app).to_string()
}

/// What is going to happen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ev {
    /// The next job of the plan is queued.
    Arrive,
    Cancel(u64),
    /// A job that is not served is taken by its own fleet.
    Elsewhere(u64),
    /// The job's deployment is approved.
    Approve(u64),
    /// GitHub sends a delivery; `true`: its answer will be lost.
    Deliver(u64, bool),
    /// EventBridge puts an event on a queue.
    Bus(Which, Rc<str>, u64),
    Poll(Which),
    Effect(u64),
    Answer(u64),
    Die(u64),
    /// What is left of a function's time is for its answer.
    TimeIsUp(u64),
    TimeOut(u64),
    Started(u64),
    /// A container looks whether its runner has a job.
    Look(u64),
    /// The runner has ended that its container asked to.
    Quit(u64),
    Connect(u64),
    AssignRunner(u64),
    AssignJob(u64),
    Acquired(u64, u64),
    Finish(u64, u64),
    /// The processes of a task end.
    End(u64, Ending),
    /// GitHub notices that the runner of a job is gone.
    Notice(u64),
    /// What GitHub says of a runner although it is not so.
    Say(u64, Untrue),
    /// GitHub gives a job its own status again.
    SayStatus(u64),
    Requeue(u64),
    /// What becomes of a run.
    Run(RunEv),
    Sweep,
    Sample,
}

/// What the executor has to do after an event.
pub enum Todo {
    Nothing,
    Poll(u64),
    Kill(u64, &'static str),
    Batch(Which, Vec<Message>),
    Webhook(Event, u64, bool),
    /// It is time to look for failed deliveries; the event says so.
    Look(String),
    /// The container of that task starts, and mints.
    Container(u64),
}

pub struct World {
    pub now: Ms,
    pub(super) seq: u64,
    heap: BinaryHeap<Reverse<(Ms, u64, Ev)>>,
    pub settings: Settings,
    pub chance: Chance,
    pub github: Github,
    pub deliveries: Deliveries<Event>,
    pub(super) last_guid: u64,
    /// Of each App's installation.
    pub limits: Limits,
    /// Of each App itself, which asks for deliveries: no installation's, so that an installation's are not used up by it.
    pub limits_of_apps: Limits,
    pub books: Books,
    pub runs: runs::Books,
    pub ecs: Ecs,
    /// By the task.
    pub containers: BTreeMap<u64, Container>,
    pub sqs: Sqs<Letter>,
    pub running: [u32; Which::ALL.len()],
    pub(super) poll_at: [Option<Ms>; Which::ALL.len()],
    pub calls: BTreeMap<u64, Call>,
    pub last_call: u64,
    /// The invocation that is being polled.
    pub current: u64,
    /// Of invocations under way, which of [`super::report::BY`] they are.
    pub invoked: BTreeMap<u64, usize>,
    /// Of those, the ones whose time is nearly over.
    pub time_is_up: BTreeSet<u64>,
    pub digest: Digest,
    pub lines: Vec<(Ms, u64, String)>,
    pub stats: Stats,
    pub checks: Checks,
    /// What is measured of classes.
    pub seen: Seen,
    pub(super) plan: Plan,
    pub(super) last_job: Option<plan::Job>,
    pub arrivals_over: Option<Ms>,
    /// The last job that is held back is approved.
    pub approved_at: Ms,
    pub open: u64,
    pub over: bool,
    seed: u64,
}

/// Adds a line to the story, if it is told.
macro_rules! tell {
    ($world:expr, $job:expr, $($text:tt)*) => {
        if $world.settings.telling {
            let line = format!($($text)*);
            $world.tell($job, line);
        }
    };
}
pub(crate) use tell;

impl World {
    pub fn new(plan: Plan, chance: Chance, settings: Settings, seed: u64) -> Self {
        let ecs = ecs(!settings.unlimited, settings.classes.as_deref());
        let mut github = Github::new();
        for (group, repositories) in settings.classes.iter().flat_map(|setup| setup.groups.clone()) {
            github.groups.insert(group);
            github.open_to.insert(group, Arc::new(repositories));
        }
        let mut limits = if settings.unlimited { Limits::default() } else { Limits::github() };
        let limits_of_apps = limits.clone();
        if !settings.container_minted {
            limits.requests_an_hour = limits.requests_an_hour.map(|_| ENTERPRISE_REQUESTS_AN_HOUR);
        }
        let mut world = World {
            now: 0,
            seq: 0,
            heap: BinaryHeap::new(),
            settings,
            chance,
            github,
            deliveries: Deliveries::default(),
            last_guid: 0,
            limits,
            limits_of_apps,
            books: Books::default(),
            runs: runs::Books::default(),
            ecs,
            containers: BTreeMap::new(),
            sqs: sqs(),
            running: [0; Which::ALL.len()],
            poll_at: [None; Which::ALL.len()],
            calls: BTreeMap::new(),
            last_call: 0,
            current: 0,
            invoked: BTreeMap::new(),
            time_is_up: BTreeSet::new(),
            digest: Digest::new(),
            lines: Vec::new(),
            stats: Stats::default(),
            checks: Checks::default(),
            seen: Seen::default(),
            plan,
            last_job: None,
            arrivals_over: None,
            approved_at: 0,
            open: 0,
            over: false,
            seed,
        };
        world.github.number_again = Some(plan::again);
        match world.plan.next(None) {
            Some(job) => {
                // A history that is only the end of a long one begins where it does.
                world.now = job.at / SWEEP_EVERY * SWEEP_EVERY;
                world.at(job.at, Ev::Arrive);
            }
            None => world.arrivals_over = Some(0),
        }
        world.at(world.now + SECOND, Ev::Sweep);
        world.at(world.now + MINUTE, Ev::Sample);
        world
    }

    /// The time, as the flows see it.
    pub fn time(&self) -> OffsetDateTime {
        text::time(self.now)
    }

    pub fn at(&mut self, at: Ms, event: Ev) {
        self.seq += 1;
        self.heap.push(Reverse((at.max(self.now), self.seq, event)));
    }

    pub fn after(&mut self, delay: Ms, event: Ev) {
        self.at(self.now + delay, event);
    }

    /// A latency that varies, but not with what other jobs do.
    pub fn takes(&self, least: Ms, most: Ms, what: u64, of: u64) -> Ms {
        self.chance.takes(least, most, &[what, of])
    }

    pub fn decide(&mut self, job: u64, point: Point, odds: &[Odds]) -> u8 {
        let is_scripted = self.chance.is_scripted();
        if self.settings.faults == 100 || is_scripted {
            if odds.iter().all(|(_, odds)| *odds > 0) {
                return self.chance.decide(job, point, odds);
            }
            // What never comes is no choice, unless the script has it.
            let some: Vec<Odds> = odds.iter().copied().filter(|(_, odds)| *odds > 0).collect();
            return if some.is_empty() && !is_scripted { 0 } else { self.chance.decide(job, point, &some) };
        }
        let scaled: Vec<Odds> =
            odds.iter().map(|&(choice, odds)| (choice, odds * self.settings.faults / 100)).collect();
        self.chance.decide(job, point, &scaled)
    }

    /// A line of the story; of one job's, if it names that job.
    pub fn tell(&mut self, job: u64, line: String) {
        let only = &self.settings.tell_only;
        let mut numbers = line.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok());
        if only.is_empty() || only.contains(&job) || numbers.any(|number: u64| only.contains(&number)) {
            self.lines.push((self.now, job, line));
        }
    }

    pub fn note(&mut self, what: u64, a: u64, b: u64) {
        self.digest.add(self.now);
        self.digest.add(what << 56 ^ a.rotate_left(20) ^ b);
    }

    /// Whether `what` (GitHub, a capacity, …) is out of order now.
    pub fn is_out(&self, spells: Spells, what: u64) -> bool {
        let (percent, of, lasts) = match spells {
            Spells::Never => return false,
            Spells::During { from, until } => return (from..until).contains(&self.now),
            Spells::In { percent, of, lasts } => (percent, of / MINUTE, lasts / MINUTE),
        };
        if self.chance.is_calm() || self.chance.is_scripted() || self.settings.faults == 0 {
            return false;
        }
        let minute = self.now / MINUTE;
        let draw = hash(&[self.seed, what, minute / of]);
        draw % 100 < percent && {
            let begins = (draw >> 16) % (of - lasts.min(of - 1));
            (begins..begins + lasts).contains(&(minute % of))
        }
    }

    /// Whether something that is no job's fault lets no runner live.
    pub fn all_runners_die(&self) -> bool {
        let rates = &self.settings.rates;
        [
            (rates.registry_down, 14),
            (rates.no_addresses, 15),
            (rates.refused, 16),
            (rates.broken, 17),
            (rates.bad_secret, 19),
        ]
        .into_iter()
        .any(|(spells, what)| self.is_out(spells, what))
    }

    /// The same, for so many minutes within so many of a hundred hours.
    pub fn is_out_hourly(&self, what: u64, percent: u64, minutes: u64) -> bool {
        self.is_out(Spells::In { percent, of: HOUR, lasts: minutes * MINUTE }, what)
    }

    /// The registration of that name.
    pub fn by_name(&self, name: &str) -> Option<&Runner> {
        self.github.named(name).next()
    }

    /// The next event, and what the executor is to do about it. `None`: the history is over.
    pub fn step(&mut self) -> Option<Todo> {
        if self.over {
            return None;
        }
        let Reverse((at, _, event)) = self.heap.pop()?;
        self.now = at;
        self.stats.events += 1;
        let (tag, a, b) = fingerprint(&event);
        self.note(tag, a, b);
        Some(self.happen(event))
    }

    fn happen(&mut self, event: Ev) -> Todo {
        match event {
            Ev::Arrive => self.arrive(),
            Ev::Cancel(job) => self.cancel(job),
            Ev::Elsewhere(job) => self.elsewhere(job),
            Ev::Approve(job) => self.approve(job),
            Ev::Deliver(id, answer_lost) => {
                if let Some(delivery) = self.deliveries.get(id) {
                    let event = delivery.payload.clone();
                    return Todo::Webhook(event, id, answer_lost);
                }
            }
            Ev::Bus(which, body, job) => {
                self.send(which, body, job, time::Duration::ZERO);
            }
            Ev::Poll(which) => return self.poll(which),
            Ev::Effect(call) => self.effect(call),
            Ev::Answer(call) => return self.answer(call),
            Ev::Die(invocation) => return Todo::Kill(invocation, "its process dies"),
            Ev::TimeIsUp(invocation) => {
                self.time_is_up.insert(invocation);
                return Todo::Poll(invocation);
            }
            Ev::TimeOut(invocation) => return Todo::Kill(invocation, "it runs into its time-out"),
            Ev::Started(task) => return self.started(task),
            Ev::Look(task) => self.looks(task),
            Ev::Quit(task) => self.quits(task),
            Ev::Connect(task) => self.connect(task),
            Ev::AssignRunner(registration) => {
                let jobs = self.jobs_for(registration);
                if let Some(&first) = jobs.first() {
                    let own = self.books.minted_for(registration);
                    let mut choice = 0;
                    if jobs.len() > 1 {
                        choice = self.decide(own, Point::Assign, &[(1, 25_000), (2, 25_000), (3, 20_000)]);
                    }
                    let job = match choice {
                        0 if jobs.contains(&own) => own,
                        0 | 1 => *jobs.iter().find(|job| **job != own).unwrap_or(&first),
                        2 => *jobs.iter().rev().find(|job| **job != own).unwrap_or(&first),
                        _ => jobs[(hash(&[self.seed, registration]) % jobs.len() as u64) as usize],
                    };
                    self.assign(job, registration);
                }
            }
            Ev::AssignJob(job) => {
                let runners = self.runners_for(job);
                if let (Some(&first), Some(&last)) = (runners.first(), runners.last()) {
                    let mut choice = 0;
                    if runners.len() > 1 {
                        choice = self.decide(job, Point::Assign, &[(1, 40_000)]);
                    }
                    self.assign(job, if choice == 0 { first } else { last });
                }
            }
            Ev::Acquired(job, registration) => self.acquired(job, registration),
            Ev::Finish(job, registration) => self.finish(job, registration, None),
            Ev::End(task, ending) => self.end(task, ending),
            Ev::Say(registration, untrue) => {
                self.github.say_of_runner(registration, untrue, self.time());
            }
            Ev::SayStatus(job) => self.github.say_status(job, None, self.time()),
            Ev::Notice(job) => {
                tell!(self, job, "GitHub notices that the runner of job {job} is gone, and fails the job");
                self.stats.failed += 1;
                // It had one.
                self.seen.ran_on.entry(job).or_insert(self.now);
                self.complete_unheard(job);
            }
            Ev::Requeue(job) => {
                if self.github.job(job).is_some_and(|it| it.status == JobStatus::Queued) {
                    self.after(SECOND, Ev::AssignJob(job));
                }
            }
            Ev::Run(event) => self.run_goes_on(event),
            Ev::Sweep => return self.schedule_sweep(),
            Ev::Sample => self.sample(),
        }
        Todo::Nothing
    }

    fn sample(&mut self) {
        self.after(MINUTE, Ev::Sample);
        let (waiting, live) = (self.github.queued_count(), self.ecs.unstopped().len());
        self.stats.sample(self.now, waiting, live);
        if (self.now / MINUTE).is_multiple_of(5) {
            self.check_all();
        }
        self.note_minute();
        let Some(over) = self.arrivals_over else { return };
        if !self.chance.is_calm() && !self.chance.is_scripted() && self.now > over + 40 * MINUTE {
            self.chance.be_calm();
        }
        let waits_for_author = || self.settings.author && !self.forgotten().is_empty();
        if self.open == 0 && self.books_are_closed() && !waits_for_author() {
            self.over = true;
        } else if self.now > over.max(self.checks.ill_until).max(self.approved_at) + 5 * HOUR {
            self.check_end();
            self.check_forgotten();
            self.over = true;
        }
    }

    /// Nothing is left of any job.
    fn books_are_closed(&self) -> bool {
        let pool = self.pool();
        self.sqs.len(Which::Jobs.queue()) == 0
            && self.sqs.len(Which::Author.queue()) == 0
            && self.registrations_that_count() == pool
            && self.ecs.unstopped().len() == pool
            && self.sqs.messages(Which::Lifecycle.queue()).all(|message| message.body.job == 0)
    }

    /// What a container leaves behind that minted for itself is GitHub's to remove, after a day.
    fn registrations_that_count(&self) -> usize {
        match self.settings.container_minted {
            true => self.github.runners().filter(|runner| runner.online).count(),
            false => self.github.runners().len(),
        }
    }

    pub fn violation(&mut self, kind: Kind, job: u64, text: String) {
        tell!(self, job, "VIOLATION, {kind}: {text}");
        self.note(99, kind as u64, job);
        self.checks.found(kind, job, self.now, text);
        if self.settings.stop_at_violation {
            self.over = true;
        }
    }
}

/// A cluster, and what runs in it. Tasks that are asked to stop do so when the simulator says so.
fn ecs(throttle_launches: bool, classes: Option<&Setup>) -> Ecs {
    let mut ecs = Ecs::new();
    ecs.clusters.insert(text::CLUSTER.into());
    ecs.definitions.insert(text::TASK_DEFINITION.to_owned(), (1, vec!["runner".to_owned()]));
    for family in classes.into_iter().flat_map(|classes| &classes.definitions) {
        ecs.definitions.insert((*family).to_owned(), (1, vec!["runner".to_owned()]));
    }
    (ecs.stop_takes, ecs.throttle_launches) = (None, throttle_launches);
    ecs
}

/// `template.yaml`: six times the functions' time-outs, the redrive policies, and a day.
fn sqs() -> Sqs<Letter> {
    let mut sqs = Sqs::default();
    sqs.create(DEAD_LETTERS);
    for (which, seconds) in [(Which::Jobs, 180), (Which::Lifecycle, 720)] {
        let queue = sqs.create(which.queue());
        queue.visibility_timeout = time::Duration::seconds(seconds);
        queue.retention = time::Duration::days(1);
        queue.redrive = Some((DEAD_LETTERS.to_owned(), 1000));
    }
    let author = sqs.create(Which::Author.queue());
    author.visibility_timeout = time::Duration::seconds(180);
    author.retention = time::Duration::days(14);
    sqs
}

/// What goes into the digest.
fn fingerprint(event: &Ev) -> (u64, u64, u64) {
    match event {
        Ev::Arrive => (1, 0, 0),
        Ev::Cancel(job) => (2, *job, 0),
        Ev::Deliver(id, lost) => (3, *id, u64::from(*lost)),
        Ev::Bus(which, body, job) => (4, *job, *which as u64 ^ (body.len() as u64) << 8),
        Ev::Poll(which) => (5, *which as u64, 0),
        Ev::Effect(call) => (6, *call, 0),
        Ev::Answer(call) => (7, *call, 0),
        Ev::Die(invocation) => (8, *invocation, 0),
        Ev::TimeOut(invocation) => (9, *invocation, 0),
        Ev::TimeIsUp(invocation) => (31, *invocation, 0),
        Ev::Started(task) => (10, *task, 0),
        Ev::Look(task) => (26, *task, 0),
        Ev::Quit(task) => (27, *task, 0),
        Ev::Connect(task) => (11, *task, 0),
        Ev::AssignRunner(registration) => (12, *registration, 0),
        Ev::AssignJob(job) => (13, *job, 0),
        Ev::Acquired(job, registration) => (14, *job, *registration),
        Ev::Finish(job, registration) => (15, *job, *registration),
        Ev::End(task, ending) => (16, *task, ending.code().len() as u64),
        Ev::Say(registration, _) => (22, *registration, 0),
        Ev::SayStatus(job) => (23, *job, 0),
        Ev::Notice(job) => (17, *job, 0),
        Ev::Requeue(job) => (18, *job, 0),
        Ev::Sweep => (19, 0, 0),
        Ev::Sample => (20, 0, 0),
        Ev::Elsewhere(job) => (24, *job, 0),
        Ev::Approve(job) => (21, *job, 0),
        Ev::Run(event) => event.fingerprint(),
    }
}
