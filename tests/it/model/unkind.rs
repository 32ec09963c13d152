//! What GitHub and AWS have done to other fleets, one by one.

use time::{Duration, OffsetDateTime, macros::datetime};

use super::{
    ecs::{Ecs, Launch, RunTask},
    github::{Deleted, Github, JobStatus, Scope, Untrue},
    past::Sight,
};

const NOON: OffsetDateTime = datetime!(2026-06-15 12:00 UTC);

fn org() -> Scope {
    Scope::organization("octo-org")
}

/// A GitHub in which a runner has a job: their ids.
fn at_work() -> (Github, u64, u64) {
    let mut github = Github::new();
    let job = github.queue_job(7, "octo-org", "r", &["x"], NOON);
    let runner = github.mint(&org(), "a", 1, &["x"], NOON).unwrap();
    github.connect(runner, NOON);
    assert!(github.assign(job, runner, NOON));
    (github, job, runner)
}

#[test]
fn a_lost_assignment_may_consume_the_registration() {
    let (mut github, job, runner) = at_work();
    github.lose_job(job, true, NOON);
    assert_eq!(github.job(job).map(|job| (job.status, job.runner.clone())), Some((JobStatus::Queued, None)));
    let sight = Sight::at(NOON);
    assert!(github.show_runner(&org(), runner, sight).is_none());
    assert!(github.show_named(&org(), "a", sight).is_none());
    assert_eq!(github.list(&org(), 1, 100, sight).1, 0);
    assert_eq!(github.delete(&org(), runner, NOON), Deleted::Gone);
    assert!(!github.connect(runner, NOON), "it polls, and is told nothing");
    let next = github.mint(&org(), "a", 1, &["x"], NOON).unwrap();
    github.connect(next, NOON);
    assert_eq!(github.assign_all(NOON), [(job, next)]);
}

#[test]
fn a_runner_at_work_that_seems_idle_can_be_deleted() {
    let (mut github, job, runner) = at_work();
    let shown = |github: &Github| {
        let runner = github.show_runner(&org(), runner, Sight::at(NOON)).unwrap();
        (runner.seems_online(), runner.seems_busy())
    };
    github.say_of_runner(runner, Untrue { offline: true, ..Untrue::default() }, NOON);
    assert_eq!(shown(&github), (false, true));
    assert_eq!(github.delete(&org(), runner, NOON), Deleted::Busy);
    github.say_of_runner(runner, Untrue { idle: true, ..Untrue::default() }, NOON);
    assert_eq!(shown(&github), (true, false));
    github.queue_job(8, "octo-org", "r", &["x"], NOON);
    assert_eq!(github.assign_all(NOON), [], "it only seems so");
    github.say_of_runner(runner, Untrue::default(), NOON);
    assert_eq!((shown(&github), github.delete(&org(), runner, NOON)), ((true, true), Deleted::Busy));
    github.say_of_runner(runner, Untrue { idle: true, ..Untrue::default() }, NOON);
    assert_eq!(github.delete(&org(), runner, NOON), Deleted::Spent);
    assert_eq!(github.job(job).map(|job| job.status), Some(JobStatus::InProgress), "until GitHub notices");
    assert!(github.complete(job, "failure", NOON));
}

#[test]
fn a_runner_may_be_missing_from_lists_for_a_moment() {
    let (mut github, _, runner) = at_work();
    let other = github.mint(&org(), "b", 1, &["x"], NOON).unwrap();
    let listed = |github: &Github, seconds| {
        let sight = Sight::at(NOON + Duration::seconds(seconds));
        let ids: Vec<u64> = github.list(&org(), 1, 100, sight).0.iter().map(|runner| runner.id).collect();
        (ids, github.show_named(&org(), "a", sight).is_some())
    };
    let later = NOON + Duration::seconds(60);
    github.say_of_runner(runner, Untrue { unlisted: true, ..Untrue::default() }, later);
    assert_eq!(listed(&github, 60), (vec![other], false));
    assert_eq!(listed(&github, 59), (vec![runner, other], true), "an older copy has it");
    assert!(github.show_runner(&org(), runner, Sight::at(later)).is_some());
    assert!(github.mint(&org(), "a", 1, &["x"], later).is_err(), "its name is taken all the same");
    github.say_of_runner(runner, Untrue::default(), later);
    assert_eq!(listed(&github, 60), (vec![runner, other], true));
}

#[test]
fn github_may_say_a_status_that_it_has_added_since() {
    let (mut github, job, _) = at_work();
    let said = |github: &Github| github.job(job).map(|job| job.said_status());
    github.say_status(job, Some("assigned"), NOON);
    assert_eq!(said(&github), Some("assigned"));
    github.say_status(job, None, NOON);
    assert_eq!(said(&github), Some("in_progress"));
}

#[test]
fn ec2_s_throttling_looks_like_a_mistake_of_ours() {
    let mut ecs = Ecs::new();
    ecs.clusters.insert("c".into());
    ecs.definitions.insert("d".to_owned(), (1, vec![]));
    (ecs.throttle_launches, ecs.disguise_throttling) = (true, true);
    let launch = Launch::Provider("FARGATE".to_owned());
    let request = RunTask {
        cluster: "c".to_owned(),
        task_definition: "d".to_owned(),
        client_token: None,
        started_by: String::new(),
        launch,
        container: None,
        environment: vec![],
        cpu: None,
        memory: None,
        disk: None,
        tags: vec![],
        subnets: vec![],
        security_groups: vec![],
        public_ip: false,
    };
    let refused = (0..101).find_map(|_| ecs.run_task(&request, NOON).err()).unwrap();
    assert_eq!((refused.code.as_str(), refused.status()), ("InvalidParameterException", 400));
    assert!(refused.message.contains("RequestLimitExceeded"));
}
