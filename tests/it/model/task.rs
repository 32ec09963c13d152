//! A Fargate task: how it is asked for, what it is, and the sizes that there are.

use std::{collections::BTreeMap, sync::Arc};

use time::OffsetDateTime;

/// What a capacity provider has to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supply {
    Plenty,
    /// So many tasks, then dry.
    Slots(u32),
    /// Refused in `failures[]`, with HTTP 200.
    Dry,
    /// Refused with an exception that says so.
    DryByException,
    /// The account's quota is used up, which comes as an exception too.
    OverQuota,
}

/// `launchType` or `capacityProviderStrategy`, never both.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Launch {
    Type(String),
    Provider(String),
}

impl Launch {
    /// The capacity that it draws on.
    pub fn provider(&self) -> &str {
        match self {
            Launch::Type(name) | Launch::Provider(name) => name,
        }
    }
}

/// A RunTask request, `count` 1.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RunTask {
    pub cluster: String,
    pub task_definition: String,
    pub client_token: Option<String>,
    pub started_by: String,
    pub launch: Launch,
    pub container: Option<String>,
    pub environment: Vec<(String, String)>,
    pub cpu: Option<u32>,
    pub memory: Option<u32>,
    pub disk: Option<u32>,
    pub tags: Vec<(String, String)>,
    pub subnets: Vec<String>,
    pub security_groups: Vec<String>,
    pub public_ip: bool,
}

/// A ListTasks request.
#[derive(Debug, Clone, Copy)]
pub struct ListTasks<'a> {
    pub cluster: &'a str,
    pub started_by: Option<&'a str>,
    /// Of desired status STOPPED, not RUNNING.
    pub stopped: bool,
    /// Only those of higher numbers.
    pub after: u64,
    pub limit: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The number of the task: see [`Ecs::arn`].
    Started(u64),
    /// `failures[]`: ARN and reason.
    Refused(String, String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    Pending,
    Running,
    Deprovisioning,
    Stopped,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Pending => "PENDING",
            Status::Running => "RUNNING",
            Status::Deprovisioning => "DEPROVISIONING",
            Status::Stopped => "STOPPED",
        }
    }
}

#[derive(Clone)]
pub struct Task {
    pub number: u64,
    pub arn: String,
    pub cluster: Arc<str>,
    /// family:revision.
    pub definition: String,
    pub launch: Launch,
    /// ECS shows it to nobody.
    pub client_token: Option<String>,
    pub started_by: String,
    /// The definition's containers beside the one that has the overrides.
    pub beside: Vec<String>,
    pub environment: Arc<BTreeMap<String, String>>,
    pub cpu: Option<u32>,
    pub memory: Option<u32>,
    pub disk: Option<u32>,
    pub tags: Arc<BTreeMap<String, String>>,
    pub subnets: Vec<String>,
    pub security_groups: Vec<String>,
    pub public_ip: bool,
    pub status: Status,
    pub desired_stopped: bool,
    pub created_at: OffsetDateTime,
    /// ListTasks shows it from then on.
    pub listed_from: OffsetDateTime,
    pub started_at: Option<OffsetDateTime>,
    /// When its container got its SIGTERM, if that was long before.
    pub stopping_at: Option<OffsetDateTime>,
    pub stopped_at: Option<OffsetDateTime>,
    /// `EssentialContainerExited`, `TaskFailedToStart`, `SpotInterruption`, `UserInitiated`, …
    pub stop_code: Option<String>,
    pub stopped_reason: Option<String>,
    pub exit_code: Option<i32>,
}

impl Task {
    /// From the pull of its image, which begins at once here, to its end: what it is billed for.
    pub fn usage(&self) -> Option<(OffsetDateTime, OffsetDateTime)> {
        self.started_at.and(Some(self.created_at)).zip(self.stopped_at)
    }

    /// Its containers and their exit codes, in an order that means nothing. All beside the runner's end well.
    pub fn containers(&self) -> impl Iterator<Item = (&str, Option<i32>)> {
        let has_run = self.started_at.and(self.stopped_at).map(|_| 0);
        let beside = self.beside.iter().map(move |name| (name.as_str(), has_run));
        beside.chain(std::iter::once(("runner", self.exit_code)))
    }

    /// Not stopped, and not asked to stop.
    pub fn is_live(&self) -> bool {
        !self.desired_stopped
    }
}

/// "Task CPU and memory", Amazon ECS Developer Guide. Written out here again, on purpose: the world does
/// not take the program's word for it.
pub fn fargate_has(cpu: Option<u32>, memory: Option<u32>) -> bool {
    let (Some(cpu), Some(memory)) = (cpu, memory) else { return cpu.is_none() && memory.is_none() };
    let gib = memory / 1024;
    match cpu {
        256 => [512, 1024, 2048].contains(&memory),
        512 => memory % 1024 == 0 && (1..=4).contains(&gib),
        1024 => memory % 1024 == 0 && (2..=8).contains(&gib),
        2048 => memory % 1024 == 0 && (4..=16).contains(&gib),
        4096 => memory % 1024 == 0 && (8..=30).contains(&gib),
        8192 => memory % 4096 == 0 && (16..=60).contains(&gib),
        16384 => memory % 8192 == 0 && (32..=120).contains(&gib),
        _ => false,
    }
}
