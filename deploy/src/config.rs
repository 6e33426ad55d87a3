//! The configuration of each role, and the checked form that a node is started with.
//!
//! A role has only the sections that it uses: `[rtmp]` in the file of an origin is an error. What sections cannot say of
//! themselves (an edge without an id, certificates that do not fit) is checked in [`Settings::load`], before a port is bound.

mod cluster;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;

use headwater_application::{ApplicationSection, default_applications};
use headwater_cluster::config::ClusterConfig;
use headwater_cluster::{Identity, Member, NodeId};
use headwater_edge::EdgeConfig;
use headwater_edge::config::{
    EdgeSection, RtmfpSection, RtmpSection, RtmpsSection, VirtualHostSection,
};
use headwater_node::address::ListenAddress;
use headwater_node::admin::AdminSection;
use headwater_node::config::{ConfigError, Documented, Loader, print_commented};
use headwater_node::metrics::MetricsSection;
use headwater_node::section;
use headwater_node::shutdown::ShutdownSection;
use headwater_node::telemetry::{LogSection, TelemetrySection};
use headwater_node::tls::{Certificate, TlsError};
use headwater_origin::OriginSection;

pub(crate) use cluster::ClusterSection;

/// Where an origin listens for other nodes when neither the configuration nor the member list says it.
const DEFAULT_RPC: ListenAddress =
    ListenAddress::Socket(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7001)));

const LOOPBACK_FREE_PORT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));

/// The id of a standalone node that is given none.
const STANDALONE_ID: &str = "standalone";

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    /// Both roles in one process.
    Standalone,
    /// Owns streams.
    Origin,
    /// Serves clients.
    Edge,
}

impl Role {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Standalone => "standalone",
            Self::Origin => "origin",
            Self::Edge => "edge",
        }
    }
}

section! {
    /// Who this node is.
    pub(crate) struct NodeSection {
        /// Its name, unique in the cluster and the same after a restart: letters, digits, `-`, `_` and `.`. An origin is in
        /// the member list under it. A standalone node needs none.
        pub(crate) id: Option<String> = None,
    }
}

section! {
    /// Where an origin listens for other nodes.
    pub(crate) struct RpcSection {
        /// The address. Unset: the one of this node in cluster.members, or 127.0.0.1:7001 for an origin in no list.
        pub(crate) listen: Option<ListenAddress> = None,
    }
}

section! {
    /// The HTTP listener for health checks, metrics and operators. It asks for no password.
    pub(crate) struct OriginAdminSection {
        /// Where to listen. Port 0 takes a free port, which the node prints when it starts, so that several origins can run on
        /// one machine; give it a number where something has to find it.
        pub(crate) listen: ListenAddress = ListenAddress::Socket(LOOPBACK_FREE_PORT),
    }
}

section! {
    /// Configuration of a Headwater origin.
    pub(crate) struct OriginFile {
        pub(crate) node: NodeSection = NodeSection::default(),
        pub(crate) cluster: ClusterSection = ClusterSection::default(),
        pub(crate) rpc: RpcSection = RpcSection::default(),
        pub(crate) origin: OriginSection = OriginSection::default(),
        pub(crate) admin: OriginAdminSection = OriginAdminSection::default(),
        pub(crate) log: LogSection = LogSection::default(),
        pub(crate) telemetry: TelemetrySection = TelemetrySection::default(),
        pub(crate) metrics: MetricsSection = MetricsSection::default(),
        pub(crate) shutdown: ShutdownSection = ShutdownSection::default(),
    }
}

section! {
    /// Configuration of a Headwater edge.
    pub(crate) struct EdgeFile {
        pub(crate) node: NodeSection = NodeSection::default(),
        pub(crate) cluster: ClusterSection = ClusterSection::default(),
        pub(crate) rtmp: RtmpSection = RtmpSection::default(),
        pub(crate) rtmps: RtmpsSection = RtmpsSection::default(),
        pub(crate) rtmfp: RtmfpSection = RtmfpSection::default(),
        pub(crate) applications: BTreeMap<String, ApplicationSection> = default_applications(),
        pub(crate) virtual_hosts: BTreeMap<String, VirtualHostSection> = BTreeMap::new(),
        pub(crate) edge: EdgeSection = EdgeSection::default(),
        pub(crate) admin: AdminSection = AdminSection::default(),
        pub(crate) log: LogSection = LogSection::default(),
        pub(crate) telemetry: TelemetrySection = TelemetrySection::default(),
        pub(crate) metrics: MetricsSection = MetricsSection::default(),
        pub(crate) shutdown: ShutdownSection = ShutdownSection::default(),
    }
}

section! {
    /// Configuration of a Headwater standalone node: an edge and its origin in one process.
    pub(crate) struct StandaloneFile {
        pub(crate) node: NodeSection = NodeSection::default(),
        pub(crate) rtmp: RtmpSection = RtmpSection::default(),
        pub(crate) rtmps: RtmpsSection = RtmpsSection::default(),
        pub(crate) rtmfp: RtmfpSection = RtmfpSection::default(),
        pub(crate) applications: BTreeMap<String, ApplicationSection> = default_applications(),
        pub(crate) virtual_hosts: BTreeMap<String, VirtualHostSection> = BTreeMap::new(),
        pub(crate) edge: EdgeSection = EdgeSection::default(),
        pub(crate) origin: OriginSection = OriginSection::default(),
        pub(crate) admin: AdminSection = AdminSection::default(),
        pub(crate) log: LogSection = LogSection::default(),
        pub(crate) telemetry: TelemetrySection = TelemetrySection::default(),
        pub(crate) metrics: MetricsSection = MetricsSection::default(),
        pub(crate) shutdown: ShutdownSection = ShutdownSection::default(),
    }
}

/// A checked configuration: what a node is started with.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) role: Role,
    pub(crate) id: NodeId,
    pub(crate) cluster: ClusterConfig,
    /// The certificate of this node towards others.
    pub(crate) identity: Option<Identity>,
    /// Set for the roles that own streams.
    pub(crate) origin: Option<OriginSection>,
    /// Where other nodes call: an origin's only.
    pub(crate) rpc: Option<ListenAddress>,
    /// Set for the roles that serve clients.
    pub(crate) edge: Option<EdgeConfig>,
    pub(crate) admin: AdminSection,
    pub(crate) log: LogSection,
    pub(crate) telemetry: TelemetrySection,
    pub(crate) metrics: MetricsSection,
    pub(crate) shutdown: ShutdownSection,
    /// The whole configuration as commented TOML, secrets hidden.
    pub(crate) printed: String,
}

/// Why a node cannot be started with what it was given.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Cluster(#[from] headwater_cluster::ConfigError),
    #[error("`cluster.tls`: {0}")]
    Identity(#[from] headwater_cluster::identity::IdentityError),
    #[error(
        "`node.id` must be set: the node needs a name of its own in the cluster, such as --id {example}"
    )]
    NoId { example: &'static str },
    #[error("`node.id`: {0}")]
    BadId(#[from] headwater_cluster::member::MemberError),
    #[error(
        "`cluster.tls.certificate`: {} is for {}, but this node is {id}: other nodes would refuse it",
        path.display(), names.join(", ")
    )]
    NotInCertificate {
        id: NodeId,
        path: PathBuf,
        names: Vec<String>,
    },
    #[error("`rtmps.tls`: {0}")]
    Rtmps(#[from] TlsError),
    #[error(
        "`rtmps.listen` is set, but `rtmps.tls.certificate_file` and `rtmps.tls.key_file` are not: there is no RTMPS without a certificate"
    )]
    RtmpsWithoutCertificate,
    #[error(
        "`applications.{name}.handler.address` must be empty: origins call the handler, and they find it in `applications/{name}/app.toml` in the store"
    )]
    HandlerAtEdge { name: String },
}

impl Settings {
    /// Loads every layer, and checks all that can be checked without binding a port.
    pub(crate) fn load(role: Role, loader: Loader) -> Result<Self, SettingsError> {
        match role {
            Role::Standalone => Self::standalone(load(loader)?),
            Role::Origin => Self::origin(load(loader)?),
            Role::Edge => Self::edge(load(loader)?),
        }
    }

    fn standalone((file, printed): (StandaloneFile, String)) -> Result<Self, SettingsError> {
        let id = file.node.id.as_deref().unwrap_or(STANDALONE_ID);
        Ok(Self {
            role: Role::Standalone,
            id: NodeId::new(id)?,
            cluster: ClusterConfig::default(),
            identity: None,
            origin: Some(file.origin),
            rpc: None,
            edge: Some(checked(EdgeConfig {
                rtmp: file.rtmp,
                rtmps: file.rtmps,
                rtmfp: file.rtmfp,
                edge: file.edge,
                applications: file.applications,
                virtual_hosts: file.virtual_hosts,
            })?),
            admin: file.admin,
            log: file.log,
            telemetry: file.telemetry,
            metrics: file.metrics,
            shutdown: file.shutdown,
            printed,
        })
    }

    fn origin((file, printed): (OriginFile, String)) -> Result<Self, SettingsError> {
        let id = node_id(&file.node, "o1")?;
        let cluster = file.cluster.to_config();
        cluster.validate()?;
        let identity = cluster.load_identity()?;
        check_name(&id, &cluster, identity.as_ref())?;
        let rpc = match file.rpc.listen {
            Some(address) => address,
            None => listed_address(&cluster, &id)?.unwrap_or(DEFAULT_RPC),
        };
        Ok(Self {
            role: Role::Origin,
            id,
            cluster,
            identity,
            origin: Some(file.origin),
            rpc: Some(rpc),
            edge: None,
            admin: AdminSection {
                listen: file.admin.listen,
            },
            log: file.log,
            telemetry: file.telemetry,
            metrics: file.metrics,
            shutdown: file.shutdown,
            printed,
        })
    }

    fn edge((file, printed): (EdgeFile, String)) -> Result<Self, SettingsError> {
        let id = node_id(&file.node, "e1")?;
        let cluster = file.cluster.to_config();
        cluster.validate()?;
        Ok(Self {
            role: Role::Edge,
            id,
            identity: cluster.load_identity()?,
            cluster,
            origin: None,
            rpc: None,
            edge: Some(checked(EdgeConfig {
                rtmp: file.rtmp,
                rtmps: file.rtmps,
                rtmfp: file.rtmfp,
                edge: file.edge,
                applications: file.applications,
                virtual_hosts: file.virtual_hosts,
            })?),
            admin: file.admin,
            log: file.log,
            telemetry: file.telemetry,
            metrics: file.metrics,
            shutdown: file.shutdown,
            printed,
        })
    }
}

/// Loads the file of a role, and prints what came out.
fn load<T: Documented + serde::de::DeserializeOwned>(
    loader: Loader,
) -> Result<(T, String), ConfigError> {
    let file: T = loader.load()?;
    let printed = print_commented(&file);
    Ok((file, printed))
}

/// The built-in configuration of a role, or what the layers make of it, as commented TOML.
pub(crate) fn print(role: Role, loader: Loader) -> Result<String, ConfigError> {
    Ok(match role {
        Role::Standalone => load::<StandaloneFile>(loader)?.1,
        Role::Origin => load::<OriginFile>(loader)?.1,
        Role::Edge => load::<EdgeFile>(loader)?.1,
    })
}

/// Reads the certificate for RTMPS once, so that a wrong one is found before anything runs. Who names an address for RTMPS
/// wants RTMPS: without a certificate that is a mistake, while the built-in address stays idle.
fn checked(config: EdgeConfig) -> Result<EdgeConfig, SettingsError> {
    let RtmpsSection { listen, tls } = &config.rtmps;
    match (&tls.certificate_file, &tls.key_file) {
        (Some(certificate), Some(key)) => {
            Certificate::load(certificate, key)?;
        }
        _ if *listen != RtmpsSection::default().listen && !listen.is_empty() => {
            return Err(SettingsError::RtmpsWithoutCertificate);
        }
        _ => {}
    }
    let mut applications = config.applications.iter();
    if let Some((name, _)) = applications.find(|(_, it)| !it.handler.address.is_empty()) {
        let name = name.clone();
        return Err(SettingsError::HandlerAtEdge { name });
    }
    Ok(config)
}

/// Nodes that call an origin expect its id in its certificate.
fn check_name(
    id: &NodeId,
    cluster: &ClusterConfig,
    identity: Option<&Identity>,
) -> Result<(), SettingsError> {
    let (Some(identity), Some(files)) = (identity, &cluster.tls) else {
        return Ok(());
    };
    let names = identity.names();
    if names
        .iter()
        .any(|name| name.eq_ignore_ascii_case(id.as_str()))
    {
        return Ok(());
    }
    Err(SettingsError::NotInCertificate {
        id: id.clone(),
        path: files.certificate.clone(),
        names,
    })
}

fn node_id(node: &NodeSection, example: &'static str) -> Result<NodeId, SettingsError> {
    let id = node.id.as_deref().ok_or(SettingsError::NoId { example })?;
    Ok(NodeId::new(id)?)
}

/// The address of this node in the member list.
fn listed_address(
    cluster: &ClusterConfig,
    id: &NodeId,
) -> Result<Option<ListenAddress>, SettingsError> {
    for entry in &cluster.members {
        let member: Member = entry.parse()?;
        if member.id == *id {
            // A member's address is `host:port`, which is a listen address, too.
            return Ok(member.address.parse().ok());
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(role: Role, overrides: &[(&str, &str)]) -> Result<Settings, String> {
        Settings::load(role, Loader::new().overrides(overrides.iter().copied()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_printed_loads_to_the_same() {
        for role in [Role::Standalone, Role::Origin, Role::Edge] {
            let printed = print(role, Loader::new()).unwrap();
            let again = print(role, Loader::new().text("printed.toml", &*printed)).unwrap();
            assert_eq!(again, printed);
        }
    }

    #[test]
    fn an_origin_listens_where_its_list_says() {
        let members = ("cluster.members", "o1=127.0.0.1:7011,o2=127.0.0.1:7012*2");
        let listed = settings(Role::Origin, &[("node.id", "o2"), members]).unwrap();
        assert_eq!(listed.rpc.unwrap().to_string(), "127.0.0.1:7012");
        let alone = settings(Role::Origin, &[("node.id", "o1")]).unwrap();
        assert_eq!(alone.rpc.unwrap().to_string(), "127.0.0.1:7001");
        let told = ("rpc.listen", "127.0.0.1:0");
        let told = settings(Role::Origin, &[("node.id", "o1"), members, told]).unwrap();
        assert_eq!(told.rpc.unwrap().to_string(), "127.0.0.1:0");
    }

    #[test]
    fn a_role_has_only_its_own_sections() {
        for (role, key) in [
            (Role::Origin, "rtmp.listen"),
            (Role::Edge, "origin.data_dir"),
            (Role::Standalone, "cluster.members"),
        ] {
            let error = settings(role, &[("node.id", "n"), (key, "1")]).unwrap_err();
            assert!(error.contains(&format!("unknown key `{key}`")), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_key() {
        let remote = "o1=10.0.0.1:7001";
        for (role, overrides, expected) in [
            (Role::Edge, &[][..], "`node.id` must be set"),
            (
                Role::Origin,
                &[("node.id", "o 1")],
                "`node.id`: node id \"o 1\"",
            ),
            (
                Role::Edge,
                &[("node.id", "e1"), ("cluster.members", remote)],
                "cluster.tls",
            ),
            (
                Role::Edge,
                &[("node.id", "e1"), ("cluster.members", "o1")],
                "cluster.members: member \"o1\"",
            ),
            (
                Role::Edge,
                &[("node.id", "e1"), ("cluster.membership", "dns")],
                "`cluster.dns_name` must be set",
            ),
            (
                Role::Edge,
                &[("node.id", "e1"), ("cluster.tls.ca", "ca.pem")],
                "`cluster.tls.key` must be set, too",
            ),
            (
                Role::Edge,
                &[("node.id", "e1"), ("cluster.liveness.silence_ms", "300")],
                "at least twice heartbeat_ms",
            ),
            (
                Role::Edge,
                &[("node.id", "e1"), ("rtmp.chunk_bytes", "0")],
                "`rtmp.chunk_bytes` is 0",
            ),
        ] {
            let error = settings(role, overrides).unwrap_err();
            assert!(error.contains(expected), "{expected:?} is not in {error:?}");
        }
    }
}
