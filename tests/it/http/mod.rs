//! The world that the stories are told in: the machines of [`crate::model`], served over HTTP by one server on
//! 127.0.0.1, with faults injected before or after the effect.
//!
//! ```ignore
//! let world = World::start();
//! let job = world.queue_job(&["self-hosted", "fargate"]);
//! world.fail(Op::RunTask).once().after().drop_connection();
//! let batch = world.deliver(&[world.queued(job)]);
//! …dispatch(batch)…
//! expect![[…]].assert_eq(&world.calls().to_string());
//! world.finish();
//! ```
//!
//! A world that is dropped with violations (requests that the real services would not have taken) or with
//! faults that never struck fails the test.

mod app;
mod aws;
pub mod calls;
mod checks;
mod control;
mod ecs;
mod ecs_requests;
pub mod faults;
mod github;
mod routes;
mod runs;
mod s3;
mod server;
mod story;
#[cfg(test)]
mod tests;
mod web;
mod wire;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use time::{Duration, OffsetDateTime};
use tokio::sync::oneshot;

pub use calls::{Calls, Op, Service};
pub use faults::{FaultBuilder, Handle};
pub use github::json_runner;
pub use server::WorldClock;

use crate::model::{
    app::App,
    aws::{ACCOUNT, REGION},
    bus::{Bus, Secrets},
    ecs::Ecs,
    github::Github,
    manifest::{Hook, Profile},
    sqs::Sqs,
};

/// The names that the recorded events in `events/` use, and the template's defaults.
pub const OWNER: &str = "octo-org";
pub const REPOSITORY: &str = "example-workflow";
pub const INSTALLATION: u64 = 23_154_469;
pub const APP_ID: u64 = 123_456;
pub const PAT: &str = "ghp_000000000000000000000000000000000000";
pub const WEBHOOK_SECRET: &str = "It's a Secret to Everybody";
/// Where the App's webhook leads.
pub const WEBHOOK_URL: &str = "https://0123456789.lambda-url.us-east-1.on.aws/";
pub const CLUSTER: &str = "gha-fargate-runners";
pub const TASK_DEFINITION: &str = "gha-jit-self-hosted-fargate-runner";
pub const TASK_DEFINITION_ARM64: &str = "gha-jit-self-hosted-fargate-runner-arm64";
pub const JOB_QUEUE: &str = "git-actions-wf-job-queue";
pub const DEAD_LETTERS: &str = "git-actions-wf-job-queue-dead-letter";
pub const LIFECYCLE_QUEUE: &str = "git-actions-wf-job-queue-lifecycle";
pub const LIFECYCLE_DEAD_LETTERS: &str = "git-actions-wf-job-queue-lifecycle-dead-letter";
pub const AUTHOR_QUEUE: &str = "git-actions-wf-job-queue-author";
pub const BUS: &str = "git-actions-event-bus";
pub const APP_SECRET: &str = "github-app";
pub const PAT_SECRET: &str = "github-pat";
pub const WEBHOOK_SECRET_NAME: &str = "webhook-secret";

/// The App's private key as GitHub hands it out (PKCS#1), and the same key in PKCS#8. It opens nothing but
/// this world.
pub const APP_KEY: &str = include_str!("../../fixtures/app-key.pem");
pub const APP_KEY_PKCS8: &str = include_str!("../../fixtures/app-key.pkcs8.pem");

/// Locks a machine. A panic of one test's closure must not hide behind a poisoned lock.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An App that the world makes up, installed nowhere yet.
pub fn own_app() -> App {
    let mut app = App::default();
    app.id = Some(APP_ID);
    app.trust_private_key(APP_KEY).expect("the world's own key");
    app.credentials = Some(serde_json::json!({"app_id": APP_ID, "private_key": APP_KEY}));
    let permissions =
        [("actions", "read"), ("metadata", "read"), ("organization_self_hosted_runners", "write")];
    let text = str::to_owned;
    app.profile = Profile {
        name: text("octo-fargate-runners"),
        owner: text(OWNER),
        permissions: permissions.map(|(name, access)| (text(name), text(access))).into(),
        events: vec![text("workflow_job")],
        hook: Hook { url: text(WEBHOOK_URL), secret: text(WEBHOOK_SECRET), ..Hook::default() },
        setup_url: None,
    };
    app
}

/// One world, with its server on a thread of its own: a test may block, or pause tokio's clock.
pub struct World {
    shared: server::Shared,
    address: std::net::SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl World {
    /// A world as it is after a deployment: the App is installed in `octo-org`, the cluster, the task
    /// definitions, the queues, the bus and the secrets exist, nothing runs.
    pub fn start() -> World {
        let world = World::serve(true, 0).expect("a world on 127.0.0.1");
        {
            let mut app = world.app();
            *app = own_app();
            app.install(OWNER, INSTALLATION);
            app.pats.insert(PAT.to_owned());
        }
        {
            let mut ecs = world.ecs();
            ecs.clusters.insert(CLUSTER.into());
            for family in [TASK_DEFINITION, TASK_DEFINITION_ARM64] {
                // As the definition with Docker has them.
                let containers = ["prepare", "docker", "runner"].map(str::to_owned).to_vec();
                ecs.definitions.insert(family.to_owned(), (1, containers));
            }
        }
        {
            let mut sqs = world.sqs();
            for queue in [JOB_QUEUE, LIFECYCLE_QUEUE, AUTHOR_QUEUE] {
                let queue = sqs.create(queue);
                queue.visibility_timeout = Duration::seconds(180);
                queue.retention = Duration::hours(24);
            }
            for queue in [DEAD_LETTERS, LIFECYCLE_DEAD_LETTERS] {
                sqs.create(queue).retention = Duration::days(14);
            }
        }
        world.bus().names.insert(BUS.to_owned());
        {
            let mut secrets = world.secrets();
            let app = own_app().credentials.unwrap_or_default();
            secrets.set(APP_SECRET, &app.to_string());
            secrets.set(PAT_SECRET, PAT);
            secrets.set(WEBHOOK_SECRET_NAME, WEBHOOK_SECRET);
        }
        world
    }

    /// An empty world with its server, AWS included or not, on a port of the system's choice (0) or that one.
    pub fn serve(aws: bool, port: u16) -> std::io::Result<World> {
        let shared = server::Shared {
            github: Arc::new(Mutex::new(Github::new())),
            app: Arc::default(),
            limits: Arc::default(),
            signup: Arc::default(),
            host: Arc::default(),
            through: Arc::default(),
            ecs: Arc::default(),
            sqs: Arc::default(),
            bus: Arc::default(),
            secrets: Arc::default(),
            objects: Arc::default(),
            faults: Arc::default(),
            log: Arc::default(),
            clock: WorldClock::default(),
            aws,
        };
        let listener = std::net::TcpListener::bind(("127.0.0.1", port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        *lock(&shared.host) = format!("http://{address}");
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let served = shared.clone();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let listener =
                    tokio::net::TcpListener::from_std(listener).expect("a listener inside a runtime");
                tokio::select! {
                    () = server::serve(served, listener) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(World { shared, address, stop: Some(stop), thread: Some(thread) })
    }

    /// For `AWS_ENDPOINT_URL` and `GITHUB_API_URL` alike. (GHES: with `/api/v3` appended.)
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn queue_url(&self, queue: &str) -> String {
        format!("{}/{}/{queue}", self.url(), ACCOUNT)
    }

    /// Every variable of the contract that has no default, and those that lead into this world: for
    /// `DispatchConfig::read` and its like, and for child processes. Dispatcher-minted, as an App.
    pub fn environment(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("AWS_ENDPOINT_URL", self.url()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "example".to_owned()),
            ("GITHUB_API_URL", self.url()),
            ("GITHUB_SECRET_ARN", Secrets::arn(APP_SECRET)),
            ("WEBHOOK_SECRET_ARN", Secrets::arn(WEBHOOK_SECRET_NAME)),
            ("ECS_CLUSTER", CLUSTER.to_owned()),
            ("TASK_DEFINITION", TASK_DEFINITION.to_owned()),
            ("TASK_DEFINITION_ARM64", TASK_DEFINITION_ARM64.to_owned()),
            ("SUBNET_IDS", "subnet-0a,subnet-0b".to_owned()),
            ("SECURITY_GROUP_IDS", "sg-0a".to_owned()),
            ("JOB_QUEUE_URL", self.queue_url(JOB_QUEUE)),
            ("DEAD_LETTER_QUEUE_URL", self.queue_url(DEAD_LETTERS)),
            ("EVENT_BUS_NAME", BUS.to_owned()),
            ("ORGANIZATION", OWNER.to_owned()),
        ])
    }

    // The machines. A guard lives until the end of its statement: never keep one across an `await`.

    pub fn github(&self) -> MutexGuard<'_, Github> {
        lock(&self.shared.github)
    }

    pub fn app(&self) -> MutexGuard<'_, App> {
        lock(&self.shared.app)
    }

    /// Events are really sent, and arrive at this address whatever host the App's webhook names.
    #[allow(dead_code, reason = "the demo's GitHub has this option")]
    pub fn deliver_through(&self, address: &str) {
        *lock(&self.shared.through) = Some(address.to_owned());
    }

    pub fn ecs(&self) -> MutexGuard<'_, Ecs> {
        lock(&self.shared.ecs)
    }

    pub fn sqs(&self) -> MutexGuard<'_, Sqs> {
        lock(&self.shared.sqs)
    }

    pub fn bus(&self) -> MutexGuard<'_, Bus> {
        lock(&self.shared.bus)
    }

    pub fn secrets(&self) -> MutexGuard<'_, Secrets> {
        lock(&self.shared.secrets)
    }

    /// Puts an object into S3.
    pub fn put_object(&self, path: &str, text: &str) {
        let mut objects = lock(&self.shared.objects);
        let version = objects.get(path).map_or(0, |(_, version)| version + 1);
        objects.insert(path.to_owned(), (text.to_owned(), version));
    }

    /// How much GitHub allows from now on.
    pub fn limit(&self, change: impl FnOnce(&mut crate::model::limits::Limits)) {
        change(&mut lock(&self.shared.limits));
    }

    // The clock

    /// The world's time: the system's until [`World::set_now`].
    pub fn now(&self) -> OffsetDateTime {
        self.shared.now()
    }

    /// Stops the clock at that moment.
    pub fn set_now(&self, now: OffsetDateTime) {
        self.shared.clock.set(now);
    }

    /// Lets time pass at once, and stops the clock there.
    pub fn advance(&self, by: Duration) {
        self.set_now(self.now() + by);
        lock(&self.shared.ecs).advance(self.now());
        lock(&self.shared.github).expire(self.now());
    }

    /// A clock that shows the world's time, to be handed to the program.
    pub fn clock(&self) -> WorldClock {
        self.shared.clock.clone()
    }

    // Faults, calls, violations

    /// Something goes wrong in a call of this operation: see [`FaultBuilder`].
    pub fn fail(&self, op: Op) -> FaultBuilder {
        FaultBuilder::new(self.shared.faults.clone(), Some(op))
    }

    /// Something goes wrong in a call, whatever its operation: `nth(k)` counts all calls, which makes `k` a
    /// cut point of the flow.
    pub fn fail_any(&self) -> FaultBuilder {
        FaultBuilder::new(self.shared.faults.clone(), None)
    }

    /// All is well again: the faults are gone, struck or not.
    pub fn heal(&self) {
        lock(&self.shared.faults).clear();
    }

    /// The calls so far.
    pub fn calls(&self) -> Calls {
        Calls(lock(&self.shared.log).calls.clone())
    }

    /// The calls so far, which are then forgotten: what follows is counted from here.
    pub fn take_calls(&self) -> Calls {
        Calls(std::mem::take(&mut lock(&self.shared.log).calls))
    }

    /// Requests that the real services would not have taken.
    pub fn violations(&self) -> Vec<String> {
        lock(&self.shared.log).violations.clone()
    }

    /// Those, forgiven: for the tests of the world itself.
    pub fn take_violations(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.shared.log).violations)
    }

    /// Connections opened so far.
    pub fn connections(&self) -> usize {
        lock(&self.shared.log).connections
    }

    /// The end of the story. Dropping the world does the same; this only says so.
    pub fn finish(self) {}
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let mut wrong = self.violations();
        wrong.extend(lock(&self.shared.faults).unstruck());
        if !std::thread::panicking() {
            assert!(wrong.is_empty(), "the world takes exception:\n{}", wrong.join("\n"));
        }
    }
}
