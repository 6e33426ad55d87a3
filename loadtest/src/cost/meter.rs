//! Reads what processes use, and keeps what the kernel forgets.

use std::collections::{HashMap, HashSet};
use std::io;
use std::time::{Duration, Instant};

use super::CostError;
use super::proc::{self, Stat};
use super::usage::{ENDED_THREADS, ThreadUsage, Usage};

/// Most processes of one meter, children included. Children beyond that are not counted.
pub const MAX_PROCESSES: usize = 4096;

/// An account of some processes. Reading it costs some microseconds for each thread.
#[derive(Debug)]
pub struct CostMeter {
    begun: Instant,
    with_children: bool,
    processes: HashMap<u32, Process>,
    /// Of processes that are gone, as they were last seen.
    ended: Sums,
    /// What children had used that were gone before the start, in clock ticks.
    reaped_before: u64,
    /// What children used that were gone before they were seen, or after.
    unseen: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    cpu: Duration,
    voluntary: u64,
    involuntary: u64,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.cpu = self.cpu.saturating_add(other.cpu);
        self.voluntary = self.voluntary.saturating_add(other.voluntary);
        self.involuntary = self.involuntary.saturating_add(other.involuntary);
    }
}

#[derive(Debug)]
struct Process {
    started: u64,
    child_ticks: u64,
    threads: HashMap<u32, Thread>,
    /// Of threads that are gone, as they were last seen.
    ended: Sums,
    /// What threads used after they were last seen.
    unseen: Duration,
    rss: u64,
    peak_rss: u64,
}

#[derive(Debug, Default)]
struct Thread {
    name: String,
    sums: Sums,
}

/// How memory is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    PageByPage,
    AsKept,
}

impl CostMeter {
    /// Starts an account of these processes and, if it is wanted, of their children and theirs, those that are still to come included.
    ///
    /// # Errors
    /// [`CostError`] if the system is not Linux, no process or too many are named, or one of them is not there or hides its account.
    pub fn start(mut pids: Vec<u32>, with_children: bool) -> Result<Self, CostError> {
        if !cfg!(target_os = "linux") {
            return Err(CostError::Unsupported);
        }
        pids.sort_unstable();
        pids.dedup();
        if pids.is_empty() {
            return Err(CostError::NoProcess);
        }
        if pids.len() > MAX_PROCESSES {
            return Err(CostError::TooMany { count: pids.len() });
        }
        let mut meter = Self {
            begun: Instant::now(),
            with_children,
            processes: HashMap::new(),
            ended: Sums::default(),
            reaped_before: 0,
            unseen: Duration::ZERO,
        };
        for pid in pids {
            let process = Process::find(pid).map_err(|cause| match cause.kind() {
                io::ErrorKind::NotFound => CostError::Gone { pid },
                _ => CostError::Read { pid, cause },
            })?;
            meter.processes.insert(pid, process);
        }
        meter.find_children();
        meter.reaped_before = meter.reaped();
        Ok(meter)
    }

    /// What has been used until now. Processes that have ended keep their part of the sums.
    pub fn mark(&mut self) -> Usage {
        self.read(Memory::PageByPage)
    }

    pub(super) fn read(&mut self, memory: Memory) -> Usage {
        let at = self.begun.elapsed();
        let ended = &mut self.ended;
        self.processes.retain(|&pid, process| {
            let lives = process.read(pid, memory).is_ok();
            if !lives {
                ended.add(&process.sums());
            }
            lives
        });
        self.find_children();
        // What is still to be read of new children is read now.
        for (&pid, process) in &mut self.processes {
            if process.threads.is_empty() {
                // One that is gone already is found out the next time.
                let _gone = process.read(pid, memory);
            }
        }
        let reaped = proc::ticks(self.reaped().saturating_sub(self.reaped_before));
        self.unseen = self.unseen.max(reaped.saturating_sub(self.ended.cpu));
        self.sum_up(at)
    }

    fn sum_up(&self, at: Duration) -> Usage {
        let mut sums = self.ended;
        sums.cpu = sums.cpu.saturating_add(self.unseen);
        let mut ended = sums.cpu;
        let mut usage = Usage {
            at,
            processes: self.processes.len() as u64,
            ..Usage::default()
        };
        for (&pid, process) in &self.processes {
            sums.add(&process.sums());
            ended = ended.saturating_add(process.ended.cpu + process.unseen);
            usage.rss_bytes = usage.rss_bytes.saturating_add(process.rss);
            usage.peak_rss_bytes = usage.peak_rss_bytes.saturating_add(process.peak_rss);
            let threads = process.threads.iter();
            usage
                .threads
                .extend(threads.map(|(&id, thread)| ThreadUsage {
                    process: pid,
                    id,
                    name: thread.name.clone(),
                    cpu: thread.sums.cpu,
                }));
        }
        usage
            .threads
            .sort_by_key(|thread| (thread.process, thread.id));
        if !ended.is_zero() {
            usage.threads.push(ThreadUsage {
                name: ENDED_THREADS.to_owned(),
                cpu: ended,
                ..ThreadUsage::default()
            });
        }
        Usage {
            cpu: sums.cpu,
            voluntary: sums.voluntary,
            involuntary: sums.involuntary,
            ..usage
        }
    }

    /// What children of the processes had used that are gone, in clock ticks. A process that is gone takes its children's time with
    /// it to its parent.
    fn reaped(&self) -> u64 {
        let ticks = self.processes.values().map(|process| process.child_ticks);
        if self.with_children {
            ticks.fold(0, u64::saturating_add)
        } else {
            0
        }
    }

    /// Adds children, children's children and so on. One whose parent is gone stays, for it was found before.
    fn find_children(&mut self) {
        if !self.with_children {
            return;
        }
        let all = proc::processes().unwrap_or_default();
        let mut parents: HashMap<u32, Vec<u32>> = HashMap::new();
        for pid in all {
            if let Ok(stat) = proc::stat(pid) {
                parents.entry(stat.parent).or_default().push(pid);
            }
        }
        let mut looked_at = HashSet::new();
        let mut open: Vec<u32> = self.processes.keys().copied().collect();
        while let Some(pid) = open.pop() {
            if !looked_at.insert(pid) {
                continue;
            }
            for &child in parents.get(&pid).into_iter().flatten() {
                if !self.processes.contains_key(&child) && self.processes.len() < MAX_PROCESSES {
                    // It may be gone by now.
                    if let Ok(process) = Process::find(child) {
                        self.processes.insert(child, process);
                    }
                }
                open.push(child);
            }
        }
    }
}

impl Process {
    /// Its threads are still to be read.
    fn find(pid: u32) -> io::Result<Self> {
        let Stat {
            started,
            child_ticks,
            ..
        } = proc::stat(pid)?;
        // Told at the start rather than found missing in every figure.
        proc::thread_cpu(pid, pid)?;
        Ok(Self {
            started,
            child_ticks,
            threads: HashMap::new(),
            ended: Sums::default(),
            unseen: Duration::ZERO,
            rss: 0,
            peak_rss: 0,
        })
    }

    /// Fails if the process is gone.
    fn read(&mut self, pid: u32, memory: Memory) -> io::Result<()> {
        // Before the threads: what they use in the meantime must not look as if it were that of others.
        let stat = proc::stat(pid)?;
        if stat.started != self.started {
            return Err(io::ErrorKind::NotFound.into());
        }
        let ids = proc::threads(pid)?;
        self.child_ticks = stat.child_ticks;
        let mut before = std::mem::take(&mut self.threads);
        for id in ids {
            let mut thread = before.remove(&id).unwrap_or_default();
            let read =
                proc::thread_cpu(pid, id).and_then(|cpu| Ok((cpu, proc::thread_status(pid, id)?)));
            let Ok((cpu, status)) = read else {
                // It has just ended.
                self.ended.add(&thread.sums);
                continue;
            };
            if cpu < thread.sums.cpu {
                // Another thread with the number of one that is gone.
                self.ended.add(&thread.sums);
            }
            self.peak_rss = self.peak_rss.max(status.peak_rss);
            thread.name = status.name;
            thread.sums = Sums {
                cpu,
                voluntary: status.voluntary,
                involuntary: status.involuntary,
            };
            self.threads.insert(id, thread);
        }
        for thread in before.values() {
            self.ended.add(&thread.sums);
        }
        let seen = self.seen().cpu;
        self.unseen = self
            .unseen
            .max(proc::ticks(stat.ticks).saturating_sub(seen));
        self.rss = match memory {
            Memory::PageByPage => proc::exact_rss(pid),
            Memory::AsKept => proc::rss(pid),
        }
        .unwrap_or(0);
        Ok(())
    }

    fn seen(&self) -> Sums {
        let mut sums = self.ended;
        for thread in self.threads.values() {
            sums.add(&thread.sums);
        }
        sums
    }

    fn sums(&self) -> Sums {
        let mut sums = self.seen();
        sums.cpu = sums.cpu.saturating_add(self.unseen);
        sums
    }
}

#[cfg(test)]
mod tests;
