//! The warm pools, as they are to be now: the stack's own, and one for each class that has one.

use std::{collections::BTreeSet, sync::Arc};

use time::OffsetDateTime;

use crate::{
    fargate::tags::TaskTags,
    flows::plan::Plan,
    intake::{
        classes::{Classes, RunnerClass},
        labels::{Architecture, Most, Sizing},
    },
    ports::{RunnerGroup, Task},
    protocol::start::Pools,
};

/// One pool.
#[derive(Debug, Clone)]
pub(crate) struct Basin {
    pub(crate) class: Option<Arc<RunnerClass>>,
    pub(crate) size: u32,
    pub(crate) labels: Vec<String>,
}

/// All of them, those included that are closed at this hour.
pub(crate) fn basins(
    size: u32,
    common: &[String],
    classes: Option<&Classes>,
    now: OffsetDateTime,
) -> Vec<Basin> {
    let own = Basin { class: None, size, labels: common.to_vec() };
    let of_classes = classes.into_iter().flat_map(|classes| &classes.classes).filter_map(|class| {
        let size = class.pool.as_ref()?.size_at(now);
        Some(Basin { class: Some(class.clone()), size, labels: labels(class, common) })
    });
    Some(own).filter(|own| own.size > 0).into_iter().chain(of_classes).collect()
}

/// What the pools are to the job of that plan.
pub(crate) fn pools_for(plan: &Plan, basins: &[Basin]) -> Pools {
    let its = basins.iter().filter(|basin| basin.may_serve(plan));
    its.map(|basin| if basin.size > 0 { Pools::Open } else { Pools::Closed }).max().unwrap_or_default()
}

impl Basin {
    /// By which its runners are counted: the class's name.
    pub(crate) fn key(&self) -> Option<String> {
        self.class.as_ref().map(|class| class.name.to_lowercase())
    }

    /// Whether GitHub gives a runner of these labels the same jobs as one of the pool's own.
    pub(crate) fn has_labels(&self, labels: &[String]) -> bool {
        lower(&self.labels) == lower(labels)
    }

    /// Whether GitHub gives one of its runners the job as it would give it the runner of that plan: it is of the same
    /// group, and has all labels of the job. (So none that asks for a size.)
    fn may_serve(&self, plan: &Plan) -> bool {
        let group: Option<&RunnerGroup> = self.class.as_ref().and_then(|class| class.group.as_ref());
        group == plan.group() && lower(&plan.labels).is_subset(&lower(&self.labels))
    }

    /// What a job of it gets that asks for nothing.
    pub(crate) fn sizing(&self) -> Sizing {
        let of_class = |class: &Arc<RunnerClass>| class.size(Sizing::default(), false, &Most::default()).ok();
        self.class.as_ref().and_then(of_class).unwrap_or_default()
    }
}

/// The pool that a task is of, by its tags.
pub(crate) fn key_of(task: &Task) -> Option<String> {
    TaskTags(&task.tags).class().map(str::to_lowercase)
}

fn lower(labels: &[String]) -> BTreeSet<String> {
    labels.iter().map(|label| label.to_lowercase()).collect()
}

/// All that a job of the class may name, but for sizes: GitHub gives a runner the jobs all of whose labels it has.
fn labels(class: &RunnerClass, common: &[String]) -> Vec<String> {
    let sizing = class.size(Sizing::default(), false, &Most::default()).unwrap_or_default();
    let (it, other) = match sizing.architecture {
        Some(Architecture::Arm64) => ("arm64", "x64"),
        _ => ("x64", "arm64"),
    };
    let common = common.iter().map(|label| label.to_lowercase());
    let all =
        common.chain(class.labels.iter().cloned()).chain(["self-hosted", "linux", it].map(str::to_owned));
    let all: BTreeSet<String> = all.filter(|label| label != other).collect();
    all.into_iter().collect()
}
