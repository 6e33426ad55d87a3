//! From the timestamps of RTMP messages to the timeline of a stream.
//!
//! RTMP counts milliseconds in 32 bits, which wrap every 49.7 days (RTMP 1.0, section 3); each publisher starts its clock
//! where it likes. A stream's timeline has 64 bits, does not wrap, and goes on from one publisher to the next.

/// How far ahead of the floor a publisher's own clock may start and still be taken as the same clock, in milliseconds: a
/// publisher that reconnects within this time goes on where it was.
pub const MAX_CLOCK_LEAD_MS: u64 = 2_000;

/// Unwraps the 32-bit timestamps of one publisher; audio, video and data go through the same one.
///
/// Each timestamp is taken to lie within 2^31 ms (24.8 days) of the one before it, in whichever direction is nearer, so that
/// steps backward (interleaved tracks, a restarted clock) stay steps backward and a wrap goes on. Whatever a publisher
/// sends, a result differs by at most that much from the result before, and its low 32 bits are the input; only what would
/// lie before 0 becomes 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimestampUnwrapper {
    last: Option<u64>,
}

impl TimestampUnwrapper {
    /// Before the first timestamp, which is taken as it is.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next timestamp of the publisher, in milliseconds.
    pub fn unwrap(&mut self, timestamp: u32) -> u64 {
        let unwrapped = match self.last {
            None => u64::from(timestamp),
            Some(last) => {
                // The low 32 bits count on a circle: the signed difference is the shorter way round.
                let step = timestamp.wrapping_sub(last as u32).cast_signed();
                last.saturating_add_signed(i64::from(step))
            }
        };
        self.last = Some(unwrapped);
        unwrapped
    }
}

/// Places the frames of one epoch on the stream's timeline by a shift that is chosen once.
///
/// The first media frame decides. A stream without history keeps the publisher's clock. Otherwise the clock is kept if it
/// starts at the floor or up to [`MAX_CLOCK_LEAD_MS`] after it, and else shifted, forward or back, so that this frame stands
/// at the floor. Codec headers and metadata often carry time 0 whatever the clock says, so they do not decide: those before
/// the first media frame stand at the floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeline {
    floor: Option<u64>,
    shift: Option<i64>,
}

impl Timeline {
    /// The timeline of a new epoch. `floor` is where the stream's timeline stands, in milliseconds; `None` without history.
    #[must_use]
    pub fn new(floor: Option<u64>) -> Self {
        Self { floor, shift: None }
    }

    /// The place of a frame on the timeline, in milliseconds. `timestamp` is the publisher's, unwrapped; `is_media` is false
    /// for codec headers and data messages.
    pub fn place(&mut self, timestamp: u64, is_media: bool) -> u64 {
        let shift = match (self.shift, self.floor) {
            (Some(shift), _) => shift,
            (None, Some(floor)) if !is_media => return floor,
            (None, None) if !is_media => return timestamp,
            (None, floor) => *self.shift.insert(choose_shift(floor, timestamp)),
        };
        timestamp.saturating_add_signed(shift)
    }

    /// What is added to the publisher's timestamps, in milliseconds; `None` before the first media frame.
    #[must_use]
    pub fn shift(&self) -> Option<i64> {
        self.shift
    }
}

fn choose_shift(floor: Option<u64>, first: u64) -> i64 {
    let Some(floor) = floor else {
        return 0;
    };
    if first
        .checked_sub(floor)
        .is_some_and(|lead| lead <= MAX_CLOCK_LEAD_MS)
    {
        return 0;
    }
    if floor >= first {
        i64::try_from(floor - first).unwrap_or(i64::MAX)
    } else {
        i64::try_from(first - floor).map_or(i64::MIN, |back| -back)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn timestamps_unwrap() {
        for (what, given, expected) in [
            ("forward", vec![0, 40, 80], vec![0, 40, 80]),
            (
                "a start in the middle",
                vec![3_000_000_000, 3_000_000_040],
                vec![3_000_000_000, 3_000_000_040],
            ),
            ("small steps back", vec![100, 77, 120], vec![100, 77, 120]),
            (
                "wrap",
                vec![u32::MAX - 9, 10, u32::MAX - 4, 20],
                vec![4_294_967_286, 4_294_967_306, 4_294_967_291, 4_294_967_316],
            ),
            ("a restarted clock", vec![7_200_000, 0], vec![7_200_000, 0]),
            ("before the start", vec![5, u32::MAX, 7], vec![5, 0, 7]),
        ] {
            let mut unwrapper = TimestampUnwrapper::new();
            let got: Vec<u64> = given.iter().map(|&t| unwrapper.unwrap(t)).collect();
            assert_eq!(got, expected, "{what}");
        }
    }

    #[test]
    fn a_stream_of_a_year_unwraps() {
        let mut unwrapper = TimestampUnwrapper::new();
        let hour = 3_600_000_u64;
        for time in (0..24 * 365).map(|n| n * hour) {
            assert_eq!(unwrapper.unwrap(time as u32), time);
        }
    }

    #[test]
    fn a_new_epoch_is_placed() {
        for (what, floor, first, expected) in [
            ("no history", None, 12_345, 12_345),
            ("the same clock", Some(10_000), 10_000, 10_000),
            (
                "the same clock, a little later",
                Some(10_000),
                12_000,
                12_000,
            ),
            ("too far ahead", Some(10_000), 12_001, 10_000),
            ("from zero", Some(10_000), 0, 10_000),
            ("just before", Some(10_000), 9_999, 10_000),
            ("the far end", Some(0), u64::MAX / 2, 0),
            ("the other far end", Some(u64::MAX / 2), 0, u64::MAX / 2),
        ] {
            let mut timeline = Timeline::new(floor);
            assert_eq!(timeline.place(first, true), expected, "{what}");
            assert_eq!(timeline.place(first + 40, true), expected + 40, "{what}");
        }
    }

    #[test]
    fn headers_do_not_choose_the_shift() {
        let mut timeline = Timeline::new(Some(5_000));
        assert_eq!(timeline.place(0, false), 5_000);
        assert_eq!(timeline.shift(), None);
        assert_eq!(timeline.place(1_000_000, true), 5_000);
        assert_eq!(timeline.place(1_000_020, false), 5_020);
        assert_eq!(timeline.place(0, true), 0, "never before 0");
        assert_eq!(Timeline::new(None).place(7, false), 7);
    }

    proptest! {
        #[test]
        fn nonsense_is_bounded(timestamps: Vec<u32>) {
            let mut unwrapper = TimestampUnwrapper::new();
            let mut last = None;
            for timestamp in timestamps {
                let unwrapped = unwrapper.unwrap(timestamp);
                if let Some(last) = last {
                    prop_assert!(unwrapped.abs_diff(last) <= 1 << 31);
                }
                prop_assert!(unwrapped == 0 || unwrapped as u32 == timestamp);
                last = Some(unwrapped);
            }
        }

        #[test]
        fn any_epoch_is_placed(floor: Option<u64>, timestamps: Vec<(u64, bool)>) {
            let mut timeline = Timeline::new(floor);
            for (timestamp, is_media) in timestamps {
                let _ = timeline.place(timestamp, is_media);
            }
        }
    }
}
