//! Queues, the event bus, and secrets.

use std::{future::Future, time::Duration};

use secrecy::SecretString;

use crate::error::{CallError, Class};

/// Where a record came from: what it takes to set its visibility.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// `eventSourceARN`: the queue.
    pub queue_arn: String,
    /// `receiptHandle`: this receive of the message.
    pub receipt_handle: String,
}

/// The queues of the function: its own, the job queue and the dead-letter queue.
pub trait Queue {
    /// ChangeMessageVisibility on the queue that the record came from: the message becomes visible again
    /// after `delay`.
    fn defer(&self, source: &Source, delay: Duration) -> impl Future<Output = Result<(), CallError>>;

    /// Sends the original body to the dead-letter queue, with the reason as message attribute `reason`.
    fn reject(&self, body: &str, reason: &str) -> impl Future<Output = Result<(), CallError>>;

    /// Whether a dead-letter queue is configured at all.
    fn can_reject(&self) -> bool;

    /// Whether a job queue is configured at all.
    fn can_announce(&self) -> bool;

    /// Puts a message on the job queue, visible after `delay` (15 minutes at most).
    fn announce(&self, body: &str, delay: Duration) -> impl Future<Output = Result<(), CallError>>;

    /// Whether there is anybody to tell the author of a job something.
    fn can_tell(&self) -> bool {
        false
    }

    /// Puts a message on the author's queue, visible after `delay` (15 minutes at most).
    fn tell(&self, _body: &str, _delay: Duration) -> impl Future<Output = Result<(), CallError>> {
        async { Err(CallError::new(Class::NeedsOperator, "AUTHOR_QUEUE_URL is not set")) }
    }
}

/// A secret in Secrets Manager.
pub trait SecretSource {
    /// GetSecretValue. Errors name the secret, never its content.
    fn read(&self) -> impl Future<Output = Result<SecretString, CallError>>;
}

/// The event bus.
pub trait Bus {
    /// PutEvents with one entry: source `github.com`, detail-type `workflow_job`, and this detail.
    fn put(&self, detail: &str) -> impl Future<Output = Result<(), CallError>>;
}
