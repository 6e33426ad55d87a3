//! librtmp, which rtmpdump and many players are made of, by its binding for Python: `connect` with arguments, calls both ways, and
//! shared objects, whose messages the library carries without looking into them.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::applications::Hall;
use crate::support::handler::Handler;
use crate::support::tools::{Tool, cannot, python};

/// Prints what came as JSON.
const SCRIPT: &str = r#"
import json, struct, sys, time
import librtmp
from librtmp.amf import decode_amf, encode_amf
from librtmp.packet import RTMPPacket

COMMAND, OBJECT = 0x14, 0x13
seen = {"objects": []}
connection = librtmp.RTMP(sys.argv[1], live=True, timeout=10, connect_data=["torben", 7])
connected = connection.connect()

@connection.invoke_handler
def mine(*arguments):
    seen["called"] = list(arguments)
    return "from librtmp"

seen["connected"] = connected.result(timeout=10)
seen["echo"] = connection.call("echo", {"a": "b", "c": 1.5}).result(timeout=10)
seen["sum"] = connection.call("sum", 1, 2, 3).result(timeout=10)
seen["calledBack"] = connection.call("callMe", "mine", "x", 2).result(timeout=10)
seen["whoami"] = connection.call("whoami").result(timeout=10)

def message(version, *events):
    body = struct.pack(">H", 5) + b"state" + struct.pack(">III", version, 0, 0)
    for kind, data in events:
        body += bytes([kind]) + struct.pack(">I", len(data)) + data
    connection.send_packet(RTMPPacket(type=OBJECT, format=0, channel=3, body=body))

def events(body):
    length = struct.unpack_from(">H", body)[0]
    place = 2 + length + 12
    while place < len(body):
        kind, size = body[place], struct.unpack_from(">I", body, place + 1)[0]
        data = body[place + 5:place + 5 + size]
        place += 5 + size
        if kind in (4, 13):
            key = 2 + struct.unpack_from(">H", data)[0]
            yield [kind, data[2:key].decode(), decode_amf(data[key:])[0]]
        elif kind in (5, 9):
            yield [kind, data[2:].decode()]
        else:
            yield [kind]

def slot(name):
    return struct.pack(">H", len(name)) + name.encode()

message(0, (1, b""))
message(0, (3, slot("a") + encode_amf("text")))
message(0, (3, slot("b") + encode_amf(1.5)))
message(0, (10, slot("a")))
until = time.time() + 10
while time.time() < until and [9, "a"] not in seen["objects"]:
    packet = connection.read_packet()
    if packet.type == OBJECT:
        seen["objects"] += list(events(packet.body))
    else:
        connection.handle_packet(packet)
print(json.dumps(seen))
"#;

#[test]
fn it_connects_calls_and_shares() {
    let asked = Command::new(python())
        .args(["-c", "import librtmp"])
        .output();
    if !asked.is_ok_and(|output| output.status.success()) {
        cannot("python-librtmp is not installed (make tools)");
        return;
    }
    let Some(handler) = Handler::chat() else {
        return;
    };
    let mut hall = Hall::with(&[("chat", &handler.toml())]);
    // It wants a stream in the address, and plays nothing.
    let url = hall.url(0, "chat/none");
    let mut client = Tool::spawn(Command::new(python()).args(["-c", SCRIPT]).arg(&url));
    let said = client.succeed(Duration::from_secs(60));
    let seen: Value = serde_json::from_str(said.lines().last().expect("a line")).expect("JSON");
    assert_eq!(
        seen["connected"]["code"], "NetConnection.Connect.Success",
        "{seen}"
    );
    assert_eq!(seen["connected"]["name"], "torben", "{seen}");
    assert_eq!(seen["echo"], json!({ "a": "b", "c": 1.5 }));
    assert_eq!(seen["sum"], 6.0);
    assert_eq!(seen["calledBack"], "from librtmp", "{seen}");
    assert_eq!(seen["called"], json!(["x", 2.0]));
    assert_eq!(seen["whoami"]["name"], "torben", "{seen}");
    // Temporary, as Flash Player says it: used, empty, two changes of its own, and one slot less. It asks before it has read the answer to
    // its use, which clears what it has: each value is told again.
    let first = json!([[11], [8], [5, "a"], [4, "a", "text"]]);
    let then = json!([[5, "b"], [4, "b", 1.5], [9, "a"]]);
    let expected = [first, then].map(|part| part.as_array().cloned().unwrap_or_default());
    assert_eq!(seen["objects"], json!(expected.concat()), "{seen}");
}
