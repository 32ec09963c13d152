//! Secrets Manager: a secret, or several as one.

use aws_sdk_secretsmanager::Client;
use futures_util::future::{LocalBoxFuture, join_all};
use secrecy::{ExposeSecret, SecretString};

use super::aws::call_error;
use crate::{
    error::{CallError, Class},
    ports::SecretSource,
};

/// One secret, or several.
#[derive(Debug, Clone)]
pub struct Secret {
    client: Client,
    arns: Vec<String>,
}

impl Secret {
    /// The secret with this ARN or name; or with each of these, separated by commas.
    pub fn new(config: &aws_config::SdkConfig, arns: String) -> Self {
        let arns = arns.split(',').map(|arn| arn.trim().to_owned()).collect();
        Secret { client: Client::new(config), arns }
    }

    /// On the heap: it is a part of every call's future otherwise.
    fn read_one<'a>(&'a self, arn: &'a str) -> LocalBoxFuture<'a, Result<SecretString, CallError>> {
        Box::pin(self.read_named(arn))
    }

    async fn read_named(&self, arn: &str) -> Result<SecretString, CallError> {
        let named = |error: CallError| CallError { message: format!("{} ({arn})", error.message), ..error };
        let answer = self
            .client
            .get_secret_value()
            .secret_id(arn)
            .send()
            .await
            .map_err(|error| named(call_error(&error, "secretsmanager:GetSecretValue")))?;
        answer.secret_string.map(SecretString::from).ok_or_else(|| {
            named(CallError::new(
                Class::NeedsOperator,
                "secretsmanager:GetSecretValue: the secret holds bytes, and should hold text",
            ))
        })
    }
}

/// Several are a list in JSON of their texts. One that only an operator can mend is left out, while there are others.
impl SecretSource for Secret {
    async fn read(&self) -> Result<SecretString, CallError> {
        if let [arn] = self.arns.as_slice() {
            return self.read_one(arn).await;
        }
        let (mut texts, mut wrong) = (Vec::new(), None);
        for answer in join_all(self.arns.iter().map(|arn| self.read_one(arn))).await {
            match answer {
                Ok(text) => texts.push(text),
                Err(error) if error.class == Class::NeedsOperator => wrong = wrong.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        match wrong {
            Some(error) if texts.is_empty() => return Err(error),
            Some(error) => tracing::error!(%error, "one of several secrets is left out"),
            None => {}
        }
        let texts: Vec<&str> = texts.iter().map(|text| text.expose_secret()).collect();
        Ok(SecretString::from(serde_json::json!(texts).to_string()))
    }
}
