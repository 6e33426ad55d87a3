//! Where a client connects and which stream it names: `rtmp[s]://` or
//! `rtmfp://host[:port]/app[/instance]/stream[?query]`.
//!
//! The last path segment is the stream, as `FFmpeg` takes it, and the query goes with it. For names with slashes there is
//! [`Target::with_name`], which takes the address of the application and the name apart.

use std::fmt;

use headwater_rtmp::url::{RtmpUrl, Scheme, UrlError};

/// Why an address cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// Not an RTMP address.
    #[error("{url}: {cause}")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        cause: UrlError,
    },
    /// A transport this harness does not speak.
    #[error("{url}: only rtmp, rtmps and rtmfp are supported, not {scheme}")]
    Scheme {
        /// As given.
        url: String,
        /// What it names.
        scheme: Scheme,
    },
    /// No host.
    #[error("{url}: the address names no host")]
    Host {
        /// As given.
        url: String,
    },
    /// No application, or no stream behind it.
    #[error("{url}: the address needs an application and a stream, as in rtmp://host/live/camera")]
    Stream {
        /// As given.
        url: String,
    },
}

/// A stream on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Server, application and instance.
    pub url: RtmpUrl,
    /// Name of the stream, with its query if it has one.
    pub stream: String,
}

impl Target {
    /// Parses the address of a stream.
    ///
    /// # Errors
    /// [`TargetError`] names what is wrong.
    pub fn parse(url: &str) -> Result<Self, TargetError> {
        let path_end = url.find('?').unwrap_or(url.len());
        let (path, query) = url.split_at(path_end);
        let (application, name) = path
            .trim_end_matches('/')
            .rsplit_once('/')
            .unwrap_or((path, ""));
        let missing = || TargetError::Stream {
            url: url.to_owned(),
        };
        // The whole address first: of a part of it, the error would be another.
        Self::with_name(path, "")?;
        let target = Self::with_name(application, &format!("{name}{query}"));
        let target = target.map_err(|_| missing())?;
        if name.is_empty() || target.url.app.app.is_empty() {
            return Err(missing());
        }
        Ok(target)
    }

    /// A stream by the address of its application and its name, which is taken as it is.
    ///
    /// # Errors
    /// [`TargetError`] names what is wrong with the address.
    pub fn with_name(application: &str, stream: &str) -> Result<Self, TargetError> {
        let url = RtmpUrl::parse(application).map_err(|cause| TargetError::Url {
            url: application.to_owned(),
            cause,
        })?;
        if !matches!(url.scheme, Scheme::Rtmp | Scheme::Rtmps | Scheme::Rtmfp) {
            return Err(TargetError::Scheme {
                url: application.to_owned(),
                scheme: url.scheme,
            });
        }
        if url.host.is_empty() {
            return Err(TargetError::Host {
                url: application.to_owned(),
            });
        }
        Ok(Self {
            url,
            stream: stream.to_owned(),
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.url, self.stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_segment_is_the_stream() {
        for (text, application, stream) in [
            ("rtmp://h/live/cam", "rtmp://h/live", "cam"),
            (
                "rtmp://h:19350/live/room/cam",
                "rtmp://h:19350/live/room",
                "cam",
            ),
            (
                "rtmps://[::1]/live/cam?k=a/b",
                "rtmps://[::1]/live",
                "cam?k=a/b",
            ),
            ("rtmp://h/live/cam/", "rtmp://h/live", "cam"),
            ("rtmfp://h/live/cam", "rtmfp://h/live", "cam"),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!(target.url.to_string(), application, "{text}");
            assert_eq!(target.stream, stream, "{text}");
        }
    }

    #[test]
    fn what_names_no_stream_is_refused() {
        for text in [
            "rtmp://h",
            "rtmp://h/live",
            "rtmp://h/live/",
            "rtmp://h/?x=/y",
        ] {
            let expected = TargetError::Stream {
                url: text.to_owned(),
            };
            assert_eq!(Target::parse(text), Err(expected));
        }
        for (text, part) in [
            ("http://h/live/cam", "scheme"),
            ("rtmpt://h/live/cam", "rtmpt"),
            ("rtmp:/live/cam/x", "no host"),
            ("rtmp://h:0/live/cam", "port"),
            ("cam", "scheme"),
        ] {
            let error = Target::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_name_may_hold_slashes() {
        let target = Target::with_name("rtmp://h/live", "a/b?c").unwrap();
        assert_eq!(target.stream, "a/b?c");
        assert_eq!(target.to_string(), "rtmp://h/live/a/b?c");
    }
}
