//! ECS: tasks are started, found again, tagged and stopped.

use std::{collections::BTreeMap, future::Future, sync::Arc};

use time::OffsetDateTime;

use crate::{
    error::CallError,
    fargate::{request::TaskRequest, size::Size, stop::Stop, usage::Usage},
};

/// The ARN of an ECS task.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskArn(pub String);

impl std::fmt::Display for TaskArn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A task that was started, as RunTask answers it: what the record of it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// Its ARN.
    pub arn: TaskArn,
    /// `taskDefinitionArn`, with its revision.
    pub definition: Option<String>,
    /// The image of the runner's container.
    pub image: Option<String>,
    /// Its size, the definition's where the job asked for none.
    pub size: Option<Size>,
}

impl From<TaskArn> for Started {
    fn from(arn: TaskArn) -> Self {
        Started { arn, definition: None, image: None, size: None }
    }
}

/// A successful answer to RunTask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunTask {
    /// This request started the task, now or the first time it was made.
    Started(Started),
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
    /// Whether it runs on an instance (EC2, ECS Managed Instances), which may have to start first, and not on Fargate.
    pub on_instance: bool,
    /// When ECS accepted it.
    pub created_at: Option<OffsetDateTime>,
    /// When its containers started; `None` before that.
    pub started_at: Option<OffsetDateTime>,
    /// Its tags. Shared: a sweep reads those of all tasks, more than once.
    pub tags: Arc<BTreeMap<String, String>>,
    /// `taskDefinitionArn`.
    pub definition: String,
    /// How it ended; `None` before that.
    pub stop: Option<Stop>,
    /// What it is billed for; `None` before it ended, and where it never began to pull its image.
    pub usage: Option<Box<Usage>>,
}

/// Which tasks are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tasks {
    /// Those that are not stopped, and not asked to stop.
    Live,
    /// Those that have stopped, as long as ECS shows them.
    Ended,
}

/// What both need of ECS: to find tasks again.
pub trait FindTasks {
    /// Every live task of this fleet: ListTasks, all pages, then DescribeTasks with TAGS.
    fn live_tasks(&self) -> impl Future<Output = Result<Vec<Task>, CallError>>;

    /// The live tasks of one `startedBy`: ListTasks, then DescribeTasks with TAGS when there are any.
    fn tasks_started_by(&self, started_by: &str) -> impl Future<Output = Result<Vec<Task>, CallError>>;

    /// The tasks of one `startedBy`, or all of this fleet, that have stopped, as long as ECS shows them (about an
    /// hour).
    fn ended_tasks(&self, started_by: Option<&str>) -> impl Future<Output = Result<Vec<Task>, CallError>>;

    /// Up to a hundred of this fleet's tasks, whichever ECS lists first.
    fn some_tasks(&self, which: Tasks) -> impl Future<Output = Result<Vec<Task>, CallError>>;

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
    /// StopTask. A task that is stopped already, or forgotten, is a success.
    fn stop(&self, arn: &TaskArn, reason: &str) -> impl Future<Output = Result<(), CallError>>;

    /// TagResource; whether the task was there to be tagged.
    fn tag(&self, arn: &TaskArn, tags: &[(String, String)]) -> impl Future<Output = Result<bool, CallError>>;
}
