//! The way outside, as corporate networks have it: a proxy on the way, and certificates that nobody else vouches for.

use std::sync::{Arc, Mutex};

use gha_fargate_runners::{
    adapters::{self, aws::sdk_config, ecs::Ecs, http::Http},
    config::{DispatchConfig, Outside},
    error::Class,
    ids::{RunnerId, RunnerNames},
    ports::{FindTasks, Github, Scope},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{
    connections::{behind_tls, target},
    server::Client,
};

/// What a stack with these parameters makes of them.
fn outside(variables: &[(&str, &str)]) -> Outside {
    let least = [("ECS_CLUSTER", "x"), ("SUBNET_IDS", "subnet-1"), ("SECURITY_GROUP_IDS", "sg-1")];
    let get = |name: &str| {
        let all = least.iter().chain(variables);
        all.filter(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()).next()
    };
    DispatchConfig::read(get).expect("no mistake").outside
}

/// A client on this way, with no other trust than that of the variables.
fn http(variables: &[(&str, &str)]) -> Http {
    adapters::http(outside(variables), |_| None)
}

struct Made {
    pem: String,
    der: CertificateDer<'static>,
    key: KeyPair,
}

/// A certificate that signs itself.
fn made(name: &str, is_ca: bool, until: Duration) -> Made {
    let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
    if is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let now = OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = (now - Duration::days(30), now + until);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    Made { pem: certificate.pem(), der: certificate.der().clone(), key }
}

/// What the client makes of a server with that certificate.
async fn asked(server: &Made, variables: &[(&str, &str)]) -> Result<(), String> {
    let port = behind_tls(vec![server.der.clone()], &server.key).await;
    let client = Client::with(format!("https://localhost:{port}"), "ghp_x", Scope::Org, http(variables));
    client.github.runner(&target(), RunnerId(1)).await.map(drop).map_err(|error| error.message)
}

#[tokio::test]
async fn certificates_of_one_s_own_are_trusted_and_no_others() {
    let year = Duration::days(365);
    for is_ca in [false, true] {
        let own = made("localhost", is_ca, year);
        let pem = own.pem.replace('\n', " ");
        let trusted = [("CA_CERTIFICATES", &*pem)];
        assert_eq!(asked(&own, &trusted).await, Ok(()), "an authority's: {is_ca}");
        for (server, why) in [
            (made("localhost", is_ca, year), "another of the same name"),
            (made("elsewhere.test", is_ca, year), "another name"),
        ] {
            let error = asked(&server, &trusted).await.expect_err(why);
            assert!(error.contains("TLS: invalid peer certificate"), "{why}: {error}");
        }
        let error = asked(&own, &[]).await.expect_err("nobody vouches for it");
        assert!(error.contains("TLS: invalid peer certificate"), "{error}");
    }
    // To be trusted does not make it right.
    for (server, why) in [
        (made("elsewhere.test", true, year), "not valid for name"),
        (made("localhost", true, Duration::days(-1)), "certificate expired"),
    ] {
        let error = asked(&server, &[("CA_CERTIFICATES", &*server.pem)]).await.expect_err(why);
        assert!(error.contains(why), "{error}");
    }
}

#[tokio::test]
async fn an_authority_of_one_s_own_vouches_for_its_servers() {
    let mut params = CertificateParams::new([]).expect("no name");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let pem = params.self_signed(&key).expect("a certificate").pem();
    let issuer = rcgen::Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let server = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    let der = server.signed_by(&key, &issuer).expect("a certificate").der().clone();
    let server = Made { pem: String::new(), der, key };
    let other = made("localhost", true, Duration::days(365));
    assert_eq!(asked(&server, &[("CA_CERTIFICATES", &format!("{}{pem}", other.pem))]).await, Ok(()));
    asked(&server, &[("CA_CERTIFICATES", &other.pem)]).await.expect_err("another's");
}

/// A proxy that knows CONNECT, to whatever port it is asked for on this machine, or refuses it: its own port, and the
/// heads of the requests.
async fn proxy(refusal: Option<&'static str>) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let heads = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.expect("a connection");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await.expect("a head"));
            }
            let head = String::from_utf8(head).expect("text");
            heads.lock().expect("a lock").push(head.clone());
            if let Some(refusal) = refusal {
                client.write_all(refusal.as_bytes()).await.expect("sent");
                continue;
            }
            let to = head.split(' ').nth(1).and_then(|to| to.rsplit_once(':')).expect("CONNECT HOST:PORT").1;
            let mut server =
                TcpStream::connect(("127.0.0.1", to.parse().expect("a port"))).await.expect("up");
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("sent");
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
        }
    });
    (port, seen)
}

#[tokio::test]
async fn a_proxy_is_used_where_it_is_for_and_sees_no_token() {
    let server = made("localhost", false, Duration::days(365));
    let to = behind_tls(vec![server.der.clone()], &server.key).await;
    for (no_proxy, times) in [("", 1), ("internal.test,10.0.0.0/8", 1), ("localhost", 0), ("*", 0)] {
        let (port, seen) = proxy(None).await;
        let url = format!("http://user:p%40ss@127.0.0.1:{port}");
        let http = http(&[("HTTPS_PROXY", &url), ("NO_PROXY", no_proxy), ("CA_CERTIFICATES", &server.pem)]);
        assert!(!format!("{http:?}").contains("p%40ss"));
        let client = Client::with(format!("https://localhost:{to}"), "ghp_x", Scope::Org, http);
        for _ in 0..3 {
            client.mints(None, 1).await;
        }
        let seen = seen.lock().expect("a lock");
        assert_eq!(seen.len(), times, "{no_proxy}: {seen:?}");
        for head in seen.iter() {
            assert!(head.starts_with(&format!("CONNECT localhost:{to} ")), "{head}");
            // user:p@ss
            assert!(head.contains("Proxy-Authorization: Basic dXNlcjpwQHNz\r\n"), "{head}");
            assert!(!head.contains("ghp_x"), "{head}");
        }
    }
}

#[tokio::test]
async fn aws_is_asked_through_the_proxy_too() {
    let (port, seen) = proxy(Some("HTTP/1.1 403 Forbidden\r\n\r\n")).await;
    let url = format!("http://127.0.0.1:{port}");
    let ask = async |no_proxy: &str| {
        let http = http(&[("HTTPS_PROXY", &url), ("NO_PROXY", no_proxy)]);
        let environment = |name: &str| match name {
            "AWS_REGION" => Some("us-east-1".to_owned()),
            "AWS_ENDPOINT_URL" => Some("https://ecs.localhost:1".to_owned()),
            _ => None,
        };
        let aws = sdk_config(environment, http.for_aws(), adapters::aws::Patience::Queue);
        let aws = aws.into_builder().credentials_provider(credentials()).build();
        Ecs::new(&aws, "x".to_owned(), RunnerNames::default())
            .live_tasks()
            .await
            .expect_err("nobody is there")
            .message
    };
    let said = ask("").await;
    assert!(said.contains("no way through the proxy of HTTPS_PROXY: unsuccessful"), "{said}");
    let heads = std::mem::take(&mut *seen.lock().expect("a lock"));
    assert!(heads.iter().all(|head| head.starts_with("CONNECT ecs.localhost:1 ")), "{heads:?}");
    assert!(!heads.is_empty());
    // As interface endpoints have it.
    let said = ask("169.254.169.254,.localhost").await;
    assert!(!said.contains("proxy"), "{said}");
    assert_eq!(seen.lock().expect("a lock").len(), 0);
}

fn credentials() -> aws_credential_types::provider::SharedCredentialsProvider {
    let credentials = aws_credential_types::Credentials::new("AKIAEXAMPLE", "example", None, None, "test");
    aws_credential_types::provider::SharedCredentialsProvider::new(credentials)
}

#[tokio::test]
async fn a_proxy_that_gives_no_way_is_called_by_its_name_and_at_last_the_operator() {
    let nobody =
        TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address").port();
    let (wants_password, _) = proxy(Some("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")).await;
    let (forbids, _) = proxy(Some("HTTP/1.1 403 Forbidden\r\n\r\n")).await;
    for (port, words) in [
        (wants_password, "no way through the proxy of HTTPS_PROXY: proxy authorization required"),
        (forbids, "no way through the proxy of HTTPS_PROXY: unsuccessful"),
        (nobody, "no way through the proxy of HTTPS_PROXY: the connection was refused"),
    ] {
        let http = http(&[("HTTPS_PROXY", &*format!("http://user:secret@127.0.0.1:{port}"))]);
        let client = Client::with("https://localhost:1".to_owned(), "ghp_x", Scope::Org, http);
        let error = client.mint(None).await.expect_err("no way");
        assert!(error.message.contains(words) && !error.message.contains("secret"), "{error}");
        assert_eq!(error.class, Class::Transient, "nothing was sent: {error}");
        client.clock.advance(3);
        let error = client.mint(None).await.expect_err("no way");
        assert_eq!(error.class, Class::NeedsOperator, "{error}");
        assert!(error.message.contains("check HTTPS_PROXY and NO_PROXY"), "{error}");
    }
}
