//! EventBridge and Secrets Manager, as far as the functions use them.

use std::collections::{BTreeMap, BTreeSet};

use time::OffsetDateTime;

use super::aws::{ACCOUNT, AwsError, REGION};

/// "The total entry size must be less than 1MB" (PutEvents).
pub const MOST_BYTES: usize = 1024 * 1024;

/// One entry of PutEvents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub bus: String,
    pub source: String,
    pub detail_type: String,
    /// As it was sent, to the byte.
    pub detail: String,
    pub at: OffsetDateTime,
}

impl Event {
    /// "Calculating PutEvents event entry size", EventBridge User Guide.
    pub fn size(&self) -> usize {
        self.source.len() + self.detail_type.len() + self.detail.len()
    }
}

#[derive(Default)]
pub struct Bus {
    /// The buses there are.
    pub names: BTreeSet<String>,
    /// What was put, in order.
    pub events: Vec<Event>,
}

impl Bus {
    /// One result for each entry: its id, or code and message of its failure.
    pub fn put(&mut self, entries: Vec<Event>) -> Vec<Result<String, (String, String)>> {
        let refused = |code: &str, message: String| Err((code.to_owned(), message));
        let put = |mut event: Event| {
            let prefix = format!("arn:aws:events:{REGION}:{ACCOUNT}:event-bus/");
            if let Some(name) = event.bus.strip_prefix(&prefix) {
                event.bus = name.to_owned();
            }
            if !self.names.contains(&event.bus) {
                return refused("InvalidArgument", format!("Event bus {} does not exist.", event.bus));
            }
            if event.source.is_empty() || event.detail_type.is_empty() {
                return refused("InvalidArgument", "Parameter Source or DetailType is not valid.".to_owned());
            }
            if !serde_json::from_str::<serde_json::Value>(&event.detail)
                .is_ok_and(|detail| detail.is_object())
            {
                return refused("MalformedDetail", "Detail is malformed.".to_owned());
            }
            self.events.push(event);
            Ok(format!("00000000-0000-4000-8000-{:012}", self.events.len()))
        };
        entries.into_iter().map(put).collect()
    }
}

#[derive(Default)]
pub struct Secrets {
    secrets: BTreeMap<String, (String, u32)>,
}

impl Secrets {
    /// The ARN of a secret: Secrets Manager adds a hyphen and six characters to the name.
    pub fn arn(name: &str) -> String {
        format!("arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}-AbCdEf")
    }

    /// Stores a value, or the next version of it.
    pub fn set(&mut self, name: &str, value: &str) {
        let version = self.secrets.get(name).map_or(1, |(_, version)| version + 1);
        self.secrets.insert(name.to_owned(), (value.to_owned(), version));
    }

    /// GetSecretValue by name or by ARN: name, value and version.
    pub fn get(&self, name_or_arn: &str) -> Result<(&str, &str, u32), AwsError> {
        let wanted = |name: &str| name == name_or_arn || Secrets::arn(name) == name_or_arn;
        let found = self.secrets.iter().find(|(name, _)| wanted(name));
        found.map(|(name, (value, version))| (name.as_str(), value.as_str(), *version)).ok_or_else(|| {
            AwsError::new("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
        })
    }
}
