//! Patterns of repositories.

use wildmatch::WildMatch;

/// An `owner/repository` pattern, in which `*` stands for anything. Letters may be of either case.
#[derive(Debug, Clone, PartialEq)]
pub struct RepositoryGlob(WildMatch);

impl Eq for RepositoryGlob {}

impl RepositoryGlob {
    /// A pattern such as `acme/*`.
    pub fn new(pattern: &str) -> Self {
        RepositoryGlob(WildMatch::new(&pattern.to_lowercase()))
    }

    /// Whether it fits the (lower-case) `owner/repository`.
    pub(super) fn has(&self, full_name: &str) -> bool {
        self.0.matches(full_name)
    }

    /// Whether it fits every repository of the (lower-case) owner.
    pub(super) fn has_all_of(&self, owner: &str) -> bool {
        let pattern = self.0.pattern();
        pattern == "*" || pattern.strip_suffix("/*").is_some_and(|glob| WildMatch::new(glob).matches(owner))
    }

    /// The pattern, if it is a repository's very name.
    pub fn full_name(&self) -> Option<String> {
        matches!(self.names(), Some((_, Some(_)))).then(|| self.0.pattern())
    }

    /// The owner, if the pattern names one, and the repository, if it names that as well.
    pub fn names(&self) -> Option<(String, Option<String>)> {
        let pattern = self.0.pattern();
        let (owner, repository) = pattern.split_once('/')?;
        let name = |text: &str| (!text.contains(['*', '?'])).then(|| text.to_owned());
        Some((name(owner)?, name(repository)))
    }
}
