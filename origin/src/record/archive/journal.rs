//! The journal: frames on the local disk until they are in a segment, of all recordings of the process.
//!
//! One file takes the frames of all recordings, so that any number of them costs one `fdatasync` every
//! [`JournalConfig::sync_every`]: one thread writes what has been handed in since, syncs, and answers. Files are cut at
//! [`JournalConfig::file_bytes`]; one that holds nothing which is needed any more is removed.
//!
//! # Invariants
//! - What was answered with success is found again after the process was killed or the machine lost power.
//! - The newest file names every recording that is open, so that older ones may go as soon as their frames are stored.
//! - Frames may be there more than once, and older ones behind younger ones: offsets tell.
//! - What one recording cannot store does not keep the files of others for ever: it is asked to hand in again what it still needs
//!   ([`Slot::must_carry`]), once it holds a file back that is [`CARRY_AFTER`] files old.
//!
//! # What it does not do
//! It keeps no frames in memory but those on their way to the disk; a recording hands in one batch at a time.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use headwater_media::frame::{Frame, Offset};
use headwater_media::name::StreamName;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

mod disk;
mod log;
mod replay;

#[cfg(test)]
pub(super) use disk::DiskFile;
pub(super) use disk::{Disk, LocalDisk};

use super::error::ArchiveError;
use log::Log;

/// How many files a recording may hold back before it has to carry its frames over to the newest.
const CARRY_AFTER: u64 = 3;

/// How the journal works.
#[derive(Clone, Debug)]
pub(super) struct JournalConfig {
    /// Its files.
    pub(super) folder: PathBuf,
    /// The least time from one sync to the next.
    pub(super) sync_every: Duration,
    /// Bytes after which the next file is begun.
    pub(super) file_bytes: u64,
}

/// A recording that was open when a process ended, or whose writer was dropped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LeftOpen {
    /// The stream.
    pub(crate) name: StreamName,
    /// Which of its recordings.
    pub(crate) generation: u64,
}

/// What the journal has done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct JournalUsage {
    /// Syncs of its files.
    pub(crate) syncs: u64,
    /// Bytes written.
    pub(crate) bytes: u64,
}

/// The journal of a process. Dropping it ends its thread, after what was handed in.
#[derive(Debug)]
pub(super) struct Journal {
    core: Arc<Core>,
    #[cfg_attr(not(test), expect(dead_code, reason = "it ends by itself"))]
    thread: thread::JoinHandle<()>,
}

#[derive(Debug)]
struct Core {
    config: JournalConfig,
    state: Mutex<State>,
    wake: Condvar,
    syncs: AtomicU64,
    bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    slots: HashMap<u64, SlotState>,
    next_slot: u64,
    /// At most one submission of each slot, and closings.
    queue: Vec<Submission>,
    /// Every file of ours that is there.
    files: BTreeSet<u64>,
    /// Number of the file that comes next.
    next_file: u64,
    stop: bool,
}

#[derive(Debug)]
struct SlotState {
    recording: LeftOpen,
    /// Somebody writes it.
    live: bool,
    /// It is about to be gone: not found any more.
    closing: bool,
    /// Where its frames are, in the order in which they were written.
    chunks: VecDeque<Chunk>,
    /// Files that name it.
    named_in: BTreeSet<u64>,
    must_carry: bool,
}

/// Records of one recording that stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Chunk {
    file: u64,
    place: u64,
    length: u64,
    /// After its last frame.
    next: Offset,
}

#[derive(Debug)]
struct Submission {
    slot: u64,
    work: Work,
}

#[derive(Debug)]
enum Work {
    /// Records to write; without any, only that the recording is open.
    Write {
        records: Bytes,
        /// After the last frame in the records.
        next: Option<Offset>,
        /// Nothing that was written of the recording before is needed any more.
        replace: bool,
        answer: oneshot::Sender<Result<(), ArchiveError>>,
    },
    /// Nothing of the recording is needed any more.
    Close,
}

impl Journal {
    /// Reads what is in the folder, which is made if it is missing, and starts the thread. Blocks: it reads all of what recordings
    /// that were open had not stored.
    pub(super) fn start(config: JournalConfig, disk: Box<dyn Disk>) -> io::Result<Self> {
        std::fs::create_dir_all(&config.folder)?;
        let state = replay::replay(&config.folder)?;
        let core = Arc::new(Core {
            config,
            state: Mutex::new(state),
            wake: Condvar::new(),
            syncs: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        });
        let log = Log::new(core.clone(), disk);
        let thread = thread::Builder::new()
            .name("journal".into())
            .spawn(move || log.run())?;
        Ok(Self { core, thread })
    }

    /// Recordings that nobody writes now.
    pub(super) fn left_open(&self) -> Vec<LeftOpen> {
        let state = self.core.state.lock();
        let mut left: Vec<LeftOpen> = state
            .slots
            .values()
            .filter(|slot| !slot.live && !slot.closing)
            .map(|slot| slot.recording.clone())
            .collect();
        left.sort();
        left
    }

    /// The place of a recording, with what is there of it already. `None` if somebody has it.
    pub(super) fn open(&self, recording: LeftOpen) -> Option<Slot> {
        let mut state = self.core.state.lock();
        let known = state
            .slots
            .iter_mut()
            .find(|(_, slot)| slot.recording == recording && !slot.closing);
        let id = match known {
            Some((_, slot)) if slot.live => return None,
            Some((id, slot)) => {
                slot.live = true;
                *id
            }
            None => {
                let id = state.next_slot;
                state.next_slot += 1;
                state.slots.insert(id, SlotState::new(recording, true));
                id
            }
        };
        Some(Slot {
            core: self.core.clone(),
            id,
            is_open: true,
        })
    }

    /// Lets go of a recording that nobody writes.
    pub(super) fn forget(&self, recording: &LeftOpen) {
        let mut state = self.core.state.lock();
        let left = state
            .slots
            .iter()
            .find(|(_, slot)| slot.recording == *recording && !slot.live && !slot.closing);
        if let Some(id) = left.map(|(id, _)| *id) {
            state.close(id);
            self.core.wake.notify_all();
        }
    }

    pub(super) fn usage(&self) -> JournalUsage {
        JournalUsage {
            syncs: self.core.syncs.load(Ordering::Relaxed),
            bytes: self.core.bytes.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
impl Journal {
    /// Ends the thread at once, as the end of the process does. Waits for it.
    pub(super) fn kill(&self) {
        {
            let mut state = self.core.state.lock();
            state.queue.clear();
            state.stop = true;
        }
        self.core.wake.notify_all();
        while !self.thread.is_finished() {
            thread::yield_now();
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.core.state.lock().stop = true;
        self.core.wake.notify_all();
    }
}

impl State {
    fn close(&mut self, slot: u64) {
        if let Some(state) = self.slots.get_mut(&slot) {
            state.closing = true;
        }
        let work = Work::Close;
        self.queue.push(Submission { slot, work });
    }
}

impl SlotState {
    fn new(recording: LeftOpen, live: bool) -> Self {
        Self {
            recording,
            live,
            closing: false,
            chunks: VecDeque::new(),
            named_in: BTreeSet::new(),
            must_carry: false,
        }
    }
}

/// A recording's place in the journal. Dropped, it is left open.
#[derive(Debug)]
pub(super) struct Slot {
    core: Arc<Core>,
    id: u64,
    is_open: bool,
}

impl Slot {
    /// The number of the recording in records.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Hands in records of frames up to before `next`. The answer comes when they are on the disk, or cannot be.
    pub(super) fn submit(
        &self,
        records: Bytes,
        next: Option<Offset>,
        replace: bool,
    ) -> oneshot::Receiver<Result<(), ArchiveError>> {
        let (answer, answered) = oneshot::channel();
        self.push(Work::Write {
            records,
            next,
            replace,
            answer,
        });
        answered
    }

    /// What lies before `next` is stored elsewhere.
    pub(super) fn stored(&self, next: Offset) {
        let mut state = self.core.state.lock();
        if let Some(slot) = state.slots.get_mut(&self.id) {
            slot.chunks.retain(|chunk| chunk.next > next);
        }
    }

    /// Everything that is not stored yet has to be handed in again, with `replace`.
    pub(super) fn must_carry(&self) -> bool {
        let state = self.core.state.lock();
        state
            .slots
            .get(&self.id)
            .is_some_and(|slot| slot.must_carry)
    }

    /// What is in the journal of the recording from `from` on, in order. Blocks.
    pub(super) fn read(&self, from: Option<Offset>) -> io::Result<Vec<Frame>> {
        let chunks: Vec<Chunk> = {
            let state = self.core.state.lock();
            let slot = state.slots.get(&self.id);
            slot.into_iter()
                .flat_map(|slot| slot.chunks.iter().copied())
                .collect()
        };
        replay::read(&self.core.config.folder, &chunks, from)
    }

    /// Nothing of the recording is needed any more.
    pub(super) fn close(mut self) {
        self.is_open = false;
        self.core.state.lock().close(self.id);
        self.core.wake.notify_all();
    }

    fn push(&self, work: Work) {
        let slot = self.id;
        self.core.state.lock().queue.push(Submission { slot, work });
        self.core.wake.notify_all();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.is_open
            && let Some(slot) = self.core.state.lock().slots.get_mut(&self.id)
        {
            slot.live = false;
        }
    }
}

fn file_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:020}.journal"))
}

fn file_number(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    name.strip_suffix(".journal")?.parse().ok()
}

#[cfg(test)]
mod tests;
