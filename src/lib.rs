//! One fresh just-in-time GitHub Actions runner on AWS Fargate for every queued job: none lost, none started
//! twice, none left behind, and no database.
//!
//! # Where what is
//!
//! Lower folders know nothing of higher ones.
//!
//! | folder | what is in it |
//! | --- | --- |
//! | `bin/` | the functions and the container's entrypoint: wiring |
//! | [`config`], [`adapters`], [`runner_init`] | the functions' settings; the ports over AWS and GitHub; the container's side |
//! | [`flows`] | webhook, dispatch, reconcile, author: look, ask the protocol, do |
//! | [`lambda`] | batches in isolation, outcomes, metrics |
//! | [`intake`] | what comes in: payloads, labels, policy, signature |
//! | `protocol` | what comes next: pure functions, no I/O, no clock |
//! | [`ports`] | what the flows need of the outside |
//! | [`fargate`] | what Fargate takes: sizes, requests, tags |
//! | [`error`], [`ids`], `exit`, `env` | ground words; the reader of variables |
//!
//! docs/settings.md lists the environment variables; a test holds that table against [`config`] and template.yaml. Of the
//! AWS SDK's own variables those count that [`adapters::aws::sdk_config`] names.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod adapters;
pub mod config;
mod env;
pub mod error;
mod exit;
pub mod fargate;
pub mod flows;
pub mod ids;
pub mod intake;
pub mod lambda;
pub mod ports;
mod protocol;
pub mod runner_init;
