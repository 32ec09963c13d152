//! Each fault is planted: exactly its check fails, says what to do, and passes when that is done.

use gha_fargate_runners::flows::doctor::{Question, asked};
use serde_json::{Value, json};
use time::Duration;

use crate::fleet::Fleet;
use crate::http::{APP_ID, APP_KEY, APP_SECRET, INSTALLATION, Op, PAT_SECRET, WEBHOOK_URL, World, own_app};
use crate::model::{bus::Secrets, github::Scope, manifest::Installed};

fn question() -> Question {
    Question { webhook_url: Some(WEBHOOK_URL.to_owned()), ..Question::default() }
}

async fn examine(world: &World, question: &Question) -> Vec<Value> {
    examine_with(world, question, &[]).await
}

async fn examine_with(world: &World, question: &Question, changes: &[(&str, &str)]) -> Vec<Value> {
    let fleet = Fleet::with(world, changes).await;
    fleet.reconciler.examine(question).await["checks"].as_array().cloned().expect("checks")
}

/// `id: status` of those that are not ok.
fn wrong(checks: &[Value]) -> Vec<String> {
    let is_wrong = |check: &&Value| check["status"] != "ok";
    let line = |check: &Value| format!("{}: {}", text(check, "id"), text(check, "status"));
    checks.iter().filter(is_wrong).map(line).collect()
}

fn text(check: &Value, field: &str) -> String {
    check[field].as_str().unwrap_or_default().to_owned()
}

fn sent(world: &World, event: &'static str, status: u16) {
    let now = world.now();
    world.app().deliveries.sent(
        "0b989ba4-242f-11e5-81e1-c7b6966d2516",
        event,
        Some("queued"),
        String::new(),
        status,
        now,
    );
}

/// A world in which a job has run.
fn healthy() -> World {
    let world = World::start();
    sent(&world, "workflow_job", 202);
    world
}

fn installed(world: &World, change: impl FnOnce(&mut Installed)) {
    let mut app = world.app();
    change(app.installed.entry(INSTALLATION).or_default());
}

fn put(world: &World, secret: &Value) {
    world.secrets().set(APP_SECRET, &secret.to_string());
}

#[tokio::test]
async fn nothing_is_wrong_where_nothing_is() {
    let world = healthy();
    let checks = examine(&world, &question()).await;
    assert_eq!(wrong(&checks), [""; 0]);
    let ids: Vec<String> = checks.iter().map(|check| text(check, "id")).collect();
    assert_eq!(
        ids.join(" "),
        "secret credentials clock app events hook deliveries installation permissions repositories allowance \
         group registrations"
    );
    let changing = [Op::Mint, Op::DeleteRunner, Op::SetHook, Op::Redeliver, Op::RunTask, Op::StopTask];
    assert!(world.calls().0.iter().all(|call| !changing.contains(&call.op)), "nothing is changed");
    world.finish();
}

/// What can be done without is a warning.
#[tokio::test]
async fn what_only_authors_miss_is_no_failure() {
    let world = healthy();
    let wants = [("actions", "write"), ("checks", "write")]
        .map(|(name, access)| (name.to_owned(), access.to_owned()));
    let question = Question { wants: wants.clone().into(), ..question() };
    assert_eq!(wrong(&examine(&world, &question).await), ["wanted: warn"]);
    world.app().profile.permissions.extend(wants);
    assert_eq!(wrong(&examine(&world, &question).await), [""; 0]);
    world.finish();
}

type Plant = fn(&World);

/// The fault, its check, what the fix says, and the fix.
const FAULTS: [(&str, Plant, &str, &str, Plant); 24] = [
    ("no App yet", |w| put(w, &json!({})), "credentials: fail", "make setup", whole),
    ("no key", |w| put(w, &json!({"app_id": 1})), "credentials: fail", "make setup", whole),
    (
        "a public key",
        |w| put(w, &json!({"app_id": 1, "private_key": "-----BEGIN PUBLIC KEY-----"})),
        "credentials: fail",
        "make setup",
        whole,
    ),
    ("a token", |w| w.secrets().set(APP_SECRET, crate::http::PAT), "credentials: warn", "NEW_APP=1", whole),
    (
        "another App",
        |w| put(w, &json!({"app_id": APP_ID + 1, "private_key": APP_KEY})),
        "app: fail",
        "APP_ID=",
        whole,
    ),
    (
        "fast",
        |w| w.advance(Duration::minutes(5)),
        "clock: fail",
        "AWS Support",
        |w| w.advance(Duration::minutes(-5)),
    ),
    ("slow", slow, "clock: fail", "AWS Support", |w| w.advance(Duration::minutes(5))),
    (
        "no event",
        |w| w.app().profile.events.clear(),
        "events: fail",
        "subscribe to Workflow job",
        |w| {
            w.app().profile.events.push("workflow_job".to_owned());
        },
    ),
    (
        "not installed",
        |w| w.app().installations.clear(),
        "installation: fail",
        "/installations/new",
        |w| {
            w.app().install("octo-org", INSTALLATION);
        },
    ),
    (
        "suspended",
        |w| installed(w, |it| it.suspended = true),
        "installation: fail",
        "unsuspend it: http",
        |w| {
            installed(w, |it| it.suspended = false);
        },
    ),
    (
        "not accepted",
        |w| installed(w, |it| it.permissions = Some([].into())),
        "permissions: fail",
        "accept that at",
        |w| {
            installed(w, |it| it.permissions = None);
        },
    ),
    (
        "not asked for",
        |w| drop(w.app().profile.permissions.remove("actions")),
        "permissions: fail",
        "grant it there, then accept",
        |w| drop(w.app().profile.permissions.insert("actions".to_owned(), "read".to_owned())),
    ),
    (
        "selected",
        |w| installed(w, |it| it.selected = true),
        "repositories: warn",
        "all repositories: http",
        |w| {
            installed(w, |it| it.selected = false);
        },
    ),
    (
        "elsewhere",
        |w| hook(w, "https://example.com/"),
        "hook: fail",
        "make setup sets it",
        |w| hook(w, WEBHOOK_URL),
    ),
    (
        "form",
        |w| w.app().profile.hook.content_type = "form".to_owned(),
        "hook: fail",
        "make setup sets it",
        |w| {
            w.app().profile.hook.content_type = "json".to_owned();
        },
    ),
    (
        "any certificate",
        |w| w.app().profile.hook.insecure_ssl = "1".to_owned(),
        "hook: warn",
        "make setup",
        |w| {
            w.app().profile.hook.insecure_ssl = "0".to_owned();
        },
    ),
    (
        "another secret",
        |w| sent(w, "workflow_job", 401),
        "deliveries: fail",
        "the secret at GitHub",
        forgotten,
    ),
    ("no way", |w| sent(w, "workflow_job", 0), "deliveries: fail", "has it a way to the URL?", forgotten),
    (
        "no group",
        |w| w.github().groups.clear(),
        "group: fail",
        "RunnerGroupId",
        |w| {
            w.github().groups.insert(1);
        },
    ),
    (
        "workflows",
        |w| w.app().groups_of_workflows.extend([1]),
        "group: warn",
        "all workflows",
        |w| {
            w.app().groups_of_workflows.clear();
        },
    ),
    (
        "public",
        |w| w.app().groups_of_public.extend([1]),
        "group: warn",
        "/organizations/octo-org/settings/actions/runner-groups/1: do not allow public",
        |w| {
            w.app().groups_of_public.clear();
        },
    ),
    (
        "others",
        |w| drop(w.app().groups_of_selected.insert(1, vec!["other/x".to_owned(), "octo-org/y".to_owned()])),
        "group: warn",
        "/runner-groups/1: take them out",
        |w| w.app().groups_of_selected.clear(),
    ),
    (
        "used up",
        |w| w.app().remaining = Some(0),
        "allowance: fail",
        "passes by itself",
        |w| w.app().remaining = None,
    ),
    ("left behind", left_behind, "registrations: warn", "the sweep sees to them", |w| {
        w.advance(Duration::ZERO);
        let ids: Vec<u64> = w.github().runners().map(|runner| runner.id).collect();
        let now = w.now();
        for id in ids {
            w.github().delete(&Scope::organization("octo-org"), id, now);
        }
    }),
];

fn whole(world: &World) {
    put(world, &own_app().credentials.unwrap_or_default());
}

/// What was sent is of that time too.
fn slow(world: &World) {
    world.advance(Duration::minutes(-5));
    forgotten(world);
}

fn hook(world: &World, url: &str) {
    world.app().profile.hook.url = url.to_owned();
}

/// The failed delivery is three days old: GitHub keeps no older one.
fn forgotten(world: &World) {
    world.app().deliveries = Default::default();
    sent(world, "workflow_job", 202);
}

fn left_behind(world: &World) {
    let now = world.now();
    let minted = world.github().mint(&Scope::organization("octo-org"), "fargate-7-1", 1, &["fargate"], now);
    minted.expect("a registration");
}

#[tokio::test]
async fn each_fault_fails_its_check_and_no_other() {
    for (fault, plant, check, fix, mend) in FAULTS {
        let world = healthy();
        plant(&world);
        let checks = examine(&world, &question()).await;
        assert_eq!(wrong(&checks), [check], "{fault}: {checks:#?}");
        let found = checks.iter().find(|check| check["status"] != "ok").expect("the check");
        assert!(text(found, "fix").contains(fix), "{fault}: {found}");
        assert!(!found.to_string().contains("ghp_"), "{fault}: {found}");
        mend(&world);
        assert_eq!(wrong(&examine(&world, &question()).await), [""; 0], "{fault}, mended");
        world.take_violations();
        world.finish();
    }
}

#[tokio::test]
async fn the_group_of_each_class_is_looked_at() {
    let classes =
        r#"{"version": 1, "classes": [{"name": "big", "labels": ["big"], "runner_group": "fargate 7"}]}"#;
    let world = healthy();
    let look = async |document| {
        let checks = examine_with(&world, &question(), &[("RUNNER_CLASSES", document)]).await;
        let fixes: Vec<String> = checks.iter().map(|check| text(check, "fix")).collect();
        (wrong(&checks), fixes.concat())
    };
    let (found, fix) = look(classes).await;
    assert_eq!(found, ["group: fail"]);
    assert!(fix.starts_with("runner_group of the class big"), "{fix}");
    world.github().groups.insert(7);
    assert_eq!(look(classes).await.0, [""; 0]);
    world.app().groups_of_public.extend([7]);
    let (found, fix) = look(classes).await;
    assert_eq!(found, ["group: warn"]);
    assert!(fix.contains("/runner-groups/7: do not allow public"), "{fix}");
    let urgent = r#"{"version": 2, "classes": [{"name": "big", "labels": ["big"],
        "high_priority_repositories": ["octo-org/release"], "high_priority_runner_group": 9}]}"#;
    let (found, fix) = look(urgent).await;
    assert_eq!(found, ["group: fail"]);
    assert!(fix.starts_with("high_priority_runner_group of the class big"), "{fix}");
    world.github().groups.insert(9);
    world.app().groups_of_selected.insert(9, vec!["octo-org/app".to_owned()]);
    let (found, fix) = look(urgent).await;
    assert_eq!(found, ["group: warn"; 2], "it is open to another, and not to the one");
    assert!(fix.contains("take them out") && fix.contains("select them"), "{fix}");
    world.app().groups_of_selected.insert(9, vec!["octo-org/release".to_owned()]);
    assert_eq!(look(urgent).await.0, [""; 0]);
    assert_eq!(
        look("{").await.0,
        ["group: unknown"],
        "no good document, and the stack's own group is in order"
    );
    world.finish();
}

#[tokio::test]
async fn a_field_that_is_wrong_is_named() {
    let table = [
        (json!({}), "no App yet: run make setup"),
        (json!({"app_id": 1, "private_key": "-----BEGIN PUBLIC KEY-----"}), "private_key is a public key"),
        (json!({"app_id": 1, "private_key": "app.private-key.pem"}), "private_key is a file's name"),
        (
            json!({"app_id": 1, "private_key": APP_KEY, "installation_id": "x"}),
            "installation_id is no number",
        ),
    ];
    for (secret, told) in table {
        let world = healthy();
        put(&world, &secret);
        let checks = examine(&world, &question()).await;
        let found = checks.iter().find(|check| check["id"] == "credentials").expect("the check");
        assert!(text(found, "found").contains(told), "{found}");
        world.finish();
    }
}

#[tokio::test]
async fn a_secret_that_may_not_be_read() {
    let world = healthy();
    let _denied = world.fail(Op::GetSecretValue).always().before().aws("AccessDeniedException");
    let checks = examine(&world, &question()).await;
    assert_eq!(wrong(&checks), ["secret: fail"]);
    assert!(text(&checks[0], "found").contains("secretsmanager:GetSecretValue"), "{}", checks[0]);
    world.heal();
    world.finish();
}

#[tokio::test]
async fn what_may_not_be_looked_at_is_unknown() {
    for (op, check) in [
        (Op::GetGroup, "group"),
        (Op::GetAllowance, "allowance"),
        (Op::GetHook, "hook"),
        (Op::ListTasks, "registrations"),
    ] {
        let world = healthy();
        let fault = world.fail(op).always().before();
        let _denied = match op {
            Op::ListTasks => fault.aws("AccessDeniedException"),
            _ => fault.permission_missing("organization_self_hosted_runners=read"),
        };
        let checks = examine(&world, &question()).await;
        assert_eq!(wrong(&checks), [format!("{check}: unknown")]);
        world.heal();
        world.finish();
    }
}

#[tokio::test]
async fn other_modes_are_looked_at_as_far_as_they_go() {
    let world = healthy();
    let fleet = Fleet::with(&world, &[("GITHUB_SECRET_ARN", "")]).await;
    let answer = fleet.reconciler.examine(&question()).await;
    assert_eq!(answer["checks"][0]["id"], "mode");
    let fleet = Fleet::with(&world, &[("GITHUB_SECRET_ARN", Secrets::arn(PAT_SECRET).as_str())]).await;
    let answer = fleet.reconciler.examine(&question()).await;
    assert_eq!(wrong(answer["checks"].as_array().expect("checks")), ["credentials: warn"]);
    world.finish();
}

#[tokio::test]
async fn a_question_on_the_queue_is_none() {
    let world = healthy();
    let fleet = Fleet::new(&world).await;
    let batch = world.deliver_to(crate::http::LIFECYCLE_QUEUE, &[json!({"doctor": {}}).to_string()]);
    assert_eq!(asked(&batch.to_string()), None);
    fleet.reconcile(&batch).await;
    assert_eq!(world.calls().count(Op::GetApp), 0);
    world.finish();
}
