//! EventBridge: the event bus.

use aws_config::retry::RetryConfig;
use aws_sdk_eventbridge::{Client, Config, types::PutEventsRequestEntry};

use super::{aws::call_error, http::Http};
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

    /// Opens the connection in the init phase, and asks nothing: the function's role allows no call that would do.
    pub async fn warm(&self, http: &Http) {
        let only_open = Config::builder().http_client(http.opener()).retry_config(RetryConfig::disabled());
        // Always an error: the call is not made.
        let _ = self.client.put_events().customize().config_override(only_open).send().await;
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
            .map_err(|error| call_error(&error, "events:PutEvents"))?;
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
