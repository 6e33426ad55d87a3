//! What all threads of a swarm saw, second by second.

use std::collections::BTreeMap;

use super::SwarmSample;
use super::account::Sums;
use crate::measure::Latencies;

/// Seconds that are kept: a day. Those that come later are not.
const MAX_SAMPLES: usize = 86_400;

/// Seconds that may wait for a thread that is late; then they are closed without it.
const MAX_OPEN: usize = 30;

/// The seconds of a swarm with so many threads.
#[derive(Debug)]
pub(super) struct Seconds {
    threads: usize,
    closed: Vec<SwarmSample>,
    open: BTreeMap<u64, Open>,
    /// Seconds before this one are closed.
    next: u64,
}

#[derive(Debug, Default)]
struct Open {
    sums: Sums,
    latencies: Latencies,
    playing: u64,
    /// Threads that have told all of it.
    told: usize,
}

impl Seconds {
    pub(super) const fn new(threads: usize) -> Self {
        Self {
            threads,
            closed: Vec::new(),
            open: BTreeMap::new(),
            next: 0,
        }
    }

    /// A thread saw this in a second. `playing` is `None` if it will see more of it, else how many of its viewers play at its end.
    pub(super) fn add(
        &mut self,
        second: u64,
        sums: &Sums,
        latencies: &Latencies,
        playing: Option<u64>,
    ) {
        if second < self.next {
            return;
        }
        let open = self.open.entry(second).or_default();
        open.sums.add(sums);
        open.latencies.merge(latencies);
        if let Some(playing) = playing {
            open.playing += playing;
            open.told += 1;
        }
        while let Some(first) = self.open.first_entry() {
            let is_complete = first.get().told >= self.threads;
            if !is_complete && self.open.len() <= MAX_OPEN {
                return;
            }
            let Some((second, open)) = self.open.pop_first() else {
                return;
            };
            self.next = second.saturating_add(1);
            if self.closed.len() < MAX_SAMPLES {
                self.closed.push(open.sample(second));
            }
        }
    }

    /// The seconds that are over.
    pub(super) fn samples(&self) -> &[SwarmSample] {
        &self.closed
    }
}

impl Open {
    fn sample(&self, second: u64) -> SwarmSample {
        let latency = self.latencies.report();
        SwarmSample {
            seconds: second.saturating_add(1) as f64,
            playing: self.playing,
            bytes: self.sums.bytes,
            video_frames: self.sums.video_frames,
            p50_us: latency.p50_us,
            p99_us: latency.p99_us,
            max_us: latency.max_us,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(bytes: u64) -> Sums {
        Sums {
            bytes,
            video_frames: 1,
            audio_frames: 1,
        }
    }

    #[test]
    fn seconds_are_those_of_all_threads() {
        let mut seconds = Seconds::new(2);
        let mut latencies = Latencies::default();
        latencies.record(0, 2_000_000);
        seconds.add(0, &sums(5), &latencies, None);
        seconds.add(0, &sums(10), &latencies, Some(3));
        seconds.add(1, &sums(100), &Latencies::default(), Some(4));
        assert!(seconds.samples().is_empty());
        seconds.add(0, &sums(20), &latencies, Some(2));
        let [first] = seconds.samples() else {
            panic!("{seconds:?}");
        };
        assert_eq!((first.playing, first.bytes, first.video_frames), (5, 35, 3));
        assert_eq!((first.seconds, first.max_us), (1.0, 2_000));
        // What comes after the end of a second is lost, not wrong.
        seconds.add(0, &sums(1), &latencies, Some(9));
        seconds.add(1, &sums(1), &latencies, Some(1));
        assert_eq!(seconds.samples()[1].bytes, 101);
        assert_eq!(seconds.samples().len(), 2);
    }

    #[test]
    fn a_thread_that_tells_nothing_holds_nobody_up_for_long() {
        let mut seconds = Seconds::new(2);
        for second in 0..100 {
            seconds.add(second, &sums(1), &Latencies::default(), Some(1));
        }
        assert_eq!(seconds.samples().len(), 100 - MAX_OPEN);
        assert_eq!(seconds.samples()[0].playing, 1);
    }
}
