//! The rules of the house, held against the source: layers, and functions that fit on a screen.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// From low to high. What a layer uses is in it, or lower.
const LAYERS: [&[&str]; 8] = [
    &["env", "error", "ids", "exit"],
    &["fargate"],
    &["ports"],
    &["protocol"],
    &["intake"],
    &["lambda"],
    &["flows"],
    &["config", "adapters", "runner_init"],
];

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a text");
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut found);
    assert!(found.len() > 40, "only {} files", found.len());
    found
}

fn layer(module: &str) -> usize {
    let layer = LAYERS.iter().position(|modules| modules.contains(&module));
    layer.unwrap_or_else(|| panic!("{module} is in no layer"))
}

/// The modules at the root of the crate that a text names: `crate::a`, and in `use crate::{a…, b…}`.
fn named(text: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for (at, found) in text.match_indices("crate::") {
        let rest = &text[at + found.len()..];
        let word = |text: &str| -> String {
            text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
        };
        let Some(group) = rest.strip_prefix('{') else {
            modules.push(word(rest));
            continue;
        };
        let (mut depth, mut item) = (0, String::new());
        for c in group.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => modules.push(word(std::mem::take(&mut item).trim())),
                _ if depth == 0 => item.push(c),
                _ => {}
            }
        }
        modules.push(word(item.trim()));
    }
    modules.retain(|module| !module.is_empty());
    modules
}

#[test]
fn no_layer_knows_a_higher_one() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let inside = path.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).expect("a source");
        let first = inside.iter().next().and_then(|part| part.to_str()).unwrap_or_default();
        let module = first.trim_end_matches(".rs");
        if matches!(module, "lib" | "bin") {
            continue;
        }
        // Comments may point anywhere.
        let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        for other in named(&code) {
            if layer(&other) > layer(module) {
                wrong.push(format!("{} uses {other}", inside.display()));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn every_function_fits_on_a_screen() {
    const MOST: usize = 60;
    let mut long = Vec::new();
    for (path, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let begins = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            let begins = begins.trim_start_matches("pub(super) ").trim_start_matches("async ");
            // A table is its rows; a function of a trait has no body.
            let Some(name) = begins.strip_prefix("fn ").filter(|_| !line.contains(" / ")) else { continue };
            let indent = &line[..line.len() - line.trim_start().len()];
            let length = 1 + lines[at..].iter().position(ends_of(indent)).unwrap_or_default();
            if length > MOST {
                long.push(format!("{}:{}: fn {name}: {length} lines", path.display(), at + 1));
            }
        }
    }
    assert_eq!(long, [""; 0]);
}

/// The line that ends a function of that indentation: its brace, or the semicolon of one without a body.
fn ends_of(indent: &str) -> impl Fn(&&str) -> bool {
    move |line| {
        let rest = line.strip_prefix(indent);
        rest.is_some_and(|rest| {
            rest == "}" || (!rest.starts_with(' ') && (rest.ends_with(';') || rest.ends_with('}')))
        })
    }
}
