//! The watch of one peer: dials, reads heartbeats, reports verdicts, waits, dials again.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use headwater_proto::v1;
use headwater_proto::v1::node_client::NodeClient;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Channel;

use super::{Backoff, Control, Monitor, Verdict};
use crate::channel::Dialer;
use crate::cluster::Shared;
use crate::config::ChannelConfig;
use crate::member::NodeId;
use crate::view::{Availability, PeerStatus};

/// A heartbeat is some dozen bytes; more is no heartbeat.
const MAX_STATUS_BYTES: usize = 64 << 10;

/// Why a watch ended. For logs.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("no connection: {0}")]
    Connect(String),
    #[error("the call failed: {0}")]
    Call(String),
    #[error("the node ended the call")]
    Ended,
    #[error("silent for too long")]
    Silent,
    #[error("the node at this address says that it is {0:?}")]
    Mistaken(String),
    #[error("a check that a caller asked for failed: {0}")]
    Check(String),
}

struct Watch {
    shared: Arc<Shared>,
    id: NodeId,
    dialer: Dialer,
    control: Arc<Control>,
    monitor: Monitor,
    backoff: Backoff,
    /// The last status heard.
    heard: Option<v1::NodeStatus>,
    /// Why it was lost, as last logged; empty while it is reachable.
    complaint: String,
}

/// Watches a peer until `stop`.
pub(crate) async fn run(
    shared: Arc<Shared>,
    id: NodeId,
    dialer: Dialer,
    control: Arc<Control>,
    stop: CancellationToken,
) {
    let settings = shared.config.liveness;
    let watch = Watch {
        monitor: Monitor::new(settings, Instant::now()),
        backoff: Backoff::new(&settings),
        shared,
        id,
        dialer,
        control,
        heard: None,
        complaint: String::new(),
    };
    // The outcome of a cancelled watch concerns nobody.
    let _ = stop.run_until_cancelled(watch.run()).await;
}

impl Watch {
    async fn run(mut self) {
        loop {
            let broken = self.follow().await.to_string();
            self.monitor.handle_broken();
            self.report();
            // Once per reason: a peer that stays away would fill the log.
            if self.complaint != broken {
                tracing::warn!(node = %self.id, reason = %broken, "peer unreachable");
                self.complaint = broken;
            }
            let wait = self.backoff.wait(rand::random());
            // A report that the node failed cuts the wait short: the caller may know more.
            let _ = timeout(wait, self.control.checked()).await;
        }
    }

    /// From a dial to its end.
    async fn follow(&mut self) -> Broken {
        self.monitor.handle_dial(Instant::now());
        let settings = self.shared.config.liveness;
        let limit = self
            .dialer
            .connect_timeout
            .saturating_add(settings.silence());
        let request = v1::WatchRequest {
            node: self.shared.local.id.to_string(),
            interval_ms: u32::try_from(settings.heartbeat_ms).unwrap_or(u32::MAX),
        };
        let opening = open(self.dialer.clone(), &self.shared.config.channel, request);
        let mut heartbeats = match timeout(limit, opening).await {
            Err(_) => return Broken::Silent,
            Ok(Err(broken)) => return broken,
            Ok(Ok(heartbeats)) => heartbeats,
        };
        self.monitor.handle_dial(Instant::now());
        let tick = self.monitor.tick_interval();
        let mut next_tick = Instant::now() + tick;
        let mut check = pin!(None);
        loop {
            tokio::select! {
                // What was received counts before the time that passed.
                biased;
                heartbeat = heartbeats.message() => match heartbeat {
                    Err(status) => return Broken::Call(describe(&status)),
                    Ok(None) => return Broken::Ended,
                    Ok(Some(status)) if status.node != self.id.as_str() => {
                        return Broken::Mistaken(status.node.chars().take(80).collect());
                    }
                    Ok(Some(status)) => {
                        self.monitor.handle_heartbeat(Instant::now());
                        self.heard = Some(status);
                        if self.monitor.is_reachable() {
                            self.backoff.reset();
                            self.complaint.clear();
                        }
                        self.report();
                    }
                },
                outcome = async { check.as_mut().as_pin_mut()?.await }, if check.is_some() => {
                    check.set(None);
                    if let Some(broken) = outcome {
                        return broken;
                    }
                }
                () = self.control.checked(), if check.is_none() => {
                    let limit = self.dialer.connect_timeout;
                    check.set(Some(probe(self.dialer.clone(), self.shared.config.channel, limit)));
                }
                () = sleep_until(next_tick) => {
                    let now = Instant::now();
                    let late = now.saturating_duration_since(next_tick);
                    if self.monitor.handle_tick(now, late) {
                        return Broken::Silent;
                    }
                    next_tick = now + tick;
                }
            }
        }
    }

    fn report(&self) {
        let reachable = self.monitor.is_reachable();
        let draining = self
            .heard
            .as_ref()
            .is_some_and(|status| status.state() == v1::NodeState::Draining);
        let verdict = Verdict {
            status: PeerStatus {
                availability: match (reachable, draining) {
                    (true, false) => Availability::Available,
                    (true, true) => Availability::Draining,
                    (false, _) => Availability::Unreachable,
                },
                incarnation: self.heard.as_ref().map_or(0, |status| status.incarnation),
                ring_version: self.heard.as_ref().map_or(0, |status| status.ring_version),
            },
            connected: self.monitor.is_connected(),
        };
        self.shared.judge(&self.id, &self.control, verdict);
    }
}

async fn open(
    dialer: Dialer,
    settings: &ChannelConfig,
    request: v1::WatchRequest,
) -> Result<Streaming<v1::NodeStatus>, Broken> {
    let mut client = connect(dialer, settings).await?;
    match client.watch(request).await {
        Ok(response) => Ok(response.into_inner()),
        Err(status) => Err(Broken::Call(describe(&status))),
    }
}

/// Asks once, over a connection of its own: the standing one may be broken without a sign. None means that it lives.
async fn probe(dialer: Dialer, settings: ChannelConfig, limit: Duration) -> Option<Broken> {
    let answer = timeout(limit, status(dialer, &settings)).await;
    match answer {
        Ok(Ok(_)) => None,
        Ok(Err(broken)) => Some(Broken::Check(broken.to_string())),
        Err(_) => Some(Broken::Check(format!("no answer within {limit:?}"))),
    }
}

async fn status(dialer: Dialer, settings: &ChannelConfig) -> Result<v1::NodeStatus, Broken> {
    let mut client = connect(dialer, settings).await?;
    match client.status(v1::StatusRequest {}).await {
        Ok(response) => Ok(response.into_inner()),
        Err(status) => Err(Broken::Call(describe(&status))),
    }
}

/// Asks a node of unknown id for its status, within `limit`. The error is for a log.
pub(crate) async fn ask(
    dialer: Dialer,
    settings: &ChannelConfig,
    limit: Duration,
) -> Result<v1::NodeStatus, String> {
    match timeout(limit, status(dialer, settings)).await {
        Ok(answer) => answer.map_err(|broken| broken.to_string()),
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}

async fn connect(dialer: Dialer, settings: &ChannelConfig) -> Result<NodeClient<Channel>, Broken> {
    let channel = dialer
        .connect(settings)
        .await
        .map_err(|error| Broken::Connect(with_sources(&error)))?;
    Ok(NodeClient::new(channel).max_decoding_message_size(MAX_STATUS_BYTES))
}

fn describe(status: &tonic::Status) -> String {
    with_sources(status)
}

/// The error and what it came from: the transport's own text says no more than "transport error".
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    // Part of it may be the peer's words.
    text.chars().take(500).collect()
}
