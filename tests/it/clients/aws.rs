//! AWS's SDK as it is set up here: what it repeats by itself, and what is made of that.

use std::{future::ready, sync::Mutex, time::Duration};

use aws_config::{SdkConfig, timeout::TimeoutConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use gha_fargate_runners::{
    adapters::{
        aws::{Patience, sdk_config},
        ecs::{Ecs, EcsStarter},
        http::Http,
    },
    error::Class,
    fargate::{
        fleet::{Capacity, Network},
        request::{Identity, TaskRequest},
    },
    ids::RunnerNames,
    ports::{FindTasks, RunTask, StartTasks},
};
use serde_json::json;

use super::server::{Server, answer};
use crate::{
    http::{CLUSTER, Op, TASK_DEFINITION, World},
    log::Log,
};

/// As deployed, but that nobody waits.
fn aws(url: &str) -> SdkConfig {
    let environment = |name: &str| (name == "AWS_REGION").then(|| "us-east-1".to_owned());
    let credentials = Credentials::new("AKIAEXAMPLE", "example", None, None, "test");
    let config = sdk_config(environment, Http::new().for_aws(), Patience::Queue);
    let retries = config.retry_config().expect("retries").clone();
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(Duration::from_secs(1)).build();
    config
        .into_builder()
        .retry_config(retries.with_initial_backoff(Duration::from_millis(1)))
        .timeout_config(timeouts)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(url)
        .build()
}

#[tokio::test]
async fn a_call_that_goes_well_when_it_is_repeated_is_no_error_in_the_log() {
    let log = Log::keep();
    let answers =
        Mutex::new(vec![(200, json!({"taskArns": []})), (500, json!({"__type": "ServerException"}))]);
    let server = Server::start(move |_| {
        let (status, body) = answers.lock().expect("a lock").pop().expect("two calls");
        Box::pin(ready(answer(status, &body)))
    })
    .await;
    let ecs = Ecs::new(&aws(&server.url), "runners".to_owned(), RunnerNames::default());
    ecs.tasks_started_by("gha-1").await.expect("the second try");
    assert_eq!(server.asked().len(), 2);
    assert_eq!(log.lines("level", "ERROR"), Vec::<serde_json::Value>::new());
}

fn starter(world: &World) -> EcsStarter {
    let network = Network {
        subnets: vec!["subnet-0a".to_owned()],
        security_groups: vec!["sg-0a".to_owned()],
        public_ip: true,
    };
    let ecs = Ecs::new(&aws(&world.url()), CLUSTER.to_owned(), RunnerNames::default());
    ecs.starter("runner".to_owned(), &network).expect("a network")
}

fn request() -> TaskRequest {
    TaskRequest {
        client_token: "1-1".to_owned(),
        started_by: "gha-1".to_owned(),
        task_definition: TASK_DEFINITION.to_owned(),
        capacity: Capacity::LaunchType,
        network: None,
        size: None,
        disk_gib: None,
        identity: Identity::Minted("jit-config".into()),
        tags: vec![],
    }
}

/// What becomes of the first try of a RunTask.
#[derive(Debug, Clone, Copy)]
enum First {
    Broken,
    TimedOut,
    InTrouble,
    Throttled,
}

impl First {
    fn befalls(self, world: &World) {
        let fault = world.fail(Op::RunTask).once();
        match self {
            First::Broken => drop(fault.after().drop_connection()),
            First::TimedOut => drop(fault.after().delay(Duration::from_secs(2))),
            First::InTrouble => drop(fault.after().status(500)),
            First::Throttled => drop(fault.before().aws("ThrottlingException")),
        }
    }
}

#[tokio::test]
async fn a_run_task_of_which_an_answer_was_lost_is_not_told_by_what_is_refused_later() {
    for (first, refusal, class) in [
        (First::Broken, "ThrottlingException", Class::Unknown),
        (First::TimedOut, "ThrottlingException", Class::Unknown),
        (First::InTrouble, "ThrottlingException", Class::Unknown),
        (First::Broken, "AccessDeniedException", Class::Unknown),
        (First::Throttled, "ThrottlingException", Class::Transient),
        (First::Throttled, "AccessDeniedException", Class::NeedsOperator),
    ] {
        let world = World::start();
        first.befalls(&world);
        world.fail(Op::RunTask).nth(2).times(9).before().aws(refusal);
        let error = starter(&world).run_task(&request()).await.expect_err("a refusal");
        assert_eq!(error.class, class, "{first:?}, {refusal}: {error}");
        let started = !matches!(first, First::Throttled);
        assert_eq!(world.ecs().live_count(), usize::from(started), "{first:?}");
        world.finish();
    }
}

/// The token is the same: ECS tells of the task that it has.
#[tokio::test]
async fn a_run_task_whose_answer_was_lost_finds_its_task_when_it_is_repeated() {
    for first in [First::Broken, First::TimedOut, First::InTrouble] {
        let world = World::start();
        first.befalls(&world);
        let answer = starter(&world).run_task(&request()).await;
        assert!(matches!(answer, Ok(RunTask::Started(_))), "{first:?}: {answer:?}");
        assert_eq!((world.ecs().live_count(), world.calls().count(Op::RunTask)), (1, 2), "{first:?}");
        world.finish();
    }
}
