use super::*;
use crate::crypto::diffie_hellman::SharedSecret;
use crate::crypto::keys::SessionKeys;
use crate::crypto::negotiation::Agreement;
use crate::vectors::{
    HELLO_DATAGRAM, HELLO_PACKET, SECRET, hex, initiator_component, responder_component,
};

/// A Ping of an initiator.
const PING: &[u8] = &[0x09, 0, 0x10, 0x01, 0, 0];

fn keys() -> SessionKeys {
    SessionKeys::derive(
        &SharedSecret::new(SECRET),
        &initiator_component(),
        &responder_component(),
    )
}

/// What sends and what receives, at the two ends of one direction.
fn pair(mac: Option<usize>, numbered: bool) -> (Sealer, Opener) {
    let agreement = Agreement {
        mac_out: mac,
        mac_in: mac,
        sequence_out: numbered,
        sequence_in: numbered,
    };
    let far = SessionKeys::derive(
        &SharedSecret::new(SECRET),
        &responder_component(),
        &initiator_component(),
    );
    (keys().sealer(agreement), far.opener(agreement))
}

fn sealed(sealer: &mut Sealer, session_id: u32, packet: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    sealer.seal(session_id, packet, &mut out);
    out
}

/// The packet in a datagram that was opened begins with `packet`, and ends with padding.
fn is_padded(opened: &[u8], packet: &[u8]) -> bool {
    opened
        .strip_prefix(packet)
        .is_some_and(|padding| padding.len() < BLOCK && padding.iter().all(|byte| *byte == 0xff))
}

#[test]
fn the_datagrams_of_the_test_vectors_are_right() {
    let mut datagram = sealed(&mut Sealer::startup(), 0, HELLO_PACKET);
    assert_eq!(datagram, hex(HELLO_DATAGRAM));
    assert_eq!(session_id(&datagram), Some(0));
    let opened = Opener::startup().open(&mut datagram).unwrap().to_vec();
    assert!(is_padded(&opened, HELLO_PACKET));

    let (mut sealer, mut opener) = pair(None, false);
    let mut datagram = sealed(&mut sealer, 0x1122_3344, PING);
    assert_eq!(datagram, hex("34f454a0decf8d82fb19ea669fe3d413eb4b641b"));
    assert_eq!(session_id(&datagram), Some(0x1122_3344));
    assert!(is_padded(opener.open(&mut datagram).unwrap(), PING));
    assert!(!opener.is_authenticated());

    let (mut sealer, mut opener) = pair(Some(10), true);
    let mut datagram = sealed(&mut sealer, 0x1122_3344, PING);
    assert_eq!(
        datagram,
        hex("6df72f7fd6d7e96baa02f550f7b50d3a39ff9f0049ca2bbdb9a10691175a")
    );
    assert_eq!(session_id(&datagram), Some(0x1122_3344));
    assert!(is_padded(opener.open(&mut datagram).unwrap(), PING));
    assert!(opener.is_authenticated());
}

#[test]
fn packets_of_every_length_come_back_in_every_form() {
    for mac in [None, Some(4), Some(10), Some(32)] {
        for numbered in [false, true] {
            let (mut sealer, mut opener) = pair(mac, numbered);
            for length in 1..200 {
                let packet: Vec<u8> = (0..length).map(|at| at as u8).collect();
                let mut out = vec![1, 2, 3];
                sealer.seal(77, &packet, &mut out);
                let datagram = &mut out[3..];
                assert_eq!(session_id(datagram), Some(77));
                assert!(is_padded(opener.open(datagram).unwrap(), &packet));
            }
        }
    }
}

#[test]
fn capacity_is_what_fits_and_not_less() {
    for mac in [None, Some(4), Some(32)] {
        for numbered in [false, true] {
            let (mut sealer, _) = pair(mac, numbered);
            // So many that a number has two bytes.
            for datagram in 60..400 {
                let capacity = sealer.capacity(datagram);
                let length = sealed(&mut sealer.clone(), 1, &vec![0; capacity]).len();
                assert!(length <= datagram);
                let more = sealed(&mut sealer, 1, &vec![0; capacity + 1]).len();
                assert!(more > datagram, "{capacity} and one more in {datagram}");
            }
            assert_eq!(sealer.capacity(0), 0);
        }
    }
}

#[test]
fn every_changed_bit_is_found_with_a_mac() {
    let (mut sealer, mut opener) = pair(Some(10), true);
    let datagram = sealed(&mut sealer, 5, PING);
    for bit in 8 * SESSION_ID..8 * datagram.len() {
        let mut changed = datagram.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let before = changed.clone();
        assert_eq!(opener.open(&mut changed), Err(OpenError::Mac));
        assert_eq!(changed, before, "nothing is decrypted");
    }
    assert!(opener.open(&mut datagram.clone()).is_ok());
}

#[test]
fn every_cut_datagram_is_dropped() {
    for (mac, numbered) in [
        (None, false),
        (None, true),
        (Some(10), false),
        (Some(10), true),
    ] {
        let (mut sealer, mut opener) = pair(mac, numbered);
        let datagram = sealed(&mut sealer, 5, &[0x09; 40]);
        for length in 0..datagram.len() {
            let mut cut = datagram[..length].to_vec();
            assert!(opener.open(&mut cut).is_err(), "{length}");
            assert_eq!(session_id(&cut).is_some(), length >= SESSION_ID);
        }
    }
    assert_eq!(session_id(&[0, 0, 0, 1, 0xff]), Some(0xff00_0001));
}

#[test]
fn packets_of_other_keys_are_dropped() {
    let (mut sealer, _) = pair(None, false);
    let mut foreign = sealed(&mut sealer, 0, PING);
    let error = Opener::startup().open(&mut foreign);
    assert_eq!(error, Err(OpenError::Checksum));
    // Nothing of one direction is of use in the other.
    let (mut sealer, _) = pair(Some(16), false);
    let mut own = sealed(&mut sealer, 0, PING);
    let agreement = Agreement {
        mac_in: Some(16),
        ..Agreement::default()
    };
    let error = keys().opener(agreement).open(&mut own);
    assert_eq!(error, Err(OpenError::Mac));
}

#[test]
fn replayed_packets_are_dropped_and_late_ones_are_not() {
    for mac in [None, Some(10)] {
        let (mut sealer, mut opener) = pair(mac, true);
        let datagrams: Vec<_> = (0..1_030).map(|_| sealed(&mut sealer, 5, PING)).collect();
        let mut open = |number: usize| opener.open(&mut datagrams[number].clone()).map(|_| ());
        let again = |number| Err(OpenError::Replayed { number });
        assert_eq!(open(1), Ok(()));
        assert_eq!(open(0), Ok(()));
        assert_eq!(open(0), again(0));
        assert_eq!(open(1_029), Ok(()));
        assert_eq!(open(1_029), again(1_029));
        assert_eq!(open(5), again(5), "too old to tell");
        assert_eq!(open(6), Ok(()));
    }
}

#[test]
fn numbers_make_equal_packets_different_from_the_first_block_on() {
    let (mut sealer, _) = pair(Some(10), true);
    let first = sealed(&mut sealer, 5, PING);
    let second = sealed(&mut sealer, 5, PING);
    assert_ne!(first[4..20], second[4..20]);
}

#[test]
fn a_packet_that_is_taken_back_leaves_no_trace() {
    let mut sealer = Sealer::new(&[7; KEY], None, true);
    let mut other = sealer.clone();
    let mut out = b"before".to_vec();
    let draft = sealer.begin(&mut out);
    out.extend_from_slice(b"what nobody gets");
    sealer.take_back(draft, &mut out);
    assert_eq!(out, b"before");
    let (mut one, mut two) = (Vec::new(), Vec::new());
    sealer.seal(5, b"a packet", &mut one);
    other.seal(5, b"a packet", &mut two);
    assert_eq!(one, two);
}
