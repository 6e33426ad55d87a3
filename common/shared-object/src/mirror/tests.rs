//! Tables for the mirror, and the model.

mod model;
mod repeats;
mod serve;
