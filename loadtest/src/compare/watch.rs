//! What looks after a comparison while it waits.

use std::time::Duration;

/// Signals and the progress line: the command line has one, tests another.
pub trait Watch {
    /// Waits until `is_over`, the limit has passed, or somebody interrupts; tells whether it is over. Shows what `progress` says
    /// meanwhile. After an interruption it does not wait any more.
    fn wait(
        &mut self,
        limit: Option<Duration>,
        is_over: &mut dyn FnMut() -> bool,
        progress: &dyn Fn() -> String,
    ) -> bool;

    /// Whether somebody interrupted.
    fn is_interrupted(&self) -> bool;

    /// Says something that stays: a measurement is done.
    fn say(&mut self, text: &str);
}
