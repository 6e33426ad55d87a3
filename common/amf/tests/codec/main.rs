//! The codec as a whole: random values, hostile input, and what other implementations make of our bytes and we of theirs.

mod against_flash_lso;
mod against_py3amf;
mod round_trip;
mod values;
mod wire;
