//! Data messages (types 18 and 15): handler name and arguments, and the two names that are orders to the server.
//!
//! Adobe's RTMP specification, section 7.1.2, and the manuals' chapter on metadata: `@setDataFrame` keeps what follows for every
//! later subscriber, `@clearDataFrame` drops it. The body of a type 15 message is a format byte 0 and then AMF0 values in which
//! single values may switch to AMF3 (Enhanced RTMP v2, "Important AMF3-encoded Historical Specification Clarification").
//!
//! Only the prefix is looked at: what a publisher sends is passed on as it is, valid or not. The one exception are values that
//! switch to AMF3: players that asked for AMF0 could not read them, so they are written again in AMF0 as far as that can say it.

use bytes::{BufMut, Bytes, BytesMut};
use headwater_amf::{Limits, amf0};

/// What a data message asks of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DataKind {
    /// Passes to the players, in order with audio and video.
    #[default]
    Plain,
    /// `@setDataFrame`: passes to the players, now and when they come later. The payload begins with the handler's name.
    SetDataFrame,
    /// `@clearDataFrame`: the kept message of that name is dropped. The payload is the handler's name.
    ClearDataFrame,
}

const SET_DATA_FRAME: &[u8] = b"@setDataFrame";
const CLEAR_DATA_FRAME: &[u8] = b"@clearDataFrame";

const AMF0_STRING: u8 = 0x02;
const AMF0_SWITCH_TO_AMF3: u8 = 0x11;
const AMF3_STRING: u8 = 0x06;

/// Longest data message that is written again without switches to AMF3, in bytes; a longer one passes as it is.
const MAX_REWRITTEN_LENGTH: usize = 1024 * 1024;

/// How many times as long a message may be without switches, and how many bytes more: the numbers of AMF3 take 2 bytes at the least and
/// 9 in AMF0, its names of objects and properties one byte when they come again. References of either can say far more than that.
const MAX_GROWTH: (usize, usize) = (16, 1024);

/// Turns the body of a data message into AMF0 without its wrapper.
///
/// `amf3` says that the message is of type 15. Nothing is copied, unless a value switches to AMF3.
#[must_use]
pub fn normalise_data(amf3: bool, mut body: Bytes) -> (DataKind, Bytes) {
    if amf3 {
        if body.first() == Some(&0) {
            body = body.slice(1..);
        }
        body = without_switches(body);
    }
    for (name, kind) in [
        (SET_DATA_FRAME, DataKind::SetDataFrame),
        (CLEAR_DATA_FRAME, DataKind::ClearDataFrame),
    ] {
        if let Some(length) = string_prefix(&body, name) {
            return (kind, body.slice(length..));
        }
    }
    (DataKind::Plain, body)
}

/// The body of a message that sets kept data: the counterpart of [`normalise_data`] for a publisher.
#[must_use]
pub fn wrap_data(kind: DataKind, payload: &Bytes) -> Bytes {
    let name = match kind {
        DataKind::Plain => return payload.clone(),
        DataKind::SetDataFrame => SET_DATA_FRAME,
        DataKind::ClearDataFrame => CLEAR_DATA_FRAME,
    };
    let mut body = BytesMut::with_capacity(3 + name.len() + payload.len());
    body.put_u8(AMF0_STRING);
    // Both names are shorter than 256 bytes.
    body.put_u16(u16::try_from(name.len()).unwrap_or(u16::MAX));
    body.put_slice(name);
    body.put_slice(payload);
    body.freeze()
}

/// Writes AMF0 values again if one may switch to AMF3. What cannot be decoded stays as it is, and so does what would be so much
/// longer ([`MAX_GROWTH`]) that it was made for that: each of its bytes would go to every player that many times.
fn without_switches(body: Bytes) -> Bytes {
    if body.len() > MAX_REWRITTEN_LENGTH || !body.contains(&AMF0_SWITCH_TO_AMF3) {
        return body;
    }
    let longest = body.len() * MAX_GROWTH.0 + MAX_GROWTH.1;
    amf0::decode_all(&body, Limits::DEFAULT)
        .ok()
        .and_then(|values| amf0::encode_all(&values).ok())
        .filter(|rewritten| rewritten.len() <= longest)
        .unwrap_or(body)
}

/// The length of the encoded string `name` if `body` starts with it, in AMF0 or in AMF3 behind a switch.
fn string_prefix(body: &[u8], name: &[u8]) -> Option<usize> {
    let (rest, overhead) = match body {
        [AMF0_STRING, high, low, rest @ ..]
            if usize::from(u16::from_be_bytes([*high, *low])) == name.len() =>
        {
            (rest, 3)
        }
        // The AMF3 length is shifted by one with bit 0 set for a string that stands in full; below 64 it is one byte.
        [AMF0_SWITCH_TO_AMF3, AMF3_STRING, length, rest @ ..]
            if usize::from(*length) == name.len() * 2 + 1 =>
        {
            (rest, 3)
        }
        _ => return None,
    };
    rest.starts_with(name).then_some(overhead + name.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON_META_DATA: &[u8] = b"\x02\x00\x0aonMetaData\x03\x00\x00\x09";

    fn normal(amf3: bool, body: &[u8]) -> (DataKind, Bytes) {
        normalise_data(amf3, Bytes::copy_from_slice(body))
    }

    #[test]
    fn wrappers_are_taken_off() {
        let plain = Bytes::from_static(ON_META_DATA);
        for kind in [
            DataKind::Plain,
            DataKind::SetDataFrame,
            DataKind::ClearDataFrame,
        ] {
            let wrapped = wrap_data(kind, &plain);
            assert_eq!(normal(false, &wrapped), (kind, plain.clone()));
            let amf3 = [b"\x00", &wrapped[..]].concat();
            assert_eq!(normal(true, &amf3), (kind, plain.clone()));
        }
        let amf3_name = [b"\x00\x11\x06\x1b@setDataFrame", ON_META_DATA].concat();
        assert_eq!(normal(true, &amf3_name), (DataKind::SetDataFrame, plain));
    }

    #[test]
    fn references_do_not_make_messages_much_longer() {
        // In AMF3 behind a switch: an array of a text and so many references to it.
        let referring = |text: usize, count: usize| {
            // Numbers of two bytes.
            let number = |number: usize| {
                assert!((64..8_192).contains(&number));
                [(number >> 6) as u8 | 0x80, (number << 1 & 0x7f) as u8 | 1]
            };
            let mut body = b"\x02\0\x01a\x11\x09".to_vec();
            body.extend_from_slice(&number(count + 1));
            body.extend_from_slice(b"\x01\x06");
            body.extend_from_slice(&number(text));
            body.resize(body.len() + text, b'x');
            body.extend_from_slice(&b"\x06\x00".repeat(count));
            body
        };
        // As often as a name may come again in an honest message.
        let honest = [&referring(64, 63)[..], &[0x05; 100]].concat();
        let rewritten = normal(true, &honest).1;
        assert_eq!(rewritten.len(), 4 + 5 + 64 * (3 + 64) + 100);
        let bomb = referring(1_000, 4_000);
        assert_eq!(normal(true, &bomb).1, bomb, "{} bytes", bomb.len());
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        for body in [
            &b""[..],
            b"\x00",
            b"\x02\x00",
            b"\x02\x00\x0d@setDataFram",
            b"\x02\x00\x0e@setDataFrame2",
            b"\x11\x06",
        ] {
            assert_eq!(
                normal(false, body),
                (DataKind::Plain, Bytes::copy_from_slice(body))
            );
        }
        // No format byte: some encoders forget it.
        assert_eq!(normal(true, ON_META_DATA).1, ON_META_DATA);
    }
}
