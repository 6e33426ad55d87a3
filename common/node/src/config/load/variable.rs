//! Finding the value that an environment variable means.

use toml::{Table, Value};

use crate::config::{FieldDoc, Shape};

/// The key that a variable (without the prefix) means, and its shape. `table` holds the map entries known so far.
pub(super) fn find_variable(
    fields: &[FieldDoc],
    rest: &str,
    table: Option<&Table>,
) -> Option<(Vec<String>, Shape)> {
    fields.iter().find_map(|field| {
        let after = rest.strip_prefix(&field.key.to_ascii_uppercase())?;
        let inside = table
            .and_then(|table| table.get(field.key))
            .and_then(Value::as_table);
        let (mut path, shape) = match (after.strip_prefix('_'), field.shape.required()) {
            (None, _) if after.is_empty() && !field.shape.is_table() => {
                (Vec::new(), field.shape.clone())
            }
            (Some(after), Shape::Section(section)) => {
                find_variable(&section().fields, after, inside)?
            }
            (Some(after), Shape::Map(inner)) => find_entry(inner, after, inside)?,
            _ => return None,
        };
        path.insert(0, field.key.to_owned());
        Some((path, shape))
    })
}

/// As [`find_variable`], for what follows the key of a map: the name of an entry, then a key of its section.
fn find_entry(inner: &Shape, rest: &str, entries: Option<&Table>) -> Option<(Vec<String>, Shape)> {
    let known = |wanted: &str| {
        let name =
            entries.and_then(|entries| entries.keys().find(|name| variable_name(name) == wanted));
        name.cloned().unwrap_or_else(|| wanted.to_ascii_lowercase())
    };
    let Shape::Section(section) = inner.required() else {
        return (!rest.is_empty() && !inner.is_table()).then(|| (vec![known(rest)], inner.clone()));
    };
    let fields = section().fields;
    // A name and a key may both hold `_`: the longest key that fits wins.
    rest.match_indices('_').find_map(|(at, _)| {
        let (name, key) = (rest.get(..at)?, rest.get(at + 1..)?);
        let name = (!name.is_empty()).then(|| known(name))?;
        let inside = entries
            .and_then(|entries| entries.get(&name))
            .and_then(Value::as_table);
        let (mut path, shape) = find_variable(&fields, key, inside)?;
        path.insert(0, name);
        Some((path, shape))
    })
}

/// How the name of a map entry is written in a variable.
fn variable_name(name: &str) -> String {
    name.chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect()
}

/// Every variable that can be set without knowing the names of map entries.
pub(super) fn variables(fields: &[FieldDoc], prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    for field in fields {
        let name = format!("{prefix}{}", field.key.to_ascii_uppercase());
        match field.shape.required() {
            Shape::Section(section) => {
                found.extend(variables(&section().fields, &format!("{name}_")))
            }
            _ if !field.shape.is_table() => found.push(name),
            _ => {}
        }
    }
    found
}

/// Whether Kubernetes sets such a variable for a service: `X_SERVICE_HOST`, `X_SERVICE_PORT[_NAME]`,
/// `X_PORT=tcp://…`, `X_PORT_1935_TCP[_ADDR|_PORT|_PROTO]`. For the service `headwater` there is no `X_` after our
/// prefix. A mistyped key must not pass for one, so the value of a port is looked at, too.
pub(super) fn is_service_link(rest: &str, text: &str) -> bool {
    let rest = format!("_{rest}");
    let url = ["tcp://", "udp://", "sctp://"]
        .iter()
        .any(|scheme| text.starts_with(scheme));
    let port_link = || {
        rest.match_indices("_PORT_").any(|(at, mark)| {
            let mut parts = rest.get(at + mark.len()..).unwrap_or_default().split('_');
            parts.next().is_some_and(|port| port.parse::<u16>().is_ok())
                && matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"))
        })
    };
    rest.ends_with("_SERVICE_HOST")
        || rest.contains("_SERVICE_PORT") && text.parse::<u16>().is_ok()
        || rest.ends_with("_PORT") && url
        || port_link()
}
