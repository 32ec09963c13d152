//! `runner-init` as a process, with a script in the runner's place. It is not process 1 here, but adopts
//! orphans all the same, and runs as a user who is not root, as it does in its image.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::{
        signal::{Signal, kill},
        stat::Mode,
    },
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::Child,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout,
};

use super::{github::GitHub, secrets::Secrets};

/// Nothing here takes so long; it is the end of a test that would wait for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// `nobody`: root may read everything, so a job that is root would prove nothing.
const NOBODY: u32 = 65534;

/// `wait_for NAME` waits until the test opens that gate, for `$2` seconds at most if there is a second argument.
const PRELUDE: &str = r#"wait_for() { read -r ${2:+-t "$2"} _ < "$DIR/$1"; }; export -f wait_for"#;

/// A named pipe.
pub struct Gate(File);

impl Gate {
    /// Lets one waiting script go on, also one that begins to wait later, as long as this value is there.
    pub fn open(&self) {
        (&self.0).write_all(b"\n").expect("the pipe has room");
    }
}

pub struct Container {
    pub secrets: Secrets,
    pub github: GitHub,
    directory: TempDir,
    as_nobody: bool,
    command: tokio::process::Command,
}

impl Container {
    /// The script is `bash`; `$DIR` is a directory of its own.
    pub async fn new(script: &str) -> Container {
        let secrets = Secrets::new();
        let github = GitHub::start(secrets.clone()).await;
        let directory = TempDir::new().expect("a directory");
        let path = directory.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
        // The program may lie where nobody else may look.
        install(Path::new(env!("CARGO_BIN_EXE_runner-init")), &path.join("runner-init"));
        let mut command = tokio::process::Command::new(path.join("runner-init"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").expect("PATH"))
            .env("DIR", path)
            .env("ORGANIZATION", "acme")
            .env("ACCESS_TOKEN", &secrets.token)
            .env("RUNNER_NAME", "fargate-1-1")
            .env("RUNNER_LABELS_JSON", r#"["self-hosted","fargate"]"#)
            .env("GITHUB_API_URL", format!("http://{}", github.address))
            .env("RUNNER_SCRIPT", path.join("run.sh"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let as_nobody = is_root(path);
        if as_nobody {
            command.uid(NOBODY).gid(NOBODY);
            chown(path, Some(NOBODY), Some(NOBODY)).expect("chown");
        }
        let container = Container { secrets, github, directory, as_nobody, command };
        container.script("run.sh", script);
        container
    }

    /// Another script in the directory.
    pub fn script(&self, name: &str, text: &str) -> &Self {
        let source = self.path(&format!("{name}.source"));
        fs::write(&source, format!("#!/bin/bash\n{PRELUDE}\n{text}\n")).expect("write");
        install(&source, &self.path(name));
        self
    }

    pub fn env(&mut self, name: &str, value: &str) -> &mut Self {
        self.command.env(name, value);
        self
    }

    pub fn env_remove(&mut self, name: &str) -> &mut Self {
        self.command.env_remove(name);
        self
    }

    pub fn arg(&mut self, argument: &str) -> &mut Self {
        self.command.arg(argument);
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What the script's `wait_for NAME` waits for.
    pub fn gate(&self, name: &str) -> Gate {
        let path = self.path(name);
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).expect("mkfifo");
        if self.as_nobody {
            chown(&path, Some(NOBODY), Some(NOBODY)).expect("chown");
        }
        // Open for both, a named pipe keeps what is written until somebody reads it, and never blocks. Once this
        // end is gone, whoever still waits sees the end of the file, and ends: a failed test leaves nobody behind.
        Gate(File::options().read(true).write(true).open(path).expect("open"))
    }

    pub fn start(&mut self) -> Running {
        let mut child = self.command.spawn().expect("runner-init starts");
        let pid = i32::try_from(child.id().expect("it runs")).expect("a process id");
        Running {
            pid,
            out: lines(child.stdout.take().expect("piped")),
            log: lines(child.stderr.take().expect("piped")),
            child,
            said: Vec::new(),
            logged: Vec::new(),
            secrets: self.secrets.clone(),
        }
    }

    /// Runs to the end.
    pub async fn run(&mut self) -> Ended {
        self.start().ended().await
    }
}

/// Whether this test is root, which its new directory shows; once only, for then it is handed over.
fn is_root(directory: &Path) -> bool {
    fs::metadata(directory).expect("the directory").uid() == 0
}

/// By another process: a file that this one has open for writing, or that a child about to be executed has
/// inherited so, cannot be executed (ETXTBSY), and tests run side by side.
fn install(source: &Path, target: &Path) {
    let status =
        Command::new("install").args(["-m", "755"]).args([source, target]).status().expect("install(1)");
    assert!(status.success());
}

pub struct Running {
    pub pid: i32,
    child: Child,
    out: UnboundedReceiver<String>,
    log: UnboundedReceiver<String>,
    said: Vec<String>,
    logged: Vec<String>,
    secrets: Secrets,
}

pub struct Ended {
    pub code: Option<i32>,
    /// What the script wrote.
    pub said: Vec<String>,
    /// The log, one JSON object a line.
    pub log: String,
}

impl Running {
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid), signal).expect("it runs");
    }

    /// The next line that the script writes.
    pub async fn line(&mut self) -> String {
        let line = within(self.out.recv(), "a line of the script").await.expect("the script says more");
        self.said.push(line.clone());
        line
    }

    /// Waits for a line of the log.
    pub async fn logs(&mut self, text: &str) -> String {
        loop {
            let line =
                within(self.log.recv(), text).await.unwrap_or_else(|| panic!("no {text:?} in the log"));
            self.logged.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Waits for the end, of everything that could still write as well, and looks for secrets in what was written.
    pub async fn ended(mut self) -> Ended {
        while let Some(line) = within(self.log.recv(), "the end of the log").await {
            self.logged.push(line);
        }
        while let Some(line) = within(self.out.recv(), "the end of the output").await {
            self.said.push(line);
        }
        let status: ExitStatus = within(self.child.wait(), "the end").await.expect("wait");
        let log = self.logged.join("\n");
        for secret in [&self.secrets.token, &self.secrets.jit_config] {
            assert!(!log.contains(secret.as_str()), "a secret in the log: {log}");
        }
        Ended { code: status.code(), said: self.said, log }
    }
}

fn lines(pipe: impl AsyncRead + Unpin + Send + 'static) -> UnboundedReceiver<String> {
    let (sender, receiver) = unbounded_channel();
    tokio::spawn(async move {
        let mut lines = BufReader::new(pipe).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Waits, but not for ever.
pub async fn within<T>(future: impl Future<Output = T>, what: &str) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}
