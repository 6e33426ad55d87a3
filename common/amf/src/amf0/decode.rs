//! The AMF0 decoder.
//!
//! The reference table holds the places of compounds in the input. A reference to a complete compound decodes it again from there,
//! at the price of the original; one to an open compound is a cycle.

use bytes::Bytes;

use super::marker;
use crate::amf3;
use crate::error::{DecodeError, Format};
use crate::limits::{Budget, Limits};
use crate::reader::Reader;
use crate::text::AmfString;
use crate::value::{Object, Properties, Value};

/// Decodes the values of one message, one by one.
#[derive(Debug)]
pub struct Decoder {
    reader: Reader,
    budget: Budget,
    compounds: Vec<Place>,
    /// While a compound is decoded again: the number of the next one in it.
    again: Option<usize>,
    open: Vec<Open>,
    /// What the switched values of the message share.
    switched: amf3::Tables,
    failure: Option<DecodeError>,
}

/// What it takes to decode a compound again.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Where its marker stands.
    offset: usize,
    /// How many complex values of AMF3 came before it.
    switched: usize,
}

/// A compound that is being decoded.
#[derive(Clone, Copy, Debug)]
struct Open {
    /// Its number in the reference table.
    reference: usize,
    /// Its number in the tree that comes out.
    number: usize,
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

impl Decoder {
    /// A decoder at the start of a message. Text and binary data of its values share the memory of `input`.
    pub fn new(input: &Bytes, limits: Limits) -> Self {
        Self {
            reader: Reader::new(input.clone()),
            budget: Budget::new(limits, usize::from(u16::MAX)),
            compounds: Vec::new(),
            again: None,
            open: Vec::new(),
            switched: amf3::Tables::default(),
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
    /// [`DecodeError`] if the input is no AMF0 or exceeds the limits. Nothing can be read after that: the error comes again.
    pub fn decode(&mut self) -> Result<Value, DecodeError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        self.value()
            .inspect_err(|error| self.failure = Some(error.clone()))
    }

    fn value(&mut self) -> Result<Value, DecodeError> {
        let start = self.reader.position();
        let marker = self.reader.u8("a value")?;
        if marker == marker::AVMPLUS {
            return amf3::decode_switched(&mut self.reader, &mut self.budget, &mut self.switched);
        }
        if marker == marker::REFERENCE {
            return self.reference(start);
        }
        self.budget.value(start)?;
        Ok(match marker {
            marker::NUMBER => Value::Number(self.reader.f64("a number")?),
            marker::BOOLEAN => Value::Boolean(self.reader.u8("a boolean")? != 0),
            marker::STRING => Value::String(self.charged_text(Self::short_text)?),
            marker::LONG_STRING => Value::String(self.charged_text(Self::long_text)?),
            marker::XML_DOCUMENT => Value::XmlDocument(self.charged_text(Self::long_text)?),
            marker::NULL => Value::Null,
            marker::UNDEFINED => Value::Undefined,
            marker::UNSUPPORTED => Value::Unsupported,
            marker::DATE => Value::Date {
                milliseconds: self.reader.f64("the time of a date")?,
                timezone: self.reader.i16("the time zone of a date")?,
            },
            marker::OBJECT => self.compound(start, |decoder| {
                Ok(Value::Object(decoder.properties()?.into()))
            })?,
            marker::TYPED_OBJECT => self.compound(start, Self::typed_object)?,
            marker::ECMA_ARRAY => self.compound(start, |decoder| {
                // Encoders disagree on what the count means, and the end marker is there anyway.
                decoder.reader.u32("the count of an ECMA array")?;
                decoder.properties().map(Value::EcmaArray)
            })?,
            marker::STRICT_ARRAY => self.compound(start, Self::strict_array)?,
            _ => {
                return Err(DecodeError::UnexpectedMarker {
                    offset: start,
                    marker,
                    format: Format::Amf0,
                    expected: "a value",
                });
            }
        })
    }

    fn reference(&mut self, start: usize) -> Result<Value, DecodeError> {
        let index = usize::from(self.reader.u16("a reference")?);
        if let Some(level) = self
            .open
            .iter()
            .rev()
            .position(|open| open.reference == index)
        {
            self.budget.value(start)?;
            self.budget
                .cycle(start, self.open[self.open.len() - 1 - level].number)?;
            return Ok(Value::Ancestor(level as u32));
        }
        let Some(&place) = self.compounds.get(index) else {
            return Err(DecodeError::UnknownReference {
                offset: start,
                index,
                known: self.compounds.len(),
                expected: "objects and arrays",
            });
        };
        let back = self.reader.seek(place.offset);
        let again = self.again.replace(index);
        let switched = self.switched.decode_again(Some(place.switched));
        let value = self.value();
        self.switched.decode_again(switched);
        self.again = again;
        self.reader.seek(back);
        value
    }

    fn compound(
        &mut self,
        start: usize,
        content: impl FnOnce(&mut Self) -> Result<Value, DecodeError>,
    ) -> Result<Value, DecodeError> {
        let number = self.budget.enter(start)?;
        let reference = match &mut self.again {
            Some(next) => {
                *next += 1;
                *next - 1
            }
            None => {
                self.compounds.push(Place {
                    offset: start,
                    switched: self.switched.objects(),
                });
                self.compounds.len() - 1
            }
        };
        self.open.push(Open { reference, number });
        let value = content(self)?;
        self.open.pop();
        self.budget.leave();
        Ok(value)
    }

    fn typed_object(&mut self) -> Result<Value, DecodeError> {
        let class = self.charged_text(Self::short_text)?;
        let object = Object::from(self.properties()?);
        Ok(Value::Object(object.with_traits(class, 0, true)))
    }

    fn properties(&mut self) -> Result<Properties, DecodeError> {
        let mut properties = Vec::new();
        loop {
            let start = self.reader.position();
            let name = self.short_text()?;
            // The end is an empty name and a marker (2.11); an empty name before anything else is just that.
            if name.is_empty() && self.reader.peek() == Some(marker::OBJECT_END) {
                self.reader.u8("the end of an object")?;
                return Ok(properties.into());
            }
            self.budget.name(start, name.len())?;
            properties.push((name, self.value()?));
        }
    }

    fn strict_array(&mut self) -> Result<Value, DecodeError> {
        let count = self.reader.u32("the count of a strict array")? as usize;
        self.reader
            .expect_room(count, 1, "the elements of a strict array")?;
        let mut values = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            values.push(self.value()?);
        }
        Ok(Value::StrictArray(values))
    }

    fn charged_text(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<AmfString, DecodeError>,
    ) -> Result<AmfString, DecodeError> {
        let start = self.reader.position();
        let text = read(self)?;
        self.budget.bytes(start, text.len())?;
        Ok(text)
    }

    fn short_text(&mut self) -> Result<AmfString, DecodeError> {
        let length = self.reader.u16("the length of a string")?;
        self.reader.text(usize::from(length), "a string")
    }

    fn long_text(&mut self) -> Result<AmfString, DecodeError> {
        let length = self.reader.u32("the length of a long string")?;
        self.reader.text(length as usize, "a long string")
    }
}
