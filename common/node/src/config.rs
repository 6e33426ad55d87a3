//! Layered, strict configuration.
//!
//! Layers, the later wins: built-in defaults, the TOML file, environment variables (`HEADWATER_SECTION_KEY`, lists
//! separated by commas), flags (dotted keys). A section is defined once with [`section!`](crate::section): from that
//! one text come the struct, its defaults, its range checks and its documentation, so [`print_commented`] shows every
//! key with its meaning and the value in force.
//!
//! Invariants: an unknown key is an error in every layer, with the place and a suggestion; a value is checked before
//! any port is bound; what [`print_commented`] prints is a file that loads to the same configuration, secrets aside.
//!
//! Not here: reloading. A running node keeps the configuration it started with.

mod error;
mod load;
mod print;
mod secret;
mod section;
mod suggest;
#[cfg(test)]
mod tests;

pub use error::{ConfigError, Problem};
pub use load::{Loader, Override};
pub use print::print_commented;
pub use secret::Secret;
pub use section::{
    Documented, Field, FieldDoc, Problems, Ranged, SectionDoc, Shape, default_of, range_problem,
    range_text,
};

/// The exit code for a configuration that does not load: `EX_USAGE` of `sysexits.h`.
pub const EXIT_BAD_CONFIG: u8 = 64;

/// What every environment variable of the configuration starts with.
pub const ENVIRONMENT_PREFIX: &str = "HEADWATER_";
