//! A publisher whose network stalled sends what it held all at once: nobody loses any of it, and nobody is taken for slow.

use std::time::Duration;

use headwater_media::synthetic::{Settings, SyntheticStream};

use crate::standalone::standalone;
use crate::support::client::Viewer;
use crate::support::judge::assert_no_loss;
use crate::support::steered::Steered;

#[test]
fn a_burst_of_a_publisher_reaches_every_viewer() {
    let (mut node, _folder) = standalone(&[]);
    let url = node.url("live/show");
    let mut source = SyntheticStream::new(Settings {
        video_bitrate: 400_000,
        ..Settings::default()
    })
    .expect("a stream");
    let (mut publisher, stream) = Steered::publish(&url);
    let viewers: Vec<_> = (0..6).map(|_| Viewer::start(&url)).collect();
    let second = Duration::from_secs(1);
    let mut sent = publisher.send(stream, &mut source, second);
    for viewer in &viewers {
        viewer.wait_for(10, Duration::from_secs(10));
    }
    // Far more than the edge keeps for viewers that are behind.
    for stretch in [12, 20] {
        sent.extend(publisher.send_at_once(stream, &mut source, second * stretch));
        sent.extend(publisher.send(stream, &mut source, second));
    }
    for (index, viewer) in viewers.iter().enumerate() {
        viewer.wait_for_frame(sent.last().expect("frames").id, Duration::from_secs(10));
        assert_no_loss(&format!("viewer {index}"), &sent, &viewer.received());
    }
    assert_eq!(node.metric("headwater_edge_viewer_jumps_total"), 0.0);
    assert_eq!(node.metric("headwater_edge_frames_dropped_total"), 0.0);
}
