//! Runs, and running their jobs again: <https://docs.github.com/en/rest/actions/workflow-runs>.

use serde::Deserialize;
use serde_json::Value;

use super::{
    GitHub, PER_PAGE,
    answer::{self, Call, Need},
    is_ok, read, repository_path,
    secret::Credentials,
    words,
};
use crate::{
    adapters::http::Reply,
    error::{CallError, Class},
    ids::{JobId, RunId},
    intake::payload::rfc3339,
    ports::{Clock, Conclusion, JobStatus, Rerun, Run, RunJob, Runs, SecretSource, Target},
};

/// A matrix has 256 jobs at most ("Actions limits"), and few workflows have several such.
const MOST_PAGES: u32 = 10;

#[derive(Deserialize)]
struct WireJob {
    id: JobId,
    run_id: RunId,
    #[serde(default)]
    run_attempt: Option<u32>,
    #[serde(default)]
    name: String,
    status: JobStatus,
    conclusion: Option<String>,
    completed_at: Option<String>,
    runner_name: Option<String>,
    #[serde(default)]
    labels: Vec<String>,
    head_sha: Option<String>,
}

impl From<WireJob> for RunJob {
    fn from(job: WireJob) -> Self {
        RunJob {
            id: job.id,
            run: job.run_id,
            attempt: job.run_attempt.unwrap_or(1),
            name: job.name,
            status: job.status,
            conclusion: job.conclusion.map(|conclusion| match conclusion.as_str() {
                "success" | "skipped" | "neutral" => Conclusion::Well,
                "cancelled" => Conclusion::Cancelled,
                _ => Conclusion::Failed,
            }),
            completed_at: job.completed_at.as_deref().and_then(rfc3339),
            runner_name: job.runner_name.filter(|name| !name.is_empty()),
            labels: job.labels,
            head_sha: job.head_sha,
        }
    }
}

#[derive(Deserialize)]
struct WireJobs {
    total_count: u64,
    jobs: Vec<WireJob>,
}

#[derive(Deserialize)]
struct WireRun {
    run_attempt: Option<u32>,
    status: Option<String>,
    conclusion: Option<String>,
    created_at: Option<String>,
    updated_at: Option<String>,
    triggering_actor: Option<Value>,
}

impl From<WireRun> for Run {
    fn from(run: WireRun) -> Self {
        let login = run.triggering_actor.as_ref().and_then(|actor| actor["login"].as_str());
        Run {
            attempt: run.run_attempt.unwrap_or(1),
            over: run.status.as_deref() == Some("completed"),
            cancelled: run.conclusion.as_deref() == Some("cancelled"),
            created_at: run.created_at.as_deref().and_then(rfc3339),
            updated_at: run.updated_at.as_deref().and_then(rfc3339),
            asked_by: login.map(str::to_owned),
        }
    }
}

#[derive(Deserialize)]
struct Slug {
    slug: String,
}

impl<S: SecretSource, C: Clock> GitHub<S, C> {
    /// `None` when GitHub does not say.
    async fn of_actions(&self, target: &Target, rest: &str) -> Result<Option<(Call, Reply)>, CallError> {
        let expected = |reply: &Reply| is_ok(reply) || answer::says_nothing(reply);
        let ask = async |call: &Call| self.ask(target, call, None, expected).await;
        let (call, reply) = self.of_repository(target, rest, Need::ActionsRead, ask).await?;
        Ok((!answer::says_nothing(&reply)).then_some((call, reply)))
    }

    /// What that App is called where it asks for something.
    async fn login_of(&self, app: &str) -> Result<String, CallError> {
        let call = Call::new("GET", "/app", Need::App);
        let slug: Slug = read(&call, &self.ask_as_app(app, &call, None, is_ok).await?)?;
        let login = format!("{}[bot]", slug.slug);
        self.known.logins.borrow_mut().insert(app.to_owned(), login.clone());
        Ok(login)
    }

    async fn rerun(&self, target: &Target, rest: &str) -> Result<Rerun, CallError> {
        let call = Call::new("POST", format!("{}{rest}", repository_path(target)?), Need::ActionsWrite);
        let expected = |reply: &Reply| match reply.status {
            201 | 404 | 409 | 410 | 422 => true,
            403 => !answer::needs_operator(reply),
            _ => false,
        };
        let reply = self.ask(target, &call, None, expected).await?;
        let says = words::message(&reply);
        let lower = says.to_lowercase();
        Ok(match reply.status {
            201 => Rerun::Granted,
            403 | 409 if lower.contains("already running") => Rerun::Busy,
            403 if lower.contains("not accessible by") => Rerun::Denied,
            status => Rerun::Refused(format!("{status}: {says}")),
        })
    }
}

impl<S: SecretSource, C: Clock> Runs for GitHub<S, C> {
    async fn run_job(&self, target: &Target, job: JobId) -> Result<Option<RunJob>, CallError> {
        let Some((call, reply)) = self.of_actions(target, &format!("/actions/jobs/{job}")).await? else {
            return Ok(None);
        };
        read(&call, &reply).map(|job: WireJob| Some(job.into()))
    }

    async fn run(&self, target: &Target, run: RunId) -> Result<Option<Run>, CallError> {
        let rest = format!("/actions/runs/{run}");
        let Some((call, reply)) = self.of_actions(target, &rest).await? else { return Ok(None) };
        read(&call, &reply).map(|run: WireRun| Some(run.into()))
    }

    async fn jobs_of(
        &self,
        target: &Target,
        run: RunId,
        attempt: u32,
    ) -> Result<Option<Vec<RunJob>>, CallError> {
        let mut jobs = Vec::new();
        for page in 1..=MOST_PAGES {
            let rest = format!("/actions/runs/{run}/attempts/{attempt}/jobs?per_page={PER_PAGE}&page={page}");
            let Some((call, reply)) = self.of_actions(target, &rest).await? else { return Ok(None) };
            let list: WireJobs = read(&call, &reply)?;
            let is_last = list.jobs.is_empty();
            jobs.extend(list.jobs.into_iter().map(RunJob::from));
            if is_last || jobs.len() as u64 >= list.total_count {
                return Ok(Some(jobs));
            }
        }
        Ok(None)
    }

    async fn rerun_failed(&self, target: &Target, run: RunId) -> Result<Rerun, CallError> {
        self.rerun(target, &format!("/actions/runs/{run}/rerun-failed-jobs")).await
    }

    async fn rerun_job(&self, target: &Target, job: JobId) -> Result<Rerun, CallError> {
        self.rerun(target, &format!("/actions/jobs/{job}/rerun")).await
    }

    async fn own_logins(&self) -> Result<Vec<String>, CallError> {
        let (mut logins, mut refused) = (Vec::new(), None);
        for it in self.credentials().await?.iter() {
            let Credentials::App(_) = &**it else { continue };
            let known = self.known.logins.borrow().get(it.id()).cloned();
            let login = match known {
                Some(login) => Ok(login),
                None => self.login_of(it.id()).await,
            };
            match login {
                Ok(login) => logins.push(login),
                // Of several Apps, one that is refused asks for nothing either.
                Err(error) if matches!(error.class, Class::NeedsOperator | Class::RateLimited { .. }) => {
                    tracing::warn!(%error, "what an App is called is not known");
                    refused = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        refused.filter(|_| logins.is_empty()).map_or(Ok(logins), Err)
    }
}
