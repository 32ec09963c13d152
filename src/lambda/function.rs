//! What the functions have in common around their flows: logs, start, and the line of metrics.

use std::{process::ExitCode, time::SystemTime};

use lambda_runtime::Context;
use time::OffsetDateTime;
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use super::{metric::Metric, metrics::Metrics};
use crate::protocol::timing;

/// An error that ends the process.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Runs a function: JSON lines on standard output, and one line that says why if it cannot start.
///
/// (A future that is passed on is kept twice, and is moved as a whole. So it is made here.)
pub async fn run(function: impl AsyncFnOnce() -> Result<(), Error>) -> ExitCode {
    log_to(std::io::stdout);
    // A panic is one line of JSON too; its message is ours and holds no input.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panic");
    }));
    match function().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// JSON lines, one an event, at the levels of `RUST_LOG`: a level, or `target=level` pairs, separated by commas.
/// (`Targets` and not `EnvFilter`: no regular expression is built at a cold start.) What cannot be read counts as
/// the default, `info`.
pub fn log_to(writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static) {
    let levels = environment("RUST_LOG").filter(|levels| !levels.is_empty());
    let levels = levels.and_then(|levels| levels.parse::<Targets>().ok());
    let json =
        fmt::layer().json().flatten_event(true).with_target(false).with_span_list(false).with_writer(writer);
    tracing_subscriber::registry()
        .with(json)
        .with(levels.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO)))
        .init();
}

/// A variable of the environment, for the binaries and runner-init.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Ends when what is left of the invocation's time is for the last call and the answer.
pub async fn time_is_up(context: &Context) {
    let left = context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
    tokio::time::sleep(left.saturating_sub(timing::LAST_CALL)).await;
}

/// Prints the metrics of one invocation.
pub fn print_metrics(metrics: &Metrics, function: &str, always: &[Metric]) {
    let now = OffsetDateTime::now_utc();
    println!("{}", metrics.line(function, now, always));
    for line in metrics.used(function, now) {
        println!("{line}");
    }
}
