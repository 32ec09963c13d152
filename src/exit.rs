//! Why a runner's container ended, as its exit code tells: ECS hands the code on in its task state change events.

use std::fmt::{self, Display};

/// Why a container ended. `runner-init` gives the codes from 80 to 89 itself. They are apart from those of the
/// runner's own scripts (0 to 5 and 7: `run-helper.sh` in actions/runner) and of whatever starts a program (126,
/// 127, and 128 + signal: `bash`, and Docker's `init`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitReason {
    /// The runner ended by itself; this is its own code. That is 0 for nearly everything, so from a container
    /// without `runner-init` it does not say whether there was a job; with `runner-init` there was one. A runner
    /// that was killed by a signal gives 128 + signal.
    Ended(u8),
    /// 7: GitHub refused the runner's version as too old. The scripts tell it only where
    /// `ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE` is 1.
    VersionDeprecated,
    /// 80: the environment has a mistake. The same task would fail again.
    Configuration,
    /// 81: GitHub refused (401, 403, 404, 422): the token, its permissions, the organisation's name or the
    /// runner group have to be repaired.
    Refused,
    /// 82: GitHub could not be reached or had no time, for longer than is worth waiting: a replacement is owed.
    Unavailable,
    /// 83: a registration of that name exists (409): this was a duplicate start. Nothing is owed.
    NameTaken,
    /// 84: no job came within the idle timeout.
    Idle,
    /// 85: the runner's script, or `runner-init`'s own next stage, could not be started: the image is broken.
    CannotStart,
    /// 86: SIGTERM or SIGINT asked for the end, and a job had come.
    Stopped,
    /// 87: the runner ended, by itself or because it was asked to, and no job had come.
    NoJob,
    /// 88: SIGTERM or SIGINT came before the runner was registered.
    StoppedUnregistered,
    /// 89: the job was over, and the runner did not end, so it was ended.
    Hung,
    /// 126: the container's command is there, and cannot be executed.
    NotExecutable,
    /// 127: the container's command is not there.
    NotFound,
}

impl ExitReason {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            // A code that would pass for one of the others is only "failed".
            ExitReason::Ended(80..=89) => 1,
            ExitReason::Ended(code) => code,
            ExitReason::VersionDeprecated => 7,
            ExitReason::Configuration => 80,
            ExitReason::Refused => 81,
            ExitReason::Unavailable => 82,
            ExitReason::NameTaken => 83,
            ExitReason::Idle => 84,
            ExitReason::CannotStart => 85,
            ExitReason::Stopped => 86,
            ExitReason::NoJob => 87,
            ExitReason::StoppedUnregistered => 88,
            ExitReason::Hung => 89,
            ExitReason::NotExecutable => 126,
            ExitReason::NotFound => 127,
        }
    }

    /// Reads a container's exit code back.
    pub fn from_code(code: u8) -> Self {
        match code {
            7 => ExitReason::VersionDeprecated,
            80 => ExitReason::Configuration,
            81 => ExitReason::Refused,
            82 => ExitReason::Unavailable,
            83 => ExitReason::NameTaken,
            84 => ExitReason::Idle,
            85 => ExitReason::CannotStart,
            86 => ExitReason::Stopped,
            87 => ExitReason::NoJob,
            88 => ExitReason::StoppedUnregistered,
            89 => ExitReason::Hung,
            126 => ExitReason::NotExecutable,
            127 => ExitReason::NotFound,
            code => ExitReason::Ended(code),
        }
    }

    /// Whether it is the installation's fault, whatever the job: the next task would end the same way until
    /// somebody mends the image, the secret or the settings.
    pub fn needs_operator(self) -> bool {
        matches!(
            self,
            ExitReason::VersionDeprecated
                | ExitReason::Configuration
                | ExitReason::Refused
                | ExitReason::CannotStart
                | ExitReason::NotExecutable
                | ExitReason::NotFound
        )
    }

    /// Whether the runner ended before it had a job, as far as `runner-init` says: somebody may be owed another. A
    /// container that was killed by a signal says nothing.
    pub fn owes_a_runner(self) -> bool {
        let unused = matches!(
            self,
            ExitReason::Unavailable
                | ExitReason::Idle
                | ExitReason::NoJob
                | ExitReason::StoppedUnregistered
                | ExitReason::Ended(129..)
        );
        unused || self.needs_operator()
    }
}

impl Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ExitReason::Ended(code) => return write!(f, "the runner ended with code {code}"),
            ExitReason::VersionDeprecated => "GitHub refused the runner's version: its image is too old",
            ExitReason::Configuration => "the container's environment has a mistake",
            ExitReason::Refused => "GitHub refused the registration",
            ExitReason::Unavailable => "GitHub was not available",
            ExitReason::NameTaken => "another runner has this name",
            ExitReason::Idle => "no job came in time",
            ExitReason::CannotStart => "the runner could not be started",
            ExitReason::Stopped => "the runner was asked to stop",
            ExitReason::NoJob => "the runner ended without a job",
            ExitReason::StoppedUnregistered => {
                "the container was asked to stop before its runner was registered"
            }
            ExitReason::Hung => "the runner did not end after its job",
            ExitReason::NotExecutable => "the container's command cannot be executed",
            ExitReason::NotFound => "the container's command is not in the image",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back() {
        for code in 0..=u8::MAX {
            assert_eq!(ExitReason::from_code(code).code(), code);
        }
    }

    #[test]
    fn a_runner_cannot_pretend_to_be_runner_init() {
        for code in 80..=89 {
            assert!(!matches!(ExitReason::from_code(code), ExitReason::Ended(_)), "{code} is runner-init's");
            assert_eq!(ExitReason::Ended(code).code(), 1);
        }
        // The runner's scripts, signals, and what runner-init may give one day.
        for code in [0, 1, 2, 3, 4, 5, 90, 130, 137, 143] {
            assert_eq!(ExitReason::from_code(code), ExitReason::Ended(code));
            assert_eq!(ExitReason::Ended(code).code(), code);
        }
    }

    #[test]
    fn what_is_owed() {
        let all = || (0..=u8::MAX).map(ExitReason::from_code);
        let codes = |of: fn(ExitReason) -> bool| -> Vec<u8> {
            all().filter(|reason| of(*reason)).map(ExitReason::code).collect()
        };
        assert_eq!(codes(ExitReason::needs_operator), [7, 80, 81, 85, 126, 127]);
        let (said, killed): (Vec<u8>, Vec<u8>) =
            codes(ExitReason::owes_a_runner).into_iter().partition(|code| *code <= 128);
        assert_eq!(said, [7, 80, 81, 82, 84, 85, 87, 88, 126, 127]);
        assert_eq!(killed, (129..=255).collect::<Vec<u8>>());
    }
}
