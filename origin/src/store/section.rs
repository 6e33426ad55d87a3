//! The `[origin.storage]` section: where recordings and media files are.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use headwater_node::config::Secret;
use object_store::{BackoffConfig, RetryConfig};

use super::place;

/// The longest pause between two attempts at one request.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

headwater_node::section! {
    /// Where recordings and media files are: a folder, or a bucket of an object store. Origins of one cluster share a bucket, so
    /// that each can go on with what another one recorded.
    pub struct StorageSection {
        /// Empty: the data folder. `file:///folder`: another folder. `s3://bucket/prefix`, `gs://bucket/prefix`,
        /// `az://container/prefix`: a bucket at Amazon or a compatible server, at Google, at Azure. The store must be able to
        /// create an object only where none is (`If-None-Match: *`); that is tried at start.
        pub url: String = String::new(),
        /// The server of a bucket, such as `https://minio.example.net:9000`. Empty: the provider's own.
        pub endpoint: String = String::new(),
        /// The region of an S3 bucket. Empty: as the environment says, or `us-east-1`.
        pub region: String = String::new(),
        /// The access key id at S3, the account at Azure. Empty: as the environment says, or the identity of the machine.
        pub access_key: String = String::new(),
        /// The key that belongs to `access_key`.
        pub secret_key: Secret = Secret::default(),
        /// Whether a bucket may be reached without TLS.
        pub allow_http: bool = false,
        /// PEM file with the authority that signed the server's certificate, where it is none that the system trusts.
        pub ca_file: Option<PathBuf> = None,
        /// Whether the bucket is part of the host name instead of the path. Amazon takes both, others mostly the path.
        pub virtual_host_style: bool = false,
        /// Whatever else the object store understands, by the names of the Rust crate `object_store`, such as
        /// `google_service_account` or `aws_sse_kms_key_id`.
        pub options: BTreeMap<String, Secret> = BTreeMap::new(),
        /// Where parts of a bucket's objects are kept for reading. Empty: the folder `cache` in the data folder. Its
        /// files are deleted at start. Not used with a folder.
        pub cache_dir: PathBuf = PathBuf::new(),
        /// The most that the cache takes of the disk, bytes.
        pub cache_bytes: u64 = 10 << 30 => 64 << 20..=1 << 50,
        /// How long a connection to a bucket may take, milliseconds.
        pub connect_timeout_ms: u64 = 3_000 => 10..=60_000,
        /// How long one request to a bucket may take, its body included, milliseconds.
        pub request_timeout_ms: u64 = 30_000 => 100..=600_000,
        /// How often a request that failed for reasons that pass is tried again.
        pub retries: usize = 5 => 0..=100,
        /// For how long it is tried again, milliseconds.
        pub retry_timeout_ms: u64 = 60_000 => 0..=600_000,
        /// How long a viewer waits for something to be opened or read before that counts as failed, attempts included, milliseconds.
        pub read_timeout_ms: u64 = 10_000 => 100..=600_000,
        /// Whether symbolic links in a folder are followed, wherever they lead. Whoever can write into the folder can then show
        /// viewers any media file that the origin can read.
        pub follow_links: bool = false,
    }
    validate |section, problems| {
        if let Err(problem) = place::resolve(section).and_then(|place| place.check(section)) {
            problems.push(problem.key, problem.message);
        }
    }
}

impl StorageSection {
    pub(super) fn read_timeout(&self) -> Duration {
        Duration::from_millis(self.read_timeout_ms)
    }

    /// After which a bucket has answered, or failed: it is the client that tries again, and nobody cuts it short.
    pub(crate) fn answer_timeout(&self) -> Duration {
        // The last try may begin when the time to try is over.
        Duration::from_millis(
            self.retry_timeout_ms
                .saturating_add(self.request_timeout_ms),
        )
        .saturating_add(MAX_BACKOFF)
    }

    pub(super) fn retry(&self) -> RetryConfig {
        RetryConfig {
            backoff: BackoffConfig {
                max_backoff: MAX_BACKOFF,
                ..BackoffConfig::default()
            },
            max_retries: self.retries,
            retry_timeout: Duration::from_millis(self.retry_timeout_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use headwater_node::config::{Field, Problems};

    use super::*;

    fn problems(section: &StorageSection) -> Vec<(String, String)> {
        let mut problems = Problems::default();
        section.check(&mut problems);
        problems
            .into_vec()
            .into_iter()
            .map(|problem| (problem.key, problem.message))
            .collect()
    }

    fn with(change: impl FnOnce(&mut StorageSection)) -> StorageSection {
        let mut section = StorageSection::default();
        change(&mut section);
        section
    }

    fn bucket(change: impl FnOnce(&mut StorageSection)) -> StorageSection {
        with(|section| {
            section.url = "s3://bucket/some/prefix".to_owned();
            change(section);
        })
    }

    #[test]
    fn what_can_be_used_has_no_problems() {
        let good = [
            StorageSection::default(),
            with(|section| section.url = "file:///some/folder%20here".to_owned()),
            bucket(|_| {}),
            with(|section| section.url = "s3://bucket".to_owned()),
            bucket(|section| {
                section.endpoint = "http://127.0.0.1:9000".to_owned();
                section.allow_http = true;
                section.access_key = "me".to_owned();
                section.secret_key = Secret::new("mine");
                section.region = "here".to_owned();
                section.virtual_host_style = true;
            }),
            bucket(|section| {
                section.options = BTreeMap::from([
                    ("AWS_SESSION_TOKEN".to_owned(), Secret::new("token")),
                    ("user_agent".to_owned(), Secret::new("test")),
                ]);
            }),
            with(|section| section.url = "gs://bucket/prefix".to_owned()),
            with(|section| {
                section.url = "az://container/prefix".to_owned();
                section.access_key = "account".to_owned();
                section.secret_key = Secret::new("c2VjcmV0");
            }),
        ];
        for section in good {
            assert_eq!(problems(&section), [], "{section:?}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let key = Secret::new("swordfish");
        let bad = [
            ("url", with(|section| section.url = "folder".to_owned())),
            (
                "url",
                with(|section| section.url = "ftp://server/folder".to_owned()),
            ),
            ("url", with(|section| section.url = "memory:///".to_owned())),
            (
                "url",
                with(|section| section.url = "https://example.com/dav".to_owned()),
            ),
            (
                "url",
                with(|section| section.url = "file://host/folder".to_owned()),
            ),
            ("url", with(|section| section.url = "file:///".to_owned())),
            (
                "url",
                with(|section| section.url = "s3:///prefix".to_owned()),
            ),
            (
                "url",
                with(|section| section.url = "s3://key:swordfish@bucket/prefix".to_owned()),
            ),
            (
                "url",
                with(|section| section.url = "s3://bucket/prefix?versionId=1".to_owned()),
            ),
            (
                "url",
                with(|section| section.url = "s3://bucket/a//b".to_owned()),
            ),
            (
                "endpoint",
                bucket(|section| section.endpoint = "minio:9000/x y".to_owned()),
            ),
            (
                "endpoint",
                bucket(|section| section.endpoint = "http://127.0.0.1:9000".to_owned()),
            ),
            (
                "endpoint",
                with(|section| section.endpoint = "https://127.0.0.1".to_owned()),
            ),
            (
                "region",
                with(|section| {
                    section.url = "gs://bucket".to_owned();
                    section.region = "here".to_owned();
                }),
            ),
            (
                "secret_key",
                bucket(|section| section.access_key = "me".to_owned()),
            ),
            (
                "access_key",
                bucket(|section| section.secret_key = key.clone()),
            ),
            (
                "access_key",
                with(|section| {
                    section.url = "gs://bucket".to_owned();
                    section.access_key = "me".to_owned();
                    section.secret_key = key.clone();
                }),
            ),
            (
                "options",
                with(|section| {
                    section.options = BTreeMap::from([("user_agent".to_owned(), key.clone())]);
                }),
            ),
            (
                "options",
                bucket(|section| {
                    section.options =
                        BTreeMap::from([("aws_no_such_thing".to_owned(), key.clone())]);
                }),
            ),
            (
                "options",
                bucket(|section| {
                    section.options = BTreeMap::from([("aws_s3_express".to_owned(), key.clone())]);
                }),
            ),
            (
                "options",
                bucket(|section| {
                    section.options = BTreeMap::from([("AWS_REGION".to_owned(), key.clone())]);
                }),
            ),
            (
                "options",
                bucket(|section| {
                    section.options = BTreeMap::from([("timeout".to_owned(), key.clone())]);
                }),
            ),
            (
                "ca_file",
                bucket(|section| section.ca_file = Some("/nosuch.pem".into())),
            ),
            (
                "ca_file",
                bucket(|section| section.ca_file = Some("/dev/null".into())),
            ),
            (
                "ca_file",
                with(|section| section.ca_file = Some("/dev/null".into())),
            ),
            ("cache_bytes", with(|section| section.cache_bytes = 1)),
        ];
        for (key, section) in bad {
            let found = problems(&section);
            let keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
            assert_eq!(keys, [key], "{section:?}: {found:?}");
            assert!(!found[0].1.contains("swordfish"), "{found:?}");
        }
    }
}
