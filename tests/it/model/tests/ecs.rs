//! ECS: tasks, tokens, capacity, lists.

use std::collections::BTreeMap;

use time::{Duration, OffsetDateTime};

use super::NOON;
use crate::model::{
    ecs::{Answer, Ecs, Launch, ListTasks, RunTask, Status, Supply, fargate_has},
    past::Sight,
};

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
