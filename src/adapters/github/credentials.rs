//! As whom GitHub is asked: a GitHub App, or a token.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::sync::Mutex;

use super::{
    GitHub,
    answer::{Call, Need},
    segment, wire,
};
use crate::{
    config::Scope,
    error::{CallError, Class},
    ids::InstallationId,
    ports::{Clock, SecretSource, Target},
};

/// A token is not used in the last minutes of its hour: a batch must not outlive it.
const SPARE: time::Duration = time::Duration::minutes(5);
/// After a 401 the secret is read again at most so often.
const READ_AGAIN_AFTER: time::Duration = time::Duration::seconds(30);
/// "iat: 60 seconds in the past, to protect against clock drift" (GitHub, "Generating a JSON Web Token").
const CLOCK_DRIFT: time::Duration = time::Duration::seconds(60);
/// "exp: no more than 10 minutes into the future".
const JWT_LIFETIME: time::Duration = time::Duration::minutes(9);

/// What the secret holds.
pub(super) enum Credentials {
    /// A personal access token.
    Token(SecretString),
    /// A GitHub App.
    App(App),
}

/// A GitHub App.
pub(super) struct App {
    id: String,
    key: EncodingKey,
    /// Its only installation, if the secret names one.
    installation: Option<InstallationId>,
}

impl Credentials {
    /// A token as plain text, or JSON `{"app_id", "private_key", "installation_id"?}`. The private key is PEM,
    /// PKCS#1 or PKCS#8; its line ends may be escaped.
    fn parse(text: &SecretString) -> Result<Self, &'static str> {
        #[derive(Deserialize)]
        struct AppSecret {
            app_id: NumberOrText,
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
            let is_token = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
            return if is_token { Ok(Credentials::Token(text.into())) } else { Err("it is no token") };
        }
        let secret: AppSecret =
            serde_json::from_str(text).map_err(|_| "it is JSON without a usable app_id and private_key")?;
        let pem = secret.private_key.expose_secret().replace("\\n", "\n");
        let key =
            EncodingKey::from_rsa_pem(pem.as_bytes()).map_err(|_| "private_key is no RSA key in PEM")?;
        let installation = match secret.installation_id {
            None => None,
            Some(NumberOrText::Number(id)) => Some(InstallationId(id)),
            Some(NumberOrText::Text(id)) => {
                Some(InstallationId(id.trim().parse().map_err(|_| "installation_id is no number")?))
            }
        };
        let id = match secret.app_id {
            NumberOrText::Number(id) => id.to_string(),
            NumberOrText::Text(id) => id,
        };
        Ok(Credentials::App(App { id, key, installation }))
    }
}

/// The credentials, and the installation tokens that were got with them.
pub(super) struct Keyring<S> {
    secret: S,
    credentials: RefCell<Option<Rc<Credentials>>>,
    /// One reader at a time.
    reading: Mutex<()>,
    read_at: Cell<Option<OffsetDateTime>>,
    installations: RefCell<BTreeMap<String, InstallationId>>,
    tokens: RefCell<BTreeMap<InstallationId, Rc<Mutex<Option<Token>>>>>,
    jwts: Cell<u64>,
}

#[derive(Clone)]
struct Token {
    token: SecretString,
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
            installations: RefCell::default(),
            tokens: RefCell::default(),
            jwts: Cell::default(),
        }
    }

    /// What the secret holds, read once.
    pub(super) async fn credentials<C: Clock>(&self, clock: &C) -> Result<Rc<Credentials>, CallError> {
        let known = || self.credentials.borrow().clone();
        if let Some(credentials) = known() {
            return Ok(credentials);
        }
        let _one_at_a_time = self.reading.lock().await;
        if let Some(credentials) = known() {
            return Ok(credentials);
        }
        let text = self.secret.read().await?;
        let credentials = Credentials::parse(&text).map(Rc::new).map_err(|what| {
            CallError::new(
                Class::NeedsOperator,
                format!(
                    "GITHUB_SECRET_ARN: {what}; it should hold a token as plain text, or JSON {{\"app_id\", \
                     \"private_key\", \"installation_id\" (optional)}}"
                ),
            )
        })?;
        self.read_at.set(Some(clock.now()));
        *self.credentials.borrow_mut() = Some(Rc::clone(&credentials));
        Ok(credentials)
    }

    /// GitHub did not accept this token, or JWT: drops what it came from. The answer is whether it is worth
    /// trying again.
    pub(super) fn forget<C: Clock>(&self, refused: &SecretString, clock: &C) -> bool {
        let mut tokens = self.tokens.borrow_mut();
        let before = tokens.len();
        // One that is locked is being renewed at this moment.
        tokens.retain(|_, token| match token.try_lock() {
            Ok(token) => {
                token.as_ref().is_none_or(|token| token.token.expose_secret() != refused.expose_secret())
            }
            Err(_) => true,
        });
        let dropped = tokens.len() < before;
        let is_old = self.read_at.get().is_some_and(|read_at| clock.now() - read_at > READ_AGAIN_AFTER);
        if is_old {
            *self.credentials.borrow_mut() = None;
        }
        dropped || is_old
    }

    /// A JWT that says that we are the App.
    pub(super) async fn app_jwt<C: Clock>(&self, clock: &C) -> Result<SecretString, CallError> {
        match &*self.credentials(clock).await? {
            Credentials::App(app) => self.jwt(app, clock.now()),
            Credentials::Token(_) => {
                Err(CallError::new(Class::NeedsOperator, "GitHub: this call needs a GitHub App, not a token"))
            }
        }
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

impl<S: SecretSource, C: Clock> GitHub<S, C> {
    /// The token to call GitHub with: a personal one, or one of the App's installation, which lives an hour.
    pub(super) async fn token(&self, target: &Target) -> Result<SecretString, CallError> {
        let credentials = self.keyring.credentials(&self.clock).await?;
        let app = match &*credentials {
            Credentials::Token(token) => return Ok(token.clone()),
            Credentials::App(app) => app,
        };
        // What was looked up is newer than what the secret or the payload says.
        let looked_up = || self.keyring.installations.borrow().get(&target.owner).copied();
        let installation = match looked_up().or(app.installation).or(target.installation) {
            Some(installation) => installation,
            None => self.look_up_installation(target).await?,
        };
        if let Some(token) = self.installation_token(installation).await? {
            return Ok(token);
        }
        // 404: the App was installed anew, and the id is that of before. Somebody else may know by now.
        let installation = match looked_up().filter(|id| *id != installation) {
            Some(installation) => installation,
            None => self.look_up_installation(target).await?,
        };
        self.installation_token(installation).await?.ok_or_else(|| {
            CallError::new(
                Class::NeedsOperator,
                format!("GitHub: the App's installation {installation} gives no token: is it suspended?"),
            )
        })
    }

    /// One request at a time for an installation; everybody else waits for its answer. `None` when there is no
    /// such installation.
    async fn installation_token(
        &self,
        installation: InstallationId,
    ) -> Result<Option<SecretString>, CallError> {
        let place = Rc::clone(self.keyring.tokens.borrow_mut().entry(installation).or_default());
        let mut place = place.lock().await;
        if let Some(token) = &*place
            && token.expires_at - self.clock.now() > SPARE
        {
            return Ok(Some(token.token.clone()));
        }
        let call = Call::new("POST", format!("/app/installations/{installation}/access_tokens"), Need::App);
        let reply = self.ask_as_app(&call, |status| matches!(status, 201 | 404)).await?;
        if reply.status == 404 {
            return Ok(None);
        }
        let answer: wire::AccessToken = super::read(&call, &reply)?;
        let token = Token { token: answer.token, expires_at: answer.expires_at };
        Ok(Some(place.insert(token).token.clone()))
    }

    async fn look_up_installation(&self, target: &Target) -> Result<InstallationId, CallError> {
        let path = match (&self.scope, &target.repository) {
            (Scope::Repo, Some(_)) => format!("{}/installation", super::repository_path(target)?),
            _ => format!("/orgs/{}/installation", segment(&target.owner)),
        };
        let call = Call::new("GET", path, Need::App);
        let reply = self.ask_as_app(&call, super::is_ok).await?;
        let installation: wire::Installation = super::read(&call, &reply)?;
        self.keyring.installations.borrow_mut().insert(target.owner.clone(), installation.id);
        Ok(installation.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_secret_is_told_without_its_content() {
        let table = [
            ("", "it is no token"),
            ("two words", "it is no token"),
            ("{", "it is JSON without"),
            ("{\"app_id\":1}", "it is JSON without"),
            ("{\"app_id\":1,\"private_key\":\"s3cret\"}", "private_key is no RSA key in PEM"),
        ];
        for (text, want) in table {
            match Credentials::parse(&text.into()) {
                Err(what) => assert!(what.starts_with(want), "{text}: {what}"),
                Ok(_) => panic!("{text}"),
            }
        }
        assert!(matches!(Credentials::parse(&"ghp_x\n".into()), Ok(Credentials::Token(_))));
    }
}
