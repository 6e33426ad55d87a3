//! A worker: one thread, one runtime, its own listening sockets, and every connection that they accept.

use std::cell::{RefCell, RefMut};
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use headwater_media::name::StreamName;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, debug, info, warn};

use crate::application::attachment::Told;
use crate::application::objects::local::LocalObjects;
use crate::application::room::Rooms;
use crate::edge::Shared;
use crate::fanout::flush::FlushPolicy;
use crate::fanout::{HubSetup, LocalHubs};
use crate::listen::Listener;
use crate::metrics::ConnectionMeters;
use crate::rtmfp::driver::{self, Share};
use crate::rtmfp::multicast::Feeds;
use crate::session;
use crate::transport::Transport;
use crate::upstream;
#[cfg(not(target_os = "linux"))]
use {crate::transport, socket2::SockRef};

/// First and longest pause after a failed accept: most failures are a lack of file descriptors, which passes.
const ACCEPT_PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// What the sessions of one worker share.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) hubs: LocalHubs,
    pub(crate) meters: Rc<ConnectionMeters>,
    /// Streams that are fed into groups.
    pub(crate) feeds: Rc<Feeds>,
    /// Clients whose applications have a say at their origins.
    pub(crate) rooms: Rc<Rooms>,
    /// Users of shared objects.
    pub(crate) objects: Rc<LocalObjects>,
    /// Which worker this is.
    pub(crate) number: usize,
    /// A buffer for whoever reads next.
    scratch: RefCell<BytesMut>,
}

impl Worker {
    /// The buffer for whoever reads next. Borrowed between awaits only.
    pub(crate) fn scratch(&self) -> RefMut<'_, BytesMut> {
        self.scratch.borrow_mut()
    }

    /// Takes a buffer that its reader has emptied.
    pub(crate) fn lend(&self, buffer: BytesMut) {
        let mut scratch = self.scratch.borrow_mut();
        if buffer.capacity() > scratch.capacity() {
            *scratch = buffer;
        }
    }

    /// What it takes to serve a stream; the first one starts the read at the stream's owner. `None`: too many streams.
    pub(crate) fn set_up(&self, name: &StreamName) -> Option<HubSetup> {
        let upstream = &self.shared.upstream;
        let (lease, new) = upstream.hubs.lease(name)?;
        if new {
            upstream::start_read(upstream, Arc::clone(lease.hub()), &self.shared.tasks);
        }
        let policy = self.shared.policies.policy(&name.vhost, &name.app);
        let fanout = &self.shared.config.edge.fanout;
        Some(HubSetup {
            lease,
            policy: FlushPolicy::new(&policy.unwrap_or_default(), fanout),
            meter: self.shared.metrics.hub(name),
            meters: Rc::clone(&self.meters),
        })
    }
}

/// Starts a worker. The receiver completes when it has ended.
pub(crate) fn start(
    number: usize,
    listeners: Vec<Listener>,
    udp: Vec<(UdpSocket, Share)>,
    told: mpsc::Receiver<Told>,
    shared: Arc<Shared>,
) -> std::io::Result<oneshot::Receiver<()>> {
    let (ended, end) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name(format!("edge-{number}"))
        .spawn(move || {
            let local = LocalSet::new();
            local.block_on(&runtime, run(number, listeners, udp, told, shared));
            let _ = ended.send(());
        })?;
    Ok(end)
}

async fn run(
    number: usize,
    listeners: Vec<Listener>,
    udp: Vec<(UdpSocket, Share)>,
    told: mpsc::Receiver<Told>,
    shared: Arc<Shared>,
) {
    let worker = Rc::new(Worker {
        shared: Arc::clone(&shared),
        hubs: LocalHubs::default(),
        meters: Rc::new(shared.metrics.connection()),
        feeds: Rc::default(),
        rooms: Rc::default(),
        objects: LocalObjects::start(shared.config.rtmp.chunk_bytes),
        number,
        scratch: RefCell::default(),
    });
    let rooms = tokio::task::spawn_local(Rc::clone(&worker.rooms).serve(told));
    let sessions = TaskTracker::new();
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            tokio::task::spawn_local(accept(listener, Rc::clone(&worker), sessions.clone()))
        })
        .collect();
    let drivers = TaskTracker::new();
    for (socket, share) in udp {
        let driver = driver::run(socket, share, Rc::clone(&worker), sessions.clone());
        tokio::task::spawn_local(drivers.track_future(driver));
    }
    shared.shutdown.draining().cancelled().await;
    for task in accepting {
        // Closes the socket: the kernel refuses newcomers, and a load balancer sends them elsewhere.
        task.abort();
    }
    sessions.close();
    sessions.wait().await;
    drivers.close();
    drivers.wait().await;
    // Nobody is left whom it could tell anything.
    rooms.abort();
}

async fn accept(listener: Listener, worker: Rc<Worker>, sessions: TaskTracker) {
    let Listener {
        socket,
        address,
        tls,
    } = listener;
    let socket = match tokio::net::TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => {
            warn!(%address, %error, "cannot listen");
            return;
        }
    };
    let mut pause = ACCEPT_PAUSES.0;
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                pause = ACCEPT_PAUSES.0;
                admit(&worker, &sessions, stream, peer, tls.clone());
            }
            Err(error) => {
                warn!(%address, %error, "cannot accept a connection");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(ACCEPT_PAUSES.1);
            }
        }
    }
}

fn admit(
    worker: &Rc<Worker>,
    sessions: &TaskTracker,
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
) {
    let shared = &worker.shared;
    shared.metrics.accepted.inc();
    let place = match shared.admission.admit(peer.ip()) {
        Ok(place) => place,
        Err(refusal) => {
            shared.metrics.refused.inc();
            info!(%peer, %refusal, "a client is refused");
            return;
        }
    };
    #[cfg(not(target_os = "linux"))]
    {
        let dead_after = Duration::from_millis(shared.config.rtmp.dead_after_ms);
        if let Err(error) = transport::prepare(SockRef::from(&stream), dead_after) {
            debug!(%peer, %error, "cannot set an option of the socket");
        }
    }
    let span = tracing::info_span!(parent: None, "connection", %peer, tls = tls.is_some());
    let worker = Rc::clone(worker);
    let Some(acceptor) = tls else {
        let session = session::run(worker, Transport::Tcp(stream), peer, place);
        tokio::task::spawn_local(sessions.track_future(session.instrument(span)));
        return;
    };
    let task = async move {
        // On the heap while it lasts, and so the session: this task keeps no room for both.
        let Some(transport) = Box::pin(encrypt(&worker, acceptor, stream)).await else {
            return;
        };
        Box::pin(session::run(worker, transport, peer, place)).await;
    };
    tokio::task::spawn_local(sessions.track_future(task.instrument(span)));
}

/// The TLS handshake.
async fn encrypt(worker: &Worker, acceptor: TlsAcceptor, stream: TcpStream) -> Option<Transport> {
    let timeout = Duration::from_millis(worker.shared.config.rtmp.handshake_timeout_ms);
    match tokio::time::timeout(timeout, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => return Some(Transport::Tls(Box::new(stream))),
        Ok(Err(error)) => debug!(%error, "the TLS handshake failed"),
        Err(_) => debug!("the TLS handshake took too long"),
    }
    worker.shared.metrics.handshake_failures.inc();
    None
}
