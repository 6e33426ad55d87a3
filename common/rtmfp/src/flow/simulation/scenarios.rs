use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::network::{Path, Random};
use super::{Pair, fill, ms, open, pattern, received, reliable};
use crate::flow::set::{Config, Event};
use crate::flow::{Order, Outgoing, Priority, ReceiveId, SendId};

#[test]
fn a_message_of_the_greatest_length_goes_through_a_small_window() {
    let config = Config {
        receive_window: 64 << 10,
        ..Config::default()
    };
    let mut pair = Pair::new(&config, &Path::with_delay(5), 1);
    let flow = open(&mut pair.here.flows, Priority::DATA);
    let large = pattern(0x00ff_ffff, 3);
    let now = pair.now;
    pair.here
        .flows
        .send(now, flow, reliable(large.clone()))
        .unwrap();
    pair.here
        .flows
        .send(now, flow, reliable(pattern(10, 4)))
        .unwrap();
    pair.run_for(Duration::from_secs(60));
    let messages = pair.there.messages(flow.0);
    assert_eq!(messages.len(), 2);
    assert!(messages[0].1 == large, "the large one is as it was sent");
    assert_eq!(messages[1].1, pattern(10, 4));
    assert_eq!(pair.there.flows.received_bytes(), 0);
    assert_eq!(pair.here.flows.waiting(), (0, 0));
}

#[test]
fn throughput_is_what_the_window_allows() {
    for window in [64 << 10, 256 << 10] {
        let config = Config {
            receive_window: window,
            ..Config::default()
        };
        let mut pair = Pair::new(&config, &Path::with_delay(80), 1);
        let flow = open(&mut pair.here.flows, Priority::BULK);
        fill(&mut pair, flow, Duration::from_secs(10));
        let seconds = 20;
        let came = fill(&mut pair, flow, Duration::from_secs(seconds));
        let allowed = window as f64 * seconds as f64 / 0.160;
        let share = came as f64 / allowed;
        println!(
            "window {window}: {share:.3} of what it allows; {:?} {:?} {:?}",
            pair.here.flows.window(),
            pair.here.flows.send_state(flow),
            pair.here.flows.round_trip(),
        );
        assert!((0.8..1.05).contains(&share), "{share} of {window}");
        assert_eq!(pair.here.flows.counters().lost, 0);
    }
}

#[test]
fn a_bottleneck_is_used_and_shared() {
    let mut path = Path::with_delay(20);
    path.bandwidth = 500_000;
    path.queue = 40_000;
    let mut pair = Pair::new(&Config::default(), &path, 7);
    let first = open(&mut pair.here.flows, Priority::BULK);
    let second = open(&mut pair.here.flows, Priority::BULK);
    for _ in 0..3_000 {
        for flow in [first, second] {
            while pair.here.flows.send_state(flow).unwrap().bytes < 200_000 {
                let message = reliable(pattern(5_000, 0));
                pair.here.flows.send(pair.now, flow, message).unwrap();
            }
        }
        pair.run_for(ms(10));
    }
    let (one, two) = (received(&pair, first), received(&pair, second));
    let share = (one + two) as f64 / (500_000.0 * 30.0);
    println!("{share:.3} of the bandwidth; {one} and {two} bytes");
    assert!(share > 0.75, "{share} of the bandwidth");
    assert!(one.abs_diff(two) < one / 10, "{one} and {two} bytes");
}

/// Audio and video of a live stream over a path that loses packets.
struct Live {
    pair: Pair,
    audio: SendId,
    video: SendId,
    data: SendId,
    sent_audio: Vec<Duration>,
    sent_video: u64,
}

impl Live {
    fn run(path: &Path, seed: u64, video_frame: usize, seconds: u64) -> Self {
        let mut pair = Pair::new(&Config::default(), path, seed);
        let audio = open(&mut pair.here.flows, Priority::AUDIO);
        let video = open(&mut pair.here.flows, Priority::VIDEO);
        let data = open(&mut pair.here.flows, Priority::DATA);
        let mut live = Self {
            pair,
            audio,
            video,
            data,
            sent_audio: Vec::new(),
            sent_video: 0,
        };
        let start = live.pair.now;
        // Audio each 20 ms, video each 40 ms, of which each fiftieth is a key frame.
        for tick in 0..seconds * 50 {
            let now = start + ms(tick * 20);
            live.pair.run_until(now);
            live.tick(now, tick, video_frame);
        }
        live.pair.run_for(Duration::from_secs(5));
        live
    }

    fn tick(&mut self, now: Duration, tick: u64, video_frame: usize) {
        let flows = &mut self.pair.here.flows;
        let mut body = tick.to_be_bytes().to_vec();
        body.resize(160, 0);
        flows.send(now, self.audio, reliable(body.into())).unwrap();
        self.sent_audio.push(now);
        if tick.is_multiple_of(2) {
            let key = tick.is_multiple_of(100);
            let length = if key { video_frame * 5 } else { video_frame };
            let message = Outgoing {
                body: pattern(length, tick).into(),
                start_by: Some(now + ms(500)),
                finish_by: Some(now + ms(1_000)),
            };
            let id = flows.send(now, self.video, message).unwrap();
            if key {
                flows.abandon_before(self.video, id);
            }
            self.sent_video += 1;
        }
        if tick.is_multiple_of(50) {
            flows
                .send(now, self.data, reliable(pattern(50, tick)))
                .unwrap();
        }
    }

    fn audio_delays(&self) -> Vec<Duration> {
        let came = self.pair.there.messages(self.audio.0);
        assert_eq!(came.len(), self.sent_audio.len(), "no audio is missing");
        let delays = came.iter().zip(&self.sent_audio);
        let mut delays: Vec<_> = delays.map(|((at, _), sent)| *at - *sent).collect();
        delays.sort();
        delays
    }
}

#[test]
fn with_loss_audio_comes_in_time_and_video_is_abandoned() {
    for seed in 1..=4 {
        let mut path = Path::with_delay(80);
        path.loss = 50;
        // 1.6 Mbit/s of video, in which each key frame puts an end to what is still missing of those before.
        let live = Live::run(&path, seed, 8_000, 30);
        let delays = live.audio_delays();
        let p99 = delays[delays.len() * 99 / 100];
        let video = live.pair.there.messages(live.video.0).len() as u64;
        let state = |flow| live.pair.here.flows.send_state(flow).unwrap();
        println!(
            "seed {seed}: audio median {:?}, p99 {p99:?}, greatest {:?}; video {video} of {}, {} abandoned; {:?}",
            delays[delays.len() / 2],
            delays[delays.len() - 1],
            live.sent_video,
            state(live.video).abandoned,
            live.pair.here.flows.counters(),
        );
        assert!(p99 < ms(900), "audio p99 {p99:?}");
        assert!(state(live.video).abandoned > 0, "video is abandoned");
        assert_eq!(state(live.audio).abandoned, 0, "audio never is");
        assert_eq!(live.pair.there.messages(live.data.0).len(), 30);
        // Some of what was given up was under way, and came.
        assert!(video + state(live.video).abandoned >= live.sent_video);
    }
}

#[test]
fn without_loss_nothing_is_abandoned() {
    let live = Live::run(&Path::with_delay(80), 1, 3_000, 20);
    let delays = live.audio_delays();
    let p99 = delays[delays.len() * 99 / 100];
    assert!(p99 < ms(200), "audio p99 {p99:?}");
    // Until the window has opened there is not room for all.
    let late = live.pair.start + Duration::from_secs(4);
    let video = live.pair.there.messages(live.video.0);
    let came = video.iter().filter(|(at, _)| *at >= late).count();
    assert!((16 * 25..).contains(&came), "{came} frames in 16 s");
    assert_eq!(live.pair.here.flows.counters().lost, 0);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut path = Path::with_delay(40);
        path.loss = 50;
        path.repeat = 20;
        path.jitter = ms(30);
        let live = Live::run(&path, seed, 4_000, 5);
        let pair = live.pair;
        (
            pair.here.sent,
            pair.there.events,
            pair.here.flows.counters(),
        )
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3).2, run(4).2);
}

#[test]
fn packets_that_overtake_one_another_change_nothing() {
    for (seed, order) in [
        (1, Order::InOrder),
        (2, Order::Network),
        (3, Order::InOrder),
    ] {
        let mut path = Path::with_delay(10);
        path.jitter = ms(200);
        path.repeat = 100;
        let mut pair = Pair::new(&Config::default(), &path, seed);
        let flow = open(&mut pair.here.flows, Priority::DATA);
        let now = pair.now;
        pair.here
            .flows
            .send(now, flow, reliable(pattern(1, 0)))
            .unwrap();
        pair.run_for(ms(500));
        pair.there.flows.set_order(ReceiveId(flow.0), order);
        let lengths = |number: u64| (number as usize * 397) % 5_000;
        for number in 1..300 {
            let message = reliable(pattern(lengths(number), number));
            pair.here.flows.send(pair.now, flow, message).unwrap();
        }
        pair.run_for(Duration::from_secs(120));
        let mut came: Vec<_> = pair
            .there
            .messages(flow.0)
            .into_iter()
            .map(|(_, m)| m)
            .collect();
        let mut sent: Vec<_> = (1..300).map(|n| pattern(lengths(n), n)).collect();
        sent.insert(0, pattern(1, 0));
        if order == Order::Network {
            assert_ne!(came, sent, "some were overtaken");
            came.sort();
            sent.sort();
        }
        assert_eq!(came.len(), sent.len());
        assert!(came == sent, "{order:?}");
        let gap = |(_, event): &(Duration, Event)| matches!(event, Event::Gap { .. });
        assert!(!pair.there.events.iter().any(gap));
    }
}

#[test]
fn a_suspended_receiver_stops_the_sender_and_goes_on_later() {
    let config = Config {
        receive_window: 32 << 10,
        ..Config::default()
    };
    let mut pair = Pair::new(&config, &Path::with_delay(10), 1);
    let flow = open(&mut pair.here.flows, Priority::DATA);
    let now = pair.now;
    pair.here
        .flows
        .send(now, flow, reliable(pattern(10, 0)))
        .unwrap();
    pair.run_for(ms(100));
    pair.there.flows.suspend(ReceiveId(flow.0), true);
    for number in 1..=100 {
        let message = reliable(pattern(3_000, number));
        pair.here.flows.send(pair.now, flow, message).unwrap();
    }
    pair.run_for(Duration::from_secs(300));
    assert_eq!(pair.there.messages(flow.0).len(), 1, "nothing is told");
    let kept = pair.there.flows.received_bytes();
    assert!((20_000..40_000).contains(&kept), "{kept} bytes are kept");
    let before = pair.here.sent;
    pair.run_for(Duration::from_secs(300));
    let probes = pair.here.sent - before;
    assert!(probes < 200, "{probes} bytes of probes in five minutes");
    assert!(probes > 0, "the sender asks now and then");
    pair.there.flows.suspend(ReceiveId(flow.0), false);
    pair.run_for(Duration::from_secs(10));
    assert_eq!(pair.there.messages(flow.0).len(), 101);
    assert_eq!(pair.there.flows.received_bytes(), 0);
}

#[test]
fn a_flow_is_closed_and_forgotten_at_both_ends() {
    let mut path = Path::with_delay(30);
    path.loss = 300;
    for seed in 1..20 {
        let mut pair = Pair::new(&Config::default(), &path, seed);
        let flow = open(&mut pair.here.flows, Priority::DATA);
        let now = pair.now;
        pair.here
            .flows
            .send(now, flow, reliable(pattern(4_000, 1)))
            .unwrap();
        pair.here.flows.close(flow);
        assert!(
            pair.here
                .flows
                .send(now, flow, reliable(Bytes::new()))
                .is_err()
        );
        pair.run_for(Duration::from_secs(100));
        assert_eq!(pair.there.messages(flow.0).len(), 1, "seed {seed}");
        let last = &pair.there.events.last().unwrap().1;
        assert_eq!(
            *last,
            Event::Finished {
                flow: ReceiveId(flow.0)
            }
        );
        assert_eq!(pair.here.events.last().unwrap().1, Event::Closed { flow });
        assert_eq!(pair.there.flows.receiving(), 0);
        pair.run_for(Duration::from_secs(130));
        let idle = (
            pair.here.flows.poll_timeout(),
            pair.there.flows.poll_timeout(),
        );
        assert_eq!(idle, (None, None), "nothing is due any more");
    }
}

#[test]
fn a_flow_that_is_not_wanted_is_closed_by_its_sender() {
    let mut path = Path::with_delay(30);
    path.loss = 100;
    for seed in 1..20 {
        let mut pair = Pair::new(&Config::default(), &path, seed);
        let flow = open(&mut pair.here.flows, Priority::DATA);
        for number in 0..50 {
            let message = reliable(pattern(4_000, number));
            pair.here.flows.send(pair.now, flow, message).unwrap();
        }
        pair.run_for(ms(200));
        pair.there.flows.reject(ReceiveId(flow.0), 7);
        pair.run_for(Duration::from_secs(60));
        let events: Vec<_> = pair
            .here
            .events
            .iter()
            .map(|(_, event)| event.clone())
            .collect();
        assert_eq!(
            events,
            [Event::Rejected { flow, code: 7 }, Event::Closed { flow }],
            "seed {seed}"
        );
        assert_eq!(pair.there.flows.receiving(), 0);
        assert_eq!(pair.here.flows.waiting(), (0, 0));
    }
}

#[test]
fn an_outage_of_five_seconds_is_survived() {
    let mut pair = Pair::new(&Config::default(), &Path::with_delay(20), 1);
    let flow = open(&mut pair.here.flows, Priority::DATA);
    for number in 0..500_u64 {
        match number {
            100 => (pair.here.link.path.loss, pair.there.link.path.loss) = (1_000, 1_000),
            350 => (pair.here.link.path.loss, pair.there.link.path.loss) = (0, 0),
            _ => {}
        }
        if number == 300 {
            assert!(pair.here.flows.unanswered_since().is_some());
        }
        let message = reliable(pattern(500, number));
        pair.here.flows.send(pair.now, flow, message).unwrap();
        pair.run_for(ms(20));
    }
    pair.here.flows.path_changed();
    pair.run_for(Duration::from_secs(5));
    assert_eq!(pair.there.messages(flow.0).len(), 500);
    assert_eq!(pair.here.flows.unanswered_since(), None);
}

#[test]
fn after_an_outage_the_first_word_of_the_far_end_is_enough() {
    let mut pair = Pair::new(&Config::default(), &Path::with_delay(20), 1);
    let flow = open(&mut pair.here.flows, Priority::DATA);
    let back = open(&mut pair.there.flows, Priority::DATA);
    let send = |pair: &mut Pair, number| {
        let message = reliable(pattern(500, number));
        pair.here.flows.send(pair.now, flow, message).unwrap();
        pair.run_for(ms(200));
    };
    (0..5).for_each(|number| send(&mut pair, number));
    (pair.here.link.path.loss, pair.there.link.path.loss) = (1_000, 1_000);
    (5..130).for_each(|number| send(&mut pair, number));
    let before = pair.here.flows.round_trip().timeout();
    assert!(before > Duration::from_secs(5), "{before:?}");
    (pair.here.link.path.loss, pair.there.link.path.loss) = (0, 0);
    let hello = reliable(pattern(50, 1_000));
    pair.there.flows.send(pair.now, back, hello).unwrap();
    pair.run_for(ms(1_000));
    assert_eq!(pair.there.messages(flow.0).len(), 130);
    assert!(pair.here.flows.round_trip().timeout() < Duration::from_secs(1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn what_comes_in_order_is_what_was_sent_without_what_was_abandoned(
        seed in any::<u64>(),
        loss in 0..300_u64,
        jitter in 0..60_u64,
        repeat in 0..200_u64,
        lengths in proptest::collection::vec((0..4_000_usize, 0..10_u8), 1..120),
    ) {
        let mut path = Path::with_delay(20);
        path.loss = loss;
        path.jitter = ms(jitter);
        path.repeat = repeat;
        let mut pair = Pair::new(&Config::default(), &path, seed);
        let mut random = Random::new(seed);
        let flow = open(&mut pair.here.flows, Priority::VIDEO);
        let mut abandoned = Vec::new();
        let mut ids = Vec::new();
        for (number, (length, fate)) in lengths.iter().enumerate() {
            let mut body = (number as u32).to_be_bytes().to_vec();
            body.extend_from_slice(&pattern(*length, number as u64));
            let message = Outgoing {
                body: Bytes::from(body).into(),
                start_by: (*fate == 0).then_some(pair.now + ms(30)),
                finish_by: (*fate == 1).then_some(pair.now + ms(100)),
            };
            ids.push(pair.here.flows.send(pair.now, flow, message).unwrap());
            if *fate == 2 {
                let victim = random.below(ids.len() as u64) as usize;
                if pair.here.flows.abandon(flow, ids[victim]) {
                    abandoned.push(victim as u32);
                }
            }
            pair.run_for(ms(random.below(20)));
        }
        pair.here.flows.close(flow);
        pair.run_for(Duration::from_secs(400));
        let came = pair.there.messages(flow.0);
        let mut last = None;
        let mut seen = Vec::new();
        for (_, payload) in &came {
            let (number, body) = payload.split_first_chunk::<4>().unwrap();
            let number = u32::from_be_bytes(*number);
            prop_assert!(last < Some(number), "{} after {:?}", number, last);
            prop_assert_eq!(body, &pattern(lengths[number as usize].0, u64::from(number))[..]);
            last = Some(number);
            seen.push(number);
        }
        for (number, (_, fate)) in lengths.iter().enumerate() {
            let number = number as u32;
            let may_miss = *fate < 2 || abandoned.contains(&number);
            prop_assert!(may_miss || seen.contains(&number), "{} is missing", number);
        }
        // Some that were abandoned came all the same; no more are missing than were.
        let missing = (lengths.len() - seen.len()) as u64;
        prop_assert!(missing <= pair.here.flows.counters().abandoned);
        let finished = Event::Finished { flow: ReceiveId(flow.0) };
        prop_assert_eq!(pair.there.events.last().map(|(_, event)| event.clone()), Some(finished));
        prop_assert_eq!(pair.here.events.last().map(|(_, event)| event.clone()), Some(Event::Closed { flow }));
        prop_assert_eq!(pair.there.flows.received_bytes(), 0);
        prop_assert_eq!(pair.here.flows.window().1, 0, "nothing is under way");
    }
}
