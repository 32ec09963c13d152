//! Webhook deliveries that failed: GitHub does not repeat them by itself.

use std::{cell::RefCell, collections::HashSet};

use futures_util::{StreamExt, stream};
use time::OffsetDateTime;

use crate::{
    error::CallError,
    flows::sweep::{AT_ONCE, Tally, patiently},
    ports::{Deliveries, Delivery, Timer},
    protocol::{redeliveries, timing},
};

/// Redeliveries that one sweep asks for at most: at five points each, two thirds of what GitHub allows in a minute. The
/// rest, and the other minutes, are for the jobs.
const REDELIVERIES: usize = 120;
/// Pages of 100 deliveries that one sweep reads at most: forty minutes of 5,000 jobs an hour.
const DELIVERY_PAGES: usize = 100;

/// Asks GitHub to send failed webhook deliveries again. What was tried before is read from GitHub's own
/// list: nothing is remembered here.
pub(crate) async fn redeliver<G: Deliveries, C: Timer>(
    github: &G,
    clock: &C,
    scheduled: OffsetDateTime,
    deadline: OffsetDateTime,
    tally: &mut Tally,
) -> Result<(), CallError> {
    if !github.available().await? {
        return Ok(());
    }
    let now = clock.now();
    let oldest = now - timing::LONG_LOOK_BACK;
    let enough = if scheduled.minute() % 15 < 5 { oldest } else { now - timing::LOOK_BACK };
    let mut made_good = HashSet::new();
    let mut deliveries: Vec<Delivery> = Vec::new();
    let mut cursor = None;
    for _ in 0..DELIVERY_PAGES {
        let (page, next) = patiently(clock, deadline, || github.deliveries(cursor.as_deref())).await?;
        made_good.extend(page.iter().filter(|it| it.delivered).map(|it| it.guid.clone()));
        // Where there is a failed one, there may be more behind it.
        let is_good = |it: &Delivery| it.event != "workflow_job" || made_good.contains(&it.guid);
        let until = if page.iter().all(is_good) { enough } else { oldest };
        let reached = page.last().is_none_or(|delivery| delivery.delivered_at < until);
        deliveries.extend(page);
        cursor = next;
        if reached || cursor.is_none() || clock.now() + timing::ONE_STEP > deadline {
            break;
        }
    }
    deliveries.retain(|delivery| delivery.delivered_at >= oldest);
    let due = redeliveries::due(&deliveries, clock.now());
    tally.left += due.len().saturating_sub(REDELIVERIES) as u64;
    let noted = &RefCell::new(std::mem::take(tally));
    stream::iter(due.into_iter().take(REDELIVERIES))
        .for_each_concurrent(AT_ONCE, |id| async move {
            if clock.now() + timing::ONE_STEP > deadline {
                noted.borrow_mut().left += 1;
                return;
            }
            let result = patiently(clock, deadline, || github.redeliver(id)).await;
            noted.borrow_mut().redelivered += u64::from(result.is_ok());
            noted.borrow_mut().note(result);
        })
        .await;
    *tally = noted.take();
    Ok(())
}
