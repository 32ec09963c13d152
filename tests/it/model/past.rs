//! What was there a while ago: a GET may be answered by a copy that lags behind, even behind the webhook that caused
//! the GET, and behind what the same flow has just changed.

use std::collections::{BTreeMap, VecDeque};

use time::{Duration, OffsetDateTime, PrimitiveDateTime};

/// How far a copy lags behind at most.
pub const KEPT: Duration = Duration::minutes(5);

/// How an answer shows the world: as it was at that moment.
#[derive(Debug, Clone, Copy)]
pub struct Sight {
    pub at: OffsetDateTime,
}

impl Sight {
    pub fn at(at: OffsetDateTime) -> Self {
        Sight { at }
    }

    /// As it is.
    pub fn newest() -> Self {
        Sight { at: PrimitiveDateTime::MAX.assume_utc() }
    }
}

/// What things with numbers were before each of their changes, as far as a copy may still show it.
#[derive(Debug)]
pub struct Past<T> {
    /// Oldest first, as they come.
    changes: VecDeque<(OffsetDateTime, u64)>,
    /// By number, oldest first; `None` when there was no such thing.
    before: BTreeMap<u64, VecDeque<(OffsetDateTime, Option<T>)>>,
}

impl<T> Default for Past<T> {
    fn default() -> Self {
        Past { changes: VecDeque::new(), before: BTreeMap::new() }
    }
}

impl<T: Clone> Past<T> {
    /// To be called before a change.
    pub fn changes(&mut self, number: u64, before: Option<&T>, now: OffsetDateTime) {
        while let Some(&(at, oldest)) = self.changes.front() {
            if now - at <= KEPT {
                break;
            }
            self.changes.pop_front();
            if let Some(its) = self.before.get_mut(&oldest) {
                its.pop_front();
                if its.is_empty() {
                    self.before.remove(&oldest);
                }
            }
        }
        self.changes.push_back((now, number));
        self.before.entry(number).or_default().push_back((now, before.cloned()));
    }

    /// What it was at that moment; `None` when it is still the same.
    pub fn shown(&self, number: u64, sight: Sight) -> Option<Option<&T>> {
        let its = self.before.get(&number)?;
        its.iter().find(|(changed, _)| *changed > sight.at).map(|(_, before)| before.as_ref())
    }

    /// What has changed since that moment.
    pub fn changed_since(&self, sight: Sight) -> impl Iterator<Item = u64> {
        self.changes.iter().rev().take_while(move |(at, _)| *at > sight.at).map(|(_, number)| *number)
    }
}
