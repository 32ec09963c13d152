//! Webhook deliveries that failed come again, to the last job.

use super::{Metric, Op, Story};
use crate::http::PAT_SECRET;
use crate::log::Log;
use crate::model::bus::Secrets;
use serde_json::Value;
use time::Duration;

/// This delivery of an event had this answer.
fn delivered(story: &Story, guid: &str, status: u16) {
    let now = story.fleet.now();
    story.world.app().deliveries.sent(guid, "workflow_job", Some("queued"), "{}".to_owned(), status, now);
}

#[tokio::test]
async fn an_event_made_good_by_another_delivery_is_not_asked_for_again() {
    let story = Story::begin().await;
    delivered(&story, "made-good", 502);
    delivered(&story, "failed", 502);
    story.world.advance(Duration::minutes(1));
    {
        let (app, now) = (&mut *story.world.app(), story.fleet.now());
        let first = app.deliveries.get(1).cloned().expect("the first one");
        app.deliveries.sent_again(&first, 202, now);
    }
    story.world.advance(Duration::minutes(1));
    assert_eq!(story.redeliver().await.get(Metric::Redelivered), 1);
    let again = story.world.app().deliveries.take_redeliveries();
    assert_eq!(again.iter().map(|delivery| delivery.guid.as_str()).collect::<Vec<_>>(), ["failed"]);
    story.end();
}

/// A story that begins so many minutes after the full hour: every fifteenth look is at the whole log.
async fn begin_at(minute: i64) -> Story {
    let story = Story::begin().await;
    let now = story.fleet.now();
    let since = Duration::seconds(now.unix_timestamp().rem_euclid(3600));
    story.world.advance(Duration::hours(1) + Duration::minutes(minute) - since);
    story
}

/// The lists of deliveries that a look reads, and what it asks for again.
async fn sweep_the_log(story: &Story) -> (usize, usize, u64) {
    story.world.take_calls();
    let swept = story.redeliver().await;
    let again = story.world.app().deliveries.take_redeliveries().len();
    assert_eq!(swept.get(Metric::Redelivered), again as u64);
    (story.count(Op::ListDeliveries), again, swept.get(Metric::NeedsOperator))
}

#[tokio::test]
async fn good_deliveries_cost_one_request_however_many() {
    for (ignores, lists) in [(false, 1), (true, 5)] {
        let story = begin_at(1).await;
        story.world.app().ignores_delivery_status = ignores;
        for event in 0..350 {
            delivered(&story, &format!("good-{event}"), 202);
        }
        story.world.advance(Duration::minutes(5));
        assert_eq!(sweep_the_log(&story).await, (lists, 0, 0), "it cannot filter: {ignores}");
        delivered(&story, "failed", 502);
        story.world.advance(Duration::minutes(5));
        let (lists, again, _) = sweep_the_log(&story).await;
        assert_eq!(again, 1);
        assert!(lists <= 5, "asked once whether it can filter, and not again: {lists}");
        story.end();
    }
}

#[tokio::test]
async fn a_delivery_that_had_no_answer_is_no_failure_to_github_and_found_all_the_same() {
    let story = begin_at(0).await;
    delivered(&story, "no-answer", 0);
    let mut again = Vec::new();
    for _ in 0..3 {
        story.world.advance(Duration::minutes(5));
        again.push(sweep_the_log(&story).await.1);
    }
    assert_eq!(again, [0, 0, 1], "every fifteenth minute the look is at all");
    story.end();
}

#[tokio::test]
async fn a_secret_that_is_wrong_at_github_is_told_and_nothing_is_sent_again_in_vain() {
    for status in [400, 401] {
        let story = Story::begin().await;
        for event in 0..24 {
            delivered(&story, &format!("refused-{event}"), status);
        }
        let log = Log::keep();
        for _ in 0..3 {
            story.world.advance(Duration::minutes(5));
            let (_, again, needs_operator) = sweep_the_log(&story).await;
            assert_eq!((again, needs_operator), (0, 1), "{status}");
        }
        // What the saved query for operators looks for.
        let told = log.lines("level", "ERROR");
        let names_it =
            |line: &&Value| line["message"].as_str().is_some_and(|it| it.contains("the App's webhook"));
        assert_eq!(told.iter().filter(names_it).count(), 3, "{status}: {told:?}");
        delivered(&story, "mended", 202);
        story.world.advance(Duration::minutes(1));
        assert_eq!(sweep_the_log(&story).await.1, 24, "what was refused comes again");
        story.end();
    }
}

#[tokio::test]
async fn a_delivery_that_github_will_not_send_again_is_given_up_alone() {
    for status in [400, 404, 422] {
        let story = Story::begin().await;
        for event in 0..3 {
            delivered(&story, &format!("failed-{event}"), 502);
        }
        delivered(&story, "good", 202);
        story.world.advance(Duration::minutes(5));
        story.world.fail(Op::Redeliver).once().before().status(status);
        let (_, again, needs_operator) = sweep_the_log(&story).await;
        assert_eq!((again, needs_operator), (2, 0), "{status}");
        story.world.advance(Duration::hours(1));
        assert_eq!(sweep_the_log(&story).await.1, 2, "{status}: the two are still not delivered");
        story.end();
    }
}

/// What GitHub delivers of those that it is asked to send again.
fn comes_again(story: &Story, status: u16) -> usize {
    let again = story.world.app().deliveries.take_redeliveries();
    let now = story.fleet.now();
    for delivery in &again {
        story.world.app().deliveries.sent_again(delivery, status, now);
    }
    again.len()
}

#[tokio::test]
async fn a_night_without_webhooks_is_made_good_to_the_last_job() {
    let story = begin_at(1).await;
    // Ten hours in which none is delivered, two a minute.
    for minute in 0..600 {
        for n in 0..2 {
            delivered(&story, &format!("of-the-night-{minute}-{n}"), 502);
        }
        story.world.advance(Duration::minutes(1));
        if minute % 60 == 30 {
            story.redeliver().await;
            assert_eq!(comes_again(&story, 502), 1, "more would only fail as well");
        }
    }
    // Since then a good one every second, and nobody looked for an hour.
    for good in 0..3_600 {
        story.world.advance(Duration::seconds(1));
        delivered(&story, &format!("good-{good}"), 202);
    }
    let mut looks = 0;
    let mut made_good = 0;
    while made_good < 1_200 && looks < 60 {
        story.world.advance(Duration::minutes(1));
        delivered(&story, &format!("good-later-{looks}"), 202);
        story.redeliver().await;
        made_good += comes_again(&story, 202);
        looks += 1;
    }
    assert_eq!((made_good, looks), (1_200, 24), "fifty a minute");
    story.world.advance(Duration::minutes(1));
    story.redeliver().await;
    assert_eq!(comes_again(&story, 202), 0, "none twice");
    story.end();
}

#[tokio::test]
async fn looks_that_come_at_once_are_one() {
    let story = begin_at(1).await;
    story.tell_within(&[story.look(), story.look()], Duration::minutes(2)).await;
    assert_eq!(story.count(Op::ListDeliveries), 1);
    let late = story.look();
    story.world.advance(Duration::minutes(11));
    assert_eq!(story.tell_within(&[late], Duration::minutes(2)).await.get(Metric::Skipped), 1);
    story.end();
}

#[tokio::test]
async fn an_app_without_a_webhook_has_no_deliveries() {
    let story = Story::begin().await;
    story.world.fail(Op::ListDeliveries).always().before().status(404);
    assert_eq!(sweep_the_log(&story).await, (1, 0, 0));
    story.end();
}

#[tokio::test]
async fn with_a_personal_access_token_deliveries_are_not_looked_at() {
    let story = Story::with(&[("GITHUB_SECRET_ARN", &Secrets::arn(PAT_SECRET))]).await;
    delivered(&story, "failed", 502);
    story.world.advance(Duration::minutes(5));
    assert_eq!(story.redeliver().await.get(Metric::Redelivered), 0);
    assert_eq!(story.count(Op::ListDeliveries), 0);
    story.end();
}

#[tokio::test]
async fn what_is_known_to_have_failed_comes_again_however_long_that_takes() {
    let story = begin_at(1).await;
    for event in 0..60 {
        delivered(&story, &format!("failed-{event}"), 502);
    }
    delivered(&story, "good", 202);
    story.world.advance(Duration::minutes(1));
    story.redeliver().await;
    assert_eq!(comes_again(&story, 202), 50);
    story.world.advance(Duration::hours(4));
    story.redeliver().await;
    assert_eq!(comes_again(&story, 202), 10);
    story.end();
}

/// EventBridge calls at least once: a second process has read nothing of what the first has asked for.
#[tokio::test]
async fn a_look_that_comes_twice_at_two_processes_loses_nothing() {
    let story = begin_at(1).await;
    for event in 0..60 {
        delivered(&story, &format!("failed-{event}"), 502);
    }
    delivered(&story, "good", 202);
    story.world.advance(Duration::minutes(1));
    let other = crate::fleet::Fleet::new(&story.world).await;
    let (event, deadline) = (story.look(), story.fleet.now() + Duration::minutes(2));
    let first = story.fleet.reconcile_until(&event, deadline).await.1;
    let second = other.reconcile_until(&event, deadline).await.1;
    assert_eq!([&first, &second].map(|it| it.get(Metric::Redelivered)), [50, 50], "the same ones, twice");
    comes_again(&story, 202);
    story.world.advance(Duration::minutes(1));
    story.redeliver().await;
    assert_eq!(comes_again(&story, 202), 10, "and then the rest, once");
    story.end();
}
