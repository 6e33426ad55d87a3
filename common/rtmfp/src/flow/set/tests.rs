use bytes::Bytes;

use super::*;
use crate::flow::simulation::chunks;
use crate::flow::{Body, Head, Priority};
use crate::wire::acknowledgement::{Acknowledgement, BITMAP, RANGES};
use crate::wire::flow_control::{BUFFER_PROBE, FLOW_EXCEPTION_REPORT, FlowException};
use crate::wire::user_data::{NEXT_USER_DATA, Part, USER_DATA, UserData};

const NOW: Duration = Duration::from_secs(100);

fn opening(priority: Priority) -> Opening<'static> {
    Opening {
        metadata: b"test",
        association: None,
        priority,
        time_critical: priority >= Priority::AUDIO,
    }
}

fn message(length: usize) -> Outgoing {
    Body::from(Bytes::from(vec![7; length])).into()
}

/// A chunk of a packet, owned.
type Chunk = (u8, Vec<u8>);

fn packets(flows: &mut FlowSet, now: Duration) -> Vec<(Header, Vec<Chunk>)> {
    let mut packets = Vec::new();
    loop {
        let mut out = Vec::new();
        let Some(header) = flows.poll_transmit(now, 1_160, &mut out) else {
            return packets;
        };
        let owned = chunks(&out).into_iter();
        packets.push((
            header,
            owned.map(|(kind, body)| (kind, body.to_vec())).collect(),
        ));
    }
}

fn take(flows: &mut FlowSet, now: Duration, chunks: &[Chunk]) {
    let borrowed = chunks.iter().map(|(kind, body)| (*kind, &body[..]));
    flows.handle_packet(now, &Header::default(), borrowed);
}

fn events(flows: &mut FlowSet) -> Vec<Event> {
    std::iter::from_fn(|| flows.poll_event()).collect()
}

/// User Data as a far end sends it.
fn data(flow: u64, sequence: u64, metadata: Option<&[u8]>, payload: &[u8]) -> Chunk {
    let chunk = UserData {
        flow,
        sequence,
        forward: 0,
        part: Part::Whole,
        abandoned: false,
        last: false,
        startup: metadata.map(|metadata| Startup {
            metadata: Some(metadata),
            association: None,
            fault: None,
        }),
        data: &[],
    };
    let mut body = Vec::new();
    chunk.put_header(&mut body);
    body.extend_from_slice(payload);
    (USER_DATA, body)
}

fn ack(flow: u64, blocks: u64, cumulative: u64, rest: &[u8]) -> Chunk {
    let mut body = Vec::new();
    for value in [flow, blocks, cumulative] {
        crate::wire::field::put_variable(value, &mut body);
    }
    body.extend_from_slice(rest);
    (RANGES, body)
}

fn sequence_numbers(packets: &[(Header, Vec<Chunk>)]) -> Vec<u64> {
    let mut numbers = Vec::new();
    for (kind, body) in packets.iter().flat_map(|(_, chunks)| chunks) {
        match *kind {
            USER_DATA => numbers.push(UserData::read(body).unwrap().sequence),
            NEXT_USER_DATA => numbers.push(numbers.last().unwrap() + 1),
            _ => {}
        }
    }
    numbers
}

#[test]
fn fragments_in_a_row_share_a_header_and_startup_is_repeated_until_acknowledged() {
    let mut flows = FlowSet::new(Config::default());
    let flow = flows.open(&opening(Priority::DATA)).unwrap();
    for _ in 0..2 {
        let head = Body {
            head: Head::new([1, 2, 3]),
            shared: Bytes::from_static(&[4, 5]),
        };
        flows.send(NOW, flow, head).unwrap();
    }
    let first = packets(&mut flows, NOW);
    let expected = vec![
        (
            USER_DATA,
            b"\x80\x01\x01\x01\x05\x00test\x00\x01\x02\x03\x04\x05".to_vec(),
        ),
        (NEXT_USER_DATA, b"\x00\x01\x02\x03\x04\x05".to_vec()),
    ];
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].1, expected);
    flows.send(NOW, flow, message(1)).unwrap();
    let second = packets(&mut flows, NOW);
    assert_eq!(second[0].1[0].1[0] & 0x80, 0x80, "nothing came back yet");
    take(&mut flows, NOW, &[ack(flow.0, 64, 0, &[])]);
    flows.send(NOW, flow, message(1)).unwrap();
    let third = packets(&mut flows, NOW);
    assert_eq!(third[0].1, [(USER_DATA, b"\x00\x01\x04\x04\x07".to_vec())]);
}

#[test]
fn acknowledgements_of_what_was_never_sent_are_passed_over() {
    let mut flows = FlowSet::new(Config::default());
    let flow = flows.open(&opening(Priority::DATA)).unwrap();
    take(&mut flows, NOW, &[ack(flow.0, 64, u64::MAX, &[])]);
    flows.send(NOW, flow, message(10)).unwrap();
    flows.send(NOW, flow, message(10)).unwrap();
    assert_eq!(sequence_numbers(&packets(&mut flows, NOW)), [1, 2]);
    // The second came, and many that are not.
    let holes = [0x00, 0x8f, 0xff, 0xff, 0xff, 0x7f, 0, 0];
    take(&mut flows, NOW, &[ack(flow.0, 64, 0, &holes)]);
    take(&mut flows, NOW, &[ack(77, 64, 5, &[]), (BITMAP, vec![1])]);
    assert_eq!(flows.counters().malformed, 1);
    assert_eq!(
        flows.waiting().1,
        2,
        "the first waits, and the second behind it"
    );
    take(&mut flows, NOW, &[ack(flow.0, 64, u64::MAX, &[])]);
    assert_eq!(flows.waiting(), (0, 0));
    assert_eq!(flows.window().1, 0);
    flows.send(NOW, flow, message(10)).unwrap();
    assert_eq!(sequence_numbers(&packets(&mut flows, NOW)), [3]);
}

#[test]
fn three_later_acknowledgements_are_a_loss_and_repeated_ones_are_not() {
    let mut flows = FlowSet::new(Config::default());
    let flow = flows.open(&opening(Priority::DATA)).unwrap();
    for _ in 0..5 {
        flows.send(NOW, flow, message(600)).unwrap();
        assert_eq!(packets(&mut flows, NOW).len(), 1);
    }
    // The first is missing; 2, 3 and 4 come one after the other.
    take(&mut flows, NOW, &[ack(flow.0, 64, 0, &[0, 0])]);
    take(&mut flows, NOW, &[ack(flow.0, 64, 0, &[0, 0])]);
    take(&mut flows, NOW, &[ack(flow.0, 64, 0, &[0, 1])]);
    assert_eq!(flows.counters().lost, 0);
    assert!(packets(&mut flows, NOW).is_empty());
    take(&mut flows, NOW, &[ack(flow.0, 64, 0, &[0, 2])]);
    assert_eq!(flows.counters().lost, 1);
    assert_eq!(sequence_numbers(&packets(&mut flows, NOW)), [1]);
    assert_eq!(flows.counters().sent_again, 1);
}

#[test]
fn a_burst_has_six_packets() {
    let congestion = Box::new(crate::congestion::Fixed(1 << 20));
    let mut flows = FlowSet::with_congestion(Config::default(), congestion);
    let flow = flows.open(&opening(Priority::DATA)).unwrap();
    flows.send(NOW, flow, message(50_000)).unwrap();
    assert_eq!(packets(&mut flows, NOW).len(), 6);
    take(&mut flows, NOW, &[ack(flow.0, 64, 1, &[])]);
    assert!((6..=7).contains(&packets(&mut flows, NOW).len()));
}

#[test]
fn greater_priority_goes_first_and_equals_take_turns() {
    let mut flows = FlowSet::new(Config::default());
    let video = flows.open(&opening(Priority::VIDEO)).unwrap();
    let bulk = [0, 1].map(|_| flows.open(&opening(Priority::BULK)).unwrap());
    for flow in [bulk[0], bulk[1], bulk[0], bulk[1], video, video] {
        flows.send(NOW, flow, message(10)).unwrap();
    }
    let audio = flows.open(&opening(Priority::AUDIO)).unwrap();
    flows.send(NOW, audio, message(10)).unwrap();
    let packet = packets(&mut flows, NOW).remove(0);
    assert!(packet.0.time_critical);
    let flow_of = |(kind, body): &Chunk| (*kind == USER_DATA).then(|| body[1]);
    let order: Vec<_> = packet.1.iter().map(flow_of).collect();
    let expected = [audio, video].map(|flow| Some(flow.0 as u8));
    assert_eq!(order[..2], expected);
    assert_eq!(order[2], None, "the second of the video follows the first");
    let turns = [bulk[0], bulk[1], bulk[0], bulk[1]].map(|flow| Some(flow.0 as u8));
    assert_eq!(order[3..], turns);
}

#[test]
fn a_closed_window_is_probed_and_a_rejected_flow_ignores_it() {
    let mut flows = FlowSet::new(Config::default());
    let flow = flows.open(&opening(Priority::DATA)).unwrap();
    flows.send(NOW, flow, message(10)).unwrap();
    packets(&mut flows, NOW);
    take(&mut flows, NOW, &[ack(flow.0, 0, 1, &[])]);
    flows.send(NOW, flow, message(10)).unwrap();
    assert!(packets(&mut flows, NOW).is_empty());
    let mut now = NOW;
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let due = flows.poll_timeout().unwrap();
        // The retransmission timer of the first message runs out in between.
        flows.handle_timeout(due);
        let sent = packets(&mut flows, due);
        if sent.is_empty() {
            continue;
        }
        assert_eq!(sent[0].1, [(BUFFER_PROBE, vec![1])]);
        pauses.push((due - now).as_secs());
        now = due;
    }
    assert_eq!(pauses[..3], [1, 3, 6], "the pause grows");
    let exception = FlowException { flow: 1, code: 9 };
    let mut body = Vec::new();
    exception.put(&mut body);
    take(&mut flows, now, &[(FLOW_EXCEPTION_REPORT, body)]);
    let closed = packets(&mut flows, now);
    let end = UserData::read(&closed[0].1[0].1).unwrap();
    assert!(end.last && end.abandoned);
    assert_eq!(
        flows.send(now, flow, message(1)),
        Err(SendError::NotOpen(flow))
    );
    take(&mut flows, now, &[ack(flow.0, 0, end.sequence, &[])]);
    assert_eq!(
        events(&mut flows),
        [Event::Rejected { flow, code: 9 }, Event::Closed { flow }]
    );
    assert_eq!(flows.counters().abandoned, 1);
}

#[test]
fn what_comes_is_acknowledged_every_second_packet_or_after_a_while() {
    let mut flows = FlowSet::new(Config::default());
    take(&mut flows, NOW, &[data(3, 1, Some(b"m"), b"one")]);
    assert!(packets(&mut flows, NOW).is_empty());
    assert_eq!(flows.poll_timeout(), Some(NOW + Duration::from_millis(200)));
    take(&mut flows, NOW, &[data(3, 2, None, b"two")]);
    let sent = packets(&mut flows, NOW);
    // 256 KiB less two messages that nobody has taken are 256 blocks, rounded up.
    assert_eq!(sent[0].1, [(RANGES, vec![3, 0x82, 0, 2])]);
    take(&mut flows, NOW, &[data(3, 3, None, b"three")]);
    let later = NOW + Duration::from_millis(200);
    flows.handle_timeout(later);
    assert_eq!(packets(&mut flows, later)[0].1[0].1[3], 3);
    // A hole, and a repetition, are told at once.
    take(&mut flows, later, &[data(3, 5, None, b"five")]);
    let sent = packets(&mut flows, later);
    assert_eq!(sent[0].1, [(BITMAP, vec![3, 0x82, 0, 3, 1])]);
    take(&mut flows, later, &[data(3, 5, None, b"five")]);
    assert_eq!(packets(&mut flows, later).len(), 1);
    let told = events(&mut flows);
    assert_eq!(told.len(), 4, "{told:?}");
}

#[test]
fn an_exception_stands_before_each_acknowledgement_of_a_flow_that_is_not_wanted() {
    let mut flows = FlowSet::new(Config::default());
    // Without metadata, with an option that may not be ignored, and in return to a flow that is not there.
    let (_, mut unknown) = data(2, 1, Some(b"m"), b"");
    unknown.splice(4..4, [1, 5]);
    let (_, mut orphan) = data(3, 1, Some(b"m"), b"");
    orphan.splice(4..4, [2, 0x0a, 9]);
    let chunks = [
        data(1, 1, None, b"x"),
        (USER_DATA, unknown),
        (USER_DATA, orphan),
    ];
    for _ in 0..2 {
        take(&mut flows, NOW, &chunks);
        let sent = packets(&mut flows, NOW);
        let kinds: Vec<_> = sent[0]
            .1
            .iter()
            .map(|(kind, body)| (*kind, body[0]))
            .collect();
        let both = |flow| [(FLOW_EXCEPTION_REPORT, flow), (RANGES, flow)];
        assert_eq!(kinds, [both(1), both(2), both(3)].concat());
    }
    assert_eq!(flows.counters().refused, 3);
    assert_eq!(events(&mut flows), []);
    // Who never closes them is forgotten.
    flows.handle_timeout(NOW + Duration::from_secs(120));
    assert_eq!(flows.receiving(), 0);
}

#[test]
fn flows_without_end_are_answered_in_constant_memory() {
    let mut flows = FlowSet::new(Config::default());
    for flow in 0..20_000_u64 {
        take(&mut flows, NOW, &[data(flow, 1, Some(b"m"), b"x")]);
        let sent = packets(&mut flows, NOW);
        if flow >= 128 {
            let first = &sent[0].1[0];
            assert_eq!(first.0, FLOW_EXCEPTION_REPORT);
            let ack = Acknowledgement::read(RANGES, &sent[0].1[1].1).unwrap();
            assert_eq!((ack.flow, ack.cumulative), (flow, 1));
        }
    }
    assert_eq!(flows.receiving(), 128);
    assert_eq!(flows.counters().refused, 20_000 - 128);
    assert!(flows.received_bytes() < 128 * 100);
    // Nor do flows that are opened and closed at once leave more behind than may be.
    let mut flows = FlowSet::new(Config::default());
    for flow in 0..10_000_u64 {
        let (kind, mut body) = data(flow, 1, Some(b"m"), b"x");
        body[0] |= 1;
        take(&mut flows, NOW, &[(kind, body)]);
        packets(&mut flows, NOW);
        assert_eq!(events(&mut flows).len(), 3, "opened, a message, finished");
    }
    assert_eq!(flows.receiving(), 0);
    assert_eq!(flows.lingering.len(), 256);
}

#[test]
fn fragments_of_nothing_do_not_fill_the_memory() {
    let mut flows = FlowSet::new(Config {
        receive_window: 64 << 10,
        ..Config::default()
    });
    take(&mut flows, NOW, &[data(1, 1, Some(b"m"), b"x")]);
    events(&mut flows);
    // Every second number, empty: each is kept until the one before it comes.
    for sequence in (3..100_000_u64).step_by(2) {
        take(&mut flows, NOW, &[data(1, sequence, None, b"")]);
    }
    assert!(flows.received_bytes() <= 64 << 10);
    assert!(flows.counters().no_room > 40_000);
    let sent = packets(&mut flows, NOW);
    assert_eq!(sent.len(), 1);
    // A message without end is no message.
    let mut flows = FlowSet::new(Config {
        message_bytes: 100_000,
        ..Config::default()
    });
    let mut told = Vec::new();
    for sequence in 1..1_000 {
        let (kind, mut body) = data(1, sequence, Some(b"m"), &[7; 1_000]);
        body[0] |= if sequence == 1 { 0x10 } else { 0x30 };
        take(&mut flows, NOW, &[(kind, body)]);
        packets(&mut flows, NOW);
        told.extend(events(&mut flows));
        assert!(flows.received_bytes() <= 100_000);
    }
    assert_eq!(told.len(), 2);
    assert_eq!(told[1], Event::Broken { flow: ReceiveId(1) });
    assert_eq!(flows.received_bytes(), 0);
}

#[test]
fn numbers_go_beyond_thirty_two_bits() {
    let mut here = FlowSet::new(Config::default());
    let mut there = FlowSet::new(Config::default());
    let first = u64::from(u32::MAX) - 2;
    let flow = here.open_at(&opening(Priority::DATA), first).unwrap();
    for number in 0..10 {
        here.send(NOW, flow, message(number * 300)).unwrap();
    }
    let mut numbers = Vec::new();
    for _ in 0..10 {
        let sent = packets(&mut here, NOW);
        numbers.extend(sequence_numbers(&sent));
        for (_, chunks) in sent {
            take(&mut there, NOW, &chunks);
        }
        for (_, chunks) in packets(&mut there, NOW) {
            take(&mut here, NOW, &chunks);
        }
    }
    assert!(numbers[0] == first && numbers[numbers.len() - 1] > u64::from(u32::MAX) + 5);
    let lengths: Vec<usize> = events(&mut there)
        .iter()
        .filter_map(|event| match event {
            Event::Message { payload, .. } => Some(payload.len()),
            _ => None,
        })
        .collect();
    assert_eq!(
        lengths,
        (0..10).map(|number| number * 300).collect::<Vec<_>>()
    );
    assert_eq!(here.waiting(), (0, 0));
}

#[test]
fn what_waits_to_be_sent_has_bounds() {
    let mut flows = FlowSet::new(Config {
        send_bytes: 10_000,
        send_messages: 5,
        sending_flows: 1,
        ..Config::default()
    });
    let flow = flows.open(&opening(Priority::VIDEO)).unwrap();
    assert_eq!(
        flows.open(&opening(Priority::VIDEO)),
        Err(OpenError::TooMany(1))
    );
    assert_eq!(
        flows.send(NOW, flow, message(1 << 25)),
        Err(SendError::TooLong(1 << 25))
    );
    for _ in 0..2 {
        let late = Outgoing {
            start_by: Some(NOW + Duration::from_secs(1)),
            ..message(4_900)
        };
        flows.send(NOW, flow, late).unwrap();
    }
    let full = flows.send(NOW, flow, message(100)).unwrap_err();
    assert!(
        matches!(full, SendError::Full { messages: 2, .. }),
        "{full}"
    );
    // What has become too late makes room.
    let later = NOW + Duration::from_secs(1);
    for _ in 0..5 {
        flows.send(later, flow, message(100)).unwrap();
    }
    assert_eq!(flows.counters().abandoned, 2);
    assert!(flows.send(later, flow, message(0)).is_err());
    assert_eq!(flows.abandon_all(flow), 5);
    assert_eq!(flows.waiting(), (0, 0));
    // Of all that one fragment tells, together with the next message.
    assert!(packets(&mut flows, later).is_empty());
    flows.send(later, flow, message(1)).unwrap();
    let sent = packets(&mut flows, later);
    assert_eq!(sequence_numbers(&sent), [1, 2]);
    assert!(UserData::read(&sent[0].1[0].1).unwrap().abandoned);
}

#[test]
fn key_frames_put_an_end_to_what_was_before() {
    let mut flows = FlowSet::new(Config::default());
    let flow = flows.open(&opening(Priority::VIDEO)).unwrap();
    let ids: Vec<_> = (0..5)
        .map(|_| flows.send(NOW, flow, message(3_000)).unwrap())
        .collect();
    packets(&mut flows, NOW);
    assert!(flows.abandon(flow, ids[4]));
    assert!(!flows.abandon(flow, ids[4]), "it was given up before");
    assert_eq!(flows.abandon_before(flow, ids[3]), 3);
    assert_eq!(flows.send_state(flow).unwrap().abandoned, 4);
    // What is under way may still come; what is not is not sent.
    take(&mut flows, NOW, &[ack(flow.0, 64, 4, &[])]);
    let sent = packets(&mut flows, NOW);
    let read = UserData::read(&sent[0].1[0].1).unwrap();
    assert!(read.abandoned, "the end of the one that broke off");
    assert_eq!(UserData::read(&sent[1].1[0].1).unwrap().part, Part::Middle);
}

#[test]
fn what_is_urgent_elsewhere_slows_growth_here() {
    let mut flows = FlowSet::new(Config {
        ask_to_give_way: true,
        ..Config::default()
    });
    assert!(!flows.stamp(NOW).time_critical_reverse);
    flows.note_time_critical_received_elsewhere(NOW);
    let soon = NOW + Duration::from_millis(799);
    assert!(flows.stamp(soon).time_critical_reverse);
    let later = NOW + Duration::from_millis(800);
    assert!(!flows.stamp(later).time_critical_reverse);
    let grown = |elsewhere: bool| {
        let mut flows = FlowSet::new(Config::default());
        let flow = flows.open(&opening(Priority::BULK)).unwrap();
        flows.send(NOW, flow, message(100_000)).unwrap();
        let sent = sequence_numbers(&packets(&mut flows, NOW));
        if elsewhere {
            flows.note_time_critical_sent_elsewhere(NOW);
        }
        take(
            &mut flows,
            NOW,
            &[ack(flow.0, 64, sent[sent.len() - 1], &[])],
        );
        flows.window().0
    };
    assert!(grown(false) > grown(true));
    assert!(grown(true) > 4_380);
}

#[test]
fn what_a_burst_took_is_given_back_when_it_has_come() {
    let congestion = Box::new(crate::congestion::Fixed(1 << 20));
    let config = Config {
        burst: 1_000,
        ..Config::default()
    };
    let mut flows = FlowSet::with_congestion(config, congestion);
    let flow = flows.open(&opening(Priority::VIDEO)).unwrap();
    for _ in 0..300 {
        flows.send(NOW, flow, message(100)).unwrap();
    }
    let sent = packets(&mut flows, NOW);
    let last = *sequence_numbers(&sent).last().unwrap();
    assert!(flows.in_flight.capacity() >= 300, "{last}");
    take(&mut flows, NOW, &[ack(flow.0, 64, last, &[])]);
    assert_eq!(flows.window().1, 0);
    assert!(flows.in_flight.capacity() <= 32);
}
