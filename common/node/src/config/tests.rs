//! Layers, strictness and printing, over one made-up configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::address::ListenAddress;

crate::choice! {
    /// How much.
    enum Depth {
        /// Little.
        Shallow = "shallow",
        /// Much.
        Deep = "deep",
    }
}

crate::section! {
    /// A certificate.
    struct Tls {
        /// PEM file.
        key_file: Option<PathBuf> = None,
        /// Password of the key.
        password: Secret = Secret::default(),
        /// Tokens that are let in.
        tokens: Vec<Secret> = Vec::new(),
    }
}

crate::section! {
    /// Where RTMP clients connect.
    struct Rtmp {
        /// Where to listen.
        listen: ListenAddress = ListenAddress::Port(1935),
        /// Chunk size of what we send, bytes.
        chunk_bytes: u32 = 65_536 => 128..=16_777_215,
        /// How long a handshake may take, milliseconds.
        handshake_timeout_ms: Option<u64> = None => 1..,
        /// Whether to wait.
        nagle: bool = false,
        /// Where clients may come from.
        allow: Vec<String> = vec!["any".to_owned()],
        /// The certificate of RTMPS.
        tls: Tls = Tls::default(),
    }
    validate |section, problems| {
        if section.nagle && section.chunk_bytes < 1000 {
            problems.push("nagle", "needs chunk_bytes of at least 1000");
        }
    }
}

crate::section! {
    /// An application.
    struct Application {
        /// Whether it records.
        record: bool = false,
        /// How many clients may connect.
        max_clients: u32 = 100 => ..=1000,
        /// How deep.
        depth: Depth = Depth::Shallow,
        /// Kept back.
        r#type: String = String::new(),
    }
}

crate::section! {
    /// Another origin.
    struct Peer {
        /// Where it is.
        url: String = String::new(),
        /// Its share.
        weight: f64 = 1.0 => 0.0..=100.0,
    }
}

crate::section! {
    /// A node.
    ///
    /// Second paragraph.
    struct Node {
        /// Its name.
        name: String = "node".to_owned(),
        /// RTMP.
        rtmp: Rtmp = Rtmp::default(),
        /// The applications.
        applications: BTreeMap<String, Application> =
            BTreeMap::from([("live".to_owned(), Application { max_clients: 500, ..Application::default() })]),
        /// The other origins.
        peers: Vec<Peer> = Vec::new(),
        /// Where to go when all else fails.
        fallback: Option<Peer> = None,
        /// Labels.
        labels: BTreeMap<String, String> = BTreeMap::new(),
    }
}

fn text(text: &str) -> Result<Node, ConfigError> {
    Loader::new().text("edge.toml", text).load()
}

fn environment(variables: &[(&str, &str)]) -> Result<Node, ConfigError> {
    let owned = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Loader::new().environment(owned).load()
}

fn flag(key: &str, value: &str) -> Result<Node, ConfigError> {
    Loader::new().overrides([(key, value)]).load()
}

#[test]
fn nothing_gives_the_defaults() {
    assert_eq!(Loader::new().load::<Node>().unwrap(), Node::default());
    assert_eq!(text("").unwrap(), Node::default());
}

#[test]
fn later_layers_win() {
    let file = "name = 'file'\n[rtmp]\nchunk_bytes = 1000\nlisten = '127.0.0.1:1'\nnagle = true\n";
    let variables = [
        ("HEADWATER_RTMP_CHUNK_BYTES", "2000"),
        ("HEADWATER_RTMP_LISTEN", ":2"),
        ("HOME", "/root"),
    ];
    let config: Node = Loader::new()
        .overrides([("rtmp.listen", "3")])
        .overrides([(
            "applications.\"live/x\".max_clients",
            toml::Value::Integer(7),
        )])
        .environment(variables.map(|(name, value)| (name.to_owned(), value.to_owned())))
        .text("edge.toml", file)
        .load()
        .unwrap();
    assert_eq!(config.name, "file");
    assert!(config.rtmp.nagle);
    assert_eq!(config.rtmp.chunk_bytes, 2000);
    assert_eq!(config.rtmp.listen, ListenAddress::Port(3));
    assert_eq!(config.rtmp.allow, ["any"], "untouched");
    assert_eq!(config.applications["live/x"].max_clients, 7);
}

#[test]
fn a_file_on_disk_is_read_and_a_missing_one_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edge.toml");
    std::fs::write(&path, "name = 'disk'").unwrap();
    assert_eq!(
        Loader::new().file(&path).load::<Node>().unwrap().name,
        "disk"
    );
    let missing = folder.path().join("other.toml");
    let error = Loader::new().file(&missing).load::<Node>().unwrap_err();
    assert!(
        matches!(&error, ConfigError::Read { path, .. } if *path == missing),
        "{error}"
    );
}

#[test]
fn texts_become_values_of_the_right_type() {
    let config = environment(&[
        ("HEADWATER_RTMP_NAGLE", "1"),
        ("HEADWATER_RTMP_ALLOW", "10.0.0.0/8, ::1 ,"),
        ("HEADWATER_RTMP_HANDSHAKE_TIMEOUT_MS", "5_000"),
        ("HEADWATER_RTMP_TLS_KEY_FILE", "/etc/key"),
        ("HEADWATER_RTMP_TLS_PASSWORD", "swordfish"),
        ("HEADWATER_APPLICATIONS_LIVE_RECORD", "true"),
        ("HEADWATER_APPLICATIONS_SIDE_STAGE_MAX_CLIENTS", "9"),
        ("HEADWATER_APPLICATIONS_LIVE_DEPTH", "deep"),
        ("HEADWATER_LABELS_ZONE", "a"),
    ])
    .unwrap();
    assert!(config.rtmp.nagle);
    assert_eq!(config.rtmp.allow, ["10.0.0.0/8", "::1"]);
    assert_eq!(config.rtmp.handshake_timeout_ms, Some(5000));
    assert_eq!(config.rtmp.tls.key_file, Some(PathBuf::from("/etc/key")));
    assert_eq!(config.rtmp.tls.password.expose(), "swordfish");
    let live = &config.applications["live"];
    assert_eq!(
        (live.record, live.max_clients, live.depth),
        (true, 500, Depth::Deep),
        "the built-in entry is kept"
    );
    assert_eq!(config.applications["side_stage"].max_clients, 9);
    assert_eq!(config.labels["zone"], "a");
}

#[test]
fn a_variable_finds_the_map_entry_of_the_file_whatever_its_letters() {
    let config: Node = Loader::new()
        .text("edge.toml", "[applications.Main-Stage]\nrecord = true")
        .environment([(
            "HEADWATER_APPLICATIONS_MAIN_STAGE_MAX_CLIENTS".to_owned(),
            "5".to_owned(),
        )])
        .load()
        .unwrap();
    assert_eq!(
        config.applications.keys().collect::<Vec<_>>(),
        ["Main-Stage", "live"]
    );
    assert_eq!(config.applications["Main-Stage"].max_clients, 5);
}

#[test]
fn an_empty_text_unsets_an_optional_value() {
    let config: Node = Loader::new()
        .text("edge.toml", "[rtmp]\nhandshake_timeout_ms = 5")
        .overrides([("rtmp.handshake_timeout_ms", "")])
        .load()
        .unwrap();
    assert_eq!(config.rtmp.handshake_timeout_ms, None);
}

#[test]
fn unknown_keys_are_errors_with_a_place_and_a_suggestion() {
    for (file, place, key, suggestion) in [
        (
            "[rtmp]\n\n  listn = 1",
            "edge.toml:3:3",
            "rtmp.listn",
            Some("rtmp.listen"),
        ),
        (
            "[rtmp]\nchunk-bytes = 1",
            "edge.toml:2:1",
            "rtmp.chunk-bytes",
            Some("rtmp.chunk_bytes"),
        ),
        ("[rmtp]\nlisten = 1", "edge.toml:1:2", "rmtp", Some("rtmp")),
        (
            "[rtmp.tls]\nkeyfile = 'a'",
            "edge.toml:2:1",
            "rtmp.tls.keyfile",
            Some("rtmp.tls.key_file"),
        ),
        (
            "rtmp.tls.pasword = 'a'",
            "edge.toml:1:10",
            "rtmp.tls.pasword",
            Some("rtmp.tls.password"),
        ),
        (
            "[applications.vod]\nrecrod = true",
            "edge.toml:2:1",
            "applications.vod.recrod",
            Some("applications.vod.record"),
        ),
        (
            "[[peers]]\nurl = 'a'\n[[peers]]\nwieght = 1",
            "edge.toml:4:1",
            "peers.1.wieght",
            Some("peers.1.weight"),
        ),
        (
            "chunk_bytes = 1000",
            "edge.toml:1:1",
            "chunk_bytes",
            Some("rtmp.chunk_bytes"),
        ),
        (
            "max_clients = 1000",
            "edge.toml:1:1",
            "max_clients",
            Some("applications.NAME.max_clients"),
        ),
        ("zzz = 1", "edge.toml:1:1", "zzz", None),
    ] {
        let expected = ConfigError::UnknownKey {
            place: place.to_owned(),
            key: key.to_owned(),
            suggestion: suggestion.map(str::to_owned),
        };
        assert_eq!(text(file).unwrap_err(), expected, "{file}");
    }
    let shown = text("[rtmp]\nlistn = 1").unwrap_err().to_string();
    assert_eq!(
        shown,
        "edge.toml:2:1: unknown key `rtmp.listn`, did you mean `rtmp.listen`?"
    );
}

#[test]
fn unknown_variables_and_flags_are_errors_too() {
    let shown = environment(&[("HEADWATER_RTMP_LISTN", "1")])
        .unwrap_err()
        .to_string();
    assert_eq!(
        shown,
        "environment HEADWATER_RTMP_LISTN: unknown key `HEADWATER_RTMP_LISTN`, did you mean `HEADWATER_RTMP_LISTEN`?"
    );
    let shown = flag("rtmp.listn", "1").unwrap_err().to_string();
    assert_eq!(
        shown,
        "flag: unknown key `rtmp.listn`, did you mean `rtmp.listen`?"
    );
    // Looks like a variable of Kubernetes by its name, but not by its value.
    assert!(environment(&[("HEADWATER_RTMP_PORT", "1935")]).is_err());
    for key in [
        "",
        "rtmp.listen.port",
        "applications.live.nothing_like_it",
        "=",
        "a = 1\nb",
    ] {
        assert!(
            matches!(flag(key, "1"), Err(ConfigError::UnknownKey { .. })),
            "{key}"
        );
    }
    assert!(matches!(
        flag("rtmp", "1"),
        Err(ConfigError::BadValue { .. })
    ));
    assert!(environment(&[("HEADWATER_RTMP", "1")]).is_err());
    assert!(environment(&[("HEADWATER_APPLICATIONS_LIVE", "1")]).is_err());
}

#[test]
fn variables_of_the_surroundings_are_skipped() {
    let config: Node = Loader::new()
        .ignore_variable("HEADWATER_CONFIG")
        .environment(
            [
                ("HEADWATER_CONFIG", "/etc/headwater.toml"),
                ("HEADWATER_EDGE_SERVICE_HOST", "10.0.0.1"),
                ("HEADWATER_SERVICE_PORT_RTMP", "1935"),
                ("HEADWATER_PORT", "tcp://10.0.0.1:1935"),
                ("HEADWATER_EDGE_PORT_1935_TCP_ADDR", "10.0.0.1"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        )
        .load()
        .unwrap();
    assert_eq!(config, Node::default());
}

#[test]
fn wrong_types_and_bad_syntax_name_line_and_column() {
    for (file, line, column, key) in [
        (
            "[rtmp]\nchunk_bytes = 'many'",
            2,
            15,
            Some("rtmp.chunk_bytes"),
        ),
        ("[rtmp]\nchunk_bytes = -1", 2, 15, Some("rtmp.chunk_bytes")),
        (
            "name = \"é\"\n[rtmp]\nlisten = 'x y'",
            3,
            10,
            Some("rtmp.listen"),
        ),
        ("rtmp = 5", 1, 8, Some("rtmp")),
        (
            "[applications]\nlive = { depth = 'bottom' }",
            2,
            18,
            Some("applications.live.depth"),
        ),
        ("[rtmp\n", 1, 6, None),
        ("name = 'a'\nname = 'b'", 2, 1, None),
    ] {
        match text(file).unwrap_err() {
            ConfigError::Syntax {
                path,
                line: found_line,
                column: found_column,
                key: found_key,
                message,
            } => {
                assert_eq!(path, PathBuf::from("edge.toml"));
                assert_eq!(
                    (found_line, found_column),
                    (line, column),
                    "{file}: {message}"
                );
                assert_eq!(found_key.as_deref(), key, "{file}: {message}");
            }
            other => panic!("{file}: {other:?}"),
        }
    }
    let error = environment(&[("HEADWATER_RTMP_CHUNK_BYTES", "-1")]).unwrap_err();
    assert!(
        error.to_string().starts_with(
            "environment HEADWATER_RTMP_CHUNK_BYTES: bad value for `rtmp.chunk_bytes`: "
        )
    );
    let error = flag("rtmp.nagle", "maybe").unwrap_err();
    assert_eq!(
        error.to_string(),
        "flag: bad value for `rtmp.nagle`: `maybe` is neither true nor false"
    );
}

#[test]
fn refused_values_are_all_reported_with_their_source() {
    let error = Loader::new()
        .text(
            "edge.toml",
            "[rtmp]\nchunk_bytes = 5\nnagle = true\n[applications.vod]\nmax_clients = 5000",
        )
        .environment([(
            "HEADWATER_RTMP_HANDSHAKE_TIMEOUT_MS".to_owned(),
            "0".to_owned(),
        )])
        .load::<Node>()
        .unwrap_err();
    assert_eq!(
        error.to_string().lines().collect::<Vec<_>>(),
        [
            "edge.toml:2:1: `rtmp.chunk_bytes` is 5, but must be 128 to 16777215",
            "environment HEADWATER_RTMP_HANDSHAKE_TIMEOUT_MS: `rtmp.handshake_timeout_ms` is 0, but must be at least 1",
            "edge.toml:3:1: `rtmp.nagle` needs chunk_bytes of at least 1000",
            "edge.toml:5:1: `applications.vod.max_clients` is 5000, but must be at most 1000",
        ]
    );
}

#[test]
fn a_secret_never_appears() {
    let file = "[rtmp.tls]\npassword = 'swordfish'\ntokens = ['swordfish']";
    let config = text(file).unwrap();
    assert_eq!(config.rtmp.tls.password.expose(), "swordfish");
    let printed = print_commented(&config);
    for shown in [
        printed.clone(),
        format!("{config:?}"),
        toml::to_string(&config).unwrap(),
    ] {
        assert!(!shown.contains("swordfish"), "{shown}");
    }
    assert!(
        printed.contains("# password = …  (set, hidden)\n"),
        "{printed}"
    );
    assert!(print_commented(&Node::default()).contains("# password = …  (not set)\n"));
    for wrong in [
        "[rtmp.tls]\npassword = 1234567",
        "[rtmp.tls]\ntokens = [['1234567']]",
        "[rtmp.tls]\npassword = { a = '1234567' }",
    ] {
        let error = text(wrong).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("34567"), "{error}");
    }
}

#[test]
fn printed_text_documents_every_key() {
    let config = text("[rtmp]\nchunk_bytes = 4096").unwrap();
    let printed = print_commented(&config);
    let expected = "\
# A node.
#
# Second paragraph.

# Its name.
name = \"node\"

# RTMP.
[rtmp]
# Where to listen.
listen = \"1935\"

# Chunk size of what we send, bytes.
# Range: 128 to 16777215. Default: 65536.
chunk_bytes = 4096

# How long a handshake may take, milliseconds.
# Range: at least 1.
# handshake_timeout_ms = …
";
    assert!(printed.starts_with(expected), "{printed}");
    for part in [
        "[applications.live]\n# Whether it records.\nrecord = false\n",
        "# One of: shallow, deep.\ndepth = \"shallow\"\n",
        "type = \"\"\n",
        "## The other origins.\n# [[peers]]\n## Where it is.\n# url = \"\"\n",
        "## Where to go when all else fails.\n# [fallback]\n## Where it is.\n# url = \"\"\n",
        "# Labels.\n[labels]\n",
    ] {
        assert!(printed.contains(part), "{part} is not in\n{printed}");
    }
}

#[test]
fn odd_names_are_quoted() {
    let mut config = Node::default();
    config
        .applications
        .insert("a b/\"c\"".to_owned(), Application::default());
    config.labels.insert("x.y".to_owned(), "1".to_owned());
    assert_eq!(text(&print_commented(&config)).unwrap(), config);
}

prop_compose! {
    fn node()(
        name in any::<String>(),
        port in any::<u16>(),
        chunk_bytes in 1000u32..=16_777_215,
        handshake_timeout_ms in proptest::option::of(1u64..1_000_000),
        nagle in any::<bool>(),
        allow in proptest::collection::vec(any::<String>(), 0..4),
        applications in proptest::collection::btree_map("[^\u{0}]{0,8}", (any::<bool>(), 0u32..=1000), 0..3),
        peers in proptest::collection::vec((any::<String>(), 0.0f64..=100.0), 0..3),
        fallback in proptest::option::of(any::<String>()),
        labels in proptest::collection::btree_map(any::<String>(), any::<String>(), 0..3),
    ) -> Node {
        let mut node = Node { name, labels, ..Node::default() };
        node.rtmp = Rtmp { listen: ListenAddress::Port(port), chunk_bytes, handshake_timeout_ms, nagle, allow, ..Rtmp::default() };
        node.applications.extend(applications.into_iter().map(|(name, (record, max_clients))| {
            (name, Application { record, max_clients, depth: Depth::Deep, r#type: String::new() })
        }));
        node.fallback = fallback.map(|url| Peer { url, ..Peer::default() });
        node.peers = peers.into_iter().map(|(url, weight)| Peer { url, weight }).collect();
        node
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_printed_loads_to_the_same(node in node()) {
        let printed = print_commented(&node);
        let loaded = text(&printed);
        prop_assert_eq!(loaded, Ok(node), "{}", printed);
    }

    #[test]
    fn no_text_panics(file in any::<String>(), name in "[A-Z_]{0,30}", key in any::<String>(), value in any::<String>()) {
        let _ = text(&file);
        let _ = environment(&[(&format!("HEADWATER_{name}"), &value)]);
        let _ = flag(&key, &value);
    }

    #[test]
    fn no_file_of_known_words_panics(words in proptest::collection::vec(
        prop_oneof![
            Just("rtmp"), Just("tls"), Just("listen"), Just("applications"), Just("live"), Just("peers"), Just("["), Just("]"),
            Just("[["), Just("]]"), Just("."), Just(" = "), Just("\n"), Just("'x'"), Just("1"), Just("{"), Just("}"), Just("#"), Just("é"),
        ],
        0..20,
    )) {
        let _ = text(&words.concat());
    }
}
