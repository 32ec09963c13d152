//! While all runners die whatever the job: jobs wait, and one runner a minute finds out whether that is over.

use std::time::Duration;

use crate::{
    error::CallError,
    flows::{
        dispatch::Dispatcher,
        hands::start_unowed,
        plan::Plan,
        watch::{self, Looks},
    },
    intake::{payload::Job, skip::SkipReason},
    lambda::outcome::Outcome,
    ports::{Clock, FindTasks, Github, Queue, StartTasks},
    protocol::{debt::Owed, start::Asked, timing},
};

impl<G: Github, E: FindTasks + StartTasks, Q: Queue, C: Clock> Dispatcher<G, E, Q, C> {
    /// Looks, while nobody waits, whether runners die whatever the job: so the first job costs no more calls than the next.
    pub async fn look_ahead(&self) {
        let (github, names) = (self.github.as_ref(), &self.policy.names);
        let looks =
            Looks { github, ecs: &self.ecs, names, good_for: None, all: false, now: self.clock.now() };
        self.memory.watch.outbreak(&looks, &self.fleet.task_definition).await.unwrap_or_else(watch::unseen);
    }

    /// Where all runners die whatever the job, it waits; perhaps a probe is due.
    pub(crate) async fn held_up(
        &self,
        asked: Asked,
        job: &Job,
        plan: &Plan,
    ) -> Result<Option<Outcome>, CallError> {
        // What is announced may follow one that died of that.
        let good_for = (asked == Asked::Announced).then_some(timing::WATCH);
        let (github, ecs) = (self.github.as_ref(), &self.ecs);
        let (names, now) = (&self.policy.names, self.clock.now());
        let looks = Looks { github, ecs, names, good_for, all: false, now };
        let (watch, definition) = (&self.memory.watch, plan.definition());
        let outbreak = match watch.probe_due(&looks, definition).await {
            Ok(None) => return Ok(None),
            Ok(Some(outbreak)) => outbreak,
            Err(later) => return Ok(Some(Outcome::Deferred(later))),
        };
        // One for a job that is over would take the turn of those that wait, and wait itself for a job that never comes.
        if asked != Asked::Fresh
            && github.is_some()
            && let Owed::ToNobody(why) = self.eyes()?.job(job).await?
        {
            return Ok(Some(Outcome::skipped(SkipReason::NotQueued, why)));
        }
        if let Some(minute) = watch.take_probe(&outbreak, definition, self.clock.now()) {
            self.probe(&plan.as_probe(minute)).await?;
        }
        Ok(Some(Outcome::Deferred(watch::wait(&outbreak))))
    }

    /// Where all runners die whatever the job, none is given up: it is looked at once more, now.
    pub(crate) async fn outbreak_now(&self, definition: &str) -> Result<Option<Outcome>, CallError> {
        let (github, names) = (self.github.as_ref(), &self.policy.names);
        let (good_for, now) = (Some(Duration::ZERO), self.clock.now());
        let looks = Looks { github, ecs: &self.ecs, names, good_for, all: true, now };
        let outbreak = self.memory.watch.outbreak(&looks, definition).await?;
        Ok(outbreak.map(|outbreak| Outcome::Deferred(watch::wait(&outbreak))))
    }

    /// Starts a runner that nobody is owed. Its name is that of the minute: there is one.
    async fn probe(&self, plan: &Plan) -> Result<(), CallError> {
        let started = start_unowed(self.github.as_ref(), &self.ecs, &self.fleet.container, plan).await?;
        if let Some((started, _)) = started {
            tracing::info!(task = %started.arn, "one runner is started to see whether runners live again");
        }
        Ok(())
    }
}
