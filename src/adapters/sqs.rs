//! SQS: the queues.

use std::{cell::OnceCell, time::Duration};

use aws_config::SdkConfig;
use aws_sdk_sqs::{Client, types::MessageAttributeValue};

use super::aws::call_error;
use crate::{
    config::Queues,
    error::{CallError, Class},
    ports::{Queue, Source},
    protocol::timing,
};

/// The queues of a function.
#[derive(Debug, Clone)]
pub struct Sqs {
    config: SdkConfig,
    /// Made when it is needed first: in the good case, no message is sent or put off.
    client: OnceCell<Client>,
    queues: Queues,
}

/// A reason has to fit beside the body; it is one sentence.
const LONGEST_REASON: usize = 1024;

impl Sqs {
    /// The queues of `queues`, and those that records come from.
    pub fn new(config: &SdkConfig, queues: Queues) -> Self {
        Sqs { config: config.clone(), client: OnceCell::new(), queues }
    }

    fn client(&self) -> &Client {
        self.client.get_or_init(|| Client::new(&self.config))
    }

    async fn send(
        &self,
        url: Option<&str>,
        variable: &str,
        body: &str,
        delay: Duration,
    ) -> Result<(), CallError> {
        let unset = || CallError::new(Class::NeedsOperator, format!("{variable} is not set"));
        self.client()
            .send_message()
            .queue_url(url.ok_or_else(unset)?)
            .message_body(body)
            .delay_seconds(seconds(delay.min(timing::LONGEST_DELAY)))
            .send()
            .await
            .map(drop)
            .map_err(|error| call_error(&error, "sqs:SendMessage"))
    }
}

impl Queue for Sqs {
    async fn defer(&self, source: &Source, delay: Duration) -> Result<(), CallError> {
        let url = queue_url(&source.queue_arn).ok_or_else(|| {
            CallError::new(Class::Invalid, "sqs:ChangeMessageVisibility: the record names no queue")
        })?;
        self.client()
            .change_message_visibility()
            .queue_url(url)
            .receipt_handle(&source.receipt_handle)
            .visibility_timeout(seconds(delay))
            .send()
            .await
            .map(drop)
            .map_err(|error| call_error(&error, "sqs:ChangeMessageVisibility"))
    }

    async fn reject(&self, body: &str, reason: &str) -> Result<(), CallError> {
        let Some(url) = &self.queues.dead_letter else {
            return Err(CallError::new(Class::NeedsOperator, "DEAD_LETTER_QUEUE_URL is not set"));
        };
        // SQS takes no control characters.
        let reason: String =
            reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_REASON).collect();
        let reason = MessageAttributeValue::builder().data_type("String").string_value(reason).build();
        self.client()
            .send_message()
            .queue_url(url)
            .message_body(body)
            .message_attributes(
                "reason",
                reason.map_err(|_| CallError::new(Class::Invalid, "sqs:SendMessage: no reason"))?,
            )
            .send()
            .await
            .map(drop)
            .map_err(|error| call_error(&error, "sqs:SendMessage"))
    }

    fn can_reject(&self) -> bool {
        self.queues.dead_letter.is_some()
    }

    fn can_announce(&self) -> bool {
        self.queues.jobs.is_some()
    }

    async fn announce(&self, body: &str, delay: Duration) -> Result<(), CallError> {
        self.send(self.queues.jobs.as_deref(), "JOB_QUEUE_URL", body, delay).await
    }

    fn can_tell(&self) -> bool {
        self.queues.author.is_some()
    }

    async fn tell(&self, body: &str, delay: Duration) -> Result<(), CallError> {
        self.send(self.queues.author.as_deref(), "AUTHOR_QUEUE_URL", body, delay).await
    }
}

fn seconds(delay: Duration) -> i32 {
    i32::try_from(delay.as_secs()).unwrap_or(i32::MAX)
}

/// A record names its queue by ARN, SQS wants the URL. With `AWS_ENDPOINT_URL` set, the request goes there all
/// the same: the host in the URL is then only part of the name.
fn queue_url(arn: &str) -> Option<String> {
    let mut parts = arn.split(':').skip(1);
    let (partition, "sqs", region, account, name) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?)
    else {
        return None;
    };
    let domain = if partition == "aws-cn" { "amazonaws.com.cn" } else { "amazonaws.com" };
    Some(format!("https://sqs.{region}.{domain}/{account}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_urls() {
        assert_eq!(
            queue_url("arn:aws:sqs:eu-central-1:123456789012:jobs").as_deref(),
            Some("https://sqs.eu-central-1.amazonaws.com/123456789012/jobs")
        );
        assert_eq!(
            queue_url("arn:aws-cn:sqs:cn-north-1:123456789012:jobs").as_deref(),
            Some("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/jobs")
        );
        for arn in ["", "jobs", "arn:aws:sns:eu-central-1:1:jobs", "arn:aws:sqs:eu-central-1:1"] {
            assert_eq!(queue_url(arn), None, "{arn}");
        }
    }
}
