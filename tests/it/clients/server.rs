//! A GitHub that answers what it is told to, and a client of it.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::to_bytes,
    extract::Request,
    response::{IntoResponse, Response},
};
use futures_util::future::{BoxFuture, join_all};
use gha_fargate_runners::{
    adapters::{github::GitHub, http::Http},
    error::CallError,
    ids::InstallationId,
    ports::{Clock, Github, Minted, Scope, SecretSource, Target},
};
use secrecy::SecretString;
use serde_json::{Value, json};
use time::{OffsetDateTime, macros::datetime};
use tokio::net::TcpListener;

pub(super) const KEY: &str = include_str!("../../fixtures/app-key.pem");
pub(super) const START: OffsetDateTime = datetime!(2026-01-01 12:00 UTC);

/// One request, as it reached GitHub.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    /// `POST /orgs/octo-org/…`, without the query.
    pub(super) what: String,
    pub(super) bearer: String,
    pub(super) query: String,
    pub(super) body: String,
}

/// A GitHub that answers what it is told to, and remembers what it was asked.
pub(super) struct Server {
    pub(super) url: String,
    pub(super) asked: Arc<Mutex<Vec<Asked>>>,
    running: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Server {
    pub(super) async fn start(
        answer: impl Fn(Asked) -> BoxFuture<'static, Response> + Send + Sync + 'static,
    ) -> Server {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (Arc::clone(&asked), Arc::new(answer));
        let router = Router::new().fallback(move |request: Request| {
            let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
            async move {
                let (head, body) = request.into_parts();
                let body = to_bytes(body, usize::MAX).await.expect("a body");
                let bearer = head.headers["authorization"].to_str().expect("text");
                let bearer = bearer.strip_prefix("Bearer ").unwrap_or(bearer).to_owned();
                let query = head.uri.query().unwrap_or_default().to_owned();
                let asked = Asked {
                    what: format!("{} {}", head.method, head.uri.path()),
                    bearer,
                    query,
                    body: String::from_utf8_lossy(&body).into_owned(),
                };
                seen.lock().expect("a lock").push(asked.clone());
                answer(asked).await
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let running = tokio::spawn(async move { axum::serve(listener, router).await.expect("a server") });
        Server { url, asked, running }
    }

    /// The requests since the last look, shortened to what tells them apart.
    pub(super) fn asked(&self) -> Vec<String> {
        let asked = std::mem::take(&mut *self.asked.lock().expect("a lock"));
        asked.into_iter().map(|asked| shorten(&asked.what)).collect()
    }
}

pub(super) fn shorten(what: &str) -> String {
    if what.ends_with("/generate-jitconfig") {
        return "mint".to_owned();
    }
    match what.strip_prefix("POST /app/installations/").and_then(|rest| rest.strip_suffix("/access_tokens")) {
        Some(installation) => format!("token {installation}"),
        None => what.to_owned(),
    }
}

pub(super) fn answer(status: u16, body: &Value) -> Response {
    let mut response = body.to_string().into_response();
    *response.status_mut() = status.try_into().expect("a status");
    response
}

pub(super) fn minted() -> Response {
    answer(201, &json!({"runner": {"id": 1}, "encoded_jit_config": "jit-config-of-the-runner"}))
}

#[derive(Debug, Clone)]
pub(super) struct Watch(Rc<Cell<OffsetDateTime>>);

impl Watch {
    pub(super) fn advance(&self, minutes: i64) {
        self.0.set(self.0.get() + time::Duration::minutes(minutes));
    }
}

impl Clock for Watch {
    fn now(&self) -> OffsetDateTime {
        self.0.get()
    }
}

/// A secret that can be replaced, and counts its readers.
#[derive(Debug, Clone, Default)]
pub(super) struct Vault {
    pub(super) text: Rc<RefCell<String>>,
    pub(super) reads: Rc<Cell<usize>>,
}

impl SecretSource for Vault {
    async fn read(&self) -> Result<SecretString, CallError> {
        self.reads.set(self.reads.get() + 1);
        // Whoever else is under way gets on meanwhile.
        tokio::task::yield_now().await;
        Ok(self.text.borrow().as_str().into())
    }
}

pub(super) struct Client {
    pub(super) github: GitHub<Vault, Watch>,
    pub(super) clock: Watch,
    pub(super) vault: Vault,
}

impl Client {
    pub(super) fn new(server: &Server, secret: &str) -> Client {
        Client::with(server.url.clone(), secret, Scope::Org, Http::new())
    }

    pub(super) fn with(url: String, secret: &str, scope: Scope, http: Http) -> Client {
        let (clock, vault) = (Watch(Rc::new(Cell::new(START))), Vault::default());
        vault.text.replace(secret.to_owned());
        let github = GitHub::with_clock(http, url, scope, 1, vault.clone(), clock.clone());
        Client { github, clock, vault }
    }

    pub(super) async fn mint(&self, installation: Option<u64>) -> Result<Minted, CallError> {
        let target = Target { installation: installation.map(InstallationId), ..target() };
        self.github.mint(&target, "fargate-1-1", &["self-hosted".to_owned()], None).await
    }

    pub(super) async fn mints(&self, installation: Option<u64>, count: usize) {
        for minted in join_all((0..count).map(|_| self.mint(installation))).await {
            assert!(matches!(minted, Ok(Minted::Created(_))), "{minted:?}");
        }
    }
}

pub(super) fn target() -> Target {
    let repository = Some("octo-repo".to_owned());
    Target { owner: "octo-org".to_owned(), repository, ..Target::default() }
}

pub(super) fn app(installation: Option<u64>) -> String {
    match installation {
        Some(id) => json!({"app_id": 7, "private_key": KEY, "installation_id": id}).to_string(),
        None => json!({"app_id": "7", "private_key": KEY.replace('\n', "\\n")}).to_string(),
    }
}
