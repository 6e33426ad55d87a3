//! Metrics per stream with a bounded number of labels.
//!
//! The names of streams come from clients, so their number must not decide how large the registry grows. The first
//! `metrics.max_streams` streams that live at the same time get a label of their own in every family; the others share
//! `stream="_other_"`. A label goes when the stream ends.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;

/// The label that streams beyond the bound share.
pub const OTHER_STREAMS: &str = "_other_";

/// The label set of a [`StreamFamily`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StreamLabels {
    /// The name of the stream, or [`OTHER_STREAMS`].
    pub stream: Arc<str>,
}

/// Which streams have a label, shared by all families, with the number of metrics that hold each.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    taken: Arc<Mutex<HashMap<Arc<str>, usize>>>,
    limit: usize,
}

impl Slots {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            taken: Arc::default(),
            limit,
        }
    }

    fn take(&self, stream: &str) -> Option<Arc<str>> {
        let mut taken = self.taken.lock();
        let name = match taken.get_key_value(stream) {
            Some((name, _)) => Arc::clone(name),
            None if taken.len() < self.limit && stream != OTHER_STREAMS => Arc::from(stream),
            None => return None,
        };
        *taken.entry(Arc::clone(&name)).or_insert(0) += 1;
        Some(name)
    }

    fn give_back(&self, stream: &str) {
        let mut taken = self.taken.lock();
        if let Some(holders) = taken.get_mut(stream) {
            *holders -= 1;
            if *holders == 0 {
                taken.remove(stream);
            }
        }
    }
}

/// A metric per stream. Clones share it.
#[derive(Clone, Debug)]
pub struct StreamFamily<M> {
    family: Family<StreamLabels, M>,
    holders: Arc<Mutex<HashMap<Arc<str>, usize>>>,
    slots: Slots,
}

impl<M: Clone + Default> StreamFamily<M> {
    pub(super) fn new(slots: Slots) -> Self {
        Self {
            family: Family::default(),
            holders: Arc::default(),
            slots,
        }
    }

    pub(super) fn inner(&self) -> Family<StreamLabels, M> {
        self.family.clone()
    }

    /// The metric of a stream. Keep it as long as the stream lives: the label goes when the last one is dropped.
    ///
    /// Streams beyond the bound share one metric. A gauge must therefore be counted up and down, never set, and taken
    /// back by its holder when the stream ends; see [`StreamMetric::is_shared`].
    pub fn stream(&self, stream: &str) -> StreamMetric<M> {
        let slot = self.slots.take(stream);
        let name = slot.clone().unwrap_or_else(|| Arc::from(OTHER_STREAMS));
        // Counting holders and making the metric must be one step, or the drop of the last holder could remove the
        // label that a new holder has just got.
        let mut holders = self.holders.lock();
        if slot.is_some() {
            *holders.entry(Arc::clone(&name)).or_insert(0) += 1;
        }
        let metric = self
            .family
            .get_or_create_owned(&StreamLabels { stream: name });
        drop(holders);
        StreamMetric {
            metric,
            slot,
            owner: self.clone(),
        }
    }

    fn release(&self, stream: &Arc<str>) {
        let mut holders = self.holders.lock();
        if let Some(count) = holders.get_mut(stream) {
            *count -= 1;
            if *count == 0 {
                holders.remove(stream);
                self.family.remove(&StreamLabels {
                    stream: Arc::clone(stream),
                });
            }
        }
        drop(holders);
        self.slots.give_back(stream);
    }
}

/// The metric of one stream; dropping the last one takes the label away.
#[derive(Debug)]
pub struct StreamMetric<M: Clone + Default> {
    metric: M,
    slot: Option<Arc<str>>,
    owner: StreamFamily<M>,
}

impl<M: Clone + Default> StreamMetric<M> {
    /// Whether the stream came after the bound was reached and shares its metric with others.
    pub fn is_shared(&self) -> bool {
        self.slot.is_none()
    }
}

impl<M: Clone + Default> Deref for StreamMetric<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.metric
    }
}

impl<M: Clone + Default> Drop for StreamMetric<M> {
    fn drop(&mut self) {
        if let Some(stream) = &self.slot {
            self.owner.release(stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use crate::metrics::{Metrics, MetricsSection};

    fn two_streams() -> Metrics {
        Metrics::with_section("n", "edge", &MetricsSection { max_streams: 2 })
    }

    #[test]
    fn streams_beyond_the_bound_share_a_label() {
        let metrics = two_streams();
        let family = metrics
            .room("hub")
            .stream_family::<Counter>("frames", "Frames");
        let held: Vec<_> = ["a", "b", "c", "d"]
            .map(|name| family.stream(name))
            .into_iter()
            .collect();
        for metric in &held {
            metric.inc();
        }
        assert_eq!(
            held.iter()
                .map(super::StreamMetric::is_shared)
                .collect::<Vec<_>>(),
            [false, false, true, true]
        );
        let text = metrics.encode();
        assert!(
            text.contains("stream=\"a\"} 1") && text.contains("stream=\"b\"} 1"),
            "{text}"
        );
        assert!(text.contains("stream=\"_other_\"} 2"), "{text}");
        assert!(!text.contains("stream=\"c\""), "{text}");
    }

    #[test]
    fn the_label_goes_with_the_last_holder_and_makes_room() {
        let metrics = two_streams();
        let family = metrics
            .room("hub")
            .stream_family::<Counter>("frames", "Frames");
        let first = family.stream("a");
        let again = family.stream("a");
        let _other = family.stream("b");
        first.inc();
        drop(first);
        assert!(
            metrics.encode().contains("stream=\"a\"} 1"),
            "one holder is left"
        );
        drop(again);
        assert!(!metrics.encode().contains("stream=\"a\""));
        assert!(!family.stream("c").is_shared(), "there is room again");
    }

    #[test]
    fn all_families_give_a_label_to_the_same_streams() {
        let metrics = two_streams();
        let frames = metrics
            .room("hub")
            .stream_family::<Counter>("frames", "Frames");
        let bytes = metrics
            .room("hub")
            .stream_family::<Counter>("bytes", "Bytes");
        let _held = [frames.stream("a"), frames.stream("b")];
        assert!(bytes.stream("c").is_shared());
        assert!(!bytes.stream("b").is_shared());
        assert!(!bytes.stream("a").is_shared());
    }

    #[test]
    fn a_stream_named_like_the_shared_label_is_shared() {
        let metrics = two_streams();
        let family = metrics
            .room("hub")
            .stream_family::<Counter>("frames", "Frames");
        assert!(family.stream("_other_").is_shared());
    }
}
