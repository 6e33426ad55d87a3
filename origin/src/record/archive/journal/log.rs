//! The thread that writes.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use headwater_media::frame::Offset;
use headwater_media::segment::{journal_closed, journal_head, journal_opened};
use tokio::sync::oneshot;

use super::super::error::ArchiveError;
use super::disk::{Disk, DiskFile};
use super::{CARRY_AFTER, Chunk, Core, State, Submission, Work, file_path};

pub(super) struct Log {
    core: Arc<Core>,
    disk: Box<dyn Disk>,
    current: Option<Current>,
    synced: Option<Instant>,
}

struct Current {
    number: u64,
    file: Box<dyn DiskFile>,
    /// Bytes of whole records.
    length: u64,
}

/// What was written and waits for the sync.
struct Written {
    slot: u64,
    chunk: Option<Chunk>,
    replace: bool,
    answer: oneshot::Sender<Result<(), ArchiveError>>,
}

impl Log {
    pub(super) fn new(core: Arc<Core>, disk: Box<dyn Disk>) -> Self {
        Self {
            core,
            disk,
            current: None,
            synced: None,
        }
    }

    pub(super) fn run(mut self) {
        while let Some(batch) = self.next_batch() {
            self.take(batch);
            self.clean();
        }
    }

    /// Waits until something is handed in, and until the last sync is long enough ago.
    fn next_batch(&self) -> Option<Vec<Submission>> {
        let mut state = self.core.state.lock();
        loop {
            if state.queue.is_empty() {
                if state.stop {
                    return None;
                }
                self.core.wake.wait(&mut state);
                continue;
            }
            let due = self.synced.map(|at| at + self.core.config.sync_every);
            match due {
                Some(due) if !state.stop && due > Instant::now() => {
                    self.core.wake.wait_until(&mut state, due);
                }
                _ => return Some(std::mem::take(&mut state.queue)),
            }
        }
    }

    fn take(&mut self, batch: Vec<Submission>) {
        let mut written = Vec::new();
        // Once for the whole batch: one sync covers it.
        let has_work = |one: &Submission| matches!(one.work, Work::Write { .. });
        let prepared = if batch.iter().any(has_work) {
            self.prepare()
        } else {
            Ok(())
        };
        for Submission { slot, work } in batch {
            match work {
                Work::Close => self.close(slot),
                Work::Write {
                    records,
                    next,
                    replace,
                    answer,
                } => match (prepared.as_ref())
                    .map_err(ArchiveError::file)
                    .and_then(|()| self.write(slot, &records, next))
                {
                    Ok(chunk) => written.push(Written {
                        slot,
                        chunk,
                        replace,
                        answer,
                    }),
                    // The other end may have gone: then nobody wants to know.
                    Err(error) => drop(answer.send(Err(error))),
                },
            }
        }
        if written.is_empty() {
            return;
        }
        let synced = match &mut self.current {
            Some(current) => (current.file.sync()).map_err(|error| ArchiveError::file(&error)),
            None => Err(given_up()),
        };
        self.synced = Some(Instant::now());
        self.core.syncs.fetch_add(1, Ordering::Relaxed);
        match synced {
            Ok(()) => self.confirm(written),
            Err(error) => {
                // What the system has of the file now is not known: it is not written to again, and everybody who has something in
                // it hands that in anew.
                self.give_up();
                for one in written {
                    let _ = one.answer.send(Err(error.clone()));
                }
            }
        }
    }

    fn confirm(&self, written: Vec<Written>) {
        let mut state = self.core.state.lock();
        for one in written {
            if let Some(slot) = state.slots.get_mut(&one.slot) {
                if one.replace {
                    slot.chunks.clear();
                    slot.must_carry = false;
                }
                slot.chunks.extend(one.chunk);
            }
            let _ = one.answer.send(Ok(()));
        }
    }

    /// Writes records, and before them that the recording is open if the file does not say so. Whole, or not at all.
    fn write(
        &mut self,
        slot: u64,
        records: &Bytes,
        next: Option<Offset>,
    ) -> Result<Option<Chunk>, ArchiveError> {
        let Some(current) = &mut self.current else {
            return Err(given_up());
        };
        let mut out = BytesMut::new();
        {
            let state = self.core.state.lock();
            let Some(slot_state) = state.slots.get(&slot) else {
                return Err(ArchiveError::Refused("the recording was closed"));
            };
            if !slot_state.named_in.contains(&current.number) {
                let recording = &slot_state.recording;
                journal_opened(slot, &recording.name, recording.generation, &mut out);
            }
        }
        let opened = out.len() as u64;
        let appended = current
            .file
            .append(&out)
            .and_then(|()| current.file.append(records));
        if let Err(error) = appended {
            // The file ends with a whole record again, or it is not written to any more.
            if current.file.truncate(current.length).is_err() {
                self.give_up();
            }
            return Err(ArchiveError::file(&error));
        }
        let chunk = next.map(|next| Chunk {
            file: current.number,
            place: current.length + opened,
            length: records.len() as u64,
            next,
        });
        let length = opened + records.len() as u64;
        current.length += length;
        self.core.bytes.fetch_add(length, Ordering::Relaxed);
        let number = current.number;
        if let Some(slot) = self.core.state.lock().slots.get_mut(&slot) {
            slot.named_in.insert(number);
        }
        Ok(chunk)
    }

    /// Sees to a file that has room.
    fn prepare(&mut self) -> io::Result<()> {
        let has_room = |current: &Current| current.length < self.core.config.file_bytes;
        if self.current.as_ref().is_some_and(has_room) {
            return Ok(());
        }
        let (number, opened) = {
            let mut state = self.core.state.lock();
            // Known from here on, so that it is removed again, and its number left out, if it does not come to anything.
            let number = state.next_file;
            state.next_file += 1;
            state.files.insert(number);
            let opened: Vec<_> = state
                .slots
                .iter()
                // What is closed here may be open under another number.
                .filter(|(_, slot)| !slot.closing)
                .map(|(id, slot)| (*id, slot.recording.clone()))
                .collect();
            (number, opened)
        };
        let path = file_path(&self.core.config.folder, number);
        let mut file = self.disk.create(&path)?;
        let mut head = BytesMut::new();
        journal_head(&mut head);
        for (id, recording) in &opened {
            journal_opened(*id, &recording.name, recording.generation, &mut head);
        }
        file.append(&head)?;
        file.sync()?;
        self.core.syncs.fetch_add(1, Ordering::Relaxed);
        let mut state = self.core.state.lock();
        for (id, _) in opened {
            if let Some(slot) = state.slots.get_mut(&id) {
                slot.named_in.insert(number);
                let is_old = |chunk: &Chunk| chunk.file.saturating_add(CARRY_AFTER) <= number;
                slot.must_carry |= slot.chunks.front().is_some_and(is_old);
            }
        }
        self.current = Some(Current {
            number,
            file,
            length: head.len() as u64,
        });
        Ok(())
    }

    /// Begins another file at the next write.
    fn give_up(&mut self) {
        let Some(current) = self.current.take() else {
            return;
        };
        tracing::warn!(file = current.number, "a journal file was given up");
        let mut state = self.core.state.lock();
        for slot in state.slots.values_mut() {
            slot.must_carry |= slot.chunks.iter().any(|chunk| chunk.file == current.number);
        }
    }

    /// A recording that was closed but whose record of it is lost is found open after a restart; whoever looks into it sees that it is
    /// complete. So this needs no sync.
    fn close(&mut self, id: u64) {
        let slot = self.core.state.lock().slots.remove(&id);
        let Some((slot, current)) = slot.zip(self.current.as_mut()) else {
            return;
        };
        if !slot.named_in.contains(&current.number) {
            return;
        }
        let mut out = BytesMut::new();
        journal_closed(id, &mut out);
        match current.file.append(&out) {
            Ok(()) => current.length += out.len() as u64,
            Err(_) => {
                if current.file.truncate(current.length).is_err() {
                    self.give_up();
                }
            }
        }
    }

    /// Removes files that nobody needs.
    fn clean(&mut self) {
        let unneeded: Vec<u64> = {
            let mut state = self.core.state.lock();
            if state.slots.is_empty() {
                self.current = None;
            }
            let current = self.current.as_ref().map(|current| current.number);
            let needed = needed_files(&state, current);
            let unneeded: Vec<u64> = state.files.difference(&needed).copied().collect();
            for slot in state.slots.values_mut() {
                slot.named_in.retain(|file| needed.contains(file));
            }
            unneeded
        };
        for number in unneeded {
            let path = file_path(&self.core.config.folder, number);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::debug!(?path, %error, "a journal file cannot be removed");
                }
                _ => {
                    self.core.state.lock().files.remove(&number);
                }
            }
        }
    }
}

/// Files with frames that are not stored, the one that is written, and the newest one that names a recording if that one does not.
fn needed_files(state: &State, current: Option<u64>) -> BTreeSet<u64> {
    let mut needed: BTreeSet<u64> = current.into_iter().collect();
    let mut named: HashMap<u64, u64> = HashMap::new();
    for (id, slot) in &state.slots {
        needed.extend(slot.chunks.iter().map(|chunk| chunk.file));
        if let Some(newest) = slot.named_in.last() {
            named.insert(*id, *newest);
        }
    }
    needed.extend(named.into_values());
    needed
}

fn given_up() -> ArchiveError {
    ArchiveError::Unavailable("a journal file was given up".into())
}
