//! Clients that do not take what they asked for.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::ready;

use bytes::Bytes;
use headwater_media::name::StreamName;
use headwater_node::metrics::Metrics;
use headwater_rtmp::command::PlayStart;
use socket2::SockRef;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::metrics::EdgeMetrics;
use crate::player::tests::library::Library;
use crate::player::{Entry, Pacing};
use crate::recorded::Piece;
use crate::testing::PATIENCE;

/// Bytes of a key frame: there are two in a piece.
const KEY: usize = 100_000;

/// Bytes of the socket's buffers: less than a portion, and enough for the kernel not to wait between two segments.
const ROOM: u32 = 65_536;

fn film() -> Library {
    let mut library = Library::file(b'F', 8_000);
    for frame in &mut library.frames {
        if frame.payload.len() > 4_000 {
            let mut payload = frame.payload.to_vec();
            payload.resize(KEY, 0);
            frame.payload = Bytes::from(payload);
        }
    }
    library
}

struct Bench {
    connection: Connection,
    client: TcpStream,
    library: Library,
    /// What the players were given.
    pieces: Vec<Weak<Piece>>,
}

impl Bench {
    /// A client that plays the film on so many streams, with little room in its socket.
    async fn start(streams: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = tokio::net::TcpSocket::new_v4().unwrap();
        client.set_recv_buffer_size(ROOM).unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(client.connect(address), listener.accept());
        let (socket, _) = accepted.unwrap();
        SockRef::from(&socket)
            .set_send_buffer_size(ROOM as usize)
            .unwrap();
        let metrics = EdgeMetrics::new(&Metrics::new("edge", "edge"));
        let meters = Rc::new(metrics.connection());
        let mut bench = Self {
            connection: Connection::new(Transport::Tcp(socket), meters, Instant::now()),
            client: client.unwrap(),
            library: film(),
            pieces: Vec::new(),
        };
        let pacing = Pacing {
            least: Duration::from_secs(3_600),
            most: Duration::from_secs(3_600),
        };
        for stream_id in 1..=streams {
            let mut player = Player::new(stream_id, stream_id, pacing);
            let name = StreamName::new("v", "vod", "i", "film").unwrap();
            let entry = Entry {
                start: PlayStart::At(0),
                ..Entry::new("film", Arc::new(name))
            };
            player.play(entry, true);
            bench.connection.add_player(player);
        }
        bench
    }

    /// Does what the players ask for.
    fn answer(&mut self) {
        while let Some((stream_id, action)) = self.connection.poll_player_action() {
            let player = self.connection.player(stream_id).unwrap();
            match action {
                Action::Describe { number, .. } => {
                    player.described(Duration::ZERO, number, self.library.describe(), false);
                }
                Action::Fetch {
                    number,
                    generation,
                    place,
                    ..
                } => {
                    let piece = self.library.piece(generation, place).unwrap();
                    self.pieces.push(Arc::downgrade(&piece));
                    player.piece(Duration::ZERO, number, Ok(piece));
                }
                _ => {}
            }
        }
    }

    /// Writes until the socket is full or nothing is left.
    fn write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.answer();
            let written = self.connection.pump(cx);
            if !self.connection.take_wish() {
                return written.map(|outcome| outcome.unwrap());
            }
        }
    }

    fn is_full(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.write(&mut cx).is_pending()
    }

    /// As if the socket had been full for long.
    fn wait(&mut self) {
        let since = self.connection.full_since.expect("a full socket");
        self.connection.full_since = since.checked_sub(LET_GO_AFTER);
        let at = self.connection.let_go_at();
        assert!(at.is_none_or(|at| at <= Instant::now()));
    }

    fn pieces_alive(&self) -> usize {
        let alive = |piece: &&Weak<Piece>| piece.strong_count() > 0;
        self.pieces.iter().filter(alive).count()
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_holds_no_pieces() {
    let mut bench = Bench::start(20).await;
    assert!(bench.is_full());
    let given = bench.pieces.len();
    assert!(given >= 20);
    let bound = LITTLE + PORTION + RECORDED_PORTION;
    let waits = bench.connection.pending_bytes;
    assert!((LITTLE..=bound).contains(&waits), "{waits} bytes wait");
    assert!(bench.pieces_alive() > 0, "they are shared");
    bench.wait();
    assert!(bench.is_full());
    assert_eq!(bench.pieces_alive(), 0);
    let pending = bench.connection.pending.iter().map(Bytes::len);
    assert_eq!(pending.sum::<usize>(), waits);
    assert_eq!(bench.connection.let_go_at(), None, "nothing more to do");
    // What comes while the socket is full does not stay either.
    bench.connection.player(7).unwrap().seek(4_000);
    assert!(bench.is_full());
    assert!(bench.pieces.len() > given);
    assert_eq!(bench.pieces_alive(), 0);
}

/// What a client gets, which reads whenever the socket is full.
async fn download(streams: u32, lets_go: bool) -> Vec<u8> {
    let mut bench = Bench::start(streams).await;
    let mut got = Vec::new();
    let mut buffer = [0; 4_096];
    let all = poll_fn(|cx| {
        while bench.write(cx).is_pending() {
            if lets_go {
                bench.wait();
                assert!(bench.write(cx).is_pending());
                assert_eq!(bench.pieces_alive(), 0);
            }
            let mut read = ReadBuf::new(&mut buffer);
            ready!(Pin::new(&mut bench.client).poll_read(cx, &mut read)).unwrap();
            got.extend_from_slice(read.filled());
        }
        Poll::Ready(())
    });
    tokio::time::timeout(PATIENCE, all).await.unwrap();
    let Bench {
        connection,
        mut client,
        ..
    } = bench;
    drop(connection);
    client.read_to_end(&mut got).await.unwrap();
    got
}

#[tokio::test]
async fn what_was_put_away_is_sent_all_the_same() {
    let expected = download(1, false).await;
    assert!(expected.len() > 8 * KEY);
    assert!(download(1, true).await == expected);
    // However many share the socket.
    assert_eq!(
        download(3, true).await.len(),
        download(3, false).await.len()
    );
}
