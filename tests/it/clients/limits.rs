//! GitHub's rate limits: who has met one is not asked again before it is over, whatever the call.

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::response::Response;
use futures_util::future::join_all;
use gha_fargate_runners::{
    error::{CallError, Class},
    ids::{JobId, RunnerId},
    ports::{Deliveries, Github, Target},
};
use serde_json::json;

use super::server::{Client, START, Server, answer, app, minted, shorten};

/// A GitHub where the App has the installations 2 (octo-org) and 3 (octo-two), and that refuses with `refusal` what
/// contains `where_` as long as the flag is up.
async fn limited(
    where_: &'static str,
    refusal: impl Fn() -> Response + Send + Sync + 'static,
) -> (Server, Arc<AtomicBool>) {
    let up = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&up);
    let server = Server::start(move |asked| {
        let response = match shorten(&asked.what).as_str() {
            _ if flag.load(Ordering::SeqCst) && asked.what.contains(where_) => refusal(),
            "mint" => minted(),
            "GET /orgs/octo-org/installation" => answer(200, &json!({"id": 2})),
            "GET /orgs/octo-two/installation" => answer(200, &json!({"id": 3})),
            what if what.starts_with("token ") => {
                answer(201, &json!({"token": "ghs_1", "expires_at": "2026-01-02T12:00:00Z"}))
            }
            "GET /app/hook/deliveries" => answer(200, &json!([])),
            _ => answer(404, &json!({"message": "Not Found"})),
        };
        Box::pin(ready(response))
    })
    .await;
    (server, up)
}

fn with(mut response: Response, headers: &[(&'static str, String)]) -> Response {
    for (name, value) in headers {
        response.headers_mut().insert(*name, value.parse().expect("a value"));
    }
    response
}

fn secondary() -> Response {
    answer(403, &json!({"message": "You have exceeded a secondary rate limit."}))
}

fn at(owner: &str) -> Target {
    Target { owner: owner.to_owned(), repository: Some("octo-repo".to_owned()), ..Target::default() }
}

/// A call of each kind that the installation makes.
async fn every_call(client: &Client) -> Vec<CallError> {
    let (github, target, id) = (&client.github, at("octo-org"), RunnerId(1));
    [
        github.mint(&target, "fargate-1-1", &[], None).await.err(),
        github.find_runner(&target, "fargate-1-1").await.err(),
        github.runner(&target, id).await.err(),
        github.runners(&target, 1).await.err(),
        github.delete_runner(&target, id).await.err(),
        github.job(&target, JobId(1)).await.err(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn wait(error: &CallError) -> u64 {
    match error.class {
        Class::RateLimited { after } => after.as_secs(),
        _ => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_limit_of_300_seconds_costs_one_call() {
    let refusal = || with(answer(429, &json!({})), &[("retry-after", "300".to_owned())]);
    let (server, up) = limited("/octo-org/actions", refusal).await;
    let client = Client::new(&server, &app(None));
    let error = client.mint(None).await.expect_err("the limit");
    assert_eq!(wait(&error), 300);
    assert_eq!(server.asked(), ["GET /orgs/octo-org/installation", "token 2", "mint"]);
    for minute in 0..5 {
        let errors: Vec<_> = join_all((0..10).map(|_| every_call(&client))).await.concat();
        assert_eq!(errors.len(), 60);
        assert!(errors.iter().all(|error| wait(error) == 300 - minute * 60), "{errors:?}");
        assert_eq!(server.asked(), [""; 0], "minute {minute}");
        client.clock.advance(1);
    }
    // Another installation has an allowance of its own.
    up.store(false, Ordering::SeqCst);
    client.github.mint(&at("octo-two"), "fargate-2-1", &[], None).await.expect("not limited");
    assert_eq!(server.asked().last().map(String::as_str), Some("mint"));
    client.mints(None, 10).await;
    assert_eq!(server.asked(), ["mint"; 10]);
}

#[tokio::test]
async fn another_installation_is_asked_meanwhile() {
    let (server, _up) = limited("/octo-org/actions", secondary).await;
    let client = Client::new(&server, &app(None));
    client.mint(None).await.expect_err("the limit");
    client.github.mint(&at("octo-two"), "fargate-2-1", &[], None).await.expect("its own allowance");
}

#[tokio::test]
async fn a_success_may_be_the_last_one() {
    let reset = (START + time::Duration::minutes(10)).unix_timestamp().to_string();
    let last = move || {
        let headers = [("x-ratelimit-remaining", "0".to_owned()), ("x-ratelimit-reset", reset.clone())];
        with(minted(), &headers)
    };
    let (server, up) = limited("/generate-jitconfig", last).await;
    let client = Client::new(&server, "ghp_x");
    client.mints(None, 1).await;
    assert_eq!(server.asked(), ["mint"]);
    for error in every_call(&client).await {
        assert_eq!(wait(&error), 600);
        assert!(error.message.contains("not asked"), "{error}");
    }
    assert_eq!(server.asked(), [""; 0]);
    up.store(false, Ordering::SeqCst);
    client.clock.advance(10);
    client.mints(None, 1).await;
}

#[tokio::test]
async fn a_limit_of_unsaid_length_grows_from_a_minute() {
    let (server, _up) = limited("/generate-jitconfig", secondary).await;
    let client = Client::new(&server, "ghp_x");
    for minutes in [1, 2, 4, 8, 15, 15] {
        // What is refused together is one limit.
        for refused in join_all((0..10).map(|_| client.mint(None))).await {
            assert_eq!(wait(&refused.expect_err("the limit")), minutes * 60);
        }
        assert!(!server.asked().is_empty());
        client.clock.advance(minutes.try_into().expect("a few"));
    }
    // As long without any: it begins anew.
    client.clock.advance(15);
    assert_eq!(wait(&client.mint(None).await.expect_err("the limit")), 60);
}

#[tokio::test]
async fn the_app_s_own_limit_stops_what_it_asks_itself() {
    let (server, up) = limited("/access_tokens", secondary).await;
    let client = Client::new(&server, &app(Some(2)));
    for _ in 0..3 {
        assert_eq!(wait(&client.mint(None).await.expect_err("the limit")), 60);
        assert_eq!(wait(&client.github.deliveries("the App", None).await.expect_err("the limit")), 60);
        assert_eq!(wait(&client.github.redeliver("the App", 1).await.expect_err("the limit")), 60);
    }
    assert_eq!(server.asked(), ["token 2"]);
    up.store(false, Ordering::SeqCst);
    client.clock.advance(1);
    client.github.deliveries("the App", None).await.expect("over");
    client.mints(None, 1).await;
}

#[test]
fn nobody_comes_back_before_the_end_or_all_at_once() {
    use gha_fargate_runners::lambda::outcome::Wait;
    let asked = Duration::from_secs(300);
    let delays: std::collections::BTreeSet<_> =
        (0..100).map(|id| Wait::For(asked).delay(1, &format!("message-{id}"))).collect();
    assert!(delays.len() > 90 && delays.iter().all(|delay| (300..310).contains(&delay.as_secs())));
}
