//! What was lost, repeated or late.

use std::time::Duration;

use super::client::{Received, Sent};
use super::media::assert_same;

/// Checks that a viewer got every frame from some key frame on, once and in order, up to the last one that was sent.
pub(crate) fn assert_no_loss(who: &str, sent: &[Sent], received: &[Received]) {
    let first = received
        .first()
        .unwrap_or_else(|| panic!("{who}: nothing came"));
    let from = sent
        .iter()
        .position(|frame| frame.id == first.id)
        .unwrap_or_else(|| panic!("{who}: the first frame was never sent"));
    assert!(
        sent[from].is_key,
        "{who}: frame {from} of those sent, {:?}, came first and is no key frame",
        first.id
    );
    let expected: Vec<_> = sent[from..].iter().map(|frame| frame.id).collect();
    let got: Vec<_> = received.iter().map(|frame| frame.id).collect();
    assert_same(who, &got, &expected);
    assert!(
        received
            .windows(2)
            .all(|pair| pair[1].timestamp >= pair[0].timestamp),
        "{who}: timestamps go back"
    );
}

/// The longest time between two frames, from `since` on.
pub(crate) fn longest_gap(received: &[Received], since: Duration) -> Duration {
    received
        .windows(2)
        .filter(|pair| pair[1].at >= since)
        .map(|pair| pair[1].at - pair[0].at)
        .max()
        .unwrap_or_default()
}

/// Some times as a line: the smallest, quantiles and the largest, in milliseconds.
pub(crate) fn distribution(times: &[Duration]) -> String {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = |share: f64| {
        let last = sorted.len().saturating_sub(1);
        let index = (last as f64 * share).round() as usize;
        sorted
            .get(index)
            .map_or(0.0, |time| time.as_secs_f64() * 1000.0)
    };
    format!(
        "{} values: min {:.1} ms, median {:.1} ms, 90% {:.1} ms, 99% {:.1} ms, max {:.1} ms",
        sorted.len(),
        at(0.0),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    )
}

/// The value below which half of them are.
pub(crate) fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
