//! Receivers of RTMFP's packets, which are encrypted for each of them: what no server that speaks RTMFP can go below.
//!
//! A receiver [asks](super::hello) once, and gets what the viewer of a server gets: packets of the same sizes, with the same chunks in
//! them, each encrypted and authenticated with keys of its own, and each flush with one call of the system, which the kernel cuts into
//! datagrams. There is no handshake, nothing is acknowledged, nothing is repeated, and no rate is kept. It begins at a key frame, without
//! the metadata and codec headers of those that came later.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

use headwater_media::frame::{FrameFlags, FrameKind};
use headwater_media::inspect::inspect;
use headwater_rtmfp::crypto::packet::Sealer;

use super::SenderReport;
use super::hello::{Hello, Wish};
use super::outlet::{Figures, Outlet};
use super::packets::{Packets, Ready};
use crate::clock::now_ns;
use crate::source::SourceFrame;
use crate::udp::{Batch, Inbox, Received, Udp};

/// Bytes that the kernel may hold in each direction.
const BUFFER: usize = 4 << 20;

/// Reads of the socket between two flushes, so that a crowd does not make the stream late.
const READS: usize = 16;

/// A receiver that has said nothing for so long is gone, in nanoseconds: it says hello every five seconds.
const SILENT: u64 = 20_000_000_000;

/// How often it is looked who has gone without a word, in nanoseconds.
const LOOK_EVERY: u64 = 1_000_000_000;

/// Ways of protecting packets that are served at once, each of which makes packets of its own sizes.
const KINDS: usize = 4;

/// Bytes by which a packet is made longer at most, so that it goes with one call together with longer ones: two blocks of the cipher.
const PADDING: usize = 32;

/// Receivers at once.
const RECEIVERS: usize = 100_000;

/// How packets are protected: bytes of the MAC, and whether there are numbers.
type Kind = (Option<u8>, bool);

/// All receivers.
#[derive(Debug)]
pub(super) struct Receivers {
    socket: Udp,
    inbox: Inbox,
    batch: Batch,
    kinds: Vec<(Kind, Packets)>,
    receivers: Vec<Receiver>,
    places: HashMap<SocketAddr, usize>,
    has_video: bool,
    /// Whether there is a key frame among what waits, or no video at all.
    is_beginning: bool,
    pending: usize,
    next_look: u64,
    figures: Figures,
}

#[derive(Debug)]
struct Receiver {
    address: SocketAddr,
    hello: Hello,
    /// Which of the kinds.
    kind: usize,
    sealer: Sealer,
    /// Whether it waits for a key frame.
    is_waiting: bool,
    heard: u64,
}

impl Receivers {
    /// Opens a port.
    pub(super) fn listen(address: SocketAddr) -> io::Result<(Box<dyn Outlet>, SocketAddr)> {
        let socket = Udp::bind(address)?;
        socket.set_receive_buffer(BUFFER);
        socket.set_send_buffer(BUFFER);
        let address = socket.address()?;
        let receivers = Self {
            batch: socket.batch(),
            socket,
            inbox: Inbox::default(),
            kinds: Vec::new(),
            receivers: Vec::new(),
            places: HashMap::new(),
            has_video: false,
            is_beginning: false,
            pending: 0,
            next_look: 0,
            figures: Figures::default(),
        };
        Ok((Box::new(receivers), address))
    }

    fn hear(&mut self, from: SocketAddr, hello: Hello, now: u64, report: &mut SenderReport) {
        let known = self.places.get(&from).copied();
        match hello.wish {
            Wish::Probe => self.socket.send(&hello.to_bytes(), from),
            Wish::Leave => {
                if let Some(place) = known {
                    self.figures.left += 1;
                    self.forget(place);
                }
            }
            Wish::Join => {
                if let Some(known) = known.and_then(|place| self.receivers.get_mut(place))
                    && known.hello == hello
                {
                    known.heard = now;
                    return;
                }
                if let Some(place) = known {
                    self.forget(place);
                }
                let kind = (hello.mac, hello.is_numbered);
                let Some(kind) = self.kind(kind, &hello.sealer()) else {
                    report.refused += 1;
                    return;
                };
                if self.receivers.len() >= RECEIVERS {
                    report.refused += 1;
                    return;
                }
                report.accepted += 1;
                self.places.insert(from, self.receivers.len());
                self.receivers.push(Receiver {
                    address: from,
                    sealer: hello.sealer(),
                    hello,
                    kind,
                    is_waiting: true,
                    heard: now,
                });
            }
        }
    }

    /// The place of what makes packets of a kind.
    fn kind(&mut self, kind: Kind, sealer: &Sealer) -> Option<usize> {
        if let Some(place) = self.kinds.iter().position(|(known, _)| *known == kind) {
            return Some(place);
        }
        if self.kinds.len() >= KINDS {
            return None;
        }
        self.kinds.push((kind, Packets::new(sealer)?));
        Some(self.kinds.len() - 1)
    }

    fn forget(&mut self, place: usize) {
        if place >= self.receivers.len() {
            return;
        }
        let gone = self.receivers.swap_remove(place);
        self.places.remove(&gone.address);
        if let Some(moved) = self.receivers.get(place) {
            self.places.insert(moved.address, place);
        }
    }

    fn forget_the_silent(&mut self, now: u64) {
        if now < self.next_look {
            return;
        }
        self.next_look = now.saturating_add(LOOK_EVERY);
        let mut place = 0;
        while let Some(receiver) = self.receivers.get(place) {
            if now.saturating_sub(receiver.heard) > SILENT {
                self.figures.cut_off += 1;
                self.forget(place);
            } else {
                place += 1;
            }
        }
    }
}

impl Receiver {
    fn send(&mut self, packets: &[Ready], socket: &Udp, batch: &mut Batch, figures: &mut Figures) {
        let mut send = |batch: &Batch| {
            figures.sends += 1;
            if socket.send_batch(batch) {
                figures.datagrams += batch.count() as u64;
                figures.bytes += batch.length() as u64;
            } else {
                figures.full += 1;
            }
        };
        batch.begin(self.address);
        let lengths = packets.iter().map(|one| self.sealer.length(one.length()));
        let longest = lengths.max().unwrap_or(0);
        for (number, packet) in packets.iter().enumerate() {
            let length = self.sealer.length(packet.length());
            let is_last = number + 1 == packets.len();
            let padding = longest - length.min(longest);
            let padding = if is_last || padding > PADDING {
                0
            } else {
                padding
            };
            if !batch.fits(length + padding) {
                send(batch);
                batch.begin(self.address);
            }
            batch.append(|out| {
                let draft = self.sealer.begin(out);
                packet.put(out);
                out.resize(out.len() + padding, 0xff);
                self.sealer.finish(draft, self.hello.session_id, out);
            });
        }
        if batch.count() > 0 {
            send(batch);
        }
    }
}

impl Outlet for Receivers {
    fn add(&mut self, frame: &SourceFrame) {
        let is_video = frame.kind == FrameKind::Video;
        self.has_video |= is_video && !frame.is_header;
        self.is_beginning |= match frame.kind {
            FrameKind::Video => inspect(frame.kind, &frame.payload)
                .flags
                .contains(FrameFlags::KEY),
            _ => !self.has_video,
        };
        self.pending += frame.payload.len();
        for (_, packets) in &mut self.kinds {
            packets.add(frame);
        }
    }

    fn has_video(&self) -> bool {
        self.has_video
    }

    fn pending(&self) -> usize {
        self.pending
    }

    fn flush(&mut self, now: u64) {
        self.pending = 0;
        for (_, packets) in &mut self.kinds {
            packets.make(now);
        }
        let is_beginning = std::mem::take(&mut self.is_beginning);
        for receiver in &mut self.receivers {
            receiver.is_waiting &= !is_beginning;
            if receiver.is_waiting {
                continue;
            }
            if let Some((_, packets)) = self.kinds.get(receiver.kind) {
                let ready = packets.ready();
                receiver.send(ready, &self.socket, &mut self.batch, &mut self.figures);
            }
        }
    }

    fn accept(&mut self, report: &mut SenderReport) {
        let now = now_ns();
        for _ in 0..READS {
            let mut hellos = Vec::new();
            let received = self.socket.receive(&mut self.inbox, |from, datagram| {
                hellos.extend(Hello::read(datagram).map(|hello| (from, hello)));
            });
            for (from, hello) in hellos {
                self.hear(from, hello, now, report);
            }
            // One that fails fails again after the next flush, and no receiver comes: that shows.
            if !matches!(received, Ok(Received::Some)) {
                break;
            }
        }
        self.forget_the_silent(now);
        report.most = report.most.max(self.receivers.len() as u64);
    }

    fn figures(&self) -> Figures {
        self.figures
    }
}
