//! The AMF3 encoder.
//!
//! Repeated strings and traits become references. Objects are written in full each time, but for the ancestors of a cycle.

use std::collections::HashMap;

use bytes::Bytes;

use super::{MAX_U28, MAX_U29, marker};
use crate::error::EncodeError;
use crate::limits::MAX_DEPTH;
use crate::text::AmfString;
use crate::value::{Externalized, Object, Properties, Value, ordinal_suffix};

/// Most sealed members: their count shares a variable-length integer with four flags (3.12).
const MAX_SEALED: usize = (MAX_U29 >> 4) as usize;

/// Most traits that can be referred to: their number shares a variable-length integer with two flags (3.12).
const MAX_TRAITS: u32 = MAX_U29 >> 2;

/// Encodes the values of one message, one by one.
#[derive(Debug, Default)]
pub struct Encoder {
    output: Vec<u8>,
    tables: Tables,
}

/// Encodes a whole message.
///
/// # Errors
/// What the first value that cannot be encoded says.
pub fn encode_all(values: &[Value]) -> Result<Bytes, EncodeError> {
    let mut encoder = Encoder::new();
    for value in values {
        encoder.encode(value)?;
    }
    Ok(encoder.finish())
}

/// Encodes a value behind the switch of AMF0. `depth` compounds enclose it.
pub(crate) fn encode_switched(
    output: &mut Vec<u8>,
    tables: &mut Tables,
    value: &Value,
    depth: usize,
) -> Result<(), EncodeError> {
    Session {
        output,
        tables,
        depth,
    }
    .value(value)
}

impl Encoder {
    /// An encoder of an empty message.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value. [`Value::Unsupported`] becomes undefined; a date loses its time zone; an ECMA array without other names than
    /// `0`, `1`, ... in order becomes a strict one; integers of more than 29 bits become doubles.
    ///
    /// # Errors
    /// [`EncodeError`] if AMF3 cannot say it. The message is then as it was before.
    pub fn encode(&mut self, value: &Value) -> Result<(), EncodeError> {
        let (length, mark) = (self.output.len(), self.tables.mark());
        let result = Session {
            output: &mut self.output,
            tables: &mut self.tables,
            depth: 0,
        }
        .value(value);
        if result.is_err() {
            self.output.truncate(length);
            self.tables.rewind(mark);
        }
        result
    }

    /// The message.
    pub fn finish(self) -> Bytes {
        self.output.into()
    }
}

/// What was written and can be referred to.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    strings: HashMap<AmfString, u32>,
    traits: HashMap<Traits, u32>,
    /// Complex values so far.
    objects: usize,
    /// Markers and numbers of the compounds that enclose the current value.
    open: Vec<(u8, usize)>,
}

/// The sizes of the tables at one time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    strings: usize,
    traits: usize,
    objects: usize,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Traits {
    class: AmfString,
    names: Vec<AmfString>,
    dynamic: bool,
    externalizable: bool,
}

impl Tables {
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            strings: self.strings.len(),
            traits: self.traits.len(),
            objects: self.objects,
        }
    }

    /// Forgets what was written since.
    pub(crate) fn rewind(&mut self, mark: Mark) {
        self.strings
            .retain(|_, index| (*index as usize) < mark.strings);
        self.traits
            .retain(|_, index| (*index as usize) < mark.traits);
        self.objects = mark.objects;
        self.open.clear();
    }
}

/// Encodes to an output that may belong to AMF0.
struct Session<'a> {
    output: &'a mut Vec<u8>,
    tables: &'a mut Tables,
    /// Compounds that enclose the current value, those of AMF0 included.
    depth: usize,
}

impl Session<'_> {
    fn value(&mut self, value: &Value) -> Result<(), EncodeError> {
        match value {
            Value::Undefined | Value::Unsupported => self.output.push(marker::UNDEFINED),
            Value::Null => self.output.push(marker::NULL),
            Value::Boolean(false) => self.output.push(marker::FALSE),
            Value::Boolean(true) => self.output.push(marker::TRUE),
            Value::Number(number) => self.number(*number),
            Value::Integer(integer)
                if (Value::MIN_INTEGER..=Value::MAX_INTEGER).contains(integer) =>
            {
                self.output.push(marker::INTEGER);
                self.u29(*integer as u32 & MAX_U29);
            }
            Value::Integer(integer) => self.number(f64::from(*integer)),
            Value::String(text) => {
                self.output.push(marker::STRING);
                self.text(text)?;
            }
            Value::XmlDocument(text) => {
                self.data(marker::XML_DOCUMENT, text.as_bytes(), "XML document")?
            }
            Value::Xml(text) => self.data(marker::XML, text.as_bytes(), "XML")?,
            Value::ByteArray(bytes) => self.data(marker::BYTE_ARRAY, bytes, "byte array")?,
            Value::Date { milliseconds, .. } => {
                self.leaf(marker::DATE, 0, "date")?;
                self.output.extend(milliseconds.to_be_bytes());
            }
            Value::VectorInt(vector) => {
                self.leaf(marker::VECTOR_INT, vector.values.len(), "vector")?;
                self.output.push(u8::from(vector.fixed));
                self.output.extend(
                    vector
                        .values
                        .iter()
                        .flat_map(|element| element.to_be_bytes()),
                );
            }
            Value::VectorUint(vector) => {
                self.leaf(marker::VECTOR_UINT, vector.values.len(), "vector")?;
                self.output.push(u8::from(vector.fixed));
                self.output.extend(
                    vector
                        .values
                        .iter()
                        .flat_map(|element| element.to_be_bytes()),
                );
            }
            Value::VectorDouble(vector) => {
                self.leaf(marker::VECTOR_DOUBLE, vector.values.len(), "vector")?;
                self.output.push(u8::from(vector.fixed));
                self.output.extend(
                    vector
                        .values
                        .iter()
                        .flat_map(|element| element.to_be_bytes()),
                );
            }
            Value::StrictArray(values) => {
                self.enter(marker::ARRAY)?;
                self.header(values.len(), "array")?;
                self.text(&AmfString::new())?;
                self.values(values)?;
                self.leave();
            }
            Value::EcmaArray(properties) => {
                self.enter(marker::ARRAY)?;
                self.array(properties)?;
                self.leave();
            }
            Value::Object(object) => {
                self.enter(marker::OBJECT)?;
                self.object(object)?;
                self.leave();
            }
            Value::VectorObject(vector) => {
                self.enter(marker::VECTOR_OBJECT)?;
                self.header(vector.values.len(), "vector")?;
                self.output.push(u8::from(vector.fixed));
                self.text(&vector.class)?;
                self.values(&vector.values)?;
                self.leave();
            }
            Value::Dictionary(dictionary) => {
                self.enter(marker::DICTIONARY)?;
                self.header(dictionary.entries.len(), "dictionary")?;
                self.output.push(u8::from(dictionary.weak));
                for (key, value) in &dictionary.entries {
                    self.value(key)?;
                    self.value(value)?;
                }
                self.leave();
            }
            Value::Externalized(wrapper) => {
                self.enter(marker::OBJECT)?;
                self.externalized(wrapper)?;
                self.leave();
            }
            Value::Ancestor(level) => self.ancestor(*level)?,
        }
        Ok(())
    }

    fn enter(&mut self, marker: u8) -> Result<(), EncodeError> {
        if self.depth >= MAX_DEPTH {
            return Err(EncodeError::TooDeep {
                offset: self.output.len(),
            });
        }
        self.depth += 1;
        self.tables.open.push((marker, self.tables.objects));
        self.tables.objects += 1;
        self.output.push(marker);
        Ok(())
    }

    fn leave(&mut self) {
        self.depth -= 1;
        self.tables.open.pop();
    }

    /// The start of a complex value that holds no others.
    fn leaf(&mut self, marker: u8, length: usize, what: &'static str) -> Result<(), EncodeError> {
        self.output.push(marker);
        self.tables.objects += 1;
        self.header(length, what)
    }

    fn data(&mut self, marker: u8, bytes: &[u8], what: &'static str) -> Result<(), EncodeError> {
        self.leaf(marker, bytes.len(), what)?;
        self.output.extend_from_slice(bytes);
        Ok(())
    }

    fn values(&mut self, values: &[Value]) -> Result<(), EncodeError> {
        values.iter().try_for_each(|value| self.value(value))
    }

    fn array(&mut self, properties: &Properties) -> Result<(), EncodeError> {
        let (named, dense) = properties
            .as_slice()
            .split_at(ordinal_suffix(properties.as_slice()));
        self.header(dense.len(), "array")?;
        for (name, value) in named {
            if name.is_empty() {
                return Err(EncodeError::EmptyName {
                    offset: self.output.len(),
                });
            }
            self.text(name)?;
            self.value(value)?;
        }
        self.text(&AmfString::new())?;
        dense.iter().try_for_each(|(_, value)| self.value(value))
    }

    fn object(&mut self, object: &Object) -> Result<(), EncodeError> {
        let properties = object.properties().as_slice();
        // Only a sealed member can be nameless: the empty name ends the dynamic ones.
        let nameless = properties
            .iter()
            .rposition(|(name, _)| name.is_empty())
            .map_or(0, |last| last + 1);
        let (sealed, dynamic) = properties.split_at(object.sealed().max(nameless));
        self.traits(Traits {
            class: object.class().cloned().unwrap_or_default(),
            names: sealed.iter().map(|(name, _)| name.clone()).collect(),
            dynamic: object.is_dynamic(),
            externalizable: false,
        })?;
        for (_, value) in sealed {
            self.value(value)?;
        }
        if object.is_dynamic() {
            for (name, value) in dynamic {
                self.text(name)?;
                self.value(value)?;
            }
            self.text(&AmfString::new())?;
        }
        Ok(())
    }

    fn externalized(&mut self, wrapper: &Externalized) -> Result<(), EncodeError> {
        if !Externalized::is_known(&wrapper.class) {
            let class = Externalized::excerpt(&wrapper.class);
            return Err(EncodeError::UnknownExternalizable {
                offset: self.output.len(),
                class,
            });
        }
        let class = wrapper.class.clone();
        self.traits(Traits {
            class,
            names: Vec::new(),
            dynamic: false,
            externalizable: true,
        })?;
        self.value(&wrapper.value)
    }

    fn traits(&mut self, traits: Traits) -> Result<(), EncodeError> {
        if let Some(index) = self.tables.traits.get(&traits) {
            self.u29(index << 2 | 0b01);
            return Ok(());
        }
        let count = traits.names.len();
        if count > MAX_SEALED {
            return Err(self.too_long("list of sealed members", count, MAX_SEALED));
        }
        self.u29(match (traits.externalizable, traits.dynamic) {
            (true, _) => 0b0111,
            (false, true) => (count as u32) << 4 | 0b1011,
            (false, false) => (count as u32) << 4 | 0b0011,
        });
        self.text(&traits.class)?;
        for name in &traits.names {
            self.text(name)?;
        }
        let index = self.tables.traits.len() as u32;
        if index <= MAX_TRAITS {
            self.tables.traits.insert(traits, index);
        }
        Ok(())
    }

    fn ancestor(&mut self, level: u32) -> Result<(), EncodeError> {
        let open = self.tables.open.iter().rev().nth(level as usize).copied();
        let Some((marker, number)) = open.filter(|(_, number)| *number <= MAX_U28) else {
            return Err(EncodeError::UnreachableAncestor {
                offset: self.output.len(),
                level,
            });
        };
        self.output.push(marker);
        self.u29((number as u32) << 1);
        Ok(())
    }

    fn number(&mut self, number: f64) {
        self.output.push(marker::DOUBLE);
        self.output.extend(number.to_be_bytes());
    }

    /// Text, or a reference to it (1.3.2). The empty string never enters the table.
    fn text(&mut self, text: &AmfString) -> Result<(), EncodeError> {
        if let Some(index) = self.tables.strings.get(text) {
            self.u29(index << 1);
            return Ok(());
        }
        self.header(text.len(), "string")?;
        self.output.extend_from_slice(text.as_bytes());
        let index = self.tables.strings.len();
        if !text.is_empty() && index <= MAX_U28 {
            self.tables.strings.insert(text.clone(), index as u32);
        }
        Ok(())
    }

    /// A length or count, and the flag that this is no reference.
    fn header(&mut self, length: usize, what: &'static str) -> Result<(), EncodeError> {
        if length > MAX_U28 {
            return Err(self.too_long(what, length, MAX_U28));
        }
        self.u29((length as u32) << 1 | 1);
        Ok(())
    }

    /// A variable-length integer (1.3.1). The caller keeps it within [`MAX_U29`].
    fn u29(&mut self, value: u32) {
        let seven = |shift: u32| (value >> shift) as u8 & 0x7f;
        match value {
            0..0x80 => self.output.push(value as u8),
            0x80..0x4000 => self.output.extend([seven(7) | 0x80, seven(0)]),
            0x4000..0x20_0000 => self
                .output
                .extend([seven(14) | 0x80, seven(7) | 0x80, seven(0)]),
            _ => self.output.extend([
                seven(22) | 0x80,
                seven(15) | 0x80,
                seven(8) | 0x80,
                value as u8,
            ]),
        }
    }

    fn too_long(&self, what: &'static str, length: usize, maximum: usize) -> EncodeError {
        EncodeError::TooLong {
            offset: self.output.len(),
            what,
            length,
            maximum,
        }
    }
}
