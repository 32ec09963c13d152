//! The second look at a job that got another's runner: whether it has brought one of its own, which serves in exchange.

use time::{Duration, OffsetDateTime};

use super::Taking;
use crate::{
    error::CallError,
    fargate::tags::TaskTags,
    flows::{
        cause::Cause,
        reconcile::{Reconciler, too_early},
    },
    ids::{Attempt, JobId, Purpose},
    intake::{payload::Job, skip::SkipReason},
    lambda::{
        metric::Metric,
        outcome::{Done, Outcome},
    },
    ports::{Deliveries, FindTasks, Github, JobState, Queue, StartTasks, Task, TendTasks, Timer},
    protocol::{
        books::{Runner, target},
        life::Life,
        timing,
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
    /// Whether the job's own runner was started, and stands by no more: another job has had it, or it is gone. Of a job that
    /// a pool's runner took, whether none stands by.
    pub(super) async fn own_is_used(&self, taking: &Taking<'_>) -> Result<bool, CallError> {
        let job = &taking.event.job;
        // The function may have died before it tagged the runner's task, which nothing else tells of. (Elsewhere the sweep finds
        // a busy runner that nobody has told of.)
        if !self.is_told(job.id) {
            return Ok(false);
        }
        if self.memory.has_given(job.id) {
            return Ok(true);
        }
        let stands_by = |task: &Task| task.live && !TaskTags(&task.tags).ran_a_job();
        // A pool's runner is nobody's, so only what may stand by matters.
        if taking.purpose.job().is_none() {
            return Ok(!self.own_tasks(taking).await?.iter().any(stands_by));
        }
        // By now, it most likely is gone.
        if self.own_has_ended(taking).await? {
            return Ok(true);
        }
        let own = self.own_tasks(taking).await?;
        if self.github.is_none() {
            // One that stands by ends by itself.
            return Ok(!own.is_empty());
        }
        Ok(!own.is_empty() && !own.iter().any(stands_by))
    }

    /// Whether the job has brought a runner of its own, as the one that it got has to be followed by another. `owner` is
    /// whose that is, if that one could make use of the job's own.
    pub(super) async fn look_again(
        &self,
        taking: &Taking<'_>,
        owner: Option<(JobId, Attempt)>,
        task: &Task,
    ) -> Result<Outcome, CallError> {
        let job = &taking.event.job;
        if self.memory.has_given(job.id) {
            return Ok(its_own_serves());
        }
        // The job's own message was heard by then, if it ever is.
        if self.github.is_none() && owner.is_none() {
            return Ok(Outcome::skipped(
                SkipReason::ContainerMinted,
                "the runner stops by itself when it has been idle",
            ));
        }
        let may_be_late = owner.is_some() && !is_older(job, task);
        let wait = if may_be_late { timing::LATE_LOOK } else { timing::SECOND_LOOK };
        let is_early = taking.age.is_some_and(|age| age < wait);
        // One that serves in exchange does so from the moment that it is there.
        let may_serve = owner.is_some() && self.github.is_some();
        let own = match is_early && !may_serve {
            true => &[],
            false => self.own_tasks(taking).await?,
        };
        if is_early {
            return Ok(match own.is_empty() {
                true => too_early(wait, "whether the job has a runner of its own shows later"),
                false => its_own_serves(),
            });
        }
        let Some(owner) = owner else {
            return match self.settles(own) {
                Some(wait) => Ok(too_early(wait, "its own runner may have been given a job just now")),
                None => self.retire_own(own).await,
            };
        };
        let Some(github) = &self.github else {
            return self.look_again_by_tags(job, owner, task, own).await;
        };
        if !own.is_empty() || self.own_has_ended(taking).await? {
            return Ok(its_own_serves());
        }
        if self.may_be_to_come(github, job, owner, task).await? {
            let why = "jobs wait long for their runners: this one's own message may be still to come";
            return Ok(too_early(timing::LONGEST_DELAY, why));
        }
        let name = self.policy.names.of(&Purpose::Job(job.id, Attempt::FIRST));
        if github.find_runner(&job.target, &name).await?.is_some() {
            return Ok(Outcome::skipped(SkipReason::Runner, "the job's own runner is on its way"));
        }
        // Nobody here has heard of the job: it brought no runner, and has used one up.
        self.replace_taken(owner, TaskTags(&task.tags)).await?;
        Ok(Done::new(Metric::Replaced, "the job brought no runner of its own, and took another's").into())
    }

    /// Whether jobs wait long before their first runner is started, and this one's message may do so still. How long it was
    /// is remembered: thousands wait then.
    async fn may_be_to_come(
        &self,
        github: &G,
        job: &Job,
        (owner, attempt): (JobId, Attempt),
        task: &Task,
    ) -> Result<bool, CallError> {
        let now = self.clock.now();
        if self.memory.was_limited_lately(&job.target.owner, now) {
            return Ok(true);
        }
        let is_in_time =
            |waited| job.created_at.is_none_or(|queued| now - queued < 2 * waited + timing::LATE_LOOK);
        if self.memory.backlog_lately(now).is_some_and(is_in_time) {
            return Ok(true);
        }
        let state = github.job(&target(TaskTags(&task.tags)), owner).await?;
        let waited = state.zip(task.created_at).and_then(|(state, began)| waited(&state, began));
        // For each of its runners, if others have taken the ones before. What is made good after a crash is no backlog, and a
        // shorter one is over by now.
        let Some(waited) = waited.filter(|waited| *waited > timing::LATE_LOOK * attempt.0) else {
            return Ok(false);
        };
        self.memory.note_backlog(now, waited);
        Ok(is_in_time(waited))
    }

    /// The job has got a runner that its own cannot stand in for.
    async fn retire_own(&self, own: &[Task]) -> Result<Outcome, CallError> {
        let idle = own.iter().filter(|task| task.live && !TaskTags(&task.tags).ran_a_job());
        let idle = idle.map(|task| Runner::of_task(Life::Waiting, false, task, &self.policy.names));
        // The sweep takes those into the pool that are like its own.
        let unneeded = idle.filter(|it| it.registration.is_some() && self.basin_with(&it.labels).is_none());
        let why = Cause::of("its job was given another runner");
        Ok(match self.retire_all(unneeded, why).await? {
            0 => Outcome::skipped(SkipReason::Runner, "no runner of the job's own is left idle"),
            retired => Done::counted(Metric::Retired, retired, why.why).into(),
        })
    }
}

/// How long a job had waited when a runner was started for it. When one was queued that runs by now, GitHub says no more:
/// if a rule held it back, long after it was made.
fn waited(state: &JobState, began: OffsetDateTime) -> Option<Duration> {
    match began - state.since? {
        waited if waited.is_negative() => {
            Some((began - state.created_at?).min(timing::signed(timing::VERY_OLD)))
        }
        waited => Some(waited),
    }
}

/// Whether the job was queued so long before the runner was started that its own message came before, if any did.
fn is_older(job: &Job, task: &Task) -> bool {
    job.created_at
        .zip(task.created_at)
        .is_some_and(|(queued, started)| started - queued > timing::SECOND_LOOK)
}

pub(super) fn its_own_serves() -> Outcome {
    Outcome::skipped(
        SkipReason::Runner,
        "the job's own runner serves, or served, the owner of the one that it got",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::JobStatus;

    #[test]
    fn how_long_a_job_had_waited() {
        let began = OffsetDateTime::UNIX_EPOCH;
        let before = |minutes: i64| Some(began - Duration::minutes(minutes));
        let table = [
            // Queued so long before; made so long before; so long it had waited.
            ("waits still", before(20), before(20), Some(20)),
            ("was approved, and waits still", before(5), before(3000), Some(5)),
            ("runs since", before(-3), before(20), Some(20)),
            ("was approved, and runs since", before(-3), before(3000), Some(60)),
            ("GitHub does not say", None, before(20), None),
        ];
        for (what, since, created_at, minutes) in table {
            let state = JobState {
                status: JobStatus::Queued,
                runner_name: None,
                labels: Vec::new(),
                succeeded: false,
                since,
                created_at,
                run: None,
            };
            assert_eq!(waited(&state, began), minutes.map(Duration::minutes), "{what}");
        }
    }
}
