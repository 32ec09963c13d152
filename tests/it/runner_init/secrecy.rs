//! Who can read the token and the configuration, where, and when.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use nix::sys::signal::Signal;
use tokio::sync::oneshot;

use super::container::{Container, within};

/// What a job that is curious would do. `$init` is the process above the runner: process 1 in the container.
const CURIOUS: &str = r#"
init=$PPID
can_read() { (exec 3< "/proc/$1/$2" && head -c 1 <&3) >/dev/null 2>&1 && echo "$3 $2: open" || echo "$3 $2: closed"; }
can_list() { ls "/proc/$1/$2" >/dev/null 2>&1 && echo "$3 $2: open" || echo "$3 $2: closed"; }
for file in environ maps auxv; do can_read $$ $file own; can_read $init $file init; done
for task in /proc/$init/task/*; do can_read "$init/task/${task##*/}" environ init-thread; done
# The first byte is not mapped, so it is enough that memory can be opened.
for whose in "$$ own" "$init init"; do
    set -- $whose
    (exec 3< "/proc/$1/mem") 2>/dev/null && echo "$2 mem: open" || echo "$2 mem: closed"
done
for directory in fd map_files; do can_list $$ $directory own; can_list $init $directory init; done
readlink /proc/$init/exe >/dev/null && echo "init exe: open" || echo "init exe: closed"
# Everything that can be read of anybody, and all that was inherited.
cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/[0-9]*/task/[0-9]*/environ 2>/dev/null | tr '\0' '\n' > "$DIR/everything"
tr '\0' ' ' < /proc/$init/cmdline > "$DIR/cmdline"
tr '\0' '\n' < /proc/$$/environ > "$DIR/environment"
ls -l /proc/$$/fd > "$DIR/descriptors"
ls -l /proc/[0-9]*/fd 2>/dev/null | grep memfd: > "$DIR/memfds"
echo done
wait_for gate
"#;

#[tokio::test]
async fn a_curious_job_finds_no_token() {
    let mut container = Container::new(CURIOUS).await;
    let gate = container.gate("gate");
    // What this program has no business to hand on, and what a job needs.
    container
        .env("RUNNER_GROUP_ID", "7")
        .env("IDLE_TIMEOUT_SECONDS", "300")
        .env("STOP_TIMEOUT_SECONDS", "60")
        .env("RUST_LOG", "debug")
        .env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/task-role")
        .env("AWS_REGION", "eu-central-1")
        .env("ECS_CONTAINER_METADATA_URI_V4", "http://169.254.170.2/v4/x");
    let mut running = container.start();
    let mut report = Vec::new();
    loop {
        match running.line().await.as_str() {
            "done" => break,
            line => report.push(line.to_owned()),
        }
    }
    // Each `own` line shows that the question is put the right way: there, the answer is yes.
    expect_test::expect![[r#"
        own environ: open
        init environ: closed
        own maps: open
        init maps: closed
        own auxv: open
        init auxv: closed
        init-thread environ: closed
        own mem: open
        init mem: closed
        own fd: open
        init fd: closed
        own map_files: open
        init map_files: closed
        init exe: closed"#]]
    .assert_eq(&report.join("\n"));

    let (token, jit_config) = (&container.secrets.token, &container.secrets.jit_config);
    let seen = |name: &str| fs::read_to_string(container.path(name)).expect("the job wrote it");
    let everything = seen("everything");
    assert!(everything.contains(jit_config), "the job has looked, and found what it may have");
    assert!(!everything.contains(token), "the job has found the token");
    let cmdline = seen("cmdline");
    assert!(cmdline.contains("runner-init --supervise"), "{cmdline}");
    assert_eq!(seen("memfds"), "", "nothing is left of the handover");
    let descriptors = seen("descriptors");
    let open: Vec<&str> = descriptors
        .lines()
        .filter_map(|line| line.split_once(" -> "))
        .filter_map(|(left, _)| left.rsplit(' ').next())
        .collect();
    // bash keeps the script itself open under 255.
    assert_eq!(open, ["0", "1", "2", "255"], "{descriptors}");
    assert!(descriptors.contains(" 0 -> /dev/null\n"), "{descriptors}");

    // PATH and DIR are this test's.
    let environment = seen("environment").replace(jit_config, "<configuration>");
    let mut environment: Vec<&str> =
        environment.lines().filter(|line| !line.starts_with("PATH=") && !line.starts_with("DIR=")).collect();
    environment.sort_unstable();
    expect_test::expect![[r#"
        ACTIONS_RUNNER_INPUT_JITCONFIG=<configuration>
        AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/v2/credentials/task-role
        AWS_REGION=eu-central-1
        ECS_CONTAINER_METADATA_URI_V4=http://169.254.170.2/v4/x
        RUNNER_MANUALLY_TRAP_SIG=1"#]]
    .assert_eq(&environment.join("\n"));

    gate.open();
    assert_eq!(running.ended().await.code, Some(87));
}

/// As root, who may read everything, this looks at all of it; as anybody else it is turned away, as a job is.
#[tokio::test]
async fn the_token_is_gone_from_memory_when_the_runner_starts() {
    let mut container = Container::new("echo $$; wait_for gate").await;
    let gate = container.gate("gate");
    let mut running = container.start();
    let script: i32 = running.line().await.parse().expect("a process id");
    let (token, jit_config) = (container.secrets.token.clone(), container.secrets.jit_config.clone());
    assert!(
        holds(script, &jit_config).expect("a process of the same user can be read"),
        "this test cannot find what is there"
    );
    match holds(running.pid, &token) {
        Ok(found) => assert!(!found, "the token is in the memory of process 1"),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
    }
    assert!(!holds(script, &token).expect("as above"), "the token is in the memory of the runner");
    gate.open();
    assert_eq!(running.ended().await.code, Some(87));
}

/// While GitHub is asked, the token is in this one process's memory, and nowhere that has a name.
#[tokio::test]
async fn during_the_mint_the_token_is_in_memory_only() {
    let mut container = Container::new("exit 0").await;
    let (sender, seen) = oneshot::channel();
    let in_memory = container.secrets.token.clone();
    let running = container.start();
    let pid = running.pid;
    container.github.world().peek = Some(Box::new(move || {
        let all = |name: &str| {
            fs::read(format!("/proc/{pid}/{name}")).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map(|entries| {
            entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()).collect::<Vec<_>>()
        });
        // The receiver is gone only if the test has failed already.
        let _ =
            sender.send((all("cmdline"), all("environ"), descriptors, all("status"), holds(pid, &in_memory)));
    }));
    let (cmdline, environ, descriptors, status, memory) = within(seen, "the mint").await.expect("sent");
    match memory {
        Ok(found) => assert!(found, "the search of a memory finds no token where there must be one"),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
    }
    let token = &container.secrets.token;
    let cmdline = cmdline.expect("open to everybody");
    assert!(cmdline.contains("--mint") && !cmdline.contains(token), "{cmdline}");
    // Bits 1 and 14: SIGINT and SIGTERM.
    assert!(status.expect("open to everybody").contains("SigBlk:\t0000000000004002\n"), "they wait");
    match environ {
        Ok(environ) => {
            assert!(environ.contains("ORGANIZATION=acme") && !environ.contains(token), "{environ}")
        }
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
    }
    match descriptors {
        Ok(descriptors) => {
            assert!(!descriptors.is_empty());
            assert!(
                !descriptors.iter().any(|path| path.to_string_lossy().contains("memfd:")),
                "{descriptors:?}"
            );
        }
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
    }
    assert_eq!(running.ended().await.code, Some(87));
}

#[tokio::test]
async fn the_registration_is_what_was_asked_for() {
    let mut container = Container::new("exit 0").await;
    container.env("RUNNER_GROUP_ID", "7").env("RUNNER_LABELS_JSON", r#"["self-hosted","cpu=2"]"#);
    assert_eq!(container.run().await.code, Some(87));
    let world = container.github.world();
    let [request] = world.requests.as_slice() else { panic!("{:?}", world.requests) };
    let (call, body) = request.split_at(request.find('{').expect("a body"));
    assert_eq!(call.trim(), "POST /orgs/acme/actions/runners/generate-jitconfig");
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(body["name"], "fargate-1-1");
    assert_eq!(body["runner_group_id"], 7);
    assert_eq!(body["labels"], serde_json::json!(["self-hosted", "cpu=2"]));
}

/// A stage's descriptor cannot be made up: nothing but an earlier stage's file is read.
#[tokio::test]
async fn no_other_file_is_taken_for_a_handover() {
    let mut container = Container::new("echo started").await;
    container.env_remove("ACCESS_TOKEN").arg("--supervise").arg("0");
    let ended = container.run().await;
    assert_eq!((ended.code, ended.said.len()), (Some(85), 0), "{}", ended.log);
}

/// Whether the text is anywhere in the memory that a process may write to.
fn holds(pid: i32, text: &str) -> io::Result<bool> {
    let memory = File::open(Path::new("/proc").join(pid.to_string()).join("mem"))?;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let mut found = false;
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (Some(range), Some(mode)) = (fields.next(), fields.next()) else { continue };
        let Some((start, end)) = range.split_once('-') else { continue };
        if !mode.starts_with("rw") {
            continue;
        }
        let address = |text| u64::from_str_radix(text, 16).expect("an address");
        let (start, end) = (address(start), address(end));
        let mut bytes = vec![0; usize::try_from(end - start).expect("it fits")];
        // A region may shrink meanwhile, and special ones cannot be read; what was read counts.
        let read = memory.read_at(&mut bytes, start).unwrap_or_default();
        found |= bytes[..read].windows(text.len()).any(|window| window == text.as_bytes());
    }
    Ok(found)
}

/// The stages hand signals on: one that comes during the mint ends it, and no runner starts.
#[tokio::test]
async fn a_signal_during_the_mint_ends_it() {
    let mut container = Container::new("echo started").await;
    container.github.world().faults.push_back(super::github::Fault::Silence);
    let running = container.start();
    within(container.github.arrived.notified(), "the mint").await;
    running.signal(Signal::SIGTERM);
    let ended = running.ended().await;
    assert_eq!((ended.code, ended.said.len()), (Some(88), 0), "{}", ended.log);
}
