//! Other settings: no organisation, runners of a repository, a token.

use super::{Metric, Story};
use crate::http::PAT_SECRET;
use crate::model::bus::Secrets;

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
    assert_eq!((swept.get(Metric::Retired), swept.get(Metric::LeftToNextSweep)), (1, 0));
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

/// None of its tasks lives, so that nothing that runs leads to the place.
#[tokio::test]
async fn an_owner_whose_runners_have_all_died_unheard_is_swept_too() {
    for changes in [("ORGANIZATION", ""), ("RUNNER_SCOPE", "repo")] {
        let story = Story::with(&[changes]).await;
        let job = story.start_job().await;
        story.world.kill_task(story.task(), "SpotInterruption", "Your Spot Task was interrupted.", None);
        story.sweep_after_the_timeout().await;
        for _ in 0..3 {
            story.dispatch_announced().await;
        }
        story.runs_in_the_end(job).await;
        story.end();
    }
}

#[tokio::test]
async fn with_a_personal_access_token_too() {
    lives_and_dies(Story::with(&[("GITHUB_SECRET_ARN", &Secrets::arn(PAT_SECRET))]).await).await;
}
