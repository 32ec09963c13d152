//! The log of an App's webhook deliveries, and what it was asked to send again. No I/O and no clock.

use std::collections::{BTreeMap, BTreeSet};

use time::{Duration, OffsetDateTime};

use super::past::Sight;

/// The delivery log goes back three days ("Redelivering webhooks", GitHub Docs).
const KEPT: Duration = Duration::days(3);

/// One delivery of an event; `P` is what was sent, so that it can be sent again.
#[derive(Debug, Clone)]
pub struct Delivery<P> {
    pub id: u64,
    /// Of the event: its redeliveries have the same.
    pub guid: String,
    pub delivered_at: OffsetDateTime,
    pub redelivery: bool,
    pub status_code: u16,
    pub event: &'static str,
    pub action: Option<&'static str>,
    pub payload: P,
}

#[derive(Debug)]
pub struct Deliveries<P> {
    kept: BTreeMap<u64, Delivery<P>>,
    /// Those of them that have failed.
    failed: BTreeSet<u64>,
    last: u64,
    asked_for: Vec<u64>,
}

impl<P> Default for Deliveries<P> {
    fn default() -> Self {
        Deliveries { kept: BTreeMap::new(), failed: BTreeSet::new(), last: 0, asked_for: Vec::new() }
    }
}

impl<P: Clone> Deliveries<P> {
    /// GitHub has sent an event, and this was the answer.
    pub fn sent(
        &mut self,
        guid: &str,
        event: &'static str,
        action: Option<&'static str>,
        payload: P,
        status_code: u16,
        now: OffsetDateTime,
    ) -> u64 {
        let (guid, delivered_at) = (guid.to_owned(), now);
        self.log(Delivery {
            id: 0,
            guid,
            delivered_at,
            redelivery: false,
            status_code,
            event,
            action,
            payload,
        })
    }

    /// GitHub has sent a delivery again, under the same GUID, and this was the answer.
    pub fn sent_again(&mut self, delivery: &Delivery<P>, status_code: u16, now: OffsetDateTime) -> u64 {
        self.log(Delivery { delivered_at: now, redelivery: true, status_code, ..delivery.clone() })
    }

    fn log(&mut self, mut delivery: Delivery<P>) -> u64 {
        while let Some(oldest) = self.kept.first_entry() {
            if delivery.delivered_at - oldest.get().delivered_at < KEPT {
                break;
            }
            self.failed.remove(&oldest.remove().id);
        }
        self.last += 1;
        delivery.id = self.last;
        self.note_failed(self.last, delivery.status_code);
        self.kept.insert(self.last, delivery);
        self.last
    }

    /// The answer to a delivery that was written down before it came.
    pub fn answered(&mut self, id: u64, status_code: u16) {
        if let Some(delivery) = self.kept.get_mut(&id) {
            delivery.status_code = status_code;
            self.note_failed(id, status_code);
        }
    }

    /// "in the 400-599 range": no answer is none.
    fn note_failed(&mut self, id: u64, status_code: u16) {
        if (400..600).contains(&status_code) {
            self.failed.insert(id);
        } else {
            self.failed.remove(&id);
        }
    }

    pub fn get(&self, id: u64) -> Option<&Delivery<P>> {
        self.kept.get(&id)
    }

    /// A page of the log, newest first: those with ids below `before`, and whether more follow; all, or those alone that
    /// have failed, or have not.
    pub fn list(
        &self,
        before: Option<u64>,
        limit: usize,
        sight: Sight,
        failed: Option<bool>,
    ) -> (Vec<&Delivery<P>>, bool) {
        let older = ..before.unwrap_or(u64::MAX);
        match failed {
            None => self.page(self.kept.range(older).rev(), limit, sight),
            Some(false) => {
                let is_well = |(_, it): &(&u64, &Delivery<P>)| (200..400).contains(&it.status_code);
                self.page(self.kept.range(older).rev().filter(is_well), limit, sight)
            }
            Some(true) => {
                let its = |id: &u64| self.kept.get_key_value(id);
                self.page(self.failed.range(older).rev().filter_map(its), limit, sight)
            }
        }
    }

    fn page<'a>(
        &self,
        newest_first: impl Iterator<Item = (&'a u64, &'a Delivery<P>)>,
        limit: usize,
        sight: Sight,
    ) -> (Vec<&'a Delivery<P>>, bool)
    where
        P: 'a,
    {
        let mut older = newest_first.map(|(_, it)| it).skip_while(|it| it.delivered_at > sight.at);
        let page = older.by_ref().take(limit).collect();
        (page, older.next().is_some())
    }

    /// `POST /app/hook/deliveries/{id}/attempts`: accepted, and to be sent again.
    pub fn redeliver(&mut self, id: u64) -> bool {
        let known = self.kept.contains_key(&id);
        if known {
            self.asked_for.push(id);
        }
        known
    }

    /// The deliveries that GitHub was asked to send again since the last call. Once it has, say so with
    /// [`Deliveries::sent_again`].
    pub fn take_redeliveries(&mut self) -> Vec<Delivery<P>> {
        let asked_for = std::mem::take(&mut self.asked_for);
        asked_for.iter().filter_map(|id| self.kept.get(id)).cloned().collect()
    }
}
