//! What the records of one batch share: the classes, room under `MAX_RUNNERS` and the quotas, and GitHub's rate limit.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    sync::Arc,
    time::Duration,
};

use time::OffsetDateTime;
use tokio::sync::{Mutex, MutexGuard};

use crate::{
    error::{CallError, Class},
    flows::quota::{Census, wait_for_room},
    intake::classes::Classes,
    lambda::outcome::{Deferral, Outcome, Reason, Wait},
    ports::{Clock, StartTasks},
    protocol::timing,
};

/// While no good document of classes was seen, jobs come back after so long at most.
const UNTIL_A_GOOD_ONE: Duration = Duration::from_secs(60);

/// One job after another goes on for so long.
const TURNS: Duration = Duration::from_secs(timing::DISPATCH_TIMEOUT.as_secs() / 3);

/// For as long as it is kept, no other job of the batch goes.
pub(crate) type Turn<'a> = MutexGuard<'a, Option<OffsetDateTime>>;

/// What the records of one batch share.
#[derive(Debug)]
pub struct Budget {
    /// The document's, or why there are none.
    classes: Result<Option<Arc<Classes>>, CallError>,
    /// Runners by class and repository.
    pub(crate) census: Census,
    /// Runners that may still be started; `None` is no limit.
    room: Cell<Option<u32>>,
    /// GitHub's rate limit was met: no more mints until then, by the owner in lower case.
    no_mints_until: RefCell<BTreeMap<String, OffsetDateTime>>,
    /// Near that limit, whose turn it is; and when the first turn was.
    turn: Mutex<Option<OffsetDateTime>>,
    /// `MAX_RUNNERS` is set, and ECS did not say how many there are.
    uncounted: Option<CallError>,
}

impl Default for Budget {
    fn default() -> Self {
        Budget {
            classes: Ok(None),
            census: Census::among(1),
            room: Cell::default(),
            no_mints_until: RefCell::default(),
            turn: Mutex::default(),
            uncounted: None,
        }
    }
}

impl Budget {
    /// Asks ECS, once for the whole batch and only if there is a limit, how many runners there are.
    pub(crate) async fn of<E: StartTasks>(
        ecs: &E,
        max_runners: u32,
        max_concurrency: u32,
        classes: Result<Option<Arc<Classes>>, CallError>,
    ) -> Budget {
        let mut budget = Budget { classes, census: Census::among(max_concurrency), ..Budget::default() };
        if max_runners > 0 {
            match ecs.task_count().await {
                Ok(running) => budget.room.set(Some(max_runners.saturating_sub(running))),
                Err(error) => budget.uncounted = Some(error),
            }
        }
        budget
    }

    /// The classes that count for the whole batch. While there should be some and no good document was seen, nobody can
    /// say what a job is to get: it waits.
    pub(crate) fn classes(&self) -> Result<Option<&Classes>, Outcome> {
        match &self.classes {
            Ok(classes) => Ok(classes.as_deref()),
            Err(error) => Err(until_a_good_one(error)),
        }
    }

    pub(crate) fn take_slot(&self) -> Result<Slot<'_>, Outcome> {
        if let Some(error) = &self.uncounted {
            return Err(error.clone().into());
        }
        match self.room.get() {
            Some(0) => Err(Outcome::deferred(Reason::MaxRunners, wait_for_room(), "MAX_RUNNERS is reached")),
            room => {
                self.room.set(room.map(|room| room - 1));
                Ok(Slot(self))
            }
        }
    }

    /// Not before GitHub's rate limit allows it again, of which each owner has one: then no other call is wasted either.
    pub(crate) fn may_mint(&self, owner: &str, now: OffsetDateTime) -> Result<(), CallError> {
        match self.no_mints_until.borrow().get(&owner.to_lowercase()) {
            Some(&until) if now < until => Err(CallError::new(
                Class::RateLimited { after: Duration::try_from(until - now).unwrap_or_default() },
                "GitHub's rate limit was met earlier in this batch",
            )),
            _ => Ok(()),
        }
    }

    /// Near GitHub's rate limit one job goes at a time: ten that are asked about at once, and of which the limit then lets none
    /// be minted, have used up what others need. What comes too late for the function's time-out comes again: GitHub has
    /// refused nothing, so that is no error.
    pub(crate) async fn turn(&self, clock: &impl Clock) -> Result<Turn<'_>, Outcome> {
        let mut turn = self.turn.lock().await;
        let now = clock.now();
        match now - *turn.get_or_insert(now) > TURNS {
            false => Ok(turn),
            true => Err(Outcome::deferred(
                Reason::RateLimit,
                Wait::For(TURNS),
                "near GitHub's rate limit, others of the batch had their turns",
            )),
        }
    }

    /// GitHub's rate limit was met for that owner.
    pub(crate) fn no_mints_until(&self, owner: &str, until: OffsetDateTime) {
        self.no_mints_until.borrow_mut().insert(owner.to_lowercase(), until);
    }
}

/// Another function may have seen a good document, and there may be one at any moment.
pub(crate) fn until_a_good_one(error: &CallError) -> Outcome {
    match Outcome::from(error.clone()) {
        Outcome::Deferred(it) => {
            Outcome::Deferred(Deferral { wait: Wait::BackoffUpTo(UNTIL_A_GOOD_ONE), ..it })
        }
        outcome => outcome,
    }
}

/// One runner's place under `MAX_RUNNERS`.
pub(crate) struct Slot<'a>(&'a Budget);

impl Slot<'_> {
    pub(crate) fn give_back(self) {
        self.0.room.set(self.0.room.get().map(|room| room + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct At(Cell<OffsetDateTime>);

    impl Clock for At {
        fn now(&self) -> OffsetDateTime {
            self.0.get()
        }
    }

    #[tokio::test]
    async fn turns_end_before_the_function_does() {
        let (budget, clock) = (Budget::default(), At(Cell::new(OffsetDateTime::UNIX_EPOCH)));
        for (second, goes) in [(0, true), (10, true), (11, false), (25, false)] {
            clock.0.set(OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(second));
            // What is put off was not refused by GitHub: that would keep the next batches near the limit, for ever.
            let put_off = budget.turn(&clock).await.err();
            assert_eq!(put_off.is_none(), goes, "after {second} s");
            assert!(budget.may_mint("acme", clock.now()).is_ok());
        }
    }

    #[test]
    fn slots_are_given_back() {
        let budget = Budget::default();
        budget.room.set(Some(1));
        let slot = budget.take_slot().unwrap_or_else(|outcome| panic!("{outcome:?}"));
        assert!(budget.take_slot().is_err());
        slot.give_back();
        assert!(budget.take_slot().is_ok());
    }
}
