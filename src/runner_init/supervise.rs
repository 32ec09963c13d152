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
    time::{Instant, sleep_until},
};

use super::{
    broken,
    handover::stop_signals,
    processes,
    settings::{OURS, Settings},
};
use crate::{
    exit::ExitReason,
    flows::container::{Exit, JobWatch, ended, stopped},
};

/// How often `/proc` is read while the runner winds up.
const LOOK_AT_END: Duration = Duration::from_secs(1);

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
) -> Result<Exit, Exit> {
    let on = |kind| listen(kind).map_err(|error| broken("sigaction", error));
    let mut children: Signals = on(SignalKind::child())?;
    let mut terminate = on(SignalKind::terminate())?;
    let mut interrupt = on(SignalKind::interrupt())?;
    // With the handlers in place, what came since the stage before arrives now. It must be before the fork,
    // since a child inherits the mask.
    stop_signals().thread_unblock().map_err(|error| broken("pthread_sigmask", error))?;
    // Process 1 gets all orphans; where it is another (Docker's --init), this one asks for its own.
    prctl::set_child_subreaper(true).map_err(|error| broken("prctl PR_SET_CHILD_SUBREAPER", error))?;

    let mut runner = RunnerProcess::start(settings, environment, jit_config)?;
    loop {
        tokio::select! {
            biased;
            _ = terminate.recv() => runner.stop(ExitReason::Stopped, Signal::SIGTERM),
            _ = interrupt.recv() => runner.stop(ExitReason::Stopped, Signal::SIGINT),
            _ = children.recv() => runner.reap(),
            () = sleep_until(runner.next_look) => runner.look(),
        }
        if let Some(end) = runner.end() {
            return Ok(end);
        }
    }
}

/// The runner's script and everything below it.
struct RunnerProcess {
    /// The script's id, which is its process group's as well.
    pid: Pid,
    stop_timeout: Duration,
    started: Instant,
    watch: JobWatch,
    next_look: Instant,
    stopping: Option<Stopping>,
    exit_code: Option<u8>,
}

#[derive(Clone, Copy)]
struct Stopping {
    reason: ExitReason,
    /// When what is left gets killed.
    deadline: Instant,
}

impl RunnerProcess {
    fn start(
        settings: &Settings,
        environment: Vec<(OsString, OsString)>,
        jit_config: SecretString,
    ) -> Result<RunnerProcess, Exit> {
        let child = Command::new(&settings.script)
            .env_clear()
            .env(TRAP_SIGNALS, "1")
            .envs(environment.into_iter().filter(|(name, _)| !OURS.iter().any(|ours| name == ours)))
            .env(JIT_CONFIG, jit_config.expose_secret())
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| broken(&settings.script.display().to_string(), error))?;
        let pid = Pid::from_raw(i32::try_from(child.id()).map_err(|error| broken("fork", error))?);
        tracing::info!(pid = pid.as_raw(), "the runner has started");
        // `child` goes: its exit status is taken by `reap`, together with the orphans'.
        Ok(RunnerProcess {
            pid,
            stop_timeout: settings.stop_timeout,
            started: Instant::now(),
            watch: JobWatch::new(settings.idle_timeout),
            next_look: Instant::now(),
            stopping: None,
            exit_code: None,
        })
    }

    /// Passes a signal on to the script and whatever it has in its process group, once. `run.sh` turns the first
    /// one into SIGINT for the runner, in a process group of its own (`set -m`), and takes its trap away: it would
    /// die of a second one, and nobody would wait for the runner to report its job.
    fn stop(&mut self, reason: ExitReason, signal: Signal) {
        if self.stopping.is_some() {
            return tracing::info!(signal = signal.as_str(), "the runner is being stopped already");
        }
        tracing::info!(signal = signal.as_str(), reason = %reason, "the runner is asked to stop");
        // A job may have come since the last look.
        self.watch.look(processes::has_worker(getpid().as_raw()), self.started.elapsed());
        // ESRCH: it has ended already, and SIGCHLD says so next.
        let _ = killpg(self.pid, signal);
        let deadline = Instant::now() + self.stop_timeout;
        self.stopping = Some(Stopping { reason, deadline });
        self.next_look = Instant::now() + LOOK_AT_END;
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
                tracing::debug!(code, "the script has gone");
                self.exit_code = Some(code);
            } else {
                tracing::debug!(pid = pid.as_raw(), "reaped an orphan");
            }
        }
    }

    /// Looks for a job, and gives up a runner that gets none, or does not end after it.
    fn look(&mut self) {
        let now = Instant::now();
        let given_up = self.watch.look(processes::has_worker(getpid().as_raw()), now - self.started);
        if self.stopping.is_some() {
            self.next_look = now + LOOK_AT_END;
            return;
        }
        self.next_look = now + self.watch.until_next_look();
        if let Some(reason) = given_up {
            self.stop(reason, Signal::SIGTERM);
        }
    }

    /// The end, if it has come. Nothing that the runner has left outlives it.
    fn end(&self) -> Option<Exit> {
        let left = || processes::below(getpid().as_raw());
        let had_job = self.watch.had_job();
        let end = match (self.stopping, self.exit_code) {
            (None, None) => return None,
            (None, Some(code)) => Exit::new(ended(code, had_job), format!("its script exited with {code}")),
            // Also what is in other process groups: there the runner may still be telling GitHub that its job
            // is cancelled, whatever has become of its script.
            (Some(stopping), Some(_)) if left().is_empty() => {
                Exit::new(stopped(stopping.reason, had_job), "everything has ended in order")
            }
            (Some(stopping), _) if Instant::now() >= stopping.deadline => {
                let detail = "it had to be killed: it took too long to stop";
                Exit::new(stopped(stopping.reason, had_job), detail)
            }
            (Some(_), _) => return None,
        };
        // For process 1 the kernel would do it.
        for pid in left() {
            // ESRCH: it was quicker.
            let _ = signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        Some(end)
    }
}
