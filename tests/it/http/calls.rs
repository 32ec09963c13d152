//! What was asked of the world: every call with its outcome, and every request that the real services would
//! not have taken.

use std::fmt;

/// The operations that the world knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    RunTask,
    ListTasks,
    DescribeTasks,
    DescribeClusters,
    TagResource,
    StopTask,
    SendMessage,
    ReceiveMessage,
    DeleteMessage,
    ChangeMessageVisibility,
    GetSecretValue,
    PutEvents,
    GetObject,
    /// `POST {scope}/actions/runners/generate-jitconfig`.
    Mint,
    /// `GET {scope}/actions/runners`.
    ListRunners,
    ListDownloads,
    /// `GET {scope}/actions/runners?name=…`.
    FindRunner,
    /// `GET {scope}/actions/runners/{id}`.
    GetRunner,
    /// `DELETE {scope}/actions/runners/{id}`.
    DeleteRunner,
    /// `GET /repos/{owner}/{repo}/actions/jobs/{id}`.
    GetJob,
    /// `POST /app/installations/{id}/access_tokens`.
    AccessToken,
    /// `GET /orgs/{org}/installation` and its like.
    FindInstallation,
    /// `GET /app/hook/deliveries`.
    ListDeliveries,
    /// `POST /app/hook/deliveries/{id}/attempts`.
    Redeliver,
    /// `POST /app-manifests/{code}/conversions`.
    Convert,
    /// `GET /app`.
    GetApp,
    /// `GET /app/installations`.
    ListInstallations,
    /// `GET /app/hook/config`.
    GetHook,
    /// `PATCH /app/hook/config`.
    SetHook,
    /// `GET /orgs/{org}` or `GET /users/{user}`.
    GetAccount,
    /// `GET /orgs/{org}/actions/runner-groups/{id}`.
    GetGroup,
    /// `GET /orgs/{org}/actions/runner-groups`.
    ListGroups,
    /// `GET /orgs/{org}/actions/runner-groups/{id}/repositories`.
    ListGroup,
    /// `GET /rate_limit`.
    GetAllowance,
    /// `GET /repos/{owner}/{repo}/actions/runs/{id}`.
    GetRun,
    /// `GET /repos/{owner}/{repo}/actions/runs/{id}/attempts/{n}/jobs`.
    ListJobs,
    /// `POST /repos/{owner}/{repo}/actions/runs/{id}/rerun-failed-jobs`.
    RerunFailed,
    /// `POST /repos/{owner}/{repo}/actions/jobs/{id}/rerun`.
    RerunJob,
    /// `GET /repos/{owner}/{repo}/commits/{sha}/check-runs`.
    FindCheck,
    /// `POST /repos/{owner}/{repo}/check-runs`.
    CreateCheck,
    /// `PATCH /repos/{owner}/{repo}/check-runs/{id}`.
    UpdateCheck,
    /// `POST /repos/{owner}/{repo}/statuses/{sha}`.
    CreateStatus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    Ecs,
    Sqs,
    SecretsManager,
    EventBridge,
    S3,
    Github,
}

impl Op {
    pub fn service(self) -> Service {
        use Op::*;
        match self {
            RunTask | ListTasks | DescribeTasks | DescribeClusters | TagResource | StopTask => Service::Ecs,
            SendMessage | ReceiveMessage | DeleteMessage | ChangeMessageVisibility => Service::Sqs,
            GetSecretValue => Service::SecretsManager,
            PutEvents => Service::EventBridge,
            GetObject => Service::S3,
            _ => Service::Github,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Op::Mint => "generate-jitconfig",
            Op::ListRunners => "list runners",
            Op::ListDownloads => "list downloads",
            Op::FindRunner => "find runner",
            Op::GetRunner => "get runner",
            Op::DeleteRunner => "delete runner",
            Op::GetJob => "get job",
            Op::AccessToken => "access token",
            Op::FindInstallation => "find installation",
            Op::ListDeliveries => "list deliveries",
            Op::Redeliver => "redeliver",
            Op::Convert => "convert manifest",
            Op::GetApp => "get App",
            Op::ListInstallations => "list installations",
            Op::GetHook => "get webhook",
            Op::SetHook => "set webhook",
            Op::GetAccount => "get account",
            Op::GetGroup => "get runner group",
            Op::ListGroups => "list runner groups",
            Op::ListGroup => "list runner group",
            Op::GetAllowance => "get allowance",
            Op::GetRun => "get run",
            Op::ListJobs => "list jobs",
            Op::RerunFailed => "re-run failed jobs",
            Op::RerunJob => "re-run job",
            Op::FindCheck => "find check",
            Op::CreateCheck => "create check",
            Op::UpdateCheck => "update check",
            Op::CreateStatus => "create status",
            aws => return fmt::Debug::fmt(aws, f),
        })
    }
}

/// One call: `RunTask 42-1 FARGATE_SPOT → task 1`. Nothing secret is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub op: Op,
    /// The parameters that tell one call from another.
    pub what: String,
    /// What became of it; empty while it is being answered.
    pub outcome: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} → {}", self.op, self.what, self.outcome)
    }
}

/// Calls in the order of their arrival. Prints one line each, for inline snapshots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Calls(pub Vec<Call>);

impl Calls {
    pub fn count(&self, op: Op) -> usize {
        self.of(op).count()
    }

    pub fn of(&self, op: Op) -> impl Iterator<Item = &Call> {
        self.0.iter().filter(move |call| call.op == op)
    }

    /// Those of one service only.
    pub fn to(&self, service: Service) -> Calls {
        Calls(self.0.iter().filter(|call| call.op.service() == service).cloned().collect())
    }

    /// `2 generate-jitconfig, 2 RunTask`.
    pub fn tally(&self) -> String {
        let mut ops: Vec<Op> = Vec::new();
        for call in &self.0 {
            if !ops.contains(&call.op) {
                ops.push(call.op);
            }
        }
        let counts: Vec<String> = ops.iter().map(|op| format!("{} {op}", self.count(*op))).collect();
        counts.join(", ")
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|call| writeln!(f, "{call}"))
    }
}

/// The log of one world.
#[derive(Default)]
pub struct Log {
    pub calls: Vec<Call>,
    pub violations: Vec<String>,
    /// GitHub calls ever, forgotten ones too.
    pub github_calls: usize,
    /// Connections that were opened.
    pub connections: usize,
}
