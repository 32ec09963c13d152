//! A standard queue of SQS: at least once, in no order, with visibility, receive counts and redrive.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use super::Ms;

/// Which queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Which {
    Jobs,
    Lifecycle,
}

#[derive(Debug, Clone)]
pub struct Message {
    pub id: u64,
    pub body: Rc<str>,
    /// The job that it is about, 0 for none.
    pub job: u64,
    pub receives: u32,
    /// Of the latest receive: older ones delete nothing.
    pub receipt: u64,
    visible_at: Ms,
    /// It will be delivered once more although it is deleted.
    pub again: bool,
}

#[derive(Debug)]
pub struct Queue {
    /// `template.yaml`.
    pub visibility: Ms,
    /// `maxReceiveCount`.
    pub redrive_after: u32,
    messages: BTreeMap<u64, Message>,
    order: BTreeSet<(Ms, u64)>,
    last: u64,
}

impl Queue {
    pub fn new(visibility: Ms, redrive_after: u32) -> Self {
        Queue { visibility, redrive_after, messages: BTreeMap::new(), order: BTreeSet::new(), last: 0 }
    }

    pub fn len(&self) -> usize {
        self.messages.len()
    }

    pub fn send(&mut self, body: Rc<str>, job: u64, visible_at: Ms) -> u64 {
        self.last += 1;
        let id = self.last;
        let message = Message { id, body, job, receives: 0, receipt: 0, visible_at, again: false };
        self.put(message);
        id
    }

    fn put(&mut self, message: Message) {
        self.order.insert((message.visible_at, message.id));
        self.messages.insert(message.id, message);
    }

    /// When the next message is visible.
    pub fn next_visible(&self) -> Option<Ms> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Receives the message that has been visible longest. `Err`: it went to the dead-letter queue.
    pub fn receive(&mut self, now: Ms) -> Option<Result<Message, Message>> {
        let &(at, id) = self.order.first()?;
        if at > now {
            return None;
        }
        self.order.remove(&(at, id));
        let message = self.messages.get_mut(&id)?;
        if message.receives >= self.redrive_after {
            return self.messages.remove(&id).map(Err);
        }
        message.receives += 1;
        message.receipt += 1;
        message.visible_at = now + self.visibility;
        self.order.insert((message.visible_at, id));
        Some(Ok(message.clone()))
    }

    /// Makes it visible at `at`; `false` when the receipt is an old one.
    pub fn change_visibility(&mut self, id: u64, receipt: u64, at: Ms) -> bool {
        match self.messages.get_mut(&id) {
            Some(message) if message.receipt == receipt => {
                self.order.remove(&(message.visible_at, id));
                message.visible_at = at;
                self.order.insert((at, id));
                true
            }
            _ => false,
        }
    }

    /// Deletes it; with the receipt of an earlier receive that does nothing.
    pub fn delete(&mut self, id: u64, receipt: u64, now: Ms) {
        if let Some(message) = self.messages.get_mut(&id)
            && message.receipt == receipt
        {
            self.order.remove(&(message.visible_at, id));
            if std::mem::take(&mut message.again) {
                message.visible_at = now + 20_000;
                self.order.insert((message.visible_at, id));
            } else {
                self.messages.remove(&id);
            }
        }
    }

    pub fn set_again(&mut self, id: u64) {
        if let Some(message) = self.messages.get_mut(&id) {
            message.again = true;
        }
    }

    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.messages.values()
    }
}
