//! ECS over HTTP: the requests checked against the service model and the documented limits, the answers in
//! the model's shapes.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    aws::{Answer, read},
    calls::Op,
    ecs_requests::{RunTaskRequest, Tag, bad_tags, not_runnable},
    lock,
    server::{Asked, Shared, invalid},
};
use crate::model::{
    aws::{ACCOUNT, REGION, epoch},
    ecs::{self, Launch, ListTasks, PAGE, RunTask, Task},
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
    let overrides = input.overrides.unwrap_or_default();
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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ListTasksRequest {
    cluster: String,
    started_by: Option<String>,
    family: Option<String>,
    desired_status: Option<String>,
    next_token: Option<String>,
    max_results: Option<usize>,
}

fn list_tasks(shared: &Shared, asked: &Asked) -> Answer {
    let op = Op::ListTasks;
    let input: ListTasksRequest = read(shared, op, asked)?;
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
    let stopped = match input.desired_status.as_deref() {
        None | Some("RUNNING") => false,
        Some("STOPPED") => true,
        // ECS never sets a desired status of PENDING: nobody needs a list of those.
        Some(_) => return Err(invalid(shared, op, "desiredStatus")),
    };
    let (cluster, started_by) = (input.cluster.as_str(), input.started_by.as_deref());
    let wanted = ListTasks { cluster, started_by, stopped, after, limit: input.max_results.unwrap_or(PAGE) };
    let mut ecs = lock(&shared.ecs);
    let (numbers, more) = ecs.list(&wanted, asked.sight, shared.now())?;
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
        match ecs.find(&input.cluster, arn, asked.sight)? {
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

/// Its containers, in DescribeTasks and in events.
pub fn json_containers(task: &Task) -> Value {
    let container = |(name, exit_code): (&str, Option<i32>)| {
        let image = match name {
            "runner" => "ghcr.io/actions/actions-runner:latest",
            _ => "registry.test/another:1",
        };
        json!({"name": name, "image": image, "lastStatus": task.status.as_str(), "exitCode": exit_code})
    };
    task.containers().map(container).collect()
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
        "containers": json_containers(task),
        "tags": [],
    });
    match &task.launch {
        Launch::Type(launch_type) => body["launchType"] = json!(launch_type),
        Launch::Provider(provider) => body["capacityProviderName"] = json!(provider),
    }
    let pull_started_at = task.started_at.and(Some(task.created_at));
    // A Spot task gets its SIGTERM, and has half a minute.
    let stopping_at = task.stopped_at.map(|at| at - time::Duration::seconds(30));
    let times = [
        ("pullStartedAt", pull_started_at),
        ("startedAt", task.started_at),
        ("stoppingAt", stopping_at),
        ("stoppedAt", task.stopped_at),
    ];
    for (name, at) in times {
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
