//! GitHub's credentials: installations, access tokens, personal access tokens, and the App's JWT. No I/O and
//! no clock.

use std::collections::{BTreeMap, BTreeSet};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use ring::{rsa::PublicKeyComponents, signature::RsaKeyPair};
use time::{Duration, OffsetDateTime};

use super::{
    deliveries::Deliveries,
    manifest::{Installed, Profile},
};

/// "The installation access token will expire one hour from the time you create them."
const TOKEN_LIFETIME: Duration = Duration::hours(1);

/// Who a request speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// An App's installation in this account; `None` when the world takes any.
    Installation(u64, Option<String>),
    /// A person's token.
    Pat,
}

#[derive(Default)]
pub struct App {
    /// The App's id: the issuer that its JWTs must name. `None` takes any.
    pub id: Option<u64>,
    key: Option<DecodingKey>,
    /// The ids of Apps that were made before this one.
    pub former: BTreeSet<u64>,
    /// What a program needs to be this App, when the world made it up: `{"app_id", "private_key"}`.
    pub credentials: Option<serde_json::Value>,
    /// Installation ids by the account's login in lower case.
    pub installations: BTreeMap<String, u64>,
    /// More Apps of the same owner, by their ids, with the same key: their installations by login.
    pub others: BTreeMap<u64, BTreeMap<String, u64>>,
    /// Calls and registrations that were made with tokens of an installation.
    pub calls: BTreeMap<u64, (usize, usize)>,
    /// Takes every installation id, and installs the App wherever it is looked for.
    pub any_installation: bool,
    /// Personal access tokens.
    pub pats: BTreeSet<String>,
    tokens: BTreeMap<String, (u64, OffsetDateTime)>,
    issued: u64,
    /// What it is, beyond its key.
    pub profile: Profile,
    /// Its installations, where there is more to say of them than their id.
    pub installed: BTreeMap<u64, Installed>,
    /// Runner groups for selected repositories (these) or workflows only, and those open to public repositories.
    pub groups_of_selected: BTreeMap<u64, Vec<String>>,
    pub groups_of_workflows: BTreeSet<u64>,
    pub groups_of_public: BTreeSet<u64>,
    /// What is left of the hour's requests, where it is asked for.
    pub remaining: Option<u64>,
    /// What its webhook was sent, as text.
    pub deliveries: Deliveries<String>,
    /// The same of the others' webhooks, of those that have one.
    pub deliveries_of_others: BTreeMap<u64, Deliveries<String>>,
    /// `status` of the list of deliveries means nothing: a GitHub Enterprise Server before 3.17.
    pub ignores_delivery_status: bool,
    /// What its installations were granted; `None` is whatever is asked for.
    pub granted: Option<BTreeSet<String>>,
    /// Of those, what they may only read.
    pub may_only_read: BTreeSet<String>,
}

impl App {
    /// Takes JWTs that were signed with this private key, in PKCS#1 or PKCS#8 PEM.
    pub fn trust_private_key(&mut self, pem: &str) -> Result<(), String> {
        let der: String = pem.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
        let der = STANDARD.decode(der).map_err(|error| format!("not PEM: {error}"))?;
        let pair = if pem.contains("BEGIN RSA PRIVATE KEY") {
            RsaKeyPair::from_der(&der)
        } else {
            RsaKeyPair::from_pkcs8(&der)
        };
        let pair = pair.map_err(|error| format!("not an RSA private key: {error}"))?;
        let public = PublicKeyComponents::<Vec<u8>>::from(pair.public());
        self.key = Some(DecodingKey::from_rsa_raw_components(&public.n, &public.e));
        Ok(())
    }

    /// Takes JWTs that fit this public key, in PEM.
    #[allow(dead_code, reason = "the demo's GitHub has this option")]
    pub fn trust_public_key(&mut self, pem: &str) -> Result<(), String> {
        self.key = Some(DecodingKey::from_rsa_pem(pem.as_bytes()).map_err(|error| error.to_string())?);
        Ok(())
    }

    /// Whether a JWT is the App's, by GitHub's rules: RS256, `iss` the App, `iat` not in the future, `exp`
    /// not past and at most ten minutes ahead ("Generating a JSON Web Token (JWT) for a GitHub App").
    pub fn check_jwt(&self, jwt: &str, now: OffsetDateTime) -> Result<(), String> {
        #[derive(serde::Deserialize)]
        struct Claims {
            iat: i64,
            exp: i64,
            iss: serde_json::Value,
        }
        let key = self.key.as_ref().ok_or("no App is known here")?;
        let mut rules = Validation::new(Algorithm::RS256);
        // The world has its own clock.
        rules.validate_exp = false;
        rules.required_spec_claims.clear();
        let claims =
            jsonwebtoken::decode::<Claims>(jwt, key, &rules).map_err(|error| error.to_string())?.claims;
        let now = now.unix_timestamp();
        let issuer = claims.iss.as_str().map_or(claims.iss.to_string(), str::to_owned);
        let is_other = issuer.parse().is_ok_and(|id: u64| self.others.contains_key(&id));
        if !is_other && self.id.is_some_and(|id| id.to_string() != issuer) {
            return Err(format!("iss is {issuer}, not the App's id"));
        }
        if claims.iat > now + 60 {
            return Err("iat is in the future".to_owned());
        }
        if claims.exp <= now {
            return Err("exp is in the past".to_owned());
        }
        if claims.exp > now + 600 {
            return Err("exp is more than ten minutes ahead".to_owned());
        }
        Ok(())
    }

    /// Whether a JWT is that of an App that was made before this one.
    pub fn was_issued_by_a_former(&self, jwt: &str) -> bool {
        let issuer = issuer(jwt);
        self.former.iter().any(|id| id.to_string() == issuer)
    }

    /// The installations of the App whose JWT it is, if it is not the first.
    fn of_other(&self, jwt: &str) -> Option<&BTreeMap<String, u64>> {
        self.others.get(&issuer(jwt).parse().ok()?)
    }

    /// What the webhook was sent of the App whose JWT it is, if it has one.
    pub fn deliveries_of(&mut self, jwt: &str) -> Option<&mut Deliveries<String>> {
        match issuer(jwt).parse() {
            Ok(id) if self.others.contains_key(&id) => self.deliveries_of_others.get_mut(&id),
            _ => Some(&mut self.deliveries),
        }
    }

    /// Where the App whose JWT it is, is installed.
    pub fn installation_of(&mut self, jwt: &str, account: &str) -> Option<u64> {
        match self.of_other(jwt) {
            Some(installations) => installations.get(&account.to_lowercase()).copied(),
            None => self.installation(account),
        }
    }

    /// Whether the installation is one of the App whose JWT it is.
    pub fn owns(&self, jwt: &str, installation: u64) -> bool {
        let its = self.of_other(jwt).unwrap_or(&self.installations);
        self.any_installation || its.values().any(|id| *id == installation)
    }

    fn all_installations(&self) -> impl Iterator<Item = (&String, &u64)> {
        self.installations.iter().chain(self.others.values().flatten())
    }
}

/// The claim `iss`, as text.
fn issuer(jwt: &str) -> String {
    let claims = jwt.split('.').nth(1).and_then(|claims| URL_SAFE_NO_PAD.decode(claims).ok());
    let claims: serde_json::Value =
        claims.and_then(|claims| serde_json::from_slice(&claims).ok()).unwrap_or_default();
    claims["iss"].as_str().map_or(claims["iss"].to_string(), str::to_owned)
}

impl App {
    /// Installs the App in an account.
    pub fn install(&mut self, account: &str, id: u64) {
        self.installations.insert(account.to_lowercase(), id);
    }

    /// Where the App is installed: `GET /orgs/{org}/installation` and its like.
    pub fn installation(&mut self, account: &str) -> Option<u64> {
        let account = account.to_lowercase();
        if self.any_installation && !self.installations.contains_key(&account) {
            let id = 1 + self.installations.len() as u64;
            self.installations.insert(account.clone(), id);
        }
        self.installations.get(&account).copied()
    }

    /// `POST /app/installations/{id}/access_tokens`: the token and when it expires.
    pub fn access_token(
        &mut self,
        installation: u64,
        now: OffsetDateTime,
    ) -> Option<(String, OffsetDateTime)> {
        let known = self.all_installations().any(|(_, id)| *id == installation);
        if !known && !self.any_installation {
            return None;
        }
        self.tokens.retain(|_, (_, expires)| *expires > now);
        self.issued += 1;
        let token = format!("ghs_{:036}", self.issued);
        self.tokens.insert(token.clone(), (installation, now + TOKEN_LIFETIME));
        Some((token, now + TOKEN_LIFETIME))
    }

    /// No access token is valid any more.
    pub fn revoke_tokens(&mut self) {
        self.tokens.clear();
    }

    /// Who a bearer token stands for; `None`: bad credentials.
    pub fn identity(&self, token: &str, now: OffsetDateTime) -> Option<Identity> {
        if self.pats.contains(token) {
            return Some(Identity::Pat);
        }
        let (installation, _) = self.tokens.get(token).filter(|(_, expires)| *expires > now)?;
        let account = self.all_installations().find(|(_, id)| *id == installation);
        let account = account.map(|(account, _)| account.clone()).filter(|_| !self.any_installation);
        Some(Identity::Installation(*installation, account))
    }
}
