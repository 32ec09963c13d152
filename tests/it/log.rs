//! Keeps what this thread logs, for the tests that look for something in it.

use std::{
    io,
    sync::{Arc, Mutex},
};

use serde_json::Value;
use tracing::{Dispatch, subscriber::DefaultGuard};
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("the log").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Kept {
    type Writer = Kept;

    fn make_writer(&'a self) -> Kept {
        self.clone()
    }
}

/// What was logged since.
pub struct Log {
    kept: Kept,
    _guard: DefaultGuard,
    _second: Dispatch,
}

impl Log {
    /// From now on, at all levels.
    pub fn keep() -> Log {
        let kept = Kept::default();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_max_level(tracing::Level::TRACE)
            .with_writer(kept.clone())
            .finish();
        // With one subscriber, `tracing` asks the thread that meets a line first whether anybody wants it, and keeps the
        // answer for all threads: the tests that run beside this one want nothing. With two, it asks both.
        let second = Dispatch::new(tracing::subscriber::NoSubscriber::new());
        Log { kept, _guard: tracing::subscriber::set_default(subscriber), _second: second }
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.kept.0.lock().expect("the log").clone()).expect("text")
    }

    /// The lines in which a field has that value.
    pub fn lines(&self, field: &str, value: &str) -> Vec<Value> {
        let lines: Vec<Value> =
            self.text().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        lines.into_iter().filter(|line| line[field] == value).collect()
    }
}
