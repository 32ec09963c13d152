//! Faults planted on purpose, between the flows and their ports: each turns the flows into ones that got a rule of
//! the protocol wrong. The checks must catch every one; a simulator that cannot is no proof.

use std::{cell::Cell, rc::Rc, time::Duration};

use gha_fargate_runners::{
    error::{CallError, Class},
    fargate::request::TaskRequest,
    ids::{Attempt, JobId, Purpose, RunId, RunnerId, RunnerNames, RunnerVersion},
    intake::payload::{self, Message},
    ports::{
        Bus, Deleted, Deliveries, DeliveryPage, FindTasks, Github, Group, JobState, JobStatus, Minted, Queue,
        Registration, RunTask, RunnerGroup, Source, StartTasks, Target, Task, TaskArn, TendTasks,
    },
};

use super::{explore, ports::Port, scenarios, shrink::Failing, wrong_reruns::WrongRerun};

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Planted {
    Nothing,
    /// The message is acknowledged before RunTask: a RunTask that fails is not noticed.
    AckBeforeRunTask,
    /// `failures[]` is not read: no capacity looks like a started task.
    IgnoreFailures,
    /// RunTask without a `clientToken` that the attempt decides.
    NoClientToken,
    /// 409 is taken for a reason to choose another name.
    Forget409,
    /// Retiring: StopTask before DELETE.
    StopBeforeDelete,
    /// Retiring: 422 is taken for 204.
    BusyIsDeleted,
    /// Replacing: DELETE before the announcement.
    DeleteBeforeAnnounce,
    /// The answer names no `batchItemFailures`: what is deferred is deleted.
    NoPartialFailures,
    /// Failed webhook deliveries are not delivered again.
    NoRedelivery,
    /// There is no schedule.
    NoSweep,
    /// Retired runners keep their tasks.
    NoStop,
    /// A registration whose mint's answer was lost counts as somebody else's work.
    TakenIsDone,
    /// A stopped task is taken for one that has run its job whenever it exited with 0.
    GoneWhenStopped,
    /// What runs again, and what does not.
    Reruns(WrongRerun),
    /// Jobs that were taken are not told from jobs that wait: whatever was queued once is started.
    AlwaysQueued,
}

/// All of them, and what each is called.
pub const ALL: [(Planted, &str); 14] = [
    (Planted::AckBeforeRunTask, "acknowledged before RunTask"),
    (Planted::IgnoreFailures, "failures[] not read"),
    (Planted::NoClientToken, "no clientToken"),
    (Planted::Forget409, "409 answered with another name"),
    (Planted::StopBeforeDelete, "StopTask before DELETE"),
    (Planted::BusyIsDeleted, "422 taken for 204"),
    (Planted::DeleteBeforeAnnounce, "DELETE before the announcement"),
    (Planted::NoPartialFailures, "batchItemFailures left empty"),
    (Planted::NoRedelivery, "failed deliveries not delivered again"),
    (Planted::NoSweep, "no sweep"),
    (Planted::NoStop, "retired runners not stopped"),
    (Planted::TakenIsDone, "409 taken for done"),
    (Planted::GoneWhenStopped, "a stopped task's registration not looked at"),
    (Planted::AlwaysQueued, "the job's status not looked at"),
];

/// The ports, with the fault in front of them.
#[derive(Clone)]
pub struct FaultyPort {
    pub port: Port,
    pub planted: Planted,
    pub counter: Rc<Cell<u64>>,
}

impl FaultyPort {
    pub(super) fn is(&self, planted: Planted) -> bool {
        self.planted == planted
    }

    fn count(&self) -> u64 {
        self.counter.set(self.counter.get() + 1);
        self.counter.get()
    }

    /// The task of a registration.
    fn task_of(&self, id: RunnerId) -> Option<TaskArn> {
        let world = self.port.world.borrow();
        let task = world.github.runner(id.0).and_then(|runner| world.books.task_of(runner.id))?;
        world.ecs.arn(task).map(|arn| TaskArn(arn.to_owned()))
    }
}

impl Github for FaultyPort {
    async fn mint(
        &self,
        target: &Target,
        name: &str,
        labels: &[String],
        group: Option<&RunnerGroup>,
    ) -> Result<Minted, CallError> {
        let minted = self.port.mint(target, name, labels, group).await?;
        if matches!(minted, Minted::NameTaken)
            && self.is(Planted::Forget409)
            && let Some(Purpose::Job(job, attempt)) = RunnerNames::default().read(name)
        {
            let other = Attempt(attempt.0 + 100 + self.count() as u32);
            return self
                .port
                .mint(target, &RunnerNames::default().of(&Purpose::Job(job, other)), labels, group)
                .await;
        }
        Ok(minted)
    }

    async fn find_runner(&self, target: &Target, name: &str) -> Result<Option<Registration>, CallError> {
        let found = self.port.find_runner(target, name).await?;
        let taken = self.is(Planted::TakenIsDone);
        Ok(found.map(|runner| Registration { online: runner.online || taken, ..runner }))
    }

    async fn runner(&self, target: &Target, id: RunnerId) -> Result<Option<Registration>, CallError> {
        let runner = self.port.runner(target, id).await?;
        Ok(runner.filter(|_| !self.is(Planted::GoneWhenStopped)))
    }

    async fn runners(&self, target: &Target, page: u32) -> Result<(Vec<Registration>, bool), CallError> {
        if self.is(Planted::GoneWhenStopped) {
            let (runners, more) = self.port.runners(target, page).await?;
            return Ok((runners.into_iter().filter(|runner| runner.online).collect(), more));
        }
        self.port.runners(target, page).await
    }

    async fn newest_release(&self, target: &Target) -> Result<Option<RunnerVersion>, CallError> {
        self.port.newest_release(target).await
    }

    async fn group(&self, target: &Target, group: Option<&RunnerGroup>) -> Result<Option<Group>, CallError> {
        self.port.group(target, group).await
    }

    async fn delete_runner(&self, target: &Target, id: RunnerId) -> Result<Deleted, CallError> {
        if self.is(Planted::StopBeforeDelete)
            && let Some(arn) = self.task_of(id)
        {
            self.port.stop(&arn, "").await?;
        }
        let deleted = self.port.delete_runner(target, id).await?;
        Ok(match deleted {
            Deleted::Busy if self.is(Planted::BusyIsDeleted) => Deleted::Spent,
            deleted => deleted,
        })
    }

    async fn job(&self, target: &Target, job: JobId) -> Result<Option<JobState>, CallError> {
        let state = self.port.job(target, job).await?;
        if self.is(Planted::AlwaysQueued) {
            return Ok(state.map(|state| JobState { status: JobStatus::Queued, runner_name: None, ..state }));
        }
        Ok(state)
    }

    async fn is_own_rerun(
        &self,
        target: &Target,
        run: RunId,
        attempt: Option<u32>,
    ) -> Result<bool, CallError> {
        let own = self.port.is_own_rerun(target, run, attempt).await?;
        Ok(own && !self.is(Planted::Reruns(WrongRerun::SpotAgain)))
    }
}

impl Deliveries for FaultyPort {
    async fn apps(&self) -> Result<Vec<usize>, CallError> {
        self.port.apps().await
    }

    async fn deliveries(&self, of: usize, cursor: Option<&str>) -> Result<DeliveryPage, CallError> {
        self.port.deliveries(of, cursor).await
    }

    async fn failed_deliveries(
        &self,
        of: usize,
        cursor: Option<&str>,
    ) -> Result<Option<DeliveryPage>, CallError> {
        self.port.failed_deliveries(of, cursor).await
    }

    async fn redeliver(&self, of: usize, id: u64) -> Result<bool, CallError> {
        if self.is(Planted::NoRedelivery) { Ok(true) } else { self.port.redeliver(of, id).await }
    }
}

impl FindTasks for FaultyPort {
    async fn live_tasks(&self) -> Result<Vec<Task>, CallError> {
        self.port.live_tasks().await
    }

    async fn tasks_started_by(&self, started_by: &str) -> Result<Vec<Task>, CallError> {
        self.port.tasks_started_by(started_by).await
    }

    async fn ended_tasks(&self, started_by: Option<&str>) -> Result<Vec<Task>, CallError> {
        self.port.ended_tasks(started_by).await
    }

    async fn some_tasks(&self, ended: bool) -> Result<Vec<Task>, CallError> {
        self.port.some_tasks(ended).await
    }

    async fn describe(&self, arn: &TaskArn) -> Result<Option<Task>, CallError> {
        self.port.describe(arn).await
    }
}

impl StartTasks for FaultyPort {
    async fn run_task(&self, request: &TaskRequest) -> Result<RunTask, CallError> {
        let pretended = || RunTask::Started(TaskArn(String::new()).into());
        let mut request = request.clone();
        if self.is(Planted::NoClientToken) {
            request.client_token = format!("{}-{}", request.client_token, self.count());
        }
        match self.port.run_task(&request).await {
            Err(_) if self.is(Planted::AckBeforeRunTask) => Ok(pretended()),
            Err(error) if self.is(Planted::IgnoreFailures) && error.class == Class::NoCapacity => {
                Ok(pretended())
            }
            answer => answer,
        }
    }

    async fn task_count(&self) -> Result<u32, CallError> {
        self.port.task_count().await
    }
}

impl TendTasks for FaultyPort {
    async fn stop(&self, arn: &TaskArn, reason: &str) -> Result<(), CallError> {
        if self.is(Planted::NoStop) { Ok(()) } else { self.port.stop(arn, reason).await }
    }

    async fn tag(&self, arn: &TaskArn, tags: &[(String, String)]) -> Result<bool, CallError> {
        self.port.tag(arn, tags).await
    }
}

impl Queue for FaultyPort {
    async fn defer(&self, source: &Source, delay: Duration) -> Result<(), CallError> {
        self.port.defer(source, delay).await
    }

    async fn reject(&self, body: &str, reason: &str) -> Result<(), CallError> {
        self.port.reject(body, reason).await
    }

    fn can_reject(&self) -> bool {
        true
    }

    fn can_announce(&self) -> bool {
        self.port.can_announce()
    }

    async fn announce(&self, body: &str, delay: Duration) -> Result<(), CallError> {
        if self.is(Planted::DeleteBeforeAnnounce)
            && let Ok(Message::Replacement(replacement)) = payload::read(body)
        {
            let before = Attempt(replacement.attempt.0.saturating_sub(1));
            let name = RunnerNames::default().of(&Purpose::Job(replacement.job_id, before));
            let id = self.port.world.borrow().by_name(&name).map(|runner| runner.id);
            if let Some(id) = id {
                let owner = super::text::ORGANIZATION.to_owned();
                let target = Target { owner, ..Target::default() };
                self.port.delete_runner(&target, RunnerId(id)).await?;
            }
        }
        self.port.announce(body, delay).await
    }

    fn can_tell(&self) -> bool {
        self.port.can_tell()
    }

    async fn tell(&self, body: &str, delay: Duration) -> Result<(), CallError> {
        match self.is(Planted::Reruns(WrongRerun::NobodyTells)) {
            true => Ok(()),
            false => self.port.tell(body, delay).await,
        }
    }
}

impl Bus for FaultyPort {
    async fn put(&self, detail: &str) -> Result<(), CallError> {
        self.port.put(detail).await
    }
}

/// The shortest history in which the fault shows.
pub fn catch(planted: Planted) -> Option<Failing> {
    scenarios::all(false).into_iter().find_map(|mut scenario| {
        scenario.settings.planted = planted;
        scenario.depth = 1;
        explore::shortest(&scenario).1
    })
}
