//! What the fuzz targets do with their input; see `fuzz_targets/` for the libFuzzer binaries.
//!
//! Each function takes any bytes. It may not panic, hang or take memory out of proportion, and it asserts what must hold for
//! every input: a decoded value survives encoding and decoding, and input in pieces gives what input in one piece gives. The
//! tests of this crate run every function on mutations of valid input, so that the properties are checked where there is no fuzzer.
#![forbid(unsafe_code)]

mod files;
mod mp4;
mod rtmfp;
mod rtmfp_flows;
mod rtmfp_group;
mod segment;
mod shared_object;
mod wire;

pub use files::{flv_file, mp3};
pub use mp4::mp4;
pub use rtmfp::{rtmfp_handshake, rtmfp_identity, rtmfp_packet};
pub use rtmfp_flows::{rtmfp_chunks, rtmfp_flows};
pub use rtmfp_group::rtmfp_group;
pub use segment::segment;
pub use shared_object::{shared_object, shared_object_wire};
pub use wire::{chunk, client, command, handshake, inspect};

use bytes::Bytes;
use headwater_amf::{Limits, amf0 as format0, amf3 as format3};
use headwater_media::flv::{FlvEvent, FlvReader};

/// Longest body of an FLV tag that is read, in bytes: small, so that the fuzzer reaches the bound.
const FLV_BODY: usize = 1 << 16;

/// A target by its name and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("amf0", amf0),
    ("amf3", amf3),
    ("handshake", handshake),
    ("chunk", chunk),
    ("command", command),
    ("client", client),
    ("inspect", inspect),
    ("flv", flv),
    ("flv_file", flv_file),
    ("mp3", mp3),
    ("mp4", mp4),
    ("segment", segment),
    ("rtmfp_packet", rtmfp_packet),
    ("rtmfp_identity", rtmfp_identity),
    ("rtmfp_handshake", rtmfp_handshake),
    ("rtmfp_chunks", rtmfp_chunks),
    ("rtmfp_flows", rtmfp_flows),
    ("rtmfp_group", rtmfp_group),
    ("shared_object_wire", shared_object_wire),
    ("shared_object", shared_object),
];

/// AMF0 messages.
pub fn amf0(data: &[u8]) {
    let Ok(values) = format0::decode_all(&Bytes::copy_from_slice(data), Limits::default()) else {
        return;
    };
    let Ok(encoded) = format0::encode_all(&values) else {
        return;
    };
    let again = format0::decode_all(&encoded, Limits::default());
    let again = again.expect("what was encoded can be decoded");
    let twice = format0::encode_all(&again).expect("what was encoded once can be encoded again");
    assert_eq!(encoded, twice, "encoding is stable");
}

/// AMF3 values.
pub fn amf3(data: &[u8]) {
    let Ok(values) = format3::decode_all(&Bytes::copy_from_slice(data), Limits::default()) else {
        return;
    };
    let Ok(encoded) = format3::encode_all(&values) else {
        return;
    };
    let again = format3::decode_all(&encoded, Limits::default());
    let again = again.expect("what was encoded can be decoded");
    let twice = format3::encode_all(&again).expect("what was encoded once can be encoded again");
    assert_eq!(encoded, twice, "encoding is stable");
}

/// FLV files, whole and in two pieces.
pub fn flv(data: &[u8]) {
    let whole = flv_events(&[data]);
    let middle = data
        .first()
        .map_or(0, |first| usize::from(*first) % data.len());
    let (head, tail) = data.split_at(middle);
    assert_eq!(
        whole,
        flv_events(&[head, tail]),
        "pieces make no difference"
    );
}

fn flv_events(pieces: &[&[u8]]) -> (Vec<FlvEvent>, bool) {
    let mut reader = FlvReader::new(FLV_BODY);
    let mut events = Vec::new();
    for piece in pieces {
        reader.feed(piece);
        loop {
            match reader.poll() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(_) => return (events, false),
            }
        }
    }
    (events, true)
}
