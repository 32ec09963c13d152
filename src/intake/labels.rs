//! The labels of a job: is it ours, and what size, architecture and capacity does it ask for?
//!
//! | label | meaning |
//! | --- | --- |
//! | `vcpu-02048-mem-008192` | CPU units and MiB, zero-padded or not |
//! | `cpu=2`, `ram=8`, `disk=50` | vCPU, GiB, GiB of ephemeral storage |
//! | `x64`, `arm64` | architecture |
//! | `spot`, `on-demand` | capacity |
//! | `run=…`, `job=…` | anything: makes the label set unique |
//! | `fargate/cpu=2/ram=8/spot` | several labels in one, joined by `/` |
//!
//! Letters may be of either case everywhere: GitHub matches labels without regard to it.

use std::{collections::BTreeSet, fmt::Display};

use crate::fargate::size::{LARGEST, Size};

/// The labels this fleet answers to (`RUNNER_LABELS`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offered {
    /// `*`: every label, as long as `self-hosted` is among the job's.
    Any,
    /// These, in lower case.
    These(BTreeSet<String>),
}

impl Offered {
    /// Labels of either case; `*` alone or among others offers everything.
    pub fn new<S: AsRef<str>>(labels: impl IntoIterator<Item = S>) -> Self {
        let labels: BTreeSet<String> =
            labels.into_iter().map(|label| label.as_ref().trim().to_lowercase()).collect();
        if labels.contains("*") { Offered::Any } else { Offered::These(labels) }
    }

    /// Whether the (lower-case) label is offered.
    fn has(&self, label: &str) -> bool {
        match self {
            Offered::Any => true,
            Offered::These(labels) => labels.contains(label),
        }
    }
}

/// A processor architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Architecture {
    /// `x64`: ECS calls it X86_64.
    X64,
    /// `arm64`.
    Arm64,
}

/// A capacity that a label names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CapacityLabel {
    /// `spot`: FARGATE_SPOT and nothing else.
    Spot,
    /// `on-demand`: FARGATE and nothing else.
    OnDemand,
}

/// What the labels of one of our jobs ask for; `None` means that they say nothing about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizing {
    /// CPU and memory, rounded up to a size that Fargate has.
    pub size: Option<Size>,
    /// Ephemeral storage in GiB, 21 to 200.
    pub disk_gib: Option<u32>,
    /// The architecture.
    pub architecture: Option<Architecture>,
    /// The capacity.
    pub capacity: Option<CapacityLabel>,
}

/// Why labels lead to no runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoRunner {
    /// Some other runner answers to these labels: the job is not ours.
    NotOffered(String),
    /// The job is ours, and asks for what cannot be given; the text says what can.
    Impossible(String),
}

/// The most labels that a runner can have: "maximum items: 100" (`labels` of generate-jitconfig).
pub const MOST_LABELS: usize = 100;

/// The longest label, by actions/runner's own check (`LabelsValidator`).
const LONGEST_LABEL: usize = 256;

/// What is wrong with a label that no runner can have.
pub fn flaw(label: &str) -> Option<&'static str> {
    match label {
        "" => Some("is empty"),
        _ if label.chars().count() > LONGEST_LABEL => Some("is longer than 256 characters"),
        _ if label.chars().any(char::is_control) => Some("has a control character in it"),
        _ => None,
    }
}

/// The most that a job may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Most {
    /// `MAX_CPU`.
    pub vcpu: u32,
    /// `MAX_MEMORY`, in GiB.
    pub memory_gib: u32,
    /// `MAX_DISK`, in GiB.
    pub disk_gib: u32,
}

impl Default for Most {
    /// All that Fargate has.
    fn default() -> Self {
        Most { vcpu: LARGEST.cpu / 1024, memory_gib: LARGEST.memory_mib / 1024, disk_gib: *DISK_GIB.end() }
    }
}

impl Most {
    /// Why a job gets no runner of this sizing, and what it could have.
    pub fn refuses(&self, sizing: &Sizing) -> Option<String> {
        let Most { vcpu, memory_gib, disk_gib } = *self;
        let too_large = |size: &Size| size.cpu > vcpu * 1024 || size.memory_mib > memory_gib * 1024;
        if let Some(size) = sizing.size.filter(too_large) {
            return Some(format!(
                "the job gets {size} for what it asks, and the most here is {vcpu} vCPU (MAX_CPU) with {memory_gib} \
                 GiB (MAX_MEMORY)"
            ));
        }
        let gib = sizing.disk_gib.filter(|gib| *gib > disk_gib)?;
        Some(format!("the job asks for a disk of {gib} GiB, and the most here is {disk_gib} GiB (MAX_DISK)"))
    }
}

/// Ephemeral storage that RunTask accepts as an override, in GiB (`EphemeralStorage.sizeInGiB`).
const DISK_GIB: std::ops::RangeInclusive<u32> = 21..=200;

/// One label, read as a sizing label.
enum Term {
    Cpu(u32),
    Memory(u32),
    Both(u32, u32),
    Disk(u32),
    Architecture(Architecture),
    Capacity(CapacityLabel),
    Unique,
    /// Begins like a sizing label, and does not go on like one.
    Malformed(&'static str),
}

/// Reads the job's labels. A job is ours when every label is offered or is a sizing label, and at least one is
/// offered.
pub fn read<S: AsRef<str>>(labels: &[S], offered: &Offered) -> Result<Sizing, NoRunner> {
    let mut wishes = Wishes::default();
    let mut problems = Vec::new();
    let mut any_offered = false;
    let mut self_hosted = false;

    for label in labels.iter().flat_map(|label| parts(label.as_ref())) {
        self_hosted |= label == "self-hosted";
        let term = term(&label);
        let is_offered = offered.has(&label);
        any_offered |= is_offered;
        match term {
            Some(Term::Malformed(form)) if !is_offered || *offered == Offered::Any => {
                problems.push(format!("label {} should look like {form}", shown(&label)));
            }
            Some(term) => problems.extend(wishes.add(term).err()),
            None if is_offered => {}
            None => {
                return Err(NoRunner::NotOffered(format!("label {} is not offered", shown(&label))));
            }
        }
    }
    if !any_offered {
        return Err(NoRunner::NotOffered("none of the labels is offered".into()));
    }
    if *offered == Offered::Any && !self_hosted {
        return Err(NoRunner::NotOffered("label \"self-hosted\" is missing".into()));
    }
    if labels.len() > MOST_LABELS {
        problems.push(format!("the job has {} labels, and a runner can have {MOST_LABELS}", labels.len()));
    }
    let flawed = labels.iter().filter_map(|label| Some((label.as_ref(), flaw(label.as_ref())?)));
    problems.extend(flawed.map(|(label, flaw)| format!("label {} {flaw}", shown(label))));
    if !problems.is_empty() {
        problems.truncate(MOST_PROBLEMS);
        return Err(NoRunner::Impossible(problems.join("; ")));
    }
    wishes.sizing().map_err(NoRunner::Impossible)
}

/// Problems that are told of one job: enough to mend it, and fit for a log line.
const MOST_PROBLEMS: usize = 5;

/// Whether the (lower-case) word is a sizing label, well-formed or not.
pub(super) fn is_sizing(part: &str) -> bool {
    term(part).is_some()
}

/// A label from outside, at a length fit for a log line.
pub(super) fn shown(label: &str) -> String {
    match label.char_indices().nth(80) {
        Some((end, _)) => format!("{:?}…", &label[..end]),
        None => format!("{label:?}"),
    }
}

/// The (lower-case) words of a label: `fargate/cpu=2/ram=8` is three; `run=…` and `job=…` are one, whatever follows.
pub(super) fn parts(label: &str) -> Vec<String> {
    let label = label.trim().to_lowercase();
    if label.starts_with("run=") || label.starts_with("job=") {
        return vec![label];
    }
    label.split('/').map(|part| part.trim().to_owned()).collect()
}

fn term(label: &str) -> Option<Term> {
    match label {
        "x64" => return Some(Term::Architecture(Architecture::X64)),
        "arm64" => return Some(Term::Architecture(Architecture::Arm64)),
        "spot" => return Some(Term::Capacity(CapacityLabel::Spot)),
        "on-demand" => return Some(Term::Capacity(CapacityLabel::OnDemand)),
        _ => {}
    }
    if let Some(rest) = label.strip_prefix("vcpu-") {
        let form = "vcpu-2048-mem-8192 (CPU units, MiB)";
        return Some(match rest.split_once("-mem-").map(|(cpu, mem)| (digits(cpu), digits(mem))) {
            Some((Some(cpu), Some(memory))) => Term::Both(cpu, memory),
            _ => Term::Malformed(form),
        });
    }
    let (key, value) = label.split_once('=')?;
    match key {
        "cpu" => Some(thousand_and_24th(value).map_or(Term::Malformed("cpu=2 (vCPU)"), Term::Cpu)),
        "ram" => Some(thousand_and_24th(value).map_or(Term::Malformed("ram=8 (GiB)"), Term::Memory)),
        "disk" => Some(digits(value).map_or(Term::Malformed("disk=50 (GiB)"), Term::Disk)),
        "run" | "job" => Some(Term::Unique),
        _ => None,
    }
}

/// A whole number above zero, zero-padded or not. One that is too large to hold is simply very large.
fn digits(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = is_number.then(|| text.parse().unwrap_or(u32::MAX))?;
    (number > 0).then_some(number)
}

/// vCPU to CPU units and GiB to MiB, rounded up: `2`, `0.5`, `.25`.
fn thousand_and_24th(text: &str) -> Option<u32> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number: f64 = is_number.then(|| text.parse().ok())??;
    // `as` saturates, and a number that large is rejected as a size all the same.
    (number > 0.0).then(|| (number * 1024.0).ceil() as u32)
}

/// What the labels read so far ask for.
#[derive(Default)]
struct Wishes {
    cpu: Option<u32>,
    memory_mib: Option<u32>,
    disk_gib: Option<u32>,
    architecture: Option<Architecture>,
    capacity: Option<CapacityLabel>,
}

impl Wishes {
    fn add(&mut self, term: Term) -> Result<(), String> {
        match term {
            Term::Cpu(units) => set(&mut self.cpu, units, "CPU"),
            Term::Memory(mib) => set(&mut self.memory_mib, mib, "memory"),
            Term::Both(units, mib) => {
                set(&mut self.cpu, units, "CPU").and(set(&mut self.memory_mib, mib, "memory"))
            }
            Term::Disk(gib) => set(&mut self.disk_gib, gib, "disk"),
            Term::Architecture(architecture) => set(&mut self.architecture, architecture, "architecture"),
            Term::Capacity(capacity) => set(&mut self.capacity, capacity, "capacity"),
            Term::Unique | Term::Malformed(_) => Ok(()),
        }
    }

    fn sizing(self) -> Result<Sizing, String> {
        let size = match (self.cpu, self.memory_mib) {
            (None, None) => None,
            (cpu, memory) => Some(Size::at_least(cpu, memory).ok_or_else(|| too_large(cpu, memory))?),
        };
        let disk_gib = match self.disk_gib {
            Some(gib) if gib > *DISK_GIB.end() => {
                return Err(format!(
                    "Fargate has no disk of {gib} GiB; the largest is {} GiB",
                    DISK_GIB.end()
                ));
            }
            gib => gib.map(|gib| gib.max(*DISK_GIB.start())),
        };
        Ok(Sizing { size, disk_gib, architecture: self.architecture, capacity: self.capacity })
    }
}

fn set<T: PartialEq>(wish: &mut Option<T>, value: T, what: &str) -> Result<(), String> {
    if wish.as_ref().is_some_and(|earlier| *earlier != value) {
        return Err(format!("the labels name two different values for {what}"));
    }
    *wish = Some(value);
    Ok(())
}

/// The valid sizes nearest to one that Fargate cannot give: with that CPU, and with that memory.
fn too_large(cpu: Option<u32>, memory_mib: Option<u32>) -> String {
    let wish = |value: Option<u32>| value.map_or("any".to_owned(), |value| value.to_string());
    let mut nearest: Vec<Size> = Vec::new();
    nearest.extend(cpu.and_then(|cpu| Size::at_least(Some(cpu), None)));
    nearest.extend(memory_mib.and_then(|memory| Size::at_least(None, Some(memory))));
    if !nearest.contains(&LARGEST) {
        nearest.push(LARGEST);
    }
    format!(
        "Fargate has no size of {} CPU units with {} MiB; the nearest valid sizes are {}",
        wish(cpu),
        wish(memory_mib),
        join(&nearest),
    )
}

fn join<T: Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{prelude::*, sample::subsequence};

    fn offered() -> Offered {
        Offered::new(["self-hosted", "Linux", "x64", "fargate"])
    }

    fn size(cpu: u32, memory_mib: u32) -> Option<Size> {
        Some(Size { cpu, memory_mib })
    }

    #[test]
    fn sizes() {
        let table: [(&[&str], Option<Size>, Option<u32>); 10] = [
            (&["self-hosted"], None, None),
            (&["self-hosted", "vcpu-02048-mem-008192"], size(2048, 8192), None),
            (&["self-hosted", "VCPU-2048-MEM-8192"], size(2048, 8192), None),
            (&["fargate", "cpu=2"], size(2048, 4096), None),
            (&["fargate", "cpu=.25"], size(256, 512), None),
            (&["fargate", "ram=8"], size(1024, 8192), None),
            (&["fargate", "disk=50"], None, Some(50)),
            (&["fargate", "disk=5"], None, Some(21)),
            (&["fargate/cpu=2/ram=8/disk=200"], size(2048, 8192), Some(200)),
            (&["fargate", "cpu=2", "vcpu-2048-mem-8192"], size(2048, 8192), None),
        ];
        for (labels, size, disk_gib) in table {
            let sizing = read(labels, &offered()).unwrap_or_else(|no| panic!("{labels:?}: {no:?}"));
            assert_eq!((sizing.size, sizing.disk_gib), (size, disk_gib), "{labels:?}");
        }
    }

    #[test]
    fn architecture_and_capacity() {
        let sizing = read(&["self-hosted", "ARM64", "Spot", "run=1/2"], &offered()).expect("ours");
        assert_eq!(sizing.architecture, Some(Architecture::Arm64));
        assert_eq!(sizing.capacity, Some(CapacityLabel::Spot));
        let sizing = read(&["fargate/on-demand/x64"], &offered()).expect("ours");
        assert_eq!(sizing.architecture, Some(Architecture::X64));
        assert_eq!(sizing.capacity, Some(CapacityLabel::OnDemand));
    }

    #[test]
    fn not_ours() {
        let foreign: [&[&str]; 8] = [
            &[],
            &["ubuntu-latest"],
            &["self-hosted", "gpu"],
            &["cpu=2"],
            &["spot", "run=1"],
            &["self-hosted", ""],
            // RunsOn's labels look a little like ours.
            &["runs-on=123/cpu=2+4/ram=16"],
            &["self-hosted", "gpu", "cpu=many"],
        ];
        for labels in foreign {
            assert!(matches!(read(labels, &offered()), Err(NoRunner::NotOffered(_))), "{labels:?}");
        }
    }

    #[test]
    fn impossible() {
        let table: [(&[&str], &str); 9] = [
            (&["fargate", "cpu=many"], "cpu=2 (vCPU)"),
            (&["fargate", "cpu=0"], "cpu=2 (vCPU)"),
            (&["fargate", "ram="], "ram=8 (GiB)"),
            (&["fargate", "vcpu-2-mem"], "vcpu-2048-mem-8192"),
            (&["fargate", "disk=201"], "the largest is 200 GiB"),
            (&["fargate", "cpu=2", "cpu=4"], "two different values for CPU"),
            (&["fargate", "spot", "on-demand"], "two different values for capacity"),
            (&["fargate", "cpu=32"], "16384 CPU units with 122880 MiB"),
            (&["fargate", "cpu=2", "ram=121"], "2048 CPU units with 4096 MiB"),
        ];
        for (labels, want) in table {
            match read(labels, &offered()) {
                Err(NoRunner::Impossible(why)) => assert!(why.contains(want), "{labels:?}: {why}"),
                other => panic!("{labels:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn labels_that_no_runner_can_have() {
        let many = |count: usize| -> Vec<String> {
            (1..count).map(|n| format!("run={n}")).chain(["fargate".into()]).collect()
        };
        assert!(read(&many(100), &offered()).is_ok());
        let too_many = read(&many(101), &offered()).expect_err("too many");
        assert_eq!(
            too_many,
            NoRunner::Impossible("the job has 101 labels, and a runner can have 100".into())
        );
        let long = format!("run={}", "x".repeat(253));
        for (label, want) in [
            (long.as_str(), "is longer than 256 characters"),
            ("run=a\nb", "\"run=a\\nb\" has a control character in it"),
            ("job=\u{7f}", "has a control character in it"),
        ] {
            match read(&["fargate", label], &offered()) {
                Err(NoRunner::Impossible(why)) => assert!(why.contains(want) && why.len() < 400, "{why}"),
                other => panic!("{label:?}: {other:?}"),
            }
        }
        let empty = read(&["self-hosted", ""], &Offered::Any).expect_err("an empty one");
        assert_eq!(empty, NoRunner::Impossible("label \"\" is empty".into()));
        // Whosever job it is, a reason is fit for a log line.
        let Err(NoRunner::NotOffered(why)) = read(&["x".repeat(10_000)], &offered()) else { panic!("ours?") };
        assert!(why.len() < 200, "{why}");
    }

    #[test]
    fn the_most_that_a_job_may_ask_for() {
        let most = Most { vcpu: 4, memory_gib: 8, disk_gib: 50 };
        let refuses = |most: &Most, labels: &[&str]| most.refuses(&read(labels, &offered()).expect("ours"));
        for labels in
            [&["fargate"][..], &["fargate", "cpu=4"], &["fargate", "ram=8"], &["fargate", "disk=50"]]
        {
            assert_eq!(refuses(&most, labels), None, "{labels:?}");
        }
        for (labels, want) in [
            (["fargate", "cpu=5"], "the most here is 4 vCPU (MAX_CPU) with 8 GiB (MAX_MEMORY)"),
            (["fargate", "ram=9"], "2048 CPU units with 9216 MiB"),
            (["fargate", "vcpu-8192-mem-1"], "8192 CPU units with 16384 MiB"),
            (["fargate", "disk=51"], "a disk of 51 GiB, and the most here is 50 GiB (MAX_DISK)"),
        ] {
            let why = refuses(&most, &labels).unwrap_or_default();
            assert!(why.contains(want), "{labels:?}: {why}");
        }
        assert_eq!(refuses(&Most::default(), &["fargate", "cpu=16", "ram=120", "disk=200"]), None);
    }

    #[test]
    fn a_star_offers_everything_to_jobs_that_are_self_hosted() {
        let any = Offered::new(["*"]);
        assert_eq!(read(&["self-hosted", "gpu", "cpu=2"], &any).expect("ours").size, size(2048, 4096));
        assert!(matches!(read(&["gpu"], &any), Err(NoRunner::NotOffered(_))));
        assert!(matches!(read(&["self-hosted", "cpu=x"], &any), Err(NoRunner::Impossible(_))));
    }

    /// Labels of which every one is offered or a sizing label, and at least one is offered.
    fn ours() -> impl Strategy<Value = Vec<String>> {
        (
            subsequence(vec!["self-hosted", "linux", "fargate"], 1..=3),
            proptest::option::of((1u32..=16).prop_map(|cpu| format!("cpu={cpu}"))),
            proptest::option::of((1u32..=120).prop_map(|ram| format!("ram={ram}"))),
            proptest::option::of((1u32..=200).prop_map(|disk| format!("disk={disk}"))),
            proptest::option::of(prop_oneof![Just("spot"), Just("on-demand")]),
            proptest::option::of("run=[a-z0-9]{1,8}"),
        )
            .prop_map(|(offered, cpu, ram, disk, capacity, run)| {
                let offered = offered.into_iter().map(str::to_owned);
                let sizing = [cpu, ram, disk, capacity.map(str::to_owned), run];
                offered.chain(sizing.into_iter().flatten()).collect()
            })
    }

    proptest! {
        #[test]
        fn every_accepted_size_is_fargates(labels in ours()) {
            if let Ok(Sizing { size: Some(size), .. }) = read(&labels, &offered()) {
                prop_assert_eq!(Size::at_least(Some(size.cpu), Some(size.memory_mib)), Some(size));
            }
        }

        #[test]
        fn case_never_matters(labels in ours()) {
            let upper: Vec<String> = labels.iter().map(|label| label.to_uppercase()).collect();
            prop_assert_eq!(read(&labels, &offered()), read(&upper, &offered()));
        }

        #[test]
        fn the_slash_form_means_the_same(labels in ours()) {
            prop_assert_eq!(read(&labels, &offered()), read(&[labels.join("/")], &offered()));
        }

        #[test]
        fn rounding_never_goes_down(cpu in 1u32..=16, ram in 1u32..=120) {
            let labels = ["fargate".to_owned(), format!("cpu={cpu}"), format!("ram={ram}")];
            let size = read(&labels, &offered()).expect("Fargate has it").size.expect("a size");
            prop_assert!(size.cpu >= cpu * 1024 && size.memory_mib >= ram * 1024);
        }

        #[test]
        fn nothing_panics(labels in proptest::collection::vec(".{0,40}|(vcpu-|cpu=|ram=|disk=)[0-9.]{0,30}", 0..6)) {
            let _ = read(&labels, &offered());
            let _ = read(&labels, &Offered::Any);
        }
    }
}
