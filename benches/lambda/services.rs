//! Stand-ins of GitHub and AWS over TLS: canned answers, as fast or as slow as asked for.

use std::{
    fs,
    io::Write,
    net::{Shutdown, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};

use super::{
    fleet,
    http::{self, Answer, Request},
};

/// The private key of the test world's App.
const APP_KEY: &str = include_str!("../../tests/fixtures/app-key.pem");
/// What the webhook's secret is.
pub const WEBHOOK_SECRET: &str = "It's a Secret to Everybody";

/// The stand-ins.
pub struct Services {
    /// GitHub, Secrets Manager and the rest of AWS: hosts of their own, so that each needs a connection of its own.
    pub github: String,
    pub secrets: String,
    pub aws: String,
    /// The stand-ins' root certificate: for `SSL_CERT_FILE`.
    pub root: PathBuf,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    delay_ms: AtomicU64,
    closed: AtomicBool,
    calls: AtomicU64,
    /// Every connection that was ever opened, so that it can be cut.
    connections: Mutex<Vec<TcpStream>>,
}

impl Services {
    pub fn start(folder: &Path) -> Services {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("a configuration");

        let path = folder.join("root.pem");
        fs::write(&path, cert.pem()).expect("the root");

        let (state, config) = (Arc::default(), Arc::new(config));
        Services {
            github: listen(&config, &state),
            secrets: listen(&config, &state),
            aws: listen(&config, &state),
            root: path,
            state,
        }
    }

    /// How long every answer takes.
    pub fn set_delay(&self, delay: Duration) {
        self.state.delay_ms.store(delay.as_millis() as u64, Ordering::SeqCst);
    }

    /// Closes every new connection at once: then nothing can be warmed up.
    pub fn set_closed(&self, closed: bool) {
        self.state.closed.store(closed, Ordering::SeqCst);
    }

    /// Calls answered since the last time this was asked.
    pub fn take_calls(&self) -> u64 {
        self.state.calls.swap(0, Ordering::SeqCst)
    }

    /// Cuts every connection, as services and NATs do with those of a function that is frozen for long. Returns
    /// how many there have been since the last time.
    pub fn cut(&self) -> usize {
        let connections = std::mem::take(&mut *self.state.connections.lock().expect("the connections"));
        for connection in &connections {
            // One that has ended by itself needs no cutting.
            let _ = connection.shutdown(Shutdown::Both);
        }
        connections.len()
    }
}

/// Starts a server; the answer is its URL.
fn listen(config: &Arc<ServerConfig>, state: &Arc<State>) -> String {
    let (config, state) = (Arc::clone(config), Arc::clone(state));
    let listener = TcpListener::bind(("localhost", 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if state.closed.load(Ordering::SeqCst) {
                continue;
            }
            let cut = stream.try_clone().expect("a second handle");
            state.connections.lock().expect("the connections").push(cut);
            let (config, state) = (Arc::clone(&config), Arc::clone(&state));
            thread::spawn(move || serve(stream, config, &state));
        }
    });
    format!("https://localhost:{port}")
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>, state: &State) {
    let _ = stream.set_nodelay(true);
    let Ok(connection) = ServerConnection::new(config) else { return };
    let mut stream = StreamOwned::new(connection, stream);
    // A function that ends in the middle of a handshake is none of our business.
    let _ = http::serve(&mut stream, |request| {
        thread::sleep(Duration::from_millis(state.delay_ms.load(Ordering::SeqCst)));
        state.calls.fetch_add(1, Ordering::SeqCst);
        answer(&request)
    });
    let _ = stream.flush();
}

fn answer(request: &Request) -> Answer {
    let target = request.header("x-amz-target").rsplit('.').next().unwrap_or_default().to_owned();
    let (status, body) = match (request.method.as_str(), target.as_str()) {
        (_, "RunTask") => {
            (200, r#"{"tasks":[{"taskArn":"arn:aws:ecs:us-east-1:1:task/c/1"}],"failures":[]}"#.to_owned())
        }
        (_, "DescribeClusters") => {
            (200, r#"{"clusters":[{"runningTasksCount":0,"pendingTasksCount":0}]}"#.to_owned())
        }
        (_, "PutEvents") => (200, r#"{"FailedEntryCount":0,"Entries":[{"EventId":"1"}]}"#.to_owned()),
        (_, "ListTasks") => (200, fleet::list_tasks(&request.body)),
        (_, "DescribeTasks") => (200, fleet::describe_tasks(&request.body)),
        (_, "GetSecretValue") => (200, secret(&request.body)),
        (_, "") => github(&request.path),
        _ => (200, "{}".to_owned()),
    };
    Answer { status, headers: vec![("content-type", "application/json".to_owned())], body }
}

fn secret(request: &[u8]) -> String {
    let is_webhook = String::from_utf8_lossy(request).contains("webhook");
    let app = serde_json::json!({ "app_id": 1, "private_key": APP_KEY, "installation_id": 7 }).to_string();
    serde_json::json!({ "SecretString": if is_webhook { WEBHOOK_SECRET } else { &app } }).to_string()
}

fn github(path: &str) -> (u16, String) {
    match path {
        // A configuration is 4.0 to 4.5 kB.
        path if path.ends_with("/generate-jitconfig") => (
            201,
            serde_json::json!({ "runner": { "id": 1 }, "encoded_jit_config": "x".repeat(4_200) }).to_string(),
        ),
        path if path.ends_with("/access_tokens") => {
            (201, r#"{"token":"ghs_x","expires_at":"2099-01-01T00:00:00Z"}"#.to_owned())
        }
        path if path.contains("/actions/runners?per_page=") => (200, fleet::runners(path)),
        path if path.contains("/hook/deliveries") => (200, "[]".to_owned()),
        _ => (200, "{}".to_owned()),
    }
}
