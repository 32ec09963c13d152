//! One HTTP client and one TLS stack (rustls on ring) for AWS and GitHub alike: connections are kept in one pool.
//!
//! hyper is used directly, and not by way of the SDK's own client, for one reason: that one can only read its root
//! certificates from PEM files, which is three quarters of the instructions of a cold start (18 of 24 million).
//! Mozilla's are compiled in instead.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use crate::protocol::timing;
use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn},
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
    },
    http::Headers,
};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};

/// Opening a connection takes a few round trips.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The client.
#[derive(Debug, Clone)]
pub struct Http {
    tls: ClientConfig,
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
    /// Trusts Mozilla's root certificates, as of the version of `webpki-roots` that is compiled in.
    pub fn new() -> Self {
        Http::trusting(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() })
    }

    /// Trusts the system's root certificates as well, or those in `SSL_CERT_FILE` and `SSL_CERT_DIR` where they are
    /// set: for a GitHub Enterprise Server or a proxy with certificates of its own.
    pub fn with_system_roots() -> Self {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let found = rustls_native_certs::load_native_certs();
        for error in found.errors {
            tracing::warn!(%error, "root certificates could not be read");
        }
        let (_, unreadable) = roots.add_parsable_certificates(found.certs);
        if unreadable > 0 {
            tracing::warn!(unreadable, "root certificates that cannot be used");
        }
        Http::trusting(roots)
    }

    fn trusting(roots: RootCertStore) -> Self {
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has the cipher suites of TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let pooled = SharedHttpConnector::new(Pool::new(tls.clone(), None));
        Http { tls, pooled, fresh: Arc::default(), call_timeout: timing::GITHUB_CALL }
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
                    let fresh = || SharedHttpConnector::new(Pool::new(self.tls.clone(), Some(0)));
                    send_through(self.fresh.get_or_init(fresh), request).await
                }
                answer => answer,
            }
        };
        tokio::time::timeout(self.call_timeout, tries).await.unwrap_or(Err(NoReply::TimedOut))
    }
}

/// hyper's client, as the SDK's connector.
#[derive(Debug)]
struct Pool(legacy::Client<HttpsConnector<connect::HttpConnector>, SdkBody>);

impl Pool {
    fn new(tls: ClientConfig, max_idle_per_host: Option<usize>) -> Self {
        let mut tcp = connect::HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(tcp);
        let mut client = legacy::Client::builder(TokioExecutor::new());
        client.pool_timer(TokioTimer::new());
        if let Some(max_idle) = max_idle_per_host {
            client.pool_max_idle_per_host(max_idle);
        }
        Pool(client.build(https))
    }
}

impl HttpConnector for Pool {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let request = match request.try_into_http1x() {
            Ok(request) => request,
            Err(error) => return HttpConnectorFuture::ready(Err(ConnectorError::user(error.into()))),
        };
        let answer = self.0.request(request);
        HttpConnectorFuture::new(async move {
            let answer = answer.await.map_err(|error| ConnectorError::io(error.into()))?;
            HttpResponse::try_from(answer.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
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
