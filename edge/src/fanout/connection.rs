//! The writing side of a client's connection.
//!
//! Bytes leave in this order: what is already committed (the rest of a message that the socket took half of, control
//! messages), then entries of the streams it plays, taken in small portions only when next to nothing is left before them.
//! So a connection holds hardly more than a portion of each live stream that it plays and one of what is stored, whatever its socket
//! does, and messages never interleave.
//!
//! A slice of what is stored keeps the whole piece in memory, also when the cache has let go of it. Therefore a connection whose socket
//! has been full for [`LET_GO_AFTER`] copies what waits, and its players put their pieces away: from then on it holds those bytes alone,
//! [`LITTLE`] and two portions at most.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tracing::{Span, info};

use super::mirror::Portions;
use super::play::Play;
use super::{LocalHub, Tally};
use crate::metrics::{ConnectionMeters, PlayerCount};
use crate::player::{Action, Player};
use crate::transport::Transport;

/// Bytes taken from the streams at once: a few video frames, one or two `writev` calls.
const PORTION: usize = 128 * 1024;
/// Bytes taken from a stored stream at once: a slice of a piece, as large as the kernel takes for a client. What a client that seeks
/// has to get first is not more than this.
const RECORDED_PORTION: usize = 256 * 1024;
/// How long what is stored may wait in its shared form. A viewer that takes its stream in time takes a portion faster than this, and
/// nothing is copied for it.
const LET_GO_AFTER: Duration = Duration::from_secs(1);
/// A connection that has no more than this waiting takes a portion of its streams along, so that both leave with one call: the
/// answer to `play` and the first group of pictures, for one.
const LITTLE: usize = 8 * 1024;
/// Slices of one `writev` call; Linux allows 1,024.
const SLICES: usize = 64;
/// Control bytes that may wait for a client that does not read. Beyond this it is not coming back.
const MAX_CONTROL_BYTES: usize = 512 * 1024;

/// A client's socket and what waits for it.
pub(crate) struct Connection {
    transport: Transport,
    /// The session's task: woken when a full socket has room again.
    waker: Option<Waker>,
    pending: VecDeque<Bytes>,
    pending_bytes: usize,
    needs_flush: bool,
    plays: Vec<Play>,
    /// NetStreams that play what is stored.
    players: Vec<Seat>,
    /// Which of them was given room last.
    turn: usize,
    /// What waits has slices of pieces.
    shares_pieces: bool,
    /// Since when more than a little waits for a socket that is full.
    full_since: Option<Instant>,
    /// When the session began: players count from there.
    started: Instant,
    /// The session has something to do for a player, or for a play that is over.
    wants_session: bool,
    /// Since when the socket has taken nothing although something waits.
    stuck_since: Option<Instant>,
    failure: Option<io::Error>,
    /// Of what waits, at most so much is of shared objects, and not what a client that does not read lets pile up.
    object_bytes: usize,
    /// There is something of shared objects for it, for which it had no room.
    owes_objects: bool,
    meters: Rc<ConnectionMeters>,
    /// The connection's span: the walk writes on behalf of many.
    span: Span,
}

/// A player, counted.
struct Seat {
    player: Player,
    _counted: PlayerCount,
}

impl Connection {
    /// `started` is when the session began, from which it counts time.
    pub(crate) fn new(
        transport: Transport,
        meters: Rc<ConnectionMeters>,
        started: Instant,
    ) -> Self {
        Self {
            transport,
            waker: None,
            pending: VecDeque::new(),
            pending_bytes: 0,
            needs_flush: false,
            plays: Vec::new(),
            players: Vec::new(),
            turn: 0,
            shares_pieces: false,
            full_since: None,
            started,
            wants_session: false,
            stuck_since: None,
            failure: None,
            object_bytes: 0,
            owes_objects: false,
            meters,
            span: Span::current(),
        }
    }

    /// Whether a session begins with the handshake of RTMP: RTMFP has had its own.
    pub(crate) fn has_handshake(&self) -> bool {
        !matches!(self.transport, Transport::Rtmfp(_))
    }

    /// The name of what carries it, and whether that is TLS.
    pub(crate) fn protocol(&self) -> (&'static str, bool) {
        match self.transport {
            Transport::Tcp(_) => ("rtmp", false),
            Transport::Tls(_) => ("rtmps", true),
            Transport::Rtmfp(_) => ("rtmfp", false),
        }
    }

    /// Who an RTMFP client is, in hexadecimal.
    pub(crate) fn peer_id(&self) -> Option<String> {
        match &self.transport {
            Transport::Rtmfp(tunnel) => tunnel.peer_id(),
            Transport::Tcp(_) | Transport::Tls(_) => None,
        }
    }

    /// The client may meet others, where it can at all.
    pub(crate) fn allow_peers(&self) {
        self.transport.allow_peers();
    }

    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
        scratch: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        if let Some(failure) = self.failure.take() {
            return Poll::Ready(Err(failure));
        }
        self.transport.poll_read(cx, buffer, scratch)
    }

    /// Acknowledges at once, see [`Transport::acknowledge_now`], unless an answer is about to do that by the way.
    pub(crate) fn acknowledge_unless_answered(&self) {
        if self.is_drained() {
            self.transport.acknowledge_now();
        }
    }

    /// Queues control bytes: whole messages, which leave after what is committed already. A client for which too much waits
    /// does not read, and the connection fails.
    pub(crate) fn send(&mut self, bytes: Bytes) {
        let control = self.pending_bytes.saturating_sub(self.object_bytes);
        if control + bytes.len() > MAX_CONTROL_BYTES {
            self.failure = Some(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client does not read its control messages",
            ));
            return;
        }
        self.pending_bytes += bytes.len();
        self.pending.push_back(bytes);
    }

    /// Whether it takes messages of shared objects now. Where not, the session is woken when it does.
    pub(crate) fn has_room_for_objects(&mut self) -> bool {
        let has_room = self.takes_objects();
        self.owes_objects |= !has_room;
        has_room
    }

    /// Whether there was no room for something of shared objects, and now there is.
    pub(crate) fn takes_owed_objects(&mut self) -> bool {
        self.takes_objects() && std::mem::take(&mut self.owes_objects)
    }

    // One rule for both: a session that is woken for what does not fit would be woken for ever.
    fn takes_objects(&self) -> bool {
        self.stuck_since.is_none() && self.failure.is_none() && self.pending_bytes <= LITTLE
    }

    /// Sends a message of a shared object, on behalf of the session: a whole wire form.
    pub(crate) fn send_object(&mut self, bytes: Bytes) {
        self.object_bytes += bytes.len();
        self.pending_bytes += bytes.len();
        self.pending.push_back(bytes);
        // Without a waker the session is about to write by itself.
        let Some(waker) = self.waker.take() else {
            return;
        };
        match self.write_out(&mut Context::from_waker(&waker)) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(failure)) => {
                self.failure = Some(failure);
                waker.wake_by_ref();
            }
            // The session watches the time for a socket that takes nothing.
            Poll::Pending => waker.wake_by_ref(),
        }
        self.waker = Some(waker);
    }

    pub(crate) fn plays(&mut self) -> &mut Vec<Play> {
        &mut self.plays
    }

    /// Whether anything is played, or about to be.
    pub(crate) fn is_playing(&self) -> bool {
        !(self.plays.is_empty() && self.players.is_empty())
    }

    pub(crate) fn play(&mut self, stream_id: u32) -> Option<&mut Play> {
        self.plays
            .iter_mut()
            .find(|play| play.stream_id == stream_id)
    }

    pub(crate) fn player(&mut self, stream_id: u32) -> Option<&mut Player> {
        let mut players = self.players.iter_mut().map(|seat| &mut seat.player);
        players.find(|player| player.stream_id == stream_id)
    }

    pub(crate) fn add_player(&mut self, player: Player) {
        // One place, and not the four that a list begins with.
        self.players.reserve_exact(1);
        self.players.push(Seat {
            player,
            _counted: self.meters.player(),
        });
    }

    pub(crate) fn drop_player(&mut self, stream_id: u32) {
        self.players
            .retain(|seat| seat.player.stream_id != stream_id);
        self.shrink_players();
    }

    pub(crate) fn drop_players(&mut self) {
        self.players = Vec::new();
    }

    /// Drops the players that have nothing more to do.
    pub(crate) fn drop_idle_players(&mut self) {
        self.players.retain(|seat| seat.player.is_needed());
        self.shrink_players();
    }

    fn shrink_players(&mut self) {
        if self.players.is_empty() {
            self.players = Vec::new();
        }
    }

    /// What the players ask of the session, in order for each of them.
    pub(crate) fn poll_player_action(&mut self) -> Option<(u32, Action)> {
        let mut players = self.players.iter_mut().map(|seat| &mut seat.player);
        players.find_map(|player| Some((player.stream_id, player.poll_action()?)))
    }

    /// When a player wants to run, from the beginning of the session on.
    pub(crate) fn player_deadline(&self) -> Option<Duration> {
        let deadlines = self.players.iter().map(|seat| seat.player.poll_timeout());
        deadlines.flatten().min()
    }

    pub(crate) fn run_players(&mut self, now: Duration) {
        for seat in &mut self.players {
            seat.player.handle_timeout(now);
        }
    }

    /// Streams whose live play has come to its end since this was asked last.
    pub(crate) fn take_completed(&mut self) -> Vec<u32> {
        let completed = self.plays.iter_mut().filter_map(|play| {
            let is_news = play.take_completion();
            is_news.then_some(play.stream_id)
        });
        completed.collect()
    }

    /// Whether the session has something to do for a player, or for a play that is over.
    pub(crate) fn take_wish(&mut self) -> bool {
        std::mem::take(&mut self.wants_session)
    }

    /// Whether everything that was queued has left. Streams that play do not count.
    pub(crate) fn is_drained(&self) -> bool {
        self.pending.is_empty() && !self.needs_flush
    }

    /// How long the socket has taken nothing although something waits.
    pub(crate) fn stuck_for(&self, now: Instant) -> Duration {
        self.stuck_since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// When to write again although the socket is full, to let go of pieces.
    pub(crate) fn let_go_at(&self) -> Option<Instant> {
        let since = self.full_since?;
        let holds = |seat: &Seat| seat.player.holds_piece();
        let has_pieces = self.shares_pieces || self.players.iter().any(holds);
        has_pieces.then(|| since + LET_GO_AFTER)
    }

    /// Ends what plays because the socket takes nothing, and makes room for last words. Gives stream id, name and the number of
    /// entries missed of each that played.
    pub(crate) fn give_up(&mut self) -> Vec<(u32, String, u64)> {
        let plays = std::mem::take(&mut self.plays);
        let mut told: Vec<(u32, String, u64)> = Vec::new();
        for seat in std::mem::take(&mut self.players) {
            if !seat.player.is_live() {
                told.push((seat.player.stream_id, seat.player.name().to_owned(), 0));
            }
        }
        // From now on it is last words that wait, and their time begins.
        self.stuck_since = Some(Instant::now());
        self.transport.use_all_room();
        for play in plays {
            let missed = play.missed();
            self.meters.dropped(missed);
            told.push((play.stream_id, play.name, missed));
        }
        told
    }

    /// Writes from the session's own task.
    pub(crate) fn pump(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let known = self.waker.as_ref();
        if !known.is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
        self.write_out(cx)
    }

    /// Writes from the worker's walk over the viewers of a stream, on behalf of the session. A failure is kept for the session
    /// and wakes it.
    pub(crate) fn serve(&mut self, hub: &LocalHub, portions: &mut Portions, tally: &mut Tally) {
        // A socket that is full wakes the session by itself: nothing to try here.
        if self.stuck_since.is_some() || self.failure.is_some() {
            return;
        }
        let Some(waker) = self.waker.take() else {
            return;
        };
        let mut cx = Context::from_waker(&waker);
        let outcome = match self.write_portion(&mut cx, hub, portions, tally) {
            Some(outcome) => outcome,
            None => self.write_out(&mut cx),
        };
        match outcome {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(failure)) => {
                self.failure = Some(failure);
                waker.wake_by_ref();
            }
            // The session watches the time for a socket that takes nothing.
            Poll::Pending => waker.wake_by_ref(),
        }
        if self.wants_session {
            waker.wake_by_ref();
        }
        self.waker = Some(waker);
    }

    /// The short way, for a viewer that gets what all get: nothing is queued unless the socket is full. `None` if this one is
    /// not such a viewer.
    fn write_portion(
        &mut self,
        cx: &mut Context<'_>,
        hub: &LocalHub,
        portions: &mut Portions,
        tally: &mut Tally,
    ) -> Option<Poll<io::Result<()>>> {
        let [play] = self.plays.as_mut_slice() else {
            return None;
        };
        if !self.pending.is_empty() || self.needs_flush {
            return None;
        }
        let next = play.in_step(hub)?;
        let mirror = hub.mirror();
        if next == mirror.released() {
            return Some(Poll::Ready(Ok(())));
        }
        let portion = portions.get(&mirror, next)?;
        self.transport.set_live(true);
        let bytes = portion.bytes();
        let mut written = 0;
        let outcome = loop {
            let taken = if written == 0 {
                let messages = || portion.messages(&mirror);
                self.transport.poll_write_messages(cx, bytes, messages)
            } else {
                self.transport.poll_write(cx, &bytes[written..])
            };
            match taken {
                Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    written += count;
                    tally.sends += u64::from(self.transport.is_wire());
                    if written >= bytes.len() {
                        break Poll::Ready(Ok(()));
                    }
                }
                Poll::Ready(Err(failure)) => break Poll::Ready(Err(failure)),
                Poll::Pending => {
                    self.stuck_since = Some(Instant::now());
                    break Poll::Pending;
                }
            }
        };
        if self.transport.is_wire() {
            tally.bytes += written as u64;
        }
        if written > 0 {
            // A portion is sent whole or not at all, as far as the viewer's place is concerned: its rest goes first.
            play.sent(portion);
            tally.frames += portion.frames();
            if written < bytes.len() {
                self.pending_bytes = bytes.len() - written;
                self.pending.push_back(bytes.slice(written..));
            }
            self.needs_flush = self.transport.holds_back();
            if self.needs_flush && outcome.is_ready() {
                return None;
            }
        }
        Some(outcome)
    }

    fn write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.pending_bytes <= LITTLE {
                self.full_since = None;
                self.transport.set_live(self.players.is_empty());
                self.take_portion();
            }
            if self.pending.is_empty() {
                break;
            }
            let written = match self.pending.make_contiguous() {
                [only] => self.transport.poll_write(cx, only),
                several => {
                    let mut slices = [IoSlice::new(&[]); SLICES];
                    let mut count = 0;
                    for (slice, bytes) in slices.iter_mut().zip(several) {
                        *slice = IoSlice::new(bytes);
                        count += 1;
                    }
                    self.transport.poll_write_vectored(cx, &slices[..count])
                }
            };
            match written {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    self.stuck_since = None;
                    self.needs_flush = self.transport.holds_back();
                    if self.transport.is_wire() {
                        self.meters.sent(count);
                    }
                    self.advance(count);
                }
                Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
                Poll::Pending => {
                    let now = Instant::now();
                    self.stuck_since.get_or_insert(now);
                    self.full_since.get_or_insert(now);
                    if self.let_go_at().is_some_and(|at| at <= now) {
                        self.let_go();
                    }
                    return Poll::Pending;
                }
            }
        }
        // A queue that was needed once is not kept: most viewers never need one again.
        if self.pending.capacity() > 16 {
            self.pending = VecDeque::new();
        }
        if self.needs_flush {
            match self.transport.poll_flush(cx) {
                Poll::Ready(Ok(())) => self.needs_flush = false,
                Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
                Poll::Pending => {
                    self.stuck_since.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                }
            }
        }
        self.stuck_since = None;
        Poll::Ready(Ok(()))
    }

    fn take_portion(&mut self) {
        let span = &self.span;
        for play in &mut self.plays {
            if play.is_behind() {
                let selected = play.select(&mut self.pending, PORTION);
                self.pending_bytes += selected.bytes;
                self.meters.played(&selected);
                if selected.jumps > 0 {
                    info!(
                        parent: span,
                        stream = play.name,
                        dropped = selected.dropped,
                        "a slow viewer goes on at a later key frame"
                    );
                }
                self.wants_session |= play.has_completed();
            }
        }
        if !self.players.is_empty() {
            self.take_recorded();
        }
    }

    fn take_recorded(&mut self) {
        let now = self.started.elapsed();
        let players = self.players.len();
        for _ in 0..players {
            if self.pending_bytes > PORTION {
                // The others have their turn when there is room.
                return;
            }
            self.turn = (self.turn + 1) % players;
            let Some(Seat { player, .. }) = self.players.get_mut(self.turn) else {
                return;
            };
            let sent = player.poll_transmit(now, &mut self.pending, RECORDED_PORTION);
            self.pending_bytes += sent.bytes;
            self.shares_pieces |= sent.bytes > 0;
            self.meters.recorded(&sent);
            // Also after media: when the player wants to run again is another time now.
            self.wants_session |= player.has_actions() || sent.frames > 0;
        }
    }

    /// Makes what waits this connection's own, and has the players put their pieces away.
    fn let_go(&mut self) {
        for seat in &mut self.players {
            seat.player.set_aside();
        }
        if std::mem::take(&mut self.shares_pieces) {
            let mut own = BytesMut::with_capacity(self.pending_bytes);
            for bytes in self.pending.drain(..) {
                own.extend_from_slice(&bytes);
            }
            self.pending_bytes = own.len();
            self.pending.push_back(own.freeze());
        }
    }

    fn advance(&mut self, mut count: usize) {
        self.pending_bytes = self.pending_bytes.saturating_sub(count);
        while let Some(first) = self.pending.front_mut() {
            if count < first.len() {
                first.advance(count);
                return;
            }
            count -= first.len();
            self.pending.pop_front();
        }
        // Header forms differ by a few bytes from what was counted: an empty queue holds nothing.
        self.pending_bytes = 0;
        self.object_bytes = 0;
        self.shares_pieces = false;
    }

    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
