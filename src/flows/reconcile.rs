//! Nothing left behind, nobody left waiting: the books of the runners that `dispatch` started.
//!
//! DELETE of the registration is the moment that decides. *Retiring:* DELETE first, StopTask after: stopping
//! first can kill a job that has just landed. *Replacing:* announce first, DELETE after: a crash in between
//! repeats the announcement, and the second copy meets the name of the first.

use std::time::Duration;

use time::OffsetDateTime;

use crate::{
    error::{CallError, Class},
    fargate::{
        fleet::{Fleet, Network},
        stop::{Lost, Stop},
        tags::TaskTags,
        usage::whose,
    },
    flows::{
        cause::Cause,
        chain::{Chain, Taken},
        course::Course,
        document::Document,
        memory::Memory,
    },
    ids::{Attempt, Purpose, is_ours, started_by},
    intake::{
        lifecycle::{self, Lifecycle, StoppedTask},
        payload::{Action, Job, WorkflowJob},
        policy::Policy,
        skip::{Skip, SkipReason},
    },
    lambda::{
        batch::Received,
        metric::Metric,
        outcome::{Done, Handled, Outcome, Reason, Used, Wait},
    },
    ports::{
        Deliveries, FindTasks, Github, JobState, JobStatus, Queue, Scope, StartTasks, Task, TendTasks, Timer,
    },
    protocol::{
        books::{Runner, ran_target, target},
        life::{self, Life, Reg, life, reg},
        tend::Heard,
        timing,
    },
};

/// Closes the books of runners.
#[derive(Debug)]
pub struct Reconciler<G, E, S, Q, C> {
    /// GitHub, when this system mints the configurations; `None` when the containers do: then only what ECS
    /// alone allows is done.
    pub github: Option<G>,
    /// ECS.
    pub ecs: E,
    /// The queues.
    pub queue: Q,
    /// The clock.
    pub clock: C,
    /// Which jobs are served.
    pub policy: Policy,
    /// The runner classes, if there is a document.
    pub document: Document,
    /// `ECS_CLUSTER`, name or ARN.
    pub cluster: String,
    /// `RUNNER_SCOPE`: where registrations live.
    pub scope: Scope,
    /// `IDLE_TIMEOUT_SECONDS`.
    pub idle_timeout: time::Duration,
    /// `DRAINED`: every pool is to be empty, and no class lets its runners idle longer than `idle_timeout`.
    pub drained: bool,
    /// `MAX_ATTEMPTS`: runners started for one job before it is rejected.
    pub max_attempts: u32,
    /// The warm pool, if there is one.
    pub pool: Option<Pool<S>>,
    /// What this process remembers.
    pub memory: Memory,
}

/// The warm pool: idle runners kept ready, and what the pools of classes are started with.
#[derive(Debug)]
pub struct Pool<S> {
    /// How many; 0 where only classes have some.
    pub size: u32,
    /// `MAX_RUNNERS`, of which a place is left free; 0 is no limit.
    pub max_runners: u32,
    /// Their labels.
    pub labels: Vec<String>,
    /// What their tasks are made of.
    pub fleet: Fleet,
    /// Their network.
    pub network: Network,
    /// ECS, to start them.
    pub ecs: S,
}

impl<G, E, S, Q, C> Reconciler<G, E, S, Q, C>
where
    G: Github + Deliveries,
    E: FindTasks + TendTasks,
    S: StartTasks,
    Q: Queue,
    C: Timer,
{
    /// One message. `received` is `None` when it did not come from SQS. A sweep stops by itself before `deadline`, and
    /// leaves the rest to the next.
    pub async fn handle(
        &self,
        body: String,
        received: Option<Received>,
        deadline: OffsetDateTime,
    ) -> Handled {
        let (job, outcome) = match lifecycle::read(&body) {
            Err(unreadable) => (None, Ok(Outcome::rejected(unreadable.to_string()))),
            Ok(Lifecycle::Other(what)) => (None, Ok(Outcome::skipped(SkipReason::Event, what))),
            Ok(Lifecycle::Job(event)) => (Some(event.job.clone()), self.job(&event, received).await),
            Ok(Lifecycle::TaskStopped(task)) => (None, self.task_stopped(&task, received).await),
            Ok(Lifecycle::Sweep { scheduled }) => (None, self.sweep(scheduled, deadline).await),
            Ok(Lifecycle::Redeliver { scheduled }) => (None, Ok(self.redeliver(scheduled, deadline).await)),
        };
        if let Some(job) = &job {
            self.memory.note_limit_in(&outcome, &job.target.owner, self.clock.now());
        }
        Handled { job, outcome: outcome.unwrap_or_else(Outcome::from), notice: None }
    }

    async fn job(&self, event: &WorkflowJob, received: Option<Received>) -> Result<Outcome, CallError> {
        self.memory.note_place_of(event.job.id, &event.job.target);
        if let (Action::Completed, Some(runner)) =
            (event.action, event.runner_name.as_deref().and_then(|name| self.policy.names.read(name)))
        {
            self.memory.note_runner_of(event.job.id, &runner);
        }
        let is_unwritten = self.write_down(event).await?;
        // Once more, if its task may not have been shown.
        let may_be_there = received.is_some_and(|it| it.times == 1) && self.is_young(&event.job);
        if is_unwritten
            && (event.runner_name.is_none() || may_be_there)
            && let Some(later) = self.until_its_task(event)
        {
            return Ok(later);
        }
        match (event.action, event.runner_name.as_deref()) {
            (Action::InProgress | Action::Completed, Some(runner)) => match self.policy.names.read(runner) {
                None => Ok(Outcome::skipped(SkipReason::Runner, "the job runs on a runner of another fleet")),
                // That another's runner was taken may have been missed.
                Some(Purpose::Job(owner, _))
                    if event.action == Action::Completed && owner == event.job.id =>
                {
                    Ok(Outcome::skipped(SkipReason::Runner, "the job ran; its runner goes by itself"))
                }
                Some(purpose) => {
                    let taken = self.taken(event, &purpose, received).await?;
                    if matches!(taken, Outcome::Deferred(_)) {
                        return Ok(taken);
                    }
                    // The runner's task was over, so nothing tells that the job has one, or is over.
                    let is_unwritten = is_unwritten || self.write_taken(event, &purpose).await?;
                    let is_untold = is_unwritten && self.memory.task_of(event.job.id).is_none();
                    Ok(self.until_its_task(event).filter(|_| is_untold).unwrap_or(taken))
                }
            },
            (Action::Completed, None) => match self.excludes(event).await? {
                Some(excluded) => Ok(Outcome::Skipped(excluded)),
                None => self.retire_unneeded(&event.job).await,
            },
            _ => Ok(Outcome::skipped(
                SkipReason::Action,
                "the event says of no job that it was taken or is over",
            )),
        }
    }

    /// Why the event is none of our business. While the classes cannot be told, it waits.
    pub(crate) async fn excludes(&self, event: &WorkflowJob) -> Result<Option<Skip>, CallError> {
        let classes = self.document.classes(self.clock.now()).await?;
        Ok(self.policy.excludes(event, classes.as_deref()))
    }

    /// Job completed without ever running: its runner is not needed any more, unless it has found other work.
    async fn retire_unneeded(&self, job: &Job) -> Result<Outcome, CallError> {
        let Some(github) = &self.github else {
            return Ok(Outcome::skipped(
                SkipReason::ContainerMinted,
                "the runner stops by itself when it has been idle",
            ));
        };
        let tasks = self.ecs.tasks_started_by(&started_by(job.id)).await?;
        let is_idle = |tags: TaskTags<'_>| tags.runner_id().is_some() && !tags.ran_a_job();
        let idle = tasks.iter().filter(|task| task.live && is_idle(TaskTags(&task.tags)));
        // Nobody looked at their registrations: as if they were up.
        let mut runners: Vec<Runner> =
            idle.map(|task| Runner::of_task(Life::Waiting, false, task, &self.policy.names)).collect();
        if tasks.is_empty() {
            // Minted, and not started yet or never: without a task, only the name leads to it.
            let purpose = Purpose::Job(job.id, Attempt::FIRST);
            if let Some(found) = github.find_runner(&job.target, &self.policy.names.of(&purpose)).await? {
                if found.online {
                    return Ok(not_shown("the job's runner is up, and ECS does not show its task yet"));
                }
                runners.push(Runner {
                    life: Life::Minted,
                    past: false,
                    purpose: Some(purpose),
                    registration: Some(found.id),
                    labels: found.labels,
                    place: job.target.clone(),
                    task: None,
                });
            }
        }
        // Before anything is deleted, GitHub itself is asked: the message may be forged.
        if !runners.is_empty()
            && let Some(denied) = denied(github.job(&job.target, job.id).await?)
        {
            return Ok(denied);
        }
        if let Some(wait) = self.settles(&tasks) {
            return Ok(too_early(wait, "its runner may have been given another job just now"));
        }
        let why = Cause::of("the job ended without ever running");
        let runners = runners.into_iter().map(|runner| Runner { place: job.target.clone(), ..runner });
        Ok(match self.retire_all(runners, why).await? {
            0 => Done::new(Metric::Settled, "the job ended without ever running, and no runner waits for it"),
            retired => Done::counted(Metric::Retired, retired, why.why),
        }
        .into())
    }

    /// What nobody needs any more; how many of them were idle, and went.
    pub(crate) async fn retire_all(
        &self,
        runners: impl Iterator<Item = Runner>,
        why: Cause<'_>,
    ) -> Result<u64, CallError> {
        let mut retired = 0;
        for runner in runners {
            let done = self.tend(&runner, Heard::Unneeded, why, &Course::default()).await?;
            retired += done.count(Metric::Retired);
        }
        Ok(retired)
    }

    /// A runner that has come up just now is given a job, if one waits, and GitHub may show it as idle for a while: how
    /// long until that is over.
    pub(crate) fn settles(&self, tasks: &[Task]) -> Option<Duration> {
        let idle = tasks.iter().filter(|task| task.live && !TaskTags(&task.tags).ran_a_job());
        let since = idle.filter_map(|task| task.started_at).max()?;
        Duration::try_from(since + timing::UNTIL_SHOWN - self.clock.now()).ok().filter(|left| !left.is_zero())
    }

    /// Task stopped: did it run a job, was it retired, or is a replacement owed?
    async fn task_stopped(
        &self,
        stopped: &StoppedTask,
        received: Option<Received>,
    ) -> Result<Outcome, CallError> {
        if !is_ours(&stopped.started_by) || !self.is_our_cluster(&stopped.cluster_arn) {
            return Ok(Outcome::skipped(SkipReason::Task, "the task is none of this fleet's"));
        }
        let Some(task) = self.ecs.describe(&stopped.arn).await? else {
            let age = received.and_then(|it| it.sent_at).map(|sent_at| self.clock.now() - sent_at);
            // It lived for a moment only, and the answer is from before.
            if age.is_some_and(|age| age < timing::SHOWN) {
                return Ok(not_shown("ECS does not show the task yet"));
            }
            return Ok(Outcome::skipped(
                SkipReason::Task,
                "ECS has forgotten the task; the sweep looks at its registration",
            ));
        };
        let tags = TaskTags(&task.tags);
        if tags.is_foreign(&self.policy.names) {
            return Ok(Outcome::skipped(SkipReason::Task, "the task is another fleet's"));
        }
        let Some(shown) = task.stop.as_ref().filter(|_| !task.live) else {
            return Ok(not_shown("ECS does not say yet that the task has stopped"));
        };
        let stop = with_shown(&stopped.stop, shown);
        let why = stop.why();
        let cause = Cause { stop: Some(&stop), task: Some(&task), why: &why };
        let done = match tags.ran_a_job() {
            true => self.ended_after_a_job(tags, cause).await,
            false => self.ended_without_a_job(&task, &stop, cause).await,
        };
        self.memory.note_limit_in(&done, &target(tags).owner, self.clock.now());
        Ok(done?.with_task(stopped.arn.clone()).with_usage(used(&task)).into())
    }

    /// Nobody told of a job on it.
    async fn ended_without_a_job(
        &self,
        task: &Task,
        stop: &Stop,
        cause: Cause<'_>,
    ) -> Result<Done, CallError> {
        let runner = self.stopped_runner(task, stop).await?;
        self.tell_of_untold(&runner, stop).await?;
        let done = self.tend(&runner, Heard::Stopped, cause, &Course::default()).await?;
        self.note_followed(task, &done);
        Ok(done)
    }

    /// What is left of the runner of a task that has stopped, and ran no job that anybody told of.
    async fn stopped_runner(&self, task: &Task, stop: &Stop) -> Result<Runner, CallError> {
        let of = |life| Runner::of_task(life, true, task, &self.policy.names);
        let tags = TaskTags(&task.tags);
        let (Some(github), Some(id)) = (&self.github, tags.runner_id()) else {
            // StopTask deletes a task's tags: whoever stopped it has closed its books, or the sweep will.
            let is_unused = stop.owes_a_runner() && tags.runner_name().is_some();
            let reg = if is_unused { Reg::Unused } else { Reg::Hidden };
            return Ok(of(life(reg, life::TaskState::Ended)));
        };
        let registration = github.runner(&target(tags), id).await?;
        let runner = of(life(reg(registration.as_ref()), life::TaskState::Ended));
        // A tag cannot hold every label.
        let labels = registration.filter(|_| runner.life == Life::Dead).map(|it| it.labels);
        Ok(Runner { labels: labels.unwrap_or_else(|| runner.labels.clone()), ..runner })
    }

    /// A job ran on it. If the container did not end in order, the job may have ended with it.
    async fn ended_after_a_job(&self, tags: TaskTags<'_>, cause: Cause<'_>) -> Result<Done, CallError> {
        let in_order = Done::new(Metric::Settled, "the runner ran its job");
        if cause.stop.is_some_and(|stop| stop.ended_in_order() && stop.lost() != Lost::Interrupted) {
            return Ok(in_order);
        }
        let (job, place) = (tags.ran_job(), ran_target(tags));
        if let (Some(github), Some(job), Some(place)) = (&self.github, job, &place)
            && github.job(place, job).await?.is_some_and(|state| state.succeeded)
        {
            return Ok(in_order);
        }
        let repository = tags.ran_full_name();
        if let (Some(job), Some(place)) = (job, place) {
            self.tell_interrupted(job, place, cause.stop).await?;
        }
        // The run in the tags is that of the job that the runner was started for.
        let is_own = tags.owner(&self.policy.names) == job;
        let (job, run) = (job.map(|job| job.0), tags.run_id().filter(|_| is_own));
        tracing::warn!(job, run, repository, why = cause.why, "a job is lost with its task");
        Ok(Done::new(cause.lost(), format!("the runner was running a job: {}", cause.why)))
    }

    /// The credentials: no row asks for them where the container mints.
    pub(crate) fn github(&self) -> Result<&G, CallError> {
        let why = "GitHub is not to be asked here: GITHUB_SECRET_ARN is not set";
        self.github.as_ref().ok_or_else(|| CallError::new(Class::NeedsOperator, why))
    }

    /// Where a runner leads to, by the tags of all tasks where they were read.
    pub(crate) fn chain<'a>(&'a self, github: &'a G, taken: Option<&'a Taken>) -> Chain<'a, G, E> {
        Chain {
            github,
            ecs: &self.ecs,
            taken,
            far: !self.basins().is_empty(),
            waits_since: None,
            asked_at: None,
            memory: &self.memory,
            names: &self.policy.names,
            now: self.clock.now(),
        }
    }

    fn is_our_cluster(&self, arn: &str) -> bool {
        arn == self.cluster
            || arn.rsplit('/').next() == Some(self.cluster.rsplit('/').next().unwrap_or_default())
    }
}

/// The event says neither when nor, of several containers, which is the runner's: DescribeTasks does.
fn with_shown(told: &Stop, shown: &Stop) -> Stop {
    let Stop { stopping_at, stopped_at, .. } = *shown;
    Stop {
        stopping_at,
        stopped_at,
        exit_code: told.exit_code.or(shown.exit_code),
        container_reason: shown.container_reason.clone().or_else(|| told.container_reason.clone()),
        image: shown.image.clone().or_else(|| told.image.clone()),
        ..told.clone()
    }
}

/// What the task is billed for, and whose cost that is.
fn used(task: &Task) -> Option<Used> {
    let (tags, usage) = (TaskTags(&task.tags), *task.usage.clone()?);
    // One that this system has stopped has no tags of ours any more.
    let told = task
        .stop
        .as_ref()
        .and_then(|stop| whose(stop.reason.as_deref()?))
        .filter(|_| tags.runner_name().is_none());
    Some(Used {
        task: task.arn.clone(),
        usage,
        repository: payer(tags).or(told.map(|it| it.0)).map(str::to_owned),
        class: tags.class().or_else(|| told?.1).map(str::to_owned),
        job: tags.ran_job(),
    })
}

/// Where the job is from that the task ran, or else the one that it was started for.
pub(crate) fn payer(tags: TaskTags<'_>) -> Option<&str> {
    tags.ran_full_name().or(tags.place_name())
}

/// What becomes of the message that a job ended without ever running, if GitHub does not say so.
fn denied(state: Option<JobState>) -> Option<Outcome> {
    match state.map(|state| (state.status, state.runner_name)) {
        Some((JobStatus::Completed, None)) => None,
        Some((_, Some(_))) => {
            Some(Outcome::skipped(SkipReason::Job, "GitHub says that a runner has, or had, the job"))
        }
        Some((_, None)) => Some(not_shown("GitHub does not say yet that the job is over")),
        None => {
            Some(Outcome::skipped(SkipReason::Job, "GitHub shows no such job; the sweep sees to its runner"))
        }
    }
}

/// It is looked at again after that long.
pub(crate) fn too_early(after: Duration, detail: &str) -> Outcome {
    Outcome::deferred(Reason::TooEarly, Wait::For(after), detail)
}

/// The message says what nobody else does: it was early, or forged. Nothing is done until they agree.
fn not_shown(detail: &str) -> Outcome {
    let wait = Wait::For(timing::UNTIL_SHOWN);
    Outcome::deferred(Reason::InFlight, wait, detail)
}
