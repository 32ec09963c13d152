//! Who may use the fleet's runners: GitHub's runner groups decide, and are held against the policy here.

use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::{
    error::CallError,
    intake::{
        classes::{Classes, RunnerClass},
        glob::RepositoryGlob,
        policy::Policy,
    },
    ports::{Github, Group, RunnerGroup, Target},
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

/// A group that runners join, as GitHub has it.
#[derive(Debug)]
pub(crate) struct Looked {
    /// Those whose runners do. Without a document there are none.
    members: Vec<Member>,
    found: Result<Option<Group>, CallError>,
}

/// Whose runners join a group: a class's, or those of its jobs that overtake.
#[derive(Debug, Clone)]
struct Member {
    class: Arc<RunnerClass>,
    urgent: bool,
}

impl Member {
    fn field(&self) -> &'static str {
        if self.urgent { "high_priority_runner_group" } else { "runner_group" }
    }

    /// Those that the class names.
    fn repositories(&self) -> &[RepositoryGlob] {
        if self.urgent { &self.class.high_priority } else { &self.class.repositories }
    }

    fn list(&self) -> String {
        let part = if self.urgent { "'s high_priority_repositories" } else { "" };
        format!("{}{part}", self.class.name)
    }

    fn admits(&self, target: &Target) -> bool {
        self.class.admits(target) && (!self.urgent || self.class.is_urgent::<&str>(target, &[]))
    }

    fn depends_on_repository(&self, owner: &str) -> bool {
        self.class.depends_on_repository(owner)
            || self.urgent && self.class.priority_depends_on_repository(owner)
    }
}

/// Looks at the stack's own group and at each that a class names.
pub(crate) async fn look<G: Github>(github: &G, classes: Option<&Classes>, place: &Target) -> Vec<Looked> {
    let mut joined: BTreeMap<Option<RunnerGroup>, Vec<Member>> = [(None, Vec::new())].into();
    for class in classes.iter().flat_map(|classes| &classes.classes) {
        let mut joins = |group: &Option<RunnerGroup>, urgent| {
            joined.entry(group.clone()).or_default().push(Member { class: class.clone(), urgent });
        };
        joins(&class.group, false);
        if class.high_priority_group.is_some() {
            joins(&class.high_priority_group, true);
        }
    }
    let mut looked: Vec<Looked> = Vec::new();
    for (group, members) in joined {
        let found = github.group(place, group.as_ref()).await;
        // One may go by its number and by its name.
        let page = |found: &Result<Option<Group>, CallError>| {
            found.as_ref().ok()?.as_ref().map(|it| it.page.clone())
        };
        match looked.iter_mut().find(|it| page(&found).is_some() && page(&it.found) == page(&found)) {
            Some(same) => same.members.extend(members),
            None => looked.push(Looked { members, found }),
        }
    }
    looked
}

impl Looked {
    /// The gaps between the group and the policy for jobs of that owner, the widest first; `None`: there is no such group.
    pub(crate) fn gaps(&self, policy: &Policy, owner: &str) -> Result<Option<Vec<Gap>>, &CallError> {
        let users = Users { policy, members: &self.members };
        self.found.as_ref().map(|group| group.as_ref().map(|group| gaps(group, &users, owner)))
    }

    /// What to look at when there is no such group.
    pub(crate) fn where_it_is_set(&self) -> String {
        let number = "the number at the end of the group's address in the organisation's settings";
        match self.members.iter().find(|it| it.urgent || it.class.group.is_some()) {
            Some(it) => {
                format!(
                    "{} of the class {} (docs/classes.md): {number}, or its name",
                    it.field(),
                    it.class.name
                )
            }
            None => format!("RunnerGroupId: {number}"),
        }
    }
}

/// The group, and who may use it.
impl fmt::Display for Looked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(Some(group)) = &self.found else { return Ok(()) };
        let whom = if group.repositories.is_some() { "selected repositories" } else { "all repositories" };
        write!(f, "{}, {whom}", group.name)
    }
}

/// Whose jobs start the runners of a group.
struct Users<'a> {
    policy: &'a Policy,
    members: &'a [Member],
}

impl Users<'_> {
    fn takes_public(&self) -> bool {
        let says = |it: &Member| it.class.allow_public.unwrap_or(self.policy.allow_public);
        if self.members.is_empty() { self.policy.allow_public } else { self.members.iter().any(says) }
    }

    fn depends_on_repository(&self, owner: &str) -> bool {
        let of_all = |owner| self.members.iter().all(|it| it.depends_on_repository(owner));
        self.policy.depends_on_repository(owner) || !self.members.is_empty() && of_all(owner)
    }

    fn have(&self, full_name: &str) -> bool {
        let Some((owner, repository)) = full_name.split_once('/') else { return false };
        let target =
            Target { owner: owner.to_owned(), repository: Some(repository.to_owned()), ..Target::default() };
        self.policy.excludes_target(&target).is_none()
            && (self.members.is_empty() || self.members.iter().any(|it| it.admits(&target)))
    }

    /// Repositories that are named in full, and whose jobs start some.
    fn named(&self) -> Vec<String> {
        let globs: Vec<&RepositoryGlob> = match self.members.is_empty() {
            true => self.policy.repositories.iter().collect(),
            false => self.members.iter().flat_map(Member::repositories).collect(),
        };
        globs.iter().filter_map(|glob| glob.full_name()).filter(|name| self.have(name)).collect()
    }

    /// Where it is said which repositories.
    fn list(&self) -> String {
        let says = self.members.iter().filter(|it| !it.repositories().is_empty());
        let names: Vec<String> = says.map(Member::list).collect();
        match names.len() == self.members.len() && !names.is_empty() {
            true => format!("AllowedRepositories and class {}", names.join(", ")),
            false => "AllowedRepositories".to_owned(),
        }
    }

    /// Where it is said that public ones have some.
    fn public_list(&self) -> String {
        let says = self.members.iter().find(|it| it.class.allow_public == Some(true));
        says.map_or("AllowPublicRepositories".to_owned(), |it| {
            format!("allow_public_repositories of class {}", it.class.name)
        })
    }
}

fn gaps(group: &Group, users: &Users<'_>, owner: &str) -> Vec<Gap> {
    let Group { name, page, .. } = group;
    let gap = |wider, found: String, fix: &str| Gap { wider, found, fix: format!("{page}: {fix}") };
    let (list, public_list) = (users.list(), users.public_list());
    let mut gaps = Vec::new();
    if group.public && !users.takes_public() {
        let found = format!("{name} is open to public repositories, where anybody can open a pull request");
        gaps.push(gap(true, found, "do not allow public repositories"));
    }
    match &group.repositories {
        None if users.depends_on_repository(owner) => {
            let found = format!("{name} is open to all repositories, and {list} is not");
            gaps.push(gap(true, found, &format!("selected repositories, those of {list}")));
        }
        Some(repositories) => {
            let others: Vec<&str> =
                repositories.iter().map(String::as_str).filter(|name| !users.have(name)).collect();
            if let Some(named) = named(&others) {
                let found = format!("{name} is open to {named}, which {list} does not name");
                gaps.push(gap(true, found, &format!("take them out, or name them in {list}")));
            }
            let has = |name: &String| repositories.iter().any(|it| it.eq_ignore_ascii_case(name));
            let left_out = users.named();
            let left_out: Vec<&str> = left_out.iter().filter(|name| !has(name)).map(String::as_str).collect();
            if let Some(named) = named(&left_out) {
                let found = format!("{name} is closed to {named}: jobs there start runners, and wait");
                gaps.push(gap(false, found, &format!("select them, or take them out of {list}")));
            }
        }
        None => {}
    }
    if group.restricted {
        let found = format!("{name} is for selected workflows only: jobs of others start runners, and wait");
        gaps.push(gap(false, found, "workflow access, all workflows"));
    }
    if !group.public && users.takes_public() {
        let found = format!("{name} is closed to public repositories, and {public_list} is true");
        gaps.push(gap(false, found, "allow public repositories, or set it false"));
    }
    gaps
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
            ("selected", "acme/a", false, "narrower: closed to acme/a: jobs"),
            ("acme/a", "acme/a", false, ""),
            ("ACME/A", "acme/a", false, ""),
            ("ACME/A", "acme/a,acme/b,acme/c*", false, "narrower: closed to acme/b: jobs"),
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
            let users = Users { policy: &policy(repositories, allow_public), members: &[] };
            let found = gaps(&group(seen), &users, "acme");
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
    #[test]
    fn a_class_says_more() {
        let globs = |text: &str| text.split_whitespace().map(RepositoryGlob::new).collect();
        let member = |repositories: &str, high_priority: &str, allow_public| Member {
            urgent: !high_priority.is_empty(),
            class: Arc::new(RunnerClass {
                name: "big".to_owned(),
                repositories: globs(repositories),
                high_priority: globs(high_priority),
                allow_public,
                ..RunnerClass::default()
            }),
        };
        let class = |repositories: &str, allow_public| member(repositories, "", allow_public);
        let (any, one) = (class("", None), class("acme/a", None));
        let urgent = |high_priority: &str| member("", high_priority, None);
        let table = [
            ("", vec![any.clone()], ""),
            ("", vec![one.clone()], "all repositories, and AllowedRepositories and class big is not"),
            ("", vec![one.clone(), any.clone()], ""),
            ("acme/a", vec![one.clone()], ""),
            ("acme/b", vec![class("acme/b", None), one.clone()], "closed to acme/a: jobs there"),
            ("acme/release", vec![urgent("acme/release")], ""),
            ("", vec![urgent("acme/*")], ""),
            (
                "",
                vec![urgent("acme/release")],
                "all repositories, and AllowedRepositories and class big's high_priority_rep",
            ),
            (
                "acme/release acme/a",
                vec![urgent("acme/release")],
                "open to acme/a, which AllowedRepositories and class big's",
            ),
            ("acme/release", vec![urgent("acme/release acme/fix")], "closed to acme/fix: jobs there"),
            // Not of the class at all.
            ("acme/release", vec![member("acme/a", "acme/release", None)], "open to acme/release"),
            // The group of all its jobs is that of those that overtake as well.
            ("", vec![urgent("acme/release"), any], ""),
            ("public acme/release", vec![urgent("acme/release")], "anybody can open"),
            (
                "acme/a acme/b",
                vec![one.clone()],
                "open to acme/b, which AllowedRepositories and class big does not",
            ),
            ("acme/a acme/b", vec![one.clone(), class("acme/b*", None)], ""),
            ("public", vec![class("", Some(true))], ""),
            ("public", vec![class("", Some(false))], "anybody can open"),
            ("", vec![class("", Some(true))], "allow_public_repositories of class big is true"),
        ];
        for (seen, classes, want) in table {
            let users = Users { policy: &policy("*", false), members: &classes };
            let found = gaps(&group(seen), &users, "acme");
            assert_eq!(found.len(), usize::from(!want.is_empty()), "{seen}: {found:?}");
            assert!(found.iter().all(|gap| gap.found.contains(want)), "{seen}: {found:?}");
        }
    }
}
