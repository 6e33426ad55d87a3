//! The chunks of the handshake: RFC 7016 sections 2.3.2 to 2.3.8.
//!
//! What is a certificate, a discriminator, a component or a signature here is bytes; the Flash profile gives them their meaning, in
//! `crypto`. Each chunk reads from, and writes, what it holds without its header.

use super::address::Address;
use super::chunk::{ChunkKind, Payload};
use super::field::{Fields, Malformed, put_prefixed};

/// IHello: an initiator asks for whoever the discriminator selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitiatorHello<'a> {
    /// Who is asked for.
    pub discriminator: &'a [u8],
    /// What the answer has to repeat.
    pub tag: &'a [u8],
}

impl<'a> InitiatorHello<'a> {
    /// Reads one.
    ///
    /// # Errors
    /// [`Malformed`] where the bytes end before it.
    pub fn read(payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new(payload);
        Ok(Self {
            discriminator: fields.prefixed()?,
            tag: fields.rest(),
        })
    }
}

impl Payload for InitiatorHello<'_> {
    const KIND: ChunkKind = ChunkKind::INITIATOR_HELLO;

    fn put(&self, out: &mut Vec<u8>) {
        put_prefixed(self.discriminator, out);
        out.extend_from_slice(self.tag);
    }
}

/// FIHello: the same, passed on within a session of whom it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardedHello<'a> {
    /// Who is asked for.
    pub discriminator: &'a [u8],
    /// Where the initiator is.
    pub reply_to: Address,
    /// What the answer has to repeat.
    pub tag: &'a [u8],
}

impl<'a> ForwardedHello<'a> {
    /// Reads one.
    ///
    /// # Errors
    /// [`Malformed`] where the bytes end before it.
    pub fn read(payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new(payload);
        Ok(Self {
            discriminator: fields.prefixed()?,
            reply_to: Address::read(&mut fields)?,
            tag: fields.rest(),
        })
    }
}

impl Payload for ForwardedHello<'_> {
    const KIND: ChunkKind = ChunkKind::FORWARDED_HELLO;

    fn put(&self, out: &mut Vec<u8>) {
        put_prefixed(self.discriminator, out);
        self.reply_to.put(out);
        out.extend_from_slice(self.tag);
    }
}

/// RHello: the responder's answer, of which it keeps nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponderHello<'a> {
    /// The tag of the initiator.
    pub tag: &'a [u8],
    /// What the initiator has to repeat from the same address.
    pub cookie: &'a [u8],
    /// Who the responder is.
    pub certificate: &'a [u8],
}

impl<'a> ResponderHello<'a> {
    /// Reads one.
    ///
    /// # Errors
    /// [`Malformed`] where the bytes end before it.
    pub fn read(payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new(payload);
        Ok(Self {
            tag: fields.prefixed()?,
            cookie: fields.prefixed()?,
            certificate: fields.rest(),
        })
    }
}

impl Payload for ResponderHello<'_> {
    const KIND: ChunkKind = ChunkKind::RESPONDER_HELLO;

    fn put(&self, out: &mut Vec<u8>) {
        put_prefixed(self.tag, out);
        put_prefixed(self.cookie, out);
        out.extend_from_slice(self.certificate);
    }
}

/// Responder Redirect: where to ask instead, or in addition. Without an address it means the one that it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirect<'a> {
    /// The tag of the initiator.
    pub tag: &'a [u8],
    /// The addresses, as bytes.
    addresses: &'a [u8],
}

impl<'a> Redirect<'a> {
    /// Reads one.
    ///
    /// # Errors
    /// [`Malformed`] where the bytes end before it.
    pub fn read(payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new(payload);
        Ok(Self {
            tag: fields.prefixed()?,
            addresses: fields.rest(),
        })
    }

    /// Its addresses, up to one that is malformed. There can be as many as fit into a packet: take a bounded number.
    pub fn addresses(&self) -> impl Iterator<Item = Address> + use<'a> {
        let mut fields = Fields::new(self.addresses);
        std::iter::from_fn(move || Address::read(&mut fields).ok())
    }
}

/// A [`Redirect`] to be written.
#[derive(Clone, Copy, Debug)]
pub struct RedirectTo<'a> {
    /// The tag of the initiator.
    pub tag: &'a [u8],
    /// Where to ask.
    pub addresses: &'a [Address],
}

impl Payload for RedirectTo<'_> {
    const KIND: ChunkKind = ChunkKind::REDIRECT;

    fn put(&self, out: &mut Vec<u8>) {
        put_prefixed(self.tag, out);
        for address in self.addresses {
            address.put(out);
        }
    }
}

/// RHello Cookie Change: the cookie is right, but for another address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CookieChange<'a> {
    /// The cookie that was sent.
    pub old: &'a [u8],
    /// The one to send.
    pub new: &'a [u8],
}

impl<'a> CookieChange<'a> {
    /// Reads one.
    ///
    /// # Errors
    /// [`Malformed`] where the bytes end before it.
    pub fn read(payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new(payload);
        Ok(Self {
            old: fields.prefixed()?,
            new: fields.rest(),
        })
    }
}

impl Payload for CookieChange<'_> {
    const KIND: ChunkKind = ChunkKind::COOKIE_CHANGE;

    fn put(&self, out: &mut Vec<u8>) {
        put_prefixed(self.old, out);
        out.extend_from_slice(self.new);
    }
}

/// IIKeying: the initiator's part of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitiatorKeying<'a> {
    /// The session id for packets to the initiator.
    pub session_id: u32,
    /// The cookie of the responder.
    pub cookie: &'a [u8],
    /// Who the initiator is.
    pub certificate: &'a [u8],
    /// Its session key initiator component (SKIC).
    pub component: &'a [u8],
    /// Its signature.
    pub signature: &'a [u8],
}

impl<'a> InitiatorKeying<'a> {
    /// Reads one, and tells what the signature is over: all bytes before it.
    ///
    /// # Errors
    /// [`Malformed`] where the bytes end before it.
    pub fn read(payload: &'a [u8]) -> Result<(Self, &'a [u8]), Malformed> {
        let mut fields = Fields::new(payload);
        let session_id = fields.u32()?;
        let cookie = fields.prefixed()?;
        let certificate = fields.prefixed()?;
        let component = fields.prefixed()?;
        let signed = payload.get(..fields.position()).unwrap_or_default();
        let keying = Self {
            session_id,
            cookie,
            certificate,
            component,
            signature: fields.rest(),
        };
        Ok((keying, signed))
    }

    /// Appends what the signature is over.
    pub fn put_signed(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.session_id.to_be_bytes());
        put_prefixed(self.cookie, out);
        put_prefixed(self.certificate, out);
        put_prefixed(self.component, out);
    }
}

impl Payload for InitiatorKeying<'_> {
    const KIND: ChunkKind = ChunkKind::INITIATOR_KEYING;

    fn put(&self, out: &mut Vec<u8>) {
        self.put_signed(out);
        out.extend_from_slice(self.signature);
    }
}

/// RIKeying: the responder's part of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponderKeying<'a> {
    /// The session id for packets to the responder.
    pub session_id: u32,
    /// Its session key responder component (SKRC).
    pub component: &'a [u8],
    /// Its signature.
    pub signature: &'a [u8],
}

impl<'a> ResponderKeying<'a> {
    /// Reads one, and tells what the signature is over: these bytes, and the initiator's component behind them.
    ///
    /// # Errors
    /// [`Malformed`] where the bytes end before it.
    pub fn read(payload: &'a [u8]) -> Result<(Self, &'a [u8]), Malformed> {
        let mut fields = Fields::new(payload);
        let session_id = fields.u32()?;
        let component = fields.prefixed()?;
        let signed = payload.get(..fields.position()).unwrap_or_default();
        let keying = Self {
            session_id,
            component,
            signature: fields.rest(),
        };
        Ok((keying, signed))
    }

    /// Appends what the signature is over, but for the initiator's component, which follows it.
    pub fn put_signed(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.session_id.to_be_bytes());
        put_prefixed(self.component, out);
    }
}

impl Payload for ResponderKeying<'_> {
    const KIND: ChunkKind = ChunkKind::RESPONDER_KEYING;

    fn put(&self, out: &mut Vec<u8>) {
        self.put_signed(out);
        out.extend_from_slice(self.signature);
    }
}

#[cfg(test)]
mod tests;
