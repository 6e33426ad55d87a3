//! One journal without any store: what is found again, and which files are kept.

use std::fs;
use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use headwater_media::frame::{Epoch, Frame, FrameFlags, FrameKind, Offset};
use headwater_media::name::StreamName;
use headwater_media::segment::journal_frame;

use super::*;

fn recording(stream: &str) -> LeftOpen {
    LeftOpen {
        name: StreamName::new("_defaultVHost_", "live", "_definst_", stream).unwrap(),
        generation: 7,
    }
}

fn start(folder: &Path) -> Journal {
    let config = JournalConfig {
        folder: folder.to_owned(),
        sync_every: Duration::ZERO,
        file_bytes: 2_000,
    };
    Journal::start(config, Box::new(LocalDisk)).unwrap()
}

fn offset(sequence: u64) -> Offset {
    Offset {
        epoch: Epoch(1),
        sequence,
    }
}

fn frame(sequence: u64) -> Frame {
    Frame {
        offset: offset(sequence),
        timestamp: sequence,
        kind: FrameKind::Data,
        flags: FrameFlags::empty(),
        payload: Bytes::from(vec![sequence as u8; 20]),
    }
}

fn frames(sequences: std::ops::Range<u64>) -> Vec<Frame> {
    sequences.map(frame).collect()
}

async fn write(slot: &Slot, sequences: std::ops::Range<u64>, replace: bool) {
    let mut records = BytesMut::new();
    let next = offset(sequences.end);
    for sequence in sequences {
        journal_frame(slot.id(), &frame(sequence), &mut records);
    }
    let answer = slot.submit(records.freeze(), Some(next), replace);
    answer.await.unwrap().unwrap();
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Waits until the thread has done what was handed in before: another recording's answer comes after that.
async fn settle(journal: &Journal) {
    for _ in 0..2 {
        let slot = journal.open(recording("settle")).unwrap();
        slot.submit(Bytes::new(), None, false)
            .await
            .unwrap()
            .unwrap();
        slot.close();
    }
}

#[tokio::test]
async fn what_was_answered_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let journal = start(folder.path());
    let (a, b) = (
        journal.open(recording("a")).unwrap(),
        journal.open(recording("b")).unwrap(),
    );
    assert!(journal.open(recording("a")).is_none());
    write(&a, 0..10, false).await;
    write(&b, 5..6, false).await;
    write(&a, 10..15, false).await;
    a.stored(offset(10));
    journal.kill();
    drop((a, b, journal));

    let journal = start(folder.path());
    assert_eq!(journal.left_open(), [recording("a"), recording("b")]);
    let a = journal.open(recording("a")).unwrap();
    assert_eq!(journal.left_open(), [recording("b")]);
    assert_eq!(a.read(None).unwrap(), frames(0..15));
    assert_eq!(a.read(Some(offset(12))).unwrap(), frames(12..15));
    // What is written now comes after it, in another file.
    write(&a, 15..20, false).await;
    assert_eq!(a.read(Some(offset(9))).unwrap(), frames(9..20));
    drop(a);
    assert_eq!(journal.left_open().len(), 2);
    journal.forget(&recording("b"));
    assert_eq!(journal.left_open(), [recording("a")]);
    let a = journal.open(recording("a")).unwrap();
    a.close();
    assert_eq!(journal.left_open(), []);
    settle(&journal).await;
    journal.kill();
    // The recording that was opened to wait may not be closed yet.
    let left = start(folder.path()).left_open();
    assert!(
        left.iter().all(|left| *left == recording("settle")),
        "{left:?}"
    );
}

#[tokio::test]
async fn a_journal_that_was_cut_anywhere_is_read_up_to_there() {
    let folder = tempfile::tempdir().unwrap();
    let journal = start(folder.path());
    let a = journal.open(recording("a")).unwrap();
    for sequence in 0..12 {
        write(&a, sequence..sequence + 1, false).await;
    }
    journal.kill();
    let name = files(folder.path()).pop().unwrap();
    let data = fs::read(folder.path().join(&name)).unwrap();
    let record = 8 + 9 + 30 + 20;
    let first = data.len() - 12 * record;
    for length in 0..=data.len() {
        let copy = tempfile::tempdir().unwrap();
        fs::write(copy.path().join(&name), &data[..length]).unwrap();
        let journal = start(copy.path());
        if length < first {
            assert_eq!(journal.left_open(), [], "cut to {length}");
            continue;
        }
        let whole = ((length - first) / record) as u64;
        let a = journal.open(recording("a")).unwrap();
        assert_eq!(a.read(None).unwrap(), frames(0..whole), "cut to {length}");
        if length % 40 == 0 {
            write(&a, whole..20, false).await;
            journal.kill();
            drop((a, journal));
            let journal = start(copy.path());
            let a = journal.open(recording("a")).unwrap();
            assert_eq!(a.read(None).unwrap(), frames(0..20), "cut to {length}");
        }
    }
}

#[tokio::test]
async fn files_go_when_nobody_needs_them() {
    let folder = tempfile::tempdir().unwrap();
    let journal = start(folder.path());
    let (a, b) = (
        journal.open(recording("a")).unwrap(),
        journal.open(recording("b")).unwrap(),
    );
    write(&b, 0..1, false).await;
    for n in 0..20 {
        write(&a, n * 10..n * 10 + 10, false).await;
        a.stored(offset(n * 10 + 5));
    }
    // `b` holds the first file back, and all others have gone.
    assert!(!a.must_carry() && b.must_carry());
    let kept = files(folder.path());
    assert!(kept.len() <= 4, "{kept:?}");
    write(&b, 0..1, true).await;
    assert!(!b.must_carry());
    settle(&journal).await;
    let now = files(folder.path());
    assert!(now.len() < kept.len() && !now.contains(&kept[0]), "{now:?}");
    assert_eq!(b.read(None).unwrap(), frames(0..1));
    assert_eq!(a.read(Some(offset(195))).unwrap(), frames(195..200));
    a.close();
    b.close();
    settle(&journal).await;
    // The last closing may be under way.
    for _ in 0..1_000 {
        if files(folder.path()).is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{:?} are left", files(folder.path()));
}

/// Frames were carried over to a newer file, and then only some of the older files were gone when the process died.
#[tokio::test]
async fn files_may_go_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    let journal = start(folder.path());
    let a = journal.open(recording("a")).unwrap();
    write(&a, 0..40, false).await;
    write(&a, 40..80, false).await;
    let old: Vec<_> = files(folder.path())
        .into_iter()
        .map(|name| (fs::read(folder.path().join(&name)).unwrap(), name))
        .collect();
    assert_eq!(old.len(), 2);
    write(&a, 0..90, true).await;
    settle(&journal).await;
    journal.kill();
    drop((a, journal));
    for kept in 0..4 {
        let copy = tempfile::tempdir().unwrap();
        for name in files(folder.path()) {
            fs::copy(folder.path().join(&name), copy.path().join(&name)).unwrap();
        }
        for (number, (data, name)) in old.iter().enumerate() {
            if kept & (1 << number) != 0 {
                fs::write(copy.path().join(name), data).unwrap();
            }
        }
        let journal = start(copy.path());
        let a = journal.open(recording("a")).unwrap();
        assert_eq!(a.read(Some(offset(10))).unwrap(), frames(10..90), "{kept}");
    }
}

/// Closed and opened again at once, while a new file begins.
#[tokio::test]
async fn a_recording_is_opened_again_while_it_is_closed() {
    for round in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let journal = start(folder.path());
        let a = journal.open(recording("a")).unwrap();
        // The file is full after some rounds.
        write(&a, 0..10 + round * 3, false).await;
        a.close();
        let a = journal.open(recording("a")).unwrap();
        write(&a, 100..110, false).await;
        journal.kill();
        drop((a, journal));
        let journal = start(folder.path());
        let a = journal.open(recording("a")).unwrap();
        assert_eq!(a.read(Some(offset(100))).unwrap(), frames(100..110));
    }
}

#[tokio::test]
async fn what_is_no_journal_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let strange = format!("{:020}.journal", 5);
    fs::write(
        folder.path().join(&strange),
        b"HWJOURNL\xff\xffof a later version",
    )
    .unwrap();
    fs::write(folder.path().join("notes.txt"), b"mine").unwrap();
    let journal = start(folder.path());
    assert_eq!(journal.left_open(), []);
    let a = journal.open(recording("a")).unwrap();
    write(&a, 0..3, false).await;
    assert!(files(folder.path()).contains(&format!("{:020}.journal", 6)));
    assert!(files(folder.path()).contains(&strange));
    assert!(files(folder.path()).contains(&"notes.txt".to_owned()));
}

#[tokio::test]
async fn a_file_that_changed_is_not_taken_for_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let journal = start(folder.path());
    let a = journal.open(recording("a")).unwrap();
    write(&a, 0..10, false).await;
    let path = folder.path().join(files(folder.path()).pop().unwrap());
    let mut data = fs::read(&path).unwrap();
    let at = data.len() - 70;
    data[at] ^= 1;
    fs::write(&path, data).unwrap();
    let error = a.read(None).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}
