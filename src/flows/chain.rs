//! Who is owed a runner: the one look that dispatch, reconcile and the sweep share.
//!
//! GitHub may have given a job another job's runner, that one's job yet another, and so on: at the end of the chain is
//! the job, if there is one, that has none. The runner that is owed is named after that end, so that all who come
//! upon one debt announce the same runner.

use std::collections::{BTreeMap, BTreeSet};

use time::OffsetDateTime;

use crate::{
    error::CallError,
    fargate::tags::TaskTags,
    flows::memory::Memory,
    ids::{Attempt, JobId, Purpose, RunnerNames, started_by},
    intake::payload::Replacement,
    ports::{FindTasks, Github, JobState, Target, Task},
    protocol::{
        books::target,
        debt::{Link, Owed, link},
        timing,
    },
};

/// Links of one chain that GitHub is asked for at most: two jobs that took each other's runners are found out, and most
/// chains that are longer are much longer. Where the tasks' tags tell, nobody is asked.
const MOST_ASKED: usize = 2;
/// The same in a sweep, which has read all tags: it remembers the answers, and decides of runners that cost money. And where
/// there are warm pools: jobs that were left to one bring no runner of their own, so chains are longer, and each that is
/// given up would start one too many, which makes the next ones longer still. And before a job is given up that has another's
/// runner.
const MOST_ASKED_FAR: usize = 16;

/// What is at the end of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Debt {
    /// A job that is queued: the runner that would be its next.
    To(Replacement),
    /// The job that the chain begins with runs, or ran, on a runner that was started for it.
    OnItsOwn {
        /// Which.
        attempt: Attempt,
        /// Whether the job is over.
        over: bool,
    },
    /// Nobody until the job that the chain begins with is approved.
    HeldBack,
    /// Nobody, for this reason.
    ToNobody(&'static str),
    /// GitHub does not show the job that the chain begins with.
    Unsaid,
    /// GitHub does not show another job of the chain, or will say more later.
    Unclear,
    /// The job got another's runner, and the chain goes on for longer than is worth asking.
    TooLong,
}

impl Debt {
    /// The word for it that dispatch decides by.
    pub(crate) fn owed(&self, job: JobId) -> Owed {
        match self {
            Debt::To(next) if next.job_id == job => Owed::ToTheJob,
            Debt::To(_) => Owed::ToAnother,
            Debt::OnItsOwn { .. } => Owed::ToNobody("the job runs, or ran, on its own runner"),
            Debt::HeldBack => Owed::HeldBack,
            Debt::ToNobody(why) => Owed::ToNobody(why),
            Debt::Unsaid => Owed::Unsaid,
            Debt::TooLong => Owed::TooFar,
            Debt::Unclear => Owed::Unclear,
        }
    }
}

/// What the tags of the tasks of the last hour say.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Whose runner a job was given, by the job.
    runners: BTreeMap<JobId, Purpose>,
    /// Where the jobs live that tasks were started for.
    places: BTreeMap<JobId, Target>,
}

impl Taken {
    pub(crate) fn read<'a>(tasks: impl Iterator<Item = &'a Task>, names: &RunnerNames) -> Self {
        let mut taken = Taken::default();
        for tags in tasks.map(|task| TaskTags(&task.tags)) {
            let Some(purpose) = tags.purpose(names) else { continue };
            if let (Some(owner), Some((_, Some(_)))) = (purpose.job(), tags.repository()) {
                taken.places.insert(owner, target(tags));
            }
            if let Some(job) = tags.ran_job() {
                taken.runners.insert(job, purpose);
            }
        }
        taken
    }
}

/// Follows chains.
#[derive(Debug)]
pub(crate) struct Chain<'a, G, E> {
    pub(crate) github: &'a G,
    pub(crate) ecs: &'a E,
    /// What the tags of all tasks say, where somebody has read them.
    pub(crate) taken: Option<&'a Taken>,
    /// Whether a long chain is worth asking for.
    pub(crate) far: bool,
    /// Since when the job waits that the chain begins with.
    pub(crate) waits_since: Option<OffsetDateTime>,
    /// When a runner was asked for that job, if that is known.
    pub(crate) asked_at: Option<OffsetDateTime>,
    pub(crate) memory: &'a Memory,
    pub(crate) names: &'a RunnerNames,
    pub(crate) now: OffsetDateTime,
}

/// What GitHub says of the job that waits.
pub(crate) fn note(next: &mut Replacement, state: JobState) {
    next.labels = state.labels;
    if let Some((run, attempt)) = state.run {
        (next.run_id, next.run_attempt) = (Some(run), Some(attempt));
    }
}

impl<G: Github, E: FindTasks> Chain<'_, G, E> {
    /// Follows the chain from `next`, the runner that its job would get.
    pub(crate) async fn debt(&self, mut next: Replacement) -> Result<Debt, CallError> {
        let own = next.job_id;
        let most = if self.taken.is_some() || self.far { MOST_ASKED_FAR } else { MOST_ASKED };
        // `end` is what it is if GitHub does not show the next job where it is looked for.
        let (mut seen, mut asked, mut end) = (BTreeSet::new(), 0, None);
        loop {
            let job = next.job_id;
            if !seen.insert(job) {
                return Ok(Debt::ToNobody("the jobs that took each other's runners have all got one"));
            }
            let link = match self.anothers_runner(job) {
                Some(runner) => Link::Got { runner, over: false, since: None },
                None if next.repository.is_none() => Link::Unsaid,
                None if asked == most => return Ok(Debt::TooLong),
                None => {
                    asked += 1;
                    let state = self.github.job(&next.target(), job).await?;
                    let asked_at = self.asked_at.filter(|_| job == own);
                    let link = link(state.as_ref(), self.names, asked_at, self.now);
                    self.remember(&next, &link);
                    if let (Link::Waits, Some(state)) = (&link, state) {
                        note(&mut next, state);
                    }
                    link
                }
            };
            let (owner, attempt, since) = match link {
                Link::Waits => return Ok(Debt::To(next)),
                Link::HeldBack if job == own => return Ok(Debt::HeldBack),
                Link::HeldBack => return Ok(Debt::ToNobody("the job at the chain's end waits for approval")),
                Link::NotOwed(why) => return Ok(Debt::ToNobody(why)),
                Link::Unsaid if job == own => return Ok(Debt::Unsaid),
                Link::Unsaid => return Ok(end.unwrap_or(Debt::Unclear)),
                Link::Unsettled => return Ok(Debt::Unclear),
                Link::Got { runner: Purpose::Job(owner, attempt), over, .. }
                    if owner == job && job == own =>
                {
                    return Ok(Debt::OnItsOwn { attempt, over });
                }
                Link::Got { runner: Purpose::Job(owner, _), .. } if owner == job => {
                    return Ok(Debt::ToNobody("the job at the end of the chain has a runner of its own"));
                }
                // It owes nothing to anybody: the sweep fills it up.
                Link::Got { runner: Purpose::Pool { .. }, .. } => {
                    return Ok(Debt::ToNobody("the job runs, or ran, on a runner of the warm pool"));
                }
                Link::Got { runner: Purpose::Job(owner, attempt), since, .. } => {
                    (owner, attempt.next(), since)
                }
            };
            let place = self.place_of(owner).await?;
            end = if place.is_none() { self.without_a_place(since) } else { None };
            // A sweep has runners that are idle, and decides so often.
            if let (Some(end), Some(_)) = (&end, &self.taken) {
                return Ok(end.clone());
            }
            // Where nobody knows: in the same repository, most likely. If not, GitHub does not show it there.
            next = Replacement::new(owner, attempt, place.unwrap_or_else(|| next.target()));
        }
    }

    /// The chain leads on to a job that nobody finds, by a runner that was taken then: does it end there?
    fn without_a_place(&self, since: Option<OffsetDateTime>) -> Option<Debt> {
        let since = since?;
        // The message was to come, or waited here, while its job took the runner: whose that was, nobody else will settle.
        if self.waits_since.is_some_and(|waits_since| since > waits_since) {
            return Some(Debt::Unclear);
        }
        let why = "the chain leads to a task that ECS has forgotten since";
        (self.now - since > timing::SHOWN).then_some(Debt::ToNobody(why))
    }

    /// Another's runner that the job is known to have got. (Whether a job on its own is over, only GitHub says.)
    fn anothers_runner(&self, job: JobId) -> Option<Purpose> {
        let by_tags = self.taken.and_then(|taken| taken.runners.get(&job)).cloned();
        by_tags.or_else(|| self.memory.runner_of(job)).filter(|runner| runner.job() != Some(job))
    }

    fn remember(&self, asked: &Replacement, link: &Link) {
        if let Link::Got { runner, over: true, .. } = link {
            self.memory.note_runner_of(asked.job_id, runner);
        }
        if *link != Link::Unsaid {
            self.memory.note_place_of(asked.job_id, &asked.target());
        }
    }

    /// Where a job lives that a runner was started for, by the tags of its tasks.
    pub(crate) async fn place_of(&self, job: JobId) -> Result<Option<Target>, CallError> {
        let known = self.taken.and_then(|taken| taken.places.get(&job)).cloned();
        if let Some(place) = known.or_else(|| self.memory.place_of(job)) {
            return Ok(Some(place));
        }
        if self.taken.is_some() {
            return Ok(None);
        }
        let live = self.ecs.tasks_started_by(&started_by(job)).await?;
        let of = |tasks: &[Task]| Taken::read(tasks.iter(), self.names).places.remove(&job);
        Ok(match of(&live) {
            None => of(&self.ecs.ended_tasks(Some(&started_by(job))).await?),
            place => place,
        })
    }
}
