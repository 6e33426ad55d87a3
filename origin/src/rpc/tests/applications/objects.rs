//! Shared objects of instances over real gRPC, and the one writer of their store. On a real clock: the store has tasks of its own.

use headwater_proto::v1::object_operation::Operation;
use headwater_proto::v1::value::Value as Wire;

use super::*;

fn board(persistent: bool) -> Option<v1::ObjectName> {
    Some(v1::ObjectName {
        name: "board".to_owned(),
        persistent,
    })
}

impl Edge {
    async fn use_board(&mut self, persistent: bool) -> v1::ObjectState {
        self.say(Say::UseObject(v1::UseObject {
            object: board(persistent),
            ..v1::UseObject::default()
        }))
        .await;
        match self.told().await {
            Told::ObjectState(state) => state,
            other => panic!("no state: {other:?}"),
        }
    }

    async fn set(&self, persistent: bool, number: u64, name: &str, value: f64) {
        let slot = v1::Slot {
            name: name.to_owned(),
            value: values(&[value.into()]),
            version: 0,
        };
        self.say(Say::Object(v1::ObjectRequest {
            object: board(persistent),
            number,
            client: 1,
            operations: vec![v1::ObjectOperation {
                operation: Some(Operation::Set(slot)),
            }],
        }))
        .await;
    }

    async fn update(&mut self) -> v1::ObjectUpdate {
        match self.told().await {
            Told::ObjectUpdate(update) => update,
            other => panic!("no update: {other:?}"),
        }
    }
}

#[tokio::test]
async fn edges_and_the_handler_share_objects() {
    let mut program = Program::start().await;
    let bench = bench(&["a"]).await;
    let address = program.at;
    write(
        &bench,
        "chat",
        &format!("[handler]\naddress = \"http://{address}\"\n"),
    );
    let name = instance("room");
    let opening = Edge::attach(&bench, "a", open(&name));
    let (mut call, mut one) = tokio::join!(program.greeted(), opening);
    let mut other = open(&name);
    other.edge_incarnation = 2;
    let mut two = Edge::attach(&bench, "a", other).await;
    one.connect(1).await;
    call.accept().await;
    one.accepted().await;
    assert_eq!(one.use_board(false).await.version, 0);
    two.use_board(false).await;
    let command = |number: u64, action: v1::object_command::Action| {
        Act::Object(v1::ObjectCommand {
            command: number,
            object: "board".to_owned(),
            persistent: false,
            action: Some(action),
        })
    };
    use v1::object_command::Action as Do;
    call.act(command(1, Do::Watch(true))).await;
    let Heard::ObjectAnswer(answer) = call.hear().await else {
        panic!("no answer");
    };
    assert_eq!((answer.command, answer.failed), (1, false));
    one.set(false, 1, "x", 7.0).await;
    for edge in [&mut one, &mut two] {
        let update = edge.update().await;
        assert_eq!((update.edge_incarnation, update.number), (1, 1));
    }
    let Heard::ObjectChanged(changed) = call.hear().await else {
        panic!("not told");
    };
    assert_eq!(changed.client, id(1));
    let Some(v1::object_change::Change::Set(set)) = &changed.changes[0].change else {
        panic!("not set");
    };
    assert_eq!(set.name, "x");
    // And the other way.
    let number = v1::Value {
        value: Some(Wire::Number(9.0)),
    };
    let set = v1::object_change::Change::Set(v1::Property {
        name: "y".to_owned(),
        value: Some(number.clone()),
    });
    call.act(command(
        2,
        Do::Apply(v1::ObjectApply {
            changes: vec![v1::ObjectChange { change: Some(set) }],
        }),
    ))
    .await;
    let update = two.update().await;
    let Some(Operation::Set(slot)) = &update.operations[0].operation else {
        panic!("not set");
    };
    assert_eq!(
        (slot.name.as_str(), &slot.value),
        ("y", &values(&[9.0.into()]))
    );
    call.act(command(3, Do::Get(v1::ObjectGet::default())))
        .await;
    let slots = loop {
        match call.hear().await {
            Heard::ObjectAnswer(answer) if answer.command == 3 => break answer.slots,
            Heard::ObjectAnswer(_) | Heard::ObjectChanged(_) => {}
            other => panic!("{other:?}"),
        }
    };
    let found = slots.iter().find(|slot| slot.name == "y").unwrap();
    assert_eq!((slots.len(), found.value.as_ref()), (2, Some(&number)));
}

#[tokio::test]
async fn the_writer_of_the_store_hosts_the_instance() {
    let shared = tempfile::tempdir().unwrap();
    let mut section = section();
    section.storage.url = format!("file://{}", shared.path().display());
    section.state.poll_ms = 50;
    // A quarter of it, where the other one cannot be reached.
    section.state.hold_off_ms = 8_000;
    let folder = shared.path().join("applications/chat");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("app.toml"), "").unwrap();
    // Each takes the other one for dead.
    let bench = Bench::apart(&["a", "b"], section).await;
    let name = instance("room");
    let mut first = Edge::attach(&bench, "a", open(&name)).await;
    first.use_board(true).await;
    first.set(true, 1, "x", 7.0).await;
    assert_eq!(first.update().await.number, 1);
    // The edge goes to the other one, with what it has not heard of.
    let mut second = Edge::attach(&bench, "b", open(&name)).await;
    assert_eq!(first.end().await.code(), Code::Unavailable);
    let state = second.use_board(true).await;
    assert_eq!(state.slots[0].value, values(&[7.0.into()]));
    assert_eq!(state.applied[0].number, 1);
    // It is left to that one for a while.
    let mut back = Edge::begin(&bench, "a", Say::Open(open(&name))).await;
    assert_eq!(back.end().await.code(), Code::Unavailable);
    until(async || bench.metric_of("a", "applications", "instances") == "0").await;
    let mut third = soon(async {
        loop {
            let mut edge = Edge::begin(&bench, "a", Say::Open(open(&name))).await;
            match edge.told.message().await {
                Ok(Some(_)) => return edge,
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    })
    .await;
    assert_eq!(second.end().await.code(), Code::Unavailable);
    assert_eq!(third.use_board(true).await.slots.len(), 1);
}
