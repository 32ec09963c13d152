//! Why a message leads to no runner, and is no error.

use std::fmt;

/// The kind of it, for counting and for looking through the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// The event's action leads to nothing.
    Action,
    /// The container minted its registration, and its runner stops by itself.
    ContainerMinted,
    /// Another message does it, or has done it.
    Duplicate,
    /// No event for this function.
    Event,
    /// The message was passed on to another job.
    Forwarded,
    /// The job has a runner, or needs none.
    Job,
    /// The labels are not this fleet's.
    Labels,
    /// The job waits no longer.
    NotQueued,
    /// GitHub has given the job up.
    Old,
    /// The owner is not served.
    Owner,
    /// The repository is public.
    Public,
    /// The repository is not served.
    Repository,
    /// Nothing is run again.
    Rerun,
    /// The runner is none that needs looking after.
    Runner,
    /// A later message of its kind is due.
    Stale,
    /// The job is not queued.
    Status,
    /// The task is gone, or says all that there is to say.
    Task,
    /// The message cannot be read.
    Unreadable,
    /// Its author needs no word.
    Word,
}

impl SkipReason {
    /// As it is in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            SkipReason::Action => "action",
            SkipReason::ContainerMinted => "container-minted",
            SkipReason::Duplicate => "duplicate",
            SkipReason::Event => "event",
            SkipReason::Forwarded => "forwarded",
            SkipReason::Job => "job",
            SkipReason::Labels => "labels",
            SkipReason::NotQueued => "not-queued",
            SkipReason::Old => "old",
            SkipReason::Owner => "owner",
            SkipReason::Public => "public",
            SkipReason::Repository => "repository",
            SkipReason::Rerun => "rerun",
            SkipReason::Runner => "runner",
            SkipReason::Stale => "stale",
            SkipReason::Status => "status",
            SkipReason::Task => "task",
            SkipReason::Unreadable => "unreadable",
            SkipReason::Word => "word",
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A skip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip {
    /// Its kind.
    pub reason: SkipReason,
    /// A sentence for the log and for GitHub's "Recent Deliveries".
    pub detail: String,
}

impl Skip {
    /// A skip.
    pub fn new(reason: SkipReason, detail: impl Into<String>) -> Self {
        Skip { reason, detail: detail.into() }
    }
}
