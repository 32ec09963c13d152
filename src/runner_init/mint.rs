//! The registration: [`Wanted::register`] with the container's token.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use nix::sys::signalfd::{SfdFlags, SignalFd};
use secrecy::SecretString;
use tokio::time::interval;

use super::{broken, handover::stop_signals, settings::Settings};
use crate::{
    adapters::{self, github::GitHub, http::system_roots},
    error::CallError,
    exit::ExitReason,
    flows::container::{Exit, Wanted},
    ports::{Scope, SecretSource, SystemClock, Target},
};

/// How often signals are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Asks GitHub for the JIT configuration. SIGTERM and SIGINT, which the caller has blocked, end it.
pub(super) async fn mint(settings: &Settings, token: SecretString) -> Result<SecretString, Exit> {
    let api_url = settings.api_url.clone();
    let http = adapters::http_of(settings.outside.clone(), system_roots());
    let github = GitHub::new(http, api_url, Scope::Org, settings.group_id, Token(token));
    let target = Target { owner: settings.organization.clone(), ..Target::default() };
    let wanted = Wanted { target, name: &settings.name, labels: &settings.labels };
    tokio::select! {
        biased;
        signal = stop_signal() => {
            Err(signal.err().unwrap_or_else(|| Exit::new(ExitReason::StoppedUnregistered, "by a signal")))
        }
        minted = wanted.register(&github, &SystemClock, chance) => {
            minted.map(|registration| registration.encoded)
        }
    }
}

/// Waits for a signal. No handler: what nobody has read here stays pending, and meets the next stage.
async fn stop_signal() -> Result<(), Exit> {
    let signals = SignalFd::with_flags(&stop_signals(), SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .map_err(|error| broken("signalfd", error))?;
    // Looked at, not waited for: tokio takes foreign descriptors in unsafe code only.
    let mut look = interval(LOOK_EVERY);
    loop {
        look.tick().await;
        if signals.read_signal().map_err(|error| broken("signalfd", error))?.is_some() {
            return Ok(());
        }
    }
}

/// The token, as the client's credentials.
struct Token(SecretString);

impl SecretSource for Token {
    async fn read(&self) -> Result<SecretString, CallError> {
        Ok(self.0.clone())
    }
}

/// A number from 0 to 1 that differs from process to process: the standard library seeds its hashers with
/// random numbers, and jitter needs no better ones.
fn chance() -> f64 {
    f64::from(RandomState::new().hash_one(()) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_a_fraction_and_varies() {
        let chances: Vec<f64> = (0..20).map(|_| chance()).collect();
        assert!(chances.iter().all(|chance| (0.0..=1.0).contains(chance)), "{chances:?}");
        assert!(chances.iter().any(|chance| *chance != chances[0]), "{chances:?}");
    }
}
