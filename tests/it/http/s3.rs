//! S3 over HTTP: GetObject, path-style, and "the requester must sign": for the service and the Region.

use ring::{digest, hmac};

use super::{
    calls::Op,
    lock,
    server::{Asked, Reply, Shared},
};
use crate::model::aws::REGION;

/// A GET that is signed for S3.
pub fn identify(asked: &Asked) -> Option<(Op, String)> {
    let is_signed = asked.header("authorization").contains("/s3/aws4_request");
    (asked.method == "GET" && is_signed)
        .then(|| (Op::GetObject, asked.path.trim_start_matches('/').to_owned()))
}

pub fn act(shared: &Shared, op: Op, asked: &Asked) -> Reply {
    let signature = asked.header("authorization");
    // SHA-256 of nothing.
    let of_nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    if !signature.starts_with("AWS4-HMAC-SHA256 ")
        || !signature.contains(&format!("/{REGION}/s3/aws4_request"))
        || !signature.contains("SignedHeaders=host;x-amz-content-sha256;x-amz-date")
        || asked.header("x-amz-content-sha256") != of_nothing
        || !signature.ends_with(&format!("Signature={}", expected(asked, of_nothing)))
    {
        shared.violation(format!("{op}: not signed for S3"));
        return error(403, "SignatureDoesNotMatch");
    }
    let path = super::server::decode(asked.path.trim_start_matches('/'));
    match lock(&shared.objects).get(&path) {
        Some((_, version)) if asked.header("if-none-match") == etag(*version) => Reply::empty(304),
        Some((text, version)) => {
            let reply = Reply {
                status: 200,
                body: text.clone(),
                outcome: format!("version {version}"),
                ..Reply::default()
            };
            reply.header("etag", etag(*version))
        }
        // Who may not list the bucket is not told that the object is not there.
        None => error(403, "AccessDenied"),
    }
}

/// The signature that the request should have ("Create a signed AWS API request"), with the world's own secret.
fn expected(asked: &Asked, payload: &str) -> String {
    let (date, host) = (asked.header("x-amz-date"), asked.header("host"));
    let names = "host;x-amz-content-sha256;x-amz-date";
    let canonical = format!(
        "GET\n{}\n\nhost:{host}\nx-amz-content-sha256:{payload}\nx-amz-date:{date}\n\n{names}\n{payload}",
        asked.path
    );
    let day = date.get(..8).unwrap_or_default();
    let scope = format!("{day}/{REGION}/s3/aws4_request");
    let hashed = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let sign = |key: &[u8], text: &str| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
    };
    let parts = [day, REGION, "s3", "aws4_request"];
    let key = parts.iter().fold(b"AWS4example".to_vec(), |key, part| sign(&key, part));
    hex(&sign(&key, &format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashed}")))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn etag(version: u64) -> String {
    format!("\"{version:032x}\"")
}

fn error(status: u16, code: &str) -> Reply {
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code></Error>");
    Reply { status, body, outcome: code.to_owned(), ..Reply::default() }
}
