//! GitHub's signature of a webhook: HMAC-SHA-256 over the raw body.
//! <https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>

use ring::hmac;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

/// The secrets that a delivery may be signed with: two while one is being rotated.
#[derive(Debug, Clone)]
pub struct WebhookSecrets(Vec<SecretString>);

impl WebhookSecrets {
    /// Plain text, or JSON `{"current", "previous"}`. `None` when there is no secret in it.
    pub fn parse(text: &SecretString) -> Option<Self> {
        #[derive(Deserialize)]
        struct Rotating {
            current: SecretString,
            previous: Option<SecretString>,
        }
        let text = text.expose_secret().trim();
        let secrets = if text.starts_with('{') {
            let rotating: Rotating = serde_json::from_str(text).ok()?;
            std::iter::once(rotating.current).chain(rotating.previous).collect()
        } else {
            vec![SecretString::from(text)]
        };
        // An empty secret would let everybody sign.
        let secrets: Vec<_> =
            secrets.into_iter().filter(|secret| !secret.expose_secret().is_empty()).collect();
        (!secrets.is_empty()).then_some(WebhookSecrets(secrets))
    }

    /// Whether `header` (`X-Hub-Signature-256`) is the signature of `body` under one of the secrets. The
    /// comparison takes the same time wherever the difference is.
    pub fn verify(&self, header: &str, body: &[u8]) -> bool {
        let Some(signature) = header.strip_prefix("sha256=").and_then(from_hex) else { return false };
        self.0.iter().any(|secret| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
            hmac::verify(&key, body, &signature).is_ok()
        })
    }
}

/// 64 hexadecimal digits.
fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secrets(text: &str) -> Option<WebhookSecrets> {
        WebhookSecrets::parse(&text.into())
    }

    /// The example of GitHub's documentation.
    const SECRET: &str = "It's a Secret to Everybody";
    const BODY: &[u8] = b"Hello, World!";
    const SIGNATURE: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    #[test]
    fn githubs_own_example() {
        let secrets = secrets(SECRET).expect("a secret");
        assert!(secrets.verify(SIGNATURE, BODY));
        assert!(secrets.verify(&SIGNATURE.to_uppercase().replace("SHA256", "sha256"), BODY));
        assert!(!secrets.verify(SIGNATURE, b"Hello, World?"));
    }

    #[test]
    fn both_secrets_of_a_rotation() {
        for text in [
            format!("{{\"current\":\"{SECRET}\",\"previous\":\"old\"}}"),
            format!("{{\"current\":\"new\",\"previous\":\"{SECRET}\"}}"),
            format!("{{\"current\":\"{SECRET}\"}}"),
            format!("{SECRET}\n"),
        ] {
            assert!(secrets(&text).expect("secrets").verify(SIGNATURE, BODY), "{text}");
        }
        assert!(
            !secrets("{\"current\":\"new\",\"previous\":\"old\"}").expect("secrets").verify(SIGNATURE, BODY)
        );
    }

    #[test]
    fn no_secret_is_no_secret() {
        for text in ["", "  ", "{}", "{\"current\":\"\"}", "{\"previous\":\"x\"}", "{\"current\":1}", "{"] {
            assert!(secrets(text).is_none(), "{text}");
        }
    }

    #[test]
    fn malformed_signatures() {
        let secrets = secrets(SECRET).expect("a secret");
        for header in [
            "",
            "sha256=",
            "sha256=75",
            "sha1=757107ea0eb2509fc211221cce984b8a37570b6d",
            &SIGNATURE[7..],
            "sha256=é",
        ] {
            assert!(!secrets.verify(header, BODY), "{header}");
        }
        assert!(!secrets.verify(&SIGNATURE.replace('7', "g"), BODY));
        assert!(!secrets.verify(&format!("{SIGNATURE}0"), BODY));
    }

    proptest! {
        #[test]
        fn one_bit_is_enough(bit in 0usize..256, body_bit in 0usize..104) {
            let secrets = secrets(SECRET).expect("a secret");
            let mut signature = from_hex(&SIGNATURE[7..]).expect("hex");
            signature[bit / 8] ^= 1 << (bit % 8);
            let digits: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
            let header = format!("sha256={digits}");
            prop_assert!(!secrets.verify(&header, BODY));
            let mut body = BODY.to_vec();
            body[body_bit / 8] ^= 1 << (body_bit % 8);
            prop_assert!(!secrets.verify(SIGNATURE, &body));
        }

        #[test]
        fn nothing_panics(header in ".{0,100}", body: Vec<u8>) {
            prop_assert!(!secrets(SECRET).expect("a secret").verify(&header, &body));
        }
    }
}
