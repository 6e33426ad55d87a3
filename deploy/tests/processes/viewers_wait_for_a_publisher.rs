//! A viewer may come before the publisher, or long after it began; and many viewers cost the origin no more than one.

use std::time::Duration;

use headwater_media::frame::FrameKind;

use crate::a_cluster_carries_live_streams::light;
use crate::support::client::{Publisher, Viewer};
use crate::support::cluster::{Cluster, Plan};
use crate::support::judge::assert_no_loss;
use crate::support::steered::{Came, Steered, assert_decodable, assert_time_goes_on, frames};
use crate::support::wait::until;

const NAME: &str = "show";

/// Viewers of one edge.
const CROWD: usize = 50;

/// What came of a kind, as short words, in order: for what stands before the first frame.
fn words(came: &[Came]) -> Vec<String> {
    came.iter()
        .map(|it| match it {
            Came::Status { code, .. } => code.clone(),
            Came::Metadata { .. } => "metadata".to_owned(),
            Came::Header { kind, .. } => format!("{kind:?} header"),
            Came::Frame { id, is_key, .. } if *is_key => format!("key {:?}", id.kind),
            Came::Frame { id, .. } => format!("{:?}", id.kind),
            Came::ReconnectRequest => "reconnect".to_owned(),
        })
        .collect()
}

#[test]
fn a_viewer_that_came_first_sees_the_first_frame() {
    let mut cluster = Cluster::start(2, 2);
    let (mut viewer, stream) = Steered::play_live(&cluster.url(1, NAME));
    viewer.read_for(Duration::from_millis(500));
    assert_eq!(
        words(viewer.came()),
        ["NetStream.Play.Reset", "NetStream.Play.Start"],
        "it waits, and is told nothing"
    );
    let mark = viewer.mark();
    let publisher = Publisher::start(&cluster.url(0, NAME), light());
    viewer.wait_frames(mark, stream, FrameKind::Video, 40);
    let came = viewer.since(mark);
    assert_eq!(
        words(came)[..5],
        [
            "NetStream.Play.PublishNotify",
            "metadata",
            "Video header",
            "Audio header",
            "key Video"
        ]
    );
    let video = frames(came, stream, FrameKind::Video);
    assert_eq!(video[0].0, 0, "nothing is lost at the start");
    assert_decodable("video", &video);
    let audio = frames(came, stream, FrameKind::Audio);
    assert!(
        audio
            .iter()
            .map(|(number, _)| *number)
            .eq(0..audio.len() as u64)
    );
    assert_time_goes_on("the viewer", came, stream);
    publisher.finish();
    viewer.wait_status(stream, "NetStream.Play.UnpublishNotify");
}

#[test]
fn a_late_viewer_gets_headers_and_then_a_key_frame() {
    let mut cluster = Cluster::start(2, 2);
    let publisher = Publisher::start(&cluster.url(0, NAME), light());
    // The first viewer of an edge, then one that finds the stream there.
    for (edge, what) in [
        (1, "from the origin"),
        (1, "from the edge"),
        (0, "next to the publisher"),
    ] {
        let goal = publisher.count() + 40;
        until("the stream runs", Duration::from_secs(5), || {
            publisher.count() >= goal
        });
        let (mut viewer, stream) = Steered::play_live(&cluster.url(edge, NAME));
        viewer.wait_frames(0, stream, FrameKind::Video, 20);
        let came = viewer.came();
        assert_eq!(
            words(came)[..6],
            [
                "NetStream.Play.Reset",
                "NetStream.Play.Start",
                "metadata",
                "Video header",
                "Audio header",
                "key Video"
            ],
            "{what}"
        );
        assert_time_goes_on(what, came, stream);
        let video = frames(came, stream, FrameKind::Video);
        assert_decodable(what, &video);
        // Two key frames a second: the newest one is at most one group of pictures and the way back old.
        let sent = publisher.sent();
        let newest = sent
            .iter()
            .rfind(|sent| sent.is_key)
            .expect("keys")
            .id
            .number;
        assert!(
            video[0].0 + 60 > newest,
            "{what}: {} is old, {newest} is new",
            video[0].0
        );
    }
}

#[test]
fn all_viewers_of_an_edge_share_one_read() {
    let mut cluster = Cluster::with(&Plan {
        origins: 2,
        edges: 2,
        edge_flags: vec!["--set".to_owned(), "edge.upstream.linger_ms=200".to_owned()],
        ..Plan::default()
    });
    let publisher = Publisher::start(&cluster.url(0, NAME), light());
    let url = cluster.url(1, NAME);
    let crowd: Vec<Viewer> = (0..CROWD).map(|_| Viewer::start(&url)).collect();
    for viewer in &crowd {
        viewer.wait_for(30, Duration::from_secs(20));
    }
    let edge = &mut cluster.edges[1];
    assert_eq!(edge.metric("headwater_edge_viewers"), CROWD as f64);
    assert_eq!(edge.metric("headwater_edge_hubs"), 1.0);
    let owner = cluster.owner(NAME);
    assert_eq!(
        cluster.origins[owner].metric("headwater_origin_readers"),
        1.0
    );
    assert_eq!(
        cluster.origins[1 - owner].metric("headwater_origin_readers"),
        0.0
    );

    let sent = publisher.finish();
    let last = sent.last().expect("frames").id;
    for (index, viewer) in crowd.iter().enumerate() {
        viewer.wait_for_frame(last, Duration::from_secs(10));
        assert_no_loss(&format!("viewer {index}"), &sent, &viewer.received());
    }
    let edge = &mut cluster.edges[1];
    assert_eq!(edge.metric("headwater_edge_frames_dropped_total"), 0.0);
    // Each frame came once, and left once for each viewer.
    let (read, left) = (
        edge.metric("headwater_edge_frames_read_total"),
        edge.metric("headwater_edge_frames_sent_total"),
    );
    println!("{read} frames read, {left} sent");
    assert!(read <= sent.len() as f64 + 3.0);

    drop(crowd);
    until("the viewers are gone", Duration::from_secs(5), || {
        cluster.edges[1].metric("headwater_edge_viewers") == 0.0
    });
    until("the hub goes with them", Duration::from_secs(5), || {
        cluster.edges[1].metric("headwater_edge_hubs") == 0.0
    });
    until("the read ends", Duration::from_secs(5), || {
        cluster.origins[owner].metric("headwater_origin_readers") == 0.0
    });
}
