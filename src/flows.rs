//! The flows: short scripts over the ports. They look, ask the protocol what comes next, and do it.

pub mod budget;
pub mod dispatch;
pub mod hands;
pub mod plan;
pub mod reconcile;
pub mod webhook;

mod chain;
mod course;
mod eyes;
mod redeliver;
mod sweep;
mod tend;
