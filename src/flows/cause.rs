//! Why a runner ended, and what follows it.

use std::time::Duration;

use crate::{
    fargate::{
        stop::{Lost, Stop},
        tags::TaskTags,
    },
    ids::{Attempt, JobId, RunId, RunnerNames},
    intake::payload::Replacement,
    lambda::metric::Metric,
    ports::Task,
    protocol::{books::target, timing},
};

/// Why a task ended before its runner took a job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cause<'a> {
    /// For people.
    pub(crate) why: &'a str,
    /// How the task ended, if it has. Where the job had no part in it, no number of attempts gives the job up.
    pub(crate) stop: Option<&'a Stop>,
    /// The task.
    pub(crate) task: Option<&'a Task>,
}

impl<'a> Cause<'a> {
    /// A cause that says nothing of the installation.
    pub(crate) fn of(why: &'a str) -> Self {
        Cause { why, stop: None, task: None }
    }

    /// Runners that were started for the job before this one, and died; `None` if this one was started for another.
    pub(crate) fn failures_of(&self, job: JobId, names: &RunnerNames) -> Option<u32> {
        let Some(task) = self.task else { return Some(0) };
        let tags = TaskTags(&task.tags);
        let is_another = tags.owner(names).is_some_and(|owner| owner != job);
        (!is_another).then(|| tags.failures())
    }

    /// What a job that went with it is counted as.
    pub(crate) fn lost(&self) -> Metric {
        match self.stop.map(Stop::lost) {
            Some(Lost::Interrupted) => Metric::Interrupted,
            Some(Lost::OutOfMemory) => Metric::OutOfMemory,
            Some(Lost::Otherwise) | None => Metric::Lost,
        }
    }
}

/// The runner after that attempt.
pub(crate) fn replacement(
    job: JobId,
    attempt: Attempt,
    labels: Vec<String>,
    tags: TaskTags<'_>,
) -> Replacement {
    let next = Replacement::new(job, attempt.next(), target(tags));
    Replacement { labels, run_id: tags.run_id().map(RunId), run_attempt: tags.run_attempt(), ..next }
}

/// Before that attempt, which follows one that another job took. That is no failure of the runner's, so it does not count
/// against MAX_ATTEMPTS. But each costs one: who takes them again and again gets four an hour in the end.
pub(crate) fn delay_after_taken(attempt: Attempt) -> Duration {
    if attempt.0 <= 2 { Duration::ZERO } else { replacement_delay(attempt) }
}

/// Before that attempt, which is the second or a later one.
pub(crate) fn replacement_delay(attempt: Attempt) -> Duration {
    timing::REPLACEMENT.saturating_mul(1 << attempt.0.saturating_sub(2).min(16)).min(timing::LONGEST_DELAY)
}
