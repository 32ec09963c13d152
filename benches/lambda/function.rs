//! A function as a process, behind a stand-in of the Lambda Runtime API.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::http::{self, Answer};

/// valgrind makes everything fifty times slower.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running function.
pub struct Function {
    process: Child,
    events: Sender<String>,
    said: Receiver<Said>,
    began: Instant,
}

enum Said {
    /// It asks for the next event.
    Polls(Instant),
    /// It has answered; whether that was no error, and with what.
    Answers(Instant, bool, String),
}

/// What something cost.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    pub wall: Duration,
    pub cpu: Duration,
}

/// A share of one CPU, as a control group enforces it.
pub struct Share(String);

impl Share {
    /// The share of a function of so many MB: 1,769 MB are one vCPU ("Configure Lambda function memory").
    /// `None` where this machine does not let us set one.
    pub fn of(mb: u32) -> Option<Share> {
        let period = 20_000;
        let quota = period * mb / 1_769;
        let name = format!("gha-bench-{}-{mb}", std::process::id());
        let (v1, v2) = (format!("/sys/fs/cgroup/cpu/{name}"), format!("/sys/fs/cgroup/{name}"));
        if Path::new("/sys/fs/cgroup/cpu").is_dir() && fs::create_dir(&v1).is_ok() {
            let share = Share(v1);
            let set = fs::write(format!("{}/cpu.cfs_period_us", share.0), period.to_string())
                .and_then(|()| fs::write(format!("{}/cpu.cfs_quota_us", share.0), quota.to_string()));
            return set.is_ok().then_some(share);
        }
        fs::create_dir(&v2).ok()?;
        let share = Share(v2);
        fs::write(format!("{}/cpu.max", share.0), format!("{quota} {period}")).is_ok().then_some(share)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

impl Function {
    /// Starts the program and waits for its first poll: what the init phase costs.
    pub fn start(program: &Path, environment: &[(&str, String)], share: Option<&Share>) -> (Function, Cost) {
        Self::spawn(Command::new(program), environment, share)
    }

    /// The same under callgrind, which writes what it counts to `log`.
    pub fn start_counted(program: &Path, environment: &[(&str, String)], log: &Path) -> Function {
        let mut command = Command::new("valgrind");
        command
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(format!("--log-file={}", log.display()))
            .arg(program);
        Self::spawn(command, environment, None).0
    }

    fn spawn(
        mut command: Command,
        environment: &[(&str, String)],
        share: Option<&Share>,
    ) -> (Function, Cost) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (events, to_send) = channel::<String>();
        let (say, said) = channel();
        thread::spawn(move || runtime_api(&listener, &to_send, &say));

        command
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", address)
            .env("AWS_LAMBDA_FUNCTION_NAME", "bench")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
            .envs(environment.iter().map(|(name, value)| (*name, value)))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let began = Instant::now();
        let process = command.spawn().expect("the function");
        if let Some(Share(group)) = share {
            fs::write(format!("{group}/cgroup.procs"), process.id().to_string()).expect("its control group");
        }
        let function = Function { process, events, said, began };
        let polled = function.poll();
        let cost = Cost { wall: polled - function.began, cpu: function.cpu() };
        (function, cost)
    }

    /// One event, from its delivery to the next poll. What is not done, or not done in whole, is no measurement.
    pub fn invoke(&self, event: &str) -> Cost {
        let cpu = self.cpu();
        let began = Instant::now();
        let (answered, ok, answer) = self.answer(event);
        assert!(ok, "the function failed: {answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
        let left = answer["batchItemFailures"].as_array().map_or(0, Vec::len);
        assert_eq!(left, 0, "records were left undone: {answer}");
        if let Some(status) = answer["statusCode"].as_u64() {
            assert_eq!(status, 202, "the delivery was not taken: {answer}");
        }
        Cost { wall: answered - began, cpu: self.cpu().saturating_sub(cpu) }
    }

    /// Whether an event makes the function report an error, and poll again as if nothing had been.
    pub fn survives(&self, event: &str) -> bool {
        !self.answer(event).1
    }

    fn answer(&self, event: &str) -> (Instant, bool, String) {
        self.events.send(event.to_owned()).expect("the runtime API");
        let answer = match self.said.recv_timeout(PATIENCE) {
            Ok(Said::Answers(at, ok, what)) => (at, ok, what),
            Ok(Said::Polls(_)) => panic!("the function polls before it answers"),
            Err(_) => panic!("the function does not answer"),
        };
        self.poll();
        answer
    }

    /// Stops or continues the process, as Lambda does between invocations.
    pub fn freeze(&self, frozen: bool) {
        self.signal(if frozen { Signal::SIGSTOP } else { Signal::SIGCONT });
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.process.id().try_into().expect("a process id"));
        kill(pid, signal).expect("a signal to a process of ours");
    }

    /// Ends the process in a way that lets valgrind say what it counted.
    pub fn end(mut self) {
        self.signal(Signal::SIGTERM);
        self.process.wait().expect("the end of the process");
    }

    fn poll(&self) -> Instant {
        match self.said.recv_timeout(PATIENCE) {
            Ok(Said::Polls(at)) => at,
            _ => panic!("the function does not poll"),
        }
    }

    /// The CPU time of all its threads, in nanoseconds' precision.
    fn cpu(&self) -> Duration {
        let threads = fs::read_dir(format!("/proc/{}/task", self.process.id())).expect("its threads");
        let nanoseconds = threads.flatten().filter_map(|thread| {
            let schedstat = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            schedstat.split_whitespace().next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanoseconds.sum())
    }

    /// Its peak memory in kB.
    pub fn peak_kb(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|kb| kb.parse().ok()).unwrap_or_default()
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Serves one function, on as many connections as it opens one after another.
fn runtime_api(listener: &TcpListener, to_send: &Receiver<String>, say: &Sender<Said>) {
    while let Ok((stream, _)) = listener.accept() {
        let _ = stream.set_nodelay(true);
        let ended = http::serve(&stream, |request| {
            if request.path.ends_with("/next") {
                let _ = say.send(Said::Polls(Instant::now()));
                let event = to_send.recv().unwrap_or_default();
                let headers = vec![
                    ("lambda-runtime-aws-request-id", "1".to_owned()),
                    ("lambda-runtime-deadline-ms", "99999999999999".to_owned()),
                    (
                        "lambda-runtime-invoked-function-arn",
                        "arn:aws:lambda:us-east-1:1:function:bench".to_owned(),
                    ),
                ];
                return Answer { status: 200, headers, body: event };
            }
            let body = String::from_utf8_lossy(&request.body).into_owned();
            let _ = say.send(Said::Answers(Instant::now(), request.path.ends_with("/response"), body));
            Answer { status: 202, headers: vec![], body: String::new() }
        });
        if ended.is_err() {
            return;
        }
    }
}
