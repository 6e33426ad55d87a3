use super::*;
use crate::random::Seeded;

/// A key whose exponent is a small number.
fn small(group: Group, exponent: u8) -> SecretKey {
    let mut bytes = Zeroizing::new([0; EXPONENT]);
    bytes[EXPONENT - 1] = exponent;
    SecretKey::from_exponent(group, bytes)
}

#[test]
fn both_ends_agree_in_every_group() {
    for group in Group::ALL {
        let mut rng = Seeded::new(group.id());
        let near = SecretKey::generate(group, &mut rng);
        let far = SecretKey::generate(group, &mut rng);
        assert_ne!(near.public(), far.public());
        assert_eq!(near.public().len(), group.key_length());
        let near_public = PublicKey::new(group, near.public()).unwrap();
        let far_public = PublicKey::new(group, far.public()).unwrap();
        let secret = near.agree(&far_public).unwrap();
        assert_eq!(Some(&secret), far.agree(&near_public).as_ref());
        assert!(secret.as_bytes().len() > group.key_length() - 4);
        assert_eq!(Group::from_id(group.id()), Some(group));
    }
    assert_eq!(Group::from_id(16), None);
}

#[test]
fn powers_are_those_of_two() {
    for group in Group::ALL {
        let key = small(group, 200);
        let mut expected = vec![0; group.key_length()];
        expected[group.key_length() - 26] = 1;
        assert_eq!(key.public(), expected);
    }
}

#[test]
fn the_primes_are_such_that_two_has_order_of_half() {
    // 2 to the power of (p - 1) / 2 is 1 in each of the groups: a wrong digit would not leave it so.
    fn holds<M: ConstMontyParams<LIMBS>, const LIMBS: usize>() -> bool {
        let prime: Uint<LIMBS> = *M::PARAMS.modulus().as_ref();
        let base = ConstMontyForm::<M, LIMBS>::new(&Uint::from(2_u8));
        base.pow(&prime.wrapping_shr(1)).retrieve() == Uint::ONE
    }
    assert!(holds::<prime::Modp1024, _>());
    assert!(holds::<prime::Modp1536, _>());
    assert!(holds::<prime::Modp2048, _>());
}

#[test]
fn a_secret_loses_its_leading_zeros() {
    // Under an exponent of 1 the secret is the far key: one that begins with zeros.
    for group in Group::ALL {
        let mut key = vec![0xa5; group.key_length()];
        key[..3].fill(0);
        let public = PublicKey::new(group, &key).unwrap();
        let secret = small(group, 1).agree(&public).unwrap();
        assert_eq!(secret.as_bytes(), &key[3..]);
        // However many zeros the sender wrote, the integer is the same.
        let short = PublicKey::new(group, &key[3..]).unwrap();
        let long = PublicKey::new(group, &[&[0; 9], &key[..]].concat()).unwrap();
        assert_eq!((&short, &long), (&public, &public));
    }
    assert_eq!(SharedSecret::new(&[0, 0]).as_bytes(), []);
}

#[test]
fn keys_of_other_groups_have_no_secret() {
    let mut rng = Seeded::new(1);
    let near = SecretKey::generate(Group::Modp1024, &mut rng);
    let far = SecretKey::generate(Group::Modp1536, &mut rng);
    let far = PublicKey::new(Group::Modp1536, far.public()).unwrap();
    assert_eq!(near.agree(&far), None);
}

/// The prime of a group, minus something.
fn prime_minus(group: Group, less: u32) -> Vec<u8> {
    fn bytes<M: ConstMontyParams<LIMBS>, const LIMBS: usize>(less: u32) -> Vec<u8> {
        let prime: &Uint<LIMBS> = M::PARAMS.modulus().as_ref();
        let value = prime.wrapping_sub(&Uint::from(less));
        value.to_be_bytes().as_ref().to_vec()
    }
    match group {
        Group::Modp1024 => bytes::<prime::Modp1024, _>(less),
        Group::Modp1536 => bytes::<prime::Modp1536, _>(less),
        Group::Modp2048 => bytes::<prime::Modp2048, _>(less),
    }
}

#[test]
fn keys_that_give_the_secret_away_are_refused() {
    for group in Group::ALL {
        let check = |bytes: &[u8]| PublicKey::new(group, bytes).map(|_| ());
        for low in [&[][..], &[0], &[1], &[2], &[0xff, 0xff, 0xff]] {
            assert_eq!(check(low), Err(BadKey::Edge), "{low:?}");
        }
        assert_eq!(check(&[1, 0, 0, 0]), Err(BadKey::Pattern), "not too low");
        for less in [0, 1, 2, MARGIN - 1] {
            let key = prime_minus(group, less);
            assert_eq!(check(&key), Err(BadKey::Edge), "the prime minus {less}");
        }
        assert_eq!(check(&prime_minus(group, MARGIN)), Ok(()));
        let length = group.key_length();
        let above = vec![0xff; length];
        assert_eq!(check(&above), Err(BadKey::Edge));
        let longer = vec![1; length + 1];
        let length_error = |length| Err(BadKey::Length { length });
        assert_eq!(check(&longer), length_error(length + 1));
        assert_eq!(check(&vec![0; LONGEST_KEY + 1]), length_error(513));

        // Fifteen ones are too few, sixteen are not; the same of zeros. Leading zeros do not count.
        let mut key = vec![0; length];
        key[4] = 0xff;
        key[5] = 0xfe;
        assert_eq!(check(&key), Err(BadKey::Pattern));
        key[5] = 0xff;
        assert_eq!(check(&key), Ok(()));
        let mut key = vec![0xff; length];
        key[0] = 0;
        key[4] = 0x00;
        key[5] = 0x01;
        assert_eq!(check(&key), Err(BadKey::Pattern));
        key[5] = 0x00;
        assert_eq!(check(&key), Ok(()));
    }
}

#[test]
fn public_keys_begin_with_a_byte_that_is_not_zero() {
    // The first exponent has a public key that begins with zeros: another one is taken.
    struct Late(Seeded, bool);
    impl rand_core::TryRng for Late {
        type Error = std::convert::Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            self.0.try_next_u32()
        }
        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            self.0.try_next_u64()
        }
        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
            if self.1 {
                return self.0.try_fill_bytes(bytes);
            }
            self.1 = true;
            let mut rng = Seeded::new(77);
            loop {
                rng.try_fill_bytes(bytes)?;
                let mut exponent = Zeroizing::new([0; EXPONENT]);
                exponent.copy_from_slice(bytes);
                exponent[0] |= 0x80;
                let key = SecretKey::from_exponent(Group::Modp1024, exponent);
                if key.public()[0] == 0 {
                    return Ok(());
                }
            }
        }
    }
    impl rand_core::TryCryptoRng for Late {}
    let key = SecretKey::generate(Group::Modp1024, &mut Late(Seeded::new(1), false));
    assert_ne!(key.public()[0], 0);
}
