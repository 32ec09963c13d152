//! What a sweep did, counted.

use std::collections::BTreeMap;

use crate::{
    error::{CallError, Class},
    lambda::outcome::{Done, Outcome, STARTED_CPU_UNITS},
};

/// What a sweep did.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// By metric.
    counts: BTreeMap<&'static str, u64>,
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
            tracing::warn!(%error, "one step of the sweep failed: left to the next");
            self.left += 1;
            self.first_error.get_or_insert(error);
        }
    }

    pub(crate) fn add(&mut self, done: &Done) {
        for (metric, count) in &done.counts {
            *self.counts.entry(metric).or_default() += count;
        }
    }

    /// What a look for failed deliveries comes to.
    pub(crate) fn into_redelivered(self) -> Outcome {
        let mut detail = format!("redelivered {}, left to the next minute {}", self.redelivered, self.left);
        let needs_operator = self.needs_operator();
        if let Some(error) = self.first_error {
            detail.push_str(&format!("; first failure: {error}"));
        }
        let counts = vec![("Redelivered", self.redelivered), ("NeedsOperator", needs_operator.into())];
        Done { counts, ..Done::nothing(detail) }.into()
    }

    fn needs_operator(&self) -> bool {
        self.first_error.as_ref().is_some_and(|error| error.class == Class::NeedsOperator)
    }

    /// What it comes to.
    pub(crate) fn into_outcome(self) -> Outcome {
        let needs_operator = self.needs_operator();
        let of = |metric| self.counts.get(metric).copied().unwrap_or_default();
        let mut counts = vec![
            ("Swept", (!self.blind).into()),
            ("Retired", of("Retired")),
            ("Replaced", of("Replaced")),
            ("Rejected", of("Rejected")),
            ("Settled", of("Settled")),
            ("Lost", of("Lost")),
            ("LeftToNextSweep", self.left),
            ("PoolSize", self.pools.values().map(|size| u64::from(*size)).sum()),
            ("NeedsOperator", needs_operator.into()),
        ];
        counts.extend(self.releases_behind.map(|behind| ("RunnerReleasesBehind", behind.into())));
        counts.extend(Some((STARTED_CPU_UNITS, of(STARTED_CPU_UNITS))).filter(|(_, units)| *units > 0));
        counts.extend(self.group_too_wide.map(|wide| ("RunnerGroupTooWide", wide.into())));
        let mut detail = format!(
            "retired {}, replaced {}, rejected {}, settled {}, lost {}, left to the next sweep {}",
            of("Retired"),
            of("Replaced"),
            of("Rejected"),
            of("Settled"),
            of("Lost"),
            self.left
        );
        if let Some(error) = self.first_error {
            detail.push_str(&format!("; first failure: {error}"));
        }
        Done { counts, oldest_waiting: Some(self.oldest_waiting), ..Done::nothing(detail) }.into()
    }
}
