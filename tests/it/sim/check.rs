//! What must hold, at every step and at the end.

use std::{collections::VecDeque, fmt};

use super::{
    HOUR, MINUTE, Ms, SECOND, books,
    messages::Which,
    tasks::is_spot,
    text::moment,
    world::{IDLE_TIMEOUT, MAX_ATTEMPTS, World},
};
use crate::model::{ecs::Task, github::JobStatus};

/// What can be violated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A job stays queued although the world allows it to run, or is rejected without reason.
    Lost,
    /// Two runners for one job: two live tasks with unspent registrations at the same time, of which none was
    /// given up (an announcement of the next attempt gives a runner up), or an attempt that is started twice.
    Doubled,
    /// A task or a registration outlives its use by more than the time-out and the sweeps that it takes.
    Leaked,
    /// A limit of an outside system is not kept.
    Limit,
    /// A runner is stopped, or its registration deleted, while it runs a job.
    Killed,
    /// A job runs again that should not, or on Spot.
    RunAgain,
    /// A job that went with its runner does not run again.
    Forgotten,
    /// A dead letter for a job that runs, or is over, or that has one.
    Letter,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Lost => "lost",
            Kind::Doubled => "doubled",
            Kind::Leaked => "leaked",
            Kind::Limit => "a limit broken",
            Kind::Killed => "killed",
            Kind::RunAgain => "run again",
            Kind::Forgotten => "forgotten",
            Kind::Letter => "a letter too many",
        })
    }
}

#[derive(Debug, Clone)]
pub struct Violation {
    pub kind: Kind,
    pub job: u64,
    pub at: Ms,
    pub text: String,
}

#[derive(Debug, Default)]
pub struct Checks {
    pub violations: Vec<Violation>,
    pub counts: [u64; 8],
    /// Milliseconds for which tasks have lived past their bound.
    pub leaked_ms: u64,
    /// Until when something that is no job's fault let no runner live, or far too few.
    pub ill_until: Ms,
    /// When sweeps began in which every step worked.
    clean_sweeps: VecDeque<Ms>,
}

impl Checks {
    pub fn found(&mut self, kind: Kind, job: u64, at: Ms, text: String) {
        self.counts[kind as usize] += 1;
        if self.violations.len() < 100 {
            self.violations.push(Violation { kind, job, at, text });
        }
    }

    /// How many sweeps in which every step worked have begun since then.
    fn sweeps_since(&self, since: Ms) -> usize {
        self.clean_sweeps.iter().rev().take_while(|began| **began >= since).count()
    }
}

/// A job that waits longer than this while nothing stands in its way is lost. A failed delivery comes again after
/// 5, 15, 35 minutes; a runner that dies is replaced; none of them takes so long.
const LOST_AFTER: Ms = 3 * HOUR;
/// More than these wait for GitHub's limits, and have none for what is left over either.
const BACKLOG: usize = 1_000;
/// However many sweeps did not get through.
const LEAKED_AFTER: Ms = 2 * HOUR;
/// A task that was asked to stop takes up to two minutes, and an answer or two may be on their way.
const GRACE: Ms = 3 * MINUTE;

/// How long a task may take until its container runs: for one that waits for an instance ECS starts that first, which takes
/// minutes, and until then the task costs nothing.
fn boot(task: &Task) -> Ms {
    if task.launch.provider().starts_with("FARGATE") { 10 * MINUTE } else { 30 * MINUTE }
}

/// Of the warm pool, as GitHub stores them.
const POOL_LABELS: [&str; 4] = ["fargate", "linux", "self-hosted", "x64"];

impl World {
    /// A task has been started: is it the only one?
    pub fn check_start(&mut self, id: u64) {
        let (Some(task), Some(its)) = (self.ecs.task(id), self.books.task(id)) else { return };
        let (job, own) = (its.job, its.registration);
        if job == 0 {
            return;
        }
        if let Some(it) = self.books.job_mut(job) {
            it.started += 1;
        }
        if self.settings.container_minted {
            return self.check_start_by_token(id, job);
        }
        let Some(registration) = self.github.runner(own) else { return };
        let name = registration.name.clone();
        let unspent = |id: u64| {
            self.github.runner(id).is_some_and(|it| !it.busy && !it.ghost)
                && self.books.registration(id).is_some_and(|it| !it.given_up)
        };
        let others = self.ecs.started_by(&task.started_by).filter(|it| it.number != id);
        let mut found = None;
        for other in others {
            let Some(its) = self.books.task(other.number) else { continue };
            if other.is_live() && unspent(its.registration) && unspent(own) {
                found = Some(format!("task {} and task {id} both wait for a job", other.number));
            }
            let is_same = other.client_token == task.client_token
                || other.tags.get("gha:runner-name").is_some_and(|its| **its == *name);
            if is_same && is_spot(other) == is_spot(task) && its.ran_with_registration {
                found = Some(format!("{name} is started twice, as task {} and as task {id}", other.number));
            }
        }
        if let Some(task) = self.books.task_mut(id) {
            task.ran_with_registration = true;
        }
        if let Some(text) = found {
            self.violation(Kind::Doubled, job, text);
        }
    }

    /// Its container has not minted yet: the same by its token, and by the runners that were given up.
    fn check_start_by_token(&mut self, id: u64, job: u64) {
        let Some(task) = self.ecs.task(id) else { return };
        let waits = |number: u64| {
            self.books.task(number).is_some_and(|it| !it.given_up && it.spent_at.is_none())
                && self.books.task(number).is_some_and(|it| {
                    self.github.runner(it.registration).is_none_or(|it| !it.busy && !it.ghost)
                })
        };
        let mut found = None;
        for other in self.ecs.started_by(&task.started_by).filter(|it| it.number != id) {
            let is_same = other.tags.get("gha:runner-name") == task.tags.get("gha:runner-name");
            if is_same && is_spot(other) == is_spot(task) {
                found = Some(format!("{} is started twice, as task {id} too", other.number));
            } else if !is_same && other.is_live() && waits(other.number) && waits(id) {
                found = Some(format!("task {} and task {id} both wait for a job", other.number));
            }
        }
        if let Some(text) = found {
            self.violation(Kind::Doubled, job, text);
        }
    }

    /// A message about the job is acknowledged: a registration that it left without a task would be nobody's any
    /// more. (The sweep would find it, but that is for functions that die.)
    pub fn check_acknowledged(&mut self, job: u64) {
        let has_another = self.ecs.started_by(&format!("gha-{job}")).any(|task| task.is_live());
        if self.github.job(job).is_none_or(|it| it.status != JobStatus::Queued)
            || self.books.job(job).is_none_or(|it| it.rejected)
            || has_another
        {
            return;
        }
        for attempt in 1..=MAX_ATTEMPTS {
            let name = format!("fargate-{job}-{attempt}");
            let was_started = |starter: &str| {
                self.ecs.started_by(starter).any(|task| task.tags.get("gha:runner-name") == Some(&name))
            };
            let registration = self.by_name(&name).and_then(|it| self.books.registration(it.id));
            if registration.is_some_and(|it| it.task.is_none() && !it.given_up)
                && !was_started(&format!("gha-{job}"))
                && !self.is_queued(job)
            {
                let text = format!("its message is acknowledged, and the registration {name} has no task");
                self.violation(Kind::Lost, job, text);
            }
        }
    }

    /// Whether a message about the job is on the job queue.
    fn is_queued(&self, job: u64) -> bool {
        self.sqs.messages(Which::Jobs.queue()).any(|message| message.body.job == job)
    }

    /// A sweep in which every step worked is over.
    pub fn swept(&mut self, began: Ms) {
        self.checks.clean_sweeps.push_back(began);
        if self.checks.clean_sweeps.len() > 64 {
            self.checks.clean_sweeps.pop_front();
        }
    }

    /// Nothing may be left that the sweeps so far should have seen to.
    pub fn check_all(&mut self) {
        self.check_jobs();
        self.cancel_unheard();
        self.check_tasks();
        self.check_registrations();
    }

    fn check_jobs(&mut self) {
        let now = self.now;
        // While thousands wait for GitHub's limits, its choice is who waits longest; after them, nobody may be left.
        if self.all_runners_die() || self.github.queued_count() > BACKLOG {
            self.checks.ill_until = now;
        }
        let ill_until = self.checks.ill_until;
        let late: Vec<u64> = self
            .github
            .queued()
            .filter(|job| {
                let owed = |it: &&books::Job| !it.rejected && it.is_owed && !self.is_nobodys_to_see(it);
                let Some(it) = self.books.job(*job).filter(owed) else { return false };
                let waited = now - it.queued_at.max(ill_until);
                // Spot alone may be dry for hours: a job is not lost yet while its message or a task is there.
                let is_seen_to =
                    || self.is_queued(*job) || self.ecs.started_by(&format!("gha-{job}")).any(Task::is_live);
                waited > LOST_AFTER && (waited > 2 * LOST_AFTER || !is_seen_to())
            })
            .collect();
        for job in late {
            self.violation(Kind::Lost, job, format!("job {job} has waited for hours"));
            // Once is enough.
            if let Some(it) = self.books.job_mut(job) {
                it.rejected = true;
            }
            self.after(0, super::world::Ev::Cancel(job));
        }
    }

    /// Container-minted: a job got its runner of which none of GitHub's events came through, and nobody delivers those again.
    fn is_nobodys_to_see(&self, job: &books::Job) -> bool {
        let taker = job.taken_by.and_then(|taker| self.books.job(taker));
        self.settings.container_minted && taker.is_some_and(|taker| taker.told_at.is_none())
    }

    /// A job that nobody heard of is cancelled in the end.
    fn cancel_unheard(&mut self) {
        if !self.settings.container_minted {
            return;
        }
        let is_unheard = |job: &u64| {
            self.books.job(*job).is_some_and(|it| {
                (!it.is_owed || self.is_nobodys_to_see(it)) && self.now - it.queued_at > HOUR
            })
        };
        for job in self.github.queued().filter(is_unheard).collect::<Vec<_>>() {
            self.after(0, super::world::Ev::Cancel(job));
        }
    }

    fn check_tasks(&mut self) {
        let now = self.now;
        let mut leaked = Vec::new();
        for task in self.ecs.unstopped() {
            let Some(its) = self.books.task(task.number) else { continue };
            let Some(useless_since) = self.useless_since(task, its) else { continue };
            let begin = moment(task.started_at.unwrap_or(task.created_at));
            let boot = if task.started_at.is_none() { boot(task) } else { 0 };
            let registration = self.books.registration(its.registration);
            // Its container counts from its own mint, and gives a runner that does not end after its job five minutes.
            let begin = match (self.settings.container_minted, registration) {
                (true, Some(it)) => begin.max(it.minted_at),
                _ => begin,
            };
            let grace = if self.settings.container_minted { 2 * GRACE + MINUTE } else { GRACE };
            let of_its_class = task.tags.get("gha:idle-timeout").and_then(|seconds| seconds.parse().ok());
            let idle_timeout = of_its_class.map_or(IDLE_TIMEOUT, |seconds: Ms| seconds * SECOND);
            // Seen by the first sweep that begins after the time-out and lists it; gone by the next but one.
            let due =
                useless_since.max(begin + idle_timeout.max(boot)).max(moment(task.listed_from)) + SECOND;
            let seen = self.checks.sweeps_since(due) >= 2 && now > due + grace;
            if (seen || now > due + LEAKED_AFTER) && !its.leaked {
                leaked.push((task.number, its.job, now - due));
            }
        }
        for (id, job, ms) in leaked {
            self.checks.leaked_ms += ms;
            if let Some(task) = self.books.task_mut(id) {
                task.leaked = true;
            }
            let text = format!("task {id} is of no use for {} minutes, and was not stopped", ms / MINUTE);
            self.violation(Kind::Leaked, job, text);
        }
    }

    /// Since when nobody needs the task; `None` while somebody does.
    fn useless_since(&self, task: &Task, its: &books::Task) -> Option<Ms> {
        if !task.is_live() {
            return None;
        }
        let Some(runner) = self.github.runner(its.registration) else {
            return Some(its.spent_at.unwrap_or_else(|| moment(task.created_at)));
        };
        let registration = self.books.registration(runner.id)?;
        if runner.busy || registration.job == 0 {
            return None;
        }
        let own = self.github.job(registration.job)?;
        // With a pool, a runner of its labels that nobody else needs is one of it.
        if self.settings.pool > 0 && runner.labels.stored().eq(POOL_LABELS)
            || self.is_of_a_class_s_pool(runner)
        {
            return None;
        }
        match own.status {
            JobStatus::Queued => None,
            _ => {
                let left_at = moment(own.started_at.or(own.completed_at)?);
                Some(left_at.max(registration.online_at).max(registration.minted_at))
            }
        }
    }

    fn check_registrations(&mut self) {
        if self.settings.container_minted {
            // GitHub removes them, after a day.
            return;
        }
        let now = self.now;
        let mut leaked = Vec::new();
        for runner in self.github.runners() {
            let Some(registration) = self.books.registration(runner.id) else { continue };
            let task = registration.task.and_then(|task| self.ecs.task(task));
            let since = match task.map(|task| task.stopped_at) {
                Some(None) => continue,
                Some(Some(stopped_at)) => moment(stopped_at),
                None => registration.minted_at,
            };
            if runner.busy || registration.leaked {
                continue;
            }
            // Whoever takes it over waits like all others.
            let since = since.max(self.checks.ill_until);
            // Found by the first sweep; handed back a minute later, taken over half a minute after that.
            if self.checks.sweeps_since(since + SECOND) >= 6 && now > since + 30 * MINUTE {
                leaked.push((runner.id, registration.job, runner.name.clone()));
            }
        }
        for (id, job, name) in leaked {
            if let Some(registration) = self.books.registration_mut(id) {
                registration.leaked = true;
            }
            self.violation(Kind::Leaked, job, format!("the registration {name} has no task, and stays"));
        }
    }

    /// The history is over, and long enough for everything to be in order: what is left is lost or leaked.
    pub fn check_end(&mut self) {
        let waiting: Vec<u64> = self.github.queued().collect();
        for job in waiting {
            if self.books.job(job).is_some_and(|it| !it.rejected && it.is_owed && !self.is_nobodys_to_see(it))
            {
                self.violation(Kind::Lost, job, format!("job {job} waits, and nothing more will happen"));
            }
        }
        let extra: Vec<(u64, u64)> = self
            .ecs
            .unstopped()
            .filter_map(|task| Some((task.number, self.books.task(task.number)?)))
            .filter(|(_, task)| task.job != 0 && !task.leaked)
            .map(|(number, task)| (number, task.job))
            .collect();
        for (id, job) in extra {
            self.violation(Kind::Leaked, job, format!("task {id} is left"));
        }
        let left: Vec<_> = self
            .github
            .runners()
            .filter_map(|runner| Some((self.books.registration(runner.id)?, runner)))
            .filter(|(it, _)| it.job != 0 && !it.leaked && !self.settings.container_minted)
            .map(|(it, runner)| (it.job, runner.name.clone()))
            .collect();
        for (job, name) in left {
            self.violation(Kind::Leaked, job, format!("the registration {name} is left"));
        }
    }
}
