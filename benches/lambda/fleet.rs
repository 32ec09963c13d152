//! A large fleet at work, for the sweep: 1,000 runners among 10,000 registrations of one organisation.

use serde_json::{Value, json};

/// Runners of this system, each with its task, each running its job.
const RUNNERS: u64 = 1_000;
/// All registrations; those past [`RUNNERS`] are other people's.
const REGISTRATIONS: u64 = 10_000;
const PAGE: u64 = 100;

/// One page of `GET /orgs/{org}/actions/runners`.
pub fn runners(path: &str) -> String {
    let page: u64 = path.rsplit("&page=").next().and_then(|page| page.parse().ok()).unwrap_or(1);
    let ids = (page - 1) * PAGE + 1..=(page * PAGE).min(REGISTRATIONS);
    let label = |name: &str| json!({ "id": 1, "name": name, "type": "custom" });
    let runner = |id: u64| {
        let ours = id <= RUNNERS;
        json!({
            "id": id,
            "name": if ours { name(id) } else { format!("build-machine-{id}") },
            "os": "linux",
            "status": "online",
            "busy": true,
            "labels": [label("self-hosted"), label("linux"), label("x64"), label("fargate")],
        })
    };
    json!({ "total_count": REGISTRATIONS, "runners": ids.map(runner).collect::<Vec<_>>() }).to_string()
}

/// One page of ListTasks.
pub fn list_tasks(request: &[u8]) -> String {
    let request: Value = serde_json::from_slice(request).unwrap_or_default();
    let from: u64 = request["nextToken"].as_str().and_then(|token| token.parse().ok()).unwrap_or(1);
    let next = from + PAGE;
    let arns: Vec<String> = (from..next).map(arn).collect();
    match next <= RUNNERS {
        true => json!({ "taskArns": arns, "nextToken": next.to_string() }).to_string(),
        false => json!({ "taskArns": arns }).to_string(),
    }
}

/// DescribeTasks, with tags.
pub fn describe_tasks(request: &[u8]) -> String {
    let request: Value = serde_json::from_slice(request).unwrap_or_default();
    let arns = request["tasks"].as_array().cloned().unwrap_or_default();
    let task = |arn: &Value| {
        let id: u64 =
            arn.as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default().parse().unwrap_or(0);
        let tag = |key: &str, value: String| json!({ "key": key, "value": value });
        json!({
            "taskArn": arn,
            "startedBy": format!("gha-{id}"),
            "lastStatus": "RUNNING",
            "desiredStatus": "RUNNING",
            "createdAt": 1_700_000_000,
            "startedAt": 1_700_000_030,
            "tags": [
                tag("gha:job-id", id.to_string()),
                tag("gha:attempt", "1".to_owned()),
                tag("gha:runner-id", id.to_string()),
                tag("gha:runner-name", name(id)),
                tag("gha:repository", "octo-org/example-workflow".to_owned()),
                tag("gha:labels", "self-hosted linux x64 fargate".to_owned()),
                tag("gha:ran-job", id.to_string()),
            ],
        })
    };
    json!({ "tasks": arns.iter().map(task).collect::<Vec<_>>(), "failures": [] }).to_string()
}

fn arn(id: u64) -> String {
    format!("arn:aws:ecs:us-east-1:123456789012:task/gha-fargate-runners/{id}")
}

fn name(id: u64) -> String {
    format!("fargate-{id}-1")
}
