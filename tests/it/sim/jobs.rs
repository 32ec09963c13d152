//! What jobs do: they arrive, are given runners, run, end.

use super::{
    MINUTE, SECOND,
    chance::Point,
    messages::Action,
    text::{ORGANIZATION, labels, repository},
    world::{Ev, World, tell},
};
use crate::model::github::JobStatus;

impl World {
    pub(super) fn arrive(&mut self) {
        let job = self.plan.next(self.last_job.as_ref()).expect("a job arrives");
        self.last_job = Some(job);
        match self.plan.next(Some(&job)) {
            Some(next) => self.at(next.at, Ev::Arrive),
            None => self.arrivals_over = Some(self.now),
        }
        let number = job.number;
        let (labels, now) = (labels(&job), self.time());
        self.github.queue_job(number, ORGANIZATION, &repository(&job), &labels, now);
        self.books.open(job);
        self.open += 1;
        self.stats.jobs += 1;
        self.stats.peak_waiting = self.stats.peak_waiting.max(self.github.queued_count() as u64);
        if let Some(after) = job.cancelled_after {
            self.after(after, Ev::Cancel(number));
        }
        match job.held_back {
            None => self.queue(number),
            Some(time) => {
                tell!(
                    self,
                    number,
                    "GitHub holds job {number} back until it is approved: {}",
                    labels.join(", ")
                );
                self.github.hold_back(number, now);
                self.send_event(number, Action::Waiting);
                self.after(time, Ev::Approve(number));
            }
        }
    }

    /// The job waits for a runner.
    fn queue(&mut self, job: u64) {
        if let Some(it) = self.books.job_mut(job) {
            it.queued_at = self.now;
        }
        let labels = self.github.job(job).map(|it| it.labels.written().join(", ")).unwrap_or_default();
        tell!(self, job, "GitHub queues job {job}: {labels}");
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

    pub(super) fn cancel(&mut self, job: u64) {
        let Some(it) = self.github.job(job) else { return };
        match (it.status, it.runner.as_ref().map(|(id, _)| *id)) {
            (JobStatus::Completed, _) => {}
            (JobStatus::Queued | JobStatus::Waiting, _) => {
                tell!(self, job, "job {job} is cancelled while it waits");
                self.complete(job);
            }
            (JobStatus::InProgress, Some(registration)) => {
                tell!(self, job, "job {job} is cancelled while it runs");
                self.finish(job, registration);
            }
            (JobStatus::InProgress, None) => {}
        }
    }

    /// The job is over, by whichever way.
    pub(super) fn complete(&mut self, job: u64) {
        let runner = self.github.job(job).and_then(|it| it.runner.as_ref().map(|(id, _)| *id));
        if !self.github.complete(job, "success", self.time()) {
            return;
        }
        if let Some(task) = runner.and_then(|id| self.books.task_of(id)) {
            self.spent(task);
        }
        self.open -= 1;
        self.send_event(job, Action::Completed);
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
        if self.decide(job, Point::Acquire, &[(1, 20)]) == 1 {
            tell!(self, job, "{name} loses job {job}, which waits again; the runner polls for ever");
            self.github.lose_job(job, self.time());
            self.after(MINUTE, Ev::Requeue(job));
            return;
        }
        tell!(self, job, "job {job} runs on {name}");
        let Some(it) = self.books.job(job) else { return };
        let (takes, waited) = (it.plan.takes, self.now - it.queued_at);
        self.stats.delays.push(u32::try_from(waited / 10).unwrap_or(u32::MAX));
        self.send_event(job, Action::InProgress);
        self.after(takes, Ev::Finish(job, registration));
    }

    pub(super) fn finish(&mut self, job: u64, registration: u64) {
        if self.github.runner(registration).is_none_or(|runner| runner.job != Some(job) || !runner.online) {
            return;
        }
        let task = self.books.task_of(registration);
        tell!(self, job, "job {job} is over");
        self.stats.ran += 1;
        self.complete(job);
        let Some(task) = task else { return };
        let owner = self.books.task(task).map_or(0, |task| task.job);
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
        if let Some(task) = self.books.task_mut(task) {
            task.spent_at.get_or_insert(now);
        }
    }
}
