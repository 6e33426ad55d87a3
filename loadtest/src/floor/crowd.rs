//! Sockets of TCP that all get the same bytes.
//!
//! A socket that is full keeps its place in the [log](super::log) and goes on at the next flush; it costs no memory of its own.

use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use super::SenderReport;
use super::log::{Batch, LOG_BYTES, LOG_TIME, Log};
use super::outlet::{Figures, Outlet};
use super::packer::Packer;
use crate::source::SourceFrame;

/// Connections that may wait to be accepted; the system may allow fewer.
const BACKLOG: i32 = 4096;

/// Sockets accepted between two flushes, so that a crowd does not make the stream late.
const ACCEPTED_AT_ONCE: usize = 256;

/// A socket that gets what the log holds.
#[derive(Debug)]
struct Peer {
    socket: TcpStream,
    /// The batch that it is at.
    number: u64,
    /// Bytes of it that are sent.
    sent: usize,
    /// Whether it begins with that batch.
    begins: bool,
}

/// All sockets.
#[derive(Debug)]
pub(super) struct Crowd {
    listener: TcpListener,
    packer: Packer,
    log: Log,
    peers: Vec<Peer>,
    /// They begin at the next key frame.
    waiting: Vec<TcpStream>,
    figures: Figures,
}

impl Crowd {
    /// Opens a port.
    pub(super) fn listen(address: SocketAddr) -> io::Result<(Box<dyn Outlet>, SocketAddr)> {
        Self::with_log(address, Log::new(LOG_TIME, LOG_BYTES))
    }

    /// Opens a port, and lets sockets be as far behind as this log holds.
    pub(super) fn with_log(
        address: SocketAddr,
        log: Log,
    ) -> io::Result<(Box<dyn Outlet>, SocketAddr)> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        // Once more, for the standard library lets only few wait.
        rustix::net::listen(&listener, BACKLOG)?;
        let address = listener.local_addr()?;
        let crowd = Self {
            listener,
            packer: Packer::default(),
            log,
            peers: Vec::new(),
            waiting: Vec::new(),
            figures: Figures::default(),
        };
        Ok((Box::new(crowd), address))
    }

    fn join(&mut self, socket: TcpStream) {
        let is_ready = socket
            .set_nonblocking(true)
            .and_then(|()| socket.set_nodelay(true));
        match is_ready {
            Ok(()) => self.waiting.push(socket),
            // It is gone already.
            Err(_) => self.figures.left += 1,
        }
    }

    /// Sends to every socket what it has not yet got.
    fn send(&mut self, batch: Batch) {
        let is_beginning = batch.beginning.is_some();
        let number = self.log.push(batch);
        if is_beginning {
            let newcomers = self.waiting.drain(..).map(|socket| Peer {
                socket,
                number,
                sent: 0,
                begins: true,
            });
            self.peers.extend(newcomers);
        }
        let mut place = 0;
        while let Some(peer) = self.peers.get_mut(place) {
            if peer.send(&self.log, &mut self.figures) {
                place += 1;
            } else {
                self.peers.swap_remove(place);
            }
        }
    }
}

impl Outlet for Crowd {
    fn add(&mut self, frame: &SourceFrame) {
        self.packer.add(frame);
    }

    fn has_video(&self) -> bool {
        self.packer.has_video()
    }

    fn pending(&self) -> usize {
        self.packer.pending()
    }

    fn flush(&mut self, _now: u64) {
        if let Some(batch) = self.packer.take() {
            self.send(batch);
        }
    }

    fn accept(&mut self, report: &mut SenderReport) {
        for _ in 0..ACCEPTED_AT_ONCE {
            match self.listener.accept() {
                Ok((socket, _)) => {
                    report.accepted += 1;
                    self.join(socket);
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => break,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    // It is tried again after the next flush: somebody may have left.
                    _ => {
                        report.refused += 1;
                        break;
                    }
                },
            }
        }
        let count = (self.peers.len() + self.waiting.len()) as u64;
        report.most = report.most.max(count);
    }

    fn figures(&self) -> Figures {
        self.figures
    }
}

impl Peer {
    /// False if the socket is to be closed.
    fn send(&mut self, log: &Log, figures: &mut Figures) -> bool {
        loop {
            let Some(batch) = log.get(self.number) else {
                let is_up_to_date = self.number >= log.end();
                figures.cut_off += u64::from(!is_up_to_date);
                return is_up_to_date;
            };
            let whole = match &batch.beginning {
                Some(beginning) if self.begins => beginning,
                _ => &batch.bytes,
            };
            let rest = whole.get(self.sent..).unwrap_or_default();
            figures.sends += 1;
            match self.socket.write(rest) {
                Ok(0) => {
                    figures.left += 1;
                    return false;
                }
                Ok(count) => {
                    figures.bytes += count as u64;
                    if count < rest.len() {
                        figures.full += 1;
                        self.sent += count;
                        return true;
                    }
                    self.number += 1;
                    self.sent = 0;
                    self.begins = false;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    figures.full += 1;
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    figures.left += 1;
                    return false;
                }
            }
        }
    }
}
