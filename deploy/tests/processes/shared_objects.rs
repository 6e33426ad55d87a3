//! Shared objects: the same for clients at all edges, and still there when origins have died.
//!
//! `HEADWATER_TEST_KILLS` sets how often an origin is killed.

use std::time::{Duration, Instant};

use headwater_amf::Value;
use headwater_loadtest::members::objects::{Dialect, ObjectOptions, Users};
use headwater_loadtest::members::{Encodings, MemberOptions};
use headwater_loadtest::report::ObjectSummary;
use headwater_loadtest::target::Target;
use headwater_rtmp::client::ClientEvent;
use headwater_shared_object::wire::Event;
use serde_json::json;

use crate::applications::Hall;
use crate::recordings_outlive_origins::kills;
use crate::support::client::{Connection, Wishes};
use crate::support::cluster::{Cluster, Plan};
use crate::support::handler::Handler;
use crate::support::object_user::{ObjectUser, USE, message};
use crate::support::talker::Talker;
use crate::support::wait::{comes_true, patience, pause, runtime, until};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_client_at_another_edge_sees_changes_in_order() {
    let (Some(mut writer), Some(mut watcher)) = (Talker::start("writer"), Talker::start("watcher"))
    else {
        return;
    };
    let mut hall = Hall::with(&[("chat", "")]);
    writer.join(&hall.url(0, "chat/room"), json!([]));
    watcher.join(&hall.url(1, "chat/room"), json!([]));
    for talker in [&mut writer, &mut watcher] {
        talker.tell(&json!({ "do": "use", "name": "state" }));
        until("the object is in use", LIMIT, || {
            !talker.changes("state").is_empty()
        });
    }
    for (slot, value) in [
        ("a", json!({ "x": [1, 2] })),
        ("b", json!("text")),
        ("a", json!(null)),
    ] {
        writer.tell(&json!({ "do": "set", "name": "state", "slot": slot, "value": value }));
    }
    let expected = |change| {
        [("clear", ""), (change, "a"), (change, "b"), ("delete", "a")]
            .map(|(code, slot)| (code.to_owned(), slot.to_owned()))
            .to_vec()
    };
    for (talker, change) in [(&watcher, "change"), (&writer, "success")] {
        until("all changes came", LIMIT, || {
            talker.changes("state").len() >= 4
        });
        assert_eq!(talker.changes("state"), expected(change));
    }
    // One that comes later has what is left.
    let mut late = Talker::start("late").expect("another one");
    late.join(&hall.url(0, "chat/room"), json!([]));
    late.tell(&json!({ "do": "use", "name": "state" }));
    until("it has the object", LIMIT, || {
        late.changes("state").len() >= 2
    });
    let now = [("clear", ""), ("change", "b")];
    assert_eq!(
        late.changes("state"),
        now.map(|(code, slot)| (code.to_owned(), slot.to_owned()))
    );
}

fn members(hall: &mut Hall, count: usize) -> MemberOptions {
    let urls = [hall.url(0, "chat/room"), hall.url(1, "chat/room")];
    let targets = urls.map(|url| Target::with_name(&url, "").expect("an address"));
    MemberOptions {
        count,
        ramp: 0,
        encodings: Encodings::Both,
        ..MemberOptions::new(targets.to_vec())
    }
}

/// Has clients of both edges write, does something meanwhile, and tells what they found.
pub(crate) fn share(options: ObjectOptions, meanwhile: impl FnOnce(&Users)) -> ObjectSummary {
    let users = Users::start(options).expect("clients");
    until("all use their objects", LIMIT, || users.have_joined());
    users.begin();
    meanwhile(&users);
    users.settle();
    if !comes_true(2 * LIMIT, || users.have_settled()) {
        panic!("they have not all the same:\n{}", users.report().table());
    }
    users.report()
}

#[test]
fn everybody_has_the_same_at_all_edges_in_both_dialects() {
    let mut hall = Hall::with(&[("chat", "")]);
    for (dialect, is_persistent) in [
        (Dialect::Player, false),
        (Dialect::Player, true),
        (Dialect::Proxy, false),
        (Dialect::Proxy, true),
    ] {
        let options = ObjectOptions {
            objects: 4,
            prefix: format!("of {dialect:?} {is_persistent} "),
            per_member: 2,
            writers: 8,
            rate: 100,
            sends: 20,
            dialect,
            is_persistent,
            ..ObjectOptions::new(members(&mut hall, 24))
        };
        let found = share(options, |_| pause(Duration::from_secs(2)));
        assert!(
            found.is_without_loss(),
            "{dialect:?} {is_persistent}: {}",
            found.table()
        );
        assert!(
            found.confirmed > 50 && found.sends > 10,
            "{}",
            found.table()
        );
    }
}

#[test]
fn a_persistent_object_is_back_after_all_origins() {
    let mut hall = Hall::with(&[("chat", "")]);
    let record = hall.cluster.folder().join("confirmed");
    let options = ObjectOptions {
        writers: 4,
        slots: 2,
        rate: 50,
        is_persistent: true,
        record: Some(record.clone()),
        ..ObjectOptions::new(members(&mut hall, 6))
    };
    let found = share(options, |_| pause(Duration::from_secs(2)));
    assert!(found.is_without_loss(), "{}", found.table());
    for origin in &mut hall.cluster.origins {
        origin.kill();
    }
    for origin in &mut hall.cluster.origins {
        origin.restart();
    }
    hall.cluster.wait_complete();
    let readers = Users::verify(members(&mut hall, 2), Dialect::Player, &record).expect("clients");
    until("readers have the objects", 2 * LIMIT, || {
        readers.have_joined()
    });
    let left = readers.verified();
    assert!(left.is_without_loss(), "{}", left.table());
}

#[test]
fn nothing_that_was_confirmed_is_lost_when_the_owner_dies_and_clients_stay() {
    let mut hall = Hall::with(&[("chat", "")]);
    let record = hall.cluster.folder().join("confirmed");
    let options = ObjectOptions {
        objects: 4,
        per_member: 4,
        writers: 6,
        rate: 100,
        sends: 20,
        is_persistent: true,
        record: Some(record.clone()),
        ..ObjectOptions::new(members(&mut hall, 12))
    };
    let cluster = &mut hall.cluster;
    let victim = cluster.owner_of_instance("chat", "room");
    let found = share(options, |users| {
        for round in 0..kills() {
            pause(Duration::from_secs(1));
            cluster.origins[victim].kill();
            let killed_at = Instant::now();
            let before = users.counts().answered;
            until("it goes on at the other origin", 2 * LIMIT, || {
                users.counts().answered > before + 20
            });
            let took = killed_at.elapsed();
            println!("{round}: 20 changes were confirmed {took:?} after the owner was killed");
            // It takes the instance back.
            cluster.origins[victim].restart();
            cluster.wait_complete();
            let before = users.counts().answered;
            until("it goes on", 2 * LIMIT, || {
                users.counts().answered > before + 20
            });
        }
    });
    assert!(found.is_without_loss(), "{}", found.table());
    let readers = Users::verify(members(&mut hall, 2), Dialect::Player, &record).expect("clients");
    until("readers have the objects", LIMIT, || readers.have_joined());
    let left = readers.verified();
    assert!(left.is_without_loss(), "{}", left.table());
}

#[test]
fn clients_over_rtmfp_have_the_same_as_those_over_tcp() {
    let mut hall = Hall::with(&[("chat", "")]);
    let tcp = hall.url(0, "chat/room");
    let udp = hall.cluster.edges[1].rtmfp_url("chat/room");
    for amf3 in [false, true] {
        let wishes = Wishes {
            amf3,
            ..Wishes::default()
        };
        let name = format!("state {amf3}");
        let mut first = ObjectUser::join(&tcp);
        first.uses(&name);
        first.change(&name, "seed", &Value::from(1.0), false);
        first.object();
        let users = [&tcp, &udp].map(|url| ObjectUser::join_with(url, &wishes));
        let mut users = users.map(|mut user| {
            user.uses(&name);
            user
        });
        for (writer, slot) in [(0, "of tcp"), (1, "of udp")] {
            users[writer].change(&name, slot, &Value::from(slot), amf3);
            for (user, object_user) in users.iter_mut().enumerate() {
                let (_, events) = object_user.object();
                let told = match events.as_slice() {
                    [Event::Success { name }] if user == writer => name,
                    [Event::Change { name, .. }] if user != writer => name,
                    events => panic!("user {user}: {events:?}"),
                };
                assert_eq!(told.to_string(), slot);
            }
        }
    }
}

#[test]
fn a_user_that_reads_nothing_holds_up_nobody() {
    let mut cluster = Cluster::with(&Plan {
        origins: 1,
        edges: 1,
        // All clients on one thread; and the one that does not read is to be looked after while others go on.
        edge_flags: [
            "--set",
            "edge.fanout.workers=1",
            "--set",
            "rtmp.ping_interval_ms=1000",
        ]
        .map(str::to_owned)
        .into(),
        ..Plan::default()
    });
    let url = cluster.edges[0].url("live/room");
    let runtime = runtime();
    let wishes = Wishes {
        receive_buffer: Some(4_096),
        ..Wishes::default()
    };
    let mut slow = runtime
        .block_on(Connection::open_with(&format!("{url}/-"), &wishes))
        .expect("a connection")
        .0;
    slow.session
        .shared_object(message(b"busy0", &[(USE, &[])]))
        .expect("a message");
    // What it says leaves with the wait for an answer, which it reads, and nothing from then on.
    let answered = runtime.block_on(async {
        let answer = async {
            loop {
                let event = slow.next_event().await.expect("a connection");
                if matches!(event, ClientEvent::SharedObject { .. }) {
                    return;
                }
            }
        };
        tokio::time::timeout(patience(LIMIT), answer).await
    });
    answered.expect("it uses the object");
    let target = Target::with_name(&url, "").expect("an address");
    let options = ObjectOptions {
        prefix: "busy".to_owned(),
        writers: 4,
        // Small, so that little waits for the one whose socket is full.
        bytes: 1_000,
        rate: 1_000,
        ..ObjectOptions::new(MemberOptions {
            count: 6,
            ..MemberOptions::new(vec![target])
        })
    };
    let found = share(options, |users| {
        until("many changes are made", LIMIT, || {
            users.counts().answered > 5_000
        });
    });
    assert!(found.is_without_loss(), "{}", found.table());
}

#[test]
fn who_may_not_write_gets_the_value_back() {
    let (Some(handler), Some(mut reader), Some(mut writer)) = (
        Handler::chat(),
        Talker::start("reader"),
        Talker::start("writer"),
    ) else {
        return;
    };
    let mut hall = Hall::with(&[("chat", &handler.toml())]);
    writer.join(&hall.url(0, "chat"), json!(["writer"]));
    reader.join(&hall.url(1, "chat"), json!(["reader"]));
    writer.tell(&json!({ "do": "use", "name": "state" }));
    writer.tell(&json!({ "do": "set", "name": "state", "slot": "a", "value": 1 }));
    until("the change is made", LIMIT, || {
        writer.changes("state").len() >= 2
    });
    reader.tell(&json!({ "do": "use", "name": "state" }));
    until("the reader has it", LIMIT, || {
        reader.changes("state").len() >= 2
    });
    reader.tell(&json!({ "do": "set", "name": "state", "slot": "a", "value": 2 }));
    let code = reader.next("a status", |said| {
        let of_object = said.get("object").is_some();
        said["status"]["code"]
            .as_str()
            .filter(|_| of_object)
            .filter(|code| !code.contains("Proxy"))
            .map(str::to_owned)
    });
    assert_eq!(code, "SharedObject.NoWriteAccess");
    until("the value is given back", LIMIT, || {
        reader.changes("state").len() >= 3
    });
    assert_eq!(
        writer.call("objectGet", json!(["state"])),
        Ok(json!({ "a": 1 }))
    );
}

#[test]
fn a_handler_reads_changes_and_watches_objects() {
    let (Some(handler), Some(mut anna)) = (Handler::chat(), Talker::start("anna")) else {
        return;
    };
    let mut hall = Hall::with(&[("chat", &handler.toml())]);
    anna.join(&hall.url(0, "chat"), json!(["anna"]));
    anna.tell(&json!({ "do": "method", "name": "changed" }));
    for name in ["temporary", "persistent:kept"] {
        let plain = name.trim_start_matches("persistent:");
        assert_eq!(anna.call("objectSize", json!([name])), Ok(json!(0)));
        anna.call("objectWatch", json!([name])).expect("an answer");
        anna.call("objectSet", json!([name, { "a": 1, "b": "two" }]))
            .expect("a version");
        let changed = anna.called("changed");
        assert_eq!(
            (&changed[0], &changed[2]),
            (&json!(plain), &json!(["set a", "set b"])),
            "{changed}"
        );
        assert_eq!(
            anna.call("objectGet", json!([name, "b"])),
            Ok(json!({ "b": "two" }))
        );
        assert_eq!(anna.call("objectSize", json!([name])), Ok(json!(2)));
        anna.call("objectRemove", json!([name, "a"]))
            .expect("a version");
        assert_eq!(anna.called("changed")[2], json!(["remove a"]));
        anna.call("objectFlush", json!([name])).expect("an answer");
        assert_eq!(
            anna.call("objectGet", json!([name])),
            Ok(json!({ "b": "two" }))
        );
        anna.call("objectSend", json!([name, "hello", 1]))
            .expect("a version");
        assert_eq!(anna.called("changed")[2], json!(["send hello"]));
        anna.call("objectClear", json!([name])).expect("a version");
        assert_eq!(anna.called("changed")[2], json!(["clear"]));
        assert_eq!(anna.call("objectSize", json!([name])), Ok(json!(0)));
    }
}
