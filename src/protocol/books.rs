//! What a sweep has to see to, decided from what it saw: registrations and tasks. No I/O, no clock.

use std::collections::{BTreeMap, BTreeSet};

use time::{Duration, OffsetDateTime};

use crate::{
    fargate::tags::TaskTags,
    ids::{Attempt, JobId, Purpose, RunnerId, RunnerNames},
    ports::{Registration, Target, Task},
    protocol::{
        life::{self, Life, Reg, life, reg},
        tend::{Case, Heard, Owner, Step, tend},
        timing,
    },
};

const SETTLED: Duration = timing::signed(timing::SETTLED);
/// [`timing::BOOT`].
pub const BOOT: Duration = timing::signed(timing::BOOT);

const OLDEST_JOB: Duration = timing::signed(timing::OLDEST_JOB);

/// A registration, and where it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The registration.
    pub runner: Registration,
    /// Where it was listed.
    pub place: Target,
}

/// A runner, as far as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runner {
    /// Where it is in its life.
    pub life: Life,
    /// For longer than it may be so without anybody asking why.
    pub past: bool,
    /// What it was started for.
    pub purpose: Option<Purpose>,
    /// Its registration.
    pub registration: Option<RunnerId>,
    /// Its labels.
    pub labels: Vec<String>,
    /// Where its registration lives.
    pub place: Target,
    /// Its task.
    pub task: Option<Task>,
}

impl Runner {
    /// What its task alone tells.
    pub fn of_task(life: Life, past: bool, task: &Task, names: &RunnerNames) -> Self {
        let tags = TaskTags(&task.tags);
        Runner {
            life,
            past,
            purpose: tags.purpose(names),
            registration: tags.runner_id(),
            labels: tags.labels(),
            place: target(tags),
            task: Some(task.clone()),
        }
    }

    /// The job that it was started for.
    pub fn owner(&self) -> Option<JobId> {
        self.purpose.as_ref().and_then(Purpose::job)
    }
}

/// Where the registration of a task lives, by the task's tags.
pub fn target(tags: TaskTags<'_>) -> Target {
    let (owner, repository) = tags.repository().unwrap_or_default();
    Target {
        owner: owner.to_owned(),
        repository: repository.map(str::to_owned),
        repository_id: tags.repository_id(),
        installation: tags.installation(),
    }
}

/// Where the job lives that a runner really ran, by its task's tags.
pub fn ran_target(tags: TaskTags<'_>) -> Option<Target> {
    let (owner, repository) = tags.ran_repository()?;
    // That of the runner's own job: another owner has another.
    let is_same = tags.repository().is_some_and(|(own, _)| own.eq_ignore_ascii_case(owner));
    let installation = tags.installation().filter(|_| is_same);
    Some(Target {
        owner: owner.to_owned(),
        repository: Some(repository.to_owned()),
        repository_id: tags.ran_repository_id(),
        installation,
    })
}

/// What the sweep saw and made of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Books {
    /// The runners to see to.
    pub runners: Vec<Runner>,
    /// Idle or coming runners of the warm pools, by the class.
    pub pools: BTreeMap<Option<String>, u32>,
    /// The age of the oldest task whose runner has not come yet: somebody waits for it.
    pub oldest_waiting: Option<Duration>,
}

/// Compares registrations with tasks. `registered` must have been listed before `tasks`: then a task that is
/// missing was not there when its registration was, and not the other way round.
pub fn compare(
    registered: &[Registered],
    tasks: &[Task],
    names: &RunnerNames,
    now: OffsetDateTime,
    idle_timeout: Duration,
) -> Books {
    let mut books = Books::default();
    let by_registration = TasksByRegistration::new(tasks);
    let past = |life, task: &Task| is_past(life, task, now, idle_timeout);
    let mut with_registration = BTreeSet::new();
    for Registered { runner: registration, place } in registered {
        let Some(purpose) = names.read(&registration.name) else { continue };
        let task = by_registration.of(registration);
        let life =
            life(reg(Some(registration)), task.map_or(life::TaskState::Unseen, |_| life::TaskState::Live));
        with_registration.extend(task.map(|task| &task.arn));
        if task.is_some() && !registration.busy {
            if purpose.is_of_a_pool() {
                let class = task.and_then(|task| TaskTags(&task.tags).class());
                *books.pools.entry(class.map(str::to_lowercase)).or_default() += 1;
            } else if purpose.job().is_some() && !registration.online {
                let created_at = task.and_then(|task| task.created_at);
                books.oldest_waiting = books.oldest_waiting.max(created_at.map(|since| now - since));
            }
        }
        books.runners.push(Runner {
            life,
            past: task.is_some_and(|task| past(life, task)),
            purpose: Some(purpose),
            registration: Some(registration.id),
            labels: registration.labels.clone(),
            place: task.map_or_else(|| place.clone(), |task| target(TaskTags(&task.tags))),
            task: task.cloned(),
        });
    }
    for task in tasks.iter().filter(|task| !with_registration.contains(&task.arn)) {
        let life = life(Reg::Gone, life::TaskState::Live);
        books.runners.push(Runner::of_task(life, past(life, task), task, names));
    }
    books.runners.retain(is_to_be_seen_to);
    books
}

/// How long a task may take from RunTask until its runner is connected.
fn boot(task: &Task) -> Duration {
    match task.on_instance {
        true => timing::signed(timing::BOOT_ON_INSTANCE),
        false => BOOT,
    }
}

/// Whether a runner is in this part of its life for longer than it may be without anybody asking why.
fn is_past(life: Life, task: &Task, now: OffsetDateTime, idle_timeout: Duration) -> bool {
    // What its class said when it was started.
    let idle_timeout = TaskTags(&task.tags).idle_timeout().unwrap_or(idle_timeout);
    let begun = task.started_at.or(task.created_at);
    let is_older =
        |since: Option<OffsetDateTime>, patience| since.is_some_and(|since| now - since > patience);
    match life {
        // Once is enough.
        Life::Busy => !TaskTags(&task.tags).ran_a_job() && is_older(task.started_at, SETTLED),
        Life::Waiting => is_older(task.started_at, idle_timeout),
        Life::Starting => is_older(begun, boot(task)),
        // Nothing of it waits for a job.
        _ => is_older(begun, idle_timeout.min(BOOT)),
    }
}

fn is_to_be_seen_to(runner: &Runner) -> bool {
    let owner = match runner.purpose {
        Some(Purpose::Pool { .. }) => Owner::Pool { surplus: true },
        _ => Owner::Job,
    };
    tend(&Case::new(runner.life, Heard::Swept { past: runner.past }, owner)) != Step::Leave
}

/// Runners that have ended a while ago, and of which nobody told a job: neither what they ran nor their end may have been
/// heard of. (Of one whose registration is left, that one leads to its job; of one that another has followed, that one does.)
/// Each is looked at twice, if this is asked for every [`timing::ENDS_EVERY`]: one sweep may not get that far.
pub fn untold(
    ended: &[Task],
    live: &[Task],
    registered: &[Registered],
    names: &RunnerNames,
    scheduled: OffsetDateTime,
) -> Vec<Runner> {
    let until = scheduled - timing::ENDS_HEARD;
    let looked_at = until - 2 * timing::ENDS_EVERY..until;
    let mut newest: BTreeMap<JobId, Attempt> = BTreeMap::new();
    for task in ended.iter().chain(live) {
        if let Some(Purpose::Job(job, attempt)) = TaskTags(&task.tags).purpose(names) {
            let known = newest.entry(job).or_insert(attempt);
            *known = attempt.max(*known);
        }
    }
    let registered: BTreeSet<(RunnerId, &str)> =
        registered.iter().map(|it| (it.runner.id, it.runner.name.as_str())).collect();
    let is_untold = |task: &&Task| {
        let tags = TaskTags(&task.tags);
        let Some(Purpose::Job(job, attempt)) = tags.purpose(names) else { return false };
        let ended_at = task.stop.as_ref().and_then(|stop| stop.stopped_at);
        ended_at.is_some_and(|at| looked_at.contains(&at))
            && !tags.ran_a_job()
            && newest.get(&job) == Some(&attempt)
            && tags.runner_id().zip(tags.runner_name()).is_some_and(|its| !registered.contains(&its))
    };
    let astray = life(Reg::Gone, life::TaskState::Ended);
    ended.iter().filter(is_untold).map(|task| Runner::of_task(astray, true, task, names)).collect()
}

/// Tasks by the id and name of their registration, as each repository or organisation counts its own; or, where they do
/// not say the id, by its name.
struct TasksByRegistration<'a> {
    ids: BTreeMap<(RunnerId, &'a str), &'a Task>,
    names: BTreeMap<&'a str, &'a Task>,
}

impl<'a> TasksByRegistration<'a> {
    fn new(tasks: &'a [Task]) -> Self {
        let (mut ids, mut names) = (BTreeMap::new(), BTreeMap::new());
        for task in tasks {
            let tags = TaskTags(&task.tags);
            match (tags.runner_id(), tags.runner_name()) {
                (Some(id), Some(name)) => drop(ids.insert((id, name), task)),
                (None, Some(name)) => drop(names.insert(name, task)),
                (_, None) => {}
            }
        }
        TasksByRegistration { ids, names }
    }

    fn of(&self, registration: &Registration) -> Option<&'a Task> {
        let name = registration.name.as_str();
        self.ids.get(&(registration.id, name)).or_else(|| self.names.get(name)).copied()
    }
}

/// Without credentials for GitHub, ECS alone tells what is stuck: a task that does not start in
/// time, and one that is older than any job can be.
pub fn stuck(tasks: &[Task], names: &RunnerNames, now: OffsetDateTime) -> impl Iterator<Item = Runner> {
    tasks.iter().filter_map(move |task| {
        let (reg, since, patience) = match task.started_at {
            None => (Reg::Unused, task.created_at?, boot(task)),
            Some(started_at) => (Reg::Hidden, started_at, OLDEST_JOB),
        };
        let is_past = now - since > patience;
        is_past.then(|| Runner::of_task(life(reg, life::TaskState::Live), true, task, names))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fargate::tags, ports::TaskArn};

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
    const TIMEOUT: Duration = Duration::minutes(10);

    fn runner(id: u64, online: bool, busy: bool) -> Registration {
        Registration {
            id: RunnerId(id),
            name: format!("fargate-{id}-1"),
            online,
            busy,
            labels: vec![],
            version: None,
        }
    }

    fn task(id: u64, minutes: i64) -> Task {
        let since = NOW - Duration::minutes(minutes);
        Task {
            arn: TaskArn(format!("task/{id}")),
            live: true,
            on_instance: false,
            created_at: Some(since),
            started_at: Some(since),
            tags: BTreeMap::from([
                (tags::RUNNER_ID.to_owned(), id.to_string()),
                (tags::RUNNER_NAME.to_owned(), format!("fargate-{id}-1")),
            ])
            .into(),
            definition: String::new(),
            stop: None,
            usage: None,
        }
    }

    fn registered(runner: &Registration) -> Registered {
        let place = Target { owner: "acme".into(), ..Target::default() };
        Registered { runner: runner.clone(), place }
    }

    fn seen_to(runners: &[Registration], tasks: &[Task]) -> Vec<(Life, u64)> {
        let registered: Vec<_> = runners.iter().map(registered).collect();
        let books = compare(&registered, tasks, &RunnerNames::default(), NOW, TIMEOUT);
        books.runners.iter().map(|it| (it.life, it.registration.map_or(0, |id| id.0))).collect()
    }

    #[test]
    fn nothing_to_do_while_all_is_well() {
        let runners =
            [runner(1, true, false), runner(2, true, true), runner(3, false, false), runner(4, true, false)];
        let at_work = (tags::RAN_JOB.to_owned(), "2".to_owned());
        let mut tasks = [task(1, 9), task(2, 600), task(3, 9), task(5, 9)];
        std::sync::Arc::make_mut(&mut tasks[1].tags).extend([at_work]);
        // The fourth is up, and ECS does not list its task yet.
        assert_eq!(seen_to(&runners, &tasks), []);
    }

    #[test]
    fn each_that_is_to_be_seen_to() {
        let foreign = Registration { name: "other".into(), ..runner(9, false, false) };
        let runners = [
            runner(1, true, false),
            runner(2, false, false),
            runner(3, false, false),
            foreign,
            runner(5, true, true),
        ];
        let tasks = [task(1, 11), task(2, 11), task(4, 11), task(5, 3)];
        let want =
            [(Life::Waiting, 1), (Life::Starting, 2), (Life::Minted, 3), (Life::Busy, 5), (Life::Spent, 4)];
        assert_eq!(seen_to(&runners, &tasks), want);
    }

    /// GitHub counts the runners of each repository from 1.
    #[test]
    fn a_task_is_not_that_of_another_place_s_registration_of_the_same_id() {
        let elsewhere = Registration { name: "fargate-7-1".into(), ..runner(1, false, false) };
        assert_eq!(seen_to(&[elsewhere, runner(1, true, true)], &[task(1, 1)]), [(Life::Minted, 1)]);
    }

    #[test]
    fn a_long_idle_time_out_is_for_idle_runners_alone() {
        let runners = [runner(1, true, false), runner(2, false, false)];
        let registered: Vec<_> = runners.iter().map(registered).collect();
        let tasks = [task(1, 11), task(2, 11), task(3, 11)];
        let books = compare(&registered, &tasks, &RunnerNames::default(), NOW, Duration::DAY);
        let past: Vec<Life> = books.runners.iter().filter(|it| it.past).map(|it| it.life).collect();
        assert_eq!(past, [Life::Starting, Life::Spent]);
    }

    #[test]
    fn stuck_tasks() {
        let pending = Task { started_at: None, ..task(1, 11) };
        let tasks = [pending.clone(), task(2, 600), task(3, 60 * 24 * 6 + 1)];
        let names = RunnerNames::default();
        let stuck = stuck(&tasks, &names, NOW);
        let stuck: Vec<_> = stuck.filter_map(|runner| Some((runner.life, runner.task?.arn))).collect();
        let want = [(Life::Unused, pending.arn), (Life::Hidden, tasks[2].arn.clone())];
        assert_eq!(stuck, want);
    }

    #[test]
    fn an_instance_may_have_to_start_first() {
        let names = RunnerNames::default();
        let registered = [registered(&runner(1, false, false))];
        for (minutes, on_instance, is_past) in
            [(11, false, true), (11, true, false), (29, true, false), (31, true, true)]
        {
            let tasks = [Task { started_at: None, on_instance, ..task(1, minutes) }];
            let books = compare(&registered, &tasks, &names, NOW, TIMEOUT);
            assert_eq!(books.runners.iter().any(|runner| runner.past), is_past, "{minutes} min");
            assert_eq!(stuck(&tasks, &names, NOW).count(), usize::from(is_past), "{minutes} min");
        }
    }

    #[test]
    fn no_time_is_too_far_away() {
        for since in [time::PrimitiveDateTime::MIN.assume_utc(), time::PrimitiveDateTime::MAX.assume_utc()] {
            let task = |started_at| Task { created_at: Some(since), started_at, ..task(1, 0) };
            let tasks = [task(Some(since)), task(None)];
            let registered = [registered(&runner(1, true, false))];
            let names = RunnerNames::default();
            let is_long_ago = since < NOW;
            let books = compare(&registered, &tasks[..1], &names, NOW, TIMEOUT);
            assert_eq!(books.runners.is_empty(), !is_long_ago);
            assert_eq!(stuck(&tasks, &names, NOW).count(), if is_long_ago { 2 } else { 0 });
        }
    }
}
