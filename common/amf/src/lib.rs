//! AMF0 and AMF3 values, decoders and encoders.
//!
//! Follows *Action Message Format -- AMF 0* and *Action Message Format -- AMF 3* (January 2013). Pure: bytes in, values out and back;
//! no sockets, no clock, no class registry.
//!
//! ```
//! use headwater_amf::{Limits, Object, Value, amf0};
//!
//! let status = Object::new().with("level", "status").with("code", "NetConnection.Connect.Success");
//! let message = amf0::encode_all(&["_result".into(), 1.0.into(), Value::Null, status.into()]).unwrap();
//! let values = amf0::decode_all(&message, Limits::default()).unwrap();
//! assert_eq!(values[3].get("level").and_then(Value::as_str), Some("status"));
//! ```
//!
//! # References, sharing and cycles
//! A [`Value`] is a tree. A reference to something already complete is replaced by an equal copy, so callers never look anything up,
//! and clone, drop, debug and comparison cost what the tree shows. The copy is charged to the [`Limits`] like the original, so a
//! message that multiplies itself by references is refused at the same size as one that spells everything out.
//! That two places held the *same* object is forgotten: encoders write two copies, which every peer understands.
//!
//! A reference to something that is still open is a cycle. It becomes [`Value::Ancestor`], which counts levels upwards and so
//! stays right wherever the tree goes; encoders turn it back into a reference.
//!
//! # What a round trip changes
//! Decoding, encoding in the same format and decoding again gives an equal value (`NaN` aside), and encoding that gives the same
//! bytes. The normalisation happens in the first decoding:
//! - shared references become copies, and copies of a cycle are unrolled until they meet themselves;
//! - long-string markers on short strings, the count of an ECMA array, over-long variable-length integers and missed chances to use
//!   a string or traits reference are not kept;
//! - an AMF3 array with an associative portion is an [`Value::EcmaArray`] whose dense portion follows under the names `0`, `1`, ...;
//!   one whose names are just those is a [`Value::StrictArray`];
//! - inside AMF0, a value behind the AMF3 switch (marker 0x11) is fitted to the AMF0 model: integers are [`Value::Number`], sealed
//!   members are ordinary properties. Encoding goes back to AMF3 only for what AMF0 cannot say.

#![forbid(unsafe_code)]

pub mod amf0;
pub mod amf3;
mod error;
mod limits;
mod reader;
#[cfg(test)]
mod testing;
mod text;
mod value;

pub use error::{DecodeError, EncodeError, Format, LimitKind};
pub use limits::{Limits, MAX_DEPTH};
pub use text::AmfString;
pub use value::{Dictionary, Externalized, Object, ObjectVector, Properties, Value, Vector};
