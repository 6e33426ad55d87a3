//! The AMF3 decoder.
//!
//! The object table holds the places of complex values in the input. A reference to a complete one decodes it again from there, at
//! the price of the original; one to an open one is a cycle.

use std::sync::Arc;

use bytes::Bytes;

use super::{MAX_U28, marker};
use crate::error::{DecodeError, Format};
use crate::limits::{Budget, Limits};
use crate::reader::Reader;
use crate::text::AmfString;
use crate::value::{Dictionary, Externalized, Object, ObjectVector, Value, Vector, ordinal_suffix};

/// Decodes the values of one message, one by one.
#[derive(Debug)]
pub struct Decoder {
    reader: Reader,
    budget: Budget,
    tables: Tables,
    failure: Option<DecodeError>,
}

/// Decodes a whole message.
///
/// # Errors
/// What the first value that cannot be decoded says.
pub fn decode_all(input: &Bytes, limits: Limits) -> Result<Vec<Value>, DecodeError> {
    let mut decoder = Decoder::new(input, limits);
    let mut values = Vec::new();
    while !decoder.is_empty() {
        values.push(decoder.decode()?);
    }
    Ok(values)
}

/// Decodes the value behind the switch of AMF0 and fits it to the AMF0 model.
pub(crate) fn decode_switched(
    reader: &mut Reader,
    budget: &mut Budget,
    tables: &mut Tables,
) -> Result<Value, DecodeError> {
    Session {
        reader,
        budget,
        tables,
        fit: true,
    }
    .value()
}

impl Decoder {
    /// A decoder at the start of a message. Text and binary data of its values share the memory of `input`.
    pub fn new(input: &Bytes, limits: Limits) -> Self {
        Self {
            reader: Reader::new(input.clone()),
            budget: Budget::new(limits, MAX_U28),
            tables: Tables::default(),
            failure: None,
        }
    }

    /// Whether the input is used up.
    pub fn is_empty(&self) -> bool {
        self.reader.remaining() == 0
    }

    /// Bytes used so far.
    pub fn position(&self) -> usize {
        self.reader.position()
    }

    /// Decodes the next value.
    ///
    /// # Errors
    /// [`DecodeError`] if the input is no AMF3 or exceeds the limits. Nothing can be read after that: the error comes again.
    pub fn decode(&mut self) -> Result<Value, DecodeError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        Session {
            reader: &mut self.reader,
            budget: &mut self.budget,
            tables: &mut self.tables,
            fit: false,
        }
        .value()
        .inspect_err(|error| self.failure = Some(error.clone()))
    }
}

/// What references lead to (2.2), and the way from the root.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    strings: Vec<AmfString>,
    /// Where the marker of each complex value stands.
    objects: Vec<usize>,
    traits: Vec<Arc<Traits>>,
    /// While a complex value is decoded again: the number of the next one in it. Nothing is added to the tables meanwhile.
    again: Option<usize>,
    open: Vec<Open>,
}

/// A compound that is being decoded.
#[derive(Clone, Copy, Debug)]
struct Open {
    /// Its number in the object table.
    reference: usize,
    /// Its number in the tree that comes out.
    number: usize,
}

impl Tables {
    /// How many complex values there were so far.
    pub(crate) fn objects(&self) -> usize {
        self.objects.len()
    }

    /// Says whether input is decoded again, and if so the number of its first complex value. Gives what was said before.
    pub(crate) fn decode_again(&mut self, first: Option<usize>) -> Option<usize> {
        std::mem::replace(&mut self.again, first)
    }
}

#[derive(Debug)]
struct Traits {
    class: AmfString,
    names: Vec<AmfString>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sealed,
    Dynamic,
    Externalizable,
}

/// Decodes from a reader that may belong to AMF0.
struct Session<'a> {
    reader: &'a mut Reader,
    budget: &'a mut Budget,
    tables: &'a mut Tables,
    /// Whether to keep to the AMF0 model: no integers, no sealed members.
    fit: bool,
}

impl Session<'_> {
    fn value(&mut self) -> Result<Value, DecodeError> {
        let start = self.reader.position();
        let marker = self.reader.u8("a value")?;
        let expected = match marker {
            marker::XML_DOCUMENT => "an XML document",
            marker::DATE => "a date",
            marker::ARRAY => "an array",
            marker::OBJECT => "an object",
            marker::XML => "XML",
            marker::BYTE_ARRAY => "a byte array",
            marker::VECTOR_INT
            | marker::VECTOR_UINT
            | marker::VECTOR_DOUBLE
            | marker::VECTOR_OBJECT => "a vector",
            marker::DICTIONARY => "a dictionary",
            _ => return self.simple(start, marker),
        };
        let header = self.reader.u29(expected)?;
        let rest = (header >> 1) as usize;
        if header & 1 == 0 {
            return self.reference(start, marker, rest, expected);
        }
        self.budget.value(start)?;
        match marker {
            marker::ARRAY => self.compound(start, |session| session.array(rest)),
            marker::OBJECT => self.compound(start, |session| session.object(start, rest)),
            marker::VECTOR_OBJECT => self.compound(start, |session| session.object_vector(rest)),
            marker::DICTIONARY => self.compound(start, |session| session.dictionary(rest)),
            _ => {
                self.register(start);
                self.leaf(marker, rest)
            }
        }
    }

    fn simple(&mut self, start: usize, marker: u8) -> Result<Value, DecodeError> {
        self.budget.value(start)?;
        Ok(match marker {
            marker::UNDEFINED => Value::Undefined,
            marker::NULL => Value::Null,
            marker::FALSE => Value::Boolean(false),
            marker::TRUE => Value::Boolean(true),
            marker::INTEGER => {
                // The 29th bit is the sign.
                let integer = (self.reader.u29("an integer")? << 3) as i32 >> 3;
                if self.fit {
                    Value::Number(f64::from(integer))
                } else {
                    Value::Integer(integer)
                }
            }
            marker::DOUBLE => Value::Number(self.reader.f64("a double")?),
            marker::STRING => {
                let text = self.text("a string")?;
                self.budget.bytes(start, text.len())?;
                Value::String(text)
            }
            _ => {
                return Err(DecodeError::UnexpectedMarker {
                    offset: start,
                    marker,
                    format: Format::Amf3,
                    expected: "a value",
                });
            }
        })
    }

    fn reference(
        &mut self,
        start: usize,
        marker: u8,
        index: usize,
        expected: &'static str,
    ) -> Result<Value, DecodeError> {
        let Some(&place) = self.tables.objects.get(index) else {
            return Err(unknown(start, index, self.tables.objects.len(), "objects"));
        };
        let found = self.reader.byte_at(place).unwrap_or(marker);
        if found != marker {
            return Err(DecodeError::MismatchedReference {
                offset: start,
                index,
                found,
                expected,
            });
        }
        let open = self
            .tables
            .open
            .iter()
            .rev()
            .enumerate()
            .find(|(_, open)| open.reference == index);
        if let Some((level, open)) = open {
            self.budget.value(start)?;
            self.budget.cycle(start, open.number)?;
            return Ok(Value::Ancestor(level as u32));
        }
        let back = self.reader.seek(place);
        let again = self.tables.decode_again(Some(index));
        let value = self.value();
        self.tables.decode_again(again);
        self.reader.seek(back);
        value
    }

    /// Gives a complex value its number.
    fn register(&mut self, start: usize) -> usize {
        match &mut self.tables.again {
            Some(next) => {
                *next += 1;
                *next - 1
            }
            None => {
                self.tables.objects.push(start);
                self.tables.objects.len() - 1
            }
        }
    }

    fn compound(
        &mut self,
        start: usize,
        content: impl FnOnce(&mut Self) -> Result<Value, DecodeError>,
    ) -> Result<Value, DecodeError> {
        let number = self.budget.enter(start)?;
        let reference = self.register(start);
        self.tables.open.push(Open { reference, number });
        let value = content(self)?;
        self.tables.open.pop();
        self.budget.leave();
        Ok(value)
    }

    fn leaf(&mut self, marker: u8, length: usize) -> Result<Value, DecodeError> {
        let start = self.reader.position();
        match marker {
            marker::DATE => {
                // The header has no other meaning than "not a reference" (3.10).
                Ok(Value::Date {
                    milliseconds: self.reader.f64("the time of a date")?,
                    timezone: 0,
                })
            }
            marker::VECTOR_INT => {
                let (fixed, bytes) = self.vector(length, 4)?;
                let values = bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|chunk| i32::from_be_bytes(*chunk))
                    .collect();
                Ok(Value::VectorInt(Vector { fixed, values }))
            }
            marker::VECTOR_UINT => {
                let (fixed, bytes) = self.vector(length, 4)?;
                let values = bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|chunk| u32::from_be_bytes(*chunk))
                    .collect();
                Ok(Value::VectorUint(Vector { fixed, values }))
            }
            marker::VECTOR_DOUBLE => {
                let (fixed, bytes) = self.vector(length, 8)?;
                let values = bytes
                    .as_chunks()
                    .0
                    .iter()
                    .map(|chunk| f64::from_be_bytes(*chunk))
                    .collect();
                Ok(Value::VectorDouble(Vector { fixed, values }))
            }
            _ => {
                let bytes = self.reader.take(length, "text or binary data")?;
                self.budget.bytes(start, length)?;
                Ok(match marker {
                    marker::XML_DOCUMENT => Value::XmlDocument(AmfString::from_bytes(bytes)),
                    marker::XML => Value::Xml(AmfString::from_bytes(bytes)),
                    _ => Value::ByteArray(bytes),
                })
            }
        }
    }

    /// The fixed flag and the elements of a vector of numbers.
    fn vector(&mut self, count: usize, size: usize) -> Result<(bool, Bytes), DecodeError> {
        let fixed = self.reader.u8("the fixed flag of a vector")? != 0;
        let start = self.reader.position();
        self.reader
            .expect_room(count, size, "the elements of a vector")?;
        let bytes = self.reader.take(count * size, "the elements of a vector")?;
        self.budget.bytes(start, bytes.len())?;
        Ok((fixed, bytes))
    }

    fn array(&mut self, count: usize) -> Result<Value, DecodeError> {
        let mut properties = Vec::new();
        self.named(&mut properties)?;
        self.reader
            .expect_room(count, 1, "the dense portion of an array")?;
        if properties.is_empty() {
            return self.values(count).map(Value::StrictArray);
        }
        for index in 0..count {
            let name = AmfString::from(index.to_string());
            self.budget.name(self.reader.position(), name.len())?;
            properties.push((name, self.value()?));
        }
        if ordinal_suffix(&properties) == 0 {
            return Ok(Value::StrictArray(
                properties.into_iter().map(|(_, value)| value).collect(),
            ));
        }
        Ok(Value::EcmaArray(properties.into()))
    }

    fn object_vector(&mut self, count: usize) -> Result<Value, DecodeError> {
        let fixed = self.reader.u8("the fixed flag of a vector")? != 0;
        let class = self.class("the class of a vector")?;
        self.reader
            .expect_room(count, 1, "the elements of a vector")?;
        let values = self.values(count)?;
        Ok(Value::VectorObject(Box::new(ObjectVector {
            class,
            fixed,
            values,
        })))
    }

    fn dictionary(&mut self, count: usize) -> Result<Value, DecodeError> {
        let weak = self.reader.u8("the weak flag of a dictionary")? != 0;
        self.reader
            .expect_room(count, 2, "the entries of a dictionary")?;
        let mut entries = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            let key = self.value()?;
            entries.push((key, self.value()?));
        }
        Ok(Value::Dictionary(Dictionary { weak, entries }))
    }

    fn object(&mut self, start: usize, header: usize) -> Result<Value, DecodeError> {
        let (traits, charged) = if header & 1 == 0 {
            let index = header >> 1;
            let Some(traits) = self.tables.traits.get(index) else {
                return Err(unknown(start, index, self.tables.traits.len(), "traits"));
            };
            let traits = Arc::clone(traits);
            self.budget.bytes(start, traits.class.len())?;
            (traits, false)
        } else {
            (self.traits(header >> 1)?, true)
        };
        let class = traits.class.clone();
        if traits.kind == Kind::Externalizable {
            if !Externalized::is_known(&class) {
                let class = Externalized::excerpt(&class);
                return Err(DecodeError::UnknownExternalizable {
                    offset: start,
                    class,
                });
            }
            let value = self.value()?;
            return Ok(Value::Externalized(Box::new(Externalized { class, value })));
        }
        let mut properties = Vec::with_capacity(traits.names.len().min(64));
        for name in &traits.names {
            if !charged {
                self.budget.name(self.reader.position(), name.len())?;
            }
            properties.push((name.clone(), self.value()?));
        }
        if traits.kind == Kind::Dynamic {
            self.named(&mut properties)?;
        }
        let object = Object::from_iter(properties);
        Ok(Value::Object(if self.fit {
            object.with_traits(class, 0, true)
        } else {
            object.with_traits(class, traits.names.len(), traits.kind == Kind::Dynamic)
        }))
    }

    /// Traits that are spelled out, charged for the object that comes with them.
    fn traits(&mut self, header: usize) -> Result<Arc<Traits>, DecodeError> {
        let (kind, count) = match header & 0b11 {
            0b00 => (Kind::Sealed, header >> 2),
            0b10 => (Kind::Dynamic, header >> 2),
            _ => (Kind::Externalizable, 0),
        };
        let class = self.class("a class name")?;
        self.reader
            .expect_room(count, 1, "the names of sealed members")?;
        let mut names = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            let start = self.reader.position();
            let name = self.text("the name of a sealed member")?;
            self.budget.name(start, name.len())?;
            names.push(name);
        }
        let traits = Arc::new(Traits { class, names, kind });
        if self.tables.again.is_none() {
            self.tables.traits.push(Arc::clone(&traits));
        }
        Ok(traits)
    }

    /// Names and values up to the empty name.
    fn named(&mut self, properties: &mut Vec<(AmfString, Value)>) -> Result<(), DecodeError> {
        loop {
            let start = self.reader.position();
            let name = self.text("a property name")?;
            if name.is_empty() {
                return Ok(());
            }
            self.budget.name(start, name.len())?;
            properties.push((name, self.value()?));
        }
    }

    fn values(&mut self, count: usize) -> Result<Vec<Value>, DecodeError> {
        let mut values = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            values.push(self.value()?);
        }
        Ok(values)
    }

    fn class(&mut self, expected: &'static str) -> Result<AmfString, DecodeError> {
        let start = self.reader.position();
        let class = self.text(expected)?;
        self.budget.bytes(start, class.len())?;
        Ok(class)
    }

    /// Text that may be a reference (1.3.2). The empty string never enters the table.
    fn text(&mut self, expected: &'static str) -> Result<AmfString, DecodeError> {
        let start = self.reader.position();
        let header = self.reader.u29(expected)?;
        let rest = (header >> 1) as usize;
        if header & 1 == 0 {
            let known = self.tables.strings.len();
            return self
                .tables
                .strings
                .get(rest)
                .cloned()
                .ok_or_else(|| unknown(start, rest, known, "strings"));
        }
        let text = self.reader.text(rest, expected)?;
        if !text.is_empty() && self.tables.again.is_none() {
            self.tables.strings.push(text.clone());
        }
        Ok(text)
    }
}

fn unknown(offset: usize, index: usize, known: usize, expected: &'static str) -> DecodeError {
    DecodeError::UnknownReference {
        offset,
        index,
        known,
        expected,
    }
}
