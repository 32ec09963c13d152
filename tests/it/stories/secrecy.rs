//! Nothing secret is in any log line, whatever goes wrong.

use std::{
    io,
    sync::{Arc, Mutex},
};

use tracing_subscriber::fmt::MakeWriter;

use crate::fleet::Fleet;
use crate::http::{APP_KEY, JOB_QUEUE, Op, World};

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("the log").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;

    fn make_writer(&'a self) -> Log {
        self.clone()
    }
}

#[tokio::test]
async fn nothing_secret_is_logged() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .finish();
    // With one subscriber, `tracing` asks the thread that meets a line first whether anybody wants it, and keeps the
    // answer for all threads: the tests that run beside this one want nothing. With two, it asks both.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new());
    let _guard = tracing::subscriber::set_default(subscriber);

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
    let mut secrets = vec!["BEGIN RSA".to_owned()];
    secrets.extend(APP_KEY.lines().filter(|line| line.len() > 20).map(str::to_owned));
    for fault in faults {
        fault(&world);
        let mut payload = world.payload(world.queue_job(&["self-hosted", "fargate"]), "queued");
        payload["sender"]["login"] = "only-in-the-payload".into();
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
        secrets.extend(configurations);
        world.heal();
    }
    secrets.extend(["ghs_", "eyJ", "only-in-the-payload", "Bearer"].map(str::to_owned));

    let log = String::from_utf8(log.0.lock().expect("the log").clone()).expect("text");
    assert!(log.lines().filter(|line| line.contains("outcome")).count() >= 8, "the log was kept:\n{log}");
    for secret in secrets {
        // A part of it is too much already.
        let part: String = secret.chars().take(24).collect();
        let line = log.lines().find(|line| line.contains(&part));
        assert_eq!(line, None, "{part:?} is in the log");
    }
    world.heal();
}
