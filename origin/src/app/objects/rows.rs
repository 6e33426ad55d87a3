//! Objects as rows of the state store.
//!
//! ```text
//! key of a slot   1  vhost  app  instance  object  1 name      each part but the last with its length before it, 16 bits
//! its value       1  version (64 bits)  value                  it is there
//!                 0  version                                   it was removed
//! key of the meta row   ...  0
//! its value       1  epoch  version  remembered since (64 bits each)  then for each edge: incarnation, number (64 bits each)
//! ```
//! Numbers are big-endian. Removals that are no longer remembered have no row.

use std::collections::HashSet;

use bytes::{BufMut, Bytes, BytesMut};
use headwater_media::name::InstanceName;
use headwater_shared_object::master::{Meta, Row, Rows};
use headwater_shared_object::object::{
    AppliedRequests, EdgeIncarnation, Epoch, ObjectName, SlotName, Version,
};
use headwater_shared_object::value::SlotValue;

use crate::state::Batch;

/// What rows of objects begin with: the store has others, too.
const KIND: u8 = 1;

const META: u8 = 0;
const SLOT: u8 = 1;

/// The form of the meta row.
const FORM: u8 = 1;

const REMOVED: u8 = 0;
const PRESENT: u8 = 1;

/// The most edges that a meta row has.
const MAX_EDGES: usize = 4_096;

/// Where the rows of one object are.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: Bytes,
}

/// Rows that are none of an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RowError {
    #[error("slots without a meta row")]
    NoMeta,
    #[error("the meta row cannot be read")]
    Meta,
    #[error("the row of a slot cannot be read")]
    Slot,
}

/// What is stored of an object.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) meta: Meta,
    pub(super) rows: Vec<Row>,
}

impl Keys {
    pub(super) fn new(instance: &InstanceName, object: &ObjectName) -> Self {
        let parts = [
            instance.vhost.as_str(),
            &instance.app,
            &instance.instance,
            object.as_str(),
        ];
        let mut prefix = BytesMut::new();
        prefix.put_u8(KIND);
        for part in parts {
            // Names are far shorter; a longer one would have no more than an unusual key.
            prefix.put_u16(u16::try_from(part.len()).unwrap_or(u16::MAX));
            prefix.put_slice(part.as_bytes());
        }
        Self {
            prefix: prefix.freeze(),
        }
    }

    /// What all keys of the object begin with, and no others.
    pub(super) fn prefix(&self) -> &Bytes {
        &self.prefix
    }

    fn key(&self, kind: u8, name: &str) -> Bytes {
        let mut key = BytesMut::with_capacity(self.prefix.len() + 1 + name.len());
        key.put_slice(&self.prefix);
        key.put_u8(kind);
        key.put_slice(name.as_bytes());
        key.freeze()
    }

    /// What is to be written; `stored` are the names of the slots that have rows, before and then after it.
    pub(super) fn batch(&self, rows: Rows, stored: &mut HashSet<SlotName>) -> Batch {
        let mut batch = Batch::default();
        if rows.clear {
            let kept: HashSet<&SlotName> = rows.put.iter().map(name_of).collect();
            for name in stored.drain() {
                if !kept.contains(&name) {
                    batch.delete(self.key(SLOT, &name));
                }
            }
        }
        for name in &rows.delete {
            if stored.remove(name) {
                batch.delete(self.key(SLOT, name));
            }
        }
        for row in &rows.put {
            let name = name_of(row);
            stored.insert(name.clone());
            batch.put(self.key(SLOT, name), slot_row(row));
        }
        batch.put(self.key(META, ""), meta_row(&rows.meta));
        batch
    }

    /// Reads the rows of the object; `None` where there are none.
    pub(super) fn read(&self, found: &[(Bytes, Bytes)]) -> Result<Option<Stored>, RowError> {
        let mut meta = None;
        let mut rows = Vec::with_capacity(found.len());
        for (key, value) in found {
            match key.strip_prefix(&*self.prefix) {
                Some([META]) => meta = Some(read_meta(value).ok_or(RowError::Meta)?),
                Some([SLOT, name @ ..]) => {
                    rows.push(read_slot(name, value).ok_or(RowError::Slot)?);
                }
                _ => return Err(RowError::Slot),
            }
        }
        match meta {
            Some(meta) => Ok(Some(Stored { meta, rows })),
            None if rows.is_empty() => Ok(None),
            None => Err(RowError::NoMeta),
        }
    }
}

pub(super) fn name_of(row: &Row) -> &SlotName {
    match row {
        Row::Slot { name, .. } | Row::Removed { name, .. } => name,
    }
}

fn slot_row(row: &Row) -> Bytes {
    let mut bytes = BytesMut::new();
    match row {
        Row::Slot { value, version, .. } => {
            bytes.put_u8(PRESENT);
            bytes.put_u64(version.0);
            bytes.put_slice(value.as_bytes());
        }
        Row::Removed { version, .. } => {
            bytes.put_u8(REMOVED);
            bytes.put_u64(version.0);
        }
    }
    bytes.freeze()
}

fn read_slot(name: &[u8], row: &[u8]) -> Option<Row> {
    let name: SlotName = std::str::from_utf8(name).ok()?.into();
    let (kind, rest) = row.split_first()?;
    let (version, value) = number(rest)?;
    let version = Version(version);
    match *kind {
        PRESENT if !value.is_empty() => Some(Row::Slot {
            name,
            value: SlotValue::from_node(value),
            version,
        }),
        REMOVED if value.is_empty() => Some(Row::Removed { name, version }),
        _ => None,
    }
}

fn meta_row(meta: &Meta) -> Bytes {
    let mut bytes = BytesMut::with_capacity(1 + 8 * (3 + 2 * meta.applied.len()));
    bytes.put_u8(FORM);
    bytes.put_u64(meta.epoch.0);
    bytes.put_u64(meta.version.0);
    bytes.put_u64(meta.remembered_since.0);
    for applied in &meta.applied {
        bytes.put_u64(applied.edge.0);
        bytes.put_u64(applied.number);
    }
    bytes.freeze()
}

fn read_meta(row: &[u8]) -> Option<Meta> {
    let (form, rest) = row.split_first()?;
    if *form != FORM {
        return None;
    }
    let (epoch, rest) = number(rest)?;
    let (version, rest) = number(rest)?;
    let (remembered_since, mut rest) = number(rest)?;
    let mut applied = Vec::new();
    while !rest.is_empty() {
        let (edge, after) = number(rest)?;
        let (count, after) = number(after)?;
        applied.push(AppliedRequests {
            edge: EdgeIncarnation(edge),
            number: count,
        });
        if applied.len() > MAX_EDGES {
            return None;
        }
        rest = after;
    }
    Some(Meta {
        epoch: Epoch(epoch),
        version: Version(version),
        remembered_since: Version(remembered_since),
        applied,
    })
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), rest))
}
