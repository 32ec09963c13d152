//! The rules of the house, held against the source: layers, and functions that fit on a screen.

use std::{
    collections::{BTreeMap, BTreeSet},
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

/// What a text takes from this crate, each as a path without the `crate` in front: `a::b`, and of `a::{b, c::d}` both.
fn taken(text: &str, module: &str) -> Vec<String> {
    fn spread(before: &str, tree: &str, paths: &mut Vec<String>) {
        if tree.is_empty() {
            return;
        }
        let mut rest = tree;
        let end =
            rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
        let path = rest[..end].trim_end_matches(':');
        rest = &rest[end..];
        let path = [before, path].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("::");
        let Some(group) = rest.strip_prefix('{') else { return paths.push(path) };
        let (mut depth, mut begin) = (0, 0);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                ',' | '}' if depth == 0 => {
                    spread(&path, group[begin..at].trim(), paths);
                    begin = at + 1;
                    if c == '}' {
                        return;
                    }
                }
                '}' => depth -= 1,
                _ => {}
            }
        }
    }
    let mut paths = Vec::new();
    for (at, found) in text.match_indices("crate::") {
        if !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
            spread("", &text[at + found.len()..], &mut paths);
        }
    }
    let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    for (at, found) in text.match_indices("super::") {
        if !text[..at].ends_with(':') {
            spread(parent, &text[at + found.len()..], &mut paths);
        }
    }
    paths
}

/// Each file as a module, and its code: comments may point anywhere, and tests may use what they test.
fn modules() -> Vec<(String, String)> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    let module = |(path, text): (PathBuf, String)| {
        let inside = path.strip_prefix(root).expect("a source").with_extension("");
        let module = inside.iter().map(|part| part.to_str().expect("a name")).collect::<Vec<_>>().join("::");
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        (module, lines.flat_map(|line| [line, "\n"]).collect())
    };
    sources().into_iter().map(module).filter(|(module, _)| !module.ends_with("tests")).collect()
}

#[test]
fn no_layer_knows_a_higher_one() {
    let mut wrong = Vec::new();
    for (module, code) in modules() {
        let root = |path: &str| path.split("::").next().unwrap_or_default().to_owned();
        if matches!(root(&module).as_str(), "lib" | "bin") {
            continue;
        }
        for other in taken(&code, &module) {
            if layer(&root(&other)) > layer(&root(&module)) {
                wrong.push(format!("{module} uses {other}"));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

/// A file and those below it are one: `a` declares `a::b`, which may use what is in `a`.
#[test]
fn no_circle_of_files() {
    let modules = modules();
    let names: BTreeSet<&str> = modules.iter().map(|(module, _)| module.as_str()).collect();
    let file = |path: &str| {
        let ends = path.match_indices("::").map(|(at, _)| at).chain([path.len()]);
        ends.filter_map(|end| names.get(&path[..end]).copied()).last()
    };
    let is_below = |a: &str, b: &str| a == b || a.strip_prefix(b).is_some_and(|rest| rest.starts_with("::"));
    let mut uses: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (module, code) in &modules {
        let others = taken(code, module).into_iter().filter_map(|path| file(&path));
        let others = others.filter(|other| !is_below(other, module) && !is_below(module, other));
        uses.insert(module, others.collect());
    }
    assert!(uses.values().map(BTreeSet::len).sum::<usize>() > 200, "the arrows are not read");
    // Who uses nobody that is left is in no circle, nor is whom nobody uses.
    loop {
        let before = uses.len();
        let left: BTreeSet<&str> = uses.keys().copied().collect();
        uses.values_mut().for_each(|others| others.retain(|other| left.contains(other)));
        let used: BTreeSet<&str> = uses.values().flatten().copied().collect();
        uses.retain(|module, others| !others.is_empty() && used.contains(module));
        if uses.len() == before {
            break;
        }
    }
    assert!(uses.is_empty(), "these use each other, or lie between two that do: {uses:#?}");
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
