use proptest::prelude::*;

use super::*;

/// A tag with these frames.
fn tag(version: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    let size = body.len();
    let size = [21, 14, 7, 0].map(|shift| (size >> shift & 0x7f) as u8);
    [&[b'I', b'D', b'3', version, 0, flags][..], &size, body].concat()
}

fn frame(name: &str, body: &[u8]) -> Vec<u8> {
    let size = (body.len() as u32).to_be_bytes();
    [name.as_bytes(), &size, &[0, 0], body].concat()
}

fn read(bytes: Vec<u8>) -> Vec<(String, String)> {
    texts(&Bytes::from(bytes)).expect("it can be read")
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    expected.iter().map(owned).collect()
}

#[test]
fn texts_are_read_in_every_encoding() {
    let body = [
        frame("TIT2", b"\0Se\xf1al"),
        frame("TPE1", b"\x01\xff\xfeS\0e\0\xf1\0"),
        frame("TALB", b"\x02\0S\0e\0\xf1"),
        frame("TCON", "\u{3}Señal".as_bytes()),
        frame("TPE2", b"\x03one\0two\0"),
        frame(USER_TEXT, b"\0name\0value"),
        frame("APIC", &[0; 500]),
        frame("COMM", b"\0engshort\0the comment"),
        frame("TBPM", b""),
        frame("TENC", b"\0\0"),
        frame("TIT2", b"\0a second one"),
        vec![0; 30],
    ]
    .concat();
    let expected = pairs(&[
        ("TIT2", "Señal"),
        ("TPE1", "Señ"),
        ("TALB", "Señ"),
        ("TCON", "Señal"),
        ("TPE2", "one/two"),
        ("COMM", "the comment"),
    ]);
    assert_eq!(read(tag(3, 0, &body)), expected);
    let extended = [&[0, 0, 0, 6, 0, 0, 0, 0, 0, 0][..], &body].concat();
    assert_eq!(read(tag(3, 0x40, &extended)), expected);
    // One tag in front of another; the first one wins.
    let two = [tag(3, 0, &frame("TIT2", b"\0new")), tag(3, 0, &body)].concat();
    assert_eq!(read(two)[..2], pairs(&[("TIT2", "new"), ("TPE1", "Señ")]));
}

#[test]
fn other_versions_are_read() {
    let v2 = b"TT2\0\0\x04\0abcXYZ\0\0\x02\0\0TP1\0\0\x02\0d\0\0\0\0\0\0";
    let expected = pairs(&[("TIT2", "abc"), ("TPE1", "d")]);
    assert_eq!(read(tag(2, 0, v2)), expected);

    // 200 bytes are 1 and 72 in groups of seven bits.
    let long = "x".repeat(199);
    let v4 = [b"TIT2\0\0\x01\x48\0\0\x03", long.as_bytes()].concat();
    assert_eq!(read(tag(4, 0, &v4)), pairs(&[("TIT2", &long)]));
    let footer = [tag(4, 0x10, &v4), b"3DI\x04\0\x10\0\0\x01\x53".to_vec()].concat();
    let bytes = Bytes::from([footer.clone(), vec![1; 5]].concat());
    assert_eq!(
        extent(&bytes).expect("tags"),
        footer.len() as u64..bytes.length()
    );
}

#[test]
fn unsynchronised_tags_are_read() {
    let expected = pairs(&[("TIT2", "\u{ff}\u{e0}a"), ("TPE1", "b")]);
    let v3 = [
        &b"TIT2\0\0\0\x04\0\0\0\xff\0\xe0a"[..],
        b"TPE1\0\0\0\x02\0\0\0b",
    ];
    assert_eq!(read(tag(3, 0x80, &v3.concat())), expected);
    let v4 = [
        &b"TIT2\0\0\0\x05\0\x02\0\xff\0\xe0a"[..],
        b"TPE1\0\0\0\x02\0\0\0b",
    ];
    assert_eq!(read(tag(4, 0, &v4.concat())), expected);
    assert_eq!(read(tag(4, 0x80, &v4.concat())), expected);
    let compressed = b"TIT2\0\0\0\x02\0\x80\0bTPE1\0\0\0\x02\0\0\0b";
    assert_eq!(read(tag(3, 0, compressed)), pairs(&[("TPE1", "b")]));
}

#[test]
fn the_tag_at_the_end_fills_in() {
    let field = |text: &str, length: usize| {
        let mut field = text.as_bytes().to_vec();
        field.resize(length, 0);
        field
    };
    let v1 = [
        b"TAG".to_vec(),
        field("old title", 30),
        field("artist", 30),
        field("album   ", 30),
        field("1999", 4),
        field("comment", 28),
        vec![0, 7, 17],
    ]
    .concat();
    let both = [
        tag(3, 0, &frame("TIT2", b"\0title")),
        vec![0x55; 40],
        v1.clone(),
    ]
    .concat();
    let expected = pairs(&[
        ("TIT2", "title"),
        ("TPE1", "artist"),
        ("TALB", "album"),
        ("TYER", "1999"),
        ("COMM", "comment"),
        ("TRCK", "7"),
        ("TCON", "(17)"),
    ]);
    assert_eq!(read(both.clone()), expected);
    assert_eq!(extent(&Bytes::from(both)).expect("tags"), 26..66);

    // Before it there may be an APE tag.
    let mut ape = vec![3; 20];
    ape.extend_from_slice(b"APETAGEX\xd0\x07\0\0\x34\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    let all = Bytes::from([vec![0x55; 40], ape, v1].concat());
    assert_eq!(extent(&all).expect("tags"), 0..40);
}

#[test]
fn sizes_are_checked() {
    for (what, bytes, ok) in [
        ("past the end", b"ID3\x03\0\0\0\0\0\x05abcd".to_vec(), false),
        (
            "bits that must not be",
            b"ID3\x03\0\0\0\0\0\x80abcd".to_vec(),
            false,
        ),
        ("no version", b"ID3\xff\0\0\0\0\0\x7fabcd".to_vec(), true),
        (
            "a frame past the end",
            tag(3, 0, b"TIT2\0\0\x10\0\0\0\0a"),
            true,
        ),
        (
            "an extended header past the end",
            tag(3, 0x40, b"\xff\xff\xff\xff"),
            true,
        ),
        ("nothing", Vec::new(), true),
    ] {
        let source: Arc<dyn ReadAt> = Arc::new(Bytes::from(bytes));
        let file = Id3File::open(source, Grid::default());
        match file {
            Ok(file) => {
                assert!(ok, "{what}");
                assert_eq!(
                    file.piece_at_time(0).expect("a piece"),
                    FilePiece::default()
                );
            }
            Err(error) => {
                assert!(
                    !ok && matches!(error, FileError::Invalid { offset: 6, .. }),
                    "{what}"
                );
            }
        }
    }
}

#[test]
fn texts_are_bounded() {
    let long = [&b"\0"[..], &[b'x'; 100_000]].concat();
    let many: Vec<u8> = (0..200)
        .flat_map(|number| frame(&format!("T{number:03}"), &long))
        .collect();
    let texts = read(tag(3, 0, &many));
    // A mebibyte of the tag is looked at.
    assert_eq!(texts.len(), 10);
    assert!(texts.iter().all(|(_, text)| text.len() == MAX_TAG_TEXT));
    let short: Vec<u8> = (0..200)
        .flat_map(|number| frame(&format!("T{number:03}"), b"\0x"))
        .collect();
    assert_eq!(read(tag(3, 0, &short)).len(), MAX_TEXTS);
}

#[test]
fn the_message_is_an_object_of_texts() {
    let source = Bytes::from(tag(3, 0, &frame("TIT2", b"\0a")));
    let file = Id3File::open(Arc::new(source), Grid::default()).expect("it opens");
    let piece = file.piece_at(0).expect("a piece");
    assert_eq!((piece.frames.len(), piece.next), (1, None));
    assert_eq!(
        &piece.frames[0].payload[..],
        b"\x02\0\x05onId3\x03\0\x04TIT2\x02\0\x01a\0\0\x09"
    );
    assert!(file.piece_at(1).is_err());
}

proptest! {
    #[test]
    fn any_tag_can_be_read(version in 0_u8..6, flags: u8, parts in prop::collection::vec((0_usize..6, prop::collection::vec(any::<u8>(), 0..40)), 0..12)) {
        let names: [&[u8]; 6] = [b"TIT2\0\0\0\x08\0\0", b"COMM\0\0\0\x08\0\x02", b"TT2\0\0\x08", b"TAG", b"APETAGEX", b"\xff"];
        let body: Vec<u8> = parts.iter().flat_map(|(name, body)| [names[*name], body].concat()).collect();
        for bytes in [tag(version, flags, &body), body] {
            let bytes = Bytes::from(bytes);
            let _ = texts(&bytes);
            if let Ok(extent) = extent(&bytes) {
                prop_assert!(extent.start <= extent.end && extent.end <= bytes.length());
            }
        }
    }
}
