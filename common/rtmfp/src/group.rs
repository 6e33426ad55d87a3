//! Groups of clients (NetGroup): what they and servers say to each other of them, and a member that publishes a stream.
//!
//! There is no specification of it; this is what clients do.
//!
//! | module | what it holds |
//! |---|---|
//! | [`specification`] | the text that members share, and the id that it has |
//! | [`message`] | what members say to each other |
//! | `kept` | the fragments of a stream |
//! | `neighbour` | one session between a publisher and a member |
//! | [`publisher`] | a member that publishes |
//! | [`viewer`] | a member that plays |
//!
//! # What is known, and what is not
//! All of it was learnt from librtmfp 787eb39 and tried with its `TestClient` as a member that plays, over the loopback interface: connecting with
//! a proof from both ends, reports, the description of a stream, maps, pushes and pulls, whole and cut messages, the end. Nothing was tried with
//! Flash Player. Guessed is: that a neighbour which plays nothing may be refused its own streams, that a command `closeStream` before the end means
//! to others what it means to librtmfp, and that 300 s in a description is what option `04` says. Not known, and not done: which option of a
//! specification allows what, how authorisations (passwords for publishing and posting) are shown, posts, replicated objects, IP multicast.
//!
//! # Clients and servers
//! A client that joins a group opens a flow with the metadata [`METADATA`] to its server and says which group it means; closing the flow
//! leaves the group. In a flow back, with the same metadata and associated to the client's, the server names members that the client may
//! open sessions to. What members say to each other the server sees where it is one itself.
//!
//! | message | bytes |
//! |---|---|
//! | join | `01`, an option `15` with the group's id, or `10` with the specification that the id is the hash of |
//! | neighbour | `0b`, peer id |

pub mod message;
pub mod publisher;
pub mod specification;
pub mod viewer;

mod kept;
mod neighbour;

pub use publisher::{Publisher, PublisherConfig, Stream, Talked};
pub use specification::{BadSpecification, Specification};
pub use viewer::Viewer;

use std::fmt;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::crypto::certificate::Fingerprint;
use crate::wire::field::put_option;
use crate::wire::{Field, Fields, Malformed};

/// Metadata of the flows.
pub const METADATA: &[u8] = b"GC";

const JOIN: u8 = 0x01;
const NEIGHBOUR: u8 = 0x0b;

const ID: u64 = 0x15;
const SPECIFICATION: u64 = 0x10;

/// Bytes of the longest specification that is taken.
const LONGEST: usize = 4_096;

/// Which group.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId(pub [u8; 32]);

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GroupId({self})")
    }
}

/// Which group a client joins with its first message.
///
/// # Errors
/// [`Malformed`] for everything else.
pub fn read_join(message: &[u8]) -> Result<GroupId, Malformed> {
    let mut fields = Fields::new(message);
    if fields.u8()? != JOIN {
        return Err(Fields::new(message).malformed("not a join"));
    }
    let start = fields;
    match fields.option()? {
        Field::Option { kind: ID, value } => {
            let id = <[u8; 32]>::try_from(value);
            id.map(GroupId)
                .map_err(|_| start.malformed("a group id that has not 32 bytes"))
        }
        Field::Option {
            kind: SPECIFICATION,
            value,
        } if !value.is_empty() && value.len() <= LONGEST => {
            Ok(GroupId(Sha256::digest(value).into()))
        }
        _ => Err(start.malformed("a join without a group")),
    }
}

/// The message with which a client joins a group.
#[must_use]
pub fn join(group: &GroupId) -> Bytes {
    let mut out = vec![JOIN];
    put_option(ID, &group.0, &mut out);
    out.into()
}

/// The member that a server names.
///
/// # Errors
/// [`Malformed`] for everything else.
pub fn read_neighbour(message: &[u8]) -> Result<Fingerprint, Malformed> {
    let mut fields = Fields::new(message);
    if fields.u8()? != NEIGHBOUR {
        return Err(Fields::new(message).malformed("not a neighbour"));
    }
    fields.array().map(Fingerprint)
}

/// The message with which a server names a member.
#[must_use]
pub fn neighbour(peer: &Fingerprint) -> Bytes {
    [&[NEIGHBOUR], &peer.0[..]].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_name_a_group_are_read() {
        let id = GroupId([0xab; 32]);
        let message = join(&id);
        assert_eq!(message[..3], [0x01, 0x21, 0x15]);
        assert_eq!(read_join(&message), Ok(id));
        // What old players send.
        let specification = b"G:01010103010c050e74657374";
        let mut message = vec![0x01];
        put_option(0x10, specification, &mut message);
        let hash = GroupId(Sha256::digest(specification).into());
        assert_eq!(read_join(&message), Ok(hash));
    }

    #[test]
    fn other_messages_join_nothing() {
        let whole = join(&GroupId([1; 32]));
        for length in 0..whole.len() {
            assert!(read_join(&whole[..length]).is_err(), "{length}");
        }
        let mut long = vec![0x01];
        put_option(0x10, &[b'G'; LONGEST + 1], &mut long);
        let mut short = vec![0x01];
        put_option(0x15, &[7; 31], &mut short);
        let mut empty = vec![0x01];
        put_option(0x10, &[], &mut empty);
        let unknown = b"\x01\x02\x11x".to_vec();
        for bytes in [
            long,
            short,
            empty,
            unknown,
            vec![0x01, 0x00],
            vec![0x14; 40],
        ] {
            assert!(read_join(&bytes).is_err(), "{bytes:02x?}");
        }
    }

    #[test]
    fn neighbours_are_named_by_their_ids() {
        let peer = Fingerprint([5; 32]);
        let message = neighbour(&peer);
        assert_eq!((message.len(), message[0]), (33, 0x0b));
        assert_eq!(read_neighbour(&message), Ok(peer));
        assert!(read_neighbour(&message[..32]).is_err());
        assert!(read_neighbour(&join(&GroupId([5; 32]))).is_err());
    }
}
