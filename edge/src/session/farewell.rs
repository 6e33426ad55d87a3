//! How a session ends from this side: a client that takes nothing, a node that stops, and last words that are to arrive.

use super::*;

impl Session {
    pub(super) fn stuck_timeout(&self) -> Duration {
        Duration::from_millis(self.worker.shared.config.edge.fanout.stuck_timeout_ms)
    }

    pub(super) fn is_stuck(&self) -> bool {
        let limit = if self.closing {
            FAREWELL
        } else {
            self.stuck_timeout()
        };
        self.connection.borrow().stuck_for(Instant::now()) >= limit
    }

    /// Ends a client whose socket has taken nothing for too long. It is told why, for the case that it reads again.
    pub(super) fn give_up(&mut self) {
        self.worker.shared.metrics.viewers_stuck.inc();
        let streams = self.connection.borrow_mut().give_up();
        for (stream_id, name, missed) in streams {
            info!(
                stream = name,
                missed, "a viewer that takes nothing is closed"
            );
            let status = Status::new(StatusCode::PlayInsufficientBandwidth)
                .describe("The client does not take its stream.")
                .with("details", name.as_str());
            let outcome = self.core.status(stream_id, status);
            self.note_failure(outcome);
        }
        let seconds = self.stuck_timeout().as_secs();
        let status = Status::new(StatusCode::ConnectClosed).describe(format!(
            "The client took nothing of what was sent for {seconds} seconds."
        ));
        let outcome = self.core.close(&status);
        self.note_failure(outcome);
    }

    /// Shuts the socket down for writing and reads what still comes until the client closes, too.
    pub(super) async fn farewell(&mut self) {
        let closing = async {
            poll_fn(|cx| self.connection.borrow_mut().poll_shutdown(cx)).await?;
            loop {
                self.input.clear();
                let read = poll_fn(|cx| {
                    let scratch = &mut self.worker.scratch();
                    self.connection
                        .borrow_mut()
                        .poll_read(cx, &mut self.input, scratch)
                });
                if read.await? == 0 {
                    return Ok::<_, io::Error>(());
                }
            }
        };
        if tokio::time::timeout(FAREWELL, closing).await.is_err() {
            debug!("the client did not close");
        }
    }

    /// The node will stop: a client that can is asked to connect again, through the load balancer to another edge.
    pub(super) fn ask_to_reconnect(&mut self) {
        let outcome = self
            .core
            .reconnect_request(None, Some("The server is going out of service."));
        match outcome {
            Ok(true) => debug!("asked the client to reconnect"),
            Ok(false) => {}
            Err(error) => self.note_failure(Err(error)),
        }
    }

    /// The node stops now.
    pub(super) fn shut_down(&mut self) {
        let status = Status::new(StatusCode::ConnectAppShutdown);
        let outcome = self.core.close(&status);
        self.note_failure(outcome);
    }
}
