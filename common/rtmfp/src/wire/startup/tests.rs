use super::super::chunk::{Chunks, append};
use super::*;

/// The one chunk that is written, without its header.
fn written(payload: &impl Payload) -> Vec<u8> {
    let mut out = Vec::new();
    append(payload, &mut out).unwrap();
    Chunks::new(&out).next().unwrap().payload.to_vec()
}

/// The lengths at which a truncated chunk cannot be read.
fn refused(bytes: &[u8], read: impl Fn(&[u8]) -> bool) -> Vec<usize> {
    (0..=bytes.len())
        .filter(|length| !read(&bytes[..*length]))
        .collect()
}

#[test]
fn an_initiator_hello_is_a_discriminator_and_a_tag() {
    // As in the first test vector: a URI, and sixteen bytes of tag.
    let hello = InitiatorHello {
        discriminator: b"\x17\x0artmfp://127.0.0.1/live",
        tag: &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    };
    let bytes = written(&hello);
    assert_eq!((bytes[0], bytes.len()), (0x18, 41));
    assert_eq!(InitiatorHello::read(&bytes), Ok(hello));
    let short = refused(&bytes, |data| InitiatorHello::read(data).is_ok());
    assert_eq!(short, (0..25).collect::<Vec<_>>());
}

#[test]
fn a_forwarded_hello_has_the_address_in_its_middle() {
    let hello = ForwardedHello {
        discriminator: &[7; 34],
        reply_to: Address::observed("10.0.0.1:1935".parse().unwrap()),
        tag: b"tag",
    };
    let bytes = written(&hello);
    assert_eq!(bytes.len(), 35 + 7 + 3);
    assert_eq!(ForwardedHello::read(&bytes), Ok(hello));
    let short = refused(&bytes, |data| ForwardedHello::read(data).is_ok());
    assert_eq!(short, (0..42).collect::<Vec<_>>());
}

#[test]
fn a_responder_hello_has_tag_cookie_and_certificate() {
    let hello = ResponderHello {
        tag: &[1; 16],
        cookie: &[2; 64],
        certificate: &[3; 77],
    };
    let bytes = written(&hello);
    assert_eq!(bytes.len(), 17 + 65 + 77);
    assert_eq!(ResponderHello::read(&bytes), Ok(hello));
    let short = refused(&bytes, |data| ResponderHello::read(data).is_ok());
    assert_eq!(short, (0..82).collect::<Vec<_>>());
}

#[test]
fn a_redirect_ends_at_an_address_that_is_cut() {
    let addresses = [
        Address::observed("10.0.0.1:1935".parse().unwrap()),
        Address::observed("[2001:db8::1]:1935".parse().unwrap()),
    ];
    let bytes = written(&RedirectTo {
        tag: b"tag",
        addresses: &addresses,
    });
    assert_eq!(bytes.len(), 4 + 7 + 19);
    let read = |length: usize| {
        let redirect = Redirect::read(&bytes[..length]).unwrap();
        assert_eq!(redirect.tag, b"tag");
        redirect.addresses().collect::<Vec<_>>()
    };
    assert_eq!(read(bytes.len()), addresses);
    for length in 4..11 {
        assert_eq!(read(length), []);
    }
    for length in 11..bytes.len() {
        assert_eq!(read(length), addresses[..1]);
    }
    let short = refused(&bytes, |data| Redirect::read(data).is_ok());
    assert_eq!(short, [0, 1, 2, 3]);
}

#[test]
fn a_cookie_change_has_the_old_one_and_the_new_one() {
    let change = CookieChange {
        old: &[1; 64],
        new: &[2; 64],
    };
    let bytes = written(&change);
    assert_eq!(CookieChange::read(&bytes), Ok(change));
    let short = refused(&bytes, |data| CookieChange::read(data).is_ok());
    assert_eq!(short, (0..65).collect::<Vec<_>>());
}

#[test]
fn keying_chunks_tell_what_their_signature_is_over() {
    let keying = InitiatorKeying {
        session_id: 0x1122_3344,
        cookie: &[1; 64],
        certificate: &[2; 132],
        component: &[3; 70],
        signature: b"X",
    };
    let bytes = written(&keying);
    let (read, signed) = InitiatorKeying::read(&bytes).unwrap();
    assert_eq!(read, keying);
    assert_eq!(signed, &bytes[..bytes.len() - 1]);
    let mut same = Vec::new();
    keying.put_signed(&mut same);
    assert_eq!(signed, same);
    let short = refused(&bytes, |data| InitiatorKeying::read(data).is_ok());
    assert_eq!(short, (0..bytes.len() - 1).collect::<Vec<_>>());

    let keying = ResponderKeying {
        session_id: 5,
        component: &[3; 142],
        signature: b"X",
    };
    let bytes = written(&keying);
    let (read, signed) = ResponderKeying::read(&bytes).unwrap();
    assert_eq!(read, keying);
    assert_eq!(signed, &bytes[..bytes.len() - 1]);
    let short = refused(&bytes, |data| ResponderKeying::read(data).is_ok());
    assert_eq!(short, (0..bytes.len() - 1).collect::<Vec<_>>());
}
