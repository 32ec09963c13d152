//! The adapters: each port of [`crate::ports`] over the real service.

pub mod aws;
pub mod bus;
pub mod ecs;
pub mod github;
pub mod http;
pub mod s3;
pub mod secrets;
pub mod sqs;

use std::time::Duration;

use rustls::pki_types::CertificateDer;

use crate::{
    config::{ClassesConfig, ClassesDocument, GitHubSettings, Outside},
    error::CallError,
    flows::document::Document,
};

/// The HTTP client of a function. No file of certificates is read at a cold start, unless there are some of the
/// operator's own.
pub fn http(outside: Outside, environment: impl Fn(&str) -> Option<String>) -> http::Http {
    match has_own_roots(environment) {
        true => http_of(outside, http::system_roots()),
        false => http_of(outside, Vec::new()),
    }
}

/// As with all variables, one that is set to nothing is not set.
fn has_own_roots(environment: impl Fn(&str) -> Option<String>) -> bool {
    let is_set = |name| environment(name).is_some_and(|value| !value.trim().is_empty());
    is_set("SSL_CERT_FILE") || is_set("SSL_CERT_DIR")
}

/// An HTTP client that goes the way outside, and trusts these root certificates too.
pub fn http_of(outside: Outside, mut roots: Vec<CertificateDer<'static>>) -> http::Http {
    roots.extend(outside.certificates);
    let http = http::Http::with_roots(roots);
    match outside.proxy {
        Some(proxy) => http.through(&proxy, &outside.no_proxy),
        None => http,
    }
}

/// GitHub, with the credentials of a secret in Secrets Manager.
pub fn github(
    settings: GitHubSettings,
    http: &http::Http,
    aws: &aws_config::SdkConfig,
) -> github::GitHub<secrets::Secret> {
    let secret = secrets::Secret::new(aws, settings.secret_arn);
    github::GitHub::new(http.clone(), settings.api_url, settings.scope, settings.runner_group_id, secret)
}

/// The document of runner classes, if there is one.
pub fn document(config: ClassesConfig, http: &http::Http, aws: &aws_config::SdkConfig) -> Document {
    match config.document {
        Some(ClassesDocument::Text(text)) => Document::of(&text, &config.common),
        Some(ClassesDocument::S3 { bucket, key }) => {
            let object = s3::Object::new(http.clone(), aws.clone(), bucket, key);
            Document::at(Box::new(object), &config.common)
        }
        None => Document::default(),
    }
}

/// Opens connections, reads the secret and gets a token in the init phase, where a function has a full CPU: the
/// first job then pays for two round trips and nothing else. What fails here fails again, and is dealt with, at
/// the first event.
pub async fn warm(calls: impl AsyncFnOnce() -> Result<(), CallError>) {
    match tokio::time::timeout(WARM_TIMEOUT, calls()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "warming up failed"),
        Err(_) => tracing::warn!("warming up took too long"),
    }
}

/// Lambda allows ten seconds for init, and a queued job may be waiting.
const WARM_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_is_set_to_nothing_names_no_certificates() {
        for (file, folder, want) in [
            (None, None, false),
            (Some(""), None, false),
            (Some(" "), Some(""), false),
            (Some("/etc/own.pem"), None, true),
            (Some(""), Some("/etc/own"), true),
        ] {
            let environment = |name: &str| match name {
                "SSL_CERT_FILE" => file.map(str::to_owned),
                _ => folder.map(str::to_owned),
            };
            assert_eq!(has_own_roots(environment), want, "{file:?}, {folder:?}");
        }
    }
}
