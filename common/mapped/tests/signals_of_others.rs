//! Faults outside our maps end the process as they did before. Each test runs itself again as a child that is to be killed.
#![cfg(target_os = "linux")]
#![expect(unsafe_code, reason = "the faults are real ones")]

use std::fs::File;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::ptr;

use headwater_mapped::Mapped;
use memmap2::{MmapOptions, MmapRaw};

/// Set in a child.
const CHILD: &str = "HEADWATER_MAPPED_TEST_CHILD";

/// What the handler that was there before leaves with.
const HANDLED: i32 = 42;

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Runs the test named `test` of this program in a process of its own.
fn run(test: &str) -> ExitStatus {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("a child")
}

fn file() -> File {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&[7; 10_000]).expect("room for it");
    file
}

/// Makes our handler the one of the process, and proves that it works.
fn protected() -> Mapped {
    let mapped = Mapped::open(file()).expect("a regular file");
    assert!(mapped.is_mapped());
    assert_eq!(
        mapped.read_at(0, 10_000).expect("all of it"),
        vec![7; 10_000]
    );
    mapped
}

/// A map that we know nothing of, of a file that was cut.
fn foreign() -> MmapRaw {
    let file = file();
    let map = MmapOptions::new().map_raw_read_only(&file).expect("a map");
    file.set_len(0).expect("a cut");
    map
}

fn touch(map: &MmapRaw) {
    // SAFETY: within the map. It is meant to fault, and no value comes out of it.
    let byte = unsafe { ptr::read_volatile(map.as_ptr()) };
    // Only reached where the fault was hidden.
    assert_eq!(byte, 7);
}

extern "C" fn leave(_: libc::c_int) {
    // SAFETY: async-signal-safe.
    unsafe { libc::_exit(HANDLED) };
}

#[test]
fn a_fault_in_a_foreign_map_kills() {
    if is_child() {
        let _ours = protected();
        touch(&foreign());
        return;
    }
    let status = run("a_fault_in_a_foreign_map_kills");
    assert_eq!(status.signal(), Some(libc::SIGBUS), "{status:?}");
}

#[test]
fn a_fault_in_a_foreign_map_kills_where_the_signal_had_its_default() {
    if is_child() {
        // SAFETY: no handler runs Rust code.
        unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
        let _ours = protected();
        touch(&foreign());
        return;
    }
    let status = run("a_fault_in_a_foreign_map_kills_where_the_signal_had_its_default");
    assert_eq!(status.signal(), Some(libc::SIGBUS), "{status:?}");
}

#[test]
fn a_signal_that_is_sent_kills() {
    if is_child() {
        // SAFETY: as above; then the signal is sent to this thread.
        unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
        let _ours = protected();
        // SAFETY: the handler returns or ends the process.
        unsafe { libc::raise(libc::SIGBUS) };
        return;
    }
    let status = run("a_signal_that_is_sent_kills");
    assert_eq!(status.signal(), Some(libc::SIGBUS), "{status:?}");
}

#[test]
fn a_signal_that_is_sent_and_was_ignored_stays_ignored() {
    if is_child() {
        // SAFETY: as above.
        unsafe { libc::signal(libc::SIGBUS, libc::SIG_IGN) };
        let _ours = protected();
        // SAFETY: as above.
        unsafe { libc::raise(libc::SIGBUS) };
        return;
    }
    let status = run("a_signal_that_is_sent_and_was_ignored_stays_ignored");
    assert!(status.success(), "{status:?}");
}

#[test]
fn the_handler_that_was_there_before_gets_what_is_not_ours() {
    if is_child() {
        // SAFETY: the handler only leaves.
        unsafe { libc::signal(libc::SIGBUS, leave as *const () as libc::sighandler_t) };
        let _ours = protected();
        touch(&foreign());
        return;
    }
    let status = run("the_handler_that_was_there_before_gets_what_is_not_ours");
    assert_eq!(status.code(), Some(HANDLED), "{status:?}");
}
