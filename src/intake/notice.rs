//! What dispatch and reconcile tell the function that looks after a job's author.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{
    fargate::stop::Stop,
    ids::{InstallationId, JobId, RepositoryId},
    intake::payload::{self, Unreadable, check_name},
    ports::Target,
    protocol::rerun::{Interruption, Interruptions},
};

/// How long before its end a container of Fargate Spot got its SIGTERM, where ECS does not say: "a two-minute warning".
const WARNING: time::Duration = time::Duration::minutes(2);

/// A runner was taken back by Fargate Spot, and a job ran on it.
// What a later release adds is passed over: while functions are updated, both are at work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interrupted {
    /// The job.
    pub job_id: JobId,
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
            owner: place.owner,
            repository: place.repository?,
            repository_id: place.repository_id,
            installation_id: place.installation,
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

    /// Where the job lives.
    pub fn target(&self) -> Target {
        Target {
            owner: self.owner.clone(),
            repository: Some(self.repository.clone()),
            repository_id: self.repository_id,
            installation: self.installation_id,
        }
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

/// A message of the author's queue, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A runner was taken back.
    Interrupted(Interrupted),
}

/// Reads a message body.
pub fn read(body: &str) -> Result<Notice, Unreadable> {
    #[derive(Deserialize)]
    struct Shape {
        interrupted: Interrupted,
    }
    let Shape { interrupted } = payload::read_json(body, "")?;
    let names = [("owner", &interrupted.owner), ("repository", &interrupted.repository)];
    for (field, name) in names {
        check_name(name).map_err(|what| Unreadable(format!("interrupted.{field} {what}")))?;
    }
    if !interrupted.known().contains_key(&interrupted.job_id) {
        return Err(Unreadable("interrupted.taken_back has not the job itself".to_owned()));
    }
    Ok(Notice::Interrupted(interrupted))
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
            ("\"acme\"", "\"../x\"", "interrupted.owner"),
            ("\"app\"", "\"\"", "interrupted.repository"),
            ("\"taken_back\":[{", "\"taken_back\":[],\"x\":[{", "has not the job itself"),
            ("interrupted", "replacement", "interrupted"),
            ("\"owner\"", "\"other\"", "owner"),
        ] {
            let said = read(&body.replacen(from, to, 1)).expect_err(from).to_string();
            assert!(said.contains(wrong), "{from}: {said}");
        }
    }
}
