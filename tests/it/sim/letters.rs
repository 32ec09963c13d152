//! Dead letters: a job has one at the most, and none when it runs, or is over, for longer than that takes to be heard.

use super::{
    MINUTE, Ms,
    check::Kind,
    text::moment,
    world::{Ev, MAX_ATTEMPTS, World, tell},
};
use crate::model::github::{JobStatus, Silence};

/// What is heard of may still be on its way between two functions, or back on its queue after a call that failed.
const HEARD: Ms = 5 * MINUTE;

impl World {
    /// A dead letter is written.
    pub(super) fn rejected(&mut self, body: &str, reason: &str, job: u64) {
        tell!(self, job, "job {job} is rejected: {reason}");
        self.stats.rejected += 1;
        let started = self.books.job(job).map_or(0, |it| it.started);
        if reason.is_empty() || started < MAX_ATTEMPTS {
            let text = format!("rejected after {started} runners: {reason:?} {body}");
            self.violation(Kind::Lost, job, text);
        } else if self.all_runners_die() {
            let text = "rejected, while all runners die whatever the job".to_owned();
            self.violation(Kind::Lost, job, text);
        }
        self.check_letter(job);
        if let Some(it) = self.books.job_mut(job) {
            it.rejected = true;
        }
        // Somebody is told, and cancels it.
        self.after(MINUTE, Ev::Cancel(job));
    }

    /// One of GitHub's events that the job runs, or is over, came through.
    pub(super) fn is_told(&mut self, job: u64) {
        let now = self.now;
        if let Some(it) = self.books.job_mut(job) {
            it.told_at.get_or_insert(now);
        }
    }

    /// Whoever has written one may not know it: then another one comes.
    pub(super) fn is_unsure_of_its_letter(&mut self, job: u64) {
        if let Some(it) = self.books.job_mut(job) {
            it.letters = 0;
        }
    }

    fn check_letter(&mut self, job: u64) {
        let known_since = self.known_to_be_over(job);
        let Some(it) = self.books.job_mut(job) else { return };
        it.letters += 1;
        let letters = it.letters;
        if letters > 1 {
            self.violation(Kind::Letter, job, format!("letter {letters} for job {job}"));
        } else if let Some(since) = known_since.filter(|since| *since + HEARD < self.now) {
            let minutes = (self.now - since) / MINUTE;
            let text = format!(
                "a letter for job {job}, of which it is known for {minutes} minutes that it runs, or is over"
            );
            self.violation(Kind::Letter, job, text);
        }
    }

    /// Since when the functions could know that the job runs, or is over.
    fn known_to_be_over(&self, job: u64) -> Option<Ms> {
        let (it, known) = (self.github.job(job)?, self.books.job(job)?);
        if matches!(it.status, JobStatus::Queued | JobStatus::Waiting) {
            return None;
        }
        if self.settings.container_minted {
            return known.told_at;
        }
        // GitHub is asked, and what it shows lags behind.
        let since = moment(it.started_at.or(it.completed_at)?) + self.settings.rates.lag;
        Some(since).filter(|_| it.silence != Some(Silence::Moved))
    }
}
