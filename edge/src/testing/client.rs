//! An edge with real sockets in front of origins of a test, and RTMP clients of it.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use headwater_media::frame::FrameKind;
use headwater_node::address::ListenAddress;
use headwater_node::metrics::Metrics;
use headwater_node::readiness::Readiness;
use headwater_node::shutdown::Shutdown;
use headwater_rtmp::client::{ClientConfig, ClientEvent, ClientSession, ConnectParameters};
use headwater_rtmp::command::DataKind;
use headwater_rtmp::server::MediaFrame;
use headwater_rtmp::status::Status;
use headwater_rtmp::url::RtmpUrl;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Origins, PATIENCE};
use crate::{Edge, EdgeConfig, EdgeNode};

/// Starts an edge. It stops when the test says so, or ends.
pub(crate) fn edge(origins: &Origins) -> (String, Shutdown) {
    let mut config = EdgeConfig::default();
    config.rtmp.listen = vec!["127.0.0.1:0".parse::<ListenAddress>().unwrap()];
    config.edge.fanout.workers = 1;
    let shutdown = Shutdown::new(Duration::from_secs(5));
    let node = EdgeNode {
        id: "edge".to_owned(),
        cluster: origins.upstream.cluster.clone(),
        metrics: Metrics::new("edge", "edge"),
        readiness: Readiness::new(),
        shutdown: shutdown.clone(),
    };
    let edge = Edge::start(config, node).unwrap();
    let url = format!("rtmp://{}/live", edge.listening()[0].address);
    (url, shutdown)
}

/// A connected client.
pub(crate) struct Client {
    socket: TcpStream,
    pub(crate) session: ClientSession,
    input: BytesMut,
    started: Instant,
}

impl Client {
    pub(crate) async fn connect(url: &str) -> Self {
        let url = RtmpUrl::parse(url).unwrap();
        let address = (url.host.clone(), url.port.unwrap());
        let random = std::array::from_fn(|_| 7);
        let mut client = Self {
            socket: TcpStream::connect(address).await.unwrap(),
            session: ClientSession::new(ClientConfig::default(), random, Duration::ZERO),
            input: BytesMut::new(),
            started: Instant::now(),
        };
        let parameters = ConnectParameters::new(&url);
        client.session.connect(&parameters).unwrap();
        let connected = |event: &ClientEvent| matches!(event, ClientEvent::Connected { .. });
        client.until(connected).await;
        client
    }

    /// A new message stream.
    pub(crate) async fn create_stream(&mut self) -> u32 {
        self.session.create_stream().unwrap();
        let created = |event: &ClientEvent| matches!(event, ClientEvent::StreamCreated { .. });
        match self.until(created).await {
            ClientEvent::StreamCreated { stream_id, .. } => stream_id,
            _ => unreachable!("it was looked for"),
        }
    }

    /// Sends a key frame of this media time, in milliseconds.
    pub(crate) async fn key_frame(&mut self, stream_id: u32, timestamp: u32) {
        let frame = MediaFrame {
            kind: FrameKind::Video,
            timestamp,
            data: DataKind::Plain,
            payload: vec![0x17, 1, 0, 0, 0].into(),
        };
        self.session.send_media(stream_id, &frame).unwrap();
        self.transmit().await;
    }

    /// The next status of a stream.
    pub(crate) async fn status(&mut self) -> Status {
        let told = |event: &ClientEvent| matches!(event, ClientEvent::Status { .. });
        match self.until(told).await {
            ClientEvent::Status { status, .. } => status,
            _ => unreachable!("it was looked for"),
        }
    }

    /// Waits for an event; others before it are lost.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&ClientEvent) -> bool) -> ClientEvent {
        let looking = async {
            loop {
                self.transmit().await;
                while let Some(event) = self.session.poll_event() {
                    if wanted(&event) {
                        return event;
                    }
                    assert_ne!(event, ClientEvent::Closed, "the connection has ended");
                }
                if self.socket.read_buf(&mut self.input).await.unwrap() == 0 {
                    self.session.handle_disconnect();
                    continue;
                }
                let now = self.started.elapsed();
                self.session.handle_input(now, &mut self.input).unwrap();
            }
        };
        let found = tokio::time::timeout(PATIENCE, looking).await;
        found.expect("it did not come to that")
    }

    async fn transmit(&mut self) {
        while let Some(bytes) = self.session.poll_transmit() {
            self.socket.write_all(&bytes).await.unwrap();
        }
    }
}
