//! What a call costs in memory for as long as its stream.

use crate::rpc::{append, read};

/// The size of the future that a function gives.
fn future_size<A, B, C, D, F: Future>(_: impl FnOnce(A, B, C, D) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn the_task_of_a_publisher_is_small() {
    let bytes = future_size(append::serve);
    assert!(bytes <= 3_072, "{bytes} bytes");
}

#[test]
fn the_task_of_a_reader_is_small() {
    let bytes = future_size(read::serve);
    assert!(bytes <= 3_072, "{bytes} bytes");
}
