//! A store that counts, hangs, fails and refuses; and files of which each byte is a frame of a second, two make a piece.
//!
//! What a file begins with says what becomes of it: `!invalid`, `!unsupported`, `!eof`, `!broken`, `!panic`.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use headwater_media::file::FileFrame;
use headwater_media::frame::{FrameFlags, FrameKind};
use parking_lot::Condvar;

use super::super::*;

/// What every piece begins with.
pub(crate) const ON_META_DATA: &[u8] = b"\x02\x00\x0aonMetaData\x05";

#[derive(Default)]
pub(crate) struct FakeStore {
    files: Mutex<HashMap<String, Stored>>,
    hanging: AtomicBool,
    failing: AtomicBool,
    delay: Mutex<Duration>,
    asked: AtomicUsize,
}

#[derive(Clone)]
struct Stored {
    version: u64,
    bytes: Arc<Mutex<Vec<u8>>>,
    denied: bool,
}

/// Bytes that may be cut while they are read.
struct Cuttable {
    bytes: Arc<Mutex<Vec<u8>>>,
    length: u64,
}

impl ReadAt for Cuttable {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<bytes::Bytes> {
        bytes::Bytes::from(self.bytes.lock().clone()).read_at(offset, length)
    }
}

impl FakeStore {
    pub(crate) fn put(&self, path: &str, version: u64, bytes: &[u8]) {
        let stored = Stored {
            version,
            bytes: Arc::new(Mutex::new(bytes.to_vec())),
            denied: false,
        };
        self.files.lock().insert(path.to_owned(), stored);
    }

    pub(crate) fn remove(&self, path: &str) {
        self.files.lock().remove(path).unwrap();
    }

    /// Cuts a file in place, without a word.
    pub(crate) fn cut(&self, path: &str, length: usize) {
        self.files.lock()[path].bytes.lock().truncate(length);
    }

    pub(crate) fn deny(&self, path: &str, denied: bool) {
        self.files.lock().get_mut(path).unwrap().denied = denied;
    }

    pub(crate) fn hang(&self, hanging: bool) {
        self.hanging.store(hanging, Ordering::Relaxed);
    }

    pub(crate) fn fail(&self, failing: bool) {
        self.failing.store(failing, Ordering::Relaxed);
    }

    /// Lets every answer take that long.
    pub(crate) fn delay(&self, delay: Duration) {
        *self.delay.lock() = delay;
    }

    /// How often it was asked for anything.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    async fn get(&self, path: &Path) -> Result<Stored, StoreProblem> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.hanging.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let delay = *self.delay.lock();
        tokio::time::sleep(delay).await;
        if self.failing.load(Ordering::Relaxed) {
            return Err(StoreProblem::Unavailable("on purpose".to_owned()));
        }
        let stored = self.files.lock().get(path.as_ref()).cloned();
        match stored {
            None => Err(StoreProblem::NotFound),
            Some(stored) if stored.denied => Err(StoreProblem::Denied("on purpose".to_owned())),
            Some(stored) => Ok(stored),
        }
    }
}

#[tonic::async_trait]
impl FileStore for FakeStore {
    async fn read(&self, path: &Path) -> Result<Bytes, StoreProblem> {
        let stored = self.get(path).await?;
        let length = stored.bytes.lock().len() as u64;
        Ok(Bytes {
            bytes: Arc::new(Cuttable {
                bytes: stored.bytes,
                length,
            }),
            version: stored.version,
        })
    }

    async fn version(&self, path: &Path) -> Result<u64, StoreProblem> {
        Ok(self.get(path).await?.version)
    }
}

/// Where a file may be held up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Open,
    Read,
}

#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    closed: bool,
    waiting: usize,
    passed: usize,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock();
        state.waiting += 1;
        while state.closed {
            self.changed.wait(&mut state);
        }
        state.waiting -= 1;
        state.passed += 1;
    }
}

/// Keeps threads at a step until it is released, or a test has failed.
pub(crate) struct Hold(Arc<Gate>);

impl Hold {
    pub(crate) fn release(self) {}
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.state.lock().closed = false;
        self.0.changed.notify_all();
    }
}

#[derive(Default)]
pub(crate) struct FakeFormats {
    open: Arc<Gate>,
    read: Arc<Gate>,
}

impl FakeFormats {
    fn gate(&self, step: Step) -> &Arc<Gate> {
        match step {
            Step::Open => &self.open,
            Step::Read => &self.read,
        }
    }

    pub(crate) fn hold(&self, step: Step) -> Hold {
        let gate = self.gate(step);
        gate.state.lock().closed = true;
        Hold(Arc::clone(gate))
    }

    /// Threads that are held at the step.
    pub(crate) fn held(&self, step: Step) -> usize {
        self.gate(step).state.lock().waiting
    }

    pub(crate) fn opened(&self) -> usize {
        self.open.state.lock().passed
    }

    pub(crate) fn reads(&self) -> usize {
        self.read.state.lock().passed
    }
}

impl OpenMedia for FakeFormats {
    fn open(
        &self,
        format: Format,
        bytes: Arc<dyn ReadAt>,
    ) -> Result<Arc<dyn MediaFile>, FileError> {
        self.open.pass();
        let length = bytes.length();
        let text = bytes.read_at(0, usize::try_from(length).unwrap())?;
        match &text[..] {
            b"!invalid" => {
                return Err(FileError::Invalid {
                    offset: 7,
                    what: "on purpose".to_owned(),
                });
            }
            b"!unsupported" => {
                return Err(FileError::Unsupported {
                    what: "on purpose".to_owned(),
                });
            }
            b"!eof" => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            b"!broken" => return Err(io::Error::other("on purpose").into()),
            b"!panic" => panic!("on purpose"),
            _ => {}
        }
        Ok(Arc::new(FakeFile {
            info: FileInfo {
                duration_ms: length * 1_000,
                has_audio: true,
                has_video: format != Format::Mp3,
            },
            bytes,
            read: Arc::clone(&self.read),
        }))
    }
}

struct FakeFile {
    info: FileInfo,
    bytes: Arc<dyn ReadAt>,
    read: Arc<Gate>,
}

impl FakeFile {
    fn frame(&self, position: u64) -> Result<FileFrame, FileError> {
        Ok(FileFrame {
            position,
            timestamp: position * 1_000,
            kind: FrameKind::Audio,
            flags: FrameFlags::empty(),
            payload: self.bytes.read_at(position, 1)?,
        })
    }
}

impl MediaFile for FakeFile {
    fn info(&self) -> &FileInfo {
        &self.info
    }

    fn memory(&self) -> usize {
        usize::try_from(self.bytes.length()).unwrap() << 20
    }

    fn piece_at_time(&self, ms: u64) -> Result<FilePiece, FileError> {
        let last = self.bytes.length().saturating_sub(1);
        self.piece_at((ms / 1_000).min(last) / 2 * 2)
    }

    fn piece_at(&self, position: u64) -> Result<FilePiece, FileError> {
        self.read.pass();
        let length = self.bytes.length();
        if !position.is_multiple_of(2) || position >= length {
            return Err(FileError::Invalid {
                offset: position,
                what: "no frame begins there".to_owned(),
            });
        }
        let end = (position + 2).min(length);
        let frames: Result<_, _> = (position..end).map(|at| self.frame(at)).collect();
        Ok(FilePiece {
            first: position,
            next: (end < length).then_some(end),
            start_ms: position * 1_000,
            end_ms: end * 1_000,
            preface: vec![FileFrame {
                position,
                timestamp: position * 1_000,
                kind: FrameKind::Data,
                flags: FrameFlags::METADATA,
                payload: bytes::Bytes::from_static(ON_META_DATA),
            }],
            frames: frames?,
        })
    }
}
