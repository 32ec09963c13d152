//! A runner was taken back while it had a job: whoever looks after the job's author is told, for certain. Which job went
//! with it is told by four: its task's tags, its own job, the end of another's, and what a sweep sees.

use std::time::Duration;

use crate::{
    error::CallError,
    fargate::{
        stop::{Lost, Stop},
        tags::TaskTags,
    },
    flows::{
        cause::Cause,
        reconcile::{Reconciler, too_early},
    },
    ids::JobId,
    intake::{
        notice::Interrupted,
        payload::{Action, WorkflowJob},
    },
    lambda::outcome::Outcome,
    ports::{Deliveries, FindTasks, Github, Queue, StartTasks, Target, Task, TendTasks, Timer},
    protocol::{
        books::{Runner, ran_target, target},
        life::Life,
        tend::{Case, RunnerOwed},
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
    /// A job went with its runner: if Fargate Spot took that back, whoever looks after the author is told, for certain.
    pub(crate) async fn tell_interrupted(
        &self,
        job: JobId,
        place: Target,
        stop: Option<&Stop>,
    ) -> Result<(), CallError> {
        let Some(stop) = stop.filter(|stop| stop.lost() == Lost::Interrupted) else { return Ok(()) };
        if !self.queue.can_tell() || self.policy.excludes_target(&place).is_some() {
            return Ok(());
        }
        match Interrupted::new(job, place, stop, self.clock.now()) {
            Some(interrupted) => self.queue.tell(&interrupted.to_body(), Duration::ZERO).await,
            None => Ok(()),
        }
    }

    /// Nobody had told which job ran on a runner that was taken back, and its registration may be spent: was it its own?
    /// Of another's, GitHub's event that it is over leads to the task.
    pub(crate) async fn tell_of_untold(&self, runner: &Runner, stop: &Stop) -> Result<(), CallError> {
        // GitHub may still show the registration as it was before the job.
        let may_have_run = matches!(runner.life, Life::Astray | Life::Dead);
        let is_untold = may_have_run && stop.lost() == Lost::Interrupted && self.queue.can_tell();
        let own = runner.purpose.as_ref().filter(|_| is_untold);
        let (Some(purpose), Some(github)) = (own, &self.github) else { return Ok(()) };
        let Some(job) = purpose.job() else { return Ok(()) };
        let name = self.policy.names.of(purpose);
        let state = github.job(&runner.place, job).await?;
        match state.is_some_and(|state| state.runner_name == Some(name) && !state.succeeded) {
            true => self.tell_interrupted(job, runner.place.clone(), Some(stop)).await,
            false => Ok(()),
        }
    }

    /// Until its end was heard of, nobody knew which job had a task that stops: its author is told, once ECS says of what it
    /// stopped.
    pub(crate) async fn tell_at_its_end(
        &self,
        event: &WorkflowJob,
        task: &Task,
        waited: time::Duration,
    ) -> Result<Option<Outcome>, CallError> {
        if event.action != Action::Completed || !self.queue.can_tell() {
            return Ok(None);
        }
        if task.stop.is_none() && waited < timing::SHOWN {
            return Ok(Some(too_early(timing::LAG, "of what the runner's task stops is not known yet")));
        }
        let (job, place) = (event.job.id, event.job.target.clone());
        self.tell_interrupted(job, place, task.stop.as_ref()).await?;
        Ok(None)
    }

    /// Its task's tags say which job was lost with it, or GitHub did, which was asked.
    pub(crate) async fn tell_of_lost(
        &self,
        runner: &Runner,
        case: &Case,
        cause: Cause<'_>,
    ) -> Result<(), CallError> {
        let Some(task) = &runner.task else { return Ok(()) };
        let tags = TaskTags(&task.tags);
        let own = runner.owner().filter(|_| case.owed == Some(RunnerOwed::AtWork));
        let ran = tags.ran_job().zip(ran_target(tags)).or(own.map(|job| (job, target(tags))));
        match ran {
            Some((job, place)) => self.tell_interrupted(job, place, cause.stop).await,
            None => Ok(()),
        }
    }
}
