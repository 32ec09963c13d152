//! The runner group that runners join.

use serde::Deserialize;

use super::{
    GitHub, PER_PAGE,
    answer::{Call, Need},
    is_ok, read, segment,
};
use crate::{
    error::CallError,
    ports::{Clock, Group, SecretSource, Target},
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
struct Repositories {
    total_count: u64,
    repositories: Vec<Repository>,
}

#[derive(Deserialize)]
struct Repository {
    full_name: String,
}

impl<S: SecretSource, C: Clock> GitHub<S, C> {
    pub(super) async fn read_group(&self, target: &Target) -> Result<Option<Group>, CallError> {
        let (owner, id) = (segment(&target.owner), self.runner_group_id);
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
