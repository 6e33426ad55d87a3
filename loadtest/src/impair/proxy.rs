//! The sockets of a bad network: one that clients send to, and for each client one that the server answers to.
//!
//! One task turns all of it; it ends with the [`Proxy`]. Each client's socket has a reader, which ends with the socket.
//!
//! # Bounds
//! [`ProxyOptions::clients`] bounds clients: one more takes the place of that which was silent for the longest time.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::line::{Counts, Impairment, Line};

/// The longest datagram: UDP has none that is longer.
const LONGEST: usize = 65_536;

/// Datagrams of the server that wait for the task. The readers wait with the next one.
const UNTAKEN: usize = 1_024;

/// Datagrams of clients that did not reach the server and are kept.
const KEPT: usize = 64;

/// What a proxy is to be like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProxyOptions {
    /// Where clients send to; port 0 takes any.
    pub listen: SocketAddr,
    /// The server.
    pub to: SocketAddr,
    /// What happens on the way.
    pub impairment: Impairment,
    /// Where random numbers begin.
    pub seed: u64,
    /// How often the clients' ports change.
    pub rebind_every: Option<Duration>,
    /// Clients at once.
    pub clients: usize,
}

impl ProxyOptions {
    /// One before this server, on any port of the loopback, through which everything goes as it is.
    #[must_use]
    pub fn new(to: SocketAddr) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            to,
            impairment: Impairment::default(),
            seed: 1,
            rebind_every: None,
            clients: 1_024,
        }
    }
}

/// What the task is to do, and what it tells.
#[derive(Debug, Default)]
struct Shared {
    impairment: Option<Impairment>,
    is_cut: bool,
    rebind: bool,
    counts: [Counts; 2],
    rebound: u64,
    intercepted: VecDeque<Vec<u8>>,
}

/// See the [module](self). It ends with the value.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    changed: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Begins, on the runtime that this is called on.
    ///
    /// # Errors
    /// What the socket says.
    pub async fn start(options: ProxyOptions) -> io::Result<Self> {
        let socket = UdpSocket::bind(options.listen).await?;
        let address = socket.local_addr()?;
        let shared = Arc::<Mutex<Shared>>::default();
        let changed = Arc::<Notify>::default();
        let (answers, answered) = mpsc::channel(UNTAKEN);
        let network = Network {
            to_server: Line::new(options.impairment, options.seed),
            to_clients: Line::new(options.impairment, options.seed.wrapping_add(1)),
            options,
            socket,
            links: HashMap::new(),
            readers: JoinSet::new(),
            answers,
            shared: Arc::clone(&shared),
            started: Instant::now(),
        };
        let task = tokio::spawn(network.run(answered, Arc::clone(&changed)));
        Ok(Self {
            address,
            shared,
            changed,
            task,
        })
    }

    /// Where clients send to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what happens on the way, for datagrams that come from now on.
    pub fn set(&self, impairment: Impairment) {
        self.change(|shared| shared.impairment = Some(impairment));
    }

    /// Begins an outage, in which everything that comes is lost, or ends it.
    pub fn cut(&self, is_cut: bool) {
        self.change(|shared| shared.is_cut = is_cut);
    }

    /// Gives each client another port at the server.
    pub fn rebind(&self) {
        self.change(|shared| shared.rebind = true);
    }

    fn change(&self, change: impl FnOnce(&mut Shared)) {
        change(&mut self.shared.lock());
        self.changed.notify_one();
    }

    /// What happened to datagrams of clients, and to those of the server. What an outage took counts as lost.
    #[must_use]
    pub fn counts(&self) -> [Counts; 2] {
        self.shared.lock().counts
    }

    /// How often clients got other ports.
    #[must_use]
    pub fn rebound(&self) -> u64 {
        self.shared.lock().rebound
    }

    /// The newest datagrams of clients that did not reach the server, oldest first: what an attacker may have who sits on the way.
    #[must_use]
    pub fn intercepted(&self) -> Vec<Vec<u8>> {
        self.shared.lock().intercepted.iter().cloned().collect()
    }

    /// Whether it has ended because its socket failed.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client's socket at the server.
#[derive(Debug)]
struct Link {
    socket: Arc<UdpSocket>,
    reader: tokio::task::AbortHandle,
    heard: Instant,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// A datagram of the server for a client.
type Answer = (SocketAddr, Vec<u8>);

#[derive(Debug)]
struct Network {
    options: ProxyOptions,
    socket: UdpSocket,
    links: HashMap<SocketAddr, Link>,
    readers: JoinSet<()>,
    answers: mpsc::Sender<Answer>,
    to_server: Line<SocketAddr>,
    to_clients: Line<SocketAddr>,
    shared: Arc<Mutex<Shared>>,
    started: Instant,
}

impl Network {
    async fn run(mut self, mut answered: mpsc::Receiver<Answer>, changed: Arc<Notify>) {
        let mut buffer = vec![0; LONGEST];
        let mut rebind_at = self.options.rebind_every.map(|every| self.started + every);
        loop {
            let dues = [self.to_server.due(), self.to_clients.due()];
            let due = dues.into_iter().flatten().min();
            let due = due.map(|due| self.started + due);
            let wake = due.into_iter().chain(rebind_at).min();
            tokio::select! {
                () = changed.notified() => self.obey().await,
                came = self.socket.recv_from(&mut buffer) => match came {
                    Ok((length, from)) => {
                        let datagram = buffer.get(..length).unwrap_or_default();
                        self.take(from, datagram).await;
                    }
                    // A client that is gone says nothing of the others.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                    Err(_) => return,
                },
                Some((client, datagram)) = answered.recv() => {
                    self.to_clients.push(self.started.elapsed(), &client, &datagram);
                }
                () = sleep(wake) => {}
                // Those of sockets that were given up.
                Some(_) = self.readers.join_next() => {}
            }
            if let (Some(at), Some(every)) = (rebind_at, self.options.rebind_every)
                && at <= Instant::now()
            {
                rebind_at = Some(at + every);
                self.rebind().await;
            }
            self.deliver().await;
        }
    }

    /// Does what was asked for.
    async fn obey(&mut self) {
        let rebind = {
            let mut shared = self.shared.lock();
            if let Some(impairment) = shared.impairment.take() {
                self.to_server.set(impairment);
                self.to_clients.set(impairment);
            }
            self.to_server.cut(shared.is_cut);
            self.to_clients.cut(shared.is_cut);
            std::mem::take(&mut shared.rebind)
        };
        if rebind {
            self.rebind().await;
        }
    }

    async fn take(&mut self, from: SocketAddr, datagram: &[u8]) {
        if !self.links.contains_key(&from) {
            if self.links.len() >= self.options.clients {
                let silent = self.links.iter().min_by_key(|(_, link)| link.heard);
                if let Some(silent) = silent.map(|(client, _)| *client) {
                    self.links.remove(&silent);
                }
            }
            // Without a socket it is lost.
            let Ok(link) = self.link(from).await else {
                return;
            };
            self.links.insert(from, link);
        }
        if let Some(link) = self.links.get_mut(&from) {
            link.heard = Instant::now();
        }
        let now = self.started.elapsed();
        if !self.to_server.push(now, &from, datagram) {
            let intercepted = &mut self.shared.lock().intercepted;
            if intercepted.len() >= KEPT {
                intercepted.pop_front();
            }
            intercepted.push_back(datagram.to_vec());
        }
    }

    async fn link(&mut self, client: SocketAddr) -> io::Result<Link> {
        let any = match self.options.to {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = Arc::new(UdpSocket::bind(any).await?);
        // So that nobody but the server answers.
        socket.connect(self.options.to).await?;
        let reader = read(Arc::clone(&socket), client, self.answers.clone());
        Ok(Link {
            reader: self.readers.spawn(reader),
            socket,
            heard: Instant::now(),
        })
    }

    /// Gives each client another port.
    async fn rebind(&mut self) {
        let clients: Vec<SocketAddr> = self.links.keys().copied().collect();
        for client in clients {
            let heard = self.links.get(&client).map(|link| link.heard);
            if let (Ok(mut link), Some(heard)) = (self.link(client).await, heard) {
                link.heard = heard;
                self.links.insert(client, link);
            }
        }
        self.shared.lock().rebound += 1;
    }

    /// Sends what is due. What a socket does not take is lost, as it may be on any way.
    async fn deliver(&mut self) {
        let now = self.started.elapsed();
        while let Some((client, datagram)) = self.to_server.pop(now) {
            if let Some(link) = self.links.get(&client) {
                let _ = link.socket.send(&datagram).await;
            }
        }
        while let Some((client, datagram)) = self.to_clients.pop(now) {
            let _ = self.socket.send_to(&datagram, client).await;
        }
        self.shared.lock().counts = [self.to_server.counts(), self.to_clients.counts()];
    }
}

/// Takes what the server sends to a client, until the socket is given up.
async fn read(socket: Arc<UdpSocket>, client: SocketAddr, answers: mpsc::Sender<Answer>) {
    let mut buffer = vec![0; LONGEST];
    loop {
        match socket.recv(&mut buffer).await {
            Ok(length) => {
                let datagram = buffer.get(..length).unwrap_or_default().to_vec();
                if answers.send((client, datagram)).await.is_err() {
                    return;
                }
            }
            // Nobody listens there now: that may change.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(_) => return,
        }
    }
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 100];
        let received = tokio::time::timeout(PATIENCE, socket.recv_from(&mut buffer));
        let (length, from) = received.await.expect("a datagram").unwrap();
        (buffer[..length].to_vec(), from)
    }

    async fn until(condition: impl Fn() -> bool) {
        let holds = async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, holds).await.unwrap();
    }

    #[tokio::test]
    async fn datagrams_pass_both_ways_and_ports_change() {
        let bind = || UdpSocket::bind("127.0.0.1:0");
        let (server, client) = (bind().await.unwrap(), bind().await.unwrap());
        let to = server.local_addr().unwrap();
        let proxy = Proxy::start(ProxyOptions::new(to)).await.unwrap();
        client.send_to(b"one", proxy.address()).await.unwrap();
        let (datagram, first) = receive(&server).await;
        assert_eq!(datagram, b"one");
        server.send_to(b"answer", first).await.unwrap();
        let answer = receive(&client).await;
        assert_eq!(answer, (b"answer".to_vec(), proxy.address()));

        proxy.rebind();
        until(|| proxy.rebound() == 1).await;
        client.send_to(b"two", proxy.address()).await.unwrap();
        let (datagram, second) = receive(&server).await;
        assert_eq!(datagram, b"two");
        assert_ne!(first, second);

        proxy.cut(true);
        until(|| {
            // Taken by the outage as soon as it has begun.
            let _ = client.try_send_to(b"lost", proxy.address());
            !proxy.intercepted().is_empty()
        })
        .await;
        assert_eq!(proxy.intercepted().last().unwrap(), b"lost");
        proxy.cut(false);
        server.send_to(b"again", second).await.unwrap();
        assert_eq!(receive(&client).await.0, b"again");
        let [to_server, to_client] = proxy.counts();
        assert!(to_server.lost >= 1 && to_server.came >= 3, "{to_server:?}");
        assert_eq!((to_client.came, to_client.lost), (2, 0));
    }

    #[tokio::test]
    async fn the_most_silent_client_makes_room() {
        let bind = || UdpSocket::bind("127.0.0.1:0");
        let server = bind().await.unwrap();
        let options = ProxyOptions {
            clients: 2,
            ..ProxyOptions::new(server.local_addr().unwrap())
        };
        let proxy = Proxy::start(options).await.unwrap();
        let clients = [
            bind().await.unwrap(),
            bind().await.unwrap(),
            bind().await.unwrap(),
        ];
        let mut seen = Vec::new();
        for client in &clients {
            client.send_to(b"hello", proxy.address()).await.unwrap();
            seen.push(receive(&server).await.1);
        }
        // The second kept its port, the first gets another.
        clients[1].send_to(b"again", proxy.address()).await.unwrap();
        assert_eq!(receive(&server).await.1, seen[1]);
        clients[0].send_to(b"again", proxy.address()).await.unwrap();
        let (_, port) = receive(&server).await;
        assert!(!seen.contains(&port));
    }
}
