//! ECS and SQS.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use gha_fargate_runners::{
    adapters::{
        ecs::{Ecs, EcsStarter},
        http::Http,
        sqs::Sqs,
    },
    config::Queues,
    error::{CallError, Class},
    fargate::{
        fleet::{Capacity, Network},
        request::{Identity, TaskRequest},
    },
    ids::RunnerNames,
    ports::{FindTasks, Queue, RunTask, Source, StartTasks, Task, TaskArn, TendTasks},
};
use proptest::{prelude::*, sample::Index, test_runner::TestCaseError};
use serde_json::{Value, json};

use super::{
    CANARY, MOST_REQUESTS, Stage, cases, check_error,
    twists::{Answer, Recorded, recorded, wrong},
};

const ARN: &str = "arn:aws:ecs:us-east-1:123456789012:task/runners/0b69d5c0-d655-4695-98cd-5d2d526d9d5a";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    RunTask,
    TasksStartedBy,
    Describe,
    LiveTasks,
    TaskCount,
    Stop,
    Tag,
    Defer,
    Reject,
    Announce,
}

/// Each call, and which of its operations is answered wrongly.
const CALLS: [(Call, &str); 13] = [
    (Call::RunTask, "RunTask"),
    (Call::RunTask, "RunTask"),
    (Call::TasksStartedBy, "ListTasks"),
    (Call::TasksStartedBy, "DescribeTasks"),
    (Call::Describe, "DescribeTasks"),
    (Call::LiveTasks, "ListTasks"),
    (Call::LiveTasks, "DescribeTasks"),
    (Call::TaskCount, "DescribeClusters"),
    (Call::Stop, "StopTask"),
    (Call::Tag, "TagResource"),
    (Call::Defer, "ChangeMessageVisibility"),
    (Call::Reject, "SendMessage"),
    (Call::Announce, "SendMessage"),
];

/// What AWS answers when all is well.
fn well(operation: &str) -> Recorded {
    let task = json!({
        "taskArn": ARN, "clusterArn": "arn:aws:ecs:us-east-1:123456789012:cluster/runners", "startedBy": "gha-1",
        "lastStatus": "RUNNING", "desiredStatus": "RUNNING", "createdAt": 1_767_268_000.123,
        "startedAt": 1_767_268_030.5, "cpu": "1024", "launchType": "FARGATE", "stoppedReason": CANARY,
        "overrides": {"containerOverrides": [
            {"name": "runner", "environment": [{"name": "ACTIONS_RUNNER_INPUT_JITCONFIG", "value": CANARY}]},
        ]},
        "tags": [{"key": "gha:runner-id", "value": "23"}, {"key": "gha:job-name", "value": CANARY}],
    });
    recorded(
        200,
        match operation {
            "RunTask" => json!({"tasks": [task], "failures": []}),
            "ListTasks" => json!({"taskArns": [ARN], "nextToken": null}),
            "DescribeTasks" => json!({
                "tasks": [task, task], "failures": [{"arn": ARN, "reason": "MISSING", "detail": CANARY}],
            }),
            "DescribeClusters" => json!({
                "clusters": [{"clusterName": CANARY, "runningTasksCount": 3, "pendingTasksCount": 2}],
                "failures": [],
            }),
            "StopTask" => json!({"task": task}),
            "SendMessage" => {
                json!({"MessageId": CANARY, "MD5OfMessageBody": CANARY, "SequenceNumber": CANARY})
            }
            _ => json!({}),
        },
    )
}

/// And when it is not.
fn refusals() -> Vec<Recorded> {
    let error = |status, code: &str, text: &str| {
        recorded(status, json!({"__type": code, "message": format!("{text} {CANARY}")}))
    };
    let failures = |reason: &str| {
        let failure = json!({"arn": ARN, "reason": reason, "detail": CANARY});
        recorded(200, json!({"tasks": [], "failures": [failure]}))
    };
    let mut conflict = error(400, "ConflictException", "The clientToken was used");
    conflict.body["resourceIds"] = json!([ARN]);
    vec![
        conflict,
        failures("RESOURCE:ENI"),
        failures("MISSING"),
        failures("AGENT"),
        failures("ATTRIBUTE"),
        failures("You've reached the limit on the number of vCPUs you can run concurrently"),
        failures("Capacity is unavailable at this time."),
        error(400, "AccessDeniedException", "User is not authorized to perform"),
        error(400, "ClientException", "Capacity is unavailable at this time."),
        error(400, "ClientException", "Tasks provisioning capacity limit exceeded."),
        error(400, "ClusterNotFoundException", "Cluster not found."),
        error(400, "InvalidParameterException", "The referenced task was not found."),
        error(400, "com.amazonaws.sqs#QueueDoesNotExist", "The specified queue does not exist."),
        error(400, "ThrottlingException", "Rate exceeded"),
        error(500, "ServerException", "Service Unavailable."),
        error(503, "ServiceUnavailable", "Try again."),
    ]
}

struct Aws {
    tasks: Ecs,
    starter: EcsStarter,
    queues: Sqs,
}

impl Aws {
    fn new(url: &str) -> Aws {
        let credentials = Credentials::new("AKIAEXAMPLE", "example", None, None, "fuzz");
        // As deployed, except that nobody waits.
        let repetitions = RetryConfig::standard()
            .with_initial_backoff(Duration::from_micros(1))
            .with_max_backoff(Duration::from_micros(1));
        let config = SdkConfig::builder()
            .http_client(Http::new().for_aws())
            .endpoint_url(url)
            // Not that of the other tests: the SDK's retries have a quota for each Region, and here it is used up.
            .region(Region::new("us-west-2"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .behavior_version(BehaviorVersion::latest())
            .retry_config(repetitions)
            .build();
        let network = Network { subnets: vec!["subnet-0a".into()], security_groups: vec![], public_ip: true };
        let tasks = Ecs::new(&config, "runners".to_owned(), RunnerNames::default());
        let starter = tasks.clone().starter("runner".to_owned(), &network).expect("a network");
        let queue = |name: &str| Some(format!("https://sqs.us-east-1.amazonaws.com/123456789012/{name}"));
        let queues =
            Sqs::new(&config, Queues { dead_letter: queue("dead"), jobs: queue("jobs"), author: None });
        Aws { tasks, starter, queues }
    }

    /// Makes the call, and judges what it makes of the answer.
    async fn ask(&self, call: Call, answer: &Answer) -> Result<Result<(), CallError>, TestCaseError> {
        let arn = TaskArn(ARN.to_owned());
        Ok(match call {
            Call::RunTask => {
                let started = self.starter.run_task(&request()).await;
                match &started {
                    Ok(RunTask::Started(started)) => {
                        prop_assert!(answer.is_success() && names(answer, &started.arn), "{}", started.arn);
                    }
                    Ok(RunTask::Conflict(arns)) => {
                        prop_assert!(!answer.is_success() && answer.body.contains("ConflictException"));
                        prop_assert!(arns.iter().all(|arn| names(answer, arn)));
                    }
                    Err(_) => {}
                }
                started.map(drop)
            }
            Call::TasksStartedBy => self.tasks.tasks_started_by("gha-1").await.map(drop),
            Call::LiveTasks => self.tasks.live_tasks().await.map(drop),
            Call::Describe => self.starter.describe(&arn).await.map(drop),
            Call::TaskCount => self.starter.task_count().await.map(drop),
            Call::Stop => self.tasks.stop(&arn, "idle").await,
            Call::Tag => self.tasks.tag(&arn, &[("gha:ran-job".to_owned(), "1".to_owned())]).await.map(drop),
            Call::Defer => {
                let queue_arn = "arn:aws:sqs:us-east-1:123456789012:jobs".to_owned();
                let source = Source { queue_arn, receipt_handle: "AQEB".to_owned() };
                self.queues.defer(&source, Duration::from_secs(60)).await
            }
            Call::Reject => self.queues.reject("body", "a reason").await,
            Call::Announce => self.queues.announce("body", Duration::ZERO).await,
        })
    }
}

fn request() -> TaskRequest {
    TaskRequest {
        client_token: "1-1".to_owned(),
        started_by: "gha-1".to_owned(),
        task_definition: "runner".to_owned(),
        capacity: Capacity::FargateSpot,
        network: None,
        size: None,
        disk_gib: None,
        identity: Identity::Minted("jit-config".into()),
        tags: vec![],
    }
}

/// Whether the answer has this ARN in one of the places where a task's may be.
fn names(answer: &Answer, arn: &TaskArn) -> bool {
    match answer.json() {
        Some(json) => {
            let all = |list: &Value| list.as_array().cloned().unwrap_or_default();
            let tasks = all(&json["tasks"]).into_iter().map(|task| task["taskArn"].clone());
            tasks.chain(all(&json["resourceIds"])).any(|named| named == arn.0)
        }
        // With a number in it that only a reader of all the rest stumbles over.
        None => answer.body.contains("\"taskArn\"") || answer.body.contains("\"resourceIds\""),
    }
}

/// Whether the answer says, readably, that there is a task that was not started. (The SDK reads control characters in
/// JSON's texts, which serde does not.)
fn has_failure(answer: &Answer) -> bool {
    let plain = answer.body.replace(char::is_control, " ");
    let Ok(json) = serde_json::from_str::<Value>(&plain) else { return false };
    let has_none = |list: &Value| list.as_array().is_none_or(|list| list.iter().all(Value::is_null));
    has_none(&json["tasks"]) && !has_none(&json["failures"])
}

#[test]
fn aws_s_answers() {
    let stage = Stage::new();
    let aws = Aws::new(&stage.server.url);
    let answers =
        (proptest::sample::select(CALLS.to_vec()), proptest::option::weighted(0.3, any::<Index>()), wrong());
    proptest!(cases(2_600), |(((call, operation), refusal, wrong) in answers)| {
        let refusals = refusals();
        let recorded = refusal.map_or_else(|| well(operation), |index| index.get(&refusals).clone());
        let answer = wrong.applied_to(&recorded);
        let served = answer.clone();
        stage.server.will_answer(move |asked| match asked.operation.as_deref() {
            Some(asked) if asked == operation => served.sent(),
            other => Answer::from(&well(other.unwrap_or_default())).sent(),
        });
        let asked = stage.runtime.block_on(aws.ask(call, &answer))?;
        prop_assert!(stage.server.count() <= MOST_REQUESTS, "{} requests", stage.server.count());
        let Err(error) = asked else { return Ok(()) };
        check_error(&error)?;
        let lost = if call == Call::RunTask { Class::Unknown } else { Class::Transient };
        let text = format!("{:?} {}", answer.headers, answer.body);
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        match error.class {
            class if class == lost => {}
            Class::Transient if answer.is_success() => prop_assert!(has_failure(&answer), "{:?}", error),
            Class::Transient => prop_assert!(says(&["Throttl", "Rate exceeded"]), "{:?}", error),
            Class::OverQuota => prop_assert!(has_failure(&answer), "{:?}", error),
            Class::NoCapacity if answer.is_success() => prop_assert!(has_failure(&answer), "{:?}", error),
            Class::NoCapacity => prop_assert!(says(&["apacity is unavailable", "capacity limit"]), "{:?}", error),
            // A cluster that is not there is in `failures`, or nowhere.
            Class::NeedsOperator if call == Call::TaskCount && answer.is_success() => {}
            Class::NeedsOperator if answer.is_success() => prop_assert!(has_failure(&answer), "{:?}", error),
            Class::NeedsOperator => prop_assert!((400..500).contains(&answer.status), "{:?}", error),
            _ => prop_assert!(false, "{:?}", error),
        }
    });
}

/// ListTasks with these tokens of next pages, and how many requests it took.
fn list(token: impl Fn(usize) -> String + Send + 'static) -> (Result<Vec<Task>, CallError>, usize) {
    let stage = Stage::new();
    let aws = Aws::new(&stage.server.url);
    let mut pages = 0;
    stage.server.will_answer(move |asked| {
        let mut recorded = well(asked.operation.as_deref().unwrap_or_default());
        if asked.operation.as_deref() == Some("ListTasks") {
            pages += 1;
            assert!(pages < 1_000, "it has no end");
            recorded.body["nextToken"] = token(pages).into();
        }
        Answer::from(&recorded).sent()
    });
    let listed = stage.runtime.block_on(aws.tasks.live_tasks());
    (listed, stage.server.count())
}

#[test]
fn a_list_of_tasks_that_has_no_end() {
    let (listed, requests) = list(|_| "again".to_owned());
    assert_eq!((listed.expect_err("the same page again").class, requests), (Class::Transient, 2));
    let (listed, requests) = list(|page| format!("page-{page}"));
    assert_eq!(listed.expect_err("ever new pages").class, Class::Transient);
    assert!(requests < 1_000, "{requests}");
    let (listed, requests) = list(|_| String::new());
    assert_eq!((listed.expect("one page").len(), requests), (2, 2));
}
