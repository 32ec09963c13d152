//! As whom GitHub is asked: a GitHub App, or a token.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use futures_util::future::LocalBoxFuture;
use jsonwebtoken::{Algorithm, Header};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::sync::Mutex;

use super::{
    super::http::Reply,
    Errand, GitHub,
    answer::{self, Call, Need},
    limits::Allowance,
    secret::{All, App, Credentials, is_token, unusable},
    segment, wire,
};
use crate::{
    error::{CallError, Class},
    ids::InstallationId,
    ports::{Clock, NotHeld, Scope, SecretSource, Target},
};

/// A token is not used in the last minutes of its hour: a batch must not outlive it.
const SPARE: time::Duration = time::Duration::minutes(5);
/// After a refusal the secret is read again, and a token that was not revoked replaced, at most so often: an
/// operator's repair shows at the next try of a deferred job, and a batch of refusals asks once.
const READ_AGAIN_AFTER: time::Duration = time::Duration::seconds(30);
/// A secret that was read longer ago is read again, also while GitHub takes what it says: a key that was taken out of
/// it ends.
const READ_ANYWAY_AFTER: time::Duration = time::Duration::minutes(5);
/// "iat: 60 seconds in the past, to protect against clock drift" (GitHub, "Generating a JSON Web Token").
const CLOCK_DRIFT: time::Duration = time::Duration::seconds(60);
/// "exp: no more than 10 minutes into the future".
const JWT_LIFETIME: time::Duration = time::Duration::minutes(9);

/// What one call is made with, and where it came from.
pub(super) struct Pass {
    /// A personal token, an installation's token, or a JWT.
    pub(super) token: SecretString,
    /// What the call takes from.
    pub(super) allowance: Allowance,
    credentials: Rc<Credentials>,
    account: Option<Rc<Mutex<Account>>>,
}

/// The credentials, and the installation tokens that were got with them.
pub(super) struct Keyring<S> {
    secret: S,
    credentials: RefCell<Option<All>>,
    /// One reader at a time. What was wrong with the secret, and when that was found: it is not asked for by each
    /// job of a batch.
    reading: Mutex<Option<(OffsetDateTime, CallError)>>,
    read_at: Cell<Option<OffsetDateTime>>,
    /// What was read, to see whether it has changed.
    text: RefCell<SecretString>,
    accounts: RefCell<BTreeMap<AccountKey, Rc<Mutex<Account>>>>,
    jwts: Cell<u64>,
}

/// An App's id, and an account's login in lower case.
type AccountKey = (String, String);

/// Where the App is installed. Locked while its token is got: one request at a time, and everybody else waits
/// for the answer.
#[derive(Default)]
struct Account {
    /// The installation as GitHub told it, which is newer than what the secret or a payload says.
    installation: Option<InstallationId>,
    token: Option<Token>,
}

struct Token {
    token: SecretString,
    got_at: OffsetDateTime,
    expires_at: OffsetDateTime,
}

impl<S> std::fmt::Debug for Keyring<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keyring")
    }
}

impl<S: SecretSource> Keyring<S> {
    pub(super) fn new(secret: S) -> Self {
        Keyring {
            secret,
            credentials: RefCell::default(),
            reading: Mutex::default(),
            read_at: Cell::default(),
            text: RefCell::default(),
            accounts: RefCell::default(),
            jwts: Cell::default(),
        }
    }

    /// What the secret holds, not much longer ago than [`READ_ANYWAY_AFTER`].
    pub(super) async fn credentials<C: Clock>(&self, clock: &C) -> Result<All, CallError> {
        let is_old = |at: OffsetDateTime| clock.now() - at > READ_ANYWAY_AFTER;
        let known = || self.credentials.borrow().clone().filter(|_| !self.read_at.get().is_some_and(is_old));
        if let Some(credentials) = known() {
            return Ok(credentials);
        }
        let mut wrong = self.reading.lock().await;
        if let Some(credentials) = known() {
            return Ok(credentials);
        }
        if let Some((found_at, error)) = &*wrong
            && clock.now() - *found_at <= READ_AGAIN_AFTER
        {
            return Err(error.clone());
        }
        let old = self.credentials.borrow().clone();
        match (self.secret.read().await, old) {
            // Jobs need not wait until Secrets Manager is back.
            (Err(error), Some(old)) if error.class != Class::NeedsOperator => {
                self.read_at.set(Some(clock.now() - READ_ANYWAY_AFTER + READ_AGAIN_AFTER));
                Ok(old)
            }
            (Ok(text), Some(old)) if text.expose_secret() == self.text.borrow().expose_secret() => {
                self.read_at.set(Some(clock.now()));
                Ok(old)
            }
            (answer, _) => {
                let answer = answer.and_then(|text| self.keep(text, clock.now()));
                let error = answer.as_ref().err().filter(|error| error.class == Class::NeedsOperator);
                *wrong = error.map(|error| (clock.now(), error.clone()));
                answer
            }
        }
    }

    /// What can be used; it is an error only if that is nothing.
    fn keep(&self, text: SecretString, now: OffsetDateTime) -> Result<All, CallError> {
        let mut credentials: Vec<Rc<Credentials>> = Vec::new();
        let mut wrong = None;
        for one in Credentials::parse_all(&text) {
            match one {
                Ok(one) if credentials.iter().any(|known| known.id() == one.id()) => {}
                Ok(one) => credentials.push(Rc::new(one)),
                Err(what) => wrong = wrong.or(Some(unusable(what))),
            }
        }
        if let Some(wrong) = wrong {
            if credentials.is_empty() {
                return Err(wrong);
            }
            tracing::error!(error = %wrong, "one of several credentials is passed over");
        }
        let credentials = Rc::new(credentials);
        self.read_at.set(Some(now));
        *self.credentials.borrow_mut() = Some(Rc::clone(&credentials));
        // What was got with other credentials is used no more.
        if self.text.borrow().expose_secret() != text.expose_secret() {
            self.accounts.borrow_mut().clear();
        }
        *self.text.borrow_mut() = text;
        Ok(credentials)
    }

    /// What the secret holds now, whatever is known; nothing of it is kept.
    pub(super) async fn inspect(&self) -> Result<Vec<Credentials>, NotHeld> {
        let text = self.secret.read().await.map_err(NotHeld::Unreadable)?;
        let all: Result<Vec<_>, _> = Credentials::parse_all(&text).into_iter().collect();
        all.map_err(|what| NotHeld::Unusable(unusable(what)))
    }

    /// GitHub refused a call that was made with this: drops it, and lets the secret be read again. The answer
    /// is whether there may be something newer now. Of many that are refused at once the first one drops it, and
    /// the others take what has come instead.
    pub(super) async fn refused<C: Clock>(&self, pass: &Pass, unauthorized: bool, clock: &C) -> bool {
        let is_old = |since: OffsetDateTime| clock.now() - since > READ_AGAIN_AFTER;
        if let Some(account) = &pass.account {
            let token = &mut account.lock().await.token;
            token.take_if(|token| {
                token.token.expose_secret() == pass.token.expose_secret()
                    && (unauthorized || is_old(token.got_at))
            });
        }
        let mut credentials = self.credentials.borrow_mut();
        let is_it = |known: &Rc<Credentials>| Rc::ptr_eq(known, &pass.credentials);
        let is_current = credentials.as_ref().is_some_and(|known| known.iter().any(is_it));
        let dropped = is_current && self.read_at.get().is_some_and(is_old);
        if dropped {
            *credentials = None;
        }
        pass.account.is_some() || dropped || !is_current
    }

    fn jwt(&self, app: &App, now: OffsetDateTime) -> Result<SecretString, CallError> {
        #[derive(Serialize)]
        struct Claims<'a> {
            iat: i64,
            exp: i64,
            iss: &'a str,
            jti: String,
        }
        // GitHub takes two JWTs of the same second for one that was replayed, unless they have ids.
        let count = self.jwts.get();
        self.jwts.set(count + 1);
        let claims = Claims {
            iat: (now - CLOCK_DRIFT).unix_timestamp(),
            exp: (now + JWT_LIFETIME).unix_timestamp(),
            iss: &app.id,
            jti: format!("{}-{count}", now.unix_timestamp_nanos()),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &app.key)
            .map(SecretString::from)
            .map_err(|_| CallError::new(Class::NeedsOperator, "GITHUB_SECRET_ARN: private_key cannot sign"))
    }
}

/// What an installation's token is asked to be good for, in this order: as little as will do; without what only tells
/// whether a job still waits, for an App that was not granted it; as much as the App was granted, whatever it is.
fn permissions(scope: &Scope, errand: Errand) -> Vec<Option<Value>> {
    let register = match scope {
        Scope::Org | Scope::Enterprise(_) => "organization_self_hosted_runners",
        Scope::Repo => "administration",
    };
    let asked = |permissions: Value| Some(json!({ "permissions": permissions }));
    let (write, read) = (json!({ "actions": "write" }), json!({ "actions": "read" }));
    match errand {
        Errand::Runners => {
            let both = json!({ register: "write", "actions": "read" });
            vec![asked(both), asked(json!({ register: "write" })), None]
        }
        Errand::Author { checks: false } => vec![asked(write), asked(read), None],
        Errand::Author { checks: true } => {
            let both = json!({ "actions": "write", "checks": "write" });
            let checks = json!({ "actions": "read", "checks": "write" });
            vec![asked(both), asked(checks), asked(write), asked(read), None]
        }
    }
}

impl<S: SecretSource, C: Clock> GitHub<S, C> {
    /// What the secret holds, if it is good for the scope.
    pub(super) async fn credentials(&self) -> Result<All, CallError> {
        let credentials = self.keyring.credentials(&self.clock).await?;
        let is_app = |it: &Rc<Credentials>| matches!(**it, Credentials::App(_));
        match &self.scope {
            Scope::Enterprise(_) if credentials.iter().any(is_app) => Err(CallError::new(
                Class::NeedsOperator,
                "GITHUB_SECRET_ARN holds a GitHub App, and GitHub lets no App register an enterprise's runners \
                 (RUNNER_SCOPE): use a classic token with the scope manage_runners:enterprise, or RUNNER_SCOPE=org",
            )),
            _ => Ok(credentials),
        }
    }

    /// The nth of the credentials, from 0.
    pub(super) async fn nth(&self, of: usize) -> Result<Rc<Credentials>, CallError> {
        let all = self.credentials().await?;
        let changed = || CallError::new(Class::Transient, "the secret has changed meanwhile");
        all.get(of).cloned().ok_or_else(changed)
    }

    /// Those of the same App, or that token, as they are by now.
    async fn current(&self, id: &str) -> Result<Rc<Credentials>, CallError> {
        let all = self.credentials().await?;
        let same = all.iter().find(|it| it.id() == id).or_else(|| all.first().filter(|_| all.len() == 1));
        let changed = || CallError::new(Class::Transient, "the secret has changed meanwhile");
        same.cloned().ok_or_else(changed)
    }

    /// A JWT that says that we are the App.
    pub(super) async fn app_pass(&self, id: &str) -> Result<Pass, CallError> {
        let credentials = self.current(id).await?;
        let Credentials::App(app) = &*credentials else {
            let message = "GitHub: this call needs a GitHub App, not a token";
            return Err(CallError::new(Class::NeedsOperator, message));
        };
        let token = self.keyring.jwt(app, self.clock.now())?;
        let allowance = Allowance::App(app.id.clone());
        Ok(Pass { token, allowance, credentials, account: None })
    }

    /// What to call GitHub with: a personal token, or one of the App's installation, which lives an hour.
    pub(super) async fn pass(&self, id: &str, target: &Target) -> Result<Pass, CallError> {
        let credentials = self.current(id).await?;
        let app = match &*credentials {
            Credentials::Token(token, id) => {
                return Ok(Pass {
                    token: token.clone(),
                    allowance: Allowance::Token(id.clone()),
                    credentials: Rc::clone(&credentials),
                    account: None,
                });
            }
            Credentials::App(app) => app,
        };
        // Logins are the same in upper and lower case, and ORGANIZATION may be written otherwise than payloads.
        let login = target.owner.to_lowercase();
        let key = (app.id.clone(), login.clone());
        let place = Rc::clone(self.keyring.accounts.borrow_mut().entry(key).or_default());
        let mut account = place.lock().await;
        let now = self.clock.now();
        let token = match account.token.take_if(|token| token.expires_at - now > SPARE) {
            Some(token) => token,
            // On the heap: it happens once an hour, and would be a part of every call's future.
            None => {
                let new: LocalBoxFuture<'_, _> =
                    Box::pin(self.new_token(app, target, &mut account.installation));
                new.await?
            }
        };
        let token = account.token.insert(token).token.clone();
        drop(account);
        let allowance = Allowance::Installation(app.id.clone(), login);
        Ok(Pass { token, allowance, credentials: Rc::clone(&credentials), account: Some(place) })
    }

    /// A new token, of the installation that GitHub told, or else the secret or the payload; `looked_up` is that
    /// of GitHub.
    async fn new_token(
        &self,
        app: &App,
        target: &Target,
        looked_up: &mut Option<InstallationId>,
    ) -> Result<Token, CallError> {
        // The payload's is that of the App whose webhook it is: of several, nobody knows which.
        let is_only = self.credentials().await?.len() == 1;
        let named = app.installation.or(target.installation.filter(|_| is_only));
        if let Some(installation) = looked_up.or(named)
            && let Some(token) = self.installation_token(app, installation).await?
        {
            return Ok(token);
        }
        // Nobody named it, or 404: the App was installed anew, and the id is that of before.
        let installation = *looked_up.insert(self.look_up_installation(app, target).await?);
        self.installation_token(app, installation).await?.ok_or_else(|| {
            CallError::new(
                Class::NeedsOperator,
                format!("GitHub: the App's installation {installation} gives no token: is it suspended?"),
            )
        })
    }

    /// `None` when there is no such installation.
    async fn installation_token(
        &self,
        app: &App,
        installation: InstallationId,
    ) -> Result<Option<Token>, CallError> {
        let call = Call::new("POST", format!("/app/installations/{installation}/access_tokens"), Need::App);
        // Anew for each token: what is granted meanwhile counts from the next one on.
        let mut asked = permissions(&self.scope, self.errand).into_iter();
        let reply = loop {
            let body = asked.next().flatten().map(|permissions| permissions.to_string());
            let is_last = body.is_none();
            let expected =
                |reply: &Reply| matches!(reply.status, 201 | 404) || (reply.status == 422 && !is_last);
            let reply = self.ask_as_app(&app.id, &call, body, expected).await?;
            // "The permissions requested are not granted to this installation."
            if reply.status != 422 {
                break reply;
            }
        };
        if reply.status == 404 {
            return Ok(None);
        }
        let answer: wire::AccessToken = super::read(&call, &reply)?;
        // It would be kept for an hour, and fail every call before GitHub could refuse it.
        if !is_token(answer.token.expose_secret()) {
            return Err(super::unreadable(&call, &reply));
        }
        let got_at = self.clock.now();
        Ok(Some(Token { token: answer.token, got_at, expires_at: answer.expires_at }))
    }

    async fn look_up_installation(&self, app: &App, target: &Target) -> Result<InstallationId, CallError> {
        let expected = |reply: &Reply| matches!(reply.status, 200 | 404);
        let ask = async |call: &Call| self.ask_as_app(&app.id, call, None, expected).await;
        let (call, reply) = match (&self.scope, &target.repository) {
            (Scope::Repo, Some(_)) => {
                self.of_repository(target, "/installation", Need::Installed, ask).await?
            }
            _ => {
                let path = format!("/orgs/{}/installation", segment(&target.owner));
                let call = Call::new("GET", path, Need::Installed);
                let reply = ask(&call).await?;
                (call, reply)
            }
        };
        if !super::is_ok(&reply) {
            return Err(answer::classify(&call, &reply, None, false));
        }
        super::read(&call, &reply).map(|installation: wire::Installation| installation.id)
    }
}
