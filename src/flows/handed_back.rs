//! The loop over what [`handed_back`] says of a registration that was found without a task.

use std::time::Duration;

use crate::{
    error::CallError,
    flows::{budget::Budget, dispatch::Dispatcher},
    ids::Purpose,
    intake::{payload::Replacement, skip::SkipReason},
    lambda::{
        batch::Received,
        outcome::{Outcome, Reason, Wait},
    },
    ports::{Clock, FindTasks, Github, Queue, StartTasks},
    protocol::{
        handed_back::{Case, Did, End, Step, handed_back},
        life::Life,
        timing,
    },
};

impl<G: Github, E: FindTasks + StartTasks, Q: Queue, C: Clock> Dispatcher<G, E, Q, C> {
    /// The attempt is announced, and its registration spent, unless a runner or another delivery is at work on it.
    pub(super) async fn handed_back(
        &self,
        replacement: Replacement,
        received: Option<Received>,
        budget: &Budget,
    ) -> Result<Outcome, CallError> {
        let asked_at = received.and_then(|it| it.sent_at);
        if asked_at.is_some_and(|asked_at| self.clock.now() - asked_at > timing::HANDED_BACK) {
            let why = "what is registered still, and has no task, was handed back again since";
            return Ok(Outcome::skipped(SkipReason::Stale, why));
        }
        // It came sooner than it was to: what was seen without a task may be another delivery's, between its two calls.
        let early = asked_at.and_then(|asked_at| {
            Duration::try_from(asked_at + patience(&replacement) - self.clock.now()).ok()
        });
        if let Some(early) = early.filter(|early| !early.is_zero()) {
            let why = "another delivery of this job may be at work";
            return Ok(Outcome::deferred(Reason::InFlight, Wait::For(early), why));
        }
        let job = replacement.clone().into_job();
        if let Some(skip) = self.policy.excludes_target(&job.target) {
            return Ok(Outcome::Skipped(skip));
        }
        let _turn = match self.turn(&job.target.owner, budget).await {
            Ok(turn) => turn,
            Err(later) => return Ok(later),
        };
        let (mut case, mut holder) = (Case::default(), None);
        loop {
            match handed_back(&case) {
                Step::LookHolder => {
                    let purpose = Purpose::Job(job.id, job.attempt);
                    let (life, id) = self.eyes()?.holder(&job.target, &purpose).await?;
                    // Whoever has spent the one that was seen may have minted another under its name.
                    let is_another = id.zip(replacement.runner_id).is_some_and(|(it, seen)| it != seen);
                    (case.holder, holder) = (Some(if is_another { Life::Over } else { life }), id);
                }
                Step::Announce => {
                    // That it is registered tells that the job was let in.
                    let let_in = replacement.repository.is_none();
                    let next =
                        Replacement { registered: false, runner_id: None, let_in, ..replacement.clone() };
                    self.queue.announce(&next.to_body(), Duration::ZERO).await?;
                    case.did = Did::Announced;
                }
                Step::Spend => {
                    if let Some(id) = holder {
                        self.github()?.delete_runner(&job.target, id).await?;
                    }
                    case.did = Did::Spent;
                }
                Step::End(end) => return Ok(outcome(end)),
            }
        }
    }
}

/// How long a registration without a task is left to others before its own message sees to it.
pub(crate) fn patience(back: &Replacement) -> Duration {
    match back.repository {
        Some(_) => timing::HAND_BACK,
        None => timing::HAND_BACK_UNPLACED,
    }
}

fn outcome(end: End) -> Outcome {
    match end {
        End::Announced => Outcome::skipped(SkipReason::Forwarded, "the attempt is announced anew"),
        End::Gone => Outcome::skipped(SkipReason::Duplicate, "it was seen to meanwhile"),
        End::Duplicate => Outcome::skipped(SkipReason::Duplicate, "its runner is there already"),
    }
}
