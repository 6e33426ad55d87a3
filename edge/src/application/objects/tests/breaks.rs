//! Owners that change, clients that do not read, and objects that are let go of.

use super::*;

#[test]
fn what_an_owner_has_not_answered_goes_to_the_next() {
    run(async {
        let stage = Stage::start();
        let mut first = Owner::new(1);
        stage.objects.attached();
        let mut author = stage.client(1, Encoding::Amf0).await;
        let mut other = stage.client(2, Encoding::Amf0).await;
        for client in [&mut author, &mut other] {
            client.say(&stage, "room", PROXY, vec![Event::Use]);
        }
        first.drive(&stage.objects);
        for client in [&mut author, &mut other] {
            client.next().await;
        }
        author.set(&stage, "room", PROXY, "a", "1");
        first.drive(&stage.objects);
        // One that the owner has applied without anybody hearing of it, and one that never reached it.
        author.set(&stage, "room", PROXY, "b", "2");
        let said = stage.objects.poll_next().unwrap();
        first.answer(said);
        stage.objects.detached();
        author.set(&stage, "room", PROXY, "c", "3");
        assert!(stage.objects.poll_next().is_none());

        let mut next = Owner::new(2);
        stage.objects.attached();
        next.drive(&stage.objects);
        let known = stage.objects.known("room").unwrap();
        let slots: Vec<&str> = known.slots.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((slots, known.unanswered), (vec!["a", "b", "c"], 0));
        assert_eq!(next.requests, [2, 3], "the first was done");
        for (client, is_author) in [(&mut author, true), (&mut other, false)] {
            let mut got = Vec::new();
            while got.len() < 3 {
                got.extend(client.events().await);
            }
            let expected = ["a", "b", "c"].into_iter().zip(["1", "2", "3"]);
            let expected: Vec<Event> = expected
                .map(|(slot, value)| match is_author {
                    true => Event::ChangeEcho {
                        name: slot.into(),
                        value: text(value),
                    },
                    false => change(slot, value),
                })
                .collect();
            assert_eq!(got, expected, "author: {is_author}");
        }
    });
}

#[test]
fn what_was_sent_is_repeated_and_nothing_that_is_on_its_way_is_said_again() {
    run(async {
        let stage = Stage::start();
        let mut owner = Owner::new(1);
        stage.objects.attached();
        let mut author = stage.client(1, Encoding::Amf0).await;
        author.say(&stage, "room", PROXY, vec![Event::Use]);
        owner.drive(&stage.objects);
        let arguments = Arguments::new(&["hello".into()]).unwrap();
        author.say(&stage, "room", PROXY, vec![Event::Send { arguments }]);
        let said = stage.objects.poll_next().unwrap();
        // Applied, and nobody hears of it.
        owner.answer(said);
        stage.objects.detached();
        author.set(&stage, "room", PROXY, "a", "1");

        stage.objects.attached();
        let said = stage.objects.poll_next().unwrap();
        for told in owner.answer(said) {
            stage.objects.handle(told);
        }
        let repeat = stage.objects.poll_next().unwrap();
        let change = stage.objects.poll_next().unwrap();
        assert!(stage.objects.poll_next().is_none());
        for told in owner.answer(repeat) {
            stage.objects.handle(told);
            assert!(stage.objects.poll_next().is_none());
        }
        for told in owner.answer(change) {
            stage.objects.handle(told);
        }
        assert_eq!(owner.requests, [1, 1, 2]);
        // It was repeated: the next owner does not hear of it.
        stage.objects.detached();
        stage.objects.attached();
        owner.drive(&stage.objects);
        assert_eq!(owner.requests, [1, 1, 2]);
    });
}

#[test]
fn a_client_that_does_not_read_delays_nobody_and_gets_all_messages_in_the_end() {
    run(async {
        let stage = Stage::start();
        let mut owner = Owner::new(1);
        stage.objects.attached();
        let mut author = stage.client(1, Encoding::Amf0).await;
        let mut slow = stage.client(2, Encoding::Amf0).await;
        for client in [&mut author, &mut slow] {
            client.say(&stage, "busy", PROXY, vec![Event::Use]);
        }
        owner.drive(&stage.objects);
        author.next().await;
        // All of it together fits into the log.
        let large = "x".repeat(1_500);
        let sends = 20;
        for number in 0..sends {
            for step in 0..20 {
                let value = format!("{number}.{step}.{large}");
                author.set(&stage, "busy", PROXY, "a", &value);
            }
            let arguments = Arguments::new(&["ring".into(), f64::from(number).into()]).unwrap();
            author.say(&stage, "busy", PROXY, vec![Event::Send { arguments }]);
            owner.drive(&stage.objects);
            // The author reads, the other one does not.
            let is_ring = |event: &Event| matches!(event, Event::Send { .. });
            while !author.events().await.iter().any(is_ring) {}
        }
        assert!(!slow.connection.borrow_mut().has_room_for_objects());
        let mut changes = 0;
        let mut rings = Vec::new();
        let mut last = None;
        while rings.len() < 20 {
            for event in slow.events().await {
                match event {
                    Event::Change { value, .. } => {
                        changes += 1;
                        last = Some(value);
                    }
                    Event::Send { arguments } => {
                        let ring = arguments.decode(headwater_amf::Limits::DEFAULT).unwrap()[1]
                            .as_number();
                        // All that came before it in the object, it has.
                        let Some(Value::String(now)) = last
                            .as_ref()
                            .map(|value| value.decode(headwater_amf::Limits::DEFAULT).unwrap())
                        else {
                            panic!("no change before it");
                        };
                        let now = now.to_string_lossy().into_owned();
                        let expected = format!("{}.19.", ring.unwrap());
                        assert!(now.starts_with(&expected), "{now:.10} at {expected}");
                        rings.push(ring.unwrap());
                    }
                    _ => {}
                }
            }
        }
        let all: Vec<f64> = (0..sends).map(f64::from).collect();
        assert_eq!(rings, all);
        assert!(changes < 400, "{changes} of 400 changes: some were merged");
        assert!(slow.heard.lost.borrow().is_empty());
    });
}

#[test]
fn an_object_that_nobody_uses_is_released_and_one_that_is_gone_for_a_moment_is_not() {
    run(async {
        let stage = Stage::start();
        let mut owner = Owner::new(1);
        stage.objects.attached();
        let mut client = stage.client(1, Encoding::Amf0).await;
        client.say(&stage, "brief", PLAYER, vec![Event::Use]);
        owner.drive(&stage.objects);
        client.next().await;
        client.set(&stage, "brief", PLAYER, "a", "1");
        client.say(&stage, "brief", PLAYER, vec![Event::Release]);
        let now = Instant::now();
        stage.objects.sweep(now + 10 * LINGER);
        assert!(!stage.objects.is_idle(), "a request waits for its answer");
        owner.drive(&stage.objects);
        stage.objects.sweep(now);
        assert!(!stage.objects.is_idle());
        client.say(&stage, "brief", PLAYER, vec![Event::Use]);
        stage.objects.sweep(now + 10 * LINGER);
        assert_eq!(
            client.events().await,
            [Event::UseSuccess, Event::Clear, change("a", "1")]
        );
        drop(client);
        stage.objects.sweep(now + 10 * LINGER);
        owner.drive(&stage.objects);
        assert!(stage.objects.is_idle());
        assert_eq!((owner.uses, owner.released), (1, vec!["brief".to_owned()]));
    });
}

#[test]
fn a_mirror_that_missed_something_asks_for_it() {
    run(async {
        let stage = Stage::start();
        let mut owner = Owner::new(1);
        stage.objects.attached();
        let mut client = stage.client(1, Encoding::Amf0).await;
        client.say(&stage, "gap", PROXY, vec![Event::Use]);
        owner.drive(&stage.objects);
        client.next().await;
        let name = ObjectName::parse("gap").unwrap();
        for (number, slot) in ["a", "b"].into_iter().enumerate() {
            let operation = Operation::Set {
                name: slot.into(),
                value: text("1"),
            };
            let (_, master) = owner.masters.get_mut("gap").unwrap();
            let applied = master.apply_own(&[operation]).unwrap();
            if number == 1 {
                let update = wire::update(&name, Persistence::Temporary, &applied.update);
                stage.objects.handle(Told::ObjectUpdate(update));
            }
        }
        owner.drive(&stage.objects);
        assert_eq!(owner.uses, 2);
        assert_eq!(client.events().await, [change("a", "1"), change("b", "1")]);
    });
}

#[test]
fn nonsense_of_an_owner_does_no_harm() {
    run(async {
        let stage = Stage::start();
        stage.objects.attached();
        let name = |name: &str| {
            Some(v1::ObjectName {
                name: name.to_owned(),
                persistent: false,
            })
        };
        let mut client = stage.client(1, Encoding::Amf0).await;
        client.say(&stage, "so", PLAYER, vec![Event::Use]);
        for object in [None, name(""), name("other"), name("so")] {
            for told in [
                Told::ObjectUpdate(v1::ObjectUpdate {
                    object: object.clone(),
                    version: 9,
                    number: 3,
                    edge_incarnation: 7,
                    ..v1::ObjectUpdate::default()
                }),
                Told::ObjectWanted(v1::ObjectWanted {
                    object: object.clone(),
                }),
                Told::ObjectState(v1::ObjectState {
                    object: object.clone(),
                    since: 5,
                    version: 2,
                    ..v1::ObjectState::default()
                }),
                Told::ObjectRefused(v1::ObjectRefused {
                    object: object.clone(),
                    number: 77,
                    code: String::new(),
                    description: String::new(),
                }),
            ] {
                stage.objects.handle(told);
            }
        }
        let mut owner = Owner::new(1);
        owner.drive(&stage.objects);
        assert_eq!(client.events().await, [Event::UseSuccess, Event::Clear]);
    });
}
