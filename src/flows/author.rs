//! What is done for the author of a job: it is run again where it went with its runner, and where it waits it says why.
//! Nothing here is in the way of any job: dispatch and reconcile send a message once they are done, and that is all that
//! they do.

mod board;
mod page;

use std::{cell::Cell, time::Duration};

use time::OffsetDateTime;

use crate::{
    error::{CallError, Class},
    fargate::{stop::Lost, tags::TaskTags},
    ids::Attempt,
    ids::{JobId, RunId, RunnerNames},
    intake::payload::Replacement,
    intake::{
        notice::{self, Interrupted, Notice, interruption},
        skip::SkipReason,
    },
    lambda::{
        metric::Metric,
        outcome::{Done, Handled, Outcome, Reason, Wait},
    },
    ports::{Checks, Clock, Conclusion, FindTasks, Queue, Rerun, Run, RunJob, Runs, Target},
    protocol::{
        rerun::{self, Case, End, Interruptions, RerunAnswer, RunState, Step, rerun},
        timing,
    },
};

pub use self::board::Board;

/// A missing permission is said so often.
const SAY_AGAIN: time::Duration = time::Duration::days(1);

/// Looks after authors.
#[derive(Debug)]
pub struct Author<G, E, Q, C> {
    /// GitHub.
    pub github: G,
    /// ECS.
    pub ecs: E,
    /// The author's queue.
    pub queue: Q,
    /// The clock.
    pub clock: C,
    /// `RUNNER_NAME_PREFIX`.
    pub names: RunnerNames,
    /// `RERUN_INTERRUPTED`.
    pub reruns: bool,
    /// `CHECK_RUNS`.
    pub check_runs: bool,
    /// What was told by this process.
    pub board: Board,
    /// When it was last said that a permission is missing.
    pub said_at: Cell<Option<OffsetDateTime>>,
}

/// What the facts of a case are about.
struct Seen {
    target: Target,
    job: Option<RunJob>,
    run: Option<Run>,
    known: Interruptions,
}

impl<G: Runs + Checks, E: FindTasks, Q: Queue, C: Clock> Author<G, E, Q, C> {
    /// One message.
    pub async fn handle(&self, body: String) -> Handled {
        let (job, place, outcome) = match notice::read(&body) {
            Err(unreadable) => {
                // Nobody would look at its dead letters.
                let outcome = Outcome::skipped(SkipReason::Unreadable, unreadable.to_string());
                return Handled::new(outcome);
            }
            Ok(Notice::Interrupted(interrupted)) => {
                let outcome = match self.reruns {
                    true => self.interrupted(&interrupted).await.unwrap_or_else(Outcome::from),
                    false => Outcome::skipped(SkipReason::Rerun, "RERUN_INTERRUPTED is 0"),
                };
                (interrupted.job_id, interrupted.place.target(), outcome)
            }
            Ok(Notice::Word(word)) => {
                let outcome = match self.check_runs {
                    true => self.word(&word).await.unwrap_or_else(Outcome::from),
                    false => Outcome::skipped(SkipReason::Word, "CHECK_RUNS is not true"),
                };
                (word.job_id, word.place.target(), outcome)
            }
        };
        let job = Replacement::new(job, Attempt::FIRST, place).into_job();
        Handled::new(outcome).of(job)
    }

    /// A job went with its runner: look, ask the protocol, do.
    async fn interrupted(&self, told: &Interrupted) -> Result<Outcome, CallError> {
        if self.github.own_logins().await?.is_empty() {
            self.say("GITHUB_SECRET_ARN holds a token: only a GitHub App has interrupted jobs run again");
            return Ok(Outcome::skipped(
                SkipReason::Rerun,
                "only an App can tell its own re-runs from a person's",
            ));
        }
        let mut seen = Seen { target: told.place.target(), job: None, run: None, known: told.known() };
        let mut case = Case::default();
        loop {
            match rerun(&case) {
                Step::LookJob => {
                    seen.job = self.github.run_job(&seen.target, told.job_id).await?;
                    case.lot =
                        Some(rerun::lot(seen.job.as_ref(), seen.known[&told.job_id], self.clock.now()));
                }
                Step::LookRun => case.run_state = Some(self.look_run(told.job_id, &mut seen).await?),
                Step::LookOthers => self.look_others(told.job_id, &mut seen, &mut case).await?,
                step @ (Step::RerunFailed | Step::RerunJob) => {
                    match self.ask(step, told.job_id, &seen).await {
                        // It may have been granted: by the time that the message comes back, the counter says so.
                        Err(error) if error.class == Class::Unknown => {
                            return Ok(later(timing::UNTIL_SHOWN, &error.message));
                        }
                        answer => case.answer = Some(answer?),
                    }
                }
                Step::Later => return self.wait(told, &seen).await,
                Step::End(end) => return Ok(self.end(end, &seen).await),
            }
        }
    }

    fn of(seen: &Seen) -> Option<(RunId, u32)> {
        seen.job.as_ref().map(|job| (job.run, job.attempt))
    }

    async fn look_run(&self, job: JobId, seen: &mut Seen) -> Result<RunState, CallError> {
        let Some((run, attempt)) = Self::of(seen) else { return Ok(RunState::Unsaid) };
        seen.run = self.github.run(&seen.target, run).await?;
        let own = self.github.own_logins().await?;
        let asked_by = seen.run.as_ref().and_then(|run| run.asked_by.as_ref());
        let is_own = asked_by.is_some_and(|login| own.contains(login));
        Ok(rerun::run_state(seen.run.as_ref(), attempt, is_own, seen.known[&job], self.clock.now()))
    }

    /// The jobs of the attempt; and of each that did not end well, whether its runner was taken back, as long as ECS
    /// shows that.
    async fn look_others(&self, own: JobId, seen: &mut Seen, case: &mut Case) -> Result<(), CallError> {
        let Some((run, attempt)) = Self::of(seen) else { return Ok(()) };
        let jobs = self.github.jobs_of(&seen.target, run, attempt).await?;
        let mut unsure = false;
        for job in jobs.iter().flatten() {
            let ended_badly = !matches!(job.conclusion, None | Some(Conclusion::Well));
            if ended_badly && !seen.known.contains_key(&job.id) {
                unsure |= !self.look_for_task(job, &mut seen.known).await?;
            }
        }
        case.others = Some(rerun::others(own, jobs.as_deref(), &seen.known));
        let turn = |run| rerun::turn(own, &seen.known, unsure, run, self.clock.now());
        case.turn = seen.run.as_ref().is_none_or(turn);
        Ok(())
    }

    /// GitHub knows the runner by its name, and ECS the task of that runner: whether it shows it still.
    async fn look_for_task(&self, job: &RunJob, known: &mut Interruptions) -> Result<bool, CallError> {
        let name = job.runner_name.as_deref();
        // None, or one of another fleet's.
        let Some(purpose) = name.and_then(|name| self.names.read(name)) else { return Ok(true) };
        let tasks = self.ecs.ended_tasks(Some(&purpose.started_by())).await?;
        let task = tasks.iter().find(|task| TaskTags(&task.tags).runner_name() == name);
        let stop = task.and_then(|task| task.stop.as_ref());
        if let Some(stop) = stop.filter(|stop| stop.lost() == Lost::Interrupted) {
            known.insert(job.id, interruption(stop, self.clock.now()));
        }
        Ok(stop.is_some())
    }

    async fn ask(&self, step: Step, job: JobId, seen: &Seen) -> Result<RerunAnswer, CallError> {
        let rerun = match (step, Self::of(seen)) {
            (Step::RerunFailed, Some((run, _))) => self.github.rerun_failed(&seen.target, run).await?,
            _ => self.github.rerun_job(&seen.target, job).await?,
        };
        Ok(match rerun {
            Rerun::Granted => RerunAnswer::Granted,
            Rerun::Busy => RerunAnswer::Busy,
            Rerun::Denied => RerunAnswer::Denied,
            Rerun::Refused(why) => {
                tracing::warn!(job = job.0, why, "GitHub does not run it again");
                RerunAnswer::Refused
            }
        })
    }

    /// What was learnt meanwhile is kept in a new message, since ECS forgets it; then this one is done.
    async fn wait(&self, told: &Interrupted, seen: &Seen) -> Result<Outcome, CallError> {
        if seen.known.len() > told.known().len() {
            self.queue.tell(&told.with(&seen.known).to_body(), timing::LAG).await?;
            return Ok(Done::nothing("told anew, with the interruptions that were seen since").into());
        }
        Ok(Outcome::deferred(
            Reason::TooEarly,
            Wait::Backoff,
            "the attempt is not over, or another message of it goes first",
        ))
    }

    async fn end(&self, end: End, seen: &Seen) -> Outcome {
        let run = Self::of(seen).map(|(run, attempt)| format!(" (run {run}, attempt {attempt})"));
        let run = run.unwrap_or_default();
        match end {
            End::Reran => {
                self.tell_author(seen, "it runs again, on demand").await;
                Done::new(Metric::Reran, format!("the job runs again{run}")).into()
            }
            End::Settled(why) => Outcome::skipped(SkipReason::Rerun, format!("{why}{run}")),
            End::LeftToAuthor(why) => {
                self.tell_author(seen, &format!("{why}: run it again yourself")).await;
                Done::new(Metric::LeftToAuthor, format!("{why}{run}")).into()
            }
            End::Denied => {
                self.say("interrupted jobs are not run again: the App needs \"Actions: read and write\"");
                Outcome::skipped(SkipReason::Rerun, "the App may not run jobs again")
            }
        }
    }

    async fn tell_author(&self, seen: &Seen, why: &str) {
        if let Some(job) = &seen.job {
            self.tell_of_interrupted(&seen.target, job, why).await;
        }
    }

    /// Once a day, as far as this process knows.
    fn say(&self, what: &str) {
        let now = self.clock.now();
        if self.said_at.get().is_none_or(|at| now - at >= SAY_AGAIN) {
            self.said_at.set(Some(now));
            tracing::warn!("{what}");
        }
    }
}

fn later(after: Duration, detail: &str) -> Outcome {
    Outcome::deferred(Reason::Unavailable, Wait::For(after), detail)
}
