//! Why there is no answer, as far as an operator can do something about it.

use std::{error::Error, fmt, io};

use http_body_util::LengthLimitError;
use hyper_util::client::legacy;

/// As much of TLS's words as a log line bears.
const LONGEST: usize = 200;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoReply {
    /// None in time.
    TimedOut,
    /// The host's name has no address.
    Unresolved,
    /// Nobody listens there.
    Refused,
    /// The connection could not be made for another reason.
    Unreachable,
    /// TLS refused the other side, or the other way round; in rustls's words.
    Tls(String),
    /// The proxy gives no way to the host, or there is no way to the proxy; in words.
    Proxy(String),
    /// The connection broke: the request may have arrived.
    Broken,
    /// The answer is larger than any that is right.
    TooLarge,
    /// The request makes no sense, e.g. its URL.
    Malformed,
}

impl NoReply {
    /// Reads an error and those that caused it.
    pub fn of(error: &(dyn Error + 'static)) -> NoReply {
        let reason = NoReply::read(error);
        let mut next = Some(error);
        while let Some(error) = next {
            // hyper's own words; the type is its secret.
            match error.to_string().strip_prefix("tunnel error: ") {
                Some("failed to create underlying connection") => return NoReply::Proxy(reason.to_string()),
                Some(words) => return NoReply::Proxy(words.to_owned()),
                None => next = cause(error),
            }
        }
        reason
    }

    fn read(error: &(dyn Error + 'static)) -> NoReply {
        let mut found = NoReply::Broken;
        let mut next = Some(error);
        while let Some(error) = next {
            if error.is::<LengthLimitError>() {
                return NoReply::TooLarge;
            }
            // On a connection that stood it may have been sent.
            if found == NoReply::Unreachable
                && let Some(tls) = error.downcast_ref::<rustls::Error>()
            {
                return NoReply::Tls(tls.to_string().chars().take(LONGEST).collect());
            }
            if error.downcast_ref::<legacy::Error>().is_some_and(legacy::Error::is_connect) {
                found = NoReply::Unreachable;
            }
            // hyper's own word; the type is its secret.
            if found == NoReply::Unreachable && error.to_string() == "dns error" {
                return NoReply::Unresolved;
            }
            let io = error.downcast_ref::<io::Error>();
            if found == NoReply::Unreachable
                && io.is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused)
            {
                return NoReply::Refused;
            }
            next = cause(error);
        }
        found
    }

    /// Whether the request has certainly had no effect: nothing of it was sent.
    pub fn is_unsent(&self) -> bool {
        use NoReply::{Malformed, Proxy, Refused, Tls, Unreachable, Unresolved};
        matches!(self, Unresolved | Refused | Unreachable | Proxy(_) | Tls(_) | Malformed)
    }
}

/// An `io::Error` that wraps another error shows that one's cause as its own.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

impl fmt::Display for NoReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoReply::TimedOut => "no answer in time",
            NoReply::Unresolved => "DNS: the host's name has no address",
            NoReply::Refused => "the connection was refused",
            NoReply::Unreachable => "the connection could not be made",
            NoReply::Proxy(words) => return write!(f, "no way through the proxy of HTTPS_PROXY: {words}"),
            NoReply::Tls(words) => return write!(f, "TLS: {words}"),
            NoReply::Broken => "the connection broke",
            NoReply::TooLarge => "the answer is too large to be one",
            NoReply::Malformed => "no such address",
        })
    }
}
