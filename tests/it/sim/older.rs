//! Functions of the release before, at work beside this one's: what they write has nothing in it that was added since,
//! and of what they read they see only what was there then. That is what `tests/fixtures/formats` keeps of it; all else
//! is the library of today.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gha_fargate_runners::ports::Task;
use serde_json::{Map, Value};

/// Which functions are of the release before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Older {
    #[default]
    None,
    /// Of webhook, dispatch and reconcile those.
    These([bool; 3]),
    /// Of each function, every other process.
    ByTurns,
}

impl Older {
    /// `webhook`, `dispatch` and `reconcile` are added; `turns` is all of them by turns.
    pub fn add(&mut self, name: &str) -> Option<()> {
        let place = ["webhook", "dispatch", "reconcile"].iter().position(|function| *function == name);
        *self = match (*self, place) {
            (Older::None, Some(place)) => Older::These(std::array::from_fn(|at| at == place)),
            (Older::These(these), Some(place)) => {
                Older::These(std::array::from_fn(|at| these[at] || at == place))
            }
            _ if name == "turns" => Older::ByTurns,
            _ => return None,
        };
        Some(())
    }

    /// Whether webhook, dispatch and reconcile of a new process are.
    pub fn draw(self, processes: &Cell<u64>) -> [bool; 3] {
        let nth = processes.replace(processes.get() + 1);
        match self {
            Older::None => [false; 3],
            Older::These(these) => these,
            // Each pair of them meets in each order.
            Older::ByTurns => [1, 2, 4].map(|bit| nth & bit != 0),
        }
    }
}

/// What the release before knows.
#[derive(Debug)]
pub struct Known {
    tags: BTreeSet<String>,
    replacement: Map<String, Value>,
    event: Map<String, Value>,
}

impl Known {
    /// By what it has written.
    pub fn of_the_release_before() -> Self {
        let read = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
        let all = |value: &Value| value.as_array().cloned().expect("a list");
        let tags = all(&read(include_str!("../../fixtures/formats/1/tasks.json")));
        let tags = tags.iter().filter_map(|task| task["tags"].as_object()).flat_map(Map::keys).cloned();
        let jobs = all(&read(include_str!("../../fixtures/formats/1/jobs.json")));
        let replacements = jobs.iter().filter_map(|body| body["replacement"].as_object().cloned());
        let event = read(include_str!("../../fixtures/formats/1/event.json"));
        Known {
            tags: tags.collect(),
            replacement: replacements.flatten().collect(),
            event: event["detail"].as_object().cloned().expect("an event"),
        }
    }

    /// A task, as it sees it.
    pub fn task(&self, mut task: Task) -> Task {
        Arc::make_mut(&mut task.tags).retain(|key, _| self.tags.contains(key));
        task
    }

    /// Tags that it writes.
    pub fn tags(&self, tags: &[(String, String)]) -> Vec<(String, String)> {
        tags.iter().filter(|(key, _)| self.tags.contains(key)).cloned().collect()
    }

    /// A message that it reads or writes: an announcement, an event in its envelope, or a bare one.
    pub fn body(&self, body: &str) -> String {
        let Ok(mut message) = serde_json::from_str::<Value>(body) else { return body.to_owned() };
        let known: BTreeMap<&str, &Map<String, Value>> =
            [("replacement", &self.replacement), ("detail", &self.event)].into();
        let is_event = message.get("workflow_job").is_some();
        if is_event {
            prune(&mut message, &self.event);
        } else if message["detail-type"] == "workflow_job" || message.get("replacement").is_some() {
            for (name, known) in known {
                message.get_mut(name).into_iter().for_each(|inner| prune(inner, known));
            }
        }
        message.to_string()
    }
}

/// Nothing is left of an object but what is known.
fn prune(value: &mut Value, known: &Map<String, Value>) {
    let Some(object) = value.as_object_mut() else { return };
    object.retain(|key, _| known.contains_key(key));
    for (key, inner) in object {
        if let Some(known) = known[key].as_object() {
            prune(inner, known);
        }
    }
}
