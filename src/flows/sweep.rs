//! The safety net, every five minutes: what never came as an event is found here.

use std::{cell::RefCell, collections::BTreeMap, sync::Arc};

use futures_util::{StreamExt, stream};
use time::OffsetDateTime;

use crate::{
    error::{CallError, Class},
    fargate::{
        stop::Stop,
        tags::{self, TaskTags},
    },
    flows::{
        cause::Cause,
        chain::Taken,
        course::Course,
        group,
        patience::{AT_ONCE, patiently},
        reconcile::Reconciler,
        tally::Tally,
    },
    intake::{glob::RepositoryGlob, skip::SkipReason},
    lambda::outcome::{Done, Outcome},
    ports::{Deliveries, FindTasks, Github, Queue, Scope, StartTasks, Target, Task, TendTasks, Timer},
    protocol::{
        books::{self, Registered, Runner, target},
        life::Life,
        tend::Heard,
        timing,
    },
};

/// As many runners as a sweep surely gets through, whatever GitHub's limits leave it.
const RUNNERS_A_SWEEP: usize = 40;

/// As many places as a sweep surely lists.
const PLACES_A_SWEEP: usize = 100;

/// Of so many sweeps, one looks for ends that nobody told of.
const ENDS_EACH: u64 = timing::ENDS_EVERY.as_secs() / timing::SWEEP_EVERY.as_secs();

/// An owner, and in scope `repo` a repository, in lower case.
type ListKey = (String, Option<String>);

/// Whether GitHub is asked about it: then what the tasks' tags tell spares questions.
fn is_asked_about(runner: &Runner) -> bool {
    runner.past && runner.life != Life::Minted
}

/// In what order the sweep sees to them.
fn put_in_order(runners: &mut [Runner], nth: u64) {
    // Where one sweep ends for lack of time, the next does not begin with the same ones.
    let nth = usize::try_from(nth).unwrap_or_default();
    let first = nth.wrapping_mul(RUNNERS_A_SWEEP) % runners.len().max(1);
    runners.rotate_left(first);
    // What costs most money and fewest calls comes first: GitHub's rate limit may end the rest.
    runners.sort_by_key(|runner| runner.life != Life::Spent);
}

/// What GitHub shows of the fleet.
#[derive(Default)]
struct Listed {
    registered: Vec<Registered>,
    /// The places of which it shows nothing.
    unlisted: BTreeMap<ListKey, Unlisted>,
}

/// Why GitHub lists nothing of a place.
#[derive(Clone, Copy)]
enum Unlisted {
    /// It did not answer, or not this time.
    Unseen,
    /// It shows no such repository.
    Gone,
}

impl<G, E, S, Q, C> Reconciler<G, E, S, Q, C>
where
    G: Github + Deliveries,
    E: FindTasks + TendTasks,
    S: StartTasks,
    Q: Queue,
    C: Timer,
{
    /// One sweep. It fails as a whole only when it could not even look.
    pub(crate) async fn sweep(
        &self,
        scheduled: OffsetDateTime,
        deadline: OffsetDateTime,
    ) -> Result<Outcome, CallError> {
        if self.clock.now() - scheduled > timing::STALE {
            return Ok(Outcome::skipped(SkipReason::Stale, "a later sweep is due"));
        }
        let mut tally = Tally::default();
        let Some(github) = &self.github else {
            self.keep_books_by_tags(deadline, &mut tally).await?;
            return Ok(tally.into_outcome());
        };
        let kept = self.keep_books(github, scheduled, deadline, &mut tally).await;
        match kept {
            // The next sweep comes sooner than a repetition of this one could do more.
            Err(error) if matches!(error.class, Class::RateLimited { .. }) => {
                tally.blind = true;
                tally.note(Err(error));
            }
            kept => kept?,
        }
        Ok(tally.into_outcome())
    }

    /// Compares registrations with tasks, and sees to what does not fit.
    async fn keep_books(
        &self,
        github: &G,
        scheduled: OffsetDateTime,
        deadline: OffsetDateTime,
        tally: &mut Tally,
    ) -> Result<(), CallError> {
        // Registrations first: see `books::compare`.
        let Listed { registered, unlisted } = self.registered(github, scheduled, deadline, tally).await?;
        let is_first_of_hour = u64::from(scheduled.minute()) * 60 < timing::SWEEP_EVERY.as_secs();
        if is_first_of_hour {
            tally.releases_behind = self.releases_behind(github, &registered).await;
        }
        // Which pools there are. Without an answer, those that were.
        if let Err(error) = self.document.classes(self.clock.now()).await {
            tally.note(Err(error));
        }
        if is_first_of_hour {
            tally.group_too_wide = self.some_group_is_too_wide(github).await;
        }
        let tasks = self.live_tasks().await?;
        let all = tasks.len();
        let tasks = self.without_unlisted(tasks, &unlisted, tally).await;
        let mut books =
            books::compare(&registered, &tasks, &self.policy.names, self.clock.now(), self.idle_timeout);
        tally.oldest_waiting = books.oldest_waiting.unwrap_or_default();
        let nth = timing::nth(timing::SWEEP_EVERY, scheduled);
        put_in_order(&mut books.runners, nth);
        let looks_at_ends = nth.is_multiple_of(ENDS_EACH);
        let ended = match looks_at_ends || books.runners.iter().any(is_asked_about) {
            true => self.ended_tasks(tally).await,
            false => None,
        };
        if let Some(ended) = ended.as_ref().filter(|_| looks_at_ends) {
            let untold = books::untold(ended, &tasks, &registered, &self.policy.names, scheduled);
            books.runners.extend(untold);
        }
        let taken = ended.map(|ended| Taken::read(ended.iter().chain(&tasks), &self.policy.names));
        let most = self.most_idle(all, books.pools.values().sum());
        let course = &Course::new(taken, books.pools, most);
        let noted = &RefCell::new(std::mem::take(tally));
        stream::iter(books.runners)
            .for_each_concurrent(AT_ONCE, |runner| async move {
                if self.clock.now() + timing::ONE_STEP > deadline {
                    noted.borrow_mut().left += 1;
                    return;
                }
                let tended = patiently(&self.clock, deadline, || self.see_to(&runner, course)).await;
                let mut noted = noted.borrow_mut();
                if let Ok(done) = &tended {
                    noted.add(done);
                }
                noted.note(tended.map(drop));
            })
            .await;
        *tally = noted.take();
        tally.pools = course.pools.take();
        self.fill(github, most, scheduled, deadline, tally).await;
        Ok(())
    }

    /// Those of the fleet. While it is drained, no class lets one of them idle longer than the stack does.
    async fn live_tasks(&self) -> Result<Vec<Task>, CallError> {
        let mut tasks = self.ecs.live_tasks().await?;
        let idles_longer =
            |task: &Task| TaskTags(&task.tags).idle_timeout().is_some_and(|said| said > self.idle_timeout);
        for task in tasks.iter_mut().filter(|task| self.drained && idles_longer(task)) {
            Arc::make_mut(&mut task.tags).remove(tags::IDLE_TIMEOUT);
        }
        Ok(tasks)
    }

    /// How far the oldest runner is behind GitHub's newest release: GitHub gives no job to one that was not updated
    /// within 30 days ("Self-hosted runners reference"). No sweep fails for that.
    async fn releases_behind(&self, github: &G, registered: &[Registered]) -> Option<u32> {
        let up = registered.iter().filter(|it| it.runner.online);
        let (oldest, place) =
            up.filter_map(|it| Some((it.runner.version?, &it.place))).min_by_key(|it| it.0)?;
        match github.newest_release(place).await {
            Ok(newest) => {
                let newest = newest?;
                let behind = oldest.behind(newest);
                if behind > 0 {
                    tracing::warn!(
                        %oldest, %newest,
                        "runners are behind GitHub's newest release, which refuses them 30 days after it: start \
                         them from an image with the newest one"
                    );
                }
                Some(behind)
            }
            Err(error) => {
                tracing::warn!(%error, "GitHub did not say which release is the newest");
                None
            }
        }
    }

    /// Whether jobs may use runners that the policy lets them start none of: GitHub's runner groups decide that. No
    /// sweep fails for it.
    async fn some_group_is_too_wide(&self, github: &G) -> Option<bool> {
        let owner = self.policy.organization.clone().filter(|_| self.scope == Scope::Org)?;
        let place = Target { owner, ..Target::default() };
        let (mut is_wide, mut is_sure) = (false, true);
        for looked in group::look(github, self.document.newest().as_deref(), &place).await {
            match looked.gaps(&self.policy, &place.owner) {
                Ok(gaps) => {
                    for gap in gaps.iter().flatten().filter(|gap| gap.wider) {
                        tracing::error!(
                            "the runner group is wider than the policy: {}; {}",
                            gap.found,
                            gap.fix
                        );
                        is_wide = true;
                    }
                    is_sure &= gaps.is_some();
                }
                Err(error) => {
                    tracing::warn!(%error, "GitHub did not say who may use the runner group");
                    is_sure = false;
                }
            }
        }
        Some(is_wide).filter(|is_wide| *is_wide || is_sure)
    }

    /// All registrations of the fleet, in every place where there may be some; and the places that GitHub did not
    /// list. One bad place is one bad place: it fails the sweep only if there is no other. Of hundreds, those for which there
    /// is no time are the first of another sweep: half of it is for the runners.
    async fn registered(
        &self,
        github: &G,
        scheduled: OffsetDateTime,
        deadline: OffsetDateTime,
        tally: &mut Tally,
    ) -> Result<Listed, CallError> {
        let mut all = Listed::default();
        let mut places = self.places().await?;
        let is_only = places.len() == 1;
        let now = self.clock.now();
        let until = now + (deadline - now) / 2;
        let nth = usize::try_from(timing::nth(timing::SWEEP_EVERY, scheduled)).unwrap_or_default();
        let first = nth.wrapping_mul(PLACES_A_SWEEP) % places.len().max(1);
        places.rotate_left(first);
        for place in places {
            if !is_only && self.clock.now() > until {
                tally.left += 1;
                all.unlisted.insert(self.key(&place), Unlisted::Unseen);
                continue;
            }
            let listed = self.registered_in(github, &place, deadline).await;
            self.memory.note_limit_in(&listed, &place.owner, self.clock.now());
            match listed {
                Ok(Some(there)) => all.registered.extend(there),
                Ok(None) => {
                    tracing::warn!(
                        repository = place.name(),
                        "GitHub shows no such repository: it was deleted, or the App is not installed for it"
                    );
                    all.unlisted.insert(self.key(&place), Unlisted::Gone);
                }
                Err(error) if is_only => {
                    self.stop_unseen(tally).await;
                    return Err(error);
                }
                Err(error) => {
                    tally.note(Err(error));
                    all.unlisted.insert(self.key(&place), Unlisted::Unseen);
                }
            }
        }
        Ok(all)
    }

    async fn registered_in(
        &self,
        github: &G,
        place: &Target,
        deadline: OffsetDateTime,
    ) -> Result<Option<Vec<Registered>>, CallError> {
        let mut registered = Vec::new();
        for page in 1.. {
            if self.clock.now() > deadline {
                // Half of a list would make the other half's tasks look as if they had no runner.
                let why = "GitHub took so long to list the runners that no time was left for them";
                return Err(CallError::new(Class::Transient, why));
            }
            let listed = patiently(&self.clock, deadline, || github.runners(place, page)).await?;
            let Some((runners, more)) = listed else { return Ok(None) };
            let ours = runners.into_iter().filter(|runner| self.policy.names.read(&runner.name).is_some());
            registered.extend(ours.map(|runner| Registered { runner, place: place.clone() }));
            if !more {
                break;
            }
        }
        Ok(Some(registered))
    }

    /// Where registrations are listed together.
    fn key(&self, place: &Target) -> ListKey {
        let repository = place.repository.as_deref().filter(|_| self.scope == Scope::Repo);
        (place.owner.to_lowercase(), repository.map(str::to_lowercase))
    }

    /// The tasks whose registrations can be seen, if there are any.
    async fn without_unlisted(
        &self,
        tasks: Vec<Task>,
        unlisted: &BTreeMap<ListKey, Unlisted>,
        tally: &mut Tally,
    ) -> Vec<Task> {
        let mut listed = Vec::new();
        for task in tasks {
            match unlisted.get(&self.key(&target(TaskTags(&task.tags)))) {
                Some(why) => tally.note(self.stop_unlisted(&task, *why).await),
                None => listed.push(task),
            }
        }
        listed
    }

    /// Where GitHub lists nothing at all, ECS alone knows how old tasks are.
    async fn stop_unseen(&self, tally: &mut Tally) {
        match self.ecs.live_tasks().await {
            Ok(tasks) => {
                for task in tasks {
                    tally.note(self.stop_unlisted(&task, Unlisted::Unseen).await);
                }
            }
            Err(error) => tally.note(Err(error)),
        }
    }

    /// A task whose registration cannot be seen may be at work, and goes when it is older than any job; of a repository that
    /// is gone sooner, unless somebody told of a job on it. That it is gone is seen twice.
    async fn stop_unlisted(&self, task: &Task, unlisted: Unlisted) -> Result<(), CallError> {
        let is_older = |than| task.started_at.is_some_and(|at| self.clock.now() - at > than);
        let why = match unlisted {
            _ if is_older(timing::OLDEST_JOB) => "older than any job, and GitHub does not list its place",
            Unlisted::Gone
                if !TaskTags(&task.tags).ran_a_job()
                    && is_older(timing::GONE)
                    && self.is_idle_again(task).await? =>
            {
                "its repository is gone, and nobody told of a job on it"
            }
            _ => return Ok(()),
        };
        self.ecs.stop(&task.arn, why).await
    }

    /// One organisation or enterprise, if it is known; else every owner or repository that has a task, had one that ran no job
    /// within the last hour, or is named in `ALLOWED_REPOSITORIES`.
    async fn places(&self) -> Result<Vec<Target>, CallError> {
        let known = match (&self.scope, &self.policy.organization) {
            (Scope::Repo, _) | (Scope::Org, None) => None,
            (Scope::Org, Some(organization)) => Some(organization.clone()),
            // The enterprise's slug is the adapter's; the owner only says whose installation asks.
            (Scope::Enterprise(slug), organization) => {
                Some(organization.clone().unwrap_or_else(|| slug.clone()))
            }
        };
        if let Some(owner) = known {
            return Ok(vec![Target { owner, ..Target::default() }]);
        }
        let named = self.policy.repositories.iter().filter_map(RepositoryGlob::names);
        let named = named.map(|(owner, repository)| Target { owner, repository, ..Target::default() });
        let mut tasks = self.ecs.live_tasks().await?;
        // Where all have died, none that lives leads there.
        let ended = self.ecs.ended_tasks(None).await?;
        tasks.extend(ended.into_iter().filter(|task| !TaskTags(&task.tags).ran_a_job()));
        let mut places = BTreeMap::new();
        for mut place in named.chain(tasks.iter().map(|task| target(TaskTags(&task.tags)))) {
            if self.scope == Scope::Org {
                place.repository = None;
            } else if place.repository.is_none() {
                continue;
            }
            if !place.owner.is_empty() {
                places.insert(self.key(&place), place);
            }
        }
        Ok(places.into_values().collect())
    }

    /// Those of the last hour: their tags tell which job got whose runner.
    async fn ended_tasks(&self, tally: &mut Tally) -> Option<Vec<Task>> {
        let ended = self.ecs.ended_tasks(None).await;
        ended.map_err(|error| tally.note(Err(error))).ok()
    }

    pub(crate) async fn see_to(&self, runner: &Runner, course: &Course) -> Result<Done, CallError> {
        let why = match runner.life {
            Life::Starting => "its runner never connected",
            Life::Spent => "its registration is spent",
            Life::Unused => "it did not start in time",
            Life::Hidden => "it is older than any job",
            _ => "idle past IDLE_TIMEOUT_SECONDS",
        };
        // What never started died of nothing that the job had a part in.
        let unstarted = Stop::default();
        let stop = Some(&unstarted).filter(|_| runner.life == Life::Unused);
        let cause = Cause { stop, task: runner.task.as_ref(), why };
        let tended = self.tend(runner, Heard::Swept { past: runner.past }, cause, course).await;
        self.memory.note_limit_in(&tended, &runner.place.owner, self.clock.now());
        tended
    }
}
