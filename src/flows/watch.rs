//! Whether runners die whatever the job: what a process has seen of that, and one probe a minute while it is so.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use time::OffsetDateTime;
use tokio::sync::Mutex;

use crate::{
    error::{CallError, Class},
    fargate::tags::TaskTags,
    ids::RunnerNames,
    lambda::outcome::{Deferral, Reason, Wait},
    ports::{FindTasks, Github, Task, TaskArn, Tasks},
    protocol::{
        books::target,
        debt::link,
        outbreak::{Clue, Outbreak, outbreak},
        timing,
    },
};

/// Questions to GitHub of one look. What was answered is kept, so the next one asks about others.
const MOST_ASKED: usize = 10;

/// What a process has seen of its fleet's health, by the task definition.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    seen: RefCell<BTreeMap<String, Health>>,
    /// Held by whoever looks: of a batch that asks all at once, one does.
    turn: Mutex<()>,
}

#[derive(Debug, Clone, Default)]
struct Health {
    at: Option<OffsetDateTime>,
    outbreak: Option<Outbreak>,
    /// When this process let a runner be started all the same.
    tried: Option<OffsetDateTime>,
    /// What GitHub was asked of tasks that ended with code 0.
    asked: BTreeMap<TaskArn, Clue>,
}

/// Where it is looked.
#[derive(Debug)]
pub(crate) struct Looks<'a, G, E> {
    pub(crate) github: Option<&'a G>,
    pub(crate) ecs: &'a E,
    pub(crate) names: &'a RunnerNames,
    /// How old a look may be by which all is well; `None`: however old.
    pub(crate) good_for: Option<Duration>,
    /// Whether all tasks that ended within the hour are read: before a job is given up. In a big fleet a hundred of them show
    /// an outbreak late.
    pub(crate) all: bool,
    pub(crate) now: OffsetDateTime,
}

impl Watch {
    /// Whether runners of that task definition die whatever the job. ECS is asked when the process begins, again and
    /// again while it is so, and when something says that it may be. An error: nobody knows whether they do.
    pub(crate) async fn outbreak<G: Github, E: FindTasks>(
        &self,
        looks: &Looks<'_, G, E>,
        definition: &str,
    ) -> Result<Option<Outbreak>, CallError> {
        let _turn = self.turn.lock().await;
        let mut seen = self.seen.borrow().get(definition).cloned().unwrap_or_default();
        if let Some(at) = seen.at {
            let good_for = if seen.outbreak.is_some() { Some(timing::WATCH) } else { looks.good_for };
            if good_for.is_none_or(|good_for| looks.now - at < good_for) {
                return Ok(seen.outbreak);
            }
        }
        seen.outbreak = match looks.look(definition, &mut seen.asked).await {
            // What was so a moment ago is so until it is seen to be over.
            Err(_) if seen.outbreak.is_some() => return Ok(seen.outbreak),
            looked => looked?,
        };
        seen.at = Some(looks.now);
        let found = seen.outbreak.clone();
        // Another message may have let a probe go meanwhile.
        let mut watch = self.seen.borrow_mut();
        let tried = watch.get(definition).and_then(|now| now.tried);
        watch.insert(definition.to_owned(), Health { tried, ..seen });
        Ok(found)
    }

    /// Whether runners of that task definition die whatever the job, and a probe is due; an error: they do, and none is.
    pub(crate) async fn probe_due<G: Github, E: FindTasks>(
        &self,
        looks: &Looks<'_, G, E>,
        definition: &str,
    ) -> Result<Option<Outbreak>, Deferral> {
        match self.outbreak(looks, definition).await.unwrap_or_else(unseen) {
            Some(outbreak) if self.was_probed_lately(&outbreak, definition, looks.now) => {
                Err(wait(&outbreak))
            }
            outbreak => Ok(outbreak),
        }
    }

    /// Takes the probe of this minute, of which there is one: its number. `None`: another message has it.
    pub(crate) fn take_probe(
        &self,
        outbreak: &Outbreak,
        definition: &str,
        now: OffsetDateTime,
    ) -> Option<u64> {
        if self.was_probed_lately(outbreak, definition, now) {
            return None;
        }
        self.seen.borrow_mut().entry(definition.to_owned()).or_default().tried = Some(now);
        Some(timing::nth(timing::PROBE, now))
    }

    fn was_probed_lately(&self, outbreak: &Outbreak, definition: &str, now: OffsetDateTime) -> bool {
        let tried = self.seen.borrow().get(definition).and_then(|health| health.tried);
        outbreak.newest.max(tried).is_some_and(|last| now - last < timing::PROBE)
    }
}

impl<G: Github, E: FindTasks> Looks<'_, G, E> {
    /// A hundred tasks of each kind tell nearly as much as all: their order has nothing to do with time.
    async fn look(
        &self,
        definition: &str,
        asked: &mut BTreeMap<TaskArn, Clue>,
    ) -> Result<Option<Outbreak>, CallError> {
        let mut tasks: Vec<Task> = match self.all {
            true => self.ecs.ended_tasks(None).await?,
            false => self.ecs.some_tasks(Tasks::Ended).await?,
        };
        if outbreak(&tasks, definition, self.names, asked).is_none() {
            return Ok(None);
        }
        let live = self.ecs.some_tasks(Tasks::Live).await?;
        asked.retain(|arn, _| tasks.iter().chain(&live).any(|task| task.arn == *arn));
        for probe in live.iter().filter(|task| self.is_unheard_of(task)) {
            if self.is_at_work(probe).await {
                asked.insert(probe.arn.clone(), Clue::Took);
            }
        }
        tasks.extend(live);
        for _ in 0..=MOST_ASKED {
            let Some(found) = outbreak(&tasks, definition, self.names, asked) else { return Ok(None) };
            let Some(doubt) = found.doubts.first() else { return Ok(Some(found)) };
            let clue = match self.github {
                Some(github) => match github.job(&doubt.place, doubt.job).await {
                    Ok(state) => doubt.settled_by(&link(state.as_ref(), self.names, None, self.now)),
                    // GitHub's limit says nothing of the runners, and is one installation's.
                    Err(error) if matches!(error.class, Class::RateLimited { .. }) => return Err(error),
                    // Then nothing else can be asked of it either, so waiting loses nothing.
                    Err(_) => return Ok(Some(found)),
                },
                // `runner-init` has codes of its own: with 0, it has seen a job.
                None => Clue::Took,
            };
            asked.insert(doubt.task.clone(), clue);
        }
        Err(CallError::new(
            Class::Transient,
            "whether all runners die takes more questions than one look has",
        ))
    }

    /// A probe is owed to nobody, so nobody else asks what became of it, should the event of its job be lost.
    fn is_unheard_of(&self, task: &Task) -> bool {
        let tags = TaskTags(&task.tags);
        task.started_at.is_some()
            && !tags.ran_a_job()
            && tags.purpose(self.names).is_some_and(|purpose| purpose.is_probe())
    }

    async fn is_at_work(&self, task: &Task) -> bool {
        let tags = TaskTags(&task.tags);
        match (self.github, tags.runner_id()) {
            (Some(github), Some(id)) => {
                github.runner(&target(tags), id).await.is_ok_and(|found| found.is_some_and(|it| it.busy))
            }
            _ => false,
        }
    }
}

/// Runners are started as ever; and no job is given up.
pub(crate) fn unseen(error: CallError) -> Option<Outbreak> {
    tracing::warn!(%error, "whether all runners die could not be seen");
    None
}

pub(crate) fn wait(outbreak: &Outbreak) -> Deferral {
    Deferral { reason: Reason::NeedsOperator, wait: Wait::About(timing::OUTBREAK), detail: said(outbreak) }
}

/// For people.
pub(crate) fn said(outbreak: &Outbreak) -> String {
    format!(
        "{} runners in a row died and none took a job ({}): it is not the jobs' fault, so they wait; see why the tasks \
         stopped, and mend the image, its registry, the network or the task definition. One runner a minute finds out \
         when that is done",
        outbreak.died, outbreak.causes
    )
}
