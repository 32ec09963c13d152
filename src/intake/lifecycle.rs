//! What arrives on the lifecycle queue: jobs that were taken or are over, tasks that stopped, and the clock.

use serde::Deserialize;
use time::OffsetDateTime;

use crate::{
    fargate::stop::{Container, Stop},
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
    /// The schedule: time to look for webhook deliveries that failed.
    Redeliver {
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
    /// How it ended, as far as the event says.
    pub stop: Stop,
}

/// Reads a message body.
pub fn read(body: &str) -> Result<Lifecycle, Unreadable> {
    let envelope: Result<Envelope, _> = payload::read_json(body, "");
    match envelope {
        Ok(Envelope { detail_type, .. }) if detail_type == "ECS Task State Change" => {
            let event: TaskEvent = payload::read_json(body, "")?;
            read_task(event.detail)
        }
        Ok(Envelope { detail_type, .. }) if detail_type == "Scheduled Event" => {
            let Schedule { time, detail } = payload::read_json(body, "")?;
            let scheduled = payload::rfc3339(&time.unwrap_or_default())
                .ok_or_else(|| Unreadable("time is no time like 2026-11-24T08:00:00Z".into()))?;
            Ok(match detail.only.as_deref() {
                None => Lifecycle::Sweep { scheduled },
                Some("deliveries") => Lifecycle::Redeliver { scheduled },
                Some(_) => Lifecycle::Other("a schedule of another release".into()),
            })
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
        stop: Stop {
            started: task.started_at.is_some(),
            code: task.stop_code,
            reason: task.stopped_reason,
            ..Stop::default()
        }
        // Which of several is the runner's, the overrides say, which the rule leaves out.
        .with_containers(&task.containers, None),
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
}

#[derive(Deserialize)]
struct Schedule {
    time: Option<String>,
    #[serde(default)]
    detail: ScheduleDetail,
}

/// Empty in EventBridge's own event; the rule `RedeliveryRule` in template.yaml says what is to be done.
#[derive(Default, Deserialize)]
struct ScheduleDetail {
    only: Option<String>,
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
        assert!(task.stop.owes_a_runner());
        assert_eq!(task.stop.why(), "CannotPullContainerError (TaskFailedToStart), exit code none");
    }

    /// A release before this one queued the whole event, and messages of both may be in the queue at once.
    #[test]
    fn what_the_rule_leaves_of_the_event_says_the_same() {
        let whole = read(include_str!("../../tests/fixtures/ecs/task-stopped.json"));
        let left = read(include_str!("../../events/reconcile-task-stopped.json"));
        assert!(matches!(&whole, Ok(Lifecycle::TaskStopped(task)) if task.stop.owes_a_runner()), "{whole:?}");
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
            assert!(!task.stop.started);
            assert_eq!(task.stop.why(), "none given (none given), exit code none");
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
        assert_eq!(task.stop.why(), why);
    }

    #[test]
    fn an_image_is_named_where_it_is_to_be_mended() {
        let why = |exit_code: u8| {
            let body = json!({ "detail-type": "ECS Task State Change", "detail": {
                "taskArn": ARN, "clusterArn": "c", "lastStatus": "STOPPED", "stopCode": "EssentialContainerExited",
                "stoppedReason": "Essential container in task exited",
                "containers": [{ "name": "runner", "exitCode": exit_code, "image": "registry.test/runner:1" }] } });
            let Ok(Lifecycle::TaskStopped(task)) = read(&body.to_string()) else { panic!("no stopped task") };
            task.stop.why()
        };
        assert!(why(7).ends_with("exit code 7; image registry.test/runner:1"), "{}", why(7));
        assert!(why(0).ends_with("exit code 0"), "{}", why(0));
    }

    #[test]
    fn the_schedule() {
        let body = json!({ "detail-type": "Scheduled Event", "time": "2026-11-24T08:00:00Z", "detail": {} });
        assert!(matches!(read(&body.to_string()), Ok(Lifecycle::Sweep { .. })));
        for (only, want) in [("deliveries", "Redeliver"), ("something new", "Other")] {
            let body = json!({ "detail-type": "Scheduled Event", "time": "2026-11-24T08:00:00Z",
                "detail": { "only": only } });
            let read = read(&body.to_string());
            assert!(format!("{read:?}").starts_with(&format!("Ok({want}")), "{read:?}");
        }
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
