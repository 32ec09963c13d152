//! The way to GitHub and AWS, for the functions and for runner-init: through whose proxy, and whom to trust there.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use http::Uri;
use rustls::{RootCertStore, pki_types::CertificateDer};

use crate::env::Env;

/// The way to GitHub and AWS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outside {
    /// `HTTPS_PROXY`.
    pub proxy: Option<ProxyUrl>,
    /// `NO_PROXY`: hosts that are reached without it.
    pub no_proxy: String,
    /// `CA_CERTIFICATES`: who is trusted besides the public authorities.
    pub certificates: Vec<CertificateDer<'static>>,
}

/// The URL of a proxy: `http://HOST:PORT`, with or without `USER:PASSWORD@`.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl(String);

/// It may hold a password.
impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyUrl")
    }
}

impl ProxyUrl {
    /// Reads it. (What goes through is encrypted to the host behind it, so the way to the proxy need not be.)
    pub fn read(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let authority = uri.authority()?;
        let place = authority.as_str().rsplit_once('@').map_or(authority.as_str(), |(_, place)| place);
        let has_port = place == authority.host() || authority.port_u16().is_some();
        let is_url = uri.scheme_str() == Some("http") && !authority.host().is_empty();
        (is_url && has_port && uri.path() == "/" && uri.query().is_none()).then(|| ProxyUrl(text.to_owned()))
    }

    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Env<'_> {
    pub(crate) fn outside(&mut self) -> Outside {
        let url = self.optional("HTTPS_PROXY");
        let proxy = url.as_deref().and_then(ProxyUrl::read);
        if url.is_some() && proxy.is_none() {
            let form = "http://HOST:PORT, with or without USER:PASSWORD@";
            self.mistake_for("HTTPS_PROXY", form, "it is something else, which may hold a password");
        }
        let text = self.optional("CA_CERTIFICATES");
        let certificates = text.as_deref().map(certificates);
        if certificates == Some(None) {
            self.mistake_for("CA_CERTIFICATES", "certificates in PEM", "one of them cannot be read");
        }
        let no_proxy = self.or("NO_PROXY", "");
        Outside { proxy, no_proxy, certificates: certificates.flatten().unwrap_or_default() }
    }
}

/// Certificates in PEM. Where they come from, line breaks become spaces, or are escaped.
fn certificates(text: &str) -> Option<Vec<CertificateDer<'static>>> {
    let mut usable = RootCertStore::empty();
    let parts = text.split("-----BEGIN CERTIFICATE-----").skip(1);
    let read = parts.map(|part| {
        let (body, _) = part.split_once("-----END CERTIFICATE-----")?;
        let body: String = body.replace("\\n", " ").split_whitespace().collect();
        let certificate = CertificateDer::from(STANDARD.decode(body).ok()?);
        usable.add(certificate.clone()).ok()?;
        Some(certificate)
    });
    read.collect::<Option<Vec<_>>>().filter(|all| !all.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_a_host_that_is_asked_in_the_clear() {
        for url in [
            "http://proxy.acme.test:3128",
            "http://proxy.acme.test",
            "http://10.0.0.1:3128/",
            "http://[fd00::1]:3128",
            "http://user:p%40ss@proxy.acme.test:3128",
        ] {
            assert!(ProxyUrl::read(url).is_some(), "{url}");
        }
        for no_url in [
            "",
            "proxy.acme.test:3128",
            "http://",
            "http://proxy.acme.test:",
            "http://proxy.acme.test:99999",
            "http://proxy.acme.test/path",
            "http://proxy.acme.test?x",
            "https://proxy.acme.test",
            "socks5://proxy.acme.test",
        ] {
            assert_eq!(ProxyUrl::read(no_url), None, "{no_url}");
        }
        assert!(!format!("{:?}", ProxyUrl::read("http://user:pass@x")).contains("pass"));
    }

    #[test]
    fn certificates_survive_what_is_done_to_them_on_the_way() {
        let made = |name: &str| {
            let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
            (made.cert.pem(), made.cert.der().clone())
        };
        let ((one, one_der), (two, two_der)) = (made("one.test"), made("two.test"));
        let both = format!("{one}{two}");
        let forms = [
            both.clone(),
            both.replace('\n', "\r\n"),
            both.replace('\n', " "),
            both.replace('\n', "\\n"),
            format!("Subject: CN=one\n{one}\n\nanother\n{two}\n"),
        ];
        for form in forms {
            assert_eq!(certificates(&form), Some(vec![one_der.clone(), two_der.clone()]), "{form}");
        }
        let cut = &one[..one.len() / 2];
        let not_one = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
        for text in ["", "x", cut, not_one, &format!("{one}{not_one}")] {
            assert_eq!(certificates(text), None, "{text}");
        }
    }
}
