use proptest::prelude::*;

use super::*;

/// Hex with blanks; `'` before a run of letters gives their ASCII codes: `90 'avc1 01`.
fn bytes(text: &str) -> Bytes {
    let mut out = Vec::new();
    for word in text.split_whitespace() {
        match word.strip_prefix('\'') {
            Some(ascii) => out.extend_from_slice(ascii.as_bytes()),
            None => out.extend(
                (0..word.len())
                    .step_by(2)
                    .map(|at| u8::from_str_radix(&word[at..at + 2], 16).expect("hex")),
            ),
        }
    }
    Bytes::from(out)
}

const NONE: FrameFlags = FrameFlags::empty();
const KEY: FrameFlags = FrameFlags::KEY;
const HEADER: FrameFlags = FrameFlags::HEADER;
const DISPOSABLE: FrameFlags = FrameFlags::DISPOSABLE;

fn other(code: &[u8; 4]) -> Option<Codec> {
    Some(Codec::Other(FourCc(*code)))
}

#[test]
fn video_payloads_are_understood() {
    use Codec::*;
    use Packet::*;
    for (what, payload, flags, codec, track, packet) in [
        ("empty", "", NONE, None, 0, Unknown),
        // Legacy.
        (
            "AVC header",
            "17 00 000000 01 42",
            HEADER,
            Some(Avc),
            0,
            Configuration,
        ),
        ("AVC key frame", "17 01 000000 00", KEY, Some(Avc), 0, Coded),
        (
            "AVC inter frame",
            "27 01 000000 00",
            NONE,
            Some(Avc),
            0,
            Coded,
        ),
        (
            "AVC disposable frame",
            "37 01 000000 00",
            DISPOSABLE,
            Some(Avc),
            0,
            Coded,
        ),
        (
            "AVC generated key frame",
            "47 01 000000",
            KEY,
            Some(Avc),
            0,
            Coded,
        ),
        (
            "AVC end of sequence",
            "17 02 000000",
            NONE,
            Some(Avc),
            0,
            End,
        ),
        ("AVC seek command", "57 00", NONE, Some(Avc), 0, Command),
        ("AVC cut short", "17", NONE, Some(Avc), 0, Unknown),
        ("AVC unknown packet", "17 03", NONE, Some(Avc), 0, Unknown),
        (
            "HEVC header by id 12",
            "1c 00 000000",
            HEADER,
            Some(Hevc),
            0,
            Configuration,
        ),
        (
            "HEVC key frame by id 12",
            "1c 01 000000",
            KEY,
            Some(Hevc),
            0,
            Coded,
        ),
        (
            "Sorenson key frame",
            "12 00 00",
            KEY,
            Some(SorensonH263),
            0,
            Coded,
        ),
        (
            "Sorenson disposable frame",
            "32 00",
            DISPOSABLE,
            Some(SorensonH263),
            0,
            Coded,
        ),
        ("screen video", "13", KEY, Some(ScreenVideo), 0, Coded),
        ("VP6", "24 00", NONE, Some(Vp6), 0, Coded),
        ("VP6 with alpha", "15 00", KEY, Some(Vp6Alpha), 0, Coded),
        ("screen video 2", "16", KEY, Some(ScreenVideo2), 0, Coded),
        ("unknown codec id", "1f 00", KEY, None, 0, Coded),
        ("unknown frame type", "77 01", NONE, Some(Avc), 0, Coded),
        // Enhanced RTMP v1.
        (
            "sequence start",
            "90 'hvc1 01",
            HEADER,
            Some(Hevc),
            0,
            Configuration,
        ),
        ("coded frames", "91 'hvc1 000000", KEY, Some(Hevc), 0, Coded),
        ("coded frames, inter", "a1 'av01", NONE, Some(Av1), 0, Coded),
        ("sequence end", "92 'vp09", NONE, Some(Vp9), 0, End),
        ("coded frames X", "93 'vp09", KEY, Some(Vp9), 0, Coded),
        (
            "coded frames X, disposable",
            "b3 'vp09",
            DISPOSABLE,
            Some(Vp9),
            0,
            Coded,
        ),
        (
            "colour metadata",
            "94 'hvc1 02",
            HEADER,
            Some(Hevc),
            0,
            Supplement,
        ),
        (
            "MPEG-2 TS sequence start",
            "95 'av01",
            HEADER,
            Some(Av1),
            0,
            Configuration,
        ),
        ("cut in the FourCC", "90 6876", NONE, None, 0, Unknown),
        // Enhanced RTMP v2.
        ("AVC by FourCC", "91 'avc1 000000", KEY, Some(Avc), 0, Coded),
        ("VP8", "91 'vp08", KEY, Some(Vp8), 0, Coded),
        ("VVC", "90 'vvc1", HEADER, Some(Vvc), 0, Configuration),
        ("unknown FourCC", "91 'abcd", KEY, other(b"abcd"), 0, Coded),
        (
            "unknown packet type",
            "98 'avc1",
            NONE,
            Some(Avc),
            0,
            Unknown,
        ),
        ("seek command", "d1 00", NONE, None, 0, Command),
        (
            "metadata in a command frame",
            "d4 'hvc1",
            HEADER,
            Some(Hevc),
            0,
            Supplement,
        ),
        (
            "one track, number 0",
            "96 01 'hvc1 00",
            KEY,
            Some(Hevc),
            0,
            Coded,
        ),
        (
            "one track, number 1, is no key frame",
            "96 01 'hvc1 01",
            NONE,
            Some(Hevc),
            1,
            Coded,
        ),
        (
            "header of track 2",
            "96 00 'avc1 02",
            HEADER,
            Some(Avc),
            2,
            Configuration,
        ),
        (
            "many tracks, the default one second",
            "96 11 'avc1 01 000002 aabb 00 000001 cc",
            KEY,
            Some(Avc),
            1,
            Coded,
        ),
        (
            "many tracks without the default one",
            "96 11 'avc1 01 000002 aabb 02 000001 cc",
            NONE,
            Some(Avc),
            1,
            Coded,
        ),
        (
            "many tracks of many codecs",
            "96 21 'hvc1 03 000002 aabb 'avc1 00 000001 cc",
            KEY,
            Some(Hevc),
            3,
            Coded,
        ),
        (
            "many tracks, wrong size",
            "96 11 'avc1 01 ffffff aabb",
            NONE,
            Some(Avc),
            1,
            Coded,
        ),
        (
            "multitrack within multitrack",
            "96 06 'avc1 00",
            NONE,
            Some(Avc),
            0,
            Unknown,
        ),
        (
            "unknown multitrack type",
            "96 31 'avc1 00",
            NONE,
            None,
            0,
            Unknown,
        ),
        (
            "multitrack without track",
            "96 01 'avc1",
            NONE,
            None,
            0,
            Unknown,
        ),
        (
            "ModEx with a nanosecond offset",
            "97 02 00aabb 01 'hvc1",
            KEY,
            Some(Hevc),
            0,
            Coded,
        ),
        (
            "two ModEx",
            "97 00 11 07 00 22 00 'avc1",
            HEADER,
            Some(Avc),
            0,
            Configuration,
        ),
        (
            "ModEx before multitrack",
            "97 00 11 06 01 'avc1 00",
            KEY,
            Some(Avc),
            0,
            Coded,
        ),
        (
            "ModEx of a long size",
            "97 ff 0001 aabb 01 'hvc1",
            KEY,
            Some(Hevc),
            0,
            Coded,
        ),
        ("ModEx cut short", "97 05 00", NONE, None, 0, Unknown),
    ] {
        let expected = Inspection {
            flags,
            codec,
            track,
            packet,
        };
        assert_eq!(
            inspect(FrameKind::Video, &bytes(payload)),
            expected,
            "{what}"
        );
    }
}

#[test]
fn audio_payloads_are_understood() {
    use Codec::*;
    use Packet::*;
    for (what, payload, flags, codec, track, packet) in [
        ("empty", "", NONE, None, 0, Unknown),
        (
            "AAC header",
            "af 00 1210",
            HEADER,
            Some(Aac),
            0,
            Configuration,
        ),
        ("AAC frame", "af 01 21", NONE, Some(Aac), 0, Coded),
        ("AAC cut short", "af", NONE, Some(Aac), 0, Unknown),
        ("MP3", "2f ff", NONE, Some(Mp3), 0, Coded),
        ("MP3 at 8 kHz", "ef", NONE, Some(Mp3), 0, Coded),
        ("PCM", "3f 00", NONE, Some(Pcm), 0, Coded),
        ("ADPCM", "1f", NONE, Some(Adpcm), 0, Coded),
        ("Nellymoser", "52", NONE, Some(Nellymoser), 0, Coded),
        ("A-law", "72", NONE, Some(G711ALaw), 0, Coded),
        ("mu-law", "82", NONE, Some(G711MuLaw), 0, Coded),
        ("Speex", "b2 00", NONE, Some(Speex), 0, Coded),
        ("reserved format", "c2", NONE, None, 0, Coded),
        (
            "sequence start",
            "90 'Opus",
            HEADER,
            Some(Opus),
            0,
            Configuration,
        ),
        ("coded frames", "91 'fLaC", NONE, Some(Flac), 0, Coded),
        ("sequence end", "92 'mp4a", NONE, Some(Aac), 0, End),
        (
            "channel layout",
            "94 'ac-3 01",
            HEADER,
            Some(Ac3),
            0,
            Supplement,
        ),
        ("E-AC-3", "91 'ec-3", NONE, Some(Eac3), 0, Coded),
        ("MP3 by FourCC", "91 '.mp3", NONE, Some(Mp3), 0, Coded),
        (
            "unknown packet type",
            "93 'mp4a",
            NONE,
            Some(Aac),
            0,
            Unknown,
        ),
        (
            "header of track 1",
            "95 00 'mp4a 01",
            HEADER,
            Some(Aac),
            1,
            Configuration,
        ),
        (
            "frames of many codecs",
            "95 21 'mp4a 01 000000",
            NONE,
            Some(Aac),
            1,
            Coded,
        ),
        ("ModEx", "97 00 00 01 'Opus", NONE, Some(Opus), 0, Coded),
        ("cut in the FourCC", "90 'Opu", NONE, None, 0, Unknown),
    ] {
        let expected = Inspection {
            flags,
            codec,
            track,
            packet,
        };
        assert_eq!(
            inspect(FrameKind::Audio, &bytes(payload)),
            expected,
            "{what}"
        );
    }
}

#[test]
fn data_messages_are_named() {
    use DataRole::*;
    for (what, payload, expected) in [
        (
            "@setDataFrame",
            "02 000d '@setDataFrame 02 000a 'onMetaData 03 000009",
            Some(("onMetaData", SetMetadata, 16)),
        ),
        (
            "onMetaData alone",
            "02 000a 'onMetaData 03 000009",
            Some(("onMetaData", SetMetadata, 0)),
        ),
        (
            "@clearDataFrame",
            "02 000f '@clearDataFrame 02 0004 'name",
            Some(("name", ClearMetadata, 18)),
        ),
        ("an event", "02 0005 'onCue 05", Some(("onCue", Event, 0))),
        ("an empty name", "02 0000", Some(("", Event, 0))),
        (
            "@setDataFrame without a name",
            "02 000d '@setDataFrame 05",
            None,
        ),
        ("a number", "00 0000000000000000", None),
        ("cut short", "02 0005 'onC", None),
        ("empty", "", None),
    ] {
        let payload = bytes(payload);
        let expected = expected.map(|(name, role, body)| DataMessage {
            name: Bytes::from(name),
            role,
            body: payload.slice(body..),
        });
        let flags = match expected.as_ref().map(|message| message.role) {
            Some(SetMetadata) => FrameFlags::METADATA,
            Some(ClearMetadata) => FrameFlags::CLEAR_METADATA,
            _ => NONE,
        };
        assert_eq!(data_message(&payload), expected, "{what}");
        assert_eq!(inspect(FrameKind::Data, &payload).flags, flags, "{what}");
    }
}

#[test]
fn headers_of_tracks_have_slots_of_their_own() {
    for (payload, expected) in [
        ("17 00", (0, HeaderPart::Configuration)),
        ("90 'hvc1", (0, HeaderPart::Configuration)),
        ("94 'hvc1", (0, HeaderPart::Supplement)),
        ("96 00 'hvc1 02", (2, HeaderPart::Configuration)),
        ("96 04 'hvc1 02", (2, HeaderPart::Supplement)),
    ] {
        assert_eq!(
            header_slot(FrameKind::Video, &bytes(payload)),
            expected,
            "{payload}"
        );
    }
}

#[test]
fn codecs_have_short_names() {
    assert_eq!(Codec::Avc.to_string(), "avc");
    assert_eq!(Codec::Other(FourCc(*b"ab\x01d")).to_string(), "ab\\x01d");
}

proptest! {
    #[test]
    fn any_payload_can_be_looked_at(payload: Vec<u8>) {
        let payload = Bytes::from(payload);
        for kind in [FrameKind::Audio, FrameKind::Video, FrameKind::Data] {
            let seen = inspect(kind, &payload);
            prop_assert!(!seen.flags.contains(FrameFlags::KEY | FrameFlags::HEADER));
        }
    }

    /// Extended headers, so that the deeper paths are reached.
    #[test]
    fn any_extended_header_can_be_looked_at(packet in 0_u8..16, rest in prop::collection::vec(0_u8..8, 0..64)) {
        for first in [0x90, 0xa0, 0xd0] {
            let payload: Bytes = std::iter::once(first | packet).chain(rest.iter().copied()).collect();
            let _ = inspect(FrameKind::Video, &payload);
            let _ = inspect(FrameKind::Audio, &payload);
        }
    }
}
