//! `runner-init`: process 1 of the container-minted runner. It turns the organisation's token into the JIT
//! configuration of one runner, gets rid of the token, and starts, watches and ends that runner.
//!
//! # Environment
//!
//! | variable | default | meaning |
//! | --- | --- | --- |
//! | `ORGANIZATION` | required | the organisation that the runner is registered with |
//! | `ACCESS_TOKEN` | required | a token that may register runners there |
//! | `RUNNER_NAME` | required | the registration's name |
//! | `RUNNER_LABELS_JSON` | required | its labels, a list in JSON. (`RUNNER_LABELS`, separated by commas, is what a release before wrote) |
//! | `RUNNER_GROUP_ID` | `1` | its runner group |
//! | `GITHUB_API_URL` | `https://api.github.com` | GHES: `https://HOST/api/v3` |
//! | `IDLE_TIMEOUT_SECONDS` | `600` | a runner that has taken no job for so long is stopped |
//! | `STOP_TIMEOUT_SECONDS` | `110` | how long the runner may take to stop; a little less than the container's stop timeout |
//! | `RUNNER_SCRIPT` | `/home/runner/run.sh` | what starts the runner |
//! | `HTTPS_PROXY`, `NO_PROXY` | unset | as the runner reads them, or in lower case |
//! | `CA_CERTIFICATES` | unset | root certificates in PEM that are trusted besides the system's |
//! | `RUST_LOG` | `info` | `error`, `warn` or `info` |
//!
//! # What a job can read
//!
//! The runner executes jobs as the very user that process 1 runs as, so everything that Linux lets a user read
//! of their own processes is open to a job: `environ`, `mem`, `fd` and `maps` under `/proc/<pid>`. The token
//! arrives in the environment, which the kernel puts on the initial stack: removing the variable leaves it
//! there. Hence three process images under one process id, each of which replaces the last one's memory whole:
//!
//! 1. *take*: moves the token from the environment into an anonymous file in memory, and executes itself
//!    without it.
//! 2. *mint*: reads the token from there, asks GitHub for the configuration, and executes itself again with
//!    that in another such file. Whatever copies HTTP and TLS made of the token are gone with the memory.
//! 3. *supervise*: never had the token. It starts the runner with the configuration in its environment.
//!
//! No other process exists in the container before the third. The second and third are not "dumpable" besides
//! (prctl(2), PR_SET_DUMPABLE): to a process of the same user they are as closed as somebody else's. Jobs become
//! root by `sudo` in GitHub's image, but memory needs CAP_SYS_PTRACE or CAP_PERFMON as well (ptrace(2)), which
//! Fargate gives to nobody who has not asked for it, and by then there is nothing to find.
//!
//! The configuration itself is no secret from the job: the runner keeps it on disk, for the same user. It is
//! that one runner's and works for that one job.
//!
//! # Exit codes
//!
//! See [`ExitReason`]. ECS hands them on in its task state change events.

mod handover;
mod mint;
mod processes;
mod settings;
mod supervise;

use std::{env, ffi::OsString, fmt::Display, os::fd::RawFd};

use secrecy::SecretString;
use tokio::runtime::Runtime;

use crate::{
    env::Mistakes,
    exit::ExitReason,
    flows::container::Exit,
    lambda::function::{self, environment as get},
};
use settings::Settings;

/// Something that never fails on a working Linux has failed.
fn broken(what: &str, error: impl Display) -> Exit {
    Exit::new(ExitReason::CannotStart, format!("{what}: {error}"))
}

/// The program: what `main` calls, before it starts a thread or anything else.
pub fn run() -> ExitReason {
    function::log_to(std::io::stderr);
    let Exit { reason, detail } = stage().unwrap_or_else(|end| end);
    let code = reason.code();
    match reason {
        ExitReason::Ended(0)
        | ExitReason::NameTaken
        | ExitReason::Idle
        | ExitReason::Stopped
        | ExitReason::StoppedUnregistered => tracing::info!(code, detail, "{reason}"),
        // As it should be if ECS has stopped the task.
        ExitReason::NoJob => tracing::warn!(code, detail, "{reason}"),
        _ => tracing::error!(code, detail, "{reason}"),
    }
    reason
}

/// This process image's stage. Either way the end: `Err` is for `?`.
fn stage() -> Result<Exit, Exit> {
    // A signal that comes now waits, across the next exec as well, until somebody reads it.
    handover::hold_signals().map_err(|error| broken("pthread_sigmask", error))?;
    let stage = Stage::of(env::args_os().skip(1))?;
    let (environment, token) = handover::split(env::vars_os());
    if let (Stage::Take, Some(token)) = (&stage, &token) {
        return Err(handover::execute(MINT, token, &environment));
    }
    // From here on nothing in this process may be read by others; the exec has made it readable again.
    handover::hide().map_err(|error| broken("prctl PR_SET_DUMPABLE", error))?;
    handover::close_others(stage.descriptor())
        .map_err(|error| broken("inherited file descriptors", error))?;
    let take =
        |descriptor| handover::take(descriptor).map_err(|error| broken("what the stage before left", error));
    match stage {
        // There is no token: said together with whatever else is wrong.
        Stage::Take => mint_stage(None, &environment),
        Stage::Mint(descriptor) => mint_stage(Some(take(descriptor)?), &environment),
        Stage::Supervise(descriptor) => supervise_stage(take(descriptor)?, environment),
    }
}

fn mint_stage(token: Option<SecretString>, environment: &[(OsString, OsString)]) -> Result<Exit, Exit> {
    let get = |name: &str| get(name).or_else(|| get(settings::also_in_lower_case(name)?));
    let (settings, token) = settings::read(get, token.as_ref()).map_err(mistaken)?;
    let jit_config = runtime()?.block_on(mint::mint(&settings, token))?;
    Err(handover::execute(SUPERVISE, &jit_config, environment))
}

fn supervise_stage(jit_config: SecretString, environment: Vec<(OsString, OsString)>) -> Result<Exit, Exit> {
    let settings = Settings::read(get).map_err(mistaken)?;
    runtime()?.block_on(supervise::supervise(&settings, environment, jit_config))
}

fn mistaken(mistakes: Mistakes) -> Exit {
    Exit::new(ExitReason::Configuration, mistakes.to_string())
}

fn runtime() -> Result<Runtime, Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| broken("the runtime", error))
}

const MINT: &str = "--mint";
const SUPERVISE: &str = "--supervise";

/// The process images, by the arguments they are executed with. The number is that of the file descriptor.
enum Stage {
    Take,
    Mint(RawFd),
    Supervise(RawFd),
}

impl Stage {
    fn of(arguments: impl Iterator<Item = OsString>) -> Result<Stage, Exit> {
        let arguments: Vec<OsString> = arguments.collect();
        let arguments: Vec<&str> =
            arguments.iter().map(|argument| argument.to_str().unwrap_or("?")).collect();
        let stage = match arguments.as_slice() {
            [] => Some(Stage::Take),
            [MINT, descriptor] => descriptor.parse().ok().map(Stage::Mint),
            [SUPERVISE, descriptor] => descriptor.parse().ok().map(Stage::Supervise),
            _ => None,
        };
        stage.ok_or_else(|| {
            let detail = "runner-init takes no arguments: its settings come from the environment";
            Exit::new(ExitReason::Configuration, detail)
        })
    }

    fn descriptor(&self) -> Option<RawFd> {
        match self {
            Stage::Take => None,
            Stage::Mint(fd) | Stage::Supervise(fd) => Some(*fd),
        }
    }
}
