//! What GitHub showed a moment ago: a GET may be answered by a copy that lags behind, even behind the webhook that
//! caused the GET, and behind what the same flow has just changed.

use std::collections::VecDeque;

use super::{
    MINUTE, Ms,
    github::{Job, Registration},
};

/// How far a copy lags behind.
pub const LAG: Ms = MINUTE;

/// What was there before a change; `None` when there was nothing.
#[derive(Debug)]
enum Before {
    Job(u64, Option<Job>),
    Registration(u64, Option<Registration>),
}

/// The changes of the last moments, oldest first.
#[derive(Debug, Default)]
pub struct Past(VecDeque<(Ms, Before)>);

impl Past {
    pub fn of_job(&mut self, now: Ms, number: u64, before: Option<&Job>) {
        self.push(now, Before::Job(number, before.cloned()));
    }

    pub fn of_registration(&mut self, now: Ms, id: u64, before: Option<&Registration>) {
        self.push(now, Before::Registration(id, before.cloned()));
    }

    fn push(&mut self, now: Ms, before: Before) {
        while self.0.front().is_some_and(|(at, _)| at + LAG < now) {
            self.0.pop_front();
        }
        self.0.push_back((now, before));
    }

    /// The job as it was; `None` when it has not changed since.
    pub fn job(&self, now: Ms, number: u64) -> Option<Option<&Job>> {
        self.since(now).find_map(|before| match before {
            Before::Job(of, job) if *of == number => Some(job.as_ref()),
            _ => None,
        })
    }

    /// The registration as it was; `None` when it has not changed since.
    pub fn registration(&self, now: Ms, id: u64) -> Option<Option<&Registration>> {
        self.since(now).find_map(|before| match before {
            Before::Registration(of, registration) if *of == id => Some(registration.as_ref()),
            _ => None,
        })
    }

    /// The registrations that have changed since.
    pub fn registrations(&self, now: Ms) -> impl Iterator<Item = u64> {
        self.since(now).filter_map(|before| match before {
            Before::Registration(id, _) => Some(*id),
            Before::Job(..) => None,
        })
    }

    fn since(&self, now: Ms) -> impl Iterator<Item = &Before> {
        self.0.iter().filter(move |(at, _)| at + LAG > now).map(|(_, before)| before)
    }
}
