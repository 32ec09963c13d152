//! EventBridge: the event bus.

use std::cell::OnceCell;

use aws_config::SdkConfig;
use aws_sdk_eventbridge::{
    Client, operation::put_events::builders::PutEventsFluentBuilder, types::PutEventsRequestEntry,
};

use super::aws::{Unsent, call_error};
use crate::{
    error::{CallError, Class},
    ports::Bus,
};

/// One event bus.
#[derive(Debug, Clone)]
pub struct EventBus {
    config: SdkConfig,
    /// Made when it is needed first, or in a rehearsal.
    client: OnceCell<Client>,
    name: String,
}

impl EventBus {
    /// The bus of this name or ARN.
    pub fn new(config: &SdkConfig, name: String) -> Self {
        EventBus { config: config.clone(), client: OnceCell::new(), name }
    }

    /// Goes through a PutEvents but for sending it.
    pub async fn rehearse(&self) {
        // That it fails is the point.
        let _ = self.request("{}").customize().interceptor(Unsent).send().await;
    }

    fn request(&self, detail: &str) -> PutEventsFluentBuilder {
        let entry = PutEventsRequestEntry::builder()
            .event_bus_name(&self.name)
            .source("github.com")
            .detail_type("workflow_job")
            .detail(detail)
            .build();
        self.client.get_or_init(|| Client::new(&self.config)).put_events().entries(entry)
    }
}

impl Bus for EventBus {
    async fn put(&self, detail: &str) -> Result<(), CallError> {
        let answer = self
            .request(detail)
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
