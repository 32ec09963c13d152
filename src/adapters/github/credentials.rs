//! As whom GitHub is asked: a GitHub App, or a token.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::LocalBoxFuture;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use ring::digest::{SHA256, digest};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::{Value, json, value::RawValue};
use time::OffsetDateTime;
use tokio::sync::Mutex;

use super::{
    super::http::Reply,
    GitHub,
    answer::{self, Call, Need},
    limits::Allowance,
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

/// What a stack makes its own secret with.
const PLACEHOLDER: &str = "the secret holds no App yet: run make setup";

/// What the secret holds.
pub(super) enum Credentials {
    /// A personal access token, and what tells it from others.
    Token(SecretString, String),
    /// A GitHub App.
    App(App),
}

/// A GitHub App.
pub(super) struct App {
    id: String,
    key: EncodingKey,
    /// Its only installation, if the secret names one.
    installation: Option<InstallationId>,
    /// Which of [`permissions`] its installations have been granted.
    granted: Cell<usize>,
}

/// All that the secret holds.
pub(super) type All = Rc<Vec<Rc<Credentials>>>;

impl Credentials {
    /// The App's id, or what stands for a token.
    pub(super) fn id(&self) -> &str {
        match self {
            Credentials::Token(_, id) => id,
            Credentials::App(app) => &app.id,
        }
    }

    /// One, or a list in JSON, of objects or of texts: what can be used, and what is wrong with the rest.
    fn parse_all(text: &SecretString) -> Vec<Result<Self, &'static str>> {
        let plain = text.expose_secret().trim();
        if !plain.starts_with('[') {
            return vec![Credentials::parse(text)];
        }
        let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(plain) else {
            return vec![Err("it is no list in JSON")];
        };
        let text = |item: &RawValue| {
            serde_json::from_str::<SecretString>(item.get()).unwrap_or_else(|_| item.get().into())
        };
        if items.is_empty() {
            return vec![Err(PLACEHOLDER)];
        }
        items.into_iter().flat_map(|item| Credentials::parse_all(&text(item))).collect()
    }

    /// A token as plain text, or JSON `{"client_id" or "app_id", "private_key", "installation_id"?}`. The private key is
    /// PEM, PKCS#1 or PKCS#8; its line ends may be escaped.
    fn parse(text: &SecretString) -> Result<Self, &'static str> {
        #[derive(Deserialize)]
        struct AppSecret {
            app_id: Option<NumberOrText>,
            client_id: Option<String>,
            private_key: SecretString,
            installation_id: Option<NumberOrText>,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum NumberOrText {
            Number(u64),
            Text(String),
        }
        let text = text.expose_secret().trim();
        if !text.starts_with('{') {
            let id = || URL_SAFE_NO_PAD.encode(&digest(&SHA256, text.as_bytes()).as_ref()[..9]);
            return match is_token(text) {
                true => Ok(Credentials::Token(text.into(), id())),
                false => Err("it is no token"),
            };
        }
        if serde_json::from_str::<BTreeMap<&str, IgnoredAny>>(text).is_ok_and(|fields| fields.is_empty()) {
            return Err(PLACEHOLDER);
        }
        let secret: AppSecret =
            serde_json::from_str(text).map_err(|_| "it is JSON without a usable private_key")?;
        let pem = secret.private_key.expose_secret().replace("\\n", "\n");
        let key = EncodingKey::from_rsa_pem(pem.as_bytes()).map_err(|_| what_it_is(&pem))?;
        let installation = match secret.installation_id {
            None => None,
            Some(NumberOrText::Number(id)) => Some(InstallationId(id)),
            Some(NumberOrText::Text(id)) => {
                Some(InstallationId(id.trim().parse().map_err(|_| "installation_id is no number")?))
            }
        };
        // "We recommend the client ID" (GitHub, "Generating a JSON Web Token", `iss`).
        let client_id = secret.client_id.map(|id| id.trim().to_owned()).filter(|id| !id.is_empty());
        let id = match (client_id, secret.app_id) {
            (Some(id), _) => id,
            (None, Some(NumberOrText::Number(id))) => id.to_string(),
            (None, Some(NumberOrText::Text(id))) if !id.trim().is_empty() => id.trim().to_owned(),
            (None, _) => return Err("it is JSON without a client_id or app_id"),
        };
        Ok(Credentials::App(App { id, key, installation, granted: Cell::default() }))
    }
}

/// What a private key is that is none.
fn what_it_is(text: &str) -> &'static str {
    let text = text.trim();
    match text {
        _ if text.contains("PUBLIC KEY") => "private_key is a public key",
        _ if text.contains("OPENSSH") => "private_key is an SSH key, not the App's key from GitHub",
        _ if text.contains("-----BEGIN") => {
            "private_key is no RSA key in PEM: it is damaged, or of another kind"
        }
        _ if text.ends_with(".pem") => "private_key is a file's name, not what is in the file",
        _ if text.starts_with("LS0tLS1CRUdJT") => {
            "private_key is base64 of the PEM file, not the file itself"
        }
        _ => "private_key is no RSA key in PEM",
    }
}

fn unusable(what: &str) -> CallError {
    let form = "it should hold a token as plain text, or JSON {\"client_id\" or \"app_id\", \"private_key\", \"installation_id\" (optional)}, or a list of such";
    let form = if what == PLACEHOLDER { String::new() } else { format!("; {form}") };
    CallError::new(Class::NeedsOperator, format!("GITHUB_SECRET_ARN: {what}{form}"))
}

/// Whether a header can hold it.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

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
    accounts: RefCell<BTreeMap<Place, Rc<Mutex<Account>>>>,
    jwts: Cell<u64>,
}

/// An App's id, and an account's login in lower case.
type Place = (String, String);

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
fn permissions(scope: &Scope) -> [Option<Value>; 3] {
    let register = match scope {
        Scope::Org | Scope::Enterprise(_) => "organization_self_hosted_runners",
        Scope::Repo => "administration",
    };
    let asked = |permissions: Value| Some(json!({ "permissions": permissions }));
    [asked(json!({ register: "write", "actions": "read" })), asked(json!({ register: "write" })), None]
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
        let asked = permissions(&self.scope);
        let reply = loop {
            let granted = app.granted.get();
            let body = asked[granted].as_ref().map(Value::to_string);
            let is_last = body.is_none();
            let expected =
                |reply: &Reply| matches!(reply.status, 201 | 404) || (reply.status == 422 && !is_last);
            let reply = self.ask_as_app(&app.id, &call, body, expected).await?;
            if reply.status != 422 {
                break reply;
            }
            // "The permissions requested are not granted to this installation."
            app.granted.set(granted + 1);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Made for the tests: no App has ever had it.
    const PKCS1: &str = include_str!("../../../tests/fixtures/app-key.pem");
    const PKCS8: &str = include_str!("../../../tests/fixtures/app-key.pkcs8.pem");

    #[test]
    fn an_app_in_all_its_forms() {
        let one_line = PKCS1.replace('\n', "\\n");
        for pem in [PKCS1, PKCS8, &one_line] {
            for id in [json!(7), json!("7"), json!(" 7\n")] {
                let secret = json!({"app_id": id, "private_key": pem, "installation_id": id});
                let Ok(Credentials::App(app)) = Credentials::parse(&format!(" {secret}\n").into()) else {
                    panic!("{id}")
                };
                assert_eq!((app.id.as_str(), app.installation), ("7", Some(InstallationId(7))));
                let header = Header::new(Algorithm::RS256);
                assert!(jsonwebtoken::encode(&header, &(), &app.key).is_ok(), "it signs");
            }
        }
    }

    #[test]
    fn the_client_id_goes_before_the_app_s_id() {
        let table = [
            (json!({"client_id": " Iv23liAbCdEf\n", "private_key": PKCS1}), "Iv23liAbCdEf"),
            (json!({"client_id": "Iv23liAbCdEf", "app_id": 7, "private_key": PKCS1}), "Iv23liAbCdEf"),
            (json!({"client_id": "", "app_id": 7, "private_key": PKCS1}), "7"),
        ];
        for (secret, want) in table {
            match Credentials::parse(&secret.to_string().into()) {
                Ok(Credentials::App(app)) => assert_eq!(app.id, want),
                _ => panic!("{want}"),
            }
        }
    }

    #[test]
    fn what_is_no_secret_is_told_without_its_content() {
        let in_secret = |key: &str| serde_json::json!({"app_id": 1, "private_key": key}).to_string();
        let no_id = json!({"app_id": " ", "private_key": PKCS1}).to_string();
        let table: [(&str, &str); 13] = [
            ("", "it is no token"),
            ("two words", "it is no token"),
            ("{", "it is JSON without"),
            ("{}", PLACEHOLDER),
            (" { }\n", PLACEHOLDER),
            ("{\"app_id\":1}", "it is JSON without"),
            ("{\"app_id\":1,\"private_key\":\"s3cret\"}", "private_key is no RSA key in PEM"),
            (&in_secret("-----BEGIN PUBLIC KEY-----"), "private_key is a public key"),
            (&in_secret("-----BEGIN OPENSSH PRIVATE KEY-----"), "private_key is an SSH key"),
            (
                &in_secret("-----BEGIN RSA PRIVATE KEY-----"),
                "private_key is no RSA key in PEM: it is damaged",
            ),
            (&in_secret("/home/me/app.pem"), "private_key is a file's name"),
            (&in_secret("LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVktLS0tLQ=="), "private_key is base64"),
            (&no_id, "it is JSON without a client_id or app_id"),
        ];
        for (text, want) in table {
            match Credentials::parse(&text.into()) {
                Err(what) => assert!(what.starts_with(want), "{text}: {what}"),
                Ok(_) => panic!("{text}"),
            }
        }
        assert!(matches!(Credentials::parse(&"ghp_x\n".into()), Ok(Credentials::Token(..))));
    }

    #[test]
    fn a_list_may_hold_anything_that_one_may() {
        let app = |id: u64| json!({"app_id": id, "private_key": PKCS1});
        let list = |list: Value| -> Vec<Result<String, &'static str>> {
            let all = Credentials::parse_all(&list.to_string().into());
            all.into_iter().map(|one| one.map(|one| one.id().to_owned())).collect()
        };
        let ids = |ids: &[&str]| -> Vec<Result<String, &'static str>> {
            ids.iter().map(|id| Ok((*id).to_owned())).collect()
        };
        assert_eq!(list(json!([app(1), app(2)])), ids(&["1", "2"]));
        // As it is put together from several secrets: each is a text.
        assert_eq!(
            list(json!([app(1).to_string(), json!([app(2), app(3)]).to_string()])),
            ids(&["1", "2", "3"])
        );
        let with_token = list(json!([app(1), "ghp_x"]));
        assert!(with_token[1].as_ref().is_ok_and(|id| !id.contains("ghp")), "{with_token:?}");
        assert_eq!(list(json!([app(1), {}]))[1], Err(PLACEHOLDER));
        assert_eq!(list(json!([])), [Err(PLACEHOLDER)]);
        assert_eq!(list(json!([1]))[0].clone().map(|id| id.len()), Ok(12), "a token that GitHub will refuse");
        let cut = Credentials::parse_all(&"[{".into());
        assert!(matches!(cut[..], [Err("it is no list in JSON")]));
    }
}
