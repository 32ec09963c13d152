//! What names, commits, addresses and times look like.

use time::OffsetDateTime;

/// "The repository name can only contain ASCII letters, digits, and the characters ., -, and _", 100 at most, and
/// logins are shorter. (No path is left by way of `..` either.)
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    const LONGEST_NAME: usize = 100;
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    match name {
        "" => Err("is empty"),
        "." | ".." => Err("is no name: . and .. are folders"),
        _ if name.len() > LONGEST_NAME => Err("is longer than 100 characters"),
        _ if !name.bytes().all(is_allowed) => Err("has other characters than letters, digits and .-_"),
        _ => Ok(()),
    }
}

/// A person's login, or an App's: `octo-app[bot]`.
pub(super) fn is_login(login: &str) -> bool {
    check_name(login.strip_suffix("[bot]").unwrap_or(login)).is_ok()
}

/// SHA-1 or SHA-256.
pub(crate) fn is_sha(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// An address that can stand in a link as it is.
pub(crate) fn is_page(url: &str) -> bool {
    const LONGEST: usize = 512;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/.-_:".contains(&byte);
    url.len() <= LONGEST && url.starts_with("https://") && url.bytes().all(is_plain)
}

/// A time as GitHub and EventBridge write it.
pub fn rfc3339(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()
}
