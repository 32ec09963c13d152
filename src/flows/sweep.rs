//! The safety net, every five minutes: what never came as an event is found here.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use time::OffsetDateTime;

use crate::{
    error::{CallError, Class},
    fargate::tags::TaskTags,
    flows::{
        chain::{Taken, Waits},
        hands::{discard, run_task},
        plan::Plan,
        reconcile::{Cause, Pool, Reconciler, replacement, retire, target},
        redeliver::redeliver,
    },
    ids::{JobId, Purpose, RunnerId, started_by},
    intake::{
        payload::Replacement,
        policy::{RepositoryGlob, Skip},
    },
    lambda::outcome::{Done, Outcome},
    ports::{
        Deleted, Deliveries, FindTasks, Github, Minted, Queue, Registration, RunTask, Scope, StartTasks,
        Target, Task, TendTasks, Timer,
    },
    protocol::books::{self, Finding, Registered},
};

/// GitHub's "after" is in whole seconds, and may be none.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
/// A sweep that waited longer than this on its queue has been overtaken by the next one.
const STALE: time::Duration = time::Duration::minutes(10);
/// The registration of a crashed `dispatch` goes back to the queue; a `dispatch` that is only slow gets this long
/// to finish first.
const HAND_BACK_DELAY: Duration = Duration::from_secs(60);
/// Time that one step may take: a sweep begins none when less is left.
pub(crate) const ONE_STEP: time::Duration = time::Duration::seconds(20);
/// About as many findings as a sweep has time for, if each needs a few calls.
const FINDINGS_A_SWEEP: usize = 500;
/// Findings seen to at a time: one after the other, a sweep of a busy fleet would not be done before the next.
pub(crate) const AT_ONCE: usize = 4;

/// Of the time that an idle runner gets beyond MAX_ATTEMPTS: GitHub cancels a job that has waited for a day.
const MOST_DOUBLINGS: u32 = 6;

/// What the steps of a sweep share.
struct Course {
    taken: Taken,
    pool_size: Cell<u32>,
    /// Jobs that another runner is announced for, and the runner that led to that.
    announced: RefCell<BTreeMap<JobId, RunnerId>>,
    tally: RefCell<Tally>,
}

impl Course {
    /// One job gets one runner from a sweep. A step that is repeated after a rate limit may announce again.
    fn may_announce(&self, job: JobId, runner: &Registration) -> bool {
        *self.announced.borrow_mut().entry(job).or_insert(runner.id) == runner.id
    }
}

/// What a sweep did.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    retired: u64,
    replaced: u64,
    settled: u64,
    lost: u64,
    pub(crate) redelivered: u64,
    stopped: u64,
    pub(crate) left: u64,
    pool_size: u32,
    oldest_waiting: time::Duration,
    first_error: Option<CallError>,
}

impl Tally {
    /// One failure does not stop the rest; the first is reported with the whole.
    pub(crate) fn note(&mut self, result: Result<(), CallError>) {
        if let Err(error) = result {
            tracing::warn!(%error, "one step of the sweep failed: left to the next");
            self.left += 1;
            self.first_error.get_or_insert(error);
        }
    }

    fn add(&mut self, done: &Done) {
        match done.what() {
            "Replaced" => self.replaced += 1,
            "Lost" => self.lost += 1,
            _ => self.settled += 1,
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
    /// One sweep. It fails as a whole only when it could not even look.
    pub(crate) async fn sweep(
        &self,
        scheduled: OffsetDateTime,
        deadline: OffsetDateTime,
    ) -> Result<Outcome, CallError> {
        if self.clock.now() - scheduled > STALE {
            return Ok(Outcome::Skipped(Skip::new("stale", "a later sweep is due")));
        }
        let mut tally = Tally::default();
        let Some(github) = &self.github else {
            self.stop_stuck(deadline, &mut tally).await?;
            return Ok(tally.into_outcome());
        };
        // However many deliveries failed, the books get half of the time.
        let now = self.clock.now();
        let redelivered =
            redeliver(github, &self.clock, scheduled, now + (deadline - now) / 2, &mut tally).await;
        tally.note(redelivered);
        match self.keep_books(github, scheduled, deadline, &mut tally).await {
            // The next sweep comes sooner than a repetition of this one could do more.
            Err(error) if matches!(error.class, Class::RateLimited { .. }) => tally.note(Err(error)),
            kept => kept?,
        }
        Ok(tally.into_outcome())
    }

    /// Compares registrations with tasks, and sees to what does not fit.
    async fn keep_books(
        &self,
        github: &G,
        scheduled: OffsetDateTime,
        deadline: OffsetDateTime,
        tally: &mut Tally,
    ) -> Result<(), CallError> {
        // Registrations first: see `books::compare`.
        let registered = self.registered(github, deadline).await?;
        let tasks = self.ecs.live_tasks().await?;
        let mut books = books::compare(&registered, &tasks, self.clock.now(), self.idle_timeout);
        tally.oldest_waiting = books.oldest_waiting.unwrap_or_default();
        // Where one sweep ends for lack of time, the next does not begin with the same ones.
        let nth = usize::try_from(scheduled.unix_timestamp() / 300).unwrap_or_default();
        let first = nth.wrapping_mul(FINDINGS_A_SWEEP) % books.findings.len().max(1);
        books.findings.rotate_left(first);
        // What costs most money and fewest calls comes first: GitHub's rate limit may end the rest.
        books.findings.sort_by_key(|finding| !matches!(finding, Finding::NoRegistration(_)));
        let taken = match books.findings.iter().any(|it| matches!(it, Finding::Idle(..))) {
            true => self.read_taken(&tasks, tally).await,
            false => Taken::default(),
        };
        let pool_size = Cell::new(books.pool);
        let announced = RefCell::default();
        let course = &Course { taken, pool_size, announced, tally: RefCell::new(std::mem::take(tally)) };
        stream::iter(books.findings)
            .for_each_concurrent(AT_ONCE, |finding| async move {
                if self.clock.now() + ONE_STEP > deadline {
                    course.tally.borrow_mut().left += 1;
                    return;
                }
                let result = patiently(&self.clock, deadline, || self.see_to(github, &finding, course)).await;
                course.tally.borrow_mut().note(result);
            })
            .await;
        *tally = course.tally.take();
        tally.pool_size = course.pool_size.get();
        if let Some(pool) = &self.pool {
            let filled = self.fill(github, pool, scheduled, deadline, tally).await;
            tally.note(filled);
        }
        Ok(())
    }

    /// All registrations of the fleet, in every place where there may be some.
    async fn registered(&self, github: &G, deadline: OffsetDateTime) -> Result<Vec<Registered>, CallError> {
        let mut registered = Vec::new();
        for place in self.places().await? {
            let mut page = 1;
            loop {
                if self.clock.now() > deadline {
                    // Half of a list would make the other half's tasks look as if they had no runner.
                    let why = "GitHub took so long to list the runners that no time was left for them";
                    return Err(CallError::new(Class::Transient, why));
                }
                let (runners, more) =
                    patiently(&self.clock, deadline, || github.runners(&place, page)).await?;
                let ours =
                    runners.into_iter().filter(|runner| Purpose::from_runner_name(&runner.name).is_some());
                registered.extend(ours.map(|runner| Registered { runner, place: place.clone() }));
                if !more {
                    break;
                }
                page += 1;
            }
        }
        Ok(registered)
    }

    /// One organisation or enterprise, if it is known; else every owner or repository that has a task, or is named
    /// in `ALLOWED_REPOSITORIES`.
    async fn places(&self) -> Result<Vec<Target>, CallError> {
        let known = match (&self.scope, &self.policy.organization) {
            (Scope::Repo, _) | (Scope::Org, None) => None,
            (Scope::Org, Some(organization)) => Some(organization.clone()),
            // The enterprise's slug is the adapter's; the owner only says whose installation asks.
            (Scope::Enterprise(slug), organization) => {
                Some(organization.clone().unwrap_or_else(|| slug.clone()))
            }
        };
        if let Some(owner) = known {
            return Ok(vec![Target { owner, repository: None, installation: None }]);
        }
        let named = self.policy.repositories.iter().filter_map(RepositoryGlob::names);
        let named = named.map(|(owner, repository)| Target { owner, repository, installation: None });
        let tasks = self.ecs.live_tasks().await?;
        let mut places = BTreeMap::new();
        for mut place in named.chain(tasks.iter().map(|task| target(TaskTags(&task.tags)))) {
            if self.scope == Scope::Org {
                place.repository = None;
            } else if place.repository.is_none() {
                continue;
            }
            if !place.owner.is_empty() {
                let key = (place.owner.to_lowercase(), place.repository.as_deref().map(str::to_lowercase));
                places.insert(key, place);
            }
        }
        Ok(places.into_values().collect())
    }

    /// Which job got whose runner, by the tags of the tasks of the last hour: that spares GitHub most questions.
    async fn read_taken(&self, live: &[Task], tally: &mut Tally) -> Taken {
        let ended = self.ecs.ended_tasks(None).await.unwrap_or_else(|error| {
            tally.note(Err(error));
            Vec::new()
        });
        Taken::read(ended.iter().chain(live))
    }

    async fn see_to(&self, github: &G, finding: &Finding, course: &Course) -> Result<(), CallError> {
        match finding {
            Finding::Idle(runner, task) => {
                if self.is_wanted(github, runner, task, course).await? {
                    return Ok(());
                }
                if retire(github, &self.ecs, runner, task, "idle past IDLE_TIMEOUT_SECONDS").await? {
                    course.tally.borrow_mut().retired += 1;
                }
            }
            Finding::Hung(runner, task) => {
                // Its job gets the next runner: no idle one that leads to the job brings it another.
                if let Some(Purpose::Job(job, _)) = Purpose::from_runner_name(&runner.name)
                    && !course.may_announce(job, runner)
                {
                    return Ok(());
                }
                let (done, deleted) = self
                    .settle(github, runner, TaskTags(&task.tags), Cause::of("its runner never connected"))
                    .await?;
                // It may have connected since, and taken a job: then it lives.
                if deleted != Deleted::Busy {
                    self.ecs.stop(&task.arn, "the runner holds no connection to GitHub").await?;
                }
                course.tally.borrow_mut().add(&done);
            }
            Finding::NoTask(registered, purpose) => {
                self.hand_back(github, registered, purpose).await?;
                course.tally.borrow_mut().settled += 1;
            }
            Finding::NoRegistration(task) => {
                let tags = TaskTags(&task.tags);
                let spent = match tags.runner_id() {
                    // Pages shift while they are read: one registration may have slipped through.
                    Some(id) => github.runner(&target(tags), id).await?.is_none(),
                    None => true,
                };
                if spent {
                    self.ecs.stop(&task.arn, "its registration is spent").await?;
                    course.tally.borrow_mut().stopped += 1;
                }
            }
        }
        Ok(())
    }

    /// An idle runner is wanted as the last hope of its job, or as part of the warm pool.
    async fn is_wanted(
        &self,
        github: &G,
        runner: &Registration,
        task: &Task,
        course: &Course,
    ) -> Result<bool, CallError> {
        let full = self.pool.as_ref().map_or(0, |pool| pool.size);
        let Some(Purpose::Job(job, attempt)) = Purpose::from_runner_name(&runner.name) else {
            let wanted = course.pool_size.get() <= full;
            if !wanted {
                course.pool_size.set(course.pool_size.get() - 1);
            }
            return Ok(wanted);
        };
        let own = replacement(job, attempt, runner.labels.clone(), TaskTags(&task.tags));
        let next = match course.taken.waits_for(github, own).await? {
            Waits::Unsettled => return Ok(true),
            Waits::Job(next) | Waits::Perhaps(next)
                if next.job_id != job && self.has_runner(github, &next).await? =>
            {
                return Ok(false);
            }
            Waits::Job(next) if next.job_id == job && self.may_still_come(&next, task) => return Ok(true),
            Waits::Job(next) => Some(next),
            // When in doubt, start; but not for ever.
            Waits::Perhaps(next) => Some(next).filter(|next| next.attempt.0 <= self.max_attempts),
            Waits::Nobody => None,
        };
        if let Some(next) = next {
            // Another idle runner has led to the same job in this sweep. The next sees whether that brought it a runner.
            if !course.may_announce(next.job_id, runner) {
                return Ok(true);
            }
            let done = self.announce_anyway(next, "a runner was idle while the job was queued").await?;
            course.tally.borrow_mut().add(&done);
            return Ok(false);
        }
        // Left over from a job that another runner took: with the pool's labels it is as good as a new one.
        let joins = course.pool_size.get() < full
            && self.pool.as_ref().is_some_and(|pool| pool.has_labels_of(runner));
        if joins {
            course.pool_size.set(course.pool_size.get() + 1);
        }
        Ok(joins)
    }

    /// An idle runner is no runner that died: the job may have been taken from it, or may never be given to it. So a
    /// job that waits is never given up, but beyond MAX_ATTEMPTS each runner is left twice as much time as the one
    /// before.
    fn may_still_come(&self, next: &Replacement, task: &Task) -> bool {
        let beyond = next.attempt.0.saturating_sub(self.max_attempts).min(MOST_DOUBLINGS);
        let patience = self.idle_timeout * 2_i32.pow(beyond);
        task.started_at.is_some_and(|started_at| self.clock.now() - started_at < patience)
    }

    /// Whether a runner of that job is there or on its way, and runs no other: then the sweep sees to that one.
    async fn has_runner(&self, github: &G, next: &Replacement) -> Result<bool, CallError> {
        for task in self.ecs.tasks_started_by(&started_by(next.job_id)).await? {
            let tags = TaskTags(&task.tags);
            if task.live
                && !tags.ran_a_job()
                && let Some(id) = tags.runner_id()
                && github.runner(&target(tags), id).await?.is_some_and(|runner| !runner.busy)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A registration without a task goes back to the queue as the very attempt that it is. `dispatch` meets
    /// its name, and decides as after any crash: the task is there after all, or the registration is spent and
    /// another one minted.
    async fn hand_back(
        &self,
        github: &G,
        registered: &Registered,
        purpose: &Purpose,
    ) -> Result<(), CallError> {
        let Registered { runner, place } = registered;
        match *purpose {
            Purpose::Job(job_id, attempt) => {
                let replacement = Replacement {
                    job_id,
                    attempt,
                    labels: runner.labels.clone(),
                    owner: place.owner.clone(),
                    repository: place.repository.clone(),
                    run_id: None,
                    installation_id: place.installation,
                    registered: true,
                };
                self.queue.announce(&replacement.to_body(), HAND_BACK_DELAY).await
            }
            Purpose::Pool { .. } => github.delete_runner(place, runner.id).await.map(drop),
        }
    }

    /// Fills the warm pool up. Names and tokens come from the sweep's scheduled time: a sweep that is delivered
    /// twice meets its own names.
    async fn fill(
        &self,
        github: &G,
        pool: &Pool<S>,
        scheduled: OffsetDateTime,
        deadline: OffsetDateTime,
        tally: &mut Tally,
    ) -> Result<(), CallError> {
        let owner = self.policy.organization.clone().unwrap_or_default();
        let place = Target { owner, repository: None, installation: None };
        let window = u64::try_from(scheduled.unix_timestamp()).unwrap_or_default();
        for slot in 0..pool.size.saturating_sub(tally.pool_size) {
            if self.clock.now() + ONE_STEP > deadline {
                return Ok(());
            }
            let purpose = Purpose::Pool { window, slot };
            let plan = Plan::for_pool(purpose, pool.labels.clone(), place.clone(), &pool.fleet);
            let minted = github.mint(&place, &plan.runner_name(), &plan.labels).await?;
            let Minted::Created(registration) = minted else { continue };
            match run_task(&pool.ecs, &pool.fleet.container, &plan, Some(&registration)).await {
                Ok((RunTask::Started(_), _)) => tally.pool_size += 1,
                Ok((RunTask::Conflict(_), _)) => discard(github, &plan, &registration).await,
                Err(error) => {
                    // If the task was started all the same, it finds its registration gone and ends.
                    discard(github, &plan, &registration).await;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// What ECS alone allows.
    async fn stop_stuck(&self, deadline: OffsetDateTime, tally: &mut Tally) -> Result<(), CallError> {
        let tasks = self.ecs.live_tasks().await?;
        let now = self.clock.now();
        for task in books::stuck(&tasks, now, self.idle_timeout) {
            if self.clock.now() + ONE_STEP > deadline {
                tally.left += 1;
                continue;
            }
            let result = self.replace_stuck(task, tally).await;
            tally.stopped += u64::from(result.is_ok());
            tally.note(result);
        }
        Ok(())
    }

    /// Announce first: StopTask deletes the tags that say whose task it was.
    async fn replace_stuck(&self, task: &Task, tally: &mut Tally) -> Result<(), CallError> {
        if task.started_at.is_none() {
            let why = "the task did not start in time";
            tally.add(&self.replace_unregistered(TaskTags(&task.tags), Cause::of(why)).await?);
        }
        self.ecs.stop(&task.arn, "stuck: it did not start in time, or is older than any job").await
    }
}

/// Waits for GitHub's rate limit, and tries again, as long as there is time. A sweep has time, and what it used up of the
/// limit would be lost if it gave up.
pub(crate) async fn patiently<C: Timer, T, F: Future<Output = Result<T, CallError>>>(
    clock: &C,
    deadline: OffsetDateTime,
    step: impl Fn() -> F,
) -> Result<T, CallError> {
    loop {
        match step().await {
            Err(CallError { class: Class::RateLimited { after }, .. })
                if clock.now() + after + ONE_STEP < deadline =>
            {
                clock.wait(after.max(SHORTEST_WAIT)).await;
            }
            answer => return answer,
        }
    }
}

impl<S> Pool<S> {
    /// Whether GitHub gives this runner the same jobs as one of the pool's own.
    fn has_labels_of(&self, runner: &Registration) -> bool {
        let set = |labels: &[String]| -> BTreeSet<String> {
            labels.iter().map(|label| label.to_lowercase()).collect()
        };
        set(&self.labels) == set(&runner.labels)
    }
}

impl Tally {
    fn into_outcome(self) -> Outcome {
        let needs_operator =
            self.first_error.as_ref().is_some_and(|error| error.class == Class::NeedsOperator);
        let counts = vec![
            ("Swept", 1),
            ("Retired", self.retired),
            ("Replaced", self.replaced),
            ("Redelivered", self.redelivered),
            ("Settled", self.settled + self.stopped),
            ("Lost", self.lost),
            ("LeftToNextSweep", self.left),
            ("PoolSize", self.pool_size.into()),
            ("OldestWaitingJob", self.oldest_waiting.whole_seconds().max(0).unsigned_abs()),
            ("NeedsOperator", needs_operator.into()),
        ];
        let mut detail = format!(
            "retired {}, replaced {}, redelivered {}, settled {}, stopped {}, lost {}, left to the next sweep {}",
            self.retired, self.replaced, self.redelivered, self.settled, self.stopped, self.lost, self.left
        );
        if let Some(error) = self.first_error {
            detail.push_str(&format!("; first failure: {error}"));
        }
        Done { counts, detail, task: None }.into()
    }
}
