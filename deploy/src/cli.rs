//! The command line. Flags are the last layer of the configuration: each stands for a key of the file.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use headwater_node::config::{Loader, Override};

use crate::config::Role;
use crate::recordings::RecordingsArgs;

/// The environment variable that names the configuration file.
const CONFIG_VARIABLE: &str = "HEADWATER_CONFIG";

/// An edge/origin streaming cluster. Without a subcommand: `standalone`.
#[derive(Debug, Parser)]
#[command(name = "headwater", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) standalone: StandaloneArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run an edge and its origin in one process
    Standalone(StandaloneArgs),
    /// Run an origin: owns streams
    Origin(OriginArgs),
    /// Run an edge: serves clients
    Edge(EdgeArgs),
    /// Make an authority and certificates for nodes
    Certs {
        #[command(subcommand)]
        command: CertsCommand,
    },
    /// Print the effective configuration with comments, or check it
    Config(ConfigArgs),
    /// List, inspect, export and delete recordings and media files
    Recordings(RecordingsArgs),
    /// Print the version
    Version,
}

/// What every role takes.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct NodeArgs {
    /// TOML file with the configuration; `headwater config` prints one to start from
    #[arg(long, value_name = "FILE", env = CONFIG_VARIABLE)]
    config: Option<PathBuf>,
    /// Name of this node in the cluster [node.id]
    #[arg(long)]
    id: Option<String>,
    /// Where health checks, metrics and operators find the node [admin.listen]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    /// What is logged, such as info or info,headwater_edge=debug [log.filter]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// Any key of the configuration; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
    /// File that is written with the addresses once the node is ready, and removed when it ends
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
}

/// What the roles with clients take.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ClientArgs {
    /// Where RTMP clients connect, separated by commas [rtmp.listen]
    #[arg(long, value_name = "ADDRESSES")]
    rtmp: Option<String>,
    /// Where RTMPS clients connect; needs a certificate [rtmps.listen]
    #[arg(long, value_name = "ADDRESSES")]
    rtmps: Option<String>,
    /// Where RTMFP clients send their datagrams [rtmfp.listen]
    #[arg(long, value_name = "ADDRESSES")]
    rtmfp: Option<String>,
    /// PEM file with the certificate for RTMPS [rtmps.tls.certificate_file]
    #[arg(long, value_name = "FILE", requires = "rtmps_key")]
    rtmps_certificate: Option<String>,
    /// PEM file with the private key for RTMPS [rtmps.tls.key_file]
    #[arg(long, value_name = "FILE", requires = "rtmps_certificate")]
    rtmps_key: Option<String>,
}

/// What the roles in a cluster take.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ClusterArgs {
    /// The origins, as o1=host:port,o2=host:port [cluster.members]
    #[arg(long, value_name = "ORIGINS")]
    cluster: Option<String>,
    /// Folder with ca.pem, ID.pem and ID-key.pem, as `headwater certs` makes it [cluster.tls]
    #[arg(long, value_name = "FOLDER", requires = "id")]
    certs: Option<PathBuf>,
}

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct StandaloneArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    #[command(flatten)]
    clients: ClientArgs,
    /// Folder for what must outlive the process [origin.data_dir]
    #[arg(long, value_name = "FOLDER")]
    data: Option<String>,
}

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct OriginArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Where other nodes call [rpc.listen]
    #[arg(long, value_name = "ADDRESS")]
    rpc: Option<String>,
    /// Folder for what must outlive the process [origin.data_dir]
    #[arg(long, value_name = "FOLDER")]
    data: Option<String>,
}

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct EdgeArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    clients: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Whose configuration
    #[arg(long, value_enum, default_value_t = Role::Standalone)]
    pub(crate) role: Role,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// Print nothing but what is wrong, certificates included
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertsCommand {
    /// Make an authority: ca.pem and ca-key.pem
    Init {
        #[command(flatten)]
        files: CertsArgs,
        /// How long it is valid, days
        #[arg(long, default_value_t = 3650)]
        days: u32,
    },
    /// Make the certificate of a node: ID.pem and ID-key.pem
    Node {
        /// The id of the node, which becomes a name in the certificate
        id: String,
        #[command(flatten)]
        files: CertsArgs,
        /// A further DNS name of the node; may be repeated
        #[arg(long = "name", value_name = "NAME")]
        names: Vec<String>,
        /// An address of the node; may be repeated
        #[arg(long = "ip", value_name = "ADDRESS")]
        addresses: Vec<IpAddr>,
        /// How long it is valid, days
        #[arg(long, default_value_t = 365)]
        days: u32,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CertsArgs {
    /// The folder of the authority and its certificates
    #[arg(long, default_value = "certs", value_name = "FOLDER")]
    pub(crate) dir: PathBuf,
    /// Replace files that are there
    #[arg(long)]
    pub(crate) force: bool,
}

type Overrides = Vec<(String, Override)>;

impl StandaloneArgs {
    /// The file and the flags of this node.
    pub(crate) fn loader(&self) -> Loader {
        let mut overrides = self.clients.overrides();
        put(&mut overrides, "origin.data_dir", self.data.as_deref());
        self.node.loader(overrides)
    }
}

impl OriginArgs {
    /// The file and the flags of this node.
    pub(crate) fn loader(&self) -> Loader {
        let mut overrides = self.cluster.overrides(self.node.id.as_deref());
        put(&mut overrides, "rpc.listen", self.rpc.as_deref());
        put(&mut overrides, "origin.data_dir", self.data.as_deref());
        self.node.loader(overrides)
    }
}

impl EdgeArgs {
    /// The file and the flags of this node.
    pub(crate) fn loader(&self) -> Loader {
        let mut overrides = self.cluster.overrides(self.node.id.as_deref());
        overrides.extend(self.clients.overrides());
        self.node.loader(overrides)
    }
}

impl NodeArgs {
    /// The file, with the flags of the role and these over it. The environment is the caller's to add.
    pub(crate) fn loader(&self, mut overrides: Overrides) -> Loader {
        put(&mut overrides, "node.id", self.id.as_deref());
        put(&mut overrides, "admin.listen", self.admin.as_deref());
        put(&mut overrides, "log.filter", self.log.as_deref());
        for (key, value) in &self.set {
            put(&mut overrides, key, Some(value));
        }
        let loader = Loader::new()
            .ignore_variable(CONFIG_VARIABLE)
            .overrides(overrides);
        match &self.config {
            Some(file) => loader.file(file),
            None => loader,
        }
    }
}

impl ClientArgs {
    fn overrides(&self) -> Overrides {
        let mut overrides = Overrides::new();
        put(&mut overrides, "rtmp.listen", self.rtmp.as_deref());
        put(&mut overrides, "rtmps.listen", self.rtmps.as_deref());
        put(&mut overrides, "rtmfp.listen", self.rtmfp.as_deref());
        let certificate = self.rtmps_certificate.as_deref();
        put(&mut overrides, "rtmps.tls.certificate_file", certificate);
        let key = self.rtmps_key.as_deref();
        put(&mut overrides, "rtmps.tls.key_file", key);
        overrides
    }
}

impl ClusterArgs {
    fn overrides(&self, id: Option<&str>) -> Overrides {
        let mut overrides = Overrides::new();
        put(&mut overrides, "cluster.members", self.cluster.as_deref());
        if let (Some(folder), Some(id)) = (&self.certs, id) {
            for (key, file) in [
                (
                    "ca",
                    headwater_cluster::certs::AUTHORITY_CERTIFICATE.to_owned(),
                ),
                ("certificate", format!("{id}.pem")),
                ("key", format!("{id}-key.pem")),
            ] {
                let path = folder.join(file).to_string_lossy().into_owned();
                put(&mut overrides, &format!("cluster.tls.{key}"), Some(&path));
            }
        }
        overrides
    }
}

fn put(overrides: &mut Overrides, key: &str, value: Option<&str>) {
    if let Some(value) = value {
        overrides.push((key.to_owned(), value.into()));
    }
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.to_owned()))
        }
        _ => Err("must be KEY=VALUE, such as rtmp.chunk_bytes=4096".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::config::Settings;

    fn parse(line: &str) -> Cli {
        Cli::try_parse_from(line.split_whitespace()).unwrap()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_subcommand_means_standalone() {
        let cli = parse("headwater --rtmp 127.0.0.1:0 --data here");
        assert!(cli.command.is_none());
        let settings = Settings::load(Role::Standalone, cli.standalone.loader()).unwrap();
        let edge = settings.edge.unwrap();
        assert_eq!(edge.rtmp.listen[0].to_string(), "127.0.0.1:0");
        assert_eq!(settings.origin.unwrap().data_dir, PathBuf::from("here"));
    }

    #[test]
    fn a_cluster_can_be_started_by_hand() {
        let line = "headwater origin --id o1 --rpc 127.0.0.1:7001 --data DIR \
                    --cluster o1=127.0.0.1:7001,o2=127.0.0.1:7002";
        let Some(Command::Origin(args)) = parse(line).command else {
            panic!("an origin was asked for");
        };
        let origin = Settings::load(Role::Origin, args.loader()).unwrap();
        assert_eq!(origin.id.as_str(), "o1");
        assert_eq!(origin.cluster.members.len(), 2);
        assert_eq!(origin.rpc.unwrap().to_string(), "127.0.0.1:7001");
        // The second one on the machine must not find its port taken.
        assert_eq!(origin.admin.listen.port(), 0);

        let line = "headwater edge --id e1 --rtmp 127.0.0.1:1935 --admin 127.0.0.1:9001 \
                    --cluster o1=127.0.0.1:7001,o2=127.0.0.1:7002 --set edge.fanout.workers=3";
        let Some(Command::Edge(args)) = parse(line).command else {
            panic!("an edge was asked for");
        };
        let edge = Settings::load(Role::Edge, args.loader()).unwrap();
        assert_eq!(edge.admin.listen.to_string(), "127.0.0.1:9001");
        assert_eq!(edge.edge.unwrap().edge.fanout.workers, 3);
    }

    #[test]
    fn a_folder_of_certificates_stands_for_three_keys() {
        let line = "headwater edge --id e1 --certs made";
        let Some(Command::Edge(args)) = parse(line).command else {
            panic!("an edge was asked for");
        };
        let printed = crate::config::print(Role::Edge, args.loader()).unwrap();
        for expected in [
            "ca = \"made/ca.pem\"",
            "certificate = \"made/e1.pem\"",
            "key = \"made/e1-key.pem\"",
        ] {
            assert!(
                printed.contains(expected),
                "{expected} is not in\n{printed}"
            );
        }
    }
}
