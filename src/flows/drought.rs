//! Where capacity was asked for in vain a moment ago: a mint, a RunTask and a DELETE for each job that waits would use
//! up GitHub's limit for nothing; where the container mints, ECS's.

use std::{cell::RefCell, collections::BTreeMap};

use time::OffsetDateTime;

use crate::{
    fargate::fleet::Capacity,
    flows::plan::Plan,
    lambda::outcome::{Deferral, Reason, Wait},
    protocol::timing,
};

/// What a process remembers of capacity.
#[derive(Debug, Default)]
pub(crate) struct Drought(RefCell<BTreeMap<(Vec<Capacity>, String), OffsetDateTime>>);

impl Drought {
    /// Whether the plan's capacities may be asked for: one job a minute finds out whether there is some again.
    pub(crate) fn may_ask(&self, plan: &Plan, now: OffsetDateTime) -> Result<(), Deferral> {
        match self.0.borrow().get(&plan.market()) {
            Some(since) if now - *since < timing::DROUGHT => Err(Deferral {
                reason: Reason::NoCapacity,
                wait: Wait::About(timing::DROUGHT * 2),
                detail: "there was no capacity a moment ago: another job finds out when there is".into(),
            }),
            _ => Ok(()),
        }
    }

    /// What RunTask answered.
    pub(crate) fn note(&self, plan: &Plan, dry: bool, now: OffsetDateTime) {
        match dry {
            true => drop(self.0.borrow_mut().insert(plan.market(), now)),
            false => drop(self.0.borrow_mut().remove(&plan.market())),
        }
    }
}
