//! One neighbour of a publisher: the flows of the session with it, and how far the two have come.
//!
//! ```text
//! session open -- connect, with a proof --> member -- its first report --> told of the stream -- asks for it --> fed
//! ```
//! Either end may say its connect first: the one that has opened the session does so at once, the other when it has seen a right one. A report
//! is answered with a report, unless it is itself an answer. A neighbour whose connect is wrong is none.
//!
//! Bounds: [`FLOWS`] flows of it that are known; messages of each kind that make this end send something are counted against
//! [`PER_SECOND`], and what waits to be sent to it against [`WAITING`]: fragments beyond are not sent, and can be pulled later.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::kept::Kept;
use super::message::{self, CONTROL, Heard, MEDIA, REPORTS, Said, StreamKey};
use super::publisher::Stream;
use crate::crypto::certificate::Fingerprint;
use crate::flow::{Body, Event, FlowSet, Opening, Outgoing, Priority, ReceiveId, SendId};

/// How long a neighbour may take to show that it is a member.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Flows of one neighbour that are known at once; more are rejected.
const FLOWS: usize = 16;

/// Messages of a neighbour that are answered in a second: at 8 Mbit/s a stream has a thousand fragments a second, all of which may be pulled.
const PER_SECOND: u32 = 2_000;

/// Bytes that may wait for a neighbour, sent or not.
const WAITING: usize = 512 * 1024;

/// How often a neighbour is told who is in the group, at least.
const REPORT_EVERY: Duration = Duration::from_secs(30);

/// How soon after a report another one is answered.
const REPORT_PAUSE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Reports,
    Control,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Neighbour {
    pub(super) peer: Fingerprint,
    pub(super) seen: SocketAddr,
    /// When it was heard of last.
    pub(super) heard: Duration,
    is_initiator: bool,
    near_nonce: [u8; 32],
    far_nonce: [u8; 32],
    /// When it is over if it has not shown to be a member.
    deadline: Option<Duration>,
    flows: BTreeMap<ReceiveId, Kind>,
    reports_in: Option<ReceiveId>,
    reports_out: Option<SendId>,
    /// A report that waits for the neighbour's.
    is_asked: bool,
    reported: Option<Duration>,
    control_out: Option<SendId>,
    /// The flow in which it has asked for the stream.
    wanted_in: Option<ReceiveId>,
    media_out: Option<SendId>,
    /// Fragments that are wanted as they come.
    mask: u8,
    /// The next fragment that was not looked at for that.
    next: u64,
    /// The newest that it was told of, and when.
    told: u64,
    mapped: Duration,
    is_told_of_end: bool,
    second: Duration,
    answered: u32,
    is_over: bool,
}

/// What its publisher is to it.
pub(super) struct Surroundings<'a> {
    pub(super) stream: &'a Stream,
    pub(super) kept: &'a Kept,
    /// Who is in the group.
    pub(super) members: &'a [Heard],
    /// The stream is over.
    pub(super) is_ended: bool,
}

impl Neighbour {
    pub(super) fn new(
        now: Duration,
        peer: Fingerprint,
        seen: SocketAddr,
        is_initiator: bool,
        nonces: (&[u8; 32], &[u8; 32]),
    ) -> Self {
        Self {
            peer,
            seen,
            heard: now,
            is_initiator,
            near_nonce: *nonces.0,
            far_nonce: *nonces.1,
            deadline: Some(now + CONNECT_WITHIN),
            flows: BTreeMap::new(),
            reports_in: None,
            reports_out: None,
            is_asked: false,
            reported: None,
            control_out: None,
            wanted_in: None,
            media_out: None,
            mask: 0,
            next: 0,
            told: 0,
            mapped: Duration::ZERO,
            is_told_of_end: false,
            second: now,
            answered: 0,
            is_over: false,
        }
    }

    /// Whether it has shown to be a member.
    pub(super) fn is_member(&self) -> bool {
        self.deadline.is_none()
    }

    /// Its place is wanted: it is over with the next talk.
    pub(super) fn give_way(&mut self, now: Duration) {
        self.is_over = true;
        self.deadline = Some(now);
    }

    /// Whether it gets the stream.
    pub(super) fn is_fed(&self) -> bool {
        self.wanted_in.is_some()
    }

    /// Whether the session with it is of no use any more.
    pub(super) fn is_over(&self, now: Duration) -> bool {
        self.is_over || self.deadline.is_some_and(|by| now >= by)
    }

    /// When something is due.
    pub(super) fn poll_timeout(&self, stream: &Stream, kept: &Kept) -> Option<Duration> {
        let report = self.reported.map(|at| at + REPORT_EVERY);
        let has_news = self.control_out.is_some() && kept.newest() > self.told;
        let map = has_news.then(|| self.mapped + stream.times.maps);
        self.deadline.into_iter().chain(report).chain(map).min()
    }

    /// Takes what came in its flows, and says what follows from it.
    pub(super) fn receive(
        &mut self,
        now: Duration,
        flows: &mut FlowSet,
        around: &Surroundings<'_>,
    ) {
        if self.is_initiator && self.reports_out.is_none() && !self.is_over {
            self.connect(now, flows, around);
        }
        while let Some(event) = flows.poll_event() {
            match event {
                Event::Opened { flow, metadata, .. } => {
                    let kind = match &metadata[..] {
                        REPORTS if self.reports_in.is_none() => Some(Kind::Reports),
                        CONTROL if self.is_member() => Some(Kind::Control),
                        _ => None,
                    };
                    match kind.filter(|_| self.flows.len() < FLOWS) {
                        Some(kind) => {
                            self.flows.insert(flow, kind);
                            if kind == Kind::Reports {
                                self.reports_in = Some(flow);
                            }
                        }
                        // Posts, and streams of others: nothing here wants them.
                        None => flows.reject(flow, 0),
                    }
                }
                Event::Message { flow, payload } => {
                    let kind = self.flows.get(&flow).copied();
                    if let Some(kind) = kind
                        && !self.said(now, flows, flow, kind, &payload, around)
                    {
                        self.forget(flows, flow);
                        flows.reject(flow, 0);
                    }
                }
                Event::Finished { flow } | Event::Broken { flow } => self.forget(flows, flow),
                Event::Rejected { flow, .. } => self.rejected(flow),
                Event::Gap { .. } | Event::Closed { .. } => {}
            }
        }
    }

    /// False: the flow is of no use.
    fn said(
        &mut self,
        now: Duration,
        flows: &mut FlowSet,
        flow: ReceiveId,
        kind: Kind,
        payload: &Bytes,
        around: &Surroundings<'_>,
    ) -> bool {
        let Ok(said) = Said::read(payload) else {
            return false;
        };
        self.heard = now;
        if now >= self.second + Duration::from_secs(1) {
            (self.second, self.answered) = (now, 0);
        }
        self.answered = self.answered.saturating_add(1);
        if self.answered > PER_SECOND {
            // Whatever it was, it can be said again.
            return true;
        }
        match (kind, said) {
            (Kind::Reports, Said::Connect { group, proof, to }) => {
                let specification = &around.stream.specification;
                let is_right = group == specification.id()
                    && to == around.stream.peer
                    && specification.verifies(&self.near_nonce, &proof);
                if !is_right {
                    self.is_over = true;
                    return false;
                }
                self.deadline = None;
                if self.reports_out.is_none() {
                    self.connect(now, flows, around);
                }
                true
            }
            (Kind::Reports, Said::Begin) if self.is_member() => {
                if self.reported.is_none() {
                    self.is_asked = true;
                    self.report(now, flows, around);
                }
                true
            }
            (Kind::Reports, Said::Report) if self.is_member() => {
                let is_answer = std::mem::take(&mut self.is_asked);
                let is_soon = |at: Duration| now < at + REPORT_PAUSE;
                if !is_answer && !self.reported.is_some_and(is_soon) {
                    self.report(now, flows, around);
                }
                self.describe(now, flows, around);
                true
            }
            (Kind::Reports, Said::Leave) => {
                self.is_over = true;
                true
            }
            (Kind::Reports, Said::Nothing | Said::Begin | Said::Report) => true,
            (Kind::Control, Said::Stream { key, .. }) => self.wants(flow, key, around),
            (Kind::Control, Said::Push(mask)) if self.wanted_in == Some(flow) => {
                if self.mask == 0 {
                    // From now on: what there is already can be pulled.
                    self.next = around.kept.newest() + 1;
                }
                self.mask = mask;
                true
            }
            (Kind::Control, Said::Pull(number)) if self.wanted_in == Some(flow) => {
                if let Some(fragment) = around.kept.get(number) {
                    self.feed(now, flows, fragment.clone());
                }
                true
            }
            (Kind::Control, Said::Map { .. } | Said::End { .. }) => true,
            _ => false,
        }
    }

    /// It describes a stream to have it. Of one that it has itself, or another of this name, nothing is wanted.
    fn wants(&mut self, flow: ReceiveId, key: StreamKey, around: &Surroundings<'_>) -> bool {
        let is_first = self.wanted_in.is_none();
        if is_first && key == around.stream.key {
            self.wanted_in = Some(flow);
        }
        is_first && key == around.stream.key
    }

    fn forget(&mut self, flows: &mut FlowSet, flow: ReceiveId) {
        self.flows.remove(&flow);
        if self.reports_in == Some(flow) {
            self.is_over = true;
        }
        if self.wanted_in == Some(flow) {
            if let Some(media) = self.media_out.take() {
                flows.abandon_all(media);
                flows.close(media);
            }
            (self.wanted_in, self.mask) = (None, 0);
        }
    }

    fn rejected(&mut self, flow: SendId) {
        if self.reports_out == Some(flow) {
            self.is_over = true;
        }
        // Not described again: it does not play this one.
        if self.media_out == Some(flow) {
            (self.media_out, self.mask) = (None, 0);
        }
    }

    fn connect(&mut self, now: Duration, flows: &mut FlowSet, around: &Surroundings<'_>) {
        let specification = &around.stream.specification;
        self.reports_out = open(flows, REPORTS, None, Priority::CONTROL);
        let proof = specification.proof(&self.far_nonce);
        for message in [
            message::connect(&specification.id(), &proof, &self.peer),
            message::nothing(),
            message::begin(),
        ] {
            self.is_over |= !send(now, flows, self.reports_out, message);
        }
    }

    fn report(&mut self, now: Duration, flows: &mut FlowSet, around: &Surroundings<'_>) {
        self.reported = Some(now);
        if flows.waiting().0 >= WAITING {
            return;
        }
        let others = around.members.iter();
        let others: Vec<Heard> = others.filter(|it| it.peer != self.peer).copied().collect();
        let report = message::report(self.seen, &around.stream.addresses, &others);
        send(now, flows, self.reports_out, report);
    }

    /// Tells it of the stream, once.
    fn describe(&mut self, now: Duration, flows: &mut FlowSet, around: &Surroundings<'_>) {
        if self.control_out.is_some() {
            return;
        }
        self.control_out = open(flows, CONTROL, self.reports_in, Priority::CONTROL);
        let Stream {
            name, key, times, ..
        } = around.stream;
        send(
            now,
            flows,
            self.control_out,
            message::stream(name, key, times),
        );
        self.map(now, flows, around.kept);
    }

    /// Tells it which fragments there are, if there are new ones.
    fn map(&mut self, now: Duration, flows: &mut FlowSet, kept: &Kept) {
        self.mapped = now;
        if let Some((oldest, newest)) = kept.range()
            && newest > self.told
            && self.control_out.is_some()
            && flows.waiting().0 < WAITING
        {
            self.told = newest;
            send(now, flows, self.control_out, message::map(oldest, newest));
        }
    }

    /// Does what is due, and sends what it wants as it comes.
    pub(super) fn send(&mut self, now: Duration, flows: &mut FlowSet, around: &Surroundings<'_>) {
        let is_due = |at: Duration| now >= at + REPORT_EVERY;
        if self.is_member() && self.reported.is_some_and(is_due) {
            self.is_asked = true;
            self.report(now, flows, around);
        }
        if let Some((oldest, newest)) = around.kept.range() {
            for number in self.next.max(oldest)..=newest {
                let bit = 1_u8 << (number % 8);
                if self.mask & bit != 0
                    && let Some(fragment) = around.kept.get(number)
                {
                    self.feed(now, flows, fragment.clone());
                }
            }
            self.next = newest + 1;
        }
        if around.is_ended && !self.is_told_of_end && self.control_out.is_some() {
            self.is_told_of_end = true;
            self.map(now, flows, around.kept);
            let end = message::end(around.kept.newest());
            send(now, flows, self.control_out, end);
        } else if now >= self.mapped + around.stream.times.maps {
            self.map(now, flows, around.kept);
        }
    }

    fn feed(&mut self, now: Duration, flows: &mut FlowSet, fragment: Bytes) {
        if flows.waiting().0 >= WAITING {
            return;
        }
        if self.media_out.is_none() {
            self.media_out = open(flows, MEDIA, self.wanted_in, Priority::VIDEO);
        }
        send(now, flows, self.media_out, fragment);
    }
}

pub(super) fn open(
    flows: &mut FlowSet,
    metadata: &[u8],
    association: Option<ReceiveId>,
    priority: Priority,
) -> Option<SendId> {
    let opening = Opening {
        metadata,
        association,
        priority,
        time_critical: false,
    };
    flows.open(&opening).ok()
}

/// False: the flow is gone, or too much waits.
pub(super) fn send(
    now: Duration,
    flows: &mut FlowSet,
    flow: Option<SendId>,
    message: Bytes,
) -> bool {
    let message = Outgoing::from(Body::from(message));
    flow.is_some_and(|flow| flows.send(now, flow, message).is_ok())
}
