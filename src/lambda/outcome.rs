//! What became of a message, and when it is to come back if it is not done.

use std::time::Duration;

use crate::{
    error::{CallError, Class},
    fargate::usage::Usage,
    ids::{JobId, fnv1a},
    intake::{
        payload::Job,
        skip::{Skip, SkipReason},
    },
    lambda::metric::Metric,
    ports::{Started, TaskArn},
    protocol::timing,
};

/// What became of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done: a task was started, or what became of a runner is seen to.
    Done(Done),
    /// Nothing to do: acknowledged and counted.
    Skipped(Skip),
    /// It can never be done: goes to the dead-letter queue, and is acknowledged.
    Rejected(Rejection),
    /// Not now: stays on the queue and comes back.
    Deferred(Deferral),
}

impl Outcome {
    /// Nothing to do, for that reason; `detail` is for the log.
    pub fn skipped(reason: SkipReason, detail: impl Into<String>) -> Outcome {
        Outcome::Skipped(Skip::new(reason, detail))
    }

    /// Never, for that reason, which says how to mend it.
    pub fn rejected(reason: impl Into<String>) -> Outcome {
        Outcome::Rejected(Rejection { reason: reason.into(), letter: None })
    }

    /// Not now, but after that wait; `detail` is for the log.
    pub fn deferred(reason: Reason, wait: Wait, detail: impl Into<String>) -> Outcome {
        Outcome::Deferred(Deferral { reason, wait, detail: detail.into() })
    }
}

/// Why a message can never be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// What is wrong, and how to mend it.
    pub reason: String,
    /// What goes to the dead-letter queue: sent to the job queue again, it is to be done. `None`: the message itself.
    pub letter: Option<String>,
}

/// What became of one message, and whose it was, as far as it could be read.
#[derive(Debug)]
pub struct Handled {
    /// The job.
    pub job: Option<Job>,
    /// What became of it.
    pub outcome: Outcome,
    /// What the job's author is told, once that is settled: best effort.
    pub notice: Option<String>,
}

impl Handled {
    /// Nobody is told, and no job is known yet.
    pub fn new(outcome: impl Into<Outcome>) -> Handled {
        Handled { job: None, outcome: outcome.into(), notice: None }
    }

    /// It was that job's.
    pub fn of(self, job: Job) -> Handled {
        Handled { job: Some(job), ..self }
    }
}

/// What was done, for the log line and the metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The metrics that it counts for, e.g. one `Started`.
    pub counts: Vec<(Metric, u64)>,
    /// The age of the oldest task whose runner has not come, where one looked.
    pub oldest_waiting: Option<time::Duration>,
    /// A sentence for the log.
    pub detail: String,
    /// The task that it was done to.
    pub task: Option<TaskArn>,
    /// What was started, if that is what was done.
    pub started: Option<Box<Started>>,
    /// What the task has used, if it has ended.
    pub used: Option<Box<Used>>,
}

/// What a task has used, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// The task.
    pub task: TaskArn,
    /// What it is billed for.
    pub usage: Usage,
    /// Where the job is from that it ran, or else the one that it was started for: `owner/name`, or an owner.
    pub repository: Option<String>,
    /// The runner's class, if there are some.
    pub class: Option<String>,
    /// The job that it ran; `None`: it is not known to have run one.
    pub job: Option<JobId>,
}

impl Done {
    /// Done once, counted as `metric`.
    pub fn new(metric: Metric, detail: impl Into<String>) -> Self {
        Done::counted(metric, 1, detail)
    }

    /// Done so often.
    pub fn counted(metric: Metric, count: u64, detail: impl Into<String>) -> Self {
        Done::nothing(detail).and(metric, count)
    }

    /// Nothing was done, and nothing is counted.
    pub fn nothing(detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Done { counts: Vec::new(), oldest_waiting: None, detail, task: None, started: None, used: None }
    }

    /// And so much more is counted as `metric`.
    pub fn and(mut self, metric: Metric, count: u64) -> Self {
        self.counts.push((metric, count));
        self
    }

    /// Done to this task.
    pub fn with_task(self, task: TaskArn) -> Self {
        Done { task: Some(task), ..self }
    }

    /// A runner was started; its vCPUs, in units of 1/1024, are counted too.
    pub fn started(detail: impl Into<String>, started: Started) -> Self {
        let units = started.size.map_or(0, |size| u64::from(size.cpu));
        let done = Done::new(Metric::Started, detail).and(Metric::StartedCpuUnits, units);
        Done { started: Some(Box::new(started.clone())), ..done.with_task(started.arn) }
    }

    /// And that is what its task has used.
    pub fn with_usage(self, used: Option<Used>) -> Self {
        Done { used: used.map(Box::new), ..self }
    }

    /// How often it counts for that metric.
    pub(crate) fn count(&self, metric: Metric) -> u64 {
        self.counts.iter().filter(|(counted, _)| *counted == metric).map(|(_, count)| count).sum()
    }

    /// The first metric, which names what was done; `None`: nothing was.
    pub fn what(&self) -> Option<Metric> {
        self.counts.first().map(|(metric, _)| *metric)
    }
}

impl From<Done> for Outcome {
    fn from(done: Done) -> Outcome {
        Outcome::Done(done)
    }
}

/// Why a message is not done yet, and when it comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deferral {
    /// For counting.
    pub reason: Reason,
    /// When.
    pub wait: Wait,
    /// A sentence for the log: what happened, and how to mend it.
    pub detail: String,
}

/// Why messages are deferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// GitHub's rate limit.
    RateLimit,
    /// A service did not answer, or answered that it cannot now.
    Unavailable,
    /// No capacity provider of the job's list has capacity.
    NoCapacity,
    /// `MAX_RUNNERS` is reached.
    MaxRunners,
    /// The job's class, or its repository, has as many runners as it may have.
    Quota,
    /// A runner of a warm pool may take it first.
    Pool,
    /// Another delivery of the same job is at work.
    InFlight,
    /// GitHub and ECS do not show yet what it depends on.
    TooEarly,
    /// Somebody has to repair the installation.
    NeedsOperator,
    /// The code panicked: a bug.
    Panic,
}

impl Reason {
    /// What it is counted as.
    pub fn metric(self) -> Metric {
        match self {
            Reason::RateLimit => Metric::DeferredRateLimit,
            Reason::Unavailable => Metric::DeferredUnavailable,
            Reason::NoCapacity => Metric::DeferredNoCapacity,
            Reason::MaxRunners => Metric::DeferredMaxRunners,
            Reason::Quota => Metric::DeferredQuota,
            Reason::Pool => Metric::DeferredPool,
            Reason::InFlight => Metric::DeferredInFlight,
            Reason::TooEarly => Metric::DeferredTooEarly,
            Reason::NeedsOperator => Metric::NeedsOperator,
            Reason::Panic => Metric::DeferredPanic,
        }
    }
}

/// When a deferred message comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// After 5 seconds, doubled with every receive, up to 15 minutes.
    Backoff,
    /// As [`Wait::Backoff`], but never longer than that: there may be room again at any moment.
    BackoffUpTo(Duration),
    /// After minutes: somebody has to repair something first.
    Slowly,
    /// As long as GitHub said, or as the protocol wants.
    For(Duration),
    /// After that time, or up to twice as long: nothing is asked of anybody meanwhile.
    About(Duration),
}

const FIRST: Duration = Duration::from_secs(5);
const SLOWEST: Duration = Duration::from_secs(15 * 60);
const SLOWLY: Duration = Duration::from_secs(3 * 60);
/// "The maximum is 43200 seconds (12 hours)" from the receive (SQS, ChangeMessageVisibility); a little less,
/// since some of it is spent already.
const LONGEST: Duration = Duration::from_secs(43_200 - 300);
/// A message may come so often sooner than [`RARELY`].
const OFTEN: u32 = 100;
/// With so much between two receives, the others take as long as the queue keeps a message: none ends in the dead-letter queue
/// for having waited.
const RARELY: Duration = Duration::from_secs(100);
const _: () = assert!((timing::MOST_RECEIVES - OFTEN) as u64 * RARELY.as_secs() > timing::KEPT.as_secs());

impl Wait {
    /// The delay before the message is visible again. `receives` counts from 1. The jitter spreads messages
    /// that failed together; it comes from the message's id and not from chance, so that the same history
    /// always goes the same way.
    pub fn delay(self, receives: u32, message_id: &str) -> Duration {
        let doubled = |first: Duration| {
            let doublings = receives.saturating_sub(1).min(16);
            first.saturating_mul(1 << doublings).min(SLOWEST)
        };
        let spread = |most: Duration, share: f64| most.mul_f64(1.0 - share * jitter(message_id, receives));
        let delay = match self {
            Wait::Backoff => spread(doubled(FIRST), 0.5).max(FIRST),
            Wait::BackoffUpTo(most) => spread(doubled(FIRST).min(most), 0.5).max(FIRST),
            Wait::Slowly => spread(doubled(SLOWLY), 0.2),
            Wait::About(time) => time.mul_f64(1.0 + jitter(message_id, receives)),
            // Never earlier than asked for.
            Wait::For(asked) => {
                // The more often it came in vain, the wider it is spread: what waits for a rate limit must not
                // come back all at once.
                asked.saturating_add(doubled(FIRST).mul_f64(jitter(message_id, receives))).min(LONGEST)
            }
        };
        match receives > OFTEN && delay < RARELY {
            true => RARELY.mul_f64(1.0 + jitter(message_id, receives) / 2.0),
            false => delay,
        }
    }
}

/// 0.0 to 1.0, spread evenly over message ids and receives (FNV-1a, with a finish that mixes the low bits up).
fn jitter(message_id: &str, receives: u32) -> f64 {
    let hash = fnv1a(message_id.bytes().chain(receives.to_le_bytes()));
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (mixed >> 40) as f64 / (1u64 << 24) as f64
}

impl From<CallError> for Outcome {
    /// The class of the error decides; its text is for the log alone.
    fn from(error: CallError) -> Outcome {
        let (reason, wait) = match error.class {
            Class::Invalid => return Outcome::rejected(error.message),
            Class::Transient | Class::Unknown => (Reason::Unavailable, Wait::Backoff),
            Class::RateLimited { after } => (Reason::RateLimit, Wait::For(after)),
            Class::NoCapacity => (Reason::NoCapacity, Wait::Backoff),
            Class::NeedsOperator | Class::OverQuota => (Reason::NeedsOperator, Wait::Slowly),
        };
        Outcome::deferred(reason, wait, error.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn backoff_is_between_five_seconds_and_fifteen_minutes(receives: u32, id in ".{0,40}") {
            for wait in [Wait::Backoff, Wait::Slowly, Wait::BackoffUpTo(SLOWLY)] {
                let delay = wait.delay(receives, &id);
                prop_assert!((FIRST..=SLOWEST).contains(&delay), "{delay:?}");
            }
            prop_assert_eq!(Wait::Backoff.delay(receives, &id), Wait::Backoff.delay(receives, &id));
        }

        #[test]
        fn never_earlier_than_asked_and_never_more_than_sqs_takes(seconds in 0u64..100_000) {
            let asked = Duration::from_secs(seconds);
            let delay = Wait::For(asked).delay(1, "id");
            prop_assert!(delay >= asked.min(LONGEST) && delay <= LONGEST);
        }
    }

    /// SQS counts receives and not hours.
    #[test]
    fn whatever_a_message_waits_for_it_outlives_its_queue() {
        let waits = [
            Wait::Backoff,
            Wait::BackoffUpTo(FIRST),
            Wait::BackoffUpTo(Duration::from_secs(60)),
            Wait::Slowly,
            Wait::For(Duration::ZERO),
            Wait::About(Duration::from_secs(2)),
        ];
        for (wait, id) in
            waits.into_iter().flat_map(|wait| (0..20).map(move |id| (wait, format!("message-{id}"))))
        {
            let all: Duration = (1..=timing::MOST_RECEIVES).map(|receives| wait.delay(receives, &id)).sum();
            assert!(all > timing::KEPT, "{wait:?}: redriven after {all:?}");
        }
    }

    #[test]
    fn backoff_grows_and_spreads() {
        let delay = |receives| Wait::Backoff.delay(receives, "id");
        assert!(delay(20) > delay(6) && delay(6) > delay(1));
        let delays: std::collections::BTreeSet<_> =
            (0..100).map(|id| Wait::Backoff.delay(8, &format!("message-{id}"))).collect();
        assert!(delays.len() > 90, "only {} different delays", delays.len());
    }
}
