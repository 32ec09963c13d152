//! What the functions have in common: batches, outcomes, metrics, logs.

pub mod batch;
pub mod function;
pub mod metric;
pub mod metrics;
pub mod outcome;
