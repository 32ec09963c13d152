//! The clock, the events to come, and what each of them does to the world.

use std::{
    cell::RefCell,
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    rc::Rc,
};

use gha_fargate_runners::ids::Purpose;
use time::OffsetDateTime;

use super::{
    HOUR, MINUTE, Ms, SECOND,
    calls::Call,
    chance::{Chance, Digest, Odds, Point, hash},
    check::{Checks, Kind},
    ecs::Ecs,
    github::{Action, Event, Github, Status},
    plan::{self, LABELS, Plan},
    planted::Planted,
    report::Stats,
    sqs::{Message, Queue, Which},
};

/// The world, shared by the ports of all flows.
pub type Shared = Rc<RefCell<World>>;

/// What the system is set to.
#[derive(Debug, Clone)]
pub struct Settings {
    pub capacity: &'static str,
    pub max_runners: u32,
    pub pool: u32,
    /// How much goes wrong: 100 is the usual.
    pub faults: u32,
    /// A rule of the protocol that the flows break.
    pub planted: Planted,
    /// Whether the history is told, and not only counted.
    pub telling: bool,
    /// Of one job only.
    pub tell_only: Option<u64>,
    /// No rate limit, to see what would be called without.
    pub unlimited: bool,
    /// Stop at the first violation.
    pub stop_at_violation: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            capacity: "FARGATE_SPOT,FARGATE",
            max_runners: 0,
            pool: 0,
            faults: 100,
            planted: Planted::Nothing,
            telling: false,
            tell_only: None,
            unlimited: false,
            stop_at_violation: true,
        }
    }
}

/// `IDLE_TIMEOUT_SECONDS`.
pub const IDLE_TIMEOUT: Ms = 10 * MINUTE;
/// `MAX_ATTEMPTS`.
pub const MAX_ATTEMPTS: u32 = 5;
/// `rate(5 minutes)`.
pub const SWEEP_EVERY: Ms = 5 * MINUTE;

/// What is going to happen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ev {
    /// The next job of the plan is queued.
    Arrive,
    Cancel(u64),
    /// GitHub sends a delivery; `true`: its answer will be lost.
    Deliver(u64, bool),
    /// EventBridge puts a message on a queue.
    Bus(Which, Rc<str>, u64),
    Poll(Which),
    Effect(u64),
    Answer(u64),
    Die(u64),
    TimeOut(u64),
    Started(u64),
    Connect(u64),
    AssignRunner(u64),
    AssignJob(u64),
    Acquired(u64, u64),
    Finish(u64, u64),
    /// The processes of a task end: stop code and exit code.
    End(u64, &'static str, Option<i32>),
    /// GitHub notices that the runner of a job is gone.
    Notice(u64),
    Requeue(u64),
    StoppedEvent(u64),
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
}

pub struct World {
    pub now: Ms,
    seq: u64,
    heap: BinaryHeap<Reverse<(Ms, u64, Ev)>>,
    pub settings: Settings,
    pub chance: Chance,
    pub github: Github,
    pub ecs: Ecs,
    pub jobs: Queue,
    pub lifecycle: Queue,
    pub running: [u32; 2],
    poll_at: [Option<Ms>; 2],
    pub calls: BTreeMap<u64, Call>,
    pub last_call: u64,
    /// The invocation that is being polled.
    pub current: u64,
    /// The job that each registration was minted for.
    pub minted_for: Vec<u64>,
    pub digest: Digest,
    pub lines: Vec<(Ms, u64, String)>,
    pub stats: Stats,
    pub checks: Checks,
    plan: Plan,
    last_job: Option<plan::Job>,
    pub arrivals_over: Option<Ms>,
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

/// How many functions may run at a time: `DispatchMaxConcurrency`, and the lifecycle queue's.
const CONCURRENCY: [u32; 2] = [5, 5];
/// 2026-01-01T00:00:00Z.
const EPOCH: i64 = 1_767_225_600;

impl World {
    pub fn new(plan: Plan, chance: Chance, settings: Settings, seed: u64) -> Self {
        let mut ecs = Ecs::new();
        ecs.unlimited = settings.unlimited;
        let mut world = World {
            now: 0,
            seq: 0,
            heap: BinaryHeap::new(),
            settings,
            chance,
            github: Github::default(),
            ecs,
            // `template.yaml`: six times the functions' time-outs, and the redrive policies.
            jobs: Queue::new(180 * SECOND, 1000),
            lifecycle: Queue::new(720 * SECOND, 1000),
            running: [0; 2],
            poll_at: [None; 2],
            calls: BTreeMap::new(),
            last_call: 0,
            current: 0,
            minted_for: vec![0],
            digest: Digest::new(),
            lines: Vec::new(),
            stats: Stats::default(),
            checks: Checks::default(),
            plan,
            last_job: None,
            arrivals_over: None,
            open: 0,
            over: false,
            seed,
        };
        match world.plan.next(None) {
            Some(job) => {
                // A history that is only the end of a long one begins where it does.
                world.now = job.at / SWEEP_EVERY * SWEEP_EVERY;
                world.at(job.at, Ev::Arrive);
            }
            None => world.arrivals_over = Some(0),
        }
        world.at(world.now + 3 * MINUTE + SECOND, Ev::Sweep);
        world.at(world.now + MINUTE, Ev::Sample);
        world
    }

    /// The time, as the flows see it.
    pub fn time(&self) -> OffsetDateTime {
        time(self.now)
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
        if self.settings.faults == 100 || self.chance.is_scripted() {
            return self.chance.decide(job, point, odds);
        }
        let scaled: Vec<Odds> =
            odds.iter().map(|&(choice, odds)| (choice, odds * self.settings.faults / 100)).collect();
        self.chance.decide(job, point, &scaled)
    }

    /// A line of the story; of one job's, if it names that job.
    pub fn tell(&mut self, job: u64, line: String) {
        let names = |only| line.split(|c: char| !c.is_ascii_digit()).any(|number| number.parse() == Ok(only));
        if self.settings.tell_only.is_none_or(|only| only == job || names(only)) {
            self.lines.push((self.now, job, line));
        }
    }

    pub fn note(&mut self, what: u64, a: u64, b: u64) {
        self.digest.add(self.now);
        self.digest.add(what << 56 ^ a.rotate_left(20) ^ b);
    }

    pub fn queue(&mut self, which: Which) -> &mut Queue {
        match which {
            Which::Jobs => &mut self.jobs,
            Which::Lifecycle => &mut self.lifecycle,
        }
    }

    /// Whether `what` (GitHub, a capacity, …) is out of order: for a while within some of the hours.
    pub fn is_out(&self, what: u64, percent_of_hours: u64, minutes: u64) -> bool {
        if self.chance.is_calm() || self.chance.is_scripted() || self.settings.faults == 0 {
            return false;
        }
        let hour = self.now / HOUR;
        let draw = hash(&[self.seed, what, hour]);
        draw % 100 < percent_of_hours && {
            let begins = (draw >> 16) % (60 - minutes.min(59));
            (begins..begins + minutes).contains(&(self.now / MINUTE % 60))
        }
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
            Ev::Deliver(id, answer_lost) => {
                if let Some(delivery) = self.github.delivery_mut(id) {
                    let event = delivery.event.clone();
                    return Todo::Webhook(event, id, answer_lost);
                }
            }
            Ev::Bus(which, body, job) => {
                let now = self.now;
                self.queue(which).send(body, job, now);
                self.poll_soon(which, now);
            }
            Ev::Poll(which) => return self.poll(which),
            Ev::Effect(call) => self.effect(call),
            Ev::Answer(call) => return self.answer(call),
            Ev::Die(invocation) => return Todo::Kill(invocation, "its process dies"),
            Ev::TimeOut(invocation) => return Todo::Kill(invocation, "it runs into its time-out"),
            Ev::Started(task) => self.started(task),
            Ev::Connect(task) => self.connect(task),
            Ev::AssignRunner(registration) => {
                let jobs = self.github.jobs_for(registration);
                if let Some(&first) = jobs.first() {
                    let own = self.github.registrations.get(&registration).map_or(0, |it| it.job);
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
                let runners = self.github.runners_for(job);
                if let (Some(&first), Some(&last)) = (runners.first(), runners.last()) {
                    let mut choice = 0;
                    if runners.len() > 1 {
                        choice = self.decide(job, Point::Assign, &[(1, 40_000)]);
                    }
                    self.assign(job, if choice == 0 { first } else { last });
                }
            }
            Ev::Acquired(job, registration) => self.acquired(job, registration),
            Ev::Finish(job, registration) => self.finish(job, registration),
            Ev::End(task, code, exit) => self.end(task, code, exit),
            Ev::Notice(job) => {
                tell!(self, job, "GitHub notices that the runner of job {job} is gone, and fails the job");
                self.stats.failed += 1;
                self.complete(job);
            }
            Ev::Requeue(job) => {
                if self.github.job(job).is_some_and(|it| it.status == Status::Queued) {
                    self.after(SECOND, Ev::AssignJob(job));
                }
            }
            Ev::StoppedEvent(task) => self.tell_stopped(task),
            Ev::Sweep => self.schedule_sweep(),
            Ev::Sample => self.sample(),
        }
        Todo::Nothing
    }

    // Jobs

    fn arrive(&mut self) {
        let job = self.plan.next(self.last_job.as_ref()).expect("a job arrives");
        self.last_job = Some(job);
        match self.plan.next(Some(&job)) {
            Some(next) => self.at(next.at, Ev::Arrive),
            None => self.arrivals_over = Some(self.now),
        }
        let number = job.number;
        self.github.queue(job);
        self.open += 1;
        self.stats.jobs += 1;
        self.stats.peak_waiting = self.stats.peak_waiting.max(self.github.waiting_count() as u64);
        tell!(self, number, "GitHub queues job {number}: {}", labels(&job).join(", "));
        if let Some(after) = job.cancelled_after {
            self.after(after, Ev::Cancel(number));
        }
        self.send_event(number, Action::Queued);
        let delay = self.takes(SECOND, 3 * SECOND, 1, number);
        self.after(delay, Ev::AssignJob(number));
    }

    fn cancel(&mut self, job: u64) {
        let Some(it) = self.github.job(job) else { return };
        match (it.status, it.registration) {
            (Status::Completed, _) => {}
            (Status::Queued, _) => {
                tell!(self, job, "job {job} is cancelled while it waits");
                self.complete(job);
            }
            (Status::InProgress, Some(registration)) => {
                tell!(self, job, "job {job} is cancelled while it runs");
                self.finish(job, registration);
            }
            (Status::InProgress, None) => {}
        }
    }

    /// The job is over, by whichever way.
    fn complete(&mut self, job: u64) {
        let now = self.now;
        if self.github.job(job).is_none_or(|it| it.status == Status::Completed) {
            return;
        }
        if let Some(registration) = self.github.complete(job, now)
            && let Some(task) = registration.task
        {
            self.spent(task);
        }
        self.open -= 1;
        self.send_event(job, Action::Completed);
    }

    fn assign(&mut self, job: u64, registration: u64) {
        let now = self.now;
        self.github.assign(job, registration, now);
        let delay = self.takes(100, 900, 2, registration);
        self.after(delay, Ev::Acquired(job, registration));
    }

    /// The runner acquires the job that it was given, or loses it.
    fn acquired(&mut self, job: u64, registration: u64) {
        let Some(runner) = self.github.registrations.get(&registration) else { return };
        if runner.busy != Some(job) {
            return;
        }
        let (name, online) = (runner.name.clone(), runner.online);
        if !online {
            // It died in the very moment; GitHub notices in the end.
            return;
        }
        // A runner that loses its job ("Skipping message Job") polls for ever, and the job waits again.
        if self.decide(job, Point::Acquire, &[(1, 20)]) == 1 {
            tell!(self, job, "{name} loses job {job}, which waits again; the runner polls for ever");
            self.github.lose(registration);
            self.github.requeue(job);
            self.after(MINUTE, Ev::Requeue(job));
            return;
        }
        tell!(self, job, "job {job} runs on {name}");
        let Some(it) = self.github.job(job) else { return };
        let (takes, waited) = (it.plan.takes, self.now - it.plan.at);
        self.stats.delays.push(u32::try_from(waited / 10).unwrap_or(u32::MAX));
        self.send_event(job, Action::InProgress);
        self.after(takes, Ev::Finish(job, registration));
    }

    fn finish(&mut self, job: u64, registration: u64) {
        let is_running = self
            .github
            .job(job)
            .is_some_and(|it| it.status == Status::InProgress && it.registration == Some(registration));
        let task = match self.github.registrations.get(&registration) {
            Some(runner) if is_running && runner.online => runner.task,
            _ => return,
        };
        tell!(self, job, "job {job} is over");
        self.stats.ran += 1;
        self.complete(job);
        let Some(task) = task else { return };
        let owner = self.ecs.tasks.get(&task).map_or(0, |task| task.job);
        match self.decide(owner, Point::Exit, &[(1, 30)]) {
            0 => {
                let delay = self.takes(SECOND, 3 * SECOND, 3, task);
                self.after(delay, Ev::End(task, "EssentialContainerExited", Some(0)));
            }
            _ => tell!(self, job, "task {task} does not go although its runner is spent"),
        }
    }

    /// The registration of a task is spent: the task should go.
    pub fn spent(&mut self, task: u64) {
        let now = self.now;
        if let Some(task) = self.ecs.tasks.get_mut(&task) {
            task.spent_at.get_or_insert(now);
        }
    }

    // Webhook deliveries

    fn send_event(&mut self, job: u64, action: Action) {
        let event = self.github.event(job, action);
        self.send(event);
    }

    /// Sends an event, for the first time or again.
    pub fn send(&mut self, event: Event) {
        let (job, action, now) = (event.job, event.action, self.now);
        let delivery = self.github.deliver(event, now);
        let out = self.is_out(11, 1, 20);
        let odds: [Odds; 5] = [(2, if out { 90_000 } else { 300 }), (1, 200), (3, 200), (4, 200), (5, 30)];
        let (delay, answer_lost) = match self.decide(job, Point::Webhook, &odds) {
            0 => (self.takes(300, 2_000, 4, delivery), false),
            1 => {
                tell!(self, job, "the webhook of job {job} ({action:?}) comes twice");
                self.after(800, Ev::Deliver(delivery, false));
                (self.takes(900, 90 * SECOND, 4, delivery), false)
            }
            2 => {
                tell!(self, job, "the webhook of job {job} ({action:?}) never comes");
                return;
            }
            3 => {
                tell!(self, job, "the webhook of job {job} ({action:?}) comes three minutes late");
                (3 * MINUTE, false)
            }
            4 => {
                tell!(self, job, "the answer to the webhook of job {job} ({action:?}) will be lost");
                (self.takes(300, 2_000, 4, delivery), true)
            }
            _ => {
                tell!(self, job, "the webhook of job {job} ({action:?}) comes 25 minutes late");
                (25 * MINUTE, false)
            }
        };
        self.after(delay, Ev::Deliver(delivery, answer_lost));
    }

    /// EventBridge takes an event and delivers it at least once.
    pub fn publish(&mut self, which: Which, body: Rc<str>, job: u64) {
        let delay = self.takes(50, 500, 5, self.seq);
        match self.decide(job, Point::Bus, &[(1, 150), (2, 100), (3, 30)]) {
            0 => self.after(delay, Ev::Bus(which, body, job)),
            2 => self.after(MINUTE, Ev::Bus(which, body, job)),
            choice => {
                tell!(self, job, "EventBridge delivers an event of job {job} twice");
                self.after(delay, Ev::Bus(which, body.clone(), job));
                let later = if choice == 1 { 2 * SECOND } else { 100 * SECOND };
                self.after(later, Ev::Bus(which, body, job));
            }
        }
    }

    // Queues

    pub fn poll_soon(&mut self, which: Which, at: Ms) {
        let at = at.max(self.now) + 20;
        let slot = &mut self.poll_at[which as usize];
        if slot.is_none_or(|earlier| earlier > at) {
            *slot = Some(at);
            self.at(at, Ev::Poll(which));
        }
    }

    fn poll(&mut self, which: Which) -> Todo {
        let now = self.now;
        if self.poll_at[which as usize].is_some_and(|at| at <= now) {
            self.poll_at[which as usize] = None;
        }
        let mut batch = Vec::new();
        if self.running[which as usize] < CONCURRENCY[which as usize] {
            while batch.len() < 10 {
                match self.queue(which).receive(now) {
                    None => break,
                    Some(Ok(message)) => {
                        let (id, job) = (message.id, message.job);
                        if self.decide(job, Point::Receive, &[(1, 100)]) == 1 {
                            tell!(
                                self,
                                job,
                                "SQS will deliver a message about job {job} again, although it is deleted"
                            );
                            self.queue(which).set_again(id);
                        }
                        batch.push(message);
                    }
                    Some(Err(dead)) => {
                        tell!(
                            self,
                            dead.job,
                            "a message about job {} goes to the dead-letter queue",
                            dead.job
                        );
                        self.stats.redriven += 1;
                    }
                }
            }
            if let Some(next) = self.queue(which).next_visible()
                && (next > now || self.running[which as usize] + 1 < CONCURRENCY[which as usize])
            {
                self.poll_soon(which, next);
            }
        }
        if batch.is_empty() {
            return Todo::Nothing;
        }
        self.running[which as usize] += 1;
        Todo::Batch(which, batch)
    }

    /// An invocation is over: its queue may be polled again.
    pub fn freed(&mut self, which: Which) {
        self.running[which as usize] -= 1;
        if let Some(next) = self.queue(which).next_visible() {
            self.poll_soon(which, next);
        }
    }

    // Tasks

    /// ECS has accepted a task: how will it come up?
    pub fn launch(&mut self, id: u64) {
        let Some(task) = self.ecs.tasks.get(&id) else { return };
        let (job, is_spot) = (task.job, task.is_spot);
        let spot = if is_spot { 300 } else { 20 };
        let odds: [Odds; 7] = [(1, 400), (2, 100), (3, spot), (4, 40), (5, 60), (6, spot), (7, spot)];
        let boot = self.decide(job, Point::Boot, &odds);
        let lag = match self.decide(job, Point::ListLag, &[(1, 300)]) {
            0 => self.takes(0, 2 * SECOND, 6, id),
            _ => 40 * SECOND,
        };
        let now = self.now;
        if let Some(task) = self.ecs.tasks.get_mut(&id) {
            task.boot = boot;
            task.listed_from = now + lag;
        }
        let start_up = self.takes(25 * SECOND, 75 * SECOND, 7, id);
        match boot {
            1 => {
                tell!(self, job, "task {id} will fail to start");
                self.after(start_up, Ev::End(id, "TaskFailedToStart", None));
            }
            _ => self.after(start_up, Ev::Started(id)),
        }
    }

    fn started(&mut self, id: u64) {
        let now = self.now;
        let Some(task) = self.ecs.tasks.get_mut(&id).filter(|task| task.stopped_at.is_none()) else { return };
        task.started_at = Some(now);
        let (job, boot) = (task.job, task.boot);
        let slow = self.takes(IDLE_TIMEOUT + 30 * SECOND, IDLE_TIMEOUT + 6 * MINUTE, 8, id);
        let connects = self.takes(4 * SECOND, 12 * SECOND, 9, id);
        match boot {
            2 => {
                tell!(self, job, "task {id} exits 0 without having run anything");
                self.after(3 * SECOND, Ev::End(id, "EssentialContainerExited", Some(0)));
            }
            3 => {
                tell!(self, job, "task {id} is interrupted before its runner connects");
                self.after(2 * SECOND, Ev::End(id, "SpotInterruption", Some(137)));
            }
            4 => tell!(self, job, "the runner of task {id} hangs, and never connects"),
            5 => {
                tell!(self, job, "the runner of task {id} is slow to connect");
                self.after(slow, Ev::Connect(id));
            }
            _ => self.after(connects, Ev::Connect(id)),
        }
    }

    fn connect(&mut self, id: u64) {
        let now = self.now;
        let Some(task) = self.ecs.tasks.get(&id).filter(|task| task.stopped_at.is_none()) else { return };
        let (job, boot, registration) = (task.job, task.boot, task.registration);
        if !self.github.connect(registration, now) {
            tell!(self, job, "the runner of task {id} finds its registration gone, and exits");
            self.after(SECOND, Ev::End(id, "EssentialContainerExited", Some(0)));
            return;
        }
        let name = &self.github.registrations[&registration].name;
        tell!(self, job, "runner {name} connects");
        let delay = self.takes(300, 1_500, 10, id);
        self.after(delay, Ev::AssignRunner(registration));
        let interrupted = match boot {
            6 => Some(self.takes(100, 3_000, 11, id)),
            7 => Some(self.takes(10_000, 90_000, 11, id)),
            _ => None,
        };
        if let Some(after) = interrupted {
            self.after(after, Ev::End(id, "SpotInterruption", Some(137)));
        }
    }

    /// The processes of a task end.
    pub fn end(&mut self, id: u64, code: &'static str, exit: Option<i32>) {
        let now = self.now;
        let Some(task) = self.ecs.tasks.get(&id) else { return };
        let (job, registration) = (task.job, task.registration);
        if !self.ecs.stop(id, code, exit, now) {
            return;
        }
        tell!(self, job, "task {id} stops: {}", self.ecs.tasks[&id].stop_code);
        if let Some(runner) = self.github.registrations.get(&registration) {
            let busy = runner.busy.filter(|_| !runner.ghost);
            self.github.disconnect(registration);
            match busy {
                // GitHub waits about ten minutes for a runner to come back.
                Some(busy) => self.after(10 * MINUTE, Ev::Notice(busy)),
                None => {
                    if let Some(it) = self.github.job_mut(job) {
                        it.died += 1;
                    }
                }
            }
        }
        let delay = self.takes(2 * SECOND, 20 * SECOND, 12, id);
        match self.decide(job, Point::StoppedEvent, &[(1, 200), (2, 200), (3, 100), (4, 20)]) {
            0 => self.after(delay, Ev::StoppedEvent(id)),
            1 => {
                self.after(delay, Ev::StoppedEvent(id));
                self.after(delay + 3 * SECOND, Ev::StoppedEvent(id));
            }
            2 => tell!(self, job, "the event that task {id} has stopped never comes"),
            3 => self.after(12 * MINUTE, Ev::StoppedEvent(id)),
            _ => self.after(70 * MINUTE, Ev::StoppedEvent(id)),
        }
    }

    fn tell_stopped(&mut self, id: u64) {
        let Some(task) = self.ecs.tasks.get(&id) else { return };
        let started = match task.started_at {
            Some(_) => "\"startedAt\":\"2026-01-01T00:00:00Z\",",
            None => "",
        };
        let exit = task.exit_code.map_or(String::new(), |exit| format!("\"exitCode\":{exit},"));
        let body = format!(
            "{{\"source\":\"aws.ecs\",\"detail-type\":\"ECS Task State Change\",\"detail\":{{\"taskArn\":\"{}\",\
             \"clusterArn\":\"arn:aws:ecs:eu-central-1:1:cluster/runners\",\"lastStatus\":\"STOPPED\",\
             \"startedBy\":\"{}\",{started}\"stopCode\":\"{}\",\"stoppedReason\":\"simulated\",\
             \"containers\":[{{{exit}\"name\":\"runner\"}}]}}}}",
            arn(id, task.job),
            task.started_by,
            task.stop_code,
        );
        let job = task.job;
        self.queue_lifecycle(body.into(), job);
    }

    fn queue_lifecycle(&mut self, body: Rc<str>, job: u64) {
        let now = self.now;
        self.lifecycle.send(body, job, now);
        self.poll_soon(Which::Lifecycle, now);
    }

    // The schedule

    fn schedule_sweep(&mut self) {
        self.after(SWEEP_EVERY, Ev::Sweep);
        if self.settings.planted == Planted::NoSweep {
            return;
        }
        let time = rfc3339(self.now);
        let body: Rc<str> =
            format!("{{\"source\":\"aws.events\",\"detail-type\":\"Scheduled Event\",\"time\":\"{time}\",\"detail\":{{}}}}")
                .into();
        match self.decide(0, Point::Schedule, &[(1, 500), (2, 1_000)]) {
            0 => self.queue_lifecycle(body, 0),
            1 => {
                self.queue_lifecycle(body.clone(), 0);
                self.queue_lifecycle(body, 0);
            }
            _ => tell!(self, 0, "a sweep is not run"),
        }
    }

    // Bookkeeping

    fn sample(&mut self) {
        self.after(MINUTE, Ev::Sample);
        let (waiting, live) = (self.github.waiting_count(), self.ecs.running.len());
        self.stats.sample(self.now, waiting, live);
        if (self.now / MINUTE).is_multiple_of(5) {
            self.check_all();
        }
        let Some(over) = self.arrivals_over else { return };
        if !self.chance.is_calm() && !self.chance.is_scripted() && self.now > over + 40 * MINUTE {
            self.chance.be_calm();
        }
        if self.open == 0 && self.books_are_closed() {
            self.over = true;
        } else if self.now > over + 5 * HOUR {
            self.check_end();
            self.over = true;
        }
    }

    /// Nothing is left of any job.
    fn books_are_closed(&self) -> bool {
        let pool = self.settings.pool as usize;
        self.jobs.len() == 0
            && self.github.registrations.len() == pool
            && self.ecs.running.len() == pool
            && self.lifecycle.messages().all(|message| message.job == 0)
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
        Ev::Started(task) => (10, *task, 0),
        Ev::Connect(task) => (11, *task, 0),
        Ev::AssignRunner(registration) => (12, *registration, 0),
        Ev::AssignJob(job) => (13, *job, 0),
        Ev::Acquired(job, registration) => (14, *job, *registration),
        Ev::Finish(job, registration) => (15, *job, *registration),
        Ev::End(task, code, _) => (16, *task, code.len() as u64),
        Ev::Notice(job) => (17, *job, 0),
        Ev::Requeue(job) => (18, *job, 0),
        Ev::StoppedEvent(task) => (19, *task, 0),
        Ev::Sweep => (20, 0, 0),
        Ev::Sample => (21, 0, 0),
    }
}

/// A time of the history, as the flows see it.
pub fn time(at: Ms) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos((i128::from(EPOCH) * 1_000 + i128::from(at)) * 1_000_000)
        .expect("a time of this century")
}

/// As GitHub and EventBridge write it.
pub fn rfc3339(at: Ms) -> String {
    let time = time(at);
    let (date, clock) = (time.date(), time.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second()
    )
}

/// The labels of a job, as its workflow writes them.
pub fn labels(job: &plan::Job) -> Vec<String> {
    let mut labels: Vec<String> =
        LABELS[usize::from(job.labels)].iter().map(|label| (*label).to_owned()).collect();
    if job.unique {
        labels.push(format!("run={}", job.number));
    }
    labels
}

/// The ARN of a task: the job is in it, so that what was said of a task can be told of its job.
pub fn arn(task: u64, job: u64) -> String {
    format!("arn:aws:ecs:eu-central-1:1:task/runners/{task}x{job}")
}

/// The repository of a job.
pub fn repository(job: &plan::Job) -> String {
    format!("app-{}", job.repository)
}

/// Task and job of an ARN.
pub fn from_arn(arn: &str) -> (u64, u64) {
    let id = arn.rsplit('/').next().unwrap_or_default();
    let (task, job) = id.split_once('x').unwrap_or_default();
    (task.parse().unwrap_or_default(), job.parse().unwrap_or_default())
}

/// GitHub's payload of an event.
pub fn payload(world: &World, event: &Event) -> String {
    let (action, status) = match event.action {
        Action::Queued => ("queued", "queued"),
        Action::InProgress => ("in_progress", "in_progress"),
        Action::Completed => ("completed", "completed"),
    };
    let job = event.job;
    let plan = &world.github.job(job).expect("an event is about a job").plan;
    let labels = labels(plan).iter().map(|label| format!("\"{label}\"")).collect::<Vec<_>>().join(",");
    let runner = match event.runner.as_ref().map(Purpose::runner_name) {
        Some(name) => format!("\"{name}\""),
        None => "null".to_owned(),
    };
    format!(
        "{{\"action\":\"{action}\",\"workflow_job\":{{\"id\":{job},\"run_id\":{job},\"status\":\"{status}\",\
         \"labels\":[{labels}],\"name\":\"build\",\"workflow_name\":\"ci\",\"created_at\":\"{}\",\
         \"runner_name\":{runner}}},\"repository\":{{\"name\":\"{}\",\"private\":true,\
         \"owner\":{{\"login\":\"acme\"}}}},\"installation\":{{\"id\":7}}}}",
        rfc3339(plan.at),
        repository(plan),
    )
}
