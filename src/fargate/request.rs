//! One RunTask request as a value: everything in it derives from the job and the attempt, so that the same
//! job and attempt give the same request, byte for byte.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use crate::fargate::{
    fleet::{Capacity, Network},
    size::Size,
};

/// What the container is told.
#[derive(Clone)]
pub enum Identity {
    /// Container-minted: the container mints its own configuration under this name, with these labels.
    Named {
        /// `RUNNER_NAME`.
        name: String,
        /// `RUNNER_LABELS_JSON`.
        labels: Vec<String>,
    },
    /// Dispatcher-minted: `ACTIONS_RUNNER_INPUT_JITCONFIG`.
    Minted(SecretString),
}

/// One RunTask request. Cluster and container name are the adapter's settings, and the network where none is said.
#[derive(Clone)]
pub struct TaskRequest {
    /// `clientToken`, 64 characters at most.
    pub client_token: String,
    /// `startedBy`, 128 characters at most.
    pub started_by: String,
    /// Family, family:revision or ARN.
    pub task_definition: String,
    /// Launch type or capacity provider.
    pub capacity: Capacity,
    /// A class's own network; `None`: the stack's.
    pub network: Option<Network>,
    /// Task-level CPU and memory, when the job asked for a size.
    pub size: Option<Size>,
    /// Task-level ephemeral storage in GiB, when the job asked for it.
    pub disk_gib: Option<u32>,
    /// What the container is told.
    pub identity: Identity,
    /// Tags, valid for AWS.
    pub tags: Vec<(String, String)>,
}

/// No environment in it: the JIT configuration is a secret.
impl fmt::Debug for TaskRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskRequest")
            .field("client_token", &self.client_token)
            .field("capacity", &self.capacity)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl TaskRequest {
    /// The container's environment overrides: who it is, and what nobody can see from inside, so that the job's log can tell
    /// (image/job-started.sh). Another capacity is another request, under a token of its own.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let mut environment = match &self.identity {
            Identity::Named { name, labels } => {
                // As JSON: a label with a comma in it must not become two. And under a name that the image of a
                // release before does not know: it ends, says so, and the job waits for a new image, where it would
                // take the brackets for labels.
                vec![
                    ("RUNNER_NAME", name.clone()),
                    ("RUNNER_LABELS_JSON", serde_json::json!(labels).to_string()),
                ]
            }
            Identity::Minted(jit_config) => {
                vec![("ACTIONS_RUNNER_INPUT_JITCONFIG", jit_config.expose_secret().to_owned())]
            }
        };
        environment.push(("RUNNER_CAPACITY", self.capacity.to_string()));
        environment
    }

    /// The length of the `overrides` as the JSON that ECS counts: at most [`MAX_OVERRIDES`] characters.
    pub fn overrides_length(&self, container: &str) -> usize {
        let environment = self.environment();
        let overrides = Overrides {
            container_overrides: [ContainerOverride {
                name: container,
                environment: environment.iter().map(|(name, value)| Pair { name, value }).collect(),
            }],
            cpu: self.size.map(|size| size.cpu.to_string()),
            memory: self.size.map(|size| size.memory_mib.to_string()),
            ephemeral_storage: self.disk_gib.map(|gib| EphemeralStorage { size_in_gib: gib }),
        };
        // Strings and integers always serialise; were that ever untrue, the request must not pass.
        serde_json::to_string(&overrides).map_or(usize::MAX, |json| json.chars().count())
    }
}

/// "The total size of the overrides is limited to 8192 characters, including JSON formatting" (RunTask).
pub const MAX_OVERRIDES: usize = 8192;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Overrides<'a> {
    container_overrides: [ContainerOverride<'a>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ephemeral_storage: Option<EphemeralStorage>,
}

#[derive(Serialize)]
struct ContainerOverride<'a> {
    name: &'a str,
    environment: Vec<Pair<'a>>,
}

#[derive(Serialize)]
struct Pair<'a> {
    name: &'a str,
    value: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EphemeralStorage {
    #[serde(rename = "sizeInGiB")]
    size_in_gib: u32,
}
