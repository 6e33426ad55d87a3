//! What the caller tells a NetStream: publishing, and the course of playback.

use headwater_amf::{Object, Value};

#[cfg(doc)]
use super::super::ServerEvent;
use super::PlayAnswer;
#[cfg(doc)]
use crate::command::chunk_streams;
use crate::control::UserControl;
use crate::server::ServerSession;
use crate::server::streams::Activity;
use crate::session::SessionError;
use crate::status::{Status, StatusCode, on_play_status_message};

impl ServerSession {
    /// Lets the client publish: `NetStream.Publish.Start`.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn accept_publish(&mut self, stream_id: u32) -> Result<(), SessionError> {
        let Some(Activity::Publishing { name, accepted }) = self.streams.get_mut(stream_id) else {
            return Ok(());
        };
        *accepted = true;
        let name = name.clone();
        let status = Status::new(StatusCode::PublishStart)
            .describe(format!("{name} is now published."))
            .with("details", name);
        self.reply_status(stream_id, status)
    }

    /// Refuses a publisher, or ends one: the stream is free again, and no [`ServerEvent::Unpublish`] follows.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn reject_publish(
        &mut self,
        stream_id: u32,
        code: StatusCode,
        description: &str,
    ) -> Result<(), SessionError> {
        let Some(activity @ Activity::Publishing { .. }) = self.streams.get_mut(stream_id) else {
            return Ok(());
        };
        let ended = std::mem::replace(activity, Activity::Idle);
        let mut status = Status::new(code).describe(description);
        if let Activity::Publishing { name, .. } = ended {
            status = status.with("details", name);
        }
        self.reply_status(stream_id, status)
    }

    /// Begins playback: StreamIsRecorded for a recorded stream, StreamBegin, `NetStream.Play.Reset` after a reset,
    /// `NetStream.Play.Start`, `|RtmpSampleAccess` and `NetStream.Data.Start`. Media may follow.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn play_started(
        &mut self,
        stream_id: u32,
        answer: &PlayAnswer,
    ) -> Result<(), SessionError> {
        if !self.plays(stream_id) {
            return Ok(());
        }
        let outcome = self.start_play(stream_id, answer);
        self.note(outcome)
    }

    fn start_play(&mut self, stream_id: u32, answer: &PlayAnswer) -> Result<(), SessionError> {
        self.begin_stream(stream_id, answer.recorded)?;
        if answer.reset {
            let name = answer.name.as_str();
            let status = Status::new(StatusCode::PlayReset)
                .describe(format!("Playing and resetting {name}."))
                .with("details", name);
            self.send_status(stream_id, status)?;
        }
        self.announce_media(stream_id, answer)
    }

    /// Ends playback with an error; no [`ServerEvent::PlayStopped`] follows.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn play_failed(
        &mut self,
        stream_id: u32,
        code: StatusCode,
        name: &str,
        description: &str,
    ) -> Result<(), SessionError> {
        if !self.plays(stream_id) {
            return Ok(());
        }
        if let Some(activity) = self.streams.get_mut(stream_id) {
            *activity = Activity::Idle;
        }
        let status = Status::new(code)
            .describe(description)
            .with("details", name);
        self.reply_status(stream_id, status)
    }

    /// Tells a player that the stream's publisher appeared.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn publish_notify(&mut self, stream_id: u32, name: &str) -> Result<(), SessionError> {
        self.notify(
            stream_id,
            StatusCode::PlayPublishNotify,
            name,
            "is now published",
        )
    }

    /// Tells a player that the stream's publisher left. It goes on waiting. To put the notice exactly between two frames, write
    /// [`on_status_message`](crate::status::on_status_message) with the frames instead, on
    /// [`chunk_streams::SHARED_STATUS`].
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn unpublish_notify(&mut self, stream_id: u32, name: &str) -> Result<(), SessionError> {
        self.notify(
            stream_id,
            StatusCode::PlayUnpublishNotify,
            name,
            "is now unpublished",
        )
    }

    fn notify(
        &mut self,
        stream_id: u32,
        code: StatusCode,
        name: &str,
        what: &str,
    ) -> Result<(), SessionError> {
        if !self.plays(stream_id) {
            return Ok(());
        }
        let status = Status::new(code)
            .describe(format!("{name} {what}."))
            .with("details", name);
        self.reply_status(stream_id, status)
    }

    /// Tells a player that a recorded stream is at its end: `NetStream.Play.Stop`, StreamEOF, `onPlayStatus` with
    /// `NetStream.Play.Complete`. The stream stays a player: the client may seek back.
    ///
    /// `duration` is in seconds, `bytes` what was sent.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn play_complete(
        &mut self,
        stream_id: u32,
        name: &str,
        duration: f64,
        bytes: u64,
    ) -> Result<(), SessionError> {
        if !self.plays(stream_id) {
            return Ok(());
        }
        let outcome = self.complete_play(stream_id, name, duration, bytes);
        self.note(outcome)
    }

    fn complete_play(
        &mut self,
        stream_id: u32,
        name: &str,
        duration: f64,
        bytes: u64,
    ) -> Result<(), SessionError> {
        self.stop_play(stream_id, name)?;
        self.link
            .send_user_control(UserControl::StreamEof { stream_id })?;
        #[expect(
            clippy::cast_precision_loss,
            reason = "AMF has no other number, and no recording is 2^53 bytes long"
        )]
        let bytes = bytes as f64;
        let status = Status::new(StatusCode::PlayComplete)
            .with("duration", duration)
            .with("bytes", bytes);
        self.send_play_status(stream_id, &status)
    }

    /// Tells a player that a seek was done, before the media of its new place: StreamEOF, StreamIsRecorded for a recorded stream,
    /// StreamBegin, `NetStream.Seek.Notify`, then as at the start of playback `NetStream.Play.Start`, `|RtmpSampleAccess` and
    /// `NetStream.Data.Start`. `answer.reset` has no meaning here.
    ///
    /// `to` is where the client wanted to go, in milliseconds.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn seek_done(
        &mut self,
        stream_id: u32,
        answer: &PlayAnswer,
        to: u64,
    ) -> Result<(), SessionError> {
        if !self.plays(stream_id) {
            return Ok(());
        }
        let outcome = self.do_seek(stream_id, answer, to);
        self.note(outcome)
    }

    fn do_seek(
        &mut self,
        stream_id: u32,
        answer: &PlayAnswer,
        to: u64,
    ) -> Result<(), SessionError> {
        self.link
            .send_user_control(UserControl::StreamEof { stream_id })?;
        self.begin_stream(stream_id, answer.recorded)?;
        let status = Status::new(StatusCode::SeekNotify)
            .describe(format!("Seeking {to} (stream ID: {stream_id})."))
            .with("details", answer.name.as_str());
        self.send_status(stream_id, status)?;
        self.announce_media(stream_id, answer)
    }

    fn begin_stream(&mut self, stream_id: u32, recorded: bool) -> Result<(), SessionError> {
        if recorded {
            self.link
                .send_user_control(UserControl::StreamIsRecorded { stream_id })?;
        }
        self.link
            .send_user_control(UserControl::StreamBegin { stream_id })
    }

    fn announce_media(&mut self, stream_id: u32, answer: &PlayAnswer) -> Result<(), SessionError> {
        let name = answer.name.as_str();
        let status = Status::new(StatusCode::PlayStart)
            .describe(format!("Started playing {name}."))
            .with("details", name);
        self.send_status(stream_id, status)?;
        let (audio, video) = answer.sample_access;
        self.send_data(
            stream_id,
            &[
                Value::from("|RtmpSampleAccess"),
                Value::Boolean(audio),
                Value::Boolean(video),
            ],
        )?;
        let start = Object::new().with("code", StatusCode::DataStart.as_str());
        self.send_data(stream_id, &[Value::from("onStatus"), Value::Object(start)])
    }

    /// Tells a player what becomes of its playlist: the data message `onPlayStatus`, in order with the media before and after it.
    /// For `NetStream.Play.Switch` and `NetStream.Play.TransitionComplete`; `NetStream.Play.Complete` goes with
    /// [`ServerSession::play_complete`].
    ///
    /// # Errors
    /// [`SessionError::Encode`] if a property cannot be written, [`SessionError::TooMuchOutput`].
    pub fn play_status(&mut self, stream_id: u32, status: &Status) -> Result<(), SessionError> {
        if !self.plays(stream_id) {
            return Ok(());
        }
        let outcome = self.send_play_status(stream_id, status);
        self.note(outcome)
    }

    fn send_play_status(&mut self, stream_id: u32, status: &Status) -> Result<(), SessionError> {
        let message = on_play_status_message(stream_id, status)?;
        self.send_message(&message)
    }

    /// Tells a player that playback stopped: `NetStream.Play.Stop`. The stream stays a player.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn play_stop(&mut self, stream_id: u32, name: &str) -> Result<(), SessionError> {
        if !self.plays(stream_id) {
            return Ok(());
        }
        let outcome = self.stop_play(stream_id, name);
        self.note(outcome)
    }

    fn stop_play(&mut self, stream_id: u32, name: &str) -> Result<(), SessionError> {
        let status = Status::new(StatusCode::PlayStop)
            .describe(format!("Stopped playing {name}."))
            .with("details", name);
        self.send_status(stream_id, status)
    }

    /// Sends the control message StreamBegin for a stream, as it goes before media after a seek.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn stream_begin(&mut self, stream_id: u32) -> Result<(), SessionError> {
        self.user_control(UserControl::StreamBegin { stream_id })
    }

    /// Sends the control message StreamEOF for a stream.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn stream_eof(&mut self, stream_id: u32) -> Result<(), SessionError> {
        self.user_control(UserControl::StreamEof { stream_id })
    }
}
