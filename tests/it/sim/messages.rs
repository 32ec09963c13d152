//! What is sent: webhook deliveries, events, the schedule; and how queues hand it out.

use std::{collections::BTreeMap, rc::Rc, sync::Arc};

use time::Duration;

use super::{
    MINUTE, Ms, SECOND,
    chance::{Odds, Point},
    planted::Planted,
    text::{action_name, moment, rfc3339},
    world::{Ev, SWEEP_EVERY, Todo, World, tell},
};
use crate::model::{deliveries::Delivery, sqs};

/// Which queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Which {
    Jobs,
    Lifecycle,
    Author,
}

impl Which {
    pub const ALL: [Which; 3] = [Which::Jobs, Which::Lifecycle, Which::Author];

    /// Its name.
    pub fn queue(self) -> &'static str {
        match self {
            Which::Jobs => "jobs",
            Which::Lifecycle => "lifecycle",
            Which::Author => "author",
        }
    }
}

/// What is in a message.
#[derive(Debug, Clone)]
pub struct Letter {
    pub body: Rc<str>,
    /// The job that it is about, 0 for none.
    pub job: u64,
}

pub type Message = sqs::Message<Letter>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Queued,
    /// A deployment protection rule holds the job back.
    Waiting,
    InProgress,
    Completed,
}

/// One event of the App's webhook.
#[derive(Debug, Clone)]
pub struct Event {
    pub job: u64,
    pub action: Action,
    /// Id and name of the job's runner.
    pub runner: Option<(u64, Arc<str>)>,
    /// The job's status, when it is one that GitHub has added since.
    pub status_since: Option<&'static str>,
    /// When the job was given its runner; before that GitHub says when it was queued.
    pub started_at: Option<Ms>,
    /// Deliveries of it so far.
    tries: u8,
}

/// What GitHub's log says of a delivery as long as nothing has answered: of one in five that there was none.
fn no_answer(delivery: u64) -> u16 {
    if delivery.is_multiple_of(5) { 0 } else { 504 }
}

/// How many functions may run at a time: `DispatchMaxConcurrency`, the lifecycle queue's, and the author's.
const CONCURRENCY: [u32; 3] = [5, 16, 2];

/// A webhook that is delivered again and again comes through in the end: the world allows the job to run.
const MOST_FAILURES: u8 = 4;

impl World {
    // Webhook deliveries

    pub(super) fn send_event(&mut self, job: u64, action: Action) {
        if self.books.job(job).is_some_and(|it| !it.is_heard) {
            return;
        }
        self.last_guid += 1;
        let rates = self.settings.rates.clone();
        let (guid, now) = (format!("{:016x}", self.last_guid), self.time());
        if self.is_out(rates.webhooks_lost, 13)
            || action == Action::Queued && self.decide(job, Point::Unheard, &[(1, rates.unheard)]) == 1
        {
            tell!(self, job, "the webhook of job {job} ({action:?}) is never sent, and nobody knows");
            if let Some(it) = self.books.job_mut(job).filter(|_| action == Action::Queued) {
                it.is_owed = false;
            }
            return;
        }
        let it = self.github.job(job);
        let (runner, status_since) = (it.and_then(|it| it.runner.clone()), it.and_then(|it| it.status_since));
        let started_at = it.and_then(|it| it.started_at).map(moment);
        let (name, event) =
            (action_name(action), Event { job, action, runner, status_since, started_at, tries: 1 });
        let sent =
            self.deliveries.sent(&guid, "workflow_job", Some(name), event, no_answer(self.last_guid), now);
        self.travel(sent, job, action, 1);
    }

    pub(super) fn send_again(&mut self, mut delivery: Delivery<Event>) {
        delivery.payload.tries += 1;
        let sent = self.deliveries.sent_again(&delivery, no_answer(delivery.id), self.time());
        let Event { job, action, tries, .. } = delivery.payload;
        self.travel(sent, job, action, tries);
    }

    /// A delivery is on its way.
    fn travel(&mut self, delivery: u64, job: u64, action: Action, tries: u8) {
        let out = self.is_out(self.settings.rates.webhooks_out, 11);
        if tries > MOST_FAILURES && !out {
            let delay = self.takes(300, 2_000, 4, delivery);
            self.after(delay, Ev::Deliver(delivery, false));
            return;
        }
        let late = self.settings.rates.late_webhook;
        let odds: [Odds; 5] = [(2, if out { 90_000 } else { 300 }), (1, 200), (3, late), (4, 200), (5, 30)];
        let (delay, answer_lost) = match self.decide(job, Point::Webhook, &odds) {
            0 => (self.takes(300, 2_000, 4, delivery), false),
            1 => {
                tell!(self, job, "the webhook of job {job} ({action:?}) comes twice");
                self.after(800, Ev::Deliver(delivery, false));
                (self.takes(900, 90 * SECOND, 4, delivery), false)
            }
            2 => {
                tell!(self, job, "the webhook of job {job} ({action:?}) never comes");
                return;
            }
            3 => {
                tell!(self, job, "the webhook of job {job} ({action:?}) comes three minutes late");
                (3 * MINUTE, false)
            }
            4 => {
                tell!(self, job, "the answer to the webhook of job {job} ({action:?}) will be lost");
                (self.takes(300, 2_000, 4, delivery), true)
            }
            _ => {
                tell!(self, job, "the webhook of job {job} ({action:?}) comes 25 minutes late");
                (25 * MINUTE, false)
            }
        };
        self.after(delay, Ev::Deliver(delivery, answer_lost));
    }

    /// EventBridge takes an event and delivers it at least once.
    pub fn publish(&mut self, which: Which, body: Rc<str>, job: u64) {
        let delay = self.takes(50, 500, 5, self.seq);
        match self.decide(job, Point::Bus, &[(1, 150), (2, 100), (3, 30)]) {
            0 => self.after(delay, Ev::Bus(which, body, job)),
            2 => self.after(MINUTE, Ev::Bus(which, body, job)),
            choice => {
                tell!(self, job, "EventBridge delivers an event of job {job} twice");
                self.after(delay, Ev::Bus(which, body.clone(), job));
                let later = if choice == 1 { 2 * SECOND } else { 100 * SECOND };
                self.after(later, Ev::Bus(which, body, job));
            }
        }
    }

    // Queues

    pub fn poll_soon(&mut self, which: Which, at: Ms) {
        let at = at.max(self.now) + 20;
        let slot = &mut self.poll_at[which as usize];
        if slot.is_none_or(|earlier| earlier > at) {
            *slot = Some(at);
            self.at(at, Ev::Poll(which));
        }
    }

    pub(super) fn poll(&mut self, which: Which) -> Todo {
        let now = self.now;
        if self.poll_at[which as usize].is_some_and(|at| at <= now) {
            self.poll_at[which as usize] = None;
        }
        let mut batch = Vec::new();
        if self.running[which as usize] < CONCURRENCY[which as usize] {
            while batch.len() < 10 {
                let Some(message) = self.receive(which) else { break };
                let job = message.body.job;
                if self.decide(job, Point::Receive, &[(1, 100)]) == 1 {
                    tell!(
                        self,
                        job,
                        "SQS will deliver a message about job {job} again, although it is deleted"
                    );
                    self.sqs.deliver_again(which.queue(), message.id);
                }
                batch.push(message);
            }
            if let Some(next) = self.next_visible(which)
                && (next > now || self.running[which as usize] + 1 < CONCURRENCY[which as usize])
            {
                self.poll_soon(which, next);
            }
        }
        if batch.is_empty() {
            return Todo::Nothing;
        }
        self.running[which as usize] += 1;
        Todo::Batch(which, batch)
    }

    /// The message that has been visible longest.
    fn receive(&mut self, which: Which) -> Option<Message> {
        let (queue, now) = (which.queue(), self.time());
        loop {
            let id = self.sqs.visible(queue, now).expect("a queue of this world").next()?;
            if let Some(message) = self.sqs.receive_one(queue, id, now).expect("a queue of this world") {
                return Some(message);
            }
            tell!(self, 0, "message {id} goes to the dead-letter queue");
            self.stats.redriven += 1;
        }
    }

    fn next_visible(&self, which: Which) -> Option<Ms> {
        self.sqs.next_visible_at(which.queue()).map(moment)
    }

    /// Puts a message on a queue.
    pub fn send(&mut self, which: Which, body: Rc<str>, job: u64, delay: Duration) {
        let letter = Letter { body, job };
        let sent = self.sqs.send(which.queue(), letter, BTreeMap::new(), delay, self.time());
        sent.expect("a queue of this world");
        self.poll_soon(which, self.now + delay.whole_milliseconds() as Ms);
    }

    /// An invocation is over: its queue may be polled again.
    pub fn freed(&mut self, which: Which) {
        self.running[which as usize] -= 1;
        if let Some(next) = self.next_visible(which) {
            self.poll_soon(which, next);
        }
    }

    // The schedule

    pub(super) fn schedule_sweep(&mut self) -> Todo {
        self.after(MINUTE, Ev::Sweep);
        if self.settings.planted == Planted::NoSweep {
            return Todo::Nothing;
        }
        let time = rfc3339(self.now);
        let scheduled = |what: &str| {
            format!(
                "{{\"source\":\"aws.events\",\"detail-type\":\"Scheduled Event\",\"time\":\"{time}\",\"detail\":{what}}}"
            )
        };
        if (self.now / MINUTE).is_multiple_of(SWEEP_EVERY / MINUTE) {
            let body: Rc<str> = scheduled("{}").into();
            let times = match self.decide(0, Point::Schedule, &[(1, 500), (2, 1_000)]) {
                0 => 1,
                1 => 2,
                _ => {
                    tell!(self, 0, "a sweep is not run");
                    0
                }
            };
            for _ in 0..times {
                self.send(Which::Lifecycle, body.clone(), 0, Duration::ZERO);
            }
        }
        match self.settings.container_minted {
            true => Todo::Nothing,
            false => Todo::Look(scheduled("{\"only\":\"deliveries\"}")),
        }
    }
}
