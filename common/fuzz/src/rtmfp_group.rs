//! RTMFP groups: specifications, what members say to each other, and what servers and clients say of groups.

use headwater_rtmfp::group::message::{Fragment, Said, connect, end, map, pull, push};
use headwater_rtmfp::group::{self, Specification};

/// The first message of a flow, or a specification as text.
pub fn rtmfp_group(data: &[u8]) {
    if let Ok(group) = group::read_join(data) {
        assert_eq!(group::read_join(&group::join(&group)), Ok(group));
    }
    if let Ok(peer) = group::read_neighbour(data) {
        assert_eq!(group::read_neighbour(&group::neighbour(&peer)), Ok(peer));
    }
    let text = String::from_utf8_lossy(data);
    if let Ok(specification) = Specification::parse(&text) {
        // What follows the end is of no account, and nothing else may.
        let longer = Specification::parse(&format!("{text}00"));
        assert!(longer.is_err() || longer.as_ref() == Ok(&specification));
        let nonce = [7; 32];
        let proof = specification.proof(&nonce);
        assert!(specification.verifies(&nonce, &proof));
    }
    let Ok(said) = Said::read(data) else {
        return;
    };
    let again = match &said {
        Said::Connect { group, proof, to } => connect(group, proof, to),
        Said::End { last } => end(*last),
        Said::Push(mask) => push(*mask),
        Said::Pull(number) => pull(*number),
        Said::Fragment(fragment) => Fragment::to_message(fragment),
        Said::Map { newest, bits } => {
            // Of one that has no hole.
            let count = bits.len() as u64 * 8;
            let oldest = newest.saturating_sub(count);
            let whole = map(oldest, *newest);
            assert!(whole.len() <= bits.len() + 11);
            return;
        }
        Said::Nothing | Said::Begin | Said::Leave | Said::Report | Said::Stream { .. } => return,
    };
    assert_eq!(Said::read(&again), Ok(said));
}
