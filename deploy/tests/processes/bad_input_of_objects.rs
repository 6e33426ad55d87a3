//! Clients that ask for shared objects in ways that make no sense, or for too many: they are told why, stay where they can, and cost
//! nobody else anything.

use std::time::Duration;

use bytes::Bytes;
use headwater_loadtest::members::MemberOptions;
use headwater_loadtest::members::objects::ObjectOptions;
use headwater_loadtest::target::Target;
use headwater_shared_object::wire::Event;

use crate::shared_objects::share;
use crate::support::client::ClientError;
use crate::support::cluster::{Cluster, Plan};
use crate::support::object_user::{Heard, ObjectUser, REQUEST_CHANGE, USE, change, message};
use crate::support::wait::until;

const LIMIT: Duration = Duration::from_secs(20);

/// Objects that one client may use, as `app.toml` has it where it says nothing.
const MOST: usize = 1_000;

/// A cluster of one origin and one edge, with the applications that every cluster has.
fn small() -> Cluster {
    Cluster::with(&Plan {
        origins: 1,
        edges: 1,
        ..Plan::default()
    })
}

/// A long text in AMF0.
fn text(length: u32) -> Vec<u8> {
    let mut value = vec![12];
    value.extend_from_slice(&length.to_be_bytes());
    value.resize(value.len() + length as usize, b'x');
    value
}

#[test]
fn messages_that_make_no_sense_are_answered_and_are_not_taken_for_ever() {
    let mut cluster = small();
    let url = cluster.edges[0].url("live/room");
    let mut client = ObjectUser::join(&url);
    let long = [b'x'; 5_000];
    let deep = [10, 0, 0, 0, 1].repeat(10_000);
    let mut nonsense: Vec<Bytes> = [
        &b".."[..],
        b"a/../b",
        b"a//b",
        b"",
        b"a\x07b",
        b"\xff\xfe",
        &long,
    ]
    .iter()
    .map(|name| message(name, &[(USE, &[])]))
    .collect();
    nonsense.push(message(
        b"good",
        &[(USE, &[]), (REQUEST_CHANGE, &change("deep", &deep))],
    ));
    nonsense.push(Bytes::from_static(b"\x00\x04go"));
    for nonsense in &nonsense {
        client.send(nonsense.clone());
        let heard = client.next().expect("a connection");
        let Heard::Status(code, description) = &heard else {
            panic!("{heard:?}");
        };
        assert_eq!(code, "NetConnection.Call.BadVersion");
        assert!(!description.is_empty());
    }
    // It is no worse off for it.
    client.uses("good");
    let closed = (0..32).find_map(|_| {
        client.send(message(b"..", &[(USE, &[])]));
        client.next().err()
    });
    assert!(matches!(closed, Some(ClientError::Closed)), "{closed:?}");
    ObjectUser::join(&url).uses("good");
}

#[test]
fn a_client_with_ten_thousand_objects_has_as_many_as_it_may_and_holds_up_nobody() {
    let mut cluster = small();
    let url = cluster.edges[0].url("live/room");
    let mut greedy = ObjectUser::join(&url);
    let target = Target::with_name(&url, "").expect("an address");
    let options = ObjectOptions {
        prefix: "of others".to_owned(),
        writers: 4,
        rate: 200,
        ..ObjectOptions::new(MemberOptions {
            count: 4,
            ..MemberOptions::new(vec![target])
        })
    };
    let others = share(options, |_| {
        let (mut used, mut refused) = (0, 0);
        for batch in 0..100 {
            for object in 0..100 {
                let name = format!("object {batch}/{object}");
                greedy.send(message(name.as_bytes(), &[(USE, &[])]));
            }
            for _ in 0..100 {
                let (object, events) = greedy.object();
                match events.as_slice() {
                    [Event::Status { code, level }] => {
                        assert_eq!(&**code, "SharedObject.TooManyObjects", "{object}");
                        assert_eq!(&**level, "error");
                        refused += 1;
                    }
                    events => {
                        assert!(events.contains(&Event::UseSuccess), "{events:?}");
                        used += 1;
                    }
                }
            }
        }
        assert_eq!((used, refused), (MOST, 10_000 - MOST));
    });
    assert!(others.is_without_loss(), "{}", others.table());
    assert!(others.confirmed > 20, "{}", others.table());
    drop(greedy);
    for (node, name) in [
        (
            &mut cluster.edges[0],
            "headwater_edge_shared_object_mirrors",
        ),
        (&mut cluster.origins[0], "headwater_origin_objects"),
    ] {
        until("its objects are let go of", 2 * LIMIT, || {
            node.metric(name) < 1.0
        });
    }
}

#[test]
fn a_value_that_is_too_large_is_refused_and_what_is_not_used_is_not_changed() {
    let mut cluster = small();
    let url = cluster.edges[0].url("live/room");
    let (mut writer, mut reader) = (ObjectUser::join(&url), ObjectUser::join(&url));
    reader.uses("state");
    // Nobody who does not use it writes to it.
    let small = change("stray", &[1, 1]);
    let one = change("a", &[0, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0]);
    for _ in 0..100 {
        writer.send(message(b"state", &[(REQUEST_CHANGE, &small)]));
    }
    writer.uses("state");
    // What is in one message is done, or none of it.
    let large = change("large", &text(65_536));
    let both = [(REQUEST_CHANGE, &large[..]), (REQUEST_CHANGE, &one)];
    writer.send(message(b"state", &both));
    let (_, events) = writer.object();
    let [Event::Status { code, .. }, given_back @ ..] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(code, "SharedObject.ValueTooLarge");
    let mut given_back: Vec<_> = (given_back.iter())
        .map(|event| match event {
            Event::Remove { name } => name.to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    given_back.sort();
    assert_eq!(given_back, ["a", "large"]);
    writer.send(message(b"state", &[(REQUEST_CHANGE, &one)]));
    let (_, events) = writer.object();
    let confirmed = events
        .iter()
        .any(|event| matches!(event, Event::Success { name } if name.to_string() == "a"));
    assert!(confirmed, "{events:?}");
    let (_, events) = reader.object();
    let slots: Vec<_> = (events.iter())
        .filter_map(|event| match event {
            Event::Change { name, .. } => Some(name.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(slots, ["a"], "{events:?}");
}
