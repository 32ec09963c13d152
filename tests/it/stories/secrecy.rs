//! Nothing secret is in any log line, and no configuration in any message, whatever goes wrong.

use crate::fleet::Fleet;
use crate::http::{APP_KEY, DEAD_LETTERS, JOB_QUEUE, LIFECYCLE_QUEUE, Op, World};
use crate::log::Log;

#[tokio::test]
async fn nothing_secret_is_logged() {
    let log = Log::keep();
    let world = World::start();
    let fleet = Fleet::with(&world, &[("CAPACITY", "FARGATE_SPOT,FARGATE")]).await;
    let faults: [fn(&World); 8] = [
        |_| {},
        |world| drop(world.fail(Op::Mint).once().before().bad_credentials()),
        |world| drop(world.fail(Op::Mint).once().before().permission_missing("x")),
        |world| drop(world.fail(Op::Mint).once().before().status(422)),
        |world| drop(world.fail(Op::Mint).times(3).after().drop_connection()),
        |world| drop(world.fail(Op::RunTask).once().after().drop_connection()),
        |world| drop(world.fail(Op::RunTask).once().before().aws("InvalidParameterException")),
        |world| drop(world.fail(Op::RunTask).once().before().failures("RESOURCE:ENI")),
    ];
    let (mut secrets, mut announced) = (vec!["BEGIN RSA".to_owned()], 0);
    secrets.extend(APP_KEY.lines().filter(|line| line.len() > 20).map(str::to_owned));
    for fault in faults {
        fault(&world);
        let mut payload = world.payload(world.queue_job(&["self-hosted", "fargate"]), "queued");
        payload["sender"]["avatar_url"] = "only-in-the-payload".into();
        let batch = world.deliver(&[payload.to_string()]);
        world.acknowledge(JOB_QUEUE, &batch, &fleet.dispatch(&batch).await);
        world.advance(time::Duration::minutes(30));
        let batch = world.receive(JOB_QUEUE, 10);
        world.acknowledge(JOB_QUEUE, &batch, &fleet.dispatch(&batch).await);
        let configurations: Vec<String> = world
            .ecs()
            .tasks()
            .filter_map(|task| task.environment.get("ACTIONS_RUNNER_INPUT_JITCONFIG").cloned())
            .collect();
        // Its runner dies; the next is announced, or the job given up.
        let live: Vec<u64> = world.ecs().live().map(|task| task.number).collect();
        for task in live {
            world.kill_task(
                task,
                "EssentialContainerExited",
                "Essential container in task exited",
                Some(139),
            );
            let batch = world.deliver_to(LIFECYCLE_QUEUE, &[world.state_change(task).to_string()]);
            world.acknowledge(LIFECYCLE_QUEUE, &batch, &fleet.reconcile(&batch).await);
        }
        for (body, reason) in [JOB_QUEUE, DEAD_LETTERS].into_iter().flat_map(|queue| world.letters(queue)) {
            let letter = format!("{body} {}", reason.unwrap_or_default());
            announced += usize::from(letter.contains("replacement"));
            let is_in = |configuration: &String| letter.contains(&configuration[..24]);
            assert!(!configurations.iter().any(is_in), "{letter}");
        }
        secrets.extend(configurations);
        world.heal();
    }
    assert!(announced > 0, "there was something to look at");
    secrets.extend(["ghs_", "eyJ", "only-in-the-payload", "Bearer"].map(str::to_owned));

    let log = log.text();
    assert!(log.lines().filter(|line| line.contains("outcome")).count() >= 8, "the log was kept:\n{log}");
    for secret in secrets {
        // A part of it is too much already.
        let part: String = secret.chars().take(24).collect();
        let line = log.lines().find(|line| line.contains(&part));
        assert_eq!(line, None, "{part:?} is in the log");
    }
    world.heal();
}
