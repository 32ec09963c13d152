//! The way to a host: straight, or through the proxy of a corporate network.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::{
    client::{
        legacy::connect::{HttpConnector, proxy::Tunnel},
        proxy::matcher::Matcher,
    },
    rt::TokioIo,
};
use tokio::net::TcpStream;
use tower_service::Service;

/// What a connector fails with.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Which hosts are reached through which proxy.
#[derive(Clone)]
pub(super) struct Proxies(Arc<Matcher>);

/// They may hold passwords.
impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proxies")
    }
}

impl Proxies {
    /// The proxy at this URL, for all hosts that are called by https but those of a list as `NO_PROXY` has it.
    pub(super) fn new(url: &str, but_not: &str) -> Self {
        Proxies(Arc::new(Matcher::builder().https(url).no(but_not).build()))
    }
}

/// Opens TCP connections. TLS goes through them to the host itself: a proxy sees its name, and nothing of what is said.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub(super) tcp: HttpConnector,
    pub(super) proxies: Option<Proxies>,
}

impl Service<Uri> for Route {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let mut tcp = self.tcp.clone();
        let Some(proxy) = self.proxies.as_ref().and_then(|Proxies(all)| all.intercept(&to)) else {
            return Box::pin(async move { tcp.call(to).await.map_err(Into::into) });
        };
        let mut tunnel = Tunnel::new(proxy.uri().clone(), tcp);
        if let Some(password) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(password.clone());
        }
        Box::pin(async move { tunnel.call(to).await.map_err(Into::into) })
    }
}
