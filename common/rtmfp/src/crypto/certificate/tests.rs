use super::*;
use crate::random::Seeded;
use crate::vectors::hex;

/// What Flash Player and librtmfp send: one static key, and nothing else.
fn client() -> Vec<u8> {
    let mut bytes = vec![0x81, 0x02, 0x1d, 0x02];
    bytes.extend([0x55; 128]);
    bytes
}

#[test]
fn the_fingerprint_of_the_test_vector_is_right() {
    let certificate = Certificate::read(&client()).unwrap();
    let expected = "906b143b9c20def3734cc7d7ea43762b10e741bdf35b964ba2013554f9601c8e";
    assert_eq!(certificate.fingerprint().to_string(), expected);
    let key = certificate.static_key(Group::Modp1024).unwrap();
    assert_eq!(key, &PublicKey::new(Group::Modp1024, &[0x55; 128]).unwrap());
    assert!(!certificate.accepts_ancillary_data());
    // What stands behind the first marker has no part in it, and says nothing.
    let mut more = client();
    more.push(0);
    more.extend(hex("010a0215020400616263"));
    let longer = Certificate::read(&more).unwrap();
    assert_eq!(longer.fingerprint(), certificate.fingerprint());
    assert_eq!(longer.canonical_section(), client());
    assert!(!longer.accepts_ancillary_data());
    assert_eq!(longer.hostname(), None);
    assert_ne!(longer, certificate, "but it is another certificate");
}

#[test]
fn servers_certificates_of_others_are_understood() {
    let random = "41".to_owned() + "0e" + &"77".repeat(64);
    let cases = [
        // MonaServer2.
        (
            format!("010a{random}02150202150502150e"),
            vec![Group::Modp1024, Group::Modp1536, Group::Modp2048],
        ),
        // rtmfp-cpp: group 16 is not known here.
        (
            format!("010a02151002150e021502{random}"),
            vec![Group::Modp2048, Group::Modp1024],
        ),
    ];
    for (digits, groups) in cases {
        let bytes = hex(&digits);
        assert_eq!(bytes.len(), 77);
        let certificate = Certificate::read(&bytes).unwrap();
        assert!(certificate.accepts_ancillary_data());
        assert_eq!(certificate.groups(), groups);
        assert_eq!(certificate.keys(), &KeySource::Ephemeral(groups));
        assert_eq!(certificate.canonical_section(), bytes);
        assert_eq!(certificate.static_key(Group::Modp1024), None);
    }
}

#[test]
fn our_own_certificates_are_of_the_known_form() {
    let mut rng = Seeded::new(1);
    for groups in [&Group::ALL[..], &Group::ALL[2..]] {
        let identity = Identity::server(groups, None, &mut rng).unwrap();
        let certificate = identity.certificate();
        assert_eq!(certificate.as_bytes().len(), 77);
        assert_eq!(certificate.as_bytes()[..2], [0x01, 0x0a]);
        assert_eq!(certificate.groups(), groups);
        assert!(identity.is_ephemeral());
        let other = Identity::server(groups, None, &mut rng).unwrap();
        assert_ne!(other.certificate().fingerprint(), certificate.fingerprint());
    }
    let named = Identity::server(&Group::ALL, Some("edge.example"), &mut rng).unwrap();
    let hostname = named.certificate().hostname();
    assert_eq!(hostname, Some(&b"edge.example"[..]));
    assert!(Identity::server(&[], None, &mut rng).is_err());
    assert!(Identity::ephemeral(&[], &mut rng).is_err());

    let client = Identity::with_static_key(Group::Modp1024, &mut rng).unwrap();
    let bytes = client.certificate().as_bytes();
    assert_eq!(bytes[..4], [0x81, 0x02, 0x1d, 0x02]);
    assert_eq!(bytes.len(), 4 + 128);
    let secret = client.secret(Group::Modp1024).unwrap();
    assert_eq!(secret.public(), &bytes[4..]);
    assert!(client.secret(Group::Modp2048).is_none());
    assert!(!client.is_ephemeral());
    assert!(Identity::from_static_keys(Vec::new(), &[]).is_err());
}

#[test]
fn certificates_that_contradict_themselves_are_refused() {
    let key = |group: &str| format!("8102 1d {group}").replace(' ', "") + &"55".repeat(128);
    let cases = [
        ("0200410200 42".replace(' ', ""), "two hostnames"),
        (key("02") + &key("02"), "two keys in one group"),
        (key("02") + "021502", "both static and ephemeral keys"),
        (
            "021510".to_owned() + &key("10"),
            "both static and ephemeral keys",
        ),
        ("0115".to_owned(), "too few bytes"),
        ("010a80".to_owned(), "too few bytes"),
    ];
    for (digits, what) in cases {
        let error = Certificate::read(&hex(&digits)).unwrap_err();
        assert_eq!(error.what, what, "{digits}");
    }
    // A key that must not be used is as none.
    let weak = hex(&("81021d02".to_owned() + &"00".repeat(127) + "02"));
    let certificate = Certificate::read(&weak).unwrap();
    assert_eq!(certificate.keys(), &KeySource::Static(Vec::new()));
    // Twice the same group is said twice.
    let twice = Certificate::read(&hex("021502021502")).unwrap();
    assert_eq!(twice.groups(), [Group::Modp1024]);
}

#[test]
fn a_cut_certificate_is_refused_or_another_one() {
    let mut rng = Seeded::new(5);
    let identity = Identity::server(&Group::ALL, Some("a.example"), &mut rng).unwrap();
    let whole = identity.certificate();
    let mut ends = 0;
    for length in 0..whole.as_bytes().len() {
        if let Ok(cut) = Certificate::read(&whole.as_bytes()[..length]) {
            ends += 1;
            assert_ne!(cut.fingerprint(), whole.fingerprint());
        }
    }
    assert_eq!(ends, 6, "between its six options");
}
