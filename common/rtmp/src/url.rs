//! RTMP addresses: `scheme://host[:port]/app[/instance][?query]`, and the `app` property of a `connect` command.
//!
//! Adobe's RTMP specification (section 7.2.1.1) leaves the form of `tcUrl` and `app` open; the form here is what Flash Player,
//! librtmp, FFmpeg and OBS send, and what Adobe Media Server documents: the first path segment is the application, what
//! follows is the instance, which may hold `/`. IPv6 hosts stand in brackets and may name a zone (`[fe80::1%eth0]`).
//!
//! What this module does not do: it does not check names ([`headwater_media::name`] does, where they are used), does not
//! decode percent signs (Adobe's server takes names as they come), and does not look inside queries.

use std::fmt;

use headwater_media::name::DEFAULT_INSTANCE;

/// Longest address that is parsed, in bytes: Adobe's `MaxUrlLength`.
pub const MAX_URL_LENGTH: usize = 32 * 1024;

/// The transport that the scheme of an address names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `rtmp`: plain TCP.
    Rtmp,
    /// `rtmps`: TLS.
    Rtmps,
    /// `rtmpe`: Adobe's own encryption.
    Rtmpe,
    /// `rtmpt`: tunnelled in HTTP.
    Rtmpt,
    /// `rtmpte`: `rtmpe` tunnelled in HTTP.
    Rtmpte,
    /// `rtmpts`: tunnelled in HTTPS.
    Rtmpts,
    /// `rtmfp`: UDP (RFC 7016).
    Rtmfp,
}

impl Scheme {
    /// The name as it stands in an address.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rtmp => "rtmp",
            Self::Rtmps => "rtmps",
            Self::Rtmpe => "rtmpe",
            Self::Rtmpt => "rtmpt",
            Self::Rtmpte => "rtmpte",
            Self::Rtmpts => "rtmpts",
            Self::Rtmfp => "rtmfp",
        }
    }

    /// The port of an address that names none: 1935, or that of HTTP or HTTPS for tunnels and TLS.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Rtmp | Self::Rtmpe | Self::Rtmfp => 1935,
            Self::Rtmps | Self::Rtmpts => 443,
            Self::Rtmpt | Self::Rtmpte => 80,
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [
            Self::Rtmp,
            Self::Rtmps,
            Self::Rtmpe,
            Self::Rtmpt,
            Self::Rtmpte,
            Self::Rtmpts,
            Self::Rtmfp,
        ]
        .into_iter()
        .find(|scheme| scheme.as_str().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an address is not one of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Longer than [`MAX_URL_LENGTH`].
    #[error("the address is {length} bytes long, at most {MAX_URL_LENGTH} are allowed")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// No `://`, or none of the schemes of [`Scheme`] before it.
    #[error("the address does not start with an RTMP scheme")]
    Scheme,
    /// A bracket that is not closed, or something other than a port behind it.
    #[error("the host of the address is malformed")]
    Host,
    /// The port is not a number from 1 to 65535.
    #[error("the port of the address is not a number from 1 to 65535")]
    Port,
}

/// A parsed address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtmpUrl {
    /// The transport.
    pub scheme: Scheme,
    /// Host in lower case, an IPv6 address without its brackets. Empty in Flash's host-less form `rtmp:/app`.
    pub host: String,
    /// Port, if the address names one.
    pub port: Option<u16>,
    /// Application, instance and query.
    pub app: AppPath,
}

/// Application and instance as a client names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppPath {
    /// The first path segment. Empty if the client named none.
    pub app: String,
    /// What follows the application, if anything: may hold `/`.
    pub instance: Option<String>,
    /// What follows the first `?`, without it.
    pub query: Option<String>,
}

impl AppPath {
    /// Splits `app[/instance][?query]`. Slashes before and after are dropped, so `live/` is `live` without an instance.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let (path, query) = split_query(text);
        let path = path.trim_matches('/');
        let (app, instance) = match path.split_once('/') {
            Some((app, instance)) => (app, Some(instance.trim_start_matches('/'))),
            None => (path, None),
        };
        Self {
            app: app.to_owned(),
            instance: instance
                .filter(|instance| !instance.is_empty())
                .map(str::to_owned),
            query: query.map(str::to_owned),
        }
    }

    /// The instance, [`DEFAULT_INSTANCE`] if the client named none.
    #[must_use]
    pub fn instance_or_default(&self) -> &str {
        self.instance.as_deref().unwrap_or(DEFAULT_INSTANCE)
    }
}

impl fmt::Display for AppPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.app)?;
        if let Some(instance) = &self.instance {
            write!(f, "/{instance}")?;
        }
        if let Some(query) = &self.query {
            write!(f, "?{query}")?;
        }
        Ok(())
    }
}

impl RtmpUrl {
    /// Parses an address.
    ///
    /// # Errors
    /// [`UrlError`] names the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if text.len() > MAX_URL_LENGTH {
            return Err(UrlError::TooLong { length: text.len() });
        }
        let (scheme, rest) = text.split_once(':').ok_or(UrlError::Scheme)?;
        let scheme = Scheme::parse(scheme).ok_or(UrlError::Scheme)?;
        let Some(rest) = rest.strip_prefix("//") else {
            // Flash's short form `rtmp:/app`: the host that served the page, which only the client knows.
            let path = rest.strip_prefix('/').ok_or(UrlError::Scheme)?;
            return Ok(Self {
                scheme,
                host: String::new(),
                port: None,
                app: AppPath::parse(path),
            });
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (host, port) = parse_authority(authority)?;
        Ok(Self {
            scheme,
            host,
            port,
            app: AppPath::parse(path),
        })
    }

    /// The port to connect to.
    #[must_use]
    pub fn port_or_default(&self) -> u16 {
        self.port.unwrap_or_else(|| self.scheme.default_port())
    }

    /// Resolves the `tcUrl` of a reconnect request (Enhanced RTMP v2, "Reconnect Request"): absolute (`rtmp://host/app`), with
    /// another host (`//host/app`) or with another path only (`/app`).
    ///
    /// # Errors
    /// [`UrlError`] if the outcome is no address.
    pub fn resolve(&self, reference: &str) -> Result<Self, UrlError> {
        if reference.starts_with("//") {
            return Self::parse(&format!("{}:{reference}", self.scheme));
        }
        if let Some(path) = reference.strip_prefix('/') {
            return Ok(Self {
                app: AppPath::parse(path),
                ..self.clone()
            });
        }
        Self::parse(reference)
    }
}

impl fmt::Display for RtmpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "{}://[{}]", self.scheme, self.host)?;
        } else {
            write!(f, "{}://{}", self.scheme, self.host)?;
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write!(f, "/{}", self.app)
    }
}

/// Splits a stream name from its query: `camera?token=1` gives `("camera", Some("token=1"))`.
#[must_use]
pub fn split_query(text: &str) -> (&str, Option<&str>) {
    match text.split_once('?') {
        Some((name, query)) => (name, Some(query)),
        None => (text, None),
    }
}

fn parse_authority(authority: &str) -> Result<(String, Option<u16>), UrlError> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or(UrlError::Host)?;
        let port = match port.strip_prefix(':') {
            Some(port) => Some(port),
            None if port.is_empty() => None,
            None => return Err(UrlError::Host),
        };
        (host, port)
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    let port = match port {
        // `host:/app` is what some players build from an empty port field.
        None | Some("") => None,
        Some(digits) => match digits.parse::<u16>() {
            Ok(port) if port != 0 => Some(port),
            _ => return Err(UrlError::Port),
        },
    };
    Ok((host.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(app: &str, instance: Option<&str>, query: Option<&str>) -> AppPath {
        AppPath {
            app: app.to_owned(),
            instance: instance.map(str::to_owned),
            query: query.map(str::to_owned),
        }
    }

    #[test]
    fn addresses_are_taken_apart() {
        for (text, scheme, host, port, path) in [
            (
                "rtmp://Example.COM/live",
                Scheme::Rtmp,
                "example.com",
                None,
                app("live", None, None),
            ),
            (
                "rtmps://h:8443/live/room/1?token=a/b",
                Scheme::Rtmps,
                "h",
                Some(8443),
                app("live", Some("room/1"), Some("token=a/b")),
            ),
            (
                "rtmp://[fe80::1%eth0]:1936/app/",
                Scheme::Rtmp,
                "fe80::1%eth0",
                Some(1936),
                app("app", None, None),
            ),
            ("RTMPTE://h", Scheme::Rtmpte, "h", None, app("", None, None)),
            (
                "rtmfp://h:/live",
                Scheme::Rtmfp,
                "h",
                None,
                app("live", None, None),
            ),
            (
                "rtmp:/live/x",
                Scheme::Rtmp,
                "",
                None,
                app("live", Some("x"), None),
            ),
            (
                "rtmp://h?x=1",
                Scheme::Rtmp,
                "h",
                None,
                app("", None, Some("x=1")),
            ),
            // Adobe's explicit chain of proxies: the rest of the route is the query.
            (
                "rtmp://edge/?rtmp://origin/app/inst",
                Scheme::Rtmp,
                "edge",
                None,
                app("", None, Some("rtmp://origin/app/inst")),
            ),
        ] {
            let url = RtmpUrl::parse(text).unwrap();
            assert_eq!(url.scheme, scheme, "{text}");
            assert_eq!(url.host, host, "{text}");
            assert_eq!(url.port, port, "{text}");
            assert_eq!(url.app, path, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for (text, error) in [
            ("", UrlError::Scheme),
            ("http://h/live", UrlError::Scheme),
            ("rtmp", UrlError::Scheme),
            ("rtmp:live", UrlError::Scheme),
            ("rtmp://[::1/live", UrlError::Host),
            ("rtmp://[::1]x/live", UrlError::Host),
            ("rtmp://h:0/live", UrlError::Port),
            ("rtmp://h:65536/live", UrlError::Port),
            ("rtmp://h:12a/live", UrlError::Port),
        ] {
            assert_eq!(RtmpUrl::parse(text), Err(error), "{text}");
        }
        let long = format!("rtmp://h/{}", "x".repeat(MAX_URL_LENGTH));
        assert_eq!(
            RtmpUrl::parse(&long),
            Err(UrlError::TooLong { length: long.len() })
        );
    }

    #[test]
    fn app_properties_are_taken_apart() {
        for (text, expected) in [
            ("live", app("live", None, None)),
            ("live/", app("live", None, None)),
            ("/live", app("live", None, None)),
            ("live/inst", app("live", Some("inst"), None)),
            ("live//inst/", app("live", Some("inst"), None)),
            ("live/a/b", app("live", Some("a/b"), None)),
            ("live?k=v", app("live", None, Some("k=v"))),
            ("live/i?k=v?w", app("live", Some("i"), Some("k=v?w"))),
            ("", app("", None, None)),
        ] {
            assert_eq!(AppPath::parse(text), expected, "{text}");
        }
        assert_eq!(
            AppPath::parse("live").instance_or_default(),
            DEFAULT_INSTANCE
        );
    }

    #[test]
    fn an_address_is_written_as_it_was_read() {
        for text in [
            "rtmp://h/live",
            "rtmp://h:1936/live/i?k=v",
            "rtmps://[::1]:443/a/b/c",
            "rtmp://edge/?rtmp://origin/app/inst",
        ] {
            assert_eq!(RtmpUrl::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn reconnect_targets_are_resolved() {
        let base = RtmpUrl::parse("rtmps://old:8443/live/inst?k=v").unwrap();
        for (reference, expected) in [
            ("rtmp://new:1935/app", "rtmp://new:1935/app"),
            ("//new/app/i", "rtmps://new/app/i"),
            ("/app", "rtmps://old:8443/app"),
        ] {
            assert_eq!(
                base.resolve(reference).unwrap().to_string(),
                expected,
                "{reference}"
            );
        }
        assert_eq!(base.resolve("app"), Err(UrlError::Scheme));
    }

    #[test]
    fn queries_are_split_at_the_first_question_mark() {
        assert_eq!(split_query("a?b?c"), ("a", Some("b?c")));
        assert_eq!(split_query("a"), ("a", None));
        assert_eq!(split_query("?"), ("", Some("")));
    }
}
