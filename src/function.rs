//! What the three functions have in common around their flows: logs, start, and the line of metrics.

use std::{future::Future, process::ExitCode};

use time::OffsetDateTime;
use tracing_subscriber::EnvFilter;

use crate::metrics::Metrics;

/// An error that ends the process.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Runs a function: JSON lines on standard output, and one line that says why if it cannot start.
pub async fn run(function: impl Future<Output = Result<(), Error>>) -> ExitCode {
    let filter = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_target(false)
        .with_span_list(false)
        .with_env_filter(filter)
        .init();
    // A panic is one line of JSON too; its message is ours and holds no input.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panic");
    }));
    match function.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A variable of the environment; only `config` and the binaries call it.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Prints the metrics of one invocation.
pub fn print_metrics(metrics: &Metrics, function: &str, always: &[&'static str]) {
    println!("{}", metrics.line(function, OffsetDateTime::now_utc(), always));
}
