//! The world's facts in the library's own types, as the ports answer them; and what AWS would not take.

use gha_fargate_runners::{
    fargate::{request::TaskRequest, tags},
    ids::RunnerId,
    ports::{Delivery, JobState, JobStatus, Registration, Source, Task, TaskArn},
};

use super::{
    ecs,
    messages::Event,
    sqs::Which,
    text::{arn, time},
};
use crate::model::{deliveries, github};

pub fn as_runner(runner: &github::Runner) -> Registration {
    Registration {
        id: RunnerId(runner.id),
        name: runner.name.to_string(),
        online: runner.online,
        busy: runner.busy,
        labels: runner.labels.stored().map(str::to_owned).collect(),
        version: None,
    }
}

pub fn as_state(job: &github::Job) -> JobState {
    JobState {
        status: match job.status {
            github::JobStatus::Queued => JobStatus::Queued,
            github::JobStatus::Waiting => JobStatus::Waiting,
            github::JobStatus::InProgress => JobStatus::InProgress,
            github::JobStatus::Completed => JobStatus::Completed,
        },
        runner_name: job.runner.as_ref().map(|(_, name)| name.to_string()),
        labels: job.labels.written().to_vec(),
    }
}

pub fn as_delivery(delivery: &deliveries::Delivery<Event>) -> Delivery {
    Delivery {
        id: delivery.id,
        guid: delivery.guid.clone(),
        delivered_at: delivery.delivered_at,
        delivered: delivery.status_code < 400,
        event: delivery.event.to_owned(),
        action: delivery.action.map(str::to_owned),
    }
}

pub fn as_task(task: &ecs::Task) -> Task {
    Task {
        arn: TaskArn(arn(task.id, task.job)),
        live: task.is_live(),
        created_at: Some(time(task.created_at)),
        started_at: task.started_at.map(time),
        tags: task.tags.clone(),
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

/// A receipt handle: queue, message, receipt, job.
pub fn source(which: Which, message: u64, receipt: u64, job: u64) -> Source {
    let queue = if which == Which::Jobs { "jobs" } else { "lifecycle" };
    Source {
        queue_arn: format!("arn:aws:sqs:eu-central-1:1:{queue}"),
        receipt_handle: format!("{queue}/{message}/{receipt}/{job}"),
    }
}

pub fn receipt(source: &Source) -> (Which, u64, u64, u64) {
    let mut parts = source.receipt_handle.split('/');
    let which = if parts.next() == Some("jobs") { Which::Jobs } else { Which::Lifecycle };
    let mut number = || parts.next().and_then(|part| part.parse().ok()).unwrap_or_default();
    (which, number(), number(), number())
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
