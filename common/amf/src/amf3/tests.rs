mod vectors;

use bytes::Bytes;
use vectors::vectors;

use super::{Decoder, Encoder, decode_all, encode_all};
use crate::testing::{hex, list};
use crate::{
    DecodeError, EncodeError, Externalized, Format, LimitKind, Limits, MAX_DEPTH, Object,
    Properties, Value, Vector,
};

fn decode(wire: &Bytes) -> Result<Vec<Value>, DecodeError> {
    decode_all(wire, Limits::default())
}

fn decode_one(wire: &str) -> Value {
    let mut values = decode(&hex(wire)).unwrap();
    assert_eq!(values.len(), 1);
    values.remove(0)
}

#[test]
fn every_marker_in_both_directions() {
    for (wire, value) in vectors() {
        let wire = hex(wire);
        assert_eq!(
            decode(&wire).as_deref(),
            Ok(std::slice::from_ref(&value)),
            "{wire:?}"
        );
        assert_eq!(
            encode_all(std::slice::from_ref(&value)),
            Ok(wire),
            "{value:?}"
        );
    }
}

#[test]
fn truncation_at_every_offset_is_an_error() {
    for (wire, _) in vectors() {
        let wire = hex(wire);
        for cut in 1..wire.len() {
            let error = decode(&wire.slice(..cut)).unwrap_err();
            assert!(
                matches!(error, DecodeError::UnexpectedEnd { .. }),
                "{wire:?} cut at {cut}: {error}"
            );
            assert!(error.offset() <= cut);
        }
    }
}

#[test]
fn what_is_read_but_not_written() {
    // Over-long integers, flags other than 0 and 1, dates with a header that means nothing.
    assert_eq!(decode_one("04 80808005"), 5.into());
    assert_eq!(
        decode_one("0d 01 07"),
        Value::VectorInt(Vector {
            fixed: true,
            values: vec![]
        })
    );
    assert_eq!(
        decode_one("08 0d 4059000000000000"),
        Value::Date {
            milliseconds: 100.0,
            timezone: 0
        }
    );
    // Names in the associative portion that belong to the dense one.
    assert_eq!(decode_one("09 03 03 '0' 02 03 '1' 03 01 01"), {
        Properties::new()
            .with("0", false)
            .with("1", true)
            .with("0", ())
            .into()
    });
    assert_eq!(
        decode_one("09 01 03 '0' 02 03 '1' 03 01"),
        list([false.into(), true.into()])
    );
}

#[test]
fn what_is_written_differently_than_given() {
    let table = [
        (Value::Unsupported, "00"),
        (Value::Integer(1 << 28), "05 41b0000000000000"),
        (Value::Integer(i32::MIN), "05 c1e0000000000000"),
        (
            Value::Date {
                milliseconds: 0.0,
                timezone: 60,
            },
            "08 01 0000000000000000",
        ),
        (Properties::new().into(), "09 01 01"),
        (
            Properties::new().with("0", 1).with("1", 2).into(),
            "09 05 01 04 01 04 02",
        ),
        // A nameless property has to be a sealed member, and those before it with it.
        (
            Object::new().with("a", 1).with("", 2).with("b", 3).into(),
            "0a 2b 01 03 'a' 01 04 01 04 02 03 'b' 04 03 01",
        ),
    ];
    for (value, wire) in table {
        assert_eq!(
            encode_all(std::slice::from_ref(&value)),
            Ok(hex(wire)),
            "{value:?}"
        );
    }
}

#[test]
fn references_to_complete_values_become_copies() {
    let leaves = [
        "07 09 '<a/>'",
        "08 01 4059000000000000",
        "0b 09 '<a/>'",
        "0c 05 0102",
        "0d 03 00 00000001",
        "0e 03 00 00000001",
        "0f 03 00 3ff8000000000000",
        "10 03 00 03 'T' 01",
        "11 03 00 01 01",
        "09 03 01 01",
        "0a 1b 05 'TT' 03 'x' 02 03 'y' 03 01",
    ];
    for leaf in leaves {
        let marker = &leaf[..2];
        let values = decode(&hex(&format!("{leaf} {marker} 00 {marker} 00"))).unwrap();
        assert_eq!(values.len(), 3);
        assert!(
            values
                .iter()
                .all(|value| *value == values[0] && !value.is_nullish()),
            "{leaf}"
        );
        // The wrong marker in front.
        let other = if marker == "0c" { "0b" } else { "0c" };
        let error = decode(&hex(&format!("{leaf} {other} 00"))).unwrap_err();
        assert!(
            matches!(error, DecodeError::MismatchedReference { index: 0, .. }),
            "{error}"
        );
    }
}

#[test]
fn decoding_again_disturbs_no_table() {
    // 0: array [ 1: object C with a string, 2: its copy by reference to traits ], then a copy of all, then uses of every table.
    let object = |text: &str| Value::from(Object::new().with("x", text).with_traits("C", 1, false));
    let array = list([object("s"), object("t")]);
    let wire = "09 05 01 0a 13 03 'C' 03 'x' 06 03 's' 0a 01 06 03 't' 09 00 09 01 01 0a 04 06 06 09 06 0a 01 06 04 06 03 'n' 06 08";
    assert_eq!(
        decode(&hex(wire)).unwrap(),
        [
            array.clone(),
            array,
            list([]),
            object("t"),
            "t".into(),
            list([]),
            object("s"),
            "n".into(),
            "n".into(),
        ]
    );
}

#[test]
fn members_are_counted_for_every_object() {
    // Two objects of one class, which is spelled out once: a value, a class, a name and a value each.
    let wire = hex("0a 13 03 'C' 03 'x' 01 0a 01 01");
    let exact = Limits {
        depth: 1,
        values: 4,
        bytes: 2 * (48 + 1 + 33 + 48),
    };
    assert!(decode_all(&wire, exact).is_ok());
    for short in [
        Limits { depth: 0, ..exact },
        Limits { values: 3, ..exact },
        Limits {
            bytes: exact.bytes - 1,
            ..exact
        },
    ] {
        assert!(matches!(
            decode_all(&wire, short),
            Err(DecodeError::LimitExceeded { .. })
        ));
    }
}

#[test]
fn a_reference_into_a_complete_cycle_is_unrolled_until_it_meets_itself() {
    // [ a = { b: { a: a } }, reference to b ]
    let wire = hex("09 05 01 0a 0b 01 03 'b' 0a 01 03 'a' 0a 02 01 01 0a 04");
    let values = decode(&wire).unwrap();
    let in_a = Object::new().with("b", Object::new().with("a", Value::Ancestor(1)));
    let in_b = Object::new().with("a", in_a.clone());
    assert_eq!(values, [list([in_a.into(), in_b.into()])]);
    let again = encode_all(&values).unwrap();
    assert_eq!(decode(&again), Ok(values));
}

#[test]
fn tables_last_for_the_message() {
    let wire = hex("06 03 'a' 06 00 0a 13 03 'C' 00 02 0a 01 03");
    let mut decoder = Decoder::new(&wire, Limits::default());
    let object = |x: bool| Value::from(Object::new().with("a", x).with_traits("C", 1, false));
    for value in ["a".into(), "a".into(), object(false), object(true)] {
        assert_eq!(decoder.decode(), Ok(value));
    }
    assert!(decoder.is_empty());
    assert_eq!(decoder.position(), wire.len());
    assert_eq!(
        encode_all(&["a".into(), "a".into(), object(false), object(true)]),
        Ok(wire)
    );
}

#[test]
fn text_that_is_not_utf8_survives() {
    let wire = hex("0a 0b 01 05 'a'f1 06 05 fffe 01");
    let values = decode(&wire).unwrap();
    assert_eq!(
        values[0]
            .as_object()
            .unwrap()
            .iter()
            .next()
            .unwrap()
            .0
            .as_bytes(),
        b"a\xf1"
    );
    assert_eq!(encode_all(&values), Ok(wire));
}

#[test]
fn errors_name_the_place() {
    let end = |offset, expected, missing| DecodeError::UnexpectedEnd {
        offset,
        expected,
        missing,
    };
    let unknown = |offset, index, known, expected| DecodeError::UnknownReference {
        offset,
        index,
        known,
        expected,
    };
    let table = [
        (
            "01 12",
            DecodeError::UnexpectedMarker {
                offset: 1,
                marker: 0x12,
                format: Format::Amf3,
                expected: "a value",
            },
        ),
        ("06 0b 'live'", end(2, "a string", 1)),
        ("0c 05 01", end(2, "text or binary data", 1)),
        ("09 05 01 01", end(3, "the dense portion of an array", 1)),
        ("11 03 00 01", end(3, "the entries of a dictionary", 1)),
        ("0a a3", end(2, "an object", 1)),
        ("06 00", unknown(1, 0, 0, "strings")),
        ("06 03 'a' 06 02", unknown(4, 1, 1, "strings")),
        ("09 00", unknown(0, 0, 0, "objects")),
        ("0a 01", unknown(0, 0, 0, "traits")),
        (
            "0c 01 09 00",
            DecodeError::MismatchedReference {
                offset: 2,
                index: 0,
                found: 0x0c,
                expected: "an array",
            },
        ),
        (
            "01 0a 07 07 'DSK' 00",
            DecodeError::UnknownExternalizable {
                offset: 1,
                class: "DSK".into(),
            },
        ),
    ];
    for (wire, error) in table {
        let found = decode(&hex(wire)).unwrap_err();
        assert_eq!(found, error, "{wire}");
    }
}

#[test]
fn a_failed_decoder_stays_failed() {
    let mut decoder = Decoder::new(&hex("12 01 01"), Limits::default());
    let error = decoder.decode().unwrap_err();
    assert_eq!(decoder.decode(), Err(error));
}

#[test]
fn counts_without_data_allocate_nothing() {
    // The largest count there is: 2^28 - 1.
    for wire in [
        "0d ffffffff 00",
        "0e ffffffff 00",
        "0f ffffffff 00",
        "10 ffffffff 00 01",
        "11 ffffffff 00",
        "09 ffffffff 01",
    ] {
        let error = decode(&hex(wire)).unwrap_err();
        let DecodeError::UnexpectedEnd { missing, .. } = error else {
            panic!("{error}")
        };
        assert!(missing >= (1 << 28) - 1, "{wire}: {error}");
    }
    // Sealed members: 2^25 - 1 names.
    assert!(matches!(
        decode(&hex("0a fffffff3 01")),
        Err(DecodeError::UnexpectedEnd { .. })
    ));
}

#[test]
fn depth_bombs_are_refused() {
    let limits = Limits::default();
    let table = [
        "09 03 01",
        "0a 13 01 03 'a'",
        "11 03 00 01",
        "10 03 00 01",
        "09 03 03 'k'",
    ];
    for level in table {
        let wire = hex(&level.repeat(100_000));
        let error = decode_all(&wire, limits).unwrap_err();
        let refused = matches!(
            error,
            DecodeError::LimitExceeded {
                limit: LimitKind::Depth,
                maximum: 64,
                ..
            }
        );
        assert!(refused, "{level}: {error}");
    }
    let endless = Limits {
        depth: usize::MAX,
        ..limits
    };
    let nested = |levels: usize| hex(&("09 03 01".repeat(levels) + "01"));
    assert!(decode_all(&nested(MAX_DEPTH), endless).is_ok());
    assert!(decode_all(&nested(MAX_DEPTH + 1), endless).is_err());
}

#[test]
fn reference_bombs_cost_no_more_than_the_limits() {
    // Objects: each array holds the one before it ten times.
    let mut wire = String::from("09 15 01") + &"01".repeat(10);
    for level in 0..8 {
        wire += "09 15 01";
        wire += &format!("09 {:02x}", level * 2).repeat(10);
    }
    let error = decode(&hex(&wire)).unwrap_err();
    assert!(
        matches!(
            error,
            DecodeError::LimitExceeded {
                limit: LimitKind::Values,
                ..
            }
        ),
        "{error}"
    );

    // Strings: 60,000 bytes once, and references of two bytes to it.
    let text = format!("06 {} '{}'", "87a941", "x".repeat(60_000));
    let wire = hex(&(text + &"06 00".repeat(1000)));
    assert!(matches!(
        decode(&wire),
        Err(DecodeError::LimitExceeded {
            limit: LimitKind::Bytes,
            ..
        })
    ));

    // Traits: a thousand members, and objects of them by reference that hold nothing but references to the first.
    let names: String = (0..1000).map(|index| format!("09 '{index:04}'")).collect();
    let object = format!("0a fd03 01 {names} {}", "01".repeat(1000));
    let wire = hex(&(object + &"0a 00".repeat(1000)));
    assert!(matches!(
        decode(&wire),
        Err(DecodeError::LimitExceeded { .. })
    ));

    // Binary data.
    let bytes = format!("0c {} {}", "87a941", "00".repeat(60_000));
    let wire = hex(&(bytes + &"0c 00".repeat(1000)));
    assert!(matches!(
        decode(&wire),
        Err(DecodeError::LimitExceeded {
            limit: LimitKind::Bytes,
            ..
        })
    ));
}

#[test]
fn the_encoder_refuses_what_cannot_be_said_and_forgets_it() {
    let mut encoder = Encoder::new();
    encoder.encode(&"kept".into()).unwrap();
    let nameless = list(["lost".into(), Properties::new().with("", ()).into()]);
    let error = encoder.encode(&nameless).unwrap_err();
    assert_eq!(error, EncodeError::EmptyName { offset: 17 });
    assert_eq!(
        error.to_string(),
        "array property for byte 17 has no name: expected one in AMF3"
    );
    let wrapper = Externalized {
        class: "my.Class".into(),
        value: Value::Null,
    };
    let error = encoder
        .encode(&Value::Externalized(Box::new(wrapper)))
        .unwrap_err();
    assert!(matches!(error, EncodeError::UnknownExternalizable { .. }));
    assert!(matches!(
        encoder.encode(&Value::Ancestor(0)),
        Err(EncodeError::UnreachableAncestor { .. })
    ));
    let deep = (0..=MAX_DEPTH).fold(Value::Null, |inner, _| list([inner]));
    assert!(matches!(
        encoder.encode(&deep),
        Err(EncodeError::TooDeep { .. })
    ));
    encoder
        .encode(&list(["kept".into(), "lost".into(), Value::Ancestor(0)]))
        .unwrap();
    assert_eq!(
        encoder.finish(),
        hex("06 09 'kept' 09 07 01 06 00 06 09 'lost' 09 00")
    );
}
