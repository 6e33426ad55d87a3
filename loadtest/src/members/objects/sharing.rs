//! The duty of one thread: its members' views of the objects, and the slots that they write.

mod found;
mod write;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use headwater_rtmp::client::ClientEvent;
use headwater_rtmp::message::{Message, MessageType};

pub(super) use self::found::{Found, Seen};
use super::ObjectOptions;
use super::record::{RecordedObject, Recorder, put_line};
use super::view::{Sent, Slots, View, hash_of};
use super::wire::{Reader, Stamp, body, kind};
use crate::members::hall::{Duty, Hall};
use crate::members::{Progress, Stage};

/// The name that messages are sent with.
const HANDLER: &[u8] = b"stamp";

/// What all threads know.
#[derive(Debug)]
pub(super) struct Work {
    /// Names, and whether they are persistent.
    pub(super) objects: Vec<(String, bool)>,
    pub(super) recorder: Option<Recorder>,
    /// Between two changes of a thread, in nanoseconds; 0 where there is no rate.
    pub(super) change_interval: u64,
    /// Between two messages of a thread; 0 where there are none.
    pub(super) send_interval: u64,
    pub(super) options: Arc<ObjectOptions>,
    /// What a file says was confirmed.
    pub(super) expected: Option<Arc<BTreeMap<String, RecordedObject>>>,
}

/// What one member has.
#[derive(Debug, Default)]
struct User {
    views: Vec<View>,
    /// Whether it was counted as ready, or as one that is not going to be.
    is_counted: bool,
    is_lost: bool,
}

/// A slot and its writer.
#[derive(Debug)]
struct Pen {
    index: usize,
    place: usize,
    key: String,
    slot: u32,
    /// Of the last change.
    number: u64,
    /// When it was made, if it is not confirmed.
    pending: Option<u64>,
    /// Of the last change that was confirmed.
    confirmed: u64,
}

/// A writer that sends messages to the users of an object.
#[derive(Debug)]
struct Voice {
    index: usize,
    place: usize,
    number: u64,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Sharing {
    work: Arc<Work>,
    progress: Arc<Progress>,
    names: HashMap<Box<[u8]>, u32>,
    slots: Slots,
    users: Vec<User>,
    pens: Vec<Pen>,
    /// Which pen writes a slot of a member's object.
    pen_of: HashMap<(usize, u32, u32), usize>,
    voices: Vec<Voice>,
    next_pen: usize,
    next_voice: usize,
    /// When the next change and the next message are due; 0 before the first.
    next_change: u64,
    next_send: u64,
    lines: Vec<u8>,
    found: Found,
}

impl Sharing {
    pub(super) fn new(work: Arc<Work>, progress: Arc<Progress>) -> Self {
        let names = work.objects.iter().zip(0..);
        let names = names.map(|((name, _), number)| (name.as_bytes().into(), number));
        Self {
            names: names.collect(),
            work,
            progress,
            slots: Slots::default(),
            users: Vec::new(),
            pens: Vec::new(),
            pen_of: HashMap::new(),
            voices: Vec::new(),
            next_pen: 0,
            next_voice: 0,
            next_change: 0,
            next_send: 0,
            lines: Vec::new(),
            found: Found::default(),
        }
    }

    /// Has a member use its objects, and gives it its slots if it is a writer.
    fn join(&mut self, hall: &mut Hall, index: usize) {
        let Some(number) = hall.members.get(index).map(|member| member.number) else {
            return;
        };
        let options = Arc::clone(&self.work.options);
        let count = self.work.objects.len();
        let per_member = options.per_member.clamp(1, count.max(1)).min(count);
        let mut views = Vec::with_capacity(per_member);
        for step in 0..per_member {
            let object = (number * per_member + step) % count;
            let flags = self.flags(object);
            let Some((name, _)) = self.work.objects.get(object) else {
                return;
            };
            let message = body(name, 0, flags, kind::USE, |_| {});
            self.say(hall, index, message);
            let view = View {
                object: u32::try_from(object).unwrap_or(u32::MAX),
                ..View::default()
            };
            if number < options.writers {
                self.take_pens(index, step, number, view.object);
            }
            views.push(view);
        }
        while self.users.len() <= index {
            self.users.push(User::default());
        }
        if let Some(user) = self.users.get_mut(index) {
            user.views = views;
        }
        self.count_ready(index);
    }

    fn take_pens(&mut self, index: usize, place: usize, number: usize, object: u32) {
        for slot in 0..self.work.options.slots {
            let key = format!("w{number}.{slot}");
            let slot = self.slots.number(key.as_bytes());
            self.pen_of.insert((index, object, slot), self.pens.len());
            self.pens.push(Pen {
                index,
                place,
                key,
                slot,
                number: 0,
                pending: None,
                confirmed: 0,
            });
        }
        self.voices.push(Voice {
            index,
            place,
            number: 0,
        });
    }

    fn flags(&self, object: usize) -> u32 {
        let is_persistent = self.work.objects.get(object).is_some_and(|(_, kept)| *kept);
        self.work.options.dialect.flags(is_persistent)
    }

    /// Sends a message. Whether somebody is there to send it.
    fn say(&mut self, hall: &mut Hall, index: usize, message: bytes::Bytes) -> bool {
        let Some(session) = hall.speak(index) else {
            return false;
        };
        match session.shared_object(message) {
            Ok(()) => true,
            Err(error) => {
                self.found.errors.add(&error.to_string());
                false
            }
        }
    }

    /// A member that uses all of its objects is ready.
    fn count_ready(&mut self, index: usize) {
        let Some(user) = self.users.get_mut(index) else {
            return;
        };
        if !user.is_counted && user.views.iter().all(|view| view.is_using) {
            user.is_counted = true;
            self.found.used += 1;
            self.progress.ready.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn take_message(&mut self, hall: &mut Hall, index: usize, message: &Message, now: u64) {
        let mut reader = Reader(&message.payload);
        let Some(header) = reader.header(message.kind == MessageType::SHARED_OBJECT_AMF3) else {
            self.found.errors.add("a message without a name");
            return;
        };
        let object = self.names.get(header.name).copied();
        let place = self.users.get(index).and_then(|user| {
            let mut views = user.views.iter();
            views.position(|view| Some(view.object) == object)
        });
        let (Some(object), Some(place)) = (object, place) else {
            self.found.errors.add("a message of another object");
            return;
        };
        if let Some(view) = self.view(index, place) {
            view.version = header.version;
        }
        while let Some((kind, data)) = reader.event() {
            self.take_part(
                hall,
                (index, place),
                object,
                kind,
                data,
                header.version,
                now,
            );
        }
        if !reader.0.is_empty() {
            self.found.errors.add("a message that ends too early");
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what one event is about")]
    fn take_part(
        &mut self,
        hall: &mut Hall,
        (index, place): (usize, usize),
        object: u32,
        kind: u8,
        mut data: Reader<'_>,
        version: u32,
        now: u64,
    ) {
        match kind {
            kind::USE_SUCCESS => {
                if let Some(view) = self.view(index, place) {
                    view.is_using = true;
                }
                self.count_ready(index);
            }
            kind::CLEAR => {
                if let Some(view) = self.view(index, place) {
                    view.slots.clear();
                }
            }
            kind::CHANGE | kind::ECHO => {
                while let Some(name) = data.name() {
                    let slot = self.slots.number(name);
                    let before = data.0;
                    let stamp = data.string().and_then(Stamp::parse);
                    self.take_change(hall, (index, place), (object, slot), stamp, version, now);
                    if stamp.is_none() {
                        // A foreign value: where it ends is not known.
                        let number = hash_of(&before);
                        if let Some(view) = self.view(index, place) {
                            view.slots.insert(slot, number);
                        }
                        break;
                    }
                }
            }
            kind::SUCCESS => {
                while let Some(name) = data.name() {
                    let slot = self.slots.number(name);
                    self.confirm(hall, index, (object, slot), None, version, now);
                }
            }
            kind::REMOVE => {
                while let Some(name) = data.name() {
                    let slot = self.slots.number(name);
                    if let Some(view) = self.view(index, place) {
                        view.slots.remove(&slot);
                    }
                }
            }
            kind::SEND => {
                let _handler = data.string();
                if let Some(stamp) = data.string().and_then(Stamp::parse) {
                    self.take_send(hall, index, place, stamp, now);
                }
            }
            kind::STATUS => {
                let code = data.name().map(String::from_utf8_lossy).unwrap_or_default();
                self.found.statuses.add(&code);
                self.take_refusal(index, place);
            }
            _ => {}
        }
    }

    fn take_change(
        &mut self,
        hall: &mut Hall,
        (index, place): (usize, usize),
        (object, slot): (u32, u32),
        stamp: Option<Stamp>,
        version: u32,
        now: u64,
    ) {
        let Some(stamp) = stamp else {
            return;
        };
        let own = self.pen_of.get(&(index, object, slot));
        let pending = own
            .and_then(|&pen| self.pens.get(pen))
            .and_then(|pen| pen.pending);
        if own.is_some() && pending.is_some() {
            // An author may be told by a change as well, after a failover; an older one is what was there before.
            self.confirm(
                hall,
                index,
                (object, slot),
                Some(stamp.number),
                version,
                now,
            );
            return;
        }
        let is_running = own.is_none() && self.progress.stage() >= Stage::Running;
        if let Some(view) = self.view(index, place)
            && view.set(slot, stamp.number)
        {
            self.found.went_back += 1;
        }
        if is_running {
            self.found.seen_changes += 1;
            self.found.latency.record(stamp.sent, now);
        }
    }

    /// The author of a change is told that it was made; where the number is told, it has to be that of the last change.
    fn confirm(
        &mut self,
        hall: &mut Hall,
        index: usize,
        (object, slot): (u32, u32),
        number: Option<u64>,
        version: u32,
        now: u64,
    ) {
        let Some(&place) = self.pen_of.get(&(index, object, slot)) else {
            return;
        };
        let Some(pen) = self.pens.get_mut(place) else {
            return;
        };
        let Some(sent) = pen
            .pending
            .filter(|_| number.is_none_or(|number| number == pen.number))
        else {
            return;
        };
        pen.pending = None;
        pen.confirmed = pen.number;
        let (number, view) = (pen.number, pen.place);
        if self.work.recorder.is_some()
            && let Some((name, kept)) = self.work.objects.get(object as usize)
        {
            put_line(&mut self.lines, name, &pen.key, number, version, *kept);
        }
        self.found.confirmed += 1;
        self.found.confirmation.record(sent, now);
        self.progress.answered.fetch_add(1, Ordering::AcqRel);
        if let Some(view) = self.view(index, view) {
            view.set(slot, number);
        }
        if self.work.change_interval == 0 && self.progress.stage() == Stage::Running {
            self.change(hall, place, now);
        }
    }

    fn take_send(&mut self, hall: &Hall, index: usize, place: usize, stamp: Stamp, now: u64) {
        let Some(view) = self.view(index, place) else {
            return;
        };
        match view.take_send(stamp.writer, stamp.number) {
            Sent::Repeated => {
                self.found.repeated_sends += 1;
                return;
            }
            Sent::Gap => self.found.gaps += 1,
            Sent::Next => {}
        }
        self.found.seen_sends += 1;
        self.found.send_latency.record(stamp.sent, now);
        let is_own = hall.members.get(index).map(|member| member.number)
            == usize::try_from(stamp.writer).ok();
        if is_own {
            self.progress.answered.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// A status came: of the use of an object, or of the oldest change.
    fn take_refusal(&mut self, index: usize, place: usize) {
        let Some(user) = self.users.get_mut(index) else {
            return;
        };
        if user.views.get(place).is_some_and(|view| !view.is_using) {
            self.found.refused_uses += 1;
            if !std::mem::replace(&mut user.is_counted, true) {
                self.progress.ended.fetch_add(1, Ordering::AcqRel);
            }
            return;
        }
        let pens = self.pens.iter_mut();
        let pens = pens.filter(|pen| pen.index == index && pen.place == place);
        let oldest = pens
            .filter(|pen| pen.pending.is_some())
            .min_by_key(|pen| pen.pending);
        if let Some(pen) = oldest {
            pen.pending = None;
            self.found.refused += 1;
            self.progress.answered.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn view(&mut self, index: usize, place: usize) -> Option<&mut View> {
        self.users.get_mut(index)?.views.get_mut(place)
    }

    /// Writes down what was confirmed.
    fn write_lines(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        if let Some(recorder) = &self.work.recorder
            && let Err(error) = recorder.add(&self.lines)
        {
            self.found.errors.add(&format!("the record: {error}"));
        }
        self.lines.clear();
    }
}

impl Duty for Sharing {
    type Report = Found;

    fn take_connected(&mut self, hall: &mut Hall, index: usize, _: u64) {
        self.found.connected += 1;
        self.join(hall, index);
    }

    fn take_event(&mut self, hall: &mut Hall, index: usize, event: ClientEvent, now: u64) {
        if let ClientEvent::SharedObject { message } = event {
            self.take_message(hall, index, &message, now);
        }
    }

    fn take_lost(&mut self, hall: &Hall, index: usize) {
        self.found.lost += 1;
        let Some(user) = self.users.get_mut(index) else {
            return;
        };
        user.is_lost = true;
        if std::mem::replace(&mut user.is_counted, true) {
            self.progress.ready.fetch_sub(1, Ordering::AcqRel);
        }
        // What it waited for will not come.
        for pen in self.pens.iter_mut().filter(|pen| pen.index == index) {
            if pen.pending.take().is_some() {
                self.progress.answered.fetch_add(1, Ordering::AcqRel);
            }
        }
        let number = hall.members.get(index).map(|member| member.number);
        let writer = number.and_then(|number| u32::try_from(number).ok());
        for voice in self.voices.iter().filter(|voice| voice.index == index) {
            let view = user.views.get(voice.place);
            let came = view
                .zip(writer)
                .and_then(|(view, writer)| view.last_sends.get(&writer));
            let missing = voice
                .number
                .saturating_sub(came.copied().unwrap_or_default());
            self.progress.answered.fetch_add(missing, Ordering::AcqRel);
        }
    }

    fn work(&mut self, hall: &mut Hall, stage: Stage, now: u64) -> Option<u64> {
        self.write_lines();
        if stage != Stage::Running {
            return None;
        }
        let change = self.change_in_turn(hall, now);
        let send = self.send_in_turn(hall, now);
        change.into_iter().chain(send).min()
    }

    fn report(&mut self, hall: &Hall) -> Found {
        self.write_lines();
        let mut found = Found {
            endings: hall.endings.clone(),
            losses: hall.losses.clone(),
            ..self.found.clone()
        };
        for user in self.users.iter().filter(|user| !user.is_lost) {
            for view in user.views.iter().filter(|view| view.is_using) {
                found.add_view(view, &self.slots, &self.work);
            }
        }
        for pen in self.pens.iter().filter(|pen| pen.pending.is_none()) {
            let user = self.users.get(pen.index).filter(|user| !user.is_lost);
            let view = user.and_then(|user| user.views.get(pen.place));
            let held = view.and_then(|view| view.slots.get(&pen.slot)).copied();
            if view.is_some() && held.unwrap_or_default() < pen.confirmed {
                found.lost_changes += 1;
            }
        }
        found
    }
}
