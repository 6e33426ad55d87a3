//! Files of `/proc` (proc(5)), parsed. Paths in, figures out; texts that are not as expected give `InvalidData`.

use std::fs;
use std::io;
use std::time::Duration;

/// What is needed of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) parent: u32,
    /// In clock ticks since the machine was started. With the number it tells a process from all others.
    pub(super) started: u64,
    /// CPU time of all threads that there ever were, in clock ticks.
    pub(super) ticks: u64,
    /// CPU time of children that have ended and were waited for, and of theirs, in clock ticks.
    pub(super) child_ticks: u64,
}

/// What is needed of `/proc/PID/task/TID/status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) name: String,
    pub(super) voluntary: u64,
    pub(super) involuntary: u64,
    /// The most resident memory of the process, in bytes.
    pub(super) peak_rss: u64,
}

pub(super) fn stat(pid: u32) -> io::Result<Stat> {
    parse_stat(&read(&format!("/proc/{pid}/stat"))?).ok_or_else(strange)
}

/// CPU time of a thread.
pub(super) fn thread_cpu(pid: u32, thread: u32) -> io::Result<Duration> {
    let text = read(&format!("/proc/{pid}/task/{thread}/schedstat"))?;
    let nanoseconds = text.split_whitespace().next();
    let nanoseconds = nanoseconds.and_then(|text| text.parse().ok());
    nanoseconds.map(Duration::from_nanos).ok_or_else(strange)
}

pub(super) fn thread_status(pid: u32, thread: u32) -> io::Result<Status> {
    let text = read(&format!("/proc/{pid}/task/{thread}/status"))?;
    Ok(parse_status(&text))
}

/// Resident memory in bytes, page by page if the kernel lets us, and else as [`rss`].
pub(super) fn exact_rss(pid: u32) -> io::Result<u64> {
    // Needs the right to trace the process, and a kernel with that file.
    match read(&format!("/proc/{pid}/smaps_rollup")) {
        Ok(text) => Ok(labelled(&text, "Rss").unwrap_or(0)),
        Err(_) => rss(pid),
    }
}

/// Resident memory in bytes as the kernel keeps it.
pub(super) fn rss(pid: u32) -> io::Result<u64> {
    let text = read(&format!("/proc/{pid}/statm"))?;
    let pages = text.split_whitespace().nth(1);
    let pages: Option<u64> = pages.and_then(|text| text.parse().ok());
    let size = rustix::param::page_size() as u64;
    pages
        .map(|pages| pages.saturating_mul(size))
        .ok_or_else(strange)
}

/// Numbers of the threads of a process.
pub(super) fn threads(pid: u32) -> io::Result<Vec<u32>> {
    numbers(&format!("/proc/{pid}/task"))
}

/// Numbers of all processes that can be seen.
pub(super) fn processes() -> io::Result<Vec<u32>> {
    numbers("/proc")
}

/// Clock ticks as time.
pub(super) fn ticks(count: u64) -> Duration {
    let rate = rustix::param::clock_ticks_per_second().max(1);
    let nanoseconds = u128::from(count) * 1_000_000_000 / u128::from(rate);
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

/// Names that are numbers in a folder.
fn numbers(folder: &str) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(numbers)
}

/// Names of programs need not be UTF-8.
fn read(path: &str) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}

fn strange() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a strange answer of /proc")
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The second field is a name in parentheses, in which anything may be.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // Numbered from 1 in proc(5); the first one here is number 3.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(field(4)?).ok()?,
        started: field(22)?,
        ticks: field(14)?.saturating_add(field(15)?),
        child_ticks: field(16)?.saturating_add(field(17)?),
    })
}

fn parse_status(text: &str) -> Status {
    let name = text.lines().find_map(|line| line.strip_prefix("Name:\t"));
    Status {
        name: name.unwrap_or_default().to_owned(),
        voluntary: labelled(text, "voluntary_ctxt_switches").unwrap_or(0),
        involuntary: labelled(text, "nonvoluntary_ctxt_switches").unwrap_or(0),
        // A process that has ended has none.
        peak_rss: labelled(text, "VmHWM").unwrap_or(0),
    }
}

/// The number behind a label at the start of a line; what is told in kB as bytes.
fn labelled(text: &str, label: &str) -> Option<u64> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(label)?.strip_prefix(':'))?;
    let mut words = value.split_whitespace();
    let number: u64 = words.next()?.parse().ok()?;
    match words.next() {
        Some("kB") => number.checked_mul(1024),
        _ => Some(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_look_like_the_rest_of_the_line() {
        let text = "31538 (a) S 1 (b)) R 31529 31529 18005 0 -1 4194304 100 0 0 0 70 30 5 6 20 0 1 0 1337772 3133440 394\n";
        let expected = Stat {
            parent: 31529,
            started: 1_337_772,
            ticks: 100,
            child_ticks: 11,
        };
        assert_eq!(parse_stat(text), Some(expected));
        for wrong in ["", "1 (x) R 2 3", "1 x R 2 3", ")", "1 (x) R -1"] {
            assert_eq!(parse_stat(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn labels_are_those_at_the_start_of_a_line() {
        let text = "Name:\tedge worker\nVmHWM:\t    1688 kB\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t3\n";
        let expected = Status {
            name: "edge worker".to_owned(),
            voluntary: 7,
            involuntary: 3,
            peak_rss: 1688 * 1024,
        };
        assert_eq!(parse_status(text), expected);
        assert_eq!(parse_status(""), Status::default());
        assert_eq!(labelled("Rss:  x kB", "Rss"), None);
        assert_eq!(labelled("Rss: 18446744073709551615 kB", "Rss"), None);
        assert_eq!(labelled("RssAnon: 1 kB\nRss: 2 kB", "Rss"), Some(2048));
    }

    #[test]
    fn this_process_can_be_read() {
        let own = std::process::id();
        let found = stat(own).unwrap();
        assert!(found.started > 0);
        assert!(processes().unwrap().contains(&own));
        let threads = threads(own).unwrap();
        assert!(threads.contains(&own), "{threads:?}");
        assert!(thread_cpu(own, own).unwrap() > Duration::ZERO);
        assert!(!thread_status(own, own).unwrap().name.is_empty());
        let (exact, kept) = (exact_rss(own).unwrap(), rss(own).unwrap());
        // The kernel's counters lag behind, but not by a factor.
        assert!(
            exact > 100_000 && exact / 2 < kept && kept / 2 < exact,
            "{exact} {kept}"
        );
        assert_eq!(stat(u32::MAX).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(ticks(0), Duration::ZERO);
    }
}
