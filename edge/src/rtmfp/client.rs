//! One session's NetConnection, and the tunnel to the session that serves it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use headwater_rtmfp::connection::{Happened, NetConnection, NotSent, Role};
use headwater_rtmfp::crypto::certificate::Fingerprint;
use headwater_rtmfp::flow::FlowSet;
use headwater_rtmfp::group::GroupId;
use headwater_rtmfp::message::Keepalive;
use headwater_rtmp::message::{Message, MessageType};

use super::groups::Groups;
use super::relay::{Allowance, Relay, is_call_of};
use super::tunnel::{SharedTunnel, Tunnel, TunnelEnd, Wake};

/// Bytes that wait in the flows, sent or not, before the session is held up: what a fast client has under way at a fifth of a second.
const WAITING: usize = 256 * 1024;

/// How long what waits may take to the client once its session is over.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long media that a client sent before it closed its connection may take: they come in other flows, which may be slower.
const LAST_MEDIA: Duration = Duration::from_millis(500);

/// See the [module](self).
pub(crate) struct Client {
    connection: NetConnection,
    tunnel: Option<SharedTunnel>,
    /// When a client that has said nothing by then is sent away.
    connect_by: Duration,
    /// How often the client is to ask whether the server is there; told once it is connected.
    keepalive: Option<Duration>,
    /// The deadline that the driver keeps for it.
    pub(crate) noted: Option<Duration>,
    /// The client has closed its connection. Until when what it sent before is waited for.
    closing: Option<Duration>,
    /// Since when only last words wait.
    leaving: Option<Duration>,
    is_over: bool,
    /// The flows have no room for what its session may have to say.
    is_held_up: bool,
    /// What it said of its addresses before its session has let it meet others.
    early: Option<Vec<SocketAddr>>,
    groups: Groups,
    relays: Allowance,
}

/// What the driver is to do.
pub(crate) enum Wanted {
    /// Serve what is at the other end of the tunnel.
    Session(TunnelEnd),
    /// The client says where it can be reached.
    PeerInfo(Vec<SocketAddr>),
    /// It is a member of a group.
    Joined(GroupId),
    /// It is not any more.
    Left(GroupId),
    /// It has something to say to another client.
    Relay(Relay),
}

impl Client {
    pub(crate) fn new(connect_by: Duration, keepalive: Duration) -> Self {
        Self {
            connection: NetConnection::new(Role::Server),
            tunnel: None,
            connect_by,
            keepalive: Some(keepalive),
            noted: None,
            closing: None,
            leaving: None,
            is_over: false,
            is_held_up: false,
            early: None,
            groups: Groups::default(),
            relays: Allowance::default(),
        }
    }

    /// Takes what came in the flows. False: some of it is still there, because the session is behind; it wakes us when it has read.
    pub(crate) fn receive(
        &mut self,
        now: Duration,
        flows: &mut FlowSet,
        wake: &impl Fn() -> Wake,
        wanted: &mut Vec<Wanted>,
    ) -> bool {
        if self.is_peer() {
            wanted.extend(self.early.take().map(Wanted::PeerInfo));
        }
        loop {
            if self.is_behind() {
                return false;
            }
            match self.connection.poll(now, flows) {
                None => break,
                Some(Happened::Message(message)) => self.message(now, &message, wake, wanted),
                Some(Happened::OpenedForeign { flow, metadata }) => {
                    if !self.is_peer() || !self.groups.opened(flow, &metadata) {
                        self.connection.reject(flows, flow);
                    }
                }
                Some(Happened::Foreign { flow, payload }) => {
                    match self.groups.said(flow, &payload) {
                        Ok(joined) => wanted.extend(joined.map(Wanted::Joined)),
                        Err(()) => self.connection.reject(flows, flow),
                    }
                }
                Some(Happened::EndedForeign { flow }) => {
                    wanted.extend(self.groups.ended(flows, flow).map(Wanted::Left));
                }
                Some(Happened::Ended) => {
                    self.closing.get_or_insert(now + LAST_MEDIA);
                }
                Some(Happened::Keepalive(_)) => {}
            }
        }
        let is_last = |by: Duration| now >= by || flows.receiving() == 0;
        if self.closing.is_some_and(is_last) {
            self.end();
        }
        true
    }

    /// Whether its session has much to read. It wakes us when it has read.
    fn is_behind(&self) -> bool {
        let tunnel = self.tunnel.as_ref();
        tunnel.is_some_and(|tunnel| tunnel.borrow().is_full())
    }

    /// Whether it is connected to an application whose clients may meet.
    fn is_peer(&self) -> bool {
        let tunnel = self.tunnel.as_ref();
        tunnel.is_some_and(|tunnel| tunnel.borrow().is_peer())
    }

    fn message(
        &mut self,
        now: Duration,
        message: &Message,
        wake: &impl Fn() -> Wake,
        wanted: &mut Vec<Wanted>,
    ) {
        if self.is_over {
            return;
        }
        if let Some(addresses) = peer_info(message) {
            if self.is_peer() {
                wanted.push(Wanted::PeerInfo(addresses));
            } else {
                self.early = Some(addresses);
            }
            return;
        }
        if self.is_peer() && is_call_of(message, "relay") {
            match Relay::read(message) {
                Some(relay) if self.relays.take(now) => wanted.push(Wanted::Relay(relay)),
                Some(_) => tracing::debug!("a client relays too much"),
                None => tracing::debug!("a client relays to nobody"),
            }
            return;
        }
        let tunnel = self.tunnel.get_or_insert_with(|| {
            let tunnel = Tunnel::new(wake());
            wanted.push(Wanted::Session(TunnelEnd::new(Rc::clone(&tunnel))));
            tunnel
        });
        tunnel.borrow_mut().deliver(message);
    }

    /// Gives the flows what the session has to say, as much as they take. True: the session is over, and so is all it said.
    pub(crate) fn send(&mut self, now: Duration, flows: &mut FlowSet) -> bool {
        self.connection.handle_timeout(now, flows);
        let Some(tunnel) = &self.tunnel else {
            return self.is_over || now >= self.connect_by;
        };
        self.is_held_up = false;
        loop {
            if flows.waiting().0 >= WAITING {
                self.is_held_up = true;
                break;
            }
            let Some((message, is_live)) = tunnel.borrow_mut().take() else {
                break;
            };
            let is_answer = message.stream_id == 0 && is_command(&message);
            let sent = self.connection.send(now, flows, &message, is_live);
            let keepalive = self.keepalive.take_if(|_| is_answer && sent.is_ok());
            let sent = match keepalive {
                // The first answer is that to `connect`.
                Some(every) => {
                    let keepalive = Keepalive {
                        server: every,
                        peer: every,
                    };
                    let message = keepalive.to_message();
                    self.connection.send(now, flows, &message, false)
                }
                None => sent,
            };
            match sent {
                Ok(()) => {}
                Err(NotSent::NotConnected) => break,
                Err(error) => {
                    tracing::debug!(%error, "a message was not sent");
                    self.end();
                    return true;
                }
            }
        }
        if !self.is_over && tunnel.borrow().is_done() {
            if self.leaving.is_none() {
                self.connection.close(flows);
            }
            let since = *self.leaving.get_or_insert(now);
            self.is_over = flows.waiting().1 == 0 || now >= since + FAREWELL;
        }
        self.is_over
    }

    /// Whether it goes on when something that waits in the flows has come.
    pub(crate) fn waits(&self) -> bool {
        self.is_held_up || self.leaving.is_some()
    }

    /// Names members of a group to the client.
    pub(crate) fn name_members(
        &mut self,
        now: Duration,
        flows: &mut FlowSet,
        group: GroupId,
        members: &[Fingerprint],
    ) {
        self.groups.name(now, flows, group, members);
    }

    /// A command of another client. One that comes when much waits already is dropped.
    pub(crate) fn relayed(&mut self, now: Duration, flows: &mut FlowSet, command: Bytes) {
        if self.is_over || self.leaving.is_some() || flows.waiting().0 >= WAITING {
            return;
        }
        let message = Message {
            kind: MessageType::COMMAND_AMF0,
            timestamp: 0,
            stream_id: 0,
            payload: command,
        };
        if let Err(error) = self.connection.send(now, flows, &message, false) {
            tracing::debug!(%error, "a relayed command was not sent");
        }
    }

    /// The session with the client is over.
    pub(crate) fn end(&mut self) {
        self.is_over = true;
        if let Some(tunnel) = &self.tunnel {
            tunnel.borrow_mut().end();
        }
    }

    /// Pictures that the client did not get because of others, since this was asked.
    pub(crate) fn take_left_out(&mut self) -> u64 {
        self.connection.take_left_out()
    }

    /// When [`send`](Self::send) is to be called again, whatever happens.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let leaving = self.leaving.map(|since| since + FAREWELL);
        let connect = self.tunnel.is_none().then_some(self.connect_by);
        leaving
            .into_iter()
            .chain(self.closing.filter(|_| !self.is_behind()))
            .chain(connect)
            .chain(self.connection.poll_timeout())
            .min()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.end();
    }
}

fn is_command(message: &Message) -> bool {
    [MessageType::COMMAND_AMF0, MessageType::COMMAND_AMF3].contains(&message.kind)
}

/// The addresses of a `setPeerInfo` (RFC 7425 section 5.3.3); those that cannot be read are left out. Which of them are of use to
/// whom is [another question](crate::peer).
fn peer_info(message: &Message) -> Option<Vec<SocketAddr>> {
    const MOST: usize = 20;

    if !is_call_of(message, "setPeerInfo") {
        return None;
    }
    let limits = headwater_amf::Limits {
        depth: 4,
        values: 64,
        bytes: 8 * 1024,
    };
    let command = headwater_rtmp::command::Command::decode(
        message.kind == MessageType::COMMAND_AMF3,
        &message.payload,
        limits,
    )
    .ok()?;
    let texts = command
        .arguments
        .iter()
        .filter_map(|value| value.as_string());
    let addresses = texts.filter_map(|text| text.to_string_lossy().parse().ok());
    Some(addresses.take(MOST).collect())
}

#[cfg(test)]
mod tests {
    use headwater_rtmfp::flow::Config;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_client_that_says_nothing_is_sent_away() {
        let mut client = Client::new(SECOND * 10, SECOND);
        let mut flows = FlowSet::new(Config::default());
        assert_eq!(client.deadline(), Some(SECOND * 10));
        assert!(!client.send(SECOND * 9, &mut flows));
        assert!(client.send(SECOND * 10, &mut flows));
    }

    #[test]
    fn a_client_is_told_how_often_to_ask_after_the_first_answer() {
        let mut far = FlowSet::new(Config::default());
        let mut near = FlowSet::new(Config::default());
        let mut connection = NetConnection::new(Role::Client);
        let connect = Message {
            kind: MessageType::COMMAND_AMF0,
            timestamp: 0,
            stream_id: 0,
            payload: Bytes::from_static(b"connect"),
        };
        let sent = connection.send(SECOND, &mut far, &connect, false);
        assert_eq!(sent, Ok(()));
        carry(&mut far, &mut near);
        let mut client = Client::new(SECOND * 10, SECOND * 7);
        let mut wanted = Vec::new();
        let wake = || -> Wake { Rc::new(|| {}) };
        assert!(client.receive(SECOND, &mut near, &wake, &mut wanted));
        let [Wanted::Session(end)] = &wanted[..] else {
            panic!("no session");
        };
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let answer = headwater_rtmp::chunk::shared_wire_form(3, &connect, 128);
        for _ in 0..2 {
            assert!(end.poll_write(&mut cx, &answer.bytes).is_ready());
        }
        assert!(!client.send(SECOND, &mut near));
        carry(&mut near, &mut far);
        let mut heard = Vec::new();
        while let Some(happened) = connection.poll(SECOND, &mut far) {
            heard.push(happened);
        }
        let keepalive = Keepalive {
            server: SECOND * 7,
            peer: SECOND * 7,
        };
        assert_eq!(
            heard,
            [
                Happened::Message(connect.clone()),
                Happened::Keepalive(keepalive),
                Happened::Message(connect),
            ]
        );
    }

    #[test]
    fn a_client_that_closes_while_its_session_is_behind_needs_no_time() {
        let mut far = FlowSet::new(Config::default());
        let mut near = FlowSet::new(Config::default());
        let mut connection = NetConnection::new(Role::Client);
        let mut client = Client::new(SECOND * 10, SECOND * 7);
        let mut wanted = Vec::new();
        let wake = || -> Wake { Rc::new(|| {}) };
        let long = Message {
            kind: MessageType::COMMAND_AMF0,
            timestamp: 0,
            stream_id: 0,
            payload: vec![2; 3_000].into(),
        };
        for _ in 0..100 {
            let sent = connection.send(SECOND, &mut far, &long, false);
            assert_eq!(sent, Ok(()));
            carry(&mut far, &mut near);
            assert!(client.receive(SECOND, &mut near, &wake, &mut wanted) || client.is_behind());
            carry(&mut near, &mut far);
        }
        client.closing = Some(SECOND);
        assert!(client.is_behind());
        assert!(!client.receive(SECOND * 2, &mut near, &wake, &mut wanted));
        assert_eq!(client.deadline(), None, "it is woken by the session");
        let [Wanted::Session(end)] = &wanted[..] else {
            panic!("no session");
        };
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let mut buffer = bytes::BytesMut::new();
        assert!(end.poll_read(&mut cx, &mut buffer).is_ready());
        assert!(client.deadline().is_some());
        assert!(client.receive(SECOND * 2, &mut near, &wake, &mut wanted));
        assert!(client.is_over);
    }

    /// Brings what one end has to say to the other.
    fn carry(from: &mut FlowSet, to: &mut FlowSet) {
        let mut chunks = Vec::new();
        while let Some(header) = from.poll_transmit(SECOND, 1_160, &mut chunks) {
            let mut rest = &chunks[..];
            let mut packet = Vec::new();
            while let Some(([kind, high, low], body)) = rest.split_first_chunk() {
                let (chunk, after) = body.split_at(usize::from(u16::from_be_bytes([*high, *low])));
                packet.push((*kind, chunk));
                rest = after;
            }
            to.handle_packet(SECOND, &header, packet);
            chunks.clear();
        }
    }
}
