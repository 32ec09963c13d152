//! What a flow believes or does whose table has a row that is wrong, or lacks one. A row decides by what was seen: so
//! each is broken by what the flow sees (then another row takes its place) or by what becomes of its step.

use std::{sync::Arc, time::Duration};

use gha_fargate_runners::{
    fargate::{request::TaskRequest, tags},
    ids::{Attempt, JobId, Purpose, RunnerNames},
    intake::payload::{Message, Replacement, read},
    ports::{JobState, JobStatus, Task},
};

use super::{
    planted::{FaultyPort, Function, Planted},
    world::World,
};

/// Where a runner is in its life, as `protocol/life.rs` has the words; in truth, and not as it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Idle,
    Busy,
    Spent,
    Dead,
    Astray,
    Over,
}

fn life(world: &World, name: &str, job: JobId) -> Life {
    let named =
        |task: &&crate::model::ecs::Task| task.tags.get(tags::RUNNER_NAME).is_some_and(|it| it == name);
    let starter = format!("gha-{job}");
    let is_live = world.ecs.started_by(&starter).find(named).map(crate::model::ecs::Task::is_live);
    match (world.by_name(name).map(|runner| runner.busy), is_live) {
        (Some(true), Some(true)) => Life::Busy,
        (Some(false), Some(true)) => Life::Idle,
        (Some(_), Some(false)) => Life::Dead,
        (None, Some(true)) => Life::Spent,
        (None, Some(false)) => Life::Astray,
        (_, None) => Life::Over,
    }
}

impl FaultyPort {
    fn in_reconcile(&self, planted: Planted) -> bool {
        self.is(planted) && self.function == Function::Reconcile
    }

    /// What GitHub says of a job.
    pub(super) fn said(&self, job: JobId, state: Option<JobState>) -> Option<JobState> {
        let over = JobState {
            status: JobStatus::Completed,
            runner_name: None,
            labels: Vec::new(),
            succeeded: false,
            since: None,
            created_at: None,
            run: None,
        };
        let names = RunnerNames::default();
        let anothers =
            |name: &str| names.read(name).and_then(|it| it.job()).is_some_and(|owner| owner != job);
        match state {
            None if self.is(Planted::UnsaidIsNobody) => Some(over),
            Some(state) if self.is(Planted::AlwaysQueued) => {
                Some(JobState { status: JobStatus::Queued, runner_name: None, ..state })
            }
            Some(state)
                if self.is(Planted::ChainNotFollowed)
                    && state.runner_name.as_deref().is_some_and(anothers) =>
            {
                Some(JobState { runner_name: Some(names.of(&Purpose::Job(job, Attempt(1)))), ..state })
            }
            state => state,
        }
    }

    /// What ECS says of a task.
    pub(super) fn shown(&self, task: Task) -> Task {
        if self.in_reconcile(Planted::UnsettledIsIdle) {
            return Task { started_at: None, ..task };
        }
        self.tags_shown(task)
    }

    /// Its tags.
    pub(super) fn tags_shown(&self, mut task: Task) -> Task {
        if self.is(Planted::ServedUnseen) {
            Arc::make_mut(&mut task.tags).remove(tags::JOB_SERVED);
        }
        task
    }

    /// How many runners died for the job before.
    pub(super) fn counted(&self, request: &mut TaskRequest) {
        for (_, value) in request.tags.iter_mut().filter(|(key, _)| key == tags::FAILURES) {
            match self.planted {
                Planted::DeathsForgotten => *value = "0".to_owned(),
                Planted::DeathsCountTwice => *value = (2 * value.parse().unwrap_or(0) + 1).to_string(),
                _ => {}
            }
        }
    }

    /// A runner that is announced: nothing, where the row that announces it is broken.
    pub(super) fn announced(&self, body: &str, delay: Duration) -> Option<(String, Duration)> {
        let Ok(Message::Replacement(next)) = read(body) else { return Some((body.to_owned(), delay)) };
        let dropped = match self.planted {
            Planted::NotHandedBack => next.registered,
            Planted::IdleNotFollowed => self.ended_idle(&next),
            Planted::IdleNotReplaced => self.follows(&next) == Life::Idle,
            Planted::DeadNotReplaced => self.follows(&next) == Life::Dead,
            Planted::SpentNotReplaced => self.follows(&next) == Life::Spent,
            Planted::AstrayNotReplaced => self.follows(&next) == Life::Astray,
            Planted::TakenNotReplaced => self.follows(&next) == Life::Busy,
            _ => false,
        };
        match self.planted {
            _ if dropped => None,
            Planted::WrongLabels => {
                let labels = vec!["self-hosted".to_owned()];
                Some((Replacement { labels, ..next }.to_body(), delay))
            }
            Planted::WrongJob => {
                let attempt = Attempt(next.attempt.0.saturating_sub(1).max(1));
                Some((Replacement { attempt, ..next }.to_body(), delay))
            }
            _ => Some((body.to_owned(), delay)),
        }
    }

    /// The runner before it.
    fn follows(&self, next: &Replacement) -> Life {
        if self.function != Function::Reconcile || next.registered {
            return Life::Over;
        }
        let before = Attempt(next.attempt.0.saturating_sub(1));
        let name = RunnerNames::default().of(&Purpose::Job(next.job_id, before));
        life(&self.port.world.borrow(), &name, next.job_id)
    }

    /// Whether the runner before it was ended by its container when no job had come.
    fn ended_idle(&self, next: &Replacement) -> bool {
        let world = self.port.world.borrow();
        let before = Attempt(next.attempt.0.saturating_sub(1));
        let name = RunnerNames::default().of(&Purpose::Job(next.job_id, before));
        let starter = format!("gha-{}", next.job_id);
        let mut its = world.ecs.started_by(&starter);
        its.any(|task| task.exit_code == Some(84) && task.tags.get(tags::RUNNER_NAME) == Some(&name))
    }

    /// An idle runner that nobody needs stays.
    pub(super) fn leaves(&self, id: u64) -> bool {
        self.in_reconcile(Planted::IdleIsLeft)
            && self.port.world.borrow().github.runner(id).is_some_and(|it| it.online && !it.busy)
    }
}
