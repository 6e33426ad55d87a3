//! The in-process transport: a standalone node calls its own origin through the same gRPC services, over pipes in memory.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_stream::Stream;

/// Bytes that one direction of a pipe holds before the writer waits. A few key frames, so that two tasks on different threads
/// need not take turns for every message; small next to the HTTP/2 windows, which bound what is under way.
const PIPE_CAPACITY: usize = 512 << 10;

/// Connections that were asked for and not yet accepted. Past it a connect waits.
const BACKLOG: usize = 16;

/// The calling end. Clones connect to the same server.
#[derive(Clone, Debug)]
pub struct LocalConnector {
    accept: mpsc::Sender<DuplexStream>,
}

/// The accepting end: a stream of connections for [`crate::server::serve`]. Ends when every connector is gone.
#[derive(Debug)]
pub struct LocalIncoming {
    connections: mpsc::Receiver<DuplexStream>,
}

/// Makes both ends.
pub fn pair() -> (LocalConnector, LocalIncoming) {
    let (accept, connections) = mpsc::channel(BACKLOG);
    (LocalConnector { accept }, LocalIncoming { connections })
}

impl LocalConnector {
    /// Makes a connection.
    ///
    /// # Errors
    /// `ConnectionRefused` when the server has stopped.
    pub async fn connect(&self) -> io::Result<DuplexStream> {
        let (near, far) = tokio::io::duplex(PIPE_CAPACITY);
        self.accept.send(far).await.map_err(|_| {
            io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "the local server has stopped",
            )
        })?;
        Ok(near)
    }
}

impl Stream for LocalIncoming {
    type Item = io::Result<DuplexStream>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.connections
            .poll_recv(context)
            .map(|connection| connection.map(Ok))
    }
}
