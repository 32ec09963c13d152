//! One HTTP client and one TLS stack (rustls on ring) for AWS and GitHub alike: connections are kept in one pool.
//!
//! hyper is used directly, and not by way of the SDK's own client, for one reason: that one can only read its root
//! certificates from PEM files, which is three quarters of the instructions of a cold start (18 of 24 million).
//! Mozilla's are compiled in instead.

mod no_reply;
mod pool;
mod route;
mod trust;

use std::{fmt, time::Duration};

use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, SharedHttpClient, SharedHttpConnector, http_client_fn},
        orchestrator::HttpRequest,
        result::ConnectorError,
    },
    http::Headers,
};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream};
use rustls::{ClientConfig, pki_types::CertificateDer};
use tokio::time::timeout;

pub use self::no_reply::NoReply;
use self::{
    pool::{Connections, Opener},
    route::Proxies,
    trust::trusting,
};
use crate::{config::ProxyUrl, protocol::timing};

/// The client.
#[derive(Debug, Clone)]
pub struct Http {
    tls: ClientConfig,
    proxies: Option<Proxies>,
    pool: Connections,
    call_timeout: Duration,
}

/// One request.
pub struct ApiRequest<'a> {
    /// The method.
    pub method: &'static str,
    /// The whole URL.
    pub url: String,
    /// Header names and values.
    pub headers: Vec<(&'static str, &'a str)>,
    /// A body of JSON.
    pub body: Option<String>,
    /// It may be sent again while the first one may still be under way: after a time-out.
    pub repeatable: bool,
}

/// Neither headers nor body: they hold tokens.
impl fmt::Debug for ApiRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.url)
    }
}

/// The answer to a request. It cannot be printed: its body may be a token or a configuration.
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
}

impl Default for Http {
    fn default() -> Self {
        Self::new()
    }
}

impl Http {
    /// Trusts Mozilla's root certificates, as of the version of `webpki-roots` that is compiled in.
    pub fn new() -> Self {
        Http::with_roots(Vec::new())
    }

    /// Trusts these root certificates as well: for a GitHub Enterprise Server or a proxy with certificates of its own.
    pub fn with_roots(certificates: Vec<CertificateDer<'static>>) -> Self {
        Http::made_of(trusting(certificates), None, timing::GITHUB_CALL)
    }

    fn made_of(tls: ClientConfig, proxies: Option<Proxies>, call_timeout: Duration) -> Self {
        let pool = Connections::new(tls.clone(), proxies.clone(), call_timeout);
        Http { tls, proxies, pool, call_timeout }
    }

    /// With another limit for one call with all its tries.
    pub fn with_call_timeout(self, call_timeout: Duration) -> Self {
        Http::made_of(self.tls, self.proxies, call_timeout)
    }

    /// Through the proxy at this URL, but for the hosts of a list as `NO_PROXY` has it.
    pub fn through(self, proxy: &ProxyUrl, but_not: &str) -> Self {
        Http::made_of(self.tls, Some(Proxies::new(proxy.expose(), but_not)), self.call_timeout)
    }

    /// The same connections for the AWS SDK, which keeps its own time-outs.
    pub fn for_aws(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(self.pool.clone());
        http_client_fn(move |_settings, _components| connector.clone())
    }

    /// For a call of the AWS SDK that is not made: only its connection is opened, which the next one takes.
    pub fn opener(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(Opener(self.pool.clone()));
        http_client_fn(move |_settings, _components| connector.clone())
    }

    /// Sends a request, and once more when there was no connection or it broke: a function that was frozen finds its
    /// connections dead, all of them, so the second try is made on a new one. (What hyper had not begun to send it
    /// repeats by itself.) Whether a request that got no answer had its effect is not known: what is sent through
    /// here is made so that repeating it does no harm once the first one is certainly over.
    ///
    /// After a time-out the first one may still be at work, so only what is `repeatable` is sent again, and its first
    /// try leaves time for that. Either way no later call waits for the same connection.
    pub async fn send(&self, request: &ApiRequest<'_>) -> Result<Reply, NoReply> {
        let tries = async {
            let patience = if request.repeatable { self.call_timeout / 2 } else { self.call_timeout };
            let first = match self.try_once(request, patience).await {
                Err(NoReply::TimedOut) if !request.repeatable => return Err(NoReply::TimedOut),
                Err(first) if !matches!(first, NoReply::Malformed | NoReply::TooLarge) => first,
                answer => return answer,
            };
            let second = self.try_once(request, self.call_timeout).await;
            // Of the two, one may have arrived.
            second.map_err(|second| if second.is_unsent() && !first.is_unsent() { first } else { second })
        };
        timeout(self.call_timeout, tries).await.unwrap_or(Err(NoReply::TimedOut))
    }

    async fn try_once(&self, request: &ApiRequest<'_>, patience: Duration) -> Result<Reply, NoReply> {
        let generation = self.pool.generation();
        timeout(patience, send_through(&self.pool, request)).await.unwrap_or_else(|_| {
            self.pool.renew(generation);
            Err(NoReply::TimedOut)
        })
    }
}

/// The system's root certificates, or those in `SSL_CERT_FILE` and `SSL_CERT_DIR` where they are set.
pub fn system_roots() -> Vec<CertificateDer<'static>> {
    let found = rustls_native_certs::load_native_certs();
    for error in found.errors {
        tracing::warn!(%error, "root certificates could not be read");
    }
    found.certs
}

async fn send_through(pool: &Connections, request: &ApiRequest<'_>) -> Result<Reply, NoReply> {
    let response = pool.call(build(request)?).await.map_err(|error| read_error(&error))?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = ByteStream::new(response.into_body()).collect().await.map_err(|error| NoReply::of(&error))?;
    Ok(Reply { status, headers, body: body.to_vec() })
}

fn build(request: &ApiRequest<'_>) -> Result<HttpRequest, NoReply> {
    let mut built = match &request.body {
        Some(body) => HttpRequest::new(SdkBody::from(body.as_str())),
        None => HttpRequest::new(SdkBody::empty()),
    };
    built.set_method(request.method).map_err(|_| NoReply::Malformed)?;
    built.set_uri(request.url.as_str()).map_err(|_| NoReply::Malformed)?;
    for (name, value) in &request.headers {
        built.headers_mut().try_insert(*name, (*value).to_owned()).map_err(|_| NoReply::Malformed)?;
    }
    Ok(built)
}

fn read_error(error: &ConnectorError) -> NoReply {
    if error.is_user() { NoReply::Malformed } else { NoReply::of(error) }
}
