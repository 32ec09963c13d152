//! From a queued job to a Fargate task.
//!
//! A registration at GitHub is a token that is spent once; it is the only record of a runner that is owed.
//! Every step below may be the last one before a crash: the message is then delivered again, and what was done
//! before is found by the registration's name (409), by the task's `startedBy`, or by its `clientToken`.

use std::{cell::Cell, time::Duration};

use time::OffsetDateTime;

use crate::{
    error::{CallError, Class},
    fargate::{
        fleet::{Capacity, Fleet},
        tags::TaskTags,
    },
    flows::{
        hands::{discard, run_task},
        plan::Plan,
    },
    ids::{Attempt, JobId, Purpose},
    intake::{
        labels::Sizing,
        payload::{self, Job, Message},
        policy::{Policy, Skip, Verdict},
    },
    lambda::outcome::{Deferral, Done, Handled, Outcome, Reason, Wait},
    ports::{Clock, Deleted, FindTasks, Github, JobState, Minted, RunTask, StartTasks, TaskArn},
    protocol::debt::{Owed, owed},
};

/// Older than this, a job may have been cancelled or taken by another runner: one GET comes first.
const OLD: time::Duration = time::Duration::minutes(2);

/// The same where an attempt may be started on several capacities, each under a token of its own, so that RunTask does
/// not say that another one had it. No runner is up, and its name free again, sooner.
const OLD_FOR_SEVERAL: time::Duration = time::Duration::seconds(20);

/// How long a delivery that meets a registration without a task waits before it takes over, if it is the first
/// receive of its message: another delivery of the same job may be between its mint and its RunTask, or
/// ListTasks may not show its task yet.
const IN_FLIGHT: Duration = Duration::from_secs(30);
/// How far ListTasks and DescribeTasks may lag behind, and a little more.
const LAG: Duration = Duration::from_secs(75);

/// Starts runners for jobs.
#[derive(Debug)]
pub struct Dispatcher<G, E, C> {
    /// GitHub, when this function mints the configurations; `None` when the containers do.
    pub github: Option<G>,
    /// ECS.
    pub ecs: E,
    /// The clock.
    pub clock: C,
    /// Which jobs are served.
    pub policy: Policy,
    /// What tasks are made of.
    pub fleet: Fleet,
    /// `MAX_RUNNERS`; 0 is no limit.
    pub max_runners: u32,
    /// `MAX_ATTEMPTS`: runners started for one job before it is rejected.
    pub max_attempts: u32,
}

/// What the records of one batch share.
#[derive(Debug, Default)]
pub struct Batch {
    /// Runners that may still be started; `None` is no limit.
    room: Cell<Option<u32>>,
    /// GitHub's rate limit was met: no more mints until then.
    no_mints_until: Cell<Option<OffsetDateTime>>,
    /// `MAX_RUNNERS` is set, and ECS did not say how many there are.
    uncounted: Option<CallError>,
}

impl<G: Github, E: FindTasks + StartTasks, C: Clock> Dispatcher<G, E, C> {
    /// Asks ECS, once for the whole batch and only if there is a limit, how many runners there are.
    pub async fn begin_batch(&self) -> Batch {
        let mut batch = Batch::default();
        if self.max_runners > 0 {
            match self.ecs.task_count().await {
                Ok(running) => batch.room.set(Some(self.max_runners.saturating_sub(running))),
                Err(error) => batch.uncounted = Some(error),
            }
        }
        batch
    }

    /// One message. `receives` counts how often SQS has delivered it; `None` when it did not come from SQS.
    pub async fn handle(&self, body: String, receives: Option<u32>, batch: &Batch) -> Handled {
        match payload::read(&body) {
            Err(unreadable) => Handled { job: None, outcome: Outcome::Rejected(unreadable.to_string()) },
            Ok(Message::OtherEvent(what)) => {
                Handled { job: None, outcome: Outcome::Skipped(Skip::new("event", what)) }
            }
            Ok(Message::WorkflowJob(event)) => {
                let outcome = match self.policy.judge(&event) {
                    Verdict::Skip(skip) => Outcome::Skipped(skip),
                    Verdict::Reject(reason) => Outcome::Rejected(reason),
                    Verdict::Run(sizing) => {
                        let again =
                            self.is_old(&event.job, sizing) || receives.is_some_and(|count| count > 1);
                        let delivery = Delivery {
                            check_first: again,
                            may_have_runner: again,
                            is_first: receives == Some(1),
                            registered: false,
                        };
                        self.start(&event.job, sizing, delivery, batch).await
                    }
                };
                Handled { job: Some(event.job), outcome }
            }
            Ok(Message::Replacement(replacement)) => {
                let registered = replacement.registered;
                let job = replacement.into_job();
                let excluded = self.policy.excludes_target(&job.target);
                let outcome = match (excluded, self.policy.size(&job.labels)) {
                    (Some(skip), _) | (None, Verdict::Skip(skip)) => Outcome::Skipped(skip),
                    (None, Verdict::Reject(reason)) => Outcome::Rejected(reason),
                    (None, Verdict::Run(sizing)) => {
                        // Owed whatever GitHub says of the job itself, so that is not checked first.
                        let delivery = Delivery {
                            check_first: false,
                            may_have_runner: true,
                            is_first: receives == Some(1),
                            registered,
                        };
                        self.start(&job, sizing, delivery, batch).await
                    }
                };
                Handled { job: Some(job), outcome }
            }
        }
    }

    fn is_old(&self, job: &Job, sizing: Sizing) -> bool {
        let has_several = sizing.capacity.is_none() && self.fleet.capacities.len() > 1;
        let old = if has_several { OLD_FOR_SEVERAL } else { OLD };
        job.created_at.is_some_and(|created_at| self.clock.now() - created_at > old)
    }

    async fn start(&self, job: &Job, sizing: Sizing, delivery: Delivery, batch: &Batch) -> Outcome {
        let slot = match batch.take_slot() {
            Ok(slot) => slot,
            Err(outcome) => return outcome,
        };
        let plan = Plan::for_job(job, sizing, &self.fleet);
        let outcome = match &self.github {
            Some(github) => self.start_minted(github, job, plan, delivery, batch).await,
            None => self.start_named(&plan).await,
        }
        .unwrap_or_else(Outcome::from);
        if !matches!(outcome, Outcome::Done(_)) {
            slot.give_back();
        }
        outcome
    }

    /// Dispatcher-minted: mint → RunTask, two calls in the good case.
    async fn start_minted(
        &self,
        github: &G,
        job: &Job,
        mut plan: Plan,
        delivery: Delivery,
        batch: &Batch,
    ) -> Result<Outcome, CallError> {
        self.may_mint(batch)?;
        if delivery.check_first
            && let Owed::ToNobody(why) = self.owed(github, job).await?
        {
            return Ok(skip("not-queued", why));
        }
        let mut ended = Vec::new();
        if delivery.may_have_runner {
            if let Some(waiting) = self.other_runner(github, &plan).await? {
                // A later one gives this attempt up, and the sweep found it registered without a task.
                if delivery.registered && waiting > plan.purpose {
                    spend_by_name(github, &plan).await?;
                }
                return Ok(skip("duplicate", "a runner for it is there already"));
            }
            ended = self.ecs.ended_tasks(Some(&plan.purpose.started_by())).await?;
        }
        let mut attempt = job.attempt;
        loop {
            let name = plan.runner_name();
            let spent = ended.iter().find(|task| TaskTags(&task.tags).runner_name() == Some(&name));
            if let Some(task) = spent {
                // RunTask would say so for the capacity that it was started on only. A registration of that name is
                // the dead runner's, or was made by a delivery that did not get to delete it.
                if spend_by_name(github, &plan).await? == Deleted::Busy {
                    return Ok(skip("duplicate", "its runner runs a job"));
                }
                if TaskTags(&task.tags).ran_a_job() {
                    return Ok(skip("duplicate", "the runner of this attempt has run a job"));
                }
                if let Some(nobody) = self.next_attempt(github, job, &mut attempt).await? {
                    return Ok(nobody);
                }
                plan = plan.with_attempt(attempt);
                continue;
            }
            let registration = match self.mint(github, &plan, batch).await? {
                // Whoever spent the registration that the sweep found has seen to the job, and may have done it within
                // the moment that ECS lags behind: asked again later, it shows the task.
                Minted::Created(registration)
                    if delivery.registered && delivery.is_first && attempt == job.attempt =>
                {
                    github.delete_runner(&plan.target, registration.id).await?;
                    return Ok(in_flight(LAG));
                }
                Minted::Created(registration) => registration,
                Minted::NameTaken => match self.take_over(github, job.id, &plan, delivery).await? {
                    TakeOver::Alive(why) => return Ok(skip("duplicate", why)),
                    TakeOver::InFlight => return Ok(in_flight(IN_FLIGHT)),
                    TakeOver::NameFree => match self.mint(github, &plan, batch).await? {
                        Minted::Created(registration) => registration,
                        Minted::NameTaken => return Ok(in_flight(IN_FLIGHT)),
                    },
                },
            };
            match run_task(&self.ecs, &self.fleet.container, &plan, Some(&registration)).await {
                Ok((RunTask::Started(task), capacity)) => return Ok(started(&plan, capacity, task)),
                Ok((RunTask::Conflict(tasks), _)) => {
                    // A task of this attempt was once started, with another registration.
                    discard(github, &plan, &registration).await;
                    if let Some(why) = self.done_by(github, &plan, &tasks).await? {
                        return Ok(skip("duplicate", why));
                    }
                    if let Some(nobody) = self.next_attempt(github, job, &mut attempt).await? {
                        return Ok(nobody);
                    }
                    plan = plan.with_attempt(attempt);
                }
                // Perhaps the task was started. The next delivery finds out, by the registration's name.
                Err(error) if error.class == Class::Unknown => return Err(error),
                Err(error) => {
                    discard(github, &plan, &registration).await;
                    return Err(error);
                }
            }
        }
    }

    /// The runner of that attempt took no job: the next one's turn, if a runner is owed still. The answer is why not.
    async fn next_attempt(
        &self,
        github: &G,
        job: &Job,
        attempt: &mut Attempt,
    ) -> Result<Option<Outcome>, CallError> {
        if let Owed::ToNobody(why) = self.owed(github, job).await? {
            return Ok(Some(skip("not-queued", why)));
        }
        *attempt = attempt.next();
        Ok((attempt.0 > self.max_attempts).then(|| exhausted(self.max_attempts)))
    }

    /// Container-minted: RunTask alone. The same request names the same task, so a repetition is harmless; only
    /// with several capacities may an earlier delivery have started a task under another one's token.
    async fn start_named(&self, plan: &Plan) -> Result<Outcome, CallError> {
        if plan.capacities.len() > 1 {
            let tasks = self.ecs.tasks_started_by(&plan.purpose.started_by()).await?;
            let name = plan.runner_name();
            if tasks.iter().any(|task| task.live && TaskTags(&task.tags).runner_name() == Some(&name)) {
                return Ok(skip("duplicate", "its task is there already"));
            }
        }
        Ok(match run_task(&self.ecs, &self.fleet.container, plan, None).await? {
            (RunTask::Started(task), capacity) => started(plan, capacity, task),
            (RunTask::Conflict(_), _) => {
                skip("duplicate", "its task was started before, with other settings")
            }
        })
    }

    async fn owed(&self, github: &G, job: &Job) -> Result<Owed, CallError> {
        if job.target.repository.is_none() {
            return Ok(Owed::Unknown);
        }
        let state: Option<JobState> = github.job(&job.target, job.id).await?;
        if state.is_none() {
            tracing::warn!(
                job = job.id.0,
                "GitHub shows no such job; if this is so for all jobs, the credentials lack the permission \
                 \"Actions: read\""
            );
        }
        Ok(owed(job.id, state.as_ref()))
    }

    /// Not before GitHub's rate limit allows it again: then no other call is wasted either.
    fn may_mint(&self, batch: &Batch) -> Result<(), CallError> {
        let now = self.clock.now();
        match batch.no_mints_until.get() {
            Some(until) if now < until => Err(CallError::new(
                Class::RateLimited { after: Duration::try_from(until - now).unwrap_or_default() },
                "GitHub's rate limit was met earlier in this batch",
            )),
            _ => Ok(()),
        }
    }

    async fn mint(&self, github: &G, plan: &Plan, batch: &Batch) -> Result<Minted, CallError> {
        self.may_mint(batch)?;
        let minted = github.mint(&plan.target, &plan.runner_name(), &plan.labels).await;
        if let Err(CallError { class: Class::RateLimited { after }, .. }) = minted {
            batch.no_mints_until.set(Some(self.clock.now() + after));
        }
        minted
    }

    /// The name is taken: by a runner that lives, by another delivery that is at work, or by one that crashed
    /// between its two calls. In the last case its registration is spent here, which frees the name.
    async fn take_over(
        &self,
        github: &G,
        job: JobId,
        plan: &Plan,
        delivery: Delivery,
    ) -> Result<TakeOver, CallError> {
        let Some(runner) = github.find_runner(&plan.target, &plan.runner_name()).await? else {
            // Spent since the mint was refused. Whether by a job or by another delivery, the next receive
            // will tell.
            return Ok(TakeOver::InFlight);
        };
        if runner.online || runner.busy {
            return Ok(TakeOver::Alive("its runner is there already"));
        }
        let tasks = self.ecs.tasks_started_by(&plan.purpose.started_by()).await?;
        if tasks.iter().any(|task| task.live && TaskTags(&task.tags).runner_id() == Some(runner.id)) {
            return Ok(TakeOver::Alive("its task is there already"));
        }
        if delivery.is_first {
            return Ok(TakeOver::InFlight);
        }
        tracing::info!(job = job.0, runner = runner.id.0, "taking over a registration without a task");
        match github.delete_runner(&plan.target, runner.id).await? {
            Deleted::Spent => Ok(TakeOver::NameFree),
            Deleted::Busy => Ok(TakeOver::Alive("its runner runs a job")),
            Deleted::Gone => Ok(TakeOver::InFlight),
        }
    }

    /// Whether a runner of this attempt, or of a later one, waits for work: the next is announced when the one
    /// before is spent or given up. RunTask's token alone does not tell, since an attempt has one for each
    /// capacity, and capacity comes and goes.
    async fn other_runner(&self, github: &G, plan: &Plan) -> Result<Option<Purpose>, CallError> {
        for task in self.ecs.tasks_started_by(&plan.purpose.started_by()).await? {
            let tags = TaskTags(&task.tags);
            let purpose = tags.runner_name().and_then(Purpose::from_runner_name);
            if let Some(purpose) = purpose.filter(|purpose| *purpose >= plan.purpose)
                && let Some(id) = tags.runner_id()
                && task.live
                && !tags.ran_a_job()
                && github.runner(&plan.target, id).await?.is_some_and(|runner| !runner.busy)
            {
                return Ok(Some(purpose));
            }
        }
        Ok(None)
    }

    /// Whether one of the tasks has run a job, or lives and has its registration: then nothing is owed.
    async fn done_by(
        &self,
        github: &G,
        plan: &Plan,
        tasks: &[TaskArn],
    ) -> Result<Option<&'static str>, CallError> {
        for arn in tasks {
            let Some(task) = self.ecs.describe(arn).await? else { continue };
            let tags = TaskTags(&task.tags);
            if tags.ran_a_job() {
                return Ok(Some("the runner of this attempt has run a job"));
            }
            if let Some(runner) = tags.runner_id()
                && task.live
                && github.runner(&plan.target, runner).await?.is_some()
            {
                return Ok(Some("its task is there already"));
            }
        }
        Ok(None)
    }
}

/// Spends the registration of that name, if there is one.
async fn spend_by_name<G: Github>(github: &G, plan: &Plan) -> Result<Deleted, CallError> {
    match github.find_runner(&plan.target, &plan.runner_name()).await? {
        Some(runner) => github.delete_runner(&plan.target, runner.id).await,
        None => Ok(Deleted::Gone),
    }
}

/// What is known about this delivery of a message.
#[derive(Debug, Clone, Copy)]
struct Delivery {
    /// The job may have been taken or cancelled since.
    check_first: bool,
    /// A runner of this attempt, or of a later one, may have been started since.
    may_have_runner: bool,
    /// Certainly the first receive of this message.
    is_first: bool,
    /// The sweep found the attempt registered.
    registered: bool,
}

enum TakeOver {
    /// Somebody else's delivery has done the work.
    Alive(&'static str),
    /// Somebody else's delivery may be doing the work.
    InFlight,
    /// The work is ours, and the name is free.
    NameFree,
}

impl Batch {
    fn take_slot(&self) -> Result<Slot<'_>, Outcome> {
        if let Some(error) = &self.uncounted {
            return Err(error.clone().into());
        }
        match self.room.get() {
            Some(0) => Err(Outcome::Deferred(Deferral {
                reason: Reason::MaxRunners,
                wait: Wait::Backoff,
                detail: "MAX_RUNNERS is reached".into(),
            })),
            room => {
                self.room.set(room.map(|room| room - 1));
                Ok(Slot(self))
            }
        }
    }
}

/// One runner's place under `MAX_RUNNERS`.
struct Slot<'a>(&'a Batch);

impl Slot<'_> {
    fn give_back(self) {
        self.0.room.set(self.0.room.get().map(|room| room + 1));
    }
}

fn started(plan: &Plan, capacity: Capacity, task: TaskArn) -> Outcome {
    Done::new("Started", format!("{} on {capacity}", plan.runner_name())).with_task(task).into()
}

fn skip(reason: &'static str, detail: &str) -> Outcome {
    Outcome::Skipped(Skip::new(reason, detail))
}

fn in_flight(after: Duration) -> Outcome {
    Outcome::Deferred(Deferral {
        reason: Reason::InFlight,
        wait: Wait::For(after),
        detail: "another delivery of this job may be at work".into(),
    })
}

fn exhausted(max_attempts: u32) -> Outcome {
    Outcome::Rejected(format!(
        "MAX_ATTEMPTS: {max_attempts} runners were started for this job and none took a job; see why their \
         tasks stopped, then send this message to the job queue again"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_given_back() {
        let batch = Batch::default();
        batch.room.set(Some(1));
        let slot = batch.take_slot().unwrap_or_else(|outcome| panic!("{outcome:?}"));
        assert!(batch.take_slot().is_err());
        slot.give_back();
        assert!(batch.take_slot().is_ok());
    }
}
