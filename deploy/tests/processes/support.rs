//! What the tests are made of.
//!
//! | module | what it holds |
//! |---|---|
//! | [`wait`] | waiting for a condition, with a limit |
//! | [`ports`] | ports that nobody else takes |
//! | [`node`] | one process of `headwater` |
//! | [`cluster`] | origins and edges that know each other |
//! | [`client`] | publishers and viewers that record every frame, on our own client |
//! | [`steered`] | a client that does only what the test tells it |
//! | [`member`] | a client that plays a stream in an RTMFP group |
//! | [`judge`] | what was lost, repeated or late |
//! | [`media`] | a clip made by ffmpeg, and the digests of what is in a file |
//! | [`recorded`] | what is in a recorded file |
//! | [`handler`] | programs that decide for applications |
//! | [`object_user`] | a client that uses shared objects, its messages made by hand |
//! | [`talker`] | a client of the npm package rtmp-client that does what the test tells it |
//! | [`s3`] | an S3 server of others |
//! | [`tools`] | programs of others, and what to do when they are missing |
//! | [`volume`] | a disk that a test may fill, and freeze |

pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod handler;
pub(crate) mod judge;
pub(crate) mod media;
pub(crate) mod member;
pub(crate) mod network;
pub(crate) mod node;
pub(crate) mod object_user;
pub(crate) mod ports;
pub(crate) mod recorded;
pub(crate) mod s3;
pub(crate) mod steered;
pub(crate) mod talker;
pub(crate) mod tools;
pub(crate) mod volume;
pub(crate) mod wait;
