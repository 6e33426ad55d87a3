//! A receiver of a bare sender's packets: it decrypts them and puts messages together as far as their beginnings, and acknowledges nothing.
//!
//! Packets come in the order in which they were sent, or not at all: there is only the loopback interface between. A message of which a
//! piece is missing is dropped, so that it shows as a missing frame.

use std::io;
use std::net::SocketAddr;

use headwater_rtmfp::crypto::packet::Opener;
use headwater_rtmfp::message::HEADER;
use headwater_rtmfp::wire::user_data::UserData;
use headwater_rtmfp::wire::{ChunkKind, Mode, Packet};
use headwater_rtmp::message::MessageType;
use rand::RngExt as _;

use super::RtmfpManner;
use super::account::Counter;
use super::chunks::{Light, MEDIA_HEAD};
use super::rtmfp::Kit;
use super::watcher::{Phase, Watcher};
use crate::client::ClientError;
use crate::clock::now_ns;
use crate::floor::hello::{Hello, Wish};
use crate::udp::{Received, Udp};

/// How often hello is said until something comes, in nanoseconds.
const HELLO_EVERY: u64 = 1_000_000_000;

/// How often it is said afterwards.
const ALIVE_EVERY: u64 = 5 * HELLO_EVERY;

/// Flows of a sender, at most: data, audio and video.
const FLOWS: usize = 3;

/// The message stream that the sender sends, as in the metadata that are not looked at.
const STREAM_ID: u32 = 1;

/// Calls of the system for one receiver before others have their turn.
const READS_PER_TURN: usize = 4;

/// One receiver.
#[derive(Debug)]
pub(super) struct SealedLink {
    socket: Udp,
    sender: SocketAddr,
    hello: Hello,
    next_hello: u64,
    hears: Ears,
}

#[derive(Debug)]
struct Ears {
    opener: Opener,
    flows: Vec<Assembly>,
}

/// The message of a flow that is coming.
#[derive(Debug)]
struct Assembly {
    flow: u64,
    /// The number of the next fragment, while there is a beginning that it belongs to.
    next: Option<u64>,
    head: Vec<u8>,
    length: usize,
}

impl SealedLink {
    pub(super) fn connect(
        manner: RtmfpManner,
        sender: SocketAddr,
        kit: &mut Kit,
        now: u64,
    ) -> io::Result<Self> {
        let rng = &mut kit.tools.rng;
        // One address is enough: a bare sender limits nobody.
        let local: SocketAddr = if sender.is_ipv6() {
            "[::]:0".parse().map_err(io::Error::other)?
        } else {
            "0.0.0.0:0".parse().map_err(io::Error::other)?
        };
        let hello = Hello::new(
            manner.protection,
            rng.random_range(1..=u32::MAX),
            rng.random(),
        );
        let mut link = Self {
            socket: Udp::bind(local)?,
            sender,
            hears: Ears {
                opener: hello.opener(),
                flows: Vec::new(),
            },
            hello,
            next_hello: now,
        };
        link.say(now, HELLO_EVERY);
        Ok(link)
    }

    pub(super) fn socket(&mut self) -> &mut Udp {
        &mut self.socket
    }

    pub(super) const fn due(&self) -> u64 {
        self.next_hello
    }

    /// As that of a link of RTMFP.
    pub(super) fn turn(
        &mut self,
        kit: &mut Kit,
        watcher: &mut Watcher,
        counter: &mut Counter,
        mut now: u64,
    ) -> (bool, u64) {
        let mut has_more = true;
        for _ in 0..READS_PER_TURN {
            let (hears, sender) = (&mut self.hears, self.sender);
            let mut came = None;
            let received = self.socket.receive(&mut kit.inbox, |from, datagram| {
                let now = *came.get_or_insert_with(now_ns);
                if from == sender {
                    hears.take(datagram, watcher, counter, now);
                }
            });
            now = came.unwrap_or(now);
            match received {
                Ok(Received::Some) => continue,
                Ok(_) => {}
                Err(error) => watcher.end(ClientError::io(&error), now),
            }
            has_more = false;
            break;
        }
        if now >= self.next_hello {
            let has_come = watcher.phase() == Phase::Play;
            self.say(now, if has_come { ALIVE_EVERY } else { HELLO_EVERY });
        }
        (has_more, now)
    }

    pub(super) fn leave(&mut self) {
        self.hello.wish = Wish::Leave;
        self.socket.send(&self.hello.to_bytes(), self.sender);
    }

    fn say(&mut self, now: u64, again: u64) {
        self.socket.send(&self.hello.to_bytes(), self.sender);
        self.next_hello = now.saturating_add(again);
    }
}

impl Ears {
    fn take(
        &mut self,
        datagram: &mut [u8],
        watcher: &mut Watcher,
        counter: &mut Counter,
        now: u64,
    ) {
        watcher.take_bytes(datagram.len(), counter);
        let Ok(packet) = self.opener.open(datagram) else {
            return;
        };
        let Ok(packet) = Packet::read(packet) else {
            return;
        };
        if packet.header.mode != Mode::Responder {
            return;
        }
        if watcher.phase() == Phase::Connecting {
            watcher.take_connection(now);
        }
        let mut previous: Option<UserData<'_>> = None;
        for chunk in packet.chunks {
            let data = match (chunk.kind, &previous) {
                (ChunkKind::USER_DATA, _) => UserData::read(chunk.payload),
                (ChunkKind::NEXT_USER_DATA, Some(previous)) => {
                    UserData::read_next(chunk.payload, previous)
                }
                _ => continue,
            };
            let Ok(data) = data else {
                return;
            };
            self.put(&data, watcher, counter, now);
            previous = Some(data);
        }
    }

    fn put(&mut self, data: &UserData<'_>, watcher: &mut Watcher, counter: &mut Counter, now: u64) {
        let known = self.flows.iter().position(|flow| flow.flow == data.flow);
        let place = known.unwrap_or_else(|| {
            if self.flows.len() < FLOWS {
                self.flows.push(Assembly::new(data.flow));
            }
            self.flows.len() - 1
        });
        if let Some(flow) = self.flows.get_mut(place)
            && flow.put(data)
            && let Some(light) = flow.message()
        {
            watcher.take_light(light, now, counter);
        }
    }
}

impl Assembly {
    const fn new(flow: u64) -> Self {
        Self {
            flow,
            next: None,
            head: Vec::new(),
            length: 0,
        }
    }

    /// Whether a message has come to its end.
    fn put(&mut self, data: &UserData<'_>) -> bool {
        if data.part.begins() {
            self.head.clear();
            self.length = 0;
        } else if self.next != Some(data.sequence) {
            self.next = None;
            return false;
        }
        let room = (MEDIA_HEAD + HEADER).saturating_sub(self.head.len());
        let kept = data.data.get(..room).unwrap_or(data.data);
        self.head.extend_from_slice(kept);
        self.length += data.data.len();
        let is_whole = data.part.ends();
        self.next = (!is_whole).then(|| data.sequence.saturating_add(1));
        is_whole
    }

    fn message(&self) -> Option<Light<'_>> {
        let kind = *self.head.first()?;
        let head = self.head.get(HEADER..)?;
        Some(Light {
            kind: MessageType(kind),
            stream_id: STREAM_ID,
            length: u32::try_from(self.length - HEADER).unwrap_or(u32::MAX),
            head: head.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use headwater_rtmfp::wire::user_data::Part;

    use super::*;

    fn data(sequence: u64, part: Part, data: &[u8]) -> UserData<'_> {
        UserData {
            flow: 1,
            sequence,
            forward: 0,
            part,
            abandoned: false,
            last: false,
            startup: None,
            data,
        }
    }

    #[test]
    fn messages_are_put_together_and_those_with_a_hole_are_dropped() {
        let mut flow = Assembly::new(1);
        let long = vec![5; 1_000];
        assert!(!flow.put(&data(1, Part::Begin, b"\x09\0\0\0\x01ab")));
        assert!(!flow.put(&data(2, Part::Middle, &long)));
        assert!(flow.put(&data(3, Part::End, b"cd")));
        let message = flow.message().unwrap();
        assert_eq!((message.kind, message.length), (MessageType::VIDEO, 1_004));
        assert_eq!(message.head.len(), MEDIA_HEAD);
        assert!(message.head.starts_with(b"ab\x05"));
        // One piece is missing, and what follows is of no use until the next beginning.
        assert!(!flow.put(&data(4, Part::Begin, b"\x09\0\0\0\x02ab")));
        assert!(!flow.put(&data(6, Part::Middle, b"x")));
        assert!(!flow.put(&data(7, Part::End, b"x")));
        assert!(flow.put(&data(8, Part::Whole, b"\x08\0\0\0\x03s")));
        let message = flow.message().unwrap();
        assert_eq!((message.kind, message.length), (MessageType::AUDIO, 1));
    }
}
