//! What Fargate takes: sizes, requests, tags, and what tasks are made of.

pub mod fleet;
pub mod request;
pub mod size;
pub mod stop;
pub mod tags;
pub mod usage;
