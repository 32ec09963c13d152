//! One fresh just-in-time GitHub Actions runner on AWS Fargate for every queued job: none lost, none started
//! twice, none left behind, and no database.
//!
//! # Where what is
//!
//! Lower folders know nothing of higher ones.
//!
//! | folder | what is in it |
//! | --- | --- |
//! | `bin/` | the three functions and the container's entrypoint: wiring |
//! | [`config`], [`adapters`], [`runner_init`] | the environment; the ports over AWS and GitHub; the container's side |
//! | [`flows`] | webhook, dispatch, reconcile: look, ask the protocol, do |
//! | [`lambda`] | batches in isolation, outcomes, metrics |
//! | [`intake`] | what comes in: payloads, labels, policy, signature |
//! | [`protocol`] | what comes next: pure functions, no I/O, no clock |
//! | [`ports`] | what the flows need of the outside |
//! | [`fargate`] | what Fargate takes: sizes, requests, tags |
//! | [`error`], [`ids`], [`exit`] | ground words |
//!
//! # Environment variables
//!
//! | variable | function | default | meaning |
//! | --- | --- | --- | --- |
//! | `ECS_CLUSTER` | dispatch, reconcile | required | cluster name or ARN |
//! | `TASK_DEFINITION` | dispatch, pool | `gha-jit-self-hosted-fargate-runner` | family, family:revision or ARN (x64) |
//! | `TASK_DEFINITION_ARM64` | dispatch, webhook | unset | the same for arm64; unset: `arm64` jobs are not ours |
//! | `CONTAINER_NAME` | dispatch, pool | `runner` | container that gets the overrides |
//! | `SUBNET_IDS`, `SECURITY_GROUP_IDS` | dispatch, pool | required | comma-separated |
//! | `ASSIGN_PUBLIC_IP` | dispatch, pool | `ENABLED` | `ENABLED` or `DISABLED` |
//! | `CAPACITY` | dispatch, pool | launch type `FARGATE` | capacity providers in order of preference |
//! | `RUNNER_LABELS` | all | `self-hosted,linux,x64,fargate` | offered labels; `*` for all |
//! | `ALLOWED_REPOSITORIES` | all | `*` | comma-separated `owner/repo` globs |
//! | `ALLOW_PUBLIC_REPOSITORIES` | all | `false` | |
//! | `ORGANIZATION` | all | unset: any owner | the organisation served |
//! | `MAX_RUNNERS` | dispatch | `0` (no limit) | tasks running or pending in the cluster |
//! | `MAX_ATTEMPTS` | dispatch, reconcile | `5` | runners started for one job before it is rejected |
//! | `RUNNER_SCOPE` | dispatch, reconcile | `org` | `org`, `repo` or `enterprise/<slug>` |
//! | `RUNNER_GROUP_ID` | dispatch, pool | `1` | |
//! | `GITHUB_API_URL` | dispatch, reconcile | `https://api.github.com` | GHES: `https://HOST/api/v3` |
//! | `GITHUB_SECRET_ARN` | dispatch, reconcile | unset: container-minted | a PAT, or JSON `{"app_id", "private_key", "installation_id"?}` |
//! | `DEAD_LETTER_QUEUE_URL` | dispatch, reconcile | unset: left to the queue's redrive | where rejected messages go |
//! | `JOB_QUEUE_URL` | reconcile | unset | where replacements are announced |
//! | `IDLE_TIMEOUT_SECONDS` | reconcile | `600` | idle runners older than this are retired |
//! | `WARM_POOL_SIZE` | reconcile | `0` | idle runners kept ready |
//! | `EVENT_BUS_NAME` | webhook | `git-actions-event-bus` | |
//! | `WEBHOOK_SECRET_ARN` | webhook | required | the secret, or JSON `{"current", "previous"}` |
//! | `SSL_CERT_FILE`, `SSL_CERT_DIR` | all | unset | PEM files of root certificates, trusted beside Mozilla's |
//! | `RUST_LOG` | all | `info` | `error`, `warn` or `info`; a release build has nothing finer |
//!
//! "Pool" is `reconcile` with `WARM_POOL_SIZE` set. Of the AWS SDK's own variables those count that
//! [`adapters::aws::sdk_config`] names.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod adapters;
pub mod config;
pub mod error;
pub mod exit;
pub mod fargate;
pub mod flows;
pub mod ids;
pub mod intake;
pub mod lambda;
pub mod ports;
pub mod protocol;
pub mod runner_init;
