//! Introductions and relayed commands: to a client of this edge at once, to others through the owner of the peer.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use headwater_media::name::StreamName;
use headwater_proto::v1;
use headwater_proto::v1::introduce_response::Response as Answer;
use headwater_proto::v1::peers_client::PeersClient;
use headwater_proto::v1::relay_response::Response as Passed;
use headwater_rtmfp::crypto::certificate::Fingerprint;
use headwater_rtmfp::handshake::Lookup;
use headwater_rtmfp::wire::Address;
use tonic::transport::Channel;
use tracing::debug;

use super::{Key, Peers, Port, Told, address};
use crate::upstream::Target;

/// How long an owner may take. An initiator asks again after a second: what is later is of no use.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Longest command that is relayed, in bytes; origins take as many.
pub(crate) const MAX_COMMAND: usize = 16 << 10;

/// Why nobody was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Failure {
    #[error("nobody has registered the peer")]
    Unknown,
    #[error("no address of the peer is of use to who asks")]
    NoAddress,
    #[error("no origin can be reached")]
    NoOrigin,
    #[error("the owner of the peer failed to answer")]
    Failed,
    #[error("the owner of the peer did not answer in time")]
    Late,
    #[error("too many calls are under way")]
    TooMany,
}

impl Failure {
    fn outcome(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::NoAddress => "no_address",
            Self::NoOrigin => "no_origin",
            Self::Failed => "failed",
            Self::Late => "late",
            Self::TooMany => "too_many",
        }
    }
}

impl Peers {
    /// Somebody at `initiator` (where it is seen at first) asks for a peer. What is found is told to the driver that asks, at once or
    /// later; who is not found is not answered.
    pub(crate) fn introduce(
        &self,
        port: &Port,
        lookup: Lookup,
        peer: Fingerprint,
        initiator: Vec<Address>,
    ) {
        let tag = Bytes::copy_from_slice(&lookup.tag);
        if let Some(addresses) = self.hello(peer, tag.clone(), &initiator) {
            let found = self.found(port, peer, lookup, &addresses);
            self.introduced(peer, found.map(|()| "here"));
            return;
        }
        let Ok(permit) = std::sync::Arc::clone(&self.0.calls).try_acquire_owned() else {
            self.introduced(peer, Err(Failure::TooMany));
            return;
        };
        let (peers, port) = (self.clone(), port.clone());
        self.0.tasks.spawn(async move {
            let asked = peers.ask_for(peer, tag, &initiator);
            let asked = tokio::time::timeout(TIMEOUT, asked).await;
            let outcome = asked.unwrap_or(Err(Failure::Late));
            let outcome =
                outcome.and_then(|addresses| peers.found(&port, peer, lookup, &addresses));
            peers.introduced(peer, outcome.map(|()| "elsewhere"));
            drop(permit);
        });
    }

    fn found(
        &self,
        port: &Port,
        peer: Fingerprint,
        lookup: Lookup,
        addresses: &[Address],
    ) -> Result<(), Failure> {
        let from = lookup.from;
        if addresses.is_empty() {
            // A member of an edge that does not know where it is reached: it answers itself.
            return Ok(());
        }
        let addresses = address::useful(addresses, from);
        if addresses.is_empty() {
            return Err(Failure::NoAddress);
        }
        debug!(%from, %peer, count = addresses.len(), "introduced");
        self.tell(port, Told::Found { lookup, addresses });
        Ok(())
    }

    fn introduced(&self, peer: Fingerprint, outcome: Result<&'static str, Failure>) {
        let outcome = outcome.unwrap_or_else(|failure| {
            debug!(%peer, why = %failure, "not introduced");
            failure.outcome()
        });
        self.0.meters.introduction(outcome);
    }

    /// Has a client of this edge told that somebody asks for it. Gives its addresses.
    pub(super) fn hello(
        &self,
        peer: Fingerprint,
        tag: Bytes,
        initiator: &[Address],
    ) -> Option<Vec<Address>> {
        let (holder, addresses) = {
            let table = self.table();
            let (holder, addresses) = table.find(&peer)?;
            (holder.clone(), addresses.to_vec())
        };
        let seen: Option<SocketAddr> = addresses.iter().chain(initiator).map(|it| it.socket).next();
        let initiator = seen.map_or_else(Vec::new, |seen| address::for_hellos(initiator, seen));
        if initiator.is_empty() {
            debug!(%peer, "who asks for it cannot be reached from there");
        } else {
            let session = holder.session;
            let told = Told::Hello {
                session,
                peer,
                tag,
                initiator,
            };
            if self.tell(&holder.port, told) {
                self.0.meters.forwarded.inc();
            }
        }
        Some(addresses)
    }

    async fn ask_for(
        &self,
        peer: Fingerprint,
        tag: Bytes,
        initiator: &[Address],
    ) -> Result<Vec<Address>, Failure> {
        let name = Key::Peer(peer).name().ok_or(Failure::Unknown)?;
        let upstream = &self.0.upstream;
        let mut target = upstream.target(&name).ok_or(Failure::NoOrigin)?;
        for _ in 0..2 {
            let request = v1::IntroduceRequest {
                peer_id: Bytes::copy_from_slice(&peer.0),
                tag: tag.clone(),
                initiator: address::to_wire(initiator),
                routing: Some(upstream.routing(&target)),
                edge: upstream.node.clone(),
            };
            let mut client = self.client(&target, &name)?;
            let answer = client.introduce(request).await;
            match self.answered(&target, answer)?.response {
                Some(Answer::Introduced(found)) => {
                    return Ok(address::from_wire(&found.addresses));
                }
                Some(Answer::Moved(moved)) => target = self.follow(&name, &moved)?,
                Some(Answer::Unknown(_)) | None => return Err(Failure::Unknown),
            }
        }
        Err(Failure::Failed)
    }

    fn client(&self, target: &Target, name: &StreamName) -> Result<PeersClient<Channel>, Failure> {
        let hash = headwater_cluster::ring::stream_hash(name);
        let channel = self.0.upstream.cluster.channel(&target.node, hash);
        channel.map(PeersClient::new).map_err(|_| Failure::NoOrigin)
    }

    fn answered<T>(
        &self,
        target: &Target,
        answer: Result<tonic::Response<T>, tonic::Status>,
    ) -> Result<T, Failure> {
        answer.map(tonic::Response::into_inner).map_err(|status| {
            debug!(node = %target.node, %status, "a question for a peer failed");
            self.0.upstream.cluster.report_failure(&target.node);
            Failure::Failed
        })
    }

    fn follow(&self, name: &StreamName, moved: &v1::Moved) -> Result<Target, Failure> {
        let named = self.0.upstream.named(name, moved);
        named.ok_or(Failure::Failed)
    }

    /// Sends a command to a peer, wherever it is; at most [`MAX_COMMAND`] bytes.
    pub(crate) fn relay(&self, peer: Fingerprint, command: Bytes) {
        if self.command(peer, command.clone()) {
            self.0.meters.relay("here");
            return;
        }
        let Ok(permit) = std::sync::Arc::clone(&self.0.calls).try_acquire_owned() else {
            self.relayed(peer, Err(Failure::TooMany));
            return;
        };
        let peers = self.clone();
        self.0.tasks.spawn(async move {
            let asked = tokio::time::timeout(TIMEOUT, peers.pass_on(peer, command)).await;
            let outcome = asked.unwrap_or(Err(Failure::Late));
            peers.relayed(peer, outcome);
            drop(permit);
        });
    }

    fn relayed(&self, peer: Fingerprint, outcome: Result<(), Failure>) {
        let outcome = outcome.map_or_else(
            |failure| {
                debug!(%peer, why = %failure, "a command was not relayed");
                failure.outcome()
            },
            |()| "elsewhere",
        );
        self.0.meters.relay(outcome);
    }

    /// Has a client of this edge sent a command. Whether it is one.
    pub(super) fn command(&self, peer: Fingerprint, command: Bytes) -> bool {
        let holder = self.table().find(&peer).map(|(holder, _)| holder.clone());
        let Some(holder) = holder else {
            return false;
        };
        if command.len() <= MAX_COMMAND {
            let session = holder.session;
            self.tell(&holder.port, Told::Command { session, command });
        }
        true
    }

    async fn pass_on(&self, peer: Fingerprint, command: Bytes) -> Result<(), Failure> {
        let name = Key::Peer(peer).name().ok_or(Failure::Unknown)?;
        let upstream = &self.0.upstream;
        let mut target = upstream.target(&name).ok_or(Failure::NoOrigin)?;
        for _ in 0..2 {
            let request = v1::RelayRequest {
                peer_id: Bytes::copy_from_slice(&peer.0),
                command: command.clone(),
                routing: Some(upstream.routing(&target)),
                edge: upstream.node.clone(),
            };
            let mut client = self.client(&target, &name)?;
            let answer = client.relay(request).await;
            match self.answered(&target, answer)?.response {
                Some(Passed::Relayed(_)) => return Ok(()),
                Some(Passed::Moved(moved)) => target = self.follow(&name, &moved)?,
                Some(Passed::Unknown(_)) | None => return Err(Failure::Unknown),
            }
        }
        Err(Failure::Failed)
    }
}
