//! The function `reconcile`: closes the books of runners, by event and by sweep.
#![forbid(unsafe_code)]
// For the compiler: the futures of a whole invocation, one in the other.
#![recursion_limit = "256"]

use std::process::ExitCode;

use gha_fargate_runners::{
    adapters::{
        self,
        aws::{self, Patience},
        ecs::Ecs,
        sqs::Sqs,
    },
    config::ReconcileConfig,
    flows::{
        doctor,
        memory::Memory,
        reconcile::{Pool, Reconciler},
    },
    lambda::{
        batch,
        function::{self, Error},
        metric::Metric,
        metrics::Metrics,
    },
    ports::{Deliveries, Scope, SystemClock},
};
use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::value::RawValue;
use time::OffsetDateTime;

/// Counts that are there even when they are zero, for alarms and graphs.
const ALWAYS: [Metric; 8] = [
    Metric::Received,
    Metric::Retired,
    Metric::Replaced,
    Metric::Settled,
    Metric::Lost,
    Metric::Interrupted,
    Metric::OutOfMemory,
    Metric::NeedsOperator,
];

/// A look for failed deliveries has a function of its own, and each metric of a function is paid for.
fn always(metrics: &Metrics) -> &'static [Metric] {
    if metrics.has(Metric::Redelivered) { &[] } else { &ALWAYS }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    function::run(reconcile).await
}

async fn reconcile() -> Result<(), Error> {
    let config = ReconcileConfig::read(function::environment)?;
    let http = adapters::http(config.outside, function::environment);
    let aws = aws::sdk_config(function::environment, http.for_aws(), Patience::Queue);
    let scope = config.github.as_ref().map_or(Scope::Org, |settings| settings.scope.clone());
    let github = config.github.map(|settings| adapters::github(settings, &http, &aws));
    match &github {
        None => tracing::info!(
            "no GITHUB_SECRET_ARN: only what ECS alone allows is done (tasks that do not start, tasks older \
             than any job); container-minted runners stop by themselves when they are idle"
        ),
        Some(github) if github.apps().await.is_ok_and(|apps| apps.is_empty()) => tracing::info!(
            "the credentials are a token, not a GitHub App's: failed webhook deliveries are not redelivered"
        ),
        // That the credentials cannot be read shows, and is retried, with the first event.
        Some(_) => {}
    }
    let ecs = Ecs::new(&aws, config.cluster.clone(), config.policy.names.clone());
    let pool = match config.pool {
        Some(pool) => Some(Pool {
            size: pool.size,
            max_runners: pool.max_runners,
            labels: pool.labels,
            ecs: ecs.clone().starter(pool.fleet.container.clone(), &pool.network)?,
            fleet: pool.fleet,
            network: pool.network,
        }),
        None => None,
    };
    let reconciler = Reconciler {
        github,
        ecs,
        queue: Sqs::new(&aws, config.queues),
        clock: SystemClock,
        policy: config.policy,
        document: adapters::document(config.classes, &http, &aws),
        cluster: config.cluster,
        scope,
        idle_timeout: config.idle_timeout,
        drained: config.drained,
        max_attempts: config.max_attempts,
        memory: Memory::default(),
        pool,
    };
    let (reconciler, function) = (&reconciler, &config.function);
    lambda_runtime::run(service_fn(|event: LambdaEvent<Box<RawValue>>| async move {
        if let Some(question) = doctor::asked(event.payload.get()) {
            return Ok(reconciler.examine(&question).await);
        }
        let deadline = OffsetDateTime::from(event.context.deadline());
        let time_is_up = function::time_is_up(&event.context);
        let handle = |body, received| reconciler.handle(body, received, deadline);
        let (answer, mut metrics) =
            batch::invoke(&event.payload, &reconciler.queue, &SystemClock, time_is_up, handle).await;
        reconciler.memory.take_counts().into_iter().for_each(|(metric, count)| metrics.add(metric, count));
        function::print_metrics(&metrics, function, always(&metrics));
        answer
    }))
    .await
}
