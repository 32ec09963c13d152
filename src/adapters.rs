//! The adapters: each port of [`crate::ports`] over the real service.

pub mod aws;
pub mod bus;
pub mod ecs;
pub mod github;
pub mod http;
pub mod secrets;
pub mod sqs;
