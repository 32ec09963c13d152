//! The function `dispatch`: a queued job comes in, a Fargate task goes out.
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
    config::DispatchConfig,
    flows::{dispatch::Dispatcher, memory::Memory},
    lambda::{
        batch,
        function::{self, Error},
        metric::Metric,
    },
    ports::{Clock, SystemClock},
};
use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::value::RawValue;

/// Counts that are there even when they are zero, for alarms and graphs.
const ALWAYS: [Metric; 6] = [
    Metric::Received,
    Metric::Started,
    Metric::Skipped,
    Metric::Rejected,
    Metric::Deferred,
    Metric::NeedsOperator,
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    function::run(dispatch).await
}

async fn dispatch() -> Result<(), Error> {
    let config = DispatchConfig::read(function::environment)?;
    let http = adapters::http(config.outside, function::environment);
    let aws = aws::sdk_config(function::environment, http.for_aws(), Patience::Queue);
    let dispatcher = Dispatcher {
        github: config.github.map(|settings| adapters::github(settings, &http, &aws)),
        ecs: Ecs::new(&aws, config.cluster, config.policy.names.clone())
            .starter(config.fleet.container.clone(), &config.network)?,
        queue: Sqs::new(&aws, config.queues),
        clock: SystemClock,
        policy: config.policy,
        fleet: config.fleet,
        network: config.network,
        document: adapters::document(config.classes, &http, &aws),
        pool: config.pool,
        max_runners: config.max_runners,
        max_runners_per_repository: config.max_runners_per_repository,
        max_concurrency: config.max_concurrency,
        max_attempts: config.max_attempts,
        check_runs: config.check_runs,
        memory: Memory::default(),
    };
    adapters::warm(async || {
        let github = async {
            match &dispatcher.github {
                Some(github) => github.warm(dispatcher.policy.organization.as_deref()).await,
                None => Ok(()),
            }
        };
        let classes = dispatcher.document.classes(SystemClock.now());
        let (github, (), classes) = tokio::join!(github, dispatcher.look_ahead(), classes);
        github.and(classes.map(drop))
    })
    .await;
    let (dispatcher, function) = (&dispatcher, &config.function);
    // Boxed, since the runtime moves a handler's future from layer to layer, and this one is large.
    lambda_runtime::run(service_fn(|event: LambdaEvent<Box<RawValue>>| {
        Box::pin(async move {
            let time_is_up = function::time_is_up(&event.context);
            let budget = dispatcher.budget().await;
            let handle = |body, receives| dispatcher.handle(body, receives, &budget);
            let (answer, mut metrics) =
                batch::invoke(&event.payload, &dispatcher.queue, &SystemClock, time_is_up, handle).await;
            metrics.add(Metric::NeedsOperator, dispatcher.document.new_mistakes());
            function::print_metrics(&metrics, function, &ALWAYS);
            answer
        })
    }))
    .await
}
