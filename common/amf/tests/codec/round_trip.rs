//! What is decoded can be encoded, and comes back the same.

use bytes::Bytes;
use headwater_amf::{DecodeError, EncodeError, Format, Limits, Value, amf0, amf3};
use proptest::prelude::*;

use crate::values::{Kinds, value};
use crate::wire::{Random, Writer};

/// Small enough that random references run into them.
const LIMITS: Limits = Limits {
    depth: 16,
    values: 600,
    bytes: 50_000,
};

fn decode(format: Format, input: &Bytes, limits: Limits) -> Result<Vec<Value>, DecodeError> {
    match format {
        Format::Amf0 => amf0::decode_all(input, limits),
        Format::Amf3 => amf3::decode_all(input, limits),
    }
}

fn encode(format: Format, values: &[Value]) -> Result<Bytes, EncodeError> {
    match format {
        Format::Amf0 => amf0::encode_all(values),
        Format::Amf3 => amf3::encode_all(values),
    }
}

/// The property every input has to have. Says whether the input was a message.
fn survives(format: Format, input: &Bytes) -> bool {
    let Ok(first) = decode(format, input, LIMITS) else {
        return false;
    };
    let wire = encode(format, &first).expect("what was decoded can be encoded");
    let second = decode(format, &wire, LIMITS).expect("and decoded within the same limits");
    // As text, since NaN is not equal to itself.
    assert_eq!(format!("{first:?}"), format!("{second:?}"));
    assert_eq!(encode(format, &second), Ok(wire));
    true
}

fn message(format: Format, seed: u64) -> Writer {
    let mut writer = Writer::new(seed);
    for _ in 0..=writer.random.below(3) {
        match format {
            Format::Amf0 => writer.amf0(6),
            Format::Amf3 => writer.amf3(6),
        }
    }
    writer
}

#[test]
fn random_messages_with_references_and_cycles() {
    for format in [Format::Amf0, Format::Amf3] {
        let messages = 6000;
        let (mut survivors, mut cyclic) = (0, 0);
        for seed in 0..messages {
            let input = Bytes::from(message(format, seed).output);
            match decode(format, &input, LIMITS) {
                Ok(values) => cyclic += usize::from(format!("{values:?}").contains("Ancestor")),
                Err(DecodeError::LimitExceeded { .. }) => {}
                Err(error) => panic!("{format} message {seed}: {error}"),
            }
            survivors += u64::from(survives(format, &input));
        }
        // Few blow up, many are cyclic: else this tests less than it seems to.
        assert!(survivors > messages * 9 / 10, "{format}: {survivors}");
        assert!(cyclic > 300, "{format}: {cyclic}");
    }
}

#[test]
fn damaged_messages() {
    for format in [Format::Amf0, Format::Amf3] {
        for seed in 0..6000 {
            let mut bytes = message(format, seed).output;
            let mut random = Random::new(seed);
            for _ in 0..=random.below(3) {
                let at = random.below(bytes.len());
                bytes[at] = match random.below(3) {
                    0 => bytes[at] ^ 1 << random.below(8),
                    1 => random.below(256) as u8,
                    _ => random.below(20) as u8,
                };
            }
            survives(format, &bytes.into());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn amf0_values(values in prop::collection::vec(value(Format::Amf0, Kinds::All), 0..4)) {
        let wire = amf0::encode_all(&values).unwrap();
        prop_assert_eq!(amf0::decode_all(&wire, Limits::default()), Ok(values));
    }

    #[test]
    fn amf3_values(values in prop::collection::vec(value(Format::Amf3, Kinds::All), 0..4)) {
        let wire = amf3::encode_all(&values).unwrap();
        prop_assert_eq!(amf3::decode_all(&wire, Limits::default()), Ok(values));
    }

    /// A server passes values on to players of the other kind.
    #[test]
    fn values_cross_from_one_format_to_the_other(value in value(Format::Amf3, Kinds::All)) {
        let wire = amf0::encode_all(std::slice::from_ref(&value)).unwrap();
        let crossed = amf0::decode_all(&wire, Limits::default()).unwrap();
        let back = amf3::encode_all(&crossed).unwrap();
        prop_assert!(amf3::decode_all(&back, Limits::default()).is_ok());
    }

    #[test]
    fn truncation_is_an_error(value in value(Format::Amf3, Kinds::All), cut in any::<prop::sample::Index>()) {
        for format in [Format::Amf0, Format::Amf3] {
            let wire = encode(format, std::slice::from_ref(&value)).unwrap();
            let cut = cut.index(wire.len());
            let result = decode(format, &wire.slice(..cut), Limits::default());
            if cut == 0 {
                prop_assert_eq!(result, Ok(Vec::new()));
            } else {
                let cut_short = matches!(result, Err(DecodeError::UnexpectedEnd { .. }));
                prop_assert!(cut_short, "{:?}", result);
            }
        }
    }

    #[test]
    fn noise(bytes in prop::collection::vec(prop_oneof![0..0x14_u8, any::<u8>()], 0..60)) {
        let input = Bytes::from(bytes);
        survives(Format::Amf0, &input);
        survives(Format::Amf3, &input);
    }
}
