//! SQS standard queues as a state machine: visibility, receive counts, delays, retention and redrive. No I/O,
//! no clock, nothing random: where the real service may reorder, [`Sqs::receive_one`] lets the caller choose.

use std::collections::{BTreeMap, BTreeSet};

use time::{Duration, OffsetDateTime};

use super::aws::{ACCOUNT, AwsError, REGION};

/// ChangeMessageVisibility: 12 hours at most, counted from the moment the message was received.
pub const MOST_VISIBILITY: Duration = Duration::hours(12);
/// SendMessage: `DelaySeconds` up to 900.
pub const MOST_DELAY: Duration = Duration::minutes(15);
/// When a message comes again that was deleted.
const AGAIN_AFTER: Duration = Duration::seconds(20);

/// ARN of a queue.
pub fn arn(name: &str) -> String {
    format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{name}")
}

/// A message; `B` is what was sent.
#[derive(Debug, Clone)]
pub struct Message<B = String> {
    pub id: u64,
    pub body: B,
    pub attributes: BTreeMap<String, String>,
    pub sent_at: OffsetDateTime,
    pub first_received_at: Option<OffsetDateTime>,
    pub received_at: Option<OffsetDateTime>,
    pub receive_count: u32,
    /// Of the latest receive.
    pub receipt_handle: Option<String>,
    visible_at: OffsetDateTime,
    /// It is delivered once more although it is deleted.
    comes_again: bool,
}

#[derive(Debug, Clone)]
pub struct Queue<B = String> {
    pub visibility_timeout: Duration,
    pub retention: Duration,
    /// The dead-letter queue's name, and after how many receives a message goes there.
    pub redrive: Option<(String, u32)>,
    messages: BTreeMap<u64, Message<B>>,
    /// All messages by when they are visible.
    visible: BTreeSet<(OffsetDateTime, u64)>,
    ages: BTreeSet<(OffsetDateTime, u64)>,
}

impl<B: Clone> Queue<B> {
    fn new() -> Self {
        Queue {
            visibility_timeout: Duration::seconds(30),
            retention: Duration::days(4),
            redrive: None,
            messages: BTreeMap::new(),
            visible: BTreeSet::new(),
            ages: BTreeSet::new(),
        }
    }

    fn put(&mut self, message: Message<B>) {
        self.visible.insert((message.visible_at, message.id));
        self.ages.insert((message.sent_at, message.id));
        self.messages.insert(message.id, message);
    }

    fn take(&mut self, id: u64) -> Option<Message<B>> {
        let message = self.messages.remove(&id)?;
        self.visible.remove(&(message.visible_at, id));
        self.ages.remove(&(message.sent_at, id));
        Some(message)
    }
}

pub struct Sqs<B = String> {
    queues: BTreeMap<String, Queue<B>>,
    last: u64,
}

impl<B> Default for Sqs<B> {
    fn default() -> Self {
        Sqs { queues: BTreeMap::new(), last: 0 }
    }
}

impl<B: Clone> Sqs<B> {
    pub fn create(&mut self, name: &str) -> &mut Queue<B> {
        self.queues.entry(name.to_owned()).or_insert_with(Queue::new)
    }

    fn queue(&mut self, name: &str) -> Result<&mut Queue<B>, AwsError> {
        self.queues
            .get_mut(name)
            .ok_or_else(|| AwsError::new("QueueDoesNotExist", "The specified queue does not exist."))
    }

    /// SendMessage: the message's id.
    pub fn send(
        &mut self,
        queue: &str,
        body: impl Into<B>,
        attributes: BTreeMap<String, String>,
        delay: Duration,
        now: OffsetDateTime,
    ) -> Result<u64, AwsError> {
        self.last += 1;
        let id = self.last;
        self.queue(queue)?.put(Message {
            id,
            body: body.into(),
            attributes,
            sent_at: now,
            first_received_at: None,
            received_at: None,
            receive_count: 0,
            receipt_handle: None,
            visible_at: now + delay,
            comes_again: false,
        });
        Ok(id)
    }

    /// ReceiveMessage: up to `most` visible messages, those that have been visible longest first.
    pub fn receive(
        &mut self,
        queue: &str,
        most: usize,
        now: OffsetDateTime,
    ) -> Result<Vec<Message<B>>, AwsError> {
        let mut batch = Vec::new();
        while batch.len() < most {
            let Some(id) = self.visible(queue, now)?.next() else { break };
            batch.extend(self.receive_one(queue, id, now)?);
        }
        Ok(batch)
    }

    /// Receives that visible message. `None`: it went to the dead-letter queue instead, or is not visible.
    pub fn receive_one(
        &mut self,
        queue: &str,
        id: u64,
        now: OffsetDateTime,
    ) -> Result<Option<Message<B>>, AwsError> {
        let it = self.queue(queue)?;
        let redrive = it.redrive.clone();
        let timeout = it.visibility_timeout;
        let Some(mut message) = it.messages.get(&id).filter(|message| message.visible_at <= now).cloned()
        else {
            return Ok(None);
        };
        it.take(id);
        if let Some((dead_letters, most)) = redrive
            && message.receive_count >= most
        {
            // The message keeps its id and its enqueue time, as SQS does it.
            message.receive_count = 0;
            message.receipt_handle = None;
            message.visible_at = now;
            self.queue(&dead_letters)?.put(message);
            return Ok(None);
        }
        message.receive_count += 1;
        message.first_received_at.get_or_insert(now);
        message.received_at = Some(now);
        message.receipt_handle = Some(format!("{queue}/{id}/{}", message.receive_count));
        message.visible_at = now + timeout;
        self.queue(queue)?.put(message.clone());
        Ok(Some(message))
    }

    /// The ids of the visible messages, those that have been visible longest first.
    pub fn visible(
        &mut self,
        queue: &str,
        now: OffsetDateTime,
    ) -> Result<impl Iterator<Item = u64> + use<'_, B>, AwsError> {
        let it = self.queue(queue)?;
        while let Some(&(sent_at, id)) = it.ages.first() {
            if now - sent_at < it.retention {
                break;
            }
            it.take(id);
        }
        Ok(it.visible.iter().take_while(move |(at, _)| *at <= now).map(|(_, id)| *id))
    }

    /// When the next message becomes visible.
    pub fn next_visible_at(&self, queue: &str) -> Option<OffsetDateTime> {
        self.queues.get(queue)?.visible.first().map(|(at, _)| *at)
    }

    /// All messages of a queue, visible or not, in the order of their ids.
    pub fn messages(&self, queue: &str) -> impl Iterator<Item = &Message<B>> {
        self.queues.get(queue).into_iter().flat_map(|it| it.messages.values())
    }

    pub fn len(&self, queue: &str) -> usize {
        self.queues.get(queue).map_or(0, |it| it.messages.len())
    }

    /// The message will be delivered once more although it is deleted: a server that has a copy of it was not there to
    /// hear of that ("At-least-once delivery").
    pub fn deliver_again(&mut self, queue: &str, id: u64) {
        if let Some(message) = self.queues.get_mut(queue).and_then(|it| it.messages.get_mut(&id)) {
            message.comes_again = true;
        }
    }

    fn handle(queue: &str, receipt_handle: &str) -> Result<u64, AwsError> {
        let invalid = || AwsError::new("ReceiptHandleIsInvalid", "The input receipt handle is invalid.");
        let mut parts = receipt_handle.split('/');
        match (parts.next(), parts.next().and_then(|id| id.parse().ok()), parts.next()) {
            (Some(name), Some(id), Some(_)) if name == queue => Ok(id),
            _ => Err(invalid()),
        }
    }

    /// DeleteMessage. With the handle of an earlier receive it succeeds and deletes nothing.
    pub fn delete(&mut self, queue: &str, receipt_handle: &str, now: OffsetDateTime) -> Result<(), AwsError> {
        let id = Self::handle(queue, receipt_handle)?;
        let it = self.queue(queue)?;
        let latest = it.messages.get(&id).and_then(|message| message.receipt_handle.as_deref());
        if latest == Some(receipt_handle)
            && let Some(mut message) = it.take(id)
            && std::mem::take(&mut message.comes_again)
        {
            message.visible_at = now + AGAIN_AFTER;
            it.put(message);
        }
        Ok(())
    }

    /// ChangeMessageVisibility.
    pub fn change_visibility(
        &mut self,
        queue: &str,
        receipt_handle: &str,
        timeout: Duration,
        now: OffsetDateTime,
    ) -> Result<(), AwsError> {
        if !(Duration::ZERO..=MOST_VISIBILITY).contains(&timeout) {
            let message = format!(
                "Value {} for parameter VisibilityTimeout is invalid. Reason: Must be between 0 and 43200.",
                timeout.whole_seconds()
            );
            return Err(AwsError::new("InvalidParameterValue", message));
        }
        let id = Self::handle(queue, receipt_handle)?;
        let it = self.queue(queue)?;
        let Some(message) =
            it.messages.get(&id).filter(|it| it.receipt_handle.as_deref() == Some(receipt_handle))
        else {
            let message = format!(
                "Value {receipt_handle} for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not available for visibility timeout change."
            );
            return Err(AwsError::new("InvalidParameterValue", message));
        };
        if message.visible_at <= now {
            return Err(AwsError::new("MessageNotInflight", "The message is not in flight."));
        }
        let until = now + timeout;
        if message.received_at.is_some_and(|at| until - at > MOST_VISIBILITY) {
            let message = "Total VisibilityTimeout for the message is beyond the limit [43200 seconds]";
            return Err(AwsError::new("InvalidParameterValue", message));
        }
        if let Some(mut message) = it.take(id) {
            message.visible_at = until;
            it.put(message);
        }
        Ok(())
    }
}
