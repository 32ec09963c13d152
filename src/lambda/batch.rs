//! A batch of SQS records: each is handled by itself, none can touch another. What is not done is reported in
//! `batchItemFailures`, and nothing else is.

use std::{collections::BTreeSet, panic::AssertUnwindSafe, pin::pin, time::Duration};

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use futures_util::{FutureExt, StreamExt, stream};
use serde_json::{Value, json, value::RawValue};
use time::OffsetDateTime;

use crate::{
    lambda::{
        metric::Metric,
        metrics::Metrics,
        outcome::{Deferral, Handled, Outcome, Reason, Rejection, Wait},
    },
    ports::{Clock, Queue, Source},
};

/// Records in flight at once. SQS delivers ten at most in one batch (`template.yaml`); every connection more
/// costs CPU at a cold start.
const CONCURRENCY: usize = 10;

/// So long a word to the author may take.
const TELL: Duration = Duration::from_secs(1);

/// How SQS has delivered a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// How often, this time included.
    pub times: u32,
    /// Since when it is on its queue.
    pub sent_at: Option<OffsetDateTime>,
}

/// One SQS message.
#[derive(Debug, Clone)]
pub struct Record {
    /// `messageId`: what `batchItemFailures` names.
    pub message_id: String,
    /// What ChangeMessageVisibility needs.
    pub source: Option<Source>,
    /// How often it was delivered, this time included.
    pub receives: Option<u32>,
    /// When it was put on the queue.
    pub sent_at: Option<OffsetDateTime>,
    /// The message.
    pub body: String,
}

/// Lambda's event, of whatever shape: an SQS batch, or one event from EventBridge or by hand. `handle` gets a
/// message's body, and how SQS has delivered it. An SQS invocation fails for none of its records; a single
/// event that is not done is an error, so that the service that invoked the function tries again.
/// `time_is_up` ends shortly before the function's time does.
pub async fn invoke<Q, C, H, F>(
    event: &RawValue,
    queue: &Q,
    clock: &C,
    time_is_up: impl Future<Output = ()>,
    handle: H,
) -> (Result<Value, NotDone>, Metrics)
where
    Q: Queue,
    C: Clock,
    H: Fn(String, Option<Received>) -> F,
    F: Future<Output = Handled>,
{
    match read_records(event) {
        Some(records) => {
            let report = process(&records, queue, clock, time_is_up, handle).await;
            let answer = serde_json::to_value(report.response)
                .map_err(|error| NotDone::new("Deferred", error.to_string()));
            (answer, report.metrics)
        }
        None => process_one(event.get(), queue, clock, handle).await,
    }
}

/// `None` when the event has no `Records`: then it is a single one.
fn read_records(event: &RawValue) -> Option<Vec<Record>> {
    let event: SqsEvent = serde_json::from_str(event.get()).ok()?;
    Some(event.records.into_iter().map(Record::from).collect())
}

impl From<SqsMessage> for Record {
    fn from(message: SqsMessage) -> Self {
        Record {
            message_id: message.message_id.unwrap_or_default(),
            source: message
                .receipt_handle
                .zip(message.event_source_arn)
                .map(|(receipt_handle, queue_arn)| Source { queue_arn, receipt_handle }),
            receives: message.attributes.get("ApproximateReceiveCount").and_then(|count| count.parse().ok()),
            sent_at: message.attributes.get("SentTimestamp").and_then(|millis| {
                let millis: i128 = millis.parse().ok()?;
                OffsetDateTime::from_unix_timestamp_nanos(millis * 1_000_000).ok()
            }),
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

/// Handles every record, concurrently and each by itself: a panic in one is that one's failure, and one that is slow comes
/// again without the others.
pub async fn process<Q, C, H, F>(
    records: &[Record],
    queue: &Q,
    clock: &C,
    time_is_up: impl Future<Output = ()>,
    handle: H,
) -> Report
where
    Q: Queue,
    C: Clock,
    H: Fn(String, Option<Received>) -> F,
    F: Future<Output = Handled>,
{
    let mut report = Report { response: SqsBatchResponse::default(), metrics: Metrics::default() };
    let mut unfinished: BTreeSet<usize> = (0..records.len()).collect();
    let handle = &handle;
    let mut done = stream::iter(records.iter().enumerate())
        .map(|(index, record)| async move {
            let began = clock.now();
            let received = record.receives.map(|times| Received { times, sent_at: record.sent_at });
            let handled = catching_panics(handle(record.body.clone(), received)).await;
            let acknowledged = acknowledge(record, &handled.outcome, queue).await;
            let is_told = tell(handled.notice.as_deref(), queue).await;
            let waited = record.sent_at.map(|sent_at| began - sent_at);
            log(&record.message_id, &handled, waited, clock.now() - began);
            (index, handled, acknowledged, is_told)
        })
        .buffer_unordered(CONCURRENCY);
    let mut time_is_up = pin!(time_is_up);
    loop {
        tokio::select! {
            biased;
            next = done.next() => {
                let Some((index, handled, acknowledged, is_told)) = next else { return report };
                unfinished.remove(&index);
                report.count(&records[index], &handled, acknowledged, clock.now());
                if !is_told {
                    report.metrics.add(Metric::AuthorUntold, 1);
                }
            }
            () = &mut time_is_up => break,
        }
    }
    for index in unfinished {
        let (record, handled) = (&records[index], too_slow());
        log(&record.message_id, &handled, None, time::Duration::ZERO);
        report.count(record, &handled, false, clock.now());
    }
    report
}

impl Report {
    fn count(&mut self, record: &Record, handled: &Handled, acknowledged: bool, now: OffsetDateTime) {
        self.metrics.count(handled, now);
        if let (Outcome::Deferred(deferral), Some(sent_at)) = (&handled.outcome, record.sent_at) {
            self.metrics.deferred(deferral.reason, now - sent_at);
        }
        if !acknowledged {
            let mut failure = BatchItemFailure::default();
            failure.item_identifier = record.message_id.clone();
            self.response.batch_item_failures.push(failure);
        }
    }
}

/// Does with the message what its outcome asks for; the answer is whether SQS may delete it.
async fn acknowledge<Q: Queue>(record: &Record, outcome: &Outcome, queue: &Q) -> bool {
    match outcome {
        Outcome::Done(_) | Outcome::Skipped(_) => true,
        Outcome::Rejected(Rejection { reason, letter }) => {
            // Without a dead-letter queue of our own to send to, the queue's redrive takes it in the end.
            queue.can_reject()
                && match queue.reject(letter.as_ref().unwrap_or(&record.body), reason).await {
                    Ok(()) => true,
                    Err(error) => {
                        tracing::error!(%error, message = %record.message_id, "the dead-letter queue took no message");
                        false
                    }
                }
        }
        Outcome::Deferred(deferral) => {
            let delay = deferral.wait.delay(record.receives.unwrap_or(1), &record.message_id);
            if let Some(source) = &record.source
                && let Err(error) = queue.defer(source, delay).await
            {
                // The message then comes back after the queue's own visibility timeout.
                tracing::warn!(%error, message = %record.message_id, "the delay could not be set");
            }
            false
        }
    }
}

/// Tells a job's author, when its message is seen to: a word that does not get through soon is left out.
async fn tell<Q: Queue>(notice: Option<&str>, queue: &Q) -> bool {
    let Some(notice) = notice.filter(|_| queue.can_tell()) else { return true };
    matches!(tokio::time::timeout(TELL, queue.tell(notice, Duration::ZERO)).await, Ok(Ok(())))
}

/// Runs the handler; a panic is a failure like any other.
// No `async fn`: that would keep the future, which is the largest there is, twice.
fn catching_panics(handling: impl Future<Output = Handled>) -> impl Future<Output = Handled> {
    AssertUnwindSafe(handling).catch_unwind().map(|done| done.unwrap_or_else(|_| panicked()))
}

/// It comes again after its queue's visibility timeout, and whatever was done before is found.
fn too_slow() -> Handled {
    let why = "the function's time is over: a service is slow";
    Handled::new(Outcome::deferred(Reason::Unavailable, Wait::Backoff, why))
}

fn panicked() -> Handled {
    let why = "a bug: the code panicked on this message; please report it";
    Handled::new(Outcome::deferred(Reason::Panic, Wait::Slowly, why))
}

/// One line per message.
pub(crate) fn log(message_id: &str, handled: &Handled, waited: Option<time::Duration>, took: time::Duration) {
    let job = handled.job.as_ref();
    let started = match &handled.outcome {
        Outcome::Done(done) => done.started.as_deref(),
        _ => None,
    };
    // Whose task it was that has ended, where no job was told of.
    let used = match &handled.outcome {
        Outcome::Done(done) => done.used.as_deref(),
        _ => None,
    };
    let (outcome, reason, detail, task) = match &handled.outcome {
        Outcome::Done(done) => (
            "done",
            done.what().map_or("Nothing", Metric::name),
            done.detail.as_str(),
            done.task.as_ref().map(ToString::to_string),
        ),
        Outcome::Skipped(skip) => ("skipped", skip.reason.as_str(), skip.detail.as_str(), None),
        Outcome::Rejected(rejection) => ("rejected", "rejected", rejection.reason.as_str(), None),
        Outcome::Deferred(deferral) => {
            ("deferred", deferral.reason.metric().name(), deferral.detail.as_str(), None)
        }
    };
    macro_rules! line {
        ($level:expr) => {
            tracing::event!(
                $level,
                message_id,
                job = job.map(|job| job.id).or(used.and_then(|used| used.job)).map(|job| job.0),
                attempt = job.map(|job| job.attempt.0),
                run = job.and_then(|job| job.run_id).map(|run| run.0),
                repository = job.map(|job| job.target.name()).or_else(|| used?.repository.clone()),
                sender = job.and_then(|job| job.sender.as_deref()),
                labels = job.map(|job| job.labels.join(" ")),
                outcome,
                reason,
                task,
                definition = started.and_then(|started| started.definition.as_deref()),
                image = started.and_then(|started| started.image.as_deref()),
                cpu = started.and_then(|started| started.size).map(|size| size.cpu),
                memory = started.and_then(|started| started.size).map(|size| size.memory_mib),
                waited = waited.map(|waited| waited.whole_seconds()),
                ms = took.whole_milliseconds() as i64,
                "{detail}"
            )
        };
    }
    match &handled.outcome {
        Outcome::Deferred(Deferral { reason: Reason::NeedsOperator | Reason::Panic, .. }) => {
            line!(tracing::Level::ERROR);
        }
        Outcome::Done(_) | Outcome::Skipped(_) | Outcome::Deferred(Deferral { reason: Reason::Pool, .. }) => {
            line!(tracing::Level::INFO);
        }
        Outcome::Deferred(_) | Outcome::Rejected(_) => line!(tracing::Level::WARN),
    }
}

/// The answer to a direct invocation says what became of the one event.
async fn process_one<Q, C, H, F>(
    body: &str,
    queue: &Q,
    clock: &C,
    handle: H,
) -> (Result<Value, NotDone>, Metrics)
where
    Q: Queue,
    C: Clock,
    H: Fn(String, Option<Received>) -> F,
    F: Future<Output = Handled>,
{
    let began = clock.now();
    let handled = catching_panics(handle(body.to_owned(), None)).await;
    let mut metrics = Metrics::default();
    metrics.count(&handled, clock.now());
    log("", &handled, None, clock.now() - began);
    let job = handled.job.as_ref().map(|job| job.id);
    let answer = match handled.outcome {
        Outcome::Done(done) => Ok(json!({
            "job": job, "outcome": "done", "detail": done.detail, "task": done.task.map(|task| task.0),
        })),
        Outcome::Skipped(skip) => Ok(json!({
            "job": job, "outcome": "skipped", "reason": skip.reason.as_str(), "detail": skip.detail,
        })),
        Outcome::Rejected(Rejection { reason, letter }) if queue.can_reject() => {
            match queue.reject(letter.as_deref().unwrap_or(body), &reason).await {
                Ok(()) => Ok(json!({ "job": job, "outcome": "rejected", "detail": reason })),
                Err(error) => {
                    Err(NotDone::new("Rejected", format!("{reason}; but the dead-letter queue: {error}")))
                }
            }
        }
        Outcome::Rejected(rejection) => Err(NotDone::new("Rejected", rejection.reason)),
        Outcome::Deferred(deferral) => Err(NotDone::new(
            "Deferred",
            format!(
                "{}: {}; try again in {} s",
                deferral.reason.metric().name(),
                deferral.detail,
                deferral.wait.delay(1, "").as_secs(),
            ),
        )),
    };
    (answer, metrics)
}

/// A direct invocation that is to be repeated, or can never succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NotDone {
    kind: &'static str,
    message: String,
}

impl NotDone {
    fn new(kind: &'static str, message: impl Into<String>) -> Self {
        NotDone { kind, message: message.into() }
    }
}

/// What Lambda reports: `errorType` is `Deferred` or `Rejected`.
impl From<NotDone> for lambda_runtime::Diagnostic {
    fn from(error: NotDone) -> Self {
        lambda_runtime::Diagnostic { error_type: error.kind.to_owned(), error_message: error.message }
    }
}
