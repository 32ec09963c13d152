//! `runner-labels`: what the `runs-on:` of workflow files leads to, before GitHub queues a job that nobody takes.
//!
//! A line a job: its size, that it is another runner's, that it is decided at run time, or why it can never be served.
//! Exit code: 0 nothing is wrong, 1 a job can never be served, 2 there was something that could not be read.
#![forbid(unsafe_code)]

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use gha_fargate_runners::{
    ids::RunnerNames,
    intake::{
        labels::{Architecture, CapacityLabel, Most, Offered, Sizing},
        policy::{Policy, Verdict},
    },
};
use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};

const HELP: &str = "\
runner-labels [options] [file or folder ...]     (.github/workflows, where none is named)

Reads runs-on: of each job, and tells the size that it gets from this fleet.

  --labels A,B       the labels offered (RunnerLabels)     [self-hosted,linux,x64,fargate]
  --arm64            arm64 is offered (EnableArm64)
  --max-cpu N        the most vCPU of a job (MaxCpu)       [16]
  --max-memory N     the most GiB of memory (MaxMemory)    [120]
  --max-disk N       the most GiB of disk (MaxDisk)        [200]

Exit code: 0 nothing is wrong, 1 a job can never be served, 2 something could not be read.
";

/// Labels that say nothing about whose runner is meant: GitHub gives them to every self-hosted runner of that kind.
const ANYBODYS: [&str; 4] = ["self-hosted", "linux", "x64", "arm64"];

/// What becomes of a job.
#[derive(Debug, PartialEq)]
enum Fate {
    /// It gets a runner of this size.
    Served(String),
    /// Another runner's, and why.
    Foreign(String),
    /// An expression decides.
    AtRunTime(String),
    /// It is meant for this fleet, and can never get a runner.
    Never(String),
}

/// A job of a workflow file.
struct Job<'a> {
    name: &'a str,
    line: usize,
    fate: Fate,
}

struct Fleet {
    policy: Policy,
    /// Labels that only this fleet has.
    own: Vec<String>,
}

impl Fleet {
    fn fate(&self, labels: &[String], docker: Option<&str>) -> Fate {
        // `run=${{ github.run_id }}` makes labels unique, whatever comes out.
        let is_unique = |label: &str| label.starts_with("run=") || label.starts_with("job=");
        if let Some(label) = labels.iter().find(|label| label.contains("${{") && !is_unique(label)) {
            return Fate::AtRunTime(label.clone());
        }
        let is_own = |label: &String| {
            label.to_lowercase().split('/').any(|part| self.own.iter().any(|own| own == part))
        };
        match (self.policy.size(labels), docker) {
            (Verdict::Run(_), Some(key)) => Fate::Never(format!(
                "`{key}:` needs Docker, and Fargate gives no container the right to run it"
            )),
            (Verdict::Run(sizing), None) => Fate::Served(told(&sizing)),
            (Verdict::Reject(why), _) => Fate::Never(why),
            (Verdict::Skip(skip), _) if labels.iter().any(is_own) => Fate::Never(skip.detail),
            (Verdict::Skip(skip), _) => Fate::Foreign(skip.detail),
        }
    }
}

fn told(sizing: &Sizing) -> String {
    let size = sizing.size.map_or("the fleet's own size".to_owned(), |size| {
        format!("{} vCPU, {} GiB", f64::from(size.cpu) / 1024.0, f64::from(size.memory_mib) / 1024.0)
    });
    let disk = sizing.disk_gib.map(|gib| format!("{gib} GiB of disk"));
    let architecture = matches!(sizing.architecture, Some(Architecture::Arm64)).then(|| "arm64".to_owned());
    let capacity = sizing.capacity.map(|capacity| match capacity {
        CapacityLabel::Spot => "Spot".to_owned(),
        CapacityLabel::OnDemand => "on-demand".to_owned(),
    });
    [Some(size), disk, architecture, capacity].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// A scalar's text, as GitHub takes it for a label.
fn text(node: &MarkedYaml<'_>) -> Option<String> {
    match &node.data {
        YamlData::Value(Scalar::String(text)) => Some(text.to_string()),
        YamlData::Value(Scalar::Integer(number)) => Some(number.to_string()),
        YamlData::Value(Scalar::FloatingPoint(number)) => Some(number.to_string()),
        YamlData::Value(Scalar::Boolean(is)) => Some(is.to_string()),
        _ => None,
    }
}

/// A label, several, or `{group, labels}`.
fn labels(runs_on: &MarkedYaml<'_>) -> Option<Vec<String>> {
    if runs_on.data.is_mapping() {
        return match runs_on.data.as_mapping_get("labels") {
            Some(named) => labels(named),
            None => Some(Vec::new()),
        };
    }
    match runs_on.data.as_sequence() {
        Some(sequence) => sequence.iter().map(text).collect(),
        None => text(runs_on).map(|label| vec![label]),
    }
}

/// The jobs of a workflow file that say where they run; a job that calls another workflow does not.
fn jobs<'a>(workflow: &'a MarkedYaml<'_>, fleet: &Fleet) -> Result<Vec<Job<'a>>, String> {
    let jobs = workflow.data.as_mapping_get("jobs").and_then(|jobs| jobs.data.as_mapping());
    let mut found = Vec::new();
    for (name, job) in jobs.ok_or("it has no jobs")? {
        let Some(runs_on) = job.data.as_mapping_get("runs-on") else { continue };
        let line = runs_on.span.start.line();
        let labels = labels(runs_on).ok_or(format!("line {line}: runs-on should be labels"))?;
        let docker = ["container", "services"].into_iter().find(|key| job.data.as_mapping_get(key).is_some());
        found.push(Job { name: name.data.as_str().unwrap_or("?"), line, fate: fleet.fate(&labels, docker) });
    }
    Ok(found)
}

/// The lines to print about one file, and whether a job of it can never be served.
fn report(path: &Path, source: &str, fleet: &Fleet, annotate: bool) -> Result<(Vec<String>, bool), String> {
    let documents = MarkedYaml::load_from_str(source).map_err(|error| error.to_string())?;
    let (path, mut lines, mut never) = (path.display(), Vec::new(), false);
    for Job { name, line, fate } in jobs(documents.first().ok_or("it is empty")?, fleet)? {
        let said = match &fate {
            Fate::Served(size) => size.clone(),
            Fate::Foreign(why) => format!("another runner's: {why}"),
            Fate::AtRunTime(expression) => format!("decided at run time: {expression}"),
            Fate::Never(why) => format!("can never be served: {why}"),
        };
        lines.push(format!("{path}:{line}: {name}: {said}"));
        if matches!(fate, Fate::Never(_)) {
            never = true;
            // Shown beside the line, in a pull request.
            lines.extend(annotate.then(|| format!("::error file={path},line={line}::{name}: {said}")));
        }
    }
    Ok((lines, never))
}

/// A folder's workflow files, or the file itself.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found: Vec<PathBuf> =
        fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    found.retain(|path| path.extension().is_some_and(|ending| ending == "yml" || ending == "yaml"));
    found.sort();
    Ok(found)
}

/// What the arguments say: the fleet, and the files. `Err` is a sentence.
fn options(arguments: impl Iterator<Item = String>) -> Result<(Fleet, Vec<PathBuf>), String> {
    let (mut offered, mut arm64, mut paths) = ("self-hosted,linux,x64,fargate".to_owned(), false, Vec::new());
    let mut most = Most::default();
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        let mut number = || {
            let text = value()?;
            text.parse::<u32>().map_err(|_| format!("{argument} should be a whole number, and is {text}"))
        };
        match argument.as_str() {
            "--labels" => offered = value()?,
            "--arm64" => arm64 = true,
            "--max-cpu" => most.vcpu = number()?,
            "--max-memory" => most.memory_gib = number()?,
            "--max-disk" => most.disk_gib = number()?,
            option if option.starts_with('-') => return Err(format!("there is no option {option}")),
            path => paths.push(path.into()),
        }
    }
    if paths.is_empty() {
        paths.push(".github/workflows".into());
    }
    let labels: Vec<String> = offered.split(',').map(|label| label.trim().to_lowercase()).collect();
    let policy = Policy {
        names: RunnerNames::default(),
        offered: Offered::new(&labels),
        organization: None,
        repositories: Vec::new(),
        allow_public: true,
        arm64,
        most,
    };
    let own = labels.into_iter().filter(|label| !ANYBODYS.contains(&label.as_str())).collect();
    Ok((Fleet { policy, own }, paths))
}

/// Whether a job of these files can never be served.
fn lint(fleet: &Fleet, paths: &[PathBuf]) -> Result<bool, String> {
    let annotate = env::var("GITHUB_ACTIONS").is_ok_and(|is| is == "true");
    let mut any = false;
    for path in paths {
        let unreadable = |error: io::Error| format!("{}: {error}", path.display());
        for file in files(path).map_err(unreadable)? {
            let source = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            let (lines, never) = report(&file, &source, fleet, annotate)
                .map_err(|wrong| format!("{}: it is no workflow: {wrong}", file.display()))?;
            lines.iter().for_each(|line| println!("{line}"));
            any |= never;
        }
    }
    Ok(any)
}

fn main() -> ExitCode {
    if env::args().any(|argument| argument == "--help") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match options(env::args().skip(1)).and_then(|(fleet, paths)| lint(&fleet, &paths)) {
        Ok(never) => ExitCode::from(u8::from(never)),
        Err(wrong) => {
            eprintln!("runner-labels: {wrong}");
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(arguments: &[&str], workflow: &str) -> Vec<(String, Fate)> {
        let (fleet, _) = options(arguments.iter().map(|it| (*it).to_owned())).expect("options");
        let documents = MarkedYaml::load_from_str(workflow).expect("YAML");
        let jobs = jobs(&documents[0], &fleet).expect("jobs");
        jobs.into_iter().map(|job| (format!("{}:{}", job.line, job.name), job.fate)).collect()
    }

    fn fate(arguments: &[&str], job: &str) -> Fate {
        let mut fates = fates(arguments, &format!("on: push\njobs:\n  job: {job}\n"));
        assert_eq!(fates.len(), 1, "{job}");
        fates.remove(0).1
    }

    #[test]
    fn what_each_job_gets() {
        let table = [
            ("{runs-on: fargate}", "the fleet's own size"),
            ("{runs-on: [self-hosted, fargate, cpu=2, ram=8]}", "2 vCPU, 8 GiB"),
            ("{runs-on: [fargate, cpu=.25]}", "0.25 vCPU, 0.5 GiB"),
            ("{runs-on: fargate/cpu=4/disk=50/spot}", "4 vCPU, 8 GiB, 50 GiB of disk, Spot"),
            ("{runs-on: {group: ours, labels: [fargate, on-demand]}}", "the fleet's own size, on-demand"),
            ("{runs-on: ['fargate', 'run=${{ github.run_id }}']}", "the fleet's own size"),
        ];
        for (job, want) in table {
            assert_eq!(fate(&[], job), Fate::Served(want.to_owned()), "{job}");
        }
        let arm64 = Fate::Served("the fleet's own size, arm64".to_owned());
        assert_eq!(fate(&["--arm64"], "{runs-on: [fargate, arm64]}"), arm64);
    }

    #[test]
    fn what_can_never_be_served() {
        let table: [(&[&str], &str, &str); 9] = [
            (&[], "{runs-on: [fargate, cpu=32]}", "16384 CPU units with 122880 MiB"),
            (&[], "{runs-on: [fargate, cpu=many]}", "cpu=2 (vCPU)"),
            (&[], "{runs-on: [fargate, cpu-4]}", "label \"cpu-4\" is not offered"),
            (&[], "{runs-on: [self-hosted, fargate, arm64]}", "arm64 is not offered"),
            (&[], "{runs-on: [fargate, spot, on-demand]}", "two different values for capacity"),
            (&["--max-cpu", "4"], "{runs-on: [fargate, cpu=8]}", "the most here is 4 vCPU"),
            (&["--labels", "self-hosted,ours"], "{runs-on: [ours, gpu]}", "label \"gpu\" is not offered"),
            (&[], "{runs-on: fargate, container: node}", "`container:` needs Docker"),
            (&[], "{runs-on: fargate, services: {db: {image: postgres}}}", "`services:` needs Docker"),
        ];
        for (arguments, job, want) in table {
            match fate(arguments, job) {
                Fate::Never(why) => assert!(why.contains(want), "{job}: {why}"),
                other => panic!("{job}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_is_another_runners_or_not_known_yet() {
        let foreign = [
            "{runs-on: ubuntu-latest, container: node}",
            "{runs-on: [self-hosted, linux, gpu]}",
            "{runs-on: {group: big}}",
        ];
        for job in foreign {
            assert!(matches!(fate(&[], job), Fate::Foreign(_)), "{job}");
        }
        for job in ["{runs-on: '${{ matrix.os }}'}", "{runs-on: [fargate, 'cpu=${{ inputs.cpu }}']}"] {
            assert!(matches!(fate(&[], job), Fate::AtRunTime(_)), "{job}");
        }
    }

    #[test]
    fn lines_anchors_and_workflows_that_are_called() {
        let workflow = "on: push\njobs:\n  a:\n    runs-on: &ours\n      - fargate\n  b:\n    runs-on: *ours\n  c:\n    uses: ./x.yml\n";
        let names: Vec<String> = fates(&[], workflow).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["4:a", "7:b"]);
    }

    #[test]
    fn what_is_no_workflow_or_no_option() {
        let (fleet, paths) = options(std::iter::empty()).expect("options");
        assert_eq!(paths, [PathBuf::from(".github/workflows")]);
        for source in ["", "- a\n- b\n", "on: [push\n", "jobs: {a: {runs-on: [[x]]}}"] {
            assert!(report(Path::new("x.yml"), source, &fleet, false).is_err(), "{source:?}");
        }
        for arguments in [&["--max-cpu", "many"][..], &["--max-disk"], &["--nothing"]] {
            assert!(options(arguments.iter().map(|it| (*it).to_owned())).is_err(), "{arguments:?}");
        }
    }
}
