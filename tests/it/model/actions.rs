//! What GitHub Actions is made of: scopes, registrations and jobs.

use std::collections::BTreeSet;

use time::OffsetDateTime;

/// Where a registration lives. Logins and slugs are not case-sensitive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    Organization(String),
    Repository(String, String),
    Enterprise(String),
}

impl Scope {
    pub fn organization(login: &str) -> Scope {
        Scope::Organization(login.to_lowercase())
    }

    pub fn repository(owner: &str, name: &str) -> Scope {
        Scope::Repository(owner.to_lowercase(), name.to_lowercase())
    }

    pub fn enterprise(slug: &str) -> Scope {
        Scope::Enterprise(slug.to_lowercase())
    }

    /// The login that an installation token must belong to; an enterprise is no installation's.
    pub fn account(&self) -> Option<&str> {
        match self {
            Scope::Organization(login) | Scope::Repository(login, _) => Some(login),
            Scope::Enterprise(_) => None,
        }
    }

    pub(super) fn covers(&self, job: &Job) -> bool {
        match self {
            Scope::Organization(login) => job.owner.eq_ignore_ascii_case(login),
            Scope::Repository(owner, name) => {
                job.owner.eq_ignore_ascii_case(owner) && job.repository.eq_ignore_ascii_case(name)
            }
            Scope::Enterprise(_) => true,
        }
    }
}

/// One JIT registration, ephemeral like all of them.
#[derive(Debug, Clone)]
pub struct Runner {
    pub id: u64,
    pub name: String,
    pub scope: Scope,
    pub group: u64,
    /// In lower case, as GitHub stores them.
    pub labels: BTreeSet<String>,
    pub online: bool,
    pub busy: bool,
    /// The job it runs.
    pub job: Option<u64>,
    /// It was given a job and lost it ("Skipping message Job" in the runner's log): online, polling for
    /// ever, and given no other.
    pub ghost: bool,
    pub(super) offline_since: OffsetDateTime,
}

impl Runner {
    pub(super) fn is_idle(&self) -> bool {
        self.online && !self.busy && !self.ghost
    }

    pub(super) fn may_run(&self, job: &Job) -> bool {
        let labels = !job.wanted.is_empty() && job.wanted.is_subset(&self.labels);
        self.is_idle() && labels && self.scope.covers(job)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobStatus {
    Queued,
    InProgress,
    Completed,
    /// A deployment protection rule holds it back.
    Waiting,
}

impl JobStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            JobStatus::Queued => "queued",
            JobStatus::InProgress => "in_progress",
            JobStatus::Completed => "completed",
            JobStatus::Waiting => "waiting",
        }
    }
}

#[derive(Debug, Clone)]
pub struct Job {
    pub id: u64,
    pub run_id: u64,
    pub owner: String,
    pub repository: String,
    /// As the workflow writes them.
    pub labels: Vec<String>,
    pub status: JobStatus,
    pub conclusion: Option<String>,
    /// Id and name of the runner that runs it or ran it.
    pub runner: Option<(u64, String)>,
    pub created_at: OffsetDateTime,
    pub started_at: Option<OffsetDateTime>,
    pub completed_at: Option<OffsetDateTime>,
    /// In lower case.
    pub(super) wanted: BTreeSet<String>,
    /// The label under which the job is filed while it is queued.
    pub(super) filed_under: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MintError {
    /// 409.
    NameTaken,
    /// 422: between 1 and 100 labels, none of them empty.
    Labels,
    /// 422: between 1 and 64 characters.
    Name,
    /// 404.
    UnknownGroup,
    /// 403: group 2 is the one of GitHub's own hosted runners.
    GroupNotYours,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// 204.
    Spent,
    /// 404.
    Gone,
    /// 422.
    Busy,
}
