//! A call of a port: what it does to the world, and what it answers.

use std::{task::Waker, time::Duration};

use gha_fargate_runners::{
    error::{CallError, Class},
    fargate::request::TaskRequest,
    ids::{RunnerId, RunnerNames},
    ports::{Deleted, JitConfig, Minted, RunTask, Task, TaskArn},
};

use super::{
    MINUTE, Ms, SECOND,
    chance::{CALLS, Odds, Point},
    check::Kind,
    forms::{as_delivery, as_request, as_runner, as_state, as_task, number_after, receipt, unacceptable},
    messages::Which,
    requests::{
        Call, READ, Reply, Request, WRITE,
        fate::{self, *},
        is_ecs, is_github, is_read,
    },
    tasks::Ending,
    text::{CLUSTER, rfc3339},
    world::{Ev, Todo, World, app_id, tell},
};
use crate::model::{
    ecs::{self, ListTasks, Supply},
    github::{self, MintError, PAGE, Scope},
    limits::Limited,
    past::Sight,
    sqs::{MOST_DELAY, MOST_VISIBILITY},
};

/// Longer than any call takes: the flows' own time-outs cut it off.
const CALL_TIME_OUT: Ms = 10 * SECOND;

impl World {
    /// A flow waits: nothing can go wrong with that.
    fn wait(&mut self, time: Duration, waker: Waker) -> u64 {
        self.last_call += 1;
        let (id, invocation) = (self.last_call, self.current);
        let (reply, point) = (Some(Ok(Reply::Done)), Point::Wait);
        self.calls.insert(
            id,
            Call { invocation, app: 0, request: None, reply, waker: Some(waker), fate: 0, job: 0, point },
        );
        self.after(time.as_millis() as Ms, Ev::Answer(id));
        id
    }

    /// A flow makes a call.
    pub fn submit(&mut self, request: Request, app: usize, waker: Waker) -> u64 {
        if let Request::Wait(time) = request {
            return self.wait(time, waker);
        }
        let point = request.point();
        let job = self.subject(&request);
        if (point as usize) < CALLS {
            self.stats.calls[point as usize] += 1;
            if let Some(by) = self.invoked.get(&self.current) {
                self.stats.calls_by[*by][point as usize] += 1;
            }
        }
        let mut odds: Vec<Odds> = if is_read(point) { READ.to_vec() } else { WRITE.to_vec() };
        if is_github(point) {
            odds.push((LIMITED, 30));
            if self.is_out_hourly(1, 2, 12) {
                odds.insert(0, (REFUSED, 80_000));
            }
        } else if is_ecs(point) && self.is_out_hourly(2, 1, 8) {
            odds.insert(0, (REFUSED, 80_000));
        }
        // S3 shows what was written last.
        if is_read(point) && point != Point::GetObject {
            odds.push((LATE_COPY, self.settings.rates.late_copy));
        } else if is_ecs(point) {
            odds.push((DISGUISED, self.settings.rates.disguised_throttle));
        }
        let fate = self.decide(job, point, &odds);
        self.last_call += 1;
        let id = self.last_call;
        let invocation = self.current;
        self.note(50 + point as u64, id, u64::from(fate));
        if fate != 0 {
            tell!(self, job, "{point:?}{} {}", about(job), fate::describe(fate));
        }
        let there = self.takes(20, 180, 20, id);
        let back = self.takes(20, 120, 21, id);
        let mut call = Call {
            invocation,
            app,
            request: Some(request),
            reply: None,
            waker: Some(waker),
            fate,
            job,
            point,
        };
        match fate {
            REFUSED | LIMITED | DISGUISED => {
                call.request = None;
                let class = match fate {
                    LIMITED => Class::RateLimited { after: Duration::from_secs(60) },
                    DISGUISED => Class::NeedsOperator,
                    _ => Class::Transient,
                };
                call.reply = Some(Err(CallError::new(class, "refused")));
                self.after(there + back, Ev::Answer(id));
            }
            REQUEST_LOST => {
                call.request = None;
                call.reply = Some(Err(CallError::new(Class::Unknown, "no answer")));
                self.after(CALL_TIME_OUT, Ev::Answer(id));
            }
            DIES_BEFORE => {
                call.request = None;
                self.after(0, Ev::Die(invocation));
            }
            LATE_EFFECT => {
                self.after(0, Ev::Die(invocation));
                self.after(40 * SECOND, Ev::Effect(id));
            }
            SLOW => self.after(9 * SECOND, Ev::Effect(id)),
            _ => self.after(there, Ev::Effect(id)),
        }
        self.calls.insert(id, call);
        id
    }

    /// Whose call it is.
    fn subject(&self, request: &Request) -> u64 {
        let of_name =
            |name: &str| RunnerNames::default().read(name).and_then(|it| it.job()).map_or(0, |it| it.0);
        match request {
            Request::Mint { name, .. } | Request::FindRunner(_, name) => of_name(name),
            Request::GetRunner(_, id) | Request::DeleteRunner(_, id) => self.books.minted_for(*id),
            Request::GetJob { job, .. } => *job,
            Request::TasksStartedBy(started_by) | Request::EndedTasks(Some(started_by)) => {
                started_by.strip_prefix("gha-").and_then(|job| job.parse().ok()).unwrap_or(0)
            }
            Request::Describe(arn) | Request::StopTask(arn, _) | Request::TagTask(arn, _) => {
                self.books.task(number_of(arn)).map_or(0, |task| task.job)
            }
            Request::RunTask(request) => {
                request.started_by.strip_prefix("gha-").and_then(|job| job.parse().ok()).unwrap_or(0)
            }
            Request::Defer(source, _) => receipt(source).2,
            Request::OfRun(it) => it.subject(),
            Request::Announce(body, _) | Request::Tell(body, _) | Request::Reject { body, .. } => {
                number_after(body, "\"job_id\":")
                    .or_else(|| number_after(body, "\"workflow_job\":{\"id\":"))
                    .unwrap_or(0)
            }
            Request::PutEvents(detail) => number_after(detail, "\"workflow_job\":{\"id\":").unwrap_or(0),
            Request::Redeliver(id) => self.deliveries.get(*id).map_or(0, |it| it.payload.job),
            Request::ListRunners(..)
            | Request::ListDeliveries { .. }
            | Request::CountTasks
            | Request::EndedTasks(None)
            | Request::SomeTasks { .. }
            | Request::GetObject(_)
            | Request::Wait(_)
            | Request::LiveTasks => 0,
        }
    }

    /// The request arrives.
    pub fn effect(&mut self, id: u64) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(request) = call.request.take() else { return };
        let (fate, job, point, invocation) = (call.fate, call.job, call.point, call.invocation);
        let app = call.app;
        self.current = invocation;
        let refused = is_github(point).then(|| self.charge(&request, app)).and_then(Result::err);
        let reply = match refused {
            Some(refused) => {
                self.stats.refused[point as usize] += 1;
                Err(refused)
            }
            None => self.apply(request, point, job, fate == LATE_COPY),
        };
        if point == Point::Reject && fate != 0 {
            self.is_unsure_of_its_letter(job);
        }
        let back = self.takes(20, 120, 21, id);
        let Some(call) = self.calls.get_mut(&id) else { return };
        match fate {
            ANSWER_LOST => {
                call.reply = Some(Err(CallError::new(Class::Unknown, "no answer")));
                self.after(CALL_TIME_OUT, Ev::Answer(id));
            }
            DIES_AFTER => {
                self.calls.remove(&id);
                self.after(0, Ev::Die(invocation));
            }
            LATE_EFFECT => drop(self.calls.remove(&id)),
            _ => {
                call.reply = Some(reply);
                self.after(if fate == SLOW_ANSWER { 9 * SECOND } else { back }, Ev::Answer(id));
            }
        }
    }

    /// The answer arrives.
    pub fn answer(&mut self, id: u64) -> Todo {
        let Some(call) = self.calls.get_mut(&id) else { return Todo::Nothing };
        if let Some(waker) = call.waker.take() {
            waker.wake();
        }
        Todo::Poll(call.invocation)
    }

    /// What GitHub refuses an App.
    fn charge(&mut self, request: &Request, app: usize) -> Result<(), CallError> {
        let settings = &self.settings;
        let by_the_app = request.by_the_app();
        if app > 0 && app + 1 == settings.apps && !by_the_app && self.is_out(settings.rates.suspended, 18) {
            return Err(CallError::new(Class::NeedsOperator, "the installation is suspended"));
        }
        // GET: one point; POST, PATCH, PUT, DELETE: five.
        let points = if is_read(request.point()) { 1 } else { 5 };
        let registers_in = match request {
            Request::Mint { scope, .. } => scope.account(),
            _ => None,
        };
        let time = self.time();
        let limits = if by_the_app { &mut self.limits_of_apps } else { &mut self.limits };
        limits.charge(&app_id(app), points, registers_in, time).map_err(|limited| {
            let after = match limited {
                Limited::Primary { reset } => (reset - time).unsigned_abs(),
                Limited::Secondary { retry_after } => retry_after.unsigned_abs(),
            };
            CallError::new(Class::RateLimited { after }, "rate limit")
        })
    }

    fn apply(&mut self, request: Request, point: Point, job: u64, late: bool) -> Result<Reply, CallError> {
        // How far a copy lags behind that does.
        let lag = if late { self.takes(MINUTE, self.settings.rates.lag, 22, self.last_call) } else { 0 };
        let sight = Sight::at(self.time() - time::Duration::milliseconds(lag as i64));
        Ok(match request {
            Request::Mint { scope, name, labels, group } => {
                Reply::Minted(self.mint(&scope, &name, group, &labels, job))
            }
            Request::FindRunner(scope, name) => {
                Reply::Runner(self.github.show_named(&scope, &name, sight).map(as_runner))
            }
            Request::GetRunner(scope, id) => {
                Reply::Runner(self.github.show_runner(&scope, id, sight).map(as_runner))
            }
            Request::ListRunners(scope, page) => {
                let page = page as usize;
                let (runners, total) = self.github.list(&scope, page, PAGE, sight);
                Reply::Runners(runners.into_iter().map(as_runner).collect(), total > page * PAGE)
            }
            Request::DeleteRunner(scope, id) => Reply::Deleted(self.delete_runner(&scope, id)),
            Request::GetJob { owner, repository, job } => {
                let repository = repository.unwrap_or_default();
                Reply::Job(self.github.show_job(&owner, &repository, job, sight).and_then(as_state))
            }
            // The others' webhooks lead nowhere.
            Request::ListDeliveries { of: 1.., .. } => Reply::Deliveries(Vec::new(), None),
            Request::ListDeliveries { before, failed, .. } => {
                let before = before.and_then(|cursor| cursor.parse().ok());
                let (page, more) = self.deliveries.list(before, PAGE, sight, failed.then_some(true));
                let next = page.last().filter(|_| more).map(|last| last.id.to_string());
                Reply::Deliveries(page.into_iter().map(as_delivery).collect(), next)
            }
            Request::Redeliver(id) => {
                self.deliveries.redeliver(id);
                for delivery in self.deliveries.take_redeliveries() {
                    let action = delivery.payload.action;
                    tell!(self, job, "GitHub delivers the webhook of job {job} ({action:?}) again");
                    self.send_again(delivery);
                }
                Reply::Done
            }
            Request::TasksStartedBy(started_by) => {
                Reply::Tasks(self.list_tasks(Some(&started_by), false, sight))
            }
            Request::Describe(arn) => {
                let found = self.ecs.find(CLUSTER, &arn.0, sight).expect("the cluster of this world");
                Reply::Task(Box::new(found.map(as_task)))
            }
            Request::RunTask(request) => return self.run_task(&request, job),
            Request::CountTasks => Reply::Count(self.ecs.unstopped().len() as u32),
            Request::LiveTasks => {
                let tasks = self.list_tasks(None, false, sight);
                self.more_calls(point, 2 * tasks.len() as u64 / 100);
                Reply::Tasks(tasks)
            }
            Request::SomeTasks { ended } => {
                let tasks = self.some_tasks(ended, sight);
                self.more_calls(point, u64::from(!tasks.is_empty()));
                Reply::Tasks(tasks)
            }
            Request::EndedTasks(started_by) => {
                let tasks = self.list_tasks(started_by.as_deref(), true, sight);
                // A hundred at a time, each listed and described.
                self.more_calls(point, 2 * tasks.len() as u64 / 100);
                Reply::Tasks(tasks)
            }
            Request::StopTask(arn, reason) => {
                self.stop_task(number_of(&arn), &reason);
                Reply::Done
            }
            Request::TagTask(arn, tags) => {
                let tagged = self.ecs.tag(&arn.0, &tags, self.time()).is_ok();
                tell!(self, job, "TagResource for task {}: {tags:?}, {tagged}", number_of(&arn));
                Reply::Tagged(tagged)
            }
            Request::Defer(source, delay) => {
                let (which, handle, _) = receipt(&source);
                let timeout = whole_seconds(delay);
                if timeout > MOST_VISIBILITY {
                    self.violation(Kind::Limit, job, format!("a visibility of {timeout}"));
                }
                // Refused when it was received again since: then that receive is the one that counts.
                let _ = self.sqs.change_visibility(which.queue(), handle, timeout, self.time());
                Reply::Done
            }
            Request::Reject { body, reason } => {
                self.rejected(&body, &reason, job);
                Reply::Done
            }
            Request::Announce(body, delay) => {
                let delay = whole_seconds(delay);
                if delay > MOST_DELAY {
                    self.violation(Kind::Limit, job, format!("a delay of {delay}"));
                }
                self.announced(&body, job);
                self.send(Which::Jobs, body.into(), job, delay);
                Reply::Done
            }
            Request::OfRun(it) => self.of_run(it, sight),
            Request::Tell(body, delay) => {
                tell!(self, job, "the function author is told of job {job}");
                self.send(Which::Author, body.into(), job, whole_seconds(delay));
                Reply::Done
            }
            Request::Wait(_) => Reply::Done,
            Request::GetObject(known) => Reply::Object(self.document(known.as_deref())),
            Request::PutEvents(detail) => {
                let which = match detail.contains("\"action\":\"queued\"") {
                    true => Which::Jobs,
                    false => Which::Lifecycle,
                };
                let minted = self.settings.container_minted;
                if let Some(it) = self.books.job_mut(job).filter(|_| minted) {
                    it.is_owed |= which == Which::Jobs && !it.plan.is_taker();
                }
                if which == Which::Lifecycle {
                    self.is_told(job);
                }
                let time = match minted {
                    true => format!("\"time\":\"{}\",", rfc3339(self.now)),
                    false => String::new(),
                };
                let body = format!(
                    "{{\"source\":\"github.com\",{time}\"detail-type\":\"workflow_job\",\"detail\":{detail}}}"
                );
                self.publish(which, body.into(), job);
                Reply::Done
            }
        })
    }

    /// One of the current invocation takes several.
    fn more_calls(&mut self, point: Point, count: u64) {
        self.stats.calls[point as usize] += count;
        if let Some(by) = self.invoked.get(&self.current) {
            self.stats.calls_by[*by][point as usize] += count;
        }
    }

    /// Tasks, as ListTasks and DescribeTasks show them.
    /// The ids of tasks are random, and so is the order in which they are listed.
    fn some_tasks(&mut self, stopped: bool, sight: Sight) -> Vec<Task> {
        let wanted = ListTasks { cluster: CLUSTER, started_by: None, stopped, after: 0, limit: usize::MAX };
        let (mut numbers, _) = self.ecs.list(&wanted, sight, self.time()).expect("the cluster of this world");
        numbers.sort_by_key(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        numbers.truncate(100);
        numbers.into_iter().filter_map(|number| self.ecs.show(number, sight)).map(as_task).collect()
    }

    fn list_tasks(&mut self, started_by: Option<&str>, stopped: bool, sight: Sight) -> Vec<Task> {
        let wanted = ListTasks { cluster: CLUSTER, started_by, stopped, after: 0, limit: usize::MAX };
        let (numbers, _) = self.ecs.list(&wanted, sight, self.time()).expect("the cluster of this world");
        numbers.into_iter().filter_map(|number| self.ecs.show(number, sight)).map(as_task).collect()
    }

    fn run_task(&mut self, request: &TaskRequest, job: u64) -> Result<Reply, CallError> {
        let now = self.time();
        if let Some(what) = unacceptable(request) {
            self.violation(Kind::Limit, job, format!("a RunTask request with {what}"));
        }
        let asked = as_request(request);
        let provider = asked.launch.provider();
        let out = if provider == "FARGATE_SPOT" {
            self.is_out_hourly(3, 20, 50)
        } else {
            self.is_out_hourly(4, 1, 15)
        };
        let odds = [(1, if out { 95_000 } else { 50 })];
        let is_new = self.ecs.is_new(&asked, now);
        let is_dry =
            is_new && (self.decide(job, Point::Supply, &odds) == 1 || self.has_no_instance(provider));
        self.ecs.supply.insert(provider.to_owned(), if is_dry { Supply::Dry } else { Supply::Plenty });
        let answer = self.ecs.run_task(&asked, now);
        let arn = |number| TaskArn(self.ecs.arn(number).unwrap_or_default().to_owned());
        match answer {
            Ok(ecs::Answer::Started(number)) if is_new => {
                let arn = arn(number);
                tell!(
                    self,
                    job,
                    "ECS starts task {number} for {} on {}",
                    request.client_token,
                    request.capacity
                );
                self.launched(number, &asked);
                Ok(Reply::RunTask(RunTask::Started(arn.into())))
            }
            Ok(ecs::Answer::Started(number)) => Ok(Reply::RunTask(RunTask::Started(arn(number).into()))),
            Ok(ecs::Answer::Refused(_, reason)) => {
                tell!(self, job, "RunTask {}: {} has no capacity", request.client_token, request.capacity);
                Err(CallError::new(Class::NoCapacity, reason))
            }
            Err(error) if error.code == "ConflictException" => {
                let tasks: Vec<TaskArn> = error.resource_ids.into_iter().map(TaskArn).collect();
                let number = tasks.first().map_or(0, number_of);
                tell!(
                    self,
                    job,
                    "RunTask {}: ConflictException, that was task {number}",
                    request.client_token
                );
                Ok(Reply::RunTask(RunTask::Conflict(tasks)))
            }
            Err(error) if error.code == "ThrottlingException" => {
                Err(CallError::new(Class::Transient, error.code))
            }
            Err(error) => {
                self.violation(Kind::Limit, job, format!("a RunTask request that ECS refuses: {error:?}"));
                Err(CallError::new(Class::NeedsOperator, error.code))
            }
        }
    }

    /// ECS has accepted a new task.
    fn launched(&mut self, number: u64, request: &ecs::RunTask) {
        let tag = |wanted: &str| {
            let its = request.tags.iter().find(|(key, _)| key == wanted);
            its.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
        };
        let registration = tag("gha:runner-id");
        self.books.launched(number, tag("gha:job-id"), registration);
        if let Some(it) = self.books.registration_mut(registration).filter(|_| registration > 0) {
            it.task = Some(number);
        }
        self.check_start(number);
        self.note_launch(number);
        self.check_capacity(number);
        self.launch(number);
    }

    fn mint(&mut self, scope: &Scope, name: &str, group: u64, labels: &[String], job: u64) -> Minted {
        match self.github.mint(scope, name, group, labels, self.time()) {
            Err(MintError::NameTaken) => Minted::NameTaken,
            Err(error) => panic!("a mint that GitHub refuses: {error:?}"),
            Ok(id) => {
                tell!(self, job, "GitHub registers {name}");
                self.books.minted(id, job, self.now);
                self.stats.last_mint = self.now;
                Minted::Created(JitConfig { id: RunnerId(id), encoded: format!("jit-{id}").into() })
            }
        }
    }

    fn delete_runner(&mut self, scope: &Scope, id: u64) -> Deleted {
        let before = self.github.runner(id).map(|runner| (runner.name.clone(), runner.online, runner.job));
        match self.github.delete(scope, id, self.time()) {
            github::Deleted::Gone => Deleted::Gone,
            github::Deleted::Busy => Deleted::Busy,
            github::Deleted::Spent => {
                let (name, online, busy) = before.unwrap_or_default();
                // Of one whose task has ended, the job is lost already.
                if let Some(job) = busy.filter(|_| online) {
                    self.killed(job, id, format!("{name} is deleted while it runs job {job}"));
                }
                tell!(self, self.books.minted_for(id), "the registration {name} is deleted");
                if let Some(task) = self.books.task_of(id) {
                    self.spent(task);
                    self.loses_its_registration(task);
                }
                self.stats.deleted += 1;
                self.stats.deleted_online += u64::from(online);
                Deleted::Spent
            }
        }
    }

    pub fn stop_task(&mut self, id: u64, reason: &str) {
        let Some(task) = self.ecs.task(id).filter(|task| task.is_live()) else { return };
        let arn = task.arn.clone();
        let (job, registration) = self.books.task(id).map_or((0, 0), |it| (it.job, it.registration));
        self.ecs.stop(CLUSTER, &arn, reason, self.time()).expect("it is there");
        tell!(self, job, "task {id} is stopped");
        if let Some(busy) = self.github.runner(registration).and_then(|it| it.job) {
            self.violation(
                Kind::Killed,
                busy,
                format!("task {id} is stopped while its runner runs job {busy}"),
            );
        }
        let takes = self.takes(2 * SECOND, 40 * SECOND, 13, id);
        self.after(takes, Ev::End(id, Ending::Asked));
    }

    /// The registration is deleted under a job: GitHub notices that the runner is gone, and the runner that it is no
    /// more known.
    fn killed(&mut self, job: u64, registration: u64, text: String) {
        self.violation(Kind::Killed, job, text);
        self.after(10 * MINUTE, Ev::Notice(job));
        if let Some(task) = self.books.task_of(registration) {
            self.after(10 * MINUTE, Ev::End(task, Ending::Exited(1)));
        }
    }

    /// The next attempt for a job is announced: the runners before it are given up.
    fn announced(&mut self, body: &str, job: u64) {
        let attempt = number_after(body, "\"attempt\":").unwrap_or(0);
        tell!(self, job, "a runner fargate-{job}-{attempt} is announced");
        for before in 1..attempt {
            let name = format!("fargate-{job}-{before}");
            let id = self.by_name(&name).map(|it| it.id);
            if let Some(registration) = id.and_then(|id| self.books.registration_mut(id)) {
                registration.given_up = true;
            }
        }
        let starter = format!("gha-{job}");
        let before = self.ecs.started_by(&starter).filter(|task| {
            let its = task.tags.get("gha:attempt").and_then(|its| its.parse::<u64>().ok());
            its.is_some_and(|its| its < attempt)
        });
        for task in before.map(|task| task.number).collect::<Vec<_>>() {
            if let Some(task) = self.books.task_mut(task) {
                task.given_up = true;
            }
        }
        self.stats.announced += 1;
    }
}

/// SQS knows no shorter times.
fn whole_seconds(delay: Duration) -> time::Duration {
    time::Duration::seconds(i64::try_from(delay.as_secs()).unwrap_or(i64::MAX))
}

/// The number of a task's ARN.
fn number_of(arn: &TaskArn) -> u64 {
    let id = arn.0.rsplit('/').next().unwrap_or_default();
    u64::from_str_radix(id, 16).unwrap_or_default()
}

fn about(job: u64) -> String {
    if job == 0 { String::new() } else { format!(" for job {job}") }
}
