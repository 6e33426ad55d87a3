//! A network of the test's own: hosts in network namespaces, each with an address, on one switch. Pairs of hosts can be cut off from each
//! other, silently, as by a switch that fails: what one sends does not arrive, and nobody is told.
//!
//! That needs the right to make network namespaces, or a user namespace that has it. Where neither is given, tests that want a network
//! are skipped as where a program is missing.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::tools::{Tool, cannot, has, python};
use super::wait::until;

/// What `unshare` is asked for: as root of the machine, or as root of a namespace only.
const WAYS: [&[&str]; 2] = [&["--net"], &["--net", "--user", "--map-root-user"]];

/// How long a change of the network may take.
const LIMIT: Duration = Duration::from_secs(10);

/// What holds a namespace. It ends by itself should nobody be left to end it.
const HOLD: &str = "exec sleep 1800";

/// A hardware address that nobody has: what goes there is lost.
const NOBODY: &str = "02:00:00:00:00:01";

/// The network. It goes with the value.
pub(crate) struct Network {
    hub: Tool,
    hosts: Vec<Tool>,
    in_user_namespace: bool,
}

impl Network {
    /// A switch and so many hosts. `None`, with a word about it, where that is not possible.
    pub(crate) fn make(hosts: u8) -> Option<Self> {
        if !has("unshare") || !has("nsenter") || !has("ip") {
            return None;
        }
        let Some(flags) = WAYS.into_iter().find(|flags| can_make(flags)) else {
            cannot("no network namespace can be made here, as root nor in a user namespace");
            return None;
        };
        let hub = Tool::spawn(
            Command::new("unshare")
                .args(flags)
                .args(["--", "sh", "-c", HOLD]),
        );
        let mut network = Self {
            hub,
            hosts: Vec::new(),
            in_user_namespace: flags.contains(&"--user"),
        };
        until("the namespace of the switch is there", LIMIT, || {
            is_apart(network.hub.id(), std::process::id())
        });
        network.at_hub("ip link set lo up");
        network.at_hub("ip link add switch type bridge");
        network.at_hub("ip link set switch up");
        network.at_hub(&format!("ip addr add {}/24 dev switch", address_of(254)));
        for host in 0..hosts {
            network.add_host(host);
        }
        Some(network)
    }

    fn add_host(&mut self, number: u8) {
        let mut command = self.command(self.hub.id());
        let holder = Tool::spawn(command.args(["unshare", "--net", "--", "sh", "-c", HOLD]));
        until("the namespace of a host is there", LIMIT, || {
            is_apart(holder.id(), self.hub.id()) && is_apart(holder.id(), std::process::id())
        });
        let id = holder.id();
        self.at_hub(&format!(
            "ip link add port{number} type veth peer name eth0 netns {id}"
        ));
        self.at_hub(&format!("ip link set port{number} master switch up"));
        self.hosts.push(holder);
        let address = self.address(usize::from(number));
        self.at(usize::from(number), "ip link set lo up");
        self.at(
            usize::from(number),
            &format!("ip addr add {address}/24 dev eth0"),
        );
        self.at(usize::from(number), "ip link set eth0 up");
    }

    /// The address of a host.
    pub(crate) fn address(&self, host: usize) -> Ipv4Addr {
        address_of(u8::try_from(host).expect("a host") + 1)
    }

    /// What stands before a command that is to run on a host.
    pub(crate) fn on(&self, host: usize) -> Vec<String> {
        self.wrapper(self.hosts[host].id())
    }

    /// Puts this thread, and the threads that it starts from now on, at the switch, from where all hosts can be reached. `false` where that is
    /// not possible.
    pub(crate) fn enter(&self) -> bool {
        let namespace = File::open(format!("/proc/{}/ns/net", self.hub.id()));
        let kind = Some(LinkNameSpaceType::Network);
        namespace.is_ok_and(|it| move_into_link_name_space(it.as_fd(), kind).is_ok())
    }

    /// From now on nothing that these two send each other arrives.
    pub(crate) fn cut(&self, one: usize, other: usize) {
        for (from, to) in [(one, other), (other, one)] {
            let to = self.address(to);
            self.at(
                from,
                &format!("ip neigh replace {to} lladdr {NOBODY} nud permanent dev eth0"),
            );
        }
    }

    /// Undoes [`Self::cut`].
    pub(crate) fn mend(&self, one: usize, other: usize) {
        for (from, to) in [(one, other), (other, one)] {
            let to = self.address(to);
            self.at(from, &format!("ip neigh del {to} dev eth0"));
        }
    }

    fn at(&self, host: usize, command: &str) {
        self.run(self.hosts[host].id(), command);
    }

    fn at_hub(&self, command: &str) {
        self.run(self.hub.id(), command);
    }

    fn run(&self, holder: u32, command: &str) {
        let mut program = self.command(holder);
        Tool::spawn(program.args(command.split(' '))).succeed(LIMIT);
    }

    fn command(&self, holder: u32) -> Command {
        let wrapper = self.wrapper(holder);
        let mut command = Command::new(&wrapper[0]);
        command.args(&wrapper[1..]);
        command
    }

    fn wrapper(&self, holder: u32) -> Vec<String> {
        let mut words: Vec<String> = ["nsenter", "--target"].map(str::to_owned).into();
        words.push(holder.to_string());
        words.push("--net".to_owned());
        if self.in_user_namespace {
            words.extend(["--user", "--preserve-credentials"].map(str::to_owned));
        }
        words.push("--".to_owned());
        words
    }
}

fn address_of(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, host)
}

fn can_make(flags: &[&str]) -> bool {
    let tried = Command::new("unshare")
        .args(flags)
        .args(["--", "ip", "link", "add", "switch", "type", "bridge"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    tried.is_ok_and(|status| status.success())
}

/// Whether a process is in another network namespace than another one.
fn is_apart(one: u32, other: u32) -> bool {
    let namespace = |id: u32| std::fs::read_link(format!("/proc/{id}/ns/net")).ok();
    let (one, other) = (namespace(one), namespace(other));
    one.is_some() && one != other
}

#[test]
fn hosts_that_are_cut_off_do_not_hear_each_other() {
    let Some(network) = Network::make(2) else {
        return;
    };
    let script = format!(
        "import socket\ns = socket.create_server(('{}', 7000))\nwhile True: s.accept()",
        network.address(1)
    );
    let mut server = network.command(network.hosts[1].id());
    let _server = Tool::spawn(server.arg(python()).args(["-c", &script]));
    let reaches = |host: &Tool| {
        let script = format!(
            "import socket; socket.create_connection(('{}', 7000), 0.5)",
            network.address(1)
        );
        let mut command = network.command(host.id());
        let output = command.arg(python()).args(["-c", &script]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let host = &network.hosts[0];
    until("the server is reached", LIMIT, || reaches(host));
    network.cut(0, 1);
    assert!(!reaches(host), "cut off");
    assert!(reaches(&network.hub), "others are not");
    network.mend(0, 1);
    until("the server is reached again", LIMIT, || reaches(host));
}
