//! The store in a bucket: against moto, and against a server that only pretends.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use headwater_node::config::Secret;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::moto::Moto;
use super::*;
use crate::record::archive::{ArchiveError, ReadSegment};
use crate::record::segments::StoredSegments;
use crate::store::remote::BLOCK_BYTES;

/// Below it, in `bucket`, everything is.
const PREFIX: &str = "some/pre fix";

fn bucket(address: &str) -> impl FnOnce(&mut StorageSection) {
    let endpoint = format!("http://{address}");
    move |section| {
        section.url = "s3://bucket/some/pre%20fix".to_owned();
        section.endpoint = endpoint;
        section.allow_http = true;
        section.access_key = "key".to_owned();
        section.secret_key = Secret::new("secret");
        section.read_timeout_ms = 60_000;
    }
}

async fn put(
    store: &Store,
    path: &str,
    bytes: impl Into<Bytes>,
    mode: PutMode,
) -> object_store::Result<()> {
    let payload = object_store::PutPayload::from(bytes.into());
    let path = ObjectPath::parse(path).unwrap();
    store
        .objects()
        .put_opts(&path, payload, mode.into())
        .await
        .map(drop)
}

fn content(length: u64, seed: u64) -> Bytes {
    (0..length).map(|at| (at / 977 * 31 + seed) as u8).collect()
}

#[tokio::test]
async fn a_bucket_is_a_store() {
    let Some(moto) = Moto::start(&[]) else {
        return;
    };
    moto.make_bucket();
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), bucket(&moto.address)).await.unwrap();
    assert!(store.is_remote());
    assert_eq!(store.local_root(), None);
    assert!(
        store
            .journal_dir()
            .starts_with(folder.path().canonicalize().unwrap())
    );
    let listed: Vec<_> = store.objects().list(None).try_collect().await.unwrap();
    assert_eq!(listed, [], "the probe is gone");

    // Created once, also by another origin, which sees the same version.
    let name = "recordings/k\u{f6}y/1/0";
    put(&store, name, "first", PutMode::Create).await.unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let other = open(elsewhere.path(), bucket(&moto.address)).await.unwrap();
    for store in [&store, &other] {
        let again = put(store, name, "again", PutMode::Create).await;
        assert!(
            matches!(again, Err(object_store::Error::AlreadyExists { .. })),
            "{again:?}"
        );
    }
    let path = ObjectPath::parse(name).unwrap();
    let first = store.read(&path).await.unwrap();
    assert_eq!(all(&first), "first");
    assert_eq!(other.read(&path).await.unwrap().version, first.version);
    assert_eq!(other.version(&path).await.unwrap(), first.version);
    let (_, listing) = moto.request("GET", "/bucket?list-type=2");
    assert!(listing.contains(PREFIX), "{listing}");

    // Two creators at once: one of them.
    let (left, right) = tokio::join!(
        put(&store, "race", "left", PutMode::Create),
        put(&other, "race", "right", PutMode::Create)
    );
    assert_eq!([&left, &right].iter().filter(|put| put.is_ok()).count(), 1);

    // Read by ranges.
    let bytes = content(2 * BLOCK_BYTES + 7, 0);
    put(&store, "show.flv", bytes.clone(), PutMode::Overwrite)
        .await
        .unwrap();
    let show = opened(&store, "show.flv").await;
    assert_eq!(show.bytes.length(), bytes.len() as u64);
    for (offset, length) in [
        (0, 10),
        (BLOCK_BYTES - 5, 10),
        (2 * BLOCK_BYTES, 7),
        (BLOCK_BYTES + 1, 1 << 20),
    ] {
        let from = usize::try_from(offset).unwrap();
        let read = show.bytes.read_at(offset, length).unwrap();
        assert_eq!(read, bytes.slice(from..from + length));
    }
    assert_eq!(
        store.shared.metrics.fetched_bytes.get(),
        5 + bytes.len() as u64
    );

    // Replaced: what was opened is never mixed with it.
    let fresh = opened(&other, "show.flv").await;
    assert_eq!(fresh.version, show.version);
    put(
        &store,
        "show.flv",
        content(2 * BLOCK_BYTES + 7, 1),
        PutMode::Overwrite,
    )
    .await
    .unwrap();
    assert_eq!(show.bytes.read_at(3, 5).unwrap(), bytes.slice(3..8));
    let error = fresh.bytes.read_at(0, 1).unwrap_err();
    assert!(matches!(ReadError::from(error), ReadError::Replaced));
    assert_ne!(opened(&other, "show.flv").await.version, show.version);

    for missing in ["none", "recordings", "show.flv/more"] {
        let read = store.read(&ObjectPath::from(missing)).await;
        assert!(
            matches!(read, Err(ReadError::NotFound)),
            "{missing}: {read:?}"
        );
    }
}

#[tokio::test]
async fn segments_are_kept_in_the_cache() {
    let Some(moto) = Moto::start(&[]) else {
        return;
    };
    moto.make_bucket();
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), bucket(&moto.address)).await.unwrap();
    let segments = StoredSegments::new(&store);
    let path = ObjectPath::from("recordings/a/1/segments/0");
    let none = segments.read(&path, 0..1).await.unwrap_err();
    assert!(matches!(none, ArchiveError::NotFound), "{none:?}");
    let bytes = content(BLOCK_BYTES + 7, 0);
    put(&store, path.as_ref(), bytes.clone(), PutMode::Create)
        .await
        .unwrap();
    let all = 0..bytes.len() as u64;
    assert_eq!(segments.read(&path, all.clone()).await.unwrap(), bytes);
    // Nothing more is asked of the bucket: what is gone there is still read.
    store.objects().delete(&path).await.unwrap();
    assert_eq!(segments.read(&path, all).await.unwrap(), bytes);
    let fetched = store.shared.metrics.fetched_bytes.get();
    assert_eq!(fetched, bytes.len() as u64);
    let other = StoredSegments::new(&store);
    let gone = other.read(&path, 0..1).await.unwrap_err();
    assert!(matches!(gone, ArchiveError::NotFound), "{gone:?}");
}

#[tokio::test]
async fn a_bucket_that_does_not_answer_costs_readers_no_more_than_the_timeout() {
    let Some(mut moto) = Moto::start(&[]) else {
        return;
    };
    moto.make_bucket();
    let folder = tempfile::tempdir().unwrap();
    let impatient = |section: &mut StorageSection| {
        bucket(&moto.address)(section);
        section.read_timeout_ms = 2_000;
        section.request_timeout_ms = 1_000;
        section.retries = 1;
    };
    let store = open(folder.path(), impatient).await.unwrap();
    let bytes = content(BLOCK_BYTES + 7, 0);
    put(&store, "show.flv", bytes.clone(), PutMode::Create)
        .await
        .unwrap();
    let show = opened(&store, "show.flv").await;
    assert_eq!(
        show.bytes.read_at(BLOCK_BYTES, 7).unwrap(),
        bytes.slice(bytes.len() - 7..)
    );

    moto.freeze();
    let asked = Instant::now();
    let error = show.bytes.read_at(0, 7).unwrap_err();
    assert!(matches!(ReadError::from(error), ReadError::Unavailable(_)));
    let read = store.read(&ObjectPath::from("show.flv")).await;
    assert!(matches!(read, Err(ReadError::Unavailable(_))), "{read:?}");
    assert!(
        asked.elapsed() < Duration::from_secs(15),
        "{:?}",
        asked.elapsed()
    );
    assert!(store.shared.metrics.errors.get() >= 2);
    // What is in the cache needs nobody.
    assert_eq!(
        show.bytes.read_at(BLOCK_BYTES, 1).unwrap(),
        bytes.slice(bytes.len() - 7..bytes.len() - 6)
    );
    // An origin starts without its bucket.
    let elsewhere = tempfile::tempdir().unwrap();
    open(elsewhere.path(), impatient).await.unwrap();

    moto.thaw();
    assert_eq!(show.bytes.read_at(0, 7).unwrap(), bytes.slice(..7));

    moto.kill();
    let read = store.read(&ObjectPath::from("show.flv")).await;
    assert!(matches!(read, Err(ReadError::Unavailable(_))), "{read:?}");
}

#[tokio::test]
async fn a_bucket_that_refuses_is_told_from_one_that_is_not_there() {
    // After the first request every one needs a key that exists.
    let Some(moto) = Moto::start(&[("INITIAL_NO_AUTH_ACTION_COUNT", "1")]) else {
        return;
    };
    moto.make_bucket();
    let folder = tempfile::tempdir().unwrap();
    let error = open(folder.path(), bucket(&moto.address))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::Refused(object_store::Error::PermissionDenied { .. })
        ),
        "{error:?}"
    );
    assert_eq!(error.key(), "origin.storage.url");

    let Some(moto) = Moto::start(&[]) else {
        return;
    };
    let error = open(folder.path(), bucket(&moto.address))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::Refused(object_store::Error::NotFound { .. })
        ),
        "{error:?}"
    );
}

/// Rights that were taken away while the origin runs.
#[tokio::test]
async fn what_must_not_be_read_is_denied() {
    // The bucket, the probe twice and its deletion, one object.
    let Some(moto) = Moto::start(&[("INITIAL_NO_AUTH_ACTION_COUNT", "6")]) else {
        return;
    };
    moto.make_bucket();
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), bucket(&moto.address)).await.unwrap();
    put(&store, "show.flv", "content", PutMode::Create)
        .await
        .unwrap();
    let show = opened(&store, "show.flv").await;
    let error = show.bytes.read_at(0, 1).unwrap_err();
    assert!(matches!(ReadError::from(error), ReadError::Denied(_)));
    let read = store.read(&ObjectPath::from("show.flv")).await;
    assert!(matches!(read, Err(ReadError::Denied(_))), "{read:?}");
    assert_eq!(store.shared.metrics.errors.get(), 1);
}

/// Writes an authority, and a certificate of it for the local host with its key: `ca.pem`, `cert.pem`, `key.pem`.
fn write_certificates(folder: &Path) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
    fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}

#[tokio::test]
async fn a_server_with_a_certificate_of_its_own_authority() {
    let folder = tempfile::tempdir().unwrap();
    write_certificates(folder.path());
    let file = |name: &str| folder.path().join(name);
    let (cert, key) = (file("cert.pem"), file("key.pem"));
    let arguments = ["-c", cert.to_str().unwrap(), "-k", key.to_str().unwrap()];
    let Some(moto) = Moto::start_with(&[], &arguments) else {
        return;
    };
    let secure = |ca_file: Option<PathBuf>| {
        let endpoint = format!("https://{}", moto.address);
        let address = moto.address.clone();
        move |section: &mut StorageSection| {
            bucket(&address)(section);
            section.endpoint = endpoint;
            section.allow_http = false;
            section.ca_file = ca_file;
            section.read_timeout_ms = 10_000;
            section.retries = 0;
        }
    };
    let data = tempfile::tempdir().unwrap();
    // It says that there is no such bucket, so we got through to it.
    let error = open(data.path(), secure(Some(file("ca.pem"))))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::Refused(object_store::Error::NotFound { .. })
        ),
        "{error:?}"
    );
    // Not trusted, so as good as not there.
    open(data.path(), secure(None)).await.unwrap();
}

/// Takes every object, also the second time.
fn pretender() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || -> io::Result<()> {
                let mut stream = BufReader::new(stream);
                loop {
                    let mut length = 0;
                    let mut line = String::new();
                    while stream.read_line(&mut line)? > 2 {
                        if let Some(value) =
                            line.to_ascii_lowercase().strip_prefix("content-length:")
                        {
                            length = value.trim().parse().unwrap();
                        }
                        line.clear();
                    }
                    io::copy(&mut stream.by_ref().take(length), &mut io::sink())?;
                    let answer = b"HTTP/1.1 200 OK\r\nETag: \"same\"\r\nContent-Length: 0\r\n\r\n";
                    stream.get_mut().write_all(answer)?;
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_store_that_overwrites_what_must_be_created_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = open(folder.path(), bucket(&pretender())).await.unwrap_err();
    assert!(matches!(error, StoreError::NotConditional), "{error:?}");
}

#[tokio::test]
async fn a_store_that_is_closed_lets_readers_finish() {
    let Some(moto) = Moto::start(&[]) else {
        return;
    };
    moto.make_bucket();
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), bucket(&moto.address)).await.unwrap();
    put(
        &store,
        "show.flv",
        content(BLOCK_BYTES + 7, 0),
        PutMode::Create,
    )
    .await
    .unwrap();
    let show = Arc::new(opened(&store, "show.flv").await);
    drop(store);
    assert_eq!(all(&show), content(BLOCK_BYTES + 7, 0));
}
