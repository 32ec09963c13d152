//! The runner: started, given signals, cleaned up after, and stopped when no job comes.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{self, Signal, killpg},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, getpid},
};
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    signal::unix::{Signal as Signals, SignalKind, signal as listen},
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    End, ExitReason,
    handover::stop_signals,
    processes,
    settings::{OURS, Settings},
};

/// How often `/proc` is read while no job has come yet.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where the runner expects its configuration: any argument of Runner.Listener may come from a variable
/// `ACTIONS_RUNNER_INPUT_<NAME>` (src/Runner.Listener/CommandSettings.cs of actions/runner).
const JIT_CONFIG: &str = "ACTIONS_RUNNER_INPUT_JITCONFIG";

/// Makes `run.sh` pass signals on to the runner, and wait for it; without it the script dies of the signal and
/// leaves the runner behind. GitHub's image sets it, an image of one's own may not.
const TRAP_SIGNALS: &str = "RUNNER_MANUALLY_TRAP_SIG";

/// Runs the runner to its end.
pub(super) async fn supervise(
    settings: &Settings,
    environment: Vec<(OsString, OsString)>,
    jit_config: SecretString,
) -> Result<End, End> {
    let on = |kind| listen(kind).map_err(|error| End::broken("sigaction", error));
    let mut children: Signals = on(SignalKind::child())?;
    let mut terminate = on(SignalKind::terminate())?;
    let mut interrupt = on(SignalKind::interrupt())?;
    // With the handlers in place, what came since the stage before arrives now. It must be before the fork,
    // since a child inherits the mask.
    stop_signals().thread_unblock().map_err(|error| End::broken("pthread_sigmask", error))?;
    // Process 1 gets all orphans; where it is another (Docker's --init), this one asks for its own.
    prctl::set_child_subreaper(true).map_err(|error| End::broken("prctl PR_SET_CHILD_SUBREAPER", error))?;

    let mut runner = Runner::start(settings, environment, jit_config)?;
    let mut look = interval(LOOK_EVERY);
    // While a job runs nobody looks; the looks of that time are not made up for.
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = terminate.recv() => runner.stop(ExitReason::Stopped, Signal::SIGTERM),
            _ = interrupt.recv() => runner.stop(ExitReason::Stopped, Signal::SIGINT),
            _ = children.recv() => runner.reap(),
            _ = look.tick(), if runner.needs_a_look() => runner.look(),
        }
        if let Some(end) = runner.end() {
            return Ok(end);
        }
    }
}

/// The runner's script and everything below it.
struct Runner {
    /// The script's id, which is its process group's as well.
    pid: Pid,
    idle_timeout: Duration,
    stop_timeout: Duration,
    started: Instant,
    has_job: bool,
    stopping: Option<Stopping>,
    exit_code: Option<u8>,
}

#[derive(Clone, Copy)]
struct Stopping {
    reason: ExitReason,
    /// When what is left gets killed.
    deadline: Instant,
}

impl Runner {
    fn start(
        settings: &Settings,
        environment: Vec<(OsString, OsString)>,
        jit_config: SecretString,
    ) -> Result<Runner, End> {
        let child = Command::new(&settings.script)
            .env_clear()
            .env(TRAP_SIGNALS, "1")
            .envs(environment.into_iter().filter(|(name, _)| !OURS.iter().any(|ours| name == ours)))
            .env(JIT_CONFIG, jit_config.expose_secret())
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| End::broken(&settings.script.display().to_string(), error))?;
        let pid = Pid::from_raw(i32::try_from(child.id()).map_err(|error| End::broken("fork", error))?);
        tracing::info!(pid = pid.as_raw(), "the runner has started");
        // `child` goes: its exit status is taken by `reap`, together with the orphans'.
        Ok(Runner {
            pid,
            idle_timeout: settings.idle_timeout,
            stop_timeout: settings.stop_timeout,
            started: Instant::now(),
            has_job: false,
            stopping: None,
            exit_code: None,
        })
    }

    /// Passes a signal on to the script and whatever it has in its process group.
    fn stop(&mut self, reason: ExitReason, signal: Signal) {
        tracing::info!(signal = signal.as_str(), reason = %reason, "the runner is asked to stop");
        // ESRCH: it has ended already, and SIGCHLD says so next.
        let _ = killpg(self.pid, signal);
        let deadline = Instant::now() + self.stop_timeout;
        self.stopping.get_or_insert(Stopping { reason, deadline });
    }

    /// Takes the exit status of every child that has ended, adopted ones included.
    fn reap(&mut self) {
        loop {
            let (pid, code) = match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, u8::try_from(code).unwrap_or(1)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as u8),
                // Nobody has ended, or there are no children at all.
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(error) => return tracing::warn!(%error, "waitpid"),
            };
            if pid == self.pid {
                self.exit_code = Some(code);
            } else {
                tracing::debug!(pid = pid.as_raw(), "reaped an orphan");
            }
        }
    }

    fn needs_a_look(&self) -> bool {
        !self.has_job || self.stopping.is_some()
    }

    /// Has a job come? Then the runner is left alone until it ends, which it does after one job.
    ///
    /// A job that lands between this look and the signal is cancelled with the runner, and GitHub says so.
    /// DELETE of the registration would decide it without a doubt, but that needs the token, which is gone.
    fn look(&mut self) {
        if self.stopping.is_some() || self.has_job {
            return;
        }
        let waited = self.started.elapsed();
        if processes::has_worker(getpid().as_raw()) {
            self.has_job = true;
            tracing::info!(seconds = waited.as_secs(), "a job has come");
        } else if waited >= self.idle_timeout {
            self.stop(ExitReason::Idle, Signal::SIGTERM);
        }
    }

    /// The end, if it has come. Nothing that the runner has left outlives it.
    fn end(&self) -> Option<End> {
        let end = match (self.stopping, self.exit_code) {
            (None, None) => return None,
            (None, Some(code)) => End::new(ExitReason::Ended(code), with_job(self.has_job)),
            (Some(stopping), Some(_)) if self.group_is_empty() => {
                End::new(stopping.reason, with_job(self.has_job))
            }
            (Some(stopping), _) if Instant::now() >= stopping.deadline => {
                End::new(stopping.reason, "it had to be killed: it took too long to stop")
            }
            (Some(_), _) => return None,
        };
        // For process 1 the kernel would do it.
        for pid in processes::below(getpid().as_raw()) {
            // ESRCH: it was quicker.
            let _ = signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        Some(end)
    }

    /// A script that died of the signal leaves its process group behind: there the runner may still be telling
    /// GitHub that its job is cancelled.
    fn group_is_empty(&self) -> bool {
        killpg(self.pid, None) == Err(Errno::ESRCH)
    }
}

fn with_job(has_job: bool) -> &'static str {
    if has_job { "a job had come" } else { "no job was seen" }
}
