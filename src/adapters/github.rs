//! GitHub's REST API: <https://docs.github.com/en/rest/actions/self-hosted-runners>.

mod answer;
mod checks;
mod credentials;
mod deliveries;
mod group;
mod inspect;
mod limits;
mod outage;
mod redirect;
mod runs;
mod secret;
pub mod share;
mod wire;
mod words;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::future::{LocalBoxFuture, join_all};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use self::{
    answer::{Call, Need},
    credentials::{Keyring, Pass},
    limits::Limits,
    outage::Outage,
    share::{At, Failure, Shared, Sharing},
};
use super::http::{ApiRequest, Http, Reply};
use crate::{
    error::{CallError, Class},
    ids::{JobId, RunId, RunnerId, RunnerVersion},
    ports::{
        Clock, Deleted, Github, Group, JitConfig, JobState, Minted, Registration, RunnerGroup, Runs, Scope,
        SecretSource, SystemClock, Target,
    },
};

/// "API versions" of GitHub's REST API; this one is supported by every GitHub Enterprise Server since 3.9.
const API_VERSION: &str = "2022-11-28";
const USER_AGENT: &str = concat!("gha-fargate-runners/", env!("CARGO_PKG_VERSION"));
const PER_PAGE: u32 = 100;
/// Pages of runners that one list may have: twelve sweeps an hour that read as many would use up an
/// installation's 5,000 requests. A list that is said to be longer has no end.
const MOST_PAGES: u32 = 400;

/// What a client is for, which says what its tokens may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    /// Registers runners, and asks about jobs.
    Runners,
    /// Has jobs run again, and tells their authors. It registers nothing.
    Author {
        /// It writes check runs.
        checks: bool,
    },
}

/// GitHub, asked with the credentials of a secret.
#[derive(Debug)]
pub struct GitHub<S, C = SystemClock> {
    http: Http,
    api_url: String,
    scope: Scope,
    runner_group_id: u64,
    errand: Errand,
    keyring: Keyring<S>,
    limits: Limits,
    outage: Outage,
    sharing: Sharing,
    clock: C,
    known: Known,
}

/// What the answers so far have shown.
#[derive(Debug, Default)]
struct Known {
    /// Where a runner has been registered, and in which group: there, the settings are right.
    mints_well: RefCell<BTreeSet<(String, Option<u64>)>>,
    /// The server finds repositories by their ids.
    takes_ids: Cell<bool>,
    /// `status=failure` means nothing to the server.
    cannot_filter: Cell<bool>,
    /// Apps without a webhook, by their ids, of which that was said.
    have_no_webhook: RefCell<BTreeSet<String>>,
    /// The API's version has an end, which was said.
    ends: Cell<bool>,
    /// What each App, by its id, is called where it asks for something.
    logins: RefCell<BTreeMap<String, String>>,
    /// Runner groups by their place and name. Whoever comes while they are listed waits for that list.
    groups: Mutex<BTreeMap<(String, String), u64>>,
}

impl Known {
    fn mints_well(&self, call: &Call) -> bool {
        // A set of pairs cannot be asked with borrowed ones.
        self.mints_well.borrow().iter().any(|(path, group)| *path == call.path && *group == call.group)
    }
}

impl<S: SecretSource> GitHub<S> {
    /// A client; nothing is asked yet.
    pub fn new(http: Http, api_url: String, scope: Scope, runner_group_id: u64, secret: S) -> Self {
        Self::with_clock(http, api_url, scope, runner_group_id, secret, SystemClock)
    }
}

impl<S: SecretSource, C: Clock> GitHub<S, C> {
    /// A client with a clock of the caller's.
    pub fn with_clock(
        http: Http,
        api_url: String,
        scope: Scope,
        runner_group_id: u64,
        secret: S,
        clock: C,
    ) -> Self {
        let (limits, outage) = (Limits::default(), Outage::default());
        let (keyring, known, sharing) = (Keyring::new(secret), Known::default(), Sharing::default());
        let errand = Errand::Runners;
        GitHub {
            http,
            api_url,
            scope,
            runner_group_id,
            errand,
            keyring,
            limits,
            outage,
            sharing,
            clock,
            known,
        }
    }

    /// The same client for something else.
    pub fn on(self, errand: Errand) -> Self {
        GitHub { errand, ..self }
    }

    /// Reads the secret and, as each App, gets the token of its installation in `owner`'s account, which opens the
    /// connection too: for the init phase, so that the first job pays for none of it.
    pub async fn warm(&self, owner: Option<&str>) -> Result<(), CallError> {
        let all = self.credentials().await?;
        let Some(owner) = owner else { return Ok(()) };
        // In repository scope an installation is looked up by its repository, which only a job names.
        if self.scope != Scope::Repo {
            let target = Target { owner: owner.to_owned(), ..Target::default() };
            let pass = |id| -> LocalBoxFuture<'_, _> { Box::pin(self.pass(id, &target)) };
            let tokens = all.iter().map(|app| pass(app.id()));
            join_all(tokens).await.into_iter().try_for_each(|token| token.map(drop))?;
        }
        Ok(())
    }

    /// `/orgs/{org}`, `/repos/{owner}/{repo}` or `/enterprises/{slug}`.
    fn scope_path(&self, target: &Target) -> Result<String, CallError> {
        Ok(match &self.scope {
            Scope::Org => format!("/orgs/{}", segment(&target.owner)),
            Scope::Repo => repository_path(target)?,
            Scope::Enterprise(slug) => format!("/enterprises/{}", segment(slug)),
        })
    }

    fn runners_call(&self, method: &'static str, target: &Target, rest: &str) -> Result<Call, CallError> {
        let path = format!("{}/actions/runners{rest}", self.scope_path(target)?);
        let need = match self.scope {
            Scope::Org => Need::OrganizationRunners,
            Scope::Repo => Need::RepositoryAdministration,
            Scope::Enterprise(_) => Need::EnterpriseRunners,
        };
        Ok(Call::new(method, path, need))
    }

    /// A call as an App's installation, or with the token. `expected` says which answers are no errors.
    async fn ask(
        &self,
        target: &Target,
        call: &Call,
        body: Option<String>,
        expected: impl Fn(&Reply) -> bool,
    ) -> Result<Reply, CallError> {
        let all = self.credentials().await?;
        let apps: Vec<&str> = all.iter().map(|app| app.id()).collect();
        let owner = target.owner.to_lowercase();
        let shared = Shared { key: call.key(), owner: &owner, apps: &apps };
        let ask = async |app: &str| {
            let pass = async || self.pass(app, target).await;
            // On the heap: it would be a part of every call's future.
            let asked: LocalBoxFuture<'_, _> = Box::pin(self.ask_with(pass, call, body.clone(), &expected));
            asked.await
        };
        self.sharing.ask(shared, &self.clock, ask).await
    }

    /// A call as that App itself.
    async fn ask_as_app(
        &self,
        id: &str,
        call: &Call,
        body: Option<String>,
        expected: impl Fn(&Reply) -> bool,
    ) -> Result<Reply, CallError> {
        let pass = async || self.app_pass(id).await;
        self.ask_with(pass, call, body, expected).await.map_err(|failure| failure.error)
    }

    /// After a 401 the call is made again, once, if there is something newer to make it with.
    async fn ask_with(
        &self,
        pass: impl AsyncFn() -> Result<Pass, CallError>,
        call: &Call,
        body: Option<String>,
        expected: impl Fn(&Reply) -> bool,
    ) -> Result<Reply, Failure> {
        let at = |at| move |error| Failure { error, at };
        let used = pass().await.map_err(at(At::Pass))?;
        let (reply, limited) = self.ask_once(&used, call, body.clone()).await.map_err(at(At::Way))?;
        if limited.is_none() && expected(&reply) {
            return Ok(reply);
        }
        let failure = |reply: &Reply, limited| Failure {
            error: answer::classify(call, reply, limited, self.known.mints_well(call)),
            at: At::Answer(reply.status),
        };
        let first = failure(&reply, limited);
        let unauthorized = reply.status == 401;
        let is_refusal = unauthorized || first.error.class == Class::NeedsOperator;
        if !is_refusal || !self.keyring.refused(&used, unauthorized, &self.clock).await || !unauthorized {
            return Err(first);
        }
        let pass = pass().await.map_err(at(At::Pass))?;
        let (reply, limited) = self.ask_once(&pass, call, body).await.map_err(at(At::Way))?;
        if limited.is_none() && expected(&reply) {
            return Ok(reply);
        }
        Err(failure(&reply, limited))
    }

    /// A call, unless there is a limit. With the answer, if it is a refusal for a limit: how long that lasts.
    async fn ask_once(
        &self,
        pass: &Pass,
        call: &Call,
        body: Option<String>,
    ) -> Result<(Reply, Option<Duration>), CallError> {
        let asked_at = self.clock.now();
        self.limits.check(&pass.allowance, call, asked_at)?;
        let reply = self.send(&pass.token, call, body).await?;
        let limited = self.limits.note(&pass.allowance, &reply, asked_at, self.clock.now());
        if let Some(when) = answer::announced_end(&reply)
            && !self.known.ends.replace(true)
        {
            tracing::warn!(
                version = API_VERSION,
                "GitHub: {call} will be given up ({when}): upgrade this program"
            );
        }
        Ok((reply, limited))
    }

    /// Asks about a repository: by its id where that is known, so that its names do not matter. GitHub does not
    /// describe that path, and leads to it itself when a repository was renamed. A server that shows nothing there,
    /// and never did, is asked by the name.
    async fn of_repository(
        &self,
        target: &Target,
        rest: &str,
        need: Need,
        ask: impl AsyncFn(&Call) -> Result<Reply, CallError>,
    ) -> Result<(Call, Reply), CallError> {
        if let Some(id) = target.repository_id {
            let call = Call::new("GET", format!("/repositories/{id}{rest}"), need);
            let reply = ask(&call).await?;
            if reply.status != 404 || self.known.takes_ids.get() {
                self.known.takes_ids.set(true);
                return Ok((call, reply));
            }
        }
        let call = Call::new("GET", format!("{}{rest}", repository_path(target)?), need);
        let reply = ask(&call).await?;
        Ok((call, reply))
    }

    /// GitHub has registered a runner and given no configuration for it, so that nobody can ever be that runner: its
    /// registration goes, and its name is free for the next try.
    async fn give_back(&self, target: &Target, call: &Call, id: RunnerId) -> CallError {
        let class = match self.delete_runner(target, id).await {
            Ok(_) => Class::Transient,
            // Whoever is told of it next finds the name taken, by nobody's runner.
            Err(_) => Class::Unknown,
        };
        CallError::new(class, format!("GitHub: {call}: 201 without a configuration: GitHub is in trouble"))
    }

    async fn send(
        &self,
        token: &SecretString,
        call: &Call,
        body: Option<String>,
    ) -> Result<Reply, CallError> {
        let authorization = SecretString::from(format!("Bearer {}", token.expose_secret()));
        let mut headers = vec![
            ("accept", "application/vnd.github+json"),
            ("authorization", authorization.expose_secret()),
            ("user-agent", USER_AGENT),
            ("x-github-api-version", API_VERSION),
        ];
        if body.is_some() {
            headers.push(("content-type", "application/json"));
        }
        let url = format!("{}{}", self.api_url, call.path);
        // A mint that is under way still takes the name, and a DELETE tells one caller only that it was his: of those
        // the second answer is another one. A token more harms nobody.
        let repeatable = call.method == "GET" || call.path.ends_with("/access_tokens");
        let mut request = ApiRequest { method: call.method, url, headers, body, repeatable };
        let answer = redirect::send(&self.http, &self.api_url, &mut request).await;
        let lasts = self.outage.note(answer.as_ref().err(), self.clock.now());
        answer.map_err(|no_reply| outage::no_answer(call, &no_reply, lasts))
    }
}

impl<S: SecretSource, C: Clock> Github for GitHub<S, C> {
    async fn mint(
        &self,
        target: &Target,
        name: &str,
        labels: &[String],
        group: Option<&RunnerGroup>,
    ) -> Result<Minted, CallError> {
        let group_id = match group {
            None => self.runner_group_id,
            Some(RunnerGroup::Id(id)) => *id,
            // On the heap: it is rare.
            Some(RunnerGroup::Named(name)) => Box::pin(self.group_named(target, name)).await?,
        };
        let call = self.runners_call("POST", target, "/generate-jitconfig")?.about(name).into_group(group_id);
        let body = serde_json::json!({ "name": name, "runner_group_id": group_id, "labels": labels });
        let expected = |reply: &Reply| matches!(reply.status, 201 | 409);
        let reply = match self.ask(target, &call, Some(body.to_string()), expected).await {
            // The group of that name may be another one by now.
            Err(error) if error.class == Class::NeedsOperator => {
                self.known.groups.lock().await.clear();
                return Err(error);
            }
            reply => reply?,
        };
        if reply.status == 409 {
            return Ok(Minted::NameTaken);
        }
        let minted: wire::Minted = read(&call, &reply)?;
        if minted.encoded_jit_config.expose_secret().trim().is_empty() {
            return Err(self.give_back(target, &call, minted.runner.id).await);
        }
        self.known.mints_well.borrow_mut().insert((call.path, call.group));
        Ok(Minted::Created(JitConfig { id: minted.runner.id, encoded: minted.encoded_jit_config }))
    }

    async fn find_runner(&self, target: &Target, name: &str) -> Result<Option<Registration>, CallError> {
        let call = self.runners_call("GET", target, &format!("?name={}", segment(name)))?;
        let list: wire::Runners = read(&call, &self.ask(target, &call, None, is_ok).await?)?;
        Ok(list.runners.into_iter().find(|runner| runner.name == name).map(Registration::from))
    }

    async fn runner(&self, target: &Target, id: RunnerId) -> Result<Option<Registration>, CallError> {
        let call = self.runners_call("GET", target, &format!("/{id}"))?;
        let reply = self.ask(target, &call, None, |reply| matches!(reply.status, 200 | 404)).await?;
        if reply.status == 404 {
            return Ok(None);
        }
        read(&call, &reply).map(|runner: wire::Runner| Some(runner.into()))
    }

    async fn runners(
        &self,
        target: &Target,
        page: u32,
    ) -> Result<Option<(Vec<Registration>, bool)>, CallError> {
        let call = self.runners_call("GET", target, &format!("?per_page={PER_PAGE}&page={page}"))?;
        // An organisation or an enterprise that is not there is a mistake of the settings.
        let may_be_gone = self.scope == Scope::Repo;
        let expected = |reply: &Reply| is_ok(reply) || (may_be_gone && reply.status == 404);
        let reply = self.ask(target, &call, None, expected).await?;
        if reply.status == 404 {
            return Ok(None);
        }
        let list: wire::Runners = read(&call, &reply)?;
        let more = u64::from(page) * u64::from(PER_PAGE) < list.total_count && !list.runners.is_empty();
        if more && page >= MOST_PAGES {
            return Err(CallError::new(call.lost(), format!("GitHub: {call}: the list does not end")));
        }
        Ok(Some((list.runners.into_iter().map(Registration::from).collect(), more)))
    }

    async fn newest_release(&self, target: &Target) -> Result<Option<RunnerVersion>, CallError> {
        let call = self.runners_call("GET", target, "/downloads")?;
        let files: Vec<wire::Download> = read(&call, &self.ask(target, &call, None, is_ok).await?)?;
        Ok(files.iter().filter_map(|file| RunnerVersion::of_file(&file.filename)).max())
    }

    async fn group(&self, target: &Target, group: Option<&RunnerGroup>) -> Result<Option<Group>, CallError> {
        let id = match group {
            None => Some(self.runner_group_id),
            Some(RunnerGroup::Id(id)) => Some(*id),
            Some(RunnerGroup::Named(name)) => self.find_group(target, name).await?,
        };
        match id {
            Some(id) => self.read_group(target, id).await,
            None => Ok(None),
        }
    }

    async fn delete_runner(&self, target: &Target, id: RunnerId) -> Result<Deleted, CallError> {
        let call = self.runners_call("DELETE", target, &format!("/{id}"))?;
        let expected = |reply: &Reply| matches!(reply.status, 204 | 404 | 422);
        let reply = self.ask(target, &call, None, expected).await?;
        Ok(match reply.status {
            204 => Deleted::Spent,
            404 => Deleted::Gone,
            _ => Deleted::Busy,
        })
    }

    async fn job(&self, target: &Target, job: JobId) -> Result<Option<JobState>, CallError> {
        if target.repository.is_none() {
            return Ok(None);
        }
        let expected = |reply: &Reply| is_ok(reply) || answer::says_nothing(reply);
        let ask = async |call: &Call| self.ask(target, call, None, expected).await;
        let (call, reply) =
            self.of_repository(target, &format!("/actions/jobs/{job}"), Need::ActionsRead, ask).await?;
        if answer::says_nothing(&reply) {
            return Ok(None);
        }
        let job: wire::Job = read(&call, &reply)?;
        Ok(Some(job.into()))
    }

    async fn is_own_rerun(
        &self,
        target: &Target,
        run: RunId,
        attempt: Option<u32>,
    ) -> Result<bool, CallError> {
        let own = self.own_logins().await?;
        if own.is_empty() {
            return Ok(false);
        }
        let run = self.run(target, run).await?;
        Ok(run.is_some_and(|run| run.may_be_of(&own, attempt)))
    }
}

fn is_ok(reply: &Reply) -> bool {
    reply.status == 200
}

fn read<T: DeserializeOwned>(call: &Call, reply: &Reply) -> Result<T, CallError> {
    serde_json::from_slice(&reply.body).map_err(|_| unreadable(call, reply))
}

fn unreadable(call: &Call, reply: &Reply) -> CallError {
    CallError::new(call.lost(), format!("GitHub: {call}: {} with an unreadable body", reply.status))
}

/// `/repos/{owner}/{repo}`.
fn repository_path(target: &Target) -> Result<String, CallError> {
    let repository = target.repository.as_deref().ok_or_else(|| {
        CallError::new(Class::Invalid, "the repository is not known, and RUNNER_SCOPE repo needs it")
    })?;
    Ok(format!("/repos/{}/{}", segment(&target.owner), segment(repository)))
}

/// What may stand in a path or query as it is (RFC 3986, "unreserved").
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// One segment of a path, or one value of a query.
fn segment(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}
