//! Who may use the fleet's runners: GitHub's runner group decides, and is held against the policy here.

use crate::{
    intake::policy::Policy,
    ports::{Group, Target},
};

/// Repositories that are named; of the others their number is enough.
const NAMED: usize = 3;

/// One way in which a group is not what the policy says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gap {
    /// Jobs may use runners that may start none. Else it is the other way round: they start some that they cannot use.
    pub(crate) wider: bool,
    /// What is so.
    pub(crate) found: String,
    /// What to do.
    pub(crate) fix: String,
}

/// The gaps between the group and the policy for jobs of that owner, the widest first.
pub(crate) fn gaps(group: &Group, policy: &Policy, owner: &str) -> Vec<Gap> {
    let Group { name, page, .. } = group;
    let gap = |wider, found: String, fix: &str| Gap { wider, found, fix: format!("{page}: {fix}") };
    let mut gaps = Vec::new();
    if group.public && !policy.allow_public {
        let found = format!("{name} is open to public repositories, where anybody can open a pull request");
        gaps.push(gap(true, found, "do not allow public repositories"));
    }
    match &group.repositories {
        None if policy.depends_on_repository(owner) => {
            let found = format!("{name} is open to all repositories, and AllowedRepositories is not");
            gaps.push(gap(true, found, "selected repositories, those of AllowedRepositories"));
        }
        Some(repositories) => {
            let others: Vec<&str> =
                repositories.iter().map(String::as_str).filter(|name| !serves(policy, name)).collect();
            if let Some(named) = named(&others) {
                let found = format!("{name} is open to {named}, which AllowedRepositories does not name");
                gaps.push(gap(true, found, "take them out, or name them in AllowedRepositories"));
            }
        }
        None => {}
    }
    if group.restricted {
        let found = format!("{name} is for selected workflows only: jobs of others start runners, and wait");
        gaps.push(gap(false, found, "workflow access, all workflows"));
    }
    if !group.public && policy.allow_public {
        let found = format!("{name} is closed to public repositories, and AllowPublicRepositories is true");
        gaps.push(gap(false, found, "allow public repositories, or set it false"));
    }
    gaps
}

fn serves(policy: &Policy, full_name: &str) -> bool {
    let Some((owner, repository)) = full_name.split_once('/') else { return false };
    let target =
        Target { owner: owner.to_owned(), repository: Some(repository.to_owned()), ..Target::default() };
    policy.excludes_target(&target).is_none()
}

fn named(repositories: &[&str]) -> Option<String> {
    let (first, rest) = repositories.split_at(repositories.len().min(NAMED));
    match (first, rest.len()) {
        ([], _) => None,
        (_, 0) => Some(first.join(", ")),
        (_, more) => Some(format!("{} and {more} more", first.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::RunnerNames,
        intake::{
            glob::RepositoryGlob,
            labels::{Most, Offered},
        },
    };

    fn policy(repositories: &str, allow_public: bool) -> Policy {
        Policy {
            names: RunnerNames::default(),
            offered: Offered::Any,
            organization: Some("Acme".to_owned()),
            repositories: repositories.split(',').map(RepositoryGlob::new).collect(),
            allow_public,
            arm64: false,
            most: Most::default(),
        }
    }

    /// `public`, `workflows`, and the repositories where there are some.
    fn group(text: &str) -> Group {
        let has = |word: &str| text.split(' ').any(|it| it == word);
        let repositories: Vec<String> =
            text.split(' ').filter(|it| it.contains('/')).map(str::to_owned).collect();
        Group {
            name: "G".to_owned(),
            page: "PAGE".to_owned(),
            repositories: (has("selected") || !repositories.is_empty()).then_some(repositories),
            public: has("public"),
            restricted: has("workflows"),
        }
    }

    #[test]
    fn what_is_wider_and_what_is_narrower() {
        let table = [
            ("", "*", false, ""),
            ("", "acme/*", false, ""),
            ("", "acme/a", false, "wider: all repositories"),
            ("", "acme/a*,acme/b", false, "wider: all repositories"),
            ("selected", "acme/a", false, ""),
            ("acme/a", "acme/a", false, ""),
            ("ACME/A", "acme/a,acme/b", false, ""),
            ("acme/a acme/b", "acme/a", false, "wider: open to acme/b, which"),
            (
                "acme/a acme/b acme/c acme/d acme/e",
                "acme/a",
                false,
                "wider: acme/b, acme/c, acme/d and 1 more",
            ),
            ("acme/b other/a", "*", false, "wider: open to other/a"),
            ("public", "*", false, "wider: anybody"),
            ("public", "*", true, ""),
            ("public", "acme/a", false, "wider: anybody; wider: all repositories"),
            ("", "*", true, "narrower: closed to public"),
            ("workflows", "*", false, "narrower: selected workflows"),
            // A workflow that may can be called from any of them.
            ("workflows", "acme/a", false, "wider: all repositories; narrower: selected workflows"),
        ];
        for (seen, repositories, allow_public, want) in table {
            let found = gaps(&group(seen), &policy(repositories, allow_public), "acme");
            let want: Vec<(bool, &str)> = want
                .split("; ")
                .filter_map(|it| it.split_once(": "))
                .map(|(way, text)| (way == "wider", text))
                .collect();
            assert_eq!(found.len(), want.len(), "{seen} {repositories}: {found:?}");
            for (gap, (wider, text)) in found.iter().zip(want) {
                assert!(gap.wider == wider && gap.found.contains(text), "{seen} {repositories}: {gap:?}");
                assert!(gap.fix.starts_with("PAGE: "), "{gap:?}");
            }
        }
    }
}
