//! The AMF0 encoder.

use std::collections::HashSet;

use bytes::Bytes;

use super::marker;
use crate::amf3;
use crate::error::EncodeError;
use crate::limits::MAX_DEPTH;
use crate::text::AmfString;
use crate::value::{Object, Properties, Value};

/// Longest name, class name or string with a 16-bit length.
const MAX_SHORT: usize = u16::MAX as usize;

/// Encodes the values of one message, one by one.
#[derive(Debug, Default)]
pub struct Encoder {
    output: Vec<u8>,
    /// Compounds so far.
    compounds: usize,
    /// Numbers of the compounds that enclose the current value.
    open: Vec<usize>,
    /// What the switched values of the message share.
    switched: amf3::EncoderTables,
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

impl Encoder {
    /// An encoder of an empty message.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value. What AMF0 cannot say goes behind the switch to AMF3; integers become numbers.
    ///
    /// # Errors
    /// [`EncodeError`] if neither format can say it. The message is then as it was before.
    pub fn encode(&mut self, value: &Value) -> Result<(), EncodeError> {
        let (length, compounds, mark) = (self.output.len(), self.compounds, self.switched.mark());
        let mut result = self.value(value, &HashSet::new());
        if let Err(EncodeError::UnreachableAncestor { .. }) = result {
            // References do not reach out of a switched value: try again with the switch further out.
            let mut switched = HashSet::new();
            plan(value, 0, &mut switched);
            self.rewind(length, compounds, mark);
            result = self.value(value, &switched);
        }
        if result.is_err() {
            self.rewind(length, compounds, mark);
        }
        result
    }

    /// The message.
    pub fn finish(self) -> Bytes {
        self.output.into()
    }

    fn rewind(&mut self, length: usize, compounds: usize, mark: amf3::EncoderMark) {
        self.output.truncate(length);
        self.compounds = compounds;
        self.switched.rewind(mark);
        self.open.clear();
    }

    fn value(
        &mut self,
        value: &Value,
        switched: &HashSet<*const Value>,
    ) -> Result<(), EncodeError> {
        if is_amf3_only(value) || switched.contains(&std::ptr::from_ref(value)) {
            self.output.push(marker::AVMPLUS);
            return amf3::encode_switched(
                &mut self.output,
                &mut self.switched,
                value,
                self.open.len(),
            );
        }
        match value {
            Value::Number(number) => self.number(*number),
            Value::Integer(integer) => self.number(f64::from(*integer)),
            Value::Boolean(truth) => self.output.extend([marker::BOOLEAN, u8::from(*truth)]),
            Value::String(text) if text.len() <= MAX_SHORT => {
                self.output.push(marker::STRING);
                self.short_text(text, "string")?;
            }
            Value::String(text) => self.long_text(marker::LONG_STRING, text)?,
            Value::XmlDocument(text) => self.long_text(marker::XML_DOCUMENT, text)?,
            Value::Null => self.output.push(marker::NULL),
            Value::Undefined => self.output.push(marker::UNDEFINED),
            Value::Unsupported => self.output.push(marker::UNSUPPORTED),
            Value::Date {
                milliseconds,
                timezone,
            } => {
                self.output.push(marker::DATE);
                self.output.extend(milliseconds.to_be_bytes());
                self.output.extend(timezone.to_be_bytes());
            }
            Value::Object(object) => {
                self.enter()?;
                self.object(object, switched)?;
                self.open.pop();
            }
            Value::EcmaArray(properties) => {
                self.enter()?;
                self.output.push(marker::ECMA_ARRAY);
                self.count(properties.len(), "ECMA array")?;
                self.properties(properties, switched)?;
                self.open.pop();
            }
            Value::StrictArray(values) => {
                self.enter()?;
                self.output.push(marker::STRICT_ARRAY);
                self.count(values.len(), "strict array")?;
                for value in values {
                    self.value(value, switched)?;
                }
                self.open.pop();
            }
            Value::Ancestor(level) => self.ancestor(*level)?,
            // Taken care of above.
            Value::Xml(_)
            | Value::ByteArray(_)
            | Value::VectorInt(_)
            | Value::VectorUint(_)
            | Value::VectorDouble(_)
            | Value::VectorObject(_)
            | Value::Dictionary(_)
            | Value::Externalized(_) => {}
        }
        Ok(())
    }

    fn enter(&mut self) -> Result<(), EncodeError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(EncodeError::TooDeep {
                offset: self.output.len(),
            });
        }
        self.open.push(self.compounds);
        self.compounds += 1;
        Ok(())
    }

    fn object(
        &mut self,
        object: &Object,
        switched: &HashSet<*const Value>,
    ) -> Result<(), EncodeError> {
        match object.class() {
            Some(class) => {
                self.output.push(marker::TYPED_OBJECT);
                self.short_text(class, "class name")?;
            }
            None => self.output.push(marker::OBJECT),
        }
        self.properties(object.properties(), switched)
    }

    fn properties(
        &mut self,
        properties: &Properties,
        switched: &HashSet<*const Value>,
    ) -> Result<(), EncodeError> {
        for (name, value) in properties {
            self.short_text(name, "property name")?;
            self.value(value, switched)?;
        }
        self.output.extend([0, 0, marker::OBJECT_END]);
        Ok(())
    }

    fn ancestor(&mut self, level: u32) -> Result<(), EncodeError> {
        let number = self
            .open
            .iter()
            .rev()
            .nth(level as usize)
            .and_then(|number| u16::try_from(*number).ok());
        let Some(number) = number else {
            return Err(EncodeError::UnreachableAncestor {
                offset: self.output.len(),
                level,
            });
        };
        self.output.push(marker::REFERENCE);
        self.output.extend(number.to_be_bytes());
        Ok(())
    }

    fn number(&mut self, number: f64) {
        self.output.push(marker::NUMBER);
        self.output.extend(number.to_be_bytes());
    }

    fn count(&mut self, count: usize, what: &'static str) -> Result<(), EncodeError> {
        let field =
            u32::try_from(count).map_err(|_| self.too_long(what, count, u32::MAX as usize))?;
        self.output.extend(field.to_be_bytes());
        Ok(())
    }

    fn short_text(&mut self, text: &AmfString, what: &'static str) -> Result<(), EncodeError> {
        let field =
            u16::try_from(text.len()).map_err(|_| self.too_long(what, text.len(), MAX_SHORT))?;
        self.output.extend(field.to_be_bytes());
        self.output.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn long_text(&mut self, marker: u8, text: &AmfString) -> Result<(), EncodeError> {
        self.output.push(marker);
        self.count(text.len(), "long string")?;
        self.output.extend_from_slice(text.as_bytes());
        Ok(())
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

/// Whether AMF0 has no way to say this value, leaving aside what it holds.
pub(crate) fn is_amf3_only(value: &Value) -> bool {
    let any_long =
        |properties: &Properties| properties.iter().any(|(name, _)| name.len() > MAX_SHORT);
    match value {
        Value::Xml(_)
        | Value::ByteArray(_)
        | Value::VectorInt(_)
        | Value::VectorUint(_)
        | Value::VectorDouble(_)
        | Value::VectorObject(_)
        | Value::Dictionary(_)
        | Value::Externalized(_) => true,
        Value::Object(object) => {
            object.class().is_some_and(|class| class.len() > MAX_SHORT)
                || any_long(object.properties())
        }
        Value::EcmaArray(properties) => any_long(properties),
        _ => false,
    }
}

/// The outermost compounds that cycles within a subtree lead to, as positions on the path from the root.
#[derive(Clone, Copy, Default)]
struct Reach {
    /// From anywhere in it.
    any: Option<usize>,
    /// From those of its parts that will be switched to AMF3.
    switched: Option<usize>,
}

/// Finds the compounds that must be switched because a cycle leads to them from something that is.
fn plan(value: &Value, depth: usize, switched: &mut HashSet<*const Value>) -> Reach {
    if let Value::Ancestor(level) = value {
        return Reach {
            any: depth.checked_sub(1 + *level as usize),
            switched: None,
        };
    }
    if depth > MAX_DEPTH {
        return Reach::default();
    }
    let mut reach = Reach::default();
    value.for_each_child(&mut |child| {
        let inner = plan(child, depth + 1, switched);
        reach.any = outermost(reach.any, inner.any);
        reach.switched = outermost(reach.switched, inner.switched);
    });
    let outside = |position: &usize| *position < depth;
    if is_amf3_only(value) || reach.switched.is_some() {
        switched.insert(std::ptr::from_ref(value));
        reach.switched = reach.any.filter(outside);
    }
    reach.any = reach.any.filter(outside);
    reach
}

fn outermost(one: Option<usize>, other: Option<usize>) -> Option<usize> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
