//! Errors of starting a cluster and of calling its nodes.

use crate::identity::IdentityError;
use crate::member::{MemberError, NodeId};

/// What is wrong with the cluster section of a configuration. The text says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A member entry or an address cannot be read.
    #[error("cluster.{key}: {source}")]
    Member {
        /// The key it stands under.
        key: &'static str,
        /// What is wrong.
        source: MemberError,
    },
    /// Two members with one id.
    #[error("cluster.members: the node id {0} stands there twice")]
    Duplicate(NodeId),
    /// More members than a cluster may have.
    #[error("cluster.members: {count} members, at most {limit} are allowed")]
    TooManyMembers {
        /// How many there are.
        count: usize,
        /// How many may be.
        limit: usize,
    },
    /// A number out of its range.
    #[error("cluster.{key} is {value}, it has to be from {min} to {max}")]
    Range {
        /// Dotted key below `cluster`.
        key: &'static str,
        /// What was written.
        value: u64,
        /// Smallest allowed value.
        min: u64,
        /// Largest allowed value.
        max: u64,
    },
    /// A key that the chosen membership source needs.
    #[error("cluster.{key} is missing: {reason}")]
    Missing {
        /// The key.
        key: &'static str,
        /// Why it is needed.
        reason: &'static str,
    },
    /// Plain text on a network, without the operator's word.
    #[error(
        "{what} {address} is not on the loopback interface, and traffic to it would be plain text: give this node a certificate (cluster.tls), or set cluster.insecure = true if the network between nodes is private"
    )]
    PlainText {
        /// What has the address.
        what: &'static str,
        /// The address.
        address: String,
    },
    /// An origin that is not in its own member list.
    #[error(
        "this origin is {id}, but cluster.members does not list it: add {id}=host:port on every node, or correct the node id"
    )]
    NotAMember {
        /// The id of this node.
        id: NodeId,
    },
    /// An edge with the id of an origin.
    #[error(
        "this edge is {id}, but an origin in cluster.members has that id: give the edge a name of its own"
    )]
    EdgeIsMember {
        /// The id of this node.
        id: NodeId,
    },
}

/// Why a cluster could not be joined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// The configuration is not valid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The node's certificate is not usable.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Called outside a tokio runtime.
    #[error("a cluster can only be started on a tokio runtime")]
    NoRuntime,
}

/// Why there is no channel to a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The node is not, or no longer, a member.
    #[error("node {0} is not a member of the cluster")]
    UnknownNode(String),
    /// Its address is missing or cannot be read, or plain text to it is not allowed.
    #[error("node {node} has the unusable address {address:?}")]
    Address {
        /// The node.
        node: NodeId,
        /// Its address.
        address: String,
    },
}
