//! ECS on Fargate as a state machine: RunTask with its idempotency and its refusals, the tasks, and what the
//! other calls see of them. No I/O, no clock, nothing random.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    ops::Bound,
    sync::Arc,
};

use time::{Duration, OffsetDateTime};

pub use super::task::*;
use super::{
    aws::{ACCOUNT, AwsError, REGION},
    past::{Past, Sight},
};

/// "Stopped tasks appear in the returned results for at least one hour" (DescribeTasks).
const REMEMBERED_FOR: Duration = Duration::hours(1);

/// How long a `clientToken` stands for its task ("Ensuring idempotency", ECS API reference).
const TOKEN_LIFETIME: Duration = Duration::hours(24);

/// ListTasks and DescribeTasks: 100 at most.
pub const PAGE: usize = 100;

const NO_CAPACITY: &str =
    "Capacity is unavailable at this time. Please try again later or in a different availability zone";

const EC2_THROTTLES: &str = "Request limit exceeded. (Service: AmazonEC2; Status Code: 503; Error Code: \
                             RequestLimitExceeded; Request ID: 00000000-0000-4000-8000-000000000000; Proxy: null)";

pub struct Ecs {
    /// What each capacity provider of the clusters has to give.
    pub supply: BTreeMap<String, Supply>,
    /// Clusters by name.
    pub clusters: BTreeSet<Arc<str>>,
    /// Task definitions by family: the latest revision and the containers.
    pub definitions: BTreeMap<String, (u32, Vec<String>)>,
    /// ListTasks shows a task only so long after it was started ("eventual consistency model").
    pub list_lag: Duration,
    /// How long a task that was asked to stop still runs; `None`: until [`Ecs::stopped`] says so.
    pub stop_takes: Option<Duration>,
    /// "Any tags associated with the task will be deleted" (StopTask).
    pub stop_deletes_tags: bool,
    /// Fargate's launch rate: a bucket of 100 that refills with 20 a second, for each of on-demand and Spot
    /// ("Fargate throttling quotas"). Off unless asked for.
    pub throttle_launches: bool,
    /// It is EC2 that throttles, and ECS says so in an InvalidParameterException.
    pub disguise_throttling: bool,
    tasks: BTreeMap<u64, Task>,
    last: u64,
    /// Of desired status RUNNING.
    live: BTreeSet<u64>,
    /// Of any status but STOPPED.
    unstopped: BTreeSet<u64>,
    by_starter: BTreeMap<String, BTreeSet<u64>>,
    past: Past<Task>,
    stopping: BTreeSet<(OffsetDateTime, u64)>,
    stopped: BTreeSet<(OffsetDateTime, u64)>,
    /// Cluster and token: the request's fingerprint and the task.
    tokens: BTreeMap<(Arc<str>, String), (u64, u64)>,
    token_ages: VecDeque<(OffsetDateTime, (Arc<str>, String))>,
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
            stop_takes: Some(Duration::ZERO),
            stop_deletes_tags: true,
            throttle_launches: false,
            disguise_throttling: false,
            tasks: BTreeMap::new(),
            last: 0,
            live: BTreeSet::new(),
            unstopped: BTreeSet::new(),
            by_starter: BTreeMap::new(),
            past: Past::default(),
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
        let its = |name: &&String| request.container.as_ref() != Some(*name);
        let task = Task {
            beside: self.definitions[&definition.0].1.iter().filter(its).cloned().collect(),
            number,
            arn: arn(&cluster, number),
            cluster,
            definition: format!("{}:{}", definition.0, definition.1),
            launch: request.launch.clone(),
            client_token: request.client_token.clone(),
            started_by: request.started_by.clone(),
            environment: Arc::new(request.environment.iter().cloned().collect()),
            cpu: request.cpu,
            memory: request.memory,
            disk: request.disk,
            tags: Arc::new(request.tags.iter().cloned().collect()),
            subnets: request.subnets.clone(),
            security_groups: request.security_groups.clone(),
            public_ip: request.public_ip,
            status: Status::Pending,
            desired_stopped: false,
            created_at: now,
            listed_from: now + self.list_lag,
            started_at: None,
            stopping_at: None,
            stopped_at: None,
            stop_code: None,
            stopped_reason: None,
            exit_code: None,
        };
        self.live.insert(number);
        self.unstopped.insert(number);
        self.by_starter.entry(task.started_by.clone()).or_default().insert(number);
        self.past.changes(number, None, now);
        self.tasks.insert(number, task);
        if let Some(key) = key {
            self.token_ages.push_back((now, key.clone()));
            self.tokens.insert(key, (fingerprint, number));
        }
        self.changes.push((number, Status::Pending));
        Ok(Answer::Started(number))
    }

    fn cluster(&self, name_or_arn: &str) -> Result<Arc<str>, AwsError> {
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

    /// Whether the request would draw on its capacity: nothing else answers it.
    pub fn is_new(&self, request: &RunTask, now: OffsetDateTime) -> bool {
        let is_known =
            |token: &String| self.tokens.contains_key(&(request.cluster.as_str().into(), token.clone()));
        !request.client_token.as_ref().is_some_and(is_known)
            && (!self.throttle_launches || self.launches_left(request.launch.provider(), now) >= 1.0)
    }

    fn launches_left(&self, provider: &str, now: OffsetDateTime) -> f64 {
        let (tokens, at) = self.buckets.get(provider).copied().unwrap_or((100.0, now));
        f64::min(100.0, tokens + 20.0 * (now - at).as_seconds_f64())
    }

    /// Takes capacity for one task: `Some` is the reason in `failures[]`.
    fn draw(&mut self, provider: &str, now: OffsetDateTime) -> Result<Option<String>, AwsError> {
        if self.throttle_launches {
            let tokens = self.launches_left(provider, now);
            if tokens < 1.0 {
                self.buckets.insert(provider.to_owned(), (tokens, now));
                return Err(match self.disguise_throttling {
                    true => AwsError::new("InvalidParameterException", EC2_THROTTLES),
                    false => AwsError::new("ThrottlingException", "Rate exceeded"),
                });
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
            Some(Supply::OverQuota) => {
                let message = "You've reached the limit on the number of vCPUs you can run concurrently";
                Err(AwsError::new("ClientException", message))
            }
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
            if let Some(task) = self.tasks.remove(&number)
                && let Some(numbers) = self.by_starter.get_mut(&task.started_by)
            {
                numbers.remove(&number);
                if numbers.is_empty() {
                    self.by_starter.remove(&task.started_by);
                }
            }
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

    /// A task by its ARN or its id, as DescribeTasks shows it.
    pub fn find(&self, cluster: &str, arn_or_id: &str, sight: Sight) -> Result<Option<&Task>, AwsError> {
        let cluster = self.cluster(cluster)?;
        let prefix = format!("arn:aws:ecs:{REGION}:{ACCOUNT}:task/{cluster}/");
        let id = arn_or_id.strip_prefix(&prefix).unwrap_or(arn_or_id);
        let number = u64::from_str_radix(id, 16).ok();
        Ok(number.and_then(|number| self.show(number, sight)).filter(|task| task.cluster == cluster))
    }

    /// A task as DescribeTasks shows it.
    pub fn show(&self, number: u64, sight: Sight) -> Option<&Task> {
        self.past.shown(number, sight).unwrap_or_else(|| self.tasks.get(&number))
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

    /// The tasks that are not stopped: more than the live ones.
    pub fn unstopped(&self) -> impl ExactSizeIterator<Item = &Task> {
        self.unstopped.iter().map(|number| &self.tasks[number])
    }

    /// The tasks of one `startedBy` that are not forgotten.
    pub fn started_by(&self, started_by: &str) -> impl Iterator<Item = &Task> {
        self.by_starter.get(started_by).into_iter().flatten().map(|number| &self.tasks[number])
    }

    /// ListTasks shows that task only from then on.
    pub fn list_from(&mut self, number: u64, at: OffsetDateTime) {
        if let Some(task) = self.tasks.get_mut(&number) {
            task.listed_from = at;
        }
    }

    /// ListTasks: the numbers, and whether more follow.
    pub fn list(
        &mut self,
        asked: &ListTasks<'_>,
        sight: Sight,
        now: OffsetDateTime,
    ) -> Result<(Vec<u64>, bool), AwsError> {
        self.advance(now);
        let cluster = self.cluster(asked.cluster)?;
        let after = (Bound::Excluded(asked.after), Bound::Unbounded);
        let is_wanted = |number: &u64| {
            self.show(*number, sight).is_some_and(|task| {
                task.is_live() != asked.stopped && task.listed_from <= sight.at && task.cluster == cluster
            })
        };
        let page = |numbers: &mut dyn Iterator<Item = u64>| -> Vec<u64> {
            numbers.filter(is_wanted).take(asked.limit.saturating_add(1)).collect()
        };
        let mut page = match asked.started_by {
            Some(by) => match self.by_starter.get(by) {
                Some(numbers) => page(&mut numbers.range(after).copied()),
                None => Vec::new(),
            },
            None if !asked.stopped => {
                let changed = self.past.changed_since(sight).filter(|number| *number > asked.after);
                let mut were_live: BTreeSet<u64> =
                    changed.filter(|number| !self.live.contains(number)).collect();
                if were_live.is_empty() {
                    page(&mut self.live.range(after).copied())
                } else {
                    were_live.extend(self.live.range(after));
                    page(&mut were_live.into_iter())
                }
            }
            None => page(&mut self.tasks.range(after).map(|(number, _)| *number)),
        };
        let more = page.len() > asked.limit;
        page.truncate(asked.limit);
        Ok((page, more))
    }

    /// DescribeClusters: running and pending tasks.
    pub fn counts(&mut self, cluster: &str, now: OffsetDateTime) -> Result<(Arc<str>, u32, u32), AwsError> {
        self.advance(now);
        let cluster = self.cluster(cluster)?;
        let of = |statuses: &[Status]| {
            let its = |task: &&Task| task.cluster == cluster && statuses.contains(&task.status);
            self.unstopped().filter(its).count() as u32
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
        // Not those either that were asked to stop: what they did last is not to be read off them.
        if !task.is_live() {
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
        self.past.changes(number, Some(task), now);
        Arc::make_mut(&mut task.tags).extend(tags.iter().cloned());
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
        let Some(number) = self.find(cluster, arn_or_id, Sight::at(now))?.map(|task| task.number) else {
            return Err(AwsError::new("InvalidParameterException", "The referenced task was not found."));
        };
        let (takes, drop_tags) = (self.stop_takes, self.stop_deletes_tags);
        if let Some(task) = self.tasks.get_mut(&number).filter(|task| task.is_live()) {
            self.past.changes(number, Some(task), now);
            self.live.remove(&number);
            task.desired_stopped = true;
            task.status = Status::Deprovisioning;
            task.stop_code = Some("UserInitiated".to_owned());
            task.stopped_reason = Some(reason.to_owned());
            if drop_tags {
                task.tags = Arc::default();
            }
            self.stopping.extend(takes.map(|takes| (now + takes, number)));
            self.changes.push((number, Status::Deprovisioning));
        }
        self.advance(now);
        Ok(number)
    }

    /// As if the task had been started on another capacity provider.
    pub fn launched_by(&mut self, number: u64, provider: &str) {
        if let Some(task) = self.tasks.get_mut(&number) {
            task.launch = Launch::Provider(provider.to_owned());
        }
    }

    /// The task's containers have started.
    pub fn start(&mut self, number: u64, now: OffsetDateTime) -> bool {
        self.advance(now);
        match self.tasks.get_mut(&number) {
            Some(task) if task.status == Status::Pending => {
                self.past.changes(number, Some(task), now);
                task.status = Status::Running;
                task.started_at = Some(now);
                self.changes.push((number, Status::Running));
                true
            }
            _ => false,
        }
    }

    /// Fargate Spot takes the task back: its containers get their SIGTERM, and it will stop before long.
    pub fn take_back(&mut self, number: u64, reason: &str, now: OffsetDateTime) {
        if let Some(task) = self.tasks.get_mut(&number).filter(|task| task.is_live()) {
            self.past.changes(number, Some(task), now);
            self.live.remove(&number);
            task.desired_stopped = true;
            task.stopping_at = Some(now);
            task.stop_code = Some("SpotInterruption".to_owned());
            task.stopped_reason = Some(reason.to_owned());
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
        let Some(task) = self.tasks.get_mut(&number).filter(|task| task.status != Status::Stopped) else {
            return false;
        };
        self.past.changes(number, Some(task), at);
        self.live.remove(&number);
        self.unstopped.remove(&number);
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
