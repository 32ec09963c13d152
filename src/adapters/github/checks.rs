//! Check runs, and commit statuses: <https://docs.github.com/en/rest/checks/runs>.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    GitHub,
    answer::{self, Call, Need},
    is_ok, read, repository_path, segment, words,
};
use crate::{
    adapters::http::Reply,
    error::CallError,
    ports::{Check, Checks, Clock, Page, Runs, SecretSource, State, Target, Written},
};

/// "Description … up to 140 characters" (`description` of a commit status).
const LONGEST_STATUS: usize = 140;

#[derive(Deserialize)]
struct WireChecks {
    check_runs: Vec<WireCheck>,
}

#[derive(Deserialize)]
struct WireCheck {
    id: u64,
    status: Option<String>,
    conclusion: Option<String>,
    output: Option<Output>,
    app: Option<Value>,
}

#[derive(Deserialize, Default)]
struct Output {
    title: Option<String>,
    summary: Option<String>,
}

fn words_of(state: State) -> (&'static str, Option<&'static str>) {
    match state {
        State::Waits => ("in_progress", None),
        State::Failed => ("completed", Some("failure")),
        State::Neutral => ("completed", Some("neutral")),
        State::Well => ("completed", Some("success")),
    }
}

impl From<WireCheck> for Check {
    fn from(check: WireCheck) -> Self {
        let said = (check.status.as_deref().unwrap_or_default(), check.conclusion.as_deref());
        let all = [State::Waits, State::Failed, State::Neutral, State::Well];
        let output = check.output.unwrap_or_default();
        Check {
            id: check.id,
            state: all.into_iter().find(|state| words_of(*state) == said),
            title: output.title.unwrap_or_default(),
            summary: output.summary.unwrap_or_default(),
        }
    }
}

fn json_page(page: &Page) -> Value {
    let (status, conclusion) = words_of(page.state);
    let mut body = json!({
        "status": status,
        "output": { "title": page.title, "summary": page.summary },
    });
    if let Some(conclusion) = conclusion {
        body["conclusion"] = json!(conclusion);
    }
    if let Some(link) = &page.link {
        body["details_url"] = json!(link);
    }
    body
}

impl<S: SecretSource, C: Clock> GitHub<S, C> {
    async fn write(&self, target: &Target, call: &Call, body: Value) -> Result<Written, CallError> {
        let is_denied = |reply: &Reply| {
            reply.status == 403 && words::message(reply).to_lowercase().contains("not accessible by")
        };
        let expected = |reply: &Reply| matches!(reply.status, 200 | 201) || is_denied(reply);
        let reply = self.ask(target, call, Some(body.to_string()), expected).await?;
        Ok(if is_denied(&reply) { Written::Denied } else { Written::Well })
    }
}

impl<S: SecretSource, C: Clock> Checks for GitHub<S, C> {
    async fn find_check(&self, target: &Target, sha: &str, name: &str) -> Result<Option<Check>, CallError> {
        let path = format!(
            "{}/commits/{}/check-runs?check_name={}&filter=latest",
            repository_path(target)?,
            segment(sha),
            segment(name)
        );
        // Only the App that has made a check may change it.
        let call = Call::new("GET", path, Need::ChecksWrite).about(name);
        let expected = |reply: &Reply| is_ok(reply) || answer::says_nothing(reply);
        let reply = self.ask(target, &call, None, expected).await?;
        if answer::says_nothing(&reply) {
            return Ok(None);
        }
        let found: WireChecks = read(&call, &reply)?;
        let own = self.own_logins().await?;
        let is_ours = |check: &WireCheck| {
            let slug = check.app.as_ref().and_then(|app| app["slug"].as_str());
            slug.is_some_and(|slug| own.contains(&format!("{slug}[bot]")))
        };
        Ok(found.check_runs.into_iter().find(is_ours).map(Check::from))
    }

    async fn write_check(
        &self,
        target: &Target,
        sha: &str,
        name: &str,
        known: Option<u64>,
        page: &Page,
    ) -> Result<Written, CallError> {
        let path = format!("{}/check-runs", repository_path(target)?);
        let mut body = json_page(page);
        let call = match known {
            Some(id) => Call::new("PATCH", format!("{path}/{id}"), Need::ChecksWrite),
            None => {
                body["name"] = json!(name);
                body["head_sha"] = json!(sha);
                Call::new("POST", path, Need::ChecksWrite)
            }
        };
        self.write(target, &call.about(name), body).await
    }

    async fn write_status(
        &self,
        target: &Target,
        sha: &str,
        name: &str,
        page: &Page,
    ) -> Result<Written, CallError> {
        let state = match page.state {
            State::Waits => "pending",
            State::Failed => "failure",
            State::Neutral | State::Well => "success",
        };
        let description: String = page.title.chars().take(LONGEST_STATUS).collect();
        let body = json!({
            "state": state, "context": name, "description": description, "target_url": page.link,
        });
        let path = format!("{}/statuses/{}", repository_path(target)?, segment(sha));
        let call = Call::new("POST", path, Need::StatusesWrite).about(name);
        self.write(target, &call, body).await
    }
}
