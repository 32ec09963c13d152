//! One fresh just-in-time GitHub Actions runner on AWS Fargate for every queued job: none lost, none started
//! twice, none left behind, and no database.
//!
//! # Table of contents
//!
//! Decisions are plain functions of values: they do no I/O and read no clock.
//!
//! | module | what it decides |
//! | --- | --- |
//! | [`job`] | what a message is: payloads and envelopes, read strictly |
//! | [`labels`], [`size`] | what the labels ask for, and the size of Fargate's that is large enough |
//! | [`policy`] | which jobs are served: skip, reject or run |
//! | [`plan`], [`task`], [`tags`] | the RunTask request, the same for the same job and attempt |
//! | [`owed`] | whether a runner is still owed, and to whom |
//! | [`books`] | what a sweep has to do |
//! | [`lifecycle`] | what a message of the lifecycle queue is |
//! | [`outcome`], [`error`] | what became of a message, and when it comes back |
//! | [`signature`] | whether GitHub sent it |
//!
//! Flows are short scripts over the ports, and read like the rows of the protocol in `docs/protocol.md`.
//!
//! | module | its flow |
//! | --- | --- |
//! | [`webhook`] | GitHub → event bus |
//! | [`dispatch`] | queued job → task |
//! | [`reconcile`] | retire, replace, settle; and the sweep |
//! | `sweep` | what `reconcile` does every five minutes |
//! | `redeliver` | … about webhook deliveries that failed |
//! | `chain` | … to find out who needs an idle runner |
//! | [`start`] | one RunTask over the capacities of its plan |
//! | [`batch`] | records in isolation, partial failures |
//!
//! Around them: [`ports`] (what the flows need of the outside), [`adapters`] (the ports over AWS and GitHub),
//! [`config`] (the environment), [`metrics`], [`function`] (what the three binaries have in common), and
//! [`runner_init`], the entrypoint of the container that mints its own configuration.
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
pub mod batch;
pub mod books;
mod chain;
pub mod config;
pub mod dispatch;
pub mod error;
pub mod function;
pub mod ids;
pub mod job;
pub mod labels;
pub mod lifecycle;
pub mod metrics;
pub mod outcome;
pub mod owed;
pub mod plan;
pub mod policy;
pub mod ports;
pub mod reconcile;
mod redeliver;
pub mod runner_init;
pub mod signature;
pub mod size;
pub mod start;
mod sweep;
pub mod tags;
pub mod task;
pub mod webhook;
