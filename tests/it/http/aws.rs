//! AWS over HTTP: the AWS JSON protocols 1.0 and 1.1, and each request checked against the service model
//! (botocore's `service-2.json`) before a machine sees it. A field that the model or this project does not
//! have is a violation.

use std::collections::BTreeMap;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    calls::{Op, Service},
    ecs, lock,
    server::{Asked, Reply, Shared, invalid},
};
use crate::model::{
    aws::{ACCOUNT, AwsError, REGION, epoch},
    bus::{self, Event, Secrets},
    sqs::MOST_DELAY,
};

/// `X-Amz-Target` of each operation (`targetPrefix` and operation of the service models).
pub fn identify(asked: &Asked) -> Option<(Op, String)> {
    let op = match asked.header("x-amz-target") {
        "AmazonEC2ContainerServiceV20141113.RunTask" => Op::RunTask,
        "AmazonEC2ContainerServiceV20141113.ListTasks" => Op::ListTasks,
        "AmazonEC2ContainerServiceV20141113.DescribeTasks" => Op::DescribeTasks,
        "AmazonEC2ContainerServiceV20141113.DescribeClusters" => Op::DescribeClusters,
        "AmazonEC2ContainerServiceV20141113.TagResource" => Op::TagResource,
        "AmazonEC2ContainerServiceV20141113.StopTask" => Op::StopTask,
        "AmazonSQS.SendMessage" => Op::SendMessage,
        "AmazonSQS.ReceiveMessage" => Op::ReceiveMessage,
        "AmazonSQS.DeleteMessage" => Op::DeleteMessage,
        "AmazonSQS.ChangeMessageVisibility" => Op::ChangeMessageVisibility,
        "secretsmanager.GetSecretValue" => Op::GetSecretValue,
        "AWSEvents.PutEvents" => Op::PutEvents,
        _ => return None,
    };
    Some((op, describe(op, &asked.json())))
}

/// The parameters for the log: nothing secret.
fn describe(op: Op, body: &Value) -> String {
    let text = |name: &str| body[name].as_str().unwrap_or_default();
    let queue = || text("QueueUrl").rsplit('/').next().unwrap_or_default().to_owned();
    match op.service() {
        Service::Ecs => ecs::describe(op, body),
        Service::SecretsManager => secret_name(text("SecretId")),
        Service::EventBridge => {
            let entries = body["Entries"].as_array().map(Vec::as_slice).unwrap_or_default();
            let types: Vec<&str> = entries.iter().filter_map(|entry| entry["DetailType"].as_str()).collect();
            types.join(", ")
        }
        _ => match op {
            Op::SendMessage => {
                let reason = body["MessageAttributes"]["reason"]["StringValue"].as_str();
                let delay = body["DelaySeconds"].as_i64().filter(|seconds| *seconds > 0);
                queue()
                    + &delay.map(|seconds| format!(" in {seconds} s")).unwrap_or_default()
                    + &reason.map(|reason| format!(" because {reason}")).unwrap_or_default()
            }
            Op::ChangeMessageVisibility => {
                format!("{} {} s", text("ReceiptHandle"), body["VisibilityTimeout"])
            }
            Op::DeleteMessage => text("ReceiptHandle").to_owned(),
            _ => queue(),
        },
    }
}

fn secret_name(id: &str) -> String {
    let name = id.rsplit(':').next().unwrap_or(id);
    name.strip_suffix("-AbCdEf").unwrap_or(name).to_owned()
}

/// An answer in the protocol of the service.
pub fn json(service: Service, status: u16, body: &Value, outcome: impl Into<String>) -> Reply {
    let mut reply = Reply::json(status, body, outcome);
    reply.headers = vec![("content-type".to_owned(), content_type(service).to_owned())];
    reply.header("x-amzn-requestid", "00000000-0000-4000-8000-000000000000")
}

/// `jsonVersion` of the service models.
fn content_type(service: Service) -> &'static str {
    match service {
        Service::Sqs => "application/x-amz-json-1.0",
        _ => "application/x-amz-json-1.1",
    }
}

/// An error: `__type`, the message, and ConflictException's `resourceIds`. SQS, once a query service, also
/// names the error's old code in a header (`awsQueryCompatible`).
pub fn error(service: Service, error: &AwsError) -> Reply {
    let mut body = json!({"__type": error.code, "message": error.message});
    if !error.resource_ids.is_empty() {
        body["resourceIds"] = json!(error.resource_ids);
    }
    if service == Service::Sqs {
        body["__type"] = json!(format!("com.amazonaws.sqs#{}", error.code));
    }
    let reply = json(service, error.status(), &body, error.code.clone());
    match service {
        Service::Sqs => {
            let old = match error.code.as_str() {
                "QueueDoesNotExist" => "AWS.SimpleQueueService.NonExistentQueue",
                "MessageNotInflight" => "AWS.SimpleQueueService.MessageNotInflight",
                code => code,
            };
            let fault = if error.status() >= 500 { "Receiver" } else { "Sender" };
            reply.header("x-amzn-query-error", format!("{old};{fault}"))
        }
        _ => reply,
    }
}

pub fn act(shared: &Shared, op: Op, asked: &Asked) -> Reply {
    let service = op.service();
    let answer = signed(shared, op, asked).and_then(|()| match service {
        Service::Ecs => ecs::act(shared, op, asked),
        Service::Sqs => sqs(shared, op, asked),
        Service::SecretsManager => get_secret_value(shared, asked),
        _ => put_events(shared, asked),
    });
    match answer {
        Ok((body, outcome)) => json(service, 200, &body, outcome),
        Err(refusal) => error(service, &refusal),
    }
}

/// What an operation answers, and what the log says of it.
pub type Answer = Result<(Value, String), AwsError>;

/// POST to `/`, the protocol's content type, and a signature for the right service and region.
fn signed(shared: &Shared, op: Op, asked: &Asked) -> Result<(), AwsError> {
    let service = op.service();
    let name = match service {
        Service::Ecs => "ecs",
        Service::Sqs => "sqs",
        Service::SecretsManager => "secretsmanager",
        _ => "events",
    };
    let credential = format!("/{REGION}/{name}/aws4_request");
    let signature = asked.header("authorization");
    if asked.method != "POST" || asked.path != "/" || asked.header("content-type") != content_type(service) {
        return Err(invalid(shared, op, "not a POST to / in the service's protocol"));
    }
    if !signature.starts_with("AWS4-HMAC-SHA256 ") || !signature.contains(&credential) {
        return Err(invalid(shared, op, &format!("not signed for {credential}")));
    }
    Ok(())
}

/// The request's body as the fields that the project uses, and no others.
pub fn read<T: DeserializeOwned>(shared: &Shared, op: Op, asked: &Asked) -> Result<T, AwsError> {
    serde_json::from_slice(&asked.body).map_err(|error| invalid(shared, op, &error.to_string()))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct SendMessage {
    queue_url: String,
    message_body: String,
    #[serde(default)]
    delay_seconds: i64,
    #[serde(default)]
    message_attributes: BTreeMap<String, Attribute>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Attribute {
    data_type: String,
    string_value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct ChangeMessageVisibility {
    queue_url: String,
    receipt_handle: String,
    visibility_timeout: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct DeleteMessage {
    queue_url: String,
    receipt_handle: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct ReceiveMessage {
    queue_url: String,
    #[serde(default = "one")]
    max_number_of_messages: usize,
    #[serde(default)]
    wait_time_seconds: u32,
    #[serde(default)]
    message_attribute_names: Vec<String>,
    #[serde(default)]
    message_system_attribute_names: Vec<String>,
}

fn one() -> usize {
    1
}

fn sqs(shared: &Shared, op: Op, asked: &Asked) -> Answer {
    let now = shared.now();
    let name = |url: &str| url.rsplit('/').next().unwrap_or_default().to_owned();
    match op {
        Op::SendMessage => {
            let input: SendMessage = read(shared, op, asked)?;
            if let Some(reason) = unsendable(&input) {
                return Err(invalid(shared, op, reason));
            }
            let attributes = input.message_attributes.into_iter();
            let attributes = attributes.map(|(name, value)| (name, value.string_value)).collect();
            let delay = Duration::seconds(input.delay_seconds);
            let body = input.message_body.as_str();
            let sent = lock(&shared.sqs).send(&name(&input.queue_url), body, attributes, delay, now);
            let body = json!({"MessageId": sent?.to_string(), "MD5OfMessageBody": md5(&input.message_body)});
            Ok((body, "sent".to_owned()))
        }
        Op::ChangeMessageVisibility => {
            let input: ChangeMessageVisibility = read(shared, op, asked)?;
            let timeout = Duration::seconds(input.visibility_timeout);
            lock(&shared.sqs).change_visibility(
                &name(&input.queue_url),
                &input.receipt_handle,
                timeout,
                now,
            )?;
            Ok((json!({}), "deferred".to_owned()))
        }
        Op::DeleteMessage => {
            let input: DeleteMessage = read(shared, op, asked)?;
            lock(&shared.sqs).delete(&name(&input.queue_url), &input.receipt_handle, now)?;
            Ok((json!({}), "deleted".to_owned()))
        }
        _ => {
            let input: ReceiveMessage = read(shared, op, asked)?;
            let named = input.message_attribute_names.len() + input.message_system_attribute_names.len();
            if !(1..=10).contains(&input.max_number_of_messages) || input.wait_time_seconds > 20 || named > 20
            {
                return Err(invalid(shared, op, "1 to 10 messages, 0 to 20 s"));
            }
            let batch =
                lock(&shared.sqs).receive(&name(&input.queue_url), input.max_number_of_messages, now)?;
            let messages: Vec<Value> = batch
                .iter()
                .map(|message| {
                    json!({
                        "MessageId": message.id.to_string(),
                        "ReceiptHandle": message.receipt_handle,
                        "Body": message.body,
                        "MD5OfBody": md5(&message.body),
                        "Attributes": {"ApproximateReceiveCount": message.receive_count.to_string()},
                    })
                })
                .collect();
            Ok((json!({"Messages": messages}), format!("{} messages", batch.len())))
        }
    }
}

/// SendMessage: "minimum one character, maximum 1 MiB", XML's characters only, delay of 0 to 900 seconds, and
/// attributes with a type, a valid name and a value that is not empty.
fn unsendable(input: &SendMessage) -> Option<&'static str> {
    let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..);
    let name = |name: &String| {
        let letters = name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
        letters && (1..=256).contains(&name.len()) && !name.to_lowercase().starts_with("aws.")
    };
    let attributes = &input.message_attributes;
    let size: usize =
        attributes.iter().map(|(name, it)| name.len() + it.data_type.len() + it.string_value.len()).sum();
    if input.message_body.is_empty() || input.message_body.len() + size > 1_048_576 {
        Some("a message has 1 to 1,048,576 bytes")
    } else if !input.message_body.chars().all(allowed) {
        Some("a character that a message must not have")
    } else if !(0..=MOST_DELAY.whole_seconds()).contains(&input.delay_seconds) {
        Some("DelaySeconds is 0 to 900")
    } else if attributes.len() > 10 || !attributes.keys().all(name) {
        Some("an attribute's name")
    } else if attributes.values().any(|it| it.data_type != "String" || it.string_value.is_empty()) {
        Some("an attribute's value")
    } else if attributes.values().any(|it| !it.string_value.chars().all(allowed)) {
        Some("a character that an attribute must not have")
    } else {
        None
    }
}

/// SDKs for Rust do not check it, and only the shape matters: 32 hexadecimal digits.
fn md5(body: &str) -> String {
    format!("{:032x}", body.len())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct GetSecretValue {
    secret_id: String,
}

fn get_secret_value(shared: &Shared, asked: &Asked) -> Answer {
    let input: GetSecretValue = read(shared, Op::GetSecretValue, asked)?;
    if !(1..=2048).contains(&input.secret_id.len()) {
        return Err(invalid(shared, Op::GetSecretValue, "SecretId has 1 to 2048 characters"));
    }
    let secrets = lock(&shared.secrets);
    let (name, value, version) = secrets.get(&input.secret_id)?;
    let body = json!({
        "ARN": Secrets::arn(name),
        "Name": name,
        "SecretString": value,
        "VersionId": format!("00000000-0000-4000-8000-{version:012}"),
        "VersionStages": ["AWSCURRENT"],
        "CreatedDate": epoch(shared.now()),
    });
    Ok((body, format!("version {version}")))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct PutEvents {
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Entry {
    event_bus_name: String,
    source: String,
    detail_type: String,
    detail: String,
    time: Option<f64>,
    trace_header: Option<String>,
}

fn put_events(shared: &Shared, asked: &Asked) -> Answer {
    let op = Op::PutEvents;
    let input: PutEvents = read(shared, op, asked)?;
    let now = shared.now();
    let entries: Vec<Event> = input
        .entries
        .iter()
        .map(|entry| Event {
            bus: entry.event_bus_name.clone(),
            source: entry.source.clone(),
            detail_type: entry.detail_type.clone(),
            detail: entry.detail.clone(),
            at: entry.time.and_then(|at| OffsetDateTime::from_unix_timestamp(at as i64).ok()).unwrap_or(now),
        })
        .collect();
    let named = |entry: &Entry| {
        let prefix = format!("arn:aws:events:{REGION}:{ACCOUNT}:event-bus/");
        let name = entry.event_bus_name.strip_prefix(&prefix).unwrap_or(&entry.event_bus_name);
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c))
    };
    if !(1..=10).contains(&entries.len()) {
        return Err(invalid(shared, op, "1 to 10 entries"));
    }
    if !input.entries.iter().all(named) || input.entries.iter().any(|it| it.detail_type.len() > 128) {
        return Err(invalid(shared, op, "a bus's name, or a detail type of more than 128 characters"));
    }
    if input
        .entries
        .iter()
        .any(|it| it.trace_header.as_ref().is_some_and(|it| !(1..=500).contains(&it.len())))
    {
        return Err(invalid(shared, op, "TraceHeader has 1 to 500 characters"));
    }
    if entries.iter().map(Event::size).sum::<usize>() >= bus::MOST_BYTES {
        shared.violation("PutEvents: the total size of the entries exceeds 1 MB");
        return Err(AwsError::new(
            "ValidationException",
            "Total size of the entries in the request is over the limit.",
        ));
    }
    let results = lock(&shared.bus).put(entries);
    let failed = results.iter().filter(|result| result.is_err()).count();
    let results: Vec<Value> = results
        .into_iter()
        .map(|result| match result {
            Ok(id) => json!({"EventId": id}),
            Err((code, message)) => json!({"ErrorCode": code, "ErrorMessage": message}),
        })
        .collect();
    let outcome = if failed == 0 { "put".to_owned() } else { format!("{failed} failed") };
    Ok((json!({"FailedEntryCount": failed, "Entries": results}), outcome))
}

/// A moment as GitHub and EventBridge write it.
pub fn rfc3339(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_default()
}
