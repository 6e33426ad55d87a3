//! What one client sends to another through the server: `relay(peer id, ...)`, as with Cirrus, comes to the other as
//! `onRelay(peer id of the sender, ...)`.
//!
//! A client gets no answer, whether the other is there or not. Bounds: [`MAX_COMMAND`] bytes, and [`PER_SECOND`] commands.

use std::time::Duration;

use bytes::Bytes;
use headwater_amf::{Limits, Value};
use headwater_rtmfp::crypto::certificate::Fingerprint;
use headwater_rtmp::command::{Command, ObjectEncoding};
use headwater_rtmp::message::{Message, MessageType};

use crate::peer::MAX_COMMAND;

/// Commands of one client in a second; those beyond are dropped.
const PER_SECOND: u32 = 50;

/// A command to another client.
#[derive(Debug, PartialEq)]
pub(crate) struct Relay {
    pub(crate) to: Fingerprint,
    arguments: Vec<Value>,
}

/// Whether a message is the call of a method of the NetConnection, as far as its beginning says.
pub(super) fn is_call_of(message: &Message, method: &str) -> bool {
    let payload: &[u8] = match message.kind {
        MessageType::COMMAND_AMF0 => &message.payload,
        MessageType::COMMAND_AMF3 => message.payload.strip_prefix(b"\0").unwrap_or_default(),
        _ => return false,
    };
    let Some([2, high, low]) = payload.first_chunk() else {
        return false;
    };
    let rest = payload.get(3..).unwrap_or_default();
    usize::from(u16::from_be_bytes([*high, *low])) == method.len()
        && rest.starts_with(method.as_bytes())
}

impl Relay {
    /// Reads a call of `relay`; `None` for one that names no peer, or has more than may be.
    pub(super) fn read(message: &Message) -> Option<Self> {
        let limits = Limits {
            depth: 16,
            values: 1_024,
            bytes: MAX_COMMAND,
        };
        let amf3 = message.kind == MessageType::COMMAND_AMF3;
        let command = Command::decode(amf3, &message.payload, limits).ok()?;
        let mut arguments = command.arguments.into_iter();
        let to = peer_id(arguments.next()?.as_str()?)?;
        let arguments = arguments.collect();
        Some(Self { to, arguments })
    }

    /// The command as the other gets it.
    pub(crate) fn command(self, sender: &Fingerprint) -> Option<Bytes> {
        let sender = Value::from(sender.to_string().as_str());
        let arguments = std::iter::once(sender).chain(self.arguments).collect();
        let command = Command::notice("onRelay", arguments);
        let message = command.to_message(ObjectEncoding::Amf0, 0).ok()?;
        (message.payload.len() <= MAX_COMMAND).then_some(message.payload)
    }
}

fn peer_id(digits: &str) -> Option<Fingerprint> {
    let mut id = [0; 32];
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    for (byte, digits) in id.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(Fingerprint(id))
}

/// How much a client may send.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    since: Duration,
    used: u32,
}

impl Allowance {
    pub(super) fn take(&mut self, now: Duration) -> bool {
        if now >= self.since + Duration::from_secs(1) {
            *self = Self {
                since: now,
                used: 0,
            };
        }
        self.used += 1;
        self.used <= PER_SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: Fingerprint = Fingerprint([0xa5; 32]);

    fn call(arguments: Vec<Value>) -> Message {
        let command = Command::notice("relay", arguments);
        command.to_message(ObjectEncoding::Amf0, 0).unwrap()
    }

    #[test]
    fn the_other_gets_the_senders_id_and_the_arguments() {
        let arguments = vec![
            Value::from(PEER.to_string().to_uppercase().as_str()),
            Value::from("invite"),
            Value::Number(7.0),
        ];
        let message = call(arguments);
        assert!(is_call_of(&message, "relay"));
        assert!(!is_call_of(&message, "rela"));
        let relay = Relay::read(&message).unwrap();
        assert_eq!(relay.to, PEER);
        let sender = Fingerprint([0x0b; 32]);
        let command = relay.command(&sender).unwrap();
        let command = Command::decode(false, &command, Limits::default()).unwrap();
        let expected = vec![
            Value::from(sender.to_string().as_str()),
            Value::from("invite"),
            Value::Number(7.0),
        ];
        assert_eq!(command, Command::notice("onRelay", expected));
    }

    #[test]
    fn what_names_no_peer_or_is_too_long_goes_nowhere() {
        let id = PEER.to_string();
        let cases = [
            vec![],
            vec![Value::Null],
            vec![Value::from("a5")],
            vec![Value::from(id.replace('a', "x").as_str())],
            vec![Value::from(format!("é{}", &id[2..]).as_str())],
        ];
        for arguments in cases {
            assert_eq!(Relay::read(&call(arguments.clone())), None, "{arguments:?}");
        }
        let long = "x".repeat(MAX_COMMAND);
        let long = call(vec![Value::from(id.as_str()), Value::from(long.as_str())]);
        let sent = Relay::read(&long).and_then(|relay| relay.command(&PEER));
        assert_eq!(sent, None);
    }

    #[test]
    fn so_many_go_in_a_second() {
        let mut allowance = Allowance::default();
        let mut taken = |at| (0..100).filter(|_| allowance.take(at)).count() as u32;
        assert_eq!(taken(Duration::from_millis(5_000)), PER_SECOND);
        assert_eq!(taken(Duration::from_millis(5_999)), 0);
        assert_eq!(taken(Duration::from_millis(6_000)), PER_SECOND);
    }
}
