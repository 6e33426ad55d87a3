//! One light client, without its socket: handshake, connect, createStream, play, and then an account of what comes.
//!
//! Bytes come in with the time at which they were read; bytes to send and the account come out. It says the same as the full client
//! ([`crate::viewer`]) and understands the same, with the bounds of [`super::chunks`]: of audio and video it sees the first bytes only,
//! aggregate messages count as data, and calls of the server other than bandwidth checks are not answered.
//!
//! # Memory
//! Some 700 bytes, 384 for chunk streams, and 5 kB during the handshake.

mod told;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use headwater_amf::{Limits, Value};
use headwater_rtmp::command::{Command, ObjectEncoding, TransactionId, normalise_data};
use headwater_rtmp::control::{Control, UserControl};
use headwater_rtmp::handshake::{ClientForm, ClientHandshake, Progress, RANDOM_LENGTH};
use headwater_rtmp::message::{Message, MessageType};
use headwater_rtmp::session::SessionError;
use headwater_rtmp::status::{Level, Status, StatusCode};

use self::told::{data_status, rejected};
use super::account::{Account, Counter};
use super::chunks::{Chunks, Light, kept_of};
use super::plan::{CONNECT, CREATE_STREAM, Carrier, Plan, command_wire, control_wire};
use crate::client::ClientError;

/// Bytes that may wait for the socket: a server that asks without reading is not waited for.
const OUTPUT_BOUND: usize = 64 * 1024;

/// How much comes between two acknowledgements until the server states its window.
const WINDOW: u32 = 2_500_000;

/// Chunk size of bare senders.
const FLOOR_CHUNK_SIZE: u32 = 65_536;

/// Longest description of a status that is kept, in bytes.
const MAX_WORDS: usize = 256;

/// Where a client is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The socket connects.
    Connecting,
    /// C0 and C1 are said.
    Handshake,
    /// `connect` is said.
    Connect,
    /// `createStream` is said.
    CreateStream,
    /// `play` is said.
    Play,
    /// `connect` is answered, and nothing more is to be said.
    Idle,
    /// It is over.
    Ended,
}

/// What a client connects for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// To watch.
    Watch,
    /// To be told that playing begins, or that it is connected if it plays nothing.
    PlayStart,
    /// To see a frame.
    FirstFrame,
}

/// The state machine of one client. Times are nanoseconds of the harness's clock.
#[derive(Debug)]
pub(super) struct Watcher {
    plan: Arc<Plan>,
    phase: Phase,
    /// Which of the plan's addresses it tries.
    attempt: u8,
    /// Whether the last status is kept.
    keeps_status: bool,
    handshake: Option<Box<Handshaking>>,
    chunks: Chunks,
    out: Vec<u8>,
    /// When the phase began.
    step_began: u64,
    window: u32,
    announced_window: Option<u32>,
    /// What the last acknowledgement said, before it wrapped.
    acknowledged: u64,
    stream_id: u32,
    bandwidth_checks: u32,
    account: Account,
    ending: Option<Box<ClientError>>,
    last_status: Option<Box<str>>,
}

#[derive(Debug)]
struct Handshaking {
    handshake: ClientHandshake,
    input: BytesMut,
}

impl Watcher {
    /// A client that begins to connect at `now`.
    pub(super) fn new(plan: Arc<Plan>, now: u64) -> Self {
        let chunks = if plan.words.is_some() {
            Chunks::new()
        } else {
            Chunks::with_chunk_size(FLOOR_CHUNK_SIZE)
        };
        Self {
            plan,
            phase: Phase::Connecting,
            attempt: 0,
            keeps_status: false,
            handshake: None,
            chunks,
            out: Vec::new(),
            step_began: now,
            window: WINDOW,
            announced_window: None,
            acknowledged: 0,
            stream_id: 0,
            bandwidth_checks: 0,
            account: Account::new(now),
            ending: None,
            last_status: None,
        }
    }

    /// The address to connect to.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        let address = self.plan.addresses.get(usize::from(self.attempt));
        address.copied().filter(|_| self.phase == Phase::Connecting)
    }

    /// There is no connection. Whether there is another address to try; else the client has ended.
    pub(super) fn take_refusal(&mut self, error: &std::io::Error, now: u64) -> bool {
        self.attempt = self.attempt.saturating_add(1);
        if self.address().is_some() {
            return true;
        }
        let failure = ClientError::Connect {
            address: self.plan.name.clone(),
            kind: error.kind(),
            message: error.to_string(),
        };
        self.end(failure, now);
        false
    }

    /// The TCP connection is there, or the session of RTMFP is open.
    pub(super) fn take_connection(&mut self, now: u64) {
        self.account.take_opened(now);
        let Some(words) = &self.plan.words else {
            self.stream_id = 1;
            self.account.take_asked(now);
            self.account.take_started(now);
            self.step(Phase::Play, now);
            return;
        };
        if matches!(self.plan.carrier, Carrier::Rtmfp(_)) {
            self.out.extend_from_slice(&words.connect);
            self.step(Phase::Connect, now);
            return;
        }
        let mut random = [0; RANDOM_LENGTH];
        rand::fill(&mut random[..]);
        let mut handshake = ClientHandshake::new(ClientForm::Simple, random, 0);
        if let Some(hello) = handshake.poll_transmit() {
            self.out.extend_from_slice(&hello);
        }
        self.handshake = Some(Box::new(Handshaking {
            handshake,
            input: BytesMut::new(),
        }));
        self.step(Phase::Handshake, now);
    }

    /// Takes what was read at `now`. If it is the end, [`Watcher::ending`] tells why.
    pub(super) fn receive(&mut self, input: &[u8], now: u64, counter: &mut Counter) {
        self.account.take_bytes(input.len() as u64, counter);
        if let Err(failure) = self.read(input, now, counter) {
            self.end(failure, now);
        }
    }

    /// Datagrams of so many bytes came.
    pub(super) const fn take_bytes(&mut self, count: usize, counter: &mut Counter) {
        self.account.take_bytes(count as u64, counter);
    }

    /// Takes a message that came at `now` without a chunk stream. If it is the end, [`Watcher::ending`] tells why.
    pub(super) fn take_whole(&mut self, message: &Message, now: u64, counter: &mut Counter) {
        if self.phase == Phase::Ended {
            return;
        }
        let payload = &message.payload;
        let kept = payload.len().min(kept_of(message.kind));
        let light = Light {
            kind: message.kind,
            stream_id: message.stream_id,
            length: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            head: payload.get(..kept).unwrap_or_default().into(),
        };
        self.take_light(light, now, counter);
    }

    /// The same for one of which the beginning is known.
    pub(super) fn take_light(&mut self, message: Light<'_>, now: u64, counter: &mut Counter) {
        if let Err(failure) = self.take_message(message, now, counter) {
            self.end(failure, now);
        }
    }

    /// The connection is over, because of this.
    pub(super) fn end(&mut self, failure: ClientError, now: u64) {
        if self.phase != Phase::Ended {
            self.account.take_ended(now);
            self.ending = Some(Box::new(failure));
            self.release();
        }
    }

    /// Says good-bye, as far as there is somebody to say it to.
    pub(super) fn take_leave(&mut self) {
        if self.phase == Phase::Play && self.plan.words.is_some() {
            let stream = Value::Number(f64::from(self.stream_id));
            let command = Command::notice("deleteStream", vec![stream]);
            if let Ok(message) = command.to_message(ObjectEncoding::Amf0, 0) {
                self.out.extend_from_slice(&command_wire(&message));
            }
        }
    }

    /// Bytes that wait for the socket.
    pub(super) fn output(&self) -> &[u8] {
        &self.out
    }

    /// So many of them are sent.
    pub(super) fn take_sent(&mut self, count: usize) {
        if count >= self.out.len() {
            // Clients that watch have nothing to say, and hold no memory for it.
            self.out = Vec::new();
        } else {
            self.out.drain(..count);
        }
    }

    pub(super) const fn phase(&self) -> Phase {
        self.phase
    }

    /// What it connects to, and how.
    pub(super) const fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    pub(super) const fn account(&self) -> &Account {
        &self.account
    }

    pub(super) fn ending(&self) -> Option<&ClientError> {
        self.ending.as_deref()
    }

    /// From now on the last status is kept.
    pub(super) fn keep_status(&mut self) {
        self.keeps_status = true;
        self.last_status = None;
    }

    pub(super) fn last_status(&self) -> Option<&str> {
        self.last_status.as_deref()
    }

    /// Whether it has what it came for.
    pub(super) const fn has_reached(&self, goal: Goal) -> bool {
        match goal {
            Goal::Watch => false,
            Goal::PlayStart => self.account.is_started(),
            Goal::FirstFrame => self.account.is_playing(),
        }
    }

    /// Whether somebody looks at the clock for it.
    pub(super) fn is_awaited(&self, goal: Goal) -> bool {
        match self.phase {
            Phase::Ended | Phase::Idle => false,
            Phase::Play => goal != Goal::Watch && !self.has_reached(goal),
            _ => true,
        }
    }

    /// Ends it if a step took longer than `timeout`.
    pub(super) fn check_time(&mut self, now: u64, timeout: Duration, goal: Goal) {
        let took = Duration::from_nanos(now.saturating_sub(self.step_began));
        if took <= timeout || !self.is_awaited(goal) {
            return;
        }
        let waited = |what| ClientError::Timeout {
            what,
            after: timeout,
        };
        let failure = match self.phase {
            Phase::Connecting => waited("the connection"),
            Phase::Handshake => SessionError::HandshakeTimeout(timeout).into(),
            Phase::Connect => SessionError::ConnectTimeout(timeout).into(),
            Phase::CreateStream => waited("the answer to createStream"),
            Phase::Play if self.account.is_started() => waited("the first frame"),
            Phase::Play | Phase::Idle | Phase::Ended => waited("the answer to play"),
        };
        self.end(failure, now);
    }

    fn step(&mut self, phase: Phase, now: u64) {
        self.phase = phase;
        self.step_began = now;
    }

    /// What only a living connection needs.
    fn release(&mut self) {
        self.phase = Phase::Ended;
        self.handshake = None;
        self.chunks = Chunks::new();
        self.out = Vec::new();
    }
}

impl Watcher {
    fn read(&mut self, input: &[u8], now: u64, counter: &mut Counter) -> Result<(), ClientError> {
        if self.phase != Phase::Handshake {
            return self.read_chunks(input, now, counter);
        }
        let Some(handshaking) = &mut self.handshake else {
            return Ok(());
        };
        let Handshaking {
            handshake,
            input: held,
        } = &mut **handshaking;
        held.extend_from_slice(input);
        let progress = handshake.handle_input(held).map_err(SessionError::from)?;
        if let Some(bytes) = handshake.poll_transmit() {
            self.out.extend_from_slice(&bytes);
        }
        if progress == Progress::InProgress {
            return Ok(());
        }
        let rest = held.split();
        self.handshake = None;
        if let Some(words) = &self.plan.words {
            self.out.extend_from_slice(&words.connect);
        }
        self.step(Phase::Connect, now);
        self.read_chunks(&rest, now, counter)
    }

    fn read_chunks(
        &mut self,
        mut input: &[u8],
        now: u64,
        counter: &mut Counter,
    ) -> Result<(), ClientError> {
        while let Some(message) = self.chunks.next(&mut input).map_err(SessionError::from)? {
            self.take_message(message, now, counter)?;
        }
        let received = self.chunks.received();
        if received - self.acknowledged >= u64::from(self.window) && self.plan.words.is_some() {
            self.acknowledged = received;
            // It counts modulo 2^32.
            let sequence = (received & u64::from(u32::MAX)) as u32;
            self.say(&control_wire(&Control::Acknowledgement(sequence)))?;
        }
        Ok(())
    }

    fn take_message(
        &mut self,
        message: Light<'_>,
        now: u64,
        counter: &mut Counter,
    ) -> Result<(), ClientError> {
        // What comes before anybody asked for it is no part of the stream.
        let is_playing = self.phase == Phase::Play;
        match message.kind {
            MessageType::AUDIO | MessageType::VIDEO => {
                if is_playing {
                    let is_video = message.kind == MessageType::VIDEO;
                    self.account.take_media(is_video, &message, now, counter);
                }
                Ok(())
            }
            MessageType::DATA_AMF0 | MessageType::DATA_AMF3 => {
                self.take_data(message, now, counter)
            }
            MessageType::AGGREGATE => {
                if is_playing {
                    self.account.take_data(now);
                }
                Ok(())
            }
            MessageType::COMMAND_AMF0 | MessageType::COMMAND_AMF3 => {
                self.take_command(message, now, counter)
            }
            MessageType(1..=6) => self.take_control(message),
            _ => Ok(()),
        }
    }

    fn take_control(&mut self, message: Light<'_>) -> Result<(), ClientError> {
        let message = Message {
            kind: message.kind,
            timestamp: 0,
            stream_id: message.stream_id,
            payload: message.head.into_owned().into(),
        };
        let Some(control) = Control::parse(&message) else {
            return Ok(());
        };
        match control.map_err(SessionError::from)? {
            // 0 would mean to acknowledge for ever.
            Control::WindowAckSize(size) if size > 0 => self.window = size,
            // Section 5.4.5: the answer is a window size, if it is another one than the last.
            Control::SetPeerBandwidth { size, .. }
                if size > 0 && self.announced_window != Some(size) =>
            {
                self.announced_window = Some(size);
                self.say(&control_wire(&Control::WindowAckSize(size)))?;
            }
            Control::UserControl(UserControl::PingRequest { timestamp }) => {
                let answer = UserControl::PingResponse { timestamp };
                self.say(&control_wire(&Control::UserControl(answer)))?;
            }
            Control::UserControl(UserControl::StreamEof { .. }) => self.account.take_pause(),
            _ => {}
        }
        Ok(())
    }

    fn take_data(
        &mut self,
        message: Light<'_>,
        now: u64,
        counter: &mut Counter,
    ) -> Result<(), ClientError> {
        let (is_amf3, stream_id) = (message.kind == MessageType::DATA_AMF3, message.stream_id);
        let is_whole = message.is_whole();
        let (_, payload) = normalise_data(is_amf3, message.head.into_owned().into());
        if is_whole && let Some(status) = data_status(&payload) {
            return self.take_status(stream_id, &status, now, counter);
        }
        if self.phase == Phase::Play {
            self.account.take_data(now);
        }
        Ok(())
    }

    fn take_command(
        &mut self,
        message: Light<'_>,
        now: u64,
        counter: &mut Counter,
    ) -> Result<(), ClientError> {
        if !message.is_whole() {
            return Ok(());
        }
        let (is_amf3, stream_id) = (message.kind == MessageType::COMMAND_AMF3, message.stream_id);
        let body = Bytes::from(message.head.into_owned());
        let Ok(command) = Command::decode(is_amf3, &body, Limits::DEFAULT) else {
            return Ok(());
        };
        match command.name.as_str() {
            "_result" => self.take_answer(&command, true, now),
            "_error" => self.take_answer(&command, false, now),
            "onStatus" => match command.arguments.first().and_then(Status::from_value) {
                Some(status) => self.take_status(stream_id, &status, now, counter),
                None => Ok(()),
            },
            "close" => Err(ClientError::Closed),
            "onBWDone" => self.answer(command.transaction, Value::Undefined),
            "onBWCheck" | "_onbwcheck" => {
                // The server weighs the payload and waits for the count.
                self.bandwidth_checks = self.bandwidth_checks.wrapping_add(1);
                let count = Value::Number(f64::from(self.bandwidth_checks));
                self.answer(command.transaction, count)
            }
            _ => Ok(()),
        }
    }

    fn take_answer(
        &mut self,
        command: &Command,
        is_good: bool,
        now: u64,
    ) -> Result<(), ClientError> {
        let value = command.arguments.first().unwrap_or(&Value::Null);
        let number = command.transaction.number();
        let Some(words) = &self.plan.words else {
            return Ok(());
        };
        if self.phase == Phase::Connect && number == CONNECT {
            if !is_good {
                return Err(rejected(value));
            }
            if let Some(last) = &words.when_idle {
                self.out.extend_from_slice(last);
                self.account.take_started(now);
                self.step(Phase::Idle, now);
            } else {
                self.out.extend_from_slice(&words.create_stream);
                self.step(Phase::CreateStream, now);
            }
        } else if self.phase == Phase::CreateStream && number == CREATE_STREAM {
            let Some(stream_id) = value.as_number().filter(|_| is_good) else {
                let status = Status::from_value(value);
                let status = status.unwrap_or_else(|| Status::new(StatusCode::CallFailed));
                return Err(ClientError::refused(status));
            };
            // Conversion of a float saturates, as the full client does it.
            self.stream_id = stream_id as u32;
            let play = words.play(self.stream_id).map_err(SessionError::from)?;
            self.out.extend_from_slice(&play);
            self.account.take_asked(now);
            self.step(Phase::Play, now);
        }
        Ok(())
    }

    fn take_status(
        &mut self,
        stream_id: u32,
        status: &Status,
        now: u64,
        counter: &mut Counter,
    ) -> Result<(), ClientError> {
        counter.statuses.add(&status.code);
        if self.keeps_status {
            let words = format!("{}: {}", status.code, status.description);
            let end = words.floor_char_boundary(MAX_WORDS);
            self.last_status = words.get(..end).map(Box::from);
        }
        if self.phase != Phase::Play || status.code == StatusCode::ConnectReconnectRequest.as_str()
        {
            return Ok(());
        }
        if status.level == Level::Error && [0, self.stream_id].contains(&stream_id) {
            return Err(ClientError::refused(status.clone()));
        }
        if status.code == StatusCode::PlayStart.as_str() {
            self.account.take_started(now);
        }
        let ends = [
            StatusCode::PlayUnpublishNotify,
            StatusCode::PlayStop,
            StatusCode::PlayComplete,
        ];
        if ends.iter().any(|code| status.code == code.as_str()) {
            self.account.take_pause();
        }
        Ok(())
    }

    fn answer(&mut self, transaction: TransactionId, value: Value) -> Result<(), ClientError> {
        if !transaction.wants_answer() {
            return Ok(());
        }
        let answer = Command::result(transaction, value);
        let message = answer
            .to_message(ObjectEncoding::Amf0, 0)
            .map_err(SessionError::from)?;
        self.say(&command_wire(&message))
    }

    fn say(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        if self.out.len() + bytes.len() > OUTPUT_BOUND {
            return Err(SessionError::TooMuchOutput(OUTPUT_BOUND).into());
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
