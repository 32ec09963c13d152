//! Check runs and commit statuses.

use super::github::Github;

#[derive(Debug, Clone, Default)]
pub struct CheckRun {
    pub id: u64,
    pub place: (String, String),
    pub sha: String,
    pub name: String,
    /// The App that has made it, and may change it.
    pub app: String,
    pub status: String,
    pub conclusion: Option<String>,
    pub title: String,
    pub summary: String,
    pub link: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub sha: String,
    pub context: String,
    pub state: String,
    pub description: String,
}

impl Github {
    /// The newest check of that name on the commit.
    pub fn newest_check(&self, place: (&str, &str), sha: &str, name: &str) -> Option<&CheckRun> {
        let is_there = |check: &&CheckRun| {
            check.place.0.eq_ignore_ascii_case(place.0) && check.place.1.eq_ignore_ascii_case(place.1)
        };
        let of_name = |check: &&CheckRun| check.sha == sha && check.name == name;
        self.checks.iter().rev().filter(is_there).find(of_name)
    }
}
