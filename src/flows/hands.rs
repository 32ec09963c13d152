//! One runner: RunTask over the capacities of its plan, and what becomes of a registration without a task.

use crate::{
    error::{CallError, Class},
    fargate::{
        fleet::Capacity,
        request::{Identity, MAX_OVERRIDES},
    },
    flows::plan::Plan,
    ports::{Deleted, Github, JitConfig, Minted, RunTask, StartTasks, Started},
};

/// RunTask with each capacity in turn, at once: Fargate never falls back from Spot by itself. Without a
/// registration the container mints its own.
pub async fn run_task<E: StartTasks>(
    ecs: &E,
    container: &str,
    plan: &Plan,
    registration: Option<&JitConfig>,
) -> Result<(RunTask, Capacity), CallError> {
    let (mut dry, mut class) = (Vec::new(), Class::NoCapacity);
    for capacity in &plan.capacities {
        let identity = match registration {
            Some(registration) => Identity::Minted(registration.encoded.clone()),
            None => plan.named(),
        };
        let request =
            plan.request(capacity.clone(), identity, registration.map(|registration| registration.id));
        let length = request.overrides_length(container);
        if length > MAX_OVERRIDES {
            // Labels are in them only where the container mints.
            let (class, why) = match registration {
                None => (Class::Invalid, "the job has too many or too long labels"),
                Some(_) => (Class::NeedsOperator, "GitHub's configuration is too long: report it as a bug"),
            };
            let too_long = format!(
                "the task's overrides would be {length} characters of JSON, and ECS takes {MAX_OVERRIDES}: {why}"
            );
            return Err(CallError::new(class, too_long));
        }
        match ecs.run_task(&request).await {
            Err(error) if matches!(error.class, Class::NoCapacity | Class::OverQuota) => {
                if error.class == Class::OverQuota {
                    tracing::warn!(%error, %capacity, "the quota is used up: the next capacity is tried");
                    class = Class::NeedsOperator;
                }
                dry.push(error.message);
            }
            answer => return answer.map(|answer| (answer, capacity.clone())),
        }
    }
    Err(CallError::new(class, dry.join("; ")))
}

/// Starts a runner that nobody is owed. `None`: somebody has started it, or is about to.
pub async fn start_unowed<G: Github, E: StartTasks>(
    github: Option<&G>,
    ecs: &E,
    container: &str,
    plan: &Plan,
) -> Result<Option<(Started, Capacity)>, CallError> {
    let registration = match github {
        Some(github) => {
            match github.mint(&plan.target, &plan.runner_name(), &plan.labels, plan.group()).await? {
                Minted::Created(registration) => Some(registration),
                Minted::NameTaken => return Ok(None),
            }
        }
        None => None,
    };
    let answer = run_task(ecs, container, plan, registration.as_ref()).await;
    if let Ok((RunTask::Started(started), capacity)) = answer {
        return Ok(Some((started, capacity)));
    }
    // If an error hides that the task was started, it finds its registration gone, and ends.
    if let (Some(github), Some(registration)) = (github, registration) {
        discard(github, plan, &registration).await;
    }
    answer.map(|_| None)
}

/// Spends a registration that will have no task. If that fails, the job is still served, and the sweep finds
/// the registration.
pub async fn discard<G: Github>(github: &G, plan: &Plan, registration: &JitConfig) {
    if let Err(error) = github.delete_runner(&plan.target, registration.id).await {
        tracing::warn!(
            runner = registration.id.0,
            %error,
            "a registration without a task could not be deleted: left to the sweep"
        );
    }
}

/// Spends the registration of the plan's name, if there is one.
pub async fn spend_by_name<G: Github>(github: &G, plan: &Plan) -> Result<Deleted, CallError> {
    match github.find_runner(&plan.target, &plan.runner_name()).await? {
        Some(runner) => github.delete_runner(&plan.target, runner.id).await,
        None => Ok(Deleted::Gone),
    }
}
