//! When a runner is given up: no job comes, or it does not end after its job. A function of what is seen and when.

use std::time::Duration;

use tokio::time::Instant;

use crate::exit::ExitReason;

/// How often `/proc` is read while no job has come. A worker that lives for less is not seen; it starts .NET and
/// talks to GitHub before its first step and after its last, so none does.
const LOOK_FOR_JOB: Duration = Duration::from_secs(1);

/// How often once a job has come: a job's processes may be many, and nothing that is looked for is urgent.
const LOOK_AFTER_JOB: Duration = Duration::from_secs(30);

/// How long a runner may live after its job. It has a last report to make, of seconds. Some hang there
/// (actions/runner#4703), and a task is paid for until it ends.
const END_AFTER_JOB: Duration = Duration::from_secs(300);

/// What has been seen of the runner's one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    Awaited { since: Instant },
    Running,
    Over { since: Instant },
}

/// The runner's job, as the looks have shown it.
pub(super) struct Watch {
    idle_timeout: Duration,
    job: Job,
}

impl Watch {
    pub(super) fn new(idle_timeout: Duration, now: Instant) -> Self {
        Watch { idle_timeout, job: Job::Awaited { since: now } }
    }

    /// Whether a job has come.
    pub(super) fn had_job(&self) -> bool {
        !matches!(self.job, Job::Awaited { .. })
    }

    /// When to look again.
    pub(super) fn next_look(&self, now: Instant) -> Instant {
        now + if self.had_job() { LOOK_AFTER_JOB } else { LOOK_FOR_JOB }
    }

    /// Takes in one look: is a job being executed? `Some` is why the runner should end.
    ///
    /// A job that lands between a look and the signal is cancelled with the runner, and GitHub says so. DELETE of
    /// the registration would decide it without a doubt, but that needs the token, which is gone.
    pub(super) fn look(&mut self, has_worker: bool, now: Instant) -> Option<ExitReason> {
        match self.job {
            Job::Running if has_worker => None,
            Job::Awaited { since } if has_worker => {
                tracing::info!(seconds = (now - since).as_secs(), "a job has come");
                self.job = Job::Running;
                None
            }
            Job::Over { .. } if has_worker => {
                self.job = Job::Running;
                None
            }
            Job::Running => {
                tracing::info!("the job is over");
                self.job = Job::Over { since: now };
                None
            }
            Job::Awaited { since } => (now - since >= self.idle_timeout).then_some(ExitReason::Idle),
            Job::Over { since } => (now - since >= END_AFTER_JOB).then_some(ExitReason::Hung),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at a worker that is there in the given spans of seconds, until the runner is given up, and how
    /// many looks that took.
    fn given_up(worker: &[(u64, u64)]) -> Option<(u64, ExitReason, u32)> {
        let start = Instant::now();
        let mut watch = Watch::new(Duration::from_secs(600), start);
        let mut now = start;
        for looks in 1..10_000 {
            let second = (now - start).as_secs();
            if let Some(reason) =
                watch.look(worker.iter().any(|&(from, to)| (from..to).contains(&second)), now)
            {
                return Some((second, reason, looks));
            }
            now = watch.next_look(now);
        }
        None
    }

    #[test]
    fn no_job_for_ten_minutes_or_none_to_follow_for_five() {
        for (worker, expected) in [
            (&[][..], Some((600, ExitReason::Idle, 601))),
            (&[(599, 700)], Some((1019, ExitReason::Hung, 614))),
            (&[(0, 1)], Some((330, ExitReason::Hung, 12))),
            // A look that missed it is made up for by the next one.
            (&[(10, 100), (130, 1000)], Some((1300, ExitReason::Hung, 54))),
            // A job may take as long as it likes: five days are GitHub's limit.
            (&[(10, u64::MAX)], None),
        ] {
            assert_eq!(given_up(worker), expected, "{worker:?}");
        }
    }
}
