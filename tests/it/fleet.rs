//! The functions with their real adapters, as the template wires them, in front of the test world.

use std::{collections::BTreeMap, future::pending};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_smithy_types::retry::RetryConfig;
use gha_fargate_runners::{
    adapters::{
        self,
        ecs::{Ecs, EcsStarter},
        github::{Errand, GitHub},
        http::Http,
        secrets::Secret,
        sqs::Sqs,
    },
    config::{AuthorConfig, DispatchConfig, GitHubSettings, ReconcileConfig},
    flows::{
        author::Author,
        dispatch::Dispatcher,
        memory::Memory,
        reconcile::{Pool, Reconciler},
    },
    lambda::{batch, metrics::Metrics},
    ports::Scope,
};
use serde_json::{Value, value::RawValue};
use time::{Duration, OffsetDateTime};

use crate::http::{World, WorldClock};
use crate::model::aws::REGION;

type Minter = GitHub<Secret, WorldClock>;

/// The functions.
pub struct Fleet {
    pub dispatcher: Dispatcher<Minter, EcsStarter, Sqs, WorldClock>,
    pub reconciler: Reconciler<Minter, Ecs, EcsStarter, Sqs, WorldClock>,
    /// Where there is a queue for it.
    pub author: Option<Author<Minter, Ecs, Sqs, WorldClock>>,
    clock: WorldClock,
}

impl Fleet {
    /// With the world's own settings: dispatcher-minted, as a GitHub App.
    pub async fn new(world: &World) -> Fleet {
        Fleet::with(world, &[]).await
    }

    /// With these variables of the environment set otherwise; an empty value unsets one.
    pub async fn with(world: &World, changes: &[(&str, &str)]) -> Fleet {
        let mut environment: BTreeMap<String, String> =
            world.environment().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        environment.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let get = |name: &str| environment.get(name).cloned();
        let config = DispatchConfig::read(get).expect("dispatch's settings");
        let reconcile = ReconcileConfig::read(get).expect("reconcile's settings");
        let http = Http::new();
        let aws = sdk_config(world, &http);
        let github = |settings: GitHubSettings| {
            let secret = Secret::new(&aws, settings.secret_arn);
            let (url, scope) = (settings.api_url, settings.scope);
            GitHub::with_clock(http.clone(), url, scope, settings.runner_group_id, secret, world.clock())
        };
        let ecs = Ecs::new(&aws, config.cluster, config.policy.names.clone());
        let starter =
            ecs.clone().starter(config.fleet.container.clone(), &config.network).expect("a network");
        let pool = reconcile.pool.map(|pool| Pool {
            size: pool.size,
            max_runners: pool.max_runners,
            labels: pool.labels,
            ecs: ecs.clone().starter(pool.fleet.container.clone(), &pool.network).expect("a network"),
            fleet: pool.fleet,
            network: pool.network,
        });
        let author = reconcile.queues.author.as_ref().map(|_| {
            let author = AuthorConfig::read(get).expect("the author's settings");
            Author {
                github: github(author.github).on(Errand::Author { checks: author.check_runs }),
                ecs: ecs.clone(),
                queue: Sqs::new(&aws, author.queues),
                clock: world.clock(),
                names: author.names,
                reruns: author.reruns,
                check_runs: author.check_runs,
                board: Default::default(),
                said_at: Default::default(),
            }
        });
        Fleet {
            author,
            dispatcher: Dispatcher {
                github: config.github.map(github),
                ecs: starter,
                queue: Sqs::new(&aws, config.queues.clone()),
                clock: world.clock(),
                policy: config.policy,
                document: adapters::document(config.classes, &http, &aws),
                network: config.network,
                fleet: config.fleet,
                max_runners_per_repository: config.max_runners_per_repository,
                max_concurrency: config.max_concurrency,
                pool: config.pool,
                max_runners: config.max_runners,
                max_attempts: config.max_attempts,
                check_runs: config.check_runs,
                memory: Memory::default(),
            },
            reconciler: Reconciler {
                scope: reconcile.github.as_ref().map_or(Scope::Org, |settings| settings.scope.clone()),
                github: reconcile.github.map(github),
                ecs,
                queue: Sqs::new(&aws, reconcile.queues),
                clock: world.clock(),
                policy: reconcile.policy,
                document: adapters::document(reconcile.classes, &http, &aws),
                cluster: reconcile.cluster,
                idle_timeout: reconcile.idle_timeout,
                drained: reconcile.drained,
                max_attempts: reconcile.max_attempts,
                memory: Memory::default(),
                pool,
            },
            clock: world.clock(),
        }
    }

    /// The world's time.
    pub fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }

    /// Lambda's answer to a batch, which never is an error.
    pub async fn dispatch(&self, event: &Value) -> Value {
        self.invoke(event).await.0.expect("a batch never fails")
    }

    /// Any invocation of dispatch: its answer or error, and what was counted.
    pub async fn invoke(&self, event: &Value) -> (Result<Value, batch::NotDone>, Metrics) {
        let batch = self.dispatcher.budget().await;
        let handle = |body, receives| self.dispatcher.handle(body, receives, &batch);
        batch::invoke(&raw(event), &self.dispatcher.queue, &self.clock, pending(), handle).await
    }

    /// Lambda's answer to a batch of the lifecycle queue.
    pub async fn reconcile(&self, event: &Value) -> Value {
        self.reconcile_until(event, self.now() + Duration::seconds(120)).await.0
    }

    /// The same with so much time, and what was counted.
    pub async fn reconcile_until(&self, event: &Value, deadline: OffsetDateTime) -> (Value, Metrics) {
        let handle = |body, received| self.reconciler.handle(body, received, deadline);
        let (answer, mut metrics) =
            batch::invoke(&raw(event), &self.reconciler.queue, &self.clock, pending(), handle).await;
        let beside = self.reconciler.memory.take_counts();
        beside.into_iter().for_each(|(metric, count)| metrics.add(metric, count));
        (answer.expect("a batch never fails"), metrics)
    }
}

/// The functions that a story of the author needs.
impl Fleet {
    /// Lambda's answer to a batch of the author's queue.
    pub async fn tell_author(&self, event: &Value) -> (Value, Metrics) {
        let author = self.author.as_ref().expect("AUTHOR_QUEUE_URL");
        let handle = |body, _| author.handle(body);
        let (answer, metrics) =
            batch::invoke(&raw(event), &author.queue, &self.clock, pending(), handle).await;
        (answer.expect("a batch never fails"), metrics)
    }
}

/// Each call is made once: what the SDK would repeat by itself is the story's business.
pub fn sdk_config(world: &World, http: &Http) -> SdkConfig {
    let credentials = Credentials::new("AKIAEXAMPLE", "example", None, None, "world");
    SdkConfig::builder()
        .http_client(http.for_aws())
        .endpoint_url(world.url())
        .region(Region::new(REGION))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .behavior_version(BehaviorVersion::latest())
        .retry_config(RetryConfig::disabled())
        .build()
}

fn raw(event: &Value) -> Box<RawValue> {
    RawValue::from_string(event.to_string()).expect("JSON")
}
