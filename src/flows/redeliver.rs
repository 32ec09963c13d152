//! Webhook deliveries that failed: GitHub does not repeat them by itself.

use std::{cell::RefCell, collections::HashSet};

use futures_util::{StreamExt, stream};
use time::OffsetDateTime;

use crate::{
    error::{CallError, Class},
    flows::{
        patience::{AT_ONCE, patiently},
        tally::Tally,
    },
    ports::{Deliveries, Delivery, Timer},
    protocol::{redeliveries, timing},
};

/// Redeliveries that one sweep asks for at most: at five points each, two thirds of what GitHub allows in a minute. The
/// rest, and the other minutes, are for the jobs.
const REDELIVERIES: usize = 120;
/// Pages of 100 deliveries that one sweep reads at most: forty minutes of 5,000 jobs an hour.
const DELIVERY_PAGES: usize = 100;

/// The webhook of one of the Apps, each of which has a log and limits of its own.
struct Webhook<'a, G> {
    github: &'a G,
    /// Which App's.
    of: usize,
}

/// Asks GitHub to send failed webhook deliveries again, of each App in turn. What was tried before is read from
/// GitHub's own list: nothing is remembered here.
pub(crate) async fn redeliver<G: Deliveries, C: Timer>(
    github: &G,
    clock: &C,
    scheduled: OffsetDateTime,
    deadline: OffsetDateTime,
    tally: &mut Tally,
) -> Result<(), CallError> {
    let apps = github.apps().await?;
    for (n, of) in apps.iter().enumerate() {
        let (now, still_to_come) = (clock.now(), u32::try_from(apps.len() - n).unwrap_or(u32::MAX));
        let until = now + (deadline - now) / still_to_come;
        let webhook = Webhook { github, of: *of };
        let redelivered = webhook.redeliver(clock, scheduled, until, tally).await;
        tally.note(redelivered);
    }
    Ok(())
}

impl<G: Deliveries> Webhook<'_, G> {
    async fn redeliver<C: Timer>(
        &self,
        clock: &C,
        scheduled: OffsetDateTime,
        deadline: OffsetDateTime,
        tally: &mut Tally,
    ) -> Result<(), CallError> {
        // "`failure` returns deliveries with a status code in the 400-599 range": those that had no answer at all may be in
        // neither, so that every third sweep looks at all of them.
        let looks_far = scheduled.minute() % 15 < 5;
        if !looks_far && !self.has_failed(clock, deadline).await? {
            return Ok(());
        }
        let deliveries = self.read_log(clock, looks_far, deadline).await?;
        // None would succeed, and each is a call to a service that is told to ban who asks too often.
        if let Some(why) = redeliveries::refused(&deliveries) {
            let message = format!(
                "the webhook answers GitHub's deliveries with {why}; then have GitHub redeliver one of them: the others \
             follow by themselves"
            );
            return Err(CallError::new(Class::NeedsOperator, message));
        }
        self.send_again(clock, &deliveries, deadline, tally).await;
        Ok(())
    }

    /// Whether there is any failed delivery that matters, as far as GitHub tells them apart: most often there is none, and
    /// one request has said so.
    async fn has_failed<C: Timer>(&self, clock: &C, deadline: OffsetDateTime) -> Result<bool, CallError> {
        let oldest = clock.now() - timing::LONG_LOOK_BACK;
        let mut cursor = None;
        for _ in 0..DELIVERY_PAGES {
            let page =
                patiently(clock, deadline, || self.github.failed_deliveries(self.of, cursor.as_deref()))
                    .await?;
            let Some((page, next)) = page else { break };
            if page.iter().any(|it| it.event == "workflow_job" && it.delivered_at >= oldest) {
                break;
            }
            if next.is_none() || page.last().is_none_or(|delivery| delivery.delivered_at < oldest) {
                return Ok(false);
            }
            cursor = next;
        }
        Ok(true)
    }

    /// The log, good ones included: they make others good.
    async fn read_log<C: Timer>(
        &self,
        clock: &C,
        looks_far: bool,
        deadline: OffsetDateTime,
    ) -> Result<Vec<Delivery>, CallError> {
        let now = clock.now();
        let oldest = now - timing::LONG_LOOK_BACK;
        let enough = if looks_far { oldest } else { now - timing::LOOK_BACK };
        let mut made_good = HashSet::new();
        let mut deliveries: Vec<Delivery> = Vec::new();
        let mut cursor = None;
        for _ in 0..DELIVERY_PAGES {
            let (page, next) =
                patiently(clock, deadline, || self.github.deliveries(self.of, cursor.as_deref())).await?;
            made_good.extend(page.iter().filter(|it| it.is_delivered()).map(|it| it.guid.clone()));
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
        Ok(deliveries)
    }

    async fn send_again<C: Timer>(
        &self,
        clock: &C,
        deliveries: &[Delivery],
        deadline: OffsetDateTime,
        tally: &mut Tally,
    ) {
        let due = redeliveries::due(deliveries, clock.now());
        tally.left += due.len().saturating_sub(REDELIVERIES) as u64;
        let noted = &RefCell::new(std::mem::take(tally));
        stream::iter(due.into_iter().take(REDELIVERIES))
            .for_each_concurrent(AT_ONCE, |id| async move {
                if clock.now() + timing::ONE_STEP > deadline {
                    noted.borrow_mut().left += 1;
                    return;
                }
                let sent = patiently(clock, deadline, || self.github.redeliver(self.of, id)).await;
                if matches!(sent, Ok(false)) {
                    tracing::warn!(delivery = id, "GitHub will not send this delivery again: given up");
                }
                noted.borrow_mut().redelivered += u64::from(matches!(sent, Ok(true)));
                noted.borrow_mut().note(sent.map(drop));
            })
            .await;
        *tally = noted.take();
    }
}
