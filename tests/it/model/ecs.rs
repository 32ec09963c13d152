//! ECS on Fargate as a state machine: RunTask with its idempotency and its refusals, the tasks, and what the
//! other calls see of them. No I/O, no clock, nothing random.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
};

use time::{Duration, OffsetDateTime};

use super::aws::{ACCOUNT, AwsError, REGION};
pub use super::task::*;

/// "Stopped tasks appear in the returned results for at least one hour" (DescribeTasks).
const REMEMBERED_FOR: Duration = Duration::hours(1);

/// How long a `clientToken` stands for its task ("Ensuring idempotency", ECS API reference).
const TOKEN_LIFETIME: Duration = Duration::hours(24);

/// ListTasks and DescribeTasks: 100 at most.
pub const PAGE: usize = 100;

const NO_CAPACITY: &str =
    "Capacity is unavailable at this time. Please try again later or in a different availability zone";

pub struct Ecs {
    /// What each capacity provider of the clusters has to give.
    pub supply: BTreeMap<String, Supply>,
    /// Clusters by name.
    pub clusters: BTreeSet<String>,
    /// Task definitions by family: the latest revision and the containers.
    pub definitions: BTreeMap<String, (u32, Vec<String>)>,
    /// ListTasks shows a task only so long after it was started ("eventual consistency model").
    pub list_lag: Duration,
    /// How long a task that was asked to stop still runs.
    pub stop_takes: Duration,
    /// "Any tags associated with the task will be deleted" (StopTask).
    pub stop_deletes_tags: bool,
    /// Fargate's launch rate: a bucket of 100 that refills with 20 a second, for each of on-demand and Spot
    /// ("Fargate throttling quotas"). Off unless asked for.
    pub throttle_launches: bool,
    tasks: BTreeMap<u64, Task>,
    last: u64,
    live: BTreeSet<u64>,
    live_by_starter: BTreeMap<String, BTreeSet<u64>>,
    stopping: BTreeSet<(OffsetDateTime, u64)>,
    stopped: BTreeSet<(OffsetDateTime, u64)>,
    /// Cluster and token: the request's fingerprint and the task.
    tokens: BTreeMap<(String, String), (u64, u64)>,
    token_ages: VecDeque<(OffsetDateTime, (String, String))>,
    buckets: BTreeMap<String, (f64, OffsetDateTime)>,
    changes: Vec<(u64, Status)>,
}

impl Default for Ecs {
    fn default() -> Self {
        Ecs::new()
    }
}

impl Ecs {
    pub fn new() -> Self {
        Ecs {
            supply: BTreeMap::from([
                ("FARGATE".to_owned(), Supply::Plenty),
                ("FARGATE_SPOT".to_owned(), Supply::Plenty),
            ]),
            clusters: BTreeSet::new(),
            definitions: BTreeMap::new(),
            list_lag: Duration::ZERO,
            stop_takes: Duration::ZERO,
            stop_deletes_tags: true,
            throttle_launches: false,
            tasks: BTreeMap::new(),
            last: 0,
            live: BTreeSet::new(),
            live_by_starter: BTreeMap::new(),
            stopping: BTreeSet::new(),
            stopped: BTreeSet::new(),
            tokens: BTreeMap::new(),
            token_ages: VecDeque::new(),
            buckets: BTreeMap::new(),
            changes: Vec::new(),
        }
    }

    /// Starts a task, or answers with the one that the same request started before.
    pub fn run_task(&mut self, request: &RunTask, now: OffsetDateTime) -> Result<Answer, AwsError> {
        self.advance(now);
        let cluster = self.cluster(&request.cluster)?;
        let definition = self.definition(&request.task_definition)?;
        if let Some(name) = &request.container
            && !self.definitions[&definition.0].1.contains(name)
        {
            let message =
                format!("Override for container named {name} is not a container in the TaskDefinition.");
            return Err(AwsError::new("InvalidParameterException", message));
        }
        if !fargate_has(request.cpu, request.memory) {
            let message = "No Fargate configuration exists for given values.";
            return Err(AwsError::new("InvalidParameterException", message));
        }
        if request.disk.is_some_and(|gib| !(21..=200).contains(&gib)) {
            let message = "The ephemeral storage size must be between 21 GiB and 200 GiB.";
            return Err(AwsError::new("InvalidParameterException", message));
        }
        let fingerprint = fingerprint(request);
        let key = request.client_token.clone().map(|token| (cluster.clone(), token));
        if let Some((known, task)) = key.as_ref().and_then(|key| self.tokens.get(key)) {
            if *known == fingerprint {
                return Ok(Answer::Started(*task));
            }
            let message = "The provided clientToken is already in use with a different RunTask request.";
            let mut conflict = AwsError::new("ConflictException", message);
            conflict.resource_ids = vec![arn(&cluster, *task)];
            return Err(conflict);
        }
        if let Some(refusal) = self.draw(request.launch.provider(), now)? {
            let provider =
                format!("arn:aws:ecs:{REGION}:{ACCOUNT}:capacity-provider/{}", request.launch.provider());
            return Ok(Answer::Refused(provider, refusal));
        }
        self.last += 1;
        let number = self.last;
        let task = Task {
            number,
            arn: arn(&cluster, number),
            cluster,
            definition: format!("{}:{}", definition.0, definition.1),
            launch: request.launch.clone(),
            started_by: request.started_by.clone(),
            environment: request.environment.iter().cloned().collect(),
            cpu: request.cpu,
            memory: request.memory,
            disk: request.disk,
            tags: request.tags.iter().cloned().collect(),
            status: Status::Pending,
            desired_stopped: false,
            created_at: now,
            started_at: None,
            stopped_at: None,
            stop_code: None,
            stopped_reason: None,
            exit_code: None,
        };
        self.live.insert(number);
        self.live_by_starter.entry(task.started_by.clone()).or_default().insert(number);
        self.tasks.insert(number, task);
        if let Some(key) = key {
            self.token_ages.push_back((now, key.clone()));
            self.tokens.insert(key, (fingerprint, number));
        }
        self.changes.push((number, Status::Pending));
        Ok(Answer::Started(number))
    }

    fn cluster(&self, name_or_arn: &str) -> Result<String, AwsError> {
        let prefix = format!("arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/");
        let name = name_or_arn.strip_prefix(&prefix).unwrap_or(name_or_arn);
        match self.clusters.get(name) {
            Some(name) => Ok(name.clone()),
            None => Err(AwsError::new("ClusterNotFoundException", "Cluster not found.")),
        }
    }

    fn definition(&self, name_or_arn: &str) -> Result<(String, u32), AwsError> {
        let prefix = format!("arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/");
        let name = name_or_arn.strip_prefix(&prefix).unwrap_or(name_or_arn);
        let (family, revision) = match name.split_once(':') {
            Some((family, revision)) => (family, Some(revision)),
            None => (name, None),
        };
        let missing = || AwsError::new("ClientException", "TaskDefinition not found.");
        let latest = self.definitions.get(family).ok_or_else(missing)?.0;
        let revision = revision.map_or(Ok(latest), |text| text.parse().map_err(|_| missing()))?;
        if (1..=latest).contains(&revision) { Ok((family.to_owned(), revision)) } else { Err(missing()) }
    }

    /// Takes capacity for one task: `Some` is the reason in `failures[]`.
    fn draw(&mut self, provider: &str, now: OffsetDateTime) -> Result<Option<String>, AwsError> {
        if self.throttle_launches {
            let (tokens, at) = self.buckets.get(provider).copied().unwrap_or((100.0, now));
            let tokens = f64::min(100.0, tokens + 20.0 * (now - at).as_seconds_f64());
            if tokens < 1.0 {
                self.buckets.insert(provider.to_owned(), (tokens, now));
                return Err(AwsError::new("ThrottlingException", "Rate exceeded"));
            }
            self.buckets.insert(provider.to_owned(), (tokens - 1.0, now));
        }
        match self.supply.get_mut(provider) {
            None => {
                let message = "The specified capacity provider was not found. Specify a valid name or ARN and try again.";
                Err(AwsError::new("InvalidParameterException", message))
            }
            Some(Supply::Plenty) => Ok(None),
            Some(Supply::Slots(0) | Supply::Dry) => Ok(Some(NO_CAPACITY.to_owned())),
            Some(Supply::DryByException) => Err(AwsError::new("ClientException", NO_CAPACITY)),
            Some(Supply::Slots(left)) => {
                *left -= 1;
                Ok(None)
            }
        }
    }

    /// Lets time pass: tasks finish stopping, stopped ones are forgotten after an hour, tokens after a day.
    pub fn advance(&mut self, now: OffsetDateTime) {
        while let Some(&(at, number)) = self.stopping.first() {
            if at > now {
                break;
            }
            self.stopping.pop_first();
            self.stopped_for(number, "UserInitiated", "", None, at);
        }
        while let Some(&(at, number)) = self.stopped.first() {
            if now - at < REMEMBERED_FOR {
                break;
            }
            self.stopped.pop_first();
            self.tasks.remove(&number);
        }
        while let Some((at, key)) = self.token_ages.front() {
            if now - *at < TOKEN_LIFETIME {
                break;
            }
            self.tokens.remove(key);
            self.token_ages.pop_front();
        }
    }

    /// ARN of a task.
    pub fn arn(&self, number: u64) -> Option<&str> {
        self.tasks.get(&number).map(|task| task.arn.as_str())
    }

    /// A task by number; `None` once it is forgotten.
    pub fn task(&self, number: u64) -> Option<&Task> {
        self.tasks.get(&number)
    }

    /// A task by its ARN or its id.
    pub fn find(&self, cluster: &str, arn_or_id: &str) -> Result<Option<&Task>, AwsError> {
        let cluster = self.cluster(cluster)?;
        let prefix = format!("arn:aws:ecs:{REGION}:{ACCOUNT}:task/{cluster}/");
        let id = arn_or_id.strip_prefix(&prefix).unwrap_or(arn_or_id);
        let number = u64::from_str_radix(id, 16).ok();
        Ok(number.and_then(|number| self.tasks.get(&number)).filter(|task| task.cluster == cluster))
    }

    /// All tasks that are not forgotten.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.tasks.values()
    }

    /// The tasks that are not stopped and not asked to stop.
    pub fn live(&self) -> impl Iterator<Item = &Task> {
        self.live.iter().map(|number| &self.tasks[number])
    }

    pub fn live_count(&self) -> usize {
        self.live.len()
    }

    /// ListTasks with desired status RUNNING: numbers above `after`, and whether more follow.
    pub fn list(
        &mut self,
        cluster: &str,
        started_by: Option<&str>,
        after: u64,
        limit: usize,
        now: OffsetDateTime,
    ) -> Result<(Vec<u64>, bool), AwsError> {
        self.advance(now);
        let cluster = self.cluster(cluster)?;
        let none = BTreeSet::new();
        let numbers = match started_by {
            Some(started_by) => self.live_by_starter.get(started_by).unwrap_or(&none),
            None => &self.live,
        };
        let shown = |task: &Task| task.cluster == cluster && now - task.created_at >= self.list_lag;
        let mut page: Vec<u64> = numbers
            .range(after + 1..)
            .filter(|number| shown(&self.tasks[number]))
            .take(limit + 1)
            .copied()
            .collect();
        let more = page.len() > limit;
        page.truncate(limit);
        Ok((page, more))
    }

    /// ListTasks with desired status STOPPED.
    pub fn list_stopped(&self, cluster: &str, started_by: Option<&str>) -> Result<Vec<u64>, AwsError> {
        let cluster = self.cluster(cluster)?;
        let wanted = |task: &&Task| {
            task.desired_stopped
                && task.cluster == cluster
                && started_by.is_none_or(|by| task.started_by == by)
        };
        Ok(self.tasks.values().filter(wanted).map(|task| task.number).collect())
    }

    /// DescribeClusters: running and pending tasks.
    pub fn counts(&mut self, cluster: &str, now: OffsetDateTime) -> Result<(String, u32, u32), AwsError> {
        self.advance(now);
        let cluster = self.cluster(cluster)?;
        let numbers = || self.live.iter().chain(self.stopping.iter().map(|(_, number)| number));
        let of = |statuses: &[Status]| {
            let tasks = numbers().map(|number| &self.tasks[number]);
            tasks.filter(|task| task.cluster == cluster && statuses.contains(&task.status)).count() as u32
        };
        let counts = (of(&[Status::Running, Status::Deprovisioning]), of(&[Status::Pending]));
        Ok((cluster, counts.0, counts.1))
    }

    /// TagResource.
    pub fn tag(&mut self, arn: &str, tags: &[(String, String)], now: OffsetDateTime) -> Result<(), AwsError> {
        self.advance(now);
        let missing = || {
            AwsError::new(
                "InvalidParameterException",
                "The specified task was not found. Specify a valid task and try again.",
            )
        };
        let (_, id) = arn.rsplit_once('/').ok_or_else(missing)?;
        let number = u64::from_str_radix(id, 16).map_err(|_| missing())?;
        let task = self.tasks.get_mut(&number).filter(|task| task.arn == arn).ok_or_else(missing)?;
        if task.status == Status::Stopped {
            let message = "The specified task is stopped. Specify a running task and try again.";
            return Err(AwsError::new("InvalidParameterException", message));
        }
        let fresh = tags.iter().filter(|(key, _)| !task.tags.contains_key(key)).count();
        if task.tags.len() + fresh > 50 {
            return Err(AwsError::new(
                "InvalidParameterException",
                "Number of tags exceeds the limit of 50.",
            ));
        }
        task.tags.extend(tags.iter().cloned());
        Ok(())
    }

    /// StopTask.
    pub fn stop(
        &mut self,
        cluster: &str,
        arn_or_id: &str,
        reason: &str,
        now: OffsetDateTime,
    ) -> Result<u64, AwsError> {
        self.advance(now);
        let Some(number) = self.find(cluster, arn_or_id)?.map(|task| task.number) else {
            return Err(AwsError::new("InvalidParameterException", "The referenced task was not found."));
        };
        let (takes, drop_tags) = (self.stop_takes, self.stop_deletes_tags);
        self.retire(number);
        if let Some(task) = self.tasks.get_mut(&number).filter(|task| !task.desired_stopped) {
            task.desired_stopped = true;
            task.status = Status::Deprovisioning;
            task.stop_code = Some("UserInitiated".to_owned());
            task.stopped_reason = Some(reason.to_owned());
            if drop_tags {
                task.tags.clear();
            }
            self.stopping.insert((now + takes, number));
            self.changes.push((number, Status::Deprovisioning));
        }
        self.advance(now);
        Ok(number)
    }

    /// The task's containers have started.
    pub fn start(&mut self, number: u64, now: OffsetDateTime) -> bool {
        self.advance(now);
        match self.tasks.get_mut(&number) {
            Some(task) if task.status == Status::Pending => {
                task.status = Status::Running;
                task.started_at = Some(now);
                self.changes.push((number, Status::Running));
                true
            }
            _ => false,
        }
    }

    /// The task has stopped by itself, or Fargate has stopped it: `TaskFailedToStart`,
    /// `EssentialContainerExited` (with an exit code), `SpotInterruption`, …
    pub fn stopped(
        &mut self,
        number: u64,
        code: &str,
        reason: &str,
        exit: Option<i32>,
        now: OffsetDateTime,
    ) -> bool {
        self.advance(now);
        self.stopped_for(number, code, reason, exit, now)
    }

    fn stopped_for(
        &mut self,
        number: u64,
        code: &str,
        reason: &str,
        exit: Option<i32>,
        at: OffsetDateTime,
    ) -> bool {
        self.retire(number);
        let Some(task) = self.tasks.get_mut(&number).filter(|task| task.status != Status::Stopped) else {
            return false;
        };
        if task.desired_stopped {
            self.stopping.retain(|(_, stopping)| *stopping != number);
        }
        task.desired_stopped = true;
        task.status = Status::Stopped;
        task.stopped_at = Some(at);
        task.exit_code = exit;
        // Whatever stops it first says why.
        task.stop_code.get_or_insert_with(|| code.to_owned());
        task.stopped_reason.get_or_insert_with(|| reason.to_owned());
        self.stopped.insert((at, number));
        self.changes.push((number, Status::Stopped));
        true
    }

    fn retire(&mut self, number: u64) {
        if self.live.remove(&number)
            && let Some(task) = self.tasks.get(&number)
            && let Some(numbers) = self.live_by_starter.get_mut(&task.started_by)
        {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.live_by_starter.remove(&task.started_by);
            }
        }
    }

    /// The tasks whose status has changed since the last call, in order: an `ECS Task State Change` each.
    pub fn take_changes(&mut self) -> Vec<(u64, Status)> {
        std::mem::take(&mut self.changes)
    }
}

fn arn(cluster: &str, number: u64) -> String {
    format!("arn:aws:ecs:{REGION}:{ACCOUNT}:task/{cluster}/{number:032x}")
}

fn fingerprint(request: &RunTask) -> u64 {
    let mut hasher = DefaultHasher::new();
    request.hash(&mut hasher);
    hasher.finish()
}
