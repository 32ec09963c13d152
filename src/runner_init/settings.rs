//! What the container's environment says.

use std::{path::PathBuf, time::Duration};

use secrecy::{ExposeSecret, SecretString};

use crate::{
    config::Outside,
    env::{Env, Mistakes},
};

/// The organisation's token: never in a stage's environment but the first one's.
pub(super) const ACCESS_TOKEN: &str = "ACCESS_TOKEN";

/// What else this program reads. None of it is for the runner, and jobs have no use for it: some of the names
/// (`RUNNER_NAME`, `GITHUB_API_URL`) are set for them by the runner itself.
pub(super) const OURS: [&str; 11] = [
    "ORGANIZATION",
    "RUNNER_NAME",
    "RUNNER_LABELS_JSON",
    "RUNNER_LABELS",
    "RUNNER_GROUP_ID",
    "GITHUB_API_URL",
    "IDLE_TIMEOUT_SECONDS",
    "STOP_TIMEOUT_SECONDS",
    "RUNNER_SCRIPT",
    "CA_CERTIFICATES",
    "RUST_LOG",
];

/// The runner reads these in either case, so that is what images and task definitions have.
pub(super) fn also_in_lower_case(name: &str) -> Option<&'static str> {
    match name {
        "HTTPS_PROXY" => Some("https_proxy"),
        "NO_PROXY" => Some("no_proxy"),
        _ => None,
    }
}

/// Everything but the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    /// `ORGANIZATION`.
    pub organization: String,
    /// `RUNNER_NAME`.
    pub name: String,
    /// `RUNNER_LABELS_JSON`, or `RUNNER_LABELS`.
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
    /// The way to GitHub.
    pub outside: Outside,
}

/// Reads the environment and looks at the token, and reports the mistakes of both together.
pub(super) fn read(
    get: impl Fn(&str) -> Option<String>,
    token: Option<&SecretString>,
) -> Result<(Settings, SecretString), Mistakes> {
    let mut env = Env::new(&get);
    let settings = Settings::from(&mut env);
    let token = self::token(&mut env, token);
    env.finish((settings, token))
}

/// A secret that was made with `echo` ends in a line break, so white space around the token is no mistake.
fn token(env: &mut Env<'_>, token: Option<&SecretString>) -> SecretString {
    let text = token.map(|token| token.expose_secret().trim()).unwrap_or_default();
    let was = if text.is_empty() {
        "it is not set".to_owned()
    } else if text.starts_with('{') {
        "it looks like JSON".to_owned()
    } else if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte)) {
        format!("it is {} characters, some of which no token has", text.chars().count())
    } else {
        return text.into();
    };
    let form = "a token as plain text that may register runners with the organisation";
    env.mistake_for(ACCESS_TOKEN, form, &was);
    SecretString::default()
}

impl Settings {
    /// Reads everything but the token.
    pub(super) fn read(get: impl Fn(&str) -> Option<String>) -> Result<Settings, Mistakes> {
        let mut env = Env::new(&get);
        let settings = Settings::from(&mut env);
        env.finish(settings)
    }

    fn from(env: &mut Env<'_>) -> Settings {
        let made_of = |text: &str, others: &[u8]| {
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte))
        };
        Settings {
            organization: env.required_as(
                "ORGANIZATION",
                "the organisation's login, letters, digits and hyphens",
                |text| made_of(text, b"-_").then(|| text.to_owned()),
            ),
            name: env.required_as("RUNNER_NAME", "a name of 1 to 64 letters, digits and .-_", |text| {
                (made_of(text, b".-_") && text.len() <= 64).then(|| text.to_owned())
            }),
            labels: labels(env),
            group_id: env.number("RUNNER_GROUP_ID", 1, 1).into(),
            api_url: env.github_api_url(),
            idle_timeout: seconds(env, "IDLE_TIMEOUT_SECONDS", 600),
            // template.yaml gives the container 120 s, the most that Fargate has.
            stop_timeout: seconds(env, "STOP_TIMEOUT_SECONDS", 110),
            script: env.parse("RUNNER_SCRIPT", "an absolute path", "/home/runner/run.sh".into(), |text| {
                text.starts_with('/').then(|| PathBuf::from(text))
            }),
            outside: env.outside(),
        }
    }
}

fn seconds(env: &mut Env<'_>, name: &str, default: u64) -> Duration {
    let form = "a whole number of seconds from 1 to 86400";
    env.parse(name, form, Duration::from_secs(default), |text| {
        text.parse().ok().filter(|seconds| (1..=86_400).contains(seconds)).map(Duration::from_secs)
    })
}

/// By a dispatch of a release before, which starts tasks while one is deployed: separated by commas.
fn labels(env: &mut Env<'_>) -> Vec<String> {
    // "Minimum items: 1, maximum items: 100": `labels` of generate-jitconfig.
    let are_labels = |labels: &Vec<String>| {
        (1..=100).contains(&labels.len()) && labels.iter().all(|label| !label.is_empty())
    };
    if env.optional("RUNNER_LABELS").is_some() {
        return env.required_as("RUNNER_LABELS", "1 to 100 labels, separated by commas", |text| {
            Some(text.split(',').map(|label| label.trim().to_owned()).collect()).filter(are_labels)
        });
    }
    env.required_as("RUNNER_LABELS_JSON", "a list of 1 to 100 labels in JSON", |text| {
        serde_json::from_str(text).ok().filter(are_labels)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fargate::{
        fleet::Capacity,
        request::{Identity, TaskRequest},
    };

    fn get<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    }

    const REQUIRED: [(&str, &str); 3] = [
        ("ORGANIZATION", "acme"),
        ("RUNNER_NAME", "fargate-1-1"),
        ("RUNNER_LABELS_JSON", "[\"self-hosted\",\"cpu=2\"]"),
    ];

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
                outside: Outside {
                    proxy: None,
                    no_proxy: "",
                    certificates: [],
                },
            }
        "#]]
        .assert_debug_eq(&settings);
    }

    #[test]
    fn all_mistakes_are_reported_together_and_no_token_is_shown() {
        let environment = [
            ("ORGANIZATION", "ghp_put_here_by_mistake!"),
            ("RUNNER_NAME", "a b"),
            ("RUNNER_LABELS_JSON", "x,,y"),
            ("RUNNER_GROUP_ID", "Default"),
            ("GITHUB_API_URL", "http://ghes.acme.test/api/v3"),
            ("IDLE_TIMEOUT_SECONDS", "10m"),
            ("STOP_TIMEOUT_SECONDS", "0"),
            ("RUNNER_SCRIPT", "run.sh"),
        ];
        let secret = SecretString::from("two words");
        let mistakes = read(get(&environment), Some(&secret)).expect_err("mistakes").to_string();
        expect_test::expect![[r#"environment: ORGANIZATION should be the organisation's login, letters, digits and hyphens, but it is something that may be a token; RUNNER_NAME should be a name of 1 to 64 letters, digits and .-_, but it is "a b"; RUNNER_LABELS_JSON should be a list of 1 to 100 labels in JSON, but it is "x,,y"; RUNNER_GROUP_ID should be a whole number of 1 or more, but it is "Default"; GITHUB_API_URL should be a URL such as https://HOST/api/v3, but it is "http://ghes.acme.test/api/v3"; IDLE_TIMEOUT_SECONDS should be a whole number of seconds from 1 to 86400, but it is "10m"; STOP_TIMEOUT_SECONDS should be a whole number of seconds from 1 to 86400, but it is "0"; RUNNER_SCRIPT should be an absolute path, but it is "run.sh"; ACCESS_TOKEN should be a token as plain text that may register runners with the organisation, but it is 9 characters, some of which no token has"#]].assert_eq(&mistakes);
        let unset = read(get(&[]), None).expect_err("mistakes").to_string();
        expect_test::expect!["environment: ORGANIZATION should be the organisation's login, letters, digits and hyphens, but it is not set; RUNNER_NAME should be a name of 1 to 64 letters, digits and .-_, but it is not set; RUNNER_LABELS_JSON should be a list of 1 to 100 labels in JSON, but it is not set; ACCESS_TOKEN should be a token as plain text that may register runners with the organisation, but it is not set"].assert_eq(&unset);
        let json = SecretString::from(r#"{"app_id": 1}"#);
        let mistakes = read(get(&REQUIRED), Some(&json)).expect_err("mistakes").to_string();
        expect_test::expect!["environment: ACCESS_TOKEN should be a token as plain text that may register runners with the organisation, but it looks like JSON"].assert_eq(&mistakes);
    }

    #[test]
    fn labels_arrive_as_they_are() {
        let read = |name: &str, text: &str| {
            let pairs = [REQUIRED[0], REQUIRED[1], (name, text)];
            Settings::read(get(&pairs)).ok().map(|settings| settings.labels)
        };
        let many = |count| serde_json::json!(vec!["x"; count]).to_string();
        let (json, before) = ("RUNNER_LABELS_JSON", "RUNNER_LABELS");
        for (name, text, want) in [
            (json, r#"["a,b"," c\"","ä"]"#, Some(vec!["a,b", " c\"", "ä"])),
            (json, &many(100), Some(vec!["x"; 100])),
            (json, &many(101), None),
            (json, "[]", None),
            (json, r#"["a",""]"#, None),
            (json, r#"["a",1]"#, None),
            (json, "a,b", None),
            (before, "a, b", Some(vec!["a", "b"])),
            (before, "a,,b", None),
        ] {
            let want = want.map(|labels| labels.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(read(name, text), want, "{name}: {text}");
        }
    }

    proptest! {
        #[test]
        fn what_dispatch_writes_is_read_back(labels in prop::collection::vec(".{1,20}", 1..8)) {
            let identity = Identity::Named { name: "fargate-1-1".into(), labels: labels.clone() };
            let request = TaskRequest {
                client_token: String::new(),
                started_by: String::new(),
                task_definition: String::new(),
                capacity: Capacity::LaunchType,
                network: None,
                size: None,
                disk_gib: None,
                identity,
                tags: Vec::new(),
            };
            let mut environment = request.environment();
            environment.push(("ORGANIZATION", "acme".into()));
            let get = |name: &str| {
                environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone())
            };
            prop_assert_eq!(Settings::read(get).map(|settings| settings.labels), Ok(labels));
        }
    }
}
