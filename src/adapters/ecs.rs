//! ECS: the tasks.

mod lost;

use std::sync::Arc;

use aws_sdk_ecs::{
    Client, Config,
    error::SdkError,
    operation::run_task::{RunTaskError, RunTaskOutput, builders::RunTaskFluentBuilder},
    types::{
        AssignPublicIp, AwsVpcConfiguration, CapacityProviderStrategyItem, ContainerOverride, DesiredStatus,
        EphemeralStorage, KeyValuePair, LaunchType, NetworkConfiguration, PropagateTags, Tag, TaskField,
        TaskOverride,
    },
};
use time::OffsetDateTime;

use self::lost::LostTry;
use super::aws::{OVER_QUOTA, call_error, call_error_unrepeatable, class_of_words};
use crate::{
    error::{CallError, Class},
    fargate::{
        fleet::Network,
        request::TaskRequest,
        size::Size,
        stop::{Container, Stop},
        tags::TaskTags,
        usage::Usage,
    },
    ids::{RunnerNames, is_ours},
    ports::{FindTasks, RunTask, StartTasks, Started, Task, TaskArn, Tasks, TendTasks},
};

/// DescribeTasks: "a list of up to 100 task IDs or full ARN entries".
const DESCRIBE_AT_ONCE: usize = 100;
/// Pages of 100 tasks that one list may have: more tasks than GitHub takes registrations in an hour (1,500 in five
/// minutes). A list that is said to be longer has no end.
const MOST_PAGES: usize = 200;

/// The tasks of one fleet in one cluster, which may have those of others.
#[derive(Debug, Clone)]
pub struct Ecs {
    client: Client,
    cluster: String,
    names: RunnerNames,
}

/// A cluster, and what is needed to start tasks in it.
#[derive(Debug, Clone)]
pub struct EcsStarter {
    tasks: Ecs,
    container: String,
    network: Network,
}

impl Ecs {
    /// The tasks in `cluster` (name or ARN) whose runners have such `names`.
    pub fn new(config: &aws_config::SdkConfig, cluster: String, names: RunnerNames) -> Self {
        Ecs { client: Client::new(config), cluster, names }
    }

    /// With what is needed to start tasks: the container that gets the overrides, and the network.
    pub fn starter(self, container: String, network: &Network) -> Result<EcsStarter, CallError> {
        if network.subnets.is_empty() {
            return Err(CallError::new(Class::NeedsOperator, "SUBNET_IDS: at least one subnet is needed"));
        }
        Ok(EcsStarter { tasks: self, container, network: network.clone() })
    }

    async fn list(&self, status: DesiredStatus, started_by: Option<&str>) -> Result<Vec<String>, CallError> {
        let mut arns = Vec::new();
        let mut next = None;
        for _ in 0..MOST_PAGES {
            let page = self
                .client
                .list_tasks()
                .cluster(&self.cluster)
                .desired_status(status.clone())
                .set_started_by(started_by.map(str::to_owned))
                .set_next_token(next.clone())
                .send()
                .await
                .map_err(|error| call_error(&error, "ecs:ListTasks"))?;
            arns.extend(page.task_arns.unwrap_or_default());
            let token = page.next_token.filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(arns);
            }
            // The page that was just read again: so it would go on for ever.
            if token == next {
                break;
            }
            next = token;
        }
        Err(CallError::new(Class::Transient, "ecs:ListTasks: the list does not end"))
    }

    /// One page.
    async fn list_some(&self, status: DesiredStatus) -> Result<Vec<String>, CallError> {
        let page = self.client.list_tasks().cluster(&self.cluster).desired_status(status).send().await;
        let page = page.map_err(|error| call_error(&error, "ecs:ListTasks"))?;
        Ok(page.task_arns.unwrap_or_default())
    }

    /// This fleet's tasks among those.
    async fn describe_all(&self, arns: &[String]) -> Result<Vec<Task>, CallError> {
        let mut tasks = Vec::with_capacity(arns.len());
        for arns in arns.chunks(DESCRIBE_AT_ONCE) {
            let described = self.describe_some(arns).await?;
            tasks.extend(described.filter(|task| !TaskTags(&task.tags).is_foreign(&self.names)));
        }
        Ok(tasks)
    }

    /// Up to a hundred. What ECS tells of each has the runner's configuration in it, a few kB: nobody keeps that.
    async fn describe_some(&self, arns: &[String]) -> Result<impl Iterator<Item = Task> + use<>, CallError> {
        let answer = self
            .client
            .describe_tasks()
            .cluster(&self.cluster)
            .set_tasks(Some(arns.to_vec()))
            .include(TaskField::Tags)
            .send()
            .await
            .map_err(|error| call_error(&error, "ecs:DescribeTasks"))?;
        // Tasks that ECS has forgotten are in `failures`, as MISSING: they are simply not there.
        let ours = answer.tasks.unwrap_or_default().into_iter();
        Ok(ours.filter(|task| task.started_by().is_some_and(is_ours)).filter_map(read_task))
    }
}

fn time(at: Option<aws_smithy_types::DateTime>) -> Option<OffsetDateTime> {
    at.and_then(|at| OffsetDateTime::from_unix_timestamp(at.secs()).ok())
}

fn read_task(task: aws_sdk_ecs::types::Task) -> Option<Task> {
    let stop = (task.last_status.as_deref() == Some("STOPPED")).then(|| read_stop(&task));
    let usage = time(task.pull_started_at).zip(time(task.stopped_at)).and_then(|(from, until)| {
        let number = |text: &Option<String>| text.as_deref()?.parse().ok();
        let size = Size { cpu: number(&task.cpu)?, memory_mib: number(&task.memory)? };
        let launch_type = || task.launch_type.as_ref().map(|kind| kind.as_str().to_owned());
        let capacity = task.capacity_provider_name.clone().or_else(launch_type)?;
        Some(Box::new(Usage::new(from, until, size, capacity)))
    });
    let on_instance = match &task.capacity_provider_name {
        Some(provider) => !provider.starts_with("FARGATE"),
        None => task.launch_type.as_ref().is_some_and(|kind| *kind != LaunchType::Fargate),
    };
    Some(Task {
        arn: TaskArn(task.task_arn?),
        definition: task.task_definition_arn.unwrap_or_default(),
        stop,
        usage,
        live: task.desired_status.as_deref() != Some("STOPPED")
            && task.last_status.as_deref() != Some("STOPPED"),
        on_instance,
        created_at: time(task.created_at),
        started_at: time(task.started_at),
        tags: Arc::new(
            task.tags
                .unwrap_or_default()
                .into_iter()
                .filter_map(|tag| Some((tag.key?, tag.value.unwrap_or_default())))
                .collect(),
        ),
    })
}

fn read_stop(task: &aws_sdk_ecs::types::Task) -> Stop {
    let container = |it: &aws_sdk_ecs::types::Container| Container {
        name: it.name.clone(),
        exit_code: it.exit_code.map(i64::from),
        reason: it.reason.clone(),
        image: it.image.clone(),
    };
    let containers: Vec<Container> = task.containers().iter().map(container).collect();
    let stop = Stop {
        started: task.started_at.is_some(),
        code: task.stop_code.as_ref().map(|code| code.as_str().to_owned()),
        stopping_at: time(task.stopping_at),
        stopped_at: time(task.stopped_at),
        reason: task.stopped_reason.clone(),
        ..Stop::default()
    };
    stop.with_containers(&containers, runner_container(task))
}

/// The name of the runner's container: RunTask gives overrides to no other.
fn runner_container(task: &aws_sdk_ecs::types::Task) -> Option<&str> {
    task.overrides()?.container_overrides().first()?.name()
}

impl FindTasks for Ecs {
    async fn live_tasks(&self) -> Result<Vec<Task>, CallError> {
        let arns = self.list(DesiredStatus::Running, None).await?;
        self.describe_all(&arns).await
    }

    async fn tasks_started_by(&self, started_by: &str) -> Result<Vec<Task>, CallError> {
        // RUNNING is the desired status of every task that is not stopped or stopping, PENDING ones too.
        let arns = self.list(DesiredStatus::Running, Some(started_by)).await?;
        self.describe_all(&arns).await
    }

    async fn ended_tasks(&self, started_by: Option<&str>) -> Result<Vec<Task>, CallError> {
        let arns = self.list(DesiredStatus::Stopped, started_by).await?;
        self.describe_all(&arns).await
    }

    async fn some_tasks(&self, which: Tasks) -> Result<Vec<Task>, CallError> {
        let status = match which {
            Tasks::Live => DesiredStatus::Running,
            Tasks::Ended => DesiredStatus::Stopped,
        };
        let arns = self.list_some(status).await?;
        self.describe_all(&arns).await
    }

    async fn describe(&self, arn: &TaskArn) -> Result<Option<Task>, CallError> {
        Ok(self.describe_some(std::slice::from_ref(&arn.0)).await?.next())
    }
}

impl TendTasks for Ecs {
    async fn stop(&self, arn: &TaskArn, reason: &str) -> Result<(), CallError> {
        let stopped = self.client.stop_task().cluster(&self.cluster).task(&arn.0).reason(reason).send().await;
        match stopped {
            Ok(_) => Ok(()),
            Err(error) if is_gone(&error) => Ok(()),
            Err(error) => Err(call_error(&error, "ecs:StopTask")),
        }
    }

    async fn tag(&self, arn: &TaskArn, tags: &[(String, String)]) -> Result<bool, CallError> {
        let tagged =
            self.client.tag_resource().resource_arn(&arn.0).set_tags(Some(sdk_tags(tags))).send().await;
        match tagged {
            Ok(_) => Ok(true),
            Err(error) if is_gone(&error) => Ok(false),
            Err(error) => Err(call_error(&error, "ecs:TagResource")),
        }
    }
}

/// StopTask and TagResource answer InvalidParameterException ("The referenced task was not found", "The
/// specified task is stopped") for a task that is stopped or forgotten, as does ResourceNotFoundException.
fn is_gone<E: aws_smithy_types::error::metadata::ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> bool {
    let text = error.as_service_error().and_then(|error| error.message()).unwrap_or_default();
    match error.as_service_error().and_then(|error| error.code()) {
        Some("ResourceNotFoundException") => true,
        Some("InvalidParameterException" | "ClientException") => {
            text.contains("not found") || text.contains("stopped") || text.contains("STOPPED")
        }
        _ => false,
    }
}

fn sdk_tags(tags: &[(String, String)]) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

impl FindTasks for EcsStarter {
    async fn live_tasks(&self) -> Result<Vec<Task>, CallError> {
        self.tasks.live_tasks().await
    }

    async fn tasks_started_by(&self, started_by: &str) -> Result<Vec<Task>, CallError> {
        self.tasks.tasks_started_by(started_by).await
    }

    async fn ended_tasks(&self, started_by: Option<&str>) -> Result<Vec<Task>, CallError> {
        self.tasks.ended_tasks(started_by).await
    }

    async fn some_tasks(&self, which: Tasks) -> Result<Vec<Task>, CallError> {
        self.tasks.some_tasks(which).await
    }

    async fn describe(&self, arn: &TaskArn) -> Result<Option<Task>, CallError> {
        self.tasks.describe(arn).await
    }
}

impl StartTasks for EcsStarter {
    async fn run_task(&self, request: &TaskRequest) -> Result<RunTask, CallError> {
        let lost = LostTry::default();
        let watched = Config::builder().retry_classifier(lost.clone());
        let answer = match self.request(request)?.customize().config_override(watched).send().await {
            Ok(answer) => read_answer(answer),
            Err(error) => match error.as_service_error() {
                // The token was used with other parameters. That is news, not an error.
                Some(RunTaskError::ConflictException(conflict)) => {
                    Ok(RunTask::Conflict(conflict.resource_ids().iter().cloned().map(TaskArn).collect()))
                }
                _ => Err(call_error_unrepeatable(&error, "ecs:RunTask")),
            },
        };
        answer.map_err(|error| lost.judge(error))
    }

    async fn task_count(&self) -> Result<u32, CallError> {
        let answer = self
            .tasks
            .client
            .describe_clusters()
            .clusters(&self.tasks.cluster)
            .send()
            .await
            .map_err(|error| call_error(&error, "ecs:DescribeClusters"))?;
        let cluster = answer.clusters().first().ok_or_else(|| {
            CallError::new(
                Class::NeedsOperator,
                "ecs:DescribeClusters: ECS_CLUSTER names a cluster that is not there",
            )
        })?;
        let count = cluster.running_tasks_count().saturating_add(cluster.pending_tasks_count());
        Ok(u32::try_from(count).unwrap_or_default())
    }
}

impl EcsStarter {
    fn request(&self, request: &TaskRequest) -> Result<RunTaskFluentBuilder, CallError> {
        let call = self
            .tasks
            .client
            .run_task()
            .cluster(&self.tasks.cluster)
            .task_definition(&request.task_definition)
            .count(1)
            .client_token(&request.client_token)
            .started_by(&request.started_by)
            .network_configuration(network(request, &self.network)?)
            .overrides(self.overrides(request))
            .enable_ecs_managed_tags(true)
            // The stack's own tags: an account may demand some of every task.
            .propagate_tags(PropagateTags::TaskDefinition)
            .set_tags(Some(sdk_tags(&request.tags)));
        // One or the other: ECS refuses both together.
        Ok(match request.capacity.provider() {
            Some(provider) => {
                let item =
                    CapacityProviderStrategyItem::builder().capacity_provider(provider).weight(1).build();
                call.set_capacity_provider_strategy(Some(vec![item.map_err(|_| {
                    CallError::new(Class::Invalid, "ecs:RunTask: a capacity provider without a name")
                })?]))
            }
            None => call.launch_type(LaunchType::Fargate),
        })
    }

    fn overrides(&self, request: &TaskRequest) -> TaskOverride {
        let environment = request
            .environment()
            .into_iter()
            .map(|(name, value)| KeyValuePair::builder().name(name).value(value).build())
            .collect();
        let container =
            ContainerOverride::builder().name(&self.container).set_environment(Some(environment)).build();
        TaskOverride::builder()
            .container_overrides(container)
            .set_cpu(request.size.map(|size| size.cpu.to_string()))
            .set_memory(request.size.map(|size| size.memory_mib.to_string()))
            .set_ephemeral_storage(request.disk_gib.map(|gib| {
                EphemeralStorage::builder().size_in_gib(i32::try_from(gib).unwrap_or(i32::MAX)).build()
            }))
            .build()
    }
}

/// Only tasks on Fargate can have a public address of their own.
fn network(request: &TaskRequest, stack: &Network) -> Result<NetworkConfiguration, CallError> {
    let network = request.network.as_ref().unwrap_or(stack);
    let public_ip = match network.public_ip && request.capacity.is_fargate() {
        true => AssignPublicIp::Enabled,
        false => AssignPublicIp::Disabled,
    };
    let vpc = AwsVpcConfiguration::builder()
        .set_subnets(Some(network.subnets.clone()))
        .set_security_groups(Some(network.security_groups.clone()))
        .assign_public_ip(public_ip)
        .build()
        .map_err(|_| CallError::new(Class::NeedsOperator, "ecs:RunTask: at least one subnet is needed"))?;
    Ok(NetworkConfiguration::builder().awsvpc_configuration(vpc).build())
}

/// 200 OK is no success by itself: what could not be placed is in `failures`. An answer that names neither a task
/// nor a failure tells nothing: another capacity must not be tried, the task may be there.
fn read_answer(answer: RunTaskOutput) -> Result<RunTask, CallError> {
    if let Some(task) = answer.tasks().first()
        && let Some(arn) = task.task_arn()
    {
        let number = |text: Option<&str>| text.and_then(|text| text.parse().ok());
        let size = number(task.cpu()).zip(number(task.memory()));
        let name = runner_container(task);
        let mut its = task.containers().iter().filter(|it| name.is_none() || it.name() == name);
        let image = its.find_map(|container| container.image.as_ref());
        return Ok(RunTask::Started(Started {
            arn: TaskArn(arn.to_owned()),
            definition: task.task_definition_arn().map(str::to_owned),
            image: image.cloned(),
            size: size.map(|(cpu, memory_mib)| Size { cpu, memory_mib }),
        }));
    }
    let failure = answer.failures().first().filter(|_| answer.tasks().is_empty()).ok_or_else(|| {
        CallError::new(Class::Unknown, "ecs:RunTask: the answer names neither a task nor a failure")
    })?;
    Err(not_placed(failure.reason().unwrap_or_default()))
}

/// Why ECS has placed no task, by the `reason` of a failure, which is not passed on. RESOURCE, AGENT, ATTRIBUTE and
/// LOCATION are said of instances, Fargate's own reasons in words:
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/api_failures_messages.html>.
fn not_placed(reason: &str) -> CallError {
    let (class, what) = match reason.split(':').next().unwrap_or_default() {
        "MISSING" | "INACTIVE" => {
            (Class::NeedsOperator, "it is missing or inactive: check ECS_CLUSTER and TASK_DEFINITION")
        }
        // `RESOURCE:CPU`, `RESOURCE:MEMORY`, `RESOURCE:ENI`, …: until there is another instance.
        "RESOURCE" => (Class::NoCapacity, "no instance of the capacity provider has room at the moment"),
        // It "disconnects and reconnects several times per hour as a part of its normal operation".
        "AGENT" => (Class::Transient, "the agent of the capacity provider's instance is not connected"),
        "ATTRIBUTE" => (
            Class::NeedsOperator,
            "no instance of the capacity provider has what TASK_DEFINITION requires (architecture, network mode, …)",
        ),
        "LOCATION" => (
            Class::NeedsOperator,
            "the capacity provider's instances are in other zones than the subnets: check SUBNET_IDS, or the \
             class's subnet_ids",
        ),
        _ => match class_of_words(reason) {
            Some(Class::NoCapacity) => (
                Class::NoCapacity,
                "Fargate has no capacity at the moment (more subnets in other zones may help)",
            ),
            Some(Class::OverQuota) => (Class::OverQuota, OVER_QUOTA),
            Some(class) => (class, "throttled"),
            // Another capacity may have a place, and this one later.
            None => (
                Class::NoCapacity,
                "no task was placed, for a reason that this program does not know: CloudTrail has it, in the answer \
                 to RunTask",
            ),
        },
    };
    CallError::new(class, format!("ecs:RunTask: {what}"))
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecs::types::Failure;

    use super::*;

    #[test]
    fn each_reason_for_which_nothing_is_placed_has_its_own_fix() {
        let table = [
            (
                "Capacity is unavailable at this time. Please try again later",
                Class::NoCapacity,
                "more subnets",
            ),
            ("RESOURCE:MEMORY", Class::NoCapacity, "no instance of the capacity provider has room"),
            ("RESOURCE:ENI", Class::NoCapacity, "no instance of the capacity provider has room"),
            (
                "You've reached the limit on the number of vCPUs you can run concurrently",
                Class::OverQuota,
                "Service Quotas",
            ),
            ("Rate exceeded", Class::Transient, "throttled"),
            ("AGENT", Class::Transient, "agent"),
            ("ATTRIBUTE", Class::NeedsOperator, "TASK_DEFINITION"),
            ("LOCATION", Class::NeedsOperator, "subnets"),
            ("MISSING", Class::NeedsOperator, "ECS_CLUSTER"),
            ("INACTIVE", Class::NeedsOperator, "ECS_CLUSTER"),
            ("Something new about 123456789012", Class::NoCapacity, "does not know"),
            ("", Class::NoCapacity, "does not know"),
        ];
        for (reason, class, words) in table {
            let failure = Failure::builder().reason(reason).detail("123456789012").build();
            let error = read_answer(RunTaskOutput::builder().failures(failure).build()).expect_err(reason);
            assert_eq!(error.class, class, "{reason}: {error}");
            assert!(error.message.starts_with("ecs:RunTask: ") && error.message.contains(words), "{error}");
            assert_eq!(error.message.contains("Fargate has no capacity"), words == "more subnets", "{error}");
            assert!(!error.message.contains("123456789012"), "{error}");
        }
    }
}
