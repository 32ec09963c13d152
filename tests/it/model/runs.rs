//! Runs, their attempts, and GitHub's rules for running their jobs again ("Re-running workflows and jobs", and what its
//! API was seen to answer).

use std::collections::{BTreeMap, BTreeSet};

use time::{Duration, OffsetDateTime};

use super::{
    github::{Github, Job, JobStatus},
    past::Sight,
};

/// A run of several jobs, or of several attempts. Every other job is a run by itself.
#[derive(Debug, Clone)]
pub struct Run {
    pub attempt: u32,
    /// All that there ever was.
    pub jobs: BTreeSet<u64>,
    pub created_at: OffsetDateTime,
    /// Who asked for each attempt, and when.
    pub asked_by: Vec<String>,
    pub began: Vec<OffsetDateTime>,
    /// A person cancelled it.
    pub cancelled: bool,
}

impl Run {
    fn first(jobs: BTreeSet<u64>, by: &str, now: OffsetDateTime) -> Run {
        let (asked_by, began) = (vec![by.to_owned()], vec![now]);
        Run { attempt: 1, jobs, created_at: now, asked_by, began, cancelled: false }
    }
}

/// Why GitHub runs nothing again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRerun {
    NotFound,
    Running,
    TooOld,
    TooOften,
    NotCurrent,
    NothingFailed,
}

impl NoRerun {
    pub fn message(self) -> (u16, &'static str) {
        match self {
            NoRerun::NotFound => (404, "Not Found"),
            NoRerun::Running => (403, "This workflow is already running"),
            NoRerun::TooOld => {
                (403, "Unable to retry this workflow run because it was created over a month ago")
            }
            NoRerun::TooOften => {
                (403, "Unable to retry this workflow run because it has been retried too often")
            }
            NoRerun::NotCurrent => (403, "Only jobs from the current attempt can be re-run."),
            NoRerun::NothingFailed => (403, "The workflow run has no failed jobs that could be retried"),
        }
    }
}

/// A run, as GitHub shows it.
#[derive(Debug, Clone)]
pub struct Shown {
    pub attempt: u32,
    pub over: bool,
    pub conclusion: Option<&'static str>,
    pub created_at: OffsetDateTime,
    /// When the newest attempt's last job ended.
    pub ended_at: Option<OffsetDateTime>,
    pub asked_by: String,
}

/// Whether it is one of those that `rerun-failed-jobs` runs again.
pub fn is_bad(job: &Job) -> bool {
    job.status == JobStatus::Completed
        && !matches!(job.conclusion.as_deref(), Some("success" | "skipped" | "neutral"))
}

impl Github {
    /// The jobs of those names and labels are queued, as one run. The run is called like its first job.
    pub fn queue_run(
        &mut self,
        (owner, repository): (&str, &str),
        names: &[&str],
        labels: &[&str],
        by: &str,
        now: OffsetDateTime,
    ) -> Vec<u64> {
        let jobs: Vec<u64> =
            names.iter().map(|_| self.queue_job(0, owner, repository, labels, now)).collect();
        self.make_run(&jobs, names, by, now);
        jobs
    }

    /// These jobs are one run from now on.
    pub fn make_run(&mut self, jobs: &[u64], names: &[impl AsRef<str>], by: &str, now: OffsetDateTime) {
        for (job, name) in jobs.iter().zip(names) {
            self.in_run(*job, jobs[0], 1, name.as_ref());
        }
        self.runs.insert(jobs[0], Run::first(jobs.iter().copied().collect(), by, now));
    }

    /// The runs of several jobs, or of several attempts.
    pub fn runs_mut(&mut self) -> &mut BTreeMap<u64, Run> {
        &mut self.runs
    }

    /// The run, made up where it is of one job.
    pub fn run(&self, id: u64) -> Option<Run> {
        self.runs.get(&id).cloned().or_else(|| {
            let job = self.job(id).filter(|job| job.run == id)?;
            Some(Run::first(BTreeSet::from([id]), "octocat", job.created_at))
        })
    }

    /// `GET …/actions/runs/{id}`.
    pub fn show_run(&self, id: u64, sight: Sight) -> Option<Shown> {
        let run = self.run(id)?;
        let attempt = run.began.iter().filter(|began| **began <= sight.at).count().max(1);
        let jobs = self.show_jobs_of(id, attempt as u32, sight);
        let over = jobs.iter().all(|job| job.status == JobStatus::Completed);
        let has = |what: &str| jobs.iter().any(|job| job.conclusion.as_deref() == Some(what));
        let conclusion = match () {
            () if run.cancelled => "cancelled",
            () if has("failure") || has("timed_out") => "failure",
            () if has("cancelled") => "cancelled",
            () => "success",
        };
        Some(Shown {
            attempt: attempt as u32,
            over,
            conclusion: over.then_some(conclusion),
            created_at: run.created_at,
            ended_at: jobs.iter().filter_map(|job| job.completed_at).max().filter(|_| over),
            asked_by: run.asked_by[attempt - 1].clone(),
        })
    }

    /// `GET …/actions/runs/{id}/attempts/{n}/jobs`: those that ran in the attempt, and those that ended well before.
    pub fn show_jobs_of(&self, id: u64, attempt: u32, sight: Sight) -> Vec<&Job> {
        let jobs = self.run(id).map(|run| run.jobs).unwrap_or_default();
        let all = jobs.into_iter().filter_map(|job| self.seen_job(job, sight));
        let counts = |job: &&Job| job.run_attempt == attempt || (job.run_attempt < attempt && !is_bad(job));
        all.filter(counts).collect()
    }

    /// The jobs of an attempt: those that ran in it, and those that ended well before.
    pub fn jobs_of(&self, id: u64, attempt: u32) -> Vec<&Job> {
        self.show_jobs_of(id, attempt, Sight::newest())
    }

    /// A person cancels the run: whatever is not over.
    pub fn cancel_run(&mut self, id: u64, now: OffsetDateTime) {
        let jobs = self.run(id).map(|run| run.jobs).unwrap_or_default();
        for job in jobs {
            self.cancel(job, now);
        }
        self.call_cancelled(id);
    }

    /// A person cancels the run; what becomes of its jobs is another matter.
    pub fn call_cancelled(&mut self, id: u64) {
        if let Some(run) = self.run(id) {
            self.runs.insert(id, Run { cancelled: true, ..run });
        }
    }

    /// `rerun-failed-jobs`: the new jobs.
    pub fn rerun_failed(&mut self, id: u64, by: &str, now: OffsetDateTime) -> Result<Vec<u64>, NoRerun> {
        let run = self.may_rerun(id, now)?;
        let bad = self.jobs_of(id, run.attempt);
        let bad: Vec<u64> = bad.into_iter().filter(|job| is_bad(job)).map(|job| job.id).collect();
        if bad.is_empty() {
            return Err(NoRerun::NothingFailed);
        }
        Ok(self.new_attempt(id, run, &bad, by, now))
    }

    /// `rerun` of one job: the others that failed stay as they are, in an attempt that is none any more.
    pub fn rerun_job(&mut self, job: u64, by: &str, now: OffsetDateTime) -> Result<u64, NoRerun> {
        let (id, attempt) = self.job(job).map(|job| (job.run, job.run_attempt)).ok_or(NoRerun::NotFound)?;
        let run = self.may_rerun(id, now)?;
        if attempt != run.attempt {
            return Err(NoRerun::NotCurrent);
        }
        Ok(self.new_attempt(id, run, &[job], by, now)[0])
    }

    fn may_rerun(&self, id: u64, now: OffsetDateTime) -> Result<Run, NoRerun> {
        let run = self.run(id).ok_or(NoRerun::NotFound)?;
        match run {
            _ if !self.show_run(id, Sight::newest()).is_some_and(|run| run.over) => Err(NoRerun::Running),
            _ if now - run.created_at > Duration::days(30) => Err(NoRerun::TooOld),
            _ if run.attempt >= 50 => Err(NoRerun::TooOften),
            run => Ok(run),
        }
    }

    fn new_attempt(
        &mut self,
        id: u64,
        mut run: Run,
        again: &[u64],
        by: &str,
        now: OffsetDateTime,
    ) -> Vec<u64> {
        run.attempt += 1;
        run.asked_by.push(by.to_owned());
        run.began.push(now);
        run.cancelled = false;
        let mut new = Vec::new();
        for job in again {
            let Some(job) = self.job(*job).cloned() else { continue };
            let labels: Vec<&str> = job.labels.written().iter().map(|label| &**label).collect();
            let number = self.number_again.map_or(0, |number| number(job.id, run.attempt));
            let queued = self.queue_job(number, &job.place.owner, &job.place.repository, &labels, now);
            self.in_run(queued, id, run.attempt, &job.name);
            run.jobs.insert(queued);
            new.push(queued);
        }
        self.runs.insert(id, run);
        new
    }
}
