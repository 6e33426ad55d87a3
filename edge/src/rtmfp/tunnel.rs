//! What stands between a session and the flows of its client: a byte stream to the one, messages to the other.
//!
//! A session speaks the chunk stream, whatever carries it; so an RTMFP client is the same session as an RTMP one. A [`Translator`] makes
//! messages of it, and it of messages. Neither sees more than its own end: the session a [`Transport`](crate::transport::Transport), the
//! flows messages to take and messages to give.
//!
//! # Bounds
//! The session's writes wait while [`ROOM`] bytes have not been taken by the flows, as they would at a socket that is full: what a slow
//! viewer is behind then stays in the ring of its stream, where it can be skipped. What comes from the client and the session has not read
//! is bounded by [`UNREAD`]; past it the flows are held up.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use headwater_rtmfp::crypto::certificate::Fingerprint;
use headwater_rtmfp::translator::Translator;
use headwater_rtmp::message::Message;

/// Bytes of messages that wait for the flows.
const ROOM: usize = 64 * 1024;

/// Bytes that wait for the session.
const UNREAD: usize = 256 * 1024;

/// Both ends hold it, on one thread.
pub(crate) type SharedTunnel = Rc<RefCell<Tunnel>>;

/// Tells whoever moves messages that a tunnel has some.
pub(crate) type Wake = Rc<dyn Fn()>;

/// See the [module](self).
pub(crate) struct Tunnel {
    translator: Translator,
    reader_waker: Option<Waker>,
    /// The client is gone: nothing more comes.
    is_over: bool,
    writer_waker: Option<Waker>,
    /// The session writes nothing more.
    is_shut: bool,
    /// The session is gone.
    is_dropped: bool,
    /// What the session sends now is a live stream.
    is_live: bool,
    /// So many of the messages that wait are of what was sent before that, and stored.
    stored: usize,
    /// The client may meet others.
    is_peer: bool,
    /// Who the client is.
    peer: Option<Fingerprint>,
    wake: Wake,
}

impl Tunnel {
    pub(crate) fn new(wake: Wake) -> SharedTunnel {
        Rc::new(RefCell::new(Self {
            translator: Translator::default(),
            reader_waker: None,
            is_over: false,
            writer_waker: None,
            is_shut: false,
            is_dropped: false,
            is_live: true,
            stored: 0,
            is_peer: false,
            peer: None,
            wake,
        }))
    }

    /// A message of the client, for the session.
    pub(crate) fn deliver(&mut self, message: &Message) {
        self.translator.deliver(message);
        self.wake_reader();
    }

    /// Whether the session is behind with reading.
    pub(crate) fn is_full(&self) -> bool {
        self.translator.unread() > UNREAD
    }

    /// The client is gone.
    pub(crate) fn end(&mut self) {
        self.is_over = true;
        self.wake_reader();
        self.wake_writer();
    }

    fn wake_reader(&mut self) {
        if let Some(waker) = self.reader_waker.take() {
            waker.wake();
        }
    }

    fn wake_writer(&mut self) {
        if let Some(waker) = self.writer_waker.take() {
            waker.wake();
        }
    }

    /// The next message for the client, and whether it is of a live stream.
    pub(crate) fn take(&mut self) -> Option<(Message, bool)> {
        let message = self.translator.take()?;
        if self.translator.waiting() < ROOM {
            self.wake_writer();
        }
        let is_stored = self.stored > 0;
        self.stored = self.stored.saturating_sub(1);
        Some((message, self.is_live && !is_stored))
    }

    /// Whether the session lets the client meet others.
    pub(crate) fn is_peer(&self) -> bool {
        self.is_peer
    }

    /// Whether the session has said all that it will.
    pub(crate) fn is_done(&self) -> bool {
        (self.is_shut || self.is_dropped) && self.translator.is_empty()
    }

    /// Whether the session may write.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_over {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.translator.waiting() >= ROOM {
            self.writer_waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.translator
            .write(bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        (self.wake)();
        Ok(())
    }
}

/// The session's end.
pub(crate) struct TunnelEnd(SharedTunnel);

impl TunnelEnd {
    pub(crate) fn new(tunnel: SharedTunnel) -> Self {
        Self(tunnel)
    }

    /// Whether what is written from now on may be given up when it is late.
    pub(crate) fn set_live(&self, is_live: bool) {
        let mut tunnel = self.0.borrow_mut();
        if is_live && !tunnel.is_live {
            tunnel.stored = tunnel.translator.len();
        }
        tunnel.is_live = is_live;
    }

    /// Who the client is.
    pub(crate) fn set_peer(&self, peer: Fingerprint) {
        self.0.borrow_mut().peer = Some(peer);
    }

    pub(crate) fn peer_id(&self) -> Option<String> {
        self.0.borrow().peer.map(|peer| peer.to_string())
    }

    /// The client may meet others from now on.
    pub(crate) fn allow_peers(&self) {
        let mut tunnel = self.0.borrow_mut();
        tunnel.is_peer = true;
        (tunnel.wake)();
    }

    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        let mut tunnel = self.0.borrow_mut();
        let count = tunnel.translator.unread();
        if count == 0 {
            if tunnel.is_over {
                return Poll::Ready(Ok(0));
            }
            tunnel.reader_waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let input = tunnel.translator.input();
        if buffer.is_empty() {
            *buffer = input;
        } else {
            buffer.unsplit(input);
        }
        // The flows may have been held up.
        (tunnel.wake)();
        Poll::Ready(Ok(count))
    }

    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut tunnel = self.0.borrow_mut();
        ready!(tunnel.poll_room(cx))?;
        tunnel.push(bytes)?;
        Poll::Ready(Ok(bytes.len()))
    }

    /// Whole messages, after others that were written whole.
    pub(crate) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        messages: &[Message],
    ) -> Poll<io::Result<()>> {
        let mut tunnel = self.0.borrow_mut();
        ready!(tunnel.poll_room(cx))?;
        for message in messages {
            tunnel.translator.send(message.clone());
        }
        (tunnel.wake)();
        Poll::Ready(Ok(()))
    }

    pub(crate) fn shut(&self) {
        let mut tunnel = self.0.borrow_mut();
        tunnel.is_shut = true;
        (tunnel.wake)();
    }
}

impl Drop for TunnelEnd {
    fn drop(&mut self) {
        let mut tunnel = self.0.borrow_mut();
        tunnel.is_dropped = true;
        (tunnel.wake)();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use headwater_rtmp::chunk::shared_wire_form;
    use headwater_rtmp::message::MessageType;

    use super::*;

    fn message(kind: MessageType, payload: &'static [u8]) -> Message {
        Message {
            kind,
            timestamp: 5,
            stream_id: 1,
            payload: Bytes::from_static(payload),
        }
    }

    fn tunnel() -> (SharedTunnel, TunnelEnd) {
        let tunnel = Tunnel::new(Rc::new(|| {}));
        let end = TunnelEnd::new(Rc::clone(&tunnel));
        (tunnel, end)
    }

    #[test]
    fn what_a_client_says_is_a_chunk_stream_to_the_session() {
        let (tunnel, end) = tunnel();
        let said = message(MessageType::COMMAND_AMF0, b"connect and more");
        tunnel.borrow_mut().deliver(&said);
        let mut cx = Context::from_waker(Waker::noop());
        let mut buffer = BytesMut::new();
        let count = end.poll_read(&mut cx, &mut buffer);
        assert!(matches!(count, Poll::Ready(Ok(count)) if count == buffer.len()));
        assert!(end.poll_read(&mut cx, &mut buffer).is_pending());
        tunnel.borrow_mut().end();
        assert!(matches!(
            end.poll_read(&mut cx, &mut buffer),
            Poll::Ready(Ok(0))
        ));
    }

    #[test]
    fn what_a_session_writes_comes_out_as_messages_until_it_is_shut() {
        let (tunnel, end) = tunnel();
        let mut cx = Context::from_waker(Waker::noop());
        let sent = [
            message(MessageType::AUDIO, b"\xaf\x01sound"),
            message(MessageType::VIDEO, b"\x17\x01a picture in several chunks"),
        ];
        for message in &sent {
            let wire = shared_wire_form(6, message, 128).bytes;
            assert!(end.poll_write(&mut cx, &wire).is_ready());
        }
        for message in &sent {
            let taken = tunnel.borrow_mut().take();
            assert_eq!(taken, Some((message.clone(), true)));
        }
        assert_eq!(tunnel.borrow_mut().take(), None);
        end.set_live(false);
        for (is_live, message) in [false, true].into_iter().zip(&sent) {
            end.set_live(is_live);
            let wire = shared_wire_form(6, message, 128).bytes;
            assert!(end.poll_write(&mut cx, &wire).is_ready());
        }
        for (is_live, message) in [false, true].into_iter().zip(&sent) {
            let taken = tunnel.borrow_mut().take();
            assert_eq!(taken, Some((message.clone(), is_live)));
        }
        assert!(end.poll_send(&mut cx, &sent).is_ready());
        for message in &sent {
            let taken = tunnel.borrow_mut().take();
            assert_eq!(taken, Some((message.clone(), true)));
        }
        end.shut();
        assert!(!tunnel.borrow().is_peer());
        end.allow_peers();
        assert!(tunnel.borrow().is_peer());
        assert!(tunnel.borrow().is_done());
    }

    #[test]
    fn a_client_that_takes_nothing_holds_the_session_up() {
        let (tunnel, end) = tunnel();
        let mut cx = Context::from_waker(Waker::noop());
        let wire = shared_wire_form(6, &message(MessageType::VIDEO, &[0x27; 40_000]), 128);
        let mut written = 0;
        while let Poll::Ready(taken) = end.poll_write(&mut cx, &wire.bytes) {
            taken.unwrap();
            written += 1;
        }
        assert_eq!(written, 2);
        assert!(end.poll_send(&mut cx, &[]).is_pending());
        assert!(tunnel.borrow_mut().take().is_some());
        assert!(end.poll_write(&mut cx, &wire.bytes).is_ready());
        tunnel.borrow_mut().end();
        assert!(matches!(
            end.poll_write(&mut cx, &wire.bytes),
            Poll::Ready(Err(_))
        ));
    }
}
