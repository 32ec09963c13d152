//! From a queued job to a Fargate task.
//!
//! A registration at GitHub is a token that is spent once; it is the only record of a runner that is owed.
//! Every step may be the last one before a crash: the message is then delivered again, and what was done before
//! is found by the registration's name (409), by the task's `startedBy`, or by its `clientToken`. What comes next
//! is [`start`]'s to say; this flow looks and does.

use std::time::Duration;

use crate::{
    error::{CallError, Class},
    fargate::{
        fleet::{Capacity, Fleet, Network},
        tags::TaskTags,
    },
    flows::{
        basin::{basins, pools_for},
        budget::{Budget, Slot, until_a_good_one},
        chain::Debt,
        document::Document,
        eyes::{self, Eyes},
        hands::{discard, run_task, spend_by_name},
        hearsay::{Hearsay, is_served},
        memory::Memory,
        notices,
        plan::Plan,
        quota::Share,
    },
    ids::{Attempt, Purpose, RunnerId, started_by},
    intake::{
        classes::{Choice, Classes, StackPool},
        labels::CapacityLabel,
        payload::{self, Job, Message},
        policy::{Policy, Verdict, excluded_by},
        skip::{Skip, SkipReason},
    },
    lambda::{
        batch::Received,
        outcome::{Deferral, Done, Handled, Outcome, Reason, Wait},
    },
    ports::{
        Clock, Deleted, FindTasks, Github, JitConfig, Minted, Queue, RunTask, StartTasks, Started, Task,
        TaskArn,
    },
    protocol::{
        debt::Owed,
        start::{Asked, Case, Deed, End, Launch, Look, Name, Pools, Step, start},
        timing,
    },
};

/// Starts runners for jobs.
#[derive(Debug)]
pub struct Dispatcher<G, E, Q, C> {
    /// GitHub, when this function mints the configurations; `None` when the containers do.
    pub github: Option<G>,
    /// ECS.
    pub ecs: E,
    /// The job queue.
    pub queue: Q,
    /// The clock.
    pub clock: C,
    /// Which jobs are served.
    pub policy: Policy,
    /// What tasks are made of.
    pub fleet: Fleet,
    /// Their network.
    pub network: Network,
    /// The runner classes, if there is a document.
    pub document: Document,
    /// The stack's own warm pool, where pools are filled.
    pub pool: Option<StackPool>,
    /// `MAX_RUNNERS`; 0 is no limit.
    pub max_runners: u32,
    /// `MAX_RUNNERS_PER_REPOSITORY`; 0 is no limit.
    pub max_runners_per_repository: u32,
    /// `MAX_ATTEMPTS`: runners started for one job before it is rejected.
    pub max_attempts: u32,
    /// `CHECK_RUNS`: whether a job's author is told why it has no runner.
    pub check_runs: bool,
    /// What this process remembers.
    pub memory: Memory,
}

/// What the facts of a case are about.
#[derive(Default)]
struct Seen {
    debt: Option<Debt>,
    registration: Option<JitConfig>,
    holder: Option<RunnerId>,
    former: Vec<TaskArn>,
    /// One of the job's own tasks says that it has a runner, or is over.
    served: bool,
    started: Option<(Started, Capacity)>,
    error: Option<CallError>,
}

impl<G: Github, E: FindTasks + StartTasks, Q: Queue, C: Clock> Dispatcher<G, E, Q, C> {
    /// What the records of one batch share.
    pub async fn budget(&self) -> Budget {
        let classes = self.document.classes(self.clock.now()).await;
        Budget::of(&self.ecs, self.max_runners, classes).await
    }

    /// One message. `received` is `None` when it did not come from SQS.
    pub async fn handle(&self, body: String, received: Option<Received>, budget: &Budget) -> Handled {
        let (receives, asked_at) = (received.map(|it| it.times), received.and_then(|it| it.sent_at));
        match payload::read(&body) {
            Err(unreadable) => {
                Handled { job: None, outcome: Outcome::Rejected(unreadable.to_string()), notice: None }
            }
            Ok(Message::OtherEvent(what)) => Handled {
                job: None,
                outcome: Outcome::Skipped(Skip::new(SkipReason::Event, what)),
                notice: None,
            },
            Ok(Message::WorkflowJob(mut event)) => {
                event.job.asked_at = asked_at;
                self.memory.lives(event.job.id, &event.job.target);
                let outcome = match budget.classes() {
                    Ok(classes) => {
                        let verdict = self.policy.judge(&event, self.clock.now(), classes);
                        let asked = |choice: &Choice| match receives > Some(1) {
                            true => Asked::Doubtful,
                            false => self.by_age(&event.job, choice),
                        };
                        self.serve(verdict, asked, &event.job, receives, budget).await
                    }
                    Err(outcome) => outcome,
                };
                self.settled(event.job, outcome).await
            }
            Ok(Message::Replacement(replacement)) if replacement.last && self.github.is_none() => {
                let job = Job { asked_at, ..replacement.into_job() };
                let outcome = self.what_became_of_the_last(&job).await.unwrap_or_else(Outcome::from);
                Handled { job: Some(job), outcome, notice: None }
            }
            Ok(Message::Replacement(replacement)) => {
                let asked = if replacement.registered { Asked::HandedBack } else { Asked::Announced };
                let job = Job { asked_at, ..replacement.into_job() };
                let outcome = match self.judge_own(&job, asked, receives, budget).await {
                    Ok(verdict) => self.serve(verdict, |_| asked, &job, receives, budget).await,
                    Err(outcome) => outcome,
                };
                self.settled(job, outcome).await
            }
        }
    }

    /// A message of this system's own may not know the repository. Where it matters, there must be something left of
    /// when the job was let in: the registration that is handed back, or the task that another follows. ECS may not
    /// show it yet, so it is looked for twice; later, ECS may have forgotten it.
    async fn judge_own(
        &self,
        job: &Job,
        asked: Asked,
        receives: Option<u32>,
        budget: &Budget,
    ) -> Result<Verdict, Outcome> {
        if let Some(skip) = self.policy.excludes_target(&job.target) {
            return Ok(Verdict::Skip(skip));
        }
        let verdict = self.size(job, budget.classes()?);
        if job.target.repository.is_none()
            && receives.is_none_or(|receives| receives <= 2)
            && self.depends_on_repository(&verdict, &job.target.owner)
            && !self.was_let_in(job).await.map_err(Outcome::from)?
        {
            return match (asked, receives) {
                // By its second receive, this message itself may have spent the registration.
                (Asked::HandedBack, Some(2)) => Ok(verdict),
                (Asked::HandedBack, _) => {
                    let why = "what was handed back was seen to meanwhile";
                    Ok(Verdict::Skip(Skip::new(SkipReason::Duplicate, why)))
                }
                (_, Some(1)) => Err(later(Reason::TooEarly, timing::LATE_LOOK, "nothing is seen of its runners")),
                _ => Ok(Verdict::Reject(
                    "the message names no repository, and ALLOWED_REPOSITORIES depends on it; nothing is left of a \
                     runner that was started for this job before"
                        .to_owned(),
                )),
            };
        }
        Ok(verdict)
    }

    fn size(&self, job: &Job, classes: Option<&Classes>) -> Verdict {
        match self.policy.size(&job.labels, classes) {
            Verdict::Run(choice) => {
                match choice.class.as_ref().and_then(|class| excluded_by(class, &job.target)) {
                    Some(skip) => Verdict::Skip(skip),
                    None => Verdict::Run(choice),
                }
            }
            verdict => verdict,
        }
    }

    fn depends_on_repository(&self, verdict: &Verdict, owner: &str) -> bool {
        let class = match verdict {
            Verdict::Run(choice) => choice.class.as_deref(),
            _ => None,
        };
        self.policy.depends_on_repository(owner)
            || class.is_some_and(|class| class.depends_on_repository(owner))
    }

    /// Whether something is left of a runner that was started for the job.
    async fn was_let_in(&self, job: &Job) -> Result<bool, CallError> {
        let name = self.policy.names.of(&Purpose::Job(job.id, job.attempt));
        if let Some(github) = &self.github
            && github.find_runner(&job.target, &name).await?.is_some()
        {
            return Ok(true);
        }
        let started_by = started_by(job.id);
        Ok(!self.ecs.tasks_started_by(&started_by).await?.is_empty()
            || !self.ecs.ended_tasks(Some(&started_by)).await?.is_empty())
    }

    fn by_age(&self, job: &Job, choice: &Choice) -> Asked {
        let has_several = choice.sizing.capacity.is_none() && self.capacities(choice).len() > 1;
        let old = if has_several { timing::OLD_FOR_SEVERAL } else { timing::OLD };
        match job.created_at.map(|created_at| self.clock.now() - created_at) {
            Some(age) if age > timing::VERY_OLD => Asked::Doubtful,
            Some(age) if age > old => Asked::Old,
            _ => Asked::Fresh,
        }
    }

    async fn serve(
        &self,
        verdict: Verdict,
        asked: impl FnOnce(&Choice) -> Asked,
        job: &Job,
        receives: Option<u32>,
        budget: &Budget,
    ) -> Outcome {
        let choice = match verdict {
            Verdict::Skip(skip) => {
                return match self.document.doubt().filter(|_| skip.reason == SkipReason::Labels) {
                    Some(error) => until_a_good_one(&error),
                    None => Outcome::Skipped(skip),
                };
            }
            Verdict::Reject(reason) => return Outcome::Rejected(reason),
            Verdict::Run(choice) => choice,
        };
        let asked = asked(&choice);
        let plan = |choice| Plan::for_job(job, choice, &self.fleet, &self.network, &self.policy.names);
        let mut planned = plan(choice.clone());
        let pools = self.pools_for(&planned, budget);
        if pools.go_first(asked, receives) {
            return later(
                Reason::Pool,
                timing::POOL_FIRST,
                "an idle runner of the warm pool may take the job",
            );
        }
        let (share, slot) = match self.take_places(&planned, budget).await {
            Ok(places) => places,
            Err(outcome) => return outcome,
        };
        match self.is_own_rerun(job, &choice).await {
            // What Spot took once, it does not take again.
            Ok(true) => planned = plan(choice.on_demand()),
            Ok(false) => {}
            Err(error) => {
                slot.give_back();
                share.give_back();
                return error.into();
            }
        }
        let case = Case::new(asked, pools.receives(asked, receives), job.attempt, self.max_attempts);
        let case = match self.github {
            Some(_) => case,
            None => case.hidden(planned.capacities.len() > 1),
        };
        let outcome = self.start(case, job, planned, budget).await.unwrap_or_else(Outcome::from);
        if !matches!(outcome, Outcome::Done(_)) {
            slot.give_back();
            share.give_back();
        }
        outcome
    }

    /// What can never be done goes to the dead-letter queue, unless GitHub says that the job runs, or is over: then nobody
    /// needs it any more.
    async fn rejected(&self, reason: String, job: &Job) -> Result<Outcome, CallError> {
        if self.github.is_none() {
            return Ok(Outcome::Rejected(reason));
        }
        Ok(match self.eyes()?.job(&job.target, job.id).await? {
            Owed::ToTheJob | Owed::Unsaid | Owed::HeldBack => Outcome::Rejected(reason),
            Owed::ToNobody(why) => skip(SkipReason::NotQueued, why),
            Owed::ToAnother | Owed::Unclear | Owed::TooFar => {
                skip(SkipReason::NotQueued, "the job runs, or ran, on a runner that it could be given")
            }
        })
    }

    /// What became of the job's message; its author is told where that says something.
    async fn settled(&self, job: Job, outcome: Outcome) -> Handled {
        let outcome = match outcome {
            Outcome::Rejected(reason) => self.rejected(reason, &job).await.unwrap_or_else(Outcome::from),
            outcome => outcome,
        };
        let now = self.clock.now();
        let offered = &self.policy.offered;
        let notice = self.check_runs.then(|| notices::of(&job, &outcome, offered, now)).flatten();
        Handled { job: Some(job), outcome, notice }
    }

    /// Before anything is asked of GitHub: a place under the quotas, and one under `MAX_RUNNERS`.
    async fn take_places<'a>(
        &self,
        plan: &Plan,
        budget: &'a Budget,
    ) -> Result<(Share<'a>, Slot<'a>), Outcome> {
        let (ledger, now) = (&self.memory.ledger, self.clock.now());
        let share = budget.census.take(&self.ecs, ledger, plan, self.max_runners_per_repository, now).await?;
        match budget.take_slot() {
            Ok(slot) => Ok((share, slot)),
            Err(outcome) => {
                share.give_back();
                Err(outcome)
            }
        }
    }

    fn has_pools(&self) -> bool {
        let has_some =
            |own: &StackPool| own.size > 0 || self.document.newest().is_some_and(|it| it.has_pools());
        self.pool.as_ref().is_some_and(has_some)
    }

    fn pools_for(&self, plan: &Plan, budget: &Budget) -> Pools {
        let (Some(own), Ok(classes)) = (&self.pool, budget.classes()) else { return Pools::None };
        pools_for(plan, &basins(own.size, &own.labels, classes, self.clock.now()))
    }

    /// In order of preference, where the job says nothing.
    fn capacities<'a>(&'a self, choice: &'a Choice) -> &'a [Capacity] {
        match &choice.class {
            Some(class) if !class.capacity.is_empty() => &class.capacity,
            _ => &self.fleet.capacities,
        }
    }

    /// Whether the job is run again because this system asked for it. Nobody is asked where no job could be: without an
    /// author, without Spot, at a run's first attempt.
    async fn is_own_rerun(&self, job: &Job, choice: &Choice) -> Result<bool, CallError> {
        let may_be_spot = match choice.sizing.capacity {
            None => self.capacities(choice).contains(&Capacity::FargateSpot),
            Some(capacity) => capacity == CapacityLabel::Spot,
        };
        match (&self.github, job.run_id) {
            (Some(github), Some(run))
                if may_be_spot && job.run_attempt != Some(1) && self.queue.can_tell() =>
            {
                github.is_own_rerun(&job.target, run, job.run_attempt).await
            }
            _ => Ok(false),
        }
    }

    /// In the good case two calls, mint → RunTask; where the container mints, RunTask alone.
    async fn start(
        &self,
        mut case: Case,
        job: &Job,
        mut plan: Plan,
        budget: &Budget,
    ) -> Result<Outcome, CallError> {
        if self.github.is_some() {
            budget.may_mint(self.clock.now())?;
        }
        if let Err(later) = self.memory.drought.may_ask(&plan, self.clock.now()) {
            return Ok(Outcome::Deferred(later));
        }
        if let Some(later) = self.held_up(case.asked, &plan).await? {
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
                Step::Do(Deed::RunTask) => {
                    let plan = plan.clone().with_failures(case.failures());
                    case.now.launch = self.run_task(&plan, &mut seen).await?;
                    case.now.owed = None;
                }
                Step::Do(deed) => {
                    self.act(deed, &mut case, &plan, &mut seen, budget).await?;
                    case.now.owed = None;
                }
                Step::End(End::Started) if self.github.is_none() && case.failures() + 1 >= case.most => {
                    self.look_again_at_the_last(&Job { attempt: case.attempt, ..job.clone() }).await?;
                    return self.end(End::Started, &plan, seen);
                }
                Step::End(end) => return self.end(end, &plan, seen),
            }
        }
    }

    /// The credentials: no row asks for them where the container mints.
    fn github(&self) -> Result<&G, CallError> {
        let why = "GitHub is not to be asked here: GITHUB_SECRET_ARN is not set";
        self.github.as_ref().ok_or_else(|| CallError::new(Class::NeedsOperator, why))
    }

    fn eyes(&self) -> Result<Eyes<'_, G, E>, CallError> {
        let (memory, names) = (&self.memory, &self.policy.names);
        let (pools, now) = (self.has_pools(), self.clock.now());
        Ok(Eyes { github: self.github()?, ecs: &self.ecs, memory, names, pools, now })
    }

    /// The attempt, this or a later one, of which a task lives.
    fn crew_of(&self, tasks: &[Task], from: Attempt) -> Option<Attempt> {
        let its = tasks.iter().filter(|task| task.live);
        let mut purposes = its.filter_map(|task| TaskTags(&task.tags).purpose(&self.policy.names));
        purposes.find_map(|it| match it {
            Purpose::Job(_, attempt) if attempt >= from => Some(attempt),
            _ => None,
        })
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
            Look::Job => case.now.owed = Some(self.eyes()?.job(&job.target, job.id).await?),
            Look::Debt | Look::FarDebt => {
                case.far |= look == Look::FarDebt;
                let debt = self.eyes()?.debt(job, case.far).await?;
                case.now.owed = Some(match debt.owed(job.id) {
                    // Nobody could be told: then a runner is started here.
                    Owed::ToAnother if !self.queue.can_announce() => Owed::Unclear,
                    owed => owed,
                });
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
                case.crew = Some(self.crew_of(&tasks, case.attempt));
            }
            Look::Crew => case.crew = Some(self.eyes()?.crew(&plan.target, job.id, case.attempt).await?),
            Look::Stopped => {
                let tasks = self.ecs.ended_tasks(Some(&started_by(job.id))).await?;
                seen.served |= tasks.iter().any(|task| is_served(task, job.id));
                case.ended = Some(eyes::past(&tasks, &self.policy.names, job.id));
            }
            Look::Holder => {
                let (life, id) = self.eyes()?.holder(&plan.target, &plan.purpose).await?;
                case.now.name = Name::Taken(Some(life));
                seen.holder = id;
            }
            Look::Former => {
                case.now.launch =
                    Launch::Conflict(Some(self.eyes()?.former(&plan.target, job.id, &seen.former).await?));
            }
        }
        Ok(())
    }

    async fn act(
        &self,
        deed: Deed,
        case: &mut Case,
        plan: &Plan,
        seen: &mut Seen,
        budget: &Budget,
    ) -> Result<(), CallError> {
        if deed == Deed::Forward {
            if let Some(Debt::To(next)) = &seen.debt {
                self.queue.announce(&next.to_body(), Duration::ZERO).await?;
            }
            case.forwarded = true;
            return Ok(());
        }
        let github = self.github()?;
        match deed {
            Deed::Mint => case.now.name = self.mint(github, case.now.name, plan, seen, budget).await?,
            Deed::Spend => {
                let id = seen.registration.as_ref().map(|registration| registration.id).or(seen.holder);
                let deleted = match id {
                    Some(id) => github.delete_runner(&plan.target, id).await?,
                    None => spend_by_name(github, plan).await?,
                };
                case.now.name = match (case.now.name, deleted) {
                    (Name::Ours, _) => Name::GivenBack,
                    (_, Deleted::Spent) => Name::Freed,
                    (_, Deleted::Gone) => Name::Gone,
                    (_, Deleted::Busy) => Name::Busy,
                };
            }
            Deed::Discard => {
                if let Some(registration) = &seen.registration {
                    discard(github, plan, registration).await;
                }
                case.now.name = Name::GivenBack;
            }
            // Those ask GitHub nothing.
            Deed::Forward | Deed::RunTask | Deed::NextAttempt => {}
        }
        Ok(())
    }

    async fn mint(
        &self,
        github: &G,
        name: Name,
        plan: &Plan,
        seen: &mut Seen,
        budget: &Budget,
    ) -> Result<Name, CallError> {
        budget.may_mint(self.clock.now())?;
        match github.mint(&plan.target, &plan.runner_name(), &plan.labels, plan.group()).await {
            Ok(Minted::Created(registration)) => {
                seen.registration = Some(registration);
                Ok(Name::Ours)
            }
            Ok(Minted::NameTaken) if name == Name::Freed => Ok(Name::Gone),
            Ok(Minted::NameTaken) => Ok(Name::Taken(None)),
            Err(error) => {
                if let Class::RateLimited { after } = error.class {
                    budget.no_mints_until(self.clock.now() + after);
                }
                Err(error)
            }
        }
    }

    async fn run_task(&self, plan: &Plan, seen: &mut Seen) -> Result<Launch, CallError> {
        let answer = run_task(&self.ecs, &self.fleet.container, plan, seen.registration.as_ref()).await;
        let dry = matches!(&answer, Err(error) if error.class == Class::NoCapacity);
        self.memory.drought.note(plan, dry, self.clock.now());
        match answer {
            Ok((RunTask::Started(task), capacity)) => {
                self.memory.ledger.note(plan, &task.arn, self.clock.now());
                seen.started = Some((task, capacity));
                Ok(Launch::Started)
            }
            Ok((RunTask::Conflict(tasks), _)) => {
                seen.former = tasks;
                Ok(Launch::Conflict(None))
            }
            // Perhaps the task was started. The next delivery finds out, by the registration's name.
            Err(error) if error.class == Class::Unknown => Err(error),
            Err(error) => {
                seen.error = Some(error);
                Ok(Launch::Failed)
            }
        }
    }

    fn end(&self, end: End, plan: &Plan, seen: Seen) -> Result<Outcome, CallError> {
        Ok(match (end, seen.started, seen.error) {
            (End::NotOwed(why), ..) => skip(SkipReason::NotQueued, why),
            (End::Duplicate(why), ..) => skip(SkipReason::Duplicate, why),
            (End::InFlight, ..) => {
                later(Reason::InFlight, timing::IN_FLIGHT, "another delivery of this job may be at work")
            }
            (End::Lag, ..) => later(
                Reason::TooEarly,
                timing::UNTIL_SHOWN,
                "ECS may not show yet what was started for the job",
            ),
            (End::Contradicted, ..) => later(
                Reason::TooEarly,
                timing::UNTIL_SHOWN,
                "a runner was announced for the job, and GitHub says that it needs none",
            ),
            (End::Unclear, ..) => {
                later(Reason::TooEarly, timing::LAG, "GitHub does not say yet who needs the runner")
            }
            (End::Forwarded, ..) => skip(SkipReason::Forwarded, &forwarded(seen.debt)),
            (End::GivenUp, ..) => exhausted(self.max_attempts),
            (End::Started, Some((started, capacity)), _) => {
                let class = plan.class().map(|class| format!(" of class {}", class.name)).unwrap_or_default();
                Done::started(format!("{}{class} on {capacity}", plan.runner_name()), started).into()
            }
            (End::Error, _, Some(error)) => return Err(error),
            (End::Started | End::Error, ..) => {
                return Err(CallError::new(Class::Unknown, "RunTask left neither a task nor an error"));
            }
        })
    }
}

fn skip(reason: SkipReason, detail: &str) -> Outcome {
    Outcome::Skipped(Skip::new(reason, detail))
}

fn later(reason: Reason, after: Duration, detail: &str) -> Outcome {
    Outcome::Deferred(Deferral { reason, wait: Wait::For(after), detail: detail.into() })
}

fn forwarded(debt: Option<Debt>) -> String {
    match debt {
        Some(Debt::To(next)) => format!(
            "the job took another's runner; job {} is left without one, and announced in its place",
            next.job_id
        ),
        _ => "the job took another's runner".into(),
    }
}

fn exhausted(max_attempts: u32) -> Outcome {
    Outcome::Rejected(format!(
        "MAX_ATTEMPTS: {max_attempts} runners were started for this job and none took a job; see why their \
         tasks stopped, then send this message to the job queue again"
    ))
}
