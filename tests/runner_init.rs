//! `runner-init` as real processes, against a small GitHub and scripts in the runner's place.

#[path = "runner_init/container.rs"]
mod container;
#[path = "runner_init/ends.rs"]
mod ends;
#[path = "runner_init/github.rs"]
mod github;
#[path = "runner_init/runners.rs"]
mod runners;
#[path = "runner_init/secrecy.rs"]
mod secrecy;
#[path = "runner_init/secrets.rs"]
mod secrets;
