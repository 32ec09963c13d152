//! How a sweep spends its time: several at once, and what GitHub's rate limit holds up is waited for.

use std::time::Duration;

use time::OffsetDateTime;

use crate::{
    error::{CallError, Class},
    ports::Timer,
    protocol::timing,
};

/// Runners seen to at a time: one after the other, a sweep of a busy fleet would not be done before the next.
pub(crate) const AT_ONCE: usize = 4;
/// GitHub's "after" is in whole seconds, and may be none.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// Waits for GitHub's rate limit, and tries again, as long as there is time. A sweep has time, and what it used up of the
/// limit would be lost if it gave up.
pub(crate) async fn patiently<C: Timer, T, F: Future<Output = Result<T, CallError>>>(
    clock: &C,
    deadline: OffsetDateTime,
    step: impl Fn() -> F,
) -> Result<T, CallError> {
    loop {
        match step().await {
            Err(CallError { class: Class::RateLimited { after }, .. })
                if clock.now() + after + timing::ONE_STEP < deadline =>
            {
                clock.wait(after.max(SHORTEST_WAIT)).await;
            }
            answer => return answer,
        }
    }
}
