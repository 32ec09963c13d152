//! S3 over HTTP: GetObject, path-style, and "the requester must sign": for the service and the Region.

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

fn etag(version: u64) -> String {
    format!("\"{version:032x}\"")
}

fn error(status: u16, code: &str) -> Reply {
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code></Error>");
    Reply { status, body, outcome: code.to_owned(), ..Reply::default() }
}
