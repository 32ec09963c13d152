//! The registration: asked for until GitHub gives it, refuses it, or has been waited for long enough.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use nix::sys::signalfd::{SfdFlags, SignalFd};
use secrecy::SecretString;
use tokio::time::{Instant, interval, sleep};

use super::{
    End,
    handover::stop_signals,
    settings::{ACCESS_TOKEN, Settings},
};
use crate::{
    adapters::{self, github::GitHub, http::system_roots},
    error::{CallError, Class},
    exit::ExitReason,
    ports::{Deleted, Github, Minted, Registration, Scope, SecretSource, Target},
};

/// How long GitHub is asked at most. The task is paid for while it waits, and a replacement is started with
/// a delay that grows further than this.
const PATIENCE: Duration = Duration::from_secs(300);

/// The wait after the first failure; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// The longest wait of our own choosing.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How long a runner takes at most from its registration to its connection, on the smallest of tasks.
const TIME_TO_CONNECT: Duration = Duration::from_secs(15);

/// How often signals are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Asks GitHub for the JIT configuration. SIGTERM and SIGINT, which the caller has blocked, end it.
pub(super) async fn mint(settings: &Settings, token: SecretString) -> Result<SecretString, End> {
    let api_url = settings.api_url.clone();
    let http = adapters::http_of(settings.outside.clone(), system_roots());
    let github = GitHub::new(http, api_url, Scope::Org, settings.group_id, Token(token));
    tokio::select! {
        biased;
        signal = stop_signal() => {
            Err(signal.err().unwrap_or_else(|| End::new(ExitReason::StoppedUnregistered, "by a signal")))
        }
        minted = register(&github, settings) => minted,
    }
}

/// Waits for a signal. No handler: what nobody has read here stays pending, and meets the next stage.
async fn stop_signal() -> Result<(), End> {
    let signals = SignalFd::with_flags(&stop_signals(), SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .map_err(|error| End::broken("signalfd", error))?;
    // Looked at, not waited for: tokio takes foreign descriptors in unsafe code only.
    let mut look = interval(LOOK_EVERY);
    loop {
        look.tick().await;
        if signals.read_signal().map_err(|error| End::broken("signalfd", error))?.is_some() {
            return Ok(());
        }
    }
}

async fn register(github: &impl Github, settings: &Settings) -> Result<SecretString, End> {
    let target = Target { owner: settings.organization.clone(), ..Target::default() };
    let start = Instant::now();
    let mut failures = 0;
    let mut answer_lost = false;
    loop {
        let error = match ask(github, &target, settings, answer_lost).await {
            Ok(Minted::Created(registration)) => {
                tracing::info!(runner_id = registration.id.0, runner_name = settings.name, "registered");
                return Ok(registration.encoded);
            }
            Ok(Minted::NameTaken) => return Err(End::new(ExitReason::NameTaken, settings.name.as_str())),
            Err(error) => error,
        };
        answer_lost |= error.class == Class::Unknown;
        match next(error.class, failures, start.elapsed(), chance()) {
            Next::Wait(wait) => {
                tracing::warn!(seconds = wait.as_secs_f32(), reason = error.message, "GitHub is asked again");
                sleep(wait).await;
            }
            Next::GiveUp(reason) => {
                let detail = format!("asked with {ACCESS_TOKEN}: {error}");
                return Err(End::new(reason, detail));
            }
        }
        failures += 1;
    }
}

/// One attempt. A name that is taken may be taken by ourselves: GitHub has made the registration, the answer got
/// lost, and the configuration, which is told only once, with it. Such a registration never connects, and is
/// removed. Another task's does, if it is given the time; should this task be too quick all the same, the other
/// one's runner finds itself removed and this one serves the job: one runner either way.
async fn ask(
    github: &impl Github,
    target: &Target,
    settings: &Settings,
    answer_lost: bool,
) -> Result<Minted, CallError> {
    let (name, labels) = (&settings.name, &settings.labels);
    let minted = github.mint(target, name, labels, None).await?;
    if matches!(minted, Minted::Created(_)) {
        return Ok(minted);
    }
    let mut holder = github.find_runner(target, name).await?;
    // Even if no answer was lost as far as is known here: the HTTP client repeats what went down with its
    // connection.
    if !answer_lost && holder.as_ref().is_some_and(never_connected) {
        tracing::info!(runner_name = name, "the name is taken: does that runner connect?");
        sleep(TIME_TO_CONNECT).await;
        holder = github.find_runner(target, name).await?;
    }
    match holder {
        Some(runner) if never_connected(&runner) => match github.delete_runner(target, runner.id).await? {
            Deleted::Busy => Ok(Minted::NameTaken),
            Deleted::Spent | Deleted::Gone => github.mint(target, name, labels, None).await,
        },
        Some(_) => Ok(Minted::NameTaken),
        // The registration has been spent meanwhile, by a job or by somebody who cleans up.
        None => Ok(minted),
    }
}

/// Whether nobody runs this runner (yet).
fn never_connected(runner: &Registration) -> bool {
    !runner.online && !runner.busy
}

/// The token, as the client's credentials.
struct Token(SecretString);

impl SecretSource for Token {
    async fn read(&self) -> Result<SecretString, CallError> {
        Ok(self.0.clone())
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Next {
    Wait(Duration),
    GiveUp(ExitReason),
}

/// What to do after `failures` earlier ones and this. `chance`, from 0 to 1, keeps tasks that were started
/// together from asking together.
fn next(class: Class, failures: u32, elapsed: Duration, chance: f64) -> Next {
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

/// A number from 0 to 1 that differs from process to process: the standard library seeds its hashers with
/// random numbers, and jitter needs no better ones.
fn chance() -> f64 {
    f64::from(RandomState::new().hash_one(()) as u32) / f64::from(u32::MAX)
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

    #[test]
    fn chance_is_a_fraction_and_varies() {
        let chances: Vec<f64> = (0..20).map(|_| chance()).collect();
        assert!(chances.iter().all(|chance| (0.0..=1.0).contains(chance)), "{chances:?}");
        assert!(chances.iter().any(|chance| *chance != chances[0]), "{chances:?}");
    }
}
