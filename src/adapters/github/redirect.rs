//! "The API may respond with a redirection … a redirect is no error" (GitHub, "Best practices for using the REST API"):
//! renamed and transferred repositories and organisations answer so.

use super::super::http::{ApiRequest, Http, NoReply, Reply};

/// A repository that was renamed twice, and one more.
const MOST_HOPS: usize = 3;

/// Sends a request, and follows redirections on the API's own host, with the same method and body. One that leads
/// elsewhere is the answer: credentials go to no other host.
pub(super) async fn send(http: &Http, api_url: &str, request: &mut ApiRequest<'_>) -> Result<Reply, NoReply> {
    let mut reply = http.send(request).await?;
    for _ in 0..MOST_HOPS {
        if !matches!(reply.status, 301 | 302 | 307 | 308) {
            break;
        }
        let Some(url) = reply.headers.get("location").and_then(|to| on_the_same_host(api_url, to)) else {
            break;
        };
        request.url = url;
        reply = match http.send(request).await {
            // The location makes no sense.
            Err(NoReply::Malformed) => break,
            answer => answer?,
        };
    }
    Ok(reply)
}

/// The URL that a `Location` means, if it is on the host, and of the scheme and port, of `api_url`.
fn on_the_same_host(api_url: &str, location: &str) -> Option<String> {
    let (scheme, rest) = api_url.split_once("://")?;
    let origin = format!("{scheme}://{}", rest.split('/').next()?);
    let path = location.strip_prefix(&origin).unwrap_or(location);
    let is_path = path.starts_with('/') && !path.starts_with("//");
    is_path.then(|| format!("{origin}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_stay_on_their_host() {
        let api = "https://api.github.com";
        let to = |location| on_the_same_host(api, location);
        assert_eq!(to("/repositories/1").as_deref(), Some("https://api.github.com/repositories/1"));
        assert_eq!(to("https://api.github.com/x?y=1").as_deref(), Some("https://api.github.com/x?y=1"));
        let ghes = on_the_same_host("https://ghe.acme.test:8443/api/v3", "/api/v3/repositories/1");
        assert_eq!(ghes.as_deref(), Some("https://ghe.acme.test:8443/api/v3/repositories/1"));
        for elsewhere in [
            "",
            "x",
            "//evil.test/",
            "https://evil.test/",
            "http://api.github.com/",
            "https://api.github.com",
            "https://api.github.com.evil.test/",
            "https://api.github.com@evil.test/",
            "https://api.github.com:8443/",
            "https://api.github.com//evil.test/",
        ] {
            assert_eq!(to(elsewhere), None, "{elsewhere}");
        }
    }
}
