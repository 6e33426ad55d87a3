//! A recording that another origin takes over, as its viewers see it.

use super::*;
use crate::record::archive::Follows;
use crate::record::target::Target;

/// As it is recorded.
fn name(stream: &str) -> StreamName {
    let name = StreamName::new("_defaultVHost_", "live", "_definst_", stream).unwrap();
    Target::of(&name).unwrap().name
}

/// The archive of another node with the same store.
fn elsewhere(node: &Node) -> NodeArchives {
    let machine = node.machine.next();
    let archives = Archives::new(
        machine.objects.clone(),
        machine.journal(),
        false,
        RecordingSection::default().archive(),
    );
    NodeArchives::new(archives.unwrap(), "b")
}

/// What somebody sees who watches from the beginning, up to frame `next`.
async fn watched(node: &Node, stream: &str, next: u64) -> Vec<Offset> {
    let mut seen: Vec<Offset> = Vec::new();
    let watching = async {
        let mut at = Offset::default();
        while seen.last().is_none_or(|last| last.sequence + 1 < next) {
            let found = node.recordings.find(&name(stream)).await.unwrap().unwrap();
            let piece = found.reader.newest_piece_at(at).await.unwrap();
            let new = piece.frames.iter().map(|frame| frame.offset);
            seen.extend(new.filter(|offset| *offset >= at));
            at = piece.next;
            if piece.follows != Follows::Piece {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    tokio::time::timeout(PATIENCE, watching)
        .await
        .expect("viewers do not get on");
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_go_on_with_a_recording_that_is_taken_back_from_another_origin() {
    let node = Node::start(Machine::remote(), "a").await;
    let frames = show(8, 0);
    let half = frames.len() / 2;
    let publisher = node.open("show", Mode::Record, None).await;
    publisher.send_slowly(&frames[..half]).await;
    // What is held by now is in no segment.
    let found = node.recordings.find(&name("show")).await.unwrap().unwrap();
    let another = elsewhere(&node);
    let taken = another.take_over(&name("show"), found.generation).await;
    drop(taken.unwrap());
    publisher.send_slowly(&frames[half..]).await;
    publisher.stored(half as u64 + 50).await;
    let found = node.recordings.find(&name("show")).await.unwrap().unwrap();
    assert!(found.growing);
    assert!(found.reader.is_live(), "it is written here again");
    let seen = watched(&node, "show", frames.len() as u64).await;
    let sent = (0..frames.len() as u64).map(|sequence| Offset {
        epoch: publisher.epoch,
        sequence,
    });
    assert!(seen.into_iter().eq(sent), "each frame once, in order");
    publisher.stop();
    assert_eq!(played(&flv(node.file("show.flv").await)), media(&frames));
}

#[tokio::test]
async fn to_look_what_was_left_open_takes_nothing_over() {
    for machine in [Machine::local(), Machine::remote()] {
        let config = RecordingSection::default().archive();
        let (objects, is_local) = (machine.objects.clone(), machine.is_local);
        let archives = Archives::new(objects, machine.journal(), is_local, config).unwrap();
        let vault = NodeArchives::new(archives, "a");
        let mut writer = vault.create(&name("show")).await.unwrap();
        let generation = writer.generation();
        writer.append(&show(2, 0)).await.unwrap();
        writer.journal().await.unwrap();
        let written = writer.kept();
        drop(writer);
        assert!(vault.is_left_open(&name("show"), generation));
        let objects = async || machine.objects.list(None).count().await;
        let before = objects().await;
        for _ in 0..3 {
            let kept = vault.kept(&name("show"), generation).await.unwrap();
            assert_eq!(kept, written);
        }
        assert_eq!(objects().await, before);
        // It is there for whoever takes it over.
        let writer = vault.take_over(&name("show"), generation).await.unwrap();
        assert_eq!(writer.kept(), written);
    }
}
