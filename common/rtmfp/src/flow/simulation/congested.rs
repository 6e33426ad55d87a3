//! What congestion control makes of ways that lose packets, that are too narrow, that others use, and that go away.

use std::time::Duration;

use super::network::{Link, Path};
use super::{Pair, SPACE, chunks, fill, ms, open, pattern, reliable};
use crate::congestion::{Congestion, Modelled, Windowed};
use crate::flow::set::{Config, Event, FlowSet, Header};
use crate::flow::{Outgoing, Priority, SendId};

/// Bits each second, as bytes.
const MBIT: u64 = 125_000;

/// After what time a picture is not worth anything.
const PICTURE_LIVES: Duration = Duration::from_secs(2);

fn way(delay: u64, megabits: u64) -> Path {
    Path {
        bandwidth: megabits * MBIT,
        ..Path::with_delay(delay)
    }
}

/// A live stream: 30 pictures each second in 1 Mbit/s, each sixtieth of them a key frame of five times the size, and 64 kbit/s of sound.
struct Stream {
    pair: Pair,
    audio: SendId,
    video: SendId,
    sent_audio: Vec<Duration>,
    sent_video: Vec<Duration>,
}

impl Stream {
    fn new(path: &Path, seed: u64) -> Self {
        let mut pair = Pair::new(&Config::default(), path, seed);
        Self {
            audio: open(&mut pair.here.flows, Priority::AUDIO),
            video: open(&mut pair.here.flows, Priority::VIDEO),
            pair,
            sent_audio: Vec::new(),
            sent_video: Vec::new(),
        }
    }

    fn run_for(&mut self, time: Duration) {
        let until = self.pair.now + time;
        let start = self.pair.start;
        loop {
            let audio = start + ms(20) * self.sent_audio.len() as u32;
            let video = start + Duration::from_secs(1) * self.sent_video.len() as u32 / 30;
            let next = audio.min(video);
            if next > until {
                break;
            }
            self.pair.run_until(next);
            let flows = &mut self.pair.here.flows;
            if next == audio {
                let message = reliable(pattern(160, 0));
                flows.send(next, self.audio, message).unwrap();
                self.sent_audio.push(next);
            } else {
                let number = self.sent_video.len();
                let factor = if number.is_multiple_of(60) { 5 } else { 1 };
                let mut body = (number as u64).to_be_bytes().to_vec();
                body.resize(3_900 * factor, 0);
                let message = Outgoing {
                    finish_by: Some(next + PICTURE_LIVES),
                    ..reliable(body.into())
                };
                flows.send(next, self.video, message).unwrap();
                self.sent_video.push(next);
            }
        }
        self.pair.run_until(until);
    }

    /// Lets what is under way arrive.
    fn finish(&mut self) {
        self.pair.run_for(Duration::from_secs(5));
    }

    /// How late the sound is at the far end, in order; all of it comes.
    fn audio_delays(&self) -> Vec<Duration> {
        let came = self.pair.there.messages(self.audio.0);
        assert_eq!(came.len(), self.sent_audio.len(), "no sound is missing");
        let delays = came.iter().zip(&self.sent_audio);
        let mut delays: Vec<_> = delays.map(|((at, _), sent)| *at - *sent).collect();
        delays.sort();
        delays
    }

    /// The share of the pictures sent from `from` to `to` that came in time.
    fn pictures(&self, from: Duration, to: Duration) -> f64 {
        let is_meant = |sent: &Duration| (from..to).contains(sent);
        let came = self.pair.there.messages(self.video.0);
        let in_time = came.iter().filter(|(at, body)| {
            let number = u64::from_be_bytes(body[..8].try_into().unwrap());
            let sent = self.sent_video[number as usize];
            is_meant(&sent) && *at <= sent + PICTURE_LIVES
        });
        let count = self.sent_video.iter().filter(|sent| is_meant(sent)).count();
        in_time.count() as f64 / count as f64
    }
}

fn p99(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() * 99 / 100]
}

#[test]
fn a_live_stream_comes_although_packets_are_lost() {
    for (delay, bound) in [(40, 300), (80, 450)] {
        for seed in 1..=5 {
            let mut path = way(delay, 10);
            path.loss = 50;
            let mut stream = Stream::new(&path, seed);
            stream.run_for(Duration::from_secs(60));
            stream.finish();
            let delays = stream.audio_delays();
            let share = stream.pictures(Duration::ZERO, Duration::MAX);
            println!(
                "{delay} ms, seed {seed}: {:.1} % of the pictures; sound median {:?}, p99 {:?}, longest {:?}; {:?}",
                share * 100.0,
                delays[delays.len() / 2],
                p99(&delays),
                delays[delays.len() - 1],
                stream.pair.here.flows.counters(),
            );
            assert!(share >= 0.95, "{share} of the pictures");
            assert!(p99(&delays) < ms(bound), "sound p99 {:?}", p99(&delays));
        }
    }
}

#[test]
fn on_a_way_that_is_too_narrow_sound_comes_in_time_and_no_queue_stands() {
    for seed in 1..=3 {
        let mut path = Path::with_delay(40);
        path.bandwidth = MBIT / 2;
        path.jitter = ms(3);
        let mut stream = Stream::new(&path, seed);
        stream.run_for(Duration::from_secs(5));
        stream.pair.here.link.longest_wait = Duration::ZERO;
        stream.run_for(Duration::from_secs(40));
        let wait = stream.pair.here.link.longest_wait;
        stream.finish();
        let delays = stream.audio_delays();
        let share = stream.pictures(Duration::ZERO, Duration::MAX);
        let abandoned = stream.pair.here.flows.counters().abandoned;
        println!(
            "seed {seed}: {:.1} % of the pictures, {abandoned} abandoned; longest queue {wait:?}; sound p99 {:?}, longest {:?}",
            share * 100.0,
            p99(&delays),
            delays[delays.len() - 1],
        );
        assert!(wait < ms(300), "{wait:?} before the bottleneck");
        assert!(p99(&delays) < ms(400), "sound p99 {:?}", p99(&delays));
        assert!(abandoned > 300, "{abandoned} pictures were given up");
    }
}

#[test]
fn a_way_that_becomes_narrow_and_wide_again_is_followed() {
    let mut stream = Stream::new(&way(40, 10), 1);
    stream.run_for(Duration::from_secs(20));
    stream.pair.here.link.path.bandwidth = MBIT / 2;
    stream.run_for(Duration::from_secs(5));
    stream.pair.here.link.longest_wait = Duration::ZERO;
    stream.run_for(Duration::from_secs(15));
    let wait = stream.pair.here.link.longest_wait;
    stream.pair.here.link.path.bandwidth = 10 * MBIT;
    let wide = stream.pair.now;
    stream.run_for(Duration::from_secs(20));
    stream.finish();
    let delays = stream.audio_delays();
    let share = stream.pictures(wide + Duration::from_secs(3), Duration::MAX);
    println!(
        "queue {wait:?}, then {:.1} % of the pictures; sound p99 {:?}",
        share * 100.0,
        p99(&delays)
    );
    assert!(wait < ms(300), "{wait:?} before the bottleneck");
    assert!(share > 0.99, "{share} of the pictures");
}

#[test]
fn after_an_outage_a_live_stream_is_live_again_at_once() {
    for seed in 1..=3 {
        let mut stream = Stream::new(&way(80, 10), seed);
        stream.run_for(Duration::from_secs(20));
        let outage = |stream: &mut Stream, loss| {
            stream.pair.here.link.path.loss = loss;
            stream.pair.there.link.path.loss = loss;
        };
        outage(&mut stream, 1_000);
        stream.run_for(Duration::from_secs(5));
        outage(&mut stream, 0);
        let back = stream.pair.now;
        stream.run_for(Duration::from_secs(10));
        stream.finish();
        stream.audio_delays();
        let came = stream.pair.there.messages(stream.audio.0);
        let live = came
            .iter()
            .zip(&stream.sent_audio)
            .find(|((at, _), sent)| *at > back && *at - **sent < ms(300));
        let again = live.unwrap().0.0 - back;
        let share = stream.pictures(back + Duration::from_secs(1), Duration::MAX);
        println!(
            "seed {seed}: live again after {again:?}; then {:.1} % of the pictures",
            share * 100.0
        );
        assert!(again < Duration::from_secs(2), "{again:?}");
        assert!(share > 0.99, "{share} of the pictures");
    }
}

/// A pair in which one end sends as much as it can.
fn bulk(path: &Path) -> (Pair, SendId) {
    let config = Config {
        receive_window: 2 << 20,
        ..Config::default()
    };
    let mut pair = Pair::new(&config, path, 1);
    let flow = open(&mut pair.here.flows, Priority::BULK);
    (pair, flow)
}

/// The share of a way of 20 Mbit/s that is used for so many seconds.
fn used(pair: &mut Pair, flow: SendId, seconds: u64) -> f64 {
    let came = fill(pair, flow, Duration::from_secs(seconds));
    came as f64 / (20 * MBIT * seconds) as f64
}

#[test]
fn bulk_uses_what_the_way_has() {
    for (loss, least) in [(0, 0.8), (10, 0.6), (50, 0.5)] {
        let mut path = way(50, 20);
        path.loss = loss;
        path.queue = 250_000;
        let (mut pair, flow) = bulk(&path);
        used(&mut pair, flow, 4);
        let share = used(&mut pair, flow, 8);
        println!(
            "{} % lost: {:.1} % of the way; queue {:?}; {:?}",
            loss / 10,
            share * 100.0,
            pair.here.link.longest_wait,
            pair.here.flows.counters(),
        );
        assert!(share > least, "{share} of the way");
    }
}

#[test]
fn a_way_that_becomes_shorter_or_longer_is_used_as_before() {
    let (mut pair, flow) = bulk(&way(100, 20));
    used(&mut pair, flow, 4);
    for delay in [10, 100] {
        pair.here.link.path.delay = ms(delay);
        pair.there.link.path.delay = ms(delay);
        used(&mut pair, flow, 14);
        let share = used(&mut pair, flow, 3);
        println!("{delay} ms: {:.1} % of the way", share * 100.0);
        assert!(share > 0.6, "{share} of the way");
    }
}

/// Sessions that send as much as they can over the same bottleneck, each of them half a second after the one before.
struct Contest {
    path: Path,
    rivals: Vec<(Box<dyn Congestion>, Priority)>,
    /// Whether those of them that are not urgent hear of those that are.
    told: bool,
}

impl Contest {
    /// Bytes that came of each, from `from` to `to`, in seconds.
    fn run(self, seed: u64, from: u64, to: u64) -> Vec<u64> {
        let back = Path::with_delay(self.path.delay.as_millis() as u64);
        let mut link: Link<(usize, Header, Vec<u8>)> = Link::new(self.path, seed);
        let mut back: Link<(usize, Header, Vec<u8>)> = Link::new(back, seed);
        let mut senders = Vec::new();
        let mut receivers = Vec::new();
        let mut came = vec![0_u64; self.rivals.len()];
        for (congestion, priority) in self.rivals {
            let mut flows = FlowSet::with_congestion(Config::default(), congestion);
            let flow = open(&mut flows, priority);
            senders.push((flows, flow, priority));
            receivers.push(FlowSet::new(Config::default()));
        }
        let payload = pattern(1_000, 0);
        let start = Duration::from_secs(1);
        // Each millisecond, which is well below the round trip.
        for tick in 0..to * 1_000 {
            let now = start + ms(tick);
            while let Some((which, header, packet)) = link.arrival(now) {
                receivers[which].handle_packet(now, &header, chunks(&packet));
                while let Some(event) = receivers[which].poll_event() {
                    if let Event::Message { payload, .. } = event
                        && tick >= from * 1_000
                    {
                        came[which] += payload.len() as u64;
                    }
                }
                let mut out = Vec::new();
                while let Some(header) = receivers[which].poll_transmit(now, SPACE, &mut out) {
                    back.send(now, out.len(), (which, header, std::mem::take(&mut out)));
                }
            }
            while let Some((which, header, packet)) = back.arrival(now) {
                senders[which]
                    .0
                    .handle_packet(now, &header, chunks(&packet));
            }
            for (which, (flows, flow, priority)) in senders.iter_mut().enumerate() {
                receivers[which].handle_timeout(now);
                flows.handle_timeout(now);
                while flows.poll_event().is_some() {}
                let begun = tick >= which as u64 * 500;
                if self.told && *priority < Priority::VIDEO {
                    flows.note_time_critical_sent_elsewhere(now);
                }
                while begun && flows.waiting().0 < 200_000 {
                    let message = reliable(payload.clone());
                    flows.send(now, *flow, message).unwrap();
                }
                let mut out = Vec::new();
                while let Some(header) = flows.poll_transmit(now, SPACE, &mut out) {
                    let size = out.len() + 40;
                    link.send(now, size, (which, header, std::mem::take(&mut out)));
                }
            }
        }
        came
    }
}

fn modelled() -> Box<dyn Congestion> {
    Box::new(Modelled::new(SPACE))
}

fn windowed() -> Box<dyn Congestion> {
    Box::new(Windowed::new(SPACE))
}

fn shared(delay: u64, queue: u64) -> Path {
    Path {
        queue,
        jitter: ms(1),
        ..way(delay, 5)
    }
}

/// Shares of two, and of the way.
fn shares(came: &[u64], seconds: u64) -> (f64, f64) {
    let all = (came[0] + came[1]) as f64;
    (came[0] as f64 / all, all / (5 * MBIT * seconds) as f64)
}

#[test]
fn sessions_share_a_bottleneck() {
    let mut results = Vec::new();
    for (delay, queue) in [(20, 30_000), (40, 50_000), (40, 200_000)] {
        for seed in 1..=2 {
            let contest = Contest {
                path: shared(delay, queue),
                rivals: [modelled(), modelled()]
                    .map(|it| (it, Priority::BULK))
                    .into(),
                told: false,
            };
            let (share, used) = shares(&contest.run(seed, 10, 40), 30);
            println!(
                "{delay} ms, queue {queue}, seed {seed}: {share:.2} and the rest of {used:.2}"
            );
            results.push((share, used));
        }
    }
    for (share, used) in results {
        assert!(used > 0.8, "{used} of the way");
        assert!((0.3..=0.7).contains(&share), "{share}");
    }
}

#[test]
fn who_follows_the_model_starves_nobody_and_is_not_starved() {
    let mut results = Vec::new();
    for (delay, queue) in [(20, 30_000), (40, 50_000), (40, 200_000)] {
        for first in [true, false] {
            let mut rivals = vec![modelled(), windowed()];
            if !first {
                rivals.reverse();
            }
            let contest = Contest {
                path: shared(delay, queue),
                rivals: rivals.into_iter().map(|it| (it, Priority::BULK)).collect(),
                told: false,
            };
            let mut came = contest.run(1, 10, 40);
            if !first {
                came.reverse();
            }
            let (share, used) = shares(&came, 30);
            println!("{delay} ms, queue {queue}: {share:.2} by the model, {used:.2} of the way");
            results.push((share, used));
        }
    }
    for (share, used) in results {
        assert!(used > 0.8, "{used} of the way");
        assert!((0.15..=0.85).contains(&share), "{share}");
    }
}

#[test]
fn what_is_urgent_comes_first_and_starves_nobody() {
    let mut results = Vec::new();
    for told in [false, true] {
        for seed in 1..=2 {
            let contest = Contest {
                path: shared(20, 30_000),
                rivals: vec![(modelled(), Priority::BULK), (modelled(), Priority::VIDEO)],
                told,
            };
            let (bulk, used) = shares(&contest.run(seed, 5, 35), 30);
            println!("told {told}, seed {seed}: {bulk:.2} is bulk, {used:.2} of the way");
            results.push((told, bulk, used));
        }
    }
    for (told, bulk, used) in results {
        assert!(used > 0.8, "{used} of the way");
        let most = if told { 0.4 } else { 0.6 };
        assert!((0.05..most).contains(&bulk), "{bulk}");
    }
}
