//! Container-minted: reconcile has no credentials for GitHub, so it goes by what ECS shows and what GitHub's events say.
//! A runner that ended without a job is followed by another, unless the tags of the tasks tell that its job has one, or
//! is over.

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;

use crate::{
    error::CallError,
    fargate::{
        stop::Stop,
        tags::{self, TaskTags},
    },
    flows::{
        cause::{Cause, delay_after_taken, replacement, replacement_delay},
        course::Course,
        hearsay::{Hearsay, is_served, next_after},
        reconcile::Reconciler,
        tally::Tally,
    },
    ids::{Attempt, JobId, Purpose, started_by},
    intake::{
        payload::{Action, Job, Replacement, WorkflowJob},
        skip::SkipReason,
    },
    lambda::{
        metric::Metric,
        outcome::{Deferral, Done, Outcome, Reason, Wait},
    },
    ports::{Deliveries, FindTasks, Github, Queue, StartTasks, Task, TendTasks, Timer},
    protocol::{
        books::{self, BOOT, Runner},
        life::{self, Reg, life},
        tend::{Heard, RunnerOwed},
        timing,
        told::{TagDebt, Told},
    },
};

impl<G, E, S, Q, C> Reconciler<G, E, S, Q, C>
where
    G: Github + Deliveries,
    E: FindTasks + TendTasks,
    S: StartTasks,
    Q: Queue,
    C: Timer,
{
    /// That a job is over is written on those of its tasks that live: ECS forgets the runner that it had sooner than them, and
    /// when they end without a job, it is owed no other. The answer is whether there was none to write it on.
    pub(crate) async fn write_down(&self, event: &WorkflowJob) -> Result<bool, CallError> {
        let (job, runner) = (event.job.id, event.runner_name.as_deref());
        let purpose = runner.and_then(|name| self.policy.names.read(name));
        // Of the only runner that there was, its tag tells.
        let is_its_first = purpose == Some(Purpose::Job(job, Attempt::FIRST));
        if self.github.is_some() || event.action != Action::Completed || is_its_first {
            return Ok(false);
        }
        let tasks = self.ecs.tasks_started_by(&started_by(job)).await?;
        self.write_served(job, purpose.as_ref(), &tasks).await?;
        Ok(tasks.is_empty())
    }

    /// Whether GitHub can be asked whose runner the job has, or this process has seen it in the tags of that one's task.
    pub(crate) fn is_told(&self, job: JobId) -> bool {
        self.github.is_some() || self.memory.task_of(job).is_some()
    }

    /// The same where the job runs, and this process did not tag its runner's task: that may be over, and cannot be tagged any
    /// more.
    pub(crate) async fn write_taken(&self, event: &WorkflowJob, runner: &Purpose) -> Result<bool, CallError> {
        let job = event.job.id;
        if self.is_told(job) || event.action != Action::InProgress || runner.job() == Some(job) {
            return Ok(false);
        }
        let tasks = self.ecs.tasks_started_by(&started_by(job)).await?;
        self.write_served(job, Some(runner), &tasks).await?;
        Ok(tasks.is_empty())
    }

    /// Writes on those of the job's own tasks that live that it is over, or has another's runner, and which: that one's task
    /// may be over before anybody can write on it.
    async fn write_served(
        &self,
        job: JobId,
        runner: Option<&Purpose>,
        tasks: &[Task],
    ) -> Result<(), CallError> {
        let by = runner.map_or_else(|| "true".to_owned(), |runner| self.policy.names.of(runner));
        let served = [(tags::JOB_SERVED.to_owned(), by)];
        let is_unwritten = |task: &&Task| task.live && !is_served(task, job);
        for task in tasks.iter().filter(is_unwritten) {
            self.ecs.tag(&task.arn, &served).await?;
        }
        Ok(())
    }

    /// Whether a task of its own may live still.
    pub(crate) fn is_young(&self, job: &Job) -> bool {
        job.created_at.is_none_or(|created_at| self.clock.now() - created_at < 3 * BOOT)
    }

    /// The job is over, or has a runner, and there is nothing to write that on: its own message may wait for capacity, or it be
    /// owed another runner by mistake, and its task be on its way. `None`: it has been waited for long enough.
    pub(crate) fn until_its_task(&self, event: &WorkflowJob) -> Option<Outcome> {
        let age = self.clock.now() - event.arrived_at?;
        let age = Duration::try_from(age).unwrap_or_default();
        let wait = (age / 3).clamp(timing::UNTIL_SHOWN, timing::LONGEST_DELAY);
        let detail = "the job is over, or runs, and a task of its own may be on its way".to_owned();
        let later = Deferral { reason: Reason::TooEarly, wait: Wait::For(wait), detail };
        Some(Outcome::Deferred(later)).filter(|_| age < timing::LONGEST_WAIT_FOR_A_TASK)
    }

    /// Who is owed another runner, by the tags of all tasks; and that one.
    pub(crate) async fn look_at_tags(
        &self,
        runner: &Runner,
        own: Replacement,
        course: &Course,
    ) -> Result<(RunnerOwed, Option<Replacement>), CallError> {
        let stop = runner.task.as_ref().and_then(|task| task.stop.as_ref());
        let heard;
        let told = match &course.told {
            Some(told) => told,
            // It died early, when its job was waiting still, or another in that one's place. Of equal labels, any runner
            // is as good; and one too many ends when it has been idle.
            None if stop.is_some_and(|stop| !stop.was_idle()) && !self.is_served(runner) => {
                return Ok((RunnerOwed::ToAJob, Some(own)));
            }
            None => {
                heard = self.hear().await?;
                &*heard
            }
        };
        let gone = runner.task.as_ref().map(|task| &task.arn);
        let debt = match stop.is_some_and(|stop| !stop.was_idle()) {
            true => told.debt_of_the_dead(own.job_id, gone),
            false => told.debt(own.job_id, gone),
        };
        let next = match debt {
            TagDebt::ToNobody => return Ok((RunnerOwed::ToNobody, None)),
            TagDebt::Served => return Ok((RunnerOwed::Served, None)),
            // Its own task is not listed yet.
            TagDebt::Unknown => own,
            // GitHub would have given that job the runner that was idle, and what tells of it may be forgotten.
            TagDebt::ToTheJobOf(task)
                if stop.is_some_and(Stop::was_idle) && self.is_long_over(task, &own) =>
            {
                return Ok((RunnerOwed::ToNobody, None));
            }
            TagDebt::ToTheJobOf(task) => {
                // Its own task may not be listed yet, and one before it be the newest.
                let is_later = |next: &Replacement| next.job_id != own.job_id || next.attempt > own.attempt;
                self.next_after(task).filter(is_later).unwrap_or(own)
            }
        };
        if !course.claim_announcement(next.job_id, runner) {
            return Ok((RunnerOwed::Announced, None));
        }
        Ok((RunnerOwed::ToAJob, Some(next)))
    }

    /// Whether that is another job's runner, which ended so long ago that whoever was to follow it has.
    fn is_long_over(&self, task: &Task, own: &Replacement) -> bool {
        let stopped_at = task.stop.as_ref().and_then(|stop| stop.stopped_at);
        TaskTags(&task.tags).owner(&self.policy.names) != Some(own.job_id)
            && stopped_at.is_some_and(|stopped_at| self.clock.now() - stopped_at > timing::LONG_OVER)
    }

    fn is_served(&self, runner: &Runner) -> bool {
        runner.task.as_ref().is_some_and(|task| TaskTags(&task.tags).job_is_served())
    }

    async fn hear(&self) -> Result<Arc<Told>, CallError> {
        let (ecs, memory, names) = (&self.ecs, &self.memory, &self.policy.names);
        Hearsay { ecs, memory, names, now: self.clock.now() }.told().await
    }

    fn next_after(&self, task: &Task) -> Option<Replacement> {
        next_after(task, &self.policy.names)
    }

    /// One sweep: tasks that do not start, those that are older than any job, and those that have ended and were not
    /// followed by another, since nobody told of their end.
    pub(crate) async fn keep_books_by_tags(
        &self,
        deadline: OffsetDateTime,
        tally: &mut Tally,
    ) -> Result<(), CallError> {
        let (live, ended) = (self.ecs.live_tasks().await?, self.ecs.ended_tasks(None).await?);
        self.memory.note_shown(&ended);
        let told = Arc::new(Told::read(ended.iter().chain(&live), &self.policy.names));
        self.memory.note_told(self.clock.now(), told.clone());
        let unfollowed: Vec<&Task> = ended.iter().filter(|task| self.is_unfollowed(task, &told)).collect();
        let course = Course::by_tags(told);
        for runner in books::stuck(&live, &self.policy.names, self.clock.now()) {
            if self.clock.now() + timing::ONE_STEP > deadline {
                tally.left += 1;
                continue;
            }
            let tended = self.see_to(&runner, &course).await;
            if let Ok(done) = &tended {
                tally.add(done);
            }
            tally.note(tended.map(drop));
        }
        for task in unfollowed {
            if self.clock.now() + timing::ONE_STEP > deadline {
                tally.left += 1;
                continue;
            }
            let followed = self.follow_ended(task, &course).await;
            if let Ok(done) = &followed {
                tally.add(done);
            }
            tally.note(followed.map(drop));
        }
        Ok(())
    }

    /// Whether that task ended without a job, and no other of its job has come since, in the time that it takes.
    fn is_unfollowed(&self, task: &Task, told: &Told) -> bool {
        let Some(Purpose::Job(job, attempt)) = TaskTags(&task.tags).purpose(&self.policy.names) else {
            return false;
        };
        let owes = task.stop.as_ref().filter(|stop| stop.owes_a_runner());
        let takes = replacement_delay(attempt.next()) + 2 * timing::UNTIL_SHOWN;
        // Later, what tells that its job is over may be forgotten sooner than this.
        let is_due = |stop: &Stop| {
            let since = stop.stopped_at.map(|stopped_at| self.clock.now() - stopped_at);
            since.is_some_and(|since| since > takes && since < takes + timing::FOLLOWED_FOR)
        };
        !TaskTags(&task.tags).ran_a_job()
            && owes.is_some_and(is_due)
            && told.is_newest(job, attempt)
            && !self.memory.is_followed_up(&task.arn)
    }

    async fn follow_ended(&self, task: &Task, course: &Course) -> Result<Done, CallError> {
        let runner =
            Runner::of_task(life(Reg::Unused, life::TaskState::Ended), true, task, &self.policy.names);
        let why = task.stop.as_ref().map(Stop::why).unwrap_or_default();
        let cause = Cause { stop: task.stop.as_ref(), task: Some(task), why: &why };
        let done = self.tend(&runner, Heard::Stopped, cause, course).await?;
        self.note_followed(task, &done);
        Ok(done)
    }

    /// What was announced is not on the queue twice, as far as this process knows.
    pub(crate) fn note_followed(&self, task: &Task, done: &Done) {
        if self.github.is_none() && done.count(Metric::Replaced) > 0 {
            self.memory.note_followed_up(&task.arn);
        }
    }

    /// The second look at a job that got another's runner of equal labels: if it has had none of its own, its event was
    /// lost, and whoever is at the end of the chain has none.
    pub(crate) async fn look_again_by_tags(
        &self,
        job: &Job,
        (owner, attempt): (JobId, Attempt),
        task: &Task,
        own: &[Task],
    ) -> Result<Outcome, CallError> {
        if !own.is_empty() || !self.ecs.ended_tasks(Some(&started_by(job.id))).await?.is_empty() {
            let why = "the job's own runner serves the owner of the one that it got";
            return Ok(Outcome::skipped(SkipReason::Runner, why));
        }
        let tags = TaskTags(&task.tags);
        let own = replacement(owner, attempt, tags.labels(), tags);
        // Of the runner that it got, it is known: its task may be over, and nobody can write on it any more.
        let next = match self.hear().await?.debt(owner, Some(&task.arn)) {
            TagDebt::ToNobody | TagDebt::Served => {
                let why = "nobody is left without a runner";
                return Ok(Outcome::skipped(SkipReason::Runner, why));
            }
            TagDebt::Unknown => own,
            TagDebt::ToTheJobOf(newest) => self.next_after(newest).unwrap_or(own),
        };
        self.queue.announce(&next.to_body(), delay_after_taken(next.attempt)).await?;
        Ok(Done::new(Metric::Replaced, "the job brought no runner of its own, and took another's").into())
    }
}
