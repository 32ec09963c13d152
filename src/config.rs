//! The functions' settings.

mod outside;

use time::Duration;

use crate::{
    env::{Env, Mistakes},
    fargate::fleet::{Capacity, Fleet, Network},
    ids::RunnerNames,
    intake::{
        classes::StackPool,
        glob::RepositoryGlob,
        labels::{MOST_LABELS, Most, Offered, flaw},
        policy::Policy,
    },
    ports::Scope,
};

pub use self::outside::{Outside, ProxyUrl};

/// How GitHub is asked, and with which credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitHubSettings {
    /// `GITHUB_API_URL`, without a slash at its end.
    pub api_url: String,
    /// `GITHUB_SECRET_ARN`.
    pub secret_arn: String,
    /// `RUNNER_SCOPE`.
    pub scope: Scope,
    /// `RUNNER_GROUP_ID`.
    pub runner_group_id: u64,
}

/// The queues.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Queues {
    /// `DEAD_LETTER_QUEUE_URL`.
    pub dead_letter: Option<String>,
    /// `JOB_QUEUE_URL`.
    pub jobs: Option<String>,
    /// `AUTHOR_QUEUE_URL`.
    pub author: Option<String>,
}

/// `RUNNER_CLASSES`, and the labels that a job of any class may have beside its class's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClassesConfig {
    /// The document, or where it is; `None`: there is one kind of runner, that of the other variables.
    pub document: Option<ClassesDocument>,
    /// `RUNNER_LABELS`.
    pub common: Vec<String>,
}

/// A document of runner classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClassesDocument {
    /// The document itself.
    Text(String),
    /// An object in S3.
    S3 {
        /// Its bucket.
        bucket: String,
        /// Its key.
        key: String,
    },
}

/// The settings of `dispatch`.
#[derive(Debug, Clone)]
pub struct DispatchConfig {
    /// `ECS_CLUSTER`.
    pub cluster: String,
    /// What tasks are made of.
    pub fleet: Fleet,
    /// Their network.
    pub network: Network,
    /// Which jobs are served.
    pub policy: Policy,
    /// `RUNNER_CLASSES`.
    pub classes: ClassesConfig,
    /// The stack's own warm pool, where pools can be filled.
    pub pool: Option<StackPool>,
    /// `MAX_RUNNERS`; 0 is no limit.
    pub max_runners: u32,
    /// `MAX_RUNNERS_PER_REPOSITORY`; 0 is no limit.
    pub max_runners_per_repository: u32,
    /// `DISPATCH_MAX_CONCURRENCY`: dispatch functions at a time.
    pub max_concurrency: u32,
    /// `MAX_ATTEMPTS`.
    pub max_attempts: u32,
    /// `CHECK_RUNS`.
    pub check_runs: bool,
    /// GitHub; `None` when the containers mint their configurations themselves.
    pub github: Option<GitHubSettings>,
    /// The queues.
    pub queues: Queues,
    /// The way to GitHub and AWS.
    pub outside: Outside,
    /// The function's name, for its metrics.
    pub function: String,
}

/// The settings of `reconcile`.
#[derive(Debug, Clone)]
pub struct ReconcileConfig {
    /// `ECS_CLUSTER`.
    pub cluster: String,
    /// Which jobs are served.
    pub policy: Policy,
    /// `RUNNER_CLASSES`.
    pub classes: ClassesConfig,
    /// GitHub; `None` when the containers mint their configurations themselves.
    pub github: Option<GitHubSettings>,
    /// The queues.
    pub queues: Queues,
    /// `IDLE_TIMEOUT_SECONDS`.
    pub idle_timeout: Duration,
    /// `DRAINED`: no runner is kept ready.
    pub drained: bool,
    /// `MAX_ATTEMPTS`.
    pub max_attempts: u32,
    /// The warm pool, if there is one.
    pub pool: Option<PoolConfig>,
    /// The way to GitHub and AWS.
    pub outside: Outside,
    /// The function's name, for its metrics.
    pub function: String,
}

/// The warm pools: what `reconcile` needs to start runners itself.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// `WARM_POOL_SIZE`: idle runners kept ready; 0 where only classes have some.
    pub size: u32,
    /// `MAX_RUNNERS`; 0 is no limit.
    pub max_runners: u32,
    /// `RUNNER_LABELS`, which each of them gets.
    pub labels: Vec<String>,
    /// What tasks are made of.
    pub fleet: Fleet,
    /// Their network.
    pub network: Network,
}

/// The settings of `author`.
#[derive(Debug, Clone)]
pub struct AuthorConfig {
    /// `ECS_CLUSTER`.
    pub cluster: String,
    /// `RUNNER_NAME_PREFIX`.
    pub names: RunnerNames,
    /// GitHub.
    pub github: GitHubSettings,
    /// `RERUN_INTERRUPTED`: whether a job whose runner Fargate Spot took back is run again.
    pub reruns: bool,
    /// `CHECK_RUNS`: whether a job's author is told why it has no runner.
    pub check_runs: bool,
    /// The queues: its own alone.
    pub queues: Queues,
    /// The way to GitHub and AWS.
    pub outside: Outside,
    /// The function's name, for its metrics.
    pub function: String,
}

/// The settings of `webhook`.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// `EVENT_BUS_NAME`.
    pub event_bus: String,
    /// `WEBHOOK_SECRET_ARN`.
    pub secret_arn: String,
    /// Which jobs are served.
    pub policy: Policy,
    /// `CHECK_RUNS`: slips of the pen are passed on, since their authors are told.
    pub check_runs: bool,
    /// `RUNNER_CLASSES`.
    pub classes: ClassesConfig,
    /// The way to GitHub and AWS.
    pub outside: Outside,
    /// The function's name, for its metrics.
    pub function: String,
}

impl DispatchConfig {
    /// Reads the settings through `get`, e.g. `|name| std::env::var(name).ok()`.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, Mistakes> {
        let mut env = Env::new(&get);
        let (github, pool_size) = (env.github(), env.number("WARM_POOL_SIZE", 0, 0));
        let config = DispatchConfig {
            cluster: env.required("ECS_CLUSTER", "the name or ARN of an ECS cluster"),
            fleet: Fleet { task_definition_arm64: env.optional("TASK_DEFINITION_ARM64"), ..env.fleet() },
            network: env.network(),
            policy: Policy {
                most: env.most(),
                ..env.policy(env.optional("TASK_DEFINITION_ARM64").is_some())
            },
            classes: env.classes(),
            pool: env
                .may_keep_ready(github.as_ref())
                .then(|| StackPool { size: pool_size, labels: env.labels_of_one() }),
            max_runners: env.number("MAX_RUNNERS", 0, 0),
            max_runners_per_repository: env.number("MAX_RUNNERS_PER_REPOSITORY", 0, 0),
            max_concurrency: env.number("DISPATCH_MAX_CONCURRENCY", 5, 1),
            max_attempts: env.number("MAX_ATTEMPTS", 5, 1),
            check_runs: env.flag("CHECK_RUNS"),
            github,
            queues: env.queues(),
            outside: env.outside(),
            function: env.function(),
        };
        env.finish(config)
    }
}

impl ReconcileConfig {
    /// Reads the settings through `get`.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, Mistakes> {
        let mut env = Env::new(&get);
        let pool_size = env.number("WARM_POOL_SIZE", 0, 0);
        let github = env.github();
        if pool_size > 0 && github.is_none() {
            env.mistake(
                "GITHUB_SECRET_ARN",
                "the ARN of a secret, since WARM_POOL_SIZE is set: only whoever mints \
                knows which runners are idle",
            );
        }
        let scope = github.as_ref().map(|github| &github.scope);
        if pool_size > 0 && scope == Some(&Scope::Repo) {
            env.mistake("RUNNER_SCOPE", "org or enterprise/<slug>, since WARM_POOL_SIZE is set");
        }
        if pool_size > 0 && scope == Some(&Scope::Org) && env.optional("ORGANIZATION").is_none() {
            env.mistake("ORGANIZATION", "the organisation's login, since WARM_POOL_SIZE is set");
        }
        let classes_may_fill = env.may_keep_ready(github.as_ref())
            && ["RUNNER_CLASSES", "SUBNET_IDS"].iter().all(|name| env.optional(name).is_some());
        let config = ReconcileConfig {
            cluster: env.required("ECS_CLUSTER", "the name or ARN of an ECS cluster"),
            // Which architectures dispatch offers does not matter here: what runs was let in already.
            policy: env.policy(true),
            classes: env.classes(),
            queues: env.queues(),
            idle_timeout: Duration::seconds(env.number("IDLE_TIMEOUT_SECONDS", 600, 60).into()),
            drained: env.flag("DRAINED"),
            max_attempts: env.number("MAX_ATTEMPTS", 5, 1),
            pool: (pool_size > 0 || classes_may_fill).then(|| PoolConfig {
                size: pool_size,
                max_runners: env.number("MAX_RUNNERS", 0, 0),
                labels: env.pool_labels(),
                fleet: env.fleet(),
                network: env.network(),
            }),
            github,
            outside: env.outside(),
            function: env.function(),
        };
        env.finish(config)
    }
}

impl AuthorConfig {
    /// Reads the settings through `get`.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, Mistakes> {
        let mut env = Env::new(&get);
        let scope = env.parse("RUNNER_SCOPE", "org, repo or enterprise/<slug>", Scope::Org, scope);
        let config = AuthorConfig {
            cluster: env.required("ECS_CLUSTER", "the name or ARN of an ECS cluster"),
            names: env.names(),
            github: GitHubSettings {
                api_url: env.github_api_url(),
                secret_arn: env.required("GITHUB_SECRET_ARN", "the ARN of a secret in Secrets Manager"),
                scope,
                // It registers no runner.
                runner_group_id: 1,
            },
            reruns: env.number("RERUN_INTERRUPTED", 1, 0) > 0,
            check_runs: env.flag("CHECK_RUNS"),
            queues: Queues { author: env.author_queue(), ..Queues::default() },
            outside: env.outside(),
            function: env.function(),
        };
        env.finish(config)
    }
}

impl WebhookConfig {
    /// Reads the settings through `get`.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, Mistakes> {
        let mut env = Env::new(&get);
        let config = WebhookConfig {
            event_bus: env.or("EVENT_BUS_NAME", "git-actions-event-bus"),
            secret_arn: env.required("WEBHOOK_SECRET_ARN", "the ARN of a secret in Secrets Manager"),
            policy: env.policy(env.optional("TASK_DEFINITION_ARM64").is_some()),
            check_runs: env.flag("CHECK_RUNS"),
            classes: env.classes(),
            outside: env.outside(),
            function: env.function(),
        };
        env.finish(config)
    }
}

/// GitHub allows 64 characters, of which `-pool-`, a time, a hyphen and a number may take 37.
const LONGEST_PREFIX: usize = 27;
const DEFAULT_LABELS: &str = "self-hosted,linux,x64,fargate";

/// What several functions read alike.
impl Env<'_> {
    fn ids(&mut self, name: &str, prefix: &str) -> Vec<String> {
        let form = format!("a list such as {prefix}0123456789abcdef0, separated by commas");
        if self.optional(name).is_none() {
            self.mistake(name, &form);
            return Vec::new();
        }
        let ids = self.list(name, "");
        if ids.iter().any(|id| !id.starts_with(prefix)) {
            self.mistake(name, &form);
        }
        ids
    }

    /// Without a definition for arm64: the warm pool has none.
    fn fleet(&mut self) -> Fleet {
        let capacities = self.parse(
            "CAPACITY",
            "FARGATE, FARGATE_SPOT or both in order of preference, separated by a comma",
            vec![Capacity::LaunchType],
            |text| text.split(',').map(|name| capacity(name.trim())).collect(),
        );
        Fleet {
            task_definition: self.or("TASK_DEFINITION", "gha-jit-self-hosted-fargate-runner"),
            task_definition_arm64: None,
            container: self.or("CONTAINER_NAME", "runner"),
            capacities,
        }
    }

    fn network(&mut self) -> Network {
        Network {
            subnets: self.ids("SUBNET_IDS", "subnet-"),
            security_groups: self.ids("SECURITY_GROUP_IDS", "sg-"),
            public_ip: self.parse("ASSIGN_PUBLIC_IP", "ENABLED or DISABLED", true, |text| match text {
                "ENABLED" => Some(true),
                "DISABLED" => Some(false),
                _ => None,
            }),
        }
    }

    fn policy(&mut self, arm64: bool) -> Policy {
        let repositories = self.list("ALLOWED_REPOSITORIES", "*");
        if repositories.iter().any(|glob| glob != "*" && !glob.contains('/')) {
            self.mistake("ALLOWED_REPOSITORIES", "a list of owner/repo patterns such as acme/*");
        }
        let labels = self.list("RUNNER_LABELS", DEFAULT_LABELS);
        if labels.iter().any(|label| label.contains('/')) {
            self.mistake("RUNNER_LABELS", "labels of which none has a / in it, which parts labels");
        }
        Policy {
            names: self.names(),
            offered: Offered::new(labels),
            organization: self.optional("ORGANIZATION"),
            repositories: repositories.iter().map(|glob| RepositoryGlob::new(glob)).collect(),
            allow_public: self.flag("ALLOW_PUBLIC_REPOSITORIES"),
            arm64,
            most: Most::default(),
        }
    }

    fn classes(&mut self) -> ClassesConfig {
        let form = "a document of runner classes, or where it is: s3://BUCKET/KEY";
        let document = self.parse("RUNNER_CLASSES", form, None, |text| classes_document(text).map(Some));
        let common = self.list("RUNNER_LABELS", DEFAULT_LABELS);
        if document.is_some() && common.iter().any(|label| label == "*") {
            self.mistake(
                "RUNNER_LABELS",
                "labels that jobs of any class may have, since RUNNER_CLASSES is set",
            );
        }
        ClassesConfig { document, common }
    }

    fn names(&mut self) -> RunnerNames {
        let RunnerNames(default) = RunnerNames::default();
        let prefix = self.optional("RUNNER_NAME_PREFIX").unwrap_or(default);
        let fits = prefix.len() <= LONGEST_PREFIX
            && prefix.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !fits {
            self.mistake("RUNNER_NAME_PREFIX", "1 to 27 letters, digits, hyphens, dots or underscores");
        }
        // `acme-pool-1-1` is also what a stack with the prefix `acme` calls a runner of its warm pool.
        if prefix.ends_with("-pool") {
            let form = "a prefix that does not end in -pool: a stack with the prefix before that would take its \
                        runners for those of its own warm pool";
            self.mistake("RUNNER_NAME_PREFIX", form);
        }
        RunnerNames(prefix)
    }

    fn most(&mut self) -> Most {
        let Most { vcpu, memory_gib, disk_gib } = Most::default();
        Most {
            vcpu: self.number_up_to("MAX_CPU", vcpu),
            memory_gib: self.number_up_to("MAX_MEMORY", memory_gib),
            disk_gib: self.number_up_to("MAX_DISK", disk_gib),
        }
    }

    /// Its default is the most that it can be.
    fn number_up_to(&mut self, name: &str, most: u32) -> u32 {
        let form = format!("a whole number from 1 to {most}");
        self.parse(name, &form, most, |text| text.parse().ok().filter(|number| (1..=most).contains(number)))
    }

    /// Idle runners have a place, and somebody knows which are idle.
    fn may_keep_ready(&self, github: Option<&GitHubSettings>) -> bool {
        match github.map(|github| &github.scope) {
            Some(Scope::Org) => self.optional("ORGANIZATION").is_some(),
            Some(Scope::Enterprise(_)) => true,
            Some(Scope::Repo) | None => false,
        }
    }

    /// All that is offered, but for the architecture that a runner of the pool has not.
    fn labels_of_one(&mut self) -> Vec<String> {
        let mut labels = self.list("RUNNER_LABELS", DEFAULT_LABELS);
        labels.retain(|label| !label.eq_ignore_ascii_case("arm64"));
        labels
    }

    /// Each of its runners gets them.
    fn pool_labels(&mut self) -> Vec<String> {
        let labels = self.labels_of_one();
        let can_have = |label: &String| label != "*" && flaw(label).is_none();
        if !labels.iter().all(can_have) || !(1..=MOST_LABELS).contains(&labels.len()) {
            let form = "1 to 100 labels that a runner can have, since WARM_POOL_SIZE is set (* is none)";
            self.mistake("RUNNER_LABELS", form);
        }
        labels
    }

    fn github(&mut self) -> Option<GitHubSettings> {
        let scope = self.parse("RUNNER_SCOPE", "org, repo or enterprise/<slug>", Scope::Org, scope);
        let runner_group_id = u64::from(self.number("RUNNER_GROUP_ID", 1, 1));
        let api_url = self.github_api_url();
        let secret_arn = self.optional("GITHUB_SECRET_ARN")?;
        Some(GitHubSettings { api_url, secret_arn, scope, runner_group_id })
    }

    fn queues(&mut self) -> Queues {
        Queues {
            dead_letter: self.queue("DEAD_LETTER_QUEUE_URL"),
            jobs: self.queue("JOB_QUEUE_URL"),
            author: self.author_queue(),
        }
    }

    fn author_queue(&mut self) -> Option<String> {
        self.queue("AUTHOR_QUEUE_URL")
    }

    fn queue(&mut self, name: &str) -> Option<String> {
        let url = |text: &str| text.contains("://").then(|| Some(text.to_owned()));
        self.parse(name, "the URL of an SQS queue", None, url)
    }

    /// Lambda sets it; elsewhere the metrics still need a name.
    fn function(&self) -> String {
        self.or("AWS_LAMBDA_FUNCTION_NAME", "local")
    }
}

fn classes_document(text: &str) -> Option<ClassesDocument> {
    if text.starts_with('{') {
        return Some(ClassesDocument::Text(text.to_owned()));
    }
    let (bucket, key) = text.strip_prefix("s3://")?.split_once('/')?;
    let is_bucket = (3..=63).contains(&bucket.len())
        && bucket.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c));
    let s3 = || ClassesDocument::S3 { bucket: bucket.to_owned(), key: key.to_owned() };
    (is_bucket && !key.is_empty()).then(s3)
}

fn capacity(name: &str) -> Option<Capacity> {
    match name {
        "FARGATE" => Some(Capacity::Fargate),
        "FARGATE_SPOT" => Some(Capacity::FargateSpot),
        _ => None,
    }
}

fn scope(text: &str) -> Option<Scope> {
    match text {
        "org" => Some(Scope::Org),
        "repo" => Some(Scope::Repo),
        _ => {
            let slug = text.strip_prefix("enterprise/")?;
            let is_slug = !slug.is_empty() && !slug.contains('/');
            is_slug.then(|| Scope::Enterprise(slug.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests;
