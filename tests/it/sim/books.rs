//! What the simulator knows of jobs, registrations and tasks besides what GitHub and ECS do.

use std::collections::BTreeMap;

use super::{Ms, plan};

#[derive(Debug, Clone)]
pub struct Job {
    pub plan: plan::Job,
    /// Since when it waits for a runner.
    pub queued_at: Ms,
    /// Its webhooks are sent.
    pub is_heard: bool,
    /// It is ours to serve, and that it waits was not kept from us.
    pub is_owed: bool,
    /// It was rejected after as many runners as are allowed.
    pub rejected: bool,
    /// Tasks started for it.
    pub started: u32,
    /// The job that got a runner of its last.
    pub taken_by: Option<u64>,
    /// When the first of GitHub's events that it runs, or is over, came through.
    pub told_at: Option<Ms>,
    /// Dead letters.
    pub letters: u32,
}

#[derive(Debug, Clone, Default)]
pub struct Registration {
    /// The job it was minted for, 0 for the pool.
    pub job: u64,
    pub task: Option<u64>,
    /// Another runner was announced for its job in its place.
    pub given_up: bool,
    /// It was found to have been left behind.
    pub leaked: bool,
    pub minted_at: Ms,
    pub online_at: Ms,
}

#[derive(Debug, Clone, Default)]
pub struct Task {
    /// The job it was started for, 0 for the pool.
    pub job: u64,
    pub registration: u64,
    /// How it will come up.
    pub boot: u8,
    /// Since when its registration is spent, and it should go.
    pub spent_at: Option<Ms>,
    /// Another runner was announced for its job in its place.
    pub given_up: bool,
    /// Its registration was unspent when it was started.
    pub ran_with_registration: bool,
    /// It was found to have been left behind.
    pub leaked: bool,
}

#[derive(Debug, Default)]
pub struct Books {
    /// By number, from `first`; `None` for numbers left out of the history.
    jobs: Vec<Option<Job>>,
    first: u64,
    /// Those that are not in the plan, by number.
    others: BTreeMap<u64, Job>,
    /// By GitHub's id, from 1.
    registrations: Vec<Registration>,
    /// By ECS's number, from 1.
    tasks: Vec<Task>,
}

impl Books {
    pub fn open(&mut self, plan: plan::Job) {
        let is_owed = !plan.is_taker();
        let job = Job {
            plan,
            queued_at: plan.at,
            is_heard: true,
            is_owed,
            rejected: false,
            started: 0,
            taken_by: None,
            told_at: None,
            letters: 0,
        };
        if plan::origin(plan.number) != plan.number {
            self.others.insert(plan.number, job);
            return;
        }
        if self.jobs.is_empty() {
            self.first = plan.number;
        }
        let index = (plan.number - self.first) as usize;
        if self.jobs.len() <= index {
            self.jobs.resize(index + 1, None);
        }
        self.jobs[index] = Some(job);
    }

    pub fn job(&self, number: u64) -> Option<&Job> {
        let own = number.checked_sub(self.first).and_then(|index| self.jobs.get(index as usize)?.as_ref());
        own.or_else(|| self.others.get(&number))
    }

    pub fn job_mut(&mut self, number: u64) -> Option<&mut Job> {
        if plan::origin(number) != number {
            return self.others.get_mut(&number);
        }
        self.jobs.get_mut(number.checked_sub(self.first)? as usize)?.as_mut()
    }

    pub fn minted(&mut self, id: u64, job: u64, minted_at: Ms) {
        let index = id as usize;
        if self.registrations.len() <= index {
            self.registrations.resize(index + 1, Registration::default());
        }
        self.registrations[index] = Registration { job, minted_at, ..Registration::default() };
    }

    /// A registration, even when GitHub knows it no more.
    pub fn registration(&self, id: u64) -> Option<&Registration> {
        self.registrations.get(id as usize)
    }

    pub fn registration_mut(&mut self, id: u64) -> Option<&mut Registration> {
        self.registrations.get_mut(id as usize)
    }

    /// The job that it was minted for.
    pub fn minted_for(&self, id: u64) -> u64 {
        self.registration(id).map_or(0, |it| it.job)
    }

    pub fn launched(&mut self, number: u64, job: u64, registration: u64) {
        let index = number as usize;
        if self.tasks.len() <= index {
            self.tasks.resize(index + 1, Task::default());
        }
        self.tasks[index] = Task { job, registration, ..Task::default() };
    }

    /// A task, even when ECS knows it no more.
    pub fn task(&self, number: u64) -> Option<&Task> {
        self.tasks.get(number as usize)
    }

    pub fn task_mut(&mut self, number: u64) -> Option<&mut Task> {
        self.tasks.get_mut(number as usize)
    }

    pub fn task_of(&self, id: u64) -> Option<u64> {
        self.registration(id)?.task
    }
}
