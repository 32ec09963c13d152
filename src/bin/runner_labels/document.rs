//! A document of runner classes in a file: JSON, or YAML, which becomes JSON.

use std::{collections::BTreeSet, fs, path::Path};

use gha_fargate_runners::{
    intake::classes::{self, Classes, RunnerClass},
    ports::RunnerGroup,
};
use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};
use serde_json::{Map, Value};

/// What is wrong with a document: a sentence a line.
pub type Wrong = Vec<String>;

/// The document as the functions read it: JSON.
pub fn json(path: &Path) -> Result<String, Wrong> {
    let text = fs::read_to_string(path).map_err(|error| vec![format!("{}: {error}", path.display())])?;
    if text.trim_start().starts_with('{') {
        return Ok(text);
    }
    let documents = MarkedYaml::load_from_str(&text).map_err(|error| vec![error.to_string()])?;
    let root = documents.first().ok_or_else(|| vec!["the document: it is empty".to_owned()])?;
    let value = value(root)
        .map_err(|line| vec![format!("line {line}: should be text, a number, a list or a map")])?;
    Ok(value.to_string())
}

/// The classes of a document that has no mistakes.
pub fn read(path: &Path, common: &[String]) -> Result<Classes, Wrong> {
    let common: BTreeSet<String> = common.iter().map(|label| label.to_lowercase()).collect();
    classes::read(&json(path)?, &common).map_err(|mistakes| mistakes.0)
}

/// The line of what JSON does not have.
fn value(node: &MarkedYaml<'_>) -> Result<Value, usize> {
    let line = node.span.start.line();
    Ok(match &node.data {
        YamlData::Value(Scalar::Null) => Value::Null,
        YamlData::Value(Scalar::Boolean(is)) => Value::Bool(*is),
        YamlData::Value(Scalar::Integer(number)) => Value::from(*number),
        YamlData::Value(Scalar::FloatingPoint(number)) => Value::from(number.into_inner()),
        YamlData::Value(Scalar::String(text)) => Value::from(text.as_ref()),
        YamlData::Sequence(items) => items.iter().map(value).collect::<Result<Vec<_>, _>>()?.into(),
        YamlData::Mapping(pairs) => {
            let pair = |(key, item): (&MarkedYaml<'_>, &MarkedYaml<'_>)| {
                Ok((key.data.as_str().ok_or(line)?.to_owned(), value(item)?))
            };
            pairs.iter().map(pair).collect::<Result<Map<_, _>, usize>>()?.into()
        }
        _ => return Err(line),
    })
}

/// One class, for people.
pub fn line(class: &RunnerClass) -> String {
    let listed = |items: Vec<String>| items.join(", ");
    let or = |text: String| if text.is_empty() { "the stack's own".to_owned() } else { text };
    let capacity = or(listed(class.capacity.iter().map(ToString::to_string).collect()));
    let size = or(class.default_size.map(|size| size.to_string()).unwrap_or_default());
    let group = or(match &class.group {
        Some(RunnerGroup::Id(id)) => id.to_string(),
        Some(RunnerGroup::Named(name)) => name.clone(),
        None => String::new(),
    });
    let most = |limit: Option<u32>| limit.map_or("no limit".to_owned(), |limit| limit.to_string());
    format!(
        "{}: labels {}; size {size}; capacity {capacity}; group {group}; runners {}, for one owner {}, for one repository {}",
        class.name,
        listed(class.labels.iter().cloned().collect()),
        most(class.max_runners),
        most(class.max_runners_per_owner),
        most(class.max_runners_per_repository),
    )
}
