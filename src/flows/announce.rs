//! The next attempt of a job: announced, or given up after MAX_ATTEMPTS where that is the job's fault.

use std::time::Duration;

use crate::{
    error::CallError,
    fargate::stop::Stop,
    flows::{
        cause::{Cause, replacement_delay},
        last::given_up,
        reconcile::Reconciler,
        watch::{self, Looks},
    },
    ids::Purpose,
    intake::{
        notice::{What, Word},
        payload::Replacement,
    },
    lambda::{metric::Metric, outcome::Done},
    ports::{Deliveries, FindTasks, Github, Queue, StartTasks, TendTasks, Timer},
    protocol::debt::{Link, link},
};

impl<G, E, S, Q, C> Reconciler<G, E, S, Q, C>
where
    G: Github + Deliveries,
    E: FindTasks + TendTasks,
    S: StartTasks,
    Q: Queue,
    C: Timer,
{
    /// Announces the job's next attempt, or gives the job up when enough of its runners have failed.
    pub(crate) async fn announce_or_give_up(
        &self,
        replacement: Replacement,
        cause: Cause<'_>,
    ) -> Result<Done, CallError> {
        let (job, why) = (replacement.job_id, cause.why);
        let is_failure = cause.stop.is_none_or(Stop::job_may_be_at_fault);
        let failures = cause.failures_of(job, &self.policy.names).filter(|_| is_failure);
        let is_last = failures.is_some_and(|failures| failures + 1 >= self.max_attempts);
        let fix = self.fix(&cause, is_last).await;
        if let Ok(Some(fix)) = &fix {
            tracing::error!(job = job.0, attempt = replacement.attempt.0, why, "{fix}; the job waits");
            self.queue.announce(&replacement.to_body(), replacement_delay(replacement.attempt)).await?;
            let done = Done::new(Metric::Replaced, format!("job {job} waits: {fix}"));
            return Ok(done.and(Metric::NeedsOperator, 1));
        }
        let failures = replacement.failures.map(|before| before + u32::from(is_failure));
        let replacement = Replacement { failures, ..replacement };
        if is_last {
            fix?;
            return self.give_up(replacement, cause).await;
        }
        self.announce(replacement, why).await
    }

    /// The last of `MAX_ATTEMPTS` runners has died. What led here may be doubt, or old: first, GitHub is asked about that
    /// very job. One that has another's runner may lead to a job that has none, which dispatch finds out.
    async fn give_up(&self, replacement: Replacement, cause: Cause<'_>) -> Result<Done, CallError> {
        let (job, why) = (replacement.job_id, cause.why);
        let asked_at = cause.task.and_then(|task| task.created_at);
        let Some(github) = &self.github else {
            return Ok(Done::new(
                Metric::Settled,
                "it was the job's last runner: dispatch, which started it, gives the job up",
            ));
        };
        let place = match replacement.repository {
            Some(_) => replacement.target(),
            None => {
                let place = self.chain(github, None).place_of(job).await?;
                place.unwrap_or_else(|| replacement.target())
            }
        };
        let state = github.job(&place, job).await?;
        match link(state.as_ref(), &self.policy.names, asked_at, self.clock.now()) {
            Link::Waits | Link::Unsaid => {}
            Link::Unsettled => return self.announce(replacement, why).await,
            Link::Got { runner: Purpose::Job(owner, _), .. } if owner != job => {
                return self.announce(replacement, why).await;
            }
            Link::Got { .. } => {
                return Ok(Done::new(Metric::Settled, "the job runs, or ran, on another runner"));
            }
            Link::HeldBack => return Ok(Done::new(Metric::Settled, "the job waits for approval")),
            Link::NotOwed(why) => return Ok(Done::new(Metric::Settled, why)),
        }
        let reason = given_up(self.max_attempts, job, why);
        tracing::error!(job = job.0, "{reason}");
        self.queue.reject(&replacement.to_body(), &reason).await?;
        self.tell_given_up(replacement).await;
        Ok(Done::new(Metric::Rejected, reason))
    }

    /// Whatever comes of that, the job is in the dead-letter queue. Why the last one stopped is for operators.
    async fn tell_given_up(&self, replacement: Replacement) {
        let why = format!(
            "{} runners were started for it, and each ended before it had the job",
            self.max_attempts
        );
        let word = Word::new(What::GivenUp, why, &replacement.into_job()).filter(|_| self.queue.can_tell());
        if let Some(word) = word
            && let Err(error) = self.queue.tell(&word.to_body(), Duration::ZERO).await
        {
            tracing::warn!(%error, "the author of a job that was given up is not told");
        }
    }

    /// How the installation is to be mended, when it is its fault and not the job's. An error: whose it is, is not known.
    async fn fix(&self, cause: &Cause<'_>, is_last: bool) -> Result<Option<String>, CallError> {
        if let Some(fix) = cause.stop.and_then(Stop::fix) {
            return Ok(Some(fix.to_owned()));
        }
        let Some(task) = cause.task else { return Ok(None) };
        let looks = Looks { all: is_last, ..self.looks() };
        let outbreak = self.memory.watch.outbreak(&looks, &task.definition).await?;
        Ok(outbreak.map(|outbreak| watch::said(&outbreak)))
    }

    /// Whether runners die whatever the job is looked up now, by a hundred tasks.
    pub(crate) fn looks(&self) -> Looks<'_, G, E> {
        Looks {
            github: self.github.as_ref(),
            ecs: &self.ecs,
            names: &self.policy.names,
            good_for: Some(Duration::ZERO),
            all: false,
            now: self.clock.now(),
        }
    }

    /// Puts the job back on its queue for the next attempt.
    pub(crate) async fn announce(&self, replacement: Replacement, why: &str) -> Result<Done, CallError> {
        let (job, attempt) = (replacement.job_id, replacement.attempt);
        self.queue.announce(&replacement.to_body(), replacement_delay(attempt)).await?;
        Ok(Done::new(
            Metric::Replaced,
            format!("attempt {attempt} for job {job}, since the one before took no job: {why}"),
        ))
    }
}
