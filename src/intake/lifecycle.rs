//! What arrives on the lifecycle queue: jobs that were taken or are over, tasks that stopped, and the clock.

use serde::Deserialize;
use time::OffsetDateTime;

use crate::{
    exit::ExitReason,
    intake::payload::{self, Message, Unreadable, WorkflowJob},
    ports::TaskArn,
};

/// A message of the lifecycle queue, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lifecycle {
    /// A `workflow_job` event.
    Job(Box<WorkflowJob>),
    /// `ECS Task State Change` with `lastStatus` STOPPED.
    TaskStopped(StoppedTask),
    /// The schedule: time for a sweep.
    Sweep {
        /// When it was due.
        scheduled: OffsetDateTime,
    },
    /// Something else.
    Other(String),
}

/// A task that stopped, as its event tells it. Tags are not in the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoppedTask {
    /// Its ARN.
    pub arn: TaskArn,
    /// Its cluster's ARN.
    pub cluster_arn: String,
    /// `startedBy`.
    pub started_by: String,
    /// Whether its containers ever started.
    pub started: bool,
    /// `stopCode`, e.g. `SpotInterruption`.
    pub stop_code: Option<String>,
    /// `stoppedReason`, a sentence.
    pub stopped_reason: Option<String>,
    /// The exit code of the first container that has one.
    pub exit_code: Option<i64>,
    /// What ECS says of a container beside that, e.g. that its image could not be pulled or its memory was used up.
    pub container_reason: Option<String>,
    /// The image of the first container that names one.
    pub image: Option<String>,
}

/// Of what a job was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lost {
    /// Fargate Spot took the task back.
    Interrupted,
    /// Its memory was used up.
    OutOfMemory,
    /// Anything else.
    #[default]
    Otherwise,
}

impl Lost {
    /// The metric's name.
    pub fn metric(self) -> &'static str {
        match self {
            Lost::Interrupted => "Interrupted",
            Lost::OutOfMemory => "OutOfMemory",
            Lost::Otherwise => "Lost",
        }
    }
}

impl StoppedTask {
    /// Why it stopped, for people.
    pub fn why(&self) -> String {
        let part = |text: &Option<String>| text.clone().unwrap_or_else(|| "none given".to_owned());
        let exit_code = self.exit_code.map_or_else(|| "none".to_owned(), |code| code.to_string());
        let container = self.container_reason.iter().filter(|&it| Some(it) != self.stopped_reason.as_ref());
        let container: String = container.map(|reason| format!("; {reason}")).collect();
        // Only where it is to be mended.
        let image = self.image.iter().filter(|_| self.fix().is_some());
        let image: String = image.map(|image| format!("; image {image}")).collect();
        format!(
            "{} ({}), exit code {exit_code}{container}{image}",
            part(&self.stopped_reason),
            part(&self.stop_code)
        )
    }

    /// Whether it certainly never registered a runner, by what ECS alone knows: for container-minted runners,
    /// whose registration this system cannot look at.
    pub fn never_registered(&self) -> bool {
        !self.started || self.exit().is_some_and(ExitReason::owes_a_runner)
    }

    /// How the installation is to be mended, when it is its fault and not the job's: the next task would end the
    /// same way.
    pub fn fix(&self) -> Option<&'static str> {
        if let Some(exit) = self.exit().filter(|exit| exit.needs_operator()) {
            return Some(match exit {
                ExitReason::VersionDeprecated => {
                    "GitHub gives this runner's version no jobs: deploy an image with the newest one \
                     (RunnerImage, or build image/ again)"
                }
                ExitReason::Configuration | ExitReason::Refused => {
                    "mend the task definition's environment or the secret; the container's log says which"
                }
                _ => "the image has no such command: mend the image, or the task definition's command",
            });
        }
        // ECS's error types for a task that could not start
        // (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html>).
        let reasons = [&self.stopped_reason, &self.container_reason];
        let cannot_pull = reasons.into_iter().flatten().any(|text| text.contains("CannotPullContainer"));
        cannot_pull.then_some("the image cannot be pulled: check its name, the registry and the way to it")
    }

    /// Whether its container says that the job was over before it.
    pub fn ended_in_order(&self) -> bool {
        matches!(self.exit(), Some(ExitReason::Ended(0) | ExitReason::Hung))
    }

    /// What a job that went with it is counted as.
    pub fn lost(&self) -> Lost {
        let says = |word: &str| {
            [&self.stopped_reason, &self.container_reason]
                .into_iter()
                .flatten()
                .any(|text| text.contains(word))
        };
        match self.stop_code.as_deref() {
            Some("SpotInterruption") => Lost::Interrupted,
            _ if says("OutOfMemory") => Lost::OutOfMemory,
            _ => Lost::Otherwise,
        }
    }

    fn exit(&self) -> Option<ExitReason> {
        self.exit_code.and_then(|code| u8::try_from(code).ok()).map(ExitReason::from_code)
    }
}

/// Reads a message body.
pub fn read(body: &str) -> Result<Lifecycle, Unreadable> {
    let envelope: Result<Envelope, _> = payload::read_json(body, "");
    match envelope {
        Ok(Envelope { detail_type, .. }) if detail_type == "ECS Task State Change" => {
            let event: TaskEvent = payload::read_json(body, "")?;
            read_task(event.detail)
        }
        Ok(Envelope { detail_type, time }) if detail_type == "Scheduled Event" => {
            let time = time.unwrap_or_default();
            let scheduled = payload::rfc3339(&time)
                .ok_or_else(|| Unreadable("time is no time like 2026-11-24T08:00:00Z".into()))?;
            Ok(Lifecycle::Sweep { scheduled })
        }
        // A `workflow_job` event in its envelope or bare, or something unreadable: `job` says what.
        _ => Ok(match payload::read(body)? {
            Message::WorkflowJob(event) => Lifecycle::Job(event),
            Message::Replacement(_) => Lifecycle::Other("a message for the job queue".into()),
            Message::OtherEvent(what) => Lifecycle::Other(what),
        }),
    }
}

fn read_task(task: TaskDetail) -> Result<Lifecycle, Unreadable> {
    if task.last_status != "STOPPED" {
        return Ok(Lifecycle::Other("a task that has not stopped".into()));
    }
    if !is_task_arn(&task.task_arn) {
        return Err(Unreadable("detail.taskArn is no task's ARN".into()));
    }
    Ok(Lifecycle::TaskStopped(StoppedTask {
        arn: TaskArn(task.task_arn),
        cluster_arn: task.cluster_arn,
        started_by: task.started_by.unwrap_or_default(),
        started: task.started_at.is_some(),
        stop_code: task.stop_code,
        stopped_reason: task.stopped_reason,
        exit_code: task.containers.iter().find_map(|container| container.exit_code),
        image: task.containers.iter().find_map(|container| container.image.clone()),
        container_reason: task.containers.into_iter().find_map(|container| container.reason),
    }))
}

/// `arn:aws:ecs:eu-central-1:123456789012:task/cluster/0123456789abcdef0`, of whichever partition, and in accounts of
/// before 2018 without the cluster.
fn is_task_arn(text: &str) -> bool {
    const LONGEST_ARN: usize = 2048;
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let ["arn", _, "ecs", _, _, resource] = parts.as_slice() else { return false };
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":/-_".contains(&byte);
    resource.starts_with("task/") && text.len() <= LONGEST_ARN && text.bytes().all(is_allowed)
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "detail-type")]
    detail_type: String,
    time: Option<String>,
}

#[derive(Deserialize)]
struct TaskEvent {
    detail: TaskDetail,
}

/// `detail` of an ECS task state change event
/// (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_task_events.html>), or what the rule
/// `TaskStoppedRule` in template.yaml leaves of it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TaskDetail {
    task_arn: String,
    cluster_arn: String,
    last_status: String,
    #[serde(default, deserialize_with = "given")]
    started_by: Option<String>,
    #[serde(default, deserialize_with = "given")]
    started_at: Option<String>,
    #[serde(default, deserialize_with = "given")]
    stop_code: Option<String>,
    #[serde(default, deserialize_with = "given")]
    stopped_reason: Option<String>,
    #[serde(default)]
    containers: Vec<Container>,
}

/// Text that the event really had. Of a path that the event has not, EventBridge says only that its variable "won't
/// appear in the output" of an input transformer: `""`, or the bare `"<variable>"`, is no text.
/// (<https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html>)
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let is_variable = |text: &str| text.starts_with('<') && text.ends_with('>');
    Ok(text.filter(|text| !text.is_empty() && !is_variable(text)))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    exit_code: Option<i64>,
    reason: Option<String>,
    image: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ARN: &str = "arn:aws:ecs:eu-central-1:123456789012:task/runners/0123456789abcdef0123456789abcdef";

    #[test]
    fn a_task_is_named_by_its_arn() {
        for arn in
            [ARN, "arn:aws-us-gov:ecs:us-gov-west-1:1:task/0123", "arn:aws-cn:ecs:cn-north-1:1:task/a/b"]
        {
            assert!(is_task_arn(arn), "{arn}");
        }
        let long = format!("arn:aws:ecs:eu-central-1:1:task/{}", "x".repeat(2048));
        for arn in [
            "",
            "a",
            "arn:aws:ecs:r:1:cluster/x",
            "arn:aws:ec2:r:1:task/x",
            "arn:aws:ecs:r:1:task/a b",
            &long,
        ] {
            let body = json!({ "detail-type": "ECS Task State Change",
                "detail": { "taskArn": arn, "clusterArn": "c", "lastStatus": "STOPPED" } });
            assert_eq!(read(&body.to_string()), Err(Unreadable("detail.taskArn is no task's ARN".into())));
        }
    }

    #[test]
    fn a_stopped_task() {
        let body = json!({
            "detail-type": "ECS Task State Change",
            "detail": {
                "taskArn": "arn:aws:ecs:eu-central-1:1:task/runners/1", "clusterArn": "arn:c", "lastStatus": "STOPPED",
                "startedBy": "gha-7", "stopCode": "TaskFailedToStart", "stoppedReason": "CannotPullContainerError",
                "containers": [{ "name": "runner" }]
            }
        });
        let Ok(Lifecycle::TaskStopped(task)) = read(&body.to_string()) else { panic!("no stopped task") };
        assert_eq!(task.started_by, "gha-7");
        assert!(task.never_registered());
        assert_eq!(task.why(), "CannotPullContainerError (TaskFailedToStart), exit code none");
    }

    /// A release before this one queued the whole event, and messages of both may be in the queue at once.
    #[test]
    fn what_the_rule_leaves_of_the_event_says_the_same() {
        let whole = read(include_str!("../../tests/fixtures/ecs/task-stopped.json"));
        let left = read(include_str!("../../events/reconcile-task-stopped.json"));
        assert!(matches!(&whole, Ok(Lifecycle::TaskStopped(task)) if task.never_registered()), "{whole:?}");
        assert_eq!(whole, left);
    }

    #[test]
    fn nothing_is_read_into_what_the_event_does_not_have() {
        for nothing in ["", "<x>"] {
            let body = json!({ "detail-type": "ECS Task State Change", "detail": {
                "taskArn": ARN, "clusterArn": "c", "lastStatus": "STOPPED", "startedBy": nothing,
                "startedAt": nothing, "stopCode": nothing, "stoppedReason": nothing, "containers": [] } });
            let Ok(Lifecycle::TaskStopped(task)) = read(&body.to_string()) else { panic!("no stopped task") };
            assert_eq!(task.started_by, "");
            assert!(!task.started);
            assert_eq!(task.why(), "none given (none given), exit code none");
        }
    }

    #[test]
    fn a_container_s_own_reason_is_told() {
        let body = json!({ "detail-type": "ECS Task State Change", "detail": {
            "taskArn": ARN, "clusterArn": "c", "lastStatus": "STOPPED", "stopCode": "EssentialContainerExited",
            "stoppedReason": "Essential container in task exited",
            "containers": [{ "name": "runner", "exitCode": 137, "reason": "OutOfMemoryError: memory usage" }] } });
        let Ok(Lifecycle::TaskStopped(task)) = read(&body.to_string()) else { panic!("no stopped task") };
        let why = "Essential container in task exited (EssentialContainerExited), exit code 137; \
                   OutOfMemoryError: memory usage";
        assert_eq!(task.why(), why);
    }

    #[test]
    fn an_image_is_named_where_it_is_to_be_mended() {
        let why = |exit_code: u8| {
            let body = json!({ "detail-type": "ECS Task State Change", "detail": {
                "taskArn": ARN, "clusterArn": "c", "lastStatus": "STOPPED", "stopCode": "EssentialContainerExited",
                "stoppedReason": "Essential container in task exited",
                "containers": [{ "name": "runner", "exitCode": exit_code, "image": "registry.test/runner:1" }] } });
            let Ok(Lifecycle::TaskStopped(task)) = read(&body.to_string()) else { panic!("no stopped task") };
            task.why()
        };
        assert!(why(7).ends_with("exit code 7; image registry.test/runner:1"), "{}", why(7));
        assert!(why(0).ends_with("exit code 0"), "{}", why(0));
    }

    #[test]
    fn the_schedule() {
        let body = json!({ "detail-type": "Scheduled Event", "time": "2026-11-24T08:00:00Z", "detail": {} });
        assert!(matches!(read(&body.to_string()), Ok(Lifecycle::Sweep { .. })));
        let body = json!({ "detail-type": "Scheduled Event", "time": "noon", "detail": {} });
        assert!(read(&body.to_string()).is_err());
    }

    #[test]
    fn others() {
        let running = json!({
            "detail-type": "ECS Task State Change",
            "detail": { "taskArn": "a", "clusterArn": "c", "lastStatus": "RUNNING" }
        });
        for body in [running, json!({ "detail-type": "push", "detail": {} })] {
            assert!(matches!(read(&body.to_string()), Ok(Lifecycle::Other(_))), "{body}");
        }
        for body in ["", "{}", "{\"detail-type\":\"ECS Task State Change\"}"] {
            assert!(read(body).is_err(), "{body}");
        }
    }
}
