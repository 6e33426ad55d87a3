//! Streams that are fed into RTMFP groups: members at every edge get all of a stream that is published over RTMP or RTMFP, from a member that
//! the publisher's edge is itself.

use std::time::Duration;

use headwater_media::frame::FrameKind::{self, Audio, Video};
use headwater_rtmp::client::ClientEvent;
use headwater_rtmp::command::PublishMode;

use crate::a_cluster_carries_live_streams::light;
use crate::support::client::{Connection, Publisher, Sent};
use crate::support::cluster::{Cluster, Plan};
use crate::support::media::assert_same;
use crate::support::member::Member;
use crate::support::wait::{runtime, until};

const LIMIT: Duration = Duration::from_secs(20);

const GROUP: &str = "G:027f0201010103010c050e74657374011b00";

/// Others.
const SECOND: &str = "G:027f0201010103010c050e74657375011b00";
const OTHER: &str = "G:027f0201010103010c050e74657376011b00";

fn cluster(flags: &[&str]) -> Cluster {
    let flags = ["--rtmfp", "127.0.0.1:0"].iter().chain(flags);
    Cluster::with(&Plan {
        origins: 2,
        edges: 2,
        edge_flags: flags.copied().map(str::to_owned).collect(),
        ..Plan::default()
    })
}

fn into(group: &str) -> String {
    // As encoders escape it.
    let group = group.replace(':', "%3A");
    format!("multicast/show?fms.multicast.type=3&fms.multicast.groupspec={group}")
}

/// Fails unless a member has every frame of a kind, once and in order, from the first that it has.
fn assert_no_loss(who: &str, member: &Member, sent: &[Sent], kind: FrameKind) {
    let got: Vec<_> = member.look(|came| {
        let frames = came.frames.iter().filter(|it| it.kind == kind);
        frames.copied().collect()
    });
    let sent: Vec<_> = sent
        .iter()
        .map(|it| it.id)
        .filter(|it| it.kind == kind)
        .collect();
    let first = got.first().unwrap_or_else(|| panic!("{who}: no {kind:?}"));
    let from = sent.iter().position(|it| it == first);
    let from = from.unwrap_or_else(|| panic!("{who}: {first:?} was never sent"));
    assert_same(&format!("{who}: {kind:?}"), &got, &sent[from..]);
}

#[test]
fn members_at_every_edge_get_what_is_published_at_one() {
    let mut cluster = cluster(&["--set", "edge.fanout.workers=2"]);
    let edges = [0, 1].map(|edge| cluster.edges[edge].address("rtmfp"));
    // Each in a group of its own: members do not pass on what they get, so that there may be no more than a server names.
    for (over_rtmfp, group) in [(false, GROUP), (true, SECOND)] {
        let name = into(group);
        let url = match over_rtmfp {
            false => cluster.edges[0].url(&name),
            true => cluster.edges[0].rtmfp_url(&name),
        };
        // Some are there before it, at whichever worker; some come later.
        let join = |edge: usize| Member::start(edges[edge], "multicast", group, "show");
        let mut members: Vec<Member> = [0, 1, 0].map(join).into();
        let stranger = Member::start(edges[0], "multicast", OTHER, "show");
        let publisher = Publisher::start(&url, light());
        until("it runs", LIMIT, || publisher.count() > 200);
        members.extend([1, 0].map(join));
        for (number, member) in members.iter().enumerate() {
            until(&format!("member {number} plays"), LIMIT, || {
                member.count(Video) > 100 && member.count(Audio) > 100
            });
        }
        let sent = publisher.finish();
        for (number, member) in members.iter().enumerate() {
            let who = format!("over RTMFP {over_rtmfp}, member {number}");
            until(&format!("{who} hears of the end"), LIMIT, || {
                member.look(|came| came.is_over)
            });
            assert_no_loss(&who, member, &sent, Video);
            assert_no_loss(&who, member, &sent, Audio);
            assert!(member.look(|came| came.headers) >= 3, "{who}");
            // The edge is a member at its own address.
            assert!(
                member.look(|came| came.neighbours.contains(&edges[0])),
                "{who}"
            );
        }
        assert_eq!(stranger.look(|came| came.frames.len()), 0);
        until("the edge is no member any more", LIMIT, || {
            cluster.edges[0].metric("headwater_edge_peer_members") == 0.0
        });
    }
}

#[test]
fn members_that_open_no_session_are_found_by_the_edge() {
    let mut cluster = cluster(&[]);
    let edges = [0, 1].map(|edge| cluster.edges[edge].address("rtmfp"));
    let shy = edges.map(|edge| Member::shy(edge, "multicast", GROUP, "show"));
    let publisher = Publisher::start(&cluster.edges[0].url(&into(GROUP)), light());
    for (number, member) in shy.iter().enumerate() {
        until(&format!("member {number} plays"), LIMIT, || {
            member.count(Video) > 30 && member.count(Audio) > 30
        });
        // And nobody else: neither has opened a session to the other.
        let neighbours = member.look(|came| came.neighbours.clone());
        assert_eq!(neighbours, [edges[0]], "member {number}");
    }
    publisher.finish();
}

/// What a publisher of this name is told first.
fn told(cluster: &mut Cluster, name: &str) -> String {
    let url = cluster.edges[0].url(name);
    runtime().block_on(async {
        let (mut connection, name) = Connection::open(&url).await.expect("connected");
        let id = connection.create_stream().await.expect("a stream");
        let session = &mut connection.session;
        session.publish(id, &name, PublishMode::Live).expect("sent");
        loop {
            let event = connection.next_event().await.expect("still connected");
            if let ClientEvent::Status { status, .. } = event {
                return format!("{}: {}", status.code, status.description);
            }
        }
    })
}

#[test]
fn what_cannot_be_fed_into_a_group_is_not_published() {
    let mut cluster = cluster(&["--set", "rtmfp.max_members=1"]);
    let first = Publisher::start(&cluster.edges[0].url(&into(GROUP)), light());
    let second = into(OTHER).replace("show", "second");
    for (name, why) in [
        ("multicast/a?fms.multicast.groupspec=G:0101", "no end"),
        ("multicast/a?fms.multicast.type=2", "IP multicast"),
        (&second, "as many"),
    ] {
        let told = told(&mut cluster, name);
        let is_refused = told.starts_with("NetStream.Publish.BadName");
        assert!(is_refused && told.contains(why), "{name}: {told}");
    }
    // Elsewhere the query means nothing.
    let told_live = told(&mut cluster, "live/a?fms.multicast.groupspec=x");
    assert!(
        told_live.starts_with("NetStream.Publish.Start"),
        "{told_live}"
    );
    first.finish();
    let mut told_second = String::new();
    until("there is room again", LIMIT, || {
        told_second = told(&mut cluster, &second);
        told_second.starts_with("NetStream.Publish.Start")
    });
}
