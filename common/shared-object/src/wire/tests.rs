//! Messages as clients and servers write them, from their notes and sources, and everything cut short.

use bytes::{BufMut, Bytes, BytesMut};
use headwater_amf::{DecodeError, LimitKind, Limits, Object, Value};

use super::*;
use crate::object::{Refusal, Version};

fn hex(text: &str) -> Bytes {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|digit| (digit as char).to_digit(16).unwrap() as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).unwrap()
}

fn value(value: impl Into<Value>) -> SlotValue {
    SlotValue::new(&value.into()).unwrap()
}

fn arguments(values: &[Value]) -> Arguments {
    Arguments::new(values).unwrap()
}

fn limits() -> DecodeLimits {
    DecodeLimits::default()
}

/// Bodies of type 19 that decode to this and are written so again.
fn vectors() -> Vec<(&'static str, &'static str, Message)> {
    let message = |version, flags, events| Message {
        name: name("so"),
        version,
        flags: Flags(flags),
        events,
    };
    vec![
        (
            "Use of a temporary object by Flash Player",
            "0002 736f 00000000 00000000 00000000  01 00000000",
            message(0, 0, vec![Event::Use]),
        ),
        (
            "Use of a persistent one, again, by version",
            "0002 736f 00000007 00000002 00000000  01 00000000",
            message(7, 2, vec![Event::Use]),
        ),
        (
            "rtmp-client: Use",
            "0002 736f 00000000 00000010 00000000  01 00000000",
            message(0, 16, vec![Event::Use]),
        ),
        (
            "rtmp-client: setProperty('k', 1)",
            "0002 736f 00000001 00000010 00000000  03 0000000c 0001 6b 00 3ff0000000000000",
            message(
                1,
                16,
                vec![Event::RequestChange {
                    name: "k".into(),
                    value: value(1.0),
                }],
            ),
        ),
        (
            "rtmp-client: setProperty('k', null)",
            "0002 736f 00000001 00000010 00000000  0a 00000003 0001 6b",
            message(1, 16, vec![Event::RequestRemove { name: "k".into() }]),
        ),
        (
            "rtmp-client: clear and close",
            "0002 736f 00000002 00000010 00000000  0e 00000000  02 00000000",
            message(2, 16, vec![Event::RequestClear, Event::Release]),
        ),
        (
            "send('hi', true)",
            "0002 736f 00000000 00000000 00000000  06 00000007 02 0002 6869 01 01",
            message(
                0,
                0,
                vec![Event::Send {
                    arguments: arguments(&["hi".into(), true.into()]),
                }],
            ),
        ),
        (
            "answer to Use, whole",
            "0002 736f 00000003 00000030 00000000  0b 00000000  08 00000000  04 00000007 0001 6b 02 0001 76",
            message(
                3,
                48,
                vec![
                    Event::UseSuccess,
                    Event::Clear,
                    Event::Change {
                        name: "k".into(),
                        value: value("v"),
                    },
                ],
            ),
        ),
        (
            "answers to the author in both dialects, a removal",
            "0002 736f 00000004 00000002 00000000  05 00000003 0001 6b  0d 00000005 0001 6b 01 00  09 00000003 0001 6b",
            message(
                4,
                2,
                vec![
                    Event::Success { name: "k".into() },
                    Event::ChangeEcho {
                        name: "k".into(),
                        value: value(false),
                    },
                    Event::Remove { name: "k".into() },
                ],
            ),
        ),
        (
            "status of a refusal",
            "0002 736f 00000000 00000010 00000000  07 00000023
             001a 5368617265644f626a6563742e4e6f5772697465416363657373 0005 6572726f72",
            message(
                0,
                16,
                vec![Event::Status {
                    code: "SharedObject.NoWriteAccess".into(),
                    level: "error".into(),
                }],
            ),
        ),
    ]
}

#[test]
fn known_messages_are_read_and_written() {
    for (what, bytes, message) in vectors() {
        let bytes = hex(bytes);
        assert_eq!(decode(&bytes, limits()).as_ref(), Ok(&message), "{what}");
        assert_eq!(encode(&message, Encoding::Amf0), bytes, "{what}");
        let mut amf3 = BytesMut::from(&[0][..]);
        amf3.put_slice(&bytes);
        let amf3 = amf3.freeze();
        assert_eq!(encode(&message, Encoding::Amf3), amf3, "{what}");
        assert_eq!(decode_amf3(&amf3, limits()), Ok(message), "{what}");
    }
}

#[test]
fn what_ends_early_is_an_error_unless_it_ends_between_events() {
    for (what, bytes, message) in vectors() {
        let bytes = hex(bytes);
        // Where events begin, and the end.
        let mut ends = vec![16];
        while let Some(length) = ends.last().and_then(|at| bytes.get(at + 1..at + 5)) {
            let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
            ends.push(ends.last().unwrap() + 5 + length);
        }
        for cut in 0..bytes.len() {
            match decode(&bytes.slice(..cut), limits()) {
                Ok(part) => {
                    assert!(ends.contains(&cut), "{what}, cut at {cut}");
                    assert!(message.events.starts_with(&part.events));
                }
                Err(WireError::UnexpectedEnd {
                    offset, missing, ..
                }) => {
                    assert!(!ends.contains(&cut), "{what}, cut at {cut}");
                    assert!(offset <= cut && missing > 0);
                }
                Err(error) => panic!("{what}, cut at {cut}: {error}"),
            }
        }
    }
}

#[test]
fn an_event_of_a_client_may_hold_several_pairs_or_keys() {
    let bytes = hex("0002 736f 00000001 00000000 00000000
         03 00000013 0001 61 00 3ff0000000000000 0001 62 05 0001 63
         0a 00000006 0001 64 0001 65
         04 0000000a 0001 61 01 01 0001 62 01 00
         05 00000006 0001 61 0001 62");
    let message = decode(&bytes, limits()).unwrap();
    let remove = |name: &str| Operation::Remove { name: name.into() };
    let set = Operation::Set {
        name: "a".into(),
        value: value(1.0),
    };
    // A value of null, and a last key without one, ask for a removal.
    assert_eq!(
        message.operations(),
        [set, remove("b"), remove("c"), remove("d"), remove("e")]
    );
    let change = |name: &str, truth: bool| Event::Change {
        name: name.into(),
        value: value(truth),
    };
    let success = |name: &str| Event::Success { name: name.into() };
    assert_eq!(
        message.events[5..],
        [
            change("a", true),
            change("b", false),
            success("a"),
            success("b")
        ]
    );
}

#[test]
fn unknown_events_and_what_follows_in_known_ones_are_skipped() {
    let bytes = hex("0002 736f 00000000 00000000 00000000
         0c 00000007 0001 6b 00000001  63 00000000  01 00000002 ffff  07 00000003 0001 41");
    let status = Event::Status {
        code: "A".into(),
        level: String::new(),
    };
    assert_eq!(
        decode(&bytes, limits()).unwrap().events,
        [Event::Use, status]
    );
}

#[test]
fn errors_name_the_byte() {
    let head = "0002 736f 00000000 00000000 00000000";
    let end = |offset, expected, missing| WireError::UnexpectedEnd {
        offset,
        expected,
        missing,
    };
    let table = [
        ("0003 61", end(2, "the name", 2)),
        (
            "0000 00000000",
            WireError::Name {
                offset: 2,
                error: NameError::Empty,
            },
        ),
        (
            "0002 612f 00000000",
            WireError::Name {
                offset: 2,
                error: NameError::Segment { at: 2 },
            },
        ),
        (&format!("{head} 03 00000009 0001"), end(21, "an event", 7)),
        // The length of a name reaches out of its event, not of the message.
        (
            &format!("{head} 0a 00000003 0004 6b 01 00000000"),
            end(23, "the name of a slot", 3),
        ),
        (
            &format!("{head} 0a 00000004 0002 6bff"),
            WireError::NotUtf8 {
                offset: 24,
                what: "the name of a slot",
            },
        ),
    ];
    for (bytes, error) in &table {
        assert_eq!(decode(&hex(bytes), limits()), Err(error.clone()), "{bytes}");
    }
    let bytes = hex(&format!("{head} 03 00000006 0001 6b 00 3ff0"));
    let error = decode(&bytes, limits()).unwrap_err();
    assert!(matches!(error, WireError::Value { offset: 25, .. }));
    assert_eq!(error.offset(), 25);
    let found = WireError::UnknownFormat { found: 3 };
    assert_eq!(decode_amf3(&hex("03"), limits()), Err(found));
    assert!(decode_amf3(&Bytes::new(), limits()).is_err());
}

#[test]
fn events_and_values_are_bounded_over_the_whole_message() {
    let events = |count: usize| {
        let mut writer = Writer::new(Encoding::Amf0, &name("so"), 0, Flags(0));
        for _ in 0..count {
            writer.event(&Event::RequestChange {
                name: "k".into(),
                value: value("twelve bytes"),
            });
        }
        writer.finish()
    };
    let few = DecodeLimits {
        events: 3,
        ..limits()
    };
    assert!(decode(&events(3), few).is_ok());
    let error = decode(&events(4), few).unwrap_err();
    assert!(matches!(error, WireError::TooManyEvents { maximum: 3, .. }));
    let small = DecodeLimits {
        values: Limits {
            values: 3,
            ..Limits::default()
        },
        ..limits()
    };
    assert!(decode(&events(3), small).is_ok());
    let error = decode(&events(4), small).unwrap_err();
    let WireError::Value { error, .. } = error else {
        panic!("{error}");
    };
    assert!(matches!(
        error,
        DecodeError::LimitExceeded {
            limit: LimitKind::Values,
            ..
        }
    ));
    // A reference that makes much of little counts with what it makes: an array of 100 texts, fifty times.
    let mut list = BytesMut::new();
    list.put_slice(&[0x0a, 0, 0, 0, 51, 0x0a, 0, 0, 0, 100]);
    for _ in 0..100 {
        list.put_slice(&[2, 0, 4, b't', b'e', b'x', b't']);
    }
    for _ in 0..50 {
        list.put_slice(&[7, 0, 1]);
    }
    let mut body = BytesMut::from(&events(0)[..]);
    for _ in 0..20 {
        body.put_u8(6);
        body.put_u32(list.len() as u32);
        body.put_slice(&list);
    }
    let body = body.freeze();
    let tight = |bytes| DecodeLimits {
        values: Limits {
            bytes,
            ..Limits::default()
        },
        ..limits()
    };
    assert!(decode(&body, limits()).is_ok());
    assert!(decode(&body, tight(600 << 10)).is_err());
}

#[test]
fn a_client_without_amf3_gets_undefined_for_it() {
    let binary = || Value::ByteArray(Bytes::from_static(&[1, 2]));
    let inside = Object::new().with("x", binary());
    let message = Message {
        name: name("so"),
        version: Version(1 << 32 | 5).low(),
        flags: Flags(0),
        events: vec![
            Event::Change {
                name: "k".into(),
                value: SlotValue::new(&inside.into()).unwrap(),
            },
            Event::Send {
                arguments: arguments(&["m".into(), binary(), 1.0.into()]),
            },
        ],
    };
    let amf3 = encode(&message, Encoding::Amf3);
    assert_eq!(decode_amf3(&amf3, limits()).as_ref(), Ok(&message));
    let amf0 = decode(&encode(&message, Encoding::Amf0), limits()).unwrap();
    assert_eq!(amf0.version, 5);
    assert_eq!(
        amf0.events,
        [
            Event::Change {
                name: "k".into(),
                value: SlotValue::undefined(),
            },
            Event::Send {
                arguments: arguments(&["m".into(), Value::Undefined, 1.0.into()]),
            },
        ]
    );
}

#[test]
fn values_are_kept_in_one_form() {
    // A long-string marker on a short text, a wrong count of an array, a reference to the object before.
    let odd = hex("0c 00000001 61");
    let body = |value: &Bytes| {
        let mut body = BytesMut::from(&hex("0002 736f 00000000 00000000 00000000 03")[..]);
        body.put_u32(3 + value.len() as u32);
        body.put_slice(&[0, 1, b'k']);
        body.put_slice(value);
        body.freeze()
    };
    let read = |bytes: &Bytes| match &decode(&body(bytes), limits()).unwrap().events[..] {
        [Event::RequestChange { value, .. }] => value.clone(),
        events => panic!("{events:?}"),
    };
    assert_eq!(read(&odd), value("a"));
    assert_eq!(read(&odd).as_bytes(), &hex("02 0001 61"));
    assert_eq!(
        read(&hex("08 00000063 0001 61 05 0000 09")).as_bytes(),
        &hex("08 00000001 0001 61 05 0000 09")
    );
    // An integer behind the switch is a number; a byte array stays there.
    assert_eq!(read(&hex("11 04 05")), value(5.0));
    let binary = read(&hex("11 0c 03 07"));
    assert!(binary.holds_switch() && !read(&odd).holds_switch());
    assert!(SlotValue::from_node(binary.as_bytes()).holds_switch());
    // The byte alone does not make it one.
    assert!(!SlotValue::from_node(value("\u{11}").as_bytes()).holds_switch());
    assert!(read(&hex("05")).is_nullish() && read(&hex("06")).is_nullish());
    assert!(!value(false).is_nullish());
}

#[test]
fn a_status_for_whom_it_refuses_the_use() {
    let body = status(
        Encoding::Amf0,
        &name("so"),
        Flags(48),
        &Refusal::NoReadAccess,
    );
    let message = decode(&body, limits()).unwrap();
    assert_eq!((message.version, message.flags), (0, Flags(48)));
    let status = Event::Status {
        code: "SharedObject.NoReadAccess".into(),
        level: "error".into(),
    };
    assert_eq!(message.events, [status]);
}

#[test]
fn versions_reach_back_over_the_turn_of_the_low_bits() {
    let version = Version(0x2_0000_0003);
    assert_eq!(version.low(), 3);
    assert_eq!(version.reaching_back_to(3), version);
    assert_eq!(version.reaching_back_to(1), Version(0x2_0000_0001));
    assert_eq!(
        version.reaching_back_to(0xffff_ffff),
        Version(0x1_ffff_ffff)
    );
    assert_eq!(Version(5).reaching_back_to(6), Version::NONE);
}
