//! The processes below this one, as `/proc` shows them. What is read here (`stat`, `cmdline`) is open to
//! everybody, so it works for jobs that have become another user as well.

use std::{collections::BTreeMap, fs, path::Path};

/// The process that executes a job. The runner's listener starts one for the job it has taken
/// (`_workerProcessName` and `startProcess` in src/Runner.Listener/JobDispatcher.cs of actions/runner), with
/// the arguments `spawnclient <pipe> <pipe>`, and none before.
pub(super) const WORKER: &str = "Runner.Worker";

/// One process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    /// Its parent's id.
    parent: i32,
    /// Whether it has ended, and waits for its parent to take note: a zombie.
    ended: bool,
    /// Its name: the file name of the program, cut off after 15 bytes (proc(5), `comm`).
    name: String,
}

impl Process {
    /// `<pid> (<comm>) <state> <ppid> …`, where `comm` may itself hold parentheses and spaces.
    fn parse(stat: &str) -> Option<(i32, Process)> {
        let (pid, rest) = stat.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let mut rest = rest.split(' ');
        let ended = matches!(rest.next()?, "Z" | "X");
        let parent = rest.next()?.parse().ok()?;
        Some((pid.parse().ok()?, Process { parent, ended, name: name.to_owned() }))
    }
}

/// All processes that have not ended, by id: a zombie has no children.
fn all() -> BTreeMap<i32, Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit())
        // Not read_to_string: a process may give itself a name that is no UTF-8.
        .filter_map(|entry| fs::read(entry.path().join("stat")).ok())
        .filter_map(|stat| Process::parse(&String::from_utf8_lossy(&stat)))
        .filter(|(_, process)| !process.ended)
        .collect()
}

/// Whether `pid` is below `ancestor`.
fn is_below(processes: &BTreeMap<i32, Process>, pid: i32, ancestor: i32) -> bool {
    // Ids are reused while /proc is read, so there may be a circle: it is not followed for ever.
    let ancestors = std::iter::successors(Some(pid), |pid| processes.get(pid).map(|process| process.parent));
    ancestors.skip(1).take(processes.len()).any(|pid| pid == ancestor)
}

/// The ids of all processes below `ancestor` that have not ended.
pub(super) fn below(ancestor: i32) -> Vec<i32> {
    let processes = all();
    processes.keys().copied().filter(|pid| is_below(&processes, *pid, ancestor)).collect()
}

/// Whether a job is being executed below `ancestor`.
pub(super) fn has_worker(ancestor: i32) -> bool {
    let processes = all();
    processes.iter().any(|(pid, process)| {
        is_below(&processes, *pid, ancestor) && (process.name == WORKER || runs_worker(*pid))
    })
}

/// The name may be changed by the program itself, the first argument less likely so.
fn runs_worker(pid: i32) -> bool {
    let Ok(cmdline) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let program =
        String::from_utf8_lossy(cmdline.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
    Path::new(&program).file_name().is_some_and(|name| name == WORKER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_lines() {
        let process = |parent, name: &str| Process { parent, ended: false, name: name.into() };
        for (line, expected) in [
            ("42 (bash) S 1 42 42 0 -1", Some((42, process(1, "bash")))),
            ("42 (a) R 7 (b) S 1 42", Some((42, process(1, "a) R 7 (b")))),
            (
                "42 (Runner.Worker) Z 12 1 1",
                Some((42, Process { ended: true, ..process(12, "Runner.Worker") })),
            ),
            ("42 (bash", None),
            ("", None),
        ] {
            assert_eq!(Process::parse(line), expected, "{line}");
        }
    }

    #[test]
    fn below_means_through_any_number_of_parents() {
        let parents = [(1, 0), (2, 1), (3, 2), (4, 1), (8, 9), (9, 8)];
        let processes =
            parents.map(|(pid, parent)| (pid, Process { parent, ended: false, name: String::new() })).into();
        let below = |ancestor| -> Vec<i32> {
            parents.iter().map(|(pid, _)| *pid).filter(|pid| is_below(&processes, *pid, ancestor)).collect()
        };
        assert_eq!(below(1), [2, 3, 4]);
        assert_eq!(below(2), [3]);
        assert_eq!(below(3), [0; 0]);
    }
}
