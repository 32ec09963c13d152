//! One runner that came to attention: look, ask the protocol what comes next, do it.

use crate::{
    error::CallError,
    fargate::tags::TaskTags,
    flows::{
        chain::Waits,
        course::Course,
        reconcile::{Cause, Pool, Reconciler, replacement},
    },
    ids::{Purpose, started_by},
    intake::payload::Replacement,
    lambda::outcome::Done,
    ports::{Deleted, Deliveries, FindTasks, Github, Queue, StartTasks, Target, Task, TendTasks, Timer},
    protocol::{
        books::{Runner, target},
        debt::Debt,
        life::{self, Life, life, reg},
        tend::{Case, Heard, Owed, Owner, Step, tend},
        timing,
    },
};

/// Of the time that an idle runner gets beyond MAX_ATTEMPTS: GitHub cancels a job that has waited for a day.
const MOST_DOUBLINGS: u32 = 6;

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
        github: &G,
        runner: &Runner,
        heard: Heard,
        cause: Cause<'_>,
        course: &Course,
    ) -> Result<Done, CallError> {
        let mut case = Case::new(runner.life, heard, self.owner(runner, course));
        let mut next = next_of(runner);
        // A hung one's job gets the next runner: no idle one that leads to the job brings it another.
        if runner.life == Life::Starting
            && let (Heard::Swept { past: true }, Some(next)) = (heard, &next)
            && !course.may_announce(next.job_id, runner)
        {
            case.owed = Some(Owed::Announced);
        }
        loop {
            match tend(&case) {
                Step::LookJob => case.owed = Some(self.look_job(github, runner).await?),
                Step::LookChain => {
                    let (owed, end) = self.look_chain(github, runner, next.take(), course).await?;
                    case.owed = Some(owed);
                    next = end;
                }
                Step::LookRegistration => {
                    let registration = match runner.registration {
                        Some(id) => github.runner(&runner.place, id).await?,
                        None => None,
                    };
                    case.surely_spent = registration.is_none();
                    case.life = life(reg(registration.as_ref()), life::Task::Live);
                    if registration.is_some() {
                        // Of when it is there since, nobody knows: the next sweep sees it whole.
                        case.heard = Heard::Swept { past: false };
                    }
                }
                step => return self.carry_out(step, github, runner, next, cause).await,
            }
        }
    }

    fn owner(&self, runner: &Runner, course: &Course) -> Owner {
        match runner.purpose {
            Some(Purpose::Job(..)) => Owner::Job,
            _ if runner.life == Life::Waiting => {
                let full = self.pool.as_ref().map_or(0, |pool| pool.size);
                Owner::Pool { surplus: course.is_surplus(full) }
            }
            _ => Owner::Pool { surplus: false },
        }
    }

    async fn look_job(&self, github: &G, runner: &Runner) -> Result<Owed, CallError> {
        let Some(Purpose::Job(job, _)) = runner.purpose else { return Ok(Owed::ToNobody) };
        Ok(match self.debt(github, &runner.place, job).await? {
            Debt::ToNobody(_) => Owed::ToNobody,
            _ => Owed::ToAJob,
        })
    }

    /// An idle runner is wanted as the last hope of its job, or as part of the warm pool; or somebody else at the
    /// end of the chain needs another.
    async fn look_chain(
        &self,
        github: &G,
        runner: &Runner,
        own: Option<Replacement>,
        course: &Course,
    ) -> Result<(Owed, Option<Replacement>), CallError> {
        let Some(own) = own else { return Ok((Owed::ToNobody, None)) };
        let job = own.job_id;
        let next = match course.taken.waits_for(github, own).await? {
            Waits::Unsettled => return Ok((Owed::Unsettled, None)),
            Waits::Job(next) | Waits::Perhaps(next)
                if next.job_id != job && self.has_runner(github, &next).await? =>
            {
                return Ok((Owed::Served, None));
            }
            Waits::Job(next) if next.job_id == job && self.may_still_come(&next, runner.task.as_ref()) => {
                return Ok((Owed::MayStillCome, None));
            }
            Waits::Job(next) => Some(next),
            // When in doubt, start; but not for ever.
            Waits::Perhaps(next) => Some(next).filter(|next| next.attempt.0 <= self.max_attempts),
            Waits::Nobody => None,
        };
        let joins = |pool: &Pool<S>| pool.has_labels(&runner.labels) && course.takes_one(pool.size);
        Ok(match next {
            // The next sweep sees whether that brought it a runner.
            Some(next) if !course.may_announce(next.job_id, runner) => (Owed::Announced, None),
            Some(next) => (Owed::ToAJob, Some(next)),
            // Left over from a job that another runner took: with the pool's labels it is as good as a new one.
            None if self.pool.as_ref().is_some_and(joins) => (Owed::ToThePool, None),
            None => (Owed::ToNobody, None),
        })
    }

    /// An idle runner is no runner that died: the job may have been taken from it, or may never be given to it. So a
    /// job that waits is never given up, but beyond MAX_ATTEMPTS each runner is left twice as much time as the one
    /// before.
    fn may_still_come(&self, next: &Replacement, task: Option<&Task>) -> bool {
        let beyond = next.attempt.0.saturating_sub(self.max_attempts).min(MOST_DOUBLINGS);
        let patience = self.idle_timeout * 2_i32.pow(beyond);
        let started_at = task.and_then(|task| task.started_at);
        started_at.is_some_and(|started_at| self.clock.now() - started_at < patience)
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

    async fn carry_out(
        &self,
        step: Step,
        github: &G,
        runner: &Runner,
        next: Option<Replacement>,
        cause: Cause<'_>,
    ) -> Result<Done, CallError> {
        let name = runner.purpose.as_ref().map(Purpose::runner_name).unwrap_or_default();
        let settled = |detail: &str| Done::new("Settled", detail);
        Ok(match step {
            Step::Leave | Step::LookJob | Step::LookChain | Step::LookRegistration => {
                Done::nothing("nothing is to be done about this runner")
            }
            Step::Join => Done::nothing("the warm pool has one more"),
            Step::Spend => {
                let spent = self.spend(github, runner).await? == Deleted::Spent;
                let what = if spent { "Retired" } else { "Settled" };
                Done::new(what, "its registration had no task and was not needed")
            }
            Step::HandBack => {
                self.hand_back(runner).await?;
                settled("its registration had no task: handed back to dispatch")
            }
            Step::Stop => {
                self.stop(runner, "its registration is spent").await?;
                settled("its registration is spent")
            }
            Step::Retire => match self.retire(github, runner, cause).await? {
                Deleted::Spent if runner.life == Life::Waiting => Done::new("Retired", cause.why),
                Deleted::Spent => settled(cause.why),
                Deleted::Gone | Deleted::Busy => Done::nothing("it was spent, or has found other work"),
            },
            Step::Replace => {
                let Some(next) = next else { return Ok(settled("it was started for no job")) };
                let mut done = match runner.life {
                    // An idle runner is no runner that died.
                    Life::Waiting => self.announce_anyway(next, cause.why).await?,
                    _ => self.announce(next, cause).await?,
                };
                let deleted = self.retire(github, runner, cause).await?;
                if runner.life == Life::Waiting && deleted == Deleted::Spent {
                    done.counts.push(("Retired", 1));
                }
                done
            }
            Step::Announce => {
                let Some(next) = next else { return Ok(settled("it was started for no job")) };
                self.announce_anyway(next, "it ran some other job").await?
            }
            Step::Report => self.lost(&name, None, cause).await?,
            Step::ReportAndAnnounce => self.lost(&name, next, cause).await?,
        })
    }

    /// A job is lost with its task: GitHub will notice that the runner is gone, and fail the job. It is not
    /// necessarily the one that the runner was started for, which may be owed another.
    async fn lost(&self, name: &str, next: Option<Replacement>, cause: Cause<'_>) -> Result<Done, CallError> {
        tracing::error!(name, why = cause.why, "a job is lost with its task");
        if let Some(next) = next {
            self.announce_anyway(next, "it ran some other job").await?;
        }
        Ok(Done::new("Lost", format!("{name} was running a job: {}", cause.why)))
    }

    async fn spend(&self, github: &G, runner: &Runner) -> Result<Deleted, CallError> {
        match runner.registration {
            Some(id) => github.delete_runner(&runner.place, id).await,
            None => Ok(Deleted::Gone),
        }
    }

    /// DELETE, and StopTask only if that spent the registration; or if it was spent before, and its runner never came.
    async fn retire(&self, github: &G, runner: &Runner, cause: Cause<'_>) -> Result<Deleted, CallError> {
        let deleted = self.spend(github, runner).await?;
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
            Some(task) if task.live => self.ecs.stop(&task.arn, why).await,
            _ => Ok(()),
        }
    }

    /// A registration without a task goes back to the queue as the very attempt that it is. `dispatch` meets its
    /// name, and decides as after any crash: the task is there after all, or the registration is spent and another
    /// one minted.
    async fn hand_back(&self, runner: &Runner) -> Result<(), CallError> {
        let Some(Purpose::Job(job_id, attempt)) = runner.purpose else { return Ok(()) };
        let Target { owner, repository, installation } = runner.place.clone();
        let replacement = Replacement {
            job_id,
            attempt,
            labels: runner.labels.clone(),
            owner,
            repository,
            run_id: None,
            installation_id: installation,
            registered: true,
        };
        self.queue.announce(&replacement.to_body(), timing::HAND_BACK).await
    }
}

/// The next attempt for its job.
fn next_of(runner: &Runner) -> Option<Replacement> {
    let Some(Purpose::Job(job, attempt)) = runner.purpose else { return None };
    let no_tags = std::collections::BTreeMap::new();
    let tags = TaskTags(runner.task.as_ref().map_or(&no_tags, |task| &task.tags));
    Some(replacement(job, attempt, runner.labels.clone(), tags))
}
