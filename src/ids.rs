//! Identities: GitHub's numeric ids, and the one name everything else is derived from.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! numeric_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

numeric_id! {
    /// `workflow_job.id`: one job. A re-run of the same job has another id.
    JobId
}
numeric_id! {
    /// `workflow_job.run_id`: the workflow run that the job belongs to.
    RunId
}
numeric_id! {
    /// The id of a runner's registration at GitHub.
    RunnerId
}
numeric_id! {
    /// `repository.id`: stays the same when the repository is renamed or transferred.
    RepositoryId
}
numeric_id! {
    /// The id of a GitHub App's installation in one organisation or account.
    InstallationId
}

/// Which runner for the same job this is: 1 for the first, 2 for its replacement, …
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attempt(pub u32);

impl Attempt {
    /// The first runner started for a job.
    pub const FIRST: Attempt = Attempt(1);

    /// The attempt after this one.
    pub fn next(self) -> Attempt {
        Attempt(self.0.saturating_add(1))
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The slots of the pool from here on are those of probes.
pub(crate) const FIRST_PROBE: u32 = 1_000_000;

/// What a runner was started for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// One queued job.
    Job(JobId, Attempt),
    /// The warm pool: any job with the offered labels. `window` is the scheduled time of the sweep that
    /// asked for it (Unix seconds), `slot` counts within that sweep; together they make the request
    /// repeatable, as job and attempt do for a job's runner.
    Pool {
        /// Unix seconds of the sweep's scheduled time.
        window: u64,
        /// 0, 1, … within the sweep.
        slot: u32,
    },
}

impl Purpose {
    /// The stem of RunTask's `clientToken`: `<job id>-<attempt>` or `pool-<window>-<slot>`.
    pub fn token(&self) -> String {
        match self {
            Purpose::Job(job, attempt) => format!("{job}-{attempt}"),
            Purpose::Pool { window, slot } => format!("pool-{window}-{slot}"),
        }
    }

    /// RunTask's `startedBy`, by which ListTasks finds the tasks again: `gha-<job id>` or `gha-pool`.
    pub fn started_by(&self) -> String {
        match self {
            Purpose::Job(job, _) => started_by(*job),
            Purpose::Pool { .. } => format!("{STARTED_BY_PREFIX}pool"),
        }
    }

    /// Whether the runner is one of those that find out, while all die, whether that is over.
    pub fn is_probe(&self) -> bool {
        matches!(self, Purpose::Pool { slot, .. } if *slot >= FIRST_PROBE)
    }

    /// Whether a warm pool is to have it. A probe has the labels and the size of some job.
    pub fn is_of_a_pool(&self) -> bool {
        self.job().is_none() && !self.is_probe()
    }

    /// The job, unless the runner belongs to the warm pool.
    pub fn job(&self) -> Option<JobId> {
        match self {
            Purpose::Job(job, _) => Some(*job),
            Purpose::Pool { .. } => None,
        }
    }
}

/// The names of this fleet's registrations: `RUNNER_NAME_PREFIX`, a hyphen, and what the runner is for. Any other name is
/// foreign, also one that only begins alike: several fleets may share an organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerNames(pub String);

impl Default for RunnerNames {
    fn default() -> Self {
        RunnerNames("fargate".to_owned())
    }
}

impl RunnerNames {
    /// The name of the registration: `<prefix>-<job id>-<attempt>` or `<prefix>-pool-<window>-<slot>`. GitHub refuses a
    /// second registration under the same name with 409, which is how a duplicate delivery is noticed.
    pub fn of(&self, purpose: &Purpose) -> String {
        format!("{}-{}", self.0, purpose.token())
    }

    /// Reads a runner's name back; `None` when it is not one of this fleet's.
    pub fn read(&self, name: &str) -> Option<Purpose> {
        let (left, right) = name.strip_prefix(self.0.as_str())?.strip_prefix('-')?.rsplit_once('-')?;
        let purpose = match left.strip_prefix("pool-") {
            Some(window) => Purpose::Pool { window: window.parse().ok()?, slot: right.parse().ok()? },
            None => Purpose::Job(JobId(left.parse().ok()?), Attempt(right.parse().ok()?)),
        };
        // `parse` accepts `+7` and `007`: only the very text that `of` writes is ours.
        (self.of(&purpose) == name).then_some(purpose)
    }
}

const STARTED_BY_PREFIX: &str = "gha-";

/// `startedBy` of every task that was started for `job`, whatever the attempt.
pub fn started_by(job: JobId) -> String {
    format!("{STARTED_BY_PREFIX}{job}")
}

/// Whether a task's `startedBy` says that this fleet started it.
pub fn is_ours(started_by: &str) -> bool {
    started_by.starts_with(STARTED_BY_PREFIX)
}

/// A release of the runner, e.g. 2.337.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunnerVersion(pub u32, pub u32, pub u32);

impl RunnerVersion {
    /// Reads `2.337.0`.
    pub fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('.').map(|part| part.parse().ok());
        let version = RunnerVersion(parts.next()??, parts.next()??, parts.next()??);
        parts.next().is_none().then_some(version)
    }

    /// Reads the name of a release's file: `actions-runner-linux-x64-2.337.0.tar.gz`.
    pub fn of_file(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(".tar.gz").or_else(|| name.strip_suffix(".zip"))?;
        RunnerVersion::read(stem.rsplit_once('-')?.1)
    }

    /// Releases from this one to `newest`, as far as the numbers tell: at least one, if they differ.
    pub fn behind(self, newest: Self) -> u32 {
        match newest > self {
            false => 0,
            true if newest.0 == self.0 => (newest.1 - self.1).max(1),
            true => (newest.0 - self.0).max(1),
        }
    }
}

impl fmt::Display for RunnerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// FNV-1a: the same number for the same bytes, in every process and release.
pub(crate) fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_others_are_not_ours() {
        for name in [
            "",
            "fargate",
            "fargate-",
            "fargate-1",
            "fargate-x-1",
            "fargate-1-x",
            "fargate-+1-1",
            "fargate-01-1",
            "fargate-1-01",
            "fargate-pool-1",
            "Fargate-1-1",
            "xfargate-1-1",
            "fargate-1-1-1",
            "fargate-other-1-1",
            "fargate-other-pool-1-1",
        ] {
            assert_eq!(RunnerNames::default().read(name), None, "{name}");
        }
    }

    #[test]
    fn releases() {
        let read = RunnerVersion::read;
        assert_eq!(read("2.337.0"), Some(RunnerVersion(2, 337, 0)));
        for text in ["", "2.337", "2.337.0.1", "v2.337.0", "2.337.x"] {
            assert_eq!(read(text), None, "{text}");
        }
        let file = RunnerVersion::of_file;
        assert_eq!(file("actions-runner-linux-x64-2.337.0.tar.gz"), read("2.337.0"));
        assert_eq!(file("actions-runner-win-arm64-2.337.1.zip"), read("2.337.1"));
        assert_eq!(file("actions-runner-linux-x64.tar.gz"), None);
        let table = [("2.337.0", 0), ("2.336.0", 1), ("2.334.1", 3), ("2.338.0", 0), ("1.400.0", 1)];
        for (version, want) in table {
            let behind = read(version).map(|version| version.behind(RunnerVersion(2, 337, 0)));
            assert_eq!(behind, Some(want), "{version}");
        }
        assert_eq!(RunnerVersion(2, 337, 0).behind(RunnerVersion(2, 337, 1)), 1);
    }

    proptest! {
        #[test]
        fn a_name_reads_back(job: u64, attempt: u32, window: u64, slot: u32) {
            for purpose in [Purpose::Job(JobId(job), Attempt(attempt)), Purpose::Pool { window, slot }] {
                for names in [RunnerNames::default(), RunnerNames("fargate-0123abcd-0123abcd-x".to_owned())] {
                    let name = names.of(&purpose);
                    prop_assert!(name.len() <= 64, "GitHub allows 64 characters: {name}");
                    prop_assert_eq!(names.read(&name), Some(purpose.clone()));
                }
            }
        }
    }
}
