//! Labels: each text is kept once and has a number, so that a set of them is compared by numbers.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// The labels of a job or a runner.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Labels {
    /// In order.
    numbers: Box<[u32]>,
    /// In lower case and in order, as GitHub stores them.
    stored: Box<[Arc<str>]>,
    /// As they were given.
    written: Box<[String]>,
}

impl Labels {
    pub fn written(&self) -> &[String] {
        &self.written
    }

    /// In lower case, each once, in alphabetical order.
    pub fn stored(&self) -> impl ExactSizeIterator<Item = &str> {
        self.stored.iter().map(|label| &**label)
    }

    pub(super) fn numbers(&self) -> &[u32] {
        &self.numbers
    }

    /// Whether all of `wanted` are among these, and there are any.
    pub fn cover(&self, wanted: &Labels) -> bool {
        let mut own = self.numbers.iter();
        !wanted.numbers.is_empty() && wanted.numbers.iter().all(|wanted| own.any(|number| number == wanted))
    }
}

/// All labels there are.
#[derive(Debug, Default)]
pub struct LabelBook {
    numbers: BTreeMap<Arc<str>, u32>,
    sets: HashMap<String, Arc<Labels>>,
}

impl LabelBook {
    pub fn read<L: AsRef<str>>(&mut self, labels: &[L]) -> Arc<Labels> {
        let mut key = String::with_capacity(16 * labels.len());
        for label in labels {
            key.push_str(label.as_ref());
            key.push('\0');
        }
        if let Some(known) = self.sets.get(&key) {
            return known.clone();
        }
        let mut stored: Vec<Arc<str>> = labels.iter().map(|label| self.text(label.as_ref())).collect();
        stored.sort_unstable();
        stored.dedup();
        let mut numbers: Vec<u32> = stored.iter().map(|label| self.numbers[label]).collect();
        numbers.sort_unstable();
        let written = labels.iter().map(|label| label.as_ref().to_owned()).collect();
        let labels = Arc::new(Labels { numbers: numbers.into(), stored: stored.into(), written });
        self.sets.insert(key, labels.clone());
        labels
    }

    fn text(&mut self, label: &str) -> Arc<str> {
        let lower: Arc<str> = label.to_lowercase().into();
        match self.numbers.get_key_value(&lower) {
            Some((known, _)) => known.clone(),
            None => {
                self.numbers.insert(lower.clone(), self.numbers.len() as u32);
                lower
            }
        }
    }
}
