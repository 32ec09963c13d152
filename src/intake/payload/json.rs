//! JSON from outside. What is wrong with it is said by its place; its values never are: payloads are private.

use serde::{Deserialize, de::DeserializeOwned};

/// What cannot be read, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

/// Reads a value of an EventBridge `detail` or another JSON text, with its errors at `path`.
pub fn read_json<T: DeserializeOwned>(json: &str, path: &str) -> Result<T, Unreadable> {
    from_json(json, path)
}

/// Parses JSON; the error has the path and what was expected there, never a value: payloads are private.
pub(super) fn from_json<'a, T: Deserialize<'a>>(json: &'a str, path: &str) -> Result<T, Unreadable> {
    // serde would also read a struct from an array, field by field in order: no payload is one.
    if json.trim_start().starts_with('[') {
        let place = if path.is_empty() { "the message" } else { path.trim_end_matches('.') };
        return Err(Unreadable(format!("{place} is of the wrong type, expected an object")));
    }
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let parsed = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let field = error.path().to_string();
        describe(path, &field, error.inner())
    })?;
    deserializer.end().map_err(|error| describe(path, ".", &error))?;
    Ok(parsed)
}

fn describe(path: &str, field: &str, error: &serde_json::Error) -> Unreadable {
    use serde_json::error::Category;
    if error.classify() != Category::Data {
        let (line, column) = (error.line(), error.column());
        return Unreadable(format!("not JSON (line {line}, column {column}): send the payload as it came"));
    }
    let text = error.to_string();
    let place = |name: &str| match field {
        "." => format!("{path}{name}"),
        field if name.is_empty() => format!("{path}{field}"),
        field => format!("{path}{field}.{name}"),
    };
    // serde's own words may quote the value: only what stood expected, or which field is missing, is kept.
    let quoted = |text: &str| text.split('`').nth(1).unwrap_or_default().to_owned();
    if text.starts_with("missing field") {
        return Unreadable(format!("{} is missing", place(&quoted(&text))));
    }
    let place = match text.starts_with("unknown field") {
        // Its name is somebody's text: the object that it is in is named.
        true => format!("{path}{}", field.rsplit_once('.').map_or("", |(parent, _)| parent)),
        false => place(""),
    };
    let place = place.trim_end_matches('.').to_owned();
    let place = if place.is_empty() { "the message".to_owned() } else { place };
    if text.starts_with("unknown field") {
        return Unreadable(format!("{place} has a field that does not belong there"));
    }
    match text.split_once(", expected ").map(|(_, expected)| expected) {
        Some(expected) => {
            let expected = expected.split(" at line ").next().unwrap_or_default();
            Unreadable(format!("{place} is of the wrong type, expected {expected}"))
        }
        None => Unreadable(format!("{place} cannot be read")),
    }
}
