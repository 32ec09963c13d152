//! What is wrong between this function and GitHub, and the fix: `{"doctor": {}}`, by direct invocation only. Every
//! check needs what reconcile's own role and credentials may do; nothing is changed. What cannot be looked at is
//! unknown, and no failure.

mod app;
mod findings;
mod runners;

use serde::Deserialize;
use serde_json::{Value, json};

use self::findings::{Check, Findings};
use crate::{
    flows::reconcile::Reconciler,
    ports::{FindTasks, Github, Held, Inspect, NotHeld, Permissions, Scope, Target, Timer},
};

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

/// One of the secret's credentials.
struct Credential<'a, G> {
    github: &'a G,
    /// Its place in the secret.
    of: usize,
    held: Held,
    /// See [`Question::wants`].
    wants: &'a Permissions,
}

impl<G, E, S, Q, C> Reconciler<G, E, S, Q, C>
where
    G: Github + Inspect,
    E: FindTasks,
    C: Timer,
{
    /// All checks: `{"checks": [{"id", "status", "what", "found", "fix"}]}`.
    pub async fn examine(&self, question: &Question) -> Value {
        let mut findings = Findings::default();
        match &self.github {
            None => findings.ok(Check::MODE, "no GITHUB_SECRET_ARN: nothing is asked of GitHub here"),
            Some(github) => self.look(github, question, &mut findings).await,
        }
        json!({ "checks": findings.into_json() })
    }

    async fn look(&self, github: &G, question: &Question, findings: &mut Findings) {
        let Some(held) = secret(github, findings).await else { return };
        let owner = self.policy.organization.clone().filter(|_| self.scope == Scope::Org);
        let target = owner.map(|owner| Target { owner, ..Target::default() });
        let first = Credential { github, of: 0, held: held[0], wants: &question.wants };
        self.look_as_first(&first, target.as_ref(), question, findings).await;
        for (of, held) in held.into_iter().enumerate().skip(1) {
            let mut its = Findings::default();
            let one = Credential { github, of, held, wants: &Permissions::new() };
            self.look_as(&one, target.as_ref(), &mut its).await;
            // One clock, and one webhook, are enough.
            findings.extend(its, of + 1, &[Check::CLOCK, Check::EVENTS]);
        }
    }

    /// One of several: whether it can register runners, and how many more.
    async fn look_as(&self, one: &Credential<'_, G>, target: Option<&Target>, findings: &mut Findings) {
        if one.held == Held::App {
            let Some(app) = self.app(one, findings).await else { return };
            if let Some(target) = target
                && !self.installation(one, &app, &target.owner, findings).await
            {
                return;
            }
        }
        if let Some(target) = target {
            hour(one, target, findings).await;
        }
    }

    /// The first, whose webhook it is, and what is there once.
    async fn look_as_first(
        &self,
        first: &Credential<'_, G>,
        target: Option<&Target>,
        question: &Question,
        findings: &mut Findings,
    ) {
        let github = first.github;
        if first.held == Held::App {
            let Some(app) = self.app(first, findings).await else { return };
            app::hook(github, question, findings).await;
            self.sent(github, findings).await;
            if let Some(target) = target
                && !self.installation(first, &app, &target.owner, findings).await
            {
                return;
            }
        }
        if let Some(target) = target {
            hour(first, target, findings).await;
            self.groups(github, target, findings).await;
            self.registrations(github, target, findings).await;
        }
    }
}

async fn secret(github: &impl Inspect, findings: &mut Findings) -> Option<Vec<Held>> {
    let held = match github.held().await {
        Err(NotHeld::Unreadable(error)) => {
            let fix = "is it there, in this Region, not pending deletion, its key open to the role? then make deploy";
            findings.fail(Check::SECRET, error.message, fix);
            return None;
        }
        Err(NotHeld::Unusable(error)) => {
            findings.ok(Check::SECRET, "");
            findings.fail(Check::CREDENTIALS, error.message, "make setup, or write the secret anew");
            return None;
        }
        Ok(held) => held,
    };
    findings.ok(Check::SECRET, "");
    if held.iter().all(|it| *it == Held::App) {
        let apps = if held.len() == 1 { "a GitHub App's" } else { "several GitHub Apps'" };
        findings.ok(Check::CREDENTIALS, apps);
    } else {
        let found = "a token: failed deliveries are lost, and it may expire";
        findings.warn(Check::CREDENTIALS, found, "make setup with NEW_APP=1 makes an App");
    }
    Some(held)
}

async fn hour<G: Inspect>(one: &Credential<'_, G>, target: &Target, findings: &mut Findings) {
    let Some(hour) = findings.seen(Check::ALLOWANCE, one.github.hour(one.of, target).await) else { return };
    let found = format!("{} of {} requests are left of this hour", hour.remaining, hour.limit);
    if hour.remaining == 0 {
        let fix = "it passes by itself; fewer programs with this App, or GitHub Support";
        findings.fail(Check::ALLOWANCE, found, fix);
    } else if hour.remaining < hour.limit / LITTLE {
        findings.warn(Check::ALLOWANCE, found, "it passes by itself");
    } else {
        findings.ok(Check::ALLOWANCE, found);
    }
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
}
