//! GitHub Actions as a state machine: registrations, runners, jobs, and which runner gets which job.
//! No I/O and no clock: every method that depends on the time takes `now`, and nothing is random, so that
//! a history replays to the byte. Everything that happens once a job is a lookup in an index, because the
//! simulator plays a million of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use time::{Duration, OffsetDateTime};

pub use super::actions::*;
use super::{
    labels::{LabelBook, Labels},
    past::{Past, Sight},
};

/// "An ephemeral self-hosted runner is automatically removed if it has not connected for more than 1 day"
/// (GitHub Docs, "Self-hosted runners reference").
const REMOVED_AFTER: Duration = Duration::days(1);

/// GitHub's page size at most.
pub const PAGE: usize = 100;

#[derive(Default)]
pub struct Github {
    /// The runner groups there are, besides GitHub's own.
    pub groups: BTreeSet<u64>,
    /// Of those, the ones that are for some repositories alone, `owner/name` in lower case.
    pub open_to: BTreeMap<u64, Arc<BTreeSet<String>>>,
    /// The runner's newest release.
    pub newest: &'static str,
    /// The release that runners connect with.
    pub deployed: &'static str,
    labels: LabelBook,
    runners: BTreeMap<u64, Runner>,
    last_runner: u64,
    by_name: BTreeMap<Arc<str>, BTreeSet<u64>>,
    by_scope: BTreeMap<Arc<Scope>, BTreeSet<u64>>,
    /// Those that lists do not show.
    unlisted: BTreeSet<u64>,
    /// Offline runners by the moment they went.
    offline: BTreeSet<(OffsetDateTime, u64)>,
    /// Online, idle runners by the number of each of their labels.
    idle: BTreeMap<u32, BTreeSet<u64>>,
    past_runners: Past<Runner>,
    places: BTreeMap<(String, String), Arc<Place>>,
    /// The names that repositories had before, and have left to nobody else.
    former_names: BTreeMap<(String, String), u64>,
    last_place: u64,
    jobs: BTreeMap<u64, Job>,
    last_job: u64,
    queued: BTreeSet<u64>,
    /// Queued jobs by label set, each set filed under that of its labels which was the rarest: a runner
    /// looks only at the sets that are filed under one of its own labels.
    queued_by_labels: BTreeMap<u32, BTreeMap<Arc<Labels>, BTreeSet<u64>>>,
    past_jobs: Past<Job>,
    /// Those of several jobs, or of several attempts.
    pub(super) runs: BTreeMap<u64, super::runs::Run>,
    /// How a job is numbered that runs again at that attempt; `None`: like any other.
    pub number_again: Option<fn(u64, u32) -> u64>,
    /// In the order in which they were made.
    pub checks: Vec<super::checks::CheckRun>,
    pub statuses: Vec<super::checks::Status>,
}

impl Github {
    /// A GitHub with the default runner group and nothing else.
    pub fn new() -> Self {
        Github { groups: BTreeSet::from([1]), newest: "2.337.0", deployed: "2.337.0", ..Github::default() }
    }

    // Registrations

    /// `generate-jitconfig`: the id of the new registration.
    pub fn mint<L: AsRef<str>>(
        &mut self,
        scope: &Scope,
        name: &str,
        group: u64,
        labels: &[L],
        now: OffsetDateTime,
    ) -> Result<u64, MintError> {
        self.expire(now);
        if labels.is_empty() || labels.len() > 100 || labels.iter().any(|label| label.as_ref().is_empty()) {
            return Err(MintError::Labels);
        }
        if name.is_empty() || name.chars().count() > 64 {
            return Err(MintError::Name);
        }
        if group == 2 {
            return Err(MintError::GroupNotYours);
        }
        if !self.groups.contains(&group) {
            return Err(MintError::UnknownGroup);
        }
        if self.find(scope, name).is_some() {
            return Err(MintError::NameTaken);
        }
        self.last_runner += 1;
        let id = self.last_runner;
        let scope = match self.by_scope.get_key_value(scope) {
            Some((known, _)) => known.clone(),
            None => Arc::new(scope.clone()),
        };
        let runner = Runner {
            id,
            name: name.into(),
            scope,
            group,
            open_to: self.open_to.get(&group).cloned(),
            labels: self.labels.read(labels),
            online: false,
            busy: false,
            job: None,
            ghost: false,
            version: None,
            untrue: Untrue::default(),
            offline_since: now,
        };
        self.by_name.entry(runner.name.clone()).or_default().insert(id);
        self.by_scope.entry(runner.scope.clone()).or_default().insert(id);
        self.offline.insert((now, id));
        self.past_runners.changes(id, None, now);
        self.runners.insert(id, runner);
        Ok(id)
    }

    /// A registration by id, in the scope in which it lives.
    pub fn runner(&self, id: u64) -> Option<&Runner> {
        self.runners.get(&id)
    }

    /// A registration by name.
    pub fn find(&self, scope: &Scope, name: &str) -> Option<&Runner> {
        self.named(name).find(|runner| *runner.scope == *scope)
    }

    /// The registrations of that name, wherever they live.
    pub fn named(&self, name: &str) -> impl Iterator<Item = &Runner> {
        self.by_name.get(name).into_iter().flatten().map(|id| &self.runners[id])
    }

    /// `GET {scope}/actions/runners/{id}`.
    pub fn show_runner(&self, scope: &Scope, id: u64, sight: Sight) -> Option<&Runner> {
        self.seen(id, sight).filter(|runner| *runner.scope == *scope)
    }

    fn seen(&self, id: u64, sight: Sight) -> Option<&Runner> {
        self.past_runners.shown(id, sight).unwrap_or_else(|| self.runners.get(&id))
    }

    /// `GET {scope}/actions/runners?name=…`.
    pub fn show_named(&self, scope: &Scope, name: &str, sight: Sight) -> Option<&Runner> {
        let now = self.by_name.get(name).into_iter().flatten().copied();
        let ids: BTreeSet<u64> = now.chain(self.past_runners.changed_since(sight)).collect();
        ids.into_iter()
            .filter_map(|id| self.show_runner(scope, id, sight))
            .find(|runner| *runner.name == *name && !runner.untrue.unlisted)
    }

    /// One page of a scope's registrations in the order of their ids (pages count from 1), and how many
    /// there are in all.
    pub fn list(&self, scope: &Scope, page: usize, per_page: usize, sight: Sight) -> (Vec<&Runner>, usize) {
        let none = BTreeSet::new();
        let now = self.by_scope.get(scope).unwrap_or(&none);
        let skipped = per_page * (page - 1);
        let changed: Vec<u64> = self.past_runners.changed_since(sight).collect();
        if changed.is_empty() && self.unlisted.is_empty() {
            let page = now.iter().skip(skipped).take(per_page);
            return (page.map(|id| &self.runners[id]).collect(), now.len());
        }
        let ids: BTreeSet<u64> = now.iter().copied().chain(changed).collect();
        let shown = ids.into_iter().filter_map(|id| self.show_runner(scope, id, sight));
        let all: Vec<&Runner> = shown.filter(|runner| !runner.untrue.unlisted).collect();
        let total = all.len();
        (all.into_iter().skip(skipped).take(per_page).collect(), total)
    }

    /// All registrations.
    pub fn runners(&self) -> impl ExactSizeIterator<Item = &Runner> {
        self.runners.values()
    }

    /// `DELETE …/actions/runners/{id}`: one caller gets 204.
    pub fn delete(&mut self, scope: &Scope, id: u64, now: OffsetDateTime) -> Deleted {
        self.expire(now);
        match self.runners.get(&id) {
            Some(runner) if *runner.scope != *scope => Deleted::Gone,
            Some(runner) if runner.seems_busy() => Deleted::Busy,
            Some(_) => {
                self.remove(id, now);
                Deleted::Spent
            }
            None => Deleted::Gone,
        }
    }

    /// Removes the registrations that have been offline for more than a day.
    pub fn expire(&mut self, now: OffsetDateTime) {
        while let Some(&(since, id)) = self.offline.first() {
            if now - since <= REMOVED_AFTER {
                break;
            }
            self.remove(id, now);
        }
    }

    fn remove(&mut self, id: u64, now: OffsetDateTime) {
        let Some(runner) = self.runners.remove(&id) else { return };
        self.past_runners.changes(id, Some(&runner), now);
        self.offline.remove(&(runner.offline_since, id));
        self.unlisted.remove(&id);
        unfile(&mut self.by_name, &runner.name, id);
        unfile(&mut self.by_scope, &runner.scope, id);
        for label in runner.labels.numbers() {
            unfile(&mut self.idle, label, id);
        }
    }

    // Runners

    /// The runner's process connects with its JIT configuration. `false`: the registration is gone, and
    /// the runner exits.
    pub fn connect(&mut self, id: u64, now: OffsetDateTime) -> bool {
        self.expire(now);
        let version: Arc<str> = self.deployed.into();
        self.change(id, now, |runner| {
            runner.online = true;
            runner.version = Some(version);
        })
    }

    /// The runner's process is gone. A job that it runs stays with it until GitHub notices: `complete`
    /// that job then.
    pub fn disconnect(&mut self, id: u64, now: OffsetDateTime) -> bool {
        self.change(id, now, |runner| {
            runner.online = false;
            runner.offline_since = now;
        })
    }

    /// Busy without a job that this world knows.
    pub fn set_busy(&mut self, id: u64, busy: bool, now: OffsetDateTime) -> bool {
        self.change(id, now, |runner| runner.busy = busy || runner.job.is_some())
    }

    /// From now on GitHub says this of the runner, although it is not so.
    pub fn say_of_runner(&mut self, id: u64, untrue: Untrue, now: OffsetDateTime) -> bool {
        match untrue.unlisted && self.runners.contains_key(&id) {
            true => self.unlisted.insert(id),
            false => self.unlisted.remove(&id),
        };
        self.change(id, now, |runner| runner.untrue = untrue)
    }

    fn change(&mut self, id: u64, now: OffsetDateTime, change: impl FnOnce(&mut Runner)) -> bool {
        let Some(runner) = self.runners.get_mut(&id) else { return false };
        self.past_runners.changes(id, Some(runner), now);
        self.offline.remove(&(runner.offline_since, id));
        change(runner);
        // A busy runner is removed when its job completes, not before.
        if !runner.online && !runner.busy {
            self.offline.insert((runner.offline_since, id));
        }
        let idle = runner.is_idle();
        for label in runner.labels.numbers() {
            if idle {
                self.idle.entry(*label).or_default().insert(id);
            } else {
                unfile(&mut self.idle, label, id);
            }
        }
        true
    }

    // Jobs

    /// A job that waits for a runner; `id` 0 lets GitHub number it.
    pub fn queue_job<L: AsRef<str>>(
        &mut self,
        id: u64,
        owner: &str,
        repository: &str,
        labels: &[L],
        now: OffsetDateTime,
    ) -> u64 {
        let id = if id == 0 { self.last_job + 1 } else { id };
        self.last_job = self.last_job.max(id);
        self.unfile_job(id);
        self.job_changes(id, now);
        let job = Job {
            id,
            place: self.place(owner, repository),
            name: "test".into(),
            run: id,
            run_attempt: 1,
            labels: self.labels.read(labels),
            status: JobStatus::Queued,
            conclusion: None,
            runner: None,
            created_at: now,
            started_at: None,
            completed_at: None,
            silence: None,
            status_since: None,
            filed_under: 0,
        };
        self.jobs.insert(id, job);
        self.file_job(id);
        id
    }

    fn place(&mut self, owner: &str, repository: &str) -> Arc<Place> {
        let name = (owner.to_lowercase(), repository.to_lowercase());
        match self.places.get(&name) {
            Some(known) => known.clone(),
            None => {
                self.last_place += 1;
                let (owner, repository) = (owner.to_owned(), repository.to_owned());
                let place = Arc::new(Place { id: self.last_place, owner, repository });
                self.former_names.remove(&name);
                self.places.insert(name, place.clone());
                place
            }
        }
    }

    /// The repository of that id.
    pub fn place_of_id(&self, id: u64) -> Option<&Place> {
        self.places.values().find(|place| place.id == id).map(|place| &**place)
    }

    /// The id of the repository that had that name, and whose old links lead to it still.
    pub fn moved(&self, owner: &str, repository: &str) -> Option<u64> {
        self.former_names.get(&(owner.to_lowercase(), repository.to_lowercase())).copied()
    }

    /// A repository is renamed, or transferred to another owner.
    pub fn rename(&mut self, (owner, repository): (&str, &str), (new_owner, new_name): (&str, &str)) {
        let lower = |owner: &str, name: &str| (owner.to_lowercase(), name.to_lowercase());
        let Some(place) = self.places.remove(&lower(owner, repository)) else { return };
        let (id, owner, repository) = (place.id, new_owner.to_owned(), new_name.to_owned());
        let renamed = Arc::new(Place { id, owner, repository });
        for job in self.jobs.values_mut().filter(|job| job.place.id == id) {
            job.place = renamed.clone();
        }
        self.former_names.insert(lower(&place.owner, &place.repository), id);
        self.places.insert(lower(new_owner, new_name), renamed);
    }

    /// `GET /repos/{owner}/{repo}/actions/jobs/{id}`.
    pub fn show_job(&self, owner: &str, repository: &str, id: u64, sight: Sight) -> Option<&Job> {
        self.seen_job(id, sight).filter(|job| job.place.is(owner, repository))
    }

    pub(super) fn seen_job(&self, id: u64, sight: Sight) -> Option<&Job> {
        self.past_jobs.shown(id, sight).unwrap_or_else(|| self.jobs.get(&id))
    }

    /// Before a change of a job.
    fn job_changes(&mut self, id: u64, now: OffsetDateTime) {
        self.past_jobs.changes(id, self.jobs.get(&id), now);
    }

    pub fn job(&self, id: u64) -> Option<&Job> {
        self.jobs.get(&id)
    }

    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values()
    }

    /// The jobs that wait for a runner, the oldest first.
    pub fn queued(&self) -> impl Iterator<Item = u64> {
        self.queued.iter().copied()
    }

    pub fn queued_count(&self) -> usize {
        self.queued.len()
    }

    /// From now on GitHub does not say what it knows of the job.
    pub fn be_silent(&mut self, id: u64, silence: Silence, now: OffsetDateTime) {
        self.job_changes(id, now);
        if let Some(job) = self.jobs.get_mut(&id) {
            job.silence = Some(silence);
        }
    }

    /// From now on GitHub says a status of the job that it has added since; `None`: its own again.
    pub fn say_status(&mut self, id: u64, status: Option<&'static str>, now: OffsetDateTime) {
        self.job_changes(id, now);
        if let Some(job) = self.jobs.get_mut(&id) {
            job.status_since = status;
        }
    }

    /// A deployment protection rule holds the job back.
    pub fn hold_back(&mut self, id: u64, now: OffsetDateTime) {
        self.job_changes(id, now);
        if self.queued.contains(&id)
            && let Some(job) = self.jobs.get_mut(&id)
        {
            job.status = JobStatus::Waiting;
        }
        self.unfile_job(id);
    }

    /// The rule is satisfied: the job is queued.
    pub fn approve(&mut self, id: u64, now: OffsetDateTime) {
        if self.jobs.get(&id).is_some_and(|job| job.status == JobStatus::Waiting) {
            self.job_changes(id, now);
            self.file_job(id);
        }
    }

    /// Whether the job waits for a runner, and the runner for a job, and the two fit.
    pub fn fit(&self, job: u64, runner: u64) -> bool {
        match (self.jobs.get(&job), self.runners.get(&runner)) {
            (Some(job), Some(runner)) => job.status == JobStatus::Queued && runner.may_run(job),
            _ => false,
        }
    }

    /// The runners that may get the job: online, idle, with all of its labels.
    pub fn runners_for(&self, job: u64) -> impl Iterator<Item = u64> {
        let job = self.jobs.get(&job).filter(|job| job.status == JobStatus::Queued);
        let rarest = job.and_then(|job| {
            let numbers = job.labels.numbers();
            let sets: Option<Vec<_>> = numbers.iter().map(|label| self.idle.get(label)).collect();
            sets?.into_iter().min_by_key(|ids| ids.len())
        });
        let fits = move |id: &u64| {
            let runner = &self.runners[id];
            job.is_some_and(|job| runner.may_run(job))
        };
        rarest.into_iter().flatten().copied().filter(fits)
    }

    /// The jobs that the runner may get: of each label set the oldest, `of_each` at most.
    pub fn jobs_for(&self, runner: u64, of_each: usize) -> impl Iterator<Item = u64> {
        let runner = self.runners.get(&runner).filter(|runner| runner.is_idle());
        runner
            .into_iter()
            .flat_map(|runner| runner.labels.numbers().iter().map(move |label| (runner, label)))
            .filter_map(|(runner, label)| Some((runner, self.queued_by_labels.get(label)?)))
            .flat_map(|(runner, sets)| sets.iter().map(move |(wanted, jobs)| (runner, wanted, jobs)))
            .filter(|(runner, wanted, _)| runner.labels.cover(wanted))
            .flat_map(move |(runner, _, jobs)| {
                jobs.iter().copied().filter(|job| runner.lets_in(&self.jobs[job])).take(of_each)
            })
    }

    /// Gives the job to the runner, if the two fit.
    pub fn assign(&mut self, job: u64, runner: u64, now: OffsetDateTime) -> bool {
        let fits = self.fit(job, runner);
        if fits {
            self.job_changes(job, now);
            self.unfile_job(job);
            if let (Some(job), Some(runner)) = (self.jobs.get_mut(&job), self.runners.get(&runner)) {
                job.status = JobStatus::InProgress;
                job.started_at = Some(now);
                job.runner = Some((runner.id, runner.name.clone()));
            }
            self.change(runner, now, |it| {
                it.busy = true;
                it.job = Some(job);
            });
        }
        fits
    }

    /// Gives every queued job, the oldest first, the first runner that fits: the pairs.
    pub fn assign_all(&mut self, now: OffsetDateTime) -> Vec<(u64, u64)> {
        let queued: Vec<u64> = self.queued.iter().copied().collect();
        let mut pairs = Vec::new();
        for job in queued {
            let runner = self.runners_for(job).next();
            if let Some(runner) = runner
                && self.assign(job, runner, now)
            {
                pairs.push((job, runner));
            }
        }
        pairs
    }

    /// The runner could not acquire its job: the job waits again, the runner is a ghost, and the assignment has
    /// `consumed` its registration or not.
    pub fn lose_job(&mut self, job: u64, consumed: bool, now: OffsetDateTime) {
        self.job_changes(job, now);
        let Some(it) = self.jobs.get_mut(&job).filter(|job| job.status == JobStatus::InProgress) else {
            return;
        };
        let runner = it.runner.take();
        it.started_at = None;
        self.file_job(job);
        if let Some((runner, _)) = runner {
            self.change(runner, now, |it| {
                it.busy = false;
                it.job = None;
                it.ghost = true;
            });
            if consumed {
                self.remove(runner, now);
            }
        }
    }

    /// The job is over, with or without a runner; an ephemeral registration is removed with it.
    pub fn complete(&mut self, job: u64, conclusion: &str, now: OffsetDateTime) -> bool {
        if self.jobs.get(&job).is_none_or(|job| job.status == JobStatus::Completed) {
            return false;
        }
        self.job_changes(job, now);
        self.unfile_job(job);
        let mut spent = None;
        if let Some(it) = self.jobs.get_mut(&job) {
            it.status = JobStatus::Completed;
            it.conclusion = Some(conclusion.to_owned());
            it.completed_at = Some(now);
            spent = it.runner.as_ref().map(|(id, _)| *id);
        }
        if let Some(runner) = spent {
            self.remove(runner, now);
        }
        true
    }

    /// Cancelled or skipped: while it is queued, it ends without a runner.
    pub fn cancel(&mut self, job: u64, now: OffsetDateTime) -> bool {
        self.complete(job, "cancelled", now)
    }

    /// What of the job does not change while it lives.
    pub(super) fn in_run(&mut self, id: u64, run: u64, attempt: u32, name: &str) {
        if let Some(job) = self.jobs.get_mut(&id) {
            (job.run, job.run_attempt, job.name) = (run, attempt, name.into());
        }
    }

    fn file_job(&mut self, id: u64) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.status = JobStatus::Queued;
        self.queued.insert(id);
        let crowd = |label: &u32| self.queued_by_labels.get(label).map_or(0, BTreeMap::len);
        let Some(&rarest) = job.labels.numbers().iter().min_by_key(|label| crowd(label)) else { return };
        let sets = self.queued_by_labels.entry(rarest).or_default();
        sets.entry(job.labels.clone()).or_default().insert(id);
        job.filed_under = rarest;
    }

    fn unfile_job(&mut self, id: u64) {
        let Some(job) = self.jobs.get(&id).filter(|_| self.queued.remove(&id)) else { return };
        if let Some(sets) = self.queued_by_labels.get_mut(&job.filed_under) {
            unfile(sets, &job.labels, id);
            if sets.is_empty() {
                self.queued_by_labels.remove(&job.filed_under);
            }
        }
    }
}

fn unfile<K: Ord>(index: &mut BTreeMap<K, BTreeSet<u64>>, key: &K, id: u64) {
    if let Some(ids) = index.get_mut(key) {
        ids.remove(&id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}
