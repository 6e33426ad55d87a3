//! How messages to clients are cut and flagged.

use super::*;

#[test]
fn a_large_object_comes_in_several_messages() {
    let mut mirror = mirror(MirrorLimits::DEFAULT);
    let text = |letter: &str| Operation::Set {
        name: letter.into(),
        value: value(letter.repeat(700_000)),
    };
    let mut slow = admit(&mut mirror, 1, Dialect::Player);
    update(&mut mirror, None, &[text("x"), text("y"), text("z")]);
    let (_, whole) = mirror.admit(ClientId(2), Dialect::Player, Encoding::Amf0, 0);
    let versions = |messages: &[Bytes]| -> Vec<(u32, usize)> {
        let decoded = messages
            .iter()
            .map(|message| wire::decode(message, DecodeLimits::default()).unwrap());
        decoded
            .map(|message| (message.version, message.events.len()))
            .collect()
    };
    // Whoever gets only the first ones has no version to come back with.
    assert_eq!(versions(&whole), [(0, 4), (0, 1), (11, 1)]);
    let Served::Several(messages) = mirror.serve(&mut slow) else {
        panic!("too much for one");
    };
    assert_eq!(versions(&messages), [(0, 1), (0, 1), (11, 1)]);
}

#[test]
fn dialects_are_told_by_flags() {
    let table = [
        (0, Dialect::Player, Some(Persistence::Temporary), 0),
        (2, Dialect::Player, Some(Persistence::Persistent), 2),
        (16, Dialect::Proxy, None, 48),
        (18, Dialect::Proxy, Some(Persistence::Persistent), 48),
    ];
    for (flags, dialect, persistence, status) in table {
        let flags = Flags(flags);
        assert_eq!(Dialect::of(flags), dialect);
        assert_eq!(Dialect::persistence(flags), persistence);
        assert_eq!(Dialect::status_flags(flags), Flags(status));
    }
}
