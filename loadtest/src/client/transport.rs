//! The socket of a connection: plain, with TLS, or RTMFP's.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use headwater_rtmp::url::{RtmpUrl, Scheme};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::rtmfp::{RtmfpOptions, RtmfpStream};
use super::{ClientError, Trust};

/// A connected socket.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Rtmfp(Box<RtmfpStream>),
}

impl Transport {
    /// Connects to the host of an address: to the first of its addresses that answers.
    pub(super) async fn connect(
        url: &RtmpUrl,
        trust: &Trust,
        rtmfp: RtmfpOptions,
    ) -> Result<Self, ClientError> {
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
        if url.scheme == Scheme::Rtmfp {
            let addresses: Vec<_> = addresses.collect();
            return match RtmfpStream::connect(url, &addresses, rtmfp).await {
                Ok(stream) => Ok(Self::Rtmfp(Box::new(stream))),
                Err(error) => Err(ClientError::Connect {
                    address,
                    kind: error.kind(),
                    message: error.to_string(),
                }),
            };
        }
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
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
            Self::Rtmfp(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
            Self::Rtmfp(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, slices),
            Self::Rtmfp(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Rtmfp(stream) => stream.is_write_vectored(),
        }
    }

    /// TLS may hold back what it has taken; a plain socket does not.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Self::Rtmfp(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    /// Says that nothing more will be sent.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Self::Rtmfp(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
