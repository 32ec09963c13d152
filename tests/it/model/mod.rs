//! The outside as machines with state: GitHub, its App and its limits, ECS, SQS, EventBridge and Secrets Manager.
//! They do no I/O and have no clock: whatever depends on the time is told it.

mod actions;
pub mod app;
pub mod aws;
pub mod bus;
pub mod checks;
pub mod deliveries;
pub mod ecs;
pub mod github;
pub mod jit;
mod labels;
pub mod limits;
pub mod manifest;
pub mod past;
pub mod runs;
pub mod sqs;
mod task;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod unkind;
