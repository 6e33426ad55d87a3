use super::*;

mod recorded;

/// The size of the future that a function gives.
fn future_size<A, B, C, D, F: Future>(_: impl FnOnce(A, B, C, D) -> F) -> usize {
    size_of::<F>()
}

/// Each published stream has such a task for as long as it is published.
#[test]
fn the_task_of_a_stream_is_small() {
    let bytes = future_size(append);
    assert!(bytes <= 3_072, "{bytes} bytes");
    // What the runtime is handed.
    assert!(future_size(run) <= 8);
}

/// A block of a queue has room for some thirty messages.
#[test]
fn a_message_takes_little_room_in_its_queue() {
    let message = ask(Ask::Close(v1::AppendClose::default()));
    assert!(size_of_val(&message) <= 8);
}
