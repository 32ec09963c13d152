//! Webhook deliveries that failed: GitHub does not repeat them by itself.

use std::cell::RefCell;

use futures_util::{StreamExt, stream};
use time::OffsetDateTime;

use crate::{
    error::{CallError, Class},
    flows::{
        patience::{AT_ONCE, patiently},
        reconcile::Reconciler,
        tally::Tally,
    },
    intake::skip::SkipReason,
    lambda::outcome::Outcome,
    ports::{Deliveries, FindTasks, Github, Queue, StartTasks, TendTasks, Timer},
    protocol::{
        redeliveries::{Log, Stretch},
        timing,
    },
};

/// Redeliveries that are asked for at most in a minute: at five points each, a quarter of what GitHub allows. The jobs
/// that they bring cost as much again, and the rest is for the others.
const REDELIVERIES: usize = 50;
/// When none comes through, whether one does is tried with so many.
const PROBES: usize = 1;
/// Pages of 100 deliveries that are read at most in a minute, out of at least 5,000 requests an hour.
const PAGES: usize = 60;
/// Pages of failed ones that are looked at before the whole list is.
const FAILED_PAGES: usize = 10;
/// Every so many minutes the look goes far back.
const MINUTES_BETWEEN_LONG_LOOKS: u8 = 15;

impl<G, E, S, Q, C> Reconciler<G, E, S, Q, C>
where
    G: Github + Deliveries,
    E: FindTasks + TendTasks,
    S: StartTasks,
    Q: Queue,
    C: Timer,
{
    /// Asks GitHub to send failed webhook deliveries again, of each App in turn. What was tried before is read from
    /// GitHub's own list, of which a process remembers what it has read. Nothing here comes back by itself: the next minute
    /// does more.
    pub(crate) async fn redeliver(&self, scheduled: OffsetDateTime, deadline: OffsetDateTime) -> Outcome {
        let now = self.clock.now();
        // Several may come at once, after a jam.
        if now - scheduled > timing::STALE || !self.memory.claim_look_for_deliveries(now) {
            return Outcome::skipped(SkipReason::Stale, "a later look is due");
        }
        let Some(github) = &self.github else {
            return Outcome::skipped(SkipReason::Event, "no credentials to look for deliveries with");
        };
        // It is over when the next one begins, which then has the same process: what was read is known there.
        let until = deadline.min(now + timing::REDELIVER_EVERY);
        let mut tally = Tally::default();
        let apps = github.apps().await;
        let mut apps = apps.map_err(|error| tally.note(Err(error))).unwrap_or_default();
        // Another is the first each minute: what one takes long for, the last has no time for.
        let first = usize::try_from(timing::nth(timing::REDELIVER_EVERY, scheduled)).unwrap_or_default();
        let first = first % apps.len().max(1);
        apps.rotate_left(first);
        for (n, of) in apps.iter().enumerate() {
            let (now, still_to_come) = (self.clock.now(), u32::try_from(apps.len() - n).unwrap_or(u32::MAX));
            let share = now + (until - now) / still_to_come;
            let webhook = AppWebhook { github, clock: &self.clock, of, share, until };
            let mut log = self.memory.take_deliveries(of);
            let redelivered = webhook.redeliver(scheduled, &mut log, &mut tally).await;
            tally.note(redelivered);
            self.memory.note_deliveries(of, log);
        }
        tally.into_redelivered()
    }
}

/// The webhook of one of the Apps, each of which has a log and limits of its own.
struct AppWebhook<'a, G, C> {
    github: &'a G,
    clock: &'a C,
    /// Which App's: its id.
    of: &'a str,
    /// Nothing begins later than that: the others' turn.
    share: OffsetDateTime,
    /// When the whole look is over.
    until: OffsetDateTime,
}

impl<G: Deliveries, C: Timer> AppWebhook<'_, G, C> {
    async fn redeliver(
        &self,
        scheduled: OffsetDateTime,
        log: &mut Log,
        tally: &mut Tally,
    ) -> Result<(), CallError> {
        let now = self.clock.now();
        // "`failure` returns deliveries with a status code in the 400-599 range": those that had no answer at all may be in
        // neither, so that now and then all of them are looked at.
        let looks_far = scheduled.minute().is_multiple_of(MINUTES_BETWEEN_LONG_LOOKS);
        let seen = self.has_failed(log).await;
        if !looks_far && !log.has_failed() && !seen? {
            return Ok(());
        }
        let back = if looks_far { timing::LONG_LOOK_BACK } else { timing::LOOK_BACK };
        let mut stretch = Stretch::begin(now);
        // Not all of the time, so that there is some to act. What is left unread is read a minute later.
        let read = self.read(log, &mut stretch, now - back, now + (self.share - now) / 2).await;
        log.has_read(stretch, now);
        // None would succeed, and each is a call to a service that is told to ban who asks too often.
        if let Some(why) = log.refused() {
            let message = format!(
                "the webhook answers GitHub's deliveries with {why}; then have GitHub redeliver one of them: the others \
                 follow by themselves"
            );
            return Err(CallError::new(Class::NeedsOperator, message));
        }
        self.send_again(log, tally).await;
        read
    }

    /// Whether there is any failed delivery that matters, as far as GitHub tells them apart: most often there is none, and
    /// one request has said so. One that was missed is found here.
    async fn has_failed(&self, log: &mut Log) -> Result<bool, CallError> {
        let now = self.clock.now();
        let oldest = now - timing::LONG_LOOK_BACK;
        let mut cursor = None;
        for _ in 0..FAILED_PAGES {
            let page = patiently(self.clock, self.share, || {
                self.github.failed_deliveries(self.of, cursor.as_deref())
            });
            let Some((page, next)) = page.await? else { break };
            if page.iter().any(|it| log.has_missed(it, now)) {
                log.read_anew();
                break;
            }
            if page.iter().any(|it| it.delivered_at >= oldest && log.is_open(it, now)) {
                break;
            }
            if next.is_none() || page.last().is_none_or(|delivery| delivery.delivered_at < oldest) {
                return Ok(false);
            }
            cursor = next;
        }
        Ok(true)
    }

    /// Reads the list, good ones included: they make others good.
    async fn read(
        &self,
        log: &mut Log,
        stretch: &mut Stretch,
        back_to: OffsetDateTime,
        until: OffsetDateTime,
    ) -> Result<(), CallError> {
        for _ in 0..PAGES {
            let Some(cursor) = stretch.next(back_to).map(|cursor| cursor.map(str::to_owned)) else { break };
            if self.clock.now() >= until {
                break;
            }
            let (page, next) =
                patiently(self.clock, until, || self.github.deliveries(self.of, cursor.as_deref())).await?;
            log.add(stretch, &page, next);
            log.join(stretch);
        }
        Ok(())
    }

    async fn send_again(&self, log: &mut Log, tally: &mut Tally) {
        let due = log.due(self.clock.now());
        let most = if log.is_down() { PROBES } else { REDELIVERIES };
        tally.left += due.len().saturating_sub(most) as u64;
        let noted = &RefCell::new((std::mem::take(tally), log));
        stream::iter(due.into_iter().take(most))
            .for_each_concurrent(AT_ONCE, |(guid, id)| async move {
                let now = self.clock.now();
                if now >= self.share || now + timing::ONE_STEP > self.until {
                    noted.borrow_mut().0.left += 1;
                    return;
                }
                let sent = patiently(self.clock, self.share, || self.github.redeliver(self.of, id)).await;
                if matches!(sent, Ok(false)) {
                    tracing::warn!(delivery = id, "GitHub will not send this delivery again: given up");
                }
                let (tally, log) = &mut *noted.borrow_mut();
                if let Ok(accepted) = sent {
                    log.asked(&guid, accepted, self.clock.now());
                    tally.redelivered += u64::from(accepted);
                }
                tally.note(sent.map(drop));
            })
            .await;
        *tally = std::mem::take(&mut noted.borrow_mut().0);
    }
}
