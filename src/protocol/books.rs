//! What a sweep has to do, decided from what it saw: registrations, tasks, webhook deliveries. No I/O, no clock.

use std::collections::{BTreeMap, BTreeSet};

use time::{Duration, OffsetDateTime};

use crate::{
    fargate::tags::TaskTags,
    ids::{Purpose, RunnerId},
    ports::{Registration, Target, Task},
};

/// A registration, and where it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The registration.
    pub runner: Registration,
    /// Where it was listed.
    pub place: Target,
}

/// One thing to look at more closely, and then to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Online and idle past the time-out: retire it, unless its job is still queued.
    Idle(Registration, Task),
    /// The task runs past the time-out, and its runner holds no connection and runs no job: as good as dead.
    Hung(Registration, Task),
    /// A registration without a task: `dispatch` crashed in between, or its task stopped and nobody said so.
    NoTask(Registered, Purpose),
    /// A task without a registration, past the time-out: its runner is spent and did not go.
    NoRegistration(Task),
}

/// What the sweep saw and made of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Books {
    /// What is to be looked at, the surest cases first.
    pub findings: Vec<Finding>,
    /// Idle or coming runners of the warm pool.
    pub pool: u32,
    /// The age of the oldest task whose runner has not come yet: somebody waits for it.
    pub oldest_waiting: Option<Duration>,
}

/// Compares registrations with tasks. `registered` must have been listed before `tasks`: then a task that is
/// missing was not there when its registration was, and not the other way round.
pub fn compare(
    registered: &[Registered],
    tasks: &[Task],
    now: OffsetDateTime,
    idle_timeout: Duration,
) -> Books {
    let mut books = Books::default();
    let mut by_id: BTreeMap<RunnerId, &Task> = BTreeMap::new();
    let mut by_name: BTreeMap<&str, &Task> = BTreeMap::new();
    for task in tasks {
        let tags = TaskTags(&task.tags);
        match (tags.runner_id(), tags.runner_name()) {
            (Some(id), _) => drop(by_id.insert(id, task)),
            (None, Some(name)) => drop(by_name.insert(name, task)),
            (None, None) => {}
        }
    }
    let past = |since: Option<OffsetDateTime>| since.is_some_and(|since| now - since > idle_timeout);
    let mut with_registration = BTreeSet::new();
    for entry in registered {
        let runner = &entry.runner;
        let Some(purpose) = Purpose::from_runner_name(&runner.name) else { continue };
        let Some(task) = by_id.get(&runner.id).or_else(|| by_name.get(runner.name.as_str())) else {
            // One that is online or busy has a task that ECS does not list yet, or not any more: GitHub will
            // say so by the next sweep.
            if !runner.online && !runner.busy {
                books.findings.push(Finding::NoTask(entry.clone(), purpose));
            }
            continue;
        };
        with_registration.insert(&task.arn);
        if runner.busy {
            continue;
        }
        let is_pool = purpose.job().is_none();
        if is_pool {
            books.pool += 1;
        } else if !runner.online {
            books.oldest_waiting = books.oldest_waiting.max(task.created_at.map(|since| now - since));
        }
        if runner.online && past(task.started_at) {
            books.findings.push(Finding::Idle(runner.clone(), (*task).clone()));
        } else if !runner.online && past(task.started_at.or(task.created_at)) {
            books.findings.push(Finding::Hung(runner.clone(), (*task).clone()));
        }
    }
    for task in tasks {
        if !with_registration.contains(&task.arn) && past(task.started_at.or(task.created_at)) {
            books.findings.push(Finding::NoRegistration(task.clone()));
        }
    }
    books
}

/// Without credentials for GitHub, ECS alone tells what is stuck: a task that does not start within the
/// time-out, and one that is older than any job can be.
pub fn stuck(tasks: &[Task], now: OffsetDateTime, idle_timeout: Duration) -> impl Iterator<Item = &Task> {
    tasks.iter().filter(move |task| match (task.started_at, task.created_at) {
        (None, Some(created_at)) => now - created_at > idle_timeout,
        (Some(started_at), _) => now - started_at > OLDEST_JOB,
        (None, None) => false,
    })
}

/// "Each job in a workflow can run for up to 5 days of execution time" on a self-hosted runner
/// (<https://docs.github.com/en/actions/reference/limits>), and one day more for luck.
const OLDEST_JOB: Duration = Duration::days(6);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fargate::tags,
        ids::{Attempt, JobId},
        ports::TaskArn,
    };

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
    const TIMEOUT: Duration = Duration::minutes(10);

    fn runner(id: u64, online: bool, busy: bool) -> Registration {
        Registration { id: RunnerId(id), name: format!("fargate-{id}-1"), online, busy, labels: vec![] }
    }

    fn task(id: u64, minutes: i64) -> Task {
        let since = NOW - Duration::minutes(minutes);
        Task {
            arn: TaskArn(format!("task/{id}")),
            live: true,
            created_at: Some(since),
            started_at: Some(since),
            tags: BTreeMap::from([(tags::RUNNER_ID.to_owned(), id.to_string())]),
        }
    }

    fn registered(runner: &Registration) -> Registered {
        let place = Target { owner: "acme".into(), repository: None, installation: None };
        Registered { runner: runner.clone(), place }
    }

    fn findings(runners: &[Registration], tasks: &[Task]) -> Vec<Finding> {
        let registered: Vec<_> = runners.iter().map(registered).collect();
        compare(&registered, tasks, NOW, TIMEOUT).findings
    }

    #[test]
    fn nothing_to_do_while_all_is_well() {
        let runners =
            [runner(1, true, false), runner(2, true, true), runner(3, false, false), runner(4, true, false)];
        let tasks = [task(1, 9), task(2, 600), task(3, 9), task(5, 9)];
        assert_eq!(findings(&runners, &tasks), []);
    }

    #[test]
    fn each_finding() {
        let (idle, hung, no_task) =
            (runner(1, true, false), runner(2, false, false), runner(3, false, false));
        let foreign = Registration { name: "other".into(), ..runner(9, false, false) };
        let runners = [idle.clone(), hung.clone(), no_task.clone(), foreign];
        let tasks = [task(1, 11), task(2, 11), task(4, 11)];
        assert_eq!(
            findings(&runners, &tasks),
            [
                Finding::Idle(idle, task(1, 11)),
                Finding::Hung(hung, task(2, 11)),
                Finding::NoTask(registered(&no_task), Purpose::Job(JobId(3), Attempt::FIRST)),
                Finding::NoRegistration(task(4, 11)),
            ]
        );
    }

    #[test]
    fn stuck_tasks() {
        let pending = Task { started_at: None, ..task(1, 11) };
        let tasks = [pending.clone(), task(2, 600), task(3, 60 * 24 * 6 + 1)];
        let stuck: Vec<_> = stuck(&tasks, NOW, TIMEOUT).collect();
        assert_eq!(stuck, [&pending, &tasks[2]]);
    }
}
