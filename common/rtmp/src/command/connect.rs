//! The `connect` command: what a client says of itself, and the capabilities of Enhanced RTMP.
//!
//! Adobe's RTMP specification, section 7.2.1.1; Enhanced RTMP v2, "Enhancing NetConnection connect Command".

use headwater_amf::Value;

use super::values::{self, object};
use super::{Command, CommandError, TransactionId};
use crate::url::{AppPath, RtmpUrl};

/// `capsEx` bit: understands `NetConnection.Connect.ReconnectRequest`.
pub const CAPS_EX_RECONNECT: u32 = 0x01;
/// `capsEx` bit: understands multitrack audio and video.
pub const CAPS_EX_MULTITRACK: u32 = 0x02;
/// `capsEx` bit: understands the ModEx prefix of packets.
pub const CAPS_EX_MOD_EX: u32 = 0x04;
/// `capsEx` bit: understands nanosecond offsets.
pub const CAPS_EX_TIMESTAMP_NANO_OFFSET: u32 = 0x08;

/// FourCC information bit: can decode the codec.
pub const FOURCC_CAN_DECODE: u32 = 0x01;
/// FourCC information bit: can encode the codec.
pub const FOURCC_CAN_ENCODE: u32 = 0x02;
/// FourCC information bit: can forward the codec.
pub const FOURCC_CAN_FORWARD: u32 = 0x04;

/// FourCC key that stands for every codec.
pub const FOURCC_ANY: &str = "*";

/// Most FourCC entries that are kept of what a peer declares: more codecs than there are.
pub const MAX_FOURCC_ENTRIES: usize = 64;

/// The object encoding a client asks for: which values its messages may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ObjectEncoding {
    /// 0: AMF0 only, message types 18, 19 and 20.
    #[default]
    Amf0,
    /// 3: AMF3 values inside AMF0, message types 15, 16 and 17 as well.
    Amf3,
}

impl ObjectEncoding {
    /// The value of the property `objectEncoding`.
    #[must_use]
    pub const fn as_number(self) -> f64 {
        match self {
            Self::Amf0 => 0.0,
            Self::Amf3 => 3.0,
        }
    }

    /// Reads the property: 3 is AMF3, all else AMF0, as Adobe's server takes it.
    #[must_use]
    pub fn from_number(number: f64) -> Self {
        if number == 3.0 {
            Self::Amf3
        } else {
            Self::Amf0
        }
    }
}

/// What a peer declares of Enhanced RTMP. Empty for a peer that knows nothing of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnhancedCapabilities {
    /// `fourCcList` (v1): codecs the peer knows.
    pub fourcc_list: Vec<String>,
    /// `videoFourCcInfoMap` (v2): video codecs, each with `FOURCC_CAN_*` bits.
    pub video_fourcc: Vec<(String, u32)>,
    /// `audioFourCcInfoMap` (v2): audio codecs, each with `FOURCC_CAN_*` bits.
    pub audio_fourcc: Vec<(String, u32)>,
    /// `capsEx` (v2): `CAPS_EX_*` bits.
    pub caps_ex: u32,
}

impl EnhancedCapabilities {
    /// What a server declares that passes every codec on without looking: all extensions, forwarding of everything.
    #[must_use]
    pub fn relay() -> Self {
        let any = || vec![(FOURCC_ANY.to_owned(), FOURCC_CAN_FORWARD)];
        Self {
            fourcc_list: vec![FOURCC_ANY.to_owned()],
            video_fourcc: any(),
            audio_fourcc: any(),
            caps_ex: CAPS_EX_RECONNECT
                | CAPS_EX_MULTITRACK
                | CAPS_EX_MOD_EX
                | CAPS_EX_TIMESTAMP_NANO_OFFSET,
        }
    }

    /// Whether the peer declared nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the peer understands a reconnect request.
    #[must_use]
    pub const fn can_reconnect(&self) -> bool {
        self.caps_ex & CAPS_EX_RECONNECT != 0
    }

    /// Reads the properties from the object of `connect`, or from that of its answer. What is malformed counts as not said.
    #[must_use]
    pub fn from_value(value: &Value) -> Self {
        let fourcc_list = values::field(value, "fourCcList")
            .map(values::elements)
            .unwrap_or_default()
            .into_iter()
            .filter_map(values::text)
            .take(MAX_FOURCC_ENTRIES)
            .collect();
        let map = |name| {
            values::field(value, name)
                .map(values::fields)
                .unwrap_or_default()
                .into_iter()
                .filter_map(|(key, bits)| Some((key, bit_mask(bits)?)))
                .take(MAX_FOURCC_ENTRIES)
                .collect()
        };
        Self {
            fourcc_list,
            video_fourcc: map("videoFourCcInfoMap"),
            audio_fourcc: map("audioFourCcInfoMap"),
            caps_ex: values::field(value, "capsEx")
                .and_then(bit_mask)
                .unwrap_or(0),
        }
    }

    /// The properties to add to an object. None for empty capabilities, so that a plain peer sees a plain message.
    #[must_use]
    pub fn properties(&self) -> Vec<(&'static str, Value)> {
        let mut properties = Vec::new();
        if !self.fourcc_list.is_empty() {
            let list = self
                .fourcc_list
                .iter()
                .map(|code| Value::from(code.as_str()));
            properties.push(("fourCcList", values::array(list)));
        }
        for (name, map) in [
            ("videoFourCcInfoMap", &self.video_fourcc),
            ("audioFourCcInfoMap", &self.audio_fourcc),
        ] {
            if !map.is_empty() {
                let entries = map
                    .iter()
                    .map(|(code, bits)| (code.as_str(), Value::Number(f64::from(*bits))));
                properties.push((name, object(entries)));
            }
        }
        if self.caps_ex != 0 {
            properties.push(("capsEx", Value::Number(f64::from(self.caps_ex))));
        }
        properties
    }
}

fn bit_mask(value: &Value) -> Option<u32> {
    values::number(value).map(values::saturating_u32)
}

/// A client's `connect`.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectRequest {
    /// What to answer with: 1, from every client that is known.
    pub transaction: TransactionId,
    /// Application, instance and query: from the property `app`, or from `tcUrl` if `app` is missing or empty.
    pub path: AppPath,
    /// Host part of `tcUrl` in lower case: the name of the virtual host. Empty if the client sent no usable `tcUrl`.
    pub vhost: String,
    /// The query of `tcUrl`, if it has one.
    pub tc_url_query: Option<String>,
    /// `tcUrl` as sent.
    pub tc_url: String,
    /// `flashVer`: the client's name and version.
    pub flash_version: Option<String>,
    /// `swfUrl`: the Flash movie.
    pub swf_url: Option<String>,
    /// `pageUrl`: the page that holds the Flash movie.
    pub page_url: Option<String>,
    /// `fpad`: whether a proxy is used.
    pub fpad: bool,
    /// `objectEncoding`.
    pub object_encoding: ObjectEncoding,
    /// `capabilities`: bits of Flash Player; 1 is set by clients that take aggregate messages.
    pub capabilities: u32,
    /// `audioCodecs`: `SUPPORT_SND_*` bits of section 7.2.1.1.
    pub audio_codecs: u32,
    /// `videoCodecs`: `SUPPORT_VID_*` bits of section 7.2.1.1.
    pub video_codecs: u32,
    /// `videoFunction`: 1 is set by clients that can seek frame by frame.
    pub video_function: u32,
    /// What the client declares of Enhanced RTMP.
    pub enhanced: EnhancedCapabilities,
    /// The whole object as sent, for scripts.
    pub object: Value,
    /// The arguments after the object, for scripts (`NetConnection.connect(url, p1, p2)`).
    pub arguments: Vec<Value>,
}

impl ConnectRequest {
    /// Reads a `connect` command.
    ///
    /// # Errors
    /// [`CommandError::MissingArgument`] if there is no object, or neither `app` nor `tcUrl` in it.
    pub fn from_command(command: Command) -> Result<Self, CommandError> {
        let Command {
            transaction,
            object: properties,
            arguments,
            ..
        } = command;
        let text = |name| values::field(&properties, name).and_then(values::text);
        let bits = |name| {
            values::field(&properties, name)
                .and_then(bit_mask)
                .unwrap_or(0)
        };
        let app = text("app");
        let tc_url = text("tcUrl");
        if app.is_none() && tc_url.is_none() {
            return Err(CommandError::MissingArgument {
                command: "connect",
                argument: "app",
            });
        }
        let url = tc_url.as_deref().and_then(|url| RtmpUrl::parse(url).ok());
        let mut path = AppPath::parse(app.as_deref().unwrap_or_default());
        if path.app.is_empty()
            && path.query.is_none()
            && let Some(url) = &url
        {
            path = url.app.clone();
        }
        let (vhost, tc_url_query) = match url {
            Some(url) => (url.host, url.app.query),
            None => (String::new(), None),
        };
        Ok(Self {
            transaction,
            path,
            vhost,
            tc_url_query,
            flash_version: text("flashVer"),
            swf_url: text("swfUrl"),
            page_url: text("pageUrl"),
            fpad: values::field(&properties, "fpad")
                .and_then(values::boolean)
                .unwrap_or(false),
            object_encoding: values::field(&properties, "objectEncoding")
                .and_then(values::number)
                .map(ObjectEncoding::from_number)
                .unwrap_or_default(),
            capabilities: bits("capabilities"),
            audio_codecs: bits("audioCodecs"),
            video_codecs: bits("videoCodecs"),
            video_function: bits("videoFunction"),
            enhanced: EnhancedCapabilities::from_value(&properties),
            tc_url: tc_url.unwrap_or_default(),
            object: properties,
            arguments,
        })
    }
}

#[cfg(test)]
mod tests {
    use headwater_amf::Properties;

    use super::*;

    #[test]
    fn capabilities_are_read_as_they_are_written() {
        let capabilities = EnhancedCapabilities {
            fourcc_list: vec!["av01".to_owned(), "hvc1".to_owned()],
            video_fourcc: vec![
                ("vp09".to_owned(), FOURCC_CAN_DECODE | FOURCC_CAN_ENCODE),
                (FOURCC_ANY.to_owned(), FOURCC_CAN_FORWARD),
            ],
            audio_fourcc: vec![("Opus".to_owned(), FOURCC_CAN_DECODE)],
            caps_ex: CAPS_EX_RECONNECT | CAPS_EX_MOD_EX,
        };
        let value = object(capabilities.properties());
        assert_eq!(EnhancedCapabilities::from_value(&value), capabilities);
        assert!(capabilities.can_reconnect());
        assert_eq!(EnhancedCapabilities::default().properties(), []);
        assert!(EnhancedCapabilities::from_value(&Value::Null).is_empty());
    }

    #[test]
    fn malformed_capabilities_count_as_not_said() {
        let mixed = Value::EcmaArray(
            Properties::new()
                .with("0", "av01")
                .with("1", 5.0)
                .with("2", "hvc1"),
        );
        let value = object([
            // Some clients send an ECMA array where a strict one is meant.
            ("fourCcList", mixed),
            ("videoFourCcInfoMap", Value::from("none")),
            (
                "audioFourCcInfoMap",
                object([("Opus", Value::from("all")), ("mp4a", Value::Number(-4.0))]),
            ),
            ("capsEx", Value::Number(f64::NAN)),
        ]);
        let read = EnhancedCapabilities::from_value(&value);
        assert_eq!(read.fourcc_list, ["av01", "hvc1"]);
        assert_eq!(read.video_fourcc, []);
        assert_eq!(read.audio_fourcc, [("mp4a".to_owned(), 0)]);
        assert_eq!(read.caps_ex, 0);

        let endless = values::array((0..1000).map(|number| Value::from(number.to_string())));
        let read = EnhancedCapabilities::from_value(&object([("fourCcList", endless)]));
        assert_eq!(read.fourcc_list.len(), MAX_FOURCC_ENTRIES);
    }

    #[test]
    fn the_first_place_that_names_an_application_counts() {
        for (app, tc_url, expected) in [
            (Some("live"), Some("rtmp://h/other/i"), Ok(("live", None))),
            (Some("live/i"), None, Ok(("live", Some("i")))),
            (Some(""), Some("rtmp://h/vod/i"), Ok(("vod", Some("i")))),
            (None, Some("rtmp://h/vod"), Ok(("vod", None))),
            (Some(""), Some("no address"), Ok(("", None))),
            (None, None, Err(())),
        ] {
            let entries = [("app", app), ("tcUrl", tc_url)]
                .into_iter()
                .filter_map(|(name, text)| Some((name, Value::from(text?))));
            let command = Command {
                object: object(entries),
                ..Command::notice("connect", Vec::new())
            };
            let request = ConnectRequest::from_command(command);
            let path = request
                .as_ref()
                .map(|request| (request.path.app.as_str(), request.path.instance.as_deref()))
                .map_err(|_| ());
            assert_eq!(path, expected, "{app:?} {tc_url:?}");
        }
    }
}
