//! What the steps of one sweep share.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    flows::chain::Taken,
    ids::{JobId, RunnerId},
    protocol::{books::Runner, told::Told},
};

/// What the steps of one sweep share.
#[derive(Debug, Default)]
pub(crate) struct Course {
    /// Which job got whose runner, where the tags of all tasks were read.
    pub(crate) taken: Option<Taken>,
    /// What the tags of all tasks tell, where GitHub cannot be asked.
    pub(crate) told: Option<Arc<Told>>,
    /// Runners of the warm pools that wait or come, by the class.
    pub(crate) pools: RefCell<BTreeMap<Option<String>, u32>>,
    /// How many those are to be at the most, all pools together.
    most: u32,
    /// Jobs that another runner is announced for, and the registration of the runner that led to that.
    announced: RefCell<BTreeMap<JobId, Option<RunnerId>>>,
    /// Runners that a pool has given up, or taken in.
    counted: RefCell<BTreeSet<Option<RunnerId>>>,
}

impl Course {
    pub(crate) fn new(taken: Option<Taken>, pools: BTreeMap<Option<String>, u32>, most: u32) -> Self {
        Course { taken, pools: RefCell::new(pools), most, ..Course::default() }
    }

    /// Of a sweep that GitHub cannot be asked in.
    pub(crate) fn by_tags(told: Arc<Told>) -> Self {
        Course { told: Some(told), ..Course::default() }
    }

    /// One job gets one runner from a sweep. A step that is repeated after a rate limit may announce again.
    pub(crate) fn claim_announcement(&self, job: JobId, runner: &Runner) -> bool {
        *self.announced.borrow_mut().entry(job).or_insert(runner.registration) == runner.registration
    }

    /// Whether the pool has one more than it is to have: then that one goes.
    pub(crate) fn give_up_surplus(&self, pool: Option<String>, full: u32, runner: &Runner) -> bool {
        self.once(runner, || {
            let mut pools = self.pools.borrow_mut();
            let all: u32 = pools.values().sum();
            let there = pools.entry(pool).or_default();
            let is_surplus = *there > full || (*there > 0 && all > self.most);
            *there -= u32::from(is_surplus);
            is_surplus
        })
    }

    /// Whether the pool lacks one: then it has one more.
    pub(crate) fn fill_one(&self, pool: Option<String>, full: u32, runner: &Runner) -> bool {
        self.once(runner, || {
            let mut pools = self.pools.borrow_mut();
            let all: u32 = pools.values().sum();
            let there = pools.entry(pool).or_default();
            let lacks = *there < full && all < self.most;
            *there += u32::from(lacks);
            lacks
        })
    }

    /// A step that is repeated after a rate limit counts its runner once.
    fn once(&self, runner: &Runner, counts: impl FnOnce() -> bool) -> bool {
        let is_counted = self.counted.borrow().contains(&runner.registration) || counts();
        if is_counted {
            self.counted.borrow_mut().insert(runner.registration);
        }
        is_counted
    }
}
