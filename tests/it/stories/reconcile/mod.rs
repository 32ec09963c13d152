//! Nothing left behind, nobody left waiting, told over real HTTP. (What happens when a function dies between two
//! calls, or an answer is lost, is in `cut_points.rs`.)

mod ages;
mod backlog;
mod basics;
mod container_minted;
mod ends;
mod handed_back;
mod neighbours;
mod others;
mod outbreak;
mod pool;
mod races;
mod redeliveries;
mod renamed;
mod scopes;
mod sweeps;
mod takers;

use crate::fleet::Fleet;
use crate::http::{JOB_QUEUE, LIFECYCLE_QUEUE, Op, World};
use gha_fargate_runners::lambda::{metric::Metric, metrics::Metrics};
use serde_json::{Value, json};
use time::{Duration, format_description::well_known::Rfc3339};

const LABELS: [&str; 2] = ["self-hosted", "fargate"];

/// A world and its fleet; at the end of a story its books must balance.
struct Story {
    world: World,
    fleet: Fleet,
}

impl Story {
    async fn begin() -> Story {
        Story::with(&[]).await
    }

    async fn with(changes: &[(&str, &str)]) -> Story {
        let world = World::start();
        let fleet = Fleet::with(&world, changes).await;
        Story { world, fleet }
    }

    /// A job, and its runner started.
    async fn start_job(&self) -> u64 {
        let job = self.world.queue_job(&LABELS);
        self.dispatch(&[self.world.queued(job)]).await;
        job
    }

    async fn dispatch(&self, bodies: &[String]) {
        self.settle(&self.world.deliver(bodies)).await;
    }

    /// A batch of the job queue, dispatched and acknowledged.
    async fn settle(&self, batch: &Value) {
        let answer = self.fleet.dispatch(batch).await;
        self.world.acknowledge(JOB_QUEUE, batch, &answer);
    }

    /// The same, where it is left to the pool first, and none of it takes it.
    async fn start_job_that_the_pool_leaves(&self) -> u64 {
        let (job, before) = (self.start_job().await, self.live());
        self.world.advance(Duration::seconds(15));
        self.settle(&self.world.receive(JOB_QUEUE, 10)).await;
        assert_eq!(self.live(), before + 1, "{}", self.world.books());
        job
    }

    /// What was announced goes to dispatch, once its delay is over.
    async fn dispatch_announced(&self) {
        self.world.advance(Duration::minutes(4));
        self.settle(&self.world.receive(JOB_QUEUE, 10)).await;
    }

    /// One event for reconcile: whether it is done.
    async fn tell(&self, event: &Value) -> bool {
        let batch = self.world.deliver_to(LIFECYCLE_QUEUE, &[event.to_string()]);
        let answer = self.fleet.reconcile(&batch).await;
        self.world.acknowledge(LIFECYCLE_QUEUE, &batch, &answer) == 0
    }

    async fn tell_job(&self, job: u64, action: &str) {
        assert!(self.tell(&self.world.payload(job, action)).await);
    }

    /// A job that is on another's runner: its event is looked at a second time, when it is clear what becomes of the
    /// job's own runner.
    async fn tell_taken(&self, job: u64, action: &str) {
        assert!(!self.tell(&self.world.payload(job, action)).await, "looked at twice");
        assert_eq!(self.look_again().await.get(Metric::Deferred), 0);
    }

    async fn look_again(&self) -> Metrics {
        self.world.advance(Duration::minutes(4));
        let batch = self.world.receive(LIFECYCLE_QUEUE, 10);
        let (answer, metrics) =
            self.fleet.reconcile_until(&batch, self.fleet.now() + Duration::minutes(2)).await;
        self.world.acknowledge(LIFECYCLE_QUEUE, &batch, &answer);
        metrics
    }

    async fn tell_stopped(&self, task: u64) {
        assert!(self.tell(&self.world.state_change(task)).await);
    }

    /// The same events, and what was put off before, with so much time for them all: what was counted.
    async fn tell_within(&self, events: &[Value], time: Duration) -> Metrics {
        let bodies: Vec<String> = events.iter().map(Value::to_string).collect();
        self.world.send(LIFECYCLE_QUEUE, &bodies);
        let batch = self.world.receive(LIFECYCLE_QUEUE, 10);
        let (answer, metrics) = self.fleet.reconcile_until(&batch, self.fleet.now() + time).await;
        self.world.acknowledge(LIFECYCLE_QUEUE, &batch, &answer);
        metrics
    }

    /// The schedule's event, due now.
    fn schedule(&self) -> Value {
        let time = self.fleet.now().format(&Rfc3339).expect("a time");
        json!({ "detail-type": "Scheduled Event", "time": time, "detail": {} })
    }

    async fn sweep(&self) -> Metrics {
        self.tell_within(&[self.schedule()], Duration::minutes(2)).await
    }

    /// The other schedule's event, as its rule writes it, with which EventBridge calls the function itself.
    fn look(&self) -> Value {
        let mut event = self.schedule();
        event["detail"] = json!({ "only": "deliveries" });
        event
    }

    async fn redeliver(&self) -> Metrics {
        self.fleet.reconcile_until(&self.look(), self.fleet.now() + Duration::minutes(2)).await.1
    }

    /// A sweep finds what has been so for longer than `IDLE_TIMEOUT_SECONDS`.
    async fn sweep_after_the_timeout(&self) -> Metrics {
        self.world.advance(Duration::minutes(11));
        self.sweep().await
    }

    fn task(&self) -> u64 {
        self.world.ecs().live().last().map(|task| task.number).expect("a task")
    }

    fn live(&self) -> usize {
        self.world.ecs().live_count()
    }

    /// Its runner, if it is up, has been so for a while.
    fn cancel(&self, job: u64) {
        self.world.advance(Duration::minutes(2));
        let now = self.fleet.now();
        assert!(self.world.github().cancel(job, now));
    }

    fn assign(&self, job: u64, runner: u64) {
        let now = self.fleet.now();
        assert!(self.world.github().assign(job, runner, now));
    }

    fn runner_of(&self, task: u64) -> u64 {
        self.world.runner_of(task).expect("a runner")
    }

    /// The operations called so far, in order, of those that are asked for.
    fn order(&self, ops: &[Op]) -> Vec<Op> {
        self.world.calls().0.iter().map(|call| call.op).filter(|op| ops.contains(op)).collect()
    }

    fn names(&self) -> Vec<String> {
        self.world.github().runners().map(|runner| runner.name.to_string()).collect()
    }

    fn status(&self, job: u64) -> &'static str {
        self.world.github().job(job).map_or("", |job| job.status.as_str())
    }

    fn count(&self, op: Op) -> usize {
        self.world.calls().count(op)
    }

    fn tag(&self, task: u64, key: &str) -> Option<String> {
        self.world.ecs().task(task).and_then(|task| task.tags.get(key).cloned())
    }

    fn end(self) {
        assert_eq!(self.world.imbalances(), [""; 0], "{}", self.world.books());
        self.world.finish();
    }
}
