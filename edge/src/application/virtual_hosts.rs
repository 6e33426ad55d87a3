//! Which virtual host a client means.
//!
//! By the host that it connected to (`tcUrl`), or by the query of its address where that names one (`?_fcs_vhost=NAME`, as with Adobe Media
//! Server). A host is looked for among the names and aliases that are configured, exact ones first, then those that begin with `*.`, the
//! longest first. Whoever means none of them is at [`DEFAULT_VHOST`].

use std::collections::{BTreeMap, HashMap};

use headwater_media::name::DEFAULT_VHOST;

use crate::config::VirtualHostSection;

/// The key in the query of an address that names a virtual host.
const KEY: &str = "_fcs_vhost";

/// The virtual hosts of an edge.
pub(crate) struct VirtualHosts {
    /// By name and alias, in lower case.
    exact: HashMap<String, String>,
    /// What follows the `*` of an alias, with its dot, and whose it is. The longest first.
    within: Vec<(String, String)>,
}

impl VirtualHosts {
    pub(crate) fn new(sections: &BTreeMap<String, VirtualHostSection>) -> Self {
        let mut exact = HashMap::new();
        let mut within = Vec::new();
        for (name, section) in sections {
            for alias in &section.aliases {
                let alias = alias.to_ascii_lowercase();
                match alias.strip_prefix('*') {
                    Some(suffix) => within.push((suffix.to_owned(), name.clone())),
                    None => {
                        exact.insert(alias, name.clone());
                    }
                }
            }
        }
        // A host's own name is its own, whoever has it as an alias.
        for name in sections.keys() {
            exact.insert(name.to_ascii_lowercase(), name.clone());
        }
        within.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        Self { exact, within }
    }

    /// The virtual host of a client that has connected to `host`, with these queries in its address.
    pub(crate) fn find<'a>(
        &self,
        host: &str,
        queries: impl IntoIterator<Item = Option<&'a str>>,
    ) -> &str {
        if self.exact.is_empty() {
            return DEFAULT_VHOST;
        }
        let named = queries.into_iter().flatten().find_map(named);
        let found = named.and_then(|name| self.of(name));
        found.or_else(|| self.of(host)).unwrap_or(DEFAULT_VHOST)
    }

    fn of(&self, host: &str) -> Option<&str> {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        if let Some(name) = self.exact.get(&host) {
            return Some(name);
        }
        let mut within = self.within.iter();
        let found = within.find(|(suffix, _)| host.len() > suffix.len() && host.ends_with(suffix));
        found.map(|(_, name)| name.as_str())
    }
}

fn named(query: &str) -> Option<&str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == KEY).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(list: &[(&str, &[&str])]) -> VirtualHosts {
        let sections = list.iter().map(|(name, aliases)| {
            let aliases = aliases.iter().map(ToString::to_string).collect();
            ((*name).to_owned(), VirtualHostSection { aliases })
        });
        VirtualHosts::new(&sections.collect())
    }

    #[test]
    fn a_host_is_found_by_its_names() {
        let hosts = hosts(&[
            ("one", &["one.example.org", "*.one.example.org"]),
            ("two", &["*.example.org", "one"]),
            ("Three.example", &[]),
        ]);
        for (host, expected) in [
            ("one.example.org", "one"),
            ("ONE.example.org.", "one"),
            ("a.one.example.org", "one"),
            ("a.b.example.org", "two"),
            ("example.org", DEFAULT_VHOST),
            ("one", "one"),
            ("three.EXAMPLE", "Three.example"),
            ("notexample.org", DEFAULT_VHOST),
            ("127.0.0.1", DEFAULT_VHOST),
            ("", DEFAULT_VHOST),
        ] {
            assert_eq!(hosts.find(host, []), expected, "{host}");
        }
    }

    #[test]
    fn the_query_goes_before_the_host() {
        let hosts = hosts(&[("one", &["one.example"]), ("two", &[])]);
        for (queries, expected) in [
            ([None, None], "one"),
            ([Some("_fcs_vhost=two"), None], "two"),
            ([None, Some("a=b&_fcs_vhost=two&c")], "two"),
            // One that is not there is as if it had not been named.
            ([Some("_fcs_vhost=three"), None], "one"),
            ([Some("x_fcs_vhost=two"), Some("_fcs_vhost")], "one"),
        ] {
            assert_eq!(hosts.find("one.example", queries), expected, "{queries:?}");
        }
    }

    #[test]
    fn without_virtual_hosts_there_is_one() {
        let hosts = hosts(&[]);
        let found = hosts.find("one.example", [Some("_fcs_vhost=two")]);
        assert_eq!(found, DEFAULT_VHOST);
    }
}
