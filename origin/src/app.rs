//! Applications: what they allow, their instances, and the programs that decide in them.
//!
//! | module | what it holds |
//! |---|---|
//! | [`catalogue`] | the applications in the store |
//! | [`handler`] | programs that decide |
//! | [`host`] | the task of one instance |
//! | [`hosting`] | the instances of this origin |
//! | [`instance`] | one instance, a pure state machine |
//! | [`objects`] | the shared objects of one instance |
//! | [`outbox`] | what waits for an edge |
//! | [`section`] | the `[origin.applications]` section |
//! | [`service`] | the `Application` service |

pub(crate) mod catalogue;
pub(crate) mod handler;
mod host;
pub(crate) mod hosting;
mod instance;
pub(crate) mod metrics;
pub(crate) mod objects;
mod outbox;
mod section;
pub(crate) mod service;

pub use section::ApplicationsSection;
