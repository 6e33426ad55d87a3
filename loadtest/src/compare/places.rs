//! Placeholders in commands, addresses and files: `{port}`, `{dir}`, `{self}`, `{bin}` and the scenario's own variables.
//!
//! A placeholder is a name of small letters, digits and `_` directly between braces. In commands and addresses one without a value is
//! an error. Files are left alone where there is no value: braces mean something to most servers' configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;

/// Ports for servers are looked for from here on, below those that the system gives to clients: none of the viewers can take it first.
const FIRST_PORT: u16 = 20_000;

/// Ports that are tried from [`FIRST_PORT`] on.
const PORTS: u16 = 10_000;

/// Names of ports: `port`, `port2` to `port9`.
const PORT_NAMES: [&str; 9] = [
    "port", "port2", "port3", "port4", "port5", "port6", "port7", "port8", "port9",
];

/// A placeholder that stands for nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{{{name}}} is no placeholder; there are {known}")]
pub(super) struct UnknownPlace {
    name: String,
    known: String,
}

/// What placeholders stand for.
#[derive(Clone, Debug)]
pub(super) struct Places {
    values: BTreeMap<String, String>,
}

impl Places {
    /// For one start of a server: free ports, and its folder.
    pub(super) fn new(variables: &BTreeMap<String, String>, folder: &Path) -> io::Result<Self> {
        let mut values = common()?;
        values.insert("dir".to_owned(), folder.display().to_string());
        for (name, port) in PORT_NAMES.into_iter().zip(free_ports(PORT_NAMES.len())?) {
            values.insert(name.to_owned(), port.to_string());
        }
        Ok(Self { values }.with(variables))
    }

    /// For checking: every name has some value.
    pub(super) fn sample(variables: &BTreeMap<String, String>) -> Self {
        let names = PORT_NAMES.iter().chain(&["dir", "self", "bin"]);
        let values = names
            .map(|&name| (name.to_owned(), "1".to_owned()))
            .collect();
        Self { values }.with(variables)
    }

    /// Variables may themselves hold placeholders, but not of other variables; they go before what is given by itself.
    fn with(mut self, variables: &BTreeMap<String, String>) -> Self {
        let filled: Vec<(String, String)> = variables
            .iter()
            .map(|(name, text)| (name.clone(), self.fill_known(text)))
            .collect();
        self.values.extend(filled);
        self
    }

    /// The text with everything in its place.
    pub(super) fn fill(&self, text: &str) -> Result<String, UnknownPlace> {
        let mut unknown = BTreeSet::new();
        let filled = self.replace(text, |name| {
            unknown.insert(name.to_owned());
        });
        match unknown.pop_first() {
            None => Ok(filled),
            Some(name) => {
                let known: Vec<&str> = self.values.keys().map(String::as_str).collect();
                Err(UnknownPlace {
                    name,
                    known: known.join(", "),
                })
            }
        }
    }

    /// The text with everything in its place that has a value.
    pub(super) fn fill_known(&self, text: &str) -> String {
        self.replace(text, |_| {})
    }

    /// Puts values in their places and tells the names that have none.
    fn replace(&self, text: &str, mut unknown: impl FnMut(&str)) -> String {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            filled.push_str(before);
            rest = after;
            let name = after.split_once('}').map(|(name, _)| name);
            match name.filter(|name| is_name(name)) {
                None => filled.push('{'),
                Some(name) => {
                    rest = after.get(name.len() + 1..).unwrap_or_default();
                    if let Some(value) = self.values.get(name) {
                        filled.push_str(value);
                    } else {
                        unknown(name);
                        filled.push_str(&format!("{{{name}}}"));
                    }
                }
            }
        }
        filled.push_str(rest);
        filled
    }
}

/// Whether a text may be the name of a placeholder.
pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text
            .chars()
            .all(|one| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '_')
}

/// This program, and the folder that it is in.
fn common() -> io::Result<BTreeMap<String, String>> {
    let program = std::env::current_exe()?;
    let folder = program.parent().unwrap_or_else(|| Path::new("."));
    Ok(BTreeMap::from([
        ("self".to_owned(), program.display().to_string()),
        ("bin".to_owned(), folder.display().to_string()),
    ]))
}

/// So many ports of the loopback interface that nobody listens on.
fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    // Held until all are found, so that they differ.
    let mut held = Vec::with_capacity(count);
    let start: u16 = rand::random();
    for step in 0..PORTS {
        if held.len() == count {
            break;
        }
        let port = FIRST_PORT + start.wrapping_add(step) % PORTS;
        let address = (Ipv4Addr::UNSPECIFIED, port);
        if let (Ok(tcp), Ok(udp)) = (TcpListener::bind(address), UdpSocket::bind(address)) {
            held.push((port, tcp, udp));
        }
    }
    if held.len() < count {
        return Err(io::Error::other("no ports are free"));
    }
    Ok(held.into_iter().map(|(port, ..)| port).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_are_replaced_and_others_told() {
        let variables = BTreeMap::from([
            ("nginx".to_owned(), "/usr/sbin/nginx".to_owned()),
            ("tool".to_owned(), "{dir}/tool".to_owned()),
        ]);
        let places = Places::new(&variables, Path::new("/d")).unwrap();
        assert_eq!(
            places.fill("{nginx} {tool}").unwrap(),
            "/usr/sbin/nginx /d/tool"
        );
        let ports = places.fill("{port} {port2} {port9}").unwrap();
        let ports: BTreeSet<u16> = ports.split(' ').map(|port| port.parse().unwrap()).collect();
        assert_eq!(ports.len(), 3);
        let error = places.fill("a{prot}b").unwrap_err().to_string();
        assert!(
            error.contains("{prot}") && error.contains("port2"),
            "{error}"
        );
        let program = places.fill("{self}").unwrap();
        assert!(program.starts_with(&places.fill("{bin}/").unwrap()));
    }

    #[test]
    fn braces_of_configuration_files_are_left_alone() {
        let places = Places::sample(&BTreeMap::new());
        for text in [
            "rtmp {\n server { listen 1; } }",
            "{}",
            "{",
            "a}b",
            "{A}",
            "{other}",
            "x{2}",
        ] {
            assert_eq!(places.fill_known(text), text);
        }
        assert_eq!(places.fill_known("{ {port} {{port}}"), "{ 1 {1}");
    }
}
