//! The collections that only AMF3 has.

use crate::text::AmfString;
use crate::value::Value;

/// A vector of numbers (AMF3, 3.15).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vector<T> {
    /// Whether its length may not change.
    pub fixed: bool,
    /// The elements.
    pub values: Vec<T>,
}

/// A vector of anything but numbers (AMF3, 3.15).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObjectVector {
    /// Class of the elements; empty or `*` for any.
    pub class: AmfString,
    /// Whether its length may not change.
    pub fixed: bool,
    /// The elements.
    pub values: Vec<Value>,
}

/// A map with keys of any kind (AMF3, 3.16), in the order of the wire.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dictionary {
    /// Whether keys are held weakly by the player.
    pub weak: bool,
    /// Keys and values.
    pub entries: Vec<(Value, Value)>,
}

/// An object that writes itself, of a class whose form is known to be one value: the Flex wrappers.
///
/// The form of any other class is known only to its peers, and nothing after it could be read; decoders refuse it.
#[derive(Clone, Debug, PartialEq)]
pub struct Externalized {
    /// One of the constants below.
    pub class: AmfString,
    /// What is wrapped.
    pub value: Value,
}

impl Externalized {
    /// A list around an array.
    pub const ARRAY_COLLECTION: AmfString =
        AmfString::from_static("flex.messaging.io.ArrayCollection");
    /// A list around an array.
    pub const ARRAY_LIST: AmfString = AmfString::from_static("flex.messaging.io.ArrayList");
    /// A proxy around an object.
    pub const OBJECT_PROXY: AmfString = AmfString::from_static("flex.messaging.io.ObjectProxy");
    /// A proxy around any value.
    pub const SERIALIZATION_PROXY: AmfString =
        AmfString::from_static("flex.messaging.io.SerializationProxy");

    /// Whether objects of this class can be read and written.
    pub fn is_known(class: &AmfString) -> bool {
        [
            Self::ARRAY_COLLECTION,
            Self::ARRAY_LIST,
            Self::OBJECT_PROXY,
            Self::SERIALIZATION_PROXY,
        ]
        .contains(class)
    }

    /// The start of a class name, for error messages.
    pub(crate) fn excerpt(class: &AmfString) -> String {
        class.to_string_lossy().chars().take(64).collect()
    }
}
