//! What is kept, what is believed, and what goes.

use object_store::memory::InMemory;
use object_store::throttle::{ThrottleConfig, ThrottledStore};

use super::*;

fn name(stream: &str) -> StreamName {
    StreamName::new("_defaultVHost_", "dvrcast", "_definst_", stream).unwrap()
}

fn said(begin_offset_ms: u64) -> StreamInfo {
    StreamInfo {
        begin_offset_ms: Some(begin_offset_ms),
        ..StreamInfo::default()
    }
}

fn everything() -> v1::StreamInfo {
    v1::StreamInfo {
        call_unix_ms: Some(1_700_000_000_000),
        start_unix_ms: Some(-50_400_000),
        stop_unix_ms: Some(0),
        max_length_ms: Some(3_600_000),
        begin_offset_ms: Some(30_500),
        end_offset_ms: Some(0),
        append: Some(true),
        offline: Some(false),
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    type Spoil = fn(&mut v1::StreamInfo);
    let cases: [(Spoil, Result<(), InfoError>); 8] = [
        (|_| {}, Ok(())),
        (|it| *it = v1::StreamInfo::default(), Ok(())),
        (|it| it.max_length_ms = Some(MAX_LENGTH_MS), Ok(())),
        (
            |it| it.max_length_ms = Some(MAX_LENGTH_MS + 1),
            Err(InfoError::Length),
        ),
        (
            |it| it.begin_offset_ms = Some(u64::MAX),
            Err(InfoError::Length),
        ),
        (
            |it| it.end_offset_ms = Some(u64::MAX),
            Err(InfoError::Length),
        ),
        (|it| it.start_unix_ms = Some(i64::MIN), Err(InfoError::Date)),
        (
            |it| it.stop_unix_ms = Some(MAX_UNIX_MS + 1),
            Err(InfoError::Date),
        ),
    ];
    for (index, (spoil, expected)) in cases.into_iter().enumerate() {
        let mut info = everything();
        spoil(&mut info);
        let checked = StreamInfo::check(&info);
        assert_eq!(checked.map(drop), expected, "case {index}");
        if let Ok(checked) = checked {
            assert_eq!(checked.to_wire(), info, "case {index}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_said_last_outlives_the_process() {
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let infos = StreamInfos::new(Arc::clone(&objects));
    let show = name("show.flv");
    assert_eq!(infos.find(&show).await, Ok(None));
    let info = StreamInfo::check(&everything()).unwrap();
    infos.set(&show, said(1)).await.unwrap();
    infos.set(&show, info).await.unwrap();
    assert_eq!(infos.find(&show).await, Ok(Some(info)));
    let after = StreamInfos::new(Arc::clone(&objects));
    assert_eq!(after.last(&show), None, "nobody asked");
    assert_eq!(after.find(&show).await, Ok(Some(info)));
    assert_eq!(after.last(&show), Some(info));
    assert_eq!(after.find(&name("other.flv")).await, Ok(None));

    after.forget(&show).await.unwrap();
    assert_eq!(after.find(&show).await, Ok(None));
    // Of the other process this one knows nothing for a moment.
    assert_eq!(infos.find(&show).await, Ok(Some(info)));
    tokio::time::advance(BELIEVED).await;
    assert_eq!(infos.find(&show).await, Ok(None));
    after.forget(&show).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_said_of_the_recording_before_goes() {
    let infos = StreamInfos::new(Arc::new(InMemory::new()));
    let show = name("show.flv");
    infos.renew(&show, u64::MAX).await.unwrap();
    for (later_ms, stays) in [
        // A publisher that came before its encoder said it.
        (-5_000, true),
        (0, true),
        // Announced.
        (50_000, true),
        (70_000, false),
    ] {
        infos.set(&show, said(7)).await.unwrap();
        let came = unix_millis().saturating_add_signed(later_ms);
        infos.renew(&show, came).await.unwrap();
        let expected = stays.then_some(said(7));
        assert_eq!(infos.find(&show).await, Ok(expected), "{later_ms} ms");
        let after = StreamInfos::new(Arc::clone(&infos.shared.objects));
        assert_eq!(after.find(&show).await, Ok(expected), "{later_ms} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_was_not_said() {
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let show = name("show.flv");
    let large = format!(r#"{{"unix_ms":1,"info":{{}}{}}}"#, " ".repeat(5_000));
    for (text, is_read) in [
        (r#"{"unix_ms":1,"info":{"begin_offset_ms":7}}"#, true),
        // Of a later version.
        (
            r#"{"unix_ms":1,"info":{"begin_offset_ms":7,"new":[1]},"more":1}"#,
            true,
        ),
        (r#"{"unix_ms":1}"#, false),
        (r#"{"unix_ms":1,"info":{"begin_offset_ms":-7}}"#, false),
        (
            r#"{"unix_ms":1,"info":{"begin_offset_ms":99999999999999}}"#,
            false,
        ),
        ("", false),
        (&large, false),
    ] {
        let text = text.to_owned();
        objects
            .put(&path(&show), text.clone().into())
            .await
            .unwrap();
        let infos = StreamInfos::new(Arc::clone(&objects));
        let expected = is_read.then_some(said(7));
        assert_eq!(infos.find(&show).await, Ok(expected), "{text:.80}");
        // It can be said anew.
        infos.set(&show, said(8)).await.unwrap();
        assert_eq!(infos.find(&show).await, Ok(Some(said(8))), "{text:.80}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_names_than_allowed_are_remembered() {
    let infos = StreamInfos::new(Arc::new(InMemory::new()));
    for number in 0..=MOST_KNOWN {
        infos.find(&name(&number.to_string())).await.unwrap();
    }
    assert_eq!(infos.shared.known.lock().len(), MOST_KNOWN);
    tokio::time::advance(BELIEVED).await;
    infos.find(&name("late")).await.unwrap();
    assert_eq!(infos.shared.known.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_that_is_said_gets_lost_between_slow_answers() {
    let slow = ThrottleConfig {
        wait_get_per_call: Duration::from_millis(50),
        wait_put_per_call: Duration::from_millis(20),
        wait_delete_per_call: Duration::from_millis(5),
        ..ThrottleConfig::default()
    };
    let infos = StreamInfos::new(Arc::new(ThrottledStore::new(InMemory::new(), slow)));
    let show = name("show.flv");
    let (found, said_it) = tokio::join!(infos.find(&show), infos.set(&show, said(1)));
    said_it.unwrap();
    assert_eq!(found, Ok(None), "that was before");
    assert_eq!(infos.find(&show).await, Ok(Some(said(1))));

    let later = unix_millis() + 120_000;
    let (gone, said_it) = tokio::join!(infos.renew(&show, later), infos.set(&show, said(2)));
    gone.and(said_it).unwrap();
    assert_eq!(infos.find(&show).await, Ok(Some(said(2))));
    tokio::time::advance(BELIEVED).await;
    assert_eq!(infos.find(&show).await, Ok(Some(said(2))));

    // A caller that gave up: the store knows what came of it.
    let given_up = infos.set(&show, said(3));
    let given_up = tokio::time::timeout(Duration::from_millis(10), given_up);
    assert!(given_up.await.is_err());
    let after = StreamInfos::new(Arc::clone(&infos.shared.objects));
    assert_eq!(infos.find(&show).await, after.find(&show).await);
}
