//! What clients get, from the log and from the slots.
//!
//! A client that is served while its connection has room gets every change. One that had none before gets what it has missed merged: of the
//! changes between two sends only the last one of each slot, what clears everything in place of all before it. Sends, and the answers to its own requests, are all there and where they were.
//!
//! One whose next entry is not in the log any more gets, before the entries that are, each slot whose last change it has missed: marks
//! of slots are positions. A slot that was changed both before and after comes with the entries.

use bytes::Bytes;

use super::Mirror;
use crate::client::{Cursor, Dialect, Served};
use crate::log::{Answer, AnswerKind, Entry};
use crate::object::{Operation, Persistence, Refusal, SlotName, Version};
use crate::value::{Arguments, SlotValue};
use crate::wire::{Encoding, Flags, Writer};

/// Most bytes of one message, events that are larger by themselves aside. RTMP's own limit is 16 MiB.
const MESSAGE_BYTES: usize = 1 << 20;

/// Forms of the same that are kept for other clients: four dialects and encodings of some distances to the head of the log.
const CACHED: usize = 32;

/// Messages that were made since the last entry.
#[derive(Debug, Default)]
pub(super) struct Cache(Vec<(Key, Served)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    from: From,
    is_merged: bool,
    dialect: Dialect,
    encoding: Encoding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    /// What stands in the log from there on, for clients that none of it is an answer to.
    Position(u64),
    /// The answer to a first Use.
    Nothing,
}

impl Cache {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    fn find(&self, key: Key) -> Option<Served> {
        let (_, served) = self.0.iter().find(|(held, _)| *held == key)?;
        Some(served.clone())
    }

    fn keep(&mut self, key: Key, served: &Served) {
        if self.0.len() < CACHED {
            self.0.push((key, served.clone()));
        }
    }
}

/// What becomes an event.
#[derive(Clone, Copy)]
struct Out<'a> {
    what: What<'a>,
    /// Answers the client's own request: is never merged.
    own: bool,
}

#[derive(Clone, Copy)]
enum What<'a> {
    UseSuccess,
    Change(&'a SlotName, &'a SlotValue),
    Echo(&'a SlotName, &'a SlotValue),
    Success(&'a SlotName),
    Remove(&'a SlotName),
    Clear,
    Send(&'a Arguments),
    Status(&'a Refusal),
}

impl<'a> Out<'a> {
    fn own(what: What<'a>) -> Self {
        Self { what, own: true }
    }

    fn others(what: What<'a>) -> Self {
        Self { what, own: false }
    }
}

impl Mirror {
    /// Whether there is an entry that a client has not passed. Cheap; it may turn out to be nothing for that client.
    pub fn is_behind(&self, cursor: &Cursor) -> bool {
        cursor.position < self.log.head()
    }

    /// What a client has not got yet, every change of it. When to call: after anything that this mirror was told, for each client whose
    /// connection has room.
    pub fn serve_each(&mut self, cursor: &mut Cursor) -> Served {
        self.serve_as(cursor, false)
    }

    /// As [`Self::serve_each`], for a client that had no room before: changes between two sends are merged.
    pub fn serve(&mut self, cursor: &mut Cursor) -> Served {
        self.serve_as(cursor, true)
    }

    fn serve_as(&mut self, cursor: &mut Cursor, is_merged: bool) -> Served {
        let from = cursor.position;
        let head = self.log.head();
        if from >= head {
            return Served::Nothing;
        }
        let fell_out = from < self.log.first();
        let client = cursor.client;
        let answers = self
            .log
            .since(from)
            .filter(|(_, entry)| entry.answer_to(client).is_some())
            .count();
        if fell_out && (self.log.has_lost_since(from) || self.has_lost_answer(cursor, answers)) {
            return Served::Lost;
        }
        cursor.position = head;
        cursor.owed = cursor.owed.saturating_sub(answers as u32);
        let is_merged = is_merged || fell_out;
        let key = Key {
            from: From::Position(from),
            is_merged,
            dialect: cursor.dialect,
            encoding: cursor.encoding,
        };
        if answers == 0
            && let Some(served) = self.cache.find(key)
        {
            return served;
        }
        let mut out = Vec::new();
        if fell_out {
            self.catch_up(from, &mut out);
        }
        for (position, entry) in self.log.since(from) {
            self.tell(position, entry, cursor, fell_out, &mut out);
        }
        if is_merged {
            merge(&mut out);
        }
        let served = self.written(cursor, &out);
        if answers == 0 {
            self.cache.keep(key, &served);
        }
        served
    }

    /// Whether an answer that a client has not got has left the log. `answers`: those that are there.
    fn has_lost_answer(&self, cursor: &Cursor, answers: usize) -> bool {
        let waiting = self
            .unanswered()
            .filter(|request| request.client == cursor.client)
            .count();
        cursor.owed as usize > waiting + answers
    }

    /// What has left the log, as far as it is still so before the first entry that is there.
    fn catch_up<'a>(&'a self, from: u64, out: &mut Vec<Out<'a>>) {
        let first = self.log.first();
        let whole = from <= self.content.forgotten_mark;
        let missed = if whole { 0..first } else { from..first };
        if whole {
            out.push(Out::others(What::Clear));
        }
        for (name, held) in self.content.slots() {
            if missed.contains(&held.mark) {
                out.push(Out::others(What::Change(name, &held.value)));
            }
        }
        if !whole {
            for (name, gone) in self.content.removals() {
                if missed.contains(&gone.mark) {
                    out.push(Out::others(What::Remove(name)));
                }
            }
        }
    }

    /// What an entry is for a client. `restate`: its copy may differ in anything.
    fn tell<'a>(
        &'a self,
        position: u64,
        entry: &'a Entry,
        cursor: &Cursor,
        restate: bool,
        out: &mut Vec<Out<'a>>,
    ) {
        match entry.answer_to(cursor.client) {
            None => {
                let operations = entry.operations.iter();
                out.extend(operations.map(|operation| Out::others(told(operation))));
            }
            Some(answer) => self.answer(position, answer, cursor.dialect, restate, out),
        }
    }

    fn answer<'a>(
        &'a self,
        position: u64,
        answer: &'a Answer,
        dialect: Dialect,
        restate: bool,
        out: &mut Vec<Out<'a>>,
    ) {
        let standing = match &answer.kind {
            AnswerKind::Confirmed {
                requested,
                restated,
            } => {
                let is_restated = |name: &str| restate || restated.has(name);
                confirm(requested, is_restated, dialect, out);
                return;
            }
            AnswerKind::Late {
                requested,
                standing,
            } => {
                confirm(requested, |_| false, dialect, out);
                standing
            }
            AnswerKind::Refused { refusal, standing } => {
                out.push(Out::own(What::Status(refusal)));
                standing
            }
        };
        for (name, value) in &standing.slots {
            out.push(Out::own(match value {
                Some(value) => What::Change(name, value),
                None => What::Remove(name),
            }));
        }
        if standing.all {
            // What was changed later comes with the entries that follow.
            for (name, held) in self.content.slots() {
                if held.mark < position {
                    out.push(Out::own(What::Change(name, &held.value)));
                }
            }
        }
    }

    /// The answer to a Use of a client that has this version; [`Version::NONE`]: nothing.
    pub(super) fn welcome(&mut self, cursor: &Cursor, since: Version) -> Vec<Bytes> {
        let whole = since == Version::NONE;
        let key = Key {
            from: From::Nothing,
            is_merged: false,
            dialect: cursor.dialect,
            encoding: cursor.encoding,
        };
        let cached = self.cache.find(key).filter(|_| whole);
        let served = cached.unwrap_or_else(|| {
            let mut out = vec![Out {
                what: What::UseSuccess,
                own: true,
            }];
            if whole {
                out.push(Out::others(What::Clear));
            }
            for (name, held) in self.content.slots() {
                if whole || held.version > since {
                    out.push(Out::others(What::Change(name, &held.value)));
                }
            }
            if !whole {
                for (name, gone) in self.content.removals() {
                    if gone.version > since {
                        out.push(Out::others(What::Remove(name)));
                    }
                }
            }
            let served = self.written(cursor, &out);
            if whole {
                self.cache.keep(key, &served);
            }
            served
        });
        match served {
            Served::One(message) => vec![message],
            Served::Several(messages) => messages,
            Served::Nothing | Served::Lost => Vec::new(),
        }
    }

    /// Messages with these events. All but the last say version 0: a client that got only those has no version to come back with.
    fn written(&self, cursor: &Cursor, out: &[Out<'_>]) -> Served {
        let flags = self.flags(cursor.dialect, out);
        let version = self.version.low();
        let writer = |version| Writer::new(cursor.encoding, &self.name, version, flags);
        let mut messages: Vec<Bytes> = Vec::new();
        let mut rest = out;
        loop {
            let (count, is_last) = fitting(rest);
            let (now, later) = rest.split_at(count);
            let mut message = writer(if is_last { version } else { 0 });
            for event in now {
                write(&mut message, event.what);
            }
            if !message.is_empty() {
                messages.push(message.finish());
            }
            if is_last {
                break;
            }
            rest = later;
        }
        match messages.len() {
            0 => Served::Nothing,
            1 => messages.pop().map_or(Served::Nothing, Served::One),
            _ => Served::Several(messages),
        }
    }

    fn flags(&self, dialect: Dialect, out: &[Out<'_>]) -> Flags {
        match dialect {
            Dialect::Player => match self.persistence {
                Persistence::Temporary => Flags(0),
                Persistence::Persistent => Flags(Flags::PERSISTENT),
            },
            Dialect::Proxy => {
                let own = out.iter().any(|event| event.own);
                let others = out.iter().any(|event| !event.own);
                let bit = |set: bool, bit: u32| if set { bit } else { 0 };
                Flags(bit(own, Flags::PROXY) | bit(others, Flags::OTHERS))
            }
        }
    }
}

/// A request that was done, operation by operation.
fn confirm<'a>(
    requested: &'a [Operation],
    is_restated: impl Fn(&str) -> bool,
    dialect: Dialect,
    out: &mut Vec<Out<'a>>,
) {
    for operation in requested {
        match (operation, dialect) {
            (Operation::Set { name, value }, Dialect::Proxy) => {
                out.push(Out::own(What::Echo(name, value)));
            }
            (Operation::Set { name, value }, Dialect::Player) => {
                out.push(Out::own(What::Success(name)));
                if is_restated(name) {
                    out.push(Out::others(What::Change(name, value)));
                }
            }
            (Operation::Remove { .. } | Operation::Clear, _) => {
                out.push(Out::own(told(operation)));
            }
            (Operation::Send { .. }, _) => out.push(Out::others(told(operation))),
        }
    }
}

fn told(operation: &Operation) -> What<'_> {
    match operation {
        Operation::Set { name, value } => What::Change(name, value),
        Operation::Remove { name } => What::Remove(name),
        Operation::Clear => What::Clear,
        Operation::Send { arguments } => What::Send(arguments),
    }
}

/// How many of the events go into the next message, and whether that is all.
fn fitting(out: &[Out<'_>]) -> (usize, bool) {
    let mut bytes = 0;
    for (count, event) in out.iter().enumerate() {
        let size = match event.what {
            What::Change(name, value) | What::Echo(name, value) => {
                name.len() + value.as_bytes().len()
            }
            What::Success(name) | What::Remove(name) => name.len(),
            What::Send(arguments) => arguments.as_bytes().len(),
            What::UseSuccess | What::Clear | What::Status(_) => 0,
        };
        bytes += size + crate::wire::EVENT_BYTES;
        if count > 0 && bytes > MESSAGE_BYTES {
            return (count, false);
        }
    }
    (out.len(), true)
}

fn write(message: &mut Writer, what: What<'_>) {
    match what {
        What::UseSuccess => message.use_success(),
        What::Change(name, value) => message.change(name, value),
        What::Echo(name, value) => message.echo(name, value),
        What::Success(name) => message.success(name),
        What::Remove(name) => message.remove(name),
        What::Clear => message.clear(),
        What::Send(arguments) => message.send(arguments),
        What::Status(refusal) => message.status(refusal.code(), "error"),
    }
}

/// Leaves out what is overtaken before the next send.
fn merge(out: &mut Vec<Out<'_>>) {
    if out.len() < 2 {
        return;
    }
    // From the end: slots whose value is settled by what comes later, up to the next send.
    let mut settled = std::collections::HashSet::new();
    let mut cleared = false;
    let mut kept: Vec<bool> = Vec::with_capacity(out.len());
    for event in out.iter().rev() {
        let overtaken = match event.what {
            What::Send(_) => {
                settled.clear();
                cleared = false;
                false
            }
            What::Change(name, _) | What::Echo(name, _) | What::Remove(name) => {
                cleared || !settled.insert(name)
            }
            What::Clear => std::mem::replace(&mut cleared, true),
            What::Success(_) | What::Status(_) | What::UseSuccess => false,
        };
        kept.push(event.own || !overtaken);
    }
    let mut kept = kept.into_iter().rev();
    out.retain(|_| kept.next().unwrap_or(true));
}
