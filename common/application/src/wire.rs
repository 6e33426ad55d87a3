//! Shared objects between nodes: the types of `headwater-shared-object` in the encoding of `proto/headwater/v1/application.proto`.
//!
//! Nodes trust each other: what is missing of a message is taken for empty, and an operation that this version does not know is left out.
//! Only names are checked, because they become keys.

use headwater_proto::v1;
use headwater_proto::v1::object_operation::Operation as Wire;
use headwater_shared_object::mirror::Request;
use headwater_shared_object::object::{
    AppliedRequests, EdgeIncarnation, Epoch, NameError, ObjectName, Operation, Persistence,
    RemovedSlot, RequestId, Slot, State, Update, Version,
};
use headwater_shared_object::value::{Arguments, SlotValue};

/// The name of an object with its persistence.
#[must_use]
pub fn object_name(name: &ObjectName, persistence: Persistence) -> v1::ObjectName {
    v1::ObjectName {
        name: name.as_str().to_owned(),
        persistent: persistence == Persistence::Persistent,
    }
}

/// Reads the name of an object.
///
/// # Errors
/// [`NameError`] for a name that is none, or a missing one.
pub fn read_object_name(
    name: Option<&v1::ObjectName>,
) -> Result<(ObjectName, Persistence), NameError> {
    let name = name.ok_or(NameError::Empty)?;
    Ok((ObjectName::parse(&name.name)?, persistence(name.persistent)))
}

/// What the flag of a message means.
#[must_use]
pub const fn persistence(persistent: bool) -> Persistence {
    if persistent {
        Persistence::Persistent
    } else {
        Persistence::Temporary
    }
}

/// A mirror's request.
#[must_use]
pub fn request(
    name: &ObjectName,
    persistence: Persistence,
    request: &Request,
) -> v1::ObjectRequest {
    v1::ObjectRequest {
        object: Some(object_name(name, persistence)),
        number: request.number,
        client: request.client.0,
        operations: operations(&request.operations),
    }
}

/// Operations, in their order.
#[must_use]
pub fn operations(operations: &[Operation]) -> Vec<v1::ObjectOperation> {
    let wire = |operation: &Operation| match operation {
        Operation::Set { name, value } => Wire::Set(v1::Slot {
            name: name.to_string(),
            value: value.as_bytes().clone(),
            version: 0,
        }),
        Operation::Remove { name } => Wire::Remove(name.to_string()),
        Operation::Clear => Wire::Clear(v1::ObjectClear {}),
        Operation::Send { arguments } => Wire::Send(arguments.as_bytes().clone()),
    };
    operations
        .iter()
        .map(|operation| v1::ObjectOperation {
            operation: Some(wire(operation)),
        })
        .collect()
}

/// Reads operations.
#[must_use]
pub fn read_operations(operations: &[v1::ObjectOperation]) -> Vec<Operation> {
    let read = |operation: &v1::ObjectOperation| {
        Some(match operation.operation.as_ref()? {
            Wire::Set(slot) => Operation::Set {
                name: slot.name.as_str().into(),
                value: SlotValue::from_node(&slot.value),
            },
            Wire::Remove(name) => Operation::Remove {
                name: name.as_str().into(),
            },
            Wire::Clear(_) => Operation::Clear,
            Wire::Send(arguments) => Operation::Send {
                arguments: Arguments::from_node(arguments),
            },
        })
    };
    operations.iter().filter_map(read).collect()
}

/// An owner's update.
#[must_use]
pub fn update(name: &ObjectName, persistence: Persistence, update: &Update) -> v1::ObjectUpdate {
    v1::ObjectUpdate {
        object: Some(object_name(name, persistence)),
        version: update.version.0,
        operations: operations(&update.operations),
        edge_incarnation: update.request.map_or(0, |request| request.edge.0),
        number: update.request.map_or(0, |request| request.number),
        repeated: update.is_repeated,
    }
}

/// Reads an update.
#[must_use]
pub fn read_update(update: &v1::ObjectUpdate) -> Update {
    Update {
        version: Version(update.version),
        // Numbers count from 1.
        request: (update.number > 0).then_some(RequestId {
            edge: EdgeIncarnation(update.edge_incarnation),
            number: update.number,
        }),
        operations: read_operations(&update.operations).into(),
        is_repeated: update.repeated,
    }
}

/// A state, or a piece of one.
#[must_use]
pub fn state(name: &ObjectName, persistence: Persistence, state: &State) -> v1::ObjectState {
    v1::ObjectState {
        object: Some(object_name(name, persistence)),
        epoch: state.epoch.0,
        version: state.version.0,
        since: state.since.0,
        slots: state.slots.iter().map(slot).collect(),
        removed: (state.removed.iter())
            .map(|removed| v1::RemovedSlot {
                name: removed.name.to_string(),
                version: removed.version.0,
            })
            .collect(),
        remembered_since: state.remembered_since.0,
        applied: (state.applied.iter())
            .map(|applied| v1::AppliedRequests {
                edge_incarnation: applied.edge.0,
                number: applied.number,
            })
            .collect(),
        more: state.more,
    }
}

fn slot(slot: &Slot) -> v1::Slot {
    v1::Slot {
        name: slot.name.to_string(),
        value: slot.value.as_bytes().clone(),
        version: slot.version.0,
    }
}

/// Reads a state, or a piece of one.
#[must_use]
pub fn read_state(state: &v1::ObjectState) -> State {
    State {
        epoch: Epoch(state.epoch),
        version: Version(state.version),
        since: Version(state.since),
        slots: (state.slots.iter())
            .map(|slot| Slot {
                name: slot.name.as_str().into(),
                value: SlotValue::from_node(&slot.value),
                version: Version(slot.version),
            })
            .collect(),
        removed: (state.removed.iter())
            .map(|removed| RemovedSlot {
                name: removed.name.as_str().into(),
                version: Version(removed.version),
            })
            .collect(),
        remembered_since: Version(state.remembered_since),
        applied: (state.applied.iter())
            .map(|applied| AppliedRequests {
                edge: EdgeIncarnation(applied.edge_incarnation),
                number: applied.number,
            })
            .collect(),
        more: state.more,
    }
}

#[cfg(test)]
mod tests {
    use headwater_shared_object::object::ClientId;

    use super::*;

    fn some_operations() -> Vec<Operation> {
        vec![
            Operation::Clear,
            Operation::Set {
                name: "a".into(),
                value: SlotValue::from_node(&[2, 0, 1, b'x']),
            },
            Operation::Remove { name: "b".into() },
            Operation::Send {
                arguments: Arguments::from_node(&[2, 0, 1, b'f', 5]),
            },
        ]
    }

    #[test]
    fn what_is_written_is_read_again() {
        let name = ObjectName::parse("rooms/1").unwrap();
        for persistence in [Persistence::Temporary, Persistence::Persistent] {
            let wire = object_name(&name, persistence);
            assert_eq!(
                read_object_name(Some(&wire)),
                Ok((name.clone(), persistence))
            );
        }
        let asked = Request {
            number: 7,
            client: ClientId(3),
            operations: some_operations().into(),
        };
        let wire = request(&name, Persistence::Temporary, &asked);
        assert_eq!((wire.number, wire.client), (7, 3));
        assert_eq!(read_operations(&wire.operations), some_operations());
        for request in [
            None,
            Some(RequestId {
                edge: EdgeIncarnation(9),
                number: 7,
            }),
        ] {
            let told = Update {
                version: Version(5),
                request,
                operations: some_operations().into(),
                is_repeated: request.is_some(),
            };
            let wire = update(&name, Persistence::Temporary, &told);
            assert_eq!(read_update(&wire), told);
        }
        let whole = State {
            epoch: Epoch(1),
            version: Version(5),
            since: Version(2),
            slots: vec![Slot {
                name: "".into(),
                value: SlotValue::from_node(&[5]),
                version: Version(3),
            }],
            removed: vec![RemovedSlot {
                name: "b".into(),
                version: Version(4),
            }],
            remembered_since: Version(1),
            applied: vec![AppliedRequests {
                edge: EdgeIncarnation(9),
                number: 7,
            }],
            more: true,
        };
        let wire = state(&name, Persistence::Temporary, &whole);
        assert_eq!(read_state(&wire), whole);
    }

    #[test]
    fn names_are_checked_and_unknown_operations_left_out() {
        assert_eq!(read_object_name(None), Err(NameError::Empty));
        let name = v1::ObjectName {
            name: "../x".to_owned(),
            persistent: false,
        };
        assert!(read_object_name(Some(&name)).is_err());
        let unknown = v1::ObjectOperation { operation: None };
        assert_eq!(read_operations(&[unknown]), []);
    }
}
