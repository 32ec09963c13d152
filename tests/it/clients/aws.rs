//! AWS's SDK as it is set up here: what it repeats by itself, and what is made of that.

use std::{future::ready, sync::Mutex, time::Duration};

use aws_config::{SdkConfig, timeout::TimeoutConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use gha_fargate_runners::{
    adapters::{
        aws::{Patience, sdk_config},
        ecs::Ecs,
        http::Http,
    },
    ports::FindTasks,
};
use serde_json::json;

use super::server::{Server, answer};
use crate::log::Log;

/// As deployed, but that nobody waits.
fn aws(url: &str) -> SdkConfig {
    let environment = |name: &str| (name == "AWS_REGION").then(|| "us-east-1".to_owned());
    let credentials = Credentials::new("AKIAEXAMPLE", "example", None, None, "test");
    let config = sdk_config(environment, Http::new().for_aws(), Patience::Queue);
    let retries = config.retry_config().expect("retries").clone();
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(Duration::from_secs(1)).build();
    config
        .into_builder()
        .retry_config(retries.with_initial_backoff(Duration::from_millis(1)))
        .timeout_config(timeouts)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(url)
        .build()
}

#[tokio::test]
async fn a_call_that_goes_well_when_it_is_repeated_is_no_error_in_the_log() {
    let log = Log::keep();
    let answers =
        Mutex::new(vec![(200, json!({"taskArns": []})), (500, json!({"__type": "ServerException"}))]);
    let server = Server::start(move |_| {
        let (status, body) = answers.lock().expect("a lock").pop().expect("two calls");
        Box::pin(ready(answer(status, &body)))
    })
    .await;
    let ecs = Ecs::new(&aws(&server.url), "runners".to_owned());
    ecs.tasks_started_by("gha-1").await.expect("the second try");
    assert_eq!(server.asked().len(), 2);
    assert_eq!(log.lines("level", "ERROR"), Vec::<serde_json::Value>::new());
}
