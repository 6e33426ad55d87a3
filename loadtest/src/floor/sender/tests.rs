use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::BytesMut;
use headwater_media::synthetic::{Settings, read_stamp};
use headwater_rtmp::chunk::{ChunkReader, ReaderLimits};
use headwater_rtmp::message::{Message, MessageType};

use super::*;
use crate::floor::log::Log;
use crate::floor::outlet::Figures;
use crate::floor::{CHUNK_SIZE, LOG_BYTES};
use crate::measure::Sequences;
use crate::source::SourceFrame;

const PATIENCE: Duration = Duration::from_secs(20);

struct Running {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<SenderReport>,
}

impl Running {
    fn start(sender: Sender) -> Self {
        let (address, stop) = (sender.address(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        Self {
            address,
            stop,
            thread: std::thread::spawn(move || sender.run(&stopped)),
        }
    }

    fn stop(self) -> SenderReport {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// An outlet that keeps what it gets.
#[derive(Clone, Debug, Default)]
struct Kept {
    frames: Arc<parking_lot::Mutex<Vec<SourceFrame>>>,
}

impl Outlet for Kept {
    fn add(&mut self, frame: &SourceFrame) {
        self.frames.lock().push(frame.clone());
    }

    fn has_video(&self) -> bool {
        true
    }

    fn pending(&self) -> usize {
        let frames = self.frames.lock();
        frames.iter().map(|frame| frame.payload.len()).sum()
    }

    fn flush(&mut self, _now: u64) {}

    fn accept(&mut self, _report: &mut SenderReport) {}

    fn figures(&self) -> Figures {
        Figures::default()
    }
}

fn fast(flush: Flush) -> SenderOptions {
    SenderOptions {
        flush,
        source: SourceOptions::Synthetic(Settings {
            fps: 200,
            gop: 20,
            video_bitrate: 1_000_000,
            ..Settings::default()
        }),
        ..SenderOptions::default()
    }
}

/// The viewer's end of a connection.
struct Receiver {
    socket: TcpStream,
    reader: ChunkReader,
    input: BytesMut,
}

impl Receiver {
    fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut input = BytesMut::new();
        // Nothing on the wire says it.
        input.extend_from_slice(&[2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0]);
        input.extend_from_slice(&CHUNK_SIZE.to_be_bytes());
        Self {
            socket,
            reader: ChunkReader::new(ReaderLimits::default()),
            input,
        }
    }

    /// Nothing if the connection is closed.
    fn message(&mut self) -> Option<Message> {
        let mut buffer = [0; 65_536];
        loop {
            if let Some(message) = self.reader.handle_input(&mut self.input).unwrap() {
                if message.kind == MessageType::SET_CHUNK_SIZE {
                    continue;
                }
                return Some(message);
            }
            let count = match self.socket.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
                Err(error) => panic!("{error}"),
            };
            if count == 0 {
                return None;
            }
            self.input.extend_from_slice(&buffer[..count]);
        }
    }

    /// So many stamped video frames, and all that came between.
    fn frames(&mut self, count: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        let mut frames = 0;
        while frames < count {
            let message = self.message().expect("more frames");
            frames += usize::from(is_frame(&message));
            messages.push(message);
        }
        messages
    }
}

fn is_frame(message: &Message) -> bool {
    message.kind == MessageType::VIDEO && read_stamp(&message.payload).is_some()
}

fn check(messages: &[Message]) {
    let kinds: Vec<u8> = messages.iter().map(|one| one.kind.0).take(4).collect();
    assert_eq!(kinds, [18, 9, 8, 9]);
    let mut sequences = [Sequences::default(), Sequences::default()];
    let mut first = None;
    for message in messages {
        let Some(stamp) = read_stamp(&message.payload) else {
            continue;
        };
        let [video, audio] = &mut sequences;
        if message.kind == MessageType::VIDEO {
            first.get_or_insert(stamp.sequence);
            video.record(stamp);
        } else {
            audio.record(stamp);
        }
        assert!(stamp.sent_at <= now_ns());
    }
    // The first frame of a GOP.
    assert_eq!(first.unwrap() % 20, 0);
    for sequence in sequences {
        let report = sequence.report();
        assert!(report.received > 0);
        assert_eq!((report.missing, report.repeated), (0, 0), "{report:?}");
    }
}

#[test]
fn every_socket_gets_the_stream_from_a_key_frame_on() {
    for flush in [
        Flush::Frame,
        Flush::Message,
        Flush::Every(Duration::from_millis(30)),
    ] {
        let running = Running::start(Sender::bind(&fast(flush)).unwrap());
        let mut receivers: Vec<_> = (0..5).map(|_| Receiver::connect(running.address)).collect();
        for receiver in &mut receivers {
            check(&receiver.frames(50));
        }
        // One that comes in the midst of it.
        let mut late = Receiver::connect(running.address);
        let messages = late.frames(30);
        check(&messages);
        let key = messages.iter().find(|message| is_frame(message)).unwrap();
        assert!(read_stamp(&key.payload).unwrap().sequence > 0);
        drop(receivers.pop());
        late.frames(100);
        let report = running.stop();
        assert_eq!((report.accepted, report.most), (6, 6), "{report:?}");
        assert_eq!((report.left, report.cut_off), (1, 0), "{report:?}");
        assert!(report.is_without_loss());
        assert!(report.bytes > 0 && report.cpu_seconds > 0.0 && report.send_us > 0.0);
        let (flushes, messages) = (report.flushes, report.messages);
        match flush {
            Flush::Message => assert_eq!(flushes, messages),
            Flush::Frame => assert!(
                flushes <= report.video_frames + 1 && flushes > report.video_frames / 4,
                "{report:?}"
            ),
            Flush::Every(_) => {
                assert!(flushes as f64 <= report.seconds / 0.030 + 1.0, "{report:?}")
            }
        }
        assert!(report.sends <= flushes * 6, "{report:?}");
    }
}

#[test]
fn a_socket_that_is_full_goes_on_where_it_stood() {
    let options = SenderOptions {
        source: SourceOptions::Synthetic(Settings {
            fps: 200,
            gop: 20,
            // Some megabytes in a tenth of a second, more than sockets hold.
            video_bitrate: 200_000_000,
            ..Settings::default()
        }),
        ..SenderOptions::default()
    };
    let running = Running::start(Sender::bind(&options).unwrap());
    let mut slow = Receiver::connect(running.address);
    let mut other = Receiver::connect(running.address);
    // While this one reads a second of the stream, that one reads nothing.
    let ahead = other.frames(200);
    let behind = slow.frames(210);
    check(&ahead);
    check(&behind);
    let report = running.stop();
    assert!(report.full > 0, "{report:?}");
    assert_eq!(report.cut_off, 0, "{report:?}");
}

#[test]
fn a_socket_that_is_behind_the_log_is_closed() {
    let mut options = fast(Flush::Frame);
    options.source = SourceOptions::Synthetic(Settings {
        fps: 200,
        gop: 20,
        video_bitrate: 200_000_000,
        ..Settings::default()
    });
    let mut sender = Sender::bind(&options).unwrap();
    let log = Log::new(100, LOG_BYTES);
    (sender.outlet, sender.address) = Crowd::with_log(options.listen, log).unwrap();
    let running = Running::start(sender);
    let mut stuck = Receiver::connect(running.address);
    let mut reading = Receiver::connect(running.address);
    check(&reading.frames(200));
    let mut frames = 0;
    while let Some(message) = stuck.message() {
        frames += usize::from(is_frame(&message));
    }
    // What the sockets held, and then the end.
    assert!((1..200).contains(&frames), "{frames}");
    let report = running.stop();
    assert_eq!((report.cut_off, report.left), (1, 0), "{report:?}");
    assert!(!report.is_without_loss());
}

#[test]
fn a_run_ends_in_time_and_without_anybody() {
    let options = SenderOptions {
        seconds: Some(Duration::from_millis(150)),
        ..fast(Flush::Every(Duration::from_secs(10)))
    };
    let report = Sender::bind(&options).unwrap().run(&AtomicBool::new(false));
    assert!(report.seconds >= 0.15 && report.seconds < 5.0, "{report:?}");
    // The start of the stream, at once.
    assert_eq!((report.flushes, report.accepted), (1, 0), "{report:?}");
    let stopped = Sender::bind(&fast(Flush::Frame)).unwrap();
    let report = stopped.run(&AtomicBool::new(true));
    assert_eq!(report.messages, 0, "{report:?}");
}

#[test]
fn a_sender_that_is_busy_stamps_what_was_due() {
    let mut sender = Sender::bind(&fast(Flush::Frame)).unwrap();
    let stop = AtomicBool::new(false);
    // As if it had been busy for a second.
    let clock = Clock {
        begun: now_ns() - 1_000 * MILLISECOND,
        end: None,
        stop: &stop,
    };
    let kept = Kept::default();
    sender.outlet = Box::new(kept.clone());
    assert!(sender.fill(&clock));
    // All of that second leaves together.
    let report = &sender.report;
    assert!(report.video_frames >= 200, "{report:?}");
    assert!(report.most_behind_ms >= 1_000.0, "{report:?}");
    let frames = kept.frames.lock();
    let video = frames.iter().filter(|frame| frame.kind == FrameKind::Video);
    let stamps = video.filter_map(|frame| read_stamp(&frame.payload));
    let stamps: Vec<u64> = stamps
        .map(|stamp| (stamp.sent_at - clock.begun) / MILLISECOND)
        .collect();
    assert_eq!(stamps[..4], [0, 5, 10, 15]);
    assert!(stamps.is_sorted());
}

#[test]
fn what_is_too_much_for_one_flush_does_not_wait_for_the_next_tick() {
    let mut sender = Sender::bind(&SenderOptions {
        flush: Flush::Every(Duration::from_secs(3600)),
        source: SourceOptions::Synthetic(Settings {
            fps: 100,
            video_bitrate: 200_000_000,
            ..Settings::default()
        }),
        ..SenderOptions::default()
    })
    .unwrap();
    let stop = AtomicBool::new(false);
    let hour = 3_600_000 * MILLISECOND;
    // The first tick was just now, and all of the hour before it is due.
    let clock = Clock {
        begun: now_ns().saturating_sub(hour),
        end: None,
        stop: &stop,
    };
    for _ in 0..3 {
        assert!(sender.fill(&clock));
        let size = sender.outlet.pending();
        sender.outlet.flush(0);
        assert!((MAX_TOGETHER..MAX_TOGETHER * 4).contains(&size), "{size}");
    }
    assert!(sender.report.video_frames > 3);
}

#[test]
fn an_address_in_use_is_told() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let options = SenderOptions {
        listen: taken.local_addr().unwrap(),
        ..SenderOptions::default()
    };
    let error = Sender::bind(&options).unwrap_err().to_string();
    assert!(error.starts_with("cannot listen on 127.0.0.1:"), "{error}");
}
