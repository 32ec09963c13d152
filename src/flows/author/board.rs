//! What the author of a job reads about it, on a check of its commit: looked up, written anew or left alone.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, VecDeque},
};

use time::{Duration, OffsetDateTime};
use tokio::sync::Mutex;

use super::{Author, page};
use crate::{
    error::{CallError, Class},
    ids::JobId,
    intake::{
        notice::{About, What, Word},
        skip::SkipReason,
    },
    lambda::{
        metric::Metric,
        outcome::{Done, Outcome, Reason, Wait},
    },
    ports::{Checks, Clock, FindTasks, JobStatus, Page, Queue, RunJob, Runs, Target, Written},
    protocol::rerun::matrix,
};

/// Writes that a process may make in a minute. Two are at work at most (`MaximumConcurrency`), so twenty in all.
const MOST_WRITES: usize = 10;
/// Jobs that wait, and are looked at in a minute: each costs two requests or more, out of those that start runners. Hundreds
/// may wait, and each says so again and again.
const MOST_LOOKS: usize = 5;
/// What was told of a job is not told again for so long.
const FRESH: Duration = Duration::minutes(10);
/// Checks that are remembered.
const MOST_KNOWN: usize = 1000;

/// What this process has written.
#[derive(Debug, Default)]
pub struct Board {
    /// One look and write at a time: two jobs of a matrix share a check.
    turn: Mutex<()>,
    told: RefCell<BTreeMap<CheckKey, Posted>>,
    writes: RefCell<VecDeque<OffsetDateTime>>,
    looks: RefCell<VecDeque<OffsetDateTime>>,
}

/// Repository, commit, and the check's name.
type CheckKey = (String, String, String);

#[derive(Debug)]
struct Posted {
    what: What,
    why: String,
    jobs: BTreeSet<JobId>,
    at: OffsetDateTime,
}

/// What became of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Put {
    /// It was written.
    Told,
    /// It stands there already, or there is nothing that it could correct.
    Stands,
    /// More than may be written in a minute.
    Dropped,
    /// GitHub does not let us.
    Refused(&'static str),
}

/// Where a check stands.
pub(super) struct CheckPlace<'a> {
    pub(super) target: &'a Target,
    pub(super) sha: &'a str,
    pub(super) name: String,
}

impl CheckPlace<'_> {
    fn key(&self) -> CheckKey {
        (self.target.name().to_lowercase(), self.sha.to_owned(), self.name.clone())
    }
}

impl Board {
    fn has_told(&self, place: &CheckPlace<'_>, word: &Word, now: OffsetDateTime) -> bool {
        self.told.borrow().get(&place.key()).is_some_and(|told| {
            let is_same = told.what == word.what && told.why == word.why;
            is_same && told.jobs.contains(&word.job_id) && now - told.at < FRESH
        })
    }

    fn note(&self, place: &CheckPlace<'_>, word: &Word, jobs: BTreeSet<JobId>, now: OffsetDateTime) {
        let mut all = self.told.borrow_mut();
        all.insert(place.key(), Posted { what: word.what, why: word.why.clone(), jobs, at: now });
        if all.len() > MOST_KNOWN {
            all.retain(|_, told| now - told.at < FRESH);
        }
    }

    fn may_write(&self, now: OffsetDateTime) -> bool {
        is_one_of(MOST_WRITES, &mut self.writes.borrow_mut(), now)
    }

    fn may_look(&self, word: &Word, now: OffsetDateTime) -> bool {
        word.what != What::Waiting || is_one_of(MOST_LOOKS, &mut self.looks.borrow_mut(), now)
    }
}

fn dropped(why: &str) -> Outcome {
    Done::new(Metric::AuthorDropped, why).into()
}

/// Whether this is one of so many in a minute: then it is noted.
fn is_one_of(most: usize, before: &mut VecDeque<OffsetDateTime>, now: OffsetDateTime) -> bool {
    while before.front().is_some_and(|at| now - *at >= Duration::minutes(1)) {
        before.pop_front();
    }
    let is_one = before.len() < most;
    if is_one {
        before.push_back(now);
    }
    is_one
}

impl<G: Runs + Checks, E: FindTasks, Q: Queue, C: Clock> Author<G, E, Q, C> {
    /// A word about a job, for the check of all jobs that are in the same case.
    pub(super) async fn word(&self, word: &Word) -> Result<Outcome, CallError> {
        let _turn = self.board.turn.lock().await;
        let target = word.place.target();
        let Some(about) = self.about(word, &target).await? else {
            return Ok(Outcome::skipped(SkipReason::Word, "GitHub does not say which job it is about"));
        };
        let About { run_id, run_attempt, name, labels, head_sha } = &about;
        let place = CheckPlace { target: &target, sha: head_sha, name: page::name(name, labels) };
        let now = self.clock.now();
        if self.board.has_told(&place, word, now) {
            return Ok(Done::nothing("told already").into());
        }
        if !self.board.may_look(word, now) {
            return Ok(dropped("more wait than a process may look at in a minute"));
        }
        let group = match self.github.jobs_of(&target, *run_id, *run_attempt).await? {
            Some(jobs) => of_a_kind(word.job_id, &about, jobs),
            // It is not to be seen: then it is about that job alone.
            None if word.what == What::Started => Vec::new(),
            None => vec![(word.job_id, name.clone())],
        };
        let waits = group.iter().any(|(job, _)| *job == word.job_id);
        let others_wait = group.iter().any(|(job, _)| *job != word.job_id);
        match word.what {
            What::Started if others_wait => return Ok(later("others of its kind still wait")),
            What::Started => {}
            _ if !waits => {
                return Ok(Outcome::skipped(SkipReason::Word, "the job does not wait any more"));
            }
            _ => {}
        }
        let names: Vec<String> = match word.what {
            What::Started => Vec::new(),
            _ => group.iter().map(|(_, name)| name.clone()).collect(),
        };
        let page = page::of(word.what, &word.why, labels, &names, word.page.clone());
        let put = self.put(&place, &page, word.what == What::Started).await?;
        if put != Put::Dropped {
            self.board.note(&place, word, group.into_iter().map(|(job, _)| job).collect(), now);
        }
        Ok(match put {
            Put::Told => Done::new(Metric::Told, page.title).into(),
            Put::Stands => Done::nothing("it stands there already, or nothing does").into(),
            Put::Dropped => dropped("more than a process may write in a minute"),
            Put::Refused(why) => Outcome::skipped(SkipReason::Word, why),
        })
    }

    /// The job, which GitHub is asked for where the message does not say.
    async fn about(&self, word: &Word, target: &Target) -> Result<Option<About>, CallError> {
        if word.about.is_some() {
            return Ok(word.about.clone());
        }
        let job = self.github.run_job(target, word.job_id).await?;
        Ok(job.and_then(|job| {
            let (run_id, run_attempt, head_sha) = (job.run, job.attempt, job.head_sha?);
            Some(About { run_id, run_attempt, name: job.name, labels: job.labels, head_sha })
        }))
    }

    /// The author of a job that was interrupted. Whatever comes of it, the job's own message is done.
    pub(super) async fn tell_of_interrupted(&self, target: &Target, job: &RunJob, why: &str) {
        let Some(sha) = job.head_sha.as_deref().filter(|_| self.check_runs) else { return };
        let _turn = self.board.turn.lock().await;
        let place = CheckPlace { target, sha, name: page::name(&job.name, &job.labels) };
        let names = [job.name.clone()];
        let page = page::of(What::Interrupted, why, &job.labels, &names, None);
        if let Err(error) = self.put(&place, &page, false).await {
            tracing::warn!(%error, "an author is not told of an interruption");
        }
    }

    /// Writes the page, unless it stands there. `only_there`: a check is not made for it.
    async fn put(&self, place: &CheckPlace<'_>, page: &Page, only_there: bool) -> Result<Put, CallError> {
        match self.write(place, page, only_there).await {
            // Nobody is called for it, and no message waits: it is a courtesy.
            Err(error) if error.class == Class::NeedsOperator || error.class == Class::Invalid => {
                self.say(&format!("authors are not told: {}", error.message));
                Ok(Put::Refused("GitHub does not take it"))
            }
            put => put,
        }
    }

    async fn write(&self, place: &CheckPlace<'_>, page: &Page, only_there: bool) -> Result<Put, CallError> {
        let CheckPlace { target, sha, name } = place;
        let is_app = !self.github.own_logins().await?.is_empty();
        let known = if is_app { self.github.find_check(target, sha, name).await? } else { None };
        let stands = known.as_ref().is_some_and(|known| {
            known.state == Some(page.state) && known.title == page.title && known.summary == page.summary
        });
        if stands || (is_app && known.is_none() && only_there) {
            return Ok(Put::Stands);
        }
        if !self.board.may_write(self.clock.now()) {
            return Ok(Put::Dropped);
        }
        let written = match is_app {
            true => self.github.write_check(target, sha, name, known.map(|known| known.id), page).await?,
            false => self.github.write_status(target, sha, name, page).await?,
        };
        Ok(match written {
            Written::Well => Put::Told,
            Written::Denied if is_app => {
                self.say("authors are not told: the App needs \"Checks: read and write\"");
                Put::Refused("the App may not write checks")
            }
            Written::Denied => {
                self.say("authors are not told: the token needs \"Commit statuses: read and write\"");
                Put::Refused("the token may not write commit statuses")
            }
        })
    }
}

/// The jobs of the same matrix, and with the same labels, that wait for a runner.
fn of_a_kind(own: JobId, about: &About, jobs: Vec<RunJob>) -> Vec<(JobId, String)> {
    let is_of_a_kind = |job: &RunJob| {
        job.id == own
            || (matrix(&job.name).is_some()
                && matrix(&job.name) == matrix(&about.name)
                && job.labels == about.labels)
    };
    let waits = |job: &RunJob| job.status == JobStatus::Queued && is_of_a_kind(job);
    jobs.into_iter().filter(waits).map(|job| (job.id, job.name)).collect()
}

fn later(detail: &str) -> Outcome {
    Outcome::deferred(Reason::TooEarly, Wait::Backoff, detail)
}
