//! Labels that read like a slip of the pen: a job that is meant for this fleet, and that nobody will ever serve.
//!
//! Another fleet's job must never be taken for one: a label has to be this fleet's alone, and all the others its own too.

use std::collections::BTreeSet;

use strsim::levenshtein;

use crate::intake::labels::{self, NoRunner, Offered};

/// Labels that say nothing about whose runner is meant: GitHub gives them to the runners of everybody.
const ANYBODYS: [&str; 6] = ["self-hosted", "linux", "windows", "macos", "x64", "arm64"];
/// Words of our own that are offered without being listed.
const WORDS: [&str; 4] = ["x64", "arm64", "spot", "on-demand"];
/// What comes before a `=`.
const KEYS: [&str; 3] = ["cpu", "ram", "disk"];
/// So many letters may be wrong.
const MOST: usize = 2;

/// What is wrong, and what was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slip {
    /// The label, as it stands there.
    pub label: String,
    /// What it seems to be meant for.
    pub meant: String,
}

/// The slip in the labels of a job that is not ours, if there is one and nothing else is wrong.
pub fn find<S: AsRef<str>>(labels: &[S], offered: &Offered) -> Option<Slip> {
    let Offered::These(ours) = offered else { return None };
    if !matches!(labels::read(labels, offered), Err(NoRunner::NotOffered(_))) {
        return None;
    }
    let labels: Vec<String> = labels.iter().map(|label| label.as_ref().trim().to_lowercase()).collect();
    for (at, label) in labels.iter().enumerate() {
        let parts: Vec<&str> = label.split('/').map(str::trim).collect();
        for (part_at, part) in parts.iter().enumerate() {
            for meant in candidates(part, ours) {
                let mut mended = parts.clone();
                mended[part_at] = &meant;
                let mut all = labels.clone();
                all[at] = mended.join("/");
                if is_ours_alone(&labels, at, part_at, ours) && labels::read(&all, offered).is_ok() {
                    return Some(Slip { label: (*part).to_owned(), meant });
                }
            }
        }
    }
    None
}

/// Whether one of the other labels is this fleet's and nobody else's.
fn is_ours_alone(labels: &[String], at: usize, part_at: usize, ours: &BTreeSet<String>) -> bool {
    let parts = labels.iter().enumerate().flat_map(|(index, label)| {
        let others = label.split('/').enumerate().filter(move |(part, _)| (index, *part) != (at, part_at));
        others.map(|(_, part)| part.trim())
    });
    parts.into_iter().any(|part| ours.contains(part) && !ANYBODYS.contains(&part))
}

/// What a label may be meant for.
fn candidates(part: &str, ours: &BTreeSet<String>) -> Vec<String> {
    // Hardly anybody gets the first letter wrong; `gpu=1` is no slip.
    let near = |word: &str, wanted: &str| {
        word.chars().next() == wanted.chars().next() && (1..=MOST).contains(&levenshtein(word, wanted))
    };
    if let Some((key, value)) = part.split_once('=') {
        let keys = KEYS.iter().filter(|wanted| near(key, wanted));
        return keys.map(|wanted| format!("{wanted}={value}")).collect();
    }
    let words = WORDS.iter().copied().chain(ours.iter().map(String::as_str));
    // In a short word, two letters are most of it.
    let is_long = |wanted: &str| wanted.chars().count() > 2 * MOST;
    let words =
        words.filter(|wanted| near(part, wanted) && (is_long(wanted) || levenshtein(part, wanted) == 1));
    words.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ours() -> Offered {
        Offered::new(["self-hosted", "linux", "x64", "fargate"])
    }

    #[test]
    fn slips() {
        type Row<'a> = (&'a [&'a str], Option<(&'a str, &'a str)>);
        let table: [Row<'_>; 16] = [
            (&["self-hosted", "fargate", "cpus=2"], Some(("cpus=2", "cpu=2"))),
            (&["self-hosted", "fargate", "rams=8"], Some(("rams=8", "ram=8"))),
            (&["self-hosted", "fargate", "on-demnad"], Some(("on-demnad", "on-demand"))),
            (&["self-hosted", "fargate", "sopt"], None),
            (&["self-hosted", "fargate", "spots"], Some(("spots", "spot"))),
            (&["self-hosted", "fargate", "linx"], Some(("linx", "linux"))),
            (&["fargate/cpus=2/ram=8"], Some(("cpus=2", "cpu=2"))),
            // No other label is ours alone: it may be meant for anybody.
            (&["self-hosted", "fargat"], None),
            (&["self-hosted", "linux", "cpus=2"], None),
            (&["fargat"], None),
            // Two are wrong, or one is another's.
            (&["self-hosted", "fargate", "cpus=2", "rams=8"], None),
            (&["self-hosted", "fargate", "gpu"], None),
            (&["self-hosted", "fargate", "gpu=2"], None),
            (&["self-hosted", "fargate", "cpus=64"], None),
            // Nothing is wrong, or it is rejected.
            (&["self-hosted", "fargate", "cpu=2"], None),
            (&["self-hosted", "fargate", "cpu=x"], None),
        ];
        for (labels, want) in table {
            let found = find(labels, &ours());
            let found = found.as_ref().map(|slip| (slip.label.as_str(), slip.meant.as_str()));
            assert_eq!(found, want, "{labels:?}");
        }
        assert_eq!(find(&["self-hosted", "fargate", "cpus=2"], &Offered::Any), None);
    }

    proptest! {
        #[test]
        fn what_is_found_would_be_served(labels in prop::collection::vec("[a-z=/0-9-]{0,12}|self-hosted|fargate|cpus=2", 0..5)) {
            if let Some(slip) = find(&labels, &ours()) {
                prop_assert!(matches!(labels::read(&labels, &ours()), Err(NoRunner::NotOffered(_))));
                prop_assert!(labels.iter().any(|label| label.split('/').any(|part| part.trim() == slip.label)));
            }
        }
    }
}
