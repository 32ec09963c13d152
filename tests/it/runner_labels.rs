//! `runner-labels` as a process, and as the action and the pre-commit hook run it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const PROGRAM: &str = env!("CARGO_BIN_EXE_runner-labels");
const WELL: &str =
    "on: push\njobs:\n  a:\n    runs-on: [self-hosted, fargate, cpu=4]\n  b: {runs-on: ubuntu-latest}\n";
const ILL: &str = "on: push\njobs:\n  c:\n    runs-on: [fargate, cpu=64]\n";

fn run(
    program: &str,
    folder: &Path,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> (i32, String, String) {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(folder)
        .env_remove("GITHUB_ACTIONS")
        .envs(environment.iter().copied());
    let Output { status, stdout, stderr } = command.output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code().expect("an exit code"), text(stdout), text(stderr))
}

fn repository(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let workflows = folder.path().join(".github/workflows");
    fs::create_dir_all(&workflows).expect("workflows");
    for (name, text) in files {
        fs::write(workflows.join(name), text).expect("a workflow");
    }
    folder
}

#[test]
fn a_repositorys_workflows() {
    let folder = repository(&[("b.yaml", ILL), ("a.yml", WELL), ("notes.txt", "[")]);
    let told = "\
.github/workflows/a.yml:4: a: 4 vCPU, 8 GiB
.github/workflows/a.yml:5: b: another runner's: label \"ubuntu-latest\" is not offered
.github/workflows/b.yaml:4: c: can never be served: Fargate has no size of 65536 CPU units with any MiB; the nearest \
valid sizes are 16384 CPU units with 122880 MiB
";
    assert_eq!(run(PROGRAM, folder.path(), &[], &[]), (1, told.to_owned(), String::new()));
    let one = [".github/workflows/a.yml"];
    assert_eq!(run(PROGRAM, folder.path(), &one, &[]).0, 0);
    let (code, told, _) = run(PROGRAM, folder.path(), &[], &[("GITHUB_ACTIONS", "true")]);
    assert_eq!(code, 1);
    assert!(
        told.contains("\n::error file=.github/workflows/b.yaml,line=4::c: can never be served: "),
        "{told}"
    );
}

#[test]
fn what_cannot_be_read() {
    let folder = repository(&[("a.yml", "on: [push\n")]);
    for (arguments, want) in [
        (&[][..], "a.yml: it is no workflow"),
        (&["nothing.yml"], "nothing.yml: "),
        (&["--x"], "no option --x"),
    ] {
        let (code, told, wrong) = run(PROGRAM, folder.path(), arguments, &[]);
        assert_eq!((code, told.as_str()), (2, ""), "{arguments:?}");
        assert!(wrong.starts_with("runner-labels: ") && wrong.contains(want), "{wrong}");
    }
    let (code, help, _) = run(PROGRAM, folder.path(), &["--help"], &[]);
    assert_eq!(code, 0);
    assert!(help.contains("--max-disk N"), "{help}");
}

#[test]
fn a_document_of_classes() {
    const YAML: &str = "version: 3\nclasses:\n- name: big\n  labels: [big]\n  runner_group: builders\n  default_size: {cpu: 4096, memory: 16384}\n  pool: {size: 1, schedule: [{from: 07:00, to: '18:00', size: 2}]}\n- {name: docker, labels: [docker], capacity: [machines]}\n";
    const BAD: &str = "{\"version\": 1, \"classes\": [{\"name\": \"a\", \"labels\": []}, {\"name\": \"b\"}]}";
    let workflow = "on: push\njobs:\n  a: {runs-on: [self-hosted, big]}\n  b: {runs-on: docker, container: node}\n  c: {runs-on: big, container: node}\n";
    let folder = repository(&[("a.yml", workflow)]);
    for (name, text) in [("good.yaml", YAML), ("bad.json", BAD)] {
        fs::write(folder.path().join(name), text).expect("a document");
    }
    let run = |arguments: &[&str]| run(PROGRAM, folder.path(), arguments, &[]);
    let (code, told, _) = run(&["classes", "good.yaml"]);
    assert_eq!(code, 0);
    assert!(
        told.starts_with("version 3, 2 classes\nbig: labels big; size 4096 CPU units with 16384 MiB;"),
        "{told}"
    );
    let (code, json, _) = run(&["classes", "good.yaml", "--json"]);
    assert_eq!(code, 0);
    fs::write(folder.path().join("good.json"), json).expect("a document");
    assert_eq!(run(&["classes", "good.json"]).1, told, "the same in JSON");
    let wrong = "bad.json: classes[0].labels: should be at least one label\nbad.json: classes[1].labels: is missing: the labels that choose the class\n";
    assert_eq!(run(&["classes", "bad.json"]), (1, String::new(), wrong.to_owned()));
    let table = [
        (&["explain", "self-hosted,big"][..], 0, "self-hosted, big: class big, 4 vCPU, 16 GiB\n"),
        (&["explain", "self-hosted,gpu"], 1, "self-hosted, gpu: no class: label \"gpu\" is not offered\n"),
        (&["explain", "big", "docker"], 1, "big, docker: no class: no class has exactly the labels"),
        (&["explain", "big,cpu=64"], 1, "big, cpu=64: can never be served: Fargate has no size"),
    ];
    for (arguments, code, want) in table {
        let (got, told, _) = run(&[arguments, &["--classes", "good.json"]].concat());
        assert!(got == code && told.starts_with(want), "{arguments:?}: {got} {told}");
    }
    let (code, told, _) = run(&["--classes", "good.yaml"]);
    assert_eq!(code, 1);
    assert!(told.contains("a: class big, 4 vCPU, 16 GiB\n") && told.contains("b: class docker,"), "{told}");
    assert!(told.contains("c: can never be served: `container:` needs Docker"), "{told}");
    assert_eq!(run(&["--classes", "bad.json"]).0, 2);
}

/// A checkout of the script alone, and a release with this program in it.
struct Checkout {
    folder: tempfile::TempDir,
    release: String,
}

fn checkout(spoiled: bool) -> Checkout {
    let folder = tempfile::tempdir().expect("a folder");
    let (ops, release) = (folder.path().join("ops"), folder.path().join("release"));
    for made in [&ops, &release] {
        fs::create_dir(made).expect("a folder");
    }
    fs::copy(format!("{ROOT}/ops/runner-labels"), ops.join("runner-labels")).expect("the script");
    fs::write(folder.path().join("Cargo.toml"), "[package]\nversion = \"0.1.0\"\n").expect("a manifest");
    let mut sums = String::new();
    for architecture in ["x86_64", "arm64"] {
        let name = format!("runner-labels-{architecture}");
        fs::copy(PROGRAM, release.join(&name)).expect("the program");
        let sum = Command::new("sha256sum").arg(&name).current_dir(&release).output().expect("sha256sum");
        sums += &String::from_utf8(sum.stdout).expect("UTF-8");
        if spoiled {
            fs::write(release.join(&name), "#!/bin/sh\necho spoiled\n").expect("another program");
        }
    }
    fs::write(release.join("SHA256SUMS"), sums).expect("checksums");
    let release = format!("file://{}", release.display());
    Checkout { folder, release }
}

#[test]
fn the_script_fetches_it_once() {
    let (checkout, repository) = (checkout(false), repository(&[("a.yml", ILL)]));
    let script = checkout.folder.path().join("ops/runner-labels");
    let script = script.to_str().expect("UTF-8");
    let release = [("RUNNER_LABELS_RELEASE", checkout.release.as_str())];
    let (code, told, wrong) = run(script, repository.path(), &[".github/workflows/a.yml"], &release);
    assert_eq!((code, wrong.as_str()), (1, ""), "{told}");
    assert!(told.contains("c: can never be served"), "{told}");
    fs::remove_dir_all(checkout.folder.path().join("release")).expect("gone");
    assert_eq!(run(script, repository.path(), &[".github/workflows/a.yml"], &release).0, 1);
}

#[test]
fn a_program_that_is_not_the_releases_is_not_run() {
    let (checkout, repository) = (checkout(true), repository(&[("a.yml", WELL)]));
    let tools = tempfile::tempdir().expect("a folder");
    let cargo = tools.path().join("cargo");
    fs::write(&cargo, "#!/bin/sh\nexit 3\n").expect("a cargo that cannot build");
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).expect("a mode");
    let path = format!("{}:{}", tools.path().display(), std::env::var("PATH").expect("PATH"));
    let script = checkout.folder.path().join("ops/runner-labels");
    let environment = [("RUNNER_LABELS_RELEASE", checkout.release.as_str()), ("PATH", path.as_str())];
    let (code, told, wrong) = run(script.to_str().expect("UTF-8"), repository.path(), &[], &environment);
    assert_eq!((code, told.as_str()), (3, ""), "it is built instead");
    assert!(wrong.contains("building it"), "{wrong}");
}
