//! A fault of the whole fleet is not the job's. When runners of different jobs die one after another, and none takes a
//! job in between, the cause is the image, the network, the task definition or GitHub, and no job is given up for it.

use std::collections::{BTreeMap, BTreeSet};

use time::{Duration, OffsetDateTime};

use crate::{
    exit::ExitReason,
    fargate::{
        stop::{Lost, Stop},
        tags::TaskTags,
    },
    ids::{JobId, Purpose, RunnerNames},
    ports::{Target, Task, TaskArn},
    protocol::{books::target, debt::Link},
};

/// Of so many different jobs.
const MANY: usize = 3;
/// A runner connects, and has had its job, no sooner than this after the start of its containers.
const AT_ONCE: Duration = Duration::seconds(30);

/// Runners of one task definition die before they take a job, whatever the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbreak {
    /// How many died in a row,
    pub died: usize,
    /// and of what, for people.
    pub causes: String,
    /// When the newest runner was started.
    pub newest: Option<OffsetDateTime>,
    /// Of those that it is read from, the ones that ended with code 0, and were not asked about.
    pub doubts: Vec<Doubt>,
}

/// GitHub's scripts give 0 for nearly everything, so the runner may have run a job that nobody told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// The runner's task,
    pub task: TaskArn,
    /// its name,
    pub runner: Purpose,
    /// the job that it was started for,
    pub job: JobId,
    /// and where that lives.
    pub place: Target,
}

impl Doubt {
    /// What that job tells of the runner.
    pub fn settled_by(&self, link: &Link) -> Clue {
        match link {
            Link::Waits => Clue::Died,
            Link::Got { runner, .. } if *runner == self.runner => Clue::Took,
            // The job has had another runner, or needs none any more.
            _ => Clue::Nothing,
        }
    }
}

/// What is known of a runner that ended with code 0, or whose end nobody told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clue {
    /// It took a job.
    Took,
    /// It died before it took one.
    Died,
    /// It may have done either.
    Nothing,
}

/// What became of a runner.
enum Fate {
    /// It took a job, or may have.
    Took,
    /// It died before it took one, of this.
    Died(String),
    /// That is not known yet, or says nothing of the fleet.
    Open,
}

/// Reads the tasks that ECS shows, live and ended ones: `None` is all well. `definition` is the family, or
/// family:revision, or ARN, that runners are started from; `clues` is what was asked of tasks in doubt.
pub fn outbreak(
    tasks: &[Task],
    definition: &str,
    names: &RunnerNames,
    clues: &BTreeMap<TaskArn, Clue>,
) -> Option<Outbreak> {
    let mut tasks: Vec<&Task> = tasks
        .iter()
        .filter(|task| is_of(definition, task) && TaskTags(&task.tags).runner_name().is_some())
        .collect();
    tasks.sort_by_key(|task| std::cmp::Reverse(task.created_at));
    let (mut causes, mut owners, mut doubts, mut died) = (BTreeMap::new(), BTreeSet::new(), Vec::new(), 0);
    for task in &tasks {
        match (fate(task, names), clues.get(&task.arn)) {
            (Fate::Took, _) | (_, Some(Clue::Took)) => break,
            (Fate::Open, _) | (_, Some(Clue::Nothing)) => {}
            (Fate::Died(cause), clue) => {
                died += 1;
                *causes.entry(cause).or_insert(0) += 1;
                if owners.len() < MANY && clue.is_none() {
                    doubts.extend(doubt(task, names));
                }
                owners.insert(owner(task, names));
            }
        }
    }
    if owners.len() < MANY {
        return None;
    }
    let causes: Vec<String> = causes.into_iter().map(|(cause, count)| format!("{count} × {cause}")).collect();
    let newest = tasks.iter().filter_map(|task| task.created_at).max();
    Some(Outbreak { died, causes: causes.join(", "), newest, doubts })
}

fn doubt(task: &Task, names: &RunnerNames) -> Option<Doubt> {
    let tags = TaskTags(&task.tags);
    task.stop.as_ref()?.exit().filter(|exit| *exit == ExitReason::Ended(0))?;
    let runner = tags.purpose(names)?;
    Some(Doubt { task: task.arn.clone(), job: runner.job()?, runner, place: target(tags) })
}

/// A runner of the pool is nobody's: each is one of its own.
fn owner<'a>(task: &'a Task, names: &RunnerNames) -> (Option<JobId>, &'a str) {
    match TaskTags(&task.tags).owner(names) {
        Some(job) => (Some(job), ""),
        None => (None, &task.arn.0),
    }
}

fn fate(task: &Task, names: &RunnerNames) -> Fate {
    if TaskTags(&task.tags).ran_a_job() {
        return Fate::Took;
    }
    let Some(stop) = &task.stop else { return Fate::Open };
    let has_codes_of_its_own = TaskTags(&task.tags).runner_id().is_none();
    match (stop.code.as_deref(), stop.exit()) {
        (Some("UserInitiated"), _) => Fate::Open,
        _ if stop.lost() == Lost::Interrupted => Fate::Open,
        (_, Some(ExitReason::Hung | ExitReason::Stopped)) => Fate::Took,
        // Container-minted: `runner-init` has other codes where there was no job.
        (_, Some(ExitReason::Ended(..129))) if has_codes_of_its_own => Fate::Took,
        (_, Some(ExitReason::Idle | ExitReason::NameTaken)) => Fate::Open,
        // There is no job to ask about it.
        (_, Some(ExitReason::Ended(0))) if is_of_the_pool(task, names) && !ended_at_once(task, stop) => {
            Fate::Open
        }
        _ => Fate::Died(cause(stop)),
    }
}

fn is_of_the_pool(task: &Task, names: &RunnerNames) -> bool {
    TaskTags(&task.tags).purpose(names).is_some_and(|purpose| purpose.job().is_none())
}

/// No job was over by then.
fn ended_at_once(task: &Task, stop: &Stop) -> bool {
    task.started_at.zip(stop.stopped_at).is_some_and(|(from, until)| until - from < AT_ONCE)
}

fn cause(stop: &Stop) -> String {
    match (stop.exit_code, &stop.code) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(code)) => code.clone(),
        (None, None) => "unknown".to_owned(),
    }
}

/// Whether the task was started from that definition, of any revision if it names none.
fn is_of(definition: &str, task: &Task) -> bool {
    let name = |text: &str| text.rsplit('/').next().unwrap_or_default().to_owned();
    let (wanted, its) = (name(definition), name(&task.definition));
    match wanted.contains(':') {
        true => its == wanted,
        false => its.split(':').next() == Some(&wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fargate::tags, ids::Attempt, ports::TaskArn};

    const RAN: &str = "a job";

    /// The runners in the order in which they were started: the job, and what became of its runner.
    fn tasks(runners: &[(&str, &str)]) -> Vec<Task> {
        let task = |(nth, (job, what)): (usize, &(&str, &str))| {
            let mut its = BTreeMap::from([
                (tags::RUNNER_NAME.to_owned(), format!("fargate-{job}")),
                (tags::RUNNER_ID.to_owned(), nth.to_string()),
            ]);
            let (code, exit_code) = match *what {
                "lives" => (None, None),
                RAN => {
                    its.insert(tags::RAN_JOB.to_owned(), "9".to_owned());
                    (Some("EssentialContainerExited"), Some(1))
                }
                what => match what.parse() {
                    Ok(exit_code) => (Some("EssentialContainerExited"), Some(exit_code)),
                    Err(_) => (Some(what), None),
                },
            };
            Task {
                arn: TaskArn(format!("task/{nth}")),
                live: code.is_none(),
                on_instance: false,
                created_at: OffsetDateTime::from_unix_timestamp(nth as i64).ok(),
                started_at: None,
                tags: its.into(),
                definition: "arn:aws:ecs:eu-central-1:1:task-definition/runner:3".to_owned(),
                stop: code.map(|code| Stop { code: Some(code.to_owned()), exit_code, ..Stop::default() }),
                usage: None,
            }
        };
        runners.iter().enumerate().map(task).collect()
    }

    fn died(runners: &[(&str, &str)]) -> Option<usize> {
        outbreak(&tasks(runners), "runner", &RunnerNames::default(), &BTreeMap::new()).map(|it| it.died)
    }

    #[test]
    fn three_jobs_in_a_row() {
        let three = [("1-1", "1"), ("2-1", "TaskFailedToStart"), ("3-1", "7")];
        assert_eq!(died(&three), Some(3));
        assert_eq!(died(&three[..2]), None);
        // One job's runners say something of that job, however many they are.
        assert_eq!(died(&[("1-1", "1"), ("1-2", "1"), ("2-1", "1"), ("1-3", "1")]), None);
        // Each of the pool's is one of its own.
        assert_eq!(died(&[("pool-1-0", "1"), ("pool-1-1", "1"), ("pool-2-0", "1")]), Some(3));
    }

    #[test]
    fn what_tells_nothing_is_passed_over_and_a_job_ends_the_row() {
        let with = |what: &'static str, at: usize| {
            let mut runners = vec![("1-1", "1"), ("2-1", "1"), ("3-1", "1")];
            runners.insert(at, ("4-1", what));
            died(&runners)
        };
        for open in ["lives", "SpotInterruption", "UserInitiated", "84"] {
            assert_eq!(with(open, 3), Some(3), "{open}");
        }
        for took in [RAN, "86", "89"] {
            assert_eq!(with(took, 0), Some(3), "{took} before them");
            for at in 1..=3 {
                assert_eq!(with(took, at), None, "{took} at {at}");
            }
        }
    }

    #[test]
    fn code_0_is_doubtful_for_a_job_s_runner() {
        let tasks = tasks(&[("4-1", "0"), ("pool-1-0", "1"), ("2-1", "1"), ("1-1", "0")]);
        let names = RunnerNames::default();
        let found =
            outbreak(&tasks, "runner", &names, &BTreeMap::new()).unwrap_or_else(|| panic!("no outbreak"));
        // Three are enough: the oldest is not asked about.
        assert_eq!(found.doubts.iter().map(|doubt| doubt.job.0).collect::<Vec<_>>(), [1]);
        let with = |clue| {
            let clues = BTreeMap::from([(found.doubts[0].task.clone(), clue)]);
            outbreak(&tasks, "runner", &names, &clues).map(|found| (found.died, found.doubts.len()))
        };
        assert_eq!(with(Clue::Took), None);
        assert_eq!(with(Clue::Died), Some((4, 0)));
        assert_eq!(with(Clue::Nothing), Some((3, 1)), "the next one is asked about");
    }

    #[test]
    fn a_pools_runner_that_ended_with_code_0_died_only_if_no_job_was_over_by_then() {
        for (seconds, died) in [(5, Some(3)), (29, Some(3)), (30, None), (600, None)] {
            let mut tasks = tasks(&[("pool-1-0", "0"), ("pool-1-1", "0"), ("pool-2-0", "0")]);
            for task in &mut tasks {
                task.started_at = task.created_at;
                let stop = task.stop.as_mut().unwrap_or_else(|| panic!("none"));
                stop.stopped_at = task.created_at.map(|at| at + Duration::seconds(seconds));
            }
            let found = outbreak(&tasks, "runner", &RunnerNames::default(), &BTreeMap::new());
            assert_eq!(found.map(|it| it.died), died, "after {seconds} s");
        }
    }

    #[test]
    fn only_the_runner_that_a_job_got_is_known_to_have_taken_it() {
        let runner = |attempt| Purpose::Job(JobId(1), Attempt(attempt));
        let doubt = Doubt {
            task: TaskArn("task/1".into()),
            runner: runner(1),
            job: JobId(1),
            place: Target::default(),
        };
        let got = |runner| Link::Got { runner, over: true, since: None };
        for (link, clue) in [
            (Link::Waits, Clue::Died),
            (got(runner(1)), Clue::Took),
            (got(runner(2)), Clue::Nothing),
            (Link::NotOwed("cancelled"), Clue::Nothing),
            (Link::HeldBack, Clue::Nothing),
            (Link::Unsettled, Clue::Nothing),
            (Link::Unsaid, Clue::Nothing),
        ] {
            assert_eq!(doubt.settled_by(&link), clue, "{link:?}");
        }
    }

    #[test]
    fn of_a_container_minted_runner_the_code_tells_whether_it_took_a_job() {
        let names = RunnerNames::default();
        for (what, died) in [("0", false), ("1", false), ("87", true), ("137", true)] {
            let mut tasks = tasks(&[("1-1", what), ("2-1", what), ("pool-1-0", what)]);
            for task in &mut tasks {
                std::sync::Arc::make_mut(&mut task.tags).remove(tags::RUNNER_ID);
            }
            assert_eq!(outbreak(&tasks, "runner", &names, &BTreeMap::new()).is_some(), died, "{what}");
        }
    }

    #[test]
    fn it_says_of_what_and_of_which_task_definition() {
        let tasks = tasks(&[("1-1", "7"), ("2-1", "TaskFailedToStart"), ("3-1", "7"), ("4-1", "lives")]);
        let names = RunnerNames::default();
        let none = BTreeMap::new();
        let found = outbreak(&tasks, "runner", &names, &none).unwrap_or_else(|| panic!("no outbreak"));
        assert_eq!(found.causes, "1 × TaskFailedToStart, 2 × exit code 7");
        assert_eq!(found.newest, OffsetDateTime::from_unix_timestamp(3).ok());
        for (definition, same) in
            [("runner:3", true), ("a/runner:3", true), ("runner:4", false), ("run", false)]
        {
            assert_eq!(outbreak(&tasks, definition, &names, &none).is_some(), same, "{definition}");
        }
    }
}
