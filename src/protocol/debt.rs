//! Is a runner still owed? GitHub may give job A to the runner that was started for job B of the same labels.
//! Then A's own runner is owed to B: debts are counted by registrations, not by which job ran where.

use crate::{
    ids::{JobId, Purpose},
    ports::{JobState, JobStatus},
};

/// Whether the runner that is to be started for a job (or was, and died) is owed to anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Debt {
    /// To the job itself, which is queued.
    ToTheJob,
    /// To another job: this one runs, or ran, on a runner that was started for that other one.
    ToAnother,
    /// To somebody, perhaps: GitHub does not say. When in doubt, start: a runner too many is retired by the
    /// sweep, a runner too few is a lost job.
    Unknown,
    /// To nobody, for this reason.
    ToNobody(&'static str),
}

impl Debt {
    /// Whether a runner is to be started.
    pub fn is_owed(self) -> bool {
        !matches!(self, Debt::ToNobody(_))
    }
}

/// Who the runner of `job` is owed to, given what GitHub says of that job (`None`: it shows no such job, or
/// we may not see it).
pub fn debt(job: JobId, state: Option<&JobState>) -> Debt {
    let Some(state) = state else { return Debt::Unknown };
    match (state.status, state.runner_name.as_deref()) {
        (JobStatus::Queued, _) => Debt::ToTheJob,
        (JobStatus::Pending | JobStatus::Unknown, _) => Debt::Unknown,
        (JobStatus::Waiting, _) => Debt::ToNobody("the job waits for approval: GitHub will queue it again"),
        (JobStatus::InProgress, None) => Debt::Unknown,
        (JobStatus::Completed, None) => Debt::ToNobody("the job ended without ever running"),
        (JobStatus::InProgress | JobStatus::Completed, Some(runner)) => {
            match Purpose::from_runner_name(runner) {
                Some(Purpose::Job(other, _)) if other != job => Debt::ToAnother,
                Some(Purpose::Job(..)) => Debt::ToNobody("the job runs, or ran, on its own runner"),
                Some(Purpose::Pool { .. }) => {
                    Debt::ToNobody("the job runs, or ran, on a runner of the warm pool")
                }
                None => Debt::ToNobody("the job runs, or ran, on a runner of another fleet"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debts() {
        use JobStatus::*;
        let table = [
            (Queued, None, true),
            (Pending, None, true),
            (Unknown, None, true),
            (Unknown, Some("fargate-1-1"), true),
            (Waiting, None, false),
            (InProgress, None, true),
            (InProgress, Some("fargate-1-1"), false),
            (InProgress, Some("fargate-2-1"), true),
            (InProgress, Some("fargate-pool-1-0"), false),
            (InProgress, Some("GitHub Actions 3"), false),
            (Completed, None, false),
            (Completed, Some("fargate-1-2"), false),
            (Completed, Some("fargate-2-1"), true),
        ];
        for (status, runner, want) in table {
            let state = JobState { status, runner_name: runner.map(str::to_owned), labels: vec![] };
            assert_eq!(debt(JobId(1), Some(&state)).is_owed(), want, "{status:?} on {runner:?}");
        }
        assert_eq!(debt(JobId(1), None), Debt::Unknown);
    }
}
