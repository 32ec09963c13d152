//! GitHub Apps that are made from a manifest ("Registering a GitHub App from a manifest", GitHub Docs), and what an
//! App is afterwards. No I/O and no clock.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use time::{Duration, OffsetDateTime};

/// "You must complete this step in the GitHub App Manifest flow within one hour."
const CODE_LIFETIME: Duration = Duration::hours(1);
/// "The name cannot be longer than 34 characters."
const LONGEST_NAME: usize = 34;

/// "GitHub App Manifest parameters".
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "what is not read is still checked for its type")]
pub struct Manifest {
    #[serde(default)]
    pub name: String,
    pub url: String,
    hook_attributes: Option<HookAttributes>,
    pub redirect_url: String,
    #[serde(default)]
    callback_urls: Vec<String>,
    setup_url: Option<String>,
    description: Option<String>,
    public: Option<bool>,
    #[serde(default)]
    default_events: Vec<String>,
    #[serde(default)]
    default_permissions: BTreeMap<String, String>,
    request_oauth_on_install: Option<bool>,
    setup_on_update: Option<bool>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "an App's webhook is active where it has a URL")]
struct HookAttributes {
    url: String,
    active: Option<bool>,
}

impl Manifest {
    pub fn read(text: &str) -> Result<Manifest, String> {
        let manifest: Manifest = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let is_url = |url: &str| url.starts_with("https://") || url.starts_with("http://");
        let urls = [Some(&manifest.url), Some(&manifest.redirect_url), manifest.setup_url.as_ref()];
        if let Some(url) = urls.into_iter().flatten().find(|url| !is_url(url)) {
            return Err(format!("{url} is no URL"));
        }
        if !manifest.hook_attributes.as_ref().is_some_and(|hook| is_url(&hook.url)) {
            return Err("hook_attributes.url is required where events are asked for".to_owned());
        }
        for (name, access) in &manifest.default_permissions {
            let known =
                ["actions", "administration", "checks", "metadata", "organization_self_hosted_runners"];
            if !known.contains(&name.as_str()) || !["read", "write"].contains(&access.as_str()) {
                return Err(format!("default_permissions: {name}: {access}"));
            }
        }
        // "Default events unsupported": an event needs the permission that covers it.
        for event in &manifest.default_events {
            if event != "workflow_job" || !manifest.default_permissions.contains_key("actions") {
                return Err(format!("default_events: {event} is not supported with these permissions"));
            }
        }
        Ok(manifest)
    }
}

/// What an App is.
#[derive(Debug, Clone, Default)]
pub struct Profile {
    pub name: String,
    pub owner: String,
    pub permissions: BTreeMap<String, String>,
    pub events: Vec<String>,
    pub hook: Hook,
    pub setup_url: Option<String>,
}

impl Profile {
    pub fn slug(&self) -> String {
        self.name.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-")
    }
}

/// Where an App's events go.
#[derive(Debug, Clone)]
pub struct Hook {
    pub url: String,
    pub secret: String,
    pub content_type: String,
    pub insecure_ssl: String,
}

impl Default for Hook {
    fn default() -> Self {
        let text = str::to_owned;
        Hook {
            url: String::new(),
            secret: String::new(),
            content_type: text("json"),
            insecure_ssl: text("0"),
        }
    }
}

/// An installation beyond its id.
#[derive(Debug, Clone, Default)]
pub struct Installed {
    pub suspended: bool,
    /// Only selected repositories.
    pub selected: bool,
    /// A person's account, not an organisation's.
    pub on_person: bool,
    /// What it was granted, where that is not what the App asks for today.
    pub permissions: Option<BTreeMap<String, String>>,
}

/// The pages of github.com that lead to an App, and who looks at them.
#[derive(Debug)]
pub struct Signup {
    /// Whether the person at the browser owns the organisation.
    pub is_owner: bool,
    /// Names of Apps that exist.
    pub taken: BTreeSet<String>,
    /// Installing asks an owner instead.
    pub needs_approval: bool,
    /// The installation is made for selected repositories only.
    pub selected: bool,
    offered: BTreeMap<u64, (Manifest, String)>,
    codes: BTreeMap<String, (Profile, OffsetDateTime)>,
    count: u64,
}

impl Default for Signup {
    fn default() -> Self {
        Signup {
            is_owner: true,
            taken: BTreeSet::new(),
            needs_approval: false,
            selected: false,
            offered: BTreeMap::new(),
            codes: BTreeMap::new(),
            count: 0,
        }
    }
}

impl Signup {
    /// The form of a manifest that was posted: its number.
    pub fn offer(&mut self, manifest: Manifest, state: &str) -> u64 {
        self.count += 1;
        self.offered.insert(self.count, (manifest, state.to_owned()));
        self.count
    }

    /// "Create GitHub App": where the browser is sent, or what is wrong with the name.
    pub fn create(
        &mut self,
        form: u64,
        name: &str,
        owner: &str,
        now: OffsetDateTime,
    ) -> Result<String, String> {
        let (manifest, state) = self.offered.get(&form).cloned().ok_or("the form is gone")?;
        if name.is_empty() || name.len() > LONGEST_NAME {
            return Err(format!("Name is too long (maximum is {LONGEST_NAME} characters)"));
        }
        if !self.taken.insert(name.to_lowercase()) {
            return Err("Name has already been taken".to_owned());
        }
        self.count += 1;
        let code = format!("{:040x}", 0xa180_b1a3_d263_u64.wrapping_mul(self.count));
        let hook = manifest.hook_attributes.map(|hook| hook.url).unwrap_or_default();
        let profile = Profile {
            name: name.to_owned(),
            owner: owner.to_owned(),
            permissions: manifest.default_permissions,
            events: manifest.default_events,
            hook: Hook { url: hook, secret: format!("whsec{:035x}", self.count), ..Hook::default() },
            setup_url: manifest.setup_url,
        };
        self.codes.insert(code.clone(), (profile, now));
        Ok(format!("{}?code={code}&state={state}", manifest.redirect_url))
    }

    /// `POST /app-manifests/{code}/conversions`: once, and within the hour.
    pub fn convert(&mut self, code: &str, now: OffsetDateTime) -> Option<Profile> {
        let (profile, at) = self.codes.remove(code)?;
        (now - at < CODE_LIFETIME).then_some(profile)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::macros::datetime;

    use super::*;

    fn manifest() -> serde_json::Value {
        json!({
            "name": "acme-fargate-runners",
            "url": "https://github.com/acme",
            "hook_attributes": {"url": "https://example.com/", "active": true},
            "redirect_url": "http://127.0.0.1:1/created",
            "default_events": ["workflow_job"],
            "default_permissions": {"actions": "read", "organization_self_hosted_runners": "write"},
        })
    }

    #[test]
    fn a_manifest_is_read_strictly() {
        assert!(Manifest::read(&manifest().to_string()).is_ok());
        let wrong = [
            ("webhook", json!("https://example.com/")),
            ("redirect_url", json!("127.0.0.1:1/created")),
            ("hook_attributes", json!({"active": true})),
            ("hook_attributes", json!(null)),
            ("default_permissions", json!({"self_hosted_runners": "write"})),
            ("default_permissions", json!({"actions": "admin"})),
            ("default_permissions", json!({"metadata": "read"})),
            ("default_events", json!(["workflow_jobs"])),
        ];
        for (field, value) in wrong {
            let mut manifest = manifest();
            manifest[field] = value;
            assert!(Manifest::read(&manifest.to_string()).is_err(), "{manifest}");
        }
    }

    #[test]
    fn a_code_is_good_once_and_for_an_hour_and_a_name_for_one_app() {
        let now = datetime!(2026-01-01 0:00 UTC);
        let mut signup = Signup::default();
        let create = |name: &str, signup: &mut Signup| {
            let form =
                signup.offer(Manifest::read(&manifest().to_string()).expect("a manifest"), "the-state");
            signup.create(form, name, "acme", now)
        };
        let address = create("one", &mut signup).expect("an address");
        let code = address.split(['=', '&']).nth(1).expect("a code").to_owned();
        assert_eq!(address, format!("http://127.0.0.1:1/created?code={code}&state=the-state"));
        assert!(create("ONE", &mut signup).is_err(), "the name is taken");
        assert!(create(&"x".repeat(35), &mut signup).is_err(), "the name is too long");
        assert_eq!(signup.convert(&code, now).map(|profile| profile.slug()), Some("one".to_owned()));
        assert!(signup.convert(&code, now).is_none(), "once");
        let address = create("two", &mut signup).expect("an address");
        let code = address.split(['=', '&']).nth(1).expect("a code").to_owned();
        assert!(signup.convert(&code, now + Duration::hours(1)).is_none(), "for an hour");
    }
}
