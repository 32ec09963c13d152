//! A repository is found by its id: that it has another name by now, and that its name is another's, does not matter.

use serde_json::Value;

use super::{LABELS, Metric, Op, Story};
use crate::http::{APP_SECRET, OWNER, PAT_SECRET, REPOSITORY, Service};
use crate::model::bus::Secrets;

/// A job of a repository that has another name, or another owner, before anybody looks at it again; its old name is
/// another repository's.
async fn moved(changes: &[(&str, &str)], to: (&str, &str)) -> (Story, u64) {
    let story = Story::with(changes).await;
    let job = story.start_job().await;
    story.world.github().rename((OWNER, REPOSITORY), to);
    story.world.queue_job(&["windows"]);
    (story, job)
}

/// What GitHub was asked about jobs, and answered.
fn asked(story: &Story) -> Vec<String> {
    story.world.calls().of(Op::GetJob).map(ToString::to_string).collect()
}

#[tokio::test]
async fn the_idle_runner_of_a_job_that_is_over_goes_whatever_its_repository_is_called() {
    for (secret, to) in [(APP_SECRET, (OWNER, "renamed")), (PAT_SECRET, ("octo-corp", "transferred"))] {
        let (story, job) = moved(&[("GITHUB_SECRET_ARN", &Secrets::arn(secret))], to).await;
        story.world.boot();
        story.cancel(job);
        let swept = story.sweep_after_the_timeout().await;
        assert_eq!(swept.get(Metric::Retired), 1, "{}", story.world.calls());
        assert_eq!(asked(&story), [format!("get job repositories/1 {job} → completed")]);
        assert_eq!(story.live(), 0);
    }
}

#[tokio::test]
async fn a_runner_that_dies_is_replaced_and_the_message_and_the_new_task_know_the_id() {
    let (story, job) = moved(&[], (OWNER, "renamed")).await;
    let task = story.task();
    story.world.kill_task(task, "SpotInterruption", "Your Spot Task was interrupted.", None);
    story.tell_stopped(task).await;
    story.dispatch_announced().await;
    assert_eq!(story.names(), [format!("fargate-{job}-2")]);
    assert_eq!(story.tag(story.task(), "gha:repository-id").as_deref(), Some("1"));
    assert!(asked(&story).iter().all(|call| call.ends_with("→ queued")), "{}", story.world.calls());
}

#[tokio::test]
async fn a_job_on_another_s_runner_is_found_by_its_id_too() {
    let story = Story::begin().await;
    let job = story.start_job().await;
    story.world.boot();
    story.world.assign();
    story.tell_job(job, "in_progress").await;
    assert_eq!(story.tag(story.task(), "gha:ran-repository-id").as_deref(), Some("1"));
    story.world.finish_job(job);
    story.end();
}

#[tokio::test]
async fn what_a_release_before_left_has_no_id_and_goes_by_the_name() {
    let story = Story::begin().await;
    let job = story.world.queue_job(&LABELS);
    let mut payload: Value = serde_json::from_str(&story.world.queued(job)).expect("JSON");
    payload["repository"].as_object_mut().expect("a repository").remove("id");
    story.dispatch(&[payload.to_string()]).await;
    let task = story.task();
    assert_eq!(story.tag(task, "gha:repository-id"), None);
    story.world.kill_task(task, "SpotInterruption", "Your Spot Task was interrupted.", None);
    story.tell_stopped(task).await;
    story.dispatch_announced().await;
    assert_eq!(story.names(), [format!("fargate-{job}-2")]);
    assert!(asked(&story).iter().all(|call| call.contains("octo-org/example-workflow")));
    // GitHub leads from the name to the id, as long as nobody else has that name.
    story.world.boot();
    story.cancel(job);
    story.world.github().rename((OWNER, REPOSITORY), (OWNER, "renamed"));
    story.world.take_calls();
    assert_eq!(story.sweep_after_the_timeout().await.get(Metric::Retired), 1);
    let to_github: Vec<_> = asked(&story);
    let want = ["octo-org/example-workflow {} → 301", "repositories/1 {} → completed"];
    assert_eq!(to_github, want.map(|call| format!("get job {}", call.replace("{}", &job.to_string()))));
    assert!(story.world.calls().to(Service::Github).len() < 10);
    story.end();
}
