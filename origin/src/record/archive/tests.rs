//! Recordings made, gone on with and read, with a store and a journal that fail where they may.

mod basics;
mod crashes;
mod disk;
mod faults;
mod local;
mod reading;
mod support;
mod window;
