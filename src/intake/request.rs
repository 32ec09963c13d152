//! An HTTP request, as whatever stands in front of the webhook hands it over: a function URL or an HTTP API (payload
//! format 2.0), a REST API (1.0), an Application Load Balancer. Anybody can send anything there, so nothing of it is
//! taken for granted: what cannot be read counts as not sent, and the answer is the webhook's to give.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

/// One request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// The method; empty when the event names none.
    pub method: String,
    /// The body, as it came.
    pub body: String,
    /// Whether the body is base64.
    pub is_base64: bool,
    /// The answer's headers are wanted as lists: a load balancer with multi-value headers sends and takes no others.
    pub lists_headers: bool,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// Who sent it, as the front door says.
    pub source: Option<IpAddr>,
}

type Fields<'a> = BTreeMap<Key<'a>, &'a RawValue>;

/// A name; borrowed where it is written without escapes.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl Request {
    /// Reads an event; `None` when it is no HTTP request of any of those shapes.
    pub fn read(event: &RawValue) -> Option<Request> {
        let fields = fields(event)?;
        let (plain, listed) = (inner(&fields, "headers"), inner(&fields, "multiValueHeaders"));
        let lists_headers = plain.is_none() && listed.is_some();
        let headers = plain.or(listed).map(headers).unwrap_or_default();
        let request = Request {
            source: source(&fields, &headers),
            method: method(&fields)?,
            body: read(&fields, "body").unwrap_or_default(),
            is_base64: read(&fields, "isBase64Encoded").unwrap_or_default(),
            lists_headers,
            headers,
        };
        Some(request)
    }

    /// A header's value, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

fn fields(value: &RawValue) -> Option<Fields<'_>> {
    serde_json::from_str(value.get()).ok()
}

fn inner<'a>(fields: &Fields<'a>, name: &str) -> Option<Fields<'a>> {
    self::fields(fields.get(&Key(name.into()))?)
}

fn read<T: DeserializeOwned>(fields: &Fields<'_>, name: &str) -> Option<T> {
    serde_json::from_str(fields.get(&Key(name.into()))?.get()).ok()
}

/// `requestContext.http.method` in format 2.0, `httpMethod` in all others.
fn method(fields: &Fields<'_>) -> Option<String> {
    let http = || inner(&inner(fields, "requestContext")?, "http");
    read(fields, "httpMethod").or_else(|| read(&http()?, "method"))
}

/// `sourceIp` of either format. A load balancer only adds it to the end of a header, whose beginning is the sender's.
fn source(fields: &Fields<'_>, headers: &[(String, String)]) -> Option<IpAddr> {
    let context = inner(fields, "requestContext")?;
    let place = inner(&context, "http").or_else(|| inner(&context, "identity"));
    let said: Option<String> = match place {
        Some(place) => read(&place, "sourceIp"),
        None => {
            let forwarded = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-forwarded-for"));
            forwarded.and_then(|(_, hops)| hops.rsplit(',').next()).map(|hop| hop.trim().to_owned())
        }
    };
    said?.parse().ok()
}

/// A value is a text, or in lists the first one.
fn headers(fields: Fields<'_>) -> Vec<(String, String)> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Value {
        Text(String),
        List(Vec<String>),
    }
    let text = |value: &RawValue| match serde_json::from_str(value.get()).ok()? {
        Value::Text(text) => Some(text),
        Value::List(list) => list.into_iter().next(),
    };
    let pairs = fields.into_iter();
    pairs.filter_map(|(name, value)| Some((name.0.into_owned(), text(value)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(event: &str) -> Option<Request> {
        Request::read(serde_json::from_str(event).expect("JSON"))
    }

    #[test]
    fn each_front_door_s_shape() {
        let table = [
            (
                "a function URL, an HTTP API",
                r#"{"version":"2.0","headers":{"x-github-event":"push"},"body":"{}","isBase64Encoded":true,
                    "requestContext":{"http":{"method":"POST","path":"/"},"timeEpoch":1}}"#,
                true,
                false,
            ),
            (
                "a REST API",
                r#"{"version":"1.0","httpMethod":"POST","headers":{"X-GitHub-Event":"push"},"body":"{}",
                    "multiValueHeaders":{"X-GitHub-Event":["push"]},"isBase64Encoded":false,
                    "requestContext":{"httpMethod":"POST","identity":{}}}"#,
                false,
                false,
            ),
            (
                "a load balancer",
                r#"{"requestContext":{"elb":{"targetGroupArn":"arn"}},"httpMethod":"POST","path":"/","body":"{}",
                    "headers":{"x-github-event":"push"},"isBase64Encoded":false}"#,
                false,
                false,
            ),
            (
                "one with multi-value headers",
                r#"{"requestContext":{"elb":{}},"httpMethod":"POST","body":"{}",
                    "multiValueHeaders":{"x-github-event":["push","ping"]}}"#,
                false,
                true,
            ),
            (
                "with odd headers",
                "{\"httpMethod\":\"POST\",\"body\":\"{}\",\"headers\":{\"a\":\"\u{7f}\",\"\":null,\"b\":1,
                    \"c\":\"\\ud800\",\"é\\n\":\"\\u0000\",\"X-GITHUB-EVENT\":\"push\"}}",
                false,
                false,
            ),
        ];
        for (what, event, is_base64, lists_headers) in table {
            let request = request(event).unwrap_or_else(|| panic!("{what}"));
            assert_eq!((request.method.as_str(), request.body.as_str()), ("POST", "{}"), "{what}");
            assert_eq!((request.is_base64, request.lists_headers), (is_base64, lists_headers), "{what}");
            assert_eq!(request.header("x-github-event"), Some("push"), "{what}");
            assert_eq!(request.header("x-hub-signature-256"), None, "{what}");
        }
    }

    #[test]
    fn what_is_no_request() {
        for event in ["null", "1", "[]", "\"POST\"", "{}", r#"{"httpMethod":1}"#, r#"{"Records":[]}"#] {
            assert_eq!(request(event), None, "{event}");
        }
        let bare = request(r#"{"httpMethod":"GET","headers":7,"body":{},"isBase64Encoded":"yes"}"#);
        assert_eq!(bare, Some(Request { method: "GET".into(), ..Request::default() }));
    }

    #[test]
    fn who_sent_it() {
        let table = [
            (r#"{"httpMethod":"POST","requestContext":{"identity":{"sourceIp":"192.0.2.1"}}}"#, "192.0.2.1"),
            (r#"{"requestContext":{"http":{"method":"POST","sourceIp":"2001:db8::1"}}}"#, "2001:db8::1"),
            (
                r#"{"httpMethod":"POST","requestContext":{"elb":{}},"headers":{"x-forwarded-for":"10.0.0.1, 192.0.2.7"}}"#,
                "192.0.2.7",
            ),
            (
                r#"{"requestContext":{"http":{"method":"POST"}},"headers":{"x-forwarded-for":"192.0.2.9"}}"#,
                "",
            ),
            (r#"{"httpMethod":"POST","requestContext":{"identity":{"sourceIp":"x\n{\"level\":1}"}}}"#, ""),
            (r#"{"httpMethod":"POST"}"#, ""),
        ];
        for (event, want) in table {
            let source = request(event).and_then(|request| request.source);
            assert_eq!(source.map(|it| it.to_string()).unwrap_or_default(), want, "{event}");
        }
    }
}
