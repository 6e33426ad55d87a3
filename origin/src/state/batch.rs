//! Rows that are written together.

use bytes::Bytes;
use slatedb::WriteBatch;

use super::StateError;

/// What a row costs in memory beyond its key and value, bytes, about.
const ROW_OVERHEAD: usize = 64;

/// Rows that become durable together or not at all. Of several for one key the last counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    rows: Vec<(Bytes, Option<Bytes>)>,
    cost: usize,
}

impl Batch {
    /// The longest key, bytes.
    pub(crate) const MAX_KEY: usize = 16_384;

    /// The longest value, bytes: the database counts in 32 bits.
    const MAX_VALUE: usize = 1 << 30;

    /// Keys that begin with this byte are the store's own.
    pub(super) const RESERVED: u8 = 0;

    /// Sets the value of `key`.
    pub(crate) fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.push(key.into(), Some(value.into()));
    }

    /// Removes `key`.
    pub(crate) fn delete(&mut self, key: impl Into<Bytes>) {
        self.push(key.into(), None);
    }

    fn push(&mut self, key: Bytes, value: Option<Bytes>) {
        let length = key.len() + value.as_ref().map_or(0, Bytes::len);
        self.cost = self.cost.saturating_add(length + ROW_OVERHEAD);
        self.rows.push((key, value));
    }

    /// What it takes in memory, bytes, about.
    pub(crate) fn cost(&self) -> usize {
        self.cost
    }

    /// Keys and values; none: the key is removed.
    #[cfg(test)]
    pub(crate) fn rows(&self) -> &[(Bytes, Option<Bytes>)] {
        &self.rows
    }

    /// Whether a database takes it.
    pub(super) fn check(&self) -> Result<(), StateError> {
        let fits = self.rows.iter().all(|(key, value)| {
            key.first().is_some_and(|first| *first != Self::RESERVED)
                && key.len() <= Self::MAX_KEY
                && value.as_ref().map_or(0, Bytes::len) <= Self::MAX_VALUE
        });
        if fits {
            Ok(())
        } else {
            Err(StateError::TooLarge)
        }
    }

    /// Adds the rows to what is to be written.
    pub(super) fn append_to(self, write: &mut WriteBatch) {
        for (key, value) in self.rows {
            match value {
                Some(value) => write.put_bytes(key, value),
                None => write.delete(key),
            }
        }
    }
}
