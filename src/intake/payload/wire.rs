//! GitHub's payload as it is on the wire.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    forms::{check_name, is_login, is_page, is_sha, rfc3339},
    job::{Action, Job, WorkflowJob},
    json::{Unreadable, from_json},
};
use crate::{
    ids::{Attempt, InstallationId, JobId, RepositoryId, RunId, RunnerId},
    ports::{JobStatus, Target},
};

/// Reads a bare `workflow_job` payload; `path` is where it lies, for the error.
pub fn read_workflow_job(json: &str, path: &str) -> Result<WorkflowJob, Unreadable> {
    let wire: Wire = from_json(json, path)?;
    let created_at = match wire.workflow_job.created_at.as_deref() {
        None => None,
        Some(text) => Some(rfc3339(text).ok_or_else(|| {
            Unreadable(format!("{path}workflow_job.created_at is no time like 2026-11-24T08:00:00Z"))
        })?),
    };
    for (field, name) in [("name", &wire.repository.name), ("owner.login", &wire.repository.owner.login)] {
        check_name(name).map_err(|what| Unreadable(format!("{path}repository.{field} {what}")))?;
    }
    Ok(WorkflowJob {
        action: wire.action,
        status: wire.workflow_job.status,
        job: Job {
            id: wire.workflow_job.id,
            attempt: Attempt::FIRST,
            run_id: Some(wire.workflow_job.run_id),
            // Old servers do not say: there, all are first ones.
            run_attempt: Some(attempt_of(wire.workflow_job.run_attempt.as_ref())),
            name: wire.workflow_job.name,
            workflow: wire.workflow_job.workflow_name,
            labels: wire.workflow_job.labels,
            created_at,
            asked_at: None,
            failures: None,
            target: Target {
                owner: wire.repository.owner.login,
                repository: Some(wire.repository.name),
                repository_id: wire.repository.id.and_then(|id| id.as_u64()).map(RepositoryId),
                installation: wire.installation.map(|installation| installation.id),
            },
            sender: wire
                .sender
                .as_ref()
                .and_then(|it| it["login"].as_str())
                .filter(|it| is_login(it))
                .map(str::to_owned),
            head_sha: text_of(wire.workflow_job.head_sha).filter(|sha| is_sha(sha)),
            page: text_of(wire.workflow_job.html_url).filter(|url| is_page(url)),
        },
        arrived_at: None,
        public: !wire.repository.private,
        runner_name: wire.workflow_job.runner_name.filter(|name| !name.is_empty()),
        runner_id: wire.workflow_job.runner_id.and_then(|id| id.as_u64()).filter(|id| *id != 0).map(RunnerId),
        started_at: wire.workflow_job.started_at.as_ref().and_then(Value::as_str).and_then(rfc3339),
    })
}

fn text_of(value: Option<Value>) -> Option<String> {
    value.and_then(|value| value.as_str().map(str::to_owned))
}

fn attempt_of(said: Option<&Value>) -> u32 {
    said.and_then(Value::as_u64).and_then(|attempt| u32::try_from(attempt).ok()).unwrap_or(1)
}

/// A payload with nothing left but what this system reads, for an event that would be too large otherwise.
/// `None` if it is no JSON object.
pub fn trimmed(json: &str) -> Option<String> {
    const KEPT: [&str; 24] = [
        "/action",
        "/workflow_job/id",
        "/workflow_job/run_id",
        "/workflow_job/run_attempt",
        "/workflow_job/head_sha",
        "/workflow_job/html_url",
        "/workflow_job/status",
        "/workflow_job/conclusion",
        "/workflow_job/labels",
        "/workflow_job/name",
        "/workflow_job/workflow_name",
        "/workflow_job/created_at",
        "/workflow_job/started_at",
        "/workflow_job/runner_id",
        "/workflow_job/runner_name",
        "/repository/id",
        "/repository/name",
        "/repository/full_name",
        "/repository/private",
        "/repository/owner/login",
        "/organization/login",
        "/enterprise/slug",
        "/installation/id",
        "/sender/login",
    ];
    let payload: Value = serde_json::from_str(json).ok()?;
    let mut kept = Value::Object(Map::new());
    for path in KEPT {
        let Some(value) = payload.pointer(path) else { continue };
        let (parents, key) = path.rsplit_once('/')?;
        let mut place = &mut kept;
        for parent in parents.split('/').skip(1) {
            let object = place.as_object_mut()?;
            place = object.entry(parent).or_insert_with(|| Value::Object(Map::new()));
        }
        place.as_object_mut()?.insert(key.to_owned(), value.clone());
    }
    Some(kept.to_string())
}

/// GitHub's `workflow_job` payload, as far as it matters here
/// (<https://docs.github.com/en/webhooks/webhook-events-and-payloads#workflow_job>).
#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Wire {
    action: Action,
    workflow_job: WireJob,
    repository: WireRepository,
    installation: Option<WireInstallation>,
    /// No job is refused for who caused it.
    sender: Option<Value>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct WireJob {
    id: JobId,
    run_id: RunId,
    run_attempt: Option<Value>,
    status: JobStatus,
    labels: Vec<String>,
    name: Option<String>,
    workflow_name: Option<String>,
    created_at: Option<String>,
    runner_name: Option<String>,
    /// No job is refused for what only its end says.
    runner_id: Option<Value>,
    head_sha: Option<Value>,
    html_url: Option<Value>,
    started_at: Option<Value>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct WireRepository {
    /// No job is refused for want of it.
    id: Option<Value>,
    name: String,
    owner: WireOwner,
    private: bool,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct WireOwner {
    login: String,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct WireInstallation {
    id: InstallationId,
}
