//! Several Apps: each makes its share of the calls, and where one may not, another does.

use gha_fargate_runners::{flows::doctor::Question, lambda::metric::Metric, ports::Runs};
use serde_json::{Value, json};
use time::{Duration, format_description::well_known::Rfc3339};

use crate::fleet::Fleet;
use crate::http::{APP_ID, APP_KEY, APP_SECRET, INSTALLATION, JOB_QUEUE, LIFECYCLE_QUEUE, OWNER, Op, World};
use crate::log::Log;
use crate::model::{bus::Secrets, deliveries::Deliveries, github::Scope};

const LABELS: [&str; 2] = ["self-hosted", "fargate"];
const SECOND: u64 = APP_ID + 1;
const SECOND_INSTALLATION: u64 = 77;

fn app(id: u64) -> Value {
    json!({"app_id": id, "private_key": APP_KEY})
}

/// A world in which two Apps are installed, and the secret holds both.
fn two() -> World {
    let world = World::start();
    world.app().others.insert(SECOND, [(OWNER.to_owned(), SECOND_INSTALLATION)].into());
    world.secrets().set(APP_SECRET, &json!([app(APP_ID), app(SECOND)]).to_string());
    world
}

fn suspend(world: &World, installation: u64, suspended: bool) {
    world.app().installed.entry(installation).or_default().suspended = suspended;
}

/// So many jobs are queued, in batches of ten: how many of their messages come again.
async fn start(world: &World, fleet: &Fleet, jobs: usize) -> usize {
    let bodies: Vec<String> = (0..jobs).map(|_| world.queued(world.queue_job(&LABELS))).collect();
    let mut again = 0;
    for ten in bodies.chunks(10) {
        let batch = world.deliver(ten);
        again += world.acknowledge(JOB_QUEUE, &batch, &fleet.dispatch(&batch).await);
    }
    again
}

/// Registrations that were made by the first App and by the second since the last look.
fn mints(world: &World) -> (usize, usize) {
    let calls = std::mem::take(&mut world.app().calls);
    let of = |id| calls.get(&id).map_or(0, |(_, mints)| *mints);
    (of(INSTALLATION), of(SECOND_INSTALLATION))
}

#[tokio::test]
async fn each_takes_its_share_and_a_name_is_taken_for_both() {
    let world = two();
    let fleet = Fleet::new(&world).await;
    assert_eq!(start(&world, &fleet, 40).await, 0);
    let (first, second) = mints(&world);
    assert_eq!(first + second, 40);
    assert!(first.min(second) >= 8, "{first} and {second}");
    let to_begin_with = "2 find installation, 2 access token";
    assert!(world.take_calls().to(crate::http::Service::Github).tally().contains(to_begin_with));

    // Another process, with the Apps in another order, or without the one that made them: the same runners.
    for secret in [json!([app(SECOND), app(APP_ID)]), json!([app(SECOND)])] {
        world.secrets().set(APP_SECRET, &secret.to_string());
        let fleet = Fleet::new(&world).await;
        let bodies: Vec<String> = (1..=40).map(|job| world.queued(job)).collect();
        for ten in bodies.chunks(10) {
            let batch = world.deliver(ten);
            world.acknowledge(JOB_QUEUE, &batch, &fleet.dispatch(&batch).await);
        }
        assert_eq!((world.github().runners().count(), world.ecs().live_count()), (40, 40));
    }
}

#[tokio::test]
async fn one_is_suspended_half_way_and_nothing_is_lost() {
    let world = two();
    let fleet = Fleet::new(&world).await;
    assert_eq!(start(&world, &fleet, 20).await, 0);
    mints(&world);
    suspend(&world, SECOND_INSTALLATION, true);
    let log = Log::keep();
    world.take_calls();
    assert_eq!(start(&world, &fleet, 40).await, 0, "no message comes again");
    assert_eq!(mints(&world), (40, 0));
    assert_eq!(world.ecs().live_count(), 60);
    let refused = world.calls().0.iter().filter(|call| call.outcome == "403").count();
    assert!((1..=10).contains(&refused), "one batch at most finds out: {refused}");
    let log = log.text();
    assert!(log.contains("an App is passed over") && log.contains("unsuspend it"), "{log}");

    // It is tried again, and comes back.
    suspend(&world, SECOND_INSTALLATION, false);
    world.advance(Duration::minutes(2));
    assert_eq!(start(&world, &fleet, 40).await, 0);
    let (first, second) = mints(&world);
    assert!(first.min(second) >= 8, "{first} and {second}");
}

#[tokio::test]
async fn the_first_is_as_good_to_lose_as_the_second_and_both_are_an_operator_s_matter() {
    let world = two();
    suspend(&world, INSTALLATION, true);
    let fleet = Fleet::new(&world).await;
    assert_eq!(start(&world, &fleet, 20).await, 0);
    assert_eq!(mints(&world), (0, 20));
    suspend(&world, SECOND_INSTALLATION, true);
    let batch = world.deliver(&[world.queued(world.queue_job(&LABELS))]);
    let (answer, metrics) = fleet.invoke(&batch).await;
    assert_eq!(world.acknowledge(JOB_QUEUE, &batch, &answer.expect("an answer")), 1);
    assert_eq!(metrics.get(Metric::NeedsOperator), 1);
    suspend(&world, INSTALLATION, false);
    world.advance(Duration::minutes(20));
    let batch = world.receive(JOB_QUEUE, 10);
    assert_eq!(world.acknowledge(JOB_QUEUE, &batch, &fleet.dispatch(&batch).await), 0);
}

#[tokio::test]
async fn what_one_may_not_ask_for_now_the_other_asks_for_at_once() {
    let world = two();
    let fleet = Fleet::new(&world).await;
    world.set_now(world.now());
    // Five registrations a minute for each.
    world.limit(|limits| limits.points_a_minute = Some(25));
    assert_eq!(start(&world, &fleet, 10).await, 0, "whosever they are");
    assert_eq!(mints(&world), (5, 5));
    world.take_calls();
    // There is no third: they wait, and nobody asks in vain more than once.
    assert_eq!(start(&world, &fleet, 10).await, 10);
    assert!(world.calls().count(Op::Mint) <= 2 * 10, "{}", world.calls());
    world.take_calls();
    assert_eq!(start(&world, &fleet, 10).await, 10);
    assert_eq!(world.calls().count(Op::Mint), 0);
}

async fn sweep(world: &World, fleet: &Fleet) {
    on_schedule(world, fleet, json!({})).await;
}

async fn redeliver(world: &World, fleet: &Fleet) {
    on_schedule(world, fleet, json!({ "only": "deliveries" })).await;
}

async fn on_schedule(world: &World, fleet: &Fleet, detail: Value) {
    let time = fleet.now().format(&Rfc3339).expect("a time");
    let schedule = json!({ "detail-type": "Scheduled Event", "time": time, "detail": detail }).to_string();
    let batch = world.deliver_to(LIFECYCLE_QUEUE, &[schedule]);
    assert_eq!(world.acknowledge(LIFECYCLE_QUEUE, &batch, &fleet.reconcile(&batch).await), 0);
}

#[tokio::test]
async fn failed_deliveries_of_each_come_again() {
    let world = two();
    let third = SECOND + 1;
    world.app().others.insert(third, [(OWNER.to_owned(), 78)].into());
    world.secrets().set(APP_SECRET, &json!([app(APP_ID), app(SECOND), "ghp_x", app(third)]).to_string());
    // At the look at which one's log cannot be read, the first is the first.
    let minutes = world.now().unix_timestamp() / 60 + 14;
    world.advance(Duration::minutes((3 - minutes % 3) % 3));
    let fleet = Fleet::new(&world).await;
    let now = fleet.now();
    // The second has no webhook; the deliveries of the others have the same ids.
    let failed = |log: &mut Deliveries<String>, guid: &str, status| {
        log.sent(guid, "workflow_job", Some("queued"), "{}".to_owned(), status, now);
    };
    failed(&mut world.app().deliveries, "first", 202);
    failed(world.app().deliveries_of_others.entry(third).or_default(), "third", 502);
    failed(world.app().deliveries_of_others.entry(third).or_default(), "third, good", 202);
    let again = |log: &mut Deliveries<String>| -> Vec<String> {
        log.take_redeliveries().into_iter().map(|delivery| delivery.guid).collect()
    };
    let sent_again = || {
        let app = &mut *world.app();
        let third = app.deliveries_of_others.get_mut(&third).expect("its webhook");
        (again(&mut app.deliveries), again(third))
    };
    world.advance(Duration::minutes(5));
    redeliver(&world, &fleet).await;
    assert_eq!(sent_again(), (vec![], vec!["third".to_owned()]));
    assert!(world.calls().count(Op::ListDeliveries) <= 6, "{}", world.calls());

    // The log of one cannot be read: the others' can.
    let time = fleet.now();
    let later = |log: &mut Deliveries<String>| {
        log.sent("first, later", "workflow_job", Some("queued"), "{}".to_owned(), 502, time);
    };
    later(&mut world.app().deliveries);
    world.advance(Duration::minutes(9));
    world.fail(Op::ListDeliveries).once().before().status(403);
    redeliver(&world, &fleet).await;
    assert_eq!(sent_again(), (vec![], vec!["third".to_owned()]));
    world.advance(Duration::minutes(1));
    redeliver(&world, &fleet).await;
    assert_eq!(sent_again().0, ["first, later"]);
}

/// The failed delivery of each App's webhook that GitHub was asked to send again.
fn sent_again(world: &World) -> Vec<String> {
    let mut app = world.app();
    let mut again = app.deliveries.take_redeliveries();
    again.extend(app.deliveries_of_others.values_mut().flat_map(Deliveries::take_redeliveries));
    again.into_iter().map(|delivery| delivery.guid).collect()
}

/// Ten minutes ago.
fn failed(log: &mut Deliveries<String>, guid: &str, world: &World) {
    let then = world.now() - Duration::minutes(10);
    log.sent(guid, "workflow_job", Some("queued"), "{}".to_owned(), 502, then);
}

#[tokio::test]
async fn each_of_many_has_time_to_send_again() {
    let world = two();
    let ids: Vec<u64> = (0..5).map(|n| APP_ID + n).collect();
    world.secrets().set(APP_SECRET, &Value::from_iter(ids.iter().map(|id| app(*id))).to_string());
    failed(&mut world.app().deliveries, "1", &world);
    for (n, id) in ids.iter().enumerate().skip(1) {
        world.app().others.insert(*id, [(OWNER.to_owned(), 70 + n as u64)].into());
        failed(world.app().deliveries_of_others.entry(*id).or_default(), &(n + 1).to_string(), &world);
    }
    // The world's clock goes on while they are asked.
    let fleet = Fleet::new(&world).await;
    redeliver(&world, &fleet).await;
    assert_eq!(sent_again(&world), ["1", "2", "3", "4", "5"]);
}

#[tokio::test]
async fn what_is_known_of_one_is_not_asked_of_another() {
    let world = two();
    failed(&mut world.app().deliveries, "the first's", &world);
    let fleet = Fleet::new(&world).await;
    redeliver(&world, &fleet).await;
    assert_eq!(sent_again(&world), ["the first's"]);
    // Its secret cannot be read for a while.
    world.advance(Duration::minutes(10));
    world.secrets().set(APP_SECRET, &json!([app(SECOND)]).to_string());
    redeliver(&world, &fleet).await;
    assert_eq!((sent_again(&world), world.calls().count(Op::Redeliver)), (vec![], 1));
    world.advance(Duration::minutes(10));
    world.secrets().set(APP_SECRET, &json!([app(APP_ID), app(SECOND)]).to_string());
    redeliver(&world, &fleet).await;
    assert_eq!(sent_again(&world), ["the first's"]);
}

/// Whose re-run it is holds up no job.
#[tokio::test]
async fn what_they_are_called_is_told_without_one_that_is_refused() {
    let world = two();
    let names = async || {
        let fleet = Fleet::new(&world).await;
        fleet.dispatcher.github.as_ref().expect("credentials").own_logins().await
    };
    assert_eq!(names().await.expect("both").len(), 2);
    for refused in 1..=2 {
        world.fail(Op::GetApp).nth(refused).before().status(401);
        assert_eq!(names().await.expect("the other's").len(), 1);
        world.heal();
    }
    world.fail(Op::GetApp).always().before().status(401);
    names().await.expect_err("nobody's");
}

#[tokio::test]
async fn a_sweep_s_reading_is_shared() {
    let world = two();
    let (organization, now) = (Scope::organization(OWNER), world.now());
    for n in 0..1500 {
        world.github().mint(&organization, &format!("other-{n}"), 1, &["gpu"], now).expect("a registration");
    }
    let fleet = Fleet::new(&world).await;
    sweep(&world, &fleet).await;
    let calls = world.app().calls.clone();
    let of = |id| calls.get(&id).map_or(0, |(calls, _)| *calls);
    let (first, second) = (of(INSTALLATION), of(SECOND_INSTALLATION));
    assert!(first + second >= 15 && first.min(second) >= 3, "{first} and {second}");
}

#[tokio::test]
async fn several_secrets_are_as_good_and_one_that_is_gone_is_left_out() {
    let world = two();
    world.secrets().set(APP_SECRET, &app(APP_ID).to_string());
    world.secrets().set("second-app", &app(SECOND).to_string());
    let arns = format!("{},{}", Secrets::arn(APP_SECRET), Secrets::arn("second-app"));
    let fleet = Fleet::with(&world, &[("GITHUB_SECRET_ARN", &arns)]).await;
    assert_eq!(start(&world, &fleet, 40).await, 0);
    let (first, second) = mints(&world);
    assert!(first.min(second) >= 8, "{first} and {second}");

    let arns = format!("{},{}", Secrets::arn(APP_SECRET), Secrets::arn("was-deleted"));
    let fleet = Fleet::with(&world, &[("GITHUB_SECRET_ARN", &arns)]).await;
    assert_eq!(start(&world, &fleet, 10).await, 0);
    assert_eq!(mints(&world), (10, 0));
    // One that holds no App yet is left out likewise.
    world.secrets().set("second-app", "{}");
    let arns = format!("{},{}", Secrets::arn(APP_SECRET), Secrets::arn("second-app"));
    let fleet = Fleet::with(&world, &[("GITHUB_SECRET_ARN", &arns)]).await;
    assert_eq!(start(&world, &fleet, 10).await, 0);
}

#[tokio::test]
async fn a_doctor_looks_at_each() {
    let world = two();
    suspend(&world, SECOND_INSTALLATION, true);
    let fleet = Fleet::new(&world).await;
    let seen = fleet.reconciler.examine(&Question::default()).await;
    let checks = seen["checks"].as_array().expect("checks");
    let of = |id: &str| -> Vec<String> {
        let its = checks.iter().filter(|check| check["id"] == id);
        its.map(|check| format!("{}: {}", check["status"], check["found"])).collect()
    };
    assert_eq!(of("app").len(), 2);
    let installations = of("installation");
    let want = "\"fail\": \"credentials 2: it is suspended\"";
    assert!(installations[0].starts_with("\"ok\"") && installations[1] == want, "{installations:?}");
    suspend(&world, SECOND_INSTALLATION, false);
    let seen = fleet.reconciler.examine(&Question::default()).await;
    let wrong: Vec<&Value> = seen["checks"].as_array().expect("checks").iter().collect();
    assert!(wrong.iter().all(|check| check["status"] != "fail" && check["status"] != "unknown"), "{seen}");
}
