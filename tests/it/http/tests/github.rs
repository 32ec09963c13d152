//! GitHub: registrations, tokens, deliveries, and what it refuses.

use expect_test::expect;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{MINT, RUNNERS, ask, ask_with, mint};
use crate::{
    http::{APP_ID, APP_KEY, INSTALLATION, Op, PAT, World},
    model::github::{Silence, Untrue},
};

fn jwt(now: OffsetDateTime, lifetime: i64, issuer: Value, algorithm: Algorithm) -> String {
    let claims =
        json!({"iat": now.unix_timestamp() - 60, "exp": now.unix_timestamp() + lifetime, "iss": issuer});
    let key = EncodingKey::from_rsa_pem(APP_KEY.as_bytes()).unwrap();
    jsonwebtoken::encode(&Header::new(algorithm), &claims, &key).unwrap()
}

#[test]
fn a_registration_s_life_over_http() {
    let world = World::start();
    assert_eq!([mint(&world, "fargate-1-1"), mint(&world, "fargate-1-1")], [201, 409]);
    let (status, head, found) = ask(&world, "GET", &format!("{RUNNERS}?name=fargate-1-1"), PAT, "").unwrap();
    assert_eq!((status, found["total_count"].as_u64()), (200, Some(1)));
    assert!(head.contains("x-ratelimit-remaining: ") && head.contains("x-ratelimit-reset: "));
    assert_eq!(found["runners"][0]["labels"][0]["name"], "fargate");
    let job = world.queue_job(&["self-hosted"]);
    let now = world.now();
    world.github().connect(1, now);
    assert_eq!(world.assign(), [(job, 1)]);
    let delete = || ask(&world, "DELETE", &format!("{RUNNERS}/1"), PAT, "").unwrap().0;
    assert_eq!(delete(), 422);
    world.finish_job(job);
    assert_eq!(delete(), 404);
    assert_eq!(mint(&world, "fargate-2-1"), 201);
    let runner = format!("{RUNNERS}/2");
    assert_eq!(ask(&world, "GET", &runner, PAT, "").unwrap().2["status"], "offline");
    assert_eq!(ask(&world, "DELETE", &runner, PAT, "").unwrap().0, 204);
    let job = format!("/repos/octo-org/example-workflow/actions/jobs/{job}");
    assert_eq!(ask(&world, "GET", &job, PAT, "").unwrap().2["conclusion"], "success");
    expect![[r#"
        generate-jitconfig fargate-1-1 [self-hosted,Fargate] → 201 runner 1
        generate-jitconfig fargate-1-1 [self-hosted,Fargate] → 409
        find runner fargate-1-1 → runner 1 offline, idle
        delete runner 1 → 422
        delete runner 1 → 404
        generate-jitconfig fargate-2-1 [self-hosted,Fargate] → 201 runner 2
        get runner 2 → runner 2 offline, idle
        delete runner 2 → 204
        get job octo-org/example-workflow 1 → completed
    "#]]
    .assert_eq(&world.calls().to_string());
    world.finish();
}

#[test]
fn the_app_s_jwt_buys_a_token_of_its_own_account() {
    let world = World::start();
    let now = world.now();
    let tokens = format!("/app/installations/{INSTALLATION}/access_tokens");
    let good = jwt(now, 500, json!(APP_ID.to_string()), Algorithm::RS256);
    let (status, _, body) = ask(&world, "POST", &tokens, &good, "").unwrap();
    let token = body["token"].as_str().unwrap();
    assert_eq!(status, 201);
    assert_eq!(ask(&world, "GET", RUNNERS, token, "").unwrap().0, 200);
    assert_eq!(ask(&world, "GET", "/orgs/other/actions/runners", token, "").unwrap().0, 404);
    let (_, _, installation) = ask(&world, "GET", "/orgs/Octo-Org/installation", &good, "").unwrap();
    assert_eq!(installation["id"], INSTALLATION);
    assert_eq!(ask(&world, "GET", "/orgs/other/installation", &good, "").unwrap().0, 404);
    assert_eq!(ask(&world, "POST", "/app/installations/1/access_tokens", &good, "").unwrap().0, 404);
    world.app().revoke_tokens();
    assert_eq!(ask(&world, "GET", RUNNERS, token, "").unwrap().0, 401);
    assert_eq!(world.violations(), [""; 0]);
    let bad = [
        jwt(now, 700, json!(APP_ID.to_string()), Algorithm::RS256),
        jwt(now, -1, json!(APP_ID.to_string()), Algorithm::RS256),
        jwt(now, 500, json!("1"), Algorithm::RS256),
        jwt(now, 500, json!(APP_ID), Algorithm::RS384),
        format!("{}x", jwt(now, 500, json!(APP_ID), Algorithm::RS256)),
        PAT.to_owned(),
    ];
    for jwt in &bad {
        assert_eq!(ask(&world, "POST", &tokens, jwt, "").unwrap().0, 401, "{jwt}");
    }
    assert_eq!(world.take_violations().len(), bad.len());
}

#[test]
fn a_copy_that_lags_behind_does_not_know_the_latest() {
    let world = World::start();
    world.set_now(world.now());
    assert_eq!(mint(&world, "a"), 201);
    world.advance(time::Duration::seconds(30));
    world.fail(Op::ListRunners).stale(time::Duration::minutes(1));
    let path = format!("{RUNNERS}?per_page=100");
    let count = || ask(&world, "GET", &path, PAT, "").unwrap().2["total_count"].clone();
    assert_eq!((count(), count()), (json!(0), json!(1)));
    world.finish();
}

#[test]
fn github_may_say_nothing_or_what_is_not_so() {
    let world = World::start();
    let (now, job) = (world.now(), world.queue_job(&["self-hosted"]));
    assert_eq!(mint(&world, "a"), 201);
    world.github().connect(1, now);
    assert_eq!(world.assign(), [(job, 1)]);
    let untrue = Untrue { idle: true, offline: true, unlisted: true };
    world.github().say_of_runner(1, untrue, now);
    let (_, _, runner) = ask(&world, "GET", &format!("{RUNNERS}/1"), PAT, "").unwrap();
    assert_eq!((&runner["status"], &runner["busy"]), (&json!("offline"), &json!(false)));
    assert_eq!(ask(&world, "GET", RUNNERS, PAT, "").unwrap().2["total_count"], 0);
    assert_eq!(ask(&world, "DELETE", &format!("{RUNNERS}/1"), PAT, "").unwrap().0, 204);
    let path = format!("/repos/octo-org/example-workflow/actions/jobs/{job}");
    world.github().say_status(job, Some("assigned"), now);
    assert_eq!(ask(&world, "GET", &path, PAT, "").unwrap().2["status"], "assigned");
    let ways =
        [(Silence::Moved, 301), (Silence::Forbidden, 403), (Silence::Gone, 410), (Silence::Legal, 451)];
    for (silence, want) in ways {
        world.github().be_silent(job, silence, now);
        assert_eq!(ask(&world, "GET", &path, PAT, "").unwrap().0, want);
    }
    world.finish();
}

#[test]
fn deliveries_are_paged_by_cursor() {
    let world = World::start();
    let now = world.now();
    for n in 0..150 {
        let guid = format!("guid-{n}");
        world.app().deliveries.sent(&guid, "workflow_job", Some("queued"), "{}".to_owned(), 502, now);
    }
    let jwt = jwt(now, 500, json!(APP_ID), Algorithm::RS256);
    let (_, head, page) = ask(&world, "GET", "/app/hook/deliveries?per_page=100", &jwt, "").unwrap();
    assert_eq!(page.as_array().unwrap().len(), 100);
    let cursor = head.split("cursor=").nth(1).and_then(|rest| rest.split(['>', '&']).next()).unwrap();
    let path = format!("/app/hook/deliveries?per_page=100&cursor={cursor}");
    let (_, head, page) = ask(&world, "GET", &path, &jwt, "").unwrap();
    assert_eq!((page.as_array().unwrap().len(), head.contains("link:")), (50, false));
    let (status, ..) = ask(&world, "POST", "/app/hook/deliveries/7/attempts", &jwt, "").unwrap();
    assert_eq!((status, world.app().deliveries.take_redeliveries().len()), (202, 1));
    world.finish();
}

#[test]
fn requests_that_github_would_refuse_are_violations() {
    let full = "accept: application/vnd.github+json\r\nuser-agent: t\r\nx-github-api-version: 2022-11-28\r\nauthorization: Bearer ";
    let full = format!("{full}{PAT}");
    let without = |name: &str| {
        full.split("\r\n").filter(|line| !line.starts_with(name)).collect::<Vec<_>>().join("\r\n")
    };
    let body = |more: Value| {
        let mut body = json!({"name": "a", "runner_group_id": 1, "labels": ["x"]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body.to_string()
    };
    let table = [
        ("GET", RUNNERS.to_owned(), without("accept"), String::new(), 415),
        ("GET", RUNNERS.to_owned(), without("user-agent"), String::new(), 403),
        ("GET", RUNNERS.to_owned(), without("x-github"), String::new(), 400),
        ("GET", RUNNERS.to_owned(), without("authorization"), String::new(), 401),
        ("GET", format!("{RUNNERS}?per_page=101"), full.clone(), String::new(), 422),
        ("GET", format!("{RUNNERS}?page=0"), full.clone(), String::new(), 422),
        ("GET", "/orgs/octo-org/actions/permissions".to_owned(), full.clone(), String::new(), 404),
        ("POST", MINT.to_owned(), full.clone(), body(json!({"labels": []})), 422),
        ("POST", MINT.to_owned(), full.clone(), body(json!({"name": ""})), 422),
        ("POST", MINT.to_owned(), full.clone(), body(json!({"ephemeral": true})), 422),
        ("POST", MINT.to_owned(), full.clone(), json!({"name": "a", "labels": ["x"]}).to_string(), 422),
    ];
    let world = World::start();
    for (method, path, headers, body, want) in table {
        assert_eq!(
            ask_with(&world, method, &path, &headers, &body).unwrap().0,
            want,
            "{method} {path} {body}"
        );
        assert_eq!(world.take_violations().len(), 1, "{method} {path} {body}");
    }
}
