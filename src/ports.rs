//! The ports: what the flows need of the outside, and nothing more. The adapters implement them for GitHub
//! and AWS, the simulator for its own world, so that the very same flows run in both.
//!
//! A function's ports are its IAM policy: `dispatch` uses [`Github`], [`FindTasks`], [`StartTasks`] and
//! [`Queue`]; `reconcile` uses [`Github`], [`Deliveries`], [`FindTasks`], [`TendTasks`] and [`Queue`] (and
//! [`StartTasks`] for the warm pool only); `author` uses [`Runs`], [`Checks`], [`FindTasks`] and [`Queue`].

mod author;
mod document;
mod ecs;
mod github;
mod inspect;
mod queue;
mod time;

pub use self::{
    author::{Check, Checks, Conclusion, Page, Rerun, Run, RunJob, Runs, State, Written},
    document::{DocumentSource, Fetched},
    ecs::{FindTasks, RunTask, StartTasks, Started, Task, TaskArn, Tasks, TendTasks},
    github::{
        Deleted, Deliveries, Delivery, DeliveryPage, Github, Group, JitConfig, JobState, JobStatus, Minted,
        Registration, RunnerGroup, Scope, Target, is_success,
    },
    inspect::{
        AppAnswer, Held, Hour, Inspect, NotHeld, Permissions, SeenApp, SeenHook, SeenInstallation, SentEvent,
    },
    queue::{Bus, Queue, SecretSource, Source},
    time::{Clock, SystemClock, Timer},
};
