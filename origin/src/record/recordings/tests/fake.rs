//! An archive in memory that does what a test tells it to.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use headwater_media::frame::{Frame, FrameFlags, Offset};
use headwater_media::name::StreamName;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::record::vault::{Cause, Kept, Ledger, Stored, Vault, VaultError};

type Key = (StreamName, u64);

/// See the [module](self).
#[derive(Clone)]
pub(super) struct FakeVault {
    state: Arc<Mutex<State>>,
    /// While true, nothing is answered.
    hangs: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    generations: BTreeMap<Key, Generation>,
    /// What the next calls fail with.
    failures: Vec<Cause>,
    /// What the next calls of `kept` fail with.
    kept_failures: Vec<Cause>,
    /// What all calls of `open` fail with.
    unopenable: Option<Cause>,
    /// Whether syncs make nothing durable.
    holds: bool,
    syncs: usize,
    /// How many generations there ever were: none has the number of another.
    created: u64,
    takeovers: usize,
    /// What the last writer was told to keep. Everything is kept all the same.
    window_ms: u64,
}

#[derive(Clone, Default)]
struct Generation {
    frames: Vec<Frame>,
    /// How many frames are durable.
    durable: usize,
    term: u64,
    is_complete: bool,
}

impl FakeVault {
    pub(super) fn new() -> Self {
        Self {
            state: Arc::default(),
            hangs: watch::Sender::new(false),
        }
    }

    pub(super) fn hang(&self, hangs: bool) {
        self.hangs.send_replace(hangs);
    }

    pub(super) fn fail(&self, cause: Cause, times: usize) {
        let failures = std::iter::repeat_n(cause, times);
        self.state.lock().failures.extend(failures);
    }

    /// Fails no more.
    pub(super) fn calm(&self) {
        self.state.lock().failures.clear();
    }

    pub(super) fn fail_kept(&self, cause: Cause, times: usize) {
        let failures = std::iter::repeat_n(cause, times);
        self.state.lock().kept_failures.extend(failures);
    }

    pub(super) fn fail_open(&self, cause: Option<Cause>) {
        self.state.lock().unopenable = cause;
    }

    /// Syncs make nothing durable from now on, or all again.
    pub(super) fn hold(&self, holds: bool) {
        self.state.lock().holds = holds;
    }

    /// Forgets what is not durable, as a machine does that dies.
    pub(super) fn crash(&self) {
        for generation in self.state.lock().generations.values_mut() {
            generation.frames.truncate(generation.durable);
        }
    }

    /// Another origin takes everything over.
    pub(super) fn fence(&self) {
        for generation in self.state.lock().generations.values_mut() {
            generation.term += 1;
            generation.frames.truncate(generation.durable);
        }
    }

    /// Another origin takes the newest generation over and records on.
    pub(super) fn record_elsewhere(&self, frames: &[Frame]) {
        let mut state = self.state.lock();
        let mut newest = state.generations.last_entry().expect("nothing is stored");
        let generation = newest.get_mut();
        generation.term += 1;
        generation.is_complete = false;
        generation.frames.extend_from_slice(frames);
        generation.durable = generation.frames.len();
    }

    /// A window lets go of all frames before `sequence`. What is in force stays, as it does in front of a recording's first segment.
    pub(super) fn trim(&self, sequence: u64) {
        for generation in self.state.lock().generations.values_mut() {
            let stays = |it: &Frame| it.flags.contains(FrameFlags::HEADER);
            let is_young = |it: &Frame| it.offset.sequence >= sequence;
            generation.frames.retain(|it| stays(it) || is_young(it));
            generation.durable = generation.frames.len();
        }
    }

    /// Generations and how many frames each has.
    pub(super) fn stored(&self) -> Vec<usize> {
        let state = self.state.lock();
        let generations = state.generations.values();
        generations.map(|it| it.frames.len()).collect()
    }

    pub(super) fn takeovers(&self) -> usize {
        self.state.lock().takeovers
    }

    pub(super) fn window_ms(&self) -> u64 {
        self.state.lock().window_ms
    }

    pub(super) fn syncs(&self) -> usize {
        self.state.lock().syncs
    }

    async fn answer(&self) -> Result<(), VaultError> {
        // The sender is here.
        let _ = self.hangs.subscribe().wait_for(|hangs| !hangs).await;
        let mut state = self.state.lock();
        match state.failures.is_empty() {
            true => Ok(()),
            false => Err(error(state.failures.remove(0))),
        }
    }
}

fn error(cause: Cause) -> VaultError {
    VaultError {
        cause,
        text: format!("{cause:?} to order"),
    }
}

impl Vault for FakeVault {
    type Writer = FakeWriter;
    type Reader = FakeReader;

    async fn generations(&self, name: &StreamName) -> Result<Vec<u64>, VaultError> {
        self.answer().await?;
        let state = self.state.lock();
        let keys = state.generations.keys().filter(|(of, _)| of == name);
        Ok(keys.map(|(_, generation)| *generation).collect())
    }

    async fn create(&self, name: &StreamName) -> Result<FakeWriter, VaultError> {
        self.answer().await?;
        let mut state = self.state.lock();
        state.created += 1;
        let key = (name.clone(), state.created);
        state.generations.insert(key.clone(), Generation::default());
        Ok(FakeWriter {
            vault: self.clone(),
            key,
            term: 0,
        })
    }

    async fn take_over(&self, name: &StreamName, number: u64) -> Result<FakeWriter, VaultError> {
        self.answer().await?;
        let mut state = self.state.lock();
        state.takeovers += 1;
        let key = (name.clone(), number);
        let generation = state.generations.get_mut(&key);
        let generation = generation.ok_or_else(|| error(Cause::NotFound))?;
        generation.term += 1;
        generation.is_complete = false;
        Ok(FakeWriter {
            vault: self.clone(),
            term: generation.term,
            key,
        })
    }

    async fn open(&self, name: &StreamName, number: u64) -> Result<FakeReader, VaultError> {
        self.answer().await?;
        if let Some(cause) = self.state.lock().unopenable {
            return Err(error(cause));
        }
        let key = (name.clone(), number);
        match self.state.lock().generations.contains_key(&key) {
            true => Ok(FakeReader {
                vault: self.clone(),
                key,
            }),
            false => Err(error(Cause::NotFound)),
        }
    }

    async fn kept(&self, name: &StreamName, number: u64) -> Result<Kept, VaultError> {
        if let Some(cause) = self.state.lock().kept_failures.pop() {
            return Err(error(cause));
        }
        Ok(self.open(name, number).await?.kept())
    }

    fn is_left_open(&self, _: &StreamName, _: u64) -> bool {
        false
    }

    async fn delete(&self, name: &StreamName, number: u64) -> Result<(), VaultError> {
        self.answer().await?;
        self.state
            .lock()
            .generations
            .remove(&(name.clone(), number));
        Ok(())
    }
}

pub(super) struct FakeWriter {
    vault: FakeVault,
    key: Key,
    term: u64,
}

impl FakeWriter {
    fn with<T>(&self, work: impl FnOnce(&mut Generation) -> T) -> Result<T, VaultError> {
        let mut state = self.vault.state.lock();
        let generation = state.generations.get_mut(&self.key);
        let generation = generation.ok_or_else(|| error(Cause::NotFound))?;
        if generation.term != self.term {
            return Err(error(Cause::Fenced));
        }
        Ok(work(generation))
    }
}

impl Ledger for FakeWriter {
    type Reader = FakeReader;

    fn generation(&self) -> u64 {
        self.key.1
    }

    fn kept(&self) -> Kept {
        self.reader().kept()
    }

    fn keep_window(&mut self, ms: u64) {
        self.vault.state.lock().window_ms = ms;
    }

    async fn append(&mut self, frames: &[Frame]) -> Result<(), VaultError> {
        self.vault.answer().await?;
        self.with(|generation| {
            for frame in frames {
                let last = generation.frames.last().map(|frame| frame.offset);
                assert!(last < Some(frame.offset), "{last:?} then {}", frame.offset);
                generation.frames.push(frame.clone());
            }
        })
    }

    async fn sync(&mut self) -> Result<Option<Offset>, VaultError> {
        self.vault.answer().await?;
        let holds = {
            let mut state = self.vault.state.lock();
            state.syncs += 1;
            state.holds
        };
        self.with(|generation| {
            if !holds {
                generation.durable = generation.frames.len();
            }
            match generation.frames.get(generation.durable) {
                Some(frame) => Some(frame.offset),
                None => generation.frames.last().map(|frame| frame.offset.next()),
            }
        })
    }

    async fn journal(&mut self) -> Result<(), VaultError> {
        self.with(|generation| generation.durable = generation.frames.len())
    }

    async fn finish(&mut self) -> Result<(), VaultError> {
        self.vault.answer().await?;
        self.with(|generation| {
            generation.durable = generation.frames.len();
            generation.is_complete = true;
        })
    }

    async fn hand_over(&mut self) -> Result<(), VaultError> {
        self.vault.answer().await?;
        self.with(|generation| generation.durable = generation.frames.len())
    }

    fn is_settled(&self) -> bool {
        true
    }

    fn reader(&self) -> FakeReader {
        FakeReader {
            vault: self.vault.clone(),
            key: self.key.clone(),
        }
    }
}

#[derive(Clone)]
pub(super) struct FakeReader {
    vault: FakeVault,
    key: Key,
}

impl Stored for FakeReader {
    fn kept(&self) -> Kept {
        let state = self.vault.state.lock();
        let Some(generation) = state.generations.get(&self.key) else {
            return Kept::default();
        };
        let frames = &generation.frames;
        Kept {
            next: frames.last().map(|frame| frame.offset.next()),
            start_ms: frames.first().map_or(0, |frame| frame.timestamp),
            end_ms: frames.last().map_or(0, |frame| frame.timestamp + 40),
            bytes: frames.iter().map(|frame| frame.payload.len() as u64).sum(),
            is_complete: generation.is_complete,
        }
    }

    fn frames(&self) -> BoxStream<'static, Result<Vec<Frame>, VaultError>> {
        let reader = self.clone();
        let batches = stream::unfold((reader, 0), |(reader, at)| async move {
            if let Err(error) = reader.vault.answer().await {
                return Some((Err(error), (reader, usize::MAX)));
            }
            let some = {
                let state = reader.vault.state.lock();
                let generation = state.generations.get(&reader.key);
                let frames = generation.map(|it| it.frames.as_slice());
                let frames = frames.unwrap_or_default().iter();
                frames.skip(at).take(7).cloned().collect::<Vec<_>>()
            };
            let next = at.saturating_add(some.len());
            (!some.is_empty()).then_some((Ok(some), (reader, next)))
        });
        batches.boxed()
    }
}
