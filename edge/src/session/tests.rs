//! Sessions on a running edge, with real sockets, and an origin that is in this process.

mod application;
mod bench;
mod handled;
mod playback;
mod policy;

use super::*;

fn size_of_result<F>(_: impl FnOnce(Rc<Worker>, Transport, SocketAddr, Place) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn a_client_that_waits_is_small() {
    // Ten thousand viewers are ten thousand of these.
    let session = size_of_result(run) + size_of::<Session>();
    assert!(session <= 2_048, "{session} bytes");
    let parts = [size_of::<ServerSession>(), size_of::<Connection>()];
    assert!(parts.iter().sum::<usize>() <= 1_280, "{parts:?} bytes");
}
