//! The socket of a connection, plain or with TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use headwater_rtmp::url::{RtmpUrl, Scheme};
use rustls::pki_types::ServerName;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{ClientError, Trust};

/// A connected socket.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// Connects to the host of an address: to the first of its addresses that answers.
    pub(super) async fn connect(url: &RtmpUrl, trust: &Trust) -> Result<Self, ClientError> {
        let (host, port) = (url.host.as_str(), url.port_or_default());
        let address = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        let addresses = tokio::net::lookup_host((host, port))
            .await
            .map_err(|error| ClientError::Resolve {
                host: host.to_owned(),
                message: error.to_string(),
            })?;
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        let mut connected = None;
        for candidate in addresses {
            match TcpStream::connect(candidate).await {
                Ok(stream) => {
                    connected = Some(stream);
                    break;
                }
                Err(error) => failure = error,
            }
        }
        let Some(stream) = connected else {
            return Err(ClientError::Connect {
                address,
                kind: failure.kind(),
                message: failure.to_string(),
            });
        };
        // Without it the small messages at the start of a connection wait for each other's acknowledgements.
        stream
            .set_nodelay(true)
            .map_err(|error| ClientError::io(&error))?;
        if url.scheme != Scheme::Rtmps {
            return Ok(Self::Plain(stream));
        }
        let tls_error = |message: String| ClientError::Tls {
            address: address.clone(),
            message,
        };
        let name =
            ServerName::try_from(host.to_owned()).map_err(|error| tls_error(error.to_string()))?;
        let stream = TlsConnector::from(trust.client_config()?)
            .connect(name, stream)
            .await
            .map_err(|error| tls_error(error.to_string()))?;
        Ok(Self::Tls(Box::new(stream)))
    }

    /// TLS may hold back what it has taken; a plain socket does not.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    /// Says that nothing more will be sent.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}
