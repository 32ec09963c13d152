//! What comes next for a job that went with a runner which Fargate Spot took back: the whole of running it again, in
//! one table.
//!
//! GitHub's own counter, `run_attempt`, is the fence: whatever was asked for, once or twice, and whether or not its answer
//! came, a newer attempt is there, and nobody asks again. What GitHub cannot say is which jobs were interrupted;
//! the messages do, one for each, and each looks at its siblings for as long as ECS shows their tasks.

use std::collections::BTreeMap;

use time::{Duration, OffsetDateTime};

use crate::{
    ids::JobId,
    ports::{Conclusion, JobStatus, Run, RunJob},
    protocol::table::table,
};

/// "Unable to re-run this workflow run because it was created over a month ago" comes after 30 days ("Re-running workflows
/// and jobs").
const OLDEST: Duration = Duration::days(30);
/// "You can re-run a workflow run up to 50 times".
const MOST_ATTEMPTS: u32 = 50;
/// A job that was cancelled because its runner had to go ended while that stopped; clocks differ.
const SLACK: Duration = Duration::minutes(1);
/// Fail-fast cancels the rest of a matrix at once, and each gets "5 minutes" to end ("Canceling a workflow run").
const FAIL_FAST: Duration = Duration::minutes(6);
/// So long after the attempt ended, a message that does not lead acts all the same. By then, what the leader did shows.
const ALONE: Duration = Duration::minutes(4);
/// And so long one that cannot tell whether a sibling was interrupted: that one's own message knows, and came by meanwhile,
/// since none is put off for longer than a quarter of an hour.
const UNSURE: Duration = Duration::minutes(20);

/// What GitHub does not show so long after the interruption is gone; before, its answer may be older than the job.
const YOUNG: Duration = Duration::minutes(5);

/// When Fargate Spot took a runner back: from the SIGTERM until its task had stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interruption {
    /// Its container got its SIGTERM.
    pub from: OffsetDateTime,
    /// Its task had stopped.
    pub to: OffsetDateTime,
}

/// The jobs that are known to have been interrupted.
pub type Interruptions = BTreeMap<JobId, Interruption>;

/// What became of the job whose runner was taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lot {
    /// GitHub does not say.
    Unsaid,
    /// GitHub has not noticed yet.
    AtWork,
    /// It ended well.
    Well,
    /// It had failed by itself before its runner was taken back.
    ByItself,
    /// A person cancelled it, or something else that is no interruption.
    Cancelled,
    /// It went with its runner.
    Interrupted,
}

/// The run that the job is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RunState {
    /// GitHub does not say.
    Unsaid,
    /// It has a newer attempt than the job's.
    Newer,
    /// The attempt is not over.
    AtWork,
    /// GitHub runs nothing again that is so old.
    TooOld,
    /// Nor what was run so often.
    TooOften,
    /// The attempt was asked for by us.
    Again,
    /// Somebody cancelled it.
    Cancelled,
    /// It is over.
    Over,
}

/// The jobs of the attempt that did not end well, this one aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Others {
    /// GitHub does not say.
    Unsaid,
    /// One is not over, as far as GitHub shows.
    AtWork,
    /// There is none, or all were interrupted.
    Interrupted,
    /// And some were cancelled by their matrix's fail-fast, because one was interrupted.
    FailFast,
    /// One was cancelled that nothing here explains.
    Cancelled,
    /// Some failed by themselves; none was interrupted.
    Failed,
    /// Some failed by themselves, some were interrupted or cancelled because of that.
    Mixed,
}

/// GitHub's answer to what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RerunAnswer {
    /// A new attempt begins.
    Granted,
    /// The run is at work.
    Busy,
    /// The App may not.
    Denied,
    /// GitHub will not.
    Refused,
}

/// What is known so far. `None`: nobody looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Case {
    /// The job.
    pub lot: Option<Lot>,
    /// Its run.
    pub run_state: Option<RunState>,
    /// The rest of the attempt.
    pub others: Option<Others>,
    /// It is this message's turn: it leads among those of the attempt, or the others have had their time.
    pub turn: bool,
    /// What GitHub answered.
    pub answer: Option<RerunAnswer>,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// GET job.
    LookJob,
    /// GET run.
    LookRun,
    /// The jobs of the attempt, and of those that failed the tasks of their runners.
    LookOthers,
    /// `rerun-failed-jobs`.
    RerunFailed,
    /// `rerun` of this job.
    RerunJob,
    /// The message comes back.
    Later,
    /// Done.
    End(End),
}

/// Why it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// It runs again.
    Reran,
    /// It is not an interruption's doing, or somebody else has seen to it.
    Settled(&'static str),
    /// It would be, and nobody runs it again but its author.
    LeftToAuthor(&'static str),
    /// The permission is missing.
    Denied,
}

use self::{End::*, Step::*};

table! {
    /// What comes next for a job whose runner was taken back.
    pub fn rerun / rerun_rows / rerun_without (c: &Case) -> Step = match (c.lot, c.run_state, c.others, c.answer);

    "Asked for, and granted: GitHub's counter has gone up.":
        (.., Some(RerunAnswer::Granted))            => End(Reran);
    "Somebody was faster, or it is not over after all: the counter will tell.":
        (.., Some(RerunAnswer::Busy))               => Later;
    "Without the permission nothing is run again, and nothing else is the worse for it.":
        (.., Some(RerunAnswer::Denied))             => End(Denied);
    "GitHub's limits are its own.":
        (.., Some(RerunAnswer::Refused))            => End(LeftToAuthor("GitHub does not run it again"));

    // The job
    "What became of the job?":
        (None, ..)                                  => LookJob;
    "It is gone, with its run or its repository.":
        (Some(Lot::Unsaid), ..)                     => End(Settled("GitHub shows no such job"));
    "GitHub takes its time to notice that a runner is gone.":
        (Some(Lot::AtWork), ..)                     => Later;
    "Its runner went after it.":
        (Some(Lot::Well), ..)                       => End(Settled("the job ended well"));
    "A user's own failure is never run again.":
        (Some(Lot::ByItself), ..)                   => End(Settled("the job failed by itself"));
    "Whoever cancels a job does not want it.":
        (Some(Lot::Cancelled), ..)                  => End(Settled("the job was cancelled"));

    // The run
    "Which attempt is the newest, and is it over?":
        (_, None, ..)                               => LookRun;
    "It is gone.":
        (_, Some(RunState::Unsaid), ..)             => End(Settled("GitHub shows no such run"));
    "The fence: a person, another message or a call whose answer was lost has seen to it.":
        (_, Some(RunState::Newer), ..)              => End(Settled("a newer attempt is there"));
    "Thirty days.":
        (_, Some(RunState::TooOld), ..)             => End(LeftToAuthor("the run is older than 30 days"));
    "Fifty attempts.":
        (_, Some(RunState::TooOften), ..)           => End(LeftToAuthor("the run has had 50 attempts"));
    "Once is enough: what was run again and interrupted again is looked at by a person.":
        (_, Some(RunState::Again), ..)              => End(LeftToAuthor("it was run again before, and interrupted again"));

    // The rest of the attempt
    "ECS shows a task that has stopped for an hour: siblings are looked at while the run goes on.":
        (_, _, None, _)                             => LookOthers;
    "GitHub runs nothing again before the whole attempt is over.":
        (_, Some(RunState::AtWork), ..)             => Later;
    "The run is over, and a job of it is not: what GitHub shows of the two is not of one moment.":
        (_, _, Some(Others::AtWork), _)             => Later;
    "What cannot be seen may be a user's failure.":
        (_, _, Some(Others::Unsaid), _)             => End(LeftToAuthor("GitHub does not list the attempt's jobs"));
    "A person, or a concurrency group, cancelled the run.":
        (_, _, Some(Others::Cancelled), _)
        | (_, Some(RunState::Cancelled), Some(Others::FailFast | Others::Mixed), _) => End(Settled("the run was cancelled"));
    "One asks for all: another message of the attempt goes first, or knows more.":
        (..) if !c.turn                             => Later;
    "All that failed was interrupted, or cancelled because of it.":
        (_, _, Some(Others::Interrupted | Others::FailFast), _) => RerunFailed;
    "Only this one was interrupted: no other is lost by running it alone.":
        (_, _, Some(Others::Failed), _)             => RerunJob;
    "All failed ones would run a user's failure again, one alone loses the others.":
        (_, _, Some(Others::Mixed), _)              => End(LeftToAuthor("other jobs failed by themselves, and several were interrupted"));
}

/// What became of the job.
pub fn lot(job: Option<&RunJob>, interruption: Interruption, now: OffsetDateTime) -> Lot {
    let Some(job) = job else {
        return if is_young(interruption, now) { Lot::AtWork } else { Lot::Unsaid };
    };
    if job.status != JobStatus::Completed {
        return Lot::AtWork;
    }
    match job.conclusion {
        Some(Conclusion::Well) => Lot::Well,
        _ if is_interrupted(job, interruption) => Lot::Interrupted,
        Some(Conclusion::Cancelled) => Lot::Cancelled,
        _ => Lot::ByItself,
    }
}

fn is_young(interruption: Interruption, now: OffsetDateTime) -> bool {
    now - interruption.to < YOUNG
}

/// A job that ended before its runner got its SIGTERM did so by itself. One that is cancelled long after its runner was gone
/// was so by a person, who saw that it hung.
fn is_interrupted(job: &RunJob, interruption: Interruption) -> bool {
    let Some(at) = job.completed_at else { return false };
    // Without slack: a failure that is the user's own is never run again, and what goes with its runner takes a second to.
    let began = at >= interruption.from;
    match job.conclusion {
        Some(Conclusion::Failed) => began,
        Some(Conclusion::Cancelled) => began && at <= interruption.to + SLACK,
        _ => false,
    }
}

/// The run, for a job of that attempt. `is_own`: its newest attempt was asked for by us.
pub fn run_state(
    run: Option<&Run>,
    attempt: u32,
    is_own: bool,
    interruption: Interruption,
    now: OffsetDateTime,
) -> RunState {
    let Some(run) = run else {
        return if is_young(interruption, now) { RunState::AtWork } else { RunState::Unsaid };
    };
    match run {
        _ if run.attempt > attempt => RunState::Newer,
        // An answer from before the attempt knows nothing of it.
        _ if !run.over || run.attempt < attempt => RunState::AtWork,
        _ if run.created_at.is_some_and(|at| now - at > OLDEST) => RunState::TooOld,
        _ if run.attempt >= MOST_ATTEMPTS => RunState::TooOften,
        _ if is_own => RunState::Again,
        _ if run.cancelled => RunState::Cancelled,
        _ => RunState::Over,
    }
}

/// Whether it is this job's message that acts: that of the first interrupted job, or any once the first has had time; or,
/// where ECS has forgotten the tasks of jobs that failed, one that nobody who knows more was faster than.
pub fn turn(job: JobId, known: &Interruptions, unsure: bool, run: &Run, now: OffsetDateTime) -> bool {
    let over_for = |time| run.updated_at.is_none_or(|at| now - at > time);
    match (unsure, known.keys().next()) {
        (true, _) => over_for(UNSURE),
        (false, Some(first)) if *first < job => over_for(ALONE),
        (false, _) => true,
    }
}

/// The jobs of the attempt, but for this one.
pub fn others(job: JobId, jobs: Option<&[RunJob]>, known: &Interruptions) -> Others {
    let Some(jobs) = jobs else { return Others::Unsaid };
    // A list without the job is from before it, and knows nothing of the others either.
    let is_older = !jobs.iter().any(|it| it.id == job);
    if is_older || jobs.iter().any(|job| job.status != JobStatus::Completed) {
        return Others::AtWork;
    }
    let interrupted = |job: &RunJob| known.get(&job.id).is_some_and(|it| is_interrupted(job, *it));
    let causes: Vec<&RunJob> = jobs.iter().filter(|job| interrupted(job)).collect();
    let bad = jobs.iter().filter(|it| !matches!(it.conclusion, None | Some(Conclusion::Well)));
    let (mut more, mut by_fail_fast, mut failed) = (false, false, false);
    for it in bad {
        match it.conclusion {
            _ if interrupted(it) => more |= it.id != job,
            Some(Conclusion::Cancelled) if causes.iter().any(|cause| was_cancelled_for(it, cause)) => {
                by_fail_fast = true;
            }
            Some(Conclusion::Cancelled) => return Others::Cancelled,
            _ => failed = true,
        }
    }
    match (failed, more, by_fail_fast) {
        (true, false, false) => Others::Failed,
        (true, ..) => Others::Mixed,
        (false, _, true) => Others::FailFast,
        (false, _, false) => Others::Interrupted,
    }
}

/// Whether fail-fast may have cancelled it because the other one, of the same matrix, failed.
fn was_cancelled_for(it: &RunJob, cause: &RunJob) -> bool {
    let after = it.completed_at.zip(cause.completed_at).map(|(it, cause)| it - cause);
    cause.conclusion == Some(Conclusion::Failed)
        && matrix(&it.name).is_some_and(|own| Some(own) == matrix(&cause.name))
        && after.is_some_and(|after| after >= -SLACK && after <= FAIL_FAST)
}

/// Jobs of one matrix are called `build (1, x64)`, unless the workflow names them otherwise.
pub fn matrix(name: &str) -> Option<&str> {
    name.ends_with(')').then(|| name.split_once(" ("))?.map(|(matrix, _)| matrix)
}

#[cfg(test)]
mod tests;
