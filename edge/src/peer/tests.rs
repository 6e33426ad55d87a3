//! Clients of several edges, and origins between them, over real sockets.

mod bench;
mod client;

use std::collections::BTreeSet;

use headwater_amf::Value;
use headwater_rtmfp::group::GroupId;

use bench::{Bench, until};
use client::Client;

const GROUP: GroupId = GroupId([5; 32]);

#[tokio::test]
async fn clients_of_two_edges_are_introduced_and_talk_without_them() {
    let mut bench = Bench::start(&["a", "b"], 2).await;
    let mut clients = bench.clients(&[0, 1]).await;
    let wanted = clients[1].id();
    let direct = clients[0].ask_for(wanted);
    until("a direct session", &mut clients, |all| {
        all[0].is_open(direct)
    })
    .await;
    assert_eq!(clients[0].session(direct).fingerprint(), wanted);
    assert_eq!(clients[0].session(direct).address(), clients[1].address());
    clients[0].send(direct, "hello");
    until("a message", &mut clients, |all| {
        all[1].direct() == ["hello"]
    })
    .await;
    assert_eq!(bench.introductions(0, "elsewhere"), 1);
    assert!(bench.metric(1, "peer_hellos_forwarded_total") >= 1.0);
    bench.stop().await;
}

#[tokio::test]
async fn a_client_that_has_moved_is_found_where_it_is() {
    let mut bench = Bench::start(&["a"], 2).await;
    let mut clients = bench.clients(&[0, 1]).await;
    clients[1].move_away();
    // It does not answer who asks before it is asked itself: only its address helps.
    clients[1].ignore_hellos();
    clients[1].say_where();
    let wanted = clients[1].id();
    let direct = clients[0].ask_for(wanted);
    until("a direct session", &mut clients, |all| {
        all[0].is_open(direct)
    })
    .await;
    assert_eq!(clients[0].session(direct).address(), clients[1].address());
    bench.stop().await;
}

#[tokio::test]
async fn clients_of_one_edge_are_introduced_by_it_alone_whoever_serves_them() {
    let mut bench = Bench::start(&["a"], 1).await;
    // The kernel chooses the worker.
    let mut clients = bench.clients(&[0; 6]).await;
    bench.kill("a");
    let wanted = clients[0].id();
    let direct: Vec<u32> = clients[1..]
        .iter_mut()
        .map(|client| client.ask_for(wanted))
        .collect();
    until("direct sessions", &mut clients, |all| {
        let mut each = all[1..].iter().zip(&direct);
        each.all(|(client, session)| client.is_open(*session))
    })
    .await;
    bench.stop().await;
}

#[tokio::test]
async fn who_has_not_said_where_it_is_or_is_gone_is_not_found() {
    let mut bench = Bench::start(&["a"], 2).await;
    let mut clients = bench.clients(&[0, 1]).await;
    let mut silent = Client::new(bench.address(1));
    silent.connect();
    clients.push(silent);
    until("a connection", &mut clients, |all| all[2].is_connected()).await;
    let wanted = clients[2].id();
    let direct = clients[0].ask_for(wanted);
    until_introductions(&bench, &mut clients, "unknown", 1).await;
    assert!(!clients[0].is_open(direct));
    clients[0].give_up(direct);
    // It says it now, and leaves.
    clients[2].say_where();
    until("a registration", &mut clients, |_| {
        bench.metric(1, "peers") == 2.0
    })
    .await;
    let direct = clients[0].ask_for(wanted);
    until("a direct session", &mut clients, |all| {
        all[0].is_open(direct)
    })
    .await;
    clients[2].close();
    until("its end", &mut clients, |_| bench.metric(1, "peers") == 1.0).await;
    let before = bench.introductions(1, "unknown");
    clients[1].ask_for(wanted);
    until("an answer", &mut clients, |_| {
        bench.introductions(1, "unknown") > before
    })
    .await;
    bench.stop().await;
}

async fn until_introductions(bench: &Bench, clients: &mut [Client], outcome: &str, count: u64) {
    until("introductions", clients, |_| {
        bench.introductions(0, outcome) >= count
    })
    .await;
}

#[tokio::test]
async fn a_command_comes_to_a_client_of_another_edge() {
    let mut bench = Bench::start(&["a", "b"], 2).await;
    let mut clients = bench.clients(&[0, 1, 1]).await;
    for to in [1, 2, 0] {
        // Of another edge, of the same, and to itself.
        let from = usize::from(to == 2);
        let (sender, wanted) = (clients[from].id(), clients[to].id());
        // What its edge has said of it may be on its way still.
        let said = async {
            loop {
                clients[from].relay(wanted, "invite");
                for _ in 0..25 {
                    client::pump(&mut clients).await;
                }
                if !clients[to].relayed().is_empty() {
                    return;
                }
            }
        };
        tokio::time::timeout(bench::PATIENCE, said).await.unwrap();
        let first = clients[to].relayed()[0].clone();
        let sender = Value::from(sender.to_string().as_str());
        assert_eq!(first, [sender, Value::from("invite")]);
    }
    bench.stop().await;
}

#[tokio::test]
async fn members_of_a_group_are_told_of_each_other_wherever_they_are() {
    let mut bench = Bench::start(&["a", "b"], 2).await;
    let mut clients = bench.clients(&[0, 1, 0, 1, 0, 1]).await;
    for client in &mut clients {
        client.join(GROUP);
    }
    until("all neighbours", &mut clients, |all| {
        all.iter().all(|client| client.neighbours().len() == 5)
    })
    .await;
    let ids: BTreeSet<_> = clients.iter().map(Client::id).collect();
    for client in &clients {
        let mut others = ids.clone();
        others.remove(&client.id());
        assert_eq!(*client.neighbours(), others);
    }
    // Two leave, one by its flow and one with its session.
    clients[0].leave();
    clients[1].close();
    until("their end", &mut clients, |_| {
        bench.origin_metric("peers_memberships") == 4.0
    })
    .await;
    // An edge dies, and what it has said dies with it.
    bench.kill_edge(1);
    until("the end of an edge", &mut clients, |_| {
        bench.origin_metric("peers_memberships") == 2.0
    })
    .await;
    let mut late = bench.clients(&[0]).await;
    late[0].join(GROUP);
    let alive = BTreeSet::from([clients[2].id(), clients[4].id()]);
    until("neighbours", &mut late, |all| {
        all[0].neighbours().len() == 2
    })
    .await;
    assert_eq!(*late[0].neighbours(), alive);
    until("the newcomer", &mut clients, |all| {
        all[2].neighbours().contains(&late[0].id())
    })
    .await;
    bench.stop().await;
}

#[tokio::test]
async fn a_large_group_goes_on_after_the_death_of_an_edge() {
    let mut bench = Bench::start(&["a", "b"], 3).await;
    let edges: Vec<usize> = (0..20).map(|number| number % 3).collect();
    let mut clients = bench.clients(&edges).await;
    for client in &mut clients {
        client.join(GROUP);
    }
    let all_have_some =
        |all: &mut [Client]| all.iter().all(|client| client.neighbours().len() >= 6);
    until("neighbours", &mut clients, all_have_some).await;
    bench.kill_edge(2);
    let mut number = 0;
    clients.retain(|_| {
        number += 1;
        edges[number - 1] != 2
    });
    let alive = clients.len() as f64;
    until("the end of an edge", &mut clients, |_| {
        bench.origin_metric("peers_memberships") == alive
    })
    .await;
    // Those who were there come back elsewhere, as somebody else: Flash makes a new certificate for each connection.
    let mut back = bench.clients(&[0, 1, 0, 1, 0, 1]).await;
    for client in &mut back {
        client.join(GROUP);
    }
    until("neighbours once more", &mut back, all_have_some).await;
    clients.append(&mut back);
    let ids: BTreeSet<_> = clients.iter().map(Client::id).collect();
    let newcomers = clients[ids.len() - 6..].iter_mut();
    let asked: Vec<_> = newcomers
        .map(|client| {
            assert!(client.neighbours().is_subset(&ids), "told of the dead");
            let wanted = *client.neighbours().first().unwrap();
            client.ask_for(wanted)
        })
        .collect();
    until("direct sessions", &mut clients, |all| {
        let mut newcomers = all[ids.len() - 6..].iter().zip(&asked);
        // Two that ask for each other at once have one session.
        newcomers.all(|(client, session)| client.is_open(*session) || client.peers() > 0)
    })
    .await;
    bench.stop().await;
}

#[tokio::test]
async fn flows_that_join_nothing_are_rejected() {
    let mut bench = Bench::start(&["a"], 1).await;
    let mut clients = bench.clients(&[0]).await;
    clients[0].open_group_flow(b"\x01\x02\x15x");
    until("a rejection", &mut clients, |all| all[0].rejected() == 1).await;
    for _ in 0..40 {
        clients[0].join(GROUP);
    }
    until("rejections", &mut clients, |all| all[0].rejected() == 9).await;
    assert_eq!(bench.metric(0, "peer_memberships"), 1.0);
    bench.stop().await;
}

#[tokio::test]
async fn introductions_work_again_after_the_death_of_an_origin() {
    let mut bench = Bench::start(&["a", "b"], 2).await;
    let mut clients = bench.clients(&[0, 1, 0, 1, 0, 1, 0, 1]).await;
    for client in &mut clients {
        client.join(GROUP);
    }
    until("all memberships", &mut clients, |_| {
        bench.origin_metric("peers_memberships") == 8.0
    })
    .await;
    bench.kill("a");
    // Whoever owned them: each asks for its neighbour at the other edge, and repeats itself as RTMFP says.
    let asked: Vec<u32> = (0..8)
        .map(|number: usize| {
            let wanted = clients[number ^ 1].id();
            clients[number].ask_for(wanted)
        })
        .collect();
    until("direct sessions", &mut clients, |all| {
        let mut pairs = (0..4).map(|pair| 2 * pair);
        pairs.all(|first| {
            // Both ask at once: one of the two sessions comes to be, or both.
            all[first].is_open(asked[first]) || all[first + 1].is_open(asked[first + 1])
        })
    })
    .await;
    until("the group at its new owner", &mut clients, |_| {
        bench.origin_metric("peers_memberships") == 8.0
            && bench.origin_metric("peers_registered") == 8.0
    })
    .await;
    bench.stop().await;
}

#[tokio::test]
async fn applications_may_keep_their_clients_apart() {
    let mut bench = Bench::start(&["a"], 1).await;
    let mut clients = bench.clients(&[0]).await;
    let mut apart = Client::new(bench.address(0));
    apart.connect_to("apart");
    clients.push(apart);
    until("a connection", &mut clients, |all| all[1].is_connected()).await;
    clients[1].say_where();
    clients[1].join(GROUP);
    until("a rejection", &mut clients, |all| all[1].rejected() == 1).await;
    let wanted = clients[1].id();
    clients[0].ask_for(wanted);
    until_introductions(&bench, &mut clients, "unknown", 1).await;
    assert_eq!(bench.metric(0, "peers"), 1.0);
    bench.stop().await;
}
