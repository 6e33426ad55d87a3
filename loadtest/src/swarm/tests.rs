use super::*;
use crate::client::ClientError;

#[test]
fn a_viewer_costs_little_memory() {
    const { assert!(BYTES_PER_VIEWER <= 1_200) };
}

#[test]
fn what_became_of_silent_viewers_is_summed_up() {
    let closed = |after_ms: Option<u64>, last_status: Option<&str>| Stopped {
        had_played: true,
        is_closed: true,
        ending: Some(ClientError::Closed),
        closed_after: after_ms.map(std::time::Duration::from_millis),
        last_status: last_status.map(str::to_owned),
    };
    let open = Stopped {
        had_played: false,
        is_closed: false,
        ending: None,
        closed_after: None,
        last_status: None,
    };
    let unread = Stopped {
        ending: None,
        ..closed(None, None)
    };
    let slow = "NetStream.Play.InsufficientBW: too slow";
    let summary = summary_of(&[
        closed(Some(5_000), Some(slow)),
        closed(None, Some(slow)),
        closed(Some(6_000), None),
        unread,
        open,
    ]);
    assert_eq!(
        (summary.viewers, summary.had_played, summary.closed),
        (5, 4, 4)
    );
    assert_eq!(summary.closed_after.count, 2);
    let told = |endings: &[Ending]| -> Vec<(String, u64)> {
        let endings = endings.iter();
        endings.map(|one| (one.what.clone(), one.count)).collect()
    };
    assert_eq!(
        told(&summary.last_statuses),
        [(slow.to_owned(), 2), ("none".to_owned(), 2)]
    );
    assert_eq!(
        told(&summary.endings),
        [
            ("closed by the server".to_owned(), 3),
            ("closed, with bytes that did not come in time".to_owned(), 1)
        ]
    );
}
