//! Values that the command line puts in the place of a file's.

use std::str::FromStr;

use toml::{Table, Value};

use super::ScenarioError;

/// Parts that a key may have.
const MAX_PARTS: usize = 8;

/// `key=value`: a key with dots between its parts, `server.NAME.key` for one of a server, and a value as TOML has it, or text.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    key: String,
    value: Value,
}

impl Override {
    /// Of a key and a value.
    #[must_use]
    pub fn new(key: &str, value: i64) -> Self {
        Self {
            key: key.to_owned(),
            value: Value::Integer(value),
        }
    }
}

impl FromStr for Override {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "must be KEY=VALUE, such as run.seconds=4".to_owned();
        let (key, value) = text.split_once('=').ok_or_else(wrong)?;
        let key = key.trim();
        let parts = key.split('.').count();
        if key.split('.').any(str::is_empty) || parts > MAX_PARTS {
            return Err(wrong());
        }
        // What TOML does not understand is a text that somebody did not care to quote.
        let parsed = toml::from_str::<Table>(&format!("value = {value}")).ok();
        let parsed = parsed.filter(|table| table.len() == 1);
        let value = parsed
            .and_then(|mut table| table.remove("value"))
            .unwrap_or_else(|| Value::String(value.to_owned()));
        Ok(Self {
            key: key.to_owned(),
            value,
        })
    }
}

/// Puts the values in their places. Tables on the way are made if they are missing; a server is not.
pub(super) fn apply(mut root: Table, overrides: &[Override]) -> Result<Table, ScenarioError> {
    for one in overrides {
        let fail = |cause: String| ScenarioError::Override {
            key: one.key.clone(),
            cause,
        };
        let mut parts = one.key.split('.');
        let mut last = parts.next_back().unwrap_or_default();
        let mut place = &mut root;
        let mut rest: Vec<&str> = parts.collect();
        if let [first, name, ..] = rest[..]
            && first == "server"
        {
            let servers = root.get_mut(first).and_then(Value::as_array_mut);
            let server = servers
                .into_iter()
                .flatten()
                .filter_map(Value::as_table_mut)
                .find(|server| server.get("name").and_then(Value::as_str) == Some(name));
            place = server.ok_or_else(|| fail(format!("no server is named {name}")))?;
            rest.drain(..2);
        }
        // Names of files have dots: what comes after `files` is one name.
        let name;
        if let Some(at) = rest.iter().position(|part| *part == "files") {
            name = [&rest[at + 1..], &[last]].concat().join(".");
            last = &name;
            rest.truncate(at + 1);
        }
        for part in rest {
            let next = place.entry(part).or_insert_with(|| Table::new().into());
            place = next
                .as_table_mut()
                .ok_or_else(|| fail(format!("{part} is no table")))?;
        }
        place.insert(last.to_owned(), one.value.clone());
    }
    Ok(root)
}
