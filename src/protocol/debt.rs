//! Who is owed a runner? GitHub may give job A to the runner that was started for job B. Then A's own runner is
//! owed to B, if B has not got C's, and so on: a debt is what is left at the end of that chain.

use time::OffsetDateTime;

use crate::{
    ids::{Purpose, RunnerNames},
    ports::{JobState, JobStatus},
    protocol::timing,
};

/// What GitHub says of one job: one link of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// It is queued.
    Waits,
    /// It runs, or ran, on this runner of ours.
    Got {
        /// The runner.
        runner: Purpose,
        /// Whether the job is over.
        over: bool,
        /// When it began.
        since: Option<OffsetDateTime>,
    },
    /// A deployment protection rule holds it back: GitHub queues it when that is satisfied.
    HeldBack,
    /// No runner is owed to it, for this reason.
    NotOwed(&'static str),
    /// It runs, and GitHub does not say yet on which runner.
    Unsettled,
    /// GitHub does not show it, or says nothing that is known here.
    Unsaid,
}

/// Reads one link. `state` is `None` when GitHub shows no such job, or we may not see it. `asked_at`: when a runner was asked
/// for, if that is known: a job that was approved after days is as old as it was, and has just been queued.
pub fn link(
    state: Option<&JobState>,
    names: &RunnerNames,
    asked_at: Option<OffsetDateTime>,
    now: OffsetDateTime,
) -> Link {
    let Some(state) = state else { return Link::Unsaid };
    match (state.status, state.runner_name.as_deref()) {
        (JobStatus::Queued, _) => match state.since.max(asked_at) {
            Some(since) if now - since > timing::FORGOTTEN => {
                Link::NotOwed("the job waits for longer than a day: GitHub has given it up")
            }
            _ => Link::Waits,
        },
        (JobStatus::Pending | JobStatus::Unknown, _) => Link::Unsaid,
        (JobStatus::Waiting, _) => Link::HeldBack,
        (JobStatus::InProgress, None) => Link::Unsettled,
        (JobStatus::Completed, None) => Link::NotOwed("the job ended without ever running"),
        (JobStatus::InProgress | JobStatus::Completed, Some(runner)) => match names.read(runner) {
            Some(runner) => {
                Link::Got { runner, over: state.status == JobStatus::Completed, since: state.since }
            }
            None => Link::NotOwed("the job runs, or ran, on a runner of another fleet"),
        },
    }
}

/// Who the runner of a job is owed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owed {
    /// To the job itself, which is queued.
    ToTheJob,
    /// To another job, which is queued: this one took a runner, and at the end of the chain that one has none.
    ToAnother,
    /// To another job, perhaps: this one took a runner of other labels, which its own could not stand in for, and nobody
    /// has told of that.
    Unheard,
    /// To somebody, perhaps: GitHub does not show the job itself. When in doubt, start: a runner too many is retired
    /// by the sweep, a runner too few is a lost job.
    Unsaid,
    /// To another job, perhaps: the chain ends in one that GitHub does not show, or in none that is clear yet.
    Unclear,
    /// The same: this one took a runner, and the chain goes on for longer than was asked.
    TooFar,
    /// To nobody until it is approved, and then GitHub sends an event.
    HeldBack,
    /// To nobody, for this reason.
    ToNobody(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Attempt, JobId};

    #[test]
    fn links() {
        use JobStatus::*;
        let on = |job, attempt, over| Link::Got {
            runner: Purpose::Job(JobId(job), Attempt(attempt)),
            over,
            since: None,
        };
        let over = Link::NotOwed("the job ended without ever running");
        let foreign = Link::NotOwed("the job runs, or ran, on a runner of another fleet");
        let table = [
            (Queued, None, Link::Waits),
            (Pending, None, Link::Unsaid),
            (Unknown, None, Link::Unsaid),
            (Unknown, Some("fargate-1-1"), Link::Unsaid),
            (Waiting, None, Link::HeldBack),
            (InProgress, None, Link::Unsettled),
            (InProgress, Some("fargate-1-1"), on(1, 1, false)),
            (InProgress, Some("GitHub Actions 3"), foreign),
            (Completed, None, over),
            (Completed, Some("fargate-2-3"), on(2, 3, true)),
        ];
        let (names, now) = (RunnerNames::default(), OffsetDateTime::UNIX_EPOCH);
        for (status, runner, want) in table {
            let state = JobState {
                status,
                runner_name: runner.map(str::to_owned),
                labels: vec![],
                succeeded: false,
                since: None,
                created_at: None,
                run: None,
            };
            assert_eq!(link(Some(&state), &names, None, now), want, "{status:?} on {runner:?}");
        }
        assert_eq!(link(None, &names, None, now), Link::Unsaid);
    }

    #[test]
    fn a_job_that_is_queued_for_longer_than_a_day_waits_for_nobody() {
        let (names, since) = (RunnerNames::default(), OffsetDateTime::UNIX_EPOCH);
        let state = JobState {
            status: JobStatus::Queued,
            runner_name: None,
            labels: vec![],
            succeeded: false,
            since: Some(since),
            created_at: None,
            run: None,
        };
        let at = |hours| since + time::Duration::hours(hours);
        for (now, asked, waits) in [
            (24, None, true),
            (25, None, false),
            (25, Some(0), false),
            // It was held back until then.
            (73, Some(72), true),
            (97, Some(72), false),
        ] {
            let link = link(Some(&state), &names, asked.map(at), at(now));
            assert_eq!(link == Link::Waits, waits, "asked for after {asked:?} h, {now} h: {link:?}");
        }
    }
}
