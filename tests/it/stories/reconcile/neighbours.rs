//! Two stacks share a cluster (`CreateCluster=false`), each with runners of its own name.

use super::{LABELS, Metric, Op, Story};
use crate::{
    fleet::Fleet,
    http::{JOB_QUEUE, LIFECYCLE_QUEUE},
};
use time::Duration;

/// A job at work on a runner of the other stack, whose registrations are where the first one does not look; its task.
async fn a_job_of_the_other_stack(story: &Story) -> (u64, u64) {
    let other = [("RUNNER_NAME_PREFIX", "other"), ("RUNNER_SCOPE", "repo")];
    let other = Fleet::with(&story.world, &other).await;
    let job = story.world.queue_job(&LABELS);
    let batch = story.world.deliver(&[story.world.queued(job)]);
    let answer = other.dispatch(&batch).await;
    story.world.acknowledge(JOB_QUEUE, &batch, &answer);
    story.world.boot();
    story.world.assign();
    assert_eq!(story.names(), [format!("other-{job}-1")]);
    let batch =
        story.world.deliver_to(LIFECYCLE_QUEUE, &[story.world.payload(job, "in_progress").to_string()]);
    let answer = other.reconcile(&batch).await;
    assert_eq!(story.world.acknowledge(LIFECYCLE_QUEUE, &batch, &answer), 0);
    story.world.take_calls();
    (job, story.task())
}

#[tokio::test]
async fn a_task_of_another_stack_is_not_stopped() {
    for settings in [[("WARM_POOL_SIZE", "")], [("GITHUB_SECRET_ARN", "")]] {
        let story = Story::with(&settings).await;
        let (job, _) = a_job_of_the_other_stack(&story).await;
        story.world.advance(Duration::days(7));
        story.sweep().await;
        let swept = story.sweep_after_the_timeout().await;
        assert_eq!((story.count(Op::StopTask), swept.get(Metric::LeftToNextSweep)), (0, 0), "{settings:?}");
        story.world.finish_job(job);
        story.end();
    }
}

#[tokio::test]
async fn the_end_of_another_stack_s_task_is_not_heard() {
    let story = Story::begin().await;
    let (job, task) = a_job_of_the_other_stack(&story).await;
    let now = story.fleet.now();
    story.world.ecs().stopped(task, "SpotInterruption", "Your Spot Task was interrupted.", None, now);
    let told = story.tell_within(&[story.world.state_change(task)], Duration::minutes(1)).await;
    let counted =
        [Metric::Skipped, Metric::Interrupted, Metric::Lost, Metric::Replaced].map(|metric| told.get(metric));
    assert_eq!(counted, [1, 0, 0, 0]);
    assert_eq!(story.world.letters(JOB_QUEUE), []);
    story.world.github().complete(job, "failure", now);
    story.end();
}
