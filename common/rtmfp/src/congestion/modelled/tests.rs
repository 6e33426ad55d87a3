use super::super::Sample;
use super::*;

const SEGMENT: usize = 1_000;
const ROUND_TRIP: Duration = Duration::from_millis(100);

/// A sender whose packets arrive at a rate, as far as it sends them.
struct Run {
    control: Modelled,
    now: Duration,
}

impl Run {
    fn new() -> Self {
        Self {
            control: Modelled::new(SEGMENT),
            now: Duration::from_secs(1),
        }
    }

    /// A round trip in which a window goes there and comes back.
    fn round(&mut self, rate: u64, feedback: Feedback) {
        self.now += ROUND_TRIP;
        let sample = Sample {
            rate: Some(rate),
            interval: ROUND_TRIP,
            round: true,
            round_trip: Some(ROUND_TRIP),
            ..feedback.sample.unwrap_or_default()
        };
        let window = self.control.window();
        self.control.acknowledged(&Feedback {
            now: self.now,
            acknowledged: window.saturating_sub(feedback.lost),
            outstanding: window,
            sample: Some(sample),
            ..feedback
        });
    }

    fn rounds(&mut self, count: usize, rate: u64, feedback: Feedback) {
        for _ in 0..count {
            self.round(rate, feedback);
        }
    }

    /// What was learnt of a way of a megabyte each second.
    fn acquainted() -> Self {
        let mut run = Self::new();
        run.rounds(40, 1_000_000, ALONE);
        assert!(matches!(run.control.phase, Phase::Cycling { .. }));
        run
    }
}

const ALONE: Feedback = Feedback {
    now: Duration::ZERO,
    acknowledged: 0,
    lost: 0,
    negative: false,
    outstanding: 0,
    full: true,
    sample: None,
    time_critical: false,
    fast: true,
};

#[test]
fn a_tick_is_no_rate() {
    let mut control = Modelled::new(SEGMENT);
    assert_eq!((control.window(), control.rate()), (10_000, None));
    control.acknowledged(&Feedback {
        acknowledged: 3_000,
        outstanding: 5_000,
        ..ALONE
    });
    assert_eq!((control.window(), control.rate()), (13_000, None));
}

#[test]
fn the_window_doubles_until_no_more_arrives() {
    let mut run = Run::new();
    let mut windows = Vec::new();
    for _ in 0..5 {
        let window = run.control.window() as u64;
        run.round(window * 10, ALONE);
        windows.push(run.control.window());
    }
    assert_eq!(windows[..3], [20_000, 40_000, 80_000]);
    assert!(
        run.control.rate() > Some(4_000_000),
        "{run:?}",
        run = run.control
    );
    // The way has a megabyte each second and 100 ms.
    let mut run = Run::new();
    for _ in 0..30 {
        let window = run.control.window() as u64;
        run.round((window * 10).min(1_000_000), ALONE);
    }
    assert_eq!(run.control.window(), 203_000);
    let rate = run.control.rate().unwrap();
    assert!((800_000..=1_170_000).contains(&rate), "{rate}");
}

#[test]
fn who_has_little_to_send_forgets_nothing() {
    let mut run = Run::acquainted();
    let limited = Feedback {
        sample: Some(Sample {
            limited: true,
            ..Sample::default()
        }),
        ..ALONE
    };
    run.rounds(1_000, 10_000, limited);
    assert_eq!(run.control.rates.greatest(), 1_000_000);
    run.rounds(40, 10_000, ALONE);
    assert_eq!(
        run.control.rates.greatest(),
        10_000,
        "but who has enough does"
    );
}

#[test]
fn losses_count_with_a_queue_or_when_they_are_many() {
    let after = |lost, queue: bool, feedback: Feedback| {
        let mut run = Run::acquainted();
        if queue {
            // One packet of a queue, and the rest as ever.
            run.control.latest = ROUND_TRIP * 2;
        }
        let before = run.control.rates.greatest();
        run.now += ROUND_TRIP;
        run.control.acknowledged(&Feedback {
            now: run.now,
            acknowledged: 100_000 - lost,
            lost,
            outstanding: 100_000,
            sample: Some(Sample {
                round: true,
                ..Sample::default()
            }),
            ..feedback
        });
        run.control.rates.greatest() * 100 / before
    };
    let urgent = Feedback {
        time_critical: true,
        ..ALONE
    };
    let polite = Feedback {
        fast: false,
        ..ALONE
    };
    assert_eq!(after(14_000, false, ALONE), 100, "lost by the way");
    assert_eq!(after(16_000, false, ALONE), 75);
    assert_eq!(after(16_000, false, urgent), 100);
    assert_eq!(after(21_000, false, urgent), 88);
    assert_eq!(after(3_000, false, polite), 50);
    assert_eq!(after(2_000, true, ALONE), 75, "lost by a queue");
    assert_eq!(after(2_000, true, urgent), 88);
}

#[test]
fn a_loss_that_is_not_many_is_judged_with_others() {
    let mut run = Run::new();
    run.round(100_000, ALONE);
    run.control.acknowledged(&Feedback {
        now: run.now,
        acknowledged: 8_000,
        lost: 2_000,
        outstanding: 10_000,
        sample: Some(Sample {
            round: true,
            ..Sample::default()
        }),
        ..ALONE
    });
    assert_eq!(run.control.phase, Phase::Filling, "two of ten are no share");
}

#[test]
fn who_gives_way_keeps_less_under_way() {
    let mut run = Run::acquainted();
    let most = run.control.window();
    let polite = Feedback {
        fast: false,
        ..ALONE
    };
    run.rounds(3, 1_000_000, polite);
    assert_eq!((most, run.control.window()), (203_000, 128_000));
}

#[test]
fn a_timeout_costs_the_window_and_a_second_one_the_trust() {
    let mut run = Run::acquainted();
    run.control.timed_out(true);
    assert_eq!(run.control.window(), 2_000);
    assert_eq!(run.control.rates.greatest(), 1_000_000);
    run.rounds(3, 100_000, ALONE);
    assert_eq!(run.control.window(), 16_000, "by what arrives");
    (0..20).for_each(|_| run.control.timed_out(true));
    assert_eq!(run.control.phase, Phase::Filling);
    assert_eq!(run.control.rates.greatest(), 500_000);
    let mut run = Run::acquainted();
    run.control.timed_out(false);
    assert_eq!(
        run.control.window(),
        10_000,
        "after a pause as at the beginning"
    );
    run.control.path_changed();
    assert_eq!((run.control.window(), run.control.rate()), (10_000, None));
}

#[test]
fn the_length_is_measured_anew_when_nothing_was_near_it() {
    let mut run = Run::acquainted();
    let longer = ROUND_TRIP * 3;
    let mut little = usize::MAX;
    for _ in 0..60 {
        run.now += longer;
        let window = run.control.window();
        run.control.acknowledged(&Feedback {
            now: run.now,
            acknowledged: window,
            outstanding: window,
            sample: Some(Sample {
                rate: Some(300_000),
                interval: longer,
                round: true,
                round_trip: Some(longer),
                limited: false,
            }),
            ..ALONE
        });
        little = little.min(run.control.window());
    }
    assert!(little <= 25_000, "{little}");
    assert_eq!(run.control.length.map(|it| it.round_trip), Some(longer));
}

#[test]
fn no_feedback_breaks_it() {
    let edges = [0, 1, 1_000, u64::MAX / 2, u64::MAX];
    for rate in edges {
        for nanos in edges {
            let mut control = Modelled::new(usize::MAX);
            for round in 0..200_u64 {
                let time = Duration::from_nanos(nanos);
                control.acknowledged(&Feedback {
                    now: time.saturating_mul(round as u32),
                    acknowledged: rate as usize,
                    lost: (nanos / (round + 1)) as usize,
                    outstanding: (rate / (round + 1)) as usize,
                    fast: round % 3 == 0,
                    time_critical: round % 5 == 0,
                    sample: Some(Sample {
                        rate: Some(rate),
                        interval: time,
                        limited: round % 7 == 0,
                        round: round % 2 == 0,
                        round_trip: Some(time),
                    }),
                    ..ALONE
                });
                if round % 50 == 49 {
                    control.timed_out(round % 100 == 99);
                }
                assert!((1..=MAX_WINDOW).contains(&control.window()));
                assert!(control.rate().is_none_or(|rate| rate < 1 << 40));
            }
        }
    }
}

#[test]
fn it_is_small() {
    assert!(size_of::<Modelled>() <= 256, "{}", size_of::<Modelled>());
}
