use super::super::packet::Packet;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A packet of the handshake with a payload that can be told.
fn packet(length: usize) -> Vec<u8> {
    let mut packet = vec![0x03];
    packet.extend((1..length).map(|at| at as u8));
    packet
}

/// The piece in a packet that was split off.
fn piece(packet: &[u8]) -> Fragment<'_> {
    let packet = Packet::read(packet).unwrap();
    assert_eq!(packet.header, Header::new(Mode::Startup));
    let mut chunks = packet.chunks;
    let chunk = chunks.next().unwrap();
    assert_eq!(chunk.kind, ChunkKind::FRAGMENT);
    assert!(chunks.next().is_none());
    Fragment::read(chunk.payload).unwrap()
}

fn feed(reassembly: &mut Reassembly<u8>, source: u8, fragment: &Fragment<'_>) -> Option<Vec<u8>> {
    reassembly.handle(Duration::ZERO, source, Mode::Startup, fragment)
}

#[test]
fn a_fragment_cannot_be_cut_before_its_first_byte() {
    let fragment = Fragment {
        more: true,
        packet: 300,
        number: 1,
        data: b"abc",
    };
    let mut bytes = Vec::new();
    fragment.put(&mut bytes);
    assert_eq!(bytes, b"\x80\x82\x2c\x01abc");
    assert_eq!(Fragment::read(&bytes), Ok(fragment));
    for length in 0..5 {
        assert!(Fragment::read(&bytes[..length]).is_err(), "{length}");
    }
    assert_eq!(Fragment::read(&bytes[..5]).unwrap().data, b"a");
}

#[test]
fn what_is_split_comes_together_in_any_order() {
    let whole = packet(2_000);
    let one = split(&whole, Mode::Startup, 7, 2_000);
    assert_eq!(one, std::slice::from_ref(&whole));
    let split = split(&whole, Mode::Startup, 300, 700);
    assert_eq!(split.len(), 3);
    assert!(split.iter().all(|packet| packet.len() <= 700));
    let pieces: Vec<_> = split.iter().map(|packet| piece(packet)).collect();
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    for order in orders {
        let mut reassembly = Reassembly::new(Limits::default());
        for (step, index) in order.into_iter().enumerate() {
            let done = feed(&mut reassembly, 1, &pieces[index]);
            assert_eq!(done.is_some(), step == 2);
            if let Some(done) = done {
                assert_eq!(done, whole);
            } else {
                // One that is there already changes nothing.
                let held = reassembly.held();
                assert_eq!(feed(&mut reassembly, 1, &pieces[index]), None);
                assert_eq!(reassembly.held(), held);
            }
        }
        assert_eq!((reassembly.held(), reassembly.waiting()), (0, 0));
    }
}

#[test]
fn sources_packets_and_modes_do_not_mix() {
    let whole = packet(20);
    let split = split(&whole, Mode::Startup, 1, 18);
    let (first, second) = (piece(&split[0]), piece(&split[1]));
    let mut reassembly = Reassembly::new(Limits::default());
    assert_eq!(feed(&mut reassembly, 1, &first), None);
    assert_eq!(feed(&mut reassembly, 2, &second), None);
    let other = Fragment {
        packet: 2,
        ..second
    };
    assert_eq!(feed(&mut reassembly, 1, &other), None);
    let mode = reassembly.handle(Duration::ZERO, 1, Mode::Initiator, &second);
    assert_eq!(mode, None);
    assert_eq!(feed(&mut reassembly, 1, &second), Some(whole));
    // A packet of another mode than its pieces.
    let foreign = Fragment {
        more: false,
        packet: 9,
        number: 0,
        data: &[0x09, 0, 0],
    };
    assert_eq!(feed(&mut reassembly, 3, &foreign), None);
    assert_eq!(reassembly.waiting(), 2);
}

#[test]
fn pieces_that_contradict_each_other_are_dropped() {
    let fragment = |more, number| Fragment {
        more,
        packet: 1,
        number,
        data: &[3],
    };
    let mut reassembly = Reassembly::new(Limits::default());
    assert_eq!(feed(&mut reassembly, 1, &fragment(true, 2)), None);
    let held = reassembly.held();
    // The end before a piece that is there, and pieces behind the end.
    assert_eq!(feed(&mut reassembly, 1, &fragment(false, 1)), None);
    assert_eq!(reassembly.held(), held);
    assert_eq!(feed(&mut reassembly, 1, &fragment(false, 3)), None);
    assert!(reassembly.held() > held);
    let held = reassembly.held();
    assert_eq!(feed(&mut reassembly, 1, &fragment(true, 4)), None);
    assert_eq!(feed(&mut reassembly, 1, &fragment(false, 4)), None);
    assert_eq!(reassembly.held(), held);
    assert_eq!(feed(&mut reassembly, 1, &fragment(true, 0)), None);
    let done = feed(&mut reassembly, 1, &fragment(true, 1));
    assert_eq!(done, Some(vec![3; 4]));
}

#[test]
fn what_never_completes_is_bounded_and_forgotten() {
    let limits = Limits {
        packet: 100,
        pieces: 4,
        packets: 2,
        total: 1_500,
    };
    let mut reassembly = Reassembly::new(limits);
    let fragment = |packet, number| Fragment {
        more: true,
        packet,
        number,
        data: &[3; 40],
    };
    // Pieces without end, and packets that are too long.
    assert_eq!(feed(&mut reassembly, 1, &fragment(1, 4)), None);
    assert_eq!(feed(&mut reassembly, 1, &fragment(1, u64::MAX)), None);
    assert_eq!(reassembly.waiting(), 0);
    for number in 0..2 {
        assert_eq!(feed(&mut reassembly, 1, &fragment(1, number)), None);
    }
    assert_eq!(reassembly.waiting(), 1);
    assert_eq!(feed(&mut reassembly, 1, &fragment(1, 2)), None);
    assert_eq!((reassembly.waiting(), reassembly.held()), (0, 0));
    // Packets of one source: the third drives the first out.
    for id in 0..10 {
        feed(&mut reassembly, 1, &fragment(id, 0));
        assert!(reassembly.waiting() <= 2);
    }
    // Sources without end.
    for source in 0..=255 {
        feed(&mut reassembly, source, &fragment(1, 0));
        assert!(reassembly.held() <= limits.total);
    }
    assert!(reassembly.waiting() > 5);
    // Time.
    assert_eq!(reassembly.poll_timeout(), Some(SECOND));
    reassembly.handle_timeout(SECOND);
    assert!(reassembly.waiting() > 5);
    reassembly.handle_timeout(3 * SECOND);
    assert_eq!((reassembly.waiting(), reassembly.held()), (0, 0));
    assert_eq!(reassembly.poll_timeout(), None);
}

#[test]
fn a_packet_may_take_a_minute_while_pieces_come() {
    let mut reassembly = Reassembly::new(Limits {
        pieces: 1_000,
        ..Limits::default()
    });
    let mut now = Duration::ZERO;
    for number in 0..70 {
        let fragment = Fragment {
            more: true,
            packet: 1,
            number,
            data: &[3],
        };
        reassembly.handle(now, 1_u8, Mode::Startup, &fragment);
        let pieces = reassembly.partial.values().next().unwrap().pieces.len();
        // Behind a minute it begins anew.
        let expected = if number <= 60 {
            number + 1
        } else {
            number - 60
        };
        assert_eq!(pieces as u64, expected, "{number}");
        now += SECOND;
    }
}
