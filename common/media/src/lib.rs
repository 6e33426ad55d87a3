//! Media as Headwater sees it: a stream is a log of [`frame::Frame`]s.
//!
//! This crate is pure: no sockets, no clocks, no `async`.
//!
//! | module | what it holds |
//! |---|---|
//! | [`mod@file`] | media files as logs: what every format gives |
//! | [`flv`] | FLV in and out |
//! | [`frame`] | frames, offsets, epochs, kinds and flags |
//! | [`inspect`] | what a payload says about itself: key frame, codec header, codec, track, metadata name |
//! | [`mp3`] | MP3 files in, and their tags |
//! | [`mp4`] | MP4, F4V, MOV, M4A and 3GP files in, fragmented MP4 out |
//! | [`name`] | names of virtual hosts, applications, instances and streams |
//! | [`segment`] | recordings that are not one file yet: segments, index, journal |
//! | [`synthetic`] | an H.264 and AAC source for tests and the load harness |
//! | [`timeline`] | from RTMP timestamps to the timeline of a stream |
//! | [`window`] | the tail of a stream log, in memory |

#![forbid(unsafe_code)]

mod blocks;
pub mod file;
pub mod flv;
pub mod frame;
pub mod inspect;
pub mod mp3;
pub mod mp4;
pub mod name;
pub mod segment;
pub mod synthetic;
mod thinned;
pub mod timeline;
pub mod window;
