//! A batch of SQS records: each is handled by itself, none can touch another. What is not done is reported in
//! `batchItemFailures`, and nothing else is.

use std::{panic::AssertUnwindSafe, time::Duration};

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use futures_util::{FutureExt, StreamExt, stream};
use serde::Deserialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;

use crate::{
    dispatch::Handled,
    metrics::Metrics,
    outcome::{Deferral, Outcome, Reason, Wait},
    ports::{Clock, Queue},
};

/// Records in flight at once. SQS delivers ten at most in one batch (`template.yaml`); every connection more
/// costs CPU at a cold start.
const CONCURRENCY: usize = 10;

/// What Lambda was invoked with.
#[derive(Debug)]
pub enum Invocation {
    /// By SQS.
    Batch(Vec<Record>),
    /// By EventBridge, or by hand: the event itself.
    Direct(String),
}

/// One SQS message.
#[derive(Debug, Clone)]
pub struct Record {
    /// `messageId`: what `batchItemFailures` names.
    pub message_id: String,
    /// What ChangeMessageVisibility needs.
    pub receipt_handle: Option<String>,
    /// How often it was delivered, this time included.
    pub receives: Option<u32>,
    /// The message.
    pub body: String,
}

/// Tells a batch from a single event.
pub fn read_invocation(event: &RawValue) -> Result<Invocation, serde_json::Error> {
    #[derive(Deserialize)]
    struct Shape<'a> {
        #[serde(rename = "Records", borrow)]
        records: Option<&'a RawValue>,
    }
    let json = event.get();
    let is_batch = serde_json::from_str(json).is_ok_and(|shape: Shape<'_>| shape.records.is_some());
    if !is_batch {
        return Ok(Invocation::Direct(json.to_owned()));
    }
    let event: SqsEvent = serde_json::from_str(json)?;
    Ok(Invocation::Batch(event.records.into_iter().map(Record::from).collect()))
}

impl From<SqsMessage> for Record {
    fn from(message: SqsMessage) -> Self {
        Record {
            message_id: message.message_id.unwrap_or_default(),
            receipt_handle: message.receipt_handle,
            receives: message.attributes.get("ApproximateReceiveCount").and_then(|count| count.parse().ok()),
            body: message.body.unwrap_or_default(),
        }
    }
}

/// What became of a batch.
#[derive(Debug)]
pub struct Report {
    /// What Lambda answers to SQS.
    pub response: SqsBatchResponse,
    /// What is counted.
    pub metrics: Metrics,
}

/// Handles every record, concurrently and each by itself: a panic in one is that one's failure.
pub async fn process<'a, Q, C, H, F>(records: &'a [Record], queue: &Q, clock: &C, handle: H) -> Report
where
    Q: Queue,
    C: Clock,
    H: Fn(&'a Record) -> F,
    F: Future<Output = Handled>,
{
    let mut metrics = Metrics::default();
    let mut failures = Vec::new();
    let handle = &handle;
    let mut done = stream::iter(records)
        .map(|record| async move {
            let began = clock.now();
            let handled =
                AssertUnwindSafe(handle(record)).catch_unwind().await.unwrap_or_else(|_| panicked());
            let acknowledged = settle(record, &handled.outcome, queue).await;
            log(&record.message_id, &handled, clock.now() - began);
            (record, handled, acknowledged)
        })
        .buffer_unordered(CONCURRENCY);
    while let Some((record, handled, acknowledged)) = done.next().await {
        metrics.count(&handled, clock.now());
        if !acknowledged {
            let mut failure = BatchItemFailure::default();
            failure.item_identifier = record.message_id.clone();
            failures.push(failure);
        }
    }
    let mut response = SqsBatchResponse::default();
    response.batch_item_failures = failures;
    Report { response, metrics }
}

/// Does with the message what its outcome asks for; the answer is whether SQS may delete it.
async fn settle<Q: Queue>(record: &Record, outcome: &Outcome, queue: &Q) -> bool {
    match outcome {
        Outcome::Done(_) | Outcome::Skipped(_) => true,
        Outcome::Rejected(reason) => {
            // Without a dead-letter queue of our own to send to, the queue's redrive takes it in the end.
            queue.can_reject()
                && match queue.reject(&record.body, reason).await {
                    Ok(()) => true,
                    Err(error) => {
                        tracing::error!(%error, message = %record.message_id, "the dead-letter queue took no message");
                        false
                    }
                }
        }
        Outcome::Deferred(deferral) => {
            let delay = deferral.wait.delay(record.receives.unwrap_or(1), &record.message_id);
            if let Some(receipt_handle) = &record.receipt_handle
                && let Err(error) = queue.defer(receipt_handle, delay).await
            {
                // The message then comes back after the queue's own visibility timeout.
                tracing::warn!(%error, message = %record.message_id, "the delay could not be set");
            }
            false
        }
    }
}

fn panicked() -> Handled {
    Handled {
        job: None,
        outcome: Outcome::Deferred(Deferral {
            reason: Reason::Panic,
            wait: Wait::Slowly,
            detail: "a bug: the code panicked on this message; please report it".into(),
        }),
    }
}

/// One line per message.
pub fn log(message_id: &str, handled: &Handled, took: time::Duration) {
    let job = handled.job.as_ref();
    let (outcome, reason, detail, task) = match &handled.outcome {
        Outcome::Done(done) => {
            ("done", done.metric, done.detail.as_str(), done.task.as_ref().map(ToString::to_string))
        }
        Outcome::Skipped(skip) => ("skipped", skip.reason, skip.detail.as_str(), None),
        Outcome::Rejected(reason) => ("rejected", "rejected", reason.as_str(), None),
        Outcome::Deferred(deferral) => ("deferred", deferral.reason.metric(), deferral.detail.as_str(), None),
    };
    macro_rules! line {
        ($level:expr) => {
            tracing::event!(
                $level,
                message_id,
                job = job.map(|job| job.id.0),
                attempt = job.map(|job| job.attempt.0),
                repository = job.map(|job| job.repository()),
                labels = job.map(|job| job.labels.join(" ")),
                outcome,
                reason,
                task,
                ms = took.whole_milliseconds() as i64,
                "{detail}"
            )
        };
    }
    match &handled.outcome {
        Outcome::Deferred(Deferral { reason: Reason::NeedsOperator | Reason::Panic, .. }) => {
            line!(tracing::Level::ERROR);
        }
        Outcome::Deferred(_) | Outcome::Rejected(_) => line!(tracing::Level::WARN),
        Outcome::Done(_) | Outcome::Skipped(_) => line!(tracing::Level::INFO),
    }
}

/// The answer to a direct invocation: what became of the one event. What is not done is an error, so that the
/// service that invoked the function tries again.
pub async fn process_one<Q: Queue>(
    body: &str,
    handled: Handled,
    queue: &Q,
    now: OffsetDateTime,
    took: time::Duration,
) -> (Result<serde_json::Value, NotDone>, Metrics) {
    log("", &handled, took);
    let mut metrics = Metrics::default();
    metrics.count(&handled, now);
    let job = handled.job.as_ref().map(|job| job.id);
    let answer = match handled.outcome {
        Outcome::Done(done) => Ok(serde_json::json!({
            "job": job, "outcome": "done", "detail": done.detail, "task": done.task.map(|task| task.0),
        })),
        Outcome::Skipped(skip) => Ok(serde_json::json!({
            "job": job, "outcome": "skipped", "reason": skip.reason, "detail": skip.detail,
        })),
        Outcome::Rejected(reason) if queue.can_reject() => match queue.reject(body, &reason).await {
            Ok(()) => Ok(serde_json::json!({ "job": job, "outcome": "rejected", "detail": reason })),
            Err(error) => Err(NotDone(format!("rejected ({reason}), but the dead-letter queue: {error}"))),
        },
        Outcome::Rejected(reason) => Err(NotDone(format!("rejected: {reason}"))),
        Outcome::Deferred(deferral) => Err(NotDone(format!(
            "deferred ({}): {}; try again in {} s",
            deferral.reason.metric(),
            deferral.detail,
            retry_in(&deferral).as_secs(),
        ))),
    };
    (answer, metrics)
}

fn retry_in(deferral: &Deferral) -> Duration {
    deferral.wait.delay(1, "")
}

/// A direct invocation that is to be repeated, or can never succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotDone(pub String);
