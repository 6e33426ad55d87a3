//! One name, two publishers: who has it keeps it as long as it lives, and viewers go on with whoever comes after.

use std::time::{Duration, Instant};

use headwater_media::synthetic::{Settings, SyntheticStream};

use crate::a_cluster_carries_live_streams::light;
use crate::support::client::{Publisher, Received, Sent, Viewer, clock};
use crate::support::cluster::Cluster;
use crate::support::judge::{assert_no_loss, longest_gap};
use crate::support::steered::Steered;
use crate::support::wait::{patience, until};

const NAME: &str = "show";

/// How long a publisher must have been silent before another one may have its name, as configured unless said otherwise.
const SILENCE: Duration = Duration::from_secs(2);

const BAD_NAME: &str = "NetStream.Publish.BadName";
const PUBLISHED: &str = "NetStream.Play.PublishNotify";
const UNPUBLISHED: &str = "NetStream.Play.UnpublishNotify";

/// A publisher whose frames differ from those of another number.
fn numbered(seed: u64) -> Settings {
    Settings { seed, ..light() }
}

/// What a viewer was told of publishers.
fn notices(viewer: &Viewer) -> Vec<String> {
    let mut statuses = viewer.statuses();
    statuses.retain(|code| code == PUBLISHED || code == UNPUBLISHED);
    statuses
}

/// Waits until a publisher has sent so much more.
fn wait_sent(publisher: &Publisher, more: usize) {
    let goal = publisher.count() + more;
    until("the publisher goes on", Duration::from_secs(10), || {
        publisher.assert_connected();
        publisher.count() >= goal
    });
}

/// Ends a publisher, and checks that each viewer got what both sent, one after the other.
fn finish(first: &[Sent], second: Publisher, viewers: &[Viewer]) {
    let second = second.finish();
    let all = [first, &second].concat();
    for (index, viewer) in viewers.iter().enumerate() {
        let last = second.last().expect("frames").id;
        viewer.wait_for_frame(last, Duration::from_secs(5));
        assert_no_loss(&format!("viewer {index}"), &all, &viewer.received());
    }
}

/// The longest pause that a viewer saw since a moment, in words.
fn pause_of(who: &str, received: &[Received], since: Duration) {
    println!("{who}: longest pause {:?}", longest_gap(received, since));
}

#[test]
fn a_publisher_that_lives_keeps_its_name() {
    let mut cluster = Cluster::start(1, 2);
    let first = Publisher::start(&cluster.url(0, NAME), numbered(1));
    let viewer = Viewer::start(&cluster.url(1, NAME));
    viewer.wait_for(30, Duration::from_secs(5));
    for edge in [1, 0] {
        let asked = Instant::now();
        let second = Publisher::spawn(&cluster.url(edge, NAME), numbered(2));
        until("the second one is refused", Duration::from_secs(4), || {
            second.statuses() == [BAD_NAME]
        });
        let took = asked.elapsed();
        println!("refused through edge {edge} after {took:?}");
        assert!(took < SILENCE, "media is a sign of life: {took:?}");
        // Its connection stays: it may choose another name.
        second.assert_connected();
        assert_eq!(second.count(), 0);
    }
    wait_sent(&first, 60);
    assert_eq!(first.statuses(), ["NetStream.Publish.Start"]);
    assert_eq!(notices(&viewer), [""; 0]);
    finish(&[], first, &[viewer]);
}

#[test]
fn a_publisher_that_only_answers_pings_keeps_its_name() {
    let mut cluster = Cluster::start(1, 2);
    let (mut first, stream) = Steered::publish(&cluster.url(0, NAME));
    let mut source = SyntheticStream::new(numbered(1)).expect("settings in range");
    first.send(stream, &mut source, Duration::from_millis(200));
    let second = Publisher::spawn(&cluster.url(1, NAME), numbered(2));
    first.wait("the second one is refused", Duration::from_secs(4), |_| {
        second.statuses() == [BAD_NAME]
    });
    assert!(!first.came().iter().any(|it| it.says(stream, BAD_NAME)));
    assert_eq!(first.ended(), None);
}

#[test]
fn a_publisher_that_hangs_loses_its_name() {
    let mut cluster = Cluster::start(1, 2);
    let (mut first, stream) = Steered::publish(&cluster.url(0, NAME));
    let viewers = [0, 1].map(|edge| Viewer::start(&cluster.url(edge, NAME)));
    let mut source = SyntheticStream::new(numbered(1)).expect("settings in range");
    let sent = first.send(stream, &mut source, Duration::from_millis(1_200));
    let last = sent.last().expect("frames").id;
    for viewer in &viewers {
        viewer.wait_for_frame(last, Duration::from_secs(5));
    }

    // From now on nobody reads or writes on the first one's socket.
    let (asked, since) = (Instant::now(), clock());
    let second = Publisher::start(&cluster.url(1, NAME), numbered(2));
    let took = asked.elapsed();
    println!("taken over after {took:?}");
    assert!(
        took >= SILENCE.mul_f64(0.9),
        "it gets the time to answer: {took:?}"
    );
    assert!(
        took < patience(SILENCE + Duration::from_millis(1_500)),
        "{took:?}"
    );

    wait_sent(&second, 60);
    for viewer in &viewers {
        assert_eq!(notices(viewer), [UNPUBLISHED, PUBLISHED]);
        pause_of("a viewer", &viewer.received(), since);
    }
    first.wait_end(Duration::from_secs(5));
    assert!(
        first.came().iter().any(|it| it.says(stream, BAD_NAME)),
        "it is told why: {:?}",
        first.came()
    );
    assert_eq!(
        cluster.origins[0].metric("headwater_origin_takeovers_total"),
        1.0
    );
    finish(&sent, second, &viewers);
}

#[test]
fn the_name_of_a_publisher_on_a_killed_edge_is_free_at_once() {
    let mut cluster = Cluster::start(2, 2);
    let first = Publisher::start(&cluster.url(0, NAME), numbered(1));
    let viewer = Viewer::start(&cluster.url(1, NAME));
    viewer.wait_for(60, Duration::from_secs(5));

    let since = clock();
    cluster.edges[0].kill();
    let asked = Instant::now();
    let second = Publisher::start(&cluster.url(1, NAME), numbered(2));
    let took = asked.elapsed();
    println!("accepted after {took:?}");
    assert!(took < patience(Duration::from_secs(1)), "{took:?}");
    until("the first one notices", Duration::from_secs(5), || {
        first.ended().is_some()
    });
    let mut sent = first.vanish();

    wait_sent(&second, 60);
    assert_eq!(notices(&viewer), [UNPUBLISHED, PUBLISHED]);
    let received = viewer.received();
    pause_of("the viewer", &received, since);
    // What the dead edge had not passed on is lost with it.
    let arrived = sent
        .iter()
        .take_while(|sent| received.iter().any(|received| received.id == sent.id))
        .count();
    println!("{} of {} frames left the edge", arrived, sent.len());
    sent.truncate(arrived);
    finish(&sent, second, &[viewer]);
}

#[test]
fn a_publisher_behind_a_hung_edge_loses_its_name_for_good() {
    let mut cluster = Cluster::start(2, 2);
    let first = Publisher::start(&cluster.url(0, NAME), numbered(1));
    let viewer = Viewer::start(&cluster.url(1, NAME));
    viewer.wait_for(60, Duration::from_secs(5));

    cluster.edges[0].hang();
    let asked = Instant::now();
    let second = Publisher::start(&cluster.url(1, NAME), numbered(2));
    let took = asked.elapsed();
    println!("taken over after {took:?}");
    assert!(
        took < patience(SILENCE + Duration::from_millis(1_500)),
        "{took:?}"
    );
    wait_sent(&second, 60);

    // The edge wakes up, with a publisher that knows of nothing.
    cluster.edges[0].go_on();
    until(
        "the first one is sent away",
        Duration::from_secs(10),
        || first.ended().is_some(),
    );
    assert!(
        first.statuses().iter().any(|code| code == BAD_NAME),
        "{:?}",
        first.statuses()
    );
    wait_sent(&second, 60);
    assert_eq!(notices(&viewer), [UNPUBLISHED, PUBLISHED]);
    let mut sent = first.vanish();
    let received = viewer.received();
    sent.retain(|sent| received.iter().any(|received| received.id == sent.id));
    finish(&sent, second, &[viewer]);
}

#[test]
fn a_publisher_that_returns_goes_on_with_its_viewers() {
    let mut cluster = Cluster::start(2, 2);
    let mut viewers = Vec::new();
    let mut sent = Vec::new();
    // First in order, then without a word, then through the other edge.
    for round in 0..3 {
        let settings = numbered(round as u64);
        let publisher = Publisher::start(&cluster.url(round / 2, NAME), settings);
        if round == 0 {
            viewers.extend([0, 1].map(|edge| Viewer::start(&cluster.url(edge, NAME))));
        }
        wait_sent(&publisher, 60);
        let last = publisher.sent().last().expect("frames").id;
        for viewer in &viewers {
            viewer.wait_for_frame(last, Duration::from_secs(5));
        }
        let since = clock();
        sent.extend(match round {
            0 => publisher.finish(),
            _ => publisher.vanish(),
        });
        for viewer in &viewers {
            until("viewers hear that it left", Duration::from_secs(5), || {
                viewer.assert_connected();
                notices(viewer).len() == 2 * round + 1
            });
            let told = [UNPUBLISHED, PUBLISHED].repeat(round + 1);
            assert_eq!(notices(viewer), told[..told.len() - 1]);
        }
        println!("round {round}: told after {:?}", clock() - since);
    }
    for (index, viewer) in viewers.iter().enumerate() {
        let received = viewer.received();
        // The last frame of one that vanishes may stay with it.
        let all: Vec<Sent> = sent
            .iter()
            .filter(|sent| received.iter().any(|received| received.id == sent.id))
            .copied()
            .collect();
        assert!(
            sent.len() - all.len() <= 2,
            "{} of {} frames",
            all.len(),
            sent.len()
        );
        assert_no_loss(&format!("viewer {index}"), &all, &received);
    }
}
