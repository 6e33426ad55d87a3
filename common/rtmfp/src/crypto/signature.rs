//! Signatures of keying chunks: RFC 7425 section 4.3.5.
//!
//! The profile has no signatures but passwords: an end that knows one proves it over what it sends. Who has nothing to prove says so.

use subtle::ConstantTimeEq;

use super::mac;
use crate::wire::field::put_option;
use crate::wire::{Field, Fields};

const SIMPLE_PASSWORD: u64 = 0x1d;

/// What says that there is no signature; librtmfp looks for this byte.
pub const NOTHING: &[u8] = b"X";

/// A password and its name.
#[derive(Clone, PartialEq, Eq)]
pub struct Password {
    /// By what the far end finds it.
    pub id: Vec<u8>,
    /// What both ends know.
    pub secret: Vec<u8>,
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Password")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// What a signature says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Nothing, or nothing that is known here.
    Nothing,
    /// That its sender knows this password.
    Knows(&'a Password),
    /// That its sender knows a password, which is wrong.
    Wrong,
}

/// Signs with a password.
#[must_use]
pub fn sign(password: &Password, signed: &[u8]) -> Vec<u8> {
    let mut value = mac::hmac(&password.secret, signed).to_vec();
    value.extend_from_slice(&password.id);
    let mut out = Vec::new();
    put_option(SIMPLE_PASSWORD, &value, &mut out);
    out
}

/// Looks at a signature. Ids that are unknown say nothing; one wrong proof of a known one spoils the whole signature.
#[must_use]
pub fn verify<'a>(signature: &[u8], signed: &[&[u8]], known: &'a [Password]) -> Verdict<'a> {
    let mut verdict = Verdict::Nothing;
    if known.is_empty() {
        // Nothing to hash for anybody.
        return verdict;
    }
    let mut fields = Fields::new(signature);
    let mut left = known.len();
    while let Ok(field) = fields.option() {
        let Field::Option { kind, value } = field else {
            continue;
        };
        let Some((proof, id)) = value.split_at_checked(mac::LENGTH) else {
            continue;
        };
        let password = known.iter().find(|password| password.id == id);
        let Some(password) = password.filter(|_| kind == SIMPLE_PASSWORD) else {
            continue;
        };
        // One proof of each password at most has to be looked at.
        if left == 0 {
            return Verdict::Wrong;
        }
        left -= 1;
        let expected = mac::Mac::new(&password.secret).over(signed);
        if !bool::from(expected.ct_eq(proof)) {
            return Verdict::Wrong;
        }
        verdict = Verdict::Knows(password);
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(id: &str, secret: &str) -> Password {
        Password {
            id: id.into(),
            secret: secret.into(),
        }
    }

    #[test]
    fn a_password_is_proved_over_what_is_signed() {
        let known = [password("web", "secret"), password("lb", "other")];
        let signature = sign(&known[0], b"signed");
        assert_eq!(signature[..2], [36, 0x1d]);
        let verify_all = |signature: &[u8], parts: &[&[u8]]| {
            verify(signature, parts, &known) == Verdict::Knows(&known[0])
        };
        assert!(verify_all(&signature, &[b"signed"]));
        assert!(verify_all(&signature, &[b"sig", b"ned"]));
        let unknown = sign(&password("who", "secret"), b"signed");
        assert!(verify_all(
            &[&unknown[..], &signature].concat(),
            &[b"signed"]
        ));
        assert_eq!(verify(&signature, &[b"else"], &known), Verdict::Wrong);
        assert_eq!(verify(&unknown, &[b"signed"], &known), Verdict::Nothing);
        let wrong = sign(&password("lb", "secret"), b"signed");
        let both = [&signature[..], &wrong].concat();
        assert_eq!(verify(&both, &[b"signed"], &known), Verdict::Wrong);
        let many = signature.repeat(3);
        assert_eq!(verify(&many, &[b"signed"], &known), Verdict::Wrong);
    }

    #[test]
    fn what_is_no_signature_says_nothing() {
        let known = [password("web", "secret")];
        let signature = sign(&known[0], b"signed");
        for nothing in [&[][..], NOTHING, &[0], &[1, 0x1d], &[2, 0x33, 1]] {
            assert_eq!(verify(nothing, &[b""], &known), Verdict::Nothing);
        }
        for length in 0..signature.len() {
            let cut = verify(&signature[..length], &[b"signed"], &known);
            assert_eq!(cut, Verdict::Nothing);
        }
        assert_eq!(verify(&signature, &[b"else"], &[]), Verdict::Nothing);
    }
}
