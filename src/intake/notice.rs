//! What dispatch and reconcile tell the function that looks after a job's author.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{
    fargate::stop::Stop,
    ids::{InstallationId, JobId, RepositoryId, RunId},
    intake::payload::{self, Job, Unreadable, check_name, is_page, is_sha},
    ports::Target,
    protocol::rerun::{Interruption, Interruptions},
};

/// How long before its end a container of Fargate Spot got its SIGTERM, where ECS does not say: "a two-minute warning".
const WARNING: time::Duration = time::Duration::minutes(2);

/// Where a job lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobPlace {
    /// The organisation's (or user's) login.
    pub owner: String,
    /// The repository's name.
    pub repository: String,
    /// The repository's id, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<RepositoryId>,
    /// The App's installation, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installation_id: Option<InstallationId>,
}

impl JobPlace {
    /// `None` where it is not known of which repository it is.
    fn of(target: Target) -> Option<Self> {
        Some(JobPlace {
            owner: target.owner,
            repository: target.repository?,
            repository_id: target.repository_id,
            installation_id: target.installation,
        })
    }

    /// The same for a port.
    pub fn target(&self) -> Target {
        Target {
            owner: self.owner.clone(),
            repository: Some(self.repository.clone()),
            repository_id: self.repository_id,
            installation: self.installation_id,
        }
    }

    fn check(&self) -> Result<(), Unreadable> {
        check_name(&self.owner).map_err(|what| Unreadable(format!("owner {what}")))?;
        check_name(&self.repository).map_err(|what| Unreadable(format!("repository {what}")))
    }
}

/// A runner was taken back by Fargate Spot, and a job ran on it.
// What a later release adds is passed over: while functions are updated, both are at work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interrupted {
    /// The job.
    pub job_id: JobId,
    /// Where the job lives.
    #[serde(flatten)]
    pub place: JobPlace,
    /// This job's interruption, and those of jobs of the same attempt that have been seen since: ECS forgets a task an
    /// hour after its end, and a run may go on for days.
    pub taken_back: Vec<TakenBack>,
}

/// When a job's runner was taken back, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenBack {
    /// The job.
    pub job_id: JobId,
    /// Its container got its SIGTERM.
    pub from: i64,
    /// Its task had stopped.
    pub to: i64,
}

impl Interrupted {
    /// That job's; `None` where it is not known of which repository it is.
    pub fn new(job: JobId, place: Target, stop: &Stop, now: OffsetDateTime) -> Option<Self> {
        let of = |it: Interruption| TakenBack {
            job_id: job,
            from: it.from.unix_timestamp(),
            to: it.to.unix_timestamp(),
        };
        Some(Interrupted {
            job_id: job,
            place: JobPlace::of(place)?,
            taken_back: vec![of(interruption(stop, now))],
        })
    }

    /// The same with all that is known by now.
    pub fn with(&self, known: &Interruptions) -> Self {
        let of = |(job, it): (&JobId, &Interruption)| TakenBack {
            job_id: *job,
            from: it.from.unix_timestamp(),
            to: it.to.unix_timestamp(),
        };
        Interrupted { taken_back: known.iter().map(of).collect(), ..self.clone() }
    }

    /// The message's body.
    pub fn to_body(&self) -> String {
        // A struct of strings and integers always serialises.
        serde_json::json!({ "interrupted": self }).to_string()
    }

    /// The interruptions that are known.
    pub fn known(&self) -> Interruptions {
        let time = |seconds| OffsetDateTime::from_unix_timestamp(seconds).ok();
        let of = |it: &TakenBack| Some((it.job_id, Interruption { from: time(it.from)?, to: time(it.to)? }));
        self.taken_back.iter().filter_map(of).collect()
    }
}

/// When a task was taken back, by what ECS says of its end.
pub fn interruption(stop: &Stop, now: OffsetDateTime) -> Interruption {
    let to = stop.stopped_at.unwrap_or(now);
    Interruption { from: stop.stopping_at.unwrap_or(to - WARNING), to }
}

/// What a job's author is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// It can get no runner.
    Rejected,
    /// One runner after the other was started for it, and each died.
    GivenUp,
    /// Its labels read like a slip of the pen.
    Slip,
    /// It waits for longer than it should.
    Waiting,
    /// It waited, and its runner is on its way.
    Started,
    /// Its runner was taken back by Fargate Spot.
    Interrupted,
}

/// A word about a job. What is not said of the job, as in this system's own messages, GitHub is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// What is told.
    pub what: What,
    /// Why. Text from the payload may be in it.
    pub why: String,
    /// The job.
    pub job_id: JobId,
    /// The job, as far as its payload said.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub about: Option<About>,
    /// Its page at GitHub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<String>,
    /// Where the job lives.
    #[serde(flatten)]
    pub place: JobPlace,
}

/// What is to be known of a job that somebody is told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Its run.
    pub run_id: RunId,
    /// Of which attempt at that it is.
    pub run_attempt: u32,
    /// Its name. Any characters.
    pub name: String,
    /// `runs-on`. Any characters.
    pub labels: Vec<String>,
    /// The commit.
    pub head_sha: String,
}

impl About {
    fn of(job: &Job) -> Option<Self> {
        Some(About {
            run_id: job.run_id?,
            run_attempt: job.run_attempt?,
            name: job.name.clone()?,
            labels: job.labels.clone(),
            head_sha: job.head_sha.clone()?,
        })
    }
}

impl Word {
    /// A word about that job; `None` where it is not known of which repository it is.
    pub fn new(what: What, why: impl Into<String>, job: &Job) -> Option<Self> {
        Some(Word {
            what,
            why: why.into(),
            job_id: job.id,
            about: About::of(job),
            page: job.page.clone(),
            place: JobPlace::of(job.target.clone())?,
        })
    }

    /// The message's body.
    pub fn to_body(&self) -> String {
        serde_json::json!({ "word": self }).to_string()
    }
}

/// A message of the author's queue, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A runner was taken back.
    Interrupted(Interrupted),
    /// The author of a job is told something.
    Word(Box<Word>),
}

/// Reads a message body.
pub fn read(body: &str) -> Result<Notice, Unreadable> {
    #[derive(Deserialize)]
    struct Shape {
        interrupted: Option<Interrupted>,
        word: Option<Box<Word>>,
    }
    match payload::read_json(body, "")? {
        Shape { interrupted: Some(interrupted), .. } => {
            interrupted.place.check()?;
            match interrupted.known().contains_key(&interrupted.job_id) {
                true => Ok(Notice::Interrupted(interrupted)),
                false => Err(Unreadable("interrupted.taken_back has not the job itself".to_owned())),
            }
        }
        Shape { word: Some(word), .. } => {
            word.place.check()?;
            let has_sha = word.about.as_ref().is_none_or(|about| is_sha(&about.head_sha));
            let is_fit = has_sha && word.page.as_deref().is_none_or(is_page);
            if is_fit {
                Ok(Notice::Word(word))
            } else {
                Err(Unreadable("word.head_sha or word.page".to_owned()))
            }
        }
        Shape { interrupted: None, word: None } => {
            Err(Unreadable("neither interrupted nor word is in it".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOON: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);

    fn notice(stop: &Stop) -> Interrupted {
        let place = Target { owner: "acme".into(), repository: Some("app".into()), ..Target::default() };
        Interrupted::new(JobId(7), place, stop, NOON).expect("a notice")
    }

    #[test]
    fn what_is_told_reads_back() {
        let stop = Stop {
            stopping_at: Some(NOON - time::Duration::seconds(50)),
            stopped_at: Some(NOON - time::Duration::seconds(20)),
            ..Stop::default()
        };
        let told = notice(&stop);
        assert_eq!(read(&told.to_body()), Ok(Notice::Interrupted(told.clone())));
        assert_eq!(told.known()[&JobId(7)], interruption(&stop, NOON));
        let more = [(JobId(7), interruption(&stop, NOON)), (JobId(9), interruption(&stop, NOON))].into();
        assert_eq!(told.with(&more).known(), more);
    }

    #[test]
    fn where_ecs_does_not_say_when_it_was_taken_back_it_had_two_minutes() {
        let it = interruption(&Stop::default(), NOON);
        assert_eq!((it.from, it.to), (NOON - WARNING, NOON));
    }

    #[test]
    fn what_is_no_notice_is_told_apart() {
        let body = notice(&Stop::default()).to_body();
        for (from, to, wrong) in [
            ("\"acme\"", "\"../x\"", "owner has other"),
            ("\"app\"", "\"\"", "repository is empty"),
            ("\"taken_back\":[{", "\"taken_back\":[],\"x\":[{", "has not the job itself"),
            ("interrupted", "replacement", "neither"),
            ("\"owner\"", "\"other\"", "owner"),
        ] {
            let said = read(&body.replacen(from, to, 1)).expect_err(from).to_string();
            assert!(said.contains(wrong), "{from}: {said}");
        }
    }
}
