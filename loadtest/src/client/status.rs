//! The statuses that a client was told, for its report.

use std::time::Duration;

use headwater_rtmp::client::ClientEvent;
use headwater_rtmp::status::{Level, Status, StatusCode};

/// Statuses that are kept of one client. Those that come later are counted only.
pub const MAX_STATUSES: usize = 128;

/// One status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenStatus {
    /// `NetStream.Play.Start` and so on.
    pub code: String,
    /// The server's words.
    pub description: String,
    /// Whether its level was `error`.
    pub is_error: bool,
    /// The message stream, 0 for the connection.
    pub stream_id: u32,
    /// When it came, from the start of the client.
    pub at: Duration,
}

/// What a client was told, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statuses {
    seen: Vec<SeenStatus>,
    count: u64,
}

impl Statuses {
    /// Notes the status in an event, if it is one.
    pub fn note(&mut self, event: &ClientEvent, at: Duration) {
        match event {
            ClientEvent::Status { stream_id, status }
            | ClientEvent::PlayStatus { stream_id, status } => self.push(*stream_id, status, at),
            ClientEvent::ReconnectRequest { description, .. } => {
                let status =
                    Status::new(StatusCode::ConnectReconnectRequest).describe(description.as_str());
                self.push(0, &status, at);
            }
            _ => {}
        }
    }

    /// The first [`MAX_STATUSES`].
    #[must_use]
    pub fn seen(&self) -> &[SeenStatus] {
        &self.seen
    }

    /// How many there were.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Whether one with this code is among those kept.
    #[must_use]
    pub fn contains(&self, code: &str) -> bool {
        self.seen.iter().any(|status| status.code == code)
    }

    fn push(&mut self, stream_id: u32, status: &Status, at: Duration) {
        self.count = self.count.saturating_add(1);
        if self.seen.len() < MAX_STATUSES {
            self.seen.push(SeenStatus {
                code: status.code.to_string(),
                description: status.description.clone(),
                is_error: status.level == Level::Error,
                stream_id,
                at,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_kept_in_order_and_bounded() {
        let mut statuses = Statuses::default();
        statuses.note(&ClientEvent::StreamEof { stream_id: 1 }, Duration::ZERO);
        assert_eq!(statuses, Statuses::default());
        for number in 0..300 {
            let code = match number {
                0 => StatusCode::PlayStart,
                _ => StatusCode::PlayFailed,
            };
            let event = ClientEvent::Status {
                stream_id: 1,
                status: Status::new(code),
            };
            statuses.note(&event, Duration::from_millis(number));
        }
        assert_eq!(
            (statuses.seen().len(), statuses.count()),
            (MAX_STATUSES, 300)
        );
        assert!(statuses.contains("NetStream.Play.Failed"));
        assert!(!statuses.contains("NetStream.Play.Stop"));
        assert!(!statuses.seen()[0].is_error && statuses.seen()[1].is_error);
    }
}
