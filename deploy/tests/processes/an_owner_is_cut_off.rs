//! An origin that hosts an application instance is cut off from everybody but the store, and lives on: the other one takes the instance,
//! and what the old one thinks it owns it cannot commit any more. Clients stay, and nothing that was confirmed is lost.
//!
//! With `HEADWATER_TEST_FULL_LOAD` it is done under 500 clients, 50 objects and 2,000 changes a second, which takes an optimized build.

use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_cluster::Member;
use headwater_cluster::ring::Ring;
use headwater_loadtest::members::objects::{Dialect, ObjectOptions, Users};
use headwater_loadtest::members::{Encodings, MemberOptions};
use headwater_loadtest::target::Target;
use headwater_media::name::{DEFAULT_VHOST, InstanceName};
use tempfile::TempDir;

use crate::support::network::Network;
use crate::support::node::Node;
use crate::support::tools::cannot;
use crate::support::wait::{pause, until};

const LIMIT: Duration = Duration::from_secs(30);

/// Two origins and two edges, each a host, in this order.
const HOSTS: usize = 4;

struct Stage {
    network: Network,
    nodes: Vec<Node>,
    owner: usize,
    _folder: TempDir,
}

impl Stage {
    /// `None`, with a word about it, where no network can be made or entered.
    fn start() -> Option<Self> {
        let network = Network::make(HOSTS as u8)?;
        if !network.enter() {
            cannot("a network namespace cannot be entered here");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let store = folder.path().join("store");
        std::fs::create_dir_all(store.join("applications/chat")).expect("a folder");
        std::fs::write(store.join("applications/chat/app.toml"), "").expect("a file");
        let members: Vec<String> = (0..2)
            .map(|host| format!("o{}={}:7000", host + 1, network.address(host)))
            .collect();
        let list = members.join(",");
        let nodes = (0..HOSTS).map(|host| {
            let address = network.address(host);
            let admin = format!("{address}:9000");
            let (name, role) = match host {
                0 | 1 => (format!("o{}", host + 1), "origin"),
                _ => (format!("e{}", host - 1), "edge"),
            };
            let mut arguments = vec![role.to_owned()];
            let storage = format!("origin.storage.url=file://{}", store.display());
            let data = folder.path().join(&name).display().to_string();
            let rtmp = format!("{address}:1935");
            let own: &[&str] = match role {
                "origin" => &["--data", &data, "--set", &storage],
                _ => &["--rtmp", &rtmp],
            };
            let common = ["--id", &name, "--admin", &admin, "--cluster", &list];
            let open = ["--set", "cluster.insecure=true"];
            let log = ["--log", "info,headwater=debug"];
            for words in [own, &common, &open, &log] {
                arguments.extend(words.iter().map(|word| (*word).to_owned()));
            }
            Node::spawn_within(&network.on(host), &name, arguments)
        });
        let mut nodes: Vec<Node> = nodes.collect();
        for node in &mut nodes {
            node.wait_ready();
        }
        for edge in &mut nodes[2..] {
            until("the edge reaches all origins", LIMIT, || {
                edge.get("/readyz").1.contains("2 of 2 origins")
            });
        }
        let ring = Ring::new(
            members
                .iter()
                .map(|entry| Arc::new(entry.parse::<Member>().expect("a member"))),
            256,
        );
        let key = InstanceName::new(DEFAULT_VHOST, "chat", "room")
            .expect("a name")
            .key();
        let owner = ring.candidates(ring.partition(&key)).next();
        let owner = usize::from(owner.expect("an owner").id.as_str() == "o2");
        Some(Self {
            network,
            nodes,
            owner,
            _folder: folder,
        })
    }

    fn members(&self, count: usize) -> MemberOptions {
        let targets = [2, 3].map(|edge| {
            let url = format!("rtmp://{}/chat/room", self.network.address(edge));
            Target::with_name(&url, "").expect("an address")
        });
        MemberOptions {
            count,
            ramp: 0,
            encodings: Encodings::Both,
            ..MemberOptions::new(targets.to_vec())
        }
    }

    /// Everybody but the owner.
    fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let owner = self.owner;
        (0..HOSTS).filter(move |host| *host != owner)
    }
}

#[test]
fn and_cannot_commit_what_it_thinks_it_owns() {
    let Some(stage) = Stage::start() else {
        return;
    };
    let record = tempfile::NamedTempFile::new().expect("a file");
    let is_full = std::env::var_os("HEADWATER_TEST_FULL_LOAD").is_some();
    let load = if is_full {
        ObjectOptions {
            objects: 50,
            writers: 100,
            slots: 4,
            rate: 2_000,
            ..ObjectOptions::new(stage.members(500))
        }
    } else {
        ObjectOptions {
            objects: 6,
            per_member: 3,
            writers: 8,
            rate: 100,
            ..ObjectOptions::new(stage.members(24))
        }
    };
    let options = ObjectOptions {
        sends: 10,
        is_persistent: true,
        record: Some(record.path().to_owned()),
        ..load
    };
    let users = Users::start(options).expect("clients");
    until("all use their objects", LIMIT, || users.have_joined());
    users.begin();
    until("changes are made", LIMIT, || users.counts().answered > 100);
    let cut_at = Instant::now();
    for other in stage.others() {
        stage.network.cut(stage.owner, other);
    }
    let before = users.counts().answered;
    until("it goes on at the other origin", LIMIT, || {
        users.counts().answered > before + 200
    });
    println!(
        "200 changes after the cut were confirmed after {:?}",
        cut_at.elapsed()
    );
    let old = &stage.nodes[stage.owner];
    until("the old owner knows that it was fenced", LIMIT, || {
        old.log_text()
            .contains("another origin has taken the state")
    });
    println!("the old owner let go after {:?}", cut_at.elapsed());
    pause(Duration::from_secs(1));
    for other in stage.others() {
        stage.network.mend(stage.owner, other);
    }
    let before = users.counts().answered;
    until("it goes on when all see each other again", LIMIT, || {
        users.counts().answered > before + 200
    });
    users.settle();
    until("all have the same", LIMIT, || users.have_settled());
    let found = users.report();
    println!("{}", found.table());
    assert!(found.is_without_loss(), "{}", found.table());
    let readers = Users::verify(stage.members(2), Dialect::Player, record.path());
    let readers = readers.expect("clients");
    until("readers have the objects", LIMIT, || readers.have_joined());
    let left = readers.verified();
    assert!(left.is_without_loss(), "{}", left.table());
}
