//! Over a folder with some files, and a recording that goes on.

use std::sync::Arc;

use futures_util::TryStreamExt;
use headwater_media::frame::{Epoch, Frame, FrameFlags, FrameKind, Offset};
use headwater_media::name::{DEFAULT_INSTANCE, DEFAULT_VHOST, StreamName};
use headwater_node::admin::axum::response::IntoResponse;
use headwater_node::metrics::Metrics;
use tempfile::TempDir;

use super::*;
use crate::config::OriginSection;
use crate::record::archive::{ArchiveConfig, Writer};
use crate::record::stream_info::StreamInfo;

const FOLDER: &str = "applications/live/streams/_definst_";

struct Stage {
    library: Library,
    folder: TempDir,
}

impl Stage {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let section = OriginSection {
            data_dir: folder.path().to_owned(),
            ..OriginSection::default()
        };
        let store = Store::open(&section, &Metrics::new("test", "test"))
            .await
            .unwrap();
        let (objects, journal) = (Arc::clone(store.objects()), store.journal_dir());
        let config = ArchiveConfig::default();
        let infos = StreamInfos::new(Arc::clone(&objects));
        let archives = Archives::new(objects, journal, true, config).unwrap();
        Self {
            library: Library {
                store,
                archives,
                infos,
                directories: ["applications/vod/media", "films"].map(Path::from).into(),
                tasks: TaskTracker::new(),
                stop: CancellationToken::new(),
            },
            folder,
        }
    }

    fn add(&self, path: &str, content: &[u8]) {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    async fn record(&self, stream: &str, frames: u64) -> Writer {
        let name = StreamName::new(DEFAULT_VHOST, "live", DEFAULT_INSTANCE, stream).unwrap();
        let mut writer = self.library.archives.create(&name, "o1").await.unwrap();
        let frames: Vec<Frame> = (0..frames).map(frame).collect();
        writer.append(&frames).unwrap();
        writer.sync().await.unwrap();
        writer
    }

    async fn ids(&self, request: &list::Request) -> Vec<String> {
        let page = self.library.list(request).await.unwrap();
        page.recordings.into_iter().map(|entry| entry.id).collect()
    }
}

fn frame(sequence: u64) -> Frame {
    Frame {
        offset: Offset {
            epoch: Epoch(1_000),
            sequence,
        },
        timestamp: sequence * 40,
        kind: FrameKind::Video,
        flags: if sequence.is_multiple_of(25) {
            FrameFlags::KEY
        } else {
            FrameFlags::empty()
        },
        payload: vec![0x17, 1, 0, 0, 0, sequence as u8].into(),
    }
}

fn request(text: &str) -> list::Request {
    let uri = format!("http://h/recordings?{text}").parse().unwrap();
    Query::try_from_uri(&uri)
        .map(|Query(request)| request)
        .unwrap()
}

fn status(error: ApiError) -> u16 {
    error.into_response().status().as_u16()
}

#[tokio::test]
async fn what_is_stored_is_listed_page_by_page() {
    let stage = Stage::new().await;
    for name in ["b.flv", "a.mp4", "c/d.mp3", "notes.txt"] {
        stage.add(&format!("{FOLDER}/{name}"), b"content");
    }
    stage.add("applications/live/app.flv", b"no stream");
    stage.add("vhosts/v/applications/live/streams/i/e.flv", b"");
    let _writer = stage.record("show", 3).await;
    let all = stage.ids(&list::Request::default()).await;
    let [files @ .., other] = &all[..] else {
        panic!("{all:?}");
    };
    let [first @ .., recording] = files else {
        panic!("{all:?}");
    };
    let expected = ["a.mp4", "b.flv", "c/d.mp3"].map(|name| format!("{FOLDER}/{name}"));
    assert_eq!(first, expected);
    assert!(recording.starts_with("recordings/live"), "{recording}");
    assert_eq!(other, "vhosts/v/applications/live/streams/i/e.flv");

    let mut paged = Vec::new();
    let mut next = Some(String::new());
    while let Some(after) = next {
        let page = request(&format!("limit=2&after={after}"));
        let page = stage.library.list(&page).await.unwrap();
        assert!(page.recordings.len() <= 2);
        paged.extend(page.recordings.into_iter().map(|entry| entry.id));
        next = page.next;
    }
    assert_eq!(paged, all);
    let below = request(&format!("prefix={FOLDER}/c"));
    assert_eq!(stage.ids(&below).await, [format!("{FOLDER}/c/d.mp3")]);
    for limit in ["0", "1001"] {
        let error = stage
            .library
            .list(&request(&format!("limit={limit}")))
            .await;
        assert_eq!(status(error.unwrap_err()), 400, "{limit}");
    }
}

#[tokio::test]
async fn virtual_directories_hold_media_files() {
    let stage = Stage::new().await;
    let ids = [
        "applications/live/streams/i/a.flv",
        "applications/vod/media/b.mp4",
        "applications/vod/media/old/c.mp4",
        "films/d.mp4",
        "films/streams/e.mp4",
    ];
    for id in ids
        .iter()
        .chain(&["applications/vod/b.mp4", "film/x.mp4", "films.mp4"])
    {
        stage.add(id, b"content");
    }
    assert_eq!(stage.ids(&list::Request::default()).await, ids);
    for (prefix, expected) in [
        ("applications/vod/media/", &ids[1..3]),
        ("applications/vod/media/o", &ids[2..3]),
        ("applications", &ids[..3]),
        ("film", &ids[3..]),
        ("films/", &ids[3..]),
        ("films/d.mp4", &ids[3..4]),
        ("filmsx", &[]),
        ("films//", &[]),
        ("x/../films", &[]),
    ] {
        let found = stage.ids(&request(&format!("prefix={prefix}"))).await;
        assert_eq!(found, expected, "{prefix}");
    }
    for (at, after) in ids.iter().enumerate() {
        let found = stage.ids(&request(&format!("after={after}"))).await;
        assert_eq!(found, ids[at + 1..], "{after}");
    }
    stage.library.export(ids[1]).await.unwrap();
    stage.library.delete(ids[3]).await.unwrap();
    for other in ["applications/vod/b.mp4", "film/x.mp4", "films.mp4", ids[3]] {
        let deleted = stage.library.delete(other).await;
        assert_eq!(status(deleted.unwrap_err()), 404, "{other}");
    }
}

#[tokio::test]
async fn pages_of_recordings_are_those_of_all() {
    let stage = Stage::new().await;
    let mut writers = Vec::new();
    for stream in ["b", "a", "a-b", "c"] {
        writers.push(stage.record(stream, 3).await);
    }
    stage.add("vhosts/v/applications/live/streams/i/e.flv", b"");
    let all = stage.ids(&list::Request::default()).await;
    assert_eq!(all.len(), 5);
    assert!(all.is_sorted());
    for limit in 1..=5 {
        for (at, after) in all.iter().enumerate() {
            let page = request(&format!("limit={limit}&after={after}"));
            let page = stage.library.list(&page).await.unwrap();
            let ids: Vec<_> = page.recordings.into_iter().map(|entry| entry.id).collect();
            let until = (at + 1 + limit).min(all.len());
            assert_eq!(ids, all[at + 1..until]);
            assert_eq!(page.next.is_some(), until < all.len());
        }
    }
    let prefix = all[0].rsplit_once('/').unwrap().0;
    assert_eq!(
        stage.ids(&request(&format!("prefix={prefix}/"))).await,
        all[..1]
    );
}

#[tokio::test]
async fn files_are_exported_and_deleted_and_nothing_else_is() {
    let stage = Stage::new().await;
    let id = format!("{FOLDER}/show.flv");
    stage.add(&id, b"content");
    stage.add("secret", b"not for you");
    let export = stage.library.export(&id).await.unwrap();
    assert_eq!(export.length, Some(7));
    let parts: Vec<_> = export.bytes.try_collect().await.unwrap();
    assert_eq!(parts.concat(), b"content");
    for (id, expected) in [
        ("secret", 404),
        ("applications/../secret", 400),
        ("applications//x.flv", 400),
        (&format!("{FOLDER}/none.flv"), 404),
        ("recordings/live/00000000000000000001", 404),
        ("recordings/live-x/00000000000000000001", 404),
    ] {
        let export = stage.library.export(id).await;
        assert_eq!(status(export.err().unwrap()), expected, "{id}");
        let deleted = stage.library.delete(id).await;
        assert_eq!(status(deleted.unwrap_err()), expected, "{id}");
    }
    stage.library.delete(&id).await.unwrap();
    assert_eq!(status(stage.library.delete(&id).await.unwrap_err()), 404);
    assert!(stage.folder.path().join("secret").is_file());
}

#[tokio::test]
async fn a_recording_is_told_of_and_exported_while_it_grows_and_deleted_afterwards() {
    let stage = Stage::new().await;
    let mut writer = stage.record("show", 100).await;
    let all = stage.ids(&list::Request::default()).await;
    let [id] = &all[..] else {
        panic!("{all:?}");
    };
    let found = stage.library.inspect(id).await.unwrap();
    assert_eq!(found.growing, Some(true));
    assert_eq!(
        found.stream.as_deref(),
        Some("_defaultVHost_/live/_definst_/show")
    );
    assert!((3_960..=4_040).contains(&found.duration_ms), "{found:?}");
    assert!(found.has_video && !found.has_audio);

    let export = stage.library.export(id).await.unwrap();
    let parts: Vec<_> = export.bytes.try_collect().await.unwrap();
    let mut reader = headwater_media::flv::FlvReader::new(1_000);
    reader.feed(&parts.concat());
    let mut tags = 0;
    while let Some(event) = reader.poll().unwrap() {
        if let headwater_media::flv::FlvEvent::Tag(tag) = event {
            assert_eq!(tag.timestamp, tags * 40);
            tags += 1;
        }
    }
    reader.finish().unwrap();
    assert_eq!(tags, 100);

    assert_eq!(status(stage.library.delete(id).await.unwrap_err()), 409);
    writer.finish().await.unwrap();
    drop(writer);
    stage.library.delete(id).await.unwrap();
    assert_eq!(stage.ids(&list::Request::default()).await, [""; 0]);
    let left = std::fs::read_dir(stage.folder.path().join("recordings")).unwrap();
    assert_eq!(left.count(), 0, "no folder is left behind");
}

#[tokio::test]
async fn what_was_said_of_a_recording_goes_with_the_last_of_it() {
    let stage = Stage::new().await;
    let id = format!("{FOLDER}/show.flv");
    stage.add(&id, b"content");
    let mut writer = stage.record("show.flv", 100).await;
    writer.finish().await.unwrap();
    drop(writer);
    let show = StreamName::new(DEFAULT_VHOST, "live", DEFAULT_INSTANCE, "show.flv").unwrap();
    let infos = &stage.library.infos;
    infos.set(&show, StreamInfo::default()).await.unwrap();
    let found = stage.ids(&list::Request::default()).await;
    assert_eq!(found.len(), 2, "{found:?}");
    for (round, id) in found.iter().enumerate() {
        stage.library.delete(id).await.unwrap();
        let left = infos.find(&show).await.unwrap();
        assert_eq!(left.is_some(), round == 0, "round {round}");
    }

    // The other way round.
    stage.add(&id, b"content");
    infos.set(&show, StreamInfo::default()).await.unwrap();
    stage.library.delete(&id).await.unwrap();
    assert_eq!(infos.find(&show).await.unwrap(), None);
}

#[tokio::test]
async fn a_deletion_goes_on_when_the_one_who_asked_leaves() {
    let stage = Stage::new().await;
    stage.record("show", 100).await.finish().await.unwrap();
    let ids = stage.ids(&list::Request::default()).await;
    let slot = AdminSlot::default();
    slot.fill(stage.library.clone());
    let which = Which { id: ids[0].clone() };
    let mut asked = Box::pin(delete(State(slot), Query(which)));
    assert!(futures_util::poll!(&mut asked).is_pending());
    drop(asked);
    stage.library.tasks.close();
    stage.library.tasks.wait().await;
    assert_eq!(stage.ids(&list::Request::default()).await, [""; 0]);
    let left = std::fs::read_dir(stage.folder.path().join("recordings")).unwrap();
    assert_eq!(left.count(), 0, "no folder is left behind");
}

#[tokio::test]
async fn what_is_no_media_is_said_to_be_none() {
    let stage = Stage::new().await;
    let id = format!("{FOLDER}/broken.mp4");
    stage.add(&id, b"no boxes in here");
    let error = stage.library.inspect(&id).await.unwrap_err();
    assert_eq!(status(error), 422);
}
