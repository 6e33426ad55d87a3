//! Recordings made, gone on with and read, with a store and a journal that fail where they may.

mod basics;
mod support;
