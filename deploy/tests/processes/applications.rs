//! Applications with a handler: clients at all edges are in one room, and a program in Python, or the same in Rust, decides.

use std::time::Duration;

use headwater_amf::Value as Amf;
use headwater_rtmp::client::ClientEvent;
use headwater_rtmp::command::PublishMode;
use serde_json::json;

use crate::a_cluster_carries_live_streams::light;
use crate::support::client::{ClientError, Connection, Publisher, Viewer, Wishes};
use crate::support::cluster::{Cluster, Plan};
use crate::support::handler::Handler;
use crate::support::judge::assert_no_loss;
use crate::support::s3::S3;
use crate::support::talker::Talker;
use crate::support::wait::{eventually, patience, runtime, until};

const LIMIT: Duration = Duration::from_secs(15);

/// Two origins that share a store, and two edges that speak RTMFP as well.
pub(crate) struct Hall {
    pub(crate) cluster: Cluster,
    pub(crate) store: S3,
}

impl Hall {
    /// With applications and their `app.toml`.
    pub(crate) fn with(applications: &[(&str, &str)]) -> Self {
        let store = S3::start();
        let flags = |flags: &[&str]| {
            flags
                .iter()
                .map(|flag| (*flag).to_owned())
                .collect::<Vec<_>>()
        };
        for (name, toml) in applications {
            put(&store, name, toml);
        }
        let mut origin_flags = store.flags();
        origin_flags.extend(flags(&["--set", "origin.applications.reload_ms=200"]));
        let cluster = Cluster::with(&Plan {
            origins: 2,
            edges: 2,
            origin_flags,
            edge_flags: flags(&["--rtmfp", "127.0.0.1:0"]),
            ..Plan::default()
        });
        Self { cluster, store }
    }

    pub(crate) fn url(&mut self, edge: usize, application: &str) -> String {
        self.cluster.edges[edge].url(application)
    }
}

/// Writes an application's `app.toml`.
fn put(store: &S3, name: &str, toml: &str) {
    store.put(&format!("applications/{name}/app.toml"), toml.as_bytes());
}

#[test]
fn clients_of_two_edges_talk_through_a_handler_in_python() {
    if let Some(handler) = Handler::chat() {
        talk(&handler);
    }
}

#[test]
fn clients_of_two_edges_talk_through_a_handler_in_rust() {
    if let Some(handler) = Handler::chat_in_rust() {
        talk(&handler);
    }
}

fn talk(handler: &Handler) {
    let (Some(mut anna), Some(mut bert), Some(mut other)) = (
        Talker::start("anna"),
        Talker::start("bert"),
        Talker::start("other"),
    ) else {
        return;
    };
    let mut hall = Hall::with(&[("chat", &handler.toml())]);
    let (here, there) = (hall.url(0, "chat/room"), hall.url(1, "chat/room"));

    // Who comes in.
    let accepted = anna.join(&here, json!(["anna"]));
    assert_eq!(
        (&accepted["room"], &accepted["name"]),
        (&json!("room"), &json!("anna"))
    );
    bert.join(&there, json!(["bert"]));
    let banned = other.connect(&there, json!(["banned"]));
    assert_eq!(banned["code"], "NetConnection.Connect.Rejected", "{banned}");
    assert_eq!(banned["description"], "You are banned.", "{banned}");
    assert_eq!(
        banned["application"],
        json!({ "reason": "banned", "days": 3 })
    );
    let closed = other.next("the end", |said| {
        said["status"]["code"].as_str().map(str::to_owned)
    });
    assert!(closed.starts_with("NetConnection.Connect."), "{closed}");
    let mut moved = Talker::start("moved").expect("another one");
    let moved = moved.connect(&here, json!(["moved"]));
    assert_eq!(moved["code"], "NetConnection.Connect.Rejected", "{moved}");
    assert_eq!(moved["ex"]["code"], 302, "{moved}");
    assert_eq!(moved["ex"]["redirect"], "rtmp://127.0.0.1:1/chat");
    let mut slow = Talker::start("slow").expect("another one");
    slow.join(&there, json!(["slow"]));

    // What the server is asked.
    let deep = json!([{ "a": [1, null, true, "text"], "b": { "c": -2.5 } }]);
    assert_eq!(anna.call("echo", deep.clone()), Ok(deep[0].clone()));
    assert_eq!(anna.call("sum", json!([1, 2.5, 3])), Ok(json!(6.5)));
    let me = bert.call("whoami", json!([])).expect("an answer");
    assert_eq!(
        (&me["name"], &me["protocol"]),
        (&json!("bert"), &json!("rtmp")),
        "{me}"
    );
    assert_eq!(me["people"], json!(["anna", "bert", "slow"]), "{me}");
    // An answer that takes its time does not hold up the others.
    let later = anna.begin_call("later", json!([500, "late"]));
    assert_eq!(anna.call("echo", json!(["at once"])), Ok(json!("at once")));
    assert_eq!(anna.answer(later), Ok(json!("late")));
    for (method, part) in [("fail", "not today"), ("noSuchMethod", "noSuchMethod")] {
        let failed = anna
            .call(method, json!(["not today"]))
            .expect_err("an error");
        assert_eq!(failed["code"], "NetConnection.Call.Failed", "{failed}");
        assert!(
            failed["description"]
                .as_str()
                .is_some_and(|text| text.contains(part)),
            "{failed}"
        );
    }
    let info = json!({ "level": "error", "code": "Mine", "more": [1] });
    assert_eq!(anna.call("failWith", json!([info])), Err(info));

    // What clients are asked, by the server and through it.
    anna.tell(&json!({ "do": "method", "name": "mine", "value": { "first": true } }));
    let called_back = anna.call("callMe", json!(["mine", { "x": 1 }, 2]));
    assert_eq!(called_back, Ok(json!({ "x": 1 })));
    bert.tell(&json!({ "do": "method", "name": "theirs", "value": "of bert" }));
    assert_eq!(
        anna.call("ask", json!(["bert", "theirs", 7])),
        Ok(json!("of bert"))
    );
    assert_eq!(bert.called("theirs"), json!([7]));
    assert!(anna.call("ask", json!(["bert", "nothing"])).is_err());
    for (who, method) in [
        (&mut anna, "heard"),
        (&mut bert, "heard"),
        (&mut slow, "heard"),
    ] {
        who.tell(&json!({ "do": "method", "name": method }));
    }
    bert.tell(&json!({ "do": "method", "name": "whispered" }));
    // What was told before is done before what is asked after.
    bert.call("echo", json!([0])).expect("an answer");
    slow.call("echo", json!([0])).expect("an answer");
    anna.call("say", json!(["hello"])).expect("an answer");
    for who in [&mut anna, &mut bert, &mut slow] {
        assert_eq!(who.called("heard"), json!(["anna", "hello"]));
    }
    anna.call("tell", json!(["bert", "psst"]))
        .expect("an answer");
    assert_eq!(bert.called("whispered"), json!(["anna", "psst"]));

    // Who leaves.
    anna.tell(&json!({ "do": "method", "name": "left" }));
    anna.call("kick", json!(["bert"])).expect("an answer");
    let end = bert.next("its end", |said| {
        said["status"]["code"].as_str().map(str::to_owned)
    });
    assert_eq!(end, "NetConnection.Connect.Closed");
    assert_eq!(anna.called("left"), json!(["bert"]));
}

#[test]
fn a_handler_decides_what_is_published_and_played() {
    let Some(handler) = Handler::chat() else {
        return;
    };
    let mut hall = Hall::with(&[("chat", &handler.toml())]);
    let (here, there) = (hall.url(0, "chat"), hall.url(1, "chat"));
    // `stage` is `hall-7` on the way in and on the way out.
    let viewers = [
        Viewer::start(&format!("{there}/stage")),
        Viewer::start(&format!("{there}/hall-7")),
    ];
    let publisher = Publisher::start(&format!("{here}/stage"), light());
    for viewer in &viewers {
        viewer.wait_for(60, LIMIT);
    }
    let sent = publisher.finish();
    for viewer in &viewers {
        viewer.wait_for_frame(sent.last().expect("frames").id, LIMIT);
        assert_no_loss("a viewer", &sent, &viewer.received());
    }
    let refused = runtime().block_on(publish(&format!("{here}/secret")));
    assert_eq!(refused.expect("an answer"), "NetStream.Publish.Denied");
}

#[test]
fn an_app_toml_is_followed_while_clients_stay() {
    let Some(handler) = Handler::chat() else {
        return;
    };
    let mut hall = Hall::with(&[("chat", "")]);
    let (here, there) = (hall.url(0, "chat"), hall.url(1, "chat"));
    let viewer = Viewer::start(&format!("{there}/show"));
    let publisher = Publisher::start(&format!("{here}/show"), light());
    viewer.wait_for(30, LIMIT);
    // Nobody publishes any more, but who does goes on.
    put(&hall.store, "chat", "publish = false\n");
    until("nobody else publishes", LIMIT, || {
        let code = runtime().block_on(publish(&format!("{here}/other")));
        code.expect("an answer") != "NetStream.Publish.Start"
    });
    let before = viewer.count();
    viewer.wait_for(before + 60, LIMIT);
    // And now there is somebody to ask.
    put(&hall.store, "chat", &handler.toml());
    let mut last = None;
    let limit = std::time::Instant::now() + patience(LIMIT);
    until("the handler answers", 2 * LIMIT, || {
        let answer = runtime().block_on(call(&here, &Wishes::default(), "sum", &[1.0, 2.0]));
        let is_answered = answer == Ok(Amf::Number(3.0));
        last = Some(answer);
        assert!(is_answered || std::time::Instant::now() < limit, "{last:?}");
        is_answered
    });
    let before = viewer.count();
    viewer.wait_for(before + 60, LIMIT);
    let sent = publisher.finish();
    viewer.wait_for_frame(sent.last().expect("frames").id, LIMIT);
    assert_no_loss("the viewer", &sent, &viewer.received());
}

#[test]
fn a_handler_that_dies_is_called_again_and_clients_stay() {
    let (Some(mut handler), Some(mut anna)) = (Handler::chat(), Talker::start("anna")) else {
        return;
    };
    let mut hall = Hall::with(&[("chat", &handler.toml())]);
    anna.join(&hall.url(0, "chat"), json!(["anna"]));
    assert_eq!(anna.call("sum", json!([1, 1])), Ok(json!(2)));
    handler.kill();
    let failed = anna
        .call("sum", json!([1, 1]))
        .expect_err("nobody is there");
    assert_eq!(failed["code"], "NetConnection.Call.Failed", "{failed}");
    let second = Handler::chat().expect("another one");
    put(&hall.store, "chat", &second.toml());
    eventually("the next one answers", LIMIT, || {
        anna.call("sum", json!([2, 2]))
            .ok()
            .filter(|sum| *sum == json!(4))
    });
    let said_end = anna.call("echo", json!(["still here"]));
    assert_eq!(said_end, Ok(json!("still here")));
}

#[test]
fn own_clients_call_over_amf3_and_over_rtmfp() {
    let Some(handler) = Handler::chat() else {
        return;
    };
    let mut hall = Hall::with(&[("chat", &handler.toml())]);
    let tcp = hall.url(0, "chat/room");
    let udp = hall.cluster.edges[1].rtmfp_url("chat/room");
    for url in [&tcp, &udp] {
        for amf3 in [false, true] {
            let wishes = Wishes {
                amf3,
                arguments: vec![Amf::from("own")],
                ..Wishes::default()
            };
            let sum = runtime().block_on(call(url, &wishes, "sum", &[1.0, 2.0, 3.5]));
            assert_eq!(sum, Ok(Amf::Number(6.5)), "{url}, AMF3 {amf3}");
            let failed = runtime().block_on(call(url, &wishes, "noSuchMethod", &[]));
            let code = failed
                .as_ref()
                .err()
                .and_then(|info| info.get("code"))
                .and_then(Amf::as_str);
            assert_eq!(code, Some("NetConnection.Call.Failed"), "{url}: {failed:?}");
        }
        let banned = Wishes {
            arguments: vec![Amf::from("banned")],
            ..Wishes::default()
        };
        let refused = runtime().block_on(Connection::open_with(&format!("{url}/-"), &banned));
        assert!(matches!(refused, Err(ClientError::Rejected(_))), "{url}");
    }
}

/// Connects, calls a method once, and gives its answer.
async fn call(url: &str, wishes: &Wishes, method: &str, numbers: &[f64]) -> Result<Amf, Amf> {
    let failed = |error: ClientError| Amf::from(error.to_string());
    let asking = async {
        let (mut connection, _) = Connection::open_with(&format!("{url}/-"), wishes).await?;
        let arguments = numbers.iter().map(|&number| Amf::Number(number)).collect();
        let transaction = connection.session.call(method, arguments)?;
        loop {
            match connection.next_event().await? {
                ClientEvent::CallResult {
                    transaction: of,
                    result,
                } if of == transaction => {
                    connection.close().await?;
                    return Ok(result);
                }
                _ => {}
            }
        }
    };
    match tokio::time::timeout(patience(LIMIT), asking).await {
        Ok(answer) => answer.map_err(failed)?,
        Err(_) => Err(Amf::from("no answer")),
    }
}

/// Publishes a stream, and gives the code of the status that comes of it.
async fn publish(url: &str) -> Result<String, ClientError> {
    let (mut connection, name) = Connection::open(url).await?;
    let stream_id = connection.create_stream().await?;
    let mode = PublishMode::Live;
    connection.session.publish(stream_id, &name, mode)?;
    loop {
        if let ClientEvent::Status { status, .. } = connection.next_event().await? {
            connection.close().await?;
            return Ok(status.code.into_owned());
        }
    }
}
