//! The figures that servers are compared by, and their medians over rounds.

use std::collections::BTreeMap;

use serde::Serialize;

/// One figure of a measurement. Its name in JSON tells its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Figure {
    /// Processor time of the server in percent of one processor.
    CpuPercent,
    /// Processor time for 10^9 bytes that viewers got.
    CpuSecondsPerGb,
    /// Processor time for each second of each viewer.
    CpuMsPerViewerSecond,
    /// Processor time for each connection.
    CpuUsPerConnection,
    /// Processor time per byte, or per connection, over that of the baseline in the same round.
    Ratio,
    /// What all viewers got together.
    MbitPerS,
    /// Video frames that a viewer got.
    FpsPerViewer,
    /// Half of the video frames took no longer.
    LatencyP50Ms,
    /// Nine of ten video frames took no longer.
    LatencyP90Ms,
    /// 99 of 100 video frames took no longer.
    LatencyP99Ms,
    /// The slowest video frame.
    LatencyMaxMs,
    /// Missing frames.
    Missing,
    /// Repeated frames.
    Repeated,
    /// Gaps of more than 0.5 s.
    Stalls,
    /// Viewers that were cut off.
    Disconnected,
    /// Viewers or connections that never got what they came for.
    Failed,
    /// Memory of the server with all viewers.
    RssMb,
    /// What each viewer added to it.
    RssKbPerViewer,
    /// Times that the server waited.
    WaitsPerS,
    /// Times that the server was put aside for somebody else.
    PreemptionsPerS,
    /// From the start of connecting to the server's word, half of the viewers.
    SetupP50Ms,
    /// The same, 99 of 100 viewers.
    SetupP99Ms,
    /// From the start of connecting to the first frame, half of the viewers.
    FirstFrameP50Ms,
    /// The same, 99 of 100 viewers.
    FirstFrameP99Ms,
    /// Connections that were made each second.
    ConnectionsPerS,
    /// Viewers that had stopped reading and were closed by the server.
    StoppedClosed,
    /// The most that a frame was published late, if it was during the measurement that it was the most.
    PublisherBehindMs,
    /// Processor time of publisher and viewers, in percent of one processor.
    HarnessCpuPercent,
}

/// The figures of one measurement. What was not measured is not in it.
pub type Figures = BTreeMap<Figure, f64>;

/// One figure over several rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Median {
    /// Half of the rounds have no more: of an even number the mean of the middle two.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Median {
    /// Of these values; `None` of none. Values that are no numbers are left out.
    #[must_use]
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (first, last) = (values.first()?, values.last()?);
        let upper = values.get(values.len() / 2)?;
        let lower = values.get((values.len() - 1) / 2)?;
        Some(Self {
            median: f64::midpoint(*lower, *upper),
            least: *first,
            most: *last,
        })
    }
}

/// The median of each figure that at least one measurement has.
#[must_use]
pub fn medians(runs: &[&Figures]) -> BTreeMap<Figure, Median> {
    let mut columns: BTreeMap<Figure, Vec<f64>> = BTreeMap::new();
    for (&figure, &value) in runs.iter().copied().flatten() {
        columns.entry(figure).or_default().push(value);
    }
    let medians = columns.into_iter();
    medians
        .filter_map(|(figure, values)| Some((figure, Median::of(values.into_iter())?)))
        .collect()
}

/// Puts a value in if it is a number.
pub(super) fn put(figures: &mut Figures, figure: Figure, value: f64) {
    if value.is_finite() {
        figures.insert(figure, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let of = |values: &[f64]| Median::of(values.iter().copied());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[f64::NAN]), None);
        let median = of(&[9.0, 1.0, 2.0]).unwrap();
        assert_eq!((median.least, median.median, median.most), (1.0, 2.0, 9.0));
        assert_eq!(of(&[1.0, 2.0]).unwrap().median, 1.5);
        assert_eq!(of(&[4.0]).unwrap().median, 4.0);
    }

    #[test]
    fn a_figure_that_one_round_lacks_is_that_of_the_others() {
        let first = Figures::from([(Figure::CpuPercent, 10.0), (Figure::Ratio, 2.0)]);
        let second = Figures::from([(Figure::CpuPercent, 20.0)]);
        let medians = medians(&[&first, &second]);
        assert_eq!(medians[&Figure::CpuPercent].median, 15.0);
        assert_eq!(medians[&Figure::Ratio].median, 2.0);
        assert!(!medians.contains_key(&Figure::Missing));
    }

    #[test]
    fn names_in_json_tell_the_unit() {
        let figures = Figures::from([(Figure::CpuSecondsPerGb, 1.5)]);
        let json = serde_json::to_string(&figures).unwrap();
        assert_eq!(json, r#"{"cpu_seconds_per_gb":1.5}"#);
    }
}
