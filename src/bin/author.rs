//! The function `author`: tells a job's author why it waits, and has jobs run again that went with their runner.
#![forbid(unsafe_code)]
// For the compiler: the futures of a whole invocation, one in the other.
#![recursion_limit = "256"]

use std::{cell::Cell, process::ExitCode};

use gha_fargate_runners::{
    adapters::{
        self,
        aws::{self, Patience},
        ecs::Ecs,
        github::Errand,
        sqs::Sqs,
    },
    config::AuthorConfig,
    flows::author::{Author, Board},
    lambda::{
        batch,
        function::{self, Error},
        metric::Metric,
    },
    ports::SystemClock,
};
use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::value::RawValue;

/// Counts that are there even when they are zero, for graphs.
const ALWAYS: [Metric; 3] = [Metric::Reran, Metric::LeftToAuthor, Metric::Told];

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    function::run(author).await
}

async fn author() -> Result<(), Error> {
    let config = AuthorConfig::read(function::environment)?;
    let http = adapters::http(config.outside, function::environment);
    let aws = aws::sdk_config(function::environment, http.for_aws(), Patience::Queue);
    let author = Author {
        github: adapters::github(config.github, &http, &aws).on(Errand::Author { checks: config.check_runs }),
        ecs: Ecs::new(&aws, config.cluster, config.names.clone()),
        queue: Sqs::new(&aws, config.queues),
        clock: SystemClock,
        names: config.names,
        reruns: config.reruns,
        check_runs: config.check_runs,
        board: Board::default(),
        said_at: Cell::default(),
    };
    let (author, function) = (&author, &config.function);
    lambda_runtime::run(service_fn(|event: LambdaEvent<Box<RawValue>>| async move {
        let handle = |body, _received| author.handle(body);
        let time_is_up = function::time_is_up(&event.context);
        let (answer, metrics) =
            batch::invoke(&event.payload, &author.queue, &SystemClock, time_is_up, handle).await;
        function::print_metrics(&metrics, function, &ALWAYS);
        answer
    }))
    .await
}
