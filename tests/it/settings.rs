//! README's table of variables, what the functions read, and what template.yaml sets: the same three times.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use gha_fargate_runners::config::{DispatchConfig, ReconcileConfig, WebhookConfig};

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
        ("pool", read(&[secret, ("WARM_POOL_SIZE", "1")], |get| drop(ReconcileConfig::read(get)))),
    ])
}

/// README's rows: the names of each variable by function.
fn documented() -> BTreeMap<String, Names> {
    let readme = include_str!("../../README.md");
    let table = readme.split_once("| variable | function |").expect("the table").1;
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
fn the_readme_lists_what_is_read() {
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
        assert_eq!(listed, read, "{function}: README (left) and src/config.rs (right)");
    }
}

#[test]
fn the_template_sets_what_is_read() {
    let template = include_str!("../../template.yaml");
    let read = all_read();
    for (function, resource) in
        [("webhook", "WebhookFunction"), ("dispatch", "DispatchFunction"), ("pool", "ReconcileFunction")]
    {
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
