//! A handler that is a program of its own, called over gRPC (`proto/headwater/v1/handler.proto`).
//!
//! Each instance has a connection of its own: one that is slow does not hold up others, and no limit of calls on a connection is met. A
//! connection is encrypted where the address says `https`; the program's certificate has to be signed by `ca_file`, or by an authority
//! that the machine trusts.
//!
//! Bounds: messages of a handler have at most [`MAX_MESSAGE`] bytes; what it is told waits in the instance's own bounded queue, and
//! [`UNDER_WAY`] messages here.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use headwater_application::HandlerSection;
use headwater_proto::v1;
use headwater_proto::v1::handler_client::HandlerClient;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Status, Streaming};

use super::{Action, Event, Handler, HandlerError, Started, wire};

/// Largest message of a handler, in bytes; the usual limit of gRPC.
const MAX_MESSAGE: usize = 4 << 20;

/// Largest `ca_file`, in bytes.
const MAX_CA: u64 = 1 << 20;

/// Messages to a handler that wait for its connection.
const UNDER_WAY: usize = 16;

/// How long a handler may take to end its call after it heard that the instance stops.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// How often TCP asks whether the machine of a silent handler is there. Pings of HTTP/2 would be quicker, but many servers of gRPC end
/// connections that ping more often than every five minutes.
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);

/// Letters of an error that are kept.
const MAX_REASON: usize = 300;

/// How the program is called.
#[derive(Clone, Debug)]
pub(crate) struct RemoteHandler {
    address: Arc<str>,
    ca_file: Arc<str>,
    connect_timeout: Duration,
}

impl RemoteHandler {
    /// None where the application has no handler.
    pub(crate) fn new(section: &HandlerSection) -> Option<Self> {
        (!section.address.is_empty()).then(|| Self {
            address: section.address.as_str().into(),
            ca_file: section.ca_file.as_str().into(),
            connect_timeout: Duration::from_millis(section.timeout_ms),
        })
    }

    async fn connect(&self) -> Result<Channel, HandlerError> {
        let unusable = |reason: String| HandlerError::Address {
            address: self.address.to_string(),
            reason,
        };
        let mut endpoint = Endpoint::from_shared(self.address.to_string())
            .map_err(|error| unusable(error.to_string()))?
            .connect_timeout(self.connect_timeout)
            .tcp_keepalive(Some(TCP_KEEPALIVE))
            .tcp_nodelay(true);
        if self.address.starts_with("https://") {
            let tls = if self.ca_file.is_empty() {
                ClientTlsConfig::new().with_native_roots()
            } else {
                ClientTlsConfig::new().ca_certificate(read_ca(&self.ca_file).await?)
            };
            endpoint = (endpoint.tls_config(tls)).map_err(|error| unusable(described(&error)))?;
        }
        let connected = tokio::time::timeout(self.connect_timeout, endpoint.connect()).await;
        match connected {
            Ok(connected) => connected.map_err(|error| HandlerError::Connect(described(&error))),
            Err(_) => Err(HandlerError::Connect("no connection in time".to_owned())),
        }
    }

    async fn run(
        &self,
        first: Started,
        mut events: mpsc::Receiver<Event>,
        actions: mpsc::Sender<Action>,
    ) -> Result<(), HandlerError> {
        let channel = self.connect().await?;
        let (requests, receiver) = mpsc::channel(UNDER_WAY);
        // There is room.
        let _ = requests.try_send(wire::started(&first));
        let tell = async {
            while let Some(event) = events.recv().await {
                // The call has ended: the other half says why.
                if requests.send(wire::event(&event)).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
            drop(requests);
            tokio::time::sleep(END_TIMEOUT).await;
        };
        let hear = async {
            let mut client = HandlerClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(usize::MAX);
            let call = client.attach(ReceiverStream::new(receiver)).await;
            let inbound = call.map_err(|status| broken(&status))?.into_inner();
            hear(inbound, actions).await
        };
        tokio::select! {
            outcome = hear => outcome,
            () = tell => Ok(()),
        }
    }
}

#[tonic::async_trait]
impl Handler for RemoteHandler {
    async fn attach(
        &self,
        started: Started,
        events: mpsc::Receiver<Event>,
        actions: mpsc::Sender<Action>,
    ) -> HandlerError {
        match self.run(started, events, actions).await {
            Ok(()) => HandlerError::Ended,
            Err(error) => error,
        }
    }
}

async fn hear(
    mut inbound: Streaming<v1::HandlerResponse>,
    actions: mpsc::Sender<Action>,
) -> Result<(), HandlerError> {
    while let Some(message) = inbound.message().await.map_err(|status| broken(&status))? {
        if let Some(action) = wire::action(message) {
            // Nobody listens any more: it is about to hear that.
            let _ = actions.send(action).await;
        }
    }
    Ok(())
}

async fn read_ca(path: &str) -> Result<Certificate, HandlerError> {
    let failed = |reason: String| HandlerError::CaFile {
        path: path.to_owned(),
        reason,
    };
    let mut pem = Vec::new();
    let file = tokio::fs::File::open(Path::new(path)).await;
    let mut file = file
        .map_err(|error| failed(error.to_string()))?
        .take(MAX_CA);
    let read = file.read_to_end(&mut pem).await;
    read.map_err(|error| failed(error.to_string()))?;
    Ok(Certificate::from_pem(pem))
}

fn broken(status: &Status) -> HandlerError {
    let reason = format!("{:?}: {}", status.code(), status.message());
    HandlerError::Broken(shortened(&reason))
}

/// The error with its causes, which say what the matter is.
fn described(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    shortened(&causes.join(": "))
}

fn shortened(reason: &str) -> String {
    reason.chars().take(MAX_REASON).collect()
}
