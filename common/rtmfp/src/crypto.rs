//! The Flash profile of RTMFP: who somebody is, how keys are agreed on, and how packets are encrypted. RFC 7425 section 4.
//!
//! | module | what it holds | section |
//! |---|---|---|
//! | [`packet`] | datagrams from packets and back: session ids, the default key, what [`Sealer`] and [`Opener`] do | RFC 7016 2.2, 4.7 |
//! | [`cipher`] | AES-128 in CBC mode, the two functions that another provider would replace | 4.7.1 |
//! | [`checksum`] | the checksum of packets without a MAC | 4.7.3.1 |
//! | [`mac`] | HMAC-SHA256, whole and truncated | 4.7.3.2 |
//! | [`sequence`] | packet numbers, and the window against replayed ones | 4.7.3.3 |
//! | [`diffie_hellman`] | groups 2, 5 and 14 | 4.2, 4.6.2 |
//! | [`certificate`] | certificates and fingerprints | 4.3 |
//! | [`discriminator`] | whom a hello asks for | 4.4 |
//! | [`components`] | the two parts that session keys are made of | 4.5 |
//! | [`keys`] | the keys and nonces from them | 4.6 |
//! | [`negotiation`] | whether packets have a MAC and a number | 4.6.4, 4.6.6 |
//! | [`signature`] | signatures, which are passwords in this profile | 4.3.5 |
//! | [`cookie`] | what proves an address without memory | RFC 7016 3.5.1.1.2 |
//!
//! Whatever is secret is compared and computed in constant time, and wiped where it was kept.

pub mod certificate;
pub mod checksum;
pub mod cipher;
pub mod components;
pub mod cookie;
pub mod diffie_hellman;
pub mod discriminator;
pub mod keys;
pub mod mac;
pub mod negotiation;
pub mod packet;
pub mod sequence;
pub mod signature;

pub use certificate::{Certificate, Fingerprint};
pub use diffie_hellman::Group;
pub use packet::{Opener, Sealer, session_id};
