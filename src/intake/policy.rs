//! Which jobs this fleet serves.

use time::{Duration, OffsetDateTime};

use crate::{
    ids::RunnerNames,
    intake::{
        classes::{Choice, Classes, RunnerClass},
        glob::RepositoryGlob,
        labels::{self, Architecture, Most, NoRunner, Offered},
        payload::{Action, WorkflowJob},
        skip::{Skip, SkipReason},
    },
    ports::{JobStatus, Target},
};

/// "Each job for self-hosted runners can be queued for a maximum of 24 hours"
/// (<https://docs.github.com/en/actions/reference/limits>).
const LONGEST_QUEUED: Duration = Duration::hours(24);

/// The decision about one `workflow_job` event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Not for us, or nothing to do.
    Skip(Skip),
    /// Ours, but impossible; the reason says what would be possible.
    Reject(String),
    /// A runner is owed, of this size and class.
    Run(Choice),
}

/// What this fleet serves.
#[derive(Debug, Clone)]
pub struct Policy {
    /// `RUNNER_NAME_PREFIX`: which runners are this fleet's.
    pub names: RunnerNames,
    /// `RUNNER_LABELS`.
    pub offered: Offered,
    /// `ORGANIZATION`, if only one owner is served.
    pub organization: Option<String>,
    /// `ALLOWED_REPOSITORIES`.
    pub repositories: Vec<RepositoryGlob>,
    /// `ALLOW_PUBLIC_REPOSITORIES`.
    pub allow_public: bool,
    /// Whether there is a task definition for arm64.
    pub arm64: bool,
    /// `MAX_CPU`, `MAX_MEMORY`, `MAX_DISK`.
    pub most: Most,
}

impl Policy {
    /// What to do about an event: only a queued job of ours, from an owner and repository that are allowed,
    /// gets a runner. `classes` are those of the document, if there is one.
    pub fn judge(&self, event: &WorkflowJob, now: OffsetDateTime, classes: Option<&Classes>) -> Verdict {
        if event.action != Action::Queued {
            return Verdict::Skip(Skip::new(SkipReason::Action, "the action is not \"queued\""));
        }
        // A status that nobody knows yet says nothing: a runner too few would be a lost job.
        if !matches!(event.status, JobStatus::Queued | JobStatus::Unknown) {
            // A job behind a deployment protection rule is announced as queued with status `waiting`;
            // GitHub sends another `queued` once it is approved.
            return Verdict::Skip(Skip::new(
                SkipReason::Status,
                "the job is not queued yet, or not any more",
            ));
        }
        if let Some(skip) = self.excludes(event, classes) {
            return Verdict::Skip(skip);
        }
        // Not by the job's `created_at`: one that was approved after two days is as old, and has just been queued.
        if event.arrived_at.is_some_and(|arrived_at| now - arrived_at > LONGEST_QUEUED) {
            let why = "the message is older than a day: GitHub has cancelled the job, if it still waited";
            return Verdict::Skip(Skip::new(SkipReason::Old, why));
        }
        self.size(&event.job.labels, classes)
    }

    /// What the labels alone decide.
    pub fn size<S: AsRef<str>>(&self, labels: &[S], classes: Option<&Classes>) -> Verdict {
        let choice = match classes {
            Some(classes) => classes.route(labels).and_then(|(class, asked)| {
                let sizing = class.size(asked, self.arm64, &self.most)?;
                Ok(Choice { sizing, class: Some(class) })
            }),
            None => self.size_without_classes(labels),
        };
        match choice {
            Ok(choice) => Verdict::Run(choice),
            Err(NoRunner::Impossible(why)) => Verdict::Reject(why),
            Err(NoRunner::NotOffered(why)) => Verdict::Skip(Skip::new(SkipReason::Labels, why)),
        }
    }

    fn size_without_classes<S: AsRef<str>>(&self, labels: &[S]) -> Result<Choice, NoRunner> {
        let sizing = labels::read(labels, &self.offered)?;
        if sizing.architecture == Some(Architecture::Arm64) && !self.arm64 {
            let why = "arm64 is not offered: TASK_DEFINITION_ARM64 is not set";
            return Err(NoRunner::NotOffered(why.to_owned()));
        }
        match self.most.refuses(&sizing) {
            Some(why) => Err(NoRunner::Impossible(why)),
            None => Ok(Choice { sizing, class: None }),
        }
    }

    /// Why events of this job are none of our business, whatever their action: its owner, its repository or
    /// its labels.
    pub fn excludes(&self, event: &WorkflowJob, classes: Option<&Classes>) -> Option<Skip> {
        if let Some(skip) = self.excludes_target(&event.job.target) {
            return Some(skip);
        }
        let labels = &event.job.labels;
        let not_offered = |why| Some(Skip::new(SkipReason::Labels, why));
        let Some(classes) = classes else {
            return self.excludes_public(event, None).or_else(|| match labels::read(labels, &self.offered) {
                Err(NoRunner::NotOffered(why)) => not_offered(why),
                _ => None,
            });
        };
        match classes.route(labels) {
            Ok((class, _)) => {
                self.excludes_public(event, Some(&class)).or_else(|| excluded_by(&class, &event.job.target))
            }
            Err(NoRunner::NotOffered(why)) => not_offered(why),
            Err(NoRunner::Impossible(_)) => self.excludes_public(event, None),
        }
    }

    fn excludes_public(&self, event: &WorkflowJob, class: Option<&RunnerClass>) -> Option<Skip> {
        let says = class.and_then(|class| class.allow_public);
        if !event.public || says.unwrap_or(self.allow_public) {
            return None;
        }
        Some(match (class, says) {
            (Some(class), Some(_)) => {
                let why = format!("the repository is public, and class {} is not for those", class.name);
                Skip::new(SkipReason::Public, why)
            }
            _ => Skip::new(
                SkipReason::Public,
                "the repository is public, and ALLOW_PUBLIC_REPOSITORIES is not true",
            ),
        })
    }

    /// Whether it matters which of the owner's repositories a job is of. Some of this system's own messages do not
    /// know it.
    pub fn depends_on_repository(&self, owner: &str) -> bool {
        !self.repositories.iter().any(|glob| glob.has_all_of(&owner.to_lowercase()))
    }

    /// Why jobs of this owner or repository are not served.
    pub fn excludes_target(&self, target: &Target) -> Option<Skip> {
        if let Some(organization) = &self.organization
            && !organization.eq_ignore_ascii_case(&target.owner)
        {
            return Some(Skip::new(SkipReason::Owner, format!("the owner is not {organization}")));
        }
        // Without a repository: see `depends_on_repository`.
        let full_name = target.full_name()?.to_lowercase();
        let allowed = self.repositories.iter().any(|glob| glob.has(&full_name));
        (!allowed)
            .then(|| Skip::new(SkipReason::Repository, "the repository is not among ALLOWED_REPOSITORIES"))
    }
}

/// Why a class is not for jobs of this repository.
pub fn excluded_by(class: &RunnerClass, target: &Target) -> Option<Skip> {
    let why = || format!("the repository is not among those of class {}", class.name);
    (!class.admits(target)).then(|| Skip::new(SkipReason::Repository, why()))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::{
        ids::{Attempt, JobId},
        intake::payload::Job,
    };

    const NOW: OffsetDateTime = datetime!(2026-11-24 08:00 UTC);

    fn event() -> WorkflowJob {
        WorkflowJob {
            action: Action::Queued,
            status: JobStatus::Queued,
            job: Job {
                id: JobId(1),
                attempt: Attempt::FIRST,
                run_id: None,
                run_attempt: None,
                name: None,
                workflow: None,
                labels: vec!["self-hosted".into()],
                created_at: None,
                asked_at: None,
                failures: None,
                target: Target { owner: "Acme".into(), repository: Some("App".into()), ..Target::default() },
                sender: None,
                head_sha: None,
                page: None,
            },
            arrived_at: Some(NOW - Duration::hours(23)),
            public: false,
            runner_name: None,
            runner_id: None,
            started_at: None,
        }
    }

    fn policy() -> Policy {
        Policy {
            names: RunnerNames::default(),
            offered: Offered::new(["self-hosted", "linux"]),
            organization: Some("acme".into()),
            repositories: vec![RepositoryGlob::new("acme/a*"), RepositoryGlob::new("acme/tools")],
            allow_public: false,
            arm64: false,
            most: Most::default(),
        }
    }

    #[test]
    fn whether_a_repository_matters() {
        let table: [(&[&str], bool); 7] = [
            (&["*"], false),
            (&["acme/app", "*"], false),
            (&["Acme/*"], false),
            (&["a*/*"], false),
            (&["octo/*"], true),
            (&["*/app"], true),
            (&["acme/a*"], true),
        ];
        for (globs, want) in table {
            let repositories = globs.iter().map(|glob| RepositoryGlob::new(glob)).collect();
            assert_eq!(Policy { repositories, ..policy() }.depends_on_repository("ACME"), want, "{globs:?}");
        }
    }

    #[test]
    fn verdicts() {
        type Change = fn(&mut WorkflowJob, &mut Policy);
        let table: [(&str, Change); 18] = [
            ("run", |_, _| {}),
            ("run", |event, _| event.arrived_at = None),
            // Approved after weeks, and queued just now.
            ("run", |event, _| event.job.created_at = Some(NOW - Duration::days(29))),
            ("old", |event, _| event.arrived_at = Some(NOW - Duration::hours(25))),
            ("run", |event, _| event.status = JobStatus::Unknown),
            ("run", |event, policy| {
                event.public = true;
                policy.allow_public = true;
            }),
            ("run", |event, policy| {
                event.job.labels.push("arm64".into());
                policy.arm64 = true;
            }),
            ("reject", |event, _| event.job.labels.push("cpu=64".into())),
            ("reject", |event, policy| {
                event.job.labels.push("cpu=4".into());
                policy.most.vcpu = 2;
            }),
            ("action", |event, _| event.action = Action::Completed),
            ("action", |event, _| event.action = Action::Other),
            ("status", |event, _| event.status = JobStatus::Waiting),
            ("owner", |event, _| event.job.target.owner = "evil".into()),
            ("repository", |event, _| event.job.target.repository = Some("web".into())),
            ("repository", |_, policy| policy.repositories.clear()),
            ("public", |event, _| event.public = true),
            ("labels", |event, _| event.job.labels.push("gpu".into())),
            ("labels", |event, _| event.job.labels.push("arm64".into())),
        ];
        for (index, (want, change)) in table.into_iter().enumerate() {
            let (mut event, mut policy) = (event(), policy());
            change(&mut event, &mut policy);
            let got = match policy.judge(&event, NOW, None) {
                Verdict::Run(_) => "run",
                Verdict::Reject(_) => "reject",
                Verdict::Skip(skip) => skip.reason.as_str(),
            };
            assert_eq!(got, want, "row {index}");
        }
    }
}
