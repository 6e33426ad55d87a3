//! The methods that clients call.

use std::time::Duration;

use headwater_proto::v1::handler_response::Response;
use headwater_proto::v1::object_change::Change;
use headwater_proto::v1::object_command::Action;
use headwater_proto::v1::{
    CallClient, ClientCalls, DisconnectClient, GrantClient, ObjectApply, ObjectChange,
    ObjectCommand, ObjectGet, ObjectSend, Value,
};

use super::{Failure, HungUp, Room, Waiting, Wanted, reply};
use crate::values::{array, as_number, as_text, null, number, object, properties, text};

/// Longest delay of `later`.
const LONGEST: f64 = 60_000.0;

impl Room {
    pub(super) async fn call(&mut self, called: ClientCalls) -> Result<(), HungUp> {
        let ClientCalls {
            client,
            call,
            name,
            mut arguments,
        } = called;
        let nothing = Ok(null());
        let first = arguments.first().cloned().unwrap_or_else(null);
        let outcome = match name.as_str() {
            "echo" => Ok(first),
            "sum" => arguments
                .iter()
                .map(as_number)
                .sum::<Option<f64>>()
                .map(number)
                .ok_or_else(|| failure("sum takes numbers.")),
            "whoami" => Ok(self.describe(&client)),
            "later" => {
                let delay = as_number(&first).unwrap_or_default().clamp(0.0, LONGEST);
                let value = arguments.get(1).cloned().unwrap_or_else(null);
                if call != 0 {
                    let delay = Duration::from_secs_f64(delay / 1_000.0);
                    self.send_later(delay, Response::Call(reply(call, Ok(value))));
                }
                return Ok(());
            }
            "fail" => Err(failure(as_text(&first).unwrap_or_default())),
            "failWith" => Err(Failure::Info(first)),
            "callMe" => return self.ask(client, call, arguments).await,
            "say" => {
                let said = vec![text(self.name_of(&client)), first];
                self.tell(Vec::new(), "heard", said).await?;
                nothing
            }
            "tell" | "ask" | "kick" | "mute" => {
                let wanted = as_text(&first).unwrap_or_default();
                let Some(other) = self.named(wanted) else {
                    let nobody = failure(&format!("Nobody here is called {wanted}."));
                    return self.answer(call, Err(nobody)).await;
                };
                arguments.remove(0);
                match name.as_str() {
                    "ask" => return self.ask(other, call, arguments).await,
                    "tell" => {
                        let said = arguments.into_iter().next().unwrap_or_else(null);
                        let whispered = vec![text(self.name_of(&client)), said];
                        self.tell(vec![other], "whispered", whispered).await?;
                    }
                    "kick" => {
                        let kicked = DisconnectClient {
                            client: other,
                            description: "You were asked to leave.".to_owned(),
                            ..DisconnectClient::default()
                        };
                        self.send(Response::Disconnect(kicked)).await?;
                    }
                    _ => {
                        let muted = GrantClient {
                            client: other,
                            write_access: Some(String::new()),
                            ..GrantClient::default()
                        };
                        self.send(Response::Grant(muted)).await?;
                    }
                }
                nothing
            }
            _ => match object_action(&name, arguments) {
                Some((action, wanted)) => {
                    let command = self.expect(Waiting::Object { call, wanted });
                    let named = as_text(&first).unwrap_or_default();
                    let kept = named.strip_prefix("persistent:");
                    let asked = ObjectCommand {
                        command,
                        object: kept.unwrap_or(named).to_owned(),
                        persistent: kept.is_some(),
                        action: Some(action),
                    };
                    return self.send(Response::Object(asked)).await;
                }
                None => Err(failure(&format!("Method not found ({name})."))),
            },
        };
        self.answer(call, outcome).await
    }

    /// Calls a method of a client, whose answer is that of a call.
    async fn ask(
        &mut self,
        asked: String,
        call: u64,
        mut arguments: Vec<Value>,
    ) -> Result<(), HungUp> {
        if arguments.is_empty() {
            return self.answer(call, Err(failure("Which method?"))).await;
        }
        let method = arguments.remove(0);
        let clients = vec![asked.clone()];
        let number = self.expect(Waiting::Client { asked, call });
        let called = CallClient {
            clients,
            call: number,
            name: as_text(&method).unwrap_or_default().to_owned(),
            arguments,
        };
        self.send(Response::CallClient(called)).await
    }

    fn describe(&self, id: &str) -> Value {
        let info = self.clients.get(id).map(|client| client.info.clone());
        let info = info.unwrap_or_default();
        let mut people: Vec<_> = self.clients.values().map(|client| &client.name).collect();
        people.sort();
        object([
            ("id", text(id)),
            ("name", text(self.name_of(id))),
            ("ip", text(info.ip)),
            ("protocol", text(info.protocol)),
            ("agent", text(info.agent)),
            ("objectEncoding", number(f64::from(info.object_encoding))),
            ("instance", text(&self.instance)),
            ("people", array(people.into_iter().map(text))),
        ])
    }

    fn name_of(&self, id: &str) -> &str {
        self.clients.get(id).map_or("guest", |client| &client.name)
    }

    /// The id of the client of this name.
    fn named(&self, name: &str) -> Option<String> {
        let found = self.clients.iter().find(|(_, client)| client.name == name);
        found.map(|(id, _)| id.clone())
    }
}

/// What a method does with the object that its first argument names.
fn object_action(method: &str, arguments: Vec<Value>) -> Option<(Action, Wanted)> {
    let mut arguments = arguments.into_iter().skip(1);
    let apply = |changes: Vec<Change>| {
        let changes = changes.into_iter().map(|change| ObjectChange {
            change: Some(change),
        });
        let changes = changes.collect();
        (Action::Apply(ObjectApply { changes }), Wanted::Version)
    };
    let names = |arguments: &mut dyn Iterator<Item = Value>| -> Vec<String> {
        arguments
            .filter_map(|name| as_text(&name).map(str::to_owned))
            .collect()
    };
    Some(match method {
        "objectGet" => {
            let names = names(&mut arguments);
            (Action::Get(ObjectGet { names }), Wanted::Slots)
        }
        "objectSet" => {
            let slots = properties(arguments.next().unwrap_or_else(null));
            apply(slots.into_iter().map(Change::Set).collect())
        }
        "objectRemove" => {
            let names = names(&mut arguments);
            apply(names.into_iter().map(Change::Remove).collect())
        }
        "objectClear" => apply(vec![Change::Clear(true)]),
        "objectSend" => {
            let name = arguments.next().unwrap_or_else(null);
            apply(vec![Change::Send(ObjectSend {
                name: as_text(&name).unwrap_or_default().to_owned(),
                arguments: arguments.collect(),
            })])
        }
        "objectSize" => (Action::Size(true), Wanted::Size),
        "objectFlush" => (Action::Flush(true), Wanted::Nothing),
        "objectWatch" => (Action::Watch(true), Wanted::Nothing),
        _ => return None,
    })
}

fn failure(description: &str) -> Failure {
    Failure::Description(description.to_owned())
}
