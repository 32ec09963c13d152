//! Whom the functions trust: a server whose certificate nobody vouches for gets no request, and with it no token.

use std::{io::Read, net::TcpListener, sync::Arc, thread};

use gha_fargate_runners::adapters::http::{ApiRequest, Http, NoReply};
use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::ring, pki_types::PrivateKeyDer};

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused() {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("a configuration");
    let listener = TcpListener::bind(("localhost", 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let config = Arc::new(config);
    // The first try, and the one on a connection of its own.
    let server = thread::spawn(move || {
        [(), ()].map(|()| {
            let (stream, _) = listener.accept().expect("a connection");
            let connection = ServerConnection::new(Arc::clone(&config)).expect("a session");
            StreamOwned::new(connection, stream).read(&mut [0; 1024]).unwrap_or(0)
        })
    });
    let request = ApiRequest {
        method: "GET",
        url: format!("https://localhost:{port}/"),
        headers: vec![("authorization", "Bearer secret")],
        body: None,
        repeatable: true,
    };
    let answer = Http::new().send(&request).await.map(|reply| reply.status);
    let words = "invalid peer certificate: UnknownIssuer".to_owned();
    assert_eq!(answer, Err(NoReply::Tls(words)), "in rustls's words");
    assert_eq!(server.join().expect("the server"), [0, 0], "bytes of a request");
}
