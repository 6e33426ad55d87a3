//! The other ends of connections, where they are on this machine: whether they are still open.
//!
//! A client that does not read cannot see that the server closed: the end lies behind what is unread. The kernel's table of
//! connections tells of both ends, if both are its own.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;

/// The state of a connection that neither end has closed.
const ESTABLISHED: &str = "01";

/// Near and far end.
pub(super) type Ends = (SocketAddr, SocketAddr);

/// Whether an address is surely one of this machine.
fn is_here(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// A look at the table, on a thread of its own: the kernel takes tens of milliseconds to tell, and whoever reads sockets in the
/// meantime must not wait for it.
#[derive(Debug)]
pub(super) struct Look {
    /// When it began.
    pub(super) at: u64,
    ends: Vec<Ends>,
    found: Receiver<Option<HashSet<Ends>>>,
}

impl Look {
    /// Begins at time `at`. `None` where there is no thread to be had.
    pub(super) fn begin(at: u64, ends: Vec<Ends>) -> Option<Self> {
        let (told, found) = channel();
        let asked = ends.clone();
        let look = move || {
            // Nobody may wait for it any more.
            let _ = told.send(open_on_this_machine(asked.into_iter()));
        };
        let name = "connections".to_owned();
        thread::Builder::new().name(name).spawn(look).ok()?;
        Some(Self { at, ends, found })
    }

    /// Whose far end is closed, once that is known.
    pub(super) fn closed(&self) -> Option<Vec<Ends>> {
        match self.found.try_recv() {
            Ok(Some(open)) => {
                let is_closed =
                    |(near, far): &Ends| !open.contains(&(*far, *near)) && is_here(*far);
                Some(self.ends.iter().copied().filter(is_closed).collect())
            }
            Ok(None) | Err(TryRecvError::Disconnected) => Some(Vec::new()),
            Err(TryRecvError::Empty) => None,
        }
    }
}

/// The connections that are open, as the far ends of `ends` see them: theirs is the near end. `None` where the system does not tell.
fn open_on_this_machine(ends: impl Iterator<Item = Ends>) -> Option<HashSet<Ends>> {
    let wanted: HashSet<Ends> = ends.map(|(near, far)| (far, near)).collect();
    let mut open = HashSet::new();
    let mut is_told = false;
    for path in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let Ok(table) = File::open(path) else {
            continue;
        };
        is_told = true;
        for line in BufReader::new(table).lines().map_while(Result::ok) {
            if let Some(ends) = parse(&line).filter(|ends| wanted.contains(ends)) {
                open.insert(ends);
            }
        }
    }
    is_told.then_some(open)
}

/// One line of the table, if it is of an open connection.
fn parse(line: &str) -> Option<Ends> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (near, far) = (fields.next()?, fields.next()?);
    if fields.next()? != ESTABLISHED {
        return None;
    }
    Some((address(near)?, address(far)?))
}

/// An address as the table writes it: words of four bytes in the machine's order, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let word = u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, place) in bytes.chunks_exact_mut(4).enumerate() {
                place.copy_from_slice(&word(at)?);
            }
            // A server that listens for both families has its IPv4 connections here.
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn lines_of_open_connections_are_read() {
        let rest = "00000000:00000000 00:00000000 00000000 0 0 1 1 0 20 4 30 10 -1";
        let line = |near: &str, far: &str, state| format!("   3: {near} {far} {state} {rest}");
        assert_eq!(
            parse(&line("0100007F:078F", "0100007F:C3A2", "01")),
            Some((
                "127.0.0.1:1935".parse().unwrap(),
                "127.0.0.1:50082".parse().unwrap()
            ))
        );
        assert_eq!(
            parse(&line(
                "00000000000000000000000001000000:078F",
                "0000000000000000FFFF00000100007F:C3A2",
                "01"
            )),
            Some((
                "[::1]:1935".parse().unwrap(),
                "127.0.0.1:50082".parse().unwrap()
            ))
        );
        assert_eq!(parse(&line("0100007F:078F", "0100007F:C3A2", "04")), None);
        for text in ["", "sl local_address rem_address st", "0: x:y z:1 01"] {
            assert_eq!(parse(text), None);
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_far_end_that_closes_is_seen_although_nobody_reads() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        let ends = (near.local_addr().unwrap(), near.peer_addr().unwrap());
        let is_open = || !open_on_this_machine([ends].into_iter()).unwrap().is_empty();
        assert!(is_open() && is_here(ends.1));
        drop(far);
        assert!(!is_open());
    }
}
