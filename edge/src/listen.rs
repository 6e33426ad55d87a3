//! Sockets that clients connect to.
//!
//! Each worker has its own socket for each address (`SO_REUSEPORT`): the kernel spreads connections over the workers, and no
//! connection is handed from thread to thread.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use headwater_node::address::{DEFAULT_BACKLOG, ListenAddress, bind_tcp, bind_udp};
use headwater_node::shutdown::Shutdown;
use headwater_node::tls;
use tokio_rustls::TlsAcceptor;

use crate::config::EdgeConfig;
use crate::edge::{EdgeError, Listening};
#[cfg(target_os = "linux")]
use {crate::transport, socket2::SockRef};

/// One worker's socket for one address.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) address: SocketAddr,
    /// Set for RTMPS.
    pub(crate) tls: Option<TlsAcceptor>,
}

impl Listener {
    pub(crate) fn describe(&self) -> Listening {
        Listening {
            protocol: if self.tls.is_some() { "rtmps" } else { "rtmp" },
            address: self.address,
        }
    }
}

/// Binds every configured address once per worker.
pub(crate) fn bind(
    config: &EdgeConfig,
    workers: usize,
    shutdown: &Shutdown,
) -> Result<Vec<Vec<Listener>>, EdgeError> {
    let acceptor = acceptor(config, shutdown)?;
    let plain = config
        .rtmp
        .listen
        .iter()
        .map(|address| (address, "rtmp.listen", None));
    let encrypted = acceptor.iter().flat_map(|acceptor| {
        let addresses = config.rtmps.listen.iter();
        addresses.map(move |address| (address, "rtmps.listen", Some(acceptor.clone())))
    });
    let wanted: Vec<_> = plain.chain(encrypted).collect();
    let mut listeners: Vec<Vec<Listener>> = (0..workers).map(|_| Vec::new()).collect();
    for (address, key, tls) in wanted {
        let mut address: ListenAddress = address.clone();
        // A first socket without SO_REUSEPORT finds out whether another process has the port: with it, two edges would share
        // the port silently.
        if address.port() != 0 {
            drop(bind_tcp(&address, key, false, 1)?);
        }
        for sockets in &mut listeners {
            let socket = bind_tcp(&address, key, true, DEFAULT_BACKLOG)?;
            let bound = socket.local_addr()?;
            #[cfg(target_os = "linux")]
            transport::prepare(
                SockRef::from(&socket),
                Duration::from_millis(config.rtmp.dead_after_ms),
            )?;
            // The sockets after the first one share the port that the first one was given.
            address = address.with_port(bound.port());
            sockets.push(Listener {
                socket,
                address: bound,
                tls: tls.clone(),
            });
        }
    }
    Ok(listeners)
}

/// Binds every address for RTMFP, with a socket for each worker.
pub(crate) fn bind_rtmfp(
    config: &EdgeConfig,
    workers: usize,
) -> Result<Vec<(SocketAddr, Vec<UdpSocket>)>, EdgeError> {
    let mut bound = Vec::new();
    for wanted in &config.rtmfp.listen {
        let mut address: ListenAddress = wanted.clone();
        // As for TCP: finds out whether another process has the port.
        if address.port() != 0 {
            drop(bind_udp(&address, "rtmfp.listen", false)?);
        }
        let mut sockets = Vec::with_capacity(workers);
        for _ in 0..workers {
            let socket = bind_udp(&address, "rtmfp.listen", true)?;
            address = address.with_port(socket.local_addr()?.port());
            sockets.push(socket);
        }
        if let Some(first) = sockets.first() {
            bound.push((first.local_addr()?, sockets));
        }
    }
    Ok(bound)
}

fn acceptor(config: &EdgeConfig, shutdown: &Shutdown) -> Result<Option<TlsAcceptor>, EdgeError> {
    let section = &config.rtmps.tls;
    let Some(certificate) = section.load()? else {
        return Ok(None);
    };
    // Ends by itself when the process stops.
    tokio::spawn(Arc::clone(&certificate).watch(
        Duration::from_secs(section.reload_s),
        shutdown.reload(),
        shutdown.stopping(),
    ));
    Ok(Some(TlsAcceptor::from(tls::server_config(
        certificate,
        &[],
    )?)))
}
