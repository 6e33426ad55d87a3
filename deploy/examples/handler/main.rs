//! An application in Rust: the chat of `examples/handlers/python`, which says what its methods do.
//!
//! ```sh
//! cargo run -p headwater --example handler -- 127.0.0.1:9400
//! ```
//!
//! An origin calls once for each instance that it hosts. Here each call has a [`Room`], which takes one message after the other; what
//! it has to say goes into a queue that the origin reads. What takes time is a task of the room, or waits in a table for its answer.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program of its own"
)]

mod room;
mod values;

use std::net::SocketAddr;

use headwater_proto::v1::handler_server::{Handler, HandlerServer};
use headwater_proto::v1::{HandlerRequest, HandlerResponse, handler_request};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::room::{Room, Rooms};

/// Messages that wait for an origin, at most. When the queue is full the room waits with its next message.
const OUTGOING: usize = 1_024;

#[derive(Default)]
struct Service {
    rooms: Rooms,
}

#[tonic::async_trait]
impl Handler for Service {
    type AttachStream = ReceiverStream<Result<HandlerResponse, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<HandlerRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|first| first.request);
        let Some(handler_request::Request::Started(started)) = first else {
            return Err(Status::invalid_argument(
                "the first message is InstanceStarted",
            ));
        };
        eprintln!("{}/{} of {}", started.app, started.instance, started.origin);
        let (outgoing, responses) = mpsc::channel(OUTGOING);
        let mut room = Room::new(self.rooms.clone(), started.instance, outgoing);
        tokio::spawn(async move {
            // The call ends when the origin hangs up: then the room goes, with its tasks and the queue.
            if room.hello().await.is_err() {
                return;
            }
            while let Ok(Some(HandlerRequest { request })) = requests.message().await {
                let Some(request) = request else { continue };
                if room.take(request).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(responses)))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let address: SocketAddr = address.as_deref().unwrap_or("127.0.0.1:9400").parse()?;
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Server::builder()
        .add_service(HandlerServer::new(Service::default()))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await?;
    Ok(())
}
