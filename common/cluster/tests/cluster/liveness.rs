//! Who is noticed when, by whom.

use std::time::{Duration, Instant};

use headwater_cluster::Availability::{Available, Draining, Unreachable};
use headwater_cluster::config::{ClusterConfig, MembershipKind};
use headwater_cluster::{LocalState, Placement};
use headwater_media::name::StreamName;
use headwater_proto::v1::StatusRequest;
use headwater_proto::v1::node_client::NodeClient;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::support::{Origin, Puppet, bind_again, config, edge, id, listener, until};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[tokio::test]
async fn a_killed_origin_is_noticed_at_once_and_returns_after_settling() {
    let listening = listener().await;
    let address = listening.local_addr().unwrap();
    let config = config(&[("o1", address)]);
    let origin = Origin::start("o1", listening, config.clone(), None);
    let (edge, _stop) = edge(config.clone(), None);
    edge.ready().await;
    assert_eq!(
        edge.view().availability(&id("o1")),
        Available,
        "the first contact is trusted at once"
    );
    let incarnation = edge.view().status(&id("o1")).incarnation;
    assert_eq!(incarnation, origin.cluster.incarnation());

    origin.kill();
    let noticed = until(&edge, "o1", Unreachable).await;
    assert!(
        noticed < ms(600),
        "a broken connection needs no silence: {noticed:?}"
    );

    let origin = Origin::start("o1", bind_again(address).await, config, None);
    let returned = until(&edge, "o1", Available).await;
    assert!(returned >= ms(500), "back without settling: {returned:?}");
    assert_ne!(edge.view().status(&id("o1")).incarnation, incarnation);
    origin.stop().await;
}

#[tokio::test]
async fn a_hung_origin_is_noticed_by_its_silence() {
    let listening = listener().await;
    let config = config(&[("o1", listening.local_addr().unwrap())]);
    let puppet = Puppet::start("o1", listening);
    let (edge, _stop) = edge(config, None);
    until(&edge, "o1", Available).await;
    puppet.hung.send_replace(true);
    let noticed = until(&edge, "o1", Unreachable).await;
    assert!(
        noticed >= ms(450),
        "less than the silence and the last heartbeat: {noticed:?}"
    );
    assert!(noticed < ms(2_000), "{noticed:?}");
    puppet.hung.send_replace(false);
    until(&edge, "o1", Available).await;
}

#[tokio::test]
async fn calls_to_a_lost_node_fail_fast() {
    let listening = listener().await;
    let config = config(&[("o1", listening.local_addr().unwrap())]);
    let puppet = Puppet::start("o1", listening);
    let (edge, _stop) = edge(config, None);
    until(&edge, "o1", Available).await;
    let call = || async {
        NodeClient::new(edge.channel(&id("o1"), 7).unwrap())
            .status(StatusRequest {})
            .await
    };
    assert_eq!(call().await.unwrap().into_inner().node, "o1");
    puppet.hung.send_replace(true);
    until(&edge, "o1", Unreachable).await;
    // It would hang for the seconds of the keep-alive, and once more for each connect.
    for _ in 0..3 {
        let start = Instant::now();
        assert!(call().await.is_err());
        assert!(start.elapsed() < ms(300), "{:?}", start.elapsed());
    }
    puppet.hung.send_replace(false);
    until(&edge, "o1", Available).await;
    assert_eq!(call().await.unwrap().into_inner().node, "o1");
}

#[tokio::test]
async fn a_reported_failure_is_checked_at_once() {
    let listening = listener().await;
    let mut config = config(&[("o1", listening.local_addr().unwrap())]);
    // Silence alone would take a minute.
    config.liveness.heartbeat_ms = 1_000;
    config.liveness.silence_ms = 60_000;
    let puppet = Puppet::start("o1", listening);
    let (edge, _stop) = edge(config, None);
    until(&edge, "o1", Available).await;
    let generation = edge.view().generation();
    edge.report_failure(&id("o1"));
    // A wrong report costs a question, and no more. Long enough for the question to be answered.
    tokio::time::sleep(ms(300)).await;
    assert_eq!(edge.view().generation(), generation);
    puppet.hung.send_replace(true);
    edge.report_failure(&id("o1"));
    let noticed = until(&edge, "o1", Unreachable).await;
    assert!(noticed < ms(2_000), "{noticed:?}");
}

#[tokio::test]
async fn draining_is_told_at_once() {
    let listening = listener().await;
    let mut config = config(&[("o1", listening.local_addr().unwrap())]);
    config.liveness.heartbeat_ms = 10_000;
    config.liveness.silence_ms = 60_000;
    let origin = Origin::start("o1", listening, config.clone(), None);
    let (edge, _stop) = edge(config, None);
    until(&edge, "o1", Available).await;
    origin.cluster.set_state(LocalState::Draining);
    assert_eq!(origin.cluster.view().availability(&id("o1")), Draining);
    let noticed = until(&edge, "o1", Draining).await;
    assert!(noticed < ms(5_000), "waited for a heartbeat: {noticed:?}");
    let name = StreamName::new("v", "live", "i", "camera").unwrap();
    let route = edge.view().route(&name).unwrap();
    assert_eq!(route.node, id("o1"), "a draining node is better than none");
    origin.cluster.set_state(LocalState::Serving);
    until(&edge, "o1", Available).await;
}

#[tokio::test]
async fn a_node_that_never_answered_is_unreachable_and_ready_does_not_wait_for_it() {
    let (closed, silent) = (listener().await, listener().await);
    let addresses = (closed.local_addr().unwrap(), silent.local_addr().unwrap());
    drop(closed);
    let start = Instant::now();
    let (edge, stop) = edge(config(&[("o1", addresses.0), ("o2", addresses.1)]), None);
    edge.ready().await;
    assert!(start.elapsed() < ms(5_000), "{:?}", start.elapsed());
    for node in ["o1", "o2"] {
        assert_eq!(edge.view().availability(&id(node)), Unreachable);
    }
    assert_eq!(
        edge.view()
            .route(&StreamName::new("v", "live", "i", "camera").unwrap()),
        None
    );
    stop.cancel();
    edge.stopped().await;
}

#[tokio::test]
async fn a_node_with_another_name_is_not_taken_for_the_member() {
    let listening = listener().await;
    let config = config(&[("o1", listening.local_addr().unwrap())]);
    let _puppet = Puppet::start("o2", listening);
    let (edge, _stop) = edge(config, None);
    edge.ready().await;
    assert_eq!(edge.view().availability(&id("o1")), Unreachable);
}

/// The watcher's own thread is kept busy for longer than the silence: it must not blame the peer.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_starved_watcher_does_not_lose_its_peer() {
    let listening = listener().await;
    let config = config(&[("o1", listening.local_addr().unwrap())]);
    let _puppet = Puppet::start("o1", listening);
    let (edge, _stop) = edge(config, None);
    until(&edge, "o1", Available).await;
    let generation = edge.view().generation();
    for _ in 0..2 {
        tokio::spawn(async {
            let start = Instant::now();
            while start.elapsed() < ms(850) {
                std::hint::spin_loop();
            }
        })
        .await
        .unwrap();
        tokio::time::sleep(ms(250)).await;
    }
    assert_eq!(
        edge.view().generation(),
        generation,
        "{:?}",
        edge.view().status(&id("o1"))
    );
}

#[tokio::test]
async fn origins_place_a_stream_on_the_next_one_when_its_owner_is_gone() {
    let listeners = [listener().await, listener().await, listener().await];
    let addresses = listeners
        .each_ref()
        .map(|listener| listener.local_addr().unwrap());
    let config = config(&[
        ("o1", addresses[0]),
        ("o2", addresses[1]),
        ("o3", addresses[2]),
    ]);
    let mut origins: Vec<_> = listeners
        .into_iter()
        .zip(["o1", "o2", "o3"])
        .map(|(listener, name)| Some(Origin::start(name, listener, config.clone(), None)))
        .collect();
    for origin in origins.iter().flatten() {
        origin.cluster.ready().await;
        for name in ["o1", "o2", "o3"] {
            until(&origin.cluster, name, Available).await;
        }
    }
    let name = StreamName::new("v", "live", "i", "camera").unwrap();
    let order: Vec<usize> = origins[0]
        .as_ref()
        .unwrap()
        .cluster
        .view()
        .candidates(&name)
        .iter()
        .map(|member| {
            ["o1", "o2", "o3"]
                .iter()
                .position(|id| *id == member.id.as_str())
                .unwrap()
        })
        .collect();
    let place = |origin: &Option<Origin>| {
        origin
            .as_ref()
            .unwrap()
            .cluster
            .view()
            .placement(&name, &[])
    };
    assert_eq!(place(&origins[order[0]]), Placement::Own);
    assert!(
        matches!(place(&origins[order[1]]), Placement::Elsewhere(member) if member.id == *origins[order[0]].as_ref().unwrap().cluster.id())
    );

    let owner = origins[order[0]].take().unwrap();
    let owner_id = owner.cluster.id().to_string();
    owner.kill();
    for position in [1, 2] {
        until(
            &origins[order[position]].as_ref().unwrap().cluster,
            &owner_id,
            Unreachable,
        )
        .await;
    }
    assert_eq!(place(&origins[order[1]]), Placement::Own);
    assert!(
        matches!(place(&origins[order[2]]), Placement::Elsewhere(member) if member.id == *origins[order[1]].as_ref().unwrap().cluster.id())
    );
}

#[tokio::test]
async fn a_new_member_list_is_followed() {
    let listeners = [listener().await, listener().await];
    let addresses = listeners
        .each_ref()
        .map(|listener| listener.local_addr().unwrap());
    let _puppets: Vec<_> = listeners
        .into_iter()
        .zip(["o1", "o2"])
        .map(|(listener, name)| Puppet::start(name, listener))
        .collect();
    let (edge, _stop) = edge(config(&[("o1", addresses[0])]), None);
    until(&edge, "o1", Available).await;
    let version = edge.view().ring_version();
    edge.set_members(&[
        format!("o1={}", addresses[0]),
        format!("o2={}", addresses[1]),
    ])
    .unwrap();
    assert_ne!(edge.view().ring_version(), version);
    assert_eq!(
        edge.view().availability(&id("o1")),
        Available,
        "its watch goes on"
    );
    until(&edge, "o2", Available).await;
    edge.set_members(&[format!("o2={}", addresses[1])]).unwrap();
    assert!(edge.view().member("o1").is_none());
    assert!(edge.channel(&id("o1"), 0).is_err());
    assert!(edge.set_members(&["o2".to_owned()]).is_err());
    assert_eq!(edge.view().availability(&id("o2")), Available);
}

#[tokio::test]
async fn members_are_found_through_a_name() {
    let listening = listener().await;
    let port = listening.local_addr().unwrap().port();
    let mut config = ClusterConfig {
        membership: MembershipKind::Dns,
        dns_name: Some(format!("localhost:{port}")),
        dns_interval_ms: 500,
        ..ClusterConfig::default()
    };
    let (edge, _stop) = edge(config.clone(), None);
    config.advertise = Some(format!("127.0.0.1:{port}"));
    let origin = Origin::start("o1", listening, config, None);
    until(&edge, "o1", Available).await;
    // Its own address is behind the name, too.
    origin.cluster.ready().await;
    assert_eq!(origin.cluster.view().members().len(), 1);
    assert_eq!(
        origin.cluster.view().ring_version(),
        edge.view().ring_version()
    );
    origin.stop().await;
    until(&edge, "o1", Unreachable).await;
    assert_eq!(
        edge.view().members().len(),
        1,
        "its address is still behind the name"
    );
}

#[tokio::test]
async fn a_node_that_only_an_answer_named_can_be_called() {
    let listening = listener().await;
    let address = listening.local_addr().unwrap().to_string();
    let _puppet = Puppet::start("o9", listening);
    let (edge, _stop) = edge(config(&[]), None);
    let channel = edge.channel_at(&id("o9"), &address).unwrap();
    assert_eq!(
        NodeClient::new(channel)
            .status(StatusRequest {})
            .await
            .unwrap()
            .into_inner()
            .node,
        "o9"
    );
    assert!(
        edge.channel_at(&id("o9"), "10.0.0.1:7400").is_err(),
        "plain text to a network"
    );
    assert!(edge.channel_at(&id("o9"), "nonsense").is_err());
}

/// As SIGSTOP does it: connections stand, the kernel takes bytes, and nobody answers, not even a ping.
#[tokio::test]
async fn a_call_on_a_connection_that_froze_ends() {
    let (listening, proxy) = (listener().await, listener().await);
    let behind = listening.local_addr().unwrap();
    let config = config(&[("o1", proxy.local_addr().unwrap())]);
    let _puppet = Puppet::start("o1", listening);
    let frozen = watch::Sender::new(false);
    let seen = frozen.subscribe();
    let _proxy = AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            let (mut near, _) = proxy.accept().await.unwrap();
            let mut seen = seen.clone();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(behind).await.unwrap();
                tokio::select! {
                    biased;
                    _ = seen.wait_for(|frozen| *frozen) => {}
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
                }
                // Held open as long as the test.
                std::future::pending::<()>().await;
            });
        }
    }));
    let (edge, _stop) = edge(config, None);
    until(&edge, "o1", Available).await;
    let mut client = NodeClient::new(edge.channel(&id("o1"), 0).unwrap());
    client.status(StatusRequest {}).await.unwrap();
    frozen.send_replace(true);
    // Before anybody noticed.
    let call = tokio::time::timeout(ms(8_000), client.status(StatusRequest {}));
    let (noticed, outcome) = tokio::join!(until(&edge, "o1", Unreachable), call);
    assert!(noticed < ms(2_000), "{noticed:?}");
    assert!(outcome.expect("the call hangs").is_err());
}
