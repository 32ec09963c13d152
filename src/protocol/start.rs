//! What comes next for a job that a runner may be owed to: the whole of dispatch, in one table.
//!
//! A [`Case`] is what is known so far. [`start`] says what to look at, what to do, or how it ended; the flow does
//! that, writes down what it saw, and asks again. In the good case two steps are taken before the end: mint and
//! RunTask.

use std::collections::BTreeMap;

use crate::{
    ids::Attempt,
    protocol::{debt::Owed, life::Life, table::table},
};

/// What asks for a runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Asked {
    /// A young job, heard of for the first time.
    Fresh,
    /// A job that is old, heard of for the first time: it may have been taken or cancelled.
    Old,
    /// A job that is very old, or whose message was received before: it may have been served as well.
    Doubtful,
    /// A replacement: owed, whatever GitHub says of the job itself.
    Announced,
}

/// What the warm pools are to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Pools {
    /// GitHub gives it none of their runners.
    #[default]
    None,
    /// It does at other hours.
    Closed,
    /// An idle runner may be ready: GitHub gives it to the job sooner than anybody could start another.
    Open,
}

impl Pools {
    /// Whether a job is left to them for a moment, once: nothing was done for it yet, and its message comes back.
    pub fn go_first(self, asked: Asked, receives: Option<u32>) -> bool {
        self == Pools::Open && asked == Asked::Fresh && receives == Some(1)
    }

    /// How often somebody who could have done something for the job has had its message. One that comes back from the pools
    /// is as new as ever: another delivery of the same job may be at work.
    pub fn receives(self, asked: Asked, receives: Option<u32>) -> Option<u32> {
        let is_its_own = asked != Asked::Announced;
        match self {
            Pools::Open | Pools::Closed if is_its_own => {
                receives.map(|receives| receives.saturating_sub(1).max(1))
            }
            _ => receives,
        }
    }
}

/// What became of an attempt whose task has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ended {
    /// No job is known to have run on it.
    Idle,
    /// The job itself has.
    RanAJob,
    /// Some job has, and nobody told which; `lately`: so that GitHub's answers may be from before.
    RanSome {
        /// So that GitHub's answers may be from before.
        lately: bool,
    },
    /// Another job has.
    RanAnother,
}

/// An attempt whose task has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Past {
    /// What became of it.
    pub how: Ended,
    /// Runners of the job that died of something that it may have had a part in, up to and with this one.
    pub failures: u32,
}

/// The name of the registration, `<prefix>-<job>-<attempt>`: whose is it?
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Name {
    /// Not tried yet.
    #[default]
    Untried,
    /// Minted by this delivery: the task is ours to start.
    Ours,
    /// 409: somebody else's. Of the runner that holds it, what was seen.
    Taken(Option<Life>),
    /// Spent by this delivery: free for a mint.
    Freed,
    /// Spent by somebody else since.
    Gone,
    /// A registration without a task: a message of its own sees to it.
    HandedBack,
    /// Its runner runs a job.
    Busy,
    /// It was ours, and this delivery has spent it.
    GivenBack,
    /// The container mints for itself: nobody else sees it.
    Hidden,
}

/// What a task that had this attempt's token before is known for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Former {
    /// The job itself has run on it, or nobody told which.
    RanAJob,
    /// Another job has.
    RanAnother,
    /// It lives, and its registration is there.
    Lives,
    /// It was started just now, or ECS does not show it yet. Its registration is gone, since ours has the name; whether it ran a
    /// job is told soon.
    Young,
    /// Neither: it is of no use to the job.
    Useless,
}

/// What RunTask answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Launch {
    /// It was not asked.
    #[default]
    Untried,
    /// The task is started.
    Started,
    /// ConflictException: another request had the token. What is known of its task.
    Conflict(Option<Former>),
    /// No task, for certain.
    Failed,
}

/// What is known of the attempt at hand. The next attempt begins with nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Try {
    /// Who the runner is owed to, as GitHub says; `None`: not asked since the last effect, which took time.
    pub owed: Option<Owed>,
    /// The registration's name.
    pub name: Name,
    /// RunTask.
    pub launch: Launch,
}

/// What is known of a job that a runner may be owed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// What asks.
    pub asked: Asked,
    /// Certainly the first receive of its message.
    pub first: bool,
    /// Of few receives: what is not clear yet may become so.
    pub patient: bool,
    /// More than one capacity may be tried.
    pub several: bool,
    /// The attempt at hand.
    pub attempt: Attempt,
    /// `MAX_ATTEMPTS`: so many may die.
    pub most: u32,
    /// The job at the end of the chain was announced in this one's place.
    pub forwarded: bool,
    /// The chain was followed as far as it is ever followed.
    pub far: bool,
    /// The attempt, this or a later one, whose runner waits for work already.
    pub crew: Option<Option<Attempt>>,
    /// The attempts whose tasks have ended, as far as ECS shows them.
    pub ended: Option<BTreeMap<Attempt, Past>>,
    /// Runners that died before that attempt, as whoever announced it has counted them.
    pub told: Option<(Attempt, u32)>,
    /// Attempts before this one of which only RunTask told that they are over: what became of them, ECS has forgotten.
    pub forgotten: u32,
    /// The attempt at hand.
    pub now: Try,
}

impl Case {
    /// Nothing is known yet.
    ///
    /// `receives` counts how often SQS has delivered the message; `None` when it did not come from SQS.
    pub fn new(asked: Asked, receives: Option<u32>, attempt: Attempt, most: u32) -> Self {
        Case {
            asked,
            first: receives == Some(1),
            patient: receives.is_some_and(|receives| receives <= UNCLEAR_RECEIVES),
            several: false,
            attempt,
            most,
            forwarded: false,
            far: false,
            crew: None,
            ended: None,
            told: None,
            forgotten: 0,
            now: Try::default(),
        }
    }

    /// The same, of a job whose container mints for itself.
    pub fn hidden(self, several: bool) -> Self {
        Case { several, now: Try { name: Hidden, ..self.now }, ..self }
    }

    fn had(&self) -> Option<Ended> {
        let ended = self.ended.as_ref()?;
        let how = ended.get(&self.attempt).map(|past| past.how);
        // ECS may have forgotten it: an attempt that was followed by one that is over is over as well.
        how.or_else(|| ended.keys().any(|attempt| *attempt > self.attempt).then_some(Ended::Idle))
    }

    /// Runners that died for the job before this attempt, or with it, as far as it is known.
    pub fn failures(&self) -> u32 {
        let (first, told) = self.told.unwrap_or((Attempt(0), 0));
        let ended = self.ended.iter().flatten();
        let ended = ended.filter(|(attempt, _)| (first..=self.attempt).contains(*attempt));
        ended.map(|(_, past)| past.failures).max().unwrap_or_default().max(told)
    }

    /// Whether `MAX_ATTEMPTS` runners of the job have died.
    pub fn is_given_up(&self) -> bool {
        self.failures() >= self.most
    }

    /// Whether as many have died or are forgotten: no message goes through more, so that there is an end.
    fn has_had_its_runners(&self) -> bool {
        let forgotten = self.forgotten + u32::from(matches!(self.now.launch, Launch::Conflict(_)));
        self.failures().max(forgotten) >= self.most
    }

    /// Who is owed, at the end of the chain: `far`, as far as it is ever followed.
    pub fn owes(&mut self, owed: Owed, far: bool) {
        if self.now.owed == Some(Owed::Unheard) {
            // From here on as of a message that comes again.
            self.asked = Doubtful;
        }
        self.far |= far;
        self.now.owed = Some(owed);
    }

    /// The registration's name, after a deed changed what it stands for.
    pub fn named(&mut self, name: Name) {
        self.now = Try { owed: None, name, ..self.now };
    }

    /// RunTask was asked.
    pub fn launched(&mut self, launch: Launch) {
        self.now = Try { owed: None, launch, ..self.now };
    }

    /// The job at the end of the chain was announced.
    pub fn forward(&mut self) {
        self.forwarded = true;
        self.now.owed = None;
    }

    /// The next attempt.
    pub fn advance(&mut self) {
        self.forgotten += u32::from(self.now.launch != Launch::Untried);
        self.attempt = self.attempt.next();
        self.now = Try::default();
    }
}

/// A message waits so often for what is not clear yet; then the runner is started.
const UNCLEAR_RECEIVES: u32 = 3;

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Look at something.
    Look(Look),
    /// Change something.
    Do(Deed),
    /// Nothing: this is how it ended.
    End(End),
}

/// What to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Look {
    /// GET job: is it taken, over or held back?
    Job,
    /// Who took whose runner: to whom does the job lead?
    Debt,
    /// The same, also where that is far.
    FarDebt,
    /// The job's live tasks and their registrations: does a runner wait already?
    Crew,
    /// The job's live tasks: is there one of this attempt, or of a later one?
    Tasks,
    /// The job's stopped tasks: which attempts are over?
    Stopped,
    /// The tags of all tasks: to whom does the job lead?
    Told,
    /// Who holds the name.
    Holder,
    /// The task that had the token before.
    Former,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Deed {
    /// generate-jitconfig under the attempt's name.
    Mint,
    /// RunTask.
    RunTask,
    /// DELETE of the registration of that name.
    Spend,
    /// A message about the registration of that name, for when no delivery can be at work on it any more.
    HandBack,
    /// DELETE of our own registration; if that fails, it is left to the sweep.
    Discard,
    /// Announce the job at the end of the chain.
    Forward,
    /// On to the next attempt.
    NextAttempt,
    /// The same in a message of its own.
    GoOn,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// A task was started.
    Started,
    /// No runner is owed, for this reason.
    NotOwed(&'static str),
    /// Another delivery has done the work already.
    Duplicate(&'static str),
    /// Another delivery may be doing the work: asked again when it is over or dead.
    InFlight,
    /// The same, and by then what was left by one that is dead is spent.
    HandedBack,
    /// GitHub contradicts what was announced, and its answer may be old: asked again.
    Contradicted,
    /// Who is owed is not clear yet: asked again.
    Unclear,
    /// The runner is another job's, which is announced.
    Forwarded,
    /// `MAX_ATTEMPTS` runners took no job.
    GivenUp,
    /// RunTask's error is the outcome.
    Error,
}

use self::{
    Asked::*,
    Deed::*,
    End::{Contradicted, Duplicate, Error, Forwarded, GivenUp, InFlight, NotOwed, Unclear},
    Launch::{Conflict, Failed},
    Name::*,
    Step::{Do, Look as See},
};

const RUNS_A_JOB: &str = "its runner runs a job";
const TASK_IS_THERE: &str = "its task is there already";
const RAN_A_JOB: &str = "the runner of this attempt has run a job";

table! {
    /// What comes next for a job.
    pub fn start / start_rows / start_without (c: &Case) -> Step =
        match (c.asked, c.now.owed, c.crew, c.had(), c.now.name, c.now.launch);

    // The container mints for itself: nobody here sees the name, so RunTask's token guards the attempt, and ECS alone tells
    "The one at the end of the chain has a message of its own.":
        (.., Hidden, _) if c.forwarded              => Step::End(Forwarded);
    "An earlier delivery may have started a task on another capacity, under another token.":
        (_, _, None, _, Hidden, Launch::Untried) if c.several || c.asked != Fresh => See(Look::Tasks);
    "It has, or one of a later attempt.":
        (_, _, Some(Some(_)), _, Hidden, Launch::Untried) => Step::End(Duplicate(TASK_IS_THERE));
    "None lives: which attempts are over, and how many died?":
        (Old | Doubtful | Announced, _, Some(None), None, Hidden, Launch::Untried) if c.ended.is_none() => See(Look::Stopped);
    "RunTask would answer with the task that is over. Whoever is owed another was announced when it ended, or the sweep does.":
        (_, _, _, Some(_), Hidden, Launch::Untried) => Step::End(Duplicate("the task of this attempt is over"));
    "Its job may be over by now, or have another's runner: the tags of the tasks tell.":
        (Old | Doubtful | Announced, None, _, _, Hidden, Launch::Untried) => See(Look::Told);
    "It is, or has, and nobody is left without.":
        (_, Some(Owed::ToNobody(why)), .., Hidden, Launch::Untried) => Step::End(NotOwed(why));
    "The job whose runner it has is left without one.":
        (_, Some(Owed::ToAnother), .., Hidden, Launch::Untried) => Do(Forward);
    "The same request names the same task, so a repetition is harmless.":
        (.., Hidden, Launch::Untried)               => Do(RunTask);
    "The token was used before, with other settings.":
        (.., Hidden, Conflict(_))                   => Step::End(Duplicate("its task was started before, with other settings"));

    // RunTask's answer is the end
    "Started.":
        (.., Launch::Started)                       => Step::End(End::Started);
    "No registration stays without a task.":
        (.., Ours, Failed)                          => Do(Discard);
    "The message comes back as the error says.":
        (.., Failed)                                => Step::End(Error);

    // The job at the end of the chain was announced
    "It has a message of its own.":
        _ if c.forwarded                            => Step::End(Forwarded);

    // Is a runner owed at all?
    "An old message: GitHub is asked about the job first.":
        (Old, None, None, ..)                       => See(Look::Job);
    "It took a runner of other labels, and nobody has told of that: whoever that was started for may have none.":
        (Old, Some(Owed::Unheard), None, ..)        => See(Look::Debt);
    "A repeated or an announced one: the job may have been given another's runner, that one's job yet another, …":
        (Doubtful | Announced, None, None, ..) => See(Look::Debt);
    "Whoever announced it saw it wait, and this answer may be a minute old.":
        (Announced, Some(Owed::ToNobody(_)), None, ..) if c.first => Step::End(Contradicted);
    "It was approved, or it would have no message: that answer is old.":
        (_, Some(Owed::HeldBack), None, ..) if c.patient => Step::End(Contradicted);
    "The job is taken or over: no runner.":
        (_, Some(Owed::ToNobody(why)), ..)          => Step::End(NotOwed(why));
    "GitHub sends an event when it is approved; one that has come may be that, and this answer older still.":
        (Announced, Some(Owed::HeldBack), ..)       => Step::End(NotOwed("the job waits for approval"));
    "The job at the end of the chain may have other labels, and has attempts of its own.":
        (Doubtful | Announced, Some(Owed::ToAnother), None, ..) => Do(Forward);
    "Who is owed will be clearer in a minute.":
        (Doubtful | Announced, Some(Owed::Unclear), None, ..) if c.patient => Step::End(Unclear);
    "Something may have been started for the job before.":
        (Old | Doubtful | Announced, _, None, ..) => See(Look::Crew);
    "A runner of this or a later attempt waits for work already.":
        (_, _, Some(Some(_)), ..)                   => Step::End(Duplicate("a runner for it is there already"));
    "None waits: which attempts are over?":
        (_, _, Some(None), ..) if c.ended.is_none() => See(Look::Stopped);

    // Has this attempt had its task?
    "A registration under the name of an attempt that is over is the dead runner's, or left by a crash: RunTask would tell for one capacity only.":
        (_, _, _, Some(_), Untried, _)              => Do(Spend);
    "It is neither: it runs.":
        (_, _, _, Some(_), Busy, _)                 => Step::End(Duplicate(RUNS_A_JOB));
    "Nobody told which job that was: does its own still wait?":
        (_, None, _, Some(Ended::RanSome { .. }), ..) => See(Look::Debt);
    "It does, but the answer may be from before it ran.":
        (_, Some(Owed::ToTheJob), _, Some(Ended::RanSome { lately: true }), ..) => Step::End(Unclear);
    "It does: that was another.":
        (_, Some(Owed::ToTheJob), _, Some(Ended::RanSome { lately: false }), ..) => next(c);
    "The attempt did its work.":
        (_, _, _, Some(Ended::RanAJob | Ended::RanSome { .. }), ..) => Step::End(Duplicate(RAN_A_JOB));
    "The attempt is over, and another job had its runner, or none.":
        (_, _, _, Some(Ended::Idle | Ended::RanAnother), ..) => next(c);

    // The name: whose is it?
    "Mint: 201, it is ours; 409, it is somebody's.":
        (.., Untried | Freed, _)                    => Do(Mint);
    "Somebody's: who holds it?":
        (.., Taken(None), _)                        => See(Look::Holder);
    "A task on its way holds it.":
        (.., Taken(Some(Life::Starting)), _)        => Step::End(Duplicate(TASK_IS_THERE));
    "A runner that is up holds it.":
        (.., Taken(Some(Life::Waiting | Life::Busy | Life::Blurred)), _) => Step::End(Duplicate("its runner is there already"));
    "It has taken a job since.":
        (.., Busy, _)                               => Step::End(Duplicate(RUNS_A_JOB));
    "A registration without a task: a delivery has crashed between its two calls, or is between them, or ECS does not show the task yet. Whoever looks again when that is over spends it, which frees the name.":
        (.., Taken(Some(Life::Minted)), _) if !c.first => Do(HandBack);
    "Until then.":
        (.., HandedBack, _)                         => Step::End(End::HandedBack);
    "Another delivery is between its two calls, most likely, or has just spent the name.":
        (.., Taken(Some(_)) | Gone, _) | (.., GivenBack, Launch::Untried) => Step::End(InFlight);

    // It is ours: the task.
    "RunTask.":
        (.., Ours, Launch::Untried)                 => Do(RunTask);
    "A task of this attempt was started before, with another registration: ours is one too many.":
        (.., Ours, Conflict(_))                     => Do(Discard);
    "What became of that task?":
        (.., Conflict(None))                        => See(Look::Former);
    "It ran a job.":
        (.., Conflict(Some(Former::RanAJob)))       => Step::End(Duplicate(RAN_A_JOB));
    "It is there.":
        (.., Conflict(Some(Former::Lives)))         => Step::End(Duplicate(TASK_IS_THERE));
    "It was started just now, and its registration is gone: whether a job ran on it is told soon.":
        (.., Conflict(Some(Former::Young)))         => Step::End(InFlight);
    "It is over, and another job had it, or none.":
        (.., Conflict(Some(Former::Useless | Former::RanAnother))) => next(c);
}

/// The attempt at hand is of no use to the job: the next one's turn, if a runner is owed still.
fn next(c: &Case) -> Step {
    match c.now.owed {
        None => See(Look::Debt),
        Some(Owed::ToNobody(why)) => Step::End(NotOwed(why)),
        Some(Owed::HeldBack) if c.asked == Announced => Step::End(NotOwed("the job waits for approval")),
        Some(Owed::HeldBack) if c.patient => Step::End(Contradicted),
        Some(Owed::ToAnother) => Do(Forward),
        Some(_) if !c.has_had_its_runners() => Do(NextAttempt),
        // Others took them, most likely: nobody has counted as many that died.
        Some(Owed::ToTheJob) if !c.is_given_up() => Do(GoOn),
        Some(Owed::ToTheJob | Owed::Unsaid) => Step::End(GivenUp),
        // It has another's runner, so it is not given up: it may lead to a job that has none.
        Some(Owed::TooFar) if !c.far => See(Look::FarDebt),
        Some(_) if c.patient => Step::End(Unclear),
        Some(_) => Step::End(NotOwed("the job runs, or ran, on another's runner")),
    }
}

#[cfg(test)]
mod tests;
