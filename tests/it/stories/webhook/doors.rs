//! Whatever calls the function, and in whatever shape: each is answered in its own way.

use std::collections::BTreeMap;

use crate::http::{Op, World};
use base64::{Engine, engine::general_purpose::STANDARD};
use gha_fargate_runners::intake::request::Request;
use proptest::{prelude::*, sample::Index, strategy::ValueTree, test_runner::TestRunner};
use serde_json::{Value, json, value::to_raw_value};

use super::{FrontDoor, QUEUED, SIGNED, details, front_door, status};

/// A POST as each kind of front door hands it over.
fn shapes(headers: &Value, body: &str) -> [(&'static str, Value); 5] {
    let lists: BTreeMap<_, _> =
        headers.as_object().into_iter().flatten().map(|(name, value)| (name, json!([value]))).collect();
    let context = json!({ "timeEpoch": 0, "http": { "method": "POST", "path": "/" } });
    [
        (
            "a function URL, an HTTP API",
            json!({ "version": "2.0", "headers": headers, "body": body, "requestContext": context }),
        ),
        (
            "a REST API",
            json!({
                "version": "1.0", "httpMethod": "POST", "headers": headers, "multiValueHeaders": lists, "body": body,
                "isBase64Encoded": false, "requestContext": { "httpMethod": "POST", "identity": {} },
            }),
        ),
        (
            "a load balancer",
            json!({
                "httpMethod": "POST", "path": "/", "queryStringParameters": {}, "headers": headers, "body": body,
                "requestContext": { "elb": { "targetGroupArn": "arn" } }, "isBase64Encoded": false,
            }),
        ),
        (
            "a load balancer with multi-value headers",
            json!({
                "httpMethod": "POST", "multiValueHeaders": lists, "body": body, "requestContext": { "elb": {} },
                "isBase64Encoded": false,
            }),
        ),
        (
            "a load balancer that encodes bodies",
            json!({
                "httpMethod": "POST", "headers": headers, "body": STANDARD.encode(body), "isBase64Encoded": true,
            }),
        ),
    ]
}

async fn invoke(door: &FrontDoor, event: &Value) -> Value {
    door.invoke(&to_raw_value(event).expect("JSON")).await.0
}

#[tokio::test]
async fn every_front_door_is_answered_in_its_own_way() {
    let world = World::start();
    let door = front_door(&world);
    // The names as GitHub writes them, and a header that no client of HTTP takes.
    let headers = json!({
        "X-GitHub-Event": "workflow_job", "X-Hub-Signature-256": SIGNED, "x-odd": "\u{7f}\u{0}", "": null,
    });
    for (what, event) in shapes(&headers, QUEUED) {
        let response = invoke(&door, &event).await;
        assert_eq!(
            (&response["statusCode"], &response["isBase64Encoded"]),
            (&json!(202), &json!(false)),
            "{what}"
        );
        assert_eq!(response["body"], json!(r#"{"message":"accepted"}"#), "{what}");
        let (headers, content_type) = match what {
            "a load balancer with multi-value headers" => ("multiValueHeaders", json!(["application/json"])),
            _ => ("headers", json!("application/json")),
        };
        assert_eq!(response[headers]["content-type"], content_type, "{what}");
    }
    assert_eq!(details(&world), [QUEUED; 5]);
    for event in [json!({}), json!([]), json!(null), json!({ "Records": [{ "body": QUEUED }] })] {
        let response = invoke(&door, &event).await;
        assert_eq!(response["statusCode"], 400);
        assert!(response["body"].as_str().is_some_and(|body| body.contains("no HTTP request")), "{response}");
    }
    world.finish();
}

/// The stack's other front door. The event is the one in "Working with AWS Lambda proxy integrations for HTTP APIs",
/// payload format 2.0, without what a route with an authorizer or a cookie would add.
#[tokio::test]
async fn an_http_api_sends_the_same_event() {
    let world = World::start();
    let door = front_door(&world);
    let event = |body: &str, is_base64_encoded: bool| -> Request {
        let event = json!({
            "version": "2.0", "routeKey": "POST /", "rawPath": "/", "rawQueryString": "",
            "headers": {
                "accept": "*/*", "content-length": "7110", "content-type": "application/json",
                "host": "id.execute-api.us-east-1.amazonaws.com", "user-agent": "GitHub-Hookshot/044aadd",
                "x-amzn-trace-id": "Root=1-5e6722a7-cc56xmpl46db7ae02d4da47e", "x-forwarded-for": "192.0.2.1",
                "x-forwarded-port": "443", "x-forwarded-proto": "https", "x-github-event": "workflow_job",
                "x-hub-signature-256": SIGNED,
            },
            "requestContext": {
                "accountId": "123456789012", "apiId": "id", "domainName": "id.execute-api.us-east-1.amazonaws.com",
                "domainPrefix": "id",
                "http": {
                    "method": "POST", "path": "/", "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1",
                    "userAgent": "GitHub-Hookshot/044aadd",
                },
                "requestId": "JKJaXmPLvHcESHA=", "routeKey": "POST /", "stage": "$default",
                "time": "12/Mar/2020:19:03:58 +0000", "timeEpoch": 1_583_348_638_390_i64,
            },
            "body": body, "isBase64Encoded": is_base64_encoded,
        });
        Request::read(&to_raw_value(&event).expect("JSON")).expect("a request")
    };
    assert_eq!(status(&door, &event(QUEUED, false)).await, 202);
    assert_eq!(status(&door, &event(&STANDARD.encode(QUEUED), true)).await, 202);
    assert_eq!(details(&world), [QUEUED; 2]);
    world.finish();
}

/// What may stand where something else is expected.
fn odd() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|value| json!(value)),
        any::<i64>().prop_map(|value| json!(value)),
        "[\u{0}-\u{ff}]{0,80}|\\PC{0,40}".prop_map(|value| json!(value)),
        proptest::collection::vec("[ -~]{0,40}", 0..3).prop_map(|value| json!(value)),
        proptest::collection::btree_map("[a-zA-Z-]{0,20}|http|method", "[ -~]{0,40}", 0..3)
            .prop_map(|value| json!(value)),
    ]
}

/// The places in a value, as JSON pointers.
fn places(value: &Value, here: &str, found: &mut Vec<String>) {
    found.push(here.to_owned());
    for (name, inner) in value.as_object().into_iter().flatten() {
        places(inner, &format!("{here}/{name}"), found);
    }
}

#[tokio::test]
async fn whatever_anybody_sends_there_is_no_5xx_and_no_panic() {
    let world = World::start();
    // However long this takes.
    world.set_now(world.now());
    let door = front_door(&world);
    door.warm().await.expect("the secret");
    let names = "[a-zA-Z-]{1,20}|x-hub-signature-256|x-github-event";
    let headers = proptest::collection::btree_map(names, odd(), 0..5);
    let twists = proptest::collection::vec((any::<Index>(), proptest::option::weighted(0.8, odd())), 0..3);
    let anything = (headers, "[\u{0}-\u{ff}]{0,200}", any::<Index>(), twists);
    let mut runner = TestRunner::deterministic();
    for _ in 0..5_000 {
        let (headers, body, shape, twists) = anything.new_tree(&mut runner).expect("an event").current();
        let (_, mut event) = shape.get(&shapes(&json!(headers), &body)).clone();
        for (place, odd) in twists {
            let mut all = Vec::new();
            places(&event, "", &mut all);
            let place = place.get(&all);
            match (odd, place.rsplit_once('/')) {
                (None, Some((outer, name))) => {
                    let outer = event.pointer_mut(outer).and_then(Value::as_object_mut);
                    outer.and_then(|outer| outer.remove(name));
                }
                (odd, _) => *event.pointer_mut(place).expect("a place") = odd.unwrap_or_default(),
            }
        }
        let response = invoke(&door, &event).await;
        let status = response["statusCode"].as_u64();
        assert!(matches!(status, Some(400 | 401 | 405)), "{event}: {response}");
    }
    assert_eq!(world.calls().count(Op::GetSecretValue), 1);
    world.finish();
}
