//! Whether packets have a MAC, and a number: RFC 7425 sections 4.5.2.4, 4.5.2.5, 4.6.4 and 4.6.6.
//!
//! Each end says what it does by itself, what it would do if asked, and whether it asks. What holds is settled for each direction, and
//! for MACs and numbers apart.

/// What an end says of one of the two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// It will send it (SND).
    pub always: bool,
    /// It will send it if the far end asks (SOR).
    pub on_request: bool,
    /// It asks (REQ).
    pub request: bool,
}

impl Flags {
    const ALWAYS: u8 = 0x04;
    const ON_REQUEST: u8 = 0x02;
    const REQUEST: u8 = 0x01;

    /// The flags in a byte; other bits mean nothing.
    #[must_use]
    pub fn from_byte(byte: u8) -> Self {
        Self {
            always: byte & Self::ALWAYS != 0,
            on_request: byte & Self::ON_REQUEST != 0,
            request: byte & Self::REQUEST != 0,
        }
    }

    /// The byte.
    #[must_use]
    pub fn to_byte(self) -> u8 {
        let flag = |set, flag| if set { flag } else { 0 };
        flag(self.always, Self::ALWAYS)
            | flag(self.on_request, Self::ON_REQUEST)
            | flag(self.request, Self::REQUEST)
    }

    /// Whether its sender can do it at all.
    #[must_use]
    pub fn can_send(self) -> bool {
        self.always || self.on_request
    }
}

/// What an end says of MACs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MacFlags {
    /// Whether.
    pub flags: Flags,
    /// Bytes of its MACs: 4 to 32, or anything where it sends none.
    pub length: u64,
}

/// How far packets of a session are to be protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protection {
    /// Never. A peer that asks for it is refused.
    Never,
    /// With peers that show that they want it, so that librtmfp, which can offer but cannot do it, is served as well: an initiator
    /// offers, a responder asks where the initiator asks, or sends unasked.
    #[default]
    Compatible,
    /// With peers that can: an initiator sends it unasked, a responder asks where the initiator offers.
    Prefer,
    /// Always. A peer that does not is refused.
    Require,
}

impl Protection {
    /// What an initiator says, who does not know the far end.
    #[must_use]
    pub fn as_initiator(self) -> Flags {
        Flags {
            always: matches!(self, Self::Prefer | Self::Require),
            on_request: self != Self::Never,
            request: self == Self::Require,
        }
    }

    /// What a responder says to an initiator who said `far`.
    #[must_use]
    pub fn as_responder(self, far: Flags) -> Flags {
        let wanted = match self {
            Self::Never => false,
            Self::Compatible => far.always || far.request,
            Self::Prefer => far.can_send() || far.request,
            Self::Require => true,
        };
        Flags {
            always: wanted,
            on_request: wanted,
            request: self == Self::Require || wanted && far.can_send(),
        }
    }
}

/// What holds for both directions of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Bytes of MAC of packets that are sent, if any.
    pub mac_out: Option<usize>,
    /// Bytes of MAC of packets that are received, if any.
    pub mac_in: Option<usize>,
    /// Whether packets that are sent have a number.
    pub sequence_out: bool,
    /// Whether packets that are received have a number.
    pub sequence_in: bool,
}

/// Why two ends cannot agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Disagreement {
    /// One end asks for MACs that the other never sends.
    #[error("a mac is asked for and not offered")]
    NoMac,
    /// One end asks for packet numbers that the other never sends.
    #[error("packet numbers are asked for and not offered")]
    NoSequence,
    /// MACs that are too short or too long.
    #[error("a mac of {length} bytes")]
    MacLength {
        /// Bytes.
        length: u64,
    },
}

/// Whether `sender` sends it to `receiver`. None if it is asked to and cannot.
fn settle(sender: Flags, receiver: Flags) -> Option<bool> {
    if receiver.request && !sender.can_send() {
        return None;
    }
    Some(sender.always || sender.on_request && receiver.request)
}

fn settle_mac(sender: MacFlags, receiver: MacFlags) -> Result<Option<usize>, Disagreement> {
    match settle(sender.flags, receiver.flags) {
        None => Err(Disagreement::NoMac),
        Some(false) => Ok(None),
        Some(true) => {
            let length = sender.length;
            let usable = usize::try_from(length).ok();
            let usable = usable
                .filter(|length| (super::mac::SHORTEST..=super::mac::LENGTH).contains(length));
            usable.map_or(Err(Disagreement::MacLength { length }), |length| {
                Ok(Some(length))
            })
        }
    }
}

/// Settles what holds between the near end and the far end.
///
/// # Errors
/// [`Disagreement`], at which the keying is refused.
pub fn agree(
    near_mac: MacFlags,
    far_mac: MacFlags,
    near_sequence: Flags,
    far_sequence: Flags,
) -> Result<Agreement, Disagreement> {
    let sequence = |sender, receiver| settle(sender, receiver).ok_or(Disagreement::NoSequence);
    Ok(Agreement {
        mac_out: settle_mac(near_mac, far_mac)?,
        mac_in: settle_mac(far_mac, near_mac)?,
        sequence_out: sequence(near_sequence, far_sequence)?,
        sequence_in: sequence(far_sequence, near_sequence)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_bits_of_a_byte() {
        for byte in 0..=7 {
            assert_eq!(Flags::from_byte(byte).to_byte(), byte);
            assert_eq!(Flags::from_byte(byte | 0xf8).to_byte(), byte);
        }
        let offer = Flags::from_byte(2);
        assert!(offer.on_request && !offer.always && !offer.request);
    }

    #[test]
    fn what_holds_is_settled_for_each_pair_of_flags() {
        // Rows: the sender's flags; columns: the receiver's, of which only the request matters.
        let expected = [
            (0, Some(false), None),
            (1, Some(false), None),
            (2, Some(false), Some(true)),
            (3, Some(false), Some(true)),
            (4, Some(true), Some(true)),
            (5, Some(true), Some(true)),
            (6, Some(true), Some(true)),
            (7, Some(true), Some(true)),
        ];
        for (sender, unasked, asked) in expected {
            for receiver in 0..=7 {
                let settled = settle(Flags::from_byte(sender), Flags::from_byte(receiver));
                let expected = if receiver & 1 == 0 { unasked } else { asked };
                assert_eq!(settled, expected, "{sender} to {receiver}");
            }
        }
    }

    #[test]
    fn the_length_of_a_mac_is_its_senders_and_bounded() {
        let say = |flags, length| MacFlags {
            flags: Flags::from_byte(flags),
            length,
        };
        let none = Flags::default();
        let settled = agree(say(4, 10), say(4, 32), none, none).unwrap();
        assert_eq!((settled.mac_out, settled.mac_in), (Some(10), Some(32)));
        for length in [0, 3, 33, u64::MAX] {
            let error = agree(say(1, 0), say(2, length), none, none);
            assert_eq!(error, Err(Disagreement::MacLength { length }));
            // Whoever sends none may say what they like.
            assert!(agree(say(0, 0), say(2, length), none, none).is_ok());
        }
        assert_eq!(
            agree(say(0, 0), say(1, 0), none, none),
            Err(Disagreement::NoMac)
        );
        let error = agree(say(0, 0), say(0, 0), Flags::from_byte(1), none);
        assert_eq!(error, Err(Disagreement::NoSequence));
        let settled = agree(
            say(0, 0),
            say(0, 0),
            Flags::from_byte(1),
            Flags::from_byte(2),
        );
        assert!(settled.is_ok_and(|settled| settled.sequence_in && !settled.sequence_out));
    }

    #[test]
    fn what_ends_with_a_wish_say_gives_what_they_wish() {
        use Protection::{Compatible, Never, Prefer, Require};
        // Initiator, responder: to the responder, to the initiator. None: refused.
        let table = [
            (Never, Never, Some((false, false))),
            (Never, Compatible, Some((false, false))),
            (Never, Prefer, Some((false, false))),
            (Never, Require, None),
            (Compatible, Never, Some((false, false))),
            (Compatible, Compatible, Some((false, false))),
            (Compatible, Prefer, Some((true, true))),
            (Compatible, Require, Some((true, true))),
            (Prefer, Never, Some((true, false))),
            (Prefer, Compatible, Some((true, true))),
            (Prefer, Prefer, Some((true, true))),
            (Prefer, Require, Some((true, true))),
            (Require, Never, None),
            (Require, Compatible, Some((true, true))),
            (Require, Prefer, Some((true, true))),
            (Require, Require, Some((true, true))),
        ];
        for (initiator, responder, expected) in table {
            let near = initiator.as_initiator();
            let far = responder.as_responder(near);
            let settled = settle(near, far).zip(settle(far, near));
            assert_eq!(settled, expected, "{initiator:?} to {responder:?}");
        }
        // librtmfp offers, and wants to see nothing in return.
        let answer = Compatible.as_responder(Flags::from_byte(2));
        assert_eq!(answer.to_byte(), 0);
    }
}
