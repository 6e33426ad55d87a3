//! Reading a journal: what recordings were open, and what they had not stored.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use headwater_media::frame::{Frame, Offset};
use headwater_media::segment::{JournalEntry, JournalReader};

use super::{Chunk, LeftOpen, SlotState, State, file_number, file_path};

/// Reads every file of the folder. A file counts as far as whole records go.
pub(super) fn replay(folder: &Path) -> io::Result<State> {
    let mut state = State::default();
    for entry in fs::read_dir(folder)? {
        state.files.extend(file_number(&entry?.path()));
    }
    // No numbers are left after the last one there is: only somebody else's file has that name.
    let last = state.files.last().copied().unwrap_or_default();
    state.next_file = last.checked_add(1).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "a journal file has a name that is not ours",
        )
    })?;
    for number in state.files.clone() {
        replay_file(folder, number, &mut state)?;
    }
    Ok(state)
}

fn replay_file(folder: &Path, number: u64, state: &mut State) -> io::Result<()> {
    let path = file_path(folder, number);
    let file = BufReader::new(File::open(&path)?);
    let mut reader = match JournalReader::new(file) {
        Ok(Some(reader)) => reader,
        Ok(None) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            // Perhaps a later version's: it stays as it is.
            tracing::warn!(?path, %error, "a journal file cannot be read");
            state.files.remove(&number);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    // From the numbers in this file to ours.
    let mut known: HashMap<u64, u64> = HashMap::new();
    while let Some((range, entry)) = reader.next_entry()? {
        match entry {
            JournalEntry::Opened {
                recording,
                name,
                generation,
            } => {
                let id = slot(LeftOpen { name, generation }, state);
                if let Some(slot) = state.slots.get_mut(&id) {
                    slot.named_in.insert(number);
                }
                known.insert(recording, id);
            }
            JournalEntry::Frame { recording, frame } => {
                let slot = known.get(&recording).and_then(|id| state.slots.get_mut(id));
                if let Some(slot) = slot {
                    add(slot, number, range.start, range.end, frame.offset.next());
                }
            }
            JournalEntry::Closed { recording } => {
                let closed = known.remove(&recording);
                // Unless it was opened again, under another number.
                if let Some(id) = closed.filter(|id| !known.values().any(|other| other == id)) {
                    state.slots.remove(&id);
                }
            }
        }
    }
    Ok(())
}

fn slot(recording: LeftOpen, state: &mut State) -> u64 {
    let known = state
        .slots
        .iter()
        .find(|(_, slot)| slot.recording == recording);
    if let Some((id, _)) = known {
        return *id;
    }
    let id = state.next_slot;
    state.next_slot += 1;
    state.slots.insert(id, SlotState::new(recording, false));
    id
}

fn add(slot: &mut SlotState, file: u64, start: u64, end: u64, next: Offset) {
    if let Some(last) = slot.chunks.back_mut()
        && last.file == file
        && last.place + last.length == start
    {
        last.length = end - last.place;
        last.next = last.next.max(next);
        return;
    }
    slot.chunks.push_back(Chunk {
        file,
        place: start,
        length: end - start,
        next,
    });
}

/// Reads the frames of some chunks, those before `from` left out, by their offsets and each only once.
///
/// Chunks need not be in order: frames that were carried over to a newer file stand behind younger ones, if only some of the older
/// files could be removed before the process died.
pub(super) fn read(
    folder: &Path,
    chunks: &[Chunk],
    from: Option<Offset>,
) -> io::Result<Vec<Frame>> {
    let mut frames: Vec<Frame> = Vec::new();
    for chunk in chunks {
        let mut file = File::open(file_path(folder, chunk.file))?;
        file.seek(SeekFrom::Start(chunk.place))?;
        let source = BufReader::new(file.take(chunk.length));
        let mut reader = JournalReader::at(source, chunk.place);
        while let Some((_, entry)) = reader.next_entry()? {
            if let JournalEntry::Frame { frame, .. } = entry
                && from.is_none_or(|from| frame.offset >= from)
            {
                frames.push(frame);
            }
        }
        if reader.place() != chunk.place + chunk.length {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a journal file changed since it was written",
            ));
        }
    }
    frames.sort_by_key(|frame| frame.offset);
    frames.dedup_by_key(|frame| frame.offset);
    Ok(frames)
}
