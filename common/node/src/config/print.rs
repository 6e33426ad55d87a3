//! The effective configuration as a commented TOML file.

use std::fmt::Write;

use toml::{Table, Value};

use super::{Documented, FieldDoc, SectionDoc, Shape};

/// Writes `config` as TOML: every key with its documentation and the value in force.
///
/// Unset values are comment lines (`# key = …`), and so are secrets, whose value is never written. The default is shown
/// where the value differs from it. The text loads to the same configuration, secrets aside.
pub fn print_commented<T: Documented>(config: &T) -> String {
    let mut printer = Printer::default();
    let section = T::section();
    for line in section.doc {
        printer.line(&format!("#{}", line.trim_end()));
    }
    if !section.doc.is_empty() {
        printer.line("");
    }
    match Table::try_from(config) {
        Ok(table) => printer.section(&section, Some(&table), &mut Vec::new()),
        Err(error) => printer.line(&format!("# cannot be shown: {error}")),
    }
    let text = printer.text.trim_end().to_owned();
    text + "\n"
}

#[derive(Default)]
struct Printer {
    text: String,
    /// Inside a template of a section that does not exist: every line is a comment.
    template: bool,
}

impl Printer {
    fn line(&mut self, line: &str) {
        if self.template && !line.is_empty() {
            self.text.push('#');
            if !line.starts_with('#') {
                self.text.push(' ');
            }
        }
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// The keys of a section, plain values first as TOML needs it, then the tables below it.
    fn section(&mut self, section: &SectionDoc, table: Option<&Table>, path: &mut Vec<String>) {
        for field in section
            .fields
            .iter()
            .filter(|field| !field.shape.is_table())
        {
            self.documentation(field.doc);
            self.facts(field, table.and_then(|table| table.get(field.key)));
            self.value(field, table);
            self.line("");
        }
        for field in section.fields.iter().filter(|field| field.shape.is_table()) {
            path.push(field.key.to_owned());
            let value = table.and_then(|table| table.get(field.key));
            self.table(&field.shape, field.doc, value, path);
            path.pop();
        }
    }

    fn documentation(&mut self, doc: &[&str]) {
        for line in doc {
            self.line(&format!("#{}", line.trim_end()));
        }
    }

    /// What the doc comment need not say: range, allowed words, default.
    fn facts(&mut self, field: &FieldDoc, value: Option<&Value>) {
        let mut facts = Vec::new();
        if let Some(range) = &field.range {
            facts.push(format!("Range: {range}."));
        }
        if let Shape::Choice(words) = field.shape.element() {
            facts.push(format!("One of: {}.", words.join(", ")));
        }
        let is_secret = matches!(field.shape.element(), Shape::Secret);
        if !self.template && !is_secret && value != field.default.as_ref() {
            let default = field
                .default
                .as_ref()
                .map_or_else(|| "unset".to_owned(), inline);
            facts.push(format!("Default: {default}."));
        }
        if !facts.is_empty() {
            self.line(&format!("# {}", facts.join(" ")));
        }
    }

    fn value(&mut self, field: &FieldDoc, table: Option<&Table>) {
        let value = table.map_or(field.default.as_ref(), |table| table.get(field.key));
        let is_secret = matches!(field.shape.element(), Shape::Secret);
        match value {
            Some(value) if is_secret => {
                let set = match value {
                    Value::String(text) => !text.is_empty(),
                    Value::Array(values) => !values.is_empty(),
                    _ => true,
                };
                let state = if set { "set, hidden" } else { "not set" };
                self.line(&format!("# {} = …  ({state})", field.key));
            }
            Some(value) => self.line(&format!("{} = {}", field.key, inline(value))),
            None => self.line(&format!("# {} = …", field.key)),
        }
    }

    fn table(
        &mut self,
        shape: &Shape,
        doc: &[&str],
        value: Option<&Value>,
        path: &mut Vec<String>,
    ) {
        match (shape.required(), value) {
            (Shape::Section(section), value) => {
                let section = section();
                let was_template = self.template;
                self.template |= value.is_none();
                self.header(doc, &section, &format!("[{}]", dotted(path)));
                self.section(&section, value.and_then(Value::as_table), path);
                self.template = was_template;
            }
            (Shape::Map(inner), value) => {
                let entries = value
                    .and_then(Value::as_table)
                    .filter(|entries| !entries.is_empty());
                match (inner.required(), entries) {
                    (Shape::Section(_) | Shape::Map(_), Some(entries)) => {
                        for (name, entry) in entries {
                            path.push(name.clone());
                            self.table(inner, doc, Some(entry), path);
                            path.pop();
                        }
                    }
                    (Shape::Section(_) | Shape::Map(_), None) => {
                        path.push("NAME".to_owned());
                        self.table(inner, doc, None, path);
                        path.pop();
                    }
                    (plain, entries) => {
                        self.documentation(doc);
                        self.line(&format!("[{}]", dotted(path)));
                        for (name, entry) in entries.into_iter().flatten() {
                            if matches!(plain.element(), Shape::Secret) {
                                self.line(&format!("# {} = …  (set, hidden)", quoted(name)));
                            } else {
                                self.line(&format!("{} = {}", quoted(name), inline(entry)));
                            }
                        }
                        self.line("");
                    }
                }
            }
            (Shape::List(inner), value) => {
                let Shape::Section(section) = inner.required() else {
                    return;
                };
                let section = section();
                let header = format!("[[{}]]", dotted(path));
                let entries = value
                    .and_then(Value::as_array)
                    .filter(|entries| !entries.is_empty());
                for entry in entries.into_iter().flatten() {
                    self.header(doc, &section, &header);
                    self.section(&section, entry.as_table(), path);
                }
                if entries.is_none() {
                    let was_template = std::mem::replace(&mut self.template, true);
                    self.header(doc, &section, &header);
                    self.section(&section, None, path);
                    self.template = was_template;
                }
            }
            _ => {}
        }
    }

    /// The documentation of the key that holds the table, else of the section itself, and the line that opens it.
    fn header(&mut self, doc: &[&str], section: &SectionDoc, header: &str) {
        self.documentation(if doc.is_empty() { section.doc } else { doc });
        self.line(header);
    }
}

fn dotted(path: &[String]) -> String {
    path.iter()
        .map(|segment| quoted(segment))
        .collect::<Vec<_>>()
        .join(".")
}

/// A key as TOML writes it.
fn quoted(key: &str) -> String {
    let bare = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    if !key.is_empty() && key.chars().all(bare) {
        return key.to_owned();
    }
    basic_string(key)
}

/// A value on one line, whatever it holds: it must also fit a comment. The `toml` crate would write texts with line
/// breaks over several lines.
fn inline(value: &Value) -> String {
    let join = |parts: Vec<String>| parts.join(", ");
    match value {
        Value::String(text) => basic_string(text),
        Value::Array(values) => format!("[{}]", join(values.iter().map(inline).collect())),
        Value::Table(table) => {
            let parts = table
                .iter()
                .map(|(key, value)| format!("{} = {}", quoted(key), inline(value)));
            format!("{{ {} }}", join(parts.collect()))
        }
        other => other.to_string(),
    }
}

/// A basic string of TOML 1.0.
fn basic_string(text: &str) -> String {
    let mut written = String::with_capacity(text.len() + 2);
    written.push('"');
    for letter in text.chars() {
        match letter {
            '"' => written.push_str("\\\""),
            '\\' => written.push_str("\\\\"),
            '\n' => written.push_str("\\n"),
            '\r' => written.push_str("\\r"),
            '\t' => written.push_str("\\t"),
            control if control.is_control() => {
                // Writing to a String cannot fail.
                let _ = write!(written, "\\u{:04X}", u32::from(control));
            }
            other => written.push(other),
        }
    }
    written.push('"');
    written
}
