//! The tags of a task: what the rest of the system reads from it, and what costs are told apart by.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{InstallationId, JobId, RunnerId};

/// The job that the task was started for; `pool` for the warm pool.
pub const JOB_ID: &str = "gha:job-id";
/// Which runner for that job.
pub const ATTEMPT: &str = "gha:attempt";
/// GitHub's id of the registration (dispatcher-minted only).
pub const RUNNER_ID: &str = "gha:runner-id";
/// The registration's name.
pub const RUNNER_NAME: &str = "gha:runner-name";
/// The job's labels, joined by spaces, for people: what cannot be in a tag is replaced.
pub const LABELS: &str = "gha:labels";
/// `owner/repository` of that job.
pub const REPOSITORY: &str = "gha:repository";
/// The workflow run of that job.
pub const RUN_ID: &str = "gha:run-id";
/// The App's installation.
pub const INSTALLATION_ID: &str = "gha:installation-id";
/// The job's name, for people.
pub const JOB_NAME: &str = "gha:job-name";
/// The workflow's name, for people.
pub const WORKFLOW: &str = "gha:workflow";
/// The job that the runner really runs: GitHub may give it another one of the same labels.
pub const RAN_JOB: &str = "gha:ran-job";
/// `owner/repository` of that job.
pub const RAN_REPOSITORY: &str = "gha:ran-repository";

/// "Up to 256 Unicode characters" (ECS, `Tag.value`).
const MAX_VALUE: usize = 256;

/// A value that AWS accepts: "letters, numbers, and spaces representable in UTF-8, and + - = . _ : / @"
/// (ECS, `Tag.value`); anything else becomes `_`.
pub fn value(text: &str) -> String {
    let allowed = |c: char| c.is_alphanumeric() || c == ' ' || "+-=._:/@".contains(c);
    text.chars().take(MAX_VALUE).map(|c| if allowed(c) { c } else { '_' }).collect()
}

/// Reads the tags of a task back.
#[derive(Debug, Clone, Copy)]
pub struct TaskTags<'a>(pub &'a BTreeMap<String, String>);

impl<'a> TaskTags<'a> {
    fn text(self, key: &str) -> Option<&'a str> {
        self.0.get(key).map(String::as_str)
    }

    fn number(self, key: &str) -> Option<u64> {
        self.text(key)?.parse().ok()
    }

    /// [`RUNNER_ID`].
    pub fn runner_id(self) -> Option<RunnerId> {
        self.number(RUNNER_ID).map(RunnerId)
    }

    /// [`RUNNER_NAME`].
    pub fn runner_name(self) -> Option<&'a str> {
        self.text(RUNNER_NAME)
    }

    /// [`LABELS`], as far as a tag can hold them.
    pub fn labels(self) -> Vec<String> {
        self.text(LABELS).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    }

    /// Whether [`LABELS`] are these, in whatever order and case.
    pub fn has_labels(self, labels: &[String]) -> bool {
        let set = |text: &str| -> BTreeSet<String> {
            text.to_lowercase().split_whitespace().map(str::to_owned).collect()
        };
        set(self.text(LABELS).unwrap_or_default()) == set(&value(&labels.join(" ")))
    }

    /// [`REPOSITORY`], as owner and name; the name is missing for a pool runner of an organisation.
    pub fn repository(self) -> Option<(&'a str, Option<&'a str>)> {
        let text = self.text(REPOSITORY)?;
        Some(match text.split_once('/') {
            Some((owner, name)) => (owner, Some(name)),
            None => (text, None),
        })
    }

    /// [`RUN_ID`].
    pub fn run_id(self) -> Option<u64> {
        self.number(RUN_ID)
    }

    /// [`INSTALLATION_ID`].
    pub fn installation(self) -> Option<InstallationId> {
        self.number(INSTALLATION_ID).map(InstallationId)
    }

    /// [`RAN_JOB`].
    pub fn ran_job(self) -> Option<JobId> {
        self.number(RAN_JOB).map(JobId)
    }

    /// Whether the runner is known to have run a job.
    pub fn ran_a_job(self) -> bool {
        self.0.contains_key(RAN_JOB)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values() {
        assert_eq!(value("build (ubuntu, 1.2) 🦀"), "build _ubuntu_ 1.2_ _");
        assert_eq!(value("größe x=1/2@3"), "größe x=1/2@3");
    }

    proptest! {
        #[test]
        fn every_value_is_one_that_aws_accepts(text in ".{0,300}") {
            let value = value(&text);
            prop_assert!(value.chars().count() <= 256);
            let ok = |c: char| c.is_alphanumeric() || " +-=._:/@".contains(c);
            prop_assert!(value.chars().all(ok));
        }
    }
}
