//! What GitHub Actions is made of: scopes, registrations and jobs.

use std::{collections::BTreeSet, sync::Arc};

use time::OffsetDateTime;

use super::labels::Labels;

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
            Scope::Organization(login) => job.place.owner.eq_ignore_ascii_case(login),
            Scope::Repository(owner, name) => job.place.is(owner, name),
            Scope::Enterprise(_) => true,
        }
    }
}

/// One JIT registration, ephemeral like all of them.
#[derive(Debug, Clone)]
pub struct Runner {
    pub id: u64,
    pub name: Arc<str>,
    pub scope: Arc<Scope>,
    pub group: u64,
    /// The repositories that its group is for, if not for all.
    pub open_to: Option<Arc<BTreeSet<String>>>,
    pub labels: Arc<Labels>,
    pub online: bool,
    pub busy: bool,
    /// The job it runs.
    pub job: Option<u64>,
    /// It was given a job and lost it ("Skipping message Job" in the runner's log): online, polling for
    /// ever, and given no other.
    pub ghost: bool,
    /// The release that it had when it connected.
    pub version: Option<Arc<str>>,
    /// What GitHub says of it that is not so.
    pub untrue: Untrue,
    pub(super) offline_since: OffsetDateTime,
}

/// What GitHub may say of a runner although it is not so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Untrue {
    /// `busy` is false while it has a job, and a DELETE works.
    pub idle: bool,
    /// `status` is offline while it is connected.
    pub offline: bool,
    /// Lists do not show it.
    pub unlisted: bool,
}

impl Runner {
    /// `status`, as GitHub says it.
    pub fn seems_online(&self) -> bool {
        self.online && !self.untrue.offline
    }

    /// `busy`, as GitHub says it.
    pub fn seems_busy(&self) -> bool {
        self.busy && !self.untrue.idle
    }

    pub(super) fn is_idle(&self) -> bool {
        self.online && !self.busy && !self.ghost
    }

    pub(super) fn may_run(&self, job: &Job) -> bool {
        self.is_idle() && self.labels.cover(&job.labels) && self.lets_in(job)
    }

    /// Its scope and its group let the job in.
    pub(super) fn lets_in(&self, job: &Job) -> bool {
        let name = || format!("{}/{}", job.place.owner, job.place.repository).to_lowercase();
        self.scope.covers(job) && self.open_to.as_ref().is_none_or(|these| these.contains(&name()))
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

/// A repository, as its URL writes it by now.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The same for ever.
    pub id: u64,
    pub owner: String,
    pub repository: String,
}

impl Place {
    pub(super) fn is(&self, owner: &str, repository: &str) -> bool {
        self.owner.eq_ignore_ascii_case(owner) && self.repository.eq_ignore_ascii_case(repository)
    }
}

#[derive(Debug, Clone)]
pub struct Job {
    pub id: u64,
    pub place: Arc<Place>,
    /// Its name, its run, and of which attempt at that it is.
    pub name: Arc<str>,
    pub run: u64,
    pub run_attempt: u32,
    pub labels: Arc<Labels>,
    pub status: JobStatus,
    pub conclusion: Option<String>,
    /// Id and name of the runner that runs it or ran it.
    pub runner: Option<(u64, Arc<str>)>,
    pub created_at: OffsetDateTime,
    pub started_at: Option<OffsetDateTime>,
    pub completed_at: Option<OffsetDateTime>,
    /// GitHub does not say what it knows of it.
    pub silence: Option<Silence>,
    /// The status that GitHub says instead: one that it has added since.
    pub status_since: Option<&'static str>,
    /// The label under which the job is filed while it is queued.
    pub(super) filed_under: u32,
}

impl Job {
    /// `status`, as GitHub says it.
    pub fn said_status(&self) -> &'static str {
        self.status_since.unwrap_or(self.status.as_str())
    }
}

/// How GitHub does not say what it knows of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// 301, to a place where there is nothing.
    Moved,
    /// 403: "Resource not accessible by integration".
    Forbidden,
    /// 410.
    Gone,
    /// 451.
    Legal,
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
    /// 204. A job that it ran all the same is lost to it: `complete` that job when GitHub notices.
    Spent,
    /// 404.
    Gone,
    /// 422.
    Busy,
}
