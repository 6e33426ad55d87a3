//! What was confirmed, in a file, and whether all of it is still there.
//!
//! A line for each confirmed change, with tabs between: object, slot, number of the change, version that the confirmation had, and `persistent`
//! or `temporary`. A slot has one writer, whose changes have increasing numbers, and which makes the next one when the last is confirmed. So
//! what is read back of a slot is the number of its last line, or a greater one: a change whose confirmation did not come any more.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use parking_lot::Mutex;

/// The first line.
const TITLE: &str = "# headwater-loadtest objects 1";

/// Longest line that is read: names are bounded by the options.
const MAX_LINES: usize = 100_000_000;

/// The file that confirmed changes are written to.
#[derive(Debug)]
pub(super) struct Recorder {
    file: Mutex<BufWriter<File>>,
}

impl Recorder {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let mut file = BufWriter::new(File::create(path)?);
        writeln!(file, "{TITLE}")?;
        Ok(Self {
            file: Mutex::new(file),
        })
    }

    /// Adds lines.
    pub(super) fn add(&self, lines: &[u8]) -> io::Result<()> {
        let mut file = self.file.lock();
        file.write_all(lines)?;
        file.flush()
    }
}

/// Puts one line.
pub(super) fn put_line(
    out: &mut Vec<u8>,
    object: &str,
    slot: &str,
    number: u64,
    version: u32,
    is_persistent: bool,
) {
    let kind = if is_persistent {
        "persistent"
    } else {
        "temporary"
    };
    // Writing to memory does not fail.
    let _written = writeln!(out, "{object}\t{slot}\t{number}\t{version}\t{kind}");
}

/// What a file says of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RecordedObject {
    pub(super) is_persistent: bool,
    /// The greatest version of a confirmation.
    pub(super) version: u32,
    /// The last number of each slot.
    pub(super) slots: BTreeMap<String, u64>,
}

/// Reads a file.
pub(super) fn read(path: &Path) -> io::Result<BTreeMap<String, RecordedObject>> {
    let malformed = |line: usize| {
        let text = format!("line {line} is no confirmed change");
        io::Error::new(io::ErrorKind::InvalidData, text)
    };
    let mut objects = BTreeMap::<String, RecordedObject>::new();
    let lines = BufReader::new(File::open(path)?).lines();
    for (index, line) in lines.enumerate().take(MAX_LINES) {
        let line = line?;
        if index == 0 {
            if line != TITLE {
                return Err(malformed(1));
            }
            continue;
        }
        let mut parts = line.split('\t');
        let mut next = || parts.next().ok_or_else(|| malformed(index + 1));
        let (object, slot) = (next()?, next()?);
        let number = next()?.parse().map_err(|_| malformed(index + 1))?;
        let version = next()?.parse().map_err(|_| malformed(index + 1))?;
        let is_persistent = next()? == "persistent";
        let object = objects.entry(object.to_owned()).or_default();
        object.is_persistent = is_persistent;
        object.version = object.version.max(version);
        object.slots.insert(slot.to_owned(), number);
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_a_slot_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("confirmed");
        let recorder = Recorder::create(&path).unwrap();
        let mut lines = Vec::new();
        put_line(&mut lines, "a/b", "w1.0", 1, 3, true);
        put_line(&mut lines, "a/b", "w2.0", 1, 4, true);
        put_line(&mut lines, "a/b", "w1.0", 2, 5, true);
        put_line(&mut lines, "c", "w1.0", 9, 1, false);
        recorder.add(&lines).unwrap();
        let objects = read(&path).unwrap();
        assert_eq!(objects.len(), 2);
        let object = objects.get("a/b").unwrap();
        assert!(object.is_persistent && object.version == 5);
        let slots: Vec<_> = object
            .slots
            .iter()
            .map(|(slot, n)| (slot.as_str(), *n))
            .collect();
        assert_eq!(slots, [("w1.0", 2), ("w2.0", 1)]);
        std::fs::write(&path, "something\n").unwrap();
        assert!(read(&path).is_err());
        std::fs::write(&path, format!("{TITLE}\na\tb\tx\n")).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("line 2"));
    }
}
