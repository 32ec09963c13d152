//! The flows: short scripts over the ports. They look, ask the protocol what comes next, and do it.

pub mod author;
pub mod container;
pub mod dispatch;
pub mod doctor;
pub mod document;
pub mod memory;
pub mod reconcile;
pub mod webhook;

mod announce;
mod basin;
mod budget;
mod cause;
mod chain;
mod container_minted;
mod course;
mod drought;
mod eyes;
mod group;
mod handed_back;
mod hands;
mod hearsay;
mod interrupted;
mod last;
mod notices;
mod patience;
mod plan;
mod pools;
mod probe;
mod quota;
mod redeliver;
mod start;
mod sweep;
mod taken;
mod tally;
mod tend;
mod watch;
