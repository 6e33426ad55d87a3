//! Putting the layers together.

mod file;
mod path;
mod variable;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::de::DeTable;
use toml::{Table, Value};

use self::file::File;
use self::path::find_path;
use self::variable::{find_variable, is_service_link, variables};
use super::suggest::nearest;
use super::{ConfigError, Documented, ENVIRONMENT_PREFIX, Problems, SectionDoc, Shape};

/// A value for a dotted key from the command line.
#[derive(Clone, Debug, PartialEq)]
pub enum Override {
    /// Text, read as the environment is: lists separated by commas, an empty text unsets an optional value.
    Text(String),
    /// A finished value.
    Value(Value),
}

impl From<&str> for Override {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Override {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Value> for Override {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

/// Collects the layers and loads them.
///
/// Built-in maps (such as applications that exist without being configured) are merged with the file entry by entry;
/// everything else is replaced by the later layer.
#[derive(Clone, Debug, Default)]
pub struct Loader {
    file: Option<(PathBuf, Option<String>)>,
    environment: Vec<(String, String)>,
    ignored: Vec<String>,
    overrides: Vec<(String, Override)>,
}

impl Loader {
    /// Built-in defaults only.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file. It must exist.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some((path.into(), None));
        self
    }

    /// Adds the text of a file that was read already; `path` is for messages.
    #[must_use]
    pub fn text(mut self, path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        self.file = Some((path.into(), Some(text.into())));
        self
    }

    /// Adds environment variables. Those that do not start with `HEADWATER_` are not looked at.
    ///
    /// Variables that Kubernetes sets for a service of the same name (`HEADWATER_EDGE_SERVICE_HOST`,
    /// `HEADWATER_EDGE_PORT_1935_TCP`) are skipped unless they are keys.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.environment = variables
            .into_iter()
            .filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX))
            .collect();
        self.environment.sort();
        self
    }

    /// Adds the environment of the process. What is not Unicode in a value is replaced, as it cannot be right.
    #[must_use]
    pub fn process_environment(self) -> Self {
        self.environment(std::env::vars_os().filter_map(|(name, value)| {
            Some((
                name.into_string().ok()?,
                value.to_string_lossy().into_owned(),
            ))
        }))
    }

    /// Names a variable with the prefix that is no key, such as the one that names the file.
    #[must_use]
    pub fn ignore_variable(mut self, name: impl Into<String>) -> Self {
        self.ignored.push(name.into());
        self
    }

    /// Adds values for dotted keys, the strongest layer; among them the last one wins.
    #[must_use]
    pub fn overrides<K: Into<String>, V: Into<Override>>(
        mut self,
        overrides: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.overrides.extend(
            overrides
                .into_iter()
                .map(|(key, value)| (key.into(), value.into())),
        );
        self
    }

    /// Loads and checks the configuration.
    ///
    /// # Errors
    /// The first layer with an unknown key or a value of the wrong type; then all values that sections refuse, together.
    pub fn load<T: Documented + DeserializeOwned>(self) -> Result<T, ConfigError> {
        let schema = T::section();
        let mut merged = Merged {
            table: built_in_maps(&schema),
            sources: BTreeMap::new(),
        };
        if let Some((path, text)) = self.file {
            let text = match text {
                Some(text) => text,
                None => std::fs::read_to_string(&path).map_err(|error| ConfigError::Read {
                    path: path.clone(),
                    message: error.to_string(),
                })?,
            };
            merged.add_file::<T>(&schema, &path, &text)?;
        }
        for (name, text) in self.environment {
            if !self.ignored.contains(&name) {
                merged.add_variable::<T>(&schema, &name, &text)?;
            }
        }
        for (key, value) in self.overrides {
            merged.add_override::<T>(&schema, &key, value)?;
        }
        let config = merged
            .deserialize::<T>()
            .map_err(|message| ConfigError::BadValue {
                place: "configuration".to_owned(),
                key: String::new(),
                message,
            })?;
        let mut problems = Problems::default();
        config.check(&mut problems);
        let mut problems = problems.into_vec();
        if problems.is_empty() {
            return Ok(config);
        }
        for problem in &mut problems {
            problem.source = merged.sources.get(&problem.key).cloned();
        }
        Err(ConfigError::Invalid { problems })
    }
}

/// The layers so far, and where each value came from.
struct Merged {
    table: Table,
    sources: BTreeMap<String, String>,
}

impl Merged {
    fn deserialize<T: DeserializeOwned>(&self) -> Result<T, String> {
        Value::Table(self.table.clone())
            .try_into()
            .map_err(|error: toml::de::Error| error.message().to_owned())
    }

    fn add_file<T: DeserializeOwned>(
        &mut self,
        schema: &SectionDoc,
        path: &Path,
        text: &str,
    ) -> Result<(), ConfigError> {
        let mut file = File {
            path,
            text,
            sources: BTreeMap::new(),
            values: Vec::new(),
        };
        let parsed = DeTable::parse(text).map_err(|error| file.syntax(&error))?;
        file.walk(&schema.fields, schema, parsed.get_ref(), &mut Vec::new())?;
        // Typed straight from the text, because only then an error knows its line.
        toml::from_str::<T>(text).map_err(|error| file.syntax(&error))?;
        let table: Table = toml::from_str(text).map_err(|error| file.syntax(&error))?;
        merge(&mut self.table, table);
        self.sources.append(&mut file.sources);
        Ok(())
    }

    fn add_variable<T: DeserializeOwned>(
        &mut self,
        schema: &SectionDoc,
        name: &str,
        text: &str,
    ) -> Result<(), ConfigError> {
        let place = format!("environment {name}");
        let rest = name.strip_prefix(ENVIRONMENT_PREFIX).unwrap_or(name);
        let Some((path, shape)) = find_variable(&schema.fields, rest, Some(&self.table)) else {
            if is_service_link(rest, text) {
                return Ok(());
            }
            let known = variables(&schema.fields, ENVIRONMENT_PREFIX);
            let suggestion = nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
            return Err(ConfigError::UnknownKey {
                place,
                key: name.to_owned(),
                suggestion,
            });
        };
        self.set::<T>(&path, &shape, Override::Text(text.to_owned()), place)
    }

    fn add_override<T: DeserializeOwned>(
        &mut self,
        schema: &SectionDoc,
        key: &str,
        value: Override,
    ) -> Result<(), ConfigError> {
        let path = split_dotted(key);
        let shape =
            find_path(&schema.fields, &path).map_err(|siblings| ConfigError::UnknownKey {
                place: "flag".to_owned(),
                key: key.to_owned(),
                suggestion: siblings.suggest(schema),
            })?;
        self.set::<T>(&path, &shape, value, "flag".to_owned())
    }

    /// Sets one value and checks its type at once, so that an error can name the one who set it.
    fn set<T: DeserializeOwned>(
        &mut self,
        path: &[String],
        shape: &Shape,
        value: Override,
        place: String,
    ) -> Result<(), ConfigError> {
        let key = path.join(".");
        let bad = |message: String| ConfigError::BadValue {
            place: place.clone(),
            key: key.clone(),
            message,
        };
        let value = match value {
            Override::Text(text) => from_text(shape, &text).map_err(bad)?,
            Override::Value(value) => Some(value),
        };
        insert(&mut self.table, path, value).map_err(bad)?;
        self.deserialize::<T>().map_err(bad)?;
        self.sources.insert(key, place);
        Ok(())
    }
}
/// Reads a text as a value of a shape; `None` unsets an optional value.
fn from_text(shape: &Shape, text: &str) -> Result<Option<Value>, String> {
    let trimmed = text.trim();
    let value = match shape {
        Shape::Optional(_) if trimmed.is_empty() => return Ok(None),
        Shape::Optional(inner) => return from_text(inner, text),
        Shape::Bool => match trimmed {
            "true" | "1" => Value::Boolean(true),
            "false" | "0" => Value::Boolean(false),
            other => return Err(format!("`{other}` is neither true nor false")),
        },
        Shape::Integer => {
            let digits = trimmed.replace('_', "");
            Value::Integer(
                digits
                    .parse()
                    .map_err(|_| format!("`{trimmed}` is not a whole number"))?,
            )
        }
        Shape::Float => Value::Float(
            trimmed
                .parse()
                .map_err(|_| format!("`{trimmed}` is not a number"))?,
        ),
        Shape::Text | Shape::Secret | Shape::Choice(_) => Value::String(text.to_owned()),
        Shape::List(inner) if !shape.is_table() => {
            let parts = trimmed
                .split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty());
            let values: Result<Vec<_>, _> = parts.map(|part| from_text(inner, part)).collect();
            Value::Array(values?.into_iter().flatten().collect())
        }
        Shape::List(_) | Shape::Map(_) | Shape::Section(_) => {
            return Err("a table cannot be set from a text, set its keys".to_owned());
        }
    };
    Ok(Some(value))
}

/// Splits `applications."live/x".record` as TOML does, or else at every dot.
fn split_dotted(key: &str) -> Vec<String> {
    fn only_path(table: &Table, path: &mut Vec<String>) {
        if let Some((name, value)) = table.iter().next() {
            path.push(name.clone());
            if let Value::Table(inner) = value {
                only_path(inner, path);
            }
        }
    }
    let one_line = !key.contains(['\n', '=', '#', '[']);
    match toml::from_str::<Table>(&format!("{key} = 0")) {
        Ok(table) if one_line => {
            let mut path = Vec::new();
            only_path(&table, &mut path);
            path
        }
        _ => key.split('.').map(str::to_owned).collect(),
    }
}

fn insert(table: &mut Table, path: &[String], value: Option<Value>) -> Result<(), String> {
    let Some((last, parents)) = path.split_last() else {
        return Err("the key is empty".to_owned());
    };
    let mut table = table;
    for segment in parents {
        table = table
            .entry(segment.as_str())
            .or_insert_with(|| Value::Table(Table::new()))
            .as_table_mut()
            .ok_or_else(|| format!("`{segment}` is not a table"))?;
    }
    match value {
        Some(value) => table.insert(last.clone(), value),
        None => table.remove(last),
    };
    Ok(())
}

/// Lays `over` over `table`: tables key by key, everything else as a whole.
fn merge(table: &mut Table, over: Table) {
    for (key, value) in over {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(over)) => merge(inner, over),
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}

/// The entries of maps that exist by default. serde replaces a map as a whole, so they must be in the table before the
/// file is laid over it. Secrets and lists of tables inside are left to the defaults of their section.
fn built_in_maps(schema: &SectionDoc) -> Table {
    fn plain(shape: &Shape, value: &Value) -> Option<Value> {
        match (shape.required(), value) {
            (shape, _) if matches!(shape.element(), Shape::Secret) => None,
            (Shape::Section(section), Value::Table(table)) => Some(Value::Table(
                section()
                    .fields
                    .iter()
                    .filter_map(|field| {
                        Some((
                            field.key.to_owned(),
                            plain(&field.shape, table.get(field.key)?)?,
                        ))
                    })
                    .collect(),
            )),
            (Shape::Map(inner), Value::Table(table)) => Some(Value::Table(
                table
                    .iter()
                    .filter_map(|(name, value)| Some((name.clone(), plain(inner, value)?)))
                    .collect(),
            )),
            _ => Some(value.clone()),
        }
    }
    let mut found = Table::new();
    for field in &schema.fields {
        let value = match (field.shape.required(), &field.default) {
            (shape @ Shape::Map(_), Some(value)) => plain(shape, value),
            (Shape::Section(section), Some(_)) => Some(Value::Table(built_in_maps(&section())))
                .filter(|value| value.as_table().is_some_and(|table| !table.is_empty())),
            _ => None,
        };
        if let Some(value) = value {
            found.insert(field.key.to_owned(), value);
        }
    }
    found
}
