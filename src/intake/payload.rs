//! What arrives: `workflow_job` payloads, bare or in an EventBridge envelope, and this system's own messages.
//!
//! Only the fields that matter are read, and those strictly: one that is missing or of the wrong type is named
//! in the error, with its path; its value never is.

use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::{Map, Value, value::RawValue};
use time::OffsetDateTime;

use crate::{
    ids::{Attempt, InstallationId, JobId, RepositoryId, RunId, RunnerId},
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
    /// Where it lives.
    pub target: Target,
    /// Who caused the event, for the record: a login.
    pub sender: Option<String>,
    /// The commit that it is of.
    pub head_sha: Option<String>,
    /// Its page at GitHub.
    pub page: Option<String>,
}

impl Job {
    /// `owner/repository`, or `owner` alone when the repository is not known.
    pub fn repository(&self) -> String {
        match &self.target.repository {
            Some(repository) => format!("{}/{repository}", self.target.owner),
            None => self.target.owner.clone(),
        }
    }
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

/// No job gets more runners: GitHub cancels one that has waited for a day, and even where each runner dies or is taken
/// at once, hundreds of them take as long.
const MOST_ATTEMPTS: u32 = 1000;

/// A message of this system's own on the job queue: a runner is owed to the job, whatever GitHub says its
/// status is. `reconcile` writes it when a runner died before it took a job.
// What a later release adds is passed over: while functions are updated, both are at work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacement {
    /// The job.
    pub job_id: JobId,
    /// Which runner for it this will be.
    pub attempt: Attempt,
    /// The labels of the registration that is replaced.
    pub labels: Vec<String>,
    /// The organisation's (or user's) login.
    pub owner: String,
    /// The repository's name, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The repository's id, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<RepositoryId>,
    /// The run, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// The App's installation, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installation_id: Option<InstallationId>,
    /// The attempt is registered already, and has no task: so the sweep found it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub registered: bool,
}

impl Replacement {
    /// That runner, of labels that are not known yet.
    pub fn new(job_id: JobId, attempt: Attempt, place: Target) -> Self {
        Replacement {
            job_id,
            attempt,
            labels: Vec::new(),
            owner: place.owner,
            repository: place.repository,
            repository_id: place.repository_id,
            run_id: None,
            installation_id: place.installation,
            registered: false,
        }
    }

    /// The message's body.
    pub fn to_body(&self) -> String {
        // A struct of strings and integers always serialises.
        serde_json::json!({ "replacement": self }).to_string()
    }

    /// The job to start a runner for.
    pub fn into_job(self) -> Job {
        let target = self.target();
        Job {
            id: self.job_id,
            attempt: self.attempt,
            run_id: self.run_id,
            run_attempt: None,
            name: None,
            workflow: None,
            labels: self.labels,
            created_at: None,
            asked_at: None,
            target,
            sender: None,
            head_sha: None,
            page: None,
        }
    }

    /// What is wrong with it, and in which field.
    fn check(&self) -> Result<(), String> {
        if !(1..=MOST_ATTEMPTS).contains(&self.attempt.0) {
            return Err(format!("attempt should be 1 to {MOST_ATTEMPTS}"));
        }
        check_name(&self.owner).map_err(|what| format!("owner {what}"))?;
        self.repository.as_deref().map_or(Ok(()), check_name).map_err(|what| format!("repository {what}"))
    }

    /// Where its job and its registration are.
    pub fn target(&self) -> Target {
        Target {
            owner: self.owner.clone(),
            repository: self.repository.clone(),
            repository_id: self.repository_id,
            installation: self.installation_id,
        }
    }
}

/// A message, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A `workflow_job` event.
    WorkflowJob(Box<WorkflowJob>),
    /// A runner is owed.
    Replacement(Replacement),
    /// An EventBridge event of another kind: its source and detail-type.
    OtherEvent(String),
}

/// What cannot be read, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

/// Reads a message body: an EventBridge envelope, a bare `workflow_job` payload, or a [`Replacement`]. What comes
/// through the bus is in an envelope, so a `replacement` in there is never this system's own.
pub fn read(body: &str) -> Result<Message, Unreadable> {
    let shape: Shape = from_json(body, "")?;
    if let Some(detail) = shape.detail {
        if shape.detail_type.as_deref() != Some("workflow_job") {
            let detail_type = shape.detail_type.unwrap_or_default();
            return Ok(Message::OtherEvent(clip(&format!("event {detail_type:?}"))));
        }
        let detail_shape: Shape = from_json(detail.get(), "detail.")?;
        let arrived_at = match shape.time.as_deref() {
            None => None,
            Some(text) => Some(
                rfc3339(text)
                    .ok_or_else(|| Unreadable("time is no time like 2026-11-24T08:00:00Z".into()))?,
            ),
        };
        let mut message = read_payload(&detail_shape, detail.get(), "detail.")?;
        if let Message::WorkflowJob(event) = &mut message {
            event.arrived_at = arrived_at;
        }
        return Ok(message);
    }
    match shape.replacement {
        Some(own) if shape.workflow_job.is_none() => {
            from_json::<Own>(body, "")?;
            let own: Replacement = from_json(own.get(), "replacement.")?;
            own.check().map_err(|what| Unreadable(format!("replacement.{what}")))?;
            Ok(Message::Replacement(own))
        }
        _ => read_payload(&shape, body, ""),
    }
}

fn read_payload(shape: &Shape, json: &str, path: &str) -> Result<Message, Unreadable> {
    if shape.workflow_job.is_none() {
        return Err(Unreadable(format!(
            "{path}workflow_job is missing: this is no workflow_job event (send GitHub's payload as it came)"
        )));
    }
    read_workflow_job(json, path).map(|event| Message::WorkflowJob(Box::new(event)))
}

/// "The repository name can only contain ASCII letters, digits, and the characters ., -, and _", 100 at most, and
/// logins are shorter. (No path is left by way of `..` either.)
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    const LONGEST_NAME: usize = 100;
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    match name {
        "" => Err("is empty"),
        "." | ".." => Err("is no name: . and .. are folders"),
        _ if name.len() > LONGEST_NAME => Err("is longer than 100 characters"),
        _ if !name.bytes().all(is_allowed) => Err("has other characters than letters, digits and .-_"),
        _ => Ok(()),
    }
}

/// A person's login, or an App's: `octo-app[bot]`.
fn is_login(login: &str) -> bool {
    check_name(login.strip_suffix("[bot]").unwrap_or(login)).is_ok()
}

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

/// SHA-1 or SHA-256.
pub(crate) fn is_sha(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// An address that can stand in a link as it is.
pub(crate) fn is_page(url: &str) -> bool {
    const LONGEST: usize = 512;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/.-_:".contains(&byte);
    url.len() <= LONGEST && url.starts_with("https://") && url.bytes().all(is_plain)
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

/// A time as GitHub and EventBridge write it.
pub fn rfc3339(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()
}

/// What tells the shapes apart; nothing inside is looked at yet.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Shape<'a> {
    #[serde(rename = "detail-type")]
    detail_type: Option<String>,
    time: Option<String>,
    #[serde(borrow)]
    detail: Option<&'a RawValue>,
    #[serde(borrow)]
    workflow_job: Option<&'a RawValue>,
    #[serde(borrow)]
    replacement: Option<&'a RawValue>,
}

/// This system's own message, with nothing else in it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct Own {
    #[serde(rename = "replacement")]
    _replacement: IgnoredAny,
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

/// Parses JSON; the error has the path and what was expected there, never a value: payloads are private.
fn from_json<'a, T: Deserialize<'a>>(json: &'a str, path: &str) -> Result<T, Unreadable> {
    // serde would also read a struct from an array, field by field in order: no payload is one.
    if json.trim_start().starts_with('[') {
        let place = if path.is_empty() { "the message" } else { path.trim_end_matches('.') };
        return Err(Unreadable(format!("{place} is of the wrong type, expected an object")));
    }
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let parsed = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let field = error.path().to_string();
        describe(path, &field, error.inner())
    })?;
    deserializer.end().map_err(|error| describe(path, ".", &error))?;
    Ok(parsed)
}

fn describe(path: &str, field: &str, error: &serde_json::Error) -> Unreadable {
    use serde_json::error::Category;
    if error.classify() != Category::Data {
        let (line, column) = (error.line(), error.column());
        return Unreadable(format!("not JSON (line {line}, column {column}): send the payload as it came"));
    }
    let text = error.to_string();
    let place = |name: &str| match field {
        "." => format!("{path}{name}"),
        field if name.is_empty() => format!("{path}{field}"),
        field => format!("{path}{field}.{name}"),
    };
    // serde's own words may quote the value: only what stood expected, or which field is missing, is kept.
    let quoted = |text: &str| text.split('`').nth(1).unwrap_or_default().to_owned();
    if text.starts_with("missing field") {
        return Unreadable(format!("{} is missing", place(&quoted(&text))));
    }
    let place = match text.starts_with("unknown field") {
        // Its name is somebody's text: the object that it is in is named.
        true => format!("{path}{}", field.rsplit_once('.').map_or("", |(parent, _)| parent)),
        false => place(""),
    };
    let place = place.trim_end_matches('.').to_owned();
    let place = if place.is_empty() { "the message".to_owned() } else { place };
    if text.starts_with("unknown field") {
        return Unreadable(format!("{place} has a field that does not belong there"));
    }
    match text.split_once(", expected ").map(|(_, expected)| expected) {
        Some(expected) => {
            let expected = expected.split(" at line ").next().unwrap_or_default();
            Unreadable(format!("{place} is of the wrong type, expected {expected}"))
        }
        None => Unreadable(format!("{place} cannot be read")),
    }
}

/// Text from outside, at a length fit for a log line.
fn clip(text: &str) -> String {
    text.chars().take(120).collect()
}

/// Reads a value of an EventBridge `detail` or another JSON text; errors as in [`read`].
pub fn read_json<T: DeserializeOwned>(json: &str, path: &str) -> Result<T, Unreadable> {
    from_json(json, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn payload() -> Value {
        json!({
            "action": "queued",
            "workflow_job": {
                "id": 1, "run_id": 2, "status": "queued", "labels": ["self-hosted"],
                "created_at": "2026-11-24T08:00:00Z", "runner_name": null
            },
            "repository": { "id": 5, "name": "app", "private": true, "owner": { "login": "acme" } },
            "installation": { "id": 7 }
        })
    }

    fn workflow_job(body: &Value) -> WorkflowJob {
        match read(&body.to_string()) {
            Ok(Message::WorkflowJob(event)) => *event,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn bare_and_enveloped_payloads_read_alike() {
        let bare = workflow_job(&payload());
        let mut envelope =
            json!({ "source": "github.com", "detail-type": "workflow_job", "detail": payload() });
        assert_eq!(bare, workflow_job(&envelope));
        envelope["time"] = json!("2026-11-24T08:00:01Z");
        assert_eq!(workflow_job(&envelope).arrived_at, rfc3339("2026-11-24T08:00:01Z"));
        envelope["time"] = json!("noon");
        assert!(read(&envelope.to_string()).is_err());
        assert_eq!(bare.job.repository(), "acme/app");
        assert_eq!(bare.job.target.installation, Some(InstallationId(7)));
        assert_eq!(bare.job.target.repository_id, Some(RepositoryId(5)));
        assert!(!bare.public);
    }

    #[test]
    fn a_trimmed_payload_reads_the_same() {
        let mut large = payload();
        large["workflow_job"]["steps"] = json!(["x".repeat(1_000_000)]);
        large["sender"] = json!({ "login": "octocat", "bio": "long" });
        let small = trimmed(&large.to_string()).expect("an object");
        assert!(small.len() < 1_000, "{small}");
        assert_eq!(read(&small), read(&large.to_string()));
    }

    #[test]
    fn a_new_status_or_action_is_no_error() {
        let mut body = payload();
        body["workflow_job"]["status"] = json!("assigned");
        body["action"] = json!("assigned");
        let event = workflow_job(&body);
        assert_eq!((event.action, event.status), (Action::Other, JobStatus::Unknown));
    }

    #[test]
    fn a_replacement_reads_back() {
        let replacement = Replacement {
            job_id: JobId(1),
            attempt: Attempt(2),
            labels: vec!["self-hosted".into()],
            owner: "acme".into(),
            repository: None,
            repository_id: Some(RepositoryId(5)),
            run_id: None,
            installation_id: Some(InstallationId(7)),
            registered: true,
        };
        assert_eq!(read(&replacement.to_body()), Ok(Message::Replacement(replacement)));
    }

    #[test]
    fn a_replacement_is_obeyed_only_as_a_message_of_its_own() {
        let own = json!({ "job_id": 1, "attempt": 2, "labels": ["self-hosted"], "owner": "acme" });
        let mut with_payload = payload();
        with_payload["replacement"] = own.clone();
        // What a later release adds is passed over.
        let mut later = own.clone();
        later["added_since"] = json!(true);
        let read_own = |own: &Value| read(&json!({ "replacement": own }).to_string());
        assert_eq!(read_own(&later), read_own(&own));
        assert!(read_own(&own).is_ok());
        // GitHub's payload stays what it is, bare and in an envelope.
        assert_eq!(workflow_job(&with_payload), workflow_job(&payload()));
        let envelope = |detail: &Value| json!({ "detail-type": "workflow_job", "detail": detail });
        assert_eq!(workflow_job(&envelope(&with_payload)), workflow_job(&payload()));
        let beside = json!({ "detail-type": "workflow_job", "detail": payload(), "replacement": own });
        assert_eq!(workflow_job(&beside), workflow_job(&payload()));
        for (forged, want) in [
            (envelope(&json!({ "replacement": own })), "detail.workflow_job is missing"),
            (json!({ "replacement": own, "s3cret": 1 }), "the message has a field that does not belong"),
            (
                json!({ "replacement": own, "detail-type": "workflow_job" }),
                "the message has a field that does not belong",
            ),
            (json!({ "replacement": { "s3cret": 1 } }), "replacement.job_id is missing"),
            (json!({ "replacement": [1, 2, ["self-hosted"], "acme"] }), "replacement is of the wrong type"),
        ] {
            let error = read(&forged.to_string()).expect_err(want).to_string();
            assert!(error.contains(want) && !error.contains("s3cret"), "{error} should contain {want}");
        }
    }

    #[test]
    fn what_a_replacement_says_is_checked() {
        let long = "x".repeat(101);
        let table = [
            ("attempt", json!(0), "replacement.attempt should be 1 to 1000"),
            ("attempt", json!(1001), "replacement.attempt should be 1 to 1000"),
            ("attempt", json!(4_294_967_296_u64), "replacement.attempt is of the wrong type"),
            ("owner", json!(""), "replacement.owner is empty"),
            ("owner", json!("a/b"), "replacement.owner has other characters"),
            ("repository", json!(".."), "replacement.repository is no name"),
            ("repository", json!(long), "replacement.repository is longer"),
            ("registered", json!(1), "replacement.registered is of the wrong type"),
        ];
        for (field, value, want) in table {
            let mut body = json!({ "job_id": 1, "attempt": 2, "labels": ["self-hosted"], "owner": "acme" });
            body[field] = value;
            let error = read(&json!({ "replacement": body }).to_string()).expect_err(want).to_string();
            assert!(error.starts_with(want), "{error} should start with {want}");
        }
    }

    #[test]
    fn names_are_names() {
        for name in [".github", "a.b-c_d", "X", &"x".repeat(100), "..a", "octo-org_emu"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["", ".", "..", "a b", "a/b", "../x", "a\nb", "\u{0}", "ä", "a%2f", &"x".repeat(101)] {
            assert!(check_name(name).is_err(), "{name:?}");
            let mut body = payload();
            body["repository"]["name"] = json!(name);
            let error = read(&body.to_string()).expect_err("refused").to_string();
            assert!(error.starts_with("repository.name "), "{error}");
            body["repository"]["name"] = json!("app");
            body["repository"]["owner"]["login"] = json!(name);
            let error = read(&body.to_string()).expect_err("refused").to_string();
            assert!(error.starts_with("repository.owner.login "), "{error}");
        }
    }

    #[test]
    fn other_events_are_told_apart() {
        let body = json!({ "detail-type": "push", "detail": {} }).to_string();
        assert_eq!(read(&body), Ok(Message::OtherEvent("event \"push\"".into())));
    }

    #[test]
    fn errors_name_the_place_and_never_the_value() {
        fn with(path: &str, value: Value) -> String {
            let mut body = payload();
            *body.pointer_mut(path).expect("a place") = value;
            body.to_string()
        }
        let without = |parent: &str, key: &str| {
            let mut body = payload();
            body.pointer_mut(parent).expect("a parent").as_object_mut().expect("an object").remove(key);
            body.to_string()
        };
        let table = [
            (with("/workflow_job/id", json!("s3cret")), "workflow_job.id is of the wrong type, expected u64"),
            (with("/workflow_job/labels", json!("s3cret")), "workflow_job.labels is of the wrong type"),
            (with("/workflow_job/labels", json!([1])), "workflow_job.labels[0] is of the wrong type"),
            (with("/workflow_job/status", json!(1)), "workflow_job.status is of the wrong type"),
            (with("/workflow_job/created_at", json!("s3cret")), "workflow_job.created_at is no time"),
            (with("/repository", json!(null)), "repository is of the wrong type"),
            (with("/repository/name", json!("")), "repository.name"),
            (with("/workflow_job", json!("s3cret")), "workflow_job is of the wrong type, expected an object"),
            (without("", "workflow_job"), "workflow_job is missing"),
            (without("/workflow_job", "id"), "workflow_job.id is missing"),
            (without("", "action"), "action is missing"),
            (without("/repository", "owner"), "repository.owner is missing"),
            (
                json!({ "detail-type": "workflow_job", "detail": {} }).to_string(),
                "detail.workflow_job is missing",
            ),
            (json!([1]).to_string(), "the message is of the wrong type"),
            ("{\"s3cret".to_owned(), "not JSON (line 1, column 8)"),
            (String::new(), "not JSON"),
            (payload().to_string() + "x", "not JSON"),
        ];
        for (body, want) in table {
            let error = read(&body).expect_err(want).to_string();
            assert!(error.contains(want), "{error} should contain {want}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
