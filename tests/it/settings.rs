//! docs/settings.md's table of variables, what the functions read, and what template.yaml sets: the same three times.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use gha_fargate_runners::config::{AuthorConfig, DispatchConfig, ReconcileConfig, WebhookConfig};
use proptest::{
    strategy::{Strategy, ValueTree},
    string::string_regex,
    test_runner::TestRunner,
};

type Names = BTreeSet<String>;

/// The names that a function asks its environment for.
fn read(with: &[(&str, &str)], read: impl Fn(&dyn Fn(&str) -> Option<String>)) -> Names {
    let asked = RefCell::new(Names::new());
    read(&|name: &str| {
        asked.borrow_mut().insert(name.to_owned());
        with.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    });
    let mut asked = asked.into_inner();
    // Lambda sets it.
    asked.remove("AWS_LAMBDA_FUNCTION_NAME");
    asked
}

/// By function; `pool` is reconcile with a warm pool.
fn all_read() -> BTreeMap<&'static str, Names> {
    let secret = ("GITHUB_SECRET_ARN", "arn:aws:secretsmanager:x");
    BTreeMap::from([
        ("webhook", read(&[], |get| drop(WebhookConfig::read(get)))),
        ("dispatch", read(&[secret], |get| drop(DispatchConfig::read(get)))),
        ("reconcile", read(&[secret], |get| drop(ReconcileConfig::read(get)))),
        ("author", read(&[secret], |get| drop(AuthorConfig::read(get)))),
        ("pool", read(&[secret, ("WARM_POOL_SIZE", "1")], |get| drop(ReconcileConfig::read(get)))),
    ])
}

/// The table's rows: the names of each variable by function.
fn documented() -> BTreeMap<String, Names> {
    let page = include_str!("../../docs/settings.md");
    let table = page.split_once("| variable | function |").expect("the table").1;
    let mut names: BTreeMap<String, Names> = BTreeMap::new();
    for row in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        for function in cells[2].split(", ") {
            let variables = cells[1].split(", ").map(|name| name.trim_matches('`').to_owned());
            names.entry(function.to_owned()).or_default().extend(variables);
        }
    }
    names
}

#[test]
fn the_page_lists_what_is_read() {
    let documented = documented();
    let of = |function: &str| documented.get(function).cloned().unwrap_or_default();
    // Read by the logs and by the TLS client.
    let elsewhere = ["RUST_LOG", "SSL_CERT_FILE", "SSL_CERT_DIR"];
    for (function, read) in all_read() {
        let mut listed = &of(function) | &of("all");
        if function == "pool" {
            listed = &listed | &of("reconcile");
        }
        listed.retain(|name| !elsewhere.contains(&name.as_str()));
        assert_eq!(listed, read, "{function}: docs/settings.md (left) and src/config.rs (right)");
    }
}

#[test]
fn the_template_sets_what_is_read() {
    let template = include_str!("../../template.yaml");
    let read = all_read();
    for (function, resource) in [
        ("webhook", "WebhookFunction"),
        ("dispatch", "DispatchFunction"),
        ("author", "AuthorFunction"),
        ("pool", "ReconcileFunction"),
    ] {
        let rest = template.split_once(&format!("\n  {resource}:\n")).expect("the function").1;
        let variables = rest.split_once("        Variables:\n").expect("its variables").1;
        let set: Names = variables
            .lines()
            .take_while(|line| line.starts_with("          ") || line.trim().is_empty())
            .filter_map(|line| {
                let (name, _) = line.strip_prefix("          ")?.split_once(':')?;
                let is_name = name
                    .bytes()
                    .all(|byte| byte.is_ascii_uppercase() || byte == b'_' || byte.is_ascii_digit());
                is_name.then(|| name.to_owned())
            })
            .collect();
        assert_eq!(set, read[function], "{function}: template.yaml (left) and src/config.rs (right)");
    }
}

/// A parameter's definition, as far as it says which values it takes.
#[derive(Debug, Default)]
struct Parameter {
    pattern: Option<String>,
    values: Vec<String>,
}

/// The template's parameters.
fn parameters() -> BTreeMap<String, Parameter> {
    let template = include_str!("../../template.yaml");
    let section = template.split_once("\nParameters:\n").expect("parameters").1;
    let section = section.split_once("\nRules:\n").expect("rules").0;
    let mut found: BTreeMap<String, Parameter> = BTreeMap::new();
    let mut name = String::new();
    for line in section.lines() {
        if let Some(begins) = line.strip_prefix("  ").filter(|rest| rest.starts_with(char::is_alphabetic)) {
            name = begins.trim_end_matches(':').to_owned();
        } else if let Some((key, value)) = line.trim_start().split_once(": ") {
            let parameter = found.entry(name.clone()).or_default();
            match key {
                "AllowedPattern" => parameter.pattern = Some(value.trim_matches('\'').to_owned()),
                "AllowedValues" => {
                    let quoted = value.trim_matches(['[', ']']).split(", ");
                    let values = quoted.map(|value| value.trim_matches('\'').to_owned());
                    parameter.values = values.collect();
                }
                _ => {}
            }
        }
    }
    found
}

/// Variable -> the parameter that it is set to, for one function of the template, and whether only sometimes: an empty one
/// then stands for something that the stack makes, or for nothing.
fn set_to(function: &str) -> BTreeMap<String, (String, bool)> {
    let template = include_str!("../../template.yaml");
    let rest = template.split_once(&format!("\n  {function}:\n")).expect("the function").1;
    let variables = rest.split_once("        Variables:\n").expect("its variables").1;
    let known = parameters();
    let mut set = BTreeMap::new();
    for line in variables.lines().take_while(|line| line.starts_with("          ")) {
        let Some((variable, value)) = line.trim().split_once(": ") else { continue };
        let named = value.split("!Ref ").skip(1).map(|rest| rest.trim_end_matches([']', ',']));
        let named = named.filter_map(|name| name.split([',', ']']).next());
        if let Some(parameter) = named.filter(|name| known.contains_key(*name)).last() {
            set.insert(variable.to_owned(), (parameter.to_owned(), value.contains("!If")));
        }
    }
    set
}

/// `(?!.*ENDING$)` and the rest of a pattern: CloudFormation's are Java's, and proptest's know no look-ahead.
fn forbidden_ending(pattern: &str) -> (Option<&str>, &str) {
    match pattern.strip_prefix("(?!.*").and_then(|rest| rest.split_once("$)")) {
        Some((ending, rest)) => (Some(ending), rest),
        None => (None, pattern),
    }
}

/// As the console's field leaves it: on one line.
fn certificate() -> String {
    let made = rcgen::generate_simple_self_signed(["ghe.acme.test".to_owned()]).expect("a certificate");
    made.cert.pem().replace('\n', " ")
}

/// What the stack takes, no function refuses at its start: a stack that is refused is mended at once, a function that
/// does not start when the first job waits.
#[test]
fn every_value_that_the_template_accepts_is_accepted() {
    let valid: BTreeMap<&str, &str> = BTreeMap::from([
        ("ECS_CLUSTER", "runners"),
        ("SUBNET_IDS", "subnet-1"),
        ("SECURITY_GROUP_IDS", "sg-1"),
        ("WEBHOOK_SECRET_ARN", "arn:aws:secretsmanager:x"),
        ("GITHUB_SECRET_ARN", "arn:aws:secretsmanager:x"),
        ("ORGANIZATION", "acme"),
    ]);
    let parameters = parameters();
    let mut runner = TestRunner::deterministic();
    let mut tried = BTreeSet::new();
    for (function, resource) in [
        ("webhook", "WebhookFunction"),
        ("dispatch", "DispatchFunction"),
        ("author", "AuthorFunction"),
        ("reconcile", "ReconcileFunction"),
    ] {
        for (variable, (parameter, only_sometimes)) in set_to(resource) {
            let definition = &parameters[&parameter];
            let mut values = definition.values.clone();
            if let Some(pattern) = &definition.pattern {
                let (ending, pattern) = forbidden_ending(pattern);
                let strategy = string_regex(pattern).expect("a pattern");
                let made = (0..200).map(|_| strategy.new_tree(&mut runner).expect("a value").current());
                values.extend(made.filter(|value| ending.is_none_or(|ending| !value.ends_with(ending))));
            }
            // No pattern makes certificates.
            if parameter == "CaCertificates" {
                values.push(certificate());
            }
            values.retain(|value| !value.is_empty() || !only_sometimes);
            assert!(!values.is_empty(), "{parameter} takes anything");
            for value in values {
                let get = |name: &str| match name == variable {
                    true => Some(value.clone()),
                    false => valid.get(name).map(|value| (*value).to_owned()),
                };
                let mistakes = match function {
                    "webhook" => WebhookConfig::read(get).err(),
                    "dispatch" => DispatchConfig::read(get).err(),
                    "author" => AuthorConfig::read(get).err(),
                    _ => ReconcileConfig::read(get).err(),
                };
                assert_eq!(mistakes, None, "{function}: {parameter}={value:?}");
            }
            tried.insert(parameter);
        }
    }
    for parameter in ["Organization", "RunnerLabels", "MaxRunners", "WarmPoolSize", "Capacity", "SubnetIds"] {
        assert!(tried.contains(parameter), "{parameter}: {tried:?}");
    }
}
