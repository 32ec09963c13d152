//! The App: its credentials, its webhook, its installation and what it was granted.

use time::Duration;

use super::{
    Credential, Question,
    findings::{Check, Findings},
};
use crate::{
    flows::reconcile::Reconciler,
    ports::{AppAnswer, Inspect, Permissions, Scope, SeenApp, SeenInstallation, Timer, is_success},
};

/// A JWT's `iat` is a minute in the past: more than that, and GitHub takes it for one of the future.
const DRIFT: Duration = Duration::seconds(60);

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

impl<G: Inspect, E, S, Q, C: Timer> Reconciler<G, E, S, Q, C> {
    /// The App, if GitHub takes its credentials.
    pub(super) async fn app(&self, one: &Credential<'_, G>, findings: &mut Findings) -> Option<SeenApp> {
        let AppAnswer { app, server_time } = findings.seen(Check::APP, one.github.app(one.of).await)?;
        let drift = server_time.map_or(Duration::ZERO, |theirs| self.clock.now() - theirs);
        if drift.abs() > DRIFT {
            let way = if drift.is_positive() { "fast" } else { "slow" };
            let found = format!("it is {} s {way}", drift.abs().whole_seconds());
            let fix = "nothing that you can set: Lambda keeps the clock; ask AWS Support";
            findings.fail(Check::CLOCK, found, fix);
        } else {
            findings.ok(Check::CLOCK, "");
            if app.is_none() {
                let found =
                    "401: app_id and private_key are of different Apps, or the App or its key was deleted";
                findings.fail(Check::APP, found, "make setup with APP_ID=… KEY=file.pem, or with NEW_APP=1");
            }
        }
        let app = app?;
        findings.ok(Check::APP, app.html_url.clone());
        if app.events.iter().any(|event| event == "workflow_job") {
            findings.ok(Check::EVENTS, "");
        } else {
            let fix = format!("{}: Permissions & events, subscribe to Workflow job", app.html_url);
            findings.fail(Check::EVENTS, app.events.join(", "), fix);
        }
        Some(app)
    }

    /// Whether the App can be used in the organisation.
    pub(super) async fn installation(
        &self,
        one: &Credential<'_, G>,
        app: &SeenApp,
        owner: &str,
        findings: &mut Findings,
    ) -> bool {
        let Some(found) = findings.seen(Check::INSTALLATION, one.github.installation(one.of, owner).await)
        else {
            return true;
        };
        let Some(found) = found else {
            let fix = format!("install it: {}/installations/new", app.html_url);
            findings.fail(Check::INSTALLATION, format!("not in {owner}"), fix);
            return false;
        };
        if found.suspended {
            let fix = format!("unsuspend it: {}", found.html_url);
            findings.fail(Check::INSTALLATION, "it is suspended", fix);
            return false;
        }
        findings.ok(Check::INSTALLATION, found.account.clone());
        self.permissions(app, &found, findings);
        wanted(app, &found, one.wants, findings);
        if found.selected {
            let fix = format!("all repositories: {}", found.html_url);
            let found = "selected repositories only: jobs of the others get no runner";
            findings.warn(Check::REPOSITORIES, found, fix);
        } else {
            findings.ok(Check::REPOSITORIES, "");
        }
        true
    }

    fn permissions(&self, app: &SeenApp, installation: &SeenInstallation, findings: &mut Findings) {
        let missing = lacking(&self.scope, &installation.permissions);
        if missing.is_empty() {
            return findings.ok(Check::PERMISSIONS, "");
        }
        let fix = match lacking(&self.scope, &app.permissions).is_empty() {
            true => format!("the App asks for it: accept that at {}", installation.html_url),
            false => format!("{}: grant it there, then accept it at {}", app.html_url, installation.html_url),
        };
        findings.fail(Check::PERMISSIONS, format!("missing: {}", missing.join(", ")), fix);
    }

    /// What the webhook answered to GitHub's last hundred deliveries.
    pub(super) async fn sent(&self, github: &G, findings: &mut Findings) {
        let Some(sent) = findings.seen(Check::DELIVERIES, github.sent().await) else { return };
        let failed = sent.iter().filter(|sent| !is_success(sent.status)).count();
        let Some(newest) = sent.first() else {
            return findings.warn(Check::DELIVERIES, "there was none in three days", "let a job run");
        };
        let jobs = sent.iter().find(|sent| sent.event == "workflow_job");
        let newest_job = jobs.map_or("no workflow_job among them".to_owned(), |job| {
            format!("the newest workflow_job {} min ago", (self.clock.now() - job.at).whole_minutes())
        });
        let found = format!("{failed} of the last {} failed, {newest_job}", sent.len());
        if failed == 0 {
            return findings.ok(Check::DELIVERIES, found);
        }
        if is_success(newest.status) {
            return findings.warn(Check::DELIVERIES, found, "it is over by now");
        }
        let fix = match newest.status {
            0 => "GitHub gets no answer: has it a way to the URL? (GitHub Enterprise Server)",
            401 => "the secret at GitHub is another one: make setup sets it anew",
            400 | 415 => "content type application/json: make setup sets it",
            404 => "the URL at GitHub is another stack's: make setup sets it anew",
            _ => "the webhook's log says why",
        };
        findings.fail(Check::DELIVERIES, format!("{}: {found}", newest.status), fix);
    }
}

/// What only running jobs again and telling their authors take: nothing else is the worse without.
fn wanted(app: &SeenApp, found: &SeenInstallation, wants: &Permissions, findings: &mut Findings) {
    if wants.is_empty() {
        return;
    }
    let missing = |granted: &Permissions| -> Vec<String> {
        let lacks = |(name, access): &(&String, &String)| granted.get(*name) != Some(*access);
        wants.iter().filter(lacks).map(|(name, access)| format!("{name}: {access}")).collect()
    };
    let lacks = missing(&found.permissions);
    if lacks.is_empty() {
        return findings.ok(Check::WANTED, "");
    }
    let fix = match missing(&app.permissions).is_empty() {
        true => format!("the App asks for it: accept that at {}", found.html_url),
        false => format!(
            "{}: grant it there, then accept it at {}; or RerunInterrupted=0, CheckRuns=false",
            app.html_url, found.html_url
        ),
    };
    findings.warn(Check::WANTED, format!("missing: {}", lacks.join(", ")), fix);
}

pub(super) async fn hook(github: &impl Inspect, question: &Question, findings: &mut Findings) {
    let Some(hook) = findings.seen(Check::HOOK, github.hook().await) else { return };
    let fix = "make setup sets it";
    let trim = |url: &str| url.trim_end_matches('/').to_owned();
    if question.webhook_url.as_deref().is_some_and(|ours| trim(ours) != trim(&hook.url)) {
        let found = if hook.url.is_empty() { "it leads nowhere" } else { &hook.url };
        findings.fail(Check::HOOK, found, fix);
    } else if hook.content_type != "json" {
        findings.fail(Check::HOOK, format!("its content type is {}", hook.content_type), fix);
    } else if !hook.verifies_tls {
        findings.warn(Check::HOOK, "GitHub does not check the certificate", fix);
    } else {
        findings.ok(Check::HOOK, hook.url);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
