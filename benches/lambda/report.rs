//! The figures as a page.

use std::{collections::BTreeMap, fmt::Write, fs, process::Command, time::Duration};

use super::function::Cost;

/// All measurements of one thing.
#[derive(Default)]
pub struct Series {
    pub init: Vec<Cost>,
    pub first: Vec<Cost>,
    pub warm: Vec<Cost>,
    pub batch: Vec<Cost>,
    pub peak_kb: Vec<u64>,
}

/// All measurements, by what was measured.
#[derive(Default)]
pub struct Figures {
    series: BTreeMap<String, Series>,
    /// Calls of one sweep.
    pub sweep_calls: u64,
    /// Whether a panic was outlived.
    pub unwinds: bool,
    /// Instructions from the start to the end of the first event.
    pub instructions: Vec<(&'static str, u64)>,
}

/// The sweep over a large fleet.
pub const SWEEP: &str = "reconcile, a sweep";

impl Figures {
    pub fn series(&mut self, what: &str) -> &mut Series {
        self.series.entry(what.to_owned()).or_default()
    }

    fn get(&self, what: &str) -> &Series {
        self.series.get(what).expect("a series that was measured")
    }
}

/// What of a cost is looked at.
type Part = fn(&Cost) -> Duration;

/// Milliseconds at a quantile; 0.5 is the median, 0 the minimum.
fn quantile(costs: &[Cost], at: f64, of: Part) -> f64 {
    let mut all: Vec<f64> = costs.iter().map(|cost| of(cost).as_secs_f64() * 1e3).collect();
    all.sort_by(f64::total_cmp);
    let last = all.len().saturating_sub(1);
    all.get((last as f64 * at).round() as usize).copied().unwrap_or(f64::NAN)
}

fn cpu(costs: &[Cost]) -> f64 {
    quantile(costs, 0.5, |cost| cost.cpu)
}

fn wall(costs: &[Cost]) -> f64 {
    quantile(costs, 0.5, |cost| cost.wall)
}

fn peak_mb(series: &Series) -> f64 {
    series.peak_kb.iter().max().copied().unwrap_or_default() as f64 / 1024.0
}

fn tail(costs: &[Cost]) -> String {
    match costs.is_empty() {
        true => "–".to_owned(),
        false => format!("{:.2} / {:.2}", wall(costs), quantile(costs, 0.99, |cost| cost.wall)),
    }
}

/// The page.
pub fn write(figures: &Figures, rounds: usize, artefacts: &[(&str, u64, u64)]) -> String {
    let mut page = String::from(
        "# Results\n\nWritten by `make bench`. The release artefacts run as processes behind a stand-in of the Lambda \
         Runtime API, and talk TLS to stand-ins of GitHub and AWS on the same machine, whose certificate they read from \
         `SSL_CERT_FILE`. Nothing warmed: started without credentials, so that no call is made; its first event is that \
         of a function whose connections were all closed during init. Rounds are interleaved with an empty `lambda_runtime` function. Medians; in \
         brackets the least. CPU is that of all the process's threads.\n\n",
    );
    let _ = writeln!(page, "{}, {rounds} rounds.\n", machine());
    page.push_str("| function | init CPU, ms | init, ms | first event CPU, ms | first event, ms | warm CPU, ms | warm p50 / p99, ms | batch of ten CPU, ms | batch of ten, ms | peak memory, MB |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
    for (what, series) in &figures.series {
        let both = |costs: &[Cost], of: Part| {
            if costs.is_empty() {
                return "–".to_owned();
            }
            format!("{:.2} ({:.2})", quantile(costs, 0.5, of), quantile(costs, 0.0, of))
        };
        let (by_cpu, by_wall): (Part, Part) = (|cost| cost.cpu, |cost| cost.wall);
        let _ = writeln!(
            page,
            "| {what} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            both(&series.init, by_cpu),
            both(&series.init, by_wall),
            both(&series.first, by_cpu),
            both(&series.first, by_wall),
            both(&series.warm, by_cpu),
            tail(&series.warm),
            both(&series.batch, by_cpu),
            both(&series.batch, by_wall),
            if series.peak_kb.is_empty() { "–".to_owned() } else { format!("{:.1}", peak_mb(series)) },
        );
    }
    page.push_str("\nThe event is one queued job for `dispatch` (one mint, one RunTask), a signed 30 kB delivery for `webhook` (one PutEvents), and an event that is skipped for `reconcile`.\n");
    if !figures.series.contains_key("dispatch at 256 MB") {
        page.push_str(
            "\nCPU shares were not measured: this machine does not let the bench set up a control group.\n",
        );
    }
    let _ = writeln!(
        page,
        "\nThe sweep looks at 1,000 runners among 10,000 registrations, all at work: {} calls, one after another. \
         `dispatch, thawed`: ten jobs after all connections died while the process was stopped; each was done. {}",
        figures.sweep_calls,
        if figures.unwinds { "A panic is outlived: the profile unwinds." } else { "" },
    );
    if !figures.instructions.is_empty() {
        page.push_str(
            "\n| from the start to the end of the first event | million instructions (callgrind) |\n| --- | --- |\n",
        );
        for (name, count) in &figures.instructions {
            let _ = writeln!(page, "| {name} | {:.1} |", *count as f64 / 1e6);
        }
    }
    page.push_str("\n| artefact | size, MB | as zip, MB |\n| --- | --- | --- |\n");
    for (name, size, zip) in artefacts {
        let _ = writeln!(page, "| {name} | {:.2} | {:.2} |", *size as f64 / 1e6, *zip as f64 / 1e6);
    }
    page.push_str("\n## Against the targets\n\n| target | measured | |\n| --- | --- | --- |\n");
    for (target, measured, met) in targets(figures, artefacts) {
        let _ = writeln!(page, "| {target} | {measured} | {} |", if met { "met" } else { "**missed**" });
    }
    page.push_str(&costs(figures));
    page
}

/// aws-lc-rs's first random number alone would be ten times that.
const MOST_INSTRUCTIONS: f64 = 30.0;

fn targets(figures: &Figures, artefacts: &[(&str, u64, u64)]) -> Vec<(String, String, bool)> {
    let (empty, dispatch, webhook) = (figures.get("empty"), figures.get("dispatch"), figures.get("webhook"));
    let (cold, bare) = (figures.get("dispatch, nothing warmed"), figures.get("webhook, nothing warmed"));
    let slow = figures.get("dispatch, 50 ms a call");
    let ratio = |target: &str, measured: f64, most: f64| {
        (format!("{target} ≤ {most}"), format!("{measured:.2}"), measured <= most)
    };
    let zip = |name: &str| {
        artefacts.iter().find(|(other, ..)| *other == name).map_or(f64::NAN, |(.., zip)| *zip as f64 / 1e6)
    };
    let (one, ten) = (wall(&slow.warm), wall(&slow.batch));
    let mut targets = vec![
        ratio("dispatch, init CPU with nothing warmed, × empty", cpu(&cold.init) / cpu(&empty.init), 2.0),
        ratio("dispatch, first job's CPU with nothing warmed, ms", cpu(&cold.first), 6.0),
        ratio(
            "dispatch, first job after warming, CPU × a warm job's",
            cpu(&dispatch.first) / cpu(&dispatch.warm),
            1.2,
        ),
        ratio(
            "dispatch, first job after warming with 50 ms a call, time × a warm job's",
            wall(&slow.first) / one,
            1.2,
        ),
        ratio("dispatch, warm job's CPU, ms", cpu(&dispatch.warm), 1.0),
        ratio("dispatch, one job with 50 ms a call, × 100 ms", one / 100.0, 1.05),
        ratio("dispatch, ten jobs with 50 ms a call, × one job", ten / one, 1.15),
        ratio("dispatch, peak memory, MB", peak_mb(dispatch), 16.0),
        ratio("dispatch, zip, MB", zip("dispatch"), 4.0),
        ratio("webhook, zip, MB", zip("webhook"), 3.0),
        ratio("webhook, init CPU with nothing warmed, × empty", cpu(&bare.init) / cpu(&empty.init), 1.5),
        ratio(
            "webhook, a warm delivery of 30 kB, PutEvents on this machine included, ms",
            wall(&webhook.warm),
            1.0,
        ),
    ];
    if let Some((_, count)) = figures.instructions.iter().find(|(name, _)| *name == "dispatch") {
        let measured = *count as f64 / 1e6;
        targets.push(ratio(
            "dispatch, million instructions to the end of the first job",
            measured,
            MOST_INSTRUCTIONS,
        ));
    }
    if let Some(small) = figures.series.get("dispatch at 256 MB") {
        targets.push(ratio(
            "dispatch at 256 MB, first job after a cold start, ms, round trips on this machine included",
            wall(&small.first),
            40.0,
        ));
    }
    targets
}

/// "AWS Lambda pricing", x86, us-east-1, as of November 2026: an assumption of this page.
const GB_SECOND: f64 = 0.000_016_666_7;
const REQUEST: f64 = 0.20 / 1e6;

fn costs(figures: &Figures) -> String {
    let wall_of = |series| wall(&figures.get(series).warm) / 1e3;
    let million = |invocations: f64, seconds: f64| 1e6 * (seconds * 0.25 * GB_SECOND + invocations * REQUEST);
    // What a job waits for; batches of one are the dearest case.
    let (job, event) = (wall_of("dispatch, 50 ms a call"), wall_of("webhook, 50 ms a call"));
    let dispatch = million(1.0, job);
    let webhook = million(3.0, 3.0 * event);
    // Job taken: ListTasks, DescribeTasks, TagResource; task stopped: DescribeTasks; job over: no call.
    let reconcile = million(3.0, 4.0 * 0.05);
    format!(
        "\n## Cost\n\nA million jobs cost {dispatch:.2} USD of `dispatch` (an invocation of its own for each, of {:.0} ms with \
         50 ms a call), {webhook:.2} USD of `webhook` (three deliveries of {:.0} ms) and, by its calls, {reconcile:.2} USD of \
         `reconcile`: {:.2} USD together, at 256 MB and without batching ({GB_SECOND} USD a GB-second and {:.2} USD a \
         million requests, x86, us-east-1: prices as assumed, not measured).\n",
        job * 1e3,
        event * 1e3,
        dispatch + webhook + reconcile,
        REQUEST * 1e6,
    )
}

fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches([' ', '\t', ':']);
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let date =
        Command::new("date").args(["-u", "+%Y-%m-%d"]).output().map(|out| out.stdout).unwrap_or_default();
    format!("{}, {cores} × {model}", String::from_utf8_lossy(&date).trim())
}
