//! Recent entries.

/// How much a log holds. Whatever the numbers, the newest entry is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// Entries.
    pub entries: usize,
    /// Bytes, of operations.
    pub bytes: usize,
}

impl LogLimits {
    /// 1,024 entries, 4 MiB: some seconds of a busy object.
    pub const DEFAULT: Self = Self {
        entries: 1_024,
        bytes: 4 << 20,
    };
}

impl Default for LogLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
