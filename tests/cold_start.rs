//! What a cold start costs, counted in instructions and not in time: a file of certificates that is read again, or a
//! crypto library that collects entropy, is several times that. Only where valgrind is installed.
#![forbid(unsafe_code)]

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Instructions from the start of the process to its first poll, unoptimised, without any call: there are no
/// credentials to sign one with. Measured: 11 and 6 million.
const MOST: [(&str, &str, u64); 2] = [
    ("dispatch", env!("CARGO_BIN_EXE_dispatch"), 16_000_000),
    ("webhook", env!("CARGO_BIN_EXE_webhook"), 10_000_000),
];

#[test]
fn a_cold_start_takes_few_instructions() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("valgrind is not installed: nothing is counted");
        return;
    }
    for (name, program, most) in MOST {
        let counted = instructions_to_first_poll(program);
        println!("{name}: {counted} instructions");
        assert!(counted > 1_000_000, "{name} did not start");
        assert!(counted <= most, "{name}: {counted} instructions, and {most} are the most");
    }
}

fn instructions_to_first_poll(program: &str) -> u64 {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("valgrind.log");
    let runtime_api = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = runtime_api.local_addr().expect("an address").to_string();
    let mut process = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--log-file={}", log.display()))
        .arg(program)
        .env_clear()
        .envs([
            ("AWS_LAMBDA_RUNTIME_API", address.as_str()),
            ("AWS_LAMBDA_FUNCTION_NAME", "test"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
            ("AWS_REGION", "us-east-1"),
            ("GITHUB_SECRET_ARN", "arn:aws:secretsmanager:us-east-1:1:secret:github"),
            ("WEBHOOK_SECRET_ARN", "arn:aws:secretsmanager:us-east-1:1:secret:webhook"),
            ("ORGANIZATION", "octo-org"),
            ("ECS_CLUSTER", "gha-fargate-runners"),
            ("SUBNET_IDS", "subnet-0a"),
            ("SECURITY_GROUP_IDS", "sg-0a"),
        ])
        .stdout(Stdio::null())
        .spawn()
        .expect("valgrind starts");
    let pid = Pid::from_raw(process.id().cast_signed());
    let ended = thread::spawn(move || {
        process.wait().expect("it ends");
        // One that ends before it polls is not waited for.
        drop(TcpStream::connect(address));
    });
    let (connection, _) = runtime_api.accept().expect("a connection");
    let mut request = String::new();
    BufReader::new(connection).read_line(&mut request).expect("a request");
    assert!(request.starts_with("GET /2018-06-01/runtime/invocation/next"), "{request}");
    kill(pid, Signal::SIGTERM).expect("it runs");
    ended.join().expect("it ends");
    let log = fs::read_to_string(log).expect("valgrind's log");
    let collected = log.lines().find_map(|line| line.rsplit_once("Collected : "));
    collected.and_then(|(_, count)| count.trim().parse().ok()).expect("valgrind's count")
}
