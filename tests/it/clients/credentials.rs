//! The GitHub client with its credentials in Secrets Manager, against a GitHub that checks signatures, scopes and
//! tokens: every form of a secret, every scope, GHES, and a secret that was rotated.

use crate::http::{
    APP_ID, APP_KEY, APP_KEY_PKCS8, APP_SECRET, INSTALLATION, OWNER, Op, PAT, PAT_SECRET, REPOSITORY, World,
    WorldClock,
};
use crate::model::bus::Secrets;
use gha_fargate_runners::{
    adapters::{github::GitHub, http::Http, secrets::Secret},
    config::DispatchConfig,
    error::Class,
    ids::{InstallationId, RepositoryId},
    ports::{Github, Minted, Target},
};
use serde_json::{Value, json};
use time::Duration;

type Client = GitHub<Secret, WorldClock>;

/// A client with the world's settings, and these changes to them.
fn client(world: &World, changes: &[(&str, &str)]) -> Client {
    let environment = world.environment();
    let get = |name: &str| {
        let change = changes.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        change.or_else(|| environment.get(name).cloned())
    };
    let settings = DispatchConfig::read(get).expect("settings").github.expect("dispatcher-minted");
    let http = Http::new();
    let secret = Secret::new(&crate::fleet::sdk_config(world, &http), settings.secret_arn);
    GitHub::with_clock(
        http,
        settings.api_url,
        settings.scope,
        settings.runner_group_id,
        secret,
        world.clock(),
    )
}

fn target(installation: Option<u64>) -> Target {
    Target {
        owner: OWNER.to_owned(),
        repository: Some(REPOSITORY.to_owned()),
        installation: installation.map(InstallationId),
        ..Target::default()
    }
}

/// Mints a configuration; the operations that it took.
async fn mint(world: &World, client: &Client, installation: Option<u64>) -> String {
    let name = format!("fargate-{}-1", 1 + world.github().runners().count());
    let minted = client.mint(&target(installation), &name, &["self-hosted".to_owned()], None).await;
    assert!(matches!(minted, Ok(Minted::Created(_))), "{minted:?}");
    world.take_calls().tally()
}

fn app(key: &str, id: Value) -> Value {
    json!({ "app_id": id, "private_key": key })
}

#[tokio::test]
async fn every_form_of_an_app_s_key_signs_for_it() {
    let escaped = APP_KEY.replace('\n', "\\n");
    let windows = APP_KEY.replace('\n', "\r\n");
    let text = APP_ID.to_string();
    let secrets = [
        ("PKCS#1", app(APP_KEY, json!(APP_ID))),
        ("PKCS#8", app(APP_KEY_PKCS8, json!(APP_ID))),
        ("escaped", app(&escaped, json!(text))),
        ("escaped, PKCS#8", app(&APP_KEY_PKCS8.replace('\n', "\\n"), json!(APP_ID))),
        ("line ends of Windows", app(&windows, json!(APP_ID))),
    ];
    for (form, secret) in secrets {
        let world = World::start();
        world.secrets().set(APP_SECRET, &secret.to_string());
        let client = client(&world, &[]);
        assert_eq!(
            mint(&world, &client, None).await,
            "1 GetSecretValue, 1 find installation, 1 access token, 1 generate-jitconfig",
            "{form}"
        );
        assert_eq!(mint(&world, &client, None).await, "1 generate-jitconfig", "{form}");
        world.finish();
    }
}

#[tokio::test]
async fn the_installation_is_the_secret_s_or_the_payload_s_or_looked_up() {
    let named = |id: Value| {
        let mut secret = app(APP_KEY, json!(APP_ID));
        secret["installation_id"] = id;
        secret.to_string()
    };
    let direct = "1 GetSecretValue, 1 access token, 1 generate-jitconfig";
    let looked_up = "1 GetSecretValue, 1 find installation, 1 access token, 1 generate-jitconfig";
    let bare = app(APP_KEY, json!(APP_ID)).to_string();
    let table = [
        (named(json!(INSTALLATION)), None, direct),
        (named(json!(INSTALLATION.to_string())), None, direct),
        (bare.clone(), Some(INSTALLATION), direct),
        (bare, None, looked_up),
    ];
    for (secret, payload, want) in table {
        let world = World::start();
        world.secrets().set(APP_SECRET, &secret);
        assert_eq!(mint(&world, &client(&world, &[]), payload).await, want);
        world.finish();
    }
}

#[tokio::test]
async fn each_scope_registers_its_runners_there_and_on_ghes_too() {
    let pat = Secrets::arn(PAT_SECRET);
    for root in ["", "/api/v3/"] {
        for (scope, secret, registered) in [
            ("org", Secrets::arn(APP_SECRET), crate::model::github::Scope::organization(OWNER)),
            ("repo", Secrets::arn(APP_SECRET), crate::model::github::Scope::repository(OWNER, REPOSITORY)),
            ("enterprise/octo-corp", pat.clone(), crate::model::github::Scope::enterprise("octo-corp")),
        ] {
            let world = World::start();
            let url = format!("{}{root}", world.url());
            let changes =
                [("RUNNER_SCOPE", scope), ("GITHUB_SECRET_ARN", &secret), ("GITHUB_API_URL", url.as_str())];
            mint(&world, &client(&world, &changes), None).await;
            let scopes: Vec<_> = world.github().runners().map(|runner| (*runner.scope).clone()).collect();
            assert_eq!(scopes, [registered], "{scope} below {root:?}");
            world.finish();
        }
    }
}

#[tokio::test]
async fn what_a_scope_lacks_is_called_by_its_name() {
    for (scope, fix) in [
        ("org", "Self-hosted runners: read and write"),
        ("repo", "Administration: read and write"),
        ("enterprise/octo-corp", "manage_runners:enterprise"),
    ] {
        let world = World::start();
        let client = client(
            &world,
            &[("RUNNER_SCOPE", scope), ("GITHUB_SECRET_ARN", Secrets::arn(PAT_SECRET).as_str())],
        );
        let _refused = world.fail(Op::Mint).always().before().status(403);
        let error = client.mint(&target(None), "fargate-1-1", &[], None).await.expect_err("a refusal");
        assert_eq!(error.class, Class::NeedsOperator, "{scope}");
        assert!(error.message.contains(fix), "{scope}: {error}");
        assert!(!format!("{error:?} {client:?}").contains(PAT), "{scope}");
        world.heal();
        world.finish();
    }
}

#[tokio::test]
async fn a_secret_that_was_rotated_needs_no_restart() {
    let world = World::start();
    let client = client(&world, &[("GITHUB_SECRET_ARN", Secrets::arn(PAT_SECRET).as_str())]);
    assert_eq!(mint(&world, &client, None).await, "1 GetSecretValue, 1 generate-jitconfig");
    let new = PAT.replace('0', "1");
    {
        let mut app = world.app();
        app.pats.clear();
        app.pats.insert(new.clone());
    }
    world.secrets().set(PAT_SECRET, &new);
    world.advance(Duration::minutes(1));
    let want = "2 generate-jitconfig, 1 GetSecretValue";
    assert_eq!(mint(&world, &client, None).await, want, "refused, read again, made");
    assert_eq!(mint(&world, &client, None).await, "1 generate-jitconfig");
    world.finish();
}

#[tokio::test]
async fn an_app_s_key_that_was_replaced_needs_no_restart() {
    let world = World::start();
    world.secrets().set(APP_SECRET, &app(APP_KEY, json!(APP_ID + 1)).to_string());
    let client = client(&world, &[]);
    let error = client.mint(&target(None), "fargate-1-1", &[], None).await.expect_err("another App's id");
    assert_eq!(error.class, Class::NeedsOperator);
    assert!(error.message.contains("app_id and private_key of different Apps"), "{error}");
    let key = APP_KEY.lines().nth(1).expect("a line of the key");
    assert!(!format!("{error} {error:?} {client:?}").contains(key));
    // The world takes a JWT of nobody's for a mistake of the program's.
    assert_eq!(world.take_violations().len(), 1);
    world.secrets().set(APP_SECRET, &app(APP_KEY, json!(APP_ID)).to_string());
    world.advance(Duration::minutes(1));
    world.take_calls();
    mint(&world, &client, None).await;
    assert_eq!(world.take_violations().len(), 1, "the old one, once more");
    world.finish();
}

#[tokio::test]
async fn a_secret_ends_within_minutes_of_its_removal_also_while_it_is_taken() {
    let world = World::start();
    let client = client(&world, &[("GITHUB_SECRET_ARN", Secrets::arn(PAT_SECRET).as_str())]);
    assert_eq!(mint(&world, &client, None).await, "1 GetSecretValue, 1 generate-jitconfig");
    let new = PAT.replace('0', "1");
    world.app().pats.insert(new.clone());
    world.secrets().set(PAT_SECRET, &new);
    world.advance(Duration::minutes(4));
    assert_eq!(mint(&world, &client, None).await, "1 generate-jitconfig", "GitHub takes the old one still");
    world.advance(Duration::minutes(2));
    assert_eq!(mint(&world, &client, None).await, "1 GetSecretValue, 1 generate-jitconfig");
    // Had it been made with the old one, it would be refused.
    world.app().pats.remove(PAT);
    assert_eq!(mint(&world, &client, None).await, "1 generate-jitconfig");
    world.finish();
}

#[tokio::test]
async fn tokens_are_got_anew_only_when_the_secret_has_changed() {
    let world = World::start();
    let client = client(&world, &[]);
    mint(&world, &client, Some(INSTALLATION)).await;
    world.advance(Duration::minutes(6));
    assert_eq!(mint(&world, &client, Some(INSTALLATION)).await, "1 GetSecretValue, 1 generate-jitconfig");
    assert_eq!(mint(&world, &client, Some(INSTALLATION)).await, "1 generate-jitconfig");
    world.secrets().set(APP_SECRET, &app(APP_KEY_PKCS8, json!(APP_ID)).to_string());
    world.advance(Duration::minutes(6));
    let want = "1 GetSecretValue, 1 access token, 1 generate-jitconfig";
    assert_eq!(mint(&world, &client, Some(INSTALLATION)).await, want);
    world.finish();
}

#[tokio::test]
async fn jobs_do_not_wait_for_a_secret_that_is_read_again() {
    let world = World::start();
    let client = client(&world, &[]);
    mint(&world, &client, Some(INSTALLATION)).await;
    world.advance(Duration::minutes(6));
    world.fail(Op::GetSecretValue).always().before().status(500);
    assert_eq!(mint(&world, &client, Some(INSTALLATION)).await, "1 GetSecretValue, 1 generate-jitconfig");
    assert_eq!(mint(&world, &client, Some(INSTALLATION)).await, "1 generate-jitconfig", "not each time");
    world.advance(Duration::minutes(1));
    assert_eq!(mint(&world, &client, Some(INSTALLATION)).await, "1 GetSecretValue, 1 generate-jitconfig");
    world.heal();
    // Whoever may not read it any more has it no more.
    world.fail(Op::GetSecretValue).always().before().aws("AccessDeniedException");
    world.advance(Duration::minutes(1));
    let name = "fargate-99-1";
    let error = client.mint(&target(Some(INSTALLATION)), name, &[], None).await.expect_err("no secret");
    assert_eq!(error.class, Class::NeedsOperator);
    world.heal();
    world.finish();
}

#[tokio::test]
async fn the_installation_of_a_repository_is_found_by_the_repository_s_id() {
    for (id, want) in [
        (Some(1), "find installation repositories → installation 2"),
        // A release before did not know it: GitHub is asked for the repository that has the name now.
        (None, "find installation octo-org → installation 23154469"),
        // GitHub has never shown a repository by its id: it is asked by the name.
        (Some(9), "find installation repositories → 404, find installation octo-org → installation 23154469"),
    ] {
        let world = World::start();
        world.app().install("octo-corp", 2);
        world.queue_job(&["self-hosted"]);
        world.github().rename((OWNER, REPOSITORY), ("octo-corp", "transferred"));
        world.queue_job(&["self-hosted"]);
        let client = client(&world, &[("RUNNER_SCOPE", "repo")]);
        let target = Target { repository_id: id.map(RepositoryId), ..target(None) };
        let minted = client.mint(&target, "fargate-1-1", &["self-hosted".to_owned()], None).await;
        assert_eq!(minted.is_ok(), id != Some(1), "registered by the name: {minted:?}");
        let calls = world.calls();
        let found: Vec<String> = calls.of(Op::FindInstallation).map(ToString::to_string).collect();
        assert_eq!(found.join(", "), want);
    }
}
