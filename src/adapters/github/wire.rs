//! GitHub's answers, as far as they matter.

use secrecy::SecretString;
use serde::Deserialize;
use time::OffsetDateTime;

use crate::{
    ids::{InstallationId, RunId, RunnerId, RunnerVersion},
    intake::payload::rfc3339,
    ports::{self, JobStatus},
};

#[derive(Deserialize)]
pub(super) struct Minted {
    pub(super) runner: MintedRunner,
    pub(super) encoded_jit_config: SecretString,
}

#[derive(Deserialize)]
pub(super) struct MintedRunner {
    pub(super) id: RunnerId,
}

#[derive(Deserialize)]
pub(super) struct Runners {
    pub(super) total_count: u64,
    pub(super) runners: Vec<Runner>,
}

#[derive(Deserialize)]
pub(super) struct Runner {
    pub(super) id: RunnerId,
    pub(super) name: String,
    pub(super) status: String,
    pub(super) busy: bool,
    pub(super) labels: Vec<Label>,
    #[serde(default)]
    pub(super) version: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Label {
    name: String,
}

impl From<Runner> for ports::Registration {
    fn from(runner: Runner) -> Self {
        ports::Registration {
            id: runner.id,
            name: runner.name,
            online: runner.status == "online",
            busy: runner.busy,
            labels: runner.labels.into_iter().map(|label| label.name).collect(),
            version: runner.version.as_deref().and_then(RunnerVersion::read),
        }
    }
}

/// One file of the newest release.
#[derive(Deserialize)]
pub(super) struct Download {
    #[serde(default)]
    pub(super) filename: String,
}

#[derive(Deserialize)]
pub(super) struct Job {
    status: Option<JobStatus>,
    runner_name: Option<String>,
    #[serde(default)]
    labels: Vec<String>,
    conclusion: Option<String>,
    created_at: Option<String>,
    started_at: Option<String>,
    run_id: Option<RunId>,
    run_attempt: Option<u32>,
}

impl From<Job> for ports::JobState {
    fn from(job: Job) -> Self {
        let [created_at, started_at] =
            [job.created_at, job.started_at].map(|time| time.and_then(|time| rfc3339(&time)));
        ports::JobState {
            status: job.status.unwrap_or(JobStatus::Unknown),
            runner_name: job.runner_name.filter(|name| !name.is_empty()),
            labels: job.labels,
            succeeded: job.conclusion.as_deref() == Some("success"),
            // Of a job that a rule held back, `created_at` may lie days before.
            since: created_at.max(started_at),
            created_at,
            run: job.run_id.zip(job.run_attempt),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Delivery {
    id: u64,
    guid: String,
    #[serde(with = "time::serde::rfc3339")]
    delivered_at: OffsetDateTime,
    status_code: u16,
    event: String,
    action: Option<String>,
    redelivery: bool,
}

impl From<Delivery> for ports::Delivery {
    fn from(delivery: Delivery) -> Self {
        ports::Delivery {
            id: delivery.id,
            guid: delivery.guid,
            delivered_at: delivery.delivered_at,
            status: delivery.status_code,
            event: delivery.event,
            action: delivery.action,
            redelivered: delivery.redelivery,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Installation {
    pub(super) id: InstallationId,
}

#[derive(Deserialize)]
pub(super) struct AccessToken {
    pub(super) token: SecretString,
    #[serde(with = "time::serde::rfc3339")]
    pub(super) expires_at: OffsetDateTime,
}
