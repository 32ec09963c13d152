//! What no event told: a sweep finds it, within its time and its calls.

use super::{LABELS, Metric, Op, Story};
use crate::http::{OWNER, Service};
use crate::model::github::{Scope, Untrue};
use serde_json::json;
use time::Duration;

#[tokio::test]
async fn a_registration_without_a_task_goes_back_to_dispatch() {
    let story = Story::begin().await;
    let job = story.world.queue_job(&LABELS);
    let (name, now) = (format!("fargate-{job}-1"), story.fleet.now());
    let minted = story.world.github().mint(&Scope::organization(OWNER), &name, 1, &LABELS, now);
    let left_by_a_crash = minted.expect("a registration");
    let swept = story.sweep().await;
    assert_eq!((swept.get(Metric::Settled), swept.get(Metric::LeftToNextSweep)), (1, 0));
    assert_eq!(story.count(Op::DeleteRunner), 0, "dispatch decides: it may only have been slow");

    // When another delivery has had its time, the attempt is announced anew.
    for live in [0, 0, 1] {
        story.dispatch_announced().await;
        assert_eq!(story.live(), live);
    }
    assert_eq!(story.names(), [name], "the same attempt");
    assert_ne!(story.runner_of(story.task()), left_by_a_crash);
    story.end();
}

#[tokio::test]
async fn a_task_whose_instance_has_to_start_first_is_waited_for() {
    let story = Story::begin().await;
    let job = story.start_job().await;
    let task = story.task();
    story.world.ecs().launched_by(task, "instances");
    story.world.advance(Duration::minutes(25));
    let swept = story.sweep().await;
    assert_eq!((swept.get(Metric::Replaced), swept.get(Metric::Retired), story.live()), (0, 0, 1));
    story.world.boot();
    story.world.assign();
    assert_eq!(story.status(job), "in_progress");
    story.world.finish_job(job);
    assert_eq!(story.count(Op::RunTask), 1);
    story.end();
}

#[tokio::test]
async fn a_runner_that_never_connects_is_replaced_announced_first() {
    let story = Story::begin().await;
    story.start_job().await;
    let (hung, now) = (story.task(), story.fleet.now());
    story.world.ecs().start(hung, now);
    story.world.take_calls();
    let swept = story.sweep_after_the_timeout().await;
    assert_eq!(swept.get(Metric::Replaced), 1);
    let order = story.order(&[Op::SendMessage, Op::DeleteRunner, Op::StopTask]);
    assert_eq!(order, [Op::SendMessage, Op::DeleteRunner, Op::StopTask]);

    story.tell_stopped(hung).await;
    story.dispatch_announced().await;
    assert_eq!(story.live(), 1);
    story.end();
}

/// The network has no way out, or GitHub's service is down: no job had a part in that.
#[tokio::test]
async fn runners_that_never_connect_give_no_job_up() {
    let story = Story::with(&[("MAX_ATTEMPTS", "1")]).await;
    for _ in 0..2 {
        story.start_job().await;
    }
    let tasks: Vec<u64> = story.world.ecs().live().map(|task| task.number).collect();
    for task in tasks {
        let now = story.fleet.now();
        story.world.ecs().start(task, now);
    }
    assert_eq!(story.sweep_after_the_timeout().await.get(Metric::Replaced), 2);
    assert_eq!(story.world.letters(crate::http::DEAD_LETTERS).len(), 0);
    story.dispatch_announced().await;
    assert_eq!(story.live(), 2);
    story.end();
}

#[tokio::test]
async fn a_runner_that_lost_its_job_is_replaced() {
    let story = Story::begin().await;
    let job = story.start_job().await;
    story.world.boot();
    story.world.assign();
    let now = story.fleet.now();
    story.world.github().lose_job(job, false, now);
    assert_eq!(story.sweep().await.get(Metric::Replaced), 0, "not before the time-out");
    assert_eq!(story.sweep_after_the_timeout().await.get(Metric::Replaced), 1);
    story.dispatch_announced().await;
    story.world.boot();
    story.world.assign();
    assert_eq!(story.status(job), "in_progress");
    story.end();
}

/// An alarm counts the sweeps.
#[tokio::test]
async fn a_sweep_that_may_not_look_is_none() {
    let story = Story::begin().await;
    assert_eq!(story.sweep().await.get(Metric::Swept), 1);
    let reset = story.fleet.now() + Duration::minutes(7);
    story.world.fail(Op::ListRunners).once().before().primary_rate_limit(reset);
    assert_eq!(story.sweep().await.get(Metric::Swept), 0);
    story.world.advance(Duration::minutes(8));
    assert_eq!(story.sweep().await.get(Metric::Swept), 1);
    story.end();
}

#[tokio::test]
async fn a_sweep_that_runs_out_of_time_leaves_the_rest_to_the_next() {
    let story = Story::begin().await;
    for job in [story.start_job().await, story.start_job().await, story.start_job().await] {
        story.cancel(job);
    }
    story.world.boot();
    story.world.advance(Duration::minutes(11));
    let swept = story.tell_within(&[story.schedule()], Duration::seconds(19)).await;
    assert_eq!((swept.get(Metric::Retired), swept.get(Metric::LeftToNextSweep)), (0, 3));
    assert_eq!(story.live(), 3);

    let swept = story.sweep().await;
    assert_eq!((swept.get(Metric::Retired), swept.get(Metric::LeftToNextSweep)), (3, 0));
    story.end();
}

#[tokio::test]
async fn a_sweep_that_waited_too_long_leaves_everything_to_the_next() {
    let story = Story::begin().await;
    let late = story.schedule();
    story.world.advance(Duration::minutes(11));
    let swept = story.tell_within(&[late], Duration::minutes(2)).await;
    assert_eq!(swept.get(Metric::Skipped), 1);
    assert!(story.world.calls().is_empty(), "{}", story.world.calls());
    story.end();
}

const REGISTRATIONS: usize = 10_000;
const RUNNERS: usize = 1_000;
const CANDIDATES: usize = 10;
/// Jobs that a sweep asks GitHub about, at most, before one idle runner goes.
const LONGEST_CHAIN: usize = 16;

/// A sweep of 10,000 registrations, most of them foreign, with 1,000 runners, of which ten are idle past the
/// time-out; `crosswise`, the others are at work on jobs that were not their own. The answer counts GitHub's REST
/// calls by what they are for: credentials (once an hour), pages, and the idle runners.
async fn large_sweep(crosswise: bool) -> (usize, usize, usize) {
    let story = Story::begin().await;
    // However long this takes here.
    story.world.set_now(story.world.now());
    let jobs: Vec<u64> = (0..RUNNERS).map(|_| story.world.queue_job(&LABELS)).collect();
    for ten in jobs.chunks(10) {
        story.dispatch(&ten.iter().map(|job| story.world.queued(*job)).collect::<Vec<_>>()).await;
    }
    // One sweep an hour, in its first minutes, looks at more: when this test runs must not matter.
    while (story.fleet.now() + Duration::minutes(11)).minute() < 5 {
        story.world.advance(Duration::minutes(1));
    }
    let (organization, now) = (Scope::organization(OWNER), story.fleet.now());
    let foreign: Vec<u64> = (RUNNERS..REGISTRATIONS)
        .map(|n| story.world.github().mint(&organization, &format!("other-{n}"), 1, &["gpu"], now))
        .map(|minted| minted.expect("a registration"))
        .collect();
    story.world.boot();
    let (cancelled, at_work) = jobs.split_at(CANDIDATES);
    assert!(cancelled.iter().all(|job| story.world.github().cancel(*job, now)));
    if !crosswise {
        for job in at_work {
            let name = format!("fargate-{job}-1");
            let runner = story.world.github().find(&organization, &name).map(|runner| runner.id);
            story.assign(*job, runner.expect("its own runner"));
        }
    }
    // Crosswise, each takes the first that is free: the one that was started ten jobs before.
    assert_eq!(story.world.assign().len(), if crosswise { at_work.len() } else { 0 });
    let busy: Vec<u64> = story.world.github().runners().filter(|it| it.busy).map(|it| it.id).collect();
    for (id, job) in busy.into_iter().zip(at_work) {
        // Which job it is, nobody told where they go crosswise.
        let ran = if crosswise { "unknown".to_owned() } else { job.to_string() };
        let name = story.world.github().runner(id).map(|it| it.name.to_string()).expect("its name");
        let task =
            story.world.task_of(id, &name).and_then(|task| story.world.ecs().arn(task).map(str::to_owned));
        let tagged = story.world.ecs().tag(&task.expect("its task"), &[("gha:ran-job".into(), ran)], now);
        tagged.expect("a task that lives");
    }
    story.world.advance(Duration::minutes(11));
    story.world.take_calls();

    let swept = story.sweep().await;
    // Where the chain is too long, it is not clear who needs the runner.
    let retired = if crosswise { 0 } else { CANDIDATES };
    assert_eq!((swept.get(Metric::Retired), swept.get(Metric::LeftToNextSweep)), (retired as u64, 0));
    let calls = story.world.calls();
    // Who took whose runner: the tasks that stopped in the last hour are listed.
    let pages = RUNNERS / 100;
    let stopped = if crosswise { String::new() } else { format!(", {CANDIDATES} StopTask") };
    // Before one goes, its tags are read once more.
    let described = if crosswise { pages } else { pages + CANDIDATES };
    assert_eq!(
        calls.to(Service::Ecs).tally(),
        format!("{} ListTasks, {described} DescribeTasks{stopped}", pages + 1)
    );
    for id in foreign {
        story.world.github().delete(&organization, id, now);
    }
    if !crosswise {
        assert_eq!(story.world.imbalances(), [""; 0]);
    }
    story.world.finish();
    let credentials = calls.count(Op::AccessToken) + calls.count(Op::FindInstallation);
    let pages = calls.count(Op::ListRunners);
    let rest = calls.to(Service::Github).len() - credentials - pages;
    (credentials, pages, rest)
}

/// Pages of 100 registrations, and no call for a runner that is at work.
const PAGES: usize = REGISTRATIONS / 100;

#[tokio::test]
async fn a_sweep_of_ten_thousand_registrations_costs_their_pages_and_two_calls_an_idle_runner() {
    // A GET of its job, and a DELETE.
    assert_eq!(large_sweep(false).await, (2, PAGES, 2 * CANDIDATES));
}

#[tokio::test]
async fn where_all_took_each_others_runners_it_follows_each_chain_only_so_far() {
    let (credentials, pages, calls) = large_sweep(true).await;
    assert_eq!((credentials, pages), (2, PAGES));
    assert_eq!(calls, LONGEST_CHAIN * CANDIDATES);
}

#[tokio::test]
async fn once_an_hour_a_sweep_looks_how_far_runners_are_behind() {
    let story = Story::begin().await;
    story.world.github().deployed = "2.335.0";
    let job = story.start_job().await;
    story.world.boot();
    story.world.assign();
    let mut seen = Vec::new();
    for _ in 0..12 {
        let swept = story.sweep().await;
        seen.push((swept.get(Metric::RunnerReleasesBehind), swept.get(Metric::LeftToNextSweep)));
        story.world.advance(Duration::minutes(5));
    }
    seen.sort_unstable();
    assert_eq!(seen, [[(0, 0); 11].as_slice(), &[(2, 0)]].concat());
    assert_eq!(story.count(Op::ListDownloads), 1);

    // When GitHub does not say, the sweep is a sweep all the same.
    story.world.fail(Op::ListDownloads).always().status(500);
    for _ in 0..12 {
        assert_eq!(story.sweep().await.get(Metric::LeftToNextSweep), 0);
        story.world.advance(Duration::minutes(5));
    }
    story.world.finish_job(job);
    story.end();
}

#[tokio::test]
async fn once_an_hour_a_sweep_holds_the_runner_group_against_the_policy() {
    let allowed = format!("{OWNER}/example-*");
    let story = Story::with(&[("ALLOWED_REPOSITORIES", &allowed)]).await;
    let too_wide = async || {
        story.world.take_calls();
        let (mut wide, mut left) = (0, 0);
        for _ in 0..12 {
            let swept = story.sweep().await;
            wide += swept.get(Metric::RunnerGroupTooWide);
            left += swept.get(Metric::LeftToNextSweep);
            story.world.advance(Duration::minutes(5));
        }
        assert_eq!((story.count(Op::GetGroup), left), (1, 0), "one of them looks, and none fails");
        wide
    };
    assert_eq!(too_wide().await, 1, "all repositories");
    let names: Vec<String> = (0..150).map(|n| format!("{OWNER}/example-{n}")).collect();
    story.world.app().groups_of_selected.insert(1, names);
    assert_eq!(too_wide().await, 0, "those that are served");
    assert_eq!(story.count(Op::ListGroup), 2, "all pages");
    story.world.app().groups_of_selected.entry(1).or_default().push(format!("{OWNER}/legacy"));
    assert_eq!(too_wide().await, 1, "and another, on the second page");
    story.world.app().groups_of_selected.clear();
    story.world.fail(Op::GetGroup).always().permission_missing("organization_self_hosted_runners=read");
    assert_eq!(too_wide().await, 0, "GitHub does not say");
    story.world.heal();
    story.world.github().groups.clear();
    assert_eq!(too_wide().await, 0, "there is none: the next mint says so");
    story.end();

    // A group is an organisation's.
    let story = Story::with(&[("RUNNER_SCOPE", "repo"), ("ALLOWED_REPOSITORIES", &allowed)]).await;
    for _ in 0..12 {
        story.sweep().await;
        story.world.advance(Duration::minutes(5));
    }
    assert_eq!(story.count(Op::GetGroup), 0);
    story.end();
}

/// Each class may name a group of its own, by its number or its name.
#[tokio::test]
async fn the_groups_that_classes_name_are_held_against_the_policy_too() {
    let rows = json!([
        {"name": "usual", "labels": ["fargate"]},
        {"name": "big", "labels": ["big"], "runner_group": "fargate 7", "high_priority_runner_group": 9,
         "high_priority_repositories": [format!("{OWNER}/release")]},
        {"name": "gpu", "labels": ["gpu"], "runner_group": 5, "repositories": [format!("{OWNER}/models")]},
        {"name": "a100", "labels": ["a100"], "runner_group": "Fargate 5", "repositories": [format!("{OWNER}/models")]},
    ]);
    let document = json!({"version": 1, "classes": rows}).to_string();
    let story = Story::with(&[("RUNNER_CLASSES", &document)]).await;
    story.world.github().groups.extend([5, 7, 9]);
    // The first sweep of an hour looks.
    let hour = story.fleet.now().replace_minute(0).expect("a minute") + Duration::hours(1);
    let mut hours = 0;
    let mut too_wide = async || {
        story.world.set_now(hour + Duration::hours(hours));
        hours += 1;
        story.world.take_calls();
        story.sweep().await.get(Metric::RunnerGroupTooWide)
    };
    assert_eq!(too_wide().await, 1, "group 5 is open to all repositories, and its classes are not");
    assert_eq!(story.count(Op::GetGroup), 5, "the stack's, and each that is named, as it is named");
    story.world.app().groups_of_selected.insert(5, vec![format!("{OWNER}/models")]);
    assert_eq!(too_wide().await, 1, "group 9 is for those alone that overtake");
    story.world.app().groups_of_selected.insert(9, vec![format!("{OWNER}/release")]);
    assert_eq!(too_wide().await, 0);
    story.world.app().groups_of_public.insert(7);
    assert_eq!(too_wide().await, 1, "group 7 is open to public repositories");
    story.end();
}

/// It ran a job that nobody told of, and lost it: its runner polls on, for ever. Idle in one look may be untrue.
#[tokio::test]
async fn a_runner_that_lost_a_job_that_nobody_told_of_goes_when_it_is_seen_idle_twice() {
    let story = Story::begin().await;
    let own = story.start_job().await;
    story.world.boot();
    story.cancel(own);
    let job = story.world.queue_job(&LABELS);
    story.assign(job, story.runner_of(story.task()));
    story.world.advance(Duration::minutes(3));
    story.sweep().await;
    assert_eq!(story.tag(story.task(), "gha:ran-untold").as_deref(), Some("true"));
    let now = story.fleet.now();
    story.world.github().lose_job(job, false, now);
    story.cancel(job);
    for live in [1, 0] {
        story.sweep_after_the_timeout().await;
        assert_eq!(story.live(), live);
    }
    story.end();
}

/// It has just been given a job, and is shown as idle; the job is shown as it was before that.
#[tokio::test]
async fn a_runner_that_is_known_to_have_a_job_is_not_deleted_by_one_old_answer() {
    let story = Story::begin().await;
    let own = story.start_job().await;
    story.world.boot();
    story.cancel(own);
    story.world.advance(Duration::minutes(11));
    let job = story.world.queue_job(&LABELS);
    story.world.advance(Duration::seconds(30));
    let (runner, now) = (story.runner_of(story.task()), story.fleet.now());
    story.assign(job, runner);
    story.tell(&story.world.payload(job, "in_progress")).await;
    story.world.github().say_of_runner(runner, Untrue { idle: true, ..Untrue::default() }, now);
    story.world.fail(Op::GetJob).times(9).stale(Duration::seconds(15));
    story.sweep().await;
    assert_eq!((story.count(Op::DeleteRunner), story.count(Op::StopTask)), (0, 0), "{}", story.world.calls());
    story.world.finish_job(job);
}
