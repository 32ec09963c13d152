//! What comes in: payloads, lifecycle events, labels, signatures, and which jobs are served.

pub mod classes;
pub mod glob;
pub mod labels;
pub mod lifecycle;
pub mod notice;
pub mod payload;
pub mod policy;
pub mod request;
pub mod signature;
pub mod skip;
pub mod slip;
