//! What was measured: the table, the plot.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    ops::{Index, IndexMut},
};

use gha_fargate_runners::lambda::{metric::Metric, metrics::Metrics};

use super::{
    HOUR, Ms,
    chance::{CALLS, Chance, Point},
    check::Kind,
    lambda::History,
    plan::Plan,
    requests::{is_ecs, is_github},
    world::{Settings, World},
};
use crate::model::limits::{ENTERPRISE_REQUESTS_AN_HOUR, POINTS_A_MINUTE, REGISTRATIONS_IN_FIVE_MINUTES};

/// What is counted.
#[derive(Debug, Default)]
pub struct Stats {
    pub events: u64,
    pub invocations: u64,
    pub killed: u64,
    pub jobs: u64,
    pub ran: u64,
    pub ran_by_hour: Vec<u64>,
    pub failed: u64,
    pub rejected: u64,
    pub redriven: u64,
    pub announced: u64,
    pub deleted: u64,
    pub deleted_online: u64,
    pub peak_waiting: u64,
    /// Milliseconds that functions ran.
    pub lambda_ms: u64,
    pub calls: Calls,
    /// The same by who makes them ([`BY`]).
    pub calls_by: [Calls; BY.len()],
    /// Those of them that GitHub refused: a limit, or a suspended App.
    pub refused: Calls,
    /// Since when nothing was minted any more.
    pub last_mint: Ms,
    /// From queued to taken, in hundredths of a second.
    pub delays: Vec<u32>,
    pub metrics: BTreeMap<Metric, u64>,
    samples: Vec<(Ms, u32, u32)>,
}

/// How many calls there were, by [`Point`].
#[derive(Debug)]
pub struct Calls([u64; CALLS]);

impl Default for Calls {
    fn default() -> Self {
        Calls([0; CALLS])
    }
}

impl Index<usize> for Calls {
    type Output = u64;

    fn index(&self, point: usize) -> &u64 {
        &self.0[point]
    }
}

impl IndexMut<usize> for Calls {
    fn index_mut(&mut self, point: usize) -> &mut u64 {
        &mut self.0[point]
    }
}

/// Who makes calls.
pub const BY: [&str; 6] = ["dispatch", "reconcile", "sweep", "webhook", "author", "container"];

/// The counts of the flows' own metrics that the table shows.
const SHOWN: [Metric; 12] = [
    Metric::Received,
    Metric::Started,
    Metric::Skipped,
    Metric::Deferred,
    Metric::Retired,
    Metric::Replaced,
    Metric::Settled,
    Metric::Redelivered,
    Metric::Lost,
    Metric::DeferredRateLimit,
    Metric::DeferredNoCapacity,
    Metric::DeferredUnavailable,
];

impl Stats {
    pub fn sample(&mut self, at: Ms, waiting: usize, live: usize) {
        self.samples.push((at, waiting as u32, live as u32));
    }

    pub fn percentile(&self, percent: usize) -> f64 {
        let mut delays = self.delays.clone();
        delays.sort_unstable();
        let index = (delays.len() * percent / 100).min(delays.len().saturating_sub(1));
        delays.get(index).map_or(0.0, |delay| f64::from(*delay) / 100.0)
    }

    fn calls_of(&self, which: impl Fn(Point) -> bool) -> u64 {
        POINT_LIST.iter().filter(|point| which(**point)).map(|point| self.calls[*point as usize]).sum()
    }

    pub fn github_calls(&self) -> u64 {
        self.calls_of(is_github)
    }

    pub fn ecs_calls(&self) -> u64 {
        self.calls_of(is_ecs)
    }

    /// Calls a job, by kind and by who makes them.
    pub fn kinds(&self) -> String {
        let a_job = |count: u64| count as f64 / self.jobs.max(1) as f64;
        let mut kinds = String::new();
        for point in POINT_LIST.iter().filter(|point| self.calls[**point as usize] > 0) {
            let _ = write!(kinds, "  {point:<16?} {:>6.3}", a_job(self.calls[*point as usize]));
            for (by, calls) in BY.iter().zip(&self.calls_by).filter(|(_, calls)| calls[*point as usize] > 0) {
                let _ = write!(kinds, ", {by} {:.3}", a_job(calls[*point as usize]));
            }
            let refused = self.refused[*point as usize];
            if refused > 0 {
                let _ = write!(kinds, "; refused {:.3}", a_job(refused));
            }
            kinds.push('\n');
        }
        kinds
    }

    /// Calls that nobody would make if no job were to run again.
    pub fn calls_for_authors(&self) -> u64 {
        let [dispatch, .., author] = &self.calls_by;
        let outside = POINT_LIST.iter().filter(|point| is_github(**point) || is_ecs(**point));
        dispatch[Point::GetRun as usize] + outside.map(|point| author[*point as usize]).sum::<u64>()
    }

    /// Waiting jobs and live runners over time, as SVG.
    pub fn plot(&self) -> String {
        const WIDTH: f64 = 1200.0;
        const HEIGHT: f64 = 300.0;
        let last = self.samples.last().map_or(1, |sample| sample.0).max(1);
        let most = self.samples.iter().map(|sample| sample.1.max(sample.2)).max().unwrap_or(1).max(1);
        // A point a pixel: the most of what falls on it.
        let mut columns = vec![(0_u32, 0_u32); WIDTH as usize + 1];
        for &(at, waiting, live) in &self.samples {
            let column = &mut columns[(at as f64 / last as f64 * WIDTH) as usize];
            *column = (column.0.max(waiting), column.1.max(live));
        }
        let line = |pick: fn(&(u32, u32)) -> u32| {
            let mut points = String::new();
            for (x, column) in columns.iter().enumerate() {
                let y = HEIGHT - f64::from(pick(column)) / f64::from(most) * HEIGHT;
                let _ = write!(points, "{},{y:.1} ", x + 60);
            }
            points
        };
        let hours = last / HOUR;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 -20 1300 360\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect x=\"60\" y=\"0\" width=\"1201\" height=\"300\" fill=\"none\" \
             stroke=\"#999\"/>\n<polyline fill=\"none\" stroke=\"#2a6\" points=\"{}\"/>\n<polyline fill=\"none\" \
             stroke=\"#c33\" points=\"{}\"/>\n<text x=\"55\" y=\"8\" text-anchor=\"end\">{most}</text>\n\
             <text x=\"55\" y=\"300\" text-anchor=\"end\">0</text>\n<text x=\"60\" y=\"318\">0 h</text>\n\
             <text x=\"1261\" y=\"318\" text-anchor=\"end\">{hours} h</text>\n<text x=\"500\" y=\"318\" \
             fill=\"#c33\">jobs waiting</text>\n<text x=\"640\" y=\"318\" fill=\"#2a6\">runners live</text>\n</svg>\n",
            line(|column| column.1),
            line(|column| column.0),
        )
    }
}

const POINT_LIST: [Point; 24] = [
    Point::Mint,
    Point::FindRunner,
    Point::GetRunner,
    Point::ListRunners,
    Point::DeleteRunner,
    Point::GetJob,
    Point::ListDeliveries,
    Point::Redeliver,
    Point::TasksStartedBy,
    Point::Describe,
    Point::RunTask,
    Point::CountTasks,
    Point::LiveTasks,
    Point::EndedTasks,
    Point::StopTask,
    Point::TagTask,
    Point::Defer,
    Point::Reject,
    Point::Announce,
    Point::PutEvents,
    Point::GetRun,
    Point::ListRunJobs,
    Point::Rerun,
    Point::Tell,
];

impl World {
    pub fn count(&mut self, metrics: &Metrics) {
        self.note_used(metrics);
        for metric in SHOWN {
            let count = metrics.get(metric);
            if count > 0 {
                *self.stats.metrics.entry(metric).or_default() += count;
            }
        }
    }

    /// The summary.
    pub fn table(&self) -> String {
        let stats = &self.stats;
        let jobs = stats.jobs.max(1) as f64;
        let metric = |it| stats.metrics.get(&it).copied().unwrap_or(0);
        let mut table = String::new();
        let mut row = |name: &str, value: String| {
            let _ = writeln!(table, "  {name:<34} {value:>14}");
        };
        row("jobs", stats.jobs.to_string());
        row("simulated hours", (self.now / HOUR).to_string());
        row("last runner registered (s)", format!("{:.1}", stats.last_mint as f64 / 1_000.0));
        row("events", stats.events.to_string());
        row("invocations", stats.invocations.to_string());
        row("  of which died", stats.killed.to_string());
        row("jobs that ran to their end", stats.ran.to_string());
        row("jobs that failed with their task", stats.failed.to_string());
        row("jobs rejected after MAX_ATTEMPTS", stats.rejected.to_string());
        row("runners started", metric(Metric::Started).to_string());
        row("runners replaced", metric(Metric::Replaced).to_string());
        row("runners retired", metric(Metric::Retired).to_string());
        row("deliveries redelivered", metric(Metric::Redelivered).to_string());
        row("messages deferred: rate limit", metric(Metric::DeferredRateLimit).to_string());
        row("messages deferred: no capacity", metric(Metric::DeferredNoCapacity).to_string());
        row("messages deferred: unavailable", metric(Metric::DeferredUnavailable).to_string());
        row("delay, p50 (s)", format!("{:.1}", stats.percentile(50)));
        row("delay, p99 (s)", format!("{:.1}", stats.percentile(99)));
        row("most jobs waiting", stats.peak_waiting.to_string());
        row("GitHub calls a job", format!("{:.2}", stats.github_calls() as f64 / jobs));
        row("ECS calls a job", format!("{:.2}", stats.ecs_calls() as f64 / jobs));
        if self.settings.author {
            for (name, count) in self.runs.counts() {
                row(name, count.to_string());
            }
        }
        let [requests, points, registrations] = self.limits.most_used();
        for (hour, ran) in stats.ran_by_hour.iter().enumerate() {
            row(&format!("jobs that began in hour {}", hour + 1), ran.to_string());
        }
        row("GitHub points in a minute, most", points.to_string());
        row("GitHub requests in an hour, most", requests.to_string());
        row("registrations in 5 minutes, most", registrations.to_string());
        row("leaked runner-minutes", format!("{:.1}", self.checks.leaked_ms as f64 / 60_000.0));
        row("limits broken", self.checks.counts[Kind::Limit as usize].to_string());
        table
    }

    /// `lost=0 doubled=0 leaked=0 killed=0 letters=0`.
    pub fn verdict(&self) -> String {
        let count = |kind: Kind| self.checks.counts[kind as usize];
        let mut verdict = format!(
            "lost={} doubled={} leaked={} killed={} letters={}",
            count(Kind::Lost) + count(Kind::Limit),
            count(Kind::Doubled),
            count(Kind::Leaked),
            count(Kind::Killed),
            count(Kind::Letter)
        );
        if self.settings.author {
            let _ = write!(verdict, " again={} forgotten={}", count(Kind::RunAgain), count(Kind::Forgotten));
        }
        verdict
    }
}

/// Calls a job at these loads (jobs an hour, and how many come), when nothing goes wrong and no limit stands in the way,
/// and which outside limit is reached first with so many Apps: the one of which most is used. Then, which calls those are.
pub fn costs(loads: &[(u64, u64)], apps: usize) -> String {
    let mut text = String::from(
        "| jobs an hour | GitHub calls a job | GitHub points a job | ECS calls a job | Lambda ms a job | reached first | \
         of it used |\n| ---: | ---: | ---: | ---: | ---: | --- | ---: |\n",
    );
    let mut kinds = String::new();
    for &(per_hour, jobs) in loads {
        let settings =
            Settings { faults: 0, unlimited: true, apps, stop_at_violation: false, ..Settings::default() };
        let plan = Plan::Seeded { seed: 1, jobs, per_hour, from: 1 };
        let mut history = History::new(plan, Chance::seeded(1), settings, 1);
        history.run(|_| {});
        let world = history.world.borrow();
        let stats = &world.stats;
        let a_job = |count: u64| count as f64 / jobs as f64;
        let writes = stats.calls_of(|point| {
            matches!(point, Point::Mint | Point::DeleteRunner | Point::Redeliver | Point::Rerun)
        });
        let github = a_job(stats.github_calls());
        let points = github + 4.0 * a_job(writes);
        let mints = a_job(stats.calls[Point::Mint as usize]);
        let launches = a_job(stats.calls[Point::RunTask as usize]);
        let rate = per_hour as f64;
        // What an hour of this load needs of each limit, as a share of it.
        let used = [
            (
                "GitHub: 15,000 requests an hour for an App",
                rate * github / apps as f64 / f64::from(ENTERPRISE_REQUESTS_AN_HOUR),
            ),
            (
                "GitHub: 900 points a minute for an App",
                rate * points / apps as f64 / 60.0 / f64::from(POINTS_A_MINUTE),
            ),
            (
                "GitHub: 1,500 registrations in 5 minutes for an organisation",
                rate * mints / 12.0 / f64::from(REGISTRATIONS_IN_FIVE_MINUTES),
            ),
            ("Fargate: 20 launches a second", rate * launches / 72_000.0),
        ];
        let first = used.iter().max_by(|a, b| a.1.total_cmp(&b.1)).expect("there are four");
        let _ = writeln!(
            text,
            "| {per_hour} | {github:.2} | {points:.2} | {:.2} | {:.0} | {} | {:.0} % |",
            a_job(stats.ecs_calls()),
            a_job(stats.lambda_ms),
            first.0,
            first.1 * 100.0,
        );
        let _ = writeln!(kinds, "\n{per_hour} jobs an hour:\n{}", stats.kinds());
        for violation in &world.checks.violations {
            let _ = writeln!(kinds, "{}, job {}: {}", violation.kind, violation.job, violation.text);
        }
    }
    text + kinds.trim_end()
}
