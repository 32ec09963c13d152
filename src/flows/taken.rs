//! A job runs, or ran, on one of our runners. GitHub gives a job to any runner that has all of its labels: the job and
//! the runner need not be the pair that was started together, and the job need not be one that this fleet serves.

mod second_look;

use std::sync::Arc;

use time::Duration;
use tokio::sync::OnceCell;

use self::second_look::its_own_serves;
use crate::{
    error::CallError,
    fargate::tags::{self, TaskTags},
    flows::{
        cause::{delay_after_taken, replacement},
        reconcile::{Reconciler, too_early},
    },
    ids::{Attempt, JobId, Purpose, started_by},
    intake::{
        payload::{Action, Job, Replacement, WorkflowJob},
        skip::{Skip, SkipReason},
    },
    lambda::{
        batch::Received,
        metric::Metric,
        outcome::{Done, Outcome},
    },
    ports::{Deliveries, FindTasks, Github, Queue, StartTasks, Task, TendTasks, Timer},
    protocol::{books::target, timing},
};

/// What is told of a job that runs, or ran, on a runner of ours.
struct Taking<'a> {
    event: &'a WorkflowJob,
    /// What the runner was started for.
    purpose: &'a Purpose,
    /// How long ago the job began to run.
    age: Option<Duration>,
    /// How long ago the message was sent.
    waited: Duration,
    /// The message came before.
    again: bool,
    own: OwnTasks,
}

/// The tasks that were started for the job itself, once they were asked for: one message asks once.
#[derive(Default)]
struct OwnTasks {
    live: OnceCell<Vec<Task>>,
    has_ended: OnceCell<bool>,
}

impl Taking<'_> {
    /// Whether the job has begun; else it is over.
    fn begins(&self) -> bool {
        self.event.action == Action::InProgress
    }

    /// Whether the job began so lately that ECS may not show the runner's task yet.
    fn is_new(&self) -> bool {
        self.begins() && self.age.is_some_and(|age| age < timing::LAG)
    }

    /// Whether the runner was started for another job, or for none.
    fn serves_another(&self) -> bool {
        self.purpose.job() != Some(self.event.job.id)
    }

    /// The other job that the runner was started for, and which of its attempts it is.
    fn other_owner(&self) -> Option<(JobId, Attempt)> {
        match *self.purpose {
            Purpose::Job(owner, attempt) if owner != self.event.job.id => Some((owner, attempt)),
            _ => None,
        }
    }
}

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
        let now = self.clock.now();
        let taking = &Taking {
            event,
            purpose,
            age: event.started_at.map(|started_at| now - started_at),
            waited: received.and_then(|it| it.sent_at).map_or(Duration::ZERO, |sent_at| now - sent_at),
            again: received.is_some_and(|it| it.times > 1),
            own: OwnTasks::default(),
        };
        let looks_again = taking.begins() && taking.again && taking.waited >= timing::SECOND_LOOK;
        if looks_again && taking.serves_another() && self.own_is_used(taking).await? {
            return Ok(its_own_serves());
        }
        match self.task_of(taking).await? {
            Some(task) => self.taken_on(taking, &task).await,
            None => Ok(Self::without_a_task(taking)),
        }
    }

    /// ECS shows no task of the runner. Where it was another's, this event is all that tells of that: ECS's answer may be old.
    fn without_a_task(taking: &Taking<'_>) -> Outcome {
        let may_be_shown = taking.serves_another() && taking.waited < timing::LATE_LOOK;
        match taking.is_new() || may_be_shown {
            true => too_early(timing::LAG, "ECS does not show the runner's task"),
            false => Outcome::skipped(SkipReason::Task, "the runner's task is gone already"),
        }
    }

    /// The runner's task is this one.
    async fn taken_on(&self, taking: &Taking<'_>, task: &Task) -> Result<Outcome, CallError> {
        let (job, of_task) = (&taking.event.job, TaskTags(&task.tags));
        if let Some(owner) = taking.purpose.job() {
            self.memory.note_place_of(owner, &target(of_task));
            self.memory.note_given(owner, job.id);
        }
        let heard = self.says_so(task, job);
        let is_equal = of_task.has_labels(&job.labels);
        // Labels like the runner's own were let in when it was started, whatever the classes are by now.
        let excluded = self.excludes(taking.event).await?;
        let excluded = excluded.filter(|skip| skip.reason != SkipReason::Labels || !is_equal);
        let is_served = excluded.is_none();
        // With labels that are equal, the job's own runner is as good for the owner of this one: if there is one.
        if let Some(owner) = taking.other_owner()
            && !(is_equal && is_served)
            && !of_task.ran_a_job()
        {
            self.replace_taken(owner, of_task).await?;
        }
        let is_written = heard || (task.live && self.write_used(taking, task).await?);
        if !is_written && let Some(later) = self.tell_at_its_end(taking.event, task, taking.waited).await? {
            return Ok(later);
        }
        // One of the two events takes the second look.
        if taking.serves_another() && is_served && (taking.begins() || !heard) {
            return self.look_again(taking, taking.other_owner().filter(|_| is_equal), task).await;
        }
        Ok(self.told(taking, task, heard, excluded.filter(|_| taking.serves_another())))
    }

    /// Writes down who uses the runner, and that a pool has one less. Whether its task lived still.
    async fn write_used(&self, taking: &Taking<'_>, task: &Task) -> Result<bool, CallError> {
        let is_written = self.tag_used(&taking.event.job, taking.purpose, task).await?;
        // It runs one job: whoever is said to have it besides brings no other runner.
        if taking.purpose.is_of_a_pool() && !TaskTags(&task.tags).ran_a_job() {
            self.note_taken(task, taking.event.started_at);
            self.follow_up(task, taking.event.job.id).await;
        }
        Ok(is_written)
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
            let mut task = task.clone();
            Arc::make_mut(&mut task.tags).extend(ran);
            self.memory.note_task_of(job.id, task);
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

    /// What the log and the metrics are told of a task that was to be tagged; `heard`: it was before.
    fn told(&self, taking: &Taking<'_>, task: &Task, heard: bool, foreign: Option<Skip>) -> Outcome {
        let Taking { event, purpose, .. } = taking;
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
    async fn task_of(&self, taking: &Taking<'_>) -> Result<Option<Task>, CallError> {
        let Taking { event, purpose, waited, .. } = *taking;
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
        if live.is_some() || is_over || !(taking.serves_another() || taking.is_new()) {
            return Ok(live);
        }
        // The event comes late.
        self.ended_task(&started_by, named).await
    }

    /// The live tasks that were started for the job itself.
    async fn own_tasks<'a>(&self, taking: &'a Taking<'_>) -> Result<&'a [Task], CallError> {
        let own = started_by(taking.event.job.id);
        Ok(taking.own.live.get_or_try_init(|| self.ecs.tasks_started_by(&own)).await?)
    }

    /// Whether one has ended that was started for the job itself.
    async fn own_has_ended(&self, taking: &Taking<'_>) -> Result<bool, CallError> {
        let own = started_by(taking.event.job.id);
        let has_ended = async || Ok(!self.ecs.ended_tasks(Some(&own)).await?.is_empty());
        taking.own.has_ended.get_or_try_init(has_ended).await.copied()
    }

    async fn ended_task(
        &self,
        started_by: &str,
        named: impl FnMut(&Task) -> bool,
    ) -> Result<Option<Task>, CallError> {
        Ok(self.ecs.ended_tasks(Some(started_by)).await?.into_iter().find(named))
    }

    /// Whoever is at the end of the chain that begins with the runner's owner needs another: dispatch follows it.
    async fn replace_taken(
        &self,
        (owner, attempt): (JobId, Attempt),
        tags: TaskTags<'_>,
    ) -> Result<(), CallError> {
        let next = replacement(owner, attempt, tags.labels(), tags);
        let mut next = Replacement { failures: tags.known_failures(), ..next };
        // A tag cannot hold every label; the registration can, while there is one.
        if tags.all_labels().is_none()
            && let (Some(github), Some(id)) = (&self.github, tags.runner_id())
            && let Some(runner) = github.runner(&target(tags), id).await?
        {
            next.labels = runner.labels;
        }
        self.queue.announce(&next.to_body(), delay_after_taken(next.attempt)).await
    }
}
