//! Idle runners kept ready: the stack's own pool, and one for each class that has one. The sweep fills them up, and a
//! class's also whoever hears that a job has taken one.

use time::OffsetDateTime;

use crate::{
    error::{CallError, Class},
    flows::{
        basin::{Basin, basins, key_of},
        hands::start_unowed,
        plan::{Plan, Stack},
        reconcile::{Pool, Reconciler},
        tally::Tally,
        watch::{self, Looks},
    },
    ids::{JobId, Purpose},
    intake::classes::Choice,
    lambda::{
        batch,
        metric::Metric,
        outcome::{Done, Handled},
    },
    ports::{Deliveries, FindTasks, Github, Queue, StartTasks, Target, Task, TendTasks, Timer},
    protocol::timing,
};

/// The slots that a sweep has for one pool; a pool has no more runners (`pool.size` of a class).
const SLOTS: u32 = 1000;
/// The slots of runners that follow one that was taken. (Those of probes are higher.)
const FIRST_AFTER_ONE: u32 = 500_000;

impl<G, E, S, Q, C> Reconciler<G, E, S, Q, C>
where
    G: Github + Deliveries,
    E: FindTasks + TendTasks,
    S: StartTasks,
    Q: Queue,
    C: Timer,
{
    /// The pools, as the settings and the newest good document have them.
    pub(crate) fn basins(&self) -> Vec<Basin> {
        let Some(pool) = &self.pool else { return Vec::new() };
        let newest = self.document.newest();
        let mut basins = basins(pool.size, &pool.labels, newest.as_deref(), self.clock.now());
        if self.drained {
            basins.iter_mut().for_each(|basin| basin.size = 0);
        }
        basins
    }

    /// The pool that runners of these labels belong to.
    pub(crate) fn basin_with(&self, labels: &[String]) -> Option<Basin> {
        self.basins().into_iter().find(|basin| basin.has_labels(labels))
    }

    /// How many idle runners a pool is to have; `None`: nobody can say, since no good document was seen yet.
    pub(crate) fn full(&self, key: &Option<String>) -> Option<u32> {
        let basin = self.basins().into_iter().find(|basin| basin.key() == *key);
        match basin {
            Some(basin) => Some(basin.size),
            None if key.is_some() && !self.drained && self.document.newest().is_none() => None,
            None => Some(0),
        }
    }

    /// How many idle runners there may be while so many tasks are live, so many of which are idle ones. Under
    /// `MAX_RUNNERS` they leave a place for a job that none of them may be given.
    pub(crate) fn most_idle(&self, live: usize, idle: u32) -> u32 {
        let others = u32::try_from(live).unwrap_or(u32::MAX).saturating_sub(idle);
        match self.pool.as_ref().map_or(0, |pool| pool.max_runners) {
            0 => u32::MAX,
            most => most.saturating_sub(others.saturating_add(1)),
        }
    }

    /// Fills the pools up. Names and tokens come from the sweep's scheduled time: a sweep that is delivered twice meets
    /// its own names.
    pub(crate) async fn fill(
        &self,
        github: &G,
        most: u32,
        scheduled: OffsetDateTime,
        deadline: OffsetDateTime,
        tally: &mut Tally,
    ) {
        let Some(pool) = &self.pool else { return };
        let window = u64::try_from(scheduled.unix_timestamp()).unwrap_or_default();
        for (basin, first) in self.basins().iter().zip((0..).step_by(SLOTS as usize)) {
            let room = most.saturating_sub(tally.pools.values().sum());
            let lacks = self.lacks(pool, basin, tally).await.min(room);
            for slot in first..first + lacks.min(SLOTS) {
                if self.clock.now() + timing::ONE_STEP > deadline {
                    return;
                }
                match self.start_idle(github, pool, basin, Purpose::Pool { window, slot }).await {
                    Ok(Some(done)) => {
                        *tally.pools.entry(basin.key()).or_default() += 1;
                        tally.add(&done);
                    }
                    Ok(None) => {}
                    Err(error) => {
                        tally.note(Err(error));
                        break;
                    }
                }
            }
        }
    }

    /// How many runners the pool is to be given. Where all die before they take a job, one at each sweep finds out
    /// whether that is over.
    async fn lacks(&self, pool: &Pool<S>, basin: &Basin, tally: &mut Tally) -> u32 {
        let there = tally.pools.get(&basin.key()).copied().unwrap_or_default();
        let lacks = basin.size.saturating_sub(there);
        if lacks == 0 {
            return 0;
        }
        let definition = match &basin.class {
            Some(class) => class.fleet(&pool.fleet).task_definition,
            None => pool.fleet.task_definition.clone(),
        };
        match self.memory.watch.outbreak(&self.looks(), &definition).await.unwrap_or_else(watch::unseen) {
            Some(outbreak) => {
                tally.note(Err(CallError::new(Class::NeedsOperator, watch::said(&outbreak))));
                1
            }
            None => lacks,
        }
    }

    /// A job has taken a runner of a pool, which it was ready for.
    pub(crate) fn note_taken(&self, task: &Task, since: Option<OffsetDateTime>) {
        self.memory.note_count(Metric::PoolTaken, 1);
        self.note_idle(task, since.unwrap_or(self.clock.now()));
    }

    /// So long has it waited: for its job, or in vain.
    pub(crate) fn note_idle(&self, task: &Task, until: OffsetDateTime) {
        let idle = task.started_at.map_or(0, |started_at| (until - started_at).whole_seconds());
        self.memory.note_count(Metric::PoolIdleSeconds, u64::try_from(idle).unwrap_or_default());
    }

    /// A job has taken a runner of a class's pool: another one comes at once. Its name is that of the job, so there is
    /// one, however often this is heard. What fails is left to the sweep.
    pub(crate) async fn follow_up(&self, task: &Task, job: JobId) {
        let (Some(github), Some(pool)) = (&self.github, &self.pool) else { return };
        // Whether there is room, the sweep counts.
        if pool.max_runners > 0 {
            return;
        }
        let key = key_of(task);
        let basin = self.basins().into_iter().find(|basin| basin.key() == key && basin.size > 0);
        let Some(basin) = basin.filter(|basin| basin.class.is_some()) else { return };
        // At worst, one is started in vain.
        let looks = Looks { good_for: Some(timing::SWEEP_EVERY), ..self.looks() };
        if !matches!(self.memory.watch.outbreak(&looks, &task.definition).await, Ok(None)) {
            return;
        }
        let purpose = Purpose::Pool { window: job.0, slot: FIRST_AFTER_ONE };
        match self.start_idle(github, pool, &basin, purpose).await {
            Ok(Some(done)) => {
                self.memory.note_count(Metric::StartedCpuUnits, done.count(Metric::StartedCpuUnits))
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "the pool could not be filled up at once: left to the sweep");
            }
        }
    }

    async fn start_idle(
        &self,
        github: &G,
        pool: &Pool<S>,
        basin: &Basin,
        purpose: Purpose,
    ) -> Result<Option<Done>, CallError> {
        let owner = self.policy.organization.clone().unwrap_or_default();
        let place = Target { owner, ..Target::default() };
        let choice = Choice { sizing: basin.sizing(), class: basin.class.clone() };
        let stack = Stack { fleet: &pool.fleet, network: &pool.network, names: &self.policy.names };
        let plan = Plan::new(purpose, basin.labels.clone(), place, choice, stack);
        let started = start_unowed(Some(github), &pool.ecs, &pool.fleet.container, &plan).await?;
        let Some((started, capacity)) = started else { return Ok(None) };
        let done = Done::started(format!("{} on {capacity}", plan.runner_name()), started);
        let handled = Handled::new(done.clone());
        batch::log("", &handled, None, time::Duration::ZERO);
        Ok(Some(done))
    }
}
