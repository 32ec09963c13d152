//! The adapters: each port of [`crate::ports`] over the real service.

pub mod aws;
pub mod bus;
pub mod ecs;
pub mod github;
pub mod http;
pub mod secrets;
pub mod sqs;

use crate::config::GitHubSettings;

/// GitHub, with the credentials of a secret in Secrets Manager.
pub fn github(
    settings: GitHubSettings,
    http: &http::Http,
    aws: &aws_config::SdkConfig,
) -> github::GitHub<secrets::Secret> {
    let secret = secrets::Secret::new(aws, settings.secret_arn);
    github::GitHub::new(http.clone(), settings.api_url, settings.scope, settings.runner_group_id, secret)
}
