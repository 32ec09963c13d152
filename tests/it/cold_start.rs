//! What a cold start costs, counted in instructions and not in time (a file of certificates that is read again, or a
//! crypto library that collects entropy, is several times that), and what has to be loaded for it. Unoptimised, since
//! a release build takes longer than all the tests: what creeps in shows here as well.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const DISPATCH: &str = env!("CARGO_BIN_EXE_dispatch");
const WEBHOOK: &str = env!("CARGO_BIN_EXE_webhook");
const RECONCILE: &str = env!("CARGO_BIN_EXE_reconcile");

/// Instructions from the start of the process to its first poll, without any call: there are no credentials to sign
/// one with. Measured: 9 million for both.
const MOST_INSTRUCTIONS: u64 = 12_000_000;

/// Bytes to be loaded: code and data, without what is there for debuggers. Measured: 23.1, 17.8 and 24.1
/// million.
const LARGEST: [(&str, u64); 3] = [(DISPATCH, 25_000_000), (WEBHOOK, 20_000_000), (RECONCILE, 26_000_000)];

#[test]
fn little_has_to_be_loaded() {
    for (program, most) in LARGEST {
        let size = loaded(&fs::read(program).expect("a program"));
        println!("{program}: {size} bytes");
        assert!((1_000_000..=most).contains(&size), "{program}: {size} bytes, and {most} are the most");
    }
}

/// The sum of an ELF file's loadable segments (elf(5): e_phoff, e_phentsize, e_phnum; p_type, p_filesz).
fn loaded(elf: &[u8]) -> u64 {
    let number = |at: u64, bytes: usize| {
        let mut wide = [0; 8];
        wide[..bytes].copy_from_slice(&elf[at as usize..][..bytes]);
        u64::from_le_bytes(wide)
    };
    let (table, size, count) = (number(0x20, 8), number(0x36, 2), number(0x38, 2));
    let headers = (0..count).map(|index| table + index * size);
    const LOAD: u64 = 1;
    headers.filter(|header| number(*header, 4) == LOAD).map(|header| number(header + 0x20, 8)).sum()
}

#[test]
fn a_cold_start_takes_few_instructions() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        // Past the harness, which shows nothing of a test that passes.
        writeln!(io::stderr(), "SKIPPED: no cold start is counted, since valgrind is not installed")
            .expect("standard error");
        return;
    }
    for program in [DISPATCH, WEBHOOK] {
        let counted = instructions_to_first_poll(program);
        println!("{program}: {counted} instructions");
        assert!(counted > 1_000_000, "{program} did not start");
        assert!(counted <= MOST_INSTRUCTIONS, "{program}: {counted} instructions");
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
