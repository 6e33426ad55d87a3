//! Origins are killed while streams are recorded: every recording is one file in the end, every frame that was published is in it
//! exactly once and in order, and viewers of the past go on.
//!
//! `HEADWATER_TEST_KILLS` sets how often an origin is killed.

use std::path::Path;
use std::time::Duration;

use headwater_media::synthetic::Settings;
use headwater_rtmp::command::{PlayStart, PublishMode};

use crate::a_cluster_carries_live_streams::light;
use crate::support::client::{Publisher, Viewer};
use crate::support::cluster::{Cluster, Plan, stream_count};
use crate::support::media::assert_same;
use crate::support::recorded::{assert_whole, file_of, frames_in, wait_frames};
use crate::support::s3::S3;
use crate::support::wait::{eventually, pause};

/// How often, unless the environment says otherwise.
const KILLS: usize = 2;

struct Show {
    cluster: Cluster,
    streams: Vec<(String, Publisher, Viewer)>,
}

pub(crate) fn kills() -> usize {
    std::env::var("HEADWATER_TEST_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(KILLS)
}

impl Show {
    /// Ten recordings through one edge, each with a viewer who watches from the beginning through the other.
    fn start(mut cluster: Cluster) -> Self {
        let names = cluster.names(stream_count(10));
        let mut streams = Vec::new();
        for (index, name) in names.into_iter().enumerate() {
            let settings = Settings {
                seed: index as u64,
                ..light()
            };
            let url = cluster.url(0, &name);
            let publisher = Publisher::start_as(&url, settings, PublishMode::Record);
            publisher.wait_status("NetStream.Record.Start", Duration::from_secs(10));
            let viewer = Viewer::spawn(&cluster.url(1, &name), PlayStart::At(0));
            streams.push((name, publisher, viewer));
        }
        Self { cluster, streams }
    }

    fn assert_everybody_goes_on(&self) {
        let goals: Vec<_> = self
            .streams
            .iter()
            .map(|(_, publisher, viewer)| (publisher.count(), viewer.count() + 30))
            .collect();
        for ((_, publisher, viewer), (_, goal)) in self.streams.iter().zip(goals) {
            publisher.assert_connected();
            viewer.wait_for(goal, Duration::from_secs(30));
        }
    }

    /// Ends the show, and judges viewers and recordings; `read` gives the frames of a recording once it has so many.
    fn judge(self, read: impl Fn(&str, usize) -> Vec<crate::support::recorded::Recorded>) {
        let mut ended = Vec::new();
        for (name, publisher, viewer) in self.streams {
            ended.push((name, publisher.finish(), viewer));
        }
        for (name, sent, viewer) in ended {
            viewer.wait_for_frame(sent.last().expect("frames").id, Duration::from_secs(20));
            let expected: Vec<_> = sent.iter().map(|frame| frame.id).collect();
            let got: Vec<_> = viewer.received().iter().map(|frame| frame.id).collect();
            assert_same(&format!("{name}: the viewer"), &got, &expected);
            assert_whole(&name, &read(&name, sent.len()), &sent);
        }
        drop(self.cluster);
    }
}

/// A moment that nothing depends on.
fn moment() -> Duration {
    Duration::from_millis(rand::random_range(200..1_500))
}

#[test]
fn killed_and_restarted_with_a_local_store() {
    let mut show = Show::start(Cluster::with(&Plan {
        origins: 1,
        edges: 2,
        ..Plan::default()
    }));
    for _ in 0..kills() {
        pause(moment());
        show.cluster.origins[0].kill();
        pause(Duration::from_millis(100));
        show.cluster.origins[0].restart();
        show.assert_everybody_goes_on();
    }
    let data = show.cluster.folder().join("o1");
    show.judge(|name, count| read_file(&data, name, count));
}

fn read_file(data: &Path, name: &str, count: usize) -> Vec<crate::support::recorded::Recorded> {
    wait_frames(&file_of(data, &format!("{name}.flv")), count)
}

#[test]
fn killed_with_a_store_that_the_other_origin_shares() {
    let store = S3::start();
    let mut show = Show::start(Cluster::with(&Plan {
        origins: 2,
        edges: 2,
        origin_flags: store.flags(),
        ..Plan::default()
    }));
    for round in 0..kills() {
        let victim = round % 2;
        pause(moment());
        show.cluster.origins[victim].kill();
        // The other one has all of them now.
        show.assert_everybody_goes_on();
        show.cluster.origins[victim].restart();
        show.cluster.wait_complete();
        show.assert_everybody_goes_on();
    }
    show.judge(|name, count| {
        let path = format!("applications/live/streams/_definst_/{name}.flv");
        eventually(
            &format!("{path} has {count} frames"),
            Duration::from_secs(40),
            || {
                let frames = frames_in(&store.object(&path)?);
                (frames.len() >= count).then_some(frames)
            },
        )
    });
}

#[test]
fn a_store_that_hangs_does_not_hold_up_the_live_stream() {
    let store = S3::start();
    let mut cluster = Cluster::with(&Plan {
        origins: 1,
        edges: 1,
        origin_flags: store.flags(),
        ..Plan::default()
    });
    let url = cluster.url(0, "show");
    let viewer = Viewer::start(&url);
    let publisher = Publisher::start_as(&url, light(), PublishMode::Record);
    publisher.wait_status("NetStream.Record.Start", Duration::from_secs(10));
    store.hang();
    let before = viewer.count();
    viewer.wait_for(before + 300, Duration::from_secs(15));
    store.go_on();
    let sent = publisher.finish();
    viewer.wait_for_frame(sent.last().expect("frames").id, Duration::from_secs(10));
    let path = "applications/live/streams/_definst_/show.flv";
    let frames = eventually("the recording is there", Duration::from_secs(60), || {
        store.object(path).map(|bytes| frames_in(&bytes))
    });
    assert_whole("the recording", &frames, &sent);
}
