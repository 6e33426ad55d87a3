//! Agreeing on keys: what both ends have in the end, and the expensive part of a responder's answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand_core::CryptoRng;
use sha2::{Digest, Sha256};

use super::Transmit;
use super::responder::ResponderConfig;
use super::startup::datagrams;
use crate::crypto::certificate::{Certificate, Fingerprint, Identity, KeySource};
use crate::crypto::components::{self, Components};
use crate::crypto::diffie_hellman::{BadKey, Group, PublicKey, SecretKey, SharedSecret};
use crate::crypto::keys::SessionKeys;
use crate::crypto::negotiation::{self, Agreement, Disagreement, Flags, MacFlags};
use crate::crypto::packet::{Opener, Sealer};
use crate::crypto::signature::{self, Verdict};
use crate::wire::address::bytes_of;
use crate::wire::startup::{InitiatorKeying, ResponderKeying};
use crate::wire::{Malformed, Mode};

/// A session that was opened, as one end has it.
#[derive(Debug)]
pub struct Opened {
    /// Who this end is.
    pub near: Fingerprint,
    /// Which end this is: the [`Mode`] of packets that it sends. It heeds those of the [reverse](Mode::reverse) alone.
    pub mode: Mode,
    /// The session id of packets that come in.
    pub near_id: u32,
    /// The session id of packets that go out.
    pub far_id: u32,
    /// Where packets go to.
    pub address: SocketAddr,
    /// Who the far end says it is. Believe its fingerprint after the first packet that [`opener`](Self::opener) takes, not before: until
    /// then it has not shown that it has the keys. And a peer id without a static key is anybody's who has seen it.
    pub certificate: Certificate,
    /// Encrypts what goes out.
    pub sealer: Sealer,
    /// Decrypts what comes in.
    pub opener: Opener,
    /// What protects packets.
    pub agreement: Agreement,
    /// The nonces, for challenges of applications; the keys, of which `sealer` and `opener` have what they need.
    pub keys: SessionKeys,
    /// The password that the far end knows, by its id.
    pub authenticated_as: Option<Vec<u8>>,
}

impl Opened {
    /// The far end's peer id.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.certificate.fingerprint()
    }
}

/// Why no keys are agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A part cannot be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Session id 0, which means none.
    #[error("session id 0")]
    SessionId,
    /// There is no key where there has to be one, or two.
    #[error("not exactly one key")]
    Keys,
    /// A group that one of the ends does not have.
    #[error("no group that both ends have")]
    Group,
    /// A key that must not be used.
    #[error(transparent)]
    BadKey(#[from] BadKey),
    /// What the ends want of MACs and numbers does not fit.
    #[error(transparent)]
    Disagreement(#[from] Disagreement),
    /// A wrong password, or none where there has to be one.
    #[error("not authenticated")]
    Authentication,
}

/// Tells one keying of an initiator from others: the same for each repetition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyingId([u8; 16]);

impl KeyingId {
    pub(super) fn new(from: SocketAddr, keying: &InitiatorKeying<'_>) -> Self {
        let mut hash = Sha256::new();
        hash.update(bytes_of(from));
        hash.update(keying.session_id.to_be_bytes());
        // Lengths, so that no byte of one part passes for one of the next.
        hash.update((keying.certificate.len() as u64).to_be_bytes());
        hash.update(keying.certificate);
        hash.update(keying.component);
        let whole: [u8; 32] = hash.finalize().into();
        Self(std::array::from_fn(|at| {
            whole.get(at).copied().unwrap_or_default()
        }))
    }
}

/// The key of the far end, from its certificate or from its component.
pub(super) fn far_key(
    certificate: &Certificate,
    component: &Components<'_>,
    group: Option<Group>,
) -> Result<PublicKey, Refusal> {
    match (certificate.keys(), component.ephemeral_key) {
        (KeySource::Ephemeral(_), Some((id, key))) => {
            let known = Group::from_id(id).ok_or(Refusal::Group)?;
            if group.is_some_and(|group| group != known) {
                return Err(Refusal::Group);
            }
            Ok(PublicKey::new(known, key)?)
        }
        (KeySource::Static(_), None) => {
            let group = group.ok_or(Refusal::Group)?;
            let key = certificate.static_key(group);
            key.cloned().ok_or(Refusal::Group)
        }
        _ => Err(Refusal::Keys),
    }
}

/// Whether an identity can agree on a key in a group.
pub(super) fn has_group(identity: &Identity, group: Group) -> bool {
    identity.certificate().groups().contains(&group)
}

/// Who has shown to know a password.
pub(super) fn authenticate(
    signature: &[u8],
    signed: &[&[u8]],
    passwords: &[signature::Password],
    required: bool,
) -> Result<Option<Vec<u8>>, Refusal> {
    match signature::verify(signature, signed, passwords) {
        Verdict::Knows(password) => Ok(Some(password.id.clone())),
        Verdict::Nothing if !required => Ok(None),
        Verdict::Nothing | Verdict::Wrong => Err(Refusal::Authentication),
    }
}

/// What is left to be done for an IIKeying: one power, or two, of some tenths of a millisecond each. All that is cheap was checked.
///
/// Run it where nothing else waits for it, as on a bounded pool of threads, and tell the [`Responder`](super::Responder) what became of it:
/// [`accepted`](super::Responder::accepted), or [`abandoned`](super::Responder::abandoned).
///
/// # Before it is run
/// The caller has the sessions, so that these two are its own to decide (RFC 7016 section 3.5.1.1.2):
/// - An initiator of the caller's own that opens a session to [`source`](Self::source): ask its [`glare`](super::Initiator::glare).
/// - A session that is open to [`source`](Self::source): one with the same [`certificate`](Self::certificate) is to be closed, abruptly, once the
///   new one has received its first packet. With another certificate the specification lets the old session be; a server, which tells
///   sessions apart by their ids, may serve both.
#[derive(Debug)]
pub struct KeyingTask {
    config: Arc<ResponderConfig>,
    id: KeyingId,
    now: Duration,
    from: SocketAddr,
    far_id: u32,
    certificate: Certificate,
    component: Vec<u8>,
    far_key: PublicKey,
    mac: MacFlags,
    sequence: Flags,
    agreement: Agreement,
    authenticated_as: Option<Vec<u8>>,
}

/// What came of a [`KeyingTask`].
#[derive(Debug)]
pub struct Accepted {
    /// The session.
    pub opened: Opened,
    /// Which keying it came of.
    pub id: KeyingId,
    /// The RIKeying, one datagram or, with long keys, more.
    pub reply: Vec<Transmit>,
}

impl KeyingTask {
    /// Checks all that is cheap. The cookie was looked at.
    pub(super) fn new(
        config: &Arc<ResponderConfig>,
        now: Duration,
        from: SocketAddr,
        id: KeyingId,
        keying: &InitiatorKeying<'_>,
        signed: &[u8],
    ) -> Result<Self, Refusal> {
        if keying.session_id == 0 {
            return Err(Refusal::SessionId);
        }
        let certificate = Certificate::read(keying.certificate)?;
        let authenticated_as = authenticate(
            keying.signature,
            &[signed],
            &config.passwords,
            config.password_required,
        )?;
        let component = Components::read(keying.component)?;
        let group = component.group.and_then(Group::from_id);
        let far_key = far_key(&certificate, &component, group)?;
        if !has_group(&config.identity, far_key.group()) {
            return Err(Refusal::Group);
        }
        let protections = &config.protections;
        let mac = protections.mac_flags(protections.mac.as_responder(component.mac.flags));
        let sequence = protections.sequence.as_responder(component.sequence);
        let agreement = negotiation::agree(mac, component.mac, sequence, component.sequence)?;
        Ok(Self {
            config: Arc::clone(config),
            id,
            now,
            from,
            far_id: keying.session_id,
            certificate,
            component: keying.component.to_vec(),
            far_key,
            mac,
            sequence,
            agreement,
            authenticated_as,
        })
    }

    /// Which keying it is.
    #[must_use]
    pub fn id(&self) -> KeyingId {
        self.id
    }

    /// Whom it asks for.
    #[must_use]
    pub fn near(&self) -> Fingerprint {
        self.config.identity.certificate().fingerprint()
    }

    /// Where it came from; proved by the cookie.
    #[must_use]
    pub fn source(&self) -> SocketAddr {
        self.from
    }

    /// Who the initiator says it is.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The initiator's session id.
    #[must_use]
    pub fn far_id(&self) -> u32 {
        self.far_id
    }

    /// Agrees on keys, for a session with the id `near_id`, which is unique among the caller's and not 0.
    ///
    /// # Errors
    /// [`Refusal::SessionId`] for id 0, [`Refusal::Group`] for an identity without its keys: both are mistakes of the caller.
    pub fn run(self, near_id: u32, rng: &mut impl CryptoRng) -> Result<Accepted, Refusal> {
        if near_id == 0 {
            return Err(Refusal::SessionId);
        }
        let group = self.far_key.group();
        let identity = &self.config.identity;
        let (component, secret) = if identity.is_ephemeral() {
            let key = SecretKey::generate(group, rng);
            let component = components::responder_ephemeral(&key, self.mac, self.sequence);
            (component, key.agree(&self.far_key))
        } else {
            let component = components::responder_static(self.mac, self.sequence, rng);
            let key = identity.secret(group);
            (component, key.and_then(|key| key.agree(&self.far_key)))
        };
        let secret: SharedSecret = secret.ok_or(Refusal::Group)?;
        let keys = SessionKeys::derive(&secret, &component, &self.component);
        let mut keying = ResponderKeying {
            session_id: near_id,
            component: &component,
            signature: signature::NOTHING,
        };
        let signature = self.config.password.as_ref().map(|password| {
            let mut signed = Vec::new();
            keying.put_signed(&mut signed);
            signed.extend_from_slice(&self.component);
            signature::sign(password, &signed)
        });
        if let Some(signature) = &signature {
            keying.signature = signature;
        }
        let datagrams = datagrams(self.now, self.far_id, &keying, u64::from(near_id));
        let reply = datagrams.into_iter().map(|datagram| Transmit {
            to: self.from,
            datagram,
        });
        Ok(Accepted {
            id: self.id,
            reply: reply.collect(),
            opened: Opened {
                near: identity.certificate().fingerprint(),
                mode: Mode::Responder,
                near_id,
                far_id: self.far_id,
                address: self.from,
                certificate: self.certificate,
                sealer: keys.sealer(self.agreement),
                opener: keys.opener(self.agreement),
                agreement: self.agreement,
                keys,
                authenticated_as: self.authenticated_as,
            },
        })
    }
}
