//! Finding the value that a dotted key means, or what was probably meant.

use crate::config::suggest::nearest;
use crate::config::{FieldDoc, SectionDoc, Shape};

/// A key that nobody knows, and what stands around it.
pub(super) struct Unknown {
    pub(super) segment: String,
    pub(super) parent: Vec<String>,
    pub(super) siblings: Vec<&'static str>,
}

impl Unknown {
    /// First a sibling with a similar name, then the same name in another section.
    pub(super) fn suggest(&self, root: &SectionDoc) -> Option<String> {
        if let Some(sibling) = nearest(&self.segment, self.siblings.iter().copied()) {
            let mut path = self.parent.clone();
            path.push(sibling.to_owned());
            return Some(path.join("."));
        }
        let mut elsewhere = Vec::new();
        collect_paths(&root.fields, &mut Vec::new(), &mut elsewhere);
        elsewhere
            .into_iter()
            .find(|path| path.last() == Some(&self.segment))
            .map(|path| path.join("."))
    }
}

pub(super) fn names(fields: &[FieldDoc]) -> Vec<&'static str> {
    fields.iter().map(|field| field.key).collect()
}

/// Every key path; the name of a map entry is shown as `NAME`.
fn collect_paths(fields: &[FieldDoc], path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    for field in fields {
        path.push(field.key.to_owned());
        found.push(path.clone());
        match field.shape.required() {
            Shape::Section(section) => collect_paths(&section().fields, path, found),
            Shape::Map(inner) => {
                if let Shape::Section(section) = inner.required() {
                    path.push("NAME".to_owned());
                    collect_paths(&section().fields, path, found);
                    path.pop();
                }
            }
            _ => {}
        }
        path.pop();
    }
}

/// The shape of the value at a path, or what stands around the segment that is unknown.
pub(super) fn find_path(fields: &[FieldDoc], path: &[String]) -> Result<Shape, Unknown> {
    fn step(fields: &[FieldDoc], path: &[String], at: usize) -> Result<Shape, Unknown> {
        let unknown = || Unknown {
            segment: path.get(at).cloned().unwrap_or_default(),
            parent: path.get(..at).unwrap_or_default().to_vec(),
            siblings: names(fields),
        };
        let segment = path.get(at).ok_or_else(unknown)?;
        let field = fields
            .iter()
            .find(|field| field.key == segment)
            .ok_or_else(unknown)?;
        below(&field.shape, path, at + 1)
    }
    fn below(shape: &Shape, path: &[String], at: usize) -> Result<Shape, Unknown> {
        if at == path.len() {
            return Ok(shape.clone());
        }
        match shape.required() {
            Shape::Section(section) => step(&section().fields, path, at),
            Shape::Map(inner) => below(inner, path, at + 1),
            _ => Err(Unknown {
                segment: path.get(at).cloned().unwrap_or_default(),
                parent: path.get(..at).unwrap_or_default().to_vec(),
                siblings: Vec::new(),
            }),
        }
    }
    step(fields, path, 0)
}
