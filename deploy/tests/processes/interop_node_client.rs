//! The npm package rtmp-client, which checks what servers often get wrong: the echo in S2, answers to pings, answers to calls.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::standalone::standalone;
use crate::support::tools::{Tool, has, node_modules};

/// Connects, calls a method that is not there, pings, and prints what came as JSON.
const SCRIPT: &str = r"
const { NetConnection } = require('rtmp-client');
const Symbols = require('rtmp-client/lib/Symbols');
NetConnection[Symbols.PING_FREQUENCY] = 200;
NetConnection[Symbols.PING_TIMEOUT] = 1000;
const seen = { statuses: [], failed: null, connectedFor: 0 };
const done = () => { console.log(JSON.stringify(seen)); process.exit(0); };
const connection = new NetConnection();
connection.onStatus = async (info) => {
    seen.statuses.push(info.code);
    if (info.code !== 'NetConnection.Connect.Success') return done();
    await connection.call('noSuchMethod', {
        onResult: (value) => { seen.failed = { unexpected: value }; },
        onStatus: (status) => { seen.failed = status; },
    }, 'argument', 1, { deep: [true, null] });
    const start = Date.now();
    setTimeout(() => { seen.connectedFor = Date.now() - start; seen.isConnected = connection.isConnected; done(); }, 2500);
};
connection.connect(process.argv[2]);
";

fn run(url: &str) -> Option<Value> {
    if !has("node") {
        return None;
    }
    let modules = node_modules()?;
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("client.js");
    std::fs::write(&script, SCRIPT).expect("a script");
    let mut client = Tool::spawn(
        Command::new("node")
            .arg(&script)
            .arg(url)
            .env("NODE_PATH", modules),
    );
    let said = client.succeed(Duration::from_secs(20));
    let last = said.lines().last().expect("a line");
    Some(serde_json::from_str(last).expect("JSON"))
}

#[test]
fn it_connects_calls_and_stays() {
    let (mut node, _folder) = standalone(&[]);
    let Some(seen) = run(&node.url("live/instance")) else {
        return;
    };
    assert_eq!(
        seen["statuses"][0], "NetConnection.Connect.Success",
        "{seen}"
    );
    assert_eq!(
        seen["failed"]["code"], "NetConnection.Call.Failed",
        "{seen}"
    );
    assert_eq!(seen["isConnected"], true, "its pings are answered: {seen}");
}

#[test]
fn it_is_told_that_there_is_no_such_application() {
    let (mut node, _folder) = standalone(&[]);
    let Some(seen) = run(&node.url("nosuch")) else {
        return;
    };
    assert_eq!(
        seen["statuses"][0], "NetConnection.Connect.InvalidApp",
        "{seen}"
    );
}
