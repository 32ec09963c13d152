//! Whatever call a function dies after, and whatever answer is lost: the interrupted jobs run again, once.

use time::Duration;

use super::*;
use crate::stories::cut_points::{CUTS, cut};

/// Messages come again, and every process is another one.
async fn come_to_rest(story: Story) -> Story {
    let fleet = Story::fleet(&story.world, &[]).await;
    let story = Story { fleet, world: story.world };
    for _ in 0..6 {
        story.world.advance(Duration::minutes(5));
        let batch = story.world.receive(LIFECYCLE_QUEUE, 10);
        story.world.acknowledge(LIFECYCLE_QUEUE, &batch, &story.fleet.reconcile(&batch).await);
        story.look().await;
    }
    story.rest().await;
    story
}

#[tokio::test]
async fn that_it_was_taken_back_is_told_for_certain() {
    for way in CUTS {
        for k in 1.. {
            let story = Story::begin().await;
            let job = story.run(&["test"]).await[0];
            let task = story.take_back(job);
            story.end(job, "failure");
            let struck = cut(&story.world, way, k, async {
                let _ = story.tell_stopped(task).await;
            })
            .await;
            let story = come_to_rest(story).await;
            assert_eq!(story.attempts(job), 2, "{way:?} at call {k}\n{}", story.world.calls());
            if !struck {
                assert!(k > 2, "{way:?}: no call was cut");
                break;
            }
        }
    }
}

#[tokio::test]
async fn two_interrupted_jobs_run_again_once() {
    for way in CUTS {
        for k in 1.. {
            let story = Story::begin().await;
            let jobs = story.run(&["a", "b"]).await;
            for job in &jobs {
                story.interrupt(*job, "failure").await;
            }
            let struck = cut(&story.world, way, k, async { drop(story.look().await) }).await;
            let story = come_to_rest(story).await;
            let again = (story.attempts(jobs[0]), story.again(jobs[0]).len());
            assert_eq!(again, (2, 2), "{way:?} at call {k}\n{}", story.world.calls());
            if !struck {
                assert!(k > 5, "{way:?}: no call was cut");
                break;
            }
        }
    }
}
