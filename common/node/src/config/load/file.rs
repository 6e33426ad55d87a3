//! Reading the file: unknown keys, and the place of every value for messages.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::path::{Unknown, names};
use crate::config::{ConfigError, FieldDoc, SectionDoc, Shape};

/// The file while it is read: finds unknown keys and remembers the place of every value.
pub(super) struct File<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
    pub(super) sources: BTreeMap<String, String>,
    pub(super) values: Vec<(Range<usize>, String)>,
}

impl File<'_> {
    pub(super) fn walk(
        &mut self,
        fields: &[FieldDoc],
        root: &SectionDoc,
        table: &DeTable<'_>,
        path: &mut Vec<String>,
    ) -> Result<(), ConfigError> {
        for (key, value) in table {
            path.push(key.get_ref().to_string());
            let Some(field) = fields
                .iter()
                .find(|field| field.key == key.get_ref().as_ref())
            else {
                let unknown = Unknown {
                    segment: key.get_ref().to_string(),
                    parent: path[..path.len() - 1].to_vec(),
                    siblings: names(fields),
                };
                return Err(ConfigError::UnknownKey {
                    place: self.place(key.span().start),
                    key: path.join("."),
                    suggestion: unknown.suggest(root),
                });
            };
            self.value(
                field.shape.required(),
                root,
                (key.span(), value.span()),
                value.get_ref(),
                path,
            )?;
            path.pop();
        }
        Ok(())
    }

    fn value(
        &mut self,
        shape: &Shape,
        root: &SectionDoc,
        (key_span, span): (Range<usize>, Range<usize>),
        value: &DeValue<'_>,
        path: &mut Vec<String>,
    ) -> Result<(), ConfigError> {
        let dotted = path.join(".");
        self.sources
            .insert(dotted.clone(), self.place(key_span.start));
        self.values.push((span, dotted));
        match (shape, value) {
            (Shape::Section(section), DeValue::Table(table)) => {
                self.walk(&section().fields, root, table, path)?
            }
            (Shape::Map(inner), DeValue::Table(table)) => {
                for (name, entry) in table {
                    path.push(name.get_ref().to_string());
                    self.value(
                        inner.required(),
                        root,
                        (name.span(), entry.span()),
                        entry.get_ref(),
                        path,
                    )?;
                    path.pop();
                }
            }
            (Shape::List(inner), DeValue::Array(entries)) if shape.is_table() => {
                for (index, entry) in entries.iter().enumerate() {
                    path.push(index.to_string());
                    self.value(
                        inner.required(),
                        root,
                        (entry.span(), entry.span()),
                        entry.get_ref(),
                        path,
                    )?;
                    path.pop();
                }
            }
            // A value of the wrong type is found when the whole file is typed.
            _ => {}
        }
        Ok(())
    }

    fn place(&self, offset: usize) -> String {
        let (line, column) = position(self.text, offset);
        format!("{}:{line}:{column}", self.path.display())
    }

    pub(super) fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        let offset = error.span().map_or(0, |span| span.start);
        let (line, column) = position(self.text, offset);
        let key = self
            .values
            .iter()
            .filter(|(span, _)| span.contains(&offset))
            .min_by_key(|(span, _)| span.len())
            .map(|(_, key)| key.clone());
        // The message alone: the full text of the error quotes the line, and a line may hold a secret.
        ConfigError::Syntax {
            path: self.path.to_owned(),
            line,
            column,
            message: error.message().trim_end().replace('\n', ", "),
            key,
        }
    }
}

/// Line and column, both from 1, of a byte offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .map_or(0, |line| line.chars().count())
        + 1;
    (line, column)
}
