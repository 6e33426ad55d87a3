//! Anything that edges and handlers may say, in any order: nothing panics, nothing is left behind, and every question has one answer.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Attach { incarnation: u64, resumed: u32 },
    Lose,
    Close,
    Say(u64, u8),
    Act(u64, u8),
    Events,
    Gone,
    Wait(u64),
    Policy(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (1..3_u64, 0..3_u32).prop_map(|(incarnation, resumed)| Step::Attach { incarnation, resumed }),
        1 => Just(Step::Lose),
        1 => Just(Step::Close),
        12 => (1..6_u64, any::<u8>()).prop_map(|(client, what)| Step::Say(client, what)),
        12 => (1..6_u64, any::<u8>()).prop_map(|(client, what)| Step::Act(client, what)),
        6 => Just(Step::Events),
        1 => Just(Step::Gone),
        3 => (0..3_000_u64).prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::Policy),
    ]
}

/// What a client asked in a call, and whether it was answered.
type Asked = HashMap<(u64, u64), usize>;

#[derive(Default)]
struct World {
    call: u64,
    attached: bool,
    numbers: u64,
    asked: Asked,
    calling: bool,
    last: u64,
    left: HashMap<u64, bool>,
}

impl World {
    fn look(&mut self, bench: &mut Bench) -> bool {
        let mut ended = false;
        for output in bench.outputs() {
            match output {
                Output::Tell(_, Told::Answer(answer)) => {
                    *self.asked.entry((answer.client, answer.call)).or_default() += 1;
                }
                Output::Cut(call, _) if call.0 == self.call => {
                    self.attached = false;
                    bench.instance.detached(bench.now, call);
                }
                Output::CallHandler => self.calling = true,
                Output::HangUp(_) => self.calling = false,
                Output::Ended => ended = true,
                _ => {}
            }
        }
        ended
    }

    fn said(&mut self, client: u64, what: u8) -> Said {
        self.numbers += 1;
        let number = self.numbers;
        match what % 9 {
            0 | 1 => connect(client),
            2 => resume(client),
            3 => {
                self.left.insert(client, true);
                disconnect(client)
            }
            4 => {
                self.asked.entry((client, number)).or_default();
                call(client, number, "f")
            }
            5 => publish(client, number),
            6 => play(client, number),
            7 => use_object(client, number),
            _ => Said::Stop(ended(client, number.saturating_sub(u64::from(what % 4)))),
        }
    }

    fn action(&self, client: u64, what: u8) -> Action {
        let number = self.last.saturating_sub(u64::from(what % 5));
        match what % 10 {
            0 => Action::Hello(ALL),
            1 | 2 => accept(client),
            3 => Action::Call {
                call: number,
                result: Ok(Value::Null),
            },
            4 => Action::Stream {
                ask: number,
                reply: StreamReply::Allow(String::new()),
            },
            5 => Action::UseObject {
                ask: number,
                read: true,
                write: true,
            },
            6 => Action::CallClients {
                clients: vec![id(client)],
                call: 3,
                name: "f".to_owned(),
                arguments: Vec::new(),
            },
            7 => Action::Disconnect {
                client: id(client),
                code: String::new(),
                description: String::new(),
            },
            8 => Action::Nonsense {
                reason: "r".to_owned(),
                answers: Some(Answers::Number(number)),
            },
            _ => Action::EndStream {
                client: id(client),
                ask: number,
                code: String::new(),
                description: String::new(),
            },
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_left_behind(steps in prop::collection::vec(step(), 1..200)) {
        let mut bench = Bench::new(HANDLER);
        let mut world = World::default();
        for step in steps {
            match step {
                Step::Attach { incarnation, resumed } => {
                    world.call += 1;
                    world.attached = true;
                    bench.attach(world.call, incarnation, resumed);
                }
                Step::Lose if world.attached => {
                    world.attached = false;
                    bench.instance.detached(bench.now, CallId(world.call));
                }
                Step::Close if world.attached => bench.say(world.call, Said::Close(v1::AttachClose {})),
                Step::Say(client, what) if world.attached => {
                    let said = world.said(client, what);
                    bench.say(world.call, said);
                }
                Step::Act(client, what) if world.calling => {
                    let action = world.action(client, what);
                    bench.act(action);
                }
                Step::Events => {
                    for event in bench.events() {
                        match event {
                            Event::Call { call, .. } => world.last = call,
                            Event::Publish { ask, .. } | Event::Play { ask, .. } | Event::UseObject { ask, .. } => world.last = ask,
                            _ => {}
                        }
                    }
                }
                Step::Gone if world.calling => {
                    world.calling = false;
                    let error = HandlerError::Ended;
                    bench.instance.handler_gone(bench.now, &error);
                }
                Step::Wait(milliseconds) => bench.wait(milliseconds),
                Step::Policy(with) => {
                    let toml = if with { HANDLER } else { "" };
                    bench.instance.set_policy(bench.now, policy(toml));
                }
                _ => {}
            }
            if world.look(&mut bench) {
                break;
            }
        }
        // All is over once its edges have gone and time has passed.
        for call in 0..=world.call {
            bench.instance.detached(bench.now, CallId(call));
        }
        bench.wait(200_000);
        let mut ended = world.look(&mut bench);
        bench.wait(100_000);
        ended |= world.look(&mut bench) || bench.instance.poll_timeout().is_none();
        prop_assert!(ended);
        prop_assert_eq!(bench.metric("clients"), 0);
        prop_assert_eq!(bench.metric("edges"), 0);
        prop_assert_eq!(bench.metric("waiting"), 0);
        for ((client, call), answers) in &world.asked {
            prop_assert!(*answers <= 1, "client {client} has {answers} answers to call {call}");
        }
    }
}
