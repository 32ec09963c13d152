//! S3: one object, read again and again. One GET, signed by the SDK's own signer: its client for S3 would be the
//! largest part of every function.

use std::time::SystemTime;

use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::{
    http_request::{
        PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
        UriPathNormalizationMode, sign,
    },
    sign::v4,
};
use aws_types::service_config::ServiceConfigKey;
use futures_util::future::LocalBoxFuture;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::timeout;

use super::http::{ApiRequest, Http, Reply};
use crate::{
    error::{CallError, Class},
    ports::{DocumentSource, Fetched},
    protocol::timing,
};

/// "UriEncode" of Signature Version 4: all but letters, digits and these, and the slashes of a key.
const KEPT: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// An object in a bucket.
#[derive(Debug)]
pub struct Object {
    http: Http,
    config: SdkConfig,
    bucket: String,
    key: String,
}

impl Object {
    /// The object with this key.
    pub fn new(http: Http, config: SdkConfig, bucket: String, key: String) -> Self {
        Object { http, config, bucket, key }
    }

    async fn get(&self, known: Option<&str>) -> Result<Fetched, CallError> {
        let headers = self.signed().await?;
        let url = self.url();
        let mut headers: Vec<(&'static str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        headers.extend(known.map(|mark| ("if-none-match", mark)));
        let request = ApiRequest { method: "GET", url, headers, body: None, repeatable: true };
        match timeout(timing::S3_CALL, self.http.send(&request)).await {
            Ok(Ok(reply)) => self.read(reply),
            Ok(Err(no_reply)) => Err(self.error(Class::Transient, &no_reply.to_string())),
            Err(_) => Err(self.error(Class::Transient, "no answer in time")),
        }
    }

    fn read(&self, reply: Reply) -> Result<Fetched, CallError> {
        let wrong = |class, what: &str| Err(self.error(class, &format!("{}: {what}", reply.status)));
        match reply.status {
            200 => match String::from_utf8(reply.body) {
                Ok(text) => Ok(Fetched::New { text, mark: reply.headers.get("etag").map(str::to_owned) }),
                Err(_) => Err(self.error(Class::NeedsOperator, "the object is no text")),
            },
            304 => Ok(Fetched::Same),
            301 | 307 | 400 => wrong(Class::NeedsOperator, "is the bucket in the function's Region?"),
            403 | 404 => wrong(
                Class::NeedsOperator,
                "is the object there, and does the function's role allow s3:GetObject (and kms:Decrypt with its key)?",
            ),
            _ => wrong(Class::Transient, "S3 is in trouble"),
        }
    }

    fn error(&self, class: Class, what: &str) -> CallError {
        let message = format!("RUNNER_CLASSES: s3:GetObject of s3://{}/{}: {what}", self.bucket, self.key);
        CallError::new(class, message)
    }

    fn region(&self) -> &str {
        self.config.region().map(|region| region.as_ref()).unwrap_or_default()
    }

    /// "Virtual-hosted-style", but for a bucket with a dot in its name, which no certificate fits.
    fn url(&self) -> String {
        let key = utf8_percent_encode(&self.key, &KEPT);
        let (bucket, region) = (&self.bucket, self.region());
        if let Some(endpoint) = self.endpoint() {
            return format!("{}/{bucket}/{key}", endpoint.trim_end_matches('/'));
        }
        let fips = if self.config.use_fips().unwrap_or_default() { "s3-fips" } else { "s3" };
        let dual = if self.config.use_dual_stack().unwrap_or_default() { ".dualstack" } else { "" };
        // By AWS's partitions.
        let domain = match region.split_once('-') {
            Some(("cn", _)) => "amazonaws.com.cn",
            Some(("eusc", _)) => "amazonaws.eu",
            _ => "amazonaws.com",
        };
        let host = format!("{fips}{dual}.{region}.{domain}");
        match bucket.contains('.') {
            true => format!("https://{host}/{bucket}/{key}"),
            false => format!("https://{bucket}.{host}/{key}"),
        }
    }

    fn endpoint(&self) -> Option<String> {
        let key =
            ServiceConfigKey::builder().service_id("S3").env("AWS_ENDPOINT_URL").profile("endpoint_url");
        let of_service = self
            .config
            .service_config()
            .zip(key.build().ok())
            .and_then(|(config, key)| config.load_config(key));
        of_service.or_else(|| self.config.endpoint_url().map(str::to_owned))
    }

    async fn signed(&self) -> Result<Vec<(&'static str, String)>, CallError> {
        let unsigned = || {
            let why =
                "the request could not be signed: are AWS_REGION and the credentials in the environment?";
            self.error(Class::NeedsOperator, why)
        };
        let provider = self.config.credentials_provider().ok_or_else(unsigned)?;
        let credentials = provider.provide_credentials().await.map_err(|_| unsigned())?;
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let identity = credentials.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region())
            .name("s3")
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .map_err(|_| unsigned())?
            .into();
        let url = self.url();
        let request = SignableRequest::new("GET", &url, std::iter::empty(), SignableBody::Bytes(b""))
            .map_err(|_| unsigned())?;
        let (instructions, _) = sign(request, &params).map_err(|_| unsigned())?.into_parts();
        let known = ["authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token"];
        let headers = instructions.headers().filter_map(|(name, value)| {
            let name = known.into_iter().find(|known| known.eq_ignore_ascii_case(name))?;
            Some((name, value.to_owned()))
        });
        Ok(headers.collect())
    }
}

impl DocumentSource for Object {
    fn fetch<'a>(&'a self, known: Option<&'a str>) -> LocalBoxFuture<'a, Result<Fetched, CallError>> {
        Box::pin(self.get(known))
    }
}
