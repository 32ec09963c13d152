//! The machines of the world, in tables: what the documentation of GitHub and AWS says they do.

mod ecs;
mod github;
mod sqs;

use time::{OffsetDateTime, macros::datetime};

const NOON: OffsetDateTime = datetime!(2026-06-15 12:00 UTC);
