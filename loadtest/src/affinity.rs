//! Which processors threads run on, so that a server and its viewers do not take each other's.
//!
//! Only Linux tells and takes this; elsewhere both functions fail and say so. A thread hands its processors down to the threads and
//! processes that it starts.

use std::io;

/// The processors that this thread may run on, in ascending order.
///
/// # Errors
/// The system does not tell.
#[cfg(target_os = "linux")]
pub fn allowed() -> io::Result<Vec<usize>> {
    use rustix::thread::{CpuSet, sched_getaffinity};

    let set = sched_getaffinity(None)?;
    let all = 0..CpuSet::MAX_CPU;
    Ok(all.filter(|&cpu| set.is_set(cpu)).collect())
}

/// Binds this thread, and those that it starts from now on, to these processors.
///
/// # Errors
/// There is no such processor, or this process may not use one of them.
#[cfg(target_os = "linux")]
pub fn bind(cpus: &[usize]) -> io::Result<()> {
    use rustix::thread::{CpuSet, sched_setaffinity};

    let mut set = CpuSet::new();
    for &cpu in cpus {
        if cpu >= CpuSet::MAX_CPU {
            return Err(unusable(cpus, &io::ErrorKind::InvalidInput.into()));
        }
        set.set(cpu);
    }
    sched_setaffinity(None, &set).map_err(|error| unusable(cpus, &error.into()))
}

#[cfg(target_os = "linux")]
fn unusable(cpus: &[usize], cause: &io::Error) -> io::Error {
    io::Error::new(
        cause.kind(),
        format!("cannot run on processors {cpus:?}: {cause}"),
    )
}

/// The processors that this thread may run on.
///
/// # Errors
/// Always: this system does not tell.
#[cfg(not(target_os = "linux"))]
pub fn allowed() -> io::Result<Vec<usize>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Binds this thread to processors.
///
/// # Errors
/// Always: this system does not take it.
#[cfg(not(target_os = "linux"))]
pub fn bind(_cpus: &[usize]) -> io::Result<()> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "threads can be bound to processors on Linux only",
    ))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_bound_and_others_are_not() {
        let before = allowed().unwrap();
        let first = *before.first().unwrap();
        let inside = std::thread::spawn(move || {
            bind(&[first]).unwrap();
            allowed().unwrap()
        });
        assert_eq!(inside.join().unwrap(), [first]);
        assert_eq!(allowed().unwrap(), before);
    }

    #[test]
    fn processors_that_are_not_there_are_told() {
        for cpus in [&[1_023][..], &[5_000], &[]] {
            assert!(bind(cpus).is_err(), "{cpus:?}");
        }
    }
}
