//! What comes next for a runner: the whole of reconcile, in one table.
//!
//! *Retiring:* DELETE first, StopTask after: stopping first can kill a job that has just landed. *Replacing:*
//! announce first, DELETE after: a crash in between repeats the announcement, and the second copy meets the name of
//! the first.

use crate::protocol::{life::Life, table::table};

/// How a runner came to attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Heard {
    /// ECS told that its task has stopped.
    Stopped,
    /// GitHub told that its job ended without ever running.
    Unneeded,
    /// The sweep saw it; `past`: for longer than it may be so without anybody asking why.
    Swept {
        /// For longer than that.
        past: bool,
    },
}

/// What it was started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// A job.
    Job,
    /// The warm pool; `surplus`: more wait than it is to have.
    Pool {
        /// More wait than it is to have.
        surplus: bool,
    },
}

/// Who is owed the runner, or one in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RunnerOwed {
    /// GitHub says that it runs a job.
    AtWork,
    /// Nobody.
    ToNobody,
    /// Nobody, but the warm pool has room for it.
    ToThePool,
    /// GitHub does not say, or will say later.
    Unclear,
    /// Its own job, which it may still be given.
    MayStillCome,
    /// A job that has a runner on its way.
    Served,
    /// A job that another runner has brought a replacement in this sweep.
    Announced,
    /// A job that has none, or may have none.
    ToAJob,
}

/// What is known of a runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// Where it is in its life.
    pub life: Life,
    /// How it came to attention.
    pub heard: Heard,
    /// What it was started for.
    pub owner: Owner,
    /// Who is owed; `None`: nobody looked.
    pub owed: Option<RunnerOwed>,
    /// Its registration was asked for by id, and is gone.
    pub surely_spent: bool,
    /// Nobody has told of a job on it until now.
    pub surely_unheard: bool,
}

impl Case {
    /// Nothing was looked at yet.
    pub fn new(life: Life, heard: Heard, owner: Owner) -> Self {
        Case { life, heard, owner, owed: None, surely_spent: false, surely_unheard: false }
    }
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Nothing.
    Leave,
    /// Who took whose runner: to whom does it lead?
    LookOwed,
    /// GET registration.
    LookRegistration,
    /// The tags of its task, as they are now.
    LookTags,
    /// The warm pool has one more.
    Join,
    /// DELETE of a registration that has no task.
    Spend,
    /// Back to the job queue, as the very attempt that it is.
    HandBack,
    /// Tag its task, so that nobody asks about it again.
    Tag,
    /// StopTask.
    Stop,
    /// Announce the next attempt; StopTask.
    AnnounceAndStop,
    /// Announce the next attempt, and tag its task.
    AnnounceAndTag,
    /// DELETE; then StopTask, if it was unspent and its task lives.
    Retire,
    /// Announce the next attempt; DELETE; StopTask as before.
    Replace,
    /// Announce the next attempt.
    Announce,
    /// A job is lost with its task.
    Report,
    /// The same, and announce the next attempt for the job that the runner was started for.
    ReportAndAnnounce,
}

use self::{Heard::*, Owner::*, Step::*};

table! {
    /// What comes next for a runner.
    pub fn tend / tend_rows / tend_without (c: &Case) -> Step = match (c.life, c.heard, c.owner, c.owed);

    "It is over, or not clear to see yet.":
        (Life::Over | Life::Blurred, ..)                    => Leave;

    // The container mints for itself, and ECS alone tells
    "Its job may be over, or have another's runner: the tags of the tasks tell.":
        (Life::Unused, Stopped | Swept { past: true }, Job, None) => LookOwed;
    "No job is known to have run on it.":
        (Life::Unused, Stopped, Job, Some(RunnerOwed::ToAJob)) => Announce;
    "It does not start. The tags go with StopTask.":
        (Life::Unused, Swept { past: true }, Job, Some(RunnerOwed::ToAJob)) => AnnounceAndStop;
    "It does not start, or is older than any job.":
        (Life::Unused | Life::Hidden, Swept { past: true }, ..) => Stop;
    "It stops by itself when it has been idle, or has.":
        (Life::Unused | Life::Hidden, ..)                   => Leave;

    // A registration without a task
    "No task, and none needed.":
        (Life::Minted, Unneeded, ..) | (Life::Minted, _, Pool { .. }, _) => Spend;
    "A crash between mint and RunTask: dispatch meets the name, and decides.":
        (Life::Minted, ..)                                  => HandBack;

    "It has time left.":
        (_, Swept { past: false }, ..)                      => Leave;

    // At work
    "The DELETE would say so.":
        (Life::Busy, Stopped | Unneeded, ..)                => Leave;
    "Nobody has told which job it runs, and the warm pool owes nothing to anybody.":
        (Life::Busy, _, Pool { .. }, _)                     => Tag;
    "Nobody has told which job it runs: one that nobody here has heard of may have taken it.":
        (Life::Busy, _, _, None)                            => LookOwed;
    "Its own job, or one at the end of the chain, is left without a runner.":
        (Life::Busy, _, _, Some(RunnerOwed::ToAJob))        => AnnounceAndTag;
    "It will be asked about again.":
        (Life::Busy, _, _, Some(RunnerOwed::Unclear | RunnerOwed::Announced)) => Leave;
    "Nobody needs another.":
        (Life::Busy, ..)                                    => Tag;

    // A task without a registration
    "Its container may still be ending by itself.":
        (Life::Spent, Stopped | Unneeded, ..)               => Leave;
    "Pages shift while they are read: the registration may have slipped through.":
        (Life::Spent, ..) if !c.surely_spent                => LookRegistration;
    "GitHub spent it on a job that its runner then lost. The tags go with StopTask, and nobody else would tell.":
        (Life::Spent, _, Job, Some(RunnerOwed::ToAJob))     => AnnounceAndStop;

    // Its job ended without ever running
    "Not needed, unless it has found other work: the DELETE tells.":
        (Life::Starting | Life::Waiting, Unneeded, ..)      => Retire;

    // The warm pool owes nothing to anybody
    "It waits as it should.":
        (Life::Waiting, _, Pool { surplus: false }, _)      => Leave;
    "It ran some job.":
        (Life::Astray, _, Pool { .. }, _)                   => Leave;
    "A job went with it.":
        (Life::Lost, _, Pool { .. }, _)                     => Report;

    // Who is owed?
    "Another idle or hung runner has led to its job in this sweep.":
        (Life::Starting, _, _, Some(RunnerOwed::Announced)) => Leave;
    "GitHub may have given its job another runner, that one's job yet another, …":
        (_, _, _, None)                                     => LookOwed;

    // GitHub says that it runs a job
    "GitHub has not noticed yet that the job is lost.":
        (Life::Dead | Life::Lost, _, _, Some(RunnerOwed::AtWork)) => Report;
    "What its registration shows is no evidence against that.":
        (_, _, _, Some(RunnerOwed::AtWork))                 => Leave;

    "Its registration and its job are done with: it did not go by itself.":
        (Life::Spent, ..)                                   => Stop;

    "It may have been given a job since the sweep began, and GitHub shows that late: its tags may tell.":
        (Life::Waiting, Swept { .. }, _, Some(RunnerOwed::ToNobody | RunnerOwed::Served | RunnerOwed::ToAJob)) if !c.surely_unheard => LookTags;

    // It waits, past the time-out
    "Not clear yet, or somebody may still need it.":
        (Life::Waiting, _, _, Some(RunnerOwed::Unclear | RunnerOwed::MayStillCome | RunnerOwed::Announced)) => Leave;

    "One too many, or dead: the sweep fills the pool up.":
        (_, _, Pool { .. }, Some(_))                        => Retire;
    "As good as a new one of the warm pool.":
        (Life::Waiting, _, _, Some(RunnerOwed::ToThePool))  => Join;

    // It is gone, or as good as that
    "It ran some job, and its own has what it needs.":
        (Life::Astray, _, _, Some(RunnerOwed::ToNobody | RunnerOwed::ToThePool | RunnerOwed::Served)) => Leave;
    "It ran some other job, and one still waits.":
        (Life::Astray, _, _, Some(_))                       => Announce;
    "A job went with it, and no other waits.":
        (Life::Lost, _, _, Some(RunnerOwed::ToNobody | RunnerOwed::ToThePool | RunnerOwed::Served)) => Report;
    "A job went with it, and another may wait.":
        (Life::Lost, _, _, Some(_))                         => ReportAndAnnounce;
    "Nobody needs it.":
        (_, _, _, Some(RunnerOwed::ToNobody | RunnerOwed::ToThePool | RunnerOwed::Served)) => Retire;
    "A job needs one that works.":
        (_, _, _, Some(_))                                  => Replace;
}

#[cfg(test)]
mod tests;
