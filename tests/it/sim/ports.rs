//! The library's ports in the simulated world. Every call suspends; what becomes of it is decided there.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::LocalBoxFuture;
use gha_fargate_runners::{
    adapters::github::share::{At, Failure, Shared as Sharable, Sharing},
    error::{CallError, Class},
    fargate::request::TaskRequest,
    ids::{JobId, RunId, RunnerId, RunnerVersion},
    ports::{
        self, Bus, Clock, Deleted, Deliveries, DeliveryPage, DocumentSource, Fetched, FindTasks, Github,
        Group, JobState, Minted, Queue, Registration, Rerun, Run, RunJob, RunTask, RunnerGroup, Runs,
        SecretSource, Source, StartTasks, Target, Task, TaskArn, Tasks, TendTasks, Timer,
    },
};
use secrecy::SecretString;
use time::OffsetDateTime;

use super::{
    older::Known as Older,
    requests::{Reply, Request},
    runs::{OURSELVES, OfRun},
    world::{Shared, app_id},
};
use crate::model::github::Scope;

/// All ports of a function.
#[derive(Clone)]
pub struct Port {
    pub world: Shared,
    /// How far its clock is ahead.
    ahead: time::Duration,
    known: Rc<Known>,
    /// What it knows, if it is of the release before.
    older: Option<Rc<Older>>,
}

/// What the process knows of the Apps.
struct Known {
    ids: Vec<String>,
    sharing: Sharing,
    /// Nobody asks before a limit is over.
    limited: RefCell<BTreeMap<(usize, bool), OffsetDateTime>>,
}

/// A call: made when it is first polled, done when its answer has arrived.
struct Calling {
    world: Shared,
    request: Option<Request>,
    /// As which App.
    app: usize,
    id: u64,
}

impl Future for Calling {
    type Output = Result<Reply, CallError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut world = this.world.borrow_mut();
        match this.request.take() {
            Some(request) => {
                this.id = world.submit(request, this.app, context.waker().clone());
                Poll::Pending
            }
            None => match world.calls.get_mut(&this.id).and_then(|call| call.reply.take()) {
                Some(reply) => {
                    world.calls.remove(&this.id);
                    Poll::Ready(reply)
                }
                None => Poll::Pending,
            },
        }
    }
}

macro_rules! answer {
    ($call:expr, $pattern:pat => $value:expr) => {
        match $call.await? {
            $pattern => Ok($value),
            _ => unreachable!("an answer of another call"),
        }
    };
}

impl Port {
    /// Those of a process that has just begun.
    pub fn new(world: &Shared, ahead: i64, older: Option<Rc<Older>>) -> Self {
        let ids = (0..world.borrow().settings.apps).map(app_id).collect();
        let known = Known { ids, sharing: Sharing::default(), limited: RefCell::default() };
        let ahead = time::Duration::milliseconds(ahead);
        Port { world: world.clone(), ahead, known: Rc::new(known), older }
    }

    /// Where the target's runners are registered.
    fn scope(&self, target: &Target) -> Result<Scope, CallError> {
        match (&self.world.borrow().settings.scope, &target.repository) {
            (ports::Scope::Org, _) => Ok(Scope::organization(&target.owner)),
            (ports::Scope::Repo, Some(repository)) => Ok(Scope::repository(&target.owner, repository)),
            (ports::Scope::Repo, None) => Err(CallError::new(Class::Invalid, "the repository is not known")),
            (ports::Scope::Enterprise(slug), _) => Ok(Scope::enterprise(slug)),
        }
    }

    /// A message that it reads or writes.
    pub fn body(&self, body: &str) -> String {
        self.older.as_ref().map_or_else(|| body.to_owned(), |older| older.body(body))
    }

    /// Tags that it writes.
    fn tags(&self, tags: &[(String, String)]) -> Vec<(String, String)> {
        self.older.as_ref().map_or_else(|| tags.to_vec(), |older| older.tags(tags))
    }

    /// Tasks, as it sees them.
    async fn tasks(&self, request: Request) -> Result<Vec<Task>, CallError> {
        let tasks = answer!(self.call(request), Reply::Tasks(tasks) => tasks)?;
        Ok(match &self.older {
            Some(older) => tasks.into_iter().map(|task| older.task(task)).collect(),
            None => tasks,
        })
    }

    fn call(&self, request: Request) -> impl Future<Output = Result<Reply, CallError>> + use<> {
        self.call_as(0, request)
    }

    fn call_as(
        &self,
        app: usize,
        request: Request,
    ) -> impl Future<Output = Result<Reply, CallError>> + use<> {
        Calling { world: self.world.clone(), request: Some(request), app, id: 0 }
    }

    /// A call of GitHub that any of the Apps may make.
    async fn ask(&self, target: &Target, request: Request) -> Result<Reply, CallError> {
        let (known, owner) = (&self.known, target.owner.to_lowercase());
        let apps: Vec<&str> = known.ids.iter().map(String::as_str).collect();
        let ask = async |app: &str| {
            let app = self.nth(app);
            // What is the App's own was GitHub's answer.
            self.ask_as(app, request.clone()).await.map_err(|error| Failure { error, at: At::Answer(403) })
        };
        known.sharing.ask(Sharable { key: &request.key(), owner: &owner, apps: &apps }, self, ask).await
    }

    fn nth(&self, app: &str) -> usize {
        self.known.ids.iter().position(|id| id == app).unwrap_or_default()
    }

    /// A call of GitHub as that App.
    async fn ask_as(&self, app: usize, request: Request) -> Result<Reply, CallError> {
        let whose = (app, request.by_the_app());
        let until = self.known.limited.borrow().get(&whose).copied();
        if let Some(left) = until.map(|until| until - self.now()).filter(|left| left.is_positive()) {
            let after = left.unsigned_abs();
            return Err(CallError::new(Class::RateLimited { after }, "not asked: the limit is not over"));
        }
        let answer = self.call_as(app, request).await;
        if let Err(CallError { class: Class::RateLimited { after }, .. }) = &answer {
            self.known.limited.borrow_mut().insert(whose, self.now() + *after);
        }
        answer
    }
}

impl Clock for Port {
    fn now(&self) -> OffsetDateTime {
        self.world.borrow().time() + self.ahead
    }
}

impl Timer for Port {
    async fn wait(&self, time: Duration) {
        // It always comes to its end.
        let _ = self.call(Request::Wait(time)).await;
    }
}

impl Github for Port {
    async fn mint(
        &self,
        target: &Target,
        name: &str,
        labels: &[String],
        group: Option<&RunnerGroup>,
    ) -> Result<Minted, CallError> {
        let group = match group {
            Some(RunnerGroup::Id(id)) => *id,
            // GitHub's own.
            _ => 1,
        };
        let (scope, name, labels) = (self.scope(target)?, name.to_owned(), labels.to_vec());
        answer!(self.ask(target, Request::Mint { scope, name, labels, group }), Reply::Minted(minted) => minted)
    }

    async fn find_runner(&self, target: &Target, name: &str) -> Result<Option<Registration>, CallError> {
        answer!(self.ask(target, Request::FindRunner(self.scope(target)?, name.to_owned())), Reply::Runner(runner) => runner)
    }

    async fn runner(&self, target: &Target, id: RunnerId) -> Result<Option<Registration>, CallError> {
        answer!(self.ask(target, Request::GetRunner(self.scope(target)?, id.0)), Reply::Runner(runner) => runner)
    }

    async fn runners(
        &self,
        target: &Target,
        page: u32,
    ) -> Result<Option<(Vec<Registration>, bool)>, CallError> {
        answer!(self.ask(target, Request::ListRunners(self.scope(target)?, page)), Reply::Runners(runners, more) => Some((runners, more)))
    }

    async fn newest_release(&self, _: &Target) -> Result<Option<RunnerVersion>, CallError> {
        // Nothing is decided by it.
        Ok(RunnerVersion::read(self.world.borrow().github.newest))
    }

    async fn group(&self, _: &Target, _: Option<&RunnerGroup>) -> Result<Option<Group>, CallError> {
        // Nor by this.
        Ok(None)
    }

    async fn delete_runner(&self, target: &Target, id: RunnerId) -> Result<Deleted, CallError> {
        answer!(self.ask(target, Request::DeleteRunner(self.scope(target)?, id.0)), Reply::Deleted(deleted) => deleted)
    }

    async fn job(&self, target: &Target, job: JobId) -> Result<Option<JobState>, CallError> {
        let (owner, repository) = (target.owner.clone(), target.repository.clone());
        if repository.is_none() {
            return Ok(None);
        }
        answer!(self.ask(target, Request::GetJob { owner, repository, job: job.0 }), Reply::Job(state) => state)
    }

    async fn is_own_rerun(
        &self,
        target: &Target,
        run: RunId,
        attempt: Option<u32>,
    ) -> Result<bool, CallError> {
        let (run, own) = (self.run(target, run).await?, self.own_logins().await?);
        Ok(run.is_some_and(|run| run.may_be_of(&own, attempt)))
    }
}

impl Deliveries for Port {
    async fn apps(&self) -> Result<Vec<String>, CallError> {
        Ok(self.known.ids.clone())
    }

    async fn deliveries(&self, of: &str, cursor: Option<&str>) -> Result<DeliveryPage, CallError> {
        let request =
            Request::ListDeliveries { of: self.nth(of), before: cursor.map(str::to_owned), failed: false };
        answer!(self.ask_as(self.nth(of), request), Reply::Deliveries(page, next) => (page, next))
    }

    async fn failed_deliveries(
        &self,
        of: &str,
        cursor: Option<&str>,
    ) -> Result<Option<DeliveryPage>, CallError> {
        let request =
            Request::ListDeliveries { of: self.nth(of), before: cursor.map(str::to_owned), failed: true };
        answer!(self.ask_as(self.nth(of), request), Reply::Deliveries(page, next) => Some((page, next)))
    }

    async fn redeliver(&self, of: &str, id: u64) -> Result<bool, CallError> {
        answer!(self.ask_as(self.nth(of), Request::Redeliver(id)), Reply::Done => true)
    }
}

impl FindTasks for Port {
    async fn live_tasks(&self) -> Result<Vec<Task>, CallError> {
        self.tasks(Request::LiveTasks).await
    }

    async fn tasks_started_by(&self, started_by: &str) -> Result<Vec<Task>, CallError> {
        self.tasks(Request::TasksStartedBy(started_by.to_owned())).await
    }

    async fn ended_tasks(&self, started_by: Option<&str>) -> Result<Vec<Task>, CallError> {
        self.tasks(Request::EndedTasks(started_by.map(str::to_owned))).await
    }

    async fn some_tasks(&self, which: Tasks) -> Result<Vec<Task>, CallError> {
        self.tasks(Request::SomeTasks { ended: which == Tasks::Ended }).await
    }

    async fn describe(&self, arn: &TaskArn) -> Result<Option<Task>, CallError> {
        let task = answer!(self.call(Request::Describe(arn.clone())), Reply::Task(task) => *task)?;
        Ok(match &self.older {
            Some(older) => task.map(|task| older.task(task)),
            None => task,
        })
    }
}

impl StartTasks for Port {
    async fn run_task(&self, request: &TaskRequest) -> Result<RunTask, CallError> {
        let request = TaskRequest { tags: self.tags(&request.tags), ..request.clone() };
        answer!(self.call(Request::RunTask(Box::new(request))), Reply::RunTask(ran) => ran)
    }

    async fn task_count(&self) -> Result<u32, CallError> {
        answer!(self.call(Request::CountTasks), Reply::Count(count) => count)
    }
}

impl TendTasks for Port {
    async fn stop(&self, arn: &TaskArn, reason: &str) -> Result<(), CallError> {
        answer!(self.call(Request::StopTask(arn.clone(), reason.to_owned())), Reply::Done => ())
    }

    async fn tag(&self, arn: &TaskArn, tags: &[(String, String)]) -> Result<bool, CallError> {
        answer!(self.call(Request::TagTask(arn.clone(), self.tags(tags))), Reply::Tagged(tagged) => tagged)
    }
}

impl Queue for Port {
    async fn defer(&self, source: &Source, delay: Duration) -> Result<(), CallError> {
        answer!(self.call(Request::Defer(source.clone(), delay)), Reply::Done => ())
    }

    async fn reject(&self, body: &str, reason: &str) -> Result<(), CallError> {
        let request = Request::Reject { body: self.body(body), reason: reason.to_owned() };
        answer!(self.call(request), Reply::Done => ())
    }

    fn can_reject(&self) -> bool {
        true
    }

    fn can_announce(&self) -> bool {
        true
    }

    async fn announce(&self, body: &str, delay: Duration) -> Result<(), CallError> {
        answer!(self.call(Request::Announce(self.body(body), delay)), Reply::Done => ())
    }

    fn can_tell(&self) -> bool {
        self.world.borrow().settings.author
    }

    async fn tell(&self, body: &str, delay: Duration) -> Result<(), CallError> {
        answer!(self.call(Request::Tell(body.to_owned(), delay)), Reply::Done => ())
    }
}

impl Runs for Port {
    async fn run_job(&self, target: &Target, job: JobId) -> Result<Option<RunJob>, CallError> {
        let request = Request::OfRun(OfRun::Job(target.repository.clone().unwrap_or_default(), job.0));
        answer!(self.ask(target, request), Reply::RunJob(job) => job)
    }

    async fn run(&self, target: &Target, run: RunId) -> Result<Option<Run>, CallError> {
        answer!(self.ask(target, Request::OfRun(OfRun::Run(run.0))), Reply::Run(run) => run)
    }

    async fn jobs_of(
        &self,
        target: &Target,
        run: RunId,
        attempt: u32,
    ) -> Result<Option<Vec<RunJob>>, CallError> {
        answer!(self.ask(target, Request::OfRun(OfRun::Jobs(run.0, attempt))), Reply::RunJobs(jobs) => jobs)
    }

    async fn rerun_failed(&self, target: &Target, run: RunId) -> Result<Rerun, CallError> {
        answer!(self.ask(target, Request::OfRun(OfRun::RerunFailed(run.0))), Reply::Rerun(rerun) => rerun)
    }

    async fn rerun_job(&self, target: &Target, job: JobId) -> Result<Rerun, CallError> {
        answer!(self.ask(target, Request::OfRun(OfRun::RerunJob(job.0))), Reply::Rerun(rerun) => rerun)
    }

    async fn own_logins(&self) -> Result<Vec<String>, CallError> {
        // Asked for once in a process's life.
        Ok(vec![OURSELVES.to_owned()])
    }
}

impl SecretSource for Port {
    async fn read(&self) -> Result<SecretString, CallError> {
        Ok(super::lambda::WEBHOOK_SECRET.into())
    }
}

impl Bus for Port {
    async fn put(&self, detail: &str) -> Result<(), CallError> {
        answer!(self.call(Request::PutEvents(self.body(detail))), Reply::Done => ())
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Port")
    }
}

impl DocumentSource for Port {
    fn fetch<'a>(&'a self, known: Option<&'a str>) -> LocalBoxFuture<'a, Result<Fetched, CallError>> {
        let call = self.call(Request::GetObject(known.map(str::to_owned)));
        Box::pin(async move { answer!(call, Reply::Object(fetched) => fetched) })
    }
}
