//! What all AWS clients have in common: where their settings come from, and how their errors are read.

mod words;

use std::time::Duration;

use aws_config::{
    BehaviorVersion, Region, SdkConfig, environment::EnvironmentVariableCredentialsProvider,
    retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_runtime_api::{
    client::{http::SharedHttpClient, result::SdkError},
    http::Response,
};
use aws_smithy_types::{error::metadata::ProvideErrorMetadata, retry::ReconnectMode};
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};

pub use self::words::{OVER_QUOTA, class_of_words, classify};
use super::http::NoReply;
use crate::{
    error::{CallError, Class},
    protocol::timing,
};

/// Opening a connection inside one region takes milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long one call may take, with all its attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// For functions behind a queue.
    Queue,
    /// For the webhook, for whose answer GitHub waits 10 seconds.
    Webhook,
}

impl Patience {
    fn call(self) -> Duration {
        match self {
            Patience::Queue => timing::AWS_CALL,
            Patience::Webhook => timing::AWS_CALL_OF_WEBHOOK,
        }
    }
}

/// A variable of the environment, e.g. `|name| std::env::var(name).ok()`.
pub type Variable = fn(&str) -> Option<String>;

/// The SDK's settings. Region and credentials come from the environment alone, as Lambda gives them.
///
/// They are put together here and not by `aws_config::load`, which brings every other source along: files, the
/// services that hand out credentials, a sixth of the program. Of the SDK's variables these count: `AWS_REGION`
/// (or `AWS_DEFAULT_REGION`), `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_ENDPOINT_URL`
/// and its forms for one service, `AWS_USE_FIPS_ENDPOINT`, `AWS_USE_DUALSTACK_ENDPOINT`.
pub fn sdk_config(get: Variable, http: SharedHttpClient, patience: Patience) -> SdkConfig {
    let is_true = |name| get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .region(get("AWS_REGION").or_else(|| get("AWS_DEFAULT_REGION")).map(Region::new))
        .credentials_provider(SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new()))
        .use_fips(is_true("AWS_USE_FIPS_ENDPOINT"))
        .use_dual_stack(is_true("AWS_USE_DUALSTACK_ENDPOINT"))
        .service_config(Endpoints(get))
        // The pool gives up connections by itself. The SDK would look for the one that a 5xx came by, find none, and
        // log that as an ERROR (`ConnectionPoisoningInterceptor`).
        .retry_config(RetryConfig::standard().with_reconnect_mode(ReconnectMode::ReuseAllConnections))
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .operation_attempt_timeout(patience.call() / 2)
                .operation_timeout(patience.call())
                .build(),
        )
        .build()
}

/// `AWS_ENDPOINT_URL`, or its form for one service, e.g. `AWS_ENDPOINT_URL_SECRETS_MANAGER`.
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>
#[derive(Debug)]
struct Endpoints(Variable);

impl LoadServiceConfig for Endpoints {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let service = key.service_id().to_uppercase().replace(' ', "_");
        (self.0)(&format!("{}_{service}", key.env())).or_else(|| (self.0)(key.env()))
    }
}

/// Reads the error of a call that may be made again without asking first whether it had its effect. `call` is the IAM
/// action, e.g. `ecs:StopTask`.
pub fn call_error<E: ProvideErrorMetadata>(error: &SdkError<E, Response>, call: &str) -> CallError {
    read_error(error, call, Class::Transient)
}

/// Reads the error of a call that may not.
pub fn call_error_unrepeatable<E: ProvideErrorMetadata>(
    error: &SdkError<E, Response>,
    call: &str,
) -> CallError {
    read_error(error, call, Class::Unknown)
}

/// By its code. The service's own text is not passed on: it may quote the request. `lost` is the class of an error that
/// leaves open what happened.
fn read_error<E: ProvideErrorMetadata>(error: &SdkError<E, Response>, call: &str, lost: Class) -> CallError {
    let (class, what) = match error {
        SdkError::ConstructionFailure(_) => (
            Class::NeedsOperator,
            "the request could not be built: are AWS_REGION and the credentials in the environment?"
                .to_owned(),
        ),
        SdkError::TimeoutError(_) => (lost, "no answer in time".to_owned()),
        // (The SDK has tried more than once, and tells the last try: an earlier one may have arrived.)
        SdkError::DispatchFailure(failure) => (
            lost,
            failure.as_connector_error().map_or(NoReply::Broken, |error| NoReply::of(error)).to_string(),
        ),
        SdkError::ServiceError(context) => {
            let code = context.err().code().filter(|code| is_code(code)).unwrap_or_default();
            let status = context.raw().status().as_u16();
            let text = context.err().message().unwrap_or_default();
            let what = match code {
                "" if status < 300 => format!("{status} with an unreadable body"),
                "" => format!("an error without a code ({status})"),
                _ => match words::fix(code, text, call) {
                    Some(fix) => format!("{code} ({status}): {fix}"),
                    None => format!("{code} ({status})"),
                },
            };
            (words::classify(code, text, status, lost), what)
        }
        _ => (lost, "the answer could not be read".to_owned()),
    };
    CallError::new(class, format!("{call}: {what}"))
}

/// The code goes into the log, and is a part of the answer: what does not look like one is not passed on. AWS's are
/// words written together, some with dots in between.
fn is_code(code: &str) -> bool {
    (1..=64).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_of_one_service_goes_before_that_of_all() {
        let get: Variable = |name| match name {
            "AWS_ENDPOINT_URL" => Some("https://all".into()),
            "AWS_ENDPOINT_URL_SECRETS_MANAGER" => Some("https://secrets".into()),
            _ => None,
        };
        let endpoint = |service| {
            let key = ServiceConfigKey::builder()
                .service_id(service)
                .env("AWS_ENDPOINT_URL")
                .profile("endpoint_url")
                .build()
                .expect("a key");
            Endpoints(get).load_config(key)
        };
        assert_eq!(endpoint("Secrets Manager").as_deref(), Some("https://secrets"));
        assert_eq!(endpoint("ECS").as_deref(), Some("https://all"));
    }
}
