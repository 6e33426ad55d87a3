//! The contract between Headwater nodes, generated from `proto/headwater/v1`, and nothing else.
//!
//! The `.proto` files are the documentation; every rule of the protocol stands there.

mod codec;

pub use codec::NodeCodec;

/// Version 1: only ever extended.
#[allow(
    missing_docs,
    unreachable_pub,
    elided_lifetimes_in_paths,
    unused_qualifications,
    clippy::all,
    clippy::use_self,
    clippy::or_fun_call,
    clippy::manual_let_else
)]
pub mod v1 {
    tonic::include_proto!("headwater.v1");
}
