//! Py3AMF reads what we write, and we read what it writes.
//!
//! Runs `tests/py3amf.py` under the interpreter that `HEADWATER_TEST_PYTHON` names, or `python3`. Skipped, with a line on standard
//! error, where that cannot import `pyamf`. Not covered, as Py3AMF does not have it: vectors, dictionaries, two kinds of XML, text
//! that is not UTF-8.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use bytes::Bytes;
use headwater_amf::{Externalized, Format, Limits, Object, Properties, Value, amf0, amf3};

/// A message, how the script spells it, and what comes back.
struct Case {
    format: Format,
    values: Vec<Value>,
    spelling: &'static str,
    returned: Vec<Value>,
}

#[test]
fn py3amf_reads_ours_and_we_read_its() {
    let python = std::env::var("HEADWATER_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let importable = Command::new(&python)
        .args(["-c", "import pyamf"])
        .stderr(Stdio::null())
        .status();
    if !importable.is_ok_and(|status| status.success()) {
        eprintln!(
            "SKIPPED: {python} cannot import pyamf (pip install Py3AMF, or set HEADWATER_TEST_PYTHON)"
        );
        return;
    }
    let cases = cases();
    let mut input = String::new();
    for case in &cases {
        let (name, wire) = match case.format {
            Format::Amf0 => ("amf0", amf0::encode_all(&case.values).unwrap()),
            Format::Amf3 => ("amf3", amf3::encode_all(&case.values).unwrap()),
        };
        writeln!(input, "{name} {}", digits(&wire)).unwrap();
    }
    let output = run(&python, &input);
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines.len(), cases.len(), "{output}");
    for (line, case) in lines.into_iter().zip(&cases) {
        let (spelling, wire) = line.split_once('\t').expect("a spelling and a message");
        assert_eq!(spelling, case.spelling);
        let wire = bytes(wire);
        let returned = match case.format {
            Format::Amf0 => amf0::decode_all(&wire, Limits::default()),
            Format::Amf3 => amf3::decode_all(&wire, Limits::default()),
        };
        assert_eq!(
            returned.as_ref(),
            Ok(&case.returned),
            "{}: {spelling}",
            case.format
        );
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |format, values: Vec<Value>, spelling, returned: Option<Vec<Value>>| {
        let returned = returned.unwrap_or_else(|| values.clone());
        cases.push(Case {
            format,
            values,
            spelling,
            returned,
        });
    };
    let both = [Format::Amf0, Format::Amf3];
    for format in both {
        add(
            format,
            vec![Value::Undefined, ().into(), true.into(), false.into()],
            "undefined;null;true;false",
            None,
        );
        add(
            format,
            vec![1.5.into(), f64::INFINITY.into()],
            "1.5;inf",
            None,
        );
        add(
            format,
            vec!["".into(), "se\u{f1}al".into(), "se\u{f1}al".into()],
            r#""";"señal";"señal""#,
            None,
        );
        let status = Object::new()
            .with("code", "Connect.Success")
            .with("data", Object::new())
            .with("level", "status");
        let spelling = r#"{code:"Connect.Success",data:{},level:"status"}"#;
        add(format, vec![status.into()], spelling, None);
        let item = Value::from(Object::typed("test.Item").with("x", "y"));
        add(
            format,
            vec![item.clone(), item],
            r#"test.Item {x:"y"};test.Item {x:"y"}"#,
            None,
        );
        let list = Value::StrictArray(vec![().into(), Value::StrictArray(vec![]), "a".into()]);
        add(format, vec![list], r#"[null,[],"a"]"#, None);
        add(
            format,
            vec![Properties::new().with("width", 640.5).into()],
            "array {width:640.5}",
            None,
        );
        add(
            format,
            vec![Value::Date {
                milliseconds: 1.0e12,
                timezone: 0,
            }],
            "date 1000000000000.0",
            None,
        );
        add(
            format,
            vec![Object::new().with("self", Value::Ancestor(0)).into()],
            "{self:up 0}",
            None,
        );
        let within = Object::new().with("a", Object::new().with("up", Value::Ancestor(1)));
        add(
            format,
            vec![Value::StrictArray(vec![]), within.into()],
            "[];{a:{up:up 1}}",
            None,
        );
    }
    add(
        Format::Amf0,
        vec!["x".repeat(3).into(), 7.into()],
        r#""xxx";7.0"#,
        Some(vec!["xxx".into(), 7.0.into()]),
    );
    let document = |text: &str| Value::XmlDocument(text.into());
    add(
        Format::Amf0,
        vec![document("<a/>")],
        "xml <a>",
        Some(vec![document("<a />")]),
    );
    add(
        Format::Amf3,
        vec![Value::Xml("<a/>".into())],
        "xml <a>",
        Some(vec![Value::Xml("<a />".into())]),
    );
    let integers = [
        0,
        127,
        128,
        16_384,
        2_097_152,
        -1,
        Value::MAX_INTEGER,
        Value::MIN_INTEGER,
    ]
    .map(Value::Integer);
    let spelling = "0.0;127.0;128.0;16384.0;2097152.0;-1.0;268435455.0;-268435456.0";
    add(Format::Amf3, integers.to_vec(), spelling, None);
    // It registers no members, so that everything becomes dynamic.
    let sealed = Object::new()
        .with("x", true)
        .with("y", ())
        .with_traits("test.Item", 1, true);
    let dynamic = Object::typed("test.Item").with("x", true).with("y", ());
    let spelling = "test.Item {x:true,y:null};test.Item {x:true,y:null}";
    add(
        Format::Amf3,
        vec![sealed.clone().into(), sealed.into()],
        spelling,
        Some(vec![dynamic.clone().into(), dynamic.into()]),
    );
    let mixed = Properties::new()
        .with("k", ())
        .with("0", true)
        .with("1", false);
    add(
        Format::Amf3,
        vec![mixed.into()],
        "array {0:true,1:false,k:null}",
        None,
    );
    add(
        Format::Amf3,
        vec![Value::ByteArray(Bytes::from_static(&[0, 255]))],
        "bytes 00ff",
        None,
    );
    let wrapped = |class, value| Value::Externalized(Box::new(Externalized { class, value }));
    let collection = wrapped(
        Externalized::ARRAY_COLLECTION,
        Value::StrictArray(vec!["a".into()]),
    );
    add(
        Format::Amf3,
        vec![collection.clone()],
        r#"ArrayCollection ["a"]"#,
        None,
    );
    let proxy = wrapped(
        Externalized::OBJECT_PROXY,
        Object::new().with("a", ()).into(),
    );
    add(Format::Amf3, vec![proxy], "ObjectProxy {a:null}", None);
    // Behind the switch, twice: the second refers to the class name and the text of the first.
    add(
        Format::Amf0,
        vec![collection.clone(), "between".into(), collection.clone()],
        r#"ArrayCollection ["a"];"between";ArrayCollection ["a"]"#,
        None,
    );
    cases
}

fn run(python: &str, input: &str) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/py3amf.py");
    let mut child = Command::new(python)
        .arg(script)
        .env("PYTHONIOENCODING", "utf-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("an interpreter");
    // Little enough for the pipe's buffer; dropping the handle ends the input.
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(input.as_bytes())
        .expect("a reader");
    let output = child.wait_with_output().expect("an end");
    assert!(
        output.status.success(),
        "the script failed: its messages are above"
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(digits: &str) -> Bytes {
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits"))
        .collect()
}
