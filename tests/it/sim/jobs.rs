//! What jobs do: they arrive, are given runners, run, end.

use super::{
    MINUTE, SECOND,
    chance::Point,
    github::{Action, Status},
    text::labels,
    world::{Ev, World, tell},
};

impl World {
    pub(super) fn arrive(&mut self) {
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

    pub(super) fn cancel(&mut self, job: u64) {
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
    pub(super) fn complete(&mut self, job: u64) {
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

    pub(super) fn assign(&mut self, job: u64, registration: u64) {
        let now = self.now;
        self.github.assign(job, registration, now);
        let delay = self.takes(100, 900, 2, registration);
        self.after(delay, Ev::Acquired(job, registration));
    }

    /// The runner acquires the job that it was given, or loses it.
    pub(super) fn acquired(&mut self, job: u64, registration: u64) {
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

    pub(super) fn finish(&mut self, job: u64, registration: u64) {
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
}
