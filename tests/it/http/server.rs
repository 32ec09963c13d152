//! The one HTTP server: takes a request apart, lets the faults strike, and logs the call.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{ConnectInfo, Request, State},
    response::Response,
};
use serde_json::Value;
use time::OffsetDateTime;

use super::{
    aws,
    calls::{Call, Log, Op, Service},
    control,
    faults::{Effect, Faults, Strike},
    github, lock, routes, s3, web,
    wire::{Door, Scissors},
};
use crate::model::{
    app::App,
    aws::AwsError,
    bus::{Bus, Secrets},
    ecs::Ecs,
    github::Github,
    limits::Limits,
    manifest::Signup,
    past::Sight,
    sqs::Sqs,
};

/// Everything that the server and the stories share. Each machine has its own lock, and none is held while
/// another is taken.
#[derive(Clone)]
pub struct Shared {
    pub github: Arc<Mutex<Github>>,
    pub app: Arc<Mutex<App>>,
    pub limits: Arc<Mutex<Limits>>,
    pub signup: Arc<Mutex<Signup>>,
    /// `https://github.com`, for the links in answers.
    pub host: Arc<Mutex<String>>,
    /// Where events are really sent, if they are.
    pub through: Arc<Mutex<Option<String>>>,
    pub ecs: Arc<Mutex<Ecs>>,
    pub sqs: Arc<Mutex<Sqs>>,
    pub bus: Arc<Mutex<Bus>>,
    pub secrets: Arc<Mutex<Secrets>>,
    /// S3: objects by bucket and key, and how often each was put.
    pub objects: Arc<Mutex<BTreeMap<String, (String, u64)>>>,
    pub faults: Arc<Mutex<Faults>>,
    pub log: Arc<Mutex<Log>>,
    pub clock: WorldClock,
    /// Serves AWS too, not GitHub alone.
    pub aws: bool,
}

/// The world's clock: the system's, until a story sets it.
#[derive(Debug, Clone)]
pub struct WorldClock(Arc<AtomicI64>);

const SYSTEM_TIME: i64 = i64::MIN;

impl Default for WorldClock {
    fn default() -> Self {
        WorldClock(Arc::new(AtomicI64::new(SYSTEM_TIME)))
    }
}

impl WorldClock {
    pub fn now(&self) -> OffsetDateTime {
        match self.0.load(Ordering::SeqCst) {
            SYSTEM_TIME => OffsetDateTime::now_utc(),
            nanos => {
                OffsetDateTime::from_unix_timestamp_nanos(nanos.into()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
            }
        }
    }

    /// Stops the clock at that moment.
    pub fn set(&self, now: OffsetDateTime) {
        self.0.store(i64::try_from(now.unix_timestamp_nanos()).unwrap_or(0), Ordering::SeqCst);
    }
}

/// A request, taken apart.
pub struct Asked {
    pub method: String,
    pub path: String,
    pub query: Vec<(String, String)>,
    pub headers: axum::http::HeaderMap,
    pub body: Bytes,
    /// The moment that the answer shows.
    pub sight: Sight,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// An answer, and what the log says of it.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
    pub outcome: String,
}

impl Reply {
    pub fn json(status: u16, body: &Value, outcome: impl Into<String>) -> Self {
        let headers = vec![("content-type".to_owned(), "application/json; charset=utf-8".to_owned())];
        Reply { status, headers, body: body.to_string(), outcome: outcome.into() }
    }

    pub fn empty(status: u16) -> Self {
        Reply { status, outcome: status.to_string(), ..Reply::default() }
    }

    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// That header, unless there is one already.
    pub fn or_header(self, name: &str, value: impl ToString) -> Self {
        if self.headers.iter().any(|(other, _)| other == name) { self } else { self.header(name, value) }
    }
}

pub async fn serve(shared: Shared, listener: tokio::net::TcpListener) {
    let door = Door { listener, log: shared.log.clone() };
    let router = Router::new().fallback(answer).with_state(shared);
    let service = router.into_make_service_with_connect_info::<Scissors>();
    // Never returns: the world's thread drops it.
    let _ = axum::serve(door, service).await;
}

async fn answer(
    State(shared): State<Shared>,
    ConnectInfo(scissors): ConnectInfo<Scissors>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let mut asked = Asked {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: query(parts.uri.query().unwrap_or_default()),
        headers: parts.headers,
        body,
        sight: Sight::at(shared.now()),
    };
    let reply = if let Some(reply) = web::answer(&shared, &asked).await {
        reply
    } else if asked.path.starts_with("/_world/") {
        control::answer(&shared, &asked)
    } else if shared.aws && !asked.header("x-amz-target").is_empty() {
        let op = aws::identify(&asked);
        call(&shared, &mut asked, &scissors, op, aws::act).await
    } else if let Some(op) = s3::identify(&asked).filter(|_| shared.aws) {
        call(&shared, &mut asked, &scissors, Some(op), s3::act).await
    } else {
        let op = routes::identify(&asked);
        let reply = call(&shared, &mut asked, &scissors, op, github::act).await;
        web::redeliver(&shared).await;
        reply
    };
    let mut response = Response::builder().status(reply.status);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    response.body(Body::from(reply.body)).unwrap_or_default()
}

/// One call: faults before, the effect, faults after. An operation that nobody knows is a violation.
async fn call(
    shared: &Shared,
    asked: &mut Asked,
    scissors: &Scissors,
    op: Option<(Op, String)>,
    act: fn(&Shared, Op, &Asked) -> Reply,
) -> Reply {
    let Some((op, what)) = op else {
        let target = asked.header("x-amz-target");
        shared.violation(format!("unknown call: {} {} {target}", asked.method, asked.path));
        return Reply::json(404, &serde_json::json!({"message": "Not Found"}), "");
    };
    let at = {
        let mut log = lock(&shared.log);
        log.calls.push(Call { op, what, outcome: String::new() });
        log.github_calls += usize::from(op.service() == Service::Github);
        log.calls.len() - 1
    };
    let (before, after) = lock(&shared.faults).strike(op);
    for strike in &before {
        if let Effect::Stale(by) = strike.effect {
            asked.sight = Sight::at(shared.now() - by);
        }
    }
    if let Some(mut reply) = strike(op, before, scissors).await {
        reply.outcome += " (no effect)";
        return shared.log(at, reply);
    }
    let reply = act(shared, op, asked);
    match strike(op, after, scissors).await {
        Some(fault) => {
            let outcome = format!("{} ({})", reply.outcome, fault.outcome);
            shared.log(at, Reply { outcome, ..fault })
        }
        None => shared.log(at, reply),
    }
}

async fn strike(op: Op, strikes: Vec<Strike>, scissors: &Scissors) -> Option<Reply> {
    for Strike { effect, struck } in strikes {
        struck.send_modify(|count| *count += 1);
        match effect {
            Effect::Drop => {
                scissors.cut();
                return Some(Reply { status: 500, outcome: "answer lost".to_owned(), ..Reply::default() });
            }
            Effect::Answer { status, headers, body } => {
                let mut reply = match op.service() {
                    Service::Github => Reply::json(status, &body, status.to_string()),
                    service => aws::json(service, status, &body, status.to_string()),
                };
                if body["tasks"].is_array() {
                    reply.outcome = "failures[]".to_owned();
                }
                reply.headers.retain(|(name, _)| !headers.iter().any(|(other, _)| other == name));
                reply.headers.extend(headers);
                return Some(reply);
            }
            Effect::Aws(error) => return Some(aws::error(op.service(), &error)),
            Effect::Stale(_) => {}
            Effect::Delay(by) => tokio::time::sleep(by).await,
            Effect::Hold(mut released) => {
                if released.wait_for(|released| *released).await.is_err() {
                    // Nobody is left who could release it.
                    std::future::pending::<()>().await;
                }
            }
        }
    }
    None
}

impl Shared {
    pub fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }

    /// A request that the real service would not have taken, or that no request of ours should ever be.
    pub fn violation(&self, what: impl Into<String>) {
        lock(&self.log).violations.push(what.into());
    }

    fn log(&self, at: usize, reply: Reply) -> Reply {
        // A story that forgets the calls so far forgets this one too.
        if let Some(call) = lock(&self.log).calls.get_mut(at) {
            call.outcome.clone_from(&reply.outcome);
        }
        reply
    }
}

/// A query string, percent-decoded.
pub fn query(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

pub fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                at += 2;
            }
            (b'+', _) => decoded.push(b' '),
            (byte, _) => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The error that a wrong request gets, and the violation that it is.
pub fn invalid(shared: &Shared, op: Op, what: &str) -> AwsError {
    shared.violation(format!("{op}: {what}"));
    AwsError::new("InvalidParameterException", what)
}
