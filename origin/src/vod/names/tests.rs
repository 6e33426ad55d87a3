use std::collections::HashMap;

use headwater_media::name::{DEFAULT_INSTANCE, MAX_PART_LENGTH};
use proptest::prelude::*;

use super::*;

/// Not through [`StreamName::new`]: nothing here relies on its checks.
fn name(vhost: &str, app: &str, instance: &str, stream: &str) -> StreamName {
    StreamName {
        vhost: vhost.to_owned(),
        app: app.to_owned(),
        instance: instance.to_owned(),
        stream: stream.to_owned(),
    }
}

fn stream(stream: &str) -> StreamName {
    name(DEFAULT_VHOST, "live", DEFAULT_INSTANCE, stream)
}

fn directory(vhost: &str, app: &str, name: &str, folder: &str) -> VirtualDirectory {
    VirtualDirectory {
        vhost: vhost.to_owned(),
        app: app.to_owned(),
        name: name.to_owned(),
        folder: folder.to_owned(),
    }
}

fn paths(names: &Names, name: &StreamName) -> Vec<String> {
    let candidates = names.lookup(name);
    candidates.iter().map(|it| it.path.to_string()).collect()
}

/// The candidates in the stream's own folder, without it.
fn own(stream_name: &str) -> Vec<(String, Format)> {
    let candidates = Names::default().lookup(&stream(stream_name));
    let candidates = candidates.into_iter().map(|candidate| {
        let path = candidate.path.to_string();
        let file = path.strip_prefix("applications/live/streams/_definst_/");
        (file.unwrap().to_owned(), candidate.format)
    });
    candidates.collect()
}

#[test]
fn names_lead_to_files_as_in_adobes_servers() {
    use Format::{Flv, Id3, Mp3, Mp4};

    for (stream_name, expected) in [
        ("show", &[("show.flv", Flv)][..]),
        ("flv:show", &[("show.flv", Flv)]),
        ("FLV:show.flv", &[("show.flv", Flv)]),
        ("show.flv", &[("show.flv", Flv)]),
        ("show.FLV", &[("show.FLV", Flv)]),
        ("a/b/show", &[("a/b/show.flv", Flv)]),
        ("show.mp4", &[("show.mp4", Mp4), ("show.mp4.flv", Flv)]),
        ("Show.MOV", &[("Show.MOV", Mp4), ("Show.MOV.flv", Flv)]),
        ("song.mp3", &[("song.mp3", Mp3), ("song.mp3.flv", Flv)]),
        ("flv:show.mp4", &[("show.mp4.flv", Flv)]),
        ("mp4:folder/show.mp4", &[("folder/show.mp4", Mp4)]),
        ("Mp4:show.F4V", &[("show.F4V", Mp4)]),
        ("mp3:song", &[("song.mp3", Mp3)]),
        ("mp3:song.mp3", &[("song.mp3", Mp3)]),
        ("mp3:song.mp4", &[("song.mp4.mp3", Mp3)]),
        ("id3:song", &[("song.mp3", Id3)]),
        ("ID3:a/song.mp3", &[("a/song.mp3", Id3)]),
        ("v1.2", &[("v1.2.flv", Flv)]),
        ("a:b", &[("a:b.flv", Flv)]),
        ("flv:mp4:show", &[("mp4:show.flv", Flv)]),
        (".flv", &[(".flv.flv", Flv)]),
        ("show.", &[("show..flv", Flv)]),
        ("raw:show", &[]),
        ("F4F:show", &[]),
    ] {
        let expected: Vec<_> = expected
            .iter()
            .map(|(file, format)| ((*file).to_owned(), *format))
            .collect();
        assert_eq!(own(stream_name), expected, "{stream_name}");
    }
}

#[test]
fn mp4_names_without_an_extension_try_the_known_ones() {
    let files: Vec<_> = own("mp4:show").into_iter().map(|(file, _)| file).collect();
    assert_eq!(files[..3], ["show.mp4", "show.f4v", "show.mov"]);
    assert_eq!(files.last().unwrap(), "show");
    assert_eq!(files.len(), MP4_EXTENSIONS.len() + 1);
    let files: Vec<_> = own("mp4:show.v2")
        .into_iter()
        .map(|(file, _)| file)
        .collect();
    assert_eq!(files[..2], ["show.v2", "show.v2.mp4"]);
}

#[test]
fn hostile_names_lead_nowhere() {
    let long = "x".repeat(MAX_SEGMENT);
    let deep = "x/".repeat(MAX_PATH / 2) + "x";
    let colons = format!("mp4:{}", "x".repeat(MAX_SEGMENT + 1));
    for stream in [
        "",
        "..",
        "../x",
        "mp4:..",
        "mp4:../x.mp4",
        "mp4:../../app.toml",
        "flv:a/../../b",
        "id3:..",
        "mp4:./x",
        "mp4:/etc/passwd.mp4",
        "/etc/passwd",
        "a//b",
        "flv:",
        "mp4:",
        "mp4:a/",
        "a/",
        "mp4:a\\..\\b.mp4",
        "\\\\host\\share",
        "a\0.flv",
        "mp4:a\0",
        "a\n",
        "a\u{7f}",
        "a\u{85}",
        &long,
        &deep,
        &colons,
    ] {
        assert_eq!(own(stream), [], "{stream:?}");
    }
    for (vhost, app, instance) in [
        ("..", "live", "i"),
        ("v", "..", "i"),
        ("v", ".", "i"),
        ("v", "live", ".."),
        ("v", "live", ""),
        ("v", "", "i"),
        ("v", "a\0", "i"),
        ("v", "live", "a\\b"),
        ("v", "live", &"i".repeat(MAX_PART_LENGTH)),
    ] {
        let name = name(vhost, app, instance, "x");
        assert_eq!(paths(&Names::default(), &name), [""; 0], "{name}");
    }
}

#[test]
fn odd_letters_stand_for_themselves() {
    for odd in [
        "a b",
        "a%2Fb",
        "100%",
        "ä",
        "a\u{308}",
        "[x]",
        "~x",
        "a?b",
        "a#b",
        "#1",
        "*",
        "-rf",
        "..a",
        "a..",
        "CON",
        "a|b",
        "a'b\"c",
        "\u{202e}gpj",
        "…",
    ] {
        assert_eq!(own(odd), [(format!("{odd}.flv"), Format::Flv)], "{odd}");
    }
    // What local stores call a file that is being written.
    assert_eq!(own("mp4:show.x#12").first().unwrap().0, "show.x#12.mp4");
}

#[test]
fn each_host_application_and_instance_has_a_folder_of_its_own() {
    let folder = |vhost, app, instance| own_folder(&name(vhost, app, instance, "x")).unwrap();
    let all = [
        (
            folder(DEFAULT_VHOST, "live", "_definst_"),
            "applications/live/streams/_definst_",
        ),
        (
            folder(DEFAULT_VHOST, "live", "a/b"),
            "applications/live/streams/a%2Fb",
        ),
        (
            folder(DEFAULT_VHOST, "live", "a%2Fb"),
            "applications/live/streams/a%252Fb",
        ),
        (
            folder(DEFAULT_VHOST, "a/streams/b", "c"),
            "applications/a%2Fstreams%2Fb/streams/c",
        ),
        (
            folder("example.org", "live", "i"),
            "vhosts/example.org/applications/live/streams/i",
        ),
        (
            folder("../x", "live", "i"),
            "vhosts/..%2Fx/applications/live/streams/i",
        ),
    ];
    for (found, expected) in all {
        assert_eq!(found.as_ref(), expected);
    }
}

#[test]
fn virtual_directories_of_the_longest_prefix_come_first() {
    let names = Names::new(&[
        directory("", "", "films", "media/films"),
        directory("", "", "films/old", "media/old"),
        directory("", "", "films/old", "media/older"),
        directory("", "vod", "", "media/common"),
        directory("example.org", "", "films", "media/other"),
        directory("", "", "bad", "../x"),
    ]);
    let own = "applications/live/streams/_definst_";
    let live = |stream_name: &str| paths(&names, &stream(stream_name));
    assert_eq!(
        live("films/a"),
        ["media/films/a.flv".to_owned(), format!("{own}/films/a.flv")]
    );
    assert_eq!(
        live("films/old/b/a.flv"),
        [
            "media/old/b/a.flv".to_owned(),
            "media/older/b/a.flv".to_owned(),
            format!("{own}/films/old/b/a.flv")
        ]
    );
    assert_eq!(live("mp4:films/a.mp4")[0], "media/films/a.mp4");
    // A folder is no file, and a beginning is no folder.
    assert_eq!(live("films"), [format!("{own}/films.flv")]);
    assert_eq!(live("filmsx/a"), [format!("{own}/filmsx/a.flv")]);
    assert_eq!(live("bad/a"), [format!("{own}/bad/a.flv")]);
    assert_eq!(live("films/../a"), [""; 0]);
    assert_eq!(
        paths(&names, &name(DEFAULT_VHOST, "vod", "room", "a")),
        ["applications/vod/streams/room/a.flv", "media/common/a.flv"]
    );
    let other = paths(&names, &name("example.org", "live", "i", "films/a"));
    assert_eq!(other[..2], ["media/films/a.flv", "media/other/a.flv"]);
}

#[test]
fn candidates_are_bounded() {
    let many: Vec<_> = (0..500)
        .map(|number| directory("", "", "", &format!("media/{number}")))
        .collect();
    let lookup = Names::new(&many).lookup(&stream("mp4:show"));
    assert_eq!(lookup.len(), MAX_CANDIDATES);
    let first = &lookup[0].path;
    assert_eq!(
        first.as_ref(),
        "applications/live/streams/_definst_/show.mp4"
    );
}

/// The name of the file, from its path alone.
fn back(path: &str) -> (String, String, String, String) {
    let part = |part: &str| part.replace("%2F", "/").replace("%25", "%");
    let (vhost, rest) = match path.strip_prefix("vhosts/") {
        Some(rest) => {
            let (vhost, rest) = rest.split_once('/').unwrap();
            (part(vhost), rest)
        }
        None => (DEFAULT_VHOST.to_owned(), path),
    };
    let rest = rest.strip_prefix("applications/").unwrap();
    let (app, rest) = rest.split_once('/').unwrap();
    let rest = rest.strip_prefix("streams/").unwrap();
    let (instance, file) = rest.split_once('/').unwrap();
    (vhost, part(app), part(instance), file.to_owned())
}

const ODD: &str = "([a-c%/.:#~ ]|%2F|%25|ä|streams|applications|vhosts|mp4:|flv:|\\.flv){1,6}";

proptest! {
    #[test]
    fn a_path_has_one_name(vhost in ODD, app in ODD, instance in ODD, stream in ODD) {
        let name = name(&vhost, &app, &instance, &stream);
        for path in paths(&Names::default(), &name) {
            let parsed = Path::parse(&path).unwrap();
            prop_assert_eq!(parsed.as_ref(), &path);
            let (found_vhost, found_app, found_instance, file) = back(&path);
            prop_assert_eq!(&found_vhost, &vhost);
            prop_assert_eq!(&found_app, &app);
            prop_assert_eq!(&found_instance, &instance);
            let Some((_, base)) = split(&stream) else {
                unreachable!("nothing is found under it");
            };
            prop_assert!(file.starts_with(base));
        }
    }

    #[test]
    fn different_files_never_share_a_path(names in prop::collection::vec((ODD, ODD, ODD), 2..20)) {
        let mut seen: HashMap<String, (String, String, String)> = HashMap::new();
        for (app, instance, file) in names {
            let found = Names::default().lookup(&name(DEFAULT_VHOST, &app, &instance, &format!("flv:{file}")));
            for candidate in found {
                let whole = match extension(&file).as_deref() {
                    Some("flv") => file.clone(),
                    _ => format!("{file}.flv"),
                };
                let key = (app.clone(), instance.clone(), whole);
                let before = seen.insert(candidate.path.to_string(), key.clone());
                prop_assert!(before.is_none_or(|before| before == key));
            }
        }
    }

    #[test]
    fn whatever_is_asked_for_stays_in_its_folders(stream_name in "\\PC{0,40}|[a./\\\\:%\0-]{0,20}") {
        let names = Names::new(&[directory("", "", "a", "media/x")]);
        for path in paths(&names, &stream(&stream_name)) {
            let inside = path.starts_with("applications/live/streams/_definst_/") || path.starts_with("media/x/");
            prop_assert!(inside, "{path}");
            prop_assert!(!path.split('/').any(|segment| segment.is_empty() || segment == "." || segment == ".."));
        }
    }
}
