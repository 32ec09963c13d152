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
        chain::{Chain, Taken},
        course::Course,
        document::Document,
        memory::Memory,
        watch::{self, Looks},
    },
    ids::{Attempt, JobId, Purpose, RunId, RunnerNames, is_ours, started_by},
    intake::{
        lifecycle::{self, Lifecycle, StoppedTask},
        notice::{Interrupted, What, Word},
        payload::{Action, Job, Replacement, WorkflowJob},
        policy::Policy,
        skip::{Skip, SkipReason},
    },
    lambda::{
        batch::Received,
        metric::Metric,
        outcome::{Done, Handled, Outcome, Reason, Used, Wait},
    },
    ports::{
        Deliveries, FindTasks, Github, JobState, JobStatus, Queue, Scope, StartTasks, Target, Task,
        TendTasks, Timer,
    },
    protocol::{
        books::{Runner, ran_target, target},
        debt::{Link, link},
        life::{self, Life, Reg, life, reg},
        outbreak::Outbreak,
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
            Err(unreadable) => (None, Ok(Outcome::Rejected(unreadable.to_string()))),
            Ok(Lifecycle::Other(what)) => (None, Ok(Outcome::skipped(SkipReason::Event, what))),
            Ok(Lifecycle::Job(event)) => (Some(event.job.clone()), self.job(&event, received).await),
            Ok(Lifecycle::TaskStopped(task)) => (None, self.task_stopped(&task, received).await),
            Ok(Lifecycle::Sweep { scheduled }) => (None, self.sweep(scheduled, deadline).await),
            Ok(Lifecycle::Redeliver { scheduled }) => (None, Ok(self.redeliver(scheduled, deadline).await)),
        };
        if let Err(CallError { class: Class::RateLimited { .. }, .. }) = outcome {
            self.memory.met_limit(self.clock.now());
        }
        Handled { job, outcome: outcome.unwrap_or_else(Outcome::from), notice: None }
    }

    async fn job(&self, event: &WorkflowJob, received: Option<Received>) -> Result<Outcome, CallError> {
        self.memory.lives(event.job.id, &event.job.target);
        if let (Action::Completed, Some(runner)) =
            (event.action, event.runner_name.as_deref().and_then(|name| self.policy.names.read(name)))
        {
            self.memory.ran(event.job.id, &runner);
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
            let detail = "its runner may have been given another job just now";
            return Ok(Outcome::deferred(Reason::TooEarly, Wait::For(wait), detail));
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
        if task.live {
            return Ok(not_shown("ECS does not say yet that the task has stopped"));
        }
        let tags = TaskTags(&task.tags);
        let why = stopped.stop.why();
        // The event does not say when: DescribeTasks does.
        let times = task.stop.as_ref().map(|stop| (stop.stopping_at, stop.stopped_at));
        let (stopping_at, stopped_at) = times.unwrap_or_default();
        let stop = Stop { stopping_at, stopped_at, ..stopped.stop.clone() };
        let cause = Cause { stop: Some(&stop), task: Some(&task), why: &why };
        let done = if tags.ran_a_job() {
            self.ended_after_a_job(tags, cause).await?
        } else {
            let runner = self.stopped_runner(&task, &stopped.stop).await?;
            self.tell_of_untold(&runner, &stop).await?;
            let done = self.tend(&runner, Heard::Stopped, cause, &Course::default()).await?;
            self.note_followed(&task, &done);
            done
        };
        Ok(done.with_task(stopped.arn.clone()).with_usage(used(&task)).into())
    }

    /// What is left of the runner of a task that has stopped, and ran no job that anybody told of.
    async fn stopped_runner(&self, task: &Task, stop: &Stop) -> Result<Runner, CallError> {
        let of = |life| Runner::of_task(life, true, task, &self.policy.names);
        let tags = TaskTags(&task.tags);
        let (Some(github), Some(id)) = (&self.github, tags.runner_id()) else {
            // StopTask deletes a task's tags: whoever stopped it has closed its books, or the sweep will.
            let is_unused = stop.owes_a_runner() && !task.tags.is_empty();
            let reg = if is_unused { Reg::Unused } else { Reg::Hidden };
            return Ok(of(life(reg, life::Task::Ended)));
        };
        let registration = github.runner(&target(tags), id).await?;
        let runner = of(life(reg(registration.as_ref()), life::Task::Ended));
        // A tag cannot hold every label.
        let labels = registration.filter(|_| runner.life == Life::Dead).map(|it| it.labels);
        Ok(Runner { labels: labels.unwrap_or_else(|| runner.labels.clone()), ..runner })
    }

    /// A job ran on it. If the container did not end in order, the job may have ended with it.
    async fn ended_after_a_job(&self, tags: TaskTags<'_>, cause: Cause<'_>) -> Result<Done, CallError> {
        let in_order = Done::new(Metric::Settled, "the runner ran its job");
        if cause.stop.is_some_and(Stop::ended_in_order) {
            return Ok(in_order);
        }
        let (job, place) = (tags.ran_job(), ran_target(tags));
        if let (Some(github), Some(job), Some(place)) = (&self.github, job, &place)
            && github.job(place, job).await?.is_some_and(|state| state.succeeded)
        {
            return Ok(in_order);
        }
        let repository = tags.ran_repository().map(|(owner, name)| format!("{owner}/{name}"));
        if let (Some(job), Some(place)) = (job, place) {
            self.tell_interrupted(job, place, cause.stop).await?;
        }
        // The run in the tags is that of the job that the runner was started for.
        let is_own = tags.purpose(&self.policy.names).and_then(|purpose| purpose.job()) == job;
        let (job, run) = (job.map(|job| job.0), tags.run_id().filter(|_| is_own));
        tracing::error!(job, run, repository, why = cause.why, "a job is lost with its task");
        Ok(Done::new(cause.lost(), format!("the runner was running a job: {}", cause.why)))
    }

    /// The credentials: no row asks for them where the container mints.
    pub(crate) fn github(&self) -> Result<&G, CallError> {
        let why = "GitHub is not to be asked here: GITHUB_SECRET_ARN is not set";
        self.github.as_ref().ok_or_else(|| CallError::new(Class::NeedsOperator, why))
    }

    /// A job went with its runner: if Fargate Spot took that back, whoever looks after the author is told, for certain.
    pub(crate) async fn tell_interrupted(
        &self,
        job: JobId,
        place: Target,
        stop: Option<&Stop>,
    ) -> Result<(), CallError> {
        let is_served = || self.policy.excludes_target(&place).is_none();
        let interrupted = stop.filter(|stop| stop.lost() == Lost::Interrupted && self.queue.can_tell());
        let interrupted = interrupted.filter(|_| is_served());
        match interrupted.and_then(|stop| Interrupted::new(job, place, stop, self.clock.now())) {
            Some(interrupted) => self.queue.tell(&interrupted.to_body(), Duration::ZERO).await,
            None => Ok(()),
        }
    }

    /// Nobody had told which job ran on a runner that was taken back, and its registration may be spent: was it its own?
    /// Of another's, GitHub's event that it is over leads to the task.
    async fn tell_of_untold(&self, runner: &Runner, stop: &Stop) -> Result<(), CallError> {
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

    /// Where a runner leads to, by the tags of all tasks where they were read.
    pub(crate) fn chain<'a>(&'a self, github: &'a G, taken: Option<&'a Taken>) -> Chain<'a, G, E> {
        Chain {
            github,
            ecs: &self.ecs,
            taken,
            far: !self.basins().is_empty(),
            asked_at: None,
            memory: &self.memory,
            names: &self.policy.names,
            now: self.clock.now(),
        }
    }

    /// Puts the job back on its queue for the next attempt, or rejects it when there were enough.
    pub(crate) async fn announce(
        &self,
        replacement: Replacement,
        cause: Cause<'_>,
    ) -> Result<Done, CallError> {
        let (job, why) = (replacement.job_id, cause.why);
        if let Some(fix) = self.fix(&cause).await {
            tracing::error!(job = job.0, attempt = replacement.attempt.0, why, "{fix}; the job waits");
            self.queue.announce(&replacement.to_body(), replacement_delay(replacement.attempt)).await?;
            let done = Done::new(Metric::Replaced, format!("job {job} waits: {fix}"));
            return Ok(done.and(Metric::NeedsOperator, 1));
        }
        let is_failure = cause.stop.is_none_or(Stop::may_be_the_job_s);
        match cause.failures_of(job, &self.policy.names) {
            Some(failures) if is_failure && failures + 1 >= self.max_attempts => {
                self.give_up(replacement, why).await
            }
            _ => self.announce_anyway(replacement, why).await,
        }
    }

    /// The last of `MAX_ATTEMPTS` runners has died. What led here may be doubt, or old: first, GitHub is asked about that
    /// very job. One that has another's runner may lead to a job that has none, which dispatch finds out.
    async fn give_up(&self, replacement: Replacement, why: &str) -> Result<Done, CallError> {
        let job = replacement.job_id;
        let Some(github) = &self.github else {
            return Ok(Done::new(
                Metric::Settled,
                "it was the job's last runner: dispatch, which started it, gives the job up",
            ));
        };
        let place = match replacement.repository {
            Some(_) => replacement.target(),
            None => {
                let place = self.chain(github, None).place_of(job).await?;
                place.unwrap_or_else(|| replacement.target())
            }
        };
        if place.repository.is_some() {
            let state = github.job(&place, job).await?;
            match link(state.as_ref(), &self.policy.names, self.clock.now()) {
                Link::Waits | Link::Unsaid => {}
                Link::Unsettled => return self.announce_anyway(replacement, why).await,
                Link::Got { runner: Purpose::Job(owner, _), .. } if owner != job => {
                    return self.announce_anyway(replacement, why).await;
                }
                Link::Got { .. } => {
                    return Ok(Done::new(Metric::Settled, "the job runs, or ran, on another runner"));
                }
                Link::HeldBack => return Ok(Done::new(Metric::Settled, "the job waits for approval")),
                Link::NotOwed(why) => return Ok(Done::new(Metric::Settled, why)),
            }
        }
        let reason = format!(
            "MAX_ATTEMPTS: {} runners were started for job {job} and none took a job; the last one stopped: {why}; mend \
             that, then send this message to the job queue",
            self.max_attempts
        );
        tracing::error!(job = job.0, "{reason}");
        self.queue.reject(&replacement.to_body(), &reason).await?;
        self.tell_given_up(replacement).await;
        Ok(Done::new(Metric::Rejected, reason))
    }

    /// Whatever comes of that, the job is in the dead-letter queue. Why the last one stopped is for operators.
    async fn tell_given_up(&self, replacement: Replacement) {
        let why = format!(
            "{} runners were started for it, and each ended before it had the job",
            self.max_attempts
        );
        let word = Word::new(What::GivenUp, why, &replacement.into_job()).filter(|_| self.queue.can_tell());
        if let Some(word) = word
            && let Err(error) = self.queue.tell(&word.to_body(), Duration::ZERO).await
        {
            tracing::warn!(%error, "the author of a job that was given up is not told");
        }
    }

    /// How the installation is to be mended, when it is its fault and not the job's.
    async fn fix(&self, cause: &Cause<'_>) -> Option<String> {
        if let Some(fix) = cause.stop.and_then(Stop::fix) {
            return Some(fix.to_owned());
        }
        self.outbreak(&cause.task?.definition).await.map(|outbreak| watch::said(&outbreak))
    }

    /// Whether runners of that task definition die whatever the job.
    pub(crate) async fn outbreak(&self, definition: &str) -> Option<Outbreak> {
        let looks = Looks {
            github: self.github.as_ref(),
            ecs: &self.ecs,
            names: &self.policy.names,
            good_for: Some(Duration::ZERO),
            now: self.clock.now(),
        };
        self.memory.watch.outbreak(&looks, definition).await
    }

    /// Puts the job back on its queue for the next attempt.
    pub(crate) async fn announce_anyway(
        &self,
        replacement: Replacement,
        why: &str,
    ) -> Result<Done, CallError> {
        let (job, attempt) = (replacement.job_id, replacement.attempt);
        self.queue.announce(&replacement.to_body(), replacement_delay(attempt)).await?;
        Ok(Done::new(
            Metric::Replaced,
            format!("attempt {attempt} for job {job}, since the one before took no job: {why}"),
        ))
    }

    fn is_our_cluster(&self, arn: &str) -> bool {
        arn == self.cluster
            || arn.rsplit('/').next() == Some(self.cluster.rsplit('/').next().unwrap_or_default())
    }
}

/// Why a task ended before its runner took a job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cause<'a> {
    /// For people.
    pub(crate) why: &'a str,
    /// How the task ended, if it has. Where the job had no part in it, no number of attempts gives the job up.
    pub(crate) stop: Option<&'a Stop>,
    /// The task.
    pub(crate) task: Option<&'a Task>,
}

impl<'a> Cause<'a> {
    /// A cause that says nothing of the installation.
    pub(crate) fn of(why: &'a str) -> Self {
        Cause { why, stop: None, task: None }
    }

    /// Runners that were started for the job before this one, and died; `None` if this one was started for another.
    fn failures_of(&self, job: JobId, names: &RunnerNames) -> Option<u32> {
        let Some(task) = self.task else { return Some(0) };
        let tags = TaskTags(&task.tags);
        let is_another = tags.purpose(names).and_then(|it| it.job()).is_some_and(|owner| owner != job);
        Some(tags.failures()).filter(|_| !is_another)
    }

    /// What a job that went with it is counted as.
    pub(crate) fn lost(&self) -> Metric {
        match self.stop.map(Stop::lost) {
            Some(Lost::Interrupted) => Metric::Interrupted,
            Some(Lost::OutOfMemory) => Metric::OutOfMemory,
            Some(Lost::Otherwise) | None => Metric::Lost,
        }
    }
}

/// What the task is billed for, and whose cost that is.
fn used(task: &Task) -> Option<Used> {
    let (tags, usage) = (TaskTags(&task.tags), *task.usage.clone()?);
    // One that this system has stopped has no tags any more.
    let told =
        task.stop.as_ref().and_then(|stop| whose(stop.reason.as_deref()?)).filter(|_| tags.0.is_empty());
    Some(Used {
        task: task.arn.clone(),
        usage,
        repository: payer(tags).or_else(|| Some(told?.0.to_owned())),
        class: tags.class().or_else(|| told?.1).map(str::to_owned),
        job: tags.ran_job(),
    })
}

/// Where the job is from that the task ran, or else the one that it was started for.
pub(crate) fn payer(tags: TaskTags<'_>) -> Option<String> {
    let started_for = || {
        let (owner, name) = tags.repository()?;
        Some(name.map_or_else(|| owner.to_owned(), |name| format!("{owner}/{name}")))
    };
    let ran_in = tags.ran_repository().map(|(owner, name)| format!("{owner}/{name}"));
    ran_in.or_else(started_for)
}

/// The runner after that attempt.
pub(crate) fn replacement(
    job: JobId,
    attempt: Attempt,
    labels: Vec<String>,
    tags: TaskTags<'_>,
) -> Replacement {
    let next = Replacement::new(job, attempt.next(), target(tags));
    Replacement { labels, run_id: tags.run_id().map(RunId), run_attempt: tags.run_attempt(), ..next }
}

/// Before that attempt, which is the second or a later one.
pub(crate) fn replacement_delay(attempt: Attempt) -> Duration {
    timing::REPLACEMENT.saturating_mul(1 << attempt.0.saturating_sub(2).min(16)).min(timing::LONGEST_DELAY)
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

/// The message says what nobody else does: it was early, or forged. Nothing is done until they agree.
fn not_shown(detail: &str) -> Outcome {
    let wait = Wait::For(timing::UNTIL_SHOWN);
    Outcome::deferred(Reason::InFlight, wait, detail)
}
