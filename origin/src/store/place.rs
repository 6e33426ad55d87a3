//! What the `url` of `[origin.storage]` names, and the client for it.

use std::fs;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{Certificate, ClientOptions, ObjectStore, ObjectStoreScheme};
use url::Url;

use super::section::StorageSection;

/// Where the objects are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    DataDir,
    Folder(PathBuf),
    Bucket(Bucket),
}

/// A bucket of an object store, and the part of it that is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    provider: Provider,
    url: Url,
    prefix: Path,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Provider {
    Amazon,
    Google,
    Azure,
}

/// A key of the section that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlaceProblem {
    pub(super) key: &'static str,
    pub(super) message: String,
}

fn problem(key: &'static str, message: impl Into<String>) -> PlaceProblem {
    PlaceProblem {
        key,
        message: message.into(),
    }
}

/// What `url` names.
pub(super) fn resolve(section: &StorageSection) -> Result<Place, PlaceProblem> {
    if section.url.is_empty() {
        return Ok(Place::DataDir);
    }
    // The text itself is not repeated: who writes a key into it, by mistake, must not find it in a log.
    let url =
        Url::parse(&section.url).map_err(|error| problem("url", format!("is no URL: {error}")))?;
    // At Azure the name of the container stands there.
    let name_is_key = matches!(url.scheme(), "s3" | "s3a" | "gs") && !url.username().is_empty();
    if name_is_key || url.password().is_some() {
        return Err(problem(
            "url",
            "must not hold a key; see `access_key` and `secret_key`",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(problem("url", "must not have a query or a fragment"));
    }
    if url.scheme() == "file" {
        let folder = url
            .to_file_path()
            .ok()
            .filter(|folder| folder.parent().is_some())
            .ok_or_else(|| problem("url", "must name a folder, as in `file:///srv/media`"))?;
        return Ok(Place::Folder(folder));
    }
    let unknown = || {
        let message = "must begin with `file://`, `s3://`, `gs://` or `az://`, and name a bucket";
        problem("url", message)
    };
    let (scheme, prefix) = ObjectStoreScheme::parse(&url).map_err(|_| unknown())?;
    let provider = match scheme {
        ObjectStoreScheme::AmazonS3 => Provider::Amazon,
        ObjectStoreScheme::GoogleCloudStorage => Provider::Google,
        ObjectStoreScheme::MicrosoftAzure => Provider::Azure,
        _ => return Err(unknown()),
    };
    Ok(Place::Bucket(Bucket {
        provider,
        url,
        prefix,
    }))
}

impl Place {
    /// What is wrong with the other keys of the section.
    pub(super) fn check(&self, section: &StorageSection) -> Result<(), PlaceProblem> {
        let Self::Bucket(bucket) = self else {
            return folder_needs_none(section);
        };
        bucket.check(section)?;
        bucket.connect(section).map(drop)
    }
}

/// Keys that mean nothing for a folder, and so are a mistake.
fn folder_needs_none(section: &StorageSection) -> Result<(), PlaceProblem> {
    let set = [
        ("endpoint", !section.endpoint.is_empty()),
        ("region", !section.region.is_empty()),
        ("access_key", !section.access_key.is_empty()),
        ("secret_key", !section.secret_key.is_empty()),
        ("ca_file", section.ca_file.is_some()),
        ("options", !section.options.is_empty()),
    ];
    match set.iter().find(|(_, set)| *set) {
        Some((key, _)) => Err(problem(key, "is for buckets, but `url` names a folder")),
        None => Ok(()),
    }
}

impl Bucket {
    fn check(&self, section: &StorageSection) -> Result<(), PlaceProblem> {
        if !section.endpoint.is_empty() {
            let endpoint = Url::parse(&section.endpoint)
                .ok()
                .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
                .ok_or_else(|| problem("endpoint", "must be a URL with `https://` or `http://`"))?;
            if endpoint.scheme() == "http" && !section.allow_http {
                return Err(problem(
                    "endpoint",
                    "is without TLS, but `allow_http` is not set",
                ));
            }
        }
        if !section.region.is_empty() && self.provider != Provider::Amazon {
            return Err(problem("region", "is for `s3://` only"));
        }
        match (section.access_key.is_empty(), section.secret_key.is_empty()) {
            (false, true) => Err(problem("secret_key", "must be set with `access_key`")),
            (true, false) => Err(problem("access_key", "must be set with `secret_key`")),
            (false, false) if self.provider == Provider::Google => Err(problem(
                "access_key",
                "is not for `gs://`; use `options.google_service_account`",
            )),
            _ => Ok(()),
        }
    }

    /// A client for it, whose paths begin below the prefix. Talks to nobody; blocks to read a small file.
    pub(super) fn connect(
        &self,
        section: &StorageSection,
    ) -> Result<Arc<dyn ObjectStore>, PlaceProblem> {
        match self.provider {
            Provider::Amazon => self.amazon(section),
            Provider::Google => self.google(section),
            Provider::Azure => self.azure(section),
        }
    }

    fn amazon(&self, section: &StorageSection) -> Result<Arc<dyn ObjectStore>, PlaceProblem> {
        let mut builder = AmazonS3Builder::from_env()
            .with_client_options(client(section)?)
            .with_retry(section.retry());
        for (key, value) in options::<AmazonS3ConfigKey>(section)? {
            builder = builder.with_config(key, value);
        }
        if !section.endpoint.is_empty() {
            builder = builder.with_endpoint(&section.endpoint);
        }
        if !section.region.is_empty() {
            builder = builder.with_region(&section.region);
        }
        if !section.access_key.is_empty() {
            builder = builder
                .with_access_key_id(&section.access_key)
                .with_secret_access_key(section.secret_key.expose());
        }
        let builder = builder
            .with_virtual_hosted_style_request(section.virtual_host_style)
            .with_allow_http(section.allow_http)
            .with_url(self.url.as_str());
        self.prefixed(section, builder.build())
    }

    fn google(&self, section: &StorageSection) -> Result<Arc<dyn ObjectStore>, PlaceProblem> {
        let mut builder = GoogleCloudStorageBuilder::from_env()
            .with_client_options(client(section)?)
            .with_retry(section.retry());
        for (key, value) in options::<GoogleConfigKey>(section)? {
            builder = builder.with_config(key, value);
        }
        if !section.endpoint.is_empty() {
            builder = builder.with_config(GoogleConfigKey::BaseUrl, &section.endpoint);
        }
        self.prefixed(section, builder.with_url(self.url.as_str()).build())
    }

    fn azure(&self, section: &StorageSection) -> Result<Arc<dyn ObjectStore>, PlaceProblem> {
        let mut builder = MicrosoftAzureBuilder::from_env()
            .with_client_options(client(section)?)
            .with_retry(section.retry());
        for (key, value) in options::<AzureConfigKey>(section)? {
            builder = builder.with_config(key, value);
        }
        if !section.endpoint.is_empty() {
            builder = builder.with_endpoint(section.endpoint.clone());
        }
        if !section.access_key.is_empty() {
            builder = builder
                .with_account(&section.access_key)
                .with_access_key(section.secret_key.expose());
        }
        self.prefixed(section, builder.with_url(self.url.as_str()).build())
    }

    fn prefixed<T: ObjectStore>(
        &self,
        section: &StorageSection,
        built: object_store::Result<T>,
    ) -> Result<Arc<dyn ObjectStore>, PlaceProblem> {
        let store = built.map_err(|error| {
            let message = match error {
                object_store::Error::Generic { source, .. } => source.to_string(),
                error => error.to_string(),
            };
            problem("options", hide_secrets(message, section))
        })?;
        Ok(if self.prefix.is_root() {
            Arc::new(store)
        } else {
            Arc::new(PrefixStore::new(store, self.prefix.clone()))
        })
    }
}

/// How requests are made. Reads the file with the authority.
fn client(section: &StorageSection) -> Result<ClientOptions, PlaceProblem> {
    let mut client = ClientOptions::new()
        .with_allow_http(section.allow_http)
        .with_connect_timeout(Duration::from_millis(section.connect_timeout_ms))
        .with_timeout(Duration::from_millis(section.request_timeout_ms));
    let Some(path) = &section.ca_file else {
        return Ok(client);
    };
    let unusable = |why: String| problem("ca_file", format!("{}: {why}", path.display()));
    let pem = fs::read(path).map_err(|error| unusable(error.to_string()))?;
    let certificates =
        Certificate::from_pem_bundle(&pem).map_err(|error| unusable(error.to_string()))?;
    if certificates.is_empty() {
        return Err(unusable("no certificate is in it".to_owned()));
    }
    for certificate in certificates {
        client = client.with_root_certificate(certificate);
    }
    Ok(client)
}

/// Options that have a key of their own in the section, which says more and is checked.
const OWN_KEYS: &[(&str, &str)] = &[
    ("endpoint", "endpoint"),
    ("base_url", "endpoint"),
    ("region", "region"),
    ("access_key_id", "access_key"),
    ("secret_access_key", "secret_key"),
    ("account_name", "access_key"),
    ("account_key", "secret_key"),
    ("virtual_hosted_style_request", "virtual_host_style"),
    ("bucket", "url"),
    ("container_name", "url"),
    ("allow_http", "allow_http"),
    ("timeout", "request_timeout_ms"),
    ("connect_timeout", "connect_timeout_ms"),
];

/// The options of the section as the provider's keys.
fn options<K: FromStr + PartialEq>(
    section: &StorageSection,
) -> Result<Vec<(K, String)>, PlaceProblem> {
    let parse = |name: &str| K::from_str(&name.to_ascii_lowercase()).ok();
    let mut parsed = Vec::with_capacity(section.options.len());
    for (name, value) in &section.options {
        let key = parse(name)
            .ok_or_else(|| problem("options", format!("`{name}` is unknown for this `url`")))?;
        if let Some((_, own)) = OWN_KEYS
            .iter()
            .find(|(option, _)| parse(option).as_ref() == Some(&key))
        {
            return Err(problem("options", format!("`{name}` is set as `{own}`")));
        }
        parsed.push((key, value.expose().to_owned()));
    }
    Ok(parsed)
}

/// `message` without the values that must not be shown.
fn hide_secrets(message: String, section: &StorageSection) -> String {
    section
        .options
        .values()
        .chain([&section.secret_key])
        .filter(|secret| !secret.is_empty())
        .fold(message, |message, secret| {
            message.replace(secret.expose(), "(hidden)")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> Place {
        resolve(&StorageSection {
            url: url.to_owned(),
            ..StorageSection::default()
        })
        .unwrap()
    }

    #[test]
    fn urls_name_places() {
        assert_eq!(place(""), Place::DataDir);
        assert_eq!(
            place("file:///srv/my%20media/"),
            Place::Folder(PathBuf::from("/srv/my media/"))
        );
        let buckets = [
            ("s3://bucket", Provider::Amazon, ""),
            ("s3://bucket/", Provider::Amazon, ""),
            ("s3://bucket/a/b%20c/", Provider::Amazon, "a/b c"),
            (
                "https://s3.eu-west-1.amazonaws.com/bucket/a",
                Provider::Amazon,
                "a",
            ),
            ("gs://bucket/a", Provider::Google, "a"),
            ("az://container/a", Provider::Azure, "a"),
            (
                "abfss://container@account.dfs.core.windows.net/a",
                Provider::Azure,
                "a",
            ),
        ];
        for (url, provider, prefix) in buckets {
            let Place::Bucket(bucket) = place(url) else {
                panic!("{url} is no bucket");
            };
            assert_eq!(bucket.provider, provider, "{url}");
            assert_eq!(bucket.prefix.as_ref(), prefix, "{url}");
        }
    }
}
