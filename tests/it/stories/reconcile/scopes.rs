//! Other settings: no organisation, runners of a repository, no credentials for GitHub.

use super::{LABELS, Op, Story};
use crate::http::{OWNER, PAT_SECRET, Service};
use crate::model::{bus::Secrets, github::Scope};

/// A runner that dies is replaced, and the one that replaces it goes when its job is gone.
async fn lives_and_dies(story: Story) {
    let job = story.start_job().await;
    let task = story.task();
    story.world.kill_task(task, "SpotInterruption", "Your Spot Task was interrupted.", None);
    story.tell_stopped(task).await;
    story.dispatch_announced().await;
    assert_eq!(story.names(), [format!("fargate-{job}-2")]);
    story.world.boot();
    story.cancel(job);
    let swept = story.sweep_after_the_timeout().await;
    assert_eq!((swept.get("Retired"), swept.get("LeftToNextSweep")), (1, 0));
    assert_eq!(story.live(), 0);
    story.end();
}

#[tokio::test]
async fn without_an_organization_the_owners_of_tasks_are_swept() {
    lives_and_dies(Story::with(&[("ORGANIZATION", "")]).await).await;
}

#[tokio::test]
async fn runners_of_a_repository_are_swept_where_there_are_tasks() {
    lives_and_dies(Story::with(&[("RUNNER_SCOPE", "repo")]).await).await;
}

#[tokio::test]
async fn with_a_personal_access_token_too() {
    lives_and_dies(Story::with(&[("GITHUB_SECRET_ARN", &Secrets::arn(PAT_SECRET))]).await).await;
}

async fn without_credentials() -> Story {
    Story::with(&[("GITHUB_SECRET_ARN", "")]).await
}

/// The task starts, its container registers its runner itself, and that runs the job to its end.
fn run_in(story: &Story, task: u64, job: u64) {
    let now = story.fleet.now();
    let name = story.world.ecs().task(task).and_then(|task| task.environment.get("RUNNER_NAME").cloned());
    let (organization, name) = (Scope::organization(OWNER), name.expect("a name for the runner"));
    story.world.github().mint(&organization, &name, 1, &LABELS, now).expect("a registration");
    assert!(story.world.boot_task(task));
    story.assign(job, story.runner_of(task));
    story.world.finish_job(job);
}

#[tokio::test]
async fn without_credentials_a_task_that_does_not_start_is_announced_and_then_stopped() {
    let story = without_credentials().await;
    let job = story.start_job().await;
    let stuck = story.task();
    story.world.take_calls();
    let swept = story.sweep_after_the_timeout().await;
    assert_eq!(swept.get("Replaced"), 1);
    assert_eq!(story.order(&[Op::SendMessage, Op::StopTask]), [Op::SendMessage, Op::StopTask]);
    story.tell_stopped(stuck).await;
    story.dispatch_announced().await;
    assert_eq!(story.live(), 1);
    assert_eq!(story.world.calls().to(Service::Github).len(), 0);
    run_in(&story, story.task(), job);
    story.end();
}

#[tokio::test]
async fn without_credentials_a_container_that_ran_has_closed_its_books_itself() {
    let story = without_credentials().await;
    let job = story.start_job().await;
    let task = story.task();
    run_in(&story, task, job);
    story.tell_stopped(task).await;
    story.dispatch_announced().await;
    assert_eq!(story.live(), 0);
    assert_eq!(story.count(Op::SendMessage), 0);
    story.end();
}

#[tokio::test]
async fn without_credentials_a_task_that_fails_to_start_is_replaced() {
    let story = without_credentials().await;
    let job = story.start_job().await;
    let failed = story.task();
    story.world.kill_task(failed, "TaskFailedToStart", "CannotPullContainerError", None);
    story.tell_stopped(failed).await;
    story.dispatch_announced().await;
    run_in(&story, story.task(), job);
    story.end();
}
