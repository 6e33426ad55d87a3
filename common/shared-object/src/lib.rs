//! Remote shared objects of RTMP, without sockets, clocks or tasks.
//!
//! A shared object is a set of named slots that clients of an application instance read and write together, and over which they
//! send each other messages. One origin owns it, as a [`master::Master`]. An edge that has clients using it keeps a
//! [`mirror::Mirror`], one for all of them; requests go up, and come back as one [`object::Update`] for each edge.
//!
//! | room | what it has |
//! |---|---|
//! | [`wire`] | the messages of clients (types 19 and 16), both directions |
//! | [`value`] | values as canonical AMF0 |
//! | [`object`] | what owner and mirrors tell each other |
//! | [`master`] | the owner's object: versions, limits, requests applied once, rows for a store, tenures |
//! | [`mirror`] | an edge's copy: requests that wait for their answer, and its [`log`] |
//! | [`log`] | recent updates, and what a client gets that has missed some |
//! | [`client`] | a client's place in that log, its dialect and its encoding |
//!
//! # What always holds
//! - A request is applied whole or not at all, under one version, and once: also when it is sent again to the next owner.
//! - Versions never go back, whoever owns the object.
//! - A client that stays gets each message sent over the object once and in order, and changes in their order with those messages;
//!   changes in between may be merged. Where that cannot be kept it is told [`client::Served::Lost`], and has to go.

#![forbid(unsafe_code)]

pub mod client;
mod content;
pub mod log;
pub mod master;
pub mod mirror;
pub mod object;
pub mod value;
pub mod wire;
