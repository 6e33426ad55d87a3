//! `Recordings` over gRPC in one process, with files, recordings and stores that do what the test says.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headwater_media::file::{FileFrame, FilePiece};
use headwater_media::frame::{FrameFlags, FrameKind};
use headwater_media::name::StreamName;
use headwater_proto::v1;
use headwater_proto::v1::describe_response::Response as Described;
use headwater_proto::v1::fetch_request::Position;
use headwater_proto::v1::fetch_response::Response as Fetched;
use headwater_proto::v1::{Follows, RecordingReason};
use tokio::time::Instant;
use tonic::Code;

use super::super::recordings::{
    FILE_EPOCH, LIVE_PATIENCE, MAX_PIECE_BYTES, MAX_PIECE_FRAMES, to_piece,
};
use super::bench::{Publisher, append_open, name, wire_name};
use crate::vod::VodSection;
use crate::vod::library::tests::fakes::Step;

mod bench;
mod info;

use bench::{Bench, describe, fetch};

fn path(file: &str) -> String {
    format!("applications/live/streams/_definst_/{file}")
}

fn offset(sequence: u64) -> Position {
    Position::Offset(v1::Offset {
        epoch: FILE_EPOCH.0,
        sequence,
    })
}

fn text(piece: &v1::Piece) -> String {
    let frames = piece.frames.as_ref().unwrap();
    assert_eq!(frames.epoch, FILE_EPOCH.0);
    let bytes = frames.frames.iter().flat_map(|it| it.payload.to_vec());
    String::from_utf8(bytes.collect()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_there_is_under_a_name() {
    let bench = Bench::one().await;
    let nothing = bench.description("a", &name("show")).await;
    assert_eq!(nothing, v1::StreamDescription::default());

    bench.nodes["a"].store.put(&path("show.flv"), 1, b"abcde");
    let file = bench.description("a", &name("show")).await;
    let stored = file.stored.unwrap();
    assert!(!file.publishing);
    assert_ne!(stored.generation, 0);
    let expected = v1::Stored {
        generation: stored.generation,
        start_ms: 0,
        end_ms: 5_000,
        bytes: 5,
        growing: false,
        has_audio: true,
        has_video: true,
    };
    assert_eq!(stored, expected);

    let mut publisher = Publisher::open(bench.streams("a"), append_open(&name("show"), 1)).await;
    publisher.accepted().await;
    let both = bench.description("a", &name("show")).await;
    assert!(both.publishing);
    assert_eq!(both.stored, Some(stored));

    bench.nodes["a"].index.put(&name("show"), 77, true);
    let recording = bench.description("a", &name("show")).await;
    let stored = recording.stored.unwrap();
    assert!(recording.publishing && stored.growing);
    assert_eq!((stored.generation, stored.start_ms), (77, 10_000));

    let other = Publisher::open(bench.streams("a"), append_open(&name("other"), 1)).await;
    let mut other = other;
    other.accepted().await;
    let live = bench.description("a", &name("other")).await;
    assert!(live.publishing && live.stored.is_none());
    assert_eq!(bench.metric("a", "recordings_calls"), "0");
}

#[tokio::test(start_paused = true)]
async fn a_file_is_fetched_piece_by_piece() {
    let bench = Bench::one().await;
    bench.nodes["a"].store.put(&path("show.flv"), 1, b"abcde");
    let generation = bench.generation("a", &name("show")).await;
    let first = bench
        .piece("a", fetch(&name("show"), 0, Position::TimeMs(0)))
        .await;
    assert_eq!(text(&first), "ab");
    assert_eq!(first.generation, generation);
    assert_eq!(
        first.first,
        Some(v1::Offset {
            epoch: 1,
            sequence: 0
        })
    );
    assert_eq!(
        first.next,
        Some(v1::Offset {
            epoch: 1,
            sequence: 2
        })
    );
    assert_eq!((first.start_ms, first.end_ms), (0, 2_000));
    assert_eq!(first.follows(), Follows::Piece);
    assert_eq!(first.preface.len(), 1);
    assert_eq!(first.preface[0].flags, FrameFlags::METADATA.bits());
    let frames = &first.frames.as_ref().unwrap().frames;
    let places: Vec<_> = frames
        .iter()
        .map(|it| (it.sequence, it.timestamp))
        .collect();
    assert_eq!(places, [(0, 0), (1, 1_000)]);

    let mut seen = text(&first);
    let mut piece = first;
    while piece.follows() == Follows::Piece {
        let next = Position::Offset(piece.next.unwrap());
        piece = bench
            .piece("a", fetch(&name("show"), generation, next))
            .await;
        seen += &text(&piece);
    }
    assert_eq!(seen, "abcde");
    assert_eq!(piece.follows(), Follows::End);
    assert_eq!(
        piece.next,
        Some(v1::Offset {
            epoch: 1,
            sequence: 5
        })
    );

    for (ms, expected) in [(0, "ab"), (1_999, "ab"), (2_000, "cd"), (u64::MAX, "e")] {
        let at = fetch(&name("show"), generation, Position::TimeMs(ms));
        assert_eq!(text(&bench.piece("a", at).await), expected, "{ms}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_reason_has_its_answer() {
    use RecordingReason::{
        Invalid, NoSupportedTrack, NotFound, Replaced, StructureInvalid, Unavailable,
    };

    let bench = Bench::one().await;
    let store = &bench.nodes["a"].store;
    store.put(&path("show.flv"), 1, b"abcde");
    store.put(&path("bad.flv"), 1, b"!invalid");
    store.put(&path("cut.flv"), 1, b"!eof");
    store.put(&path("codec.flv"), 1, b"!unsupported");
    store.put(&path("broken.flv"), 1, b"!broken");
    store.put(&path("denied.flv"), 1, b"abcde");
    store.deny(&path("denied.flv"), true);
    let generation = bench.generation("a", &name("show")).await;
    let start = Position::TimeMs(0);
    let live_epoch = Position::Offset(v1::Offset {
        epoch: 1_700_000_000_000,
        sequence: 0,
    });
    let cases = [
        (fetch(&name("none"), 0, start), NotFound),
        (fetch(&name("none"), 5, start), NotFound),
        (fetch(&name("raw:show"), 0, start), NotFound),
        (fetch(&name("mp4:a..b"), 0, start), NotFound),
        (fetch(&name("show"), generation ^ 1, start), Replaced),
        (fetch(&name("bad"), 0, start), StructureInvalid),
        (fetch(&name("cut"), 0, start), StructureInvalid),
        (
            fetch(&name("show"), generation, offset(1)),
            StructureInvalid,
        ),
        (
            fetch(&name("show"), generation, offset(u64::MAX)),
            StructureInvalid,
        ),
        (fetch(&name("show"), generation, live_epoch), Invalid),
        (fetch(&name("codec"), 0, start), NoSupportedTrack),
        (fetch(&name("broken"), 0, start), Unavailable),
        (fetch(&name("denied"), 0, start), Unavailable),
    ];
    for (request, reason) in cases {
        let rejected = bench.rejected("a", request.clone()).await;
        assert_eq!(rejected.reason(), reason, "{request:?}: {rejected:?}");
        assert!(!rejected.description.is_empty());
    }
    let malformed = [
        v1::FetchRequest {
            name: None,
            ..fetch(&name("show"), 0, start)
        },
        v1::FetchRequest {
            position: None,
            ..fetch(&name("show"), 0, start)
        },
        v1::FetchRequest {
            name: Some(v1::StreamName {
                stream: "../show".to_owned(),
                ..wire_name(&name("show"))
            }),
            ..fetch(&name("show"), 0, start)
        },
        v1::FetchRequest {
            routing: Some(v1::Routing {
                unreachable: vec!["b".to_owned(); 100_000],
                ..v1::Routing::default()
            }),
            ..fetch(&name("show"), 0, start)
        },
    ];
    for request in malformed {
        let rejected = bench.rejected("a", request).await;
        assert_eq!(rejected.reason(), Invalid, "{rejected:?}");
    }
    for (stream, reason) in [
        ("bad", StructureInvalid),
        ("codec", NoSupportedTrack),
        ("denied", Unavailable),
    ] {
        match bench.describe("a", describe(&name(stream))).await.unwrap() {
            Described::Rejected(rejected) => assert_eq!(rejected.reason(), reason),
            other => panic!("{stream}: {other:?}"),
        }
    }
    let unnamed = v1::DescribeRequest::default();
    match bench.describe("a", unnamed).await.unwrap() {
        Described::Rejected(rejected) => assert_eq!(rejected.reason(), Invalid),
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.metric("a", "recordings_refused_total"), "16");
}

#[tokio::test(start_paused = true)]
async fn a_recording_comes_before_a_file_until_it_is_one() {
    let bench = Bench::one().await;
    let (store, index) = (&bench.nodes["a"].store, &bench.nodes["a"].index);
    let show = name("show");
    store.put(&path("show.flv"), 1, b"abcde");
    let file = bench.generation("a", &show).await;
    index.put(&show, 77, true);
    let start = Position::TimeMs(0);
    let newest = bench.piece("a", fetch(&show, 0, start)).await;
    assert_eq!((newest.generation, newest.follows()), (77, Follows::Live));
    let recorded = bench.piece("a", fetch(&show, 77, start)).await;
    assert_eq!(recorded, newest);
    // Who watches the file goes on with it.
    let old = bench.piece("a", fetch(&show, file, offset(2))).await;
    assert_eq!(text(&old), "cd");
    let other = bench.rejected("a", fetch(&show, 78, start)).await;
    assert_eq!(other.reason(), RecordingReason::Replaced);

    store.remove(&path("show.flv"));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let gone = bench.rejected("a", fetch(&show, file, offset(2))).await;
    assert_eq!(gone.reason(), RecordingReason::Replaced);

    index.remove(&show);
    store.put(&path("show.flv"), 2, b"vwxyz");
    let composed = bench.rejected("a", fetch(&show, 77, start)).await;
    assert_eq!(composed.reason(), RecordingReason::Replaced);
    let composed = bench.piece("a", fetch(&show, 0, start)).await;
    assert_eq!(text(&composed), "vw");
}

#[tokio::test(start_paused = true)]
async fn what_the_recorder_rejects_is_passed_on() {
    let bench = Bench::one().await;
    bench.nodes["a"].index.fail(true);
    let rejected = bench
        .rejected("a", fetch(&name("show"), 0, Position::TimeMs(0)))
        .await;
    assert_eq!(rejected.reason(), RecordingReason::Unavailable);
    assert_eq!(rejected.description, "on purpose");
    bench.nodes["a"].index.fail(false);
    bench.nodes["a"].index.hang();
    let asked = Instant::now();
    let rejected = bench
        .rejected("a", fetch(&name("show"), 0, Position::TimeMs(0)))
        .await;
    assert_eq!(rejected.reason(), RecordingReason::Unavailable);
    assert!(asked.elapsed() < Duration::from_secs(6));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_or_fails_keeps_nobody_from_a_file_that_is_open() {
    let bench = Bench::one().await;
    let (store, index) = (&bench.nodes["a"].store, &bench.nodes["a"].index);
    let show = name("show");
    store.put(&path("show.flv"), 1, b"abcdefghij");
    let file = bench.generation("a", &show).await;
    index.fail(true);
    store.fail(true);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(bench.generation("a", &show).await, file);
    index.fail(false);
    index.hang();
    store.hang(true);
    for turn in 0..5 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let asked = Instant::now();
        let piece = bench.piece("a", fetch(&show, file, offset(turn * 2))).await;
        assert_eq!(piece.generation, file);
        assert!(asked.elapsed() < Duration::from_millis(300));
        assert_eq!(bench.generation("a", &show).await, file);
        let newest = bench.piece("a", fetch(&show, 0, Position::TimeMs(0))).await;
        assert_eq!(newest.generation, file);
        assert!(asked.elapsed() < Duration::from_secs(2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_keeps_nobody_from_what_is_live() {
    let bench = Bench::one().await;
    let show = name("show");
    let store = &bench.nodes["a"].store;
    store.put(&path("bad.flv"), 1, b"!invalid");
    let mut publisher = Publisher::open(bench.streams("a"), append_open(&show, 1)).await;
    publisher.accepted().await;
    store.hang(true);
    let asked = Instant::now();
    let live = bench.description("a", &show).await;
    assert!(live.publishing && live.stored.is_none());
    assert!(asked.elapsed() < LIVE_PATIENCE * 2, "{:?}", asked.elapsed());
    match bench.describe("a", describe(&name("other"))).await.unwrap() {
        Described::Rejected(rejected) => {
            assert_eq!(rejected.reason(), RecordingReason::Unavailable);
        }
        other => panic!("{other:?}"),
    }
    store.hang(false);
    let mut publisher = Publisher::open(bench.streams("a"), append_open(&name("bad"), 1)).await;
    publisher.accepted().await;
    let live = bench.description("a", &name("bad")).await;
    assert!(live.publishing && live.stored.is_none());
}

#[tokio::test(start_paused = true)]
async fn calls_past_the_limit_are_turned_away() {
    let bench = Bench::start(
        &["a"],
        VodSection {
            max_calls: 1,
            ..VodSection::default()
        },
    )
    .await;
    let node = &bench.nodes["a"];
    node.store.put(&path("show.flv"), 1, b"abcde");
    let generation = bench.generation("a", &name("show")).await;
    let hold = node.formats.hold(Step::Read);
    let request = fetch(&name("show"), generation, Position::TimeMs(0));
    let mut client = bench.client("a");
    let first = tokio::spawn({
        let request = request.clone();
        async move { client.fetch(request).await }
    });
    while node.formats.held(Step::Read) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.metric("a", "recordings_calls"), "1");
    let second = bench.rejected("a", request.clone()).await;
    assert_eq!(second.reason(), RecordingReason::Limit);
    hold.release();
    assert!(first.await.unwrap().is_ok());
    bench.piece("a", request).await;
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_calls() {
    let bench = Bench::one().await;
    bench.nodes["a"].store.hang(true);
    let mut client = bench.client("a");
    let call = tokio::spawn(async move { client.describe(describe(&name("show"))).await });
    while bench.metric("a", "recordings_calls") == "0" {
        tokio::task::yield_now().await;
    }
    bench.nodes["a"].stop.cancel();
    assert_eq!(call.await.unwrap().unwrap_err().code(), Code::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn calls_for_the_streams_of_others_are_sent_there() {
    let bench = Bench::start(&["a", "b"], VodSection::default()).await;
    let name = bench.stream_of("b");
    match bench.describe("a", describe(&name)).await.unwrap() {
        Described::Moved(moved) => assert_eq!(moved.owner, "b"),
        other => panic!("{other:?}"),
    }
    let request = fetch(&name, 0, Position::TimeMs(0));
    match bench.fetch("a", request).await.unwrap() {
        Fetched::Moved(moved) => assert_eq!(
            (moved.owner.as_str(), moved.address.as_str()),
            ("b", "127.0.0.1:1")
        ),
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.metric("a", "moves_total"), "2");
}

#[tokio::test(start_paused = true)]
async fn calls_are_relayed_once() {
    let bench = Bench::start(&["a", "b"], VodSection::default()).await;
    let name = bench.stream_of("b");
    let file = format!("{}.flv", name.stream);
    bench.nodes["b"].store.put(&path(&file), 1, b"abcde");
    let routing = v1::Routing {
        unreachable: vec!["b".to_owned()],
        ..v1::Routing::default()
    };
    let description = v1::DescribeRequest {
        routing: Some(routing.clone()),
        ..describe(&name)
    };
    match bench.describe("a", description.clone()).await.unwrap() {
        Described::Description(found) => assert_eq!(found.stored.unwrap().bytes, 5),
        other => panic!("{other:?}"),
    }
    let request = v1::FetchRequest {
        routing: Some(routing.clone()),
        ..fetch(&name, 0, Position::TimeMs(0))
    };
    match bench.fetch("a", request.clone()).await.unwrap() {
        Fetched::Piece(piece) => assert_eq!(text(&piece), "ab"),
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.metric("a", "relays_total"), "2");
    assert_eq!(bench.metric("a", "recordings_calls"), "0");
    let again = v1::FetchRequest {
        routing: Some(v1::Routing {
            relayed_by: vec!["c".to_owned()],
            ..routing
        }),
        ..request.clone()
    };
    assert_eq!(
        bench.fetch("a", again).await.unwrap_err().code(),
        Code::Unavailable
    );

    // The owner dies while it is asked, and asks its store whether the file is still the same.
    tokio::time::sleep(Duration::from_secs(2)).await;
    bench.nodes["b"].store.hang(true);
    let mut client = bench.client("a");
    let call = tokio::spawn(async move { client.describe(description).await });
    while bench.metric("b", "recordings_calls") == "0" {
        tokio::task::yield_now().await;
    }
    bench.nodes["b"].stop.cancel();
    assert_eq!(call.await.unwrap().unwrap_err().code(), Code::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn a_relay_ends_when_the_owner_is_not_the_owner_any_more() {
    let bench = Bench::start(&["a", "b"], VodSection::default()).await;
    let name = bench.stream_of("b");
    bench.nodes["b"].store.hang(true);
    let request = v1::DescribeRequest {
        routing: Some(v1::Routing {
            unreachable: vec!["b".to_owned()],
            ..v1::Routing::default()
        }),
        ..describe(&name)
    };
    let mut client = bench.client("a");
    let call = tokio::spawn(async move { client.describe(request).await });
    while bench.metric("b", "recordings_calls") == "0" {
        tokio::task::yield_now().await;
    }
    let asked = Instant::now();
    let alone = ["a=127.0.0.1:1".to_owned()];
    bench.nodes["a"].cluster.set_members(&alone).unwrap();
    let ended = call.await.unwrap().unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable);
    assert!(ended.message().contains("retry"), "{ended:?}");
    assert!(asked.elapsed() < Duration::from_secs(1));
}

#[test]
fn pieces_that_no_message_can_hold_are_refused() {
    let frame = |length| FileFrame {
        position: 9,
        timestamp: 0,
        kind: FrameKind::Video,
        flags: FrameFlags::KEY,
        payload: Bytes::from(vec![0; length]),
    };
    let piece = |frames| FilePiece {
        first: 9,
        frames,
        ..FilePiece::default()
    };
    let largest = to_piece(1, &piece(vec![frame(MAX_PIECE_BYTES)])).unwrap();
    assert_eq!(
        largest.next,
        Some(v1::Offset {
            epoch: 1,
            sequence: 10
        })
    );
    let cases = [
        piece(vec![frame(MAX_PIECE_BYTES), frame(1)]),
        FilePiece {
            preface: vec![frame(MAX_PIECE_BYTES)],
            ..piece(vec![frame(1)])
        },
        piece(vec![frame(0); MAX_PIECE_FRAMES + 1]),
    ];
    for piece in cases {
        let rejection = to_piece(1, &piece).unwrap_err();
        assert_eq!(rejection.reason, RecordingReason::Limit);
    }
    let empty = to_piece(1, &piece(Vec::new())).unwrap();
    assert_eq!((empty.first, empty.follows()), (empty.next, Follows::End));
}
