//! The function `webhook`: GitHub's events, verified, go to the event bus.
#![forbid(unsafe_code)]
// For the compiler: the futures of a whole invocation, one in the other.
#![recursion_limit = "256"]

use std::{cell::RefCell, process::ExitCode};

use gha_fargate_runners::{
    adapters::{
        self,
        aws::{self, Patience},
        bus::EventBus,
        secrets::Secret,
    },
    config::WebhookConfig,
    flows::webhook::Webhook,
    lambda::{
        function::{self, Error},
        metric::Metric,
        metrics::Metrics,
    },
    ports::SystemClock,
};
use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::value::RawValue;

/// Counts that are there even when they are zero, for alarms and graphs.
const ALWAYS: [Metric; 3] = [Metric::Received, Metric::Forwarded, Metric::Failed];

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    function::run(webhook).await
}

async fn webhook() -> Result<(), Error> {
    let config = WebhookConfig::read(function::environment)?;
    let http = adapters::http(config.outside, function::environment);
    let aws = aws::sdk_config(function::environment, http.for_aws(), Patience::Webhook);
    let webhook = Webhook {
        bus: EventBus::new(&aws, config.event_bus),
        secret: Secret::new(&aws, config.secret_arn),
        clock: SystemClock,
        policy: config.policy,
        check_runs: config.check_runs,
        document: adapters::document(config.classes, &http, &aws),
        known: RefCell::default(),
    };
    adapters::warm(async || {
        let (secret, ()) = tokio::join!(webhook.warm(), webhook.bus.warm(&http));
        secret
    })
    .await;
    let (webhook, function) = (&webhook, &config.function);
    lambda_runtime::run(service_fn(|event: LambdaEvent<Box<RawValue>>| async move {
        let (response, metric) = webhook.invoke(&event.payload).await;
        let mut metrics = Metrics::default();
        metrics.add(Metric::Received, 1);
        metrics.add(metric, 1);
        function::print_metrics(&metrics, function, &ALWAYS);
        Ok::<_, Error>(response)
    }))
    .await
}
