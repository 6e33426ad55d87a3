//! Who may connect: so many clients as configured, as the process may open files for, and of one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;

use crate::config::RtmpSection;

/// Files that are open besides clients' connections: logs, data, calls between nodes, listeners, event queues.
pub const SPARE_FILES: usize = 512;

/// The bits of an IPv6 address that tell networks apart: a client has the other half to itself.
const NETWORK: u128 = u128::MAX << 64;

/// The connections that are open, against the limits.
pub(crate) struct Admission {
    most: usize,
    most_of_address: usize,
    open: AtomicUsize,
    /// How many each address has open, if that is limited.
    addresses: Mutex<HashMap<IpAddr, usize>>,
    connections: Gauge,
}

/// Why a client is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0} connections are open, see rtmp.max_connections and the limit on open files")]
    Full(usize),
    #[error("{0} connections of this address are open, see rtmp.max_connections_per_address")]
    Address(usize),
}

impl Admission {
    /// With the limits of the configuration, for a process that may open so many files.
    pub(crate) fn new(rtmp: &RtmpSection, files: Option<u64>, connections: Gauge) -> Self {
        Self {
            most: connections_within(rtmp.max_connections, files),
            most_of_address: rtmp.max_connections_per_address,
            open: AtomicUsize::new(0),
            addresses: Mutex::default(),
            connections,
        }
    }

    /// Gives a place, which is free again when it is dropped.
    pub(crate) fn admit(self: &Arc<Self>, peer: IpAddr) -> Result<Place, Refusal> {
        let limited = self.most_of_address > 0;
        let place = Place {
            address: limited.then(|| network(peer)),
            admission: Arc::clone(self),
        };
        self.connections.inc();
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        let of_address = place.address.map(|address| {
            let mut addresses = self.addresses.lock();
            let count = addresses.entry(address).or_insert(0);
            *count += 1;
            *count
        });
        // From here on the place counts itself out again, also where it is not given.
        if open > self.most {
            return Err(Refusal::Full(self.most));
        }
        if of_address.is_some_and(|count| count > self.most_of_address) {
            return Err(Refusal::Address(self.most_of_address));
        }
        Ok(place)
    }
}

/// A connection as it counts against the limits.
pub(crate) struct Place {
    admission: Arc<Admission>,
    address: Option<IpAddr>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let admission = &self.admission;
        admission.connections.dec();
        admission.open.fetch_sub(1, Ordering::Relaxed);
        let Some(address) = self.address else {
            return;
        };
        let mut addresses = admission.addresses.lock();
        if let Some(count) = addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&address);
            }
        }
        if addresses.capacity() > 1_024 && addresses.len() * 4 < addresses.capacity() {
            addresses.shrink_to_fit();
        }
    }
}

/// What counts as one address: an IPv4 address, or an IPv6 network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & NETWORK)),
    }
}

/// How many clients there may be at once, if so many files may be open. A client that is refused can go to another edge; one
/// that waits to be accepted because there is no file left for it waits for ever.
fn connections_within(configured: usize, files: Option<u64>) -> usize {
    let allowed = files.map_or(usize::MAX, |files| {
        usize::try_from(files).unwrap_or(usize::MAX)
    });
    // A low limit is shared: at least half of it is for clients.
    configured.min(allowed.saturating_sub(SPARE_FILES).max(allowed / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(most: usize, of_address: usize) -> Arc<Admission> {
        let rtmp = RtmpSection {
            max_connections: most,
            max_connections_per_address: of_address,
            ..RtmpSection::default()
        };
        Arc::new(Admission::new(&rtmp, None, Gauge::default()))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_place_that_is_left_is_free_again() {
        let admission = admission(2, 0);
        let first = admission.admit(ip("127.0.0.1")).unwrap();
        let _second = admission.admit(ip("127.0.0.1")).unwrap();
        let third = admission.admit(ip("127.0.0.1")).err();
        assert_eq!(third, Some(Refusal::Full(2)));
        assert_eq!(admission.connections.get(), 2);
        drop(first);
        assert!(admission.admit(ip("127.0.0.1")).is_ok());
        assert!(admission.addresses.lock().is_empty(), "nobody asked");
    }

    #[test]
    fn one_address_does_not_take_all_places() {
        let admission = admission(100, 2);
        let refused = |peer| admission.admit(ip(peer)).err();
        let mut places: Vec<Place> = ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1", "2001:db8::2"]
            .iter()
            .map(|peer| admission.admit(ip(peer)).unwrap())
            .collect();
        assert_eq!(refused("10.0.0.1"), Some(Refusal::Address(2)));
        assert_eq!(refused("2001:db8::7"), Some(Refusal::Address(2)));
        assert_eq!(refused("10.0.0.2"), None);
        assert_eq!(refused("2001:db8:0:1::1"), None);
        places.clear();
        assert_eq!(refused("10.0.0.1"), None);
        assert!(admission.addresses.lock().is_empty());
        assert_eq!(admission.connections.get(), 0);
    }

    #[test]
    fn clients_leave_files_for_everything_else() {
        for (configured, files, expected) in [
            (100_000, None, 100_000),
            (100_000, Some(1 << 20), 100_000),
            (100_000, Some(20_000), 19_488),
            (1_000, Some(20_000), 1_000),
            (100_000, Some(1_024), 512),
            (100_000, Some(256), 128),
        ] {
            assert_eq!(
                connections_within(configured, files),
                expected,
                "{configured} of {files:?}"
            );
        }
    }
}
