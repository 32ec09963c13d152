//! Container-minted: what the containers do, by the decisions of `runner-init` itself. Each asks GitHub for its own
//! registration, starts its runner, looks whether that has a job, and ends it when none comes.

use std::{future::Future, pin::Pin, time::Duration};

use gha_fargate_runners::{
    flows::container::{Exit, ExitReason, JobWatch, Wanted, ended, stopped},
    ports::Target,
};

use super::{
    Ms, SECOND,
    planted::Planted,
    ports::Port,
    tasks::Ending,
    text::ORGANIZATION,
    world::{Ev, IDLE_TIMEOUT, Shared, World, tell},
};

/// A container, from its task's start to its end.
#[derive(Debug, Default)]
pub struct Container {
    /// Its mint, as long as that is under way.
    pub minting: Option<u64>,
    /// Its runner, and when that was started.
    runner: Option<(JobWatch, Ms)>,
    /// Its runner executes a job.
    pub works: bool,
    /// Why it was asked to end, by the container itself.
    stopping: Option<ExitReason>,
}

impl Container {
    fn had_job(&self) -> bool {
        self.runner.is_some_and(|(watch, _)| watch.had_job())
    }

    /// The code that its end has.
    fn exit(&self, ending: Ending) -> Option<i32> {
        let reason = match ending {
            Ending::Exited(code) => ended(u8::try_from(code).unwrap_or(1), self.had_job()),
            Ending::Interrupted | Ending::Asked if self.runner.is_none() => ExitReason::StoppedUnregistered,
            Ending::Interrupted | Ending::Asked => stopped(ExitReason::Stopped, self.had_job()),
            ending => return ending.exit(),
        };
        Some(reason.code().into())
    }
}

/// The mint of that task's container: the registration, or why there is none.
pub fn mint(world: &Shared, task: u64) -> Pin<Box<dyn Future<Output = Result<u64, Exit>>>> {
    let port = Port::new(world, 0, None);
    let (environment, chance) = {
        let world = world.borrow();
        let environment = world.ecs.task(task).map(|task| task.environment.clone()).unwrap_or_default();
        (environment, world.takes(0, 1_000, 36, task) as f64 / 1_000.0)
    };
    Box::pin(async move {
        let of = |name: &str| environment.get(name).cloned().unwrap_or_default();
        let (name, labels) = (of("RUNNER_NAME"), of("RUNNER_LABELS_JSON"));
        let labels: Vec<String> = serde_json::from_str(&labels).expect("labels in JSON");
        let target = Target { owner: ORGANIZATION.to_owned(), ..Target::default() };
        let wanted = Wanted { target, name: &name, labels: &labels };
        let registration = wanted.register(&port, &port, || chance).await?;
        Ok(registration.id.0)
    })
}

impl World {
    /// What the container says when its task ends like that.
    pub(super) fn exit_code(&mut self, task: u64, ending: Ending) -> Option<i32> {
        self.look(task);
        match self.containers.remove(&task) {
            Some(container) => {
                if let Some(minting) = container.minting {
                    self.after(0, Ev::Die(minting));
                }
                container.exit(ending)
            }
            None => ending.exit(),
        }
    }

    /// The container's mint is over.
    pub fn minted_itself(&mut self, task: u64, minted: Result<u64, Exit>) {
        let Some(container) = self.containers.get_mut(&task) else { return };
        container.minting = None;
        let job = self.books.task(task).map_or(0, |task| task.job);
        let registration = match minted {
            Ok(registration) => registration,
            Err(end) => {
                tell!(self, job, "the container of task {task}: {} ({})", end.reason, end.detail);
                return self.after(SECOND, Ev::End(task, Ending::Quit(end.reason.code().into())));
            }
        };
        container.runner = Some((JobWatch::new(Duration::from_millis(IDLE_TIMEOUT)), self.now));
        if let Some(it) = self.books.registration_mut(registration) {
            it.task = Some(task);
        }
        if let Some(it) = self.books.task_mut(task) {
            it.registration = registration;
        }
        self.runner_starts(task);
        self.after(SECOND, Ev::Look(task));
    }

    /// What the watch sees at this moment: why the runner should end.
    fn look(&mut self, task: u64) -> Option<ExitReason> {
        let container = self.containers.get_mut(&task)?;
        let (watch, began) = container.runner.as_mut()?;
        watch.look(container.works, Duration::from_millis(self.now - *began))
    }

    /// The container looks whether its runner has a job.
    pub(super) fn looks(&mut self, task: u64) {
        let given_up = self.look(task).filter(|_| self.settings.planted != Planted::NeverIdle);
        let Some(container) = self.containers.get_mut(&task) else { return };
        let Some((watch, began)) = &container.runner else { return };
        match given_up {
            // What it would see in between is what it sees when that changes.
            None if container.works || container.stopping.is_some() => {}
            None => {
                let idle = (began + IDLE_TIMEOUT).saturating_sub(self.now);
                let next = watch.until_next_look().as_millis() as Ms;
                let time = if watch.had_job() { next } else { idle.max(next) };
                self.after(time, Ev::Look(task));
            }
            Some(reason) => {
                container.stopping = Some(reason);
                let takes = self.takes(SECOND, 3 * SECOND, 37, task);
                self.after(takes, Ev::Quit(task));
            }
        }
    }

    /// The runner of that task executes a job from now on, or does no more.
    pub(super) fn works(&mut self, task: u64, works: bool) {
        let Some(container) = self.containers.get_mut(&task) else { return };
        container.works = works;
        let Some((watch, _)) = &container.runner else { return };
        let time = watch.until_next_look().as_millis() as Ms;
        self.after(time, Ev::Look(task));
    }

    /// The runner has ended that its container asked to.
    pub(super) fn quits(&mut self, task: u64) {
        // A job may have come at the last moment.
        self.look(task);
        let Some(container) = self.containers.get(&task) else { return };
        let Some(reason) = container.stopping else { return };
        let code = stopped(reason, container.had_job()).code();
        self.end(task, Ending::Quit(code.into()));
    }

    /// The registration of a runner was deleted under it: it finds out, and exits.
    pub(super) fn loses_its_registration(&mut self, task: u64) {
        if self.containers.contains_key(&task) {
            let takes = self.takes(10 * SECOND, 60 * SECOND, 38, task);
            self.after(takes, Ev::End(task, Ending::Exited(0)));
        }
    }
}
