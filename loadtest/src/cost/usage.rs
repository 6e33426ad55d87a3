//! What processes have used.

use std::time::Duration;

/// Name of the line that holds what threads used that are gone.
pub const ENDED_THREADS: &str = "(ended)";

/// What processes have used since each of them began, as it was at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The moment: time since the meter was started. Of a difference, its length.
    pub at: Duration,
    /// Processes that are running.
    pub processes: u64,
    /// CPU time, user and system, of threads that run and threads that have ended.
    pub cpu: Duration,
    /// Resident memory in bytes. Pages that processes share count for each of them.
    pub rss_bytes: u64,
    /// The most resident memory that each process that runs ever had, in bytes.
    pub peak_rss_bytes: u64,
    /// Context switches because a thread waited for something.
    pub voluntary: u64,
    /// Context switches because another thread was to run.
    pub involuntary: u64,
    /// Shares of [`cpu`](Self::cpu), of which they are the sum. The last one is [`ENDED_THREADS`] if there are any.
    pub threads: Vec<ThreadUsage>,
}

/// What one thread has used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadUsage {
    /// Number of its process; 0 for ended threads.
    pub process: u32,
    /// Its own number, which is that of the process for the first thread; 0 for ended threads.
    pub id: u32,
    /// As the thread calls itself: up to 15 bytes.
    pub name: String,
    /// CPU time, user and system.
    pub cpu: Duration,
}

impl Usage {
    /// What was used from an earlier moment of the same meter to this one. Memory is that of this moment: it does not add up.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut threads: Vec<ThreadUsage> = self
            .threads
            .iter()
            .map(|thread| ThreadUsage {
                cpu: thread.cpu.saturating_sub(cpu_of(earlier, thread)),
                ..thread.clone()
            })
            .collect();
        // What a thread had used before is now counted among the ended ones.
        let gone: Duration = earlier
            .threads
            .iter()
            .filter(|thread| thread.id != 0 && !self.threads.iter().any(|now| is_same(now, thread)))
            .map(|thread| thread.cpu)
            .sum();
        if let Some(ended) = threads.last_mut().filter(|thread| thread.id == 0) {
            ended.cpu = ended.cpu.saturating_sub(gone);
        }
        threads.retain(|thread| thread.id != 0 || !thread.cpu.is_zero());
        Self {
            at: self.at.saturating_sub(earlier.at),
            processes: self.processes,
            cpu: self.cpu.saturating_sub(earlier.cpu),
            rss_bytes: self.rss_bytes,
            peak_rss_bytes: self.peak_rss_bytes,
            voluntary: self.voluntary.saturating_sub(earlier.voluntary),
            involuntary: self.involuntary.saturating_sub(earlier.involuntary),
            threads,
        }
    }
}

fn cpu_of(usage: &Usage, thread: &ThreadUsage) -> Duration {
    let found = usage.threads.iter().find(|other| is_same(other, thread));
    found.map_or(Duration::ZERO, |other| other.cpu)
}

/// A thread may change its name.
const fn is_same(one: &ThreadUsage, other: &ThreadUsage) -> bool {
    one.process == other.process && one.id == other.id
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(id: u32, name: &str, ms: u64) -> ThreadUsage {
        ThreadUsage {
            process: u32::from(id != 0),
            id,
            name: name.to_owned(),
            cpu: Duration::from_millis(ms),
        }
    }

    fn usage(seconds: u64, threads: Vec<ThreadUsage>) -> Usage {
        Usage {
            at: Duration::from_secs(seconds),
            processes: 1,
            cpu: threads.iter().map(|thread| thread.cpu).sum(),
            rss_bytes: seconds * 1000,
            peak_rss_bytes: 9000,
            voluntary: seconds * 10,
            involuntary: seconds,
            threads,
        }
    }

    #[test]
    fn a_difference_is_of_what_adds_up() {
        let earlier = usage(2, vec![thread(1, "main", 100), thread(2, "worker", 50)]);
        let later = usage(
            5,
            vec![
                thread(1, "main", 130),
                thread(2, "renamed", 90),
                thread(3, "new", 7),
            ],
        );
        let used = later.since(&earlier);
        assert_eq!(used.at, Duration::from_secs(3));
        assert_eq!(used.cpu, Duration::from_millis(77));
        assert_eq!((used.voluntary, used.involuntary), (30, 3));
        assert_eq!((used.rss_bytes, used.peak_rss_bytes), (5000, 9000));
        let expected = [
            thread(1, "main", 30),
            thread(2, "renamed", 40),
            thread(3, "new", 7),
        ];
        assert_eq!(used.threads, expected);
    }

    #[test]
    fn a_thread_that_ends_in_between_leaves_what_it_used_in_between() {
        let earlier = usage(
            1,
            vec![
                thread(1, "main", 100),
                thread(2, "worker", 50),
                thread(0, ENDED_THREADS, 11),
            ],
        );
        // The worker went on for 20 ms.
        let later = usage(
            2,
            vec![thread(1, "main", 100), thread(0, ENDED_THREADS, 81)],
        );
        let used = later.since(&earlier);
        assert_eq!(used.cpu, Duration::from_millis(20));
        let expected = [thread(1, "main", 0), thread(0, ENDED_THREADS, 20)];
        assert_eq!(used.threads, expected);
        assert_eq!(later.since(&later).threads, [thread(1, "main", 0)]);
    }
}
