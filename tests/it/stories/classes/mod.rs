//! Runner classes: each job gets what its class gives, a document that is bad harms nobody, and shares are kept.

mod pools;
mod shares;

use std::collections::BTreeMap;

use gha_fargate_runners::lambda::{metric::Metric, metrics::Metrics};
use serde_json::{Value, json};
use time::Duration;

use crate::{
    fleet::Fleet,
    http::{
        DEAD_LETTERS, JOB_QUEUE, LIFECYCLE_QUEUE, OWNER, Op, Service, TASK_DEFINITION, TASK_DEFINITION_ARM64,
        World,
    },
    model::ecs::{Supply, Task},
};

const PLACE: &str = "octo-settings/runners/classes.json";
const IN_S3: (&str, &str) = ("RUNNER_CLASSES", "s3://octo-settings/runners/classes.json");

fn document(version: u32, rows: &Value) -> String {
    json!({"version": version, "classes": rows}).to_string()
}

fn three() -> Value {
    json!([
        {"name": "usual", "labels": ["fargate"]},
        {"name": "big", "labels": ["big"], "task_definition": "big-runner", "default_size": {"cpu": 4096, "memory": 16384},
         "capacity": ["FARGATE_SPOT", "FARGATE"], "subnet_ids": ["subnet-0c", "subnet-0d"],
         "security_group_ids": ["sg-0c"], "assign_public_ip": false, "runner_group": "fargate 7",
         "idle_timeout_seconds": 3600},
        {"name": "gpu", "labels": ["gpu", "a100"], "capacity": ["gpu-machines"], "runner_group": 5},
    ])
}

/// A world with what those classes name.
fn world() -> World {
    let world = World::start();
    world.ecs().definitions.insert("big-runner".to_owned(), (1, vec!["runner".to_owned()]));
    world.ecs().supply.insert("gpu-machines".to_owned(), Supply::Plenty);
    world.github().groups.extend([5, 7]);
    world
}

async fn dispatch(world: &World, fleet: &Fleet, bodies: &[String]) -> usize {
    world.send(JOB_QUEUE, bodies);
    again(world, fleet).await
}

/// All that is visible, in batches as SQS hands them over: how many come again.
async fn again(world: &World, fleet: &Fleet) -> usize {
    let mut failed = 0;
    loop {
        let batch = world.receive(JOB_QUEUE, 10);
        if batch["Records"].as_array().is_none_or(Vec::is_empty) {
            return failed;
        }
        failed += world.acknowledge(JOB_QUEUE, &batch, &fleet.dispatch(&batch).await);
    }
}

/// Where little is free, each batch takes a part of it: until all of it is taken.
async fn settle(world: &World, fleet: &Fleet) {
    for _ in 0..10 {
        world.advance(Duration::seconds(5));
        again(world, fleet).await;
    }
}

fn started_for(world: &World, job: u64) -> Option<Task> {
    world.ecs().live().find(|task| task.started_by == format!("gha-{job}")).cloned()
}

/// Queued in that repository.
fn queue_in(world: &World, repository: &str, labels: &[&str]) -> (u64, String) {
    let job = world.queue_job(labels);
    let mut payload = world.payload(job, "queued");
    payload["repository"]["name"] = json!(repository);
    payload["repository"]["full_name"] = json!(format!("{OWNER}/{repository}"));
    payload["repository"]["id"] = json!(repository.len());
    (job, payload.to_string())
}

async fn sweep(world: &World, fleet: &Fleet) -> Metrics {
    let time = time::format_description::well_known::Rfc3339;
    let time = world.now().format(&time).expect("a time");
    let event = json!({"detail-type": "Scheduled Event", "time": time, "detail": {}}).to_string();
    tell(world, fleet, &event).await
}

async fn tell(world: &World, fleet: &Fleet, event: &str) -> Metrics {
    // With what was put off before.
    world.send(LIFECYCLE_QUEUE, &[event.to_owned()]);
    let batch = world.receive(LIFECYCLE_QUEUE, 10);
    let (answer, metrics) = fleet.reconcile_until(&batch, world.now() + Duration::minutes(2)).await;
    world.acknowledge(LIFECYCLE_QUEUE, &batch, &answer);
    metrics
}

#[tokio::test]
async fn each_job_gets_what_its_class_gives() {
    for place in [IN_S3, ("RUNNER_CLASSES", document(4, &three()).as_str())] {
        let world = world();
        world.put_object(PLACE, &document(4, &three()));
        let fleet = Fleet::with(&world, &[place]).await;
        let jobs: Vec<u64> = [
            &["self-hosted", "fargate", "cpu=2"][..],
            &["self-hosted", "big"],
            &["gpu", "a100"],
            &["big", "cpu=1", "on-demand"],
            &["fargate", "arm64"],
        ]
        .map(|labels| world.queue_job(labels))
        .into();
        let bodies: Vec<String> = jobs.iter().map(|job| world.queued(*job)).collect();
        assert_eq!(dispatch(&world, &fleet, &bodies).await, 0);

        let told: Vec<String> = jobs.iter().map(|job| told(&world, *job)).collect();
        let want = [
            format!(
                "usual {TASK_DEFINITION}:1 FARGATE Some(2048) [subnet-0a,subnet-0b] [sg-0a] public group 1"
            ),
            "big big-runner:1 FARGATE_SPOT Some(4096) [subnet-0c,subnet-0d] [sg-0c] private group 7"
                .to_owned(),
            format!(
                "gpu {TASK_DEFINITION}:1 gpu-machines None [subnet-0a,subnet-0b] [sg-0a] private group 5"
            ),
            "big big-runner:1 FARGATE Some(1024) [subnet-0c,subnet-0d] [sg-0c] private group 7".to_owned(),
            format!(
                "usual {TASK_DEFINITION_ARM64}:1 FARGATE None [subnet-0a,subnet-0b] [sg-0a] public group 1"
            ),
        ];
        assert_eq!(told, want);
        // A group's name is looked up once, and the document read once.
        let calls = world.calls();
        assert_eq!(calls.count(Op::ListGroups), 1);
        assert_eq!(calls.count(Op::GetObject), usize::from(place == IN_S3));
        let counted = (calls.count(Op::DescribeTasks), calls.count(Op::RunTask));
        assert_eq!(counted, (0, 5), "without quotas, nothing is counted");
        world.finish();
    }
}

fn told(world: &World, job: u64) -> String {
    let task = started_for(world, job).expect("a task");
    let tag = |name: &str| task.tags.get(name).cloned().unwrap_or_default();
    assert_eq!(tag("gha:classes-version"), "4");
    let runner = world.runner_of(task.number).expect("a registration");
    let group = world.github().runner(runner).expect("a registration").group;
    format!(
        "{} {} {} {:?} [{}] [{}] {} group {group}",
        tag("gha:class"),
        task.definition,
        task.launch.provider(),
        task.cpu,
        task.subnets.join(","),
        task.security_groups.join(","),
        if task.public_ip { "public" } else { "private" },
    )
}

/// It is written and signed in the same way.
#[tokio::test]
async fn an_object_s_key_may_have_any_characters() {
    let key = "octo-settings/Größe a+b/(x)=1~!'*.json";
    let world = world();
    world.put_object(key, &document(1, &three()));
    let fleet = Fleet::with(&world, &[("RUNNER_CLASSES", &format!("s3://{key}"))]).await;
    let job = world.queue_job(&["big"]);
    assert_eq!(dispatch(&world, &fleet, &[world.queued(job)]).await, 0);
    assert!(started_for(&world, job).is_some());
    world.finish();
}

#[tokio::test]
async fn a_job_that_no_class_is_for_is_none_of_ours() {
    let mut rows = three();
    rows[1]["repositories"] = json!(["octo-org/app"]);
    rows[0]["allow_public_repositories"] = json!(true);
    let world = world();
    let fleet = Fleet::with(&world, &[("RUNNER_CLASSES", &document(1, &rows))]).await;
    let public = |labels: &[&str]| {
        let mut payload = world.payload(world.queue_job(labels), "queued");
        payload["repository"]["private"] = json!(false);
        payload.to_string()
    };
    let bodies = [
        public(&["fargate"]),
        public(&["big"]),
        world.queued(world.queue_job(&["big"])),
        queue_in(&world, "app", &["big"]).1,
        world.queued(world.queue_job(&["gpu"])),
        world.queued(world.queue_job(&["ubuntu-latest"])),
        world.queued(world.queue_job(&["gpu", "a100", "spot"])),
    ];
    assert_eq!(dispatch(&world, &fleet, &bodies).await, 0);
    assert_eq!(
        world.ecs().live_count(),
        2,
        "the public one of the class that takes those, and that of the app"
    );
    let letters = world.letters(DEAD_LETTERS);
    assert_eq!(letters.len(), 1);
    assert!(letters[0].1.as_deref().is_some_and(|why| why.contains("class gpu is on none of it")));
    world.finish();
}

/// Without the variable nothing is asked and nothing is tagged that was not before.
#[tokio::test]
async fn without_a_document_all_is_as_ever() {
    let world = World::start();
    let fleet = Fleet::new(&world).await;
    let job = world.queue_job(&["self-hosted", "fargate"]);
    assert_eq!(dispatch(&world, &fleet, &[world.queued(job)]).await, 0);
    let task = started_for(&world, job).expect("a task");
    assert!(!task.tags.keys().any(|key| key.contains("class") || key.contains("idle")), "{:?}", task.tags);
    assert_eq!(world.calls().to(Service::Ecs).tally(), "1 ListTasks, 1 RunTask");
    let none = world.queue_job(&["self-hosted", "priority=high"]);
    assert_eq!(dispatch(&world, &fleet, &[world.queued(none)]).await, 0);
    assert!(started_for(&world, none).is_none(), "a word of classes alone");
    world.finish();
}

#[tokio::test]
async fn a_bad_document_under_load_loses_and_misroutes_nothing() {
    let world = world();
    world.put_object(PLACE, &document(1, &three()));
    let fleet = Fleet::with(&world, &[IN_S3]).await;
    let mut jobs: BTreeMap<u64, &str> = BTreeMap::new();
    let mut refused = 0;
    for minute in 0..12 {
        match minute {
            2 => world.put_object(PLACE, "{\"version\": 2, \"classes\": [{\"name\": \"big\"}]}"),
            4 => world.put_object(PLACE, "<html>"),
            6 => drop(world.fail(Op::GetObject).nth(1).before().status(503)),
            7 => drop(world.fail(Op::GetObject).nth(1).before().drop_connection()),
            8 => world.put_object(PLACE, &document(3, &three())),
            _ => {}
        }
        for (labels, class) in [(&["fargate"][..], "usual"), (&["big"], "big"), (&["gpu", "a100"], "gpu")] {
            let job = world.queue_job(labels);
            jobs.insert(job, class);
            world.send(JOB_QUEUE, &[world.queued(job)]);
        }
        let batch = world.receive(JOB_QUEUE, 10);
        assert_eq!(world.acknowledge(JOB_QUEUE, &batch, &fleet.dispatch(&batch).await), 0, "minute {minute}");
        refused += fleet.dispatcher.document.new_mistakes();
        world.advance(Duration::minutes(1));
    }
    assert_eq!(refused, 2, "each bad document is told of once");
    for (job, class) in jobs {
        let task = started_for(&world, job).expect("a task");
        assert_eq!(task.tags["gha:class"], class);
    }
    let versions = world.ecs().live().fold(BTreeMap::new(), |mut versions, task| {
        *versions.entry(task.tags["gha:classes-version"].clone()).or_insert(0) += 1;
        versions
    });
    assert_eq!(versions, BTreeMap::from([("1".to_owned(), 24), ("3".to_owned(), 12)]));
    assert_eq!(world.letters(DEAD_LETTERS), []);
    assert_eq!(world.imbalances(), [""; 0]);
    world.finish();
}

/// This process was idle while a class was added; when it is asked again, the newest document is a bad one.
#[tokio::test]
async fn a_class_that_a_process_has_missed_is_waited_for() {
    let world = world();
    world.put_object(PLACE, &document(1, &json!([{"name": "usual", "labels": ["fargate"]}])));
    let fleet = Fleet::with(&world, &[IN_S3]).await;
    dispatch(&world, &fleet, &[world.queued(world.queue_job(&["fargate"]))]).await;
    world.advance(Duration::hours(1));
    world.put_object(PLACE, "<html>");
    let job = world.queue_job(&["big"]);
    world.send(JOB_QUEUE, &[world.queued(job)]);
    assert_eq!(again(&world, &fleet).await, 1, "it may be of a class that came and is not seen");
    world.put_object(PLACE, &document(3, &three()));
    world.advance(Duration::minutes(2));
    assert_eq!(again(&world, &fleet).await, 0);
    assert_eq!(started_for(&world, job).expect("a task").tags["gha:class"], "big");
    world.finish();
}

#[tokio::test]
async fn without_a_good_document_jobs_wait_and_none_is_rejected() {
    let bad = document(1, &json!([{"name": "big", "labels": ["big"], "max_runners": 0}]));
    let world = world();
    let fleet = Fleet::with(&world, &[IN_S3]).await;
    let job = world.queue_job(&["big", "cpu=64"]);
    let other = world.queue_job(&["big"]);
    world.send(JOB_QUEUE, &[world.queued(job), world.queued(other)]);
    let mut put = |text: &str| world.put_object(PLACE, text);
    for text in [None, Some(bad.as_str())] {
        text.into_iter().for_each(&mut put);
        world.advance(Duration::minutes(16));
        let batch = world.receive(JOB_QUEUE, 10);
        let (answer, metrics) = fleet.invoke(&batch).await;
        assert_eq!(world.acknowledge(JOB_QUEUE, &batch, &answer.expect("a batch never fails")), 2);
        assert_eq!((metrics.get(Metric::NeedsOperator), metrics.get(Metric::Rejected)), (2, 0));
    }
    // What our runners tell waits as well: whose they are cannot be said.
    let mut event = world.payload(other, "completed");
    event["workflow_job"]["runner_name"] = Value::Null;
    let told = world.deliver_to(LIFECYCLE_QUEUE, &[event.to_string()]);
    assert_eq!(world.acknowledge(LIFECYCLE_QUEUE, &told, &fleet.reconcile(&told).await), 1);
    world.put_object(PLACE, &document(2, &three()));
    world.advance(Duration::minutes(16));
    assert_eq!(again(&world, &fleet).await, 0);
    assert!(started_for(&world, other).is_some());
    assert_eq!(world.letters(DEAD_LETTERS).len(), 1, "what is impossible is rejected now");
    world.finish();
}

/// What was true when the runner was started, not what the document says by now.
#[tokio::test]
async fn a_runner_is_idle_for_as_long_as_its_class_says() {
    let world = world();
    let fleet = Fleet::with(&world, &[("RUNNER_CLASSES", &document(1, &three()))]).await;
    let (short, long) = (world.queue_job(&["fargate"]), world.queue_job(&["big"]));
    dispatch(&world, &fleet, &[world.queued(short), world.queued(long)]).await;
    world.boot();
    for job in [short, long] {
        let now = world.now();
        world.github().complete(job, "cancelled", now);
    }
    world.advance(Duration::minutes(15));
    sweep(&world, &fleet).await;
    assert!(started_for(&world, short).is_none() && started_for(&world, long).is_some());
    world.advance(Duration::minutes(50));
    sweep(&world, &fleet).await;
    assert_eq!(world.ecs().live_count(), 0);
    world.finish();
}

/// A class that is taken out of the document does not make its runners' jobs foreign.
#[tokio::test]
async fn runners_of_a_class_that_is_gone_run_on() {
    let world = world();
    world.put_object(PLACE, &document(1, &three()));
    let fleet = Fleet::with(&world, &[IN_S3]).await;
    let jobs = [world.queue_job(&["big"]), world.queue_job(&["big"])];
    dispatch(&world, &fleet, &jobs.map(|job| world.queued(job))).await;
    let without = json!([three()[0], three()[2]]);
    world.put_object(PLACE, &document(2, &without));
    world.advance(Duration::minutes(2));
    world.boot();
    world.assign();
    let events = jobs.map(|job| world.payload(job, "in_progress").to_string());
    let batch = world.deliver_to(LIFECYCLE_QUEUE, &events);
    let handle = fleet.reconcile_until(&batch, world.now() + Duration::minutes(2));
    let (answer, metrics) = handle.await;
    world.acknowledge(LIFECYCLE_QUEUE, &batch, &answer);
    assert_eq!(metrics.get(Metric::TakenByForeign), 0);
    assert_eq!(world.ecs().live_count(), 2);
    world.finish();
}
