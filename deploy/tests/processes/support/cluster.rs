//! Origins and edges that know each other, each a process of its own.

use std::sync::Arc;
use std::time::Duration;

use headwater_cluster::Member;
use headwater_cluster::ring::Ring;
use headwater_media::name::{DEFAULT_INSTANCE, DEFAULT_VHOST, InstanceName, StreamName};
use tempfile::TempDir;

use super::node::Node;
use super::ports::Port;
use super::wait::until;

/// Parts of the key space, as configured unless said otherwise.
const PARTITIONS: u32 = 256;

/// A cluster. Everything ends with the value.
pub(crate) struct Cluster {
    pub(crate) origins: Vec<Node>,
    pub(crate) edges: Vec<Node>,
    members: Vec<String>,
    /// Held so that nobody takes the port of an origin that is dead for a while.
    _ports: Vec<Port>,
    folder: TempDir,
}

/// What a cluster is to be like.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) origins: usize,
    pub(crate) edges: usize,
    /// Further flags of every node.
    pub(crate) flags: Vec<String>,
    /// Further flags of the edges.
    pub(crate) edge_flags: Vec<String>,
    /// Further flags of the origins.
    pub(crate) origin_flags: Vec<String>,
    /// Whether nodes talk through TLS.
    pub(crate) tls: bool,
}

impl Cluster {
    /// Starts so many origins and edges, and waits until everybody can reach everybody.
    pub(crate) fn start(origins: usize, edges: usize) -> Self {
        Self::with(&Plan {
            origins,
            edges,
            ..Plan::default()
        })
    }

    pub(crate) fn with(plan: &Plan) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let ports: Vec<Port> = (0..plan.origins).map(|_| Port::reserve()).collect();
        let members: Vec<String> = ports
            .iter()
            .enumerate()
            .map(|(index, port)| format!("o{}=127.0.0.1:{}", index + 1, port.number()))
            .collect();
        let list = members.join(",");
        let path = |name: &str| folder.path().join(name).display().to_string();
        if plan.tls {
            make_certificates(plan, &path("certs"));
        }
        let arguments = |id: &str, own: &[&str]| {
            let mut arguments: Vec<String> = own.iter().map(|part| (*part).to_owned()).collect();
            let common = ["--id", id, "--admin", "127.0.0.1:0", "--cluster", &list];
            arguments.extend(common.map(str::to_owned));
            // Colours and other people's time are of no use here.
            arguments.extend(["--log".to_owned(), "info,headwater=debug".to_owned()]);
            if plan.tls {
                arguments.extend(["--certs".to_owned(), path("certs")]);
            }
            arguments.extend(plan.flags.iter().cloned());
            arguments
        };
        let mut nodes: Vec<Node> = (0..plan.origins)
            .map(|index| {
                let id = format!("o{}", index + 1);
                let data = path(&id);
                let mut arguments = arguments(&id, &["origin", "--data", &data]);
                arguments.extend(plan.origin_flags.iter().cloned());
                Node::spawn(&id, arguments)
            })
            .collect();
        nodes.extend((0..plan.edges).map(|index| {
            let id = format!("e{}", index + 1);
            let mut arguments = arguments(&id, &["edge", "--rtmp", "127.0.0.1:0"]);
            arguments.extend(plan.edge_flags.iter().cloned());
            Node::spawn(&id, arguments)
        }));
        for node in &mut nodes {
            node.wait_ready();
        }
        let edges = nodes.split_off(plan.origins);
        let mut cluster = Self {
            origins: nodes,
            edges,
            members,
            _ports: ports,
            folder,
        };
        cluster.wait_complete();
        cluster
    }

    /// Waits until every edge can reach every origin.
    pub(crate) fn wait_complete(&mut self) {
        let all = format!("{0} of {0} origins", self.origins.len());
        for edge in &mut self.edges {
            until(
                "the edge reaches all origins",
                Duration::from_secs(15),
                || edge.get("/readyz").1.contains(&all),
            );
        }
    }

    /// The address of a stream of the application `live` at an edge.
    pub(crate) fn url(&mut self, edge: usize, stream: &str) -> String {
        self.edges[edge].url(&format!("live/{stream}"))
    }

    /// The origins as the flag `--cluster` takes them.
    pub(crate) fn members(&self) -> String {
        self.members.join(",")
    }

    /// Which origin owns a stream of the application `live`, by the same ring as the nodes.
    pub(crate) fn owner(&self, stream: &str) -> usize {
        let name = StreamName::new(DEFAULT_VHOST, "live", DEFAULT_INSTANCE, stream)
            .expect("a stream name");
        self.owner_of(&name)
    }

    /// Which origin owns an instance of an application.
    pub(crate) fn owner_of_instance(&self, app: &str, instance: &str) -> usize {
        let name = InstanceName::new(DEFAULT_VHOST, app, instance).expect("a name");
        self.owner_of(&name.key())
    }

    fn owner_of(&self, name: &StreamName) -> usize {
        let members = self
            .members
            .iter()
            .map(|entry| Arc::new(entry.parse::<Member>().expect("a member")));
        let ring = Ring::new(members, PARTITIONS);
        let owner = ring
            .candidates(ring.partition(name))
            .next()
            .expect("an owner");
        self.members
            .iter()
            .position(|entry| entry.starts_with(&format!("{}=", owner.id)))
            .expect("a member of the list")
    }

    /// Names for streams, so many for each origin in turn.
    pub(crate) fn names(&self, count: usize) -> Vec<String> {
        let mut wanted = (0..count).map(|index| index % self.members.len());
        let mut names = Vec::with_capacity(count);
        let mut number = 0;
        let mut owner = wanted.next();
        while let Some(origin) = owner {
            let name = format!("stream{number}");
            number += 1;
            if self.owner(&name) == origin {
                names.push(name);
                owner = wanted.next();
            }
        }
        names
    }

    /// A folder for the test's files.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}

fn make_certificates(plan: &Plan, folder: &str) {
    let (code, _, log) = super::node::run(["certs", "init", "--dir", folder]);
    assert_eq!(code, 0, "{log}");
    let origins = (1..=plan.origins).map(|number| format!("o{number}"));
    let edges = (1..=plan.edges).map(|number| format!("e{number}"));
    for id in origins.chain(edges) {
        let (code, _, log) = super::node::run(["certs", "node", &id, "--dir", folder]);
        assert_eq!(code, 0, "{log}");
    }
}

/// How many streams a test of the cluster uses.
pub(crate) fn stream_count(usual: usize) -> usize {
    std::env::var("HEADWATER_TEST_STREAMS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(usual)
}
