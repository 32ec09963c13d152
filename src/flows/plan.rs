//! From a job and its sizing to the RunTask requests that start its runner.

use std::sync::Arc;

use crate::{
    fargate::{
        fleet::{Capacity, Fleet, Network},
        request::{Identity, TaskRequest},
        size::Size,
        tags,
    },
    ids::{Attempt, FIRST_PROBE, Purpose, RunId, RunnerId, RunnerNames, fnv1a},
    intake::{
        classes::{Choice, RunnerClass},
        labels::{Architecture, CapacityLabel, Sizing},
        payload::Job,
    },
    ports::{RunnerGroup, Target},
};

/// One runner to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What it is for.
    pub purpose: Purpose,
    /// The labels of its registration: exactly the job's, so that GitHub is sure to match it.
    pub labels: Vec<String>,
    /// Where it registers.
    pub target: Target,
    run_id: Option<RunId>,
    run_attempt: Option<u32>,
    name: Option<String>,
    workflow: Option<String>,
    task_definition: String,
    sizing: Sizing,
    /// The capacities to try, in this order.
    pub capacities: Vec<Capacity>,
    names: RunnerNames,
    failures: u32,
    class: Option<Arc<RunnerClass>>,
    network: Option<Network>,
}

/// What tasks compete for: capacities, task definition, size, and the network, which is the class's.
pub(crate) type Market = (Vec<Capacity>, String, Option<Size>, Option<String>);

/// What the stack gives every runner, where its class says nothing else.
#[derive(Debug, Clone, Copy)]
pub struct Stack<'a> {
    /// Task definitions and capacities.
    pub fleet: &'a Fleet,
    /// Subnets and security groups.
    pub network: &'a Network,
    /// How runners are called.
    pub names: &'a RunnerNames,
}

impl Plan {
    /// The plan for a job's runner.
    pub fn for_job(job: &Job, choice: Choice, stack: Stack) -> Plan {
        let purpose = Purpose::Job(job.id, job.attempt);
        Plan {
            run_id: job.run_id,
            run_attempt: job.run_attempt,
            name: job.name.clone(),
            workflow: job.workflow.clone(),
            ..Plan::new(purpose, job.labels.clone(), job.target.clone(), choice, stack)
        }
    }

    /// The plan for a runner that no job is known for.
    pub fn new(
        purpose: Purpose,
        labels: Vec<String>,
        target: Target,
        Choice { sizing, class }: Choice,
        stack: Stack,
    ) -> Plan {
        let own = class.as_ref().map(|class| class.fleet(stack.fleet));
        let fleet = own.as_ref().unwrap_or(stack.fleet);
        Plan {
            purpose,
            labels,
            target,
            run_id: None,
            run_attempt: None,
            name: None,
            workflow: None,
            task_definition: task_definition(sizing, fleet),
            sizing,
            capacities: capacities(sizing, fleet),
            names: stack.names.clone(),
            failures: 0,
            network: class.as_ref().and_then(|class| class.network(stack.network)),
            class,
        }
    }

    /// The same job's next runner.
    pub fn with_attempt(self, attempt: Attempt) -> Plan {
        let purpose = match self.purpose {
            Purpose::Job(job, _) => Purpose::Job(job, attempt),
            pool @ Purpose::Pool { .. } => pool,
        };
        Plan { purpose, ..self }
    }

    /// After so many that died.
    pub fn with_failures(self, failures: u32) -> Plan {
        Plan { failures, ..self }
    }

    /// The same runner as one of the warm pool: whoever takes it, nobody is owed another. All of one minute and one task
    /// definition have one name.
    pub(crate) fn as_probe(&self, minute: u64) -> Plan {
        let slot = FIRST_PROBE + (fnv1a(self.task_definition.bytes()) % u64::from(FIRST_PROBE)) as u32;
        Plan { purpose: Purpose::Pool { window: minute, slot }, ..self.clone() }
    }

    /// The task definition: family, family:revision or ARN.
    pub(crate) fn definition(&self) -> &str {
        &self.task_definition
    }

    /// The class, if there is a document.
    pub(crate) fn class(&self) -> Option<&RunnerClass> {
        self.class.as_deref()
    }

    /// The runner group that its class names.
    pub(crate) fn group(&self) -> Option<&RunnerGroup> {
        self.class()?.group_for(&self.target, &self.labels)
    }

    /// What the task competes for.
    pub(crate) fn market(&self) -> Market {
        let class = self.class().map(|class| class.name.clone());
        (self.capacities.clone(), self.task_definition.clone(), self.sizing.size, class)
    }

    /// The name of the registration.
    pub fn runner_name(&self) -> String {
        self.names.of(&self.purpose)
    }

    /// How a container that mints its own configuration is told who it is.
    pub fn named(&self) -> Identity {
        Identity::Named { name: self.runner_name(), labels: self.labels.clone() }
    }

    /// The request to one capacity. Nothing in it comes from a clock or from chance.
    pub fn request(&self, capacity: Capacity, identity: Identity, runner: Option<RunnerId>) -> TaskRequest {
        TaskRequest {
            client_token: self.client_token(&capacity),
            started_by: self.purpose.started_by(),
            task_definition: self.task_definition.clone(),
            network: self.network.clone(),
            size: self.sizing.size,
            // Only Fargate has disks of a size.
            disk_gib: self.sizing.disk_gib.filter(|_| capacity.is_fargate()),
            capacity,
            identity,
            tags: self.tags(runner),
        }
    }

    /// Another capacity is another request, so it needs a token of its own.
    fn client_token(&self, capacity: &Capacity) -> String {
        match (capacity, capacity.provider()) {
            // A name may be longer than a token.
            (Capacity::Named(name), _) => format!("{}-{:016x}", self.purpose.token(), fnv1a(name.bytes())),
            (_, Some(provider)) => format!("{}-{provider}", self.purpose.token()),
            (_, None) => self.purpose.token(),
        }
    }

    fn tags(&self, runner: Option<RunnerId>) -> Vec<(String, String)> {
        let (job, attempt) = match &self.purpose {
            Purpose::Job(job, attempt) => (job.to_string(), Some(attempt.to_string())),
            Purpose::Pool { .. } => ("pool".to_owned(), None),
        };
        [
            (tags::JOB_ID, Some(job)),
            (tags::ATTEMPT, attempt.clone()),
            (tags::FAILURES, attempt.map(|_| self.failures.to_string())),
            (tags::RUNNER_ID, runner.map(|id| id.to_string())),
            (tags::RUNNER_NAME, Some(self.runner_name())),
            (tags::LABELS, Some(tags::joined(&self.labels))),
            (tags::REPOSITORY, Some(self.target.name())),
            (tags::REPOSITORY_ID, self.target.repository_id.map(|id| id.to_string())),
            (tags::RUN_ID, self.run_id.map(|id| id.to_string())),
            (tags::RUN_ATTEMPT, self.run_attempt.map(|attempt| attempt.to_string())),
            (tags::INSTALLATION_ID, self.target.installation.map(|id| id.to_string())),
            (tags::JOB_NAME, self.name.clone()),
            (tags::WORKFLOW, self.workflow.clone()),
            (tags::CLASS, self.class().map(|class| class.name.clone())),
            (tags::CLASSES_VERSION, self.class().map(|class| class.version.to_string())),
            (tags::IDLE_TIMEOUT, self.class().and_then(|it| Some(it.idle_timeout?.to_string()))),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), tags::value(&value?))))
        .collect()
    }
}

fn task_definition(sizing: Sizing, fleet: &Fleet) -> String {
    match (sizing.architecture, &fleet.task_definition_arm64) {
        (Some(Architecture::Arm64), Some(arm64)) => arm64.clone(),
        _ => fleet.task_definition.clone(),
    }
}

fn capacities(sizing: Sizing, fleet: &Fleet) -> Vec<Capacity> {
    match sizing.capacity {
        Some(CapacityLabel::Spot) => vec![Capacity::FargateSpot],
        Some(CapacityLabel::OnDemand) => vec![Capacity::Fargate],
        None => fleet.capacities.clone(),
    }
}
