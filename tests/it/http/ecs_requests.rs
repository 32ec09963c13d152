//! RunTask as it comes over the wire, and everything about it that ECS or this project forbids.

use std::{collections::BTreeSet, ops::RangeInclusive, sync::LazyLock};

use regex_syntax::hir::{Class, HirKind};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunTaskRequest {
    pub cluster: String,
    pub task_definition: String,
    pub count: Option<u32>,
    pub client_token: Option<String>,
    pub started_by: Option<String>,
    pub launch_type: Option<String>,
    #[serde(default)]
    pub capacity_provider_strategy: Vec<Strategy>,
    pub network_configuration: NetworkConfiguration,
    pub overrides: Option<Overrides>,
    #[serde(default)]
    pub tags: Vec<Tag>,
    #[serde(rename = "enableECSManagedTags")]
    pub enable_ecs_managed_tags: Option<bool>,
    pub enable_execute_command: Option<bool>,
    pub propagate_tags: Option<String>,
    pub platform_version: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Strategy {
    pub capacity_provider: String,
    #[serde(default)]
    pub weight: u32,
    #[serde(default)]
    pub base: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkConfiguration {
    pub awsvpc_configuration: AwsVpc,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AwsVpc {
    pub subnets: Vec<String>,
    #[serde(default)]
    pub security_groups: Vec<String>,
    pub assign_public_ip: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Overrides {
    #[serde(default)]
    pub container_overrides: Vec<ContainerOverride>,
    pub cpu: Option<String>,
    pub memory: Option<String>,
    pub ephemeral_storage: Option<EphemeralStorage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContainerOverride {
    pub name: String,
    #[serde(default)]
    pub environment: Vec<Pair>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    pub name: String,
    pub value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EphemeralStorage {
    #[serde(rename = "sizeInGiB")]
    pub size_in_gib: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tag {
    pub key: String,
    pub value: String,
}

/// What the model's constraints and RunTask's documentation forbid, and what no request of this project is.
pub fn not_runnable(input: &RunTaskRequest, overrides: &Value) -> Option<String> {
    let wrong = |what: &str| Some(what.to_owned());
    let token = input.client_token.as_deref().unwrap_or_default();
    let started_by = input.started_by.as_deref().unwrap_or_default();
    let strategy = &input.capacity_provider_strategy;
    let network = &input.network_configuration.awsvpc_configuration;
    if input.count.is_some_and(|count| count != 1) {
        return wrong("count is not 1");
    }
    if !(1..=64).contains(&token.len()) || !token.bytes().all(|byte| (33..=126).contains(&byte)) {
        return wrong("clientToken has 1 to 64 characters of the range 33 to 126");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_/".contains(c);
    if !(1..=128).contains(&started_by.len()) || !started_by.chars().all(plain) {
        return wrong("startedBy has up to 128 letters, numbers, hyphens, slashes and underscores");
    }
    if input.launch_type.is_some() && !strategy.is_empty() {
        return wrong("launchType together with capacityProviderStrategy");
    }
    if strategy.len() > 1 {
        return wrong("more than one capacity provider: Fargate would choose");
    }
    if strategy.iter().any(|it| it.weight == 0 && it.base == 0 || it.weight > 1000 || it.base > 100_000) {
        return wrong("a strategy's weight is 0 to 1000, and not all weights are 0");
    }
    if input.launch_type.as_deref().is_some_and(|it| it != "FARGATE") {
        return wrong("launchType is not FARGATE");
    }
    if !(1..=16).contains(&network.subnets.len()) || network.security_groups.len() > 5 {
        return wrong("awsvpcConfiguration has 1 to 16 subnets and up to 5 security groups");
    }
    if !network.subnets.iter().all(|id| id.starts_with("subnet-"))
        || !network.security_groups.iter().all(|id| id.starts_with("sg-"))
    {
        return wrong("the id of a subnet or security group");
    }
    if network.assign_public_ip.as_deref().is_some_and(|it| !["ENABLED", "DISABLED"].contains(&it)) {
        return wrong("assignPublicIp is ENABLED or DISABLED");
    }
    if input.propagate_tags.as_deref() != Some("TASK_DEFINITION") {
        return wrong("a task without the task definition's tags, which an account's tag policy may demand");
    }
    if input.enable_execute_command == Some(true) {
        return wrong("nobody may open a shell in a runner");
    }
    if input.platform_version.as_deref().is_some_and(str::is_empty)
        || input.enable_ecs_managed_tags == Some(false)
    {
        return wrong("platformVersion or enableECSManagedTags");
    }
    let length = if overrides.is_null() { 0 } else { overrides.to_string().chars().count() };
    if length > 8192 {
        return Some(format!("overrides of {length} characters: 8192 are allowed"));
    }
    if let Some(overrides) = &input.overrides {
        if overrides.container_overrides.len() > 1 {
            return wrong("overrides for more than one container");
        }
        let pairs = overrides.container_overrides.iter().flat_map(|container| &container.environment);
        let names: Vec<&str> = pairs.map(|pair| pair.name.as_str()).collect();
        if names.iter().any(|name| name.is_empty())
            || names.iter().collect::<BTreeSet<_>>().len() < names.len()
        {
            return wrong("an environment variable without a name, or twice");
        }
        let number = |text: &Option<String>| text.as_ref().is_none_or(|text| text.parse::<u32>().is_ok());
        if !number(&overrides.cpu) || !number(&overrides.memory) {
            return wrong("cpu and memory are numbers");
        }
    }
    // Of EC2 and Managed Instances: "you cannot use a public IP address", and disks are the machine's.
    let provider = strategy.first().map_or("FARGATE", |it| it.capacity_provider.as_str());
    if !provider.starts_with("FARGATE")
        && (network.assign_public_ip.as_deref() == Some("ENABLED")
            || input.overrides.as_ref().is_some_and(|it| it.ephemeral_storage.is_some()))
    {
        return wrong("only Fargate gives public addresses and disks of a size");
    }
    // A task has 50 at most: these, the three that come when its runner takes a job, and the task definition's.
    let most = if input.tags.iter().any(|tag| tag.key == "gha:class") { 16 } else { 13 };
    if input.tags.len() > most {
        return Some(format!(
            "{} tags, which leave less than {} for the task definition's",
            input.tags.len(),
            50 - 3 - most
        ));
    }
    bad_tags(&input.tags)
}

/// At most 50, no key twice, no `aws:` in front, and the characters of the model's pattern.
pub fn bad_tags(tags: &[Tag]) -> Option<String> {
    static PATTERN: LazyLock<Vec<RangeInclusive<char>>> = LazyLock::new(|| {
        let parsed = regex_syntax::parse(r"[\p{L}\p{Z}\p{N}_.:/=+\-@]").expect("ECS's pattern");
        let HirKind::Class(Class::Unicode(class)) = parsed.into_kind() else { unreachable!("a class") };
        class.iter().map(|range| range.start()..=range.end()).collect()
    });
    let allowed = |c: char| PATTERN.iter().any(|range| range.contains(&c));
    let is_aws = |text: &str| text.to_lowercase().starts_with("aws:");
    let keys: BTreeSet<&str> = tags.iter().map(|tag| tag.key.as_str()).collect();
    if tags.len() > 50 || keys.len() < tags.len() {
        return Some("more than 50 tags, or a key twice".to_owned());
    }
    let wrong = tags.iter().find(|tag| {
        let (key, value) = (tag.key.chars().count(), tag.value.chars().count());
        !(1..=128).contains(&key)
            || value > 256
            || is_aws(&tag.key)
            || is_aws(&tag.value)
            || !tag.key.chars().chain(tag.value.chars()).all(allowed)
    });
    wrong.map(|tag| format!("the tag {}={}", tag.key, tag.value))
}
