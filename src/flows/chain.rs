//! Who needs an idle runner? GitHub may have given its own job another runner of the same labels, the job that this
//! one was started for yet another, and so on: at the end of the chain is the job, if there is one, that has none.
//! Then the idle runner has most likely lost that job ("Skipping message Job" in its log), polls for ever and is
//! given no other; or the job has labels that this runner has not.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    error::CallError,
    fargate::tags::TaskTags,
    ids::{JobId, Purpose},
    intake::payload::Replacement,
    ports::{Github, Task},
    protocol::debt::{Debt, debt},
};

/// Links of one chain that GitHub is asked for at most; where the tasks' tags tell, nobody is asked. A longer chain
/// is followed on at the runner that is started at its end.
const LONGEST_CHAIN: usize = 4;

/// Who needs the place of an idle runner: as the runner that would be theirs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// Nobody.
    Nobody,
    /// A job that is queued.
    Job(Replacement),
    /// Perhaps a job: GitHub does not show it, or nobody looked so far.
    Perhaps(Replacement),
    /// GitHub will say later.
    Unsettled,
}

/// What the tags of the tasks of the last hour say.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Whose runner a job was given, by the job.
    runners: BTreeMap<JobId, Purpose>,
    /// The repositories of the jobs that tasks were started for.
    repositories: BTreeMap<JobId, String>,
}

impl Taken {
    pub(crate) fn read<'a>(tasks: impl Iterator<Item = &'a Task>) -> Self {
        let mut taken = Taken::default();
        for tags in tasks.map(|task| TaskTags(&task.tags)) {
            let Some(purpose) = tags.runner_name().and_then(Purpose::from_runner_name) else { continue };
            if let (Some(owner), Some((_, Some(repository)))) = (purpose.job(), tags.repository()) {
                taken.repositories.insert(owner, repository.to_owned());
            }
            if let Some(job) = tags.ran_job() {
                taken.runners.insert(job, purpose);
            }
        }
        taken
    }

    /// Follows the chain from `next`, the runner that the idle one's own job would get.
    pub(crate) async fn waits_for<G: Github>(
        &self,
        github: &G,
        mut next: Replacement,
    ) -> Result<Waits, CallError> {
        let own = next.job_id;
        let (mut seen, mut asked) = (BTreeSet::new(), 0);
        loop {
            let job = next.job_id;
            if !seen.insert(job) {
                // The circle is closed: those in it have all got a runner.
                return Ok(Waits::Nobody);
            }
            let purpose = match self.runners.get(&job) {
                Some(purpose) => Some(purpose.clone()),
                None if next.repository.is_none() => return Ok(Waits::Perhaps(next)),
                None if asked == LONGEST_CHAIN => {
                    // Without its repository, nobody could ever say what became of it.
                    let known = self.repositories.contains_key(&job);
                    return Ok(if known { Waits::Perhaps(next) } else { Waits::Nobody });
                }
                None => {
                    asked += 1;
                    let Some(state) = github.job(&next.target(), job).await? else {
                        // A job of another repository than the one that took its runner, if it is not the own one.
                        return Ok(if job == own { Waits::Perhaps(next) } else { Waits::Nobody });
                    };
                    match debt(job, Some(&state)) {
                        Debt::ToTheJob => {
                            return Ok(Waits::Job(Replacement { labels: state.labels, ..next }));
                        }
                        Debt::ToAnother => state.runner_name.as_deref().and_then(Purpose::from_runner_name),
                        Debt::Unknown => return Ok(Waits::Unsettled),
                        Debt::ToNobody(_) => return Ok(Waits::Nobody),
                    }
                }
            };
            // The warm pool owes nothing to anybody: the sweep fills it up.
            let Some(Purpose::Job(job_id, attempt)) = purpose else { return Ok(Waits::Nobody) };
            let attempt = attempt.next();
            let repository = self.repositories.get(&job_id).cloned().or(next.repository);
            next = Replacement { job_id, attempt, repository, run_id: None, ..next };
        }
    }
}
