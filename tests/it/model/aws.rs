//! What the AWS machines share: one account, one region, and the shape of a refusal.

use time::OffsetDateTime;

/// The account and region that the recorded events in `events/` name too.
pub const ACCOUNT: &str = "123456789012";
pub const REGION: &str = "us-east-1";

/// An error as an AWS service answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsError {
    /// The exception's name in the service model, e.g. `ConflictException`.
    pub code: String,
    pub message: String,
    /// ConflictException: the ARNs of the tasks that the `clientToken` stands for.
    pub resource_ids: Vec<String>,
}

impl AwsError {
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        AwsError { code: code.to_owned(), message: message.into(), resource_ids: Vec::new() }
    }

    /// Server faults are 500, all others 400: throttling too (AWS JSON protocol).
    pub fn status(&self) -> u16 {
        match self.code.as_str() {
            "ServerException" | "InternalFailure" | "InternalServiceError" | "InternalException" => 500,
            "ServiceUnavailable" => 503,
            _ => 400,
        }
    }
}

/// Timestamps in the AWS JSON protocols are seconds since the epoch, with a fraction.
pub fn epoch(at: OffsetDateTime) -> f64 {
    at.unix_timestamp_nanos() as f64 / 1e9
}
