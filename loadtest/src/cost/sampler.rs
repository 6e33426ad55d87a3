//! Cost over time.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;

use super::CostError;
use super::meter::{CostMeter, Memory};
use super::usage::Usage;

/// Most samples of one run: an hour of them. When there are more, every second one goes and from then on there are half as many.
pub const MAX_SAMPLES: usize = 3600;

/// How often a sample is taken, at first.
const EVERY: Duration = Duration::from_secs(1);

/// What processes used during one second, or longer if the run is long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct CostSample {
    /// Its end, in seconds from the start of the sampler.
    pub seconds: f64,
    /// CPU time in percent of one core.
    pub cpu_percent: f64,
    /// Resident memory at its end, in bytes, as the kernel keeps it.
    pub rss_bytes: u64,
}

/// A thread that takes a sample each second. Dropping it ends the thread.
#[derive(Debug)]
pub struct CostSampler {
    samples: Arc<Mutex<Samples>>,
    /// Dropped to end the thread.
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl CostSampler {
    /// Starts sampling these processes and, if it is wanted, their children.
    ///
    /// # Errors
    /// As [`CostMeter::start`], and if the system gives no thread.
    pub fn start(pids: Vec<u32>, with_children: bool) -> Result<Self, CostError> {
        let mut meter = CostMeter::start(pids, with_children)?;
        let samples = Arc::new(Mutex::new(Samples::new(meter.read(Memory::AsKept))));
        let (end, ended) = channel::<()>();
        let filled = Arc::clone(&samples);
        let work = move || {
            let mut due = Instant::now();
            loop {
                due += EVERY;
                let wait = due.saturating_duration_since(Instant::now());
                if ended.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                let usage = meter.read(Memory::AsKept);
                filled.lock().add(usage);
            }
        };
        let thread = std::thread::Builder::new()
            .name("cost".to_owned())
            .spawn(work)
            .map_err(CostError::Start)?;
        Ok(Self {
            samples,
            end: Some(end),
            thread: Some(thread),
        })
    }

    /// Those taken until now.
    #[must_use]
    pub fn samples(&self) -> Vec<CostSample> {
        self.samples.lock().taken.clone()
    }

    /// Ends the thread. What was used since the last sample is left out.
    #[must_use]
    pub fn stop(mut self) -> Vec<CostSample> {
        self.end();
        self.samples()
    }

    fn end(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was told by the thread itself.
            let _ended = thread.join();
        }
    }
}

impl Drop for CostSampler {
    fn drop(&mut self) {
        self.end();
    }
}

#[derive(Debug)]
struct Samples {
    taken: Vec<CostSample>,
    begun: Duration,
    last: Usage,
    /// Readings that make a sample.
    each: u32,
    since_last: u32,
}

impl Samples {
    fn new(first: Usage) -> Self {
        Self {
            taken: Vec::new(),
            begun: first.at,
            last: first,
            each: 1,
            since_last: 0,
        }
    }

    fn add(&mut self, usage: Usage) {
        self.since_last += 1;
        if self.since_last < self.each {
            return;
        }
        self.since_last = 0;
        let length = usage.at.saturating_sub(self.last.at).as_secs_f64();
        let cpu = usage.cpu.saturating_sub(self.last.cpu).as_secs_f64();
        let share = if length > 0.0 { cpu / length } else { 0.0 };
        self.taken.push(CostSample {
            seconds: usage.at.saturating_sub(self.begun).as_secs_f64(),
            cpu_percent: share * 100.0,
            rss_bytes: usage.rss_bytes,
        });
        self.last = usage;
        if self.taken.len() >= MAX_SAMPLES {
            self.halve();
        }
    }

    /// Two neighbours become one.
    fn halve(&mut self) {
        self.taken = self
            .taken
            .chunks(2)
            .filter_map(|pair| {
                let (first, last) = (pair.first()?, pair.last()?);
                Some(CostSample {
                    seconds: last.seconds,
                    cpu_percent: f64::midpoint(first.cpu_percent, last.cpu_percent),
                    rss_bytes: last.rss_bytes,
                })
            })
            .collect();
        self.each = self.each.saturating_mul(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(ms: u64) -> Usage {
        Usage {
            at: Duration::from_millis(ms),
            // A quarter of a core.
            cpu: Duration::from_millis(ms / 4),
            rss_bytes: ms,
            ..Usage::default()
        }
    }

    #[test]
    fn samples_are_of_the_time_since_the_one_before() {
        let mut samples = Samples::new(usage(500));
        samples.add(usage(1_500));
        samples.add(Usage {
            cpu: Duration::from_millis(1_375),
            ..usage(2_500)
        });
        let expected = [(1.0, 25.0, 1_500), (2.0, 100.0, 2_500)];
        let taken = samples.taken.iter();
        let taken: Vec<_> = taken
            .map(|sample| (sample.seconds, sample.cpu_percent, sample.rss_bytes))
            .collect();
        assert_eq!(taken, expected);
    }

    #[test]
    fn a_long_run_has_no_more_samples() {
        let mut samples = Samples::new(usage(0));
        let length = 10 * MAX_SAMPLES as u64;
        for second in 1..=length {
            samples.add(usage(second * 1000));
            assert!(samples.taken.len() < MAX_SAMPLES);
        }
        assert!(samples.taken.len() >= MAX_SAMPLES / 2);
        let shares = samples.taken.iter().map(|sample| sample.cpu_percent);
        assert!(shares.into_iter().all(|share| (share - 25.0).abs() < 0.1));
        let last = samples.taken.last().unwrap();
        assert!(last.seconds > length as f64 * 0.99, "{last:?}");
        let times = samples.taken.iter().map(|sample| sample.seconds);
        assert!(times.is_sorted());
    }

    #[test]
    fn a_running_process_is_sampled() {
        let sampler = CostSampler::start(vec![std::process::id()], false).unwrap();
        let begun = Instant::now();
        while sampler.samples().is_empty() && begun.elapsed() < Duration::from_secs(20) {
            // Works, so that there is something to see.
            std::hint::black_box((0..100_000_u64).sum::<u64>());
            std::thread::yield_now();
        }
        let samples = sampler.stop();
        let sample = samples.first().unwrap();
        assert!(
            sample.seconds >= 0.9 && sample.cpu_percent > 1.0,
            "{sample:?}"
        );
        assert!(sample.rss_bytes > 100_000, "{sample:?}");
    }
}
