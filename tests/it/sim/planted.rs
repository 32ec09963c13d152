//! Faults planted on purpose, between the flows and their ports: each turns the flows into ones that got a rule of
//! the protocol wrong. The checks must catch every one; a simulator that cannot is no proof.

use std::{cell::Cell, rc::Rc, time::Duration};

use gha_fargate_runners::{
    error::{CallError, Class},
    fargate::request::TaskRequest,
    ids::{Attempt, JobId, Purpose, RunId, RunnerId, RunnerNames, RunnerVersion},
    intake::payload::{self, Message},
    ports::{
        Bus, Deleted, Deliveries, DeliveryPage, FindTasks, Github, Group, JobState, Minted, Queue,
        Registration, RunTask, RunnerGroup, Source, StartTasks, Target, Task, TaskArn, Tasks, TendTasks,
    },
};

use super::{
    explore::{self, Scenario},
    ports::Port,
    scenarios,
    shrink::Failing,
    wrong_reruns::WrongRerun,
};

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
    /// The webhook is answered although the event bus took nothing.
    AnsweredAnyway,
    /// What is given up is not written to the dead-letter queue.
    NotRejected,
    /// start: runners that died are not counted.
    DeathsForgotten,
    /// start: each counts for two and more.
    DeathsCountTwice,
    /// debt: what GitHub does not show is owed nothing.
    UnsaidIsNobody,
    /// debt: a job that took another's runner ends the chain.
    ChainNotFollowed,
    /// tend: an idle runner is retired, and the job that waits for one gets none.
    IdleNotReplaced,
    /// tend: the same of one that died before it took a job,
    DeadNotReplaced,
    /// of one whose registration is spent and whose task lives,
    SpentNotReplaced,
    /// of one of which nobody told what it ran,
    AstrayNotReplaced,
    /// and of one that another job has.
    TakenNotReplaced,
    /// tend: a registration without a task is not handed back.
    NotHandedBack,
    /// tend: an idle runner that nobody needs is left.
    IdleIsLeft,
    /// A runner that has just come up is retired at once.
    UnsettledIsIdle,
    /// outbreak: that all runners die is not seen.
    OutbreakUnseen,
    /// Container-minted: a runner that ended idle is not followed,
    IdleNotFollowed,
    /// nor one whose end nobody told of.
    EndedNotLookedFor,
    /// A runner's container does not end it when no job comes.
    NeverIdle,
    /// Container-minted: that a job is over is not seen on its tasks,
    ServedUnseen,
    /// nor is a job that is given up by one alone.
    GivenUpTwice,
    /// A replacement has other labels than the job.
    WrongLabels,
    /// A replacement is announced as the attempt that it replaces.
    WrongJob,
}

/// The functions, which have the same ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    Webhook,
    Dispatch,
    Reconcile,
}

/// All of them, and what each is called.
pub const ALL: [(Planted, &str); 31] = [
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
    (Planted::AnsweredAnyway, "a webhook answered whose event is on no bus"),
    (Planted::NotRejected, "given up, and no dead letter"),
    (Planted::DeathsForgotten, "start: runners that died not counted"),
    (Planted::DeathsCountTwice, "start: runners that died counted twice"),
    (Planted::UnsaidIsNobody, "debt: a job that GitHub does not show owed nothing"),
    (Planted::ChainNotFollowed, "debt: the chain not followed"),
    (Planted::IdleNotReplaced, "tend: an idle runner retired, its job without another"),
    (Planted::DeadNotReplaced, "tend: a runner that died not replaced"),
    (Planted::SpentNotReplaced, "tend: a runner without its registration not replaced"),
    (Planted::AstrayNotReplaced, "tend: a runner that ran what nobody knows not replaced"),
    (Planted::TakenNotReplaced, "tend: a runner that another job took not replaced"),
    (Planted::NotHandedBack, "tend: a registration without a task not handed back"),
    (Planted::IdleIsLeft, "tend: an idle runner that nobody needs left"),
    (Planted::UnsettledIsIdle, "a runner that has just come up retired at once"),
    (Planted::OutbreakUnseen, "outbreak: not seen"),
    (Planted::WrongLabels, "a replacement with other labels"),
    (Planted::WrongJob, "a replacement under the name of the one before"),
];

/// Those that show where the containers mint for themselves.
pub const CONTAINER_MINTED: [(Planted, &str); 5] = [
    (Planted::IdleNotFollowed, "a runner that ended idle not followed"),
    (Planted::EndedNotLookedFor, "a runner whose end nobody told of not looked for"),
    (Planted::NeverIdle, "an idle runner not ended by its container"),
    (Planted::ServedUnseen, "that a job is over not seen on its tasks"),
    (Planted::GivenUpTwice, "a job given up twice"),
];

/// The ports, with the fault in front of them.
#[derive(Clone)]
pub struct FaultyPort {
    pub port: Port,
    pub function: Function,
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

    async fn runners(
        &self,
        target: &Target,
        page: u32,
    ) -> Result<Option<(Vec<Registration>, bool)>, CallError> {
        if self.is(Planted::GoneWhenStopped) {
            let page = self.port.runners(target, page).await?;
            let is_online = |runner: &Registration| runner.online;
            return Ok(page.map(|(runners, more)| (runners.into_iter().filter(is_online).collect(), more)));
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
        if self.leaves(id.0) {
            return Ok(Deleted::Busy);
        }
        let deleted = self.port.delete_runner(target, id).await?;
        Ok(match deleted {
            Deleted::Busy if self.is(Planted::BusyIsDeleted) => Deleted::Spent,
            deleted => deleted,
        })
    }

    async fn job(&self, target: &Target, job: JobId) -> Result<Option<JobState>, CallError> {
        Ok(self.said(job, self.port.job(target, job).await?))
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
    async fn apps(&self) -> Result<Vec<String>, CallError> {
        self.port.apps().await
    }

    async fn deliveries(&self, of: &str, cursor: Option<&str>) -> Result<DeliveryPage, CallError> {
        self.port.deliveries(of, cursor).await
    }

    async fn failed_deliveries(
        &self,
        of: &str,
        cursor: Option<&str>,
    ) -> Result<Option<DeliveryPage>, CallError> {
        self.port.failed_deliveries(of, cursor).await
    }

    async fn redeliver(&self, of: &str, id: u64) -> Result<bool, CallError> {
        if self.is(Planted::NoRedelivery) { Ok(true) } else { self.port.redeliver(of, id).await }
    }
}

impl FindTasks for FaultyPort {
    async fn live_tasks(&self) -> Result<Vec<Task>, CallError> {
        Ok(self.port.live_tasks().await?.into_iter().map(|task| self.tags_shown(task)).collect())
    }

    async fn tasks_started_by(&self, started_by: &str) -> Result<Vec<Task>, CallError> {
        let tasks = self.port.tasks_started_by(started_by).await?;
        Ok(tasks.into_iter().map(|task| self.shown(task)).collect())
    }

    async fn ended_tasks(&self, started_by: Option<&str>) -> Result<Vec<Task>, CallError> {
        let tasks = self.port.ended_tasks(started_by).await?;
        let hides =
            started_by.is_none() && (self.is(Planted::EndedNotLookedFor) || self.is(Planted::OutbreakUnseen));
        Ok(tasks.into_iter().filter(|_| !hides).map(|task| self.tags_shown(task)).collect())
    }

    async fn some_tasks(&self, which: Tasks) -> Result<Vec<Task>, CallError> {
        let tasks = self.port.some_tasks(which).await?;
        Ok(tasks.into_iter().filter(|_| !self.is(Planted::OutbreakUnseen)).collect())
    }

    async fn describe(&self, arn: &TaskArn) -> Result<Option<Task>, CallError> {
        Ok(self.port.describe(arn).await?.map(|task| self.shown(task)))
    }
}

impl StartTasks for FaultyPort {
    async fn run_task(&self, request: &TaskRequest) -> Result<RunTask, CallError> {
        let pretended = || RunTask::Started(TaskArn(String::new()).into());
        let mut request = request.clone();
        if self.is(Planted::NoClientToken) {
            request.client_token = format!("{}-{}", request.client_token, self.count());
        }
        self.counted(&mut request);
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
        if self.is(Planted::GivenUpTwice) {
            self.port.reject(body, reason).await?;
        }
        if self.is(Planted::NotRejected) { Ok(()) } else { self.port.reject(body, reason).await }
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
        match self.announced(body, delay) {
            Some((body, delay)) => self.port.announce(&body, delay).await,
            None => Ok(()),
        }
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
        match self.port.put(detail).await {
            Err(_) if self.is(Planted::AnsweredAnyway) => Ok(()),
            put => put,
        }
    }
}

/// The shortest history in which the fault shows.
pub fn catch(planted: Planted) -> Option<Failing> {
    let of_depth = |depth| move |scenario| Scenario { depth, ..scenario };
    let worst = scenarios::worse().into_iter().map(of_depth(0));
    let usual = worst.chain(scenarios::all(false).into_iter().map(of_depth(1)));
    let is_theirs = CONTAINER_MINTED.iter().any(|(theirs, _)| *theirs == planted);
    let tried = match is_theirs {
        true => scenarios::container_minted().into_iter().map(of_depth(0)).collect(),
        false => usual.collect::<Vec<_>>(),
    };
    tried.into_iter().find_map(|mut scenario| {
        scenario.settings.planted = planted;
        explore::shortest(&scenario).1
    })
}
