use super::*;
use crate::floor::FloorProtocol;

const SMALL: &str = r#"
title = "t"
baseline = "floor"

[run]
kind = "play"
viewers = [10]

[[server]]
name = "floor"
kind = "floor"

[[server]]
name = "other"
command = ["{bin}/server", "{port}"]
publish = "rtmp://127.0.0.1:{port}/live/a"
play = "rtmp://127.0.0.1:{port}/live/a"
files = { "a.conf" = "x" }
"#;

fn parse(text: &str, overrides: &[&str]) -> Result<Scenario, String> {
    let overrides: Vec<Override> = overrides.iter().map(|one| one.parse().unwrap()).collect();
    Scenario::parse(text, "small.toml", &overrides).map_err(|error| error.to_string())
}

#[test]
fn what_is_not_given_has_a_default() {
    let scenario = parse(SMALL, &[]).unwrap();
    assert_eq!(scenario.run.rounds, 3);
    assert_eq!(scenario.stream, StreamPlan::default());
    assert_eq!(scenario.harness.threads, 1);
    let other = &scenario.servers[1];
    assert_eq!(other.kind, ServerKind::Rtmp);
    assert_eq!(scenario.baseline_of(other), Some("floor"));
}

#[test]
fn errors_name_the_key_and_the_place() {
    for (from, to, expected) in [
        (
            "title = \"t\"",
            "titel = \"t\"",
            &["small.toml", "line 2", "titel"][..],
        ),
        ("kind = \"play\"", "kind = \"watch\"", &["watch", "line 6"]),
        ("viewers = [10]", "viewers = []", &["run.viewers"]),
        ("viewers = [10]", "viewers = [0]", &["run.viewers"]),
        (
            "viewers = [10]",
            "viewers = [10]\nseconds = nan",
            &["run.seconds"],
        ),
        (
            "viewers = [10]",
            "viewers = [10]\nstop_reading = [10]",
            &["leave none"],
        ),
        (
            "viewers = [10]",
            "viewers = [10]\nrates = [1]",
            &["run.rates"],
        ),
        (
            "kind = \"floor\"",
            "kind = \"floor\"\nflush = \"soon\"",
            &["server floor: flush"],
        ),
        (
            "kind = \"floor\"",
            "kind = \"floor\"\nplay = \"x\"",
            &["server floor: kind"],
        ),
        (
            "baseline = \"floor\"",
            "baseline = \"flor\"",
            &["baseline", "flor"],
        ),
        ("name = \"other\"", "name = \"floor\"", &["two servers"]),
        (
            "{port}\"]",
            "{prot}\"]",
            &["server other: command", "{prot}"],
        ),
        ("\"a.conf\"", "\"../a.conf\"", &["server other: files"]),
        (
            "play = \"rtmp:",
            "play = \"rtmps:",
            &["server other: play", "rtmp and rtmfp"],
        ),
        ("/live/a\"\nplay", "/\"\nplay", &["server other: publish"]),
        (
            "kind = \"play\"\nviewers = [10]",
            "kind = \"connect\"\nrates = [1]",
            &["no RTMP"],
        ),
    ] {
        assert!(SMALL.contains(from), "{from}");
        let error = parse(&SMALL.replacen(from, to, 1), &[]).unwrap_err();
        for part in expected {
            assert!(error.contains(part), "{to}: {error}");
        }
    }
}

#[test]
fn the_command_line_goes_before_the_file() {
    let scenario = parse(
        SMALL,
        &[
            "run.viewers=[1, 2]",
            "run.seconds=4",
            "variables.bin=/opt/x",
            "server.other.cpus=[1]",
            "server.other.files.a.conf=y",
            "title=two words",
        ],
    )
    .unwrap();
    assert_eq!(scenario.run.viewers, [1, 2]);
    assert_eq!(scenario.run.seconds, 4.0);
    assert_eq!(scenario.variables["bin"], "/opt/x");
    assert_eq!(scenario.servers[1].cpus, [1]);
    assert_eq!(scenario.servers[1].files["a.conf"], "y");
    assert_eq!(scenario.title, "two words");
    for (wrong, part) in [
        ("run.secnds=4", "secnds"),
        ("server.none.cpus=[1]", "none"),
        ("title.x=1", "title is no table"),
        ("run.seconds=x", "run"),
    ] {
        let error = parse(SMALL, &[wrong]).unwrap_err();
        assert!(error.contains(part), "{wrong}: {error}");
    }
    for wrong in ["run.seconds", "=4", "a..b=1", ".a=1"] {
        assert!(wrong.parse::<Override>().is_err(), "{wrong}");
    }
}

#[test]
fn rtmfp_has_keys_of_its_own() {
    const RTMFP: &str = r#"
title = "t"
[run]
kind = "play"
viewers = [1]
[[server]]
name = "floor"
kind = "floor"
protocol = "rtmfp"
protection = "prefer"
[[server]]
name = "other"
publish = "rtmp://127.0.0.1:{port}/live/a"
play = "rtmfp://127.0.0.1:{port}/live/a"
dh_group = 14
"#;
    let scenario = parse(RTMFP, &[]).unwrap();
    assert_eq!(scenario.servers[0].protocol, FloorProtocol::Rtmfp);
    let manner = scenario.servers[1].rtmfp().unwrap();
    assert_eq!(manner.group.id(), 14);
    for (change, part) in [
        ("server.other.dh_group=3", "3 is not 2, 5 or 14"),
        ("server.floor.protection=maybe", "maybe"),
        ("server.floor.dh_group=14", "floor"),
        ("server.floor.protocol=rtmp", "over rtmfp"),
        ("server.other.protocol=rtmfp", "kind floor"),
        ("run.idle=true", "connect"),
        ("server.other.play=rtmp://127.0.0.1/live/a", "over rtmfp"),
    ] {
        let error = parse(RTMFP, &[change]).unwrap_err();
        assert!(error.contains(part), "{change}: {error}");
    }
}

#[test]
fn some_servers_can_be_kept() {
    let mut scenario = parse(SMALL, &[]).unwrap();
    scenario.keep_only(&["other".to_owned()]).unwrap();
    assert_eq!(scenario.servers.len(), 1);
    assert_eq!(scenario.baseline, None);
    let error = scenario.keep_only(&["floor".to_owned()]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no server is named floor; there are other"
    );
}

/// The keys that the types of a scenario take: an unknown key's error lists them.
fn keys_of(text: &str) -> Vec<String> {
    let error = toml::from_str::<Scenario>(text).unwrap_err().to_string();
    let (_, list) = error
        .split_once("expected one of")
        .unwrap_or_else(|| panic!("{error}"));
    let mut keys: Vec<String> = list
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect();
    keys.sort_unstable();
    keys
}

/// The keys in the first column of the first table below a heading.
fn documented(text: &str, heading: &str) -> Vec<String> {
    let (_, section) = text.split_once(&format!("\n### {heading}\n")).unwrap();
    let section = section.split("\n### ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let mut keys: Vec<String> = rows
        .map(|row| row.split('`').next().unwrap().to_owned())
        .collect();
    keys.sort_unstable();
    keys
}

#[test]
fn every_key_is_explained() {
    let readme = include_str!("../../../scenarios/README.md");
    let top = "title = \"t\"\n";
    for (heading, text) in [
        ("The scenario", "nothing = 1".to_owned()),
        ("`[harness]`", format!("{top}[harness]\nnothing = 1")),
        ("`[stream]`", format!("{top}[stream]\nnothing = 1")),
        ("`[run]`", format!("{top}[run]\nnothing = 1")),
        ("`[[server]]`", format!("{top}[[server]]\nnothing = 1")),
        (
            "`[[server.process]]`",
            format!("{top}[[server]]\n[[server.process]]\nnothing = 1"),
        ),
    ] {
        assert_eq!(documented(readme, heading), keys_of(&text), "{heading}");
    }
}

#[test]
fn defaults_are_as_explained() {
    let readme = include_str!("../../../scenarios/README.md");
    let scenario = parse(SMALL, &[]).unwrap();
    let json = serde_json::to_value(&scenario).unwrap();
    for (heading, value) in [
        ("`[harness]`", &json["harness"]),
        ("`[stream]`", &json["stream"]),
        ("`[run]`", &json["run"]),
        ("`[[server]]`", &json["server"][1]),
    ] {
        let (_, section) = readme.split_once(&format!("\n### {heading}\n")).unwrap();
        for key in documented(readme, heading) {
            let row = section
                .lines()
                .find(|line| line.starts_with(&format!("| `{key}`")));
            let said = row
                .unwrap()
                .split('|')
                .nth(2)
                .unwrap()
                .trim()
                .trim_matches('`');
            let is_number = said.parse::<f64>();
            if let Ok(number) = is_number {
                assert_eq!(value[&key].as_f64(), Some(number), "{heading} {key}");
            }
            if said == "none" {
                let value = &value[&key];
                let is_empty = value.is_null()
                    || value.as_array().is_some_and(Vec::is_empty)
                    || value.as_object().is_some_and(serde_json::Map::is_empty);
                assert!(
                    is_empty || key == "files" || key == "command",
                    "{heading} {key}"
                );
            }
        }
    }
}

#[test]
fn the_scenarios_of_this_folder_are_valid() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios"));
    let readme = include_str!("../../../scenarios/README.md");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let scenario = Scenario::load(&path, &[]);
        let scenario = scenario.unwrap_or_else(|error| panic!("{error}"));
        assert!(!scenario.description.is_empty(), "{}", path.display());
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(readme.contains(&format!("| `{name}` |")), "{name}");
        count += 1;
    }
    assert!(count >= 9, "{count}");
}

#[test]
fn the_example_is_valid() {
    let readme = include_str!("../../../scenarios/README.md");
    let (_, rest) = readme.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let scenario = parse(example, &[]).unwrap();
    assert!(!scenario.servers[0].is_started());
}
