//! The eyes: what the protocol wants to know, looked up at GitHub and ECS.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use crate::{
    error::CallError,
    fargate::{stop::Stop, tags::TaskTags},
    flows::{
        chain::{Chain, Debt},
        memory::Memory,
    },
    ids::{Attempt, JobId, Purpose, RunnerId, RunnerNames, started_by},
    intake::payload::{Job, Replacement},
    ports::{FindTasks, Github, Registration, Target, Task, TaskArn},
    protocol::{
        debt::{Link, Owed, link},
        life::{self, Life, Reg, life, reg},
        start::{Ended, Former, Past},
        timing,
    },
};

/// Looks, and changes nothing.
#[derive(Debug)]
pub(crate) struct Eyes<'a, G, E> {
    pub(crate) github: &'a G,
    pub(crate) ecs: &'a E,
    pub(crate) memory: &'a Memory,
    pub(crate) names: &'a RunnerNames,
    /// Whether there are warm pools.
    pub(crate) pools: bool,
    pub(crate) now: OffsetDateTime,
}

impl<G: Github, E: FindTasks> Eyes<'_, G, E> {
    /// Who the runner of that job is owed to, as far as one GET tells.
    pub(crate) async fn job(&self, job: &Job) -> Result<Owed, CallError> {
        let Job { id, target, labels, .. } = job;
        let state = self.github.job(target, *id).await?;
        Ok(match link(state.as_ref(), self.names, job.asked_at, self.now) {
            Link::Waits => Owed::ToTheJob,
            Link::HeldBack => Owed::HeldBack,
            Link::NotOwed(why) => Owed::ToNobody(why),
            Link::Got { runner: runner @ Purpose::Job(other, _), .. } if other != *id => {
                self.in_its_place(&runner, labels).await?
            }
            Link::Got { .. } => Owed::ToNobody("the job runs, or ran, on a runner that owes nothing"),
            Link::Unsettled => Owed::Unclear,
            Link::Unsaid => Owed::Unsaid,
        })
    }

    /// To whom a runner is owed in place of the one of that job, which this one took. One of the same labels stands in for
    /// it, and so does one where ECS shows none. Of other labels, that job is announced again as soon as it is heard that its
    /// runner was taken; then the runner's task says that it was.
    async fn in_its_place(&self, runner: &Purpose, labels: &[String]) -> Result<Owed, CallError> {
        let of = runner.started_by();
        let seen = |tasks: &[Task]| {
            // One that was stopped has no tags any more.
            let mut tagged =
                tasks.iter().map(|task| TaskTags(&task.tags)).filter(|it| it.runner_name().is_some());
            let is_it = |tags: &TaskTags| tags.purpose(self.names).as_ref() == Some(runner);
            let first = tagged.clone().next()?;
            Some(match tagged.find(is_it) {
                _ if first.has_labels(labels) => Owed::ToAnother,
                Some(tags) if !tags.ran_a_job() => Owed::Unheard,
                _ => Owed::ToNobody("the job was given another runner, which its own could not stand in for"),
            })
        };
        Ok(match seen(&self.ecs.tasks_started_by(&of).await?) {
            Some(owed) => owed,
            None => seen(&self.ecs.ended_tasks(Some(&of)).await?).unwrap_or(Owed::ToAnother),
        })
    }

    fn chain(&self, far: bool) -> Chain<'_, G, E> {
        Chain {
            waits_since: None,
            asked_at: None,
            github: self.github,
            ecs: self.ecs,
            taken: None,
            far: far || self.pools,
            memory: self.memory,
            names: self.names,
            now: self.now,
        }
    }

    /// Where the job lives, as far as the tasks that were started for it tell.
    pub(crate) async fn place(&self, job: JobId) -> Result<Option<Target>, CallError> {
        self.chain(false).place_of(job).await
    }

    /// Who the runner of that job is owed to, to the end of the chain; `far`: also where that is long.
    pub(crate) async fn debt(&self, job: &Job, far: bool) -> Result<Debt, CallError> {
        let own = Replacement::new(job.id, job.attempt, job.target.clone());
        // An event is on its way for a while, or comes again hours later: its job may take a runner before it is here.
        let waits_since = job.created_at.or(job.asked_at);
        let chain = Chain { waits_since, asked_at: job.asked_at, ..self.chain(far) };
        let debt = chain.debt(own).await?;
        if debt == Debt::Unsaid && job.target.repository.is_some() {
            tracing::warn!(
                job = job.id.0,
                "GitHub shows no such job; if this is so for all jobs, the credentials lack the permission \
                 \"Actions: read\""
            );
        }
        Ok(debt)
    }

    /// The attempt whose runner waits for work: this or a later one, since the next is announced when the one before is spent
    /// or given up; or an earlier one that was started after this one was asked for, so that it is not the one given up.
    /// RunTask's token alone does not tell, since an attempt has one for each capacity, and capacity comes and goes.
    pub(crate) async fn crew(
        &self,
        target: &Target,
        job: &Job,
        from: Attempt,
    ) -> Result<Option<Attempt>, CallError> {
        for task in self.ecs.tasks_started_by(&started_by(job.id)).await? {
            let tags = TaskTags(&task.tags);
            let is_newer = || task.created_at.zip(job.asked_at).is_some_and(|(at, asked_at)| at > asked_at);
            if let Some(Purpose::Job(_, attempt)) = tags.purpose(self.names)
                && (attempt >= from || is_newer())
                && let Some(id) = tags.runner_id()
                && task.live
                && !tags.ran_a_job()
                && self.may_wait(&task, self.github.runner(target, id).await?)
            {
                return Ok(Some(attempt));
            }
        }
        Ok(None)
    }

    /// Whether that runner may wait for work. GitHub may not show yet what was registered a moment ago.
    fn may_wait(&self, task: &Task, registration: Option<Registration>) -> bool {
        match registration {
            Some(registration) => !registration.busy,
            None => task.created_at.is_some_and(|at| self.now - at < timing::UNTIL_SHOWN),
        }
    }

    /// Who holds that name. Its task is looked for only if its runner is not up.
    pub(crate) async fn holder(
        &self,
        target: &Target,
        purpose: &Purpose,
    ) -> Result<(Life, Option<RunnerId>), CallError> {
        let found = self.github.find_runner(target, &self.names.of(purpose)).await?;
        let (seen, id) = (reg(found.as_ref()), found.map(|registration| registration.id));
        let task = match (seen, id) {
            (Reg::Offline, Some(id)) => {
                let tasks = self.ecs.tasks_started_by(&purpose.started_by()).await?;
                let its = |task: &Task| task.live && TaskTags(&task.tags).runner_id() == Some(id);
                if tasks.iter().any(its) { life::TaskState::Live } else { life::TaskState::Unseen }
            }
            _ => life::TaskState::Unseen,
        };
        Ok((life(seen, task), id))
    }

    /// What is known of the tasks that had an attempt's token before.
    pub(crate) async fn former(
        &self,
        target: &Target,
        job: &Job,
        tasks: &[TaskArn],
    ) -> Result<Former, CallError> {
        // ECS may not show a task that it has just started.
        let may_be_new = job.asked_at.is_some_and(|asked_at| self.now - asked_at < timing::SHOWN);
        for arn in tasks {
            let Some(task) = self.ecs.describe(arn).await? else {
                if may_be_new {
                    return Ok(Former::Young);
                }
                continue;
            };
            let tags = TaskTags(&task.tags);
            if tags.ran_a_job() {
                let is_another = tags.ran_job().is_some_and(|ran| ran != job.id);
                return Ok(if is_another { Former::RanAnother } else { Former::RanAJob });
            }
            if let Some(id) = tags.runner_id()
                && task.live
            {
                if task.created_at.is_some_and(|created_at| self.now - created_at < timing::UNTIL_SHOWN) {
                    return Ok(Former::Young);
                }
                if self.github.runner(target, id).await?.is_some() {
                    return Ok(Former::Lives);
                }
            }
        }
        Ok(Former::Useless)
    }
}

/// The attempts of that job whose tasks have ended, as far as ECS shows them.
pub(crate) fn past(
    tasks: &[Task],
    names: &RunnerNames,
    job: JobId,
    now: OffsetDateTime,
) -> BTreeMap<Attempt, Past> {
    let mut ended = BTreeMap::new();
    for task in tasks {
        let tags = TaskTags(&task.tags);
        if let Some(Purpose::Job(of, attempt)) = tags.purpose(names)
            && of == job
        {
            let ended_at = task.stop.as_ref().and_then(|stop| stop.stopped_at);
            let how = match (tags.ran_a_job(), tags.ran_job()) {
                (false, _) => Ended::Idle,
                (true, Some(ran)) if ran != job => Ended::RanAnother,
                (true, Some(_)) => Ended::RanAJob,
                (true, None) => Ended::RanSome { lately: ended_at.is_none_or(|at| now - at < timing::SHOWN) },
            };
            let is_failure = how == Ended::Idle && task.stop.as_ref().is_some_and(Stop::job_may_be_at_fault);
            let failures = tags.failures() + u32::from(is_failure);
            ended.entry(attempt).or_insert(Past { how, failures });
        }
    }
    ended
}
