//! What the container's environment says.

use std::{
    fmt::{self, Display},
    path::PathBuf,
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};

/// The organisation's token: never in a stage's environment but the first one's.
pub(super) const ACCESS_TOKEN: &str = "ACCESS_TOKEN";

/// What else this program reads. None of it is for the runner, and jobs have no use for it: some of the names
/// (`RUNNER_NAME`, `GITHUB_API_URL`) are set for them by the runner itself.
pub(super) const OURS: [&str; 9] = [
    "ORGANIZATION",
    "RUNNER_NAME",
    "RUNNER_LABELS",
    "RUNNER_GROUP_ID",
    "GITHUB_API_URL",
    "IDLE_TIMEOUT_SECONDS",
    "STOP_TIMEOUT_SECONDS",
    "RUNNER_SCRIPT",
    "RUST_LOG",
];

/// Everything but the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    /// `ORGANIZATION`.
    pub organization: String,
    /// `RUNNER_NAME`.
    pub name: String,
    /// `RUNNER_LABELS`.
    pub labels: Vec<String>,
    /// `RUNNER_GROUP_ID`.
    pub group_id: u64,
    /// `GITHUB_API_URL`, without a slash at its end.
    pub api_url: String,
    /// `IDLE_TIMEOUT_SECONDS`.
    pub idle_timeout: Duration,
    /// `STOP_TIMEOUT_SECONDS`.
    pub stop_timeout: Duration,
    /// `RUNNER_SCRIPT`.
    pub script: PathBuf,
}

/// Everything that is wrong with the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mistakes(Vec<String>);

impl Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "environment: {}", self.0.join("; "))
    }
}

/// Reads the environment and looks at the token, and reports the mistakes of both together.
pub(super) fn read(
    get: impl Fn(&str) -> Option<String>,
    token: Option<&SecretString>,
) -> Result<(Settings, SecretString), Mistakes> {
    let settings = Settings::read(get);
    match (settings, self::token(token)) {
        (Ok(settings), Ok(token)) => Ok((settings, token)),
        (Ok(_), Err(mistake)) => Err(Mistakes(vec![mistake])),
        (Err(mistakes), Ok(_)) => Err(mistakes),
        (Err(Mistakes(mut mistakes)), Err(mistake)) => {
            mistakes.push(mistake);
            Err(Mistakes(mistakes))
        }
    }
}

/// A secret that was made with `echo` ends in a line break, so white space around the token is no mistake.
fn token(token: Option<&SecretString>) -> Result<SecretString, String> {
    let text = token.map(|token| token.expose_secret().trim()).unwrap_or_default();
    let was = if text.is_empty() {
        "it is not set".to_owned()
    } else if text.starts_with('{') {
        "it looks like JSON".to_owned()
    } else if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte)) {
        format!("it is {} characters, some of which no token has", text.chars().count())
    } else {
        return Ok(text.into());
    };
    Err(format!(
        "{ACCESS_TOKEN} should be a token as plain text that may register runners with the organisation, but {was}"
    ))
}

impl Settings {
    /// Reads everything but the token.
    pub(super) fn read(get: impl Fn(&str) -> Option<String>) -> Result<Settings, Mistakes> {
        let mut env = Env { get, mistakes: Vec::new() };
        let settings = Settings {
            organization: env.read(
                "ORGANIZATION",
                "the organisation's login, letters, digits and hyphens",
                None,
                |text| {
                    let login =
                        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
                    login.then(|| text.to_owned())
                },
            ),
            name: env.read("RUNNER_NAME", "a name of 1 to 64 letters, digits and .-_", None, |text| {
                let name = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
                (name && text.len() <= 64).then(|| text.to_owned())
            }),
            // "Minimum items: 1, maximum items: 100": `labels` of generate-jitconfig.
            labels: env.read("RUNNER_LABELS", "1 to 100 labels, separated by commas", None, |text| {
                let labels: Vec<_> = text.split(',').map(|label| label.trim().to_owned()).collect();
                (labels.len() <= 100 && labels.iter().all(|label| !label.is_empty())).then_some(labels)
            }),
            group_id: env.read("RUNNER_GROUP_ID", "a whole number of 1 or more", Some("1"), |text| {
                text.parse().ok().filter(|id| *id >= 1)
            }),
            api_url: env.read(
                "GITHUB_API_URL",
                "a URL such as https://HOST/api/v3",
                Some("https://api.github.com"),
                api_url,
            ),
            idle_timeout: env.seconds("IDLE_TIMEOUT_SECONDS", "600"),
            // template.yaml gives the container 120 s, the most that Fargate has.
            stop_timeout: env.seconds("STOP_TIMEOUT_SECONDS", "110"),
            script: env.read("RUNNER_SCRIPT", "an absolute path", Some("/home/runner/run.sh"), |text| {
                text.starts_with('/').then(|| PathBuf::from(text))
            }),
        };
        if env.mistakes.is_empty() { Ok(settings) } else { Err(Mistakes(env.mistakes)) }
    }
}

/// The token goes to this address, so it is encrypted, unless it stays on this machine.
fn api_url(text: &str) -> Option<String> {
    let uri: http::Uri = text.parse().ok()?;
    let host = uri.host()?;
    let safe = match uri.scheme_str()? {
        "https" => true,
        "http" => matches!(host, "127.0.0.1" | "localhost" | "[::1]"),
        _ => false,
    };
    (safe && uri.query().is_none()).then(|| text.trim_end_matches('/').to_owned())
}

struct Env<G> {
    get: G,
    mistakes: Vec<String>,
}

impl<G: Fn(&str) -> Option<String>> Env<G> {
    /// A variable that is set to nothing counts as unset.
    fn read<T: Default>(
        &mut self,
        name: &str,
        form: &str,
        default: Option<&str>,
        parse: impl Fn(&str) -> Option<T>,
    ) -> T {
        let value = (self.get)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let was = match value.as_deref().or(default) {
            Some(text) => match parse(text) {
                Some(value) => return value,
                None => format!("it is {}", shown(text)),
            },
            None => "it is not set".to_owned(),
        };
        self.mistakes.push(format!("{name} should be {form}, but {was}"));
        T::default()
    }

    fn seconds(&mut self, name: &str, default: &str) -> Duration {
        self.read(name, "a whole number of seconds from 1 to 86400", Some(default), |text| {
            text.parse().ok().filter(|seconds| (1..=86_400).contains(seconds)).map(Duration::from_secs)
        })
    }
}

/// The value of a variable, unless somebody has put a token into the wrong one.
/// "Token prefixes": `ghp_`, `gho_`, `ghu_`, `ghs_`, `ghr_` and `github_pat_` (GitHub's documentation).
fn shown(value: &str) -> String {
    let secret = ["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"];
    if secret.iter().any(|prefix| value.contains(prefix)) || value.contains('@') {
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

    fn get<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    }

    const REQUIRED: [(&str, &str); 3] =
        [("ORGANIZATION", "acme"), ("RUNNER_NAME", "fargate-1-1"), ("RUNNER_LABELS", "self-hosted, cpu=2")];

    #[test]
    fn defaults() {
        let (settings, token) =
            read(get(&REQUIRED), Some(&SecretString::from("ghp_abc\n"))).expect("no mistake");
        assert_eq!(token.expose_secret(), "ghp_abc");
        expect_test::expect![[r#"
            Settings {
                organization: "acme",
                name: "fargate-1-1",
                labels: [
                    "self-hosted",
                    "cpu=2",
                ],
                group_id: 1,
                api_url: "https://api.github.com",
                idle_timeout: 600s,
                stop_timeout: 110s,
                script: "/home/runner/run.sh",
            }
        "#]]
        .assert_debug_eq(&settings);
    }

    #[test]
    fn all_mistakes_are_reported_together_and_no_token_is_shown() {
        let environment = [
            ("ORGANIZATION", "ghp_put_here_by_mistake!"),
            ("RUNNER_NAME", "a b"),
            ("RUNNER_LABELS", "x,,y"),
            ("RUNNER_GROUP_ID", "Default"),
            ("GITHUB_API_URL", "http://ghes.acme.test/api/v3"),
            ("IDLE_TIMEOUT_SECONDS", "10m"),
            ("STOP_TIMEOUT_SECONDS", "0"),
            ("RUNNER_SCRIPT", "run.sh"),
        ];
        let secret = SecretString::from("two words");
        let mistakes = read(get(&environment), Some(&secret)).expect_err("mistakes").to_string();
        expect_test::expect![[r#"environment: ORGANIZATION should be the organisation's login, letters, digits and hyphens, but it is something that may be a token; RUNNER_NAME should be a name of 1 to 64 letters, digits and .-_, but it is "a b"; RUNNER_LABELS should be 1 to 100 labels, separated by commas, but it is "x,,y"; RUNNER_GROUP_ID should be a whole number of 1 or more, but it is "Default"; GITHUB_API_URL should be a URL such as https://HOST/api/v3, but it is "http://ghes.acme.test/api/v3"; IDLE_TIMEOUT_SECONDS should be a whole number of seconds from 1 to 86400, but it is "10m"; STOP_TIMEOUT_SECONDS should be a whole number of seconds from 1 to 86400, but it is "0"; RUNNER_SCRIPT should be an absolute path, but it is "run.sh"; ACCESS_TOKEN should be a token as plain text that may register runners with the organisation, but it is 9 characters, some of which no token has"#]].assert_eq(&mistakes);
        let unset = read(get(&[]), None).expect_err("mistakes").to_string();
        expect_test::expect!["environment: ORGANIZATION should be the organisation's login, letters, digits and hyphens, but it is not set; RUNNER_NAME should be a name of 1 to 64 letters, digits and .-_, but it is not set; RUNNER_LABELS should be 1 to 100 labels, separated by commas, but it is not set; ACCESS_TOKEN should be a token as plain text that may register runners with the organisation, but it is not set"].assert_eq(&unset);
        let json = SecretString::from(r#"{"app_id": 1}"#);
        let mistakes = read(get(&REQUIRED), Some(&json)).expect_err("mistakes").to_string();
        expect_test::expect!["environment: ACCESS_TOKEN should be a token as plain text that may register runners with the organisation, but it looks like JSON"].assert_eq(&mistakes);
    }

    #[test]
    fn the_token_is_sent_in_the_clear_to_this_machine_only() {
        for (text, expected) in [
            ("https://ghes.acme.test/api/v3/", Some("https://ghes.acme.test/api/v3")),
            ("http://127.0.0.1:8080", Some("http://127.0.0.1:8080")),
            ("http://localhost:8080", Some("http://localhost:8080")),
            ("http://api.github.com", None),
            ("http://127.0.0.1.acme.test", None),
            ("ftp://127.0.0.1", None),
            ("https://ghes.acme.test?x", None),
            ("ghes.acme.test", None),
            ("", None),
        ] {
            assert_eq!(api_url(text).as_deref(), expected, "{text}");
        }
    }
}
