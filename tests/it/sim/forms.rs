//! The world's facts in the library's own types, as the ports answer them; and what AWS would not take.

use gha_fargate_runners::{
    fargate::{fleet::Capacity, request::TaskRequest, size::Size, stop::Stop, tags, usage::Usage},
    ids::{RunId, RunnerId},
    ports::{Delivery, JobState, JobStatus, Registration, Source, Task, TaskArn},
};

use super::{
    messages::{Event, Which},
    text::CLUSTER,
};
use crate::model::{
    deliveries,
    ecs::{self, Launch},
    github, sqs,
};

pub fn as_runner(runner: &github::Runner) -> Registration {
    Registration {
        id: RunnerId(runner.id),
        name: runner.name.to_string(),
        online: runner.seems_online(),
        busy: runner.seems_busy(),
        labels: runner.labels.stored().map(str::to_owned).collect(),
        version: None,
    }
}

/// `None`: GitHub does not say.
pub fn as_state(job: &github::Job) -> Option<JobState> {
    job.silence.is_none().then(|| JobState {
        status: JobStatus::from(job.said_status().to_owned()),
        runner_name: job.runner.as_ref().map(|(_, name)| name.to_string()),
        labels: job.labels.written().to_vec(),
        succeeded: job.conclusion.as_deref() == Some("success"),
        since: Some(job.started_at.unwrap_or(job.created_at)),
        created_at: Some(job.created_at),
        run: Some((RunId(job.run), job.run_attempt)),
    })
}

pub fn as_delivery(delivery: &deliveries::Delivery<Event>) -> Delivery {
    Delivery {
        id: delivery.id,
        guid: delivery.guid.clone(),
        delivered_at: delivery.delivered_at,
        status: delivery.status_code,
        event: delivery.event.to_owned(),
        action: delivery.action.map(str::to_owned),
        redelivered: delivery.redelivery,
    }
}

pub fn as_task(task: &ecs::Task) -> Task {
    Task {
        arn: TaskArn(task.arn.clone()),
        live: task.is_live(),
        on_instance: !task.launch.provider().starts_with("FARGATE"),
        created_at: Some(task.created_at),
        started_at: task.started_at,
        tags: task.tags.clone(),
        definition: task.definition.clone(),
        stop: task.stopped_at.map(|_| Stop {
            started: task.started_at.is_some(),
            code: task.stop_code.clone(),
            reason: task.stopped_reason.clone(),
            exit_code: task.exit_code.map(i64::from),
            container_reason: None,
            image: None,
            stopping_at: task.stopping_at.or(task.stopped_at),
            stopped_at: task.stopped_at,
        }),
        usage: task.usage().map(|(from, until)| {
            let size = Size { cpu: task.cpu.unwrap_or(1024), memory_mib: task.memory.unwrap_or(3072) };
            let (Launch::Type(capacity) | Launch::Provider(capacity)) = &task.launch;
            Box::new(Usage::new(from, until, size, capacity.clone()))
        }),
    }
}

/// The request as it arrives at ECS.
pub fn as_request(request: &TaskRequest) -> ecs::RunTask {
    let environment = request.environment();
    ecs::RunTask {
        cluster: CLUSTER.to_owned(),
        task_definition: request.task_definition.clone(),
        client_token: Some(request.client_token.clone()),
        started_by: request.started_by.clone(),
        launch: match &request.capacity {
            Capacity::LaunchType => Launch::Type("FARGATE".to_owned()),
            capacity => Launch::Provider(capacity.to_string()),
        },
        container: None,
        environment: environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        cpu: request.size.map(|size| size.cpu),
        memory: request.size.map(|size| size.memory_mib),
        disk: request.disk_gib,
        tags: request.tags.clone(),
        subnets: Vec::new(),
        security_groups: Vec::new(),
        public_ip: false,
    }
}

/// What ECS would not take.
pub fn unacceptable(request: &TaskRequest) -> Option<&'static str> {
    let valid = |text: &str| text.chars().all(|c| c.is_alphanumeric() || " +-=._:/@".contains(c));
    match () {
        () if request.client_token.len() > 64 => Some("a clientToken of more than 64 characters"),
        () if request.started_by.len() > 128 => Some("a startedBy of more than 128 characters"),
        () if request.tags.len() > 50 => Some("more than 50 tags"),
        () if request.tags.iter().any(|(_, value)| value.chars().count() > 256 || !valid(value)) => {
            Some("a tag value that AWS does not take")
        }
        () if !request.tags.iter().any(|(key, _)| key == tags::RUNNER_NAME) => Some("no runner's name"),
        () if request.overrides_length("runner") > 8192 => Some("overrides of more than 8192 characters"),
        () => None,
    }
}

/// Where a message came from: the job is added to its receipt handle, so that what is done with it can be told of the
/// job.
pub fn source(which: Which, receipt_handle: &str, job: u64) -> Source {
    Source { queue_arn: sqs::arn(which.queue()), receipt_handle: format!("{receipt_handle}/{job}") }
}

/// Queue, receipt handle and job.
pub fn receipt(source: &Source) -> (Which, &str, u64) {
    let (handle, job) = source.receipt_handle.rsplit_once('/').unwrap_or_default();
    let of = |which: &Which| handle.split('/').next() == Some(which.queue());
    let which = Which::ALL.into_iter().find(of).unwrap_or(Which::Lifecycle);
    (which, handle, job.parse().unwrap_or_default())
}

pub fn number_after(text: &str, mark: &str) -> Option<u64> {
    let rest = &text[text.find(mark)? + mark.len()..];
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// Named so that the story can say what a message was.
pub fn is_replacement(body: &str) -> bool {
    body.starts_with("{\"replacement\":")
}
