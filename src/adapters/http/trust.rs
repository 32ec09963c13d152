//! Whom the functions trust: Mozilla's root certificates, and those of the operator's own.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

/// Trusts Mozilla's root certificates, as of the version of `webpki-roots` that is compiled in, and these.
pub(super) fn trusting(own: Vec<CertificateDer<'static>>) -> ClientConfig {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let (_, unreadable) = roots.add_parsable_certificates(own.iter().cloned());
    if unreadable > 0 {
        tracing::warn!(unreadable, "root certificates that cannot be used");
    }
    let provider = Arc::new(ring::default_provider());
    let tls = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of TLS 1.2 and 1.3");
    let roots = Arc::new(roots);
    match WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), provider).build() {
        Ok(webpki) if !own.is_empty() => {
            let verifier = Arc::new(OwnToo { webpki, own });
            tls.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        }
        _ => tls.with_root_certificates(roots).with_no_client_auth(),
    }
}

/// A server whose certificate is one of the trusted ones itself is trusted too: that of an authority, which
/// `openssl req -x509` makes unless it is told otherwise, webpki refuses as a server's.
#[derive(Debug)]
struct OwnToo {
    webpki: Arc<WebPkiServerVerifier>,
    own: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for OwnToo {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // webpki looks at the time before it looks at this; at the name it has not looked yet.
            Err(error) if is_of_an_authority(&error) && self.own.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

fn is_of_an_authority(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(OtherError(other))) = error else { return false };
    other.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity)
}
