//! Secrets Manager: one secret.

use aws_sdk_secretsmanager::Client;
use secrecy::SecretString;

use super::aws::call_error;
use crate::{
    error::{CallError, Class},
    ports::SecretSource,
};

/// One secret.
#[derive(Debug, Clone)]
pub struct Secret {
    client: Client,
    arn: String,
}

impl Secret {
    /// The secret with this ARN or name.
    pub fn new(config: &aws_config::SdkConfig, arn: String) -> Self {
        Secret { client: Client::new(config), arn }
    }
}

impl SecretSource for Secret {
    async fn read(&self) -> Result<SecretString, CallError> {
        let named =
            |error: CallError| CallError { message: format!("{} ({})", error.message, self.arn), ..error };
        let answer = self
            .client
            .get_secret_value()
            .secret_id(&self.arn)
            .send()
            .await
            .map_err(|error| named(call_error(&error, "secretsmanager:GetSecretValue", true)))?;
        answer.secret_string.map(SecretString::from).ok_or_else(|| {
            named(CallError::new(
                Class::NeedsOperator,
                "secretsmanager:GetSecretValue: the secret holds bytes, and should hold text",
            ))
        })
    }
}
