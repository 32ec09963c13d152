//! Faults planted in what runs again, as those in [`planted`](super::planted) are in the rest.

use gha_fargate_runners::{
    error::CallError,
    ids::{JobId, RunId},
    ports::{Check, Checks, Page, Rerun, Run, RunJob, Runs, Target, Written},
};

use super::{
    chance::{Key, Point},
    explore::{self, Scenario},
    planted::{FaultyPort, Planted},
    scenarios::{first, job, new},
    shrink::Failing,
};

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WrongRerun {
    /// `run_attempt` is not looked at, nor who asked for it.
    NoFence,
    /// When a job ended is not looked at: a failure before the interruption looks like one by it.
    NoTimes,
    /// The other failed jobs of the attempt are not looked at.
    NoOthers,
    /// An answer that never came is taken for a yes.
    UnknownIsGranted,
    /// Only its own job is run again.
    OnlyItsOwn,
    /// What was asked for by this system is started on Spot as anything else.
    SpotAgain,
    /// Nobody tells that a task was taken back.
    NobodyTells,
}

/// All of them, and what each is called.
pub const ALL: [(WrongRerun, &str); 7] = [
    (WrongRerun::OnlyItsOwn, "one job run again instead of all"),
    (WrongRerun::SpotAgain, "run again on Spot"),
    (WrongRerun::NobodyTells, "the interruption not told"),
    (WrongRerun::NoFence, "GitHub's count of attempts not looked at"),
    (WrongRerun::NoTimes, "when a job ended not looked at"),
    (WrongRerun::NoOthers, "the other failed jobs not looked at"),
    (WrongRerun::UnknownIsGranted, "a lost answer taken for a yes"),
];

impl FaultyPort {
    fn is_wrong(&self, wrong: WrongRerun) -> bool {
        self.is(Planted::Reruns(wrong))
    }

    fn answered(&self, answer: Result<Rerun, CallError>) -> Result<Rerun, CallError> {
        match answer {
            Err(_) if self.is_wrong(WrongRerun::UnknownIsGranted) => Ok(Rerun::Granted),
            answer => answer,
        }
    }

    fn seen(&self, job: RunJob) -> RunJob {
        let now = self.port.world.borrow().time();
        let completed_at =
            job.completed_at.map(|at| if self.is_wrong(WrongRerun::NoTimes) { now } else { at });
        RunJob { completed_at, ..job }
    }
}

impl Runs for FaultyPort {
    async fn run_job(&self, target: &Target, job: JobId) -> Result<Option<RunJob>, CallError> {
        Ok(self.port.run_job(target, job).await?.map(|job| self.seen(job)))
    }

    async fn run(&self, target: &Target, run: RunId) -> Result<Option<Run>, CallError> {
        let seen = self.port.run(target, run).await?;
        Ok(seen.map(|run| match self.is_wrong(WrongRerun::NoFence) {
            true => Run { attempt: 1, asked_by: None, ..run },
            false => run,
        }))
    }

    async fn jobs_of(
        &self,
        target: &Target,
        run: RunId,
        attempt: u32,
    ) -> Result<Option<Vec<RunJob>>, CallError> {
        let jobs = self.port.jobs_of(target, run, attempt).await?;
        let jobs = jobs.filter(|_| !self.is_wrong(WrongRerun::NoOthers)).unwrap_or_default();
        Ok(Some(jobs.into_iter().map(|job| self.seen(job)).collect()))
    }

    async fn rerun_failed(&self, target: &Target, run: RunId) -> Result<Rerun, CallError> {
        if self.is_wrong(WrongRerun::OnlyItsOwn) {
            return self.port.rerun_job(target, JobId(run.0)).await;
        }
        self.answered(self.port.rerun_failed(target, run).await)
    }

    async fn rerun_job(&self, target: &Target, job: JobId) -> Result<Rerun, CallError> {
        self.answered(self.port.rerun_job(target, job).await)
    }

    async fn own_logins(&self) -> Result<Vec<String>, CallError> {
        self.port.own_logins().await
    }
}

/// `CHECK_RUNS` is off in here: what authors read decides nothing, and the stories over HTTP have it.
impl Checks for FaultyPort {
    async fn find_check(&self, _: &Target, _: &str, _: &str) -> Result<Option<Check>, CallError> {
        unreachable!("CHECK_RUNS is off")
    }

    async fn write_check(
        &self,
        _: &Target,
        _: &str,
        _: &str,
        _: Option<u64>,
        _: &Page,
    ) -> Result<Written, CallError> {
        unreachable!("CHECK_RUNS is off")
    }

    async fn write_status(&self, _: &Target, _: &str, _: &str, _: &Page) -> Result<Written, CallError> {
        unreachable!("CHECK_RUNS is off")
    }
}

/// The small plans with an interruption in them. In those of one job, everything that can go wrong is tried by itself;
/// with `deep`, in those of a matrix too.
pub fn scenarios(deep: bool) -> Vec<Scenario> {
    let of_several = usize::from(deep);
    // Job 1's only sibling.
    let sibling = job(1, 0).sibling(1).number;
    let again = super::plan::again(1, 2);
    let matrix = |choice| first(1, Point::Matrix, choice);
    let taken_back = |job, way| first(job, Point::TakenBack, way);
    let fails = |job| first(job, Point::Failure, 1);
    let mut all: Vec<Scenario> = (1..=3)
        .map(|way| new("a job goes with its runner", 1, vec![job(1, 0)], &[taken_back(1, way)]))
        .collect();
    all.extend([
        new("a job fails, and its runner is taken back", 1, vec![job(1, 0)], &[fails(1), taken_back(1, 4)]),
        new("what runs again fails by itself", 1, vec![job(1, 0)], &[taken_back(1, 1), fails(again)]),
        new(
            "one of two jobs goes with its runner",
            of_several,
            vec![job(1, 0)],
            &[matrix(2), taken_back(1, 1)],
        ),
        new("and fail-fast cancels the other", of_several, vec![job(1, 0)], &[matrix(1), taken_back(1, 1)]),
        new(
            "both go with their runners",
            of_several,
            vec![job(1, 0)],
            &[matrix(2), taken_back(1, 1), taken_back(sibling, 2)],
        ),
        new(
            "one goes with its runner, the other fails by itself",
            of_several,
            vec![job(1, 0)],
            &[matrix(2), taken_back(1, 1), fails(sibling)],
        ),
        new(
            "a person is faster",
            1,
            vec![job(1, 0)],
            &[taken_back(1, 2), first(1, Point::Person, 1), (Key { job: 1, point: Point::Tell, nth: 0 }, 1)],
        ),
    ]);
    for scenario in &mut all {
        scenario.settings.author = true;
        let rates = &mut scenario.settings.rates;
        // In a script, what never comes is no choice.
        (rates.spot, rates.user_failure, rates.matrix) = (8, 1, 2);
    }
    all
}

/// The shortest history in which the fault shows.
pub fn catch(wrong: WrongRerun) -> Option<Failing> {
    // Most show by themselves.
    [0, 1].into_iter().find_map(|depth| {
        scenarios(false).into_iter().find_map(|mut scenario| {
            scenario.settings.planted = Planted::Reruns(wrong);
            scenario.depth = depth;
            explore::shortest(&scenario).1
        })
    })
}
