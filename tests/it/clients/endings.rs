//! GitHub announces the end of a call or of the API's version by headers, and ends it with 410.

use std::{future::ready, sync::Arc};

use gha_fargate_runners::{error::Class, ids::RunnerId, ports::Github};
use serde_json::json;

use super::{
    connections::target,
    server::{Client, Server, answer},
};
use crate::log::Log;

type Headers = &'static [(&'static str, &'static str)];

/// What is warned of when a call that does its work is answered with these headers, again and again.
async fn warned(headers: Headers) -> Vec<String> {
    let log = Log::keep();
    let server = Server::start(move |_| {
        let runner = json!({"id": 1, "name": "x", "status": "online", "busy": false, "labels": []});
        let mut response = answer(200, &runner);
        for (name, value) in headers {
            response.headers_mut().insert(*name, value.parse().expect("a value"));
        }
        Box::pin(ready(response))
    })
    .await;
    let client = Client::new(&server, "ghp_x");
    for _ in 0..3 {
        client.github.runner(&target(), RunnerId(1)).await.expect("it still works");
    }
    log.text().lines().filter(|line| line.contains("\"WARN\"")).map(str::to_owned).collect()
}

#[tokio::test]
async fn an_announced_end_is_warned_of_once_and_changes_nothing() {
    for (headers, says) in [
        (&[("deprecation", "@1867622400")] as Headers, "deprecation: @1867622400"),
        (&[("sunset", "Fri, 10 Mar 2028 00:00:00 GMT")], "sunset: Fri, 10 Mar 2028 00:00:00 GMT"),
        (
            &[("deprecation", "Tue, 10 Mar 2026 00:00:00 GMT"), ("sunset", "Fri, 10 Mar 2028 00:00:00 GMT")],
            "deprecation: Tue, 10 Mar 2026 00:00:00 GMT, sunset: Fri, 10 Mar 2028 00:00:00 GMT",
        ),
    ] {
        let warnings = warned(headers).await;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let said = &warnings[0];
        assert!(said.contains(says) && said.contains("upgrade this program"), "{said}");
        assert!(
            said.contains("GET /orgs/octo-org/actions/runners/1") && said.contains("2022-11-28"),
            "{said}"
        );
    }
    for nothing in [&[] as Headers, &[("deprecation", "")], &[("link", "<x>; rel=\"sunset\"")]] {
        assert_eq!(warned(nothing).await, [""; 0]);
    }
}

#[tokio::test]
async fn an_end_is_an_operator_s_matter() {
    let message = Arc::new("API version 2022-11-28 is no longer supported.".to_owned());
    let said = Arc::clone(&message);
    let gone = move |_| -> futures_util::future::BoxFuture<'static, _> {
        Box::pin(ready(answer(410, &json!({"message": *said}))))
    };
    let server = Server::start(gone).await;
    let client = Client::new(&server, "ghp_x");
    let error = client.mint(None).await.expect_err("gone");
    assert_eq!(error.class, Class::NeedsOperator);
    assert!(error.message.contains("upgrade this program") && error.message.contains(&*message), "{error}");
    // No job is taken to be over for that.
    let job = client.github.job(&super::server::target(), gha_fargate_runners::ids::JobId(1)).await;
    assert_eq!(job.expect_err("gone").class, Class::NeedsOperator);
}
