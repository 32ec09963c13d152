//! What is seen of a runner: registration × task, one word.

use crate::ports::Registration;

/// What GitHub shows of the registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reg {
    /// There is none: never made, spent by a job, or deleted.
    Gone,
    /// There, and no runner holds a connection.
    Offline,
    /// A runner holds a connection and runs nothing.
    Online,
    /// A runner runs a job.
    Busy,
    /// Its container minted it: not to be seen from here.
    Hidden,
    /// Its container minted it, or never came to that, and no job ran on it: as far as ECS alone tells.
    Unused,
}

/// What ECS shows of the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaskState {
    /// Nothing, or nobody looked.
    Unseen,
    /// Not stopped, and not asked to stop.
    Live,
    /// Stopped, and no job is known to have run on it.
    Ended,
}

/// Where a runner is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Life {
    /// Between mint and RunTask, or a crash there.
    Minted,
    /// The task is on its way, or its runner never connected.
    Starting,
    /// It waits for a job.
    Waiting,
    /// It runs one.
    Busy,
    /// Its registration is spent, and its task should go.
    Spent,
    /// Its task ended before it took a job.
    Dead,
    /// Its task ended while it ran one.
    Lost,
    /// Its registration is spent and its task over, and nobody told which job ran on it.
    Astray,
    /// GitHub sees a runner that ECS does not show (yet, or any more).
    Blurred,
    /// Its task lives, and what its container minted is not to be seen from here.
    Hidden,
    /// The same of one that is over, or does not start: no job is known to have run on it.
    Unused,
    /// Nothing is left of it.
    Over,
}

/// The word for what is seen.
pub fn life(registration: Reg, task: TaskState) -> Life {
    match (registration, task) {
        (Reg::Gone, TaskState::Unseen) | (Reg::Hidden, TaskState::Unseen | TaskState::Ended) => Life::Over,
        (Reg::Gone, TaskState::Live) => Life::Spent,
        (Reg::Gone, TaskState::Ended) => Life::Astray,
        (Reg::Offline, TaskState::Unseen) => Life::Minted,
        (Reg::Offline, TaskState::Live) => Life::Starting,
        (Reg::Online, TaskState::Live) => Life::Waiting,
        (Reg::Busy, TaskState::Live) => Life::Busy,
        (Reg::Offline | Reg::Online, TaskState::Ended) => Life::Dead,
        (Reg::Busy, TaskState::Ended) => Life::Lost,
        (Reg::Online | Reg::Busy, TaskState::Unseen) => Life::Blurred,
        (Reg::Hidden, TaskState::Live) => Life::Hidden,
        (Reg::Unused, _) => Life::Unused,
    }
}

/// What GitHub shows of a registration.
pub fn reg(registration: Option<&Registration>) -> Reg {
    match registration {
        None => Reg::Gone,
        Some(it) if it.busy => Reg::Busy,
        Some(it) if it.online => Reg::Online,
        Some(_) => Reg::Offline,
    }
}
