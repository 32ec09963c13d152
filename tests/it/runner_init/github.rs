//! A small GitHub: it registers runners under names, once each, and does as it is told when it is to fail.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use futures_util::stream::once;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify};

use super::secrets::Secrets;

/// What happens to the next mint instead of the usual.
pub enum Fault {
    /// This status with these headers; nothing is registered.
    Answer(u16, &'static [(&'static str, &'static str)]),
    /// The runner is registered, and a gateway answers 502 in GitHub's place.
    AnswerLost,
    /// The runner is registered, and the connection breaks.
    Broken,
    /// The runner is registered, and its configuration is empty.
    NoConfiguration,
    /// No answer ever.
    Silence,
}

type Peek = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub struct World {
    pub faults: VecDeque<Fault>,
    /// Names and ids.
    pub runners: BTreeMap<String, u64>,
    /// Whether the runners are connected.
    pub online: bool,
    /// Every request: method, path and, where there is one, the body.
    pub requests: Vec<String>,
    /// Called when the next mint arrives, before it is answered.
    pub peek: Option<Peek>,
    next_id: u64,
}

#[derive(Clone)]
pub struct GitHub {
    world: Arc<Mutex<World>>,
    pub arrived: Arc<Notify>,
    secrets: Secrets,
    pub address: SocketAddr,
}

impl GitHub {
    pub async fn start(secrets: Secrets) -> GitHub {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let github = GitHub { world: Arc::default(), arrived: Arc::default(), secrets, address };
        let router = Router::new().fallback(answer).with_state(github.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        github
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no test panicked here")
    }

    fn mint(&self, body: &Bytes) -> Response {
        let body: Value = serde_json::from_slice(body).expect("JSON");
        let name = body["name"].as_str().expect("a name").to_owned();
        let mut world = self.world();
        let fault = world.faults.pop_front();
        if let Some(Fault::Answer(status, headers)) = fault {
            let status = StatusCode::from_u16(status).expect("a status");
            return (status, axum::response::AppendHeaders(headers.iter().copied()), "{}").into_response();
        }
        if world.runners.contains_key(&name) {
            return (StatusCode::CONFLICT, r#"{"message": "Already exists"}"#).into_response();
        }
        world.next_id += 1;
        let id = world.next_id;
        world.runners.insert(name.clone(), id);
        match fault {
            Some(Fault::AnswerLost) => return StatusCode::BAD_GATEWAY.into_response(),
            Some(Fault::Broken) => {
                let broken = once(async { Err::<Bytes, _>(io::Error::other("the connection breaks")) });
                return (StatusCode::CREATED, Body::from_stream(broken)).into_response();
            }
            _ => {}
        }
        let jit_config = match fault {
            Some(Fault::NoConfiguration) => "",
            _ => &self.secrets.jit_config,
        };
        let answer = json!({
            "runner": {
                "id": id,
                "name": name,
                "os": "unknown",
                "status": "offline",
                "busy": false,
                "labels": [],
                "runner_group_id": body["runner_group_id"],
            },
            "encoded_jit_config": jit_config,
        });
        (StatusCode::CREATED, answer.to_string()).into_response()
    }

    fn list(&self, query: &str) -> Response {
        let world = self.world();
        let status = if world.online { "online" } else { "offline" };
        let runners: Vec<Value> = world
            .runners
            .iter()
            .filter(|(name, _)| query.split('&').any(|pair| pair == format!("name={name}")))
            .map(|(name, id)| {
                json!({ "id": id, "name": name, "os": "unknown", "status": status, "busy": false, "labels": [] })
            })
            .collect();
        json!({ "total_count": runners.len(), "runners": runners }).to_string().into_response()
    }

    fn delete(&self, id: &str) -> Response {
        let mut world = self.world();
        let before = world.runners.len();
        world.runners.retain(|_, runner| runner.to_string() != id);
        if world.runners.len() < before { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }
            .into_response()
    }
}

async fn answer(
    State(github): State<GitHub>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let peek = {
        let mut world = github.world();
        world
            .requests
            .push(format!("{method} {} {}", uri.path(), String::from_utf8_lossy(&body)).trim().to_owned());
        world.peek.take()
    };
    if let Some(peek) = peek {
        peek();
    }
    github.arrived.notify_one();
    let authorization =
        headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !authorization.ends_with(&format!(" {}", github.secrets.token)) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    const RUNNERS: &str = "/orgs/acme/actions/runners";
    match (method.as_str(), uri.path()) {
        ("POST", "/orgs/acme/actions/runners/generate-jitconfig") => {
            if matches!(github.world().faults.front(), Some(Fault::Silence)) {
                std::future::pending::<()>().await;
            }
            github.mint(&body)
        }
        ("GET", RUNNERS) => github.list(uri.query().unwrap_or_default()),
        ("DELETE", path) if path.starts_with(RUNNERS) => github.delete(&path[RUNNERS.len() + 1..]),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}
