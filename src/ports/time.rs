//! The clock.

use std::{future::Future, time::Duration};

use time::OffsetDateTime;

/// The time. Decisions never read it; flows do, once, and pass it on.
pub trait Clock {
    /// Now, in UTC.
    fn now(&self) -> OffsetDateTime;
}

/// A clock that one can wait by.
pub trait Timer: Clock {
    /// Returns after that time.
    fn wait(&self, time: Duration) -> impl Future<Output = ()>;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }
}

impl Timer for SystemClock {
    async fn wait(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
