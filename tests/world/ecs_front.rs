//! ECS over HTTP: the requests checked against the service model and the documented limits, the answers in
//! the model's shapes.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    aws::{ACCOUNT, REGION, epoch},
    aws_front::{Answer, read},
    calls::Op,
    ecs::{self, Launch, PAGE, RunTask, Task},
    lock,
    server::{Asked, Shared, invalid},
};

/// The parameters for the log.
pub fn describe(op: Op, body: &Value) -> String {
    let text = |name: &str| body[name].as_str().unwrap_or_default();
    match op {
        Op::RunTask => {
            let capacity = body["capacityProviderStrategy"][0]["capacityProvider"].as_str();
            format!("{} {}", text("clientToken"), capacity.unwrap_or_else(|| text("launchType")))
        }
        Op::ListTasks => match body["startedBy"].as_str() {
            Some(started_by) => started_by.to_owned(),
            None => format!("all {}", text("nextToken")).trim_end().to_owned(),
        },
        Op::DescribeTasks => {
            let tasks = body["tasks"].as_array().map(Vec::as_slice).unwrap_or_default();
            match tasks {
                [task] => short(task.as_str().unwrap_or_default()),
                tasks => format!("{} tasks", tasks.len()),
            }
        }
        Op::TagResource => {
            let tags = body["tags"].as_array().map(Vec::as_slice).unwrap_or_default();
            let tags = tags.iter().map(|tag| {
                format!(
                    "{}={}",
                    tag["key"].as_str().unwrap_or_default(),
                    tag["value"].as_str().unwrap_or_default()
                )
            });
            format!("{} {}", short(text("resourceArn")), tags.collect::<Vec<_>>().join(" "))
        }
        Op::StopTask => format!("{} because {}", short(text("task")), text("reason")),
        _ => body["clusters"][0].as_str().unwrap_or_default().to_owned(),
    }
}

/// `task 7` for the ARN of the seventh task.
pub fn short(arn: &str) -> String {
    let id = arn.rsplit('/').next().unwrap_or_default();
    match u64::from_str_radix(id, 16) {
        Ok(number) => format!("task {number}"),
        Err(_) => "no task of ours".to_owned(),
    }
}

pub fn act(shared: &Shared, op: Op, asked: &Asked) -> Answer {
    match op {
        Op::RunTask => run_task(shared, asked),
        Op::ListTasks => list_tasks(shared, asked),
        Op::DescribeTasks => describe_tasks(shared, asked),
        Op::DescribeClusters => describe_clusters(shared, asked),
        Op::TagResource => tag_resource(shared, asked),
        _ => stop_task(shared, asked),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RunTaskRequest {
    cluster: String,
    task_definition: String,
    count: Option<u32>,
    client_token: Option<String>,
    started_by: Option<String>,
    launch_type: Option<String>,
    #[serde(default)]
    capacity_provider_strategy: Vec<Strategy>,
    network_configuration: NetworkConfiguration,
    overrides: Option<Overrides>,
    #[serde(default)]
    tags: Vec<Tag>,
    #[serde(rename = "enableECSManagedTags")]
    enable_ecs_managed_tags: Option<bool>,
    enable_execute_command: Option<bool>,
    propagate_tags: Option<String>,
    platform_version: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Strategy {
    capacity_provider: String,
    #[serde(default)]
    weight: u32,
    #[serde(default)]
    base: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NetworkConfiguration {
    awsvpc_configuration: AwsVpc,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AwsVpc {
    subnets: Vec<String>,
    #[serde(default)]
    security_groups: Vec<String>,
    assign_public_ip: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Overrides {
    #[serde(default)]
    container_overrides: Vec<ContainerOverride>,
    cpu: Option<String>,
    memory: Option<String>,
    ephemeral_storage: Option<EphemeralStorage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ContainerOverride {
    name: String,
    #[serde(default)]
    environment: Vec<Pair>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    name: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EphemeralStorage {
    #[serde(rename = "sizeInGiB")]
    size_in_gib: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tag {
    key: String,
    value: String,
}

fn run_task(shared: &Shared, asked: &Asked) -> Answer {
    let input: RunTaskRequest = read(shared, Op::RunTask, asked)?;
    let overrides = &asked.json()["overrides"];
    if let Some(wrong) = not_runnable(&input, overrides) {
        return Err(invalid(shared, Op::RunTask, &wrong));
    }
    let launch = match (input.launch_type, input.capacity_provider_strategy.into_iter().next()) {
        (Some(launch_type), _) => Launch::Type(launch_type),
        (None, Some(strategy)) => Launch::Provider(strategy.capacity_provider),
        (None, None) => return Err(invalid(shared, Op::RunTask, "neither launchType nor a strategy")),
    };
    let overrides = input.overrides.unwrap_or(Overrides {
        container_overrides: Vec::new(),
        cpu: None,
        memory: None,
        ephemeral_storage: None,
    });
    let container = overrides.container_overrides.into_iter().next();
    let network = input.network_configuration.awsvpc_configuration;
    let request = RunTask {
        cluster: input.cluster,
        task_definition: input.task_definition,
        client_token: input.client_token,
        started_by: input.started_by.unwrap_or_default(),
        launch,
        container: container.as_ref().map(|container| container.name.clone()),
        environment: container
            .map(|container| container.environment.into_iter().map(|pair| (pair.name, pair.value)).collect())
            .unwrap_or_default(),
        cpu: overrides.cpu.and_then(|cpu| cpu.parse().ok()),
        memory: overrides.memory.and_then(|memory| memory.parse().ok()),
        disk: overrides.ephemeral_storage.map(|disk| disk.size_in_gib),
        tags: input.tags.into_iter().map(|tag| (tag.key, tag.value)).collect(),
        subnets: network.subnets,
        security_groups: network.security_groups,
        public_ip: network.assign_public_ip.as_deref() == Some("ENABLED"),
    };
    if !ecs::fargate_has(request.cpu, request.memory) {
        shared.violation(format!("RunTask: Fargate has no {:?} with {:?}", request.cpu, request.memory));
    }
    let now = shared.now();
    let mut ecs = lock(&shared.ecs);
    match ecs.run_task(&request, now)? {
        ecs::Answer::Started(number) => {
            let task = ecs.task(number).map(|task| json_task(task, false));
            let body = json!({"tasks": task.into_iter().collect::<Vec<_>>(), "failures": []});
            Ok((body, format!("task {number}")))
        }
        ecs::Answer::Refused(arn, reason) => {
            let body = json!({"tasks": [], "failures": [{"arn": arn, "reason": reason}]});
            Ok((body, "failures[]".to_owned()))
        }
    }
}

/// What the model's constraints and RunTask's documentation forbid, and what no request of this project is.
fn not_runnable(input: &RunTaskRequest, overrides: &Value) -> Option<String> {
    let wrong = |what: &str| Some(what.to_owned());
    let token = input.client_token.as_deref().unwrap_or_default();
    let started_by = input.started_by.as_deref().unwrap_or_default();
    let strategy = &input.capacity_provider_strategy;
    let network = &input.network_configuration.awsvpc_configuration;
    if input.count.is_some_and(|count| count != 1) {
        return wrong("count is not 1");
    }
    if !(1..=64).contains(&token.len()) || !token.bytes().all(|byte| (33..=126).contains(&byte)) {
        return wrong("clientToken has 1 to 64 characters of the range 33 to 126");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_/".contains(c);
    if !(1..=128).contains(&started_by.len()) || !started_by.chars().all(plain) {
        return wrong("startedBy has up to 128 letters, numbers, hyphens, slashes and underscores");
    }
    if input.launch_type.is_some() && !strategy.is_empty() {
        return wrong("launchType together with capacityProviderStrategy");
    }
    if strategy.len() > 1 {
        return wrong("more than one capacity provider: Fargate would choose");
    }
    if strategy.iter().any(|it| it.weight == 0 && it.base == 0 || it.weight > 1000 || it.base > 100_000) {
        return wrong("a strategy's weight is 0 to 1000, and not all weights are 0");
    }
    if input.launch_type.as_deref().is_some_and(|it| it != "FARGATE") {
        return wrong("launchType is not FARGATE");
    }
    if !(1..=16).contains(&network.subnets.len()) || network.security_groups.len() > 5 {
        return wrong("awsvpcConfiguration has 1 to 16 subnets and up to 5 security groups");
    }
    if !network.subnets.iter().all(|id| id.starts_with("subnet-"))
        || !network.security_groups.iter().all(|id| id.starts_with("sg-"))
    {
        return wrong("the id of a subnet or security group");
    }
    if network.assign_public_ip.as_deref().is_some_and(|it| !["ENABLED", "DISABLED"].contains(&it)) {
        return wrong("assignPublicIp is ENABLED or DISABLED");
    }
    if input.propagate_tags.as_deref().is_some_and(|it| !["TASK_DEFINITION", "SERVICE", "NONE"].contains(&it))
    {
        return wrong("propagateTags");
    }
    if input.enable_execute_command == Some(true) {
        return wrong("nobody may open a shell in a runner");
    }
    if input.platform_version.as_deref().is_some_and(str::is_empty)
        || input.enable_ecs_managed_tags == Some(false)
    {
        return wrong("platformVersion or enableECSManagedTags");
    }
    let length = if overrides.is_null() { 0 } else { overrides.to_string().chars().count() };
    if length > 8192 {
        return Some(format!("overrides of {length} characters: 8192 are allowed"));
    }
    if let Some(overrides) = &input.overrides {
        if overrides.container_overrides.len() > 1 {
            return wrong("overrides for more than one container");
        }
        let pairs = overrides.container_overrides.iter().flat_map(|container| &container.environment);
        let names: Vec<&str> = pairs.map(|pair| pair.name.as_str()).collect();
        if names.iter().any(|name| name.is_empty())
            || names.iter().collect::<BTreeSet<_>>().len() < names.len()
        {
            return wrong("an environment variable without a name, or twice");
        }
        let number = |text: &Option<String>| text.as_ref().is_none_or(|text| text.parse::<u32>().is_ok());
        if !number(&overrides.cpu) || !number(&overrides.memory) {
            return wrong("cpu and memory are numbers");
        }
    }
    bad_tags(&input.tags)
}

/// At most 50, no key twice, no `aws:`, and the characters of the model's pattern. (`is_alphabetic` is
/// slightly wider than its `\p{L}`.)
fn bad_tags(tags: &[Tag]) -> Option<String> {
    let allowed = |c: char| {
        c.is_alphabetic()
            || c.is_numeric()
            || "_.:/=+-@".contains(c)
            || (c.is_whitespace() && !c.is_control())
    };
    let keys: BTreeSet<&str> = tags.iter().map(|tag| tag.key.as_str()).collect();
    if tags.len() > 50 || keys.len() < tags.len() {
        return Some("more than 50 tags, or a key twice".to_owned());
    }
    let wrong = tags.iter().find(|tag| {
        let (key, value) = (tag.key.chars().count(), tag.value.chars().count());
        !(1..=128).contains(&key)
            || value > 256
            || tag.key.to_lowercase().starts_with("aws:")
            || !tag.key.chars().chain(tag.value.chars()).all(allowed)
    });
    wrong.map(|tag| format!("the tag {}={}", tag.key, tag.value))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ListTasks {
    cluster: String,
    started_by: Option<String>,
    family: Option<String>,
    desired_status: Option<String>,
    next_token: Option<String>,
    max_results: Option<usize>,
}

fn list_tasks(shared: &Shared, asked: &Asked) -> Answer {
    let op = Op::ListTasks;
    let input: ListTasks = read(shared, op, asked)?;
    if input.max_results.is_some_and(|most| !(1..=PAGE).contains(&most)) {
        return Err(invalid(shared, op, "maxResults is 1 to 100"));
    }
    if input.family.is_some() {
        return Err(invalid(shared, op, "startedBy must be the only filter, and this world has no other"));
    }
    let after = match &input.next_token {
        Some(token) => match token.strip_prefix("after-").and_then(|number| number.parse().ok()) {
            Some(number) => number,
            None => return Err(invalid(shared, op, "nextToken is not one of ECS's")),
        },
        None => 0,
    };
    let started_by = input.started_by.as_deref();
    let now = shared.now();
    let mut ecs = lock(&shared.ecs);
    let (numbers, more) = match input.desired_status.as_deref() {
        None | Some("RUNNING") => {
            ecs.list(&input.cluster, started_by, after, input.max_results.unwrap_or(PAGE), now)?
        }
        Some("STOPPED") => (ecs.list_stopped(&input.cluster, started_by)?, false),
        // ECS never sets a desired status of PENDING.
        Some("PENDING") => (Vec::new(), false),
        Some(_) => return Err(invalid(shared, op, "desiredStatus")),
    };
    let mut body =
        json!({"taskArns": numbers.iter().filter_map(|number| ecs.arn(*number)).collect::<Vec<_>>()});
    if let (true, Some(last)) = (more, numbers.last()) {
        body["nextToken"] = json!(format!("after-{last}"));
    }
    let plural = if numbers.len() == 1 { "" } else { "s" };
    Ok((body, format!("{} task{plural}", numbers.len())))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DescribeTasks {
    cluster: String,
    tasks: Vec<String>,
    #[serde(default)]
    include: Vec<String>,
}

fn describe_tasks(shared: &Shared, asked: &Asked) -> Answer {
    let op = Op::DescribeTasks;
    let input: DescribeTasks = read(shared, op, asked)?;
    if !(1..=PAGE).contains(&input.tasks.len()) || input.include.iter().any(|field| field != "TAGS") {
        return Err(invalid(shared, op, "1 to 100 tasks, include TAGS or nothing"));
    }
    let mut ecs = lock(&shared.ecs);
    ecs.advance(shared.clock.now());
    let (mut tasks, mut failures, mut said) = (Vec::new(), Vec::new(), Vec::new());
    for arn in &input.tasks {
        match ecs.find(&input.cluster, arn)? {
            Some(task) => {
                tasks.push(json_task(task, !input.include.is_empty()));
                said.push(task.status.as_str());
            }
            None => {
                failures.push(json!({"arn": arn, "reason": "MISSING"}));
                said.push("MISSING");
            }
        }
    }
    said.sort_unstable();
    said.dedup();
    Ok((json!({"tasks": tasks, "failures": failures}), said.join(", ")))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DescribeClusters {
    clusters: Vec<String>,
}

fn describe_clusters(shared: &Shared, asked: &Asked) -> Answer {
    let input: DescribeClusters = read(shared, Op::DescribeClusters, asked)?;
    if !(1..=100).contains(&input.clusters.len()) {
        return Err(invalid(shared, Op::DescribeClusters, "1 to 100 clusters"));
    }
    let now = shared.now();
    let mut ecs = lock(&shared.ecs);
    let (mut clusters, mut failures, mut outcome) = (Vec::new(), Vec::new(), String::new());
    for asked in &input.clusters {
        match ecs.counts(asked, now) {
            Ok((name, running, pending)) => {
                outcome = format!("{running} running, {pending} pending");
                clusters.push(json!({
                    "clusterArn": cluster_arn(&name),
                    "clusterName": name,
                    "status": "ACTIVE",
                    "registeredContainerInstancesCount": 0,
                    "runningTasksCount": running,
                    "pendingTasksCount": pending,
                    "activeServicesCount": 0,
                    "capacityProviders": ["FARGATE", "FARGATE_SPOT"],
                }));
            }
            // DescribeClusters has no ClusterNotFoundException: an unknown cluster is in `failures`.
            Err(_) => {
                outcome = "MISSING".to_owned();
                failures.push(json!({"arn": cluster_arn(asked), "reason": "MISSING"}));
            }
        }
    }
    Ok((json!({"clusters": clusters, "failures": failures}), outcome))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TagResource {
    resource_arn: String,
    tags: Vec<Tag>,
}

fn tag_resource(shared: &Shared, asked: &Asked) -> Answer {
    let input: TagResource = read(shared, Op::TagResource, asked)?;
    if let Some(wrong) = bad_tags(&input.tags) {
        return Err(invalid(shared, Op::TagResource, &wrong));
    }
    let tags: Vec<(String, String)> = input.tags.into_iter().map(|tag| (tag.key, tag.value)).collect();
    lock(&shared.ecs).tag(&input.resource_arn, &tags, shared.clock.now())?;
    Ok((json!({}), "tagged".to_owned()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StopTask {
    cluster: String,
    task: String,
    reason: Option<String>,
}

fn stop_task(shared: &Shared, asked: &Asked) -> Answer {
    let input: StopTask = read(shared, Op::StopTask, asked)?;
    let reason = input.reason.unwrap_or_default();
    // StopTask's reason: "up to 255 characters" (ECS API reference).
    if reason.is_empty() || reason.chars().count() > 255 {
        return Err(invalid(shared, Op::StopTask, "a reason has 1 to 255 characters"));
    }
    let mut ecs = lock(&shared.ecs);
    let number = ecs.stop(&input.cluster, &input.task, &reason, shared.clock.now())?;
    let task = ecs.task(number).map(|task| json_task(task, false));
    Ok((json!({"task": task}), "stopped".to_owned()))
}

fn cluster_arn(name: &str) -> String {
    if name.starts_with("arn:") {
        name.to_owned()
    } else {
        format!("arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{name}")
    }
}

/// A task in the model's shape, timestamps in seconds.
fn json_task(task: &Task, tags: bool) -> Value {
    let environment: Vec<Value> =
        task.environment.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    let mut body = json!({
        "taskArn": task.arn,
        "clusterArn": cluster_arn(&task.cluster),
        "taskDefinitionArn": format!("arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/{}", task.definition),
        "lastStatus": task.status.as_str(),
        "desiredStatus": if task.desired_stopped { "STOPPED" } else { "RUNNING" },
        "createdAt": epoch(task.created_at),
        "startedBy": task.started_by,
        "cpu": task.cpu.unwrap_or(1024).to_string(),
        "memory": task.memory.unwrap_or(3072).to_string(),
        "overrides": {"containerOverrides": [{"name": "runner", "environment": environment}]},
        "containers": [{"name": "runner", "lastStatus": task.status.as_str(), "exitCode": task.exit_code}],
        "tags": [],
    });
    match &task.launch {
        Launch::Type(launch_type) => body["launchType"] = json!(launch_type),
        Launch::Provider(provider) => body["capacityProviderName"] = json!(provider),
    }
    for (name, at) in [("startedAt", task.started_at), ("stoppedAt", task.stopped_at)] {
        if let Some(at) = at {
            body[name] = json!(epoch(at));
        }
    }
    for (name, text) in [("stopCode", &task.stop_code), ("stoppedReason", &task.stopped_reason)] {
        if let Some(text) = text {
            body[name] = json!(text);
        }
    }
    if tags {
        body["tags"] = task.tags.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
    }
    body
}
