//! What was sent lately, once for all sockets: one that was full goes on where it stood.

use std::collections::VecDeque;

/// How long a socket may be behind, in milliseconds of the stream.
pub const LOG_TIME: u64 = 5_000;

/// How far a socket may be behind, in bytes.
pub const LOG_BYTES: usize = 64 << 20;

/// What goes out in one send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    /// Never empty.
    pub(super) bytes: Vec<u8>,
    /// What a socket gets instead that begins here: codec headers, and everything from the first key frame on. Only where there is one.
    pub(super) beginning: Option<Vec<u8>>,
    /// Of the last message, in milliseconds.
    pub(super) timestamp: u64,
}

impl Batch {
    fn size(&self) -> usize {
        self.bytes.len() + self.beginning.as_ref().map_or(0, Vec::len)
    }
}

/// The latest batches, numbered from 0.
#[derive(Debug)]
pub(super) struct Log {
    batches: VecDeque<Batch>,
    /// Number of the oldest.
    first: u64,
    size: usize,
    max_time: u64,
    max_size: usize,
}

impl Log {
    pub(super) const fn new(max_time: u64, max_size: usize) -> Self {
        Self {
            batches: VecDeque::new(),
            first: 0,
            size: 0,
            max_time,
            max_size,
        }
    }

    /// Adds a batch, lets go what is too old, and tells its number. The latest batch always stays.
    pub(super) fn push(&mut self, batch: Batch) -> u64 {
        let now = batch.timestamp;
        self.size += batch.size();
        self.batches.push_back(batch);
        while self.batches.len() > 1
            && let Some(oldest) = self.batches.front()
            && (self.size > self.max_size || now.saturating_sub(oldest.timestamp) > self.max_time)
        {
            self.size -= oldest.size();
            self.batches.pop_front();
            self.first += 1;
        }
        self.end() - 1
    }

    pub(super) fn get(&self, number: u64) -> Option<&Batch> {
        let place = number.checked_sub(self.first)?;
        self.batches.get(usize::try_from(place).ok()?)
    }

    /// Number of the batch that comes next.
    pub(super) fn end(&self) -> u64 {
        self.first + self.batches.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(timestamp: u64, size: usize) -> Batch {
        Batch {
            bytes: vec![0; size],
            beginning: None,
            timestamp,
        }
    }

    #[test]
    fn old_batches_go() {
        let mut log = Log::new(1000, 100);
        assert_eq!((log.end(), log.get(0)), (0, None));
        for number in 0..10_u64 {
            assert_eq!(log.push(batch(number * 300, 1)), number);
        }
        // 1,800 to 2,700 are within a second.
        let there: Vec<u64> = (0..20)
            .filter(|&number| log.get(number).is_some())
            .collect();
        assert_eq!(there, [6, 7, 8, 9]);
        assert_eq!(log.get(7).unwrap().timestamp, 2100);
        assert_eq!(log.end(), 10);
    }

    #[test]
    fn large_batches_go_sooner() {
        let mut log = Log::new(1000, 100);
        log.push(batch(0, 60));
        log.push(Batch {
            beginning: Some(vec![0; 30]),
            ..batch(1, 10)
        });
        assert!(log.get(0).is_some());
        log.push(batch(2, 1));
        assert!(log.get(0).is_none() && log.get(1).is_some());
        // The latest stays whatever its size.
        let last = log.push(batch(3, 1000));
        assert!(log.get(last).is_some() && log.get(last - 1).is_none());
        log.push(batch(4, 1));
        assert!(log.get(last).is_none() && log.get(last + 1).is_some());
        assert_eq!(log.size, 1);
    }
}
