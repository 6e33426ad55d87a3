//! Events and actions in the words of the handler's protocol.

use headwater_amf::Value;
use headwater_proto::v1;
use headwater_proto::v1::handler_request::Request;
use headwater_proto::v1::handler_response::Response;

use super::value::{Reader, ValueError, all_to_wire, property_to_wire, to_wire};
use super::{
    Action, Answers, CallFailure, ConnectReply, Ended, Event, ObjectAction, ObjectAnswer,
    ObjectChange, ObjectChanged, ObjectCommand, Reason, Started, StreamReply,
};

pub(super) fn started(started: &Started) -> v1::HandlerRequest {
    request(Request::Started(v1::InstanceStarted {
        vhost: started.name.vhost.clone(),
        app: started.name.app.clone(),
        instance: started.name.instance.clone(),
        origin: started.origin.clone(),
        epoch: started.epoch,
    }))
}

pub(super) fn event(event: &Event) -> v1::HandlerRequest {
    request(match event {
        Event::Connect {
            client,
            arguments,
            object,
        } => Request::Connect(v1::ClientConnecting {
            client: Some(info(client)),
            arguments: all_to_wire(arguments),
            object: Some(to_wire(object)),
        }),
        Event::Resumed { client, grant } => Request::Resumed(v1::ClientResumed {
            client: Some(info(client)),
            read_access: grant.read_access.clone(),
            write_access: grant.write_access.clone(),
        }),
        Event::Left { client } => Request::Left(v1::ClientLeft {
            client: client.to_string(),
        }),
        Event::Call {
            client,
            call,
            name,
            arguments,
        } => Request::Call(v1::ClientCalls {
            client: client.to_string(),
            call: *call,
            name: name.clone(),
            arguments: all_to_wire(arguments),
        }),
        Event::Answer { call, result } => {
            let (Ok(value) | Err(value)) = result;
            Request::Answer(v1::ClientAnswers {
                call: *call,
                failed: result.is_err(),
                value: Some(to_wire(value)),
            })
        }
        Event::Publish {
            client,
            ask,
            stream,
            query,
            mode,
        } => Request::Publish(v1::ClientPublishes {
            client: client.to_string(),
            ask: *ask,
            stream: stream.clone(),
            query: query.clone(),
            mode: mode_name(*mode).to_owned(),
        }),
        Event::Play {
            client,
            ask,
            stream,
            query,
            start,
            length,
        } => Request::Play(v1::ClientPlays {
            client: client.to_string(),
            ask: *ask,
            stream: stream.clone(),
            query: query.clone(),
            start: *start,
            length: *length,
        }),
        Event::Unpublished(end) => Request::Unpublished(ended(end)),
        Event::Stopped(end) => Request::Stopped(ended(end)),
        Event::UseObject {
            client,
            ask,
            object,
            persistent,
        } => Request::UseObject(v1::ClientUsesObject {
            client: client.to_string(),
            ask: *ask,
            object: object.clone(),
            persistent: *persistent,
        }),
        Event::ObjectAnswer(answer) => Request::ObjectAnswer(object_answer(answer)),
        Event::ObjectChanged(changed) => Request::ObjectChanged(object_changed(changed)),
        Event::Stopping(reason) => Request::Stopping(v1::InstanceStopping {
            reason: match reason {
                Reason::Unload => "unload",
                Reason::Shutdown => "shutdown",
                Reason::Moved => "moved",
                Reason::Reload => "reload",
            }
            .to_owned(),
        }),
    })
}

fn request(request: Request) -> v1::HandlerRequest {
    v1::HandlerRequest {
        request: Some(request),
    }
}

fn info(client: &v1::ClientProperties) -> v1::ClientInfo {
    v1::ClientInfo {
        id: client.id.clone(),
        ip: client.ip.clone(),
        protocol: client.protocol.clone(),
        agent: client.agent.clone(),
        referrer: client.referrer.clone(),
        page_url: client.page_url.clone(),
        object_encoding: client.object_encoding,
        secure: client.secure,
        uri: client.uri.clone(),
        peer_id: client.peer_id.clone(),
    }
}

/// What a client says to ask for it.
fn mode_name(mode: v1::PublishMode) -> &'static str {
    match mode {
        v1::PublishMode::Record => "record",
        v1::PublishMode::Append => "append",
        v1::PublishMode::AppendWithGap => "appendWithGap",
        v1::PublishMode::Live | v1::PublishMode::Unspecified => "live",
    }
}

fn ended(end: &Ended) -> v1::StreamStopped {
    v1::StreamStopped {
        client: end.client.to_string(),
        stream: end.stream.clone(),
        ask: end.ask,
    }
}

fn object_answer(answer: &ObjectAnswer) -> v1::ObjectAnswer {
    let command = answer.command;
    match &answer.result {
        Ok(result) => v1::ObjectAnswer {
            command,
            slots: (result.slots.iter())
                .map(|(name, value)| property_to_wire(name, value))
                .collect(),
            size: result.size,
            version: result.version,
            ..v1::ObjectAnswer::default()
        },
        Err(failure) => v1::ObjectAnswer {
            command,
            failed: true,
            code: failure.code.clone(),
            description: failure.description.clone(),
            ..v1::ObjectAnswer::default()
        },
    }
}

fn object_changed(changed: &ObjectChanged) -> v1::ObjectChanged {
    use v1::object_change::Change;

    let changes = changed.changes.iter().map(|change| v1::ObjectChange {
        change: Some(match change {
            ObjectChange::Set(name, value) => Change::Set(property_to_wire(name, value)),
            ObjectChange::Remove(name) => Change::Remove(name.clone()),
            ObjectChange::Clear => Change::Clear(true),
            ObjectChange::Send(name, arguments) => Change::Send(v1::ObjectSend {
                name: name.clone(),
                arguments: all_to_wire(arguments),
            }),
        }),
    });
    v1::ObjectChanged {
        object: changed.object.clone(),
        persistent: changed.persistent,
        version: changed.version,
        client: changed.client.as_deref().unwrap_or_default().to_owned(),
        changes: changes.collect(),
    }
}

/// What a message of a handler means. None: something that a newer version has added.
pub(super) fn action(response: v1::HandlerResponse) -> Option<Action> {
    let response = response.response?;
    let answers = match &response {
        Response::Connect(reply) => Some(Answers::Connect(reply.client.clone())),
        Response::Call(reply) => Some(Answers::Number(reply.call)),
        _ => None,
    };
    match read(response) {
        Ok(action) => action,
        Err(error) => Some(Action::Nonsense {
            reason: error.to_string(),
            answers,
        }),
    }
}

fn read(response: Response) -> Result<Option<Action>, ValueError> {
    let mut reader = Reader::new();
    Ok(Some(match response {
        Response::Hello(hello) => Action::Hello(v1::Hooks {
            connect: hello.connect,
            publish: hello.publish,
            play: hello.play,
            call: hello.call,
            use_object: hello.use_object,
            ends: hello.ends,
        }),
        Response::Connect(reply) => {
            let mut optional =
                |value: Option<v1::Value>| value.map(|value| reader.one(value)).transpose();
            let (application, properties) =
                (optional(reply.application)?, optional(reply.properties)?);
            let told = if reply.accept {
                ConnectReply::Accept {
                    read: reply.read_access,
                    write: reply.write_access,
                    properties: properties.filter(|it| it.as_properties().is_some()),
                }
            } else {
                ConnectReply::Reject {
                    description: reply.description,
                    application: application.filter(|it| !it.is_nullish()),
                    redirect: reply.redirect,
                }
            };
            Action::Connect {
                client: reply.client,
                reply: told,
            }
        }
        Response::Call(reply) => {
            let value = reply.value.map(|value| reader.one(value)).transpose()?;
            let result = match (reply.failed, value) {
                (false, value) => Ok(value.unwrap_or_default()),
                (true, Some(value)) if !value.is_nullish() => Err(CallFailure::Information(value)),
                (true, _) => Err(CallFailure::Description(reply.description)),
            };
            Action::Call {
                call: reply.call,
                result,
            }
        }
        Response::Stream(reply) => Action::Stream {
            ask: reply.ask,
            reply: if reply.allow {
                StreamReply::Allow(reply.stream)
            } else {
                StreamReply::Refuse {
                    code: reply.code,
                    description: reply.description,
                }
            },
        },
        Response::UseObject(reply) => Action::UseObject {
            ask: reply.ask,
            read: reply.read,
            write: reply.write,
        },
        Response::CallClient(call) => Action::CallClients {
            clients: call.clients,
            call: call.call,
            name: call.name,
            arguments: reader.all(call.arguments)?,
        },
        Response::Disconnect(said) => Action::Disconnect {
            client: said.client,
            code: said.code,
            description: said.description,
        },
        Response::Grant(grant) => Action::Grant {
            client: grant.client,
            read: grant.read_access,
            write: grant.write_access,
        },
        Response::Object(command) => {
            let Some(action) = command.action else {
                return Ok(None);
            };
            Action::Object(ObjectCommand {
                command: command.command,
                object: command.object,
                persistent: command.persistent,
                action: object_action(action, &mut reader)?,
            })
        }
        Response::EndStream(end) => Action::EndStream {
            client: end.client,
            ask: end.ask,
            code: end.code,
            description: end.description,
        },
        Response::Shutdown(said) => Action::Shutdown {
            description: said.description,
        },
    }))
}

fn object_action(
    action: v1::object_command::Action,
    reader: &mut Reader,
) -> Result<ObjectAction, ValueError> {
    use v1::object_change::Change;
    use v1::object_command::Action as Said;

    Ok(match action {
        Said::Apply(apply) => {
            // Of one that a newer version has added, the rest is not to be done either.
            let changes = apply.changes.into_iter().map(|change| {
                Ok(match change.change.ok_or(ValueError::NoValue)? {
                    Change::Set(property) => {
                        let (name, value) = reader.property(property)?;
                        ObjectChange::Set(name, value)
                    }
                    Change::Remove(name) => ObjectChange::Remove(name),
                    Change::Clear(_) => ObjectChange::Clear,
                    Change::Send(send) => {
                        let arguments: Vec<Value> = reader.all(send.arguments)?;
                        ObjectChange::Send(send.name, arguments)
                    }
                })
            });
            ObjectAction::Apply(changes.collect::<Result<_, ValueError>>()?)
        }
        Said::Get(get) => ObjectAction::Get(get.names),
        Said::Size(_) => ObjectAction::Size,
        Said::Flush(_) => ObjectAction::Flush,
        Said::Watch(watch) => ObjectAction::Watch(watch),
    })
}
