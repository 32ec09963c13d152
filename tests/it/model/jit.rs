//! The encoded JIT configuration: base64 of a JSON object that maps the runner's files to their base64
//! contents (`actions/runner`, `Runner.cs`), about 4.2 kB of it.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// The configuration of one registration: the same registration, the same text.
pub fn encode(runner: u64, name: &str) -> String {
    let settings = json!({
        "AgentId": runner.to_string(),
        "AgentName": name,
        "DisableUpdate": "True",
        "Ephemeral": "True",
        "PoolId": "1",
        "PoolName": "Default",
        "GitHubUrl": "https://github.com/octo-org",
        "ServerUrl": "https://pipelinesghubeus2.actions.githubusercontent.com/AbCdEfGhIjKlMnOpQrStUvWxYz0123456789/",
        "ServerUrlV2": "https://broker.actions.githubusercontent.com/",
        "UseV2Flow": "True",
        "WorkFolder": "_work",
    });
    let credentials = json!({
        "Scheme": "OAuth",
        "Data": {
            "AuthorizationUrl": "https://tokenghub.actions.githubusercontent.com/_apis/oauth2/token/AbCdEfGhIjKlMnOpQrStUvWxYz",
            "ClientId": format!("00000000-0000-4000-8000-{runner:012x}"),
            "RequireFipsCryptography": "True",
        },
    });
    // Eight numbers of an RSA-2048 key in base64: their size matters here, their value does not.
    let number = |bytes: usize| STANDARD.encode(vec![(runner % 251) as u8; bytes]);
    let key = json!({
        "d": number(256), "dp": number(128), "dq": number(128), "exponent": "AQAB",
        "inverseQ": number(128), "modulus": number(256), "p": number(128), "q": number(128),
    });
    let file = |content: Value| STANDARD.encode(content.to_string());
    let files = json!({
        ".runner": file(settings),
        ".credentials": file(credentials),
        ".credentials_rsaparams": file(key),
    });
    STANDARD.encode(files.to_string())
}

/// The registration that a configuration belongs to.
pub fn runner_id(encoded: &str) -> Option<u64> {
    let files: Value = serde_json::from_slice(&STANDARD.decode(encoded).ok()?).ok()?;
    let settings: Value = serde_json::from_slice(&STANDARD.decode(files[".runner"].as_str()?).ok()?).ok()?;
    settings["AgentId"].as_str()?.parse().ok()
}
