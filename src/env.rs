//! The reader of environment variables, for the functions and for runner-init. All mistakes are reported together,
//! each with the variable's name, what it should look like, and what it was.

use std::fmt::{self, Display};

use http::Uri;

/// Everything that is wrong with the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(Vec<String>);

impl Display for Mistakes {
    /// One line, however many mistakes: it is what the Lambda console shows of a failed start.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "environment: {}", self.0.join("; "))
    }
}

impl std::error::Error for Mistakes {}

/// Reads variables and collects what is wrong with them. A variable that is set to nothing counts as unset,
/// since a template cannot leave one out conditionally without effort.
pub(crate) struct Env<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
    mistakes: Vec<String>,
}

impl<'a> Env<'a> {
    pub(crate) fn new(get: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Env { get, mistakes: Vec::new() }
    }

    pub(crate) fn finish<T>(self, config: T) -> Result<T, Mistakes> {
        if self.mistakes.is_empty() { Ok(config) } else { Err(Mistakes(self.mistakes)) }
    }

    pub(crate) fn optional(&self, name: &str) -> Option<String> {
        (self.get)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    pub(crate) fn or(&self, name: &str, default: &str) -> String {
        self.optional(name).unwrap_or_else(|| default.to_owned())
    }

    /// Notes that the variable should look like `form`, and what it was.
    pub(crate) fn mistake(&mut self, name: &str, form: &str) {
        let was =
            self.optional(name).map_or_else(|| UNSET.to_owned(), |value| format!("it is {}", shown(&value)));
        self.mistake_for(name, form, &was);
    }

    /// Notes a mistake in something that must not be shown.
    pub(crate) fn mistake_for(&mut self, name: &str, form: &str, why: &str) {
        self.mistakes.push(format!("{name} should be {form}, but {why}"));
    }

    pub(crate) fn required(&mut self, name: &str, form: &str) -> String {
        self.required_as(name, form, |text| Some(text.to_owned()))
    }

    pub(crate) fn required_as<T: Default>(
        &mut self,
        name: &str,
        form: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> T {
        self.optional(name).and_then(|text| parse(&text)).unwrap_or_else(|| {
            self.mistake(name, form);
            T::default()
        })
    }

    pub(crate) fn parse<T>(
        &mut self,
        name: &str,
        form: &str,
        default: T,
        parse: impl Fn(&str) -> Option<T>,
    ) -> T {
        let Some(text) = self.optional(name) else { return default };
        parse(&text).unwrap_or_else(|| {
            self.mistake(name, form);
            default
        })
    }

    pub(crate) fn number(&mut self, name: &str, default: u32, least: u32) -> u32 {
        let form = format!("a whole number of {least} or more");
        self.parse(name, &form, default, |text| text.parse().ok().filter(|number| *number >= least))
    }

    pub(crate) fn flag(&mut self, name: &str) -> bool {
        self.parse(name, "true or false", false, |text| text.to_ascii_lowercase().parse().ok())
    }

    pub(crate) fn list(&mut self, name: &str, default: &str) -> Vec<String> {
        let list: Vec<String> = self
            .or(name, default)
            .split(',')
            .map(|item| item.trim().to_owned())
            .filter(|item| !item.is_empty())
            .collect();
        if list.is_empty() {
            self.mistake(name, "a list, separated by commas");
        }
        list
    }

    /// `GITHUB_API_URL`, without a slash at its end.
    pub(crate) fn github_api_url(&mut self) -> String {
        let form = "a URL such as https://HOST/api/v3";
        self.parse("GITHUB_API_URL", form, "https://api.github.com".to_owned(), api_url)
    }
}

const UNSET: &str = "it is not set";

/// The URL of an API, without a slash at its end. A token goes there.
fn api_url(text: &str) -> Option<String> {
    let uri: Uri = text.parse().ok()?;
    let plain = uri.query().is_none() && !uri.authority()?.as_str().contains('@');
    (plain && keeps_secrets(&uri)).then(|| text.trim_end_matches('/').to_owned())
}

/// Whether a secret may be sent there: encrypted, or not beyond this machine.
pub(crate) fn keeps_secrets(uri: &Uri) -> bool {
    match uri.scheme_str() {
        Some("https") => true,
        Some("http") => matches!(uri.host(), Some("127.0.0.1" | "localhost" | "[::1]")),
        _ => false,
    }
}

/// What tokens begin with (GitHub, "GitHub's token formats").
pub(crate) const TOKENS: [&str; 6] = ["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"];

/// The value of a variable, unless somebody has put a token into the wrong one.
fn shown(value: &str) -> String {
    if TOKENS.iter().any(|prefix| value.contains(prefix)) || value.contains('@') {
        return "something that may be a token".to_owned();
    }
    match value.char_indices().nth(100) {
        Some((end, _)) => format!("{:?}…", &value[..end]),
        None => format!("{value:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_sent_in_the_clear_to_this_machine_only() {
        for (text, expected) in [
            ("https://ghes.acme.test/api/v3/", Some("https://ghes.acme.test/api/v3")),
            ("http://127.0.0.1:8080", Some("http://127.0.0.1:8080")),
            ("http://localhost:8080", Some("http://localhost:8080")),
            ("http://[::1]:8080", Some("http://[::1]:8080")),
            ("http://api.github.com", None),
            ("http://127.0.0.1.acme.test", None),
            ("http://127.0.0.1@acme.test", None),
            ("https://name:password@ghes.acme.test", None),
            ("ftp://127.0.0.1", None),
            ("https://ghes.acme.test?x", None),
            ("ghes.acme.test", None),
            ("", None),
        ] {
            assert_eq!(api_url(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn no_token_is_shown_and_nothing_is_shown_at_length() {
        for token in ["ghp_x", "github_pat_x", "https://name:password@host"] {
            assert_eq!(shown(token), "something that may be a token");
        }
        assert_eq!(shown("vpc-2"), "\"vpc-2\"");
        assert_eq!(shown(&"é".repeat(101)), format!("\"{}\"…", "é".repeat(100)));
    }
}
