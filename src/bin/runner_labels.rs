//! `runner-labels`: what the `runs-on:` of workflow files leads to, before GitHub queues a job that nobody takes.
//!
//! A line a job: its size, that it is another runner's, that it is decided at run time, or why it can never be served.
//! With `explain`: which class labels choose, or why none. With `classes`: what is wrong with a document of classes.
//! Exit code: 0 nothing is wrong, 1 something is, 2 there was something that could not be read.
#![forbid(unsafe_code)]

#[path = "runner_labels/document.rs"]
mod document;

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use gha_fargate_runners::{
    fargate::fleet::Capacity,
    ids::RunnerNames,
    intake::{
        classes::{ANYBODYS, Choice, Classes},
        labels::{Architecture, CapacityLabel, Most, Offered, Sizing},
        policy::{Policy, Verdict},
    },
};
use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};

const HELP: &str = "\
runner-labels [options] [file or folder ...]     (.github/workflows, where none is named)
runner-labels explain LABELS [options]
runner-labels classes FILE [--json] [options]

Reads runs-on: of each job, and tells the size that it gets from this fleet. With explain: the same of labels such as
self-hosted,gpu. With classes: all that is wrong with a document of runner classes (JSON or YAML), or its classes; with
--json the document as JSON, which is what the functions read.

  --classes FILE     the document (RunnerClasses)

  --labels A,B       the labels offered (RunnerLabels)     [self-hosted,linux,x64,fargate]
  --arm64            arm64 is offered (EnableArm64)
  --max-cpu N        the most vCPU of a job (MaxCpu)       [16]
  --max-memory N     the most GiB of memory (MaxMemory)    [120]
  --max-disk N       the most GiB of disk (MaxDisk)        [200]

Exit code: 0 nothing is wrong, 1 a job can never be served, labels choose nothing, or a document has mistakes,
2 something could not be read.
";

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
    classes: Option<Classes>,
    /// Labels that only this fleet has.
    own: Vec<String>,
    /// Labels that are offered; where there are classes, those that a job of any may have.
    labels: Vec<String>,
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
        match (self.policy.size(labels, self.classes.as_ref()), docker) {
            (Verdict::Run(choice), Some(key)) if !may_have_docker(&choice) => Fate::Never(format!(
                "`{key}:` needs Docker, and Fargate gives no container the right to run it"
            )),
            (Verdict::Run(choice), _) => Fate::Served(told_of(&choice)),
            (Verdict::Reject(why), _) => Fate::Never(why),
            (Verdict::Skip(skip), _) if labels.iter().any(is_own) => Fate::Never(skip.detail),
            (Verdict::Skip(skip), _) => Fate::Foreign(skip.detail),
        }
    }
}

/// Only capacity that is not Fargate's may have it.
fn may_have_docker(choice: &Choice) -> bool {
    let capacity = choice.class.as_ref().map_or(&[][..], |class| &class.capacity);
    !capacity.is_empty() && !capacity.iter().any(Capacity::is_fargate)
}

fn told_of(choice: &Choice) -> String {
    match &choice.class {
        Some(class) => format!("class {}, {}", class.name, told(&choice.sizing)),
        None => told(&choice.sizing),
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

/// What is to be done.
#[derive(Debug, PartialEq)]
enum Command {
    /// Tell of the jobs of these files.
    Lint(Vec<PathBuf>),
    /// Tell of these labels.
    Explain(Vec<String>),
    /// Tell of this document, or print it as JSON.
    Classes { file: PathBuf, json: bool },
}

/// The words after the options.
fn task(mut words: Vec<String>, json: bool) -> Result<Command, String> {
    match words.first().map(String::as_str) {
        Some("explain") => match words.split_off(1) {
            labels if labels.is_empty() => Err("explain needs labels, such as self-hosted,gpu".to_owned()),
            labels => {
                let labels = labels.iter().flat_map(|words| words.split(','));
                Ok(Command::Explain(labels.map(|label| label.trim().to_owned()).collect()))
            }
        },
        Some("classes") => match words.split_off(1).as_slice() {
            [file] => Ok(Command::Classes { file: file.into(), json }),
            _ => Err("classes needs a file".to_owned()),
        },
        Some("lint") if words.len() > 1 => Ok(Command::Lint(words[1..].iter().map(PathBuf::from).collect())),
        None | Some("lint") => Ok(Command::Lint(vec![".github/workflows".into()])),
        Some(_) => Ok(Command::Lint(words.iter().map(PathBuf::from).collect())),
    }
}

/// What the arguments say: the fleet, and what is to be done. `Err` is a sentence.
fn options(arguments: impl Iterator<Item = String>) -> Result<(Fleet, Command), String> {
    let (mut offered, mut arm64, mut words) = ("self-hosted,linux,x64,fargate".to_owned(), false, Vec::new());
    let (mut most, mut classes, mut json) = (Most::default(), None, false);
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        let mut number = || {
            let text = value()?;
            text.parse::<u32>().map_err(|_| format!("{argument} should be a whole number, and is {text}"))
        };
        match argument.as_str() {
            "--labels" => offered = value()?,
            "--classes" => classes = Some(value()?),
            "--json" => json = true,
            "--arm64" => arm64 = true,
            "--max-cpu" => most.vcpu = number()?,
            "--max-memory" => most.memory_gib = number()?,
            "--max-disk" => most.disk_gib = number()?,
            option if option.starts_with('-') => return Err(format!("there is no option {option}")),
            word => words.push(word.to_owned()),
        }
    }
    let labels: Vec<String> = offered.split(',').map(|label| label.trim().to_lowercase()).collect();
    let wrong = |wrong: document::Wrong| wrong.join("; ");
    let classes = classes.map(|file| document::read(Path::new(&file), &labels)).transpose().map_err(wrong)?;
    let policy = Policy {
        names: RunnerNames::default(),
        offered: Offered::new(&labels),
        organization: None,
        repositories: Vec::new(),
        allow_public: true,
        arm64,
        most,
    };
    let of_classes = classes.iter().flat_map(|it| &it.classes).flat_map(|class| &class.labels).cloned();
    let own = labels.iter().cloned().chain(of_classes).filter(|label| !ANYBODYS.contains(&label.as_str()));
    let own = own.collect();
    Ok((Fleet { policy, classes, own, labels }, task(words, json)?))
}

/// What these labels lead to, and whether that is nothing.
fn explain(fleet: &Fleet, labels: &[String]) -> bool {
    let (said, none) = match fleet.policy.size(labels, fleet.classes.as_ref()) {
        Verdict::Run(choice) => (told_of(&choice), false),
        Verdict::Reject(why) => (format!("can never be served: {why}"), true),
        Verdict::Skip(skip) => (format!("no class: {}", skip.detail), true),
    };
    println!("{}: {said}", labels.join(", "));
    none
}

/// What is wrong with a document, or what is in it; and whether something is wrong.
fn tell_classes(fleet: &Fleet, file: &Path, json: bool) -> bool {
    let read = document::read(file, &fleet.labels).and_then(|classes| Ok((classes, document::json(file)?)));
    match read {
        Ok((_, text)) if json => println!("{text}"),
        Ok((classes, _)) => {
            println!("version {}, {} classes", classes.version, classes.classes.len());
            classes.classes.iter().for_each(|class| println!("{}", document::line(class)));
        }
        Err(wrong) => {
            wrong.iter().for_each(|wrong| eprintln!("{}: {wrong}", file.display()));
            return true;
        }
    }
    false
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
    let done = options(env::args().skip(1)).and_then(|(fleet, task)| match task {
        Command::Lint(paths) => lint(&fleet, &paths),
        Command::Explain(labels) => Ok(explain(&fleet, &labels)),
        Command::Classes { file, json } => Ok(tell_classes(&fleet, &file, json)),
    });
    match done {
        Ok(wrong) => ExitCode::from(u8::from(wrong)),
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
        let (fleet, task) = options(std::iter::empty()).expect("options");
        assert_eq!(task, Command::Lint(vec![".github/workflows".into()]));
        for source in ["", "- a\n- b\n", "on: [push\n", "jobs: {a: {runs-on: [[x]]}}"] {
            assert!(report(Path::new("x.yml"), source, &fleet, false).is_err(), "{source:?}");
        }
        for arguments in [&["--max-cpu", "many"][..], &["--max-disk"], &["--nothing"]] {
            assert!(options(arguments.iter().map(|it| (*it).to_owned())).is_err(), "{arguments:?}");
        }
    }
}
