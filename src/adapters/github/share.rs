//! Which of several Apps makes a call: each takes its share, and what one may not ask for now another asks for.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ring::digest::{SHA256, digest};
use time::OffsetDateTime;

use crate::{
    error::{CallError, Class},
    ports::Clock,
};

/// How long an App that was refused is passed over: an operator's repair shows soon, and a burst asks once.
const PASSED_OVER: time::Duration = time::Duration::minutes(1);

/// The Apps for a call, the one that it belongs to first (rendezvous hashing): all who make that call agree, and where an
/// App comes or goes, only its own calls have another.
fn order(key: &str, apps: &[&str]) -> Vec<usize> {
    let weight = |app: &str| {
        let text = [app.as_bytes(), b"\0", key.as_bytes()].concat();
        digest(&SHA256, &text).as_ref().to_vec()
    };
    let mut order: Vec<usize> = (0..apps.len()).collect();
    order.sort_by_cached_key(|app| std::cmp::Reverse((weight(apps[*app]), *app)));
    order
}

/// A call that any of several Apps may make: the registrations are the organisation's, whoever makes them, so that a name
/// is taken for all.
#[derive(Debug, Clone, Copy)]
pub struct Shared<'a> {
    /// What decides whose it is: the job and attempt of a mint, the page of a list, …
    pub key: &'a str,
    /// The account that it is about, in lower case.
    pub owner: &'a str,
    /// The Apps' ids.
    pub apps: &'a [&'a str],
}

/// What is remembered of Apps.
#[derive(Debug, Default)]
pub struct Sharing {
    refused: Refusals,
}

impl Sharing {
    /// Has the App make the call that it belongs to, and the next one where that one may not.
    pub async fn ask<T, C: Clock>(
        &self,
        call: Shared<'_>,
        clock: &C,
        ask: impl AsyncFn(&str) -> Result<T, Failure>,
    ) -> Result<T, CallError> {
        let mut order = order(call.key, call.apps);
        self.refused.pass_over(&mut order, call.apps, call.owner, clock.now());
        let mut kept = None;
        for app in order.into_iter().map(|app| call.apps[app]) {
            let failure = match ask(app).await {
                Ok(answer) => return Ok(answer),
                Err(failure) if call.apps.len() == 1 || !failure.is_own() => return Err(failure.error),
                Err(failure) => failure,
            };
            self.refused.note(&failure, app, call.owner, clock.now());
            kept = Some(better(kept, failure.error));
        }
        Err(kept
            .unwrap_or_else(|| CallError::new(Class::Transient, "GITHUB_SECRET_ARN: nobody is left to ask")))
    }
}

/// Why a call failed.
#[derive(Debug)]
pub struct Failure {
    /// The error.
    pub error: CallError,
    /// Where it failed.
    pub at: At,
}

/// Where a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// There was nothing to make it with.
    Pass,
    /// It was not made, or there was no answer.
    Way,
    /// It was answered with this status.
    Answer(u16),
}

impl Failure {
    /// Whether it is this App's own, so that another may do better.
    fn is_own(&self) -> bool {
        match self.error.class {
            Class::RateLimited { .. } => true,
            Class::NeedsOperator => matches!(self.at, At::Pass | At::Answer(401 | 403 | 404)),
            _ => false,
        }
    }

    /// Whether it will be so for the next call too.
    fn lasts(&self) -> bool {
        self.error.class == Class::NeedsOperator && matches!(self.at, At::Pass | At::Answer(401 | 403))
    }
}

/// Of two Apps' failures the one that says when to come back, and soonest; else the first.
fn better(kept: Option<CallError>, new: CallError) -> CallError {
    let wait = |error: &CallError| match error.class {
        Class::RateLimited { after } => after,
        _ => Duration::MAX,
    };
    match kept {
        Some(kept) if wait(&kept) <= wait(&new) => kept,
        _ => new,
    }
}

/// Apps that were refused, by account.
#[derive(Debug, Default)]
struct Refusals(RefCell<BTreeMap<(String, String), OffsetDateTime>>);

impl Refusals {
    /// Without those that were refused there lately, unless that is all.
    fn pass_over(&self, order: &mut Vec<usize>, apps: &[&str], owner: &str, now: OffsetDateTime) {
        let mut refused = self.0.borrow_mut();
        refused.retain(|_, until| *until > now);
        let is_out = |app: &usize| refused.contains_key(&(apps[*app].to_owned(), owner.to_owned()));
        let out: BTreeSet<usize> = order.iter().copied().filter(is_out).collect();
        if out.len() < order.len() {
            order.retain(|app| !out.contains(app));
        }
    }

    /// Notes how a call of that App's ended.
    fn note(&self, failure: &Failure, app: &str, owner: &str, now: OffsetDateTime) {
        if failure.lasts() {
            tracing::error!(error = %failure.error, app, owner, "an App is passed over");
            self.0.borrow_mut().insert((app.to_owned(), owner.to_owned()), now + PASSED_OVER);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn apps() -> impl Strategy<Value = Vec<String>> {
        prop::collection::btree_set("[0-9]{1,7}|Iv23[A-Za-z0-9]{8}", 1..6)
            .prop_map(|ids| ids.into_iter().collect())
    }

    fn names(apps: &[String]) -> Vec<&str> {
        apps.iter().map(String::as_str).collect()
    }

    proptest! {
        #[test]
        fn a_call_has_all_apps_in_an_order_of_its_own(apps in apps(), key in ".{0,40}") {
            let apps = names(&apps);
            let mut all = order(&key, &apps);
            prop_assert_eq!(&all, &order(&key, &apps));
            all.sort_unstable();
            prop_assert_eq!(all, (0..apps.len()).collect::<Vec<_>>());
        }

        #[test]
        fn an_app_that_goes_changes_nothing_for_the_others(apps in apps(), gone: prop::sample::Index, key in ".{0,40}") {
            let gone = gone.index(apps.len());
            let ranked = |apps: &[&str]| -> Vec<String> {
                order(&key, apps).into_iter().map(|app| apps[app].to_owned()).collect()
            };
            let (all, mut left) = (names(&apps), names(&apps));
            left.remove(gone);
            let without: Vec<String> = ranked(&all).into_iter().filter(|app| *app != apps[gone]).collect();
            prop_assert_eq!(without, ranked(&left), "nor does the order that they are given in");
        }
    }

    #[test]
    fn each_app_takes_its_share() {
        for apps in [&["1", "2"][..], &["123456", "123457", "Iv23liAbCdEf"], &["1", "2", "3", "4", "5"]] {
            let jobs = 20_000;
            let mut shares = vec![0_usize; apps.len()];
            for job in 0..jobs {
                shares[order(&format!("fargate-{}-1", 48_000_000_000_u64 + job), apps)[0]] += 1;
            }
            let fair = 20_000 / apps.len();
            assert!(shares.iter().all(|share| share.abs_diff(fair) * 100 < fair * 4), "{shares:?}");
        }
    }

    #[test]
    fn the_soonest_limit_goes_before_what_needs_an_operator() {
        let limited =
            |after| CallError::new(Class::RateLimited { after: Duration::from_secs(after) }, "limit");
        let operator = || CallError::new(Class::NeedsOperator, "suspended");
        let table = [
            (vec![limited(9), limited(3), limited(5)], limited(3)),
            (vec![operator(), limited(9)], limited(9)),
            (vec![limited(9), operator()], limited(9)),
            (
                vec![CallError::new(Class::NeedsOperator, "first"), operator()],
                CallError::new(Class::NeedsOperator, "first"),
            ),
        ];
        for (errors, want) in table {
            let kept = errors.into_iter().fold(None, |kept, error| Some(better(kept, error)));
            assert_eq!(kept, Some(want));
        }
    }

    #[test]
    fn who_was_refused_is_passed_over_for_a_minute_and_never_everybody() {
        let (refused, now, apps) = (Refusals::default(), OffsetDateTime::UNIX_EPOCH, ["1", "2"]);
        let failure = |at| Failure { error: CallError::new(Class::NeedsOperator, "refused"), at };
        let left = |owner: &str, now| {
            let mut order = vec![0, 1];
            refused.pass_over(&mut order, &apps, owner, now);
            order
        };
        refused.note(&failure(At::Answer(404)), "1", "acme", now);
        assert_eq!(left("acme", now), [0, 1], "that may be about what was asked for");
        refused.note(&failure(At::Pass), "1", "acme", now);
        assert_eq!(left("acme", now), [1]);
        assert_eq!(left("other", now), [0, 1]);
        refused.note(&failure(At::Answer(403)), "2", "acme", now);
        assert_eq!(left("acme", now), [0, 1], "somebody has to ask");
        assert_eq!(left("acme", now + PASSED_OVER), [0, 1]);
    }
}
