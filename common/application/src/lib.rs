//! What nodes have to agree on about applications: `app.toml`, what is built in, where applications are in the store, and how shared objects
//! travel.
//!
//! An application is a folder `applications/NAME` in the store, `vhosts/VHOST/applications/NAME` for those of a virtual host, with a file
//! `app.toml`. Origins read it, edges are told what is in it. An empty file makes an application that is open to everybody. Some
//! applications are built in ([`default_applications`]) and need no file; a file replaces all of what is built in or configured.
//!
//! [`wire`] is what nodes say to each other about shared objects.
//!
//! Pure: text in, policy out.

#![forbid(unsafe_code)]

mod names;
mod parse;
mod section;
pub mod wire;

pub use names::{APP_FILE, app_file, application_of};
pub use parse::{parse, parse_known};
pub use section::{
    ApplicationSection, Confirm, HandlerSection, OnFailure, RecordPolicy, SharedObjectsSection,
    Unsaid, default_applications,
};
