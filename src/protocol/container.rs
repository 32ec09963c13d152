//! The container's side where it mints for itself: whether GitHub is asked again, when the runner is given up, and what
//! its end is called. Functions of what is seen and when.

use std::time::Duration;

use crate::{error::Class, exit::ExitReason};

/// How long GitHub is asked at most. The task is paid for while it waits, and a replacement is started with
/// a delay that grows further than this.
const PATIENCE: Duration = Duration::from_secs(300);

/// The wait after the first failure; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// The longest wait of our own choosing.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How often it is looked for a job while none has come. A worker that lives for less is not seen; it starts .NET and
/// talks to GitHub before its first step and after its last, so none does.
const LOOK_FOR_JOB: Duration = Duration::from_secs(1);

/// How often once a job has come: a job's processes may be many, and nothing that is looked for is urgent.
const LOOK_AFTER_JOB: Duration = Duration::from_secs(30);

/// How long a runner may live after its job. It has a last report to make, of seconds. Some hang there
/// (actions/runner#4703), and a task is paid for until it ends.
const END_AFTER_JOB: Duration = Duration::from_secs(300);

/// What comes after a mint that failed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Next {
    /// GitHub is asked again after that time.
    Wait(Duration),
    /// It is not.
    GiveUp(ExitReason),
}

/// What to do after `failures` earlier ones and this. `chance`, from 0 to 1, keeps tasks that were started
/// together from asking together.
pub fn next(class: Class, failures: u32, elapsed: Duration, chance: f64) -> Next {
    let doubled = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST_WAIT);
    let wait = match class {
        Class::NeedsOperator | Class::Invalid => return Next::GiveUp(ExitReason::Refused),
        // GitHub's time is the least: asking earlier prolongs the limit.
        Class::RateLimited { after } => after.saturating_add(doubled.mul_f64(chance)),
        Class::Transient | Class::Unknown | Class::NoCapacity | Class::OverQuota => {
            doubled.mul_f64(0.5 + chance / 2.0)
        }
    };
    if elapsed.saturating_add(wait) > PATIENCE {
        return Next::GiveUp(ExitReason::Unavailable);
    }
    Next::Wait(wait)
}

/// What has been seen of the runner's one job. Times are since the runner's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Awaited,
    Running,
    Over { since: Duration },
}

/// The runner's job, as the looks have shown it.
#[derive(Debug, Clone, Copy)]
pub struct JobWatch {
    idle_timeout: Duration,
    job: Phase,
}

impl JobWatch {
    /// The runner has been started.
    pub fn new(idle_timeout: Duration) -> Self {
        JobWatch { idle_timeout, job: Phase::Awaited }
    }

    /// Whether a job has come.
    pub fn had_job(&self) -> bool {
        self.job != Phase::Awaited
    }

    /// How long until the next look.
    pub fn until_next_look(&self) -> Duration {
        if self.had_job() { LOOK_AFTER_JOB } else { LOOK_FOR_JOB }
    }

    /// Takes in one look, so long after the start: is a job being executed? `Some` is why the runner should end.
    ///
    /// A job that lands between a look and the signal is cancelled with the runner, and GitHub says so. DELETE of
    /// the registration would decide it without a doubt, but that needs the token, which is gone.
    pub fn look(&mut self, has_worker: bool, now: Duration) -> Option<ExitReason> {
        match self.job {
            Phase::Running if has_worker => None,
            Phase::Awaited if has_worker => {
                tracing::info!(seconds = now.as_secs(), "a job has come");
                self.job = Phase::Running;
                None
            }
            Phase::Over { .. } if has_worker => {
                self.job = Phase::Running;
                None
            }
            Phase::Running => {
                tracing::info!("the job is over");
                self.job = Phase::Over { since: now };
                None
            }
            Phase::Awaited => (now >= self.idle_timeout).then_some(ExitReason::Idle),
            Phase::Over { since } => (now.saturating_sub(since) >= END_AFTER_JOB).then_some(ExitReason::Hung),
        }
    }
}

/// Why a runner has ended that nobody asked to.
pub fn ended(code: u8, had_job: bool) -> ExitReason {
    match ExitReason::from_code(code) {
        _ if had_job => ExitReason::Ended(code),
        ExitReason::VersionDeprecated => ExitReason::VersionDeprecated,
        // Something that the script calls.
        ExitReason::NotExecutable | ExitReason::NotFound => ExitReason::CannotStart,
        _ => ExitReason::NoJob,
    }
}

/// Why a runner has ended that was asked to for this reason.
pub fn stopped(reason: ExitReason, had_job: bool) -> ExitReason {
    match (reason, had_job) {
        (ExitReason::Stopped, false) => ExitReason::NoJob,
        // The job came at the last moment, and has been cancelled with the runner.
        (ExitReason::Idle, true) => ExitReason::Stopped,
        _ => reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITED: Class = Class::RateLimited { after: Duration::from_secs(60) };

    #[test]
    fn waits_grow_and_end() {
        let seconds = Duration::from_secs_f64;
        let unavailable = Next::GiveUp(ExitReason::Unavailable);
        for (class, failures, elapsed, chance, expected) in [
            (Class::Transient, 0, 0.0, 1.0, Next::Wait(seconds(0.5))),
            (Class::Transient, 0, 0.0, 0.0, Next::Wait(seconds(0.25))),
            (Class::Unknown, 3, 10.0, 1.0, Next::Wait(seconds(4.0))),
            (Class::Transient, 6, 60.0, 1.0, Next::Wait(seconds(30.0))),
            (Class::Transient, u32::MAX, 269.0, 1.0, Next::Wait(seconds(30.0))),
            (Class::Transient, 12, 271.0, 1.0, unavailable),
            (LIMITED, 0, 0.0, 0.0, Next::Wait(seconds(60.0))),
            (LIMITED, 0, 0.0, 1.0, Next::Wait(seconds(60.5))),
            (LIMITED, 0, 241.0, 0.0, unavailable),
            (Class::RateLimited { after: Duration::MAX }, 0, 0.0, 1.0, unavailable),
            (Class::NeedsOperator, 0, 0.0, 1.0, Next::GiveUp(ExitReason::Refused)),
            (Class::Invalid, 0, 0.0, 1.0, Next::GiveUp(ExitReason::Refused)),
        ] {
            assert_eq!(
                next(class, failures, seconds(elapsed), chance),
                expected,
                "{class:?} {failures} {elapsed}"
            );
        }
    }

    /// Looks at a worker that is there in the given spans of seconds, until the runner is given up, and how
    /// many looks that took.
    fn given_up(worker: &[(u64, u64)]) -> Option<(u64, ExitReason, u32)> {
        let mut watch = JobWatch::new(Duration::from_secs(600));
        let mut now = Duration::ZERO;
        for looks in 1..10_000 {
            let second = now.as_secs();
            if let Some(reason) =
                watch.look(worker.iter().any(|&(from, to)| (from..to).contains(&second)), now)
            {
                return Some((second, reason, looks));
            }
            now += watch.until_next_look();
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

    #[test]
    fn without_a_job_only_what_explains_it_is_passed_on() {
        // 84 is runner-init's: a script's own is only a failure.
        for (code, with_job, without) in
            [(0, 0, 87), (1, 1, 87), (7, 7, 7), (84, 1, 87), (126, 126, 85), (127, 127, 85), (137, 137, 87)]
        {
            let codes = [true, false].map(|had_job| ended(code, had_job).code());
            assert_eq!(codes, [with_job, without], "{code}");
        }
    }

    #[test]
    fn a_runner_that_was_stopped_tells_whether_a_job_went_with_it() {
        use ExitReason::{Hung, Idle, NoJob, Stopped};
        for (asked, with_job, without) in
            [(Stopped, Stopped, NoJob), (Idle, Stopped, Idle), (Hung, Hung, Hung)]
        {
            assert_eq!(
                [true, false].map(|had_job| stopped(asked, had_job)),
                [with_job, without],
                "{asked:?}"
            );
        }
    }
}
