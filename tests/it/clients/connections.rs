//! Connections that are dead, cannot be made, or never end: what it costs, and what the operator is told.

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    response::Response,
    serve::Listener,
};
use futures_util::stream;
use gha_fargate_runners::{
    adapters::{ecs::Ecs, http::Http},
    error::Class,
    ids::{RunnerId, RunnerNames},
    ports::{FindTasks, Github, Scope, Target},
};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::server::{Client, Server, answer, minted};
use crate::http::World;

/// Stands between the client and a server, and lets connections die without a word: what comes on them is read, and
/// goes nowhere. New ones work.
struct Relay {
    port: u16,
    accepted: Arc<AtomicUsize>,
    dead: Arc<AtomicUsize>,
    running: tokio::task::JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Relay {
    async fn to(server: u16) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (accepted, dead) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (count, died) = (Arc::clone(&accepted), Arc::clone(&dead));
        let running = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.expect("a connection");
                let number = count.fetch_add(1, Ordering::SeqCst);
                let (from, to) = tokio::io::split(client);
                let server = TcpStream::connect(("127.0.0.1", server)).await.expect("the server");
                let (back, forth) = tokio::io::split(server);
                tokio::spawn(pass_on(from, forth, number, Arc::clone(&died)));
                tokio::spawn(pass_on(back, to, number, Arc::clone(&died)));
            }
        });
        Relay { port, accepted, dead, running }
    }

    fn kill_what_is_open(&self) {
        self.dead.store(self.connections(), Ordering::SeqCst);
    }

    fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

async fn pass_on(
    mut from: ReadHalf<TcpStream>,
    mut to: WriteHalf<TcpStream>,
    number: usize,
    dead: Arc<AtomicUsize>,
) {
    let mut buffer = [0; 8192];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let is_dead = number < dead.load(Ordering::SeqCst);
        if !is_dead && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// TLS with the certificate of `localhost`, and whatever protocol the client likes best.
struct Tls(TcpListener, TlsAcceptor);

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, from) = self.0.accept().await.expect("a connection");
            if let Ok(stream) = self.1.accept(stream).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

/// A GitHub behind TLS that speaks HTTP/2: its port and its certificate.
async fn over_http2() -> (u16, CertificateDer<'static>) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let port = behind_tls(vec![cert.der().clone()], &signing_key).await;
    (port, cert.der().clone())
}

/// A GitHub with these certificates, of which the first is its own: its port.
pub(super) async fn behind_tls(chain: Vec<CertificateDer<'static>>, key: &rcgen::KeyPair) -> u16 {
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a configuration");
    config.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let router = Router::new().fallback(|request: axum::extract::Request| async move {
        assert_eq!(request.version(), axum::http::Version::HTTP_2);
        well(request.method().as_str())
    });
    let listener = Tls(listener, TlsAcceptor::from(Arc::new(config)));
    tokio::spawn(async move { axum::serve(listener, router).await.expect("a server") });
    port
}

fn well(method: &str) -> Response {
    match method {
        "POST" => minted(),
        "DELETE" => answer(404, &json!({})),
        _ => answer(200, &json!({"id": 1, "name": "x", "status": "online", "busy": false, "labels": []})),
    }
}

pub(super) fn target() -> Target {
    Target { owner: "octo-org".to_owned(), ..Target::default() }
}

/// Ample for a machine that is busy, and short for whoever waits for the test.
const CALL: Duration = Duration::from_secs(3);

/// A client whose connection works, once, and then is dead.
async fn with_dead_connection(url: String, http: Http, relay: &Relay) -> Client {
    let client = Client::with(url, "ghp_x", Scope::Org, http.with_call_timeout(CALL));
    client.github.runner(&target(), RunnerId(1)).await.expect("a runner");
    assert_eq!(relay.connections(), 1);
    relay.kill_what_is_open();
    client
}

#[tokio::test]
async fn a_dead_http2_connection_costs_no_call() {
    let (server, certificate) = over_http2().await;
    for first in ["read", "mint", "delete"] {
        let relay = Relay::to(server).await;
        let http = Http::with_roots(vec![certificate.clone()]);
        let client = with_dead_connection(format!("https://localhost:{}", relay.port), http, &relay).await;
        match first {
            "mint" => drop(client.mint(None).await.expect("pings show it in time for another try")),
            "delete" => drop(client.github.delete_runner(&target(), RunnerId(1)).await.expect("likewise")),
            _ => {}
        }
        for _ in 0..13 {
            client.github.runner(&target(), RunnerId(1)).await.expect("a new connection");
        }
        assert_eq!(relay.connections(), 2, "{first}: a new connection, and no more");
    }
}

#[tokio::test]
async fn a_dead_http1_connection_costs_no_call_that_may_be_repeated_and_one_that_may_not() {
    let server = Server::start(|asked| {
        let method = asked.what.split(' ').next().unwrap_or_default().to_owned();
        Box::pin(ready(well(&method)))
    })
    .await;
    let port = server.url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    for first in ["read", "mint"] {
        let relay = Relay::to(port).await;
        let client =
            with_dead_connection(format!("http://127.0.0.1:{}", relay.port), Http::new(), &relay).await;
        if first == "mint" {
            let error = client.mint(None).await.expect_err("it may be under way");
            assert_eq!(error.class, Class::Unknown, "{error}");
        }
        for _ in 0..13 {
            client.github.runner(&target(), RunnerId(1)).await.expect("a new connection");
        }
        assert_eq!(relay.connections(), 2, "{first}: a new connection, and no more");
    }
}

#[tokio::test]
async fn the_connections_of_aws_are_given_up_likewise() {
    let world = World::start();
    let port = world.url().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let relay = Relay::to(port).await;
    let timeouts = aws_config::timeout::TimeoutConfig::builder().operation_attempt_timeout(CALL / 2).build();
    let config = crate::fleet::sdk_config(&world, &Http::new())
        .into_builder()
        .endpoint_url(format!("http://127.0.0.1:{}", relay.port))
        .timeout_config(timeouts)
        .build();
    let ecs = Ecs::new(&config, crate::http::CLUSTER.to_owned(), RunnerNames::default());
    ecs.tasks_started_by("gha-1").await.expect("none");
    relay.kill_what_is_open();
    // Here, the SDK does not repeat.
    ecs.tasks_started_by("gha-1").await.expect_err("a time-out");
    for _ in 0..5 {
        ecs.tasks_started_by("gha-1").await.expect("none");
    }
    assert_eq!(relay.connections(), 2);
    world.finish();
}

#[tokio::test]
async fn what_keeps_a_connection_from_being_made_is_said() {
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let (http2, _) = over_http2().await;
    let table = [
        ("http://github.invalid".to_owned(), "DNS: the host's name has no address", true),
        (format!("http://{free}"), "the connection was refused", false),
        (format!("https://localhost:{http2}"), "TLS: invalid peer certificate: UnknownIssuer", true),
        (format!("https://{free}"), "the connection was refused", false),
        ("http://[::1".to_owned(), "no such address: check GITHUB_API_URL", true),
    ];
    for (url, words, needs_operator) in table {
        let client = Client::with(url.clone(), "ghp_x", Scope::Org, Http::new());
        let error = client.mint(None).await.expect_err("nobody is there");
        assert!(error.message.contains(words), "{url}: {error}");
        let malformed = url.ends_with("[::1");
        let first = if malformed { Class::NeedsOperator } else { Class::Transient };
        assert_eq!(error.class, first, "nothing was sent: {error}");
        client.clock.advance(3);
        let error = client.mint(None).await.expect_err("nobody is there, still");
        let later = if needs_operator { Class::NeedsOperator } else { Class::Transient };
        assert_eq!(error.class, later, "{error}");
        assert_eq!(error.message.contains("GITHUB_API_URL"), needs_operator, "{error}");
    }
}

/// What TLS refuses on a connection that stands is not what keeps it from being made: the request may be at work.
#[tokio::test]
async fn a_mint_after_which_tls_broke_may_have_happened() {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("a configuration");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let server = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            let mut stream = acceptor.accept(stream).await.expect("TLS");
            let read = stream.read(&mut [0; 8192]).await.expect("a request");
            assert!(read > 0);
            // No record of TLS, as if somebody on the way had cut in.
            stream.get_mut().0.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await.expect("sent");
        }
    });
    let http = Http::with_roots(vec![cert.der().clone()]);
    let client = Client::with(format!("https://localhost:{port}"), "ghp_x", Scope::Org, http);
    for minutes in [0, 3] {
        client.clock.advance(minutes);
        let error = client.mint(None).await.expect_err("no answer");
        assert_eq!(error.class, Class::Unknown, "{error}");
    }
    server.abort();
}

fn endless() -> Response {
    let chunk = || Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 65_536]));
    Response::new(Body::from_stream(stream::repeat_with(chunk)))
}

#[tokio::test]
async fn an_answer_without_end_takes_neither_memory_nor_time() {
    let server = Server::start(|_| Box::pin(ready(endless()))).await;
    let client = Client::new(&server, "ghp_x");
    let error = client.github.runner(&target(), RunnerId(1)).await.expect_err("too large");
    assert_eq!(error.class, Class::Transient);
    assert!(error.message.contains("too large"), "{error}");
    assert_eq!(server.asked().len(), 1, "and is not asked for again");

    let world = World::start();
    let aws = crate::fleet::sdk_config(&world, &Http::new()).into_builder().endpoint_url(&server.url).build();
    let error = Ecs::new(&aws, "runners".to_owned(), RunnerNames::default())
        .tasks_started_by("gha-1")
        .await
        .expect_err("too large");
    assert_eq!(error.class, Class::Transient, "{error}");
    world.finish();
}
