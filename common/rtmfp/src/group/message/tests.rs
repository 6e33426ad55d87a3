use std::net::SocketAddr;

use super::*;
use crate::vectors::hex;

const GROUP: GroupId = GroupId([0xab; 32]);
const PEER: Fingerprint = Fingerprint([0x0f; 32]);
const KEY: StreamKey = StreamKey([0x5e; 32]);

fn repeated(byte: &str, count: usize) -> String {
    byte.repeat(count)
}

/// What each message is in bytes, as clients send it.
fn table() -> Vec<(Bytes, String, Said<'static>)> {
    let mut table = vec![
        (
            connect(&GROUP, &[0x11; 32], &PEER),
            // The digits of the group are text.
            format!(
                "01 4100{} 2101{} 2303 210f{}",
                repeated("6162", 32),
                repeated("11", 32),
                repeated("0f", 32)
            ),
            Said::Connect {
                group: GROUP,
                proof: [0x11; 32],
                to: PEER,
            },
        ),
        (nothing(), "02".to_owned(), Said::Nothing),
        (begin(), "0e".to_owned(), Said::Begin),
        (leave(), "0c".to_owned(), Said::Leave),
        (
            stream("cam", &KEY, &Times::default()),
            // 8 s, 300 s, 100 ms, 2.5 s.
            format!(
                "21 0400 63616d 2101{} 0102 0303be40 040492a760 020564 03079344",
                repeated("5e", 32)
            ),
            Said::Stream {
                name: b"cam",
                key: KEY,
            },
        ),
        (end(300), "21 822c".to_owned(), Said::End { last: 300 }),
        (push(0x81), "23 81".to_owned(), Said::Push(0x81)),
        (pull(128), "2b 8100".to_owned(), Said::Pull(128)),
    ];
    for (oldest, newest, bits) in [
        (5, 5, &[][..]),
        (1, 2, &[0x01][..]),
        (1, 8, &[0x7f]),
        (1, 9, &[0xff]),
        (10, 20, &[0xff, 0x03]),
    ] {
        let digits: String = bits.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = format!("22 {newest:02x} {digits}");
        table.push((map(oldest, newest), expected, Said::Map { newest, bits }));
    }
    for (left, head, digits) in [
        (0, Some((MessageType::AUDIO, 258)), "20 07 08 00000102 6162"),
        (
            2,
            Some((MessageType::VIDEO, 258)),
            "30 07 02 09 00000102 6162",
        ),
        (1, None, "10 07 01 6162"),
        (0, None, "00 07 6162"),
    ] {
        let fragment = Fragment {
            number: 7,
            left,
            head,
            data: b"ab",
        };
        let message = fragment.to_message();
        table.push((message, digits.to_owned(), Said::Fragment(fragment)));
    }
    table
}

#[test]
fn messages_are_written_and_read_as_clients_do() {
    for (message, digits, said) in table() {
        let expected = hex(&digits.replace(' ', ""));
        assert_eq!(message, expected, "{said:?}");
        assert_eq!(Said::read(&message), Ok(said));
    }
    // What clients say that is not said here.
    assert_eq!(Said::read(&[0x0f]), Ok(Said::Begin));
}

#[test]
fn every_cut_is_an_error_or_says_less() {
    for (message, _, said) in table() {
        for length in 0..message.len() {
            let cut = Said::read(&message[..length]);
            let may_be_cut = matches!(
                (&said, &cut),
                (Said::Map { .. } | Said::Fragment(_), Ok(_)) | (Said::Stream { .. }, Ok(_))
            );
            assert!(cut.is_err() || may_be_cut, "{said:?} to {length}: {cut:?}");
        }
    }
    for other in [&[][..], &[0x03], &[0x1d, 1], &[0xff; 40]] {
        assert!(Said::read(other).is_err(), "{other:02x?}");
    }
}

#[test]
fn what_is_of_a_wrong_length_is_refused() {
    let right = connect(&GROUP, &[0x11; 32], &PEER).to_vec();
    let no_digit = {
        let mut bytes = right.clone();
        bytes[5] = b'x';
        bytes
    };
    let mut short_proof = vec![0x01];
    put_option(0x00, GROUP.to_string().as_bytes(), &mut short_proof);
    put_option(0x01, &[1; 31], &mut short_proof);
    short_proof.extend_from_slice(&right[right.len() - 36..]);
    let mut short_group = vec![0x01];
    put_option(0x00, &GROUP.to_string().as_bytes()[2..], &mut short_group);
    short_group.extend_from_slice(&right[67..]);
    let long_name = stream(&"n".repeat(LONGEST_NAME + 1), &KEY, &Times::default());
    for bytes in [no_digit, short_proof, short_group, long_name.to_vec()] {
        assert!(Said::read(&bytes).is_err(), "{bytes:02x?}");
    }
}

#[test]
fn a_report_says_where_everybody_is() {
    let far: SocketAddr = "192.0.2.7:1000".parse().unwrap();
    let near = Address {
        socket: "198.51.100.1:1935".parse().unwrap(),
        origin: crate::wire::Origin::Relay,
    };
    let member = Heard {
        peer: PEER,
        ago: Duration::from_millis(130_900),
        seen: "[2001:db8::1]:80".parse().unwrap(),
    };
    let id = repeated("0f", 32);
    let expected = format!(
        "0a 080d 02c000020703e8 080a 03c6336401078f
         00 22210f{id} 8102 140a 8220010db8 0000000000000000 00000001 0050 00"
    );
    let expected = hex(&expected.replace([' ', '\n'], ""));
    let message = report(far, &[near], &[member]);
    assert_eq!(message, expected);
    assert_eq!(Said::read(&message), Ok(Said::Report));
    // Nothing is known: the list of addresses is there all the same.
    let empty = hex("0a080d02c000020703e8010a00");
    assert_eq!(report(far, &[], &[]), empty);
}
