//! What the tags of the tasks that ECS shows tell of jobs. Where the containers mint, nobody can ask GitHub, and this
//! is all there is: which jobs have a runner, and which are over, as far as GitHub's events came while the tasks lived.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    fargate::{stop::Stop, tags::TaskTags},
    ids::{Attempt, JobId, Purpose, RunnerNames},
    ports::{Task, TaskArn},
};

/// What the tags of the tasks tell, live and ended ones.
#[derive(Debug, Default)]
pub struct Told {
    /// Whose runner a job was given, by the job.
    runners: BTreeMap<JobId, Purpose>,
    /// Jobs that are over, or have another's runner.
    served: BTreeSet<JobId>,
    /// Whose runner a job was given, where only its own tasks tell.
    hinted: BTreeMap<JobId, Purpose>,
    /// The runners of which a job's own tasks tell that it had them.
    taken: BTreeSet<Purpose>,
    /// The newest runner that was started for a job.
    newest: BTreeMap<JobId, (Attempt, Task)>,
}

/// Who is owed another runner, now that one is gone.
#[derive(Debug, PartialEq, Eq)]
pub enum TagDebt<'a> {
    /// Nobody: the job at the end of the chain has a runner, or is over.
    ToNobody,
    /// A job whose runner waits, or is on its way.
    Served,
    /// The job that these runners were started for: the newest is this one.
    ToTheJobOf(&'a Task),
    /// A job of which no task is shown.
    Unknown,
}

impl Told {
    /// Reads them.
    pub fn read<'a>(tasks: impl Iterator<Item = &'a Task>, names: &RunnerNames) -> Self {
        let mut told = Told::default();
        for task in tasks {
            let tags = TaskTags(&task.tags);
            let Some(purpose) = tags.purpose(names) else { continue };
            if let Purpose::Job(job, attempt) = purpose {
                if tags.job_is_served() {
                    told.served.insert(job);
                    if let Some(runner) = tags.served_by(names) {
                        told.taken.insert(runner.clone());
                        told.hinted.insert(job, runner);
                    }
                }
                // Two may have been started under one name, on two capacities: the second ends at once.
                let known = told.newest.get(&job).map(|(known, other)| (*known, other.live));
                if known < Some((attempt, task.live)) {
                    told.newest.insert(job, (attempt, task.clone()));
                }
            }
            if let Some(ran) = tags.ran_job() {
                told.runners.insert(ran, purpose);
            }
        }
        told
    }

    /// Follows the chain from that job, one of whose runners is gone: it may have been given another job's runner, that
    /// one another's, … `gone` may be shown as if it lived, or had run the job that it was started for.
    pub fn debt(&self, job: JobId, gone: Option<&TaskArn>) -> TagDebt<'_> {
        match self.end_of_chain(job, |_| None) {
            Some(job) => self.debt_to(job, gone),
            None => TagDebt::ToNobody,
        }
    }

    /// The same of a runner that did not idle: some job waited for it a moment ago, so the chain is followed also where only a
    /// job's own tasks tell which runner it had.
    pub fn debt_of_the_dead(&self, job: JobId, gone: Option<&TaskArn>) -> TagDebt<'_> {
        match self.end_of_chain(job, |job| self.hinted.get(&job)) {
            Some(job) => match self.newest.get(&job) {
                Some((attempt, task)) if self.taken.contains(&Purpose::Job(job, *attempt)) => {
                    TagDebt::ToTheJobOf(task)
                }
                _ => self.debt_to(job, gone),
            },
            None => TagDebt::ToNobody,
        }
    }

    fn debt_to(&self, job: JobId, gone: Option<&TaskArn>) -> TagDebt<'_> {
        match self.newest.get(&job) {
            None => TagDebt::Unknown,
            Some((_, task)) if gone == Some(&task.arn) || TaskTags(&task.tags).ran_a_job() => {
                TagDebt::ToTheJobOf(task)
            }
            Some((_, task)) if task.live => TagDebt::Served,
            // It ran some job, and nobody told which: its own, most likely.
            Some((_, task)) if task.stop.as_ref().is_some_and(Stop::tells_of_a_job) => TagDebt::ToNobody,
            Some((_, task)) => TagDebt::ToTheJobOf(task),
        }
    }

    /// The job that a runner which was asked for that one is owed to now; `None`: nobody. Whoever asks knows more of a job's
    /// own runners than the tags of a moment ago tell.
    pub fn owed(&self, job: JobId) -> Option<JobId> {
        let end = self.end_of_chain(job, |_| None)?;
        let is_served = end != job && matches!(self.debt(end, None), TagDebt::ToNobody | TagDebt::Served);
        (!is_served).then_some(end)
    }

    /// Whether the job is known to have a runner, or to be over.
    pub fn knows(&self, job: JobId) -> bool {
        self.runners.contains_key(&job) || self.served.contains(&job)
    }

    /// The newest runner that was started for the job.
    pub fn newest_of(&self, job: JobId) -> Option<&Task> {
        self.newest.get(&job).map(|(_, task)| task)
    }

    /// The job that is left without a runner; `None`: there is none. `hint`: whose runner a job had, where no runner tells.
    fn end_of_chain<'a>(
        &'a self,
        mut job: JobId,
        hint: impl Fn(JobId) -> Option<&'a Purpose>,
    ) -> Option<JobId> {
        let mut seen = BTreeSet::new();
        loop {
            if !seen.insert(job) {
                return None;
            }
            match self.runners.get(&job).or_else(|| hint(job)) {
                // Its own is owed to that one's.
                Some(Purpose::Job(owner, _)) if *owner != job => job = *owner,
                Some(_) => return None,
                // Nobody told on which.
                None if self.served.contains(&job) => return None,
                None => return Some(job),
            }
        }
    }

    /// Whether that is the newest runner of its job.
    pub fn is_newest(&self, job: JobId, attempt: Attempt) -> bool {
        self.newest.get(&job).is_none_or(|(newest, _)| *newest <= attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fargate::tags;

    /// Runners in the order in which they were started: its name, whether it lives, the job that it ran, and whether
    /// its own job is over, or on which runner.
    fn told(runners: &[(&str, bool, Option<u64>, &str)]) -> Told {
        let task = |&(name, live, ran, served): &(&str, bool, Option<u64>, &str)| {
            let mut its = BTreeMap::from([(tags::RUNNER_NAME.to_owned(), format!("fargate-{name}"))]);
            its.extend(ran.map(|job| (tags::RAN_JOB.to_owned(), job.to_string())));
            its.extend((!served.is_empty()).then(|| (tags::JOB_SERVED.to_owned(), served.to_owned())));
            Task {
                arn: TaskArn(name.to_owned()),
                live,
                on_instance: false,
                created_at: None,
                started_at: None,
                tags: its.into(),
                definition: String::new(),
                stop: None,
                usage: None,
            }
        };
        let tasks: Vec<Task> = runners.iter().map(task).collect();
        Told::read(tasks.iter(), &RunnerNames::default())
    }

    #[test]
    fn the_debt_is_at_the_end_of_the_chain() {
        let (live, ended) = (true, false);
        let to = |told: &Told, gone: &str| match told.debt(JobId(1), Some(&TaskArn(gone.to_owned()))) {
            TagDebt::ToTheJobOf(task) => task.arn.0.clone(),
            debt => format!("{debt:?}"),
        };
        for (runners, want) in [
            (&[("1-1", ended, None, "")][..], "1-1"),
            // ECS shows it as it was before.
            (&[("1-1", live, None, "")], "1-1"),
            (&[("1-1", ended, None, "true")], "ToNobody"),
            (&[("1-1", ended, None, ""), ("1-2", live, None, "")], "Served"),
            (&[("1-1", ended, None, ""), ("1-2", ended, None, "")], "1-2"),
            (&[("1-1", ended, None, ""), ("1-2", live, Some(1), "")], "ToNobody"),
            (&[("1-1", ended, None, ""), ("pool-1-0", live, Some(1), "")], "ToNobody"),
            // Another has its runner.
            (&[("1-1", ended, None, ""), ("2-1", live, Some(1), "")], "2-1"),
            (&[("1-1", ended, None, ""), ("2-1", live, Some(1), "true")], "ToNobody"),
            (&[("1-1", ended, None, "true"), ("2-1", ended, Some(1), "")], "2-1"),
            (&[("1-1", ended, None, ""), ("2-1", live, Some(1), ""), ("2-2", live, None, "")], "Served"),
            (&[("1-1", ended, None, ""), ("2-1", live, Some(1), ""), ("3-1", live, Some(2), "")], "3-1"),
            (&[("1-1", ended, Some(2), ""), ("2-1", live, Some(1), "")], "ToNobody"),
            (&[], "Unknown"),
        ] {
            assert_eq!(to(&told(runners), "1-1"), want, "{runners:?}");
        }
    }

    /// The task of the runner that a job had was over before anybody could write on it.
    #[test]
    fn of_one_that_died_early_the_chain_is_followed_further() {
        let (live, ended) = (true, false);
        let gone = TaskArn("1-1".to_owned());
        for (runners, want) in [
            (&[("1-1", ended, None, "fargate-2-1"), ("2-1", ended, None, "")][..], Some("2-1")),
            (&[("1-1", ended, None, "fargate-2-1"), ("2-1", ended, None, ""), ("2-2", live, None, "")], None),
            (&[("1-1", ended, None, "fargate-2-1"), ("3-1", live, Some(2), "")], Some("3-1")),
            (&[("1-1", ended, None, "fargate-pool-1-0")], None),
            (&[("1-1", ended, None, "true")], None),
        ] {
            let told = told(runners);
            assert_eq!(told.debt(JobId(1), Some(&gone)), TagDebt::ToNobody, "one that idled: {runners:?}");
            let dead = match told.debt_of_the_dead(JobId(1), Some(&gone)) {
                TagDebt::ToTheJobOf(task) => Some(task.arn.0.as_str()),
                _ => None,
            };
            assert_eq!(dead, want, "{runners:?}");
        }
    }

    /// Whoever asks for a job's runner knows of its own runners already; of those at the end of a chain, the tags tell.
    #[test]
    fn a_runner_that_was_asked_for_a_job_may_be_owed_to_another() {
        let (live, ended) = (true, false);
        for (runners, want) in [
            (&[][..], Some(1)),
            (&[("1-1", live, None, "")], Some(1)),
            (&[("1-1", ended, None, "")], Some(1)),
            (&[("1-1", ended, Some(2), "")], Some(1)),
            (&[("1-1", ended, None, "true")], None),
            (&[("1-2", live, Some(1), "")], None),
            (&[("pool-1-0", live, Some(1), "")], None),
            (&[("2-1", live, Some(1), "")], Some(2)),
            (&[("2-1", live, Some(1), ""), ("2-2", live, None, "")], None),
            (&[("2-1", live, Some(1), "true")], None),
            (&[("2-1", live, Some(1), ""), ("1-1", live, Some(2), "")], None),
        ] {
            let told = told(runners);
            assert_eq!(told.owed(JobId(1)), want.map(JobId), "{runners:?}");
            assert!(want == Some(1) || told.knows(JobId(1)), "{runners:?}");
        }
    }

    /// Its own, most likely, if nobody told of another: unless somebody does now.
    #[test]
    fn a_runner_that_ended_after_a_job_has_run_its_own() {
        let ended = |code| {
            let mut told = told(&[("1-1", false, Some(3), ""), ("2-1", false, None, "")]);
            let stop = Stop { started: true, exit_code: Some(code), ..Stop::default() };
            for (_, task) in told.newest.values_mut() {
                task.stop = Some(stop.clone());
            }
            told
        };
        let gone = TaskArn("2-1".to_owned());
        for (code, is_owed) in [(0, false), (1, false), (89, false), (83, true), (84, true), (137, true)] {
            let told = ended(code);
            assert_eq!(told.debt(JobId(2), None) != TagDebt::ToNobody, is_owed, "{code}");
            assert!(matches!(told.debt(JobId(2), Some(&gone)), TagDebt::ToTheJobOf(_)), "{code}");
            assert!(
                matches!(told.debt(JobId(1), None), TagDebt::ToTheJobOf(_)),
                "another job had it: {code}"
            );
        }
    }

    #[test]
    fn the_newest_runner_of_a_job() {
        let told = told(&[("1-2", false, None, ""), ("1-1", false, None, "")]);
        for (attempt, is_newest) in [(1, false), (2, true), (3, true)] {
            assert_eq!(told.is_newest(JobId(1), Attempt(attempt)), is_newest, "{attempt}");
        }
    }
}
