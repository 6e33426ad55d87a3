//! What the Flash test suite Meerkat (of the RTMPy project) asks of a server, asked by rtmp-client, with a handler in Python in the place
//! of the server's script: simple, reject, call roundtrip, call multi, call delayed, ping.

use std::time::Duration;

use serde_json::json;

use crate::applications::Hall;
use crate::support::handler::Handler;
use crate::support::talker::Talker;
use crate::support::wait::{holds_for, until};

const LIMIT: Duration = Duration::from_secs(15);

/// One case is one instance of the application.
const SCRIPT: &str = r#"
import asyncio
import random
from handler import Accept, CallError, Instance, Reject, main

class Case(Instance):
    async def connect(self, client, *arguments):
        if self.name == "reject":
            return Reject()
        if self.name == "delayed":
            self.spawn(self.ask_later(client))
        if self.name == "multi":
            self.spawn(self.ask_often(client, 10))
        return Accept()

    async def ask_later(self, client):
        if await client.call("async_client_call") == "bazgak":
            client.tell("server_succeed")

    async def ask_often(self, client, count):
        number = random.random()
        for _ in range(count):
            if await client.call("ping_client", number) != number:
                return client.tell("server_fail")
        client.tell("server_success")

    async def call_known_method(self, client, *arguments):
        if arguments != ("foo", "bar"):
            raise CallError("Unexpected arguments")
        self.spawn(client.call("client_method", 1, 2, 3))
        return "ok"

    async def call_async_server_call(self, client):
        await asyncio.sleep(0.05)
        return "foobar"

    async def call_ping_server(self, client, number):
        return number

main(Case)
"#;

fn stage() -> Option<(Handler, Hall, Talker, tempfile::TempDir)> {
    let talker = Talker::start("the client")?;
    let folder = tempfile::tempdir().expect("a folder");
    let handler = Handler::script(folder.path(), SCRIPT)?;
    let hall = Hall::with(&[("meerkat", &handler.toml())]);
    Some((handler, hall, talker, folder))
}

#[test]
fn the_six_cases() {
    let Some((_handler, mut hall, mut client, _folder)) = stage() else {
        return;
    };
    // connect/simple.
    client.join(&hall.url(0, "meerkat/simple"), json!([]));

    // connect/reject: rejected, and then closed.
    let mut rejected = Talker::start("rejected").expect("another one");
    let status = rejected.connect(&hall.url(1, "meerkat/reject"), json!([]));
    assert_eq!(status["code"], "NetConnection.Connect.Rejected", "{status}");
    let end = rejected.next("the end", |said| {
        said["status"]["code"].as_str().map(str::to_owned)
    });
    // rtmp-client calls an end before it was connected a failure.
    assert_eq!(end, "NetConnection.Connect.Failed");

    // call/roundtrip: the server's call back does not get into the way of the answer.
    let mut client = Talker::start("roundtrip").expect("another one");
    client.tell(&json!({ "do": "method", "name": "client_method", "value": "ok" }));
    client.join(&hall.url(0, "meerkat/roundtrip"), json!([]));
    let number = client.begin_call("known_method", json!(["foo", "bar"]));
    assert_eq!(client.called("client_method"), json!([1, 2, 3]));
    assert_eq!(client.answer(number), Ok(json!("ok")));
    let failed = client
        .call("known_method", json!(["bar"]))
        .expect_err("an error");
    assert_eq!(failed["code"], "NetConnection.Call.Failed", "{failed}");

    // call/multi: ten calls each way, one after the other, whose numbers are not mixed up.
    let mut client = Talker::start("multi").expect("another one");
    client.tell(&json!({ "do": "method", "name": "ping_client", "value": { "first": true } }));
    for name in ["server_success", "server_fail"] {
        client.tell(&json!({ "do": "method", "name": name }));
    }
    client.join(&hall.url(1, "meerkat/multi"), json!([]));
    for _ in 0..10 {
        assert_eq!(
            client.call("ping_server", json!([0.123_456_789])),
            Ok(json!(0.123_456_789))
        );
    }
    let verdict = client.next("the verdict", |said| {
        said["called"]
            .as_str()
            .filter(|name| name.starts_with("server_"))
            .map(str::to_owned)
    });
    assert_eq!(verdict, "server_success");

    // call/delayed: results that come later, both ways.
    let mut client = Talker::start("delayed").expect("another one");
    client.tell(&json!({ "do": "method", "name": "async_client_call", "value": "bazgak" }));
    client.tell(&json!({ "do": "method", "name": "server_succeed" }));
    client.join(&hall.url(0, "meerkat/delayed"), json!([]));
    assert_eq!(
        client.call("async_server_call", json!([])),
        Ok(json!("foobar"))
    );
    client.called("server_succeed");
}

/// The client pings five times each second, and leaves when it is not answered. The server pings who is silent.
#[test]
fn the_case_of_pings() {
    let Some((_handler, mut hall, mut client, _folder)) = stage() else {
        return;
    };
    client.join(&hall.url(0, "meerkat/ping"), json!([]));
    until("it is there", LIMIT, || {
        client.call("ping_server", json!([1])).is_ok()
    });
    holds_for("it stays", Duration::from_secs(4), || {
        client.call("ping_server", json!([2])) == Ok(json!(2))
    });
}
