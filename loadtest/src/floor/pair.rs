//! The floor under a latency: the same frames through a bare TCP connection of the loopback, without any protocol but a length.
//!
//! What a server adds is the difference to it, because timers, scheduling and the kernel's own way are in both.

use std::future::poll_fn;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use headwater_media::frame::FrameKind;
use headwater_media::synthetic::read_stamp;
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;

use super::FloorError;
use crate::clock::now_ns;
use crate::lane::Lane;
use crate::measure::{Latency, LatencyReport, SequenceReport, Sequences};
use crate::pacing::Schedule;
use crate::source::{Source, SourceOptions};

/// Length and kind before each frame.
const HEADER: usize = 5;
const VIDEO: u8 = 9;

const READ_SIZE: usize = 64 * 1024;

/// A sender and a receiver that run. Dropping it stops both.
#[derive(Debug)]
pub struct Floor {
    latency: Latency,
    sequences: Arc<Mutex<Sequences>>,
    tasks: [JoinHandle<()>; 2],
}

impl Floor {
    /// Starts sending on one lane and receiving on another. The first frame leaves after `phase`.
    ///
    /// # Errors
    /// [`FloorError`] if there are no sockets, or no such source.
    pub fn start(
        source: &SourceOptions,
        phase: Duration,
        sender: &Lane,
        receiver: &Lane,
    ) -> Result<Self, FloorError> {
        let source = Source::new(source)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let near = TcpStream::connect(listener.local_addr()?)?;
        let (far, _) = listener.accept()?;
        for socket in [&near, &far] {
            socket.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
        }
        let near = sender.enter(|| tokio::net::TcpStream::from_std(near))?;
        let far = receiver.enter(|| tokio::net::TcpStream::from_std(far))?;
        let latency = Latency::default();
        let sequences = Arc::new(Mutex::new(Sequences::default()));
        let sending = sender.enter(|| tokio::spawn(send(near, source, phase)));
        let receiving = receive(far, latency.clone(), Arc::clone(&sequences));
        let receiving = receiver.enter(|| tokio::spawn(receiving));
        Ok(Self {
            latency,
            sequences,
            tasks: [sending, receiving],
        })
    }

    /// The latencies of video frames so far.
    #[must_use]
    pub fn latency(&self) -> LatencyReport {
        self.latency.report()
    }

    /// The video frames that came so far.
    #[must_use]
    pub fn video(&self) -> SequenceReport {
        self.sequences.lock().report()
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Ends when the other side is gone.
async fn send(mut socket: tokio::net::TcpStream, mut source: Source, phase: Duration) {
    let schedule = Schedule::new(Instant::now() + phase);
    loop {
        tokio::time::sleep_until(schedule.due(source.next_timestamp())).await;
        let frame = source.next_frame(now_ns());
        let Ok(length) = u32::try_from(frame.payload.len()) else {
            return;
        };
        let mut header = BytesMut::with_capacity(HEADER);
        header.put_u32(length);
        header.put_u8(match frame.kind {
            FrameKind::Video => VIDEO,
            _ => 0,
        });
        // One write for both, as a server would.
        let mut message = header.freeze().chain(frame.payload);
        if socket.write_all_buf(&mut message).await.is_err() {
            return;
        }
    }
}

async fn receive(
    mut socket: tokio::net::TcpStream,
    latency: Latency,
    sequences: Arc<Mutex<Sequences>>,
) {
    let mut input = BytesMut::new();
    loop {
        input.reserve(READ_SIZE);
        let read = poll_fn(|cx| poll_read_buf(Pin::new(&mut socket), cx, &mut input)).await;
        if !read.is_ok_and(|count| count > 0) {
            return;
        }
        let now = now_ns();
        while let Some((kind, payload)) = take(&mut input) {
            if kind != VIDEO {
                continue;
            }
            if let Some(stamp) = read_stamp(&payload) {
                latency.record(stamp.sent_at, now);
                sequences.lock().record(stamp);
            }
        }
    }
}

/// The next frame, if all of it is there. The sender is our own, so its lengths are taken as they are.
fn take(input: &mut BytesMut) -> Option<(u8, Bytes)> {
    let [a, b, c, d, kind] = *input.first_chunk::<HEADER>()?;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
    if input.len() - HEADER < length {
        return None;
    }
    input.advance(HEADER);
    Some((kind, input.split_to(length).freeze()))
}

#[cfg(test)]
mod tests {
    use headwater_media::synthetic::Settings;

    use super::*;

    #[tokio::test]
    async fn all_frames_come_through() {
        let (sender, receiver) = (
            Lane::start("floor-send").unwrap(),
            Lane::start("floor-receive").unwrap(),
        );
        let source = SourceOptions::Synthetic(Settings {
            fps: 200,
            ..Settings::default()
        });
        let floor = Floor::start(&source, Duration::ZERO, &sender, &receiver).unwrap();
        let many = async {
            let mut pause = tokio::time::interval(Duration::from_millis(5));
            while floor.video().received < 20 {
                pause.tick().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), many)
            .await
            .unwrap();
        let video = floor.video();
        assert_eq!(
            (video.first, video.missing, video.repeated),
            (Some(0), 0, 0)
        );
        let latency = floor.latency();
        assert!(latency.count >= 20 && latency.foreign_clock == 0);
        assert!(latency.p50_us >= 1 && latency.max_us < 5_000_000);
    }
}
