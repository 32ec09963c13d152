//! The functions, as Lambda runs them: invocations, their time-outs, their deaths; and the loop that drives a
//! history.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use gha_fargate_runners::{
    config::{DispatchConfig, ReconcileConfig},
    flows::{
        author::{Author, Board},
        container::Exit,
        dispatch::Dispatcher,
        document::Document,
        memory::Memory,
        reconcile::{Pool, Reconciler},
        webhook::Webhook,
    },
    ids::RunnerNames,
    intake::request::Request,
    lambda::{
        batch::{self, Record},
        metric::Metric,
        metrics::Metrics,
    },
    ports::Scope,
};
use ring::hmac;
use serde_json::value::RawValue;

use super::{
    HOUR, Ms, SECOND,
    chance::Chance,
    classes::COMMON,
    containers,
    forms::{self, is_replacement},
    messages::{Event, Message, Which},
    older::Known,
    plan::Plan,
    planted::{FaultyPort, Function, Planted},
    ports::Port,
    tasks::Ending,
    text::{CLUSTER, ORGANIZATION, REPOSITORIES, TASK_DEFINITION, payload, time},
    world::{Ev, MAX_ATTEMPTS, Settings, Shared, Todo, World, tell},
};

pub const WEBHOOK_SECRET: &str = "It's a Secret to Everybody";

/// `Timeout` of the functions in `template.yaml`.
const DISPATCH_TIME_OUT: Ms = 30 * SECOND;
const RECONCILE_TIME_OUT: Ms = 120 * SECOND;
const WEBHOOK_TIME_OUT: Ms = 10 * SECOND;
const AUTHOR_TIME_OUT: Ms = 30 * SECOND;
/// `timing::LAST_CALL`: so long before that, a function gives up what it has not done.
const LAST_CALL: Ms = 1_500;

/// Invocations until one of the processes is new: far fewer than in Lambda, where one lives for hours, so that what a process
/// remembers is forgotten now and then. Where nothing goes wrong, it lives on.
const LIFE: u64 = 4_001;

/// What the story says of a sweep.
const SWEEP_COUNTS: [Metric; 4] =
    [Metric::Retired, Metric::Replaced, Metric::Settled, Metric::LeftToNextSweep];

type Dispatch = Dispatcher<FaultyPort, FaultyPort, FaultyPort, Port>;
type Authors = Author<FaultyPort, FaultyPort, FaultyPort, Port>;
type Reconcile = Reconciler<FaultyPort, FaultyPort, FaultyPort, FaultyPort, Port>;

/// The function that looks for failed deliveries, after those of [`Which`] and the webhook.
const REDELIVER: usize = 3;

/// The project's own flows.
struct Flows {
    dispatcher: Dispatch,
    reconciler: Reconcile,
    author: Authors,
    webhook: Webhook<FaultyPort, Port, Port>,
    queue: FaultyPort,
}

enum Answer {
    Container(Result<u64, Exit>),
    Batch { failed: Vec<String>, metrics: Metrics },
    Webhook(u16),
    Look(Metrics),
}

struct Invocation {
    future: Pin<Box<dyn Future<Output = Answer>>>,
    trigger: Trigger,
    began: Ms,
    /// The process that it has.
    process: usize,
}

enum Trigger {
    Batch(Which, Vec<Message>),
    Webhook {
        delivery: u64,
        answer_lost: bool,
    },
    /// The schedule of failed deliveries.
    Look,
    /// The container of that task.
    Container(u64),
}

impl Trigger {
    /// Which function it is for, if it is for one.
    fn function(&self) -> Option<usize> {
        match self {
            Trigger::Batch(which, _) => Some(*which as usize),
            Trigger::Webhook { .. } => Some(2),
            Trigger::Look => Some(REDELIVER),
            Trigger::Container(_) => None,
        }
    }
}

/// One history, from the first job to the last.
pub struct History {
    pub world: Shared,
    /// Those of each function, as Lambda has them. What they remember, each remembers for itself.
    processes: [Vec<Rc<Flows>>; 4],
    /// Those of each function that are at work. Where there are no classes, one may have several invocations.
    at_work: [BTreeSet<usize>; 4],
    /// A cold start.
    start: Box<dyn Fn() -> Rc<Flows>>,
    invocations: BTreeMap<u64, Invocation>,
    last: u64,
    key: hmac::Key,
}

impl History {
    pub fn new(plan: Plan, chance: Chance, settings: Settings, seed: u64) -> Self {
        let (planted, older) = (settings.planted, settings.older);
        let (scope, ahead) = (settings.scope.clone(), settings.rates.ahead);
        let (capacity, max_runners, pool_size) = (settings.capacity, settings.max_runners, settings.pool);
        let (has_classes, container_minted) = (settings.classes.is_some(), settings.container_minted);
        let world = Rc::new(RefCell::new(World::new(plan, chance, settings, seed)));
        let environment = |name: &str| {
            let value = match name {
                "ECS_CLUSTER" => CLUSTER,
                "TASK_DEFINITION" => TASK_DEFINITION,
                "SUBNET_IDS" => "subnet-1",
                "SECURITY_GROUP_IDS" => "sg-1",
                "CAPACITY" => capacity,
                "RUNNER_LABELS" => return Some(COMMON.join(",")),
                "ORGANIZATION" => ORGANIZATION,
                "RUNNER_SCOPE" => match &scope {
                    Scope::Org => "org",
                    Scope::Repo => "repo",
                    Scope::Enterprise(slug) => return Some(format!("enterprise/{slug}")),
                },
                "RUNNER_CLASSES" if has_classes => "s3://settings/classes.json",
                "ALLOWED_REPOSITORIES" if has_classes => "acme/app-*",
                // Named in full, so that a sweep looks there also when no task is alive.
                "ALLOWED_REPOSITORIES" => REPOSITORIES,
                "GITHUB_SECRET_ARN" if container_minted => return None,
                "GITHUB_SECRET_ARN" => "arn:aws:secretsmanager:eu-central-1:1:secret:github-AbCdEf",
                "JOB_QUEUE_URL" => "https://sqs.eu-central-1.amazonaws.com/1/jobs",
                "DEAD_LETTER_QUEUE_URL" => "https://sqs.eu-central-1.amazonaws.com/1/dead",
                "MAX_ATTEMPTS" => return Some(MAX_ATTEMPTS.to_string()),
                "MAX_RUNNERS" => return Some(max_runners.to_string()),
                "WARM_POOL_SIZE" => return Some(pool_size.to_string()),
                _ => return None,
            };
            Some(value.to_owned())
        };
        let dispatch = DispatchConfig::read(environment).expect("settings of dispatch");
        let reconcile = ReconcileConfig::read(environment).expect("settings of reconcile");
        let (outside, counter) = (world.clone(), Rc::new(Cell::new(0)));
        let (before, processes) = (Rc::new(Known::of_the_release_before()), Cell::new(0));
        let start = move || {
            let is_older = older.draw(&processes);
            let functions = [Function::Webhook, Function::Dispatch, Function::Reconcile];
            let [webhook, dispatcher, reconciler] = functions.map(|function| FaultyPort {
                port: Port::new(
                    &outside,
                    ahead[function as usize],
                    is_older[function as usize].then(|| before.clone()),
                ),
                function,
                planted,
                counter: counter.clone(),
            });
            let document = |port: &FaultyPort| match has_classes {
                true => Document::at(Box::new(port.port.clone()), &COMMON.map(str::to_owned)),
                false => Document::default(),
            };
            let documents = [&webhook, &dispatcher, &reconciler].map(document);
            let [of_webhook, of_dispatch, of_reconcile] = documents;
            Rc::new(Flows {
                queue: dispatcher.clone(),
                author: author(&dispatcher),
                dispatcher: Dispatcher {
                    github: (!container_minted).then(|| dispatcher.clone()),
                    ecs: dispatcher.clone(),
                    clock: dispatcher.port.clone(),
                    queue: dispatcher,
                    check_runs: false,
                    policy: dispatch.policy.clone(),
                    fleet: dispatch.fleet.clone(),
                    network: dispatch.network.clone(),
                    document: of_dispatch,
                    max_runners_per_repository: dispatch.max_runners_per_repository,
                    max_concurrency: dispatch.max_concurrency,
                    pool: dispatch.pool.clone(),
                    max_runners: dispatch.max_runners,
                    max_attempts: dispatch.max_attempts,
                    memory: Memory::default(),
                },
                reconciler: Reconciler {
                    pool: reconcile.pool.clone().map(|pool| Pool {
                        size: pool.size,
                        max_runners: pool.max_runners,
                        labels: pool.labels,
                        fleet: pool.fleet,
                        network: pool.network,
                        ecs: reconciler.clone(),
                    }),
                    github: (!container_minted).then(|| reconciler.clone()),
                    ecs: reconciler.clone(),
                    clock: reconciler.port.clone(),
                    queue: reconciler,
                    policy: reconcile.policy.clone(),
                    document: of_reconcile,
                    cluster: reconcile.cluster.clone(),
                    scope: scope.clone(),
                    idle_timeout: reconcile.idle_timeout,
                    drained: reconcile.drained,
                    max_attempts: reconcile.max_attempts,
                    memory: Memory::default(),
                },
                webhook: Webhook {
                    secret: webhook.port.clone(),
                    clock: webhook.port.clone(),
                    bus: webhook,
                    check_runs: false,
                    policy: dispatch.policy.clone(),
                    document: of_webhook,
                    known: RefCell::default(),
                },
            })
        };
        History {
            world,
            processes: Default::default(),
            at_work: Default::default(),
            start: Box::new(start),
            invocations: BTreeMap::new(),
            last: 0,
            key: hmac::Key::new(hmac::HMAC_SHA256, WEBHOOK_SECRET.as_bytes()),
        }
    }

    /// Runs the history to its end; `each_minute` is called every so many events.
    pub fn run(&mut self, mut progress: impl FnMut(&World)) {
        let mut steps = 0_u64;
        loop {
            let Some(todo) = self.world.borrow_mut().step() else { break };
            match todo {
                Todo::Nothing => {}
                Todo::Poll(invocation) => self.poll(invocation),
                Todo::Kill(invocation, why) => self.kill(invocation, why),
                Todo::Batch(which, messages) => self.batch(which, messages),
                Todo::Webhook(event, delivery, answer_lost) => self.webhook(&event, delivery, answer_lost),
                Todo::Look(event) => self.look(&event),
                Todo::Container(task) => self.container(task),
            }
            steps += 1;
            if steps.is_multiple_of(1_000_000) {
                progress(&self.world.borrow());
            }
        }
    }

    fn batch(&mut self, which: Which, messages: Vec<Message>) {
        let records: Vec<Record> = messages
            .iter()
            .map(|message| Record {
                message_id: format!("{which:?}-{}", message.id),
                source: message
                    .receipt_handle
                    .as_ref()
                    .map(|handle| forms::source(which, handle, message.body.job)),
                receives: Some(message.receive_count),
                sent_at: Some(message.sent_at),
                body: message.body.body.to_string(),
            })
            .collect();
        let (process, flows) = self.process(which as usize);
        let (now, time_out) = {
            let world = &mut *self.world.borrow_mut();
            for message in &messages {
                let what = match (which, is_replacement(&message.body.body)) {
                    (Which::Jobs, false) => "dispatch receives the job",
                    (Which::Jobs, true) => "dispatch receives the announcement",
                    (Which::Lifecycle, _) if message.body.job == 0 => "reconcile sweeps",
                    (Which::Lifecycle, _) if message.body.body.contains("aws.ecs") => {
                        "reconcile hears that a task has stopped"
                    }
                    (Which::Lifecycle, _) if message.body.body.contains("in_progress") => {
                        "reconcile hears that the job was taken"
                    }
                    (Which::Lifecycle, _) => "reconcile hears that the job is over",
                    (Which::Author, _) => "author hears that the runner was taken back of job",
                };
                let again = if message.receive_count > 1 { " again" } else { "" };
                tell!(world, message.body.job, "{what}{again}{}", about(message.body.job));
            }
            let time_out = match which {
                Which::Jobs => DISPATCH_TIME_OUT,
                Which::Lifecycle => RECONCILE_TIME_OUT,
                Which::Author => AUTHOR_TIME_OUT,
            };
            (world.now, time_out)
        };
        let deadline = time(now + time_out);
        let time_is_up = self.time_is_up();
        let future: Pin<Box<dyn Future<Output = Answer>>> = Box::pin(async move {
            let report = match which {
                Which::Jobs => {
                    let dispatcher = &flows.dispatcher;
                    let batch = &dispatcher.budget().await;
                    let read = |body: String| dispatcher.clock.body(&body);
                    let handle = |body, receives| dispatcher.handle(read(body), receives, batch);
                    batch::process(&records, &flows.queue, &dispatcher.clock, time_is_up, handle).await
                }
                Which::Lifecycle => {
                    let reconciler = &flows.reconciler;
                    let read = |body: String| reconciler.clock.body(&body);
                    let handle = |body, received| reconciler.handle(read(body), received, deadline);
                    batch::process(&records, &flows.queue, &reconciler.clock, time_is_up, handle).await
                }
                Which::Author => {
                    let author = &flows.author;
                    let handle = |body, _receives| author.handle(body);
                    batch::process(&records, &flows.queue, &author.clock, time_is_up, handle).await
                }
            };
            let failed = report.response.batch_item_failures;
            Answer::Batch {
                failed: failed.into_iter().map(|failure| failure.item_identifier).collect(),
                metrics: report.metrics,
            }
        });
        self.invoke(future, Trigger::Batch(which, messages), time_out, process);
    }

    /// When what is left of the time of the invocation that asks is for its answer.
    fn time_is_up(&self) -> impl Future<Output = ()> + use<> {
        let world = Rc::clone(&self.world);
        poll_fn(move |_| {
            let world = world.borrow();
            if world.time_is_up.contains(&world.current) { Poll::Ready(()) } else { Poll::Pending }
        })
    }

    /// EventBridge calls the function itself.
    fn look(&mut self, event: &str) {
        let (process, flows) = self.process(REDELIVER);
        let deadline = time(self.world.borrow().now + RECONCILE_TIME_OUT);
        tell!(self.world.borrow_mut(), 0, "redeliver looks for failed deliveries");
        let event = RawValue::from_string(event.to_owned()).expect("it is JSON");
        let time_is_up = self.time_is_up();
        let future = Box::pin(async move {
            let reconciler = &flows.reconciler;
            let handle = |body, received| reconciler.handle(body, received, deadline);
            let clock = &reconciler.clock;
            Answer::Look(batch::invoke(&event, &flows.queue, clock, time_is_up, handle).await.1)
        });
        self.invoke(future, Trigger::Look, RECONCILE_TIME_OUT, process);
    }

    fn webhook(&mut self, event: &Event, delivery: u64, answer_lost: bool) {
        let body = payload(&self.world.borrow(), event);
        let signature = hmac::sign(&self.key, body.as_bytes());
        let mut hex = String::with_capacity(71);
        hex.push_str("sha256=");
        for byte in signature.as_ref() {
            hex.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
            hex.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        }
        let headers = [("x-hub-signature-256", hex.as_str()), ("x-github-event", "workflow_job")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let request = Request { method: "POST".to_owned(), headers, body, ..Request::default() };
        let (process, flows) = self.process(2);
        let future: Pin<Box<dyn Future<Output = Answer>>> =
            Box::pin(async move { Answer::Webhook(flows.webhook.answer(&request).await.status) });
        let trigger = Trigger::Webhook { delivery, answer_lost };
        self.invoke(future, trigger, WEBHOOK_TIME_OUT, process);
    }

    /// The container of a task starts: the first thing that it does is to mint.
    fn container(&mut self, task: u64) {
        let mint = containers::mint(&self.world, task);
        if let Some(container) = self.world.borrow_mut().containers.get_mut(&task) {
            container.minting = Some(self.last + 1);
        }
        let future = Box::pin(async move { Answer::Container(mint.await) });
        self.invoke(future, Trigger::Container(task), HOUR, 0);
    }

    /// The process that takes the next invocation, the first that has none; now and then a new one.
    fn process(&mut self, function: usize) -> (usize, Rc<Flows>) {
        let invocation = self.last + 1;
        let lives_on = self.world.borrow().settings.faults == 0;
        // None has two at a time.
        let process = (0..).find(|process| !self.at_work[function].contains(process)).expect("one more");
        let of_function = &mut self.processes[function];
        if process == of_function.len() {
            of_function.push((self.start)());
        }
        if !lives_on && invocation.is_multiple_of(LIFE) {
            of_function[process] = (self.start)();
        }
        (process, of_function[process].clone())
    }

    fn invoke(
        &mut self,
        future: Pin<Box<dyn Future<Output = Answer>>>,
        trigger: Trigger,
        time_out: Ms,
        process: usize,
    ) {
        self.last += 1;
        let id = self.last;
        let began = {
            let mut world = self.world.borrow_mut();
            world.stats.invocations += u64::from(trigger.function().is_some());
            let is_sweep = |message: &Message| message.body.job == 0;
            let by = match &trigger {
                Trigger::Batch(Which::Jobs, _) => 0,
                Trigger::Batch(Which::Lifecycle, messages) if messages.iter().any(is_sweep) => 2,
                Trigger::Look => 2,
                Trigger::Batch(Which::Lifecycle, _) => 1,
                Trigger::Webhook { .. } => 3,
                Trigger::Batch(Which::Author, _) => 4,
                Trigger::Container(_) => 5,
            };
            world.invoked.insert(id, by);
            world.after(time_out, Ev::TimeOut(id));
            if let Trigger::Batch(..) | Trigger::Look = trigger {
                world.after(time_out - LAST_CALL, Ev::TimeIsUp(id));
            }
            world.now
        };
        if let Some(function) = trigger.function() {
            self.at_work[function].insert(process);
        }
        self.invocations.insert(id, Invocation { future, trigger, began, process });
        self.poll(id);
    }

    fn poll(&mut self, id: u64) {
        let Some(invocation) = self.invocations.get_mut(&id) else { return };
        self.world.borrow_mut().current = id;
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(answer) = invocation.future.as_mut().poll(&mut context) {
            let invocation = self.invocations.remove(&id).expect("it was polled");
            let mut world = self.world.borrow_mut();
            world.invoked.remove(&id);
            world.time_is_up.remove(&id);
            drop(world);
            self.finish(invocation, answer);
        }
    }

    fn finish(&mut self, invocation: Invocation, answer: Answer) {
        let world = &mut *self.world.borrow_mut();
        let now = world.now;
        if let Some(function) = invocation.trigger.function() {
            self.at_work[function].remove(&invocation.process);
            world.stats.lambda_ms += now - invocation.began;
        }
        match (invocation.trigger, answer) {
            (Trigger::Batch(which, messages), Answer::Batch { failed, metrics }) => {
                for message in messages {
                    let is_failed = failed.contains(&format!("{which:?}-{}", message.id));
                    if !is_failed || world.settings.planted == Planted::NoPartialFailures {
                        let handle = message.receipt_handle.as_deref().unwrap_or_default();
                        world.sqs.delete(which.queue(), handle, time(now)).expect("its own receipt handle");
                        if which == Which::Jobs {
                            world.check_acknowledged(message.body.job);
                        }
                    }
                }
                world.freed(which);
                world.count(&metrics);
                if metrics.get(Metric::Swept) > 0 {
                    let counts = SWEEP_COUNTS.map(|metric| format!("{metric:?} {}", metrics.get(metric)));
                    tell!(world, 0, "the sweep of {} ms ends: {}", now - invocation.began, counts.join(", "));
                }
                if metrics.get(Metric::Swept) > 0 && metrics.get(Metric::LeftToNextSweep) == 0 {
                    world.swept(invocation.began);
                }
            }
            (Trigger::Webhook { delivery, answer_lost }, Answer::Webhook(status)) => {
                if status < 300 && !answer_lost {
                    world.deliveries.answered(delivery, status);
                }
            }
            (Trigger::Look, Answer::Look(metrics)) => world.count(&metrics),
            (Trigger::Container(task), Answer::Container(minted)) => world.minted_itself(task, minted),
            _ => unreachable!("an answer of another function"),
        }
    }

    fn kill(&mut self, id: u64, why: &str) {
        let Some(invocation) = self.invocations.remove(&id) else { return };
        if let Some(function) = invocation.trigger.function() {
            self.processes[function][invocation.process] = (self.start)();
            self.at_work[function].remove(&invocation.process);
        }
        let world = &mut *self.world.borrow_mut();
        world.invoked.remove(&id);
        if let Trigger::Container(task) = invocation.trigger {
            return world.after(0, Ev::End(task, Ending::Killed));
        }
        world.stats.killed += 1;
        if let Trigger::Batch(which, messages) = &invocation.trigger {
            for message in messages {
                let function = match which {
                    Which::Jobs => "dispatch",
                    Which::Lifecycle => "reconcile",
                    Which::Author => "author",
                };
                tell!(world, message.body.job, "{function}: {why}");
            }
            world.freed(*which);
        }
    }
}

/// Whoever looks after authors, with the ports that dispatch has.
fn author(ports: &FaultyPort) -> Authors {
    Author {
        github: ports.clone(),
        ecs: ports.clone(),
        queue: ports.clone(),
        clock: ports.port.clone(),
        names: RunnerNames::default(),
        reruns: true,
        check_runs: false,
        board: Board::default(),
        said_at: Cell::default(),
    }
}

fn about(job: u64) -> String {
    if job == 0 { String::new() } else { format!(" {job}") }
}
