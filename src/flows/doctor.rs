//! What is wrong between this function and GitHub, and the fix: `{"doctor": {}}`, by direct invocation only. Every
//! check needs what reconcile's own role and credentials may do; nothing is changed. What cannot be looked at is
//! unknown, and no failure.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::Duration;

use crate::{
    error::CallError,
    fargate::tags::TaskTags,
    flows::{group, reconcile::Reconciler},
    ids::RunnerNames,
    ports::{
        AppAnswer, FindTasks, Github, Held, Inspect, NotHeld, Permissions, Registration, Scope, SeenApp,
        SeenInstallation, Target, TendTasks, Timer,
    },
};

/// A JWT's `iat` is a minute in the past: more than that, and GitHub takes it for one of the future.
const DRIFT: Duration = Duration::seconds(60);
/// Pages of registrations that are looked at.
const PAGES: u32 = 10;
/// The least that should be left of an hour's requests: one in so many.
const LITTLE: u64 = 10;

/// What is asked, and what this function is not told by its settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Question {
    /// The stack's output `WebhookUrl`.
    pub webhook_url: Option<String>,
    /// What the App should have been granted for what can be done without: `RerunInterrupted`, `CheckRuns`.
    pub wants: Permissions,
}

/// The question in an event, if it is one. A queue's event never is: it has `Records`.
pub fn asked(event: &str) -> Option<Question> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Event {
        doctor: Question,
    }
    serde_json::from_str::<Event>(event).ok().map(|event| event.doctor)
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All is well.
    Ok,
    /// It works, and could be better.
    Warn,
    /// Jobs get no runner, or will not.
    Fail,
    /// It could not be looked at.
    Unknown,
}

/// One check.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// For programs.
    pub id: &'static str,
    /// How it ended.
    pub status: Status,
    /// What should be so.
    pub what: &'static str,
    /// What is so.
    pub found: String,
    /// What to do.
    pub fix: String,
}

/// The checks so far.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(
        &mut self,
        id: &'static str,
        status: Status,
        what: &'static str,
        found: impl Into<String>,
        fix: &str,
    ) {
        self.0.push(Finding { id, status, what, found: found.into(), fix: fix.to_owned() });
    }

    fn ok(&mut self, id: &'static str, what: &'static str, found: impl Into<String>) {
        self.add(id, Status::Ok, what, found, "");
    }

    /// The answer to a look; when there is none, the check is unknown.
    fn seen<T>(&mut self, id: &'static str, what: &'static str, answer: Result<T, CallError>) -> Option<T> {
        answer.map_err(|error| self.add(id, Status::Unknown, what, error.message, "")).ok()
    }
}

/// What the functions need, by scope.
fn needed(scope: &Scope) -> Permissions {
    let runners = match scope {
        Scope::Repo => "administration",
        _ => "organization_self_hosted_runners",
    };
    let text = str::to_owned;
    [(text(runners), text("write")), (text("actions"), text("read"))].into()
}

/// Those that are needed and not granted, as `name: access`.
fn lacking(scope: &Scope, granted: &Permissions) -> Vec<String> {
    let is_granted =
        |name: &String, access: &String| granted.get(name).is_some_and(|its| its == "write" || its == access);
    let missing = needed(scope).into_iter().filter(|(name, access)| !is_granted(name, access));
    missing.map(|(name, access)| format!("{name}: {access}")).collect()
}

impl<G, E, S, Q, C> Reconciler<G, E, S, Q, C>
where
    G: Github + Inspect,
    E: FindTasks + TendTasks,
    C: Timer,
{
    /// All checks: `{"checks": [{"id", "status", "what", "found", "fix"}]}`.
    pub async fn examine(&self, question: &Question) -> Value {
        let mut report = Findings::default();
        match &self.github {
            None => report.ok(
                "mode",
                "the containers mint",
                "no GITHUB_SECRET_ARN: nothing is asked of GitHub here",
            ),
            Some(github) => self.look(github, question, &mut report).await,
        }
        json!({ "checks": report.0 })
    }

    async fn look(&self, github: &G, question: &Question, report: &mut Findings) {
        let Some(held) = secret(github, report).await else { return };
        let owner = self.policy.organization.clone().filter(|_| self.scope == Scope::Org);
        self.look_as_first(github, held[0], owner.clone(), question, report).await;
        for (of, held) in held.into_iter().enumerate().skip(1) {
            let mut of_this = Findings::default();
            self.look_as(github, of, held, owner.as_deref(), &mut of_this).await;
            // One clock, and one webhook, are enough.
            of_this.0.retain(|check| !["clock", "events"].contains(&check.id));
            let named = |check: Finding| Finding {
                found: format!("credentials {}: {}", of + 1, check.found),
                ..check
            };
            report.0.extend(of_this.0.into_iter().map(named));
        }
    }

    /// One of several: whether it can register runners, and how many more.
    async fn look_as(&self, github: &G, of: usize, held: Held, owner: Option<&str>, report: &mut Findings) {
        if held == Held::App {
            let Some(app) = self.app(github, of, report).await else { return };
            if let Some(owner) = owner
                && !self.installation(github, of, &app, owner, &Permissions::new(), report).await
            {
                return;
            }
        }
        let Some(owner) = owner else { return };
        let target = Target { owner: owner.to_owned(), ..Target::default() };
        hour(github, of, &target, report).await;
    }

    /// The first, whose webhook it is, and what is there once.
    async fn look_as_first(
        &self,
        github: &G,
        held: Held,
        owner: Option<String>,
        question: &Question,
        report: &mut Findings,
    ) {
        if held == Held::App {
            let Some(app) = self.app(github, 0, report).await else { return };
            hook(github, question, report).await;
            self.sent(github, report).await;
            if let Some(owner) = owner.as_deref()
                && !self.installation(github, 0, &app, owner, &question.wants, report).await
            {
                return;
            }
        }
        let Some(owner) = owner else { return };
        let target = Target { owner, ..Target::default() };
        hour(github, 0, &target, report).await;
        self.groups(github, &target, report).await;
        self.registrations(github, &target, report).await;
    }

    /// The App, if GitHub takes its credentials.
    async fn app(&self, github: &G, of: usize, report: &mut Findings) -> Option<SeenApp> {
        let what = "GitHub accepts the App's credentials";
        let AppAnswer { app, server_time } = report.seen("app", what, github.app(of).await)?;
        let drift = server_time.map_or(Duration::ZERO, |theirs| self.clock.now() - theirs);
        if drift.abs() > DRIFT {
            let way = if drift.is_positive() { "fast" } else { "slow" };
            let found = format!("it is {} s {way}", drift.abs().whole_seconds());
            let fix = "nothing that you can set: Lambda keeps the clock; ask AWS Support";
            report.add("clock", Status::Fail, "the clock is GitHub's", found, fix);
        } else {
            report.ok("clock", "the clock is GitHub's", "");
            if app.is_none() {
                let found =
                    "401: app_id and private_key are of different Apps, or the App or its key was deleted";
                let fix = "make setup with APP_ID=… KEY=file.pem, or with NEW_APP=1";
                report.add("app", Status::Fail, what, found, fix);
            }
        }
        let app = app?;
        report.ok("app", what, app.html_url.clone());
        if app.events.iter().any(|event| event == "workflow_job") {
            report.ok("events", "the App is sent workflow_job events", "");
        } else {
            let fix = format!("{}: Permissions & events, subscribe to Workflow job", app.html_url);
            report.add(
                "events",
                Status::Fail,
                "the App is sent workflow_job events",
                app.events.join(", "),
                &fix,
            );
        }
        Some(app)
    }

    /// Whether the App can be used in the organisation.
    async fn installation(
        &self,
        github: &G,
        of: usize,
        app: &SeenApp,
        owner: &str,
        wants: &Permissions,
        report: &mut Findings,
    ) -> bool {
        let what = "the App is installed in the organisation";
        let Some(found) = report.seen("installation", what, github.installation(of, owner).await) else {
            return true;
        };
        let Some(found) = found else {
            let fix = format!("install it: {}/installations/new", app.html_url);
            report.add("installation", Status::Fail, what, format!("not in {owner}"), &fix);
            return false;
        };
        if found.suspended {
            let fix = format!("unsuspend it: {}", found.html_url);
            report.add("installation", Status::Fail, what, "it is suspended", &fix);
            return false;
        }
        report.ok("installation", what, found.account.clone());
        self.permissions(app, &found, report);
        if !wants.is_empty() {
            self.wanted(app, &found, wants, report);
        }
        if found.selected {
            let fix = format!("all repositories: {}", found.html_url);
            let found = "selected repositories only: jobs of the others get no runner";
            report.add("repositories", Status::Warn, "jobs of all repositories get runners", found, &fix);
        } else {
            report.ok("repositories", "jobs of all repositories get runners", "");
        }
        true
    }

    fn permissions(&self, app: &SeenApp, installation: &SeenInstallation, report: &mut Findings) {
        let what = "the App has the permissions that it needs";
        let missing = lacking(&self.scope, &installation.permissions);
        if missing.is_empty() {
            return report.ok("permissions", what, "");
        }
        let fix = match lacking(&self.scope, &app.permissions).is_empty() {
            true => format!("the App asks for it: accept that at {}", installation.html_url),
            false => format!("{}: grant it there, then accept it at {}", app.html_url, installation.html_url),
        };
        report.add("permissions", Status::Fail, what, format!("missing: {}", missing.join(", ")), &fix);
    }

    /// What only running jobs again and telling their authors take: nothing else is the worse without.
    fn wanted(&self, app: &SeenApp, found: &SeenInstallation, wants: &Permissions, report: &mut Findings) {
        let what = "interrupted jobs can run again, and authors be told";
        let missing = |granted: &Permissions| -> Vec<String> {
            let lacks = |(name, access): &(&String, &String)| granted.get(*name) != Some(*access);
            wants.iter().filter(lacks).map(|(name, access)| format!("{name}: {access}")).collect()
        };
        let lacks = missing(&found.permissions);
        if lacks.is_empty() {
            return report.ok("wanted", what, "");
        }
        let fix = match missing(&app.permissions).is_empty() {
            true => format!("the App asks for it: accept that at {}", found.html_url),
            false => format!(
                "{}: grant it there, then accept it at {}; or RerunInterrupted=0, CheckRuns=false",
                app.html_url, found.html_url
            ),
        };
        report.add("wanted", Status::Warn, what, format!("missing: {}", lacks.join(", ")), &fix);
    }

    /// What the webhook answered to GitHub's last hundred deliveries.
    async fn sent(&self, github: &G, report: &mut Findings) {
        let what = "GitHub's deliveries are answered well";
        let Some(sent) = report.seen("deliveries", what, github.sent().await) else { return };
        let is_bad = |status: u16| !(200..400).contains(&status);
        let failed = sent.iter().filter(|sent| is_bad(sent.status)).count();
        let Some(newest) = sent.first() else {
            return report.add(
                "deliveries",
                Status::Warn,
                what,
                "there was none in three days",
                "let a job run",
            );
        };
        let jobs = sent.iter().find(|sent| sent.event == "workflow_job");
        let newest_job = jobs.map_or("no workflow_job among them".to_owned(), |job| {
            format!("the newest workflow_job {} min ago", (self.clock.now() - job.at).whole_minutes())
        });
        let found = format!("{failed} of the last {} failed, {newest_job}", sent.len());
        if !is_bad(newest.status) {
            let status = if failed == 0 { Status::Ok } else { Status::Warn };
            return report.add(
                "deliveries",
                status,
                what,
                found,
                if failed == 0 { "" } else { "it is over by now" },
            );
        }
        let fix = match newest.status {
            0 => "GitHub gets no answer: has it a way to the URL? (GitHub Enterprise Server)",
            401 => "the secret at GitHub is another one: make setup sets it anew",
            400 | 415 => "content type application/json: make setup sets it",
            404 => "the URL at GitHub is another stack's: make setup sets it anew",
            _ => "the webhook's log says why",
        };
        let found = format!("{}: {found}", newest.status);
        report.add("deliveries", Status::Fail, what, found, fix);
    }

    async fn groups(&self, github: &G, target: &Target, report: &mut Findings) {
        let what = "the runner group is as open as the settings say";
        let classes = self.document.classes(self.clock.now()).await;
        // Without a good document the stack's own group is looked at.
        let classes = report.seen("group", what, classes).flatten();
        for looked in group::look(github, classes.as_deref(), target).await {
            let gaps = looked.gaps(&self.policy, &target.owner);
            match report.seen("group", what, gaps.map_err(Clone::clone)) {
                Some(Some(gaps)) if gaps.is_empty() => report.ok("group", what, looked.to_string()),
                Some(Some(gaps)) => {
                    for gap in gaps {
                        report.add("group", Status::Warn, what, gap.found, &gap.fix);
                    }
                }
                Some(None) => {
                    report.add(
                        "group",
                        Status::Fail,
                        what,
                        "there is no such group",
                        &looked.where_it_is_set(),
                    );
                }
                None => {}
            }
        }
    }

    /// Runners of ours that GitHub knows and ECS does not, and how old those are that are up.
    async fn registrations(&self, github: &G, target: &Target, report: &mut Findings) {
        let what = "each registration has its task";
        let Some(registered) =
            report.seen("registrations", what, all(github, target, &self.policy.names).await)
        else {
            return;
        };
        let Some(tasks) = report.seen("registrations", what, self.ecs.live_tasks().await) else { return };
        let has_task = |runner: &&Registration| {
            tasks.iter().any(|task| TaskTags(&task.tags).runner_id() == Some(runner.id))
        };
        let without = registered.iter().filter(|it| !it.busy && !has_task(it)).count();
        let found = format!("{without} of {} have none", registered.len());
        let status = if without == 0 { Status::Ok } else { Status::Warn };
        let fix = if without == 0 {
            ""
        } else {
            "nothing: the sweep sees to them within minutes, and its log says how"
        };
        report.add("registrations", status, what, found, fix);
        let Some(oldest) = registered.iter().filter_map(|it| it.version).min() else { return };
        let what = "runners are of GitHub's newest release";
        let Some(newest) = report.seen("release", what, github.newest_release(target).await) else { return };
        let behind = newest.map_or(0, |newest| oldest.behind(newest));
        if behind == 0 {
            return report.ok("release", what, oldest.to_string());
        }
        let fix = "start them from an image with the newest one (RunnerImage): GitHub gives an older one no job after 30 days";
        report.add("release", Status::Warn, what, format!("{oldest} is {behind} behind"), fix);
    }
}

async fn secret(github: &impl Inspect, report: &mut Findings) -> Option<Vec<Held>> {
    let held = github.held().await;
    let what = ["the secret can be read", "the secret holds credentials"];
    match held {
        Err(NotHeld::Unreadable(error)) => {
            let fix = "is it there, in this Region, not pending deletion, its key open to the role? then make deploy";
            report.add("secret", Status::Fail, what[0], error.message, fix);
            None
        }
        Err(NotHeld::Unusable(error)) => {
            report.ok("secret", what[0], "");
            report.add(
                "credentials",
                Status::Fail,
                what[1],
                error.message,
                "make setup, or write the secret anew",
            );
            None
        }
        Ok(held) => {
            report.ok("secret", what[0], "");
            if held.iter().all(|it| *it == Held::App) {
                let apps = if held.len() == 1 { "a GitHub App's" } else { "several GitHub Apps'" };
                report.ok("credentials", what[1], apps);
            } else {
                let found = "a token: failed deliveries are lost, and it may expire";
                report.add(
                    "credentials",
                    Status::Warn,
                    what[1],
                    found,
                    "make setup with NEW_APP=1 makes an App",
                );
            }
            Some(held)
        }
    }
}

async fn hook(github: &impl Inspect, question: &Question, report: &mut Findings) {
    let what = "the App's webhook leads to the stack";
    let Some(hook) = report.seen("hook", what, github.hook().await) else { return };
    let fix = "make setup sets it";
    let trim = |url: &str| url.trim_end_matches('/').to_owned();
    if question.webhook_url.as_deref().is_some_and(|ours| trim(ours) != trim(&hook.url)) {
        let found = if hook.url.is_empty() { "it leads nowhere" } else { &hook.url };
        report.add("hook", Status::Fail, what, found, fix);
    } else if hook.content_type != "json" {
        report.add("hook", Status::Fail, what, format!("its content type is {}", hook.content_type), fix);
    } else if !hook.verifies_tls {
        report.add("hook", Status::Warn, what, "GitHub does not check the certificate", fix);
    } else {
        report.ok("hook", what, hook.url);
    }
}

async fn hour(github: &impl Inspect, of: usize, target: &Target, report: &mut Findings) {
    let what = "GitHub's allowance is enough";
    let Some(hour) = report.seen("allowance", what, github.hour(of, target).await) else { return };
    let found = format!("{} of {} requests are left of this hour", hour.remaining, hour.limit);
    if hour.remaining == 0 {
        report.add(
            "allowance",
            Status::Fail,
            what,
            found,
            "it passes by itself; fewer programs with this App, or GitHub Support",
        );
    } else if hour.remaining < hour.limit / LITTLE {
        report.add("allowance", Status::Warn, what, found, "it passes by itself");
    } else {
        report.ok("allowance", what, found);
    }
}

/// Registrations of ours.
async fn all(
    github: &impl Github,
    target: &Target,
    names: &RunnerNames,
) -> Result<Vec<Registration>, CallError> {
    let mut found = Vec::new();
    for page in 1..=PAGES {
        let (runners, more) = github.runners(target, page).await?;
        found.extend(runners.into_iter().filter(|runner| names.read(&runner.name).is_some()));
        if !more {
            break;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_direct_question_is_one() {
        let question = Question { webhook_url: Some("https://x".to_owned()), ..Question::default() };
        let table = [
            (r#"{"doctor": {}}"#, Some(Question::default())),
            (r#"{"doctor": {"webhook_url": "https://x"}}"#, Some(question)),
            (r#"{"Records": [{"body": "{\"doctor\": {}}"}]}"#, None),
            (r#"{"doctor": {}, "Records": []}"#, None),
            (r#"{"detail-type": "Scheduled Event"}"#, None),
            (r#"{"doctor": true}"#, None),
            ("[]", None),
        ];
        for (event, want) in table {
            assert_eq!(asked(event), want, "{event}");
        }
    }

    #[test]
    fn what_is_lacking_is_told_by_name() {
        let granted = |text: &str| -> Permissions {
            text.split_whitespace()
                .filter_map(|pair| pair.split_once('='))
                .map(|(name, access)| (name.to_owned(), access.to_owned()))
                .collect()
        };
        let table = [
            (Scope::Org, "organization_self_hosted_runners=write actions=read", ""),
            (Scope::Org, "organization_self_hosted_runners=write actions=write", ""),
            (
                Scope::Org,
                "organization_self_hosted_runners=read actions=read",
                "organization_self_hosted_runners: write",
            ),
            (Scope::Org, "organization_self_hosted_runners=write", "actions: read"),
            (Scope::Repo, "organization_self_hosted_runners=write actions=read", "administration: write"),
        ];
        for (scope, has, want) in table {
            assert_eq!(lacking(&scope, &granted(has)).join(", "), want, "{has}");
        }
    }
}
