//! The world over HTTP: what its clients see, the SDK among them.

mod aws;
mod faults;
mod github;
mod world;

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use aws_credential_types::Credentials;
use aws_sdk_ecs::{
    config::{BehaviorVersion, Region, retry::RetryConfig},
    types::{AssignPublicIp, AwsVpcConfiguration, LaunchType, NetworkConfiguration, PropagateTags, Tag},
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use gha_fargate_runners::adapters::http::Http;
use serde_json::{Value, json};

use super::{CLUSTER, PAT, TASK_DEFINITION, World};

const RUNNERS: &str = "/orgs/octo-org/actions/runners";
const MINT: &str = "/orgs/octo-org/actions/runners/generate-jitconfig";

/// One request on a connection of its own; `None`: closed without an answer.
fn ask(world: &World, method: &str, path: &str, bearer: &str, body: &str) -> Option<(u16, String, Value)> {
    let headers =
        "accept: application/vnd.github+json\r\nuser-agent: test\r\nx-github-api-version: 2022-11-28";
    ask_with(world, method, path, &format!("{headers}\r\nauthorization: Bearer {bearer}"), body)
}

fn ask_with(
    world: &World,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Option<(u16, String, Value)> {
    let mut stream = TcpStream::connect(world.url().trim_start_matches("http://")).unwrap();
    let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: world\r\nconnection: close\r\n{headers}\r\n").unwrap();
    write!(stream, "{kind}content-length: {length}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, head.to_lowercase(), serde_json::from_str(body).unwrap_or(Value::Null)))
}

fn mint(world: &World, name: &str) -> u16 {
    let body = json!({"name": name, "runner_group_id": 1, "labels": ["self-hosted", "Fargate"]});
    ask(world, "POST", MINT, PAT, &body.to_string()).unwrap().0
}

fn http() -> SharedHttpClient {
    Http::new().for_aws()
}

fn ecs(world: &World) -> aws_sdk_ecs::Client {
    let config = aws_sdk_ecs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::for_tests())
        .retry_config(RetryConfig::disabled())
        .endpoint_url(world.url())
        .http_client(http())
        .build();
    aws_sdk_ecs::Client::from_conf(config)
}

fn run_task(
    ecs: &aws_sdk_ecs::Client,
    token: &str,
) -> aws_sdk_ecs::operation::run_task::builders::RunTaskFluentBuilder {
    let network =
        AwsVpcConfiguration::builder().subnets("subnet-1").assign_public_ip(AssignPublicIp::Enabled);
    ecs.run_task()
        .cluster(CLUSTER)
        .task_definition(TASK_DEFINITION)
        .launch_type(LaunchType::Fargate)
        .network_configuration(
            NetworkConfiguration::builder().awsvpc_configuration(network.build().unwrap()).build(),
        )
        .tags(Tag::builder().key("gha:job-id").value("1").build())
        .propagate_tags(PropagateTags::TaskDefinition)
        .client_token(token)
        .started_by("gha-1")
}
