//! The GitHub client over HTTP: as whom it asks, how often, and what it makes of answers that do not come.

use std::{
    collections::BTreeSet,
    future::ready,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{body::Body, response::Response};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gha_fargate_runners::{
    adapters::http::{self, Http},
    error::Class,
    ids::{JobId, RunnerId},
    ports::{Checks, Deliveries, Github, JobStatus, Page, RunnerGroup, Scope, State, Target},
};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::watch,
};

use super::server::{Client, KEY, START, Server, answer, app, minted, shorten, target};

fn refused() -> Response {
    answer(401, &json!({"message": "Bad credentials"}))
}

/// A GitHub with the App's installation 2: its tokens are `ghs_1`, `ghs_2`, …, and the last one counts as long
/// as it is not revoked.
async fn with_installation_2() -> (Server, Arc<AtomicUsize>) {
    let revoked = Arc::new(AtomicUsize::new(0));
    let (issued, valid_from) = (AtomicUsize::new(0), Arc::clone(&revoked));
    let server = Server::start(move |asked| {
        let response = match shorten(&asked.what).as_str() {
            "mint" => {
                let number: usize = asked.bearer.strip_prefix("ghs_").map_or(0, |n| n.parse().unwrap_or(0));
                if number > valid_from.load(Ordering::SeqCst) { minted() } else { refused() }
            }
            "token 2" => {
                let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
                let expires = (START + time::Duration::hours(1)).format(&Rfc3339).expect("a time");
                answer(201, &json!({"token": format!("ghs_{number}"), "expires_at": expires}))
            }
            "GET /orgs/octo-org/installation" => answer(200, &json!({"id": 2})),
            _ => answer(404, &json!({"message": "Not Found"})),
        };
        Box::pin(ready(response))
    })
    .await;
    (server, revoked)
}

#[tokio::test]
async fn ten_mints_ask_for_one_installation_and_one_token() {
    let (server, _) = with_installation_2().await;
    let client = Client::new(&server, &app(None));
    client.mints(None, 10).await;
    // The same account, as an operator may write it.
    client.github.warm(Some("Octo-Org")).await.expect("warm already");
    let asked = server.asked();
    assert_eq!(asked[..2], ["GET /orgs/octo-org/installation", "token 2"]);
    assert_eq!(asked[2..], ["mint"; 10]);
    client.mints(None, 1).await;
    assert_eq!((server.asked(), client.vault.reads.get()), (vec!["mint".to_owned()], 1));
}

#[tokio::test]
async fn a_token_is_renewed_five_minutes_before_it_expires() {
    let (server, _) = with_installation_2().await;
    let client = Client::new(&server, &app(Some(2)));
    client.mints(None, 1).await;
    client.clock.advance(54);
    client.mints(None, 1).await;
    assert_eq!(server.asked(), ["token 2", "mint", "mint"]);
    client.clock.advance(1);
    client.mints(None, 1).await;
    assert_eq!(server.asked(), ["token 2", "mint"]);
}

#[tokio::test]
async fn a_stale_installation_is_looked_up_once() {
    for (secret, payload) in [(app(Some(1)), None), (app(None), Some(1))] {
        let (server, revoked) = with_installation_2().await;
        let client = Client::new(&server, &secret);
        client.mints(payload, 5).await;
        let asked = server.asked();
        assert_eq!(asked[..3], ["token 1", "GET /orgs/octo-org/installation", "token 2"]);
        assert_eq!(asked[3..], ["mint"; 5]);
        revoked.store(1, Ordering::SeqCst);
        client.mints(payload, 1).await;
        assert_eq!(server.asked(), ["mint", "token 2", "mint"], "the stale id is not tried again");
    }
}

#[tokio::test]
async fn an_app_cannot_serve_an_enterprise_and_is_not_tried() {
    let (server, _) = with_installation_2().await;
    let scope = Scope::Enterprise("octo-corp".to_owned());
    let client = Client::with(server.url.clone(), &app(None), scope, Http::new());
    let errors = [
        client.github.warm(None).await.expect_err("said at the start"),
        client.mint(Some(1)).await.expect_err("and at each job"),
        client.github.apps().await.expect_err("and in each sweep"),
    ];
    for error in errors {
        assert_eq!(error.class, Class::NeedsOperator);
        assert!(error.message.contains("no App") && error.message.contains("RUNNER_SCOPE=org"), "{error}");
    }
    assert_eq!(server.asked(), [""; 0]);
}

/// A GitHub whose installation 2 has been granted so much, and so much an hour later: what tokens were asked for.
async fn asked_permissions(
    scope: Scope,
    granted: &'static [&'static str],
    later: &'static [&'static str],
) -> Vec<Value> {
    let (is_later, hour) = (Arc::new(AtomicUsize::new(0)), [granted, later]);
    let now = Arc::clone(&is_later);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let asked_for = Arc::clone(&seen);
    let server = Server::start(move |asked| {
        let response = match shorten(&asked.what).as_str() {
            "mint" => minted(),
            _ => {
                let body: Value = serde_json::from_str(&asked.body).unwrap_or_default();
                let names = body["permissions"].as_object().into_iter().flatten();
                let granted = hour[now.load(Ordering::SeqCst)];
                let all = names.map(|(name, _)| name).all(|name| granted.contains(&name.as_str()));
                asked_for.lock().expect("a lock").push(body);
                match all {
                    true => answer(201, &json!({"token": "ghs_1", "expires_at": "2026-01-01T13:00:00Z"})),
                    false => answer(
                        422,
                        &json!({"message": "The permissions requested are not granted to this installation."}),
                    ),
                }
            }
        };
        Box::pin(ready(response))
    })
    .await;
    let client = Client::with(server.url.clone(), &app(Some(2)), scope, Http::new());
    client.mints(None, 1).await;
    // Its hour is over.
    client.clock.advance(60);
    is_later.store(1, Ordering::SeqCst);
    client.mints(None, 1).await;
    let seen = seen.lock().expect("a lock");
    seen.clone()
}

#[tokio::test]
async fn a_token_may_do_what_it_is_for_and_no_more() {
    const RUNNERS: &str = "organization_self_hosted_runners";
    let least = json!({"permissions": {RUNNERS: "write", "actions": "read"}});
    let without_actions = json!({"permissions": {RUNNERS: "write"}});
    let all = &[RUNNERS, "actions"];
    assert_eq!(asked_permissions(Scope::Org, all, all).await, [least.clone(), least.clone()]);
    let both = [least.clone(), without_actions.clone()];
    assert_eq!(
        asked_permissions(Scope::Org, &[RUNNERS], &[RUNNERS]).await,
        [both.clone(), both.clone()].concat()
    );
    // Granted meanwhile: the next token has it.
    assert_eq!(
        asked_permissions(Scope::Org, &[RUNNERS], all).await,
        [both.as_slice(), std::slice::from_ref(&least)].concat()
    );
    // An older server may call it otherwise.
    let three = [least, without_actions, Value::Null];
    assert_eq!(asked_permissions(Scope::Org, &[], &[]).await, [three.clone(), three].concat());
    let of_repository = json!({"permissions": {"administration": "write", "actions": "read"}});
    let all = &["administration", "actions"];
    assert_eq!(asked_permissions(Scope::Repo, all, all).await, [of_repository.clone(), of_repository]);
}

/// Elsewhere, a runner may be refused for what is wrong there: no job is rejected for that.
#[tokio::test]
async fn a_group_or_place_in_which_nothing_was_minted_is_not_known_to_be_right() {
    let server = Server::start(|asked| {
        let body: Value = serde_json::from_str(&asked.body).unwrap_or_default();
        let well =
            body["runner_group_id"] == 1 && !asked.what.contains("octo-other") && body["name"] != "bad";
        Box::pin(ready(match well {
            true => minted(),
            false => answer(422, &json!({"message": "Validation Failed"})),
        }))
    })
    .await;
    let other = Target { repository: Some("octo-other".to_owned()), ..target() };
    for (scope, place, group, name, class) in [
        (Scope::Org, target(), None, "bad", Class::Invalid),
        (Scope::Org, target(), Some(RunnerGroup::Id(1)), "bad", Class::Invalid),
        (Scope::Org, target(), Some(RunnerGroup::Id(2)), "fargate-2-1", Class::NeedsOperator),
        (Scope::Repo, target(), None, "bad", Class::Invalid),
        (Scope::Repo, other, None, "fargate-2-1", Class::NeedsOperator),
    ] {
        let client = Client::with(server.url.clone(), "ghp_x", scope, Http::new());
        client.mints(None, 1).await;
        let error = client.github.mint(&place, name, &[], group.as_ref()).await.expect_err("422");
        assert_eq!(error.class, class, "{place:?}, {group:?}, {name}: {error}");
    }
}

/// Only a token writes them, and what a token needs has other names than what an App does.
#[tokio::test]
async fn what_a_token_needs_for_commit_statuses_is_called_by_its_name() {
    let page =
        Page { state: State::Failed, title: "No runner".to_owned(), summary: String::new(), link: None };
    for (status, says) in [(404, "Not Found"), (403, "Must have admin rights to Repository.")] {
        let server = Server::start(move |_| Box::pin(ready(answer(status, &json!({"message": says}))))).await;
        let client = Client::new(&server, "ghp_x");
        let error = client.github.write_status(&target(), "abc", "Runner", &page).await.expect_err(says);
        let named = ["Commit statuses: read and write", "repo:status"];
        assert!(named.iter().all(|name| error.message.contains(name)), "{error}");
        assert!(!error.message.contains("Checks") && !error.message.contains("the App"), "{error}");
    }
}

#[tokio::test]
async fn a_registration_without_a_configuration_is_given_back() {
    for (status, class) in [(204, Class::Transient), (404, Class::Transient), (500, Class::Unknown)] {
        for config in ["", " \n"] {
            let server = Server::start(move |asked| {
                let response = match shorten(&asked.what).as_str() {
                    "mint" => answer(201, &json!({"runner": {"id": 7}, "encoded_jit_config": config})),
                    _ => answer(status, &json!({})),
                };
                Box::pin(ready(response))
            })
            .await;
            let error = Client::new(&server, "ghp_x").mint(None).await.expect_err("no configuration");
            assert_eq!(error.class, class, "{error}");
            assert_eq!(server.asked(), ["mint", "DELETE /orgs/octo-org/actions/runners/7"]);
        }
    }
}

#[tokio::test]
async fn each_scope_has_its_path_below_the_api_s_root() {
    let server = Server::start(|_| Box::pin(ready(minted()))).await;
    for root in ["", "/api/v3"] {
        for (scope, path) in [
            (Scope::Org, "/orgs/octo-org"),
            (Scope::Repo, "/repos/octo-org/octo-repo"),
            (Scope::Enterprise("octo-corp".to_owned()), "/enterprises/octo-corp"),
        ] {
            let client = Client::with(format!("{}{root}", server.url), "ghp_x", scope, Http::new());
            client.mints(None, 1).await;
            let asked = std::mem::take(&mut *server.asked.lock().expect("a lock"));
            let asked: Vec<String> = asked.into_iter().map(|asked| asked.what).collect();
            assert_eq!(asked, [format!("POST {root}{path}/actions/runners/generate-jitconfig")]);
        }
    }
}

/// An organisation that is not there is a mistake of the settings.
#[tokio::test]
async fn only_a_repository_may_be_gone() {
    let server = Server::start(|_| Box::pin(ready(answer(404, &json!({"message": "Not Found"}))))).await;
    for (scope, is_gone) in [(Scope::Repo, true), (Scope::Org, false)] {
        let client = Client::with(server.url.clone(), "ghp_x", scope, Http::new());
        let listed = client.github.runners(&target(), 1).await;
        assert_eq!(matches!(listed, Ok(None)), is_gone, "{listed:?}");
        assert_eq!(listed.err().is_some_and(|it| it.class == Class::NeedsOperator), !is_gone);
    }
}

#[tokio::test]
async fn a_job_without_a_status_is_one_that_github_says_nothing_of() {
    let server = Server::start(|_| Box::pin(ready(answer(200, &json!({"id": 1, "status": null}))))).await;
    let job = Client::new(&server, "ghp_x").github.job(&target(), JobId(1)).await;
    assert_eq!(job.expect("an answer").map(|job| job.status), Some(JobStatus::Unknown));
}

#[tokio::test]
async fn a_revoked_token_is_replaced_for_everybody_who_used_it() {
    let (server, revoked) = with_installation_2().await;
    let client = Client::new(&server, &app(Some(2)));
    client.mints(None, 1).await;
    server.asked();
    revoked.store(1, Ordering::SeqCst);
    client.mints(None, 10).await;
    let asked = server.asked();
    let tokens = asked.iter().filter(|what| *what == "token 2").count();
    assert_eq!((tokens, asked.len()), (1, 21), "{asked:?}");
}

#[tokio::test]
async fn a_token_that_was_replaced_is_read_again_for_everybody_who_used_the_old_one() {
    let (renewed, is_renewed) = watch::channel(false);
    let first = Arc::new(AtomicUsize::new(0));
    let server = Server::start(move |asked| {
        let (renewed, mut is_renewed, first) = (renewed.clone(), is_renewed.clone(), Arc::clone(&first));
        Box::pin(async move {
            if asked.bearer == "ghp_new" {
                renewed.send_replace(true);
                return minted();
            }
            // The others hear of it only after the first of them has got on with the new one.
            if first.fetch_add(1, Ordering::SeqCst) > 0 {
                is_renewed.wait_for(|renewed| *renewed).await.expect("a sender");
            }
            refused()
        })
    })
    .await;
    let client = Client::new(&server, "ghp_old");
    client.github.warm(Some("octo-org")).await.expect("the secret is read");
    client.vault.text.replace("ghp_new".to_owned());
    client.clock.advance(1);
    client.mints(None, 10).await;
    assert_eq!(client.vault.reads.get(), 2);
}

#[tokio::test]
async fn a_refusal_does_not_read_the_secret_again_and_again() {
    let server = Server::start(|_| Box::pin(ready(refused()))).await;
    let client = Client::new(&server, "ghp_x");
    for _ in 0..5 {
        let error = client.mint(None).await.expect_err("a refusal");
        assert_eq!(error.class, Class::NeedsOperator);
    }
    assert_eq!((client.vault.reads.get(), server.asked().len()), (1, 5));
    client.clock.advance(1);
    client.mint(None).await.expect_err("a refusal");
    assert_eq!((client.vault.reads.get(), server.asked().len()), (2, 2));
}

#[tokio::test]
async fn what_the_operator_repairs_is_seen_without_a_restart() {
    let server = Server::start(|asked| {
        let response = match asked.bearer.as_str() {
            "ghp_wide" => minted(),
            _ => answer(403, &json!({"message": "Resource not accessible by personal access token"})),
        };
        Box::pin(ready(response))
    })
    .await;
    let client = Client::new(&server, "ghp_narrow");
    client.mint(None).await.expect_err("a permission is missing");
    client.vault.text.replace("ghp_wide".to_owned());
    client.clock.advance(5);
    // This one is deferred still, and the next is not.
    client.mint(None).await.expect_err("a permission is missing");
    client.mints(None, 1).await;
}

#[tokio::test]
async fn no_two_jwts_are_the_same() {
    let server = Server::start(|_| Box::pin(ready(answer(500, &json!({}))))).await;
    let client = Client::new(&server, &app(Some(2)));
    for _ in 0..3 {
        assert_eq!(client.mint(None).await.expect_err("trouble").class, Class::Unknown);
    }
    let mut ids = BTreeSet::new();
    for asked in server.asked.lock().expect("a lock").iter() {
        let claims = asked.bearer.split('.').nth(1).expect("claims");
        let claims: Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).expect("base64")).expect("JSON");
        let (issued, expires) = (claims["iat"].as_i64().expect("iat"), claims["exp"].as_i64().expect("exp"));
        assert_eq!((claims["iss"].as_str(), issued), (Some("7"), START.unix_timestamp() - 60));
        assert!((1..=600).contains(&(expires - START.unix_timestamp())), "{expires}");
        ids.insert(claims["jti"].as_str().expect("jti").to_owned());
    }
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn a_redirection_is_followed_on_the_same_host_and_no_further() {
    for status in [301, 302, 307, 308] {
        let server = Server::start(move |asked| {
            let to = match asked.what.as_str() {
                "POST /orgs/octo-org/actions/runners/generate-jitconfig" => "/organizations/1/runners",
                "POST /organizations/1/runners" => return Box::pin(ready(minted())),
                "GET /repos/octo-org/octo-repo/actions/jobs/1" => "https://elsewhere.test/",
                // In a circle.
                _ => "/orgs/octo-org/actions/runners/1",
            };
            let mut response = answer(status, &json!({"message": "Moved"}));
            response.headers_mut().insert("location", to.parse().expect("a value"));
            Box::pin(ready(response))
        })
        .await;
        let client = Client::new(&server, "ghp_x");
        client.mints(None, 1).await;
        assert_eq!(server.asked(), ["mint", "POST /organizations/1/runners"]);
        let target = target();
        let job = client.github.job(&target, JobId(1)).await;
        assert!(matches!(job, Ok(None)), "GitHub does not say: {job:?}");
        assert_eq!(server.asked().len(), 1);
        let error = client.github.runner(&target, RunnerId(1)).await.expect_err("a circle");
        assert!(error.message.contains("GITHUB_API_URL"), "{error}");
        assert_eq!(server.asked().len(), 4);
    }
}

#[tokio::test]
async fn a_missing_installation_is_called_by_its_name() {
    let server = Server::start(|_| Box::pin(ready(answer(404, &json!({}))))).await;
    let error = Client::new(&server, &app(None)).mint(None).await.expect_err("not installed");
    assert_eq!(error.class, Class::NeedsOperator);
    assert!(error.message.contains("/orgs/octo-org/installation: 404: the App is not installed"), "{error}");
}

#[tokio::test]
async fn an_unreadable_success_may_have_been_one() {
    for (status, body) in [(201, "{}"), (201, "{\"runner\":{\"id\":1},"), (200, "{}"), (202, "")] {
        let server = Server::start(move |_| {
            let mut response = Response::new(Body::from(body));
            *response.status_mut() = status.try_into().expect("a status");
            Box::pin(ready(response))
        })
        .await;
        let error = Client::new(&server, "ghp_x").mint(None).await.expect_err("unreadable");
        assert_eq!(error.class, Class::Unknown, "{status} {body}");
    }
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_time() {
    let server = Server::start(|_| Box::pin(std::future::pending())).await;
    let http = Http::new().with_call_timeout(Duration::from_secs(1));
    let client = Client::with(server.url.clone(), "ghp_x", Scope::Org, http);
    assert_eq!(client.mint(None).await.expect_err("a time-out").class, Class::Unknown);
    assert_eq!(server.asked(), ["mint"], "what may be under way is not repeated");
}

#[tokio::test]
async fn connections_that_died_unnoticed_cost_no_call() {
    // Each connection answers one request, and takes the next one without an answer: so it looks from a function
    // that was frozen while its connections died.
    const NEIGHBOURS: usize = 10;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (arrived, all_arrived) = watch::channel(0);
    let running = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let (arrived, mut all_arrived) = (arrived.clone(), all_arrived.clone());
            tokio::spawn(async move {
                let mut buffer = [0; 8192];
                if stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                    arrived.send_modify(|count| *count += 1);
                    // All at once, so that there are so many connections.
                    assert!(all_arrived.wait_for(|count| *count >= NEIGHBOURS).await.is_ok());
                    let body = r#"{"runner":{"id":1},"encoded_jit_config":"c"}"#;
                    let head = format!("HTTP/1.1 201 Created\r\ncontent-length: {}\r\n\r\n", body.len());
                    stream.write_all(format!("{head}{body}").as_bytes()).await.expect("sent");
                    let _ = stream.read(&mut buffer).await;
                }
            });
        }
    });
    let client = Client::with(url, "ghp_x", Scope::Org, Http::new());
    client.mints(None, NEIGHBOURS).await;
    client.mints(None, 1).await;
    client.mints(None, NEIGHBOURS - 1).await;
    running.abort();
}

#[tokio::test]
async fn nothing_that_is_printed_is_secret() {
    let server = Server::start(|asked| {
        let response = match shorten(&asked.what).as_str() {
            "token 2" => answer(201, &json!({"token": "ghs_secret", "expires_at": "2026-01-01T13:00:00Z"})),
            "mint" => answer(403, &json!({"message": format!("no access for {}", asked.bearer)})),
            _ => answer(404, &json!({})),
        };
        Box::pin(ready(response))
    })
    .await;
    let mut printed = String::new();
    for secret in [app(Some(2)), app(Some(3)), "ghp_secret".to_owned(), format!("{{{KEY}")] {
        let client = Client::new(&server, &secret);
        let error = client.mint(None).await.expect_err("a refusal");
        printed += &format!("{error} {error:?} {:?}\n", client.github);
    }
    let request = http::ApiRequest {
        method: "GET",
        url: server.url.clone(),
        headers: vec![("authorization", "Bearer ghp_secret")],
        body: Some("body-of-the-request".to_owned()),
        repeatable: false,
    };
    printed += &format!("{request:?}");
    let (server, _) = with_installation_2().await;
    printed += &format!("{:?}", Client::new(&server, &app(Some(2))).mint(None).await.expect("minted"));
    let line_of_key = KEY.lines().nth(1).expect("a key");
    for secret in [line_of_key, "ghs_secret", "ghp_secret", "jit-config-of-the-runner", "body-of-the"] {
        assert!(!printed.contains(secret), "{printed}");
    }
}
