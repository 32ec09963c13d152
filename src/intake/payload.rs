//! What arrives: `workflow_job` payloads, bare or in an EventBridge envelope, and this system's own messages.
//!
//! Only the fields that matter are read, and those strictly: one that is missing or of the wrong type is named
//! in the error, with its path; its value never is.

mod forms;
mod job;
mod json;
mod replacement;
#[cfg(test)]
mod tests;
mod wire;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

pub use forms::rfc3339;
pub(crate) use forms::{check_name, is_page, is_sha};
pub use job::{Action, Job, WorkflowJob};
use json::from_json;
pub use json::{Unreadable, read_json};
pub use replacement::{Replacement, Subject};
pub use wire::{read_workflow_job, trimmed};

/// A message, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A `workflow_job` event.
    WorkflowJob(Box<WorkflowJob>),
    /// A runner is owed.
    Replacement(Replacement),
    /// An EventBridge event of another kind: its source and detail-type.
    OtherEvent(String),
}

/// Reads a message body: an EventBridge envelope, a bare `workflow_job` payload, or a [`Replacement`]. What comes
/// through the bus is in an envelope, so a `replacement` in there is never this system's own.
pub fn read(body: &str) -> Result<Message, Unreadable> {
    let shape: Shape = from_json(body, "")?;
    if let Some(detail) = shape.detail {
        if shape.detail_type.as_deref() != Some("workflow_job") {
            let detail_type = shape.detail_type.unwrap_or_default();
            return Ok(Message::OtherEvent(clip(&format!("event {detail_type:?}"))));
        }
        let detail_shape: Shape = from_json(detail.get(), "detail.")?;
        let arrived_at = match shape.time.as_deref() {
            None => None,
            Some(text) => Some(
                rfc3339(text)
                    .ok_or_else(|| Unreadable("time is no time like 2026-11-24T08:00:00Z".into()))?,
            ),
        };
        let mut message = read_payload(&detail_shape, detail.get(), "detail.")?;
        if let Message::WorkflowJob(event) = &mut message {
            event.arrived_at = arrived_at;
        }
        return Ok(message);
    }
    match shape.replacement {
        Some(own) if shape.workflow_job.is_none() => {
            from_json::<Own>(body, "")?;
            let own: Replacement = from_json(own.get(), "replacement.")?;
            own.check().map_err(|what| Unreadable(format!("replacement.{what}")))?;
            Ok(Message::Replacement(own))
        }
        _ => read_payload(&shape, body, ""),
    }
}

fn read_payload(shape: &Shape, json: &str, path: &str) -> Result<Message, Unreadable> {
    if shape.workflow_job.is_none() {
        return Err(Unreadable(format!(
            "{path}workflow_job is missing: this is no workflow_job event (send GitHub's payload as it came)"
        )));
    }
    read_workflow_job(json, path).map(|event| Message::WorkflowJob(Box::new(event)))
}

/// What tells the shapes apart; nothing inside is looked at yet.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Shape<'a> {
    #[serde(rename = "detail-type")]
    detail_type: Option<String>,
    time: Option<String>,
    #[serde(borrow)]
    detail: Option<&'a RawValue>,
    #[serde(borrow)]
    workflow_job: Option<&'a RawValue>,
    #[serde(borrow)]
    replacement: Option<&'a RawValue>,
}

/// This system's own message, with nothing else in it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct Own {
    #[serde(rename = "replacement")]
    _replacement: IgnoredAny,
}

/// Text from outside, at a length fit for a log line.
fn clip(text: &str) -> String {
    text.chars().take(120).collect()
}
