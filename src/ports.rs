//! The ports: what the flows need of the outside, and nothing more. The adapters implement them for GitHub
//! and AWS, the simulator for its own world, so that the very same flows run in both.
//!
//! A function's ports are its IAM policy: `dispatch` uses [`Github`], [`FindTasks`], [`StartTasks`] and
//! [`Queue`]; `reconcile` uses [`Github`], [`Deliveries`], [`FindTasks`], [`TendTasks`] and [`Queue`] (and
//! [`StartTasks`] for the warm pool only).

use std::{collections::BTreeMap, future::Future, time::Duration};

use secrecy::SecretString;
use time::OffsetDateTime;

use crate::{
    error::CallError,
    ids::{InstallationId, JobId, RunnerId},
    task::TaskRequest,
};

/// The time. Decisions never read it; flows do, once, and pass it on.
pub trait Clock {
    /// Now, in UTC.
    fn now(&self) -> OffsetDateTime;
}

/// A clock that one can wait by.
pub trait Timer: Clock {
    /// Returns after that time.
    fn wait(&self, time: Duration) -> impl Future<Output = ()>;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }
}

impl Timer for SystemClock {
    async fn wait(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// Where a registration lives, and as whom to ask. Which of the three scopes applies (organisation,
/// repository or enterprise) is the adapter's setting.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The organisation's (or user's) login.
    pub owner: String,
    /// The repository's name without its owner. Unknown for a sweep in organisation scope.
    pub repository: Option<String>,
    /// The App's installation, when the payload named it.
    pub installation: Option<InstallationId>,
}

/// A registration as `generate-jitconfig` answers it.
#[derive(Debug, Clone)]
pub struct Registration {
    /// GitHub's id of the runner.
    pub id: RunnerId,
    /// The encoded JIT configuration: whoever has it is that runner.
    pub jit_config: SecretString,
}

/// The answer to a mint.
#[derive(Debug, Clone)]
pub enum Minted {
    /// 201: the name was free, and is ours now.
    Created(Registration),
    /// 409: a registration of that name exists already.
    NameTaken,
}

/// A registration as GitHub lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runner {
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
#[serde(try_from = "String")]
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
}

impl TryFrom<String> for JobStatus {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Ok(match text.as_str() {
            "queued" => JobStatus::Queued,
            "in_progress" => JobStatus::InProgress,
            "completed" => JobStatus::Completed,
            "waiting" => JobStatus::Waiting,
            "pending" | "requested" => JobStatus::Pending,
            _ => return Err("unknown status, expected queued, in_progress, completed, waiting or pending"),
        })
    }
}

/// A job as `GET /repos/{owner}/{repo}/actions/jobs/{id}` answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobState {
    /// Its status.
    pub status: JobStatus,
    /// The name of the runner that runs it or ran it; none while it is queued, or when it ended without one.
    pub runner_name: Option<String>,
    /// Its labels.
    pub labels: Vec<String>,
}

/// GitHub's REST API, as far as runners and jobs go.
pub trait Github {
    /// `POST {scope}/actions/runners/generate-jitconfig`.
    fn mint(
        &self,
        target: &Target,
        name: &str,
        labels: &[String],
    ) -> impl Future<Output = Result<Minted, CallError>>;

    /// `GET {scope}/actions/runners?name=…`.
    fn find_runner(
        &self,
        target: &Target,
        name: &str,
    ) -> impl Future<Output = Result<Option<Runner>, CallError>>;

    /// `GET {scope}/actions/runners/{id}`; `None` when there is none (404).
    fn runner(
        &self,
        target: &Target,
        id: RunnerId,
    ) -> impl Future<Output = Result<Option<Runner>, CallError>>;

    /// One page of `GET {scope}/actions/runners?per_page=100&page=…` (pages count from 1), and whether
    /// another one follows.
    fn runners(
        &self,
        target: &Target,
        page: u32,
    ) -> impl Future<Output = Result<(Vec<Runner>, bool), CallError>>;

    /// `DELETE {scope}/actions/runners/{id}`.
    fn delete_runner(
        &self,
        target: &Target,
        id: RunnerId,
    ) -> impl Future<Output = Result<Deleted, CallError>>;

    /// `GET /repos/{owner}/{repo}/actions/jobs/{id}`; `None` when GitHub shows no such job (404).
    fn job(&self, target: &Target, job: JobId) -> impl Future<Output = Result<Option<JobState>, CallError>>;
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
    /// Whether the answer was a success.
    pub delivered: bool,
    /// The event's name, e.g. `workflow_job`.
    pub event: String,
    /// What happened, e.g. `queued`, where the event has actions.
    pub action: Option<String>,
}

/// The App's webhook deliveries. Only an App has these: a PAT cannot read them.
pub trait Deliveries {
    /// Whether the credentials are an App's.
    fn available(&self) -> impl Future<Output = Result<bool, CallError>>;

    /// One page of `GET /app/hook/deliveries?per_page=100`, newest first, and the cursor of the next.
    fn deliveries(
        &self,
        cursor: Option<&str>,
    ) -> impl Future<Output = Result<(Vec<Delivery>, Option<String>), CallError>>;

    /// `POST /app/hook/deliveries/{id}/attempts`.
    fn redeliver(&self, id: u64) -> impl Future<Output = Result<(), CallError>>;
}

/// The ARN of an ECS task.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskArn(pub String);

impl std::fmt::Display for TaskArn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A successful answer to RunTask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunTask {
    /// This request started the task, now or the first time it was made.
    Started(TaskArn),
    /// ConflictException: the `clientToken` was used with other parameters, so a task of that attempt was
    /// once started: this one.
    Conflict(Vec<TaskArn>),
}

/// An ECS task, as DescribeTasks answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its ARN.
    pub arn: TaskArn,
    /// Not stopped, and not asked to stop.
    pub live: bool,
    /// When ECS accepted it.
    pub created_at: Option<OffsetDateTime>,
    /// When its containers started; `None` before that.
    pub started_at: Option<OffsetDateTime>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// What both need of ECS: to find tasks again.
pub trait FindTasks {
    /// The live tasks of one `startedBy`: ListTasks, then DescribeTasks with TAGS when there are any.
    fn tasks_started_by(&self, started_by: &str) -> impl Future<Output = Result<Vec<Task>, CallError>>;

    /// The tasks of one `startedBy`, or all of this fleet, that have stopped, as long as ECS shows them (about an
    /// hour).
    fn ended_tasks(&self, started_by: Option<&str>) -> impl Future<Output = Result<Vec<Task>, CallError>>;

    /// DescribeTasks with TAGS of one task; `None` once ECS has forgotten it (about an hour after it stopped).
    fn describe(&self, arn: &TaskArn) -> impl Future<Output = Result<Option<Task>, CallError>>;
}

/// What starting runners needs of ECS.
pub trait StartTasks {
    /// RunTask. A refusal in `failures[]` is an error like any other.
    fn run_task(&self, request: &TaskRequest) -> impl Future<Output = Result<RunTask, CallError>>;

    /// DescribeClusters: tasks running or pending in the cluster.
    fn task_count(&self) -> impl Future<Output = Result<u32, CallError>>;
}

/// What tending runners needs of ECS.
pub trait TendTasks {
    /// Every live task of this fleet: ListTasks, all pages, then DescribeTasks with TAGS.
    fn live_tasks(&self) -> impl Future<Output = Result<Vec<Task>, CallError>>;

    /// StopTask. A task that is stopped already, or forgotten, is a success.
    fn stop(&self, arn: &TaskArn, reason: &str) -> impl Future<Output = Result<(), CallError>>;

    /// TagResource. A task that is gone is a success.
    fn tag(&self, arn: &TaskArn, tags: &[(String, String)]) -> impl Future<Output = Result<(), CallError>>;
}

/// Where a record came from: what it takes to set its visibility.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// `eventSourceARN`: the queue.
    pub queue_arn: String,
    /// `receiptHandle`: this receive of the message.
    pub receipt_handle: String,
}

/// The queues of the function: its own, the job queue and the dead-letter queue.
pub trait Queue {
    /// ChangeMessageVisibility on the queue that the record came from: the message becomes visible again
    /// after `delay`.
    fn defer(&self, source: &Source, delay: Duration) -> impl Future<Output = Result<(), CallError>>;

    /// Sends the original body to the dead-letter queue, with the reason as message attribute `reason`.
    fn reject(&self, body: &str, reason: &str) -> impl Future<Output = Result<(), CallError>>;

    /// Whether a dead-letter queue is configured at all.
    fn can_reject(&self) -> bool;

    /// Puts a message on the job queue, visible after `delay` (15 minutes at most).
    fn announce(&self, body: &str, delay: Duration) -> impl Future<Output = Result<(), CallError>>;
}

/// A secret in Secrets Manager.
pub trait SecretSource {
    /// GetSecretValue. Errors name the secret, never its content.
    fn read(&self) -> impl Future<Output = Result<SecretString, CallError>>;
}

/// The event bus.
pub trait Bus {
    /// PutEvents with one entry: source `github.com`, detail-type `workflow_job`, and this detail.
    fn put(&self, detail: &str) -> impl Future<Output = Result<(), CallError>>;
}
