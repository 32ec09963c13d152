//! GitHub: registrations, jobs, which runner gets which job, webhook deliveries, and the rate limits.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    rc::Rc,
};

use gha_fargate_runners::ids::Purpose;

use super::{
    HOUR, MINUTE, Ms,
    past::{LAG, Past},
    plan::{self, LABELS, covers},
};

/// A job, as GitHub sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Queued,
    InProgress,
    Completed,
}

#[derive(Debug, Clone)]
pub struct Job {
    pub plan: plan::Job,
    pub status: Status,
    /// The runner that runs it or ran it.
    pub runner: Option<Purpose>,
    pub registration: Option<u64>,
    /// When it left the queue.
    pub left_at: Option<Ms>,
    /// It was rejected after as many runners as are allowed.
    pub rejected: bool,
    /// Runners started for it that died before they took a job.
    pub died: u32,
    /// Tasks started for it.
    pub started: u32,
}

impl Job {
    /// The value of its `run=…` label.
    pub fn unique(&self) -> Option<u64> {
        self.plan.unique.then_some(self.plan.number)
    }
}

/// An ephemeral registration.
#[derive(Debug, Clone)]
pub struct Registration {
    pub id: u64,
    pub name: String,
    pub purpose: Purpose,
    /// The job it was minted for, 0 for the pool.
    pub job: u64,
    pub labels: u8,
    pub unique: Option<u64>,
    pub texts: Rc<[String]>,
    pub online: bool,
    /// The job it runs.
    pub busy: Option<u64>,
    /// It lost its job and polls for ever.
    pub ghost: bool,
    /// Another runner was announced for its job in its place.
    pub given_up: bool,
    /// It was found to have been left behind.
    pub leaked: bool,
    pub task: Option<u64>,
    pub minted_at: Ms,
    pub online_at: Option<Ms>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Queued,
    InProgress,
    Completed,
}

/// One event of the App's webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub guid: u64,
    pub job: u64,
    pub action: Action,
    pub runner: Option<Purpose>,
    pub registration: Option<u64>,
    /// Deliveries of it so far.
    pub tries: u8,
}

#[derive(Debug, Clone)]
pub struct Delivery {
    pub id: u64,
    pub event: Event,
    pub at: Ms,
    pub delivered: bool,
}

/// Why GitHub refuses a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limited {
    pub until: Ms,
}

/// 900 points a minute, of which a GET costs one and anything else five ("Rate limits for the REST API"), and
/// 15,000 requests an hour.
#[derive(Debug, Default)]
pub struct Limits {
    minute: (Ms, u32),
    hour: (Ms, u32),
    /// The most points of any minute.
    pub most_points: u32,
    pub most_requests: u32,
    /// Requests refused.
    pub refused: u64,
}

pub const POINTS_A_MINUTE: u32 = 900;
pub const REQUESTS_AN_HOUR: u32 = 15_000;

impl Limits {
    pub fn take(&mut self, points: u32, now: Ms) -> Result<(), Limited> {
        if self.minute.0 != now / MINUTE {
            self.minute = (now / MINUTE, 0);
        }
        if self.hour.0 != now / HOUR {
            self.hour = (now / HOUR, 0);
        }
        let until = match () {
            () if self.hour.1 >= REQUESTS_AN_HOUR => Some((now / HOUR + 1) * HOUR),
            () if self.minute.1 + points > POINTS_A_MINUTE => Some((now / MINUTE + 1) * MINUTE),
            () => None,
        };
        if let Some(until) = until {
            self.refused += 1;
            return Err(Limited { until });
        }
        self.minute.1 += points;
        self.hour.1 += 1;
        self.most_points = self.most_points.max(self.minute.1);
        self.most_requests = self.most_requests.max(self.hour.1);
        Ok(())
    }
}

#[derive(Debug, Default)]
pub struct Github {
    /// By number, from 1; `None` for numbers left out of the history.
    jobs: Vec<Option<Job>>,
    /// The number of the first one.
    first: u64,
    /// Jobs that wait, by label set.
    waiting: [BTreeSet<u64>; LABELS.len()],
    pub registrations: BTreeMap<u64, Registration>,
    by_name: BTreeMap<String, u64>,
    /// Runners that may get a job, by label set.
    idle: [BTreeSet<u64>; LABELS.len()],
    last_registration: u64,
    pub deliveries: VecDeque<Delivery>,
    last_guid: u64,
    last_delivery: u64,
    pub limits: Limits,
    pub now: Ms,
    past: Past,
}

impl Github {
    // Jobs

    pub fn queue(&mut self, plan: plan::Job) {
        if self.jobs.is_empty() {
            self.first = plan.number;
        }
        let index = (plan.number - self.first) as usize;
        if self.jobs.len() <= index {
            self.jobs.resize(index + 1, None);
        }
        self.waiting[usize::from(plan.labels)].insert(plan.number);
        self.past.of_job(self.now, plan.number, None);
        self.jobs[index] = Some(Job {
            plan,
            status: Status::Queued,
            runner: None,
            registration: None,
            left_at: None,
            rejected: false,
            died: 0,
            started: 0,
        });
    }

    pub fn job(&self, number: u64) -> Option<&Job> {
        self.jobs.get(usize::try_from(number.checked_sub(self.first)?).ok()?)?.as_ref()
    }

    pub fn job_mut(&mut self, number: u64) -> Option<&mut Job> {
        self.jobs.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)?.as_mut()
    }

    /// The job as a GET shows it: as it is, or as it was a moment ago.
    pub fn shown_job(&self, number: u64, late: bool) -> Option<&Job> {
        let before = if late { self.past.job(self.now, number) } else { None };
        before.unwrap_or_else(|| self.job(number))
    }

    /// Before a change of a job.
    fn job_changes(&mut self, number: u64) {
        let before = self.jobs.get((number - self.first) as usize).and_then(Option::as_ref);
        self.past.of_job(self.now, number, before);
    }

    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.iter().flatten()
    }

    pub fn waiting(&self) -> impl Iterator<Item = u64> {
        self.waiting.iter().flatten().copied()
    }

    pub fn waiting_count(&self) -> usize {
        self.waiting.iter().map(BTreeSet::len).sum()
    }

    fn fits(&self, job: u64, registration: &Registration) -> bool {
        self.job(job).is_some_and(|job| {
            covers(registration.labels, job.plan.labels)
                && (job.unique().is_none() || job.unique() == registration.unique)
        })
    }

    /// The jobs that a runner may get.
    pub fn jobs_for(&self, registration: u64) -> Vec<u64> {
        let Some(registration) = self.registrations.get(&registration).filter(|it| is_idle(it)) else {
            return Vec::new();
        };
        let sets = (0..).zip(&self.waiting).filter(|(labels, _)| covers(registration.labels, *labels));
        // The oldest few of each set are choice enough.
        let mut jobs: Vec<u64> = sets
            .flat_map(|(_, jobs)| jobs.iter().copied().filter(|&job| self.fits(job, registration)).take(8))
            .collect();
        jobs.sort_unstable();
        // Its own job, too, however many came before.
        if self.job(registration.job).is_some_and(|job| job.status == Status::Queued)
            && self.fits(registration.job, registration)
            && !jobs.contains(&registration.job)
        {
            jobs.push(registration.job);
        }
        jobs
    }

    /// The runners that may get a job.
    pub fn runners_for(&self, job: u64) -> Vec<u64> {
        let Some(it) = self.job(job).filter(|job| job.status == Status::Queued) else { return Vec::new() };
        let sets = (0..).zip(&self.idle).filter(|(labels, _)| covers(*labels, it.plan.labels));
        sets.flat_map(|(_, ids)| ids.iter().copied())
            .filter(|id| self.registrations.get(id).is_some_and(|runner| self.fits(job, runner)))
            .take(8)
            .collect()
    }

    pub fn assign(&mut self, job: u64, registration: u64, now: Ms) {
        self.job_changes(job);
        self.registration_changes(registration);
        let Some(runner) = self.registrations.get_mut(&registration) else { return };
        runner.busy = Some(job);
        let purpose = runner.purpose.clone();
        self.idle[usize::from(runner.labels)].remove(&registration);
        let Some(it) = self.job_mut(job) else { return };
        it.status = Status::InProgress;
        it.runner = Some(purpose);
        it.registration = Some(registration);
        it.left_at = Some(now);
        let labels = usize::from(it.plan.labels);
        self.waiting[labels].remove(&job);
    }

    /// The runner lost its job: it polls for ever, and is given no other.
    pub fn lose(&mut self, registration: u64) {
        self.registration_changes(registration);
        if let Some(runner) = self.registrations.get_mut(&registration) {
            runner.ghost = true;
            runner.busy = None;
            self.idle[usize::from(runner.labels)].remove(&registration);
        }
    }

    /// The job waits again.
    pub fn requeue(&mut self, job: u64) {
        self.job_changes(job);
        let Some(it) = self.job_mut(job) else { return };
        it.status = Status::Queued;
        it.runner = None;
        it.registration = None;
        it.left_at = None;
        let labels = usize::from(it.plan.labels);
        self.waiting[labels].insert(job);
    }

    /// The job is over; the registration of its runner goes with it.
    pub fn complete(&mut self, job: u64, now: Ms) -> Option<Registration> {
        self.job_changes(job);
        let it = self.job_mut(job).filter(|job| job.status != Status::Completed)?;
        it.status = Status::Completed;
        it.left_at.get_or_insert(now);
        let (labels, registration) = (usize::from(it.plan.labels), it.registration);
        self.waiting[labels].remove(&job);
        registration.and_then(|id| self.remove(id))
    }

    // Registrations

    pub fn mint(&mut self, name: &str, labels: &[String], now: Ms) -> Option<u64> {
        if self.by_name.contains_key(name) {
            return None;
        }
        let purpose = Purpose::from_runner_name(name).expect("a name of this fleet");
        let unique = labels.iter().find_map(|label| label.strip_prefix("run=")?.parse().ok());
        let mut base: Vec<&str> =
            labels.iter().map(String::as_str).filter(|label| !label.starts_with("run=")).collect();
        base.sort_unstable();
        let set = LABELS.iter().position(|set| {
            let mut set = set.to_vec();
            set.sort_unstable();
            set == base
        });
        self.last_registration += 1;
        let id = self.last_registration;
        self.past.of_registration(now, id, None);
        self.by_name.insert(name.to_owned(), id);
        self.registrations.insert(
            id,
            Registration {
                id,
                name: name.to_owned(),
                job: purpose.job().map_or(0, |job| job.0),
                purpose,
                labels: set.unwrap_or_else(|| panic!("labels of no job: {labels:?}")) as u8,
                unique,
                texts: labels.into(),
                online: false,
                busy: None,
                ghost: false,
                given_up: false,
                leaked: false,
                task: None,
                minted_at: now,
                online_at: None,
            },
        );
        Some(id)
    }

    /// The registration as a GET shows it.
    pub fn shown(&self, id: u64, late: bool) -> Option<&Registration> {
        let before = if late { self.past.registration(self.now, id) } else { None };
        before.unwrap_or_else(|| self.registrations.get(&id))
    }

    /// A page of 100 of them as a GET shows them.
    pub fn page_shown(&self, skip: usize, late: bool) -> Vec<&Registration> {
        if !late {
            return self.registrations.values().skip(skip).take(100).collect();
        }
        let mut ids: BTreeSet<u64> = self.registrations.keys().copied().collect();
        ids.extend(self.past.registrations(self.now));
        ids.into_iter().filter_map(|id| self.shown(id, true)).skip(skip).take(100).collect()
    }

    /// The one of this name as a GET shows it.
    pub fn shown_by_name(&self, name: &str, late: bool) -> Option<&Registration> {
        if !late {
            return self.by_name(name);
        }
        let ids = self.past.registrations(self.now).chain(self.by_name.get(name).copied());
        ids.filter_map(|id| self.shown(id, true)).find(|registration| registration.name == name)
    }

    /// Before a change of a registration.
    fn registration_changes(&mut self, id: u64) {
        self.past.of_registration(self.now, id, self.registrations.get(&id));
    }

    pub fn by_name(&self, name: &str) -> Option<&Registration> {
        self.registrations.get(self.by_name.get(name)?)
    }

    pub fn remove(&mut self, id: u64) -> Option<Registration> {
        self.registration_changes(id);
        let registration = self.registrations.remove(&id)?;
        self.by_name.remove(&registration.name);
        self.idle[usize::from(registration.labels)].remove(&id);
        Some(registration)
    }

    pub fn connect(&mut self, id: u64, now: Ms) -> bool {
        self.registration_changes(id);
        let Some(runner) = self.registrations.get_mut(&id) else { return false };
        runner.online = true;
        runner.online_at = Some(now);
        self.idle[usize::from(runner.labels)].insert(id);
        true
    }

    pub fn disconnect(&mut self, id: u64) {
        self.registration_changes(id);
        if let Some(runner) = self.registrations.get_mut(&id) {
            runner.online = false;
            self.idle[usize::from(runner.labels)].remove(&id);
        }
    }

    // Deliveries

    pub fn event(&mut self, job: u64, action: Action) -> Event {
        self.last_guid += 1;
        let of = self.job(job);
        let (runner, registration) = (of.and_then(|it| it.runner.clone()), of.and_then(|it| it.registration));
        Event { guid: self.last_guid, job, action, runner, registration, tries: 0 }
    }

    /// Writes a delivery into the log; it has failed until it is known to have succeeded.
    pub fn deliver(&mut self, event: Event, now: Ms) -> u64 {
        self.last_delivery += 1;
        self.deliveries.push_back(Delivery { id: self.last_delivery, event, at: now, delivered: false });
        while self.deliveries.front().is_some_and(|it| now.saturating_sub(it.at) > 4 * HOUR) {
            self.deliveries.pop_front();
        }
        self.last_delivery
    }

    pub fn delivery_mut(&mut self, id: u64) -> Option<&mut Delivery> {
        let first = self.deliveries.front()?.id;
        self.deliveries.get_mut(usize::try_from(id.checked_sub(first)?).ok()?)
    }

    /// Up to 100 deliveries older than `before`, newest first; a late copy does not know the newest.
    pub fn deliveries_before(&self, before: u64, late: bool) -> impl Iterator<Item = &Delivery> {
        let until = if late { self.now.saturating_sub(LAG) } else { self.now };
        let first = self.deliveries.front().map_or(0, |delivery| delivery.id);
        let end = (before.saturating_sub(first) as usize).min(self.deliveries.len());
        self.deliveries.range(..end).rev().filter(move |it| it.at <= until).take(100)
    }
}

fn is_idle(registration: &Registration) -> bool {
    registration.online && registration.busy.is_none() && !registration.ghost
}
