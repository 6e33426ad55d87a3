//! Values as they are kept and relayed: canonical AMF0, with the switch to AMF3 (marker 0x11) for what AMF0 cannot say.
//!
//! Canonical means decoded within limits and written again: references are resolved and numbers have one form, so that equal
//! values have equal bytes (`NaN` aside, whose bits are kept), and a value stands for itself wherever it is copied to. From there
//! on bytes are copied and not looked into.

use bytes::Bytes;
use headwater_amf::{DecodeError, EncodeError, Limits, Value, amf0};

/// The canonical form of `undefined` (AMF0, 2.8).
const UNDEFINED: &[u8] = &[0x06];

/// Marker of the switch to AMF3 (AMF0, 3.1).
const SWITCH: u8 = 0x11;

/// Longest text whose length has 16 bits: AMF0 cannot say longer names.
const MAX_SHORT: usize = u16::MAX as usize;

/// One value. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SlotValue {
    bytes: Bytes,
    switched: bool,
}

/// A list of values: a handler's name and its arguments. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Arguments {
    bytes: Bytes,
    switched: bool,
}

impl SlotValue {
    /// The canonical form of a value.
    ///
    /// # Errors
    /// [`EncodeError`] if it is too deep or too long for the format.
    pub fn new(value: &Value) -> Result<Self, EncodeError> {
        Ok(Self {
            bytes: amf0::encode_all(std::slice::from_ref(value))?,
            switched: survey(value).switched,
        })
    }

    /// A value that another node or the store has given: canonical already, and not checked again.
    ///
    /// The bytes are copied, so that a slot keeps no message in memory that it came with.
    pub fn from_node(bytes: &[u8]) -> Self {
        Self {
            bytes: Bytes::copy_from_slice(bytes),
            switched: holds_switch(bytes),
        }
    }

    /// `undefined`.
    pub fn undefined() -> Self {
        Self {
            bytes: Bytes::from_static(UNDEFINED),
            switched: false,
        }
    }

    /// The value in AMF0.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether it holds the switch to AMF3.
    pub fn holds_switch(&self) -> bool {
        self.switched
    }

    /// Whether it is `null` or `undefined`: as the value of a slot, its removal.
    pub fn is_nullish(&self) -> bool {
        matches!(self.bytes[..], [0x05] | [0x06])
    }

    /// What a client gets that knows only AMF0: the value, or `undefined` if it holds the switch.
    pub(crate) fn plain(&self) -> &[u8] {
        if self.switched {
            UNDEFINED
        } else {
            &self.bytes
        }
    }

    /// The value itself.
    ///
    /// # Errors
    /// [`DecodeError`] if another node gave what is none, or if it exceeds the limits.
    pub fn decode(&self, limits: Limits) -> Result<Value, DecodeError> {
        amf0::Decoder::new(&self.bytes, limits).decode()
    }
}

impl PartialEq for SlotValue {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for SlotValue {}

impl Arguments {
    /// The canonical form of a list of values.
    ///
    /// # Errors
    /// [`EncodeError`] if one is too deep or too long for the format.
    pub fn new(values: &[Value]) -> Result<Self, EncodeError> {
        Ok(Self {
            bytes: amf0::encode_all(values)?,
            switched: values.iter().any(|value| survey(value).switched),
        })
    }

    /// A list that another node has given: canonical already, and not checked again.
    pub fn from_node(bytes: &[u8]) -> Self {
        Self {
            bytes: Bytes::copy_from_slice(bytes),
            switched: holds_switch(bytes),
        }
    }

    /// The values in AMF0, one after the other.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether one of them holds the switch to AMF3.
    pub fn holds_switch(&self) -> bool {
        self.switched
    }

    /// The values themselves.
    ///
    /// # Errors
    /// [`DecodeError`] if another node gave what are none, or if they exceed the limits.
    pub fn decode(&self, limits: Limits) -> Result<Vec<Value>, DecodeError> {
        amf0::decode_all(&self.bytes, limits)
    }

    /// What a client gets that knows only AMF0: `undefined` in place of each value that holds the switch.
    pub(crate) fn plain(&self) -> Bytes {
        if !self.switched {
            return self.bytes.clone();
        }
        let plain = |value: Value| {
            if survey(&value).switched {
                Value::Undefined
            } else {
                value
            }
        };
        self.decode(Limits::default())
            .ok()
            .and_then(|values| {
                let values: Vec<Value> = values.into_iter().map(plain).collect();
                amf0::encode_all(&values).ok()
            })
            .unwrap_or_else(|| Bytes::from_static(UNDEFINED))
    }
}

impl PartialEq for Arguments {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Arguments {}

/// What a look over a value finds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Survey {
    /// Values in it, itself included.
    pub(crate) values: usize,
    /// Whether AMF0 cannot say it without the switch.
    pub(crate) switched: bool,
}

/// Looks over a value. Decoded values are at most [`headwater_amf::MAX_DEPTH`] deep; others are refused by the encoder before.
pub(crate) fn survey(value: &Value) -> Survey {
    let mut found = Survey::default();
    visit(value, 0, &mut found);
    found
}

fn visit(value: &Value, depth: usize, found: &mut Survey) {
    found.values += 1;
    if depth > headwater_amf::MAX_DEPTH {
        return;
    }
    match value {
        Value::Object(object) => {
            found.switched |= object.class().is_some_and(|class| class.len() > MAX_SHORT);
            for (name, value) in object.iter() {
                found.switched |= name.len() > MAX_SHORT;
                visit(value, depth + 1, found);
            }
        }
        Value::EcmaArray(properties) => {
            for (name, value) in properties {
                found.switched |= name.len() > MAX_SHORT;
                visit(value, depth + 1, found);
            }
        }
        Value::StrictArray(values) => {
            for value in values {
                visit(value, depth + 1, found);
            }
        }
        Value::Xml(_)
        | Value::ByteArray(_)
        | Value::VectorInt(_)
        | Value::VectorUint(_)
        | Value::VectorDouble(_) => found.switched = true,
        Value::VectorObject(vector) => {
            found.switched = true;
            for value in &vector.values {
                visit(value, depth + 1, found);
            }
        }
        Value::Dictionary(dictionary) => {
            found.switched = true;
            for (key, value) in &dictionary.entries {
                visit(key, depth + 1, found);
                visit(value, depth + 1, found);
            }
        }
        Value::Externalized(wrapper) => {
            found.switched = true;
            visit(&wrapper.value, depth + 1, found);
        }
        _ => {}
    }
}

/// Whether values of another node hold the switch. Most have no such byte at all; what cannot be decoded is taken to hold it, so
/// that no client gets it that could not know it.
fn holds_switch(bytes: &[u8]) -> bool {
    bytes.contains(&SWITCH)
        && amf0::decode_all(&Bytes::copy_from_slice(bytes), Limits::default())
            .map_or(true, |values| {
                values.iter().any(|value| survey(value).switched)
            })
}
