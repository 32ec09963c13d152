//! GitHub's own words in an answer: what it says is wrong, as far as that is fit for a log.

use serde_json::Value;

use super::super::http::Reply;
use crate::env::TOKENS;

const LONGEST: usize = 240;
/// JSON in base64: JWTs, JIT configurations.
const JSON: &str = "eyJ";

/// `message` of an error, with what its `errors` name. Empty when there is none: then it is not GitHub that answers.
pub(super) fn message(reply: &Reply) -> String {
    let Ok(body) = serde_json::from_slice::<Value>(&reply.body) else { return String::new() };
    let Some(message) = body["message"].as_str() else { return String::new() };
    let errors = body["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    let details: Vec<String> = errors.iter().map(detail).filter(|text| !text.is_empty()).collect();
    match details.as_slice() {
        [] => printable(message),
        _ => printable(&format!("{message}: {}", details.join(", "))),
    }
}

/// "Validation Failed" has a list of texts, or of objects.
fn detail(error: &Value) -> String {
    let texts = ["field", "code", "message"].map(|key| error[key].as_str().unwrap_or_default());
    let texts: Vec<&str> = texts.into_iter().chain(error.as_str()).filter(|text| !text.is_empty()).collect();
    texts.join(" ")
}

/// `X-Accepted-GitHub-Permissions`: what would have been enough.
pub(super) fn accepted_permissions(reply: &Reply) -> Option<&str> {
    let value = reply.headers.get("x-accepted-github-permissions")?;
    let is_list = value.bytes().all(|byte| byte.is_ascii_lowercase() || b"_=,; ".contains(&byte));
    (is_list && (1..=LONGEST).contains(&value.len())).then_some(value)
}

/// One short line, and no word that may be a secret.
fn printable(text: &str) -> String {
    let plain: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .map(|c| if c == '"' { '\'' } else { c })
        .collect();
    let words: Vec<&str> =
        plain.split_whitespace().map(|word| if may_be_secret(word) { "…" } else { word }).collect();
    words.join(" ").chars().take(LONGEST).collect()
}

fn may_be_secret(word: &str) -> bool {
    let is_long =
        |run: &str| run.len() >= 40 || (run.len() >= 20 && run.contains(|c: char| c.is_ascii_digit()));
    TOKENS.iter().chain(&[JSON]).any(|start| word.contains(start))
        || word.split(|c: char| !c.is_ascii_alphanumeric() && !"+/=_".contains(c)).any(is_long)
}
