//! What the functions have in common around their flows: logs, start, and the line of metrics.

use std::process::ExitCode;

use time::OffsetDateTime;
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use super::{metric::Metric, metrics::Metrics};

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

/// Prints the metrics of one invocation.
pub fn print_metrics(metrics: &Metrics, function: &str, always: &[Metric]) {
    let now = OffsetDateTime::now_utc();
    println!("{}", metrics.line(function, now, always));
    for line in metrics.used(function, now) {
        println!("{line}");
    }
}
