//! The handler of SIGBUS: sigaction(2), signal-safety(7).
//!
//! Installed once, with the first map, for all threads, and never taken away. It runs on the alternate stack where a thread has one.
#![expect(
    unsafe_code,
    reason = "signal handlers and maps at fixed addresses are beyond what safe Rust can express"
)]

use std::ptr;
use std::sync::OnceLock;

use libc::{c_int, c_void, sigaction, siginfo_t};

use crate::registry::Registry;

/// Maps at a time; what is opened beyond them is read with `pread`. A slot costs 32 bytes.
const MAX_MAPS: usize = 8_192;

/// All maps of the process.
pub(crate) static REGISTRY: Registry<MAX_MAPS> = Registry::new();

/// What was done with SIGBUS before; set before our handler can run.
static PREVIOUS: OnceLock<sigaction> = OnceLock::new();

/// Installs the handler, the first time it is called. `false`: there is none, and nothing may be mapped.
pub(crate) fn install() -> bool {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    *INSTALLED.get_or_init(|| {
        // SAFETY: `sigaction` is a C structure of integers and an optional function, for which zeros are a value.
        let mut previous: sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: asks only; `previous` is valid for writing.
        if unsafe { sigaction(libc::SIGBUS, ptr::null(), &raw mut previous) } != 0 {
            return false;
        }
        PREVIOUS.get_or_init(|| previous);
        // SAFETY: as above.
        let mut ours: sigaction = unsafe { std::mem::zeroed() };
        ours.sa_sigaction = handle as *const () as usize;
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        // SAFETY: `ours` is valid; `handle` has the signature that SA_SIGINFO asks for, and does nothing that a handler may not do.
        unsafe {
            libc::sigemptyset(&raw mut ours.sa_mask);
            sigaction(libc::SIGBUS, &raw const ours, ptr::null_mut()) == 0
        }
    })
}

/// Async-signal-safe: atomics, `mmap`, `sigaction`, `raise`.
extern "C" fn handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: SA_SIGINFO makes the kernel give a valid `info`; the address is there for every SIGBUS, and only used where the code says
    // that the kernel raised it.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr()) };
    // Raised by the access that this thread is at. Others (BUS_MCEERR_AO, kill) say nothing of who uses the address.
    let by_access = code == libc::BUS_ADRERR || code == libc::BUS_MCEERR_AR;
    if !(by_access && mend(address as usize)) {
        // SAFETY: these are the arguments of the signal that is being handled.
        unsafe { pass_on(signal, code, info, context) };
    }
}

/// Where `address` is in a registered map: marks it as torn, and lays zero pages over all of it, so that the access that failed can go on.
///
/// All of it, not only what is missing: that replaces one map by one, which needs no room in the kernel's table of maps, and one fault
/// is enough. Nothing is lost, because a torn map is never read again.
fn mend(address: usize) -> bool {
    let Some(found) = REGISTRY.find(address) else {
        return false;
    };
    found.tear();
    // SAFETY: the thread faulted while it read the map that has this range, so it holds that map, and nobody can unmap it or give its
    // addresses to another one before this returns. No reference points into it. `__errno_location` gives a valid pointer to
    // the thread's own `errno`, which what was interrupted may be about to look at.
    unsafe {
        let errno = libc::__errno_location();
        let kept = *errno;
        let mapped = libc::mmap(
            found.start as *mut c_void,
            found.end - found.start,
            libc::PROT_READ,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE,
            -1,
            0,
        );
        *errno = kept;
        mapped != libc::MAP_FAILED
    }
}

/// Does what would have been done with the signal without us.
///
/// # Safety
/// The arguments must be those of a signal that is being handled.
unsafe fn pass_on(signal: c_int, code: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // Sent by a process, so that nothing happens again when the handler returns.
    let sent = code <= 0;
    let previous = PREVIOUS.get();
    match previous.map_or(libc::SIG_DFL, |previous| previous.sa_sigaction) {
        libc::SIG_IGN if sent => {}
        // The kernel does not let an access fail and be ignored.
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: zeros are a `sigaction`, that of the default. An access fails again when the handler returns, a signal that was sent is
            // sent again, and is delivered then.
            unsafe {
                let default: sigaction = std::mem::zeroed();
                sigaction(signal, &raw const default, ptr::null_mut());
                if sent {
                    libc::raise(signal);
                }
            }
        }
        handler => {
            let wants_info =
                previous.is_some_and(|previous| previous.sa_flags & libc::SA_SIGINFO != 0);
            // SAFETY: the kernel was given this address as a handler, with the flag that says which of the two kinds it is.
            unsafe {
                if wants_info {
                    let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
                        std::mem::transmute(handler);
                    handler(signal, info, context);
                } else {
                    let handler: extern "C" fn(c_int) = std::mem::transmute(handler);
                    handler(signal);
                }
            }
        }
    }
}
