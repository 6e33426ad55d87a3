mod vectors;

use bytes::Bytes;
use vectors::vectors;

use super::{Decoder, Encoder, decode_all, encode_all, marker};
use crate::testing::{hex, list};
use crate::{
    AmfString, DecodeError, Dictionary, EncodeError, Externalized, Format, LimitKind, Limits,
    MAX_DEPTH, Object, ObjectVector, Properties, Value,
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
fn what_is_read_but_not_written() {
    assert_eq!(decode_one("01 07"), Value::Boolean(true));
    assert_eq!(decode_one("0c 00000002 'ab'"), "ab".into());
    // The count of an ECMA array is a hint.
    assert_eq!(
        decode_one("08 ffffffff 0001 'w' 05 000009"),
        Properties::new().with("w", ()).into()
    );
    assert_eq!(decode_one("10 0000 000009"), Object::new().into());
    // Simple values behind the switch, fitted to AMF0.
    assert_eq!(decode_one("11 04 ffffffff"), Value::Number(-1.0));
    assert_eq!(decode_one("11 06 05 'ab'"), "ab".into());
    assert_eq!(
        decode_one("11 08 01 4059000000000000"),
        Value::Date {
            milliseconds: 100.0,
            timezone: 0
        }
    );
    let sealed = decode_one("11 0a 13 03 'C' 03 'x' 04 05");
    assert_eq!(sealed, Object::typed("C").with("x", 5.0).into());
    let mixed = decode_one("11 09 03 03 'k' 01 01 03");
    assert_eq!(
        mixed,
        Properties::new().with("k", ()).with("0", true).into()
    );
}

#[test]
fn truncation_at_every_offset_is_an_error() {
    let read_only = [
        "0c 00000002 'ab'",
        "08 00000001 0001 'w' 05 000009",
        "11 0a 13 03 'C' 03 'x' 04 05",
    ];
    for wire in vectors().into_iter().map(|(wire, _)| wire).chain(read_only) {
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
fn a_message_is_read_value_by_value() {
    // The connect command of a player.
    let wire = hex("02 0007 'connect' 00 3ff0000000000000 03 0003 'app' 02 0004 'live' 000009");
    let mut decoder = Decoder::new(&wire, Limits::default());
    assert_eq!(decoder.decode().unwrap().as_str(), Some("connect"));
    assert_eq!(decoder.position(), 10);
    assert_eq!(decoder.decode().unwrap().as_number(), Some(1.0));
    assert_eq!(
        decoder.decode().unwrap().get("app").and_then(Value::as_str),
        Some("live")
    );
    assert!(decoder.is_empty());
    let error = decoder.decode().unwrap_err();
    assert_eq!(
        error,
        DecodeError::UnexpectedEnd {
            offset: wire.len(),
            expected: "a value",
            missing: 1
        }
    );
    assert_eq!(
        error.to_string(),
        "input ends at byte 35: expected a value, 1 bytes are missing"
    );
    assert_eq!(decode(&Bytes::new()), Ok(Vec::new()));
}

#[test]
fn text_shares_the_memory_of_the_message() {
    let wire = hex("02 0004 'live'");
    let values = decode(&wire).unwrap();
    let text = values[0].as_string().unwrap();
    assert_eq!(text.as_bytes().as_ptr(), wire[3..].as_ptr());
}

#[test]
fn text_that_is_not_utf8_survives() {
    let wire = hex("03 0002 'a'f1 02 0003 ff'b'fe 000009");
    let values = decode(&wire).unwrap();
    let (name, value) = &values[0].as_object().unwrap().properties().as_slice()[0];
    assert_eq!(name.as_bytes(), b"a\xf1");
    assert_eq!(value.as_str(), None);
    assert_eq!(encode_all(&values), Ok(wire));
}

#[test]
fn strings_choose_their_form_by_length() {
    for (length, marker, header) in [(65_535, 0x02, 3), (65_536, 0x0c, 5)] {
        let value = Value::from("x".repeat(length));
        let wire = encode_all(std::slice::from_ref(&value)).unwrap();
        assert_eq!((wire[0], wire.len()), (marker, header + length));
        assert_eq!(decode(&wire), Ok(vec![value]));
    }
}

#[test]
fn integers_become_numbers() {
    let wire = encode_all(&[5_u32.into(), Value::Integer(-1)]).unwrap();
    assert_eq!(decode(&wire), Ok(vec![5.0.into(), (-1.0).into()]));
}

#[test]
fn references_to_complete_values_become_copies() {
    let shared = "03 0001 'a' 05 000009";
    let object = Value::from(Object::new().with("a", ()));
    assert_eq!(
        decode_one(&format!("0a 00000003 {shared} 07 0001 07 0001")),
        list([(); 3].map(|()| object.clone()))
    );
    // The table is that of the message, not of the value.
    assert_eq!(
        decode(&hex(&format!("{shared} 07 0000 {shared} 07 0001"))),
        Ok(vec![object; 4])
    );
    // All four kinds of compounds count, and nothing else does.
    let wire = "0a 00000006 08 00000000 000009 10 0001 'T' 000009 0a 00000000 0b 0000000000000000 0000 \
                0f 00000000 07 0003";
    assert_eq!(decode_one(wire).as_array().unwrap()[5], list([]));
    // What is decoded again is not counted again.
    let wire = format!("0a 00000004 0a 00000001 {shared} 07 0001 0a 00000000 07 0003");
    assert_eq!(decode_one(&wire).as_array().unwrap()[3], list([]));
}

#[test]
fn a_reference_into_a_complete_cycle_is_unrolled_until_it_meets_itself() {
    // [ a = { b: { a: a } }, reference to b ]
    let wire = hex("0a 00000002 03 0001 'b' 03 0001 'a' 07 0001 000009 000009 07 0002");
    let values = decode(&wire).unwrap();
    let in_a = Object::new().with("b", Object::new().with("a", Value::Ancestor(1)));
    let in_b = Object::new().with("a", in_a.clone());
    assert_eq!(values, [list([in_a.into(), in_b.into()])]);
    let again = encode_all(&values).unwrap();
    assert_eq!(decode(&again), Ok(values));
}

#[test]
fn switched_values_of_a_message_share_their_tables() {
    // The second value refers to a string, traits and an object of the first.
    let first = "11 0a 13 03 'C' 03 'x' 06 05 'yy'";
    let object = Value::from(Object::typed("C").with("x", "yy"));
    let values = decode(&hex(&format!("{first} 11 06 04 11 0a 01 06 02 11 0a 00"))).unwrap();
    assert_eq!(
        values,
        [
            object.clone(),
            "yy".into(),
            Object::typed("C").with("x", "x").into(),
            object.clone()
        ]
    );
    // An AMF0 reference to what holds switched values decodes them again without disturbing the numbers.
    let wire = format!("0a 00000001 {first} 07 0000 11 09 01 01 11 09 02 11 06 04");
    let array = list([object]);
    assert_eq!(
        decode(&hex(&wire)),
        Ok(vec![array.clone(), array, list([]), list([]), "yy".into()])
    );

    // And the encoder does the same.
    let vector = |text: &str| {
        Value::VectorObject(Box::new(ObjectVector {
            class: "V".into(),
            fixed: false,
            values: vec![text.into()],
        }))
    };
    let wire = encode_all(&[vector("t"), vector("t")]).unwrap();
    assert_eq!(
        wire,
        hex("11 10 03 00 03 'V' 06 03 't' 11 10 03 00 00 06 02")
    );
    assert_eq!(decode(&wire), Ok(vec![vector("t"), vector("t")]));
}

#[test]
fn a_cycle_through_a_switched_value_moves_the_switch_outwards() {
    // [ U = [ T = [ dictionary { 1: T }, U ] ] ], U in AMF3.
    let wire = hex("0a 00000001 11 09 03 01 09 05 01 11 03 00 04 01 09 02 09 00");
    let values = decode(&wire).unwrap();
    let dictionary = Value::Dictionary(Dictionary {
        weak: false,
        entries: vec![(1.0.into(), Value::Ancestor(1))],
    });
    assert_eq!(
        values,
        [list([list([list([dictionary, Value::Ancestor(1)])])])]
    );
    let again = encode_all(&values).unwrap();
    assert_eq!(again[..7], wire[..7]);
    assert_eq!(decode(&again), Ok(values));
}

#[test]
fn names_too_long_for_amf0_go_behind_the_switch() {
    let long = "n".repeat(65_536);
    let object = Value::from(Object::new().with(long.as_str(), ()));
    let typed = Value::from(Object::typed(long.as_str()));
    let array = Value::from(Properties::new().with(long.as_str(), ()));
    let values = vec![object, typed, array];
    let wire = encode_all(&values).unwrap();
    assert_eq!(wire[0], 0x11);
    assert_eq!(decode(&wire), Ok(values));
}

#[test]
fn nameless_members_survive_behind_the_switch() {
    // A vector of one sealed object with the members "a" and "".
    let wire = hex("11 10 03 00 01 0a 23 01 03 'a' 01 02 03");
    let values = decode(&wire).unwrap();
    let again = encode_all(&values).unwrap();
    assert_eq!(decode(&again), Ok(values));
}

#[test]
fn errors_name_the_place() {
    let marker = |offset, marker| DecodeError::UnexpectedMarker {
        offset,
        marker,
        format: Format::Amf0,
        expected: "a value",
    };
    let end = |offset, expected, missing| DecodeError::UnexpectedEnd {
        offset,
        expected,
        missing,
    };
    let unknown = |offset, index, known| DecodeError::UnknownReference {
        offset,
        index,
        known,
        expected: "objects and arrays",
    };
    let table = [
        // Reserved, out of place and unknown markers.
        ("05 04", marker(1, 0x04)),
        ("0a 00000001 09", marker(5, 0x09)),
        ("0e", marker(0, 0x0e)),
        ("12", marker(0, 0x12)),
        // Lengths and counts past the end.
        ("02 0005 'live'", end(3, "a string", 1)),
        (
            "0c ffffffff 'live'",
            end(5, "a long string", u64::from(u32::MAX) - 4),
        ),
        ("0f 00000002 '<'", end(5, "a long string", 1)),
        (
            "0a ffffffff 05",
            end(5, "the elements of a strict array", u64::from(u32::MAX) - 1),
        ),
        ("03 0001 'a' 05", end(5, "the length of a string", 2)),
        // References.
        ("07 0000", unknown(0, 0, 0)),
        ("03 000009 07 0001", unknown(4, 1, 1)),
        // Behind the switch.
        (
            "05 11 12",
            DecodeError::UnexpectedMarker {
                offset: 2,
                marker: 0x12,
                format: Format::Amf3,
                expected: "a value",
            },
        ),
    ];
    for (wire, error) in table {
        assert_eq!(decode(&hex(wire)), Err(error), "{wire}");
    }
    assert_eq!(
        marker(1, 0x04).to_string(),
        "marker 0x04 at byte 1: expected a value of AMF0"
    );
}

#[test]
fn a_failed_decoder_stays_failed() {
    let mut decoder = Decoder::new(&hex("04 05 05"), Limits::default());
    let error = decoder.decode().unwrap_err();
    assert_eq!(decoder.decode(), Err(error));
}

#[test]
fn depth_bombs_are_refused() {
    let limits = Limits::default();
    let nested = |levels: usize| hex(&("0a 00000001".repeat(levels) + "05"));
    assert!(decode_all(&nested(limits.depth), limits).is_ok());
    let refused = DecodeError::LimitExceeded {
        offset: limits.depth * 5,
        limit: LimitKind::Depth,
        maximum: limits.depth,
    };
    assert_eq!(decode_all(&nested(limits.depth + 1), limits), Err(refused));
    // However high the limit is set, and through the switch.
    let endless = Limits {
        depth: usize::MAX,
        ..limits
    };
    assert!(decode_all(&nested(MAX_DEPTH), endless).is_ok());
    assert!(decode_all(&nested(100_000), endless).is_err());
    let switched = hex(&("0a 00000001".repeat(MAX_DEPTH) + "11 09 01 01"));
    assert!(matches!(
        decode_all(&switched, endless),
        Err(DecodeError::LimitExceeded {
            limit: LimitKind::Depth,
            maximum: MAX_DEPTH,
            ..
        })
    ));
}

#[test]
fn reference_bombs_cost_no_more_than_the_limits() {
    // Each array holds the one before it ten times: 10^9 values if it were unrolled.
    let mut wire = String::from("0a 0000000a") + &"05".repeat(10);
    for level in 0..8 {
        wire += "0a 0000000a";
        wire += &format!("07 {level:04x}").repeat(10);
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
    // The same inside one another, so that each reference leads to an unfinished list of references.
    let mut wire = String::from("0a 00000003 0a 00000001 05");
    for level in 1..40 {
        wire += &format!("0a 00000003 07 {level:04x} 07 {level:04x}");
    }
    assert!(decode(&hex(&wire)).is_err());
}

#[test]
fn large_text_and_many_values_are_counted() {
    let wire = encode_all(&[Value::from("x".repeat(1000)), ().into(), ().into()]).unwrap();
    let decode = |limits| decode_all(&wire, limits);
    let exact = Limits {
        depth: 0,
        values: 3,
        bytes: 1000 + 3 * 48,
    };
    assert!(decode(exact).is_ok());
    let values = DecodeError::LimitExceeded {
        offset: wire.len() - 1,
        limit: LimitKind::Values,
        maximum: 2,
    };
    assert_eq!(decode(Limits { values: 2, ..exact }), Err(values));
    let bytes = DecodeError::LimitExceeded {
        offset: wire.len() - 1,
        limit: LimitKind::Bytes,
        maximum: exact.bytes - 1,
    };
    assert_eq!(
        decode(Limits {
            bytes: exact.bytes - 1,
            ..exact
        }),
        Err(bytes)
    );
}

#[test]
fn a_cycle_beyond_the_reach_of_a_reference_is_refused() {
    // 65,537 compounds through copies, the last of which has a cycle: no encoder could number it.
    let limits = Limits {
        values: 1 << 20,
        bytes: 1 << 30,
        ..Limits::default()
    };
    let row = "0a 00000100".to_owned() + &"0a 00000000".repeat(256);
    let copies = |count: usize| format!("{row} {} 0a 00000001 07 0101", "07 0000".repeat(count));
    assert!(decode_all(&hex(&copies(254)), limits).is_ok());
    let error = decode_all(&hex(&copies(256)), limits).unwrap_err();
    assert!(
        matches!(
            error,
            DecodeError::LimitExceeded {
                limit: LimitKind::References,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn the_encoder_refuses_what_cannot_be_said_and_forgets_it() {
    let mut encoder = Encoder::new();
    encoder
        .encode(&Object::new().with("a", Value::Ancestor(0)).into())
        .unwrap();
    let unknown = Value::Externalized(Box::new(Externalized {
        class: "my.Class".into(),
        value: Value::Null,
    }));
    let half = list([list([]), Value::Xml("<x/>".into()), unknown]);
    let error = encoder.encode(&half).unwrap_err();
    assert!(
        matches!(error, EncodeError::UnknownExternalizable { ref class, .. } if class == "my.Class"),
        "{error}"
    );
    let stray = list([Value::Ancestor(1)]);
    assert!(matches!(
        encoder.encode(&stray),
        Err(EncodeError::UnreachableAncestor { level: 1, .. })
    ));
    let deep = (0..=MAX_DEPTH).fold(Value::Null, |inner, _| list([inner]));
    assert!(matches!(
        encoder.encode(&deep),
        Err(EncodeError::TooDeep { .. })
    ));
    let long = Value::VectorObject(Box::new(ObjectVector {
        values: vec![Value::EcmaArray(Properties::new().with("", ()))],
        ..ObjectVector::default()
    }));
    assert!(matches!(
        encoder.encode(&long),
        Err(EncodeError::EmptyName { .. })
    ));
    // Numbers go on where they were.
    encoder.encode(&list([Value::Ancestor(0)])).unwrap();
    encoder.encode(&Value::Xml("<x/>".into())).unwrap();
    let wire = encoder.finish();
    assert_eq!(
        wire,
        hex("03 0001 'a' 07 0000 000009 0a 00000001 07 0001 11 0b 09 '<x/>'")
    );
}

#[test]
fn static_text_is_encoded_too() {
    let value = Value::String(AmfString::from_static("onStatus"));
    assert_eq!(encode_all(&[value]), Ok(hex("02 0008 'onStatus'")));
}

#[test]
fn a_value_fits_unless_something_in_it_needs_the_switch() {
    let plain = Value::from(Object::new().with("a", Value::StrictArray(vec![1.0.into()])));
    let bytes = Value::ByteArray(Bytes::from_static(b"x"));
    let inner = Value::from(Object::new().with("a", Value::StrictArray(vec![bytes.clone()])));
    for (value, fits) in [
        (plain, true),
        (Value::Integer(7), true),
        (bytes, false),
        (inner, false),
    ] {
        assert_eq!(value.fits_amf0(), fits, "{value:?}");
        let written = encode_all(std::slice::from_ref(&value)).unwrap();
        assert_eq!(written.contains(&marker::AVMPLUS), !fits, "{value:?}");
    }
}
