//! One worker's socket for one address: its endpoint, and the clients of its sessions.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_rtmfp::congestion::Algorithm;
use headwater_rtmfp::crypto::certificate::Identity;
use headwater_rtmfp::crypto::cookie::Cookies;
use headwater_rtmfp::crypto::diffie_hellman::Group;
use headwater_rtmfp::crypto::packet;
use headwater_rtmfp::endpoint::{Astray, Endpoint, EndpointConfig, EndpointEvent};
use headwater_rtmfp::flow;
use headwater_rtmfp::handshake::ResponderConfig;
use headwater_rtmfp::session::{SessionConfig, SessionEvent};
use headwater_rtmfp::wire::fragment;
use rand::rngs::ThreadRng;
use tokio::sync::{Notify, mpsc};
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, debug, info, warn};

use self::members::Members;
use self::peers::Known;
use super::KeyPool;
use super::client::{Client, Wanted};
use super::keys::Keyed;
use super::meters::Counted;
use super::socket::{Batch, Inbox, Socket};
use super::tunnel::{TunnelEnd, Wake};
use crate::config::{RtmfpCongestion, RtmfpSection};
use crate::peer::{Port, Told};
use crate::session;
use crate::transport::Transport;
use crate::worker::Worker;

mod members;
mod peers;

/// Datagrams that may wait for another worker; those beyond are lost, as they may be on any way.
const PASSED_ON: usize = 1_024;

/// Reads of the socket before what came is answered.
const READS: usize = 4;

/// Messages for clients that are taken before they are sent.
const TOLD: usize = 256;

/// What came to the wrong worker.
pub(crate) enum Strayed {
    /// A datagram of a session.
    Datagram { from: SocketAddr, datagram: Vec<u8> },
    /// A packet outside sessions, of a member of another worker.
    Packet(Astray),
}

/// What the workers' endpoints for one address have in common. One for each worker, numbered from 0.
pub(crate) struct Share {
    number: u32,
    /// The time of all of them begins here: cookies of one are looked at by another.
    started: Instant,
    identity: Arc<Identity>,
    cookies: Cookies,
    keys: KeyPool,
    workers: Arc<[mpsc::Sender<Strayed>]>,
    strayed: mpsc::Receiver<Strayed>,
}

impl Share {
    /// For so many workers.
    pub(crate) fn of(workers: usize, keys: &KeyPool) -> std::io::Result<Vec<Self>> {
        let mut rng = rand::rng();
        let identity = Identity::server(&Group::ALL, None, &mut rng);
        let identity = Arc::new(identity.map_err(std::io::Error::other)?);
        let cookies = Cookies::new(&mut rng);
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..workers).map(|_| mpsc::channel(PASSED_ON)).unzip();
        let senders: Arc<[_]> = senders.into();
        let started = Instant::now();
        let shares = (0..).zip(receivers).map(|(number, strayed)| Self {
            number,
            started,
            identity: Arc::clone(&identity),
            cookies: cookies.clone(),
            keys: keys.clone(),
            workers: Arc::clone(&senders),
            strayed,
        });
        Ok(shares.collect())
    }
}

fn flow_config(section: &RtmfpSection) -> flow::Config {
    flow::Config {
        congestion: match section.congestion {
            RtmfpCongestion::Model => Algorithm::Model,
            RtmfpCongestion::Window => Algorithm::Window,
        },
        ..flow::Config::default()
    }
}

fn endpoint_config(section: &RtmfpSection, share: &Share) -> EndpointConfig {
    let workers = share.workers.len().max(1);
    EndpointConfig {
        responder: ResponderConfig::new(Arc::clone(&share.identity)),
        session: Arc::new(SessionConfig {
            keepalive: Duration::from_millis(section.keepalive_ms),
            dead_after: Duration::from_millis(section.dead_after_ms),
            trust_packets: section.trust_packets,
            flows: flow_config(section),
            ..SessionConfig::default()
        }),
        sessions: section.max_sessions.div_ceil(workers),
        fragments: fragment::Limits::default(),
        ids: (share.number, u32::try_from(workers).unwrap_or(u32::MAX)),
    }
}

/// See the [module](self).
struct Driver {
    worker: Rc<Worker>,
    tracker: TaskTracker,
    share: Share,
    socket: Socket,
    endpoint: Endpoint<ThreadRng>,
    /// Each by itself: a map that grows has both the old places and the new.
    clients: HashMap<u32, Box<Client>>,
    members: Members,
    /// Clients that others may know of, and where they are seen.
    known: HashMap<u32, Known>,
    at: HashMap<SocketAddr, u32>,
    port: Port,
    told: mpsc::Receiver<Told>,
    deadlines: BTreeSet<(Duration, u32)>,
    /// Sessions whose clients have something to say.
    talking: Rc<RefCell<HashSet<u32>>>,
    notify: Rc<Notify>,
    answers: mpsc::UnboundedSender<Keyed>,
    keyed: mpsc::UnboundedReceiver<Keyed>,
    /// Sessions whose flows can be used.
    open: usize,
    counted: Counted,
    inbox: Inbox,
    outbox: Outbox,
    started: Instant,
}

/// What datagrams are made in.
struct Outbox {
    batch: Batch,
    /// Bytes that were sent since that was asked for.
    sent: usize,
}

impl Outbox {
    /// Sends all that there is to send.
    fn send(&mut self, now: Duration, endpoint: &mut Endpoint<ThreadRng>, socket: &Socket) {
        while let Some(to) = endpoint.poll_transmit(now, self.batch.buffer()) {
            let to = socket.reachable(to);
            if !self.batch.take(to) {
                self.flush(socket);
                self.batch.take(to);
            }
        }
        self.flush(socket);
    }

    fn flush(&mut self, socket: &Socket) {
        if self.batch.length() > 0 {
            self.sent += self.batch.length();
            socket.send(&self.batch);
            self.batch.clear();
        }
    }
}

/// Serves one socket of a worker until the edge drains and all sessions are gone.
pub(crate) async fn run(
    socket: std::net::UdpSocket,
    share: Share,
    worker: Rc<Worker>,
    tracker: TaskTracker,
) {
    let socket = match Socket::new(socket) {
        Ok(socket) => socket,
        Err(error) => {
            warn!(%error, "no RTMFP: the socket cannot be used");
            return;
        }
    };
    let config = endpoint_config(&worker.shared.config.rtmfp, &share);
    let endpoint = Endpoint::new(config, share.cookies.clone(), rand::rng());
    let (answers, keyed) = mpsc::unbounded_channel();
    let started = share.started;
    let (port, told) = worker.shared.peers.port();
    let members = Members::new(worker.feeds.attach());
    let mut driver = Driver {
        open: 0,
        counted: Counted::default(),
        inbox: Inbox::default(),
        outbox: Outbox {
            batch: socket.batch(),
            sent: 0,
        },
        worker,
        tracker,
        share,
        socket,
        endpoint,
        clients: HashMap::new(),
        members,
        known: HashMap::new(),
        at: HashMap::new(),
        port,
        told,
        deadlines: BTreeSet::new(),
        talking: Rc::default(),
        notify: Rc::default(),
        answers,
        keyed,
        started,
    };
    driver.serve().await;
}

impl Driver {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    async fn serve(&mut self) {
        let draining = self.worker.shared.shutdown.draining();
        let stopping = self.worker.shared.shutdown.stopping();
        let mut is_draining = false;
        loop {
            let now = self.now();
            // Not only when nothing else is to be done: then it would wait for a quiet moment.
            self.elapse(now);
            self.settle(now);
            if is_draining && self.open == 0 && self.members.is_empty() {
                // The others linger, or wait for an answer that they can do without.
                self.end_all();
                return;
            }
            let due = self.due();
            let notify = Rc::clone(&self.notify);
            let feeds = Rc::clone(&self.worker.feeds);
            tokio::select! {
                () = draining.cancelled(), if !is_draining => {
                    is_draining = true;
                    self.endpoint.set_accepting(false);
                }
                () = stopping.cancelled() => {
                    self.end_all();
                    return;
                }
                () = notify.notified() => {}
                Some((near_id, accepted)) = self.keyed.recv() => {
                    let now = self.now();
                    self.endpoint.keyed(now, near_id, accepted);
                }
                Some(strayed) = self.share.strayed.recv() => {
                    let now = self.now();
                    match strayed {
                        Strayed::Datagram { from, mut datagram } => {
                            self.endpoint.handle_datagram(now, from, &mut datagram);
                        }
                        Strayed::Packet(astray) => self.endpoint.handle_astray(now, &astray),
                    }
                }
                () = feeds.notified(), if self.members.has_feeds => {}
                Some(told) = self.told.recv() => {
                    let now = self.now();
                    self.told(now, told);
                    for _ in 1..TOLD {
                        let Ok(told) = self.told.try_recv() else {
                            break;
                        };
                        self.told(now, told);
                    }
                }
                readable = self.socket.readable() => {
                    if let Err(error) = readable.and_then(|()| self.receive()) {
                        warn!(%error, "the RTMFP socket fails");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    let now = self.now();
                    self.settle(now);
                    // A flood does not hold up the sessions of this worker.
                    tokio::task::yield_now().await;
                }
                () = sleep(due) => {}
            }
        }
    }

    /// Does what is due.
    fn elapse(&mut self, now: Duration) {
        if self.endpoint.poll_timeout().is_some_and(|at| at <= now) {
            self.endpoint.handle_timeout(now);
        }
        while let Some((at, id)) = self.deadlines.first().copied()
            && at <= now
        {
            self.deadlines.remove(&(at, id));
            if let Some(client) = self.clients.get_mut(&id) {
                client.noted = None;
            }
            self.talking.borrow_mut().insert(id);
        }
        self.take_feeds(now);
        self.elapse_members(now);
    }

    fn due(&self) -> Option<Instant> {
        let own = self.deadlines.first().map(|(at, _)| *at);
        let members = self.members.due();
        let own = own.into_iter().chain(members);
        let first = self.endpoint.poll_timeout().into_iter().chain(own).min();
        first.map(|at| self.started + at)
    }

    fn receive(&mut self) -> std::io::Result<()> {
        let now = self.now();
        let Self {
            socket,
            inbox,
            outbox,
            endpoint,
            share,
            worker,
            ..
        } = self;
        for _ in 0..READS {
            let more = socket.receive(inbox, |from, datagram| {
                worker
                    .shared
                    .metrics
                    .bytes_received
                    .inc_by(datagram.len() as u64);
                let id = packet::session_id(datagram).filter(|id| *id != 0);
                match id.and_then(|id| other_worker(share, id)) {
                    None => {
                        if endpoint.handle_datagram(now, from, datagram) {
                            outbox.send(now, endpoint, socket);
                        }
                    }
                    Some(other) => {
                        let datagram = datagram.to_vec();
                        // Full, or ended: lost.
                        let _ = other.try_send(Strayed::Datagram { from, datagram });
                    }
                }
            })?;
            if !more {
                break;
            }
        }
        Ok(())
    }

    /// Does all that follows from what has happened.
    fn settle(&mut self, now: Duration) {
        loop {
            self.take_events(now);
            let talking = std::mem::take(&mut *self.talking.borrow_mut());
            if talking.is_empty() {
                break;
            }
            for id in talking {
                self.talk(now, id);
                // At once, while all that belongs to it is near the processor.
                self.outbox.send(now, &mut self.endpoint, &self.socket);
            }
        }
        self.transmit(now);
    }

    fn take_events(&mut self, now: Duration) {
        while let Some(astray) = self.endpoint.poll_astray() {
            if let Some(other) = other_worker(&self.share, astray.whom) {
                // Full, or ended: lost.
                let _ = other.try_send(Strayed::Packet(astray));
            }
        }
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                EndpointEvent::Keying { task, near_id } => {
                    if !self.share.keys.run(task, near_id, &self.answers) {
                        self.endpoint.abandoned(near_id);
                    }
                }
                EndpointEvent::Lookup(lookup) => self.look_up(lookup),
                EndpointEvent::Opened { session } => {
                    self.open += 1;
                    self.worker.shared.metrics.rtmfp.sessions.inc();
                    if self.opened_as_member(now, session) {
                        continue;
                    }
                    let near = self.endpoint.session(session).map(|it| it.near());
                    if near != Some(self.share.identity.certificate().fingerprint()) {
                        // It was to be with a member that has gone meanwhile.
                        self.endpoint
                            .with_session(now, session, |session| session.close(now));
                        continue;
                    }
                    self.clients.insert(session, Box::new(self.client(now)));
                    // Its time to connect begins.
                    self.talking.borrow_mut().insert(session);
                }
                EndpointEvent::Flows { session } => {
                    self.talking.borrow_mut().insert(session);
                }
                EndpointEvent::Room { session } => {
                    if self.clients.get(&session).is_some_and(|it| it.waits()) {
                        self.talking.borrow_mut().insert(session);
                    }
                }
                EndpointEvent::Session { session, event } => self.session_event(session, &event),
                EndpointEvent::Gone { session } => {
                    if let Some(at) = self.clients.remove(&session).and_then(|it| it.noted) {
                        self.deadlines.remove(&(at, session));
                    }
                    self.forget(session);
                    self.member_gone(session);
                }
                EndpointEvent::Failed { session, .. } => self.member_failed(session),
            }
        }
    }

    fn client(&self, now: Duration) -> Client {
        let config = &self.worker.shared.config;
        let keepalive = Duration::from_millis(config.rtmfp.keepalive_ms);
        let connect = Duration::from_millis(config.rtmp.handshake_timeout_ms);
        Client::new(now + connect, keepalive)
    }

    fn session_event(&mut self, session: u32, event: &SessionEvent) {
        match event {
            SessionEvent::Confirmed => {
                self.worker.shared.metrics.accepted.inc();
            }
            SessionEvent::Moved { from } => {
                let to = self.endpoint.session(session).map(|it| it.address());
                info!(%from, ?to, "a client has moved");
                self.register(session);
            }
            SessionEvent::Closed(reason) => {
                debug!(?reason, "the session is over");
                self.open = self.open.saturating_sub(1);
                self.worker.shared.metrics.rtmfp.sessions.dec();
                // What came before is still taken.
                self.talking.borrow_mut().insert(session);
                self.forget(session);
            }
            // Nobody opens sessions to this end through another.
            SessionEvent::ForwardedHello(_) => {}
        }
    }

    /// Moves messages between a client's flows and its session.
    fn talk(&mut self, now: Duration, id: u32) {
        if self.talk_as_member(now, id) {
            return;
        }
        let mut wanted = Vec::new();
        let wake = || wake(id, &self.talking, &self.notify);
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let over = self.endpoint.with_session(now, id, |session| {
            let all = client.receive(now, session.flows(), &wake, &mut wanted);
            if !session.is_open() {
                if all {
                    session.forget_flows();
                    client.end();
                }
                // Nothing of the client's is due any more: the session's own time ends it.
                return true;
            }
            let over = client.send(now, session.flows());
            if over {
                session.close(now);
            }
            over
        });
        let left_out = client.take_left_out();
        if left_out > 0 {
            self.worker.shared.metrics.rtmfp.left_out.inc_by(left_out);
        }
        let deadline = client.deadline().filter(|_| over == Some(false));
        if deadline != client.noted {
            if let Some(before) = std::mem::replace(&mut client.noted, deadline) {
                self.deadlines.remove(&(before, id));
            }
            self.deadlines.extend(deadline.map(|at| (at, id)));
        }
        for wanted in wanted {
            match wanted {
                Wanted::Session(end) => self.serve_client(id, end),
                Wanted::PeerInfo(addresses) => self.reported(id, addresses),
                Wanted::Joined(group) => self.joined(id, group),
                Wanted::Left(group) => self.left(id, group),
                Wanted::Relay(relay) => self.relay(id, relay),
            }
        }
    }

    /// Starts the session that serves a client.
    fn serve_client(&mut self, id: u32, end: TunnelEnd) {
        let Some(session) = self.endpoint.session(id) else {
            return;
        };
        let peer = session.address();
        end.set_peer(session.fingerprint());
        let shared = &self.worker.shared;
        let place = match shared.admission.admit(peer.ip()) {
            Ok(place) => place,
            Err(refusal) => {
                shared.metrics.refused.inc();
                info!(%peer, %refusal, "a client is refused");
                // The tunnel's end goes, and with it the client.
                return;
            }
        };
        let span = tracing::info_span!(parent: None, "connection", %peer, rtmfp = true);
        let worker = Rc::clone(&self.worker);
        let session = session::run(worker, Transport::Rtmfp(end), peer, place);
        tokio::task::spawn_local(self.tracker.track_future(session.instrument(span)));
    }

    fn transmit(&mut self, now: Duration) {
        self.outbox.send(now, &mut self.endpoint, &self.socket);
        let sent = std::mem::take(&mut self.outbox.sent);
        if sent > 0 {
            self.worker.meters.sent(sent);
        }
        let meters = &self.worker.shared.metrics.rtmfp;
        meters.count(&mut self.counted, Counted::of(&self.endpoint));
    }

    /// The process stops: one last word to everybody.
    fn end_all(&mut self) {
        let now = self.now();
        self.end_members(now);
        let sessions: Vec<u32> = self.clients.keys().copied().collect();
        for id in sessions {
            self.endpoint
                .with_session(now, id, |session| session.abort());
        }
        self.take_events(now);
        self.transmit(now);
    }
}

/// The worker that has given out an id, if it is another than this one.
fn other_worker(share: &Share, id: u32) -> Option<&mpsc::Sender<Strayed>> {
    let workers = u32::try_from(share.workers.len()).ok()?;
    let number = id.checked_rem(workers)?;
    if number == share.number {
        return None;
    }
    share.workers.get(usize::try_from(number).ok()?)
}

/// What has a client looked after.
fn wake(id: u32, talking: &Rc<RefCell<HashSet<u32>>>, notify: &Rc<Notify>) -> Wake {
    let (talking, notify) = (Rc::clone(talking), Rc::clone(notify));
    Rc::new(move || {
        if talking.borrow_mut().insert(id) {
            notify.notify_one();
        }
    })
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}
