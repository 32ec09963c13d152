//! ECS on Fargate: tasks, `clientToken`, ListTasks that lags behind, capacity, and the launch rate.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
};

use gha_fargate_runners::fargate::{fleet::Capacity, request::TaskRequest};

use super::{HOUR, MINUTE, Ms};

/// "Stopped tasks appear in the returned results for at least one hour" (DescribeTasks).
const REMEMBERED_FOR: Ms = HOUR;
/// How long a `clientToken` stands for its request ("Ensuring idempotency").
const TOKEN_LIFETIME: Ms = 24 * HOUR;

#[derive(Debug, Clone)]
pub struct Task {
    pub id: u64,
    /// The job it was started for, 0 for the pool.
    pub job: u64,
    pub token: String,
    pub started_by: String,
    pub registration: u64,
    pub tags: BTreeMap<String, String>,
    /// What its tags were until when.
    tags_until: Vec<(Ms, BTreeMap<String, String>)>,
    pub created_at: Ms,
    pub started_at: Option<Ms>,
    pub stopped_at: Option<Ms>,
    pub asked_to_stop: Option<Ms>,
    /// ListTasks shows it from then on.
    pub listed_from: Ms,
    pub stop_code: &'static str,
    pub exit_code: Option<i32>,
    /// How it will come up.
    pub boot: u8,
    pub is_spot: bool,
    /// Since when its registration is spent, and it should go.
    pub spent_at: Option<Ms>,
    /// Its registration was unspent when it was started.
    pub ran_with_registration: bool,
    /// It was found to have been left behind.
    pub leaked: bool,
}

impl Task {
    pub fn is_live(&self) -> bool {
        self.stopped_at.is_none() && self.asked_to_stop.is_none()
    }

    /// As it was then; `None` when ListTasks and DescribeTasks did not show it yet.
    fn as_of(&self, then: Ms) -> Option<Task> {
        if self.created_at > then || self.listed_from > then {
            return None;
        }
        let mut task = self.clone();
        for at in [&mut task.started_at, &mut task.stopped_at, &mut task.asked_to_stop] {
            *at = at.filter(|at| *at <= then);
        }
        if let Some((_, tags)) = task.tags_until.iter().find(|(until, _)| *until > then) {
            task.tags = tags.clone();
        }
        Some(task)
    }

    fn tags_change(&mut self, now: Ms) {
        self.tags_until.push((now, self.tags.clone()));
    }
}

/// The answer to RunTask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ran {
    New(u64),
    Same(u64),
    Conflict(u64),
    Dry,
    Throttled,
}

#[derive(Debug, Default)]
pub struct Ecs {
    pub tasks: BTreeMap<u64, Task>,
    by_starter: HashMap<String, Vec<u64>>,
    pub live: BTreeSet<u64>,
    /// Those that have not stopped: more than the live ones.
    pub running: BTreeSet<u64>,
    tokens: HashMap<String, (u64, u64)>,
    ages: VecDeque<(Ms, String)>,
    stopped: VecDeque<(Ms, u64)>,
    last: u64,
    /// A bucket for on-demand and one for Spot: 100 that refill with 20 a second ("Fargate throttling quotas").
    buckets: [(f64, Ms); 2],
    pub throttled: u64,
    pub unlimited: bool,
}

impl Ecs {
    pub fn new() -> Self {
        Ecs { buckets: [(100.0, 0); 2], ..Ecs::default() }
    }

    fn take_launch(&mut self, is_spot: bool, now: Ms) -> bool {
        let (tokens, at) = &mut self.buckets[usize::from(is_spot)];
        *tokens = (*tokens + (now - *at) as f64 * 0.02).min(100.0);
        *at = now;
        if *tokens < 1.0 && !self.unlimited {
            self.throttled += 1;
            return false;
        }
        *tokens -= 1.0;
        true
    }

    /// RunTask; `is_dry` is whether the capacity has nothing to give.
    pub fn run_task(&mut self, request: &TaskRequest, is_dry: impl FnOnce() -> bool, now: Ms) -> Ran {
        self.forget(now);
        let fingerprint = fingerprint(request);
        if let Some(&(known, task)) = self.tokens.get(&request.client_token) {
            return if known == fingerprint { Ran::Same(task) } else { Ran::Conflict(task) };
        }
        let is_spot = request.capacity == Capacity::FargateSpot;
        if !self.take_launch(is_spot, now) {
            return Ran::Throttled;
        }
        if is_dry() {
            return Ran::Dry;
        }
        self.last += 1;
        let id = self.last;
        let tags: BTreeMap<String, String> = request.tags.iter().cloned().collect();
        let number = |key: &str| tags.get(key).and_then(|text| text.parse().ok()).unwrap_or(0);
        let task = Task {
            id,
            job: number("gha:job-id"),
            token: request.client_token.clone(),
            started_by: request.started_by.clone(),
            registration: number("gha:runner-id"),
            tags,
            tags_until: Vec::new(),
            created_at: now,
            started_at: None,
            stopped_at: None,
            asked_to_stop: None,
            listed_from: now,
            stop_code: "",
            exit_code: None,
            boot: 0,
            is_spot,
            spent_at: None,
            ran_with_registration: false,
            leaked: false,
        };
        self.tokens.insert(request.client_token.clone(), (fingerprint, id));
        self.ages.push_back((now, request.client_token.clone()));
        self.by_starter.entry(request.started_by.clone()).or_default().push(id);
        self.live.insert(id);
        self.running.insert(id);
        self.tasks.insert(id, task);
        Ran::New(id)
    }

    pub fn of_starter<'a>(&'a self, started_by: &str) -> impl Iterator<Item = &'a Task> {
        self.by_starter.get(started_by).into_iter().flatten().filter_map(|id| self.tasks.get(id))
    }

    /// A task as DescribeTasks shows it: as it is, or as it was a moment ago.
    pub fn shown(&self, id: u64, now: Ms, late: bool) -> Option<Cow<'_, Task>> {
        let task = self.tasks.get(&id)?;
        if late { task.as_of(now.saturating_sub(MINUTE)).map(Cow::Owned) } else { Some(Cow::Borrowed(task)) }
    }

    pub fn tag(&mut self, id: u64, tags: impl IntoIterator<Item = (String, String)>, now: Ms) {
        if let Some(task) = self.tasks.get_mut(&id).filter(|task| task.is_live()) {
            task.tags_change(now);
            task.tags.extend(tags);
        }
    }

    pub fn ask_to_stop(&mut self, id: u64, now: Ms) -> bool {
        let Some(task) = self.tasks.get_mut(&id).filter(|task| task.is_live()) else { return false };
        task.asked_to_stop = Some(now);
        task.tags_change(now);
        task.stop_code = "UserInitiated";
        // "Any tags associated with the task will be deleted" (StopTask).
        task.tags.clear();
        self.live.remove(&id);
        true
    }

    /// The task's processes are gone.
    pub fn stop(&mut self, id: u64, code: &'static str, exit: Option<i32>, now: Ms) -> bool {
        let Some(task) = self.tasks.get_mut(&id).filter(|task| task.stopped_at.is_none()) else {
            return false;
        };
        task.stopped_at = Some(now);
        if task.stop_code.is_empty() {
            task.stop_code = code;
        }
        task.exit_code = exit;
        self.live.remove(&id);
        self.running.remove(&id);
        self.stopped.push_back((now, id));
        true
    }

    fn forget(&mut self, now: Ms) {
        while let Some(&(at, id)) = self.stopped.front() {
            if now - at < REMEMBERED_FOR {
                break;
            }
            self.stopped.pop_front();
            if let Some(task) = self.tasks.remove(&id)
                && let Some(ids) = self.by_starter.get_mut(&task.started_by)
            {
                ids.retain(|it| *it != id);
                if ids.is_empty() {
                    self.by_starter.remove(&task.started_by);
                }
            }
        }
        while let Some((at, _)) = self.ages.front() {
            if now - at < TOKEN_LIFETIME {
                break;
            }
            if let Some((_, token)) = self.ages.pop_front() {
                self.tokens.remove(&token);
            }
        }
    }
}

/// Whether two requests under one token are the same request.
fn fingerprint(request: &TaskRequest) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |text: &str| {
        for byte in text.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    add(&request.started_by);
    add(&request.task_definition);
    add(request.capacity.provider().unwrap_or_default());
    add(&format!("{:?} {:?}", request.size, request.disk_gib));
    for (name, value) in request.environment() {
        add(name);
        add(&value);
    }
    for (key, value) in &request.tags {
        add(key);
        add(value);
    }
    hash
}
