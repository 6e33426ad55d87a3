//! Whose a database is: a row that each of its writers writes first, and the epoch that it counts.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{Batch, Identity, StateError};

/// The key of the row.
pub(super) const KEY: &[u8] = &[Batch::RESERVED, b'o', b'w', b'n', b'e', b'r'];

/// Who owns a partition's database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    /// Of his tenure.
    pub(crate) epoch: u64,
    /// His node id.
    pub(crate) node: String,
    /// Where other nodes reach him.
    pub(crate) address: String,
    /// He has closed the database, and writes no more.
    #[serde(default)]
    pub(crate) left: bool,
}

impl Owner {
    pub(super) fn read(row: &[u8]) -> Result<Self, StateError> {
        serde_json::from_slice(row)
            .map_err(|error| StateError::corrupt(format!("row of the owner: {error}")))
    }

    pub(super) fn to_row(&self) -> Result<Vec<u8>, StateError> {
        serde_json::to_vec(self).map_err(StateError::corrupt)
    }
}

/// A tenure that is about to begin.
#[derive(Clone, Debug)]
pub(super) struct Tenure {
    identity: Identity,
    /// Milliseconds since 1970. The epoch of an instance without a store is the same, so that it is seldom greater than the next one with.
    now: u64,
}

impl Tenure {
    pub(super) fn of(identity: &Identity) -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = since.unwrap_or_default().as_millis();
        Self {
            identity: identity.clone(),
            now: u64::try_from(now).unwrap_or(u64::MAX),
        }
    }

    /// After `before`, if there was an owner.
    pub(super) fn begin(self, before: Option<&Owner>) -> Owner {
        let least = before.map_or(1, |owner| owner.epoch.saturating_add(1));
        Owner {
            epoch: self.now.max(least),
            node: self.identity.node,
            address: self.identity.address,
            left: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenure(now: u64) -> Tenure {
        let identity = Identity {
            node: "a".to_owned(),
            address: "host:1".to_owned(),
        };
        Tenure { identity, now }
    }

    #[test]
    fn an_epoch_is_the_time_and_never_less_than_the_one_before() {
        let first = tenure(1_000).begin(None);
        assert_eq!(first.epoch, 1_000);
        assert_eq!(tenure(2_000).begin(Some(&first)).epoch, 2_000);
        let back = tenure(10).begin(Some(&first));
        assert_eq!(back.epoch, 1_001);
        assert_eq!(tenure(1_001).begin(Some(&back)).epoch, 1_002);
    }

    #[test]
    fn a_row_is_read_as_it_was_written() {
        let owner = tenure(7).begin(None);
        assert_eq!(Owner::read(&owner.to_row().unwrap()).unwrap(), owner);
        assert!(matches!(
            Owner::read(b"{}"),
            Err(StateError::Corrupt { .. })
        ));
    }
}
