//! The front door: GitHub's webhook, verified and passed on to the event bus, byte for byte.

use std::{borrow::Cow, cell::RefCell, net::IpAddr, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::de::IgnoredAny;
use serde_json::{Value, json, value::RawValue};
use time::OffsetDateTime;

use crate::{
    error::{CallError, Class},
    flows::document::Document,
    intake::{
        payload::{self, Action},
        policy::Policy,
        request::Request,
        signature::WebhookSecrets,
        skip::{Skip, SkipReason},
        slip,
    },
    lambda::metric::Metric,
    ports::{Bus, Clock, JobStatus, SecretSource},
};

/// More than any event of GitHub's that could matter here, and less than Lambda's own 6 MB.
const MAX_BODY: usize = 5 * 1024 * 1024;

/// PutEvents counts source, detail-type and detail in UTF-8 and allows 256 KiB in all ("Amazon EventBridge
/// event entry size"; larger since 2026, but not in every partition).
const MAX_DETAIL: usize = 256 * 1024 - 256;

/// While there is no secret at all, it is asked for at most so often. Less than a read takes that gets no answer, so that one
/// at a cold start does not refuse the delivery that began it.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// After a signature that matches no known secret, the secret is read again at most so often: a rotation needs
/// no cold start, and nobody can make this function hammer Secrets Manager.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// A secret that was read longer ago is read again, also while signatures fit it: one that was taken out of it ends.
const READ_ANYWAY_AFTER: Duration = Duration::from_secs(5 * 60);

/// Of requests that are refused, one in so much time is logged with its source.
const SAMPLE_EVERY: Duration = Duration::from_secs(10);

/// The front door.
#[derive(Debug)]
pub struct Webhook<B, S, C> {
    /// The event bus.
    pub bus: B,
    /// `WEBHOOK_SECRET_ARN`.
    pub secret: S,
    /// The clock.
    pub clock: C,
    /// Which jobs are served.
    pub policy: Policy,
    /// `CHECK_RUNS`: slips of the pen are passed on to dispatch, since their authors are told.
    pub check_runs: bool,
    /// The runner classes, if there is a document.
    pub document: Document,
    /// The secrets as last read.
    pub known: RefCell<KnownSecrets>,
}

/// The secrets, when they were read, and when they were last asked for; and what was logged last.
#[derive(Debug, Clone, Default)]
pub struct KnownSecrets {
    secrets: Option<WebhookSecrets>,
    read_at: Option<OffsetDateTime>,
    asked_at: Option<OffsetDateTime>,
    /// When a request that was refused was last logged with its source.
    sampled_at: Option<OffsetDateTime>,
}

/// What GitHub is answered. Its text can be read in GitHub's "Recent Deliveries".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// A sentence.
    pub text: String,
    /// The metric that it counts for.
    pub metric: Metric,
}

impl Answer {
    fn new(status: u16, metric: Metric, text: impl Into<String>) -> Self {
        Answer { status, text: text.into(), metric }
    }

    /// As Lambda and whatever stands in front of it want it.
    fn into_response(self, lists_headers: bool) -> Value {
        const JSON: &str = "application/json";
        let (name, content_type) = match lists_headers {
            true => ("multiValueHeaders", json!([JSON])),
            false => ("headers", json!(JSON)),
        };
        json!({
            "statusCode": self.status,
            name: { "content-type": content_type },
            "body": json!({ "message": self.text }).to_string(),
            "isBase64Encoded": false,
        })
    }
}

impl<B: Bus, S: SecretSource, C: Clock> Webhook<B, S, C> {
    /// Reads the secret before the first delivery.
    pub async fn warm(&self) -> Result<(), CallError> {
        self.read_secrets().await.map(drop)
    }

    /// Lambda's event, of whatever shape: its response, and the metric that it counts for. There is always one: a
    /// function error would be an alarm that anybody can raise.
    pub async fn invoke(&self, event: &RawValue) -> (Value, Metric) {
        let request = Request::read(event);
        let answer = match &request {
            Some(request) => self.answer(request).await,
            None => {
                let answer =
                    Answer::new(400, Metric::Refused, "this is no HTTP request: send it GitHub's webhooks");
                tracing::info!(status = answer.status, "{}", answer.text);
                answer
            }
        };
        let metric = answer.metric;
        (answer.into_response(request.is_some_and(|request| request.lists_headers)), metric)
    }

    /// One delivery.
    pub async fn answer(&self, request: &Request) -> Answer {
        let began = self.clock.now();
        let answer = self.deliver(request).await.unwrap_or_else(|refusal| refusal);
        let delivery = request.header("x-github-delivery").map(clip);
        let event = request.header("x-github-event").map(clip);
        let ms = (self.clock.now() - began).whole_milliseconds() as i64;
        let source = self.sample(request, answer.status).map(|source| source.to_string());
        if answer.status >= 500 {
            tracing::error!(status = answer.status, delivery, event, ms, "{}", answer.text);
        } else {
            tracing::info!(status = answer.status, delivery, event, source, ms, "{}", answer.text);
        }
        answer
    }

    /// Who sent a request that is refused: of one in so much time, since anybody can send many.
    fn sample(&self, request: &Request, status: u16) -> Option<IpAddr> {
        let now = self.clock.now();
        let mut known = self.known.borrow_mut();
        let is_due = known.sampled_at.is_none_or(|at| now - at >= SAMPLE_EVERY);
        let source = request.source.filter(|_| is_due && (400..500).contains(&status))?;
        known.sampled_at = Some(now);
        Some(source)
    }

    async fn deliver(&self, request: &Request) -> Result<Answer, Answer> {
        if request.method != "POST" {
            return Err(Answer::new(405, Metric::Refused, "send a POST"));
        }
        let body = raw_body(request)?;
        self.authenticate(request, &body).await?;

        let json =
            std::str::from_utf8(&body).ok().filter(|json| serde_json::from_str::<IgnoredAny>(json).is_ok());
        let Some(json) = json else {
            return Err(Answer::new(
                400,
                Metric::Refused,
                "the body is not JSON: set the webhook's content type to application/json",
            ));
        };
        match request.header("x-github-event") {
            Some("workflow_job") => self.pass_on(json).await,
            Some("ping") => Ok(Answer::new(200, Metric::Skipped, "pong")),
            Some(_) => Ok(Answer::new(202, Metric::Skipped, "skipped: only workflow_job events matter here")),
            None => Err(Answer::new(400, Metric::Refused, "X-GitHub-Event is missing")),
        }
    }

    /// Before anything is parsed.
    async fn authenticate(&self, request: &Request, body: &[u8]) -> Result<(), Answer> {
        let refused = || Answer::new(401, Metric::Unauthorized, "X-Hub-Signature-256 is missing or wrong");
        let signature = request.header("x-hub-signature-256").ok_or_else(refused)?;
        let unknown = || {
            Answer::new(503, Metric::Failed, "the webhook secret could not be read; see the function's log")
        };
        let unavailable = |error: CallError| {
            tracing::error!(%error, "the webhook secret could not be read");
            unknown()
        };
        let KnownSecrets { secrets, read_at, asked_at, .. } = self.known.borrow().clone();
        let since = |at: OffsetDateTime| self.clock.now() - at;
        let mut waited = asked_at.map(since);
        let has_waited = |for_so_long| waited.is_none_or(|waited| waited >= for_so_long);
        let (may_try, may_read) = (has_waited(TRY_AGAIN_AFTER), has_waited(READ_AGAIN_AFTER));
        let secrets = match secrets {
            Some(known) if may_read && read_at.map(since).is_some_and(|age| age > READ_ANYWAY_AFTER) => {
                waited = None;
                match self.read_secrets().await {
                    // Deliveries need not wait until Secrets Manager is back.
                    Err(error) if error.class != Class::NeedsOperator => known,
                    read => read.map_err(unavailable)?,
                }
            }
            Some(known) => known,
            None if may_try => self.read_secrets().await.map_err(unavailable)?,
            None => return Err(unknown()),
        };
        if secrets.verify(signature, body) {
            return Ok(());
        }
        if waited.is_none_or(|waited| waited < READ_AGAIN_AFTER) {
            return Err(refused());
        }
        match self.read_secrets().await.map_err(unavailable)?.verify(signature, body) {
            true => Ok(()),
            false => Err(refused()),
        }
    }

    async fn read_secrets(&self) -> Result<WebhookSecrets, CallError> {
        // Noted before the answer comes: a secret that cannot be read is not asked for more often either.
        self.known.borrow_mut().asked_at = Some(self.clock.now());
        let text = self.secret.read().await?;
        let secrets = WebhookSecrets::parse(&text).ok_or_else(|| {
            CallError::new(
                Class::NeedsOperator,
                "WEBHOOK_SECRET_ARN should hold the secret as plain text, or JSON {\"current\", \"previous\"}",
            )
        })?;
        let mut known = self.known.borrow_mut();
        known.secrets = Some(secrets.clone());
        known.read_at = Some(self.clock.now());
        Ok(secrets)
    }

    async fn pass_on(&self, json: &str) -> Result<Answer, Answer> {
        let event = payload::read_workflow_job(json, "")
            .map_err(|unreadable| Answer::new(400, Metric::Refused, unreadable.to_string()))?;
        if matches!(event.action, Action::Waiting | Action::Other) || event.status == JobStatus::Waiting {
            return Ok(Answer::new(202, Metric::Skipped, "skipped: the job is not queued yet"));
        }
        // Whom this fleet serves is one thing, who takes its runners another: GitHub's runner group decides that.
        let is_on_ours = event.runner_name.as_deref().and_then(|name| self.policy.names.read(name)).is_some();
        let is_slip = |skip: &Skip| {
            let is_label =
                self.check_runs && skip.reason == SkipReason::Labels && event.action == Action::Queued;
            is_label && slip::find(&event.job.labels, &self.policy.offered).is_some()
        };
        let excluded = match self.document.classes(self.clock.now()).await {
            Ok(classes) if self.document.doubt().is_none() => {
                self.policy.excludes(&event, classes.as_deref())
            }
            // Which labels are served, dispatch finds out.
            _ => self.policy.excludes_target(&event.job.target),
        };
        if let Some(skip) = excluded.filter(|skip| !is_on_ours && !is_slip(skip)) {
            return Ok(Answer::new(202, Metric::Skipped, format!("skipped: {}", skip.detail)));
        }
        let detail = if json.len() <= MAX_DETAIL {
            Cow::Borrowed(json)
        } else {
            Cow::Owned(payload::trimmed(json).unwrap_or_default())
        };
        if detail.len() > MAX_DETAIL {
            return Err(Answer::new(
                413,
                Metric::Refused,
                "the event is too large, even without what is not needed",
            ));
        }
        match self.bus.put(&detail).await {
            Ok(()) => Ok(Answer::new(202, Metric::Forwarded, "accepted")),
            // GitHub notes a failed delivery, and redeliver asks for it again.
            Err(error) => {
                tracing::error!(%error, "the event bus took no event");
                Err(Answer::new(503, Metric::Failed, "the event bus took no event; see the function's log"))
            }
        }
    }
}

/// The bytes that GitHub signed.
fn raw_body(request: &Request) -> Result<Cow<'_, [u8]>, Answer> {
    let body = &request.body;
    let too_large = || Answer::new(413, Metric::Refused, format!("the body is larger than {MAX_BODY} bytes"));
    // Base64 is a third longer.
    if body.len() / 4 * 3 > MAX_BODY {
        return Err(too_large());
    }
    let body = if request.is_base64 {
        let bytes =
            STANDARD.decode(body).map_err(|_| Answer::new(400, Metric::Refused, "the body is not base64"))?;
        Cow::Owned(bytes)
    } else {
        Cow::Borrowed(body.as_bytes())
    };
    if body.len() > MAX_BODY { Err(too_large()) } else { Ok(body) }
}

/// From outside, perhaps from anybody: no more of it than a log line bears.
fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}
