//! Packets in pieces: RFC 7016 sections 2.3.1 and 3.4.
//!
//! Only packets of the handshake that cannot be shorter travel so; user data has fragments of its own. The pieces are of the packet
//! before its encryption, header and all.
//!
//! What waits for its rest is bounded in all directions: bytes and pieces of a packet, packets of a source, bytes of all sources, and
//! time. Where a bound is met the oldest goes: pieces of an honest packet arrive together, so that who waits longest has least hope.

use std::collections::BTreeMap;
use std::time::Duration;

use super::chunk::{ChunkKind, Payload, append};
use super::field::{Fields, Malformed, put_variable, variable_length};
use super::packet::{Header, Mode};

/// Set in the first byte of all pieces but the last.
const MORE: u8 = 0x80;

/// How long a packet may wait for its next piece: section 3.4 asks for one new piece a second.
const PROGRESS: Duration = Duration::from_secs(1);

/// How long a packet may take as a whole (section 3.4).
const TOTAL: Duration = Duration::from_secs(60);

/// What a piece costs apart from its bytes, in bytes: so that empty-handed ones count.
const OVERHEAD: usize = 64;

/// A piece of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// Whether others follow it.
    pub more: bool,
    /// Which packet it is of; each sender counts for itself.
    pub packet: u64,
    /// Which piece it is, from 0.
    pub number: u64,
    /// Its bytes, at least one.
    pub data: &'a [u8],
}

impl<'a> Fragment<'a> {
    /// Reads one.
    ///
    /// # Errors
    /// [`Malformed`] where the bytes end before it, or it has none.
    pub fn read(payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new(payload);
        let fragment = Self {
            more: fields.u8()? & MORE != 0,
            packet: fields.variable()?,
            number: fields.variable()?,
            data: fields.rest(),
        };
        if fragment.data.is_empty() {
            return Err(fields.malformed("an empty fragment"));
        }
        Ok(fragment)
    }
}

impl Payload for Fragment<'_> {
    const KIND: ChunkKind = ChunkKind::FRAGMENT;

    fn put(&self, out: &mut Vec<u8>) {
        out.push(if self.more { MORE } else { 0 });
        put_variable(self.packet, out);
        put_variable(self.number, out);
        out.extend_from_slice(self.data);
    }
}

/// Cuts a packet into packets of at most `limit` bytes, none of which is smaller than it has to be. One that fits stays as it is.
#[must_use]
pub fn split(packet: &[u8], mode: Mode, id: u64, limit: usize) -> Vec<Vec<u8>> {
    if packet.len() <= limit {
        return vec![packet.to_vec()];
    }
    // Flags, the header of the chunk, more or not, the two numbers: the piece's own takes two bytes up to 16383.
    let overhead = 1 + 3 + 1 + variable_length(id) + 2;
    let room = limit.saturating_sub(overhead).clamp(1, 60_000);
    let last = packet.len().div_ceil(room) - 1;
    let piece = |(number, data): (usize, &[u8])| {
        let mut out = Vec::with_capacity(limit);
        Header::new(mode).put(&mut out);
        let fragment = Fragment {
            more: number < last,
            packet: id,
            number: number as u64,
            data,
        };
        // It is shorter than a chunk may be, by the clamp above.
        let _ = append(&fragment, &mut out);
        out
    };
    packet.chunks(room).enumerate().map(piece).collect()
}

/// What may wait for its rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one packet. The specification allows up to 65536; a handshake with the longest keys and certificates that peers have
    /// needs some four thousand.
    pub packet: usize,
    /// Pieces of one packet.
    pub pieces: usize,
    /// Packets of one source.
    pub packets: usize,
    /// Bytes of everything.
    pub total: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            packet: 8_192,
            pieces: 32,
            packets: 4,
            total: 1 << 20,
        }
    }
}

/// Puts packets together. `K` tells sources apart: an address, or nothing within a session.
#[derive(Debug)]
pub struct Reassembly<K> {
    limits: Limits,
    partial: BTreeMap<(K, u64), Partial>,
    /// The keys of `partial`, oldest first.
    order: BTreeMap<u64, (K, u64)>,
    next: u64,
    held: usize,
    swept: Duration,
}

#[derive(Debug)]
struct Partial {
    serial: u64,
    mode: Mode,
    pieces: BTreeMap<u64, Vec<u8>>,
    length: usize,
    last: Option<u64>,
    started: Duration,
    progressed: Duration,
}

impl Partial {
    fn cost(&self) -> usize {
        self.length + OVERHEAD * (1 + self.pieces.len())
    }

    fn is_over(&self, now: Duration) -> bool {
        now.saturating_sub(self.progressed) > PROGRESS || now.saturating_sub(self.started) > TOTAL
    }

    /// Whether it can have such a piece, and has not.
    fn wants(&self, fragment: &Fragment<'_>) -> bool {
        let highest = self.pieces.last_key_value().map(|(number, _)| *number);
        let fits = match self.last {
            Some(last) => fragment.more && fragment.number < last,
            None => fragment.more || highest.is_none_or(|highest| highest < fragment.number),
        };
        fits && !self.pieces.contains_key(&fragment.number)
    }

    fn is_complete(&self) -> bool {
        self.last
            .is_some_and(|last| self.pieces.len() as u64 == last + 1)
    }
}

impl<K: Ord + Clone> Reassembly<K> {
    /// Nothing yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            partial: BTreeMap::new(),
            order: BTreeMap::new(),
            next: 0,
            held: 0,
            swept: Duration::ZERO,
        }
    }

    /// Takes a piece that came in a packet of `mode`, and gives the packet that it completes. A piece that contradicts what is there, or
    /// is beyond a limit, is dropped.
    pub fn handle(
        &mut self,
        now: Duration,
        source: K,
        mode: Mode,
        fragment: &Fragment<'_>,
    ) -> Option<Vec<u8>> {
        self.handle_timeout(now);
        if fragment.number >= self.limits.pieces as u64 {
            return None;
        }
        let key = (source, fragment.packet);
        if !self.partial.contains_key(&key) {
            self.begin(now, &key, mode);
        }
        let limit = self.limits.packet;
        let partial = self.partial.get_mut(&key)?;
        if partial.mode != mode || !partial.wants(fragment) {
            return None;
        }
        if partial.length + fragment.data.len() > limit {
            self.remove(&key);
            return None;
        }
        let before = partial.cost();
        partial
            .pieces
            .insert(fragment.number, fragment.data.to_vec());
        partial.length += fragment.data.len();
        partial.progressed = now;
        if !fragment.more {
            partial.last = Some(fragment.number);
        }
        let complete = partial.is_complete();
        self.held += partial.cost() - before;
        if complete {
            let partial = self.remove(&key)?;
            let packet: Vec<u8> = partial.pieces.into_values().flatten().collect();
            let header = Header::read(&mut Fields::new(&packet)).ok()?;
            return (header.mode == mode).then_some(packet);
        }
        while self.held > self.limits.total {
            let (_, oldest) = self.order.first_key_value()?;
            let oldest = oldest.clone();
            self.remove(&oldest);
        }
        None
    }

    fn begin(&mut self, now: Duration, key: &(K, u64), mode: Mode) {
        let source = (key.0.clone(), 0)..=(key.0.clone(), u64::MAX);
        let of_source = self.partial.range(source);
        if of_source.clone().count() >= self.limits.packets {
            let oldest = of_source.min_by_key(|(_, partial)| partial.serial);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.remove(&oldest);
            }
        }
        let partial = Partial {
            serial: self.next,
            mode,
            pieces: BTreeMap::new(),
            length: 0,
            last: None,
            started: now,
            progressed: now,
        };
        self.held += partial.cost();
        self.order.insert(self.next, key.clone());
        self.next += 1;
        self.partial.insert(key.clone(), partial);
    }

    fn remove(&mut self, key: &(K, u64)) -> Option<Partial> {
        let partial = self.partial.remove(key)?;
        self.order.remove(&partial.serial);
        self.held = self.held.saturating_sub(partial.cost());
        Some(partial)
    }

    /// When something may be due to be forgotten: call [`handle_timeout`](Self::handle_timeout) then.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        (!self.partial.is_empty()).then(|| self.swept + PROGRESS)
    }

    /// Forgets what waits for too long; at most once a second it looks.
    pub fn handle_timeout(&mut self, now: Duration) {
        if now < self.swept + PROGRESS {
            return;
        }
        self.swept = now;
        let over =
            |(key, partial): (&(K, u64), &Partial)| partial.is_over(now).then(|| key.clone());
        let over: Vec<_> = self.partial.iter().filter_map(over).collect();
        for key in over {
            self.remove(&key);
        }
    }

    /// What is held, in bytes.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// Packets that wait for their rest.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.partial.len()
    }
}

#[cfg(test)]
mod tests;
