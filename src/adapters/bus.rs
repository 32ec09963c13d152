//! EventBridge: the event bus.

use aws_sdk_eventbridge::{Client, types::PutEventsRequestEntry};

use super::aws::call_error;
use crate::{
    error::{CallError, Class},
    ports::Bus,
};

/// One event bus.
#[derive(Debug, Clone)]
pub struct EventBus {
    client: Client,
    name: String,
}

impl EventBus {
    /// The bus of this name or ARN.
    pub fn new(config: &aws_config::SdkConfig, name: String) -> Self {
        EventBus { client: Client::new(config), name }
    }

    /// Opens the connection in the init phase. Nothing else comes of it: a PutEvents without entries is refused
    /// (1 to 10 are allowed), and no other call is in the function's role.
    pub async fn warm(&self) {
        let _ = self.client.put_events().set_entries(Some(Vec::new())).send().await;
    }
}

impl Bus for EventBus {
    async fn put(&self, detail: &str) -> Result<(), CallError> {
        let entry = PutEventsRequestEntry::builder()
            .event_bus_name(&self.name)
            .source("github.com")
            .detail_type("workflow_job")
            .detail(detail)
            .build();
        let answer = self
            .client
            .put_events()
            .entries(entry)
            .send()
            .await
            .map_err(|error| call_error(&error, "events:PutEvents", true))?;
        // 200 OK is no success by itself.
        if answer.failed_entry_count() > 0 {
            let code = answer.entries().iter().find_map(|entry| entry.error_code()).unwrap_or("unknown");
            return Err(CallError::new(
                Class::Transient,
                format!("events:PutEvents: the bus {} refused the event: {code}", self.name),
            ));
        }
        Ok(())
    }
}
