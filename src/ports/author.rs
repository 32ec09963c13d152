//! GitHub's REST API, as far as the author of a job is told something: runs, and running their jobs again.

use std::future::Future;

use time::OffsetDateTime;

use crate::{
    error::CallError,
    ids::{JobId, RunId},
    ports::{JobStatus, Target},
};

/// How a job ended, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Conclusion {
    /// Well, or it had nothing to do: `success`, `skipped`, `neutral`.
    Well,
    /// `cancelled`: by a person, by a concurrency group, by its matrix's fail-fast, or by a runner that had to go.
    Cancelled,
    /// Any other: `failure`, `timed_out`, or one that GitHub has added since.
    Failed,
}

/// A job of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunJob {
    /// Its id. A re-run of the same job has another.
    pub id: JobId,
    /// The run.
    pub run: RunId,
    /// Of which attempt at the run it is.
    pub attempt: u32,
    /// Its name. Any characters.
    pub name: String,
    /// Its status.
    pub status: JobStatus,
    /// How it ended, if it has.
    pub conclusion: Option<Conclusion>,
    /// When it ended, as GitHub was told.
    pub completed_at: Option<OffsetDateTime>,
    /// The name of the runner that it ran on.
    pub runner_name: Option<String>,
    /// Its labels.
    pub labels: Vec<String>,
    /// The commit.
    pub head_sha: Option<String>,
}

/// A run, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its newest attempt.
    pub attempt: u32,
    /// Whether that attempt is over.
    pub over: bool,
    /// Whether it ended as cancelled.
    pub cancelled: bool,
    /// When its first attempt began.
    pub created_at: Option<OffsetDateTime>,
    /// When it changed last.
    pub updated_at: Option<OffsetDateTime>,
    /// Who asked for its newest attempt: a login.
    pub asked_by: Option<String>,
}

impl Run {
    /// Whether one of these asked for that attempt, as far as GitHub shows it yet.
    pub fn may_be_of(&self, logins: &[String], attempt: Option<u32>) -> bool {
        self.asked_by.as_ref().is_some_and(|login| logins.contains(login))
            || attempt.is_some_and(|attempt| self.attempt < attempt)
    }
}

/// The answer to a request that something be run again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rerun {
    /// 201.
    Granted,
    /// 403: the run "is already running".
    Busy,
    /// 403: the App may not ("Actions: read and write").
    Denied,
    /// GitHub will not, and says why.
    Refused(String),
}

/// How a check stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// `in_progress`.
    Waits,
    /// `completed`, `failure`.
    Failed,
    /// `completed`, `neutral`.
    Neutral,
    /// `completed`, `success`.
    Well,
}

/// What a check says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// How it stands.
    pub state: State,
    /// Plain text.
    pub title: String,
    /// Markdown.
    pub summary: String,
    /// Where to read on.
    pub link: Option<String>,
}

/// A check of ours, as GitHub has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its id.
    pub id: u64,
    /// How it stands; `None`: otherwise than we leave any.
    pub state: Option<State>,
    /// Its title.
    pub title: String,
    /// Its summary.
    pub summary: String,
}

/// Whether a check was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It was.
    Well,
    /// The App may not ("Checks: read and write").
    Denied,
}

/// Check runs, and commit statuses where the credentials are a token.
pub trait Checks {
    /// `GET …/commits/{sha}/check-runs?check_name=…`: the newest of that name, if it is one of ours.
    fn find_check(
        &self,
        target: &Target,
        sha: &str,
        name: &str,
    ) -> impl Future<Output = Result<Option<Check>, CallError>>;

    /// `PATCH …/check-runs/{id}`, or `POST …/check-runs` where there is none.
    fn write_check(
        &self,
        target: &Target,
        sha: &str,
        name: &str,
        known: Option<u64>,
        page: &Page,
    ) -> impl Future<Output = Result<Written, CallError>>;

    /// `POST …/statuses/{sha}`.
    fn write_status(
        &self,
        target: &Target,
        sha: &str,
        name: &str,
        page: &Page,
    ) -> impl Future<Output = Result<Written, CallError>>;
}

/// Runs and their jobs.
pub trait Runs {
    /// `GET …/actions/jobs/{id}`; `None` when GitHub does not say.
    fn run_job(&self, target: &Target, job: JobId)
    -> impl Future<Output = Result<Option<RunJob>, CallError>>;

    /// `GET …/actions/runs/{id}`; `None` when GitHub does not say.
    fn run(&self, target: &Target, run: RunId) -> impl Future<Output = Result<Option<Run>, CallError>>;

    /// `GET …/actions/runs/{id}/attempts/{n}/jobs`, all pages; `None` when GitHub does not say, or there are too many.
    fn jobs_of(
        &self,
        target: &Target,
        run: RunId,
        attempt: u32,
    ) -> impl Future<Output = Result<Option<Vec<RunJob>>, CallError>>;

    /// `POST …/actions/runs/{id}/rerun-failed-jobs`: all failed jobs of the newest attempt, and what depends on them.
    fn rerun_failed(&self, target: &Target, run: RunId) -> impl Future<Output = Result<Rerun, CallError>>;

    /// `POST …/actions/jobs/{id}/rerun`: that job of the newest attempt, and what depends on it. The other failed ones
    /// can then be run again no more.
    fn rerun_job(&self, target: &Target, job: JobId) -> impl Future<Output = Result<Rerun, CallError>>;

    /// The logins that requests of ours are made under: `slug[bot]` of each App. None for a token, which is a person's.
    fn own_logins(&self) -> impl Future<Output = Result<Vec<String>, CallError>>;
}
