//! Ports that nobody else takes: below the range from which the system gives ports of its own accord, and locked between the
//! processes of a test run.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

/// Ports to choose from.
const RANGE: std::ops::Range<u16> = 12_000..32_000;

/// A port of 127.0.0.1 that is ours while this lives.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    /// Unlocked when it is dropped.
    _lock: File,
}

impl Port {
    /// Takes a free one.
    pub(crate) fn reserve() -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ports");
        std::fs::create_dir_all(&folder).expect("a folder for port locks");
        for _ in 0..1_000 {
            let number = rand::random_range(RANGE);
            let lock = File::create(folder.join(number.to_string())).expect("a port lock");
            let is_ours = lock.try_lock().is_ok();
            if is_ours && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Self {
                    number,
                    _lock: lock,
                };
            }
        }
        panic!("no free port among a thousand");
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}
