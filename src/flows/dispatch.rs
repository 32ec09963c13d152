//! From a queued job to a Fargate task.
//!
//! A registration at GitHub is a token that is spent once; it is the only record of a runner that is owed.
//! Every step may be the last one before a crash: the message is then delivered again, and what was done before
//! is found by the registration's name (409), by the task's `startedBy`, or by its `clientToken`. Here a message is
//! judged, and waits for its place; what comes then is `flows/start.rs`.

use crate::{
    error::{CallError, Class},
    fargate::fleet::{Capacity, Fleet, Network},
    flows::{
        basin::{basins, pools_for},
        budget::{Budget, Slot, Turn, until_a_good_one},
        document::Document,
        eyes::Eyes,
        memory::Memory,
        notices,
        plan::{Plan, Stack},
        quota::Share,
    },
    ids::{Purpose, started_by},
    intake::{
        classes::{Choice, Classes, StackPool},
        labels::CapacityLabel,
        payload::{self, Job, Message, Replacement, Subject, WorkflowJob},
        policy::{Policy, Verdict, excluded_by},
        skip::SkipReason,
    },
    lambda::{
        batch::Received,
        outcome::{Handled, Outcome, Reason, Rejection, Wait},
    },
    ports::{Clock, FindTasks, Github, Queue, StartTasks},
    protocol::{
        debt::Owed,
        start::{Asked, Case, Pools},
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
    /// `DISPATCH_MAX_CONCURRENCY`: batches at a time, which divide among them what is free of a share.
    pub max_concurrency: u32,
    /// `MAX_ATTEMPTS`: runners started for one job before it is rejected.
    pub max_attempts: u32,
    /// `CHECK_RUNS`: whether a job's author is told why it has no runner.
    pub check_runs: bool,
    /// What this process remembers.
    pub memory: Memory,
}

impl<G: Github, E: FindTasks + StartTasks, Q: Queue, C: Clock> Dispatcher<G, E, Q, C> {
    /// What the records of one batch share.
    pub async fn budget(&self) -> Budget {
        let classes = self.document.classes(self.clock.now()).await;
        Budget::of(&self.ecs, self.max_runners, self.max_concurrency, classes).await
    }

    /// One message. `received` is `None` when it did not come from SQS.
    pub async fn handle(&self, body: String, received: Option<Received>, budget: &Budget) -> Handled {
        match payload::read(&body) {
            Err(unreadable) => Handled::new(Outcome::rejected(unreadable.to_string())),
            Ok(Message::OtherEvent(what)) => Handled::new(Outcome::skipped(SkipReason::Event, what)),
            Ok(Message::WorkflowJob(event)) => self.queued(*event, received, budget).await,
            Ok(Message::Replacement(own)) => match own.about(self.github.is_none()) {
                Subject::Owed => self.announced(own, received, budget).await,
                Subject::HandedBack => {
                    let job = own.clone().into_job();
                    let outcome = self.handed_back(own, received, budget).await;
                    Handled::new(self.noted(outcome, &job.target.owner, budget)).of(job)
                }
                Subject::Last => {
                    let job = Job { asked_at: received.and_then(|it| it.sent_at), ..own.into_job() };
                    let outcome = self.what_became_of_the_last(&job).await;
                    Handled::new(outcome.unwrap_or_else(Outcome::from)).of(job)
                }
            },
        }
    }

    /// GitHub's event, on its way here in whatever form.
    async fn queued(&self, mut event: WorkflowJob, received: Option<Received>, budget: &Budget) -> Handled {
        event.job.asked_at = received.and_then(|it| it.sent_at).or(event.arrived_at);
        self.memory.note_place_of(event.job.id, &event.job.target);
        let judge = |classes| self.policy.judge(&event, self.clock.now(), classes);
        let outcome = match budget.classes().map(judge).and_then(|verdict| self.for_certain(verdict)) {
            Ok(Verdict::Run(choice)) => {
                let receives = received.map(|it| it.times);
                let asked = self.asked(&event.job, &choice, receives);
                self.serve(choice, asked, &event.job, receives, budget).await
            }
            Ok(Verdict::Skip(skip)) => Outcome::Skipped(skip),
            Ok(Verdict::Reject(reason)) => Outcome::rejected(reason),
            // Whether the job is this fleet's is not certain yet: its author is told nothing.
            Err(later) => return Handled::new(later).of(event.job),
        };
        self.settled(event.job, outcome).await
    }

    /// A runner is owed, as this system has found.
    async fn announced(&self, own: Replacement, received: Option<Received>, budget: &Budget) -> Handled {
        let (let_in, receives) = (own.let_in, received.map(|it| it.times));
        let mut job = Job { asked_at: received.and_then(|it| it.sent_at), ..own.into_job() };
        if let Err(error) = self.find_place(&mut job).await {
            return self.settled(job, error.into()).await;
        }
        let outcome = match self.judge_announced(&mut job, let_in, receives, budget).await {
            Ok(Verdict::Run(choice)) => self.serve(choice, Asked::Announced, &job, receives, budget).await,
            Ok(Verdict::Skip(skip)) => Outcome::Skipped(skip),
            Ok(Verdict::Reject(reason)) => Outcome::rejected(reason),
            Err(later) => return Handled::new(later).of(job),
        };
        self.settled(job, outcome).await
    }

    /// Before an announced job is none of ours for its labels, GitHub is asked for them: they may be those of a tag, which cannot
    /// hold every label.
    async fn judge_announced(
        &self,
        job: &mut Job,
        let_in: bool,
        receives: Option<u32>,
        budget: &Budget,
    ) -> Result<Verdict, Outcome> {
        let verdict = self.judge_own(job, let_in, receives, budget).await?;
        let is_for_labels = matches!(&verdict, Verdict::Skip(skip) if skip.reason == SkipReason::Labels);
        let Some(github) = self.github.as_ref().filter(|_| is_for_labels) else { return Ok(verdict) };
        match github.job(&job.target, job.id).await.map_err(Outcome::from)? {
            Some(state) if !state.labels.is_empty() && state.labels != job.labels => {
                job.labels = state.labels;
                self.judge_own(job, let_in, receives, budget).await
            }
            None if job.target.repository.is_some() && receives == Some(1) => {
                let why = "GitHub does not show the job, and its labels as announced are none of ours";
                Err(Outcome::deferred(Reason::TooEarly, Wait::For(timing::UNTIL_SHOWN), why))
            }
            _ => Ok(verdict),
        }
    }

    /// A message of this system's own may not know the repository: the tasks that were started for the job may.
    async fn find_place(&self, job: &mut Job) -> Result<(), CallError> {
        if job.target.repository.is_none() {
            let known = match self.github {
                Some(_) => self.eyes()?.place(job.id).await?,
                None => self.memory.place_of(job.id),
            };
            job.target = known.unwrap_or_else(|| job.target.clone());
        }
        Ok(())
    }

    /// A message of this system's own may not know the repository. Where it matters, whoever wrote it says that the job was
    /// let in, or there must be something left of that: a registration, or the task that another follows. ECS may not show
    /// it yet, so it is looked for twice; later, ECS may have forgotten it.
    async fn judge_own(
        &self,
        job: &Job,
        let_in: bool,
        receives: Option<u32>,
        budget: &Budget,
    ) -> Result<Verdict, Outcome> {
        if let Some(skip) = self.policy.excludes_target(&job.target) {
            return Ok(Verdict::Skip(skip));
        }
        let verdict = self.for_certain(self.size(job, budget.classes()?))?;
        if job.target.repository.is_none()
            && !let_in
            && receives.is_none_or(|receives| receives <= 2)
            && self.depends_on_repository(&verdict, &job.target.owner)
            && !self.was_let_in(job).await.map_err(Outcome::from)?
        {
            return match receives {
                Some(1) => Err(Outcome::deferred(Reason::TooEarly, Wait::For(timing::LATE_LOOK), "nothing is seen of its runners")),
                _ => Ok(Verdict::Reject(
                    "the message names no repository, and ALLOWED_REPOSITORIES depends on it; nothing is left of a \
                     runner that was started for this job before"
                        .to_owned(),
                )),
            };
        }
        Ok(verdict)
    }

    /// While the document is bad, another function may know a class that the job is for.
    fn for_certain(&self, verdict: Verdict) -> Result<Verdict, Outcome> {
        match (&verdict, self.document.doubt()) {
            (Verdict::Skip(skip), Some(error)) if skip.reason == SkipReason::Labels => {
                Err(until_a_good_one(&error))
            }
            _ => Ok(verdict),
        }
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

    /// What a job's own message asks for.
    fn asked(&self, job: &Job, choice: &Choice, receives: Option<u32>) -> Asked {
        let age = job.created_at.map(|created_at| self.clock.now() - created_at).unwrap_or_default();
        // Near GitHub's rate limit nearly all that come again, or late, were put off before anything was done: one question
        // of each has to do.
        let is_late = receives > Some(1) || age > timing::VERY_OLD;
        let has_several = choice.sizing.capacity.is_none() && self.capacities(choice).len() > 1;
        let old = if has_several { timing::OLD_FOR_SEVERAL } else { timing::OLD };
        if is_late && !self.memory.was_limited_lately(&job.target.owner, self.clock.now()) {
            Asked::Doubtful
        } else if age > old {
            Asked::Old
        } else {
            Asked::Fresh
        }
    }

    async fn serve(
        &self,
        choice: Choice,
        asked: Asked,
        job: &Job,
        receives: Option<u32>,
        budget: &Budget,
    ) -> Outcome {
        let stack = Stack { fleet: &self.fleet, network: &self.network, names: &self.policy.names };
        let plan = |choice| Plan::for_job(job, choice, stack);
        let mut planned = plan(choice.clone());
        let pools = self.pools_for(&planned, budget);
        if pools.go_first(asked, receives) {
            return Outcome::deferred(
                Reason::Pool,
                Wait::For(timing::POOL_FIRST),
                "an idle runner of the warm pool may take the job",
            );
        }
        let places = match self.take_places(&planned, budget).await {
            Ok(places) => places,
            Err(later) => return later,
        };
        match self.is_own_rerun(job, &choice).await {
            // What Spot took once, it does not take again.
            Ok(true) => planned = plan(choice.on_demand()),
            Ok(false) => {}
            Err(error) => {
                places.give_back();
                return error.into();
            }
        }
        let mut case = Case::new(asked, pools.receives(asked, receives), job.attempt, self.max_attempts);
        case.told = job.failures.map(|failures| (job.attempt, failures));
        // A runner that is started in doubt takes the place of one that is not.
        case.patient |= self.memory.was_limited_lately(&job.target.owner, self.clock.now());
        let case = match self.github {
            Some(_) => case,
            None => case.hidden(planned.capacities.len() > 1),
        };
        let outcome = self.noted(self.start(case, job, planned, budget).await, &job.target.owner, budget);
        if !matches!(outcome, Outcome::Done(_)) {
            places.give_back();
        }
        outcome
    }

    /// Near GitHub's rate limit, the message waits for its turn.
    pub(super) async fn turn<'a>(
        &self,
        owner: &str,
        budget: &'a Budget,
    ) -> Result<Option<Turn<'a>>, Outcome> {
        match self.memory.was_limited_lately(owner, self.clock.now()) {
            true => budget.turn(&self.clock).await.map(Some),
            false => Ok(None),
        }
    }

    /// The outcome; if GitHub's rate limit was met, others of that owner are to know.
    fn noted(&self, outcome: Result<Outcome, CallError>, owner: &str, budget: &Budget) -> Outcome {
        outcome.unwrap_or_else(|error| {
            if let Class::RateLimited { after } = error.class {
                let now = self.clock.now();
                budget.no_mints_until(owner, now + after);
                self.memory.note_limit(owner, now);
            }
            error.into()
        })
    }

    /// What can never be done goes to the dead-letter queue, unless GitHub says that the job runs, or is over: then nobody
    /// needs it any more.
    async fn rejected(&self, rejection: Rejection, job: &Job) -> Result<Outcome, CallError> {
        if self.github.is_none() {
            return Ok(Outcome::Rejected(rejection));
        }
        Ok(match self.eyes()?.job(job).await? {
            Owed::ToTheJob | Owed::Unsaid | Owed::HeldBack => Outcome::Rejected(rejection),
            Owed::ToNobody(why) => Outcome::skipped(SkipReason::NotQueued, why),
            Owed::ToAnother | Owed::Unheard | Owed::Unclear | Owed::TooFar => Outcome::skipped(
                SkipReason::NotQueued,
                "the job runs, or ran, on a runner that it could be given",
            ),
        })
    }

    /// What became of the job's message; its author is told where that says something.
    async fn settled(&self, job: Job, outcome: Outcome) -> Handled {
        let outcome = match outcome {
            Outcome::Rejected(rejection) => {
                self.rejected(rejection, &job).await.unwrap_or_else(Outcome::from)
            }
            outcome => outcome,
        };
        let now = self.clock.now();
        let offered = &self.policy.offered;
        let notice = self.check_runs.then(|| notices::of(&job, &outcome, offered, now)).flatten();
        Handled { notice, ..Handled::new(outcome).of(job) }
    }

    /// Before anything is asked of GitHub: a place under the quotas, and one under `MAX_RUNNERS`.
    async fn take_places<'a>(&self, plan: &Plan, budget: &'a Budget) -> Result<Places<'a>, Outcome> {
        let (ledger, now) = (&self.memory.ledger, self.clock.now());
        let share = budget.census.take(&self.ecs, ledger, plan, self.max_runners_per_repository, now).await?;
        match budget.take_slot() {
            Ok(slot) => Ok(Places { share, slot }),
            Err(later) => {
                share.give_back();
                Err(later)
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

    /// The credentials: no row asks for them where the container mints.
    pub(super) fn github(&self) -> Result<&G, CallError> {
        let why = "GitHub is not to be asked here: GITHUB_SECRET_ARN is not set";
        self.github.as_ref().ok_or_else(|| CallError::new(Class::NeedsOperator, why))
    }

    pub(super) fn eyes(&self) -> Result<Eyes<'_, G, E>, CallError> {
        let (memory, names) = (&self.memory, &self.policy.names);
        let (pools, now) = (self.has_pools(), self.clock.now());
        Ok(Eyes { github: self.github()?, ecs: &self.ecs, memory, names, pools, now })
    }
}

/// A runner's place under the quotas, and the one under `MAX_RUNNERS`; kept, unless they are given back.
struct Places<'a> {
    share: Share<'a>,
    slot: Slot<'a>,
}

impl Places<'_> {
    fn give_back(self) {
        self.slot.give_back();
        self.share.give_back();
    }
}
