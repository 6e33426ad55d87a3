//! Recordings of real logs into an archive that does what a test tells it to, and files that are made of them.

mod coming_back;
mod ending;
mod failing;
mod fake;
mod going_on;
mod owners;
mod said;
mod support;

use support::{Bench, recording};

use super::*;
