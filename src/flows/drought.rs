//! Where RunTask was refused a moment ago, whatever the job: a mint, a RunTask and a DELETE for each job that waits would use
//! up GitHub's limit for nothing; where the container mints, ECS's.

use std::{cell::RefCell, collections::BTreeMap};

use time::OffsetDateTime;

use crate::{
    error::{CallError, Class},
    flows::plan::{Market, Plan},
    lambda::outcome::{Deferral, Outcome, Wait},
    protocol::timing,
};

#[derive(Debug, Clone)]
struct Refused {
    /// When that was, or when somebody began to find out whether it is over.
    at: OffsetDateTime,
    why: CallError,
}

/// What a process remembers of refusals.
#[derive(Debug, Default)]
pub(crate) struct Drought(RefCell<BTreeMap<Market, Refused>>);

/// Whoever asks a market after a refusal. If it comes to no answer, the next may ask at once.
#[derive(Debug)]
pub(crate) struct Asking<'a> {
    drought: &'a Drought,
    market: Market,
    /// As it was before.
    refused: Option<Refused>,
}

impl Drought {
    /// Whether the plan's capacities may be asked for: after a refusal, one job a minute finds out whether it is over.
    pub(crate) fn may_ask(&self, plan: &Plan, now: OffsetDateTime) -> Result<Asking<'_>, Outcome> {
        let (market, mut markets) = (plan.market(), self.0.borrow_mut());
        let refused = match markets.get_mut(&market) {
            Some(refused) if now - refused.at < timing::DROUGHT => return Err(put_off(&refused.why)),
            Some(refused) => {
                let before = refused.clone();
                refused.at = now;
                Some(before)
            }
            None => None,
        };
        Ok(Asking { drought: self, market, refused })
    }
}

impl Asking<'_> {
    /// What RunTask answered: `None`, a task was started.
    pub(crate) fn answered(&mut self, refusal: Option<&CallError>, now: OffsetDateTime) {
        let mut markets = self.drought.0.borrow_mut();
        match refusal {
            None => {
                self.refused = None;
                markets.remove(&self.market);
            }
            Some(why) if is_anybodys(why.class) => {
                self.refused = None;
                markets.insert(self.market.clone(), Refused { at: now, why: why.clone() });
            }
            // That was about this request alone, or no answer.
            Some(_) => {}
        }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if let Some(refused) = self.refused.take() {
            self.drought.0.borrow_mut().insert(self.market.clone(), refused);
        }
    }
}

/// Whether the next request would be refused as well.
fn is_anybodys(class: Class) -> bool {
    matches!(class, Class::NoCapacity | Class::OverQuota | Class::NeedsOperator)
}

/// It is counted as what it waits for.
fn put_off(why: &CallError) -> Outcome {
    match Outcome::from(why.clone()) {
        Outcome::Deferred(deferral) => Outcome::Deferred(Deferral {
            wait: Wait::About(timing::DROUGHT * 2),
            detail: format!(
                "a moment ago, and another job finds out whether it is over: {}",
                deferral.detail
            ),
            ..deferral
        }),
        outcome => outcome,
    }
}
