//! A job runs, or ran, on one of our runners. GitHub gives a job to any runner that has all of its labels: the job and
//! the runner need not be the pair that was started together, and the job need not be one that this fleet serves.

use time::{Duration, OffsetDateTime};

use crate::{
    error::CallError,
    fargate::tags::{self, TaskTags},
    flows::{
        cause::{Cause, replacement, replacement_delay},
        reconcile::{Reconciler, too_early},
    },
    ids::{Attempt, JobId, Purpose, started_by},
    intake::{
        payload::{Action, Job, WorkflowJob},
        skip::{Skip, SkipReason},
    },
    lambda::{
        batch::Received,
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
    /// Tags the runner's task with the job that it really runs, and sees to it that the one that the runner was started
    /// for is not left without.
    pub(crate) async fn taken(
        &self,
        event: &WorkflowJob,
        purpose: &Purpose,
        received: Option<Received>,
    ) -> Result<Outcome, CallError> {
        let job = &event.job;
        let age = event.started_at.map(|started_at| self.clock.now() - started_at);
        let is_new = event.action == Action::InProgress && age.is_some_and(|age| age < timing::LAG);
        let waited = received.and_then(|it| it.sent_at).map_or(Duration::ZERO, |at| self.clock.now() - at);
        let serves_another = purpose.job() != Some(job.id);
        let again = event.action == Action::InProgress && received.is_some_and(|it| it.times > 1);
        if again && serves_another && waited >= timing::SECOND_LOOK && self.own_is_used(job).await? {
            return Ok(its_own_serves());
        }
        let Some(task) = self.task_of(event, purpose, is_new, waited).await? else {
            return Ok(self.without_a_task(event, is_new, serves_another && waited < timing::SETTLED));
        };
        let of_task = TaskTags(&task.tags);
        if let Some(owner) = purpose.job() {
            self.memory.note_place_of(owner, &target(of_task));
            self.memory.note_given(owner, job.id);
        }
        let heard = self.says_so(&task, job);
        let owner = whose(purpose).filter(|_| serves_another);
        let is_equal = owner.is_some() && of_task.has_labels(&job.labels);
        let excluded = self.excludes(event).await?;
        // Labels like the runner's own were let in when it was started, whatever the classes are by now.
        let excluded =
            excluded.filter(|skip| skip.reason != SkipReason::Labels || !of_task.has_labels(&job.labels));
        let is_served = excluded.is_none();
        // With labels that are equal, the job's own runner is as good for the owner of this one: if there is one.
        if let Some((owner, attempt)) = owner
            && !(is_equal && is_served)
            && !of_task.ran_a_job()
        {
            self.replace_taken(owner, attempt, of_task).await?;
        }
        let mut is_written = heard;
        if task.live && !heard {
            is_written = self.tag_used(job, purpose, &task).await?;
            // It runs one job: whoever is said to have it besides brings no other runner.
            if matches!(purpose, Purpose::Pool { .. }) && !of_task.ran_a_job() {
                self.note_taken(&task, event.started_at);
                self.follow_up(&task, job.id).await;
            }
        }
        if !is_written && let Some(later) = self.tell_at_its_end(event, &task, waited).await? {
            return Ok(later);
        }
        // One of the two events takes the second look.
        if serves_another && is_served && (event.action == Action::InProgress || !heard) {
            return self.look_again(job, age, owner.filter(|_| is_equal), &task).await;
        }
        Ok(self.told(event, purpose, &task, excluded.filter(|_| serves_another)))
    }

    /// ECS shows no task of the runner. If that was taken back just now (`may_stop`), the end of another's job is all that
    /// tells which job went with it.
    fn without_a_task(&self, event: &WorkflowJob, is_new: bool, may_stop: bool) -> Outcome {
        match is_new || (may_stop && event.action == Action::Completed && self.queue.can_tell()) {
            true => too_early(timing::LAG, "ECS does not show the runner's task"),
            false => Outcome::skipped(SkipReason::Task, "the runner's task is gone already"),
        }
    }

    /// Whether the task is tagged with the job.
    fn says_so(&self, task: &Task, job: &Job) -> bool {
        let says_so = TaskTags(&task.tags).ran_job() == Some(job.id);
        if says_so && self.github.is_none() {
            self.memory.note_task_of(job.id, task.clone());
        }
        says_so
    }

    /// Writes down who uses the runner: on its task, which lives for as long as it does, and in the log. Whether it lived still.
    async fn tag_used(&self, job: &Job, purpose: &Purpose, task: &Task) -> Result<bool, CallError> {
        let (repository, name) = (job.target.name(), self.policy.names.of(purpose));
        let mut ran = vec![
            (tags::RAN_JOB.to_owned(), job.id.to_string()),
            (tags::RAN_REPOSITORY.to_owned(), tags::value(&repository)),
        ];
        let id = job.target.repository_id.map(|id| (tags::RAN_REPOSITORY_ID.to_owned(), id.to_string()));
        ran.extend(id);
        let tagged = self.ecs.tag(&task.arn, &ran).await?;
        if tagged {
            let tags = task.tags.clone().into_iter().chain(ran).collect();
            self.memory.note_task_of(job.id, Task { tags, ..task.clone() });
        }
        let (run, sender) = (job.run_id.map(|run| run.0), job.sender.as_deref());
        let task = task.arn.0.as_str();
        tracing::info!(
            reason = "Used",
            job = job.id.0,
            run,
            repository,
            sender,
            task,
            "the job runs on {name}"
        );
        Ok(tagged)
    }

    /// What the log and the metrics are told of a task that was to be tagged.
    fn told(&self, event: &WorkflowJob, purpose: &Purpose, task: &Task, foreign: Option<Skip>) -> Outcome {
        let heard = TaskTags(&task.tags).ran_job() == Some(event.job.id);
        match (task.live, heard, foreign) {
            (_, true, _) => Outcome::skipped(SkipReason::Task, "the runner's task says so already"),
            // Both events of the job come here, and it is counted once.
            (live, false, Some(why)) if live || event.action == Action::Completed => {
                self.taken_by_foreign(&why, purpose).with_task(task.arn.clone()).into()
            }
            (false, false, _) => Outcome::skipped(SkipReason::Task, "the runner's task is gone already"),
            (true, false, _) => {
                Done::new(Metric::Tagged, format!("the job runs on {}", self.policy.names.of(purpose)))
                    .with_task(task.arn.clone())
                    .into()
            }
        }
    }

    /// GitHub's runner group has let in a job that the policy does not serve.
    fn taken_by_foreign(&self, why: &Skip, purpose: &Purpose) -> Done {
        let name = self.policy.names.of(purpose);
        Done::new(
            Metric::TakenByForeign,
            format!("{name} was given to a job that this fleet does not serve: {}", why.detail),
        )
    }

    /// The runner's task, live or ended; one that this process has tagged with the job as it was then.
    async fn task_of(
        &self,
        event: &WorkflowJob,
        purpose: &Purpose,
        is_new: bool,
        waited: Duration,
    ) -> Result<Option<Task>, CallError> {
        let (name, started_by) = (self.policy.names.of(purpose), purpose.started_by());
        // A name may have been given to two registrations, one after the other.
        let named = |task: &Task| {
            let tags = TaskTags(&task.tags);
            let is_other =
                event.runner_id.is_some() && tags.runner_id().is_some_and(|id| Some(id) != event.runner_id);
            tags.runner_name() == Some(&name) && !is_other
        };
        if let Some(known) = self.memory.task_of(event.job.id).filter(named) {
            return Ok(Some(known));
        }
        // Of a job that has been over for a while, the task most likely is as well.
        let is_over = event.action == Action::Completed && waited > timing::ENDING;
        if is_over && let Some(ended) = self.ended_task(&started_by, named).await? {
            return Ok(Some(ended));
        }
        let live = self.ecs.tasks_started_by(&started_by).await?.into_iter().find(named);
        // Of a task that is gone, only that another's runner was taken matters.
        if live.is_some() || is_over || (purpose.job() == Some(event.job.id) && !is_new) {
            return Ok(live);
        }
        // The event comes late.
        self.ended_task(&started_by, named).await
    }

    async fn ended_task(
        &self,
        started_by: &str,
        named: impl FnMut(&Task) -> bool,
    ) -> Result<Option<Task>, CallError> {
        Ok(self.ecs.ended_tasks(Some(started_by)).await?.into_iter().find(named))
    }

    /// Whether the job's own runner was started, and stands by no more: another job has had it, or it is gone.
    async fn own_is_used(&self, job: &Job) -> Result<bool, CallError> {
        // The function may have died before it tagged the runner's task, which nothing else tells of. (Elsewhere the sweep finds
        // a busy runner that nobody has told of.)
        if !self.is_told(job.id) {
            return Ok(false);
        }
        if self.memory.has_given(job.id) {
            return Ok(true);
        }
        // By now, it most likely is gone.
        let started_by = started_by(job.id);
        if !self.ecs.ended_tasks(Some(&started_by)).await?.is_empty() {
            return Ok(true);
        }
        let own = self.ecs.tasks_started_by(&started_by).await?;
        if self.github.is_none() {
            // One that stands by ends by itself.
            return Ok(!own.is_empty());
        }
        let stands_by = |task: &Task| task.live && !TaskTags(&task.tags).ran_a_job();
        Ok(!own.is_empty() && !own.iter().any(stands_by))
    }

    /// Whoever is at the end of the chain that begins with the runner's owner needs another: dispatch follows it.
    async fn replace_taken(
        &self,
        owner: JobId,
        attempt: Attempt,
        tags: TaskTags<'_>,
    ) -> Result<(), CallError> {
        let mut next = replacement(owner, attempt, tags.labels(), tags);
        // A tag cannot hold every label; the registration can, while there is one.
        if tags.all_labels().is_none()
            && let (Some(github), Some(id)) = (&self.github, tags.runner_id())
            && let Some(runner) = github.runner(&target(tags), id).await?
        {
            next.labels = runner.labels;
        }
        // That it was taken is no failure of the runner's, so it does not count against MAX_ATTEMPTS. But each costs one:
        // who takes them again and again gets four an hour in the end.
        let delay = match next.attempt.0 {
            ..=2 => std::time::Duration::ZERO,
            _ => replacement_delay(next.attempt),
        };
        self.queue.announce(&next.to_body(), delay).await
    }

    /// Whether the job has brought a runner of its own, as the one that it got has to be followed by another. `owner` is
    /// whose that is, if that one could make use of the job's own.
    async fn look_again(
        &self,
        job: &Job,
        age: Option<Duration>,
        owner: Option<(JobId, Attempt)>,
        task: &Task,
    ) -> Result<Outcome, CallError> {
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
        if age.is_some_and(|age| age < wait) {
            return Ok(too_early(wait, "whether the job has a runner of its own shows later"));
        }
        let of_task = TaskTags(&task.tags);
        let own = self.ecs.tasks_started_by(&started_by(job.id)).await?;
        let Some((owner, attempt)) = owner else {
            return match self.settles(&own) {
                Some(wait) => Ok(too_early(wait, "its own runner may have been given a job just now")),
                None => self.retire_own(&own).await,
            };
        };
        let Some(github) = &self.github else {
            return self.look_again_by_tags(job, (owner, attempt), task, &own).await;
        };
        if !own.is_empty() || !self.ecs.ended_tasks(Some(&started_by(job.id))).await?.is_empty() {
            return Ok(its_own_serves());
        }
        if self.may_be_to_come(github, job, (owner, attempt), task).await? {
            let why = "jobs wait long for their runners: this one's own message may be still to come";
            return Ok(too_early(timing::LONGEST_DELAY, why));
        }
        let name = self.policy.names.of(&Purpose::Job(job.id, Attempt::FIRST));
        if github.find_runner(&job.target, &name).await?.is_some() {
            return Ok(Outcome::skipped(SkipReason::Runner, "the job's own runner is on its way"));
        }
        // Nobody here has heard of the job: it brought no runner, and has used one up.
        self.replace_taken(owner, attempt, of_task).await?;
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
        if self.memory.was_limited_lately(now) {
            return Ok(true);
        }
        let is_in_time =
            |waited| job.created_at.is_none_or(|queued| now - queued < 2 * waited + timing::LATE_LOOK);
        if self.memory.backlog_lately(now).is_some_and(is_in_time) {
            return Ok(true);
        }
        let state = github.job(&target(TaskTags(&task.tags)), owner).await?;
        let waited = state.zip(task.created_at).and_then(|(state, began)| waited(&state, began));
        // For each of its runners, if others have taken the ones before.
        let Some(waited) = waited.filter(|waited| *waited > timing::OLD * attempt.0) else {
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

/// The job that the runner was started for, and which of its attempts it is.
fn whose(purpose: &Purpose) -> Option<(JobId, Attempt)> {
    match *purpose {
        Purpose::Job(owner, attempt) => Some((owner, attempt)),
        Purpose::Pool { .. } => None,
    }
}

/// How long a job had waited when a runner was started for it. When one was queued that runs by now, GitHub says no more:
/// if a rule held it back, long after it was made.
fn waited(state: &JobState, began: OffsetDateTime) -> Option<Duration> {
    match began - state.since? {
        waited if waited.is_negative() => {
            Some((began - state.created_at?).min(Duration::seconds(timing::VERY_OLD.as_secs().cast_signed())))
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

fn its_own_serves() -> Outcome {
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
