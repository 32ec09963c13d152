//! One fresh just-in-time GitHub Actions runner on AWS Fargate for every queued job.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod adapters;
pub mod batch;
pub mod books;
pub mod config;
pub mod dispatch;
pub mod error;
pub mod function;
pub mod ids;
pub mod job;
pub mod labels;
pub mod lifecycle;
pub mod metrics;
pub mod outcome;
pub mod owed;
pub mod plan;
pub mod policy;
pub mod ports;
pub mod reconcile;
pub mod runner_init;
pub mod signature;
pub mod size;
pub mod start;
mod sweep;
pub mod tags;
pub mod task;
pub mod webhook;
