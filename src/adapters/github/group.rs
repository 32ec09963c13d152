//! The runner group that runners join.

use serde::Deserialize;

use super::{
    GitHub, PER_PAGE,
    answer::{Call, Need},
    is_ok, read, segment,
};
use crate::{
    error::{CallError, Class},
    ports::{Clock, Group, Scope, SecretSource, Target},
};

/// Pages of repositories that are read: of a thousand the first ones tell enough.
const MOST_PAGES: u64 = 10;

#[derive(Deserialize)]
struct Found {
    name: String,
    visibility: String,
    allows_public_repositories: bool,
    #[serde(default)]
    restricted_to_workflows: bool,
}

#[derive(Deserialize)]
struct Groups {
    total_count: u64,
    runner_groups: Vec<Numbered>,
}

#[derive(Deserialize)]
struct Numbered {
    id: u64,
    name: String,
}

#[derive(Deserialize)]
struct Repositories {
    total_count: u64,
    repositories: Vec<Repository>,
}

#[derive(Deserialize)]
struct Repository {
    full_name: String,
}

impl<S: SecretSource, C: Clock> GitHub<S, C> {
    /// The number of the group of that name.
    pub(super) async fn group_named(&self, target: &Target, name: &str) -> Result<u64, CallError> {
        self.find_group(target, name).await?.ok_or_else(|| {
            let place = self.scope_path(target).unwrap_or_default();
            let why = format!("GitHub: {place} has no runner group {name:?}, which a class names");
            CallError::new(Class::NeedsOperator, why)
        })
    }

    /// The same, if there is one: `GET {scope}/actions/runner-groups`, once. Names are told apart without regard to case.
    pub(super) async fn find_group(&self, target: &Target, name: &str) -> Result<Option<u64>, CallError> {
        let place = self.scope_path(target)?;
        let key = (place.clone(), name.to_lowercase());
        let mut known = self.known.groups.lock().await;
        if let Some(id) = known.get(&key) {
            return Ok(Some(*id));
        }
        let need = match &self.scope {
            Scope::Org => Need::OrganizationRunners,
            Scope::Enterprise(_) => Need::EnterpriseRunners,
            Scope::Repo => {
                let why = "a repository has no runner groups: leave runner_group out in scope repo";
                return Err(CallError::new(Class::NeedsOperator, why));
            }
        };
        for page in 1..=MOST_PAGES {
            let path = format!("{place}/actions/runner-groups?per_page={PER_PAGE}&page={page}");
            let call = Call::new("GET", path, need);
            let listed: Groups = read(&call, &self.ask(target, &call, None, is_ok).await?)?;
            let is_last = listed.runner_groups.is_empty() || page * u64::from(PER_PAGE) >= listed.total_count;
            let groups = listed.runner_groups.into_iter();
            known.extend(groups.map(|group| ((place.clone(), group.name.to_lowercase()), group.id)));
            if is_last || known.contains_key(&key) {
                break;
            }
        }
        Ok(known.get(&key).copied())
    }

    pub(super) async fn read_group(&self, target: &Target, id: u64) -> Result<Option<Group>, CallError> {
        let owner = segment(&target.owner);
        let path = format!("/orgs/{owner}/actions/runner-groups/{id}");
        let call = Call::new("GET", path, Need::OrganizationRunners);
        let reply = self.ask(target, &call, None, |reply| matches!(reply.status, 200 | 404)).await?;
        if reply.status == 404 {
            return Ok(None);
        }
        let group: Found = read(&call, &reply)?;
        let repositories = match group.visibility.as_str() {
            "selected" => Some(self.repositories(target, &call).await?),
            // `all`, and `private`: all that are not public.
            _ => None,
        };
        Ok(Some(Group {
            name: group.name,
            page: format!("{}/organizations/{owner}/settings/actions/runner-groups/{id}", web(&self.api_url)),
            repositories,
            public: group.allows_public_repositories,
            restricted: group.restricted_to_workflows,
        }))
    }

    async fn repositories(&self, target: &Target, group: &Call) -> Result<Vec<String>, CallError> {
        let mut names = Vec::new();
        for page in 1..=MOST_PAGES {
            let path = format!("{}/repositories?per_page={PER_PAGE}&page={page}", group.path);
            let call = Call::new("GET", path, Need::OrganizationRunners);
            let listed: Repositories = read(&call, &self.ask(target, &call, None, is_ok).await?)?;
            let is_last = listed.repositories.is_empty() || page * u64::from(PER_PAGE) >= listed.total_count;
            names.extend(listed.repositories.into_iter().map(|it| it.full_name));
            if is_last {
                break;
            }
        }
        Ok(names)
    }
}

/// Where people look: `https://api.github.com` is for programs, as is `/api/v3` of a GitHub Enterprise Server.
fn web(api_url: &str) -> String {
    match api_url.strip_suffix("/api/v3") {
        Some(server) => server.to_owned(),
        None => api_url.replacen("://api.", "://", 1),
    }
}

#[cfg(test)]
mod tests {
    use super::web;

    #[test]
    fn pages_for_people() {
        for (api, page) in [
            ("https://api.github.com", "https://github.com"),
            ("https://api.octo.ghe.com", "https://octo.ghe.com"),
            ("https://ghe.octo.test/api/v3", "https://ghe.octo.test"),
            ("https://api.octo.test/api/v3", "https://api.octo.test"),
        ] {
            assert_eq!(web(api), page);
        }
    }
}
