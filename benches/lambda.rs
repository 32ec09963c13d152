//! The deployed artefacts, measured from outside: `make bench`. Every figure stands beside an empty function's of the
//! same run; rounds are interleaved, so that a noisy machine is noisy for all. Writes `benches/RESULTS.md`.

#[path = "lambda/fleet.rs"]
mod fleet;
#[path = "lambda/function.rs"]
mod function;
#[path = "lambda/http.rs"]
mod http;
#[path = "lambda/report.rs"]
mod report;
#[path = "lambda/services.rs"]
mod services;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use function::{Function, Share};
use report::{Figures, Series};
use ring::hmac;
use serde_json::{Value, json};
use services::{Services, WEBHOOK_SECRET};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

const QUEUED: &str = include_str!("../events/queued.json");
const DELIVERY: &str = include_str!("../events/webhook-queued.json");
/// The delay of the stand-ins where round trips are counted.
const ROUND_TRIP: Duration = Duration::from_millis(50);

fn main() {
    let quick = env::args().any(|argument| argument == "--quick");
    let (rounds, warm) = if quick { (3, 10) } else { (11, 50) };
    // What is built already is measured as it is.
    if !env::args().any(|argument| argument == "--built") {
        build();
    }
    let folder = tempfile::tempdir().expect("a folder");
    let bench = Bench {
        services: Services::start(folder.path()),
        folder: folder.path().to_owned(),
        warm,
        figures: Figures::default(),
    };
    let figures = bench.run(rounds);
    let text = report::write(&figures, rounds, &artefacts());
    println!("{text}");
    if !quick {
        fs::write("benches/RESULTS.md", text).expect("benches/RESULTS.md");
    }
}

/// The artefacts as they are deployed, and the empty function.
fn build() {
    let functions = ["dispatch", "webhook", "reconcile", "author"].map(|name| ["--bin", name]).concat();
    let functions = [["--no-default-features"].as_slice(), &functions].concat();
    let empty = ["--bin", "empty", "--features", "bench"];
    for what in [functions.as_slice(), &empty] {
        let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let built =
            Command::new(cargo).args(["build", "--release", "--locked"]).args(what).status().expect("cargo");
        assert!(built.success(), "the artefacts do not build");
    }
}

fn release(name: &str) -> PathBuf {
    let target = env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
    Path::new(&target).join("release").join(name)
}

/// Name, size and size as a zip file, in bytes.
fn artefacts() -> Vec<(&'static str, u64, u64)> {
    let artefact = |name| {
        let binary = fs::read(release(name)).expect("an artefact");
        let mut zip = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut zip, &binary).expect("memory");
        (name, binary.len() as u64, zip.finish().expect("memory").len() as u64)
    };
    ["empty", "dispatch", "webhook", "reconcile", "author"].map(artefact).to_vec()
}

struct Bench {
    services: Services,
    folder: PathBuf,
    warm: usize,
    figures: Figures,
}

impl Bench {
    fn run(mut self, rounds: usize) -> Figures {
        let shares: Vec<(u32, Option<Share>)> = [128, 256, 512].map(|mb| (mb, Share::of(mb))).into();
        for round in 0..rounds {
            eprintln!("round {} of {rounds}", round + 1);
            self.empty();
            self.dispatch("dispatch", None, false);
            self.dispatch("dispatch, nothing warmed", None, true);
            self.webhook();
            self.reconcile();
            for (mb, share) in &shares {
                if let Some(share) = share {
                    self.dispatch(&format!("dispatch at {mb} MB"), Some(share), false);
                }
            }
            self.round_trips();
            self.sweep();
            self.thaw();
        }
        self.panic();
        self.count_instructions();
        self.figures
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let Services { github, secrets, aws, .. } = &self.services;
        [
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "example"),
            ("AWS_ENDPOINT_URL", aws),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", secrets),
            ("GITHUB_API_URL", github),
            ("GITHUB_SECRET_ARN", "arn:aws:secretsmanager:us-east-1:1:secret:github"),
            ("WEBHOOK_SECRET_ARN", "arn:aws:secretsmanager:us-east-1:1:secret:webhook"),
            ("ECS_CLUSTER", "gha-fargate-runners"),
            ("SUBNET_IDS", "subnet-0a"),
            ("SECURITY_GROUP_IDS", "sg-0a"),
            ("JOB_QUEUE_URL", aws),
            ("ORGANIZATION", "octo-org"),
            ("SSL_CERT_FILE", self.services.root.to_str().unwrap_or_default()),
        ]
        .map(|(name, value)| (name, value.to_owned()))
        .into()
    }

    fn start(&self, program: &str, share: Option<&Share>) -> (Function, function::Cost) {
        Function::start(&release(program), &self.environment(), share)
    }

    /// What starting costs without any call: no call can be signed.
    fn unwarmed(&self, program: &str) -> function::Cost {
        let without =
            |(name, _): &(&str, String)| !name.starts_with("AWS_ACCESS") && !name.starts_with("AWS_SECRET");
        let environment: Vec<_> = self.environment().into_iter().filter(without).collect();
        Function::start(&release(program), &environment, None).1
    }

    fn series(&mut self, what: &str) -> &mut Series {
        self.figures.series(what)
    }

    fn empty(&mut self) {
        let (function, init) = self.start("empty", None);
        self.series("empty").init.push(init);
        self.invoke("empty", &function, &json!({}).to_string());
    }

    fn dispatch(&mut self, what: &str, share: Option<&Share>, closed: bool) {
        if closed {
            let unwarmed = self.unwarmed("dispatch");
            self.series(what).init.push(unwarmed);
        }
        self.services.set_closed(closed);
        let (function, init) = self.start("dispatch", share);
        self.services.set_closed(false);
        if !closed {
            self.series(what).init.push(init);
        }
        self.invoke(what, &function, &batch(1));
        let ten = function.invoke(&batch(10));
        self.series(what).batch.push(ten);
    }

    fn webhook(&mut self) {
        let unwarmed = self.unwarmed("webhook");
        self.series("webhook, nothing warmed").init.push(unwarmed);
        let (function, init) = self.start("webhook", None);
        self.series("webhook").init.push(init);
        self.invoke("webhook", &function, &delivery(30_000));
    }

    fn reconcile(&mut self) {
        let (function, init) = self.start("reconcile", None);
        self.series("reconcile").init.push(init);
        let skipped = json!({ "detail-type": "push", "detail": {} }).to_string();
        self.invoke("reconcile", &function, &skipped);
    }

    /// The first event, and then as many warm ones as asked for.
    fn invoke(&mut self, what: &str, function: &Function, event: &str) {
        let first = function.invoke(event);
        let warm: Vec<_> = (0..self.warm).map(|_| function.invoke(event)).collect();
        let series = self.series(what);
        series.first.push(first);
        series.warm.extend(warm);
        series.peak_kb.push(function.peak_kb());
    }

    /// One job and ten jobs, each call taking 50 ms.
    fn round_trips(&mut self) {
        let (function, _) = self.start("dispatch", None);
        self.services.set_delay(ROUND_TRIP);
        let first = function.invoke(&batch(1));
        self.services.set_delay(Duration::ZERO);
        self.series("dispatch, 50 ms a call").first.push(first);

        let (function, _) = self.start("dispatch", None);
        // Ten connections to each service are opened once, and kept.
        function.invoke(&batch(10));
        self.services.set_delay(ROUND_TRIP);
        let (one, ten) = (function.invoke(&batch(1)), function.invoke(&batch(10)));
        self.services.set_delay(Duration::ZERO);
        let series = self.series("dispatch, 50 ms a call");
        series.warm.push(one);
        series.batch.push(ten);

        let (function, _) = self.start("webhook", None);
        self.services.set_delay(ROUND_TRIP);
        let (first, warm) = (function.invoke(&delivery(30_000)), function.invoke(&delivery(30_000)));
        self.services.set_delay(Duration::ZERO);
        let series = self.series("webhook, 50 ms a call");
        series.first.push(first);
        series.warm.push(warm);
    }

    /// A sweep over a large fleet, all of it at work.
    fn sweep(&mut self) {
        let (function, _) = self.start("reconcile", None);
        self.services.take_calls();
        let now = OffsetDateTime::now_utc().format(&Rfc3339).expect("a time");
        let event = json!({ "detail-type": "Scheduled Event", "time": now, "detail": {} });
        let cost = function.invoke(&event.to_string());
        self.figures.sweep_calls = self.services.take_calls();
        let series = self.series(report::SWEEP);
        series.first.push(cost);
        series.peak_kb.push(function.peak_kb());
    }

    /// Ten jobs for a function that was frozen while all of its connections died.
    fn thaw(&mut self) {
        let (function, _) = self.start("dispatch", None);
        function.invoke(&batch(10));
        function.freeze(true);
        let cut = self.services.cut();
        assert!(cut > 2, "the function keeps connections");
        function.freeze(false);
        let cost = function.invoke(&batch(10));
        self.series("dispatch, thawed with dead connections").batch.push(cost);
    }

    /// A function that is built like the others outlives a panic: the profile unwinds.
    fn panic(&mut self) {
        let (function, _) = self.start("empty", None);
        assert!(function.survives(r#"{"panic": true}"#), "a panic is no error");
        function.invoke("{}");
        self.figures.unwinds = true;
    }

    /// From the start of the process to the end of the first event, where valgrind is installed.
    fn count_instructions(&mut self) {
        if Command::new("valgrind").arg("--version").output().is_err() {
            return eprintln!("SKIPPED: instructions are not counted, valgrind is not installed");
        }
        // Not the webhook: under valgrind it is too slow for its own time-outs, which answer within GitHub's ten
        // seconds.
        let events = [
            ("empty", "{}".to_owned()),
            ("dispatch", batch(1)),
            ("reconcile", json!({ "detail-type": "push", "detail": {} }).to_string()),
        ];
        for (name, event) in events {
            let log = self.folder.join(format!("{name}.log"));
            let function = Function::start_counted(&release(name), &self.environment(), &log);
            function.invoke(&event);
            function.end();
            let text = fs::read_to_string(&log).expect("valgrind's log");
            let counted = text.lines().find_map(|line| line.rsplit_once("Collected : "));
            let counted = counted.and_then(|(_, count)| count.trim().parse().ok());
            self.figures.instructions.push((name, counted.expect("valgrind's count")));
        }
    }
}

/// An SQS batch of so many jobs, queued just now.
fn batch(records: u64) -> String {
    let mut payload: Value = serde_json::from_str(QUEUED).expect("a payload");
    payload["workflow_job"]["created_at"] = Value::Null;
    let record = |id: u64| {
        payload["workflow_job"]["id"] = id.into();
        json!({
            "messageId": id.to_string(),
            "receiptHandle": id.to_string(),
            "body": payload.to_string(),
            "attributes": { "ApproximateReceiveCount": "1" },
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:jobs",
        })
    };
    json!({ "Records": (1..=records).map(record).collect::<Vec<_>>() }).to_string()
}

/// A signed delivery of a payload of so many bytes, as a function URL hands it over.
fn delivery(bytes: usize) -> String {
    let mut payload: Value = serde_json::from_str(QUEUED).expect("a payload");
    let length = payload.to_string().len();
    payload["padding"] = "x".repeat(bytes.saturating_sub(length)).into();
    let body = payload.to_string();
    let key = hmac::Key::new(hmac::HMAC_SHA256, WEBHOOK_SECRET.as_bytes());
    let signature = hmac::sign(&key, body.as_bytes());
    let digits: String = signature.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut request: Value = serde_json::from_str(DELIVERY).expect("a recorded request");
    request["headers"]["x-hub-signature-256"] = format!("sha256={digits}").into();
    request["isBase64Encoded"] = false.into();
    request["body"] = body.into();
    request.to_string()
}
