//! What an encoder says of its stream with `DVRSetStreamInfo` is told to players at every edge, and outlives origins.

use std::time::Duration;

use headwater_amf::{Object, Value};
use headwater_rtmp::command::PublishMode;

use crate::a_cluster_carries_live_streams::light;
use crate::support::client::Publisher;
use crate::support::cluster::{Cluster, Plan};
use crate::support::s3::S3;
use crate::support::steered::Steered;
use crate::support::wait::eventually;

/// How long things may take that take a second.
const LIMIT: Duration = Duration::from_secs(15);

fn url(cluster: &mut Cluster, edge: usize) -> String {
    cluster.edges[edge].url("dvrcast/show")
}

/// Says where players may begin, and that the show will be an hour long.
fn say(cluster: &mut Cluster, edge: usize, offset: f64) {
    let mut encoder = Steered::connect(&url(cluster, edge));
    let info = Object::new()
        .with("streamName", "show")
        .with("maxLen", 3_600.0)
        .with("begOffset", offset)
        .with("append", false)
        .with("offline", false);
    let answer = encoder.call("DVRSetStreamInfo", Value::Object(info));
    assert_eq!(answer, Ok(Value::Null));
}

/// What a player is told at an edge; `None` unless there is a recording.
fn ask(cluster: &mut Cluster, edge: usize) -> Option<Value> {
    let mut player = Steered::connect(&url(cluster, edge));
    let answer = player.call("DVRGetStreamInfo", "show".into());
    let answer = answer.expect("an answer");
    let code = answer.get("code").and_then(Value::as_str);
    let told = code == Some("NetStream.DVRStreamInfo.Success");
    answer.get("data").filter(|_| told).cloned()
}

/// Waits until players are told of this offset, and that somebody records or nobody does.
fn wait_told(cluster: &mut Cluster, edge: usize, offset: f64, recording: bool) {
    let what = format!("edge {edge} tells of {offset} s, recording: {recording}");
    eventually(&what, LIMIT, || {
        let told = ask(cluster, edge)?;
        let number = |name| told.get(name).and_then(Value::as_number);
        let is_it = number("begOffset") == Some(offset)
            && number("maxLen") == Some(3_600.0)
            && told.get("append") == Some(&Value::Boolean(false))
            && told.get("isRec") == Some(&Value::Boolean(recording))
            // As it really is.
            && number("currLen").is_some_and(|length| (0.1..60.0).contains(&length));
        is_it.then_some(())
    });
}

fn publish(cluster: &mut Cluster) -> Publisher {
    let url = url(cluster, 0);
    let publisher = Publisher::start_as(&url, light(), PublishMode::Record);
    publisher.wait_status("NetStream.Record.Start", LIMIT);
    publisher
}

#[test]
fn players_at_another_edge_are_told_also_after_the_origin_was_restarted() {
    let mut cluster = Cluster::start(1, 2);
    let publisher = publish(&mut cluster);
    say(&mut cluster, 0, 2.5);
    // At once where it was said.
    let told = ask(&mut cluster, 0).expect("a recording");
    assert_eq!(told.get("begOffset"), Some(&Value::Number(2.5)));
    wait_told(&mut cluster, 1, 2.5, true);

    cluster.origins[0].kill();
    cluster.origins[0].restart();
    cluster.wait_complete();
    wait_told(&mut cluster, 1, 2.5, true);
    wait_told(&mut cluster, 0, 2.5, true);
    // Said anew at the other edge, in place of that.
    say(&mut cluster, 1, 4.0);
    wait_told(&mut cluster, 0, 4.0, true);

    publisher.finish();
    wait_told(&mut cluster, 0, 4.0, false);
    cluster.origins[0].kill();
    cluster.origins[0].restart();
    cluster.wait_complete();
    wait_told(&mut cluster, 1, 4.0, false);
}

#[test]
fn the_next_owner_knows_what_was_said_to_the_one_that_died() {
    let store = S3::start();
    let mut cluster = Cluster::with(&Plan {
        origins: 2,
        edges: 2,
        origin_flags: store.flags(),
        ..Plan::default()
    });
    let publisher = publish(&mut cluster);
    say(&mut cluster, 1, 2.5);
    wait_told(&mut cluster, 0, 2.5, true);
    // One after the other, so each of them was the one.
    for origin in 0..2 {
        cluster.origins[origin].kill();
        wait_told(&mut cluster, 0, 2.5, true);
        wait_told(&mut cluster, 1, 2.5, true);
        cluster.origins[origin].restart();
        cluster.wait_complete();
    }
    publisher.assert_connected();
}

#[test]
fn who_may_not_publish_says_nothing() {
    let flags = [
        "--set",
        "applications.dvrcast.dvr=true",
        "--set",
        "applications.dvrcast.publish=false",
    ];
    let mut cluster = Cluster::with(&Plan {
        origins: 1,
        edges: 1,
        edge_flags: flags.map(str::to_owned).to_vec(),
        ..Plan::default()
    });
    let mut client = Steered::connect(&url(&mut cluster, 0));
    let info = Object::new().with("streamName", "show");
    let answer = client.call("DVRSetStreamInfo", Value::Object(info));
    let error = answer.expect_err("it is refused");
    let why = error.get("description").and_then(Value::as_str);
    assert_eq!(why, Some("The application dvrcast takes no publishers."));
}
