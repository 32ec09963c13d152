//! This system's own message: a runner is owed.

use serde::{Deserialize, Serialize};

use super::{forms::check_name, job::Job};
use crate::{
    ids::{Attempt, InstallationId, JobId, RepositoryId, RunId, RunnerId},
    ports::Target,
};

/// No job gets more runners: GitHub cancels one that has waited for a day, and even where each runner dies or is taken
/// at once, hundreds of them take as long.
const MOST_ATTEMPTS: u32 = 1000;

/// What a [`Replacement`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A runner is owed to the job, or to whoever is at the end of its chain.
    Owed,
    /// The attempt is registered already, and has no task: so the sweep found it.
    HandedBack,
    /// The attempt is started, and is the last: what becomes of it?
    Last,
}

/// A message of this system's own on the job queue: see [`Subject`].
// What a later release adds is passed over: while functions are updated, both are at work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacement {
    /// The job.
    pub job_id: JobId,
    /// Which runner for it this will be.
    pub attempt: Attempt,
    /// The labels of the registration that is replaced.
    pub labels: Vec<String>,
    /// The organisation's (or user's) login.
    pub owner: String,
    /// The repository's name, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The repository's id, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<RepositoryId>,
    /// The run, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// Which of the run's attempts the job is of, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_attempt: Option<u32>,
    /// The App's installation, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installation_id: Option<InstallationId>,
    /// Runners of the job that died of something that it may have had a part in, as far as whoever announces this one knows
    /// better than the tasks tell: of one that ended in order, nobody may have told that another job had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
    /// See [`Subject::HandedBack`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub registered: bool,
    /// Which registration that is. One that has its name since is another delivery's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_id: Option<RunnerId>,
    /// No repository is named, and a runner of the job's was seen: the job was let in then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub let_in: bool,
    /// See [`Subject::Last`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub last: bool,
}

impl Replacement {
    /// That runner, of labels that are not known yet, for a job of which a runner was seen.
    pub fn new(job_id: JobId, attempt: Attempt, place: Target) -> Self {
        Replacement {
            job_id,
            attempt,
            labels: Vec::new(),
            owner: place.owner,
            let_in: place.repository.is_none(),
            repository: place.repository,
            repository_id: place.repository_id,
            run_id: None,
            run_attempt: None,
            installation_id: place.installation,
            failures: None,
            registered: false,
            runner_id: None,
            last: false,
        }
    }

    /// Where the containers mint, nothing is handed back; elsewhere, no last runner is looked at again.
    pub fn about(&self, containers_mint: bool) -> Subject {
        match containers_mint {
            true if self.last => Subject::Last,
            false if self.registered => Subject::HandedBack,
            _ => Subject::Owed,
        }
    }

    /// The message's body.
    pub fn to_body(&self) -> String {
        // A struct of strings and integers always serialises.
        serde_json::json!({ "replacement": self }).to_string()
    }

    /// The job to start a runner for.
    pub fn into_job(self) -> Job {
        let target = self.target();
        Job {
            id: self.job_id,
            attempt: self.attempt,
            run_id: self.run_id,
            run_attempt: self.run_attempt,
            name: None,
            workflow: None,
            labels: self.labels,
            created_at: None,
            asked_at: None,
            failures: self.failures,
            target,
            sender: None,
            head_sha: None,
            page: None,
        }
    }

    /// What is wrong with it, and in which field.
    pub(super) fn check(&self) -> Result<(), String> {
        if !(1..=MOST_ATTEMPTS).contains(&self.attempt.0) {
            return Err(format!("attempt should be 1 to {MOST_ATTEMPTS}"));
        }
        check_name(&self.owner).map_err(|what| format!("owner {what}"))?;
        self.repository.as_deref().map_or(Ok(()), check_name).map_err(|what| format!("repository {what}"))
    }

    /// Where its job and its registration are.
    pub fn target(&self) -> Target {
        Target {
            owner: self.owner.clone(),
            repository: self.repository.clone(),
            repository_id: self.repository_id,
            installation: self.installation_id,
        }
    }
}
