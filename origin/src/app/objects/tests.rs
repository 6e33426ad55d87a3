//! The objects of an instance, with the mirrors of edges on the other side.

mod bench;
mod changes;
mod handler;
mod hosted;
mod limits;
mod owners;
mod random;
mod speed;
mod stored;

use bench::{Bench, EdgeSim, Kind, send, set, text};
