//! Container-minted: what the tags of all tasks tell, read once for all that ask within a few minutes. Jobs that have a runner
//! or are over never wait again, so what is a little old only lets one runner too many start.

use std::sync::Arc;

use time::{Duration, OffsetDateTime};

use crate::{
    error::CallError,
    fargate::tags::TaskTags,
    flows::{cause::replacement, chain::Debt, memory::Memory},
    ids::{JobId, Purpose, RunnerNames},
    intake::payload::{Job, Replacement},
    ports::{FindTasks, Task},
    protocol::{debt::Owed, timing, told::Told},
};

/// What was read so long ago is what the tags tell now.
const NOW: Duration = Duration::SECOND;

/// Reads the tags of all tasks, once for all who ask.
#[derive(Debug)]
pub(crate) struct Hearsay<'a, E> {
    pub(crate) ecs: &'a E,
    pub(crate) memory: &'a Memory,
    pub(crate) names: &'a RunnerNames,
    pub(crate) now: OffsetDateTime,
}

impl<E: FindTasks> Hearsay<'_, E> {
    /// What they tell, or told a moment ago.
    pub(crate) async fn told(&self) -> Result<Arc<Told>, CallError> {
        self.told_since(self.now - timing::TOLD).await
    }

    /// What they tell now.
    pub(crate) async fn read(&self) -> Result<Arc<Told>, CallError> {
        self.told_since(self.now - NOW).await
    }

    async fn told_since(&self, since: OffsetDateTime) -> Result<Arc<Told>, CallError> {
        // Of a batch that asks all at once, one reads.
        let _turn = self.memory.reading.lock().await;
        if let Some(told) = self.memory.told_since(since) {
            return Ok(told);
        }
        let (ended, live) = (self.ecs.ended_tasks(None).await?, self.ecs.live_tasks().await?);
        let told = Arc::new(Told::read(ended.iter().chain(&live), self.names));
        self.memory.note_told(self.now, told.clone());
        Ok(told)
    }

    /// To whom a runner is owed that was asked for that job; and that one, if it is another's. `served`: the job's own tasks
    /// say that it has a runner, or is over.
    pub(crate) async fn owed(&self, job: &Job, served: bool) -> Result<(Owed, Option<Debt>), CallError> {
        let told = match self.memory.told_since(self.now - timing::TOLD) {
            Some(told) if told.knows(job.id) || !served => told,
            // Whoever asked a moment ago knew all of those that are over, and what lives is a small part of an hour's tasks.
            None if !served && self.is_news(job) => {
                if !self.live().await?.knows(job.id) {
                    return Ok((Owed::ToTheJob, None));
                }
                self.read().await?
            }
            _ => self.read().await?,
        };
        Ok(match told.owed(job.id) {
            None => (Owed::ToNobody("the job has a runner, or is over, and nobody is left without"), None),
            Some(end) if end == job.id => (Owed::ToTheJob, None),
            Some(end) => match told.newest_of(end).and_then(|task| next_after(task, self.names)) {
                Some(next) => (Owed::ToAnother, Some(Debt::To(next))),
                None => (Owed::ToTheJob, None),
            },
        })
    }

    /// What those tell that live.
    async fn live(&self) -> Result<Arc<Told>, CallError> {
        let mut last = self.memory.live.lock().await;
        if let Some((at, told)) = &*last
            && self.now - *at < NOW
        {
            return Ok(told.clone());
        }
        let told = Arc::new(Told::read(self.ecs.live_tasks().await?.iter(), self.names));
        *last = Some((self.now, told.clone()));
        Ok(told)
    }

    /// Of a job whose runners others took again and again, it is worth knowing all.
    fn is_news(&self, job: &Job) -> bool {
        let is_early = job.attempt.0 <= 2;
        is_early && job.created_at.or(job.asked_at).is_some_and(|since| self.now - since < timing::OLD)
    }
}

/// Whether that task of the job's says that the job has a runner, or is over.
pub(crate) fn is_served(task: &Task, job: JobId) -> bool {
    let tags = TaskTags(&task.tags);
    tags.job_is_served() || tags.ran_job() == Some(job)
}

/// The runner after that task's.
pub(crate) fn next_after(task: &Task, names: &RunnerNames) -> Option<Replacement> {
    let tags = TaskTags(&task.tags);
    match tags.purpose(names)? {
        Purpose::Job(job, attempt) => Some(replacement(job, attempt, tags.labels(), tags)),
        Purpose::Pool { .. } => None,
    }
}
