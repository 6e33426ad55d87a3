//! Tests of the program as operators and clients meet it: real processes, killed and stopped for real, spoken to by real
//! clients. One module for each behaviour, one program for all of them, because linking takes longer than most tests.
//!
//! `HEADWATER_TEST_PATIENCE` (a factor, 1) lengthens every waiting limit; `HEADWATER_TEST_STREAMS` sets the number of streams
//! of the cluster tests. See [`support`] for what the tests are made of.

#![forbid(unsafe_code)]
// A failing test shows logs, a good one its figures.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod support;

mod a_cluster_carries_live_streams;
mod a_disk_is_full;
mod a_node_that_cannot_start_says_why;
mod a_store_goes_away;
mod an_origin_dies;
mod an_owner_is_cut_off;
mod applications;
mod bad_input;
mod bad_input_of_objects;
mod dns_membership;
mod drain;
mod dvr;
mod dvrcast;
mod flush;
mod handlers;
mod interop_enhanced_rtmp;
mod interop_ffmpeg;
mod interop_gstreamer;
mod interop_librtmp;
mod interop_meerkat;
mod interop_node_client;
mod interop_rtmpdump;
mod multicast;
mod nodes_trust_each_other_by_certificate;
mod play_controls;
mod publisher_burst;
mod publisher_takeover;
mod recording;
mod recordings_outlive_origins;
mod rolling;
mod rtmfp;
mod shared_objects;
mod shared_objects_and_their_store;
mod slow_viewer;
mod standalone;
mod telemetry;
mod viewers_wait_for_a_publisher;
mod vod;
