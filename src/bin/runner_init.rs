//! Process 1 of the container-minted runner: see [`gha_fargate_runners::runner_init`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    gha_fargate_runners::runner_init::run().code().into()
}
