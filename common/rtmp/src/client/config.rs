//! Settings of a client session, and what it tells the server of itself.

use std::time::Duration;

use headwater_amf::{Object, Value};

use crate::command::{Command, EnhancedCapabilities, ObjectEncoding, TransactionId};
use crate::handshake::ClientForm;
use crate::session::SessionLimits;
use crate::url::RtmpUrl;

/// Settings of a [`ClientSession`](super::ClientSession).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// The form of the handshake.
    pub handshake: ClientForm,
    /// Chunk size of what we send, in bytes, announced before `connect`; 1 to 16,777,215.
    pub chunk_size: u32,
    /// How much is received between two acknowledgements until the server states its window, in bytes.
    pub window_ack_size: u32,
    /// How long the server may take for the handshake.
    pub handshake_timeout: Duration,
    /// How long the server may take to answer `connect`, from the end of the handshake.
    pub connect_timeout: Duration,
    /// How long the server may be silent before it is pinged. `None`: never.
    pub ping_interval: Option<Duration>,
    /// How long the server may stay silent after a ping before the session fails.
    pub ping_timeout: Duration,
    /// Bounds on what the server can make the session hold.
    pub limits: SessionLimits,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            handshake: ClientForm::Simple,
            chunk_size: 65_536,
            window_ack_size: 2_500_000,
            handshake_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(30),
            ping_interval: None,
            ping_timeout: Duration::from_secs(15),
            limits: SessionLimits::default(),
        }
    }
}

/// The arguments of `connect`.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectParameters {
    /// `app`: application, instance and query.
    pub app: String,
    /// `tcUrl`.
    pub tc_url: String,
    /// `flashVer`.
    pub flash_version: String,
    /// `swfUrl`, if any.
    pub swf_url: Option<String>,
    /// `pageUrl`, if any.
    pub page_url: Option<String>,
    /// `objectEncoding`.
    pub object_encoding: ObjectEncoding,
    /// What to declare of Enhanced RTMP.
    pub enhanced: EnhancedCapabilities,
    /// Further properties of the object.
    pub properties: Vec<(String, Value)>,
    /// Arguments after the object.
    pub arguments: Vec<Value>,
}

impl ConnectParameters {
    /// Connects to the application and instance of an address, as Flash Player 32 would, with AMF0 and without Enhanced RTMP.
    #[must_use]
    pub fn new(url: &RtmpUrl) -> Self {
        Self {
            app: url.app.to_string(),
            tc_url: url.to_string(),
            flash_version: "LNX 32,0,0,465".to_owned(),
            swf_url: None,
            page_url: None,
            object_encoding: ObjectEncoding::Amf0,
            enhanced: EnhancedCapabilities::default(),
            properties: Vec::new(),
            arguments: Vec::new(),
        }
    }

    /// The command.
    pub(super) fn to_command(&self, transaction: TransactionId) -> Command {
        let mut object = Object::new()
            .with("app", self.app.as_str())
            .with("flashVer", self.flash_version.as_str());
        for (name, value) in [("swfUrl", &self.swf_url), ("pageUrl", &self.page_url)] {
            if let Some(value) = value {
                object.push(name, value.as_str());
            }
        }
        object.push("tcUrl", self.tc_url.as_str());
        object.push("fpad", false);
        // What Flash Player 32 declares: all the codecs it has, and seeking by frame.
        object.push("capabilities", 239.0);
        object.push("audioCodecs", 3575.0);
        object.push("videoCodecs", 252.0);
        object.push("videoFunction", 1.0);
        object.push("objectEncoding", self.object_encoding.as_number());
        for (name, value) in self.enhanced.properties() {
            object.push(name, value);
        }
        for (name, value) in &self.properties {
            object.push(name, value.clone());
        }
        Command {
            name: "connect".to_owned(),
            transaction,
            object: Value::Object(object),
            arguments: self.arguments.clone(),
        }
    }
}
