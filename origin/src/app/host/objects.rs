//! What a handler does with shared objects, and hears of them: between values and the bytes that objects hold.

use headwater_amf::{EncodeError, Limits, Value};
use headwater_shared_object::object::{Operation, Refusal};
use headwater_shared_object::value::{Arguments, SlotValue};

use crate::app::handler::{
    ClientId, ObjectAction, ObjectAnswer, ObjectChange, ObjectChanged, ObjectCommand,
    ObjectFailure, ObjectResult,
};
use crate::app::objects::{Action, Answer, Changed, Command};

/// What a handler wants done. `null` and `undefined` remove a slot, as they do for clients.
pub(super) fn command(said: ObjectCommand) -> Result<Command, EncodeError> {
    Ok(Command {
        command: said.command,
        object: said.object,
        persistent: said.persistent,
        action: match said.action {
            ObjectAction::Apply(changes) => {
                let operations = changes.into_iter().map(operation);
                Action::Apply(operations.collect::<Result<_, _>>()?)
            }
            ObjectAction::Get(names) => Action::Get(names),
            ObjectAction::Size => Action::Size,
            ObjectAction::Flush => Action::Flush,
            ObjectAction::Watch(watch) => Action::Watch(watch),
        },
    })
}

/// The answer to a command that was not done.
pub(super) fn refused(command: u64, error: &EncodeError) -> ObjectAnswer {
    ObjectAnswer {
        command,
        result: Err(ObjectFailure {
            code: "SharedObject.BadValue".to_owned(),
            description: error.to_string(),
        }),
    }
}

pub(super) fn answer(answer: Answer) -> ObjectAnswer {
    ObjectAnswer {
        command: answer.command,
        result: match answer.result {
            Ok(found) => {
                let slots = found.slots.iter();
                Ok(ObjectResult {
                    slots: slots
                        .map(|(name, slot)| (name.to_string(), value(slot)))
                        .collect(),
                    size: found.size,
                    version: found.version,
                })
            }
            Err(refusal) => Err(failure(&refusal)),
        },
    }
}

/// What has changed, and by whom.
pub(super) fn changed(changed: &Changed, client: Option<ClientId>) -> ObjectChanged {
    ObjectChanged {
        object: changed.object.clone(),
        persistent: changed.persistent,
        version: changed.version,
        client,
        changes: changed.operations.iter().map(change).collect(),
    }
}

fn operation(change: ObjectChange) -> Result<Operation, EncodeError> {
    Ok(match change {
        ObjectChange::Set(name, value) => {
            Operation::set_or_remove(name.into(), SlotValue::new(&value)?)
        }
        ObjectChange::Remove(name) => Operation::Remove { name: name.into() },
        ObjectChange::Clear => Operation::Clear,
        ObjectChange::Send(name, arguments) => {
            let mut all = vec![Value::from(name)];
            all.extend(arguments);
            Operation::Send {
                arguments: Arguments::new(&all)?,
            }
        }
    })
}

fn change(operation: &Operation) -> ObjectChange {
    match operation {
        Operation::Set { name, value: slot } => ObjectChange::Set(name.to_string(), value(slot)),
        Operation::Remove { name } => ObjectChange::Remove(name.to_string()),
        Operation::Clear => ObjectChange::Clear,
        Operation::Send { arguments } => {
            // What an edge or a handler has given could be read.
            let values = arguments.decode(Limits::default()).unwrap_or_default();
            let mut values = values.into_iter();
            let name = values.next().unwrap_or_default();
            let name = name
                .as_string()
                .map(|name| name.to_string_lossy().into_owned());
            ObjectChange::Send(name.unwrap_or_default(), values.collect())
        }
    }
}

fn value(slot: &SlotValue) -> Value {
    slot.decode(Limits::default()).unwrap_or_default()
}

fn failure(refusal: &Refusal) -> ObjectFailure {
    ObjectFailure {
        code: refusal.code().to_owned(),
        description: refusal.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use headwater_amf::Object;

    use super::*;

    #[test]
    fn changes_come_back_as_they_were() {
        let point = Object::typed("Point").with("x", 1.0);
        let all = vec![
            ObjectChange::Set("a".to_owned(), point.into()),
            ObjectChange::Remove("b".to_owned()),
            ObjectChange::Clear,
            ObjectChange::Send("move".to_owned(), vec![1.0.into(), "x".into()]),
        ];
        let said = |changes: Vec<ObjectChange>| ObjectCommand {
            command: 1,
            object: "board".to_owned(),
            persistent: true,
            action: ObjectAction::Apply(changes),
        };
        let Action::Apply(operations) = command(said(all.clone())).unwrap().action else {
            panic!("not applied");
        };
        let told = changed(
            &Changed {
                object: "board".to_owned(),
                persistent: true,
                version: 3,
                author: None,
                operations: operations.into(),
            },
            None,
        );
        assert_eq!(told.changes, all);
        let removed = said(vec![ObjectChange::Set("a".to_owned(), Value::Null)]);
        let removal = Operation::Remove { name: "a".into() };
        assert_eq!(
            command(removed).unwrap().action,
            Action::Apply(vec![removal])
        );
        let bad = said(vec![ObjectChange::Set("a".to_owned(), Value::Ancestor(7))]);
        assert!(command(bad).is_err());
    }
}
