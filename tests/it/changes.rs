//! Texts changed at random, for the tests that must not care what they are given.

use proptest::prelude::*;

/// So many cases, or as many as `PROPTEST_CASES` says: for a night of it.
pub fn cases(usual: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(usual)
}

/// One change of a text: cut it, double a piece, or put something else in.
#[derive(Debug, Clone)]
pub enum Change {
    Cut(prop::sample::Index, usize),
    Double(prop::sample::Index, usize),
    Put(prop::sample::Index, String),
}

pub fn changes() -> impl Strategy<Value = Vec<Change>> {
    let place = any::<prop::sample::Index>;
    let piece = prop_oneof![
        "[\\[\\]{}:,\"0-9a-z\\\\]{1,6}",
        Just("null".to_owned()),
        Just("-1".to_owned()),
        Just("1e400".to_owned()),
        Just("\\ud800".to_owned()),
        ".{0,8}",
    ];
    prop::collection::vec(
        prop_oneof![
            (place(), 1usize..200).prop_map(|(at, length)| Change::Cut(at, length)),
            (place(), 1usize..200).prop_map(|(at, length)| Change::Double(at, length)),
            (place(), piece).prop_map(|(at, text)| Change::Put(at, text)),
        ],
        1..4,
    )
}

pub fn apply(text: &str, changes: &[Change]) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for change in changes {
        let at = |index: &prop::sample::Index| index.index(characters.len() + 1);
        match change {
            Change::Cut(index, length) => {
                let from = at(index);
                let to = (from + length).min(characters.len());
                characters.drain(from..to);
            }
            Change::Double(index, length) => {
                let from = at(index);
                let piece = characters[from..(from + length).min(characters.len())].to_vec();
                characters.splice(from..from, piece);
            }
            Change::Put(index, piece) => {
                let from = at(index);
                characters.splice(from..from, piece.chars());
            }
        }
    }
    characters.into_iter().collect()
}
