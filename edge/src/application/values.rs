//! ActionScript values as they travel between nodes: AMF0, one after the other, behind the AMF3 switch where AMF0 cannot say them.

use bytes::Bytes;
use headwater_amf::{Limits, Value, amf0};
use headwater_rtmp::command::ObjectEncoding;

/// Bounds on what comes from an origin for a client: those of what a client may send, since most of it was sent by one.
const LIMITS: Limits = Limits {
    depth: 32,
    values: 16 * 1024,
    bytes: 4 * 1024 * 1024,
};

/// What a client said. A value that cannot be written again is `undefined`.
pub(crate) fn encode(values: &[Value]) -> Bytes {
    if let Ok(bytes) = amf0::encode_all(values) {
        return bytes;
    }
    let mut encoder = amf0::Encoder::new();
    for value in values {
        if encoder.encode(value).is_err() {
            // Always possible.
            let _ = encoder.encode(&Value::Undefined);
        }
    }
    encoder.finish()
}

/// What a client with this encoding is told: what it does not understand is `undefined`. `None` for what is no AMF, or too much.
pub(crate) fn decode(bytes: &Bytes, encoding: ObjectEncoding) -> Option<Vec<Value>> {
    let mut values = amf0::decode_all(bytes, LIMITS).ok()?;
    if encoding == ObjectEncoding::Amf0 {
        for value in &mut values {
            if !value.fits_amf0() {
                *value = Value::Undefined;
            }
        }
    }
    Some(values)
}

/// One value. None at all, or what cannot be read, is `undefined`.
pub(crate) fn decode_one(bytes: &Bytes, encoding: ObjectEncoding) -> Value {
    let values = decode(bytes, encoding).unwrap_or_default();
    values.into_iter().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use headwater_amf::{Externalized, Object};

    use super::*;

    #[test]
    fn a_client_gets_what_it_understands() {
        let bytes = Value::ByteArray(Bytes::from_static(b"abc"));
        let holds = Value::Object(Object::new().with("inner", bytes.clone()));
        let plain = Value::Object(Object::new().with("a", 1.0).with("b", "c"));
        let values = [plain.clone(), bytes.clone(), holds.clone(), Value::Null];
        let encoded = encode(&values);
        assert_eq!(
            decode(&encoded, ObjectEncoding::Amf3).unwrap(),
            [plain.clone(), bytes, holds, Value::Null]
        );
        assert_eq!(
            decode(&encoded, ObjectEncoding::Amf0).unwrap(),
            [plain, Value::Undefined, Value::Undefined, Value::Null]
        );
    }

    #[test]
    fn what_cannot_be_written_is_undefined_and_the_rest_stays() {
        // A class that writes itself in a way nobody knows.
        let unknown = Value::Externalized(Box::new(Externalized {
            class: "Mine".into(),
            value: Value::Null,
        }));
        let encoded = encode(&["a".into(), unknown, "b".into()]);
        assert_eq!(
            decode(&encoded, ObjectEncoding::Amf3).unwrap(),
            ["a".into(), Value::Undefined, "b".into()]
        );
    }

    #[test]
    fn nonsense_is_no_value() {
        let nonsense = Bytes::from_static(&[0x02, 0xff]);
        assert_eq!(decode(&nonsense, ObjectEncoding::Amf0), None);
        assert_eq!(
            decode_one(&nonsense, ObjectEncoding::Amf0),
            Value::Undefined
        );
        assert_eq!(
            decode_one(&Bytes::new(), ObjectEncoding::Amf0),
            Value::Undefined
        );
        let mut deep = [0x0a, 0, 0, 0, 1].repeat(1_000);
        deep.push(0x05);
        assert_eq!(decode(&deep.into(), ObjectEncoding::Amf0), None);
    }
}
