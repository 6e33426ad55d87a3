//! Every target on mutations of valid input, with a fixed seed: what can be checked without a fuzzer.
#![allow(clippy::unwrap_used, reason = "helpers of a test")]

use std::path::Path;

use bytes::{BufMut, Bytes, BytesMut};
use headwater_amf::{Object, Value, amf0, amf3};
use headwater_fuzz::TARGETS;
use headwater_media::flv::{FlvHeader, write_header, write_tag};
use headwater_media::frame::FrameKind;
use headwater_media::synthetic::{Settings, SyntheticStream};
use headwater_rtmp::chunk::ChunkWriter;
use headwater_rtmp::message::{Message, MessageType};

/// Mutations of each seed and target.
const ROUNDS: u32 = 2_000;

/// The same for seeds of a target's own, which go through more code.
const FILE_ROUNDS: u32 = 500;

/// A small generator (xorshift), so that a failure can be repeated from the number alone.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

fn mutate(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut data = seed.to_vec();
    for _ in 0..=random.below(6) {
        let at = random.below(data.len());
        match random.below(6) {
            0 => data.truncate(at),
            1 if !data.is_empty() => data[at] ^= 1 << random.below(8),
            2 if !data.is_empty() => data[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            3 => data.insert(at, random.next() as u8),
            4 => {
                let to = (at + random.below(64)).min(data.len());
                let piece = data[at.min(to)..to].to_vec();
                let place = random.below(data.len() + 1);
                data.splice(place..place, piece);
            }
            _ => {
                let to = (at + random.below(16)).min(data.len());
                data.drain(at.min(to)..to);
            }
        }
    }
    data
}

fn values() -> Vec<Value> {
    vec![
        Value::from("connect"),
        Value::Number(1.0),
        Value::Object(
            Object::new()
                .with("app", "live")
                .with("tcUrl", "rtmp://localhost/live")
                .with("objectEncoding", 3.0)
                .with("fpad", false),
        ),
        Value::Null,
    ]
}

fn chunks() -> Bytes {
    let mut out = BytesMut::new();
    let mut writer = ChunkWriter::new();
    let mut send = |stream: u32, kind, stream_id, payload: Bytes| {
        let message = Message {
            kind,
            timestamp: 40,
            stream_id,
            payload,
        };
        writer.write(stream, &message, &mut out);
    };
    let command = |values: &[Value]| amf0::encode_all(values).unwrap();
    send(
        2,
        MessageType::SET_CHUNK_SIZE,
        0,
        Bytes::from_static(&[0, 0, 0, 128]),
    );
    send(3, MessageType::COMMAND_AMF0, 0, command(&values()));
    send(
        3,
        MessageType::COMMAND_AMF0,
        0,
        command(&[Value::from("createStream"), Value::Number(2.0), Value::Null]),
    );
    for (name, number) in [
        ("publish", 3.0),
        ("play", 4.0),
        ("pause", 5.0),
        ("somethingElse", 6.0),
    ] {
        let call = [
            Value::from(name),
            Value::Number(number),
            Value::Null,
            Value::from("a?b=c"),
        ];
        send(5, MessageType::COMMAND_AMF0, 1, command(&call));
    }
    send(
        4,
        MessageType::AUDIO,
        1,
        Bytes::from_static(&[0xaf, 1, 2, 3]),
    );
    send(6, MessageType::VIDEO, 1, Bytes::from(vec![0x17; 300]));
    send(
        7,
        MessageType::DATA_AMF0,
        1,
        command(&[
            Value::from("@setDataFrame"),
            Value::from("onMetaData"),
            Value::Null,
        ]),
    );
    let mut aggregate = BytesMut::new();
    aggregate.put_slice(&[8, 0, 0, 2, 0, 0, 40, 0, 0, 0, 0, 0xaf, 1, 0, 0, 0, 13]);
    send(6, MessageType::AGGREGATE, 1, aggregate.freeze());
    out.freeze()
}

fn file() -> Bytes {
    let mut out = BytesMut::new();
    write_header(
        FlvHeader {
            has_audio: true,
            has_video: true,
        },
        &mut out,
    );
    let mut stream = SyntheticStream::new(Settings::default()).unwrap();
    for _ in 0..20 {
        let frame = stream.next_frame(0);
        let _ = write_tag(frame.timestamp as u32, frame.kind, &frame.payload, &mut out);
    }
    out.freeze()
}

/// What the fuzzer starts from as well: small files in `seeds`, in a folder for each target that has any.
fn files(target: &str) -> Vec<Bytes> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("seeds")
        .join(target);
    let Ok(entries) = folder.read_dir() else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    // The numbers of seeds should not depend on the file system.
    paths.sort();
    let read = |path| Bytes::from(std::fs::read(path).unwrap());
    paths.into_iter().map(read).collect()
}

#[test]
fn targets_for_files_have_seeds() {
    for target in [
        "flv_file",
        "mp3",
        "mp4",
        "segment",
        "rtmfp_packet",
        "rtmfp_identity",
        "rtmfp_handshake",
        "rtmfp_chunks",
        "rtmfp_flows",
        "rtmfp_group",
        "shared_object_wire",
        "shared_object",
    ] {
        assert!(files(target).len() >= 3, "{target}");
    }
}

fn does_not_fail_on_mutated_input(name: &str) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    let mut seeds = vec![
        amf0::encode_all(&values()).unwrap(),
        amf3::encode_all(&values()).unwrap(),
        chunks(),
        file(),
        Bytes::from(vec![3; 3_073]),
        Bytes::new(),
    ];
    let mut stream = SyntheticStream::new(Settings::default()).unwrap();
    for _ in 0..6 {
        let frame = stream.next_frame(0);
        let kind = match frame.kind {
            FrameKind::Audio => 0,
            FrameKind::Video => 1,
            FrameKind::Data => 2,
        };
        let mut seed = BytesMut::from(&[kind][..]);
        seed.put_slice(&frame.payload);
        seeds.push(seed.freeze());
    }
    let own = files(name);
    for (number, seed) in seeds.iter().chain(&own).enumerate() {
        target(seed);
        let rounds = match (own.is_empty(), number < seeds.len()) {
            (true, _) => ROUNDS,
            (false, false) => FILE_ROUNDS,
            // It learns little from what it does not read.
            (false, true) => ROUNDS / 20,
        };
        for round in 0..rounds {
            let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ u64::from(round) << 8 ^ number as u64);
            let data = mutate(seed, &mut random);
            let outcome = std::panic::catch_unwind(|| target(&data));
            assert!(
                outcome.is_ok(),
                "{name}, seed {number}, round {round}: {data:02x?}"
            );
        }
    }
}

/// A test for each target.
macro_rules! targets {
    ($($name:ident),+ $(,)?) => {
        $(
            #[test]
            fn $name() {
                does_not_fail_on_mutated_input(stringify!($name));
            }
        )+

        #[test]
        fn every_target_is_tested() {
            let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, [$(stringify!($name)),+]);
        }
    };
}

targets!(
    amf0,
    amf3,
    handshake,
    chunk,
    command,
    client,
    inspect,
    flv,
    flv_file,
    mp3,
    mp4,
    segment,
    rtmfp_packet,
    rtmfp_identity,
    rtmfp_handshake,
    rtmfp_chunks,
    rtmfp_flows,
    rtmfp_group,
    shared_object_wire,
    shared_object,
);
