//! What jobs do: they arrive, are given runners, run, end.

use super::{
    HOUR, MINUTE, Ms, SECOND,
    chance::Point,
    messages::Action,
    plan,
    text::{ORGANIZATION, labels, repository},
    world::{Ev, World, tell},
};
use crate::model::github::{JobStatus, Silence, Untrue};

impl World {
    pub(super) fn arrive(&mut self) {
        let job = self.plan.next(self.last_job.as_ref()).expect("a job arrives");
        self.last_job = Some(job);
        match self.plan.next(Some(&job)) {
            Some(next) => self.at(next.at, Ev::Arrive),
            None => self.arrivals_over = Some(self.now),
        }
        let number = job.number;
        self.add(job);
        self.stats.jobs += 1;
        let siblings = self.add_siblings(job);
        self.stats.peak_waiting = self.stats.peak_waiting.max(self.github.queued_count() as u64);
        if let Some(after) = job.cancelled_after {
            self.after(after, Ev::Cancel(number));
        }
        let odds = [(1, self.settings.rates.unheard_taker), (2, self.settings.rates.excluded_taker)];
        match self.decide(number, Point::Taker, &odds) {
            0 => {}
            choice => self.taker(job.taker(self.now), choice == 2),
        }
        if self.decide(number, Point::Silence, &[(1, self.settings.rates.silent_job)]) == 1 {
            tell!(self, number, "GitHub will not say what it knows of job {number}");
            self.github.be_silent(number, Silence::Moved, self.time());
        }
        match self.decide(number, Point::HeldBack, &[(1, self.settings.rates.held_back)]) {
            0 => self.queue(number),
            _ => {
                let time = self.takes(SECOND, 30 * HOUR, 26, number);
                tell!(self, number, "GitHub holds job {number} back until it is approved");
                self.github.hold_back(number, self.time());
                self.send_event(number, Action::Waiting);
                self.approved_at = self.approved_at.max(self.now + time);
                self.after(time, Ev::Approve(number));
            }
        }
        for sibling in siblings {
            self.queue(sibling);
        }
    }

    pub(super) fn add(&mut self, job: plan::Job) {
        let now = self.time();
        self.github.queue_job(job.number, ORGANIZATION, &repository(&job), &labels(&job), now);
        self.books.open(job);
        self.open += 1;
    }

    /// A job of a repository that is not served. Its own fleet sees to it, if nobody is faster.
    fn taker(&mut self, job: plan::Job, is_heard: bool) {
        let number = job.number;
        self.add(job);
        if let Some(it) = self.books.job_mut(number) {
            it.is_heard = is_heard;
        }
        self.queue(number);
        let slow = self.takes(2 * MINUTE, 10 * MINUTE, 24, number);
        self.after(slow, Ev::Elsewhere(number));
    }

    /// A runner that is not ours takes the job.
    pub(super) fn elsewhere(&mut self, job: u64) {
        if self.github.job(job).is_some_and(|it| it.status == JobStatus::Queued) {
            tell!(self, job, "job {job} runs elsewhere");
            self.complete(job);
        }
    }

    /// The job waits for a runner.
    pub(super) fn queue(&mut self, job: u64) {
        let nobody_delivers_again = self.settings.container_minted;
        if let Some(it) = self.books.job_mut(job) {
            it.queued_at = self.now;
            // Not before its event has come through.
            it.is_owed &= !nobody_delivers_again;
        }
        let labels = self.github.job(job).map(|it| it.labels.written().join(", ")).unwrap_or_default();
        tell!(self, job, "GitHub queues job {job}: {labels}");
        if self.decide(job, Point::Status, &[(1, self.settings.rates.unknown_queued)]) == 1 {
            self.say_status(job);
        }
        self.send_event(job, Action::Queued);
        let delay = self.takes(SECOND, 3 * SECOND, 1, job);
        self.after(delay, Ev::AssignJob(job));
    }

    pub(super) fn approve(&mut self, job: u64) {
        if self.github.job(job).is_some_and(|it| it.status == JobStatus::Waiting) {
            self.github.approve(job, self.time());
            self.queue(job);
        }
    }

    /// A person cancels the job's run: whatever of it is not over.
    pub(super) fn cancel(&mut self, job: u64) {
        for job in self.cancelled_with(job) {
            self.cancel_alone(job);
        }
    }

    pub(super) fn cancel_alone(&mut self, job: u64) {
        let Some(it) = self.github.job(job) else { return };
        match (it.status, it.runner.as_ref().map(|(id, _)| *id)) {
            (JobStatus::Completed, _) => {}
            (JobStatus::Queued | JobStatus::Waiting, _) => {
                tell!(self, job, "job {job} is cancelled while it waits");
                self.complete_as(job, "cancelled");
            }
            (JobStatus::InProgress, Some(registration)) => {
                tell!(self, job, "job {job} is cancelled while it runs");
                self.finish(job, registration, Some("cancelled"));
            }
            (JobStatus::InProgress, None) => {}
        }
    }

    /// The job is over, by whichever way.
    pub(super) fn complete(&mut self, job: u64) {
        self.complete_as(job, "success");
    }

    pub(super) fn complete_as(&mut self, job: u64, conclusion: &str) {
        let runner = self.github.job(job).and_then(|it| it.runner.as_ref().map(|(id, _)| *id));
        if !self.github.complete(job, conclusion, self.time()) {
            return;
        }
        if let Some(task) = runner.and_then(|id| self.books.task_of(id)) {
            self.spent(task);
        }
        self.open -= 1;
        self.chance.over(job, self.now);
        self.send_event(job, Action::Completed);
        if conclusion != "success" {
            self.ended_badly(job, conclusion);
        }
    }

    /// The jobs that the runner may get, the oldest first: of each label set a few are choice enough, and the one that
    /// it was minted for.
    pub(super) fn jobs_for(&self, registration: u64) -> Vec<u64> {
        let own = self.books.minted_for(registration);
        let mut jobs: Vec<u64> = self.github.jobs_for(registration, 8).collect();
        jobs.sort_unstable();
        if self.github.fit(own, registration) && !jobs.contains(&own) {
            jobs.push(own);
        }
        jobs
    }

    /// The runners that may get the job.
    pub(super) fn runners_for(&self, job: u64) -> Vec<u64> {
        self.github.runners_for(job).take(8).collect()
    }

    pub(super) fn assign(&mut self, job: u64, registration: u64) {
        self.github.assign(job, registration, self.time());
        let (unknown, late) = (self.settings.rates.unknown_taken, self.settings.rates.late_busy);
        if self.decide(job, Point::Status, &[(1, unknown)]) == 1 {
            self.say_status(job);
        }
        if self.decide(job, Point::Seems, &[(1, late)]) == 1 {
            let lasts = self.takes(25 * SECOND, MINUTE, 25, registration);
            self.say_of_runner(registration, Untrue { idle: true, ..Untrue::default() }, 0, lasts);
        }
        let delay = self.takes(100, 900, 2, registration);
        self.after(delay, Ev::Acquired(job, registration));
    }

    /// The runner acquires the job that it was given, or loses it.
    pub(super) fn acquired(&mut self, job: u64, registration: u64) {
        let Some(runner) = self.github.runner(registration) else { return };
        if runner.job != Some(job) {
            return;
        }
        let (name, online) = (runner.name.clone(), runner.online);
        if !online {
            // It died in the very moment; GitHub notices in the end.
            return;
        }
        // A runner that loses its job ("Skipping message Job") polls for ever, and the job waits again.
        let rates = &self.settings.rates;
        let middle = [(1, rates.seems_idle), (2, rates.seems_offline)];
        let lost = [(1, rates.lost_assignment), (2, rates.consumed)];
        match self.decide(job, Point::Acquire, &lost) {
            0 => {}
            choice => return self.lose(job, registration, choice == 2),
        }
        tell!(self, job, "job {job} runs on {name}");
        self.note_acquired(job, registration);
        if let Some(task) = self.books.task_of(registration) {
            self.works(task, true);
        }
        let owner = self.books.minted_for(registration);
        if owner != job
            && let Some(it) = self.books.job_mut(owner)
        {
            it.taken_by = Some(job);
        }
        let Some(it) = self.books.job(job) else { return };
        let (takes, waited) = (it.plan.takes, self.now - it.queued_at);
        let hour = (self.now / HOUR) as usize;
        self.stats.ran_by_hour.resize(self.stats.ran_by_hour.len().max(hour + 1), 0);
        self.stats.ran_by_hour[hour] += 1;
        self.stats.delays.push(u32::try_from(waited / 10).unwrap_or(u32::MAX));
        match self.decide(job, Point::Seems, &middle) {
            0 => {}
            choice => {
                let untrue = Untrue { idle: choice == 1, offline: choice == 2, unlisted: false };
                self.say_of_runner(registration, untrue, takes / 2, takes / 2 + MINUTE);
            }
        }
        self.send_event(job, Action::InProgress);
        self.after(takes, Ev::Finish(job, registration));
        self.may_be_taken_back(job, registration, takes);
    }

    /// The job ends, and its runner in order. `None`: as it does by itself.
    pub(super) fn finish(&mut self, job: u64, registration: u64, conclusion: Option<&str>) {
        if self.github.runner(registration).is_none_or(|runner| runner.job != Some(job) || !runner.online) {
            return;
        }
        if self.runs.is_on_its_way_out(job) {
            return;
        }
        let task = self.books.task_of(registration);
        tell!(self, job, "job {job} is over");
        self.stats.ran += 1;
        let conclusion = conclusion.unwrap_or_else(|| self.conclusion_by_itself(job));
        self.complete_as(job, conclusion);
        let Some(task) = task else { return };
        self.works(task, false);
        let owner = self.books.task(task).map_or(0, |task| task.job);
        match self.decide(owner, Point::Exit, &[(1, 30)]) {
            0 => {
                let delay = self.takes(SECOND, 3 * SECOND, 3, task);
                let ending = self.runs.ending_after_its_job(registration);
                self.after(delay, Ev::End(task, ending));
            }
            _ => tell!(self, job, "task {task} does not go although its runner is spent"),
        }
    }

    /// "Skipping message Job" is in the runner's log.
    fn lose(&mut self, job: u64, registration: u64, consumed: bool) {
        let what = if consumed { "has no registration any more" } else { "polls for ever" };
        let whose = self.books.minted_for(registration);
        tell!(
            self,
            whose,
            "registration {registration} loses job {job}, which waits again; the runner {what}"
        );
        self.github.lose_job(job, consumed, self.time());
        if let Some(task) = self.books.task_of(registration).filter(|_| consumed) {
            self.spent(task);
        }
        self.after(MINUTE, Ev::Requeue(job));
    }

    /// GitHub says that of a runner for a while.
    fn say_of_runner(&mut self, registration: u64, untrue: Untrue, from: Ms, until: Ms) {
        self.after(from, Ev::Say(registration, untrue));
        self.after(until, Ev::Say(registration, Untrue::default()));
        let job = self.books.minted_for(registration);
        tell!(self, job, "registration {registration} will not be shown as it is for a while: {untrue:?}");
    }

    /// GitHub gives the job a status that nobody knows, for a minute.
    fn say_status(&mut self, job: u64) {
        tell!(self, job, "GitHub gives job {job} a status that nobody knows");
        self.github.say_status(job, Some("assigned"), self.time());
        self.after(MINUTE, Ev::SayStatus(job));
    }

    /// The registration of a task is spent: the task should go.
    pub fn spent(&mut self, task: u64) {
        let now = self.now;
        if let Some(task) = self.books.task_mut(task) {
            task.spent_at.get_or_insert(now);
        }
    }
}
