//! Where members come from. Consumers see only [`Change`]s: a new source is one more task that calls `Shared::apply`.
//!
//! - `static`: the list of the configuration, there from the start; a reload replaces it.
//! - `dns`: see [`dns`].

use crate::member::{Member, NodeId};

pub(crate) mod dns;

/// A change of the member list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Added(Member),
    /// Another address or weight.
    Changed(Member),
    Removed(NodeId),
}
