//! The origin role.
#![forbid(unsafe_code)]
mod log;
