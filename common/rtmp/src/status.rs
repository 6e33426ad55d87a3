//! Status information: the codes of `NetConnection` and `NetStream`, their levels, and the messages that carry them.
//!
//! Adobe's RTMP specification, sections 7.2.1 and 7.2.2; the ActionScript reference for `NetStatusEvent.info`; Enhanced RTMP v2,
//! "Reconnect Request". A status is an object with `level`, `code`, `description` and further properties. It travels as an
//! argument of `onStatus` (transaction 0), of `_result` or `_error` for a command, or of the data message `onPlayStatus`.
//!
//! The functions here build whole messages, so that the owner of a socket can put one exactly between two media frames, as a shared
//! wire form on chunk stream [`chunk_streams::SHARED_STATUS`](crate::command::chunk_streams::SHARED_STATUS).

use std::borrow::Cow;
use std::fmt;

use headwater_amf::{EncodeError, Object, Value};

use crate::command::{Command, ObjectEncoding, data_message, values};
use crate::message::Message;

/// How bad a status is. Flash Player throws an error for [`Level::Error`] if a script does not listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// `status`: all is well.
    Status,
    /// `warning`: it goes on, but worse.
    Warning,
    /// `error`: it failed.
    Error,
}

impl Level {
    /// The value of the property `level`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    /// Reads the property `level`. `None` for a word that is not one of the three.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Status, Self::Warning, Self::Error]
            .into_iter()
            .find(|level| level.as_str() == text)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! status_codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $level:ident, $description:literal;)*) => {
        /// The codes that a server of this kind sends, with the level each one has.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum StatusCode {
            $($(#[$doc])* $variant,)*
        }

        impl StatusCode {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The value of the property `code`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The level the code always has.
            #[must_use]
            pub const fn level(self) -> Level {
                match self { $(Self::$variant => Level::$level,)* }
            }

            /// The description to send where there is nothing better to say.
            #[must_use]
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => $description,)* }
            }
        }
    };
}

status_codes! {
    /// The connection was accepted.
    ConnectSuccess = "NetConnection.Connect.Success", Status, "Connection succeeded.";
    /// A script, a plug-in or a limit refused the connection, or it is redirected (`ex.code` 302 and `ex.redirect`).
    ConnectRejected = "NetConnection.Connect.Rejected", Error, "Connection failed.";
    /// The connection was closed in order.
    ConnectClosed = "NetConnection.Connect.Closed", Status, "Connection closed.";
    /// The connection could not be made. Clients make it themselves; the server sends it to one that breaks the order of commands.
    ConnectFailed = "NetConnection.Connect.Failed", Error, "Connection failed.";
    /// The application instance or the server shuts down.
    ConnectAppShutdown = "NetConnection.Connect.AppShutdown", Error, "The application is shutting down.";
    /// There is no such application on the virtual host.
    ConnectInvalidApp = "NetConnection.Connect.InvalidApp", Error, "There is no such application.";
    /// The server closes a connection without activity.
    ConnectIdleTimeout = "NetConnection.Connect.IdleTimeout", Status, "The connection was idle for too long.";
    /// The client's address changed (RTMFP).
    ConnectNetworkChange = "NetConnection.Connect.NetworkChange", Status, "The network changed.";
    /// The client is asked to connect again, here or at `tcUrl` (Enhanced RTMP v2).
    ConnectReconnectRequest = "NetConnection.Connect.ReconnectRequest", Status, "Please connect again.";
    /// There is no such method on the server, or it failed.
    CallFailed = "NetConnection.Call.Failed", Error, "The call failed.";
    /// A message could not be decoded.
    CallBadVersion = "NetConnection.Call.BadVersion", Error, "The message could not be decoded.";
    /// The security policy forbids the call.
    CallProhibited = "NetConnection.Call.Prohibited", Error, "The call is not allowed.";
    /// The server behind this one does not answer.
    ProxyNotResponding = "NetConnection.Proxy.NotResponding", Error, "The origin server does not respond.";
    /// A command of the administration interface failed.
    AdminCommandFailed = "NetConnection.Admin.CommandFailed", Error, "The command failed.";

    /// Publishing begins.
    PublishStart = "NetStream.Publish.Start", Status, "Publishing has started.";
    /// The name is taken, not valid, or the stream is not free to publish.
    PublishBadName = "NetStream.Publish.BadName", Error, "The stream name cannot be published.";
    /// The publisher has sent nothing for long.
    PublishIdle = "NetStream.Publish.Idle", Status, "The publisher is idle.";
    /// The application refused the publisher.
    PublishRejected = "NetStream.Publish.Rejected", Error, "Publishing was refused.";
    /// The publisher may not publish.
    PublishDenied = "NetStream.Publish.Denied", Error, "Publishing is not allowed.";
    /// Publishing has ended.
    UnpublishSuccess = "NetStream.Unpublish.Success", Status, "Publishing has stopped.";

    /// Recording begins.
    RecordStart = "NetStream.Record.Start", Status, "Recording has started.";
    /// Recording has ended.
    RecordStop = "NetStream.Record.Stop", Status, "Recording has stopped.";
    /// Recording failed: disk full, codec change.
    RecordFailed = "NetStream.Record.Failed", Error, "Recording failed.";
    /// The file may not be written or is in use.
    RecordNoAccess = "NetStream.Record.NoAccess", Error, "The recording cannot be written.";
    /// The recording reached its largest size or duration.
    RecordDiskQuotaExceeded = "NetStream.Record.DiskQuotaExceeded", Error, "The recording reached its limit.";

    /// The player's playlist was emptied: goes before [`StatusCode::PlayStart`] of a `play` with reset.
    PlayReset = "NetStream.Play.Reset", Status, "The playlist was reset.";
    /// Playback begins.
    PlayStart = "NetStream.Play.Start", Status, "Playback has started.";
    /// Playback has ended.
    PlayStop = "NetStream.Play.Stop", Status, "Playback has stopped.";
    /// Playback failed.
    PlayFailed = "NetStream.Play.Failed", Error, "Playback failed.";
    /// There is no such stream.
    PlayStreamNotFound = "NetStream.Play.StreamNotFound", Error, "The stream was not found.";
    /// The client's connection is too slow for the stream.
    PlayInsufficientBandwidth = "NetStream.Play.InsufficientBW", Warning, "The bandwidth is not sufficient.";
    /// A publisher of the stream that is being played appeared.
    PlayPublishNotify = "NetStream.Play.PublishNotify", Status, "The stream is now published.";
    /// The publisher of the stream that is being played left.
    PlayUnpublishNotify = "NetStream.Play.UnpublishNotify", Status, "The stream is no longer published.";
    /// The file is damaged or of an unknown form.
    PlayFileStructureInvalid = "NetStream.Play.FileStructureInvalid", Error, "The file structure is invalid.";
    /// The file has no track that can be played.
    PlayNoSupportedTrackFound = "NetStream.Play.NoSupportedTrackFound", Error, "No supported track was found.";
    /// A switch to another stream begins (`play2`).
    PlayTransition = "NetStream.Play.Transition", Status, "The transition has started.";
    /// A switch to another stream reached the client (in `onPlayStatus`).
    PlayTransitionComplete = "NetStream.Play.TransitionComplete", Status, "The transition is complete.";
    /// The playlist goes on with its next entry (in `onPlayStatus`).
    PlaySwitch = "NetStream.Play.Switch", Status, "The playlist moved to its next entry.";
    /// The playlist is at its end (in `onPlayStatus`).
    PlayComplete = "NetStream.Play.Complete", Status, "Playback is complete.";
    /// Media follows (data message after [`StatusCode::PlayStart`]).
    DataStart = "NetStream.Data.Start", Status, "Data has started.";

    /// A seek was done.
    SeekNotify = "NetStream.Seek.Notify", Status, "Seeking.";
    /// The stream cannot be sought.
    SeekFailed = "NetStream.Seek.Failed", Error, "The stream cannot be sought.";
    /// Playback is paused.
    PauseNotify = "NetStream.Pause.Notify", Status, "Playback is paused.";
    /// Playback goes on after a pause.
    UnpauseNotify = "NetStream.Unpause.Notify", Status, "Playback goes on.";
}

impl StatusCode {
    /// The code with this text, if it is one of the table.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }
}

impl fmt::Display for StatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A status before it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// How bad it is.
    pub level: Level,
    /// The code: one of [`StatusCode`], or a script's own.
    pub code: Cow<'static, str>,
    /// For people.
    pub description: String,
    /// Further properties, in order: `details`, `clientid`, `ex`, `application`, ...
    pub properties: Vec<(String, Value)>,
}

impl Status {
    /// The status of a known code, with its level and its usual description.
    #[must_use]
    pub fn new(code: StatusCode) -> Self {
        Self {
            level: code.level(),
            code: Cow::Borrowed(code.as_str()),
            description: code.description().to_owned(),
            properties: Vec::new(),
        }
    }

    /// A status with a code of the caller's.
    #[must_use]
    pub fn custom(level: Level, code: impl Into<String>, description: impl Into<String>) -> Self {
        Self {
            level,
            code: Cow::Owned(code.into()),
            description: description.into(),
            properties: Vec::new(),
        }
    }

    /// Replaces the description.
    #[must_use]
    pub fn describe(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }

    /// Adds a property.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }

    /// Reads an information object. `None` if it has no code.
    #[must_use]
    pub fn from_value(value: &Value) -> Option<Self> {
        let text = |name| values::field(value, name).and_then(values::text);
        let code = text("code")?;
        let level = text("level").and_then(|word| Level::parse(&word));
        let properties = values::fields(value)
            .into_iter()
            .filter(|(name, _)| !matches!(name.as_str(), "level" | "code" | "description"))
            .map(|(name, value)| (name, value.clone()))
            .collect();
        Some(Self {
            level: level.unwrap_or(Level::Status),
            code: Cow::Owned(code),
            description: text("description").unwrap_or_default(),
            properties,
        })
    }

    /// The information object: level, code, description, then the further properties.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut object = Object::new()
            .with("level", self.level.as_str())
            .with("code", &*self.code)
            .with("description", self.description.as_str());
        for (name, value) in &self.properties {
            object.push(name, value.clone());
        }
        Value::Object(object)
    }
}

/// An `onStatus` for a `NetStream`, or for the `NetConnection` on message stream 0.
///
/// # Errors
/// [`EncodeError`] if a property of the caller's cannot be written.
pub fn on_status_message(
    stream_id: u32,
    status: &Status,
    encoding: ObjectEncoding,
) -> Result<Message, EncodeError> {
    Command::notice("onStatus", vec![status.to_value()]).to_message(encoding, stream_id)
}

/// The data message `onPlayStatus`: what becomes of a playlist, in order with its media.
///
/// # Errors
/// [`EncodeError`] if a property of the caller's cannot be written.
pub fn on_play_status_message(stream_id: u32, status: &Status) -> Result<Message, EncodeError> {
    data_message(stream_id, &[Value::from("onPlayStatus"), status.to_value()])
}

#[cfg(test)]
mod tests {
    use headwater_amf::Limits;

    use super::*;
    use crate::message::MessageType;

    #[test]
    fn codes_are_read_as_they_are_written() {
        for code in StatusCode::ALL {
            assert_eq!(StatusCode::parse(code.as_str()), Some(*code));
            assert!(!code.description().is_empty());
        }
        assert_eq!(StatusCode::parse("NetStream.Play.start"), None);
    }

    #[test]
    fn only_failures_are_errors() {
        for code in StatusCode::ALL {
            let failure = [
                "Failed",
                "Rejected",
                "Denied",
                "BadName",
                "BadVersion",
                "Prohibited",
                "NotFound",
                "NoAccess",
                "Exceeded",
                "Invalid",
                "InvalidApp",
                "NotResponding",
                "AppShutdown",
                "TrackFound",
            ]
            .iter()
            .any(|end| code.as_str().ends_with(end));
            assert_eq!(code.level() == Level::Error, failure, "{code}");
        }
    }

    #[test]
    fn a_status_round_trips() {
        let status = Status::new(StatusCode::PlayStart)
            .describe("here it comes")
            .with("details", "camera")
            .with("clientid", 7.0);
        assert_eq!(Status::from_value(&status.to_value()), Some(status.clone()));
        for (encoding, kind) in [
            (ObjectEncoding::Amf0, MessageType::COMMAND_AMF0),
            (ObjectEncoding::Amf3, MessageType::COMMAND_AMF3),
        ] {
            let message = on_status_message(5, &status, encoding).unwrap();
            assert_eq!((message.kind, message.stream_id), (kind, 5));
            let amf3 = encoding == ObjectEncoding::Amf3;
            let command = Command::decode(amf3, &message.payload, Limits::DEFAULT).unwrap();
            assert_eq!(command.name, "onStatus");
            assert_eq!(command.transaction, crate::command::TransactionId::NONE);
            assert_eq!(command.object, Value::Null);
            assert_eq!(command.arguments, [status.to_value()]);
        }
    }

    #[test]
    fn what_has_no_code_is_no_status() {
        assert_eq!(Status::from_value(&Value::Null), None);
        assert_eq!(
            Status::from_value(&Value::Object(Object::new().with("level", "status"))),
            None
        );
    }
}
