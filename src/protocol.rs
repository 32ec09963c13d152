//! The protocol: what comes next, as pure functions. No I/O, no clock.

pub mod books;
pub mod container;
pub mod debt;
pub mod handed_back;
pub mod life;
pub mod outbreak;
pub mod redeliveries;
pub mod rerun;
pub mod start;
mod table;
pub mod tend;
pub mod timing;
pub mod told;
