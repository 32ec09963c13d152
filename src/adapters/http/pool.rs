//! The connections, kept and shared.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use aws_smithy_runtime_api::client::{
    http::{HttpConnector, HttpConnectorFuture},
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
};
use aws_smithy_types::body::SdkBody;
use http::Uri;
use http_body_util::Limited;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::{self, connect},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tower_service::Service;

use super::route::{BoxError, Proxies, Route};

/// Opening a connection takes a few round trips.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// More than any right answer has: a hundred of ECS's tasks with all their overrides and tags, or of GitHub's
/// runners with all their labels, are two million bytes.
const LARGEST_ANSWER: usize = 8 * 1024 * 1024;
/// Servers close what nobody uses; a connection that was opened early is not kept longer.
const EARLY: Duration = Duration::from_secs(10);

type Client = legacy::Client<Connector, SdkBody>;
type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// hyper's client, as the SDK's connector. Its connections are given up together: what one of them showed, most
/// often that the function was frozen for so long, is true of all.
#[derive(Clone)]
pub(super) struct Connections(Arc<Inner>);

struct Inner {
    connector: Connector,
    call_timeout: Duration,
    current: Mutex<Current>,
}

struct Current {
    generation: u64,
    client: Client,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pool")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connections {
    pub(super) fn new(tls: ClientConfig, proxies: Option<Proxies>, call_timeout: Duration) -> Connections {
        let mut tcp = connect::HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        // What nobody acknowledges is a dead connection, whatever is spoken on it.
        tcp.set_tcp_user_timeout(Some(call_timeout * 2 / 5));
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(Route { tcp, proxies });
        let connector = Connector { https, early: Arc::default() };
        let current = Mutex::new(Current { generation: 0, client: client(&connector, call_timeout) });
        Connections(Arc::new(Inner { connector, call_timeout, current }))
    }

    /// Which connections are in use: see [`Connections::renew`].
    pub(super) fn generation(&self) -> u64 {
        lock(&self.0.current).generation
    }

    /// Gives up the connections of this generation, unless somebody has done so already.
    pub(super) fn renew(&self, generation: u64) {
        let mut current = lock(&self.0.current);
        if current.generation == generation {
            current.generation += 1;
            current.client = client(&self.0.connector, self.0.call_timeout);
        }
    }

    /// Opens a connection for the request that comes next, and asks nothing.
    pub(super) async fn open(&self, to: Uri) -> Result<(), BoxError> {
        let mut https = self.0.connector.https.clone();
        std::future::poll_fn(|context| https.poll_ready(context)).await?;
        let stream = https.call(to.clone()).await?;
        *lock(&self.0.connector.early) = Some((to, Instant::now(), stream));
        Ok(())
    }
}

fn client(connector: &Connector, call_timeout: Duration) -> Client {
    let mut client = legacy::Client::builder(TokioExecutor::new());
    client.pool_timer(TokioTimer::new());
    // While an answer is awaited, a connection that does not even answer pings is dead: that shows in 4 of the 10
    // seconds, and leaves time for another try.
    client.timer(TokioTimer::new());
    client.http2_keep_alive_interval(call_timeout / 5);
    client.http2_keep_alive_timeout(call_timeout / 5);
    client.build(connector.clone())
}

impl HttpConnector for Connections {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let request = match request.try_into_http1x() {
            Ok(request) => request,
            Err(error) => return HttpConnectorFuture::ready(Err(ConnectorError::user(error.into()))),
        };
        let (waiting, client) = {
            let current = lock(&self.0.current);
            let waiting = Waiting { pool: self.clone(), generation: current.generation, answered: false };
            (waiting, current.client.clone())
        };
        HttpConnectorFuture::new(async move {
            let answer = client.request(request).await;
            waiting.over(answer.as_ref().map_or_else(legacy::Error::is_connect, |_| true));
            let answer = answer.map_err(|error| ConnectorError::io(error.into()))?;
            let limited = |body| SdkBody::from_body_1_x(Limited::new(body, LARGEST_ANSWER));
            HttpResponse::try_from(answer.map(limited))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// A request under way. When its connection breaks, or its caller has waited for long enough and drops it, no other
/// call is to wait for the same connections: HTTP/2 would go on with the very one.
struct Waiting {
    pool: Connections,
    generation: u64,
    answered: bool,
}

impl Waiting {
    fn over(mut self, answered: bool) {
        self.answered = answered;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.answered {
            self.pool.renew(self.generation);
        }
    }
}

/// Opens connections; one of them may be open already.
#[derive(Clone)]
struct Connector {
    https: HttpsConnector<Route>,
    early: Arc<Mutex<Option<(Uri, Instant, Stream)>>>,
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(context)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let leads_there = |(early, at, _): &mut (Uri, Instant, Stream)| {
            (early.scheme(), early.authority()) == (to.scheme(), to.authority()) && at.elapsed() < EARLY
        };
        match lock(&self.early).take_if(leads_there) {
            Some((_, _, stream)) => Box::pin(std::future::ready(Ok(stream))),
            None => self.https.call(to),
        }
    }
}

/// An SDK's connector that opens the connection which a request would take, and does not send it.
#[derive(Debug)]
pub(super) struct Opener(pub(super) Connections);

impl HttpConnector for Opener {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (pool, uri) = (self.0.clone(), request.uri().parse::<Uri>());
        HttpConnectorFuture::new(async move {
            let uri = uri.map_err(|error| ConnectorError::user(error.into()))?;
            pool.open(uri).await.map_err(|error| ConnectorError::other(error, None))?;
            Err(ConnectorError::other("the connection is open, and nothing was sent".into(), None))
        })
    }
}
