//! An origin is killed, or hangs, while streams run: nobody is disconnected, no frame is lost or repeated, and the pause is
//! short. Then it returns and takes its streams back.

use std::time::Duration;

use headwater_media::synthetic::Settings;

use crate::a_cluster_carries_live_streams::light;
use crate::support::client::{Publisher, Viewer, clock};
use crate::support::cluster::{Cluster, stream_count};
use crate::support::judge::{assert_no_loss, distribution, longest_gap};
use crate::support::media::{CLIP_SECONDS, Packets, assert_same, clip, packets_of, tags_of};
use crate::support::node::Node;
use crate::support::tools::{ffmpeg_play, ffmpeg_publish, has, rtmpdump};
use crate::support::wait::{patience, pause, until};

/// The origin that fails.
const VICTIM: usize = 0;

/// Streams that run, each with a viewer at the other edge, and every other one with a viewer at its own.
struct Show {
    cluster: Cluster,
    streams: Vec<Stream>,
}

struct Stream {
    name: String,
    owner: usize,
    publisher: Publisher,
    viewers: Vec<Viewer>,
}

impl Show {
    fn start(count: usize) -> Self {
        let mut cluster = Cluster::start(2, 2);
        let names = cluster.names(count);
        let mut streams = Vec::new();
        for (index, name) in names.into_iter().enumerate() {
            let (near, far) = (index / 2 % 2, 1 - index / 2 % 2);
            let mut viewers = vec![Viewer::start(&cluster.url(far, &name))];
            if index % 3 == 0 {
                viewers.push(Viewer::start(&cluster.url(near, &name)));
            }
            let settings = Settings {
                seed: index as u64,
                ..light()
            };
            let publisher = Publisher::start(&cluster.url(near, &name), settings);
            streams.push(Stream {
                owner: cluster.owner(&name),
                name,
                publisher,
                viewers,
            });
        }
        let show = Self { cluster, streams };
        show.wait_for_progress();
        show
    }

    /// Waits until every viewer has seen two seconds more than now.
    fn wait_for_progress(&self) {
        let viewers = || self.streams.iter().flat_map(|stream| &stream.viewers);
        // All goals first: one after the other they would be seconds apart.
        let goals: Vec<_> = viewers().map(|viewer| viewer.count() + 160).collect();
        for (viewer, goal) in viewers().zip(goals) {
            viewer.wait_for(goal, Duration::from_secs(20));
        }
    }

    fn victims_streams(&self) -> usize {
        let of_victim = |stream: &&Stream| stream.owner == VICTIM;
        self.streams.iter().filter(of_victim).count()
    }

    /// Ends the show, judges every viewer, and prints the gaps since a moment. Gives the longest.
    fn judge(mut self, what: &str, since: Duration) -> Duration {
        self.print_counters(what);
        let mut hit = Vec::new();
        let mut others = Vec::new();
        for stream in self.streams {
            for viewer in &stream.viewers {
                assert!(
                    !viewer.has_status("NetStream.Play.UnpublishNotify"),
                    "{}: viewers were told of an end: {:?}",
                    stream.name,
                    viewer.statuses()
                );
            }
            let sent = stream.publisher.finish();
            let last = sent.last().expect("frames").id;
            for (number, viewer) in stream.viewers.iter().enumerate() {
                viewer.wait_for_frame(last, Duration::from_secs(10));
                let received = viewer.received();
                let who = format!("{}, viewer {number}", stream.name);
                assert_no_loss(&who, &sent, &received);
                let gap = longest_gap(&received, since);
                if stream.owner == VICTIM {
                    hit.push(gap);
                } else {
                    others.push(gap);
                }
            }
        }
        println!("{what}, longest gap of each viewer: {}", distribution(&hit));
        println!(
            "{what}, streams of the other origin: {}",
            distribution(&others)
        );
        hit.into_iter().max().unwrap_or_default()
    }

    /// What the nodes say that they lost: of use when a viewer did not get everything.
    fn print_counters(&mut self, what: &str) {
        let edges = self.cluster.edges.iter_mut();
        for (number, edge) in edges.enumerate() {
            let counters = [
                "frames_lost",
                "upstream_gaps",
                "viewer_jumps",
                "frames_dropped",
            ];
            for counter in counters {
                let value = edge.metric(&format!("headwater_edge_{counter}_total"));
                println!("{what}, edge {number}: {counter} {value}");
            }
        }
    }

    /// Waits until the victim has its streams again.
    fn wait_for_return(&mut self) {
        let expected = self.victims_streams() as f64;
        let origin = &mut self.cluster.origins[VICTIM];
        until("it has its streams again", Duration::from_secs(20), || {
            origin.metric("headwater_origin_publishers") >= expected
        });
    }
}

#[test]
fn killed_it_is_replaced_within_a_second_without_loss() {
    let mut show = Show::start(stream_count(10));
    let killed = clock();
    show.cluster.origins[VICTIM].kill();
    show.wait_for_progress();
    let gap = show.judge("killed", killed);
    assert!(gap < patience(Duration::from_secs(1)), "{gap:?}");
}

#[test]
fn hanging_it_is_replaced_within_two_seconds_without_loss() {
    let show = Show::start(stream_count(10));
    let stopped = clock();
    show.cluster.origins[VICTIM].hang();
    pause(Duration::from_secs(3));
    show.wait_for_progress();
    // Still hanging when it is judged.
    let gap = show.judge("hanging", stopped);
    assert!(gap < patience(Duration::from_secs(2)), "{gap:?}");
}

#[test]
fn killed_and_restarted_it_takes_its_streams_back_without_loss() {
    let mut show = Show::start(stream_count(6));
    let killed = clock();
    show.cluster.origins[VICTIM].kill();
    show.wait_for_progress();
    show.cluster.origins[VICTIM].restart();
    show.wait_for_return();
    show.wait_for_progress();
    show.judge("killed and restarted", killed);
}

#[test]
fn hanging_and_going_on_it_takes_its_streams_back_without_loss() {
    let mut show = Show::start(stream_count(6));
    let stopped = clock();
    show.cluster.origins[VICTIM].hang();
    pause(Duration::from_secs(3));
    show.wait_for_progress();
    show.cluster.origins[VICTIM].go_on();
    show.wait_for_return();
    show.wait_for_progress();
    show.judge("hanging and going on", stopped);
}

#[test]
fn ffmpeg_and_rtmpdump_do_not_notice_a_killed_origin() {
    beside_programs(|origin| origin.kill());
}

#[test]
fn ffmpeg_and_rtmpdump_do_not_notice_a_hanging_origin() {
    beside_programs(|origin| origin.hang());
}

/// Lets something happen to the owner of a stream that ffmpeg publishes and ffmpeg and rtmpdump play.
fn beside_programs(happens: impl FnOnce(&mut Node)) {
    if !has("ffmpeg") || !has("rtmpdump") {
        return;
    }
    let limit = Duration::from_secs(u64::from(CLIP_SECONDS) + 20);
    let clip = clip();
    let mut cluster = Cluster::start(2, 2);
    let name = cluster.names(1).remove(VICTIM);
    let url = cluster.url(1, &name);
    let (digests, dump) = (
        cluster.folder().join("digests"),
        cluster.folder().join("dump.flv"),
    );
    let mut players = [ffmpeg_play(&url, &digests), rtmpdump(&url, &dump)];
    until("the players wait", Duration::from_secs(15), || {
        cluster.edges[1].metric("headwater_edge_viewers") >= 2.0
    });
    let mut publisher = ffmpeg_publish(&clip, &cluster.url(0, &name));
    until("it runs", Duration::from_secs(10), || {
        cluster.edges[0].metric("headwater_edge_frames_published_total") > 100.0
    });
    happens(&mut cluster.origins[VICTIM]);
    publisher.succeed(limit);
    for player in &mut players {
        player.finish(limit);
    }
    Packets::read(&digests).assert_all_of(&packets_of(&clip), "ffmpeg");
    let original = tags_of(&clip);
    for (kind, dumped) in tags_of(&dump) {
        assert_same(&format!("rtmpdump: {kind}"), &dumped, &original[kind]);
    }
}

#[test]
fn a_viewer_who_comes_while_it_is_dead_gets_the_stream() {
    let mut show = Show::start(2);
    let killed = clock();
    show.cluster.origins[VICTIM].kill();
    show.wait_for_progress();
    let stream = show
        .streams
        .iter_mut()
        .find(|stream| stream.owner == VICTIM)
        .expect("a stream of the victim");
    for edge in 0..2 {
        let viewer = Viewer::start(&show.cluster.url(edge, &stream.name));
        viewer.wait_for(30, Duration::from_secs(5));
        stream.viewers.push(viewer);
    }
    show.judge("killed, with late viewers", killed);
}

#[test]
fn all_of_them_dead_and_back_the_publisher_and_the_viewer_stay() {
    let mut show = Show::start(2);
    let killed = clock();
    for origin in &mut show.cluster.origins {
        origin.kill();
    }
    pause(Duration::from_secs(1));
    for stream in &show.streams {
        stream.publisher.assert_connected();
    }
    for origin in &mut show.cluster.origins {
        origin.restart();
    }
    show.wait_for_progress();
    show.judge("all killed and restarted", killed);
}
