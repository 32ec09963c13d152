//! Fair shares: how many runners a class and a repository may have at a time. There is no database: what ECS lists is
//! counted, once for a batch and only if there is a quota.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use time::{Duration, OffsetDateTime};
use tokio::sync::OnceCell;

use crate::{
    error::CallError,
    fargate::tags::{self, TaskTags},
    flows::plan::Plan,
    lambda::outcome::{Outcome, Reason, Wait},
    ports::{FindTasks, Target, Task, TaskArn},
    protocol::timing,
};

/// ECS may not list a task of so many seconds ago yet: what this process has started counts all the same.
const UNTIL_LISTED: Duration = timing::signed(timing::LAG);
/// A share that was used up a moment ago is not counted again: thousands of jobs that wait for it ask nobody.
const USED_UP_FOR: Duration = Duration::seconds(10);
/// Until the next try where others may have the rest: what they have started is listed by then.
const CROWDED: std::time::Duration = std::time::Duration::from_secs(2);
/// Between two tries, jitter taken off: then there may be room again.
const LONGEST_WAIT: std::time::Duration = std::time::Duration::from_secs(120);
const LONGEST_URGENT_WAIT: std::time::Duration = std::time::Duration::from_secs(15);

/// Whose runners are counted: a class's, an owner's or a repository's (`owner`, `owner/name`, in lower case), or such a
/// one's of one class.
type Whose = (Option<String>, Option<String>);

/// So many at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limit {
    whose: Whose,
    most: u32,
    what: String,
}

/// The limits of a plan. `per_repository` is `MAX_RUNNERS_PER_REPOSITORY`; 0 is none.
pub(crate) fn limits(plan: &Plan, per_repository: u32) -> Vec<Limit> {
    let repository = repository(&plan.target);
    let mut limits = Vec::new();
    if let Some(class) = plan.class() {
        let name = || Some(class.name.to_lowercase());
        if let Some(most) = class.max_for(is_urgent(plan)) {
            let what = format!("max_runners of class {}: {most} run", class.name);
            limits.push(Limit { whose: (name(), None), most, what });
        }
        if let (Some(most), Some(owner)) = (class.max_runners_per_owner, owner(repository.as_deref())) {
            let what = format!("max_runners_per_owner of class {}: {most} run", class.name);
            limits.push(Limit { whose: (name(), Some(owner)), most, what });
        }
        if let (Some(most), Some(_)) = (class.max_runners_per_repository, &repository) {
            let what = format!("max_runners_per_repository of class {}: {most} run", class.name);
            limits.push(Limit { whose: (name(), repository.clone()), most, what });
        }
    }
    if per_repository > 0 && repository.is_some() {
        let what = format!("MAX_RUNNERS_PER_REPOSITORY: {per_repository} run");
        limits.push(Limit { whose: (None, repository), most: per_repository, what });
    }
    limits
}

fn repository(target: &Target) -> Option<String> {
    target.full_name().map(|name| tags::value(&name).to_lowercase())
}

fn owner(repository: Option<&str>) -> Option<String> {
    Some(repository?.split_once('/')?.0.to_owned())
}

fn is_urgent(plan: &Plan) -> bool {
    plan.class().is_some_and(|class| class.is_urgent(&plan.target, &plan.labels))
}

/// What a process remembers of quotas.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    started: RefCell<BTreeMap<TaskArn, (OffsetDateTime, Whose)>>,
    used_up: RefCell<BTreeMap<(Whose, u32), OffsetDateTime>>,
}

impl Ledger {
    /// A task was started, which ECS may not list yet.
    pub(crate) fn note(&self, plan: &Plan, task: &TaskArn, now: OffsetDateTime) {
        let class = plan.class().map(|class| class.name.to_lowercase());
        let mut started = self.started.borrow_mut();
        started.retain(|_, (at, _)| now - *at < UNTIL_LISTED);
        started.insert(task.clone(), (now, (class, repository(&plan.target))));
    }

    fn is_used_up(&self, limit: &Limit, now: OffsetDateTime) -> bool {
        let key = (limit.whose.clone(), limit.most);
        self.used_up.borrow().get(&key).is_some_and(|at| now - *at < USED_UP_FOR)
    }

    fn note_used_up(&self, limit: &Limit, now: OffsetDateTime) {
        let mut used_up = self.used_up.borrow_mut();
        used_up.retain(|_, at| now - *at < USED_UP_FOR);
        used_up.insert((limit.whose.clone(), limit.most), now);
    }
}

/// Runners by whose they are, as one batch counts them.
#[derive(Debug)]
pub(crate) struct Census {
    /// Batches that may be at work at the same time: none sees what the others start, so each takes its part of the places
    /// that are free.
    batches: u32,
    counts: OnceCell<Result<Counts, CallError>>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Those that ECS lists.
    listed: BTreeMap<Whose, u32>,
    /// Those that this process has started, or is about to start, and ECS does not list.
    own: RefCell<BTreeMap<Whose, u32>>,
}

/// Whether there is a place under a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Some,
    /// Those that are left may be other batches'.
    Crowded,
    None,
}

impl Counts {
    /// Each batch takes its part of what is free, rounded up: so many are never over by more than their number less one.
    fn room(&self, limit: &Limit, batches: u32) -> Room {
        let listed = self.listed.get(&limit.whose).copied().unwrap_or_default();
        let own = self.own.borrow().get(&limit.whose).copied().unwrap_or_default();
        let free = limit.most.saturating_sub(listed);
        if own >= free {
            Room::None
        } else if own >= free.div_ceil(batches) {
            Room::Crowded
        } else {
            Room::Some
        }
    }
}

impl Census {
    /// One of so many batches at a time.
    pub(crate) fn among(batches: u32) -> Census {
        Census { batches, counts: OnceCell::new() }
    }

    /// Takes a place under each of the limits, or none at all: then the message comes back.
    pub(crate) async fn take<E: FindTasks>(
        &self,
        ecs: &E,
        ledger: &Ledger,
        plan: &Plan,
        per_repository: u32,
        now: OffsetDateTime,
    ) -> Result<Share<'_>, Outcome> {
        let limits = limits(plan, per_repository);
        let over = |limit: &Limit| Err(deferred(limit, is_urgent(plan)));
        if limits.is_empty() {
            return Ok(Share { own: None, whose: Vec::new() });
        }
        if let Some(limit) = limits.iter().find(|limit| ledger.is_used_up(limit, now)) {
            return over(limit);
        }
        let counted = self.counts.get_or_init(|| async {
            let tasks = ecs.live_tasks().await?;
            Ok(count(&tasks, &ledger.started.borrow(), now))
        });
        let counts = counted.await.as_ref().map_err(|error| Outcome::from(error.clone()))?;
        let room = |limit: &Limit| counts.room(limit, self.batches);
        if let Some(limit) = limits.iter().find(|limit| room(limit) == Room::None) {
            ledger.note_used_up(limit, now);
            return over(limit);
        }
        if let Some(limit) = limits.iter().find(|limit| room(limit) == Room::Crowded) {
            return Err(crowded(limit));
        }
        let class = plan.class().map(|class| class.name.to_lowercase());
        let whose = all_of(class, repository(&plan.target));
        for whose in &whose {
            *counts.own.borrow_mut().entry(whose.clone()).or_default() += 1;
        }
        Ok(Share { own: Some(&counts.own), whose })
    }
}

/// For what may have room again at any moment.
pub(crate) fn wait_for_room() -> Wait {
    Wait::BackoffUpTo(LONGEST_WAIT)
}

fn deferred(limit: &Limit, urgent: bool) -> Outcome {
    let wait = if urgent { Wait::BackoffUpTo(LONGEST_URGENT_WAIT) } else { wait_for_room() };
    Outcome::deferred(Reason::Quota, wait, limit.what.clone())
}

fn crowded(limit: &Limit) -> Outcome {
    let detail = format!("{}; what is left may be taken by now", limit.what);
    Outcome::deferred(Reason::Quota, Wait::About(CROWDED), detail)
}

/// A place under the limits; kept, unless it is given back.
#[derive(Debug)]
pub(crate) struct Share<'a> {
    own: Option<&'a RefCell<BTreeMap<Whose, u32>>>,
    whose: Vec<Whose>,
}

impl Share<'_> {
    pub(crate) fn give_back(self) {
        for (own, whose) in self.own.iter().flat_map(|own| self.whose.iter().map(move |it| (own, it))) {
            if let Some(count) = own.borrow_mut().get_mut(whose) {
                *count = count.saturating_sub(1);
            }
        }
    }
}

/// A runner counts for its class, for the repository that it was started for (one of a pool: whose job it runs), and for
/// its owner and itself in that class.
fn all_of(class: Option<String>, repository: Option<String>) -> Vec<Whose> {
    let mut whose = Vec::new();
    if class.is_some() {
        whose.push((class.clone(), None));
    }
    if repository.is_some() {
        whose.push((None, repository.clone()));
    }
    if let (Some(_), Some(owner)) = (&class, owner(repository.as_deref())) {
        whose.push((class.clone(), Some(owner)));
        whose.push((class, repository));
    }
    whose
}

fn count(
    listed: &[Task],
    started: &BTreeMap<TaskArn, (OffsetDateTime, Whose)>,
    now: OffsetDateTime,
) -> Counts {
    let known: BTreeSet<&TaskArn> = listed.iter().map(|task| &task.arn).collect();
    let of_task = |task: &Task| {
        let tags = TaskTags(&task.tags);
        let repository = tags.full_name().or(tags.ran_full_name());
        all_of(tags.class().map(str::to_lowercase), repository.map(str::to_lowercase))
    };
    let unlisted = started.iter().filter(|(arn, (at, _))| !known.contains(arn) && now - *at < UNTIL_LISTED);
    let unlisted =
        unlisted.flat_map(|(_, (_, (class, repository)))| all_of(class.clone(), repository.clone()));
    Counts {
        listed: tally(listed.iter().filter(|task| task.live).flat_map(of_task)),
        own: RefCell::new(tally(unlisted)),
    }
}

fn tally(all: impl Iterator<Item = Whose>) -> BTreeMap<Whose, u32> {
    all.fold(BTreeMap::new(), |mut counts, whose| {
        *counts.entry(whose).or_default() += 1;
        counts
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn task(arn: &str, tags: &[(&str, &str)]) -> Task {
        Task {
            arn: TaskArn(arn.to_owned()),
            live: true,
            created_at: None,
            started_at: None,
            tags: BTreeMap::from_iter(
                tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
            )
            .into(),
            definition: String::new(),
            stop: None,
            usage: None,
            on_instance: false,
        }
    }

    #[test]
    fn whom_a_runner_counts_for() {
        let text = |text: &str| Some(text.to_owned());
        let of_big = [(tags::CLASS, "Big"), (tags::REPOSITORY, "Acme/App")];
        let listed = [
            task("a", &of_big),
            task("b", &of_big),
            task("c", &[(tags::REPOSITORY, "acme/app")]),
            task("pool", &[(tags::CLASS, "big"), (tags::REPOSITORY, "acme")]),
            task(
                "taken",
                &[(tags::CLASS, "big"), (tags::REPOSITORY, "acme"), (tags::RAN_REPOSITORY, "Acme/Other")],
            ),
            Task { live: false, ..task("over", &of_big) },
        ];
        let own = (text("big"), text("acme/app"));
        let started = BTreeMap::from([
            // Listed, not listed yet, and of so long ago that it would be listed.
            (TaskArn("a".into()), (NOW, own.clone())),
            (TaskArn("d".into()), (NOW, own.clone())),
            (TaskArn("e".into()), (NOW - UNTIL_LISTED, own.clone())),
        ]);
        let Counts { listed, own: unlisted } = count(&listed, &started, NOW);
        let of_big = |place| (text("big"), text(place));
        let want = [
            ((None, text("acme/app")), 3),
            ((None, text("acme/other")), 1),
            ((text("big"), None), 4),
            (of_big("acme"), 3),
            (own.clone(), 2),
            (of_big("acme/other"), 1),
        ];
        assert_eq!(listed.into_iter().collect::<Vec<_>>(), want);
        let want = [
            ((None, text("acme/app")), 1),
            ((text("big"), None), 1),
            ((text("big"), text("acme")), 1),
            (own, 1),
        ];
        assert_eq!(unlisted.into_inner().into_iter().collect::<Vec<_>>(), want);
    }

    /// However many places are free, and however long ECS does not list what they start.
    #[test]
    fn batches_are_never_over_by_more_than_their_number_less_one() {
        let whose: Whose = (Some("big".to_owned()), None);
        for batches in 2..=20 {
            for (most, there) in (1..40).flat_map(|most| (0..=most).map(move |there| (most, there))) {
                let limit = Limit { whose: whose.clone(), most, what: String::new() };
                let counts =
                    Counts { listed: BTreeMap::from([(whose.clone(), there)]), own: RefCell::default() };
                while counts.room(&limit, batches) == Room::Some {
                    *counts.own.borrow_mut().entry(whose.clone()).or_default() += 1;
                }
                let taken = counts.own.borrow().get(&whose).copied().unwrap_or_default();
                let all = there + batches * taken;
                assert!((most..most + batches).contains(&all), "{batches} batches: {all} of {most}");
            }
        }
    }
}
