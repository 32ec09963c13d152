//! One HTTP client and one TLS stack (rustls on ring) for AWS and GitHub alike: the system's root certificates
//! are loaded once, and connections are kept in one pool.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use aws_smithy_http_client::{
    Connector,
    tls::{Provider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector, http_client_fn},
        orchestrator::HttpRequest,
        result::ConnectorError,
    },
    http::Headers,
};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream};

/// Opening a connection takes a few round trips.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// One call with all its tries: well below the functions' own 30 seconds, so that a slow GitHub ends in a
/// deferral and not in a time-out of the whole batch.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The client.
#[derive(Debug, Clone)]
pub struct Http {
    pooled: SharedHttpConnector,
    /// Opens a connection for each call. Made when it is needed first, which is rare.
    fresh: Arc<OnceLock<SharedHttpConnector>>,
    call_timeout: Duration,
}

/// One request.
pub struct Request<'a> {
    /// The method.
    pub method: &'static str,
    /// The whole URL.
    pub url: String,
    /// Header names and values.
    pub headers: Vec<(&'static str, &'a str)>,
    /// A body of JSON.
    pub body: Option<String>,
}

/// Neither headers nor body: they hold tokens.
impl fmt::Debug for Request<'_> {
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

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoReply {
    /// None in time.
    TimedOut,
    /// The connection could not be made, or broke.
    Broken,
    /// The request makes no sense, e.g. its URL.
    Malformed,
}

impl Default for Http {
    fn default() -> Self {
        Self::new()
    }
}

impl Http {
    /// Loads the system's root certificates.
    pub fn new() -> Self {
        Http { pooled: connector(None), fresh: Arc::default(), call_timeout: CALL_TIMEOUT }
    }

    /// With another limit for one call with all its tries.
    pub fn with_call_timeout(self, call_timeout: Duration) -> Self {
        Http { call_timeout, ..self }
    }

    /// The same connector for the AWS SDK, which keeps its own time-outs.
    pub fn for_aws(&self) -> SharedHttpClient {
        let connector = self.pooled.clone();
        http_client_fn(move |_settings, _components| connector.clone())
    }

    /// Sends a request, and once more when the connection broke: a function that was frozen finds its pooled
    /// connections dead, all of them, so the second try opens one of its own. (What hyper had not begun to send
    /// it repeats by itself.) Whether a request that got no answer had its effect is not known: what is sent
    /// through here is made so that repeating it does no harm.
    pub async fn send(&self, request: &Request<'_>) -> Result<Reply, NoReply> {
        let tries = async {
            match send_through(&self.pooled, request).await {
                Err(NoReply::Broken) => {
                    send_through(self.fresh.get_or_init(|| connector(Some(0))), request).await
                }
                answer => answer,
            }
        };
        tokio::time::timeout(self.call_timeout, tries).await.unwrap_or(Err(NoReply::TimedOut))
    }
}

fn connector(max_idle_per_host: Option<usize>) -> SharedHttpConnector {
    let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT_TIMEOUT).build();
    let mut builder = Connector::builder();
    builder.set_pool_max_idle_per_host(max_idle_per_host).set_connector_settings(Some(settings));
    SharedHttpConnector::new(builder.tls_provider(Provider::Rustls(CryptoMode::Ring)).build())
}

async fn send_through(connector: &SharedHttpConnector, request: &Request<'_>) -> Result<Reply, NoReply> {
    let response = connector.call(build(request)?).await.map_err(|error| read_error(&error))?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = ByteStream::new(response.into_body()).collect().await.map_err(|_| NoReply::Broken)?;
    Ok(Reply { status, headers, body: body.to_vec() })
}

fn build(request: &Request<'_>) -> Result<HttpRequest, NoReply> {
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
    if error.is_timeout() {
        NoReply::TimedOut
    } else if error.is_user() {
        NoReply::Malformed
    } else {
        NoReply::Broken
    }
}
