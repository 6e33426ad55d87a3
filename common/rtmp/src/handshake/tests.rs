//! Both sides of the handshake, against each other and against packets made by other means.

use bytes::BytesMut;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::digest::{self, Layout, Role};
use super::*;

const CLIENT_TIME: u32 = 0x1234;
const SERVER_TIME: u32 = 42;
const CLIENT_SEED: usize = 3;
const SERVER_SEED: usize = 11;

/// Version and time of a client, as in the vectors below.
const CLIENT_HEAD: [u8; 8] = [0, 0, 0x12, 0x34, 9, 0, 124, 2];

fn random(seed: usize) -> RandomBlock {
    std::array::from_fn(|index| (index * 7 + seed) as u8)
}

/// C1 of a client in the digest form, less the digest.
fn unsigned() -> Packet {
    let mut packet = [0; PACKET_LENGTH];
    packet[..8].copy_from_slice(&CLIENT_HEAD);
    packet[8..].copy_from_slice(&random(CLIENT_SEED));
    packet
}

/// HMAC-SHA256 as RFC 2104 defines it, for keys of up to 64 bytes and, by hashing, longer ones.
fn plain_hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    if key.len() > 64 {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let padded = |pad: u8| block.map(|byte| byte ^ pad).to_vec();
    let inner = Sha256::digest([&padded(0x36), message].concat());
    Sha256::digest([&padded(0x5C), &inner[..]].concat()).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hello(packet: &Packet) -> BytesMut {
    let mut input = BytesMut::from(&[VERSION][..]);
    input.extend_from_slice(packet);
    input
}

fn server() -> ServerHandshake {
    ServerHandshake::new(random(SERVER_SEED))
}

/// The server's answer to a C1: S1 and S2.
fn answer(server: &mut ServerHandshake, packet: &Packet) -> (Packet, Packet) {
    let mut input = hello(packet);
    assert_eq!(
        server.handle_input(SERVER_TIME, &mut input),
        Ok(Progress::InProgress)
    );
    assert!(input.is_empty());
    let bytes = server.poll_transmit().expect("S0, S1 and S2");
    assert_eq!(server.poll_transmit(), None);
    assert_eq!((bytes.len(), bytes[0]), (1 + 2 * PACKET_LENGTH, VERSION));
    let (first, second) = bytes[1..].split_at(PACKET_LENGTH);
    (
        first.try_into().expect("a packet"),
        second.try_into().expect("a packet"),
    )
}

/// Digests that Python's `hmac` module gave for the packets of this test, and where they stand by librtmp's formulas: the sum of bytes
/// 8 to 11 modulo 728 plus 12, the sum of bytes 772 to 775 modulo 728 plus 776.
#[test]
fn digest_form_vectors() {
    struct Vector {
        layout: Layout,
        position: usize,
        client_digest: &'static str,
        server_position: usize,
        server_digest: &'static str,
        server_proof: &'static str,
        client_proof: &'static str,
    }
    for vector in [
        Vector {
            layout: Layout::DigestFirst,
            position: 66,
            client_digest: "796557d3037ff88e1933d71aca9845e1d5c53c288c5256b90927b65858b4cbd3",
            server_position: 98,
            server_digest: "c547422c50d03570abfca0afbda38467c2467577a8854f529670c8f3a02f08b0",
            server_proof: "f9b8715090a14abe2cd6ae308012a7abc8e3507ac582bbc328c7a6cbcf6878cb",
            client_proof: "f1b6f649239130150fdab60389cff3063abdc5436a4dcfcc17d83dee5c0d5a8c",
        },
        Vector {
            layout: Layout::KeyFirst,
            position: 1014,
            client_digest: "7390194a73e7e608600a0dc6df708cc012f03be65883d75fe96b9fe823d2ec22",
            server_position: 790,
            server_digest: "91c45589d78175a8b34d32fa7cb4d6fb7b83e870219a9371b39811f071374270",
            server_proof: "7ff4bfbad04897c161d5e26e16cff40f90b8e07b12a3a8590ac7e1677fa7a3cf",
            client_proof: "440edf86af5aa0b3620c5db7d4852df65fc368edf31526fa482e28bc1d33eb78",
        },
    ] {
        let mut packet = unsigned();
        let ours = digest::sign(&mut packet, vector.layout, Role::Player);
        assert_eq!(hex(&ours), vector.client_digest);
        assert_eq!(
            hex(&packet[vector.position..vector.position + 32]),
            vector.client_digest
        );

        let mut server = server();
        let (first, second) = answer(&mut server, &packet);
        assert_eq!(server.is_digest(), Some(true));
        assert_eq!(first[..8], [0, 0, 0, 42, 5, 0, 17, 0]);
        let place = vector.server_position..vector.server_position + 32;
        assert_eq!(hex(&first[place]), vector.server_digest);
        assert_eq!(hex(&second[1504..]), vector.server_proof);

        let theirs = digest::find(&first, Role::MediaServer);
        let (_, theirs) = theirs.expect("a digest in S1");
        let reply = digest::confirmation(&random(CLIENT_SEED), &theirs, Role::Player);
        assert_eq!(hex(&reply[1504..]), vector.client_proof);
        let mut input = BytesMut::from(&reply[..]);
        assert_eq!(server.handle_input(0, &mut input), Ok(Progress::Done));
        assert_eq!(server.peer_confirmed(), Some(true));
    }
}

#[test]
fn simple_form_echoes_c1_byte_for_byte() {
    let mut packet = unsigned();
    packet[4..8].fill(0);
    let mut server = server();
    let (first, second) = answer(&mut server, &packet);
    assert_eq!(server.is_digest(), Some(false));
    assert_eq!(first[..8], [0, 0, 0, 42, 0, 0, 0, 0]);
    assert_eq!(first[8..], random(SERVER_SEED));
    assert_eq!(second, packet);
}

#[test]
fn a_version_without_a_right_digest_is_the_simple_form() {
    let packet = unsigned();
    let mut server = server();
    let (first, second) = answer(&mut server, &packet);
    assert_eq!(server.is_digest(), Some(false));
    assert_eq!(first[4..8], [0; 4]);
    assert_eq!(second, packet);
}

#[test]
fn a_digest_without_a_version_is_the_simple_form() {
    let mut packet = unsigned();
    packet[4..8].fill(0);
    digest::sign(&mut packet, Layout::DigestFirst, Role::Player);
    let mut server = server();
    assert_eq!(answer(&mut server, &packet).1, packet);
    assert_eq!(server.is_digest(), Some(false));
}

#[test]
fn c2_is_compared_and_never_required() {
    let mut simple = unsigned();
    simple[4..8].fill(0);
    let mut signed = unsigned();
    digest::sign(&mut signed, Layout::KeyFirst, Role::Player);
    for packet in [simple, signed] {
        let mut server = server();
        let _ = answer(&mut server, &packet);
        assert_eq!(server.peer_confirmed(), None);
        let mut input = BytesMut::from(&[0x55; PACKET_LENGTH][..]);
        input.extend_from_slice(b"chunks");
        assert_eq!(server.handle_input(0, &mut input), Ok(Progress::Done));
        assert_eq!(server.peer_confirmed(), Some(false));
        assert!(server.is_done());
        assert_eq!(input, &b"chunks"[..]);
        // Later input is not touched.
        assert_eq!(server.handle_input(0, &mut input), Ok(Progress::Done));
        assert_eq!(input, &b"chunks"[..]);
    }
}

/// ffmpeg does this when it publishes.
#[test]
fn a_digest_client_may_echo_s1() {
    let mut packet = unsigned();
    digest::sign(&mut packet, Layout::DigestFirst, Role::Player);
    let mut server = server();
    let (first, _) = answer(&mut server, &packet);
    let mut input = BytesMut::from(&first[..]);
    assert_eq!(server.handle_input(0, &mut input), Ok(Progress::Done));
    assert_eq!(server.is_digest(), Some(true));
    assert_eq!(server.peer_confirmed(), Some(true));
}

#[test]
fn other_protocols_are_told_at_the_first_byte() {
    for (input, error) in [
        (&b"\x06"[..], HandshakeError::Encrypted { version: 6 }),
        (b"\x08", HandshakeError::Encrypted { version: 8 }),
        (b"\x09", HandshakeError::Encrypted { version: 9 }),
        (b"\x00", HandshakeError::Version { version: 0 }),
        (b"\x04", HandshakeError::Version { version: 4 }),
        (b"\x1f", HandshakeError::Version { version: 31 }),
        (b"\x16\x03\x01\x02\x00\x01", HandshakeError::Tls),
        (b"GET / HTTP/1.1\r\n", HandshakeError::Text { first: b'G' }),
        (b"\xff", HandshakeError::Text { first: 255 }),
    ] {
        let mut server = server();
        let mut bytes = BytesMut::from(input);
        assert_eq!(
            server.handle_input(0, &mut bytes),
            Err(error.clone()),
            "{input:?}"
        );
        assert_eq!(bytes, input, "kept for another protocol");
        assert_eq!(server.poll_transmit(), None);

        let mut client = ClientHandshake::new(ClientForm::Simple, random(CLIENT_SEED), 0);
        assert_eq!(client.handle_input(&mut bytes), Err(error));
    }
}

/// Both sides, with at most `piece` bytes on the way at a time. Gives what is left in front of each.
fn converse(
    client: &mut ClientHandshake,
    server: &mut ServerHandshake,
    piece: usize,
) -> (BytesMut, BytesMut) {
    let mut to_server = BytesMut::new();
    let mut to_client = BytesMut::new();
    let mut at_server = BytesMut::new();
    let mut at_client = BytesMut::new();
    loop {
        while let Some(bytes) = client.poll_transmit() {
            to_server.extend_from_slice(&bytes);
            if client.is_done() || client.is_digest().is_some() {
                to_server.extend_from_slice(b"from client");
            }
        }
        while let Some(bytes) = server.poll_transmit() {
            to_client.extend_from_slice(&bytes);
            to_client.extend_from_slice(b"from server");
        }
        if to_server.is_empty() && to_client.is_empty() {
            return (at_server, at_client);
        }
        at_server.extend_from_slice(&to_server.split_to(piece.min(to_server.len())));
        let _ = server
            .handle_input(SERVER_TIME, &mut at_server)
            .expect("a client");
        at_client.extend_from_slice(&to_client.split_to(piece.min(to_client.len())));
        let _ = client.handle_input(&mut at_client).expect("a server");
    }
}

#[test]
fn client_and_server_agree_in_any_pieces() {
    for form in [ClientForm::Simple, ClientForm::Digest] {
        for piece in [1, 2, 7, 1536, 1537, 3072, 3073, 10_000] {
            let mut client = ClientHandshake::new(form, random(CLIENT_SEED), CLIENT_TIME);
            let mut server = server();
            let (at_server, at_client) = converse(&mut client, &mut server, piece);
            assert_eq!(at_server, &b"from client"[..], "{form:?} {piece}");
            assert_eq!(at_client, &b"from server"[..], "{form:?} {piece}");
            assert!(client.is_done() && server.is_done());
            let digest = Some(form == ClientForm::Digest);
            assert_eq!((client.is_digest(), server.is_digest()), (digest, digest));
            assert_eq!(client.peer_confirmed(), Some(true));
            assert_eq!(server.peer_confirmed(), Some(true));
        }
    }
}

/// All input of the server at once, and cut in two at every offset.
#[test]
fn server_input_cut_anywhere() {
    let mut packet = unsigned();
    digest::sign(&mut packet, Layout::KeyFirst, Role::Player);
    let mut wire = hello(&packet).to_vec();
    wire.extend([7; PACKET_LENGTH]);
    wire.extend(b"rest");
    let run = |cut: usize| {
        let mut server = server();
        let mut input = BytesMut::from(&wire[..cut]);
        let first = server.handle_input(SERVER_TIME, &mut input);
        assert!(first.is_ok());
        input.extend_from_slice(&wire[cut..]);
        assert_eq!(
            server.handle_input(SERVER_TIME, &mut input),
            Ok(Progress::Done)
        );
        assert_eq!(input, &b"rest"[..]);
        server.poll_transmit()
    };
    let whole = run(0);
    assert!(whole.is_some());
    for cut in (0..wire.len())
        .step_by(97)
        .chain([1, 1536, 1537, 1538, 3072, 3073, 3074])
    {
        assert_eq!(run(cut), whole, "cut at {cut}");
    }
}

/// A server without digests gets C2 in the simple form: S1 byte for byte.
#[test]
fn digest_client_meets_a_simple_server() {
    for version in [[0; 4], [3, 5, 1, 1]] {
        let mut client = ClientHandshake::new(ClientForm::Digest, random(CLIENT_SEED), CLIENT_TIME);
        let sent = client.poll_transmit().expect("C0 and C1");
        assert_eq!(sent.len(), 1 + PACKET_LENGTH);
        let mut packet = unsigned();
        packet[4..8].copy_from_slice(&version);
        let mut input = hello(&packet);
        assert_eq!(client.handle_input(&mut input), Ok(Progress::InProgress));
        assert_eq!(client.poll_transmit().as_deref(), Some(&packet[..]));
        assert_eq!(client.is_digest(), Some(false));
        input.extend_from_slice(&sent[1..]);
        assert_eq!(client.handle_input(&mut input), Ok(Progress::Done));
        assert!(client.peer_confirmed().is_some());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// C1 and C2 made here, by the definitions, are what the server knows; its S1 and S2 are what the definitions say.
    #[test]
    fn digest_form_by_definition(
        body in prop::collection::vec(any::<u8>(), RANDOM_LENGTH),
        key_first: bool,
    ) {
        const PLAYER: &[u8] = b"Genuine Adobe Flash Player 001";
        const SERVER: &[u8] = b"Genuine Adobe Flash Media Server 001";
        const TAIL: &[u8] = b"\xf0\xee\xc2\x4a\x80\x68\xbe\xe8\x2e\x00\xd0\xd1\x02\x9e\x7e\x57\
            \x6e\xec\x5d\x2d\x29\x80\x6f\xab\x93\xb8\xe6\x36\xcf\xeb\x31\xae";
        let position = |packet: &[u8]| {
            let at = if key_first { 772 } else { 8 };
            packet[at..at + 4].iter().map(|&byte| usize::from(byte)).sum::<usize>() % 728 + at + 4
        };
        let without = |packet: &[u8], at: usize| [&packet[..at], &packet[at + 32..]].concat();

        let mut packet = unsigned();
        packet[8..].copy_from_slice(&body);
        let at = position(&packet);
        let client_digest = plain_hmac(PLAYER, &without(&packet, at));
        packet[at..at + 32].copy_from_slice(&client_digest);

        let mut server = server();
        let (first, second) = answer(&mut server, &packet);
        let at = position(&first);
        let server_digest = plain_hmac(SERVER, &without(&first, at));
        prop_assert_eq!(&first[at..at + 32], &server_digest[..]);
        let key = plain_hmac(&[SERVER, TAIL].concat(), &client_digest);
        prop_assert_eq!(&second[1504..], &plain_hmac(&key, &second[..1504])[..]);

        let key = plain_hmac(&[PLAYER, TAIL].concat(), &server_digest);
        let reply = [&body[..1504], &plain_hmac(&key, &body[..1504])[..]].concat();
        let mut input = BytesMut::from(&reply[..]);
        prop_assert_eq!(server.handle_input(0, &mut input), Ok(Progress::Done));
        prop_assert_eq!(server.peer_confirmed(), Some(true));
    }
}
