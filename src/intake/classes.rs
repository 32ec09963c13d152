//! Runner classes: a document with a row for each kind of runner, and which row a job's labels choose.
//!
//! A class's *own* labels are those of its list that not every runner has: without `self-hosted`, `linux`, `x64`,
//! `arm64`, and without `RUNNER_LABELS`. A job is of the class whose own labels are exactly the job's own; size labels
//! and those that every runner has may stand beside them. No class's own labels are part of another's: GitHub gives a
//! job to any runner that has all its labels, so a job of one class is never given a runner of another. The one
//! exception is a class without own labels, for jobs that name none: any idle runner will do for those.

mod document;
mod pool;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::Arc};

pub use self::{
    document::{DocumentMistakes, read},
    pool::{PoolPlan, Shift, StackPool},
};
use super::{
    glob::RepositoryGlob,
    labels::{self, Architecture, CapacityLabel, Most, NoRunner, Offered, Sizing, is_sizing, parts, shown},
};
use crate::{
    fargate::{
        fleet::{Capacity, Fleet, Network},
        size::Size,
    },
    ports::{RunnerGroup, Target},
};

/// Labels that say nothing about whose runner is meant: GitHub gives them to every self-hosted runner of that kind.
pub const ANYBODYS: [&str; 4] = ["self-hosted", "linux", "x64", "arm64"];
/// What a job of a repository with high priority may say of itself; for all others the words mean nothing.
const HIGH: &str = "priority=high";
const NORMAL: &str = "priority=normal";

/// A document that has no mistakes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classes {
    /// The document's own number.
    pub version: u64,
    /// Its rows.
    pub classes: Vec<Arc<RunnerClass>>,
    /// `RUNNER_LABELS`: labels that a job of any class may have.
    common: BTreeSet<String>,
}

/// One row: what is left out is the stack's own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunnerClass {
    /// Its name.
    pub name: String,
    /// The version of the document that it is in.
    pub version: u64,
    /// The labels that choose it, in lower case.
    pub labels: BTreeSet<String>,
    /// For x64: family, family:revision or ARN.
    pub task_definition: Option<String>,
    /// For arm64.
    pub task_definition_arm64: Option<String>,
    /// What jobs get that ask for no size.
    pub default_size: Option<Size>,
    /// And for no disk, in GiB.
    pub default_disk: Option<u32>,
    /// The most that a job may ask for, where the class says so.
    pub largest_size: Largest,
    /// In order of preference; empty: the stack's own.
    pub capacity: Vec<Capacity>,
    /// Empty: the stack's own.
    pub subnets: Vec<String>,
    /// Empty: the stack's own.
    pub security_groups: Vec<String>,
    /// Whether tasks on Fargate get public addresses.
    pub public_ip: Option<bool>,
    /// The runner group that its runners join.
    pub group: Option<RunnerGroup>,
    /// And those of jobs that overtake: GitHub gives them to no others.
    pub high_priority_group: Option<RunnerGroup>,
    /// Runners at a time.
    pub max_runners: Option<u32>,
    /// Runners at a time for one owner of repositories: an enterprise has many.
    pub max_runners_per_owner: Option<u32>,
    /// Runners at a time for one repository.
    pub max_runners_per_repository: Option<u32>,
    /// Which of the repositories that are served may use it; empty: all.
    pub repositories: Vec<RepositoryGlob>,
    /// Whose jobs overtake.
    pub high_priority: Vec<RepositoryGlob>,
    /// Whether public repositories may use it.
    pub allow_public: Option<bool>,
    /// Seconds after which an idle runner goes.
    pub idle_timeout: Option<u32>,
    /// Idle runners kept ready.
    pub pool: Option<PoolPlan>,
}

/// The most that a class gives; `None`: the stack's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Largest {
    /// CPU units.
    pub cpu: Option<u32>,
    /// MiB.
    pub memory_mib: Option<u32>,
    /// GiB.
    pub disk_gib: Option<u32>,
}

/// What a job gets: a size of a class. Without a document there are no classes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Choice {
    /// Size, disk, architecture and capacity.
    pub sizing: Sizing,
    /// The class.
    pub class: Option<Arc<RunnerClass>>,
}

impl Choice {
    /// The same on Fargate's on-demand capacity.
    pub fn on_demand(self) -> Self {
        Choice { sizing: Sizing { capacity: Some(CapacityLabel::OnDemand), ..self.sizing }, ..self }
    }
}

impl Classes {
    /// Whether one of them has a pool, open or closed.
    pub fn has_pools(&self) -> bool {
        self.classes.iter().any(|class| class.pool.is_some())
    }

    /// The class that the labels choose, or why none; and what they ask for. The order and the case of the labels do not
    /// matter.
    pub fn route<S: AsRef<str>>(&self, labels: &[S]) -> Result<(Arc<RunnerClass>, Sizing), NoRunner> {
        let sizing = labels::read(labels, &self.offered());
        if let Err(not @ NoRunner::NotOffered(_)) = sizing {
            return Err(not);
        }
        let all: BTreeSet<String> = labels.iter().flat_map(|label| parts(label.as_ref())).collect();
        if !all.iter().any(|label| self.common.contains(label) || self.is_class_label(label)) {
            return Err(NoRunner::NotOffered("none of the labels is offered".into()));
        }
        let own: BTreeSet<String> = all.into_iter().filter(|label| self.is_own(label)).collect();
        let Some(class) = self.classes.iter().find(|class| self.own(class) == own) else {
            return Err(NoRunner::NotOffered(self.why_none(&own)));
        };
        Ok((class.clone(), sizing?))
    }

    /// What a job may have among its labels.
    fn offered(&self) -> Offered {
        let beside = ["self-hosted", "linux", HIGH, NORMAL].map(str::to_owned);
        let own = self.classes.iter().flat_map(|class| &class.labels);
        Offered::new(self.common.iter().chain(own).chain(&beside))
    }

    fn is_class_label(&self, label: &str) -> bool {
        self.classes.iter().any(|class| class.labels.contains(label))
    }

    fn own(&self, class: &RunnerClass) -> BTreeSet<String> {
        class.labels.iter().filter(|label| self.is_own(label)).cloned().collect()
    }

    fn is_own(&self, label: &str) -> bool {
        is_own(label, &self.common)
    }

    fn why_none(&self, own: &BTreeSet<String>) -> String {
        let listed = |labels: &BTreeSet<String>| labels.iter().cloned().collect::<Vec<_>>().join(", ");
        if own.is_empty() {
            return "the labels choose no class, and there is none for jobs that choose none".to_owned();
        }
        let near = self.classes.iter().filter(|class| !self.own(class).is_disjoint(own));
        let near: Vec<String> =
            near.map(|class| format!("class {} has {}", class.name, listed(&self.own(class)))).collect();
        format!("no class has exactly the labels {}: {}", shown(&listed(own)), near.join("; "))
    }
}

/// Whether the label says whose runner is meant.
fn is_own(label: &str, common: &BTreeSet<String>) -> bool {
    !ANYBODYS.contains(&label)
        && !common.contains(label)
        && ![HIGH, NORMAL].contains(&label)
        && !is_sizing(label)
}

impl RunnerClass {
    /// The sizing that a job of this class gets, by what its labels ask for; or why none.
    pub fn size(&self, asked: Sizing, stack_has_arm64: bool, most: &Most) -> Result<Sizing, NoRunner> {
        let sizing = Sizing {
            size: asked.size.or(self.default_size),
            disk_gib: asked.disk_gib.or(self.default_disk),
            architecture: self.architecture(asked.architecture, stack_has_arm64)?,
            capacity: asked.capacity,
        };
        match self.refuses(&asked).or_else(|| self.exceeds(&sizing, most)) {
            Some(why) => Err(NoRunner::Impossible(why)),
            None => Ok(sizing),
        }
    }

    fn architecture(
        &self,
        asked: Option<Architecture>,
        stack_has_arm64: bool,
    ) -> Result<Option<Architecture>, NoRunner> {
        let says_none = self.task_definition.is_none() && self.task_definition_arm64.is_none();
        let x64 = says_none || self.task_definition.is_some();
        let arm64 = if says_none { stack_has_arm64 } else { self.task_definition_arm64.is_some() };
        let has_none = |what: &str| {
            Err(NoRunner::NotOffered(format!("class {} has no task definition for {what}", self.name)))
        };
        match asked {
            Some(Architecture::X64) if !x64 => has_none("x64"),
            Some(Architecture::Arm64) if !arm64 => has_none("arm64"),
            None if !x64 => Ok(Some(Architecture::Arm64)),
            asked => Ok(asked),
        }
    }

    /// What only Fargate has.
    fn refuses(&self, asked: &Sizing) -> Option<String> {
        if self.capacity.is_empty() || self.capacity.iter().any(Capacity::is_fargate) {
            return None;
        }
        let what = match (asked.capacity, asked.disk_gib) {
            (Some(CapacityLabel::Spot), _) => "spot",
            (Some(CapacityLabel::OnDemand), _) => "on-demand",
            (None, Some(_)) => "disk=",
            (None, None) => return None,
        };
        Some(format!("{what} is Fargate's, and class {} is on none of it", self.name))
    }

    fn exceeds(&self, sizing: &Sizing, most: &Most) -> Option<String> {
        let Largest { cpu, memory_mib, disk_gib } = self.largest_size;
        if cpu.or(memory_mib).or(disk_gib).is_none() {
            return most.refuses(sizing);
        }
        let cpu = cpu.unwrap_or(most.vcpu * 1024);
        let memory_mib = memory_mib.unwrap_or(most.memory_gib * 1024);
        let disk_gib = disk_gib.unwrap_or(most.disk_gib);
        if let Some(size) = sizing.size.filter(|size| size.cpu > cpu || size.memory_mib > memory_mib) {
            let largest = Size { cpu, memory_mib };
            return Some(format!(
                "the job gets {size} for what it asks, and the most in class {} is {largest}",
                self.name
            ));
        }
        let gib = sizing.disk_gib.filter(|gib| *gib > disk_gib)?;
        Some(format!(
            "the job asks for a disk of {gib} GiB, and the most in class {} is {disk_gib} GiB",
            self.name
        ))
    }

    /// What its tasks are made of, over the stack's own.
    pub fn fleet(&self, stack: &Fleet) -> Fleet {
        let says_none = self.task_definition.is_none() && self.task_definition_arm64.is_none();
        let (x64, arm64) = match says_none {
            true => (Some(&stack.task_definition), stack.task_definition_arm64.as_ref()),
            false => (self.task_definition.as_ref(), self.task_definition_arm64.as_ref()),
        };
        Fleet {
            // Nobody asks for the one that is not there: see `architecture`.
            task_definition: x64.or(arm64).cloned().unwrap_or_default(),
            task_definition_arm64: arm64.cloned(),
            container: stack.container.clone(),
            capacities: if self.capacity.is_empty() {
                stack.capacities.clone()
            } else {
                self.capacity.clone()
            },
        }
    }

    /// Its network, where it differs from the stack's own.
    pub fn network(&self, stack: &Network) -> Option<Network> {
        let or = |own: &[String], stack: &[String]| if own.is_empty() { stack } else { own }.to_vec();
        let network = Network {
            subnets: or(&self.subnets, &stack.subnets),
            security_groups: or(&self.security_groups, &stack.security_groups),
            public_ip: self.public_ip.unwrap_or(stack.public_ip),
        };
        (network != *stack).then_some(network)
    }

    /// Whether a repository may use it. Of one whose name is not known, see [`RunnerClass::depends_on_repository`].
    pub fn admits(&self, target: &Target) -> bool {
        let Some(name) = lower_name(target) else { return true };
        self.repositories.is_empty() || self.repositories.iter().any(|glob| glob.has(&name))
    }

    /// Whether it matters of which of the owner's repositories a job is.
    pub fn depends_on_repository(&self, owner: &str) -> bool {
        !self.repositories.is_empty()
            && !self.repositories.iter().any(|glob| glob.has_all_of(&owner.to_lowercase()))
    }

    /// The same of whose jobs overtake.
    pub fn priority_depends_on_repository(&self, owner: &str) -> bool {
        !self.high_priority.iter().any(|glob| glob.has_all_of(&owner.to_lowercase()))
    }

    /// Whether the job overtakes: it is of a repository that may, and does not say that it stands back.
    pub fn is_urgent<S: AsRef<str>>(&self, target: &Target, labels: &[S]) -> bool {
        let stands_back = || labels.iter().flat_map(|label| parts(label.as_ref())).any(|part| part == NORMAL);
        lower_name(target).is_some_and(|name| self.high_priority.iter().any(|glob| glob.has(&name)))
            && !stands_back()
    }

    /// The runner group of a runner for that job, where the class says so.
    pub fn group_for<S: AsRef<str>>(&self, target: &Target, labels: &[S]) -> Option<&RunnerGroup> {
        let its_own = self.high_priority_group.as_ref().filter(|_| self.is_urgent(target, labels));
        its_own.or(self.group.as_ref())
    }

    /// Runners at a time for jobs that do not overtake: a tenth is kept for those that do.
    pub fn max_for(&self, urgent: bool) -> Option<u32> {
        let max = self.max_runners?;
        let kept = if self.high_priority.is_empty() || urgent || max < 2 { 0 } else { max.div_ceil(10) };
        Some(max - kept)
    }
}

fn lower_name(target: &Target) -> Option<String> {
    target.full_name().map(|name| name.to_lowercase())
}
