//! Everything that is counted or measured, each with its unit.

use serde::Serialize;

/// CloudWatch's units, as far as they are used.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) enum Unit {
    Count,
    Seconds,
    Milliseconds,
    None,
}

// A row says what is counted, the name, and the unit.
macro_rules! metrics {
    ($($(#[$doc:meta])+ $name:ident: $unit:ident,)+) => {
        /// What is counted or measured. A variant's name is the name that alarms, graphs and queries know it by; their
        /// order is that of a line of metrics: by unit, then by name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Metric {
            $($(#[$doc])+ $name,)+
        }

        impl Metric {
            /// As CloudWatch knows it.
            pub(super) fn name(self) -> &'static str {
                match self {
                    $(Metric::$name => stringify!($name),)+
                }
            }

            pub(super) fn unit(self) -> Unit {
                match self {
                    $(Metric::$name => Unit::$unit,)+
                }
            }
        }
    };
}

metrics! {
    /// Words to authors that were left out, since a process may write only so many in a minute.
    AuthorDropped: Count,
    /// Words to authors that did not get to their queue.
    AuthorUntold: Count,
    /// Messages that come back later, for whatever reason; those below say for which.
    Deferred: Count,
    /// Another delivery of the same job is at work.
    DeferredInFlight: Count,
    /// `MAX_RUNNERS` is reached.
    DeferredMaxRunners: Count,
    /// No capacity provider of the job's list has capacity.
    DeferredNoCapacity: Count,
    /// The code panicked.
    DeferredPanic: Count,
    /// A runner of a warm pool may take the job first.
    DeferredPool: Count,
    /// The job's class, or its repository, has as many runners as it may have.
    DeferredQuota: Count,
    /// GitHub's rate limit.
    DeferredRateLimit: Count,
    /// GitHub and ECS do not show yet what the message depends on.
    DeferredTooEarly: Count,
    /// A service did not answer, or answered that it cannot now.
    DeferredUnavailable: Count,
    /// Deliveries that were answered 503: GitHub is asked for them again.
    Failed: Count,
    /// Deliveries that were passed on to the event bus.
    Forwarded: Count,
    /// Jobs that went with their task, which Fargate Spot took back.
    Interrupted: Count,
    /// Interrupted jobs that were not run again.
    LeftToAuthor: Count,
    /// What a sweep had no time for, or failed at.
    LeftToNextSweep: Count,
    /// Jobs that went with their task, for any other reason than that Fargate Spot took it back, or its memory was used up.
    Lost: Count,
    /// What waits until somebody repairs the installation.
    NeedsOperator: Count,
    /// Jobs that went with their task, whose memory was used up.
    OutOfMemory: Count,
    /// For how many seconds runners of warm pools had waited: those that a job took, and those that were retired.
    PoolIdleSeconds: Count,
    /// Runners of warm pools that wait or are on their way, at a sweep.
    PoolSize: Count,
    /// Runners of warm pools that a job took.
    PoolTaken: Count,
    /// Messages, or requests to the webhook.
    Received: Count,
    /// Failed deliveries that GitHub was asked for again.
    Redelivered: Count,
    /// Requests that are no delivery which could be read.
    Refused: Count,
    /// Messages that went to the dead-letter queue: they can never be done, or `MAX_ATTEMPTS` were made.
    Rejected: Count,
    /// Runners that were announced in place of one that took no job, or another's.
    Replaced: Count,
    /// Interrupted jobs that GitHub was asked to run again.
    Reran: Count,
    /// Runners that nobody needed, and that were ended.
    Retired: Count,
    /// 1 where a runner group is open to more repositories than the policy serves, else 0.
    RunnerGroupTooWide: Count,
    /// By how many of GitHub's releases the oldest runner is behind.
    RunnerReleasesBehind: Count,
    /// Runners whose end is seen to, and is owed nothing.
    Settled: Count,
    /// Messages and deliveries that led to nothing.
    Skipped: Count,
    /// Runners that were started for a job.
    Started: Count,
    /// What was started, in units of 1/1024 vCPU.
    StartedCpuUnits: Count,
    /// Sweeps that saw GitHub's runners.
    Swept: Count,
    /// Jobs that were written down on the task of the runner that they have.
    Tagged: Count,
    /// Jobs of others that GitHub's runner group has let in.
    TakenByForeign: Count,
    /// Words that authors were told.
    Told: Count,
    /// Requests without a signature that fits.
    Unauthorized: Count,

    /// The age of the oldest message that is deferred, whatever for, but not by `MAX_RUNNERS`, a quota or a pool. SQS's own
    /// ApproximateAgeOfOldestMessage leaves out what was received more than three times.
    OldestDeferred: Seconds,
    /// The age of the oldest task whose runner has not come.
    OldestWaitingJob: Seconds,

    /// From when a job was created until its runner was started.
    DispatchDelay: Milliseconds,

    /// What a task is billed for: its memory by its seconds.
    GibSeconds: None,
    /// What a task is billed for: its vCPUs by its seconds.
    VcpuSeconds: None,
}
