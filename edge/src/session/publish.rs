//! A NetStream that publishes.

use super::*;

use headwater_media::frame::{FrameFlags, FrameKind};
use headwater_media::inspect;
use headwater_proto::v1;
use headwater_rtmfp::group::Specification;
use headwater_rtmp::command::{DataKind, PublishMode, PublishRequest};
use headwater_rtmp::message::{Message, MessageType};
use headwater_rtmp::server::MediaFrame;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::attached::Wish;
use crate::rtmfp::multicast::{self, CannotFeed, Feed};
use crate::upstream::append::{self, Refusal};
use crate::upstream::publication::MediaMessage;
use headwater_application::RecordPolicy;

#[cfg(test)]
mod tests;

/// Media messages between the session and its appender. When they are that many the socket is not read: the appender has not
/// even taken them into its window.
const MEDIA_QUEUE: usize = 256;

/// A publication of this client.
pub(super) struct Publishing {
    stream_id: u32,
    name: String,
    /// Dropped to unpublish. What is recorded is then still here, to tell the client how the recording ended.
    media: Option<mpsc::Sender<MediaMessage>>,
    /// The group that it is fed into, once it is accepted; and from then on.
    group: Option<(Specification, OwnedSemaphorePermit)>,
    feed: Option<Feed>,
    is_recorded: bool,
    pub(super) events: mpsc::UnboundedReceiver<PublishEvent>,
}

impl Session {
    pub(super) async fn publish(&mut self, request: PublishRequest) {
        let Some(application) = &self.application else {
            return;
        };
        let policy = application.policy();
        let why = if !policy.publish {
            format!(
                "The application {} takes no publishers.",
                application.name()
            )
        } else if !self.may(&policy, true, &request.name) {
            format!("The client has no write access to {}.", request.name)
        } else {
            if let Some(Wish::Publish(request)) = self.ask_application(Wish::Publish(request)).await
            {
                let name = request.name.clone();
                self.begin_publish(request, &name);
            }
            return;
        };
        let (stream_id, code) = (request.stream_id, StatusCode::PublishDenied);
        self.refuse_publish(stream_id, &request.name, code, &why);
    }

    pub(super) fn refuse_publish(
        &mut self,
        stream_id: u32,
        stream: &str,
        code: StatusCode,
        description: &str,
    ) {
        info!(stream, %code, description, "publishing was refused");
        self.note_ended(stream_id);
        let outcome = self.core.reject_publish(stream_id, code, description);
        self.note_failure(outcome);
    }

    /// Publishes what the client may publish, under the name that the application has for it.
    pub(super) fn begin_publish(&mut self, request: PublishRequest, stream: &str) {
        let Some(application) = &self.application else {
            return;
        };
        let policy = application.policy();
        let group = if policy.multicast {
            let group =
                multicast::read(request.query.as_deref().unwrap_or_default()).and_then(|group| {
                    let group = group.map(|group| Ok((group, self.room_for_member()?)));
                    group.transpose()
                });
            group.map_err(|error| error.to_string())
        } else {
            Ok(None)
        };
        let asked = group.and_then(|group| {
            let stream = application.stream(stream);
            Ok((stream.map_err(|error| error.to_string())?, group))
        });
        let (name, group) = match asked {
            Ok(asked) => asked,
            Err(error) => {
                let (stream_id, code) = (request.stream_id, StatusCode::PublishBadName);
                let why = format!("{}: {error}.", request.name);
                self.refuse_publish(stream_id, &request.name, code, &why);
                return;
            }
        };
        let mode = mode(policy.record, request.mode);
        let (media, media_receiver) = mpsc::channel(MEDIA_QUEUE);
        let (events_sender, events) = mpsc::unbounded_channel();
        self.publishing
            .retain(|ended| ended.stream_id != request.stream_id);
        self.publishing.push(Publishing {
            stream_id: request.stream_id,
            name: request.name,
            media: Some(media),
            group,
            feed: None,
            is_recorded: mode != v1::PublishMode::Live,
            events,
        });
        let ask = append::PublishRequest {
            name,
            mode,
            record_window_ms: policy.record_window_ms,
            client: self.peer.to_string(),
        };
        let shared = &self.worker.shared;
        let upstream = Arc::clone(&shared.upstream);
        shared
            .tasks
            .spawn(append::run(upstream, ask, media_receiver, events_sender));
    }

    pub(super) fn unpublish(&mut self, stream_id: u32) {
        // Dropping the sender ends the append, which tells the owner after the last frame.
        let ended = |publishing: &Publishing| publishing.stream_id == stream_id;
        self.publishing
            .retain(|publishing| !ended(publishing) || publishing.is_recorded);
        for publishing in self.publishing.iter_mut().filter(|it| ended(it)) {
            publishing.media = None;
            publishing.feed = None;
            publishing.group = None;
        }
    }

    /// Room for a member that feeds a stream of this client into a group.
    fn room_for_member(&self) -> Result<OwnedSemaphorePermit, CannotFeed> {
        if !self.worker.feeds.is_served() {
            return Err(CannotFeed::NoRtmfp);
        }
        let members = Arc::clone(&self.worker.shared.members);
        members.try_acquire_owned().map_err(|_| CannotFeed::TooMany)
    }

    pub(super) async fn media(&mut self, stream_id: u32, frame: MediaFrame) {
        let publishing = self
            .publishing
            .iter()
            .find(|publishing| publishing.stream_id == stream_id);
        let Some((publishing, media)) = publishing.and_then(|it| Some((it, it.media.as_ref()?)))
        else {
            if let Some(attached) = &mut self.attached {
                attached.keep_early(stream_id, frame);
            }
            return;
        };
        let flags = flags(&frame);
        if let Some(feed) = &publishing.feed {
            let message = Message {
                kind: match frame.kind {
                    FrameKind::Audio => MessageType::AUDIO,
                    FrameKind::Video => MessageType::VIDEO,
                    FrameKind::Data => MessageType::DATA_AMF0,
                },
                timestamp: frame.timestamp,
                stream_id: 0,
                payload: frame.payload.clone(),
            };
            if !feed.push(message, flags) {
                self.worker.shared.metrics.peers.feeding.not_fed.inc();
            }
        }
        let message = MediaMessage {
            kind: frame.kind,
            timestamp: frame.timestamp,
            flags,
            payload: frame.payload,
        };
        // Waits only until the owner has answered the publish: from then on the appender takes everything at once. An
        // error means that publishing has ended; its event tells.
        let _ = media.send(message).await;
    }

    pub(super) fn publish_event(&mut self, index: usize, event: PublishEvent) {
        let Some(publishing) = self.publishing.get_mut(index) else {
            return;
        };
        let stream_id = publishing.stream_id;
        if let PublishEvent::Record(status) = event {
            self.record_status(index, &status);
            return;
        }
        if publishing.media.is_none() {
            // The client has unpublished: nothing else concerns it.
            return;
        }
        match event {
            PublishEvent::Accepted => {
                info!(stream = publishing.name, "publishes");
                if let Some((group, room)) = publishing.group.take() {
                    let (feeds, name) = (&self.worker.feeds, publishing.name.clone());
                    publishing.feed = Some(Feed::begin(feeds, room, group, name));
                }
                let outcome = self.core.accept_publish(stream_id);
                self.note_failure(outcome);
            }
            PublishEvent::Refused(refusal) => {
                let (code, description) = match refusal {
                    Refusal::Busy(why) => (StatusCode::PublishBadName, why),
                    Refusal::Denied(why) => (StatusCode::PublishDenied, why),
                    Refusal::NoOrigin => (
                        StatusCode::PublishRejected,
                        "No origin server answers.".to_owned(),
                    ),
                };
                self.publishing.remove(index);
                self.note_ended(stream_id);
                let outcome = self.core.reject_publish(stream_id, code, &description);
                self.note_failure(outcome);
            }
            PublishEvent::Stopped(why) => {
                self.publishing.remove(index);
                self.note_ended(stream_id);
                let outcome = self
                    .core
                    .reject_publish(stream_id, StatusCode::PublishBadName, &why);
                self.note_failure(outcome);
                // An encoder that lost its name must not go on sending into the void.
                let outcome = self.core.close(&Status::new(StatusCode::ConnectClosed));
                self.note_failure(outcome);
            }
            PublishEvent::Probe { within, answer } => self.probe(within, answer),
            PublishEvent::Record(_) => {}
        }
    }

    /// Tells the client what became of the recording that it asked for.
    fn record_status(&mut self, index: usize, status: &v1::RecordStatus) {
        let Some(publishing) = self.publishing.get(index) else {
            return;
        };
        let code = match status.state() {
            v1::RecordState::Started => StatusCode::RecordStart,
            v1::RecordState::Stopped => StatusCode::RecordStop,
            v1::RecordState::Failed => StatusCode::RecordFailed,
            v1::RecordState::NoAccess => StatusCode::RecordNoAccess,
            v1::RecordState::QuotaExceeded => StatusCode::RecordDiskQuotaExceeded,
            v1::RecordState::Unspecified => return,
        };
        info!(stream = publishing.name, %code, status.description, "the recording changed");
        let mut told = Status::new(code).with("details", publishing.name.as_str());
        if !status.description.is_empty() {
            told = told.describe(status.description.clone());
        }
        let outcome = self.core.status(publishing.stream_id, told);
        self.note_failure(outcome);
    }

    /// Finds out whether the client is still there: anything that it sends from now on says so.
    fn probe(&mut self, within: Duration, answer: oneshot::Sender<bool>) {
        let asked = self.now();
        let outcome = self.core.ping(asked);
        self.note_failure(outcome);
        self.probes.push(Probe {
            asked,
            until: asked + within,
            answer,
        });
    }

    pub(super) fn answer_probes(&mut self) {
        let now = self.now();
        let heard = self.core.last_heard();
        let decided = |probe: &mut Probe| heard > probe.asked || now >= probe.until;
        for probe in self.probes.extract_if(.., decided) {
            // The appender may be gone: then nobody wants to know any more.
            let _ = probe.answer.send(heard > probe.asked);
        }
    }
}

/// What the owner is asked for. The application may record what the publisher did not ask to have recorded; a publisher who
/// asks gets what it asks for, unless nothing may be recorded.
fn mode(policy: RecordPolicy, asked: PublishMode) -> v1::PublishMode {
    match (policy, asked) {
        (RecordPolicy::Never, _) | (RecordPolicy::AsAsked, PublishMode::Live) => {
            v1::PublishMode::Live
        }
        (_, PublishMode::Record) | (RecordPolicy::Record, PublishMode::Live) => {
            v1::PublishMode::Record
        }
        (_, PublishMode::Append) | (RecordPolicy::Append, PublishMode::Live) => {
            v1::PublishMode::Append
        }
        (_, PublishMode::AppendWithGap) => v1::PublishMode::AppendWithGap,
    }
}

/// What a publisher asks for, as an application hears it.
pub(super) fn mode_asked(asked: PublishMode) -> v1::PublishMode {
    mode(RecordPolicy::AsAsked, asked)
}

/// What we understand of a frame. A payload that says nothing to us is relayed all the same.
fn flags(frame: &MediaFrame) -> FrameFlags {
    match (frame.kind, frame.data) {
        (FrameKind::Data, DataKind::SetDataFrame) => FrameFlags::METADATA,
        (FrameKind::Data, DataKind::ClearDataFrame) => FrameFlags::CLEAR_METADATA,
        // Some encoders send a plain onMetaData and mean it to stay.
        (kind, _) => inspect::inspect(kind, &frame.payload).flags,
    }
}

/// A question whether the client is still there.
pub(super) struct Probe {
    pub(super) asked: Duration,
    pub(super) until: Duration,
    pub(super) answer: oneshot::Sender<bool>,
}
