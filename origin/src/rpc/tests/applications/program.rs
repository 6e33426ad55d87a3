//! A handler program whose part a test plays.

use std::net::SocketAddr;
use std::pin::Pin;

use headwater_proto::v1;
use headwater_proto::v1::handler_request::Request as Heard;
use headwater_proto::v1::handler_response::Response as Act;
use headwater_proto::v1::handler_server::{Handler, HandlerServer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use super::soon;

/// The program. It ends, with its connections, when it is dropped.
pub(super) struct Program {
    pub(super) at: SocketAddr,
    calls: mpsc::Receiver<Call>,
    _stop: DropGuard,
}

/// A call of an origin.
pub(super) struct Call {
    heard: Streaming<v1::HandlerRequest>,
    acts: mpsc::Sender<Result<v1::HandlerResponse, Status>>,
}

#[derive(Clone)]
struct Service(mpsc::Sender<Call>);

#[tonic::async_trait]
impl Handler for Service {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<v1::HandlerResponse, Status>> + Send>>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::HandlerRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (acts, receiver) = mpsc::channel(1);
        let heard = request.into_inner();
        let _ = self.0.send(Call { heard, acts }).await;
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

impl Program {
    pub(super) async fn start() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), None).await
    }

    pub(super) async fn with_tls(identity: Identity) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), Some(identity)).await
    }

    pub(super) async fn at(at: SocketAddr, identity: Option<Identity>) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let at = listener.local_addr().unwrap();
        let (calls_in, calls) = mpsc::channel(8);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let mut server = Server::builder();
        if let Some(identity) = identity {
            let tls = ServerTlsConfig::new().identity(identity);
            server = server.tls_config(tls).unwrap();
        }
        let serving = server
            .add_service(HandlerServer::new(Service(calls_in)))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(async move {
            tokio::select! {
                _ = serving => {}
                () = stopped.cancelled() => {}
            }
        });
        Self {
            at,
            calls,
            _stop: stop.drop_guard(),
        }
    }

    /// The next call, with what it is for.
    pub(super) async fn called(&mut self) -> (Call, v1::InstanceStarted) {
        let mut call = soon(self.calls.recv()).await.unwrap();
        match call.hear().await {
            Heard::Started(started) => (call, started),
            other => panic!("{other:?}"),
        }
    }

    /// The next call, to a program that wants to hear everything.
    pub(super) async fn greeted(&mut self) -> Call {
        let (call, _) = self.called().await;
        call.hello().await;
        call
    }
}

impl Call {
    pub(super) async fn hello(&self) {
        self.act(Act::Hello(v1::HandlerHello {
            connect: true,
            publish: true,
            play: true,
            call: true,
            use_object: true,
            ends: true,
        }))
        .await;
    }

    pub(super) async fn act(&self, act: Act) {
        soon(self.try_act(act)).await;
    }

    /// As far as the origin takes it.
    pub(super) async fn try_act(&self, act: Act) {
        let response = Some(act);
        // The call may have ended.
        let _ = self.acts.send(Ok(v1::HandlerResponse { response })).await;
    }

    pub(super) async fn hear(&mut self) -> Heard {
        let heard = soon(self.heard.message()).await;
        heard.unwrap().expect("the call ended").request.unwrap()
    }

    /// Hears nothing more.
    pub(super) async fn ended(&mut self) -> bool {
        soon(async {
            loop {
                match self.heard.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => return true,
                }
            }
        })
        .await
    }

    /// Lets the client in that asks next.
    pub(super) async fn accept(&mut self) -> v1::ClientConnecting {
        let Heard::Connect(asked) = self.hear().await else {
            panic!("nobody asks");
        };
        let reply = v1::ConnectReply {
            client: asked.client.clone().unwrap().id,
            accept: true,
            ..v1::ConnectReply::default()
        };
        self.act(Act::Connect(reply)).await;
        asked
    }

    pub(super) async fn answer(&self, call: u64, value: v1::value::Value) {
        let value = Some(v1::Value { value: Some(value) });
        let reply = v1::CallReply {
            call,
            value,
            ..v1::CallReply::default()
        };
        self.act(Act::Call(reply)).await;
    }
}
