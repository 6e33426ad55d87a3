//! A member of a group that plays one stream, from one neighbour at a time, and passes nothing on.
//!
//! It is what a publisher's end is tried with, and small: it asks for all fragments as they come, pulls those that are missing once it has
//! waited for them, begins with the oldest that there is, and is done with what does not come for as long as fragments are kept.
//!
//! ```text
//! a session with a member --> talk       poll_message --> the stream
//! the time                --> talk       poll_timeout --> when to do so
//! ```
//!
//! Bounds: 16,384 fragments and 32 MiB of them; a neighbour that says that it has more is not asked for more than that.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use headwater_rtmp::message::{Message, MessageType};

use super::message::{self, CONTROL, Fragment, MEDIA, REPORTS, Said, StreamKey, Times};
use super::publisher::Talked;
use super::{Specification, neighbour};
use crate::crypto::certificate::Fingerprint;
use crate::flow::{Event, FlowSet, Priority, ReceiveId, SendId};
use crate::session::Session;
use crate::wire::Mode;

/// Fragments that are not put together yet.
const FRAGMENTS: usize = 16_384;

/// The same in bytes.
const BYTES: usize = 32 << 20;

/// Fragments that are pulled at once.
const PULLS: usize = 512;

/// How long a fragment may take after it was pulled.
const PULL_AGAIN: Duration = Duration::from_secs(1);

/// One that came.
#[derive(Debug)]
struct Came {
    left: u8,
    head: Option<(MessageType, u32)>,
    data: Bytes,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Viewer {
    specification: Specification,
    /// What is played.
    name: String,
    times: Times,
    /// Whether the neighbour has shown to be a member.
    is_member: bool,
    reports_in: Option<ReceiveId>,
    reports_out: Option<SendId>,
    is_asked: bool,
    control_in: Option<ReceiveId>,
    control_out: Option<SendId>,
    key: Option<StreamKey>,
    came: BTreeMap<u64, Came>,
    bytes: usize,
    /// The next fragment to be put together; 0 before any is known.
    next: u64,
    /// Since when it is waited for.
    since: Duration,
    newest: u64,
    pulled: Duration,
    last: Option<u64>,
    ready: VecDeque<Message>,
}

impl Viewer {
    /// One that plays the stream of this name.
    #[must_use]
    pub fn new(specification: Specification, name: String) -> Self {
        Self {
            specification,
            name,
            times: Times::default(),
            is_member: false,
            reports_in: None,
            reports_out: None,
            is_asked: false,
            control_in: None,
            control_out: None,
            key: None,
            came: BTreeMap::new(),
            bytes: 0,
            next: 0,
            since: Duration::ZERO,
            newest: 0,
            pulled: Duration::ZERO,
            last: None,
            ready: VecDeque::new(),
        }
    }

    /// The next message of the stream.
    #[must_use]
    pub fn poll_message(&mut self) -> Option<Message> {
        self.ready.pop_front()
    }

    /// Whether the stream is over and all of it was put together.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.last.is_some_and(|last| self.next > last)
    }

    /// When it is to talk again, whatever comes.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        (self.newest >= self.next && self.next > 0).then(|| self.pulled + PULL_AGAIN)
    }

    /// Takes what came in the flows of the session with its neighbour, and says in them what is to be said.
    pub fn talk(&mut self, now: Duration, session: &mut Session) -> Talked {
        let peer = session.fingerprint();
        let (near, far) = session.nonces();
        let (near, proof) = (*near, self.specification.proof(far));
        if session.mode() == Mode::Initiator && self.reports_out.is_none() {
            self.connect(now, session.flows(), &proof, &peer);
        }
        let (own, seen) = (session.near(), session.address());
        let flows = session.flows();
        while let Some(event) = flows.poll_event() {
            match event {
                Event::Opened { flow, metadata, .. } => match &metadata[..] {
                    REPORTS => self.reports_in = Some(flow),
                    CONTROL | MEDIA => {}
                    _ => flows.reject(flow, 0),
                },
                Event::Message { flow, payload } => match Said::read(&payload) {
                    Ok(Said::Connect {
                        group,
                        proof: shown,
                        to,
                    }) => {
                        if group != self.specification.id()
                            || to != own
                            || !self.specification.verifies(&near, &shown)
                        {
                            return Talked::Over;
                        }
                        self.is_member = true;
                        if self.reports_out.is_none() {
                            self.connect(now, flows, &proof, &peer);
                        }
                    }
                    Ok(said) if self.is_member => {
                        if matches!(said, Said::Begin | Said::Report) {
                            let answers = std::mem::take(&mut self.is_asked);
                            if !answers {
                                let report = message::report(seen, &[], &[]);
                                neighbour::send(now, flows, self.reports_out, report);
                            }
                            self.is_asked = said == Said::Begin;
                        } else {
                            self.said(now, flows, flow, said);
                        }
                    }
                    _ => flows.reject(flow, 0),
                },
                Event::Rejected { flow, .. } if self.reports_out == Some(flow) => {
                    return Talked::Over;
                }
                Event::Finished { flow } if self.reports_in == Some(flow) => return Talked::Over,
                _ => {}
            }
        }
        self.put_together(now);
        self.pull(now, flows);
        Talked::On
    }

    fn connect(&mut self, now: Duration, flows: &mut FlowSet, proof: &[u8; 32], to: &Fingerprint) {
        self.reports_out = neighbour::open(flows, REPORTS, None, Priority::CONTROL);
        for message in [
            message::connect(&self.specification.id(), proof, to),
            message::nothing(),
            message::begin(),
        ] {
            neighbour::send(now, flows, self.reports_out, message);
        }
    }

    fn said(&mut self, now: Duration, flows: &mut FlowSet, flow: ReceiveId, said: Said<'_>) {
        match said {
            Said::Stream { name, key } if self.key.is_none() && name == self.name.as_bytes() => {
                self.key = Some(key);
                self.control_in = Some(flow);
                let control = neighbour::open(flows, CONTROL, self.reports_in, Priority::CONTROL);
                self.control_out = control;
                let stream = message::stream(&self.name, &key, &self.times);
                neighbour::send(now, flows, control, stream);
                neighbour::send(now, flows, control, message::push(0xff));
            }
            Said::Stream { .. } => flows.reject(flow, 0),
            Said::Map { newest, bits } if self.control_in == Some(flow) => {
                self.newest = self.newest.max(newest);
                if self.next == 0 {
                    let before =
                        u64::from(bits.iter().map(|byte| byte.trailing_ones()).sum::<u32>());
                    self.next = newest.saturating_sub(before).max(1);
                    self.since = now;
                }
            }
            Said::End { last } if self.control_in == Some(flow) => self.last = Some(last),
            Said::Fragment(fragment) => self.take(fragment),
            _ => {}
        }
    }

    fn take(&mut self, fragment: Fragment<'_>) {
        let Fragment {
            number,
            left,
            head,
            data,
        } = fragment;
        let is_wanted = number >= self.next && self.next > 0;
        let has_room = self.came.len() < FRAGMENTS && self.bytes + data.len() <= BYTES;
        if is_wanted && has_room && !self.came.contains_key(&number) {
            self.newest = self.newest.max(number);
            self.bytes += data.len();
            let data = Bytes::copy_from_slice(data);
            self.came.insert(number, Came { left, head, data });
        }
    }

    /// Whole messages from `next` on.
    fn put_together(&mut self, now: Duration) {
        while self.next > 0 && self.next <= self.newest {
            let first = self.came.get(&self.next);
            let head = first.and_then(|first| Some((first.head?, first.left)));
            let whole = match (first, head) {
                // The rest of a message whose beginning is gone.
                (Some(_), None) => Some((None, 1)),
                (Some(_), Some((head, left))) => {
                    let count = u64::from(left) + 1;
                    let all = self.came.range(self.next..self.next + count).count();
                    (all as u64 == count).then_some((Some(head), count))
                }
                (None, _) => None,
            };
            let Some((head, count)) = whole else {
                if now < self.since + self.times.window {
                    return;
                }
                // It will not come.
                self.forget(1);
                self.since = now;
                continue;
            };
            let data = self.forget(count);
            self.since = now;
            if let Some((kind, timestamp)) = head {
                self.ready.push_back(Message {
                    kind,
                    timestamp,
                    stream_id: 0,
                    payload: data.into(),
                });
            }
        }
    }

    /// Goes on behind so many fragments, and gives what was in them.
    fn forget(&mut self, count: u64) -> Vec<u8> {
        let mut data = Vec::new();
        for _ in 0..count {
            if let Some(came) = self.came.remove(&self.next) {
                self.bytes -= came.data.len();
                data.extend_from_slice(&came.data);
            }
            self.next += 1;
        }
        data
    }

    fn pull(&mut self, now: Duration, flows: &mut FlowSet) {
        if self.next == 0 || self.newest < self.next || now < self.pulled + PULL_AGAIN {
            return;
        }
        let missing = (self.next..=self.newest).take(FRAGMENTS);
        let missing = missing.filter(|number| !self.came.contains_key(number));
        self.pulled = now;
        for number in missing.take(PULLS) {
            neighbour::send(now, flows, self.control_out, message::pull(number));
        }
    }
}
