//! What all clients of one stream have in common: made once, shared.

use std::collections::HashMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use headwater_amf::{EncodeError, Value};
use headwater_rtmp::chunk::{CONTROL_CHUNK_STREAM, shared_wire_form};
use headwater_rtmp::client::{ClientConfig, ClientSession, ConnectParameters};
use headwater_rtmp::command::{
    Command, ObjectEncoding, PlayLength, PlayReset, PlayStart, TransactionId, chunk_streams,
};
use headwater_rtmp::control::{Control, UserControl};
use headwater_rtmp::handshake::{PACKET_LENGTH, RANDOM_LENGTH, VERSION};
use headwater_rtmp::message::Message;
use headwater_rtmp::session::SessionError;
use headwater_rtmp::url::Scheme;

use super::rtmfp::RtmfpPlan;
use super::{RtmfpManner, SwarmError, SwarmTarget};
use crate::target::Target;

/// Chunk size of what we send, announced before `connect`: no command of ours is longer.
pub(super) const CHUNK_SIZE: u32 = 65_536;

/// Most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;

/// The number of `connect`.
pub(super) const CONNECT: f64 = 1.0;

/// The number of `createStream`.
pub(super) const CREATE_STREAM: f64 = 2.0;

/// Where to, and what to say there.
#[derive(Debug)]
pub(super) struct Plan {
    /// Never empty.
    pub(super) addresses: Vec<SocketAddr>,
    /// Host and port, for messages.
    pub(super) name: String,
    /// What carries the words.
    pub(super) carrier: Carrier,
    /// `None`: the other side just sends.
    pub(super) words: Option<Words>,
}

/// What carries what is said.
#[derive(Debug)]
pub(super) enum Carrier {
    /// TCP, with the chunk stream in it.
    Tcp,
    /// RTMFP.
    Rtmfp(RtmfpPlan),
    /// The packets of RTMFP without a handshake, from a bare sender.
    Sealed(RtmfpManner),
}

/// What all clients of a swarm have in common.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manners {
    /// The buffer that servers are told of.
    pub(super) buffer: Duration,
    /// Whether clients stop after `connect`.
    pub(super) is_idle: bool,
    /// Whether those of RTMFP let others be introduced to them.
    pub(super) is_introducible: bool,
    pub(super) rtmfp: RtmfpManner,
}

/// What an RTMP client says up to `play`.
#[derive(Debug)]
pub(super) struct Words {
    /// Set Chunk Size and `connect`.
    pub(super) connect: Bytes,
    /// `createStream`.
    pub(super) create_stream: Bytes,
    /// What is said after `connect` instead of `createStream`, if anything.
    pub(super) when_idle: Option<Bytes>,
    stream: String,
    /// Milliseconds.
    buffer: u32,
}

impl Words {
    fn new(target: &Target, manners: &Manners) -> Result<Self, SessionError> {
        let create = Command::call(
            "createStream",
            TransactionId::new(CREATE_STREAM),
            Vec::new(),
        );
        let words = Self {
            connect: connect_wire(target)?,
            create_stream: command_wire(&create.to_message(ObjectEncoding::Amf0, 0)?),
            when_idle: manners.is_idle.then(|| when_idle(manners)).transpose()?,
            stream: target.stream.clone(),
            buffer: u32::try_from(manners.buffer.as_millis()).unwrap_or(u32::MAX),
        };
        // A name that cannot be written is told before anybody connects.
        words.play(1)?;
        Ok(words)
    }

    /// The buffer length and `play`.
    pub(super) fn play(&self, stream_id: u32) -> Result<Vec<u8>, EncodeError> {
        let length = UserControl::SetBufferLength {
            stream_id,
            length: self.buffer,
        };
        let arguments = vec![
            Value::from(self.stream.as_str()),
            Value::Number(PlayStart::LiveOrRecorded.to_wire()),
            Value::Number(PlayLength::All.to_wire()),
            PlayReset::Reset.to_value(),
        ];
        let play = Command::notice("play", arguments);
        let mut wire = control_wire(&Control::UserControl(length)).to_vec();
        wire.extend_from_slice(&command_wire(
            &play.to_message(ObjectEncoding::Amf0, stream_id)?,
        ));
        Ok(wire)
    }
}

/// With no addresses of its own a client can be introduced to others where it is seen (RFC 7425 section 5.3.3).
fn when_idle(manners: &Manners) -> Result<Bytes, SessionError> {
    if !manners.is_introducible {
        return Ok(Bytes::new());
    }
    let here = Command::notice("setPeerInfo", Vec::new());
    Ok(command_wire(&here.to_message(ObjectEncoding::Amf0, 0)?))
}

/// What the full client says once its handshake is done: Set Chunk Size and `connect`.
fn connect_wire(target: &Target) -> Result<Bytes, SessionError> {
    let config = ClientConfig {
        chunk_size: CHUNK_SIZE,
        ..ClientConfig::default()
    };
    let mut session = ClientSession::new(config, [0; RANDOM_LENGTH], Duration::ZERO);
    session.connect(&ConnectParameters::new(&target.url))?;
    while session.poll_transmit().is_some() {}
    // A server's handshake, so that what waits for it comes out.
    let mut answer = BytesMut::zeroed(1 + 2 * PACKET_LENGTH);
    if let Some(version) = answer.first_mut() {
        *version = VERSION;
    }
    session.handle_input(Duration::ZERO, &mut answer)?;
    let mut said = BytesMut::new();
    while let Some(bytes) = session.poll_transmit() {
        said.extend_from_slice(&bytes);
    }
    // The confirmation of the handshake comes first.
    said.advance(PACKET_LENGTH.min(said.len()));
    Ok(said.freeze())
}

/// A control message as bytes.
pub(super) fn control_wire(control: &Control) -> Bytes {
    shared_wire_form(CONTROL_CHUNK_STREAM, &control.to_message(), CHUNK_SIZE).bytes
}

/// A command as bytes.
pub(super) fn command_wire(message: &Message) -> Bytes {
    shared_wire_form(chunk_streams::COMMAND, message, CHUNK_SIZE).bytes
}

/// Resolves and prepares: one plan for each target, the same one for the same target.
pub(super) fn plans(
    targets: &[SwarmTarget],
    manners: &Manners,
) -> Result<Vec<Arc<Plan>>, SwarmError> {
    let mut known: HashMap<String, Arc<Plan>> = HashMap::new();
    let mut hosts: HashMap<(String, u16), Vec<SocketAddr>> = HashMap::new();
    let mut all = Vec::with_capacity(targets.len());
    for target in targets {
        let key = target.to_string();
        if let Some(plan) = known.get(&key) {
            all.push(Arc::clone(plan));
            continue;
        }
        let plan = Arc::new(plan(target, manners, &mut hosts)?);
        known.insert(key, Arc::clone(&plan));
        all.push(plan);
    }
    Ok(all)
}

fn plan(
    target: &SwarmTarget,
    manners: &Manners,
    hosts: &mut HashMap<(String, u16), Vec<SocketAddr>>,
) -> Result<Plan, SwarmError> {
    let floor = |address: &SocketAddr, carrier| Plan {
        addresses: vec![*address],
        name: address.to_string(),
        carrier,
        words: None,
    };
    let target = match target {
        SwarmTarget::Rtmp(target) => target,
        SwarmTarget::Floor(address) => return Ok(floor(address, Carrier::Tcp)),
        SwarmTarget::SealedFloor(address) => {
            return Ok(floor(address, Carrier::Sealed(manners.rtmfp)));
        }
    };
    let carrier = match target.url.scheme {
        Scheme::Rtmp => Carrier::Tcp,
        Scheme::Rtmfp => Carrier::Rtmfp(RtmfpPlan::new(&target.url, manners)),
        _ => {
            return Err(SwarmError::Tls {
                url: target.to_string(),
            });
        }
    };
    let (host, port) = (target.url.host.clone(), target.url.port_or_default());
    let name = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    let place = (host.clone(), port);
    let addresses = match hosts.get(&place) {
        Some(addresses) => addresses.clone(),
        None => {
            let failed = |cause| SwarmError::Resolve {
                host: host.clone(),
                cause,
            };
            let found = (host.as_str(), port).to_socket_addrs().map_err(failed)?;
            let found: Vec<SocketAddr> = found.take(MAX_ADDRESSES).collect();
            if found.is_empty() {
                return Err(failed(std::io::ErrorKind::NotFound.into()));
            }
            hosts.insert(place, found.clone());
            found
        }
    };
    let words = Words::new(target, manners).map_err(|cause| SwarmError::Encode {
        url: target.to_string(),
        cause,
    })?;
    Ok(Plan {
        addresses,
        name,
        carrier,
        words: Some(words),
    })
}

#[cfg(test)]
mod tests {
    use headwater_amf::Limits;
    use headwater_rtmp::chunk::{ChunkReader, ReaderLimits};
    use headwater_rtmp::message::MessageType;

    use super::*;

    #[test]
    fn the_same_stream_has_one_plan() {
        let target = |name: &str| {
            SwarmTarget::Rtmp(Target::parse(&format!("rtmp://127.0.0.1:1/live/{name}")).unwrap())
        };
        let floor = SwarmTarget::Floor("127.0.0.1:9".parse().unwrap());
        let targets = [target("a"), target("b"), target("a"), floor];
        let plans = plans(&targets, &Manners::default()).unwrap();
        assert!(Arc::ptr_eq(&plans[0], &plans[2]));
        assert!(!Arc::ptr_eq(&plans[0], &plans[1]));
        assert_eq!(plans[0].name, "127.0.0.1:1");
        assert!(plans[3].words.is_none());
    }

    #[test]
    fn connect_is_said_as_the_full_client_says_it() {
        let target = SwarmTarget::Rtmp(Target::parse("rtmp://127.0.0.1:1/live/a").unwrap());
        let plans = plans(&[target], &Manners::default()).unwrap();
        let words = plans[0].words.as_ref().unwrap();
        let mut reader = ChunkReader::new(ReaderLimits::default());
        let mut input = BytesMut::from(&words.connect[..]);
        let first = reader.handle_input(&mut input).unwrap().unwrap();
        assert_eq!(first.kind, MessageType::SET_CHUNK_SIZE);
        let mut input = BytesMut::from_iter(input.iter().chain(&words.create_stream));
        for (name, number) in [("connect", CONNECT), ("createStream", CREATE_STREAM)] {
            let message = reader.handle_input(&mut input).unwrap().unwrap();
            let command = Command::decode(false, &message.payload, Limits::DEFAULT).unwrap();
            assert_eq!(
                (&*command.name, command.transaction.number()),
                (name, number)
            );
        }
        assert!(input.is_empty());
    }

    #[test]
    fn what_cannot_be_played_is_told_before_the_start() {
        let told = |url: &str, stream: &str| {
            let target = Target::with_name(url, stream).unwrap();
            plans(&[SwarmTarget::Rtmp(target)], &Manners::default())
                .unwrap_err()
                .to_string()
        };
        assert!(told("rtmps://127.0.0.1/live", "a").contains("tls"));
        let error = told("rtmp://name.invalid/live", "a");
        assert!(error.contains("name.invalid"), "{error}");
    }
}
