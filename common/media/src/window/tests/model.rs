//! The window against a naive model: a list of all frames that were taken, and plain searches over it.

use super::*;

/// Every frame since the last hole.
#[derive(Default)]
struct Model {
    frames: Vec<Frame>,
    /// Frames from before the last hole, for the preface.
    before: Vec<Frame>,
}

impl Model {
    fn push(&mut self, frame: Frame) -> bool {
        if let Some(last) = self.frames.last() {
            let next = last.offset.next();
            if frame.offset < next {
                return false;
            }
            let goes_on = frame.offset == next
                || (frame.offset.epoch > next.epoch && frame.offset.sequence == 0);
            if !goes_on {
                self.before.append(&mut self.frames);
            }
        }
        self.frames.push(frame);
        true
    }

    /// The frames of the epoch of the first frame at or after `offset`, from there on.
    fn read(&self, offset: Offset) -> Vec<Offset> {
        let later = self.frames.iter().filter(|frame| frame.offset >= offset);
        let epoch = later.clone().next().map(|frame| frame.offset.epoch);
        later
            .map(|frame| frame.offset)
            .take_while(|found| Some(found.epoch) == epoch)
            .collect()
    }

    fn preface(&self, offset: Offset) -> Vec<Frame> {
        let target = self
            .frames
            .iter()
            .map(|frame| frame.offset)
            .find(|found| *found >= offset)
            .unwrap_or(offset);
        let mut slots: Vec<(Slot, Option<Frame>)> = Vec::new();
        for frame in self.before.iter().chain(&self.frames) {
            if frame.offset.epoch != target.epoch
                || frame.offset >= target
                || !has_slot(frame.flags)
            {
                continue;
            }
            let slot = frame.slot();
            let put = (!frame.flags.contains(FrameFlags::CLEAR_METADATA)).then(|| frame.clone());
            match slots.iter().position(|(held, _)| *held == slot) {
                Some(at) if put.is_none() => drop(slots.remove(at)),
                Some(at) => slots[at].1 = put,
                None if put.is_none() => {}
                None => slots.push((slot, put)),
            }
        }
        let in_force = slots.into_iter().filter_map(|(_, frame)| frame);
        let (data, media): (Vec<_>, Vec<_>) = in_force.partition(|f| f.kind == FrameKind::Data);
        let (video, audio): (Vec<_>, Vec<_>) =
            media.into_iter().partition(|f| f.kind == FrameKind::Video);
        [data, video, audio].concat()
    }
}

/// What a step of a test pushes: an epoch step, a sequence step, a time step and the frame's shape.
type Step = (u8, u8, u16, u8);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0_u8..40, 0_u8..40, 0_u16..400, 0_u8..20), 1..200)
}

fn make(step: Step, last: Option<&Frame>) -> Frame {
    let (epoch_step, sequence_step, time_step, shape) = step;
    let (mut offset, time) = last.map_or_else(
        || (at(1, 3), 0),
        |frame| (frame.offset.next(), frame.timestamp),
    );
    match (epoch_step, sequence_step) {
        (0, 0..30) => offset = at(offset.epoch.0 + 1, 0),
        (0, _) => offset = at(offset.epoch.0 + 1, 2),
        (_, 0) => offset.sequence += 1,
        (_, 1..4) => offset.sequence = offset.sequence.saturating_sub(u64::from(sequence_step)),
        _ => {}
    }
    let (epoch, sequence) = (offset.epoch.0, offset.sequence);
    let made = match shape {
        0 => header(epoch, sequence, FrameKind::Video, epoch_step),
        1 => header(epoch, sequence, FrameKind::Audio, epoch_step),
        2 => metadata(epoch, sequence, "onMetaData", 1),
        3 => metadata(epoch, sequence, "other", 1),
        4 => clear(epoch, sequence, "other"),
        5..8 => key(epoch, sequence, 0),
        8..12 => audio(epoch, sequence, 0),
        _ => inter(epoch, sequence, 0),
    };
    Frame {
        timestamp: time + u64::from(time_step),
        ..made
    }
}

fn retentions() -> impl Strategy<Value = Retention> {
    (0_u64..5_000, 1_usize..600, 1_usize..60).prop_map(
        |(min_duration_ms, max_bytes, max_frames)| Retention {
            min_duration_ms,
            max_bytes,
            max_frames,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn the_window_is_the_tail_of_the_log(retention in retentions(), steps in steps()) {
        let mut window = Window::new(retention);
        let mut model = Model::default();
        for step in steps {
            let frame = make(step, model.frames.last());
            let held_before = window.first_offset();
            let taken = model.push(frame.clone());
            prop_assert_eq!(window.push(frame).is_new(), taken);

            // The window is a suffix of the log, within its bounds.
            let all: Vec<&Frame> = model.frames.iter().collect();
            let held: Vec<&Frame> = window.iter().collect();
            prop_assert!(all.ends_with(&held) && !held.is_empty());
            let bytes: usize = held.iter().map(|frame| frame.payload.len()).sum();
            prop_assert!(held.len() == 1 || (bytes <= retention.max_bytes && held.len() <= retention.max_frames));
            prop_assert_eq!(window.next_offset(), all.last().map(|frame| frame.offset.next()));

            // It lets go only of what retention allows: what is old enough, or what does not fit beside the rest.
            let first = held[0].offset;
            let newest = all[all.len() - 1];
            if let Some(dropped) = all.iter().rev().find(|frame| frame.offset < first)
                && held_before.is_some_and(|before| dropped.offset >= before)
            {
                prop_assert!(
                    newest.timestamp - held[0].timestamp >= retention.min_duration_ms
                        || bytes + dropped.payload.len() > retention.max_bytes
                        || held.len() + 1 > retention.max_frames
                );
            }

            // Late joiners.
            let keys = held.iter().filter(|frame| frame.flags.contains(FrameFlags::KEY));
            let newest_key = keys.clone().next_back().map(|frame| frame.offset);
            let last_video = all.iter().chain(&model.before.iter().collect::<Vec<_>>())
                .filter(|frame| frame.kind == FrameKind::Video).map(|frame| frame.timestamp).max();
            let silent = last_video.is_none_or(|time| newest.timestamp - time > VIDEO_SILENCE_MS);
            let start = newest_key.filter(|start| !silent && start.epoch == newest.offset.epoch);
            prop_assert_eq!(window.live_start(), Some(start.unwrap_or(newest.offset)));

            // Every position in and around the log.
            let floor = all.iter().rev().find(|frame| frame.offset < first).map_or(all[0].offset, |frame| frame.offset.next());
            let oldest_key = keys.clone().next().map(|frame| frame.offset);
            let around = all.iter().map(|frame| frame.offset)
                .flat_map(|offset| [offset, offset.next(), at(offset.epoch.0, offset.sequence + 2)])
                .chain([at(0, 0), newest.offset.next(), at(newest.offset.epoch.0 + 1, 0)]);
            for offset in around.skip(all.len().saturating_sub(30) * 3) {
                match window.read_from(offset, usize::MAX, usize::MAX) {
                    Read::Gap { to } => {
                        prop_assert!(offset < floor);
                        prop_assert_eq!(to, oldest_key.unwrap_or(first));
                    }
                    Read::NotYet => prop_assert!(offset > newest.offset),
                    Read::Frames(frames) => {
                        prop_assert!(offset >= floor);
                        let found: Vec<Offset> = frames.map(|frame| frame.offset).collect();
                        prop_assert_eq!(found, model.read(offset));
                    }
                }
                if offset >= floor {
                    prop_assert_eq!(window.preface_at(offset), model.preface(offset));
                }
                let exact = held.iter().find(|frame| frame.offset == offset).copied();
                prop_assert_eq!(window.get(offset), exact);
            }
        }
    }
}
