//! The container's side where it mints for itself: its registration, asked for until GitHub gives it, refuses it, or
//! has been waited for long enough.

use std::time::Duration;

use time::OffsetDateTime;

use crate::{
    error::{CallError, Class},
    ports::{Deleted, Github, JitConfig, Minted, Registration, Target, Timer},
    protocol::container::{Next, next},
};
pub use crate::{
    exit::ExitReason,
    protocol::container::{JobWatch, ended, stopped},
};

/// How long a runner takes at most from its registration to its connection, on the smallest of tasks.
const TIME_TO_CONNECT: Duration = Duration::from_secs(15);

/// The end: why, and what the log says about it.
#[derive(Debug)]
pub struct Exit {
    /// Why.
    pub reason: ExitReason,
    /// For people.
    pub detail: String,
}

impl Exit {
    /// That end.
    pub fn new(reason: ExitReason, detail: impl Into<String>) -> Self {
        Exit { reason, detail: detail.into() }
    }
}

/// The runner that a container is to be.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Where it registers.
    pub target: Target,
    /// Its name.
    pub name: &'a str,
    /// Its labels.
    pub labels: &'a [String],
}

impl Wanted<'_> {
    /// Asks GitHub for the JIT configuration. `chance` gives a number from 0 to 1, another for each task.
    pub async fn register<G: Github, C: Timer>(
        &self,
        github: &G,
        clock: &C,
        chance: impl Fn() -> f64,
    ) -> Result<JitConfig, Exit> {
        let start = clock.now();
        let (mut failures, mut answer_lost) = (0, false);
        loop {
            let error = match self.ask(github, clock, answer_lost).await {
                Ok(Minted::Created(registration)) => {
                    tracing::info!(runner_id = registration.id.0, runner_name = self.name, "registered");
                    return Ok(registration);
                }
                Ok(Minted::NameTaken) => return Err(Exit::new(ExitReason::NameTaken, self.name)),
                Err(error) => error,
            };
            answer_lost |= error.class == Class::Unknown;
            match next(error.class, failures, since(start, clock), chance()) {
                Next::Wait(wait) => {
                    tracing::warn!(
                        seconds = wait.as_secs_f32(),
                        reason = error.message,
                        "GitHub is asked again"
                    );
                    clock.wait(wait).await;
                }
                Next::GiveUp(reason) => {
                    return Err(Exit::new(reason, format!("asked with ACCESS_TOKEN: {error}")));
                }
            }
            failures += 1;
        }
    }

    /// One attempt. A name that is taken may be taken by ourselves: GitHub has made the registration, the answer got
    /// lost, and the configuration, which is told only once, with it. Such a registration never connects, and is
    /// removed. Another task's does, if it is given the time; should this task be too quick all the same, the other
    /// one's runner finds itself removed and this one serves the job: one runner either way.
    async fn ask<G: Github, C: Timer>(
        &self,
        github: &G,
        clock: &C,
        answer_lost: bool,
    ) -> Result<Minted, CallError> {
        let (target, name) = (&self.target, self.name);
        let minted = github.mint(target, name, self.labels, None).await?;
        if matches!(minted, Minted::Created(_)) {
            return Ok(minted);
        }
        let mut holder = github.find_runner(target, name).await?;
        // Even if no answer was lost as far as is known here: the HTTP client repeats what went down with its
        // connection.
        if !answer_lost && holder.as_ref().is_some_and(never_connected) {
            tracing::info!(runner_name = name, "the name is taken: does that runner connect?");
            clock.wait(TIME_TO_CONNECT).await;
            holder = github.find_runner(target, name).await?;
        }
        match holder {
            Some(runner) if never_connected(&runner) => {
                match github.delete_runner(target, runner.id).await? {
                    Deleted::Busy => Ok(Minted::NameTaken),
                    Deleted::Spent | Deleted::Gone => github.mint(target, name, self.labels, None).await,
                }
            }
            Some(_) => Ok(Minted::NameTaken),
            // Ours, and not shown yet, or spent by somebody who cleans up.
            None if answer_lost => {
                Err(CallError::new(Class::Transient, "the name is taken, and nobody is shown who has it"))
            }
            // The registration has been spent meanwhile, by a job or by somebody who cleans up.
            None => Ok(minted),
        }
    }
}

/// Whether nobody runs this runner (yet).
fn never_connected(runner: &Registration) -> bool {
    !runner.online && !runner.busy
}

fn since(start: OffsetDateTime, clock: &impl Timer) -> Duration {
    // A clock that was set back in between tells nothing.
    Duration::try_from(clock.now() - start).unwrap_or_default()
}
