//! The machines of the world, in tables: what the documentation of GitHub and AWS says they do.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    app::App,
    deliveries::Deliveries,
    ecs::{Answer, Ecs, Launch, ListTasks, RunTask, Status, Supply, fargate_has},
    github::{Deleted, Github, JobStatus, MintError, Scope},
    jit,
    limits::{Limited, Limits},
    past::Sight,
    sqs::Sqs,
};
use time::{Duration, OffsetDateTime, macros::datetime};

const NOON: OffsetDateTime = datetime!(2026-06-15 12:00 UTC);

fn org() -> Scope {
    Scope::organization("octo-org")
}

fn labels(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("label-{n}")).collect()
}

#[test]
fn github_mints_once_under_a_name() {
    let long = "x".repeat(65);
    let table = [
        ("a", 1, labels(1), Ok(1)),
        ("a", 1, labels(1), Err(MintError::NameTaken)),
        ("b", 1, labels(100), Ok(2)),
        ("c", 1, labels(101), Err(MintError::Labels)),
        ("c", 1, vec![], Err(MintError::Labels)),
        ("c", 1, vec![String::new()], Err(MintError::Labels)),
        (long.as_str(), 1, labels(1), Err(MintError::Name)),
        ("c", 7, labels(1), Err(MintError::UnknownGroup)),
        ("c", 2, labels(1), Err(MintError::GroupNotYours)),
    ];
    let mut github = Github::new();
    for (name, group, labels, want) in table {
        assert_eq!(github.mint(&org(), name, group, &labels, NOON), want, "{name} {group} {}", labels.len());
    }
    // Another scope has other names, and ids go on rising.
    let repository = Scope::repository("octo-org", "example-workflow");
    assert_eq!(github.mint(&repository, "a", 1, &labels(1), NOON), Ok(3));
    assert_eq!(github.find(&repository, "a").map(|runner| runner.id), Some(3));
    assert_eq!(github.mint(&org(), "Case", 1, &["Self-Hosted"], NOON), Ok(4));
    assert!(github.runner(4).is_some_and(|runner| runner.labels.stored().eq(["self-hosted"])));
}

#[test]
fn github_deletes_for_one_caller_only_and_never_a_busy_runner() {
    let mut github = Github::new();
    let runner = github.mint(&org(), "a", 1, &["x"], NOON).unwrap();
    assert_eq!(github.delete(&Scope::organization("other"), runner, NOON), Deleted::Gone);
    assert!(github.connect(runner, NOON));
    let job = github.queue_job(0, "octo-org", "r", &["X"], NOON);
    assert_eq!(github.assign_all(NOON), [(job, runner)]);
    assert_eq!(github.delete(&org(), runner, NOON), Deleted::Busy);
    assert!(github.disconnect(runner, NOON), "its process dies");
    assert_eq!(
        github.delete(&org(), runner, NOON + Duration::days(2)),
        Deleted::Busy,
        "until GitHub notices"
    );
    assert!(github.complete(job, "failure", NOON));
    assert_eq!(github.delete(&org(), runner, NOON), Deleted::Gone);

    let idle = github.mint(&org(), "a", 1, &["x"], NOON).unwrap();
    assert_eq!(github.delete(&org(), idle, NOON), Deleted::Spent);
    assert_eq!(github.delete(&org(), idle, NOON), Deleted::Gone);
    assert!(!github.connect(idle, NOON), "its configuration is worth nothing now");
}

#[test]
fn github_gives_a_job_to_any_runner_with_all_its_labels() {
    let table: [(&[&str], &[&str], bool); 7] = [
        (&["self-hosted", "fargate"], &["self-hosted", "fargate"], true),
        (&["Self-Hosted", "FARGATE"], &["self-hosted", "fargate"], true),
        (&["fargate"], &["self-hosted", "fargate", "cpu=2"], true),
        (&["self-hosted", "fargate", "cpu=2"], &["self-hosted", "fargate"], false),
        (&["self-hosted", "run=1"], &["self-hosted", "run=2"], false),
        (&["self-hosted", "run=1"], &["self-hosted", "run=1", "run=2"], true),
        (&[], &["self-hosted"], false),
    ];
    for (job, runner, fits) in table {
        let mut github = Github::new();
        let job_id = github.queue_job(0, "octo-org", "r", job, NOON);
        let other = github.queue_job(0, "octo-org", "r", &["other"], NOON);
        let id = github.mint(&org(), "a", 1, runner, NOON).unwrap();
        assert_eq!(github.runners_for(job_id).count(), 0, "it is not online yet");
        github.connect(id, NOON);
        assert_eq!(
            github.runners_for(job_id).collect::<Vec<_>>(),
            if fits { vec![id] } else { vec![] },
            "{job:?}"
        );
        assert_eq!(
            github.jobs_for(id, 9).collect::<Vec<_>>(),
            if fits { vec![job_id] } else { vec![] },
            "{job:?}"
        );
        assert_eq!(github.assign(job_id, id, NOON), fits);
        assert!(!github.assign(other, id, NOON));
        assert_eq!(github.queued_count(), if fits { 1 } else { 2 });
    }
}

#[test]
fn github_keeps_jobs_and_runners_of_other_owners_apart() {
    let table = [
        (Scope::organization("OCTO-org"), true),
        (Scope::organization("other"), false),
        (Scope::repository("octo-org", "r"), true),
        (Scope::repository("octo-org", "other"), false),
        (Scope::enterprise("github"), true),
    ];
    for (scope, fits) in table {
        let mut github = Github::new();
        let job = github.queue_job(0, "octo-org", "r", &["x"], NOON);
        let runner = github.mint(&scope, "a", 1, &["x"], NOON).unwrap();
        github.connect(runner, NOON);
        assert_eq!(github.assign(job, runner, NOON), fits, "{scope:?}");
    }
}

#[test]
fn a_job_takes_its_registration_with_it_and_a_ghost_keeps_polling() {
    let mut github = Github::new();
    let job = github.queue_job(7, "octo-org", "r", &["x"], NOON);
    let first = github.mint(&org(), "first", 1, &["x"], NOON).unwrap();
    let second = github.mint(&org(), "second", 1, &["x"], NOON).unwrap();
    github.connect(first, NOON);
    assert!(github.assign(job, first, NOON));
    github.lose_job(job, false, NOON);
    assert!(github.runner(first).is_some_and(|runner| runner.online && runner.ghost && !runner.busy));
    assert_eq!(github.assign_all(NOON), [], "a ghost gets no other job");
    github.connect(second, NOON);
    assert_eq!(github.assign_all(NOON), [(job, second)]);
    assert!(github.complete(job, "success", NOON));
    assert!(!github.complete(job, "success", NOON), "once");
    assert!(github.runner(second).is_none() && github.runner(first).is_some());
    assert_eq!(github.job(job).map(|job| job.status), Some(JobStatus::Completed));
}

#[test]
fn github_removes_a_registration_that_stays_away_for_a_day() {
    let mut github = Github::new();
    let never = github.mint(&org(), "never", 1, &["x"], NOON).unwrap();
    let once = github.mint(&org(), "once", 1, &["x"], NOON).unwrap();
    let online = github.mint(&org(), "online", 1, &["x"], NOON).unwrap();
    github.connect(online, NOON);
    github.connect(once, NOON);
    github.disconnect(once, NOON + Duration::hours(3));
    let alive = |github: &Github| github.runners().map(|runner| runner.id).collect::<Vec<_>>();
    github.expire(NOON + Duration::days(1));
    assert_eq!(alive(&github), [never, once, online]);
    github.expire(NOON + Duration::days(1) + Duration::seconds(1));
    assert_eq!(alive(&github), [once, online]);
    github.expire(NOON + Duration::days(30));
    assert_eq!(alive(&github), [online]);
}

#[test]
fn github_pages_by_the_hundred() {
    let mut github = Github::new();
    for n in 0..250 {
        github.mint(&org(), &format!("r{n}"), 1, &["x"], NOON).unwrap();
    }
    let sizes: Vec<usize> =
        (1..=4).map(|page| github.list(&org(), page, 100, Sight::at(NOON)).0.len()).collect();
    assert_eq!(sizes, [100, 100, 50, 0]);
    assert_eq!(github.list(&org(), 1, 100, Sight::at(NOON)).1, 250);
    assert_eq!(github.list(&Scope::organization("other"), 1, 100, Sight::at(NOON)).1, 0);
}

#[test]
fn a_jit_configuration_is_as_long_as_github_s_and_names_its_runner() {
    let encoded = jit::encode(42, "fargate-1234567890-1");
    assert!((4000..=4500).contains(&encoded.len()), "{} characters", encoded.len());
    assert_eq!(jit::runner_id(&encoded), Some(42));
    assert_eq!(jit::runner_id("bm90IGpzb24="), None);
}

#[test]
fn installation_tokens_live_an_hour() {
    let mut app = App::default();
    app.install("Octo-Org", 5);
    assert!(app.access_token(6, NOON).is_none());
    let (token, expires) = app.access_token(5, NOON).unwrap();
    assert_eq!(expires, NOON + Duration::hours(1));
    assert!(app.identity(&token, expires - Duration::seconds(1)).is_some());
    assert!(app.identity(&token, expires).is_none());
    assert_eq!(app.installation("OCTO-ORG"), Some(5));
    assert_eq!(app.installation("other"), None);
}

#[test]
fn deliveries_are_listed_newest_first_and_sent_again_under_their_guid() {
    let mut log = Deliveries::default();
    for n in 0..250 {
        log.sent(&format!("guid-{n}"), "workflow_job", Some("queued"), "{}", 502, NOON);
    }
    let (page, more) = log.list(None, 100, Sight::at(NOON));
    assert_eq!((page[0].id, page[99].id, more), (250, 151, true));
    let (page, more) = log.list(Some(51), 100, Sight::at(NOON));
    assert_eq!((page.len(), more), (50, false));
    assert!(log.redeliver(7) && !log.redeliver(1000));
    let again = log.take_redeliveries();
    assert_eq!((again.len(), again[0].guid.as_str()), (1, "guid-6"));
    let id = log.sent_again(&again[0], 202, NOON);
    let delivery = log.get(id).unwrap();
    assert!(delivery.redelivery && delivery.guid == "guid-6" && delivery.status_code == 202);
    let later = NOON + Duration::days(3);
    log.sent("later", "ping", None, "{}", 200, later);
    assert!(log.list(None, 100, Sight::at(NOON)).0.is_empty(), "a late copy does not know it");
    assert_eq!(log.list(None, 100, Sight::at(later)).0.len(), 1, "the log goes back three days");
}

#[test]
fn a_late_copy_shows_what_was_there_before() {
    let mut github = Github::new();
    let at = |seconds| NOON + Duration::seconds(seconds);
    let job = github.queue_job(0, "octo-org", "r", &["x"], at(100));
    let runner = github.mint(&org(), "a", 1, &["x"], at(100)).unwrap();
    let seen = |github: &Github, seconds: i64| {
        let sight = Sight::at(at(seconds - 60));
        let job = github.show_job("octo-org", "r", job, sight).map(|job| job.status);
        let named = github.show_named(&org(), "a", sight).map(|runner| runner.online);
        assert_eq!(github.show_runner(&org(), runner, sight).map(|runner| runner.online), named);
        assert_eq!(github.list(&org(), 1, 100, sight).1, usize::from(named.is_some()));
        (job, named)
    };
    assert_eq!(seen(&github, 100), (None, None));
    assert!(github.connect(runner, at(170)));
    assert_eq!(seen(&github, 170), (Some(JobStatus::Queued), Some(false)));
    assert!(github.assign(job, runner, at(200)));
    github.complete(job, "success", at(240));
    assert_eq!(seen(&github, 240), (Some(JobStatus::Queued), Some(true)));
    assert!(github.show_named(&org(), "a", Sight::at(at(240))).is_none());
    assert_eq!(seen(&github, 270), (Some(JobStatus::InProgress), Some(true)));
    assert_eq!(seen(&github, 301), (Some(JobStatus::Completed), None));
}

fn ecs() -> Ecs {
    let mut ecs = Ecs::new();
    ecs.clusters.insert("c".into());
    ecs.definitions.insert("d".to_owned(), (3, vec!["runner".to_owned()]));
    ecs
}

fn request(token: &str) -> RunTask {
    RunTask {
        cluster: "c".to_owned(),
        task_definition: "d".to_owned(),
        client_token: Some(token.to_owned()),
        started_by: "gha-1".to_owned(),
        launch: Launch::Provider("FARGATE".to_owned()),
        container: Some("runner".to_owned()),
        environment: vec![("RUNNER_NAME".to_owned(), "fargate-1-1".to_owned())],
        cpu: None,
        memory: None,
        disk: None,
        tags: vec![],
        subnets: vec!["subnet-1".to_owned()],
        security_groups: vec![],
        public_ip: true,
    }
}

fn list(ecs: &mut Ecs, started_by: Option<&str>, after: u64, now: OffsetDateTime) -> (Vec<u64>, bool) {
    let wanted = ListTasks { cluster: "c", started_by, stopped: false, after, limit: 100 };
    ecs.list(&wanted, Sight::at(now), now).unwrap()
}

#[test]
fn a_client_token_stands_for_one_request_and_one_task_for_a_day() {
    let mut ecs = ecs();
    ecs.clusters.insert("other".into());
    assert_eq!(ecs.run_task(&request("1-1"), NOON), Ok(Answer::Started(1)));
    assert_eq!(ecs.run_task(&request("1-1"), NOON), Ok(Answer::Started(1)));
    let mut changed = request("1-1");
    changed.environment[0].1.push('x');
    let conflict = ecs.run_task(&changed, NOON).unwrap_err();
    assert_eq!(conflict.code, "ConflictException");
    assert_eq!(
        conflict.resource_ids,
        ["arn:aws:ecs:us-east-1:123456789012:task/c/00000000000000000000000000000001"]
    );
    assert!(ecs.find("c", &conflict.resource_ids[0], Sight::at(NOON)).unwrap().is_some());
    let elsewhere = RunTask { cluster: "other".to_owned(), ..request("1-1") };
    assert_eq!(ecs.run_task(&elsewhere, NOON), Ok(Answer::Started(2)), "the token belongs to the cluster");
    let later = NOON + Duration::hours(24);
    assert_eq!(ecs.run_task(&changed, later - Duration::seconds(1)).unwrap_err().code, "ConflictException");
    assert_eq!(ecs.run_task(&changed, later), Ok(Answer::Started(3)));
}

#[test]
fn ecs_refuses_what_it_does_not_have() {
    let cluster = || RunTask { cluster: "x".to_owned(), ..request("t") };
    let family = |name: &str| RunTask { task_definition: name.to_owned(), ..request("t") };
    let table = [
        (cluster(), "ClusterNotFoundException"),
        (family("x"), "ClientException"),
        (family("d:4"), "ClientException"),
        (family("d:0"), "ClientException"),
        (RunTask { container: Some("sidecar".to_owned()), ..request("t") }, "InvalidParameterException"),
        (RunTask { cpu: Some(1024), memory: Some(1024), ..request("t") }, "InvalidParameterException"),
        (RunTask { disk: Some(20), ..request("t") }, "InvalidParameterException"),
        (RunTask { disk: Some(201), ..request("t") }, "InvalidParameterException"),
        (
            RunTask { launch: Launch::Provider("MINE".to_owned()), ..request("t") },
            "InvalidParameterException",
        ),
    ];
    let mut ecs = ecs();
    for (request, want) in table {
        assert_eq!(ecs.run_task(&request, NOON).map_err(|error| error.code), Err(want.to_owned()));
    }
    for name in ["d", "d:1", "d:3", "arn:aws:ecs:us-east-1:123456789012:task-definition/d:2"] {
        assert!(ecs.run_task(&RunTask { client_token: None, ..family(name) }, NOON).is_ok(), "{name}");
    }
}

#[test]
fn capacity_runs_dry_provider_by_provider_and_a_refusal_uses_no_token() {
    let mut ecs = ecs();
    ecs.supply.insert("FARGATE_SPOT".to_owned(), Supply::Slots(1));
    let spot =
        |token: &str| RunTask { launch: Launch::Provider("FARGATE_SPOT".to_owned()), ..request(token) };
    assert!(matches!(ecs.run_task(&spot("a"), NOON), Ok(Answer::Started(1))));
    assert!(
        matches!(ecs.run_task(&spot("b"), NOON), Ok(Answer::Refused(_, reason)) if reason.contains("Capacity"))
    );
    assert!(matches!(ecs.run_task(&spot("a"), NOON), Ok(Answer::Started(1))), "that one is started");
    assert!(matches!(ecs.run_task(&request("b"), NOON), Ok(Answer::Started(2))));
    ecs.supply.insert("FARGATE".to_owned(), Supply::DryByException);
    assert_eq!(ecs.run_task(&request("c"), NOON).unwrap_err().code, "ClientException");
    let by_type = RunTask { launch: Launch::Type("FARGATE".to_owned()), ..request("c") };
    assert_eq!(ecs.run_task(&by_type, NOON).unwrap_err().code, "ClientException");
}

#[test]
fn launches_are_throttled_to_a_hundred_and_twenty_a_second() {
    let mut ecs = ecs();
    ecs.throttle_launches = true;
    let mut started = |from: usize, now| {
        let tokens = (from..from + 200).map(|n| format!("t{n}"));
        tokens.filter(|token| ecs.run_task(&request(token), now).is_ok()).count()
    };
    assert_eq!(started(0, NOON), 100);
    assert_eq!(started(200, NOON + Duration::seconds(1)), 20);
    assert_eq!(started(400, NOON + Duration::minutes(1)), 100);
}

#[test]
fn a_task_lives_stops_and_is_forgotten_after_an_hour() {
    let mut ecs = ecs();
    ecs.run_task(&RunTask { tags: vec![("k".to_owned(), "v".to_owned())], ..request("a") }, NOON).unwrap();
    ecs.run_task(&request("b"), NOON).unwrap();
    assert_eq!(ecs.counts("c", NOON).unwrap(), ("c".into(), 0, 2));
    assert!(ecs.start(1, NOON) && !ecs.start(1, NOON));
    assert_eq!(ecs.counts("c", NOON).unwrap(), ("c".into(), 1, 1));
    let arn = ecs.arn(1).unwrap().to_owned();
    ecs.stop_takes = Some(Duration::seconds(30));
    ecs.stop("c", &arn, "idle", NOON).unwrap();
    assert_eq!(ecs.task(1).map(|task| (task.status, task.tags.len())), Some((Status::Deprovisioning, 0)));
    assert_eq!(list(&mut ecs, None, 0, NOON).0, [2], "its desired status is STOPPED");
    assert_eq!(ecs.counts("c", NOON).unwrap(), ("c".into(), 1, 1));
    ecs.advance(NOON + Duration::seconds(30));
    let task = ecs.task(1).unwrap();
    assert_eq!((task.status, task.stop_code.as_deref()), (Status::Stopped, Some("UserInitiated")));
    assert_eq!(task.stopped_reason.as_deref(), Some("idle"));
    assert!(ecs.stopped(2, "TaskFailedToStart", "no image", None, NOON + Duration::seconds(30)));
    assert!(!ecs.stopped(2, "TaskFailedToStart", "no image", None, NOON + Duration::seconds(30)), "once");
    assert!(ecs.stop("c", &arn, "again", NOON + Duration::minutes(5)).is_ok(), "it is stopped");
    assert_eq!(ecs.task(1).unwrap().stopped_reason.as_deref(), Some("idle"));
    assert_eq!(
        ecs.tag(&arn, &[], NOON + Duration::minutes(5)).unwrap_err().code,
        "InvalidParameterException"
    );
    let changes = [
        (1, Status::Pending),
        (2, Status::Pending),
        (1, Status::Running),
        (1, Status::Deprovisioning),
        (1, Status::Stopped),
        (2, Status::Stopped),
    ];
    assert_eq!(ecs.take_changes(), changes);
    let forgotten = NOON + Duration::seconds(30) + Duration::hours(1);
    ecs.advance(forgotten);
    assert_eq!(ecs.tasks().count(), 0);
    assert_eq!(ecs.stop("c", &arn, "again", forgotten).unwrap_err().code, "InvalidParameterException");
    assert_eq!(ecs.run_task(&request("b"), forgotten), Ok(Answer::Started(2)), "the token outlives the task");
}

#[test]
fn ecs_lists_late_and_in_pages() {
    let mut ecs = ecs();
    for n in 0..250 {
        let started_by = if n == 100 { "gha-2" } else { "gha-1" };
        ecs.run_task(&RunTask { started_by: started_by.to_owned(), ..request(&format!("t{n}")) }, NOON)
            .unwrap();
    }
    let mut pages = Vec::new();
    let mut after = 0;
    loop {
        let (page, more) = list(&mut ecs, None, after, NOON);
        pages.push(page.len());
        after = page.last().copied().unwrap_or(after);
        if !more {
            break;
        }
    }
    assert_eq!(pages, [100, 100, 50]);
    assert_eq!(list(&mut ecs, Some("gha-2"), 0, NOON).0, [101]);
    assert!(list(&mut ecs, Some("gha-3"), 0, NOON).0.is_empty());
    ecs.list_lag = Duration::seconds(5);
    ecs.run_task(&RunTask { started_by: "gha-3".to_owned(), ..request("late") }, NOON).unwrap();
    assert!(list(&mut ecs, Some("gha-3"), 0, NOON + Duration::seconds(4)).0.is_empty());
    assert_eq!(list(&mut ecs, Some("gha-3"), 0, NOON + Duration::seconds(5)).0, [251]);
    let elsewhere = ListTasks { cluster: "x", started_by: None, stopped: false, after: 0, limit: 1 };
    let error = ecs.list(&elsewhere, Sight::at(NOON), NOON).unwrap_err();
    assert_eq!(error.code, "ClusterNotFoundException");
}

#[test]
fn a_late_copy_of_ecs_shows_a_task_as_it_was() {
    let mut ecs = ecs();
    let at = |seconds| NOON + Duration::seconds(seconds);
    ecs.stop_takes = None;
    ecs.run_task(&request("a"), at(0)).unwrap();
    let arn = ecs.arn(1).unwrap().to_owned();
    ecs.start(1, at(60));
    ecs.tag(&arn, &[("k".to_owned(), "v".to_owned())], at(120)).unwrap();
    ecs.stop("c", &arn, "idle", at(180)).unwrap();
    ecs.stopped(1, "EssentialContainerExited", "", Some(143), at(240));
    let mut seen = |seconds: i64| {
        let sight = Sight::at(at(seconds));
        let mut listed = |stopped| {
            let wanted = ListTasks { cluster: "c", started_by: Some("gha-1"), stopped, after: 0, limit: 100 };
            ecs.list(&wanted, sight, at(240)).unwrap().0.len()
        };
        let listed = (listed(false), listed(true));
        let task = ecs.find("c", &arn, sight).unwrap();
        (listed, task.map(|task| (task.status, task.tags.len())))
    };
    assert_eq!(seen(-1), ((0, 0), None));
    assert_eq!(seen(0), ((1, 0), Some((Status::Pending, 0))));
    assert_eq!(seen(119), ((1, 0), Some((Status::Running, 0))));
    assert_eq!(seen(179), ((1, 0), Some((Status::Running, 1))));
    assert_eq!(seen(239), ((0, 1), Some((Status::Deprovisioning, 0))));
    assert_eq!(seen(240), ((0, 1), Some((Status::Stopped, 0))));
}

#[test]
fn fargate_s_table() {
    let sizes =
        (0..=17_000).step_by(128).flat_map(|cpu| (0..=131_072).step_by(512).map(move |memory| (cpu, memory)));
    let mut count: BTreeMap<u32, (usize, u32, u32)> = BTreeMap::new();
    for (cpu, memory) in sizes.filter(|(cpu, memory)| fargate_has(Some(*cpu), Some(*memory))) {
        let row = count.entry(cpu).or_insert((0, memory, memory));
        *row = (row.0 + 1, row.1, memory);
    }
    // CPU units: how many memory values, the least and the most ("Task CPU and memory", ECS Developer Guide).
    let want = [
        (256, (3, 512, 2048)),
        (512, (4, 1024, 4096)),
        (1024, (7, 2048, 8192)),
        (2048, (13, 4096, 16384)),
        (4096, (23, 8192, 30720)),
        (8192, (12, 16384, 61440)),
        (16384, (12, 32768, 122_880)),
    ];
    assert_eq!(count, BTreeMap::from(want));
    assert!(fargate_has(None, None) && !fargate_has(Some(256), None) && !fargate_has(None, Some(512)));
}

fn queue() -> Sqs {
    let mut sqs = Sqs::default();
    sqs.create("dead");
    let queue = sqs.create("q");
    queue.visibility_timeout = Duration::seconds(180);
    queue.retention = Duration::hours(24);
    queue.redrive = Some(("dead".to_owned(), 3));
    sqs
}

fn send(sqs: &mut Sqs, delay: i64) -> u64 {
    sqs.send("q", "body", BTreeMap::new(), Duration::seconds(delay), NOON).unwrap()
}

#[test]
fn a_message_comes_again_until_it_is_deleted_or_dead() {
    let mut sqs = queue();
    send(&mut sqs, 0);
    let at = |seconds| NOON + Duration::seconds(seconds);
    let first = sqs.receive("q", 10, NOON).unwrap();
    assert_eq!(first[0].receive_count, 1);
    assert!(sqs.receive("q", 10, at(179)).unwrap().is_empty());
    let second = sqs.receive("q", 10, at(180)).unwrap();
    assert_eq!((second[0].id, second[0].receive_count), (first[0].id, 2));
    sqs.delete("q", first[0].receipt_handle.as_deref().unwrap(), at(180)).unwrap();
    assert_eq!(sqs.len("q"), 1, "the handle of an earlier receive deletes nothing");
    assert_eq!(sqs.receive("q", 10, at(360)).unwrap().len(), 1);
    assert!(sqs.receive("q", 10, at(540)).unwrap().is_empty(), "received three times: dead");
    assert_eq!((sqs.len("q"), sqs.len("dead")), (0, 1));
    let dead = sqs.receive("dead", 1, at(540)).unwrap();
    sqs.delete("dead", dead[0].receipt_handle.as_deref().unwrap(), at(540)).unwrap();
    sqs.delete("dead", dead[0].receipt_handle.as_deref().unwrap(), at(540)).unwrap();
    assert_eq!(sqs.len("dead"), 0);
}

#[test]
fn a_deleted_message_may_come_once_more() {
    let mut sqs = queue();
    let id = send(&mut sqs, 0);
    let received = sqs.receive("q", 1, NOON).unwrap();
    sqs.deliver_again("q", id);
    sqs.delete("q", received[0].receipt_handle.as_deref().unwrap(), NOON).unwrap();
    assert!(sqs.receive("q", 1, NOON + Duration::seconds(19)).unwrap().is_empty());
    let again = sqs.receive("q", 1, NOON + Duration::seconds(20)).unwrap();
    assert_eq!((again[0].id, again[0].receive_count), (id, 2));
    sqs.delete("q", again[0].receipt_handle.as_deref().unwrap(), NOON).unwrap();
    assert_eq!(sqs.len("q"), 0);
}

#[test]
fn visibility_is_changed_within_twelve_hours_and_only_in_flight() {
    let mut sqs = queue();
    send(&mut sqs, 5);
    assert!(sqs.receive("q", 1, NOON).unwrap().is_empty(), "delayed");
    let received = NOON + Duration::seconds(5);
    let handle = sqs.receive("q", 1, received).unwrap()[0].receipt_handle.clone().unwrap();
    let table = [
        (handle.as_str(), -1, "InvalidParameterValue"),
        (&handle, 43_201, "InvalidParameterValue"),
        ("AQEB", 0, "ReceiptHandleIsInvalid"),
        ("dead/1/1", 0, "ReceiptHandleIsInvalid"),
        ("q/9/1", 0, "InvalidParameterValue"),
        ("q/1/9", 0, "InvalidParameterValue"),
    ];
    for (handle, seconds, want) in table {
        let error = sqs.change_visibility("q", handle, Duration::seconds(seconds), received).unwrap_err();
        assert_eq!(error.code, want, "{handle} {seconds}");
    }
    let later = received + Duration::seconds(1);
    assert!(
        sqs.change_visibility("q", &handle, Duration::seconds(43_200), later).is_err(),
        "12 hours in all"
    );
    sqs.change_visibility("q", &handle, Duration::seconds(900), later).unwrap();
    assert_eq!(sqs.next_visible_at("q"), Some(later + Duration::seconds(900)));
    sqs.change_visibility("q", &handle, Duration::seconds(0), later).unwrap();
    assert_eq!(
        sqs.change_visibility("q", &handle, Duration::seconds(60), later).unwrap_err().code,
        "MessageNotInflight"
    );
    let visible: BTreeSet<u64> = sqs.visible("q", later).unwrap().collect();
    assert_eq!(visible, BTreeSet::from([1]));
    assert_eq!(sqs.visible("q", NOON + Duration::hours(24)).unwrap().count(), 0, "retention");
    assert_eq!(sqs.receive("x", 1, NOON).unwrap_err().code, "QueueDoesNotExist");
}

#[test]
fn github_limits_requests_points_and_registrations() {
    let allowed = |limits: &mut Limits, points, scope, now| {
        (0..10_000).take_while(|_| limits.charge("me", points, scope, now).is_ok()).count()
    };
    let mut limits = Limits::default();
    assert_eq!(allowed(&mut limits, 5, Some("o"), NOON), 10_000, "none, until they are set");
    let mut limits = Limits::github();
    assert_eq!(allowed(&mut limits, 5, Some("o"), NOON), 180);
    let wait = Duration::seconds(20);
    let later = NOON + Duration::seconds(40);
    assert_eq!(limits.charge("me", 5, None, later), Err(Limited::Secondary { retry_after: wait }));
    assert_eq!(allowed(&mut limits, 1, None, later + wait), 900);
    let mut limits = Limits::github();
    limits.points_a_minute = None;
    assert_eq!(allowed(&mut limits, 5, Some("o"), NOON), 1500);
    assert_eq!(allowed(&mut limits, 5, Some("other"), NOON), 1500);
    assert_eq!(
        allowed(&mut limits, 1, None, NOON),
        5000 - 3000 - 2,
        "two were counted before they were refused"
    );
    let reset = NOON + Duration::hours(1);
    assert_eq!(limits.charge("me", 1, None, later), Err(Limited::Primary { reset }));
    assert_eq!(limits.charge("me", 1, None, reset), Ok(()));
}
