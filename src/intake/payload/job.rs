//! A `workflow_job` event, and the job in it.

use serde::Deserialize;
use time::OffsetDateTime;

use crate::{
    ids::{Attempt, JobId, RunId, RunnerId},
    ports::{JobStatus, Target},
};

/// A job that a runner is to be started for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Which runner for it this will be.
    pub attempt: Attempt,
    /// The run it belongs to.
    pub run_id: Option<RunId>,
    /// Of which attempt at that run it is, as GitHub counts them; this system's own messages do not say.
    pub run_attempt: Option<u32>,
    /// Its name. Any characters.
    pub name: Option<String>,
    /// The workflow's name. Any characters.
    pub workflow: Option<String>,
    /// `runs-on`.
    pub labels: Vec<String>,
    /// When GitHub created it; older GitHub Enterprise Servers do not say.
    pub created_at: Option<OffsetDateTime>,
    /// Since when the message that asks for its runner is on its queue.
    pub asked_at: Option<OffsetDateTime>,
    /// Runners that died for it before, where whoever announced this one has counted them.
    pub failures: Option<u32>,
    /// Where it lives.
    pub target: Target,
    /// Who caused the event, for the record: a login.
    pub sender: Option<String>,
    /// The commit that it is of.
    pub head_sha: Option<String>,
    /// Its page at GitHub.
    pub page: Option<String>,
}

/// `action` of a `workflow_job` event.
// From text: as an enum, serde would also look into an object, and name its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum Action {
    /// A job waits for a runner.
    Queued,
    /// A runner took it.
    InProgress,
    /// It is over.
    Completed,
    /// It waits for a deployment protection rule.
    Waiting,
    /// An action that GitHub has added since.
    Other,
}

impl From<String> for Action {
    fn from(text: String) -> Self {
        match text.as_str() {
            "queued" => Action::Queued,
            "in_progress" => Action::InProgress,
            "completed" => Action::Completed,
            "waiting" => Action::Waiting,
            _ => Action::Other,
        }
    }
}

/// A `workflow_job` event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkflowJob {
    /// What happened.
    pub action: Action,
    /// `workflow_job.status`.
    pub status: JobStatus,
    /// The job, as the first attempt.
    pub job: Job,
    /// When GitHub's event came in, as EventBridge says; `None` for a bare payload.
    pub arrived_at: Option<OffsetDateTime>,
    /// Whether everybody can read the repository.
    pub public: bool,
    /// `workflow_job.runner_name`: none while it is queued, or when it ended without a runner.
    pub runner_name: Option<String>,
    /// `workflow_job.runner_id`: its registration.
    pub runner_id: Option<RunnerId>,
    /// `workflow_job.started_at`: when it began to run, once it does.
    pub started_at: Option<OffsetDateTime>,
}
