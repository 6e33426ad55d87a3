//! A cluster that is taken down and up node by node, as for a new version, while streams run: nobody loses a frame for an
//! origin, and clients of an edge are told in time.

use std::time::{Duration, Instant};

use headwater_media::frame::FrameKind;
use headwater_media::synthetic::Settings;
use headwater_rtmp::command::CAPS_EX_RECONNECT;

use crate::a_cluster_carries_live_streams::light;
use crate::support::client::{Publisher, Viewer, Wishes, clock};
use crate::support::cluster::{Cluster, Plan};
use crate::support::judge::{assert_no_loss, longest_gap};
use crate::support::steered::{Came, Steered, assert_decodable, frames};
use crate::support::wait::{patience, until};

/// Streams of the test of origins: as many for each.
const STREAMS: usize = 6;

/// A stream that is published through one edge and watched through both.
struct Show {
    name: String,
    publisher: Publisher,
    viewers: [Viewer; 2],
}

impl Show {
    fn start(cluster: &mut Cluster, number: usize, name: String) -> Self {
        let settings = Settings {
            seed: number as u64,
            ..light()
        };
        let publisher = Publisher::start(&cluster.url(number / 2 % 2, &name), settings);
        let viewers = [0, 1].map(|edge| Viewer::start(&cluster.url(edge, &name)));
        Self {
            name,
            publisher,
            viewers,
        }
    }

    fn longest_gap(&self, since: Duration) -> Duration {
        let gaps = self
            .viewers
            .iter()
            .map(|viewer| longest_gap(&viewer.received(), since));
        gaps.max().unwrap_or_default()
    }

    fn finish(self) {
        for viewer in &self.viewers {
            let notice = viewer.has_status("NetStream.Play.UnpublishNotify");
            assert!(
                !notice,
                "{}: what happens to origins is no news for viewers",
                self.name
            );
        }
        let sent = self.publisher.finish();
        for viewer in &self.viewers {
            viewer.wait_for_frame(sent.last().expect("frames").id, Duration::from_secs(5));
            assert_no_loss(&self.name, &sent, &viewer.received());
        }
    }
}

/// Waits until every viewer has seen a second more.
fn wait_for_progress(shows: &[Show]) {
    let viewers: Vec<_> = shows.iter().flat_map(|show| &show.viewers).collect();
    let goals: Vec<_> = viewers.iter().map(|viewer| viewer.count() + 77).collect();
    for (viewer, goal) in viewers.into_iter().zip(goals) {
        viewer.wait_for(goal, Duration::from_secs(10));
    }
}

/// The longest pause of any viewer since a moment.
fn pause_of(shows: &[Show], since: Duration) -> Duration {
    let gaps = shows.iter().map(|show| show.longest_gap(since));
    gaps.max().unwrap_or_default()
}

/// Streams published on an origin.
fn published(cluster: &mut Cluster, origin: usize) -> f64 {
    cluster.origins[origin].metric("headwater_origin_publishers")
}

#[test]
fn origins_are_replaced_one_by_one_without_loss() {
    let mut cluster = Cluster::start(2, 2);
    let names = cluster.names(STREAMS);
    let shows: Vec<Show> = names
        .into_iter()
        .enumerate()
        .map(|(number, name)| Show::start(&mut cluster, number, name))
        .collect();
    wait_for_progress(&shows);
    for origin in 0..2 {
        assert_eq!(published(&mut cluster, origin), STREAMS as f64 / 2.0);
        let (asked, since) = (Instant::now(), clock());
        cluster.origins[origin].terminate();
        let status = cluster.origins[origin].wait_exit(Duration::from_secs(10));
        let took = asked.elapsed();
        assert!(status.success(), "{status}");
        assert!(took < patience(Duration::from_secs(4)), "{took:?}");
        assert_eq!(published(&mut cluster, 1 - origin), STREAMS as f64);
        wait_for_progress(&shows);
        let away = pause_of(&shows, since);

        let (asked, since) = (Instant::now(), clock());
        cluster.origins[origin].restart();
        until("its streams come back", Duration::from_secs(15), || {
            published(&mut cluster, origin) == STREAMS as f64 / 2.0
        });
        let back = asked.elapsed();
        wait_for_progress(&shows);
        let home = pause_of(&shows, since);
        println!(
            "origin {origin}: gone after {took:?}, longest pause {away:?}; home after {back:?}, longest pause {home:?}"
        );
        // The edges find out that a node is back each in its time, at most a redial apart.
        assert!(away < patience(Duration::from_secs(1)), "{away:?}");
        assert!(home < patience(Duration::from_millis(1_500)), "{home:?}");
        cluster.wait_complete();
    }
    for edge in &mut cluster.edges {
        assert_eq!(edge.metric("headwater_edge_frames_lost_total"), 0.0);
        assert_eq!(edge.metric("headwater_edge_upstream_gaps_total"), 0.0);
        assert_eq!(edge.metric("headwater_edge_frames_dropped_total"), 0.0);
    }
    for show in shows {
        show.finish();
    }
}

#[test]
fn clients_of_an_edge_are_asked_to_go_and_served_until_then() {
    const GRACE: Duration = Duration::from_secs(4);
    let mut cluster = Cluster::with(&Plan {
        origins: 1,
        edges: 2,
        edge_flags: vec![
            "--set".to_owned(),
            format!("shutdown.grace_ms={}", GRACE.as_millis()),
        ],
        ..Plan::default()
    });
    let url = cluster.url(1, "show");
    let publisher = Publisher::start(&cluster.url(0, "show"), light());
    let wishes = Wishes {
        caps_ex: CAPS_EX_RECONNECT,
        ..Wishes::default()
    };
    let mut modern = Steered::connect_with(&url, &wishes);
    let stream = modern.create_stream();
    modern.play_it(stream);
    modern.wait_frames(0, stream, FrameKind::Video, 15);
    let plain = Viewer::start(&url);
    plain.wait_for(30, Duration::from_secs(5));

    let asked = Instant::now();
    cluster.edges[1].terminate();
    modern.wait("it is asked to reconnect", Duration::from_secs(2), |came| {
        came.contains(&Came::ReconnectRequest)
    });
    println!("asked after {:?}", asked.elapsed());
    // It is still served, and goes when it likes.
    let mark = modern.mark();
    modern.wait_frames(mark, stream, FrameKind::Video, 15);
    assert_decodable(
        "until it goes",
        &frames(modern.came(), stream, FrameKind::Video),
    );
    drop(modern);
    let (mut elsewhere, stream) = Steered::play_live(&cluster.url(0, "show"));
    elsewhere.wait_frames(0, stream, FrameKind::Video, 15);
    assert_decodable(
        "elsewhere",
        &frames(elsewhere.came(), stream, FrameKind::Video),
    );

    // One that knows nothing of that is told to go when the time is nearly over.
    let code = "NetConnection.Connect.ReconnectRequest";
    assert!(!plain.has_status(code));
    until("the last call", GRACE, || {
        plain.has_status("NetConnection.Connect.AppShutdown")
    });
    println!("last call after {:?}", asked.elapsed());
    let last = plain.received().last().expect("frames").at;
    until("it is closed", GRACE, || plain.ended().is_some());
    assert!(asked.elapsed() > GRACE / 4, "it was served for a while");
    let status = cluster.edges[1].wait_exit(GRACE);
    let took = asked.elapsed();
    println!("ended after {took:?}");
    assert!(status.success(), "{status}");
    assert!(
        took < patience(GRACE + Duration::from_millis(500)),
        "{took:?}"
    );

    // Up to the last call nothing was missing.
    let received = plain.received();
    assert!(last > received[0].at);
    let sent = publisher.finish();
    let last = received.last().expect("frames").id;
    let upto = sent
        .iter()
        .position(|sent| sent.id == last)
        .expect("a frame that was sent");
    assert_no_loss("the viewer", &sent[..=upto], &received);
}
