//! The loop over what [`start`] says of a job: it looks, does, and tells what came of it. In the good case two calls,
//! mint → RunTask; where the container mints, RunTask alone.

use std::time::Duration;

use crate::{
    error::{CallError, Class},
    fargate::{fleet::Capacity, tags::TaskTags},
    flows::{
        budget::Budget,
        chain::Debt,
        dispatch::Dispatcher,
        drought::Asking,
        eyes,
        handed_back::patience,
        hands::{discard, run_task, spend_by_name},
        hearsay::{Hearsay, is_served},
        last::replacement_of,
        plan::Plan,
    },
    ids::{Attempt, Purpose, RunnerId, started_by},
    intake::{
        payload::{Job, Replacement},
        skip::SkipReason,
    },
    lambda::outcome::{Done, Outcome, Reason, Rejection, Wait},
    ports::{
        Clock, Deleted, FindTasks, Github, JitConfig, Minted, Queue, RunTask, StartTasks, Started, Task,
        TaskArn,
    },
    protocol::{
        debt::Owed,
        start::{Case, Deed, End, Launch, Look, Name, Step, start},
        timing,
    },
};

/// What the facts of a case are about.
#[derive(Default)]
struct Seen {
    debt: Option<Debt>,
    registration: Option<JitConfig>,
    holder: Option<RunnerId>,
    former: Vec<TaskArn>,
    /// One of the job's own tasks says that it has a runner, or is over.
    served: bool,
    /// The attempt has had its task, after as many that died as there may be.
    last: bool,
    started: Option<(Started, Capacity)>,
    error: Option<CallError>,
}

impl<G: Github, E: FindTasks + StartTasks, Q: Queue, C: Clock> Dispatcher<G, E, Q, C> {
    /// A runner for the job, unless it is owed none, or has one.
    pub(super) async fn start(
        &self,
        mut case: Case,
        job: &Job,
        mut plan: Plan,
        budget: &Budget,
    ) -> Result<Outcome, CallError> {
        let _turn = match self.turn(&job.target.owner, budget).await {
            Ok(turn) => turn,
            Err(later) => return Ok(later),
        };
        if self.github.is_some() {
            budget.may_mint(&job.target.owner, self.clock.now())?;
        }
        let mut asking = match self.memory.drought.may_ask(&plan, self.clock.now()) {
            Ok(asking) => asking,
            Err(later) => return Ok(later),
        };
        if let Some(later) = self.held_up(case.asked, job, &plan).await? {
            return Ok(later);
        }
        let mut seen = Seen::default();
        loop {
            match start(&case) {
                Step::Look(look) => self.look(look, &mut case, job, &plan, &mut seen).await?,
                Step::Do(Deed::NextAttempt) => {
                    case.advance();
                    plan = plan.with_attempt(case.attempt);
                    seen = Seen::default();
                }
                Step::Do(Deed::GoOn) if !self.queue.can_announce() => {
                    return self.give_up_after(job, &case, &plan).await;
                }
                Step::Do(deed @ (Deed::Forward | Deed::GoOn)) => {
                    self.pass_on(deed, job, &case, &mut seen).await?;
                    case.forward();
                }
                Step::Do(Deed::RunTask) => {
                    let plan = plan.clone().with_failures(case.failures());
                    match self.run_task(&plan, &mut asking, &mut seen).await {
                        Ok(launch) => case.launched(launch),
                        Err(later) => return Ok(later),
                    }
                }
                Step::Do(Deed::Mint) => case.named(self.mint(case.now.name, &plan, &mut seen, budget).await?),
                Step::Do(Deed::HandBack) => {
                    case.named(self.hand_back(job, &plan, case.attempt, seen.holder).await?)
                }
                Step::Do(Deed::Spend) => case.named(self.spend(&plan, seen.holder).await?),
                Step::Do(Deed::Discard) => case.named(self.discard(&plan, &seen).await?),
                Step::End(End::GivenUp) => return self.give_up_after(job, &case, &plan).await,
                Step::End(end) => {
                    if self.is_to_look_again(end, &case, &seen) {
                        self.look_again_at_the_last(&Job { attempt: case.attempt, ..job.clone() }).await?;
                    }
                    return self.end(end, &plan, seen);
                }
            }
        }
    }

    /// Container-minted: whether this message started the job's last runner. It may have been received before, and have ended
    /// before it left another one.
    fn is_to_look_again(&self, end: End, case: &Case, seen: &Seen) -> bool {
        let is_last = match end {
            End::Started => case.failures() + 1 >= case.most,
            End::Duplicate(_) => !case.first && seen.last,
            _ => false,
        };
        self.github.is_none() && is_last
    }

    fn attempt_of(&self, task: &Task) -> Option<Attempt> {
        match TaskTags(&task.tags).purpose(&self.policy.names)? {
            Purpose::Job(_, attempt) => Some(attempt),
            Purpose::Pool { .. } => None,
        }
    }

    /// The attempt, this or a later one, of which a task lives.
    fn crew_of(&self, tasks: &[Task], from: Attempt) -> Option<Attempt> {
        let live = tasks.iter().filter(|task| task.live);
        live.filter_map(|task| self.attempt_of(task)).find(|attempt| *attempt >= from)
    }

    /// Whether one of them is of this attempt, and the last that there may be.
    fn is_last(&self, tasks: &[Task], case: &Case) -> bool {
        let mut its = tasks.iter().filter(|task| self.attempt_of(task) == Some(case.attempt));
        its.any(|task| TaskTags(&task.tags).failures() + 1 >= case.most)
    }

    async fn look(
        &self,
        look: Look,
        case: &mut Case,
        job: &Job,
        plan: &Plan,
        seen: &mut Seen,
    ) -> Result<(), CallError> {
        match look {
            Look::Job => case.now.owed = Some(self.eyes()?.job(job).await?),
            Look::Debt | Look::FarDebt => {
                let far = case.far || look == Look::FarDebt;
                let debt = self.eyes()?.debt(job, far).await?;
                let owed = match debt.owed(job.id) {
                    // Nobody could be told: then a runner is started here.
                    Owed::ToAnother if !self.queue.can_announce() => Owed::Unclear,
                    owed => owed,
                };
                case.owes(owed, far);
                seen.debt = Some(debt);
            }
            Look::Told => {
                let hearsay = Hearsay {
                    ecs: &self.ecs,
                    memory: &self.memory,
                    names: &self.policy.names,
                    now: self.clock.now(),
                };
                let (owed, debt) = hearsay.owed(job, seen.served).await?;
                // Nobody could be told: then a runner is started here.
                let is_untold = owed == Owed::ToAnother && !self.queue.can_announce();
                (case.now.owed, seen.debt) = (Some(if is_untold { Owed::ToTheJob } else { owed }), debt);
            }
            Look::Tasks => {
                let tasks = self.ecs.tasks_started_by(&started_by(job.id)).await?;
                seen.served |= tasks.iter().any(|task| is_served(task, job.id));
                seen.last |= self.is_last(&tasks, case);
                case.crew = Some(self.crew_of(&tasks, case.attempt));
            }
            Look::Crew => case.crew = Some(self.eyes()?.crew(&plan.target, job, case.attempt).await?),
            Look::Stopped => {
                let tasks = self.ecs.ended_tasks(Some(&started_by(job.id))).await?;
                seen.served |= tasks.iter().any(|task| is_served(task, job.id));
                seen.last |= self.is_last(&tasks, case);
                case.ended = Some(eyes::past(&tasks, &self.policy.names, job.id, self.clock.now()));
            }
            Look::Holder => {
                let (life, id) = self.eyes()?.holder(&plan.target, &plan.purpose).await?;
                case.now.name = Name::Taken(Some(life));
                seen.holder = id;
            }
            Look::Former => {
                case.now.launch =
                    Launch::Conflict(Some(self.eyes()?.former(&plan.target, job, &seen.former).await?));
            }
        }
        Ok(())
    }

    /// Announces whoever the runner is owed to: another job, or this one under a later name.
    async fn pass_on(&self, deed: Deed, job: &Job, case: &Case, seen: &mut Seen) -> Result<(), CallError> {
        let next = match (deed, &seen.debt) {
            (Deed::GoOn, _) => {
                seen.debt = None;
                Replacement { failures: Some(case.failures()), ..next_of(job, case) }
            }
            (_, Some(Debt::To(next))) => next.clone(),
            _ => return Ok(()),
        };
        self.queue.announce(&next.to_body(), Duration::ZERO).await
    }

    async fn spend(&self, plan: &Plan, holder: Option<RunnerId>) -> Result<Name, CallError> {
        let github = self.github()?;
        let deleted = match holder {
            Some(id) => github.delete_runner(&plan.target, id).await?,
            None => spend_by_name(github, plan).await?,
        };
        Ok(match deleted {
            Deleted::Spent => Name::Freed,
            Deleted::Gone => Name::Gone,
            Deleted::Busy => Name::Busy,
        })
    }

    /// Without a job queue of our own nobody would look again: it is spent at once.
    async fn hand_back(
        &self,
        job: &Job,
        plan: &Plan,
        attempt: Attempt,
        holder: Option<RunnerId>,
    ) -> Result<Name, CallError> {
        if !self.queue.can_announce() {
            return self.spend(plan, holder).await;
        }
        let own = replacement_of(&Job { attempt, ..job.clone() });
        let back = Replacement { registered: true, runner_id: holder, ..own };
        self.queue.announce(&back.to_body(), patience(&back)).await?;
        Ok(Name::HandedBack)
    }

    async fn discard(&self, plan: &Plan, seen: &Seen) -> Result<Name, CallError> {
        if let Some(registration) = &seen.registration {
            discard(self.github()?, plan, registration).await;
        }
        Ok(Name::GivenBack)
    }

    async fn mint(
        &self,
        name: Name,
        plan: &Plan,
        seen: &mut Seen,
        budget: &Budget,
    ) -> Result<Name, CallError> {
        budget.may_mint(&plan.target.owner, self.clock.now())?;
        Ok(match self.github()?.mint(&plan.target, &plan.runner_name(), &plan.labels, plan.group()).await? {
            Minted::Created(registration) => {
                seen.registration = Some(registration);
                Name::Ours
            }
            Minted::NameTaken if name == Name::Freed => Name::Gone,
            Minted::NameTaken => Name::Taken(None),
        })
    }

    /// `Err`: perhaps a task was started. By then ECS shows it, if so; sooner, its registration would be spent.
    async fn run_task(
        &self,
        plan: &Plan,
        asking: &mut Asking<'_>,
        seen: &mut Seen,
    ) -> Result<Launch, Outcome> {
        match run_task(&self.ecs, &self.fleet.container, plan, seen.registration.as_ref()).await {
            Ok((RunTask::Started(task), capacity)) => {
                asking.answered(None, self.clock.now());
                self.memory.ledger.note(plan, &task.arn, self.clock.now());
                seen.started = Some((task, capacity));
                Ok(Launch::Started)
            }
            Ok((RunTask::Conflict(tasks), _)) => {
                seen.former = tasks;
                Ok(Launch::Conflict(None))
            }
            Err(lost) if lost.class == Class::Unknown => {
                let wait = Wait::For(timing::UNTIL_SHOWN);
                Err(Outcome::deferred(Reason::Unavailable, wait, lost.message))
            }
            Err(error) => {
                asking.answered(Some(&error), self.clock.now());
                seen.error = Some(error);
                Ok(Launch::Failed)
            }
        }
    }

    /// Not by this message: whoever sends the letter to the job queue wants another runner.
    async fn give_up_after(&self, job: &Job, case: &Case, plan: &Plan) -> Result<Outcome, CallError> {
        if let Some(later) = self.outbreak_now(plan.definition()).await? {
            return Ok(later);
        }
        let what = match case.is_given_up() {
            true => "none took a job; see why their tasks stopped",
            false => "ECS has forgotten what became of them; see whether the job still waits",
        };
        let reason = format!(
            "MAX_ATTEMPTS: {} runners were started for this job and {what}, then send this message to the job queue again",
            self.max_attempts
        );
        Ok(Outcome::Rejected(Rejection { reason, letter: Some(next_of(job, case).to_body()) }))
    }

    fn end(&self, end: End, plan: &Plan, seen: Seen) -> Result<Outcome, CallError> {
        Ok(match (end, seen.started, seen.error) {
            (End::NotOwed(why), ..) => Outcome::skipped(SkipReason::NotQueued, why),
            (End::Duplicate(why), ..) => Outcome::skipped(SkipReason::Duplicate, why),
            (End::InFlight, ..) => Outcome::deferred(
                Reason::InFlight,
                Wait::For(timing::IN_FLIGHT),
                "another delivery of this job may be at work",
            ),
            (End::HandedBack, ..) => Outcome::deferred(
                Reason::InFlight,
                Wait::For(timing::HAND_BACK + timing::IN_FLIGHT),
                "its registration has no task: another delivery of this job may be at work, or have crashed",
            ),
            (End::Contradicted, ..) => Outcome::deferred(
                Reason::TooEarly,
                Wait::For(timing::UNTIL_SHOWN),
                "a runner was announced for the job, and GitHub says that it needs none",
            ),
            (End::Unclear, ..) => Outcome::deferred(
                Reason::TooEarly,
                Wait::For(timing::LAG),
                "GitHub does not say yet who needs the runner",
            ),
            (End::Forwarded, ..) => Outcome::skipped(SkipReason::Forwarded, forwarded(seen.debt)),
            (End::Started, Some((started, capacity)), _) => {
                let class = plan.class().map(|class| format!(" of class {}", class.name)).unwrap_or_default();
                Done::started(format!("{}{class} on {capacity}", plan.runner_name()), started).into()
            }
            (End::Error, _, Some(error)) => return Err(error),
            (End::Started | End::Error | End::GivenUp, ..) => {
                return Err(CallError::new(Class::Unknown, "RunTask left neither a task nor an error"));
            }
        })
    }
}

/// The attempt after the one at hand.
fn next_of(job: &Job, case: &Case) -> Replacement {
    Replacement { attempt: case.attempt.next(), ..replacement_of(job) }
}

fn forwarded(debt: Option<Debt>) -> String {
    match debt {
        None => "ECS has forgotten what became of the job's runners: a message of its own goes on from there"
            .into(),
        Some(Debt::To(next)) => format!(
            "the job took another's runner; job {} is left without one, and announced in its place",
            next.job_id
        ),
        _ => "the job took another's runner".into(),
    }
}
