//! What a sweep did, counted.

use std::collections::BTreeMap;

use crate::{
    error::{CallError, Class},
    lambda::{
        metric::Metric,
        outcome::{Done, Outcome},
    },
};

/// What a sweep did.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// By metric.
    counts: BTreeMap<Metric, u64>,
    pub(crate) redelivered: u64,
    pub(crate) left: u64,
    /// GitHub's rate limit let it see nothing: it was none.
    pub(crate) blind: bool,
    /// Idle or coming runners of the warm pools, by the class.
    pub(crate) pools: BTreeMap<Option<String>, u32>,
    pub(crate) oldest_waiting: time::Duration,
    pub(crate) releases_behind: Option<u32>,
    pub(crate) group_too_wide: Option<bool>,
    pub(crate) first_error: Option<CallError>,
}

impl Tally {
    /// One failure does not stop the rest; the first is reported with the whole.
    pub(crate) fn note(&mut self, result: Result<(), CallError>) {
        if let Err(error) = result {
            // The saved query "needs me now" finds errors.
            if error.class == Class::NeedsOperator {
                *self.counts.entry(Metric::NeedsOperator).or_default() += 1;
                tracing::error!("{error}; left to the next time");
            } else {
                tracing::warn!(%error, "one step failed: left to the next time");
            }
            self.left += 1;
            self.first_error.get_or_insert(error);
        }
    }

    pub(crate) fn add(&mut self, done: &Done) {
        for (metric, count) in &done.counts {
            *self.counts.entry(*metric).or_default() += count;
        }
    }

    /// What a sweep comes to.
    pub(crate) fn into_outcome(mut self) -> Outcome {
        self.counts.entry(Metric::NeedsOperator).or_default();
        let of = |metric| self.counts.get(&metric).copied().unwrap_or_default();
        let mut detail = format!(
            "retired {}, replaced {}, rejected {}, settled {}, lost {}, left to the next sweep {}",
            of(Metric::Retired),
            of(Metric::Replaced),
            of(Metric::Rejected),
            of(Metric::Settled),
            of(Metric::Lost),
            self.left
        );
        self.tell_first_error(&mut detail);
        let mut counts = vec![
            (Metric::Swept, (!self.blind).into()),
            (Metric::LeftToNextSweep, self.left),
            (Metric::PoolSize, self.pools.values().map(|size| u64::from(*size)).sum()),
        ];
        counts.extend(self.releases_behind.map(|behind| (Metric::RunnerReleasesBehind, behind.into())));
        counts.extend(self.group_too_wide.map(|wide| (Metric::RunnerGroupTooWide, wide.into())));
        counts.extend(self.counts);
        Done { counts, oldest_waiting: Some(self.oldest_waiting), ..Done::nothing(detail) }.into()
    }

    /// What a look for failed deliveries comes to.
    pub(crate) fn into_redelivered(mut self) -> Outcome {
        self.counts.entry(Metric::NeedsOperator).or_default();
        let mut detail = format!("redelivered {}, left to the next minute {}", self.redelivered, self.left);
        self.tell_first_error(&mut detail);
        let counts = [(Metric::Redelivered, self.redelivered)].into_iter().chain(self.counts).collect();
        Done { counts, ..Done::nothing(detail) }.into()
    }

    fn tell_first_error(&self, detail: &mut String) {
        if let Some(error) = &self.first_error {
            detail.push_str(&format!("; first failure: {error}"));
        }
    }
}
