//! GitHub's REST API, as far as this system uses it.

use std::future::Future;

use secrecy::SecretString;
use time::OffsetDateTime;

use crate::{
    error::CallError,
    ids::{InstallationId, JobId, RepositoryId, RunId, RunnerId, RunnerVersion},
};

/// Which registrations are made: of an organisation, a repository or an enterprise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// `/orgs/{org}`.
    Org,
    /// `/repos/{owner}/{repo}`.
    Repo,
    /// `/enterprises/{slug}`.
    Enterprise(String),
}

/// A runner group, as somebody wrote it down.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RunnerGroup {
    /// By its number.
    Id(u64),
    /// By its name.
    Named(String),
}

/// Where a registration lives, and as whom to ask. Which of the three scopes applies (organisation,
/// repository or enterprise) is the adapter's setting.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The organisation's (or user's) login.
    pub owner: String,
    /// The repository's name without its owner. Unknown for a sweep in organisation scope.
    pub repository: Option<String>,
    /// The repository's id, by which it is found whatever its name is by now. Messages and tags of a release before
    /// do not have it.
    pub repository_id: Option<RepositoryId>,
    /// The App's installation, when the payload named it.
    pub installation: Option<InstallationId>,
}

impl Target {
    /// `owner/repository`, where the repository is known.
    pub fn full_name(&self) -> Option<String> {
        self.repository.as_ref().map(|repository| format!("{}/{repository}", self.owner))
    }

    /// The same, or `owner` alone.
    pub fn name(&self) -> String {
        self.full_name().unwrap_or_else(|| self.owner.clone())
    }
}

/// A fresh registration, as `generate-jitconfig` answers it.
#[derive(Debug, Clone)]
pub struct JitConfig {
    /// GitHub's id of the runner.
    pub id: RunnerId,
    /// The encoded JIT configuration: whoever has it is that runner.
    pub encoded: SecretString,
}

/// The answer to a mint.
#[derive(Debug, Clone)]
pub enum Minted {
    /// 201: the name was free, and is ours now.
    Created(JitConfig),
    /// 409: a registration of that name exists already.
    NameTaken,
}

/// A registration as GitHub lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// GitHub's id.
    pub id: RunnerId,
    /// Its name, e.g. `fargate-123-1`.
    pub name: String,
    /// Whether the runner holds a connection.
    pub online: bool,
    /// Whether it runs a job at the moment.
    pub busy: bool,
    /// Its labels, as GitHub stores them: in lower case.
    pub labels: Vec<String>,
    /// The release that its runner has: "only set if the runner has connected to the service at least once".
    pub version: Option<RunnerVersion>,
}

/// The answer to a DELETE of a registration: the moment that decides who owes what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// 204, to exactly one caller: the registration was unspent, and this call spent it.
    Spent,
    /// 404: it was spent before, by a job or by another DELETE.
    Gone,
    /// 422: it runs a job.
    Busy,
}

/// `status` of a job, as GitHub's REST API and webhooks say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(from = "String")]
pub enum JobStatus {
    /// Waits for a runner.
    Queued,
    /// A runner has it.
    InProgress,
    /// Over, whatever the conclusion.
    Completed,
    /// Waits for a deployment protection rule; GitHub queues it (again) when that is satisfied.
    Waiting,
    /// Held back by a concurrency group, or requested and not queued yet.
    Pending,
    /// A status that GitHub has added since, which it may at any time ("Breaking changes": a new value of an enum
    /// is none). It tells nothing.
    Unknown,
}

impl From<String> for JobStatus {
    fn from(text: String) -> Self {
        match text.as_str() {
            "queued" => JobStatus::Queued,
            "in_progress" => JobStatus::InProgress,
            "completed" => JobStatus::Completed,
            "waiting" => JobStatus::Waiting,
            "pending" | "requested" => JobStatus::Pending,
            _ => JobStatus::Unknown,
        }
    }
}

/// A job as [`Github::job`] is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobState {
    /// Its status.
    pub status: JobStatus,
    /// The name of the runner that runs it or ran it; none while it is queued, or when it ended without one.
    pub runner_name: Option<String>,
    /// Its labels.
    pub labels: Vec<String>,
    /// Whether it is over, and was a success.
    pub succeeded: bool,
    /// When it was queued, or, once it runs, when it began; as far as GitHub says.
    pub since: Option<OffsetDateTime>,
    /// When it was made; a rule may have held it back since.
    pub created_at: Option<OffsetDateTime>,
    /// Its run, and which of the run's attempts it is of.
    pub run: Option<(RunId, u32)>,
}

/// A runner group: GitHub's word on who may use the runners in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Where its settings are.
    pub page: String,
    /// `owner/repository` of those that may use it; `None`: all that the organisation has.
    pub repositories: Option<Vec<String>>,
    /// Whether public repositories may use it.
    pub public: bool,
    /// Whether it is for selected workflows only.
    pub restricted: bool,
}

/// GitHub's REST API, as far as runners and jobs go.
pub trait Github {
    /// `POST {scope}/actions/runners/generate-jitconfig`, into that group; `None`: into `RUNNER_GROUP_ID`.
    fn mint(
        &self,
        target: &Target,
        name: &str,
        labels: &[String],
        group: Option<&RunnerGroup>,
    ) -> impl Future<Output = Result<Minted, CallError>>;

    /// `GET {scope}/actions/runners?name=…`.
    fn find_runner(
        &self,
        target: &Target,
        name: &str,
    ) -> impl Future<Output = Result<Option<Registration>, CallError>>;

    /// `GET {scope}/actions/runners/{id}`; `None` when there is none (404).
    fn runner(
        &self,
        target: &Target,
        id: RunnerId,
    ) -> impl Future<Output = Result<Option<Registration>, CallError>>;

    /// One page of `GET {scope}/actions/runners?per_page=100&page=…` (pages count from 1), and whether
    /// another one follows. `None`: GitHub shows no such repository.
    fn runners(
        &self,
        target: &Target,
        page: u32,
    ) -> impl Future<Output = Result<Option<(Vec<Registration>, bool)>, CallError>>;

    /// `GET {scope}/actions/runners/downloads`: the newest release; `None` when its files' names do not tell.
    fn newest_release(
        &self,
        target: &Target,
    ) -> impl Future<Output = Result<Option<RunnerVersion>, CallError>>;

    /// `GET /orgs/{org}/actions/runner-groups/{id}` of that group, or of `RUNNER_GROUP_ID`, and its `/repositories` where
    /// only selected ones may use it; `None`: there is no such group.
    fn group(
        &self,
        target: &Target,
        group: Option<&RunnerGroup>,
    ) -> impl Future<Output = Result<Option<Group>, CallError>>;

    /// `DELETE {scope}/actions/runners/{id}`.
    fn delete_runner(
        &self,
        target: &Target,
        id: RunnerId,
    ) -> impl Future<Output = Result<Deleted, CallError>>;

    /// `GET /repositories/{repository_id}/actions/jobs/{id}`, or `/repos/{owner}/{repo}/…`; `None` when GitHub does not say: there is no such job,
    /// or it has moved, or we may not see it; or it cannot be asked, as nobody knows the repository.
    fn job(&self, target: &Target, job: JobId) -> impl Future<Output = Result<Option<JobState>, CallError>>;

    /// Whether the newest attempt at a run was asked for by this system itself; or may have been, where GitHub does not
    /// show the `attempt` yet that a job is of. Asked only where there is an author's queue.
    fn is_own_rerun(
        &self,
        _target: &Target,
        _run: RunId,
        _attempt: Option<u32>,
    ) -> impl Future<Output = Result<bool, CallError>> {
        async { Ok(false) }
    }
}

/// One line of the App's webhook delivery log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The id of this delivery; a redelivery has its own.
    pub id: u64,
    /// The event's GUID, the same for all its deliveries.
    pub guid: String,
    /// When GitHub sent it.
    pub delivered_at: OffsetDateTime,
    /// The status of the answer; 0 when there was none.
    pub status: u16,
    /// The event's name, e.g. `workflow_job`.
    pub event: String,
    /// What happened, e.g. `queued`, where the event has actions.
    pub action: Option<String>,
    /// Whether GitHub was asked to send it again.
    pub redelivered: bool,
}

impl Delivery {
    /// Whether the answer was a success.
    pub fn is_delivered(&self) -> bool {
        is_success(self.status)
    }
}

/// Whether GitHub counts a delivery that was answered so as delivered.
pub fn is_success(status: u16) -> bool {
    (200..400).contains(&status)
}

/// One page of the delivery log, newest first, and the cursor of the next.
pub type DeliveryPage = (Vec<Delivery>, Option<String>);

/// The webhook deliveries of Apps, each by its place in the secret. Only an App has these: a PAT cannot read them.
pub trait Deliveries {
    /// The ids of the Apps that there are credentials of.
    fn apps(&self) -> impl Future<Output = Result<Vec<String>, CallError>>;

    /// One page of `GET /app/hook/deliveries?per_page=100`. An App without a webhook has none.
    fn deliveries(
        &self,
        of: &str,
        cursor: Option<&str>,
    ) -> impl Future<Output = Result<DeliveryPage, CallError>>;

    /// The same with `status=failure`: failed ones alone. `None` when the server cannot tell them apart, as GitHub
    /// Enterprise Server before 3.17.
    fn failed_deliveries(
        &self,
        of: &str,
        cursor: Option<&str>,
    ) -> impl Future<Output = Result<Option<DeliveryPage>, CallError>>;

    /// `POST /app/hook/deliveries/{id}/attempts`; `false` when GitHub will not send this one again (400, 404, 422).
    fn redeliver(&self, of: &str, id: u64) -> impl Future<Output = Result<bool, CallError>>;
}
