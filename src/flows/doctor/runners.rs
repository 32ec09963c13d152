//! The runners that are up, and the groups that they join.

use super::findings::{Check, Findings};
use crate::{
    error::{CallError, Class},
    fargate::tags::TaskTags,
    flows::{group, reconcile::Reconciler},
    ids::RunnerNames,
    ports::{FindTasks, Github, Registration, Target, Timer},
};

/// Pages of registrations that are looked at.
const PAGES: u32 = 10;

impl<G: Github, E: FindTasks, S, Q, C: Timer> Reconciler<G, E, S, Q, C> {
    pub(super) async fn groups(&self, github: &G, target: &Target, findings: &mut Findings) {
        let classes = self.document.classes(self.clock.now()).await;
        // Without a good document the stack's own group is looked at.
        let classes = findings.seen(Check::GROUP, classes).flatten();
        for looked in group::look(github, classes.as_deref(), target).await {
            let gaps = looked.gaps(&self.policy, &target.owner);
            match findings.seen(Check::GROUP, gaps.map_err(Clone::clone)) {
                Some(Some(gaps)) if gaps.is_empty() => findings.ok(Check::GROUP, looked.to_string()),
                Some(Some(gaps)) => {
                    for gap in gaps {
                        findings.warn(Check::GROUP, gap.found, gap.fix);
                    }
                }
                Some(None) => {
                    findings.fail(Check::GROUP, "there is no such group", looked.where_it_is_set());
                }
                None => {}
            }
        }
    }

    /// Runners of ours that GitHub knows and ECS does not, and how old those are that are up.
    pub(super) async fn registrations(&self, github: &G, target: &Target, findings: &mut Findings) {
        let registered = all(github, target, &self.policy.names).await;
        let Some(registered) = findings.seen(Check::REGISTRATIONS, registered) else { return };
        let Some(tasks) = findings.seen(Check::REGISTRATIONS, self.ecs.live_tasks().await) else { return };
        let has_task = |runner: &&Registration| {
            tasks.iter().any(|task| TaskTags(&task.tags).runner_id() == Some(runner.id))
        };
        let without = registered.iter().filter(|it| !it.busy && !has_task(it)).count();
        let found = format!("{without} of {} have none", registered.len());
        match without {
            0 => findings.ok(Check::REGISTRATIONS, found),
            _ => findings.warn(
                Check::REGISTRATIONS,
                found,
                "nothing: the sweep sees to them within minutes, and its log says how",
            ),
        }
        let Some(oldest) = registered.iter().filter_map(|it| it.version).min() else { return };
        let Some(newest) = findings.seen(Check::RELEASE, github.newest_release(target).await) else { return };
        let behind = newest.map_or(0, |newest| oldest.behind(newest));
        if behind == 0 {
            return findings.ok(Check::RELEASE, oldest.to_string());
        }
        let fix = "start them from an image with the newest one (RunnerImage): GitHub gives an older one no job after 30 days";
        findings.warn(Check::RELEASE, format!("{oldest} is {behind} behind"), fix);
    }
}

/// Registrations of ours.
async fn all(
    github: &impl Github,
    target: &Target,
    names: &RunnerNames,
) -> Result<Vec<Registration>, CallError> {
    let mut found = Vec::new();
    for page in 1..=PAGES {
        let Some((runners, more)) = github.runners(target, page).await? else {
            let why =
                "GitHub shows no such repository: check its name, and whether the App is installed for it";
            return Err(CallError::new(Class::NeedsOperator, why));
        };
        found.extend(runners.into_iter().filter(|runner| names.read(&runner.name).is_some()));
        if !more {
            break;
        }
    }
    Ok(found)
}
