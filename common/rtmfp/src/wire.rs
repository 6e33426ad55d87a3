//! What is in a packet once it is decrypted: RFC 7016 section 2.
//!
//! | module | what it holds |
//! |---|---|
//! | [`field`] | integers, variable-length integers, options |
//! | [`address`] | addresses with their origin |
//!
//! All integers are big endian; nothing is aligned. A chunk that is malformed is skipped by itself, a packet never is for its sake.

pub mod address;
pub mod field;

pub use address::{Address, Origin};
pub use field::{Field, Fields, Malformed};
