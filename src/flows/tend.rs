//! One runner that came to attention: look, ask the protocol what comes next, do it.

use time::OffsetDateTime;

use crate::{
    error::CallError,
    fargate::{
        tags::{self, TaskTags},
        usage::stop_reason,
    },
    flows::{
        basin::key_of,
        cause::{Cause, replacement},
        chain::{Debt, note},
        course::Course,
        handed_back::patience,
        reconcile::{Reconciler, payer},
    },
    ids::{Attempt, JobId, Purpose, started_by},
    intake::payload::Replacement,
    lambda::{metric::Metric, outcome::Done},
    ports::{Deleted, Deliveries, FindTasks, Github, Queue, StartTasks, Task, TendTasks, Timer},
    protocol::{
        books::{BOOT, Runner, ran_target, target},
        debt::{Link, link},
        life::{self, Life, life, reg},
        tend::{Case, Heard, Owner, RunnerOwed, Step, tend},
        timing,
    },
};

/// Of the time that an idle runner gets beyond MAX_ATTEMPTS: GitHub cancels a job that has waited for a day.
const MOST_DOUBLINGS: u32 = 6;
/// Where others take a job's runners, one comes every 15 minutes in the end: so many take a day.
const A_DAY_OF_ATTEMPTS: u32 = 100;
/// Of a runner whose own job has none now.
const RAN_ANOTHER: &str = "it ran some other job";

impl<G, E, S, Q, C> Reconciler<G, E, S, Q, C>
where
    G: Github + Deliveries,
    E: FindTasks + TendTasks,
    S: StartTasks,
    Q: Queue,
    C: Timer,
{
    /// What is to be done about a runner, done.
    pub(crate) async fn tend(
        &self,
        runner: &Runner,
        heard: Heard,
        cause: Cause<'_>,
        course: &Course,
    ) -> Result<Done, CallError> {
        let mut case = Case::new(runner.life, heard, self.owner(runner, course));
        let mut next = next_of(runner);
        loop {
            match tend(&case) {
                Step::LookOwed => {
                    let (owed, end) = self.look_owed(runner, next.take(), course).await?;
                    case.owed = Some(owed);
                    next = end;
                }
                Step::LookRegistration => {
                    let registration = match runner.registration {
                        Some(id) => self.github()?.runner(&runner.place, id).await?,
                        None => None,
                    };
                    case.surely_spent = registration.is_none();
                    case.life = life(reg(registration.as_ref()), life::TaskState::Live);
                    if registration.is_some() {
                        // Of when it is there since, nobody knows: the next sweep sees it whole.
                        case.heard = Heard::Swept { past: false };
                    }
                }
                Step::LookTags => {
                    let task = match &runner.task {
                        Some(task) => self.ecs.describe(&task.arn).await?,
                        None => None,
                    };
                    case.surely_unheard = true;
                    // A job that it was known to have had is lost to it.
                    let given = |task: &Task| {
                        let tags = TaskTags(&task.tags);
                        tags.ran_a_job().then(|| tags.ran_job())
                    };
                    let heard = task.as_ref().and_then(given);
                    if heard.is_some() && heard != runner.task.as_ref().and_then(given) {
                        case.heard = Heard::Swept { past: false };
                    }
                }
                step => return self.carry_out(step, runner, &case, next, cause).await,
            }
        }
    }

    fn owner(&self, runner: &Runner, course: &Course) -> Owner {
        match &runner.purpose {
            Some(Purpose::Job(..)) => Owner::Job,
            Some(purpose) if purpose.is_probe() => Owner::Pool { surplus: true },
            _ if runner.life == Life::Waiting => {
                let pool = runner.task.as_ref().and_then(key_of);
                let full = self.full(&pool);
                Owner::Pool { surplus: full.is_some_and(|full| course.give_up_surplus(pool, full, runner)) }
            }
            _ => Owner::Pool { surplus: false },
        }
    }

    /// Who is owed the runner, or one in its place; and that one.
    async fn look_owed(
        &self,
        runner: &Runner,
        own: Option<Replacement>,
        course: &Course,
    ) -> Result<(RunnerOwed, Option<Replacement>), CallError> {
        match self.look_at_ran_job(runner).await? {
            RanJob::Settles(owed) => return Ok((owed, None)),
            RanJob::Waits(next) => return self.weigh(runner, Some(*next), course).await,
            RanJob::TellsNothing => {}
        }
        let Some(own) = own else { return Ok((RunnerOwed::ToNobody, None)) };
        let Some(github) = &self.github else { return self.look_at_tags(runner, own, course).await };
        let mut chain = self.chain(github, course.taken.as_ref());
        // Nobody told who took it: if its own job has another's, only the chain says who is one short. Where this function is
        // far behind, whoever took it is told of soon.
        let is_news = !self.ended_long_ago(runner);
        chain.far |= is_news && matches!(runner.life, Life::Astray | Life::Spent | Life::Busy | Life::Lost);
        chain.asked_at = self.asked_at(runner);
        let debt = chain.debt(own.clone()).await?;
        let is_this = |attempt| runner.purpose == Some(Purpose::Job(own.job_id, attempt));
        let next = match debt {
            Debt::OnItsOwn { attempt, over: false } if is_this(attempt) => {
                return Ok((RunnerOwed::AtWork, None));
            }
            Debt::OnItsOwn { .. } | Debt::ToNobody(_) => None,
            Debt::HeldBack if matches!(runner.life, Life::Waiting | Life::Busy) => None,
            Debt::To(next) => Some(next),
            // When in doubt, start; but not for ever.
            Debt::Unsaid if runner.life == Life::Waiting => {
                Some(own).filter(|next| next.attempt.0 <= self.max_attempts)
            }
            // Its own job has what it needs.
            Debt::Unclear | Debt::TooLong
                if runner.life == Life::Waiting && self.is_up_for(runner, timing::LONGEST_DOUBT) =>
            {
                None
            }
            Debt::Unclear | Debt::TooLong if runner.life == Life::Waiting => {
                return Ok((RunnerOwed::Unclear, None));
            }
            Debt::TooLong if !is_news && runner.life == Life::Astray => None,
            // Dispatch follows the chain again; at worst, any runner of these labels is as good: they are one short.
            Debt::TooLong | Debt::HeldBack => Some(own),
            Debt::Unsaid | Debt::Unclear if runner.life != Life::Busy => Some(own),
            Debt::Unsaid | Debt::Unclear => return Ok((RunnerOwed::Unclear, None)),
        };
        self.weigh(runner, next, course).await
    }

    /// Whether its task ended longer ago than its end takes to be heard of.
    fn ended_long_ago(&self, runner: &Runner) -> bool {
        let stop = runner.task.as_ref().and_then(|task| task.stop.as_ref());
        let ended_at = stop.and_then(|stop| stop.stopped_at);
        ended_at.is_some_and(|at| self.clock.now() - at > timing::SHOWN)
    }

    /// The task's tags name the job that the runner really ran, if anybody told; then that job is asked about.
    async fn look_at_ran_job(&self, runner: &Runner) -> Result<RanJob, CallError> {
        let Some(task) = runner.task.as_ref().filter(|task| TaskTags(&task.tags).ran_a_job()) else {
            return Ok(RanJob::TellsNothing);
        };
        let tags = TaskTags(&task.tags);
        let (state, link) = match (tags.ran_job(), ran_target(tags)) {
            (Some(job), Some(place)) => {
                let state = self.github()?.job(&place, job).await?;
                let link = link(state.as_ref(), &self.policy.names, task.created_at, self.clock.now());
                (state.map(|state| (job, place, state)), link)
            }
            _ => (None, Link::Unsaid),
        };
        Ok(RanJob::Settles(match link {
            Link::Got { over: false, .. } | Link::Unsettled => RunnerOwed::AtWork,
            Link::Got { over: true, .. } | Link::HeldBack | Link::NotOwed(_) => RunnerOwed::ToNobody,
            Link::Unsaid if runner.life == Life::Spent => RunnerOwed::ToNobody,
            // That the job waits may be an old answer.
            Link::Waits | Link::Unsaid
                if runner.life == Life::Waiting && !self.is_idle_again(task).await? =>
            {
                RunnerOwed::Unclear
            }
            Link::Unsaid if runner.life == Life::Waiting => return Ok(RanJob::TellsNothing),
            Link::Unsaid => RunnerOwed::Unclear,
            Link::Waits => {
                return Ok(match (state, next_of(runner)) {
                    // Its own: the chain begins with it.
                    (Some((job, ..)), Some(own)) if own.job_id == job => RanJob::TellsNothing,
                    (Some((job, place, state)), _) => {
                        let mut next = Replacement::new(job, Attempt::FIRST.next(), place);
                        note(&mut next, state);
                        RanJob::Waits(Box::new(next))
                    }
                    (None, _) => RanJob::TellsNothing,
                });
            }
        }))
    }

    /// That a runner shows as idle, or its repository as gone, may be untrue for a moment: whether it did in an earlier look,
    /// as its task's tags tell.
    pub(crate) async fn is_idle_again(&self, task: &Task) -> Result<bool, CallError> {
        let now = self.clock.now();
        match TaskTags(&task.tags).idle_since().map(|since| now - since) {
            Some(for_so_long) if for_so_long <= timing::SETTLED => Ok(false),
            Some(for_so_long) if for_so_long <= timing::LONGEST_DOUBT => Ok(true),
            _ => {
                let since = (tags::IDLE_SINCE.to_owned(), now.unix_timestamp().to_string());
                self.ecs.tag(&task.arn, &[since]).await?;
                Ok(false)
            }
        }
    }

    /// What the debt means for this runner.
    async fn weigh(
        &self,
        runner: &Runner,
        next: Option<Replacement>,
        course: &Course,
    ) -> Result<(RunnerOwed, Option<Replacement>), CallError> {
        let waits = runner.life == Life::Waiting;
        let Some(next) = next else {
            // Left over from a job that another runner took: with the pool's labels it is as good as a new one.
            let basin = self.basin_with(&runner.labels).filter(|_| waits);
            let joins = basin.is_some_and(|basin| course.fill_one(basin.key(), basin.size, runner));
            return Ok((if joins { RunnerOwed::ToThePool } else { RunnerOwed::ToNobody }, None));
        };
        if waits && runner.owner() == Some(next.job_id) && self.may_still_come(&next, runner.task.as_ref()) {
            return Ok((RunnerOwed::MayStillCome, None));
        }
        if matches!(runner.life, Life::Waiting | Life::Busy | Life::Spent)
            && self.has_runner(&next, runner).await?
        {
            return Ok((RunnerOwed::Served, None));
        }
        // The next sweep sees whether that brought it a runner.
        if !course.claim_announcement(next.job_id, runner) {
            return Ok((RunnerOwed::Announced, None));
        }
        Ok((RunnerOwed::ToAJob, Some(next)))
    }

    /// When the runner's job was asked for: a job that was approved after days is queued for no longer. Not where it idles, or
    /// for ever: one that GitHub has forgotten would get runners for ever.
    fn asked_at(&self, runner: &Runner) -> Option<OffsetDateTime> {
        match runner.purpose {
            Some(Purpose::Job(_, attempt))
                if attempt.0 <= A_DAY_OF_ATTEMPTS && runner.life != Life::Waiting =>
            {
                runner.task.as_ref()?.created_at
            }
            _ => None,
        }
    }

    fn is_up_for(&self, runner: &Runner, time: std::time::Duration) -> bool {
        let started_at = runner.task.as_ref().and_then(|task| task.started_at);
        started_at.is_some_and(|started_at| self.clock.now() - started_at > time)
    }

    /// An idle runner is no runner that died: the job may have been taken from it, or may never be given to it. So a
    /// job that waits is never given up, but beyond MAX_ATTEMPTS each runner is left twice as much time as the one
    /// before.
    fn may_still_come(&self, next: &Replacement, task: Option<&Task>) -> bool {
        let beyond = next.attempt.0.saturating_sub(self.max_attempts).min(MOST_DOUBLINGS);
        let said = task.and_then(|task| TaskTags(&task.tags).idle_timeout());
        let patience = said.unwrap_or(self.idle_timeout).max(BOOT) * 2_i32.pow(beyond);
        let started_at = task.and_then(|task| task.started_at);
        started_at.is_some_and(|started_at| self.clock.now() - started_at < patience)
    }

    /// Whether another runner of that job is there or on its way, and runs none: then the sweep sees to that one. Of two idle
    /// ones of one job, only the earlier goes for the other's sake.
    async fn has_runner(&self, next: &Replacement, than: &Runner) -> Result<bool, CallError> {
        let after = match than.purpose {
            Some(Purpose::Job(job, attempt)) if job == next.job_id && than.life == Life::Waiting => attempt,
            _ => Attempt(0),
        };
        let is_later = |purpose| matches!(purpose, Some(Purpose::Job(_, attempt)) if attempt > after);
        for task in self.ecs.tasks_started_by(&started_by(next.job_id)).await? {
            let tags = TaskTags(&task.tags);
            if task.live
                && !tags.ran_a_job()
                && is_later(tags.purpose(&self.policy.names))
                && let Some(id) = tags.runner_id()
                && Some(id) != than.registration
                && self.github()?.runner(&target(tags), id).await?.is_some_and(|runner| !runner.busy)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn carry_out(
        &self,
        step: Step,
        runner: &Runner,
        case: &Case,
        next: Option<Replacement>,
        cause: Cause<'_>,
    ) -> Result<Done, CallError> {
        let name = runner.purpose.as_ref().map(|it| self.policy.names.of(it)).unwrap_or_default();
        let settled = |detail: &str| Done::new(Metric::Settled, detail);
        Ok(match step {
            Step::Leave if runner.life == Life::Over => {
                settled("its container ended in order, or was stopped on purpose")
            }
            Step::Leave if runner.life == Life::Unused => settled("its job has a runner, or is over"),
            Step::Leave | Step::LookOwed | Step::LookRegistration | Step::LookTags => {
                Done::nothing("nothing is to be done about this runner")
            }
            Step::Tag => {
                let own = runner.owner().filter(|_| case.owed == Some(RunnerOwed::AtWork));
                self.tag_ran(runner, own).await?;
                Done::nothing("it runs a job, and no other waits for it")
            }
            Step::Join => Done::nothing("the warm pool has one more"),
            Step::Spend => {
                let spent = self.spend(runner).await? == Deleted::Spent;
                let what = if spent { Metric::Retired } else { Metric::Settled };
                Done::new(what, "its registration had no task and was not needed")
            }
            Step::HandBack => {
                self.hand_back(runner).await?;
                settled("its registration had no task: handed back to dispatch")
            }
            Step::Stop => {
                self.stop(runner, cause.why).await?;
                settled(cause.why)
            }
            Step::Retire => match self.retire(runner, cause).await? {
                Deleted::Spent if runner.life == Life::Waiting => {
                    if let (Some(Purpose::Pool { .. }), Some(task)) = (&runner.purpose, &runner.task) {
                        self.note_idle(task, self.clock.now());
                    }
                    Done::new(Metric::Retired, cause.why)
                }
                Deleted::Spent => settled(cause.why),
                Deleted::Gone | Deleted::Busy => Done::nothing("it was spent, or has found other work"),
            },
            Step::Replace | Step::Announce | Step::AnnounceAndStop | Step::AnnounceAndTag => match next {
                Some(next) => self.announce_for(step, runner, next, cause).await?,
                None => settled("it was started for no job"),
            },
            Step::Report | Step::ReportAndAnnounce => {
                self.tell_of_lost(runner, case, cause).await?;
                self.lost(&name, next.filter(|_| step == Step::ReportAndAnnounce), cause).await?
            }
        })
    }

    /// Announces first, whatever comes after: a crash in between repeats the announcement.
    async fn announce_for(
        &self,
        step: Step,
        runner: &Runner,
        next: Replacement,
        cause: Cause<'_>,
    ) -> Result<Done, CallError> {
        let job = next.job_id;
        if step == Step::AnnounceAndTag {
            // Its own message may be on its way.
            self.queue.announce(&next.to_body(), timing::UNTIL_SHOWN).await?;
            self.tag_ran(runner, None).await?;
            let detail = format!("job {job} is left without a runner: another job took one");
            return Ok(Done::new(Metric::Replaced, detail));
        }
        // An idle runner is no runner that died, one that never connected had no part in a job, and another job's count is in
        // that one's tasks.
        let counts = match runner.life {
            Life::Dead => true,
            Life::Unused => runner.owner() == Some(job),
            _ => false,
        };
        let why = match runner.life {
            Life::Spent => "GitHub spent its registration, and no job ran on it",
            Life::Astray => RAN_ANOTHER,
            _ => cause.why,
        };
        let done = if counts {
            self.announce_or_give_up(next, cause).await?
        } else {
            self.announce(next, why).await?
        };
        match step {
            Step::AnnounceAndStop => self.stop(runner, why).await?,
            Step::Replace => {
                let deleted = self.retire(runner, cause).await?;
                if deleted == Deleted::Spent && runner.life == Life::Waiting {
                    return Ok(done.and(Metric::Retired, 1));
                }
            }
            _ => {}
        }
        Ok(done)
    }

    /// A job is lost with its task: GitHub will notice that the runner is gone, and fail the job. It is not
    /// necessarily the one that the runner was started for, which may be owed another.
    async fn lost(&self, name: &str, next: Option<Replacement>, cause: Cause<'_>) -> Result<Done, CallError> {
        tracing::warn!(name, why = cause.why, "a job is lost with its task");
        if let Some(next) = next {
            self.announce(next, RAN_ANOTHER).await?;
        }
        Ok(Done::new(cause.lost(), format!("{name} was running a job: {}", cause.why)))
    }

    /// Nobody told which job the runner runs: its `own`, or one that is not known.
    async fn tag_ran(&self, runner: &Runner, own: Option<JobId>) -> Result<(), CallError> {
        let Some(task) = &runner.task else { return Ok(()) };
        let of_task = TaskTags(&task.tags);
        let mut ran = vec![match own {
            Some(job) => (tags::RAN_JOB.to_owned(), job.to_string()),
            None => (tags::RAN_UNTOLD.to_owned(), "true".to_owned()),
        }];
        if let (Some(_), Some(repository)) = (own, of_task.full_name()) {
            ran.push((tags::RAN_REPOSITORY.to_owned(), repository.to_owned()));
            let id = of_task.repository_id().map(|id| (tags::RAN_REPOSITORY_ID.to_owned(), id.to_string()));
            ran.extend(id);
        }
        self.ecs.tag(&task.arn, &ran).await?;
        Ok(())
    }

    async fn spend(&self, runner: &Runner) -> Result<Deleted, CallError> {
        match runner.registration {
            Some(id) => self.github()?.delete_runner(&runner.place, id).await,
            None => Ok(Deleted::Gone),
        }
    }

    /// DELETE, and StopTask only if that spent the registration; or if it was spent before, and its runner never came.
    async fn retire(&self, runner: &Runner, cause: Cause<'_>) -> Result<Deleted, CallError> {
        let deleted = self.spend(runner).await?;
        let goes = match deleted {
            Deleted::Spent => true,
            Deleted::Gone => runner.life == Life::Starting,
            // It has connected since, and taken a job: it lives.
            Deleted::Busy => false,
        };
        if goes {
            self.stop(runner, cause.why).await?;
        }
        Ok(deleted)
    }

    async fn stop(&self, runner: &Runner, why: &str) -> Result<(), CallError> {
        match &runner.task {
            Some(task) if task.live => {
                let tags = TaskTags(&task.tags);
                let reason = stop_reason(why, payer(tags), tags.class());
                self.ecs.stop(&task.arn, &reason).await
            }
            _ => Ok(()),
        }
    }

    /// A registration without a task goes back to the queue as the very attempt that it is. `dispatch` meets its
    /// name, and decides as after any crash: the task is there after all, or the registration is spent and another
    /// one minted.
    async fn hand_back(&self, runner: &Runner) -> Result<(), CallError> {
        let Some(Purpose::Job(job, attempt)) = runner.purpose else { return Ok(()) };
        let chain = self.chain(self.github()?, None);
        let place = chain.place_of(job).await?.unwrap_or_else(|| runner.place.clone());
        let labels = runner.labels.clone();
        let runner_id = runner.registration;
        let replacement =
            Replacement { labels, registered: true, runner_id, ..Replacement::new(job, attempt, place) };
        self.queue.announce(&replacement.to_body(), patience(&replacement)).await
    }
}

/// What the job tells that ran on the runner.
enum RanJob {
    /// Who is owed the runner.
    Settles(RunnerOwed),
    /// GitHub has taken it back, and it is owed another: whose the runner was has been settled when it was taken.
    Waits(Box<Replacement>),
    /// Nothing.
    TellsNothing,
}

/// The next attempt for its job.
fn next_of(runner: &Runner) -> Option<Replacement> {
    let Some(Purpose::Job(job, attempt)) = runner.purpose else { return None };
    let no_tags = std::collections::BTreeMap::new();
    let tags = TaskTags(runner.task.as_ref().map_or(&no_tags, |task| &task.tags));
    let next = replacement(job, attempt, runner.labels.clone(), tags);
    Some(Replacement { failures: tags.known_failures(), ..next })
}
