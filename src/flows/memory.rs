//! What a process remembers, so that it asks once. A process that remembers nothing asks again.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use time::{Duration, OffsetDateTime};
use tokio::sync::Mutex;

use crate::{
    error::{CallError, Class},
    flows::{drought::Drought, quota::Ledger, watch::Watch},
    ids::{JobId, Purpose},
    lambda::metric::Metric,
    ports::{Target, Task, TaskArn},
    protocol::{redeliveries::Log, timing, told::Told},
};

/// A few megabytes.
const MOST: usize = 20_000;
/// The same of tasks, which are larger.
const MOST_TASKS: usize = 2_000;

/// What a process remembers: of chains only what never changes, whose runner a job that is over got, and where a job
/// lives.
#[derive(Debug, Default)]
pub struct Memory {
    pub(crate) drought: Drought,
    pub(crate) watch: Watch,
    pub(crate) ledger: Ledger,
    runners: RefCell<BTreeMap<JobId, Purpose>>,
    places: RefCell<BTreeMap<JobId, Target>>,
    /// Jobs whose own runner another job was given.
    givers: RefCell<BTreeMap<JobId, ()>>,
    /// Which job runs on a task never changes.
    tasks: RefCell<BTreeMap<JobId, Task>>,
    /// What the tags of all tasks told, and when.
    told: RefCell<Option<(OffsetDateTime, Arc<Told>)>>,
    /// Held by whoever reads those.
    pub(crate) reading: Mutex<()>,
    /// What the tags of the live ones told, and when; held by whoever reads them.
    pub(crate) live: Mutex<Option<(OffsetDateTime, Arc<Told>)>>,
    /// Tasks that have ended, and were followed up.
    followed: RefCell<BTreeSet<TaskArn>>,
    counts: RefCell<BTreeMap<Metric, u64>>,
    /// Webhook deliveries, by the App's id.
    deliveries: RefCell<BTreeMap<String, Log>>,
    looked_for_deliveries: Cell<Option<OffsetDateTime>>,
    /// How long a job had waited before a runner was started for it, and when that was seen.
    backlog: Cell<Option<(OffsetDateTime, Duration)>>,
    /// When GitHub's rate limit was met last, by the owner in lower case.
    limited: RefCell<BTreeMap<String, OffsetDateTime>>,
}

impl Memory {
    /// The job is over, and ran on that runner.
    pub(crate) fn note_runner_of(&self, job: JobId, runner: &Purpose) {
        remember(&self.runners, job, runner, MOST);
    }

    /// The runner that the job ran on, if it is known to be over.
    pub(crate) fn runner_of(&self, job: JobId) -> Option<Purpose> {
        self.runners.borrow().get(&job).cloned()
    }

    /// The job lives there.
    pub(crate) fn note_place_of(&self, job: JobId, place: &Target) {
        remember(&self.places, job, place, MOST);
    }

    /// Where the job lives.
    pub(crate) fn place_of(&self, job: JobId) -> Option<Target> {
        self.places.borrow().get(&job).cloned()
    }

    /// The runner of `owner` was given to that job, which may be the same.
    pub(crate) fn note_given(&self, owner: JobId, job: JobId) {
        if owner != job {
            remember(&self.givers, owner, &(), MOST);
        }
    }

    /// Whether another job was given that one's own runner.
    pub(crate) fn has_given(&self, job: JobId) -> bool {
        self.givers.borrow().contains_key(&job)
    }

    /// The job runs on that task, whose tags say so.
    pub(crate) fn note_task_of(&self, job: JobId, task: Task) {
        remember(&self.tasks, job, &task, MOST_TASKS);
    }

    /// The task that the job runs, or ran, on.
    pub(crate) fn task_of(&self, job: JobId) -> Option<Task> {
        self.tasks.borrow().get(&job).cloned()
    }

    /// What the tags of all tasks told at that time.
    pub(crate) fn note_told(&self, at: OffsetDateTime, told: Arc<Told>) {
        self.told.replace(Some((at, told)));
    }

    /// What the tags of all tasks told, if they were read since.
    pub(crate) fn told_since(&self, since: OffsetDateTime) -> Option<Arc<Told>> {
        self.told.borrow().as_ref().filter(|(at, _)| *at > since).map(|(_, told)| told.clone())
    }

    /// Another runner was announced after that task, or its job given up.
    pub(crate) fn note_followed_up(&self, task: &TaskArn) {
        let mut followed = self.followed.borrow_mut();
        if followed.len() < MOST_TASKS {
            followed.insert(task.clone());
        }
    }

    /// Whether that task was followed up.
    pub(crate) fn is_followed_up(&self, task: &TaskArn) -> bool {
        self.followed.borrow().contains(task)
    }

    /// ECS shows only these: of others nobody asks whether they were followed up.
    pub(crate) fn note_shown(&self, ended: &[Task]) {
        let shown: BTreeSet<&TaskArn> = ended.iter().map(|task| &task.arn).collect();
        self.followed.borrow_mut().retain(|arn| shown.contains(arn));
    }

    /// Jobs had waited so long for a runner to be started.
    pub(crate) fn note_backlog(&self, now: OffsetDateTime, waited: Duration) {
        self.backlog.set(Some((now, waited)));
    }

    /// How long jobs have to wait for a runner to be started, if that was seen within [`timing::LATELY`].
    pub(crate) fn backlog_lately(&self, now: OffsetDateTime) -> Option<Duration> {
        self.backlog.get().filter(|(at, _)| now - *at < timing::LATELY).map(|(_, waited)| waited)
    }

    /// GitHub's rate limit was met for that owner: each installation has its own.
    pub(crate) fn note_limit(&self, owner: &str, now: OffsetDateTime) {
        let mut limited = self.limited.borrow_mut();
        limited.retain(|_, at| now - *at < timing::LATELY);
        limited.insert(owner.to_lowercase(), now);
    }

    /// GitHub's rate limit was met for that owner, if this says so.
    pub(crate) fn note_limit_in<T>(&self, answer: &Result<T, CallError>, owner: &str, now: OffsetDateTime) {
        if let Err(CallError { class: Class::RateLimited { .. }, .. }) = answer {
            self.note_limit(owner, now);
        }
    }

    /// Whether GitHub's rate limit was met for that owner within [`timing::LATELY`].
    pub(crate) fn was_limited_lately(&self, owner: &str, now: OffsetDateTime) -> bool {
        self.limited.borrow().get(&owner.to_lowercase()).is_some_and(|at| now - *at < timing::LATELY)
    }

    /// Whether it is time for another look at webhook deliveries: whoever is told so begins one.
    pub(crate) fn claim_look_for_deliveries(&self, now: OffsetDateTime) -> bool {
        let last = self.looked_for_deliveries.get();
        let is_time = last.is_none_or(|last| now - last > timing::REDELIVER_EVERY / 2);
        self.looked_for_deliveries.set(if is_time { Some(now) } else { last });
        is_time
    }

    /// The deliveries of that App's webhook, as far as they are known.
    pub(crate) fn note_deliveries(&self, app: &str, log: Log) {
        self.deliveries.borrow_mut().insert(app.to_owned(), log);
    }

    /// Takes them out: until they are noted again, nobody knows any.
    pub(crate) fn take_deliveries(&self, app: &str) -> Log {
        self.deliveries.borrow_mut().remove(app).unwrap_or_default()
    }

    /// Something was done beside what becomes of a message.
    pub(crate) fn note_count(&self, metric: Metric, by: u64) {
        *self.counts.borrow_mut().entry(metric).or_default() += by;
    }

    /// What was counted since this was last asked.
    pub fn take_counts(&self) -> BTreeMap<Metric, u64> {
        self.counts.take()
    }
}

/// Ids grow: the lowest are the oldest jobs'.
fn remember<T: Clone + PartialEq>(what: &RefCell<BTreeMap<JobId, T>>, job: JobId, it: &T, most: usize) {
    let mut known = what.borrow_mut();
    if known.get(&job) != Some(it) {
        known.insert(job, it.clone());
    }
    if known.len() > most {
        known.pop_first();
    }
}
