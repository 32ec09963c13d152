//! What a call of a port asks, what it may be answered, and what may become of it on the way.

use std::{task::Waker, time::Duration};

use gha_fargate_runners::{
    error::CallError,
    fargate::request::TaskRequest,
    ports::{
        Deleted, Delivery, Fetched, JobState, Minted, Registration, Rerun, Run, RunJob, RunTask, Source,
        Task, TaskArn,
    },
};

use super::{
    chance::{Odds, Point},
    runs::OfRun,
};
use crate::model::github::Scope;

/// A request.
#[derive(Clone)]
pub enum Request {
    Mint { scope: Scope, name: String, labels: Vec<String>, group: u64 },
    FindRunner(Scope, String),
    GetRunner(Scope, u64),
    ListRunners(Scope, u32),
    DeleteRunner(Scope, u64),
    GetJob { owner: String, repository: Option<String>, job: u64 },
    ListDeliveries { of: usize, before: Option<String>, failed: bool },
    Redeliver(u64),
    TasksStartedBy(String),
    Describe(TaskArn),
    RunTask(Box<TaskRequest>),
    CountTasks,
    LiveTasks,
    EndedTasks(Option<String>),
    SomeTasks { ended: bool },
    StopTask(TaskArn, String),
    TagTask(TaskArn, Vec<(String, String)>),
    Defer(Source, Duration),
    Reject { body: String, reason: String },
    Announce(String, Duration),
    PutEvents(String),
    OfRun(OfRun),
    Tell(String, Duration),
    Wait(Duration),
    GetObject(Option<String>),
}

/// An answer.
pub enum Reply {
    Minted(Minted),
    Runner(Option<Registration>),
    Runners(Vec<Registration>, bool),
    Deleted(Deleted),
    Job(Option<JobState>),
    Deliveries(Vec<Delivery>, Option<String>),
    Tasks(Vec<Task>),
    Task(Box<Option<Task>>),
    RunTask(RunTask),
    RunJob(Option<RunJob>),
    Run(Option<Run>),
    RunJobs(Option<Vec<RunJob>>),
    Rerun(Rerun),
    Count(u32),
    Tagged(bool),
    Object(Fetched),
    Done,
}

/// A call on its way.
pub struct Call {
    pub invocation: u64,
    /// As which App it is made, if it is one of GitHub.
    pub app: usize,
    pub request: Option<Request>,
    pub reply: Option<Result<Reply, CallError>>,
    pub waker: Option<Waker>,
    pub fate: u8,
    pub job: u64,
    pub point: Point,
}

/// What may become of a call, besides all going well.
pub mod fate {
    /// Refused, without effect: throttled, or a server error.
    pub const REFUSED: u8 = 1;
    /// It has its effect, and nobody hears of it.
    pub const ANSWER_LOST: u8 = 2;
    /// It never arrives, and nobody knows that.
    pub const REQUEST_LOST: u8 = 3;
    /// The process dies before the call.
    pub const DIES_BEFORE: u8 = 4;
    /// The process dies after the effect.
    pub const DIES_AFTER: u8 = 5;
    /// The process dies, and the request that it sent has its effect long after.
    pub const LATE_EFFECT: u8 = 6;
    /// The effect comes late, and the answer with it.
    pub const SLOW: u8 = 7;
    /// The effect comes at once, the answer late.
    pub const SLOW_ANSWER: u8 = 8;
    /// GitHub's secondary rate limit.
    pub const LIMITED: u8 = 9;
    /// The answer is what was there a moment ago.
    pub const LATE_COPY: u8 = 10;

    /// Throttled, and it looks like a mistake of ours.
    pub const DISGUISED: u8 = 11;

    pub fn describe(fate: u8) -> &'static str {
        match fate {
            0 => "goes well",
            REFUSED => "is refused with a server error",
            ANSWER_LOST => "has its effect, and the answer is lost",
            REQUEST_LOST => "is lost on its way",
            DIES_BEFORE => "is never made: the process dies before",
            DIES_AFTER => "has its effect, and the process dies",
            LATE_EFFECT => "is on its way when the process dies, and has its effect 40 s later",
            SLOW => "takes 9 s to have its effect",
            SLOW_ANSWER => "has its effect, and the answer takes 9 s",
            LATE_COPY => "shows what was there a minute ago",
            DISGUISED => "is throttled in disguise",
            _ => "meets a rate limit",
        }
    }
}
use fate::{ANSWER_LOST, DIES_AFTER, DIES_BEFORE, LATE_EFFECT, REFUSED, REQUEST_LOST, SLOW, SLOW_ANSWER};

/// What may become of one that changes nothing, and of one that does.
pub const READ: [Odds; 4] = [(REFUSED, 200), (DIES_BEFORE, 40), (SLOW_ANSWER, 100), (REQUEST_LOST, 50)];
pub const WRITE: [Odds; 8] = [
    (REFUSED, 200),
    (ANSWER_LOST, 150),
    (REQUEST_LOST, 60),
    (DIES_BEFORE, 40),
    (DIES_AFTER, 60),
    (LATE_EFFECT, 20),
    (SLOW, 60),
    (SLOW_ANSWER, 60),
];
impl Request {
    /// Whether the App makes it as itself, with a JWT, and not as its installation.
    pub fn by_the_app(&self) -> bool {
        matches!(self, Request::ListDeliveries { .. } | Request::Redeliver(_))
    }

    /// What decides which App makes it.
    pub fn key(&self) -> String {
        match self {
            Request::Mint { name, .. } => name.clone(),
            Request::FindRunner(_, name) => format!("?name={name}"),
            Request::GetRunner(_, id) | Request::DeleteRunner(_, id) => format!("runners/{id}"),
            Request::ListRunners(_, page) => format!("?page={page}"),
            Request::GetJob { job, .. } => format!("jobs/{job}"),
            _ => String::new(),
        }
    }

    pub fn point(&self) -> Point {
        match self {
            Request::Mint { .. } => Point::Mint,
            Request::FindRunner(..) => Point::FindRunner,
            Request::GetRunner(..) => Point::GetRunner,
            Request::ListRunners(..) => Point::ListRunners,
            Request::DeleteRunner(..) => Point::DeleteRunner,
            Request::GetJob { .. } => Point::GetJob,
            Request::ListDeliveries { .. } => Point::ListDeliveries,
            Request::Redeliver(_) => Point::Redeliver,
            Request::TasksStartedBy(_) => Point::TasksStartedBy,
            Request::Describe(_) => Point::Describe,
            Request::RunTask(_) => Point::RunTask,
            Request::CountTasks => Point::CountTasks,
            Request::LiveTasks => Point::LiveTasks,
            Request::EndedTasks(_) | Request::SomeTasks { ended: true } => Point::EndedTasks,
            Request::SomeTasks { ended: false } => Point::LiveTasks,
            Request::StopTask(..) => Point::StopTask,
            Request::TagTask(..) => Point::TagTask,
            Request::Defer(..) => Point::Defer,
            Request::Reject { .. } => Point::Reject,
            Request::Announce(..) => Point::Announce,
            Request::PutEvents(_) => Point::PutEvents,
            Request::OfRun(it) => it.point(),
            Request::Tell(..) => Point::Tell,
            Request::Wait(_) => Point::Wait,
            Request::GetObject(_) => Point::GetObject,
        }
    }
}

pub fn is_github(point: Point) -> bool {
    point as u8 <= Point::Redeliver as u8
        || matches!(point, Point::GetRun | Point::ListRunJobs | Point::Rerun)
}

pub fn is_ecs(point: Point) -> bool {
    (Point::TasksStartedBy as u8..=Point::TagTask as u8).contains(&(point as u8))
}

pub fn is_read(point: Point) -> bool {
    use Point::*;
    matches!(
        point,
        FindRunner
            | GetRunner
            | ListRunners
            | GetJob
            | ListDeliveries
            | TasksStartedBy
            | Describe
            | CountTasks
            | LiveTasks
            | EndedTasks
            | GetObject
            | GetRun
            | ListRunJobs
    )
}
