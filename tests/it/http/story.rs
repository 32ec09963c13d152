//! What stories say: a job is queued, a batch is delivered, the tasks boot, a job ends; and the books, which
//! must balance.

use std::{collections::BTreeMap, fmt::Write};

use gha_fargate_runners::ports::{Clock, Timer};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::{
    INSTALLATION, JOB_QUEUE, LIFECYCLE_QUEUE, OWNER, REPOSITORY, World, WorldClock, aws::rfc3339,
    ecs::json_containers, github::json_job,
};
use crate::model::{
    aws::{ACCOUNT, REGION},
    ecs::{Launch, Status, Task},
    github::{JobStatus, Scope},
    jit,
    sqs::{self, Message},
};

impl Clock for WorldClock {
    fn now(&self) -> OffsetDateTime {
        WorldClock::now(self)
    }
}

impl Timer for WorldClock {
    async fn wait(&self, time: std::time::Duration) {
        self.set(self.now() + time);
    }
}

/// GitHub's published example, with which every payload here begins.
const EXAMPLE: &str = include_str!("../../../events/queued.json");

impl World {
    // GitHub

    /// A job with these labels is queued in `octo-org/example-workflow`.
    pub fn queue_job(&self, labels: &[&str]) -> u64 {
        self.queue_job_in(OWNER, REPOSITORY, labels)
    }

    pub fn queue_job_in(&self, owner: &str, repository: &str, labels: &[&str]) -> u64 {
        let now = self.now();
        self.github().queue_job(0, owner, repository, labels, now)
    }

    /// The `workflow_job` payload that GitHub sends about the job, in the state in which it is now.
    pub fn payload(&self, job: u64, action: &str) -> Value {
        let mut payload: Value = serde_json::from_str(EXAMPLE).unwrap_or_default();
        let github = self.github();
        let job = github.job(job).expect("a job of this world");
        payload["action"] = json!(action);
        payload["workflow_job"] = json_job(job);
        payload["repository"]["id"] = json!(job.place.id);
        payload["repository"]["name"] = json!(job.place.repository);
        payload["repository"]["full_name"] = json!(format!("{}/{}", job.place.owner, job.place.repository));
        payload["repository"]["owner"]["login"] = json!(job.place.owner);
        payload["organization"]["login"] = json!(job.place.owner);
        payload["installation"]["id"] = json!(INSTALLATION);
        payload
    }

    /// The payload of a queued job, as text.
    pub fn queued(&self, job: u64) -> String {
        self.payload(job, "queued").to_string()
    }

    /// A payload on the event bus: what a rule hands to its target.
    pub fn envelope(&self, payload: &Value) -> Value {
        json!({
            "version": "0",
            "id": "274330ea-5e19-5822-a2e5-012f399a2331",
            "detail-type": "workflow_job",
            "source": "github.com",
            "account": ACCOUNT,
            "time": rfc3339(self.now()),
            "region": REGION,
            "resources": [],
            "detail": payload,
        })
    }

    /// What the template's rules do: events on the bus go to the job queue (`queued`) or the lifecycle queue
    /// (`in_progress`, `completed`), stopped tasks to the lifecycle queue. How many events went where.
    pub fn pass_on(&self) -> (usize, usize) {
        let now = self.now();
        let (mut jobs, mut lifecycle) = (Vec::new(), Vec::new());
        for event in std::mem::take(&mut self.bus().events) {
            let detail: Value = serde_json::from_str(&event.detail).unwrap_or_default();
            let body = self.envelope(&detail).to_string();
            match (detail["action"].as_str(), detail["workflow_job"]["status"].as_str()) {
                (Some("queued"), Some("queued")) => jobs.push(body),
                (Some("in_progress" | "completed"), _) => lifecycle.push(body),
                _ => {}
            }
        }
        let changed = self.ecs().take_changes();
        for (number, _) in changed.into_iter().filter(|(_, status)| *status == Status::Stopped) {
            lifecycle.push(self.state_change(number).to_string());
        }
        for (queue, bodies) in [(JOB_QUEUE, &jobs), (LIFECYCLE_QUEUE, &lifecycle)] {
            for body in bodies {
                self.sqs()
                    .send(queue, body, BTreeMap::new(), Duration::ZERO, now)
                    .expect("a queue of this world");
            }
        }
        (jobs.len(), lifecycle.len())
    }

    /// GitHub gives every queued job the first online, idle runner that fits: the pairs of job and runner.
    pub fn assign(&self) -> Vec<(u64, u64)> {
        let now = self.now();
        self.github().assign_all(now)
    }

    /// The job on that task's runner ends; its registration is spent, and the task exits.
    pub fn finish_job(&self, job: u64) {
        let now = self.now();
        let runner = self.github().job(job).and_then(|job| job.runner.clone());
        self.github().complete(job, "success", now);
        if let Some(task) = runner.and_then(|(id, name)| self.task_of(id, &name)) {
            self.ecs().stopped(
                task,
                "EssentialContainerExited",
                "Essential container in task exited",
                Some(0),
                now,
            );
        }
    }

    // ECS

    /// Every pending task starts, and its runner connects: how many did. A runner whose registration is gone
    /// exits, and its task stops.
    pub fn boot(&self) -> usize {
        let pending: Vec<u64> =
            self.ecs().live().filter(|task| task.status == Status::Pending).map(|task| task.number).collect();
        pending.into_iter().filter(|task| self.boot_task(*task)).count()
    }

    /// That task starts, and its runner connects.
    pub fn boot_task(&self, number: u64) -> bool {
        let now = self.now();
        self.ecs().start(number, now);
        let runner = self.runner_of(number);
        let connected = runner.is_some_and(|id| self.github().connect(id, now));
        if !connected {
            self.ecs().stopped(
                number,
                "EssentialContainerExited",
                "Essential container in task exited",
                Some(1),
                now,
            );
        }
        connected
    }

    /// The task dies, and its runner with it: `TaskFailedToStart`, `SpotInterruption`, …
    pub fn kill_task(&self, number: u64, code: &str, reason: &str, exit: Option<i32>) {
        let now = self.now();
        let runner = self.runner_of(number);
        self.ecs().stopped(number, code, reason, exit, now);
        if let Some(runner) = runner {
            self.github().disconnect(runner, now);
        }
    }

    /// The registration that a task's runner uses: the one in its JIT configuration, or the one under its name.
    pub fn runner_of(&self, number: u64) -> Option<u64> {
        let environment = self.ecs().task(number)?.environment.clone();
        match (environment.get("ACTIONS_RUNNER_INPUT_JITCONFIG"), environment.get("RUNNER_NAME")) {
            (Some(configuration), _) => jit::runner_id(configuration),
            (None, Some(name)) => {
                self.github().find(&Scope::organization(OWNER), name).map(|runner| runner.id)
            }
            (None, None) => None,
        }
    }

    /// The live task of a registration.
    pub fn task_of(&self, runner: u64, name: &str) -> Option<u64> {
        let tasks: Vec<Task> =
            self.ecs().tasks().filter(|task| task.status != Status::Stopped).cloned().collect();
        let its = |task: &&Task| {
            let environment = &task.environment;
            environment.get("RUNNER_NAME").is_some_and(|its| its == name)
                || environment.get("ACTIONS_RUNNER_INPUT_JITCONFIG").and_then(|it| jit::runner_id(it))
                    == Some(runner)
        };
        tasks.iter().find(its).map(|task| task.number)
    }

    /// The `ECS Task State Change` event about the task, in the state in which it is now, without what the rule leaves out:
    /// the overrides, which alone say whose container is the runner's.
    pub fn state_change(&self, number: u64) -> Value {
        let ecs = self.ecs();
        let task = ecs.task(number).expect("a task that ECS remembers");
        let mut detail = json!({
            "clusterArn": format!("arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{}", task.cluster),
            "containers": json_containers(task),
            "createdAt": rfc3339(task.created_at),
            "desiredStatus": if task.desired_stopped { "STOPPED" } else { "RUNNING" },
            "group": format!("family:{TASK}", TASK = task.definition.split(':').next().unwrap_or_default()),
            "lastStatus": task.status.as_str(),
            "startedBy": task.started_by,
            "taskArn": task.arn,
            "taskDefinitionArn": format!("arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/{}", task.definition),
            "updatedAt": rfc3339(self.now()),
            "version": 5,
        });
        match &task.launch {
            Launch::Type(launch_type) => detail["launchType"] = json!(launch_type),
            Launch::Provider(provider) => detail["capacityProviderName"] = json!(provider),
        }
        for (name, at) in [("startedAt", task.started_at), ("stoppedAt", task.stopped_at)] {
            if let Some(at) = at {
                detail[name] = json!(rfc3339(at));
            }
        }
        for (name, text) in [("stopCode", &task.stop_code), ("stoppedReason", &task.stopped_reason)] {
            if let Some(text) = text {
                detail[name] = json!(text);
            }
        }
        json!({
            "version": "0",
            "id": format!("00000000-0000-4000-8000-{number:012}"),
            "detail-type": "ECS Task State Change",
            "source": "aws.ecs",
            "account": ACCOUNT,
            "time": rfc3339(self.now()),
            "region": REGION,
            "resources": [task.arn],
            "detail": detail,
        })
    }

    // SQS and Lambda

    /// Sends the bodies to the job queue and receives them as one batch: the event that Lambda hands over.
    pub fn deliver(&self, bodies: &[String]) -> Value {
        self.deliver_to(JOB_QUEUE, bodies)
    }

    pub fn deliver_to(&self, queue: &str, bodies: &[String]) -> Value {
        self.send(queue, bodies);
        self.receive(queue, bodies.len())
    }

    /// Puts the bodies on the queue.
    pub fn send(&self, queue: &str, bodies: &[String]) {
        let now = self.now();
        for body in bodies {
            self.sqs()
                .send(queue, body, BTreeMap::new(), Duration::ZERO, now)
                .expect("a queue of this world");
        }
    }

    /// What is visible in the queue, as the event that Lambda hands over.
    pub fn receive(&self, queue: &str, most: usize) -> Value {
        let now = self.now();
        let batch = self.sqs().receive(queue, most, now).expect("a queue of this world");
        json!({"Records": batch.iter().map(|message| record(queue, message)).collect::<Vec<_>>()})
    }

    /// What Lambda's poller does with the answer to a batch: deletes every message that is not among the
    /// `batchItemFailures`. How many are left to come again.
    pub fn acknowledge(&self, queue: &str, batch: &Value, answer: &Value) -> usize {
        let now = self.now();
        let failures = answer["batchItemFailures"].as_array().map(Vec::as_slice).unwrap_or_default();
        let failed: Vec<&Value> = failures.iter().map(|failure| &failure["itemIdentifier"]).collect();
        for record in batch["Records"].as_array().map(Vec::as_slice).unwrap_or_default() {
            if !failed.contains(&&record["messageId"]) {
                let handle = record["receiptHandle"].as_str().unwrap_or_default();
                self.sqs().delete(queue, handle, now).expect("a receipt handle of this world");
            }
        }
        failed.len()
    }

    /// The bodies in a queue, and their attribute `reason`.
    pub fn letters(&self, queue: &str) -> Vec<(String, Option<String>)> {
        let sqs = self.sqs();
        let letter = |message: &Message| (message.body.clone(), message.attributes.get("reason").cloned());
        sqs.messages(queue).map(letter).collect()
    }

    // The books

    /// Jobs, registrations and live tasks, one line each: for inline snapshots.
    pub fn books(&self) -> String {
        let mut books = String::new();
        let tasks: Vec<Task> = self.ecs().live().cloned().collect();
        let runners: Vec<Option<u64>> = tasks.iter().map(|task| self.runner_of(task.number)).collect();
        let github = self.github();
        for job in github.jobs() {
            let runner = job.runner.as_ref().map(|(_, name)| format!(" on {name}")).unwrap_or_default();
            let conclusion = job.conclusion.as_ref().map(|it| format!(", {it}")).unwrap_or_default();
            let _ = writeln!(books, "job {}: {}{conclusion}{runner}", job.id, job.status.as_str());
        }
        for runner in github.runners() {
            let online = if runner.online { "online" } else { "offline" };
            let busy = if runner.busy { ", busy" } else { "" };
            let _ = writeln!(books, "registration {}: {} {online}{busy}", runner.id, runner.name);
        }
        for (task, runner) in tasks.iter().zip(&runners) {
            let status = task.status.as_str();
            let runner = runner.map_or("no registration".to_owned(), |id| format!("registration {id}"));
            let capacity = task.launch.provider();
            let _ = writeln!(
                books,
                "task {}: {status} {capacity} for {}, {runner}",
                task.number, task.started_by
            );
        }
        books
    }

    /// What does not balance, in the words of the promise: a registration without a task, a task without a
    /// registration, jobs that wait for a runner without one being owed to them, or runners owed to nobody.
    pub fn imbalances(&self) -> Vec<String> {
        let live: Vec<(u64, Option<u64>)> = {
            let numbers: Vec<u64> = self.ecs().live().map(|task| task.number).collect();
            numbers.into_iter().map(|number| (number, self.runner_of(number))).collect()
        };
        let github = self.github();
        let mut wrong = Vec::new();
        for runner in github.runners() {
            match live.iter().filter(|(_, its)| *its == Some(runner.id)).count() {
                0 => wrong.push(format!("registration {} ({}) has no task", runner.id, runner.name)),
                1 => {}
                n => wrong.push(format!("registration {} ({}) has {n} tasks", runner.id, runner.name)),
            }
        }
        for (task, runner) in &live {
            if runner.is_none_or(|id| github.runner(id).is_none()) {
                wrong.push(format!("task {task} has no registration"));
            }
        }
        let mut owed: BTreeMap<Vec<String>, (usize, usize)> = BTreeMap::new();
        for job in github.jobs().filter(|job| job.status == JobStatus::Queued) {
            let labels: Vec<String> = job.labels.stored().map(str::to_owned).collect();
            owed.entry(labels).or_default().0 += 1;
        }
        for runner in
            github.runners().filter(|runner| !runner.busy && !runner.name.starts_with("fargate-pool-"))
        {
            owed.entry(runner.labels.stored().map(str::to_owned).collect()).or_default().1 += 1;
        }
        for (labels, (jobs, runners)) in owed.iter().filter(|(_, (jobs, runners))| jobs != runners) {
            wrong.push(format!("[{}]: {jobs} jobs wait, {runners} runners are owed", labels.join(",")));
        }
        wrong
    }
}

/// One record of Lambda's SQS event.
fn record(queue: &str, message: &Message) -> Value {
    let attributes: BTreeMap<&String, Value> = message
        .attributes
        .iter()
        .map(|(name, value)| {
            let value = json!({"stringValue": value, "dataType": "String", "stringListValues": [], "binaryListValues": []});
            (name, value)
        })
        .collect();
    let millis = |at: OffsetDateTime| (at.unix_timestamp_nanos() / 1_000_000).to_string();
    json!({
        "messageId": message.id.to_string(),
        "receiptHandle": message.receipt_handle,
        "body": message.body,
        "attributes": {
            "ApproximateReceiveCount": message.receive_count.to_string(),
            "SentTimestamp": millis(message.sent_at),
            "SenderId": "AROAEXAMPLE:events",
            "ApproximateFirstReceiveTimestamp": millis(message.first_received_at.unwrap_or(message.sent_at)),
        },
        "messageAttributes": attributes,
        "md5OfBody": format!("{:032x}", message.body.len()),
        "eventSource": "aws:sqs",
        "eventSourceARN": sqs::arn(queue),
        "awsRegion": REGION,
    })
}
