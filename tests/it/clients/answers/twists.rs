//! How an answer goes wrong: its status, its headers, its JSON, its text, its last byte.

use proptest::{prelude::*, sample::Index};
use serde_json::Value;

use super::{CANARY, server::Sent};
use crate::changes::{Change, apply, changes};

/// An answer as it was recorded.
#[derive(Debug, Clone)]
pub struct Recorded {
    pub status: u16,
    pub body: Value,
}

pub fn recorded(status: u16, body: Value) -> Recorded {
    Recorded { status, body }
}

/// One answer, gone wrong.
#[derive(Debug, Clone)]
pub struct Wrong {
    status: Option<u16>,
    headers: Vec<(&'static str, &'static str)>,
    twists: Vec<Twist>,
    changes: Vec<Change>,
    cut: Option<Index>,
}

/// One change to a value of the JSON.
#[derive(Debug, Clone)]
enum Twist {
    /// Something else in its place.
    Replace(Index, String),
    /// Not there at all.
    Drop(Index),
    /// The elements of a list once more.
    Double(Index),
}

/// What is served, and the tests judge by.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, &'static str)>,
    pub body: String,
    cut: Option<Index>,
}

const STATUSES: [u16; 36] = [
    100, 101, 103, 199, 200, 201, 202, 204, 206, 299, 301, 302, 304, 307, 400, 401, 403, 404, 408, 409, 410,
    413, 415, 418, 422, 429, 431, 451, 500, 501, 502, 503, 504, 520, 599, 999,
];

/// A limit's headers come together.
const HEADERS: [&[(&str, &str)]; 31] = [
    &[("retry-after", "-1")],
    &[("retry-after", "0")],
    &[("retry-after", "60")],
    &[("retry-after", "99999999999999")],
    &[("retry-after", "9223372036854775807")],
    &[("retry-after", "99999999999999999999999")],
    &[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")],
    &[("x-ratelimit-remaining", "-1"), ("x-ratelimit-reset", "1767268900")],
    &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "0")],
    &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "99999999999999")],
    &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "9223372036854775807")],
    &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "-9223372036854775808")],
    &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "soon")],
    &[("link", "<https://api.github.com/app/hook/deliveries?per_page=100&cursor=again>; rel=\"next\"")],
    &[("link", "<?cursor=%ff>; rel=\"next\"")],
    &[("link", "<?cursor=%E2%82%AC/../&>; rel=\"next\", <?cursor=1>; rel=\"next\"")],
    &[("link", ">;rel=\"next\"<")],
    &[("location", "/")],
    &[("x-amzn-errortype", "ThrottlingException")],
    &[("x-amzn-errortype", "c-a-n-a-r-y:http://internal.amazon.com/")],
    &[("x-amzn-query-error", "c-a-n-a-r-y;Sender")],
    &[("x-amz-retry-after", "99999999999999")],
    &[("x-amz-retry-after", "-1")],
    &[("date", "Thu, 01 Jan 1970 00:00:00 GMT"), ("content-type", "text/html")],
    &[("content-encoding", "gzip"), ("date", "tomorrow")],
    &[("content-length", "5")],
    &[("content-length", "18446744073709551616")],
    &[("transfer-encoding", "chunked")],
    &[("upgrade", "websocket"), ("content-type", "application/cbor")],
    &[("no header", "of HTTP")],
    &[("x-text", "caf\u{e9}")],
];

/// JSON in the place of other JSON.
fn replacements() -> impl Strategy<Value = String> {
    let text = |text: &str| Just(text.to_owned());
    let mut whole: Vec<_> = [
        "null",
        "true",
        "false",
        "0",
        "-1",
        "1.5",
        "18446744073709551615",
        "18446744073709551616",
        "1e400",
        "253402300799.999999999",
        "253402300800",
        "-377705116801",
        "9e18",
        "[]",
        "{}",
        "[null]",
        "[[]]",
        "[{}]",
        "{\"\":{}}",
        "\"\"",
        "\"\\n\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "\"queued\"",
        "\"STOPPED\"",
        "\"gha-1\"",
        "\"fargate-1-1\"",
        "\"MISSING\"",
        "\"ConflictException\"",
        "\"ServerException\"",
        "\"ThrottlingException\"",
        "\"9999-12-31T23:59:59-23:59\"",
        "\"0000-01-01T00:00:00+23:59\"",
        "\"2025-06-30T23:59:60Z\"",
    ]
    .map(text)
    .to_vec();
    whole.push(text(&format!("\"{CANARY}\"")));
    // Deeper than any stack that is used for it.
    whole.push(Just(format!("{}{}", "[".repeat(20_000), "]".repeat(20_000))));
    whole.push(Just(format!("\"{}\"", CANARY.repeat(1_000))));
    proptest::sample::select(whole).prop_flat_map(|text| text)
}

fn twists() -> impl Strategy<Value = Twist> {
    let place = any::<Index>;
    prop_oneof![
        4 => (place(), replacements()).prop_map(|(at, text)| Twist::Replace(at, text)),
        1 => place().prop_map(Twist::Drop),
        1 => place().prop_map(Twist::Double),
    ]
}

/// Each kind of trouble by itself, and some together.
pub fn wrong() -> impl Strategy<Value = Wrong> {
    (
        proptest::option::weighted(0.2, proptest::sample::select(STATUSES.to_vec())),
        prop_oneof![
            2 => Just(Vec::new()),
            1 => prop::collection::vec(proptest::sample::select(HEADERS.to_vec()), 1..3)
                .prop_map(|headers| headers.concat()),
        ],
        prop::collection::vec(twists(), 0..3),
        prop_oneof![2 => Just(Vec::new()), 1 => changes()],
        proptest::option::weighted(0.05, any::<Index>()),
    )
        .prop_map(|(status, headers, twists, changes, cut)| Wrong {
            status,
            headers,
            twists,
            changes,
            cut,
        })
}

impl Wrong {
    /// The recorded answer, gone wrong.
    pub fn applied_to(&self, recorded: &Recorded) -> Answer {
        let mut body = recorded.body.clone();
        let mut raw = Vec::new();
        for twist in &self.twists {
            twist.apply(&mut body, &mut raw);
        }
        let mut text = body.to_string();
        for (number, raw) in raw.iter().enumerate() {
            text = text.replace(&place_of(number).to_string(), raw);
        }
        Answer {
            status: self.status.unwrap_or(recorded.status),
            headers: self.headers.clone(),
            body: apply(&text, &self.changes),
            cut: self.cut,
        }
    }
}

/// What stands for a text that no `Value` can hold.
fn place_of(number: usize) -> Value {
    Value::String(format!("@{number}@"))
}

impl Twist {
    fn apply(&self, body: &mut Value, raw: &mut Vec<String>) {
        let mut places = Vec::new();
        list("", body, &mut places);
        let place = |index: &Index| places[index.index(places.len())].clone();
        match self {
            Twist::Replace(index, text) => {
                *body.pointer_mut(&place(index)).expect("a place") = place_of(raw.len());
                raw.push(text.clone());
            }
            Twist::Drop(index) => {
                let place = place(index);
                let Some((parent, key)) = place.rsplit_once('/') else { return };
                match body.pointer_mut(parent) {
                    Some(Value::Object(object)) => drop(object.remove(key)),
                    Some(Value::Array(array)) => drop(array.remove(key.parse().expect("an index"))),
                    _ => {}
                }
            }
            Twist::Double(index) => {
                if let Some(Value::Array(array)) = body.pointer_mut(&place(index)) {
                    array.extend(array.clone());
                }
            }
        }
    }
}

/// Every value in there, as a JSON pointer.
fn list(pointer: &str, value: &Value, places: &mut Vec<String>) {
    places.push(pointer.to_owned());
    match value {
        Value::Object(object) => {
            object.iter().for_each(|(key, value)| list(&format!("{pointer}/{key}"), value, places));
        }
        Value::Array(array) => {
            array.iter().enumerate().for_each(|(n, value)| list(&format!("{pointer}/{n}"), value, places));
        }
        _ => {}
    }
}

impl From<&Recorded> for Answer {
    fn from(recorded: &Recorded) -> Answer {
        Answer { status: recorded.status, headers: vec![], body: recorded.body.to_string(), cut: None }
    }
}

impl Answer {
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as JSON, if it is any.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_str(&self.body).ok()
    }

    /// Nothing between this and HTTP.
    fn is_http(&self) -> bool {
        let has_body = self.status >= 200 && self.status != 204 && self.status != 304;
        self.headers.is_empty() && self.cut.is_none() && has_body
    }

    pub fn sent(&self) -> Sent {
        let keep = self.is_http();
        let mut head =
            format!("HTTP/1.1 {} Whatever\r\ncontent-length: {}\r\n", self.status, self.body.len());
        if !keep {
            head.push_str("connection: close\r\n");
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut bytes = format!("{head}\r\n").into_bytes();
        // é as Latin-1 has it: HTTP allows it, and it is no UTF-8.
        if let Some(at) = bytes.windows(2).position(|two| two == "é".as_bytes()) {
            bytes.splice(at..at + 2, [0xe9]);
        }
        bytes.extend(self.body.as_bytes());
        if let Some(cut) = self.cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        Sent { bytes, keep }
    }
}
