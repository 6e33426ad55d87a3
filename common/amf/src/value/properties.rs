//! Named values in the order of the wire, and the objects made of them.

use crate::text::AmfString;
use crate::value::Value;

/// Named values. Order and duplicate names are kept as they came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties(Vec<(AmfString, Value)>);

impl Properties {
    /// No properties.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a property at the end.
    #[must_use]
    pub fn with(mut self, name: impl Into<AmfString>, value: impl Into<Value>) -> Self {
        self.push(name, value);
        self
    }

    /// The value of that name: of several the last, as the last assignment wins when a player reads them.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0
            .iter()
            .rev()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// Adds a property at the end, even if the name is there already.
    pub fn push(&mut self, name: impl Into<AmfString>, value: impl Into<Value>) {
        self.0.push((name.into(), value.into()));
    }

    /// Gives the property this value, at its place if it is there, else at the end. Returns the old value.
    pub fn set(&mut self, name: impl Into<AmfString>, value: impl Into<Value>) -> Option<Value> {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().rev().find(|(key, _)| *key == name) {
            Some((_, old)) => Some(std::mem::replace(old, value)),
            None => {
                self.0.push((name, value));
                None
            }
        }
    }

    /// Takes out every property of that name. Returns the last value.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let mut removed = None;
        self.0.retain_mut(|(key, value)| {
            let matches = *key == name;
            if matches {
                removed = Some(std::mem::take(value));
            }
            !matches
        });
        removed
    }

    /// The properties in order.
    pub fn iter(&self) -> std::slice::Iter<'_, (AmfString, Value)> {
        self.0.iter()
    }

    /// The properties in order.
    pub fn as_slice(&self) -> &[(AmfString, Value)] {
        &self.0
    }

    /// How many there are, duplicates included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn detached(&self) -> Self {
        self.iter()
            .map(|(name, value)| (name.detached(), value.detached()))
            .collect()
    }
}

impl From<Vec<(AmfString, Value)>> for Properties {
    fn from(properties: Vec<(AmfString, Value)>) -> Self {
        Self(properties)
    }
}

impl FromIterator<(AmfString, Value)> for Properties {
    fn from_iter<I: IntoIterator<Item = (AmfString, Value)>>(properties: I) -> Self {
        Self(properties.into_iter().collect())
    }
}

impl IntoIterator for Properties {
    type Item = (AmfString, Value);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Properties {
    type Item = &'a (AmfString, Value);
    type IntoIter = std::slice::Iter<'a, (AmfString, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Where the longest run of properties begins that are named `0`, `1`, ... in order up to the end: the dense portion of an AMF3 array.
pub(crate) fn ordinal_suffix(properties: &[(AmfString, Value)]) -> usize {
    let length = properties.len();
    let last = properties
        .last()
        .and_then(|(name, _)| name.as_str()?.parse::<usize>().ok());
    let Some(start) = last.and_then(|last| length.checked_sub(last.checked_add(1)?)) else {
        return length;
    };
    let in_order = properties[start..]
        .iter()
        .enumerate()
        .all(|(index, (name, _))| *name == index.to_string());
    if in_order { start } else { length }
}

/// An object: properties, and the class it is registered under, if any.
#[derive(Clone, Debug, Default)]
pub struct Object {
    properties: Properties,
    /// `None` for the common case: anonymous and dynamic.
    traits: Option<Box<Traits>>,
}

/// What AMF3 says about an object's class (3.12).
#[derive(Clone, Debug)]
struct Traits {
    class: AmfString,
    sealed: usize,
    dynamic: bool,
}

impl Object {
    /// An anonymous object without properties.
    pub const fn new() -> Self {
        Self {
            properties: Properties::new(),
            traits: None,
        }
    }

    /// An object of a class, without properties. The empty class name means anonymous.
    pub fn typed(class: impl Into<AmfString>) -> Self {
        Self::new().with_traits(class, 0, true)
    }

    /// Adds a property at the end.
    #[must_use]
    pub fn with(mut self, name: impl Into<AmfString>, value: impl Into<Value>) -> Self {
        self.push(name, value);
        self
    }

    /// Sets the class, how many of the properties, counted from the first, are its sealed members, and whether more may follow.
    ///
    /// Only AMF3 tells these apart. `sealed` past the end is cut, and an object with more properties than sealed ones is dynamic.
    #[must_use]
    pub fn with_traits(
        mut self,
        class: impl Into<AmfString>,
        sealed: usize,
        dynamic: bool,
    ) -> Self {
        let class = class.into();
        self.traits = (!class.is_empty() || sealed != 0 || !dynamic).then(|| {
            Box::new(Traits {
                class,
                sealed,
                dynamic,
            })
        });
        self
    }

    /// The class, `None` if anonymous.
    pub fn class(&self) -> Option<&AmfString> {
        self.traits
            .as_ref()
            .map(|traits| &traits.class)
            .filter(|class| !class.is_empty())
    }

    /// How many properties, counted from the first, are sealed members of the class.
    pub fn sealed(&self) -> usize {
        self.traits
            .as_ref()
            .map_or(0, |traits| traits.sealed.min(self.len()))
    }

    /// Whether the object may have properties that its class does not name.
    pub fn is_dynamic(&self) -> bool {
        self.traits
            .as_ref()
            .is_none_or(|traits| traits.dynamic || self.len() > traits.sealed)
    }

    /// The value of that name: of several the last.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.properties.get(name)
    }

    /// Adds a property at the end, even if the name is there already.
    pub fn push(&mut self, name: impl Into<AmfString>, value: impl Into<Value>) {
        self.properties.push(name, value);
    }

    /// Gives the property this value, at its place if it is there, else at the end. Returns the old value.
    pub fn set(&mut self, name: impl Into<AmfString>, value: impl Into<Value>) -> Option<Value> {
        self.properties.set(name, value)
    }

    /// The properties in order.
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// The properties in order, without the class.
    pub fn into_properties(self) -> Properties {
        self.properties
    }

    /// The properties in order.
    pub fn iter(&self) -> std::slice::Iter<'_, (AmfString, Value)> {
        self.properties.iter()
    }

    /// How many properties there are, duplicates included.
    pub fn len(&self) -> usize {
        self.properties.len()
    }

    /// Whether there are no properties.
    pub fn is_empty(&self) -> bool {
        self.properties.is_empty()
    }

    pub(crate) fn detached(&self) -> Self {
        let traits = self.traits.as_ref().map(|traits| {
            Box::new(Traits {
                class: traits.class.detached(),
                ..**traits
            })
        });
        Self {
            properties: self.properties.detached(),
            traits,
        }
    }
}

/// Compares what is written: the traits as they apply to the properties that are there.
impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        self.class() == other.class()
            && self.sealed() == other.sealed()
            && self.is_dynamic() == other.is_dynamic()
            && self.properties == other.properties
    }
}

/// An anonymous object of these properties.
impl From<Properties> for Object {
    fn from(properties: Properties) -> Self {
        Self {
            properties,
            traits: None,
        }
    }
}

impl FromIterator<(AmfString, Value)> for Object {
    fn from_iter<I: IntoIterator<Item = (AmfString, Value)>>(properties: I) -> Self {
        Properties::from_iter(properties).into()
    }
}

impl<'a> IntoIterator for &'a Object {
    type Item = &'a (AmfString, Value);
    type IntoIter = std::slice::Iter<'a, (AmfString, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_duplicates_are_kept() {
        let mut object = Object::new().with("b", 1.0).with("a", 2.0).with("b", 3.0);
        assert_eq!(object.get("b"), Some(&Value::Number(3.0)));
        assert_eq!(object.set("b", 4.0), Some(Value::Number(3.0)));
        assert_eq!(object.set("c", ()), None);
        let names: Vec<_> = object.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names, ["b", "a", "b", "c"]);
        let mut properties = object.into_properties();
        assert_eq!(properties.remove("b"), Some(Value::Number(4.0)));
        assert_eq!(properties.remove("b"), None);
        assert_eq!(properties.len(), 2);
    }

    #[test]
    fn traits_are_normal() {
        assert_eq!(Object::typed(""), Object::new());
        assert_eq!(
            Object::typed("C").class().map(ToString::to_string),
            Some("C".to_owned())
        );
        let object = Object::new().with("a", 1.0).with_traits("C", 3, false);
        assert_eq!((object.sealed(), object.is_dynamic()), (1, false));
        let object = Object::new()
            .with("a", 1.0)
            .with("b", 1.0)
            .with_traits("C", 1, false);
        assert_eq!((object.sealed(), object.is_dynamic()), (1, true));
    }
}
