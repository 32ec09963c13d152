//! Runs of several jobs, jobs whose runner Fargate Spot takes back, and jobs that run again: what GitHub does, what
//! people do, and what must hold.

use std::collections::{BTreeMap, BTreeSet};

use gha_fargate_runners::{
    fargate::tags::RUN_ID,
    ids::{JobId, RunId},
    ports::{Conclusion, JobStatus as Status, Rerun, Run, RunJob},
};

use super::{
    HOUR, MINUTE, Ms, SECOND,
    chance::{Odds, Point, hash},
    check::Kind,
    plan,
    requests::Reply,
    tasks::{Ending, is_spot},
    world::{Ev, World, tell},
};
use crate::model::{
    ecs::Task,
    github::{Job, JobStatus},
    past::Sight,
    runs::{NoRerun, is_bad},
};

/// Who asks when this system does.
pub const OURSELVES: &str = "acme-fargate-runners[bot]";
const PERSON: &str = "octocat";

/// How a runner is taken back.
pub const TAKEN_BACK: [&str; 5] = [
    "",
    "goes with its runner, and GitHub is told",
    "goes with its runner, and GitHub is not told",
    "goes with its runner, and GitHub calls it cancelled",
    "is over in the moment in which its runner is taken back",
];

/// A request about runs.
#[derive(Clone)]
pub enum OfRun {
    /// In that repository.
    Job(String, u64),
    Run(u64),
    /// The jobs of an attempt.
    Jobs(u64, u32),
    RerunFailed(u64),
    RerunJob(u64),
}

impl OfRun {
    pub fn point(&self) -> Point {
        match self {
            OfRun::Job(..) => Point::GetJob,
            OfRun::Run(_) => Point::GetRun,
            OfRun::Jobs(..) => Point::ListRunJobs,
            OfRun::RerunFailed(_) | OfRun::RerunJob(_) => Point::Rerun,
        }
    }

    pub fn subject(&self) -> u64 {
        let (OfRun::Job(_, it)
        | OfRun::Run(it)
        | OfRun::Jobs(it, _)
        | OfRun::RerunFailed(it)
        | OfRun::RerunJob(it)) = self;
        *it
    }
}

/// What is going to happen to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RunEv {
    /// The container of that registration gets its SIGTERM, under that job, in one of the [`TAKEN_BACK`] ways.
    TakenBack(u64, u64, u8),
    /// Its runner tells GitHub how the job ended, and goes.
    Reports(u64, u64, u8),
    /// Fail-fast cancels the first, because the second failed.
    FailFast(u64, u64),
    /// A person has the failed jobs of that attempt run again.
    Again(u64, u32),
}

impl RunEv {
    pub fn fingerprint(self) -> (u64, u64, u64) {
        match self {
            RunEv::TakenBack(job, registration, _) => (25, job, registration),
            RunEv::Reports(job, registration, _) => (26, job, registration),
            RunEv::FailFast(job, cause) => (27, job, cause),
            RunEv::Again(run, attempt) => (28, run, u64::from(attempt)),
        }
    }
}

/// Why a job did not end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    ByItself,
    WithItsRunner,
    /// Fail-fast, because of that one.
    For(u64),
    ByAPerson,
}

/// What the simulator knows of runs besides what GitHub does.
#[derive(Debug, Default)]
pub struct Books {
    ends: BTreeMap<u64, End>,
    /// Runs with fail-fast.
    fail_fast: BTreeSet<u64>,
    /// Attempts in which a person, or fail-fast, cancelled a job while its runner was on its way out: nobody can say
    /// which it was.
    unsure: BTreeSet<(u64, u32)>,
    on_their_way_out: BTreeSet<u64>,
    /// Registrations whose runner is taken back in the moment in which its job is over.
    taken_back_after: BTreeSet<u64>,
    /// Registrations of tasks whose end is heard of by nobody, or when ECS has forgotten them.
    unheard: BTreeSet<u64>,
    asked: u64,
    again: u64,
}

impl Books {
    pub fn is_on_its_way_out(&self, job: u64) -> bool {
        self.on_their_way_out.contains(&job)
    }

    /// How the container ends whose runner has run its job.
    pub fn ending_after_its_job(&mut self, registration: u64) -> Ending {
        match self.taken_back_after.remove(&registration) {
            true => Ending::Interrupted,
            false => Ending::Exited(0),
        }
    }

    pub fn stops_unheard(&mut self, registration: u64) {
        self.unheard.insert(registration);
    }

    /// For the table.
    pub fn counts(&self) -> [(&'static str, u64); 4] {
        let count = |wanted: fn(&End) -> bool| self.ends.values().filter(|end| wanted(end)).count() as u64;
        [
            ("jobs that went with their runner", count(|end| *end == End::WithItsRunner)),
            ("jobs that failed by themselves", count(|end| *end == End::ByItself)),
            ("re-runs asked for by author", self.asked),
            ("  jobs that ran again by that", self.again),
        ]
    }
}

impl World {
    // Jobs come

    /// The job's payload says so of its run.
    pub fn run_of(&self, job: u64) -> String {
        let (run, attempt) = self.github.job(job).map_or((job, 1), |it| (it.run, it.run_attempt));
        // Who is never asked about runs need not be told of attempts.
        match self.settings.author {
            true => format!("{run},\"run_attempt\":{attempt}"),
            false => run.to_string(),
        }
    }

    /// The job may be the first of a matrix: the others.
    pub(super) fn add_siblings(&mut self, first: plan::Job) -> Vec<u64> {
        let rate = self.settings.rates.matrix;
        let choice = self.decide(first.number, Point::Matrix, &[(1, rate / 2), (2, rate - rate / 2)]);
        if choice == 0 {
            return Vec::new();
        }
        let siblings: Vec<plan::Job> =
            (1..=1 + hash(&[first.number]) % 3).map(|nth| first.sibling(nth)).collect();
        let numbers: Vec<u64> = siblings.iter().map(|job| job.number).collect();
        siblings.into_iter().for_each(|job| self.add(job));
        self.stats.jobs += numbers.len() as u64;
        let all: Vec<u64> = std::iter::once(first.number).chain(numbers.iter().copied()).collect();
        let names: Vec<String> = (1..=all.len()).map(|nth| format!("test ({nth})")).collect();
        self.github.make_run(&all, &names, PERSON, self.time());
        if choice == 1 {
            self.runs.fail_fast.insert(first.number);
        }
        numbers
    }

    // Jobs end

    /// What the job comes to, if nothing is in its way.
    pub(super) fn conclusion_by_itself(&mut self, job: u64) -> &'static str {
        match self.decide(job, Point::Failure, &[(1, self.settings.rates.user_failure)]) {
            0 => "success",
            _ => {
                tell!(self, job, "job {job} fails by itself");
                self.runs.ends.insert(job, End::ByItself);
                "failure"
            }
        }
    }

    /// GitHub notices that the runner of the job is gone.
    pub(super) fn complete_unheard(&mut self, job: u64) {
        let run = self.github.job(job).and_then(|it| self.github.run(it.run));
        let is_cancelled = run.is_some_and(|run| run.cancelled);
        self.complete_as(job, if is_cancelled { "cancelled" } else { "failure" });
    }

    pub(super) fn ended_badly(&mut self, job: u64, conclusion: &str) {
        self.runs.on_their_way_out.remove(&job);
        let Some((run, attempt)) = self.github.job(job).map(|it| (it.run, it.run_attempt)) else { return };
        if conclusion == "failure" && self.runs.fail_fast.contains(&run) {
            for other in self.unfinished(run).into_iter().filter(|other| *other != job) {
                let after = self.takes(SECOND, MINUTE, 30, other);
                self.after(after, Ev::Run(RunEv::FailFast(other, job)));
            }
        }
        if self.decide(job, Point::Person, &[(1, self.settings.rates.person)]) == 1 {
            let after = self.takes(MINUTE, HOUR, 31, job);
            self.after(after, Ev::Run(RunEv::Again(run, attempt)));
        }
    }

    /// The jobs of the run that are not over.
    fn unfinished(&self, run: u64) -> Vec<u64> {
        let jobs = self.github.run(run).map(|run| run.jobs).unwrap_or_default();
        let goes_on = |job: &u64| self.github.job(*job).is_some_and(|it| it.status != JobStatus::Completed);
        jobs.into_iter().filter(goes_on).collect()
    }

    /// A person cancels the job's run: all that goes with it.
    pub(super) fn cancelled_with(&mut self, job: u64) -> Vec<u64> {
        let run = self.github.job(job).map_or(job, |it| it.run);
        let jobs = self.unfinished(run);
        if !jobs.is_empty() {
            self.github.call_cancelled(run);
        }
        for job in &jobs {
            self.ends_as(*job, End::ByAPerson);
        }
        jobs
    }

    fn ends_as(&mut self, job: u64, end: End) {
        if self.runs.ends.contains_key(&job)
            && let Some(it) = self.github.job(job)
        {
            self.runs.unsure.insert((it.run, it.run_attempt));
        }
        self.runs.ends.entry(job).or_insert(end);
    }

    // Runners go

    /// The job runs from now on: if its runner is on Spot, it may be taken back meanwhile.
    pub(super) fn may_be_taken_back(&mut self, job: u64, registration: u64, takes: Ms) {
        let task = self.books.task_of(registration).and_then(|task| self.ecs.task(task));
        if !task.is_some_and(is_spot) {
            return;
        }
        let rate = self.settings.rates.spot;
        let odds: [Odds; 4] = [(1, rate / 2), (2, rate / 4), (3, rate / 8), (4, rate / 8)];
        match self.decide(job, Point::TakenBack, &odds) {
            0 => {}
            4 => drop(self.runs.taken_back_after.insert(registration)),
            way => {
                let after = self.takes(takes / 2, takes, 32, job);
                self.after(after, Ev::Run(RunEv::TakenBack(job, registration, way)));
            }
        }
    }

    pub(super) fn run_goes_on(&mut self, event: RunEv) {
        match event {
            RunEv::TakenBack(job, registration, way) => self.taken_back(job, registration, way),
            RunEv::Reports(job, registration, way) => {
                if self.runs_on(job, registration) {
                    self.complete_as(job, if way == 3 { "cancelled" } else { "failure" });
                }
                if let Some(task) = self.books.task_of(registration) {
                    let after = self.takes(SECOND, 3 * SECOND, 33, task);
                    self.after(after, Ev::End(task, Ending::Interrupted));
                }
            }
            RunEv::FailFast(job, cause) => self.fail_fast(job, cause),
            RunEv::Again(run, attempt) => {
                if self.github.run(run).is_none_or(|run| run.attempt != attempt) {
                    return;
                }
                if let Ok(new) = self.github.rerun_failed(run, PERSON, self.time()) {
                    tell!(self, run, "a person has the failed jobs of run {run} run again");
                    self.queue_again(&new);
                }
            }
        }
    }

    fn runs_on(&self, job: u64, registration: u64) -> bool {
        self.github.runner(registration).is_some_and(|runner| runner.job == Some(job) && runner.online)
    }

    fn taken_back(&mut self, job: u64, registration: u64, way: u8) {
        let Some(task) = self.books.task_of(registration).filter(|_| self.runs_on(job, registration)) else {
            return;
        };
        tell!(self, job, "task {task} is taken back while its runner runs job {job}");
        self.ecs.take_back(task, Ending::Interrupted.reason(), self.time());
        self.runs.on_their_way_out.insert(job);
        self.ends_as(job, End::WithItsRunner);
        match way {
            // Nothing is heard of it any more.
            2 => {
                let after = self.takes(30 * SECOND, 2 * MINUTE, 34, task);
                self.after(after, Ev::End(task, Ending::Interrupted));
            }
            // The steps get ten seconds to end; then GitHub is told.
            way => {
                let after = self.takes(1_100, 10 * SECOND, 35, task);
                self.after(after, Ev::Run(RunEv::Reports(job, registration, way)));
            }
        }
    }

    /// The task under the job has ended.
    pub(super) fn goes_with_its_runner(&mut self, job: u64, ending: Ending) {
        if ending == Ending::Interrupted && !self.runs.is_on_its_way_out(job) {
            self.runs.on_their_way_out.insert(job);
            self.ends_as(job, End::WithItsRunner);
        }
    }

    fn fail_fast(&mut self, job: u64, cause: u64) {
        let Some(it) = self.github.job(job).filter(|it| it.status != JobStatus::Completed) else { return };
        let is_gone = self.runs.is_on_its_way_out(job);
        tell!(self, job, "fail-fast cancels job {job}, since job {cause} failed (of run {})", it.run);
        self.ends_as(job, End::For(cause));
        if !is_gone {
            self.cancel_alone(job);
        }
    }

    /// Jobs run again: they are queued like any other.
    fn queue_again(&mut self, jobs: &[u64]) {
        for &number in jobs {
            let Some(first) = self.books.job(number % plan::ATTEMPTS) else { continue };
            let job = first.plan.again(number, self.now);
            self.books.open(job);
            self.open += 1;
            self.stats.jobs += 1;
            self.queue(number);
        }
    }

    // Calls

    pub(super) fn of_run(&mut self, request: OfRun, sight: Sight) -> Reply {
        match request {
            OfRun::Job(repository, job) => {
                let owner = super::text::ORGANIZATION;
                let shown = self.github.show_job(owner, &repository, job, sight);
                Reply::RunJob(shown.filter(|job| job.silence.is_none()).map(as_run_job))
            }
            OfRun::Run(run) => Reply::Run(self.github.show_run(run, sight).map(|run| Run {
                attempt: run.attempt,
                over: run.over,
                cancelled: run.conclusion == Some("cancelled"),
                created_at: Some(run.created_at),
                updated_at: run.ended_at,
                asked_by: Some(run.asked_by),
            })),
            OfRun::Jobs(run, attempt) => {
                let jobs = self.github.show_jobs_of(run, attempt, sight);
                Reply::RunJobs(Some(jobs.into_iter().map(as_run_job).collect()))
            }
            OfRun::RerunFailed(run) => {
                let attempt = self.github.run(run).map_or(1, |run| run.attempt);
                let asked = self.github.rerun_failed(run, OURSELVES, self.time());
                Reply::Rerun(self.reran(run, attempt, asked))
            }
            OfRun::RerunJob(job) => {
                let run = self.github.job(job).map_or(job, |it| it.run);
                let attempt = self.github.run(run).map_or(1, |run| run.attempt);
                let asked = self.github.rerun_job(job, OURSELVES, self.time()).map(|job| vec![job]);
                Reply::Rerun(self.reran(run, attempt, asked))
            }
        }
    }

    fn reran(&mut self, run: u64, attempt: u32, asked: Result<Vec<u64>, NoRerun>) -> Rerun {
        match asked {
            Ok(new) => {
                self.runs.asked += 1;
                self.runs.again += new.len() as u64;
                tell!(self, run, "run {run} goes on with its attempt {}: jobs {new:?}", attempt + 1);
                self.check_rerun(run, attempt, &new);
                self.queue_again(&new);
                Rerun::Granted
            }
            Err(NoRerun::Running) => Rerun::Busy,
            Err(why) => Rerun::Refused(why.message().1.to_owned()),
        }
    }

    // What must hold

    /// Whether the job went with its runner, or because of one that did.
    fn is_due(&self, job: u64) -> bool {
        match self.runs.ends.get(&job) {
            Some(End::WithItsRunner) => true,
            Some(End::For(cause)) => self.is_due(*cause),
            _ => false,
        }
    }

    /// This system had jobs of that attempt run again: only what went with a runner, all of it, and once.
    fn check_rerun(&mut self, run: u64, attempt: u32, new: &[u64]) {
        let asked_by = self.github.run(run).map(|run| run.asked_by).unwrap_or_default();
        if asked_by.get(attempt as usize - 1).is_some_and(|by| by == OURSELVES) {
            let text = format!("run {run} ran again before, and now once more");
            self.violation(Kind::RunAgain, run, text);
        }
        if self.runs.unsure.contains(&(run, attempt)) {
            return;
        }
        for job in self.bad_jobs_of(run, attempt) {
            let runs_again = new.iter().any(|new| new % plan::ATTEMPTS == job % plan::ATTEMPTS);
            let end = self.runs.ends.get(&job).copied();
            match (self.is_due(job), runs_again) {
                (true, true) | (false, false) => {}
                (false, true) => {
                    let text = format!("job {job} runs again, although it ended so: {end:?}");
                    self.violation(Kind::RunAgain, job, text);
                }
                (true, false) => {
                    let text = format!("job {job} is left out, and cannot be run again any more");
                    self.violation(Kind::Forgotten, job, text);
                }
            }
        }
    }

    fn bad_jobs_of(&self, run: u64, attempt: u32) -> Vec<u64> {
        let jobs = self.github.jobs_of(run, attempt);
        jobs.into_iter().filter(|job| is_bad(job)).map(|job| job.id).collect()
    }

    /// What runs again because of an interruption does so on demand. (A runner that is owed at the end of a chain may know
    /// nothing of the run. One that is started in doubt, after the job is over, runs another.)
    pub(super) fn check_capacity(&mut self, task: u64) {
        let job = self.books.task(task).and_then(|task| self.github.job(task.job));
        let Some(job) = job.filter(|job| job.status != JobStatus::Completed) else { return };
        let run = self.github.run(job.run);
        let asked_by = run.and_then(|run| run.asked_by.into_iter().nth(job.run_attempt as usize - 1));
        let knows = |task: &Task| task.tags.contains_key(RUN_ID);
        if asked_by.as_deref() == Some(OURSELVES)
            && self.ecs.task(task).is_some_and(|task| is_spot(task) && knows(task))
        {
            let (job, text) = (job.id, format!("task {task} is started on Spot again"));
            self.violation(Kind::RunAgain, job, text);
        }
    }

    /// The history is over: every job that went with its runner runs again, unless it must not.
    pub(super) fn check_forgotten(&mut self) {
        if !self.settings.author {
            return;
        }
        for job in self.forgotten() {
            self.violation(Kind::Forgotten, job, format!("job {job} went with its runner, and that was all"));
        }
    }

    /// So far.
    pub(super) fn forgotten(&self) -> Vec<u64> {
        let is_interrupted = |(job, end): (&u64, &End)| (*end == End::WithItsRunner).then_some(*job);
        let interrupted = self.runs.ends.iter().filter_map(is_interrupted);
        interrupted.filter(|job| !plan::is_taker(*job) && self.is_forgotten(*job)).collect()
    }

    fn is_forgotten(&self, job: u64) -> bool {
        let Some(it) = self.github.job(job).filter(|it| is_bad(it)) else { return false };
        let Some(run) = self.github.run(it.run) else { return false };
        let attempt = it.run_attempt;
        let is_ours = run.asked_by[attempt as usize - 1] == OURSELVES;
        if run.attempt > attempt || is_ours || run.cancelled || self.runs.unsure.contains(&(it.run, attempt))
        {
            return false;
        }
        // That ECS tells of a task's end is assumed. While GitHub sees the runner at work, the sweep notices all the same.
        let is_unheard = it.runner.as_ref().is_some_and(|(id, _)| self.runs.unheard.contains(id));
        if is_unheard {
            return false;
        }
        let bad = self.bad_jobs_of(it.run, attempt);
        let others = || bad.iter().filter(|other| **other != job);
        // All of it, or this one alone where the others are users' failures.
        others().all(|other| self.is_due(*other))
            || others().all(|other| self.runs.ends.get(other) == Some(&End::ByItself))
    }
}

/// As GitHub writes it: to the second.
fn as_run_job(job: &Job) -> RunJob {
    RunJob {
        id: JobId(job.id),
        run: RunId(job.run),
        attempt: job.run_attempt,
        name: job.name.to_string(),
        status: Status::from(job.said_status().to_owned()),
        conclusion: job.conclusion.as_deref().map(|conclusion| match conclusion {
            "success" => Conclusion::Well,
            "cancelled" => Conclusion::Cancelled,
            _ => Conclusion::Failed,
        }),
        completed_at: job.completed_at.and_then(|at| at.replace_nanosecond(0).ok()),
        runner_name: job.runner.as_ref().map(|(_, name)| name.to_string()),
        labels: job.labels.written().iter().map(ToString::to_string).collect(),
        head_sha: None,
    }
}
