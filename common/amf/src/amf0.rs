//! AMF0 (*Action Message Format -- AMF 0*), with the switch to AMF3 (3.1, marker 0x11).
//!
//! References (2.9) count objects and arrays of one message, which is one [`Decoder`] or [`Encoder`]. The AMF3 values behind the
//! switches of a message share one set of AMF3 tables, apart from that: the specification leaves it open, and the players and
//! Adobe's servers continue the tables from one argument of a call to the next.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub use decode::{Decoder, decode_all};
pub(crate) use encode::is_amf3_only;
pub use encode::{Encoder, encode_all};

/// Type markers (2.1).
mod marker {
    pub(super) const NUMBER: u8 = 0x00;
    pub(super) const BOOLEAN: u8 = 0x01;
    pub(super) const STRING: u8 = 0x02;
    pub(super) const OBJECT: u8 = 0x03;
    pub(super) const NULL: u8 = 0x05;
    pub(super) const UNDEFINED: u8 = 0x06;
    pub(super) const REFERENCE: u8 = 0x07;
    pub(super) const ECMA_ARRAY: u8 = 0x08;
    pub(super) const OBJECT_END: u8 = 0x09;
    pub(super) const STRICT_ARRAY: u8 = 0x0a;
    pub(super) const DATE: u8 = 0x0b;
    pub(super) const LONG_STRING: u8 = 0x0c;
    pub(super) const UNSUPPORTED: u8 = 0x0d;
    pub(super) const XML_DOCUMENT: u8 = 0x0f;
    pub(super) const TYPED_OBJECT: u8 = 0x10;
    pub(super) const AVMPLUS: u8 = 0x11;
}
