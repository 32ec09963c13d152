//! What functions of two releases tell each other: messages, tags and names. While a stack is updated both are at work,
//! and what the one has written the other finds. `tests/fixtures/formats` has a folder for each form that there was.

use std::{collections::BTreeMap, fs, path::PathBuf};

use gha_fargate_runners::{
    fargate::tags::TaskTags,
    flows::doctor::{Question, asked},
    ids::{Attempt, JobId, Purpose, RunnerNames},
    intake::{
        lifecycle::{self, Lifecycle},
        notice::{self, Notice},
        payload::{self, Action, Message, WorkflowJob},
    },
    ports::JobStatus,
};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339, macros::datetime};

use crate::{
    fleet::Fleet,
    http::{AUTHOR_QUEUE, JOB_QUEUE, LIFECYCLE_QUEUE, OWNER, REPOSITORY, World},
    model::github::Scope,
    stories::webhook::{front_door, signed},
};

const NOON: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);
const LABELS: [&str; 2] = ["self-hosted", "fargate"];
const CLASSES: &str =
    r#"{"version": 3, "classes": [{"name": "big", "labels": ["fargate"], "idle_timeout_seconds": 3600}]}"#;

/// Kept too, and written by others: by the doctor of `setup/`, and by a rule of template.yaml.
const OF_OTHERS: [&str; 2] = ["doctor-question", "task-stopped"];

/// What was written, by the file that keeps it.
type Written = BTreeMap<String, Value>;

fn folder(form: u32) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/formats")).join(form.to_string())
}

/// Every form that there was.
fn forms() -> Vec<u32> {
    (1..).take_while(|form| folder(*form).is_dir()).collect()
}

fn newest() -> u32 {
    *forms().last().expect("a form")
}

fn kept(form: u32) -> Written {
    let entries = fs::read_dir(folder(form)).expect("a folder").map(|entry| entry.expect("a file").path());
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a text");
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        (name, serde_json::from_str(&text).expect("JSON"))
    };
    entries.map(read).collect()
}

/// All kept of one kind, with the form.
fn each(file: &str) -> Vec<(u32, Value)> {
    let of = |form| match kept(form).remove(file) {
        Some(Value::Array(all)) => all.into_iter().map(|one| (form, one)).collect(),
        Some(one) => vec![(form, one)],
        None => Vec::new(),
    };
    forms().into_iter().flat_map(of).collect()
}

// What this code writes

/// Four jobs: Spot takes back the runner of the first, that of the second does not start, the third can have none, and
/// the fourth's is registered and has no task. A sweep then fills the pool, and dispatch sees to what it hands back.
async fn play(world: &World, fleet: &Fleet) {
    let now = world.now();
    let names = ["test", "does not start", "too large", "without a task"];
    let jobs = world.github().queue_run((OWNER, REPOSITORY), &names, &LABELS, "octocat", now);
    let mut bodies: Vec<Value> = jobs.iter().map(|job| world.payload(*job, "queued")).collect();
    bodies[2]["workflow_job"]["labels"] = json!(["self-hosted", "fargate", "cpu=64"]);
    let bodies: Vec<String> = bodies[..3].iter().map(Value::to_string).collect();
    // One after the other: the numbers of registrations are always the same.
    for body in bodies {
        let mut batch = world.deliver(&[body]);
        if world.acknowledge(JOB_QUEUE, &batch, &fleet.dispatch(&batch).await) > 0 {
            // It is left to the pool first.
            world.advance(Duration::seconds(15));
            batch = world.receive(JOB_QUEUE, 10);
            assert_eq!(world.acknowledge(JOB_QUEUE, &batch, &fleet.dispatch(&batch).await), 0);
        }
    }

    let of = |job: u64| {
        let started_by = format!("gha-{job}");
        let ecs = world.ecs();
        ecs.live().find(|task| task.started_by == started_by).map(|task| task.number).expect("a task")
    };
    let dies = of(jobs[1]);
    world.kill_task(dies, "TaskFailedToStart", "CannotPullContainerError: timeout", None);
    tell(world, fleet, &world.state_change(dies)).await;
    let first = of(jobs[0]);
    world.boot();
    assert_eq!(world.assign().len(), 1);
    tell(world, fleet, &world.payload(jobs[0], "in_progress")).await;
    world.advance(Duration::minutes(1));
    world.kill_task(first, "SpotInterruption", "Your Spot Task was interrupted.", Some(143));
    world.github().complete(jobs[0], "failure", now);
    tell(world, fleet, &world.state_change(first)).await;

    let name = RunnerNames::default().of(&Purpose::Job(JobId(jobs[3]), Attempt::FIRST));
    world.github().mint(&Scope::organization(OWNER), &name, 1, &LABELS, now).expect("a registration");
    world.advance(Duration::minutes(11));
    let time = world.now().format(&Rfc3339).expect("a time");
    tell(world, fleet, &json!({ "detail-type": "Scheduled Event", "time": time, "detail": {} })).await;
    // A copy of what it handed back.
    let Value::Array(announced) = letters(world, JOB_QUEUE) else { panic!("a list") };
    let back = announced.into_iter().find(|it| it["replacement"]["registered"] == true);
    fleet.dispatch(&back.expect("a registration without a task")).await;
}

async fn tell(world: &World, fleet: &Fleet, event: &Value) {
    let batch = world.deliver_to(LIFECYCLE_QUEUE, &[event.to_string()]);
    world.acknowledge(LIFECYCLE_QUEUE, &batch, &fleet.reconcile(&batch).await);
}

fn letters(world: &World, queue: &str) -> Value {
    let letters = world.letters(queue).into_iter();
    letters.map(|(body, _)| serde_json::from_str::<Value>(&body).expect("JSON")).collect()
}

/// What the next release finds at ECS: a task's names and tags.
fn tasks(world: &World) -> Vec<Value> {
    let ecs = world.ecs();
    let task = |task: &crate::model::ecs::Task| {
        json!({
            "client_token": task.client_token,
            "started_by": task.started_by,
            "environment": task.environment.keys().collect::<Vec<_>>(),
            "tags": task.tags,
        })
    };
    ecs.tasks().map(task).collect()
}

/// What the webhook puts on the bus of an event that is too large: of any other, what GitHub sent.
async fn trimmed(world: &World) -> Value {
    let mut payload = world.payload(world.queue_job(&LABELS), "queued");
    payload["workflow_job"]["steps"] = json!(["x".repeat(400_000)]);
    let answer = front_door(world).answer(&signed("workflow_job", &payload.to_string())).await;
    assert_eq!(answer.status, 202);
    let event = world.bus().events.pop().expect("an event");
    let detail: Value = serde_json::from_str(&event.detail).expect("JSON");
    json!({ "source": event.source, "detail-type": event.detail_type, "detail": detail })
}

async fn written() -> Written {
    let world = World::start();
    // Two of its jobs are left to the pool first.
    world.set_now(NOON - Duration::seconds(30));
    let author = world.queue_url(AUTHOR_QUEUE);
    let settings = [
        ("CAPACITY", "FARGATE_SPOT,FARGATE"),
        ("AUTHOR_QUEUE_URL", author.as_str()),
        ("CHECK_RUNS", "true"),
        ("RUNNER_CLASSES", CLASSES),
        ("WARM_POOL_SIZE", "1"),
        ("RUNNER_LABELS", "self-hosted,fargate"),
    ];
    let fleet = Fleet::with(&world, &settings).await;
    play(&world, &fleet).await;
    let mut all_tasks = tasks(&world);
    let mut written = Written::from([
        ("jobs".to_owned(), letters(&world, JOB_QUEUE)),
        ("author".to_owned(), letters(&world, AUTHOR_QUEUE)),
        ("event".to_owned(), trimmed(&world).await),
    ]);
    let report = fleet.reconciler.examine(&Question::default()).await;
    let fields: Vec<&String> = report["checks"][0].as_object().expect("a check").keys().collect();
    written.insert("doctor".to_owned(), json!(fields));
    let batch = world.receive(AUTHOR_QUEUE, 10);
    fleet.tell_author(&batch).await;
    let names: Vec<String> = world.github().checks.iter().map(|check| check.name.clone()).collect();
    written.insert("checks".to_owned(), json!(names));

    // The other mode.
    let world = World::start();
    world.set_now(NOON);
    let fleet = Fleet::with(&world, &[("GITHUB_SECRET_ARN", "")]).await;
    let batch = world.deliver(&[world.queued(world.queue_job(&LABELS))]);
    world.acknowledge(JOB_QUEUE, &batch, &fleet.dispatch(&batch).await);
    all_tasks.extend(tasks(&world));
    written.insert("tasks".to_owned(), json!(all_tasks));
    written
}

#[tokio::test]
async fn this_code_writes_what_the_newest_form_keeps() {
    let (form, written) = (newest(), written().await);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        for (file, value) in &written {
            let text = serde_json::to_string_pretty(value).expect("JSON") + "\n";
            fs::write(folder(form).join(file).with_extension("json"), text).expect("a file");
        }
    }
    let (kept, next) = (kept(form), form + 1);
    for (file, value) in &written {
        assert_eq!(
            Some(value),
            kept.get(file),
            "{file}.json: this code writes another form than a release before does, and both are at work while a stack is \
             updated. Is form {form} of a release that is out, make a folder {next} beside it (and fill it with \
             UPDATE_EXPECT=1): tests/fixtures/formats/README.md"
        );
    }
    let unknown: Vec<&String> = kept.keys().filter(|file| !written.contains_key(*file)).collect();
    assert_eq!(unknown, OF_OTHERS);
}

// What this code reads

/// The same with something in each object below the first that a later release may have put there.
fn with_more(value: &Value) -> Value {
    let more = |value: &Value| {
        let mut value = with_more(value);
        if let Some(object) = value.as_object_mut() {
            object.insert("later".to_owned(), json!({ "than": ["this"] }));
        }
        value
    };
    match value {
        Value::Object(object) => object.iter().map(|(key, value)| (key.clone(), more(value))).collect(),
        Value::Array(all) => all.iter().map(more).collect(),
        plain => plain.clone(),
    }
}

/// All of it is understood: what is read says the same again. What is added changes nothing.
#[test]
fn announcements_of_each_form_are_read() {
    let jobs = each("jobs");
    assert!(jobs.len() >= 2 * forms().len(), "only {}", jobs.len());
    for (form, body) in jobs {
        let replacement = |body: &Value| match payload::read(&body.to_string()) {
            Ok(Message::Replacement(replacement)) => replacement,
            other => panic!("form {form}: {other:?}"),
        };
        let again: Value = serde_json::from_str(&replacement(&body).to_body()).expect("JSON");
        assert_eq!(again, body, "form {form}");
        assert_eq!(replacement(&with_more(&body)), replacement(&body), "form {form}, and more");
    }
}

#[test]
fn notices_of_each_form_are_read() {
    let notices = each("author");
    assert!(notices.len() >= 2);
    for (form, body) in notices {
        let read = |body: &Value| notice::read(&body.to_string());
        let notice = read(&body);
        let again = match &notice {
            Ok(Notice::Interrupted(interrupted)) => interrupted.to_body(),
            Ok(Notice::Word(word)) => word.to_body(),
            Err(error) => panic!("form {form}: {error}"),
        };
        assert_eq!(serde_json::from_str::<Value>(&again).expect("JSON"), body, "form {form}");
        assert_eq!(read(&with_more(&body)), notice, "form {form}, and more");
    }
}

/// A word of a later release that nobody here knows is left out, and nothing waits for it.
#[tokio::test]
async fn what_only_a_later_release_tells_authors_is_passed_over() {
    let world = World::start();
    let author = world.queue_url(AUTHOR_QUEUE);
    let fleet = Fleet::with(&world, &[("AUTHOR_QUEUE_URL", &author), ("CHECK_RUNS", "true")]).await;
    let (_, mut word) =
        each("author").into_iter().find(|(_, body)| body.get("word").is_some()).expect("a word");
    word["word"]["what"] = json!("later");
    let bodies = [word.to_string(), json!({ "later": {} }).to_string()];
    let batch = world.deliver_to(AUTHOR_QUEUE, &bodies);
    let (answer, _) = fleet.tell_author(&batch).await;
    assert_eq!(world.acknowledge(AUTHOR_QUEUE, &batch, &answer), 0, "they do not come again");
    assert!(world.github().checks.is_empty());
    world.finish();
}

#[test]
fn events_of_each_form_are_read() {
    for (form, event) in each("event") {
        assert_eq!((&event["source"], &event["detail-type"]), (&json!("github.com"), &json!("workflow_job")));
        let read = |event: &Value| match payload::read(&event.to_string()) {
            Ok(Message::WorkflowJob(event)) => *event,
            other => panic!("form {form}: {other:?}"),
        };
        let WorkflowJob { action, status, job, public, .. } = read(&event);
        let said = |path: &str| event["detail"].pointer(path).cloned().unwrap_or_default();
        assert_eq!((action, status, public), (Action::Queued, JobStatus::Queued, false));
        assert_eq!(
            (json!(job.id), json!(job.run_id)),
            (said("/workflow_job/id"), said("/workflow_job/run_id"))
        );
        assert_eq!(json!(job.labels), said("/workflow_job/labels"));
        assert_eq!(json!(job.target.owner), said("/repository/owner/login"));
        assert_eq!(json!(job.target.repository), said("/repository/name"));
        assert_eq!(json!(job.target.repository_id), said("/repository/id"));
        assert_eq!(json!(job.target.installation), said("/installation/id"));
        assert_eq!(read(&with_more(&event)), read(&event), "form {form}, and more");

        let mut later = event.clone();
        later["detail"]["action"] = json!("later");
        later["detail"]["workflow_job"]["status"] = json!("later");
        let later_read = read(&later);
        assert_eq!((later_read.action, later_read.status), (Action::Other, JobStatus::Unknown));
        later["detail-type"] = json!("later");
        assert!(matches!(payload::read(&later.to_string()), Ok(Message::OtherEvent(_))), "form {form}");
        assert!(matches!(lifecycle::read(&later.to_string()), Ok(Lifecycle::Other(_))), "form {form}");
    }
}

/// Names and tags of each form lead to the same runner.
#[test]
fn tasks_of_each_form_are_known() {
    let names = RunnerNames::default();
    for (form, task) in each("tasks") {
        let tags: BTreeMap<String, String> = serde_json::from_value(task["tags"].clone()).expect("tags");
        let read = TaskTags(&tags);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let said = |key: &str| tags.get(key).and_then(|value| value.parse::<u64>().ok());
        let purpose = read.purpose(&names).unwrap_or_else(|| panic!("form {form}: {task}"));
        assert!(text(&task["client_token"]).starts_with(&purpose.token()), "form {form}: {task}");
        assert_eq!(text(&task["started_by"]), purpose.started_by(), "form {form}");
        assert_eq!(purpose.job().map(|job| job.0), said("gha:job-id"), "form {form}");
        assert_eq!(read.runner_id().map(|id| id.0), said("gha:runner-id"), "form {form}");
        assert_eq!(read.repository_id().map(|id| id.0), said("gha:repository-id"), "form {form}");
        assert_eq!(
            (read.run_id(), read.installation().map(|id| id.0)),
            (said("gha:run-id"), said("gha:installation-id"))
        );
        assert_eq!(read.repository().map(|(owner, _)| owner), Some(OWNER), "form {form}");
        assert!(read.has_labels(&LABELS.map(str::to_owned)), "form {form}: {task}");
        assert_eq!(read.ran_job().map(|job| job.0), said("gha:ran-job"), "form {form}");
        assert_eq!(read.ran_repository_id().map(|id| id.0), said("gha:ran-repository-id"), "form {form}");
        // Where it is not said how many died before, each attempt was one.
        let died =
            said("gha:failures").or(said("gha:attempt").map(|attempt| attempt - 1)).unwrap_or_default();
        assert_eq!(u64::from(read.failures()), died, "form {form}");
    }
}

#[test]
fn what_the_rules_leave_of_each_form_is_read() {
    for (form, event) in each("task-stopped") {
        let read = |event: &Value| lifecycle::read(&event.to_string());
        let Ok(Lifecycle::TaskStopped(task)) = read(&event) else {
            panic!("form {form}: {:?}", read(&event))
        };
        assert_eq!(json!(task.arn.0), event["detail"]["taskArn"], "form {form}");
        assert!(task.stop.owes_a_runner(), "form {form}");
        assert_eq!(read(&with_more(&event)), read(&event), "form {form}, and more");
    }
}

/// The doctor of another release asks.
#[test]
fn the_doctor_s_question_of_each_form_is_read() {
    for (form, question) in each("doctor-question") {
        let read = |question: &Value| asked(&question.to_string()).unwrap_or_else(|| panic!("form {form}"));
        assert_eq!(json!(read(&question).webhook_url), question["doctor"]["webhook_url"], "form {form}");
        assert_eq!(json!(read(&question).wants), question["doctor"]["wants"], "form {form}");
        let mut more = question.clone();
        more["doctor"]["later"] = json!(1);
        assert_eq!(read(&more), read(&question), "form {form}, and more");
    }
}
