//! What the secret holds: a GitHub App, a token, or several.

use std::{collections::BTreeMap, rc::Rc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::EncodingKey;
use ring::digest::{SHA256, digest};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use crate::{
    error::{CallError, Class},
    ids::InstallationId,
};

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
    /// Its client id, or its App id.
    pub(super) id: String,
    /// It signs.
    pub(super) key: EncodingKey,
    /// Its only installation, if the secret names one.
    pub(super) installation: Option<InstallationId>,
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
    pub(super) fn parse_all(text: &SecretString) -> Vec<Result<Self, &'static str>> {
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
        Ok(Credentials::App(App { id, key, installation }))
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

pub(super) fn unusable(what: &str) -> CallError {
    let form = "it should hold a token as plain text, or JSON {\"client_id\" or \"app_id\", \"private_key\", \"installation_id\" (optional)}, or a list of such";
    let form = if what == PLACEHOLDER { String::new() } else { format!("; {form}") };
    CallError::new(Class::NeedsOperator, format!("GITHUB_SECRET_ARN: {what}{form}"))
}

/// Whether a header can hold it.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, Header};
    use serde_json::{Value, json};

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
