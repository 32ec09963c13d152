//! The tags of a task: what the rest of the system reads from it, and what costs are told apart by.

use std::collections::{BTreeMap, BTreeSet};

use icu_properties::{
    CodePointMapData,
    props::{GeneralCategory, GeneralCategoryGroup},
};

use crate::ids::{InstallationId, JobId, Purpose, RepositoryId, RunnerId, RunnerNames};

/// The job that the task was started for; `pool` for the warm pool.
pub const JOB_ID: &str = "gha:job-id";
/// Which runner for that job.
pub const ATTEMPT: &str = "gha:attempt";
/// How many runners were started for that job before, and died of something that it may have had a part in.
pub const FAILURES: &str = "gha:failures";
/// GitHub's id of the registration (dispatcher-minted only).
pub const RUNNER_ID: &str = "gha:runner-id";
/// The registration's name.
pub const RUNNER_NAME: &str = "gha:runner-name";
/// The job's labels, joined by spaces, for people: what cannot be in a tag is replaced.
pub const LABELS: &str = "gha:labels";
/// `owner/repository` of that job.
pub const REPOSITORY: &str = "gha:repository";
/// That repository's id.
pub const REPOSITORY_ID: &str = "gha:repository-id";
/// The workflow run of that job.
pub const RUN_ID: &str = "gha:run-id";
/// Which of that run's attempts the job is of.
pub const RUN_ATTEMPT: &str = "gha:run-attempt";
/// The App's installation.
pub const INSTALLATION_ID: &str = "gha:installation-id";
/// The job's name, for people.
pub const JOB_NAME: &str = "gha:job-name";
/// The workflow's name, for people.
pub const WORKFLOW: &str = "gha:workflow";
/// The runner's class, where a document of classes is set.
pub const CLASS: &str = "gha:class";
/// The version of the document that the class was in.
pub const CLASSES_VERSION: &str = "gha:classes-version";
/// Seconds after which the runner goes when it is idle, where its class says so.
pub const IDLE_TIMEOUT: &str = "gha:idle-timeout";
/// The job that the runner really runs: GitHub may give it another one of the same labels.
pub const RAN_JOB: &str = "gha:ran-job";
/// `owner/repository` of that job.
pub const RAN_REPOSITORY: &str = "gha:ran-repository";
/// That repository's id.
pub const RAN_REPOSITORY_ID: &str = "gha:ran-repository-id";

/// Seconds since 1970 at which the runner was seen idle, although it was given a job, or its repository gone.
pub const IDLE_SINCE: &str = "gha:idle-since";

/// The job that the task was started for is over, or has another's runner (container-minted only, where GitHub cannot be
/// asked): the name of the runner that it had, or else `true`.
pub const JOB_SERVED: &str = "gha:job-served";

/// The runner runs a job, and nobody told of which. A tag of its own: whoever is told meanwhile writes [`RAN_JOB`].
pub const RAN_UNTOLD: &str = "gha:ran-untold";

/// `Tag.value` of ECS's API model: 256 characters at most.
const MAX_VALUE: usize = 256;

/// A value that ECS accepts. `Tag.value` of its API model: `^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$`, and "do not use `aws:`,
/// `AWS:`, or any upper or lowercase combination of such as a prefix". Anything else becomes `_`.
pub fn value(text: &str) -> String {
    let is_reserved = text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:"));
    let first = is_reserved.then_some('_');
    let rest = text.chars().skip(usize::from(is_reserved)).map(|c| if is_allowed(c) { c } else { '_' });
    first.into_iter().chain(rest).take(MAX_VALUE).collect()
}

/// Labels in one value, a space between two; one inside a label is a no-break space, which a tag may hold too.
pub fn joined(labels: &[String]) -> String {
    labels.iter().map(|label| label.replace(' ', NO_BREAK)).collect::<Vec<_>>().join(" ")
}

/// Letters, numbers and separators by Unicode's categories, and some signs. (`char::is_alphanumeric` goes by other
/// properties: it takes marks and symbols too.) Only of Unicode's first plane: nearly all that is new in Unicode lies
/// outside, where ECS may not know it yet, and may count each character as two.
fn is_allowed(c: char) -> bool {
    let allowed = GeneralCategoryGroup::Letter
        .union(GeneralCategoryGroup::Number)
        .union(GeneralCategoryGroup::Separator);
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    "_.:/=+-@".contains(c) || (c.len_utf16() == 1 && allowed.contains(category))
}

const NO_BREAK: &str = "\u{a0}";

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

    /// [`FAILURES`]. A release before did not say: there each attempt was one.
    pub fn failures(self) -> u32 {
        self.known_failures().unwrap_or_default()
    }

    /// The same; `None` of a task that has no tags any more.
    pub fn known_failures(self) -> Option<u32> {
        let said = self.number(FAILURES);
        let count = said.or_else(|| self.number(ATTEMPT).map(|attempt| attempt.saturating_sub(1)));
        count.and_then(|count| u32::try_from(count).ok())
    }

    /// [`RUNNER_NAME`].
    pub fn runner_name(self) -> Option<&'a str> {
        self.text(RUNNER_NAME)
    }

    /// What the task was started for, by its runner's name.
    pub fn purpose(self, names: &RunnerNames) -> Option<Purpose> {
        names.read(self.runner_name()?)
    }

    /// The job that it was started for, by its runner's name.
    pub fn owner(self, names: &RunnerNames) -> Option<JobId> {
        self.purpose(names)?.job()
    }

    /// Whether another fleet in the same cluster started it. Without tags it may be anybody's.
    pub fn is_foreign(self, names: &RunnerNames) -> bool {
        self.runner_name().is_some_and(|name| names.read(name).is_none())
    }

    /// [`LABELS`], as far as a tag can hold them.
    pub fn labels(self) -> Vec<String> {
        let labels = self.text(LABELS).unwrap_or_default().split(' ').filter(|label| !label.is_empty());
        labels.map(|label| label.replace(NO_BREAK, " ")).collect()
    }

    /// The same, if they are surely all of them, as they were.
    pub fn all_labels(self) -> Option<Vec<String>> {
        let is_whole = |text: &str| text.chars().count() < MAX_VALUE && !text.contains('_');
        self.text(LABELS).filter(|text| is_whole(text)).map(|_| self.labels())
    }

    /// Whether [`LABELS`] are these, in whatever order and case.
    pub fn has_labels(self, labels: &[String]) -> bool {
        let set =
            |text: &str| -> BTreeSet<String> { text.to_lowercase().split(' ').map(str::to_owned).collect() };
        set(self.text(LABELS).unwrap_or_default()) == set(&value(&joined(labels)))
    }

    /// [`REPOSITORY`] as it is: `owner` alone for a pool runner of an organisation.
    pub fn place_name(self) -> Option<&'a str> {
        self.text(REPOSITORY)
    }

    /// [`REPOSITORY`], where it is more than the owner.
    pub fn full_name(self) -> Option<&'a str> {
        self.place_name().filter(|name| name.contains('/'))
    }

    /// [`REPOSITORY`], as owner and name; the name is missing for a pool runner of an organisation.
    pub fn repository(self) -> Option<(&'a str, Option<&'a str>)> {
        let text = self.place_name()?;
        Some(match text.split_once('/') {
            Some((owner, name)) => (owner, Some(name)),
            None => (text, None),
        })
    }

    /// [`REPOSITORY_ID`].
    pub fn repository_id(self) -> Option<RepositoryId> {
        self.number(REPOSITORY_ID).map(RepositoryId)
    }

    /// [`RUN_ATTEMPT`].
    pub fn run_attempt(self) -> Option<u32> {
        self.text(RUN_ATTEMPT)?.parse().ok()
    }

    /// [`RUN_ID`].
    pub fn run_id(self) -> Option<u64> {
        self.number(RUN_ID)
    }

    /// [`INSTALLATION_ID`].
    pub fn installation(self) -> Option<InstallationId> {
        self.number(INSTALLATION_ID).map(InstallationId)
    }

    /// [`CLASS`].
    pub fn class(self) -> Option<&'a str> {
        self.text(CLASS)
    }

    /// [`IDLE_TIMEOUT`].
    pub fn idle_timeout(self) -> Option<time::Duration> {
        let seconds = self.number(IDLE_TIMEOUT)?.try_into().ok()?;
        Some(time::Duration::seconds(seconds))
    }

    /// [`RAN_JOB`].
    pub fn ran_job(self) -> Option<JobId> {
        self.number(RAN_JOB).map(JobId)
    }

    /// [`RAN_REPOSITORY`].
    pub fn ran_full_name(self) -> Option<&'a str> {
        self.text(RAN_REPOSITORY).filter(|name| name.contains('/'))
    }

    /// [`RAN_REPOSITORY`], as owner and name.
    pub fn ran_repository(self) -> Option<(&'a str, &'a str)> {
        self.ran_full_name()?.split_once('/')
    }

    /// [`RAN_REPOSITORY_ID`].
    pub fn ran_repository_id(self) -> Option<RepositoryId> {
        self.number(RAN_REPOSITORY_ID).map(RepositoryId)
    }

    /// [`IDLE_SINCE`].
    pub fn idle_since(self) -> Option<time::OffsetDateTime> {
        let seconds = i64::try_from(self.number(IDLE_SINCE)?).ok()?;
        time::OffsetDateTime::from_unix_timestamp(seconds).ok()
    }

    /// [`JOB_SERVED`].
    pub fn job_is_served(self) -> bool {
        self.0.contains_key(JOB_SERVED)
    }

    /// The runner that the job had, by [`JOB_SERVED`].
    pub fn served_by(self, names: &RunnerNames) -> Option<Purpose> {
        names.read(self.text(JOB_SERVED)?)
    }

    /// Whether the runner is known to have run a job.
    pub fn ran_a_job(self) -> bool {
        self.0.contains_key(RAN_JOB) || self.0.contains_key(RAN_UNTOLD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use regex_syntax::hir::{Class, ClassUnicode, HirKind};

    #[test]
    fn values() {
        assert_eq!(value("build (ubuntu, 1.2) 🦀"), "build _ubuntu_ 1.2_ _");
        assert_eq!(value("größe x=1/2@3"), "größe x=1/2@3");
    }

    #[test]
    fn no_value_begins_as_aws_s_own() {
        for (text, want) in
            [("aws:x", "_ws:x"), ("AWS:", "_WS:"), ("aWs:ä", "_Ws:ä"), ("aws", "aws"), ("äws:", "äws:")]
        {
            assert_eq!(value(text), want);
        }
    }

    /// A class of characters, as somebody else reads it.
    fn class(pattern: &str) -> ClassUnicode {
        let parsed = regex_syntax::parse(pattern).expect("a pattern");
        let HirKind::Class(Class::Unicode(class)) = parsed.into_kind() else { panic!("no class") };
        class
    }

    const PATTERN: &str = r"[\p{L}\p{Z}\p{N}_.:/=+\-@]";

    fn matches(class: &ClassUnicode, c: char) -> bool {
        class.iter().any(|range| (range.start()..=range.end()).contains(&c))
    }

    #[test]
    fn what_stays_is_what_ecs_s_pattern_takes() {
        // The two know different versions of Unicode.
        let (taken, unassigned) = (class(PATTERN), class(r"\p{Cn}"));
        let differ = |c: &char| is_allowed(*c) != matches(&taken, *c) && !matches(&unassigned, *c);
        let wrong: Vec<char> = ('\0'..='\u{ffff}').filter(differ).collect();
        assert_eq!(wrong, [' '; 0]);
    }

    proptest! {
        #[test]
        fn every_value_is_one_that_ecs_accepts(text in "((?i)aws:)?.{0,300}|[\\p{M}\\p{S}\\p{L}😀]{0,300}") {
            let value = value(&text);
            let (taken, unassigned) = (class(PATTERN), class(r"\p{Cn}"));
            prop_assert!(value.chars().count() <= 256);
            prop_assert!(!value.to_lowercase().starts_with("aws:"));
            let fits = |c| matches(&taken, c) || matches(&unassigned, c);
            prop_assert!(value.chars().all(fits), "{value:?}");
        }
    }
}
