//! Container-minted: the last runner of a job. Whether the job still waits when that one has died, nobody here can ask; and
//! whoever hears of its end, a function or the sweep, does not know who heard of it before. So the message that started it
//! leaves another one on the job queue: that one alone writes the dead letter, and only when GitHub's events had their time.

use std::time::Duration;

use crate::{
    error::CallError,
    fargate::{stop::Stop, tags::TaskTags},
    flows::{dispatch::Dispatcher, eyes, hearsay::Hearsay},
    ids::{JobId, Purpose, started_by},
    intake::{
        payload::{Job, Replacement},
        skip::SkipReason,
    },
    lambda::{
        metric::Metric,
        outcome::{Done, Outcome, Reason, Wait},
    },
    ports::{Clock, FindTasks, Github, Queue, StartTasks, Task},
    protocol::{start::Ended, timing, told::TagDebt},
};

impl<G: Github, E: FindTasks + StartTasks, Q: Queue, C: Clock> Dispatcher<G, E, Q, C> {
    /// Another look at the job's last runner is owed. A function that ends before this is followed by its own message.
    pub(crate) async fn look_again_at_the_last(&self, job: &Job) -> Result<(), CallError> {
        // Without a job queue of our own, none is followed by another either.
        if !self.queue.can_announce() {
            return Ok(());
        }
        let last = Replacement { last: true, ..replacement_of(job) };
        self.queue.announce(&last.to_body(), timing::LONGEST_DELAY).await
    }

    /// What became of the job's last runner: if it died without a job, and the job still waits as far as anybody told, the job
    /// is given up.
    pub(crate) async fn what_became_of_the_last(&self, job: &Job) -> Result<Outcome, CallError> {
        let (names, started_by) = (&self.policy.names, started_by(job.id));
        let attempt = |task: &Task| match TaskTags(&task.tags).purpose(names) {
            Some(Purpose::Job(_, attempt)) => Some(attempt),
            _ => None,
        };
        let of_later = |task: &&Task| attempt(task).is_some_and(|attempt| attempt >= job.attempt);
        let live = self.ecs.tasks_started_by(&started_by).await?;
        if let Some(task) = live.iter().filter(|task| task.live).find(of_later) {
            let is_done = attempt(task) != Some(job.attempt) || TaskTags(&task.tags).ran_a_job();
            return Ok(match is_done {
                true => done("the job's last runner has a job, or is followed by another"),
                false => later(timing::LONGEST_DELAY, "the job's last runner is there still"),
            });
        }
        let ended = self.ecs.ended_tasks(Some(&started_by)).await?;
        let past = eyes::past(&ended, names, job.id, self.clock.now());
        let is_followed = past.keys().any(|other| *other > job.attempt);
        let its = ended.iter().find(|task| attempt(task) == Some(job.attempt) && !is_stop_of_a_twin(task));
        let (Some(past), Some(task), false) = (past.get(&job.attempt), its, is_followed) else {
            return Ok(match (is_followed, job.asked_at) {
                (false, Some(asked_at)) if self.clock.now() - asked_at < 2 * timing::LONGEST_DELAY => {
                    later(timing::LONGEST_DELAY, "ECS does not show the job's last runner")
                }
                _ => done("the job's last runner is followed by another, or forgotten"),
            });
        };
        let owes = task.stop.as_ref().is_some_and(Stop::owes_a_runner) && past.how == Ended::Idle;
        if !owes || past.failures < self.max_attempts {
            return Ok(done("the job's last runner had a job, or is followed by another"));
        }
        self.give_up(job, task).await
    }

    async fn give_up(&self, job: &Job, task: &Task) -> Result<Outcome, CallError> {
        let now = self.clock.now();
        let over_for = task.stop.as_ref().and_then(|stop| stop.stopped_at).map(|stopped_at| now - stopped_at);
        if let Some(left) = over_for.and_then(|time| Duration::try_from(timing::LAST_WORD - time).ok())
            && !left.is_zero()
        {
            return Ok(later(left, "GitHub's event that the job is over may be on its way"));
        }
        if let Some(later) = self.outbreak_now(&task.definition).await? {
            return Ok(later);
        }
        let (ecs, names) = (&self.ecs, &self.policy.names);
        let told = Hearsay { ecs, memory: &self.memory, names, now }.read().await?;
        let is_owed = match told.debt(job.id, Some(&task.arn)) {
            TagDebt::ToTheJobOf(newest) => newest.arn == task.arn,
            TagDebt::Unknown => true,
            TagDebt::ToNobody | TagDebt::Served => false,
        };
        if !is_owed {
            return Ok(done("the job has a runner, or is over"));
        }
        let why = task.stop.as_ref().map(Stop::why).unwrap_or_default();
        let reason = given_up(self.max_attempts, job.id, &why);
        tracing::error!(job = job.id.0, "{reason}");
        if !self.queue.can_reject() {
            return Ok(Outcome::rejected(reason));
        }
        // Not this message: whoever sends the letter to the job queue wants another runner.
        let next = Replacement { attempt: job.attempt.next(), ..replacement_of(job) };
        self.queue.reject(&next.to_body(), &reason).await?;
        Ok(Done::new(Metric::Rejected, reason).into())
    }
}

pub(crate) fn replacement_of(job: &Job) -> Replacement {
    Replacement {
        labels: job.labels.clone(),
        run_id: job.run_id,
        run_attempt: job.run_attempt,
        ..Replacement::new(job.id, job.attempt, job.target.clone())
    }
}

/// What the letter says of a job that is given up.
pub(crate) fn given_up(max_attempts: u32, job: JobId, why: &str) -> String {
    format!(
        "MAX_ATTEMPTS: {max_attempts} runners were started for job {job} and none took a job; the last one stopped: {why}; \
         mend that, then send this message to the job queue"
    )
}

/// The second of two that were started under one name, on two capacities.
fn is_stop_of_a_twin(task: &Task) -> bool {
    task.stop.as_ref().is_some_and(Stop::is_of_a_twin)
}

fn done(detail: &str) -> Outcome {
    Outcome::skipped(SkipReason::Duplicate, detail)
}

fn later(after: Duration, detail: &str) -> Outcome {
    Outcome::deferred(Reason::InFlight, Wait::For(after), detail)
}
